"""Read sales files through the kit, with their bad lines kept and all columns used.

Run: kit.py FOLDER two|all
"""

import json
import sys
import tempfile

from pyspark.sql import functions as F

from sparkstream_kit import get_session, quarantine, run, schemas, sinks, sources, start

SALES = """OrderID BIGINT, OrderDate DATE, Quantity INT, DiscountPct DECIMAL(9,4),
    Rate DECIMAL(12,2), SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING,
    Region STRING, ProductKey STRING, RowCount INT, ProfitMargin DECIMAL(9,4)"""

folder, which = sys.argv[1:]
with get_session("quarantine") as spark, tempfile.TemporaryDirectory() as checkpoint:
    print("session is up", flush=True)
    schema = schemas.from_ddl(SALES)
    parsed = quarantine.parse_csv(
        sources.text(spark, folder), schema, date_format="M/d/yy"
    )
    used = (
        [F.max(name).cast("string") for name in schema.names] if which == "all" else []
    )
    good = (
        quarantine.good_rows(parsed)
        .groupBy("ProductKey")
        .agg(F.sum("SaleAmount"), *used)
    )
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
