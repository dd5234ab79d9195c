"""A million rows into a table in plain PySpark tuned by hand, without a ledger.

One transaction a batch and Arrow instead of rows, all in the driver's memory; into
PostgreSQL by one COPY and a merge. A batch that is replayed is written twice.
Run: tuned.py URL FOLDER_OF_PARQUET
"""

import json
import sqlite3
import sys
import tempfile
from contextlib import closing

import psycopg
import pyarrow.csv
from pyarrow import BufferOutputStream
from pyspark.sql import DataFrame, SparkSession

SALES = "OrderID BIGINT, State STRING, ProductKey STRING, SaleAmount DECIMAL(12,2)"
COLUMNS = (
    '("OrderID" BIGINT, "State" TEXT, "ProductKey" TEXT, "SaleAmount" NUMERIC(12,2))'
)

url, folder = sys.argv[1:]


def into_sqlite(batch: DataFrame, batch_id: int) -> None:  # noqa: ARG001 - Spark's own signature
    """Insert a batch in one transaction."""
    columns = (
        batch.selectExpr(*batch.columns[:3], "CAST(SaleAmount AS STRING)")
        .toArrow()
        .columns
    )
    with (
        closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection,
        connection,
    ):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS sales (OrderID INT, State TEXT, ProductKey"
            " TEXT, SaleAmount TEXT)"
        )
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", rows)


def into_postgresql(batch: DataFrame, batch_id: int) -> None:  # noqa: ARG001 - Spark's own signature
    """Insert a batch in one transaction."""
    text = BufferOutputStream()
    pyarrow.csv.write_csv(
        batch.toArrow(), text, pyarrow.csv.WriteOptions(include_header=False)
    )
    with (
        psycopg.connect(url.replace("+psycopg", "")) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"CREATE TABLE IF NOT EXISTS sales {COLUMNS}".encode())
        cursor.execute(
            f"CREATE TEMPORARY TABLE stage {COLUMNS} ON COMMIT DROP".encode()
        )
        with cursor.copy("COPY stage FROM STDIN (FORMAT CSV)") as copy:
            copy.write(memoryview(text.getvalue()))
        cursor.execute("INSERT INTO sales SELECT * FROM stage")


spark = SparkSession.builder.appName("sql").getOrCreate()
with tempfile.TemporaryDirectory() as checkpoint:
    write = into_sqlite if url.startswith("sqlite:") else into_postgresql
    writer = (
        spark.readStream.schema(SALES).parquet(folder).writeStream.foreachBatch(write)
    )
    query = (
        writer.option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    busy = sum(
        progress.durationMs["triggerExecution"] for progress in query.recentProgress
    )
    spark.stop()
print(json.dumps({"seconds": busy / 1000}))
