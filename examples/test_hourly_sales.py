"""The test of `hourly_sales.py`, to copy with it. It needs the kit's extra `testing` alone."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hourly_sales import SALES, transform

from sparkstream_kit import sinks
from sparkstream_kit.testing import assert_exactly_once, assert_stream_equals_batch, run_script

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.testing import Streams


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2024-01-01 {clock}")


def test_totals_follow_the_sales(stream: Streams) -> None:
    sales = stream(SALES)
    run_script(
        stream.query(transform(sales.to_df()), mode="update"),
        [  # what comes in, and what must come out of it
            (sales, [(at("08:10"), "tea", 2)], [(at("08:00"), "tea", 2)]),
            (
                sales,
                [(at("08:20"), "tea", 3), (at("09:10"), "ink", 1)],
                [(at("08:00"), "tea", 5), (at("09:00"), "ink", 1)],
            ),
        ],
    )


def test_a_restart_loses_nothing_and_late_sales_are_dropped(stream: Streams) -> None:
    sales = stream(SALES)
    totals = stream.query(transform(sales.to_df()))
    sales.add_data([(at("08:10"), "tea", 2)])
    sales.add_data([(at("09:30"), "ink", 1)])
    *_, closed = totals.step()  # the watermark has passed 09:00: the hour of the tea is final
    assert closed.rows == [(at("08:00"), "tea", 2)]
    totals.kill_before_commit()
    sales.add_data([(at("08:20"), "tea", 3)])
    again, late = totals.step()
    assert (again.batch_id, again.rows) == (closed.batch_id, closed.rows)
    assert (late.rows, late.late_rows) == ([], 1)


def test_the_stream_gives_what_a_batch_run_gives(spark: SparkSession) -> None:
    rows = [(at(f"{8 + n // 6:02}:{n % 6}5"), "tea" if n % 2 else "ink", n) for n in range(12)]
    assert_stream_equals_batch(
        transform, spark.createDataFrame(rows, SALES), watermark=("time", "10 minutes")
    )


def into_a_file(sales: DataFrame, folder: Path) -> tuple[DataFrame, Sink]:
    return transform(sales), sinks.snapshot(folder / "totals.json")  # put your own sink in its place


def from_the_file(folder: Path) -> list[dict[str, object]]:
    return list(json.loads((folder / "totals.json").read_text()))


@pytest.mark.skipif("SPARK_REMOTE" in os.environ, reason="Spark Connect writes in another process")
def test_every_crash_leaves_the_same_totals(spark: SparkSession) -> None:
    rows = [(at("08:10"), "tea", 2), (at("08:20"), "tea", 3), (at("09:10"), "ink", 1)]
    sales = spark.createDataFrame(rows, SALES)
    # Without `most` it tries 200 crashes.
    assert_exactly_once(into_a_file, sales, read=from_the_file, mode="complete", most=5)
