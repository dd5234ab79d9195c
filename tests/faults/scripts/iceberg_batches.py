"""Writes batches to an Iceberg table in turn, as a driver that has computed their rows.

Run: python iceberg_batches.py LAKE DRIVER; it ends when another driver has started.
"""

import sys
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T

from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.iceberg.table import IcebergTable
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import Batch

COLUMNS = T.StructType(
    [T.StructField("driver", T.StringType()), T.StructField("n", T.LongType())]
)


def main(lake, driver):
    """Write until it is refused."""
    where = Target("Iceberg table", f"shop.t in {lake}")
    table = IcebergTable("shop.t", lake, 20)
    how: dict[str, Any] = {
        "how": "append",
        "keys": (),
        "merge_schema": False,
        "take_over": False,
    }
    target = _tables.TableTarget(where=where, **how, open_table=lambda _: table)
    number, taken = 0, table.schema() is None
    while True:
        try:
            if not taken:
                _tables.take(target, table, "q", driver)
                number, taken = (table.last_batch("q") or 0) + 1, True
            batch = Batch("q", number, None, "ckpt", driver)
            if not _tables.is_written(target, table, COLUMNS, batch):
                table.commit(
                    pa.table({"driver": [driver], "n": [number]}), target, batch
                )
            number += 1
        except _tables.ConflictError:
            pass  # as a driver that tries again
        except InvalidInputError as err:
            sys.stdout.write(f"{err}\n")
            return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
