"""Extra: a small result for people: a table, bars, a live picture in the terminal, a chart.

`table` and `bars` return text; `show` shows a DataFrame in a terminal or a notebook; `render` returns one as
a table, CSV or JSON; `live` redraws a picture in the terminal; `chart` makes one with matplotlib. `draw` puts
windows, rows and a watermark on one time axis, as text, for `windows.explain`; it needs no Spark.

In a notebook a table has bars. Its HTML contains no script, and every value is escaped. Its colours are of
medium brightness and all else has the colours of the page, so that it suits light and dark notebooks.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import textwrap
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit._durations import MICROSECONDS, Duration, delay_of, sizes, to_microseconds
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, check_file, printable, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame

__all__ = ["bars", "chart", "check_chart", "live", "render", "show", "table"]


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all times in this module are in UTC, without a time zone
_MICROSECOND, _MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)
_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
_DAY, _WEEK = timedelta(days=1), timedelta(weeks=1)
_STEPS = (
    *(_MICROSECOND * factor * 10**power for power in range(6) for factor in (1, 2, 5)),
    *(_SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(_MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * number for number in (1, 2, 3, 6, 12)),
    *(_DAY * number for number in (1, 2)),
    *(_WEEK * number for number in (1, 2, 4, 13, 26, 52, 260, 520, 5200, 52_000)),
)
_WIDTH = 80
_MARKS_SHOWN = 6  # lines at each end of a long list of windows or of rows; the middle is left out
_WIDEST_LABEL = 36
_DATE = len("2026-01-14  ")
_LONGEST_AXIS = 64
_MOST_COUNTED = 9


@dataclass(frozen=True)
class Span:
    """A window to draw, from `start` to `end`; `closes` is the time at which it closes, if that is known."""

    label: str
    start: datetime
    end: datetime
    closes: datetime | None = None


@dataclass(frozen=True)
class Mark:
    """A row to draw; rows with the same label share a line."""

    label: str
    time: datetime
    late: bool = False


def draw(
    spans: Sequence[Span],
    marks: Sequence[Mark] = (),
    *,
    watermark: datetime | None = None,
) -> str:
    """Draw windows, rows and a watermark below one time axis.

    A window is `[---)`, followed by `...|` up to the time that closes it, or by `...>` if that time is far
    away. A row is x and a late row is !. A digit is the number of rows in one place, and + is more than nine.
    A row far from everything else is < or > at the edge, with its time. If there are many windows, only the
    first and the last are drawn.

    Args:
        spans: the windows, one line each.
        marks: the rows; rows with the same label share a line.
        watermark: a time, drawn as ^ below the rest.

    Returns:
        Lines of text, or an empty string if there is nothing to draw.

    Examples:
        >>> noon = datetime(2026, 1, 14, 12)
        >>> rows = [Mark("tea", noon + timedelta(minutes=n), late=n == 10) for n in (10, 70, 110)]
        >>> hours = [Span(f"{12 + n} h", noon + n * _HOUR, noon + (n + 1) * _HOUR) for n in (0, 1)]
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
    gutter = max(min(max(map(len, labels)), _WIDEST_LABEL) + 2, _DATE)
    axis = _Axis(min(times), max(times), min(_WIDTH - gutter - 1, _LONGEST_AXIS))
    lines: list[str] = []

    def add(label: str, drawn: str) -> None:
        short = label if len(label) <= _WIDEST_LABEL else label[: _WIDEST_LABEL - 1] + "…"
        lines.append(f"{short:<{gutter}}{drawn}"[:_WIDTH].rstrip())

    clocks, ticks = axis.lines(_WIDTH - gutter)
    add(f"{axis.first:%Y-%m-%d}", clocks)
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
        after = place + 2 + len(text) <= _WIDTH - gutter
        add("watermark", " " * place + f"^ {text}" if after else " " * (place - len(text) - 1) + f"{text} ^")
    return "\n".join(lines)


def _times_on_axis(
    spans: Sequence[Span], marks: Sequence[Mark], watermark: datetime | None
) -> list[datetime]:
    """Return the times that the axis covers: those of the windows, and other times near them."""
    rows = [mark.time for mark in marks] + ([] if watermark is None else [watermark])
    times = [moment for span in spans for moment in (span.start, span.end)]
    if not times:
        return rows
    first, last = min(times), max(times)
    others = rows + [span.closes for span in spans if span.closes is not None]
    near = [other for other in others if max(first - other, other - last) <= last - first]
    return [*times, *near] if len(near) == len(others) else [*times, *near, last + (last - first) / 4]


def _some(lines: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return all lines if they are few; otherwise the first and the last, and the number of lines between."""
    if len(lines) <= 2 * _MARKS_SHOWN:
        return list(lines)
    return [*lines[:_MARKS_SHOWN], (f"… {len(lines) - 2 * _MARKS_SHOWN:,} more", ""), *lines[-_MARKS_SHOWN:]]


class _Axis:
    """A time axis, with its first and last time and its width in characters."""

    def __init__(self, first: datetime, last: datetime, columns: int) -> None:
        self.first, self.last, self._columns = first, last, columns
        self._span = max(last - first, _MICROSECOND)
        for step in _STEPS:
            self._step = step
            if self._columns * (step / self._span) >= len(self.says(first)) + 2:
                break

    def says(self, moment: datetime) -> str:
        """Return a time as text, as precisely as the axis shows times."""
        if not self.holds(moment):
            return moment.isoformat(" ", "seconds")
        if self._step >= _DAY:
            return moment.strftime("%m-%d" if self._span < _WEEK * 26 else "%Y-%m-%d")
        if self._span >= _DAY and moment.time() == clock(0):
            return moment.strftime("%m-%d")
        if self._step >= _MINUTE and not moment.second:
            return moment.strftime("%H:%M")
        exact = "seconds" if self._step >= _SECOND else "milliseconds"
        return moment.time().isoformat(exact if self._step >= _MILLISECOND else "microseconds")

    def holds(self, moment: datetime) -> bool:
        """Return whether a time is on the axis."""
        return self.first <= moment <= self.last

    def column(self, moment: datetime) -> int:
        """Return the column of a time; for a time outside the axis, that of the nearer end."""
        inside = min(max(moment, self.first), self.last)
        return round((self._columns - 1) * ((inside - self.first) / self._span))

    def lines(self, width: int) -> tuple[str, str]:
        """Return the line of times and the line of ticks."""
        labels, ticks = "", ["-"] * self._columns
        moment = self.first + (_EPOCH - self.first) % self._step
        while moment <= self.last:
            place = self.column(moment)
            ticks[place] = "|"
            text = self.says(moment)
            if len(labels) <= place <= width - len(text):
                labels = f"{labels:<{place}}{text} "
            moment += self._step
        return labels.rstrip(), "".join(ticks)

    def rows(self, marks: Sequence[Mark]) -> str:
        """Return the line for the rows of one label."""
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
                if "".join(places[edge]).strip():  # rows are drawn where the time would be
                    shown, edge = ("<", slice(1)) if before else (">", slice(-1, None))
                places[edge] = list(shown)
        return "".join(places)

    def span(self, span: Span) -> str:
        """Return the line for a window."""
        start, end = self.column(span.start), self.column(span.end)
        drawn = " " * start + "[" + "-" * (end - start - 1) + ")"
        if span.closes is None:
            return drawn
        return drawn.ljust(self.column(span.closes), ".") + ("|" if span.closes <= self.last else ">")


_WINDOWS_SHOWN = 8  # of the windows that a row falls into
_SOME_DAY = datetime(2026, 1, 14)  # noqa: DTZ001


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
    numbers = sizes(length, slide, offset)
    behind = None if watermark is None else delay_of("watermark", watermark)
    try:
        size, step, shift = (_MICROSECOND * number for number in numbers)
        row = _moment(at)
        delay = None if behind is None else _MICROSECOND * behind
        count, windows = _windows(row, size, step, shift)
        late = None if delay is None else row + delay
        spans = [Span("", *window, None if delay is None else window[1] + delay) for window in windows]
    except OverflowError:
        raise InvalidInputError(
            f"windows of {length} reach out of the years 1 to 9999; give shorter ones, or another time"
        ) from None
    says = _Says([row, late or row, *(each for window in windows for each in window)])
    spans = [replace(span, label=says.span(span.start, span.end)) for span in spans]
    every = "" if slide is None else f" that start every {_words(slide)}"
    lines = [*_wrapped(f"A row of {says(row)} in windows of {_words(length)}{every}:"), ""]
    lines += [draw(spans, [Mark(f"row {says(row, day=False)}", row)]), ""]
    lines += _listed(count, spans, says)
    lines += ["", *_rules(says(row), None if late is None else says(late), watermark)]
    if not step % _WEEK and not shift:
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
    """Return the number of windows that a row falls into, and the windows; of many, only both ends."""
    newest = row - (row - _EPOCH - shift) % step
    count = -(-(size - (row - newest)) // step)
    back = range(count - 1, -1, -1)
    shown = (
        [*back] if count <= _WINDOWS_SHOWN else [*back[: _WINDOWS_SHOWN // 2], *back[-_WINDOWS_SHOWN // 2 :]]
    )
    starts = [newest - number * step for number in shown]
    return count, [(start, start + size) for start in starts]


def _listed(count: int, spans: Sequence[Span], says: _Says) -> list[str]:
    """Return the lines that list the windows and when each closes."""
    falls = f"It falls in {count:,} windows" if count > 1 else "It falls in 1 window"
    head = f"{falls}:"
    if spans[0].closes is not None:
        head = f"{falls}. {'Each' if count > 1 else 'It'} closes when the query has seen a row this new:"
    listed = []
    for span in spans:
        closes = "" if span.closes is None else says(span.closes)
        line = f"  {span.label}   {closes}".rstrip()
        listed.append(line if len(line) <= _WIDTH else f"  {span.label}\n    {closes}")
    if count > len(spans):
        listed.insert(len(spans) // 2, f"  … {count - len(spans):,} more")
    return [head, *listed]


def _rules(row: str, late: str | None, watermark: Duration | None) -> list[str]:
    """Return lines about what Spark does with windows and late rows."""
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
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False)


class _Says:
    """Formats times, all to the same unit: the coarsest that shows each of them exactly."""

    def __init__(self, times: Sequence[datetime]) -> None:
        self._whole_days = not any((each - _EPOCH) % _DAY for each in times[2:])
        units = (("minutes", _MINUTE), ("seconds", _SECOND), ("milliseconds", _MILLISECOND))
        exact = (name for name, unit in units if not any((each - _EPOCH) % unit for each in times))
        self._unit = next(exact, "microseconds")

    def __call__(self, moment: datetime, *, day: bool = True) -> str:
        clock = moment.time().isoformat(self._unit)
        return f"{moment.date()} {clock}" if day else clock

    def span(self, start: datetime, end: datetime) -> str:
        """Return the name of a window, such as "2026-01-14 12:00 to 13:00"."""
        if self._whole_days:
            return f"{start.date()} to {end.date()}"
        return f"{self(start)} to {self(end, day=start.date() != end.date())}"


def _words(duration: Duration) -> str:
    """Return a duration as the user wrote it; a `timedelta` in words."""
    if isinstance(duration, str):
        return " ".join(duration.lower().removeprefix("interval ").split())
    parts, rest = [], to_microseconds("duration", duration)
    for name, unit in reversed(MICROSECONDS.items()):
        number, rest = divmod(rest, unit)
        if number:
            parts.append(f"{number} {name}{'s' * (number > 1)}")
    return " ".join(parts)


def _moment(at: str | datetime | None) -> datetime:
    """Return the time of the row, in UTC; a time without a date gets an example date, which is shown."""
    given = at or "12:47"
    if isinstance(given, str):
        with suppress(ValueError):
            given = datetime.combine(_SOME_DAY, clock.fromisoformat(given))
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            fix = "write it like '12:47' or '2026-01-14 12:47:30'"
            raise InvalidInputError(f"cannot read the time {at!r}; {fix}") from None
    return given.astimezone(UTC).replace(tzinfo=None) if given.tzinfo else given


BLUE, GREEN, VIOLET = "#3b7de0", "#1f9d6f", "#8f7ee0"
_CELL = "padding:1px 12px 1px 0;white-space:pre;vertical-align:middle"
_BAR = 160  # pixels of the longest bar


def in_notebook() -> bool:
    """Return whether a notebook runs this process and can show HTML, unlike IPython in a terminal."""
    ipython = sys.modules.get("IPython")  # which a notebook has imported
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def show_html(what: object, **how: Any) -> Any:
    """Show an object or HTML in a notebook; with `display_id=True`, return the handle that updates it."""
    from IPython.display import display

    return display(what, **how)


def text(value: str) -> str:
    """Escape text for a page, so that it is shown as it is: no markup, no control characters."""
    return escape(printable(value))


def html_table(columns: Sequence[str], numeric: Sequence[bool], rows: Sequence[Sequence[str | None]]) -> str:
    """Return rows as an HTML table, with a bar for the last numeric column.

    Args:
        columns: the column names.
        numeric: for each column, whether it holds numbers.
        rows: the values as text; None is shown as NULL.

    Examples:
        >>> html_table(["<k>", "n"], [False, True], [["a&b", "1"], [None, "4"]]).count("<rect")
        2
    """
    sides = ["right" if number else "left" for number in numeric]
    heads = "".join(
        f'<th style="text-align:{side};{_CELL}">{text(name)}</th>'
        for side, name in zip(sides, columns, strict=True)
    )
    lengths = _lengths(numeric, rows)
    lines = []
    for row, length in zip(rows, lengths, strict=True):
        cells = "".join(
            f'<td style="text-align:{side};{_CELL}">{_cell(value)}</td>'
            for side, value in zip(sides, row, strict=True)
        )
        lines.append(f"<tr>{cells}{_bar(length)}</tr>")
    more = "<th></th>" if any(lengths) else ""
    return (
        '<table style="border-collapse:collapse;font-variant-numeric:tabular-nums"><thead>'
        f"<tr>{heads}{more}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _cell(value: str | None) -> str:
    return '<i style="opacity:.6">NULL</i>' if value is None else text(value)


def _lengths(numeric: Sequence[bool], rows: Sequence[Sequence[str | None]]) -> list[float]:
    """Return the length of each row's bar, from 0 to 1; all are 0 if no column is numeric."""
    place = last_number(numeric)
    if place is None:
        return [0.0] * len(rows)
    values = [float(row[place] or "nan") for row in rows]
    values = [value if math.isfinite(value) and value > 0 else 0.0 for value in values]
    most = max(values, default=0.0) or 1.0
    return [value / most for value in values]


def last_number(numeric: Sequence[bool]) -> int | None:
    """Return the index of the last numeric column, for which bars are drawn, or None."""
    return max((place for place, number in enumerate(numeric) if number), default=None)


def _bar(length: float) -> str:
    if not length:
        return ""
    bar = f'<rect width="{length * _BAR:.1f}" height="10" rx="2" fill="{BLUE}"/>'
    return f'<td style="{_CELL}"><svg width="{_BAR}" height="10">{bar}</svg></td>'


def line(values: Sequence[float], top: float, colour: str, *, width: int = 120, height: int = 24) -> str:
    """Return a small line chart (SVG) of the last values.

    Args:
        values: numbers of at least 0, the oldest first.
        top: the value at the top of the chart; higher values are drawn there.
        colour: the colour of the line.
        width: in pixels.
        height: in pixels.

    Examples:
        >>> line([0, 1, 2], 2, BLUE, width=100, height=20).partition('line points="')[2].partition('"')[0]
        '0.0,19.0 50.0,10.0 100.0,1.0'
    """
    step = width / max(len(values) - 1, 1)
    points = " ".join(
        f"{number * step:.1f},{height - 1 - min(value / (top or 1), 1) * (height - 2):.1f}"
        for number, value in enumerate(values)
    )
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<polygon points="0,{height} {points} {width},{height}" fill="{colour}" opacity=".15"/>'
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/></svg>'
    )


_SHOWN = 50  # rows that `show` shows of a frame


def render(frame: DataFrame, form: str) -> str:
    """Write all rows of a frame as text: a table, CSV or JSON.

    Args:
        frame: a static DataFrame whose rows fit in the driver's memory.
        form: `table` (aligned columns), `csv` (with a header line) or `json` (an array of objects). Control
            characters in the data are escaped in a table and in JSON. CSV has no escape for them, so there
            they are escaped only if standard output is a terminal.

    Raises:
        InvalidInputError: an unknown form, or a streaming frame.

    Examples:
        In a session::

            print(display.render(table, "csv"))
    """
    check(render, locals())
    from sparkstream_kit.sinks import builtin

    if frame.isStreaming:
        raise InvalidInputError(
            "render() shows a static DataFrame, and this one is streaming; show the table of its query: "
            "start(frame, sinks.latest('name'), mode='complete'), then render(spark.table('name'), 'table')"
        )
    reject_unknown("form", [form], ["csv", "json", "table"])
    if form == "csv":
        text = builtin.as_csv(frame)
        return printable(text, lines=True) if sys.stdout.isatty() else text
    if form == "json":
        return builtin.as_json(frame)
    return table(frame.columns, builtin.cells(frame), right=_numeric(frame))


def show(frame: DataFrame, batch_id: int | None = None) -> None:
    """Show the first 50 rows of a DataFrame: as a table with bars in a notebook, as text elsewhere.

    `sinks.foreach_batch(display.show)` prints all rows of each batch, one per line and without a header.

    Args:
        frame: a static DataFrame; use `monitoring.live` for a streaming one.
        batch_id: the number of a batch if `frame` is one. The number is not shown, and the rows must fit in
            the driver's memory.

    Raises:
        InvalidInputError: the frame is streaming.

    Examples:
        In a session::

            display.show(table)
            start(sales, sinks.foreach_batch(display.show), name="sales")
    """
    check(show, locals())
    if batch_id is not None:
        if lines := render(frame, "table").splitlines()[2:]:
            print(*lines, sep="\n", flush=True)
        return
    if frame.isStreaming:
        raise InvalidInputError(
            "display.show() shows a static DataFrame, and this one is streaming; monitoring.live(frame, "
            "run_for=20) starts it and shows what comes"
        )
    from sparkstream_kit.sinks import builtin

    found, right = builtin.cells(frame.limit(_SHOWN + 1)), _numeric(frame)
    rows, said = found[:_SHOWN], f"the first {_SHOWN} rows\n" if len(found) > _SHOWN else ""
    text = table(frame.columns, rows, right=right) + said
    if not in_notebook():
        print(text, end="", flush=True)
        return
    made = html_table(frame.columns, [i in right for i in range(len(frame.columns))], rows)
    show_html({"text/plain": text, "text/html": f"{made}<small>{said}</small>"}, raw=True)


def _numeric(frame: DataFrame) -> set[int]:
    from pyspark.sql.types import NumericType

    return {i for i, field in enumerate(frame.schema.fields) if isinstance(field.dataType, NumericType)}


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str | None]], *, right: Collection[int] = ()
) -> str:
    """Draw rows as a plain text table, one line per row; control characters are escaped.

    Args:
        columns: the column names.
        rows: the values as text; None is shown as NULL.
        right: the indexes of the columns to align on the right.

    Examples:
        >>> print(table(["k", "n"], [["a", "1"], ["bb", "20"]], right={1}), end="")
        k    n
        --  --
        a    1
        bb  20
    """
    cells = [[printable("NULL" if v is None else str(v)) for v in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    cells.insert(1, ["-" * width for width in widths])
    lines = [
        "  ".join(
            v.rjust(w) if i in right else v.ljust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "".join(line.rstrip() + "\n" for line in lines)


def bars(values: Sequence[tuple[str, float]], *, width: int = 80) -> str:
    """Draw labelled horizontal bars as text, one per line; the longest fills the width.

    Args:
        values: labels, and numbers of at least 0.
        width: the width of a line in characters.

    Examples:
        >>> print(bars([("a", 4), ("b", 2)], width=20))
        a  ███████████  4.00
        b  █████▌       2.00
    """
    values = [(printable(label), value) for label, value in values]
    label_width = max((len(label) for label, _ in values), default=0)
    number_width = max((len(f"{value:.2f}") for _, value in values), default=0)
    room = max(width - label_width - number_width - 4, 4)
    most = max((value for _, value in values), default=0) or 1
    lines = []
    for label, value in values:
        eighths = round(max(value, 0) / most * room * 8)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        lines.append(f"{label:<{label_width}}  {bar:<{room}}  {value:>{number_width}.2f}")
    return "\n".join(lines)


@contextmanager
def live(wanted: bool = True) -> Iterator[Callable[[Callable[[], str]], None]]:
    """Redraw a picture in place on standard error if that is a terminal; otherwise draw nothing.

    Args:
        wanted: False draws nothing, for example because `run(…, show="terminal")` already draws there.

    Yields:
        A function to call for each new picture. Its argument is a function that returns the picture's text,
        which is called only if there is a terminal. With rich (the extra `cli`) the picture stays in place;
        without it, each picture is printed below the one before.

    Examples:
        In a session::

            with display.live() as draw:
                draw(lambda: display.bars([("tea", 5), ("ink", 1)]))
    """
    check(live, locals())
    if not wanted or not sys.stderr.isatty():
        yield lambda _picture: None
    elif importlib.util.find_spec("rich") is None:
        yield lambda picture: print(f"\n{printable(picture(), lines=True)}", file=sys.stderr)
    else:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        waits = Spinner("dots", "starting Spark's first batch")
        how = {"redirect_stdout": False, "redirect_stderr": False, "refresh_per_second": 4}
        with Live(waits, console=Console(stderr=True), **how) as view:  # type: ignore[arg-type]
            yield lambda picture: view.update(
                Text(printable(picture(), lines=True), no_wrap=True), refresh=True
            )


def check_chart(path: str | Path) -> Path:
    """Check the path of a chart before the work whose result it is to show.

    Returns:
        The path.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InvalidInputError: the name does not end in .png, or the folder does not exist.

    Examples:
        >>> check_chart("totals.gif")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: chart totals.gif: the name must end in .png
    """
    check(check_chart, locals())
    target = check_file("chart", path, ".png")
    _require_matplotlib()
    return target


def _require_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("a chart", "charts")


def chart(values: Sequence[tuple[str, float]], title: str, path: str | Path | None = None) -> Any:
    """Draw labelled horizontal bars as a picture, the first bar on top.

    Args:
        values: labels and numbers.
        title: the line above the bars.
        path: a PNG file to write. Default: write no file.

    Returns:
        The `matplotlib.figure.Figure`, which a notebook with `%matplotlib inline` shows.

    Raises:
        MissingExtraError, InvalidInputError: as for `check_chart`.

    Examples:
        In a session::

            display.chart([("tea", 5), ("ink", 1)], "Totals", "totals.png")
    """
    check(chart, locals())
    target = None if path is None else check_chart(path)
    _require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.6 + 0.32 * max(len(values), 3)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh([label for label, _ in values], [float(value) for _, value in values], color="#2b6cb0")
    axes.bar_label(drawn, fmt="{:,.0f}", padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left")
    if target is not None:
        figure.savefig(target, dpi=120)
    return figure
