"""`sinks.kafka(…, value=formats.avro(registry))` writes to a real Kafka, also exactly once."""

import json

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from support import registry as registries
from support.sink_streams import finish, three_batches

from sparkstream_kit import formats, quarantine, sinks, start

COLUMNS = "k STRING, n BIGINT"


@pytest.fixture
def registry():
    with registries.running() as server:
        yield server


def pairs(spark, records, server):
    """Return the rows of records of Avro in a topic, as the kit reads them."""
    values = [(bytearray(record.value),) for record in records if record.value]
    frame = spark.createDataFrame(values, "value BINARY")
    rows = quarantine.parse_avro(frame, COLUMNS, registry=server.address)
    return sorted(tuple(row) for row in rows.select("k", "n").collect())


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at least once", "once"])
def test_rows_are_records_with_the_id_of_their_schema(
    spark, broker, registry, tmp_path, exactly_once
):
    topic = broker.topic(partitions=2)
    frame = three_batches(spark, tmp_path / "in")
    expected = sorted(
        [("a", 1), ("b", 1), ("a", 2), ("c", 2), ("b", 3), ("c", 3)],
    )
    sink = sinks.kafka(
        broker.servers,
        topic,
        key=formats.avro(registry.address, columns="k"),
        value=formats.avro(registry.address, name="shop.Pair"),
        exactly_once=exactly_once,
    )
    checkpoint = tmp_path / "checkpoint"
    for _ in range(2):
        finish(frame, sink, checkpoint)
    assert set(registry.subjects) == {f"{topic}-key", f"{topic}-value"}
    # The second start has registered nothing
    assert sorted(registry.registered) == [f"{topic}-key", f"{topic}-value"]
    records = broker.records(topic)
    assert pairs(spark, records, registry) == expected
    wider = frame.withColumn("more", F.lit(1))
    message = refusal(start, wider, sink, name="q", checkpoint=tmp_path / "other")
    assert "(field more is new)" in message
    assert len(broker.records(topic)) == len(expected)


def test_some_rows_are_tombstones_and_go_elsewhere(spark, broker, registry, tmp_path):
    topic = broker.topic()
    other = broker.topic()
    rows = three_batches(spark, tmp_path / "in").select(
        "k",
        F.when(F.col("n") > 1, F.struct("n")).alias("v"),
        F.when(F.col("k") == "c", F.lit(other)).alias("goes"),
    )
    sink = sinks.kafka(
        broker.servers,
        topic,
        key="k",
        value=formats.json_schema(registry.address, columns="v"),
        to="goes",
        exactly_once=True,
    )
    finish(rows, sink, tmp_path / "checkpoint")
    found = [(record.key, record.value) for record in broker.records(topic)]
    assert sorted(found, key=str) == [
        (b"a", None),
        (b"a", b'\0\0\0\0\1{"n":2}'),
        (b"b", None),
        (b"b", b'\0\0\0\0\1{"n":3}'),
    ]
    elsewhere = [json.loads(record.value[5:]) for record in broker.records(other)]
    assert elsewhere == [{"n": 2}, {"n": 3}]
    assert set(registry.subjects) == {f"{topic}-value"}
