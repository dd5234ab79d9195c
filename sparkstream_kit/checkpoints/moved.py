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
    from sparkstream_kit.checkpoints.logs import Logs


_log = logging.getLogger(__name__)

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
    again: str = "start(…, allow_changed_query=True)",
) -> list[Move]:
    """Compare the folders that a checkpoint's file sources have read with those that a query reads.

    Args:
        spark: the session, which resolves a path without a scheme.
        logs: the logs of the checkpoint.
        bases: the folder of each file source of the query, by the name of the source's
            log.
        moved: the folders that have moved, as {old: new}, as the user gave them.
        forget: if a source reads another folder, read that folder from its beginning.
        again: how to read everything again, for the message.

    Returns:
        The logs to rewrite: for folders that have moved, for folders that are now
        reached by another path, such as a symbolic link, and for files to forget.

    Raises:
        InvalidInputError: a source has read another folder, and `moved` does not have
            it; or a folder is to be forgotten while a batch is not committed.
    """
    wanted = {
        _absolute(spark, str(old)): _absolute(spark, str(new))
        for old, new in moved.items()
    }
    gone = {old for old in wanted if not os.path.exists(old)}  # noqa: PTH110 - not allowed to look: no
    found: dict[tuple[str, Path | None], Move] = {}
    for log, until in logs.until_planned.items():
        base = bases.get(log)
        for uri in sorted(logs.folders(log, until)):
            folder = Path(unquote(urlsplit(uri).path))
            inside = base is not None and folder.is_relative_to(base)
            move = (
                None if inside and not gone else _move(log, uri, folder, base, wanted)
            )
            if inside and (move is None or move.old not in gone):
                continue
            # Where a query that read another folder meanwhile has put the files of this
            # one aside.
            aside = Path(f"{str(folder).partition(f'/{_FORMER}/')[0]}/{_FORMER}{base}")
            if move is None and forget and base is not None:
                move = Move(log, None, base)
                _check_committed(logs, folder)
            elif move is None and base is not None and folder.is_relative_to(aside):
                move = Move(log, aside, base)
            if move is None:
                raise InvalidInputError(_refusal(logs.root, log, folder, bases, again))
            found[log, move.old] = move
    # Forget last: such a move renames every file outside the new folder, and by then
    # only those remain.
    return sorted(found.values(), key=lambda move: move.old is None)


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
        found = ((each, renamed(each.uri, move)) for each in logs.read(log_file, file))
        # Spark reads no file that is much older than the newest one in its log: a
        # forgotten file has time 0, and gets its own back.
        changed = (
            (e, u, 0 if move.old is None else _modified(u) or e.time) for e, u in found
        )
        named = (
            e if u == e.uri else e._replace(uri=u, time=time) for e, u, time in changed
        )
        logs.replace(file, log_text(named))


def _modified(uri: str) -> int:
    """Return a file's modification time as Spark notes it, in milliseconds; 0 if it has gone."""
    file = Path(unquote(urlsplit(uri).path))
    return file.stat().st_mtime_ns // 1_000_000 if file.exists() else 0


def renamed(uri: str, move: Move) -> str:
    """Return the URI of a logged file after a move; one that did not move keeps its URI.

    A forgotten file gets a path in a folder `.sparkstream-former` that no new file can
    have.
    """
    path = urlsplit(uri).path if uri.startswith("file:") else ""
    new = _IN_URIS.sub(
        lambda found: quote(found[0], safe=""), str(move.new).rstrip("/")
    )
    if move.old is None and not Path(unquote(path)).is_relative_to(move.new):
        # The new path must be below the folder, as Spark fails at paths elsewhere.
        return f"file://{new}/{_FORMER}{path}"
    if move.old is not None and Path(unquote(path)).is_relative_to(move.old):
        return "/".join([f"file://{new}", *path.split("/")[len(move.old.parts) :]])
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


def _move(
    log: str, uri: str, folder: Path, base: Path | None, wanted: Mapping[Path, Path]
) -> Move | None:
    """Return the rewrite of a folder in a log that brings its files under the source's folder.

    Args:
        log: the name of the source's log.
        uri: the URI of the folder in the log.
        folder: the path in that URI.
        base: the folder that the source reads now, or None if it does not read files.
        wanted: the folders that have moved, as {old: new}.

    Returns:
        The rewrite; None if the files are not under `base`, neither moved nor through
        symbolic links.
    """
    if base is None or not uri.startswith("file:"):
        return None
    for old, new in wanted.items():
        if folder.is_relative_to(old) and (
            new / folder.relative_to(old)
        ).is_relative_to(base):
            return Move(log, old, new)
    real = Path(os.path.realpath(folder))
    real_base = Path(os.path.realpath(base))
    if not folder.is_dir() or not real.is_relative_to(real_base):
        return None
    below = len(real.relative_to(real_base).parts)
    return Move(log, folder.parents[below - 1] if below else folder, base)


def _refusal(
    root: Path, name: str, folder: Path, bases: Mapping[str, Path], again: str
) -> str:
    here = bases.get(name)
    # Of a pattern, or of partition folders, the folder has the same name below the new
    # one.
    below = (
        each
        for each in folder.parents
        if here and (here / folder.relative_to(each)).is_dir()
    )
    folder = next(below, Path(re.sub("(/[^/=]*=[^/]*)+$", "", str(folder))))
    read = (
        f"checkpoint {root}: source {name} of the query that wrote it has read files of"
        f" {folder}"
    )
    if others := [
        at for at, base in bases.items() if at != name and folder.is_relative_to(base)
    ]:
        return (
            f"{read}, which is source {others[0]} of this query; put the sources back"
            " in their order, or give it a checkpoint of its own"
        )
    out = (
        f"if the files have moved: start(…, moved={{{str(folder)!r}: {str(here)!r}}}); "
        if here
        else ""
    )
    return (
        f"{read}, and this query reads {here or 'no files'} there; {out}to read"
        f" everything again: {again}"
    )


def _absolute(spark: SparkSession, path: str) -> Path:
    """Return a path in Spark's absolute form; for another file system, the part after the host."""
    return locate(spark, path).folder or Path(in_its_file_system(spark, path))


def _base(spark: SparkSession, path: str) -> Path:
    """Return the folder that a source reads; for a pattern, that before its first wildcard."""
    spelt = _absolute(spark, re.sub(r"\\(.)", r"\1", path))
    if spelt.is_dir():
        return spelt
    parts = _absolute(spark, path).parts
    wild = next(
        (at for at, part in enumerate(parts) if re.search(r"[*?\[{]", part)), len(parts)
    )
    return Path(*parts[:wild])
