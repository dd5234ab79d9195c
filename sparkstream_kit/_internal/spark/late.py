"""Find out how many rows a batch has dropped as late, at least and at most.

An operator that handles rows one by one, such as a deduplication, counts the rows that
it drops. An aggregation counts groups instead, and a group may contain any number of
rows. How many rows they can be follows from the times of the batch, of which Spark
tells the earliest, the latest and the mean: where a whole batch is late, as after files
in the wrong order, the number is exact; where single rows are late, it lies between two
bounds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sparkstream_kit._internal.spark.queries import times_computed

if TYPE_CHECKING:
    from pyspark.sql.streaming.listener import StreamingQueryProgress

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Spark cuts the times of a batch to whole milliseconds
_MILLISECOND = timedelta(milliseconds=1)
# A watermark of a later year is read as the end of the year 9999; nothing is after that.
_LATEST = datetime.max.replace(tzinfo=UTC) - _MILLISECOND

# Steps of Spark's analyzed plan. `Expand` is that of sliding windows, of `cube` and of
# `rollup`.
_EXPANDS = re.compile(r"^\W*Expand ", re.MULTILINE)
_MULTIPLIES = re.compile(r"^\W*(Generate|Join|\w*Map\w+|Lateral\w*) ", re.MULTILINE)
_AGGREGATES = re.compile(r"^\W*~Aggregate \[([^\[\]]*)\]", re.MULTILINE)
_KEEPS_ROWS = re.compile(
    r"^\W*~(FlatMapGroups|TransformWithState|Deduplicate)", re.MULTILINE
)
_WATERMARK = re.compile(r"^\W*~EventTimeWatermark ", re.MULTILINE)
# Steps that hand on each row with a time. The filter is the one of `window()`.
_HANDS_ON = re.compile(
    r"^\W*(Aggregate|Project|SubqueryAlias|EventTimeWatermark|CollectMetrics|Streaming\w+) |"
    r"^\W*Filter isnotnull\([\w`.#-]+\)$"
)
# A window() becomes arithmetic with its start, slide and length in microseconds, the
# groups of this pattern; `checkpoints.fingerprint` knows the same text.
_WINDOW = re.compile(
    r"TimestampType, LongType\) - (-?\d+)\) % (\d+)\)"
    r"(?:(?!precisetimestampconversion).)*?"
    r"\+ (\d+)\), LongType, TimestampType"
)


@dataclass(frozen=True)
class Dropping:
    """What the plan of a query shows about the late rows that its aggregation drops.

    Attributes:
        rows_stay_one: whether each row of the input is in one group of the aggregation
            at most.
        bounded: whether the rows of the aggregation are rows of the batch, and the
            times of the batch those of one watermark.
        all_arrive: whether each row of the input that has a time gets to the
            aggregation.
        window: start and length, in microseconds, of the tumbling window by which the
            aggregation groups; None if it groups by something else.
    """

    rows_stay_one: bool = False
    bounded: bool = False
    all_arrive: bool = False
    window: tuple[int, int] | None = None

    def closed_until(self, watermark: datetime) -> datetime | None:
        """Return the end of the last window closed by the watermark; None without windows."""
        if self.window is None:
            return None
        start, length = self.window
        passed = (watermark - EPOCH) // _MICROSECOND
        return EPOCH + ((passed - start) // length * length + start) * _MICROSECOND


def dropping(plan: str) -> Dropping:
    """Find out from a query's analyzed plan how its aggregation drops late rows."""
    multiplies = _MULTIPLIES.search(plan) is not None
    groups = _AGGREGATES.findall(plan)
    bounded = (
        not multiplies
        and len(groups) == 1
        and not _KEEPS_ROWS.search(plan)
        and len(_WATERMARK.findall(plan)) == 1
    )
    window = None
    if len(groups) == 1:
        window = _tumbling_window(plan, groups[0])
    return Dropping(
        rows_stay_one=not multiplies and not _EXPANDS.search(plan),
        bounded=bounded,
        all_arrive=all(map(_HANDS_ON.search, plan.splitlines())),
        window=window,
    )


def _tumbling_window(plan: str, groups: str) -> tuple[int, int] | None:
    """Return start and length of the one tumbling window by which a plan groups; else None.

    Args:
        plan: the analyzed plan.
        groups: what its aggregation groups by, such as "window#12-T10000ms, action#3".
    """
    windows = set(_WINDOW.findall(plan))
    if len(windows) != 1 or not re.search(r"(?<!\S)window#\d+", groups):
        return None
    start, slide, length = map(int, windows.pop())
    if slide != length:
        return None
    return start, length


@dataclass(frozen=True)
class _Times:
    """The event times of a batch, as Spark tells them."""

    first: datetime
    mean: datetime
    last: datetime

    def share_before(self, bound: datetime) -> tuple[float, float]:
        """Return which share of the batch's rows is before a time, at least and at most.

        If a share `s` of the rows is before the bound, these are not before the first
        time, and the others are not after the last one. So the mean is at least `s *
        first + (1 - s) * bound`, and at most `s * bound + (1 - s) * last`.
        """
        if self.last + _MILLISECOND <= bound:
            return 1.0, 1.0
        if self.first >= bound:
            return 0.0, 0.0
        cut = 2 * _MILLISECOND  # of the mean and of the other time
        least = max(0.0, (bound - self.mean - cut) / (bound - self.first))
        if self.last <= bound:
            return least, 1.0
        return least, min(1.0, (self.last - self.mean + cut) / (self.last - bound))


def rows_late(
    progress: StreamingQueryProgress,
    by: Dropping,
    watermark: datetime,
    *,
    is_known: bool,
) -> tuple[int, int | None]:
    """Return the least and most rows that a batch dropped as late; None for no upper bound.

    Args:
        progress: the progress of the batch.
        by: how the query drops late rows.
        watermark: the watermark by which the batch has dropped them, or a later one.
        is_known: whether it is the one by which the batch has dropped them.
    """
    rows = 0
    groups = 0
    computed = 1
    for operator in progress.stateOperators:
        times = times_computed(operator)
        computed = max(computed, times)
        dropped = operator.numRowsDroppedByWatermark // times
        if re.match(r"(?i)stateStoreSave|session", operator.operatorName):
            groups += dropped
        else:
            rows += dropped
    if not groups:
        return rows, rows
    least = 1
    if by.rows_stay_one:
        least = groups
    if not by.bounded:
        return rows + least, None
    read = progress.numInputRows // computed
    most = read
    batch = _times(progress)
    if batch is not None and watermark <= _LATEST:
        _, most_share = batch.share_before(watermark + _MILLISECOND)
        most = math.floor(read * most_share)
        closed = None
        # Spark takes a row without a time for one of 1970.
        if is_known and by.all_arrive and batch.first > EPOCH:
            closed = by.closed_until(watermark)
        if closed is not None:
            least_share, _ = batch.share_before(closed)
            least = max(least, math.ceil(read * least_share))
    if most < least:  # the plan has shown less than there is
        return rows + least, None
    return rows + least, rows + most


def _times(progress: StreamingQueryProgress) -> _Times | None:
    """Return the event times of a batch; None without rows, or for years beyond Python's."""
    times = [moment(progress.eventTime.get(name)) for name in ("min", "avg", "max")]
    known = [time for time in times if time is not None and 1 < time.year < MAXYEAR]
    if len(known) < len(times):
        return None
    return _Times(*known)


def moment(text: str | None) -> datetime | None:
    """Read a time from Spark's progress; Python has no later year than 9999, and none before 1."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # Java writes -0001, 0000 and +10000
        if text.startswith("+"):
            return datetime.max.replace(tzinfo=UTC)
        return datetime.min.replace(tzinfo=UTC)
