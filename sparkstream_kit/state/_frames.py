"""Rows on their way through Python and back: every value comes out as it went in, under its own name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pyspark
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._columns import find_column, holds, require_watermark
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, no_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspark.sql import GroupedData
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor

_LIBRARIES = ("pandas", "pyarrow", "google.protobuf")


def place_of(caller: str, frame: DataFrame, name: str) -> int:
    """Return where a column stands.

    Raises:
        InvalidInputError: there is no such column, or there are two.
    """
    found = find_column(frame, name, caller=caller)
    if frame.columns.count(found) > 1:
        raise InvalidInputError(f"{caller}: two columns are named {found}; rename one of them")
    return frame.columns.index(found)


def places_of_keys(caller: str, frame: DataFrame, keys: str | Sequence[str]) -> list[int]:
    """Return where the key columns stand: one name was given, or a list of them.

    Raises:
        InvalidInputError: none was given, or `place_of` refuses one.
    """
    names = [keys] if isinstance(keys, str) else list(keys)
    if not names:
        raise InvalidInputError(f"{caller} needs at least one key; give the columns that tell rows apart")
    return [place_of(caller, frame, name) for name in names]


def place_of_time(caller: str, frame: DataFrame, name: str, *, watermark: bool = True) -> int:
    """Return where the event-time column stands.

    Raises:
        InvalidInputError: there is no such column, it is no timestamp, or a stream has no watermark on it.
    """
    at = place_of(caller, frame, name)
    field = frame.schema[at]
    if not isinstance(field.dataType, T.TimestampType):
        raise InvalidInputError(f"{caller}: {no_timestamp(field.name, field.dataType.simpleString())}")
    if watermark:
        require_watermark(frame, field.name, caller)
    return at


def packed(frame: DataFrame, timed_by: int | None = None) -> DataFrame:
    """Return the frame with columns named c0, c1, …, and times and dates in them as whole numbers.

    Python's times have no zone of their own, so that of the two hours at the end of summer time it keeps one,
    and no year after 9999.

    Args:
        frame: static or streaming.
        timed_by: where the time stands that keeps its watermark. Without it no column has one any more, so
            that Spark drops no late rows before a processor sees them.
    """
    if not frame.isStreaming:
        # Else Spark has nothing yet that its state stores report to, also where a batch uses them.
        frame.sparkSession.streams  # noqa: B018
    names = [f"c{at}" for at in range(len(frame.columns))]
    columns = []
    for at, (name, field) in enumerate(zip(names, frame.schema, strict=True)):
        metadata = dict(field.metadata) if at == timed_by else {}
        columns.append(_converted(F.col(name), field.dataType).alias(name, metadata=metadata))
    return frame.toDF(*names).select(*columns)


def unpacked(names: Sequence[str], fields: Iterable[T.StructField]) -> list[Column]:
    """Return columns of a packed frame as they were, with the names, types and watermarks of these fields."""
    return [
        _converted(F.col(name), field.dataType, back=True).alias(field.name, metadata=dict(field.metadata))
        for name, field in zip(names, fields, strict=True)
    ]


def processed(
    caller: str, groups: GroupedData, processor: StatefulProcessor, output: T.StructType, *, streaming: bool
) -> DataFrame:
    """Return what a processor makes of each group of rows.

    Raises:
        InvalidInputError: this Spark has no `transformWithState` in rows.
        MissingExtraError: a library that it needs is not installed.
    """
    if not hasattr(groups, "transformWithState"):
        raise InvalidInputError(
            f"{caller} needs transformWithState in rows, which Spark {pyspark.__version__} does not have; "
            "upgrade to Spark 4.1 or later"
        )
    if not all(map(_is_installed, _LIBRARIES)):
        raise MissingExtraError(f"state.{caller.removesuffix('()')}", "state")
    return groups.transformWithState(processor, output, "Append", "EventTime" if streaming else "None")


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def check_number(call: str, field: T.StructField) -> None:
    """Refuse a column that holds no numbers."""
    if not isinstance(field.dataType, T.NumericType):
        raise InvalidInputError(
            f"{call}: column {field.name} is {field.dataType.simpleString()}, not a number; cast it first"
        )


def _converted(column: Column, dtype: T.DataType, *, back: bool = False) -> Column:
    """Return a column with the times and dates in it as whole numbers, or back as they were."""
    if isinstance(dtype, T.TimestampType):
        return F.timestamp_micros(column) if back else F.unix_micros(column)
    if isinstance(dtype, T.DateType):
        return F.date_from_unix_date(column) if back else F.unix_date(column)
    if not holds(dtype, T.TimestampType, T.DateType):
        return column

    def inner(part: Column, kind: T.DataType) -> Column:
        return _converted(part, kind, back=back)

    if isinstance(dtype, T.ArrayType):
        return F.transform(column, lambda item: inner(item, dtype.elementType))
    if isinstance(dtype, T.MapType):
        keyed = F.transform_keys(column, lambda key, _: inner(key, dtype.keyType))
        return F.transform_values(keyed, lambda _, value: inner(value, dtype.valueType))
    fields = [
        inner(column.getField(field.name), field.dataType).alias(field.name)
        for field in dtype  # type: ignore[attr-defined]
    ]
    return F.when(column.isNotNull(), F.struct(*fields))
