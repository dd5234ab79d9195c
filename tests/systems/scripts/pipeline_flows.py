"""Functions of a pipeline, one for each helper, and the same as queries of their own.

In a pipeline: `import pipeline_flows; pipeline_flows.register()`.
Outside: python pipeline_flows.py run INPUT OUTPUT, and then, for the rows of each table as
JSON: python pipeline_flows.py show FOLDER, of the output or of the pipeline's warehouse.
"""

import json
import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkstream_kit import (
    get_session,
    joins,
    quarantine,
    schemas,
    sources,
    start,
    windows,
)
from sparkstream_kit.sinks import files

SALES = "shop STRING, product STRING NOT NULL, amount DECIMAL(9,2), time TIMESTAMP"
LIKES = "product STRING, liked TIMESTAMP, tags ARRAY<STRING>, who STRUCT<name: STRING>"
HOUR = "1 hour"
RULES = {"amount > 10": "quarantine", "shop <> 'a'": "warn"}
INPUT = "PIPELINE_INPUT"  # the environment variable with the folder of all inputs


def folder(name):
    return f"{os.environ[INPUT]}/{name}"


def lines(spark):
    return sources.text(spark, folder("csv"), pathGlobFilter="*.csv")


def parsed(spark):
    return quarantine.parse_csv(lines(spark), SALES, header=True)


def sales(spark):
    return sources.csv(spark, folder("good"), schema=SALES, header=True)


def timed(spark):
    return windows.with_watermark(sales(spark), "time", "10 minutes")


def likes(spark):
    schema = schemas.from_ddl(LIKES)
    rows = quarantine.parse_json(sources.text(spark, folder("json")), schema)
    return quarantine.good_rows(windows.with_watermark(rows, "liked", "10 minutes"))


def products(spark):
    reader = spark.read.schema("PRODUCT STRING, price DECIMAL(9,2)")
    return reader.csv(folder("products"))


def by_hour(rows):
    return rows.groupBy(windows.tumbling("time", HOUR), "shop").agg(
        F.sum("amount").alias("total")
    )


# By its table: a function of the session and of what reads a table as a stream. Those
# that read another table come after it.
FLOWS = {
    # sources
    "text": lambda spark, _: lines(spark),
    "csv": lambda spark, _: sales(spark),
    "csv_lenient": lambda spark, _: sources.csv(
        spark, folder("csv"), schema=SALES, mode="PERMISSIVE", nulls="NA"
    ),
    "json": lambda spark, _: sources.json(spark, folder("json_good"), schema=LIKES),
    "parquet": lambda spark, _: sources.parquet(
        spark, folder("parquet"), schema="id BIGINT, n SMALLINT"
    ),
    "orc": lambda spark, _: sources.orc(spark, folder("orc"), schema="id BIGINT"),
    "by_day": lambda spark, _: sources.text(
        spark, folder("by_day"), partitions="day STRING"
    ),
    # quarantine, of a source
    "parsed_csv": lambda spark, _: parsed(spark),
    "parsed_json": lambda spark, _: quarantine.parse_json(
        sources.text(spark, folder("json")), LIKES
    ),
    "parsed_log": lambda spark, _: quarantine.parse_log(
        sources.text(spark, folder("log"))
    ),
    "bad_here": lambda spark, _: quarantine.bad_rows(parsed(spark)),
    "good_here": lambda spark, _: quarantine.good_rows(parsed(spark)),
    "marked_here": lambda spark, _: quarantine.mark_bad(
        parsed(spark), F.when(F.col("amount") < 0, "amount: below 0")
    ),
    "expected_here": lambda spark, _: quarantine.expect(parsed(spark), RULES),
    "strict_here": lambda spark, _: quarantine.expect(
        sales(spark), {"product IS NOT NULL": "fail"}
    ),
    # quarantine, of another table
    "good": lambda _, table: quarantine.good_rows(table("parsed_csv")),
    "bad": lambda _, table: quarantine.bad_rows(table("parsed_csv")),
    "marked": lambda _, table: quarantine.mark_bad(
        table("parsed_csv"), F.when(F.col("amount") < 0, "amount: below 0")
    ),
    "expected": lambda _, table: quarantine.expect(table("parsed_csv"), RULES),
    "checked": lambda _, table: quarantine.good_rows(
        quarantine.expect(table("csv"), RULES)
    ),
    "parsed_again": lambda _, table: quarantine.parse_csv(table("text"), SALES),
    # windows
    "timed": lambda spark, _: timed(spark),
    "hours": lambda spark, _: by_hour(timed(spark)),
    "hours_flat": lambda spark, _: windows.flatten(by_hour(timed(spark))),
    "slides": lambda spark, _: windows.flatten(
        timed(spark).groupBy(windows.sliding("time", HOUR, "30 minutes")).count()
    ),
    "sessions": lambda spark, _: windows.flatten(
        timed(spark).groupBy(windows.session("time", HOUR), "shop").count(),
        "session_window",
    ),
    "days": lambda spark, _: windows.flatten(
        windows.calendar(timed(spark), "time", "day", zone="Europe/Berlin")
        .groupBy("window")
        .count()
    ),
    "hours_of_table": lambda _, table: windows.flatten(table("hours")),
    # joins
    "priced": lambda spark, table: joins.with_table(
        table("csv"), products(spark), on="product"
    ),
    "priced_here": lambda spark, _: joins.with_table(
        sales(spark), products(spark), on="product", how="inner"
    ),
    "unpriced": lambda spark, table: joins.with_table(
        table("csv"), products(spark), on="product", how="left_anti"
    ),
    "liked": lambda spark, _: joins.within(
        quarantine.good_rows(timed(spark)),
        likes(spark),
        on="product",
        left_time="time",
        right_time="liked",
        within=HOUR,
        how="left",
    ),
}
# Tables of a batch, each from all rows of a table
VIEWS = {
    "top_sales": lambda table: windows.top(2, by="amount")(table("csv")),
    "top_of_shop": lambda table: windows.top(1, by="amount", each=["shop"])(
        table("csv")
    ),
}


def register():
    """Make the tables of the pipeline in whose file this is called."""
    from pyspark import pipelines as dp

    spark = SparkSession.active()
    for name, flow in FLOWS.items():
        dp.table(lambda flow=flow: flow(spark, spark.readStream.table), name=name)
    for name, view in VIEWS.items():
        dp.materialized_view(lambda view=view: view(spark.table), name=name)


def run(given, output):
    """Run each function as a query, over the tables that the queries before it wrote."""
    os.environ[INPUT] = given
    spark = get_session("outside", conf={"spark.ui.enabled": "false"})

    def table(name):
        static = spark.read.parquet(f"{output}/{name}")
        return spark.readStream.schema(static.schema).parquet(f"{output}/{name}")

    for name, flow in FLOWS.items():
        sink = files(f"{output}/{name}", format="parquet")
        query = start(
            flow(spark, table),
            sink,
            name=name,
            checkpoint=f"{output}/../checkpoints/{name}",
            availableNow=True,
        )
        query.awaitTermination()
    for name, view in VIEWS.items():
        rows = view(lambda name: spark.read.parquet(f"{output}/{name}"))
        rows.write.mode("overwrite").parquet(f"{output}/{name}")


def show(folder):
    """Print the columns and rows of each table in a folder."""
    spark = get_session("show", conf={"spark.ui.enabled": "false"})
    shown = {}
    for path in sorted(Path(folder).iterdir()):
        rows = spark.read.parquet(str(path))
        shown[path.name] = [
            rows.schema.simpleString(),
            sorted(row[0] for row in rows.select(F.to_json(F.struct("*"))).collect()),
        ]
    print(json.dumps(shown))


if __name__ == "__main__":
    {"run": run, "show": show}[sys.argv[1]](*sys.argv[2:])
