"""Spark's own sinks: console, memory, files and tables of the catalog."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit import _connect
from sparkstream_kit._arguments import check
from sparkstream_kit.errors import reject_unknown
from sparkstream_kit.sinks import file_log, texts
from sparkstream_kit.sinks.base import MODES, Sink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

__all__ = ["console", "files", "memory", "table"]

_FILE_FORMATS = ("csv", "json", "orc", "parquet", "text")


def console(*, rows: int = 20, truncate: bool = False) -> Sink:
    """Print each batch to the driver's standard output, as Spark does.

    On Spark Connect, where Spark's own would print at the server, `run` prints it here.

    Delivery: at least once; a batch that is replayed is printed again.

    Args:
        rows: how many rows of a batch to print.
        truncate: cut values at 20 characters, as Spark does by default.

    Example:
        >>> console().modes
        ('append', 'complete', 'update')
    """
    check(console, locals())
    made = Sink(
        kind="console",
        modes=MODES,
        delivery="at least once",
        configure=lambda writer: (
            writer.format("console").option("numRows", rows).option("truncate", truncate)
        ),
    )
    here = partial(_print, rows, truncate)
    return replace(
        made,
        binder=lambda frame, _: (
            replace(made, configure=None, write=here) if _connect.is_connect(frame.sparkSession) else made
        ),
    )


def _print(rows: int, truncate: bool, batch: DataFrame, batch_id: int) -> None:
    """Print a batch in the words of Spark's own console."""
    line = "-" * 43
    print(f"{line}\nBatch: {batch_id}\n{line}")  # noqa: T201 - what a console is for
    # All of it, as in Spark's console: `show` alone reads a part, and a stateful query then fails.
    cells = texts.cells(batch)
    shown = T.StructType([T.StructField(name, T.StringType()) for name in batch.columns])
    batch.sparkSession.createDataFrame(cells, shown).show(rows, truncate)


def memory(table: str) -> Sink:
    """Keep all rows in the driver's memory as the table `table`, for trying things out.

    The table has the query's name, so the sink sets that. It is empty again after a restart, also on the
    same checkpoint; `latest` is not.

    Delivery: none over a restart.

    Args:
        table: the name to use in SQL.

    Example:
        >>> memory("counts").query_name
        'counts'
    """
    check(memory, locals())
    return Sink(
        kind="memory",
        modes=("append", "complete"),
        delivery="none over a restart",
        advice="use sinks.foreach_batch for update mode",
        query_name=table,
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

    Delivery: exactly once from replayable sources, for readers that go through Spark: it honours the
    folder's `_spark_metadata`. Reading `part-*` as plain files can count rows twice after a crash.

    The folder belongs to one query and one checkpoint: Spark skips each batch whose number stands in
    `_spark_metadata`, whichever query wrote it, and does not say so.

    Args:
        path: the folder.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        partition_by: columns that become folders.
        **options: further options of Spark's writer, by Spark's own names.

    Raises:
        InvalidInputError: an unknown format; when the query starts, a folder with files that this query has
            not written, or whose batches are not those of the checkpoint.

    Example:
        >>> files("out", format="parqet")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown file format parqet; did you mean parquet?
    """
    check(files, locals())
    reject_unknown("file format", [format], _FILE_FORMATS)

    def bind(frame: DataFrame, checkpoint: str | None) -> Sink:
        there = _connect.server_path(frame.sparkSession, str(path))
        if checkpoint is not None:
            file_log.check(frame.sparkSession, f"files: folder {path}", there, checkpoint)
        return files(there, format=format, partition_by=partition_by, **options)

    return Sink(
        kind="files",
        modes=("append",),
        delivery="exactly once, read through Spark",
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        configure=lambda writer: (
            writer.format(format).option("path", str(path)).options(**options).partitionBy(*partition_by)
        ),
        binder=bind,
    )


def table(name: str, *, format: str = "parquet", partition_by: Sequence[str] = (), **options: Any) -> Sink:  # noqa: A002 - Spark's own word
    """Append rows to a table of the catalog, which is made when it is missing.

    Without the kit: `sinks.table("t")(df.writeStream).toTable("t")`.

    Delivery: exactly once from replayable sources when read through Spark, for file formats; the format's
    own promise for others.

    A table of files belongs to one query and one checkpoint, as the folder of `sinks.files` does: rows that
    were in it before would no longer be shown.

    Args:
        name: the table, as `table` or `schema.table`.
        format: the format of a new table.
        partition_by: partition columns of a new table.
        **options: further options of the format, by its own names.

    Raises:
        InvalidInputError: when the query starts, a table of files with rows that this query has not written,
            or whose batches are not those of the checkpoint; a format that this Spark does not have.
    """
    check(table, locals())

    def bind(frame: DataFrame, checkpoint: str | None) -> Sink:
        spark = frame.sparkSession
        folder = _folder_of_files(spark, name) if spark.catalog.tableExists(name) else options.get("path")
        if folder is not None and checkpoint is not None and format in _FILE_FORMATS:
            file_log.check(spark, f"table {name}: folder {folder}", folder, checkpoint)
        return made

    made = Sink(
        kind="table",
        modes=("append",) if format in _FILE_FORMATS else ("append", "complete"),
        delivery="exactly once, read through Spark" if format in _FILE_FORMATS else f"that of {format}",
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        to_table=name,
        configure=lambda writer: writer.format(format).options(**options).partitionBy(*partition_by),
        binder=bind,
    )
    return made


def _folder_of_files(spark: SparkSession, name: str) -> str | None:
    """Return the folder of a table whose rows are files that Spark itself writes; None for another table."""
    said = {row.col_name: row.data_type for row in spark.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()}
    return said.get("Location") if str(said.get("Provider")).lower() in _FILE_FORMATS else None
