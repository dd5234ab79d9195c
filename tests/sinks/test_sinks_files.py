"""`sinks.files` and `sinks.table`: no batch that Spark would skip, lose or hide without a word."""

import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import pretend_master, ran, refusal
from support.sink_contract import remove
from support.sink_streams import finish, forget_commit

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks.base import Opening, open_sink


@pytest.fixture
def stream(spark, folder):
    """Three batches of a row: 1; 2; 3."""
    feeds.drip([(f"{n}.csv", f"{n}\n") for n in (1, 2, 3)], folder)
    return sources.csv(spark, str(folder), schema="n INT", max_files_per_trigger=1)


@pytest.fixture(
    params=[
        "files",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("table", "table with path")
        ),
    ]
)
def made(request, spark, tmp_path):
    """A sink, what Spark reads back from it, and its folder."""
    if "SPARK_REMOTE" in os.environ:
        pytest.skip("classic only: the server's warehouse is not known here")
    out = tmp_path / "out [of] here"
    if request.param == "files":
        yield (
            lambda: sinks.files(str(out)),
            lambda: shown(spark.read.parquet(f"file:{escaped(out)}")),
            out,
        )
        return
    name = f"t_{tmp_path.name}".replace("-", "_")
    path = {"path": str(tmp_path / "out of here")} if "path" in request.param else {}
    warehouse = str(spark.conf.get("spark.sql.warehouse.dir")).removeprefix("file:")
    out = tmp_path / "out of here" if path else Path(warehouse, name)
    yield lambda: sinks.table(name, **path), lambda: shown(spark.table(name)), out
    spark.sql(f"DROP TABLE IF EXISTS {name}")


def escaped(path):
    return str(path).replace("[", r"\[").replace("]", r"\]")


def shown(frame):
    return sorted(row.n for row in frame.collect())


@pytest.mark.slow
def test_a_query_with_as_many_batches_is_another_query_too(stream, made, tmp_path):
    sink, read, _ = made
    finish(stream, sink(), tmp_path / "first")
    message = (
        r"has the batches of another query \(.{36}\), up to its batch 2, which Spark"
        r" would .*; start"
    )
    assert re.search(message, refusal(finish, stream, sink(), tmp_path / "second"))
    finish(stream, sinks.files(str(tmp_path / "own")), tmp_path / "second")
    forget_commit(tmp_path / "first")  # of this query a batch may come again
    finish(stream, sink(), tmp_path / "first")
    assert read() == [1, 2, 3]
    feeds.drip([("4.csv", "4\n")], tmp_path / "in")
    for _ in range(2):
        assert re.search(message, refusal(finish, stream, sink(), tmp_path / "second"))
    finish(stream, sink(), tmp_path / "first")
    assert read() == [1, 2, 3, 4]


def test_a_folder_that_has_gone_or_gone_back_is_refused(stream, made, tmp_path):
    sink, _, out = made
    finish(stream, sink(), tmp_path / "ckpt")
    remove(out / "_spark_metadata" / "2")
    said = refusal(finish, stream, sink(), tmp_path / "ckpt")
    assert re.search(
        "has batches up to 1 only, and checkpoint .* has committed batches up to"
        " 2: the",
        said,
    )
    shutil.rmtree(out)
    assert (
        " lacks all batches of this query: it was removed, emptied or made again"
        in refusal(finish, stream, sink(), tmp_path / "ckpt")
    )
    finish(stream, sink(), tmp_path / "again")
    forget_commit(tmp_path / "again")
    remove(tmp_path / "again" / "offsets" / "2")
    said = refusal(finish, stream, sink(), tmp_path / "again")
    assert re.search(
        "has batches up to 2, and checkpoint .* was rewound or restored to batch 1:"
        " Spark",
        said,
    )


def test_a_folder_that_goes_while_its_query_runs_ends_the_run_and_is_refused_later(
    spark, folder, made, tmp_path
):
    """Spark's sink writes on, into a new folder that lacks the batches before."""
    sink, _, out = made
    feeds.drip([("1.csv", "1\n")], folder)
    rows = sources.csv(spark, folder, schema="n INT")

    def lose(progress):
        if progress.batchId == 0:
            shutil.rmtree(out)
            feeds.drip([("2.csv", "2\n")], folder)

    query = start(rows, sink(), name="q", checkpoint=tmp_path / "ckpt")
    with pytest.raises(
        (InvalidInputError, QueryFailed),
        match="was removed, emptied or made again while the",
    ):
        run(query, on_batch=lose, run_for=60)
    # The kit finds it before the next batch has made the folder again, or after it.
    said = refusal(finish, rows, sink(), tmp_path / "ckpt")
    assert re.search("lacks (all batches|batch 0) of this query: it was removed", said)


def test_files_of_no_query_are_refused_which_spark_would_no_longer_show(
    spark, stream, tmp_path
):
    spark.createDataFrame([(100,)], "n INT").write.parquet(str(tmp_path / "out"))
    with pytest.raises(
        InvalidInputError,
        match="out has files that no query has written, which Spark would",
    ):
        finish(stream, sinks.files(str(tmp_path / "out")), tmp_path / "ckpt")
    spark.sql("CREATE TABLE rows_before (n INT) USING parquet")
    try:
        spark.sql("INSERT INTO rows_before VALUES (100)")
        said = refusal(finish, stream, sinks.table("rows_before"), tmp_path / "ckpt")
        assert re.search(
            "table rows_before: .* has files that no query has written", said
        )
        assert shown(spark.table("rows_before")) == [100]
    finally:
        spark.sql("DROP TABLE rows_before")


def test_what_a_query_left_that_wrote_no_batch_is_no_obstacle(spark, stream, tmp_path):
    (tmp_path / "out" / "_spark_metadata").mkdir(parents=True)
    finish(stream, sinks.files(str(tmp_path / "out")), tmp_path / "ckpt")
    assert shown(spark.read.parquet(str(tmp_path / "out"))) == [1, 2, 3]


@pytest.mark.slow
def test_batches_without_rows_count(spark, folder, tmp_path):
    # Windows are closed by batches of their own, which have no input; the last ones
    # have no output either.
    lines = [f"2024-01-01T{hour:02}:00:00\n" for hour in range(4)]
    feeds.drip([(f"{n}.csv", line) for n, line in enumerate(lines)], folder)
    times = sources.csv(
        spark, str(folder), schema="t TIMESTAMP", max_files_per_trigger=1
    )
    hours = times.withWatermark("t", "1 hour").groupBy("t").count()
    for _ in range(3):
        finish(hours, sinks.files(str(tmp_path / "out")), tmp_path / "ckpt")
    feeds.drip([("9.csv", "2024-01-01T09:00:00\n")], folder)
    finish(hours, sinks.files(str(tmp_path / "out")), tmp_path / "ckpt")
    assert spark.read.parquet(str(tmp_path / "out")).count() == 4
    with pytest.raises(InvalidInputError, match="has the batches of another query"):
        finish(
            hours.where("count > 1"),
            sinks.files(str(tmp_path / "out")),
            tmp_path / "new",
        )


@pytest.mark.slow
@pytest.mark.classic_only("a server reads its own mount table")
def test_it_is_so_on_every_file_system(spark, stream, tmp_path):
    hadoop = spark._jsc.hadoopConfiguration()  # noqa: SLF001
    mount = tmp_path.name.replace("_", "-")
    hadoop.set(f"fs.viewfs.mounttable.{mount}.link./data", f"file://{tmp_path}")
    there = f"viewfs://{mount}/data"
    finish(stream, sinks.files(f"{there}/out"), f"{there}/first")
    finish(stream, sinks.files(f"{there}/out"), f"{there}/first")
    said = refusal(finish, stream, sinks.files(f"{there}/out"), f"{there}/second")
    assert re.search(
        r"has the batches of another query \(.*\), up to its batch 2", said
    )


CONNECTED = """
import logging, sys
from sparkstream_kit import get_session, run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError

home, host = sys.argv[1:]
logging.basicConfig(format="%(message)s", stream=sys.stdout)
spark = get_session("connected")
spark.conf.set(f"fs.viewfs.mounttable.{host}.link./far", f"file://{home}/far")
stream = sources.csv(spark, f"{home}/in", schema="n INT", max_files_per_trigger=1)
far = f"viewfs://{host}/far"
for sink, checkpoint in (
    (sinks.files(f"{home}/here"), f"{home}/first"),
    (sinks.files(f"{home}/here"), f"{home}/second"),
    (sinks.files(f"{far}/out"), f"{far}/ckpt"),
    (sinks.sql_table(f"sqlite:///{home}/x.db", "t"), f"{far}/ckpt3"),
):
    try:
        run(start(stream, sink, name="q", checkpoint=checkpoint, availableNow=True))
        print("done")
    except InvalidInputError as err:
        print(err)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("connect")
def test_it_is_so_on_spark_connect(connect, folder, tmp_path):
    feeds.drip([(f"{n}.csv", f"{n}\n") for n in (1, 2, 3)], folder)
    (tmp_path / "far").mkdir()
    host = f"connect-{tmp_path.name}".replace("_", "-")
    said = ran(CONNECTED, tmp_path, host, SPARK_REMOTE=connect).stdout.splitlines()
    far = f"viewfs://{host}/far"
    expected = [
        "done",
        f"files: folder {tmp_path}/here has the batches of another query",
        (
            f"query q: its checkpoint is not checked, as {far}/ckpt is on a Spark"
            " Connect server"
        ),
        f"files: folder {far}/out is not checked, as {far}/out is on a Spark",
        "done",
        (
            f"query q: its checkpoint is not checked, as {far}/ckpt3 is on a Spark"
            " Connect server"
        ),
        f"{far}/ckpt3 is on a Spark Connect server, and its",
    ]
    assert len(said) == len(expected), said
    assert all(
        line.startswith(begin) for line, begin in zip(said, expected, strict=True)
    ), said
    assert not (tmp_path / "far" / "ckpt" / "sparkstream-kit").exists()
    assert said[-1].endswith(
        "or a local path on a server of this machine (sparkstream serve start)"
    )


@pytest.mark.classic_only("a master is pretended in this process")
@pytest.mark.parametrize("kind", ["files", "batch_files", "table"])
def test_a_local_path_that_each_node_has_for_itself_is_refused(
    spark, stream, tmp_path, monkeypatch, kind
):
    def sink(path):
        name = f"n_{tmp_path.name}".replace("-", "_")
        return (
            sinks.table(name, path=path)
            if kind == "table"
            else getattr(sinks, kind)(path)
        )

    with monkeypatch.context() as pretended:
        pretend_master(spark, pretended, "spark://host:7077")
        for path in (f"{tmp_path}/out", "out"):
            with pytest.raises(
                InvalidInputError,
                match=(
                    f"{path} is a local path, but the master is spark://host:7077,"
                    " whose nodes would .*, "
                    rf"if they share this folder, file:///.*out$"
                ),
            ):
                open_sink(sink(path), stream, None, Opening())
            assert not (tmp_path / "out").exists()
        # The nodes share it
        open_sink(sink(f"file://{tmp_path}/out"), stream, None, Opening())


LINES = {
    "csv": (
        '"5"" ""x""", a ,2026-03-01T02:30:00.123456Z,2026-03-01T02:30:00.123456\nb,,,\n'
    ),
    "json": (
        '{"q":"5\\" \\"x\\"","k":" a ","t":"2026-03-01T02:30:00.123456Z",'
        '"u":"2026-03-01T02:30:00.123456"}\n{"q":"b","k":null,"t":null,"u":null}\n'
    ),
}


@pytest.mark.fast("batch_files-csv")
@pytest.mark.parametrize("file_format", LINES)
@pytest.mark.parametrize("kind", ["batch_files", "files"])
def test_text_files_keep_microseconds_and_nulls(spark, tmp_path, kind, file_format):
    schema = "q STRING, k STRING, t TIMESTAMP, u TIMESTAMP_NTZ"
    rows = spark.sql(
        "SELECT * FROM VALUES ('5\" \"x\"', ' a ', TIMESTAMP '2026-03-01"
        " 02:30:00.123456Z', TIMESTAMP_NTZ '2026-03-01 02:30:00.123456'), ('b', NULL,"
        " NULL, NULL) AS v(q, k, t, u)"
    )
    rows.coalesce(1).write.parquet(str(tmp_path / "in"))
    stream = sources.parquet(spark, str(tmp_path / "in"), schema=schema)
    finish(
        stream,
        getattr(sinks, kind)(tmp_path / "out", format=file_format),
        tmp_path / "ckpt",
    )
    assert (
        "".join([file.read_text() for file in (tmp_path / "out").rglob("part-*")])
        == LINES[file_format]
    )
    back = (
        spark.read.schema(schema)
        .format(file_format)
        .options(escape='"')
        .load(f"file:{tmp_path / 'out'}")
    )
    assert sorted(back.select("q", "k", "t", "u").collect()) == sorted(rows.collect())
    own = getattr(sinks, kind)(
        tmp_path / "own", format=file_format, timestampformat="yyyy"
    )
    finish(stream, own, tmp_path / "own-ckpt")
    assert "2026-03-01T02:30:00.123456Z" not in "".join(
        f.read_text() for f in (tmp_path / "own").rglob("part-*")
    )


@pytest.mark.classic_only("the table is the session's")
def test_a_table_of_csv_is_read_as_it_was_written(spark, tmp_path):
    spark.sql("SELECT '5\" \"x\"' AS q, ' a ' AS k").write.parquet(str(tmp_path / "in"))
    stream = sources.parquet(spark, str(tmp_path / "in"), schema="q STRING, k STRING")
    finish(
        stream,
        sinks.table("of_csv", format="csv", path=str(tmp_path / "out")),
        tmp_path / "ckpt",
    )
    assert spark.table("of_csv").collect() == [('5" "x"', " a ")]
    spark.sql("DROP TABLE of_csv")


CANNOT = {
    "csv": (
        "map(value, 1) m",
        (
            "column m is map<string,int>, and a file of csv cannot hold it; leave it"
            " out, cast"
        ),
    ),
    "parquet": (
        "value",
        "NULL AS n",
        "column n is void, and a file of parquet cannot hold it; leave it out",
    ),
    "text": (
        "value",
        "1 AS n",
        (
            "column value is string, and a file of text (one column, a string) cannot"
            " hold it"
        ),
    ),
}


@pytest.mark.parametrize("file_format", CANNOT)
@pytest.mark.parametrize("kind", ["batch_files", "files", "table"])
def test_a_column_that_the_format_cannot_hold_is_refused_at_the_start(
    spark, folder, tmp_path, kind, file_format
):
    *columns, message = CANNOT[file_format]
    frame = sources.text(spark, str(folder)).selectExpr(*columns)
    sink = getattr(sinks, kind)(
        "no_such" if kind == "table" else tmp_path / "out", format=file_format
    )
    assert message in refusal(finish, frame, sink, tmp_path / "ckpt")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["batch_files", "files", "table"])
def test_two_columns_of_one_name_are_refused_which_a_reader_would_do(
    spark, folder, tmp_path, kind
):
    frame = sources.text(spark, str(folder)).selectExpr("value", "1 AS VALUE")
    sink = getattr(sinks, kind)("no_such" if kind == "table" else tmp_path / "out")
    assert "column value appears twice; rename or drop one" in refusal(
        finish, frame, sink, tmp_path / "ckpt"
    )
    assert not (tmp_path / "out").exists()


def test_a_column_of_folders_is_none_of_the_file(spark, folder, tmp_path):
    feeds.drip([("1.txt", "a\n")], folder)
    frame = sources.text(spark, str(folder)).selectExpr("value", "1 AS n")
    finish(
        frame,
        sinks.files(tmp_path / "out", format="text", partition_by=["N"]),
        tmp_path / "ckpt",
    )
    assert [file.parent.name for file in (tmp_path / "out").rglob("part-*")] == ["n=1"]
