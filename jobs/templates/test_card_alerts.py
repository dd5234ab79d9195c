"""The test of `card_alerts.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from card_alerts import transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams

PAYMENT = "{card},2024-06-01T{clock}Z,Cinema,leisure,{amount},{lat},{lon}"
SEATTLE = ("47.6", "-122.3")
MIAMI = ("25.8", "-80.2")


def paid(
    clock: str,
    card: str = "c1",
    amount: str = "20.00",
    place: tuple[str, str] = SEATTLE,
) -> tuple[str]:
    return (
        PAYMENT.format(
            card=card, clock=clock, amount=amount, lat=place[0], lon=place[1]
        ),
    )


def test_travel_that_cannot_be_is_an_alert(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(lines.to_df()).select("card", "rule", "reason"))
    lines.add_data(
        [
            paid("08:00:00"),
            paid("08:30:00", place=("inf", "0")),
            paid("09:00:00", place=MIAMI),
        ]
    )
    lines.add_data([paid("08:00:00", "c2"), ("no payment",)])
    found = []
    for batch in query.drain():
        found += batch.rows
    assert found == [("c1", "Travel", "4,390 km in 1.0 hours: 4,390 km/h")]


def test_the_fifth_payment_of_a_minute_is_an_alert(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(lines.to_df()).select("card", "rule", "time"))
    lines.add_data([paid(f"08:00:{second:02}") for second in (0, 10, 20, 30, 40)])
    found = []
    for batch in query.drain():
        found += batch.rows
    assert found == [("c1", "Often", datetime.fromisoformat("2024-06-01 08:00:40"))]
