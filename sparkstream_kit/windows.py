"""Event-time windows as plain Columns with checked arguments, for batch and streaming alike.

The rules are those of the Structured Streaming guide, "Window Operations on Event Time".
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType, TimestampNTZType, TimestampType

from sparkstream_kit._arguments import check, said
from sparkstream_kit.errors import InvalidInputError, hint

__all__ = ["flatten", "session", "sliding", "to_microseconds", "tumbling"]

_Duration = str | timedelta

_MICROSECONDS = {
    "microsecond": 1,
    "millisecond": 10**3,
    "second": 10**6,
    "minute": 60 * 10**6,
    "hour": 3600 * 10**6,
    "day": 86_400 * 10**6,
    "week": 7 * 86_400 * 10**6,
}
_NO_FIXED_LENGTH = ("month", "quarter", "year")
_LONGEST = 2**63 - 1  # Spark holds an interval as a 64-bit number of microseconds, about 292,000 years
_WATERMARK = "spark.watermarkDelayMs"  # EventTimeWatermark.delayKey: how Spark marks the event-time column


def tumbling(time: str | Column, length: _Duration, *, offset: _Duration | None = None) -> Column:
    """Return the window of `length` that a row's time falls into; windows touch and never overlap.

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

    Example:
        >>> tumbling("time", "10 s")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: cannot read length '10 s'; write it like '10 seconds', ...
    """
    check(tumbling, locals())
    size = _positive("length", length)
    shift = _offset(offset, "length", length, size)
    return F.window(time, _interval(size), _interval(size), _interval(shift))


def sliding(
    time: str | Column, length: _Duration, slide: _Duration, *, offset: _Duration | None = None
) -> Column:
    """Return the windows of `length`, one every `slide`, that a row's time falls into.

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

    Example:
        >>> sliding("time", "10 seconds", "20 seconds")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: slide 20 seconds is longer than length 10 seconds: rows ...
    """
    check(sliding, locals())
    size, step = _positive("length", length), _positive("slide", slide)
    if step > size:
        raise InvalidInputError(
            f"slide {slide} is longer than length {length}: rows between windows would be lost; "
            "give a shorter slide"
        )
    shift = _offset(offset, "slide", slide, step)
    return F.window(time, _interval(size), _interval(step), _interval(shift))


def session(time: str | Column, gap: _Duration) -> Column:
    """Return the session that a row's time falls into: a run of rows less than `gap` apart.

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

    Example:
        >>> session("time", "0 seconds")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: gap must be longer than zero, not 0 seconds
    """
    check(session, locals())
    return F.session_window(time, _interval(_positive("gap", gap)))


def flatten(df: DataFrame, column: str = "window") -> DataFrame:
    """Return `df` with its window column replaced, in its place, by the columns `start` and `end`.

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

    Example:
        In a session::

            flatten(sales.groupBy(tumbling("time", "1 hour"), "key").count())  # start, end, key, count
    """
    check(flatten, locals())
    if column not in df.columns:
        windows = ", ".join(f.name for f in df.schema if _is_window(f.dataType))
        known = f"; the window columns are: {windows or 'none'}"
        raise InvalidInputError(f"there is no column {column}{hint(column, df.columns) or known}")
    field = df.schema[column]
    if not _is_window(field.dataType):
        raise InvalidInputError(
            f"column {column} is {field.dataType.simpleString()}, not a window; "
            "flatten takes what tumbling, sliding or session made"
        )
    others = [name for name in df.columns if name != column]
    taken = [name for name in others if name.lower() in ("start", "end")]  # Spark's names have no case
    if taken:
        raise InvalidInputError(
            f"column {taken[0]} exists already; rename or drop it, because flatten() adds start and end"
        )
    # A struct's fields lose the watermark. Only `end` may have it back: Spark allows one event-time column,
    # and by `start` it would take the rows of a window that has just closed for late ones and drop them.
    watermark = {k: v for k, v in field.metadata.items() if k == _WATERMARK}
    window = F.col(_quoted(column))
    parts = [window["start"].alias("start"), window["end"].alias("end", metadata=watermark)]
    return df.select(*(c for n in df.columns for c in (parts if n == column else [F.col(_quoted(n))])))


def _positive(what: str, duration: _Duration) -> int:
    size = to_microseconds(what, duration)
    if size <= 0:
        raise InvalidInputError(f"{what} must be longer than zero, not {duration}")
    return size


def _offset(offset: _Duration | None, what: str, step: _Duration, step_size: int) -> int:
    """Check Spark's rule that |offset| is less than the step from window to window."""
    shift = 0 if offset is None else to_microseconds("offset", offset)
    if abs(shift) >= step_size:
        raise InvalidInputError(
            f"offset {offset} must be shorter than {what} {step}; "
            f"subtract the {what} until it is: the windows stay the same"
        )
    return shift


def to_microseconds(what: str, duration: _Duration) -> int:
    """Read a duration exactly, by the part of Spark's interval grammar that has a fixed length.

    Args:
        what: what the duration is, for the message.
        duration: such as "10 seconds", "1 hour 30 minutes" or a `timedelta`.

    Raises:
        InvalidInputError: it cannot be read, or its length is not fixed, such as that of a month.

    Example:
        >>> to_microseconds("size", "1 hour 30 minutes")
        5400000000
    """
    check(to_microseconds, locals())
    if not isinstance(duration, str | timedelta):
        raise InvalidInputError(
            f"{what} is {said(duration)}; give a duration, such as '10 seconds' or timedelta(seconds=10)"
        )
    wrong = InvalidInputError(
        f"cannot read {what} {duration!r}; write it like '10 seconds', '1 hour 30 minutes', '0.5 seconds' "
        "or timedelta(seconds=10)"
    )
    if isinstance(duration, timedelta):
        total = duration // timedelta(microseconds=1)
    else:
        words = duration.lower().removeprefix("interval ").split()
        if not words or len(words) % 2:
            raise wrong
        total = 0
        for number, name in zip(words[::2], words[1::2], strict=True):
            unit = name.removesuffix("s")
            if unit in _NO_FIXED_LENGTH:
                raise InvalidInputError(f"{what} {duration}: a {unit} has no fixed length; write it in days")
            fraction = r"(\.\d{1,6})?" if unit == "second" else ""  # as in Spark, and nothing finer is kept
            if unit not in _MICROSECONDS or not re.fullmatch(r"[+-]?\d{1,19}" + fraction, number, re.ASCII):
                raise wrong
            total += int(Decimal(number) * _MICROSECONDS[unit])
    if abs(total) > _LONGEST:
        raise InvalidInputError(f"{what} {duration} is too long; Spark's longest is {_LONGEST} microseconds")
    return total


def _interval(microseconds: int) -> str:
    return f"{microseconds} microseconds"


def _is_window(dtype: DataType) -> bool:
    return (
        isinstance(dtype, StructType)
        and dtype.names == ["start", "end"]
        and all(isinstance(f.dataType, (TimestampType, TimestampNTZType)) for f in dtype)
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
