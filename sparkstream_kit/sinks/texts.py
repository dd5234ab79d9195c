"""A small DataFrame as text, its values exact: formatted by Spark, not by Python's types."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["JSON", "as_csv", "as_json", "cells"]

# Every value there and back: nulls as nulls, timestamps to the microsecond.
JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


def cells(frame: DataFrame) -> list[tuple[str | None, ...]]:
    """Return all rows as Spark's own texts: decimals in full, times in the session's time zone."""
    plain = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))  # whatever is in their names
    return [
        tuple(row) for row in plain.select([F.col(name).cast("string") for name in plain.columns]).collect()
    ]


def as_csv(frame: DataFrame) -> str:
    """Return a header line and a line a row (RFC 4180, but with a plain line feed); null is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(cells(frame))
    return text.getvalue()


def as_json(frame: DataFrame) -> str:
    """Return one JSON array with an object a line; decimals are numbers, written in full."""
    objects = frame.select(F.to_json(F.struct("*"), JSON)).collect()
    return "[\n" + ",\n".join("  " + row[0] for row in objects) + "\n]\n" if objects else "[]\n"
