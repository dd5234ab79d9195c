"""The test of `socket_wordcount.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socket_wordcount import transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams


def test_counts_follow_the_lines_the_most_frequent_word_first(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(lines.to_df()), mode="complete")
    lines.add_data([("b a b",)])
    lines.add_data([("a   a",), ("",)])
    first, second = query.step()
    assert first.rows == [("b", 2), ("a", 1)]
    assert second.rows == [("a", 3), ("b", 2)]
