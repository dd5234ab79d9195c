"""Streams of Amazon Kinesis, as `sources.kinesis`.

Spark has no Kinesis source, so `source` is a data source in Python, which runs in
Spark's Python workers. `service` has the calls of boto3 and the offsets.
"""

from sparkstream_kit.connectors import System

SYSTEM = System(source="replayable", extra="kinesis", libraries=("boto3", "botocore"))
