"""Thirty streaming tests of three batches as one writes them by hand.

Run: TESTS=30 pytest benchmarks/suite/plain.py
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


@pytest.fixture(scope="session")
def session() -> Iterator[SparkSession]:
    spark = SparkSession.builder.appName("tests").getOrCreate()
    yield spark
    spark.stop()


@pytest.mark.parametrize("number", range(int(os.environ.get("TESTS", "30"))))
def test_totals(session: SparkSession, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    sales = session.readStream.schema("product STRING, amount INT").json(str(folder))
    totals = sales.groupBy("product").agg(F.sum("amount").alias("total"))
    writer = (
        totals.writeStream.format("memory")
        .queryName(f"totals_{number}")
        .outputMode("complete")
    )
    query = writer.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
    for batch in range(3):
        rows = [
            {"product": "tea", "amount": number},
            {"product": "ink", "amount": batch},
        ]
        hidden = folder / f".{batch}.json"
        hidden.write_text("\n".join(map(json.dumps, rows)))
        hidden.rename(folder / f"{batch}.json")
        query.processAllAvailable()
    delivered = session.table(f"totals_{number}").collect()
    query.stop()
    assert sorted(delivered) == [("ink", 3), ("tea", 3 * number)]
