"""Thin: Spark's own sinks: console, memory, files and tables of the catalog.

`console`, `memory`, `files` and `table` configure Spark's built-in sinks; users find them in
`sparkstream_kit.sinks`. `cells` turns a DataFrame into text without losing a value.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import STEADY, changed_inside, holds
from sparkstream_kit._spark.place import locate, path_of_writer, reached, refuse_many_disks
from sparkstream_kit.errors import InvalidInputError, printable
from sparkstream_kit.sinks import base
from sparkstream_kit.sinks.base import FILE_FORMATS, MODES, Sink, check_columns, exact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._spark.place import Place


def cells(frame: DataFrame) -> list[tuple[str | None, ...]]:
    """Collect all rows as text, as Spark casts values to strings: decimals in full, nulls as None.

    Times are in the session's time zone. If that is not UTC, each timestamp has its UTC offset: without it,
    an hour that occurs twice in autumn would be ambiguous.
    """
    # Plain names, because the columns' own may repeat or contain dots, which F.col would misread.
    plain = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))
    in_utc = frame.sparkSession.conf.get("spark.sql.session.timeZone") in STEADY
    values = [
        F.col(field.name) if in_utc else _with_offset(F.col(field.name), field.dataType)
        for field in plain.schema.fields
    ]
    return [tuple(row) for row in plain.select([value.cast("string") for value in values]).collect()]


def _with_offset(value: Column, kind: T.DataType) -> Column:
    """Replace each timestamp within a value by a text that ends with its UTC offset, such as +01:00."""
    if isinstance(kind, T.TimestampType):
        return F.concat(value.cast("string"), F.date_format(value, "xxxxx"))
    return changed_inside(value, kind, _with_offset) if holds(kind, T.TimestampType) else value


_AFTER_REWIND = (
    "writes a replayed batch with the same rows once; it refuses others, as Spark would skip them by their "
    "number: start anew with another folder and another checkpoint"
)


def console(*, rows: int = 20, truncate: bool = False) -> Sink:
    """Print each batch to the driver's standard output, as Spark's console sink does.

    On Spark Connect, Spark's own sink would print on the server; with this one, `run` prints on the client.

    Delivery: at least once; a batch that is replayed is printed again.

    Args:
        rows: the most rows to print of each batch, at least 1.
        truncate: cut values at 20 characters, as Spark's own sink does unless told otherwise.

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
        configure=lambda writer: writer.format("console").options(numRows=rows, truncate=truncate),
        open=lambda *_: here,
    )


def _print(rows: int, truncate: bool, batch: DataFrame, batch_id: int) -> None:
    """Print a batch in the format of Spark's own console sink."""
    line = "-" * 43
    print(f"{line}\nBatch: {batch_id}\n{line}")  # noqa: T201 - what a console is for
    # Collect all rows first, as Spark's console does: `show` reads only some of them, and a stateful query
    # fails if its batch is only partly read.
    texts = [[cell and printable(cell) for cell in row] for row in cells(batch)]
    shown = T.StructType([T.StructField(printable(name), T.StringType()) for name in batch.columns])
    batch.sparkSession.createDataFrame(texts, shown).show(rows, truncate)


def memory(table: str) -> Sink:
    """Keep all rows in the driver's memory as the table `table`, for trying things out.

    In output mode `append` the table holds all rows so far, in mode `complete` the last result; mode `update`
    is not supported. Spark names the table after the query, so this sink sets the query's name to `table`.
    After a restart the table is empty again, and in mode `append` Spark refuses a checkpoint that was used;
    use `latest` to keep the result.

    Delivery: none over a restart.

    Args:
        table: the name to use in SQL, and the query's name.

    Examples:
        >>> memory("counts").query_name
        'counts'
    """
    check(memory, locals())
    return Sink(
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

    Delivery: exactly once from replayable sources, for readers that use Spark, which honours the folder's log
    `_spark_metadata`. A program that reads the `part-*` files directly can count rows twice after a crash.

    The folder belongs to one query and one checkpoint: Spark silently skips every batch whose number is in
    `_spark_metadata`, whichever query wrote it. On a local path and on hdfs:// the file `_sparkstream_query`
    in the folder records the id of the query that owns it.

    Args:
        path: the folder; Spark creates it if it is missing.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        partition_by: the columns whose values become folder names, as in `country=DE`.
        **options: further options of Spark's writer, by Spark's own names. Unless they say otherwise, CSV and
            JSON have timestamps with six digits of a second, and JSON has null fields.

    Raises:
        InvalidInputError: the format is unknown; when the query starts, the format cannot hold a column, the
            folder has files that this query has not written, its batches do not match the checkpoint, or it
            is a local path on a cluster, where each node would write to a disk of its own.

    Examples:
        >>> files("out", format="parqet")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown file format parqet; did you mean parquet?
    """
    check(files, locals())
    options = exact(files, format, options, path)
    is_json = format.lower() == "json"

    def check_folder(frame: DataFrame, location: Place | None) -> None:
        spark = frame.sparkSession
        check_columns("files", format, frame, partition_by)
        refuse_many_disks(spark, "files", str(path))
        if location is not None:
            with reached("files: folder", str(path)):
                _folders().check_log(f"files: folder {path}", locate(spark, path), location)

    def configure(writer: DataStreamWriter) -> DataStreamWriter:
        writer = writer.format(format).option("path", path_of_writer(writer, str(path)))
        return writer.options(**options).partitionBy(*partition_by)

    return Sink(
        kind="files",
        modes=("append",),
        promise="exactly once, read through Spark",
        after_rewind=_AFTER_REWIND,
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        writes_to=(base.Target("folder", str(path), str(path)),),
        configure=configure,
        read=lambda spark, schema, _: _forms().of_files(spark, path, format, options, schema, partition_by),
        form=base.Form(partial(_written, format, options, partition_by), "json" if is_json else "csv"),
        check=check_folder,
        claim=reached("files: folder", str(path))(
            lambda spark, checkpoint: _folders().claim(locate(spark, path), checkpoint)
        ),
    )


def table(name: str, *, format: str = "parquet", partition_by: Sequence[str] = (), **options: Any) -> Sink:  # noqa: A002 - Spark's own word
    """Append rows to a table of the catalog, which is created if it is missing.

    Without `start`: `sinks.table("t")(df.writeStream).toTable("t")`.

    Delivery: for Spark's file formats, exactly once from replayable sources for readers that use Spark; for
    other formats, what the format promises.

    A table in a file format belongs to one query and one checkpoint, as the folder of `sinks.files` does:
    once a query writes to the table, Spark no longer shows the rows that it had before.

    Args:
        name: the table, as `table` or `schema.table`.
        format: the format of a new table: `csv`, `json`, `orc`, `parquet`, `text`, or another one that the
            session has.
        partition_by: the columns by which a new table is partitioned.
        **options: further options of the format, by its own names.

    Raises:
        InvalidInputError: the name is empty; when the query starts, a table in a file format has rows that
            this query has not written or batches that do not match the checkpoint, or Spark does not know
            the format.

    Examples:
        In a session::

            start(sales, sinks.table("all_sales"), name="sales", checkpoint="ckpt")
    """
    check(table, locals())
    if not name.strip():
        raise InvalidInputError("sinks.table(): the name is empty; give a table, as table or schema.table")

    of_files, options = format.lower() in FILE_FORMATS, exact(table, format, options)

    def check_table(frame: DataFrame, location: Place | None) -> None:
        spark = frame.sparkSession
        check_columns(f"table {name}", format, frame, partition_by)
        if "path" in options:
            refuse_many_disks(spark, f"table {name}:", options["path"])
        folder = _folder_of_files(spark, name) if spark.catalog.tableExists(name) else options.get("path")
        if folder is not None and location is not None and of_files:
            with reached(f"table {name}: folder", folder):
                _folders().check_log(f"table {name}: folder {folder}", locate(spark, folder), location)

    def claim_folder(spark: SparkSession, checkpoint: Place | None) -> None:
        if of_files and (folder := _folder_of_files(spark, name)) is not None:
            _folders().claim(locate(spark, folder), checkpoint)

    return Sink(
        kind="table",
        modes=("append",) if of_files else ("append", "complete"),
        promise="exactly once, read through Spark" if of_files else f"that of {format}",
        after_rewind=_AFTER_REWIND if of_files else f"does what {format} does",
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        to_table=name,
        writes_to=(base.Target("table", name),),
        configure=lambda writer: writer.format(format).options(**options).partitionBy(*partition_by),
        check=check_table,
        claim=claim_folder,
        read=lambda spark, _schema, _location: spark.table(name),
        form=base.Form(partial(_written_to_table, format, options), "csv") if of_files else None,
    )


def _written_to_table(kind: str, options: dict[str, Any], frame: DataFrame, folder: str) -> DataFrame:
    """Write rows to a folder as `table` does, and read them back as the catalog would: with their types."""
    _forms().keep_files(frame, folder, kind, options)
    return frame.sparkSession.read.schema(frame.schema).format(kind).load(folder)


def _folder_of_files(spark: SparkSession, name: str) -> str | None:
    """Return the folder of a table in one of Spark's file formats; None for a table in another format."""
    said = {row.col_name: row.data_type for row in spark.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()}
    return said.get("Location") if str(said.get("Provider")).lower() in FILE_FORMATS else None


def _written(
    kind: str, options: dict[str, Any], partition_by: Sequence[str], frame: DataFrame, folder: str
) -> DataFrame:
    """Write rows to a folder as `files` does, and read them back."""
    forms = _forms()
    forms.keep_files(frame, folder, kind, options, partition_by)
    rows: DataFrame = forms.of_files(frame.sparkSession, folder, kind, options, frame.schema, partition_by)
    return rows


def _forms() -> ModuleType:
    """Return the module that reads rows back, which only a comparison needs."""
    from sparkstream_kit.sinks import forms

    return forms


def _folders() -> ModuleType:
    """Return the module of the guard, which only a start needs."""
    from sparkstream_kit.sinks import folders

    return folders
