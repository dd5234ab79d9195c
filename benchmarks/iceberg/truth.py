"""What the table has to hold, however many batches there were."""

from pathlib import Path

import pyarrow.compute as pc
from pyiceberg.catalog import load_catalog

BATCH = 1_000_000  # rows


def whole(folder: str) -> list[int]:
    """Return how many rows exceed whole batches, and how many numbers are missing or double."""
    uri = f"sqlite:///{folder}/catalog.db"
    catalog = load_catalog(
        "default", type="sql", uri=uri, warehouse=Path(folder).as_uri()
    )
    numbers = (
        catalog.load_table("shop.t")
        .scan(selected_fields=("value",))
        .to_arrow()["value"]
    )
    there = len(pc.unique(numbers))
    return [
        len(numbers) % BATCH,
        abs(pc.max(numbers).as_py() + 1 - there) + len(numbers) - there,
    ]
