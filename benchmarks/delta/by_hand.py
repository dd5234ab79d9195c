"""The same in plain PySpark with the transaction's settings by hand, as Delta's guide has them.

Run: by_hand.py FOLDER; SPARKSTREAM_JARS names the folder of Delta's jars, where Spark
cannot fetch them.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from truth import BATCH, whole  # type: ignore[import-not-found]

BATCHES, WARM = 30, 10
DELTA = "spark.databricks.delta."

(folder,) = sys.argv[1:]
builder = SparkSession.builder.appName("delta")
builder = builder.config(
    "spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension"
)
builder = builder.config(
    "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
)
if jars := os.environ.get("SPARKSTREAM_JARS"):
    builder = builder.config(
        "spark.jars", ",".join(map(str, Path(jars).glob("delta-*.jar")))
    )
else:
    builder = builder.config(
        "spark.jars.packages", "io.delta:delta-spark_4.2_2.13:4.4.0"
    )
spark = builder.getOrCreate()
spark.sql(f"CREATE TABLE delta.`{folder}` (key BIGINT, total BIGINT) USING delta")


def write(batch: DataFrame, batch_id: int) -> None:
    """Merge a batch."""
    session = batch.sparkSession
    session.conf.set(f"{DELTA}write.txnAppId", "totals")
    session.conf.set(f"{DELTA}write.txnVersion", str(batch_id))
    batch.createOrReplaceTempView("batch")
    session.sql(
        f"MERGE INTO delta.`{folder}` t USING batch s ON t.key = s.key "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )


rate = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", BATCH).load()
totals = rate.groupBy((F.col("value") % 10).alias("key")).agg(
    F.sum("value").alias("total")
)
with tempfile.TemporaryDirectory() as checkpoint:
    writer = totals.writeStream.outputMode("update").foreachBatch(write)
    query = writer.option("checkpointLocation", checkpoint).start()
    while query.isActive and (
        query.lastProgress is None or query.lastProgress.batchId < BATCHES
    ):
        query.awaitTermination(1)
    query.stop()
totals_now = [row["total"] for row in spark.read.format("delta").load(folder).collect()]
took = [
    each.batchDuration
    for each in query.recentProgress
    if WARM <= each.batchId < BATCHES
]
spark.stop()
print(
    json.dumps({"seconds": statistics.median(took) / 1000, "rows": whole(totals_now)})
)
