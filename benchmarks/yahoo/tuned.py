"""The Yahoo streaming benchmark in plain PySpark, tuned by hand.

Its settings are those of a properties file at its launch; a batch takes as many bytes
as the kit's.
Run: tuned.py json|parquet EVENTS_DIR ADS_FILE
"""

import json
import sys
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

EVENT = "ad_id STRING, event_type STRING, event_time BIGINT"

kind, folder, ads_file = sys.argv[1:]
spark = SparkSession.builder.appName("yahoo").getOrCreate()
print("session is up", flush=True)
ads = spark.read.schema("ad_id STRING, campaign_id STRING").json(ads_file)
reader = (
    spark.readStream.format(kind)
    .schema(EVENT)
    .option("maxBytesPerTrigger", 256 * 1024**2)
)
events = reader.load(folder)
counts = (
    events.where("event_type = 'view'")
    .withColumn("time", F.timestamp_millis("event_time"))
    .join(F.broadcast(ads), "ad_id")
    .groupBy("campaign_id", F.window("time", "10 seconds"))
    .agg(F.count("*").alias("views"))
)
with tempfile.TemporaryDirectory() as checkpoint:
    writer = (
        counts.writeStream.format("memory").queryName("counts").outputMode("complete")
    )
    query = (
        writer.option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    found = spark.sql(
        "SELECT campaign_id, unix_millis(window.start), views FROM counts"
    ).collect()
    print(json.dumps({"rows": sorted(map(list, found))}), flush=True)
    spark.stop()
