"""Rows with incidents to find: frauds among payments, spikes and silences among temperatures."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.feeds.files import count_to
from sparkstream_kit.feeds.generators import iso_time, seeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_FIRST_CARD = datetime(2024, 6, 1, tzinfo=UTC)
_CARDS = 40
# In the US
_PLACES = (
    (40.71, -74.01),
    (41.88, -87.63),
    (29.76, -95.37),
    (39.74, -104.99),
    (47.61, -122.33),
)
_FAR_AWAY = (35.68, 139.69)  # Tokyo
_SHOPS = (
    ("Corner Foods", "grocery"), ("Night Fuel", "gas"),
    ("Web & Co, Ltd", "shopping"), ("Cinema", "leisure"),
)  # fmt: skip
_CARD_WARMUP = 15  # payments of a card before its first fraud
_BURST = 4  # further payments of a burst, within a minute of its first
_TIMES = 40  # factor between a fraudulent and the usual amount
_MINUTE = timedelta(minutes=1)


@seeded
def cards_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make payments of 40 cards, with frauds among them.

    Each payment is a dict of strings: `card` (16 digits), `time` (ISO 8601, UTC),
    `merchant`, `category`, `amount` (two decimals), `lat` and `lon` (degrees). A card
    pays in its own city, at intervals of about 10 minutes or more, and its amounts
    differ by at most half from its usual amount. After the first 15 payments of a card,
    one payment in 100 starts a fraud: a burst of five payments within a minute, an
    amount about 40 times the usual, or a payment in Tokyo. Times increase.

    Args:
        count: the number of payments; None for payments without an end.
        seed: the seed of the random choices: the same seed gives the same payments, and
            a smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in cards_rows(2, seed=1):
        ...     print(row["card"], row["time"], row["merchant"], row["amount"], row["lat"])
        4000000000000008 2024-06-01T00:00:23Z Web & Co, Ltd 45.50 39.7018
        4000000000000031 2024-06-01T00:00:48Z Cinema 58.22 41.8328
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    second = 0
    paid = [0] * _CARDS  # the payments so far of each card
    round_of_cards = list(range(_CARDS))  # the cards that have not paid in this round
    burst = list[int]()  # the card of each payment that a burst still needs
    for _ in count_to(count):
        if burst:
            card = burst.pop()
            second += draw.randrange(1, 6)
            kind = "burst"
        else:
            if not round_of_cards:
                round_of_cards = list(range(_CARDS))
                # Each card pays once in a round, so its payments are far apart
                second += 600
            card = round_of_cards.pop(draw.randrange(len(round_of_cards)))
            second += draw.randrange(5, 30)
            kind = "usual"
            if draw.random() < 1 / 100:
                kind = draw.choice(("amount", "place", "burst"))
            if paid[card] < _CARD_WARMUP:
                kind = "usual"
            if kind == "burst":
                burst = [card] * _BURST
        paid[card] += 1
        yield _payment(draw, card, second, kind)


def _payment(draw: random.Random, card: int, second: int, kind: str) -> dict[str, str]:
    """Make a payment of a card: a usual one, a part of a burst, or a strange amount or place."""
    amount = _usual_amount(card) * draw.uniform(0.5, 1.5)
    if kind == "amount":
        amount *= _TIMES
    lat, lon = _PLACES[card % len(_PLACES)]
    if kind == "place":
        lat, lon = _FAR_AWAY
    merchant, category = draw.choice(_SHOPS)
    return {
        "card": f"4000{card:012}",
        "time": iso_time(_FIRST_CARD + timedelta(seconds=second)),
        "merchant": merchant,
        "category": category,
        "amount": f"{amount:.2f}",
        "lat": f"{lat + draw.uniform(-0.05, 0.05):.4f}",
        "lon": f"{lon + draw.uniform(-0.05, 0.05):.4f}",
    }


def _usual_amount(card: int) -> int:
    return 20 + 2 * card


def cards_truth(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Find the frauds that were put into payments, without Spark.

    A payment in Tokyo gives two findings: that payment, and the next payment of the
    card at home. A burst gives one finding, its fifth payment.

    Args:
        rows: payments of `cards_rows`, in the order of their times.

    Returns:
        A tuple (card, time, kind) for each finding, sorted by time; the kind is
        "burst", "amount" or "place".

    Examples:
        >>> found = cards_truth(cards_rows(2000, seed=1))
        >>> len(found), found[0]
        (25, ('4000000000000014', '2024-06-01T07:02:42Z', 'place'))
    """
    findings = list[tuple[str, str, str]]()
    was_far = dict[str, bool]()
    recent = dict[str, list[datetime]]()
    for row in rows:
        card = row["card"]
        time = row["time"]
        now = datetime.fromisoformat(time)
        former = recent.get(card, [])
        recent[card] = [*(moment for moment in former if now - moment < _MINUTE), now]
        if len(recent[card]) > _BURST:
            findings.append((time, card, "burst"))
        if float(row["amount"]) > _usual_amount(int(card[4:])) * _TIMES / 3:
            findings.append((time, card, "amount"))
        is_far = float(row["lon"]) > 0
        if card in was_far and was_far[card] != is_far:
            findings.append((time, card, "place"))
        was_far[card] = is_far
    return [(card, time, kind) for time, card, kind in sorted(findings)]


_FIRST = datetime(2024, 3, 1, tzinfo=UTC)
_DEVICES = 8
_EVERY = 31  # seconds from one reading of a device to the next
_QUIET = (900, 2400)  # least and most seconds of a silence
_SILENT = timedelta(minutes=10)  # without a reading, as in the job
_WARMUP = 40  # readings of a device before its first spike
_APART = 25  # readings of a device between two spikes
# Degrees: the usual temperature of the first device, the largest drift, the largest
# noise, the smallest spike.
_USUAL = 18.0
_MOST_DRIFT = 0.5
_NOISE = 0.5
_SPIKE = 15.0


@seeded
def sensors_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make temperatures of eight devices.

    Each device is read about every 31 seconds. A reading is a dict of `device` ("d1" to
    "d8"), `time` (a string, ISO 8601, UTC) and `temperature` (a float, degrees
    Celsius). Each device has its own usual temperature, one degree above that of the
    device before it. The temperature drifts by at most half a degree, and has a noise
    of at most half a degree. About one reading in 150 is a spike of 15 to 25 degrees
    above that; after about one in 300, the device is silent for 15 to 40 minutes. Times
    increase.

    Args:
        count: the number of readings; None for readings without an end.
        seed: the seed of the random choices: the same seed gives the same readings, and
            a smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in sensors_rows(2, seed=1):
        ...     print(row)
        {'device': 'd1', 'time': '2024-03-01T00:00:01Z', 'temperature': 18.1}
        {'device': 'd2', 'time': '2024-03-01T00:00:05Z', 'temperature': 18.84}
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    drift = [0.0] * _DEVICES
    since_spike = [_APART - _WARMUP] * _DEVICES  # readings of each device
    silent_until = [0] * _DEVICES
    slot = 0
    for _ in count_to(count):
        while True:  # skip devices that are silent
            turn, device = divmod(slot, _DEVICES)
            slot += 1
            second = turn * _EVERY + device * _EVERY // _DEVICES + draw.randrange(1, 3)
            if second >= silent_until[device]:
                break
        moved = drift[device] + draw.choice((-0.01, 0, 0.01))
        drift[device] = min(_MOST_DRIFT, max(-_MOST_DRIFT, moved))
        noise = sum(draw.uniform(-_NOISE, _NOISE) for _ in range(4)) / 4
        degrees = _USUAL + device + drift[device] + noise
        since_spike[device] += 1
        if since_spike[device] > _APART and draw.random() < 1 / 150:
            since_spike[device] = 0
            degrees += draw.uniform(_SPIKE, 25)
        elif draw.random() < 1 / 300:
            silent_until[device] = second + draw.randrange(*_QUIET)
        yield {
            "device": f"d{device + 1}",
            "time": iso_time(_FIRST + timedelta(seconds=second)),
            "temperature": round(degrees, 2),
        }


def sensors_truth(
    rows: Iterable[dict[str, Any]], *, delay: timedelta = timedelta(0)
) -> list[tuple[str, str, str]]:
    """Find the spikes and the silences that were put into readings, without Spark.

    Args:
        rows: readings of `sensors_rows`, in the order of their times.
        delay: the watermark delay: findings later than the newest reading minus the
            delay are left out, because a streaming job has not emitted them yet.

    Returns:
        A tuple (device, time, kind) for each finding, sorted by time. The kind is
        "spike" or "silence"; the time is that of the spike, or ten minutes after the
        last reading before the silence.

    Examples:
        >>> found = sensors_truth(sensors_rows(2000, seed=1))
        >>> len(found), found[0]
        (9, ('d3', '2024-03-01T00:35:47Z', 'spike'))
    """
    check(sensors_truth, locals())
    findings = list[tuple[datetime, str, str]]()
    newest = dict[str, datetime]()  # the time of each device's newest reading
    now = _FIRST
    for row in rows:
        device = row["device"]
        now = datetime.fromisoformat(row["time"])
        if device in newest and now - newest[device] > _SILENT:
            findings.append((newest[device] + _SILENT, device, "silence"))
        if row["temperature"] > _USUAL + int(device[1:]) - 1 + _SPIKE / 2:
            findings.append((now, device, "spike"))
        newest[device] = now
    for device, time in newest.items():
        findings.append((time + _SILENT, device, "silence"))
    return [
        (device, iso_time(time), kind)
        for time, device, kind in sorted(findings)
        if time <= now - delay
    ]
