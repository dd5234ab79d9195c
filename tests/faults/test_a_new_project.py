"""A project as a new user writes it stays exact: a script, the kit as a zip, dirty files copied at once.

The lines are our own, shaped after the Online Retail data set of the UCI repository: invoices with times such
as 12/31/2010 8:26, quoted descriptions, cancellations, missing customers, corrections below zero.
"""

import csv
import io
import os
import random
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import pytest
from conftest import built_wheel
from faults.drivers import SCRIPTS, ended, no_stack_trace
from faults.targets import newest
from support.batch_folders import rows_in

ROUNDS, FILES, MORE = 4, 20, 3  # kills, files copied at once, and files that come after each kill
SEED, ROWS = 11, 60
COLUMNS = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"]
COLUMNS += ["Country"]
REGIONS = {"United Kingdom": "Isles", "EIRE": "Isles", "France": "Continent", "Germany": "Continent"}
THINGS = ["WHITE HANGING HEART T-LIGHT HOLDER", 'SET OF 3 "COLOURED" TINS', "CANDLE, ROSE", "CAFÉ SIGN", ""]
DIRT = [
    ("536365", "85123A", "short line"),
    ("536366", "22752", "TIN", "six", "12/1/2010 8:26", "2.55", "17850", "France"),
    ("536367", "22752", "TIN", "6", "12/32/2010 8:26", "2.55", "17850", "France"),
    ("536368", "22752", "TIN", "6", "2010-12-01 08:26:00", "2.55", "17850", "France"),
    ("536369", "22752", "TIN", "6", "12/1/2010 8:26", "free", "17850", "France"),
    ("536370", "22752", "TIN", "6", "12/1/2010 8:26", "2.555", "17850", "France"),
    ("536371", "22752", "TIN", "", "12/1/2010 8:26", "2.55", "17850", "France"),
    ("", "22752", "TIN", "6", "12/1/2010 8:26", "2.55", "17850", "France"),
    ("A563186", "B", "Adjust bad debt", "1", "8/12/2011 14:51", "-11062.06", "", "United Kingdom"),
    ("536372", "22752", "TIN", "6", "12/1/2010 8:26", "2.55", "17850", "France", "a field more"),
]


def retail_file(number):
    """Return the text of a file: a header, sales of any day of a year, and dirt among them."""
    draw, text = random.Random(f"{SEED} {number}"), io.StringIO()  # noqa: S311 - sample data
    written = csv.writer(text, lineterminator="\n")
    written.writerow(COLUMNS)
    for at in range(ROWS):
        if draw.random() < 0.1:
            written.writerow(draw.choice(DIRT))
        cancelled = draw.random() < 0.05
        day = pd.Timestamp("2010-12-01") + timedelta(minutes=draw.randrange(370 * 24 * 60))
        written.writerow(
            [
                f"{'C' * cancelled}{536_000 + number * 100 + at}",
                draw.choice(["85123A", "71053", "POST"]),
                draw.choice(THINGS),
                draw.randrange(1, 500) * (-1 if cancelled else 1),
                f"{day.month}/{day.day}/{day.year} {day.hour}:{day.minute:02}",
                f"{draw.randrange(0, 5000) / 100:.2f}",
                draw.choice(["17850", "13047", ""]),
                draw.choice([*REGIONS, "Australia"]),
            ]
        )
    return text.getvalue()


def told_apart(texts):
    """Return the sales of some files and the lines that are none, by pandas and not by Spark."""
    lines = [line for text in texts for line in text.splitlines()[1:]]
    fields = [next(csv.reader([line])) for line in lines]
    whole = [len(each) == len(COLUMNS) for each in fields]
    frame = pd.DataFrame([each for each, good in zip(fields, whole, strict=True) if good], columns=COLUMNS)
    frame["line"] = [line for line, good in zip(lines, whole, strict=True) if good]
    frame["time"] = pd.to_datetime(frame["InvoiceDate"], format="%m/%d/%Y %H:%M", errors="coerce")
    good = (
        (frame["InvoiceNo"] != "")
        & frame["Quantity"].str.fullmatch(r"-?\d+")
        & frame["UnitPrice"].str.fullmatch(r"\d+(\.\d{1,2})?")
        & frame["time"].notna()
    )
    short = [line for line, is_whole in zip(lines, whole, strict=True) if not is_whole]
    return frame[good], sorted([*short, *frame[~good]["line"]])


def daily(sales: pd.DataFrame) -> list[tuple[str, str, int, Decimal]]:
    """Return day, region, lines and turnover."""
    amounts = [
        Decimal(price) * int(number)
        for price, number in zip(sales["UnitPrice"], sales["Quantity"], strict=True)
    ]
    named = sales.assign(
        day=sales["time"].dt.strftime("%Y-%m-%d"),
        region=sales["Country"].map(REGIONS).fillna("elsewhere"),
        amount=amounts,
    )
    return sorted(
        (str(day), str(region), len(group), sum(group["amount"], Decimal("0.00")))
        for (day, region), group in named.groupby(["day", "region"])
    )


@pytest.fixture
def submit(tmp_path):
    """A command that is spark-submit with the kit's zip, which `make zip` makes so."""
    kit = built_wheel(tmp_path).rename(tmp_path / "sparkstream_kit.zip")
    command = tmp_path / "submit"
    command.write_text(f'#!/bin/sh\nexec spark-submit --py-files "{kit}" "$@"\n')
    command.chmod(0o755)
    return command


@pytest.mark.slow
def test_dirty_files_copied_at_once_are_exact_over_kills(submit, launch, tmp_path):
    folder, out, texts = tmp_path / "in", tmp_path / "out", list[str]()
    folder.mkdir()
    out.mkdir()
    regions = tmp_path / "regions.csv"
    regions.write_text("".join(f"{row}\n" for row in ["Country,Region", *map(",".join, REGIONS.items())]))

    def copy(files):
        """Copy files as `cp` does: all in a moment, here in the very same one."""
        now = time.time_ns()
        for number in range(len(texts), len(texts) + files):
            texts.append(retail_file(number))
            hidden = folder / f".{number:03}.csv"
            hidden.write_text(texts[-1], "utf-8")
            os.utime(hidden, ns=(now, now))
            hidden.rename(folder / f"retail-{number:03}.csv")

    def planned():
        return newest(out / "ckpt/daily/offsets") + newest(out / "ckpt/bad/offsets")

    command: tuple[Any, ...] = (SCRIPTS / "daily_retail.py", folder, regions, out)
    pick = random.Random(SEED)  # noqa: S311 - times, not secrets
    copy(FILES)
    for _ in range(ROUNDS):
        before = planned()
        driver = launch(str(submit), *command, PYTHONPATH="")
        driver.until(lambda: planned() > before + 1)  # noqa: B023
        time.sleep(pick.uniform(0, 1))  # the moment of the kill, which no condition picks
        driver.kill("group")
        copy(MORE)
    last = launch(str(submit), *command, "--available-now", PYTHONPATH="")
    assert "sparkstream_kit.zip/" in ended(last)  # and not the installed one; spark-submit has one output
    no_stack_trace(last)

    sales, aside = told_apart(texts)
    with closing(sqlite3.connect(out / "shop.db")) as database:
        rows = database.execute('SELECT start, "Region", lines, turnover FROM daily').fetchall()
    assert sorted((day[:10], region, lines, Decimal(total)) for day, region, lines, total in rows) == daily(
        sales
    )
    assert sum(lines for _, _, lines, _ in rows) == len(sales) > 1500
    assert sorted(row["_raw"] for row in rows_in(out / "bad")) == aside
    assert len(aside) > 100
