"""A small DataFrame as text, its values exact: formatted by Spark, not by Python's types."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, cast

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._columns import holds
from sparkstream_kit.errors import printable

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["JSON", "as_csv", "as_json", "cells"]

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
