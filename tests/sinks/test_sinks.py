"""Sinks: what each writes, what it refuses, and that it works without the kit too."""

import csv
import json
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from chispa import assert_df_equality
from conftest import refusal
from pyspark.errors import StreamingQueryException
from pyspark.sql import functions as F
from support.sink_streams import noting
from support.spark_jobs import counting_jobs
from support.sql import sql

from sparkstream_kit import display, feeds, jobflags, run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import open_batch_sink
from sparkstream_kit.sinks.batches import computed_once

pytestmark = pytest.mark.connect
ROWS = [("a,1", "1.10", "2020-01-01 00:00:00.123456"), ('b"2', "20.00", None)]


@pytest.fixture
def result(spark):
    """A small result with what is hard to write: quotes, money, microseconds, null."""
    rows = spark.createDataFrame(ROWS, "k string, v string, t string")
    return rows.select(
        "k", F.col("v").cast("decimal(12,2)").alias("v"), F.col("t").cast("timestamp")
    )


@pytest.fixture
def stream(spark, folder):
    """Two batches: k=1, then k=2."""
    feeds.drip([("1.csv", "1\n"), ("2.csv", "2\n")], folder)
    return sources.csv(spark, str(folder), schema="k INT", max_files_per_trigger=1)


def finish(frame, sink, mode="append", **more):
    run(
        start(
            frame,
            sink,
            name=sink.query_name or "q",
            mode=mode,
            availableNow=True,
            **more,
        )
    )


def test_snapshot_writes_exact_csv_and_json_also_without_rows_and_behind_a_link(
    result, tmp_path
):
    (tmp_path / "www").mkdir()
    (tmp_path / "r.csv").symlink_to(tmp_path / "www" / "r.csv")

    def write(rows):
        for sink in (
            sinks.snapshot(f"file://{tmp_path}/r.csv"),
            sinks.snapshot(tmp_path / "r.json"),
        ):
            open_batch_sink(sink, rows, None)(rows, 0)

    write(result)
    with (tmp_path / "r.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["k", "v", "t"],
            ["a,1", "1.10", "2020-01-01 00:00:00.123456"],
            ['b"2', "20.00", ""],
        ]
    parsed = json.loads((tmp_path / "r.json").read_text(), parse_float=Decimal)
    assert [(row["k"], row["v"], row["t"]) for row in parsed] == [
        ("a,1", Decimal("1.10"), "2020-01-01T00:00:00.123456Z"),
        ('b"2', Decimal("20.00"), None),
    ]
    write(result.limit(0))
    assert [(tmp_path / name).read_text() for name in ("www/r.csv", "r.json")] == [
        "k,v,t\n",
        "[]\n",
    ]
    assert (tmp_path / "r.csv").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "r.csv",
        "r.json",
        "www",
    ]
    (tmp_path / "s.csv").mkdir()
    said = refusal(sinks.snapshot, tmp_path / "s.csv")
    assert (
        said
        == f"snapshot {tmp_path}/s.csv is a folder, as Spark writes one; give another"
        " name"
    )


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(
    result, tmp_path, monkeypatch
):
    target = tmp_path / "r.csv"
    target.write_text("old")
    write = open_batch_sink(sinks.snapshot(target), result, None)

    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write(result, 0)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]


@pytest.mark.slow
def test_latest_shows_the_last_batch_also_after_a_restart(spark, stream, tmp_path):
    totals = stream.groupBy("k").agg(
        F.count("*").alias("n"),
        F.lit("1.50").cast("decimal(12,2)").alias("v"),
        F.lit("2020-01-01 00:00:00.123456").cast("timestamp").alias("t"),
        F.lit(None).cast("string").alias("nothing"),
        F.lit("2020-01-01 00:00:00.123456").cast("timestamp_ntz").alias("ntz"),
        F.lit("a line\u2028 and its rest").alias("text"),
        # Java's old one has no such day
        F.lit("1582-10-10").cast("date").alias("new_calendar"),
    )
    finish(totals, sinks.latest("kept"), "complete", checkpoint=tmp_path)
    first = spark.table("kept")
    assert first.count() == 2
    rows = first.collect()
    assert [(row.v, row.t.microsecond, row.nothing) for row in rows] == [
        (Decimal("1.50"), 123456, None)
    ] * 2
    assert rows[0].ntz.microsecond == 123456
    assert rows[0].new_calendar == date(1582, 10, 10)
    spark.catalog.dropTempView("kept")

    # No new file, no new batch: the table is there all the same, with every value as it
    # was.
    finish(totals, sinks.latest("kept"), "complete", checkpoint=tmp_path)
    again = spark.table("kept")
    assert again.schema.simpleString() == totals.schema.simpleString()
    assert again.collect() == rows


@pytest.mark.classic_only("a server counts no jobs for its clients")
def test_to_read_a_latest_table_runs_no_job(spark, stream):
    """Spark reads rows from Python by a job, the longest part of a first result."""
    finish(stream.groupBy("k").count(), sinks.latest("read"), "complete")
    with counting_jobs(spark) as jobs:
        assert spark.sql("SELECT count FROM read WHERE k > 0").collect()
        assert not jobs()
        assert spark.range(3).selectExpr("rand() AS r").collect()
        assert jobs()


def test_latest_without_a_checkpoint_is_empty_until_the_first_batch(spark, stream):
    # The view has the query's name but for the case, and stays when the query ends.
    query = start(
        stream.groupBy("k").count(),
        sinks.latest("Fresh"),
        name="fresh",
        mode="complete",
    )
    assert spark.table("Fresh").columns == ["k", "count"]
    query.processAllAvailable()
    query.stop()
    assert spark.table("Fresh").count() == 2


@pytest.mark.fast("flat")
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_fan_out_computes_a_batch_once_for_all_its_sinks(
    spark, stream, tmp_path, *, nested
):
    seen, out = (str(tmp_path / name) for name in ("seen", "out"))

    def see(batch, batch_id):
        with open(seen, "a") as file:  # noqa: PTH123
            file.write(f"{batch_id} {[row.k for row in batch.collect()]}\n")

    counted = stream.select(noting(tmp_path / "computed")("k").alias("k"))
    writes = sinks.foreach_batch(lambda batch, _: batch.write.mode("append").json(out))

    def see_and_let_go(batch, batch_id):  # the cache is for the other sink, too
        batch.persist()
        see(batch, batch_id)
        batch.unpersist()

    first = sinks.foreach_batch(see_and_let_go)
    finish(counted, sinks.fan_out(sinks.fan_out(first) if nested else first, writes))
    assert (tmp_path / "seen").read_text() == "0 [1]\n1 [2]\n"
    assert sorted(row.k for row in spark.read.json(out).collect()) == [1, 2]
    assert (tmp_path / "computed").read_text() == "1\n2\n"


def test_what_a_batch_prints_appears_here(stream, capfd):
    finish(
        stream,
        sinks.foreach_batch(lambda batch, batch_id: print(batch_id, batch.count())),  # noqa: T201
    )
    assert capfd.readouterr().out == "0 1\n1 1\n"


@pytest.mark.skipif(
    "SPARK_REMOTE" not in os.environ, reason="a JVM of our own prints past pytest"
)
def test_the_console_shows_each_batch(stream, capfd):
    finish(stream.groupBy("k").count().orderBy("k"), sinks.console(), "complete")
    line = "-" * 43
    first = (
        f"{line}\nBatch: 0\n{line}\n+---+-----+\n|k  |count|\n+---+-----+\n|1  |1   "
        " |\n+---+-----+\n\n"
    )
    second = first.replace("Batch: 0", "Batch: 1").replace(
        "|1  |1    |\n", "|1  |1    |\n|2  |1    |\n"
    )
    assert capfd.readouterr().out == first + second


ALONE: dict[str, tuple[str, Callable[[Path], sinks.Sink]]] = {
    "batch_files": ("append", lambda path: sinks.batch_files(path / "out")),
    "append": ("append", lambda path: sinks.sql_table(f"sqlite:///{path}/t.db", "t")),
    "upsert": (
        "update",
        lambda path: sinks.sql_table(
            f"sqlite:///{path}/t.db", "t", how="upsert", keys=["k"]
        ),
    ),
    "latest": ("complete", lambda _: sinks.latest("alone")),
    "snapshot": ("complete", lambda path: sinks.snapshot(path / "out.csv")),
}


@pytest.mark.fast("batch_files", "upsert")
@pytest.mark.parametrize("kind", ALONE)
def test_a_sink_computes_a_batch_once(stream, tmp_path, kind):
    mode, make = ALONE[kind]
    frame = stream if mode == "append" else stream.groupBy("k").count()
    counted = frame.withColumn("k", noting(tmp_path / "computed")("k"))
    finish(counted, make(tmp_path), mode, checkpoint=tmp_path / "ckpt")
    assert (
        sorted((tmp_path / "computed").read_text().split())
        == ["1", "1", "2"][mode != "complete" :]
    )


@pytest.mark.slow
def test_taking_gives_a_sink_its_part_of_each_batch(spark, stream, tmp_path):
    big = sinks.latest("big").taking(lambda batch: batch.where("k > 1"))
    small = sinks.snapshot(tmp_path / "small.csv").taking(
        lambda batch: batch.where("k <= 1").select("k")
    )
    finish(
        stream.groupBy("k").count(),
        sinks.fan_out(sinks.latest("all_of_it"), big, small),
        "complete",
    )
    assert spark.table("all_of_it").count() == 2
    assert [tuple(row) for row in spark.table("big").collect()] == [(2, 1)]
    assert (tmp_path / "small.csv").read_text() == "k\n1\n"


@pytest.mark.slow
def test_files_and_table_append_what_spark_reads_back(spark, stream, tmp_path):
    finish(
        stream,
        sinks.files(str(tmp_path / "out"), format="json"),
        checkpoint=tmp_path / "files",
    )
    assert sorted(
        row.k for row in spark.read.json(str(tmp_path / "out")).collect()
    ) == [1, 2]
    finish(
        stream,
        sinks.table("sales_rows", format="PARQUET"),
        checkpoint=tmp_path / "table",
    )
    shouted = sinks.table("t", format="PARQUET")
    assert (shouted.promise, shouted.modes) == (
        sinks.table("t").promise,
        sinks.table("t").modes,
    )
    try:
        expected = spark.createDataFrame([(1,), (2,)], "k INT")
        assert_df_equality(spark.table("sales_rows"), expected, ignore_row_order=True)
        assert sources.table(spark, "sales_rows").isStreaming
    finally:
        spark.sql("DROP TABLE sales_rows")


@pytest.mark.slow
def test_every_sink_works_without_the_kit(spark, stream):
    query = sinks.memory("plain")(stream.writeStream).start()
    query.processAllAvailable()
    query.stop()
    totals = stream.groupBy("k").count().writeStream.outputMode("complete")
    query = sinks.latest("plain_latest")(totals).start()
    # A batch there cannot find the session of its client
    if "SPARK_REMOTE" in os.environ:
        with pytest.raises(
            StreamingQueryException,
            match="cannot show its client a view; start the query",
        ):
            query.processAllAvailable()
        assert spark.table("plain").count() == 2
        return
    query.processAllAvailable()
    query.stop()
    assert spark.table("plain").count() == spark.table("plain_latest").count() == 2


def test_a_sink_keeps_its_options_out_of_its_repr():
    assert "hush" not in repr(sinks.files("out", format="csv", password="hush"))  # noqa: S106 - the point
    assert "promise='exactly once, read through Spark'" in repr(sinks.files("out"))


@pytest.mark.parametrize(
    "kind", ["batch_files", "delta", "latest", "snapshot", "sql_table"]
)
def test_fan_out_refuses_two_sinks_with_one_target_by_whatever_name(tmp_path, kind):
    (tmp_path / "link").symlink_to(tmp_path)
    names = {
        "batch_files": [f"{tmp_path}/out", f"file://{tmp_path}/link/out"],
        "delta": [f"{tmp_path}/out", f"file://{tmp_path}/link/out/"],
        "latest": ["Totals", "totals"],
        "snapshot": [f"{tmp_path}/out.csv", f"{tmp_path}/link/out.csv"],
        "sql_table": [f"sqlite:///{tmp_path}/t.db", f"sqlite:///{tmp_path}/link/t.db"],
    }[kind]
    more = {"table": "t", "how": "replace"} if kind == "sql_table" else {}
    made = [getattr(sinks, kind)(name, **more) for name in (*names, names[0])]
    part = made[2].taking(lambda batch: batch.where("k > 1"))
    within = sinks.fan_out(part, sinks.foreach_batch(print))
    for one, two in ((made[0], made[1]), (made[0], part), (within, part)):
        said = refusal(sinks.fan_out, one, two)
        assert re.search(
            r"fan_out\(\): two sinks write to (folder|view|file|table|Delta table) ",
            said,
        )
    # Each declares what it writes to, but for a function, of which nobody knows.
    assert all(sink.writes_to for sink in made)
    assert sinks.fan_out(*[sinks.foreach_batch(print)] * 2).writes_to == ()


NAMES = ["a`b", "c.d", "e f", "`", 'g"h', "i'j", "Ü"]


@pytest.mark.slow
def test_any_column_name_will_do(spark, folder, tmp_path):
    row = {name: number for number, name in enumerate(NAMES)}
    spark.createDataFrame([tuple(row.values())], NAMES).write.parquet(str(folder / "1"))
    frame = spark.readStream.schema(
        spark.read.parquet(str(folder / "1")).schema
    ).parquet(str(folder / "*"))
    totals = frame.groupBy(
        [F.col("`" + name.replace("`", "``") + "`") for name in NAMES]
    ).count()
    sink = sinks.fan_out(
        sinks.snapshot(tmp_path / "r.csv"),
        sinks.snapshot(tmp_path / "r.json"),
        sinks.latest("any_name"),
        sinks.batch_files(tmp_path / "out"),
        sinks.sql_table(f"sqlite:///{tmp_path}/t.db", "t", how="replace"),
    )
    finish(totals, sink, "complete", checkpoint=tmp_path / "ckpt")
    expected = row | {"count": 1}
    with (tmp_path / "r.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            list(expected),
            [str(value) for value in expected.values()],
        ]
    assert json.loads((tmp_path / "r.json").read_text()) == [expected]
    finish(totals, sink, "complete", checkpoint=tmp_path / "ckpt")
    assert [shown.asDict() for shown in spark.table("any_name").collect()] == [expected]
    assert display.render(totals.sparkSession.table("any_name"), "table").startswith(
        f"{NAMES[0]}  "
    )
    assert spark.read.parquet(str(tmp_path / "out")).drop("batch").columns == list(
        expected
    )
    assert sql(f"sqlite:///{tmp_path}/t.db", "SELECT * FROM t") == [
        tuple(expected.values())
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "delta",
            (
                "Spark has no connector delta; launch with spark-submit $(sparkstream"
                " connectors delta) …"
            ),
        ),
        (
            "org.example.No",
            (
                "Spark has no data source org.example.No; launch with spark-submit"
                " --packages"
            ),
        ),
        ("parqet", "Spark has no data source parqet; did you mean parquet?"),
    ],
)
def test_a_format_that_spark_does_not_have_is_one_line_with_its_package(
    spark, stream, tmp_path, capsys, name, message
):
    assert message in refusal(
        start, stream, sinks.table("t", format=name), name="q", checkpoint=tmp_path
    )

    @jobflags.exit_codes
    def job(argv):
        spark.readStream.format(name).load("no_such").isStreaming  # noqa: B018 - Connect looks for it only now
        return 0

    assert job([]) == 2
    assert message in capsys.readouterr().err


CANNOT: list[tuple[Callable[[], object], str]] = [
    (
        lambda: sinks.snapshot("r.xml"),
        "snapshot r.xml: the name must end in .csv or .json",
    ),
    (lambda: sinks.snapshot("no/r.csv"), "/no does not exist; create it"),
    (
        lambda: sinks.snapshot("s3a://b/r.csv"),
        "snapshot s3a://b/r.csv is not on this machine; give a local",
    ),
    (lambda: sinks.snapshot("hdfs:/r.json"), "give a local path, or use sinks.latest"),
    (
        lambda: sinks.files("out.csv"),
        "out.csv is a folder of parquet; give format='csv'",
    ),
    (
        lambda: sinks.batch_files("t.orc", format="csv"),
        "t.orc is a folder of csv; give format='orc'",
    ),
    (
        lambda: sinks.files("out", format="parqet"),
        "unknown file format parqet; did you mean parquet?",
    ),
    (
        lambda: sinks.table(""),
        "sinks.table(): the name is empty; give a table, as table or schema.table",
    ),
    (
        lambda: sinks.files("t", partitionBy="a"),
        "keyword of sinks.files() partitionBy; did you mean partition_by?",
    ),
    (
        lambda: sinks.files("t", mode="x"),
        "keyword of sinks.files() mode; known: format, partition_by, path",
    ),
    (
        lambda: sinks.table("t", format="csv", headr=1),
        "keyword of sinks.table() headr; did you mean header?",
    ),
    (
        lambda: sinks.batch_files("t", take_over=True),
        "sinks.batch_files() take_over; known: format, path",
    ),
    (
        lambda: sinks.kafka("b:9", "t", kye="id"),
        "keyword of sinks.kafka() kye; did you mean key?",
    ),
    (
        lambda: sinks.kafka("b:9", "t", exactlyOnce=True),
        "kafka() exactlyOnce; did you mean exactly_once?",
    ),
    (
        lambda: sinks.kafka("b:9", "t", row_id=["k"], exactly_once=True),
        "row_id is for the headers",
    ),
    (
        lambda: sinks.kafka("b:9", "t", ledger="x"),
        "ledger and take_over are for exactly_once=True",
    ),
    (
        lambda: sinks.kafka("b:9", "t", take_over=True),
        "ledger and take_over are for exactly_once=True",
    ),
    (
        lambda: sinks.kafka("b:9", "t", **{"Kafka.Bootstrap.Servers": "c:9"}),  # type: ignore[arg-type]
        (
            "sinks.kafka(): kafka.bootstrap.servers is set by the argument servers;"
            " leave it out"
        ),
    ),
    (sinks.fan_out, "fan_out() needs at least one sink"),
    (
        lambda: sinks.foreach_batch(later),  # type: ignore[arg-type]
        "write must be a function without async and yield",
    ),
    (
        lambda: sinks.fan_out(sinks.latest("t"), sinks.memory("m")),
        (
            "fan_out() takes sinks that work batch by batch (such as latest, sql_table,"
            " foreach_batch), not"
        ),
    ),
    (
        lambda: sinks.console().taking(print),  # type: ignore[arg-type]
        "taking() takes sinks that work batch by batch",
    ),
    (lambda: sinks.console(rows=0), "console(): rows is 0; give 1 or more"),
    (
        lambda: sinks.Sink(kind="mine", modes=("append",), promise="none"),
        "sink mine writes nowhere; make a sinks.BatchSink(…, open=), or a sinks.SparkSi",
    ),
]


async def later(_batch, _number):
    pass


@pytest.mark.parametrize(("wrong", "message"), CANNOT)
def test_what_a_sink_cannot_do_it_says(wrong, message):
    assert message in refusal(wrong)


@pytest.mark.parametrize(
    "sink", [sinks.files("out"), sinks.table("t")], ids=["files", "table"]
)
def test_a_sink_that_appends_needs_a_checkpoint(stream, sink):
    with pytest.raises(
        InvalidInputError, match=f"sink {sink.kind} needs a checkpoint: without"
    ):
        start(stream, sink, name="no_checkpoint")


def test_fan_out_supports_the_modes_that_all_of_its_sinks_do(tmp_path):
    everything = sinks.foreach_batch(lambda batch, _: None)
    assert sinks.fan_out(everything).modes == ("append", "complete", "update")
    assert sinks.fan_out(everything, sinks.snapshot(tmp_path / "r.csv")).modes == (
        "complete",
    )
    table = sinks.fan_out(
        sinks.sql_table(f"sqlite:///{tmp_path}/t.db", "t"), everything
    )
    assert table.needs_checkpoint
    assert table.promise == "sql_table: exactly once; foreach_batch: at least once"


INTO: dict[str, Callable[[Path], sinks.Sink]] = {
    "files": lambda folder: sinks.files(str(folder)),
    "batch_files": lambda folder: sinks.batch_files(str(folder)),
    "fan_out": lambda folder: sinks.fan_out(
        sinks.batch_files(folder / "a"), sinks.batch_files(folder / "b")
    ),
    "taking": lambda folder: sinks.batch_files(folder).taking(lambda batch: batch),
    "delta": sinks.delta,
    "sql_table": lambda folder: sinks.sql_table(f"sqlite:///{folder}", "rows"),
}


@pytest.mark.parametrize("kind", INTO)
def test_no_sink_writes_into_the_folder_that_its_query_reads(
    spark, folder, tmp_path, kind
):
    (tmp_path / "link").symlink_to(folder)
    frame = sources.text(spark, str(folder)).union(
        sources.text(spark, f"{tmp_path}/other*")
    )
    (tmp_path / "other-1").mkdir()
    # Spark looks at a pattern again in each batch, and so finds what is made later.
    inside = (
        folder,
        folder / "out",
        tmp_path / "link/out",
        tmp_path / "other-1/out",
        tmp_path / "other-2",
    )
    for target in inside:
        said = refusal(
            start, frame, INTO[kind](target), name="rows", checkpoint=tmp_path / "ckpt"
        )
        assert re.search(
            r"query rows: sink .* writes to .* the input folder .*; put", said
        )
    assert list(folder.iterdir()) == []
    start(
        frame,
        INTO[kind](tmp_path / "in-out"),
        name="rows",
        checkpoint=tmp_path / "ckpt",
    ).stop()


def test_what_failed_first_is_told_and_not_that_a_batch_could_not_be_let_go(
    spark, monkeypatch
):
    frame = spark.range(3).toDF("n")

    def gone(_):
        raise ConnectionError("Spark has gone")

    monkeypatch.setattr(type(frame), "unpersist", gone)
    with pytest.raises(ValueError, match="no such shop"), computed_once(frame):
        raise ValueError("no such shop")
    monkeypatch.undo()
    # Not all that is cached: a server of Spark Connect has other tests, too
    frame.unpersist()


def test_a_snapshot_is_not_written_into_the_folder_that_its_query_reads(
    spark, folder, tmp_path
):
    counts = sources.text(spark, str(folder)).groupBy("value").count()
    with pytest.raises(
        InvalidInputError,
        match="sink snapshot writes to .*, which lies in the input folder",
    ):
        start(
            counts,
            sinks.snapshot(folder / "t.csv"),
            name="t",
            mode="complete",
            checkpoint=tmp_path / "c",
        )


@pytest.mark.slow
def test_batches_without_rows_are_no_gap(spark, folder, tmp_path):
    hours = [f"2024-01-01T{hour:02}:00:00\n" for hour in (0, 1, 2, 9)]
    times = sources.csv(
        spark, str(folder), schema="t TIMESTAMP", max_files_per_trigger=1
    )
    counts = times.withWatermark("t", "1 hour").groupBy("t").count()
    url = f"sqlite:///{tmp_path}/t.db"
    nothing = sinks.sql_table(url, "nothing").taking(
        lambda batch: batch.where("count > 1")
    )
    sink = sinks.fan_out(
        sinks.sql_table(url, "t"),
        nothing,
        sinks.batch_files(tmp_path / "out", format="json"),
    )
    for number, hour in enumerate(hours):
        feeds.drip([(f"{number}.csv", hour)], folder)
        finish(counts, sink, checkpoint=tmp_path / "ckpt")
    # Each file is a batch, and each that moves the watermark is followed by one that
    # has no input.
    assert (
        max(path.name for path in (tmp_path / "out").glob("batch=*")) == "batch=000007"
    )
    assert spark.read.json(str(tmp_path / "out")).count() == 3
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        assert database.execute("SELECT count(*) FROM t").fetchall() == [(3,)]
        assert database.execute(
            "SELECT batch_id FROM sparkstream_ledger"
        ).fetchall() == [(7,), (7,)]
