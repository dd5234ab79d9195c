"""Windows, rows and a watermark drawn as text on one axis of time; nothing here needs Spark.

Windows and the watermark explained for one row, in text; nothing here needs Spark.
"""

from __future__ import annotations

import textwrap
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from sparkstream_kit._durations import MICROSECONDS, Duration, delay_of, sizes, to_microseconds
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence


EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all times here are without a zone, in UTC
MICROSECOND, MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
_STEPS = (
    *(MICROSECOND * factor * 10**power for power in range(6) for factor in (1, 2, 5)),
    *(SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(HOUR * number for number in (1, 2, 3, 6, 12)),
    *(DAY * number for number in (1, 2)),
    *(WEEK * number for number in (1, 2, 4, 13, 26, 52, 260, 520, 5200, 52_000)),
)
WIDTH = 80
_MARKS_SHOWN = 6  # windows at each end of many, and labels of rows
_WIDEST_LABEL = 36
_DATE = len("2026-01-14  ")
_LONGEST_AXIS = 64
_MOST_COUNTED = 9


@dataclass(frozen=True)
class Span:
    """A window to draw: from `start` to `end`, and perhaps when it closes."""

    label: str
    start: datetime
    end: datetime
    closes: datetime | None = None


@dataclass(frozen=True)
class Mark:
    """A row to draw; those of one label share a line."""

    label: str
    time: datetime
    late: bool = False


def draw(
    spans: Sequence[Span],
    marks: Sequence[Mark] = (),
    *,
    watermark: datetime | None = None,
    dated: bool = True,
) -> str:
    """Draw windows, rows and a watermark under one axis of time.

    A window is `[---)`, with `...|` up to the time that closes it, or `...>` if that is far off. A row is x,
    a late one is !, a digit is that many rows in one place, and + is more than nine. A row far from
    everything else is < or > at the edge, with its time. Of many windows the first and the last are drawn.

    Args:
        spans: the windows, one line each.
        marks: the rows; those of one label share a line.
        watermark: drawn as ^ below the rest.
        dated: say of which day the times are.

    Returns:
        Lines of text; an empty one if there is nothing to draw.

    Example:
        >>> noon = datetime(2026, 1, 14, 12)
        >>> rows = [Mark("tea", noon + timedelta(minutes=n), late=n == 10) for n in (10, 70, 110)]
        >>> hours = [Span(f"{12 + n} h", noon + n * HOUR, noon + (n + 1) * HOUR) for n in (0, 1)]
        >>> print(draw(hours, rows, watermark=noon + timedelta(minutes=100)))
        2026-01-14  12:00   12:15   12:30   12:45   13:00  13:15   13:30   13:45   14:00
                    |-------|-------|-------|-------|------|-------|-------|-------|
        tea              !                               x                    x
        12 h        [-------------------------------)
        13 h                                        [------------------------------)
        watermark                                                       ^ 13:40
    """
    times = _times_on_axis(spans, marks, watermark)
    if not times:
        return ""
    labels = [span.label for span in spans] + [mark.label for mark in marks] + ["watermark"] * bool(watermark)
    gutter = max(min(max(map(len, labels)), _WIDEST_LABEL) + 2, _DATE if dated else 0)
    axis = _Axis(min(times), max(times), min(WIDTH - gutter - 1, _LONGEST_AXIS), dated=dated)
    lines: list[str] = []

    def add(label: str, drawn: str) -> None:
        short = label if len(label) <= _WIDEST_LABEL else label[: _WIDEST_LABEL - 1] + "…"
        lines.append(f"{short:<{gutter}}{drawn}"[:WIDTH].rstrip())

    clocks, ticks = axis.lines(WIDTH - gutter)
    add(f"{axis.first:%Y-%m-%d}" if dated else "", clocks)
    add("", ticks)
    rows: dict[str, list[Mark]] = {}
    for mark in marks:
        rows.setdefault(mark.label, []).append(mark)
    for label, drawn in _some([(label, axis.rows(each)) for label, each in rows.items()]):
        add(label, drawn)
    for label, drawn in _some([(span.label, axis.span(span)) for span in spans]):
        add(label, drawn)
    if watermark is not None:
        text = axis.says(watermark)
        place = axis.column(watermark)
        after = place + 2 + len(text) <= WIDTH - gutter
        add("watermark", " " * place + f"^ {text}" if after else " " * (place - len(text) - 1) + f"{text} ^")
    return "\n".join(lines)


def _times_on_axis(
    spans: Sequence[Span], marks: Sequence[Mark], watermark: datetime | None
) -> list[datetime]:
    """Return the times that the axis covers: the windows, and what is not far from them."""
    rows = [mark.time for mark in marks] + ([] if watermark is None else [watermark])
    times = [moment for span in spans for moment in (span.start, span.end)]
    if not times:
        return rows
    first, last = min(times), max(times)
    others = rows + [span.closes for span in spans if span.closes is not None]
    near = [other for other in others if max(first - other, other - last) <= last - first]
    return [*times, *near] if len(near) == len(others) else [*times, *near, last + (last - first) / 4]


def _some(lines: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the lines, or the first and the last of them with the number of the others."""
    if len(lines) <= 2 * _MARKS_SHOWN:
        return list(lines)
    return [*lines[:_MARKS_SHOWN], (f"… {len(lines) - 2 * _MARKS_SHOWN:,} more", ""), *lines[-_MARKS_SHOWN:]]


class _Axis:
    """An axis from one time to another, on so many columns."""

    def __init__(self, first: datetime, last: datetime, columns: int, *, dated: bool) -> None:
        self.first, self.last = first, last
        self._columns, self._dated = columns, dated
        self._span = max(last - first, MICROSECOND)
        for step in _STEPS:
            self._step = step
            if self._columns * (step / self._span) >= len(self.says(first)) + 2:
                break

    def says(self, moment: datetime) -> str:
        """Return a time as exactly as the axis shows it."""
        if not self.holds(moment):
            return moment.isoformat(" ", "seconds")
        if self._step >= DAY:
            return moment.strftime("%m-%d" if self._span < WEEK * 26 else "%Y-%m-%d")
        if self._dated and self._span >= DAY and moment.time() == time(0):
            return moment.strftime("%m-%d")
        if self._step >= MINUTE and not moment.second:
            return moment.strftime("%H:%M")
        exact = "seconds" if self._step >= SECOND else "milliseconds"
        return moment.time().isoformat(exact if self._step >= MILLISECOND else "microseconds")

    def holds(self, moment: datetime) -> bool:
        """Say whether a time is on the axis."""
        return self.first <= moment <= self.last

    def column(self, moment: datetime) -> int:
        """Return the column of a time, or that of the nearer end."""
        inside = min(max(moment, self.first), self.last)
        return round((self._columns - 1) * ((inside - self.first) / self._span))

    def lines(self, width: int) -> tuple[str, str]:
        """Return the line of times and that of ticks."""
        labels, ticks = "", ["-"] * self._columns
        moment = self.first + (EPOCH - self.first) % self._step
        while moment <= self.last:
            place = self.column(moment)
            ticks[place] = "|"
            text = self.says(moment)
            if len(labels) <= place <= width - len(text):
                labels = f"{labels:<{place}}{text} "
            moment += self._step
        return labels.rstrip(), "".join(ticks)

    def rows(self, marks: Sequence[Mark]) -> str:
        """Return the line of the rows of one label."""
        places = [" "] * self._columns
        inside = sorted((mark for mark in marks if self.holds(mark.time)), key=lambda mark: mark.time)
        for place, at_place in groupby(inside, lambda mark: self.column(mark.time)):
            here = list(at_place)
            number = str(len(here)) if len(here) <= _MOST_COUNTED else "+"
            places[place] = "!" if any(mark.late for mark in here) else "x" if len(here) == 1 else number
        for mark in marks:
            if not self.holds(mark.time):
                text = mark.time.isoformat(" ", "seconds")
                before = mark.time < self.first
                shown = f"< {text} " if before else f" {text} >"
                edge = slice(len(shown)) if before else slice(-len(shown), None)
                if "".join(places[edge]).strip():  # no room for the time
                    shown, edge = ("<", slice(1)) if before else (">", slice(-1, None))
                places[edge] = list(shown)
        return "".join(places)

    def span(self, span: Span) -> str:
        """Return the line of a window."""
        start, end = self.column(span.start), self.column(span.end)
        drawn = " " * start + "[" + "-" * (end - start - 1) + ")"
        if span.closes is None:
            return drawn
        return drawn.ljust(self.column(span.closes), ".") + ("|" if span.closes <= self.last else ">")


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
