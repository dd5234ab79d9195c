"""Where a path of Spark's lies, and what is there: looked at on this machine, or through Spark."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException

from sparkstream_kit import _files
from sparkstream_kit._spark.session import is_connect, other_master, server_folder
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Location:
    """A folder that Spark reads or writes.

    Attributes:
        text: the path as Spark is given it.
        folder: the same folder on this machine; None if it is elsewhere.
    """

    text: str
    folder: Path | None

    def __str__(self) -> str:
        return self.text


def locate(spark: SparkSession, path: str | Path) -> Location:
    """Return where a path lies for a session.

    On Spark Connect it is on this machine only where `sparkstream serve` has started the server.
    """
    text = path_for(spark, str(path))
    plain = _files.plain(text)
    if is_connect(spark):
        here = plain is not None and server_folder(spark) is not None
        return Location(text, Path(str(plain)).absolute() if here else None)
    if plain is None or (plain == text and _default_scheme(spark) != "file"):
        return Location(text, None)
    if not os.path.isabs(plain):  # noqa: PTH117 - a text
        jvm: Any = spark._jvm
        plain = jvm.java.io.File(plain).getAbsolutePath()  # the JVM's working folder, not Python's
    return Location(text, Path("/" + os.path.normpath(plain).lstrip("/")))  # Hadoop takes `..` out of a path


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


def names(spark: Any, location: Location, name: str = "") -> list[str] | None:
    """Return the names in a folder, also on another file system.

    Args:
        spark: the session.
        location: the folder.
        name: a folder in it to look into instead.

    Returns:
        The names, an empty list for a folder that is missing; None where only a server elsewhere can look.
    """
    if location.folder is not None:
        folder = location.folder / name
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if is_connect(spark):
        return None
    path = spark._jvm.org.apache.hadoop.fs.Path(f"{location.text}/{name}" if name else location.text)
    files = path.getFileSystem(spark._jsc.hadoopConfiguration())
    return [found.getPath().getName() for found in files.listStatus(path)] if files.exists(path) else []


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


def content(spark: SparkSession, location: Location, name: str) -> str | None:
    """Return the text of a file in a folder; None if there is no such file.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    if location.folder is not None:
        file = location.folder / name
        return file.read_bytes().decode() if file.exists() else None
    files = through_spark(spark, f"{location.text}/{name}")
    row = None if files is None else files.first()
    return None if row is None else bytes(row.content).decode()


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
    except (Py4JJavaError, PySparkException) as err:
        if _files.plain(path) is not None:
            raise
        raise InvalidInputError(
            f"{what} {path} cannot be reached: {innermost_cause(err)}; correct the path, or what Spark is "
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
