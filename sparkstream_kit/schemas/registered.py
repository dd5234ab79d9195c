"""Extra: columns for the records of a schema in a registry: Avro, Protobuf, JSON Schema.

`columns_of` makes the columns with which `parse_avro`, `parse_protobuf` and `parse_json`
of `quarantine` read such records. A field that no column of Spark holds is left out, with
the reason.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from pyspark.sql import types as T

from sparkstream_kit.connectors import need
from sparkstream_kit.connectors._registry.avros import whole
from sparkstream_kit.connectors._registry.protos import Messages, compiled
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.quarantine.rows import BYTES, FILE, RAW, REASON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sparkstream_kit.connectors._registry.client import Schema

PARSERS = {"AVRO": "parse_avro", "PROTOBUF": "parse_protobuf", "JSON": "parse_json"}

_TAKEN = (REASON, RAW, BYTES, FILE)
_AS_THEY_ARE = "read them as they are, with sources.kafka(…, binary=True)"
_MOST_DIGITS = 38  # of a decimal
_UNSIGNED = T.DecimalType(20, 0)  # holds each number of 64 bits without a sign


class Columns(NamedTuple):
    """The columns of records.

    Attributes:
        schema: the columns. One is NOT NULL if each record has a value for it: its field
            has neither null nor a default.
        remarks: the fields that are left out or not held whole, each with the reason.
        messages: of Protobuf, the full names of all messages at the top of the schema;
            the columns are those of the first, unless another was asked for.
    """

    schema: T.StructType
    remarks: list[str]
    messages: list[str]


def columns_of(schema: Schema, what: str, message: str | None = None) -> Columns:
    """Return the columns with which the parser of a schema's kind reads its records.

    Args:
        schema: the schema.
        what: its name for messages, such as "subject orders-value".
        message: of Protobuf, the full name of the message; None for the first one.

    Raises:
        InvalidInputError: the schema cannot be read, its values have no fields, no field
            can be a column, or there is no such message.
        MissingExtraError: the library for the schema's kind is not installed.
    """
    readers = {"AVRO": _of_avro, "JSON": _of_json, "PROTOBUF": _of_protobuf}
    reject_unknown("kind of schema", [schema.kind], readers)
    try:
        found = readers[schema.kind](schema, what, message)
    except InvalidInputError:
        raise
    except _UnheldError as err:
        raise InvalidInputError(
            f"the records of {what} give no columns: {err}; {_AS_THEY_ARE}"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError) as err:
        raise InvalidInputError(
            f"the schema of {what} cannot be read: {err}; correct it in the registry"
        ) from None
    if not found.schema.fields:
        why = found.remarks[0] if found.remarks else "it has no fields"
        raise InvalidInputError(
            f"the records of {what} give no columns: {why}; {_AS_THEY_ARE}"
        )
    return found


def merged(found: Sequence[T.StructType]) -> tuple[T.StructType, list[str]]:
    """Return the columns of records of several schemas, and how these differ.

    Args:
        found: the columns of each schema, the newest first, whose types count.

    Returns:
        The columns, which are NOT NULL where each schema has them so; and a remark for
        each column with another type in an older schema.

    Examples:
        >>> new = T.StructType().add("a", "long", False).add("b", "integer", False)
        >>> both, remarks = merged([new, T.StructType().add("a", "integer", False)])
        >>> both.simpleString(), [field.nullable for field in both], remarks
        ('struct<a:bigint,b:int>', [False, True], ['a is int in an older schema'])
    """
    remarks: list[str] = []
    whole = found[0]
    for older in found[1:]:
        whole = _both(whole, older, "", remarks)
    return whole, remarks


def _both(
    newer: T.StructType, older: T.StructType, path: str, remarks: list[str]
) -> T.StructType:
    before = {field.name: field for field in older}
    fields = []
    for field in newer:
        former = before.pop(field.name, None)
        kind = field.dataType
        nullable = field.nullable or former is None or former.nullable
        if former is not None and former.dataType != kind:
            name = f"{path}{field.name}"
            if isinstance(kind, T.StructType) and isinstance(
                former.dataType, T.StructType
            ):
                kind = _both(kind, former.dataType, f"{name}.", remarks)
            else:
                other = former.dataType.simpleString()
                remarks.append(f"{name} is {other} in an older schema")
        fields.append(T.StructField(field.name, kind, nullable))
    only_before = [
        T.StructField(field.name, field.dataType) for field in before.values()
    ]
    return T.StructType(fields + only_before)


class _UnheldError(Exception):
    """No type of Spark holds a field; the message is the reason."""


class _Fields:
    """Collects the fields of a record, and says which are left out."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._path: list[str] = []
        self._open: list[tuple[str, str]] = []

    @contextmanager
    def inside(self, name: str, document: str = "") -> Iterator[None]:
        """Be within a type with a name, for the length of a `with` block.

        Args:
            name: the name.
            document: the text in which it is the name of this type.

        Raises:
            _UnheldError: the type is within itself.
        """
        if (name, document) in self._open:
            raise _UnheldError(f"{name} is within itself, without an end")
        self._open.append((name, document))
        try:
            yield
        finally:
            self._open.pop()

    def remark(self, text: str) -> None:
        """Say something of the field that is being read."""
        self.remarks.append(f"{'.'.join(self._path)} {text}")

    def struct(self, fields: Mapping[str, Callable[[], T.StructField]]) -> T.StructType:
        """Return the struct of fields, by name, without those that cannot be held.

        Raises:
            _UnheldError: not one can be held, or the type is within itself.
        """
        found = T.StructType()
        is_top = not self._path
        taken = {*_TAKEN} if is_top else set()
        for name, read in fields.items():
            self._path.append(name)
            try:
                if name.lower() in taken:
                    self.remark("is left out: its name is taken")
                else:
                    found.add(read())
                taken.add(name.lower())
            except _UnheldError as err:
                self.remark(f"is left out: {err}")
            finally:
                self._path.pop()
        if not found.fields and not is_top:
            raise _UnheldError("it has no fields")
        return found


# --- Avro


_AVRO: dict[str, T.DataType] = {
    "boolean": T.BooleanType(),
    "bytes": T.BinaryType(),
    "double": T.DoubleType(),
    "enum": T.StringType(),
    "fixed": T.BinaryType(),
    "float": T.FloatType(),
    "int": T.IntegerType(),
    "int date": T.DateType(),
    "long": T.LongType(),
    "long local-timestamp-micros": T.TimestampNTZType(),
    "long local-timestamp-millis": T.TimestampNTZType(),
    "long timestamp-micros": T.TimestampType(),
    "long timestamp-millis": T.TimestampType(),
    "string": T.StringType(),
}
_TIMES_OF_A_DAY = ("int time-millis", "long time-micros")


def _of_avro(schema: Schema, what: str, _: str | None) -> Columns:
    need("sparkstream schema", "avro", "fastavro")
    found = whole(schema)
    if not isinstance(found, dict) or found["type"] not in ("record", "error"):
        raise InvalidInputError(
            f"the schema of {what} is no record with fields, which"
            f" quarantine.parse_avro reads; {_AS_THEY_ARE}"
        )
    reader = _Avro()
    return Columns(reader.record(found), reader.fields.remarks, [])


class _Avro:
    def __init__(self) -> None:
        self.fields = _Fields()
        self._named: dict[str, Any] = {}

    def record(self, schema: Any) -> T.StructType:
        def reader(field: Any) -> Callable[[], T.StructField]:
            return lambda: self._field(field)

        with self.fields.inside(schema["name"]):
            return self.fields.struct(
                {each["name"]: reader(each) for each in schema["fields"]}
            )

    def _field(self, field: Any) -> T.StructField:
        kind, nullable = self._type(field["type"])
        # A reader of records from before the field takes the default
        nullable = nullable or "default" in field
        return T.StructField(field["name"], kind, nullable)

    def _type(self, schema: Any) -> tuple[T.DataType, bool]:
        """Return the type of a schema, and whether its values may be null."""
        if isinstance(schema, list):
            others = [each for each in schema if self._base(each) != "null"]
            return self._one_of(others), len(others) < len(schema)
        return self._one_of([schema]), self._base(schema) == "null"

    def _one_of(self, schemas: list[Any]) -> T.DataType:
        kinds: list[T.DataType] = []
        for each in schemas:
            kind = self._plain(each)
            if kind not in kinds:
                kinds.append(kind)
        if len(kinds) == 1:
            return kinds[0]
        if {*map(type, kinds)} == {T.IntegerType, T.LongType}:
            return T.LongType()
        names = ", ".join(kind.simpleString() for kind in kinds)
        raise _UnheldError(f"it is one of several types ({names or 'none'})")

    def _plain(self, schema: Any) -> T.DataType:
        if isinstance(schema, str):
            schema = self._named.get(schema, {"type": schema})
        if "name" in schema:
            self._named[schema["name"]] = schema
        base = schema["type"]
        if base in ("record", "error"):
            return self.record(schema)
        if base == "array":
            return T.ArrayType(*self._type(schema["items"]))
        if base == "map":
            return T.MapType(T.StringType(), *self._type(schema["values"]))
        return self._scalar(base, schema)

    def _scalar(self, base: str, schema: Any) -> T.DataType:
        logical = schema.get("logicalType", "")
        if logical == "decimal":
            return self._decimal(schema["precision"], schema.get("scale", 0))
        name = f"{base} {logical}"
        if name in _TIMES_OF_A_DAY:
            raise _UnheldError("it is a time of a day, for which Spark has no type")
        if base not in _AVRO:
            raise _UnheldError(f"its type is {base}")
        return _AVRO.get(name, _AVRO[base])

    def _decimal(self, precision: int, scale: int) -> T.DataType:
        if precision <= _MOST_DIGITS:
            return T.DecimalType(precision, scale)
        self.fields.remark(
            f"is a decimal of {precision} digits, and Spark holds {_MOST_DIGITS}: longer"
            " values make a record bad"
        )
        return T.DecimalType(_MOST_DIGITS, min(scale, _MOST_DIGITS))

    def _base(self, schema: Any) -> str:
        return str(schema["type"] if isinstance(schema, dict) else schema)


# --- Protobuf


_PROTOBUF: dict[str, T.DataType] = {
    "BOOL": T.BooleanType(),
    "BYTES": T.BinaryType(),
    "DOUBLE": T.DoubleType(),
    "ENUM": T.StringType(),
    "FIXED32": T.LongType(),
    "FIXED64": _UNSIGNED,
    "FLOAT": T.FloatType(),
    "INT32": T.IntegerType(),
    "INT64": T.LongType(),
    "SFIXED32": T.IntegerType(),
    "SFIXED64": T.LongType(),
    "SINT32": T.IntegerType(),
    "SINT64": T.LongType(),
    "STRING": T.StringType(),
    "UINT32": T.LongType(),
    "UINT64": _UNSIGNED,
}
_WELL_KNOWN: dict[str, T.DataType] = {
    "BoolValue": T.BooleanType(),
    "BytesValue": T.BinaryType(),
    "DoubleValue": T.DoubleType(),
    "Duration": T.DayTimeIntervalType(),
    "FloatValue": T.FloatType(),
    "Int32Value": T.IntegerType(),
    "Int64Value": T.LongType(),
    "ListValue": T.StringType(),
    "StringValue": T.StringType(),
    "Struct": T.StringType(),
    "Timestamp": T.TimestampType(),
    "UInt32Value": T.LongType(),
    "UInt64Value": _UNSIGNED,
    "Value": T.StringType(),
}


def _of_protobuf(schema: Schema, what: str, message: str | None) -> Columns:
    need("sparkstream schema", "protobuf", "google.protobuf", "grpc_tools")
    messages = Messages(compiled(schema))
    names = messages.names()
    if message is None and not names:
        raise InvalidInputError(
            f"the schema of {what} has no message; register one with a message"
        )
    wanted = message or names[0]
    try:
        descriptor = messages.of(wanted).DESCRIPTOR
    except LookupError:
        raise InvalidInputError(
            f"the schema of {what} has no message {wanted}; known: {', '.join(names)}"
        ) from None
    reader = _Protobuf()
    return Columns(reader.message(descriptor), reader.fields.remarks, names)


class _Protobuf:
    def __init__(self) -> None:
        from google.protobuf.descriptor import FieldDescriptor

        self.fields = _Fields()
        self._names = {
            getattr(FieldDescriptor, f"TYPE_{name}"): name for name in _PROTOBUF
        }

    def message(self, descriptor: Any) -> T.StructType:
        def reader(field: Any) -> Callable[[], T.StructField]:
            return lambda: self._field(field)

        with self.fields.inside(descriptor.full_name):
            return self.fields.struct(
                {each.name: reader(each) for each in descriptor.fields}
            )

    def _field(self, field: Any) -> T.StructField:
        return T.StructField(field.name, self._type(field), not field.is_required)

    def _type(self, field: Any) -> T.DataType:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            key = self._plain(entry.fields_by_name["key"])
            if isinstance(key, T.DecimalType):
                key = T.LongType()  # no decimal is the key of a map here
            value = self._plain(entry.fields_by_name["value"])
            return T.MapType(key, value, valueContainsNull=False)
        kind = self._plain(field)
        if field.is_repeated:
            return T.ArrayType(kind, containsNull=False)
        return kind

    def _plain(self, field: Any) -> T.DataType:
        message = field.message_type
        if message is None:
            return _PROTOBUF[self._names[field.type]]
        package, _, name = message.full_name.rpartition(".")
        if package == "google.protobuf" and name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        return self.message(message)


# --- JSON Schema


_JSON: dict[str, T.DataType] = {
    "boolean": T.BooleanType(),
    "integer": T.LongType(),
    "number": T.DoubleType(),
    "string": T.StringType(),
}
_FORMATS: dict[str, T.DataType] = {"date": T.DateType(), "date-time": T.TimestampType()}


def _of_json(schema: Schema, what: str, _: str | None) -> Columns:
    texts = {name: each.text for name, each in schema.imported().items()}
    reader = _Json(schema.text, texts)
    kind, _nullable = reader.type(reader.root, schema.text)
    if not isinstance(kind, T.StructType):
        raise InvalidInputError(
            f"the schema of {what} is no object with properties, which"
            " quarantine.parse_json reads into columns; give it a column of type VARIANT"
        )
    return Columns(kind, reader.fields.remarks, [])


class _Json:
    """Reads a schema of JSON.

    Args:
        text: the schema.
        others: the texts of the schemas that it refers to, by their addresses in `$ref`.
    """

    def __init__(self, text: str, others: Mapping[str, str]) -> None:
        self.fields = _Fields()
        self.root = json.loads(text)
        self._others = others

    def type(self, schema: Any, document: str) -> tuple[T.DataType, bool]:
        """Return the type of a schema, and whether null is allowed; VARIANT for any value.

        Args:
            schema: the schema, which is a part of `document`.
            document: the text in which its references are.
        """
        if not isinstance(schema, dict):
            return T.VariantType(), True
        if "$ref" in schema:
            found, document = self._referred(schema["$ref"], document)
            with self.fields.inside(schema["$ref"], document):
                return self.type(found, document)
        branches = _branches(schema)
        others = [each for each in branches if each.get("type") != "null"]
        nullable = len(others) < len(branches)
        if len(branches) > 1 or branches[0] is not schema:
            kinds: list[T.DataType] = []
            for each in others:
                kind, is_null_too = self.type(each, document)
                nullable = nullable or is_null_too
                if kind not in kinds:
                    kinds.append(kind)
            return _common(kinds), nullable
        return self._plain(schema, document)

    def _plain(self, schema: dict[str, Any], document: str) -> tuple[T.DataType, bool]:
        name = schema.get("type", "object" if "properties" in schema else "")
        if name == "object":
            return self._object(schema, document), False
        if name == "array":
            items = schema.get("items", {})
            return T.ArrayType(*self.type(items, document)), False
        if name == "string" and schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]], False
        if name in _JSON:
            return _JSON[name], False
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if values and all(isinstance(each, str) for each in values):
            return T.StringType(), False
        return T.VariantType(), True

    def _object(self, schema: dict[str, Any], document: str) -> T.DataType:
        required = schema.get("required", [])

        def reader(name: str, part: Any) -> Callable[[], T.StructField]:
            return lambda: self._property(name, part, document, name in required)

        properties = schema.get("properties", {})
        if properties:
            return self.fields.struct(
                {name: reader(name, part) for name, part in properties.items()}
            )
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            return T.MapType(T.StringType(), *self.type(values, document))
        return T.VariantType()

    def _property(
        self, name: str, part: Any, document: str, required: bool
    ) -> T.StructField:
        kind, nullable = self.type(part, document)
        has_default = isinstance(part, dict) and "default" in part
        return T.StructField(name, kind, nullable or has_default or not required)

    def _referred(self, address: str, document: str) -> tuple[Any, str]:
        """Return the schema at an address, and the text of the document in which it is.

        Raises:
            LookupError: there is none.
        """
        name, _, pointer = address.partition("#")
        if name:
            document = self._others[name]
        found = json.loads(document)
        for step in unquote(pointer).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
        return found, document


def _branches(schema: dict[str, Any]) -> list[Any]:
    """Return the schemas of which a value fits one; the schema itself if it has no branches."""
    for word in ("oneOf", "anyOf", "allOf"):
        found = schema.get(word)
        if isinstance(found, list) and (word != "allOf" or len(found) == 1):
            return [each if isinstance(each, dict) else {} for each in found]
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return [schema]


def _common(kinds: list[T.DataType]) -> T.DataType:
    """Return a type that holds values of each of these types."""
    if len(kinds) == 1:
        return kinds[0]
    if {*map(type, kinds)} == {T.LongType, T.DoubleType}:
        return T.DoubleType()
    return T.VariantType()
