"""What a listener takes a batch, timed in the callback: kit.py FOLDER BATCHES."""

import json
import sys
import tempfile
import time
from typing import Any

from pyspark.sql.streaming.listener import JStreamingQueryListener, QueryProgressEvent

from sparkstream_kit import get_session, run, sinks, sources, start

folder, batches = sys.argv[1:]
pyspark_ms: list[float] = []
kit_ms: list[float] = []


def timed(self: JStreamingQueryListener, event: Any) -> None:
    """Do what PySpark does, and time its translation of the event apart from the kit's part."""
    started = time.perf_counter()
    translated = QueryProgressEvent.fromJObject(event)
    between = time.perf_counter()
    self.pylistener.onQueryProgress(translated)
    kit_ms.append((time.perf_counter() - between) * 1000)
    pyspark_ms.append((between - started) * 1000)


JStreamingQueryListener.onQueryProgress = timed  # type: ignore[method-assign,assignment]
with get_session("listener") as spark, tempfile.TemporaryDirectory() as checkpoint:
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    noop = sinks.Sink(
        kind="noop", modes=("append",), delivery="none", configure=lambda writer: writer.format("noop")
    )
    run(start(lines, noop, name="listener", checkpoint=checkpoint), max_batches=int(batches))
print(json.dumps({"rows": len(kit_ms), "milliseconds": kit_ms, "pyspark": pyspark_ms}))
