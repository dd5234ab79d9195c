"""Delta Lake: `sources.delta` and `sinks.delta`.

`source` reads the rows that are added to a table, or its changes; `sink` writes batches. `writers` has what
both of the sink's writers share, and the one that uses Delta's jars; `rust` has the one that uses deltalake.
"""

from sparkstream_kit.connectors import System

SYSTEM = System(
    source="replayable",
    sink="exactly once",
    ways=("append", "upsert", "replace"),
    extra="delta",
    libraries=("deltalake", "pandas", "pyarrow"),
)
