"""The kinds of generated rows: how each is written to files, and what a job should find in them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit.feeds import generators as make
from sparkstream_kit.feeds.files import csv_line, json_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_SHARES = ("late", "duplicates", "bad", "ahead")
_NO_DUPLICATES = ("late", "bad", "ahead")


class Dataset(NamedTuple):
    """One kind of generated rows: `sparkstream feed` lands it, and `sparkstream new` copies some of it.

    Attributes:
        file: names its files, such as `cards.csv` for `cards-0-0001.csv`, with the seed and their number.
        rows: the generator, called as `rows(count, seed=seed)`.
        truth: what a job should find, from the rows that count.
        line: writes a row as a line.
        time: the field of the time, for `disturb`.
        shares: which ways to disturb make sense for it.
        delay: the watermark's delay that its job has by default.
        keeps_late: its job counts late rows, too, so that the truth does.
    """

    file: str
    rows: Callable[..., Iterable[Any]]
    truth: Callable[[list[Any]], object]
    line: Callable[[Any], str] = json_line
    time: str = "time"
    shares: Sequence[str] = _SHARES
    delay: str = "10 minutes"
    keeps_late: bool = False


def _log_truth(rows: list[Any]) -> dict[str, list[Any]]:
    return {"errors": make.log_errors(rows), "sessions": make.log_sessions(rows)}


# By the name of the command.
DATASETS = {
    "events": Dataset("events.csv", make.events_rows, make.events_truth, csv_line, keeps_late=True),
    "posts": Dataset("posts.json", make.posts_rows, make.posts_truth, make.posts_line, time="created_at"),
    "ads": Dataset(
        "ads.json",
        make.ads_rows,
        partial(make.ads_truth, within=timedelta(minutes=10)),
        time="event_time",
        shares=_NO_DUPLICATES,
    ),
    "cards": Dataset("cards.csv", make.cards_rows, make.cards_truth, csv_line, shares=_NO_DUPLICATES),
    "messages": Dataset("messages.json", make.messages_rows, make.messages_truth, shares=("bad",)),
    "sensors": Dataset(
        "sensors.json",
        make.sensors_rows,
        partial(make.sensors_truth, delay=timedelta(minutes=2)),
        shares=_NO_DUPLICATES,
        delay="2 minutes",
    ),
    "actions": Dataset("actions.json", make.actions_rows, make.actions_truth, shares=_NO_DUPLICATES),
    "logs": Dataset("access.log", make.log_rows, _log_truth, make.log_line, shares=("bad", "ahead")),
}
