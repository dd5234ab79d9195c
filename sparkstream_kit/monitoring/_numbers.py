"""A query's numbers, as every face writes them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sparkstream_kit.monitoring.board import Batch, Picture

_LAST = 5  # batches that a rate is of: one alone jumps
_UNITS = ((1e12, 1e9, "G"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))


def arriving(batches: Sequence[Batch]) -> float | None:
    """Return how many rows a second have arrived lately; None before the second batch.

    These are the rows that were read, and those by which there wait more than before; a file that waits
    counts with as many rows as those that were read have.
    """
    last = batches[-_LAST - 1 :]
    if len(last) < 2:  # noqa: PLR2004 - a time from one to the next
        return None
    begin, end = last[0], last[-1]
    rows: float = sum(batch.rows for batch in last[1:])
    if begin.backlog is not None and end.backlog is not None:
        files = None if begin.files is None or end.files is None else end.files - begin.files
        rows_each = 1 if files is None else rows / files if files else 0
        rows = max(rows + rows_each * (end.backlog - begin.backlog), 0)
    return rate(rows, (end.at - begin.at).total_seconds())


def done(batches: Sequence[Batch]) -> float | None:
    """Return how many rows a second of work its batches have done lately; None before the first."""
    last = batches[-_LAST:]
    return rate(sum(batch.rows for batch in last), sum(batch.seconds for batch in last))


def rate(rows: float, seconds: float) -> float | None:
    """Return rows a second; None where no time has passed."""
    return rows / seconds if seconds > 0 else None


def short(value: float | None) -> str:
    """Return a number in at most six characters.

    Example:
        >>> [short(value) for value in (None, 0, 3.25, 812, 9999, 12345, 3_400_000)]
        ['-', '0', '3.2', '812', '9,999', '12.3k', '3.4M']
    """
    if value is None:
        return "-"
    for limit, of, unit in _UNITS:
        if value >= limit:
            return f"{value / of:.1f}{unit}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"  # noqa: PLR2004


def height(values: Sequence[float]) -> float:
    """Return the top of a small chart: a cold first batch of seconds must not flatten all others."""
    most = max(values, default=0.0)
    return min(most, 3 * median(values)) or most if values else 0.0


def starting(picture: Picture, now: datetime) -> str:
    """Say what Spark does before the first batch is through."""
    if not picture.active:
        return "ended before its first batch"
    return f"starting Spark's first batch … {max((now - picture.since).total_seconds(), 0):.0f} s"
