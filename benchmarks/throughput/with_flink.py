"""Sum a folder of sales by key in PyFlink, with its Table API as a stream.

Run: with_flink.py csv|json FOLDER
"""

import json
import sys

from pyflink.table import EnvironmentSettings, TableEnvironment

kind, folder = sys.argv[1:]
COLUMNS = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct DOUBLE, Rate DOUBLE,
    SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount INT, ProfitMargin DOUBLE"""
NEEDED = "ProductKey STRING, SaleAmount DECIMAL(12,2)"

table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
# Without mini-batches it sends a new total downstream for every row.
for key, value in {
    "parallelism.default": "2",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "1 s",
    "table.exec.mini-batch.size": "100000",
    "table.optimizer.agg-phase-strategy": "TWO_PHASE",
}.items():
    table.get_config().set(key, value)
table.execute_sql(
    f"CREATE TABLE sales ({COLUMNS if kind == 'csv' else NEEDED}) WITH ('connector' ="
    f" 'filesystem', 'path' = 'file://{folder}', 'format' = '{kind}')"
)
totals = {}
result = table.execute_sql(
    "SELECT ProductKey, SUM(SaleAmount) AS total FROM sales GROUP BY ProductKey"
)
with result.collect() as changes:
    for row in changes:  # of totals: the last one of a key counts
        totals[row[0]] = row[1]
print(
    json.dumps({"rows": sorted([key, f"{total:.2f}"] for key, total in totals.items())})
)
