"""Tests of the tables, without a run of the pipeline. They need the kit's extra `testing` alone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams

TABLES = Path(__file__).parent / "transformations/shop_tables.py"


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2024-03-01 {clock}")


EIGHT, NINE, TEN = map(at, ("08:00", "09:00", "10:00"))


def sale(clock: str, product: str, amount: object) -> tuple[str]:
    return (
        f'{{"time": "2024-03-01T{clock}:00Z", "product": "{product}", "amount": {amount}}}',
    )


def test_a_line_is_in_one_of_two_tables(stream: Streams) -> None:
    lines = stream("value STRING")
    good = stream.query(stream.flow(TABLES, "good", lines=lines))
    bad = stream.query(
        stream.flow(TABLES, "bad", lines=lines).select("_reason", "_raw")
    )
    given = [sale("08:10", "tea", 2), sale("08:20", "ink", '"two"')]
    given.append(sale("08:30", "ink", 0))
    lines.add_data(given)
    assert good.step()[0].rows == [(at("08:10"), "tea", 2)]
    assert bad.step()[0].rows == [
        ("amount: not an int", *given[1]),
        ("breaks amount > 0", *given[2]),
    ]


def test_bad_rows_are_counted_by_their_reason(stream: Streams) -> None:
    bad = stream("_reason STRING, _raw STRING")
    broken = stream.query(stream.flow(TABLES, "broken", bad=bad), mode="complete")
    bad.add_data([("breaks amount > 0", "a"), ("breaks amount > 0", "b")])
    assert broken.step()[-1].rows == [("breaks amount > 0", 2)]


def test_hours_are_exact_over_a_restart_and_late_rows_dropped(stream: Streams) -> None:
    lines = stream("value STRING")
    hours = stream.query(stream.flow(TABLES, "hours", lines=lines))
    lines.add_data([sale("08:10", "tea", 2), sale("08:20", "tea", 3)])
    lines.add_data([sale("09:30", "ink", 1)])
    # The watermark has passed 09:00: the hour of the tea is final
    *_, closed = hours.step()
    assert closed.rows == [(EIGHT, NINE, "tea", 5)]
    hours.kill_before_commit()
    lines.add_data([sale("08:20", "tea", 3)])
    again, late = hours.step()
    assert (again.batch_id, again.rows) == (closed.batch_id, closed.rows)
    assert (late.rows, late.late_rows) == ([], 1)
