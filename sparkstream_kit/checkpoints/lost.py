"""Files of a query's inputs that are lost, hidden, or wait: by the logs of its sources and their folders.

Spark does not say how many files wait. A look lists the folders and compares them with the logs of the
sources; the next look waits until the last one has cost at most a fiftieth of the time.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit import _files
from sparkstream_kit._spark import plan
from sparkstream_kit._spark.place import locate, statuses
from sparkstream_kit._spark.queries import checkpoint, entry_at, started, with_files
from sparkstream_kit.checkpoints.logs import DamagedError
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.checkpoints.logs import Input, Logs


# A source of files in Spark's progress, with its path.
_SOURCE = re.compile(r"FileStreamSource\[(.*)\]", re.DOTALL)

_DAY = 86_400_000  # all times here are milliseconds, as in the log
_CLOCKS_DIFFER = 3_600_000
_MAX_FILE_AGE = 7 * _DAY  # Spark's default; the checkpoint does not say what the query has
_SHOWN = 3

_STAGED = (".crc", ".tmp", ".part", ".swp")  # beside a file, or on its way to another name
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

# By these words a kind is known: `findings` says each once.
PASSED_OVER = {
    "hidden": "not read, as Spark passes over names that begin with _ or . or end with ._COPYING_: rename "
    "what is whole",
    "undecodable": "not read, as the name is not UTF-8: rename it",
    "subfolder": "a subfolder, which Spark reads only with recursiveFileLookup=True",
    "misread": "not read while this query runs, as its name has one of * ? [ ] { } \\ or :, for which Spark "
    "would misread its batch: rename it, or start the query again",
}

# How names begin that are not meant to be read: of Spark's jobs, of the kit's sinks and feeds.
_MEANT_TO_BE = ("_SUCCESS", "_sparkstream_", "_truth.json")


def findings(
    logs: Logs, sources: Sequence[str] = (), said: set[str] | None = None, *, late: bool = False
) -> list[str]:
    """Say what a query's file sources have lost or hidden, or are about to; one line for each danger.

    A file that was planned for a batch and is gone before the batch was committed (the batch comes again
    without its rows: look before the query starts); a file that was overwritten or appended to after it was
    read; a file dated in the future; a file that Spark passes over because it is much older than the newest
    one read, or for its name; a subfolder. A folder of 100,000 files takes about a second.

    Args:
        logs: of the query's checkpoint.
        sources: the `description` of each source in Spark's progress, such as "FileStreamSource[file:/in]";
            without them only folders are looked at that files have been read from.
        said: the kinds of `PASSED_OVER` that need no line any more; those that get one are added.
        late: whether the query has dropped late rows; only then the order matters in which files were read.

    Returns:
        Lines for a person; none of files that are not on a local path.
    """
    found: list[str] = []
    said = set() if said is None else said
    names = logs.noted.get("sources") or map(str, range(len(sources)))
    said_of = dict(zip(names, sources, strict=False))
    for name in dict.fromkeys((*said_of, *logs.sources)):
        try:
            in_order = said_of.get(name, "").endswith(f"{_files.IN_ORDER}]")
            source = _Lost(logs, name, _path_of(said_of.get(name, "")), subfolders=not in_order)
            found += source.findings(said)
            if late and (tied := source.tied()):
                found.append(f"{_some(tied)}: {_TIED}")
        except (InvalidInputError, OSError) as err:
            # Spark removes a temporary checkpoint when its query ends, and old entries of a log.
            if not (isinstance(err, DamagedError) and err.is_missing):
                found.append(f"{logs.root}: what source {name} has read cannot be told: {err}")
    return found


def doubled(logs: Logs) -> str | None:
    """Say which file makes Spark count others twice when it repeats the batch that was not committed.

    The kit plans no such batch; plain Spark does, and the plan stays when the file gets another name.
    """
    with suppress(InvalidInputError):  # `findings` says these
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
    """What a file source has planned, by the files' paths, and what lies in its folders."""

    def __init__(self, logs: Logs, name: str, path: str | None, *, subfolders: bool = True) -> None:
        self.root = logs.root
        self.committed = logs.until(logs.done).get(name, -1)
        found = logs.inputs(name) if name in logs.until_planned else ()
        self.planned = {local: file for file in found if (local := file.path)}
        if not subfolders and path is not None:  # Spark notes them, and reads no row of them
            folder = re.sub(r"\\(.)", r"\1", path).rstrip("/")
            self.planned = {
                local: file for local, file in self.planned.items() if local.rpartition("/")[0] == folder
            }
        self.there: dict[str, int] = {}  # files with their times
        self.passed_over: dict[str, list[str]] = {kind: [] for kind in PASSED_OVER}
        self.folders = {planned.rpartition("/")[0] for planned in self.planned}
        tops = set() if path is None else {each for each in _files.matching(path) if Path(each).is_dir()}
        for folder in self.folders | tops:
            for entry in _files.below(folder):
                self._look_at(entry)
        self._leave_out_misread(path)

    def _look_at(self, entry: os.DirEntry[str]) -> None:
        with suppress(OSError):  # it went at this moment, or is a link to nothing: Spark reads it neither
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
        """Say whether the source reads a subfolder (recursiveFileLookup), or the checkpoint lies there."""
        return self.root.absolute().is_relative_to(folder) or any(
            read == folder or read.startswith(f"{folder}/") for read in self.folders
        )

    def _leave_out_misread(self, path: str | None) -> None:
        """Take the files whose names make them wait out of those that Spark reads next."""
        chars = _files.left_out.get(path or "") or ""
        for file in [file for file in self.there if file not in self.planned]:
            if any(char in file.rpartition("/")[2] for char in chars):
                self.passed_over["misread"].append(file)
                del self.there[file]

    def tied(self) -> list[str]:
        """Return the files of one time that were read in several entries, not in the order of their names."""
        tied: dict[int, list[Input]] = {}
        for file in sorted(self.planned.values()):
            tied.setdefault(file.time, []).append(file)
        # One entry is read as a whole.
        return [
            file.path or file.uri
            for files in tied.values()
            if files != sorted(files, key=lambda file: file.uri) and files[0].entry < files[-1].entry
            for file in files
        ]

    def findings(self, said: set[str]) -> list[str]:
        """Return a line for each danger, and for each kind of what is passed over that was not said yet."""
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
        """Return the files that were not planned yet, with their times.

        A file of another kind may lie there for another reader, and be filtered out by the source's options.
        """
        kinds = {_kind(path, of_read=True) for path in self.planned}
        return {
            path: at
            for path, at in self.there.items()
            if path not in self.planned and (not kinds or _kind(path) in {"", *kinds})
        }


def _reads_older_files(planned: Iterable[Input]) -> bool:
    """Say whether a file was taken after one that is newer by more than the default of maxFileAge."""
    newest = 0
    for file in sorted(planned):
        if file.time < newest - _MAX_FILE_AGE:
            return True
        newest = max(newest, file.time)
    return False


def _kind(path: str, *, of_read: bool = False) -> str:
    """Return a name's ending without that of a packed file; "" for none, and for the number of a rotated log.

    With `of_read` the ending before the number counts, as `app.log` may be read after `app.log.1`.
    """
    endings = path.rpartition("/")[2].split(".")[1:]
    while endings and (endings[-1] in _PACKED or (of_read and not _LETTER.search(endings[-1]))):
        endings.pop()
    return endings[-1] if endings and _LETTER.search(endings[-1]) else ""


def _some(paths: Sequence[str], number: int = _SHOWN) -> str:
    shown = ", ".join(_shown(path) for path in sorted(paths)[:number])
    return f"{shown} and {len(paths) - number:,} more" if len(paths) > number else shown


def _shown(path: str) -> str:
    r"""Return a path as text that can be printed, whatever bytes it has.

    Examples:
        >>> print(_shown("caf\udce9.csv"))
        caf\xe9.csv
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _has_files(folder: str) -> bool:
    """Say whether Spark would find a file in a folder, at any depth."""
    return any(not _files.is_hidden(entry.name) for entry in _files.below(folder, recursive=True))


def _path_of(description: str) -> str | None:
    """Return the local path that a file source reads."""
    found = _SOURCE.fullmatch(description)
    return _files.plain(_files.folder_of(found[1])) if found else None


_SHARE = 50  # a look may take one part in so many of the time
_LINE = re.compile(r'"path":"([^"]*)".*?"(?:timestamp|modificationTime)":(-?\d+)(?:,"batchId":(\d+))?')
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
    # Without their paths, as Spark names these.
    spark, reads = frame.sparkSession, [each for each in plan.file_reads(frame) if each is not None]
    options = [{key: value for key, value in each.options.items() if key != "path"} for each in reads]
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
                    found = self._look(at, source, entry_at(progress.sources[at].endOffset))
                    if found is not None:
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
        self._is_pattern = _files.is_pattern(path)
        self._recursive = _is_true(given.get("recursivefilelookup"))
        self._by_name = _is_true(given.get("filenameonly"))
        limited = given.keys() & {"maxfilespertrigger", "maxbytespertrigger"}
        ages = not (limited and _is_true(given.get("latestfirst")))
        self._age = _milliseconds(given.get("maxfileage", _MAX_AGE)) if ages else None
        self._filter = _files.as_regex(given["pathglobfilter"]) if "pathglobfilter" in given else None
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
        found = self._here() if here.folder is not None else self._there(spark)
        waiting = 0
        for path, changed in found:
            if hash(path) not in read and self._is_taken(path):
                at = _time(path) if changed is None else changed
                waiting += at is not None and (oldest is None or at >= oldest)
        return waiting

    def _is_taken(self, path: str) -> bool:
        """Say whether Spark reads a file of this name."""
        name = path.rpartition("/")[2]
        if _files.is_hidden(name) or _shown(path) != path:
            return False
        return self._filter is None or self._filter.fullmatch(name) is not None

    def _here(self) -> Iterator[tuple[str, int | None]]:
        """Yield the paths of the files on this machine."""
        for top in _files.matching(self._path):
            if not os.path.isdir(top):  # noqa: PTH112
                yield top, None
            for entry in _files.below(top, recursive=self._recursive):
                if not entry.is_dir():
                    yield entry.path, None

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
                path
                for path, is_folder, _ in found
                if is_folder and _files.is_read_below(path.rpartition("/")[2], recursive=self._recursive)
            ]


def _time(path: str) -> int | None:
    """Return when a file was changed last; None if it is gone by now, or a link to nothing."""
    with suppress(OSError):
        return os.stat(path).st_mtime_ns // 1_000_000  # noqa: PTH116 - of many files
    return None


def _is_true(text: str | None) -> bool:
    return str(text).lower() == "true"


def _milliseconds(text: str) -> int | None:
    """Return a time as Spark's options have it; None where it is not known."""
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None
