"""The test of `hashtag_trends.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from hashtag_trends import transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2024-05-01 {clock}")


def post(number: int, clock: str, text: str) -> tuple[str]:
    return (
        json.dumps(
            {"id": str(number), "created_at": f"2024-05-01T{clock}Z", "text": text}
        ),
    )


def test_tags_are_counted_once_a_post_whatever_their_case(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(
        transform(lines.to_df(), window="10 minutes", slide="10 minutes")
    )
    lines.add_data(
        [post(1, "12:00:00", "#Spark and #spark"), post(2, "12:01:00", "#SPARK #tea")]
    )
    lines.add_data(
        [post(1, "12:00:00", "#Spark and #spark"), post(3, "12:09:00", "no tag: a#b")]
    )
    found = []
    for batch in query.drain():
        found += batch.rows
    assert sorted(found) == [
        (at("12:00"), at("12:10"), "spark", 2),
        (at("12:00"), at("12:10"), "tea", 1),
    ]
