"""A million rows into a table, exactly once, through the kit: kit.py URL FOLDER_OF_PARQUET."""

import json
import sys
import tempfile

from sparkstream_kit import get_session, run, sinks, sources, start

SALES = "OrderID BIGINT, State STRING, ProductKey STRING, SaleAmount DECIMAL(12,2)"

url, folder = sys.argv[1:]
with get_session("sql") as spark, tempfile.TemporaryDirectory() as checkpoint:
    sales = sources.parquet(spark, folder, schema=SALES)
    query = start(
        sales,
        sinks.sql_table(url, "sales"),
        name="sql",
        checkpoint=checkpoint,
        availableNow=True,
    )
    summary = run(query)
print(json.dumps({"seconds": summary.queries[0].busy_seconds}))
