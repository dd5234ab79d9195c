"""Batches of one file while many wait in the folder, through the kit: kit.py FOLDER BATCHES."""

import json
import sys
import tempfile

from sparkstream_kit import get_session, run, sinks, sources, start

folder, batches = sys.argv[1:]
noop = sinks.SparkSink(
    kind="noop",
    modes=("append",),
    promise="none",
    configure=lambda writer: writer.format("noop"),
)
with get_session("waiting") as spark, tempfile.TemporaryDirectory() as checkpoint:
    print("session is up", flush=True)
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    query = start(lines, noop, name="waiting", checkpoint=checkpoint)
    run(query, max_batches=int(batches))
    done = query.recentProgress[: int(batches)]
    listing = [progress.durationMs["latestOffset"] for progress in done]
    print(json.dumps({"rows": len(done), "milliseconds": listing}), flush=True)
