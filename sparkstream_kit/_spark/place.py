"""Where something of Spark's lies: on this machine, on a file system that the JVM reaches, or at a server.

The three kinds of place have the same methods; `locate` returns that of a path. A rename is atomic on this
machine and on HDFS; an object store has none.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from sparkstream_kit import _files
from sparkstream_kit._spark.session import is_connect, other_master, server_folder
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Iterator


class Place:
    """A folder that Spark reads or writes. Names of files in it may go into folders below.

    This class is a place that only a Spark Connect server reaches, which can read a file by a job of Spark's.

    Attributes:
        text: the path as Spark is given it.
        folder: the same folder on this machine; None if it is elsewhere.
        is_in_reach: whether this process can look into it and write to it.
        renames_in_one_step: whether a rename is atomic there.
    """

    folder: Path | None = None
    is_in_reach = False
    renames_in_one_step = False

    def __init__(self, spark: Any, text: str) -> None:
        self.text = text
        self._session = spark

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session behind: on Spark Connect the function of a batch runs in another process."""
        return {**vars(self), "_session": None}

    @property
    def _spark(self) -> Any:
        return self._session or SparkSession.active()

    def __str__(self) -> str:
        """Return the path as it was given."""
        return self.text

    @property
    def uri(self) -> str:
        """The path so that Spark takes it as it is, whatever its default file system."""
        return self.text if self.folder is None else _files.for_spark(self.folder)

    def names(self, name: str = "") -> list[str]:  # noqa: ARG002 - as of the others
        """Return the names there, or in a folder there; none where there is no folder, or no reach."""
        return []

    def entries(self, log: str) -> dict[int, str]:
        """Return the entries of one of Spark's numbered logs there, by their number, in order."""
        return _files.log_entries(self.names(log))

    def read(self, name: str) -> str | None:
        """Return the text of a file; None if it is missing.

        Raises:
            OSError: it cannot be read.
            UnicodeDecodeError: it is no text.
        """
        files = through_spark(self._spark, f"{self.text}/{name}")
        row = None if files is None else files.first()
        return None if row is None else bytes(row.content).decode()

    def bring(self, name: str, to: Path) -> None:  # noqa: ARG002 - as of the others
        """Copy a file, or a folder with all in it, to a folder of this machine, if it is there."""
        raise self._refused()

    def make(self) -> None:
        """Make the folder, with those above it, if it is missing."""
        raise self._refused()

    def is_empty_folder(self, name: str) -> bool:  # noqa: ARG002 - as of the others
        """Say whether a name is that of a folder with nothing in it."""
        raise self._refused()

    def write(self, name: str, text: str) -> None:  # noqa: ARG002 - as of the others
        """Put a file in place whole, with the folder that it is in, over one that is there."""
        raise self._refused()

    def rename(self, old: str, new: str) -> None:  # noqa: ARG002 - as of the others
        """Give a file or a folder another name that nothing has; where a folder has it, it is an OSError."""
        raise self._refused()

    def remove(self, name: str) -> None:  # noqa: ARG002 - as of the others
        """Remove a file, or a folder with all that is in it, if it is there."""
        raise self._refused()

    def _refused(self) -> InvalidInputError:
        return InvalidInputError(
            f"{self} cannot be written file by file on Spark Connect; use a session of this process "
            "(unset SPARK_REMOTE), or a local path"
        )


class Here(Place):
    """A folder on this machine."""

    is_in_reach = renames_in_one_step = True

    def __init__(self, text: str, folder: Path) -> None:
        super().__init__(None, text)
        self.folder: Path = folder

    def names(self, name: str = "") -> list[str]:
        inside = self.folder / name
        return [path.name for path in inside.iterdir()] if inside.is_dir() else []

    def read(self, name: str) -> str | None:
        file = self.folder / name
        return file.read_bytes().decode() if file.exists() else None

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_empty_folder(self, name: str) -> bool:
        inside = self.folder / name
        return inside.is_dir() and not any(inside.iterdir())

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _files.replace(file, [text])

    def rename(self, old: str, new: str) -> None:
        (self.folder / old).rename(self.folder / new)

    def remove(self, name: str) -> None:
        gone = self.folder / name
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink(missing_ok=True)


class There(Place):
    """A folder on another file system, through the JVM; what fails there is an OSError of one line."""

    is_in_reach = True

    def __init__(self, spark: Any, text: str) -> None:
        super().__init__(spark, text.rstrip("/"))

    @property
    def renames_in_one_step(self) -> bool:  # type: ignore[override]
        with self._files() as files:
            return bool(files.getScheme() == "hdfs")

    @contextmanager
    def _files(self) -> Iterator[Any]:
        try:
            yield self._path().getFileSystem(self._spark._jsc.hadoopConfiguration())
        except Py4JError as err:
            raise OSError(f"{self.text}: {innermost_cause(err)}") from err

    def _path(self, name: str = "") -> Any:
        return self._spark._jvm.org.apache.hadoop.fs.Path(f"{self.text}/{name}" if name else self.text)

    def names(self, name: str = "") -> list[str]:
        path = self._path(name)
        with self._files() as files:
            found = files.listStatus(path) if files.exists(path) else ()
            return [each.getPath().getName() for each in found]

    def read(self, name: str) -> str | None:
        path = self._path(name)
        with self._files() as files:
            if not files.exists(path):
                return None
            stream = files.open(path)
            try:
                return str(self._spark._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
            finally:
                stream.close()

    def bring(self, name: str, to: Path) -> None:
        path, target = self._path(name), to / name
        with self._files() as files:
            if not files.exists(path):
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            here = self._spark._jvm.org.apache.hadoop.fs.Path(str(target))
            files.copyToLocalFile(False, path, here, True)  # without checksums of its own
            for each in files.listStatus(path) if target.is_dir() else ():
                at = each.getModificationTime() * 1_000_000
                os.utime(target / each.getPath().getName(), ns=(at, at))

    def make(self) -> None:
        with self._files() as files:
            files.mkdirs(self._path())

    def is_empty_folder(self, name: str) -> bool:
        path = self._path(name)
        with self._files() as files:
            return bool(files.getFileStatus(path).isDirectory()) and not len(files.listStatus(path))

    def write(self, name: str, text: str) -> None:
        above, _, last = name.rpartition("/")
        beside = self._path(f"{above}/.{last}.tmp".lstrip("/"))
        with self._files() as files:
            stream = files.create(beside, True)
            stream.write(bytearray(text.encode()))
            stream.close()
        self._rename(beside, self._path(name), "OVERWRITE")

    def rename(self, old: str, new: str) -> None:
        self._rename(self._path(old), self._path(new), "NONE")

    def _rename(self, old: Any, new: Any, what_is_there: str) -> None:
        """Rename in one step; FileSystem's own call would put a folder into one that is there."""
        hadoop = self._spark._jvm.org.apache.hadoop.fs
        with self._files() as files:
            context = hadoop.FileContext.getFileContext(old.toUri(), files.getConf())
            options = self._spark.sparkContext._gateway.new_array(hadoop.Options.Rename, 1)
            options[0] = getattr(hadoop.Options.Rename, what_is_there)
            context.rename(old, new, options)

    def remove(self, name: str) -> None:
        with self._files() as files:
            files.delete(self._path(name), True)


def locate(spark: SparkSession, path: str | Path) -> Place:
    """Return where a path lies for a session.

    On Spark Connect it is on this machine only where `sparkstream serve` has started the server.
    """
    text = path_for(spark, str(path))
    plain = _files.plain(text)
    if is_connect(spark):
        here = plain is not None and server_folder(spark) is not None
        return Here(text, Path(str(plain)).absolute()) if here else Place(spark, text)
    if plain is None or (plain == text and _default_scheme(spark) != "file"):
        return There(spark, text)
    if not os.path.isabs(plain):  # noqa: PTH117 - a text
        jvm: Any = spark._jvm
        plain = jvm.java.io.File(plain).getAbsolutePath()  # the JVM's working folder, not Python's
    return Here(text, Path("/" + os.path.normpath(plain).lstrip("/")))  # Hadoop takes `..` out of a path


def _default_scheme(spark: Any) -> str:
    """Return the scheme of a path without one."""
    default: str = spark._jsc.hadoopConfiguration().get("fs.defaultFS", "file:///")
    return default.partition(":")[0]


def in_its_file_system(spark: Any, path: str) -> str:
    """Return a path of another file system without its scheme and host, absolute."""
    path = re.sub(r"^[^:/]*:(//[^/]*)?", "", path)  # no URI: `?` is of a pattern
    if path.startswith("/") or is_connect(spark):
        return path
    files = spark._jvm.org.apache.hadoop.fs.FileSystem.get(spark._jsc.hadoopConfiguration())
    return f"{files.getWorkingDirectory().toUri().getPath()}/{path}"


def path_for(spark: SparkSession, path: str) -> str:
    """Return a path so that the session's Spark finds what this process calls so.

    A server has a working folder of its own.
    """
    if _files.plain(path) != path or server_folder(spark) is None:
        return path
    return os.path.join(Path.cwd(), path)  # noqa: PTH118 - keeps a glob and an ending slash as they are


def path_of_writer(writer: Any, path: str) -> str:
    """Return a path as `path_for` does, for the session of a DataStreamWriter."""
    return path_for(writer._session if is_connect(writer) else writer._spark, path)


def refuse_elsewhere(spark: SparkSession, what: str, instead: str) -> None:
    """Refuse to write a local file, named by `what`, where it would be the server's own.

    Raises:
        InvalidInputError: the session's server is not one of `sparkstream serve` on this machine.
    """
    if are_elsewhere(spark):
        raise InvalidInputError(
            f"{what} would be on the Spark Connect server; use {instead}, or a server on this machine "
            "(sparkstream serve)"
        )


def refuse_many_disks(spark: SparkSession, what: str, path: str) -> None:
    """Refuse to write rows, named by `what`, to a local path that each node of a cluster has for itself.

    `file:///…` says that the nodes share the folder.

    Raises:
        InvalidInputError: the session's master has nodes on other machines.
    """
    master = other_master(spark)
    if master is not None and _files.plain(path) == path and locate(spark, path).folder is not None:
        raise InvalidInputError(
            f"{what} {path} is a local path, but the master is {master}, whose nodes would each write a part "
            "of the rows to a disk of their own; give a path that they share, such as hdfs://namenode/rows, "
            f"or, if they share this folder, file://{os.path.abspath(path)}"  # noqa: PTH100 - a text
        )


def are_elsewhere(spark: SparkSession) -> bool:
    """Say whether the files of a session's queries are those of a server on another machine."""
    return is_connect(spark) and server_folder(spark) is None


_STATUS = re.compile(r"path=(.*?); isDirectory=(true|false);.*?modification_time=(\d+)", re.DOTALL)


def statuses(spark: Any, paths: list[str], *, pattern: bool = False) -> list[tuple[str, bool, int]]:
    """List folders of another file system, in one call: a folder may hold many files.

    Args:
        spark: a classic session.
        paths: the folders.
        pattern: find instead what matches the one path that is given.

    Returns:
        Of each entry its path, whether it is a folder, and its time in milliseconds since 1970.

    Raises:
        OSError: they cannot be listed.
    """
    hadoop, gateway = spark._jvm.org.apache.hadoop.fs, spark.sparkContext._gateway
    try:
        made = [hadoop.Path(path) for path in paths]
        system = made[0].getFileSystem(spark._jsc.hadoopConfiguration())
        if pattern:
            found = system.globStatus(made[0])
        else:
            given = gateway.new_array(hadoop.Path, len(made))
            for at, path in enumerate(made):
                given[at] = path
            found = system.listStatus(given)
        # Of what makes a text of an array, this takes one of any type.
        text = spark._jvm.org.apache.commons.lang3.ArrayUtils.toString(found) if found else ""
    except Py4JError as err:
        raise OSError(f"{paths[0]}: {innermost_cause(err)}") from err
    return [(each[1], each[2] == "true", int(each[3])) for each in _STATUS.finditer(text)]


@contextmanager
def reached(what: str, path: str) -> Iterator[None]:
    """Say in one line that another file system cannot be reached, or does not let this user in.

    Raises:
        InvalidInputError: as of a bucket that is missing, a host that nobody knows, or a wrong key.
    """
    try:
        yield
    except AnalysisException:
        raise
    except (OSError, Py4JJavaError, PySparkException) as err:
        if _files.plain(path) is not None:
            raise
        cause = innermost_cause(err.__cause__ or err)
        raise InvalidInputError(
            f"{what} {path} cannot be reached: {cause}; correct the path, or what Spark is "
            "given for that file system"
        ) from err


def through_spark(spark: SparkSession, path: str, *, below: bool = False) -> DataFrame | None:
    """Return the files of a folder, or one file, as rows of Spark's `binaryFile`; None if it is missing.

    With `below` they are also those of folders in it.
    """
    try:
        # Spark takes a path for a pattern.
        reader = spark.read.format("binaryFile").option("recursiveFileLookup", below)
        files = reader.load(_files.escaped(path))
        files.schema  # noqa: B018 - Connect looks for the path only now
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        return None
    return files
