"""Confluent's own (de)serializers read what we write and write what we read, value for value.

The rows are random, of all types of Spark that the format holds; SEED names them.
"""

import base64
import datetime as dt
import json
import math
import os
import random
import struct
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import (
    JSONDeserializer,
    JSONSerializer,
)
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from pyspark.sql import types as T

from sparkstream_kit import formats, quarantine, run, schemas, sinks, sources, start

SEED = int(os.environ.get("SEED", "1"))
ROWS = 60
TEXTS = "az09 _-äß€😀\0\n\"'\\"
PLAIN: dict[str, T.DataType] = {
    "boolean": T.BooleanType(),
    "binary": T.BinaryType(),
    "byte": T.ByteType(),
    "short": T.ShortType(),
    "int": T.IntegerType(),
    "long": T.LongType(),
    "float": T.FloatType(),
    "double": T.DoubleType(),
    "decimal": T.DecimalType(9, 2),
    "long_decimal": T.DecimalType(38, 12),
    "string": T.StringType(),
    "date": T.DateType(),
    "timestamp": T.TimestampType(),
    "local": T.TimestampNTZType(),
}
BITS = {T.ByteType: 8, T.ShortType: 16, T.IntegerType: 32, T.LongType: 64}
ODD = (math.nan, math.inf, -math.inf, -0.0)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def columns_of(plain):
    """Return a column of each type, alone and within an array, a map and a struct."""
    columns = T.StructType()
    for name, kind in plain.items():
        inner = T.StructType().add("x", kind).add("y", T.ArrayType(kind))
        columns.add(name, kind)
        columns.add(f"{name}s", T.ArrayType(kind))
        columns.add(f"{name}_by", T.MapType(T.StringType(), kind))
        columns.add(f"{name}_in", T.ArrayType(inner))
    return columns


class Values:
    """Makes random values; some are the least and the greatest that there are."""

    def __init__(self, seed, *odd):
        self._random = random.Random(seed)  # noqa: S311 - no secrets
        self._odd = odd  # numbers that not each format has

    def of(self, kind, *, nullable=True):
        """Return a value of a type."""
        pick = self._random
        if nullable and pick.random() < 0.2:
            return None
        if isinstance(kind, T.StructType):
            return {each.name: self.of(each.dataType) for each in kind}
        if isinstance(kind, T.ArrayType):
            return [self.of(kind.elementType) for _ in range(pick.randrange(4))]
        if isinstance(kind, T.MapType):
            keys = [self._text() for _ in range(pick.randrange(4))]
            return {key: self.of(kind.valueType) for key in keys}
        return self._plain(kind)

    def _plain(self, kind):
        if type(kind) in BITS:
            most = 1 << BITS[type(kind)] - 1
            return self._whole(-most, most - 1)
        if isinstance(kind, T.DecimalType):
            most = 10**kind.precision - 1
            return Decimal(f"{self._whole(-most, most)}E-{kind.scale}")
        made = {
            T.BooleanType: lambda: self._random.random() < 0.5,
            T.BinaryType: lambda: self._random.randbytes(self._random.randrange(5)),
            T.DateType: lambda: self._time().date(),
            T.DoubleType: self._floating,
            T.FloatType: lambda: short(self._floating()),
            T.StringType: self._text,
            T.TimestampType: self._time,
            T.TimestampNTZType: lambda: self._time().replace(tzinfo=None),
        }
        return made[type(kind)]()

    def _whole(self, least, most):
        return self._random.choice([least, most, 0, self._random.randint(least, most)])

    def _floating(self):
        usual = [0.0, 1e-30, self._random.uniform(-1e9, 1e9)]
        return self._random.choice([*usual, *self._odd])

    def _text(self):
        return "".join(self._random.choices(TEXTS, k=self._random.randrange(6)))

    def _time(self):
        micros = self._random.randrange(-(10**15), 4 * 10**15)
        return EPOCH + dt.timedelta(microseconds=self._random.choice([0, -1, micros]))


def short(value):
    """Return a number as a FLOAT has it."""
    [found] = struct.unpack("f", struct.pack("f", value))
    return found


def same(value):
    """Return a value in a form in which NaN is NaN, and 0.0 is not -0.0."""
    if isinstance(value, dict):
        return {key: same(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [same(each) for each in value]
    if isinstance(value, float):
        return repr(value)
    return bytes(value) if isinstance(value, bytearray) else value


def sorted_by_id(rows):
    return [same(row) for row in sorted(rows, key=lambda row: row["id"])]


def made(columns, *odd):
    values = Values(SEED, *odd)
    return [
        {"id": number, **{each.name: values.of(each.dataType) for each in columns}}
        for number in range(ROWS)
    ]


def with_id(columns):
    return T.StructType([T.StructField("id", T.LongType()), *columns])


AVRO = with_id(columns_of(PLAIN))
# JSON's numbers have 15 digits for most readers
OF_JSON = with_id(
    columns_of({name: kind for name, kind in PLAIN.items() if name != "long_decimal"})
)


@pytest.fixture(scope="module")
def client(registry):
    return SchemaRegistryClient({"url": registry.url})


def value_of(topic):
    return SerializationContext(topic, MessageField.VALUE)


def streamed(spark, folder, rows, columns):
    """Return the rows as a stream."""
    given = [tuple(row[name] for name in columns.names) for row in rows]
    frame = spark.createDataFrame(given, columns, verifySchema=False)
    frame.coalesce(1).write.parquet(str(folder))
    return spark.readStream.schema(columns).parquet(str(folder))


def written(spark, broker, registry, folder, rows, columns, form):
    """Write rows in a format to a topic; return the topic and its values."""
    topic = broker.topic()
    value = {"avro": formats.avro, "json": formats.json_schema}[form](registry.url)
    frame = streamed(spark, folder / "in", rows, columns)
    sink = sinks.kafka(broker.servers, topic, value=value, exactly_once=True)
    run(start(frame, sink, name="q", checkpoint=folder / "ckpt", availableNow=True))
    return topic, [record.value for record in broker.records(topic)]


def read(spark, broker, topic, parse):
    """Return the rows of a topic, as a parser has them; none may be bad."""
    records = sources.kafka(spark, broker.servers, topic, binary=True)
    rows = parse(records.select("value"))
    writer = rows.writeStream.format("memory").queryName("confluent_in")
    writer.trigger(availableNow=True).start().awaitTermination()
    found = [
        row.asDict(recursive=True) for row in spark.table("confluent_in").collect()
    ]
    assert {row["_reason"] for row in found} == {None}
    ours = ("_reason", "_raw", "_bytes", "_file")
    return [
        {name: each for name, each in row.items() if name not in ours} for row in found
    ]


def test_they_read_our_avro(spark, broker, registry, client, tmp_path):
    rows = made(AVRO[1:], *ODD)
    topic, values = written(spark, broker, registry, tmp_path, rows, AVRO, "avro")
    deserialize = AvroDeserializer(client)
    found = [deserialize(value, value_of(topic)) for value in values]
    assert sorted_by_id(found) == sorted_by_id(rows)


def test_we_read_their_avro(spark, broker, registry, client):
    rows = made(AVRO[1:], *ODD)
    fields: list[dict[str, Any]] = [{"name": "id", "type": "long"}]
    fields += [
        {"name": each.name, "type": ["null", of_avro(each.dataType, each.name)]}
        for each in AVRO[1:]
    ]
    schema = {"type": "record", "name": "Row", "fields": fields}
    topic = broker.topic()
    serialize = AvroSerializer(client, json.dumps(schema))
    broker.send(topic, [serialize(row, value_of(topic)) for row in rows])

    def parse(records):
        return quarantine.parse_avro(records, AVRO, registry=registry.url)

    found = read(spark, broker, topic, parse)
    assert sorted_by_id(found) == sorted_by_id(aware(rows, AVRO))


def of_avro(kind, name):
    """Return a schema of Avro as others write it, which is not always as we do."""
    if isinstance(kind, T.StructType):
        fields = [
            {
                "name": each.name,
                "type": [of_avro(each.dataType, f"{name}_{each.name}"), "null"],
            }
            for each in kind
        ]
        return {"type": "record", "name": f"of_{name}", "fields": fields}
    if isinstance(kind, T.ArrayType):
        return {"type": "array", "items": ["null", of_avro(kind.elementType, name)]}
    if isinstance(kind, T.MapType):
        return {"type": "map", "values": ["null", of_avro(kind.valueType, name)]}
    if isinstance(kind, T.DecimalType):
        number = {"precision": kind.precision, "scale": kind.scale}
        return {"type": "bytes", "logicalType": "decimal", **number}
    others: dict[type[T.DataType], Any] = {
        T.BooleanType: "boolean",
        T.BinaryType: "bytes",
        T.ByteType: "int",
        T.ShortType: "long",
        T.IntegerType: "long",
        T.LongType: "long",
        T.FloatType: "float",
        T.DoubleType: "double",
        T.StringType: "string",
        T.DateType: {"type": "int", "logicalType": "date"},
        T.TimestampType: {"type": "long", "logicalType": "timestamp-micros"},
        T.TimestampNTZType: {"type": "long", "logicalType": "local-timestamp-micros"},
    }
    return others[type(kind)]


def each_of(value, kind, convert):
    """Return a value with each value within it that is of no struct, array or map converted."""
    if value is None:
        return None
    if isinstance(kind, T.StructType):
        # In JSON a null field may be left out
        return {
            each.name: each_of(value.get(each.name), each.dataType, convert)
            for each in kind
        }
    if isinstance(kind, T.ArrayType):
        return [each_of(each, kind.elementType, convert) for each in value]
    if isinstance(kind, T.MapType):
        return {
            key: each_of(each, kind.valueType, convert) for key, each in value.items()
        }
    return convert(value, kind)


def aware(rows, columns):
    """Return rows as PySpark gives them back: their times without a zone, as of the machine."""

    def convert(value, kind):
        if isinstance(kind, T.TimestampType):
            return value.astimezone().replace(tzinfo=None)
        return value

    return [each_of(row, columns, convert) for row in rows]


def test_they_read_our_json(spark, broker, registry, client, tmp_path):
    rows = made(OF_JSON[1:], -0.0)
    topic, values = written(spark, broker, registry, tmp_path, rows, OF_JSON, "json")
    schema = schemas.registry(registry.url).latest(f"{topic}-value")
    assert schema is not None
    deserialize = JSONDeserializer(schema.text, schema_registry_client=client)
    given = [deserialize(value, value_of(topic)) for value in values]
    found = [each_of(each, OF_JSON, from_json) for each in given]
    assert sorted_by_id(found) == sorted_by_id(rows)


def from_json(value, kind):
    """Return a value that JSON holds as a text or a number as one of a type of Spark."""
    if isinstance(kind, T.DecimalType):
        return Decimal(repr(value)).quantize(Decimal(1).scaleb(-kind.scale))
    converters: dict[type[T.DataType], Any] = {
        T.BinaryType: base64.b64decode,
        T.DateType: dt.date.fromisoformat,
        T.FloatType: short,
        T.TimestampType: dt.datetime.fromisoformat,
        T.TimestampNTZType: dt.datetime.fromisoformat,
    }
    return converters.get(type(kind), lambda same: same)(value)


def as_json(value):
    """Return values as a program puts them into JSON."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    if isinstance(value, (dt.date, dt.datetime)):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def test_we_read_their_json(spark, broker, registry, client):
    # Those that JSON has no type for are texts
    known = {
        name: kind for name, kind in PLAIN.items()
        if name not in ("binary", "float", "long_decimal", "local")
    }  # fmt: skip
    columns = with_id(columns_of(known))
    # Spark's variant has no -0.0
    rows = made(columns[1:])
    topic = broker.topic()
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}
    serialize = JSONSerializer(json.dumps(schema), client)
    broker.send(topic, [serialize(as_json(row), value_of(topic)) for row in rows])

    def parse(records):
        return quarantine.parse_json(records, columns, registry=registry.url)

    found = read(spark, broker, topic, parse)
    assert sorted_by_id(found) == sorted_by_id(aware(rows, columns))


PROTO = """
syntax = "proto3";
package confluent_{seed};
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message No {{ int64 id = 1; }}
message Row {{
  int64 id = 1;
  optional bool a = 2;
  optional sint32 b = 3;
  optional fixed64 c = 4;
  optional float d = 5;
  optional double e = 6;
  optional string f = 7;
  optional bytes g = 8;
  google.protobuf.Timestamp h = 9;
  google.protobuf.Int64Value i = 10;
  repeated double j = 11;
  map<string, sint64> k = 12;
  repeated Line l = 13;
  optional Kind m = 14;
  message Line {{ optional int32 x = 1; }}
}}
enum Kind {{ NEW = 0; OLD = 7; }}
"""
OF_PROTO = T.StructType(
    [
        T.StructField("id", T.LongType()),
        T.StructField("a", T.BooleanType()),
        T.StructField("b", T.IntegerType()),
        T.StructField("c", T.DecimalType(20, 0)),
        T.StructField("d", T.FloatType()),
        T.StructField("e", T.DoubleType()),
        T.StructField("f", T.StringType()),
        T.StructField("g", T.BinaryType()),
        T.StructField("h", T.TimestampType()),
        T.StructField("i", T.LongType()),
        T.StructField("j", T.ArrayType(T.DoubleType())),
        T.StructField("k", T.MapType(T.StringType(), T.LongType())),
        T.StructField("l", T.ArrayType(T.StructType().add("x", T.IntegerType()))),
        T.StructField("m", T.StringType()),
    ]
)


@pytest.fixture
def messages(tmp_path, monkeypatch):
    """The module that protoc makes of PROTO."""
    name = f"confluent_{SEED}"
    (tmp_path / f"{name}.proto").write_text(PROTO.format(seed=SEED))
    known = Path(grpc_tools.__file__).parent / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}", f"-I{known}"]
    subprocess.run([*command, f"--python_out={tmp_path}", f"{name}.proto"], check=True)
    monkeypatch.syspath_prepend(tmp_path)
    return __import__(f"{name}_pb2")


def without_null_elements(value):
    """Return values as a message holds them: a list and a map have no null, and are never null."""
    if isinstance(value, list):
        return [without_null_elements(each) for each in value if each is not None]
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if each is not None}
    return value


def message_of(messages, row):
    made = messages.Row()
    for name, value in row.items():
        if value is None:
            continue
        if name == "h":
            made.h.FromDatetime(value)
        elif name == "i":
            made.i.value = value
        elif name == "k":
            made.k.update(value)
        elif name == "l":
            made.l.extend(messages.Row.Line(**each) for each in value)
        elif name == "j":
            made.j.extend(value)
        else:
            setattr(made, name, value)
    return made


def test_we_read_their_protobuf(spark, broker, registry, client, messages):
    values = Values(SEED, *ODD)
    rows = []
    for number in range(ROWS):
        row = {each.name: values.of(each.dataType) for each in OF_PROTO}
        row |= {"id": number, "c": number and 2**64 - number, "m": None}
        for name in ("j", "k", "l"):
            row[name] = without_null_elements(
                values.of(OF_PROTO[name].dataType, nullable=False)
            )
        row["l"] = [{"x": None, **each} for each in row["l"]]
        if number % 3:
            row["m"] = number % 2 and 7
        rows.append(row)
    topic = broker.topic()
    serialize = ProtobufSerializer(
        messages.Row, client, {"use.deprecated.format": False}
    )
    broker.send(
        topic, [serialize(message_of(messages, row), value_of(topic)) for row in rows]
    )

    def parse(records):
        return quarantine.parse_protobuf(records, OF_PROTO, registry=registry.url)

    found = read(spark, broker, topic, parse)
    for row in rows:
        row["c"] = Decimal(row["c"])
        row["m"] = {None: None, 0: "NEW", 7: "OLD"}[row["m"]]
    assert sorted_by_id(found) == sorted_by_id(aware(rows, OF_PROTO))
