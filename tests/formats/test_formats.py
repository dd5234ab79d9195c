"""Formats with a schema registry: rows become records that fastavro, json and the kit read back."""

import datetime as dt
import io
import json
from decimal import Decimal
from functools import partial

import fastavro
import pytest
from conftest import refusal
from pyspark.errors import PythonException
from pyspark.sql import functions as F
from support import registry as registries

from sparkstream_kit import formats, quarantine
from sparkstream_kit.connectors._registry.client import Schema
from sparkstream_kit.connectors.kafka import sink

KINDS = (
    "a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT, f FLOAT, g DOUBLE, h STRING,"
    " i BINARY, j DATE, k TIMESTAMP, l TIMESTAMP_NTZ, m DECIMAL(38,10), n ARRAY<DATE>,"
    " o MAP<STRING, DECIMAL(5,2)>, p STRUCT<x: INT, y: ARRAY<STRUCT<z: TIMESTAMP>>>"
)
AT = dt.datetime(2026, 3, 29, 1, 30, 0, 123456, dt.UTC)
LOCAL = dt.datetime(1969, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001 - of no zone
DAY = dt.date(1582, 10, 4)
FULL = (
    True,
    -128,
    -32768,
    -(2**31),
    2**63 - 1,
    0.5,
    1e300,
    "ü\0€😀",
    bytearray(b"\x00\xff"),
    DAY,
    AT,
    LOCAL,
    Decimal("1234567890123456789012345678.0123456789"),
    [DAY, None],
    {"k": Decimal("-1.50"), "": None},
    (7, [(AT,), None]),
)
NULLS = (None,) * len(FULL)


@pytest.fixture
def registry():
    with registries.running() as server:
        yield server


def target_of(**given):
    known = dict.fromkeys(("key", "value", "partition", "headers", "to"))
    known |= {"servers": "h:1", "topic": "t", "row_id": (), "options": {}}
    return sink._TopicTarget(**{**known, **given})  # noqa: SLF001 - no brokers


def records(frame, **given):
    """Return the records of `sinks.kafka(…, **given)`, without Kafka."""
    return target_of(**given).ready(frame).records(frame)


def read(record, server):
    """Read a record of Avro as any reader does, by the id in it."""
    assert record[0] == 0
    _, text = server.schemas[int.from_bytes(record[1:5], "big") - 1]
    rest = io.BytesIO(record[5:])
    value = fastavro.schemaless_reader(rest, json.loads(text), None)
    assert rest.read() == b""
    return value


@pytest.mark.slow
def test_each_type_is_read_back_as_it_was_written(spark, registry):
    # More rows than Arrow's part has, so that parts of arrays are written, too
    frame = spark.createDataFrame([FULL, NULLS, FULL], KINDS).coalesce(1)
    written = records(frame, value=formats.avro(registry.address, name="shop.All"))
    values = [row.value for row in written.select("value").collect()]
    full = read(values[0], registry)
    assert full["k"] == AT
    assert full["l"] == LOCAL
    assert full["j"] == DAY
    assert full["m"] == FULL[12]
    assert full["o"] == {"k": Decimal("-1.50"), "": None}
    assert full["p"] == {"x": 7, "y": [{"z": AT}, None]}
    assert values[2] == values[0]
    assert set(read(values[1], registry).values()) == {None}
    rows = quarantine.parse_avro(
        written.select("value"), KINDS, registry=registry.address
    )
    assert [row._reason for row in rows.collect()] == [None] * 3  # noqa: SLF001
    names = [field.name for field in frame.schema]
    assert rows.select(names).collect() == frame.collect()


@pytest.mark.slow
def test_json_is_read_back_as_it_was_written(spark, registry):
    frame = spark.createDataFrame([FULL, NULLS], KINDS).coalesce(1)
    value = formats.json_schema(registry.address)
    values = [row.value for row in records(frame, value=value).collect()]
    assert [each[:5] for each in values] == [b"\0\0\0\0\1"] * 2
    found = json.loads(values[0][5:], parse_float=Decimal)
    assert found["m"] == FULL[12]
    assert found["i"] == "AP8="
    assert found["k"] == "2026-03-29T01:30:00.123456Z"
    assert found["p"]["y"][1] is None
    [(kind, text)] = registry.schemas
    assert kind == "JSON"
    properties = json.loads(text)["properties"]
    assert properties.keys() == found.keys()
    assert set(json.loads(values[1][5:]).values()) == {None}


@pytest.mark.parametrize("kind", ["avro", "json_schema"])
def test_a_null_in_the_one_column_of_a_value_is_a_tombstone(spark, registry, kind):
    rows = "SELECT * FROM VALUES ('a', named_struct('n', 1)), ('b', null) AS t(k, v)"
    make = getattr(formats, kind)
    key = make(registry.address, columns="k")
    value = make(registry.address, columns="v")
    first, second = records(spark.sql(rows), key=key, value=value).collect()
    assert (first.key[5:], first.value[5:]) == {
        "avro": (b"\2a", b"\2"),
        "json_schema": (b'"a"', b'{"n":1}'),
    }[kind]
    assert second.value is None
    assert second.key is not None


def test_columns_that_say_where_a_record_goes_are_no_fields(spark, registry):
    frame = spark.sql("SELECT 'a' AS k, 3 AS n, 't2' AS goes, 1 AS part")
    key = formats.avro(registry.address, columns=["k"])
    value = formats.avro(registry.address)
    [row] = records(frame, key=key, value=value, to="goes", partition="part").collect()
    assert read(row.key, registry) == {"k": "a"}
    assert read(row.value, registry) == {"k": "a", "n": 3}
    assert (row.topic, row.partition) == ("t2", 1)
    assert set(registry.subjects) == {"t-key", "t-value"}


def test_a_restart_registers_nothing_and_a_change_that_breaks_is_refused(
    spark, registry
):
    frame = spark.sql("SELECT 'a' AS k, 3 AS n")
    value = formats.avro(registry.address)
    for _ in range(2):
        target_of(value=value).ready(frame)
    assert registry.registered == ["t-value"]
    message = refusal(target_of(value=value).ready, frame.withColumn("more", F.lit(1)))
    assert "breaks readers of subject t-value" in message
    assert "(field more is new)" in message
    assert "READER_FIELD_MISSING_DEFAULT_VALUE: more" in message
    assert registry.registered == ["t-value"]
    nullable = frame.withColumn("more", F.lit(None).cast("int"))
    assert target_of(value=value).ready(nullable).value.number == 2


def test_a_dry_run_registers_nothing_and_refuses_what_a_start_refuses(spark, registry):
    frame = spark.sql("SELECT 'a' AS k, 3 AS n")
    target = target_of(value=formats.avro(registry.address))
    target.ready(frame, makes=False)
    assert registry.registered == []
    target.ready(frame)
    more = frame.withColumn("more", F.lit(1))
    refused = refusal(partial(target.ready, makes=False), more)
    assert refused == refusal(target.ready, more)
    assert registry.registered == ["t-value"]


WIDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "more", "type": ["null", "string"], "default": None},
        {"name": "n", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}


def test_the_newest_schema_is_written_where_none_may_be_registered(spark, registry):
    frame = spark.sql("SELECT 3L AS n, timestamp_millis(1500) AS at")
    value = formats.avro(registry.address, register=False)
    assert "does not have the schema" in refusal(target_of(value=value).ready, frame)
    value.registry.register("t-value", Schema("AVRO", json.dumps(WIDER)))
    [row] = records(frame, value=value).collect()
    found = read(row.value, registry)
    assert found["at"] == dt.datetime(1970, 1, 1, 0, 0, 1, 500000, dt.UTC)
    assert found["more"] is None
    assert registry.registered == ["t-value"]
    micros = frame.withColumn("at", F.timestamp_micros(F.lit(1)))
    with pytest.raises(PythonException, match="does not fit schema 1"):
        records(micros, value=value).collect()


@pytest.mark.parametrize(
    ("make", "columns", "part"),
    [
        ("avro", "map(1, 2) AS m", "the keys of a map of Avro are texts"),
        ("avro", "INTERVAL 1 DAY AS i", "which Avro cannot hold"),
        ("avro", "1 AS `a b`", "cannot name a field of Avro"),
        ("json_schema", "map(1, 2) AS m", "the names in an object of JSON are texts"),
        ("json_schema", "INTERVAL 1 DAY AS i", "which JSON has no form for"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(spark, registry, make, columns, part):
    frame = spark.sql(f"SELECT named_struct('s', 1) AS k, {columns}")
    value = getattr(formats, make)(registry.address)
    message = refusal(target_of(value=value).ready, frame)
    assert part in message
    assert f"column {frame.columns[1]}" in message
    assert registry.schemas == []


GIVEN = '{"type": "record", "name": "R", "fields": [%s]}'
OBJECT = '{"type": "object", "additionalProperties": false, %s}'


@pytest.mark.parametrize(
    ("make", "schema", "part"),
    [
        ("avro", GIVEN % "", "the schema has no field for column n"),
        (
            "avro",
            GIVEN % '{"name": "n", "type": ["null", "string"]}',
            "the schema has string",
        ),
        (
            "avro",
            GIVEN
            % '{"name": "n", "type": ["null", "int"]}, {"name": "x", "type": "int"}',
            "no column for field x",
        ),
        ("avro", GIVEN % '{"name": "n", "type": "int"}', "may be null"),
        (
            "avro",
            GIVEN % '{"name": "n", "type": ["null", "int", "string"]}',
            "several types",
        ),
        ("json_schema", OBJECT % '"title": "R"', "no property for column n"),
        (
            "json_schema",
            OBJECT % '"properties": {"n": {"type": "string"}}',
            "the schema has string",
        ),
        (
            "json_schema",
            OBJECT % '"properties": {"n": {"type": "integer"}}',
            "may be null",
        ),
        (
            "json_schema",
            OBJECT
            % '"properties": {"n": {"type": ["null", "number"]}}, "required": ["x"]',
            "no column for property x",
        ),
    ],
)
def test_columns_that_do_not_fit_a_given_schema_are_refused(
    spark, registry, make, schema, part
):
    frame = spark.sql("SELECT CAST(null AS INT) AS n")
    value = getattr(formats, make)(registry.address, schema=schema)
    assert part in refusal(target_of(value=value).ready, frame)


def test_a_schema_of_another_kind_is_refused(spark, registry):
    frame = spark.sql("SELECT 1 AS n")
    target_of(value=formats.avro(registry.address)).ready(frame)
    value = formats.json_schema(registry.address, register=False)
    assert "is of the kind AVRO" in refusal(target_of(value=value).ready, frame)


def test_what_is_no_number_of_json_ends_the_query(spark, registry):
    frame = spark.sql("SELECT array(named_struct('x', double('NaN'))) AS a")
    value = formats.json_schema(registry.address)
    with pytest.raises(Exception, match="JSON has no NaN and no Infinity"):
        records(frame, value=value).collect()


def test_arguments_that_cannot_be_are_one_line(spark, registry):
    assert "no address" in refusal(formats.avro, "localhost:8081")
    assert "schema cannot be read" in refusal(
        formats.avro, registry.address, schema='{"type": "nothing"}'
    )
    assert "it is no object" in refusal(
        formats.json_schema, registry.address, schema="[]"
    )
    frame = spark.sql("SELECT 1 AS n")
    for make in (formats.avro, formats.json_schema):
        key = make(registry.address)
        assert "which columns are the key" in refusal(target_of(key=key).ready, frame)
        value = make(registry.address, columns=["m"])
        assert "did you mean" in refusal(
            target_of(value=value).ready, frame.withColumn("ma", F.lit(1))
        )
        empty = make(registry.address, columns=[])
        assert "a record has no column" in refusal(target_of(value=empty).ready, frame)
    named = formats.avro(registry.address, name="a b")
    assert "cannot name a record" in refusal(target_of(value=named).ready, frame)
