"""Records of Kafka by plain PySpark: plain.py SERVERS FROM TO latency|sum|copy [MODE COUNT].

Its settings, and the connector, are those of a properties file at its launch.
"""

import json
import sys
import tempfile
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

servers, given, made, what, *how = sys.argv[1:]
spark = SparkSession.builder.appName("records").getOrCreate()
print("session is up", flush=True)
broker = {"kafka.bootstrap.servers": servers}
records = (
    spark.readStream.format("kafka")
    .options(**broker, subscribe=given, startingOffsets="earliest")
    .load()
)
with tempfile.TemporaryDirectory() as checkpoint:
    if what == "sum":
        parsed = records.select(
            F.from_json(F.col("value").cast("string"), "id INT, amount INT").alias("r")
        )
        totals = parsed.agg(
            F.count("r.id").alias("n"), F.sum("r.amount").alias("amount")
        )
        writer = (
            totals.writeStream.format("memory")
            .queryName("total")
            .outputMode("complete")
        )
    else:
        out = (
            records.select("key", "value")
            .writeStream.format("kafka")
            .options(**broker, topic=made)
        )
        writer = out.outputMode("update" if how[:1] == ["realTime"] else "append")
    writer = writer.option("checkpointLocation", checkpoint)
    if what == "latency":
        from travel import milliseconds  # type: ignore[import-not-found]

        mode, count = how
        trigger: dict[str, Any] = (
            {"realTime": "5 seconds"}
            if mode == "realTime"
            else {"processingTime": "0 seconds"}
        )
        query = writer.trigger(**trigger).start()
        took = milliseconds(servers, given, made, int(count))
        query.stop()
        result: Any = {"rows": len(took), "milliseconds": took}
    else:
        writer.trigger(availableNow=True).start().awaitTermination()
        if what == "sum":
            result = {"rows": [list(row) for row in spark.table("total").collect()]}
        else:
            result = {
                "rows": (
                    spark.read.format("kafka")
                    .options(**broker, subscribe=made)
                    .load()
                    .count()
                )
            }
    spark.stop()
print(json.dumps(result))
