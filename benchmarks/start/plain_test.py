"""One streaming test as one writes it by hand, attached to a warm server."""

import json
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def test_totals(tmp_path: Path) -> None:
    spark = SparkSession.builder.appName("one-test").getOrCreate()
    (tmp_path / "in").mkdir()
    rows = [{"product": "tea", "amount": 2}, {"product": "ink", "amount": 1}]
    (tmp_path / "in" / "1.json").write_text("\n".join(map(json.dumps, rows)))
    sales = spark.readStream.schema("product STRING, amount INT").json(
        str(tmp_path / "in")
    )
    totals = sales.groupBy("product").agg(F.sum("amount").alias("total"))
    query = (
        totals.writeStream.format("memory")
        .queryName("totals")
        .outputMode("complete")
        .start()
    )
    query.processAllAvailable()
    delivered = spark.table("totals").collect()
    query.stop()
    spark.stop()
    assert sorted(delivered) == [("ink", 1), ("tea", 2)]
