"""The test of `sensor_alerts.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sensor_alerts import parse, transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams


def reading(minute: int, temperature: float | str, device: str = "d1") -> tuple[str]:
    time = f"2024-03-01T{8 + minute // 60:02}:{minute % 60:02}:00Z"
    return (json.dumps({"device": device, "time": time, "temperature": temperature}),)


def test_a_jump_of_the_temperature_is_an_alert(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(
        transform(lines.to_df()).select("device", "rule", "temperature")
    )
    steady = [reading(minute, 20 + minute % 2) for minute in range(30)]
    lines.add_data([*steady, reading(30, 99.5), reading(31, 20), reading(31, "hot")])
    found = []
    for batch in query.drain():
        found += batch.rows
    assert ("d1", "Ewma", 99.5) in found
    assert [row.temperature for row in found if row.rule == "Ewma"] == [99.5]


def test_a_device_that_says_nothing_for_ten_minutes_is_an_alert(
    stream: Streams,
) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(lines.to_df()).select("device", "rule"))
    lines.add_data(
        [reading(0, 20), *(reading(minute, 20, "d2") for minute in range(0, 30, 5))]
    )
    lines.add_data([reading(31, 20, "d2")])
    found = []
    for batch in query.step():
        found += batch.rows
    assert found == [("d1", "Silent")]


def test_a_line_that_is_no_reading_has_a_reason(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(parse(lines.to_df(), "2 minutes").select("device", "_reason"))
    lines.add_data([reading(0, 20), ("{}",)])
    assert query.step()[0].rows == [("d1", None), (None, "device: missing")]
