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

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["findings"]

_DAY = 86_400_000  # all times here are milliseconds, as in the log
_CLOCKS_DIFFER = 3_600_000
_MAX_FILE_AGE = 7 * _DAY  # Spark's default; the checkpoint does not say what the query has
_SHOWN = 3

_GONE = "planned for a batch that was not committed, and gone: put back, or the rows are lost"
_CHANGED = "changed after it was read, and not read again: land new content under a new name"
_AHEAD = (
    "dated in the future, so that it will hide files 7 days older (maxFileAge): touch it before it is read"
)
_HIDING = 'read with a date {} days ahead, so that new files are not read: set maxFileAge="{}d" on the source'
_HIDDEN = "not read, for it is 7 days older than the newest file read: set a longer maxFileAge on the source"


class _Planned(NamedTuple):
    """A file as the source's log has it."""

    entry: int
    time: int
    committed: bool


def findings(checkpoint: str, sources: Sequence[str] = ()) -> list[str]:
    """Say what a query's file sources have lost or hidden, or are about to; one line a danger.

    A file that was planned for a batch and is gone before the batch was committed (the batch comes again
    without its rows: look before the query starts); a file that was overwritten or appended to after it was
    read; a file dated in the future; a file that Spark passes over because it is much older than the newest
    one read. A folder of 100,000 files takes about a second.

    Args:
        checkpoint: the query's checkpoint.
        sources: the `description` of each source in Spark's progress, such as "FileStreamSource[file:/in]";
            without them only folders are looked at that files have been read from.

    Returns:
        Lines for a person; none where the checkpoint or the files are not on a local path.

    Example:
        >>> findings("s3a://bucket/checkpoint")
        []
    """
    root = plain(checkpoint)
    if root is None:
        return []
    found = []
    kept = [int(path.name) for path in Path(root).glob("sources/*") if path.name.isdigit()]
    for number in range(max([len(sources), *(number + 1 for number in kept)])):
        try:
            planned = _planned(Path(root), number)
        except FileNotFoundError:
            continue  # Spark removes it at this moment: old entries, or a whole temporary checkpoint
        except (ValueError, LookupError, OSError) as err:
            found.append(f"{root}: what source {number} has read cannot be told: {err}")
            continue
        folders = {path.rpartition("/")[0] for path in planned}
        folders |= _folders(sources[number]) if number < len(sources) else set()
        found += _lines(planned, _files(folders), int(time.time() * 1000))
    return found


def _lines(planned: dict[str, _Planned], there: dict[str, int], now: int) -> list[str]:
    newest = max((file.time for file in planned.values()), default=0)
    # A file of another kind may lie there for another reader, and be filtered out by the source's options.
    endings = {_ending(path) for path in planned}
    waiting = {path: at for path, at in there.items() if path not in planned}
    if endings:
        waiting = {path: at for path, at in waiting.items() if _ending(path) in endings}
    read = {path: file.time for path, file in planned.items() if file.committed}
    found = {
        _GONE: [path for path, file in planned.items() if not file.committed and path not in there],
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


def _ending(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2]


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(sorted(paths)[:_SHOWN])
    return f"{shown} and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else shown


def _planned(root: Path, source: int) -> dict[str, _Planned]:
    """Return the local files in a source's log; none where it is the log of another kind of source."""
    log = root / "sources" / str(source)
    if not log.is_dir():
        return {}
    numbers = [path.name for path in log.iterdir() if not path.name.startswith(".")]
    whole = max((int(name.removesuffix(".compact")) for name in numbers if "." in name), default=-1)
    names = [
        name for name in numbers if name == f"{whole}.compact" or ("." not in name and int(name) > whole)
    ]
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


def _folders(description: str) -> set[str]:
    """Return the folders that a file source reads; none for a pattern that Python lacks, such as {a,b}."""
    found = re.fullmatch(r"FileStreamSource\[(.*)\]", description)
    path = plain(found[1]) if found else None
    if path is None:
        return set()
    return {path} if Path(path).is_dir() else {str(folder) for folder in Path("/").glob(path.lstrip("/"))}


def _files(folders: Iterable[str]) -> dict[str, int]:
    """Return the files in these folders, and in their partition folders (`day=1`), with their times."""
    there: dict[str, int] = {}
    for folder in folders:
        # What is gone by now is seen as gone.
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith((".", "_")):
                    continue
                if not entry.is_dir():
                    there[entry.path] = entry.stat().st_mtime_ns // 1_000_000
                elif "=" in entry.name:
                    there |= _files([entry.path])
    return there
