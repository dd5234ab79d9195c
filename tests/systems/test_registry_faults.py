"""A schema registry that goes away, and drivers that are killed while they write with one."""

import io
import json
import os
import subprocess
import sys
from contextlib import closing

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition
from conftest import HANGS
from faults.drivers import ended, until
from faults.targets import newest
from systems.conftest import SCRIPTS
from systems.registry import Gate

from sparkstream_kit import quarantine, schemas, sources
from sparkstream_kit.connectors._registry.client import Schema

FIRST = {
    "type": "record",
    "name": "shop.Sale",
    "fields": [{"name": "id", "type": "long"}],
}
MORE = {"name": "amount", "type": ["null", "double"], "default": None}
SECOND = {**FIRST, "fields": [*FIRST["fields"], MORE]}
KILLS = 3
PART = 15_000  # rows between two kills: three batches


def record(number, schema, **value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def value_of(content, registry):
    """Return the value of a record of Avro."""
    schema = registry.schema(int.from_bytes(content[1:5], "big"))
    rest = io.BytesIO(content[5:])
    return fastavro.schemaless_reader(rest, json.loads(schema.text), None)


@pytest.fixture
def gate(registry):
    made = Gate(registry.url)
    yield made
    made.remove()


def test_a_registry_goes_away_amid_a_query_and_comes_back_with_a_new_schema(
    spark, broker, registry, gate, tmp_path
):
    """A worker waits for it with the new id; no record is lost or bad."""
    client = schemas.registry(registry.url)
    topic = broker.topic(partitions=2)
    first = client.register(f"{topic}-value", Schema("AVRO", json.dumps(FIRST)))
    records = sources.kafka(spark, broker.servers, topic, binary=True)
    rows = quarantine.parse_avro(
        records,
        "id BIGINT, amount DOUBLE",
        registry=schemas.registry(gate.url, wait=HANGS),
    )
    writer = rows.writeStream.format("memory").queryName("away")
    query = writer.option("checkpointLocation", str(tmp_path / "ckpt")).start()
    try:
        broker.send(topic, [record(first, FIRST, id=number) for number in range(20)])
        query.processAllAvailable()
        gate.close()
        # Registered where the query does not see it
        second = client.register(f"{topic}-value", Schema("AVRO", json.dumps(SECOND)))
        newer = [record(second, SECOND, id=n, amount=n / 2) for n in range(40, 60)]
        older = [record(first, FIRST, id=number) for number in range(20, 40)]
        broker.send(topic, newer + older)
        until(lambda: gate.turned_away > 1 or not query.isActive)
        assert query.isActive, query.exception()
        gate.open()
        query.processAllAvailable()
    finally:
        gate.open()
        query.stop()
    found = spark.table("away").select("id", "amount", "_reason").collect()
    expected = [(n, n / 2 if n >= 40 else None, None) for n in range(60)]
    assert sorted(found) == expected


def end_of(broker, topic):
    """Return how many records a topic has, also of a transaction that is open."""
    settings = {
        "bootstrap.servers": broker.servers,
        "group.id": "ends",
        "isolation.level": "read_uncommitted",
    }
    with closing(Consumer(settings)) as consumer:
        place = TopicPartition(topic, 0)
        return consumer.get_watermark_offsets(place, timeout=20)[1]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--once"]], ids=["at least once", "once"])
def test_a_driver_is_killed_amid_a_write(
    broker, registry, tmp_path, begin, connector_jars, flags
):
    given = broker.topic()
    made = broker.topic()
    checkpoint = tmp_path / "ckpt"
    words = [SCRIPTS / "kafka_formats.py", broker.servers, given, made]
    words += [registry.url, checkpoint, *flags]
    jars = {"SPARKSTREAM_JARS": str(connector_jars)}

    def is_writing(before):
        planned = newest(checkpoint / "offsets")
        is_open = planned > newest(checkpoint / "commits")
        return is_open and end_of(broker, made) > before

    for number in range(KILLS):
        places = range(number * PART, (number + 1) * PART)
        broker.send(given, [str(place).encode() for place in places])
        before = end_of(broker, made)
        driver = begin("python", *words, **jars)

        def reached(before=before):
            return is_writing(before)

        driver.until(lambda driver=driver, reached=reached: driver.frozen_if(reached))
        driver.kill("group")
    ended(begin("python", *words, "--available-now", **jars))
    client = schemas.registry(registry.url)
    records = broker.records(made)
    numbers = [value_of(each.value, client)["n"] for each in records]
    if not flags:
        # A reader that drops repeats knows them by their headers
        by_headers = {
            str(each.headers): n for each, n in zip(records, numbers, strict=True)
        }
        assert len(by_headers) < len(records), "no kill was amid a write"
        numbers = [*by_headers.values()]
    assert sorted(numbers) == [*range(KILLS * PART)]


CONNECT = """
import sys
from sparkstream_kit import formats, get_session, quarantine, run, sinks, sources, start
servers, given, made, registry, checkpoint, exactly_once = sys.argv[1:]
spark = get_session("connect")
records = sources.kafka(spark, servers, given, binary=True)
rows = quarantine.parse_avro(records, "id BIGINT, amount DOUBLE", registry=registry)
value = formats.avro(registry, columns=["id", "amount", "_reason"])
sink = sinks.kafka(servers, made, value=value, exactly_once=exactly_once == "True")
run(start(rows, sink, name="out", checkpoint=checkpoint, availableNow=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("exactly_once", [False, True])
def test_it_reads_and_writes_on_spark_connect_too(
    broker, registry, tmp_path, connect_to_kafka, exactly_once
):
    client = schemas.registry(registry.url)
    first = client.register("connect-value", Schema("AVRO", json.dumps(FIRST)))
    second = client.register("connect-value", Schema("AVRO", json.dumps(SECOND)))
    sent = [
        record(first, FIRST, id=1),
        record(second, SECOND, id=2, amount=0.5),
        b"no Avro",
    ]
    given = broker.topic(records=sent)
    made = broker.topic()
    program = [sys.executable, "-c", CONNECT, broker.servers, given, made]
    program += [registry.url, str(tmp_path / "ckpt"), str(exactly_once)]
    subprocess.run(program, check=True, env=os.environ | connect_to_kafka)
    found = [value_of(each.value, client) for each in broker.records(made)]
    assert sorted((tuple(each.values()) for each in found), key=str) == [
        (1, None, None),
        (2, 0.5, None),
        (None, None, "not Avro with a schema id"),
    ]
