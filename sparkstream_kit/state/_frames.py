"""Rows on their way through Python and back: every value comes out as it went in, under its own name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyspark
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._columns import without_watermark
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, no_timestamp, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import GroupedData
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor

_LIBRARIES = ("pandas", "pyarrow", "google.protobuf")


def place_of(caller: str, frame: DataFrame, name: str) -> int:
    """Return where a column stands.

    Raises:
        InvalidInputError: there is no such column, or there are two.
    """
    reject_unknown(f"column in {caller}", [name], frame.columns)
    if frame.columns.count(name) > 1:
        raise InvalidInputError(f"{caller}: two columns are named {name}; rename one of them")
    return frame.columns.index(name)


def place_of_time(caller: str, frame: DataFrame, name: str, *, watermark: bool = True) -> int:
    """Return where the event-time column stands.

    Raises:
        InvalidInputError: there is no such column, it is no timestamp, or a stream has no watermark on it.
    """
    at = place_of(caller, frame, name)
    field = frame.schema[at]
    if not isinstance(field.dataType, T.TimestampType):
        raise InvalidInputError(f"{caller}: {no_timestamp(name, field.dataType.simpleString())}")
    if watermark and (instead := without_watermark(frame, name)) is not None:
        raise InvalidInputError(
            f"{caller}: column {name} has no watermark{instead}; give it one first: "
            f"windows.with_watermark(frame, {name!r}, '10 minutes')"
        )
    return at


def check_free(caller: str, names: Sequence[str], added: Sequence[str]) -> None:
    """Refuse a frame that has a column of a name that is to be added; Spark's names have no case."""
    taken = {name.lower(): name for name in names}
    for name in added:
        if name.lower() in taken:
            raise InvalidInputError(
                f"{caller}: column {taken[name.lower()]} exists already; rename or drop it, because {caller} "
                f"adds {' and '.join(added)}"
            )


def packed(frame: DataFrame, mark: Mapping[int, dict[str, Any]] | None = None) -> DataFrame:
    """Return the frame with columns named c0, c1, …, and times and dates in them as whole numbers.

    Python's times have no zone of their own, so that of the two hours at the end of summer time it keeps one,
    and no year after 9999.

    Args:
        frame: static or streaming.
        mark: by the place of a column, its metadata. Without it no column has a watermark any more, so that
            Spark drops no late rows before a processor sees them.
    """
    if not frame.isStreaming:
        # Else Spark has nothing yet that its state stores report to, also where a batch uses them.
        frame.sparkSession.streams  # noqa: B018
    plain = frame.toDF(*(f"c{at}" for at in range(len(frame.columns))))
    metadata = mark or {}
    return plain.select(
        *(
            _pack(F.col(field.name), field.dataType).alias(field.name, metadata=metadata.get(at, {}))
            for at, field in enumerate(plain.schema)
        )
    )


def unpacked(of: Sequence[tuple[str, T.StructField]]) -> list[Column]:
    """Return columns of a packed frame as they were, with their names, types and watermarks.

    Args:
        of: the name of each packed column, and the field that it was.
    """
    return [
        _unpack(F.col(name), field.dataType).alias(field.name, metadata=dict(field.metadata))
        for name, field in of
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


def is_hashable(dtype: T.DataType) -> bool:
    """Say whether Spark can hash a column of this type."""
    if isinstance(dtype, T.ArrayType):
        return is_hashable(dtype.elementType)
    if isinstance(dtype, T.StructType):
        return all(is_hashable(field.dataType) for field in dtype)
    return not isinstance(dtype, T.MapType | T.VariantType)


def _has_times(dtype: T.DataType) -> bool:
    if isinstance(dtype, T.ArrayType):
        return _has_times(dtype.elementType)
    if isinstance(dtype, T.MapType):
        return _has_times(dtype.keyType) or _has_times(dtype.valueType)
    if isinstance(dtype, T.StructType):
        return any(_has_times(field.dataType) for field in dtype)
    return isinstance(dtype, T.TimestampType | T.DateType)


def _pack(column: Column, dtype: T.DataType) -> Column:
    if isinstance(dtype, T.TimestampType):
        return F.unix_micros(column)
    if isinstance(dtype, T.DateType):
        return F.unix_date(column)
    return _inside(column, dtype, back=False)


def _unpack(column: Column, dtype: T.DataType) -> Column:
    if isinstance(dtype, T.TimestampType):
        return F.timestamp_micros(column)
    if isinstance(dtype, T.DateType):
        return F.date_from_unix_date(column)
    return _inside(column, dtype, back=True)


def _inside(column: Column, dtype: T.DataType, *, back: bool) -> Column:
    """Return a column with what is in its arrays, maps and structs changed."""
    change = _unpack if back else _pack
    if not _has_times(dtype):
        return column
    if isinstance(dtype, T.ArrayType):
        return F.transform(column, lambda item: change(item, dtype.elementType))
    if isinstance(dtype, T.MapType):
        keyed = F.transform_keys(column, lambda key, _: change(key, dtype.keyType))
        return F.transform_values(keyed, lambda _, value: change(value, dtype.valueType))
    fields = [
        change(column.getField(f.name), f.dataType).alias(f.name)
        for f in dtype  # type: ignore[attr-defined]
    ]
    return F.when(column.isNotNull(), F.struct(*fields))
