"""States as dataclasses: what a state store keeps of them, also after a field was added."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from inspect import isclass
from typing import Any

from pyspark.sql import types as T

from sparkstream_kit._arguments import said
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.schemas import from_dataclass


def columns(what: str, cls: Any) -> T.StructType:
    """Return the columns of a state, all nullable: a field that was added is null in what was kept before.

    Raises:
        InvalidInputError: `cls` is no dataclass, or a field has no default or a type that cannot be kept.
    """
    if not (isclass(cls) and is_dataclass(cls)):
        raise InvalidInputError(f"{what} is {said(cls)}; give a dataclass (the class itself)")
    for field in fields(cls):
        if field.default is MISSING and field.default_factory is MISSING:
            raise InvalidInputError(
                f"{what}: field {field.name} of {cls.__name__} has no default; give it one, which holds "
                "before the first row"
            )
    found = from_dataclass(cls)
    for each in found:
        kind = each.dataType.elementType if isinstance(each.dataType, T.ArrayType) else each.dataType
        if not isinstance(kind, T.StringType | T.LongType | T.DoubleType | T.BooleanType):
            raise InvalidInputError(
                f"{what}: field {each.name} of {cls.__name__} is {each.dataType.simpleString()}; use str, "
                "int, float, bool or a list of one of them"
            )
    return T.StructType([T.StructField(each.name, each.dataType) for each in found])


def read(cls: Any, names: list[str], kept: tuple[Any, ...] | None) -> Any:
    """Return a state by what was kept of it; what is null has its default."""
    values = zip(names, kept or (), strict=False)
    return cls(**{name: value for name, value in values if value is not None})


def to_keep(state: Any, kinds: T.StructType) -> tuple[Any, ...]:
    """Return what is kept of a state, each value of just its type: the JVM takes another for null."""
    return tuple(_of_type(getattr(state, kind.name), kind.dataType) for kind in kinds)


def _of_type(value: Any, kind: T.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, T.ArrayType):
        return [_of_type(item, kind.elementType) for item in value]
    if isinstance(kind, T.DoubleType):
        return float(value)
    if isinstance(kind, T.LongType):
        return int(value)
    return bool(value) if isinstance(kind, T.BooleanType) else str(value)
