"""The view of a run in a terminal: a picture in place, or lines where there is no terminal.

`shown` draws a board while a run goes on; `run(…, show="terminal")` and `sparkstream
watch` use it. It draws with the library rich if that is installed; without it, or in a
log file, it writes plain lines.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from sparkstream_kit import display
from sparkstream_kit.errors import printable
from sparkstream_kit.monitoring.board import arriving, done, height, short, starting
from sparkstream_kit.monitoring.pictures import Results, drawing, moments, places

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board, Picture

    _Value = Callable[[Picture], float | None]


_EVERY = 0.25  # least seconds between two pictures
# Most seconds between two pictures, so that the seconds of a silent query keep counting
_BEAT = 1.0
# Least seconds between two lines of a query, because a log keeps every line
_LINES_EVERY = 5.0
_WIDE = 100  # least width, in columns, of a terminal that shows sparklines
_BLOCKS = "▁▂▃▄▅▆▇█"
_STYLES = {"bad": "bold red", "warn": "yellow", "ok": "green"}
# Numbers that only some queries have: the head of the column, the label in a line, and
# the function that computes the number, None for a query without it.
COLUMNS: tuple[tuple[str, str, _Value], ...] = (
    ("state rows", "rows in state", lambda each: each.summary.state_rows),
    ("behind", "behind", lambda each: each.batches[-1].backlog),
    ("late", "late", lambda each: each.summary.late_rows),
    ("bad", "bad", lambda each: each.summary.bad_rows),
)


@contextmanager
def shown(
    board: Board, out: TextIO | None = None, queries: Sequence[StreamingQuery] = ()
) -> Iterator[None]:
    """Show a board until the block ends, and then draw it for the last time.

    An error in the view is logged and ends only the view.

    Args:
        board: the board of a run, or of a recording that is being read.
        out: the stream to write to; standard error by default. On a terminal, rich (the
            extra `cli`) draws a picture in place. Anywhere else, or without rich, each
            query gets a line when it has changed, at most every 5 seconds.
        queries: the queries of the run, if it is one of this process; the picture in
            place also has bars for the results in `sinks.latest`.
    """
    stream = out or sys.stderr
    in_place = stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    if in_place and importlib.util.find_spec("rich") is not None:
        draw = partial(_draw, board, Results(places(queries)), stream)
    else:
        draw = partial(_write, board, stream)
    with drawing(draw):
        yield


# --- a picture in place


def _draw(board: Board, results: Results, out: TextIO, over: threading.Event) -> None:
    """Draw a board in place until `over` is set, with bars of the results beneath."""
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(file=out, highlight=False)
    # With redirection, rich prints the output of Python above the picture. Standard
    # output is redirected only if both streams are terminals: rich writes redirected
    # text to `out`, so a file or a pipe would lose it.
    on_stderr = out is sys.stderr
    with Live(
        console=console,
        auto_refresh=False,
        redirect_stderr=on_stderr,
        redirect_stdout=on_stderr and sys.stdout.isatty(),
    ) as view:
        for _ in moments(board, over, every=_EVERY, beat=_BEAT):
            pictures = board.pictures()
            table = _query_table(pictures, datetime.now(UTC), console.width)
            bars = []
            for picture in pictures:
                bars += _bars(picture, results, last=over.is_set())
            view.update(Group(table, *bars), refresh=True)


def _bars(picture: Picture, results: Results, *, last: bool) -> list[Any]:
    """Return the bars of a query's result as a list of one; empty if it has none."""
    from rich.text import Text

    result = results.of(picture.name, picture.summary.batches, last=last)
    if result is None or not result.bars:
        return []
    values = [(label, float(value)) for label, value, _ in result.bars]
    return [Text("\n" + display.bars(values), no_wrap=True)]


def _query_table(pictures: Sequence[Picture], now: datetime, width: int) -> Any:
    """Return a rich table of queries, `width` columns wide, with verdicts beneath."""
    from rich.console import Group
    from rich.table import Table

    sparks = 0
    if width >= _WIDE:
        sparks = min(24, 8 + (width - _WIDE) // 4)
    extra_columns = [
        (head, value) for head, _, value in COLUMNS if _any_has(pictures, value)
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("query", no_wrap=True, max_width=max(16, width // 5))
    for head in ("batch", "rows/s in", "rows/s done"):
        table.add_column(head, justify="right")
    if sparks:
        table.add_column("rows", justify="left")
    table.add_column("batch ms", justify="right")
    if sparks:
        table.add_column("time", justify="left")
    for head, _ in extra_columns:
        table.add_column(head, justify="right")
    for picture in pictures:
        cells = _row(picture, sparks)
        for _, value in extra_columns:
            cells.append(short(value(picture)) if picture.batches else "-")
        table.add_row(*cells)
    return Group(table, *_lines_beneath(pictures, now))


def _any_has(pictures: Sequence[Picture], value: _Value) -> bool:
    """Return whether one of the queries that have run a batch has a number."""
    return any(value(picture) is not None for picture in pictures if picture.batches)


def _row(picture: Picture, sparks: int) -> list[Any]:
    """Return the cells of a query, with sparklines of `sparks` characters; 0 for none."""
    from rich.text import Text

    name = Text(printable(picture.name), _STYLES[picture.level], overflow="ellipsis")
    batches = picture.batches
    batch_id = "-"
    milliseconds = "-"
    if batches:
        batch_id = f"{batches[-1].batch:,}"
        milliseconds = f"{batches[-1].seconds * 1000:,.0f}"
    cells = [name, batch_id, short(arriving(batches)), short(done(batches))]
    if not sparks:
        return [*cells, milliseconds]
    rows = _sparkline([batch.rows for batch in batches], sparks)
    times = _sparkline([batch.seconds for batch in batches], sparks)
    return [*cells, Text(rows, "blue"), milliseconds, Text(times, "magenta")]


def _lines_beneath(pictures: Sequence[Picture], now: datetime) -> list[Any]:
    """Return the lines beneath the table: queries without a batch, then verdicts.

    Verdicts of the level `bad` come first.
    """
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 1, 0, 0))
    for picture in pictures:
        if not picture.batches:
            text = printable(f"{picture.name}: {starting(picture, now)}")
            rows.add_row(Text("○", "dim"), Text(text))
    bad_lines = []
    other_lines = []
    for picture in pictures:
        name = (f"{printable(picture.name)}: ", "bold")
        for verdict in picture.verdicts:
            dot = Text("●", _STYLES[verdict.level])
            line = Text.assemble(name, printable(str(verdict)))
            if verdict.level == "bad":
                bad_lines.append((dot, line))
            else:
                other_lines.append((dot, line))
    for dot, line in (*bad_lines, *other_lines):
        rows.add_row(dot, line)
    return [rows] if rows.row_count else []


def _sparkline(values: Sequence[float], width: int) -> str:
    """Return the last `width` values as a line of block characters of eight heights."""
    recent = values[-width:]
    top = height(recent) or 1
    heights = [min(int(value / top * 7.99), 7) for value in recent]
    return "".join(_BLOCKS[number] for number in heights)


# --- lines


def _write(board: Board, out: TextIO, over: threading.Event) -> None:
    """Write lines of changed queries, at most every 5 seconds and once at the end."""
    # By query id: the state last written, and when
    last_written: dict[str, tuple[object, float]] = {}
    for _ in moments(board, over, every=_EVERY, beat=_BEAT):
        now = time.monotonic()
        for picture in board.pictures():
            query_id = picture.summary.query_id
            former, when = last_written.get(query_id, (None, -_LINES_EVERY))
            state = _state(picture)
            if state == former:
                continue
            if over.is_set() or now - when >= _LINES_EVERY:
                last_written[query_id] = state, now
                new_lines = lines(picture, datetime.now(UTC))
                out.writelines(f"{line}\n" for line in new_lines)
                out.flush()


def _state(picture: Picture) -> object:
    """Return what must change before a query gets new lines."""
    # The kinds of verdicts, without their numbers: so a verdict whose number grows is
    # not repeated.
    kinds = [verdict.kind for verdict in picture.verdicts]
    begun_or_active = bool(picture.batches) or picture.active
    return picture.summary.batches, kinds, begun_or_active


def lines(picture: Picture, now: datetime) -> list[str]:
    """Return a query's lines for a log: one with its numbers, then one per verdict."""
    texts = [_numbers(picture) if picture.batches else starting(picture, now)]
    texts += [f"verdict: {verdict}" for verdict in picture.verdicts]
    return [printable(f"{picture.name}: {text}") for text in texts]


def _numbers(picture: Picture) -> str:
    """Return the numbers of a query that has run a batch, as a part of a line."""
    last = picture.batches[-1]
    numbers = [
        f"batch {last.batch:,} in {last.seconds:.1f} s",
        f"{short(arriving(picture.batches))} rows/s in",
        f"{short(done(picture.batches))} rows/s done",
    ]
    for _, label, value in COLUMNS:
        number = value(picture)
        if number is not None:
            numbers.append(f"{label}: {short(number)}")
    return ", ".join(numbers)
