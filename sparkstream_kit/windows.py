"""Thin: event time: windows, watermarks and top rows, in batch and streaming alike.

The rules are those of the Structured Streaming guide, "Window Operations on Event
Time". `tumbling`, `sliding` and `session` return a column to group by, `calendar` adds
the day, week or month of a time zone, `with_watermark` says how late rows may be,
`flatten` and `top` shape the result, and `explain` draws windows as text. Unlike
Spark's own functions, they check each argument when they are called.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyspark.errors import DateTimeException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal import columns, durations
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import column as named
from sparkstream_kit._internal.durations import (
    Duration,
    delay_of,
    not_negative,
    positive,
    sizes,
)
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.quarantine.rows import REASON, count_bad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

__all__ = [
    "calendar",
    "explain",
    "flatten",
    "session",
    "sliding",
    "top",
    "tumbling",
    "with_watermark",
]

_PLAIN_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
# Temporary columns, which no result has.
_EVENT_TIME = "sparkstream_event_time"
_NUMBER = "sparkstream_number"
_TIES = "sparkstream_ties"
_DAY = 86_400_000_000  # microseconds
# The type of a window, as Spark names it
_WINDOW = r"struct<start:timestamp(_ntz)?,end:timestamp(_ntz)?>"


def tumbling(
    time: str | Column, length: Duration, *, offset: Duration | None = None
) -> Column:
    """Group rows into windows of `length`, each of which begins where the previous one ends.

    A window of "1 day" is a day in UTC, whatever the session's time zone is. For the
    days, weeks and months of a time zone use `calendar`.

    Args:
        time: the event-time column or its name (timestamp).
        length: "10 seconds", "1 hour 30 minutes" or a `timedelta`.
        offset: shifts the start of every window from the epoch (1970-01-01 00:00 UTC):
            "15 minutes" for windows that start at 15 past; may be negative.

    Returns:
        A column `window`: struct<start: timestamp, end: timestamp>. The end is
            exclusive.

    Raises:
        InvalidInputError: `time` is neither a name nor a Column, a duration cannot be
            read, `length` is not positive, or `offset` is not shorter than `length`.

    Examples:
        >>> tumbling("time", "10 s")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: cannot read length '10 s'; write it like ...
    """
    check(tumbling, locals())
    return F.window(time, *map(_interval, sizes(length, None, offset)))


def sliding(
    time: str | Column,
    length: Duration,
    slide: Duration,
    *,
    offset: Duration | None = None,
) -> Column:
    """Group rows into overlapping windows of `length`, one of which begins every `slide`.

    A row is in about length / slide windows, and Spark copies it that many times before
    the aggregation.

    Args:
        time: the event-time column or its name (timestamp).
        length: "10 seconds", "1 hour 30 minutes" or a `timedelta`.
        slide: the time from the start of one window to the start of the next.
        offset: shifts the start of every window from the epoch (1970-01-01 00:00 UTC);
            may be negative.

    Returns:
        A column `window`: struct<start: timestamp, end: timestamp>. The end is
            exclusive.

    Raises:
        InvalidInputError: `time` is neither a name nor a Column, a duration cannot be
            read, `length` or `slide` is not positive, `slide` is longer than `length`,
            or `offset` is not shorter than `slide`.

    Examples:
        >>> sliding("time", "1 day", "2 days")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: slide 2 days is longer than length 1 day: rows ...
    """
    check(sliding, locals())
    return F.window(time, *map(_interval, sizes(length, slide, offset)))


def session(time: str | Column, gap: Duration) -> Column:
    """Group rows into sessions: runs of rows that are at most `gap` apart.

    Spark itself silently drops every row if the gap is not positive or cannot be read;
    this function refuses such a gap. For a gap that depends on the row, or one in
    months, use `F.session_window`. A stream must be grouped by another column, too,
    such as one of `withColumn("all", F.lit(1))`, and drops late rows also in mode
    complete.

    Args:
        time: the event-time column or its name (timestamp).
        gap: the longest pause within a session: "10 minutes" or a `timedelta`.

    Returns:
        A column `session_window`: struct<start: timestamp, end: timestamp>; the end is
        the last row's time plus `gap`.

    Raises:
        InvalidInputError: `time` is neither a name nor a Column, or `gap` cannot be
            read or is not positive.

    Examples:
        >>> session("time", "0 seconds")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: gap must be longer than zero, not 0 seconds
    """
    check(session, locals())
    return F.session_window(time, _interval(positive("gap", gap)))


def calendar(frame: DataFrame, time: str, unit: str, *, zone: str) -> DataFrame:
    """Add a column `window` to group by: the day, week or month of each row in a time zone.

    The day on which summer time begins has 23 hours, and the day on which it ends has
    25. The windows of `tumbling` all have the same length, and those of "1 day" begin
    at midnight UTC.

    Call it after `with_watermark`, and group by "window". A window closes when the
    watermark of `time` passes its end. The function returns a DataFrame, where
    `tumbling` returns a column, because Spark loses the watermark of a column that is
    computed in `groupBy`.

    A row belongs to the date that a clock in the zone shows. Where the clock goes back
    over midnight, as in St. John's until 2010, it shows the new date for a short time
    before it shows the old one again. The window of the old date then ends at the
    second midnight, and these few rows of the new date are before the start of their
    window.

    Args:
        frame: static or streaming. In mode append its column `time` must have a
            watermark.
        time: the event-time column (timestamp). Rows whose time is null are left out,
            as in all windows.
        unit: "day", "week" (from Monday, as in ISO 8601), "month", "quarter" or "year".
        zone: the time zone, such as "Europe/Berlin". The session's time zone makes no
            difference.

    Returns:
        The same columns and `window` (at the end): struct<start: timestamp, end:
        timestamp>. The end is exclusive, and is the start of the next window.

    Raises:
        InvalidInputError: there is no such column, it is not a timestamp, there is a
            column `window` already, or the unit or the time zone is unknown.

    Examples:
        In a session::

            sales = with_watermark(sales, "time", "1 hour")
            days = calendar(sales, "time", "day", zone="Europe/Berlin")
            flatten(days.groupBy("window", "shop").count())  # start, end, shop, count
    """
    check(calendar, locals())
    time = columns.event_time(frame, time, "calendar()", watermark=False)
    shape = columns.shape_of(frame)
    columns.refuse_taken(shape.names, ["window"], "calendar()")
    reject_unknown("unit", [unit], durations.UNITS)
    _refuse_unknown_zone(frame, zone)
    start, end = _bounds(named(time), unit, zone)
    window = F.struct(
        _instant(start, zone).alias("start"), _instant(end, zone).alias("end")
    )
    # Spark closes a group by its column with a watermark. If that column is a struct,
    # as its own windows are, Spark compares the second field.
    field = shape.find(time)
    watermark = {} if field is None else columns.watermark_of(field)
    with_watermark = window.alias("window", metadata=watermark)
    return frame.where(named(time).isNotNull()).select("*", with_watermark)


def _refuse_unknown_zone(frame: DataFrame, zone: str) -> None:
    """Refuse a time zone that Spark does not know; its list is not Python's."""
    from sparkstream_kit._internal.spark.session import may_ask

    if not may_ask(frame.sparkSession):
        return
    in_zone = F.from_utc_timestamp(F.current_timestamp(), F.lit(zone))
    try:
        frame.sparkSession.sql("SELECT 1").select(in_zone).collect()
    except DateTimeException as err:
        raise durations.unknown_zone(zone) from err


def _bounds(time: Column, unit: str, zone: str) -> tuple[Column, Column]:
    """Return the midnights at which the day, week, … of a time begins, and the next one.

    Both are as clocks in the time zone show them, in microseconds from midnight of
    1970-01-01.
    """
    shown = F.unix_micros(F.from_utc_timestamp(time, zone))
    midnight = shown - F.pmod(shown, F.lit(_DAY))
    if unit == "day":
        return midnight, midnight + _DAY
    day = F.date_from_unix_date((midnight / _DAY).cast("int"))
    first_day = F.trunc(day, unit)
    next_first_day = F.trunc(F.date_add(first_day, durations.UNITS[unit]), unit)
    return F.unix_date(first_day) * _DAY, F.unix_date(next_first_day) * _DAY


def _instant(midnight: Column, zone: str) -> Column:
    """Return the timestamp at which clocks in a time zone show a midnight, the second of two.

    A day to which the clock goes back must stay open until the second midnight: its
    rows still come.

    Args:
        midnight: what they show, in microseconds from midnight of 1970-01-01; no
            session's time zone counts.
        zone: the time zone.
    """

    def instant(shown: Column) -> Column:
        return F.unix_micros(F.to_utc_timestamp(F.timestamp_micros(shown), zone))

    first = instant(midnight)
    # The same as the first but on a day of 23 or 25 hours
    second = instant(midnight + _DAY) - _DAY
    shown_before_second = F.unix_micros(
        F.from_utc_timestamp(F.timestamp_micros(second - 1), zone)
    )
    comes_twice = (second > first) & (shown_before_second < midnight)
    return F.timestamp_micros(F.when(comes_twice, second).otherwise(first))


def with_watermark(
    frame: DataFrame, time: str, delay: Duration, *, ahead: Duration | None = "1 hour"
) -> DataFrame:
    """Set how late rows may be, by a watermark that rows from the future do not move.

    The watermark of a batch is the latest event time that the query saw before that
    batch, minus `delay`. Spark drops older rows, so a single row of the year 2099 would
    make every later row late. Therefore a row is bad if its time is more than `ahead`
    past the `current_timestamp` of its batch, which a replayed batch keeps. A bad row
    keeps its other values, its event time becomes null, and its `_reason` contains the
    original time.

    The first batch has a watermark, too, because Spark's watermark begins at 1970. Rows
    with a time before 1970 are late in every batch, so windows in the modes append and
    update drop them. Count such rows in mode complete (session windows drop them there,
    too), or in a batch query.

    Spark reads files in the order of their modification times. If a backlog of files is
    read a few files per batch, in an order that is not that of their rows, rows become
    late: docs/watermarks.md describes how to read a backlog. The summary of `run` has
    the number of late rows, and a verdict with what to do.

    Windows drop rows whose event time is null. To keep these rows, write them to a sink
    of their own before aggregating: in a second query or, in a query without an
    aggregation, by `sinks.fan_out(good.taking(quarantine.good_rows),
    bad.taking(quarantine.bad_rows))`. The summary of `run` counts them as bad rows in
    any case.

    Args:
        frame: static or streaming. A static frame gets no watermark, because Spark has
            none in batch queries, but it gets `_reason`, so that a batch run has the
            same result as the stream.
        time: the event-time column (timestamp).
        delay: how late a row may be, at least "1 millisecond".
        ahead: how far in the future a row may be. None lets every row move the
            watermark and adds no column.

    Returns:
        The same columns and rows. Unless `ahead` is None there is also `_reason`
        (string, at the end): null, or a text such as "time: 2099-01-01 00:00:00 is more
        than 1 hour ahead". If `quarantine` has already added `_reason`, the column
        stays where it is, and a reason in it is kept.

    Raises:
        InvalidInputError: there is no such column or it is not a timestamp, `delay` is
            less than a millisecond, `ahead` is negative, the frame already has a
            watermark, or its column `_reason` is not a string.

    Examples:
        In a session::

            events = with_watermark(events, "time", "10 minutes")
            events.groupBy(tumbling("time", "1 hour"), "action").count()
    """
    check(with_watermark, locals())
    from sparkstream_kit._internal.spark.shapes import refuse_table_of_pipeline

    refuse_table_of_pipeline(frame, "with_watermark()")
    behind = delay_of("delay", delay)
    most_ahead = None if ahead is None else not_negative("ahead", ahead)
    time = columns.event_time(frame, time, "with_watermark()", watermark=False)
    marked = columns.columns_with_watermark(frame)
    if marked:
        raise InvalidInputError(
            "with_watermark(): the DataFrame already has a watermark, on column"
            f" {marked[0]}; call it once, on the rows of the source"
        )
    if most_ahead is not None:
        frame = _without_far_times(frame, time, most_ahead, str(ahead))
    if _PLAIN_NAME.fullmatch(time):
        return frame.withWatermark(time, _interval(behind))
    # How Spark reads any other name depends on its version, so the column has a plain
    # name for a moment.
    plain = frame.withColumnRenamed(time, _EVENT_TIME)
    marked_plain = plain.withWatermark(_EVENT_TIME, _interval(behind))
    return marked_plain.withColumnRenamed(_EVENT_TIME, time)


def _without_far_times(
    frame: DataFrame, time: str, most_ahead: int, ahead: str
) -> DataFrame:
    """Set the times that are too far ahead to null, and give these rows a reason.

    Args:
        frame: the rows.
        time: the event-time column.
        most_ahead: how far in the future a time may be, in microseconds.
        ahead: the same, as the caller wrote it.
    """
    from sparkstream_kit._internal.spark.shapes import is_known

    former = F.lit(None).cast("string")
    field = columns.shape_of(frame).find(REASON)
    if field is not None:
        if is_known(field.dataType) and not isinstance(field.dataType, T.StringType):
            raise InvalidInputError(
                f"with_watermark(): column {REASON} is not a string, and the kit writes"
                " its reasons there; rename the column"
            )
        former = F.col(REASON)
    value = named(time)
    latest = F.current_timestamp() + F.expr(f"INTERVAL {most_ahead} MICROSECONDS")
    is_far = value > latest
    reason = F.concat(
        F.lit(f"{time}: "), value.cast("string"), F.lit(f" is more than {ahead} ahead")
    )
    reasons = F.coalesce(former, F.when(is_far, reason))
    counted = count_bad(frame, is_far & former.isNull())
    return counted.withColumns({time: F.when(~is_far, value), REASON: reasons})


def explain(
    *,
    length: Duration,
    slide: Duration | None = None,
    watermark: Duration | None = None,
    at: str | datetime | None = None,
    offset: Duration | None = None,
) -> str:
    """Draw the windows that a row falls into, and show when it is too late for them.

    Needs no session. `sparkstream windows explain` prints the same text.

    Args:
        length: the length of the windows, as in `tumbling`.
        slide: the time from the start of one window to the next, as in `sliding`.
            Default: `length`.
        watermark: the delay, as in `with_watermark`; without it no window closes.
        at: when the row happened, in UTC: "2026-01-14 12:47:30", "12:47" (of an example
            day) or a `datetime`.
            Default: an example.
        offset: the shift of the windows, as in `tumbling`.

    Returns:
        Lines of at most 80 characters. The row is drawn as x, and a window as [---); it
        closes at the | to the right of it, or later than the > there.

    Raises:
        InvalidInputError: an argument that `sliding` or `with_watermark` refuses, or a
            time that cannot be read.

    Examples:
        >>> text = explain(length="1 hour", slide="30 minutes", watermark="10 minutes", at="12:47")
        >>> for line in text.splitlines()[2:9]:
        ...     print(line)
        row                                                   x
        2026-01-14 12:00:00 to 13:00:00  [--------------------------)...|
        2026-01-14 12:30:00 to 13:30:00                [-------------------------)....|
        <BLANKLINE>
        It falls in 2 windows. Each closes when the query has seen a row this new:
          2026-01-14 12:00:00 to 13:00:00   2026-01-14 13:10:00
          2026-01-14 12:30:00 to 13:30:00   2026-01-14 13:40:00
    """
    check(explain, locals())
    from sparkstream_kit._internal import timeline

    return timeline.explain(length, slide, watermark, at, offset)


def flatten(df: DataFrame, column: str = "window") -> DataFrame:
    """Replace a window column, in its position, by the plain columns `start` and `end`.

    On a stream with a watermark, `end` keeps it (as `window` does), so that a later
    aggregation over `end` or a deduplication can still run in append mode. To aggregate
    windows into longer windows, do so before you flatten (`tumbling("window", "1
    hour")`): the `end` of the last window of an hour is in the next hour.

    Args:
        df: static or streaming.
        column: the window column; `session` names it "session_window".

    Returns:
        The same rows, with the timestamps `start` and `end` in place of the window. All
        other columns and their order are kept. In a function of a pipeline that reads a
        table, where its columns are not known, `start` and `end` come first.

    Raises:
        InvalidInputError: there is no such column, it is not a window, or `start` or
            `end` already exists.

    Examples:
        In a session::

            counts = sales.groupBy(tumbling("time", "1 hour"), "key").count()
            flatten(counts)  # start, end, key, count
    """
    check(flatten, locals())
    from sparkstream_kit._internal.spark.shapes import UNKNOWN, is_known

    column = columns.find_column(df, column)
    shape = columns.shape_of(df)
    field = shape.find(column) or T.StructField(column, UNKNOWN)
    kind = field.dataType.simpleString()
    if is_known(field.dataType) and not re.fullmatch(_WINDOW, kind):
        raise InvalidInputError(
            f"flatten(): column {column} is {kind}, not a window; give the column of"
            " tumbling, sliding or session"
        )
    others = [name for name in shape.names if name != column]
    columns.refuse_taken(others, ("start", "end"), "flatten()")
    # The fields of a struct lose the watermark. Only `end` may get it back: Spark
    # allows one event-time column, and by `start` it would treat the rows of a window
    # that has just closed as late and drop them.
    window = named(column)
    start = window["start"].alias("start")
    end = window["end"].alias("end", metadata=columns.watermark_of(field))
    if not shape.is_whole:
        return df.select(start, end, columns.all_but([column]))
    selected = []
    for name in shape.names:
        if name == column:
            selected += [start, end]
        else:
            selected.append(named(name))
    return df.select(*selected)


def top(
    n: int, *, by: str, each: Sequence[str] = ()
) -> Callable[[DataFrame], DataFrame]:
    """Keep each batch's `n` rows with the highest `by`, for a sink that works by batch.

    Spark cannot sort a stream, but it can sort each batch. If a query aggregates in
    mode complete, a batch is the whole result, so its top is kept:
    `sinks.latest("trends").taking(windows.top(10, by="count"))`.

    Args:
        n: how many rows to keep, at least 1.
        by: the column to rank by; null is lowest, and NaN is above all numbers.
        each: columns to group by, such as ["start"]: `n` rows are kept for each of
            their values. Default: `n` rows in all.

    Returns:
        A function of a DataFrame, static or one batch of a stream. It returns rows of
        the same columns, ordered by `each`, then by `by` from the highest. Ties are
        ordered by the other columns (maps and variants have no order), so that a
        replayed batch gives the same rows.

    Raises:
        InvalidInputError: `n` is less than 1. The returned function raises it for a
            column that does not exist or has no order.

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
        ranked_by, *within = (columns.find_column(batch, name) for name in (by, *each))
        shape = columns.shape_of(batch)
        for field in map(shape.find, (ranked_by, *within)):
            if field is not None and not _has_order(field.dataType):
                raise InvalidInputError(
                    f"top(): column {field.name} is {field.dataType.simpleString()},"
                    " which has no order; give another column"
                )
        chosen = (ranked_by, *within)
        others = [field for field in shape.fields if field.name not in chosen]
        ties = [named(field.name) for field in others if _has_order(field.dataType)]
        added = []
        if not shape.is_whole:
            batch = batch.select("*", F.struct("*").alias(_TIES))
            ties = [F.col(_TIES)]
            added.append(_TIES)
        order = [named(ranked_by).desc_nulls_last(), *ties]
        if not within:
            highest = batch.orderBy(*order).limit(n)
        else:
            groups = [named(name) for name in within]
            number = F.row_number().over(Window.partitionBy(*groups).orderBy(*order))
            numbered = batch.select("*", number.alias(_NUMBER))
            added.append(_NUMBER)
            highest = numbered.where(F.col(_NUMBER) <= n).orderBy(*groups, _NUMBER)
        return highest.select(columns.all_but(added)) if added else highest

    return keep


def _has_order(kind: T.DataType) -> bool:
    """Return whether Spark can sort by a column of this type."""
    return not columns.holds(kind, T.MapType, T.VariantType)


def _interval(microseconds: int) -> str:
    return f"{microseconds} microseconds"
