"""Thin: sinks, each a `Sink` that configures a DataStreamWriter, with the kit or without it.

start(frame, sinks.console(), name="totals", mode="complete")
sinks.console()(frame.writeStream).start()

Importing this package loads no sink: each function is imported on first use. The sinks
of other systems (such as `delta` and `sql_table`) live in `sparkstream_kit.connectors`,
where they are found by their names, so that their libraries are needed only when such a
sink is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import attributes

if TYPE_CHECKING:  # the names of this package
    from sparkstream_kit.connectors.delta.sink import delta as delta
    from sparkstream_kit.connectors.iceberg.sink import iceberg as iceberg
    from sparkstream_kit.connectors.kafka.sink import kafka as kafka
    from sparkstream_kit.connectors.mongodb.sink import mongodb as mongodb
    from sparkstream_kit.connectors.sql_table.sink import sql_table as sql_table
    from sparkstream_kit.sinks.base import BatchSink as BatchSink
    from sparkstream_kit.sinks.base import Sink as Sink
    from sparkstream_kit.sinks.base import SparkSink as SparkSink
    from sparkstream_kit.sinks.batches import by_watermark as by_watermark
    from sparkstream_kit.sinks.batches import fan_out as fan_out
    from sparkstream_kit.sinks.batches import foreach_batch as foreach_batch
    from sparkstream_kit.sinks.batches import snapshot as snapshot
    from sparkstream_kit.sinks.builtin import console as console
    from sparkstream_kit.sinks.builtin import files as files
    from sparkstream_kit.sinks.builtin import memory as memory
    from sparkstream_kit.sinks.directories import batch_files as batch_files
    from sparkstream_kit.sinks.routing import by_value as by_value
    from sparkstream_kit.sinks.tables import table as table
    from sparkstream_kit.sinks.views import latest as latest

__getattr__ = attributes(__name__, part="sink")
