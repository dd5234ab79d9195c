"""Parsers with a real schema registry: versions, references, and one that is away for a while."""

import io
import json

import fastavro
import pytest
from conftest import HANGS, ROOT, refusal
from support.pages import run_page

from sparkstream_kit import quarantine, schemas
from sparkstream_kit.connectors._registry.client import Reference, Schema

PLACE = {
    "type": "record",
    "name": "shop.Place",
    "fields": [{"name": "x", "type": "int"}],
}
FIRST = {
    "type": "record",
    "name": "shop.Sale",
    "fields": [{"name": "id", "type": "long"}],
}
MORE = {"name": "amount", "type": ["null", "double"], "default": None}
SECOND = {**FIRST, "fields": [*FIRST["fields"], MORE]}


def record(number, value, schema):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def frame(spark, *records):
    return spark.createDataFrame(
        [(bytearray(each),) for each in records], "value BINARY"
    )


def test_a_subject_has_versions_and_a_rule(registry):
    client = schemas.registry(registry.url)
    first = Schema("AVRO", json.dumps(FIRST))
    assert client.latest("rule-value") is None
    assert client.look_up("rule-value", first) is None
    assert client.compatible("rule-value", first) == []
    number = client.register("rule-value", first)
    assert client.register("rule-value", first) == number
    assert client.look_up("rule-value", first) == number
    found = client.schema(number)
    assert found is not None
    assert json.loads(found.text) == FIRST
    newer = client.register("rule-value", Schema("AVRO", json.dumps(SECOND)))
    latest = client.latest("rule-value")
    assert latest is not None
    assert (latest.id, latest.version) == (newer, 2)
    assert client.schema(999_999) is None
    assert "does not register" in refusal(
        client.register, "rule-value", Schema("AVRO", "{")
    )


def test_schemas_refer_to_others(spark, registry):
    client = schemas.registry(registry.url)
    client.register("place", Schema("AVRO", json.dumps(PLACE)))
    place = {"name": "place", "type": "shop.Place"}
    sale = {**FIRST, "fields": [place]}
    to_place = (Reference("shop.Place", "place", 1),)
    number = client.register("sale", Schema("AVRO", json.dumps(sale), to_place))
    whole = {**FIRST, "fields": [{**place, "type": PLACE}]}
    given = frame(spark, record(number, {"place": {"x": 5}}, whole))
    rows = quarantine.parse_avro(given, "place STRUCT<x: INT>", registry=registry.url)
    assert rows.select("place.x", "_reason").collect() == [(5, None)]


def test_protobuf_is_compiled_with_its_imports(spark, registry):
    client = schemas.registry(registry.url)
    place = 'syntax = "proto3"; package shop; message Place { int32 x = 1; }'
    sale = 'syntax = "proto3"; package shop; import "place.proto"; import'
    sale += ' "google/protobuf/timestamp.proto"; message No {} message Sale {'
    sale += " Place place = 1; google.protobuf.Timestamp at = 2; }"
    client.register("place.proto", Schema("PROTOBUF", place))
    to_place = (Reference("place.proto", "place.proto", 1),)
    number = client.register("proto-value", Schema("PROTOBUF", sale, to_place))
    given = b"\0" + number.to_bytes(4, "big") + b"\2\2" + b"\x0a\2\x08\5"
    rows = quarantine.parse_protobuf(
        frame(spark, given), "place STRUCT<x: INT>, at TIMESTAMP", registry=client
    )
    assert rows.select("place.x", "at", "_reason").collect() == [(5, None, None)]


def test_new_versions_come_while_a_query_runs(spark, registry, tmp_path):
    client = schemas.registry(registry.url)
    folder = tmp_path / "records"

    def send(*records):
        frame(spark, *records).coalesce(1).write.mode("append").parquet(str(folder))

    first = client.register("live-value", Schema("AVRO", json.dumps(FIRST)))
    send(record(first, {"id": 1}, FIRST))
    records = spark.readStream.schema("value BINARY").parquet(str(folder))
    rows = quarantine.parse_avro(records, "id BIGINT, amount DOUBLE", registry=client)
    writer = rows.writeStream.format("memory").queryName("registry_versions")
    query = writer.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
    try:
        query.processAllAvailable()
        second = client.register("live-value", Schema("AVRO", json.dumps(SECOND)))
        assert second != first
        newer = record(second, {"id": 2, "amount": 1.5}, SECOND)
        send(newer, record(first, {"id": 3}, FIRST))
        query.processAllAvailable()
    finally:
        query.stop()
    found = spark.table("registry_versions").select("id", "amount", "_reason")
    assert sorted(found.collect()) == [(1, None, None), (2, 1.5, None), (3, None, None)]


@pytest.mark.slow
def test_a_registry_that_is_away_is_waited_for(spark, registry):
    """It starts only now: the first requests find nobody who listens."""
    registry.stop()
    registry.begin()
    client = schemas.registry(registry.url, wait=HANGS)
    number = client.register("away-value", Schema("AVRO", json.dumps(FIRST)))
    given = frame(spark, record(number, {"id": 1}, FIRST))
    rows = quarantine.parse_avro(given, "id BIGINT", registry=client)
    assert rows.select("id", "_reason").collect() == [(1, None)]


@pytest.mark.slow
def test_the_guide_runs_from_top_to_bottom(registry, broker, tmp_path, request):
    registry.start()
    client = schemas.registry(registry.url)
    first = client.register("orders-value", Schema("AVRO", json.dumps(FIRST)))
    second = client.register("orders-value", Schema("AVRO", json.dumps(SECOND)))
    sent = [
        record(first, {"id": 1}, FIRST),
        record(second, {"id": 2, "amount": 1.5}, SECOND),
        b"no Avro",
    ]
    topic = broker.topic(records=sent)
    page = ROOT / "docs" / "guides" / "schema-registry.md"
    reading = f"--topic {topic} --bootstrap {broker.servers}"
    replaced = [
        ('"localhost:9092", "orders"', f'"{broker.servers}", "{topic}"'),
        ("--topic orders --bootstrap localhost:9092", reading),
        ("topic orders,", f"topic {topic},"),
        ("schema ids 1, 2", f"schema ids {first}, {second}"),
        ('get_session("orders"', f'get_session("{topic}"'),
        ("http://localhost:8081", registry.url),
    ]
    run_page(page, tmp_path, replaced)
