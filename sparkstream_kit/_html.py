"""Small pieces of a notebook's output: a table with bars, a line. No script, and every value is escaped.

Colours are of middle brightness, and all else is the page's own, so that light and dark notebooks show both.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from sparkstream_kit.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

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
