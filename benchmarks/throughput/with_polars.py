"""Sum by key of a folder of sales in Polars: with_polars.py csv|json|parquet FOLDER."""

import json
import sys

import polars as pl

kind, folder = sys.argv[1:]
if kind == "csv":
    sales = pl.scan_csv(f"{folder}/*.csv", has_header=False).rename(
        {"column_5": "SaleAmount", "column_9": "ProductKey"}
    )
elif kind == "json":
    schema = {"SaleAmount": pl.Float64, "ProductKey": pl.String}
    sales = pl.scan_ndjson(f"{folder}/*.json", schema=schema)
else:
    sales = pl.scan_parquet(f"{folder}/*.parquet")
totals = (
    sales.group_by("ProductKey")
    .agg(pl.col("SaleAmount").sum())
    .collect(engine="streaming")
)
print(
    json.dumps(
        {"rows": sorted([key, f"{total:.2f}"] for key, total in totals.iter_rows())}
    )
)
