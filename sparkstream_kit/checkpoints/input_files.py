"""Find files that a running query does not read or that hide others, and count what waits.

`Files` looks at the folders of a query's file sources, from time to time, for `run`.
Its `findings` are warnings, for example about a file that Spark ignores because of its
name, and `counted` returns the numbers of waiting and read files, as Spark does not
report them. Each `WatchedSource` compares what is in its folders with its log in the
checkpoint, by the options that the query gave it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.durations import FiftiethOfTheTime
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.queries import checkpoint, entry_at, start_facts
from sparkstream_kit.checkpoints.json_fields import OtherFields, other_fields
from sparkstream_kit.checkpoints.logs import (
    DamagedError,
    Logs,
    inputs_in,
    log_lines,
    reading,
)
from sparkstream_kit.checkpoints.trim import due, max_age, trimmed
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.checkpoints.logs import InputFile


_DAY = 86_400_000  # all times of files are in milliseconds, as in Spark's log
# An hour: a file that is dated less far ahead may come from a clock that is fast
_CLOCKS_DIFFER = 3_600_000
_SHOWN = 3  # files that a warning names

# Endings of checksums and of files that are still being written
_STAGED = (".crc", ".tmp", ".part", ".swp")

_CHANGED = (
    "changed after it was read, and not read again: land new content under a new name"
)
_GONE = (
    "gone when its batch was committed: if it went before the batch read it, its rows"
    " are missing, without an error of Spark; put it back under a new name, and remove"
    " input only after its batch is committed"
)
_AHEAD = (
    "dated in the future, so that it will hide older files (maxFileAge): touch it"
    " before it is read"
)
_HIDING = (
    "read with a date {} days ahead, so that new files are not read: set"
    ' maxFileAge="{}d" on the source'
)
_HIDDEN = (
    "not read, for it is too old beside the newest file read: set a longer maxFileAge"
    " on the source"
)

_READ = "read"
# The kinds of entries that Spark ignores, with their warnings; a `WatchedSource` reports
# each kind once.
PASSED_OVER = {
    "hidden": (
        "not read, as Spark passes over names that begin with _ or . or end with"
        " ._COPYING_: rename what is whole"
    ),
    "undecodable": "not read, as the name is not UTF-8: rename it",
    "subfolder": "a subfolder, which Spark reads only with recursiveFileLookup=True",
    "misread": (
        "not read while this query runs, as its name has one of * ? [ ] { } and \\, for"
        " which Spark would misread its batch: rename it, or start the query again"
    ),
    "beside": (
        "not read if it came after the folders of partitions beside it: move it into"
        " one of them"
    ),
}

# Prefixes of names that are ignored on purpose: files of Spark's jobs, of the kit's
# sinks and feeds, and of other tools.
_MEANT_TO_BE = (
    "_SUCCESS",
    "_sparkstream_",
    "_truth.json",
    ".DS_Store",
    ".gitignore",
    ".gitkeep",
)


class Files:
    """A running query's file sources: what waits in their folders, and what is lost or ignored.

    It knows only folders on this machine, and reports nothing if `start` did not start
    the query, or if the checkpoint is elsewhere. On Spark Connect it needs a server on
    this machine.

    Args:
        query: the query.
    """

    def __init__(self, query: StreamingQuery) -> None:
        # By their positions in Spark's progress
        self._sources: dict[int, WatchedSource] = {}
        self._counted: tuple[int, int] | None = None
        self._counts = FiftiethOfTheTime()
        self._reported: set[str] = (
            set()
        )  # the kinds of ignored entries that were reported
        self._json_columns: dict[int, list[str]] = {}
        frame = start_facts(query).frame
        root = checkpoint(query)
        if frame is None or root is None:
            return
        folder = locate(frame.sparkSession, root).folder
        if folder is not None:
            self._sources = _file_sources(frame)
            self._json_columns = logical_plan.json_columns(frame)
            self._root = folder

    def read_logs(self) -> None:
        """Read the new entries of the sources' logs.

        Call it before Spark removes a temporary checkpoint, whose logs can be read no
        more afterwards.
        """
        for source in self._sources.values():
            source.read(Logs(self._root))

    def counted(
        self, progress: StreamingQueryProgress, *, now: bool = False
    ) -> tuple[int, int] | None:
        """Return how many files wait after a batch, and how many were read; None if unknown.

        Args:
            progress: the progress of a batch. Files that later batches read count as
                waiting.
            now: count now, whatever it costs. Otherwise the numbers may be those of an
                earlier count, as counting takes at most 1/50 of the time.
        """
        if now or self._counts.is_due():
            with self._counts.taken():
                self._read_until(progress)
                self._counted = self._count()
        return self._counted

    def _count(self) -> tuple[int, int] | None:
        """Return the numbers of waiting and read files of all sources; None if unknown."""
        all_waiting = 0
        all_read = 0
        is_known = False
        for source in self._sources.values():
            # Do not count a folder that is gone or cannot be reached
            with suppress(OSError):
                count = source.count()
                if count is not None:
                    waiting_count, read_count = count
                    all_waiting += waiting_count
                    all_read += read_count
                    is_known = True
        if not is_known:
            return None
        return all_waiting, all_read

    def look_for(self, progress: StreamingQueryProgress) -> None:
        """Look whether a committed batch's files are there; `findings` has those that are not.

        Spark passes over a planned file that is gone when its batch runs, without an
        error.

        Args:
            progress: the progress of the batch.
        """
        self.read_logs()
        for position, source in self._sources.items():
            of_batch = progress.sources[position]
            source.look_for(
                entry_at(of_batch.startOffset), entry_at(of_batch.endOffset)
            )

    def findings(self, progress: StreamingQueryProgress | None) -> list[str]:
        """Return a line for each danger (see `WatchedSource.findings`).

        Each kind of ignored entry is told once.

        Args:
            progress: the query's last progress; None before its first batch.
        """
        if progress is not None:
            self._read_until(progress)
        lines: list[str] = []
        for source in self._sources.values():
            # A folder is gone; or Spark has just removed a file
            with suppress(OSError, DamagedError):
                lines += source.findings(self._root, self._reported)
        return lines

    def other_fields(self) -> OtherFields:
        """Return what is wrong with the names of the first source of JSON, if something is."""
        for position, columns in self._json_columns.items():
            source = self._sources.get(position)
            if source is not None and source.is_utf8:
                found = other_fields(source.newest_read(), columns)
                if found.absent_fields:
                    return found
        return OtherFields()

    def trim_logs(self) -> None:
        """Shorten the logs of the sources, if they have grown long; only while the query runs."""
        for source in self._sources.values():
            source.trim(Logs(self._root))

    def _read_until(self, progress: StreamingQueryProgress) -> None:
        self.read_logs()
        for position, source in self._sources.items():
            source.done = entry_at(progress.sources[position].endOffset)
            source.forget()


def _file_sources(frame: DataFrame) -> dict[int, WatchedSource]:
    """Return the file sources of a query on this machine, by their positions in Spark's progress.

    The result is empty if it is not known which options belong to which source.
    """
    sources = {}
    options = logical_plan.file_options(frame)
    for source in logical_plan.inputs_of(frame):
        if not source.path:
            continue
        number = source.number
        folder = locate(frame.sparkSession, source.path).folder
        if folder is not None and number in options:
            sources[number] = WatchedSource(source.log, str(folder), options[number])
    return sources


class WatchedSource:
    """A file source of a running query: the files it has planned, and those in its folders.

    Args:
        log: the number or name of the source's log.
        path: the path, or pattern, that the source reads.
        options: the options of the source, such as `maxFileAge` and `pathGlobFilter`.

    Attributes:
        done: the last entry of the log whose files were read; -1 before the first.
        is_utf8: whether no option names an encoding.
    """

    def __init__(self, log: str, path: str, options: Mapping[str, str]) -> None:
        by_name = {name.lower(): value for name, value in options.items()}
        self._log = f"sources/{log}"
        self._path = path
        self._recursive = _is_true(by_name.get("recursivefilelookup"))
        self._by_name = _is_true(by_name.get("filenameonly"))
        self._age = max_age(by_name)
        self._filter = file_system.as_regex(by_name.get("pathglobfilter", "*"))
        self._planned: dict[str, InputFile] = {}
        self._newest = 0  # the newest modification time of the planned files
        # For each file in the folders that Spark considers no more: whether it was read
        self._old: dict[str, bool] = {}
        self._forgotten = 0  # how many planned files were forgotten
        self._until = -1  # the last entry of the log that is known
        # Spark removes or moves away what it has read, if it is told to.
        self._is_cleaned = by_name.get("cleansource", "off").lower() != "off"
        # Planned files, until their batch is committed
        self._to_look_for: list[tuple[str, InputFile]] = []
        # Files that were gone after their batch, and have not been reported yet
        self._gone: list[str] = []
        self._before: int | None = None  # the last entry before the batches of this run
        self.is_utf8 = not {"encoding", "charset"} & by_name.keys()
        self.done = -1

    def read(self, logs: Logs) -> None:
        """Read the entries that were added to the source's log.

        If the log is damaged or gone, as that of a temporary checkpoint, the entries
        read before stay known.
        """
        with suppress(InvalidInputError), reading(Path(self._log)):
            added = logs.inputs(self._log.removeprefix("sources/"), after=self._until)
            new = {file.path or unquote(file.uri): file for file in added}
            self._planned |= new
            if not self._is_cleaned:
                self._to_look_for += new.items()
            for file in added:
                self._until = max(self._until, file.entry)
                self._newest = max(self._newest, file.time)

    def look_for(self, before: int, last: int) -> None:
        """Look for a batch's files: those in the log's entries after `before` up to `last`."""
        if self._before is None:
            self._before = before
        planned = self._to_look_for
        self._to_look_for = []
        for path, file in planned:
            if file.entry > last:
                self._to_look_for.append((path, file))
            elif file.entry > before and file.is_gone:
                self._gone.append(path)

    def newest_read(self) -> list[str]:
        """Return the files that this run has read, the newest first.

        Of a temporary checkpoint that Spark has removed, these are all files that are
        there: such a query has begun with the first one.
        """
        if self._before is None:
            return []
        read = [
            (file.time, path)
            for path, file in self._planned.items()
            if self._before < file.entry <= self.done
        ]
        if self._until < 0:
            with suppress(OSError):
                files = self._scan()[_READ]
                read = [(modified, path) for path, modified in files.items()]
        return [path for _, path in sorted(read, reverse=True)]

    def trim(self, logs: Logs) -> None:
        """Take the entries out of the source's log that Spark never looks at again."""
        with suppress(OSError, DamagedError):  # Spark has just removed a file
            make = due(logs, self._log.removeprefix("sources/"), self._age)
            if make is not None:
                make()

    def forget(self) -> None:
        """Forget read files that Spark considers no more, so that memory does not grow."""
        if self._age is None:
            return
        oldest = self._newest - self._age
        old = [
            path
            for path, file in self._planned.items()
            if file.time < oldest and file.entry <= self.done
        ]
        self._forgotten += len(old)
        for path in old:
            del self._planned[path]
            self._old[path] = True

    def count(self) -> tuple[int, int] | None:
        """Return the numbers of waiting and read files; None if they are not known.

        They are not known with the option `fileNameOnly`, or if the log's entry `done`
        could not be read.
        """
        if self._by_name or self.done > self._until:
            return None
        oldest = 0
        if self._age is not None:
            oldest = max(0, self._newest - self._age)
        files = self._scan()[_READ]
        waiting = [
            path
            for path, modified in files.items()
            if modified >= oldest and path not in self._planned
        ]
        planned_later = [
            file for file in self._planned.values() if file.entry > self.done
        ]
        read_count = len(self._planned) - len(planned_later) + self._forgotten
        return len(waiting) + len(planned_later), read_count

    def findings(self, root: Path, reported: set[str]) -> list[str]:
        """Return a line for each danger, and for each kind of ignored entry not in `reported`.

        The dangers are:

        - a file that was gone when its batch was committed.
        - a file that was overwritten or appended to after it was read.
        - a file that is dated in the future, and so hides other files.
        - a file that Spark ignores because of its name, or because it is much older
          than the newest file read.
        - a subfolder that Spark ignores.

        A folder with 100,000 files takes about a second.

        Args:
            root: the checkpoint, which may be a subfolder.
            reported: the kinds of `PASSED_OVER` to leave out. The kinds that are reported
                are added to the set.
        """
        entries = self._scan()
        lines = [
            f"{_first_paths(paths)}: {danger}"
            for danger, paths in self._dangers(entries[_READ], root)
            if paths
        ]
        for kind, warning in PASSED_OVER.items():
            if kind in reported:
                continue
            paths = list(entries[kind])
            if kind == "subfolder":
                paths = [path for path in paths if _has_input(path, root)]
            if paths:
                reported.add(kind)
                lines.append(f"{_first_paths(paths, 1)}: {warning}")
        return lines

    def _dangers(
        self, files: Mapping[str, int], root: Path
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield each danger, as its warning and the files that are in it, if there are any.

        Args:
            files: the modification time of each file that Spark would read, by its
                path.
            root: the checkpoint.
        """
        gone_files = self._gone
        self._gone = []
        yield _GONE, gone_files
        yield _CHANGED, self._changed(files)
        if self._age is None:
            return
        now = int(time.time() * 1000)
        waiting = {
            path: modified
            for path, modified in files.items()
            if path not in self._planned
        }
        latest = now + _CLOCKS_DIFFER
        yield _AHEAD, [path for path, modified in waiting.items() if modified > latest]
        newest = self._newest
        if newest > now + self._age:
            days = (newest - now) // _DAY
            planned = self._planned.items()
            hiding = [path for path, file in planned if file.time == newest]
            yield _HIDING.format(days, days + 8), hiding
        oldest = newest - self._age
        old = [path for path, modified in waiting.items() if modified < oldest]
        yield _HIDDEN, self._unread(old, root)

    def _changed(self, files: Mapping[str, int]) -> list[str]:
        """Return the files that were read and have another modification time now."""
        changed = []
        for path, file in self._planned.items():
            is_read = file.entry <= self.done
            if is_read and files.get(path, file.time) != file.time:
                changed.append(path)
        return changed

    def _unread(self, old: list[str], root: Path) -> list[str]:
        """Return the files of `old` that no batch has read, by all that the checkpoint knows."""
        # The others have gone
        self._old = {path: self._old[path] for path in old if path in self._old}
        unknown = set(old) - self._old.keys()
        if unknown:
            logged = self._logged(unknown, root)
            for path in unknown:
                self._old[path] = path in logged
        return [path for path in old if not self._old[path]]

    def _logged(self, paths: set[str], root: Path) -> set[str]:
        """Return those of some files that the source's log lists, or did before it was trimmed."""
        logs = Logs(root)
        log = self._log.removeprefix("sources/")
        last = max(logs.entries(self._log), default=-1)
        logged = set()
        for file in (*trimmed(root, log), *logs.files(log, last)):
            with reading(file):  # line by line: there may be a million
                lines = (line.decode() for line in log_lines(file))
                for each in inputs_in(lines):
                    if each.path is not None and each.path in paths:
                        logged.add(each.path)
        return logged

    def _scan(self) -> dict[str, dict[str, int]]:
        """Return the modification time of each entry in the folders, by its kind and its path."""
        entries: dict[str, dict[str, int]] = {_READ: {}}
        for kind in PASSED_OVER:
            entries[kind] = {}
        for path, is_folder, modified in self._entries():
            kind_of_entry = self._kind(path, is_folder=is_folder)
            if kind_of_entry is not None:
                entries[kind_of_entry][path] = modified
        if not self._recursive:
            for path in self._beside_partitions(entries[_READ]):
                entries["beside"][path] = entries[_READ].pop(path)
        return entries

    def _beside_partitions(self, files: Mapping[str, int]) -> set[str]:
        """Return the files that are beside folders of partitions; none if there are no partitions.

        A file that lies deeper than in a folder into which Spark looks is in a
        partition.
        """
        tops = set(file_system.matching(self._path))
        not_deeper = {
            path for path in files if path in tops or path.rpartition("/")[0] in tops
        }
        if len(not_deeper) == len(files):
            return set()
        return not_deeper - tops

    def _kind(self, path: str, *, is_folder: bool) -> str | None:
        """Return `read` or a kind of `PASSED_OVER`; None for what is ignored on purpose."""
        name = path.rpartition("/")[2]
        if file_system.is_hidden(name) or "/_sparkstream_epochs/" in path:
            is_meant_to_be = name.startswith(_MEANT_TO_BE) or name.endswith(_STAGED)
            return None if is_folder or is_meant_to_be else "hidden"
        if is_folder:
            return "subfolder"
        if _printable_path(path) != path:
            return "undecodable"
        if self._filter.fullmatch(name):
            return _READ
        # The filter of a query may leave out the characters that Spark misreads
        name_without = re.sub(r"[*?\[\]{}\\:]", "x", name)
        if self._filter.fullmatch(name_without):
            return "misread"
        return None

    def _entries(self) -> Iterator[tuple[str, bool, int]]:
        """Yield each entry in the folders: path, whether it is a folder, modification time."""
        for top in file_system.matching(self._path):
            # A pattern may match files
            entries: Iterable[os.DirEntry[str] | Path] = [Path(top)]
            if os.path.isdir(top):  # noqa: PTH112
                entries = file_system.below(top, recursive=self._recursive)
            for entry in entries:
                # A broken link, or removed just now: Spark cannot read it either
                with suppress(OSError):
                    yield (
                        os.fspath(entry),
                        entry.is_dir(),
                        entry.stat().st_mtime_ns // 1_000_000,
                    )


def _first_paths(paths: list[str], number: int = _SHOWN) -> str:
    """Return the first paths as text, and how many more there are."""
    text = ", ".join(_printable_path(path) for path in sorted(paths)[:number])
    hidden = len(paths) - number
    if hidden > 0:
        return f"{text} and {hidden:,} more"
    return text


def _printable_path(path: str) -> str:
    r"""Return a path as printable text; bytes that are not UTF-8 become escapes.

    Examples:
        >>> print(_printable_path("caf\udce9.csv"))
        caf\xe9.csv
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _has_input(folder: str, root: Path) -> bool:
    """Return whether a folder has a visible file at any depth, and not the checkpoint `root`."""
    if root.absolute().is_relative_to(folder):
        return False
    return any(
        not file_system.is_hidden(entry.name)
        for entry in file_system.below(folder, recursive=True)
    )


def _is_true(text: str | None) -> bool:
    return str(text).lower() == "true"
