"""The test of `sales_totals.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sales_totals import totals, transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams

SALE = "10033,1/2/24,2,0,210,{amount},Lee,Oregon,West,{product},1,0.48"


def test_totals_follow_the_sales_and_bad_lines_are_counted(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(lines.to_df()), mode="complete")
    lines.add_data([(SALE.format(product="tea", amount="10.50"),), ("no sale",)])
    lines.add_data(
        [
            (SALE.format(product="tea", amount="4.25"),),
            (SALE.format(product="ink", amount="99"),),
        ]
    )
    first, second = query.step()
    bad = (None, "not 12 fields", 1, None)
    assert set(first.rows) == {("tea", None, 1, Decimal("10.50")), bad}
    assert set(second.rows) == {
        ("tea", None, 2, Decimal("14.75")),
        ("ink", None, 1, Decimal(99)),
        bad,
    }


def test_the_biggest_total_comes_first(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(totals(transform(lines.to_df())), mode="complete")
    lines.add_data(
        [
            (SALE.format(product="tea", amount="1.50"),),
            (SALE.format(product="ink", amount="2"),),
        ]
    )
    assert query.step()[-1].rows == [
        ("ink", 1, Decimal(2)),
        ("tea", 1, Decimal("1.50")),
    ]
