"""40 batches of one file after a past of many files, plain PySpark: past_plain.py FILES."""

import sys
import tempfile
from pathlib import Path

from past import BATCHES, BEFORE, SHORT, land, measure, write
from pyspark.sql import DataFrame, SparkSession

files = int(sys.argv[1])
builder = SparkSession.builder.appName("history")
for key, value in SHORT.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
with tempfile.TemporaryDirectory() as made:
    work = Path(made)

    def keep(batch: DataFrame, number: int) -> None:
        """Write a batch into a folder of its own, which a replay writes anew."""
        batch.write.mode("overwrite").parquet(f"{work}/out/{number}")

    def go() -> int:
        """Read what there is, a file in each batch; return the number of rows."""
        rows = (
            spark.readStream.schema("k INT, v STRING")
            .option("maxFilesPerTrigger", 1)
            .csv(f"{work}/in")
        )
        writer = (
            rows.writeStream.foreachBatch(keep)
            .queryName("h")
            .trigger(availableNow=True)
        )
        query = writer.option("checkpointLocation", f"{work}/ckpt").start()
        query.awaitTermination()
        return sum(progress.numInputRows for progress in query.recentProgress)

    land(work / "in", range(BEFORE))
    go()
    write(work / "ckpt/sources/0", work / "in", files)
    land(work / "in", range(300, 300 + BATCHES))
    measure(spark, go)
spark.stop()
