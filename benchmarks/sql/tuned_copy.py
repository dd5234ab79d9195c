"""A million rows into PostgreSQL in plain PySpark tuned by hand, without a ledger.

A batch is collected into the driver's memory, and goes by one COPY and a merge in one transaction.
A batch that is replayed is written twice.
Run: tuned_copy.py URL FOLDER_OF_PARQUET
"""

import json
import sys
import tempfile

import psycopg
import pyarrow.csv
from pyarrow import BufferOutputStream
from pyspark.sql import DataFrame, SparkSession

SALES = "OrderID BIGINT, State STRING, ProductKey STRING, SaleAmount DECIMAL(12,2)"
COLUMNS = '("OrderID" BIGINT, "State" TEXT, "ProductKey" TEXT, "SaleAmount" NUMERIC(12,2))'

url, folder = sys.argv[1:]


def write(batch: DataFrame, batch_id: int) -> None:  # noqa: ARG001 - Spark's own signature
    """Insert a batch in one transaction."""
    text = BufferOutputStream()
    pyarrow.csv.write_csv(batch.toArrow(), text, pyarrow.csv.WriteOptions(include_header=False))
    with psycopg.connect(url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS sales {COLUMNS}".encode())
        cursor.execute(f"CREATE TEMPORARY TABLE stage {COLUMNS} ON COMMIT DROP".encode())
        with cursor.copy("COPY stage FROM STDIN (FORMAT CSV)") as copy:
            copy.write(memoryview(text.getvalue()))
        cursor.execute("INSERT INTO sales SELECT * FROM stage")


spark = SparkSession.builder.appName("sql").getOrCreate()
with tempfile.TemporaryDirectory() as checkpoint:
    writer = spark.readStream.schema(SALES).parquet(folder).writeStream.foreachBatch(write)
    query = writer.option("checkpointLocation", checkpoint).trigger(availableNow=True).start()
    query.awaitTermination()
    busy = sum(progress.durationMs["triggerExecution"] for progress in query.recentProgress)
    spark.stop()
print(json.dumps({"seconds": busy / 1000}))
