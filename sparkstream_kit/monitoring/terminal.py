"""The terminal's face of a run: a picture in place, or lines where there is no terminal."""

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
from sparkstream_kit.monitoring import _numbers
from sparkstream_kit.monitoring._drawing import drawing
from sparkstream_kit.monitoring._numbers import short

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from sparkstream_kit.monitoring.board import Board, Picture

    _Value = Callable[[Picture], float | None]

__all__ = ["lines", "report", "shown"]

_EVERY = 0.25  # seconds from one picture to the next, at least
_TICK = 1.0  # and at most: the picture counts the seconds of what does not come
_LINES_EVERY = 5.0  # seconds from one line of a query to the next: a log is kept
_WIDE = 100  # columns of a terminal that has room for sparklines
_BLOCKS = "▁▂▃▄▅▆▇█"
_STYLES = {"bad": "bold red", "warn": "yellow", "ok": "green"}
# What a query may have: the head of the column, how a line calls it, and the number.
_COLUMNS: tuple[tuple[str, str, _Value], ...] = (
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

        Console(file=out, highlight=False).print(_Drawn(pictures, now))


def _show(board: Board, out: TextIO, over: threading.Event) -> None:
    dumb = os.environ.get("TERM") in ("dumb", "unknown")
    if out.isatty() and not dumb and importlib.util.find_spec("rich") is not None:
        _draw(board, out, over)
    else:
        _write(board, out, over)


def _changes(board: Board, over: threading.Event) -> Iterator[list[Picture]]:
    """Return the board's pictures when something is new, or a second is over; the last ones at the end."""
    seen, last = -1, -_TICK
    while not over.is_set():
        version, now = board.wait(seen, 0), time.monotonic()
        if version > seen or now - last >= _TICK:
            seen, last = version, now
            yield board.pictures()
        over.wait(_EVERY)
    yield board.pictures()


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
        for pictures in _changes(board, over):
            view.update(_Drawn(pictures, datetime.now(UTC)), refresh=True)


class _Drawn:
    """Queries as a table for rich, as wide as the terminal is at the moment."""

    def __init__(self, pictures: Sequence[Picture], now: datetime) -> None:
        self._pictures = pictures
        self._now = now

    def __rich_console__(self, _console: Any, options: Any) -> Iterator[Any]:
        from rich.table import Table
        from rich.text import Text

        room = options.max_width
        sparks = min(24, 8 + (room - _WIDE) // 4) if room >= _WIDE else 0
        kept = _needed(self._pictures)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("query", no_wrap=True, max_width=max(16, room // 5))
        charts = {"rows", "time"} if sparks else set()
        heads = ["batch", "rows/s in", "rows/s done", *charts & {"rows"}, "batch ms", *charts & {"time"}]
        for head in (*heads, *(column[0] for column in kept)):
            table.add_column(head, justify="left" if head in charts else "right")
        for each in self._pictures:
            row = _row(each, sparks, kept)
            table.add_row(*(cell for cell in row if cell is not None))
        yield table
        yield from self._beneath(Table, Text)

    def _beneath(self, grid: Any, text: Any) -> Iterator[Any]:
        """Return the lines beneath the table: what is not through yet, and the verdicts, the worst first."""
        rows = grid.grid(padding=(0, 1, 0, 0))
        for each in self._pictures:
            if not each.batches:
                rows.add_row(text("○", "dim"), text(f"{each.name}: {_numbers.starting(each, self._now)}"))
        said = [(each.name, verdict) for each in self._pictures for verdict in each.verdicts]
        for name, verdict in sorted(said, key=lambda pair: pair[1].level != "bad"):
            words = text.assemble((f"{name}: ", "bold"), str(verdict))
            rows.add_row(text("●", _STYLES[verdict.level]), words)
        if rows.row_count:
            yield rows


def _needed(pictures: Sequence[Picture]) -> list[tuple[str, str, _Value]]:
    """Return the columns that at least one of the queries has a number for."""
    through = [each for each in pictures if each.batches]
    return [column for column in _COLUMNS if any(column[2](each) is not None for each in through)]


def _row(picture: Picture, sparks: int, kept: list[tuple[str, str, _Value]]) -> list[Any]:
    """Return the cells of a query, None for those of charts that have no room."""
    from rich.text import Text

    def chart(values: Sequence[float], style: str) -> Any:
        return Text(_sparkline(values, sparks), style) if sparks else None

    batches = picture.batches
    last = batches[-1] if batches else None
    return [
        Text(picture.name, _STYLES[picture.level], overflow="ellipsis"),
        f"{last.batch:,}" if last else "-",
        short(_numbers.arriving(batches)),
        short(_numbers.done(batches)),
        chart([batch.rows for batch in batches], "blue"),
        f"{last.seconds * 1000:,.0f}" if last else "-",
        chart([batch.seconds for batch in batches], "magenta"),
        *(short(value(picture)) if last else "-" for _, _, value in kept),
    ]


def _sparkline(values: Sequence[float], width: int) -> str:
    shown = values[-width:] if width else []
    top = _numbers.height(shown) or 1
    return "".join(_BLOCKS[min(int(value / top * 7.99), 7)] for value in shown)


# --- lines


def _write(board: Board, out: TextIO, over: threading.Event) -> None:
    """Write a line for each query whenever something has changed, at most every few seconds."""
    said: dict[str, tuple[object, float]] = {}  # of each run: what changes, and when it was said
    for pictures in _changes(board, over):
        now = time.monotonic()
        for each in pictures:
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
        known = [(words, value(picture)) for _, words, value in _COLUMNS]
        told = [
            f"batch {last.batch:,} in {last.seconds:.1f} s",
            f"{short(_numbers.arriving(picture.batches))} rows/s in",
            f"{short(_numbers.done(picture.batches))} rows/s done",
            *(f"{words}: {short(value)}" for words, value in known if value is not None),
        ]
    else:
        told = [_numbers.starting(picture, now)]
    return [
        f"{picture.name}: {', '.join(told)}",
        *(f"{picture.name}: verdict: {verdict}" for verdict in picture.verdicts),
    ]
