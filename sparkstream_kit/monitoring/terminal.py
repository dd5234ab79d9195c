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
    to = out or sys.stderr
    draw = partial(_write, board)
    in_place = to.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    if in_place and importlib.util.find_spec("rich") is not None:
        draw = partial(_draw, board, Results(places(queries)))
    with drawing(partial(draw, to)):
        yield


# --- a picture in place


def _draw(board: Board, results: Results, out: TextIO, over: threading.Event) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(file=out, highlight=False)
    # With redirection, rich prints the output of Python above the picture. Standard
    # output is redirected only if both streams are terminals: rich writes redirected
    # text to `out`, so a file or a pipe would lose it.
    both = out is sys.stderr and sys.stdout.isatty()
    how = {
        "redirect_stderr": out is sys.stderr,
        "redirect_stdout": both,
        "auto_refresh": False,
    }
    with Live(console=console, **how) as view:  # type: ignore[arg-type]
        for _ in moments(board, over, every=_EVERY, beat=_BEAT):
            pictures = board.pictures()
            found = [
                results.of(each.name, each.summary.batches, last=over.is_set())
                for each in pictures
            ]
            bars = [
                [(name, float(value)) for name, value, _ in each.bars]
                for each in found
                if each
            ]
            beneath = [
                Text("\n" + display.bars(each), no_wrap=True) for each in bars if each
            ]
            view.update(
                Group(_drawn(pictures, datetime.now(UTC), console.width), *beneath),
                refresh=True,
            )


def _drawn(pictures: Sequence[Picture], now: datetime, width: int) -> Any:
    """Return a rich table of queries, `width` columns wide, with verdicts beneath."""
    from rich.console import Group
    from rich.table import Table

    sparks = min(24, 8 + (width - _WIDE) // 4) if width >= _WIDE else 0
    through = [each for each in pictures if each.batches]
    kept = [
        column
        for column in COLUMNS
        if any(column[2](each) is not None for each in through)
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("query", no_wrap=True, max_width=max(16, width // 5))
    charts = ["rows", "time"] if sparks else []
    heads = ["batch", "rows/s in", "rows/s done", *charts[:1], "batch ms", *charts[1:]]
    for head in (*heads, *(column[0] for column in kept)):
        table.add_column(head, justify="left" if head in charts else "right")
    for each in pictures:
        more = [short(value(each)) if each.batches else "-" for _, _, value in kept]
        table.add_row(*_row(each, sparks), *more)
    return Group(table, *_beneath(pictures, now))


def _row(picture: Picture, sparks: int) -> list[Any]:
    """Return the cells of a query, with sparklines of `sparks` characters; 0 for none."""
    from rich.text import Text

    def chart(values: Sequence[float], style: str) -> list[Any]:
        return [Text(_sparkline(values, sparks), style)] if sparks else []

    batches = picture.batches
    last = batches[-1] if batches else None
    return [
        Text(printable(picture.name), _STYLES[picture.level], overflow="ellipsis"),
        f"{last.batch:,}" if last else "-",
        short(arriving(batches)),
        short(done(batches)),
        *chart([batch.rows for batch in batches], "blue"),
        f"{last.seconds * 1000:,.0f}" if last else "-",
        *chart([batch.seconds for batch in batches], "magenta"),
    ]


def _beneath(pictures: Sequence[Picture], now: datetime) -> list[Any]:
    """Return the lines beneath the table: queries without a batch, then verdicts.

    Verdicts of the level `bad` come first.
    """
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 1, 0, 0))
    for each in pictures:
        if not each.batches:
            rows.add_row(
                Text("○", "dim"), Text(printable(f"{each.name}: {starting(each, now)}"))
            )
    said = [(each.name, verdict) for each in pictures for verdict in each.verdicts]
    for name, verdict in sorted(said, key=lambda pair: pair[1].level != "bad"):
        words = Text.assemble((f"{printable(name)}: ", "bold"), printable(str(verdict)))
        rows.add_row(Text("●", _STYLES[verdict.level]), words)
    return [rows] if rows.row_count else []


def _sparkline(values: Sequence[float], width: int) -> str:
    """Return the last `width` values as a line of block characters of eight heights."""
    shown = values[-width:]
    top = height(shown) or 1
    return "".join(_BLOCKS[min(int(value / top * 7.99), 7)] for value in shown)


# --- lines


def _write(board: Board, out: TextIO, over: threading.Event) -> None:
    """Write lines of changed queries, at most every 5 seconds and once at the end."""
    # By query id: the state last written, and when
    said: dict[str, tuple[object, float]] = {}
    for _ in moments(board, over, every=_EVERY, beat=_BEAT):
        now = time.monotonic()
        for each in board.pictures():
            what, when = said.get(each.summary.query_id, (None, -_LINES_EVERY))
            # Compare verdicts without their numbers, so that a verdict whose number
            # grows is not repeated.
            kinds = [verdict.kind for verdict in each.verdicts]
            changed = (each.summary.batches, kinds, bool(each.batches) or each.active)
            if changed != what and (over.is_set() or now - when >= _LINES_EVERY):
                said[each.summary.query_id] = changed, now
                out.writelines(f"{line}\n" for line in lines(each, datetime.now(UTC)))
                out.flush()


def lines(picture: Picture, now: datetime) -> list[str]:
    """Return a query's lines for a log: one with its numbers, then one per verdict."""
    if picture.batches:
        last = picture.batches[-1]
        known = [(words, value(picture)) for _, words, value in COLUMNS]
        told = [
            f"batch {last.batch:,} in {last.seconds:.1f} s",
            f"{short(arriving(picture.batches))} rows/s in",
            f"{short(done(picture.batches))} rows/s done",
            *(
                f"{words}: {short(value)}"
                for words, value in known
                if value is not None
            ),
        ]
    else:
        told = [starting(picture, now)]
    said = [", ".join(told), *(f"verdict: {verdict}" for verdict in picture.verdicts)]
    return [printable(f"{picture.name}: {each}") for each in said]
