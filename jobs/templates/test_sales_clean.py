"""The test of `sales_clean.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sales_clean import transform

from sparkstream_kit import quarantine, sinks
from sparkstream_kit.testing import assert_exactly_once

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.testing import Streams

SALE = "10033,1/2/24,2,0,210,{amount},Lee,Oregon,West,{product},1,0.48"


def test_good_rows_are_typed_and_bad_lines_have_a_reason(stream: Streams) -> None:
    lines = stream("value STRING")
    rows = transform(lines.to_df()).select(
        "ProductKey", "SaleAmount", quarantine.REASON
    )
    query = stream.query(rows)
    lines.add_data(
        [
            (SALE.format(product="tea", amount="10.50"),),
            (SALE.format(product="tea", amount="?"),),
        ]
    )
    lines.add_data([("no sale",)])
    first, second = query.step()
    assert first.rows == [
        ("tea", Decimal("10.50"), None),
        (None, None, "SaleAmount: not a decimal(12,2)"),
    ]
    assert second.rows == [(None, None, "not 12 fields")]


def test_a_sale_that_comes_again_counts_once(stream: Streams) -> None:
    lines = stream("value STRING")
    rows = transform(lines.to_df(), ["OrderID", "ProductKey"]).select("ProductKey")
    query = stream.query(rows)
    lines.add_data([(SALE.format(product="tea", amount="1"),)])
    lines.add_data(
        [
            (SALE.format(product="tea", amount="1"),),
            (SALE.format(product="ink", amount="1"),),
        ]
    )
    first, second = query.step()
    assert (first.rows, second.rows) == ([("tea",)], [("ink",)])


def into_folders(lines: DataFrame, folder: Path) -> tuple[DataFrame, Sink]:
    good = sinks.batch_files(folder / "good", format="json")
    bad = sinks.batch_files(folder / "bad", format="json")
    return transform(lines), quarantine.split(good, bad)


def from_folders(folder: Path) -> list[object]:
    rows: list[object] = []
    for file in folder.glob("*/batch=*/part-*.json"):
        rows += map(json.loads, file.read_text().splitlines())
    return rows


@pytest.mark.skipif(
    "SPARK_REMOTE" in os.environ, reason="Spark Connect writes in another process"
)
def test_every_crash_leaves_each_line_once(spark: SparkSession) -> None:
    lines = [(SALE.format(product="tea", amount="1"),), ("no sale",)]
    given = spark.createDataFrame(lines, "value STRING")
    # Without `most` it tries 200 crashes.
    assert_exactly_once(into_folders, given, read=from_folders, most=5)
