"""Event time with checked arguments, for batch and streaming alike: windows, watermarks, the top rows.

The rules are those of the Structured Streaming guide, "Window Operations on Event Time".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import _columns
from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column as named
from sparkstream_kit._durations import Duration, delay_of, not_negative, positive, sizes, to_microseconds
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.progress import observed
from sparkstream_kit.quarantine.rows import REASON, count_bad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

__all__ = ["explain", "flatten", "session", "sliding", "to_microseconds", "top", "tumbling", "with_watermark"]

_PLAIN_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
# Names of columns that are there for a moment.
_EVENT_TIME, _NUMBER = "sparkstream_event_time", "sparkstream_number"


def tumbling(time: str | Column, length: Duration, *, offset: Duration | None = None) -> Column:
    """Group rows into windows of `length`, each of which begins where the one before ends.

    Args:
        time: the event-time column or its name (timestamp).
        length: "10 seconds", "1 hour 30 minutes" or a `timedelta`.
        offset: moves the windows' starts off the epoch (1970-01-01 00:00 UTC): "15 minutes" for windows that
            start at 15 past; may be negative.

    Returns:
        A column `window`: struct<start: timestamp, end: timestamp>, the end not included.

    Raises:
        InvalidInputError: `time` is neither a name nor a Column, a duration cannot be read, `length` is not
            positive, or `offset` is not shorter than `length`.

    Examples:
        >>> tumbling("time", "10 s")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: cannot read length '10 s'; write it like '10 seconds', ...
    """
    check(tumbling, locals())
    return F.window(time, *map(_interval, sizes(length, None, offset)))


def sliding(
    time: str | Column, length: Duration, slide: Duration, *, offset: Duration | None = None
) -> Column:
    """Group rows into windows of `length` that overlap: one begins every `slide`.

    A row is in about length / slide windows, and so is copied as many times before the aggregation.

    Args:
        time: the event-time column or its name (timestamp).
        length: "10 seconds", "1 hour 30 minutes" or a `timedelta`.
        slide: from one window's start to the next one's.
        offset: moves the windows' starts off the epoch (1970-01-01 00:00 UTC); may be negative.

    Returns:
        A column `window`: struct<start: timestamp, end: timestamp>, the end not included.

    Raises:
        InvalidInputError: `time` is neither a name nor a Column, a duration cannot be read, `length` or
            `slide` is not positive, `slide` is longer than `length`, or `offset` is not shorter than `slide`.

    Examples:
        >>> sliding("time", "10 seconds", "20 seconds")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: slide 20 seconds is longer than length 10 seconds: rows ...
    """
    check(sliding, locals())
    positive("slide", slide)
    return F.window(time, *map(_interval, sizes(length, slide, offset)))


def session(time: str | Column, gap: Duration) -> Column:
    """Group rows into sessions: runs of rows that are at most `gap` apart.

    Spark itself drops every row, without a word, when the gap is not positive or cannot be read. For a gap
    that depends on the row, or one in months, use `F.session_window`.

    Args:
        time: the event-time column or its name (timestamp).
        gap: "10 minutes" or a `timedelta`.

    Returns:
        A column `session_window`: struct<start: timestamp, end: timestamp>; the end is the last row's time
        plus `gap`.

    Raises:
        InvalidInputError: `time` is neither a name nor a Column, or `gap` cannot be read or is not positive.

    Examples:
        >>> session("time", "0 seconds")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: gap must be longer than zero, not 0 seconds
    """
    check(session, locals())
    return F.session_window(time, _interval(positive("gap", gap)))


def with_watermark(
    frame: DataFrame,
    time: str,
    delay: Duration,
    *,
    ahead: Duration | None = "1 hour",
    count_late: bool = False,
) -> DataFrame:
    """Set how late rows may be: a watermark on the event-time column, which rows from the future do not move.

    The watermark of a batch is the latest event time that the query saw before it, minus `delay`. Spark
    drops what is older, so one row of the year 2099 would make every later row a late one. Therefore a row
    dated further than `ahead` past the batch's own `current_timestamp`, which a replayed batch keeps,
    is a bad row: it keeps its other values, its event time becomes null, and its `_reason` says what it was.

    The first batch has a watermark, too: Spark's begins at 1970. Rows of a time before 1970 are late in every
    batch, so that windows in the modes append and update drop them. Count such rows in mode complete, or in a
    batch query.

    Spark reads files in the order of their modification times. A backlog whose files are read in another
    order than that of their rows, a few in each batch, makes rows late: docs/watermarks.md says how to read
    it. The summary of `run` says how many rows were late, and a verdict what to do.

    Rows whose event time is null fall out of windows. To keep them, write them aside before aggregating: in a
    query of their own, or in one query without an aggregation by
    `sinks.fan_out(good.taking(quarantine.good_rows), bad.taking(quarantine.bad_rows))`. The summary of `run`
    counts them as bad rows in any case.

    Args:
        frame: static or streaming. A static one gets no watermark, for Spark has none there, but it gets
            `_reason`, so that a batch run gives what the stream gives.
        time: the event-time column (timestamp).
        delay: how late a row may be, at least "1 millisecond".
        ahead: how far in the future a row may be; None lets every row move the watermark and adds nothing.
        count_late: where an aggregation drops late rows, have Spark say how many they are at most, to within
            8%; without it this number follows from the earliest, latest and mean time of a batch, and may be
            several times too high. Takes several microseconds for each row.

    Returns:
        The same columns and rows. Unless `ahead` is None there is also `_reason` (string, at the end): null,
        or such as "time: 2099-01-01 00:00:00 is more than 1 hour ahead". Where `quarantine` has already made
        a `_reason`, it stays in its place, and what it says of a row is kept.

    Raises:
        InvalidInputError: there is no such column or it is no timestamp, `delay` is less than a millisecond,
            `ahead` is negative, the frame already has a watermark, or its `_reason` is no text.

    Examples:
        In a session::

            events = with_watermark(events, "time", "10 minutes")
            events.groupBy(tumbling("time", "1 hour"), "action").count()
    """
    check(with_watermark, locals())
    behind = delay_of("delay", delay)
    bound = None if ahead is None else not_negative("ahead", ahead)
    time = _columns.event_time(frame, time, "with_watermark()", watermark=False)
    if marked := _columns.columns_with_watermark(frame):
        raise InvalidInputError(
            f"the DataFrame already has a watermark, on column {marked[0]}; call with_watermark once, "
            "on what the source gives"
        )
    if bound is not None:
        frame = _without_far_times(frame, time, bound, str(ahead))
    if count_late and frame.isStreaming:
        frame = observed(frame, time)
    if _PLAIN_NAME.fullmatch(time):
        return frame.withWatermark(time, _interval(behind))
    # How Spark reads other names depends on its version.
    plain = frame.withColumnRenamed(time, _EVENT_TIME).withWatermark(_EVENT_TIME, _interval(behind))
    return plain.withColumnRenamed(_EVENT_TIME, time)


def _without_far_times(frame: DataFrame, time: str, bound: int, ahead: str) -> DataFrame:
    """Return `frame` with null for the times that are too far ahead, and their reason."""
    reasons = [field for field in frame.schema if field.name.lower() == REASON]
    if any(not isinstance(field.dataType, T.StringType) for field in reasons):
        raise InvalidInputError(f"column {REASON} is no text; the kit writes its reasons there: rename it")
    value = named(time)
    is_far = value > F.current_timestamp() + F.expr(f"INTERVAL {bound} MICROSECONDS")
    says = F.concat(F.lit(f"{time}: "), value.cast("string"), F.lit(f" is more than {ahead} ahead"))
    found, former = F.when(is_far, says), F.col(REASON) if reasons else F.lit(None).cast("string")
    counted = count_bad(frame, is_far & former.isNull())
    return counted.withColumns({time: F.when(~is_far, value), REASON: F.coalesce(former, found)})


def explain(
    *,
    length: Duration,
    slide: Duration | None = None,
    watermark: Duration | None = None,
    at: str | datetime | None = None,
    offset: Duration | None = None,
) -> str:
    """Draw which windows a row falls in, and when it is too late for them.

    Needs no session. `sparkstream windows explain` prints the same.

    Args:
        length: of the windows, as in `tumbling`.
        slide: from one window's start to the next one's, as in `sliding`.
        watermark: the delay, as in `with_watermark`; without it no window closes.
        at: when the row happened, in UTC: "2026-01-14 12:47:30", "12:47" (of some day) or a `datetime`.
            Default: an example.
        offset: as in `tumbling`.

    Returns:
        Lines of at most 80 columns. A window is [---), and closes at the time of the | behind it.

    Raises:
        InvalidInputError: as in `sliding` and `with_watermark`, or the time cannot be read.

    Examples:
        >>> text = explain(length="1 hour", slide="30 minutes", watermark="10 minutes", at="12:47")
        >>> for line in text.splitlines()[4:11]:
        ...     print(line)
        row 12:47                                          x
        2026-01-14 12:00 to 13:00  [------------------------------)....|
        2026-01-14 12:30 to 13:30                 [------------------------------)....|
        <BLANKLINE>
        It falls in 2 windows. Each closes when the query has seen a row this new:
          2026-01-14 12:00 to 13:00   2026-01-14 13:10
          2026-01-14 12:30 to 13:30   2026-01-14 13:40
    """
    check(explain, locals())
    from sparkstream_kit import display

    return display.explain(length, slide, watermark, at, offset)


def flatten(df: DataFrame, column: str = "window") -> DataFrame:
    """Replace a window column, in its place, by the plain columns `start` and `end`.

    On a stream with a watermark, `end` carries it on (as `window` does), so that a later aggregation over
    `end` or a deduplication can still run in append mode. To window the windows again, do so before
    flattening (`tumbling("window", "1 hour")`): by its `end`, the last window of an hour is in the next hour.

    Args:
        df: static or streaming.
        column: the window column; `session` names it "session_window".

    Returns:
        The same rows; `start` and `end` are timestamps, all other columns and their order are kept.

    Raises:
        InvalidInputError: there is no such column, it is not a window, or `start` or `end` is taken.

    Examples:
        In a session::

            flatten(sales.groupBy(tumbling("time", "1 hour"), "key").count())  # start, end, key, count
    """
    check(flatten, locals())
    column = _columns.find_column(df, column)
    field = df.schema[column]
    if not _is_window(field.dataType):
        raise InvalidInputError(
            f"column {column} is {field.dataType.simpleString()}, not a window; "
            "flatten takes what tumbling, sliding or session made"
        )
    _columns.refuse_taken([name for name in df.columns if name != column], ("start", "end"), "flatten()")
    # A struct's fields lose the watermark. Only `end` may have it back: Spark allows one event-time column,
    # and by `start` it would take the rows of a window that has just closed for late ones and drop them.
    watermark = {k: v for k, v in field.metadata.items() if k == _columns.WATERMARK}
    window = named(column)
    parts = [window["start"].alias("start"), window["end"].alias("end", metadata=watermark)]
    return df.select(*(c for n in df.columns for c in (parts if n == column else [named(n)])))


def top(n: int, *, by: str, each: Sequence[str] = ()) -> Callable[[DataFrame], DataFrame]:
    """Keep the `n` rows of each batch with the highest `by`, before a sink that works batch by batch.

    Spark sorts no stream, but the batches of one. With a query that aggregates in mode complete, whose batch
    is the whole result, this is its top: `sinks.latest("trends").taking(windows.top(10, by="count"))`.

    Args:
        n: how many rows to keep, at least 1.
        by: the column that decides; null is lowest, and NaN is above all numbers.
        each: columns for each of whose values `n` rows are kept, such as ["start"]; without any, `n` in all.

    Returns:
        A function of a DataFrame, static or one batch of a stream. It gives rows of the same columns, ordered
        by `each`, then the highest `by` first. Rows that are equal in these are ordered by the other columns
        (maps and variants have no order), so that a replayed batch gives the same rows.

    Raises:
        InvalidInputError: `n` is less than 1; of the function, a column that is not there or has no order.

    Examples:
        >>> top(0, by="count")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: n is 0; give 1 or more
    """
    check(top, locals())
    if n < 1:
        raise InvalidInputError(f"n is {n}; give 1 or more")

    def keep(batch: DataFrame) -> DataFrame:
        highest, *within = (_columns.find_column(batch, name) for name in (by, *each))
        for name in (highest, *within):
            if not _has_order(batch.schema[name].dataType):
                kind = batch.schema[name].dataType.simpleString()
                raise InvalidInputError(f"column {name} is {kind}, which has no order; give another column")
        groups = [named(name) for name in within]
        others = [field for field in batch.schema if field.name not in (highest, *within)]
        ties = [named(field.name) for field in others if _has_order(field.dataType)]
        order = [named(highest).desc_nulls_last(), *ties]
        if not groups:
            return batch.orderBy(*order).limit(n)
        number = F.row_number().over(Window.partitionBy(*groups).orderBy(*order))
        kept = batch.select("*", number.alias(_NUMBER)).where(F.col(_NUMBER) <= n)
        return kept.orderBy(*groups, _NUMBER).drop(_NUMBER)

    return keep


def _has_order(kind: T.DataType) -> bool:
    """Say whether Spark can sort by a column of this type."""
    return not _columns.holds(kind, T.MapType, T.VariantType)


def _interval(microseconds: int) -> str:
    return f"{microseconds} microseconds"


def _is_window(dtype: T.DataType) -> bool:
    return (
        isinstance(dtype, T.StructType)
        and dtype.names == ["start", "end"]
        and all(isinstance(f.dataType, (T.TimestampType, T.TimestampNTZType)) for f in dtype)
    )
