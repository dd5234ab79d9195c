"""Folders that Spark reads or writes, such as checkpoints, and how to reach their files.

`locate` returns the `Place` of a path, which is one of three classes with the same
methods: `LocalPlace` is a folder on this machine, `RemotePlace` is one on a file system that the
JVM reaches through Hadoop, and `Place` itself is one that only a Spark Connect server
reaches. A rename is atomic on this machine and on HDFS; an object store has no atomic
rename.

The module also refuses paths that a cluster's nodes or a server do not share
(`refuse_many_disks`, `refuse_elsewhere`).
`lock_file` locks a file for as long as the JVM lives whose query may write beside it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.spark.session import (
    is_connect,
    other_master,
    server_folder,
)
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)


class Place:
    """A folder that Spark reads or writes.

    The methods take names relative to the folder, which may include subfolders, such as
    `offsets/7`. This base class stands for a folder that only a Spark Connect server
    reaches: it looks empty from here, and what needs its files is refused; see `LocalPlace`
    and `RemotePlace` for these methods.

    Attributes:
        text: the path in the form in which Spark is given it; see `_path_for`.
        folder: the same folder as a path of this machine; None if it is elsewhere.
        is_in_reach: whether this process can list the folder, and read and write its
            files.
        renames_in_one_step: whether a rename in the folder is atomic.
    """

    folder: Path | None = None
    is_in_reach = False
    renames_in_one_step = False

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        """Return the path as it was given."""
        return self.text

    @property
    def uri(self) -> str:
        """The path for Spark; a local one has a scheme, whatever Spark's default file system is."""
        if self.folder is None:
            return self.text
        return file_system.for_spark(self.folder)

    @property
    def pattern(self) -> str:
        """The path for a reader of Spark's that would take it for a pattern."""
        return file_system.escaped(self.text)

    def names(self, name: str = "") -> list[str]:  # noqa: ARG002 - as of the others
        """Return the names of the entries of this folder, or of its subfolder `name`.

        The list is empty if the folder does not exist, or if only a Connect server
        reaches it.
        """
        return []

    def entries(self, log: str) -> dict[int, str]:
        """Return the files of a log, such as `sources/0`, by entry number and in order."""
        return file_system.log_entries(self.names(log))

    def read(self, name: str) -> str | None:
        """Return the text of a file; None if the file is missing.

        Raises:
            InvalidInputError: only a Spark Connect server reaches the folder.
            OSError: the file cannot be read.
            UnicodeDecodeError: the file is not UTF-8 text.
        """
        return str(self._refused(name))

    def _refused(self, *_: Any, **__: Any) -> Any:
        """Refuse what only a folder within reach can do."""
        raise InvalidInputError(
            f"{self} is on a Spark Connect server, and its files cannot be read or"
            " written from here; use a session of this process (unset SPARK_REMOTE),"
            " or a local path on a server of this machine (sparkstream serve start)"
        )

    bring = make = is_empty_folder = write = rename = remove = _refused


class LocalPlace(Place):
    """A folder on this machine."""

    is_in_reach = renames_in_one_step = True

    def __init__(self, text: str, folder: Path) -> None:
        super().__init__(text)
        self.folder: Path = folder

    def names(self, name: str = "") -> list[str]:
        inside = self.folder / name
        if not inside.is_dir():
            return []
        return [path.name for path in inside.iterdir()]

    def read(self, name: str) -> str | None:
        file = self.folder / name
        if not file.exists():
            return None
        return file.read_bytes().decode()

    def make(self) -> None:
        """Create the folder and its missing parents, unless the folder exists."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_empty_folder(self, name: str) -> bool:
        """Return whether `name` is an empty subfolder."""
        inside = self.folder / name
        return inside.is_dir() and not any(inside.iterdir())

    def write(self, name: str, text: str) -> None:
        """Write a file as a whole, replacing an existing one; create its folder if missing."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file_system.replace(file, [text])

    def rename(self, old: str, new: str) -> None:
        """Rename a file or a folder to an unused name; an OSError if a folder has the new name."""
        (self.folder / old).rename(self.folder / new)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with its content, if it exists."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class RemotePlace(Place):
    """A folder on another file system, such as HDFS or S3, reached by Hadoop in the JVM.

    A failure in Java becomes an OSError with a message of one line.
    """

    is_in_reach = True

    def __init__(self, spark: Any, text: str) -> None:
        super().__init__(text)
        self._spark = spark

    @property
    def renames_in_one_step(self) -> bool:  # type: ignore[override]
        with self._file_system() as files:
            return bool(files.getScheme() == "hdfs")

    @contextmanager
    def _file_system(self) -> Iterator[Any]:
        """Yield the folder's FileSystem; turn Java's exceptions in the block into OSError."""
        try:
            yield self._path().getFileSystem(self._spark._jsc.hadoopConfiguration())
        except (Py4JError, PySparkException) as err:
            raise OSError(f"{self.text}: {innermost_cause(err)}") from err

    def _path(self, name: str = "") -> Any:
        """Return the folder, or `name` in it, as a Hadoop Path."""
        path = self.text
        if name:
            path = f"{path.rstrip('/')}/{name}"
        return self._spark._jvm.org.apache.hadoop.fs.Path(path)

    def names(self, name: str = "") -> list[str]:
        path = self._path(name)
        with self._file_system() as files:
            if not files.exists(path):
                return []
            return [each.getPath().getName() for each in files.listStatus(path)]

    def read(self, name: str) -> str | None:
        path = self._path(name)
        with self._file_system() as files:
            if not files.exists(path):
                return None
            utils = self._spark._jvm.org.apache.commons.io.IOUtils
            with closing(files.open(path)) as stream:
                return str(utils.toString(stream, "UTF-8"))

    def bring(self, name: str, folder: Path) -> None:
        """Copy the file or the whole folder `name` into a local folder, if it exists."""
        path = self._path(name)
        target = folder / name
        with self._file_system() as files:
            if not files.exists(path):
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            local_path = self._spark._jvm.org.apache.hadoop.fs.Path(str(target))
            # True: without Hadoop's .crc files
            files.copyToLocalFile(False, path, local_path, True)
            if not target.is_dir():
                return
            for entry in files.listStatus(path):
                modified = entry.getModificationTime() * 1_000_000
                os.utime(target / entry.getPath().getName(), ns=(modified, modified))

    def make(self) -> None:
        with self._file_system() as files:
            files.mkdirs(self._path())

    def is_empty_folder(self, name: str) -> bool:
        path = self._path(name)
        with self._file_system() as files:
            if not files.getFileStatus(path).isDirectory():
                return False
            return len(files.listStatus(path)) == 0

    def write(self, name: str, text: str) -> None:
        above, _, last = name.rpartition("/")
        temporary = self._path(f"{above}/.{last}.tmp".lstrip("/"))
        with self._file_system() as files:
            stream = files.create(temporary, True)
            stream.write(bytearray(text.encode()))
            stream.close()
        self._rename(temporary, self._path(name), "OVERWRITE")

    def rename(self, old: str, new: str) -> None:
        self._rename(self._path(old), self._path(new), "NONE")

    def _rename(self, old: Any, new: Any, what_is_there: str) -> None:
        """Rename in one step; `FileSystem.rename` would move a folder into an existing one.

        Args:
            old: a Hadoop Path.
            new: its new Hadoop Path.
            what_is_there: what to do if `new` exists, as the name of a Hadoop option:
                `OVERWRITE` or `NONE`, which fails.
        """
        hadoop = self._spark._jvm.org.apache.hadoop.fs
        with self._file_system() as files:
            context = hadoop.FileContext.getFileContext(old.toUri(), files.getConf())
            options = self._spark.sparkContext._gateway.new_array(
                hadoop.Options.Rename, 1
            )
            options[0] = getattr(hadoop.Options.Rename, what_is_there)
            context.rename(old, new, options)

    def remove(self, name: str) -> None:
        with self._file_system() as files:
            files.delete(self._path(name), True)


def locate(spark: SparkSession, path: str | Path) -> Place:
    """Return the place of a path, as the given session sees the path.

    A local path, or one with the scheme `file:`, is a folder of this machine (`LocalPlace`),
    except on a Spark Connect server that `sparkstream serve` has not started on this
    machine. On a classic session a path without a scheme belongs to Spark's default
    file system.
    """
    text = _path_for(spark, str(path))
    local_path = file_system.plain(text)
    if is_connect(spark):
        if local_path is not None and server_folder(spark) is not None:
            return LocalPlace(text, Path(local_path).absolute())
        return Place(text)
    if local_path is None:
        return RemotePlace(spark, text)
    has_no_scheme = local_path == text
    if has_no_scheme and _default_scheme(spark) != "file":
        return RemotePlace(spark, text)
    if not os.path.isabs(local_path):  # noqa: PTH117 - a text
        # A relative path is relative to the JVM's working folder, which can differ from
        # Python's.
        local_path = spark._jvm.java.io.File(local_path).getAbsolutePath()  # type: ignore[union-attr]
    # Hadoop resolves `..` in the text of a path, without following links, and so does
    # normpath.
    return LocalPlace(text, Path("/" + os.path.normpath(local_path).lstrip("/")))


def is_unseen(what: str, *places: Place) -> bool:
    """Return whether only a Spark Connect server reaches one of the places; warn if so.

    Args:
        what: what cannot be checked there, for the message.
        places: the folders to look at.
    """
    for place in places:
        if not place.is_in_reach:
            _log.warning(
                "%s is not checked, as %s is on a Spark Connect server; let no other"
                " query use it",
                what,
                place,
            )
            return True
    return False


def id_in_checkpoint(location: Place) -> str | None:
    """Return Spark's id of the query that wrote a checkpoint.

    Returns:
        The id from the checkpoint's file `metadata`. None if the file is missing, as
        before the first start, or cannot be read.

    Raises:
        InvalidInputError: only a Spark Connect server reaches the checkpoint.
    """
    # Spark, or `start`, reports a damaged file. A plain ValueError would include
    # InvalidInputError.
    with suppress(OSError, UnicodeError, json.JSONDecodeError):
        return file_system.query_id(location.read("metadata") or "")
    return None


def _left_behind(spark: Any) -> bool:
    """Return whether this process has left the folder in which the session's JVM started.

    False on Spark Connect, and if Spark's default file system is not the local one.
    """
    if is_connect(spark) or _default_scheme(spark) != "file":
        return False
    return str(spark._jvm.java.lang.System.getProperty("user.dir")) != os.getcwd()  # noqa: PTH109 - as Java has it


def _default_scheme(spark: Any) -> str:
    """Return the scheme that Spark assumes for a path without one."""
    default = spark._jsc.hadoopConfiguration().get("fs.defaultFS", "file:///")
    return str(default).partition(":")[0]


def in_its_file_system(spark: Any, path: str) -> str:
    """Return a path of another file system as an absolute path within it, without scheme and host.

    On Spark Connect a relative path stays relative.
    """
    # Not parsed as a URI: in a pattern `?` stands for a character and does not begin a
    # query.
    path = re.sub(r"^[^:/]*:(//[^/]*)?", "", path)
    if path.startswith("/") or is_connect(spark):
        return path
    files = spark._jvm.org.apache.hadoop.fs.FileSystem.get(
        spark._jsc.hadoopConfiguration()
    )
    return f"{files.getWorkingDirectory().toUri().getPath()}/{path}"


def _path_for(spark: SparkSession, path: str) -> str:
    """Return a path by which the session's Spark finds the same file as this process.

    A server of `sparkstream serve` has another working folder, and so has a JVM after
    `os.chdir` or `%cd`. So a relative path becomes absolute for them, as does one with
    a colon, which Hadoop would take for a scheme. Any other path is returned unchanged.

    Raises:
        InvalidInputError: the path has a scheme without its slashes.
    """
    file_system.refuse_misspelt(path)
    if file_system.plain(path) != path:  # it has a scheme
        return path
    if ":" in path or server_folder(spark) or _left_behind(spark):
        return os.path.join(Path.cwd(), path)  # noqa: PTH118 - keeps a glob and a trailing slash
    return path


def session_of_writer(writer: Any) -> SparkSession:
    """Return the session of a DataStreamWriter."""
    session: SparkSession
    if is_connect(writer):
        session = writer._session
    else:
        session = writer._spark
    return session


def refuse_elsewhere(spark: SparkSession, what: str, instead: str) -> None:
    """Refuse to write a local file that would end up on a Spark Connect server elsewhere.

    Args:
        spark: the session.
        what: the file, for the message.
        instead: what to use instead, for the message.

    Raises:
        InvalidInputError: the session's server is not one of `sparkstream serve` on
            this machine.
    """
    if is_connect(spark) and server_folder(spark) is None:
        fix = f"use {instead}, or a server on this machine (sparkstream serve start)"
        raise InvalidInputError(f"{what} would be on the Spark Connect server; {fix}")


def refuse_many_disks(spark: SparkSession, what: str, path: str) -> None:
    """Refuse to write to a local path of which each node of a cluster has its own copy.

    A path that begins with `file:///` is accepted: by this scheme the user states that
    the nodes share the folder.

    Args:
        spark: the session.
        what: what is written to the path, such as "checkpoint", for the message.
        path: the path as the user gave it.

    Raises:
        InvalidInputError: the path is local and has no scheme, and the session's master
            has nodes on other machines.
    """
    master = other_master(spark)
    if master is None or file_system.plain(path) != path:
        return
    if locate(spark, path).folder is not None:
        raise InvalidInputError(
            f"{what} {path} is a local path, but the master is {master}, whose nodes"
            " would each write a part of it to a disk of their own; give a path that"
            " they share, such as hdfs://namenode/folder, or, if they share this"
            f" folder, file://{os.path.abspath(path)}"  # noqa: PTH100 - a text
        )


@contextmanager
def reached(what: str, path: str) -> Iterator[None]:
    """Turn errors of a file system in the block into one line, such as a refused log-in.

    An AnalysisException is raised unchanged, and so is an error of Spark about a local
    path, unless it says that the path is a pattern that Hadoop cannot read.

    Args:
        what: what the path is used for, for the message.
        path: the path as the user gave it.

    Raises:
        InvalidInputError: the file system cannot be reached or denies access: the
            bucket is missing, the host is unknown, or the key is wrong; a local path
            may not be written; or the path is such a pattern.
    """
    try:
        yield
    except (OSError, Py4JJavaError, PySparkException) as err:
        is_local = file_system.plain(path) is not None
        is_of_here = is_local and "Illegal file pattern" not in str(err)
        if is_of_here and isinstance(err, OSError):
            raise InvalidInputError(
                f"{what} {path} cannot be used: {err.strerror or err}; correct the"
                " path, or its permissions"
            ) from err
        if is_of_here or isinstance(err, AnalysisException):
            raise
        cause = innermost_cause(err.__cause__ or err)
        raise file_system.unreached(cause)(
            f"{what} {path} cannot be reached: {cause}; correct the path, or what Spark"
            " is given for that file system"
        ) from err


# Files of failed attempts, never closed: on a close POSIX would drop the lock that the
# same JVM already holds on that file for another Python process.
_never_closed: list[Any] = []


class LockedError(Exception):
    """The file is locked by another holder."""


class LockFile:
    """A file that is locked for this session, with a text about its holder.

    Attributes:
        holder: identifies the holder: `jvm` is the process id of the JVM, or None on
            Spark Connect, where `client` is the file by which the server knows that the
            client is alive.
    """

    def __init__(self, file: Any, java_lock: Any, holder: dict[str, Any]) -> None:
        self.holder = holder
        # A java.io.RandomAccessFile, or on Spark Connect a Python file
        self._file = file
        # Keep the reference: without it the JVM collects the lock object and forgets
        # that it has the lock.
        self._java_lock = java_lock
        # Sets the length of the file
        if java_lock is None:
            self._cut = file.truncate
        else:
            self._cut = file.setLength

    def write(self, text: bytes) -> None:
        """Replace the content of the file.

        Raises:
            OSError: the text cannot be written, as on a full disk; the file is closed,
                and the lock is free.
        """
        try:
            self._cut(0)
            self._file.write(text)
        except (OSError, Py4JJavaError) as err:
            # Its text belongs to another holder if the lock has been lost
            self._file.close()
            if isinstance(err, OSError):
                raise
            raise OSError(err.java_exception.getMessage()) from err

    def release(self) -> None:
        """Release the lock; call it once the query that it protects has ended."""
        # If the JVM has ended, the lock is free already
        with suppress(Py4JError, OSError):
            # An empty file shows that no query was left running at a server
            self._cut(0)
            self._file.close()


def lock_file(spark: Any, path: Path) -> LockFile:
    """Lock a file for a session, against other JVMs and other Python processes.

    On a classic session the JVM holds the lock: if Python dies and the JVM goes on
    writing, the checkpoint stays locked.

    Args:
        spark: the session; its JVM takes the lock, or on Spark Connect this process.
        path: the file, which is created if it is missing.

    Raises:
        LockedError: another holder has the lock.
        OSError: the file cannot be opened or locked.
    """
    if is_connect(spark):
        from sparkstream_kit._internal.spark import connect

        try:
            file = connect.lock(path)
        except BlockingIOError as err:
            raise LockedError from err
        client = f"{server_folder(spark)}/clients/{spark.session_id}"
        return LockFile(file, None, {"jvm": None, "client": client})
    jvm = spark._jvm
    java_file: Any = None
    try:
        java_file = jvm.java.io.RandomAccessFile(str(path), "rw")
        java_lock = java_file.getChannel().tryLock()
    except Py4JJavaError as err:
        if "OverlappingFileLock" in err.java_exception.getClass().getName():
            _never_closed.append(java_file)
            raise LockedError from err
        raise OSError(err.java_exception.getMessage()) from err
    if java_lock is None:
        java_file.close()
        raise LockedError
    process = jvm.java.lang.ProcessHandle.current().pid()
    return LockFile(java_file, java_lock, {"jvm": process})
