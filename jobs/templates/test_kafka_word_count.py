"""The test of `kafka_word_count.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_word_count import most_frequent_first, transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams


def test_counts_follow_the_records(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(lines.to_df()), mode="update")
    lines.add_data([("to be or not to be",)])
    lines.add_data([("  be   quick",), (None,)])
    first, second = query.step()
    assert sorted(first.rows) == [("be", 2), ("not", 1), ("or", 1), ("to", 2)]
    assert sorted(second.rows) == [("be", 3), ("quick", 1)]  # only what has changed


def test_the_most_frequent_word_comes_first(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(most_frequent_first(transform(lines.to_df())), mode="complete")
    lines.add_data([("b a b",)])
    assert query.step()[-1].rows == [("b", 2), ("a", 1)]
