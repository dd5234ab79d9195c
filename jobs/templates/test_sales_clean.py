"""The test of `sales_clean.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sales_clean import transform

from sparkstream_kit import quarantine

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams

SALE = "10033,1/2/24,2,0,210,{amount},Lee,Oregon,West,{product},1,0.48"


def test_good_rows_are_typed_and_bad_lines_have_a_reason(stream: Streams) -> None:
    lines = stream("value STRING")
    rows = transform(lines.to_df()).select("ProductKey", "SaleAmount", quarantine.REASON)
    query = stream.query(rows)
    lines.add_data([(SALE.format(product="tea", amount="10.50"),), (SALE.format(product="tea", amount="?"),)])
    lines.add_data([("no sale",)])
    first, second = query.step()
    assert first.rows == [
        ("tea", Decimal("10.50"), None),
        (None, None, "SaleAmount: not a decimal(12,2)"),
    ]
    assert second.rows == [(None, None, "not 12 fields")]


def test_a_sale_that_comes_again_counts_once(stream: Streams) -> None:
    lines = stream("value STRING")
    rows = transform(lines.to_df(), ["OrderID", "ProductKey"]).select("ProductKey")
    query = stream.query(rows)
    lines.add_data([(SALE.format(product="tea", amount="1"),)])
    lines.add_data([(SALE.format(product="tea", amount="1"),), (SALE.format(product="ink", amount="1"),)])
    first, second = query.step()
    assert (first.rows, second.rows) == ([("tea",)], [("ink",)])
