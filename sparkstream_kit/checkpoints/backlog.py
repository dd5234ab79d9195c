"""The backlog of a query's folders: how many files its sources would read that no committed batch has read.

Spark does not say it. A look lists the folders and compares them with the logs of the sources; the next look
waits until the last one has cost at most a fiftieth of the time.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit._spark import plan
from sparkstream_kit._spark.place import locate, statuses
from sparkstream_kit._spark.query import checkpoint, read_until, started, with_files
from sparkstream_kit.sources._names import as_regex, is_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._spark.place import Place

__all__ = ["Backlog", "backlog"]

_SHARE = 50  # a look may take one part in so many of the time
_LINE = re.compile(r'"path":"([^"]*)".*?"(?:timestamp|modificationTime)":(-?\d+)(?:,"batchId":(\d+))?')
_SOURCE = re.compile(r"FileStreamSource\[(.*)\]", re.DOTALL)
_OF_SINK = "_spark_metadata"  # the log of a folder that Spark's file sink has written
_MAX_AGE = "7d"  # Spark's default for maxFileAge
_UNITS = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def backlog(query: StreamingQuery, progress: StreamingQueryProgress) -> Backlog | None:
    """Return what counts the waiting files of a query; None where that cannot be told.

    It can be told of a query of `start` that reads files, where this process reaches its checkpoint: on
    Spark Connect only that of a server on this machine.

    Args:
        query: the query.
        progress: of one of its batches.
    """
    frame, root = started(query).frame, checkpoint(query)
    said = {at: _SOURCE.fullmatch(each.description) for at, each in enumerate(progress.sources)}
    paths = {at: found[1] for at, found in said.items() if found}
    if frame is None or root is None or not paths:
        return None
    spark, options = frame.sparkSession, plan.file_options(frame)
    if not options:
        return None
    if len(options) != len(paths):
        if any(each != options[0] for each in options):
            return None  # which options are of which source is not known
        options = options[:1] * len(paths)
    sources = {at: _Source(path, given) for (at, path), given in zip(paths.items(), options, strict=True)}
    here = locate(spark, root)
    return Backlog(spark, here, sources) if here.is_in_reach else None


class Backlog:
    """Counts the files of a query that wait, not more often than it may cost."""

    def __init__(self, spark: SparkSession, root: Place, sources: Mapping[int, _Source]) -> None:
        self._spark = spark
        self._root = root
        self._sources = sources
        self._logs: dict[str, _Log] = {}
        self._counted: dict[int, tuple[int, int]] = {}
        self._next = 0.0

    def counted(self, progress: StreamingQueryProgress, *, now: bool = False) -> StreamingQueryProgress:
        """Return a progress with two more metrics of each source of files: `filesWaiting` and `filesRead`.

        Args:
            progress: of a batch; files that later batches read count as waiting.
            now: look, whatever it costs; otherwise the counts may be those of a while ago.
        """
        begin = monotonic()
        if now or begin >= self._next:
            self.read_logs()
            self._counted = {}
            for at, source in self._sources.items():
                with suppress(OSError):  # the folder is gone, or cannot be reached: not counted
                    if (found := self._look(at, source, read_until(progress.sources[at]))) is not None:
                        self._counted[at] = found
            end = monotonic()
            self._next = end + _SHARE * (end - begin)
        return with_files(progress, self._counted) if self._counted else progress

    def read_logs(self) -> None:
        """Read what is new in the logs of the sources, as before Spark removes a temporary checkpoint."""
        with suppress(OSError):
            for name in self._root.names("sources"):
                self._logs.setdefault(name, _Log(self._root, f"sources/{name}")).read()

    def _look(self, at: int, source: _Source, until: int) -> tuple[int, int] | None:
        """Return how many files of a source wait, and how many a batch has read; None if its log is cut."""
        own = self._logs.get(str(at))  # a source with a name of its own has that as its log's name
        logs = [own] if own and own.files else [log for log in self._logs.values() if log.files]
        if until >= 0 and not any(log.until >= until for log in logs):
            return None
        read = {file for log in logs for file, entry in log.files.items() if entry <= until}
        newest = max((log.newest for log in logs), default=0)
        waiting = source.waiting(self._spark, read, newest)
        return None if waiting is None else (waiting, len(read))


class _Log:
    """One of Spark's logs of files, read as it grows; files by the hash of their paths, which is small."""

    def __init__(self, root: Place, name: str) -> None:
        self._root = root
        self._name = name
        self.until = -1  # its last entry
        self.newest = 0  # the newest time of a file in it, in milliseconds since 1970
        self.files: dict[int, int] = {}  # with the entry that added each

    def read(self) -> None:
        """Read the entries that are new."""
        there = self._root.entries(self._name)
        new = [number for number in there if number > self.until]
        # An entry that was compacted stands in the next file of that name, with all before it.
        whole = [number for number in new if there[number].endswith(".compact")]
        for number in new:
            if whole and number < whole[-1]:
                continue
            if not whole and number != self.until + 1:
                return  # its end is all that is known, or an entry is on its way
            text = self._root.read(f"{self._name}/{there[number]}")
            if text is None or not text.startswith("v1\n"):
                return
            for found in _LINE.finditer(text):
                self.files.setdefault(hash(_path(found[1])), int(found[3] or number))
                self.newest = max(self.newest, int(found[2]))
            self.until, whole = number, []


def _path(uri: str) -> str:
    """Return a path as a folder is listed with it."""
    return unquote(re.sub(r"^file:(//)?(?=/)", "", uri))


class _Source:
    """The files that a source of files would read."""

    def __init__(self, path: str, options: Mapping[str, str]) -> None:
        given = {name.lower(): value for name, value in options.items()}
        self._path = path
        self._is_pattern = is_pattern(path)
        self._recursive = _is_true(given.get("recursivefilelookup"))
        self._by_name = _is_true(given.get("filenameonly"))
        limited = given.keys() & {"maxfilespertrigger", "maxbytespertrigger"}
        ages = not (limited and _is_true(given.get("latestfirst")))
        self._age = _milliseconds(given.get("maxfileage", _MAX_AGE)) if ages else None
        self._filter = as_regex(given["pathglobfilter"]) if "pathglobfilter" in given else None
        self._sink: _Log | None = None

    def waiting(self, spark: SparkSession, read: set[int], newest: int) -> int | None:
        """Return how many files are there that are not among those read; None where nobody here can tell.

        Args:
            spark: the session.
            read: the hashes of their paths.
            newest: the newest time of one of them.
        """
        here = locate(spark, self._path)
        if self._by_name or not here.is_in_reach:
            return None
        if not self._is_pattern:
            self._sink = self._sink or _Log(here, _OF_SINK)
            self._sink.read()
            if self._sink.files:  # this log says which files count
                return len(self._sink.files.keys() - read)
        oldest = newest - self._age if self._age is not None and newest else None
        found = self._here(self._path) if here.folder is not None else self._there(spark)
        waiting = 0
        for path, changed in found:
            name = path.rpartition("/")[2]
            passed_over = _is_hidden(name) or (self._filter is not None and not self._filter.fullmatch(name))
            if not passed_over and hash(path) not in read and _is_utf_8(path):
                at = _time(path) if changed is None else changed
                waiting += at is not None and (oldest is None or at >= oldest)
        return waiting

    def _here(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yield the paths of the files on this machine."""
        path = _path(text)
        tops = _matching(path) if self._is_pattern else [path]
        while tops:
            top = tops.pop()
            if not os.path.isdir(top):  # noqa: PTH112
                yield top, None
                continue
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(top) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        yield entry.path, None
                    elif self._goes_into(entry.name):
                        tops.append(entry.path)

    def _there(self, spark: SparkSession) -> Iterator[tuple[str, int | None]]:
        """Yield the paths of the files on another file system, with their times."""
        found = statuses(spark, [self._path], pattern=True)
        folders = [path for path, is_folder, _ in found if is_folder]
        while True:
            yield from ((path, changed) for path, is_folder, changed in found if not is_folder)
            if not folders:
                return
            found = statuses(spark, folders)
            folders = [
                path for path, is_folder, _ in found if is_folder and self._goes_into(path.rpartition("/")[2])
            ]

    def _goes_into(self, name: str) -> bool:
        """Say whether Spark reads the files of a folder in the folder: `day=1`, or any if it is told to."""
        return not _is_hidden(name) and (self._recursive or "=" in name)


def _time(path: str) -> int | None:
    """Return when a file was changed last; None if it is gone by now, or a link to nothing."""
    with suppress(OSError):
        return os.stat(path).st_mtime_ns // 1_000_000  # noqa: PTH116 - of many files
    return None


def _is_true(text: str | None) -> bool:
    return str(text).lower() == "true"


def _is_hidden(name: str) -> bool:
    """Say whether Spark passes over a name."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def _is_utf_8(path: str) -> bool:
    """Say whether Spark can read a name: Java takes another one for something else."""
    with suppress(UnicodeEncodeError):
        return bool(path.encode())
    return False


def _matching(pattern: str) -> list[str]:
    """Return the paths on this machine that one of Hadoop's patterns stands for."""
    found = ["/"]
    for part in filter(None, pattern.split("/")):
        if not is_pattern(part):
            found = [os.path.join(each, part) for each in found]  # noqa: PTH118
            continue
        wanted = as_regex(part)
        found = [
            os.path.join(each, name)  # noqa: PTH118
            for each in found
            if os.path.isdir(each)  # noqa: PTH112
            for name in os.listdir(each)  # noqa: PTH208
            if wanted.fullmatch(name)
        ]
    return [each for each in found if os.path.exists(each)]  # noqa: PTH110


def _milliseconds(text: str) -> int | None:
    """Return a time as Spark's options have it; None where it is not known."""
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None
