"""Two queries on one folder of sales: the rows appended, and totals by order upserted.

They write to collections of MongoDB.

Run: python sales_to_mongodb.py URL INPUT_DIR FOLDER [--available-now]
"""

import sys
from typing import Any

from pyspark.sql import functions as F

from sparkstream_kit import jobflags, run, sinks, sources, spark_session, start

SALES = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct STRING, Rate STRING,
    SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount STRING, ProfitMargin STRING"""


@jobflags.exit_codes
def main(argv=None):
    """Run until a signal, or with a fourth argument over all that is there."""
    url, incoming, folder, *rest = sys.argv[1:] if argv is None else argv
    trigger: dict[str, Any] = (
        {"availableNow": True} if rest else {"processingTime": "0 seconds"}
    )
    with spark_session("sales-to-mongodb", profile="test") as spark:
        files = 1000 if rest else 1  # a batch
        sales = sources.csv(
            spark, incoming, schema=SALES, max_files_per_trigger=files, escape='"'
        )
        few = sales.select("OrderID", "ProductKey", "SaleAmount")
        # The rows of a replayed batch come in another order.
        append = sinks.mongodb(url, "rows").taking(
            lambda batch: batch.orderBy(F.rand())
        )
        rows = start(
            few, append, name="rows", checkpoint=f"{folder}/ckpt-rows", **trigger
        )
        orders = sales.groupBy("OrderID").agg(
            F.count("*").alias("rows"), F.sum("SaleAmount").alias("total")
        )
        upsert = sinks.mongodb(url, "totals", how="upsert", keys=["OrderID"])
        totals = start(
            orders,
            upsert,
            name="totals",
            mode="update",
            checkpoint=f"{folder}/ckpt-totals",
            **trigger,
        )
        print(run(rows, totals))
    return 0


if __name__ == "__main__":
    sys.exit(main())
