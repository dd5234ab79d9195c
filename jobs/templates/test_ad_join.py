"""The test of `ad_join.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from ad_join import transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2024-01-01 {clock}")


def line(kind: str, ad: str, clock: str) -> tuple[str]:
    event = {
        "user_id": "u",
        "page_id": "p",
        "ad_id": ad,
        "ad_type": "mail",
        "event_type": kind,
    }
    return (json.dumps(event | {"event_time": f"2024-01-01T{clock}Z"}),)


def test_a_view_has_its_click_in_time_or_none(stream: Streams) -> None:
    lines = stream("value STRING")
    views = transform(lines.to_df()).select("ad_id", "shown_at", "clicked_at")
    query = stream.query(views)
    lines.add_data([line("view", "a", "08:00:00"), line("view", "b", "08:00:00")])
    lines.add_data([line("click", "a", "08:09:00"), line("click", "b", "08:11:00")])
    found = []
    for batch in query.drain():
        found += batch.rows
    # B: two minutes too late
    assert found == [("a", at("08:00"), at("08:09")), ("b", at("08:00"), None)]
