"""Sum by key of a folder of sales in Pathway: with_pathway.py json FOLDER."""

import json
import sys

import pathway as pw

_, folder = sys.argv[1:]  # its CSV reader wants a header line


class Sale(pw.Schema):  # type: ignore[misc]
    """The columns that are needed."""

    ProductKey: str
    SaleAmount: float


sales = pw.io.jsonlines.read(f"{folder}/*.json", schema=Sale, mode="static")
totals = sales.groupby(sales.ProductKey).reduce(
    sales.ProductKey, total=pw.reducers.sum(sales.SaleAmount)
)
found: dict[str, float] = {}


def keep(key: object, row: dict[str, float], time: int, is_addition: bool) -> None:  # noqa: ARG001
    """Keep the last total of a product."""
    if is_addition:
        found[str(row["ProductKey"])] = row["total"]


pw.io.subscribe(totals, keep)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
print(
    json.dumps({"rows": sorted([key, f"{total:.2f}"] for key, total in found.items())})
)
