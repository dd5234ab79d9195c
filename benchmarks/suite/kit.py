"""Thirty streaming tests of three batches each, through the kit's harness.

Run: pytest benchmarks/suite/kit.py
"""

import pytest
from pyspark.sql import functions as F

from sparkstream_kit.testing import Streams


@pytest.mark.parametrize("number", range(30))
def test_totals(stream: Streams, number: int) -> None:
    sales = stream("product STRING, amount INT")
    query = stream.query(
        sales.to_df().groupBy("product").agg(F.sum("amount").alias("total")),
        mode="complete",
    )
    for batch in range(3):
        sales.add_data([("tea", number), ("ink", batch)])
        [delivered] = query.step()
    assert sorted(delivered.rows) == [("ink", 3), ("tea", 3 * number)]
