"""What a small batch into an Iceberg table costs after many others, without Spark.

The kit's writer makes BEFORE commits of one row, and then the 40 that are measured: two
rounds of the merging of manifests, which comes with every twentieth.
Run: many.py BEFORE FOLDER
"""

import json
import sys
import time
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyspark.sql import types as T

from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.iceberg.table import IcebergTable
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import Batch

MEASURED = 40
COLUMNS = T.StructType(
    [T.StructField("key", T.StringType()), T.StructField("n", T.LongType())]
)

before, folder = int(sys.argv[1]), sys.argv[2]
where = Target("Iceberg table", "shop.t")
table = IcebergTable("shop.t", folder, 20)
how: dict[str, Any] = {
    "how": "append",
    "keys": (),
    "merge_schema": False,
    "take_over": False,
}
target = _tables.TableTarget(where=where, **how, open_table=lambda _: table)
for number in range(before + MEASURED):
    if number == before:
        begun, cpu = time.perf_counter(), time.process_time()
    batch = Batch("q", number, "plan", "ckpt", "driver")
    _tables.is_written(target, table, COLUMNS, batch)
    table.commit(pa.table({"key": ["a"], "n": [number]}), target, batch)
took, cpu = time.perf_counter() - begun, time.process_time() - cpu
made = load_catalog(
    "default", type="sql", uri=f"sqlite:///{folder}/catalog.db"
).load_table("shop.t")
found = made.scan().count() - before
print(json.dumps({"rows": found, "seconds": took / MEASURED, "cpu": cpu / MEASURED}))
