"""Sinks: each function returns a `Sink`, which configures a DataStreamWriter, with the kit or without it.

start(frame, sinks.console(), name="totals", mode="complete")
sinks.console()(frame.writeStream).start()

A sink is imported when it is first used; one of another system comes from `sparkstream_kit.connectors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._lazy import attributes

if TYPE_CHECKING:
    from sparkstream_kit.connectors.delta.sink import delta
    from sparkstream_kit.connectors.kafka.sink import kafka
    from sparkstream_kit.connectors.mongodb import mongodb
    from sparkstream_kit.connectors.sql import sql_table
    from sparkstream_kit.sinks.base import Sink
    from sparkstream_kit.sinks.batches import fan_out, foreach_batch, snapshot
    from sparkstream_kit.sinks.builtin import console, files, memory, table
    from sparkstream_kit.sinks.directories import batch_files
    from sparkstream_kit.sinks.gate import by_watermark
    from sparkstream_kit.sinks.last_result import latest

__all__ = [
    "Sink",
    "batch_files",
    "by_watermark",
    "console",
    "delta",
    "fan_out",
    "files",
    "foreach_batch",
    "kafka",
    "latest",
    "memory",
    "mongodb",
    "snapshot",
    "sql_table",
    "table",
]

__getattr__ = attributes(
    __name__,
    {
        "Sink": "sparkstream_kit.sinks.base",
        "batch_files": "sparkstream_kit.sinks.directories",
        "by_watermark": "sparkstream_kit.sinks.gate",
        "console": "sparkstream_kit.sinks.builtin",
        "delta": "sparkstream_kit.connectors.delta.sink",
        "fan_out": "sparkstream_kit.sinks.batches",
        "files": "sparkstream_kit.sinks.builtin",
        "foreach_batch": "sparkstream_kit.sinks.batches",
        "kafka": "sparkstream_kit.connectors.kafka.sink",
        "latest": "sparkstream_kit.sinks.last_result",
        "memory": "sparkstream_kit.sinks.builtin",
        "mongodb": "sparkstream_kit.connectors.mongodb",
        "snapshot": "sparkstream_kit.sinks.batches",
        "sql_table": "sparkstream_kit.connectors.sql",
        "table": "sparkstream_kit.sinks.builtin",
    },
)
