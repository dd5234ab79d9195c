"""`sinks.kafka(…, value=formats.avro(registry))`: a real broker and registry, also exactly once."""

import json
from urllib.request import Request, urlopen

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from support.sink_streams import finish, three_batches

from sparkstream_kit import formats, quarantine, sinks, start

COLUMNS = "k STRING, n BIGINT"


def asked(registry, path, method="GET", value=None):
    content = None if value is None else json.dumps(value).encode()
    head = {"Content-Type": "application/json"}
    request = Request(registry.url + path, content, head, method=method)  # noqa: S310 - http
    with urlopen(request, timeout=20) as response:  # noqa: S310 - http
        return json.load(response)


def versions(registry, topic):
    """Return how many versions the subjects of a topic have."""
    found = {}
    for name in asked(registry, "/subjects"):
        if name.startswith(topic):
            part = name.removeprefix(f"{topic}-")
            found[part] = len(asked(registry, f"/subjects/{name}/versions"))
    return found


def pairs(spark, records, registry):
    """Return the rows of records of Avro in a topic, as the kit reads them."""
    values = [(bytearray(record.value),) for record in records if record.value]
    frame = spark.createDataFrame(values, "value BINARY")
    rows = quarantine.parse_avro(frame, COLUMNS, registry=registry.url)
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
        key=formats.avro(registry.url, columns="k"),
        value=formats.avro(registry.url, name="shop.Pair"),
        exactly_once=exactly_once,
    )
    checkpoint = tmp_path / "checkpoint"
    start(frame, sink, name="q", checkpoint=checkpoint, dry_run=True)
    assert versions(registry, topic) == {}
    for _ in range(2):
        finish(frame, sink, checkpoint)
    # The second start has registered nothing
    assert versions(registry, topic) == {"key": 1, "value": 1}
    records = broker.records(topic)
    assert pairs(spark, records, registry) == expected
    rule = {"compatibility": "BACKWARD"}
    asked(registry, f"/config/{topic}-value", "PUT", rule)
    wider = frame.withColumn("more", F.lit(1))
    message = refusal(start, wider, sink, name="q", checkpoint=tmp_path / "other")
    assert "(field more is new)" in message
    assert versions(registry, topic) == {"key": 1, "value": 1}
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
        value=formats.json_schema(registry.url, columns="v"),
        to="goes",
        exactly_once=True,
    )
    finish(rows, sink, tmp_path / "checkpoint")
    found = [
        (record.key, record.value and record.value[5:])
        for record in broker.records(topic)
    ]
    assert sorted(found, key=str) == [
        (b"a", None),
        (b"a", b'{"n":2}'),
        (b"b", None),
        (b"b", b'{"n":3}'),
    ]
    elsewhere = [json.loads(record.value[5:]) for record in broker.records(other)]
    assert elsewhere == [{"n": 2}, {"n": 3}]
    assert versions(registry, topic) == {"value": 1}
