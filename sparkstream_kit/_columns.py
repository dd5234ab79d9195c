"""Columns by their names, whatever is in a name, what their types hold, and which have a watermark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError, hint, no_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# How the observations of the quarantine begin, of a parse and of rules; `progress` counts by them.
OBSERVED = "sparkstream_quarantine"
RULES = "sparkstream_rules"
WATERMARK = "spark.watermarkDelayMs"  # EventTimeWatermark.delayKey: how Spark marks the event-time column


def quoted(name: str) -> str:
    """Return a name as Spark's SQL reads it: a dot in it is no field.

    Examples:
        >>> quoted("a.b")
        '`a.b`'
    """
    return "`" + name.replace("`", "``") + "`"


def column(name: str) -> Column:
    """Return a column by its name, whatever is in it."""
    return F.col(quoted(name))


def find_column(frame: DataFrame, name: str, *, side: str | None = None, caller: str | None = None) -> str:
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
        by = "" if caller is None else f"{caller}: "
        raise InvalidInputError(f"{by}{has} no column {name}{hint(name, frame.columns) or known}")
    return same[0]


def refuse_taken(names: Iterable[str], added: Sequence[str], caller: str) -> None:
    """Refuse a column of a name that the caller adds; Spark's names have no case."""
    lowered = [name.lower() for name in added]
    taken = next((name for name in names if name.lower() in lowered), None)
    if taken is not None:
        raise InvalidInputError(
            f"column {taken} exists already; rename or drop it, because {caller} adds {' and '.join(added)}"
        )


def types_in(kind: T.DataType) -> Iterator[T.DataType]:
    """Yield a type, and all types within its arrays, maps and structs."""
    yield kind
    inner: list[T.DataType] = []
    if isinstance(kind, T.StructType):
        inner = [field.dataType for field in kind]
    elif isinstance(kind, T.ArrayType):
        inner = [kind.elementType]
    elif isinstance(kind, T.MapType):
        inner = [kind.keyType, kind.valueType]
    for each in inner:
        yield from types_in(each)


def holds(kind: T.DataType, *types: type[T.DataType]) -> bool:
    """Say whether a type is one of these, or has one of them in its arrays, maps and structs."""
    return any(isinstance(each, types) for each in types_in(kind))


def columns_with_watermark(frame: DataFrame) -> list[str]:
    """Return the columns that have a watermark."""
    return [field.name for field in frame.schema if WATERMARK in field.metadata]


def event_time(
    frame: DataFrame, name: str, caller: str, *, watermark: bool = True, without_zone: bool = False
) -> str:
    """Return the name of an event-time column as the frame writes it.

    Args:
        frame: static or streaming.
        name: the column.
        caller: who asks, for the message.
        watermark: a stream must have a watermark on it; a static frame needs none.
        without_zone: a timestamp without a time zone will do.

    Raises:
        InvalidInputError: there is no such column, it is no timestamp, or it has no watermark.
    """
    name = find_column(frame, name, caller=caller)
    kind = frame.schema[name].dataType.simpleString()
    if kind != "timestamp" and not (without_zone and kind == "timestamp_ntz"):
        raise InvalidInputError(f"{caller}: {no_timestamp(name, kind)}")
    marked = columns_with_watermark(frame)
    if watermark and frame.isStreaming and name not in marked:
        other = f" (column {marked[0]} has it)" if marked else ""
        raise InvalidInputError(
            f"{caller}: column {name} has no watermark{other}; give it one first: "
            f"windows.with_watermark(frame, {name!r}, '10 minutes')"
        )
    return name
