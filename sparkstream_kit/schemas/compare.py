"""What differs between two schemas, in readable lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["diff", "require"]

_Frame = TypeVar("_Frame", DataFrame, T.StructType)

_BULLET = "\n  - "
_IGNORE = ("ignore_column_order", "ignore_extra", "ignore_nullable")


def diff(
    actual: DataFrame | T.StructType,
    expected: DataFrame | T.StructType,
    *,
    ignore_nullable: bool = True,
    ignore_column_order: bool = False,
    ignore_extra: bool = False,
) -> list[str]:
    """Return what differs between two schemas, a readable line for each difference.

    Names are compared exactly; column metadata (comments) is not compared.

    Args:
        actual: the schema there is, or a DataFrame that has it.
        expected: the schema there should be, or a DataFrame that has it.
        ignore_nullable: do not compare nullability, which file sources drop anyway.
        ignore_column_order: do not compare the order of the columns.
        ignore_extra: allow columns that `expected` lacks.

    Returns:
        The lines, none if the schemas agree. Nested columns are dotted: `items.element.price`.

    Raises:
        InvalidInputError: an argument is neither a schema nor a DataFrame.

    Example:
        >>> from sparkstream_kit.schemas import schema_of
        >>> diff(schema_of(key="string", amount="double"), schema_of(key="string", amount="decimal(12,2)"))
        ['amount is double, expected decimal(12,2)']
    """
    check(diff, locals())
    ignored = {"null": ignore_nullable, "order": ignore_column_order, "extra": ignore_extra}
    found = _struct_diff("", _schema(actual), _schema(expected))
    return [line for kind, line in found if not ignored.get(kind)]


def require(actual: _Frame, expected: DataFrame | T.StructType, **ignore: bool) -> _Frame:
    """Return `actual` if its schema is the expected one, so that it chains: `df.transform(require, SALES)`.

    Args:
        actual: a DataFrame, static or streaming, or a schema.
        expected: the schema that it must have, or a DataFrame that has it.
        **ignore: the `ignore_...` keywords of `diff`.

    Returns:
        `actual`, untouched.

    Raises:
        InvalidInputError: the schemas differ; the message holds the lines of `diff`.

    Example:
        >>> from sparkstream_kit.schemas import schema_of
        >>> require(schema_of(saleAmount="string"), schema_of(SaleAmount="string"), ignore_extra=True)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: schema differs: missing SaleAmount string; did you mean ...
    """
    reject_unknown("keyword of require()", ignore, _IGNORE)
    lines = diff(actual, expected, **ignore)
    if lines:
        raise InvalidInputError(
            "schema differs:" + "".join(f"{' ' if len(lines) == 1 else _BULLET}{x}" for x in lines)
        )
    return actual


def _schema(given: DataFrame | T.StructType) -> T.StructType:
    return given.schema if isinstance(given, DataFrame) else given


def _struct_diff(prefix: str, actual: T.StructType, expected: T.StructType) -> Iterator[tuple[str, str]]:
    """Yield the kind of each difference, for `diff` to leave out, and its line."""
    has, wants = {f.name: f for f in actual}, {f.name: f for f in expected}
    extra = [name for name in has if name not in wants]
    for name, want in wants.items():
        path = prefix + name
        if name not in has:
            yield "missing", f"missing {path} {want.dataType.simpleString()}{hint(name, extra)}"
            continue
        yield from _type_diff(path, has[name].dataType, want.dataType)
        yield from _null_diff(path, has[name].nullable, want.nullable)
    for name in extra:
        yield "extra", f"unexpected {prefix}{name} {has[name].dataType.simpleString()}"
    for name in has:
        if actual.names.count(name) > 1:
            yield "twice", f"{prefix}{name} appears twice"
    got, order = [n for n in has if n in wants], [n for n in wants if n in has]
    if got != order:
        where = f" in {prefix.rstrip('.')}" if prefix else ""
        yield "order", f"order{where} is {', '.join(got)}; expected {', '.join(order)}"


def _type_diff(path: str, actual: T.DataType, expected: T.DataType) -> Iterator[tuple[str, str]]:
    if isinstance(actual, T.StructType) and isinstance(expected, T.StructType):
        yield from _struct_diff(f"{path}.", actual, expected)
    elif isinstance(actual, T.ArrayType) and isinstance(expected, T.ArrayType):
        yield from _type_diff(f"{path}.element", actual.elementType, expected.elementType)
        yield from _null_diff(f"{path}.element", actual.containsNull, expected.containsNull)
    elif isinstance(actual, T.MapType) and isinstance(expected, T.MapType):
        yield from _type_diff(f"{path}.key", actual.keyType, expected.keyType)
        yield from _type_diff(f"{path}.value", actual.valueType, expected.valueType)
        yield from _null_diff(f"{path}.value", actual.valueContainsNull, expected.valueContainsNull)
    elif actual != expected:
        yield "type", f"{path} is {actual.simpleString()}, expected {expected.simpleString()}"


def _null_diff(path: str, actual: bool, expected: bool) -> Iterator[tuple[str, str]]:
    if actual != expected:
        said = {True: "nullable", False: "not null"}
        yield "null", f"{path} is {said[actual]}, expected {said[expected]}"
