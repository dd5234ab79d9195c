"""Extra: a small result for people: a table or bars.

`table` and `bars` return text; `show` shows a DataFrame in a terminal or a notebook;
`render` returns one as a table, CSV or JSON.

In a notebook a table has bars. Its HTML contains no script, and every value is escaped.
Its colours are of medium brightness and all else has the colours of the page, so that
it suits light and dark notebooks.
"""

from __future__ import annotations

import math
import sys
from html import escape
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.errors import InvalidInputError, printable, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pyspark.sql import DataFrame

__all__ = ["bars", "render", "show", "table"]


BLUE = "#3b7de0"
GREEN = "#1f9d6f"
VIOLET = "#8f7ee0"
_CELL = "padding:1px 12px 1px 0;white-space:pre;vertical-align:middle"
_BAR = 160  # pixels of the longest bar
# The end of a bar of block characters
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def in_notebook() -> bool:
    """Return whether a notebook runs this process, so that HTML can be shown.

    IPython in a terminal is none.
    """
    ipython = sys.modules.get("IPython")  # which a notebook has imported
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def show_html(what: object, **how: Any) -> Any:
    """Show an object or HTML in a notebook; with `display_id=True`, return its handle.

    The handle updates what is shown.
    """
    from IPython.display import display

    return display(what, **how)


def text(value: str) -> str:
    """Escape text for a page, so that it is shown as it is: no markup, no control characters."""
    return escape(printable(value))


def html_table(
    columns: Sequence[str],
    numeric: Sequence[bool],
    rows: Sequence[Sequence[str | None]],
) -> str:
    """Return rows as an HTML table, with a bar for the last numeric column.

    Args:
        columns: the column names.
        numeric: for each column, whether it holds numbers.
        rows: the values as text; None is shown as NULL.

    Examples:
        >>> html_table(["<k>", "n"], [False, True], [["a&b", "1"], [None, "4"]]).count("<rect")
        2
    """
    lengths = _lengths(numeric, rows)
    head = _row("th", numeric, columns)
    if any(lengths):
        head += "<th></th>"
    drawn = [
        _row("td", numeric, row) + _bar(length)
        for row, length in zip(rows, lengths, strict=True)
    ]
    body = "</tr><tr>".join(drawn)
    return (
        "<table"
        ' style="border-collapse:collapse;font-variant-numeric:tabular-nums"><thead>'
        f"<tr>{head}</tr></thead><tbody><tr>{body}</tr></tbody></table>"
    )


def _row(tag: str, numeric: Sequence[bool], values: Sequence[str | None]) -> str:
    """Return the cells of a row, with numbers on the right."""
    cells = []
    for number, value in zip(numeric, values, strict=True):
        shown = '<i style="opacity:.6">NULL</i>' if value is None else text(value)
        side = "right" if number else "left"
        cells.append(f'<{tag} style="text-align:{side};{_CELL}">{shown}</{tag}>')
    return "".join(cells)


def _lengths(
    numeric: Sequence[bool], rows: Sequence[Sequence[str | None]]
) -> list[float]:
    """Return the length of each row's bar, from 0 to 1; all are 0 if no column is numeric."""
    place = last_number(numeric)
    if place is None:
        return [0.0] * len(rows)
    lengths = [0.0] * len(rows)
    for number, row in enumerate(rows):
        value = float(row[place] or "nan")
        if math.isfinite(value) and value > 0:
            lengths[number] = value
    most = max(lengths, default=0.0) or 1.0
    return [length / most for length in lengths]


def last_number(numeric: Sequence[bool]) -> int | None:
    """Return the index of the last numeric column, for which bars are drawn, or None."""
    for place in reversed(range(len(numeric))):
        if numeric[place]:
            return place
    return None


def _bar(length: float) -> str:
    """Return the cell of a bar, whose length is from 0 to 1; an empty text for 0."""
    if not length:
        return ""
    bar = f'<rect width="{length * _BAR:.1f}" height="10" rx="2" fill="{BLUE}"/>'
    return f'<td style="{_CELL}"><svg width="{_BAR}" height="10">{bar}</svg></td>'


def line(
    values: Sequence[float],
    top: float,
    colour: str,
    *,
    width: int = 120,
    height: int = 24,
) -> str:
    """Return a small line chart (SVG) of the last values.

    Args:
        values: numbers of at least 0, the oldest first.
        top: the value at the top of the chart; higher values are drawn there.
        colour: the colour of the line.
        width: in pixels.
        height: in pixels.

    Examples:
        >>> chart = line([0, 1, 2], 2, BLUE, width=100, height=20)
        >>> chart.partition('line points="')[2].partition('"')[0]
        '0.0,19.0 50.0,10.0 100.0,1.0'
    """
    step = width / max(len(values) - 1, 1)
    coordinates = []
    for number, value in enumerate(values):
        share = min(value / (top or 1), 1)
        y = height - 1 - share * (height - 2)  # with a margin of one pixel
        coordinates.append(f"{number * step:.1f},{y:.1f}")
    points = " ".join(coordinates)
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<polygon points="0,{height} {points} {width},{height}"'
        f' fill="{colour}" opacity=".15"/>'
        f'<polyline points="{points}" fill="none" stroke="{colour}"'
        ' stroke-width="1.5"/></svg>'
    )


_SHOWN = 50  # rows that `show` shows of a frame


def render(frame: DataFrame, form: str) -> str:
    """Write all rows of a frame as text: a table, CSV or JSON.

    Args:
        frame: a static DataFrame whose rows fit in the driver's memory.
        form: `table` (aligned columns), `csv` (with a header line) or `json` (an array
            of objects). Control characters in the data are escaped in a table and in
            JSON. CSV has no escape for them, so there they are escaped only if standard
            output is a terminal.

    Raises:
        InvalidInputError: an unknown form, or a streaming frame.

    Examples:
        In a session::

            print(display.render(table, "csv"))
    """
    check(render, locals())
    from sparkstream_kit.sinks import batches, cells

    if frame.isStreaming:
        raise InvalidInputError(
            "render() shows a static DataFrame, and this one is streaming; show the"
            " table of its query: start(frame, sinks.latest('name'), mode='complete'),"
            " then render(spark.table('name'), 'table')"
        )
    reject_unknown("form", [form], ["csv", "json", "table"])
    if form == "csv":
        csv = batches.as_csv(frame)
        if sys.stdout.isatty():
            return printable(csv, lines=True)
        return csv
    if form == "json":
        return batches.as_json(frame)
    return table(frame.columns, cells.cells(frame), right=_numeric(frame))


def show(frame: DataFrame, batch_id: int | None = None) -> None:
    """Show the first 50 rows of a DataFrame: as a table with bars in a notebook, as text elsewhere.

    `sinks.foreach_batch(display.show)` prints all rows of each batch, one per line and
    without a header.

    Args:
        frame: a static DataFrame; use `monitoring.live` for a streaming one.
        batch_id: the number of a batch if `frame` is one. The number is not shown, and
            the rows must fit in the driver's memory.

    Raises:
        InvalidInputError: the frame is streaming.

    Examples:
        In a session::

            display.show(table)
            start(sales, sinks.foreach_batch(display.show), name="sales")
    """
    check(show, locals())
    from sparkstream_kit.sinks import cells

    if batch_id is not None:
        _, _, *lines = render(frame, "table").splitlines()  # without the header
        if lines:
            print(*lines, sep="\n", flush=True)
        return
    if frame.isStreaming:
        fix = "monitoring.live(frame, run_for=20) starts it and shows what comes"
        raise InvalidInputError(
            f"display.show() shows a static DataFrame, and this one streams; {fix}"
        )

    shown = cells.cells(frame.limit(_SHOWN + 1))
    rows = shown[:_SHOWN]
    note = f"the first {_SHOWN} rows\n" if len(shown) > _SHOWN else ""
    right = _numeric(frame)
    plain = table(frame.columns, rows, right=right) + note
    if not in_notebook():
        print(plain, end="", flush=True)
        return
    numeric = [place in right for place in range(len(frame.columns))]
    html = html_table(frame.columns, numeric, rows)
    show_html(
        {"text/plain": plain, "text/html": f"{html}<small>{note}</small>"}, raw=True
    )


def _numeric(frame: DataFrame) -> set[int]:
    """Return the indexes of the columns of numbers."""
    from pyspark.sql.types import NumericType

    return {
        place
        for place, field in enumerate(frame.schema.fields)
        if isinstance(field.dataType, NumericType)
    }


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | None]],
    *,
    right: Collection[int] = (),
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
    header = _cells(columns)
    body = [_cells(row) for row in rows]
    widths = []
    for place in range(len(columns)):
        column = [row[place] for row in (header, *body)]
        widths.append(max(map(len, column)))
    ruler = ["-" * width for width in widths]
    return "".join(_aligned(row, widths, right) for row in (header, ruler, *body))


def _cells(row: Sequence[str | None]) -> list[str]:
    """Return a row's values as they are printed."""
    return [printable("NULL" if value is None else str(value)) for value in row]


def _aligned(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    """Return a line of a table: the cells of a row, filled to their widths."""
    filled = []
    for place, width in enumerate(widths):
        cell = row[place]
        filled.append(cell.rjust(width) if place in right else cell.ljust(width))
    return "  ".join(filled).rstrip() + "\n"


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
    pairs = list(values)
    labels = [printable(label) for label, _ in pairs]
    lengths = [length for _, length in pairs]
    numbers = [f"{length:.2f}" for length in lengths]
    label_width = max(map(len, labels), default=0)
    number_width = max(map(len, numbers), default=0)
    room = max(width - label_width - number_width - 4, 4)
    most = max(filter(math.isfinite, lengths), default=0) or 1
    lines = []
    for label, number, length in zip(labels, numbers, lengths, strict=True):
        bar = ""
        if math.isfinite(length):
            bar = _blocks(max(length, 0) / most * room)
        lines.append(f"{label:<{label_width}}  {bar:<{room}}  {number:>{number_width}}")
    return "\n".join(lines)


def _blocks(length: float) -> str:
    """Return a bar of block characters, to an eighth of a character.

    Examples:
        >>> _blocks(2.5), _blocks(0)
        ('██▌', '')
    """
    eighths = round(length * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8]
