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
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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
            if not _fits(kind):
                raise InvalidInputError(
                    f"mongodb: column {field.name} has the type {kind.simpleString()},"
                    f" which MongoDB cannot hold; {_fix(field, kind)}"
                )


def _fits(kind: T.DataType) -> bool:
    """Return whether a document can hold all values of a type that is not nested."""
    if isinstance(kind, T.DecimalType) and kind.precision > _DIGITS:
        return False
    return kind.typeName() in _KEPT


def _fix(field: T.StructField, kind: T.DataType) -> str:
    """Return what to do about a column with a type that does not fit, in it or its own."""
    if isinstance(kind, T.DecimalType) and kind is field.dataType:
        fewer = f"decimal({_DIGITS},{min(kind.scale, _DIGITS)})"
        return f"cast it: F.col('{field.name}').cast('{fewer}'), or leave it out"
    return "cast it, or leave it out"


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
        self._converters: dict[str, Callable[[Any], Any]] = {
            "date": _date,
            "decimal": Decimal128,
            "long": Int64,  # pymongo would store a small int with 32 bits
            "timestamp": self._time,
            "timestamp_ntz": self._time,
        }
        # One for each column
        self._columns = [self._converter(field.dataType) for field in schema.fields]

    def documents(self, part: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Convert each row to a document; the columns of the part must be in the schema's order.

        Raises:
            InvalidInputError: MongoDB cannot hold a key's value as it is.
        """
        columns = []
        for name, column, convert in zip(
            self._names, part.columns, self._columns, strict=True
        ):
            values = _plain(column).to_pylist()
            before = self.changed
            if convert is not None:
                values = [convert(value) for value in values]
            columns.append(values)
            if name in self._keys and self.changed > before:
                raise InvalidInputError(
                    f"mongodb: key {name} has a value that MongoDB cannot hold as it"
                    " is, and two rows could then have the same: truncate times with"
                    f" F.date_trunc('millisecond', '{name}'), encode a text that is not"
                    f" UTF-8 with F.base64('{name}')"
                )
        for row in zip(*columns, strict=True):
            yield dict(zip(self._names, row, strict=True))

    def _converter(self, kind: T.DataType) -> Callable[[Any], Any] | None:
        """Return what converts a value of `_plain` for MongoDB; None to keep it."""
        if kind.typeName() in _AS_THEY_ARE:
            return None
        if isinstance(kind, T.StructType):
            convert = self._of_struct(kind)
        elif isinstance(kind, T.ArrayType):
            element = self._converter(kind.elementType)
            if element is None:
                return None
            convert = _of_list(element)
        elif isinstance(kind, T.MapType):
            convert = self._of_map(kind)
        else:
            convert = self._converters.get(kind.typeName(), self._text)

        def convert_unless_null(value: Any) -> Any:
            return None if value is None else convert(value)

        return convert_unless_null

    def _of_struct(self, kind: T.StructType) -> Callable[[Any], Any]:
        converters = [
            (field.name, self._converter(field.dataType)) for field in kind.fields
        ]

        def convert_struct(struct: Mapping[str, Any]) -> dict[str, Any]:
            fields = {}
            for name, convert in converters:
                value = struct[name]
                if convert is not None:
                    value = convert(value)
                fields[name] = value
            return fields

        return convert_struct

    def _of_map(self, kind: T.MapType) -> Callable[[Any], Any]:
        """Return what makes a list of a map, as a document's fields have texts as names."""
        entry = T.StructType().add("key", kind.keyType).add("value", kind.valueType)
        convert_entry = self._of_struct(entry)

        def convert_map(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
            return [convert_entry({"key": key, "value": value}) for key, value in pairs]

        return convert_map

    def _time(self, microseconds: int) -> DatetimeMS:
        milliseconds, rest = divmod(microseconds, 1000)
        if rest:
            self.changed += 1
        return DatetimeMS(milliseconds)

    def _text(self, value: str | bytes) -> str:
        if isinstance(value, str):
            return value
        text = value.decode("utf-8", "backslashreplace")
        if text.encode() != value:
            self.changed += 1
        return text


def _date(days: int) -> DatetimeMS:
    return DatetimeMS(days * _A_DAY)


def _of_list(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: [convert(value) for value in values]


def _plain(column: pa.Array) -> pa.Array:
    """Cast a column to types that Arrow can convert to Python values without an error.

    Dates and timestamps become numbers, because Python's own have only the years 1 to
    9999. Texts become bytes if the column has any that is not UTF-8.
    """
    text_type = None
    if not _arrow.is_utf8(column):
        text_type = pa.large_binary()
    kind = _plain_type(column.type, text_type)
    if kind == column.type:
        return column
    return column.cast(kind)


def _plain_type(kind: pa.DataType, text_type: pa.DataType | None) -> pa.DataType:
    """Return the type for `_plain`; `text_type` is that of texts, None to keep theirs."""
    if pa.types.is_struct(kind):
        fields = [field.with_type(_plain_type(field.type, text_type)) for field in kind]
        return pa.struct(fields)
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type, text_type))
    if pa.types.is_map(kind):
        key_type = _plain_type(kind.key_type, text_type)
        return pa.map_(key_type, _plain_type(kind.item_type, text_type))
    if pa.types.is_date(kind):
        kind = pa.int32()
    elif pa.types.is_timestamp(kind):
        kind = pa.int64()
    elif text_type is not None and _arrow.is_text(kind):
        kind = text_type
    return kind
