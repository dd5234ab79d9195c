"""Collections of MongoDB as a sink that writes each batch once.

Conditions in the documents, and a ledger beside them, see to that.

`sink` has the public function `sinks.mongodb`, which checks its arguments and builds
the `Sink`. `connection` connects, `documents` converts rows, and `collection` writes
the batches. These three need pymongo, and are imported only when `mongodb` is called.
"""

from sparkstream_kit.connectors import System

SYSTEM = System(
    sink="exactly once",
    ways=("append", "upsert"),
    extra="mongodb",
    libraries=("bson", "pandas", "pyarrow", "pymongo"),
)
