"""Streams of Amazon Kinesis, as `sources.kinesis`."""

__all__: list[str] = []
