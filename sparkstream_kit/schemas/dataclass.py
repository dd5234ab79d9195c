"""Schemas from dataclasses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import inspect
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pyspark.sql import types as T

from sparkstream_kit._arguments import said
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.schemas.ddl import decimal_type

__all__ = ["from_dataclass"]

_PYTHON_TYPES: dict[Any, T.DataType] = {
    bool: T.BooleanType(),
    bytes: T.BinaryType(),
    dt.date: T.DateType(),
    dt.datetime: T.TimestampType(),
    float: T.DoubleType(),
    int: T.LongType(),
    str: T.StringType(),
}


def from_dataclass(cls: type[Any]) -> T.StructType:
    """Return the schema of a dataclass: a column for each field.

    `str`, `int` (long), `float` (double), `bool`, `bytes`, `date`, `datetime` (timestamp), `list[T]`,
    `dict[K, V]` and dataclasses stand for themselves; `Annotated[Decimal, (12, 2)]` gives precision and
    scale; `Annotated[int, IntegerType()]` gives any other Spark type. `X | None` is nullable, others are not.

    Args:
        cls: a dataclass, whose annotations may be strings (`from __future__ import annotations`).

    Returns:
        The columns, named as the fields are.

    Raises:
        InvalidInputError: `cls` is not a dataclass, contains itself, or has a field of another type.

    Example:
        >>> @dataclasses.dataclass
        ... class Sale:
        ...     key: str
        ...     amount: Annotated[decimal.Decimal, (12, 2)] | None
        >>> [(f.name, f.dataType.simpleString(), f.nullable) for f in from_dataclass(Sale)]
        [('key', 'string', False), ('amount', 'decimal(12,2)', True)]
    """
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
        raise InvalidInputError(f"from_dataclass needs a dataclass (the class itself), not {said(cls)}")
    return _struct(cls, cls.__name__, ())


def _struct(cls: type[Any], path: str, outer: tuple[type, ...]) -> T.StructType:
    if cls in outer:
        raise InvalidInputError(
            f"{path}: {cls.__name__} contains itself, which Spark's types cannot; "
            "keep a key of the other row instead"
        )
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidInputError(
            f"{path}: the annotation {error.name} is not defined at run time; import it outside TYPE_CHECKING"
        ) from error
    inside = (*outer, cls)
    columns = [
        (f.name, *_from_hint(hints[f.name], f"{path}.{f.name}", inside)) for f in dataclasses.fields(cls)
    ]
    return T.StructType([T.StructField(*column) for column in columns])


def _from_hint(given: Any, path: str, outer: tuple[type, ...], *extras: Any) -> tuple[T.DataType, bool]:
    """Return the Spark type of an annotation, and whether it may be null; `extras` is what annotates it."""
    origin, args = get_origin(given), get_args(given)
    if origin is Annotated:
        return _from_hint(args[0], path, outer, *args[1:], *extras)
    if origin in (Union, types.UnionType) and len(args) == 2 and types.NoneType in args:  # noqa: PLR2004 - X | None
        return _from_hint(args[args[0] is types.NoneType], path, outer, *extras)[0], True
    chosen = next((extra for extra in extras if isinstance(extra, T.DataType)), None)
    return chosen or _bare_type(given, path, outer, extras), False


def _bare_type(given: Any, path: str, outer: tuple[type, ...], extras: tuple[Any, ...]) -> T.DataType:
    """Return the Spark type of an annotation without its `Annotated` and its `| None`."""
    origin, args = get_origin(given), get_args(given)
    if given is decimal.Decimal:
        return _annotated_decimal(path, extras)
    if origin is list and args:
        return T.ArrayType(*_from_hint(args[0], f"{path}.element", outer))
    if origin is dict and args:
        key, key_nullable = _from_hint(args[0], f"{path}.key", outer)
        if key_nullable:
            raise InvalidInputError(
                f"{path}.key may be None, which Spark's maps do not allow; drop the '| None'"
            )
        return T.MapType(key, *_from_hint(args[1], f"{path}.value", outer))
    if isinstance(given, type) and dataclasses.is_dataclass(given):
        return _struct(given, path, outer)
    if given not in _PYTHON_TYPES:
        shown = given.__name__ if isinstance(given, type) and not origin else str(given)
        raise InvalidInputError(
            f"{path} has type {shown}; allowed are str, int, float, bool, bytes, date, datetime, "
            "Annotated[Decimal, (12, 2)], list[T], dict[K, V], dataclasses, Annotated[T, DataType], X | None"
        )
    return _PYTHON_TYPES[given]


def _annotated_decimal(path: str, extras: tuple[Any, ...]) -> T.DecimalType:
    for extra in extras:
        match extra:
            case (int(precision), int(scale)):
                return decimal_type(precision, scale, path)
    raise InvalidInputError(f"{path}: Decimal needs precision and scale; write Annotated[Decimal, (12, 2)]")
