"""The query of `plain.py` through the kit, without a check of lines.

It has a session, a source, a sink, `start` and `run`.
"""

import csv
import sys
from pathlib import Path

from pyspark.sql import functions as F

from sparkstream_kit import run, schemas, sinks, sources, spark_session, start

SCHEMA = """OrderID STRING, OrderDate STRING, Quantity STRING, DiscountPct STRING, Rate STRING,
    SaleAmount STRING, CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount STRING, ProfitMargin STRING"""

with spark_session("sales-totals", profile=sys.argv[2]) as spark:
    sales = sources.csv(spark, Path(sys.argv[1]), schema=schemas.from_ddl(SCHEMA))
    totals = (
        sales.groupBy("ProductKey")
        .agg(
            F.count("*").alias("Orders"),
            F.sum(F.col("SaleAmount").cast("double")).alias("TotalSales"),
        )
        .orderBy(F.desc("TotalSales"))
    )
    run(
        start(
            totals,
            sinks.memory("totals"),
            name="totals",
            mode="complete",
            availableNow=True,
        )
    )
    csv.writer(sys.stdout).writerows(spark.sql("SELECT * FROM totals").collect())
    sys.stdout.flush()
