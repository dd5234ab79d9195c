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
        text.append("\n".join([*_table_text(result), *terminal.lines(picture, now)]))
        html.append(_query_html(picture, result, now))
    return {"text/plain": "\n\n".join(text), "text/html": "<hr>".join(html)}


def _query_html(picture: Picture, result: Result | None, now: datetime) -> str:
    """Return the HTML of one query: its result, its numbers and its verdicts."""
    parts = [_table_html(result)] if result is not None else []
    head = (
        f'<b style="color:{_COLOURS[picture.level]}">{display.text(picture.name)}</b>'
    )
    if picture.batches:
        state = "" if picture.active else " · ended"
        parts.append(
            f'<div style="margin-top:8px">{head} · batch'
            f" {picture.batches[-1].batch}{state}</div>"
        )
        parts.append(_progress(picture))
    else:
        parts.append(f"<div>{head} · {display.text(starting(picture, now))}</div>")
    parts += [
        f'<div><span style="color:{_COLOURS[each.level]}">●</span>'
        f" {display.text(str(each))}</div>"
        for each in picture.verdicts
    ]
    return f'<div style="line-height:1.5">{"".join(parts)}</div>'


def _progress(picture: Picture) -> str:
    """Return a query's numbers as HTML, with small charts of rows, times and state."""
    batches = picture.batches[-_CHARTED:]
    last = batches[-1]
    summary = picture.summary
    rows = [each.rows for each in batches]
    times = [each.seconds for each in batches]
    cells = [
        ("rows/s in", short(arriving(batches)), _chart(rows, display.BLUE)),
        ("rows/s done", short(done(batches)), ""),
        ("batch", f"{last.seconds:.2f} s", _chart(times, display.VIOLET)),
        ("rows so far", f"{summary.input_rows:,}", ""),
    ]
    if last.has_watermark:
        mark = (
            "none yet"
            if last.watermark is None
            else f"{last.watermark:%Y-%m-%d %H:%M:%S}"
        )
        cells.append(("watermark (UTC)", mark, ""))
    states = [each.state_rows or 0 for each in batches]
    for _, words, value in terminal.COLUMNS:
        if (count := value(picture)) is not None:
            chart = _chart(states, display.GREEN) if words == "rows in state" else ""
            cells.append((words, f"{count:,}", chart))
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:4px 24px">'
        + "".join(map(_number, cells))
        + "</div>"
    )


def _number(cell: tuple[str, str, str]) -> str:
    words, value, chart = cell
    return (
        "<div><small"
        f' style="opacity:.7">{words}</small><br><b>{value}</b><br>{chart}</div>'
    )


def _chart(values: Sequence[float], colour: str) -> str:
    return display.line(values, height(values), colour) if len(values) > 1 else ""


# --- results


def _cut(result: Result) -> tuple[Sequence[Sequence[str | None]], str]:
    """Return up to 20 rows, and a note on which these are, empty if all are shown."""
    if len(result.rows) <= _ROWS:
        return result.rows, ""
    # New rows of `sinks.memory` come last in its table
    newest = result.place.startswith("table ")
    rows = result.rows[-_ROWS:] if newest else result.rows[:_ROWS]
    return rows, f"the {'last' if newest else 'first'} {_ROWS} rows of {result.place}"


def _table_html(result: Result) -> str:
    if result.problem is not None:
        return (
            f"<div>{display.text(result.place)}: {display.text(result.problem)}</div>"
        )
    rows, said = _cut(result)
    beneath = f'<small style="opacity:.7">{display.text(said)}</small>' if said else ""
    return display.html_table(result.columns, result.numeric, rows) + beneath


def _table_text(result: Result | None) -> list[str]:
    if result is None:
        return []
    if result.problem is not None:
        return [f"{result.place}: {result.problem}"]
    rows, said = _cut(result)
    right = {place for place, number in enumerate(result.numeric) if number}
    return [display.table(result.columns, rows, right=right) + said]
