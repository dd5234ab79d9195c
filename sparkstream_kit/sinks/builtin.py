"""Spark's own sinks: console, memory, files and tables of the catalog."""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import holds
from sparkstream_kit._spark.place import locate, path_of_writer, reached, refuse_many_disks
from sparkstream_kit._spark.session import prints_here
from sparkstream_kit.errors import InvalidInputError, printable, reject_unknown
from sparkstream_kit.sinks import directories
from sparkstream_kit.sinks.base import FILE_FORMATS, MODES, Sink, check_view

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._spark.place import Place


_UTC = ("UTC", "Etc/UTC", "GMT", "Z", "+00:00")

# Every value there and back: nulls as nulls, timestamps to the microsecond.
JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


def cells(frame: DataFrame) -> list[tuple[str | None, ...]]:
    """Return all rows as Spark's own texts: decimals in full, times in the session's time zone.

    In another zone than UTC a time has its offset: without, an hour that comes twice would be one.
    """
    plain = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))  # whatever is in their names
    in_utc = frame.sparkSession.conf.get("spark.sql.session.timeZone") in _UTC
    values = [
        F.col(field.name) if in_utc else _with_offset(F.col(field.name), field.dataType)
        for field in plain.schema.fields
    ]
    return [tuple(row) for row in plain.select([value.cast("string") for value in values]).collect()]


def _with_offset(value: Column, kind: T.DataType) -> Column:
    """Return a value with each timestamp in it as a text that ends with its offset, such as +01:00."""
    if isinstance(kind, T.TimestampType):
        return F.concat(value.cast("string"), F.date_format(value, "xxx"))
    if not holds(kind, T.TimestampType):
        return value
    if isinstance(kind, T.ArrayType):
        return F.transform(value, lambda one: _with_offset(one, kind.elementType))
    if isinstance(kind, T.MapType):
        keys = F.transform_keys(value, lambda key, _: _with_offset(key, kind.keyType))
        return F.transform_values(keys, lambda _, one: _with_offset(one, kind.valueType))
    parts = [
        _with_offset(value.getField(field.name), field.dataType).alias(field.name)
        for field in cast("T.StructType", kind).fields
    ]
    return F.when(value.isNotNull(), F.struct(*parts))


def as_csv(frame: DataFrame) -> str:
    """Return a header line and a line a row (RFC 4180, but with a plain line feed); null is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(cells(frame))
    return text.getvalue()


def as_json(frame: DataFrame) -> str:
    """Return one JSON array with an object a line; decimals are numbers, written in full.

    Spark escapes the older control characters, and `printable` the others, which JSON allows to be escaped.
    """
    objects = frame.select(F.to_json(F.struct("*"), JSON)).collect()
    return "[\n" + ",\n".join("  " + printable(row[0]) for row in objects) + "\n]\n" if objects else "[]\n"


_AFTER_REWIND = (
    "writes a replayed batch with the same rows once; it refuses others, as Spark would skip them by their "
    "number: start anew with another folder and another checkpoint"
)


def console(*, rows: int = 20, truncate: bool = False) -> Sink:
    """Print each batch to the driver's standard output, as Spark does.

    On Spark Connect, where Spark's own would print at the server, `run` prints it here.

    Delivery: at least once; a batch that is replayed is printed again.

    Args:
        rows: how many rows of a batch to print, from 1.
        truncate: cut values at 20 characters, as Spark does by default.

    Raises:
        InvalidInputError: `rows` is less than 1.

    Examples:
        >>> console().modes
        ('append', 'complete', 'update')
    """
    check(console, locals())
    if rows < 1:
        raise InvalidInputError(f"console(): rows is {rows}; give 1 or more")
    here = partial(_print, rows, truncate)
    return Sink(
        kind="console",
        modes=MODES,
        promise="at least once",
        after_rewind="prints replayed batches again",
        configure=lambda writer: (
            writer.format("console").option("numRows", rows).option("truncate", truncate)
        ),
        open=lambda frame, *_: None if prints_here(frame.sparkSession) else here,
    )


def _print(rows: int, truncate: bool, batch: DataFrame, batch_id: int) -> None:
    """Print a batch in the words of Spark's own console."""
    line = "-" * 43
    print(f"{line}\nBatch: {batch_id}\n{line}")  # noqa: T201 - what a console is for
    # All of it, as in Spark's console: `show` alone reads a part, and a stateful query then fails.
    texts = [[cell and printable(cell) for cell in row] for row in cells(batch)]
    shown = T.StructType([T.StructField(printable(name), T.StringType()) for name in batch.columns])
    batch.sparkSession.createDataFrame(texts, shown).show(rows, truncate)


def memory(table: str) -> Sink:
    """Keep all rows in the driver's memory as the table `table`, for trying things out.

    In mode `append` it has all rows so far, in mode `complete` the last result; mode `update` it has not. The
    table has the query's name, so the sink sets that. It is empty again after a restart, also on the same
    checkpoint; `latest` is not.

    Delivery: none over a restart.

    Args:
        table: the name to use in SQL.

    Raises:
        InvalidInputError: the name is empty, or has a dot in it.

    Examples:
        >>> memory("counts").query_name
        'counts'
    """
    check(memory, locals())
    check_view("memory", table)
    return Sink(
        kind="memory",
        modes=("append", "complete"),
        promise="none over a restart",
        advice="use sinks.foreach_batch for update mode",
        query_name=table,
        writes_to=(f"memory {table}",),
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
    `_spark_metadata`, whichever query wrote it, and does not say so. On a local path and on hdfs:// the
    folder's file `_sparkstream_query` says whose it is.

    Args:
        path: the folder.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        partition_by: columns that become folders.
        **options: further options of Spark's writer, by Spark's own names.

    Raises:
        InvalidInputError: an unknown format; when the query starts, a folder with files that this query has
            not written, whose batches are not those of the checkpoint, or of each node of a cluster.

    Examples:
        >>> files("out", format="parqet")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown file format parqet; did you mean parquet?
    """
    check(files, locals())
    reject_unknown("file format", [format], FILE_FORMATS)

    def open_folder(frame: DataFrame, location: Place | None, _: object) -> None:
        spark = frame.sparkSession
        refuse_many_disks(spark, "files", str(path))
        if location is not None:
            with reached("files: folder", str(path)):
                directories.check_log(spark, f"files: folder {path}", locate(spark, path), location)

    def configure(writer: DataStreamWriter) -> DataStreamWriter:
        there = path_of_writer(writer, str(path))
        return writer.format(format).option("path", there).options(**options).partitionBy(*partition_by)

    return Sink(
        kind="files",
        modes=("append",),
        promise="exactly once, read through Spark",
        after_rewind=_AFTER_REWIND,
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        writes_to=(f"folder {path}",),
        configure=configure,
        open=open_folder,
        claim=lambda spark, checkpoint: directories.claim(locate(spark, path), checkpoint),
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
        InvalidInputError: the name is empty; when the query starts, a table of files with rows that this
            query has not written, or whose batches are not those of the checkpoint; a format that this Spark
            does not have.

    Examples:
        In a session::

            start(sales, sinks.table("all_sales"), name="sales", checkpoint="ckpt")
    """
    check(table, locals())
    if not name.strip():
        raise InvalidInputError("sinks.table(): the name is empty; give a table, as table or schema.table")

    of_files = format in FILE_FORMATS

    def open_table(frame: DataFrame, location: Place | None, _: object) -> None:
        spark = frame.sparkSession
        if "path" in options:
            refuse_many_disks(spark, f"table {name}:", options["path"])
        folder = _folder_of_files(spark, name) if spark.catalog.tableExists(name) else options.get("path")
        if folder is not None and location is not None and of_files:
            with reached(f"table {name}: folder", folder):
                directories.check_log(
                    spark, f"table {name}: folder {folder}", locate(spark, folder), location
                )

    def claim_folder(spark: SparkSession, checkpoint: Place | None) -> None:
        if of_files and (folder := _folder_of_files(spark, name)) is not None:
            directories.claim(locate(spark, folder), checkpoint)

    return Sink(
        kind="table",
        modes=("append",) if of_files else ("append", "complete"),
        promise="exactly once, read through Spark" if of_files else f"that of {format}",
        after_rewind=_AFTER_REWIND if of_files else f"does what {format} does",
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        to_table=name,
        writes_to=(f"table {name}",),
        configure=lambda writer: writer.format(format).options(**options).partitionBy(*partition_by),
        open=open_table,
        claim=claim_folder,
    )


def _folder_of_files(spark: SparkSession, name: str) -> str | None:
    """Return the folder of a table whose rows are files that Spark itself writes; None for another table."""
    said = {row.col_name: row.data_type for row in spark.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()}
    return said.get("Location") if str(said.get("Provider")).lower() in FILE_FORMATS else None
