"""Windows and the watermark explained for one row, in text; nothing here needs Spark."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from sparkstream_kit._durations import MICROSECONDS, Duration, delay_of, sizes, to_microseconds
from sparkstream_kit._timeline import (
    DAY,
    EPOCH,
    MICROSECOND,
    MILLISECOND,
    MINUTE,
    SECOND,
    WEEK,
    WIDTH,
    Mark,
    Span,
    draw,
)
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 8  # windows
_SOME_DAY = datetime(2026, 1, 14)  # noqa: DTZ001


def explain(
    length: Duration,
    slide: Duration | None = None,
    watermark: Duration | None = None,
    at: str | datetime | None = None,
    offset: Duration | None = None,
) -> str:
    """Say which windows a row falls in, when each closes, and when the row is too late; `windows.explain`."""
    numbers = sizes(length, slide, offset)
    behind = None if watermark is None else delay_of("watermark", watermark)
    try:
        size, step, shift = (MICROSECOND * number for number in numbers)
        row, dated = _moment(at, step, length if slide is None else slide)
        delay = None if behind is None else MICROSECOND * behind
        count, windows = _windows(row, size, step, shift)
        late = None if delay is None else row + delay
        spans = [Span("", *window, None if delay is None else window[1] + delay) for window in windows]
    except OverflowError:
        raise InvalidInputError(
            f"windows of {length} reach out of the years 1 to 9999; give shorter ones, or another time"
        ) from None
    says = _Says([row, late or row, *(each for window in windows for each in window)], dated=dated)
    spans = [replace(span, label=says.span(span.start, span.end)) for span in spans]
    every = "" if slide is None else f" that start every {_words(slide)}"
    lines = [*_wrapped(f"A row of {says(row)} in windows of {_words(length)}{every}:"), ""]
    lines += [draw(spans, [Mark(f"row {says(row, day=False)}", row)], dated=dated), ""]
    lines += _listed(count, spans, says)
    lines += ["", *_rules(says(row), None if late is None else says(late), watermark)]
    if not step % WEEK and not shift:
        lines += [
            "",
            *_wrapped(
                "Spark counts windows from 1970-01-01, a Thursday: weeks start on Thursdays, and with an "
                "offset of 4 days on Mondays."
            ),
        ]
    return "\n".join(lines)


def _windows(
    row: datetime, size: timedelta, step: timedelta, shift: timedelta
) -> tuple[int, list[tuple[datetime, datetime]]]:
    """Return in how many windows a row falls, and these in their order: of many, the first and the last."""
    newest = row - (row - EPOCH - shift) % step
    count = -(-(size - (row - newest)) // step)
    back = range(count - 1, -1, -1)
    shown = [*back] if count <= _SHOWN else [*back[: _SHOWN // 2], *back[-_SHOWN // 2 :]]
    starts = [newest - number * step for number in shown]
    return count, [(start, start + size) for start in starts]


def _listed(count: int, spans: Sequence[Span], says: _Says) -> list[str]:
    """Return the lines that name the windows and say when each closes."""
    falls = f"It falls in {count:,} windows" if count > 1 else "It falls in 1 window"
    head = f"{falls}:"
    if spans[0].closes is not None:
        head = f"{falls}. {'Each' if count > 1 else 'It'} closes when the query has seen a row this new:"
    listed = []
    for span in spans:
        closes = "" if span.closes is None else says(span.closes)
        line = f"  {span.label}   {closes}".rstrip()
        listed.append(line if len(line) <= WIDTH else f"  {span.label}\n    {closes}")
    if count > len(spans):
        listed.insert(len(spans) // 2, f"  … {count - len(spans):,} more")
    return [head, *listed]


def _rules(row: str, late: str | None, watermark: Duration | None) -> list[str]:
    """Return what Spark does with windows and with late rows, in lines."""
    if watermark is None:
        return _wrapped(
            "Without a watermark no window ever closes and no row is late: Spark keeps all of them in its "
            "state, and refuses mode append. Times are in UTC; a window's end belongs to the next one."
        )
    return _wrapped(
        f"The watermark of a batch is the newest time that earlier batches saw, less {_words(watermark)}. "
        "When it reaches a window's end, the window closes: mode append writes its result, and Spark drops "
        f"rows that come for it later. A row of {row} is late once a row of {late} has been seen; until its "
        "windows close it still counts in them. In mode complete no window closes and no row is late. Times "
        "are in UTC; a window's end belongs to the next one."
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


class _Says:
    """Writes times, all to the same unit, and with their days where these are known."""

    def __init__(self, times: Sequence[datetime], *, dated: bool) -> None:
        self._day, self._dated = times[0].date(), dated
        self._whole_days = dated and not any((each - EPOCH) % DAY for each in times[2:])
        units = (("minutes", MINUTE), ("seconds", SECOND), ("milliseconds", MILLISECOND))
        exact = (name for name, unit in units if not any((each - EPOCH) % unit for each in times))
        self._unit = next(exact, "microseconds")

    def __call__(self, moment: datetime, *, day: bool = True) -> str:
        clock = moment.time().isoformat(self._unit)
        if self._dated:
            return f"{moment.date()} {clock}" if day else clock
        days = (moment.date() - self._day).days
        where = {0: "", -1: " the day before", 1: " the next day"}
        return clock + where.get(days, f" {abs(days)} days {'earlier' if days < 0 else 'later'}") * day

    def span(self, start: datetime, end: datetime) -> str:
        """Return how a window is called."""
        if self._whole_days:
            return f"{start.date()} to {end.date()}"
        if not self._dated:
            return f"{self(start, day=False)} to {self(end, day=False)}"
        return f"{self(start)} to {self(end, day=start.date() != end.date())}"


def _words(duration: Duration) -> str:
    """Return a duration as it was written, or in words."""
    if isinstance(duration, str):
        return " ".join(duration.lower().removeprefix("interval ").split())
    parts, rest = [], to_microseconds("duration", duration)
    for name, unit in reversed(MICROSECONDS.items()):
        number, rest = divmod(rest, unit)
        if number:
            parts.append(f"{number} {name}{'s' * (number > 1)}")
    return " ".join(parts)


def _moment(at: str | datetime | None, step: timedelta, said: Duration) -> tuple[datetime, bool]:
    """Return when the row happened, in UTC, and whether its day is known."""
    daily = not DAY % step  # such windows start at the same times each day
    if at is None:
        return _SOME_DAY.replace(hour=12, minute=47), not daily
    given, dated = (at, True) if isinstance(at, datetime) else _read_time(str(at))
    if not dated and not daily:
        raise InvalidInputError(
            f"windows start every {_words(said)}, each day at other times; give the day, too: "
            f"'2026-01-14 {at}'"
        )
    return (given.astimezone(UTC).replace(tzinfo=None) if given.tzinfo else given), dated


def _read_time(text: str) -> tuple[datetime, bool]:
    """Return a time, and whether its day was given."""
    with suppress(ValueError):
        return datetime.combine(_SOME_DAY, time.fromisoformat(text)), False
    with suppress(ValueError):
        return datetime.fromisoformat(text), True
    raise InvalidInputError(f"cannot read the time {text!r}; write it like '12:47' or '2026-01-14 12:47:30'")
