"""Late rows are counted: exactly, or at least so many; against what is missing in the result."""

import os
import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import functions as F

from sparkstream_kit import (
    feeds,
    jobflags,
    quarantine,
    run,
    sinks,
    sources,
    start,
    windows,
)
from sparkstream_kit.errors import KitError

BEGIN = datetime.fromisoformat("2026-01-01")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)

pytestmark = pytest.mark.classic_only("the batches are seen in this process")


def land(folder, batches):
    """Put the times of each batch in a file; the files are read in this order."""
    for number, times in enumerate(batches):
        lines = "".join(f"{time:%F %T.%f},{time.second % 3}\n" for time in times)
        (folder / f"{number}.csv").write_text(lines)
        os.utime(folder / f"{number}.csv", (number + 1, number + 1))


def days_out_of_order():
    """Files of a day each, in the order in which a copy may give them."""
    return [
        [BEGIN + day * DAY + n * 3 * MINUTE for n in range(480)]
        for day in (0, 7, 8, 1, 9, 2, 3, 10)
    ]


def scattered(share, rows=1500):
    """Files of ten minutes each, some of whose rows are up to three hours late."""
    rng = random.Random(7)  # noqa: S311 - no secret
    return [
        [
            BEGIN
            + (number + rng.random()) * 10 * MINUTE
            - (rng.random() < share) * rng.random() * 180 * MINUTE
            for _ in range(rows)
        ]
        for number in range(6)
    ]


def read(spark, folder):
    return sources.csv(
        spark, folder, schema="at TIMESTAMP, k STRING", max_files_per_trigger=1
    )


def by_spark(rows, delay):
    return rows.withWatermark("at", delay)


def counted(frame, mode="update"):
    """Run a query of counts, and return its summary and the sum of what it has counted."""
    found: dict[Any, int] = {}

    def keep(batch, _):
        for row in batch.collect():
            found[tuple(row)[:-1]] = row["count"]

    how: dict[str, Any] = {"name": "late", "mode": mode, "availableNow": True}
    return run(start(frame, sinks.foreach_batch(keep), **how)), sum(found.values())


@pytest.mark.parametrize(
    ("made", "delay", "length"),
    [
        pytest.param(lambda: scattered(0.05), "5 minutes", "1 minute", id="5%"),
        pytest.param(
            lambda: scattered(0.002),
            "5 minutes",
            "1 minute",
            id="some",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: scattered(0.3),
            "5 minutes",
            "7 minutes",
            id="30%",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: scattered(1), "1 minute", "1 hour", id="all", marks=pytest.mark.slow
        ),
    ],
)
def test_the_rows_that_an_aggregation_drops_are_between_the_bounds(
    spark, folder, made, delay, length
):
    land(folder, made())
    marked = windows.with_watermark(read(spark, folder), "at", delay)
    counts = marked.groupBy(
        windows.tumbling("at", length, offset="30 seconds"), "k"
    ).count()
    summary, total = counted(counts)
    (done,) = summary.queries
    dropped = done.input_rows - total
    assert dropped
    assert 0 < done.late_rows <= dropped <= done.late_rows_at_most < done.input_rows
    assert done.late_rows_exact == (done.late_rows == done.late_rows_at_most)
    told = (
        f", between {done.late_rows:,} and {done.late_rows_at_most:,} late rows"
        " dropped, "
    )
    assert done.late_rows_exact or told in str(done)


@pytest.mark.slow
def test_files_of_days_in_no_order_are_counted_with_a_verdict(spark, folder):
    """Days 1 to 3 come after day 9: 3 of the 8 with rows, each of them late as a whole."""
    land(folder, days_out_of_order())
    marked = windows.with_watermark(read(spark, folder), "at", "2 days")
    summary, total = counted(
        marked.groupBy(windows.tumbling("at", "1 day"), "k").count()
    )
    (done,) = summary.queries
    assert (done.input_rows - total, done.late_batches) == (1440, 3)
    assert (done.late_rows, done.late_rows_exact, done.late_rows_at_most) == (
        1440,
        True,
        1440,
    )
    told = "1,440 late rows dropped"
    assert f", {told}, " in str(done)
    (said,) = (each.text for each in done.verdicts)
    assert said.startswith(
        f"{told}, in 3 of 9 batches, the earliest 5.0 days behind the watermark; "
    ), said
    assert f"verdict: query late: {said}" in str(summary)
    jobflags.check_late_rows(None, summary)
    jobflags.check_late_rows(Decimal("37.5"), summary)
    with pytest.raises(
        KitError, match="query late: 1,440 late rows dropped, of 3,840 rows; "
    ):
        jobflags.check_late_rows(Decimal("37.4"), summary)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["calendar", "filter", "quarantine", "sliding", "session"]
)
def test_the_bounds_hold_whatever_the_aggregation(spark, folder, kind):
    """Where the plan does not show that each row is counted, the number of groups is the least."""
    land(folder, days_out_of_order())
    rows = by_spark(read(spark, folder), "2 days")
    by = windows.tumbling("at", "1 day")
    if kind == "calendar":
        rows = windows.calendar(rows, "at", "day", zone="UTC")
        by = F.col("window")
    elif kind == "filter":
        rows = rows.where(F.col("k") != "1")
    elif kind == "quarantine":
        rows = quarantine.good_rows(
            windows.with_watermark(read(spark, folder), "at", "2 days")
        )
    elif kind == "sliding":
        by = windows.sliding("at", "1 day", "12 hours")
    else:
        by = F.session_window("at", "10 minutes")
    frame = rows.groupBy(by, "k").count()
    summary, _ = counted(frame, "append" if kind == "session" else "update")
    (done,) = summary.queries
    assert 3 <= done.late_rows <= 1440 <= done.late_rows_at_most < 3840, str(done)
    # Here each row is a session of its own
    assert done.late_rows_exact == (kind == "session")


@pytest.mark.slow
def test_operators_that_take_rows_count_rows(spark, folder):
    land(
        folder,
        [
            [BEGIN],
            [BEGIN + DAY],
            [BEGIN + DAY],
            [BEGIN, BEGIN + MINUTE, BEGIN + 2 * DAY],
        ],
    )
    once = by_spark(read(spark, folder), "1 hour").dropDuplicates(["at"])
    summary, _ = counted(once.withColumn("count", F.lit(1)), "append")
    (done,) = summary.queries
    assert (done.late_rows, done.late_rows_exact, done.late_batches) == (2, True, 1)
    assert ", 2 late rows dropped, " in str(done)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sliding windows", "an explode"])
def test_rows_that_are_multiplied_count_once_at_least(spark, folder, kind):
    """A row is in six windows, all closed, or becomes ten rows: Spark counts as many groups."""
    land(folder, [[BEGIN + DAY], [BEGIN + DAY], [BEGIN, BEGIN + DAY + MINUTE]])
    rows, by = (
        read(spark, folder),
        windows.sliding("at", "1 hour", "10 minutes", offset="-5 minutes"),
    )
    if kind == "an explode":
        rows = rows.select("at", F.explode(F.sequence(F.lit(1), F.lit(10))).alias("k"))
        by = windows.tumbling("at", "1 hour")
    (done,) = counted(by_spark(rows, "1 hour").groupBy(by, "k").count())[0].queries
    assert done.late_rows == 1
    told = (
        "between 1 and 2 late rows"
        if kind == "sliding windows"
        else "at least 1 late row"
    )
    assert f", {told} dropped, " in str(done)


def test_a_year_that_python_has_not_ends_no_run(spark, folder):
    feeds.drip([("1.txt", "9099130622345224000\n-63549360000000000\n0\n")], folder)
    time = F.timestamp_micros(F.col("value").cast("bigint")).alias("time")
    rows = (
        sources.text(spark, folder)
        .select(time)
        .withWatermark("time", "1 second")
        .dropDuplicates(["time"])
    )
    # Python cannot hold such a time, either.
    sink = sinks.foreach_batch(
        lambda batch, _: batch.write.format("noop").mode("append").save()
    )
    assert (
        run(start(rows, sink, name="far", availableNow=True)).queries[0].input_rows == 3
    )


@pytest.mark.slow
def test_a_watermark_that_python_has_not_bounds_the_late_rows_by_the_batch(
    spark, folder
):
    for number, micros in enumerate(
        ["9099130622345224000", "9099130622345224000", "0\n1"]
    ):
        (folder / f"{number}.txt").write_text(f"{micros}\n")
        os.utime(folder / f"{number}.txt", (number + 1, number + 1))
    time = F.timestamp_micros(F.col("value").cast("bigint")).alias("time")
    rows = (
        sources.text(spark, folder, max_files_per_trigger=1)
        .select(time)
        .withWatermark("time", "1 second")
    )
    counts = rows.groupBy(windows.tumbling("time", "1 day")).count().select("count")
    sink = sinks.foreach_batch(
        lambda batch, _: batch.write.format("noop").mode("append").save()
    )
    (done,) = run(
        start(counts, sink, name="far", mode="update", availableNow=True)
    ).queries
    assert (done.late_rows, done.late_rows_at_most) == (1, 2)


def test_rows_before_1970_are_late_from_the_first_batch(spark, folder):
    land(folder, [[BEGIN.replace(year=1969) + n * DAY for n in range(5)]])
    days = (
        by_spark(read(spark, folder), "2 days")
        .groupBy(windows.tumbling("at", "1 day"))
        .count()
    )
    summary, total = counted(days)
    (done,) = summary.queries
    assert (total, done.late_rows, done.late_rows_exact, done.late_rows_at_most) == (
        0,
        5,
        True,
        5,
    )
    (said,) = (each.text for each in done.verdicts)
    assert said.startswith(
        "5 late rows dropped, in 1 of 1 batch; Spark's watermark begins at 1970"
    ), said


@pytest.mark.slow
def test_bad_rows_are_no_late_ones(spark, folder):
    """Rows that are dated ahead have no time any more, and are counted as bad."""
    land(
        folder,
        [
            [BEGIN + DAY],
            [BEGIN + DAY],
            [BEGIN, BEGIN, *[BEGIN.replace(year=2990)] * 40],
        ],
    )
    rows = quarantine.good_rows(
        windows.with_watermark(read(spark, folder), "at", "1 hour")
    )
    (done,) = counted(rows.groupBy(windows.tumbling("at", "1 hour")).count())[0].queries
    assert (done.bad_rows, done.late_rows) == (40, 1)


@pytest.mark.slow
def test_rows_that_were_set_aside_are_counted(spark, folder, tmp_path):
    land(
        folder,
        [[BEGIN + DAY], [BEGIN, BEGIN + MINUTE, BEGIN + DAY], [BEGIN + 2 * MINUTE]],
    )
    sink = sinks.by_watermark(
        "at",
        on_time=sinks.batch_files(tmp_path / "rows"),
        late=sinks.batch_files(tmp_path / "late"),
    )
    frame = by_spark(read(spark, folder), "1 hour")
    (done,) = run(
        start(frame, sink, name="gate", checkpoint=tmp_path / "ckpt", availableNow=True)
    ).queries
    assert (done.late_rows, done.rows_set_aside, done.verdicts) == (0, 3, ())
    assert ", 0 late rows dropped, 3 late rows set aside, " in str(done)
    assert spark.read.parquet(str(tmp_path / "late")).count() == 3


@pytest.mark.slow
def test_mode_complete_drops_nothing(spark, folder):
    land(folder, days_out_of_order())
    days = (
        by_spark(read(spark, folder), "1 hour")
        .groupBy(windows.tumbling("at", "1 day"))
        .count()
    )
    summary, total = counted(days, "complete")
    (done,) = summary.queries
    assert (total, done.late_rows, done.late_rows_exact, done.verdicts) == (
        8 * 480,
        0,
        True,
        (),
    )
