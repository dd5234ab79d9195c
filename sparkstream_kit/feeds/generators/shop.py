"""What a shop writes: events of its customers, and sales as CSV files of a spreadsheet."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import product
from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.feeds.files import Again, count_to, csv_line, line_files, zipf
from sparkstream_kit.feeds.generators import iso_time, seeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_EVENT_PRODUCTS = (
    ("kettle", 3490), ("desk lamp", 2250), ('monitor, 27"', 18999),
    ("socks", 799), ("backpack", 5400), ("chess set", 2999),
    ("crème brûlée torch", 1875), ("notebook", 350), ("headphones", 12900),
)  # fmt: skip


@seeded
def events_rows(count: int | None, *, seed: int) -> Iterator[dict[str, str]]:
    """Make the events of a shop.

    Each event is a dict of strings, as in a CSV file: event_id (unique within a seed),
    time (ISO 8601 in UTC, at most 12 seconds after the one before), user, product (some
    names have commas or quotes), type (view, cart or purchase) and price (with two
    decimals).

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in events_rows(2, seed=1):
        ...     print(*row.values(), sep=", ")
        1-0000001, 2024-03-01T09:00:01Z, user-382, chess set, view, 29.99
        1-0000002, 2024-03-01T09:00:07Z, user-326, desk lamp, cart, 22.50
    """
    weights = zipf(len(_EVENT_PRODUCTS))
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    moment = datetime(2024, 3, 1, 9, tzinfo=UTC)
    for number in count_to(count):
        moment += timedelta(seconds=pick(range(13))[0])
        product, cents = pick(_EVENT_PRODUCTS, cum_weights=weights)[0]
        user = pick(range(1, 501))[0]
        kind = pick(("view", "cart", "purchase"), cum_weights=(7, 9, 10))[0]
        yield {
            "event_id": f"{seed}-{number + 1:07}",
            "time": iso_time(moment),
            "user": f"user-{user}",
            "product": product,
            "type": kind,
            "price": f"{Decimal(cents) / 100:.2f}",
        }


def events_truth(rows: Iterable[Mapping[str, str]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `events_rows`, exactly and without Spark.

    Args:
        rows: events of `events_rows`, in any order.

    Returns:
        A tuple (type, number of events, sum of their prices) for each type, sorted by
        type.

    Examples:
        >>> for kind, events, total in events_truth(events_rows(1000, seed=1)):
        ...     print(kind, events, total)
        cart 198 10472.13
        purchase 99 5928.19
        view 703 36093.72
    """
    prices = defaultdict(list)
    for row in rows:
        prices[row["type"]].append(Decimal(row["price"]))
    totals = [
        (kind, len(amounts), sum(amounts, Decimal("0.00")))
        for kind, amounts in prices.items()
    ]
    return sorted(totals)


_PRODUCTS = (
    ("Build - Data Lake", "180"), ("Build - Web Shop", "149.5"),
    ("Workshop - Streaming", "210"), ("Advice - Cloud Cost", "195"),
    ("Build - Mobile App", "160"), ("Support - Night Desk", "87.25"),
    ("Workshop - Statistics", "125"), ("Advice - Security", "240"),
    ("Build - Search", "155"), ("Support - Upgrades", "95"),
    ("Workshop - Rust", "140"), ("Advice - Pricing", "170.75"),
    ("Build - Payments", "165"), ("Support - Backup", "72.5"),
    ("Workshop - Kotlin", "130"), ("Advice - Hiring", "110"),
    ("Support - Migration", "99.99"),
)  # fmt: skip
_STATES = (
    ("New York", "East"), ("Massachusetts", "East"),
    ("Pennsylvania", "East"), ("Maine", "East"),
    ("Oregon", "West"), ("Washington", "West"), ("Nevada", "West"), ("Utah", "West"),
    ("Illinois", "Central"), ("Iowa", "Central"),
    ("Kansas", "Central"), ("Wisconsin", "Central"),
    ("Georgia", "South"), ("Louisiana", "South"),
    ("North Carolina", "South"), ("Tennessee", "South"),
)  # fmt: skip
_NAME_FORMS = ("{0} {1}", "{1}, {0}", '{0} "Bear" {1}')
_FIRST_NAMES = ("Ann", "Bo", "Chidi", "Dana", "Zoë")
_LAST_NAMES = ("Smith", "Lee", "O'Hara", "Okafor", "Åkesson", "van Dijk")
_CUSTOMERS = tuple(
    form.format(first, last)
    for form, first, last in product(_NAME_FORMS, _FIRST_NAMES, _LAST_NAMES)
)


@seeded
def sales_rows(count: int | None, *, seed: int) -> Iterator[tuple[str, ...]]:
    r"""Make sales rows: tuples of twelve texts, as they stand in a CSV file.

    The columns are OrderID, OrderDate (month/day/two-digit year, no leading zeros),
    Quantity, DiscountPct (0 to 0.1), Rate, SaleAmount (Quantity x Rate less the
    discount, rounded to the cent), CustomerName (some with commas or quotes), State (of
    the US), Region, ProductKey, RowCount (always 1) and ProfitMargin. An order has one
    or more rows. Orders come by date; after four years the dates start over. The totals
    of the 17 products differ widely.

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in sales_rows(2, seed=1):
        ...     print(row[1], row[5:10])
        1/2/24 ('4491.9', 'Bo "Bear" O\'Hara', 'Oregon', 'West', 'Workshop - Streaming')
        1/3/24 ('3850.2', "O'Hara, Bo", 'Georgia', 'South', 'Build - Data Lake')
    """
    weights = zipf(len(_PRODUCTS))
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    order_id = 10_000
    days = 0
    for number in count_to(count):
        if number == 0 or pick((True, False), cum_weights=(6, 10))[0]:
            order_id += pick(range(1, 40))[0]
            days += pick((0, 0, 0, 1))[0]
            # After four years the dates start over, because a two-digit year is only
            # clear within a century.
            day = date(2024, 1, 1) + timedelta(days % 1461)
            customer = pick(_CUSTOMERS)[0]
            state, region = pick(_STATES)[0]
        product_key, rate = pick(_PRODUCTS, cum_weights=weights)[0]
        quantity = pick(range(1, 51))[0]
        discount = Decimal(pick(range(11))[0]) / 100
        exact_amount = quantity * Decimal(rate) * (1 - discount)
        amount = exact_amount.quantize(Decimal("0.01"), ROUND_HALF_UP)
        margin = Decimal(pick(range(35, 81))[0]) / 100
        yield (
            str(order_id),
            f"{day.month}/{day.day}/{day:%y}",
            str(quantity),
            _text(discount),
            rate,
            _text(amount),
            customer,
            state,
            region,
            product_key,
            "1",
            _text(margin),
        )


def sales_totals(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `sales_rows`, exactly and without Spark.

    Args:
        rows: rows of `sales_rows`, in any order.

    Returns:
        A tuple (ProductKey, Orders, TotalSales) for each product, the largest
        TotalSales first; products with equal totals are sorted by key. Orders is the
        number of rows.

    Examples:
        >>> for product, orders, total in sales_totals(sales_rows(1000, seed=1))[:2]:
        ...     print(product, orders, total)
        Build - Data Lake 303 1322326.80
        Build - Web Shop 132 484016.88
    """
    amounts = defaultdict(list)
    for row in rows:
        amounts[row[9]].append(Decimal(row[5]))
    totals = [
        (product_key, len(sales), sum(sales, Decimal("0.00")))
        for product_key, sales in amounts.items()
    ]
    return sorted(totals, key=lambda total: (-total[2], total[0]))


def sales_files(
    count: int | None, *, rows: int, seed: int
) -> Iterable[tuple[str, str]]:
    """Make headerless CSV files of `sales_rows`, as (name, text) pairs for `drip`.

    Together the files hold `sales_rows(count * rows, seed=seed)`.

    The true totals of the files are `sales_totals(sales_rows(count * rows,
    seed=seed))`. A quote in a name is doubled (RFC 4180); Spark reads that with the
    option escape='"'.

    Args:
        count: the number of files; None for files without an end.
        rows: the number of rows in each file.
        seed: the seed of the random choices: the same seed gives the same files. The
            seed is part of the file names, so that files of two seeds can land in one
            folder.

    Raises:
        InvalidInputError: the count is below 0, or `rows` is below 1.

    Examples:
        >>> [(name, len(text.splitlines())) for name, text in sales_files(2, rows=50, seed=1)]
        [('sales-1-0001.csv', 50), ('sales-1-0002.csv', 50)]
    """
    check(sales_files, locals())
    count_to(count)  # raises an error for a count below 0
    total = None if count is None else count * rows
    sales = sales_rows(total, seed=seed)
    lines = Again(lambda: map(csv_line, sales))
    return line_files(lines, rows=rows, name=f"sales-{seed}-{{}}.csv")


def _text(number: Decimal) -> str:
    """Format a number without trailing zeros and without an exponent."""
    return f"{number.normalize():f}"
