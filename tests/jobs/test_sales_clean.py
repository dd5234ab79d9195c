"""The job `sales_clean`: every line is a row once, good or bad, over restarts and replays.

`tests/faults/` kills it, and gives it 1,000 malformed lines among 100,000.
"""

import csv
from collections import Counter
from decimal import Decimal

import pytest
import sales_clean
from chispa import assert_df_equality
from pyspark.sql import functions as F
from support.sink_streams import forget_commit

from sparkstream_kit import feeds, quarantine, run, sinks, sources, start

GOOD = "{id},1/13/09,2,0.05,10,{amount},Ann Lee,Maine,East,{key},1,0.5"


def clean(spark, folder, out, dedupe=()):
    """Do what the job does, in this session."""
    good, bad = sinks.batch_files(out / "good"), sinks.batch_files(out / "bad")
    query = start(
        sales_clean.transform(
            sources.text(spark, str(folder), max_files_per_trigger=1), dedupe
        ),
        sinks.fan_out(
            good.taking(quarantine.good_rows), bad.taking(quarantine.bad_rows)
        ),
        name="clean",
        checkpoint=out / "_checkpoint",
        availableNow=True,
    )
    return run(query).queries[0]


def written(spark, out, kind):
    return spark.read.parquet(str(out / kind))


def totals(good):
    summed = good.groupBy("ProductKey").agg(F.count("*"), F.sum("SaleAmount"))
    return sorted(tuple(row) for row in summed.collect())


@pytest.mark.slow
@pytest.mark.connect
def test_a_stream_writes_what_the_same_transform_gives_once(spark, folder, tmp_path):
    feeds.drip(feeds.sales_files(2, rows=50, seed=1), folder)
    feeds.drip(
        [("bad.csv", "junk\n" + GOOD.format(id=1, amount="10.129", key="a") + "\n")],
        folder,
    )
    clean(spark, folder, tmp_path / "out")
    static = sales_clean.transform(spark.read.text(str(folder)))
    good = written(spark, tmp_path / "out", "good")
    assert_df_equality(
        good.drop("batch"),
        quarantine.good_rows(static),
        ignore_row_order=True,
        ignore_nullable=True,
    )
    assert totals(good) == sorted(feeds.sales_totals(feeds.sales_rows(100, seed=1)))
    bad = written(spark, tmp_path / "out", "bad")
    assert_df_equality(
        bad.drop("batch"), quarantine.bad_rows(static), ignore_row_order=True
    )
    assert Counter(row["_reason"] for row in bad.collect()) == {
        "not 12 fields": 1,
        "SaleAmount: not a decimal(12,2)": 1,
    }


@pytest.mark.slow
def test_dedupe_keeps_one_row_over_batches_restarts_and_replays(spark, folder, out):
    line = GOOD.format(id=1, amount="2.50", key="a")
    other = GOOD.format(id=1, amount="4.00", key="b")
    feeds.drip(
        [("1.csv", f"{line}\n{line}\njunk\n"), ("2.csv", f"{line}\njunk\nmore junk\n")],
        folder,
    )
    clean(spark, folder, out, dedupe=["OrderID", "ProductKey"])
    feeds.drip([("3.csv", f"{line}\n{other}\njunk\n")], folder)
    for _ in range(2):
        done = clean(spark, folder, out, dedupe=["OrderID", "ProductKey"])
        # Once, though they go to two sinks
        assert (done.parsed_rows, done.bad_rows) == (3, 1)
        assert totals(written(spark, out, "good")) == [
            ("a", 1, Decimal("2.50")),
            ("b", 1, Decimal("4.00")),
        ]
        kept = (
            written(spark, out, "bad")
            .select("_raw", "batch")
            .orderBy("batch")
            .collect()
        )
        assert kept == [("junk", 0), ("more junk", 1)]
        forget_commit(out / "_checkpoint", 2)


@pytest.mark.slow
def test_dedupe_keeps_bad_lines_that_differ_only_in_bytes_that_are_no_text(
    spark, folder, tmp_path
):
    lines = [b"Z\xfcrich", b"Z\xe4rich", b"Z\xfcrich", b"Z\xef\xbf\xbdrich"]
    (folder / "1.csv").write_bytes(b"\n".join(lines))
    clean(spark, folder, tmp_path / "out", dedupe=["OrderID", "ProductKey"])
    bad = written(spark, tmp_path / "out", "bad").collect()
    assert sorted(
        bytes(row["_bytes"] or row["_raw"].encode()) for row in bad
    ) == sorted(set(lines))


@pytest.mark.slow
def test_a_folder_of_something_else_is_said_in_the_last_line(job, folder, tmp_path):
    feeds.drip([("a.csv", "some\nother\n"), ("b.csv", "text\n")], folder)
    done = job("python", "sales_clean", folder, tmp_path / "out", "--available-now")
    assert "3 rows in, 3 bad rows" in done.stderr
    assert (
        done.stderr.splitlines()[-1]
        == "no line could be read: is this the right folder?"
    )


@pytest.mark.slow
def test_an_unknown_column_is_one_line_and_nothing_is_written(job, tmp_path):
    (tmp_path / "home" / "in").mkdir()
    done = job("python", "sales_clean", "in", "out", "--dedupe", "OrderId", code=2)
    message = (
        "sales_clean.py: unknown column of --dedupe OrderId; did you mean OrderID?"
    )
    assert done.stderr.splitlines()[-1] == message
    assert not (tmp_path / "home" / "out").exists()


@pytest.mark.slow
def test_the_sales_log_comes_out_whole(job, spark, sales_log, tmp_path):
    log, published = sales_log
    truth = [
        (row[0], int(row[1]), Decimal(row[2]))
        for row in list(csv.reader(published.splitlines()))[1:]
    ]
    done = job("spark-submit", "sales_clean", log, tmp_path / "out", "--available-now")
    assert done.stdout == ""
    assert (
        f"{sum(orders for _, orders, _ in truth):,} rows in, 0 bad rows" in done.stderr
    )
    assert totals(written(spark, tmp_path / "out", "good")) == sorted(truth)
    assert written(spark, tmp_path / "out", "bad").count() == 0
