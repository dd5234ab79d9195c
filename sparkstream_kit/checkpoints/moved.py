"""Where a query's files come from: the folders that its sources have read, against those that it reads now.

Spark numbers a query's sources and keeps what each has read under its number; it does not look at the path. A
folder that was renamed, or two sides of a union that changed places, would be read again from the start, and
every row would count twice.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from sparkstream_kit._spark.place import in_its_file_system, locate
from sparkstream_kit.checkpoints.logs import command, log_file, log_text
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyspark.sql import SparkSession

    from sparkstream_kit._spark.plan import Input
    from sparkstream_kit.checkpoints.logs import Logs


_log = logging.getLogger(__name__)

_FORMER = ".sparkstream-former"

# What Java's URI escapes in a path; Spark's log has paths in this form.
_IN_URIS = re.compile(r'[\x00-\x20"#%<>?\[\\\]^`{|}\x7f]')


class Move(NamedTuple):
    """A source whose log names its files under `old`; they lie under `new`.

    Without `old`, what has been read elsewhere is to be forgotten: all files under `new` are new ones.
    """

    log: str
    old: Path | None
    new: Path


def bases(spark: SparkSession, inputs: Iterable[Input]) -> dict[str, Path]:
    """Return the folder of each file source of a query, by the name of its log."""
    return {each.log: _base(spark, each.path) for each in inputs if each.path is not None}


def find_moves(
    spark: SparkSession,
    logs: Logs,
    bases: Mapping[str, Path],
    moved: Mapping[str | Path, str | Path],
    *,
    forget: bool = False,
) -> list[Move]:
    """Compare the folders that a checkpoint's file sources have read with those that a query reads.

    Args:
        spark: the session, which knows what a path without a scheme means.
        logs: of the checkpoint.
        bases: the folder of each file source of the query, by the name of its log.
        moved: what has moved where, by the user's word.
        forget: take another folder for a new one, and read it from the start.

    Returns:
        The logs to rewrite: for what has moved, for a folder that is now reached by another path, such as a
        symbolic link, and for what is to be forgotten.

    Raises:
        InvalidInputError: a source has read another folder, and `moved` does not say that it has moved; or a
            folder is to be forgotten of which a batch is not committed yet.
    """
    wanted = {_absolute(spark, str(old)): _absolute(spark, str(new)) for old, new in moved.items()}
    found: dict[tuple[str, Path | None], Move] = {}
    for log, until in logs.until_planned.items():
        base = bases.get(log)
        for uri in _folders(logs, log, until):
            folder = Path(unquote(urlsplit(uri).path))
            if base is not None and folder.is_relative_to(base):
                continue
            move = _move(log, uri, folder, base, wanted)
            if move is None and forget and base is not None:
                move = Move(log, None, base)
                _check_committed(logs, folder)
            if move is None:
                raise InvalidInputError(_refusal(logs.root, log, folder, bases))
            found[log, move.old] = move
    for old, new in wanted.items():
        done = any(new.is_relative_to(base) or base.is_relative_to(new) for base in bases.values())
        if not done and old not in {move.old for move in found.values()}:
            raise InvalidInputError(
                f"checkpoint {logs.root}: moved= says that {old} is {new} now, and the query reads neither; "
                "correct the paths, or leave it out"
            )
    # What is to be forgotten last: it is all that lies elsewhere by then.
    return sorted(found.values(), key=lambda move: move.old is None)


def rewrite(logs: Logs, move: Move) -> None:
    """Name the files of a source's log under their new folder; each file of the log is replaced whole.

    A crash between two of them is no harm: the next start finds the rest.
    """
    _log.info("checkpoint %s: files that source %s has read of %s are named under %s", logs.root, *move)
    for file in logs.entries(f"sources/{move.log}").values():
        named = (found._replace(uri=renamed(found.uri, move)) for found in logs.read(log_file, file))
        logs.replace(file, log_text(named))


def renamed(uri: str, move: Move) -> str:
    """Return the name of a file of a log after a move; that of a file elsewhere is as before."""
    path = urlsplit(uri).path if uri.startswith("file:") else ""
    base = f"file://{_escaped(str(move.new).rstrip('/'))}"
    if move.old is None and not Path(unquote(path)).is_relative_to(move.new):
        # A name under the folder, for Spark fails at others; and one that no new file will have.
        return f"{base}/{_FORMER}{path}"
    if move.old is not None and Path(unquote(path)).is_relative_to(move.old):
        return "/".join([base, *path.split("/")[len(move.old.parts) :]])
    return uri


def _escaped(path: str) -> str:
    return _IN_URIS.sub(lambda found: f"%{ord(found[0]):02X}", path)


def _check_committed(logs: Logs, folder: Path) -> None:
    """Refuse to forget files of a batch that would come again: without them."""
    last, done = logs.planned, logs.done
    if done < last:
        back = "start anew on another checkpoint"
        if done >= 0:
            back = f"rewind: {command('rewind', logs.root)} --to {done}"
        raise InvalidInputError(
            f"checkpoint {logs.root}: batch {last} was planned with files of {folder} and is not committed; "
            f"start the query once more on that folder, or {back}"
        )


def _folders(logs: Logs, log: str, until: int) -> list[str]:
    """Return the URIs of the folders in a log, each once: a pattern may have read several."""
    uris = {file.uri.rpartition("/")[0] for file in logs.inputs(log, until=until)}
    return sorted(uri for uri in uris if f"/{_FORMER}/" not in f"{uri}/")


def _move(log: str, uri: str, folder: Path, base: Path | None, wanted: Mapping[Path, Path]) -> Move | None:
    """Return how a log must be rewritten for its files to lie under the base; None if they do not."""
    if base is None or not uri.startswith("file:"):
        return None
    for old, new in wanted.items():
        if folder.is_relative_to(old) and (new / folder.relative_to(old)).is_relative_to(base):
            return Move(log, old, new)
    real, real_base = Path(os.path.realpath(folder)), Path(os.path.realpath(base))
    if not folder.is_dir() or not real.is_relative_to(real_base):
        return None
    below = len(real.relative_to(real_base).parts)
    return Move(log, folder.parents[below - 1] if below else folder, base)


def _refusal(root: Path, name: str, folder: Path, bases: Mapping[str, Path]) -> str:
    while "=" in folder.name:  # a partition folder, such as day=1
        folder = folder.parent
    has_read = f"checkpoint {root}: source {name} of the query that wrote it has read files of {folder}"
    here = bases.get(name)
    others = [at for at, base in bases.items() if at != name and folder.is_relative_to(base)]
    if others:
        return (
            f"{has_read}, which is source {others[0]} of this query; put the sources back in their order, or "
            "give it a checkpoint of its own"
        )
    new = here or "no files"
    out = f"if the files have moved: start(…, moved={{{str(folder)!r}: {str(here)!r}}}); " if here else ""
    return (
        f"{has_read}, and this query reads {new} there; {out}to read everything again: "
        "start(…, allow_changed_query=True)"
    )


def _absolute(spark: SparkSession, path: str) -> Path:
    """Return a path as Spark would spell it; of another file system, the part after the host."""
    return locate(spark, path).folder or Path(in_its_file_system(spark, path))


def _base(spark: SparkSession, path: str) -> Path:
    """Return the folder that a source reads; of a pattern, the part before its first wildcard."""
    spelt = _absolute(spark, re.sub(r"\\(.)", r"\1", path))
    if spelt.is_dir():
        return spelt
    parts = _absolute(spark, path).parts
    wild = next((at for at, part in enumerate(parts) if re.search(r"[*?\[{]", part)), len(parts))
    return Path(*parts[:wild])
