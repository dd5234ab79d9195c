"""Sum by key of a folder of sales in DuckDB: with_duckdb.py csv|json|parquet FOLDER."""

import json
import sys

import duckdb

kind, folder = sys.argv[1:]
source = {
    "csv": f"read_csv('{folder}/*.csv', header=false)",
    "json": (
        f"read_json('{folder}/*.json', columns={{SaleAmount: 'DECIMAL(12,2)',"
        " ProductKey: 'VARCHAR'})"
    ),
    "parquet": f"read_parquet('{folder}/*.parquet')",
}[kind]
key, amount = (
    ("column09", "column05") if kind == "csv" else ("ProductKey", "SaleAmount")
)
query = f"SELECT {key}, sum(CAST({amount} AS DECIMAL(12,2))) FROM {source} GROUP BY 1"  # noqa: S608 - our own
totals = duckdb.sql(query).fetchall()
print(json.dumps({"rows": sorted([key, f"{total:.2f}"] for key, total in totals)}))
