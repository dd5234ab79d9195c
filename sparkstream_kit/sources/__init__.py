"""Thin: streaming sources: functions of `spark` that return a streaming DataFrame.

Sources that come with Spark (files, tables, a socket, generated rows) are in this
package. Those of other systems (such as Kafka) are in `sparkstream_kit.connectors`,
where they are found by their names. The module of a source is imported when the source
is first used, so only its users need the packages that it imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import attributes

if TYPE_CHECKING:  # the names of this package
    from sparkstream_kit.connectors.delta.source import delta as delta
    from sparkstream_kit.connectors.kafka.source import kafka as kafka
    from sparkstream_kit.connectors.kinesis.source import kinesis as kinesis
    from sparkstream_kit.connectors.posts.source import posts as posts
    from sparkstream_kit.sources.builtin import rate as rate
    from sparkstream_kit.sources.builtin import socket_lines as socket_lines
    from sparkstream_kit.sources.builtin import table as table
    from sparkstream_kit.sources.files import csv as csv
    from sparkstream_kit.sources.files import json as json
    from sparkstream_kit.sources.files import orc as orc
    from sparkstream_kit.sources.files import parquet as parquet
    from sparkstream_kit.sources.files import text as text

__getattr__ = attributes(__name__, part="source")
