"""Thin: streaming sources, functions that take `spark` first and return a plain streaming DataFrame.

Sources that come with Spark (files, tables, a socket, generated rows) are in this package. Those of other
systems (Delta, Kafka, Kinesis, posts over HTTP) are in `sparkstream_kit.connectors`. The module of a source
is imported when the source is first used, so only its users need the packages that it imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._arguments import attributes

if TYPE_CHECKING:
    from sparkstream_kit.connectors.delta import delta
    from sparkstream_kit.connectors.kafka.source import kafka
    from sparkstream_kit.connectors.kinesis.source import kinesis
    from sparkstream_kit.connectors.posts.source import posts
    from sparkstream_kit.sources.builtin import rate, socket_lines, table
    from sparkstream_kit.sources.files import csv, json, orc, parquet, text

__all__ = [
    "csv",
    "delta",
    "json",
    "kafka",
    "kinesis",
    "orc",
    "parquet",
    "posts",
    "rate",
    "socket_lines",
    "table",
    "text",
]

__getattr__ = attributes(
    __name__,
    {
        "sparkstream_kit.connectors.delta": ["delta"],
        "sparkstream_kit.connectors.kafka.source": ["kafka"],
        "sparkstream_kit.connectors.kinesis.source": ["kinesis"],
        "sparkstream_kit.connectors.posts.source": ["posts"],
        "sparkstream_kit.sources.builtin": ["rate", "socket_lines", "table"],
        "sparkstream_kit.sources.files": ["csv", "json", "orc", "parquet", "text"],
    },
)
