"""1,000 malformed lines among 100,000: each kept with its reason, the rest exact.

They are of fourteen kinds.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable

from faults.drivers import JOBS
from faults.targets import added_up
from support.batch_folders import rows_in

from sparkstream_kit import feeds

LINES, EVERY, SEED = 100_000, 100, 4


def as_line(row):
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


COLUMNS = (
    "OrderID", "OrderDate", "Quantity", "DiscountPct", "Rate", "SaleAmount",
    "CustomerName", "State", "Region", "ProductKey", "RowCount", "ProfitMargin",
)  # fmt: skip


def with_value(column, value):
    at = COLUMNS.index(column)
    return lambda row: as_line([*row[:at], value, *row[at + 1 :]])


KINDS: list[tuple[str, Callable[[list[str]], str]]] = [
    ("not 12 fields", lambda row: as_line(row[:-1])),
    ("not 12 fields", lambda row: as_line([*row, "more"])),
    ("not 12 fields; give sep=';'", ";".join),
    ("not 12 fields", lambda row: " " * (int(row[0]) % 50)),
    ("unbalanced quote", lambda row: as_line(row[:6]) + ',"Bo,' + as_line(row[7:])),
    ("OrderID: not a bigint", with_value("OrderID", "99999999999999999999")),
    ("OrderDate: not a date", with_value("OrderDate", "13/1/24")),
    ("OrderDate: not a date", with_value("OrderDate", "2024-01-05")),
    ("Quantity: not an int", with_value("Quantity", "two")),
    ("DiscountPct: not a decimal(9,4)", with_value("DiscountPct", "5%")),
    ("SaleAmount: empty", with_value("SaleAmount", "")),
    ("SaleAmount: not a decimal(12,2)", with_value("SaleAmount", "10.129")),
    ("SaleAmount: not a decimal(12,2)", with_value("SaleAmount", "12345678901.00")),
    ("ProductKey: empty", with_value("ProductKey", "")),
]


def test_malformed_lines_are_kept_with_a_reason_and_the_rest_is_exact(launch, tmp_path):
    lines: list[str] = []
    good: list[tuple[str, ...]] = []
    bad: Counter[tuple[str, str]] = Counter()
    for number, row in enumerate(feeds.sales_rows(LINES, seed=SEED)):
        if number % EVERY:
            good.append(row)
            lines.append(as_line(list(row)))
        else:
            reason, broken = KINDS[number // EVERY % len(KINDS)]
            lines.append(broken(list(row)))
            bad[reason, lines[-1]] += 1
    quarter = LINES // 4
    files = [
        (f"{n}.csv", "\n".join(lines[n * quarter : (n + 1) * quarter]) + "\n")
        for n in range(4)
    ]
    feeds.drip(files, tmp_path / "in")

    driver = launch(
        "python",
        JOBS / "sales_clean.py",
        tmp_path / "in",
        tmp_path / "out",
        "--available-now",
    )
    assert driver.ended() == 0, driver.errors
    assert "100,000 rows in" in driver.errors
    assert sum(bad.values()) == LINES // EVERY
    assert (
        Counter(
            (row["_reason"], row["_raw"]) for row in rows_in(tmp_path / "out" / "bad")
        )
        == bad
    )
    kept = rows_in(tmp_path / "out" / "good")
    assert Counter(
        (str(row["OrderID"]), row["CustomerName"], row["State"]) for row in kept
    ) == Counter((row[0], row[6], row[7]) for row in good)
    totals = added_up((row["ProductKey"], row["SaleAmount"]) for row in kept)
    assert totals == sorted(feeds.sales_totals(good))
