"""Thin: the rows of a DataFrame as texts, without losing a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import STEADY, changed_inside, holds

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def cells(frame: DataFrame) -> list[tuple[str | None, ...]]:
    """Collect all rows as text, as Spark casts values to strings: decimals in full, nulls as None.

    Times are in the session's time zone. If that is not UTC, each timestamp has its UTC
    offset: without it, an hour that occurs twice in autumn would be ambiguous.
    """
    # Plain names, because the columns' own may repeat or contain dots, which F.col
    # would misread.
    numbers = range(len(frame.columns))
    numbered = frame.toDF(*[f"c{number}" for number in numbers])
    in_utc = frame.sparkSession.conf.get("spark.sql.session.timeZone") in STEADY
    texts = []
    for field in numbered.schema.fields:
        value = F.col(field.name)
        if not in_utc:
            value = _with_offset(value, field.dataType)
        texts.append(value.cast("string"))
    return [tuple(row) for row in numbered.select(texts).collect()]


def _with_offset(value: Column, kind: T.DataType) -> Column:
    """Replace the timestamps in a value by texts with their UTC offset, as +01:00."""
    if isinstance(kind, T.TimestampType):
        return F.concat(value.cast("string"), F.date_format(value, "xxxxx"))
    if not holds(kind, T.TimestampType):
        return value
    return changed_inside(value, kind, _with_offset)
