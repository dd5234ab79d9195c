"""`stream.flow`: a function of a Spark pipeline over streams of a test."""

import pytest
from conftest import program, refusal

from sparkstream_kit.testing import streams

PIPELINE = """
from pyspark import pipelines as dp
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkstream_kit import quarantine

spark = SparkSession.active()


def incoming(of="anything"):
    return spark.readStream.text(of)


@dp.table
def sales():
    return incoming(of="incoming").where("amount > 0")


@dp.table(name="good_sales")
def good():
    return quarantine.good_rows(spark.readStream.table("checked"))


@dp.materialized_view
def totals():
    return spark.table("good_sales").groupBy("shop").agg(F.sum("amount").alias("total"))


dp.create_streaming_table("both")


@dp.append_flow(target="both")
def from_sales():
    return spark.readStream.table("sales").union(spark.readStream.table("good_sales"))
"""
SALES = "shop STRING, amount INT"


@pytest.fixture
def pipeline(tmp_path):
    program(tmp_path / "sales.py", PIPELINE)
    return tmp_path / "sales.py"


@pytest.mark.connect
def test_a_source_and_a_table_of_a_pipeline_are_streams_of_the_test(stream, pipeline):
    given, checked = stream(SALES), stream(f"{SALES}, _reason STRING")
    sales = stream.query(stream.flow(pipeline, "sales", incoming=given))
    good = stream.query(stream.flow(pipeline, "good_sales", checked=checked))
    given.add_data([("a", 1), ("b", 0)])
    checked.add_data([("a", 1, None), ("b", 0, "breaks")])
    [of_sales], [of_good] = sales.step(), good.step()
    assert of_sales.rows == of_good.rows == [("a", 1)]
    good.kill_before_commit()
    assert [batch.rows for batch in good.step()] == [[("a", 1)]]


@pytest.mark.connect
def test_a_table_of_a_test_is_gone_after_it(spark, pipeline):
    with streams(spark) as stream:
        checked = stream(f"{SALES}, _reason STRING")
        stream.flow(pipeline, "good_sales", checked=checked)
        assert spark.catalog.tableExists("checked")
    assert not spark.catalog.tableExists("checked")


def test_a_table_is_one_stream_in_a_test(stream, pipeline):
    checked, other = (stream(f"{SALES}, _reason STRING") for _ in range(2))
    stream.flow(pipeline, "good_sales", checked=checked)
    stream.flow(pipeline, "good_sales", checked=checked)
    assert refusal(stream.flow, pipeline, "good_sales", checked=other) == (
        "flow(): table checked is another stream than before in this test; give the same"
        " one, or write a test for each"
    )


@pytest.mark.slow
def test_a_view_and_a_flow_of_several_tables_are_called_too(stream, pipeline):
    sales, good = stream(SALES), stream(SALES)
    totals = stream.query(
        stream.flow(pipeline, "totals", good_sales=good), mode="complete"
    )
    both = stream.query(
        stream.flow(pipeline, "from_sales", sales=sales, good_sales=good)
    )
    good.add_data([("a", 1), ("a", 2)])
    sales.add_data([("b", 5)])
    assert [batch.rows for batch in totals.step()] == [[("a", 3)]]
    totals.kill_before_commit()
    assert [batch.rows for batch in totals.step()] == [[("a", 3)]]
    rows = [row for batch in both.step() for row in batch.rows]
    assert sorted(rows) == [("a", 1), ("a", 2), ("b", 5)]


def test_a_file_or_a_table_that_is_not_there_is_one_line(stream, pipeline):
    said = refusal(stream.flow, pipeline, "god_sales")
    assert said.endswith(
        "has no table or flow god_sales; did you mean good_sales?; give one of: sales,"
        " good_sales, totals, from_sales"
    )
    said = refusal(stream.flow, pipeline.parent, "sales")
    assert "is no file; give the file with its functions" in said
