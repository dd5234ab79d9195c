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
    head = _row("th", numeric, columns) + ("<th></th>" if any(lengths) else "")
    pairs = zip(rows, lengths, strict=True)
    body = "</tr><tr>".join(
        _row("td", numeric, row) + _bar(length) for row, length in pairs
    )
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
    points = " ".join(
        f"{number * step:.1f},{height - 1 - min(value / (top or 1), 1) * (height - 2):.1f}"
        for number, value in enumerate(values)
    )
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width}'
        f' {height}"><polygon points="0,{height} {points} {width},{height}"'
        f' fill="{colour}" opacity=".15"/><polyline points="{points}" fill="none"'
        f' stroke="{colour}" stroke-width="1.5"/></svg>'
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
    from sparkstream_kit.sinks import batches, texts

    if frame.isStreaming:
        raise InvalidInputError(
            "render() shows a static DataFrame, and this one is streaming; show the"
            " table of its query: start(frame, sinks.latest('name'), mode='complete'),"
            " then render(spark.table('name'), 'table')"
        )
    reject_unknown("form", [form], ["csv", "json", "table"])
    if form == "csv":
        text = batches.as_csv(frame)
        return printable(text, lines=True) if sys.stdout.isatty() else text
    if form == "json":
        return batches.as_json(frame)
    return table(frame.columns, texts.cells(frame), right=_numeric(frame))


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
    if batch_id is not None:
        if lines := render(frame, "table").splitlines()[2:]:
            print(*lines, sep="\n", flush=True)
        return
    if frame.isStreaming:
        fix = "monitoring.live(frame, run_for=20) starts it and shows what comes"
        raise InvalidInputError(
            f"display.show() shows a static DataFrame, and this one streams; {fix}"
        )
    from sparkstream_kit.sinks import texts

    found = texts.cells(frame.limit(_SHOWN + 1))
    right = _numeric(frame)
    rows = found[:_SHOWN]
    said = f"the first {_SHOWN} rows\n" if len(found) > _SHOWN else ""
    text = table(frame.columns, rows, right=right) + said
    if not in_notebook():
        print(text, end="", flush=True)
        return
    made = html_table(
        frame.columns, [i in right for i in range(len(frame.columns))], rows
    )
    show_html(
        {"text/plain": text, "text/html": f"{made}<small>{said}</small>"}, raw=True
    )


def _numeric(frame: DataFrame) -> set[int]:
    from pyspark.sql.types import NumericType

    return {
        i
        for i, field in enumerate(frame.schema.fields)
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
    cells = [
        [printable("NULL" if v is None else str(v)) for v in row]
        for row in (columns, *rows)
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    cells.insert(1, ["-" * width for width in widths])
    line = "  ".join(
        f"{{:{'>' if i in right else '<'}{width}}}" for i, width in enumerate(widths)
    )
    return "".join(line.format(*row).rstrip() + "\n" for row in cells)


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
    most = max((value for _, value in values if math.isfinite(value)), default=0) or 1
    lines = []
    for label, value in values:
        eighths = round(max(value, 0) / most * room * 8) if math.isfinite(value) else 0
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        lines.append(
            f"{label:<{label_width}}  {bar:<{room}}  {value:>{number_width}.2f}"
        )
    return "\n".join(lines)
