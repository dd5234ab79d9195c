"""Orders as lines of JSON by plain `from_json`, to Parquet: json_plain.py FOLDER flat|nested.

Its settings are those of a properties file at its launch.
"""

import json
import sys
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

ORDERS = {
    "flat": """id BIGINT, user STRING, product STRING, amount DOUBLE, ok BOOLEAN,
        time TIMESTAMP, note STRING""",
    "nested": """id BIGINT, time TIMESTAMP, user STRUCT<name: STRING, age: INT>,
        items ARRAY<STRUCT<product: STRING, price: DOUBLE, count: INT>>""",
}

folder, which = sys.argv[1:]
spark = SparkSession.builder.appName("quarantine").getOrCreate()
print("session is up", flush=True)
lines = spark.readStream.text(folder)
orders = lines.select(F.from_json("value", ORDERS[which]).alias("order"))
with tempfile.TemporaryDirectory() as scratch:
    writer = orders.select("order.*").writeStream.format("parquet")
    query = (
        writer.option("path", f"{scratch}/orders")
        .option("checkpointLocation", f"{scratch}/checkpoint")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    written = spark.read.parquet(f"{scratch}/orders")
    counts = written.agg(F.count("*"), F.sum("id")).collect()
    print(json.dumps({"rows": [list(row) for row in counts]}), flush=True)
    spark.stop()
