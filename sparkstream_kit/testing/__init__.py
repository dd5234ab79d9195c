"""Extra: tests of any streaming transform: rows in, batches out, restarts, replays, stream = batch.

With the package installed pytest has two fixtures, `spark` and `stream`; outside pytest `streams(spark)`
gives the same:

    def test_totals(stream):
        sales = stream("product STRING, amount INT")
        totals = stream.query(transform(sales.to_df()), mode="update")
        sales.add_data([("tea", 1), ("tea", 2)])
        [batch] = totals.step()
        assert batch.rows == [("tea", 3)]

`assert_stream_equals_batch` and `assert_exactly_once` test a whole transform, and a whole job with its sink.
"""

from sparkstream_kit.testing.comparing import assert_stream_equals_batch, run_script
from sparkstream_kit.testing.exactly_once import Certificate, assert_exactly_once
from sparkstream_kit.testing.harness import Batch, Query, Source, Streams, streams

__all__ = [
    "Batch",
    "Certificate",
    "Query",
    "Source",
    "Streams",
    "assert_exactly_once",
    "assert_stream_equals_batch",
    "run_script",
    "streams",
]
