"""The test of `action_windows.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from action_windows import transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2016-07-26 {clock}")


def test_an_hour_is_counted_when_the_watermark_has_passed_it(stream: Streams) -> None:
    rows = stream("time TIMESTAMP, action STRING")
    query = stream.query(transform(rows.to_df(), "10 minutes"))
    rows.add_data(
        [(at("08:10"), "Open"), (at("08:50"), "Open"), (at("08:55"), "Close")]
    )
    # The watermark is at 09:01: the first hour has closed
    rows.add_data([(at("09:11"), "Open")])
    found = []
    for batch in query.step():
        found += batch.rows
    assert sorted(found) == [
        (at("08:00"), at("09:00"), "Close", 1),
        (at("08:00"), at("09:00"), "Open", 2),
    ]
    rows.add_data([(at("08:59"), "Open")])  # too late for its hour
    late = query.step()[-1]
    assert (late.rows, late.late_rows) == ([], 1)
