"""The view of a run in a notebook, updated in place in the output of the cell.

It shows results, progress and verdicts.

`monitoring.watching` opens this view for `run(…, show="notebook")` and
`monitoring.live`. A thread draws the board as HTML, with plain text for front ends that
show no HTML. Outside of a notebook, `watching` opens the terminal view instead.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sparkstream_kit import display
from sparkstream_kit.monitoring import terminal
from sparkstream_kit.monitoring.board import arriving, done, height, short, starting
from sparkstream_kit.monitoring.pictures import Results, drawing, moments, places

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board, Picture
    from sparkstream_kit.monitoring.pictures import Result


_EVERY = 0.5  # least seconds between two updates
# Most seconds between two updates, so that the seconds of a silent query keep counting
_BEAT = 1.0
_ROWS = 20  # rows shown of a result
_CHARTED = 120  # batches in a chart
_COLOURS = {"bad": "#d64545", "warn": "#c98a1b", "ok": display.GREEN}


@contextmanager
def shown(board: Board, queries: Sequence[StreamingQuery]) -> Iterator[None]:
    """Show a board and the results of its queries beneath the cell until the block ends.

    An error in the view is logged and ends only the view.

    Args:
        board: the board of a run.
        queries: the queries of the run; rows are shown for the sinks `sinks.latest` and
            `sinks.memory`.
    """
    results = Results(places(queries, memory=True))
    handle = display.show_html(_bundle(board, results), raw=True, display_id=True)
    with drawing(partial(_update, board, results, handle)):
        yield


def _update(board: Board, results: Results, handle: Any, over: threading.Event) -> None:
    """Redraw the cell's output whenever the board changes, until `over` is set."""
    for _ in moments(board, over, every=_EVERY, beat=_BEAT):
        handle.update(_bundle(board, results, last=over.is_set()), raw=True)


def _bundle(board: Board, results: Results, *, last: bool = False) -> dict[str, str]:
    """Return the view as a MIME bundle for Jupyter: as HTML, and as plain text."""
    text = []
    html = []
    now = datetime.now(UTC)
    for picture in board.pictures():
        result = results.of(picture.name, picture.summary.batches, last=last)
        text.append(_query_text(picture, result, now))
        html.append(_query_html(picture, result, now))
    return {"text/plain": "\n\n".join(text), "text/html": "<hr>".join(html)}


def _query_text(picture: Picture, result: Result | None, now: datetime) -> str:
    """Return the plain text of one query: its result, its numbers and its verdicts."""
    lines = terminal.lines(picture, now)
    if result is not None:
        lines.insert(0, _table_text(result))
    return "\n".join(lines)


def _query_html(picture: Picture, result: Result | None, now: datetime) -> str:
    """Return the HTML of one query: its result, its numbers and its verdicts."""
    parts = []
    if result is not None:
        parts.append(_table_html(result))
    colour = _COLOURS[picture.level]
    name = f'<b style="color:{colour}">{display.text(picture.name)}</b>'
    if picture.batches:
        batch = picture.batches[-1].batch
        state = "" if picture.active else " · ended"
        parts.append(f'<div style="margin-top:8px">{name} · batch {batch}{state}</div>')
        parts.append(_progress(picture))
    else:
        parts.append(f"<div>{name} · {display.text(starting(picture, now))}</div>")
    for verdict in picture.verdicts:
        dot = f'<span style="color:{_COLOURS[verdict.level]}">●</span>'
        parts.append(f"<div>{dot} {display.text(str(verdict))}</div>")
    return f'<div style="line-height:1.5">{"".join(parts)}</div>'


def _progress(picture: Picture) -> str:
    """Return a query's numbers as HTML, with small charts of rows, times and state."""
    batches = picture.batches[-_CHARTED:]
    last = batches[-1]
    rows_chart = _chart([batch.rows for batch in batches], display.BLUE)
    times_chart = _chart([batch.seconds for batch in batches], display.VIOLET)
    state_chart = _chart([batch.state_rows or 0 for batch in batches], display.GREEN)
    cells = [
        _number("rows/s in", short(arriving(batches)), rows_chart),
        _number("rows/s done", short(done(batches))),
        _number("batch", f"{last.seconds:.2f} s", times_chart),
        _number("rows so far", f"{picture.summary.input_rows:,}"),
    ]
    if last.has_watermark:
        mark = "none yet"
        if last.watermark is not None:
            mark = f"{last.watermark:%Y-%m-%d %H:%M:%S}"
        cells.append(_number("watermark (UTC)", mark))
    for _, words, value in terminal.COLUMNS:
        number = value(picture)
        if number is not None:
            chart = state_chart if words == "rows in state" else ""
            cells.append(_number(words, f"{number:,}", chart))
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:4px 24px">'
        + "".join(cells)
        + "</div>"
    )


def _number(words: str, value: str, chart: str = "") -> str:
    """Return a number as HTML, beneath what it is, with a chart beneath it."""
    return (
        "<div><small"
        f' style="opacity:.7">{words}</small><br><b>{value}</b><br>{chart}</div>'
    )


def _chart(values: Sequence[float], colour: str) -> str:
    """Return a line chart; an empty text for a single value."""
    if len(values) < 2:  # noqa: PLR2004 - a line from one to the next
        return ""
    return display.line(values, height(values), colour)


# --- results


def _cut(result: Result) -> tuple[Sequence[Sequence[str | None]], str]:
    """Return up to 20 rows, and a note on which these are, empty if all are shown."""
    if len(result.rows) <= _ROWS:
        return result.rows, ""
    # New rows of `sinks.memory` come last in its table
    if result.place.startswith("table "):
        return result.rows[-_ROWS:], f"the last {_ROWS} rows of {result.place}"
    return result.rows[:_ROWS], f"the first {_ROWS} rows of {result.place}"


def _table_html(result: Result) -> str:
    if result.problem is not None:
        return (
            f"<div>{display.text(result.place)}: {display.text(result.problem)}</div>"
        )
    rows, note = _cut(result)
    table = display.html_table(result.columns, result.numeric, rows)
    if not note:
        return table
    return f'{table}<small style="opacity:.7">{display.text(note)}</small>'


def _table_text(result: Result) -> str:
    if result.problem is not None:
        return f"{result.place}: {result.problem}"
    rows, note = _cut(result)
    right = {place for place, is_number in enumerate(result.numeric) if is_number}
    return display.table(result.columns, rows, right=right) + note
