"""Batches of ten numbers into a topic, without Spark, until another driver has started.

Only the rows come without it, as Arrow; all the rest is what a query calls. The number
of a batch is the one after the last in the ledger, as that of a checkpoint would be.

Run: python kafka_fence.py SERVERS TOPIC
"""

import sys
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from sparkstream_kit.connectors import _arrow
from sparkstream_kit.connectors.kafka import transactions
from sparkstream_kit.errors import KitError
from sparkstream_kit.sinks.ledger import Batch, this_driver

QUERY = "fenced"


class _Rows:
    """Stands for the DataFrame of a batch."""

    columns = ("value", "key")

    def __init__(self, batch):
        values = [b"%d" % number for number in range(10 * batch, 10 * batch + 10)]
        self.part = pa.RecordBatch.from_arrays(
            [pa.array(values), pa.array(values)], names=["c0", "c1"]
        )


@contextmanager
def _kept(rows):
    yield iter([rows.part])


def main(servers, topic):
    """Write until the ledger refuses it."""
    _arrow.kept = _kept  # type: ignore[assignment]
    ledger = f"{topic}-ledger"
    target: Any = transactions.TransactionalTarget(
        servers, topic, ledger, False, {}, lambda _: None, lambda rows: rows
    )
    driver = this_driver()
    try:
        target.prepare(None, QUERY, None, True)
        target.take(QUERY, driver, None)
        number = target.entries(all_of_them=True)[QUERY].get("batch", -1)
        while True:
            number += 1
            target.write(Batch(QUERY, number, driver=driver), _Rows(number))
            print(number, flush=True)
    except KitError as err:
        sys.stderr.write(f"{err}\n")
        return err.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
