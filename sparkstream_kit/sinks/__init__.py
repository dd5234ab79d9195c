"""Sinks: each function returns a `Sink`, which configures a DataStreamWriter, with the kit or without it.

start(frame, sinks.console(), name="totals", mode="complete")
sinks.console()(frame.writeStream).start()
"""

from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.batches import fan_out, foreach_batch, snapshot
from sparkstream_kit.sinks.builtin import console, files, memory, table
from sparkstream_kit.sinks.directories import batch_files
from sparkstream_kit.sinks.latest import latest
from sparkstream_kit.sinks.sql import sql_table

__all__ = [
    "Sink",
    "batch_files",
    "console",
    "fan_out",
    "files",
    "foreach_batch",
    "latest",
    "memory",
    "snapshot",
    "sql_table",
    "table",
]
