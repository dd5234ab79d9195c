"""Apache Iceberg, by pyiceberg: tables of any catalog that pyiceberg knows, without a jar.

`sink` has the public function `sinks.iceberg`; `table` writes batches. Only `table`
imports pyiceberg.
"""

from sparkstream_kit.connectors import System

SYSTEM = System(
    sink="exactly once",
    ways=("append", "upsert", "replace"),
    extra="iceberg",
    libraries=("pandas", "pyarrow", "pyiceberg", "sqlalchemy"),
)
