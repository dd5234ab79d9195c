"""Batches and pictures of queries, made by hand, for the tests of one view."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sparkstream_kit.monitoring.board import BatchRecord, Picture
from sparkstream_kit.progress import QuerySummary

AT = datetime(2026, 1, 14, 9, tzinfo=UTC)


def batch(number=0, after=0.0, **changes):
    """Return a batch of 10 rows and 2 seconds that began some seconds after `AT`."""
    values: dict[str, Any] = {
        "seconds": 2.0,
        "rows": 10,
        "files_waiting": None,
        "state_rows": None,
        "partitions": None,
        "watermark": None,
        "has_watermark": False,
    }
    return BatchRecord(number, AT + timedelta(seconds=after), **values | changes)


def picture(*batches, name="q", active=True, verdicts=(), **counted):
    """Return the picture of a query that was started at `AT`."""
    totals: dict[str, Any] = {"batches": len(batches)}
    summary = QuerySummary(name, f"id of {name}", **totals | counted)
    return Picture(name, active, summary, batches, tuple(verdicts), AT)
