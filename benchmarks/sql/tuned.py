"""A million rows into SQLite in plain PySpark tuned by hand, without a ledger.

One transaction a batch and Arrow instead of rows; a batch that is replayed is written twice.
Run: tuned.py FILE FOLDER_OF_PARQUET
"""

import json
import sqlite3
import sys
import tempfile
from contextlib import closing

from pyspark.sql import DataFrame, SparkSession

SALES = "OrderID BIGINT, State STRING, ProductKey STRING, SaleAmount DECIMAL(12,2)"

path, folder = sys.argv[1:]


def write(batch: DataFrame, batch_id: int) -> None:  # noqa: ARG001 - Spark's own signature
    """Insert a batch in one transaction."""
    columns = batch.selectExpr(*batch.columns[:3], "CAST(SaleAmount AS STRING)").toArrow().columns
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS sales (OrderID INT, State TEXT, ProductKey TEXT, SaleAmount TEXT)"
        )
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", rows)


spark = SparkSession.builder.appName("sql").getOrCreate()
with tempfile.TemporaryDirectory() as checkpoint:
    writer = spark.readStream.schema(SALES).parquet(folder).writeStream.foreachBatch(write)
    query = writer.option("checkpointLocation", checkpoint).trigger(availableNow=True).start()
    query.awaitTermination()
    busy = sum(progress.durationMs["triggerExecution"] for progress in query.recentProgress)
    spark.stop()
print(json.dumps({"seconds": busy / 1000}))
