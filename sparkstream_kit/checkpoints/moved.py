"""Compare the folders that a query's file sources have read with those that the query reads now.

Spark numbers a query's sources and logs the files of each source under its number,
whatever the source's path. If a folder was renamed, or the two sides of a union were
swapped, Spark would read all files again and every row would count twice. `guard` calls
`find_moves` before a start: it refuses such a query, or returns a `Move` for each log
that must be rewritten. `rewrite` then renames the files in that log.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from sparkstream_kit._internal.spark.place import in_its_file_system, locate
from sparkstream_kit.checkpoints.logs import command, log_file, log_text
from sparkstream_kit.checkpoints.trim import restore
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyspark.sql import SparkSession

    from sparkstream_kit._internal.spark.logical_plan import Input
    from sparkstream_kit.checkpoints.logs import InputFile, Logs


_log = logging.getLogger(__name__)

# The folder, below the one that a source reads now, of the paths of forgotten files
_FORMER = ".sparkstream-former"

# The characters that Java's URI class escapes in a path; Spark's log has paths in this
# form.
_IN_URIS = re.compile(
    r'[\x00-\x20"#%<>?\[\\\]^`{|}\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
)


class Move(NamedTuple):
    """A rewrite of a source's log: its files under `old` are to be named under `new`.

    Attributes:
        log: the name of the source's log.
        old: the folder that the log names; None to forget all files that were read
            outside `new`, so that every file under `new` counts as a new one.
        new: the folder that the source reads now.
    """

    log: str
    old: Path | None
    new: Path


def bases(spark: SparkSession, inputs: Iterable[Input]) -> dict[str, Path]:
    """Return the folder that each file source of a query reads, by the name of the source's log."""
    return {
        each.log: _base(spark, each.path) for each in inputs if each.path is not None
    }


def find_moves(
    spark: SparkSession,
    logs: Logs,
    bases: Mapping[str, Path],
    moved: Mapping[str | Path, str | Path],
    *,
    forget: bool = False,
    reread_hint: str = "start(…, allow_changed_query=True)",
) -> list[Move]:
    """Compare the folders that a checkpoint's file sources have read with those that a query reads.

    Args:
        spark: the session, which resolves a path without a scheme.
        logs: the logs of the checkpoint.
        bases: the folder of each file source of the query, by the name of the source's
            log.
        moved: the folders that have moved, as {old: new}, as the user gave them.
        forget: if a source reads another folder, read that folder from its beginning.
        reread_hint: how to read everything again, for the message.

    Returns:
        The logs to rewrite: for folders that have moved, for folders that are now
        reached by another path, such as a symbolic link, and for files to forget.

    Raises:
        InvalidInputError: a source has read another folder, and `moved` does not have
            it; or a folder is to be forgotten while a batch is not committed.
    """
    moved_folders = {
        _absolute(spark, str(old)): _absolute(spark, str(new))
        for old, new in moved.items()
    }
    moves: dict[tuple[str, Path | None], Move] = {}
    for log, until in logs.until_planned.items():
        base = bases.get(log)
        for uri in sorted(logs.folders(log, until)):
            if _is_still_read(log, uri, base, moved_folders):
                continue
            folder = _path(uri)
            move = _move(log, uri, base, moved_folders, forget=forget)
            if move is None:
                raise InvalidInputError(
                    _refusal(logs.root, log, folder, bases, reread_hint)
                )
            if move.old is None:
                _check_committed(logs, folder)
            moves[log, move.old] = move
    # Forget last: such a move renames every file outside the new folder, and by then
    # only those remain.
    renames = [move for move in moves.values() if move.old is not None]
    forgets = [move for move in moves.values() if move.old is None]
    return renames + forgets


def _path(uri: str) -> Path:
    """Return the path in a URI of Spark's log.

    Examples:
        >>> _path("file:///in/a%20b.csv")
        PosixPath('/in/a b.csv')
    """
    return Path(unquote(urlsplit(uri).path))


def rewrite(logs: Logs, move: Move) -> None:
    """Rename the files in a source's log to their new folder; each log file changes atomically.

    A crash between two files of the log does no harm: the next start finds and rewrites
    the rest.
    """
    _log.info(
        "checkpoint %s: files that source %s has read of %s are named under %s",
        logs.root,
        *move,
    )
    # A copy may have got new times, by which Spark considers its files again
    restore(logs, move.log)
    for file in logs.entries(f"sources/{move.log}").values():
        inputs = [_rewritten(each, move) for each in logs.read(log_file, file)]
        logs.replace(file, log_text(inputs))


def _rewritten(file: InputFile, move: Move) -> InputFile:
    """Return a file of a source's log as the log names it after a move.

    Spark reads no file that is much older than the newest one in its log: a forgotten
    file has time 0, and gets its own back.
    """
    uri = renamed(file.uri, move)
    if uri == file.uri:
        return file
    if move.old is None:
        return file._replace(uri=uri, time=0)
    return file._replace(uri=uri, time=_modified(uri) or file.time)


def _modified(uri: str) -> int:
    """Return a file's modification time as Spark notes it, in milliseconds; 0 if it has gone."""
    file = _path(uri)
    if not file.exists():
        return 0
    return file.stat().st_mtime_ns // 1_000_000


def renamed(uri: str, move: Move) -> str:
    """Return the URI of a logged file after a move; one that did not move keeps its URI.

    A forgotten file gets a path in a folder `.sparkstream-former` that no new file can
    have.

    Examples:
        >>> renamed("file:///in/a%20b.csv", Move("0", Path("/in"), Path("/new")))
        'file:///new/a%20b.csv'
        >>> renamed("file:///in/a.csv", Move("0", None, Path("/other")))
        'file:///other/.sparkstream-former/in/a.csv'
    """
    path = ""
    if uri.startswith("file:"):
        path = urlsplit(uri).path
    folder = str(move.new).rstrip("/")
    new = _IN_URIS.sub(lambda char: quote(char[0], safe=""), folder)
    local = Path(unquote(path))
    if move.old is None and not local.is_relative_to(move.new):
        # The new path must be below the folder, as Spark fails at paths elsewhere.
        return f"file://{new}/{_FORMER}{path}"
    if move.old is not None and local.is_relative_to(move.old):
        below_old = path.split("/")[len(move.old.parts) :]
        return "/".join([f"file://{new}", *below_old])
    return uri


def _check_committed(logs: Logs, folder: Path) -> None:
    """Refuse to forget files while a batch is uncommitted: its replay would lack them."""
    last = logs.planned
    done = logs.done
    if done < last:
        back = "start anew on another checkpoint"
        if done >= 0:
            back = f"rewind: {command('rewind', logs.root)} --to {done}"
        raise InvalidInputError(
            f"checkpoint {logs.root}: batch {last} was planned with files of {folder}"
            " and is not committed; start the query once more on that folder, or"
            f" {back}"
        )


def _is_still_read(
    log: str, uri: str, base: Path | None, moved_folders: Mapping[Path, Path]
) -> bool:
    """Return whether a source reads a folder in its log by the same path as before.

    It does not if the folder has gone, and is one of those that the user has moved. The
    arguments are those of `_move`.

    Examples:
        >>> base = Path("/in")
        >>> [_is_still_read("0", uri, base, {}) for uri in ("file:/in/day=1", "file:/old")]
        [True, False]
    """
    if base is None or not _path(uri).is_relative_to(base):
        return False
    move = _moved_by_user(log, uri, base, moved_folders)
    if move is None or move.old is None:
        return True
    return os.path.exists(move.old)  # noqa: PTH110 - not allowed to look: no


def _move(
    log: str,
    uri: str,
    base: Path | None,
    moved_folders: Mapping[Path, Path],
    *,
    forget: bool,
) -> Move | None:
    """Return the rewrite by which a folder in a log becomes one that the source reads now.

    Args:
        log: the name of the source's log.
        uri: the URI of the folder in the log.
        base: the folder that the source reads now, or None if it does not read files.
        moved_folders: the folders that have moved, as {old: new}.
        forget: forget the files of a folder that is not below `base` in any way.

    Returns:
        The rewrite; None if there is none.
    """
    if base is None:
        return None
    move = _moved_by_user(log, uri, base, moved_folders)
    if move is None:
        move = _reached_by_links(log, uri, base)
    if move is not None:
        return move
    if forget:
        return Move(log, None, base)
    return _set_aside_before(log, uri, base)


def _set_aside_before(log: str, uri: str, base: Path) -> Move | None:
    """Return the rewrite of a folder that this source read before it read another one.

    The query that read the other folder meanwhile has forgotten the files of this one,
    and so named them under `.sparkstream-former` there.

    Examples:
        >>> uri = "file:///b/.sparkstream-former/a/day=1"
        >>> _set_aside_before("0", uri, Path("/a"))
        Move(log='0', old=PosixPath('/b/.sparkstream-former/a'), new=PosixPath('/a'))
    """
    folder = _path(uri)
    other_folder = str(folder).partition(f"/{_FORMER}/")[0]
    former_folder = Path(f"{other_folder}/{_FORMER}{base}")
    if folder.is_relative_to(former_folder):
        return Move(log, former_folder, base)
    return None


def _moved_by_user(
    log: str, uri: str, base: Path, moved_folders: Mapping[Path, Path]
) -> Move | None:
    """Return the rewrite of a folder that the user has moved to one below the source's folder."""
    if not uri.startswith("file:"):
        return None
    folder = _path(uri)
    for old, new in moved_folders.items():
        if not folder.is_relative_to(old):
            continue
        moved = new / folder.relative_to(old)
        if moved.is_relative_to(base):
            return Move(log, old, new)
    return None


def _reached_by_links(log: str, uri: str, base: Path) -> Move | None:
    """Return the rewrite of a folder that is below the source's folder by symbolic links."""
    if not uri.startswith("file:"):
        return None
    folder = _path(uri)
    real = Path(os.path.realpath(folder))
    real_base = Path(os.path.realpath(base))
    if not folder.is_dir() or not real.is_relative_to(real_base):
        return None
    # As many levels above the folder as it is below the source's folder
    levels = len(real.relative_to(real_base).parts)
    above = (folder, *folder.parents)
    return Move(log, above[levels], base)


def _refusal(
    root: Path, name: str, folder: Path, bases: Mapping[str, Path], reread_hint: str
) -> str:
    """Return the message that refuses a query, a source of which reads another folder than before.

    Args:
        root: the checkpoint.
        name: the name of the source's log.
        folder: the folder in the log.
        bases: the folder of each file source of the query.
        reread_hint: how to read everything again.
    """
    current_base = bases.get(name)
    former = _former_base(folder, current_base)
    finding = (
        f"checkpoint {root}: source {name} of the query that wrote it has read files of"
        f" {former}"
    )
    for other, base in bases.items():
        if other != name and former.is_relative_to(base):
            return (
                f"{finding}, which is source {other} of this query; put the sources back"
                " in their order, or give it a checkpoint of its own"
            )
    if current_base is None:
        return (
            f"{finding}, and this query reads no files there; to read everything again:"
            f" {reread_hint}"
        )
    moved = f"start(…, moved={{{str(former)!r}: {str(current_base)!r}}})"
    return (
        f"{finding}, and this query reads {current_base} there; if the files have moved: {moved};"
        f" to read everything again: {reread_hint}"
    )


def _former_base(folder: Path, current_base: Path | None) -> Path:
    """Return the folder that a source has read, as far as one in its log shows it.

    That is the one above the partition folders, or above the folders that a pattern
    matched: they have the same names below the folder that the source reads now.

    Args:
        folder: the folder in the log.
        current_base: the folder that the source reads now; None if it reads no files.

    Examples:
        >>> _former_base(Path("/in/sales/day=1/hour=2"), None)
        PosixPath('/in/sales')
    """
    if current_base is not None:
        for parent in folder.parents:
            if (current_base / folder.relative_to(parent)).is_dir():
                return parent
    without_partitions = re.sub("(/[^/=]*=[^/]*)+$", "", str(folder))
    return Path(without_partitions)


def _absolute(spark: SparkSession, path: str) -> Path:
    """Return a path in Spark's absolute form; for another file system, the part after the host."""
    folder = locate(spark, path).folder
    if folder is None:
        folder = Path(in_its_file_system(spark, path))
    return folder


def _base(spark: SparkSession, path: str) -> Path:
    """Return the folder that a source reads; for a pattern, that before its first wildcard."""
    spelt = _absolute(spark, re.sub(r"\\(.)", r"\1", path))
    if spelt.is_dir():
        return spelt
    before_wildcard: list[str] = []
    for part in _absolute(spark, path).parts:
        if re.search(r"[*?\[{]", part):
            break
        before_wildcard.append(part)
    return Path(*before_wildcard)
