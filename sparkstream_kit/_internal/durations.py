"""Thin: durations as microseconds, with errors that name the argument; a share of the time."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from sparkstream_kit._internal.arguments import said
from sparkstream_kit.errors import InvalidInputError, hint

if TYPE_CHECKING:
    from collections.abc import Iterator

Duration = str | timedelta

_MICRO = timedelta(microseconds=1)
MICROSECONDS = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "minute": 60 * 1_000_000,
    "hour": 3600 * 1_000_000,
    "day": 86_400 * 1_000_000,
    "week": 7 * 86_400 * 1_000_000,
}
# The units of the calendar, each with the most days that one has. That many days after
# its first day is a day of the next one.
UNITS = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}
_MOST_DAYS = 3_652_059  # those of all years that Spark's timestamps have, 1 to 9999
_LONGEST = _MOST_DAYS * MICROSECONDS["day"]
_NO_FIXED_LENGTH = ("month", "quarter", "year")


def positive(what: str, duration: Duration) -> int:
    """Read a duration that must be longer than zero, in microseconds."""
    size = to_microseconds(what, duration)
    if size <= 0:
        raise InvalidInputError(f"{what} must be longer than zero, not {duration}")
    return size


def not_negative(what: str, duration: Duration) -> int:
    """Read a duration of zero or longer, in microseconds."""
    size = to_microseconds(what, duration)
    if size < 0:
        raise InvalidInputError(f"{what} must be zero or longer, not {duration}")
    return size


def delay_of(what: str, duration: Duration) -> int:
    """Read the delay of a watermark in microseconds; less than 1 ms is refused.

    Spark counts the delay in milliseconds.
    """
    size = to_microseconds(what, duration)
    if size < MICROSECONDS["millisecond"]:
        raise InvalidInputError(
            f"{what} is {duration}; with less than a millisecond Spark drops the rows"
            " that are as new as the newest; give '1 millisecond', or how late rows"
            " may be, such as '10 minutes'"
        )
    return size


def sizes(
    length: Duration, slide: Duration | None, offset: Duration | None
) -> tuple[int, int, int]:
    """Read the length of windows, the step between their starts, and the offset.

    All three are in microseconds.

    Raises:
        InvalidInputError: one of them cannot be read or does not fit the others, by
            Spark's rules.
    """
    size = positive("length", length)
    what, given = "length", length
    if slide is not None:
        what, given = "slide", slide
    step = positive(what, given)
    if step > size:
        raise InvalidInputError(
            f"slide {slide} is longer than length {length}: rows between windows would"
            " be lost; give a shorter slide"
        )
    shift = 0
    if offset is not None:
        shift = to_microseconds("offset", offset)
    if abs(shift) >= step:
        raise InvalidInputError(
            f"offset {offset} must be shorter than {what} {given}; "
            f"subtract the {what} until it is: the windows stay the same"
        )
    return size, step, shift


def unknown_zone(zone: str) -> InvalidInputError:
    """Return the error for a zone unknown to Spark or Python, with the nearest name."""
    near = hint(zone, available_timezones() - {zone}) or "; write it like Europe/Berlin"
    return InvalidInputError(f"unknown time zone {zone!r}{near}")


def to_microseconds(what: str, duration: Duration) -> int:
    """Read a duration exactly, in the part of Spark's interval grammar that has a fixed length.

    Args:
        what: the name of the duration in messages: the argument in which the user gave
            it.
        duration: such as "10 seconds", "1 hour 30 minutes" or a `timedelta`.

    Returns:
        The length in microseconds; negative for a negative duration.

    Raises:
        InvalidInputError: the duration is of another type, cannot be read, has no fixed
            length, such as a month, or is longer than all years that Spark's timestamps
            have.

    Examples:
        >>> to_microseconds("size", "1 hour 30 minutes")
        5400000000
    """
    if isinstance(duration, timedelta):
        size = duration // _MICRO
    elif isinstance(duration, str):
        size = _read(what, duration)
    else:
        raise InvalidInputError(
            f"{what} is {said(duration)}; give a duration, such as '10 seconds' or"
            " timedelta(seconds=10)"
        )
    if abs(size) > _LONGEST:
        raise InvalidInputError(
            f"{what} {duration} is too long; the longest is {_MOST_DAYS} days"
        )
    return size


@lru_cache
def _read(what: str, duration: str) -> int:
    wrong = InvalidInputError(
        f"cannot read {what} {duration!r}; write it like '10 seconds', '1 hour 30"
        " minutes', '0.5 seconds' or timedelta(seconds=10)"
    )
    words = duration.lower().removeprefix("interval ").split()
    if not words or len(words) % 2:
        raise wrong
    total = 0
    for number, name in zip(words[::2], words[1::2], strict=True):
        unit = name.removesuffix("s")
        if unit in _NO_FIXED_LENGTH:
            raise InvalidInputError(
                f"{what} {duration}: a {unit} has no fixed length; write it in days"
            )
        pattern = r"[+-]?\d{1,19}"
        if unit == "second":
            pattern += r"(\.\d{1,6})?"  # as in Spark, which keeps microseconds
        if unit not in MICROSECONDS or not re.fullmatch(pattern, number, re.ASCII):
            raise wrong
        total += int(Decimal(number) * MICROSECONDS[unit])
    return total


class FiftiethOfTheTime:
    """Says when to do again what costs time, so that it takes at most 1/50 of the time.

    Examples:
        >>> looks = FiftiethOfTheTime()
        >>> looks.is_due()
        True
        >>> with looks.taken():
        ...     _ = sorted(range(100_000))
        >>> looks.is_due()
        False
    """

    def __init__(self) -> None:
        self._next = 0.0  # when it is due again, by `monotonic`

    def is_due(self) -> bool:
        """Return whether it may be done again."""
        return monotonic() >= self._next

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Measure the block, which does it."""
        begin = monotonic()
        yield
        end = monotonic()
        self._next = end + 50 * (end - begin)
