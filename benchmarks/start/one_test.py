"""One streaming test through the kit's harness, for `pytest benchmarks/start/one_test.py`."""

from pyspark.sql import functions as F

from sparkstream_kit.testing import Streams


def test_totals(stream: Streams) -> None:
    sales = stream("product STRING, amount INT")
    totals = stream.query(
        sales.to_df().groupBy("product").agg(F.sum("amount").alias("total")),
        mode="update",
    )
    sales.add_data([("tea", 2), ("ink", 1)])
    [batch] = totals.step()
    assert sorted(batch.rows) == [("ink", 1), ("tea", 2)]
