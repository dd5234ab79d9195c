"""Columns that are read from the plan, as a function of a pipeline needs them."""

import os
from contextlib import contextmanager

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import joins, quarantine, sources, windows
from sparkstream_kit._internal import columns
from sparkstream_kit._internal.columns import OBSERVED
from sparkstream_kit._internal.spark import shapes
from sparkstream_kit._internal.spark.session import may_ask
from sparkstream_kit.errors import InvalidInputError

pytestmark = [
    pytest.mark.connect,
    pytest.mark.skipif(
        "SPARK_REMOTE" not in os.environ, reason="of Spark Connect alone"
    ),
]

SALES = "shop STRING, amount DECIMAL(9,2), time TIMESTAMP, tags ARRAY<STRING>"
TABLE = "a_table_of_the_pipeline"


@contextmanager
def function_of_a_pipeline(spark, flow="a_flow"):
    """Let Spark refuse questions, as it does in a function of a pipeline."""
    from pyspark.pipelines.add_pipeline_analysis_context import (
        add_pipeline_analysis_context,
    )

    with add_pipeline_analysis_context(spark, "a_pipeline", flow):
        yield


def sales(spark, folder):
    return spark.readStream.schema(SALES).json(str(folder))


def timed(spark, folder):
    return sales(spark, folder).withWatermark("time", "10 minutes")


# Plans of which all columns can be read
WHOLE = {
    "columns": lambda rows: rows.select("shop", "`amount`", F.col("TIME")),
    "all": lambda rows: rows.select("shop", "amount").select("*", F.lit(1).alias("n")),
    "types": lambda rows: rows.select(
        F.col("amount").cast("string"),
        F.col("shop").cast(T.IntegerType()).alias("n"),
        F.coalesce(F.lit(None), F.col("time")).alias("then"),
        F.when(F.col("shop") == "a", F.col("tags")).alias("some"),
    ),
    "alias": lambda rows: rows.select("shop").alias("x").select("x.shop"),
    "with columns": lambda rows: rows.select("shop", "amount").withColumns(
        {"SHOP": F.lit(1), "more": F.col("amount")}
    ),
    "renamed": lambda rows: rows.select("shop", "tags").withColumnRenamed("shop", "at"),
    "dropped": lambda rows: rows.select("shop", "amount", "tags").drop("tags", "none"),
    "all but": lambda rows: rows.select("shop", "`a``b`").select(
        F.expr("* EXCEPT (`a``b`)")
    ),
    "counted": lambda rows: (
        rows.select("shop")
        .observe("counts", F.count("*").alias("n"))
        .where("shop > ''")
        .limit(3)
    ),
    "to_df": lambda rows: rows.select("shop", "amount").toDF("a", "b"),
    "hours": lambda rows: (
        rows.withWatermark("time", "1 minute")
        .groupBy(F.window("time", "1 hour"), "shop")
        .agg(F.sum("amount").alias("total"))
    ),
    "sessions": lambda rows: (
        rows.withWatermark("time", "1 minute")
        .groupBy(F.session_window("time", "1 hour").alias("s"))
        .count()
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_columns_of_a_plan_are_those_that_spark_says(spark, tmp_path, name):
    rows = sales(spark, tmp_path)
    if name == "all but":
        rows = rows.withColumn("a`b", F.lit(1))
    frame = WHOLE[name](rows)
    expected = frame.schema
    with function_of_a_pipeline(spark):
        shape = shapes.shape_of(frame)
    assert shape.is_whole
    assert shape.names == expected.names
    for found, wanted in zip(shape.fields, expected, strict=True):
        if shapes.is_known(found.dataType):
            # Spark says of more columns that they are never null
            assert found.dataType.simpleString() == wanted.dataType.simpleString()
        # Of its own windows Spark notes in the metadata that they are windows
        assert columns.watermark_of(found) == columns.watermark_of(wanted)


def test_a_column_that_only_spark_can_know_has_no_type(spark, tmp_path):
    frame = sales(spark, tmp_path).select(
        F.upper("shop").alias("shop"), F.upper("shop")
    )
    with function_of_a_pipeline(spark):
        shape = shapes.shape_of(frame)
    assert shape.parts[1] is None
    assert shape.names == ["shop"]
    assert not shapes.is_known(shape.fields[0].dataType)


def test_in_the_file_of_a_pipeline_above_its_functions_spark_is_asked(spark):
    assert may_ask(spark)
    with function_of_a_pipeline(spark, flow=None):
        assert may_ask(spark)
    with function_of_a_pipeline(spark):
        assert not may_ask(spark)
    assert may_ask(spark)


def test_a_table_and_the_folders_of_files_have_columns_that_are_not_known(
    spark, tmp_path
):
    with function_of_a_pipeline(spark):
        with pytest.raises(AnalysisException, match="ATTEMPT_ANALYSIS"):
            sales(spark, tmp_path).columns  # noqa: B018 - the server is asked
        table = spark.readStream.table(TABLE)
        assert shapes.shape_of(table).parts == (None,)
        files = shapes.shape_of(sales(spark, tmp_path))
        assert (files.is_whole, files.first(), len(files.fields)) == (False, "shop", 4)
        assert shapes.shape_of(sources.text(spark, tmp_path)).is_whole
        counted = shapes.shape_of(table.select("*", F.lit(1).alias("n")))
        assert (counted.first(), counted.names) == (None, ["n"])


def test_a_plan_shows_whether_it_streams_and_gives_files(spark, tmp_path):
    (tmp_path / "a").write_text("x\n")
    lines = sources.text(spark, tmp_path)
    with function_of_a_pipeline(spark):
        assert shapes.streams(lines)
        assert shapes.streams(spark.read.text("x")) is False
        assert shapes.streams(spark.sql("SELECT 1")) is None
        assert shapes.gives_file(lines.where("value > ''"))
        assert not shapes.gives_file(lines.groupBy("value").count())
        assert not shapes.gives_file(spark.readStream.table(TABLE))
        assert shapes.text_below(lines) == (True, [])
        assert shapes.text_below(lines.repartition(2)) == (True, ["repartition"])
        assert shapes.text_below(spark.readStream.table(TABLE)) == (False, [])


def test_rows_that_a_step_before_has_counted_are_known(spark, tmp_path):
    rows = sources.json(spark, tmp_path, schema=SALES)
    with function_of_a_pipeline(spark):
        once = quarantine.expect(rows, {"amount > 1": "quarantine"})
        late = windows.with_watermark(rows, "time", "1 minute")
        assert shapes.counts_rows(once, OBSERVED)
        assert not shapes.counts_rows(rows, OBSERVED)
        assert not shapes.counts_rows(late, OBSERVED)  # which counts bad rows alone


REFUSED = {
    "columns: amont": lambda rows: windows.flatten(rows, "amont"),
    "no timestamp": lambda rows: windows.with_watermark(rows, "amount", "1 minute"),
    "a watermark twice": lambda rows: windows.with_watermark(
        rows.withWatermark("time", "1 minute"), "time", "1 minute"
    ),
    "no reason": quarantine.good_rows,
    "no window": lambda rows: windows.flatten(rows, "time"),
    "other keys": lambda rows: joins.with_table(
        rows, rows.sparkSession.range(1).withColumnRenamed("id", "shop"), on="shop"
    ),
    "no watermark": lambda rows: joins.within(
        rows,
        rows.select("shop", F.col("time").alias("then")),
        on="shop",
        left_time="time",
        right_time="then",
        within="1 minute",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_mistake_that_the_plan_shows_is_refused_as_by_spark(spark, tmp_path, what):
    rows = sources.json(spark, tmp_path, schema=SALES)
    with pytest.raises(InvalidInputError) as outside:
        REFUSED[what](rows)
    with function_of_a_pipeline(spark), pytest.raises(InvalidInputError) as inside:
        REFUSED[what](rows)
    assert str(inside.value) == str(outside.value)


def test_what_only_spark_knows_is_one_line(spark, tmp_path):
    with function_of_a_pipeline(spark):
        with pytest.raises(
            InvalidInputError, match="make the schema above the function"
        ):
            sources.json(spark, tmp_path, schema="a STRING COLLATE UTF8_LCASE")
        with pytest.raises(
            InvalidInputError, match="call the source above the function"
        ):
            sources.csv(spark, tmp_path, schema="a DECIMAL(3,1)", locale="de-DE")
        table = spark.readStream.table(TABLE)
        with pytest.raises(InvalidInputError, match="read its source in this function"):
            windows.with_watermark(table, "time", "1 minute")
