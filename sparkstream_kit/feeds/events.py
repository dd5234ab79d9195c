"""Events of a shop with known totals, as the job `events_to_postgres` reads them."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.lines import Again, count_to, zipf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["events_rows", "events_truth"]

_EVENTS_START = datetime(2024, 3, 1, 9, tzinfo=UTC)
_EVENT_PRODUCTS = (
    ("kettle", 3490), ("desk lamp", 2250), ('monitor, 27"', 18999), ("socks", 799), ("backpack", 5400),
    ("chess set", 2999), ("crème brûlée torch", 1875), ("notebook", 350), ("headphones", 12900),
)  # fmt: skip


def events_rows(count: int | None, *, seed: int) -> Iterable[dict[str, str]]:
    """Make the events of a shop: dicts of texts, as they stand in a CSV file.

    event_id (unique in a seed), time (ISO 8601 in UTC, at most 12 seconds after the one before), user,
    product (some with commas or quotes), type (view, cart or purchase) and price (with two decimals).

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> for row in events_rows(2, seed=1):
        ...     print(*row.values(), sep=", ")
        1-0000001, 2024-03-01T09:00:01Z, user-382, chess set, view, 29.99
        1-0000002, 2024-03-01T09:00:07Z, user-326, desk lamp, cart, 22.50
    """
    check(events_rows, locals())
    numbers, weights = count_to(count), zipf(len(_EVENT_PRODUCTS))

    def make() -> Iterator[dict[str, str]]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        moment = _EVENTS_START
        for number in numbers:
            moment += timedelta(seconds=pick(range(13))[0])
            product, cents = pick(_EVENT_PRODUCTS, cum_weights=weights)[0]
            yield {
                "event_id": f"{seed}-{number + 1:07}",
                "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                "user": f"user-{pick(range(1, 501))[0]}",
                "product": product,
                "type": pick(("view", "cart", "purchase"), cum_weights=(7, 9, 10))[0],
                "price": f"{Decimal(cents) / 100:.2f}",
            }

    return Again(make)


def events_truth(rows: Iterable[Mapping[str, str]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `events_rows`, exactly and without Spark.

    Returns:
        (type, number of events, sum of their prices) for each type, by type.

    Example:
        >>> for kind, events, total in events_truth(events_rows(1000, seed=1)):
        ...     print(kind, events, total)
        cart 198 10472.13
        purchase 99 5928.19
        view 703 36093.72
    """
    prices = defaultdict(list)
    for row in rows:
        prices[row["type"]].append(Decimal(row["price"]))
    return sorted((kind, len(each), sum(each, Decimal("0.00"))) for kind, each in prices.items())
