"""Append what Spark gives as Arrow to an Iceberg table by hand, with pyiceberg.

It does what `kit.py` does, but at least once.
Run: by_hand.py FOLDER
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from pyiceberg.catalog import load_catalog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from truth import BATCH, whole  # type: ignore[import-not-found]

BATCHES, WARM = 6, 2

folder = Path(sys.argv[1])
folder.mkdir(parents=True)
uri = f"sqlite:///{folder}/catalog.db"
catalog = load_catalog("default", type="sql", uri=uri, warehouse=folder.as_uri())
catalog.create_namespace("shop")


def write(batch: DataFrame, _: int) -> None:
    """Append a batch."""
    rows = batch.toArrow()
    catalog.create_table_if_not_exists("shop.t", rows.schema).append(rows)


# All rows of a batch come to the driver at once.
builder = SparkSession.builder.appName("iceberg").config("spark.driver.memory", "2g")
spark = builder.config("spark.driver.maxResultSize", "0").getOrCreate()
rate = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", BATCH).load()
rows = rate.select(
    "value",
    (F.col("value") % 1000).alias("key"),
    F.col("value").cast("string").alias("text"),
)
with tempfile.TemporaryDirectory() as checkpoint:
    query = (
        rows.writeStream.foreachBatch(write)
        .option("checkpointLocation", checkpoint)
        .start()
    )
    while query.isActive and (
        query.lastProgress is None or query.lastProgress.batchId < BATCHES
    ):
        query.awaitTermination(1)
    query.stop()
took = [
    each.batchDuration
    for each in query.recentProgress
    if WARM <= each.batchId < BATCHES
]
spark.stop()
print(
    json.dumps({"seconds": statistics.median(took) / 1000, "rows": whole(str(folder))})
)
