"""Sinks that write batch by batch, each by itself: on frames that are no streams."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from pyspark.sql import types as T
from support.checkpoint_files import place, plan

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.batch import rows_set_aside
from sparkstream_kit._internal.spark.place import LocalPlace
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks import batches, readback
from sparkstream_kit.sinks.base import BatchSink, Opening, Target, open_batch_sink

NO_FRAME: Any = None  # of a call that does not look at it


def sink_of(kind="mine", targets=(), modes=sinks.base.MODES, **more):
    """Return a sink that writes nowhere."""
    how = {"promise": "at least once", "open": lambda *_: print, **more}
    return BatchSink(kind=kind, modes=modes, writes_to=tuple(targets), **how)


@pytest.fixture
def rows(spark):
    """Three rows, of which Spark computes none yet."""
    return spark.range(3).toDF("n").coalesce(1)


@pytest.mark.parametrize(
    ("call", "given", "said"),
    [
        (
            sinks.foreach_batch,
            [5],
            "sinks.foreach_batch(): write is 5; give a function",
        ),
        (sinks.snapshot, [5], "sinks.snapshot(): path is 5; give a path"),
        (sinks.fan_out, [5], "sinks.fan_out(): sinks is 5; give a sink"),
        (sinks.fan_out, [], "fan_out() needs at least one sink"),
        (sinks.by_watermark, [5], "sinks.by_watermark(): time is 5; give a string"),
    ],
    ids=["foreach_batch", "snapshot", "fan_out", "fan_out of none", "by_watermark"],
)
def test_an_argument_of_another_type_is_refused(call, given, said):
    more = {}
    if call is sinks.by_watermark:
        more = {"on_time": sink_of(), "late": sink_of()}
    assert said in refusal(call, *given, **more)


# ---- foreach_batch


def test_a_function_of_a_user_is_called_as_it_is():
    sink = sinks.foreach_batch(print)
    assert open_batch_sink(sink, NO_FRAME, None) is print
    assert (sink.kind, sink.promise) == ("foreach_batch", "at least once")
    assert sink.modes == ("append", "complete", "update")


async def later(_batch, _number):
    pass


async def later_some(_batch, _number):
    yield


def some(_batch, _number):
    yield


@pytest.mark.parametrize("write", [later, later_some, some])
def test_a_function_of_which_a_call_runs_nothing_is_refused(write):
    assert (
        refusal(sinks.foreach_batch, write)
        == "sinks.foreach_batch(): write must be a function without async and yield"
    )


# ---- snapshot


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "s3a://bucket/r.csv",
            "is not on this machine; give a local path, or use sinks",
        ),
        ("{folder}/r.txt", "the name must end in .csv or .json"),
        ("{folder}/csv", "the name must end in .csv or .json"),
        ("{folder}/made.json", "is a folder, as Spark writes one; give another name"),
        ("{folder}/no/r.csv", "folder {folder}/no does not exist; create it"),
    ],
)
def test_a_snapshot_that_cannot_be_a_file_is_refused(tmp_path, name, said):
    (tmp_path / "made.json").mkdir()
    path = name.format(folder=tmp_path)
    line = refusal(sinks.snapshot, path)
    assert line.startswith(f"snapshot {path}")
    assert said.format(folder=tmp_path) in line


@pytest.mark.parametrize(("ending", "texts"), [("csv", "text"), ("json", "json")])
def test_a_snapshot_is_one_file_also_by_a_link_to_it(tmp_path, ending, texts):
    (tmp_path / f"link.{ending}").symlink_to(tmp_path / f"r.{ending}")
    sink = sinks.snapshot(tmp_path / f"link.{ending}")
    path = f"{tmp_path}/r.{ending}"
    assert sink.writes_to == (Target("file", path, path),)
    assert (sink.modes, sink.needs_checkpoint) == (("complete",), False)
    assert sink.form is not None
    assert sink.form.texts == texts


@pytest.mark.parametrize(
    ("ending", "text"),
    [("csv", "n\n0\n1\n2\n"), ("json", '[\n  {"n":0},\n  {"n":1},\n  {"n":2}\n]\n')],
    ids=["csv", "json"],
)
def test_a_snapshot_has_the_rows_of_its_last_batch(rows, tmp_path, ending, text):
    file = tmp_path / f"r.{ending}"
    file.write_text("before")
    open_batch_sink(sinks.snapshot(file), rows, None)(rows, 7)
    assert file.read_text() == text


def test_a_snapshot_is_read_back_as_texts_and_compared_with_rows_in_its_form(
    rows, tmp_path
):
    file = tmp_path / "r.csv"
    file.write_text("n\n7\n")
    sink = sinks.snapshot(file)
    assert sink.read is not None
    assert sink.form is not None
    place = LocalPlace(str(tmp_path), tmp_path)
    read = sink.read(rows.sparkSession, rows.schema, place)
    written = sink.form.written(rows.where("n = 1"), f"file://{tmp_path}/compared")
    assert [read.collect(), written.collect()] == [[("7",)], [("1",)]]
    assert file.read_text() == "n\n7\n"


def test_a_snapshot_of_json_is_read_back_as_json(tmp_path, monkeypatch):
    (tmp_path / "r.json").write_text('[{"n":"é"}]')
    read: Any = sinks.snapshot(tmp_path / "r.json").read
    monkeypatch.setattr(readback, "of_json", lambda *given: given)
    columns = T.StructType([T.StructField("n", T.StringType())])
    assert read("the session", columns, None) == ("the session", '[{"n":"é"}]', ["n"])


def test_a_snapshot_checks_its_rows_when_it_opens(tmp_path, monkeypatch):
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(batches, "_check_rows", lambda *given: asked.append(given))
    open_batch_sink(sinks.snapshot(tmp_path / "r.csv"), NO_FRAME, None)
    assert asked == [(f"snapshot {tmp_path}/r.csv", "csv", NO_FRAME)]


def test_rows_that_a_file_cannot_hold_are_refused(spark, rows):
    twice = rows.select("n", "n")
    assert (
        refusal(batches._check_rows, "snapshot r.csv", "csv", twice)  # noqa: SLF001
        == "snapshot r.csv: column n appears twice; rename or drop one"
    )
    nested = rows.select(F.array("n").alias("ns"))
    assert "snapshot r.csv: column ns is array<bigint>, and a file of csv" in refusal(
        batches._check_rows,  # noqa: SLF001
        "snapshot r.csv",
        "csv",
        nested,
    )
    batches._check_rows("snapshot r.json", "json", nested)  # noqa: SLF001


def test_json_is_refused_where_the_session_writes_times_in_the_way_of_spark_2(
    spark, rows
):
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        said = refusal(batches._check_rows, "snapshot r.json", "json", rows)  # noqa: SLF001
        batches._check_rows("snapshot r.csv", "csv", rows)  # noqa: SLF001
    assert said.startswith("snapshot r.json: the session's spark.sql.legacy.timeParser")


def test_a_file_that_would_be_on_a_server_is_refused(rows, monkeypatch):
    refused: list[tuple[str, str]] = []
    monkeypatch.setattr(
        batches, "refuse_elsewhere", lambda _spark, *said: refused.append(said)
    )
    batches._check_rows("snapshot r.csv", "csv", rows)  # noqa: SLF001
    assert refused == [("snapshot r.csv", "sinks.latest")]


def test_a_text_that_is_not_utf_8_fails_a_snapshot(spark, tmp_path):
    broken = spark.sql("SELECT CAST(X'ff' AS STRING) AS s")
    write = open_batch_sink(sinks.snapshot(tmp_path / "r.csv"), broken, None)
    with pytest.raises(Exception, match="r.csv: column s .*UTF-8"):
        write(broken, 0)
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.parametrize(
    ("query", "as_csv", "as_json"),
    [
        ("SELECT 1 AS a, '' AS b WHERE false", "a,b\n", "[]\n"),
        (
            "SELECT 1.50 AS a, '' AS b, NULL AS c",
            'a,b,c\n1.50,"",\n',
            '[\n  {"a":1.50,"b":"","c":null}\n]\n',
        ),
        (
            "SELECT * FROM VALUES ('x,\"y\"'), ('z\u2028\u0085') AS t(a)",
            'a\n"x,""y"""\nz\u2028\u0085\n',
            '[\n  {"a":"x,\\"y\\""},\n  {"a":"z\\u2028\\u0085"}\n]\n',
        ),
    ],
    ids=["no rows", "an empty text and NULL", "characters that need care"],
)
def test_rows_as_csv_and_as_json(spark, query, as_csv, as_json):
    frame = spark.sql(query)
    assert batches.as_csv(frame) == as_csv
    assert batches.as_json(frame) == as_json


# ---- fan_out


def test_each_sink_gets_each_batch_in_the_order_given_while_it_is_cached(rows):
    seen = []

    def noting(name):
        def write(batch, number):
            seen.append((name, batch is rows, number, batch.is_cached))

        return sinks.foreach_batch(write)

    both = sinks.fan_out(noting("first"), noting("second"))
    open_batch_sink(both, rows, None)(rows, 7)
    assert seen == [("first", True, 7, True), ("second", True, 7, True)]
    assert not rows.is_cached


def test_all_sinks_of_a_fan_out_open_with_what_it_opens_with():
    opened = []

    def open_one(*given):
        opened.append(given)
        return print

    opening = Opening()
    both = sinks.fan_out(sink_of(open=open_one), sink_of(open=open_one))
    place: Any = "the checkpoint"
    both.open(NO_FRAME, place, opening)  # type: ignore[attr-defined]
    assert opened == [(NO_FRAME, "the checkpoint", opening)] * 2


def test_a_fan_out_has_what_its_sinks_have():
    one = sink_of("one", [Target("table", "a"), Target("table", "b")])
    two = sink_of(
        "two",
        [Target("file", "c")],
        ("update", "append"),
        promise="exactly once",
        needs_checkpoint=True,
    )
    both = sinks.fan_out(one, two, one_without_target := sink_of("one"))
    assert both.kind == "fan_out(one, two, one)"
    assert both.modes == ("append", "update")
    assert both.promise == "one: at least once; two: exactly once"
    assert both.needs_checkpoint
    assert [str(target) for target in both.writes_to] == [
        "table a",
        "table b",
        "file c",
    ]
    assert both.parts == (one, two, one_without_target)
    assert not sinks.fan_out(one, one_without_target).needs_checkpoint


def test_a_sink_of_spark_gets_no_part_of_a_fan_out():
    said = refusal(sinks.fan_out, sink_of(), sinks.console())
    assert said.startswith("fan_out() takes sinks that work batch by batch (such as")


def test_sinks_without_a_common_mode_are_refused():
    one, two = sink_of("one", modes=("append", "update")), sink_of(modes=("complete",))
    assert (
        refusal(sinks.fan_out, one, two)
        == "fan_out(): no output mode fits all sinks: one supports append, update; mine"
        " supports complete; start two queries"
    )


def test_two_sinks_with_one_target_are_refused():
    one = sink_of(targets=[Target("table", "a"), Target("table", "T", known_as="t")])
    two = sink_of(targets=[Target("table", "t")])
    other = sink_of(targets=[Target("view", "t")])
    sinks.fan_out(one, other)
    assert (
        refusal(sinks.fan_out, one, two)
        == "fan_out(): two sinks write to table T; union their rows in the query"
    )


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (Target("table", "T"), ("table", "T")),
        (Target("table", "T", known_as="t"), ("table", "t")),
        (Target("table", "T in t.db", path="/t.db"), ("table", "T in t.db")),
        (Target("folder", "s3a://b/o", "s3a://b/o"), ("folder", "s3a://b/o")),
        (Target("folder", "{link}/o", "{link}/o"), ("folder", "{folder}/o")),
        (
            Target("folder", "file://{link}/o", "file://{link}/o"),
            ("folder", "{folder}/o"),
        ),
    ],
    ids=["a name", "two spellings", "a file", "elsewhere", "a link", "with a scheme"],
)
def test_what_two_spellings_of_a_target_have_in_common(tmp_path, target, key):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    places = {"link": f"{tmp_path}/link", "folder": f"{tmp_path}/folder"}
    name, path = (each.format(**places) for each in (target.name, target.path))
    kind, common = key
    spelt = target._replace(name=name, path=path)
    assert batches.target_key(spelt) == (kind, common.format(**places))


# ---- A batch is computed once


def test_a_batch_is_cached_for_all_readers_and_let_go_at_the_end(rows):
    with batches.computed_once(rows):
        assert rows.is_cached
        assert rows.unpersist(blocking=True) is rows  # of one reader
        assert rows.is_cached
        with batches.computed_once(rows):
            pass
        assert rows.is_cached, "it is for the readers around it, too"
    assert not rows.is_cached
    rows.persist()
    rows.unpersist()
    assert not rows.is_cached


def test_a_batch_that_the_caller_caches_stays_cached(rows):
    rows.persist()
    with batches.computed_once(rows):
        pass
    assert rows.is_cached
    rows.unpersist()


def test_a_batch_is_let_go_after_an_error(rows):
    with pytest.raises(ValueError, match="no such shop"), batches.computed_once(rows):
        raise ValueError("no such shop")
    assert not rows.is_cached


# ---- by_watermark


@pytest.fixture
def times(spark):
    """A stream of times with a watermark, which is not started."""
    rate = spark.readStream.format("rate").load()
    return rate.select(F.col("timestamp").alias("time"), "value").withWatermark(
        "time", "10 seconds"
    )


def test_rows_go_by_the_watermark_that_the_checkpoint_has(spark, tmp_path):
    plan(tmp_path, 6, 1, watermark=9_000)
    plan(tmp_path, 7, 2, watermark=5_000)
    rows = spark.sql(
        "SELECT n, timestamp_millis(n) AS `a time.` FROM VALUES (4999L), (5000L),"
        " (5001L), (NULL) AS t(n)"
    ).coalesce(1)
    seen = {}

    def note(name):
        def write(batch, number):
            found = sorted(batch.collect(), key=lambda row: row.n or 0)
            cached = rows.is_cached
            seen[name] = (number, batch.columns, cached, [tuple(row) for row in found])

        return write

    def at(millis):
        return datetime.fromtimestamp(millis / 1_000, UTC).replace(tzinfo=None)

    query = str(uuid4())
    spark.sparkContext.setLocalProperty("sql.streaming.queryId", query)
    try:
        batches._write_by_watermark(  # noqa: SLF001
            "a time.", place(tmp_path), note("on time"), note("late"), rows, 7
        )
    finally:
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
    assert seen == {
        "on time": (7, ["n", "a time."], True, [(None, None), (5001, at(5001))]),
        "late": (
            7,
            ["n", "a time.", "watermark"],
            True,
            [(n, at(n), at(5000)) for n in (4999, 5000)],
        ),
    }
    assert rows_set_aside(query, 7) == 2


def test_a_batch_whose_watermark_is_not_known_is_refused(tmp_path):
    plan(tmp_path, 6, 1)
    assert refusal(
        batches._write_by_watermark,  # noqa: SLF001
        "time",
        place(tmp_path),
        print,
        print,
        NO_FRAME,
        7,
    ) == (
        f"by_watermark(): checkpoint {tmp_path} has no offsets/7, which says the"
        " watermark; restore it, and start again"
    )


def test_the_sink_of_late_rows_opens_with_the_watermark_as_a_column(times, tmp_path):
    opened = {}

    def opening(name):
        def open_it(frame, location, shared):
            opened[name] = (frame.dtypes, location, shared)
            return print

        return sink_of(name, open=open_it)

    sink = sinks.by_watermark("time", on_time=opening("rows"), late=opening("late"))
    place, shared = LocalPlace(str(tmp_path), tmp_path), Opening()
    write: Any = open_batch_sink(sink, times, place, shared)
    columns = [("time", "timestamp"), ("value", "bigint")]
    assert opened == {
        "rows": (columns, place, shared),
        "late": ([*columns, ("watermark", "timestamp")], place, shared),
    }
    assert write.args == ("time", place, print, print)
    assert (sink.modes, sink.kind) == (("append",), "by_watermark(rows, late)")
    assert sink.advice == "in other modes result rows are not input rows"


def test_without_a_checkpoint_no_watermark_is_known(times):
    sink = sinks.by_watermark("time", on_time=sink_of(), late=sink_of())
    assert (
        refusal(open_batch_sink, sink, times, None)
        == "by_watermark() reads the watermark of each batch in the checkpoint; give"
        " start(…, checkpoint='folder')"
    )


def test_a_query_that_cannot_be_split_is_refused(times, tmp_path):
    place = LocalPlace(str(tmp_path), tmp_path)

    def said(frame, time="time"):
        sink = sinks.by_watermark(time, on_time=sink_of(), late=sink_of())
        return refusal(open_batch_sink, sink, frame, place)

    assert "by_watermark(): event-time column value is bigint, not" in said(
        times, "value"
    )
    assert re.search(
        r"column Watermark exists already; .* because by_watermark\(\) adds watermark",
        said(times.withColumnRenamed("value", "Watermark")),
    )


@pytest.mark.parametrize("first", [True, False])
def test_both_sinks_must_append(first):
    whole = sink_of("whole", modes=("complete", "update"))
    how = {"on_time": whole, "late": sink_of()}
    if not first:
        how = {"on_time": sink_of(), "late": whole}
    assert (
        refusal(sinks.by_watermark, "time", **how)
        == "by_watermark() works in append mode, which whole does not support; give"
        " another sink"
    )
