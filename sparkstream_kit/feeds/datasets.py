"""The kinds of generated rows: how each is written to files, and what a job should find in them.

`DATASETS` maps a name to a `Dataset`. `sparkstream feed NAME` and `sparkstream new`
read their settings from it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit.feeds.files import csv_line, json_line
from sparkstream_kit.feeds.generators import incidents, shop, texts, users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_NO_DUPLICATES = ("late", "bad", "ahead")


class Dataset(NamedTuple):
    """A kind of generated rows, for `sparkstream feed` and samples of `sparkstream new`.

    Attributes:
        file: the pattern of file names: `cards.csv` stands for `cards-0-0001.csv`, with
            the seed and the number of the file.
        rows: the generator, called as `rows(count, seed=seed)`.
        truth: computes what a job should find from the rows that count.
        line: writes a row as one line of text.
        time: the name of the event-time field, for `disturb`.
        shares: the arguments of `disturb` that make sense for this kind.
        delay: the default watermark delay of the job for this kind.
        keeps_late: whether the job also counts late rows, so that the truth must
            include them.
    """

    file: str
    rows: Callable[..., Iterable[Any]]
    truth: Callable[[list[Any]], object]
    line: Callable[[Any], str] = json_line
    time: str = "time"
    shares: Sequence[str] = ("late", "duplicates", "bad", "ahead")
    delay: str = "10 minutes"
    keeps_late: bool = False


def _log_truth(rows: list[Any]) -> dict[str, list[Any]]:
    """Return the true results of both reports of the job on access logs."""
    return {"errors": users.log_errors(rows), "sessions": users.log_sessions(rows)}


_ads_truth = partial(users.ads_truth, within=timedelta(minutes=10))
_sensors_truth = partial(incidents.sensors_truth, delay=timedelta(minutes=2))

# By the name of the command below `sparkstream feed`.
DATASETS = {
    "events": Dataset(
        "events.csv", shop.events_rows, shop.events_truth, csv_line, keeps_late=True
    ),
    "posts": Dataset(
        "posts.json",
        texts.posts_rows,
        texts.posts_truth,
        texts.posts_line,
        time="created_at",
    ),
    "ads": Dataset(
        "ads.json", users.ads_rows, _ads_truth, time="event_time", shares=_NO_DUPLICATES
    ),
    "cards": Dataset(
        "cards.csv",
        incidents.cards_rows,
        incidents.cards_truth,
        csv_line,
        shares=_NO_DUPLICATES,
    ),
    "messages": Dataset(
        "messages.json", texts.messages_rows, texts.messages_truth, shares=("bad",)
    ),
    "sensors": Dataset(
        "sensors.json",
        incidents.sensors_rows,
        _sensors_truth,
        shares=_NO_DUPLICATES,
        delay="2 minutes",
    ),
    "actions": Dataset(
        "actions.json", users.actions_rows, users.actions_truth, shares=_NO_DUPLICATES
    ),
    "logs": Dataset(
        "access.log",
        users.log_rows,
        _log_truth,
        users.log_line,
        shares=("bad", "ahead"),
    ),
}
