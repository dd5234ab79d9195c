"""Find input files that a query loses or does not read, and count its backlog of files.

`findings` returns a warning for each danger, such as a planned file that no longer exists or a file that
Spark ignores; `guard` logs them at a start and `run` from time to time. `doubled` finds a planned batch in
which Spark would count files twice. `backlog` returns a `Backlog`, which adds the numbers of waiting and read
files to a query's progress, as Spark does not report them.

All of them list the folders of the file sources and compare them with the sources' logs in the checkpoint.
`Backlog` limits the cost: it looks again only when its last look has taken at most 1/50 of the time since.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit import _files
from sparkstream_kit._spark import plan
from sparkstream_kit._spark.place import locate, statuses
from sparkstream_kit._spark.queries import checkpoint, entry_at, started, with_files
from sparkstream_kit.checkpoints.logs import MISSING, DamagedError
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.checkpoints.logs import Input, Logs


# The description of a file source in Spark's progress, with its path.
_SOURCE = re.compile(r"FileStreamSource\[(.*)\]", re.DOTALL)

_DAY = 86_400_000  # all times here are in milliseconds, as in Spark's log
_CLOCKS_DIFFER = 3_600_000  # an hour: a file that is dated less far ahead may come from a clock that is fast
_MAX_FILE_AGE = 7 * _DAY  # Spark's default for maxFileAge; the checkpoint does not hold the query's own value
_SHOWN = 3  # files that a warning names

_STAGED = (".crc", ".tmp", ".part", ".swp")  # endings of checksums and of files that are still being written
_LETTER = re.compile("[A-Za-z]")
_PACKED = {"bz2", "deflate", "gz", "lz4", "snappy", "xz", "zst"}

_GONE = "planned for a batch that was not committed, and gone: put back, or the rows are lost"
_CHANGED = "changed after it was read, and not read again: land new content under a new name"
_AHEAD = (
    "dated in the future, so that it will hide files 7 days older (maxFileAge): touch it before it is read"
)
_TIED = (
    "changed in one millisecond, and not read in the order of their names, so that rows may have come late: "
    "give files their times in their order (touch), or let one batch take them all"
)
_HIDING = 'read with a date {} days ahead, so that new files are not read: set maxFileAge="{}d" on the source'
_HIDDEN = "not read, for it is 7 days older than the newest file read: set a longer maxFileAge on the source"

# The kinds of entries that Spark ignores, with their warnings; `findings` reports each kind once.
PASSED_OVER = {
    "hidden": "not read, as Spark passes over names that begin with _ or . or end with ._COPYING_: rename "
    "what is whole",
    "undecodable": "not read, as the name is not UTF-8: rename it",
    "subfolder": "a subfolder, which Spark reads only with recursiveFileLookup=True",
    "misread": "not read while this query runs, as its name has one of * ? [ ] { } \\ or :, for which Spark "
    "would misread its batch: rename it, or start the query again",
}

# Prefixes of names that are ignored on purpose: files of Spark's jobs, and of the kit's sinks and feeds.
_MEANT_TO_BE = ("_SUCCESS", "_sparkstream_", "_truth.json")


def findings(
    logs: Logs, sources: Sequence[str] = (), said: set[str] | None = None, *, late: bool = False
) -> list[str]:
    """Find files that a query's file sources have lost or ignored, or are about to; one line for each danger.

    The dangers are:

    - a file that was planned for a batch and no longer exists before the batch is committed. The batch would
      be replayed without the file's rows, so call this function before the query starts.
    - a file that was overwritten or appended to after it was read.
    - a file that is dated in the future, and so hides other files.
    - a file that Spark ignores because of its name, or because it is much older than the newest file read.
    - a subfolder that Spark ignores.
    - with `late`, files of the same time that were not read in the order of their names.

    A folder with 100,000 files takes about a second.

    Args:
        logs: the logs of the query's checkpoint.
        sources: the `description` of each source in Spark's progress, such as "FileStreamSource[file:/in]".
            Without them only those folders are looked at from which files have been read.
        said: the kinds of `PASSED_OVER` to leave out. The kinds that are reported are added to the set.
        late: whether the query has dropped late rows. Only then does the order of the files matter.

    Returns:
        Lines for the user. Files that are not on a local path are not looked at.
    """
    found: list[str] = []
    said = set() if said is None else said
    names = logs.noted.get("sources") or map(str, range(len(sources)))
    said_of = dict(zip(names, sources, strict=False))
    for name in dict.fromkeys((*said_of, *logs.sources)):
        try:
            source = _Lost(logs, name, said_of.get(name, ""))
            found += source.findings(said)
            if late and (tied := source.tied()):
                found.append(f"{_some(tied)}: {_TIED}")
        except (InvalidInputError, OSError) as err:
            # A missing file is no finding: Spark removes old entries of a log, and temporary checkpoints.
            if not (isinstance(err, DamagedError) and err.what == MISSING):
                found.append(f"{logs.root}: what source {name} has read cannot be told: {err}")
    return found


def doubled(logs: Logs) -> str | None:
    """Return the message that refuses a planned batch in which Spark would count files twice; None if none.

    Such a batch has several files, and Spark takes the name of one for a pattern, such as `a[1].csv`. The kit
    plans no such batch, but plain Spark does, and renaming the file does not change the plan.
    """
    with suppress(InvalidInputError):  # `findings` reports damaged logs
        committed = logs.until(logs.done)
        for log in logs.until_planned:
            pending = logs.inputs(log, committed.get(log, -1))
            paths = [path for path in (file.path for file in pending) if path and _files.is_pattern(path)]
            found = [path for path in paths if not _files.is_read_once(path)]
            if found and len(pending) > 1:
                return (
                    f"{_shown(found[0])}: planned for a batch of several files, of which Spark would "
                    "count the others twice; give the source recursiveFileLookup=True for this start, with "
                    "which Spark counts each file once and reads subfolders, too; or start anew on another "
                    "checkpoint"
                )
    return None


class _Lost:
    """A file source: the files that it has planned, and the files that exist in its folders.

    Args:
        logs: the logs of the query's checkpoint.
        name: the name of the source's log.
        description: the source's description in Spark's progress; empty if it is not known.

    Attributes:
        root: the folder of the checkpoint.
        committed: the last entry of the source's log that was committed; -1 if there is none.
        planned: the files in the source's log, by local path.
        there: the modification time of each existing file that Spark would read, by path, in milliseconds.
        passed_over: the paths that Spark ignores, by the kinds of `PASSED_OVER`.
        folders: the folders of the planned files.
    """

    def __init__(self, logs: Logs, name: str, description: str) -> None:
        self.root = logs.root
        described = _SOURCE.fullmatch(description)
        path = _files.plain(_files.folder_of(described[1])) if described else None
        self.committed = logs.until(logs.done).get(name, -1)
        found = logs.inputs(name) if name in logs.until_planned else ()
        self.planned = {local: file for file in found if (local := file.path)}
        # Spark logs files of subfolders, but reads no row of them if it lists the files by their names.
        if path is not None and description.endswith(f"{_files.IN_ORDER}]"):
            folder = re.sub(r"\\(.)", r"\1", path).rstrip("/")
            self.planned = {
                local: file for local, file in self.planned.items() if local.rpartition("/")[0] == folder
            }
        self.there: dict[str, int] = {}
        self.passed_over: dict[str, list[str]] = {kind: [] for kind in PASSED_OVER}
        self.folders = {planned.rpartition("/")[0] for planned in self.planned}
        tops = set() if path is None else {each for each in _files.matching(path) if Path(each).is_dir()}
        for folder in self.folders | tops:
            for entry in _files.below(folder):
                self._look_at(entry)
        chars = _files.left_out.get(path or "") or ""
        for file in [file for file in self.there if file not in self.planned]:
            if any(char in file.rpartition("/")[2] for char in chars):
                self.passed_over["misread"].append(file)
                del self.there[file]

    def _look_at(self, entry: os.DirEntry[str]) -> None:
        with suppress(OSError):  # a broken link, or removed just now: Spark cannot read it either
            changed, hidden = entry.stat().st_mtime_ns // 1_000_000, _files.is_hidden(entry.name)
            if entry.is_dir():
                if not hidden and _has_files(entry.path) and not self._reads_below(entry.path):
                    self.passed_over["subfolder"].append(entry.path)
            elif hidden:
                if not entry.name.startswith(_MEANT_TO_BE) and not entry.name.endswith(_STAGED):
                    self.passed_over["hidden"].append(entry.path)
            elif _shown(entry.name) != entry.name:
                self.passed_over["undecodable"].append(entry.path)
            else:
                self.there[entry.path] = changed

    def _reads_below(self, folder: str) -> bool:
        """Return whether the source reads a subfolder (recursiveFileLookup), or the checkpoint lies there."""
        return self.root.absolute().is_relative_to(folder) or any(
            read == folder or read.startswith(f"{folder}/") for read in self.folders
        )

    def tied(self) -> list[str]:
        """Return files with the same modification time that were not read in the order of their names."""
        tied: dict[int, list[Input]] = {}
        for file in sorted(self.planned.values()):
            tied.setdefault(file.time, []).append(file)
        # Files of one entry are read in the same batch, in which the order does not matter.
        return [
            file.path or file.uri
            for files in tied.values()
            if files != sorted(files, key=lambda file: file.uri) and files[0].entry < files[-1].entry
            for file in files
        ]

    def findings(self, said: set[str]) -> list[str]:
        """Return a line for each danger, and for each kind of ignored entries that is not in `said`."""
        found = [f"{_some(paths)}: {what}" for what, paths in self._dangers().items() if paths]
        for kind, paths in self.passed_over.items():
            if paths and kind not in said:
                said.add(kind)
                found.append(f"{_some(paths, 1)}: {PASSED_OVER[kind]}")
        return found

    def _dangers(self) -> dict[str, list[str]]:
        now, newest = int(time.time() * 1000), max((file.time for file in self.planned.values()), default=0)
        uncommitted = {path for path, file in self.planned.items() if file.entry > self.committed}
        waiting = self._waiting()
        found = {
            _GONE: [path for path in uncommitted - self.there.keys() if self.planned[path].gone],
            _CHANGED: [
                path
                for path, file in self.planned.items()
                if path not in uncommitted and self.there.get(path, file.time) != file.time
            ],
            _AHEAD: [path for path, at in waiting.items() if at > now + _CLOCKS_DIFFER],
        }
        if not _reads_older_files(self.planned.values()):
            days = (newest - now) // _DAY
            found[_HIDING.format(days, days + 8)] = [
                path for path, file in self.planned.items() if file.time == newest > now + _MAX_FILE_AGE
            ]
            found[_HIDDEN] = [path for path, at in waiting.items() if at < newest - _MAX_FILE_AGE]
        return found

    def _waiting(self) -> dict[str, int]:
        """Return the files that were not planned yet, by path, with their modification times.

        A file with an ending that no planned file has is left out: it may be meant for another reader, and
        filtered out by the source's options.
        """
        kinds = {_kind(path, of_read=True) for path in self.planned}
        return {
            path: at
            for path, at in self.there.items()
            if path not in self.planned and (not kinds or _kind(path) in {"", *kinds})
        }


def _reads_older_files(planned: Iterable[Input]) -> bool:
    """Return whether a source has read a file although it was older than the default maxFileAge allows.

    Such a source has a longer maxFileAge, so the default hides no file from it.
    """
    times = [file.time for file in sorted(planned)]
    newest = accumulate(times, max, initial=0)
    return any(at < before - _MAX_FILE_AGE for at, before in zip(times, newest, strict=False))


def _kind(path: str, *, of_read: bool = False) -> str:
    """Return the ending of a file's name without that of a compression, such as "csv" for `a.csv.gz`.

    The result is "" if there is no ending, or if it is the number of a rotated log, as in `app.log.1`.

    Args:
        path: the path of the file.
        of_read: whether the file was read. For such a file the ending before the number counts, as `app.log`
            may be read after `app.log.1`.
    """
    endings = path.rpartition("/")[2].split(".")[1:]
    while endings and (endings[-1] in _PACKED or (of_read and not _LETTER.search(endings[-1]))):
        endings.pop()
    return endings[-1] if endings and _LETTER.search(endings[-1]) else ""


def _some(paths: Sequence[str], number: int = _SHOWN) -> str:
    shown = ", ".join(_shown(path) for path in sorted(paths)[:number])
    return f"{shown} and {len(paths) - number:,} more" if len(paths) > number else shown


def _shown(path: str) -> str:
    r"""Return a path as printable text; bytes that are not UTF-8 become escapes.

    Examples:
        >>> print(_shown("caf\udce9.csv"))
        caf\xe9.csv
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _has_files(folder: str) -> bool:
    """Return whether a folder has a file, at any depth, whose name Spark does not ignore."""
    return any(not _files.is_hidden(entry.name) for entry in _files.below(folder, recursive=True))


_SHARE = 50  # a look may take at most 1/50 of the time
_LINE = re.compile(r'"path":"([^"]*)".*?"(?:timestamp|modificationTime)":(-?\d+)(?:,"batchId":(\d+))?')
_OF_SINK = "_spark_metadata"  # the log that Spark's file sink keeps in the folder to which it writes
_MAX_AGE = "7d"  # Spark's default for maxFileAge
_UNITS = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def backlog(query: StreamingQuery, progress: StreamingQueryProgress) -> Backlog | None:
    """Return an object that counts the waiting files of a query, or None if they cannot be counted.

    They can be counted for a query that `start` started and that reads files, if this process can reach the
    checkpoint. On Spark Connect it can do so only with a server on this machine.

    Args:
        query: the query.
        progress: the progress of one of the query's batches, which describes its sources.
    """
    frame, root = started(query).frame, checkpoint(query)
    said = {at: _SOURCE.fullmatch(each.description) for at, each in enumerate(progress.sources)}
    paths = {at: found[1] for at, found in said.items() if found}
    if frame is None or root is None or not paths:
        return None
    # Drop the paths of the options: the progress has the paths as Spark resolved them.
    spark, reads = frame.sparkSession, [each for each in plan.file_reads(frame) if each is not None]
    options = [{key: value for key, value in each.options.items() if key != "path"} for each in reads]
    if len(options) != len(paths) and all(each == options[0] for each in options):
        options = options[:1] * len(paths)
    if len(options) != len(paths):  # it is not known which options belong to which source
        return None
    sources = {at: _Source(path, given) for (at, path), given in zip(paths.items(), options, strict=True)}
    here = locate(spark, root)
    return Backlog(spark, here, sources) if here.is_in_reach else None


class Backlog:
    """Counts the waiting files of a query, and limits the time that counting takes.

    Args:
        spark: the query's session.
        root: the query's checkpoint.
        sources: the file sources, by their positions in Spark's progress.
    """

    def __init__(self, spark: SparkSession, root: Place, sources: Mapping[int, _Source]) -> None:
        self._spark = spark
        self._root = root
        self._sources = sources
        self._logs: dict[str, _Log] = {}
        self._counted: dict[int, tuple[int, int]] = {}
        self._next = 0.0

    def counted(self, progress: StreamingQueryProgress, *, now: bool = False) -> StreamingQueryProgress:
        """Add the metrics `filesWaiting` and `filesRead` of each file source to the progress of a batch.

        Args:
            progress: the progress of a batch. Files that later batches read count as waiting.
            now: count now, whatever it costs. Otherwise the numbers may be those of an earlier count.

        Returns:
            The progress with the metrics; the progress unchanged if nothing could be counted.
        """
        begin = monotonic()
        if now or begin >= self._next:
            self.read_logs()
            self._counted = {}
            for at, source in self._sources.items():
                with suppress(OSError):  # do not count a folder that is gone or cannot be reached
                    if found := self._look(at, source, entry_at(progress.sources[at].endOffset)):
                        self._counted[at] = found
            end = monotonic()
            self._next = end + _SHARE * (end - begin)
        return with_files(progress, self._counted) if self._counted else progress

    def read_logs(self) -> None:
        """Read the new entries of the sources' logs.

        Call it before Spark removes a temporary checkpoint, whose logs can be read no more afterwards.
        """
        with suppress(OSError):
            for name in self._root.names("sources"):
                self._logs.setdefault(name, _Log(self._root, f"sources/{name}")).read()

    def _look(self, at: int, source: _Source, until: int) -> tuple[int, int] | None:
        """Return the numbers of a source's waiting and read files; None if they are not known.

        They are not known if the source's log has not been read up to the entry `until`, or if the source's
        files cannot be listed.

        Args:
            at: the position of the source.
            source: the source.
            until: the last entry of the source's log that counts as read.
        """
        own = self._logs.get(str(at))  # None for a named source, whose log has that name: then use all logs
        logs = [own] if own and own.files else [log for log in self._logs.values() if log.files]
        if until >= 0 and not any(log.until >= until for log in logs):
            return None
        read = {file for log in logs for file, entry in log.files.items() if entry <= until}
        newest = max((log.newest for log in logs), default=0)
        waiting = source.waiting(self._spark, read, newest)
        return None if waiting is None else (waiting, len(read))


class _Log:
    """One of Spark's logs of files, which is read bit by bit as it grows.

    Attributes:
        until: the last entry that was read; -1 before the first.
        newest: the newest modification time of a file in the log, in milliseconds since 1970; 0 without one.
        files: the entry that added each file, by the hash of the file's path. A hash takes less memory than
            the path.
    """

    def __init__(self, root: Place, name: str) -> None:
        self._root = root
        self._name = name
        self.until = -1
        self.newest = 0
        self.files: dict[int, int] = {}

    def read(self) -> None:
        """Read the entries that were added since the last call."""
        there = self._root.entries(self._name)
        new = [number for number in there if number > self.until]
        # A file `K.compact` holds entry K and all entries before it, so skip those.
        whole = [number for number in new if there[number].endswith(".compact")]
        following = whole[-1] if whole else self.until + 1
        for number in (each for each in new if each >= following):
            if number != following:
                return  # an entry is missing: Spark has removed it, or is about to write it
            text = self._root.read(f"{self._name}/{there[number]}")
            if text is None or not text.startswith("v1\n"):
                return
            for found in _LINE.finditer(text):
                self.files.setdefault(hash(_path(found[1])), int(found[3] or number))
                self.newest = max(self.newest, int(found[2]))
            self.until, following = number, number + 1


def _path(uri: str) -> str:
    """Return the path of a URI in the form in which listing its folder gives it."""
    return unquote(re.sub(r"^file:(//)?(?=/)", "", uri))


class _Source:
    """A file source of a running query; `waiting` counts the files that it has not read.

    Args:
        path: the path, or pattern, that the source reads.
        options: the options of the source, such as `maxFileAge` and `pathGlobFilter`.
    """

    def __init__(self, path: str, options: Mapping[str, str]) -> None:
        given = {name.lower(): value for name, value in options.items()}
        self._path = path
        self._recursive = _is_true(given.get("recursivefilelookup"))
        self._by_name = _is_true(given.get("filenameonly"))
        limited = given.keys() & {"maxfilespertrigger", "maxbytespertrigger"}
        ages = not (limited and _is_true(given.get("latestfirst")))
        self._age = _milliseconds(given.get("maxfileage", _MAX_AGE)) if ages else None
        self._filter = _files.as_regex(given.get("pathglobfilter", "*"))
        self._sink: _Log | None = None

    def waiting(self, spark: SparkSession, read: set[int], newest: int) -> int | None:
        """Return the number of files that the source would read next; None if they cannot be counted.

        They cannot with the option `fileNameOnly`, or if this process cannot reach the folders.

        Args:
            spark: the session.
            read: the hashes of the paths of the files that were read.
            newest: the newest modification time of these files, in milliseconds since 1970; 0 without any.
        """
        here = locate(spark, self._path)
        if self._by_name or not here.is_in_reach:
            return None
        if not _files.is_pattern(self._path):
            self._sink = self._sink or _Log(here, _OF_SINK)
            self._sink.read()
            if self._sink.files:  # Spark then reads exactly the files in this log
                return len(self._sink.files.keys() - read)
        oldest = newest - self._age if self._age is not None and newest else None
        found = self._here() if here.folder is not None else self._there(spark)
        waiting = 0
        for path, changed in found:
            if hash(path) not in read and self._is_taken(path):
                at = _time(path) if changed is None else changed
                waiting += at is not None and (oldest is None or at >= oldest)
        return waiting

    def _is_taken(self, path: str) -> bool:
        """Return whether Spark reads a file with this name."""
        name = path.rpartition("/")[2]
        return not _files.is_hidden(name) and _shown(path) == path and bool(self._filter.fullmatch(name))

    def _here(self) -> Iterator[tuple[str, int | None]]:
        """Yield the paths of the files on this machine; None stands for a time that is not known yet."""
        for top in _files.matching(self._path):
            if not os.path.isdir(top):  # noqa: PTH112
                yield top, None
            for entry in _files.below(top, recursive=self._recursive):
                if not entry.is_dir():
                    yield entry.path, None

    def _there(self, spark: SparkSession) -> Iterator[tuple[str, int | None]]:
        """Yield the paths of the files on another file system, with their modification times."""
        found = statuses(spark, [self._path], pattern=True)
        folders = [path for path, is_folder, _ in found if is_folder]
        while True:
            yield from ((path, changed) for path, is_folder, changed in found if not is_folder)
            if not folders:
                return
            found = statuses(spark, folders)
            folders = [
                path
                for path, is_folder, _ in found
                if is_folder and _files.is_read_below(path.rpartition("/")[2], recursive=self._recursive)
            ]


def _time(path: str) -> int | None:
    """Return a file's modification time in milliseconds since 1970; None if it is gone or a broken link."""
    with suppress(OSError):
        return os.stat(path).st_mtime_ns // 1_000_000  # noqa: PTH116 - faster for many files
    return None


def _is_true(text: str | None) -> bool:
    return str(text).lower() == "true"


def _milliseconds(text: str) -> int | None:
    """Return a duration in one of Spark's options, such as "7d", in milliseconds; None if it is not known."""
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None
