"""The test of `action_rows.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from action_rows import transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams


def test_a_line_is_a_row_or_has_a_reason(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(
        transform(lines.to_df(), "10 minutes").select("time", "action", "_reason")
    )
    lines.add_data([('{"time": 1469520600, "action": "Open"}',), ("{}",)])
    opened = (datetime.fromisoformat("2016-07-26 08:10"), "Open", None)
    assert query.step()[0].rows == [opened, (None, None, "time: missing")]
