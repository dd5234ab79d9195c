"""Sales files by `sources.csv`, which fails at what does not fit: strict.py FOLDER two|all."""

import json
import sys
import tempfile

from pyspark.sql import functions as F

from sparkstream_kit import get_session, run, sinks, sources, start

SALES = """OrderID BIGINT, OrderDate DATE, Quantity INT, DiscountPct DECIMAL(9,4),
    Rate DECIMAL(12,2), SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING,
    Region STRING, ProductKey STRING, RowCount INT, ProfitMargin DECIMAL(9,4)"""

folder, which = sys.argv[1:]
with get_session("strict") as spark, tempfile.TemporaryDirectory() as checkpoint:
    print("session is up", flush=True)
    sales = sources.csv(spark, folder, schema=SALES, dateFormat="M/d/yy")
    used = (
        [F.max(name).cast("string") for name in sales.columns] if which == "all" else []
    )
    good = sales.groupBy("ProductKey").agg(F.sum("SaleAmount"), *used)
    query = start(
        good,
        sinks.memory("good"),
        mode="complete",
        checkpoint=checkpoint,
        availableNow=True,
    )
    run(query)
    rows = [
        [row[0], f"{row[1]:.2f}", *row[2:]] for row in spark.table("good").collect()
    ]
    print(json.dumps({"rows": sorted(rows)}), flush=True)
