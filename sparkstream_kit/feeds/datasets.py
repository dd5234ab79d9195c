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
        says: what it is, for the help of its command.
        file: names its files, such as `cards.csv` for `cards-0-0001.csv`, with the seed and their number.
        rows: the generator, called as `rows(count, seed=seed)`.
        truth: what a job should find, from the rows that count.
        line: writes a row as a line.
        time: the field of the time, for `disturb`.
        shares: which ways to disturb make sense for it.
        delay: the watermark's delay that its job has by default.
        keeps_late: its job counts late rows, too, so that the truth does.
    """

    says: str
    file: str
    rows: Callable[..., Iterable[Any]]
    truth: Callable[[list[Any]], object]
    line: Callable[[Any], str] = json_line
    time: str = "time"
    shares: Sequence[str] = _SHARES
    delay: str = "10 minutes"
    keeps_late: bool = False


# By the name of the command.
DATASETS = {
    "events": Dataset(
        "Land CSV files of a shop's events.",
        "events.csv",
        make.events_rows,
        make.events_truth,
        csv_line,
        keeps_late=True,
    ),
    "posts": Dataset(
        """Land generated posts, or with a URL the posts of that stream.

        Generated ones are JSON lines in the shapes of two networks. With a URL there are other flags:
        sparkstream feed posts URL --help.
        """,
        "posts.json",
        make.posts_rows,
        make.posts_truth,
        make.posts_line,
        time="created_at",
    ),
    "ads": Dataset(
        """Land JSON lines of views of ads and clicks. For jobs/ad_join.py.

        Three views in ten are clicked, and four in five of these clicks come within 10 minutes, which the
        truth counts: a list of ad, time of the view, and time of the click or null.
        """,
        "ads.json",
        make.ads_rows,
        partial(make.ads_truth, within=timedelta(minutes=10)),
        time="event_time",
        shares=_NO_DUPLICATES,
    ),
    "cards": Dataset(
        """Land CSV lines of card payments. For jobs/card_alerts.py.

        The truth is each fraud among them: card, time, what. The job finds the last ones with --drain.
        """,
        "cards.csv",
        make.cards_rows,
        make.cards_truth,
        csv_line,
        shares=_NO_DUPLICATES,
    ),
    "messages": Dataset(
        """Land JSON lines of texts labelled ham or spam. For jobs/score_posts.py.

        The truth is the likelier label of each text by the odds that made it, which no model can better.
        """,
        "messages.json",
        make.messages_rows,
        make.messages_truth,
        shares=("bad",),
    ),
    "sensors": Dataset(
        """Land JSON lines of temperatures. For jobs/sensor_alerts.py.

        The truth is each spike and each silence: device, time, what. It ends two minutes before the last
        reading, where the job's watermark stands.
        """,
        "sensors.json",
        make.sensors_rows,
        partial(make.sensors_truth, delay=timedelta(minutes=2)),
        shares=_NO_DUPLICATES,
        delay="2 minutes",
    ),
    "actions": Dataset(
        "Land JSON lines of actions with their times. The truth is their count by hour and action.",
        "actions.json",
        make.actions_rows,
        make.actions_truth,
        shares=_NO_DUPLICATES,
    ),
    "logs": Dataset(
        "Land lines of a web server's log. The truth: errors by path and minute, and sessions.",
        "access.log",
        make.log_rows,
        lambda rows: {"errors": make.log_errors(rows), "sessions": make.log_sessions(rows)},
        make.log_line,
        shares=("bad", "ahead"),
    ),
}
