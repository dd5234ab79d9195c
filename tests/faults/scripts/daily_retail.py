"""Daily turnover of a shop by region into SQLite, as a new user would write it.

Unusable lines are kept aside.

Run: spark-submit --py-files sparkstream_kit.zip daily_retail.py INPUT_DIR REGIONS
OUT_DIR [--available-now]
"""

import sys
from typing import Any

import sparkstream_kit
from sparkstream_kit import (
    joins,
    quarantine,
    run,
    schemas,
    sinks,
    sources,
    spark_session,
    start,
    windows,
)

RETAIL = """InvoiceNo STRING NOT NULL, StockCode STRING, Description STRING,
    Quantity INT NOT NULL, InvoiceDate TIMESTAMP NOT NULL,
    UnitPrice DECIMAL(10,2) NOT NULL, CustomerID STRING, Country STRING"""
RULES = {"UnitPrice >= 0": "quarantine", "CustomerID IS NOT NULL": "warn"}


def checked(lines):
    rows = quarantine.parse_csv(
        lines, schemas.from_ddl(RETAIL), header=True, timestamp_format="M/d/yyyy H:mm"
    )
    # The files were copied in one go, and a file holds any day of the year.
    return windows.with_watermark(
        quarantine.expect(rows, RULES), "InvoiceDate", "400 days"
    )


def by_day(rows, regions):
    from pyspark.sql import functions as F

    sales = joins.with_table(rows, regions, on="Country").withColumn(
        "Region", F.coalesce("Region", F.lit("elsewhere"))
    )
    days = sales.groupBy(windows.tumbling("InvoiceDate", "1 day"), "Region")
    turnover = (
        F.sum(F.col("Quantity") * F.col("UnitPrice"))
        .cast("decimal(18,2)")
        .alias("turnover")
    )
    return windows.flatten(days.agg(F.count("*").alias("lines"), turnover))


def main(folder, table, out, *flags):
    how: dict[str, Any] = {"availableNow": True} if "--available-now" in flags else {}

    def queries(spark):
        regions = spark.read.csv(table, header=True)
        lines = sources.text(spark, folder, max_files_per_trigger=1000 if how else 2)
        days = by_day(quarantine.good_rows(checked(lines)), regions)
        daily = sinks.sql_table(
            f"sqlite:///{out}/shop.db", "daily", how="upsert", keys=["start", "Region"]
        )
        yield start(
            days,
            daily,
            name="daily",
            mode="update",
            checkpoint=f"{out}/ckpt/daily",
            **how,
        )
        bad = quarantine.bad_rows(checked(lines))
        yield start(
            bad,
            sinks.batch_files(f"{out}/bad"),
            name="bad",
            checkpoint=f"{out}/ckpt/bad",
            **how,
        )

    with spark_session("daily-retail", profile="local") as spark:
        sys.stderr.write(f"{run(*queries(spark))}\n")
    sys.stderr.write(f"the kit is {sparkstream_kit.__file__}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
