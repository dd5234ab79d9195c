"""Streams a folder, one file a batch, and prints how many milliseconds each write of a log took.

Run: spark-submit log_writes.py INPUT_DIR CHECKPOINT
"""

import json
import sys

from sparkstream_kit import run, sinks, sources, spark_session, start

if __name__ == "__main__":
    folder, checkpoint = sys.argv[1:]
    with spark_session("log-writes", profile="cluster") as spark:
        lines = sources.text(spark, folder, max_files_per_trigger=1)
        query = start(
            lines,
            sinks.foreach_batch(lambda *_: None),
            name="lines",
            checkpoint=checkpoint,
            availableNow=True,
        )
        run(query)
        written = ("latestOffset", "walCommit", "commitOffsets")  # each writes a file
        took = [batch.durationMs[step] for batch in query.recentProgress for step in written]
        sys.stdout.write(json.dumps(took))
