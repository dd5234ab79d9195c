"""The job `sales_totals`: exact totals, over restarts and bad lines.

They are so by `python` and by `spark-submit`.
"""

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
from collections import Counter
from decimal import Decimal

import pytest
import sales_totals
from chispa import assert_df_equality
from conftest import ROOT, left_behind

from sparkstream_kit import feeds, run, schemas, sinks, sources, start

GOOD = "1,1/13/09,2,0.05,10,{amount},Ann Lee,Maine,East,{key},1,0.5"


def truth(count, seed):
    return [
        [k, str(n), str(t)]
        for k, n, t in feeds.sales_totals(feeds.sales_rows(count, seed=seed))
    ]


def rows(text):
    return list(csv.reader(io.StringIO(text)))[1:]


WHOLE = GOOD.format(amount="1.00", key="a")
BAD = {
    WHOLE.rpartition(",")[0]: "not 12 fields",
    f"{WHOLE},more": "not 12 fields",
    GOOD.format(amount="", key="a"): "SaleAmount: empty",
    GOOD.format(amount="1.00", key=""): "ProductKey: empty",
    GOOD.format(amount="10.129", key="a"): "SaleAmount: not a decimal(12,2)",
    WHOLE.replace("1/13/09", "13/1/09"): "OrderDate: not a date",
    WHOLE.replace(",1,0.5", ",one,0.5"): "RowCount: not an int",
}


@pytest.mark.slow
def test_bad_lines_are_counted_and_not_summed(spark):
    lines = spark.createDataFrame(
        [(line,) for line in [*BAD, GOOD.format(amount="2.50", key="a")]]
    )
    counted = sales_totals.transform(lines)
    assert [tuple(row) for row in sales_totals.totals(counted).collect()] == [
        ("a", 1, Decimal("2.50"))
    ]
    bad = counted.where("Problem IS NOT NULL").select("Problem", "Orders")
    assert dict(map(tuple, bad.collect())) == Counter(BAD.values())


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
@pytest.mark.connect
def test_headers_are_no_data_and_too_many_bad_lines_are_a_failure_after_the_result(
    job, folder
):
    header = ",".join(schemas.from_ddl(sales_totals.SALES).names)
    for name, text in feeds.sales_files(3, rows=25, seed=2):
        feeds.drip(
            [
                (
                    name,
                    f"{header.upper()}\n{text}"
                    + ("junk\n" if name.endswith("1.csv") else ""),
                )
            ],
            folder,
        )
    flags = ("--available-now", "--format", "csv", "--header", "--max-bad", "1.3%")
    done = job("python", "sales_totals", folder, *flags, code=1)
    assert rows(done.stdout) == truth(75, 2)
    assert "3 batches, 79 rows in, " in done.stderr
    assert ", 3 header lines, 1 bad row, " in done.stderr
    assert (
        done.stderr.splitlines()[-1]
        == "sales_totals.py: bad lines: 1 of 76 (1.32%); --max-bad is 1.3%"
    )


@pytest.mark.slow
@pytest.mark.connect
def test_a_restart_goes_on_and_bad_lines_stay_counted(job, folder, tmp_path):
    feeds.drip(feeds.sales_files(2, rows=20, seed=3), folder)
    feeds.drip([("bad.csv", "\n".join(BAD))], folder)
    snapshot = tmp_path / "totals.csv"
    flags = (
        *(
            folder,
            "--available-now",
            "--checkpoint",
            tmp_path / "ckpt",
            "--max-files-per-trigger",
            2,
        ),
        *("--database", f"sqlite:///{tmp_path}/totals.db"),
    )
    first = job(
        "python", "sales_totals", *flags, "--format", "csv", "--snapshot", snapshot
    )
    assert rows(first.stdout) == truth(40, 3)
    assert snapshot.read_text() == first.stdout
    assert "bad lines: 2 (not 12 fields)" in first.stderr

    with sqlite3.connect(tmp_path / "totals.db") as database:
        kept = database.execute(
            "SELECT ProductKey, Orders, TotalSales FROM sales_totals"
        ).fetchall()
    assert sorted([key, str(orders), total] for key, orders, total in kept) == sorted(
        truth(40, 3)
    )

    # Rows in the totals and bad rows are the lines in the files.
    read = sum(int(row[1]) for row in rows(first.stdout))
    bad = sum(
        int(line.split()[2])
        for line in first.stderr.splitlines()
        if line.startswith("bad lines:")
    )
    assert read + bad == sum(
        len(path.read_text().splitlines()) for path in folder.iterdir()
    )

    # Nothing new: the same table and the same bad lines, not an empty one.
    again = job("python", "sales_totals", *flags, "--format", "json")
    parsed = json.loads(again.stdout, parse_float=Decimal)
    assert [
        [r["ProductKey"], str(r["Orders"]), f"{r['TotalSales']:.2f}"] for r in parsed
    ] == truth(40, 3)
    assert "sales_totals: 0 batches" in again.stderr
    bad_lines = [
        line for line in first.stderr.splitlines() if line.startswith("bad lines:")
    ]
    assert bad_lines == [
        line for line in again.stderr.splitlines() if line.startswith("bad lines:")
    ]


@pytest.mark.slow
def test_the_run_and_its_result_are_drawn_on_a_terminal_under_spark_submit(
    folder, tmp_path, terminal
):
    feeds.drip(feeds.sales_files(2, rows=10, seed=4), folder)
    screen, theirs = terminal
    with (tmp_path / "out").open("w") as out:
        script = ROOT / "jobs" / "sales_totals.py"
        process = subprocess.Popen(
            ["spark-submit", script, folder, "--available-now"],
            stdout=out,
            stderr=theirs,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLUMNS": "100",
                "LINES": "40",
            },
        )
    os.close(theirs)
    shown = b""
    while chunk := _read(screen):
        shown += chunk
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())  # without colours
    assert re.search(r"sales_totals +1 ", text)  # its second batch
    assert re.search(r"Workshop - Streaming +█+", text)
    assert (tmp_path / "out").read_text().startswith("ProductKey ")


def _read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux's way of saying that the other side of a terminal is closed
        return b""


@pytest.mark.slow
def test_the_sales_log_gives_its_published_totals(job, sales_log, temporary):
    log, published = sales_log
    flags = ("--available-now", "--max-files-per-trigger", 42, "--format", "csv")
    done = job("spark-submit", "sales_totals", log, *flags, **temporary)
    assert not left_behind(temporary)
    assert done.stdout == published, "nothing else is on standard output"
    assert ", 0 bad rows, " in done.stderr
    assert "bad lines" not in done.stderr


@pytest.mark.slow
def test_the_same_transform_on_a_static_read_gives_the_same_table(spark, folder):
    feeds.drip(feeds.sales_files(3, rows=50, seed=1), folder)
    static = sales_totals.totals(sales_totals.transform(spark.read.text(str(folder))))
    assert [[str(value) for value in row] for row in static.collect()] == truth(150, 1)
    assert (
        static.schema.simpleString()
        == "struct<ProductKey:string,Orders:bigint,TotalSales:decimal(22,2)>"
    )

    streamed = sales_totals.transform(
        sources.text(spark, str(folder), max_files_per_trigger=1)
    )
    run(
        start(
            streamed,
            sinks.latest("counted"),
            name="same",
            mode="complete",
            availableNow=True,
        )
    )
    assert_df_equality(
        sales_totals.totals(spark.table("counted")), static, ignore_nullable=True
    )


@pytest.mark.connect
def test_wrong_settings_are_one_line_too(job, folder, tmp_path):
    (tmp_path / "broken.conf").write_text("spark.sql.shuffle.partitions\n")
    done = job(
        "python", "sales_totals", folder, "--profile", tmp_path / "broken.conf", code=2
    )
    assert (
        "broken.conf, line 1: 'spark.sql.shuffle.partitions' is not a setting; write"
        in done.stderr
    )
    assert done.stderr.count("\n") == 1
