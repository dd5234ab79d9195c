"""A million rows into SQLite as course notes write it: naive.py FILE FOLDER_OF_PARQUET."""

import json
import sqlite3
import sys
from typing import Any

from pyspark.sql import DataFrame, SparkSession

path, folder = sys.argv[1:]


def write(batch: DataFrame, batch_id: int) -> None:  # noqa: ARG001 - Spark's own signature
    """Append a batch."""
    rows: Any = batch.toPandas()
    connection = sqlite3.connect(path)
    rows.astype({"SaleAmount": "float"}).to_sql(
        "sales", connection, if_exists="append", index=False
    )
    connection.close()


spark = SparkSession.builder.appName("sql").getOrCreate()
schema = "OrderID BIGINT, State STRING, ProductKey STRING, SaleAmount DECIMAL(12,2)"
sales = spark.readStream.schema(schema).parquet(folder)
query = sales.writeStream.foreachBatch(write).trigger(availableNow=True).start()
query.awaitTermination()
print(
    json.dumps(
        {
            "seconds": (
                sum(p.durationMs["triggerExecution"] for p in query.recentProgress)
                / 1000
            )
        }
    )
)
spark.stop()
