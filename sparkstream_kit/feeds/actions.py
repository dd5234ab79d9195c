"""Actions with known counts: JSON rows as in the events data of many courses, and the truth without Spark."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit._durations import sizes
from sparkstream_kit.feeds.lines import Again, count_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["actions_rows", "actions_truth"]

_ACTIONS_BEGIN = 1469501107  # 2016-07-26 02:45:07 UTC
_ACTIONS, _WEIGHTS = ("Open", "Close", "Print", "Share"), (9, 8, 2, 1)
_ACTION_GAPS, _ACTION_GAP_WEIGHTS = (0, 1, 7, 40, 300), (2, 6, 6, 4, 1)  # seconds from a row to the next one


def actions_rows(count: int | None, *, seed: int) -> Iterable[dict[str, Any]]:
    """Make rows of `time` (seconds since 1970-01-01 UTC, in order) and `action` (Open, Close and others).

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> list(actions_rows(2, seed=1))
        [{'time': 1469501107, 'action': 'Open'}, {'time': 1469501147, 'action': 'Close'}]
    """
    check(actions_rows, locals())
    numbers = count_to(count)

    def make() -> Iterator[dict[str, Any]]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        time = _ACTIONS_BEGIN
        for number in numbers:
            time += pick(_ACTION_GAPS, _ACTION_GAP_WEIGHTS)[0] if number else 0
            yield {"time": time, "action": pick(_ACTIONS, _WEIGHTS)[0]}

    return Again(make)


def actions_truth(rows: Iterable[dict[str, Any]], *, slide: str = "1 hour") -> list[tuple[str, str, int]]:
    """Count rows of `actions_rows` by action in windows of an hour, one every `slide`, without Spark.

    Returns:
        (start of the window as an ISO text in UTC, action, count), in this order.

    Raises:
        InvalidInputError: `slide` cannot be read, or is longer than an hour.

    Example:
        >>> actions_truth(actions_rows(90, seed=1), slide="30 minutes")[:2]
        [('2016-07-26 02:00:00', 'Close', 18), ('2016-07-26 02:00:00', 'Open', 18)]
    """
    check(actions_truth, locals())
    length, step, _ = (size // 10**6 for size in sizes("1 hour", slide, None))
    counts = Counter(
        (start, row["action"])
        for row in rows
        for start in range(row["time"] - row["time"] % step, row["time"] - length, -step)
    )
    return [
        (datetime.fromtimestamp(start, UTC).isoformat(" ", "seconds").removesuffix("+00:00"), action, count)
        for (start, action), count in sorted(counts.items())
    ]
