"""The Yahoo streaming benchmark as course notes write it.

No settings; of JSON all fields, as text.
Run: naive.py json|parquet EVENTS_DIR ADS_FILE
"""

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

SCHEMA = """user_id STRING, page_id STRING, ad_id STRING, ad_type STRING, event_type STRING,
    event_time STRING, ip_address STRING"""

kind, folder, ads_file = sys.argv[1:]
spark = SparkSession.builder.appName("yahoo").getOrCreate()
print("session is up", flush=True)
ads = spark.read.json(ads_file)
schema = spark.read.parquet(folder).schema if kind == "parquet" else SCHEMA
events = spark.readStream.format(kind).schema(schema).load(folder)
counts = (
    events.join(ads, "ad_id")
    .filter(F.col("event_type") == "view")
    .withColumn("time", (F.col("event_time").cast("double") / 1000).cast("timestamp"))
    .groupBy("campaign_id", F.window("time", "10 seconds"))
    .count()
)
query = (
    counts.writeStream.format("memory")
    .queryName("counts")
    .outputMode("complete")
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
found = spark.sql(
    "SELECT campaign_id, unix_millis(window.start), count FROM counts"
).collect()
print(json.dumps({"rows": sorted(map(list, found))}), flush=True)
spark.stop()
