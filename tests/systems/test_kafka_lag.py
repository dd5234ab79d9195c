"""`sources.kafka(…, lag_group=…)`: the offsets of committed batches, where Kafka's tools look."""

from contextlib import closing

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions
from faults.drivers import until

from sparkstream_kit import run, sinks, sources, start


@pytest.fixture
def committed(broker):
    """What a consumer group has committed, by partition of a topic, as Kafka's tool asks for it."""

    def ask(group, topic):
        asked = broker.admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)]
        )
        parts = asked[group].result().topic_partitions
        return {each.partition: each.offset for each in parts if each.topic == topic}

    return ask


def read(spark, broker, topic, checkpoint, group, **more):
    records = sources.kafka(spark, broker.servers, topic, lag_group=group, **more)
    sink = sinks.batch_files(checkpoint.parent / "out")
    return run(
        start(records, sink, name="lag", checkpoint=checkpoint, availableNow=True)
    )


def test_the_offsets_of_a_committed_batch_are_those_of_the_group(
    spark, broker, committed, tmp_path
):
    topic, other = broker.topic(partitions=2), broker.topic()
    group = f"of-{topic}"
    for part, rows in enumerate((3, 5)):
        broker.send(topic, ["x"] * rows, partition=part)
    broker.send(other, ["x"])
    read(
        spark,
        broker,
        [topic, other],
        tmp_path / "ckpt",
        group,
        max_offsets_per_trigger=4,
    )
    assert (committed(group, topic), committed(group, other)) == ({0: 3, 1: 5}, {0: 1})
    broker.send(topic, ["x"], partition=1)
    assert committed(group, topic) == {0: 3, 1: 5}, "a lag of one record"
    read(spark, broker, [topic, other], tmp_path / "ckpt", group)
    assert committed(group, topic) == {0: 3, 1: 6}


def test_each_source_has_its_own_group(spark, broker, committed, tmp_path):
    topics = [broker.topic() for _ in range(3)]
    for number, topic in enumerate(topics, 1):
        broker.send(topic, ["x"] * number)
    groups = [f"of-{topics[0]}", None, f"of-{topics[2]}"]
    first, second, third = (
        sources.kafka(spark, broker.servers, topic, lag_group=group)
        for topic, group in zip(topics, groups, strict=True)
    )
    rows = first.union(second).union(third)
    sink = sinks.batch_files(tmp_path / "out")
    run(start(rows, sink, name="lag", checkpoint=tmp_path / "ckpt", availableNow=True))
    assert [committed(f"of-{topic}", topic) for topic in topics] == [{0: 1}, {}, {0: 3}]


def test_a_refused_commit_costs_a_warning_and_not_the_query(
    spark, broker, committed, tmp_path, caplog
):
    topic = broker.topic(records=["x"] * 9)
    group = f"of-{topic}"
    settings = {
        "bootstrap.servers": broker.servers,
        "group.id": group,
        "auto.offset.reset": "earliest",
    }
    settings |= {"enable.auto.commit": False}
    # Kafka takes no offsets from outside for its group then
    with closing(Consumer(settings)) as member:
        member.subscribe([topic])
        until(
            lambda: member.poll(0.1) is not None,
            lambda: "the consumer has its partition",
        )
        done = read(
            spark, broker, topic, tmp_path / "ckpt", group, max_offsets_per_trigger=3
        )
    assert (done.queries[0].input_rows, done.queries[0].batches) == (9, 3)
    said = [
        each.getMessage() for each in caplog.records if "lag_group" in each.getMessage()
    ]
    assert len(said) == 1, "once, and not for each batch"
    line = (
        f"query lag: lag_group {group} shows no lag: Kafka at {broker.servers}:"
        " UnknownMemberIdException"
    )
    assert said[0].startswith(line)
    assert "\n" not in said[0]
    assert committed(group, topic) in ({}, {0: -1001})
