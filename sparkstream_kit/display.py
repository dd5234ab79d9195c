"""A small result for people: a table, bars, a live picture in the terminal, a chart.

Small pieces of a notebook's output: a table with bars, a line. No script, and every value is escaped.

Colours are of middle brightness, and all else is the page's own, so that light and dark notebooks show both.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, check_file, printable, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame

__all__ = ["bars", "chart", "check_chart", "live", "render", "show", "table"]


BLUE, GREEN, VIOLET = "#3b7de0", "#1f9d6f", "#8f7ee0"
_CELL = "padding:1px 12px 1px 0;white-space:pre;vertical-align:middle"
_BAR = 160  # pixels of the longest bar


def in_notebook() -> bool:
    """Say whether this runs in a notebook's kernel, which shows HTML; a terminal's IPython does not."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def show_html(what: object, **how: Any) -> Any:
    """Show something in a notebook; return the handle that updates it, if asked for by `display_id=True`."""
    from IPython.display import display

    return display(what, **how)  # type: ignore[no-untyped-call]


def text(value: str) -> str:
    """Return a text for a page that shows it as it is: no markup, no control characters."""
    return escape(printable(value))


def html_table(columns: Sequence[str], numeric: Sequence[bool], rows: Sequence[Sequence[str | None]]) -> str:
    """Return rows as a table, with a bar for the last column of numbers.

    Args:
        columns: the column names.
        numeric: of each column whether it holds numbers.
        rows: the values as texts; None is shown as NULL.

    Example:
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
    """Return the length of each row's bar, from 0 to 1; zeros where no column holds numbers."""
    place = last_number(numeric)
    if place is None:
        return [0.0] * len(rows)
    values = [float(row[place] or "nan") for row in rows]
    values = [value if math.isfinite(value) and value > 0 else 0.0 for value in values]
    most = max(values, default=0.0) or 1.0
    return [value / most for value in values]


def last_number(numeric: Sequence[bool]) -> int | None:
    """Return the place of the last column that holds numbers, of which bars are drawn; None without one."""
    return max((place for place, number in enumerate(numeric) if number), default=None)


def _bar(length: float) -> str:
    if not length:
        return ""
    bar = f'<rect width="{length * _BAR:.1f}" height="10" rx="2" fill="{BLUE}"/>'
    return f'<td style="{_CELL}"><svg width="{_BAR}" height="10">{bar}</svg></td>'


def line(values: Sequence[float], top: float, colour: str, *, width: int = 120, height: int = 24) -> str:
    """Return a small chart of the last values.

    Args:
        values: from 0.
        top: the value that is as high as the chart; higher ones are cut.
        colour: of the line.
        width: in pixels.
        height: in pixels.

    Example:
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


_SHOWN = 50  # rows of a frame


def render(frame: DataFrame, form: str) -> str:
    """Return all rows of a frame as text.

    Args:
        frame: a static DataFrame whose rows fit in the driver's memory.
        form: `table` (aligned columns), `csv` (with a header line) or `json` (an array of objects). Control
            characters of the input are escaped in a table and in JSON; in CSV, which has no escape for them,
            only where standard output is a terminal.

    Raises:
        InvalidInputError: an unknown form, or a frame that streams.
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
    """Show the first 50 rows of a DataFrame: in a notebook as a table with bars, elsewhere as text.

    `sinks.foreach_batch(display.show)` prints all rows of each batch, a line each and no head.

    Args:
        frame: a static DataFrame; `monitoring.live` shows one that streams.
        batch_id: of a batch, its number, which is not shown; the batch's rows fit in the driver's memory.

    Raises:
        InvalidInputError: the frame streams.
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
    """Return rows as a plain text table, each on one line; control characters in them are escaped.

    Args:
        columns: the column names.
        rows: the values as texts; None is shown as NULL.
        right: the positions of columns to align on the right.

    Example:
        >>> print(table(["k", "n"], [["a", "1"], ["bb", "20"]], right={1}), end="")
        k    n
        --  --
        a    1
        bb  20
    """
    named = [list(columns), *[["NULL" if v is None else v for v in row] for row in rows]]
    cells = [[printable(str(v)) for v in row] for row in named]
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
    """Return labelled horizontal bars, one on each line; the longest fills the width.

    Args:
        values: labels and numbers from 0.
        width: the width of a line in characters.

    Example:
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
    """Draw a picture on standard error again and again in place, if that is a terminal; else draw nothing.

    Args:
        wanted: False draws nothing, as where `run(…, show="terminal")` draws there.

    Yields:
        A function that takes a function of the picture's text, and calls it only when there is a terminal
        to draw on. With rich (the extra `cli`) the picture stays in place; without it, each follows the one
        before; until the first, it counts the seconds that Spark's first batch takes.
    """
    check(live, locals())
    if not wanted or not sys.stderr.isatty():
        yield lambda _picture: None
    elif importlib.util.find_spec("rich") is None:
        yield lambda picture: print(f"\n{printable(picture(), lines=True)}", file=sys.stderr)
    else:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        began, drawn = time.monotonic(), list[str]()

        def current() -> Text:
            waits = f"starting Spark's first batch … {time.monotonic() - began:.0f} s"
            return Text(drawn[0] if drawn else waits, no_wrap=True)

        view = Live(
            get_renderable=current,
            console=Console(stderr=True),
            refresh_per_second=1,
            redirect_stdout=False,
            redirect_stderr=False,
        )

        def draw(picture: Callable[[], str]) -> None:
            drawn[:] = [printable(picture(), lines=True)]
            view.refresh()

        with view:
            try:
                yield draw
            finally:
                drawn = drawn or [""]  # no batch has come


def check_chart(path: str | Path) -> Path:
    """Return the path of a chart that can be drawn; checked before the work whose result it shows.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InvalidInputError: the name does not end in .png, or the folder does not exist.

    Example:
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
    """Draw labelled horizontal bars, the first on top.

    Args:
        values: labels and numbers.
        title: the line above the bars.
        path: a PNG file to write, or None.

    Returns:
        The `matplotlib.figure.Figure`, which a notebook with `%matplotlib inline` shows.

    Raises:
        MissingExtraError, InvalidInputError: as for `check_chart`.
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
