"""A file that is locked for as long as the JVM of a session can write beside it.

On Spark Connect, where no JVM is in reach, this Python holds the lock.
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


_never_closed: list[Any] = []  # POSIX would drop the lock that another Python of the same JVM has on the file


class LockedError(Exception):
    """Another holder has the file."""


class LockFile:
    """A locked file.

    Attributes:
        holder: who holds it: the process of the JVM, or on Spark Connect the client's own file, by which the
            server knows that the client lives.
    """

    def __init__(self, file: Any, java_lock: Any, holder: dict[str, Any]) -> None:
        self.holder = holder
        self._file = file  # of the JVM's, or of this Python's
        self._java_lock = java_lock  # without this reference the JVM would forget that it has the lock

    @property
    def is_here(self) -> bool:
        """Whether this Python holds the lock, and not its JVM."""
        return self._java_lock is None

    def write(self, text: bytes) -> None:
        """Replace what the file says.

        Raises:
            OSError: there is no room for it; the file is closed, and free for others.
        """
        try:
            if self.is_here:
                self._file.truncate(0)
            else:
                self._file.setLength(0)
            self._file.write(text)
        except OSError:
            self.close()
            raise
        except Py4JJavaError as err:
            self.close()
            raise OSError(err.java_exception.getMessage()) from err

    def release(self) -> None:
        """Give the lock free: what ran under it has ended."""
        with suppress(Py4JError, OSError):  # the JVM has gone, and the lock with it
            if self.is_here:
                self._file.truncate(0)  # nothing is left running
            self._file.close()

    def close(self) -> None:
        """Close the file: another may have it, or this process is a fork of who holds the lock."""
        self._file.close()


def take(spark: Any, path: Path) -> LockFile:
    """Lock a file for a session, against other JVMs and other Pythons.

    Raises:
        LockedError: somebody has it.
        OSError: it cannot be locked.
    """
    if is_connect(spark):
        file = path.open("ab", buffering=0)
        try:
            # Of the open file, and not of the process: else any look at the file from here would undo it.
            whole = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
        except OSError as err:
            file.close()
            if isinstance(err, BlockingIOError):
                raise LockedError from err
            raise
        return LockFile(
            file, None, {"jvm": None, "client": f"{server_folder(spark)}/clients/{spark.session_id}"}
        )
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
