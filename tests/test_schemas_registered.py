"""Columns of the schemas in a registry: what the parsers of `quarantine` can read, and no more."""

import base64
import json

import pytest
from conftest import refusal
from google.protobuf import descriptor_pb2
from pyspark.sql import types as T

from sparkstream_kit.connectors._registry.client import Reference, Schema
from sparkstream_kit.formats import avro_records, json_records
from sparkstream_kit.schemas.registered import columns_of, merged

PLAIN = [
    *(T.BinaryType(), T.BooleanType(), T.DateType(), T.DecimalType(12, 2)),
    *(T.DoubleType(), T.FloatType(), T.IntegerType(), T.LongType(), T.StringType()),
    *(T.TimestampNTZType(), T.TimestampType()),
]
ALL = T.StructType()
for _number, _kind in enumerate(PLAIN):
    ALL.add(f"a{_number}", _kind, nullable=True)
    ALL.add(f"b{_number}", _kind, nullable=False)
    ALL.add(f"c{_number}", T.ArrayType(_kind, containsNull=_number % 2 == 0))
    ALL.add(f"d{_number}", T.MapType(T.StringType(), _kind, _number % 2 == 1))
    ALL.add(f"e{_number}", T.StructType().add("x", _kind, nullable=False))


def of(kind, schema, *references, message=None):
    text = schema if kind == "PROTOBUF" else json.dumps(schema)
    return columns_of(Schema(kind, text, references), "subject s", message)


def record(*fields, name="shop.Sale"):
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": name, "type": kind, **more} for name, kind, more in fields],
    }


def shown(found):
    """Return the columns as DDL has them; ! is NOT NULL."""
    return [
        f"{field.name} {field.dataType.simpleString()}{'' if field.nullable else '!'}"
        for field in found.schema
    ]


def test_columns_of_a_schema_that_was_made_of_columns_are_the_same():
    found = columns_of(
        Schema("AVRO", json.dumps(avro_records.schema_of(ALL, "A"))), "s"
    )
    assert found.schema == ALL
    assert found.remarks == []


def test_json_that_was_made_of_columns_has_its_types_but_those_that_json_lacks():
    less = {
        "binary": "string",
        "decimal(12,2)": "double",
        "float": "double",
        "int": "bigint",
        "timestamp_ntz": "string",
    }
    schema = Schema("JSON", json.dumps(json_records.schema_of(ALL, "A")))
    found = columns_of(schema, "s")
    expected = json.dumps(ALL.jsonValue())
    for kind, other in less.items():
        name = {"int": "integer", "bigint": "long"}
        expected = expected.replace(
            f'"{name.get(kind, kind)}"', f'"{name.get(other, other)}"'
        )
    assert found.schema.jsonValue() == json.loads(expected)


def test_a_field_with_a_default_may_be_missing_in_older_records():
    schema = record(
        ("a", "int", {}),
        ("b", "int", {"default": 1}),
        ("c", ["null", "int"], {}),
        ("d", ["int", "null"], {"default": 1}),
    )
    assert shown(of("AVRO", schema)) == ["a int!", "b int", "c int", "d int"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "string!"),
        ({"type": "string", "logicalType": "uuid"}, "string!"),
        ({"type": "fixed", "name": "F", "size": 2}, "binary!"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "timestamp!"),
        ({"type": "long", "logicalType": "timestamp-nanos"}, "bigint!"),
        (["null", "int", "long"], "bigint"),
        (["string", {"type": "enum", "name": "E", "symbols": ["A"]}], "string!"),
        (
            {
                "type": "fixed",
                "name": "F",
                "size": 5,
                "logicalType": "decimal",
                "precision": 9,
                "scale": 3,
            },
            "decimal(9,3)!",
        ),
    ],
)
def test_types_of_avro(kind, expected):
    assert shown(of("AVRO", record(("x", kind, {})))) == [f"x {expected}"]


def test_what_no_column_holds_is_left_out_with_the_reason():
    time = {"type": "int", "logicalType": "time-millis"}
    long = {
        "type": "bytes",
        "logicalType": "decimal",
        "precision": 50,
        "scale": 2,
    }
    inner = record(
        ("next", ["null", "shop.Node"], {}), ("t", time, {}), name="shop.Node"
    )
    schema = record(
        ("x", "int", {}),
        ("X", "int", {}),
        ("two", ["int", "string"], {}),
        ("node", inner, {}),
        ("big", long, {}),
        ("_raw", "int", {}),
    )
    found = of("AVRO", schema)
    assert shown(found) == ["x int!", "big decimal(38,2)!"]
    assert found.remarks == [
        "X is left out: its name is taken",
        "two is left out: it is one of several types (int, string)",
        "node.next is left out: shop.Node is within itself, without an end",
        "node.t is left out: it is a time of a day, for which Spark has no type",
        "node is left out: it has no fields",
        (
            "big is a decimal of 50 digits, and Spark holds 38: longer values make a"
            " record bad"
        ),
        "_raw is left out: its name is taken",
    ]


def test_references_are_followed():
    place = record(("x", "int", {}), name="shop.Place")
    to_place = Reference("shop.Place", "p", 1, Schema("AVRO", json.dumps(place)))
    found = of(
        "AVRO", record(("p", "shop.Place", {}), ("q", "shop.Place", {})), to_place
    )
    assert shown(found) == ["p struct<x:int>!", "q struct<x:int>!"]
    text = 'syntax = "proto3"; message Place { int32 x = 1; }'
    to_proto = Reference("place.proto", "p", 1, Schema("PROTOBUF", text))
    sale = 'syntax = "proto3"; import "place.proto"; message Sale { Place p = 1; }'
    assert shown(of("PROTOBUF", sale, to_proto)) == ["p struct<x:int>"]
    document = {"definitions": {"N": {"type": "integer"}}}
    to_json = Reference("other.json", "o", 1, Schema("JSON", json.dumps(document)))
    parts = {"properties": {"n": {"$ref": "other.json#/definitions/N"}}}
    assert shown(of("JSON", parts, to_json)) == ["n bigint"]


def test_a_file_of_protobuf_may_be_its_descriptor_beside_others_that_are_texts():
    """As Confluent's serializers register it, and some registries give it back."""
    place = descriptor_pb2.FileDescriptorProto(name="any.proto", syntax="proto3")
    place.message_type.add(name="Place").field.add(name="x", number=1, type=5, label=1)
    first = base64.b64encode(place.SerializeToString()).decode()
    sale = descriptor_pb2.FileDescriptorProto(name="place.proto", syntax="proto3")
    sale.dependency.append("place.proto")
    sale.message_type.add(name="Sale").field.add(
        name="p", number=1, type=11, type_name=".Place", label=1
    )
    second = base64.b64encode(sale.SerializeToString()).decode()
    as_text = 'syntax = "proto3"; import "place.proto"; message Sale { Place p = 1; }'
    text = 'syntax = "proto3"; message Place { int32 x = 1; }'
    for given, other in [(second, first), (second, text), (as_text, first)]:
        to_place = Reference("place.proto", "p", 1, Schema("PROTOBUF", other))
        assert shown(of("PROTOBUF", given, to_place)) == ["p struct<x:int>"]


def test_types_of_protobuf():
    text = """syntax = "proto2"; package shop;
        import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
        import "google/protobuf/struct.proto"; import "google/protobuf/duration.proto";
        message Sale { required int32 a = 1; optional uint32 b = 2; repeated fixed64 c = 3;
          map<uint64, Line> d = 4; optional Kind e = 5; optional bytes f = 6;
          optional google.protobuf.Timestamp g = 7; optional google.protobuf.UInt64Value h = 8;
          optional google.protobuf.Struct i = 9; optional google.protobuf.Duration j = 10;
          oneof k { sint64 l = 11; string m = 12; } optional Line n = 13; optional No o = 14; }
        message Line { optional double x = 1; repeated Line lines = 2; }
        message No { }
        enum Kind { GOOD = 0; }"""
    found = of("PROTOBUF", text)
    assert shown(found) == [
        *("a int!", "b bigint", "c array<decimal(20,0)>"),
        *("d map<bigint,struct<x:double>>", "e string", "f binary", "g timestamp"),
        *("h decimal(20,0)", "i string", "j interval day to second"),
        *("l bigint", "m string", "n struct<x:double>"),
    ]
    assert found.remarks[-1] == "o is left out: it has no fields"
    assert found.messages == ["shop.Sale", "shop.Line", "shop.No"]
    assert shown(of("PROTOBUF", text, message="shop.Line")) == ["x double"]
    message = refusal(of, "PROTOBUF", text, message="Line")
    assert "has no message Line; known: shop.Sale, shop.Line, shop.No" in message


def test_types_of_json():
    schema = {
        "properties": {
            "a": {"type": ["null", "integer"]},
            "b": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
            "c": {"type": ["string", "integer"]},
            "d": {"enum": ["x", "y"]},
            "e": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "f": {"type": "object"},
            "g": {"$ref": "#/$defs/G~1G"},
            "h": {"type": "array"},
            "i": True,
            "j": {"allOf": [{"$ref": "#/$defs/G~1G"}]},
            "k": {"type": "string", "default": ""},
        },
        "required": ["a", "b", "d", "g", "i", "k"],
        "$defs": {
            "G/G": {
                "properties": {
                    "day": {"type": "string", "format": "date"},
                    "g": {"$ref": "#/$defs/G~1G"},
                },
                "required": ["day"],
            }
        },
    }
    found = of("JSON", schema)
    assert shown(found) == [
        *("a bigint", "b double!", "c variant", "d string!", "e map<string,boolean>"),
        *("f variant", "g struct<day:date>!", "h array<variant>", "i variant"),
        *("j struct<day:date>", "k string"),
    ]
    assert [field.nullable for field in found.schema["g"].dataType] == [False]
    assert found.remarks[0].startswith("g.g is left out: #/$defs/G~1G is within itself")


@pytest.mark.parametrize(
    ("kind", "schema", "why"),
    [
        ("AVRO", "string", "the schema of subject s is no record with fields"),
        ("AVRO", {"type": "record"}, "the schema of subject s cannot be read"),
        ("AVRO", record(), "the records of subject s give no columns: it has no fields"),
        ("PROTOBUF", "message", "the schema of subject s cannot be read: sparkstream"),
        ("PROTOBUF", 'syntax = "proto3";', "the schema of subject s has no message"),
        ("JSON", {"type": "array"}, "the schema of subject s is no object with prop"),
        ("JSON", {"$ref": "#/none"}, "the schema of subject s cannot be read: 'none'"),
        ("JSON", {"$ref": "#"}, "the records of subject s give no columns: # is"),
        ("XML", {}, "unknown kind of schema XML; known: AVRO, JSON, PROTOBUF"),
    ],
)  # fmt: skip
def test_what_gives_no_columns_is_said(kind, schema, why):
    assert refusal(of, kind, schema).startswith(why)


def test_columns_of_several_schemas_take_every_record_of_them():
    two = record(("x", "int", {}), ("y", "int", {}), name="N")
    one = record(("x", "int", {}), name="N")
    newest = of("AVRO", record(("a", "long", {}), ("n", two, {})))
    older = of("AVRO", record(("a", "int", {}), ("n", one, {}), ("z", "int", {})))
    both, remarks = merged([newest.schema, older.schema])
    inner = T.StructType().add("x", T.IntegerType(), nullable=False)
    inner.add("y", T.IntegerType(), nullable=True)
    expected = T.StructType().add("a", T.LongType(), nullable=False)
    expected.add("n", inner, nullable=False).add("z", T.IntegerType(), nullable=True)
    assert both == expected
    assert remarks == ["a is int in an older schema"]
