"""Rows of a test: into Parquet files exactly, and compared with other rows."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import pytest
    from pyspark.sql.types import DataType, StructType

_DIGITS = 9  # sums of doubles differ in their last digits with the order of the rows


def fault_of_the_test(error: pytest.ExceptionInfo[BaseException]) -> bool:
    """Say whether pytest can leave the kit's own lines out of a failure: they stand in no test."""
    return error.errisinstance((AssertionError, KitError))


__tracebackhide__ = fault_of_the_test


def write_parquet(path: Path, rows: Iterable[object], schema: StructType, arrow: Any) -> None:
    """Write rows (tuples, dicts or Rows) as one Parquet file, without a job of Spark.

    Raises:
        InvalidInputError: a row that does not fit the columns, or a value that does not fit its type.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as err:
        raise MissingExtraError("sparkstream_kit.testing", "testing") from err

    records = [by_name(row, schema.names) for row in rows]
    columns = []
    for target, field in zip(arrow, schema, strict=True):
        what = f"column {field.name} ({field.dataType.simpleString()})"
        try:
            values = [_to_arrow(record.get(field.name), field.dataType) for record in records]
            columns.append(pa.array(values, type=target.type))
        except (pa.ArrowException, AttributeError, OverflowError, TypeError, ValueError) as err:
            raise InvalidInputError(f"{what}: {str(err).splitlines()[0]}") from None
        if not field.nullable and None in values:
            raise InvalidInputError(f"{what} is NOT NULL; {records[values.index(None)]} has no value for it")
    pq.write_table(pa.Table.from_arrays(columns, schema=arrow), path)


def _to_arrow(value: Any, kind: DataType) -> Any:
    """Return a value as pyarrow takes it: structs as dicts, maps as pairs, times as microseconds."""
    from pyspark.sql import types as T

    if value is None:
        return None
    if isinstance(kind, T.StructType):
        named = by_name(value, kind.names)
        return {field.name: _to_arrow(named.get(field.name), field.dataType) for field in kind}
    if isinstance(kind, T.ArrayType):
        return [_to_arrow(item, kind.elementType) for item in value]
    if isinstance(kind, T.MapType):
        return [(_to_arrow(key, kind.keyType), _to_arrow(v, kind.valueType)) for key, v in value.items()]
    if isinstance(kind, T.IntegralType) and isinstance(value, float):
        raise InvalidInputError(f"{value} is not a whole number")  # pyarrow would cut it
    # As createDataFrame does it: a time without a zone is one of Python's own time zone.
    return kind.toInternal(value) if isinstance(kind, T.TimestampType) else value


def by_name(row: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Return a row's values by column; what a dict leaves out is null."""
    named = row.asDict() if hasattr(row, "__fields__") else row
    if isinstance(named, dict):
        reject_unknown("column", named, names)
        return named
    if not isinstance(row, tuple | list) or len(row) != len(names):
        columns = ", ".join(names)
        raise InvalidInputError(
            f"row {row!r} does not fit the columns {columns}; give tuples of {len(names)}, dicts or Rows"
        )
    return dict(zip(names, row, strict=True))


def in_order(row: Any, names: Sequence[str]) -> Any:
    """Return a row as a tuple, if it is a dict."""
    return tuple(by_name(row, names).get(name) for name in names) if isinstance(row, dict) else row


def canonical(value: Any) -> Any:
    """Return a value that compares and hashes as what it shows: structs as tuples, doubles to nine digits.

    Example:
        >>> canonical([0.1 + 0.2, {"a": [1]}, float("nan")]) == canonical((0.3, {"a": (1,)}, float("nan")))
        True
    """
    if isinstance(value, tuple | list):
        return tuple(canonical(item) for item in value)
    if isinstance(value, dict):
        return frozenset((canonical(key), canonical(item)) for key, item in value.items())
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, float):
        # A NaN differs from itself, and two of them are the same result all the same.
        return "NaN" if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
    return value


def without(rows: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    """Return the rows that are left when each of the others has taken one like it away.

    Example:
        >>> without([("tea", 3), ("ink", 1), ("ink", 1)], [("ink", 1.0), ("pen", 2)])
        [('tea', 3), ('ink', 1)]
    """
    taken = Counter(canonical(other) for other in others)
    left = []
    for row in rows:
        key = canonical(row)
        if taken[key]:
            taken[key] -= 1
        else:
            left.append(row)
    return left


def told(headline: str, parts: Mapping[str, Iterable[object]]) -> str:
    """Return a headline, and under each title a row a line.

    Example:
        >>> print(told("other rows", {"missing": [("tea", 3)], "unexpected": []}))
        other rows
        missing:
          ('tea', 3)
        unexpected: none
    """
    lines = [headline]
    for title, rows in parts.items():
        shown = [f"  {row!r}" for row in rows]
        lines += [f"{title}:", *shown] if shown else [f"{title}: none"]
    return "\n".join(lines)
