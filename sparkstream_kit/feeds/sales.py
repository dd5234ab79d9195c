"""Sales with known totals: rows of twelve columns, CSV files of them, and the truth without Spark."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.files import csv_line, line_files
from sparkstream_kit.feeds.lines import Again, count_to, zipf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["sales_files", "sales_rows", "sales_totals"]

_PRODUCTS = (
    ("Build - Data Lake", "180"), ("Build - Web Shop", "149.5"), ("Workshop - Streaming", "210"),
    ("Advice - Cloud Cost", "195"), ("Build - Mobile App", "160"), ("Support - Night Desk", "87.25"),
    ("Workshop - Statistics", "125"), ("Advice - Security", "240"), ("Build - Search", "155"),
    ("Support - Upgrades", "95"), ("Workshop - Rust", "140"), ("Advice - Pricing", "170.75"),
    ("Build - Payments", "165"), ("Support - Backup", "72.5"), ("Workshop - Kotlin", "130"),
    ("Advice - Hiring", "110"), ("Support - Migration", "99.99"),
)  # fmt: skip
_STATES = (
    ("New York", "East"), ("Massachusetts", "East"), ("Pennsylvania", "East"), ("Maine", "East"),
    ("Oregon", "West"), ("Washington", "West"), ("Nevada", "West"), ("Utah", "West"),
    ("Illinois", "Central"), ("Iowa", "Central"), ("Kansas", "Central"), ("Wisconsin", "Central"),
    ("Georgia", "South"), ("Louisiana", "South"), ("North Carolina", "South"), ("Tennessee", "South"),
)  # fmt: skip
_CUSTOMERS = tuple(
    shape.format(first, last)
    for shape in ("{0} {1}", "{1}, {0}", '{0} "Bear" {1}')
    for first in ("Ann", "Bo", "Chidi", "Dana", "Zoë")
    for last in ("Smith", "Lee", "O'Hara", "Okafor", "Åkesson", "van Dijk")
)


def sales_rows(count: int | None, *, seed: int) -> Iterable[tuple[str, ...]]:
    r"""Make sales rows: tuples of twelve texts, as they stand in a CSV file.

    OrderID, OrderDate (month/day/two-digit year, no leading zeros), Quantity, DiscountPct (0 to 0.1), Rate,
    SaleAmount (Quantity x Rate less the discount, rounded to the cent), CustomerName (some with commas or
    quotes), State (of the US), Region, ProductKey, RowCount (1), ProfitMargin. An order has one row or more;
    orders come by date, starting over after four years; the 17 products differ widely in their totals.

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> for row in sales_rows(2, seed=1):
        ...     print(row[1], row[5:10])
        1/2/24 ('4491.9', 'Bo "Bear" O\'Hara', 'Oregon', 'West', 'Workshop - Streaming')
        1/3/24 ('3850.2', "O'Hara, Bo", 'Georgia', 'South', 'Build - Data Lake')
    """
    check(sales_rows, locals())
    numbers, weights = count_to(count), zipf(len(_PRODUCTS))

    def make() -> Iterator[tuple[str, ...]]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        number, days = 10_000, 0
        order: tuple[str, ...] = ()
        for _ in numbers:
            if not order or pick((True, False), cum_weights=(6, 10))[0]:
                number, days = number + pick(range(1, 40))[0], days + pick((0, 0, 0, 1))[0]
                day = date(2024, 1, 1) + timedelta(days % 1461)  # a two-digit year can tell a century only
                order = (str(number), f"{day.month}/{day.day}/{day:%y}", *pick(_CUSTOMERS), *pick(_STATES)[0])
            product, rate = pick(_PRODUCTS, cum_weights=weights)[0]
            quantity, discount = pick(range(1, 51))[0], Decimal(pick(range(11))[0]) / 100
            amount = (quantity * Decimal(rate) * (1 - discount)).quantize(Decimal("0.01"), ROUND_HALF_UP)
            sold = (str(quantity), _text(discount), rate, _text(amount))
            margin = _text(Decimal(pick(range(35, 81))[0]) / 100)
            yield (*order[:2], *sold, *order[2:], product, "1", margin)

    return Again(make)


def sales_totals(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `sales_rows`, exactly and without Spark.

    Returns:
        (ProductKey, Orders, TotalSales) for each product, the biggest TotalSales first and equal ones by key;
        Orders counts rows.

    Example:
        >>> for product, orders, total in sales_totals(sales_rows(1000, seed=1))[:2]:
        ...     print(product, orders, total)
        Build - Data Lake 303 1322326.80
        Build - Web Shop 132 484016.88
    """
    amounts = defaultdict(list)
    for row in rows:
        amounts[row[9]].append(Decimal(row[5]))
    totals = [(product, len(each), sum(each, Decimal("0.00"))) for product, each in amounts.items()]
    return sorted(totals, key=lambda total: (-total[2], total[0]))


def sales_files(count: int | None, *, rows: int, seed: int) -> Iterable[tuple[str, str]]:
    """Make (name, text) pairs for `drip`: headerless CSV files that together hold `sales_rows(count * rows)`.

    So `sales_totals(sales_rows(count * rows, seed=seed))` is their truth. A quote in a name is doubled (RFC
    4180), which Spark reads with the option escape='"'.

    Args:
        count: how many files; None never ends.
        rows: how many rows are in each.
        seed: the same seed gives the same files; it is part of their names, so that two seeds share a folder.

    Raises:
        InvalidInputError: the count is below 0, or there is not a row in a file.

    Example:
        >>> [(name, len(text.splitlines())) for name, text in sales_files(2, rows=50, seed=1)]
        [('sales-1-0001.csv', 50), ('sales-1-0002.csv', 50)]
    """
    check(sales_files, locals())
    count_to(count)  # refuses one below 0
    total = None if count is None else count * rows
    lines = Again(lambda: map(csv_line, sales_rows(total, seed=seed)))
    return line_files(lines, rows=rows, name=f"sales-{seed}-{{}}.csv")


def _text(number: Decimal) -> str:
    """Write a number without trailing zeros and without an exponent."""
    return f"{number.normalize():f}"
