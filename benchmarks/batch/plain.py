"""Micro-batches of a few rows in plain PySpark, and how long each took.

The settings are Spark's own, or those of a properties file at its launch.
Run: plain.py sum|stateless FOLDER
"""

import json
import sys
import tempfile

from pyspark.sql import SparkSession

SALES = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct DOUBLE, Rate DOUBLE,
    SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount INT, ProfitMargin DOUBLE"""

kind, folder = sys.argv[1:]
spark = SparkSession.builder.appName("batch").getOrCreate()
with tempfile.TemporaryDirectory() as checkpoint:
    reader = (
        spark.readStream.schema(SALES)
        .option("maxFilesPerTrigger", 1)
        .option("escape", '"')
    )
    sales = reader.csv(folder)
    frame, mode = sales.where("SaleAmount > 0"), "append"
    if kind == "sum":
        frame, mode = sales.groupBy("ProductKey").agg({"SaleAmount": "sum"}), "update"
    writer = (
        frame.writeStream.format("noop")
        .outputMode(mode)
        .option("checkpointLocation", checkpoint)
    )
    query = writer.start()
    query.processAllAvailable()
    done = query.recentProgress
    query.stop()
    spark.stop()
print(
    json.dumps(
        {
            "rows": sum(progress.numInputRows for progress in done),
            "milliseconds": [
                progress.durationMs["triggerExecution"] for progress in done
            ],
        }
    )
)
