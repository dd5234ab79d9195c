"""Extra: columns as JSON with a JSON Schema: the schema of types, and values to JSON.

`schema_of` makes a schema of Spark's types, and `check_fits` compares columns with a
schema that was given. `json_of` is the column of JSON, by Spark's own `to_json`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import JSON

if TYPE_CHECKING:
    from pyspark.sql import Column


_DRAFT = "http://json-schema.org/draft-07/schema#"
_PLAIN: dict[type[T.DataType], dict[str, Any]] = {
    T.BinaryType: {"type": "string", "contentEncoding": "base64"},
    T.BooleanType: {"type": "boolean"},
    T.DateType: {"type": "string", "format": "date"},
    T.DecimalType: {"type": "number"},
    T.DoubleType: {"type": "number"},
    T.FloatType: {"type": "number"},
    T.IntegralType: {"type": "integer"},
    T.StringType: {"type": "string"},
    T.TimestampNTZType: {"type": "string"},
    T.TimestampType: {"type": "string", "format": "date-time"},
}
_VALUE = "v"


def schema_of(kind: T.DataType, name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of a type of Spark.

    Objects have no other properties than those of the schema: a registry takes a new
    column only then as a change that readers can bear.

    Raises:
        InvalidInputError: JSON cannot hold the type.

    Examples:
        >>> columns = T.StructType().add("product", "string", nullable=False)
        >>> columns = columns.add("at", "date")
        >>> schema_of(columns, "Total")["properties"]["at"]
        {'oneOf': [{'type': 'null'}, {'type': 'string', 'format': 'date'}]}
        >>> schema_of(columns, "Total")["required"]
        ['product']
    """
    return {"$schema": _DRAFT, "title": name, **_schema(kind, "")}


def _schema(kind: T.DataType, where: str) -> dict[str, Any]:
    if isinstance(kind, T.StructType):
        properties = {}
        for field in kind.fields:
            path = f"{where}.{field.name}" if where else field.name
            schema = _schema(field.dataType, path)
            properties[field.name] = _nullable(schema, field.nullable)
        made: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
        required = [field.name for field in kind.fields if not field.nullable]
        if required:
            made["required"] = required
        return made
    if isinstance(kind, T.ArrayType):
        items = _schema(kind.elementType, f"{where}[]")
        return {"type": "array", "items": _nullable(items, kind.containsNull)}
    if isinstance(kind, T.MapType):
        if not isinstance(kind.keyType, T.StringType):
            raise InvalidInputError(
                f"formats.json_schema(): column {where} is {kind.simpleString()}, and"
                " the names in an object of JSON are texts; cast it to a map with"
                " STRING keys"
            )
        values = _schema(kind.valueType, f"{where}[]")
        return {
            "type": "object",
            "additionalProperties": _nullable(values, kind.valueContainsNull),
        }
    for known, schema in _PLAIN.items():
        if isinstance(kind, known):
            return dict(schema)
    raise InvalidInputError(
        f"formats.json_schema(): column {where} is {kind.simpleString()}, which JSON"
        " has no form for; cast it to a STRING, or leave it out with columns="
    )


def _nullable(schema: dict[str, Any], nullable: bool) -> dict[str, Any]:
    return {"oneOf": [{"type": "null"}, schema]} if nullable else schema


def parsed(text: str) -> dict[str, Any]:
    """Parse a schema.

    Raises:
        InvalidInputError: it is not a JSON object.
    """
    why = "it is no object"
    try:
        schema = json.loads(text)
    except ValueError as err:
        schema = None
        why = str(err)
    if not isinstance(schema, dict):
        raise InvalidInputError(
            f"formats.json_schema(): the schema cannot be read: {why}; correct it"
        )
    return schema


def check_fits(
    schema: Any, kind: T.DataType, *, nullable: bool = False, where: str = ""
) -> None:
    """Refuse columns whose JSON a schema does not allow, by its types and properties.

    Other words of the schema, such as `minimum` and `pattern`, are not looked at, and
    neither are schemas that it refers to with `$ref`.

    Raises:
        InvalidInputError: a column has no property or another type, or a property that
            the schema requires has no column.
    """
    allowed = _branches(schema)
    if allowed is None:
        return
    wanted = _schema(kind, where)["type"]
    # An integer is a number, too
    names = {wanted, "number"} if wanted == "integer" else {wanted}
    fitting = [each for each in allowed if "type" not in each or each["type"] in names]
    has_null = any(each.get("type") == "null" for each in allowed)
    if not fitting:
        found = ", ".join(str(each["type"]) for each in allowed)
        raise InvalidInputError(
            f"formats.json_schema(): column {where} is {kind.simpleString()}, and the"
            f" schema has {found} for it; cast it, or correct the schema"
        )
    if nullable and not has_null and all("type" in each for each in allowed):
        raise InvalidInputError(
            f"formats.json_schema(): column {where} may be null, and its property in"
            " the schema may not; fill it with F.coalesce, or leave such rows out"
        )
    if isinstance(kind, T.StructType):
        _check_object(fitting[0], kind, where)
    if isinstance(kind, T.ArrayType):
        items = fitting[0].get("items", {})
        check_fits(
            items, kind.elementType, nullable=kind.containsNull, where=f"{where}[]"
        )
    if isinstance(kind, T.MapType):
        values = fitting[0].get("additionalProperties", {})
        check_fits(
            values, kind.valueType, nullable=kind.valueContainsNull, where=f"{where}[]"
        )


def _branches(schema: Any) -> list[dict[str, Any]] | None:
    """Return the schemas of which one is enough, each of one type; None if it is not known."""
    if not isinstance(schema, dict) or "$ref" in schema or "allOf" in schema:
        return None
    for word in ("oneOf", "anyOf"):
        if word in schema:
            found: list[dict[str, Any]] = []
            for each in schema[word]:
                branches = _branches(each)
                if branches is None:
                    return None
                found += branches
            return found
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return [schema]


def _check_object(schema: dict[str, Any], kind: T.StructType, where: str) -> None:
    properties = schema.get("properties", {})
    columns = {field.name: field for field in kind.fields}
    for name, field in columns.items():
        path = f"{where}.{name}" if where else name
        if name in properties:
            check_fits(
                properties[name], field.dataType, nullable=field.nullable, where=path
            )
        elif schema.get("additionalProperties") is False:
            raise InvalidInputError(
                f"formats.json_schema(): the schema has no property for column {path};"
                " leave it out with columns=, or add it to the schema"
            )
    for name in schema.get("required", ()):
        if name not in columns:
            path = f"{where}.{name}" if where else name
            raise InvalidInputError(
                f"formats.json_schema(): no column for property {path}, which the"
                " schema requires; add the column"
            )


def json_of(value: Column, kind: T.DataType) -> Column:
    """Return the JSON (binary) of a column; null stays null.

    Nulls are written as null, timestamps with microseconds and offset, decimals with
    all digits, and bytes in Base64. NaN and Infinity, which JSON lacks, end the query.
    """
    text = F.to_json(F.struct(value.alias(_VALUE)), JSON)
    # Without {"v": before it, and without } behind it
    before = len(_VALUE) + 4
    bare = F.substring(text, before + 1, F.length(text) - before - 1)
    has_none = _is_not_finite(value, kind)
    if has_none is not None:
        refused = F.raise_error(
            "formats.json_schema(): JSON has no NaN and no Infinity, and a row has;"
            " make it null with F.nanvl or F.when"
        ).cast("string")
        bare = F.when(has_none, refused).otherwise(bare)
    return F.when(value.isNotNull(), bare.cast("binary"))


def _is_not_finite(value: Column, kind: T.DataType) -> Column | None:
    """Return whether a number in a column is NaN or infinite; None if it has no such numbers."""
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        return F.isnan(value) | (F.abs(value) == F.lit(float("inf")))
    found: Column | None = None
    if isinstance(kind, T.StructType):
        for field in kind.fields:
            inner = _is_not_finite(value.getField(field.name), field.dataType)
            if inner is not None:
                inner = F.coalesce(inner, F.lit(False))
                found = inner if found is None else found | inner
        return found
    if isinstance(kind, T.ArrayType):
        return _exists(value, kind.elementType)
    if isinstance(kind, T.MapType):
        return _exists(F.map_values(value), kind.valueType)
    return None


def _exists(values: Column, kind: T.DataType) -> Column | None:
    if _is_not_finite(F.lit(None), kind) is None:
        return None

    def test(value: Column) -> Column:
        found = _is_not_finite(value, kind)
        return F.lit(False) if found is None else F.coalesce(found, F.lit(False))

    return F.exists(values, test)
