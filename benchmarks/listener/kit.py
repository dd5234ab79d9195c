"""What the listener of the kit's `run` takes a batch, timed in the callback: kit.py FOLDER BATCHES."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql.streaming.listener import JStreamingQueryListener

from sparkstream_kit import get_session, run, sinks, sources, start

milliseconds: list[float] = []


def timed(callback: Callable[..., None]) -> Callable[..., None]:
    """Put a clock around what Python does when the JVM calls it with a batch's progress."""

    def call(*args: Any) -> None:
        started = time.perf_counter()
        callback(*args)
        milliseconds.append((time.perf_counter() - started) * 1000)

    return call


kinds: list[Any] = [JStreamingQueryListener, *JStreamingQueryListener.__subclasses__()]
for kind in kinds:
    if "onQueryProgress" in vars(kind):
        kind.onQueryProgress = timed(kind.onQueryProgress)

folder, batches = sys.argv[1:]
with get_session("listener") as spark, tempfile.TemporaryDirectory() as checkpoint:
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    noop = sinks.Sink(
        kind="noop", modes=("append",), delivery="none", configure=lambda writer: writer.format("noop")
    )
    run(start(lines, noop, name="listener", checkpoint=checkpoint), max_batches=int(batches))
print(json.dumps({"rows": len(milliseconds), "milliseconds": milliseconds}))
