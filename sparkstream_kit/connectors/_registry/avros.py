"""Schemas of Avro as the library fastavro parses them, with those that they refer to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkstream_kit.connectors._registry.client import Schema


def whole(schema: Schema) -> Any:
    """Parse a schema with fastavro, with those that it refers to in their places.

    Each type is defined once, where it comes first, as Avro wants it.

    Raises:
        ValueError: one of them is not an Avro schema.
    """
    named: dict[str, Any] = {}
    for name, other in schema.imported().items():
        # Two schemas can refer to the same third one
        if name not in named:
            parsed(_json_of(other), named)
    return parsed(_json_of(schema), named)


def text_of(parsed_schema: Any) -> str:
    """Return the JSON of a schema that fastavro has parsed, without what it has noted there."""
    return json.dumps(_without_notes(parsed_schema))


def _without_notes(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_notes(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: value for key, value in schema.items() if not key.startswith("__")}


def _json_of(schema: Schema) -> Any:
    if schema.kind != "AVRO":
        raise ValueError("not Avro")
    try:
        return json.loads(schema.text)
    except ValueError:
        return schema.text  # the bare name of a type, such as string


def parsed(schema: Any, named: dict[str, Any]) -> Any:
    """Parse a schema with fastavro.

    Args:
        schema: the schema, as parsed JSON.
        named: the types that have been defined before, to which those here are added.

    Raises:
        ValueError: it is not an Avro schema.
    """
    import fastavro

    before = dict(named)
    try:
        found = fastavro.parse_schema(schema, named)
    except (TypeError, LookupError, fastavro.schema.SchemaParseException) as err:
        raise ValueError(str(err) or type(err).__name__) from None
    if before:
        return _with_types(found, before)
    return found


def _with_types(schema: Any, missing: dict[str, Any]) -> Any:
    """Put the definitions of types that a schema only names into it, each where it comes first.

    Args:
        schema: the schema, as fastavro has parsed it.
        missing: the types, by their full names; those that are put in are removed.
    """
    if isinstance(schema, str):
        if schema in missing:
            return _with_types(missing.pop(schema), missing)
        return schema
    if isinstance(schema, list):
        return [_with_types(each, missing) for each in schema]
    whole = dict(schema)
    whole.pop("__named_schemas", None)
    if "fields" in whole:
        whole["fields"] = [
            {**field, "type": _with_types(field["type"], missing)}
            for field in whole["fields"]
        ]
    for part in ("items", "values"):
        if part in whole:
            whole[part] = _with_types(whole[part], missing)
    return whole
