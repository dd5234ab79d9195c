"""`start` and `run`: names, modes, and every way in which a run can end."""

import gc
import json
import math
import os
import re
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from conftest import HANGS, refusal
from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark import SparkContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.streaming.listener import StreamingQueryProgress
from pyspark.sql.streaming.query import StreamingQuery

from sparkstream_kit import errors, feeds, run, sinks, sources, start
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark import queries as spark_queries
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit._internal.stopping.waiting import Inbox
from sparkstream_kit.errors import (
    DryRun,
    InputUnavailable,
    InvalidInputError,
    QueryFailed,
)
from sparkstream_kit.monitoring import terminal
from sparkstream_kit.progress import QuerySummary, RunSummary

pytestmark = pytest.mark.connect


@pytest.fixture
def words(spark, folder):
    """A stream over three files of words, one file a batch."""
    feeds.drip([(f"{n}.txt", "a b\nb c\n") for n in range(3)], folder)
    lines = sources.text(spark, str(folder), max_files_per_trigger=1)
    return (
        lines.select(F.explode(F.split("value", " ")).alias("word"))
        .groupBy("word")
        .count()
    )


@pytest.fixture
def line(spark, folder):
    """A stream over a file of one line."""
    feeds.drip([("0.txt", "a\n")], folder)
    return sources.text(spark, str(folder))


def endless(spark):
    return sources.rate(spark, rows_per_second=50)


REFUSED: dict[str, tuple[str, Callable[[DataFrame], DataFrame], str]] = {
    "an aggregation without a watermark": (
        "append",
        lambda rows: rows.groupBy("value").count(),
        (
            "mode append writes a row once, when it is final, and without a watermark a"
            " total is never final"
        ),
    ),
    "no aggregation": (
        "complete",
        lambda rows: rows,
        (
            "mode complete writes the whole result after each batch, which only an"
            " aggregation has"
        ),
    ),
    "a sort": (
        "append",
        lambda rows: rows.orderBy("value"),
        (
            "mode append cannot sort, as later rows may belong before those that are"
            " written"
        ),
    ),
    "a limit": (
        "update",
        lambda rows: rows.limit(3),
        "mode update cannot limit the rows; give mode='append', or leave out limit",
    ),
    "an outer join without watermarks": (
        "append",
        lambda rows: rows.join(
            rows.toDF("other"), F.col("value") == F.col("other"), "left"
        ),
        (
            "Stream-stream LeftOuter join between two streaming DataFrame/Datasets is"
            " not supported"
        ),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_spark_cannot_do_in_a_mode_is_one_line_with_the_fix(spark, what):
    mode, build, said = REFUSED[what]
    assert refusal(
        start,
        build(sources.rate(spark).select("value")),
        sinks.console(),
        name="q",
        mode=mode,
    ).startswith(f"query q: {said}")


@pytest.mark.slow
def test_a_finite_input_is_read_to_its_end_and_every_batch_is_reported(words):
    seen: list[int] = []
    query = start(words, sinks.memory("to_end"), mode="complete", availableNow=True)
    summary = run(query, on_batch=lambda batch: seen.append(batch.batchId))
    assert seen == [0, 1, 2]
    assert summary.ended_by == "end of input"
    assert [
        (q.name, q.batches, q.input_rows, q.last_batch) for q in summary.queries
    ] == [("to_end", 3, 6, 2)]
    assert str(summary).startswith("to_end: 3 batches, 6 rows in, ")
    assert ", last batch committed: 2\nthe run ended after" in str(summary)


@pytest.mark.slow
def test_finite_inputs_are_read_to_their_end_and_every_batch_is_reported(spark, words):
    told: list[tuple[str | None, int]] = []
    names = ("to_end", "as_well")
    queries = [
        start(words, sinks.memory(name), mode="complete", availableNow=True)
        for name in names
    ]
    never: dict[str, Any] = {"run_for": math.inf, "idle": 1e10, "grace": math.inf}
    summary = run(
        *queries,
        on_batch=lambda batch: told.append((batch.name, batch.batchId)),
        **never,
    )
    assert sorted(told) == [
        (name, number) for name in sorted(names) for number in range(3)
    ]
    assert summary.ended_by == "end of input"
    seen = [(q.name, q.batches, q.input_rows, q.last_batch) for q in summary.queries]
    assert seen == [(name, 3, 6, 2) for name in names]
    assert str(summary).startswith("to_end: 3 batches, 6 rows in, ")
    assert ", last batch committed: 2\nthe run ended after" in str(summary)
    assert spark.table("to_end").count() == spark.table("as_well").count() == 3


@pytest.mark.slow
def test_a_progress_comes_from_the_jvm_as_one_text(words, monkeypatch):
    # PySpark's own way asks for each value of it, and takes several times as long.
    asked: list[object] = []
    by_values = StreamingQueryProgress.fromJObject

    def ask(given):
        # Where the JVM calls listeners
        if threading.current_thread() is not threading.main_thread():
            asked.append(given)
        return by_values(given)

    monkeypatch.setattr(StreamingQueryProgress, "fromJObject", ask)
    seen: list[object] = []
    run(
        start(words, sinks.memory("texts"), mode="complete", availableNow=True),
        on_batch=seen.append,
    )
    assert seen
    assert asked == []


@pytest.mark.slow
def test_several_queries_end_together(spark, words):
    one = start(words, sinks.memory("one"), mode="complete", availableNow=True)
    two = start(words, sinks.memory("two"), mode="complete", availableNow=True)
    assert [query.batches for query in run(one, two).queries] == [3, 3]
    assert spark.table("one").count() == spark.table("two").count() == 3


def test_run_for_ends_an_endless_input(spark):
    before = signal.getsignal(signal.SIGINT)
    summary = run(start(endless(spark), sinks.memory("timed")), run_for=2)
    assert signal.getsignal(signal.SIGINT) is before
    assert summary.ended_by == "run_for is over"
    assert summary.seconds >= 2


@pytest.mark.slow
def test_a_query_that_somebody_stops_is_not_the_end_of_its_input(spark, tmp_path):
    late = (
        endless(spark)
        .withWatermark("timestamp", "1 minute")
        .dropDuplicatesWithinWatermark(["value"])
    )
    query = start(
        late,
        sinks.batch_files(tmp_path / "out"),
        name="q",
        checkpoint=tmp_path / "ckpt",
    )
    assert (
        run(query, on_batch=lambda _: query.stop(), drain=True).ended_by
        == "query.stop()"
    )
    again = start(
        late,
        sinks.batch_files(tmp_path / "out"),
        name="q",
        checkpoint=tmp_path / "ckpt",
    )
    # It was not drained
    assert run(again, max_batches=1).ended_by == "max_batches are through"


@pytest.mark.slow
def test_max_batches_ends_the_run(spark, words):
    one = start(
        words,
        sinks.memory("limited"),
        mode="complete",
        processingTime="500 milliseconds",
    )
    summary = run(one, start(endless(spark), sinks.memory("as_well")), max_batches=2)
    assert summary.ended_by == "max_batches are through"
    assert summary.queries[0].batches in {2, 3}
    assert summary.queries[1].batches >= 2


@pytest.mark.slow
def test_the_summary_counts_what_went_out_what_was_late_and_what_is_kept(spark, folder):
    #  batch 0: 00:10 a  → watermark 00:10   batch 1: 00:11 b   batch 2: 00:05 late, 00:12 c
    for name, lines in enumerate([["00:10,a"], ["00:11,b"], ["00:05,late", "00:12,c"]]):
        feeds.drip(
            [(f"{name}.csv", "".join(f"2026-01-01 {line}\n" for line in lines))], folder
        )
    rows = sources.csv(
        spark, str(folder), schema="at TIMESTAMP, word STRING", max_files_per_trigger=1
    )
    once = rows.withWatermark("at", "0 seconds").dropDuplicates(["at", "word"])
    (counts,) = run(start(once, sinks.memory("once"), availableNow=True)).queries
    assert (
        counts.input_rows,
        counts.output_rows,
        counts.late_rows,
        counts.state_rows,
    ) == (4, 3, 1, 0)
    assert counts.rows_per_second == counts.input_rows / counts.busy_seconds
    assert "4 rows in, 3 rows out, 1 late row dropped, 0 rows in state, " in str(counts)


def test_each_number_has_its_word():
    def said(number, **other):
        names = [
            "batches",
            "input_rows",
            "output_rows",
            "late_rows",
            "parsed_rows",
            "bad_rows",
        ]
        more = ["header_rows", "like_header_rows", "state_rows"]
        counts: dict[str, Any] = dict.fromkeys(names + more, number)
        query = QuerySummary(
            "q", "id", last_batch=7, busy_seconds=1.0, **counts | other
        )
        return str(RunSummary("end of input", 1.0, (query,)))

    assert (
        said(1)
        == "q: 1 batch, 1 row in, 1 row out, 1 late row dropped, 1 header line, 1 bad"
        " row, 1 row in state, 1 row/s, last batch committed: 7\nhint: 1 bad row of"
        " query q looks like a header; parse with header=True (of a job:"
        " --header)\nthe run ended after 1.0 s by: end of input"
    )
    assert "hint: each row of query q is bad: its column _reason says why" in said(
        3, like_header_rows=0
    )
    assert (
        "q: 2,000 batches, 2,000 rows in, 2,000 rows out, 2,000 late rows dropped"
        in said(2000)
    )
    assert (
        "0 late rows dropped, 0 bad rows, 0 rows in state, 0 rows/s, last batch"
        " committed: 7\n" in said(0)
    )


@pytest.mark.fast("False")
@pytest.mark.parametrize("sort", [True, False])
def test_rows_in_state_are_counted_once_also_if_a_sort_computes_them_twice(
    spark, words, *, sort
):
    with in_force(spark, {"spark.sql.shuffle.partitions": "2"}):
        frame = words.orderBy("word") if sort else words
        (query,) = run(
            start(frame, sinks.memory("sorted"), mode="complete", availableNow=True)
        ).queries
        assert query.state_rows == spark.table("sorted").count()


@pytest.mark.slow
def test_a_batch_that_takes_longer_than_idle_is_no_idleness(words):
    #  batch 0 [── 1.5 s ──] batch 1 [── 1.5 s ──] batch 2 [── 1.5 s ──]  1 s without a row: end
    def slow(batch, _batch_id):
        batch.count()
        threading.Event().wait(1.5)

    summary = run(
        start(words, sinks.foreach_batch(slow), name="slow", mode="complete"), idle=1
    )
    assert (summary.ended_by, summary.queries[0].input_rows) == ("1 s without a row", 6)


@pytest.mark.slow
def test_batches_that_spark_has_forgotten_are_counted_if_their_reader_was_slow(
    spark, words, tmp_path, until
):
    #  batches   0 1 2
    #  on_batch  [ 0 … stop file ]  the run is over, and 1 and 2 are not yet seen
    with in_force(spark, {"spark.sql.streaming.numRecentProgressUpdates": "1"}):
        query = start(words, sinks.memory("forgotten"), mode="complete")

    def slow(batch):
        if batch.batchId == 0:
            until(lambda: query.lastProgress and query.lastProgress.batchId == 2)
            (tmp_path / "stop").touch()

    summary = run(query, stop_file=tmp_path / "stop", on_batch=slow)
    assert (summary.queries[0].batches, summary.queries[0].input_rows) == (3, 6)


@pytest.mark.slow
@pytest.mark.classic_only("Spark Connect asks a source in another way, and is as slow")
def test_a_first_look_that_takes_longer_than_idle_is_no_idleness(spark):
    #  [ where does it begin? 2 s ]  batch 0  1 s without a row: end
    # In here, so that it is sent to the workers whole
    class Slow(SimpleDataSourceStreamReader):
        def initialOffset(self):
            threading.Event().wait(2)
            return {"at": 0}

        def read(self, start):
            return iter([(1,)] if start["at"] == 0 else []), {"at": 1}

        def readBetweenOffsets(self, start, end):
            return iter([(1,)] if start != end else [])

    class SlowSource(DataSource):
        @classmethod
        def name(cls):
            return "slow_to_begin"

        def simpleStreamReader(self, schema):
            return Slow()

    spark.dataSource.register(SlowSource)
    frame = spark.readStream.format("slow_to_begin").schema("n INT").load()
    summary = run(start(frame, sinks.memory("slow_to_begin")), idle=1)
    assert (summary.ended_by, summary.queries[0].input_rows) == ("1 s without a row", 1)


@pytest.mark.slow
def test_a_wait_that_fails_does_not_end_the_run(spark, monkeypatch):
    def fail(_query):
        raise ConnectionError("the server does not answer")

    query = start(endless(spark), sinks.memory("waited_for"))
    monkeypatch.setattr(type(query), "awaitTermination", fail)
    assert run(query, run_for=3).ended_by == "run_for is over"
    assert not query.isActive


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_also_repeated_at_once_is_one_stop_and_the_handlers_are_put_back(
    spark, number
):
    before = signal.getsignal(number)

    def twice(batch):
        # After the first batch only: one that ends during the stop must not begin
        # another.
        for _again in range(2 if batch.batchId == 0 else 0):
            os.kill(os.getpid(), number)

    assert (
        run(start(endless(spark), sinks.memory("signalled")), on_batch=twice).ended_by
        == number.name
    )
    assert signal.getsignal(number) is before


@pytest.mark.classic_only("Spark Connect has no newSession")
def test_a_query_of_another_session_is_heard_too(spark, folder):
    feeds.drip([("1.txt", "a\n")], folder)
    seen: list[int] = []
    query = start(
        sources.text(spark.newSession(), str(folder)), sinks.console(), name="elsewhere"
    )
    summary = run(
        query, idle=1, run_for=60, on_batch=lambda batch: seen.append(batch.batchId)
    )
    assert (summary.ended_by, seen) == ("1 s without a row", [0])


@pytest.mark.slow
def test_the_batch_in_flight_is_committed_before_the_stop(line, tmp_path):
    #   batch 0:  [ begins … stop file appears … waits until run has seen it … ends ]  commit  stop
    stop, written = tmp_path / "stop", tmp_path / "written"

    def slow(batch, batch_id):
        stop.touch()
        # The work of a slow batch: the run is asked to stop in the middle of it
        threading.Event().wait(2)
        written.write_text(f"{batch_id} {batch.count()}")

    query = start(
        line, sinks.foreach_batch(slow), name="slow", checkpoint=tmp_path / "ckpt"
    )
    summary = run(query, stop_file=stop)
    assert summary.ended_by == f"stop file {stop}"
    assert written.read_text() == "0 1"
    assert summary.queries[0].last_batch == 0
    assert (tmp_path / "ckpt" / "commits" / "0").exists()


@pytest.mark.slow
@pytest.mark.classic_only("the server of Spark Connect ends a function that hangs")
def test_grace_bounds_how_long_a_batch_may_hold_up_the_stop(
    spark, line, tmp_path, until, monkeypatch
):
    monkeypatch.setattr("sparkstream_kit.runs._STOP_LIMIT", 0.5)
    stop, release = tmp_path / "stop", tmp_path / "release"

    def stuck(_batch, _batch_id):
        stop.touch()
        for _look in range(600):
            if release.exists() or threading.Event().wait(0.1):
                break

    query = start(
        line, sinks.foreach_batch(stuck), name="stuck", checkpoint=tmp_path / "ckpt"
    )
    other = start(endless(spark), sinks.memory("beside"))
    began = time.monotonic()
    with pytest.raises(
        QueryFailed, match="query stuck failed: it did not stop; the"
    ) as failed:
        run(query, other, stop_file=stop, grace=0.5)
    assert time.monotonic() - began < 30, "as long as without a grace"
    assert not other.isActive
    assert isinstance(failed.value.summary, RunSummary)
    release.touch()
    until(lambda: not query.isActive)


@pytest.mark.classic_only("the server of Spark Connect ends a function that hangs")
def test_a_stop_that_spark_itself_gives_up_is_told(spark, line, until):
    is_hanging = threading.Event()
    release = threading.Event()

    def hang(_batch, _batch_id):
        is_hanging.set()
        release.wait(HANGS)

    with in_force(spark, {"spark.sql.streaming.stopTimeout": "100ms"}):
        query = start(line, sinks.foreach_batch(hang), name="hangs")
    # A stop before that would end the batch at once
    until(is_hanging.is_set)
    with pytest.raises(QueryFailed, match="query hangs failed: it did not stop; the"):
        run(query, run_for=0.1, grace=0)
    release.set()
    until(lambda: not query.isActive)


@pytest.mark.classic_only("the server of Spark Connect ends a function that hangs")
def test_queries_are_stopped_side_by_side_and_each_once(line, until, monkeypatch):
    #  stop of one:    [ begins … waits for its batch function ]
    #  stop of other:  [ begins … waits for its batch function ]
    #  Both functions wait for both stops.
    begun: list[str] = []
    stop = StreamingQuery.stop

    def noted(query):
        begun.append(str(query.name))
        stop(query)

    monkeypatch.setattr(StreamingQuery, "stop", noted)
    # One after the other, it would hang
    monkeypatch.setattr("sparkstream_kit.runs._STOP_LIMIT", 3600.0)

    def hang(_batch, _batch_id):
        until(lambda: len(begun) >= 2)

    queries = [
        start(line, sinks.foreach_batch(hang), name=name) for name in ("one", "other")
    ]
    until(lambda: all(query.status["isTriggerActive"] for query in queries))
    assert run(*queries, run_for=0.1, grace=0).ended_by == "run_for is over"
    assert sorted(begun) == ["one", "other"]


@pytest.mark.slow
@pytest.mark.classic_only("the server of Spark Connect ends a function that hangs")
def test_a_query_that_hangs_takes_no_grace_from_another_and_hides_no_failure(
    spark, line, tmp_path, until
):
    #  stop file:           │                         grace is over │
    #  hangs:   [ begins …                                       … is released at the end ]
    #  ticks:   [ ] [ ] [ ] [ ]  stopped
    #  fails:   [ begins …   ] no such shop
    stop, release = tmp_path / "stop", tmp_path / "release"
    late: list[int] = []

    def hang(_batch, _batch_id):
        until(release.exists)

    def tick(_batch, batch_id):
        if stop.exists():
            late.append(batch_id)
        threading.Event().wait(0.2)

    def fail(_batch, _batch_id):
        until(stop.exists)
        raise ValueError("no such shop")

    hangs = start(line, sinks.foreach_batch(hang), name="hangs")
    ticks = start(endless(spark), sinks.foreach_batch(tick), name="ticks")
    fails = start(line, sinks.foreach_batch(fail), name="fails")
    until(
        lambda: (
            ticks.lastProgress
            and hangs.status["isTriggerActive"]
            and fails.status["isTriggerActive"]
        )
    )
    stop.touch()
    try:
        with pytest.raises(QueryFailed, match="query fails failed: .*no such shop"):
            run(hangs, ticks, fails, stop_file=stop, grace=8)
        assert len(late) <= 4
    finally:
        release.touch()
    until(lambda: not hangs.isActive)
    assert not (tmp_path / "ckpt" / "commits" / "0").exists()


@pytest.fixture
def fail():
    """A function for batches.

    It is not of this module, which a server would import with all that it needs.
    """

    def fails(_batch, _batch_id):
        raise ValueError("no such shop")

    return fails


def test_a_failing_query_stops_the_others_and_is_named_with_its_cause(
    spark, words, fail
):
    other = start(endless(spark), sinks.memory("other"))
    bad = start(words, sinks.foreach_batch(fail), name="bad", mode="complete")
    with pytest.raises(
        QueryFailed, match="query bad failed: ValueError: no such shop"
    ) as caught:
        run(other, bad)
    assert not other.isActive
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert [query.name for query in caught.value.summary.queries] == ["other", "bad"]  # type: ignore[attr-defined]


@pytest.mark.classic_only(
    "there the function runs in the server's Python, without the kit"
)
@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda *_: sys.exit("enough"), "SystemExit: enough"),
        (
            lambda batch, _: batch.write.format("csv"),
            "returned a DataFrameWriter; end it with .write….save",
        ),
    ],
)
def test_a_function_that_exits_or_leaves_a_writer_fails_its_query(words, write, says):
    query = start(words, sinks.foreach_batch(write), name="bad", mode="complete")
    with pytest.raises(QueryFailed, match=says):
        run(query)


@pytest.mark.parametrize(
    ("error", "says", "code"),
    [
        # As Delta says it, too: Kafka is named only where a query reads it.
        (
            partial(ValueError, "to skip missing data, set failOnDataLoss"),
            "ValueError: to skip missing",
            1,
        ),
        (
            partial(errors.TransientError, "x cannot be reached; start it"),
            "x cannot be reached",
            75,
        ),
    ],
)
def test_the_cause_in_a_batch_and_the_code_for_another_try(words, error, says, code):
    def fails(_batch, _batch_id):
        raise error()

    query = start(words, sinks.foreach_batch(fails), name="bad", mode="complete")
    with pytest.raises(QueryFailed, match=f"^query bad failed: {says}") as failed:
        run(query)
    assert failed.value.exit_code == code


@pytest.mark.slow
def test_a_summary_is_kept_for_programs_also_that_of_a_failure(words, tmp_path, fail):
    kept = tmp_path / "runs.jsonl"
    query = start(words, sinks.memory("refused"), mode="complete")
    said = refusal(run, query, summary_json=tmp_path / "none" / "x")
    assert re.search(
        r"cannot write the summary .*/none/x \(No such file or directory\); give"
        r" another",
        said,
    )
    query = start(words, sinks.memory("refused"), mode="complete")
    assert "no checkpoint that can be written" in refusal(
        run, query, summary_json=kept, drain=True
    )
    assert not kept.exists(), "a refusal leaves no empty file"
    run(
        start(words, sinks.memory("kept"), mode="complete", availableNow=True),
        summary_json=kept,
    )
    bad = start(words, sinks.foreach_batch(fail), name="bad", mode="complete")
    with pytest.raises(QueryFailed) as failed:
        run(bad, summary_json=kept)
    well, ill = map(json.loads, kept.read_text().splitlines())
    assert well.pop("version") == 1
    assert set(well) == {"ended_by", "seconds", "queries", "warnings", "error"}
    assert (well["ended_by"], well["error"], well["warnings"]) == (
        "end of input",
        None,
        [],
    )
    [query] = well["queries"]
    assert (
        query["name"],
        query["batches"],
        query["input_rows"],
        query["state_rows"],
    ) == ("kept", 3, 6, 3)
    assert "drops" not in query  # what the documentation does not have
    assert (ill["ended_by"], ill["error"]) == ("failure", str(failed.value))
    assert ill["queries"][0]["name"] == "bad"


@pytest.mark.slow
@pytest.mark.classic_only("an end that Spark Connect's server tells can come late")
def test_of_several_failures_the_first_is_told_and_the_others_are_logged(spark, caplog):
    begun, over = threading.Event(), threading.Event()

    def after(_batch, _batch_id):
        begun.set()
        over.wait(60)
        raise ValueError("the second")

    def first(_batch, _batch_id):
        begun.wait(60)
        # Spark says that a query has ended before `run` has heard of it
        threading.Timer(1, over.set).start()
        raise ValueError("the first")

    # The one that ends the run stands last: the other fails while the run is being
    # ended.
    other = start(endless(spark), sinks.foreach_batch(after), name="other")
    bad = start(endless(spark), sinks.foreach_batch(first), name="bad")
    with pytest.raises(
        QueryFailed, match=r"^query bad failed: ValueError: the first \(in first, .*\)$"
    ):
        run(other, bad)
    assert "query other failed, too: ValueError: the second" in caplog.text


@pytest.mark.slow
def test_a_failing_udf_is_named_by_its_own_error(spark, words):
    divide = F.udf(lambda word: 1 / (len(word) - 1))
    with pytest.raises(
        QueryFailed, match="query udf failed: ZeroDivisionError: division by zero"
    ):
        run(
            start(
                words.select(divide("word")),
                sinks.console(),
                name="udf",
                mode="complete",
            )
        )


def no_such_method():
    jvm: Any = SparkContext._jvm  # noqa: SLF001
    jvm.java.lang.System.noSuchMethod()


def no_such_file():
    jvm: Any = SparkContext._jvm  # noqa: SLF001
    jvm.java.io.FileReader("/not/there")


def raising(error):
    raise error


@pytest.mark.fast(
    "broken1-QueryFailed-QueryFailed: query x failed: y",
    "broken8-InvalidInputError-yours",
)
@pytest.mark.classic_only("the JVM of this process")
@pytest.mark.parametrize(
    ("broken", "raised", "says"),
    [
        (partial(raising, LookupError("mine")), LookupError, "LookupError: mine"),
        (
            partial(raising, QueryFailed("query x", "y")),
            QueryFailed,
            "QueryFailed: query x failed: y",
        ),
        (
            partial(raising, ConnectionRefusedError(111, "no")),
            ConnectionRefusedError,
            "[Errno 111] no",
        ),
        (
            partial(raising, BrokenPipeError("the page has gone")),
            BrokenPipeError,
            "the page has gone",
        ),
        (partial(open, "/not/there"), FileNotFoundError, "No such file"),
        (no_such_method, Py4JError, "noSuchMethod"),
        (no_such_file, Py4JJavaError, "FileNotFoundException: /not/there"),
        (
            partial(raising, Py4JNetworkError("of your own")),
            Py4JNetworkError,
            "of your own",
        ),
        (partial(raising, InvalidInputError("yours")), InvalidInputError, "yours"),
        (partial(raising, KeyboardInterrupt()), KeyboardInterrupt, "KeyboardInterrupt"),
        (partial(sys.exit, 7), SystemExit, "SystemExit: 7"),
    ],
)
def test_what_on_batch_raises_is_what_run_raises_with_the_summary_kept_once(
    words, tmp_path, broken, raised, says, capfd
):
    query, kept = (
        start(words, sinks.memory("raises"), mode="complete"),
        tmp_path / "runs.jsonl",
    )
    with pytest.raises(raised) as caught:
        run(query, on_batch=lambda _: broken(), summary_json=kept)
    assert type(caught.value) is raised
    assert not query.isActive
    assert "WARN" not in capfd.readouterr().err
    [line] = map(json.loads, kept.read_text("utf-8").splitlines())
    assert line["ended_by"] == "failure"
    assert says in line["error"]
    assert line["queries"][0]["batches"] >= 1


def serve_once(text, *, until_closed=None):
    """Serve one client, and only one: a second connection would wait for ever."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1)

    def serve():
        client, _ = server.accept()
        with server, client:
            client.sendall(text)
            if until_closed is not None:
                until_closed.wait(60)

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1])


@pytest.mark.fast("closes at once")
@pytest.mark.parametrize(
    "linger", [False, True], ids=["closes at once", "closes later"]
)
def test_a_socket_that_its_peer_closes_is_the_end_of_input(spark, *, linger):
    close = threading.Event()
    port = serve_once(
        b"first\nlast, without a line end", until_closed=close if linger else None
    )
    # A batch every two seconds: the peer is gone long before its lines have been
    # through one.
    lines = sources.socket_lines(spark, "127.0.0.1", port)
    query = start(lines, sinks.memory("closed"), processingTime="2 seconds")
    threading.Timer(2, close.set).start()
    assert run(query, run_for=60).ended_by == "end of input"
    assert [row.value for row in spark.table("closed").collect()] == [
        "first",
        "last, without a line end",
    ]


@pytest.mark.classic_only("the JVM of this process")
def test_a_socket_that_closes_ends_a_run_in_another_thread(spark, until):
    port, done = serve_once(b"one\n"), []
    query = start(
        sources.socket_lines(spark, "127.0.0.1", port), sinks.memory("elsewhere")
    )
    threading.Thread(
        target=lambda: done.append(run(query, run_for=60).ended_by)
    ).start()
    until(lambda: done, 90)
    assert done == ["end of input"]


def test_a_refused_connection_says_what_to_start(spark, free_port):
    query = start(
        sources.socket_lines(spark, "127.0.0.1", free_port),
        sinks.console(),
        name="nobody",
    )
    with pytest.raises(
        InputUnavailable, match=f"nothing listens on 127.0.0.1:{free_port}; start"
    ) as caught:
        run(query)
    assert caught.value.exit_code == 75


@pytest.mark.slow
def test_a_finished_query_goes_on_from_its_checkpoint(spark, words, folder, tmp_path):
    def once():
        how: Any = {
            "name": "resumed",
            "mode": "complete",
            "checkpoint": tmp_path,
            "availableNow": True,
        }
        run(start(words, sinks.latest("resumed"), **how))
        return {row.word: row["count"] for row in spark.table("resumed").collect()}

    assert once() == {"a": 3, "b": 6, "c": 3}
    feeds.drip([("9.txt", "c d\n")], folder)
    assert once() == {"a": 3, "b": 6, "c": 4, "d": 1}


def test_what_cannot_be_started_says_so(spark, words):
    unfit = "sink memory supports output mode append and complete, not update; use"
    assert refusal(start, words, sinks.memory("t"), mode="update").startswith(unfit)
    assert "names its query t, because" in refusal(
        start, words, sinks.memory("t"), name="other"
    )
    assert "a query needs a name" in refusal(
        start, words, sinks.console(), mode="complete"
    )
    said = refusal(start, spark.range(1), sinks.console(), name="static")
    assert "does not stream; read it with spark.readStream" in said
    # Spark has begun it
    assert "my table" in refusal(start, endless(spark), sinks.memory("my table"))
    query = start(endless(spark), sinks.console(), name="it's on")
    said = refusal(start, endless(spark), sinks.console(), name="it's on")
    said, _, code = said.partition("; end it first: ")
    assert said == "a query named it's on already runs"
    assert [each.name for each in spark.streams.active] == ["it's on"]
    eval(code, {"spark": spark})  # noqa: S307 - as a user does who copies it
    assert not query.isActive


def test_run_refuses_what_cannot_end(spark):
    assert "at least one query" in refusal(run)
    for wrong in ("run_for", "idle", "grace"):
        for value in (-1, math.nan):
            query = start(endless(spark), sinks.memory("refused"))
            said = refusal(run, query, **{wrong: value})
            assert re.search(
                rf"{wrong} must be a .*number of seconds.*, not {value}", said
            )
            assert not query.isActive


@pytest.mark.parametrize("endless_time", [math.inf, 1e10])
def test_a_time_may_be_without_end(words, endless_time):
    query = start(words, sinks.memory("for_ever"), mode="complete", availableNow=True)
    limits = dict.fromkeys(("run_for", "idle", "grace"), endless_time)
    assert run(query, **limits).ended_by == "end of input"


def test_no_query_runs_on_whatever_run_fails_of(spark, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no terminal")

    query = start(endless(spark), sinks.memory("shown"))
    monkeypatch.setattr(terminal, "shown", broken)
    with pytest.raises(RuntimeError, match="no terminal"):
        run(query, ui=0, show="terminal")
    assert not query.isActive
    assert not [
        thread for thread in threading.enumerate() if thread.name == "sparkstream-page"
    ]
    planned = start(endless(spark), sinks.memory("planned"), dry_run=True)
    query = start(endless(spark), sinks.memory("runs"))
    with pytest.raises(DryRun):
        run(query, planned)
    assert not query.isActive


def test_what_a_file_source_hides_is_logged_and_in_the_summary(
    line, folder, tmp_path, caplog
):
    def change(_):
        (folder / "0.txt").write_text("a\nb\n")

    query = start(
        line, sinks.memory("hidden"), checkpoint=tmp_path / "ckpt", availableNow=True
    )
    summary = run(query, on_batch=change)
    expected = (
        f"query hidden: {folder}/0.txt: changed after it was read, and not read again"
    )
    assert summary.warnings[0].startswith(expected)
    assert f"warning: {expected}" in str(summary)
    assert any(message.startswith(expected) for message in caplog.messages)


def test_a_batch_from_before_the_run_is_counted(line, folder, until):
    query = start(line, sinks.memory("before"))
    until(lambda: query.recentProgress)
    until(lambda: not query.status["isTriggerActive"])

    def land(batch):
        if batch.batchId == 0:
            feeds.drip([("1.txt", "b\n")], folder)

    summary = run(query, max_batches=2, run_for=60, on_batch=land)
    assert (summary.queries[0].batches, summary.queries[0].input_rows) == (2, 2)


def test_a_socket_that_was_read_before_the_run_is_the_end_of_input(spark, until):
    with feeds.LineServer(lambda: iter(["a", "b"]), port=0) as server:
        query = start(
            sources.socket_lines(spark, server.host, server.port),
            sinks.memory("read_before"),
        )
        until(
            lambda: sum(progress.numInputRows for progress in query.recentProgress) == 2
        )
        server.wait_served(1)
    until(lambda: not logical_plan.is_being_read(spark, [(server.host, server.port)]))
    assert run(query, run_for=60).ended_by == "end of input"


@pytest.mark.slow
def test_queries_that_are_only_started_leave_nothing_behind(words, tmp_path, until):
    frames = []
    for number in range(3):
        frame = words.select("*")
        frames.append(weakref.ref(frame))
        checkpoint, sink = tmp_path / str(number), sinks.latest("latest")
        query = start(
            frame,
            sink,
            name="words",
            mode="complete",
            checkpoint=checkpoint,
            availableNow=True,
        )
        query.awaitTermination()
    assert spark_queries.start_facts(query).mode == "complete", (
        "it is known as long as somebody has the query"
    )
    del query, frame
    start(
        words, sink, name="words", mode="complete", availableNow=True
    ).awaitTermination()

    def are_gone():  # the thread that unlocks a checkpoint may not have ended yet
        gc.collect()
        return not any(reference() for reference in frames)

    until(are_gone)


@pytest.mark.skipif("SPARK_REMOTE" not in os.environ, reason="of Spark Connect alone")
def test_events_that_come_while_a_run_ends_do_not_hold_it(spark):
    rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    query = rows.writeStream.format("noop").start()
    try:
        for _ in range(20):
            listener = spark_queries.ProgressTo(
                Inbox(run_for=None, stop_file=None), set()
            )
            spark_queries.listen(spark.streams, listener)
            end = partial(spark_queries.stop_listening, spark.streams, listener)
            ending = threading.Thread(target=end, daemon=True)
            ending.start()
            ending.join(30)
            assert not ending.is_alive()
    finally:
        query.stop()


def test_late_rows_of_an_aggregation_are_counted_and_not_its_groups(spark, folder):
    """Spark drops them after it has counted each task's: here 1,000 of one minute are one group."""
    rows = ["2026-01-01 00:10\n", "2026-01-01 00:11\n", "2026-01-01 00:05\n" * 1000]
    for number, text in enumerate(rows):
        feeds.drip([(f"{number}.csv", text)], folder)
        os.utime(folder / f"{number}.csv", (number, number))
    times = sources.csv(
        spark, str(folder), schema="at TIMESTAMP", max_files_per_trigger=1
    )
    counts = (
        times.withWatermark("at", "0 seconds")
        .groupBy(F.window("at", "1 minute"))
        .count()
    )
    summary = run(start(counts, sinks.memory("late"), availableNow=True))
    assert "1,002 rows in, " in str(summary)
    assert ", 1,000 late rows dropped, " in str(summary)
