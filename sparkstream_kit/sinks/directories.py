"""Files in one directory a batch, put in place whole and replaced whole."""

from __future__ import annotations

import filecmp
import os
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._spark.batch import id_in_checkpoint, id_of_batch
from sparkstream_kit._spark.files import refuse_elsewhere
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import FILE_FORMATS, MODES, Sink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.files import Location

__all__ = ["batch_files"]

# A part of Spark's file names that differs with each write. Without it a batch that comes again has the names
# that it had, and a stream that reads the folder knows them.
_OF_ONE_WRITE = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MARKER = "_sparkstream_query"  # readers skip what begins with _ or . (but _name=value only with a dot)


def batch_files(path: str | Path, *, format: str = "parquet", **options: Any) -> Sink:  # noqa: A002 - Spark's own word
    """Write each batch to a directory of its own: `batch=000000`, `batch=000001`, ….

    A directory appears whole, by a rename; one that comes again after a crash replaces the first. Any
    reader counts each row once, also one that does not go through Spark, and `spark.read` shows the batch's
    number as the column `batch`. In update and complete mode a directory holds what its batch gave.

    A second stream may read the folder. It reads a batch that comes again only once if the batch is one file:
    `batch_files(…).taking(lambda batch: batch.coalesce(1))`.

    The folder is on a local path, for only there is a rename atomic; on a cluster all nodes must share it. It
    belongs to one query, whose id is in its file `_sparkstream_query`. A batch before the last one comes
    only from a checkpoint that was rewound or restored: Spark may then split the input differently, and
    the query fails until the later directories have been removed. It also fails when the last directory or
    all of them have gone: the message says how to write them again, or to go on without
    them. Older directories may go.

    Delivery: exactly once from replayable sources, for every reader.

    Args:
        path: the folder; it is made when it is missing.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        **options: further options of Spark's writer, by Spark's own names.

    Raises:
        InvalidInputError: an unknown format, or a path that is not local; when the query starts, a folder
            with rows that this query has not written, or on a Spark Connect server elsewhere, or a column
            `batch`.

    Example:
        >>> batch_files("s3a://bucket/rows")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: batch_files s3a://bucket/rows: only a local path has a ...
    """
    check(batch_files, locals())
    reject_unknown("file format", [format], FILE_FORMATS)
    plain = _files.plain(str(path))
    if plain is None:
        raise InvalidInputError(
            f"batch_files {path}: only a local path has a rename that is atomic; use sinks.files, "
            "read through Spark"
        )
    folder = Path(plain).absolute()

    def open_folder(frame: DataFrame, location: Location | None) -> Write:
        spark = frame.sparkSession
        refuse_elsewhere(spark, f"batch_files {path}", "sinks.files")
        if "batch" in (name.lower() for name in frame.columns):
            raise InvalidInputError("batch_files: column batch has the name of the directories; rename it")
        if location is not None:
            _refuse_another_query(folder, id_in_checkpoint(spark, location))
        return partial(_write, folder, format, options, location)

    return Sink(
        kind="batch_files",
        modes=MODES,
        promise="exactly once",
        after_rewind="keeps a batch that comes with the same rows once; others it refuses, and says which "
        "directories to remove first; a folder restored from a backup of that moment goes on exactly once",
        needs_checkpoint=True,
        writes_to=(f"folder {os.path.realpath(folder)}",),
        open=open_folder,
    )


def _refuse_another_query(folder: Path, query: str | None) -> None:
    marker = folder / _MARKER
    owner = marker.read_text("utf-8").strip() if marker.exists() else None
    if owner is not None and owner == query:
        return
    if owner is not None:
        whose = f"was written by another query ({owner}); start on that query's checkpoint"
    elif folder.is_dir() and any(_is_somebodys(path) for path in folder.iterdir()):
        whose = "has files that no query of the kit has written"
    else:
        return
    raise InvalidInputError(f"batch_files: folder {folder} {whose}, use another folder, or remove this one")


def _is_somebodys(path: Path) -> bool:
    """Say whether this may be somebody's rows: not the rest of a crash, and not an empty directory."""
    return not path.name.startswith((".", "_")) and not (path.is_dir() and not any(path.iterdir()))


def _write(
    folder: Path,
    file_format: str,
    options: dict[str, Any],
    location: Location | None,
    batch: DataFrame,
    batch_id: int,
) -> None:
    query = id_of_batch(batch, location)
    _refuse_another_query(folder, query)
    folder.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in folder.iterdir()}  # looked at once: there are as many as batches
    _refuse_another_batch(folder, names, location.text if location else "CHECKPOINT", batch_id)
    if _MARKER not in names:
        _files.replace(folder / _MARKER, [query + "\n"])
    for name in names:
        if name.startswith(".batch="):  # left by a crash
            shutil.rmtree(folder / name)
    target = folder / f"batch={batch_id:06}"
    hidden, old = folder / f".{target.name}", folder / f".{target.name}.old"
    batch.write.format(file_format).options(**options).save(f"file://{hidden}")
    for file in list(hidden.iterdir()):
        named = file.rename(file.with_name(_OF_ONE_WRITE.sub("", file.name)))
        former = target / named.name
        if former.exists() and filecmp.cmp(former, named, shallow=False):
            shutil.copystat(former, named)  # a stream that has read it is not told that it has changed
    if target.exists():
        target.rename(old)
    hidden.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_another_batch(folder: Path, names: Iterable[str], checkpoint: str, batch_id: int) -> None:
    """Refuse a batch that is neither the last one nor the one after it."""
    there = (name.removeprefix("batch=") for name in names if name.startswith("batch="))
    last = max((int(number) for number in there if number.isdecimal()), default=-1)
    if batch_id < last:
        raise InvalidInputError(
            f"batch {batch_id} comes again, but {folder} has all batches up to {last}: the checkpoint was "
            f"rewound or restored; to write them again, remove the directories from batch={batch_id:06} on"
        )
    if batch_id > last + 1:
        has = "no directory of a batch" if last < 0 else f"the directories up to batch={last:06} only"
        rewind = f"sparkstream checkpoint rewind {shlex.quote(checkpoint)} --to {last}"
        back = f"put the missing ones back, or run {rewind}" if last >= 0 else "put them back"
        left_out = shlex.quote(str(folder / f"batch={batch_id - 1:06}"))
        raise InvalidInputError(
            f"batch {batch_id} comes, but {folder} has {has}; {back}; to go on without their rows, run "
            f"mkdir {left_out}"
        )
