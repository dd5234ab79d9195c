"""What the table has to hold, however many batches there were."""

from collections.abc import Sequence

BATCH = 1000  # rows


def whole(totals: Sequence[int]) -> list[object]:
    """Return how many keys there are, and whether their totals are those of whole batches."""
    wanted, rows = sum(totals), 0
    while rows * (rows - 1) // 2 < wanted:
        rows += BATCH
    return [len(totals), rows * (rows - 1) // 2 == wanted]
