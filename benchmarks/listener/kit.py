"""What the kit's listener takes a batch, timed in the callback: kit.py FOLDER BATCHES."""

import json
import sys
import tempfile
import time
from typing import Any

from pyspark.sql.streaming.listener import JStreamingQueryListener

from sparkstream_kit import get_session, run, sinks, sources, start

folder, batches = sys.argv[1:]
milliseconds: list[float] = []
of_pyspark = JStreamingQueryListener.onQueryProgress


def timed(self: JStreamingQueryListener, event: Any) -> None:
    """Time the whole callback: PySpark's translation of the event, and the kit's part after it."""
    started = time.perf_counter()
    of_pyspark(self, event)
    milliseconds.append((time.perf_counter() - started) * 1000)


JStreamingQueryListener.onQueryProgress = timed  # type: ignore[method-assign,assignment]
with get_session("listener") as spark, tempfile.TemporaryDirectory() as checkpoint:
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    noop = sinks.Sink(
        kind="noop", modes=("append",), delivery="none", configure=lambda writer: writer.format("noop")
    )
    run(start(lines, noop, name="listener", checkpoint=checkpoint), max_batches=int(batches))
print(json.dumps({"milliseconds": milliseconds[: int(batches)]}))
