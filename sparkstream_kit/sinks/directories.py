"""Files in one directory a batch, put in place whole and replaced whole."""

from __future__ import annotations

import os
import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _dry_run, _files
from sparkstream_kit._arguments import check
from sparkstream_kit._spark.batch import id_in_checkpoint, id_of_batch
from sparkstream_kit._spark.files import Location, locate, refuse_elsewhere, refuse_many_disks
from sparkstream_kit._spark.folders import folder
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import FILE_FORMATS, MODES, Sink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.folders import Folder

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

    The folder is on a local path or on hdfs://: only there is a rename atomic. On a cluster a local path is
    one that all nodes share, and is given as `file:///…`. The folder belongs to one query, whose id is in its
    file `_sparkstream_query`. A batch before the last one comes only from a checkpoint that was rewound or
    restored: Spark may then split the input differently, and the query fails until the later directories have
    been removed. It also fails when the last directory or all of them have gone: the message says how to
    write them again, or to go on without them. Older directories may go.

    Delivery: exactly once from replayable sources, for every reader.

    Args:
        path: the folder; it is made when it is missing.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        **options: further options of Spark's writer, by Spark's own names.

    Raises:
        InvalidInputError: an unknown format, or a path that is neither local nor hdfs://; when the query
            starts, a folder with rows that this query has not written, on a Spark Connect server
            elsewhere, or of each node of a cluster, or a column `batch`.

    Example:
        >>> batch_files("s3a://bucket/rows")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: batch_files s3a://bucket/rows: only a local path and ...
    """
    check(batch_files, locals())
    reject_unknown("file format", [format], FILE_FORMATS)
    plain, text = _files.plain(str(path)), str(path)
    if plain is None and not text.startswith("hdfs:"):
        raise _without_rename(text)
    here = None if plain is None else Path(plain).absolute()

    def open_folder(frame: DataFrame, location: Location | None) -> Write:
        spark = frame.sparkSession
        if plain is not None:
            refuse_elsewhere(spark, f"batch_files {path}", "sinks.files")
            refuse_many_disks(spark, "batch_files", text)
        if "batch" in (name.lower() for name in frame.columns):
            raise InvalidInputError("batch_files: column batch has the name of the directories; rename it")
        place = Location(text, here if locate(spark, text).folder is not None else None)
        there = folder(spark, place)
        if not there.renames_in_one_step:
            raise _without_rename(text)
        if location is not None:
            _refuse_another_query(there, there.names(), id_in_checkpoint(spark, location))
        if _dry_run.making():
            there.make()  # a second stream may start on it before the first batch
        else:
            _dry_run.would_make(text)
        return partial(_write, place, format, options, location)

    return Sink(
        kind="batch_files",
        modes=MODES,
        promise="exactly once",
        after_rewind="keeps a batch that comes with the same rows once; others it refuses, and says which "
        "directories to remove first; a folder restored from a backup of that moment goes on exactly once",
        needs_checkpoint=True,
        writes_to=(f"folder {text.rstrip('/') if here is None else os.path.realpath(here)}",),
        open=open_folder,
    )


def _without_rename(path: str) -> InvalidInputError:
    return InvalidInputError(
        f"batch_files {path}: only a local path and hdfs:// have a rename that is atomic; use sinks.files, "
        "read through Spark"
    )


def _refuse_another_query(there: Folder, names: Iterable[str], query: str | None) -> None:
    text = there.read(_MARKER)
    owner = None if text is None else text.strip()
    if owner is None:
        if not any(_is_somebodys(there, name) for name in names):
            return
        whose = "has files that no query of the kit has written"
    elif owner == query:
        return
    else:
        whose = f"was written by another query ({owner or 'unknown'}); start on that query's checkpoint"
    raise InvalidInputError(f"batch_files: folder {there} {whose}, use another folder, or remove this one")


def _is_somebodys(there: Folder, name: str) -> bool:
    """Say whether this may be somebody's rows: not the rest of a crash, and not an empty directory."""
    return not name.startswith((".", "_")) and not there.is_empty_folder(name)


def _write(
    place: Location,
    file_format: str,
    options: dict[str, Any],
    location: Location | None,
    batch: DataFrame,
    batch_id: int,
) -> None:
    query = id_of_batch(batch, location)
    there = folder(batch.sparkSession, place)
    there.make()
    names = set(there.names())  # looked at once: there are as many as batches
    _refuse_another_query(there, names, query)
    _refuse_another_batch(there, names, location.text if location else "CHECKPOINT", batch_id)
    if _MARKER not in names:
        there.write(_MARKER, query + "\n")
    for name in names:
        if name.startswith(".batch="):  # left by a crash
            there.remove(name)
    target = f"batch={batch_id:06}"
    hidden, old = f".{target}", f".{target}.old"
    batch.write.format(file_format).options(**options).save(f"{there.text}/{hidden}")
    for file in there.names(hidden):
        named = _OF_ONE_WRITE.sub("", file)
        if named != file:
            there.rename(f"{hidden}/{file}", f"{hidden}/{named}")
        if target in names:  # a stream that has read it is not told that it has changed
            there.keep_time(f"{target}/{named}", f"{hidden}/{named}")
    if target in names:
        there.rename(target, old)
    there.rename(hidden, target)
    if target in names:
        there.remove(old)


def _refuse_another_batch(there: Folder, names: Iterable[str], checkpoint: str, batch_id: int) -> None:
    """Refuse a batch that is neither the last one nor the one after it."""
    numbers = (name.removeprefix("batch=") for name in names if name.startswith("batch="))
    last = max((int(number) for number in numbers if number.isdecimal()), default=-1)
    if batch_id < last:
        raise InvalidInputError(
            f"batch {batch_id} comes again, but {there} has all batches up to {last}: the checkpoint was "
            f"rewound or restored; to write them again, remove the directories from batch={batch_id:06} on"
        )
    if batch_id > last + 1:
        has = "no directory of a batch" if last < 0 else f"the directories up to batch={last:06} only"
        rewind = f"sparkstream checkpoint rewind {shlex.quote(checkpoint)} --to {last}"
        back = f"put the missing ones back, or run {rewind}" if last >= 0 else "put them back"
        make = "mkdir" if there.text.startswith("file:") else "hdfs dfs -mkdir"
        left_out = shlex.quote(f"{there}/batch={batch_id - 1:06}")
        raise InvalidInputError(
            f"batch {batch_id} comes, but {there} has {has}; {back}; to go on without their rows, run "
            f"{make} {left_out}"
        )
