"""Sum by key of a folder of sales, as course notes write it: naive.py csv|json|parquet FOLDER.

No settings, all columns text (Parquet has its own types), all of the folder in one
batch.
"""

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

SCHEMA = """OrderID STRING, OrderDate STRING, Quantity STRING, DiscountPct STRING, Rate STRING,
    SaleAmount STRING, CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount STRING, ProfitMargin STRING"""

kind, folder = sys.argv[1:]
spark = SparkSession.builder.appName("throughput").getOrCreate()
print("session is up", flush=True)
schema = spark.read.parquet(folder).schema if kind == "parquet" else SCHEMA
sales = spark.readStream.format(kind).schema(schema).load(folder)
totals = sales.groupBy("ProductKey").agg(
    F.sum(F.col("SaleAmount").cast("double")).alias("total")
)
query = (
    totals.writeStream.format("memory")
    .queryName("totals")
    .outputMode("complete")
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
rows = [[row.ProductKey, f"{row.total:.2f}"] for row in spark.table("totals").collect()]
print(json.dumps({"rows": sorted(rows)}), flush=True)
spark.stop()
