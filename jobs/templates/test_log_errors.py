"""The test of `log_errors.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from log_errors import requests, transform

if TYPE_CHECKING:
    from sparkstream_kit.testing import Streams

LINE = '{host} - - [01/Jul/1995:{clock} +0000] "GET {path} HTTP/1.0" {status} {size}'


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"1995-07-01 {clock}")


def log(
    clock: str, path: str, status: int, size: int, host: str = "a.net"
) -> tuple[str]:
    return (LINE.format(host=host, clock=clock, path=path, status=status, size=size),)


def test_errors_are_counted_by_path_and_minute(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(requests(lines.to_df(), "1 minute")))
    lines.add_data(
        [log("08:00:05", "/tea?n=1", 200, 100), log("08:00:50", "/tea?n=2", 404, 300)]
    )
    lines.add_data([log("08:02:00", "/ink", 500, 50)])
    found = []
    for batch in query.drain():
        found += batch.rows
    assert sorted(found) == [
        (at("08:00"), at("08:01"), "/tea", 2, 1, 300),
        (at("08:02"), at("08:03"), "/ink", 1, 1, 50),
    ]


def test_a_session_ends_after_half_an_hour_of_silence(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(requests(lines.to_df(), "1 minute"), "sessions"))
    lines.add_data(
        [
            log("08:00:00", "/", 200, 1),
            log("08:20:00", "/tea", 404, 2),
            log("09:00:00", "/", 200, 4),
        ]
    )
    found = []
    for batch in query.drain():
        found += batch.rows
    assert sorted(found) == [
        (at("08:00"), at("08:50"), "a.net", 2, 1, 3),
        (at("09:00"), at("09:30"), "a.net", 1, 0, 4),
    ]
