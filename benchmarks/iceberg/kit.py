"""Append batches of 1,000,000 rows to an Iceberg table, exactly once, through the kit.

Run: kit.py FOLDER
"""

import json
import statistics
import sys
import tempfile

from pyspark.sql import functions as F
from truth import BATCH, whole  # type: ignore[import-not-found]

from sparkstream_kit import get_session, sinks, start

BATCHES, WARM = 6, 2

(folder,) = sys.argv[1:]
with get_session("iceberg") as spark, tempfile.TemporaryDirectory() as checkpoint:
    rate = (
        spark.readStream.format("rate-micro-batch").option("rowsPerBatch", BATCH).load()
    )
    rows = rate.select(
        "value",
        (F.col("value") % 1000).alias("key"),
        F.col("value").cast("string").alias("text"),
    )
    query = start(
        rows,
        sinks.iceberg("shop.t", catalog=folder),
        name="iceberg",
        checkpoint=checkpoint,
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
print(json.dumps({"seconds": statistics.median(took) / 1000, "rows": whole(folder)}))
