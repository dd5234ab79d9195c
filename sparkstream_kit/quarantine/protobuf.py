"""Extra: records of Protobuf, with the id of their schema as Confluent writes it, or plain.

`parse_protobuf` is the public function; users find it in `sparkstream_kit.quarantine`.
It gives Spark's Python workers a `Decoder`, which parses a record with the library
protobuf and checks each value against the type of its column. The records' schemas come
from a registry (`connectors/_registry`), or from a descriptor, which was read.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark.session import as_schema
from sparkstream_kit.connectors import need
from sparkstream_kit.connectors._registry.client import Registry
from sparkstream_kit.connectors._registry.client import of as registry_of
from sparkstream_kit.connectors._registry.protos import Messages, compiled, indexes
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.decoded import (
    HEADER,
    MOST_SCHEMAS,
    BadError,
    UnfitError,
    read_by,
    refuse_text,
    scalar,
)
from sparkstream_kit.quarantine.lines import NESTED, schema_for
from sparkstream_kit.quarantine.rows import not_a, parsed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkstream_kit.connectors._registry.client import Schema

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NANOS = 1_000  # of a microsecond, the unit of Spark's times
_WRAPPERS = {
    f"google.protobuf.{name}Value"
    for name in (
        "Bool",
        "Bytes",
        "Double",
        "Float",
        "Int32",
        "Int64",
        "String",
        "UInt32",
        "UInt64",
    )
}
_JSON = {f"google.protobuf.{name}" for name in ("Struct", "Value", "ListValue")}
_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)


@dataclass(frozen=True)
class Decoder:
    """Decodes a record in a Python UDF, to its columns or to the reason why it is bad.

    Attributes:
        schema: the columns to read, each from the message's field of the same name.
        registry: where the records' schemas come from; None for plain records.
        descriptor: a `FileDescriptorSet` with the message of plain records.
        message: the full name of the message; empty for any, which a registry's record
            names itself.
    """

    schema: T.StructType
    registry: Registry | None
    descriptor: bytes = field(default=b"", repr=False)
    message: str = ""

    def __call__(self, record: bytes | None) -> tuple[Any, ...]:
        """Decode a record.

        Returns:
            The value of each column and None; for a bad record, None for each column
            and the reason.

        Raises:
            KitError: the registry cannot be reached, or answers with an error or
                without a schema.
        """
        try:
            return (*self._values(self._read(record)), None)
        except BadError as err:
            nulls = [None] * len(self.schema)
            return (*nulls, str(err))

    def _read(self, given: bytes | None) -> Any:
        """Return the message of a record."""
        from google.protobuf.message import DecodeError

        if given is None:
            raise BadError("no value")
        record = bytes(given)
        if self.registry is None:
            kind = _of_descriptor(self.descriptor).of(self.message)
            content = record
        else:
            kind, content = self._of_registry(record, self.registry)
        message = kind()
        try:
            message.ParseFromString(content)
        except (DecodeError, RecursionError):
            raise BadError("not valid for its schema") from None
        if not message.IsInitialized():
            raise BadError("not valid for its schema")
        return message

    def _of_registry(self, record: bytes, registry: Registry) -> tuple[Any, bytes]:
        """Return the class of a record's message, and the bytes of the message."""
        if len(record) < HEADER or record[0] != 0:
            raise BadError("not Protobuf with a schema id")
        number = int.from_bytes(record[1:HEADER], "big")
        messages, why = _messages(registry, number)
        if messages is None:
            raise BadError(why)
        try:
            places, start = indexes(record, HEADER)
            name = messages.by_index(places)
        except (ValueError, LookupError):
            raise BadError("a message that its schema does not have") from None
        if self.message and name != self.message:
            raise BadError(f"another message: {name}")
        return messages.of(name), record[start:]

    def _values(self, message: Any) -> list[Any]:
        values = []
        for column in self.schema.fields:
            try:
                value = _field(message, column.name, column.dataType)
            except UnfitError:
                raise BadError(f"{column.name}: {not_a(column.dataType)}") from None
            except _UnknownEnumError as err:
                said = f"{column.name}: unknown enum value {err}"
                raise BadError(said) from None
            if value is None and not column.nullable:
                raise BadError(f"{column.name}: missing")
            values.append(value)
        return values


class _UnknownEnumError(Exception):
    """A value of an enum has no name in the schema; the message is its number."""


@cache
def _of_descriptor(descriptor: bytes) -> Messages:
    return Messages(descriptor)


def _messages(registry: Registry, number: int) -> tuple[Messages | None, str]:
    """Look up the messages of a schema by its id in the registry.

    Returns:
        The messages, or None; and the reason why there are none.

    Raises:
        KitError: the registry cannot be reached, or answers with an error or without a
            schema.
    """
    found = registry.schema(number)
    if found is None:
        return None, "unknown schema id"
    return _readable(registry, found), "a schema that cannot be read"


@lru_cache(MOST_SCHEMAS)
def _readable(_: Registry, found: Schema) -> Messages | None:
    """Return the messages of a schema, compiled once in a process; None if it is not Protobuf.

    Two registries can have the same text with other schemas behind its references.
    """
    try:
        return Messages(compiled(found))
    except ValueError:
        return None


def _field(message: Any, name: str, kind: T.DataType) -> Any:
    """Return the value of a message's field, for a column of a type; None if there is none.

    Raises:
        UnfitError: the value is not of that type, or does not fit into it exactly.
        _UnknownEnumError: it is an enum's value without a name.
    """
    found = message.DESCRIPTOR.fields_by_name.get(name)
    if found is None:
        return None
    _refuse_unknown(message, found)
    if found.is_repeated:
        return _repeated(getattr(message, name), found, kind)
    is_set = not found.has_presence or message.HasField(name)
    # A default that the schema writes out is a value; of others nothing is known
    if not is_set and not found.has_default_value:
        return None
    return _value(getattr(message, name), found, kind)


def _refuse_unknown(message: Any, found: Any) -> None:
    """Refuse a field with a value that its closed enum (proto2) does not have.

    The library keeps such a value with the fields that the schema does not know; of a
    map, the whole entry.

    Raises:
        _UnknownEnumError: the field has one.
    """
    from google.protobuf.message_factory import GetMessageClass
    from google.protobuf.unknown_fields import UnknownFieldSet

    entry = found.message_type
    is_map = entry is not None and entry.GetOptions().map_entry
    of_values = entry.fields_by_name["value"] if is_map else found
    if of_values.enum_type is None or not of_values.enum_type.is_closed:
        return
    for unknown in UnknownFieldSet(message):
        if unknown.field_number != found.number:
            continue
        if is_map:
            _refuse_unknown(GetMessageClass(entry).FromString(unknown.data), of_values)
        else:
            raise _UnknownEnumError(unknown.data)


def _repeated(values: Any, found: Any, kind: T.DataType) -> Any:
    """Return the value of a repeated field or of a map."""
    entry = found.message_type
    if entry is not None and entry.GetOptions().map_entry:
        if not isinstance(kind, T.MapType):
            raise UnfitError
        key = entry.fields_by_name["key"]
        value = entry.fields_by_name["value"]
        return {
            _value(each, key, kind.keyType): _value(values[each], value, kind.valueType)
            for each in values
        }
    if not isinstance(kind, T.ArrayType):
        raise UnfitError
    return [_value(each, found, kind.elementType) for each in values]


def _value(value: Any, found: Any, kind: T.DataType) -> Any:
    """Return a value of a field, for a column of a type."""
    if found.message_type is not None:
        return _message(value, found.message_type.full_name, kind)
    if found.enum_type is not None:
        return _enum(value, found.enum_type, kind)
    if isinstance(kind, (*NESTED, T.DayTimeIntervalType)):
        raise UnfitError
    return scalar(value, kind)


def _enum(value: int, enum: Any, kind: T.DataType) -> Any:
    """Return an enum's value: its name as a string, its number as an integer."""
    if isinstance(kind, _INTEGERS):
        return scalar(value, kind)
    if not isinstance(kind, T.StringType):
        raise UnfitError
    named = enum.values_by_number.get(value)
    if named is None:
        raise _UnknownEnumError(value)
    return named.name


def _message(value: Any, name: str, kind: T.DataType) -> Any:
    """Return a message inside of a message, for a column of a type."""
    if isinstance(kind, T.StructType):
        return _struct(value, kind)
    if name == "google.protobuf.Timestamp" and isinstance(kind, T.TimestampType):
        return _timestamp(value)
    if name == "google.protobuf.Duration" and isinstance(kind, T.DayTimeIntervalType):
        return _duration(value)
    if name in _WRAPPERS:
        return _value(value.value, value.DESCRIPTOR.fields_by_name["value"], kind)
    if name in _JSON and isinstance(kind, T.StringType):
        return _json(value)
    raise UnfitError


def _struct(message: Any, kind: T.StructType) -> dict[str, Any]:
    values = {}
    for column in kind:
        value = _field(message, column.name, column.dataType)
        if value is None and not column.nullable:
            raise UnfitError
        values[column.name] = value
    return values


def _timestamp(value: Any) -> dt.datetime:
    try:
        return _EPOCH + _duration(value)
    except OverflowError:  # before the year 1 or after 9999
        raise UnfitError from None


def _duration(value: Any) -> dt.timedelta:
    micros, rest = divmod(value.nanos, _NANOS)
    if rest:  # finer than a microsecond
        raise UnfitError
    try:
        return dt.timedelta(seconds=value.seconds, microseconds=micros)
    except OverflowError:
        raise UnfitError from None


def _json(value: Any) -> str:
    """Return a Struct, a Value or a ListValue as JSON on one line."""
    from google.protobuf import json_format

    try:
        return str(json_format.MessageToJson(value, indent=None, ensure_ascii=False))
    except (json_format.SerializeToJsonError, ValueError):  # such as NaN
        raise UnfitError from None


def parse_protobuf(
    records: DataFrame,
    schema: T.StructType | str,
    *,
    registry: Registry | str | None = None,
    descriptor: str | Path | None = None,
    message: str | None = None,
) -> DataFrame:
    """Parse records of Protobuf into typed columns; each record gives one row, good or bad.

    With `registry` a record is a zero byte, the id of its schema in four bytes, the
    indexes of its message, and the message, as Confluent's serializers write it. With
    `descriptor` it is the message alone. A record is bad if

    - it does not begin with a zero byte and an id, its schema id is unknown, its schema
      cannot be read, or the schema has no message with these indexes,
    - its bytes are not a message of that kind,
    - a value is not of its column's type or does not fit (an integer that is too big, a
      time with nanoseconds),
    - an enum has a value without a name, and its column is a STRING, or
    - a column that is NOT NULL in `schema` is null or missing.

    Fields of the message that `schema` does not have are ignored.

    A field that has presence (`optional`, of a `oneof`, a message) and is not set is
    null, or the default that a schema of proto2 writes out. A field without presence is
    never null: not set, it is 0, false, empty or the first value of its enum.

    Each Python worker process of Spark asks for the schema of an id once, compiles it,
    and caches it; the workers need the extra `protobuf`, too. It asks again after a
    minute for an id that the registry does not know. A registry that is away is asked
    again for a minute (`wait` of `schemas.registry`). After that the query fails,
    because it is then unknown which records are bad.

    Args:
        records: a DataFrame, streaming or static, whose first column is the record
            (binary), such as that of `sources.kafka(…, binary=True)`. Its other columns
            are kept.
        schema: the columns to read, as a StructType or as DDL, each from the message's
            field of exactly the same name. Messages are STRUCT, repeated fields ARRAY,
            maps MAP (their keys of any type that fits), enums STRING, or an integer for
            their number. An integer fits every numeric column that holds it exactly. Of
            the well-known types, Timestamp is read as TIMESTAMP, Duration as INTERVAL
            DAY TO SECOND, a wrapper such as Int64Value as its value, and Struct, Value
            and ListValue as STRING with JSON; all of them as STRUCT, too.
        registry: a schema registry, from `schemas.registry`, or its address, such as
            "http://registry:8081".
        descriptor: a file on the driver's machine with a `FileDescriptorSet`, as
            `protoc --include_imports --descriptor_set_out=FILE` writes it. It is read
            when this function is called.
        message: the full name of the message, such as "shop.Order". It must be given
            with a descriptor, unless the descriptor's last file has a single message.
            With a registry, records of another message are bad.

    Returns:
        The same columns as `parse_csv`: those of `schema` (all null in a bad row), then
        `_reason` (string; null in a good row), such as "unknown schema id" or "state:
        unknown enum value 7", `_raw`, `_bytes` (the exact record, unless it is text and
        `_raw` holds it) and `_file`, then the other columns of `records`.

    Raises:
        InvalidInputError: the DDL cannot be read, Protobuf cannot hold a column's type,
            a column has a name that `parse_csv` refuses, the first column is not
            binary, not exactly one of `registry` and `descriptor` is given, the
            descriptor cannot be read or does not have the message, or `registry` is not
            an address.
        MissingExtraError: protobuf or grpcio-tools is not installed.

    Examples:
        In a session::

            records = sources.kafka(spark, "localhost:9092", "orders", binary=True)
            rows = quarantine.parse_protobuf(records, ORDERS, registry="http://localhost:8081")
    """
    check(parse_protobuf, locals())
    need("quarantine.parse_protobuf", "protobuf", "google.protobuf", "grpc_tools")
    columns = as_schema(schema, records.sparkSession)
    also = (*NESTED, T.BinaryType, T.DayTimeIntervalType)
    schema_for(records, "Protobuf", _with_text_keys(columns), "use another type", also)
    refuse_text("parse_protobuf", records)
    if (registry is None) == (descriptor is None):
        choice = "registry='http://host:8081' or descriptor='file'"
        raise InvalidInputError(f"parse_protobuf() takes {choice}; give one of them")
    if registry is not None:
        decode = Decoder(columns, registry_of(registry), message=message or "")
    else:
        content, name = _described(str(descriptor), message)
        decode = Decoder(columns, None, content, name)
    read = partial(read_by, decode=decode, schema=columns)
    return parsed(records, columns, read, "protobuf")


def _with_text_keys(kind: Any) -> Any:
    """Return a type whose maps have strings as keys: those of Protobuf have other ones, too."""
    if isinstance(kind, T.StructType):
        fields = [
            T.StructField(each.name, _with_text_keys(each.dataType), each.nullable)
            for each in kind
        ]
        return T.StructType(fields)
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_with_text_keys(kind.elementType))
    if isinstance(kind, T.MapType) and isinstance(
        kind.keyType, (T.StringType, T.BooleanType, *_INTEGERS)
    ):
        return T.MapType(T.StringType(), _with_text_keys(kind.valueType))
    return kind


def _described(path: str, message: str | None) -> tuple[bytes, str]:
    """Read a descriptor, and find the message that its records are.

    Raises:
        InvalidInputError: it cannot be read, or it does not have the message.
    """
    try:
        content = Path(path).read_bytes()
        messages = Messages(content)
    except (OSError, ValueError) as err:
        raise InvalidInputError(
            f"descriptor {path} cannot be read: {err}; make it with protoc"
            " --include_imports --descriptor_set_out=FILE"
        ) from None
    names = messages.names()
    if message is None:
        if len(names) != 1:
            raise InvalidInputError(
                f"descriptor {path} has the messages {', '.join(names)}; give message="
            )
        return content, names[0]
    try:
        messages.of(message)
    except LookupError:
        raise InvalidInputError(
            f"descriptor {path} has no message {message}; known: {', '.join(names)}"
        ) from None
    return content, message
