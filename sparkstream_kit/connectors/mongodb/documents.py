"""Rows as documents of MongoDB: which types a document can hold, and what each value becomes.

`check_schema` refuses a schema that has others, and `Encoder` turns rows into
documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import refuse_twice, types_in
from sparkstream_kit.connectors import _arrow
from sparkstream_kit.connectors._tables import EXACT
from sparkstream_kit.errors import InvalidInputError, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# The field with the query, the batch and the number of the write of a document
OWN = "sparkstream"

_DIGITS = 34  # the most digits of a Decimal128
_A_DAY = 86_400_000  # milliseconds
_AS_THEY_ARE = (
    "binary",
    "boolean",
    "byte",
    "double",
    "float",
    "integer",
    "short",
    "void",
)
_KEPT = {*EXACT, *_AS_THEY_ARE, "char", "varchar"}


def check_schema(schema: T.StructType, keys: Sequence[str]) -> None:
    """Refuse columns that MongoDB cannot hold, and keys that cannot be a document's `_id`.

    Raises:
        InvalidInputError: a column or a key cannot be used; the message says how to
            change it.
    """
    reject_unknown("key", keys, schema.names)
    _check_names("column", schema)
    for field in schema.fields:
        if field.name == OWN:
            raise InvalidInputError(
                f"mongodb: the kit needs the name {OWN} for a field of its own;"
                " rename it"
            )
        if field.name == "_id" and list(keys) != ["_id"]:
            raise InvalidInputError(
                "mongodb: a column _id is the document's key: give how='upsert',"
                " keys=['_id'], or rename it"
            )
        for kind in types_in(field.dataType):
            if isinstance(kind, T.StructType):
                _check_names(f"in column {field.name} the field", kind)
            if field.name in keys and isinstance(kind, T.ArrayType | T.MapType):
                raise InvalidInputError(
                    f"mongodb: key {field.name} has the type {kind.simpleString()},"
                    " which cannot be an _id; make it a text:"
                    f" F.to_json('{field.name}')"
                )
            too_long = isinstance(kind, T.DecimalType) and kind.precision > _DIGITS
            if not too_long and kind.typeName() in _KEPT:
                continue
            fix = "cast it, or leave it out"
            if isinstance(kind, T.DecimalType) and too_long and kind is field.dataType:
                fewer = f"decimal({_DIGITS},{min(kind.scale, _DIGITS)})"
                fix = f"cast it: F.col('{field.name}').cast('{fewer}'), or leave it out"
            raise InvalidInputError(
                f"mongodb: column {field.name} has the type {kind.simpleString()},"
                f" which MongoDB cannot hold; {fix}"
            )


def _check_names(what: str, schema: T.StructType) -> None:
    for name in schema.names:
        if not name or "." in name or name.startswith("$") or "\0" in name:
            raise InvalidInputError(
                f"mongodb: {what} {name!r}: MongoDB cannot find a field again whose"
                " name is empty, has a dot or begins with a dollar; rename it"
            )
    refuse_twice(f"mongodb: {what}", schema.names)


class Encoder:
    """Converts Arrow rows of one schema to documents.

    Args:
        schema: the schema of the rows, which `check_schema` has accepted.
        keys: the columns that identify a document; a value in them must not be changed.

    Attributes:
        changed: how many values have been changed so far, because MongoDB cannot hold
            them as they were.
    """

    def __init__(self, schema: T.StructType, keys: Sequence[str] = ()) -> None:
        self.changed = 0
        self._names = schema.names
        self._keys = keys
        self._makes: dict[str, Callable[[Any], Any]] = {
            "date": lambda days: DatetimeMS(days * _A_DAY),
            "decimal": Decimal128,
            "long": Int64,  # pymongo would store a small int with 32 bits
            "timestamp": self._time,
            "timestamp_ntz": self._time,
        }
        self._makers = [self._maker(field.dataType) for field in schema.fields]

    def documents(self, part: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Convert each row to a document; the columns of the part must be in the schema's order.

        Raises:
            InvalidInputError: MongoDB cannot hold a key's value as it is.
        """
        columns = []
        for name, column, make in zip(
            self._names, part.columns, self._makers, strict=True
        ):
            values = _plain(column).to_pylist()
            before = self.changed
            columns.append(
                values if make is None else [make(value) for value in values]
            )
            if name in self._keys and self.changed > before:
                raise InvalidInputError(
                    f"mongodb: key {name} has a value that MongoDB cannot hold as it"
                    " is, and two rows could then have the same: truncate times with"
                    f" F.date_trunc('millisecond', '{name}'), encode a text that is not"
                    f" UTF-8 with F.base64('{name}')"
                )
        for row in zip(*columns, strict=True):
            yield dict(zip(self._names, row, strict=True))

    def _maker(self, kind: T.DataType) -> Callable[[Any], Any] | None:
        """Return what converts a value of `_plain` for MongoDB; None to keep it."""
        if kind.typeName() in _AS_THEY_ARE:
            return None
        make = self._makes.get(kind.typeName(), self._text)
        if isinstance(kind, T.StructType):
            make = self._struct(kind)
        elif isinstance(kind, T.ArrayType):
            element = self._maker(kind.elementType)
            if element is None:
                return None
            make = lambda values: [element(each) for each in values]  # noqa: E731
        elif isinstance(kind, T.MapType):
            entry = self._struct(
                T.StructType().add("key", kind.keyType).add("value", kind.valueType)
            )
            make = lambda pairs: [  # noqa: E731
                entry({"key": key, "value": value}) for key, value in pairs
            ]
        return lambda value: None if value is None else make(value)

    def _struct(self, kind: T.StructType) -> Callable[[Any], Any]:
        makers = [(field.name, self._maker(field.dataType)) for field in kind.fields]
        return lambda value: {
            name: value[name] if make is None else make(value[name])
            for name, make in makers
        }

    def _time(self, microseconds: int) -> DatetimeMS:
        milliseconds, cut = divmod(microseconds, 1000)
        self.changed += cut > 0
        return DatetimeMS(milliseconds)

    def _text(self, value: str | bytes) -> str:
        if isinstance(value, str):
            return value
        text = value.decode("utf-8", "backslashreplace")
        self.changed += text.encode() != value
        return text


def _plain(column: pa.Array) -> pa.Array:
    """Cast a column to types that Arrow can convert to Python values without an error.

    Dates and timestamps become numbers, because Python's own have only the years 1 to
    9999. Texts become bytes if the column has any that is not UTF-8.
    """
    as_text = None if _arrow.is_utf8(column) else pa.large_binary()
    kind = _plain_type(column.type, as_text)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: pa.DataType, as_text: pa.DataType | None) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct(
            [each.with_type(_plain_type(each.type, as_text)) for each in kind]
        )
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type, as_text))
    if pa.types.is_map(kind):
        return pa.map_(
            _plain_type(kind.key_type, as_text), _plain_type(kind.item_type, as_text)
        )
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return pa.int32() if pa.types.is_date(kind) else pa.int64()
    return (
        as_text or kind
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
        else kind
    )
