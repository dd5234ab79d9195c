"""Thin: which columns can stand in a file of a format, and in the names of folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import types as T

from sparkstream_kit._internal.columns import (
    STEADY,
    find_column,
    holds,
    is_window,
    refuse_twice,
    types_in,
)
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.refusals import is_collated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession

NESTED = (T.ArrayType, T.MapType, T.StructType)
# Of make_interval(), which no format of Spark's has
_NO_FILE = (T.CalendarIntervalType,)
_CANNOT_HOLD: dict[str, tuple[type[T.DataType], ...]] = {
    "csv": (*NESTED, *_NO_FILE, T.BinaryType, T.NullType, T.VariantType),
    # JSON keeps no NULL, no date and no decimal of a variant
    "json": (*_NO_FILE, T.VariantType),
    "orc": (*_NO_FILE, T.NullType, T.VariantType),
    "parquet": (*_NO_FILE, T.NullType),
}
# What to use instead of a format, if that is not JSON.
_INSTEAD = {
    "csv": "JSON, or F.to_json(column)",
    "json": "F.to_json(column), or Parquet",
}
_NO_FOLDER = (*NESTED, *_NO_FILE, T.BinaryType, T.NullType, T.VariantType)


def check_types(sink: str, name: str, columns: Sequence[T.StructField]) -> None:
    """Refuse columns whose types a format cannot hold.

    Args:
        sink: the sink, for messages.
        name: the plain name of the format.
        columns: the columns that stand in a file.

    Raises:
        InvalidInputError: there is such a column.
    """
    for field in columns:
        names = [field.name, *_names_of_fields(field.dataType)]
        odd = [each for each in names if "`" in each]
        if name == "orc" and odd:
            raise InvalidInputError(
                f"{sink}: column {odd[0]} has a backtick in its name, and Spark reads"
                " it from ORC as NULL; rename it"
            )
        if _can_hold(name, field.dataType, len(columns)):
            continue
        form = "text (one column, a string)" if name == "text" else name
        instead = _INSTEAD.get(name, "JSON")
        if isinstance(field.dataType, T.BinaryType):
            instead = "JSON, or F.base64(column)"
        if is_window(field.dataType):
            instead += "; windows.flatten makes two columns of a window"
        raise InvalidInputError(
            f"{sink}: column {field.name} is {field.dataType.simpleString()}, and a"
            f" file of {form} cannot hold it; leave it out, cast it, or use {instead}"
        )


def cuts_microseconds(spark: SparkSession) -> bool:
    """Return whether the session has Spark write times in Parquet as milliseconds."""
    unit = spark.conf.get("spark.sql.parquet.outputTimestampType")
    return str(unit).upper() == "TIMESTAMP_MILLIS"


def _names_of_fields(kind: T.DataType) -> list[str]:
    """Return the names of the fields of all structs in a type."""
    names: list[str] = []
    for inside in types_in(kind):
        if isinstance(inside, T.StructType):
            names += inside.names
    return names


def _can_hold(name: str, kind: T.DataType, columns: int) -> bool:
    """Return whether a file of so many columns gives back one of this type unchanged."""
    if name == "text":
        return isinstance(kind, T.StringType) and columns == 1
    inside = list(types_in(kind))
    keys = [each.keyType for each in inside if isinstance(each, T.MapType)]
    if name == "json" and any(not isinstance(key, T.StringType) for key in keys):
        return False  # in JSON a key is a text
    if name == "orc" and any(isinstance(key, T.DateType) for key in keys):
        return False  # Spark writes the last of the dates for each key
    is_empty = any(
        isinstance(each, T.StructType) and not each.fields for each in inside
    )
    if name in ("orc", "parquet") and is_empty:
        return False
    return not holds(kind, *_CANNOT_HOLD[name])


def data_columns(frame: DataFrame, partition_by: Sequence[str]) -> list[T.StructField]:
    """Return the columns that stand in the files, not in the names of folders."""
    folders = [name.lower() for name in partition_by]
    return [field for field in frame.schema if field.name.lower() not in folders]


def check_folders(sink: str, frame: DataFrame, partition_by: Sequence[str]) -> None:
    """Refuse columns whose values cannot be read back from the names of folders.

    Raises:
        InvalidInputError: there is no such column, it is given twice, no other column
            is left, or its type or its name does not go into the name of a folder.
    """
    names = [find_column(frame, name, f"{sink}: partition_by") for name in partition_by]
    refuse_twice(f"{sink}: partition_by: column", names)
    if len(names) == len(frame.columns):
        what = "partition_by has each column" if names else "the query has no column"
        raise InvalidInputError(
            f"{sink}: {what}, and a file has rows of the others; leave one in the files"
        )
    for name in names:
        kind = frame.schema[name].dataType
        who = f"{sink}: partition_by column {name}"
        if name.startswith("."):
            raise InvalidInputError(
                f"{who} makes hidden folders, which readers skip; rename it"
            )
        if isinstance(kind, _NO_FOLDER):
            raise InvalidInputError(
                f"{who} is {kind.simpleString()}, of which no folder has the name;"
                " cast it"
            )
        if is_collated(kind):
            raise InvalidInputError(
                f"{who} is {kind.simpleString()}, as which Spark reads no folder; give"
                " F.collate(column, 'UTF8_BINARY')"
            )
        zone = frame.sparkSession.conf.get("spark.sql.session.timeZone")
        if isinstance(kind, T.TimestampType) and zone not in STEADY:
            raise InvalidInputError(
                f"{who} is a timestamp, and the name of a folder has no UTC offset: in"
                f" {zone} an hour that comes twice would be one; set"
                " spark.sql.session.timeZone to UTC, or use a column with F.to_date()"
                " of it"
            )
