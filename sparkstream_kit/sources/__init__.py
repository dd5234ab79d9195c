"""Streaming sources: each function takes `spark` first and returns a plain streaming DataFrame."""

from sparkstream_kit.sources.builtin import rate, table
from sparkstream_kit.sources.files import csv, json, orc, parquet, text
from sparkstream_kit.sources.sockets import socket_lines

__all__ = ["csv", "json", "orc", "parquet", "rate", "socket_lines", "table", "text"]
