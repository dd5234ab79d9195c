"""Sum by key of a folder of sales, plain PySpark tuned by hand.

Its settings are those of a properties file at its launch; a batch takes as many bytes
as the kit's.
Run: tuned.py csv|json|parquet FOLDER [FILES_A_BATCH]
"""

import json
import sys
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

CSV = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct DOUBLE, Rate DOUBLE,
    SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount INT, ProfitMargin DOUBLE"""
NEEDED = "ProductKey STRING, SaleAmount DECIMAL(12,2)"

kind, folder, *files = sys.argv[1:]
spark = SparkSession.builder.appName("throughput").getOrCreate()
print("session is up", flush=True)
with tempfile.TemporaryDirectory() as checkpoint:
    reader = spark.readStream.format(kind).schema(CSV if kind == "csv" else NEEDED)
    if kind == "csv":
        reader = reader.option("escape", '"')
    if files:
        reader = reader.option("maxFilesPerTrigger", files[0])
    else:
        reader = reader.option("maxBytesPerTrigger", 256 * 1024**2)
    totals = (
        reader.load(folder)
        .groupBy("ProductKey")
        .agg(F.sum("SaleAmount").alias("total"))
    )
    writer = (
        totals.writeStream.format("memory").queryName("totals").outputMode("complete")
    )
    query = (
        writer.option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    rows = [
        [row.ProductKey, f"{row.total:.2f}"] for row in spark.table("totals").collect()
    ]
    print(json.dumps({"rows": sorted(rows)}), flush=True)
    spark.stop()
