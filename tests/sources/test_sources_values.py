"""What Spark makes NULL without a word in CSV and JSON files: the summary and a verdict tell."""

import inspect
import json
import os
import re

import pytest
from conftest import refusal
from pyspark.sql import functions as F

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.sources import samples

pytestmark = pytest.mark.connect
SCHEMA = "id INT, amount DOUBLE, note STRING"
GOOD = {"id": 1, "amount": 2.5, "note": "a"}
SINK = sinks.foreach_batch(lambda batch, _: batch.write.format("noop").mode("overwrite").save())
READ = {"csv": sources.csv, "json": sources.json}


def line(kind, row):
    return json.dumps(row) if kind == "json" else ",".join("" if v is None else str(v) for v in row.values())


def land(folder, name, lines):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{each}\n" for each in lines))


def ran(frame, checkpoint=None):
    query = start(frame, SINK, name="values", checkpoint=checkpoint, availableNow=True)
    return run(query).queries[0]


@pytest.mark.parametrize("kept", [True, False], ids=["checkpoint", "none"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_rows_that_cannot_be_read_are_counted_and_told(spark, tmp_path, kind, *, kept):
    other = "json" if kind == "csv" else "csv"
    land(tmp_path / "in", "good", [line(kind, GOOD)] * 50)
    land(tmp_path / "in", "other", [line(other, GOOD)] * 7)
    land(tmp_path / "in", "broken", ['{"id": 1, "amo', "", '{"id" 5'] if kind == "json" else ["x", "", "y,z"])
    frame = READ[kind](spark, tmp_path / "in", schema=SCHEMA).select("id", "amount")
    done = ran(frame, tmp_path / "ck" if kept else None)
    assert (done.input_rows, done.rows_looked_at, done.null_rows, done.null_columns) == (59, 59, 9, ())
    assert "9 of 59 rows without a value" in str(done)
    [verdict] = done.verdicts
    assert verdict.text.startswith("9 of 59 rows have NULL in every column that the query reads: ")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_columns_that_are_null_in_every_row_are_told_once_there_are_enough(spark, tmp_path, kind):
    row = {"id": 1, "amont": 2.5, "note": "a"} if kind == "json" else {"id": 1, "amount": "2,5", "note": "a"}
    land(tmp_path / "in", "a", [line(kind, row)] * 99)
    options = {} if kind == "json" else {"sep": ";"}
    text = SCHEMA if kind == "json" else "amount DOUBLE"
    frame = READ[kind](spark, tmp_path / "in", schema=text, max_files_per_trigger=1, **options).select(
        "amount"
    )
    before = ran(frame, tmp_path / "ck")
    assert before.null_columns == ()
    land(tmp_path / "in", "b", [line(kind, row)] * 100)
    done = ran(frame, tmp_path / "ck")
    assert (done.rows_looked_at, done.null_rows, done.null_columns) == (100, 100, ("amount",))
    rows, column = map(str, done.verdicts)
    assert rows.startswith("100 of 100 rows have NULL in every column that the query reads")
    assert column.startswith("column amount is NULL in every row (100 rows looked at): ")


def test_good_input_brings_no_word(spark, tmp_path):
    # One column is not read; the other is optional, and an earlier run has seen a value of it.
    land(tmp_path / "in", "a", [line("json", GOOD)])
    frame = sources.json(spark, tmp_path / "in", schema=f"{SCHEMA}, other STRING").select("amount")
    ran(frame, tmp_path / "ck")
    land(tmp_path / "in", "b", [line("json", {"id": 1, "amount": None, "note": "x"})] * 120)
    done = ran(frame, tmp_path / "ck")
    assert (done.rows_looked_at, done.null_rows, done.null_columns, done.verdicts) == (120, 0, (), ())
    assert "without a value" not in str(done)
    counted = ran(frame.select(F.lit(1)))  # reads no column
    assert (counted.rows_looked_at, counted.verdicts) == (None, ())


def test_partition_columns_and_a_column_for_broken_lines_are_no_values(spark, tmp_path):
    (tmp_path / "in").mkdir()
    land(tmp_path / "in" / "day=3", "a", [line("json", GOOD)] * 100 + ["{"])
    schema = "id INT, day INT, _corrupt_record STRING"
    done = ran(sources.json(spark, tmp_path / "in", schema=schema), tmp_path / "ck")
    assert (done.rows_looked_at, done.null_rows, done.verdicts) == (101, 0, ())


def test_of_much_input_a_sample_is_looked_at(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_ALL_BYTES", 1000)
    monkeypatch.setattr(samples, "_ROWS", 10)
    for number in range(20):
        land(tmp_path / "in", f"{number:02}", [line("csv", {"id": "x", "amount": "y"})] * 30)
        os.utime(tmp_path / "in" / f"{number:02}", (number, number))
    done = ran(sources.csv(spark, tmp_path / "in", schema="id INT, amount INT"), tmp_path / "ck")
    assert (done.input_rows, done.rows_looked_at, done.null_rows) == (600, 40, 40)
    assert "40 of 40 rows looked at without a value" in str(done)


def test_the_page_says_it_too(spark, tmp_path):
    land(tmp_path / "in", "a", ["{"] * 3)
    frame = sources.json(spark, tmp_path / "in", schema=SCHEMA)
    query, board = start(frame, SINK, name="values", checkpoint=tmp_path / "ck", availableNow=True), Board()
    board.watch([query])
    run(query, on_batch=board.add)
    [picture] = board.pictures()
    assert [str(each).partition(" that")[0] for each in picture.verdicts] == [
        "3 of 3 rows have NULL in every column"
    ]


def test_joined_sources_are_looked_at_each_by_its_own_columns(spark, tmp_path):
    land(tmp_path / "a", "a", [line("json", GOOD)] * 2)
    land(tmp_path / "b", "b", ["1,2", "x,y", "x,2"])
    left = sources.json(spark, tmp_path / "a", schema=SCHEMA).select("id")
    right = sources.csv(spark, tmp_path / "b", schema="id INT, x INT")
    done = ran(left.union(right.select("id")).union(right.select("x")), tmp_path / "ck")
    assert (done.rows_looked_at, done.null_rows) == (5, 1)


@pytest.mark.parametrize("kind", ["csv", "json", "orc", "parquet"])
def test_without_a_schema_one_line_says_where_to_get_one(spark, tmp_path, kind):
    assert refusal(getattr(sources, kind), spark, tmp_path) == (
        f"sources.{kind}() needs a schema: give schema='name STRING, amount INT' or a StructType; "
        f"`sparkstream schema {tmp_path}` prints that of the files"
    )


@pytest.mark.parametrize("name", ["csv", "json", "orc", "parquet", "rate", "socket_lines", "table", "text"])
def test_each_argument_of_a_source_is_described(name):
    call = getattr(sources, name)
    described = re.findall(r"^    (\*{0,2}\w+): ", inspect.getdoc(call) or "", re.MULTILINE)
    assert [each.strip("*") for each in described if each != "InvalidInputError"] == [
        *inspect.signature(call).parameters
    ]
