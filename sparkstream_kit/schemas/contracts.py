"""Extra: contracts of data (ODCS, the Open Data Contract Standard): their columns as Spark's types.

`schemas.from_contract` and `schemas.formats_of` are the public functions. `read` reads a
contract with the library of the standard and refuses what it would pass over, such as a
misspelt key. `kind_of` decides the type of a column: the logical type says what it is,
and the physical type how many digits and bits it has. Rules are made of a contract by
`quarantine.contracts`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pyspark.sql import types as T

from sparkstream_kit._internal.columns import refuse_twice
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.schemas.physical import physical_type, word_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from open_data_contract_standard.model import (
        OpenDataContractStandard,
        SchemaObject,
        SchemaProperty,
    )

    Say = Callable[[str], None]


# The minor version of the standard whose words are known here
_MAJOR = 3
_MINOR = 2

_RANGE = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
# By the logical type: the options that the standard has for it
_OPTIONS: dict[str, tuple[str, ...]] = {
    "array": ("minItems", "maxItems", "uniqueItems"),
    "boolean": (),
    "date": (*_RANGE, "format"),
    "integer": (*_RANGE, "format", "multipleOf"),
    "map": (),
    "number": (*_RANGE, "format", "multipleOf"),
    "object": ("minProperties", "maxProperties", "required"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "time": (*_RANGE, "format", "timezone", "defaultTimezone"),
    "timestamp": (*_RANGE, "format", "timezone", "defaultTimezone"),
    "vector": (
        "dimensions",
        "elementType",
        "distanceMetric",
        "embeddingModel",
        "embeddingModelVersion",
        "normalized",
    ),
}

_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_NUMBERS = (*_WHOLE, T.DecimalType, T.FloatType, T.DoubleType)
# By the logical type: which physical types may say more, and the type without one. A
# time of a day is a text: Spark's readers have no type for it.
_SCALARS: dict[str, tuple[tuple[type[T.DataType], ...], T.DataType]] = {
    "boolean": ((T.BooleanType,), T.BooleanType()),
    "date": ((T.DateType,), T.DateType()),
    "integer": ((*_WHOLE, T.DecimalType), T.LongType()),
    "number": (_NUMBERS, T.DoubleType()),
    "string": ((T.StringType, T.BinaryType), T.StringType()),
    "time": ((T.StringType,), T.StringType()),
    "timestamp": ((T.TimestampType, T.TimestampNTZType), T.TimestampType()),
}
# The option `format` of numbers has Rust's names. Spark has no unsigned types, so each
# of these is the next bigger one.
_FORMATS: dict[str, T.DataType] = {
    "f32": T.FloatType(),
    "f64": T.DoubleType(),
    "i8": T.ByteType(),
    "i16": T.ShortType(),
    "i32": T.IntegerType(),
    "i64": T.LongType(),
    "i128": T.DecimalType(38, 0),
    "u8": T.ShortType(),
    "u16": T.IntegerType(),
    "u32": T.LongType(),
    "u64": T.DecimalType(20, 0),
    "u128": T.DecimalType(38, 0),
}
_ELEMENTS: dict[str, T.DataType] = {
    "float64": T.DoubleType(),
    "int8": T.ByteType(),
    "uint8": T.ShortType(),
}
# Patterns of dates and times that the kit reads without one
_ISO_DATE = re.compile("(?:[yu]{4}|YYYY)-MM-(?:dd|DD)")
_ISO_TIME = re.compile(
    _ISO_DATE.pattern + r"[T ]HH:mm(?::ss(?:\.S+)?)? ?(?:Z+|[Xx]+|z)?"
)


class Formats(TypedDict, total=False):
    """Patterns of dates and times, as a parser takes them; none for ISO 8601."""

    date_format: str
    timestamp_format: str


@dataclass(frozen=True)
class Contract:
    """A contract that has been read.

    Attributes:
        path: the file.
        version: the version of the standard, such as "3.1.0".
        model: what the library of the standard has read.
        remarks: what in the file has no effect here, in words.
    """

    path: str
    version: str
    model: OpenDataContractStandard
    remarks: list[str] = field(default_factory=list)

    @property
    def tables(self) -> list[SchemaObject]:
        """The objects of the contract: tables, topics, files."""
        return self.model.schema_ or []

    def table(self, name: str | None) -> SchemaObject:
        """Return an object by its name or physical name; the only one if no name is given.

        Raises:
            InvalidInputError: there is no such object, or a name is needed.
        """
        names = [str(table.name) for table in self.tables]
        if name is None:
            if len(names) == 1:
                return self.tables[0]
            raise InvalidInputError(
                f"{self.path} has {len(names)} objects in its schema; name one of them:"
                f" {', '.join(names)}"
            )
        for table in self.tables:
            if name in (table.name, table.physicalName):
                return table
        raise InvalidInputError(
            f"{self.path} has no object {name} in its schema{hint(name, names)}; it has:"
            f" {', '.join(names)}"
        )


# --- reading


def read(call: str, path: str | os.PathLike[str]) -> Contract:
    """Read a contract, and refuse what the library of the standard would pass over.

    Args:
        call: the function that needs it, for the message.
        path: a file on this machine.

    Raises:
        InvalidInputError: the file cannot be read, is no contract of ODCS 3, or has a
            key or a value that the standard does not allow.
        MissingExtraError: the library is not installed.
    """
    need(call, "contract", "open_data_contract_standard", "yaml")
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError

    raw = _loaded(str(path))
    version, is_newer = _version(str(path), raw)
    remarks: list[str] = []
    for place, key, near in _unknown_at_top(raw, OpenDataContractStandard.model_fields):
        _refuse_or_note(f"{path}: {place}", key, near, remarks, is_newer=is_newer)
        del raw[key]
    _as_now(raw)
    try:
        model = OpenDataContractStandard.model_validate(raw)
    except ValidationError as err:
        first = err.errors()[0]
        raise InvalidInputError(
            f"{path}: {_place(raw, first['loc'])}: {first['msg']}; correct the contract"
        ) from None
    for place, key, near in _unknown(raw):
        _refuse_or_note(f"{path}: {place}", key, near, remarks, is_newer=is_newer)
    contract = Contract(str(path), version, model, remarks)
    _check_names(contract)
    return contract


def _loaded(path: str) -> dict[str, Any]:
    """Return the content of a file of YAML.

    Raises:
        InvalidInputError: the file cannot be read, is no YAML, has a key twice, or is no
            mapping.
    """
    import yaml

    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        why = getattr(err, "strerror", None) or "it is not UTF-8"
        raise InvalidInputError(
            f"cannot read the contract {path}: {why}; give the path of its file"
        ) from None
    try:
        twice = next(_twice(yaml.compose(text, Loader=yaml.SafeLoader)), None)
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        mistake = " ".join(str(err).split())
        raise InvalidInputError(
            f"the contract {path} is no YAML: {mistake}; correct it"
        ) from None
    if twice is not None:
        raise InvalidInputError(
            f"the contract {path} has the key {twice} twice, of which YAML keeps one;"
            " remove the other"
        )
    if not isinstance(raw, dict):
        raise InvalidInputError(
            f"{path} is no contract; give a file of ODCS 3, such as orders.odcs.yaml"
        )
    return raw


def _twice(node: Any) -> Iterator[str]:
    """Yield each key that occurs twice in a mapping of YAML, with its line."""
    if node is None or isinstance(node.value, str):
        return
    seen = set()
    for part in node.value:
        inner = part
        if isinstance(part, tuple):
            key, inner = part
            # A key can be a list, too: {{ name }} of a template that was not filled in
            if isinstance(key.value, str):
                if key.value in seen:
                    yield f"{key.value} (line {key.start_mark.line + 1})"
                seen.add(key.value)
        yield from _twice(inner)


def _version(path: str, raw: dict[str, Any]) -> tuple[str, bool]:
    """Return the version of the standard, and whether it is newer than the known one.

    Raises:
        InvalidInputError: the file is of no version of ODCS, or of another major one.
    """
    given = raw.get("apiVersion")
    found = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?.*", str(given))
    if raw.get("kind", "DataContract") != "DataContract" or found is None:
        raise InvalidInputError(
            f"{path} is no contract of ODCS; it needs kind: DataContract and an"
            " apiVersion, such as v3.1.0"
        )
    major = int(found[1])
    minor = int(found[2])
    version = str(given).removeprefix("v")
    if major < _MAJOR:
        raise InvalidInputError(
            f"{path} is of ODCS {version}, and this reads ODCS {_MAJOR}; ask for the"
            " contract in the newer form, or convert it"
        )
    if major > _MAJOR:
        raise InvalidInputError(
            f"{path} is of ODCS {version}, and this reads ODCS {_MAJOR}; use a newer"
            " sparkstream-kit"
        )
    return version, minor > _MINOR


def _as_now(node: Any) -> None:
    """Move what has another place since ODCS 3.1 there: the valid values of a rule."""
    if isinstance(node, list):
        for each in node:
            _as_now(each)
    if isinstance(node, dict):
        if "validValues" in node and ("rule" in node or "metric" in node):
            arguments = node.get("arguments") or {}
            if isinstance(arguments, dict):
                arguments.setdefault("validValues", node.pop("validValues"))
                node["arguments"] = arguments
        for each in node.values():
            _as_now(each)


def _place(raw: Any, location: Iterable[int | str]) -> str:
    """Return a place in a contract, in which names stand for the numbers of a list.

    Examples:
        >>> _place({"schema": [{"name": "orders"}]}, ["schema", 0, "logicalType"])
        'schema.orders.logicalType'
    """
    words = []
    node = raw
    for step in location:
        try:
            node = node[step]
        except (LookupError, TypeError):
            node = None
        word = str(step)
        if isinstance(step, int) and isinstance(node, dict):
            word = str(node.get("name") or node.get("metric") or step)
        words.append(word)
    return ".".join(words)


def _refuse_or_note(
    where: str, key: str, near: str, remarks: list[str], *, is_newer: bool
) -> None:
    """Refuse an unknown key that is like a known one; remark on any other.

    A newer version of the standard may have the key.
    """
    if near and not is_newer:
        raise InvalidInputError(f"{where}: unknown key of a contract: {key}{near}")
    remarks.append(f"{where}: {key} is not known here, and has no effect")


def _unknown_at_top(
    raw: dict[str, Any], fields: dict[str, Any]
) -> list[tuple[str, Any, str]]:
    known = [name.rstrip("_") for name in fields]  # schema_ is `schema`
    return [
        ("the contract", key, hint(str(key), known)) for key in raw if key not in known
    ]


def _unknown(raw: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each unknown key of an object, and what may be meant."""
    from open_data_contract_standard.model import SchemaObject

    for table in raw.get("schema") or []:
        name = str(table.get("name"))
        yield from _unknown_in(table, name, SchemaObject.model_fields)
        for part in table.get("properties") or []:
            yield from _unknown_of_property(part, f"{name}.{part.get('name')}")


def _unknown_of_property(
    raw: dict[str, Any], place: str
) -> Iterator[tuple[str, str, str]]:
    from open_data_contract_standard.model import SchemaProperty

    yield from _unknown_in(raw, place, SchemaProperty.model_fields)
    logical = raw.get("logicalType")
    # Without a logical type it could be any of the options
    every = {*chain.from_iterable(_OPTIONS.values())}
    options = _OPTIONS.get(str(logical), every)
    if logical is not None and logical not in _OPTIONS:
        yield place, f"logicalType {logical}", hint(str(logical), _OPTIONS)
    for key in raw.get("logicalTypeOptions") or {}:
        if key not in options:
            yield place, str(key), hint(str(key), options)
    for part in raw.get("properties") or []:
        yield from _unknown_of_property(part, f"{place}.{part.get('name')}")
    if raw.get("items"):
        yield from _unknown_of_property(raw["items"], f"{place}[]")
    for part in (raw.get("map") or {}).values():
        if isinstance(part, dict):
            yield from _unknown_of_property(part, f"{place}[]")


def _unknown_in(
    raw: dict[str, Any], place: str, fields: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield each unknown key of an object or a property, and of its rules."""
    from open_data_contract_standard.model import DataQuality

    for key in raw:
        if key not in fields:
            yield place, str(key), hint(str(key), fields)
    for rule in raw.get("quality") or []:
        for key in rule:
            if key not in DataQuality.model_fields:
                near = hint(str(key), DataQuality.model_fields)
                yield f"{place}: quality", str(key), near


def _check_names(contract: Contract) -> None:
    """Refuse an object or a property without a name.

    Raises:
        InvalidInputError: one has no name.
    """
    for table in contract.tables:
        if not table.name:
            raise InvalidInputError(
                f"{contract.path}: an element of the schema has no name; give it one"
            )
        for place, part in _parts(table.properties or []):
            if not part.name and not place.endswith("]"):
                outer = f"{table.name}.{place}".rpartition(".")[0]
                raise InvalidInputError(
                    f"{contract.path}: an element of {outer} has no name; give it one"
                )


# --- types


def schema_of(contract: Contract, name: str | None, say: Say) -> T.StructType:
    """Return the columns of an object of a contract.

    Args:
        contract: the contract.
        name: the object; None for the only one.
        say: called with each remark on a type.

    Raises:
        InvalidInputError: there is no such object, it has no properties, or one of them
            has a type that is not known.
    """
    table = contract.table(name)
    where = f"{contract.path}: {table.name}"
    if not table.properties:
        raise InvalidInputError(f"{where} has no properties; it needs its columns")
    return _struct(table.properties, (), where, say)


def column_name(part: SchemaProperty) -> str:
    """Return the name that a column has in the data: its physical name, if it has one."""
    return str(part.physicalName or part.name)


def columns(parts: Iterable[SchemaProperty]) -> list[SchemaProperty]:
    """Return the properties that the data have: a measure is computed from them."""
    return [part for part in parts if part.semanticType != "measure"]


def keys_of(table: SchemaObject) -> list[str]:
    """Return the columns of an object's primary key, in their order."""
    parts = [part for part in columns(table.properties or []) if part.primaryKey]
    parts.sort(key=lambda part: part.primaryKeyPosition or 0)
    return [column_name(part) for part in parts]


def is_required(part: SchemaProperty, required: Iterable[str | None] = ()) -> bool:
    """Return whether a property may not be null, by itself or by the object around it."""
    return bool(part.required) or part.name in {*required}


def options_of(part: SchemaProperty) -> dict[str, Any]:
    """Return the options of a property's logical type."""
    return part.logicalTypeOptions or {}


def required_names(part: SchemaProperty, where: str) -> list[str]:
    """Return the fields that an object needs, as its option `required` names them.

    Args:
        part: the object.
        where: its place, for messages.

    Raises:
        InvalidInputError: it is no list of names, or the object has no such field.
    """
    given = options_of(part).get("required")
    if given is None:
        return []
    is_list = isinstance(given, list)
    if not is_list or not all(isinstance(name, str) for name in given):
        raise InvalidInputError(
            f"{where}: required has {given!r}, which is not a list of names; write it"
            " like [id, time]"
        )
    names: list[str] = given
    known = [str(inner.name) for inner in part.properties or []]
    for name in names:
        if known and name not in known:
            raise InvalidInputError(
                f"{where}: required names {name}, and the object has no such property"
                f"{hint(name, known)}; it has: {', '.join(known)}"
            )
    return names


def _struct(
    parts: Iterable[SchemaProperty], required: Iterable[str], where: str, say: Say
) -> T.StructType:
    schema = T.StructType()
    for part in columns(parts):
        name = column_name(part)
        kind = kind_of(part, f"{where}.{name}", say)
        comment = {}
        if part.description:
            comment["comment"] = " ".join(part.description.split())
        schema.add(name, kind, not is_required(part, required), comment)
    refuse_twice(f"{where}: column", [name.lower() for name in schema.names])
    return schema


def kind_of(part: SchemaProperty, where: str, say: Say) -> T.DataType:
    """Return the type of a property.

    Args:
        part: the property.
        where: its place, for messages.
        say: called with each remark.

    Raises:
        InvalidInputError: it has no type that is known.
    """
    if part.logicalType == "object" or (part.properties and not part.logicalType):
        return _object(part, where, say)
    if part.logicalType == "array" or (part.items and not part.logicalType):
        return _array(part, where, say)
    if part.logicalType == "map":
        return _map(part, where, say)
    if part.logicalType == "vector":
        element = str(options_of(part).get("elementType", "float32"))
        return T.ArrayType(_ELEMENTS.get(element, T.FloatType()), containsNull=False)
    return _scalar(part, where, say)


def logical_of(part: SchemaProperty) -> str | None:
    """Return the logical type of a property.

    ODCS 3.0 has no `timestamp` and no `time`: a `date` is one of these if its physical
    type or its format says so.
    """
    if part.logicalType != "date":
        return part.logicalType
    word = word_of(part.physicalType)
    form = re.sub("'[^']*'", "", str(options_of(part).get("format") or ""))
    if isinstance(physical_type(word), (T.TimestampType, T.TimestampNTZType)):
        return "timestamp"
    has_hour = re.search("[HhKk]", form)
    if has_hour and re.search("[dD]", form):
        return "timestamp"
    if has_hour or word in ("time", "timetz"):
        return "time"
    return "date"


def _object(part: SchemaProperty, where: str, say: Say) -> T.DataType:
    if part.properties:
        required = required_names(part, where)
        return _struct(part.properties, required, where, say)
    kind = physical_type(part.physicalType)
    if isinstance(kind, (T.MapType, T.StructType)):
        return kind
    say(f"{where}: an object without properties is a VARIANT")
    return T.VariantType()


def _array(part: SchemaProperty, where: str, say: Say) -> T.DataType:
    if part.items:
        kind = kind_of(part.items, f"{where}[]", say)
        return T.ArrayType(kind, containsNull=not part.items.required)
    physical = physical_type(part.physicalType)
    if isinstance(physical, T.ArrayType):
        return physical
    say(f"{where}: an array without items has elements of VARIANT")
    return T.ArrayType(T.VariantType())


def _map(part: SchemaProperty, where: str, say: Say) -> T.DataType:
    if part.map and part.map.key and part.map.value:
        key = kind_of(part.map.key, f"{where}[key]", say)
        value = kind_of(part.map.value, f"{where}[]", say)
        return T.MapType(key, value, valueContainsNull=not part.map.value.required)
    physical = physical_type(part.physicalType)
    if isinstance(physical, T.MapType):
        return physical
    say(f"{where}: a map without types has values of VARIANT")
    return T.MapType(T.StringType(), T.VariantType())


def _scalar(part: SchemaProperty, where: str, say: Say) -> T.DataType:
    """Return the type of a property without parts.

    Raises:
        InvalidInputError: neither of its types is known.
    """
    given = part.physicalType
    physical = physical_type(given)
    logical = logical_of(part)
    if logical not in _SCALARS:
        if physical is not None:
            return physical
        shown = ", ".join(str(each) for each in (part.logicalType, given) if each)
        raise InvalidInputError(
            f"{where} has no type that is known ({shown or 'it has none'}); give it a"
            f" logicalType: {', '.join(sorted(_OPTIONS))}"
        )
    fitting, default = _SCALARS[logical]
    wanted = str(options_of(part).get("format", ""))
    kind = default
    if logical in ("integer", "number"):
        kind = _FORMATS.get(wanted, default)
    if logical == "integer" and isinstance(physical, T.DecimalType):
        physical = T.DecimalType(max(physical.precision - physical.scale, 1), 0)
    if isinstance(physical, T.DecimalType) and "(" not in str(given):
        say(f"{where}: {given} without its digits is {physical.simpleString()}")
    if isinstance(physical, fitting):
        return physical
    if given:
        say(f"{where}: physicalType {given} is read as {kind.simpleString()}")
    return kind


# --- formats of dates and times


def formats(contract: Contract, name: str | None) -> Formats:
    """Return the patterns of dates and of timestamps in an object, for a parser.

    Raises:
        InvalidInputError: two columns have different ones.
    """
    table = contract.table(name)
    where = f"{contract.path}: {table.name}"
    parts = list(_parts(table.properties or []))
    patterns = Formats()
    date_format = _one_pattern([each for each in parts if _is(each, "date")], where)
    if date_format:
        patterns["date_format"] = date_format
    times = [each for each in parts if _is(each, "timestamp")]
    timestamp_format = _one_pattern(times, where)
    if timestamp_format:
        patterns["timestamp_format"] = timestamp_format
    return patterns


def _is(placed: tuple[str, SchemaProperty], logical: str) -> bool:
    return logical_of(placed[1]) == logical


def _one_pattern(parts: list[tuple[str, SchemaProperty]], where: str) -> str | None:
    """Return the pattern that properties of one type have; None for ISO 8601.

    Raises:
        InvalidInputError: two have different ones.
    """
    places: dict[str | None, str] = {}
    for place, part in parts:
        places.setdefault(pattern_of(part), place)
    if len(places) > 1:
        each = [f"{place}: {form or 'ISO 8601'}" for form, place in places.items()]
        raise InvalidInputError(
            f"{where} has columns of one type in several formats ({', '.join(each)}), of"
            " which a parser takes one; make some of them logicalType string"
        )
    return next(iter(places), None)


def _parts(
    parts: Iterable[SchemaProperty], before: str = ""
) -> Iterator[tuple[str, SchemaProperty]]:
    """Yield the properties at all depths, with their paths."""
    for part in columns(parts):
        yield from _within(part, f"{before}{column_name(part)}")


def _within(part: SchemaProperty, place: str) -> Iterator[tuple[str, SchemaProperty]]:
    """Yield a property, and all that lies in it."""
    yield place, part
    yield from _parts(part.properties or [], f"{place}.")
    for inner, mark in inner_parts(part):
        yield from _within(inner, f"{place}{mark}")


def inner_parts(part: SchemaProperty) -> list[tuple[SchemaProperty, str]]:
    """Return the elements of an array, and the keys and values of a map, with their marks."""
    found = [(part.items, "[]")]
    if part.map:
        found += [(part.map.key, "[key]"), (part.map.value, "[]")]
    return [(inner, mark) for inner, mark in found if inner is not None]


def pattern_of(part: SchemaProperty) -> str | None:
    """Return Spark's pattern of a date or a timestamp; None for ISO, which needs none."""
    given = str(options_of(part).get("format") or "")
    plain = given.replace("'", "").strip()
    is_iso = _ISO_DATE.fullmatch(plain)
    if logical_of(part) == "timestamp":
        is_iso = is_iso or _ISO_TIME.fullmatch(plain)
    if not plain or is_iso:
        return None
    return re.sub(r"(?<=[dDMy])T(?=[HhKk])", "'T'", given)
