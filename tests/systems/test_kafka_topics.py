"""Topics made again, deleted or cut by retention: what a query would miss is said.

It is said with numbers.
"""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from systems.kafka import ids

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError, QueryFailed

GONE = (
    "^query reader failed: Kafka no longer has a topic or records that were still to be"
    " read "
)


class Reader:
    """A query on a topic, started again and again on one checkpoint, and the ids it read."""

    def __init__(self, spark, servers, checkpoint):
        self._spark, self._servers, self._checkpoint = spark, servers, checkpoint
        self.ids: list[int] = []
        self.after_batch: Callable[[], None] = lambda: None

    def frame(self, topic, **options):
        """Return what it reads of a topic."""
        return sources.kafka(self._spark, self._servers, topic, **options)

    def start(self, topic, *, allow_changed_query=False, **options):
        every = options.pop("processingTime", None)
        how: dict[str, Any] = (
            {"processingTime": every} if every else {"availableNow": True}
        )
        how |= {
            "checkpoint": self._checkpoint,
            "allow_changed_query": allow_changed_query,
        }

        def keep(batch, _):
            self.ids += [json.loads(row.value)["id"] for row in batch.collect()]
            self.after_batch()

        return start(
            self.frame(topic, **options),
            sinks.foreach_batch(keep),
            name="reader",
            **how,
        )

    def read(self, topic, **options):
        """Return the ids that one run over all that is there has read."""
        self.ids.clear()
        run(self.start(topic, **options))
        return sorted(self.ids)


@pytest.fixture
def reader(spark, broker, tmp_path):
    return Reader(spark, broker.servers, tmp_path / "ckpt")


# --- made again


def test_a_topic_that_was_made_again_while_the_query_was_stopped(broker, reader):
    topic = broker.topic(partitions=2, records=ids(100))
    assert reader.read(topic) == list(range(100))
    broker.delete(topic)
    # More than were read: plain Spark skips the first, and says nothing.
    broker.topic(topic, 2, records=ids(250, 1000))

    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(
            InvalidInputError, match=f"topic {topic} at .* was deleted and made again"
        ):
            reader.read(topic)
    for more in ({"failOnDataLoss": False}, {"allow_changed_query": True}):
        with pytest.raises(
            InvalidInputError,
            match="made again .* start the query on a new checkpoint$",
        ):
            reader.read(topic, **more)


def test_a_topic_made_again_under_a_running_query(broker, reader, until):
    topic = broker.topic(records=ids(100))
    query = reader.start(topic, processingTime="0 seconds")
    until(lambda: len(reader.ids) == 100)
    broker.delete(topic)
    broker.topic(topic, records=ids(30, 1000))
    with pytest.raises(QueryFailed, match=GONE) as failed:
        run(query)
    assert "\n" not in str(failed.value)
    with pytest.raises(InvalidInputError, match=f"topic {topic} at .* made again"):
        reader.read(topic)


# --- deleted, or no longer read


def test_a_topic_that_was_given_up_and_came_again_is_read_whole(
    spark, broker, tmp_path
):
    kept, topic = broker.topic(), broker.topic()
    pattern = f"{kept}|{topic}"
    reader = Reader(spark, broker.servers, tmp_path / "ckpt")
    broker.send(topic, ids(10))
    assert len(reader.read((), pattern=pattern)) == 10
    broker.delete(topic)
    said = refusal(reader.read, (), pattern=pattern)
    assert (
        f"Kafka at {broker.servers} no longer has topic {topic}; to go on without"
        in said
    )
    assert said == refusal(reader.read, kept)
    broker.send(kept, ids(1, 50))
    assert reader.read((), pattern=pattern, failOnDataLoss=False) == [50]
    broker.topic(topic, records=ids(20, 100))
    assert reader.read((), pattern=pattern) == list(range(100, 120))


# --- retention


def test_records_that_retention_took_while_the_query_was_stopped(
    broker, reader, caplog
):
    topic = broker.topic(partitions=2)
    broker.send(topic, ids(100), partition=0)
    broker.send(topic, ids(100, 100), partition=1)
    assert len(reader.read(topic)) == 200
    broker.send(topic, ids(100, 1000), partition=0)
    broker.send(topic, ids(100, 2000), partition=1)
    broker.drop_before(topic, {0: 150, 1: 101})
    each = r"\(partition 0: 50, partition 1: 1\)"
    said = f"deleted 51 records of topic {topic} that were still to be read {each}"
    with pytest.raises(
        InvalidInputError, match=f"{said}; to go on without: .*failOnDataLoss=False"
    ):
        reader.read(topic)
    caplog.set_level(logging.WARNING)
    assert reader.read(topic, failOnDataLoss=False) == [
        *range(1050, 1100),
        *range(2001, 2100),
    ]
    assert "51 records" in caplog.text


def test_records_that_retention_took_from_a_running_query(broker, reader):
    topic = broker.topic()
    for first in range(0, 100, 10):
        broker.send(topic, ids(10, first))
    reader.after_batch = lambda: broker.drop_before(topic, {0: 90})
    # What a client holds already is not lost
    little = {"kafka.max.partition.fetch.bytes": 1}
    with pytest.raises(QueryFailed, match=GONE):
        reader.read(topic, max_offsets_per_trigger=10, **little)
    assert sorted(reader.ids) == list(range(len(reader.ids)))
    lost = 90 - len(reader.ids)
    with pytest.raises(
        InvalidInputError,
        match=f"deleted {lost} records of topic {topic} .* 0: {lost}\\)",
    ):
        reader.read(topic)


# --- a stream that stands twice in the query, beside another topic

# How the two are put together, and how often a record of `a` comes.
SHAPES: dict[str, tuple[Callable[[DataFrame, DataFrame], DataFrame], int]] = {
    "aab": (lambda a, b: a.union(a).union(b), 2),
    "aba": (lambda a, b: a.union(b).union(a), 2),
    "baab": (lambda a, b: b.where("false").union(a).union(a).union(b), 2),
    "a joined with itself, b": (lambda a, b: with_itself(a).union(b), 1),
}


def with_itself(frame):
    timed = frame.withWatermark("timestamp", "1 minute")
    other = timed.selectExpr("value AS v", "timestamp AS t")
    return timed.join(other, F.expr("value = v AND timestamp = t")).select(
        *frame.columns
    )


@pytest.mark.fast("aba")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_said_is_of_the_right_topic(spark, broker, tmp_path, shape):
    build, often = SHAPES[shape]
    one, other = broker.topic(), broker.topic()

    class Both(Reader):
        def frame(self, topic, **options):
            frames = (Reader.frame(self, each, **options) for each in topic)
            return build(*(each.select("value", "timestamp") for each in frames))

    read = partial(Both(spark, broker.servers, tmp_path / "ckpt").read, (one, other))
    broker.send(one, ids(100))
    broker.send(other, ids(10, 1000))
    assert read() == sorted([*(often * [*range(100)]), *range(1000, 1010)])

    broker.send(other, ids(10, 1010))  # of which retention takes five
    broker.drop_before(other, {0: 15})
    with pytest.raises(
        InvalidInputError, match=f"deleted 5 records of topic {other} that .* 0: 5"
    ):
        read()
    broker.send(one, ids(5, 100))
    assert read(failOnDataLoss=False) == sorted(
        [*(often * [*range(100, 105)]), *range(1015, 1020)]
    )

    broker.delete(other)
    broker.topic(other, records=ids(30, 2000))
    with pytest.raises(
        InvalidInputError, match=f"topic {other} at .* was deleted and made again"
    ):
        read()


def test_a_topic_made_again_where_the_checkpoint_is_on_another_file_system(
    spark, broker, tmp_path
):
    host = f"kit{tmp_path.name.replace('_', '')}"
    (tmp_path / "far").mkdir()
    conf = spark._jsc.hadoopConfiguration()  # noqa: SLF001 - as core-site.xml of a cluster would set it
    conf.set(f"fs.viewfs.mounttable.{host}.link./far", (tmp_path / "far").as_uri())
    far = Reader(spark.newSession(), broker.servers, f"viewfs://{host}/far/ckpt")
    topic = broker.topic(records=ids(10))
    assert far.read(topic) == list(range(10))
    broker.send(topic, ids(20, 10))
    broker.drop_before(topic, {0: 15})
    with pytest.raises(
        InvalidInputError, match=r"deleted 5 records .* \(partition 0: 5\)"
    ):
        far.read(topic)
    assert far.read(topic, failOnDataLoss=False) == list(range(15, 30))
    broker.delete(topic)
    broker.topic(topic)
    with pytest.raises(
        InvalidInputError, match="made again .* start the query on a new checkpoint$"
    ):
        far.read(topic)


def test_a_topic_that_is_no_longer_asked_for(spark, broker, tmp_path):
    topics = [broker.topic(), broker.topic()]
    for topic in topics:
        broker.send(topic, ids(3))
    reader = Reader(spark, broker.servers, tmp_path / "ckpt")
    assert len(reader.read(topics)) == 6
    with pytest.raises(
        InvalidInputError,
        match=f"the query no longer reads topic {topics[1]}, of which",
    ):
        reader.read(topics[0])
    broker.send(topics[0], ids(2, 10))
    assert reader.read(topics[0], failOnDataLoss=False) == [10, 11]


def test_a_topic_that_was_deleted_under_a_running_query(broker, reader, until):
    topic = broker.topic(records=ids(10))
    query = reader.start(topic, processingTime="0 seconds")
    until(lambda: len(reader.ids) == 10)
    broker.delete(topic)
    with pytest.raises(QueryFailed, match=GONE):
        run(query)
    with pytest.raises(InvalidInputError, match=f"Kafka at .* has no topic {topic}"):
        reader.read(topic)
