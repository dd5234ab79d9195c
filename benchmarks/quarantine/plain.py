"""Sales files by plain `readStream.csv`; all columns are used: plain.py FOLDER two|all.

Its settings are those of a properties file at its launch.
"""

import json
import sys
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

SALES = """OrderID BIGINT, OrderDate DATE, Quantity INT, DiscountPct DECIMAL(9,4),
    Rate DECIMAL(12,2), SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING,
    Region STRING, ProductKey STRING, RowCount INT, ProfitMargin DECIMAL(9,4)"""

folder, which = sys.argv[1:]
spark = SparkSession.builder.appName("quarantine").getOrCreate()
print("session is up", flush=True)
sales = (
    spark.readStream.schema(SALES)
    .option("escape", '"')
    .option("dateFormat", "M/d/yy")
    .csv(folder)
)
used = [F.max(name).cast("string") for name in sales.columns] if which == "all" else []
good = sales.groupBy("ProductKey").agg(F.sum("SaleAmount"), *used)
with tempfile.TemporaryDirectory() as checkpoint:
    writer = good.writeStream.format("memory").queryName("good").outputMode("complete")
    query = (
        writer.option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    rows = [
        [row[0], f"{row[1]:.2f}", *row[2:]] for row in spark.table("good").collect()
    ]
    print(json.dumps({"rows": sorted(rows)}), flush=True)
    spark.stop()
