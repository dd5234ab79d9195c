"""Delta's writer for Spark, and its tables as streams: each batch once.

delta-rs sees it so, too.
"""

import json
import shutil
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from conftest import ROOT, pretend_master, refusal
from deltalake import DeltaTable
from pyspark.sql import functions as F
from support import sink_contract
from support.pages import run_page
from support.sink_streams import (
    CASES,
    KEYS,
    TOTALS,
    Rows,
    finish,
    forget_commit,
    refused,
    totals,
)

from sparkstream_kit import feeds, run, sinks, sources, start, windows
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.connectors._tables import OWNERS
from sparkstream_kit.connectors.delta.writers import SparkTable
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks.base import open_batch_sink


def rows(spark, out):
    return sorted(
        tuple(row) for row in spark.read.format("delta").load(str(out)).collect()
    )


def batches(spark, out):
    """Return the batches in the table's history, in which Spark and delta-rs must agree."""
    by_rust = [commit.get("userMetadata") for commit in DeltaTable(out).history()]
    history = (
        spark.sql(f"DESCRIBE HISTORY delta.`{out}`").select("userMetadata").collect()
    )
    assert [row.userMetadata for row in history] == by_rust
    return [json.loads(said)["batch"] for said in reversed(by_rust) if said]


def last_batch(table):
    """Return the last batch of the table's query, as the log says it."""
    return table.last_batch(*table.properties()[OWNERS].split())


def seen(spark, frame, checkpoint, *columns):
    """Return what a stream gives to its end."""
    found: Rows = []
    look = sinks.foreach_batch(
        lambda batch, _: found.extend(map(tuple, batch.select(*columns).collect()))
    )
    finish(frame, look, checkpoint)
    return sorted(found)


@pytest.mark.fast("upsert")
@pytest.mark.parametrize("how", CASES)
def test_a_batch_that_comes_again_counts_once_whoever_writes_it(
    spark, stream, out, tmp_path, how
):
    mode, more, expected = CASES[how]
    frame, checkpoint = stream if how == "append" else totals(stream), tmp_path / "ckpt"
    finish(frame, sinks.delta(out, how=how, **more), checkpoint, mode)
    assert rows(spark, out) == expected
    for batch, writer in ((2, "spark"), (2, "delta-rs"), (3, "spark")):
        forget_commit(checkpoint, batch)
        finish(
            frame, sinks.delta(out, how=how, writer=writer, **more), checkpoint, mode
        )
        assert rows(spark, out) == expected
        # By replace a batch is always written, and the table has what it had.
        assert list(dict.fromkeys(batches(spark, out))) == list(range(batch + 1))
        # Writes a batch itself, which Spark's writer then finds
        if writer == "delta-rs":
            feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
            finish(
                frame,
                sinks.delta(out, how=how, writer=writer, **more),
                checkpoint,
                mode,
            )
            expected = (
                sorted([*expected, ("a", 10)])
                if how == "append"
                else [("a", 13), *TOTALS[1:]]
            )


@pytest.mark.fast("upsert-plan cut")
@pytest.mark.parametrize("damage", sink_contract.LOSSES)
@pytest.mark.parametrize("how", ["append", "upsert"])
def test_a_checkpoint_that_has_lost_its_plan_comes_back_exact(
    spark, out, tmp_path, how, damage
):
    mode, more, _ = CASES[how]
    found = partial(rows, spark, out)
    numbers: Callable[[], list[Any]] = (
        (lambda: [n for (n,) in found()]) if how == "append" else found
    )
    sink = sinks.delta(out, how=how, writer="spark", **more)
    contract = sink_contract.Stream(
        spark, tmp_path, sink_contract.Adaptor(sink, numbers, mode, skips=True)
    )
    sink_contract.lost(contract, damage)


def test_a_session_that_cuts_microseconds_is_refused(spark, stream, out, tmp_path):
    frame = stream.selectExpr("k", "TIMESTAMP'2026-01-31 10:00:00.000004Z' AS at")
    setting = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS"}
    with in_force(spark, setting):
        line = refused(frame, sinks.delta(out, writer="spark"), tmp_path / "ckpt")
        assert "delta: column at is timestamp, and the session's spark.sql.par" in line
        finish(frame, sinks.delta(out, writer="delta-rs"), tmp_path / "ckpt")
    assert {at.microsecond for _, at in rows(spark, out)} == {4}


def test_empty_batches_ownership_and_columns(spark, stream, out, tmp_path):
    upsert = sinks.delta(out, how="upsert", keys=["k"])
    finish(totals(stream).where("k = 'a'"), upsert, tmp_path / "ckpt", "update")
    assert batches(spark, out) == [0, 1, 2]
    line = refused(totals(stream), upsert, tmp_path / "other", "update")
    assert f"Delta table {out} was written by another query (" in line
    assert (
        ", up to its batch 2); start on that query's checkpoint, use another table"
        in line
    )

    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    wider = totals(stream).where("k = 'a'").withColumn("twice", F.col("total") * 2)
    line = refused(wider, upsert, tmp_path / "ckpt", "update")
    assert f"{out} has no column twice; give merge_schema=True" in line
    wide = sinks.delta(out, how="upsert", keys=["k"], merge_schema=True)
    finish(wider, wide, tmp_path / "ckpt", "update", allow_changed_query=True)
    assert rows(spark, out) == [("a", 13, 26)]


@pytest.mark.slow
def test_keys_have_any_name_and_must_tell_rows_apart(spark, stream, out, tmp_path):
    names = ["order", "a.b", 'a"b', "a'b", "a`b", "Käse"]
    named = totals(stream).select(*[F.col("k").alias(name) for name in names], "total")
    finish(
        named,
        sinks.delta(out, how="upsert", keys=names, writer="spark"),
        tmp_path / "ckpt",
        "update",
    )
    assert rows(spark, out) == [(*[key] * len(names), total) for key, total in TOTALS]
    for number, (key, said) in enumerate(KEYS):
        frame, wrong = (
            stream.selectExpr(f"{key} AS key", "n"),
            tmp_path / f"wrong-{number}",
        )
        sink = sinks.delta(wrong, how="upsert", keys=["key"])
        assert said in refused(frame, sink, tmp_path / said, "update")


def test_a_disk_of_each_node_is_refused(spark, stream, out, monkeypatch):
    pretend_master(spark, monkeypatch, "spark://host:7077")
    with pytest.raises(
        InvalidInputError, match=f"delta {out} is a local path, but the master is"
    ):
        open_batch_sink(sinks.delta(out, writer="spark"), stream, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interval", "where", "properties", "settings"),
    [
        # Before the last batch, and after
        *[(interval, "delta.`{}`", {}, {}) for interval in (3, 5)],
        (4, "t{}", {}, {}),
        (4, "delta.`{}`", {"delta.checkpointPolicy": "v2"}, {}),
        (4, "delta.`{}`", {}, {"spark.databricks.delta.checkpoint.partSize": "1"}),
    ],
)
def test_the_last_batch_is_known_wherever_the_checkpoint_of_the_table_is(
    spark, stream, out, tmp_path, interval, where, properties, settings
):
    # Commit 0 makes the table, 1 says whose it is, 2 to 4 are the batches.
    in_catalog = where.startswith("t")
    table = where.format(uuid.uuid4().hex if in_catalog else out)
    given = properties | {"delta.checkpointInterval": str(interval)}
    location = f"LOCATION '{out}'" if in_catalog else ""
    listed = ", ".join(f"'{key}' = '{value}'" for key, value in given.items())
    spark.sql(
        f"CREATE TABLE {table} (k STRING, n INT) USING delta {location} TBLPROPERTIES"
        f" ({listed})"
    )
    sink = sinks.delta(table=table) if in_catalog else sinks.delta(out)

    def checkpoint():
        """Return the commit of the table's newest checkpoint; 0 if there is none."""
        return max(
            (
                int(file.name[:20])
                for file in (out / "_delta_log").glob("0*.checkpoint*")
            ),
            default=0,
        )

    written = SparkTable(
        spark, None if in_catalog else locate(spark, out.as_uri()), table
    )
    with in_force(spark, settings):
        finish(stream, sink, tmp_path / "ckpt")
        assert (checkpoint(), last_batch(written)) == (4 // interval * interval, 2)
        spark.sql(f"OPTIMIZE {table}")
        assert (checkpoint(), last_batch(written)) == (5 // interval * interval, 2)
        for _ in range(3):
            spark.sql(f"INSERT INTO {table} VALUES ('z', 9)")  # noqa: S608 - ours
        assert (checkpoint(), last_batch(written)) == (8 // interval * interval, 2)
    for commit in (out / "_delta_log").glob("0*.json"):  # as Delta does after a month
        if commit.stem.isdecimal() and int(commit.stem) < checkpoint():
            commit.unlink()
    forget_commit(tmp_path / "ckpt", 2)
    finish(stream, sink, tmp_path / "ckpt")
    assert [row for row in rows(spark, out) if row[0] != "z"] == CASES["append"][2]


def test_a_part_of_a_checkpoint_that_was_not_finished_is_none(
    stream, spark, out, tmp_path
):
    spark.sql(
        f"CREATE TABLE delta.`{out}` (k STRING, n INT) USING delta "
        "TBLPROPERTIES (delta.checkpointInterval = 3)"
    )
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    log = out / "_delta_log"
    shutil.copy(
        log / f"{3:020}.checkpoint.parquet",
        log / f"{4:020}.checkpoint.{1:010}.{2:010}.parquet",
    )
    assert last_batch(SparkTable(spark, locate(spark, out.as_uri()), None)) == 2


@pytest.mark.slow
def test_deltas_own_mark_holds_where_the_ledger_was_not_asked(
    spark, stream, out, tmp_path, monkeypatch
):
    # As when a second driver has written the batch since this one looked.
    from sparkstream_kit.connectors import _tables

    for how in ("append", "upsert"):
        mode, more, expected = CASES[how]
        frame, table = stream if how == "append" else totals(stream), out / how
        finish(frame, sinks.delta(table, how=how, **more), tmp_path / how, mode)
        forget_commit(tmp_path / how, 2)
        with monkeypatch.context() as patch:
            patch.setattr(_tables, "is_written", lambda *_: False)
            finish(frame, sinks.delta(table, how=how, **more), tmp_path / how, mode)
        assert rows(spark, table) == expected
        assert batches(spark, table) == [0, 1, 2]


def test_a_text_that_delta_reads_as_null_in_a_partition_is_refused(
    spark, stream, out, tmp_path
):
    spark.sql(
        f"CREATE TABLE delta.`{out}` (k STRING, n INT) USING delta PARTITIONED BY (k)"
    )
    sink = sinks.delta(out, writer="spark")
    line = refused(
        stream.selectExpr("IF(n = 2, '', k) AS k", "n"), sink, tmp_path / "ckpt"
    )
    assert (
        f"column k, by which Delta table {out} is partitioned, has a text that Delta"
        " reads as NULL" in line
    )
    kept = sinks.delta(out, writer="spark", take_over=True)
    finish(stream.selectExpr("nullif(k, 'b') AS k", "n"), kept, tmp_path / "other")
    found = (
        spark.read.format("delta").load(str(out)).where("n > 1 OR k IS NULL").collect()
    )
    assert sorted((row.k or "", row.n) for row in found) == [
        ("", 1),
        ("", 3),
        ("a", 2),
        ("c", 2),
        ("c", 3),
    ]


def test_one_table_by_its_name_and_its_path_is_one_target(spark, stream, out, tmp_path):
    spark.sql(f"CREATE TABLE twice (k STRING, n INT) USING delta LOCATION '{out}'")
    both = sinks.fan_out(sinks.delta(out, writer="spark"), sinks.delta(table="twice"))
    line = refused(stream, both, tmp_path / "ckpt")
    assert line.startswith(
        f"Delta table twice is the same as Delta table {out}, to which this query"
        " writes"
    )
    assert spark.table("twice").isEmpty()


def test_a_table_of_the_catalog(spark, stream, tmp_path):
    finish(stream, sinks.delta(table="sold"), tmp_path / "ckpt")
    forget_commit(tmp_path / "ckpt", 2)
    finish(stream, sinks.delta(table="default.sold"), tmp_path / "ckpt")
    assert spark.table("sold").count() == 6
    assert (
        seen(spark, sources.delta(spark, table="sold"), tmp_path / "ckpt2", "*")
        == CASES["append"][2]
    )
    spark.range(1).write.mode("overwrite").saveAsTable("parquet_table")
    for call in (
        lambda: sources.delta(spark, table="parquet_table"),
        lambda: finish(stream, sinks.delta(table="parquet_table"), tmp_path / "ckpt3"),
    ):
        assert "table parquet_table is no Delta table" in refusal(call)


def test_two_queries_on_a_table_whose_first_writer_was_killed_before_its_commit(
    spark, stream, out, tmp_path
):
    (out / "_delta_log").mkdir(parents=True)
    (out / "_delta_log" / ".00000000000000000000.json.5e0c.tmp").write_text("{")
    # By Delta alone one of them dies: DELTA_PROTOCOL_CHANGED.
    sink = sinks.delta(out, take_over=True)
    run(
        *(
            start(stream, sink, name=f"q{n}", checkpoint=tmp_path / f"c{n}", once=True)
            for n in (1, 2)
        )
    )
    assert rows(spark, out) == sorted(2 * CASES["append"][2])


def test_two_queries_on_a_table_that_is_not_there_yet(spark, stream, out, tmp_path):
    # By Delta alone one of them dies: DELTA_PROTOCOL_CHANGED.
    both = [
        start(
            stream,
            sinks.delta(out, take_over=True),
            name=f"q{n}",
            checkpoint=tmp_path / f"c{n}",
            once=True,
        )
        for n in (1, 2)
    ]
    run(*both)
    assert rows(spark, out) == sorted(2 * CASES["append"][2])


def test_a_table_as_a_stream_and_its_changes(spark, out, tmp_path, caplog):
    table = f"delta.`{out}`"
    spark.sql(f"CREATE TABLE {table} (k STRING, n INT) USING delta")
    spark.sql(f"INSERT INTO {table} VALUES ('a', 1), ('b', 2)")  # noqa: S608
    ckpt = tmp_path / "added"
    assert seen(
        spark, sources.delta(spark, out, max_files_per_trigger=1), ckpt, "*"
    ) == [("a", 1), ("b", 2)]
    with pytest.raises(
        InvalidInputError, match="to keep those from now on, run ALTER TABLE"
    ):
        sources.delta(spark, out, change_feed=True)
    spark.sql(
        f"ALTER TABLE {table} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    )
    spark.sql(f"INSERT INTO {table} VALUES ('c', 3)")  # noqa: S608
    assert seen(spark, sources.delta(spark, out), ckpt, "*") == [("c", 3)]
    assert not caplog.messages

    spark.sql(
        f"MERGE INTO {table} t USING (SELECT 'a' AS k, 9 AS n) s ON t.k = s.k WHEN"
        " MATCHED THEN UPDATE SET *"
    )
    spark.sql(f"DELETE FROM {table} WHERE k = 'b'")  # noqa: S608 - ours
    columns = ("k", "n", "_change_type", "_commit_version")
    changes = sources.delta(spark, out, change_feed=True, starting_version=4)
    assert dict(changes.dtypes)["_commit_timestamp"] == "timestamp"
    assert seen(spark, changes, tmp_path / "changes", *columns) == [
        ("a", 1, "update_preimage", 4),
        ("a", 9, "update_postimage", 4),
        ("b", 2, "delete", 5),
    ]
    assert seen(spark, sources.delta(spark, out), tmp_path / "whole", "*") == [
        ("a", 9),
        ("c", 3),
    ]
    skipping = sources.delta(spark, out, starting_version=1, skipChangeCommits=True)
    assert seen(spark, skipping, tmp_path / "skip", "*") == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]
    # A change while it was away
    with pytest.raises(QueryFailed, match="skipChangeCommits") as failed:
        seen(spark, sources.delta(spark, out), ckpt, "*")
    assert "\n" not in str(failed.value)


def test_a_batch_of_a_table_that_comes_again_counts_once(spark, out, tmp_path):
    spark.sql(f"CREATE TABLE delta.`{out}` (k STRING, n INT) USING delta")
    for number in range(3):
        spark.sql(f"INSERT INTO delta.`{out}` VALUES ('a', {number}), ('b', {number})")  # noqa: S608
        finish(
            sources.delta(spark, out),
            sinks.batch_files(tmp_path / "rows"),
            tmp_path / "ckpt",
        )
        forget_commit(tmp_path / "ckpt")
    found = (
        spark.read.parquet(f"{tmp_path}/rows")
        .groupBy("k")
        .agg(F.count("n"), F.sum("n"))
        .collect()
    )
    assert sorted(map(tuple, found)) == [("a", 3, 3), ("b", 3, 3)]


def test_what_is_not_there_is_one_line(spark, tmp_path):
    spark.range(1).write.parquet(str(tmp_path / "other"))
    for arguments, said in (
        (
            {"path": tmp_path / "none"},
            "none does not exist; create it or correct the name",
        ),
        (
            {"path": tmp_path / "other"},
            "is no Delta table, but not empty; use another folder",
        ),
        ({"table": "nope"}, "Delta table nope does not exist"),
        ({}, "give a path or a table of the catalog"),
        ({"path": "t", "max_files_per_trigger": 0}, "must be 1 or more, not 0"),
        ({"path": "t", "skip_change_commits": True}, "did you mean skipChangeCommits?"),
    ):
        assert said in refusal(sources.delta, spark, **arguments)
    with pytest.raises(
        InvalidInputError, match="is no Delta table, but not empty; use another folder"
    ):
        finish(
            spark.readStream.format("rate").load(),
            sinks.delta(tmp_path / "other"),
            tmp_path / "ckpt",
        )


@pytest.mark.slow
def test_the_page_on_delta_runs_from_top_to_bottom(spark, tmp_path):
    last = "printf 'tea,3\\n' >shop/2.csv"
    # Both may be of one millisecond, and then in any order.
    run_page(
        ROOT / "docs" / "delta.md",
        tmp_path,
        [(last, f"{last}\ntouch -d @1 shop/1.csv")],
    )
    assert rows(spark, tmp_path / "out/totals") == [("ink", 2), ("tea", 4)]
    log = (
        spark.read.format("delta")
        .load(f"{tmp_path}/out/log")
        .select("product", "total")
    )
    assert sorted(map(tuple, log.collect())) == [("ink", 2), ("tea", 1), ("tea", 4)]


def test_days_of_a_time_zone_are_known_in_a_session_with_delta(spark):
    """Its parser of SQL takes no parameters."""
    times = spark.sql("SELECT timestamp'2026-07-01 23:00:00' AS time")
    days = windows.calendar(times, "time", "day", zone="Europe/Berlin")
    [day] = windows.flatten(days.select("window")).collect()
    assert (day.start.day, day.start.hour) == (1, 22)
    said = refusal(windows.calendar, times, "time", "day", zone="Europe/Berln")
    assert "did you mean Europe/Berlin?" in said
