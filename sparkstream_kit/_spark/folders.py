"""A folder that the kit itself writes, file by file: on this machine, or on HDFS, which the JVM reaches.

These two have a rename that is atomic; an object store has none.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError

from sparkstream_kit import _files
from sparkstream_kit._spark.session import is_connect
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from sparkstream_kit._spark.files import Location


def is_in_reach(spark: SparkSession, location: Location) -> bool:
    """Say whether `folder` can be had: of Spark Connect only the server reaches another file system."""
    return location.folder is not None or not is_connect(spark)


def folder(spark: SparkSession, location: Location) -> Folder:
    """Return a folder to work in, on this machine or on another file system.

    Raises:
        InvalidInputError: the session is of Spark Connect, and the folder not of this machine.
    """
    if location.folder is not None:
        return _Here(location.folder)
    if not is_in_reach(spark, location):
        raise InvalidInputError(
            f"{location} cannot be written file by file on Spark Connect; use a session of this process "
            "(unset SPARK_REMOTE), or a local path"
        )
    return _There(spark, location.text)


class _Here:
    """A folder on this machine; names may go into folders below."""

    renames_in_one_step = True

    def __init__(self, path: Path) -> None:
        self.text = _files.for_spark(path)
        self._path = path

    def __str__(self) -> str:
        """Return the path for messages."""
        return str(self._path)

    def make(self) -> None:
        """Make the folder, with those above it, if it is missing."""
        self._path.mkdir(parents=True, exist_ok=True)

    def names(self, name: str = "") -> list[str]:
        """Return what is there; nothing where there is no folder."""
        inside = self._path / name
        return [path.name for path in inside.iterdir()] if inside.is_dir() else []

    def is_empty_folder(self, name: str) -> bool:
        """Say whether a name is that of a folder with nothing in it."""
        inside = self._path / name
        return inside.is_dir() and not any(inside.iterdir())

    def read(self, name: str) -> str | None:
        """Return the text of a file; None if it is missing."""
        file = self._path / name
        return file.read_text("utf-8") if file.exists() else None

    def write(self, name: str, text: str) -> None:
        """Put a file in place whole, with the folder that it is in, over one that is there."""
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _files.replace(file, [text])

    def rename(self, old: str, new: str) -> None:
        """Give a file or a folder another name that nothing has."""
        (self._path / old).rename(self._path / new)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, if it is there."""
        gone = self._path / name
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink(missing_ok=True)


class _There:
    """A folder on another file system, with the methods of one on this machine."""

    def __init__(self, spark: Any, text: str) -> None:
        self.text = text.rstrip("/")
        self._hadoop = spark._jvm.org.apache.hadoop
        self._gateway = spark.sparkContext._gateway
        self._conf = spark._jsc.hadoopConfiguration()
        self._utilities = spark._jvm.org.apache.commons.io.IOUtils
        with self._in_one_line():
            self._files = self._path().getFileSystem(self._conf)
            self.renames_in_one_step = self._files.getScheme() == "hdfs"

    def __str__(self) -> str:
        return self.text

    def _path(self, name: str = "") -> Any:
        return self._hadoop.fs.Path(f"{self.text}/{name}" if name else self.text)

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        """Raise Hadoop's error in one line, as Python does for its own files."""
        try:
            yield
        except Py4JError as err:
            raise OSError(f"{self.text}: {innermost_cause(err)}") from err

    def make(self) -> None:
        with self._in_one_line():
            self._files.mkdirs(self._path())

    def names(self, name: str = "") -> list[str]:
        path = self._path(name)
        with self._in_one_line():
            there = self._files.listStatus(path) if self._files.exists(path) else ()
            return [found.getPath().getName() for found in there]

    def is_empty_folder(self, name: str) -> bool:
        path = self._path(name)
        with self._in_one_line():
            return bool(self._files.getFileStatus(path).isDirectory()) and not len(
                self._files.listStatus(path)
            )

    def read(self, name: str) -> str | None:
        path = self._path(name)
        with self._in_one_line():
            if not self._files.exists(path):
                return None
            stream = self._files.open(path)
            try:
                return str(self._utilities.toString(stream, "UTF-8"))
            finally:
                stream.close()

    def write(self, name: str, text: str) -> None:
        above, _, last = name.rpartition("/")
        beside = self._path(f"{above}/.{last}.tmp".lstrip("/"))
        with self._in_one_line():
            stream = self._files.create(beside, True)
            stream.write(bytearray(text.encode()))
            stream.close()
            # Unlike FileSystem's, this one takes the place of a file that is there, in one step.
            context = self._hadoop.fs.FileContext.getFileContext(beside.toUri(), self._conf)
            options = self._gateway.new_array(self._hadoop.fs.Options.Rename, 1)
            options[0] = self._hadoop.fs.Options.Rename.OVERWRITE
            context.rename(beside, self._path(name), options)

    def rename(self, old: str, new: str) -> None:
        with self._in_one_line():
            renamed = self._files.rename(self._path(old), self._path(new))
        if not renamed:
            raise OSError(f"{self.text}/{old} could not be renamed to {new}")

    def remove(self, name: str) -> None:
        with self._in_one_line():
            self._files.delete(self._path(name), True)


Folder = _Here | _There
