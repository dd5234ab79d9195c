"""What a listener that does nothing takes a batch in plain PySpark: plain.py FOLDER BATCHES.

Its settings are those of a properties file at its launch.
"""

import json
import sys
import tempfile
import time

from clock import milliseconds, timed
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import (
    JStreamingQueryListener,
    StreamingQueryListener,
)


class Nothing(StreamingQueryListener):
    """Does nothing."""

    def onQueryStarted(self, event: object) -> None:
        """Do nothing."""

    def onQueryProgress(self, event: object) -> None:
        """Do nothing."""

    def onQueryIdle(self, event: object) -> None:
        """Do nothing."""

    def onQueryTerminated(self, event: object) -> None:
        """Do nothing."""


JStreamingQueryListener.onQueryProgress = timed(JStreamingQueryListener.onQueryProgress)  # type: ignore[method-assign]
folder, batches = sys.argv[1:]
spark = SparkSession.builder.appName("listener").getOrCreate()
with tempfile.TemporaryDirectory() as checkpoint:
    spark.streams.addListener(Nothing())
    lines = spark.readStream.option("maxFilesPerTrigger", 1).text(folder)
    query = (
        lines.writeStream.format("noop")
        .option("checkpointLocation", checkpoint)
        .start()
    )
    while len(milliseconds) < int(batches):
        time.sleep(0.1)
    query.stop()
    spark.stop()
print(json.dumps({"rows": len(milliseconds), "milliseconds": milliseconds}))
