"""The query of `same.py` or of `plain.py`, with a line at the end of each phase of its start.

Run: python benchmarks/start/phases.py kit|hand FOLDER
"""

import json
import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

SCHEMA = """OrderID STRING, OrderDate STRING, Quantity STRING, DiscountPct STRING, Rate STRING,
    SaleAmount STRING, CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount STRING, ProfitMargin STRING"""


def reached(phase: str) -> None:
    """Tell that a phase has ended; `measure.py` has the time and the CPU seconds of each line."""
    print(phase, flush=True)


def totals_of(sales: DataFrame) -> DataFrame:
    """Return Orders and TotalSales of each product, the biggest first."""
    totals = sales.groupBy("ProductKey").agg(
        F.count("*").alias("Orders"),
        F.sum(F.col("SaleAmount").cast("double")).alias("TotalSales"),
    )
    return totals.orderBy(F.desc("TotalSales"))


def kit(folder: str) -> SparkSession:
    """Run the query through the kit, and return its session."""
    from sparkstream_kit import get_session, run, schemas, sinks, sources, start

    reached("imports")
    spark = get_session("sales-totals", profile="local")
    reached("session")
    totals = totals_of(sources.csv(spark, folder, schema=schemas.from_ddl(SCHEMA)))
    query = start(
        totals,
        sinks.memory("totals"),
        name="totals",
        mode="complete",
        availableNow=True,
    )
    reached("query")
    run(query)
    return spark


def hand(folder: str) -> SparkSession:
    """Run it as plain PySpark does, with the settings of its launch, and return its session."""
    reached("imports")
    spark = SparkSession.builder.appName("sales-totals").getOrCreate()
    reached("session")
    writer = totals_of(spark.readStream.schema(SCHEMA).csv(folder)).writeStream.format(
        "memory"
    )
    query = (
        writer.queryName("totals")
        .outputMode("complete")
        .trigger(availableNow=True)
        .start()
    )
    reached("query")
    query.awaitTermination()
    return spark


spark = {"kit": kit, "hand": hand}[sys.argv[1]](sys.argv[2])
reached("batch")
rows = spark.table("totals").count()
reached("result")
print(json.dumps({"rows": rows}), flush=True)
spark.stop()
