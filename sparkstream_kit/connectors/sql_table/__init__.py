"""Tables of a SQL database, each batch in one transaction with a ledger of what has been written.

`sink` has the public function `sinks.sql_table`, which checks its arguments and builds
the `Sink`. `database` connects, and converts rows to what a database can hold;
`columns` has their types, and checks those of an existing table; `table` writes
batches. These three need SQLAlchemy, and are imported only when `sql_table` is called.
"""

from sparkstream_kit.connectors import System

SYSTEM = System(
    sink="exactly once",
    ways=("append", "upsert", "replace"),
    extra="sql",
    libraries=("pandas", "pyarrow", "sqlalchemy"),
)
