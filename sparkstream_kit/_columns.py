"""Columns by their names, whatever is in a name, and which of them have a watermark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit.errors import InvalidInputError, hint

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["WATERMARK", "column", "columns_with_watermark", "find_column", "quoted", "without_watermark"]

WATERMARK = "spark.watermarkDelayMs"  # EventTimeWatermark.delayKey: how Spark marks the event-time column


def quoted(name: str) -> str:
    """Return a name as Spark's SQL reads it: a dot in it is no field.

    Example:
        >>> quoted("a.b")
        '`a.b`'
    """
    return "`" + name.replace("`", "``") + "`"


def column(name: str) -> Column:
    """Return a column by its name, whatever is in it."""
    from pyspark.sql import functions as F

    return F.col(quoted(name))


def find_column(frame: DataFrame, name: str, *, side: str | None = None) -> str:
    """Return a column's name as the frame writes it; Spark's names have no case.

    Raises:
        InvalidInputError: there is no such column, or two differ by their case alone.
    """
    same = [each for each in frame.columns if each.lower() == name.lower()]
    if name in same:
        return name
    if len(same) != 1:
        has, whose = ("there is", "the") if side is None else (f"{side} has", "its")
        known = f"; {whose} columns are: {', '.join(frame.columns)}"
        raise InvalidInputError(f"{has} no column {name}{hint(name, frame.columns) or known}")
    return same[0]


def columns_with_watermark(frame: DataFrame) -> list[str]:
    """Return the columns that have a watermark."""
    return [field.name for field in frame.schema if WATERMARK in field.metadata]


def without_watermark(frame: DataFrame, name: str) -> str | None:
    """Say of a stream without a watermark on a column which column has it; None where all is well."""
    marked = columns_with_watermark(frame)
    if not frame.isStreaming or name in marked:
        return None
    return f" (column {marked[0]} has it)" if marked else ""
