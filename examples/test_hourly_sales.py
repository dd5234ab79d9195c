"""The test of `hourly_sales.py`, to copy with it. It needs the kit's extra `testing` alone."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hourly_sales import SALES, sales, transform

from sparkstream_kit import quarantine, sinks, windows
from sparkstream_kit.testing import (
    assert_exactly_once,
    assert_stream_equals_batch,
    run_script,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.testing import Streams


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2024-01-01 {clock}")


EIGHT, NINE, TEN = map(at, ("08:00", "09:00", "10:00"))


def totals(rows: DataFrame) -> DataFrame:
    return transform(windows.with_watermark(rows, "time", "10 minutes"))


def test_a_line_that_cannot_be_read_has_a_reason(stream: Streams) -> None:
    lines = stream("value STRING")
    rows = stream.query(
        sales(lines.to_df(), "10 minutes").select(
            "product", "amount", quarantine.REASON
        )
    )
    sale = '{"time": "2024-01-01T08:10:00Z", "product": "tea", "amount": %s}'
    lines.add_data([(sale % 2,), (sale % '"two"',)])
    assert rows.step()[0].rows == [("tea", 2, None), (None, None, "amount: not an int")]


def test_totals_follow_the_sales(stream: Streams) -> None:
    rows = stream(SALES)
    run_script(
        stream.query(totals(rows.to_df()), mode="update"),
        [  # what comes in, and what must come out of it
            (rows, [(at("08:10"), "tea", 2)], [(EIGHT, NINE, "tea", 2)]),
            (
                rows,
                [(at("08:20"), "tea", 3), (at("09:10"), "ink", 1)],
                [(EIGHT, NINE, "tea", 5), (NINE, TEN, "ink", 1)],
            ),
        ],
    )


def test_a_restart_loses_nothing_and_late_sales_are_dropped(stream: Streams) -> None:
    rows = stream(SALES)
    query = stream.query(totals(rows.to_df()))
    rows.add_data([(at("08:10"), "tea", 2)])
    rows.add_data([(at("09:30"), "ink", 1)])
    # The watermark has passed 09:00: the hour of the tea is final
    *_, closed = query.step()
    assert closed.rows == [(EIGHT, NINE, "tea", 2)]
    query.kill_before_commit()
    rows.add_data([(at("08:20"), "tea", 3)])
    again, late = query.step()
    assert (again.batch_id, again.rows) == (closed.batch_id, closed.rows)
    assert (late.rows, late.late_rows) == ([], 1)


def test_the_stream_gives_what_a_batch_run_gives(spark: SparkSession) -> None:
    rows = [
        (at(f"{8 + n // 6:02}:{n % 6}5"), "tea" if n % 2 else "ink", n)
        for n in range(12)
    ]
    assert_stream_equals_batch(
        totals, spark.createDataFrame(rows, SALES), watermark=("time", "10 minutes")
    )


def into_files(rows: DataFrame, folder: Path) -> tuple[DataFrame, Sink]:
    # As the job does
    return totals(rows), sinks.batch_files(folder / "totals", format="json")


def from_files(folder: Path) -> list[tuple[str, int]]:
    lines = [
        line
        for file in folder.glob("totals/batch=*/part-*.json")
        for line in file.read_text().splitlines()
    ]
    return [(row["product"], row["total"]) for row in map(json.loads, lines)]


@pytest.mark.skipif(
    "SPARK_REMOTE" in os.environ, reason="Spark Connect writes in another process"
)
def test_every_crash_leaves_each_total_once(spark: SparkSession) -> None:
    rows = [(at("08:10"), "tea", 2), (at("08:20"), "tea", 3), (at("09:30"), "ink", 1)]
    given = spark.createDataFrame(rows, SALES)
    # Without `most` it tries 200 crashes. The hour of the ink is not over.
    assert_exactly_once(
        into_files, given, read=from_files, expected=[("tea", 5)], most=5
    )
