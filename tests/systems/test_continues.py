"""`start(…, continues=…)` over topics or Delta tables.

A changed query goes on where the old one stands.
"""

import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from support import shops
from support.sink_streams import forget_commit

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import check
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

SCHEMA = "at TIMESTAMP, product STRING, shop STRING, n INT"
totals = partial(shops.totals, what="sum(n)")
hourly = partial(shops.hourly, length="10 minutes", what="sum(n)")


def sale(minute):
    at = f"2026-03-01 {10 + minute // 60}:{minute % 60:02}:00"
    return {
        "at": at,
        "product": "xyz"[minute % 3],
        "shop": "ab"[minute // 2 % 2],
        "n": minute,
    }


def sales(*minutes):
    return [json.dumps(sale(minute)) for minute in minutes]


def parsed(values):
    return values.select(
        F.from_json(F.col("value").cast("STRING"), SCHEMA).alias("sale")
    ).select("sale.*")


def plain(frame):
    return Counter(tuple(str(value) for value in row) for row in frame.collect())


class Job:
    """A query on a topic, its batches, and a changed one that goes on from it."""

    def __init__(self, spark, broker, home):
        self.topic = broker.topic(partitions=2)
        self.old, self.new = home / "v1", home / "v2"
        self._spark, self._broker = spark, broker

    def send(self, *minutes):
        """Send a sale of each of these minutes, which go round the partitions."""
        for minute in minutes:
            self._broker.send(self.topic, sales(minute), partition=minute % 2)

    def rows(self, **options):
        options = {"max_offsets_per_trigger": 5, **options}
        return parsed(
            sources.kafka(self._spark, self._broker.servers, self.topic, **options)
        )

    def go(
        self, transform, checkpoint, mode="complete", *, options=(), rows=None, **more
    ):
        """Run over all that is there, and return the rows of each batch."""
        frame = transform(self.rows(**dict(options)) if rows is None else rows)
        batches: dict[int, Any] = {}
        sink = sinks.foreach_batch(
            lambda batch, number: batches.__setitem__(number, plain(batch))
        )
        run(
            start(
                frame,
                sink,
                name="totals",
                mode=mode,
                checkpoint=checkpoint,
                availableNow=True,
                **more,
            )
        )
        return batches

    def truth(self, transform, *minutes):
        """Return what a batch computation says of the sales of these minutes."""
        rows = self._spark.createDataFrame(
            [(each,) for each in sales(*minutes)], "value STRING"
        )
        return plain(transform(parsed(rows)))

    def refused(self, **more):
        """Return why the changed query cannot go on."""
        said = refusal(self.go, totals("shop"), self.new, continues=self.old, **more)
        assert not self.new.exists()
        return said


class TableJob(Job):
    """The same on a Delta table."""

    def __init__(self, spark, home):  # no topic
        self.table, self.old, self.new = str(home / "a table"), home / "v1", home / "v2"
        self._spark = spark

    def send(self, *minutes):
        """Append the sales of these minutes, as a version with a file for each hour."""
        lines = self._spark.createDataFrame(
            [(each,) for each in sales(*minutes)], "value STRING"
        )
        written = parsed(lines.coalesce(1)).withColumn(
            "part", F.date_trunc("hour", "at")
        )
        # Its folders have %3A in their names.
        written.write.format("delta").partitionBy("part").mode("append").save(
            self.table
        )

    def rows(self, **options):
        options = {"maxFilesPerTrigger": 1, **options}
        return (
            self._spark.readStream.format("delta").options(**options).load(self.table)
        )


@pytest.mark.parametrize("store", STATE_STORES)
def test_the_whole_result_is_that_of_a_batch_over_all_records(
    spark, broker, topic, monkeypatch, store
):
    monkeypatch.setattr(replay, "_MOST_RECORDS", 7)  # so that there are several batches
    with in_force(spark, {STATE_STORE: STATE_STORES[store]}):
        topic.send(*range(5))
        # It has not read these
        topic.go(totals("product"), topic.old, options={"starting": "latest"})
        topic.send(*range(5, 20))
        topic.go(totals("product"), topic.old)
        broker.add_partitions(topic.topic, 3)
        broker.send(topic.topic, sales(20, 21), partition=2)
        last = max(topic.go(totals("product"), topic.old))
        topic.send(*range(22, 30))
        batches = topic.go(totals("shop"), topic.new, continues=topic.old)
        assert min(batches) == last + 1
        assert batches[max(batches)] == topic.truth(totals("shop"), *range(5, 30))
        assert check(topic.new) == []
        topic.send(30)
        # The job's line stays as it is
        again = topic.go(totals("shop"), topic.new, continues=topic.old)
        assert again[max(again)] == topic.truth(totals("shop"), *range(5, 31))


def test_windows_that_were_written_stay_and_the_others_come_once(any_job):
    job = any_job
    job.send(*range(34))
    before = job.go(hourly("product"), job.old, mode="append")
    logs = Logs(job.old)
    closed = logs.plan(logs.done).watermark
    assert sum(map(len, before.values()), 0) > 0
    job.send(*range(34, 70))
    job.send(90, 91)  # which closes all of those
    batches = job.go(hourly("shop"), job.new, mode="append", continues=job.old)
    came: Counter[Any] = sum(batches.values(), Counter())
    whole = job.truth(hourly("shop"), *range(70))
    ends = {row: int(f"{row[1][11:13]}") * 60 + int(row[1][14:16]) for row in whole}
    midnight = 1772323200  # 2026-03-01, in seconds
    assert came == Counter(
        {row: 1 for row in whole if midnight + ends[row] * 60 > closed / 1000}
    )
    assert 0 < len(came) < len(whole)


def test_a_batch_that_was_planned_when_the_old_query_was_killed_comes_next(any_job):
    job = any_job
    job.send(*range(4))
    job.send(*range(4, 8))
    last = max(job.go(totals("product"), job.old))
    forget_commit(job.old)
    job.send(*range(8, 10))
    batches = job.go(totals("shop"), job.new, continues=job.old)
    assert batches[last] == job.truth(totals("shop"), *range(8))
    assert batches[max(batches)] == job.truth(totals("shop"), *range(10))


@pytest.mark.fast("memory")
@pytest.mark.parametrize("store", STATE_STORES)
def test_a_delta_table_is_read_as_it_was_though_it_was_compacted(spark, table, store):
    job = table
    with in_force(spark, {STATE_STORE: STATE_STORES[store]}):
        job.send(*range(8))
        job.go(totals("product"), job.old)
        job.send(*range(8, 14))
        last = max(job.go(totals("product"), job.old))
        spark.sql(f"OPTIMIZE delta.`{job.table}`")
        job.send(*range(14, 20))
        kept = "delta.deletedFileRetentionDuration = 'interval 0 seconds'"
        spark.sql(f"ALTER TABLE delta.`{job.table}` SET TBLPROPERTIES ({kept})")
        batches = job.go(totals("shop"), job.new, continues=job.old)
        assert min(batches) == last + 1
        assert batches[max(batches)] == job.truth(totals("shop"), *range(20))
        assert check(job.new) == []


def test_a_delta_table_that_cannot_be_read_whole_again_is_refused(spark, table):
    job = table
    job.send(*range(4))
    job.send(*range(4, 8))
    job.go(totals("product"), job.old)
    with_option = job.refused(options={"skipChangeCommits": True})
    assert (
        "with option skipchangecommits not all rows of its Delta table are read"
        in with_option
    )
    read = [*Path(job.table).glob("part=*/*.parquet")]
    spark.sql(f"OPTIMIZE delta.`{job.table}`")
    for file in read:  # as VACUUM does
        file.unlink()
    assert "2 files of version 1 of its Delta table have gone" in job.refused()
    shutil.rmtree(job.table)
    job.send(*range(8))
    assert f"another Delta table is at {job.table} now" in job.refused()


def test_a_file_of_a_version_that_was_read_in_part_is_never_left_out(spark, table):
    job = table
    job.send(0)
    job.go(totals("product"), job.old)
    [before] = Path(job.table).glob("part=*/*.parquet")
    job.send(58, 62)
    job.go(totals("product"), job.old)
    forget_commit(job.old)  # of the second file of this version
    [file] = {*before.parent.glob("*.parquet")} - {before}
    file.unlink()
    with in_force(spark, {"spark.sql.files.ignoreMissingFiles": "true"}):
        assert "its state was not built from what" in job.refused()


def test_an_option_that_the_old_query_had_counts_too(table):
    job = table
    job.send(*range(4))
    job.go(totals("product"), job.old, options={"ignoreDeletes": True})
    assert (
        "with option ignoredeletes not all rows of its Delta table are read"
        in job.refused()
    )


def test_a_delta_table_without_rows_is_no_reason_to_refuse(spark, table):
    job = table
    columns = f"({SCHEMA}, part TIMESTAMP) USING delta PARTITIONED BY (part)"
    spark.sql(f"CREATE TABLE delta.`{job.table}` {columns}")
    job.go(totals("product"), job.old)
    job.send(*range(4))
    batches = job.go(totals("shop"), job.new, continues=job.old)
    assert batches[max(batches)] == job.truth(totals("shop"), *range(4))


def test_records_that_have_gone_are_told_before_anything_runs(broker, topic):
    topic.send(*range(20))
    topic.go(totals("product"), topic.old)
    broker.drop_before(topic.topic, {0: 4, 1: 1})
    said = topic.refused()
    assert (
        f"has deleted 5 records of topic {topic.topic} that were still to be read"
        in said
    )
    assert "(partition 0: 4, partition 1: 1); to go on without: " in said
    batches = topic.go(
        totals("shop"),
        topic.new,
        continues=topic.old,
        options={"failOnDataLoss": False, "starting": "latest"},
    )
    kept = [minute for minute in range(20) if minute not in {0, 2, 4, 6, 1}]
    assert batches[max(batches)] == topic.truth(totals("shop"), *kept)


def test_a_topic_that_was_made_again_is_refused(broker, topic):
    topic.send(*range(6))
    topic.go(totals("product"), topic.old)
    broker.delete(topic.topic)
    broker.topic(topic.topic, 2)
    topic.send(*range(9))
    assert f"topic {topic.topic} was deleted and made again since" in topic.refused()


def test_files_and_topics_do_not_take_the_place_of_each_other(
    spark, topic, folder, tmp_path
):
    table = TableJob(spark, tmp_path / "delta")
    table.send(1)
    (folder / "0.json").write_text(sales(1)[0] + "\n")
    files = {"rows": sources.json(spark, str(folder), schema=SCHEMA)}
    topic.go(totals("product"), topic.old, **files)
    assert f"did not read topic {topic.topic}" in topic.refused()
    topic.send(*range(3))
    topic.go(totals("product"), tmp_path / "of topics")
    topic.old = tmp_path / "of topics"
    assert "did not read files" in topic.refused(**files)
    assert "did not read delta" in topic.refused(rows=table.rows())
    topic.old = tmp_path / "of a table"
    topic.go(totals("product"), topic.old, rows=table.rows())
    assert f"did not read topic {topic.topic}" in topic.refused()
