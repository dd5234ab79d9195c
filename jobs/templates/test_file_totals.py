"""The test of `file_totals.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from file_totals import totals, transform

from sparkstream_kit import schemas

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams

COLUMNS = "shop STRING, price INT"


def test_rows_and_sums_follow_the_lines(stream: Streams) -> None:
    lines = stream("value STRING")
    counted = transform(lines.to_df(), schemas.from_ddl(COLUMNS), ["shop"], "price")
    query = stream.query(totals(counted), mode="complete")
    lines.add_data([("north,3",), ("south,4",), ("south,four",)])
    lines.add_data([("north,5",)])
    first, second = query.step()
    assert first.rows == [("north", 1, 3), ("south", 1, 4)]
    assert second.rows == [("north", 2, 8), ("south", 1, 4)]


def test_lines_that_do_not_fit_are_counted_by_reason(stream: Streams) -> None:
    lines = stream("value STRING")
    counted = transform(lines.to_df(), schemas.from_ddl(COLUMNS), ["shop"], "price")
    query = stream.query(counted.where("_reason IS NOT NULL").select("_reason", "Rows"), mode="complete")
    lines.add_data([("south,four",), ("south,five",), ("south",)])
    assert sorted(query.step()[-1].rows) == [("not 2 fields", 1), ("price: not a int", 2)]
