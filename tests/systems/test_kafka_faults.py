"""Driver and broker stopped and killed, partitions added: each record counts once, whatever happened."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import environment
from faults.drivers import Driver, until
from systems import kafka

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.errors import QueryFailed

ROUNDS = int(os.environ.get("ROUNDS", "3"))  # of kills at random times
SCRIPT = Path(__file__).parent / "scripts" / "kafka_sales.py"
REGIONS = ("north", "south", "east", "west")


@pytest.fixture(scope="module")
def broker():
    return kafka.broker()


class Sales:
    """Sales that are written to a topic, and their truth."""

    def __init__(self, broker, partitions=2):
        self.topic = broker.topic(partitions=partitions)
        self._broker = broker
        self.number = 0

    def sell(self, number, partition=None):
        """Write some more."""
        made = range(self.number, self.number + number)
        lines = (json.dumps({"id": each, "region": REGIONS[each % 4], "cents": each % 997}) for each in made)
        self._broker.send(self.topic, lines, partition=partition)
        self.number += number

    def totals(self):
        """Return how many sales each region has, and the sum of their cents."""
        counts, cents = Counter[str](), Counter[str]()
        for each in range(self.number):
            counts[REGIONS[each % 4]] += 1
            cents[REGIONS[each % 4]] += each % 997
        return {region: (counts[region], cents[region]) for region in counts}


@pytest.fixture
def launch(tmp_path, temporary):
    """Start a driver as a process of its own; what is left of it at the end is killed."""
    drivers: list[Driver] = []

    def start(*args):
        drivers.append(Driver("python", SCRIPT, args, tmp_path, environment(**temporary, **JARS)))
        return drivers[-1]

    JARS = {"SPARKSTREAM_JARS": os.environ["SPARKSTREAM_JARS"]}  # noqa: N806 - named by a session fixture
    yield start
    for driver in drivers:
        driver.remove()


@pytest.mark.slow
def test_a_driver_that_is_killed_at_random_times(broker, launch, tmp_path):
    sales, pick = Sales(broker), random.Random(20)  # noqa: S311 - times, not secrets
    given = (broker.servers, sales.topic, tmp_path)
    lock = tmp_path / "ckpt-totals" / "sparkstream-kit" / "lock"
    for _ in range(ROUNDS):
        sales.sell(1000)
        driver = launch(*given)
        named = f": {driver.pid}, "
        while not (lock.exists() and named in lock.read_text()):  # it has begun
            assert driver.running, driver.errors
            time.sleep(0.02)  # between looks
        selling = threading.Thread(target=sales.sell, args=(1000,))
        selling.start()
        time.sleep(pick.uniform(0, 4))  # the moment of the kill, which no condition picks
        driver.kill(pick.choice(["group", "python", "jvm"]))
        selling.join()
    last = launch(*given, "--available-now")
    assert last.ended() == 0, last.errors
    assert "0 records behind" in last.output

    read = [
        row
        for file in (tmp_path / "rows").glob("batch=*/*.parquet")
        for row in pq.read_table(file, partitioning=None).to_pylist()
    ]
    assert sorted(row["id"] for row in read) == list(range(sales.number))
    assert sum(row["cents"] for row in read) == sum(cents for _, cents in sales.totals().values())
    with closing(sqlite3.connect(tmp_path / "totals.db")) as database:
        found = database.execute("SELECT region, sales, cents FROM totals").fetchall()
    assert {region: (number, cents) for region, number, cents in found} == sales.totals()


class Reader:
    """A query that runs, and the ids that it has read."""

    def __init__(self, spark, broker, topic, checkpoint, **options):
        self.ids: list[int] = []

        def keep(batch, _):
            self.ids += [json.loads(row.value)["id"] for row in batch.collect()]

        frame = sources.kafka(spark, broker.servers, topic, **options)
        self.query = start(
            frame,
            sinks.foreach_batch(keep),
            name="reader",
            checkpoint=checkpoint,
            processingTime="0 seconds",
        )

    def has(self, sales):
        """Say whether it has read all, each once."""
        assert self.query.isActive, self.query.exception()
        assert len(self.ids) == len(set(self.ids))
        return sorted(self.ids) == list(range(sales.number))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_that_goes_and_comes_back(spark, broker, tmp_path, request, how):
    request.addfinalizer(broker.start)  # whatever happens here: others need it
    sales = Sales(broker)
    sales.sell(500)
    reader = Reader(spark, broker, sales.topic, tmp_path / "ckpt")
    until(lambda: reader.has(sales))
    getattr(broker, how)()
    until(lambda: "Getting offsets" in reader.query.status["message"])
    broker.start()
    sales.sell(500)
    until(lambda: reader.has(sales))
    reader.query.processAllAvailable()  # cut before its commit, a batch would come again
    reader.query.stop()
    sales.sell(100)
    again = Reader(spark, broker, sales.topic, tmp_path / "ckpt")
    until(lambda: sorted(reader.ids + again.ids) == list(range(sales.number)))
    again.query.stop()


def test_a_broker_that_stays_away_is_one_line(spark, broker, tmp_path, request):
    request.addfinalizer(broker.start)  # whatever happens here: others need it
    sales = Sales(broker)
    sales.sell(10)
    # How long Spark's own client waits for each of its tries, by default a minute.
    soon: dict[str, Any] = {
        "kafka.default.api.timeout.ms": 4000,
        "kafka.request.timeout.ms": 4000,
        "fetchOffset.numRetries": 1,
    }
    reader = Reader(spark, broker, sales.topic, tmp_path / "ckpt", **soon)
    until(lambda: reader.has(sales))
    broker.kill()
    with pytest.raises(QueryFailed) as failed:
        run(reader.query)
    said = f"query reader failed: no Kafka broker at {broker.servers} has answered within 4 s; start it, "
    assert str(failed.value).startswith(said)
    assert "\n" not in str(failed.value)


def test_partitions_that_are_added_in_mid_stream(spark, broker, tmp_path):
    sales = Sales(broker, partitions=1)
    sales.sell(100)
    reader = Reader(spark, broker, sales.topic, tmp_path / "ckpt")
    until(lambda: reader.has(sales))
    broker.add_partitions(sales.topic, 3)
    for partition in (2, 1, 0):
        sales.sell(100, partition)
    until(lambda: reader.has(sales))
    reader.query.stop()
