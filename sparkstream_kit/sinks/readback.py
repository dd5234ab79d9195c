"""Start and run: read rows as a target holds them, for `Sink.read` and `Sink.form`.

Files of CSV and JSON, snapshots, views and tables of SQL do not keep Spark's types.
Their values are read as they are: as texts, or as texts of JSON, in which `"1"` is a
text and `1` a number. So two sides can be compared without a cast. `parsed` makes a
value of Spark's of such a text, where it is one.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.columns import column, holds, types_in
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks.base import JSON

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession

    from sparkstream_kit.sinks.formats import Format


_LOG = "_spark_metadata"
_ROW = "sparkstream_row"  # a column that is added for a moment
_AS_TEXT = {"spark.sql.sources.partitionColumnTypeInference.enabled": "false"}
# A text that no file has: with the default, Spark reads an empty text of CSV as NULL.
_NULL = "\u0001sparkstream null"
# As Spark writes a CSV of one text, and reads it back.
_CSV_TEXT = {"quoteAll": "true", "escape": '"', "ignoreLeadingWhiteSpace": "false"}
_CSV_TEXT |= {"ignoreTrailingWhiteSpace": "false"}
_NOT_IN_CSV = (T.ArrayType, T.MapType, T.NullType, T.StructType, T.VariantType)


def of_files(
    spark: SparkSession,
    path: str | Path,
    form: Format,
    schema: T.StructType,
    folders: Sequence[str] = (),
) -> DataFrame:
    """Read back all rows that a sink has written to a folder of files.

    Args:
        spark: the session.
        path: the folder.
        form: the format, with the options of its writer.
        schema: the columns of the query, for formats that do not name them.
        folders: the columns that are names of folders, whose values are read as texts.

    Returns:
        The rows: of CSV and text as texts, of JSON as texts of JSON, of other formats
            with their types.
    """
    kind = form.kind
    reader = spark.read.options(**form.reading).format(kind)
    folder_names = {name.lower() for name in folders}
    names = [name for name in schema.names if name.lower() not in folder_names]
    load_path = _literal(spark, path)
    with in_force(spark, _AS_TEXT):
        if kind == "json":
            return of_variants(
                reader.option("singleVariantColumn", _ROW).load(load_path), schema.names
            )
        if kind == "text":
            return reader.load(load_path).withColumnRenamed("value", names[0])
        if kind == "csv":
            return _csv_files(reader, load_path, form, names, folder_names)
        return reader.load(load_path)


def _csv_files(
    reader: DataFrameReader,
    load_path: str,
    form: Format,
    names: Sequence[str],
    folder_names: set[str],
) -> DataFrame:
    """Read CSV files as texts, with the names of the query's columns.

    Args:
        reader: the reader, with the format and its options.
        load_path: the path to load.
        form: the format, with the options of its writer.
        names: the columns of the query that stand in the files.
        folder_names: the columns that are names of folders, in lower case.
    """
    reader = reader.option("nullValue", _NULL)
    # Spark looks at a first record of several lines in no folder whose name is a
    # pattern.
    is_plain = load_path == file_system.escaped(load_path)
    columns = _columns_of_csv(
        reader.option("multiLine", is_plain), load_path, names, folder_names
    )
    rows = reader.option("multiLine", True).schema(_texts(columns)).load(load_path)
    options = {name.lower(): str(value).lower() for name, value in form.reading.items()}
    if options.get("header") == "true":
        return rows
    # Without a header Spark numbers the columns (_c0, _c1 …); the files may have fewer
    # or more of them than the query.
    in_files = [name for name in rows.columns if name.lower() not in folder_names]
    query_name = dict(zip(in_files, names, strict=False))
    return rows.select(
        *(column(name).alias(query_name.get(name, name)) for name in rows.columns)
    )


def _columns_of_csv(
    reader: DataFrameReader, load_path: str, names: Sequence[str], folders: set[str]
) -> Sequence[str]:
    """Return the names that Spark gives the columns of CSV files, without those of folders."""
    try:
        columns = reader.load(load_path).columns
    except AnalysisException as err:
        if err.getCondition() != "UNABLE_TO_INFER_SCHEMA":
            raise
        return names  # there is no file
    # Or only empty files
    return [name for name in columns if name.lower() not in folders] or names


def keep_files(
    frame: DataFrame, path: str, form: Format, folders: Sequence[str] = ()
) -> None:
    """Write rows to a folder of files as the sinks of files do."""
    in_session = form.in_session(frame.sparkSession)
    rows = in_session.guarded("the comparison", frame, folders)
    rows.write.format(form.kind).options(**form.options).partitionBy(*folders).mode(
        "overwrite"
    ).save(path)


def _literal(spark: SparkSession, path: str | Path) -> str:
    """Return a path for a reader that takes it literally.

    Through the log of Spark's file sink a path is always taken literally. Any other
    path is a pattern.
    """
    place = locate(spark, path)
    if place.is_in_reach and _LOG not in place.names():
        return place.pattern
    return place.text


def _texts(names: Sequence[str]) -> T.StructType:
    return T.StructType([T.StructField(name, T.StringType()) for name in names])


def of_csv(spark: SparkSession, path: Path) -> DataFrame:
    """Read back a CSV file with a header as texts, of which empty ones are NULL.

    A snapshot writes an empty text and NULL alike.
    """
    # Spark looks for no columns in a file whose name is a pattern.
    with path.open(encoding="utf-8", newline="") as file:
        names = next(csv.reader(file))
    reader = spark.read.options(header="true", multiLine="true", escape='"')
    return reader.schema(_texts(names)).csv(
        file_system.escaped(file_system.for_spark(path))
    )


def of_json(spark: SparkSession, text: str, names: Sequence[str]) -> DataFrame:
    """Return the rows of an array of JSON, as a snapshot has it."""
    array = spark.createDataFrame([(text,)], "value STRING")
    items = F.from_json("value", "ARRAY<VARIANT>")
    return of_variants(array.select(F.explode(items).alias(_ROW)), names)


def of_lines(
    spark: SparkSession, lines: Sequence[str], names: Sequence[str]
) -> DataFrame:
    """Return the rows of lines with an object of JSON each."""
    rows = spark.createDataFrame([(line,) for line in lines], "value STRING")
    return of_variants(rows.select(F.try_parse_json("value").alias(_ROW)), names)


def of_variants(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return each field of objects of JSON as a column with a text of JSON; NULL for null and none.

    Args:
        rows: the objects as variants, and other columns, which stay as they are.
        names: the order of the columns, and their names if there are no rows.
    """
    others = [name for name in rows.columns if name != _ROW]
    objects = column(_ROW).try_cast("MAP<STRING, VARIANT>").alias(_ROW)
    fields = rows.select(objects, *map(column, others))
    field_names = {
        row[0]
        for row in fields.select(F.explode(F.map_keys(_ROW))).distinct().collect()
    }
    if not field_names and fields.isEmpty():
        field_names = {*names} - {*others}
    in_order = [name for name in names if name in field_names]
    in_order += sorted(field_names - {*names})
    texts = [F.to_json(F.try_element_at(F.col(_ROW), F.lit(name))) for name in in_order]
    values = [
        F.nullif(text, F.lit("null")).alias(name)
        for text, name in zip(texts, in_order, strict=True)
    ]
    return fields.select(*values, *map(column, others))


def parsed(form: str, text: Column, kind: T.DataType) -> Column | None:
    """Return the value of a type that a text in a form stands for: NULL for another text.

    Args:
        form: `json`, `csv` or `text`, as in `Form`.
        text: the text.
        kind: the type.

    Returns:
        The value; None if no text of the form can be read as this type.
    """
    if form == "json":
        if any(
            isinstance(each, T.MapType) and each.keyType != T.StringType()
            for each in types_in(kind)
        ):
            return None
        object_text = F.concat(F.lit('{"v":'), text, F.lit("}"))
        value = F.from_json(
            object_text, T.StructType([T.StructField("v", kind)]), JSON
        )["v"]
        return F.when(text.isNotNull(), value)
    if holds(kind, *_NOT_IN_CSV):
        return None
    if form == "text":
        return text.try_cast(kind)
    line = F.to_csv(F.struct(text.alias("v")), _CSV_TEXT)
    value = F.from_csv(
        line, f"v {kind.simpleString()}", JSON | _CSV_TEXT | {"nullValue": _NULL}
    )["v"]
    return F.when(text.isNotNull(), value)
