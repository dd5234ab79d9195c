"""How many rows a batch has dropped as too late: the number, or bounds of it, from Spark's progress.

An operator that takes rows one by one, as a deduplication does, counts the rows that it drops. An aggregation
counts groups, of which each may hold any number of rows. How many rows there are at most follows from their
times: those before the end of the last closed window. `observed` has Spark say how many rows have which
times; without it the earliest, the latest and the mean time of a batch's rows give a bound.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparkstream_kit._durations import epoch_microseconds
from sparkstream_kit._spark.plan import analyzed_plan
from sparkstream_kit._spark.queries import times_computed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.listener import StreamingQueryProgress

_OBSERVED = "sparkstream_late"
_numbers = itertools.count(1)  # two in one query must not have the same name

# The shares of a batch whose latest times Spark is asked for: each 8% more than the one before.
_SHARES = [min(1e-4 * 1.08**step, 1.0) for step in range(121)]
_ACCURACY = 100_000  # Spark is off by at most one row in so many

_SECOND, _MILLI = 1_000_000, 1_000  # microseconds
# What Spark makes of window() and session_window(); lengths are in microseconds.
_WINDOW = re.compile(
    r"TimestampType, LongType\) - (-?\d+)\) % (\d+)\)(?:(?!precisetimestampconversion).)*?"
    r"\+ (\d+)\), LongType, TimestampType"
)
_GROUPS = re.compile(r"^\W*~Aggregate \[([^\[\]]*)\]", re.MULTILINE)
_WATERMARK = re.compile(r"^\W*~EventTimeWatermark ", re.MULTILINE)
_MULTIPLIES = re.compile(r"^\W*(Generate|Join|\w*Map\w+|Lateral\w*) ", re.MULTILINE)
_BY_KEY = re.compile(r"^\W*~(FlatMapGroups|TransformWithState)", re.MULTILINE)
_SOURCE = re.compile(r"^\W*(StreamingRelation|FileSource\[)", re.MULTILINE)


@dataclass(frozen=True)
class Drops:
    """What the plan of a query says of the late rows that it drops.

    Attributes:
        watermarks: how many watermarks it has.
        multiplies: whether a step may make several rows of one.
        keeps: whether an aggregation gets rows of another operator with state, and so of earlier batches.
        places: in how many groups of an aggregation a row is at most.
        window: start, slide and length in microseconds, if the only aggregation is over such windows.
        former: whether a batch drops by the watermark of the batch before it, as Spark does.
    """

    watermarks: int
    multiplies: bool
    keeps: bool
    places: int
    window: tuple[int, int, int] | None
    former: bool

    def bound(self, watermark: int) -> int:
        """Return the time before which a row must be to be dropped, in microseconds."""
        if self.window is None:
            return watermark + 1
        start, slide, length = self.window
        return (watermark - start - length) // slide * slide + start + length


@dataclass(frozen=True)
class Late:
    """What a batch has dropped.

    Attributes:
        least: how many rows at least; rows or groups if `most` is None.
        most: how many rows at most; None where nothing tells.
        seconds: how far the earliest row of the batch was behind the watermark; None if Spark does not say.
        before_1970: whether the watermark had not moved yet: Spark's begins at 1970.
    """

    least: int
    most: int | None
    seconds: float | None
    before_1970: bool


def observed(frame: DataFrame, time: str) -> DataFrame:
    """Let Spark's progress say how many rows of a batch have which times; beside the plan, as all it does."""
    from pyspark.sql import functions as F

    from sparkstream_kit._columns import column

    at = F.unix_micros(column(time))
    marks = F.percentile_approx(at, _SHARES, _ACCURACY)
    return frame.observe(f"{_OBSERVED}_{next(_numbers)}", F.count(at).alias("rows"), marks.alias("marks"))


def drops(frame: DataFrame | None) -> Drops | None:
    """Read in a query's plan what it does with late rows; None for a query that `start` has not started."""
    if frame is None:
        return None
    plan = analyzed_plan(frame)
    groups, found = _GROUPS.findall(plan), set(_WINDOW.findall(plan))
    windows = [(int(start), int(slide), int(length)) for start, slide, length in found]
    plain = (
        len(groups) == 1 and len(windows) == 1 and re.findall(r"(\S+)#\d+-T\d+ms", groups[0]) == ["window"]
    )
    multiple = frame.sparkSession.conf.get("spark.sql.streaming.statefulOperator.allowMultiple", "true")
    # Of windows in a form that is not known, a row may be in several.
    unknown = not windows and any(re.search(r"(?<!session_)\bwindow#", group) for group in groups)
    multiplies = unknown or _MULTIPLIES.search(plan) is not None
    return Drops(
        watermarks=len(_WATERMARK.findall(plan)),
        multiplies=multiplies,
        keeps=len(groups) > 1
        or _BY_KEY.search(plan) is not None
        or (multiplies and len(_SOURCE.findall(plan)) > 1),
        places=math.prod(-(-length // slide) for _, slide, length in windows),
        window=windows[0] if plain else None,
        former=multiple != "false",
    )


def late(progress: StreamingQueryProgress, by: Drops | None, former: int | None) -> Late:
    """Return what a batch has dropped.

    Args:
        progress: of the batch.
        by: what the query's plan says.
        former: the watermark of the batch before it, in microseconds; None if that is not known.
    """
    own = epoch_microseconds(progress.eventTime.get("watermark")) or 0
    mark = former if by is not None and by.former and former is not None else own
    rows = groups = 0
    for operator in progress.stateOperators:
        dropped = operator.numRowsDroppedByWatermark // times_computed(operator)
        if re.match(r"(?i)stateStoreSave|session", operator.operatorName):
            groups += dropped
        else:
            rows += dropped
    first = epoch_microseconds(progress.eventTime.get("min"))
    seconds = None if first is None else (mark - first) / _SECOND
    if not groups:
        return Late(rows, rows, seconds, mark == 0)
    most = None if by is None or by.keeps else _at_most(progress, by, by.bound(mark))
    least = 1 if by is None or by.multiplies else -(-groups // by.places)
    if most is None or most < least:
        return Late(rows + groups, None, seconds, mark == 0)
    return Late(rows + least, rows + most, seconds, mark == 0)


def _at_most(progress: StreamingQueryProgress, by: Drops, bound: int) -> int | None:
    """Return how many rows of a batch are before a time, at most; None where nothing tells."""
    told = [metrics for name, metrics in progress.observedMetrics.items() if name.startswith(_OBSERVED)]
    if told and len(told) == by.watermarks:
        values = (metrics["values"] if "values" in metrics else metrics for metrics in told)  # noqa: SIM401 - a Row has no get
        return sum(_before(bound, rows, marks) for rows, marks in values)
    if by.multiplies:
        return None
    rows = progress.numInputRows
    last, mean = (epoch_microseconds(progress.eventTime.get(name)) for name in ("max", "avg"))
    if by.watermarks > 1 or last is None or mean is None or last < bound:
        return rows
    # If k of the rows are before the bound, their mean is at most (k * bound + (rows - k) * last) / rows.
    spread = last - bound
    return min(rows, math.floor(rows * (last - mean + 2 * _MILLI) / spread)) if spread else rows


def _before(bound: int, rows: int, marks: list[int] | None) -> int:
    """Return how many of the rows are before a time, at most, by the times that their shares reach."""
    for share, mark in zip(_SHARES, marks or (), strict=False):
        if mark >= bound:
            return min(rows, math.ceil(share * rows) - 1 + rows // _ACCURACY)
    return rows
