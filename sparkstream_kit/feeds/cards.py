"""Card payments with known frauds of three kinds, in the columns of the Sparkov generator."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.lines import Again, count_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["cards_rows", "cards_truth"]

_FIRST_CARD = datetime(2024, 6, 1, tzinfo=UTC)
_CARDS = 40
_PLACES = ((40.71, -74.01), (41.88, -87.63), (29.76, -95.37), (39.74, -104.99), (47.61, -122.33))  # in the US
_FAR_AWAY = (35.68, 139.69)  # Tokyo
_SHOPS = (
    ("Corner Foods", "grocery"),
    ("Night Fuel", "gas"),
    ("Web & Co, Ltd", "shopping"),
    ("Cinema", "leisure"),
)
_CARD_WARMUP = 15  # payments of a card before its first fraud
_BURST = 4  # further payments within a minute of the first
_TIMES = 40  # how many times the usual amount


def cards_rows(count: int | None, *, seed: int) -> Iterable[dict[str, Any]]:
    """Make payments of 40 cards, with frauds among them.

    Each is a dict of `card` (digits), `time` (ISO 8601, UTC), `merchant`, `category`, `amount` (a text with
    two decimals), `lat` and `lon` (texts, degrees). A card pays in its own city, some 10 minutes or more
    apart, amounts that differ by at most a half from what is usual for it. One payment in 100 begins a
    fraud: a burst of five payments within a minute, an amount 40 times the usual, or a payment in Tokyo.
    Times increase.

    Args:
        count: how many payments; None never ends.
        seed: the same seed gives the same payments; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> for row in cards_rows(2, seed=1):
        ...     print(row["card"], row["time"], row["merchant"], row["amount"], row["lat"])
        4000000000000008 2024-06-01T00:00:23Z Web & Co, Ltd 45.50 39.7018
        4000000000000031 2024-06-01T00:00:48Z Cinema 58.22 41.8328
    """
    check(cards_rows, locals())
    numbers = count_to(count)

    def make() -> Iterator[dict[str, Any]]:
        draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
        paid, second, burst = [0] * _CARDS, 0, list[int]()  # how often, now, cards whose burst goes on
        order = list(range(_CARDS))
        for _ in numbers:
            if burst:
                card, second, kind = burst.pop(), second + draw.randrange(1, 6), "burst"
            else:
                if not order:
                    order = list(range(_CARDS))
                    second += 600  # a card pays once in a round
                card, second = order.pop(draw.randrange(len(order))), second + draw.randrange(5, 30)
                kind = draw.choice(("amount", "place", "burst")) if draw.random() < 1 / 100 else "usual"
                if paid[card] < _CARD_WARMUP:
                    kind = "usual"
                if kind == "burst":
                    burst = [card] * _BURST
            paid[card] += 1
            usual = 20 + 2 * card
            amount = usual * draw.uniform(0.5, 1.5) * (_TIMES if kind == "amount" else 1)
            lat, lon = _FAR_AWAY if kind == "place" else _PLACES[card % len(_PLACES)]
            merchant, category = draw.choice(_SHOPS)
            yield {
                "card": f"4000{card:012}",
                "time": f"{_FIRST_CARD + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}",
                "merchant": merchant,
                "category": category,
                "amount": f"{amount:.2f}",
                "lat": f"{lat + draw.uniform(-0.05, 0.05):.4f}",
                "lon": f"{lon + draw.uniform(-0.05, 0.05):.4f}",
            }

    return Again(make)


def cards_truth(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Find the frauds that were put into payments, without Spark.

    A payment in Tokyo is two findings: on the way there, and on the way back. Of a burst, the fifth payment
    is one.

    Args:
        rows: of `cards_rows`, in the order of their times.

    Returns:
        (card, time, "burst", "amount" or "place"), by time.

    Example:
        >>> found = cards_truth(cards_rows(2000, seed=1))
        >>> len(found), found[0]
        (25, ('4000000000000014', '2024-06-01T07:02:42Z', 'place'))
    """
    found, last = list[tuple[str, str, str]](), dict[str, tuple[str, bool]]()
    recent = dict[str, list[datetime]]()
    for row in rows:
        card, time, far = row["card"], row["time"], float(row["lon"]) > 0
        now = datetime.fromisoformat(time)
        recent[card] = [each for each in recent.get(card, []) if now - each < timedelta(minutes=1)] + [now]
        if len(recent[card]) > _BURST:
            found.append((card, time, "burst"))
        if float(row["amount"]) > (20 + 2 * int(card[4:])) * _TIMES / 3:
            found.append((card, time, "amount"))
        if card in last and last[card][1] != far:
            found.append((card, time, "place"))
        last[card] = (time, far)
    return sorted(found, key=lambda each: (each[1], each[0], each[2]))
