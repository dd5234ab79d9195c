"""Batches of one file while many wait in the folder, plain PySpark: plain.py FOLDER BATCHES."""

import json
import sys
import tempfile
import time

from pyspark.sql import SparkSession

folder, batches = sys.argv[1:]
spark = SparkSession.builder.appName("waiting").getOrCreate()
print("session is up", flush=True)
with tempfile.TemporaryDirectory() as checkpoint:
    lines = spark.readStream.option("maxFilesPerTrigger", 1).text(folder)
    writer = lines.writeStream.format("noop").option("checkpointLocation", checkpoint)
    query = writer.start()
    while not query.lastProgress or query.lastProgress.batchId + 1 < int(batches):
        time.sleep(0.1)
    done = query.recentProgress[: int(batches)]
    query.stop()
    listing = [progress.durationMs["latestOffset"] for progress in done]
    print(json.dumps({"rows": len(done), "milliseconds": listing}), flush=True)
    spark.stop()
