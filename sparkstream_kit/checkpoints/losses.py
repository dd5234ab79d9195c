"""What Spark's file source loses or hides without an error, found in its log and in the folders it reads."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit import _files
from sparkstream_kit.checkpoints import _records, inputs, layout
from sparkstream_kit.checkpoints.layout import DamagedError
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sources import _names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sparkstream_kit.checkpoints.inputs import Input

__all__ = ["PASSED_OVER", "doubled", "findings"]

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
    checkpoint: str, sources: Sequence[str] = (), said: set[str] | None = None, *, late: bool = False
) -> list[str]:
    """Say what a query's file sources have lost or hidden, or are about to; one line for each danger.

    A file that was planned for a batch and is gone before the batch was committed (the batch comes again
    without its rows: look before the query starts); a file that was overwritten or appended to after it was
    read; a file dated in the future; a file that Spark passes over because it is much older than the newest
    one read, or for its name; a subfolder. A folder of 100,000 files takes about a second.

    Args:
        checkpoint: the query's checkpoint.
        sources: the `description` of each source in Spark's progress, such as "FileStreamSource[file:/in]";
            without them only folders are looked at that files have been read from.
        said: the kinds of `PASSED_OVER` that need no line any more; those that get one are added.
        late: whether the query has dropped late rows; only then the order matters in which files were read.

    Returns:
        Lines for a person; none where the checkpoint or the files are not on a local path.

    Example:
        >>> findings("s3a://bucket/checkpoint")
        []
    """
    root = layout.local(checkpoint)
    if root is None:
        return []
    found: list[str] = []
    said = set() if said is None else said
    names = _records.noted(root).get("sources") or map(str, range(len(sources)))
    said_of = dict(zip(names, sources, strict=False))
    for name in dict.fromkeys((*said_of, *layout.source_logs(root))):
        try:
            in_order = said_of.get(name, "").endswith(f"{_files.IN_ORDER}]")
            source = _Lost(root, name, _path_of(said_of.get(name, "")), subfolders=not in_order)
            found += source.findings(said)
            if late and (tied := source.tied()):
                found.append(f"{_some(tied)}: {_TIED}")
        except (InvalidInputError, OSError) as err:
            # Spark removes a temporary checkpoint when its query ends, and old entries of a log.
            if not (isinstance(err, DamagedError) and err.is_missing):
                found.append(f"{root}: what source {name} has read cannot be told: {err}")
    return found


def doubled(checkpoint: str) -> str | None:
    """Say which file makes Spark count others twice when it repeats the batch that was not committed.

    The kit plans no such batch; plain Spark does, and the plan stays when the file gets another name.
    """
    root = Path(checkpoint)
    with suppress(InvalidInputError):  # `findings` says these
        committed = inputs.committed(root)
        for log in inputs.planned(root):
            pending = inputs.inputs(log, committed.get(log, -1))
            paths = [path for path in (file.path for file in pending) if path and _names.is_pattern(path)]
            found = [path for path in paths if not _names.is_read_once(path)]
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

    def __init__(self, root: Path, name: str, path: str | None, *, subfolders: bool = True) -> None:
        log = root / "sources" / name
        self.root = root
        self.committed = inputs.committed(root).get(log, -1)
        found = inputs.inputs(log) if log in inputs.planned(root) else ()
        self.planned = {local: file for file in found if (local := file.path)}
        if not subfolders and path is not None:  # Spark notes them, and reads no row of them
            folder = re.sub(r"\\(.)", r"\1", path).rstrip("/")
            self.planned = {
                local: file for local, file in self.planned.items() if local.rpartition("/")[0] == folder
            }
        self.there: dict[str, int] = {}  # files with their times
        self.passed_over: dict[str, list[str]] = {kind: [] for kind in PASSED_OVER}
        self.folders = {planned.rpartition("/")[0] for planned in self.planned}
        for folder in self.folders | _folders(path):
            self._look_into(folder)
        self._leave_out_misread(path)

    def _look_into(self, folder: str) -> None:
        """Take in the files of a folder and of its partition folders (`day=1`)."""
        # What is gone by now is seen as gone.
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                self._look_at(entry)

    def _look_at(self, entry: os.DirEntry[str]) -> None:
        try:
            is_folder, changed = entry.is_dir(), entry.stat().st_mtime_ns // 1_000_000
        except OSError:
            return  # it went at this moment, or is a link to nothing: Spark does not read it either
        hidden = entry.name.startswith((".", "_")) or entry.name.endswith("._COPYING_")
        if is_folder and "=" in entry.name and not entry.name.startswith("."):
            self._look_into(entry.path)
        elif is_folder:
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
        chars = _names.left_out(path or "")
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

    Example:
        >>> print(_shown("caf\udce9.csv"))
        caf\xe9.csv
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _has_files(folder: str) -> bool:
    """Say whether Spark would find a file in a folder, at any depth."""
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        if any(not name.startswith((".", "_")) for name in files):
            return True
    return False


def _path_of(description: str) -> str | None:
    """Return the local path that a file source reads."""
    found = re.fullmatch(r"FileStreamSource\[(.*)\]", description)
    return _files.plain(_files.folder_of(found[1])) if found else None


def _folders(path: str | None) -> set[str]:
    """Return the folders that a file source reads; none for a pattern that Python lacks, such as {a,b}."""
    if path is None:
        return set()
    as_it_is = re.sub(r"\\(.)", r"\1", path)
    for each in (path, as_it_is):
        if Path(each).is_dir():
            return {each}
    return {str(folder) for folder in Path("/").glob(path.lstrip("/"))}
