"""The same from Kafka into a Delta table by plain PySpark, with the settings of its launch.

Run: plain.py kafka SERVERS TOPIC delta TARGET RATE SECONDS.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

_, servers, topic, _, target = sys.argv[1:6]
jars = ",".join(map(str, Path(os.environ["SPARKSTREAM_JARS"]).glob("*.jar")))
builder = SparkSession.builder.appName("arrival").config("spark.jars", jars)
builder = builder.config(
    "spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension"
)
builder = builder.config(
    "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
)
spark = builder.getOrCreate()
reader = spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers)
records = reader.option("subscribe", topic).option("startingOffsets", "earliest").load()
rows = records.select(
    F.from_json(F.col("value").cast("string"), "id BIGINT, amount INT").alias("r")
).select("r.*")
with tempfile.TemporaryDirectory() as checkpoint:
    query = (
        rows.writeStream.format("delta")
        .option("checkpointLocation", checkpoint)
        .start(target)
    )
    clock = [sys.executable, str(Path(__file__).with_name("clock.py")), *sys.argv[1:]]
    subprocess.run(clock, check=True)
    query.stop()
spark.stop()
