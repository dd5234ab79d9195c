"""Extra: columns as Avro: the schema of types, what fits a schema, and values to bytes.

`schema_of` makes a schema of Spark's types, and `check_fits` compares columns with a
schema that was given. `Encoder` runs in Spark's Python workers, with fastavro: it gets
columns by Arrow and returns records.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN: dict[type[T.DataType], Any] = {
    T.BinaryType: "bytes",
    T.BooleanType: "boolean",
    T.ByteType: "int",
    T.DateType: {"type": "int", "logicalType": "date"},
    T.DoubleType: "double",
    T.FloatType: "float",
    T.IntegerType: "int",
    T.LongType: "long",
    T.ShortType: "int",
    T.StringType: "string",
    T.TimestampNTZType: {"type": "long", "logicalType": "local-timestamp-micros"},
    T.TimestampType: {"type": "long", "logicalType": "timestamp-micros"},
}
# Avro's types that hold each of Spark's exactly, with their logical types
_FITTING: dict[type[T.DataType], tuple[str, ...]] = {
    T.BinaryType: ("bytes", "fixed"),
    T.BooleanType: ("boolean",),
    T.ByteType: ("int", "long", "float", "double"),
    T.DateType: ("int date",),
    T.DoubleType: ("double",),
    T.FloatType: ("float", "double"),
    T.IntegerType: ("int", "long", "double"),
    T.LongType: ("long",),
    T.ShortType: ("int", "long", "float", "double"),
    T.StringType: ("string", "enum", "string uuid"),
    T.TimestampNTZType: (
        "long local-timestamp-micros",
        "long local-timestamp-millis",
    ),
    T.TimestampType: ("long timestamp-micros", "long timestamp-millis"),
}
_TIMES = ("date", "timestamp", "local-timestamp")


def schema_of(kind: T.DataType, name: str, where: str = "") -> Any:
    """Return the Avro schema of a type of Spark.

    Args:
        kind: the type.
        name: the full name of the record, if the type is a struct. The record of a
            struct within it has this name with an underscore and the field's name.
        where: the column, for messages.

    Raises:
        InvalidInputError: Avro cannot hold the type, or a name is none of Avro's.

    Examples:
        >>> columns = T.StructType().add("product", "string", nullable=False)
        >>> columns = columns.add("total", "decimal(12,2)")
        >>> product, total = schema_of(columns, "shop.Total")["fields"]
        >>> product
        {'name': 'product', 'type': 'string'}
        >>> total["type"][1]["precision"], total["default"]
        (12, None)
    """
    return _schema(kind, name, where, set())


def _schema(kind: T.DataType, name: str, where: str, taken: set[str]) -> Any:
    if isinstance(kind, T.StructType):
        return _record(kind, name, where, taken)
    if isinstance(kind, T.ArrayType):
        items = _schema(kind.elementType, name, f"{where}[]", taken)
        return {"type": "array", "items": _nullable(items, kind.containsNull)}
    if isinstance(kind, T.MapType):
        if not isinstance(kind.keyType, T.StringType):
            raise InvalidInputError(
                f"formats.avro(): column {where} is {kind.simpleString()}, and the keys"
                " of a map of Avro are texts; cast it to a map with STRING keys"
            )
        values = _schema(kind.valueType, name, f"{where}[]", taken)
        return {"type": "map", "values": _nullable(values, kind.valueContainsNull)}
    if isinstance(kind, T.DecimalType):
        return {
            "type": "bytes",
            "logicalType": "decimal",
            "precision": kind.precision,
            "scale": kind.scale,
        }
    for known, schema in _PLAIN.items():
        if isinstance(kind, known):
            return schema
    raise InvalidInputError(
        f"formats.avro(): column {where} is {kind.simpleString()}, which Avro cannot"
        " hold; cast it to a STRING, or leave it out with columns="
    )


def _nullable(schema: Any, nullable: bool) -> Any:
    return ["null", schema] if nullable else schema


def _record(kind: T.StructType, name: str, where: str, taken: set[str]) -> Any:
    for part in name.split("."):
        if not _NAME.fullmatch(part):
            raise InvalidInputError(
                f"formats.avro(): {name!r} cannot name a record of Avro, whose names"
                " have letters, digits and underscores; give name='shop.Total' or the"
                " like"
            )
    unique = name
    while unique in taken:
        unique += "_"
    taken.add(unique)
    fields = []
    for each in kind.fields:
        path = f"{where}.{each.name}" if where else each.name
        if not _NAME.fullmatch(each.name):
            raise InvalidInputError(
                f"formats.avro(): column {path} cannot name a field of Avro, whose"
                " names have letters, digits and underscores; rename it with"
                " withColumnRenamed"
            )
        schema = _schema(each.dataType, f"{name}_{each.name}", path, taken)
        made = {"name": each.name, "type": _nullable(schema, each.nullable)}
        if each.nullable:
            # Readers of the former schema's records, which lack it, have null
            made["default"] = None
        fields.append(made)
    return {"type": "record", "name": unique, "fields": fields}


def parsed(text: str, named: Mapping[str, str] | None = None) -> Any:
    """Parse a schema, and check it.

    Args:
        text: the schema, as JSON.
        named: the schemas that it refers to, each after those that itself refers to.

    Returns:
        The schema as JSON has it, with the definition of a type wherever its name
        stands: to look into it, and not to write with, as Avro defines a type once.

    Raises:
        InvalidInputError: it is not a schema.
    """
    import fastavro

    known: dict[str, Any] = {}
    try:
        for other in (named or {}).values():
            fastavro.parse_schema(json.loads(other), named_schemas=known)
        if not re.match(r'\s*[\[{"]', text):
            text = json.dumps(text)  # the bare name of a type, such as string
        return fastavro.parse_schema(json.loads(text), named_schemas=known, expand=True)
    except (
        ValueError,
        TypeError,
        LookupError,
        fastavro.schema.SchemaParseException,
    ) as err:
        raise InvalidInputError(
            f"formats.avro(): the schema cannot be read: {err}; correct it"
        ) from None


def check_fits(
    schema: Any, kind: T.DataType, *, nullable: bool = False, where: str = ""
) -> None:
    """Refuse columns that a schema cannot hold exactly.

    Args:
        schema: the schema, as `parsed` returns it.
        kind: the type of the column.
        nullable: whether the column may be null.
        where: the column, for messages.

    Raises:
        InvalidInputError: a column has no field or another type, or a field has neither
            a column nor a default.
    """
    branches = schema if isinstance(schema, list) else [schema]
    if nullable and not any(_base(each) == "null" for each in branches):
        raise InvalidInputError(
            f"formats.avro(): column {where} may be null, and its field in the schema"
            " may not; fill it with F.coalesce, or leave such rows out"
        )
    others = [each for each in branches if _base(each) != "null"]
    if len(others) == 1:
        [schema] = others
        _check_branch(schema, kind, where)
    else:
        raise InvalidInputError(
            f"formats.avro(): the field of column {where} has several types in the"
            " schema; columns can be written to a type, or to a type and null"
        )


def _check_branch(schema: Any, kind: T.DataType, where: str) -> None:
    base = _base(schema)
    if isinstance(kind, T.StructType) and base == "record":
        _check_record(schema, kind, where)
    elif isinstance(kind, T.ArrayType) and base == "array":
        check_fits(
            schema["items"],
            kind.elementType,
            nullable=kind.containsNull,
            where=f"{where}[]",
        )
    elif (
        isinstance(kind, T.MapType)
        and base == "map"
        and isinstance(kind.keyType, T.StringType)
    ):
        check_fits(
            schema["values"],
            kind.valueType,
            nullable=kind.valueContainsNull,
            where=f"{where}[]",
        )
    elif not _holds(schema, kind):
        raise InvalidInputError(
            f"formats.avro(): column {where} is {kind.simpleString()}, and the schema"
            f" has {_said(schema)} for it; cast it, or correct the schema"
        )


def _holds(schema: Any, kind: T.DataType) -> bool:
    if isinstance(kind, T.DecimalType):
        if _logical(schema) != "decimal":
            return False
        scale = schema.get("scale", 0)
        whole = schema["precision"] - scale
        return bool(scale >= kind.scale and whole >= kind.precision - kind.scale)
    name = f"{_base(schema)} {_logical(schema)}".strip()
    return any(
        name in names for known, names in _FITTING.items() if isinstance(kind, known)
    )


def _check_record(schema: Any, kind: T.StructType, where: str) -> None:
    of_schema = {each["name"]: each for each in schema["fields"]}
    columns = {each.name: each for each in kind.fields}
    for name, column in columns.items():
        path = f"{where}.{name}" if where else name
        if name not in of_schema:
            raise InvalidInputError(
                f"formats.avro(): the schema has no field for column {path}; leave it"
                " out with columns=, or add it to the schema"
            )
        check_fits(
            of_schema[name]["type"],
            column.dataType,
            nullable=column.nullable,
            where=path,
        )
    for name, each in of_schema.items():
        if name not in columns and "default" not in each:
            path = f"{where}.{name}" if where else name
            raise InvalidInputError(
                f"formats.avro(): no column for field {path} of the schema, which has no"
                " default; add the column, or give the field a default"
            )


def _base(schema: Any) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _logical(schema: Any) -> str:
    if isinstance(schema, dict):
        return str(schema.get("logicalType", ""))
    return ""


def _said(schema: Any) -> str:
    logical = _logical(schema)
    base = _base(schema)
    return f"{base} ({logical})" if logical else base


@dataclass(frozen=True)
class Encoder:
    """Encodes values in a Python worker, each with the header of Confluent's format.

    Attributes:
        number: the id of the schema.
        text: the schema, in which what it refers to is defined where it comes first.
    """

    number: int
    text: str = field(repr=False)

    @cached_property
    def schema(self) -> Any:
        """The schema, in which dates and times are plain numbers, as fastavro parses it."""
        import fastavro

        return fastavro.parse_schema(_without_times(json.loads(self.text)))

    @cached_property
    def expanded(self) -> Any:
        """The schema with the definition of a type wherever its name stands."""
        return parsed(self.text)

    def __call__(self, values: pa.Array) -> pa.Array:
        """Encode an array of values; null stays null.

        Raises:
            KitError: a value does not fit the schema, as a text that is none of an
                enum.
        """
        import fastavro
        import pyarrow as pa

        header = b"\0" + self.number.to_bytes(4, "big")
        records: list[bytes | None] = []
        try:
            rows = _rows(as_numbers(values, self.expanded))
            for row in rows:
                if row is None:
                    records.append(None)
                    continue
                record = io.BytesIO()
                record.write(header)
                fastavro.schemaless_writer(record, self.schema, row)
                records.append(record.getvalue())
        except (ValueError, TypeError, LookupError, OverflowError) as err:
            why = " ".join(str(err).split())
            raise KitError(
                f"formats.avro(): a row does not fit schema {self.number}: {why}"
            ) from None
        return pa.array(records, pa.binary())


def _without_times(schema: Any) -> Any:
    """Return a schema without the logical types of dates and times."""
    if isinstance(schema, list):
        return [_without_times(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = dict(schema)
    if _logical(schema).startswith(_TIMES):
        del changed["logicalType"]
    for name in ("type", "items", "values"):
        if isinstance(changed.get(name), dict | list):
            changed[name] = _without_times(changed[name])
    if "fields" in changed:
        changed["fields"] = [_without_times(each) for each in changed["fields"]]
    return changed


def as_numbers(values: pa.Array, schema: Any) -> pa.Array:
    """Return values with dates and times as the numbers that Avro has for them.

    Raises:
        ValueError: a time has microseconds, and the schema has milliseconds.
    """
    import pyarrow as pa

    if isinstance(schema, list):
        [schema] = [each for each in schema if _base(each) != "null"]
    kind = values.type
    if pa.types.is_timestamp(kind):
        if _logical(schema).endswith("millis"):
            values = values.cast(pa.timestamp("ms", kind.tz))
        return values.cast(pa.int64())
    if pa.types.is_date(kind):
        return values.cast(pa.int32())
    if pa.types.is_nested(kind):
        return _nested_as_numbers(values, schema)
    return values


def _nested_as_numbers(values: pa.Array, schema: Any) -> pa.Array:
    """Return structs, lists or maps with dates and times as numbers; see `as_numbers`."""
    import pyarrow as pa

    kind = values.type
    nulls = values.is_null()
    if pa.types.is_struct(kind):
        schemas = {each["name"]: each["type"] for each in schema["fields"]}
        names = [kind.field(number).name for number in range(kind.num_fields)]
        columns = [
            as_numbers(column, schemas[name])
            for name, column in zip(names, values.flatten(), strict=True)
        ]
        return pa.StructArray.from_arrays(columns, names, mask=nulls)
    if pa.types.is_map(kind):
        items = as_numbers(values.items, schema["values"])
        return pa.MapArray.from_arrays(_offsets(values), values.keys, items, mask=nulls)
    items = as_numbers(values.values, schema["items"])
    return pa.ListArray.from_arrays(_offsets(values), items, mask=nulls)


def _rows(values: pa.Array) -> list[Any]:
    """Return values as fastavro takes them; structs by columns, which is faster."""
    import pyarrow as pa

    if not pa.types.is_struct(values.type):
        rows: list[Any] = values.to_pylist(maps_as_pydicts="strict")
        return rows
    names = [values.type.field(n).name for n in range(values.type.num_fields)]
    columns = [_rows(column) for column in values.flatten()]
    found: list[Any] = [
        dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)
    ]
    for number, is_valid in enumerate(values.is_valid().to_pylist()):
        if not is_valid:
            found[number] = None
    return found


def _offsets(values: Any) -> pa.Array:
    """Return where each list or map begins, of an array without an offset of its own."""
    import pyarrow as pa

    if values.offset == 0:
        return values.offsets
    # Arrow takes no mask with offsets of a part of an array
    return pa.array(values.offsets.to_pylist(), values.offsets.type)
