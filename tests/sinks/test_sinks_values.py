"""`sinks.by_value`: each value of a column to a target of its own, which its rows bring along."""

import json
import os
import re
import shutil
from functools import partial

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from support.sink_contract import remove
from support.sink_streams import finish, forget_commit, noting, refused, three_batches
from support.spark_jobs import counting_jobs
from support.sql import sql

from sparkstream_kit import feeds, sinks, sources, start
from sparkstream_kit._internal.spark.place import id_in_checkpoint, locate
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import open_batch_sink


@pytest.fixture
def stream(spark, folder):
    """Three batches: (a, 1), (b, 1); (a, 2), (c, 2); (b, 3), (c, 3)."""
    return three_batches(spark, folder)


def url_in(folder):
    return f"sqlite:///{folder}/t.db"


def tables(folder, **more):
    """Return a sink with a table of SQLite for each value of `k`."""
    url = url_in(folder)  # on Spark Connect a server's Python cannot import this module
    return sinks.by_value("k", lambda value: sinks.sql_table(url, f"t_{value}"), **more)


def in_db(folder, statement):
    return sql(url_in(folder), statement)


def rows_in(folder, *values):
    return {value: in_db(folder, f"SELECT k, n FROM t_{value}") for value in values}  # noqa: S608


def ledger(folder):
    return dict(in_db(folder, "SELECT table_name, batch_id FROM sparkstream_ledger"))


def drip(folder, name, text):
    """Land a file that is read after those that are there."""
    feeds.drip([(name, text)], folder)


EACH = {"a": [("a", 1), ("a", 2)], "b": [("b", 1), ("b", 3)], "c": [("c", 2), ("c", 3)]}


@pytest.mark.slow
@pytest.mark.connect
def test_each_value_has_its_target_and_no_gap_where_it_is_absent(stream, tmp_path):
    for again in range(2):  # the second start replays the last batch
        finish(stream, tables(tmp_path), tmp_path / "ckpt")
        assert rows_in(tmp_path, *EACH) == EACH
        assert ledger(tmp_path) == {"t_a": 1, "t_b": 2, "t_c": 2}
        if not again:
            forget_commit(tmp_path / "ckpt")


@pytest.mark.slow
def test_a_value_that_comes_later_gets_a_target_while_the_query_runs(
    stream, folder, tmp_path
):
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    drip(folder, "4.csv", "d,4\nb,4\n")
    drip(folder, "5.csv", "a,5\n")
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    assert rows_in(tmp_path, "a", "d") == {"a": [*EACH["a"], ("a", 5)], "d": [("d", 4)]}
    assert ledger(tmp_path) == {"t_a": 4, "t_b": 3, "t_c": 2, "t_d": 3}


@pytest.mark.slow
def test_a_target_that_lacks_batches_is_refused(stream, folder, tmp_path):
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    in_db(
        tmp_path, "UPDATE sparkstream_ledger SET batch_id = 0 WHERE table_name = 't_a'"
    )
    drip(folder, "4.csv", "a,4\n")
    said = refused(stream, tables(tmp_path), tmp_path / "ckpt")
    assert re.search(
        "batch 3 is next, but table t_a in .* holds this query's batches up to 0 only",
        said,
    )
    in_db(tmp_path, "DELETE FROM sparkstream_ledger WHERE table_name = 't_a'")
    in_db(tmp_path, "DELETE FROM t_a")
    assert "holds none of this query's batches" in refused(
        stream, tables(tmp_path), tmp_path / "ckpt"
    )


@pytest.mark.slow
def test_after_a_rewind_a_value_that_came_later_is_new(stream, folder, tmp_path):
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    shutil.copy(tmp_path / "t.db", tmp_path / "backup")
    for number, value in ((4, "a"), (5, "d")):
        drip(folder, f"{number}.csv", f"{value},{number}\n")
        finish(stream, tables(tmp_path), tmp_path / "ckpt")
    shutil.copy(tmp_path / "backup", tmp_path / "t.db")
    rewind(tmp_path / "ckpt", to=2, apply=True)
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    assert rows_in(tmp_path, "a", "d") == {"a": [*EACH["a"], ("a", 4)], "d": [("d", 5)]}


@pytest.mark.slow
def test_a_plan_that_the_checkpoint_lost_is_put_back_from_a_target(
    stream, folder, tmp_path
):
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    forget_commit(tmp_path / "ckpt")
    for log in ("offsets/2", "sources/0/2"):
        remove(tmp_path / "ckpt" / log)
    drip(folder, "0.csv", "a,0\nb,0\n")
    oldest = (folder / "1.csv").stat().st_mtime - 60
    # So that Spark, without the plan, would read it in batch 2
    os.utime(folder / "0.csv", (oldest, oldest))
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    again = {"a": [("a", 0)], "b": [("b", 0)], "c": []}
    assert rows_in(tmp_path, *EACH) == {
        value: EACH[value] + again[value] for value in EACH
    }


@pytest.mark.slow
def test_at_most_so_many_targets_are_open_and_noted(stream, folder, tmp_path):
    opened_for = []

    def sink_of(value):
        opened_for.append(value)
        return sinks.sql_table(url_in(tmp_path), f"t_{value}")

    drip(folder, "4.csv", "a,4\nb,4\n")
    finish(stream, sinks.by_value("k", sink_of, most=2), tmp_path / "ckpt")
    # A, b; c closes b; b closes a; a closes c
    assert opened_for == ["a", "b", "c", "b", "a"]
    assert json.loads((tmp_path / "ckpt/sparkstream-kit/values/k").read_text()) == [
        ["a", 3, -1],
        ["b", 3, 2],
    ]
    assert ledger(tmp_path) == {"t_a": 3, "t_b": 3, "t_c": 2}


@pytest.mark.slow
@pytest.mark.classic_only("what a function counts is at the server")
def test_a_batch_is_computed_once_and_listing_its_values_is_one_query(
    spark, stream, tmp_path
):
    finish(
        stream.withColumn("n", noting(tmp_path / "computed")("n")),
        tables(tmp_path),
        tmp_path / "ckpt",
    )
    assert sorted((tmp_path / "computed").read_text().split()) == [
        "1",
        "1",
        "2",
        "2",
        "3",
        "3",
    ]
    writes = []
    sink = sinks.by_value(
        "k", lambda value: sinks.foreach_batch(lambda *_: writes.append(value))
    )
    rows = spark.createDataFrame(
        [("b", 1), ("a", 1), ("b", 2)], "k STRING, n INT"
    ).coalesce(1)
    write = open_batch_sink(sink, stream, locate(spark, tmp_path / "other"))
    with counting_jobs(spark) as jobs:
        write(rows, 0)
        listed = len(jobs())
    assert writes == ["a", "b"]
    # One query: with a shuffle, adaptive execution runs its two stages as a job each
    assert listed == 2


@pytest.mark.fast("../up")
@pytest.mark.parametrize(
    "value",
    [
        "../up",
        "a/b",
        "a\\b",
        ".hidden",
        "_hidden",
        "..",
        "a\nb",
        "",
        None,
        "x" * 129,
        "a:b",
        "\ufffd",
    ],
)
def test_a_value_that_is_no_plain_name_is_refused_or_left_to_the_function(
    spark, tmp_path, value
):
    got = []

    def sink_of(each):
        got.append(each)
        return sinks.foreach_batch(lambda batch, _: got.append(batch.count()))

    rows = spark.createDataFrame([(value, 1), ("plain name.txt", 2)], "k STRING, n INT")
    frame = spark.readStream.format("rate").load().selectExpr("'' AS k", "1 AS n")

    def write(**more):
        open_batch_sink(
            sinks.by_value("k", sink_of, **more),
            frame,
            locate(spark, tmp_path / "ckpt"),
        )(rows, 7)

    said = refusal(write)
    assert said.startswith(
        f"by_value(): batch 7 has k {value!r}, which is no plain name; replace it in "
    )
    assert not got
    write(any_value=True)
    assert sorted(map(str, got)) == sorted(map(str, [value, "plain name.txt", 1, 1]))


@pytest.mark.slow
def test_what_the_function_cannot_give_is_one_line(spark, stream, folder, tmp_path):
    def said(sink_of, frame=stream, **more):
        return refused(frame, sinks.by_value("k", sink_of, **more), tmp_path / "ckpt")

    def file_of(value):
        return sinks.batch_files(tmp_path / "out" / value)

    assert "batch 0 has more than 1 values of k, each with a target of its own" in said(
        file_of, most=1
    )
    assert "k b and k a have the same target, folder " in said(
        lambda _: sinks.batch_files(tmp_path / "one")
    )
    assert "the function returned the string 'a' for k a; return a sink" in said(
        lambda value: value
    )
    assert "by_value() takes sinks that work batch by batch" in said(
        lambda _: sinks.files("out")
    )
    only = "by_value(): sink snapshot of k a supports complete, not append"
    assert only in said(lambda value: sinks.snapshot(tmp_path / f"{value}.csv"))
    inside = said(lambda value: sinks.batch_files(folder / value))
    assert f", which lies in the input folder {folder}; put it " in inside
    both = sinks.fan_out(
        sinks.batch_files(tmp_path / "out" / "a"), sinks.by_value("k", file_of)
    )
    assert "k a and another sink of the query have the same target" in refused(
        stream, both, tmp_path / "c2"
    )
    assert not (tmp_path / "out" / "b").exists()


def test_what_is_wrong_at_the_start_is_one_line(stream, tmp_path):
    def said(sink, **more):
        return refusal(
            start, stream, sink, name="q", **{"checkpoint": tmp_path / "ckpt", **more}
        )

    sink = tables(tmp_path)
    assert "there is no column kk; did you mean k?" in said(
        sinks.by_value("kk", sinks.batch_files)
    )
    assert "needs a checkpoint" in said(sink, checkpoint=None)
    assert "append, not update; give by_value(…, mode='update') if" in said(
        sink, mode="update"
    )
    assert "two sinks write to targets by k; union" in refusal(
        sinks.fan_out, sink, sink
    )
    assert (
        refusal(tables, tmp_path, mode="complete")
        == "by_value(): mode is complete; give append or update"
    )
    assert refusal(tables, tmp_path, most=0) == "by_value(): most is 0; give 1 or more"
    assert not (tmp_path / "t.db").exists()


@pytest.mark.slow
def test_totals_by_update_and_a_dry_run_that_makes_nothing(stream, folder, tmp_path):
    totals = stream.groupBy("k").agg(F.sum("n").alias("n"))
    table = partial(sinks.sql_table, url_in(tmp_path), how="upsert", keys=["k"])
    sink = sinks.by_value("k", lambda k: table(f"t_{k}"), mode="update")
    how = {"name": "q", "mode": "update", "checkpoint": tmp_path / "ckpt"}
    assert "by_value(k)" in str(start(totals, sink, dry_run=True, **how))
    assert not (tmp_path / "t.db").exists()
    finish(totals, sink, tmp_path / "ckpt", "update")
    assert rows_in(tmp_path, *EACH) == {
        "a": [("a", 3)],
        "b": [("b", 4)],
        "c": [("c", 5)],
    }
    before = (tmp_path / "t.db").read_bytes()
    start(totals, sink, dry_run=True, **how)
    assert (tmp_path / "t.db").read_bytes() == before
    in_db(tmp_path, "ALTER TABLE t_c RENAME COLUMN n TO m")  # c was in the last batch
    assert "table t_c" in refusal(start, totals, sink, dry_run=True, **how)


@pytest.mark.slow
@pytest.mark.classic_only("this process plays the driver that wakes up")
@pytest.mark.parametrize("when", ["before it looks", "after it took the target"])
def test_a_driver_that_wakes_up_writes_to_no_target_also_not_to_a_new_one(
    spark, stream, folder, tmp_path, when
):
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    place = locate(spark, tmp_path / "ckpt")

    def newer(batch):
        """Start the query again, as another machine does, while the first is in its batch."""
        if not (folder / "4.csv").exists():
            drip(folder, "4.csv", "new,4\na,4\n")
            spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
            finish(stream, tables(tmp_path), tmp_path / "ckpt")
            spark.sparkContext.setLocalProperty(
                "sql.streaming.queryId", id_in_checkpoint(place)
            )
        return batch

    def sink_of(value):
        sink = sinks.sql_table(url_in(tmp_path), f"t_{value}")
        # `taking` calls the function when the sink is opened, before it takes its
        # epoch, and in each batch.
        return (
            sink.taking(newer) if when != "before it looks" and value == "new" else sink
        )

    first = open_batch_sink(sinks.by_value("k", sink_of), stream, place)
    if when == "before it looks":
        newer(None)
    rows = spark.createDataFrame([("new", -1)], "k STRING, n INT")
    noted = tmp_path / "ckpt" / "sparkstream-kit" / "values" / "k"
    before = noted.read_bytes(), (tmp_path / "t.db").read_bytes()
    spark.sparkContext.setLocalProperty(
        "sql.streaming.queryId", id_in_checkpoint(place)
    )
    try:
        with pytest.raises(
            InvalidInputError,
            match=r"another driver has started to write .*; this one ends",
        ):
            first(rows, 3)
    finally:
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
    if when == "before it looks":  # the newer one can go on: nothing is taken from it
        assert (noted.read_bytes(), (tmp_path / "t.db").read_bytes()) == before
    assert rows_in(tmp_path, "a", "new") == {
        "a": [*EACH["a"], ("a", 4)],
        "new": [("new", 4)],
    }
    drip(folder, "5.csv", "new,5\na,5\n")
    finish(stream, tables(tmp_path), tmp_path / "ckpt")
    assert rows_in(tmp_path, "new") == {"new": [("new", 4), ("new", 5)]}


@pytest.mark.slow
def test_a_target_that_fails_stops_the_batch_and_the_others_are_not_doubled(
    stream, tmp_path
):
    def fails(_batch, _number):
        raise ValueError

    def sink_of(value):
        if value == "b" and not (tmp_path / "mended").exists():
            return sinks.foreach_batch(fails)
        return sinks.sql_table(f"sqlite:///{tmp_path}/t.db", f"t_{value}")

    sink = sinks.by_value("k", sink_of)
    assert "ValueError" in refused(stream, sink, tmp_path / "ckpt")
    assert ledger(tmp_path) == {"t_a": 0}
    (tmp_path / "mended").touch()
    finish(stream, sink, tmp_path / "ckpt")
    assert rows_in(tmp_path, *EACH) == EACH


MANY = 1_000


@pytest.mark.slow
def test_a_thousand_values(spark, folder, tmp_path):
    names = [f"topic-{number:04}" for number in range(MANY)]
    drip(folder, "1.csv", "".join(f"{name},{n}\n" for n in range(3) for name in names))
    drip(folder, "2.csv", f"{names[7]},3\nlater,3\n")
    frame = sources.csv(
        spark, str(folder), schema="k STRING, n INT", max_files_per_trigger=1
    )
    sink = sinks.by_value(
        "k", lambda k: sinks.batch_files(tmp_path / "lake" / k, format="csv"), most=MANY
    )
    for _ in range(2):
        finish(frame, sink, tmp_path / "ckpt")
        found = {}
        for each in (tmp_path / "lake").iterdir():
            lines = (
                file.read_text().splitlines() for file in each.glob("batch=*/part-*")
            )
            found[each.name] = sorted(line for part in lines for line in part)
        truth = {name: [f"{name},{n}" for n in range(3)] for name in names}
        assert found == truth | {
            names[7]: [*truth[names[7]], f"{names[7]},3"],
            "later": ["later,3"],
        }
        forget_commit(tmp_path / "ckpt")
