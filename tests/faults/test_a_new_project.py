"""A project as a new user writes it stays exact, over dirty files that come at once.

It is a script, with the kit as a zip.

The lines are our own, shaped after the Online Retail data set of the UCI repository:
invoices with times such as 12/31/2010 8:26, quoted descriptions, cancellations, missing
customers, corrections below zero.
"""

import csv
import io
import os
import random
import time
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from conftest import built_wheel, program
from faults.drivers import SCRIPTS, ended, no_stack_trace
from faults.targets import added_up, newest
from support.batch_folders import rows_in
from support.sql import sql

# Kills, files copied at once, and files that come after each kill
ROUNDS, FILES, MORE = 4, 20, 3
SEED, ROWS = 11, 60
COLUMNS = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
]
COLUMNS += ["Country"]
REGIONS = {
    "United Kingdom": "Isles",
    "EIRE": "Isles",
    "France": "Continent",
    "Germany": "Continent",
}
THINGS = [
    "WHITE HANGING HEART T-LIGHT HOLDER",
    'SET OF 3 "COLOURED" TINS',
    "CANDLE, ROSE",
    "CAFÉ SIGN",
    "",
]
DIRT = [
    ("536365", "85123A", "short line"),
    ("536366", "22752", "TIN", "six", "12/1/2010 8:26", "2.55", "17850", "France"),
    ("536367", "22752", "TIN", "6", "12/32/2010 8:26", "2.55", "17850", "France"),
    ("536368", "22752", "TIN", "6", "2010-12-01 08:26:00", "2.55", "17850", "France"),
    ("536369", "22752", "TIN", "6", "12/1/2010 8:26", "free", "17850", "France"),
    ("536370", "22752", "TIN", "6", "12/1/2010 8:26", "2.555", "17850", "France"),
    ("536371", "22752", "TIN", "", "12/1/2010 8:26", "2.55", "17850", "France"),
    ("", "22752", "TIN", "6", "12/1/2010 8:26", "2.55", "17850", "France"),
    (
        "A563186",
        "B",
        "Adjust bad debt",
        "1",
        "8/12/2011 14:51",
        "-11062.06",
        "",
        "United Kingdom",
    ),
    (
        "536372",
        "22752",
        "TIN",
        "6",
        "12/1/2010 8:26",
        "2.55",
        "17850",
        "France",
        "a field more",
    ),
]


def as_line(row):
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


def retail_file(number):
    """Return a file's lines, its sales, and its dirt.

    The lines are a header, sales of any day of a year, and dirt.
    """
    draw = random.Random(f"{SEED} {number}")  # noqa: S311 - sample data
    lines, sold, dirt = [as_line(COLUMNS)], [], []
    for at in range(ROWS):
        if draw.random() < 0.1:
            dirt.append(as_line(draw.choice(DIRT)))
            lines.append(dirt[-1])
        cancelled = draw.random() < 0.05
        day = datetime(2010, 12, 1) + timedelta(minutes=draw.randrange(370 * 24 * 60))  # noqa: DTZ001 - of a shop
        quantity = draw.randrange(1, 500) * (-1 if cancelled else 1)
        price, country = (
            Decimal(draw.randrange(0, 5000)) / 100,
            draw.choice([*REGIONS, "Australia"]),
        )
        invoice = f"{'C' * cancelled}{536_000 + number * 100 + at}"
        thing = draw.choice(["85123A", "71053", "POST"]), draw.choice(THINGS)
        time_of_day = f"{day.month}/{day.day}/{day.year} {day.hour}:{day.minute:02}"
        customer = draw.choice(["17850", "13047", ""])
        lines.append(
            as_line(
                [
                    invoice,
                    *thing,
                    quantity,
                    time_of_day,
                    f"{price:.2f}",
                    customer,
                    country,
                ]
            )
        )
        sold.append(
            ((f"{day:%Y-%m-%d}", REGIONS.get(country, "elsewhere")), price * quantity)
        )
    return lines, sold, dirt


@pytest.fixture
def submit(tmp_path):
    """A command that is spark-submit with the kit's zip, which `make zip` makes so."""
    kit = built_wheel(tmp_path).rename(tmp_path / "sparkstream_kit.zip")
    return program(
        tmp_path / "submit", f'#!/bin/sh\nexec spark-submit --py-files "{kit}" "$@"\n'
    )


@pytest.mark.slow
def test_dirty_files_copied_at_once_are_exact_over_kills(submit, launch, tmp_path):
    folder, out, files = tmp_path / "in", tmp_path / "out", list[Any]()
    folder.mkdir()
    out.mkdir()
    regions = tmp_path / "regions.csv"
    regions.write_text(
        "".join(
            f"{row}\n" for row in ["Country,Region", *map(",".join, REGIONS.items())]
        )
    )

    def copy(number_of_files):
        """Copy files as `cp` does: all in a moment, here in the very same one."""
        now = time.time_ns()
        for number in range(len(files), len(files) + number_of_files):
            files.append(retail_file(number))
            hidden = folder / f".{number:03}.csv"
            hidden.write_text("".join(f"{line}\n" for line in files[-1][0]), "utf-8")
            os.utime(hidden, ns=(now, now))
            hidden.rename(folder / f"retail-{number:03}.csv")

    def planned():
        return newest(out / "ckpt/daily/offsets") + newest(out / "ckpt/bad/offsets")

    command: tuple[Any, ...] = (SCRIPTS / "daily_retail.py", folder, regions, out)
    pick = random.Random(SEED)  # noqa: S311 - times, not secrets
    copy(FILES)
    for _ in range(ROUNDS):
        before, driver = planned(), launch(str(submit), *command, PYTHONPATH="")
        driver.until(lambda: planned() > before + 1)  # noqa: B023
        # The moment of the kill, which no condition picks
        time.sleep(pick.uniform(0, 1))
        driver.kill("group")
        copy(MORE)
    last = launch(str(submit), *command, "--available-now", PYTHONPATH="")
    # And not the installed one; spark-submit has one output
    assert "sparkstream_kit.zip/" in ended(last)
    no_stack_trace(last)

    sales = [sale for _, sold, _ in files for sale in sold]
    aside = sorted(line for *_, dirt in files for line in dirt)
    rows = sql(
        f"sqlite:///{out}/shop.db", 'SELECT start, "Region", lines, turnover FROM daily'
    )
    found = sorted(
        ((day[:10], region), lines, Decimal(total))
        for day, region, lines, total in rows
    )
    assert found == added_up(sales)
    assert len(sales) > 1500
    assert sorted(row["_raw"] for row in rows_in(out / "bad")) == aside
    assert len(aside) > 100
