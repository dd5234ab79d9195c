"""Extra: write a data contract (ODCS) for a schema, as a start for its authors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import types as T

from sparkstream_kit._internal.columns import holds

if TYPE_CHECKING:
    from open_data_contract_standard.model import SchemaProperty

_VERSION = "v3.1.0"
_VERSION_WITH_MAPS = "v3.2.0"  # the first one that has them
_LOGICAL: dict[type[T.DataType], str] = {
    T.ArrayType: "array",
    T.BooleanType: "boolean",
    T.ByteType: "integer",
    T.DateType: "date",
    T.DecimalType: "number",
    T.DoubleType: "number",
    T.FloatType: "number",
    T.IntegerType: "integer",
    T.LongType: "integer",
    T.MapType: "map",
    T.ShortType: "integer",
    T.StructType: "object",
    T.TimestampNTZType: "timestamp",
    T.TimestampType: "timestamp",
    T.VariantType: "object",
}


def draft(schema: T.StructType, name: str) -> str:
    """Write a contract as text: its columns and their types, and no rules.

    Args:
        schema: the columns.
        name: the name of the table.
    """
    from open_data_contract_standard.model import OpenDataContractStandard, SchemaObject

    table = SchemaObject(
        name=name,
        logicalType="object",
        properties=[_property(field) for field in schema],
    )
    version = _VERSION_WITH_MAPS if holds(schema, T.MapType) else _VERSION
    contract = OpenDataContractStandard(
        apiVersion=version,
        kind="DataContract",
        id=name,
        name=name,
        version="0.1.0",
        status="draft",
        schema=[table],
    )
    return contract.to_yaml()


def _property(field: T.StructField) -> SchemaProperty:
    """Return a column as a property of a contract."""
    part = _part(field.dataType)
    part.name = field.name
    part.description = field.metadata.get("comment")
    if not field.nullable:
        part.required = True
    return part


def _part(kind: T.DataType, *, nullable: bool = True) -> SchemaProperty:
    """Return a type as a property without a name."""
    from open_data_contract_standard.model import MapDefinition, SchemaProperty

    part = SchemaProperty(logicalType=_LOGICAL.get(type(kind), "string"))
    if not nullable:
        part.required = True
    if isinstance(kind, T.StructType):
        part.properties = [_property(field) for field in kind]
    elif isinstance(kind, T.ArrayType):
        part.items = _part(kind.elementType, nullable=kind.containsNull)
    elif isinstance(kind, T.MapType):
        value = _part(kind.valueType, nullable=kind.valueContainsNull)
        part.map = MapDefinition(key=_part(kind.keyType), value=value)
    elif isinstance(kind, T.FloatType):
        part.physicalType = "real"  # FLOAT has 8 bytes in most databases
    else:
        part.physicalType = str(kind.simpleString())
    return part
