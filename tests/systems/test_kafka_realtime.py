"""Real-time mode from Kafka to Kafka: rows come out while a batch runs.

What it cannot run is refused.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pyspark
import pytest
from conftest import HANGS, running
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import checkpoints, quarantine, run, sinks, sources, start
from sparkstream_kit.errors import QueryFailed
from sparkstream_kit.schemas import from_ddl

NOW: dict[str, Any] = {"mode": "update", "realTime": "5 seconds"}
SPARK_4_3 = not pyspark.__version__.startswith(("4.1.", "4.2."))


def test_rows_come_out_while_the_batch_runs_and_none_is_lost_at_its_end(
    broker, spark, tmp_path, until
):
    given, made = broker.topic(), broker.topic()
    records = sources.kafka(spark, broker.servers, given)
    rows = quarantine.good_rows(
        quarantine.parse_json(records.select("value"), from_ddl("n INT NOT NULL"))
    )
    sink = sinks.kafka(broker.servers, made, key="n").taking(
        lambda frame: frame.where("n <> 3")
    )
    began = time.monotonic()
    query = start(rows, sink, name="now", checkpoint=tmp_path / "ckpt", **NOW)
    for number in range(5):
        broker.send(given, [f'{{"n":{number}}}', "junk"])
        expected = [n for n in range(number + 1) if n != 3]
        until(lambda: sorted(written(broker, made)) == expected)  # noqa: B023 - waited for here
    assert query.isActive
    batches = run(query, run_for=0.1).queries[0].batches
    # Each lasts five seconds or more
    assert batches <= 2 + (time.monotonic() - began) // 5
    # What was sent while it was stopped comes by micro-batches of the same checkpoint.
    broker.send(given, ['{"n":5}'])
    run(start(rows, sink, name="now", checkpoint=tmp_path / "ckpt", availableNow=True))
    assert set(written(broker, made)) == {0, 1, 2, 4, 5}


def written(broker, topic):
    return [int(record.key or b"") for record in broker.records(topic)]


# What Spark 4.2 does not run; later ones run more.
OTHERS: dict[str, Callable[[DataFrame], DataFrame]] = {
    "a function": lambda rows: rows.select(F.udf(str.upper)("value").alias("value")),
    "mapInPandas": lambda rows: rows.mapInPandas(lambda parts: parts, "value STRING"),
    "counts": lambda rows: rows.groupBy("value").count(),
    "duplicates": lambda rows: rows.dropDuplicates(["value"]),
    "two streams": lambda rows: rows.join(
        rows.select(F.col("value").alias("other")), F.expr("value = other")
    ),
    "another number of tasks": lambda rows: rows.repartition(3),
}


@pytest.mark.parametrize(
    "what", [*OTHERS] if not SPARK_4_3 else ["a function", "mapInPandas"]
)
def test_what_spark_does_not_run_is_its_own_line_and_leaves_the_checkpoint_whole(
    broker, spark, tmp_path, until, what
):
    given, made = broker.topic(), broker.topic()
    rows = sources.kafka(spark, broker.servers, given).select("value")
    how: dict[str, Any] = {"name": "now", "checkpoint": tmp_path / "ckpt", **NOW}
    with pytest.raises(
        QueryFailed, match=r"^query now failed: .*\[STREAMING_REAL_TIME_MODE\."
    ) as raised:
        run(
            start(
                OTHERS[what](rows),
                sinks.kafka(broker.servers, made, value="value"),
                **how,
            )
        )
    assert "\n" not in str(raised.value)
    assert checkpoints.check(tmp_path / "ckpt") == []
    query = start(rows, sinks.kafka(broker.servers, made, value="value"), **how)
    broker.send(given, ["a"])
    until(lambda: [record.value for record in broker.records(made)] == [b"a"])
    query.stop()


def test_a_table_may_be_joined(broker, spark, tmp_path, until):
    given, made = broker.topic(), broker.topic()
    shops = F.broadcast(
        spark.createDataFrame([("a", "Zürich")], "value STRING, place STRING")
    )
    rows = (
        sources.kafka(spark, broker.servers, given).select("value").join(shops, "value")
    )
    sink = sinks.kafka(broker.servers, made, value="place")
    query = start(rows, sink, name="now", checkpoint=tmp_path / "ckpt", **NOW)
    broker.send(given, ["a", "b"])
    until(
        lambda: [record.value for record in broker.records(made)] == ["Zürich".encode()]
    )
    query.stop()


CONNECT = """
import sys
from sparkstream_kit import get_session, sinks, sources, start
servers, given, made, checkpoint = sys.argv[1:]
spark = get_session("connect")
rows = sources.kafka(spark, servers, given)
sink = sinks.kafka(servers, made, value="value")
query = start(rows, sink, name="now", checkpoint=checkpoint, mode="update", realTime="5 seconds")
sys.stdin.read()
query.stop()
"""


@pytest.mark.slow
def test_it_runs_on_spark_connect_too(broker, tmp_path, connect_to_kafka, until):
    given, made = broker.topic(), broker.topic()
    words = [
        sys.executable,
        "-c",
        CONNECT,
        broker.servers,
        given,
        made,
        tmp_path / "ckpt",
    ]
    env = os.environ | connect_to_kafka
    with running(
        *words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        broker.send(given, ["a"])
        until(
            lambda: (
                [record.value for record in broker.records(made)] == [b"a"]
                or client.poll() is not None
            )
        )
        client.communicate("", timeout=HANGS)
    assert client.returncode == 0
