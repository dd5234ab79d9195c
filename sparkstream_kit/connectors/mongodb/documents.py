"""Rows as documents: which columns MongoDB can hold, and their values as it holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from pyspark.sql import types as T

from sparkstream_kit._columns import types_in
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.ledger import refuse_twice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["OWN", "Encoder", "check_schema"]

OWN = "sparkstream"  # the field that says who has written a document

_DIGITS = 34  # of a Decimal128
_A_DAY = 86_400_000  # milliseconds
_AS_THEY_ARE = ("binary", "boolean", "byte", "double", "float", "integer", "short", "void")
_KEPT = (
    *_AS_THEY_ARE,
    *("array", "char", "date", "decimal", "long", "map", "string", "timestamp", "timestamp_ntz", "varchar"),
)


def check_schema(schema: T.StructType, keys: Sequence[str]) -> None:
    """Refuse columns that MongoDB cannot hold, and keys by which it cannot know a document.

    Raises:
        InvalidInputError: in words, with the fix.
    """
    reject_unknown("key", keys, schema.names)
    for field in schema.fields:
        if field.name == OWN:
            raise InvalidInputError(
                f"mongodb: the kit needs the name {OWN} for a field of its own; rename it"
            )
        if field.name == "_id" and list(keys) != ["_id"]:
            raise InvalidInputError(
                "mongodb: a column _id is the document's key: give how='upsert', keys=['_id'], or rename it"
            )
        if field.name in keys and isinstance(field.dataType, T.ArrayType | T.MapType):
            raise InvalidInputError(
                f"mongodb: key {field.name} is {field.dataType.simpleString()}, which MongoDB does not take "
                f"for a key; make it a text: F.to_json('{field.name}')"
            )
        for kind in types_in(field.dataType):
            _check_type(field.name, kind)
    _check_names("column", schema)


def _check_names(what: str, schema: T.StructType) -> None:
    for name in schema.names:
        if not name or "." in name or name.startswith("$") or "\0" in name:
            raise InvalidInputError(
                f"mongodb: {what} {name!r}: MongoDB cannot find a field again whose name is empty, has a dot "
                "or begins with a dollar; rename it"
            )
    refuse_twice(f"mongodb: {what}", schema.names)


def _check_type(column: str, kind: T.DataType) -> None:
    if isinstance(kind, T.StructType):
        _check_names(f"in column {column} the field", kind)
    elif isinstance(kind, T.DecimalType) and kind.precision > _DIGITS:
        raise InvalidInputError(
            f"mongodb: column {column} is {kind.simpleString()}, and MongoDB's decimals have {_DIGITS} "
            f"digits; cast it: F.col('{column}').cast('decimal({_DIGITS},{min(kind.scale, _DIGITS)})')"
        )
    elif kind.typeName() not in _KEPT:
        raise InvalidInputError(
            f"mongodb: column {column} has the type {kind.simpleString()}, which MongoDB cannot hold; cast "
            "it, or leave it out"
        )


class Encoder:
    """Makes documents of the rows of one schema.

    Args:
        schema: that of the rows.
        keys: the columns by which a document is known.

    Attributes:
        changed: how many values were changed so far, because MongoDB cannot hold them as they were.
    """

    def __init__(self, schema: T.StructType, keys: Sequence[str] = ()) -> None:
        self.changed = 0
        self._names, self._keys = schema.names, keys
        self._makers = [self._maker(field.dataType) for field in schema.fields]

    def documents(self, part: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Make a document of each row; the columns of the part have the schema's order.

        Raises:
            InvalidInputError: a key cannot be held as it is.
        """
        columns = []
        for name, column, make in zip(self._names, part.columns, self._makers, strict=True):
            values, before = _plain(column).to_pylist(), self.changed
            columns.append(values if make is None else [make(value) for value in values])
            if name in self._keys and self.changed > before:
                raise InvalidInputError(
                    f"mongodb: key {name} has a value that MongoDB cannot hold as it is, and two rows could "
                    f"then have the same: truncate times with F.date_trunc('millisecond', '{name}'), encode "
                    f"a text that is not UTF-8 with F.base64('{name}')"
                )
        for row in zip(*columns, strict=True):
            yield dict(zip(self._names, row, strict=True))

    def _maker(self, kind: T.DataType) -> Callable[[Any], Any] | None:
        """Return the function that makes a value for MongoDB of one as `_plain` has it; None: as it is."""
        make: Callable[[Any], Any]
        if isinstance(kind, T.StructType):
            make = self._struct(kind)
        elif isinstance(kind, T.ArrayType):
            element = self._maker(kind.elementType)
            if element is None:
                return None
            make = lambda values: [element(each) for each in values]  # noqa: E731
        elif isinstance(kind, T.MapType):
            entry = self._struct(T.StructType().add("key", kind.keyType).add("value", kind.valueType))
            make = lambda pairs: [entry({"key": key, "value": value}) for key, value in pairs]  # noqa: E731
        elif isinstance(kind, T.DecimalType):
            make = Decimal128
        elif isinstance(kind, T.DateType):
            make = lambda days: DatetimeMS(days * _A_DAY)  # noqa: E731
        elif isinstance(kind, T.TimestampType | T.TimestampNTZType):
            make = self._time
        elif isinstance(kind, T.LongType):
            make = Int64  # a plain int is 32 bits or 64, by its value
        elif kind.typeName() in _AS_THEY_ARE:
            return None
        else:
            make = self._text
        return lambda value: None if value is None else make(value)

    def _struct(self, kind: T.StructType) -> Callable[[Any], Any]:
        makers = [(field.name, self._maker(field.dataType)) for field in kind.fields]
        return lambda value: {
            name: value[name] if make is None else make(value[name]) for name, make in makers
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
    """Return a column with times as numbers, of which Python's own begin with the year 1.

    Texts with bytes that are not UTF-8, which Python refuses, are bytes.
    """
    try:
        column.validate(full=True)
        is_utf8 = True
    except pa.ArrowInvalid:
        is_utf8 = False
    kind = _plain_type(column.type, is_utf8=is_utf8)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: pa.DataType, *, is_utf8: bool) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_plain_type(each.type, is_utf8=is_utf8)) for each in kind])
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type, is_utf8=is_utf8))
    if pa.types.is_map(kind):
        return pa.map_(
            _plain_type(kind.key_type, is_utf8=is_utf8), _plain_type(kind.item_type, is_utf8=is_utf8)
        )
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return pa.int32() if pa.types.is_date(kind) else pa.int64()
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.large_binary() if is_text and not is_utf8 else kind
