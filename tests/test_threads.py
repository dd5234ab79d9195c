"""Any thread, any session, any number of queries: each gives what the main thread gives."""

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, refusal
from pyspark import InheritableThread, SparkContext
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import (
    joins,
    quarantine,
    run,
    schemas,
    session,
    sinks,
    sources,
    start,
    state,
    windows,
)
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark.logical_plan import analyzed_plan
from sparkstream_kit._internal.spark.session import in_force, java
from sparkstream_kit.checkpoints.fingerprint import fingerprint
from sparkstream_kit.errors import InvalidInputError, KitError
from sparkstream_kit.feeds.files import LineServer
from sparkstream_kit.monitoring import page, pictures
from sparkstream_kit.monitoring.board import Board

CLASSIC = pytest.mark.classic_only("the server of Spark Connect has threads of its own")
# Settings by which Spark reads a text as another type, or a name as another column
ODD = {
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.session.timeZone": "Europe/Berlin",
    "spark.sql.caseSensitive": "true",
    "spark.sql.ansi.enabled": "false",
}


# --- the ways to run something in another thread


def in_class(kind: Any):
    def way(function):
        given = []
        thread = kind(target=lambda: given.append(outcome(function)))
        thread.start()
        thread.join()
        return given[0]

    return way


def in_pool(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(outcome, function).result()


WAYS: dict[str, Any] = {
    "Thread": in_class(threading.Thread),
    "InheritableThread": in_class(InheritableThread),
    "ThreadPoolExecutor": in_pool,
    "asyncio.to_thread": lambda function: asyncio.run(
        asyncio.to_thread(outcome, function)
    ),
}
in_thread = WAYS["Thread"]


def outcome(function):
    """Return what a function returns, or the error that it raises as text."""
    try:
        return function()
    except InvalidInputError as err:
        return f"refused: {err}"


def all_at_once(*functions):
    """Run functions in threads that begin together; return what they give, in order."""
    ready = threading.Barrier(len(functions))

    def begin(function):
        ready.wait()
        return outcome(function)

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(begin, functions))


# --- each helper


@pytest.fixture
def odd(spark):
    """A second session of the process, with settings of its own."""
    if "SPARK_REMOTE" in os.environ:
        pytest.skip("classic only: the client of Spark Connect has no newSession()")
    other = spark.newSession()
    for key, value in ODD.items():
        other.conf.set(key, value)
    return other


@pytest.fixture
def landed(folder):
    (folder / "1.json").write_text('{"t": "2026-01-01T00:00:00", "k": "a", "n": 1}\n')
    return str(folder)


def readings(spark, folder):
    frame = sources.json(
        spark,
        folder,
        schema=schemas.schema_of(t=T.TimestampType(), k="string", n="bigint"),
    )
    return windows.with_watermark(frame, "t", "10 minutes")


HELPERS: dict[str, Any] = {
    "sources.csv": lambda spark, at: sources.csv(
        spark, at, schema="t TIMESTAMP, n INT"
    ),
    "sources.json": lambda spark, at: sources.json(
        spark, at, schema="t TIMESTAMP, k STRING"
    ),
    "sources.parquet": lambda spark, at: sources.parquet(
        spark, at, schema="t TIMESTAMP, n TINYINT"
    ),
    "sources.orc": lambda spark, at: sources.orc(
        spark, at, schema="t ARRAY<TIMESTAMP>"
    ),
    "partitions": lambda spark, at: sources.text(spark, at, partitions="day TIMESTAMP"),
    "parse_csv": lambda spark, at: quarantine.parse_csv(
        sources.text(spark, at), "t TIMESTAMP, n INT"
    ),
    "parse_json": lambda spark, at: quarantine.parse_json(
        sources.text(spark, at), "t TIMESTAMP, n INT"
    ),
    "expect": lambda spark, at: quarantine.expect(
        readings(spark, at),
        {"t > TIMESTAMP '2026-01-01'": "warn", "cast(k AS INT) > 0": "quarantine"},
    ),
    "infer": schemas.infer,
    "tumbling": lambda spark, at: (
        readings(spark, at)
        .groupBy(windows.tumbling("t", "1 hour"))
        .agg(F.sum("n").alias("n"))
    ),
    "calendar": lambda spark, at: windows.calendar(
        readings(spark, at), "t", "month", zone="Europe/Berlin"
    ),
    "within": lambda spark, at: joins.within(
        readings(spark, at),
        readings(spark, at).select(F.col("t").alias("u"), "k"),
        on="k",
        left_time="t",
        right_time="u",
        within="1 hour",
    ),
    "as_of": lambda spark, at: state.as_of(
        readings(spark, at).select("t", "k"),
        readings(spark, at).select("t", "k", "n"),
        "k",
        "t",
    ),
    "once": lambda spark, at: state.once(readings(spark, at), "k", "t", "1 hour"),
    "fingerprint": lambda spark, at: fingerprint(
        readings(spark, at).groupBy("k").count(), "update"
    ),
    "dry run": lambda spark, at: str(
        start(
            readings(spark, at),
            sinks.batch_files("out"),
            name="q",
            checkpoint="ckpt",
            dry_run=True,
        )
    ),
}


def shown(given):
    """Return what a helper gave as text, without numbers that Spark and the kit give."""
    if isinstance(given, (str, T.StructType)):
        return str(given)
    text = re.sub("[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+", "", analyzed_plan(given))
    return f"{given.schema.jsonValue()}\n{text}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.fast("Thread")
def test_each_helper_gives_in_a_thread_what_it_gives_in_the_main_thread(
    odd, landed, way
):
    # Of a session that is not the first one: what asks the first one gives something else
    for name, helper in HELPERS.items():
        here = outcome(lambda helper=helper: shown(helper(odd, landed)))
        there = WAYS[way](lambda helper=helper: shown(helper(odd, landed)))
        assert there == here, name


@pytest.mark.fast("ThreadPoolExecutor")
@pytest.mark.parametrize("way", WAYS)
@CLASSIC
def test_a_type_in_a_text_is_that_of_the_session_that_is_given(spark, odd, landed, way):
    def given(of):
        frame = sources.json(of, landed, schema="t TIMESTAMP")
        parsed = outcome(
            lambda: quarantine.parse_json(
                sources.text(of, landed), "t TIMESTAMP"
            ).schema["t"]
        )
        return frame.schema["t"].dataType, getattr(parsed, "dataType", parsed)

    none = (
        "refused: column t: JSON cannot hold timestamp_ntz; read it as a string or as"
        " VARIANT"
    )
    for run_in in (outcome, WAYS[way]):
        assert run_in(lambda: given(spark)) == (T.TimestampType(), T.TimestampType())
        assert run_in(lambda: given(odd)) == (T.TimestampNTZType(), none)


@CLASSIC
def test_without_a_session_a_text_has_the_types_of_the_first_one(spark):
    with in_force(spark, ODD):
        assert in_thread(lambda: schemas.from_ddl("t TIMESTAMP")) == schemas.from_ddl(
            "t TIMESTAMP_NTZ"
        )


@CLASSIC
def test_a_helper_leaves_the_active_session_of_a_thread_as_it_was(spark, odd, landed):
    active: Any = java(spark).org.apache.spark.sql.classic.SparkSession.getActiveSession

    def seen():
        shown(HELPERS["tumbling"](odd, landed))
        sources.json(odd, landed, schema="t TIMESTAMP")
        return active().isDefined()

    before = active().get()
    assert seen()
    assert active().get().equals(before)
    assert in_thread(seen) is False


@CLASSIC
def test_get_session_gives_a_thread_the_types_of_its_session(spark):
    def kind():
        session.get_session("pytest")
        return (
            spark.range(1)
            .select(F.lit("2026-01-01").cast("timestamp").alias("t"))
            .schema["t"]
            .dataType
        )

    with in_force(spark, ODD):
        assert in_thread(kind) == kind() == T.TimestampNTZType()


# --- what a checkpoint knows of its query


def wide(spark, folder, *, times=1, sums=30):
    """Thirty sums, of which Spark prints 25 by default."""
    columns = [F.col(f"c{number}") for number in range(sums)]
    columns[-1] = columns[-1] * times
    schema = ", ".join(f"c{number} INT" for number in range(sums))
    frame = sources.json(spark, str(folder), schema=schema)
    return frame.groupBy("c0").agg(
        *(F.max(each).alias(f"m{at}") for at, each in enumerate(columns))
    )


@pytest.mark.fast("asyncio.to_thread", "Thread")
@pytest.mark.parametrize("way", WAYS)
def test_a_plan_is_printed_whole_in_any_thread(spark, odd, folder, way):
    whole = fingerprint(wide(spark, folder), "complete")
    assert "c29" in whole
    assert "more fields" not in whole
    assert WAYS[way](lambda: fingerprint(wide(spark, folder), "complete")) == whole
    odd.conf.set("spark.sql.debug.maxToStringFields", "3")
    odd.conf.set("spark.sql.maxPlanStringLength", "100")
    assert "c29" in fingerprint(wide(odd, folder), "complete")
    assert "c29" in WAYS[way](lambda: fingerprint(wide(odd, folder), "complete"))


@pytest.mark.slow
def test_a_changed_query_is_refused_in_any_thread(spark, folder, tmp_path):
    (folder / "1.json").write_text(
        json.dumps({f"c{number}": 1 for number in range(30)})
    )

    def job(times=1):
        sink = sinks.snapshot(tmp_path / "out.json")
        given = {"name": "wide", "mode": "complete", "checkpoint": tmp_path / "ckpt"}
        query = start(
            wide(spark, folder, times=times), sink, **given, availableNow=True
        )
        return run(query).queries[0].batches

    assert in_thread(job) == 1
    assert job() == 0
    for run_in in (*WAYS.values(), outcome):
        said = run_in(lambda: job(1000))
        assert (
            "was written by a different query: wide computes max((c29 * 1000))"
            in str(said)
        )
        assert run_in(job) == 0


@CLASSIC
def test_a_plan_that_spark_would_cut_is_never_taken_for_a_plan(
    spark, folder, monkeypatch
):
    # As where a thread of Python has none of its own in the JVM.
    monkeypatch.setattr(logical_plan, "active", lambda _: nullcontext())
    frame = wide(spark, folder)
    with pytest.raises(KitError, match="only a part of the query's plan"):
        in_pool(lambda: analyzed_plan(frame))


# --- settings for a moment


KEY = "spark.kit.moment"


def test_settings_of_overlapping_blocks_are_put_back(spark):
    inside, left = threading.Barrier(3), threading.Event()

    def block(waits):
        with in_force(spark, {KEY: "ours"}):
            inside.wait()
            if waits:
                left.wait()
        return spark.conf.get(KEY, None)

    spark.conf.set(KEY, "mine")
    try:
        with ThreadPoolExecutor(2) as pool:
            first, second = (
                pool.submit(block, waits=False),
                pool.submit(block, waits=True),
            )
            inside.wait()
            assert first.result() == "ours"  # the other block still needs it
            left.set()
            assert second.result() == "mine"
    finally:
        spark.conf.unset(KEY)


def test_a_setting_that_other_code_has_changed_meanwhile_stays(spark):
    try:
        with in_force(spark, {KEY: "ours"}):
            spark.conf.set(KEY, "theirs")
        assert spark.conf.get(KEY) == "theirs"
    finally:
        spark.conf.unset(KEY)


@pytest.mark.parametrize("how", ["another value", "a start", "beside a start"])
def test_a_block_waits_for_one_that_it_must_not_overlap(spark, odd, how):
    order, begun = [], threading.Event()
    wanted = {"another value": {KEY: "b"}}.get(how, {})

    def second():
        begun.set()
        with in_force(spark, wanted, alone=how == "a start"):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with in_force(spark, {KEY: "a"}, alone=how == "beside a start"):
            waits = pool.submit(second)
            begun.wait()
            # One of this thread, and one of another session.
            with in_force(spark, {KEY: "c"}), in_force(odd, {KEY: "d"}, alone=True):
                assert spark.conf.get(KEY) == "c"
            assert spark.conf.get(KEY) == "a"
            order.append("first")
        waits.result()
    assert order == ["first", "second"]
    assert spark.conf.get(KEY, None) is None


@pytest.mark.slow
@CLASSIC
def test_starts_and_plans_in_threads_leave_no_setting(spark, landed):
    keys = ["spark.sql.debug.maxToStringFields", "spark.sql.maxPlanStringLength"]
    keys += ["spark.sql.sources.partitionColumnTypeInference.enabled"]
    keys += ["spark.sql.streaming.noDataProgressEventInterval"]
    before = [spark.conf.get(key, None) for key in keys]
    frames = [readings(spark, landed) for _ in range(4)]
    all_at_once(
        *(lambda frame=frame: analyzed_plan(frame) for frame in frames),
        *[lambda: schemas.infer(spark, landed)] * 2,
    )
    assert [spark.conf.get(key, None) for key in keys] == before


# --- an interrupt that comes while a thread starts


def a_picture():
    with pictures.drawing(lambda over: over.wait()):
        pass


def a_page():
    with page.served(Board(), [], port=0, stop=print):
        pass


def a_line_server():
    LineServer(["to be"])


@pytest.mark.parametrize("what", [a_picture, a_page, a_line_server])
def test_ctrl_c_while_a_thread_starts_leaves_no_thread(interrupted_starts, until, what):
    with pytest.raises(KeyboardInterrupt):
        what()
    [thread] = interrupted_starts
    until(lambda: not thread.is_alive())


# --- a stop is no end of input


def many(folder, spark, files=6):
    for number in range(files):
        (folder / f"{number}.json").write_text(
            f'{{"t": "2026-01-01T00:0{number}:00Z", "n": {number}}}\n'
        )
    return sources.json(
        spark, str(folder), schema="t TIMESTAMP, n INT", max_files_per_trigger=1
    )


@pytest.mark.slow
@pytest.mark.parametrize("who", ["on_batch", "a thread"])
def test_a_stop_by_other_code_is_no_end_of_input_and_drains_nothing(
    spark, folder, tmp_path, who
):
    timely = windows.with_watermark(many(folder, spark), "t", "1 second")
    counts = timely.groupBy(windows.tumbling("t", "1 minute")).count().select("count")
    given = {"name": "stopped", "checkpoint": tmp_path / "ckpt", "availableNow": True}
    target = sinks.batch_files(tmp_path / "out")
    query = start(counts, target, **given)
    stop = {"on_batch": query.stop, "a thread": lambda: in_thread(query.stop)}[who]
    stopped = run(query, on_batch=lambda _: stop(), drain=True)
    assert stopped.ended_by == "query.stop()"
    assert stopped.queries[0].files_waiting or "SPARK_REMOTE" in os.environ
    ended = run(start(counts, target, **given), drain=True)
    assert ended.ended_by == "end of input"
    assert spark.read.parquet(str(tmp_path / "out")).count() == 6


def test_a_stop_before_the_first_batch_is_no_end_of_input(spark, folder):
    query = start(many(folder, spark), sinks.memory("at_once"), availableNow=True)
    query.stop()
    summary = run(query)
    if summary.queries[0].batches < 6:
        assert summary.ended_by == "query.stop()"


@pytest.mark.slow
def test_of_two_queries_one_that_is_stopped_ends_no_input(spark, folder, tmp_path):
    frame = many(folder, spark)
    one, other = (
        start(frame, sinks.memory(name), availableNow=True) for name in ("one", "other")
    )
    summary = run(
        one, other, on_batch=lambda batch: one.stop() if batch.name == "one" else None
    )
    assert summary.queries[1].input_rows == 6
    assert (summary.ended_by, summary.queries[0].input_rows) in {
        ("query.stop()", n) for n in range(1, 6)
    }


@pytest.mark.parametrize("trigger", ["availableNow", "once"])
def test_no_input_at_all_is_an_end_of_input(spark, folder, trigger):
    how: dict[str, Any] = {trigger: True}
    query = start(sources.text(spark, str(folder)), sinks.memory("none"), **how)
    assert run(query).ended_by == "end of input"


@CLASSIC
def test_an_endless_query_of_plain_pyspark_that_is_stopped_is_no_end_of_input(spark):
    query = spark.readStream.format("rate").load().writeStream.format("noop").start()
    assert run(query, on_batch=lambda _: query.stop()).ended_by == "query.stop()"


# --- several sessions, several queries


@pytest.mark.slow
def test_a_run_hears_the_batches_of_each_session(spark, odd, folder):
    many(folder, spark)
    frames = [
        sources.json(of, str(folder), schema="n INT", max_files_per_trigger=1)
        for of in (spark, odd)
    ]
    queries = [
        start(frame, sinks.memory(f"of_{at}"), availableNow=True)
        for at, frame in enumerate(frames)
    ]
    heard: list[str | None] = []
    summary = run(*queries, on_batch=lambda batch: heard.append(batch.name))
    assert [each.batches for each in summary.queries] == [6, 6]
    assert [heard.count(name) for name in ("of_0", "of_1")] == [6, 6]


def test_of_queries_of_one_name_that_start_at_once_one_runs_and_the_others_are_refused(
    spark, tmp_path
):
    def begin(number):
        rows = sources.rate(spark)
        return lambda: start(
            rows, sinks.console(), name="same", checkpoint=tmp_path / str(number)
        )

    given = all_at_once(*map(begin, range(3)))
    refused = [each for each in given if isinstance(each, str)]
    (query,) = [each for each in given if not isinstance(each, str)]
    query.stop()
    assert len(refused) == 2
    assert all(
        "a query named same already runs; end it first" in each for each in refused
    )


@pytest.mark.slow
def test_one_query_is_compared_several_times_at_once(spark, folder, tmp_path):
    frame = many(folder, spark)

    def begin(**how: Any) -> Any:
        target = sinks.batch_files(tmp_path / "out")
        return start(frame, target, name="same", checkpoint=tmp_path / "ckpt", **how)

    run(begin(availableNow=True))
    for each in all_at_once(*[lambda: begin(dry_run="compare")] * 3):
        assert [table.counts for table in each.tables] == [(6, 0, 0, 0)]


STOPS_ITS_SESSION = """
import sys, threading
from sparkstream_kit import get_session, run, sinks, sources, spark_session, start
from sparkstream_kit.errors import QueryFailed

spark = get_session("first", profile="test")
other = spark.newSession() if sys.argv[1] == "of another session" else spark
begun = threading.Event()
waits = sys.argv[1] == "that waits for files"
rows = sources.text(other, sys.argv[2]) if waits else sources.rate(other)
query = start(rows, sinks.foreach_batch(lambda *_: begun.set()), name="q")

def stop():
    begun.wait()
    if waits:
        query.processAllAvailable()
    spark.stop()

threading.Thread(target=stop).start()
try:
    print(run(query).ended_by)
except QueryFailed as err:
    print(err)
with spark_session("second", profile="test") as spark:
    query = start(sources.rate(spark), sinks.memory("rows"))
    print(run(query, max_batches=1).ended_by)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "of", ["of its session", "of another session", "that waits for files"]
)
@CLASSIC
def test_a_session_that_is_stopped_while_its_query_runs_is_named(of, folder):
    (folder / "1.txt").write_text("a\n")
    command = [sys.executable, "-c", STOPS_ITS_SESSION, of, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said, after = done.stdout.splitlines()
    stopped = (
        "its session was stopped while it ran; end the query first, then call"
        " spark.stop()"
    )
    assert said in {"query.stop()", f"query q failed: {stopped}"}
    assert after == "max_batches are through"


TARGETS = {
    "latest": (
        lambda _: sinks.latest("shared"),
        lambda _: sinks.latest("SHARED"),
        "view shared",
    ),
    "memory": (
        lambda _: sinks.latest("shared"),
        lambda _: sinks.memory("Shared"),
        "memory Shared",
    ),
    "snapshot": (
        lambda at: sinks.snapshot(at / "s.csv"),
        lambda at: sinks.snapshot(at / "in" / ".." / "s.csv"),
        "file ",
    ),
    "files": (
        lambda at: sinks.batch_files(at / "out"),
        lambda at: sinks.files(at / "in" / ".." / "out"),
        "folder ",
    ),
    "fan_out": (
        lambda at: sinks.batch_files(at / "out"),
        lambda at: sinks.fan_out(
            sinks.foreach_batch(print), sinks.batch_files(at / "out")
        ),
        "folder ",
    ),
}


@pytest.fixture
def catalog_table(spark):
    """The name of a table of the catalog that the test makes."""
    name = f"t_{uuid.uuid4().hex}"
    yield name
    spark.sql(f"DROP TABLE IF EXISTS {name}")


@pytest.mark.fast("fan_out")
@pytest.mark.parametrize("kind", TARGETS)
def test_two_running_queries_do_not_share_a_view_a_file_or_a_folder(
    spark, odd, folder, tmp_path, kind
):
    first, second, target = TARGETS[kind]
    frame = sources.rate(spark)

    def begin(sink, name, of=frame):
        counts = of.groupBy("value").count() if "complete" in sink.modes else of
        mode = "complete" if "complete" in sink.modes else "append"
        where = {} if sink.query_name else {"name": name, "checkpoint": tmp_path / name}
        return start(counts, sink, mode=mode, **where)

    query = begin(first(tmp_path), "one")
    try:
        said = refusal(begin, second(tmp_path), "two")
        assert re.search(
            f"writes to {target}.*, as query one does, which runs; end that query"
            " first",
            said,
        )
        if target.startswith(("view", "memory")):  # each session has its own
            begin(second(tmp_path), "two", sources.rate(odd)).stop()
    finally:
        query.stop()
    begin(second(tmp_path), "three").stop()


@pytest.mark.slow
@CLASSIC
def test_two_running_queries_do_not_share_a_table_of_files_by_any_of_its_names(
    spark, tmp_path, catalog_table
):
    frame = sources.rate(spark)

    def begin(table, name):
        return start(frame, sinks.table(table), name=name, checkpoint=tmp_path / name)

    query = begin(catalog_table, "one")
    try:
        for spelling in (
            catalog_table,
            catalog_table.upper(),
            f"default.`{catalog_table}`",
        ):
            said = refusal(begin, spelling, "two")
            assert said.endswith(
                "is written by query one, which runs; end that query first, or give"
                " each query a target of its own"
            )
    finally:
        query.stop()


def test_the_trigger_continuous_is_refused(spark):
    said = refusal(
        start, sources.rate(spark), sinks.console(), name="q", continuous="1 second"
    )
    assert said.startswith("start() takes no trigger continuous: ")


# --- blocks of spark_session


@pytest.fixture
def sessions(monkeypatch):
    """Make sessions that are only names; return those that run, and those that were stopped."""
    running: list[str] = []
    stopped: list[str] = []

    def obtained(*_):
        if not running:
            running.append(f"session {len(stopped)}")
        return running[0]

    def stop(spark):
        running.remove(spark)
        stopped.append(spark)

    monkeypatch.setattr(session, "runs", lambda: bool(running))
    monkeypatch.setattr(session, "_session_with_connectors", obtained)
    monkeypatch.setattr(session, "identity", str)
    monkeypatch.setattr(session, "_stop", stop)
    monkeypatch.setattr(session, "_users", {})
    return running, stopped


def test_the_last_of_several_blocks_stops_the_session(sessions):
    running, stopped = sessions
    entered, leave = threading.Event(), threading.Event()

    def other():
        with session.spark_session("b") as spark:
            entered.set()
            leave.wait()
            return spark, list(stopped)

    with ThreadPoolExecutor(1) as pool:
        with session.spark_session("a") as spark:
            with session.spark_session("inside") as same:
                assert same == spark
            assert stopped == []
            later = pool.submit(other)
            entered.wait()
        assert stopped == []
        leave.set()
        assert later.result() == (spark, [])
    assert (running, stopped) == ([], [spark])


def test_a_block_leaves_the_session_to_a_thread_that_has_got_it(sessions):
    running, stopped = sessions
    got, leave = threading.Event(), threading.Event()

    def other():
        session.get_session("b")
        got.set()
        leave.wait()

    thread = threading.Thread(target=other)
    with session.spark_session("a"):
        session.get_session("a")  # of the block's own thread
        thread.start()
        got.wait()
    assert stopped == []
    leave.set()
    thread.join()
    with session.spark_session("c"):
        pass
    assert len(stopped) == 1
    with session.spark_session("d"):
        in_thread(lambda: session.get_session("e"))  # whose thread has ended
    assert len(stopped) == 2
    session.get_session("f")
    with session.spark_session("g"):
        pass
    assert running  # it ran before the block


def test_a_long_block_remembers_no_thread_that_has_ended(sessions):
    with session.spark_session("a") as spark:
        for _ in range(5):
            in_thread(lambda: session.get_session("b"))
        assert len(session._users[str(spark)].others) == 1  # noqa: SLF001 - the last one


# --- what stays, and what is let go


@pytest.fixture
def temporary(spark, tmp_path, monkeypatch):
    """The temporary folder of Python and of the JVM, which no other process uses."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    system = java(spark).java.lang.System
    former = system.setProperty("java.io.tmpdir", str(path))
    yield path
    system.setProperty("java.io.tmpdir", former)


def levels(spark, temporary):
    """Count what a start or a run could leave behind in Python, in the JVM and on the disk."""
    gc.collect()
    jvm = java(spark).java.lang
    jvm.System.gc()
    gateway: Any = SparkContext._gateway  # noqa: SLF001 - has the objects that the JVM calls back
    of_jvm = Path(f"/proc/{jvm.ProcessHandle.current().pid()}/fd")
    names = [
        type(each).__name__
        for each in list(gateway.gateway_property.pool.dict.values())
    ]
    return {
        "threads": threading.active_count(),
        "Java's threads": jvm.Thread.activeCount(),
        "listeners": len(spark._jsparkSession.streams().listListeners()),  # noqa: SLF001
        "hooks": names.count("_Hook"),
        "callbacks": len(names),
        "open files": len(list(Path("/proc/self/fd").iterdir())),
        "Java's open files": len(list(of_jvm.iterdir())),
        "temporary folders": len(list(temporary.iterdir())),
        "queries": len(spark.streams.active),
    }


@pytest.mark.slow
@pytest.mark.parametrize("starts", [8, 1000])
@CLASSIC
def test_a_service_keeps_nothing_of_a_query_that_has_ended(
    spark, folder, temporary, until, starts
):
    (folder / "1.json").write_text('{"n": 1}\n')
    frame = sources.json(spark, str(folder), schema="n INT")

    def count(rows, _):
        rows.count()

    def one(number):
        name = f"service_{number}"
        ends: dict[str, Any] = {"availableNow": True} if number % 2 else {}
        query = start(frame, sinks.foreach_batch(count), name=name, **ends)
        return run(query, max_batches=1).queries[0].input_rows

    def rounds(of, first):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(one, range(first, first + of))) == [1] * of

    rounds(4, 0)
    before = levels(spark, temporary)
    rounds(starts, 4)

    def is_level():
        now = levels(spark, temporary)
        return all(now[each] <= before[each] + 4 for each in before)

    try:
        until(is_level)
    except AssertionError:
        pytest.fail(f"before: {before}\nnow: {levels(spark, temporary)}")
