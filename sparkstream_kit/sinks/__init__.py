"""Sinks: each function returns a `Sink`, which configures a DataStreamWriter, with the kit or without it.

start(frame, sinks.console(), name="totals", mode="complete")
sinks.console()(frame.writeStream).start()

A sink of another system comes from `sparkstream_kit.connectors`, which is opened when the sink is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.batches import fan_out, foreach_batch, latest, snapshot
from sparkstream_kit.sinks.builtin import console, files, memory, table
from sparkstream_kit.sinks.directories import batch_files

if TYPE_CHECKING:
    from sparkstream_kit.connectors.sql import sql_table

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

_CONNECTORS = {"sql_table": "sparkstream_kit.connectors.sql"}


def __getattr__(name: str) -> object:
    """Import a sink of a connector when it is first asked for."""
    if name not in _CONNECTORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_CONNECTORS[name]), name)
