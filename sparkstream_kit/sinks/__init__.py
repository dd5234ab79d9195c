"""Sinks: each function returns a `Sink`, which configures a DataStreamWriter, with the kit or without it.

start(frame, sinks.console(), name="totals", mode="complete")
sinks.console()(frame.writeStream).start()
"""

from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.batches import fan_out, foreach_batch, latest, snapshot
from sparkstream_kit.sinks.builtin import console, files, memory, table

__all__ = ["Sink", "console", "fan_out", "files", "foreach_batch", "latest", "memory", "snapshot", "table"]
