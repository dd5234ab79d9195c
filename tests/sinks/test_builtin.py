"""`sinks.console`, `memory` and `files`: what they check and print, without a query."""

import pytest
from conftest import pretend_master, refusal
from pyspark.errors import PySparkException

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit.sinks import readback
from sparkstream_kit.sinks.formats import Format


def own(make, *given, **options):
    """Return a sink; it is one of Spark's own."""
    sink = make(*given, **options)
    assert isinstance(sink, sinks.SparkSink)
    return sink


@pytest.mark.parametrize(
    ("sink", "modes", "name"),
    [
        (own(sinks.console, rows=1), ("append", "complete", "update"), None),
        (own(sinks.memory, "t"), ("append", "complete"), "t"),
        (own(sinks.files, "out", format="json"), ("append",), None),
    ],
    ids=["console", "memory", "files"],
)
def test_a_sink_of_spark_sets_up_the_writer_that_it_is_given(spark, sink, modes, name):
    assert (sink.modes, sink.query_name) == (modes, name)
    writer = spark.readStream.format("rate").load().writeStream
    assert sink.configure(writer) is writer


def test_a_console_prints_at_least_one_row():
    for rows in (0, -1):
        said = refusal(sinks.console, rows=rows)
        assert said == f"console(): rows is {rows}; give 1 or more"


def test_a_batch_is_printed_as_spark_prints_it(spark, capsys):
    rows = spark.sql(
        "VALUES (1, 'tea', ''), (2, '\\u001b[2J', NULL), (3, 'a text of over 20 letters',"
        " 'x') AS v(n, `s\\t`, e)"
    ).coalesce(1)
    line = "-" * 43
    own(sinks.console, rows=2).on_connect(rows, 7)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{line}\nBatch: 7\n{line}\n+---+---------+")
    cells = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in printed.splitlines()
        if row.startswith("|")
    ]
    assert cells == [["n", r"s\t", "e"], ["1", "tea", ""], ["2", r"\u001b[2J", "NULL"]]
    assert printed.rstrip().endswith("only showing top 2 rows")
    own(sinks.console, rows=3).on_connect(rows, 7)
    assert "a text of over 20 letters" in capsys.readouterr().out
    own(sinks.console, rows=3, truncate=True).on_connect(rows, 8)
    assert "a text of over 20..." in capsys.readouterr().out
    own(sinks.console).on_connect(spark.range(21), 9)
    assert "only showing top 20 rows" in capsys.readouterr().out


def test_a_folder_is_checked_for_its_columns_and_with_a_checkpoint_for_its_files(
    spark, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    rows = spark.sql("SELECT 1 AS n, 'x' AS s")
    checkpoint = locate(spark, tmp_path / "ckpt")
    sink = own(sinks.files, out, partition_by=["s"])
    sink.check(rows, checkpoint)
    assert "files: partition_by has each column" in refusal(
        sink.check, rows.select("s"), None
    )
    out.mkdir()
    (out / "part-0").touch()
    sink.check(rows, None)
    said = refusal(sink.check, rows, checkpoint)
    assert said.startswith(f"files: folder {out} has files that no query has written, ")
    with monkeypatch.context() as pretended:
        pretend_master(spark, pretended, "spark://host:7077")
        said = refusal(sink.check, rows, None)
        assert f"{out} is a local path, but the master is spark://host:7077" in said


def test_values_are_checked_as_the_folder_takes_them(spark, tmp_path):
    sink = own(sinks.files, tmp_path, format="csv", partition_by=["k"])
    numbers = spark.sql("SELECT 1 AS n, 2 AS k, 3 AS o")
    assert sink.checked(numbers) is numbers
    wrong = spark.sql("SELECT 1 AS n, '' AS k")
    with pytest.raises(PySparkException, match="files: column k has an empty text or"):
        sink.checked(wrong).collect()


@pytest.mark.parametrize(
    ("kind", "texts", "row"),
    [
        ("json", "json", ("1", '"x"', "007")),
        ("csv", "csv", ("1", "x", "007")),
        ("orc", "csv", (1, "x", "007")),
    ],
)
def test_a_comparison_has_rows_as_the_folder_has_them(
    spark, tmp_path, kind, texts, row
):
    rows = spark.sql("SELECT 1 AS n, 'x' AS s, '007' AS k")
    sink = own(sinks.files, tmp_path / "out", format=kind, partition_by=["k"])
    assert sink.form.texts == texts
    assert sink.form.written(rows, str(tmp_path / "aside")).collect() == [row]
    assert not (tmp_path / "out").exists()
    readback.keep_files(rows, str(tmp_path / "out"), Format(kind, kind, {}), ["k"])
    found = sink.read(spark, rows.schema, locate(spark, tmp_path))
    assert found.collect() == [row]


def test_a_claimed_folder_has_the_id_of_its_query(spark, tmp_path):
    out, checkpoint = tmp_path / "out", tmp_path / "ckpt"
    checkpoint.mkdir()
    (checkpoint / "metadata").write_text('{"id":"of-this-query"}')
    assert own(sinks.files, out).claim(spark, None) is None
    look = own(sinks.files, out).claim(spark, locate(spark, checkpoint))
    assert (out / "_sparkstream_query").read_text() == "of-this-query\n"
    assert look(-1) is None
    assert f"folder {out} lacks batch 0 of this query" in str(look(0))
