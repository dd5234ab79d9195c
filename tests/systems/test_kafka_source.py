"""Topics of a real Kafka as a stream: what `sources.kafka` gives, and says before it runs."""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import process
from systems.kafka import ids

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError

NOBODY: dict[str, Any] = {"kafka.default.api.timeout.ms": 2000}


def read(frame, checkpoint=None, **options):
    """Run a query over all that is there, and return its rows."""
    rows: list[Any] = []
    sink = sinks.foreach_batch(lambda batch, _: rows.extend(batch.collect()))
    return rows, run(
        start(
            frame,
            sink,
            name="reads",
            checkpoint=checkpoint,
            availableNow=True,
            **options,
        )
    )


def ids_of(rows):
    return sorted(json.loads(row.value)["id"] for row in rows)


# --- what a frame has


def test_a_record_comes_with_its_key_its_headers_and_its_place(spark, broker):
    topic, made = broker.topic(), datetime(2026, 1, 14, 12, 47, tzinfo=UTC)
    headers = [("trace", b"\x00\x01"), ("empty", None)]
    broker.send(
        topic,
        ["näh"],
        key="k1",
        headers=headers,
        timestamp=int(made.timestamp() * 1000),
    )
    broker.send(topic, [None], key="k1")
    (first, second), _ = read(sources.kafka(spark, broker.servers, topic))

    assert (first.value, first.key, first.topic, first.partition, first.offset) == (
        "näh",
        "k1",
        topic,
        0,
        0,
    )
    assert (
        first.timestamp.replace(tzinfo=UTC) == made
        or first.timestamp.timestamp() == made.timestamp()
    )
    assert [(header.key, header.value) for header in first.headers] == headers
    assert (second.value, second.key, second.offset, second.headers) == (
        None,
        "k1",
        1,
        None,
    )
    columns = sources.kafka(spark, broker.servers, topic).columns
    assert columns == [
        "value",
        "key",
        "topic",
        "partition",
        "offset",
        "timestamp",
        "headers",
    ]


def test_bytes_stay_bytes_where_that_is_asked_for(spark, broker):
    topic = broker.topic()
    broker.send(topic, [b"\x00\xff\xfe"], key=b"\xff")
    (row,), _ = read(sources.kafka(spark, broker.servers, topic, binary=True))
    assert (bytes(row.value), bytes(row.key)) == (b"\x00\xff\xfe", b"\xff")


def test_several_topics_and_those_of_a_pattern(spark, broker):
    mark = broker.topic().removeprefix("test-")
    for number, name in enumerate(("one", "two", "three")):
        broker.topic(f"{mark}.{name}", 2)
        broker.send(f"{mark}.{name}", ids(2, 10 * number))
    rows, _ = read(
        sources.kafka(spark, broker.servers, [f"{mark}.one", f"{mark}.three"])
    )
    assert ids_of(rows) == [0, 1, 20, 21]
    rows, _ = read(sources.kafka(spark, broker.servers, pattern=rf"{mark}\.t.*"))
    assert ids_of(rows) == [10, 11, 20, 21]


# --- where it begins


def test_it_begins_at_the_first_record_or_where_it_is_told_to(spark, broker, tmp_path):
    topic = broker.topic(partitions=2)
    hour = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    for number in range(3):
        when = int((hour + timedelta(minutes=number)).timestamp() * 1000)
        broker.send(topic, ids(1, number), partition=0, timestamp=when)
    broker.send(topic, ids(1, 10), partition=1, timestamp=int(hour.timestamp() * 1000))

    def read_from(starting):
        return ids_of(
            read(sources.kafka(spark, broker.servers, topic, starting=starting))[0]
        )

    assert ids_of(read(sources.kafka(spark, broker.servers, topic))[0]) == [0, 1, 2, 10]
    assert read_from("latest") == []
    # The other partition has nothing as new, which alone makes Spark fail.
    assert read_from(hour + timedelta(minutes=1)) == [1, 2]
    # In UTC
    assert read_from((hour + timedelta(minutes=2)).replace(tzinfo=None)) == [2]
    assert read_from({topic: {0: 1, 1: "latest"}}) == [1, 2]
    assert read_from({topic: {0: "latest", 1: 0}}) == [10]


def test_the_summary_says_how_many_records_behind_it_is(spark, broker):
    topic = broker.topic(partitions=2)
    broker.send(topic, ids(10), partition=0)
    broker.send(topic, ids(3), partition=1)
    frame = sources.kafka(spark, broker.servers, topic, max_offsets_per_trigger=4)
    summary = run(
        start(frame, sinks.memory("behind"), processingTime="1 hour"), max_batches=1
    )
    (done,) = summary.queries
    assert done.records_behind == 13 - done.input_rows > 0
    assert f"{13 - done.input_rows} records behind" in str(summary)

    _, summary = read(frame)
    assert summary.queries[0].records_behind == 0


# --- what is said before a query runs


def test_no_broker_is_said_within_seconds(spark, free_port):
    began = time.monotonic()
    with pytest.raises(
        InvalidInputError,
        match="no Kafka broker at .* has answered within 2 s; start it",
    ):
        sources.kafka(spark, f"127.0.0.1:{free_port}", "sales", **NOBODY)
    assert time.monotonic() - began < 50  # Kafka's own clients wait for a minute
    with pytest.raises(
        InvalidInputError, match="Kafka: unknown host no-such-host.invalid:9092"
    ):
        sources.kafka(spark, "no-such-host.invalid:9092", "sales")


def test_a_topic_that_is_not_there(spark, broker):
    name = broker.topic(f"sales-{broker.topic()}")
    with pytest.raises(
        InvalidInputError, match=f"has no topic {name[:-1]}; did you mean {name}?"
    ):
        sources.kafka(spark, broker.servers, name[:-1])
    with pytest.raises(InvalidInputError, match="has no topic 1234; create it first"):
        sources.kafka(spark, broker.servers, [name, "1234"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"kafka.auto.offset.reset": "latest"},
            "sources.kafka(): .*auto.offset.reset.* is not supported",
        ),
        (
            {"maxOffsetPerTrigger": 5},
            "maxOffsetPerTrigger; did you mean max_offsets_per_trigger?",
        ),
        (
            {"fail_on_data_loss": False},
            "fail_on_data_loss; did you mean failOnDataLoss?",
        ),
        (
            {"kafka.default.api.timeout.ms": "soon"},
            "is 'soon'; give a number of milliseconds",
        ),
        ({"topics": "a, b"}, "Kafka at .*: InvalidTopicException: "),
        (
            {"kafka.security.protocol": "TLS"},
            "Invalid value TLS for configuration security.protocol",
        ),
        (
            {"topics": (), "pattern": "*"},
            "PatternSyntaxException: Dangling meta character",
        ),
        (
            {"servers": "one:9092,two"},
            "Kafka at .*: ConfigException: Invalid url in bootstrap.servers: two",
        ),
    ],
)
def test_options_that_cannot_be_used(spark, broker, options, said):
    given = {"servers": broker.servers, "topics": broker.topic()} | options
    with pytest.raises(InvalidInputError, match=said.replace("()", r"\(\)")) as raised:
        sources.kafka(spark, **given)
    assert "\n" not in str(raised.value)


# --- on Spark Connect

READER = """
import json, logging, sys
from sparkstream_kit import run, sinks, sources, spark_session, start
from sparkstream_kit.errors import InvalidInputError

logging.basicConfig(format="%(message)s")
servers, topic, nobody, checkpoint = sys.argv[1:]
with spark_session("reader", connectors=["kafka"]) as spark:
    frame = sources.kafka(spark, servers, topic, max_offsets_per_trigger=4)
    for _ in range(2):
        sink = sinks.latest("totals")
        query = start(frame.groupBy("topic").count(), sink, name="totals", mode="complete",
            checkpoint=checkpoint, availableNow=True)
        print(run(query).queries[0].records_behind)
        print(spark.table("totals").first()["count"])
    for place, name in ((servers, "no-such"), (nobody, topic)):
        try:
            sources.kafka(spark, place, name, **{"kafka.default.api.timeout.ms": 2000})
        except InvalidInputError as err:
            print(err)
"""


@pytest.mark.slow
def test_on_spark_connect_it_reads_and_refuses_the_same(
    broker, tmp_path, free_port, connect_to_kafka
):
    topic, nobody = broker.topic(partitions=2), f"127.0.0.1:{free_port}"
    broker.send(topic, ids(10))
    program = [
        sys.executable,
        "-c",
        READER,
        broker.servers,
        topic,
        nobody,
        tmp_path / "ckpt",
    ]
    done = process(program, env=os.environ | connect_to_kafka)
    assert done.stdout.splitlines() == [
        *("0", "10", "None", "10"),
        (
            f"Kafka at {broker.servers} has no topic no-such; create it first, or"
            " correct the name"
        ),
        (
            f"no Kafka broker at {nobody} has answered within 2 s; start it, correct"
            " its address (of a job: --kafka), or give sources.kafka the protocol that"
            " it speaks, such as **{'kafka.security.protocol': 'SASL_SSL'}"
        ),
    ], done.stderr
    said = [
        line for line in done.stderr.splitlines() if "Kafka cannot be asked" in line
    ]
    assert len(said) == 2, done.stderr


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        (
            {0: 1},
            (
                r"starting has offsets for the partitions \[0\] of TOPIC, which has"
                r" \[0, 1\]; give each"
            ),
        ),
        (
            {0: 0, 1: 0, 2: 0},
            (
                r"offsets for the partitions \[0, 1, 2\] of TOPIC, which has \[0, 1\];"
                r" give"
            ),
        ),
        (
            {0: 9, 1: 0},
            "partition 0 of TOPIC has the offsets 1 to 3, and not 9; give one of these",
        ),
        (
            {0: 0, 1: 0},
            "partition 0 of TOPIC has the offsets 1 to 3, and not 0; give one of these",
        ),
    ],
)
def test_offsets_that_no_partition_has(spark, broker, offsets, said):
    topic = broker.topic(partitions=2)
    broker.send(topic, ids(3), partition=0)
    broker.drop_before(topic, {0: 1})
    with pytest.raises(InvalidInputError, match=said.replace("TOPIC", topic)):
        sources.kafka(spark, broker.servers, topic, starting={topic: offsets})
