"""`run(drain=True)`: the last windows of a finite input, exactly as a batch computes them."""

from __future__ import annotations

import json
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from sparkstream_kit import checkpoints, feeds, run, sinks, sources, start, state, windows
from sparkstream_kit.checkpoints import drain
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


SCHEMA = "time LONG, key STRING, n INT"
# Not from 0 on: before the first watermark, Spark takes a row of 1970-01-01 00:00 for late.
ROWS = [(1200 + second, "ab"[second % 2], second % 7) for second in range(0, 600, 7)]


@pytest.fixture
def settings(spark):
    """Set what the session has, and set it back."""
    before: dict[str, str | None] = {}

    def change(given):
        for name, value in given.items():
            before[name] = spark.conf.get(name, None)
            spark.conf.set(name, value)

    yield change
    for name, value in before.items():
        if value is None:
            spark.conf.unset(name)
        else:
            spark.conf.set(name, value)


def land(folder, rows, *, files=2):
    size = -(-len(rows) // files)
    named = dict.fromkeys(p.name for p in folder.glob("*.json")) if folder.exists() else {}
    texts = [
        "".join(
            json.dumps(dict(zip(("time", "key", "n"), row, strict=True))) + "\n"
            for row in rows[at : at + size]
        )
        for at in range(0, len(rows), size)
    ]
    feeds.drip(((f"{len(named) + number}.json", text) for number, text in enumerate(texts)), folder)


def timed(rows):
    return rows.withColumn("at", F.timestamp_seconds("time")).withWatermark("at", "100 seconds")


def by_window(rows):
    counts = timed(rows).groupBy(windows.tumbling("at", "200 seconds"), "key")
    return windows.flatten(counts.agg(F.count("*").alias("rows"), F.avg("n").alias("mean")))


def by_session(rows):
    gaps = timed(rows).where("time % 100 < 50").groupBy(windows.session("at", "20 seconds"), "key")
    return windows.flatten(gaps.agg(F.sum("n").alias("sum")), "session_window")


def by_two_windows(rows):
    longer = windows.tumbling(F.window_time("window"), "400 seconds")
    small = timed(rows).groupBy(windows.tumbling("at", "200 seconds"), "key").count()
    return windows.flatten(small.groupBy(longer).agg(F.sum("count").alias("rows")))


def unmatched(rows):
    left = timed(rows.where("key = 'a'")).select("at", (F.col("n") % 2).alias("i"))
    right = timed(rows.where("key = 'b' AND time % 3 = 0")).select(F.col("at").alias("later"), F.col("n"))
    bound = F.expr("i = n % 2 AND later BETWEEN at AND at + INTERVAL 30 SECONDS")
    return left.join(right, bound, "left").drop("later", "i", "n")


def values(rows):
    return sorted(tuple(map(str, row)) for row in rows)


class Written:
    """What a query's batches brought, by their number; a replayed batch replaces itself."""

    def __init__(self, folder):
        self.folder = folder
        self.sink = sinks.batch_files(folder)

    def rows(self, spark):
        return values(spark.read.parquet(str(self.folder)).drop("batch").collect())


def ended(spark, tmp_path, transform, **more):
    written = Written(tmp_path / "out")
    rows = sources.json(spark, str(tmp_path / "in"), schema=SCHEMA, max_files_per_trigger=1)
    query = start(transform(rows), written.sink, name="ends", checkpoint=tmp_path / "ckpt", availableNow=True)
    return run(query, **more), written


def batch(spark, tmp_path, transform):
    return values(transform(spark.read.schema(SCHEMA).json(str(tmp_path / "in"))).collect())


@pytest.mark.fast("by_window-memory-3")
@pytest.mark.parametrize(
    ("transform", "store", "partitions"),
    [
        (by_window, "memory", 3),
        (by_session, "rocksdb", 1),
        (by_two_windows, "memory", 1),
        (unmatched, "rocksdb", 3),
    ],
)
def test_drained_windows_are_those_of_a_batch(spark, tmp_path, transform, store, partitions, settings):
    settings({STATE_STORE: STATE_STORES[store], "spark.sql.shuffle.partitions": str(partitions)})
    land(tmp_path / "in", ROWS)
    summary, written = ended(spark, tmp_path, transform, drain=True)
    assert written.rows(spark) == batch(spark, tmp_path, transform)
    assert (summary.queries[0].input_rows, summary.ended_by) == (len(ROWS), "end of input")
    assert "hint" not in str(summary)


@pytest.mark.slow
def test_what_a_key_is_known_by_does_not_wait(spark, tmp_path):
    land(tmp_path / "in", ROWS)

    def alerts(rows: DataFrame) -> DataFrame:
        return state.alert_when(timed(rows), "key", "at", "n", state.ZScore(sigmas=9))

    summary, _ = ended(spark, tmp_path, alerts, drain=True)
    assert (summary.queries[0].state_rows or 0) > 0, "numbers by key are kept"
    assert summary.queries[0].waiting_rows == 0
    assert "hint" not in str(summary)


@pytest.mark.slow
def test_windows_that_stay_open_are_named_and_can_be_drained_later(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    whole = batch(spark, tmp_path, by_window)
    summary, written = ended(spark, tmp_path, by_window)
    before = len(written.rows(spark))
    assert summary.queries[0].waiting_rows == len(whole) - before > 0
    assert f"hint: query ends has {len(whole) - before} rows in state" in str(summary)

    summary, written = ended(spark, tmp_path, by_window, drain=True)
    assert written.rows(spark) == whole
    assert max(row[1] for row in whole) == "1970-01-01 00:30:00"
    assert (summary.queries[0].batches, summary.queries[0].input_rows) == (1, 0)


def test_what_comes_after_the_last_batch_is_refused_and_not_lost(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    ended(spark, tmp_path, by_window, drain=True)
    land(tmp_path / "in", [(1810, "a", 1)], files=1)
    with pytest.raises(InvalidInputError) as caught:
        ended(spark, tmp_path, by_window, drain=True)
    assert "was drained: batch " in str(caught.value)
    words = shlex.split(str(caught.value).partition("more rows: ")[2])
    assert words[:4] == ["sparkstream", "checkpoint", "rewind", str(tmp_path / "ckpt")]
    number = int(words[-1])
    copy = tmp_path / "it's a [copy]"
    shutil.copytree(tmp_path / "ckpt", copy)
    assert str(copy) in shlex.split((drain.drained(Logs(copy)) or "").partition("more rows: ")[2])
    checkpoints.rewind(tmp_path / "ckpt", to=number, apply=True)
    next((tmp_path / "out").glob(f"batch=*{number + 1}")).rename(tmp_path / "set aside")
    _, written = ended(spark, tmp_path, by_window, drain=True)
    assert written.rows(spark) == batch(spark, tmp_path, by_window)


@pytest.mark.slow
def test_a_drain_that_was_cut_off_is_finished_before_new_input_is_read(spark, tmp_path, caplog):
    land(tmp_path / "in", ROWS)
    whole = batch(spark, tmp_path, by_window)
    ended(spark, tmp_path, by_window, drain=True)
    last = max((tmp_path / "ckpt" / "commits").glob("[0-9]*"), key=lambda path: int(path.name))
    last.unlink()  # as after a kill between the sink and the commit
    last.with_name(f".{last.name}.crc").unlink(missing_ok=True)
    land(tmp_path / "in", [(1810, "a", 1)], files=1)
    summary, written = ended(spark, tmp_path, by_window, drain=True)
    assert (
        "it was cut off while it wrote its last windows; now it writes them, and reads no more" in caplog.text
    )
    assert (summary.queries[0].batches, summary.queries[0].input_rows) == (1, 0)
    assert written.rows(spark) == whole


@pytest.mark.classic_only("what a batch function sees is at the server")
@pytest.mark.parametrize("mode", ["update", "complete"])
def test_modes_that_have_written_open_windows_write_nothing_more(spark, tmp_path, mode):
    land(tmp_path / "in", ROWS)
    seen: list[int] = []
    rows = sources.json(spark, str(tmp_path / "in"), schema=SCHEMA)
    sink = sinks.foreach_batch(lambda rows, _: seen.append(len(rows.collect())))
    query = start(by_window(rows), sink, name="ends", mode=mode, checkpoint=tmp_path / "c", availableNow=True)
    summary = run(query, drain=True)
    assert seen[0] == len(batch(spark, tmp_path, by_window))
    assert not any(seen[1:]) or mode == "complete"
    assert summary.queries[0].waiting_rows is None


def test_a_query_that_cannot_be_drained_is_refused(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    rows = sources.json(spark, str(tmp_path / "in"), schema=SCHEMA)
    query = start(by_window(rows), sinks.memory("nowhere"), availableNow=True)
    with pytest.raises(
        InvalidInputError, match=r"query nowhere has no checkpoint .*give start\(…, checkpoint="
    ):
        run(query, drain=True)
    assert not query.isActive


def test_a_stream_without_state_has_nothing_to_drain(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    for _ in range(2):
        summary, written = ended(spark, tmp_path, lambda rows: rows, drain=True)
    assert summary.queries[0].batches == 0
    assert len(written.rows(spark)) == len(ROWS)


@pytest.mark.parametrize("kind", ["a total by key", "no key twice"])
def test_a_query_without_a_watermark_has_nothing_to_drain_and_goes_on(spark, tmp_path, kind):
    def transform(rows):
        return rows.groupBy("key").agg(F.sum("n").alias("n")) if kind == "a total by key" else distinct(rows)

    def distinct(rows):
        return rows.select("key").dropDuplicates(["key"])

    def taken(batch, _batch_id):
        batch.collect()

    def ended_now():
        rows = sources.json(spark, str(tmp_path / "in"), schema=SCHEMA)
        mode = "update" if kind == "a total by key" else "append"
        into = sinks.foreach_batch(taken)
        ckpt = tmp_path / "ckpt"
        query = start(transform(rows), into, name="n", mode=mode, checkpoint=ckpt, availableNow=True)
        return run(query, drain=True)

    land(tmp_path / "in", ROWS[:10], files=1)
    assert ended_now().queries[0].batches == 1, "not one more, which reads nothing"
    land(tmp_path / "in", ROWS[10:20], files=1)  # a drained checkpoint is refused from here on
    assert ended_now().queries[0].input_rows == 10
