"""The command `watch`: the terminal's picture of a run that was recorded, or still is."""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from sparkstream_kit.checkpoints import logs
from sparkstream_kit.cli.common import say, stopped_by_signal
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sparkstream_kit.monitoring.board import Board


_LOOK_EVERY = 0.25  # seconds from one look into a file to the next
_SILENT = 20.0  # seconds without a line after which a page has gone
_PRINTED = "give the address that --ui of a running job prints, with its #token=…"
_QUIET = 10.0  # seconds without a line that are worth a word


def watch(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|ADDRESS|CHECKPOINT",
            help="The file of a job's --record, or the address or checkpoint of a job with --ui.",
        ),
    ],
) -> None:
    """Show a run as --show does, from a recording or a page. Follows it to its end, or until Ctrl-C."""
    from sparkstream_kit.monitoring import board as recorder
    from sparkstream_kit.monitoring import terminal
    from sparkstream_kit.monitoring.board import Board

    if Path(what).is_dir():
        what = _address_of(Path(what))
    if what.startswith("http://"):
        address, _, token = what.partition("#token=")
        _watch_page(address.partition("#")[0], token)
        return
    path, board, stop = Path(what), Board(), threading.Event()
    try:
        ended = recorder.has_ended(path)
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            if ended:
                recorder.follow(file, board)
                terminal.report(board.pictures(), sys.stdout)
                return
            recorder.follow([file.readline()], Board())  # refused before there is a picture
            file.seek(0)
            last = path.stat().st_mtime
            if time.time() - last > _QUIET:
                since = f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M:%S} UTC"
                say(f"nothing has come since {since}: the run waits, or it was killed; Ctrl-C ends this")
            board.live = False
            with stopped_by_signal(stop.set), terminal.shown(board, sys.stdout):
                recorder.follow(_growing(file, board, stop), board)
    except OSError as err:
        raise InvalidInputError(f"cannot read {what} ({err.strerror}); give what --record wrote") from err
    except InvalidInputError as err:
        raise InvalidInputError(f"{what}: {err}") from err


def _address_of(checkpoint: Path) -> str:
    """Return the address of the page of the job that runs on a checkpoint."""
    try:
        return logs.page_file(checkpoint).read_text("utf-8")
    except OSError as err:
        raise InvalidInputError(
            f"no job with a page runs on a checkpoint {checkpoint}; start it with --ui, or give what "
            "--record wrote"
        ) from err


def _watch_page(address: str, token: str) -> None:
    """Show the run of a page; `address` is without its token, so that no line shows that."""
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    from sparkstream_kit.monitoring import board as recorder
    from sparkstream_kit.monitoring import terminal
    from sparkstream_kit.monitoring.board import Board

    board, stop = Board(), threading.Event()
    try:
        place = urlsplit(address)
        page = HTTPConnection(place.hostname or "", place.port, timeout=_SILENT)
        page.request("GET", "/record", headers={"Authorization": f"Bearer {token}"})
        lines = page.getresponse()
        if lines.status == HTTPStatus.UNAUTHORIZED:
            raise InvalidInputError(f"the page at {address} does not know this token; {_PRINTED}")
        if lines.status != HTTPStatus.OK:
            raise InvalidInputError(f"{address} is no page of a run; {_PRINTED}")
        with lines, stopped_by_signal(stop.set), terminal.shown(board, sys.stdout):
            board.live = False
            told = takewhile(lambda _: not stop.is_set(), lines)
            recorder.follow(_live_after_a_pause(told, board), board)
    except (OSError, HTTPException, ValueError) as err:
        if isinstance(err, InvalidInputError):
            raise
        if not board.pictures():
            raise InvalidInputError(f"cannot read {address} ({err}); {_PRINTED}") from err
    if not board.ended and not stop.is_set():
        say("the page has gone: the job was killed, or cannot be reached any more")


def _live_after_a_pause(lines: Iterable[bytes], board: Board) -> Iterator[str]:
    """Yield the lines of a page: first those of its past, then one each two seconds, be it an empty one."""
    for line in lines:
        board.live = board.live or not line.strip()
        yield line.decode()


def _growing(file: TextIO, board: Board, stop: threading.Event) -> Iterator[str]:
    """Return the whole lines of a file as they come, until the one that ends the run."""
    line = ""
    while not stop.is_set():
        line += file.readline()
        if line.endswith("\n"):
            yield line
            line = ""
        elif board.ended:
            return
        else:
            board.live = True
            stop.wait(_LOOK_EVERY)
