"""Sum by key of a folder of CSV sales in bytewax, on one core: with_bytewax.py csv FOLDER."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bytewax import operators as op
from bytewax.connectors.files import DirSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

_, folder = sys.argv[1:]


def cents(batch: Iterable[str]) -> Iterable[tuple[str, int]]:
    """Sum within the batch that the source gives: a step a row would take several times as long."""
    totals: Counter[str] = Counter()
    for row in csv.reader(batch):
        totals[row[9]] += round(float(row[5]) * 100)
    return totals.items()


def lines(path: Path) -> Iterable[str]:
    """Return the lines of a file."""
    return path.read_text("utf-8").splitlines()


out: list[Any] = []
flow = Dataflow("throughput")
sales = op.input(
    "sales", flow, DirSource(Path(folder), glob_pat="*.csv", batch_size=1000)
)
partial = op.flat_map_batch("partial", sales, lambda batch: list(cents(batch)))
totals = op.reduce_final("total", partial, lambda left, right: left + right)
op.output("out", totals, TestingSink(out))
run_main(flow)
print(json.dumps({"rows": sorted([key, f"{total / 100:.2f}"] for key, total in out)}))
