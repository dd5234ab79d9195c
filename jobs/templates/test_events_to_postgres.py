"""The test of `events_to_postgres.py`, to change with it: rows in, and what must come out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from events_to_postgres import transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams

EVENT = "{id},2024-03-01T{clock}Z,ann,tea,{kind},{price}"


def event(
    number: int, clock: str, kind: str = "view", price: str = "1.50"
) -> tuple[str]:
    return (EVENT.format(id=number, clock=clock, kind=kind, price=price),)


def test_an_event_that_comes_again_is_left_out_and_a_bad_one_has_its_reason(
    stream: Streams,
) -> None:
    lines = stream("value STRING")
    query = stream.query(
        transform(lines.to_df()).select("event_id", "price", "_reason")
    )
    lines.add_data([event(1, "09:00:00"), event(2, "09:00:10", "cart")])
    lines.add_data(
        [
            event(1, "09:00:00"),
            event(3, "09:00:20", price="-1"),
            event(4, "09:00:30", "sold"),
        ]
    )
    found = []
    for batch in query.step():
        found += batch.rows
    assert sorted(found) == [
        ("1", Decimal("1.50"), None),
        ("2", Decimal("1.50"), None),
        ("3", Decimal(-1), "price: below 0"),
        ("4", Decimal("1.50"), "type: none of view, cart, purchase"),
    ]
