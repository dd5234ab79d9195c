"""`sinks.kafka`: what a record holds, and that a reader can drop what comes twice.

A reader can do so over kills, too.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from decimal import Decimal
from functools import partial

import pytest
from conftest import refusal
from faults.drivers import ended
from faults.drivers import until as wait
from pyspark.sql import functions as F
from support.sink_streams import forget_commit
from systems.conftest import ROUNDS, SCRIPTS

from sparkstream_kit import quarantine, run, sinks, sources, start, state, windows
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.schemas import from_ddl

IDS = ("sparkstream.query", "sparkstream.batch", "sparkstream.row")


class Rows:
    """A stream of rows from JSON files, a file a batch, and the checkpoint of its query."""

    def __init__(self, spark, home, schema):
        self.spark, self.folder, self.checkpoint, self.schema = (
            spark,
            home / "in",
            home / "ckpt",
            schema,
        )
        self.folder.mkdir()

    def add(self, *rows):
        number = len(list(self.folder.iterdir()))
        text = "".join(json.dumps(row, default=str) + "\n" for row in rows)
        (self.folder / f"{number}.json").write_text(text)
        # Spark reads them by their times
        os.utime(self.folder / f"{number}.json", (number, number))

    def write(self, sink, **more):
        frame = sources.json(
            self.spark, self.folder, schema=self.schema, max_files_per_trigger=1
        )
        frame = more.pop("of", lambda rows: rows)(frame)
        run(
            start(
                frame,
                sink,
                name="out",
                checkpoint=self.checkpoint,
                availableNow=True,
                **more,
            )
        )


@pytest.fixture
def rows(spark, tmp_path):
    return partial(Rows, spark, tmp_path)


def ids(record):
    assert [name for name, _ in record.headers] == list(IDS)
    return tuple((value or b"").decode() for _, value in record.headers)


def test_a_record_is_the_row_as_json_and_says_which_row_it_is(broker, rows):
    made = rows(
        "shop STRING, amount DECIMAL(12,2), at TIMESTAMP, raw BINARY, tags"
        " ARRAY<STRING>, n INT"
    )
    full = {
        "shop": "Zürich",
        "amount": "7.50",
        "at": "2024-02-29T10:00:00.123456Z",
        "raw": "AP8=",
        "n": 5,
    }
    made.add(full | {"tags": ["a", None]}, {"shop": None})
    made.add({"shop": "b"})
    topic = broker.topic(partitions=2)
    made.write(sinks.kafka(broker.servers, topic, key="shop"))
    found = broker.records(topic)
    values = {
        record.key: json.loads(record.value or b"", parse_float=Decimal)
        for record in found
    }
    assert {key: list(value) for key, value in values.items()} == {
        key: ["shop", "amount", "at", "raw", "tags", "n"]
        for key in ("Zürich".encode(), None, b"b")
    }
    assert values["Zürich".encode()] == full | {
        "amount": Decimal("7.50"),
        "tags": ["a", None],
    }
    assert values[None] == dict.fromkeys(("shop", "amount", "at", "raw", "tags", "n"))
    query = json.loads((made.checkpoint / "metadata").read_text())["id"]
    assert sorted(ids(record)[:2] for record in found) == [
        (query, "0"),
        (query, "0"),
        (query, "1"),
    ]
    assert len({ids(record) for record in found}) == 3


def test_key_and_value_are_columns_as_they_stand(broker, rows):
    made = rows("k INT, text STRING")
    made.add({"k": 1, "text": "a"}, {"k": 2, "text": None})
    raw = F.unhex(F.lit("00FF80"))
    cases: list[tuple[str, str, set[tuple[bytes | None, bytes | None]]]] = [
        ("k", "text", {(b"1", b"a"), (b"2", None)}),
        ("raw", "raw", {(b"\0\xff\x80", b"\0\xff\x80")}),
    ]
    for key, value, expected in cases:
        topic = broker.topic()
        shutil.rmtree(made.checkpoint, ignore_errors=True)
        sink = sinks.kafka(broker.servers, topic, key=key, value=value)
        made.write(sink, of=lambda frame: frame.withColumn("raw", raw))
        assert {
            (record.key, record.value) for record in broker.records(topic)
        } == expected


@pytest.mark.parametrize(
    "more", [{}, {"key": "shop"}, {"key": "shop", "row_id": ["n"]}], ids=str
)
def test_a_batch_that_comes_again_is_known_by_its_headers(broker, rows, more):
    made = rows("shop STRING, amount INT" + (", n INT" if "row_id" in more else ""))
    # Equal rows, too
    numbered = [{"shop": "ab"[n % 2], "amount": n % 3, "n": n} for n in range(60)]
    made.add(*numbered[:30])
    made.add(*numbered[30:])
    topic = broker.topic(partitions=2)
    sink = sinks.kafka(broker.servers, topic, **more)
    made.write(sink)
    first = Counter(map(ids, broker.records(topic)))
    assert len(first) == 60
    forget_commit(made.checkpoint)
    made.write(sink)
    again = Counter(map(ids, broker.records(topic)))
    assert set(again) == set(first)
    assert Counter(again.values()) == {1: 30, 2: 30}


def test_the_records_of_a_key_keep_their_order(broker, spark, rows):
    several_tasks = {
        "spark.sql.shuffle.partitions": "3",
        "spark.sql.adaptive.enabled": "false",
    }
    made = rows("shop STRING, n INT")
    made.add(*({"shop": "abc"[n % 3], "n": n % 50} for n in range(900)))
    for more in ({}, {"row_id": ["shop", "n"]}):
        topic = broker.topic(partitions=2)
        shutil.rmtree(made.checkpoint, ignore_errors=True)
        with in_force(spark, several_tasks):  # as users have
            made.write(sinks.kafka(broker.servers, topic, key="shop", **more))  # type: ignore[arg-type]
        written = defaultdict(list)
        for record in broker.records(topic):
            written[record.key].append(json.loads(record.value or b"")["n"])
        assert written == {
            shop.encode(): [n % 50 for n in range(900) if "abc"[n % 3] == shop]
            for shop in "abc"
        }


def test_killed_and_read_by_the_recipe_each_row_is_there_once(
    broker, spark, begin, connector_jars, tmp_path
):
    pick = random.Random(11)  # noqa: S311 - times, not secrets
    topic, folder, checkpoint = (
        broker.topic(partitions=2),
        tmp_path / "in",
        tmp_path / "ckpt",
    )
    folder.mkdir()
    to = (folder, "--to", broker.servers, topic, "--checkpoint", checkpoint)
    files_to = partial(begin, "python", SCRIPTS / "files_to_kafka.py", *to)
    driver = partial(files_to, SPARKSTREAM_JARS=str(connector_jars))
    truth: Counter[tuple[str, Decimal]] = Counter()

    for number in range(ROUNDS + 1):
        rows = [
            (f"k{pick.randrange(7)}", Decimal(pick.randrange(4))) for _ in range(200)
        ]
        truth.update(rows)
        lines = (
            json.dumps({"shop": shop, "amount": int(amount)}) for shop, amount in rows
        )
        (folder / f"{number}.json").write_text("\n".join(lines))
        if number == ROUNDS:
            break
        # In every second round the batch is written whole and not committed, else the
        # kill comes some time.
        begun = (
            checkpoint / "offsets" / str(number)
            if number % 2
            else tmp_path / f"written-{number}"
        )
        killed = driver(*(() if number % 2 else ("--stay", begun)))
        wait(begun.exists, lambda: killed.errors)  # noqa: B023 - waited for here
        # The moment, which no condition picks
        time.sleep(pick.uniform(0, 1) if number % 2 else 0)
        killed.kill("group")
    ended(driver("--available-now"))
    written = broker.records(topic)
    assert len(written) >= truth.total() + 200 * ((ROUNDS + 1) // 2)
    assert len({ids(record) for record in written}) == truth.total()
    # The recipe of docs/kafka.md.
    once = (
        sources.kafka(spark, broker.servers, topic)
        .dropDuplicates(["headers"])
        .select("value")
    )
    found = quarantine.parse_json(once, from_ddl("shop STRING, amount DECIMAL(12,2)"))
    run(start(quarantine.good_rows(found), sinks.memory("read"), availableNow=True))
    assert (
        Counter((row["shop"], row["amount"]) for row in spark.table("read").collect())
        == truth
    )


def test_bad_records_go_to_a_topic_of_their_own(broker, spark, tmp_path):
    orders, dead = broker.topic(partitions=2), broker.topic()
    broker.send(
        orders,
        ['{"id":1}', "junk", b"\xff\0", None, '{"id":"x"}'],
        key="k",
        partition=1,
    )
    rows = quarantine.parse_json(
        sources.kafka(spark, broker.servers, orders), from_ddl("id INT NOT NULL")
    )
    good = sinks.batch_files(tmp_path / "good").taking(quarantine.good_rows)
    place = ["topic", "partition", "offset"]
    bad = sinks.kafka(broker.servers, dead, key="_reason", row_id=place).taking(
        quarantine.bad_rows
    )
    both = sinks.fan_out(good, bad)
    query = start(
        rows, both, name="orders", checkpoint=tmp_path / "ckpt", availableNow=True
    )
    assert run(query).queries[0].bad_rows == 4
    assert [
        row["id"] for row in spark.read.parquet(f"{tmp_path}/good/*").collect()
    ] == [1]
    letters = [json.loads(record.value or b"") for record in broker.records(dead)]
    wrong = "not valid JSON, or a field twice"
    assert sorted(
        (each["offset"], each["_reason"], each["_raw"]) for each in letters
    ) == [
        (1, wrong, "junk"),
        (2, "not valid UTF-8", "\ufffd\ufffd"),
        (3, wrong, None),
        (4, "id: not an int", '{"id":"x"}'),
    ]
    assert {(each["topic"], each["partition"], each["key"]) for each in letters} == {
        (orders, 1, "k")
    }
    assert [each["_bytes"] for each in letters if each["offset"] == 2] == ["/wA="]


def test_columns_and_topics_that_cannot_be_are_one_line(broker, rows):
    made = rows("shop STRING, amount DECIMAL(12,2), s STRUCT<a: INT>")
    topic = broker.topic(f"totals-of-the-day-{broker.topic()}")
    for given, message in (
        ({"key": "shp"}, "unknown column of sinks.kafka() shp; did you mean shop?"),
        (
            {"row_id": ["m"]},
            "unknown column of sinks.kafka() m; known: amount, s, shop",
        ),
        (
            {"value": "amount"},
            (
                "sinks.kafka(): value amount is decimal(12,2), not a string or binary;"
                " leave"
            ),
        ),
        (
            {"key": "s"},
            (
                "sinks.kafka(): key s is struct<a:int>, whose bytes are not plain; make"
                " it a text"
            ),
        ),
        (
            {"topic": topic[:-1]},
            (
                f"Kafka at {broker.servers} has no topic {topic[:-1]}; did you mean"
                f" {topic}?"
            ),
        ),
    ):
        sink = sinks.kafka(broker.servers, **{"topic": topic} | given)
        assert refusal(made.write, sink).startswith(message)


CONNECT = """
import sys
from sparkstream_kit import get_session, run, sinks, sources, start
servers, topic, folder, checkpoint, exactly_once = sys.argv[1:]
spark = get_session("connect")
rows = sources.json(spark, folder, schema="shop STRING, n INT")
sink = sinks.kafka(servers, topic, key="shop", exactly_once=exactly_once == "True")
run(start(rows, sink, name="out", checkpoint=checkpoint, availableNow=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("exactly_once", [False, True])
def test_it_writes_on_spark_connect_too(
    broker, tmp_path, connect_to_kafka, exactly_once
):
    topic, folder = broker.topic(), tmp_path / "in"
    folder.mkdir()
    (folder / "a.json").write_text('{"shop":"a","n":1}\n{"shop":"a","n":1}\n')
    program = [
        sys.executable,
        "-c",
        CONNECT,
        broker.servers,
        topic,
        folder,
        tmp_path / "ckpt",
    ]
    for _ in range(2 if exactly_once else 1):
        subprocess.run(
            [*program, str(exactly_once)], check=True, env=os.environ | connect_to_kafka
        )
        forget_commit(tmp_path / "ckpt", 0)
    found = broker.records(topic)
    assert [record.value for record in found] == [b'{"shop":"a","n":1}'] * 2
    assert exactly_once or len({ids(record) for record in found}) == 2


def test_the_recipe_with_a_bounded_state(broker, spark, rows):
    made = rows("shop STRING")
    made.add(*({"shop": "a"} for _ in range(10)))
    topic = broker.topic(partitions=2)
    sink = sinks.kafka(broker.servers, topic)
    made.write(sink)
    forget_commit(made.checkpoint)
    made.write(sink)
    records = windows.with_watermark(
        sources.kafka(spark, broker.servers, topic), "timestamp", "10 minutes"
    )
    records = records.withColumn("id", F.to_json("headers"))
    once = state.once(records, "id", "timestamp", within="1 day")
    run(start(once.select("value"), sinks.memory("bounded"), availableNow=True))
    assert len(broker.records(topic)) == 20
    assert spark.table("bounded").count() == 10
