"""Put a target's rows beside a changed query's, for `shadow`: compare values, cast none.

A target may not keep Spark's types, as CSV, JSON and SQL do not. Then the query's rows
are brought into the form that the sink would give them (`Form.written`), and both sides
are texts. Where each text of a column is one that the sink writes for a value of the
query's type, the column has these values; otherwise both sides stay texts. Of columns
with two types, numbers are compared as numbers, and other values are never equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import column, holds
from sparkstream_kit.sinks import readback
from sparkstream_kit.sinks.base import JSON, OTHER_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame

    from sparkstream_kit.sinks.base import Form

# The types of whole numbers, with the most digits of a value
_WHOLE_NUMBERS: dict[type[T.DataType], int] = {
    T.ByteType: 3,
    T.ShortType: 5,
    T.IntegerType: 10,
    T.LongType: 19,
}
_DIGITS = 38  # the most of a decimal


@dataclass(frozen=True)
class Sides:
    """The rows of a target and those of the changed query, with the same columns and types.

    Attributes:
        old: the rows of the target.
        new: the rows of the changed query.
        types: a phrase for each column that has two types.
        notes: a phrase for each column of which the target has another type that holds
            all values.
        incomparable: the columns of which no two values are equal, because their types are of
            two kinds.
    """

    old: DataFrame
    new: DataFrame
    types: tuple[str, ...]
    notes: tuple[str, ...]
    incomparable: tuple[str, ...]


def side_by_side(
    old: DataFrame,
    new: DataFrame,
    query_schema: T.StructType,
    names: Sequence[str],
    form: Form | None,
    folder: str,
) -> Sides:
    """Bring the rows of two sides to the same types.

    Args:
        old: the rows of the target, as `Sink.read` returns them.
        new: the rows of the changed query, with its types.
        query_schema: the columns of the changed query.
        names: the columns that both have.
        form: how the target holds values; None if it keeps each value with its type.
        folder: a folder for files, as Spark takes it.
    """
    types, notes = _said_by_the_target(old, names)
    if form is not None:
        new = _materialized(
            form.written(new, f"{folder}/as_written"), f"{folder}/written"
        )
        readable = _readable(old, new, query_schema, names, form, folder)
        types |= readable.differences
        columns = _values(names, readable.values, form)
        old = old.select(columns)
        new = new.select(columns)
    common: dict[str, T.DataType | None] = {}
    for name in names:
        target_type = old.schema[name].dataType
        query_type = new.schema[name].dataType
        common[name] = _common(target_type, query_type)
        target_type_name = target_type.simpleString()
        query_type_name = query_type.simpleString()
        if target_type_name != query_type_name:
            types[name] = (
                f"{target_type_name} in the target, and {query_type_name} in the changed query"
            )
    compared = [_as(name, common[name]) for name in names]
    notes = {name: note for name, note in notes.items() if name not in types}
    return Sides(
        old=old.select(compared),
        new=new.select(compared),
        types=tuple(f"column {name} is {phrase}" for name, phrase in types.items()),
        notes=tuple(f"column {name} is {phrase}" for name, phrase in notes.items()),
        incomparable=tuple(name for name in names if common[name] is None),
    )


def _said_by_the_target(
    old: DataFrame, names: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return a phrase for each column that has another type in the target than in the query.

    Returns:
        Those that cannot hold all values of the query's type, and those that can.
    """
    types: dict[str, str] = {}
    notes: dict[str, str] = {}
    for field in old.schema:
        other_type = field.metadata.get(OTHER_TYPE)
        if not other_type or field.name not in names:
            continue
        if other_type["fits"]:
            notes[field.name] = other_type["is"]
        else:
            types[field.name] = other_type["is"]
    return types, notes


def _materialized(rows: DataFrame, path: str) -> DataFrame:
    """Keep rows in a folder, so that they are computed once."""
    rows.write.mode("overwrite").parquet(path)
    return rows.sparkSession.read.parquet(path)


@dataclass(frozen=True)
class _Readable:
    """Columns of texts: those with values of the query's types, and a phrase for the others.

    Attributes:
        values: the query's type of each column whose texts all are values of it, on
            both sides.
        differences: a phrase for each column whose texts are such values on the side of the
            query alone.
    """

    values: Mapping[str, T.DataType]
    differences: dict[str, str]


def _readable(
    old: DataFrame,
    new: DataFrame,
    query_schema: T.StructType,
    names: Sequence[str],
    form: Form,
    folder: str,
) -> _Readable:
    """Find the columns whose texts are values of the query's types, the same if rewritten."""
    candidates = {}
    for name in names:
        is_text = _is_text(old, name) and _is_text(new, name)
        kind = query_schema[name].dataType
        is_its_own = form.texts != "json" and isinstance(kind, T.StringType)
        if is_text and not is_its_own and _parsed(form, name, kind) is not None:
            candidates[name] = kind
    values: dict[str, T.DataType] = {}
    differences: dict[str, str] = {}
    if not candidates:
        return _Readable(values, differences)
    unchanged_in_target = _unchanged_by_rewriting(
        old, query_schema, candidates, form, f"{folder}/old_again"
    )
    unchanged_in_query = _unchanged_by_rewriting(
        new, query_schema, candidates, form, f"{folder}/new_again"
    )
    for name, kind in candidates.items():
        if name in unchanged_in_target and name in unchanged_in_query:
            values[name] = kind
        elif name in unchanged_in_query:
            differences[name] = (
                f"{kind.simpleString()} in the changed query, and the target has other"
                " values"
            )
    return _Readable(values, differences)


def _is_text(rows: DataFrame, name: str) -> bool:
    return isinstance(rows.schema[name].dataType, T.StringType)


def _unchanged_by_rewriting(
    rows: DataFrame,
    query_schema: T.StructType,
    candidates: Mapping[str, T.DataType],
    form: Form,
    folder: str,
) -> set[str]:
    """Return the columns whose texts are the same when read as values and written again."""
    columns = []
    for field in query_schema:
        value = None
        if field.name in candidates:
            value = _parsed(form, field.name, field.dataType)
        if value is None:
            value = F.lit(None).cast(field.dataType)
        columns.append(value.alias(field.name))
    rewritten = form.written(rows.select(columns), folder)
    before = _sums(rows, [*candidates])
    after = _sums(rewritten, [*candidates])
    return {name for name in candidates if before[name] == after[name]}


def _sums(rows: DataFrame, names: Sequence[str]) -> dict[str, object]:
    """Return a sum over each column of texts, which does not depend on the order of the rows."""
    sums = [F.sum(F.xxhash64(column(name)).cast("decimal(38,0)")) for name in names]
    return dict(zip(names, rows.agg(*sums).collect()[0], strict=True))


def _parsed(form: Form, name: str, kind: T.DataType) -> Column | None:
    """Return the values of a column of texts; None if the form has no texts for the type."""
    return readback.parsed(form.texts, column(name), kind)


def _values(
    names: Sequence[str], readable: Mapping[str, T.DataType], form: Form
) -> list[Column]:
    """Return the columns of both sides, with values in place of texts that are values."""
    columns = []
    for name in names:
        value = None
        if name in readable:
            value = _parsed(form, name, readable[name])
        if value is None:
            value = column(name)
        columns.append(value.alias(name))
    return columns


def _as(name: str, kind: T.DataType | None) -> Column:
    """Return a column with the type in which it is compared: the common one, or as a text for none.

    A map is compared as a text, too, because Spark compares no maps.
    """
    value = column(name).cast("string" if kind is None else kind)
    if kind is not None and holds(kind, T.MapType, T.VariantType):
        value = F.to_json(value, JSON)
    return value.alias(name)


def _common(one: T.DataType, other: T.DataType) -> T.DataType | None:
    """Return the type that has each value of two types as it is; None if they are of two kinds."""
    if one.simpleString() == other.simpleString():
        return other
    if isinstance(one, T.NumericType) and isinstance(other, T.NumericType):
        return _number(one, other)
    if isinstance(one, T.ArrayType) and isinstance(other, T.ArrayType):
        inner = _common(one.elementType, other.elementType)
        return None if inner is None else T.ArrayType(inner)
    if (
        isinstance(one, T.StructType)
        and isinstance(other, T.StructType)
        and one.names == other.names
    ):
        struct = T.StructType()
        for field in one:
            inner = _common(field.dataType, other[field.name].dataType)
            if inner is None:
                return None
            struct.add(field.name, inner)
        return struct
    return None


def _number(one: T.DataType, other: T.DataType) -> T.DataType | None:
    """Return the type of numbers that has each number of two types; None if there is none."""
    integer_digits = 0
    scale = 0
    for kind in (one, other):
        if isinstance(kind, (T.FloatType, T.DoubleType)):
            return T.DoubleType()
        if isinstance(kind, T.DecimalType):
            integer_digits = max(integer_digits, kind.precision - kind.scale)
            scale = max(scale, kind.scale)
        else:
            integer_digits = max(integer_digits, _WHOLE_NUMBERS[type(kind)])
    digits = integer_digits + scale
    if digits > _DIGITS:
        return None
    return T.DecimalType(digits, scale)
