"""Thin: Spark's own sinks: console, memory and files.

`console`, `memory` and `files` configure Spark's built-in sinks; users find them in
`sparkstream_kit.sinks`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark.place import (
    locate,
    reached,
    refuse_many_disks,
    session_of_writer,
)
from sparkstream_kit.errors import InvalidInputError, printable
from sparkstream_kit.sinks import base
from sparkstream_kit.sinks.base import MODES, Sink, SparkSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.formats import Format


AFTER_REWIND = (
    "writes a replayed batch with the same rows once; it refuses others, as Spark would"
    " skip them by their number: start anew with another folder and another checkpoint"
)


def console(*, rows: int = 20, truncate: bool = False) -> Sink:
    """Print each batch to the driver's standard output, as Spark's console sink does.

    On Spark Connect, Spark's own sink would print on the server; with this one, `run`
    prints on the client.

    Delivery: at least once; a batch that is replayed is printed again.

    Args:
        rows: the most rows to print of each batch, at least 1.
        truncate: cut values at 20 characters, as Spark's own sink does unless told
            otherwise.

    Raises:
        InvalidInputError: `rows` is less than 1.

    Examples:
        >>> console().modes
        ('append', 'complete', 'update')
    """
    check(console, locals())
    if rows < 1:
        raise InvalidInputError(f"console(): rows is {rows}; give 1 or more")
    print_batch = partial(_print, rows, truncate)
    return SparkSink(
        kind="console",
        modes=MODES,
        promise="at least once",
        after_rewind="prints replayed batches again",
        configure=lambda writer: writer.format("console").options(
            numRows=rows, truncate=truncate
        ),
        on_connect=print_batch,
    )


def _print(rows: int, truncate: bool, batch: DataFrame, batch_id: int) -> None:
    """Print a batch in the format of Spark's own console sink."""
    line = "-" * 43
    print(f"{line}\nBatch: {batch_id}\n{line}")  # noqa: T201 - what a console is for
    # Collect all rows first, as Spark's console does: `show` reads only some of them,
    # and a stateful query fails if its batch is only partly read.
    from sparkstream_kit.sinks.cells import cells  # when the first batch is printed

    texts = [_printable(row) for row in cells(batch)]
    schema = T.StructType(
        [T.StructField(printable(name), T.StringType()) for name in batch.columns]
    )
    batch.sparkSession.createDataFrame(texts, schema).show(rows, truncate)


def _printable(row: Sequence[str | None]) -> list[str | None]:
    """Return the texts of a row without characters that a terminal acts on."""
    return [cell and printable(cell) for cell in row]


def memory(table: str) -> Sink:
    """Keep all rows in the driver's memory as the table `table`, for trying things out.

    In output mode `append` the table holds all rows so far, in mode `complete` the last
    result; mode `update` is not supported. Spark names the table after the query, so
    this sink sets the query's name to `table`. After a restart the table is empty
    again, and in mode `append` Spark refuses a checkpoint that was used; use `latest`
    to keep the result.

    Delivery: none over a restart.

    Args:
        table: the name to use in SQL, and the query's name.

    Examples:
        >>> memory("counts").query_name
        'counts'
    """
    check(memory, locals())
    return SparkSink(
        kind="memory",
        modes=("append", "complete"),
        promise="none over a restart",
        advice="use sinks.foreach_batch for update mode",
        query_name=table,
        writes_to=(base.Target("memory", table),),
        configure=lambda writer: writer.format("memory").queryName(table),
    )


def files(
    path: str | Path,
    *,
    format: str = "parquet",  # noqa: A002 - Spark's own word
    partition_by: Sequence[str] = (),
    **options: Any,
) -> Sink:
    """Append rows to a folder of files.

    A value that the format would change fails its batch, as docs/files.md lists. Only
    `start` checks values and columns: without it Spark writes what it can.

    Delivery: exactly once from replayable sources, for readers that use Spark, which
    honours the folder's log `_spark_metadata`. A program that reads the `part-*` files
    directly can count rows twice after a crash.

    The folder belongs to one query and one checkpoint: Spark silently skips every batch
    whose number is in `_spark_metadata`, whichever query wrote it. On a local path and
    on hdfs:// the file `_sparkstream_query` in the folder records the id of the query
    that owns it.

    Args:
        path: the folder; Spark creates it if it is missing.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        partition_by: the columns whose values become folder names, as in `country=DE`.
            A column of bytes, a nested one, and a TIMESTAMP in a session whose time
            zone is not UTC are refused.
        **options: further options of Spark's writer, by Spark's own names. Unless they
            say otherwise, CSV and JSON have timestamps with six digits of a second, and
            JSON has null fields.

    Raises:
        InvalidInputError: the format is unknown, or an option makes rows unreadable;
            when the query starts, the format cannot hold a column (CSV of one column
            that can be NULL is one), the folder has files that this query has not
            written, its batches do not match the checkpoint, or it is a local path on a
            cluster, where each node would write to a disk of its own.

    Examples:
        >>> files("out", format="parqet")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown file format parqet; did you mean parquet?
    """
    check(files, locals())
    form = _formats().of(files, format, options, path)

    def check_folder(frame: DataFrame, location: Place | None) -> None:
        spark = frame.sparkSession
        form.check("files", frame, partition_by)
        refuse_many_disks(spark, "files", str(path))
        if location is not None:
            with reached("files: folder", str(path)):
                _folders().check_log(
                    f"files: folder {path}", locate(spark, path), location
                )

    def configure(writer: DataStreamWriter) -> DataStreamWriter:
        folder = locate(session_of_writer(writer), path)
        return (
            writer.format(form.kind)
            .option("path", folder.text)
            .options(**form.options)
            .partitionBy(*partition_by)
        )

    return SparkSink(
        kind="files",
        modes=("append",),
        promise="exactly once, read through Spark",
        after_rewind=AFTER_REWIND,
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        writes_to=(base.Target("folder", str(path), str(path)),),
        configure=configure,
        read=lambda spark, schema, _: _readback().of_files(
            spark, path, form, schema, partition_by
        ),
        form=base.Form(
            partial(_as_written, form, partition_by),
            "json" if form.kind == "json" else "csv",
        ),
        check=check_folder,
        checked=partial(_checked, form, partition_by),
        claim=reached("files: folder", str(path))(
            lambda spark, checkpoint: _folders().claim(locate(spark, path), checkpoint)
        ),
    )


def _formats() -> ModuleType:
    """Return the module of the file formats, which only sinks of files need."""
    from sparkstream_kit.sinks import formats

    return formats


def _checked(form: Format, partition_by: Sequence[str], frame: DataFrame) -> DataFrame:
    """Return the frame with a check of the values that the files would change."""
    in_session = form.in_session(frame.sparkSession)
    return in_session.guarded("files", frame, partition_by)


def _as_written(
    form: Format, partition_by: Sequence[str], frame: DataFrame, folder: str
) -> DataFrame:
    """Write rows to a folder as `files` does, and read them back."""
    readback = _readback()
    readback.keep_files(frame, folder, form, partition_by)
    rows: DataFrame = readback.of_files(
        frame.sparkSession, folder, form, frame.schema, partition_by
    )
    return rows


def _readback() -> ModuleType:
    """Return the module that reads rows back, which only a comparison needs."""
    from sparkstream_kit.sinks import readback

    return readback


def _folders() -> ModuleType:
    """Return the module of the guard, which only a start needs."""
    from sparkstream_kit.sinks import folders

    return folders
