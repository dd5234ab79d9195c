"""Driver and broker stopped and killed, partitions added: each record counts once."""

import os
from functools import partial
from typing import Any

import pytest
from conftest import failure
from faults.drivers import ended, until
from systems.conftest import SCRIPTS
from systems.sales import Reader, Sales, kill_at_random_times

from sparkstream_kit import run, sources

SCRIPT = SCRIPTS / "kafka_sales.py"


class TopicSales(Sales):
    """Sales in a topic."""

    def __init__(self, broker, partitions=2):
        self.topic = broker.topic(partitions=partitions)
        super().__init__(partial(broker.send, self.topic))


@pytest.mark.slow
def test_a_driver_that_is_killed_at_random_times(broker, begin, tmp_path):
    sales = TopicSales(broker)
    jars = {"SPARKSTREAM_JARS": os.environ["SPARKSTREAM_JARS"]}
    driver = partial(begin, "python", SCRIPT, broker.servers, sales.topic, tmp_path)
    kill_at_random_times(partial(driver, **jars), sales, tmp_path / "ckpt-totals")
    assert "0 records behind" in ended(driver("--available-now", **jars))
    sales.check(tmp_path, "totals.db", "SELECT region, sales, cents FROM totals")


def reading(spark, broker, topic, checkpoint, **options):
    return Reader(sources.kafka(spark, broker.servers, topic, **options), checkpoint)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_that_goes_and_comes_back(spark, broker, tmp_path, request, how):
    request.addfinalizer(broker.start)  # whatever happens here: others need it
    sales = TopicSales(broker)
    sales.sell(500)
    reader = reading(spark, broker, sales.topic, tmp_path / "ckpt")
    until(lambda: reader.has(sales))
    getattr(broker, how)()
    until(lambda: "Getting offsets" in reader.query.status["message"])
    broker.start()
    sales.sell(500)
    until(lambda: reader.has(sales))
    reader.stop()
    sales.sell(100)
    again = reading(spark, broker, sales.topic, tmp_path / "ckpt")
    until(lambda: sorted(reader.ids + again.ids) == list(range(sales.number)))
    again.query.stop()


def test_a_broker_that_stays_away_is_one_line(spark, broker, tmp_path, request):
    request.addfinalizer(broker.start)  # whatever happens here: others need it
    sales = TopicSales(broker)
    sales.sell(10)
    # How long Spark's own client waits for each of its tries, by default a minute.
    soon: dict[str, Any] = {
        "kafka.default.api.timeout.ms": 4000,
        "kafka.request.timeout.ms": 4000,
        "fetchOffset.numRetries": 1,
    }
    reader = reading(spark, broker, sales.topic, tmp_path / "ckpt", **soon)
    until(lambda: reader.has(sales))
    broker.kill()
    said = (
        "query reader failed: no Kafka broker has answered; start it, and then the"
        " query again (Spark: "
    )
    assert failure(run, reader.query).startswith(said)


def test_partitions_that_are_added_in_mid_stream(spark, broker, tmp_path):
    sales = TopicSales(broker, partitions=1)
    sales.sell(100)
    reader = reading(spark, broker, sales.topic, tmp_path / "ckpt")
    until(lambda: reader.has(sales))
    broker.add_partitions(sales.topic, 3)
    for partition in (2, 1, 0):
        sales.sell(100, partition=partition)
    until(lambda: reader.has(sales))
    reader.query.stop()
