"""`sinks.kafka(…, exactly_once=True)`: what it writes, and each row once.

That holds over kills, stalls and lost plans, too.
"""

import json
import os
import random
import re
import shlex
import time
from collections import Counter, defaultdict
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from conftest import refusal
from faults.drivers import ended, one_line
from faults.sales import Sales
from faults.targets import Sink, Target, added_up
from faults.test_fences import wakes_up
from faults.test_kills import KILLS, killed_at
from pyspark.sql import functions as F
from support import sink_contract
from support.broken_sinks import ROWS, SALES
from support.sink_contract import LOSSES, Adaptor, Stream
from support.sink_streams import finish as written
from support.sink_streams import forget_commit, refused, three_batches
from systems.conftest import ROUNDS, SCRIPTS

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.connectors.kafka import transactions
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks.ledger import Batch
from sparkstream_kit.sinks.plans import plan_of
from sparkstream_kit.testing import assert_exactly_once

SALES_TO = SCRIPTS.parent.parent / "faults" / "scripts" / "sales_to.py"
FENCES = int(os.environ.get("FENCES", "200"))  # rounds of SIGSTOP at the producer alone


@pytest.fixture
def topic(broker):
    return broker.topic(partitions=3)


@pytest.fixture
def stream(spark, broker, topic, tmp_path):
    def rows():
        return sorted(json.loads(record.value)["n"] for record in broker.records(topic))

    return Stream(
        spark,
        tmp_path,
        Adaptor(sinks.kafka(broker.servers, topic, exactly_once=True), rows),
    )


@pytest.mark.fast("plan lost before the commit", "a second driver")
@pytest.mark.parametrize("how", LOSSES)
def test_it_keeps_the_contract(stream, how):
    sink_contract.lost(stream, how)


def target_of(broker, topic):
    """Return what the sink writes to, for rows that are records already."""
    ledger = f"{topic}-sparkstream-ledger"
    return transactions.TransactionalTarget(
        broker.servers, topic, ledger, False, {}, lambda _: None, lambda rows: rows
    )


def ledger_of(broker, topic, ledger=""):
    """Return the last entry of each query in a ledger."""
    entries = {
        record.key: json.loads(record.value)
        for record in broker.records(ledger or f"{topic}-sparkstream-ledger")
    }
    return {key.decode(): entry for key, entry in entries.items()}


# --- what it writes


def test_a_batch_and_its_entry_in_the_ledger(spark, broker, topic, tmp_path):
    frame = three_batches(spark, tmp_path / "in").withColumn("raw", F.lit(b"\0"))
    sink = sinks.kafka(broker.servers, topic, key="k", exactly_once=True)
    told = start(frame, sink, name="q", checkpoint=tmp_path / "ckpt", dry_run=True)
    assert f"kafka to topic {topic} of {broker.servers}: exactly once" in str(told)
    assert f"{topic}-sparkstream-ledger" not in broker.admin.list_topics().topics, (
        "a dry run creates nothing"
    )
    written(frame, sink, tmp_path / "ckpt")
    found = broker.records(topic)
    assert Counter(record.key for record in found) == {b"a": 2, b"b": 2, b"c": 2}
    values = sorted(record.value for record in found if record.key == b"a")
    assert values == [b'{"k":"a","n":1,"raw":"AA=="}', b'{"k":"a","n":2,"raw":"AA=="}']
    query = json.loads((tmp_path / "ckpt" / "metadata").read_text())["id"]
    [(key, entry)] = ledger_of(broker, topic).items()
    assert key == f"{topic}/{query}"
    assert (entry["batch"], entry["rows"], entry["epoch"]) == (2, 2, 1)
    assert {*entry} == {"batch", "plan", "rows", "epoch", "driver", "topics", "time"}
    ledger = ConfigResource(ConfigResource.Type.TOPIC, f"{topic}-sparkstream-ledger")
    [config] = broker.admin.describe_configs([ledger]).values()
    assert config.result()["cleanup.policy"].value == "compact"
    assert "kafka writes a replayed batch with the same rows once" in str(
        rewind(tmp_path / "ckpt", to=0)
    )


PLACED = (
    "k STRING, v STRING, p INT, t STRING, h ARRAY<STRUCT<key: STRING, value: BINARY>>"
)


@pytest.mark.parametrize("exactly_once", [True, False])
def test_topic_partition_headers_and_tombstones_are_those_of_the_row(
    spark, broker, tmp_path, exactly_once
):
    topic, other = broker.topic(partitions=3), broker.topic(partitions=3)
    (tmp_path / "in").mkdir()
    rows: list[dict[str, Any]] = [
        {
            "k": "a",
            "v": "1",
            "p": 2,
            "t": other,
            "h": [{"key": "x", "value": "AA=="}, {"key": "y"}],
        },
        {"k": "a", "p": 0},
        {"v": "3", "p": 1, "h": []},
    ]
    (tmp_path / "in" / "1.json").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )
    frame = sources.json(spark, tmp_path / "in", schema=PLACED)
    place: dict[str, Any] = {
        "key": "k",
        "value": "v",
        "partition": "p",
        "headers": "h",
        "to": "t",
    }
    written(
        frame,
        sinks.kafka(broker.servers, topic, **place, exactly_once=exactly_once),
        tmp_path / "ckpt",
    )
    [first] = broker.records(other)
    second, third = broker.records(topic)
    own = [] if exactly_once else first.headers[:3]
    assert first == (2, 0, b"a", b"1", [*own, ("x", b"\0"), ("y", None)])
    assert second[:4] == (0, 0, b"a", None), "a tombstone"
    assert third[:4] == (1, 0, None, b"3")
    assert [len(record.headers) for record in (second, third)] == [len(own)] * 2


def test_partitions_are_those_of_spark_s_own_sink_and_each_keeps_the_order(
    spark, broker, folder, tmp_path
):
    keys = ["", "a", "ключ", "0", "x" * 1000, *(f"k{number}" for number in range(300))]
    lines = (json.dumps({"k": key, "n": number}) for number, key in enumerate(keys * 3))
    (folder / "1.json").write_text("\n".join(lines))
    frame = sources.json(spark, folder, schema="k STRING, n INT")
    mine, sparks = broker.topic(partitions=7), broker.topic(partitions=7)
    written(
        frame,
        sinks.kafka(broker.servers, mine, key="k", exactly_once=True),
        tmp_path / "ckpt",
    )
    plain = frame.selectExpr(
        "k AS key", "to_json(struct(*)) AS value"
    ).writeStream.format("kafka")
    options = {
        "kafka.bootstrap.servers": broker.servers,
        "topic": sparks,
        "checkpointLocation": f"{tmp_path}/c",
    }
    plain.options(**options).trigger(availableNow=True).start().awaitTermination()
    ours, theirs = broker.records(mine), broker.records(sparks)
    assert {(each.key, each.partition) for each in ours} == {
        (each.key, each.partition) for each in theirs
    }
    assert len({each.partition for each in ours}) == 7
    of_partition = defaultdict(list)
    for each in ours:
        of_partition[each.partition].append(json.loads(each.value)["n"])
    assert all(numbers == sorted(numbers) for numbers in of_partition.values())
    assert sum(map(len, of_partition.values())) == 3 * len(keys)


def test_records_without_a_key_go_to_all_partitions(spark, broker, topic, tmp_path):
    frame = (
        spark.readStream.format("rate-micro-batch")
        .option("rowsPerBatch", 20_000)
        .load()
    )
    query = start(
        frame,
        sinks.kafka(broker.servers, topic, exactly_once=True),
        name="keyless",
        checkpoint=tmp_path / "ckpt",
        processingTime="0 seconds",
    )
    run(query, max_batches=3)
    assert {record.partition for record in broker.records(topic)} == {0, 1, 2}


def test_a_source_reads_what_was_committed_unless_asked(spark, broker, topic, tmp_path):
    producer = Producer(
        {"bootstrap.servers": broker.servers, "transactional.id": topic}
    )
    producer.init_transactions()
    for value, end in (
        ("kept", producer.commit_transaction),
        ("gone", producer.abort_transaction),
    ):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush()
        end()
    for level, expected in ((None, ["kept"]), ("read_uncommitted", ["gone", "kept"])):
        given: dict[str, Any] = {"kafka.isolation.level": level} if level else {}
        records = sources.kafka(spark, broker.servers, topic, **given)
        run(start(records, sinks.memory("level"), availableNow=True))
        assert sorted(row.value for row in spark.table("level").collect()) == expected


# --- what it refuses


def test_another_query_a_lost_ledger_and_a_rewind_are_refused(
    spark, broker, topic, tmp_path
):
    frame = three_batches(spark, tmp_path / "in")
    given = partial(sinks.kafka, broker.servers, topic, exactly_once=True)
    broker.send(topic, ["of another program"])
    written(frame, given(), tmp_path / "ckpt")
    line = refused(frame, given(), tmp_path / "other")
    assert f"topic {topic} of {broker.servers} was written by another query" in line
    assert "give take_over=True to add to its rows" in line
    written(frame, given(take_over=True), tmp_path / "other")
    assert len(broker.records(topic)) == 13
    rewind(tmp_path / "ckpt", to=0, apply=True)
    line = refused(frame, given(), tmp_path / "ckpt")
    assert "batch 1 is replayed, but topic" in line
    way = re.search(r"run (printf .*) \| (kafka-console-producer\.sh .*)$", line)
    assert way, line
    command = shlex.split(way[2])
    assert command[1:] == [
        *(
            "--bootstrap-server",
            broker.servers,
            "--topic",
            f"{topic}-sparkstream-ledger",
        ),
        *("--property", "parse.key=true"),
    ]
    _, _, key, value = shlex.split(way[1])
    broker.send(command[4], [value], key=key)
    written(frame, given(), tmp_path / "ckpt")
    assert len(broker.records(topic)) == 17, "the rows of two batches, twice"
    forget_commit(tmp_path / "ckpt")
    broker.send(command[4], [None], key=key)  # its entry is removed
    assert "was written by another query" in refused(frame, given(), tmp_path / "ckpt")
    broker.delete(command[4])
    line = refused(frame, given(), tmp_path / "ckpt")
    assert "batch 2 is next, but" in line
    assert "holds none of this query's batches" in line


def test_a_batch_with_another_plan_is_refused(spark, broker, topic, tmp_path):
    frame = three_batches(spark, tmp_path / "in")
    written(
        frame, sinks.kafka(broker.servers, topic, exactly_once=True), tmp_path / "ckpt"
    )
    [(key, entry)] = ledger_of(broker, topic).items()
    query = key.partition("/")[2]
    target = target_of(broker, topic)
    rows = spark.range(1).selectExpr(
        "CAST('x' AS BINARY) AS value", "CAST(NULL AS BINARY) AS key"
    )
    plan, driver = entry["plan"], entry["driver"]
    target.write(Batch(query, 2, plan, driver=driver), rows)  # skipped
    made = plan_of(locate(spark, tmp_path / "ckpt"), 1, {})
    with pytest.raises(
        InvalidInputError,
        match=f"batch 2 is replayed, but topic {topic} .* has another one",
    ):
        target.write(Batch(query, 2, made, driver=driver), rows)
    assert len(broker.records(topic)) == 6


def test_real_time_needs_the_other_way(spark, broker, topic, tmp_path):
    records = sources.kafka(spark, broker.servers, topic)
    sink = sinks.kafka(broker.servers, topic, value="value", exactly_once=True)
    with pytest.raises(
        InvalidInputError, match="trigger realTime cannot write to kafka"
    ):
        start(
            records,
            sink,
            name="now",
            mode="update",
            checkpoint=tmp_path / "ckpt",
            realTime="5 seconds",
        )


AGAIN = [
    sink_contract.a_target_made_again_is_refused,
    sink_contract.a_target_made_again_under_a_running_query_is_refused,
]


@pytest.mark.parametrize("step", AGAIN)
def test_a_topic_that_was_made_again_is_refused(stream, broker, topic, step):
    def make_again():
        broker.delete(topic)
        broker.topic(topic, partitions=3)

    step(stream, make_again)


def test_a_topic_of_rows_that_was_made_again_is_refused_and_may_be_taken_over(
    spark, broker, topic, tmp_path
):
    other, frame = broker.topic(), three_batches(spark, tmp_path / "in")
    to = frame.withColumn("t", F.when(F.col("k") == "a", other))
    given = partial(sinks.kafka, broker.servers, topic, to="t", exactly_once=True)
    written(to, given(), tmp_path / "ckpt")
    (tmp_path / "in" / "4.csv").write_text("a,4\n")
    broker.delete(other)
    line = refused(to, given(), tmp_path / "ckpt")
    assert line.startswith(
        f"topic {other} of {broker.servers} was deleted after this query had written"
        " its batches up to 2; to "
    )
    broker.topic(other)
    line = refused(to, given(), tmp_path / "ckpt")
    assert (
        f"topic {other} of {broker.servers} was deleted and made again after this"
        " query had" in line
    )
    assert line.endswith("or, to go on without them, give take_over=True")
    assert broker.records(other) == []
    ways: tuple[dict[str, Any], ...] = ({"take_over": True}, {})
    for more in ways:
        written(to, given(**more), tmp_path / "ckpt")
    assert len(broker.records(other)) == 1


def test_a_ledger_that_is_removed_while_the_query_runs_is_named(stream, broker, topic):
    def after_the_first(_rows, batch_id):
        if batch_id == 0:
            broker.delete(f"{topic}-sparkstream-ledger")

    sink = stream.adaptor.sink
    both = sinks.fan_out(sink, sinks.foreach_batch(after_the_first))
    stream.adaptor = replace(stream.adaptor, sink=both)
    stream.land(2 * sink_contract.FILES)
    line = stream.refused()
    assert (
        f"the ledger of topic {topic} of {broker.servers}, topic"
        f" {topic}-sparkstream-ledger, is gone" in line
    )
    assert len(broker.records(topic)) == 2 * sink_contract.FILES, (
        "the rows of the first batch alone"
    )
    # And the start says how to go on
    assert "holds none of this query's batches" in stream.refused()


def test_partitions_that_are_added_and_records_that_are_deleted_are_no_loss(
    stream, broker, topic
):
    stream.land(sink_contract.FILES)
    stream.go()
    broker.drop_before(
        topic, {number: end for number, (_, end) in broker.ends(topic).items()}
    )
    broker.add_partitions(topic, 7)
    assert broker.records(topic) == []
    stream.land(sink_contract.FILES)
    stream.go()
    assert stream.adaptor.rows() == [4, 5, 6, 7]


def test_a_ledger_of_an_older_kit_has_no_ids_and_gets_them(
    spark, broker, topic, tmp_path
):
    frame, sink = (
        three_batches(spark, tmp_path / "in"),
        sinks.kafka(broker.servers, topic, exactly_once=True),
    )
    written(frame, sink, tmp_path / "ckpt")
    [(key, entry)] = ledger_of(broker, topic).items()
    [id_of_topic] = entry.pop("topics").values()
    broker.send(f"{topic}-sparkstream-ledger", [json.dumps(entry)], key=key)
    (tmp_path / "in" / "4.csv").write_text("a,4\n")
    written(frame, sink, tmp_path / "ckpt")
    assert [each["topics"] for each in ledger_of(broker, topic).values()] == [
        {topic: id_of_topic}
    ]
    assert len(broker.records(topic)) == 7


def test_one_topic_by_two_addresses_is_one_target(spark, broker, topic, tmp_path):
    port = broker.servers.partition(":")[2]
    both = [
        sinks.kafka(f"{host}:{port}", topic, exactly_once=True)
        for host in ("127.0.0.1", "localhost")
    ]
    frame = three_batches(spark, tmp_path / "in")
    line = refused(frame, sinks.fan_out(*both), tmp_path / "ckpt")
    assert line.startswith(
        f"topic {topic} of localhost:{port} is the same as topic {topic} of"
        f" 127.0.0.1:{port}"
    )
    assert broker.records(topic) == []


WRONG = {
    "topic": (
        "'not-there' AS t",
        "topic not-there of {}: batch 0: there is no such topic; create it",
    ),
    "partition": (
        "7 AS p",
        (
            "topic {topic} of {}: batch 0: there is no partition 7; correct the rows,"
            " or add"
        ),
    ),
    "none": (
        "-1 AS p",
        "topic {topic} of {}: a row has partition -1; give 0 or more, or null",
    ),
    "ledger": (
        "'{topic}-sparkstream-ledger' AS t",
        "a row goes to topic {topic}-sparkstream-ledger, which is",
    ),
    "no topic": (
        "'' AS t",
        "topic {topic} of {}: a row goes to a topic without a name; give its name, or",
    ),
    "no key": (
        "array(struct(CAST(NULL AS STRING) AS key, X'00' AS value)) AS h",
        (
            "topic {topic} of {}: a row has a header without a key; give each header a"
            " key, or leave"
        ),
    ),
    "no header": (
        "array(CAST(NULL AS STRUCT<key: STRING, value: BINARY>)) AS h",
        (
            "topic {topic} of {}: a row has a header without a key; give each header a"
            " key, or leave"
        ),
    ),
    "large": (
        "repeat('x', 200000) AS v",
        "a record of 200,001 bytes is too large (MSG_SIZE_TOO_LARGE); raise",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_row_that_cannot_be_written_names_what_is_wrong_with_it(
    spark, broker, tmp_path, what
):
    topic = broker.topic(partitions=2, max_message_bytes=100_000)
    column, said = WRONG[what]
    frame = three_batches(spark, tmp_path / "in").selectExpr(
        "k", column.format(topic=topic)
    )
    name = frame.columns[1]
    place: dict[str, Any] = {
        "key": "k",
        {"t": "to", "p": "partition", "v": "value", "h": "headers"}[name]: name,
    }
    line = refused(
        frame,
        sinks.kafka(broker.servers, topic, **place, exactly_once=True),
        tmp_path / "ckpt",
    )
    assert said.format(broker.servers, topic=topic) in line
    assert broker.records(topic) == []


def test_many_small_records_go_into_a_topic_with_a_small_limit(spark, broker, tmp_path):
    topic = broker.topic(max_message_bytes=100_000)
    frame = three_batches(spark, tmp_path / "in").selectExpr(
        "explode(sequence(1, 20)) AS n", "repeat('x', 30000)"
    )
    written(
        frame, sinks.kafka(broker.servers, topic, exactly_once=True), tmp_path / "ckpt"
    )
    assert len(broker.records(topic)) == 120


def test_a_ledger_that_is_none_is_refused(spark, broker, topic, tmp_path):
    assert f"ledger is the topic {topic} itself" in refusal(
        sinks.kafka, broker.servers, topic, exactly_once=True, ledger=topic
    )
    frame = three_batches(spark, tmp_path / "in")
    for key, value in (
        (None, "{}"),
        ("no-entry", "{}"),
        (b"\xff/q", "{}"),
        (f"{topic}/q", "no JSON"),
    ):
        ledger = broker.topic()
        broker.send(ledger, [value], key=key)
        sink = sinks.kafka(broker.servers, topic, exactly_once=True, ledger=ledger)
        line = refused(frame, sink, tmp_path / "ckpt")
        assert (
            f"topic {ledger} of {broker.servers} has a record that is no entry of a"
            " ledger" in line
        )
    assert broker.records(topic) == []


def test_of_two_first_starts_at_once_each_has_the_ledger(broker, topic, monkeypatch):
    def as_before(admin, **more):  # the other start has made its ledger
        found = listed(admin, **more)
        del found.topics[f"{topic}-sparkstream-ledger"]
        return found

    target_of(broker, topic).prepare(None, "one", None, True)
    listed = AdminClient.list_topics
    monkeypatch.setattr(AdminClient, "list_topics", as_before)
    target_of(broker, topic).prepare(None, "other", None, True)


def test_an_option_that_cannot_be_is_one_line(spark, broker, topic, tmp_path):
    frame = three_batches(spark, tmp_path / "in")
    sink = sinks.kafka(
        broker.servers,
        topic,
        exactly_once=True,
        **{"kafka.max.block.ms": 5},  # type: ignore[arg-type]
    )
    line = refused(frame, sink, tmp_path / "ckpt")
    assert (
        line == f"topic {topic} of {broker.servers}: No such configuration property:"
        ' "max.block.ms"'
    )


# --- kills, stalls and brokers that are away


def of_sales(broker, folder):
    """Sales of files into a topic, by sales_to.py; one consumer looks at its ledger."""
    sales, checkpoint, topic = (
        Sales(folder / "in"),
        folder / "ckpt",
        broker.topic(partitions=3),
    )
    ledger = f"{topic}-sparkstream-ledger"
    broker.topic(ledger, cleanup_policy="compact")
    looked, seen = (
        Consumer(
            {"bootstrap.servers": broker.servers, "group.id": "look", "log_level": 0}
        ),
        [-1],
    )
    looked.assign([TopicPartition(ledger, 0, 0)])

    def last():
        while messages := looked.consume(100, 0.001):
            entries = [
                json.loads(each.value() or b"{}")
                for each in messages
                if not each.error()
            ]
            seen.extend(entry.get("batch", -1) for entry in entries)
        return max(seen)

    def totals():
        rows = (
            json.loads(record.value or b"", parse_float=str)
            for record in broker.records(topic)
        )
        return added_up((row["ProductKey"], Decimal(row["SaleAmount"])) for row in rows)

    target = f"{broker.servers}/{topic}"
    command = (
        SALES_TO,
        "kafka-append",
        target,
        sales.folder,
        checkpoint,
        "--max-files-per-trigger",
        1,
    )
    return sales, Target(
        (*command, "--connectors", "kafka"),
        checkpoint,
        (Sink(last, totals, sales.totals),),
    )


@pytest.fixture
def launch(begin, connector_jars):
    return partial(begin, SPARKSTREAM_JARS=str(connector_jars))


def test_killed_at_each_point(broker, launch, tmp_path):
    sales, target = of_sales(broker, tmp_path)
    killed_at(KILLS, sales, target, launch)


def test_a_driver_that_wakes_up_is_refused_and_the_newer_one_goes_on(
    broker, launch, tmp_path
):
    sales, target = of_sales(broker, tmp_path)
    wakes_up(sales, target, launch, random.Random(44))  # noqa: S311 - times, not secrets


@pytest.mark.parametrize("rounds", [3, pytest.param(FENCES, marks=pytest.mark.slow)])
def test_a_producer_that_wakes_up_is_fenced(broker, topic, begin, rounds):
    pick = random.Random(45)  # noqa: S311 - times, not secrets
    older = begin("python", SCRIPTS / "kafka_fence.py", broker.servers, topic)
    older.until(lambda: older.output)
    for _ in range(rounds):
        # The moment of the stop, which no condition picks
        time.sleep(pick.uniform(0, 0.2))
        older.freeze()
        newer = begin("python", SCRIPTS / "kafka_fence.py", broker.servers, topic)
        newer.until(lambda: newer.output.count("\n") > 1)  # noqa: B023
        older.thaw()
        line = one_line(older, 2)
        assert re.search(sink_contract.FENCED, line), line
        assert f"process {newer.pid} on " in line
        older = newer
    assert older.running, older.errors
    older.kill("group")
    numbers = [int(record.value or b"") for record in broker.records(topic)]
    last = next(iter(ledger_of(broker, topic, f"{topic}-ledger").values()))
    assert last["epoch"] == rounds + 1
    assert sorted(numbers) == list(range(10 * last["batch"] + 10))


def test_a_start_whose_id_an_older_driver_takes_back_takes_it_again(
    spark, broker, topic, monkeypatch
):
    target = target_of(broker, topic)
    target.prepare(None, "q", None, True)
    rows = spark.range(1).selectExpr(
        "CAST('x' AS BINARY) AS value", "CAST(NULL AS BINARY) AS key"
    )
    target.take("q", "older", None)
    target.write(Batch("q", 0, driver="older"), rows)
    begin = transactions._TransactionWriter.begin  # noqa: SLF001

    def after_the_older(writer):
        monkeypatch.undo()
        # Which sees no newer epoch yet
        target.write(Batch("q", 1, driver="older"), rows)
        begin(writer)

    monkeypatch.setattr(transactions._TransactionWriter, "begin", after_the_older)  # noqa: SLF001
    target.take("q", "newer", None)
    [entry] = ledger_of(broker, topic).values()
    assert (entry["epoch"], entry["driver"], entry["batch"]) == (2, "newer", 1)
    with pytest.raises(
        InvalidInputError, match=r"another driver has started to .* \(epoch 2, newer\)"
    ):
        target.write(Batch("q", 2, driver="older"), rows)
    target.write(Batch("q", 2, driver="newer"), rows)
    assert len(broker.records(topic)) == 3


def test_from_topic_to_topic_each_record_once_over_kills(broker, launch, tmp_path):
    pick = random.Random(46)  # noqa: S311 - times, not secrets
    given, made, checkpoint = (
        broker.topic(partitions=2),
        broker.topic(partitions=2),
        tmp_path / "ckpt",
    )
    copy = partial(
        launch,
        "python",
        SCRIPTS / "kafka_copy.py",
        broker.servers,
        given,
        made,
        checkpoint,
    )
    number = 0
    for each in range(max(2, ROUNDS)):
        for _ in range(4):
            key = f"k{number % 11}"
            values = map(str, range(number, number + 500))
            number += broker.send(given, values, key=key, headers=[("of", b"\1")])
        before, driver = {*(checkpoint / "offsets").glob("[0-9]*")}, copy()
        driver.until(lambda: {*(checkpoint / "offsets").glob("[0-9]*")} > before)  # noqa: B023
        # The moment of the kill, which no condition picks
        time.sleep(pick.uniform(0, 1))
        driver.kill(pick.choice(["group", "python", "jvm"]) if each else "group")
    ended(copy("--available-now"))
    wanted, found = broker.records(given), broker.records(made)
    assert Counter(each[2:4] for each in found) == Counter(each[2:4] for each in wanted)
    assert {str(each.headers) for each in found} == {str([("of", b"\1")])}
    assert sources_of(found) == sources_of(wanted), (
        "the records of a key keep their order"
    )


def sources_of(records):
    of_key = defaultdict(list)
    for record in records:
        of_key[record.key].append(record.value)
    return of_key


def test_a_broker_that_goes_and_comes_back(broker, launch, tmp_path, request):
    request.addfinalizer(broker.start)  # whatever happens here: others need it
    given, made, checkpoint = broker.topic(), broker.topic(), tmp_path / "ckpt"
    broker.send(given, map(str, range(300)))
    options = json.dumps({"kafka.transaction.timeout.ms": 60_000})
    copy = partial(
        launch,
        "python",
        SCRIPTS / "kafka_copy.py",
        broker.servers,
        given,
        made,
        checkpoint,
    )
    driver = copy(OPTIONS=options)
    driver.until((checkpoint / "commits" / "0").exists)
    broker.send(given, map(str, range(300, 3000)))
    driver.until((checkpoint / "offsets" / "2").exists)
    broker.kill()
    broker.start()
    driver.until(lambda: len(broker.records(made)) == 3000)
    driver.kill("group")


@pytest.fixture
def slow_stream(spark, broker, tmp_path):
    """A start of a query whose transaction may take four seconds, and which is too slow for it."""

    def written_in(topic, checkpoint, do):
        frame = three_batches(spark, tmp_path / "in")
        more: dict[str, Any] = {"kafka.transaction.timeout.ms": 4000}
        sink = sinks.kafka(broker.servers, topic, exactly_once=True, **more)
        send = transactions._TransactionWriter._send  # noqa: SLF001

        def with_delay(writer, records):
            send(writer, records)
            do()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transactions._TransactionWriter, "_send", with_delay)  # noqa: SLF001
            with pytest.raises(QueryFailed) as failed:
                written(frame, sink, checkpoint)
        assert failed.value.exit_code == 1
        return str(failed.value)

    return written_in


def test_a_batch_that_takes_longer_than_its_transaction_names_the_setting(
    spark, broker, topic, tmp_path, slow_stream
):
    line = slow_stream(topic, tmp_path / "ckpt", lambda: time.sleep(5))
    assert (
        f"topic {topic} of {broker.servers} has not taken batch 0 within 4 s (" in line
    )
    assert "sinks.kafka(…, **{'kafka.transaction.timeout.ms': 900000})" in line
    assert "\n" not in line
    assert broker.records(topic) == []
    sink = sinks.kafka(broker.servers, topic, exactly_once=True)
    written(three_batches(spark, tmp_path / "in2"), sink, tmp_path / "ckpt2")
    assert len(broker.records(topic)) == 6


def test_a_broker_that_stays_away_leaves_nothing_half_written(
    spark, broker, topic, tmp_path, slow_stream, request
):
    request.addfinalizer(broker.start)  # whatever happens here: others need it
    line = slow_stream(topic, tmp_path / "ckpt", broker.kill)
    assert (
        f"topic {topic} of {broker.servers} has not taken batch 0 within 4 s (" in line
    )
    assert "if no broker answered, start again" in line
    broker.start()
    assert broker.records(topic) == []
    frame = sources.csv(
        spark, str(tmp_path / "in"), schema="k STRING, n INT", max_files_per_trigger=1
    )
    written(
        frame, sinks.kafka(broker.servers, topic, exactly_once=True), tmp_path / "ckpt"
    )
    assert len(broker.records(topic)) == 6


class Noting(Producer):
    """Notes each transaction in a folder once it is committed.

    So a copy of the folder says which transactions are committed. `assert_exactly_once`
    crashes a folder, and a broker is in none. What a crash leaves of a transaction is
    all or nothing, so the folder has all that a broker would have.
    """

    folder: Any = None

    def begin_transaction(self):
        self.made = []
        super().begin_transaction()

    def produce(self, topic, value=None, key=None, partition=-1, headers=None):  # type: ignore[override]
        self.made.append(
            [
                topic,
                *(
                    each.decode() if isinstance(each, bytes) else each
                    for each in (value, key)
                ),
            ]
        )
        super().produce(topic, value, key, partition, headers=headers)

    def commit_transaction(self):  # type: ignore[override]
        super().commit_transaction()
        number = len(list(self.folder.glob("*.json")))
        with (self.folder / "new").open("w") as file:
            file.write(json.dumps(self.made))
            file.flush()
            os.fsync(file.fileno())
        (self.folder / "new").rename(self.folder / f"{number:06}.json")


@pytest.mark.parametrize("most", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_it_survives_every_crash(spark, broker, monkeypatch, most):
    monkeypatch.setattr(transactions, "Producer", Noting)
    there: dict[str, str] = {}

    def build(sales, folder):
        topic, ledger = broker.topic(), broker.topic(cleanup_policy="compact")
        there["topic"], Noting.folder = topic, folder / "committed"
        Noting.folder.mkdir(exist_ok=True)
        transactions._writers.clear()  # noqa: SLF001 - of a driver that is dead
        for note in sorted(Noting.folder.glob("*.json")):
            for _, value, key in json.loads(note.read_text()):
                # An entry of the ledger
                its_own = key and f"{topic}/{key.partition('/')[2]}"
                broker.send(ledger if its_own else topic, [value], key=its_own)
        return sales, sinks.kafka(
            broker.servers, topic, ledger=ledger, exactly_once=True
        )

    def read(_):
        rows = (
            json.loads(record.value or b"") for record in broker.records(there["topic"])
        )
        return [(row["product"], row["amount"]) for row in rows]

    rows = spark.createDataFrame(ROWS, SALES)
    made = assert_exactly_once(build, rows, read=read, expected=ROWS, most=most)
    assert made.schedules == most
    print(f"kafka: {made}")  # noqa: T201 - kept in the log
