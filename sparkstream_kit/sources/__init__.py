"""Streaming sources: each function takes `spark` first and returns a plain streaming DataFrame."""

from sparkstream_kit.sources.builtin import rate, socket_lines, table
from sparkstream_kit.sources.files import csv, json, orc, parquet, text

__all__ = ["csv", "json", "orc", "parquet", "rate", "socket_lines", "table", "text"]
