"""Extra: windows drawn as text, for `windows.explain`; needs no Spark."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sparkstream_kit._internal.durations import Duration, delay_of, sizes
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all times in this module are in UTC, without a time zone
_WEEK = timedelta(weeks=1)
_WIDTH = 80
_WINDOWS_SHOWN = 8  # of the windows that a row falls into
_ON_WEEKS = (
    "Spark counts windows from 1970-01-01, a Thursday: weeks start on Thursdays, and"
    " with an offset of 4 days on Mondays."
)


def explain(
    length: Duration,
    slide: Duration | None = None,
    watermark: Duration | None = None,
    at: str | datetime | None = None,
    offset: Duration | None = None,
) -> str:
    """Explain which windows a row falls into, when each closes, and when the row is too late.

    This is `windows.explain`, with the same arguments.
    """
    try:
        row = _moment(at)
        delay = None
        if watermark is not None:
            delay = timedelta(microseconds=delay_of("watermark", watermark))
        size, step, shift = (
            timedelta(microseconds=duration)
            for duration in sizes(length, slide, offset)
        )
        count, windows = _windows(row, size, step, shift)
        drawn = _drawn(row, windows, delay)
    except OverflowError:
        fix = "give shorter ones, or another time"
        raise InvalidInputError(
            f"windows of {length} reach out of the years 1 to 9999; {fix}"
        ) from None
    every = "" if slide is None else f" that start every {slide}"
    paragraphs = [
        _wrapped(f"A row of {row} in windows of {length}{every}:"),
        drawn,
        _listed(count, windows, delay),
        _rules(row, delay, watermark),
    ]
    are_weeks = step % _WEEK == timedelta(0)
    if are_weeks and shift == timedelta(0):
        paragraphs.append(_wrapped(_ON_WEEKS))
    return "\n\n".join("\n".join(lines) for lines in paragraphs)


def _windows(
    row: datetime, size: timedelta, step: timedelta, shift: timedelta
) -> tuple[int, list[tuple[datetime, datetime]]]:
    """Return how many windows a row is in, and the windows; of many, only both ends."""
    newest_start = row - (row - _EPOCH - shift) % step
    rest_of_newest = size - (row - newest_start)
    count = -(-rest_of_newest // step)  # rounded up
    oldest_start = newest_start - (count - 1) * step
    numbers: Sequence[int] = range(count)
    half = _WINDOWS_SHOWN // 2
    if count > _WINDOWS_SHOWN:
        numbers = [*numbers[:half], *numbers[-half:]]
    starts = [oldest_start + number * step for number in numbers]
    return count, [(start, start + size) for start in starts]


def _drawn(
    row: datetime, windows: Sequence[tuple[datetime, datetime]], delay: timedelta | None
) -> list[str]:
    """Draw a row and its windows, each up to when it closes if that is not far away."""
    first = windows[0][0]
    last = windows[-1][1]
    if delay is not None:
        last += min(delay, last - first)
    gutter = max(len(_window(start, end)) for start, end in windows) + 2
    width = _WIDTH - gutter - 2

    def place(moment: datetime) -> int:
        return round(width * ((min(moment, last) - first) / (last - first)))

    lines = [f"{'row':<{gutter}}{' ' * place(row)}x"]
    for start, end in windows:
        drawn = " " * place(start) + "[" + "-" * (place(end) - place(start) - 1) + ")"
        if delay is not None:
            closes = end + delay
            drawn = drawn.ljust(place(closes), ".")
            drawn += "|" if closes <= last else ">"
        lines.append(f"{_window(start, end):<{gutter}}{drawn}")
    return lines


def _window(start: datetime, end: datetime) -> str:
    """Return a window as text, such as "2026-01-14 12:00:00 to 13:00:00"."""
    if start.date() == end.date():
        return f"{start} to {end.time()}"
    return f"{start} to {end}"


def _listed(
    count: int, windows: Sequence[tuple[datetime, datetime]], delay: timedelta | None
) -> list[str]:
    """Return the lines that list the windows and when each closes."""
    if count == 1:
        falls = "It falls in 1 window"
        subject = "It"
    else:
        falls = f"It falls in {count:,} windows"
        subject = "Each"
    if delay is None:
        head = f"{falls}:"
    else:
        head = f"{falls}. {subject} closes when the query has seen a row this new:"
    listed = []
    for start, end in windows:
        window = f"  {_window(start, end)}"
        closes = "" if delay is None else f"{end + delay}"
        line = f"{window}   {closes}".rstrip()
        if len(line) > _WIDTH:
            line = f"{window}\n    {closes}"
        listed.append(line)
    if count > len(windows):
        listed.insert(len(windows) // 2, f"  … {count - len(windows):,} more")
    return [head, *listed]


def _rules(
    row: datetime, delay: timedelta | None, watermark: Duration | None
) -> list[str]:
    """Return lines about what Spark does with windows and late rows."""
    if delay is None:
        return _wrapped(
            "Without a watermark no window ever closes and no row is late: Spark keeps"
            " all of them in its state, and refuses mode append. Times are in UTC; a"
            " window's end belongs to the next one."
        )
    return _wrapped(
        "The watermark of a batch is the newest time that earlier batches saw, less"
        f" {watermark}. When it reaches a window's end, the window closes: mode append"
        " writes its result, and Spark drops rows that come for it later. A row of"
        f" {row} is late once a row of {row + delay} has been seen; until its windows"
        " close it still counts in them. In mode complete no window closes and no row"
        " is late. Times are in UTC; a window's end belongs to the next one."
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False)


def _moment(at: str | datetime | None) -> datetime:
    """Return the row's time in UTC; without a date it gets an example date."""
    moment = at or "12:47"
    if not isinstance(moment, datetime):
        moment = _parsed(moment)
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def _parsed(text: str) -> datetime:
    """Return a time from text in ISO 8601; one without a date is on an example date."""
    try:
        is_time_alone = text[2:3] == ":"
        return datetime.fromisoformat(f"2026-01-14 {text}" if is_time_alone else text)
    except (TypeError, ValueError):
        fix = "write it like '12:47' or '2026-01-14 12:47:30'"
        raise InvalidInputError(f"cannot read the time {text!r}; {fix}") from None
