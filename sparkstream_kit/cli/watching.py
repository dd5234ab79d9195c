"""The command `watch`: the terminal's picture of a run that was recorded, or still is."""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sparkstream_kit.cli.common import say, stopped_by_signal
from sparkstream_kit.errors import InvalidInputError

try:
    import typer
except ImportError:  # main() says what to install
    typer = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkstream_kit.monitoring.board import Board

__all__ = ["watch"]

_LOOK_EVERY = 0.25  # seconds from one look into a file to the next
_QUIET = 10.0  # seconds without a line that are worth a word


def watch(
    what: Annotated[str, typer.Argument(metavar="FILE", help="What --record FILE of a job writes.")],
) -> None:
    """Show a run as --show does, from its recording. Follows a run that goes on; Ctrl-C ends it."""
    from sparkstream_kit.monitoring import recorder, terminal
    from sparkstream_kit.monitoring.board import Board

    path, board, stop = Path(what), Board(), threading.Event()
    try:
        if recorder.has_ended(path):
            with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
                recorder.follow(lines, board)
            terminal.report(board.pictures(), sys.stdout)
            return
        recorder.follow(_begin(path), Board())  # refused before there is a picture
        quiet = time.time() - path.stat().st_mtime
        if quiet > _QUIET:
            since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            say(
                f"nothing has come since {since:%Y-%m-%d %H:%M:%S} UTC: the run waits, or it was killed; "
                "Ctrl-C ends this"
            )
        with stopped_by_signal(stop.set), terminal.shown(board, sys.stdout):
            recorder.follow(_growing(path, board, stop), board)
    except OSError as err:
        raise InvalidInputError(f"cannot read {what} ({err.strerror}); give what --record wrote") from err
    except InvalidInputError as err:
        raise InvalidInputError(f"{what}: {err}") from err


def _begin(path: Path) -> Iterator[str]:
    """Return the first line of a file; an empty one if it has none yet, which is no recording."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        yield file.readline()


def _growing(path: Path, board: Board, stop: threading.Event) -> Iterator[str]:
    """Return the whole lines of a file as they come, until the one that ends the run."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        line = ""
        while not stop.is_set():
            line += file.readline()
            if line.endswith("\n"):
                yield line
                line = ""
            elif board.ended:
                return
            else:
                stop.wait(_LOOK_EVERY)
