"""Upsert small batches into a Delta table, exactly once, through the kit.

Run: kit.py spark|delta-rs FOLDER
"""

import json
import statistics
import sys
import tempfile

from deltalake import DeltaTable
from pyspark.sql import functions as F
from truth import BATCH, whole  # type: ignore[import-not-found]

from sparkstream_kit import get_session, sinks, start

BATCHES, WARM = 30, 10

writer, folder = sys.argv[1:]
with (
    get_session("delta", connectors=["delta"] if writer == "spark" else []) as spark,
    tempfile.TemporaryDirectory() as checkpoint,
):
    rate = (
        spark.readStream.format("rate-micro-batch").option("rowsPerBatch", BATCH).load()
    )
    totals = rate.groupBy((F.col("value") % 10).alias("key")).agg(
        F.sum("value").alias("total")
    )
    sink = sinks.delta(folder, how="upsert", keys=["key"], writer=writer)
    query = start(totals, sink, name="delta", mode="update", checkpoint=checkpoint)
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
    # Not as the last thing: Python must not end while Arrow's threads still close the
    # files.
    table = DeltaTable(folder).to_pyarrow_table().to_pydict()
print(
    json.dumps(
        {"seconds": statistics.median(took) / 1000, "rows": whole(table["total"])}
    )
)
