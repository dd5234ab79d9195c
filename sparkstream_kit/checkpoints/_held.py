"""The locks on checkpoints that queries of this process hold.

Look here before opening a lock file: POSIX drops a process's locks when it closes any descriptor of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit.checkpoints.layout import KIT
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkstream_kit.checkpoints.locks import Lock

# The C type `struct flock`, and which of its fields is the kind of lock; their order is another on macOS.
_FLOCK, _KIND = (struct.Struct("@qqihh"), 3) if sys.platform == "darwin" else (struct.Struct("@hhqqi0q"), 0)

mutex = threading.RLock()
by_path: dict[str, Lock] = {}  # by the lock file's real path


def not_ended(path: str) -> Lock | None:
    """Return the lock of a query that is starting or running; release that of one that has ended.

    A query releases its lock itself, but a moment after its `awaitTermination` has returned.
    """
    with mutex:
        holder = by_path.get(path)
        if holder is None or holder.in_use():
            return holder
        holder.release()
        return None


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the lock that a query of the kit holds on its checkpoint, so that none starts meanwhile.

    Raises:
        InvalidInputError: a query uses the checkpoint.
    """
    file = root / KIT / "lock"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    _check_here(root, file)
    with file.open("r+b") as held:
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInputError(f"checkpoint {root} is in use; end its query first") from None
        _check_left(root, held.read())  # of this very file: to close another one would unlock it
        yield


def check_unused(root: Path) -> None:
    """Refuse a checkpoint that a query of the kit uses; nothing is locked, so that one may start meanwhile.

    Raises:
        InvalidInputError: a query uses the checkpoint.
    """
    file = root / KIT / "lock"
    if not file.is_file():
        return
    with mutex:  # a lock that this process takes meanwhile would go when the file is closed
        _check_here(root, file)
        with file.open("rb") as opened:
            asked = [fcntl.F_WRLCK if field == _KIND else 0 for field in range(5)]
            found = _FLOCK.unpack(fcntl.fcntl(opened, fcntl.F_GETLK, _FLOCK.pack(*asked)))
            if found[_KIND] != fcntl.F_UNLCK:
                raise InvalidInputError(f"checkpoint {root} is in use; end its query first")
            _check_left(root, opened.read())


def _check_here(root: Path, file: Path) -> None:
    if (holder := not_ended(os.path.realpath(file))) is not None:
        raise InvalidInputError(
            f"checkpoint {root} is in use by query {holder.name} of this process; end it first"
        )


def _check_left(root: Path, said: bytes) -> None:
    if left := left_running(said):
        raise InvalidInputError(f"checkpoint {root} is in use by {left}")


def left_running(said: bytes) -> str | None:
    """Say which query a killed client of `sparkstream serve` has left running, by what its lock file says.

    The client's own lock went with it. What it wrote there did not, and the server runs the query until the
    next client comes.
    """
    try:
        holder = json.loads(said)
        client = Path(holder["client"])
        server = json.loads((client.parent.parent / "server.json").read_text("utf-8"))["pid"]
        program = Path(f"/proc/{server}/cmdline").read_bytes()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not client.exists() or b"SparkConnectServer" not in program:
        return None
    return (
        f"query {holder['query']}, which runs on in the Spark Connect server (process {server}) although its "
        "client was killed; end it: run any job there, or sparkstream serve --stop"
    )
