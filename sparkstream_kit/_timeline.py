"""Windows, rows and a watermark drawn as text on one axis of time; nothing here needs Spark."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

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
