"""Extra: tests of any streaming transform: rows in, batches out, restarts, replays, stream = batch.

The package adds two fixtures to pytest: `spark`, a session, and `stream`, which makes
sources that a test fills and queries that it steps. Outside pytest, `streams(spark)` is
the same as `stream`:

    def test_totals(stream):
        sales = stream("product STRING, amount INT")
        totals = stream.query(transform(sales.to_df()), mode="update")
        sales.add_data([("tea", 1), ("tea", 2)])
        [batch] = totals.step()
        assert batch.rows == [("tea", 3)]

`run_script` steps a query through events with the expected rows beside them.
`assert_stream_equals_batch` compares a transform on random micro-batches with a batch
run. `assert_exactly_once` crashes a whole job with its sink at each change that it
makes, and compares the result after a restart.
"""

from sparkstream_kit.testing.comparing import assert_stream_equals_batch, run_script
from sparkstream_kit.testing.exactly_once import Certificate, assert_exactly_once
from sparkstream_kit.testing.harness import Batch, Query, Source, Streams, streams

__all__ = ["Batch", "Certificate", "Query", "Source", "Streams"]
__all__ += [
    "assert_exactly_once",
    "assert_stream_equals_batch",
    "run_script",
    "streams",
]
