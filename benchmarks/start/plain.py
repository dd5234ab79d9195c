"""Sales totals of a folder, as course notes write it: in plain PySpark, without settings.

All columns are text, and the result is an in-memory table. With a properties file at
its launch it is the hand-tuned one.
"""

import csv
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

SCHEMA = """OrderID STRING, OrderDate STRING, Quantity STRING, DiscountPct STRING, Rate STRING,
    SaleAmount STRING, CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount STRING, ProfitMargin STRING"""

spark = SparkSession.builder.appName("sales-totals").getOrCreate()
sales = spark.readStream.schema(SCHEMA).csv(sys.argv[1])
totals = (
    sales.groupBy("ProductKey")
    .agg(
        F.count("*").alias("Orders"),
        F.sum(F.col("SaleAmount").cast("double")).alias("TotalSales"),
    )
    .orderBy(F.desc("TotalSales"))
)
query = (
    totals.writeStream.format("memory")
    .queryName("totals")
    .outputMode("complete")
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
csv.writer(sys.stdout).writerows(spark.sql("SELECT * FROM totals").collect())
sys.stdout.flush()
spark.stop()
