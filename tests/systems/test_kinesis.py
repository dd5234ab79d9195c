"""`sources.kinesis` on a server: each record once over kills, replays and reshards.

The server may also be absent for a while.
"""

import csv
import io
import json
import re
import threading
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, failure, ran, refusal
from faults.drivers import ended, until
from systems.conftest import SCRIPTS
from systems.daemons import running
from systems.kinesis import REGION, Server
from systems.sales import Reader, Sales, kill_at_random_times

from sparkstream_kit import checkpoints, feeds, run, sinks, sources, start

SCRIPT = SCRIPTS / "kinesis_sales.py"
HOUR = 3_600_000


@pytest.fixture(scope="module")
def one_server():
    yield from running(Server())


@pytest.fixture
def server(one_server):
    """The server; whatever a test has told it is over after the test."""
    yield one_server
    one_server.come()
    one_server.control()


class StreamSales(Sales):
    """Sales in a stream."""

    def __init__(self, server, shards=2):
        self.stream = server.stream(shards)
        super().__init__(lambda lines: server.put(self.stream, map(self._keyed, lines)))

    def _keyed(self, line):
        return f"key-{json.loads(line)['id'] % 97}", line


def reading(spark, server, stream, checkpoint, *, available_now=False, **options):
    frame = sources.kinesis(
        spark, stream, endpoint=server.url, region=REGION, **options
    )
    return Reader(
        frame, checkpoint, **({"availableNow": True} if available_now else {})
    )


def read_all(spark, server, stream, checkpoint, **options):
    """Return a query that has read all that is there."""
    reader = reading(spark, server, stream, checkpoint, available_now=True, **options)
    run(reader.query)
    return reader


def read_through(spark, server, folder):
    """Return sales in a stream of their own, and a query that has read them and goes on."""
    sales = StreamSales(server)
    sales.sell(100)
    reader = reading(spark, server, sales.stream, folder)
    until(lambda: reader.has(sales))
    return sales, reader


def planned(checkpoint):
    """Return the last batch of a checkpoint."""
    return max(
        int(file.name)
        for file in (checkpoint / "offsets").iterdir()
        if file.name.isdecimal()
    )


def forget(checkpoint, first, last):
    """Make Spark believe it was killed in a planned batch, and planned none after it."""
    logs = {"commits": range(first, last + 1), "offsets": range(first + 1, last + 1)}
    for file in (
        checkpoint / log / f"{number}"
        for log, numbers in logs.items()
        for number in numbers
    ):
        file.unlink(missing_ok=True)
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


@pytest.mark.slow
def test_a_driver_that_is_killed_at_random_times_while_shards_are_split_and_merged(
    server, begin, tmp_path, kit
):
    sales = StreamSales(server)
    given = (SCRIPT, server.url, sales.stream, tmp_path)

    def change(number):
        (server.merge if number % 2 else server.split)(sales.stream)
        sales.sell(100)

    kill_at_random_times(
        partial(begin, "python", *given), sales, tmp_path / "ckpt", change
    )
    # The last one has the kit from --py-files alone, also in the worker that plans the
    # batches.
    submit = ("spark-submit", "--master", "local[2]", "--py-files", kit)
    ended(begin(*submit, *given, "--available-now", PYTHONPATH=""))
    sales.check(
        tmp_path,
        "sales.db",
        "SELECT region, count(*), sum(cents) FROM sales GROUP BY region",
    )


def test_shards_split_and_merged_in_mid_stream_and_while_the_query_is_stopped(
    spark, server, tmp_path
):
    sales = StreamSales(server)
    sales.sell(500)
    reader = reading(spark, server, sales.stream, tmp_path / "ckpt")
    until(lambda: reader.has(sales))
    for change in (server.split, server.merge):
        change(sales.stream)
        sales.sell(300)
    until(lambda: reader.has(sales))
    reader.stop()
    for change in (server.split, server.split, server.merge):
        change(sales.stream)
        sales.sell(300)
    again = reading(spark, server, sales.stream, tmp_path / "ckpt")
    until(lambda: sorted(reader.ids + again.ids) == list(range(sales.number)))
    again.stop()
    for key in range(97):  # records of a key stay in order
        mine = [each for each in reader.ids + again.ids if each % 97 == key]
        assert mine == sorted(mine)
    progress = [each for each in again.query.recentProgress if each.numInputRows]
    assert progress[-1].sources[0].endOffset is not None


def test_records_of_a_key_stay_in_order_over_splits_and_merges(spark, server, tmp_path):
    sales = StreamSales(server, shards=1)
    for change in (server.split, server.split, server.merge, server.merge):
        sales.sell(200)
        change(sales.stream)
    sales.sell(200)
    reader = reading(spark, server, sales.stream, tmp_path / "ckpt", available_now=True)
    run(reader.query)
    assert sorted(reader.ids) == list(range(sales.number))
    for key in range(97):
        mine = [each for each in reader.ids if each % 97 == key]
        assert mine == sorted(mine)


def test_a_batch_that_was_not_committed_comes_again_with_the_same_rows(
    spark, server, tmp_path
):
    sales, folder = StreamSales(server), tmp_path / "ckpt"
    # The first batch, whose start Spark does not keep, and a later one
    for many in (300, 200):
        sales.sell(many)
        reader = read_all(spark, server, sales.stream, folder, starting="earliest")
        last, rows = max((number, ids) for number, ids in reader.batches.items() if ids)
        forget(folder, last, max(reader.batches))
        sales.sell(50)
        server.split(sales.stream)
        again = read_all(spark, server, sales.stream, folder)
        assert again.batches[last] == rows
        more = [
            each
            for number, ids in again.batches.items()
            if number > last
            for each in ids
        ]
        assert sorted(more) == list(range(sales.number - 50, sales.number))


def test_a_first_batch_from_latest_comes_again_from_the_same_place(
    spark, server, tmp_path
):
    sales, folder = StreamSales(server), tmp_path / "ckpt"
    sales.sell(100)
    # What was there is older than the second in which the query starts
    server.control(clock=10_000)
    reader = reading(spark, server, sales.stream, folder, starting="latest")
    until(lambda: reader.query.status["message"].startswith("Waiting"))
    sales.sell(100)
    until(lambda: reader.has(sales, first=100))
    reader.query.stop()
    first = min(number for number, ids in reader.batches.items() if ids)
    forget(folder, first, max(reader.batches))
    server.control(clock=60_000)
    again = read_all(spark, server, sales.stream, folder, starting="latest")
    assert again.batches[first] == reader.batches[first]
    assert sorted(again.ids) == list(range(100, 200))


def test_a_query_that_starts_at_a_time_reads_what_arrived_then_and_later(
    spark, server, tmp_path
):
    server.control(clock=-20 * 60_000)
    sales = StreamSales(server)
    sales.sell(100)
    server.control()
    sales.sell(100)
    moment = datetime.now(UTC) - timedelta(minutes=10)
    reader = read_all(spark, server, sales.stream, tmp_path / "ckpt", starting=moment)
    assert sorted(reader.ids) == list(range(100, 200))


def test_available_now_reads_what_is_there_in_batches_that_are_limited(
    spark, server, tmp_path
):
    sales = StreamSales(server, shards=3)
    sales.sell(1000)
    folder, most = tmp_path / "ckpt", {"max_records_per_trigger": 150}
    reader = reading(spark, server, sales.stream, folder, available_now=True, **most)
    more = threading.Event()

    def selling():  # does not end by itself
        while not more.wait(0.05):
            sales.sell(20)

    thread = threading.Thread(target=selling)
    until(lambda: len(reader.batches) > 1)
    server.control(clock=5_000)  # what comes now comes later than the start
    thread.start()
    summary = run(reader.query)
    more.set()
    thread.join()
    assert sorted(reader.ids) == list(range(1000))
    assert max(map(len, reader.batches.values())) <= 150
    assert summary.ended_by == "end of input"
    again = read_all(spark, server, sales.stream, folder, **most)
    assert sorted(again.ids) == list(range(1000, sales.number))


def test_a_server_that_goes_and_comes_back(spark, server, tmp_path):
    sales, reader = read_through(spark, server, tmp_path / "ckpt")
    server.go()
    time.sleep(1)  # tries go wrong
    server.come()
    sales.sell(200)
    until(lambda: reader.has(sales))
    server.go()
    reader.query.stop()  # also while it waits for the server
    assert reader.query.exception() is None
    server.come()
    stays_away = reading(spark, server, sales.stream, tmp_path / "ckpt", retry_for=1)
    server.go()
    said = failure(run, stays_away.query)
    assert said.startswith(
        f"query reader failed: Kinesis at {server.url} cannot be reached ("
    )
    assert (
        "has not done better for 1 s; start it, correct the endpoint, or try again"
        in said
    )


def test_throttling_is_ridden_out(spark, server, tmp_path):
    sales = StreamSales(server)
    sales.sell(100)
    server.control(throttle=1)
    reader = reading(spark, server, sales.stream, tmp_path / "ckpt", retry_for=60)
    until(lambda: server.throttled() > 2 or not reader.query.isActive)
    server.control()
    until(lambda: reader.has(sales))
    reader.stop()
    server.control(throttle=1)
    again = reading(spark, server, sales.stream, tmp_path / "ckpt", retry_for=0.5)
    said = (
        "says ProvisionedThroughputExceededException, and has not done better for 0.5 s"
    )
    assert said in failure(run, again.query)


def test_iterators_that_expire_are_renewed(spark, server, tmp_path):
    sales, reader = read_through(spark, server, tmp_path / "ckpt")
    server.control(clock=6 * 60_000)  # they hold for five minutes
    sales.sell(100)
    until(lambda: reader.has(sales))
    reader.stop()


def test_records_that_were_deleted_before_they_were_read(spark, server, tmp_path):
    folder = tmp_path / "ckpt"
    sales, reader = read_through(spark, server, folder)
    reader.stop()
    sales.sell(100)
    server.control(clock=25 * HOUR)
    sales.sell(50)
    said = failure(run, reading(spark, server, sales.stream, folder).query)
    assert (
        f"{sales.stream} keeps records for 24 hours, and the query has read what"
        " arrived before" in said
    )
    assert (
        "UTC: later records may be gone; start on a new checkpoint, or, to go on"
        " without" in said
    )
    again = reading(spark, server, sales.stream, folder, fail_on_data_loss=False)
    until(lambda: again.has(sales, first=200))
    again.stop()


def test_an_idle_query_is_no_loss(spark, server, tmp_path):
    folder = tmp_path / "ckpt"
    sales, reader = read_through(spark, server, folder)
    for hours in (10, 20, 30):  # more than the stream keeps a record
        before = planned(folder)
        server.control(clock=hours * HOUR)
        until(lambda before=before: planned(folder) > before)  # it notes how far it is
    reader.stop()
    server.control(clock=50 * HOUR)
    sales.sell(100)
    again = reading(spark, server, sales.stream, folder)
    until(lambda: again.has(sales, first=100))
    again.stop()


def test_a_batch_that_cannot_come_again_as_it_was_is_refused(spark, server, tmp_path):
    sales, folder = StreamSales(server, shards=1), tmp_path / "ckpt"
    sales.sell(100)
    server.control(clock=20 * HOUR)
    sales.sell(100)
    assert read_all(spark, server, sales.stream, folder).batches[0] == list(range(200))
    forget(folder, 0, 0)
    server.control(clock=30 * HOUR)
    again = reading(spark, server, sales.stream, folder, available_now=True)
    said = (
        "no longer has all 200 records of shardId-000000000000 that belong to a batch,"
        " but 100: it has "
    )
    assert said in failure(run, again.query)


def test_a_stream_that_was_made_again(spark, server, tmp_path):
    folder = tmp_path / "ckpt"
    sales, reader = read_through(spark, server, folder)
    reader.stop()
    server.delete(sales.stream)
    server.control(clock=5_000)
    server.create(sales.stream, 2)
    sales.sell(200)
    said = failure(run, reading(spark, server, sales.stream, folder).query)
    assert (
        f"{sales.stream} was made again after the query had read it; start on a new"
        in said
    )
    other = server.stream()
    said = failure(run, reading(spark, server, other, folder).query)
    assert (
        f"the checkpoint's query has read {sales.stream}, and not stream {other}"
        in said
    )


def test_what_it_gives_and_shows(spark, server, tmp_path):
    stream = server.stream()
    server.put(stream, [("tea", "an order")])
    frame = sources.kinesis(
        spark, stream, endpoint=server.url, region=REGION, binary=True
    )
    assert frame.dtypes == [
        ("value", "binary"),
        ("partition_key", "string"),
        ("sequence_number", "string"),
        ("shard_id", "string"),
        ("approximate_arrival_timestamp", "timestamp"),
    ]
    folder = tmp_path / "ckpt"
    shown: list[Any] = []
    sink = sinks.foreach_batch(lambda batch, _: shown.extend(batch.collect()))
    query = start(frame, sink, name="shown", checkpoint=folder, availableNow=True)
    summary = run(query)
    [row] = shown
    assert (bytes(row.value), row.partition_key, row.shard_id) == (
        b"an order",
        "tea",
        "shardId-000000000000",
    )
    assert len(row.sequence_number) == 56
    assert abs(row.approximate_arrival_timestamp.timestamp() - time.time()) < 60
    assert query.lastProgress is not None
    behind = json.loads(query.lastProgress.json)["sources"][0]["latestOffset"][
        "seconds_behind"
    ]
    assert behind <= 2
    assert f", {behind:.0f} s behind, " in str(summary)
    assert f'offset {{"stream": "{stream}", "records": 1, ' in str(
        checkpoints.show(folder)
    )
    texts = [
        file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file()
    ]
    texts += [str(query.lastProgress.json), explained(frame)]
    assert "hush-kinesis" not in "".join(texts)


def explained(frame):
    """Return Spark's plans of a frame."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        frame.explain("extended")
    return shown.getvalue()


def test_what_cannot_be_read_is_one_line(spark, server):
    said = refusal(
        sources.kinesis, spark, "nowhere", endpoint=server.url, region=REGION
    )
    assert said.startswith("sources.kinesis(): ")
    assert "has no stream nowhere" in said


COUNT = """
import sys
from sparkstream_kit import run, sinks, sources, spark_session, start

url, stream, folder = sys.argv[1:]
with spark_session("count", profile="test") as spark:
    rows = sources.kinesis(spark, stream, endpoint=url, region="us-east-1", retry_for=5)
    sink = sinks.batch_files(f"{folder}/rows")
    how = {"name": "count", "checkpoint": f"{folder}/ckpt", "availableNow": True}
    run(start(rows.select("value"), sink, **how))
    print(spark.read.parquet(f"{folder}/rows/*").count())
"""


@pytest.mark.slow
def test_on_spark_connect(server, tmp_path, connect):
    sales = StreamSales(server)
    sales.sell(30)
    assert (
        ran(
            COUNT, server.url, sales.stream, tmp_path, SPARK_REMOTE=connect
        ).stdout.split()[-1]
        == "30"
    )


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(spark, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    page = (ROOT / "docs" / "kinesis.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for seed in (0, 1):  # the second run reads what has come since
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            block = block.replace("ckpt/", f"{tmp_path}/ckpt/")  # noqa: PLW2901 - the JVM has another folder
            block = block.replace("seed=0", f"seed={seed}")  # noqa: PLW2901
            exec(compile(block, "docs/kinesis.md", "exec"), names)  # noqa: S102 - our own page
        truth: dict[str, Decimal] = {}
        for row in [
            row for each in range(seed + 1) for row in feeds.sales_rows(1000, seed=each)
        ]:
            truth[row[9]] = truth.get(row[9], Decimal(0)) + Decimal(row[5])
        with Path("totals.csv").open(encoding="utf-8") as file:
            found = {
                row["ProductKey"]: Decimal(row["TotalSales"])
                for row in csv.DictReader(file)
            }
        assert found == truth
