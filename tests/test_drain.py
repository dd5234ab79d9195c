"""`run(drain=True)`: the last windows of a finite input, exactly as a batch computes them."""

import shlex
from contextlib import suppress
from typing import Any

import pytest
from conftest import failure, refusal
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from support.sink_streams import forget_commit

from sparkstream_kit import (
    checkpoints,
    feeds,
    joins,
    run,
    sinks,
    sources,
    start,
    state,
    windows,
)
from sparkstream_kit._internal.spark import queries as spark_queries
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import operate
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

SCHEMA = "time LONG, key STRING, n INT"
# Not from 0 on: before the first watermark, Spark takes a row of 1970-01-01 00:00 for
# late.
ROWS = [(1200 + second, "ab"[second % 2], second % 7) for second in range(0, 600, 7)]


def land(folder, rows, *, files=2):
    size, named = -(-len(rows) // files), len(list(folder.glob("*.json")))
    lines = [f'{{"time": {time}, "key": "{key}", "n": {n}}}\n' for time, key, n in rows]
    texts = ["".join(lines[at : at + size]) for at in range(0, len(rows), size)]
    feeds.drip(
        ((f"{named + number}.json", text) for number, text in enumerate(texts)), folder
    )


def timed(rows):
    return rows.withColumn("at", F.timestamp_seconds("time")).withWatermark(
        "at", "100 seconds"
    )


def by_window(rows):
    counts = timed(rows).groupBy(windows.tumbling("at", "200 seconds"), "key")
    return windows.flatten(
        counts.agg(F.count("*").alias("rows"), F.avg("n").alias("mean"))
    )


def by_session(rows):
    gaps = (
        timed(rows)
        .where("time % 100 < 50")
        .groupBy(windows.session("at", "20 seconds"), "key")
    )
    return windows.flatten(gaps.agg(F.sum("n").alias("sum")), "session_window")


def by_two_windows(rows):
    longer = windows.tumbling(F.window_time("window"), "400 seconds")
    small = timed(rows).groupBy(windows.tumbling("at", "200 seconds"), "key").count()
    return windows.flatten(small.groupBy(longer).agg(F.sum("count").alias("rows")))


def unmatched(rows):
    left = timed(rows.where("key = 'a'")).select("at", (F.col("n") % 2).alias("i"))
    right = timed(rows.where("key = 'b' AND time % 3 = 0")).select(
        F.col("at").alias("later"), F.col("n")
    )
    bound = F.expr("i = n % 2 AND later BETWEEN at AND at + INTERVAL 30 SECONDS")
    return left.join(right, bound, "left").drop("later", "i", "n")


def values(rows):
    return sorted(tuple(map(str, row)) for row in rows)


def written(spark, tmp_path):
    return values(spark.read.parquet(str(tmp_path / "out")).drop("batch").collect())


def ended(spark, tmp_path, transform, sink=None, mode="append", **more):
    rows = sources.json(
        spark, str(tmp_path / "in"), schema=SCHEMA, max_files_per_trigger=1
    )
    into, how = (
        sink or sinks.batch_files(tmp_path / "out"),
        {
            "mode": mode,
            "availableNow": True,
        },
    )
    return run(
        start(transform(rows), into, name="ends", checkpoint=tmp_path / "ckpt", **how),
        **more,
    )


def batch(spark, tmp_path, transform):
    return values(
        transform(spark.read.schema(SCHEMA).json(str(tmp_path / "in"))).collect()
    )


@pytest.mark.connect
@pytest.mark.fast("by_window-memory-3")
@pytest.mark.parametrize(
    ("transform", "store", "partitions"),
    [
        *((by_window, "memory", 3), (by_session, "rocksdb", 1)),
        *((by_two_windows, "memory", 1), (unmatched, "rocksdb", 3)),
    ],
)
def test_drained_windows_are_those_of_a_batch(
    spark, tmp_path, transform, store, partitions
):
    land(tmp_path / "in", ROWS)
    with in_force(
        spark,
        {
            STATE_STORE: STATE_STORES[store],
            "spark.sql.shuffle.partitions": str(partitions),
        },
    ):
        summary = ended(spark, tmp_path, transform, drain=True)
        assert written(spark, tmp_path) == batch(spark, tmp_path, transform)
    assert (summary.queries[0].input_rows, summary.ended_by) == (
        len(ROWS),
        "end of input",
    )
    assert "hint" not in str(summary)


@pytest.mark.slow
def test_a_stop_file_ends_a_drain_too(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    rows = by_window(sources.json(spark, str(tmp_path / "in"), schema=SCHEMA))
    how: dict[str, Any] = {
        "name": "ends",
        "checkpoint": tmp_path / "ckpt",
        "availableNow": True,
    }
    query = start(rows, sinks.batch_files(tmp_path / "out"), **how)
    facts = spark_queries.start_facts(query)
    assert facts.drain is not None

    def drain(again=facts.drain):
        (tmp_path / "stop").touch()
        return again()

    spark_queries.note(query, facts._replace(drain=drain))
    summary = run(query, query, drain=True, stop_file=tmp_path / "stop", run_for=600)
    assert summary.ended_by == f"stop file {tmp_path / 'stop'}"
    with suppress(InvalidInputError):  # it was committed before the stop
        # Finishes the last batch
        run(start(rows, sinks.batch_files(tmp_path / "out"), **how))
    assert written(spark, tmp_path) == batch(spark, tmp_path, by_window)


@pytest.mark.slow
@pytest.mark.classic_only("what a batch function sees is at the server")
def test_a_last_batch_that_fails_leaves_the_other_queries_in_the_summary(
    spark, tmp_path
):
    land(tmp_path / "in", ROWS)
    rows = sources.json(spark, str(tmp_path / "in"), schema=SCHEMA)

    def fail(closed, _):
        assert closed.isEmpty(), "the windows cannot be written"

    how: dict[str, Any] = {"availableNow": True}
    windowed = timed(rows).groupBy(windows.tumbling("at", "10 days")).count()
    failing = start(
        windowed,
        sinks.foreach_batch(fail),
        name="failing",
        checkpoint=tmp_path / "a",
        **how,
    )
    other = start(rows, sinks.console(), name="other", checkpoint=tmp_path / "b", **how)
    with pytest.raises(QueryFailed, match="the windows cannot be written") as failed:
        run(failing, other, drain=True)
    told: Any = failed.value.summary
    assert {each.name: each.input_rows for each in told.queries} == {
        "failing": len(ROWS),
        "other": len(ROWS),
    }


@pytest.mark.slow
def test_what_a_key_is_known_by_does_not_wait(spark, tmp_path):
    land(tmp_path / "in", ROWS)

    def alerts(rows: DataFrame) -> DataFrame:
        return state.alert_when(timed(rows), "key", "at", "n", state.ZScore(sigmas=9))

    summary = ended(spark, tmp_path, alerts, drain=True)
    assert (summary.queries[0].state_rows or 0) > 0, "numbers by key are kept"
    assert summary.queries[0].waiting_rows == 0
    assert "hint" not in str(summary)


@pytest.mark.slow
def test_windows_that_stay_open_are_named_and_can_be_drained_later(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    whole = batch(spark, tmp_path, by_window)
    summary = ended(spark, tmp_path, by_window)
    before = len(written(spark, tmp_path))
    assert summary.queries[0].waiting_rows == len(whole) - before > 0
    assert f"hint: query ends has {len(whole) - before} rows in state" in str(summary)

    summary = ended(spark, tmp_path, by_window, drain=True)
    assert written(spark, tmp_path) == whole
    assert max(row[1] for row in whole) == "1970-01-01 00:30:00"
    assert (summary.queries[0].batches, summary.queries[0].input_rows) == (1, 0)


def matched(rows):
    left, right = (
        timed(rows.where(f"key = '{key}'")).select("n", F.col("at").alias(key))
        for key in "ab"
    )
    times: dict[str, Any] = {"left_time": "a", "right_time": "b", "within": "1 minute"}
    return joins.within(left, right, on="n", **times)


def counted(timeout):
    def count(key, frames, state):
        state.update((sum(map(len, frames)),))
        yield from ()

    return lambda rows: (
        timed(rows)
        .groupBy("key")
        .applyInPandasWithState(count, "key STRING", "n LONG", "append", timeout)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transform", "waits"),
    [
        (matched, False),
        (counted("NoTimeout"), False),
        (counted("EventTimeTimeout"), True),
    ],
    ids=["inner join", "no timeout", "timeout"],
)
def test_rows_that_are_kept_for_others_do_not_wait(spark, tmp_path, transform, waits):
    land(tmp_path / "in", ROWS)
    done = ended(spark, tmp_path, transform).queries[0]
    assert done.state_rows
    assert bool(done.waiting_rows) == waits


@pytest.mark.slow
@pytest.mark.connect
def test_what_comes_after_the_last_batch_is_refused_and_not_lost(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    ended(spark, tmp_path, by_window, drain=True)
    land(tmp_path / "in", [(1810, "a", 1)], files=1)
    said = refusal(ended, spark, tmp_path, by_window, drain=True)
    assert "was drained: batch " in said
    words = shlex.split(said.partition("more rows: ")[2])
    assert words[:4] == ["sparkstream", "checkpoint", "rewind", str(tmp_path / "ckpt")]
    number = int(words[-1])
    checkpoints.rewind(tmp_path / "ckpt", to=number, apply=True)
    next((tmp_path / "out").glob(f"batch=*{number + 1}")).rename(tmp_path / "set aside")
    ended(spark, tmp_path, by_window, drain=True)
    assert written(spark, tmp_path) == batch(spark, tmp_path, by_window)


def test_a_drain_that_a_rewind_gave_up_is_not_put_back_from_the_target(spark, tmp_path):
    land(tmp_path / "in", ROWS[:20], files=1)
    ended(spark, tmp_path, by_window, drain=True)
    done = Logs(tmp_path / "ckpt").done
    checkpoints.rewind(tmp_path / "ckpt", to=done - 1, apply=True)
    land(tmp_path / "in", [(1810, "a", 1)], files=1)
    said = failure(ended, spark, tmp_path, by_window)
    assert "has the batch that ended the input under this number" in said


@pytest.mark.slow
def test_a_drain_that_was_cut_off_is_finished_before_new_input_is_read(
    spark, tmp_path, caplog
):
    land(tmp_path / "in", ROWS)
    whole = batch(spark, tmp_path, by_window)
    ended(spark, tmp_path, by_window, drain=True)
    forget_commit(tmp_path / "ckpt")
    land(tmp_path / "in", [(1810, "a", 1)], files=1)
    summary = ended(spark, tmp_path, by_window, drain=True)
    assert (
        "query ends: its drain was interrupted; finishing it now, then stopping"
        in caplog.text
    )
    assert (summary.queries[0].batches, summary.queries[0].input_rows) == (1, 0)
    assert written(spark, tmp_path) == whole


@pytest.mark.fast("complete")
@pytest.mark.classic_only("what a batch function sees is at the server")
@pytest.mark.parametrize("mode", ["update", "complete"])
def test_modes_that_have_written_open_windows_write_nothing_more(spark, tmp_path, mode):
    land(tmp_path / "in", ROWS)
    seen: list[int] = []
    sink = sinks.foreach_batch(lambda rows, _: seen.append(len(rows.collect())))
    rows = sources.json(spark, str(tmp_path / "in"), schema=SCHEMA)
    how = {"mode": mode, "availableNow": True}
    summary = run(
        start(by_window(rows), sink, name="ends", checkpoint=tmp_path / "c", **how),
        drain=True,
    )
    assert sum(seen) == len(batch(spark, tmp_path, by_window))
    assert summary.queries[0].waiting_rows is None


def test_a_query_that_cannot_be_drained_is_refused(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    rows = sources.json(spark, str(tmp_path / "in"), schema=SCHEMA)
    query = start(by_window(rows), sinks.memory("nowhere"), availableNow=True)
    with pytest.raises(
        InvalidInputError,
        match=r"query nowhere has no checkpoint .*give start\(…, check",
    ):
        run(query, drain=True)
    assert not query.isActive


@pytest.mark.slow
def test_a_stream_without_state_has_nothing_to_drain(spark, tmp_path):
    land(tmp_path / "in", ROWS)
    for _ in range(2):
        summary = ended(spark, tmp_path, lambda rows: rows, drain=True)
    assert summary.queries[0].batches == 0
    assert len(written(spark, tmp_path)) == len(ROWS)


@pytest.mark.fast("no key twice")
@pytest.mark.parametrize("kind", ["a total by key", "no key twice"])
def test_a_query_without_a_watermark_has_nothing_to_drain_and_goes_on(
    spark, tmp_path, kind
):
    def transform(rows):
        if kind == "a total by key":
            return rows.groupBy("key").agg(F.sum("n").alias("n"))
        return rows.select("key").dropDuplicates(["key"])

    mode = "update" if kind == "a total by key" else "append"
    for first in (0, 10):
        land(tmp_path / "in", ROWS[first : first + 10], files=1)
        summary = ended(spark, tmp_path, transform, sinks.console(), mode, drain=True)
        # Not one batch more, which reads nothing: from then on the checkpoint would be
        # refused.
        assert (summary.queries[0].batches, summary.queries[0].input_rows) == (1, 10)


@pytest.mark.slow
def test_an_event_of_the_run_that_comes_while_it_is_drained_is_passed_over(
    spark, tmp_path, monkeypatch
):
    def late(queries):
        def drained(summary, begun, grace):
            begun.keywords["inbox"].post("progress", queries[0].lastProgress)
            return operate.draining(queries)(summary, begun, grace)

        return drained

    monkeypatch.setattr("sparkstream_kit.runs._draining", late)
    land(tmp_path / "in", ROWS)
    ended(spark, tmp_path, by_window, drain=True)
    assert written(spark, tmp_path) == batch(spark, tmp_path, by_window)
