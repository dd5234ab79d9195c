"""Time what the listener of the kit's `run` takes for each batch, in the callback.

Run: kit.py FOLDER BATCHES
"""

import json
import sys
import tempfile
from typing import Any

from clock import milliseconds, timed
from pyspark.sql.streaming.listener import JStreamingQueryListener

from sparkstream_kit import get_session, run, sinks, sources, start

kinds: list[Any] = [JStreamingQueryListener, *JStreamingQueryListener.__subclasses__()]
for kind in kinds:
    if "onQueryProgress" in vars(kind):
        kind.onQueryProgress = timed(kind.onQueryProgress)

folder, batches = sys.argv[1:]
with get_session("listener") as spark, tempfile.TemporaryDirectory() as checkpoint:
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    noop = sinks.SparkSink(
        kind="noop",
        modes=("append",),
        promise="none",
        configure=lambda writer: writer.format("noop"),
    )
    run(
        start(lines, noop, name="listener", checkpoint=checkpoint),
        max_batches=int(batches),
    )
print(json.dumps({"rows": len(milliseconds), "milliseconds": milliseconds}))
