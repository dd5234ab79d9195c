"""A file lock that lasts as long as the JVM whose query may write to the checkpoint beside the file.

`checkpoints.lock` takes it with `take`, so that two queries never write to one checkpoint. On a classic
session the JVM holds the lock: if Python dies and the JVM goes on writing, the checkpoint stays locked. On
Spark Connect, where the JVM is out of reach, this Python process holds the lock.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError, Py4JJavaError

from sparkstream_kit._spark.session import is_connect, server_folder

if TYPE_CHECKING:
    from pathlib import Path


# Files of failed attempts, never closed: on a close POSIX would drop the lock that the same JVM already holds
# on that file for another Python process.
_never_closed: list[Any] = []


class LockedError(Exception):
    """The file is locked by another holder."""


class LockFile:
    """A file that is locked for this session, with a text about its holder.

    Attributes:
        holder: identifies the holder: `jvm` is the process id of the JVM, or None on Spark Connect, where
            `client` is the path of the file by which the server knows that the client is alive.
    """

    def __init__(self, file: Any, java_lock: Any, holder: dict[str, Any]) -> None:
        self.holder = holder
        self._file = file  # a java.io.RandomAccessFile, or on Spark Connect a Python file
        # Keep the reference: without it the JVM collects the lock object and forgets that it has the lock.
        self._java_lock = java_lock
        self._cut = file.truncate if java_lock is None else file.setLength

    def write(self, text: bytes) -> None:
        """Replace the content of the file.

        Raises:
            OSError: the text cannot be written, as on a full disk; the file is closed, and the lock is free.
        """
        try:
            self._cut(0)
            self._file.write(text)
        except (OSError, Py4JJavaError) as err:
            self._file.close()  # its text belongs to another holder if the lock has been lost
            if isinstance(err, OSError):
                raise
            raise OSError(err.java_exception.getMessage()) from err

    def release(self) -> None:
        """Release the lock; call it once the query that it protects has ended."""
        with suppress(Py4JError, OSError):  # if the JVM has ended, the lock is free already
            if self._java_lock is None:
                # An empty file shows that no query was left running at the server.
                self._file.truncate(0)
            self._file.close()


def take(spark: Any, path: Path) -> LockFile:
    """Lock a file for a session, against other JVMs and other Python processes.

    Args:
        spark: the session; its JVM takes the lock, or on Spark Connect this process.
        path: the file, which is created if it is missing.

    Raises:
        LockedError: another holder has the lock.
        OSError: the file cannot be opened or locked.
    """
    if is_connect(spark):
        file = path.open("ab", buffering=0)
        try:
            # Lock the open file and not the process: a lock of the process would be dropped as soon as the
            # process opens the file once more, to read it, and closes it.
            whole = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
        except OSError as err:
            file.close()
            if isinstance(err, BlockingIOError):
                raise LockedError from err
            raise
        client = f"{server_folder(spark)}/clients/{spark.session_id}"
        return LockFile(file, None, {"jvm": None, "client": client})
    jvm = spark._jvm
    java: Any = None
    try:
        java = jvm.java.io.RandomAccessFile(str(path), "rw")
        got = java.getChannel().tryLock()
    except Py4JJavaError as err:
        if "OverlappingFileLock" in err.java_exception.getClass().getName():
            _never_closed.append(java)
            raise LockedError from err
        raise OSError(err.java_exception.getMessage()) from err
    if got is None:
        java.close()
        raise LockedError
    return LockFile(java, got, {"jvm": jvm.java.lang.ProcessHandle.current().pid()})
