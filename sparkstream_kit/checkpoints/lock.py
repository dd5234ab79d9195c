"""One driver a checkpoint: a lock that is held for as long as its JVM can write there.

Spark notices two drivers only when both have run the same batch. The lock belongs to the JVM and not to
Python: after a SIGKILL of Python the JVM lives on for up to two seconds, and writes. When it has gone the
lock has gone, too, and there is nothing to clean up. On Spark Connect, where no JVM is in reach, it belongs
to the client: a killed client's query runs on until the next client of that server comes, and ends then;
until then the checkpoint is refused to others (`left_running`).

Look here before opening a lock file: POSIX drops a process's locks when it closes any descriptor of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import threading
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit import _waiting
from sparkstream_kit.checkpoints.logs import KIT
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._spark.lock import LockFile
    from sparkstream_kit._spark.place import Place


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
    with mutex:  # who looks at the file in this process, and closes it, would unlock it
        check_unused(root)
        with file.open("r+b") as held:
            try:
                fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise _in_use(root, _holder(held.read())) from None
            yield


def check_unused(root: Path) -> None:
    """Refuse a checkpoint that a query of the kit uses.

    Raises:
        InvalidInputError: a query uses the checkpoint.
    """
    if user := user_of(root):
        raise _in_use(root, user)


def check_free(location: Place) -> None:
    """Refuse a checkpoint that `lock` would not lock; nothing is made.

    Raises:
        InvalidInputError: a query uses it, or the folder cannot be written.
    """
    root = location.folder
    if root is None:
        return
    above = (root / KIT, root, *root.parents)
    there = next(each for each in above if os.path.exists(each))  # noqa: PTH110 - not allowed to look: no
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InvalidInputError(
            f"checkpoint {location} cannot be written: {there} is no folder that this user may write to; "
            "give another folder"
        )
    try:
        user = user_of(root)
    except OSError as err:
        raise _not_locked(location, err) from err
    if user:
        raise _in_use(location, f"{user}, or give this query a checkpoint of its own")


def user_of(root: Path) -> str | None:
    """Say which query of the kit uses a checkpoint, and how it is ended; None if none does.

    Nothing is locked, so that one may start meanwhile.
    """
    file = root / KIT / "lock"
    if not file.is_file():
        return None
    with mutex:  # a lock that this process takes meanwhile would go when the file is closed
        if (holder := not_ended(os.path.realpath(file))) is not None:
            return f"query {holder.name} of this process; end it first"
        with file.open("rb") as opened:
            asked = [fcntl.F_WRLCK if field == _KIND else 0 for field in range(5)]
            found = _FLOCK.unpack(fcntl.fcntl(opened, fcntl.F_GETLK, _FLOCK.pack(*asked)))
            said = opened.read()
    return left_running(said) if found[_KIND] == fcntl.F_UNLCK else _holder(said)


def _holder(said: bytes) -> str:
    """Say who has a lock, as the holder wrote it down; it may be doing so right now."""
    try:
        holder = json.loads(said)
        through = "Spark Connect" if holder["jvm"] is None else f"JVM {holder['jvm']}"
        found = "query {query} of process {pid} ({}) on {host} since {since}".format(through, **holder)
    except (ValueError, KeyError):
        return "another process; end its query first"
    return f"{found}; end it first (its JVM takes up to two seconds more)"


def _in_use(checkpoint: Path | Place, user: str) -> InvalidInputError:
    return InvalidInputError(f"checkpoint {checkpoint} is in use by {user}")


def _not_locked(location: Place, err: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint {location} cannot be locked: {err.strerror or err}; give another folder"
    )


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


class Lock:
    """A held lock; it belongs to a query once `until_end_of` has been called."""

    def __init__(self, key: str, file: LockFile, name: str) -> None:
        self.name = name
        self.file = file
        self._key = key
        self._query: StreamingQuery | None = None

    def until_end_of(self, query: StreamingQuery) -> None:
        """Release the lock when the query ends, however it does."""
        from sparkstream_kit._spark.queries import await_end

        self._query = query

        def wait() -> None:
            await_end(query)  # a JVM that has gone took the lock with it
            self.release()

        _waiting.in_thread("unlock", wait)

    def release(self) -> None:
        """Let another query have the checkpoint; a second call does nothing."""
        with mutex:
            if by_path.get(self._key) is self:
                del by_path[self._key]
                self.file.release()

    def in_use(self) -> bool:
        """Say whether the query that has the lock is starting or running."""
        from sparkstream_kit._spark.queries import is_active

        return self._query is None or is_active(self._query)


def lock(spark: SparkSession, location: Place, name: str) -> Lock | None:
    """Lock a checkpoint for one query, until `release`.

    A checkpoint on a remote file system is not locked, nor one that two machines share: there Spark's own
    log ends one of two drivers, after both may have written the same batch, and only a sink that keeps a
    ledger writes it once. On Spark Connect that is so for each server that this machine's
    `sparkstream serve` has not started.

    Args:
        spark: the session of the query.
        location: the checkpoint.
        name: the query's name, for the message to others.

    Returns:
        The lock; None for a checkpoint that is not a folder of this machine.

    Raises:
        InvalidInputError: another query has it, of this process or of another; or the folder cannot be
            written.
    """
    from sparkstream_kit._spark.lock import LockedError, take

    if location.folder is None:
        return None
    path = location.folder / KIT / "lock"
    host, since = socket.gethostname(), datetime.now().astimezone().isoformat(" ", "seconds")
    with mutex:
        check_free(location)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = take(spark, path)
            says = {"query": name, "pid": os.getpid(), **file.holder, "host": host, "since": since}
            file.write(json.dumps(says).encode())
        except LockedError as err:  # since the look
            raise _in_use(location, _holder(path.read_bytes())) from err
        except OSError as err:
            raise _not_locked(location, err) from err
        key = os.path.realpath(path)
        held = by_path[key] = Lock(key, file, name)
        return held


def _forget_in_child() -> None:
    """Leave a forked child none of its parent's locks, which it would hold after the parent's death."""
    for held in by_path.values():
        if held.file.is_here:
            held.file.close()
    by_path.clear()


os.register_at_fork(after_in_child=_forget_in_child)
