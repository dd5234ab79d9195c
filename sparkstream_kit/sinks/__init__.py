"""Thin: sinks, each a `Sink` that configures a DataStreamWriter, with the kit or without it.

start(frame, sinks.console(), name="totals", mode="complete")
sinks.console()(frame.writeStream).start()

Importing this package loads no sink: each function is imported on first use. The sinks of other systems
(`delta`, `kafka`, `mongodb`, `sql_table`) live in `sparkstream_kit.connectors`, so that their libraries are
needed only when such a sink is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._arguments import attributes

if TYPE_CHECKING:
    from sparkstream_kit.connectors.delta.sink import delta
    from sparkstream_kit.connectors.kafka.sink import kafka
    from sparkstream_kit.connectors.mongodb import mongodb
    from sparkstream_kit.connectors.sql import sql_table
    from sparkstream_kit.sinks.base import Sink
    from sparkstream_kit.sinks.batches import by_watermark, fan_out, foreach_batch, latest, snapshot
    from sparkstream_kit.sinks.builtin import console, files, memory, table
    from sparkstream_kit.sinks.directories import batch_files

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
        "sparkstream_kit.connectors.delta.sink": ["delta"],
        "sparkstream_kit.connectors.kafka.sink": ["kafka"],
        "sparkstream_kit.connectors.mongodb": ["mongodb"],
        "sparkstream_kit.connectors.sql": ["sql_table"],
        "sparkstream_kit.sinks.base": ["Sink"],
        "sparkstream_kit.sinks.batches": ["by_watermark", "fan_out", "foreach_batch", "latest", "snapshot"],
        "sparkstream_kit.sinks.builtin": ["console", "files", "memory", "table"],
        "sparkstream_kit.sinks.directories": ["batch_files"],
    },
)
