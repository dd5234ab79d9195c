"""One driver a checkpoint: a lock that is held for as long as its JVM can write there.

Spark notices two drivers only when both have run the same batch. The lock belongs to the JVM and not to
Python: after a SIGKILL of Python the JVM lives on for up to two seconds, and writes. When it has gone the
lock has gone, too, and there is nothing to clean up. On Spark Connect, where no JVM is in reach, it belongs
to the client: a killed client's query runs on until the next client of that server comes, and ends then;
until then the checkpoint is refused to others (`left_running`).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException

from sparkstream_kit import _connect, _files, _waiting
from sparkstream_kit.checkpoints.layout import left_running
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["Lock", "local_path", "lock"]

_mutex = threading.RLock()
# By the lock file's real path. Look here before opening the file: POSIX drops a process's locks when it
# closes any descriptor of that file.
_held: dict[str, Lock] = {}
_never_closed: list[Any] = []  # files that another Python of the same JVM has locked, for the same reason


class Lock:
    """A held lock; it belongs to a query once `until_end_of` has been called."""

    def __init__(self, key: str, file: Any, java_lock: Any, name: str) -> None:
        self.name = name
        self._key = key
        self._file = file  # of the JVM's, or of this Python's
        self._java_lock = java_lock  # without this reference the JVM would forget that it has the lock
        self._query: StreamingQuery | None = None

    def until_end_of(self, query: StreamingQuery) -> None:
        """Release the lock when the query ends, however it does."""
        self._query = query

        def wait() -> None:
            # The query's error is its own; a JVM that has gone took the lock with it.
            with suppress(Exception):
                query.awaitTermination()
            self.release()

        _waiting.in_thread("unlock", wait)

    def release(self) -> None:
        """Let another query have the checkpoint; a second call does nothing."""
        with _mutex:
            if _held.get(self._key) is self:
                del _held[self._key]
                with suppress(Py4JError, OSError):  # the JVM has gone, and the lock with it
                    if self.is_here:
                        self._file.truncate(0)  # the query has ended: nothing is left running
                    self._file.close()

    @property
    def is_here(self) -> bool:
        """Whether this Python holds the lock, and not its JVM."""
        return self._java_lock is None

    def close(self) -> None:
        """Close this process's copy of the file."""
        self._file.close()

    def in_use(self) -> bool:
        """Say whether the query that has the lock is starting or running."""
        try:
            return self._query is None or self._query.isActive
        except (Py4JError, PySparkException, OSError):  # its JVM or its session has gone
            return False


def lock(spark: SparkSession, location: str, name: str) -> Lock | None:
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
    path = local_path(spark, location)
    if path is None:
        return None
    file = path / "sparkstream-kit" / "lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InvalidInputError(
            f"checkpoint {location} cannot be written: {err.strerror}: {err.filename}; give another folder"
        ) from err
    key = os.path.realpath(file)
    with _mutex:
        holder = _held.get(key)
        if holder is not None:
            if holder.in_use():
                raise InvalidInputError(
                    f"checkpoint {location} is in use by query {holder.name} of this process; "
                    "end that one first, or give this query a checkpoint of its own"
                )
            holder.release()
        if _connect.is_connect(spark):
            opened, java_lock = _locked_here(spark, file, location, name), None
        else:
            opened, java_lock = _locked(spark, file, location, name)
        _held[key] = Lock(key, opened, java_lock, name)
        return _held[key]


def _in_use(file: Path, location: str) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint {location} is in use by {_holder(file)}; end it (its JVM takes up to two seconds "
        "more), or give this query a checkpoint of its own"
    )


def local_path(spark: SparkSession, location: str) -> Path | None:
    """Return where a checkpoint lies on this machine; None if it does not.

    On Spark Connect it does only where `sparkstream serve` has started the server.
    """
    if _connect.is_connect(spark):
        plain = _files.plain(location) if _connect.folder(spark) is not None else None
        return None if plain is None else Path(plain).absolute()
    jvm: Any = spark._jvm  # noqa: SLF001 - classic only, and only here and below
    uri = jvm.org.apache.hadoop.fs.Path(location).toUri()
    if (uri.getScheme() or _default_scheme(spark)) != "file":
        return None
    return Path(jvm.java.io.File(uri.getPath()).getAbsolutePath())


def _default_scheme(spark: SparkSession) -> str:
    """Return the scheme of a path without one."""
    default: str = spark._jsc.hadoopConfiguration().get("fs.defaultFS", "file:///")  # noqa: SLF001
    return default.partition(":")[0]


def _locked_here(spark: Any, path: Path, location: str, name: str) -> BinaryIO:
    """Return the open file, which this Python has locked: against the locks of JVMs and of other Pythons."""
    # Of the open file, and not of the process: else any look at the lock from here would undo it.
    whole = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with ExitStack() as stack:
            file = stack.enter_context(path.open("ab", buffering=0))
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
            _check_left(path, location)
            stack.pop_all()
    except BlockingIOError as err:
        raise _in_use(path, location) from err
    except OSError as err:
        raise InvalidInputError(
            f"checkpoint {location} cannot be locked: {err.strerror}; give another folder"
        ) from err
    file.truncate(0)
    # By this file the server knows that the client lives.
    file.write(_said(name, None, client=f"{_connect.folder(spark)}/clients/{spark.session_id}"))
    return file


def _locked(spark: SparkSession, path: Path, location: str, name: str) -> tuple[Any, Any]:
    """Return the JVM's open file and its lock, which lasts until the file is closed."""
    jvm: Any = spark._jvm  # noqa: SLF001
    file: Any = None
    try:
        file = jvm.java.io.RandomAccessFile(str(path), "rw")
        got = file.getChannel().tryLock()
    except Py4JJavaError as err:
        if "OverlappingFileLock" in err.java_exception.getClass().getName():
            _never_closed.append(file)
            raise InvalidInputError(
                f"checkpoint {location} is in use by another session of this JVM; end its query first, or "
                "give this query a checkpoint of its own"
            ) from err
        reason = err.java_exception.getMessage()
        raise InvalidInputError(
            f"checkpoint {location} cannot be locked: {reason}; give another folder"
        ) from err
    if got is None:
        file.close()
        raise _in_use(path, location)
    try:
        _check_left(path, location)
    except InvalidInputError:
        file.close()
        raise
    file.setLength(0)
    file.write(_said(name, jvm.java.lang.ProcessHandle.current().pid()))
    return file, got


def _check_left(path: Path, location: str) -> None:
    """Refuse a checkpoint on which a server runs the query of a killed client."""
    if left := left_running(path.read_bytes()):
        raise InvalidInputError(f"checkpoint {location} is in use by {left}")


def _said(name: str, jvm: int | None, **more: str) -> bytes:
    """Return what the holder of a lock writes down of itself."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    holder = {"query": name, "pid": os.getpid(), "jvm": jvm, "host": socket.gethostname(), "since": since}
    return json.dumps(holder | more).encode()


def _forget_in_child() -> None:
    """Leave a forked child none of its parent's locks, which it would hold after the parent's death."""
    for held in _held.values():
        if held.is_here:
            held.close()
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def _holder(path: Path) -> str:
    """Return who has a lock, as the holder wrote it down; it may be doing so right now."""
    try:
        holder = json.loads(path.read_text("utf-8"))
        through = "Spark Connect" if holder["jvm"] is None else f"JVM {holder['jvm']}"
        return "query {query} of process {pid} ({}) on {host} since {since}".format(through, **holder)
    except (OSError, ValueError, KeyError):
        return "another process"
