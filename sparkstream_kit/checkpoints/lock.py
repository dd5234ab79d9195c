"""One driver per checkpoint: a file lock that is held as long as the driver's JVM can write there.

Spark notices two drivers on one checkpoint only when both have run the same batch.
`lock` takes the lock for a query, and `user_of` only looks.

The JVM holds the lock, not Python: after a SIGKILL of Python the JVM lives and writes
for up to two seconds more. The operating system releases the lock when the JVM ends, so
there is nothing to clean up. On Spark Connect no JVM is in reach, so the client holds
the lock. If a client is killed, its query keeps running until the next client connects
to that server; then it is stopped. Until then other queries are refused the checkpoint.

Look in `by_path`, under `mutex`, before opening a lock file: POSIX drops a process's
locks on a file when the process closes any descriptor of that file.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import threading
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from sparkstream_kit._internal import threads
from sparkstream_kit.checkpoints.logs import KIT
from sparkstream_kit.errors import InvalidInputError, TransientError

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._internal.spark.place import LockFile, Place


# The C type `struct flock`, and the index of its field for the kind of lock; macOS
# orders the fields differently.
if sys.platform == "darwin":
    _FLOCK = struct.Struct("@qqihh")  # start, length, process, kind, whence
    _KIND = 3
else:
    _FLOCK = struct.Struct("@hhqqi0q")  # kind, whence, start, length, process
    _KIND = 0
_FIELDS = 5

# Hold it while you use `by_path`, or open and close a lock file
mutex = threading.RLock()
# The locks of this process's queries, by the real path of the lock file
by_path: dict[str, Lock] = {}


def user_of(root: Path) -> str | None:
    """Return which query of the kit uses a checkpoint and how to end it; None if none does.

    Nothing is locked, so a query may start right after the call.

    Raises:
        OSError: the lock file cannot be read.
    """
    file = root / KIT / "lock"
    if not file.is_file():
        return None
    # Closing the file would drop a lock that another thread takes meanwhile
    with mutex:
        holder = by_path.get(os.path.realpath(file))
        if holder is not None:
            if holder.in_use():
                return f"query {holder.name} of this process; end it first"
            # A query that ends releases its own lock, but only a moment after its
            # `awaitTermination` has returned. A caller that starts the next query in
            # that moment must not be refused.
            holder.release()
        with file.open("rb") as opened:
            is_free = not _is_locked(opened)
            content = opened.read()
    if not is_free:
        return _holder(content)
    # Of Spark Connect: a query that ends empties the file
    if b'"client"' in content:
        from sparkstream_kit.server import left_running

        return left_running(content)
    return None


def _is_locked(file: BinaryIO) -> bool:
    """Return whether another process has locked a file, without locking it."""
    question = [0] * _FIELDS
    question[_KIND] = fcntl.F_WRLCK
    answer = fcntl.fcntl(file, fcntl.F_GETLK, _FLOCK.pack(*question))
    kind: int = _FLOCK.unpack(answer)[_KIND]
    return kind != fcntl.F_UNLCK


def _holder(content: bytes) -> str:
    """Return who holds a lock and how to end that query, from the text in the lock file.

    The holder writes the text just after it takes the lock, so the text may be missing
    or cut off.

    Examples:
        >>> _holder(b"")
        'another process; end its query first'
    """
    with suppress(ValueError, KeyError, TypeError):
        holder = json.loads(content)
        jvm = holder["jvm"]
        through = "Spark Connect" if jvm is None else f"JVM {jvm}"
        return (
            f"query {holder['query']} of process {holder['pid']} ({through}) on"
            f" {holder['host']} since {holder['since']}; end it first (its JVM takes up"
            " to two seconds more)"
        )
    return "another process; end its query first"


def used_by(checkpoint: Path | Place, user: str) -> TransientError:
    """Return the error for a checkpoint that a query uses, given which one and how to end it."""
    return TransientError(f"checkpoint {checkpoint} is in use by {user}")


class Lock:
    """A lock that this process holds on a checkpoint.

    `until_end_of` ties the lock to a running query. Before that call the query counts
    as starting, and the caller must release the lock if the start fails.

    Attributes:
        name: the query's name, for the message to others.
        file: the locked file.
    """

    def __init__(self, key: str, file: LockFile, name: str) -> None:
        self.name = name
        self.file = file
        self._key = key
        self._query: StreamingQuery | None = None

    def until_end_of(self, query: StreamingQuery) -> None:
        """Release the lock in another thread when the query ends, with or without an error."""
        from sparkstream_kit._internal.spark.queries import await_end

        self._query = query

        def wait() -> None:
            # It also returns when the JVM has gone, which releases the lock
            await_end(query)
            self.release()

        threads.in_thread("unlock", wait)

    def release(self) -> None:
        """Release the lock for other queries of the checkpoint; a second call does nothing."""
        with mutex:
            if by_path.get(self._key) is self:
                del by_path[self._key]
                self.file.release()

    def in_use(self) -> bool:
        """Return whether the query that has the lock is starting or running."""
        from sparkstream_kit._internal.spark.queries import is_active

        return self._query is None or is_active(self._query)


def lock(
    spark: SparkSession, location: Place, name: str, *, dry_run: bool = False
) -> Lock | None:
    """Lock a checkpoint for one query, until the lock is released.

    A checkpoint on a remote file system is not locked, and the lock does not protect a
    folder that two machines share. There Spark's own log stops one of two drivers, but
    only after both may have written the same batch, and only a sink that keeps a ledger
    writes that batch once. The same holds on Spark Connect for every server that was
    not started by `sparkstream serve` on this machine.

    Args:
        spark: the session of the query.
        location: the checkpoint; its folder is created if it is missing.
        name: the query's name, for the message to others.
        dry_run: only refuse what would be refused; lock and create nothing.

    Returns:
        The lock; None in a dry run, and for a checkpoint that is not a folder of this
        machine.

    Raises:
        InvalidInputError: another query, of this process or of another one, uses the
            checkpoint; or this user cannot write to the folder.
    """
    from sparkstream_kit._internal.spark.place import LockedError, lock_file

    if location.folder is None:
        return None
    path = location.folder / KIT / "lock"
    _check_writable(location, location.folder)
    with mutex:
        try:
            user = user_of(location.folder)
            if user is not None:
                raise used_by(
                    location, f"{user}, or give this query a checkpoint of its own"
                )
            if dry_run:
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            file = lock_file(spark, path)
            file.write(_description(name, file))
        except LockedError as err:
            # another process took the lock after `user_of` looked
            raise used_by(location, _holder(path.read_bytes())) from err
        except OSError as err:
            fix = "make room, correct its rights, or use a disk that can lock files"
            if path.is_dir():
                fix = f"delete the folder {path}"
            raise InvalidInputError(
                f"checkpoint {location} cannot be locked: {err.strerror or err}; {fix}"
            ) from err
        key = os.path.realpath(path)
        held = Lock(key, file, name)
        by_path[key] = held
        return held


def _check_writable(location: Place, folder: Path) -> None:
    """Refuse a checkpoint in which this user can create no files.

    Args:
        location: the checkpoint, for the message.
        folder: its folder, which need not exist yet.
    """
    above = (folder / KIT, folder, *folder.parents)
    nearest = next(path for path in above if os.path.exists(path))  # noqa: PTH110 - not allowed to look: no
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return
    raise InvalidInputError(
        f"checkpoint {location} cannot be written: {nearest} is no folder that this"
        " user may write to; correct the path or its rights"
    )


def _description(name: str, file: LockFile) -> bytes:
    """Return the text of a lock file, which tells other drivers who holds the lock."""
    since = datetime.now().astimezone()
    content = {
        "query": name,
        "pid": os.getpid(),
        **file.holder,
        "host": socket.gethostname(),
        "since": since.isoformat(" ", "seconds"),
    }
    return json.dumps(content).encode()
