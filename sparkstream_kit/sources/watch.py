"""What Spark's file source loses or hides without an error, found in its log and in the folders it reads.

The source keeps each file that it planned, with its modification time, in `<checkpoint>/sources/<i>/<n>` and,
every tenth time, all of them in `<n>.compact`.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from sparkstream_kit._files import plain
from sparkstream_kit.sources import _names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["PASSED_OVER", "doubled", "findings"]

_DAY = 86_400_000  # all times here are milliseconds, as in the log
_CLOCKS_DIFFER = 3_600_000
_MAX_FILE_AGE = 7 * _DAY  # Spark's default; the checkpoint does not say what the query has
_SHOWN = 3

_STAGED = (".crc", ".tmp", ".part", ".swp")  # beside a file, or on its way to another name
_PACKED = {"bz2", "deflate", "gz", "lz4", "snappy", "xz", "zst"}

_GONE = "planned for a batch that was not committed, and gone: put back, or the rows are lost"
_CHANGED = "changed after it was read, and not read again: land new content under a new name"
_AHEAD = (
    "dated in the future, so that it will hide files 7 days older (maxFileAge): touch it before it is read"
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


class _Planned(NamedTuple):
    """A file as the source's log has it."""

    entry: int
    time: int
    committed: bool


class _There:
    """What lies in the folders of a source."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}  # with their times
        self.passed_over: dict[str, list[str]] = {kind: [] for kind in PASSED_OVER}

    def add(self, folder: str) -> None:
        """Add the files of a folder and of its partition folders (`day=1`)."""
        # What is gone by now is seen as gone.
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                self._add(entry)

    def _add(self, entry: os.DirEntry[str]) -> None:
        try:
            is_folder, changed = entry.is_dir(), entry.stat().st_mtime_ns // 1_000_000
        except OSError:
            return  # it went at this moment, or is a link to nothing: Spark does not read it either
        hidden = entry.name.startswith((".", "_")) or entry.name.endswith("._COPYING_")
        if is_folder and "=" in entry.name and not entry.name.startswith("."):
            self.add(entry.path)
        elif is_folder:
            if not hidden and _has_files(entry.path):
                self.passed_over["subfolder"].append(entry.path)
        elif hidden:
            if entry.name != "_SUCCESS" and not entry.name.endswith(_STAGED):
                self.passed_over["hidden"].append(entry.path)
        elif not _is_utf8(entry.name):
            self.passed_over["undecodable"].append(entry.path)
        else:
            self.files[entry.path] = changed


def findings(checkpoint: str, sources: Sequence[str] = (), said: set[str] | None = None) -> list[str]:
    """Say what a query's file sources have lost or hidden, or are about to; one line a danger.

    A file that was planned for a batch and is gone before the batch was committed (the batch comes again
    without its rows: look before the query starts); a file that was overwritten or appended to after it was
    read; a file dated in the future; a file that Spark passes over because it is much older than the newest
    one read, or for its name; a subfolder. A folder of 100,000 files takes about a second.

    Args:
        checkpoint: the query's checkpoint.
        sources: the `description` of each source in Spark's progress, such as "FileStreamSource[file:/in]";
            without them only folders are looked at that files have been read from.
        said: the kinds of `PASSED_OVER` that need no line any more; those that get one are added.

    Returns:
        Lines for a person; none where the checkpoint or the files are not on a local path.

    Example:
        >>> findings("s3a://bucket/checkpoint")
        []
    """
    root = plain(checkpoint)
    if root is None:
        return []
    found: list[str] = []
    said = set() if said is None else said
    for number in range(max([len(sources), *(number + 1 for number in _numbers(Path(root)))])):
        description = sources[number] if number < len(sources) else ""
        there = _There()
        try:
            planned = _planned(Path(root), number)
            for folder in {path.rpartition("/")[0] for path in planned} | _folders(description):
                there.add(folder)
        except FileNotFoundError:
            continue  # Spark removes it at this moment: old entries, or a whole temporary checkpoint
        except (ValueError, LookupError, OSError) as err:
            found.append(f"{root}: what source {number} has read cannot be told: {err}")
            continue
        _leave_out_misread(there, planned, description)
        found += _lines(planned, there.files, int(time.time() * 1000))
        found += _of_passed_over(there.passed_over, planned, root, said)
    return found


def doubled(checkpoint: str) -> str | None:
    """Say which file makes Spark count others twice when it repeats the batch that was not committed.

    The kit plans no such batch; plain Spark does, and the plan stays when the file gets another name.
    """
    root = Path(checkpoint)
    for number in _numbers(root):
        with suppress(ValueError, LookupError, OSError):  # `findings` says these
            planned = _planned(root, number)
            pending = [path for path, file in planned.items() if not file.committed]
            found = [path for path in pending if _names.is_pattern(path) and not _names.is_read_once(path)]
            if found and len(pending) > 1:
                return (
                    f"{_shown(found[0])}: planned for a batch of several files, of which Spark would "
                    "count the others twice; give the source recursiveFileLookup=True for this start, with "
                    "which Spark counts each file once and reads subfolders, too; or start anew on another "
                    "checkpoint"
                )
    return None


def _numbers(root: Path) -> list[int]:
    """Return the numbers of the sources that keep a log; Spark may be removing a temporary checkpoint."""
    try:
        names = os.listdir(root / "sources")  # noqa: PTH208 - in one step
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdigit())


def _leave_out_misread(there: _There, planned: dict[str, _Planned], description: str) -> None:
    """Take the files whose names make them wait out of those that Spark reads next."""
    chars = _names.left_out(_path(description) or "")
    for path in [path for path in there.files if path not in planned]:
        if any(char in path.rpartition("/")[2] for char in chars):
            there.passed_over["misread"].append(path)
            del there.files[path]


def _of_passed_over(
    paths: dict[str, list[str]], planned: dict[str, _Planned], checkpoint: str, said: set[str]
) -> list[str]:
    """Return a line for each kind that was not said yet."""
    read = {path.rpartition("/")[0] for path in planned}
    mine = Path(checkpoint).absolute()
    paths = paths | {
        # Where recursiveFileLookup is set, files of subfolders are planned.
        "subfolder": [
            path
            for path in paths["subfolder"]
            if not any(folder == path or folder.startswith(f"{path}/") for folder in read)
            and not mine.is_relative_to(path)
        ]
    }
    new = {kind: sorted(each) for kind, each in paths.items() if each and kind not in said}
    said |= set(new)
    return [
        _shown(each[0]) + (f" and {len(each) - 1:,} more: " if each[1:] else ": ") + PASSED_OVER[kind]
        for kind, each in new.items()
    ]


def _lines(planned: dict[str, _Planned], there: dict[str, int], now: int) -> list[str]:
    newest = max((file.time for file in planned.values()), default=0)
    # A file of another kind may lie there for another reader, and be filtered out by the source's options.
    kinds = {_kind(path, of_read=True) for path in planned}
    waiting = {path: at for path, at in there.items() if path not in planned}
    if kinds:
        waiting = {path: at for path, at in waiting.items() if _kind(path) in {"", *kinds}}
    read = {path: file.time for path, file in planned.items() if file.committed}
    gone = [path for path, file in planned.items() if not file.committed and path not in there]
    found = {
        _GONE: [path for path in gone if not os.path.lexists(path)],
        _CHANGED: [path for path, at in read.items() if there.get(path, at) != at],
        _AHEAD: [path for path, at in waiting.items() if at > now + _CLOCKS_DIFFER],
    }
    if not _reads_older_files(planned.values()):
        found[_HIDING] = [path for path, file in planned.items() if file.time == newest > now + _MAX_FILE_AGE]
        found[_HIDDEN] = [path for path, at in waiting.items() if at < newest - _MAX_FILE_AGE]
    days = (newest - now) // _DAY
    return [f"{_some(paths)}: {what.format(days, days + 8)}" for what, paths in found.items() if paths]


def _reads_older_files(planned: Iterable[_Planned]) -> bool:
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
    while endings and (endings[-1] in _PACKED or (of_read and not re.search("[A-Za-z]", endings[-1]))):
        endings.pop()
    return endings[-1] if endings and re.search("[A-Za-z]", endings[-1]) else ""


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(_shown(path) for path in sorted(paths)[:_SHOWN])
    return f"{shown} and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else shown


def _shown(path: str) -> str:
    r"""Return a path as text that can be printed, whatever bytes it has.

    Example:
        >>> print(_shown("caf\udce9.csv"))
        caf\xe9.csv
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\udc80" <= char <= "\udcff" for char in name)


def _has_files(folder: str) -> bool:
    """Say whether Spark would find a file in a folder, at any depth."""
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        if any(not name.startswith((".", "_")) for name in files):
            return True
    return False


def _planned(root: Path, source: int) -> dict[str, _Planned]:
    """Return the local files in a source's log; none where it is the log of another kind of source."""
    log = root / "sources" / str(source)
    if not log.is_dir():
        return {}
    # Another kind of source may keep folders of other names there.
    numbers = [path.name for path in log.iterdir() if re.fullmatch(r"\d+(\.compact)?", path.name)]
    whole = max((int(name.removesuffix(".compact")) for name in numbers if "." in name), default=-1)
    names = [
        name for name in numbers if name == f"{whole}.compact" or ("." not in name and int(name) > whole)
    ]
    if not names:
        return {}
    committed = _committed(root, source)
    planned = {}
    for line in (line for name in names for line in (log / name).read_text("utf-8").splitlines()):
        if not line.startswith('{"path":'):
            continue  # the log's version, or what another kind of source keeps
        entry = json.loads(line)
        if entry["path"].startswith("file:///"):
            path = unquote(entry["path"].removeprefix("file://"))
            done = entry["batchId"] <= committed
            planned[path] = _Planned(entry["batchId"], entry["timestamp"], done)
    return planned


def _committed(root: Path, source: int) -> int:
    """Return up to which entry of its log the committed batches have read a source; -1 for none."""
    commits = [int(path.name) for path in root.glob("commits/*") if path.name.isdigit()]
    if not commits:
        return -1
    # A version, a line of settings, and then a line a source, "-" for one without rows yet.
    line = (root / "offsets" / str(max(commits))).read_text("utf-8").splitlines()[2 + source]
    return int(json.loads(line)["logOffset"]) if line.startswith('{"logOffset":') else -1


def _path(description: str) -> str | None:
    """Return the local path that a file source reads."""
    found = re.fullmatch(r"FileStreamSource\[(.*)\]", description)
    return plain(found[1]) if found else None


def _folders(description: str) -> set[str]:
    """Return the folders that a file source reads; none for a pattern that Python lacks, such as {a,b}."""
    path = _path(description)
    if path is None:
        return set()
    as_it_is = re.sub(r"\\(.)", r"\1", path)
    for each in (path, as_it_is):
        if Path(each).is_dir():
            return {each}
    return {str(folder) for folder in Path("/").glob(path.lstrip("/"))}
