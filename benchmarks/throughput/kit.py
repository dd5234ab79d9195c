"""Sum a folder of sales by key, through the kit.

Run: kit.py csv|json|parquet FOLDER [FILES_A_BATCH]
"""

import json
import sys
import tempfile

from pyspark.sql import functions as F

from sparkstream_kit import get_session, run, sinks, sources, start

CSV = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct DOUBLE, Rate DOUBLE,
    SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount INT, ProfitMargin DOUBLE"""
NEEDED = "ProductKey STRING, SaleAmount DECIMAL(12,2)"

kind, folder, *files = sys.argv[1:]
read = {"csv": sources.csv, "json": sources.json, "parquet": sources.parquet}[kind]
schema, options = (CSV, {"escape": '"'}) if kind == "csv" else (NEEDED, {})
with get_session("throughput") as spark, tempfile.TemporaryDirectory() as checkpoint:
    print("session is up", flush=True)
    sales = read(
        spark,
        folder,
        schema=schema,
        max_files_per_trigger=int(files[0]) if files else None,
        **options,
    )
    totals = sales.groupBy("ProductKey").agg(F.sum("SaleAmount").alias("total"))
    query = start(
        totals,
        sinks.memory("totals"),
        mode="complete",
        checkpoint=checkpoint,
        availableNow=True,
    )
    run(query)
    rows = [
        [row.ProductKey, f"{row.total:.2f}"] for row in spark.table("totals").collect()
    ]
    print(json.dumps({"rows": sorted(rows)}), flush=True)
