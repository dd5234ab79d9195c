"""The view of a run in a terminal: a picture in place, or lines where there is no terminal."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import printable
from sparkstream_kit.monitoring import board as _numbers
from sparkstream_kit.monitoring.board import short
from sparkstream_kit.monitoring.pictures import drawing, moments

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from sparkstream_kit.monitoring.board import Board, Picture

    _Value = Callable[[Picture], float | None]


_EVERY = 0.25  # seconds from one picture to the next, at least
_BEAT = 1.0  # and at most: it counts the seconds of what does not come
_LINES_EVERY = 5.0  # seconds from one line of a query to the next: a log is kept
_WIDE = 100  # columns of a terminal that has room for sparklines
_BLOCKS = "▁▂▃▄▅▆▇█"
_STYLES = {"bad": "bold red", "warn": "yellow", "ok": "green"}
# What a query may have: the head of the column, how a line calls it, and the number.
COLUMNS: tuple[tuple[str, str, _Value], ...] = (
    ("state rows", "rows in state", lambda each: each.summary.state_rows),
    ("behind", "behind", lambda each: each.batches[-1].backlog),
    ("late", "late", lambda each: each.summary.late_rows),
    ("bad", "bad", lambda each: each.summary.bad_rows),
)


@contextmanager
def shown(board: Board, out: TextIO | None = None) -> Iterator[None]:
    """Show a board until the block ends, and then once more; an error in it is logged, and ends it alone.

    Args:
        board: of a run, or of one that is read from a file.
        out: where to; standard error by default. A terminal has a picture in place, with rich (the extra
            `cli`); anything else a line for each query when something has changed, every 5 s at most.
    """
    check(shown, locals())
    with drawing(partial(_show, board, out or sys.stderr)):
        yield


def report(pictures: Sequence[Picture], out: TextIO) -> None:
    """Write what queries have done as one picture, such as that of a run which has ended.

    Args:
        pictures: of a board.
        out: where to.
    """
    now = datetime.now(UTC)
    if importlib.util.find_spec("rich") is None:
        out.writelines(f"{line}\n" for each in pictures for line in lines(each, now))
    else:
        from rich.console import Console

        console = Console(file=out, highlight=False)
        console.print(_drawn(pictures, now, console.width))


def _show(board: Board, out: TextIO, over: threading.Event) -> None:
    dumb = os.environ.get("TERM") in ("dumb", "unknown")
    if out.isatty() and not dumb and importlib.util.find_spec("rich") is not None:
        _draw(board, out, over)
    else:
        _write(board, out, over)


# --- a picture in place


def _draw(board: Board, out: TextIO, over: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=out, highlight=False)
    # What Python prints meanwhile comes above the picture. Standard output is left alone unless it goes to
    # the same terminal: rich would write it where the picture is.
    both = out is sys.stderr and sys.stdout.isatty()
    how = {"redirect_stderr": out is sys.stderr, "redirect_stdout": both, "auto_refresh": False}
    with Live(console=console, **how) as view:  # type: ignore[arg-type]
        for _ in moments(board, over, every=_EVERY, beat=_BEAT):
            view.update(_drawn(board.pictures(), datetime.now(UTC), console.width), refresh=True)


def _drawn(pictures: Sequence[Picture], now: datetime, width: int) -> Any:
    """Return queries as a table for rich, so many columns wide, with what is wrong beneath."""
    from rich.console import Group
    from rich.table import Table

    sparks = min(24, 8 + (width - _WIDE) // 4) if width >= _WIDE else 0
    through = [each for each in pictures if each.batches]
    kept = [column for column in COLUMNS if any(column[2](each) is not None for each in through)]
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
    """Return the cells that each query has, with charts where there is room."""
    from rich.text import Text

    def chart(values: Sequence[float], style: str) -> list[Any]:
        return [Text(_sparkline(values, sparks), style)] if sparks else []

    batches = picture.batches
    last = batches[-1] if batches else None
    return [
        Text(printable(picture.name), _STYLES[picture.level], overflow="ellipsis"),
        f"{last.batch:,}" if last else "-",
        short(_numbers.arriving(batches)),
        short(_numbers.done(batches)),
        *chart([batch.rows for batch in batches], "blue"),
        f"{last.seconds * 1000:,.0f}" if last else "-",
        *chart([batch.seconds for batch in batches], "magenta"),
    ]


def _beneath(pictures: Sequence[Picture], now: datetime) -> list[Any]:
    """Return what stands beneath the table: what is not through yet, and the verdicts, the worst first."""
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 1, 0, 0))
    for each in pictures:
        if not each.batches:
            rows.add_row(Text("○", "dim"), Text(printable(f"{each.name}: {_numbers.starting(each, now)}")))
    said = [(each.name, verdict) for each in pictures for verdict in each.verdicts]
    for name, verdict in sorted(said, key=lambda pair: pair[1].level != "bad"):
        words = Text.assemble((f"{printable(name)}: ", "bold"), printable(str(verdict)))
        rows.add_row(Text("●", _STYLES[verdict.level]), words)
    return [rows] if rows.row_count else []


def _sparkline(values: Sequence[float], width: int) -> str:
    shown = values[-width:]
    top = _numbers.height(shown) or 1
    return "".join(_BLOCKS[min(int(value / top * 7.99), 7)] for value in shown)


# --- lines


def _write(board: Board, out: TextIO, over: threading.Event) -> None:
    """Write a line for each query whenever something has changed, at most every few seconds."""
    said: dict[str, tuple[object, float]] = {}  # of each run: what changes, and when it was said
    for _ in moments(board, over, every=_EVERY, beat=_BEAT):
        now = time.monotonic()
        for each in board.pictures():
            what, when = said.get(each.run_id, (None, -_LINES_EVERY))
            # A number in a verdict that grows alone is no news.
            kinds = [re.sub(r"\d[\d.,:]*", "", str(verdict)) for verdict in each.verdicts]
            changed = (each.summary.batches, kinds, bool(each.batches) or each.active)
            if changed != what and (over.is_set() or now - when >= _LINES_EVERY):
                said[each.run_id] = changed, now
                out.writelines(f"{line}\n" for line in lines(each, datetime.now(UTC)))
                out.flush()


def lines(picture: Picture, now: datetime) -> list[str]:
    """Return a query's numbers on one line, and its verdicts on a line each."""
    if picture.batches:
        last = picture.batches[-1]
        known = [(words, value(picture)) for _, words, value in COLUMNS]
        told = [
            f"batch {last.batch:,} in {last.seconds:.1f} s",
            f"{short(_numbers.arriving(picture.batches))} rows/s in",
            f"{short(_numbers.done(picture.batches))} rows/s done",
            *(f"{words}: {short(value)}" for words, value in known if value is not None),
        ]
    else:
        told = [_numbers.starting(picture, now)]
    said = [", ".join(told), *(f"verdict: {verdict}" for verdict in picture.verdicts)]
    return [printable(f"{picture.name}: {each}") for each in said]
