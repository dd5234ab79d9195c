"""Impressions and clicks with known pairs, in the fields of the Yahoo streaming benchmark."""

from __future__ import annotations

import ipaddress
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.lines import Again, count_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ads_rows", "ads_truth"]

_TYPES = ("banner", "modal", "sponsored-search", "mail", "mobile")
_FIRST_AD = datetime(2024, 1, 1, tzinfo=UTC)
_CLICKED, _SOON = 0.3, 0.8  # of the views, and of their clicks those that come within ten minutes


def ads_rows(count: int | None, *, seed: int) -> Iterable[dict[str, Any]]:
    """Make events of ads: a view of an ad, a click on it within 10 minutes or within an hour, a stray click.

    Each is a dict of the benchmark's fields, all strings: `user_id`, `page_id`, `ad_id` (one for each showing
    of an ad), `ad_type`, `event_type` ("view" or "click"), `event_time` (ISO 8601, UTC, a whole second),
    `ip_address`. Times increase; three views in ten are clicked once, and of these clicks four in five come
    within 10 minutes. One event in fifty is a click on an ad that was never shown.

    Args:
        count: how many events; None never ends.
        seed: the same seed gives the same events; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> for row in ads_rows(2, seed=1):
        ...     print(row["event_time"], row["event_type"], row["ad_id"], row["ip_address"])
        2024-01-01T00:00:03Z view ad-1-0000000 10.130.152.104
        2024-01-01T00:00:10Z view ad-1-0000001 10.199.149.5
    """
    check(ads_rows, locals())
    numbers = count_to(count)

    def make() -> Iterator[dict[str, Any]]:
        draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
        second, waiting = 0, list[tuple[int, int, dict[str, Any]]]()  # clicks that are to come
        for number in numbers:
            second += draw.randrange(1, 10)
            if waiting and waiting[0][0] <= second:
                clicked_at, _, row = waiting.pop(0)
                # Behind the last event, so that times increase: at most some seconds later than drawn.
                yield {**row, "event_type": "click", "event_time": _ad_text(max(clicked_at, second))}
                continue
            stray = draw.random() < 1 / 50
            row = {
                "user_id": f"user-{draw.randrange(500)}",
                "page_id": f"page-{draw.randrange(100)}",
                "ad_id": f"{'stray' if stray else 'ad'}-{seed}-{number:07}",
                "ad_type": draw.choice(_TYPES),
                "event_type": "click" if stray else "view",
                "event_time": _ad_text(second),
                "ip_address": str(ipaddress.IPv4Address(0x0A000000 + draw.randrange(2**24))),
            }
            if not stray and draw.random() < _CLICKED:
                delay = draw.randrange(1, 600) if draw.random() < _SOON else draw.randrange(700, 3600)
                waiting.append((second + delay, number, row))
                waiting.sort(key=lambda each: each[:2])
            yield row

    return Again(make)


def ads_truth(rows: Iterable[dict[str, Any]], *, within: timedelta) -> list[tuple[str, str, str | None]]:
    """Find the first click of each view, if one came in time, without Spark.

    Returns:
        (ad_id, time of the view, time of the click or None) for each view, by ad_id; a view that comes twice
        is one.

    Example:
        >>> found = ads_truth(ads_rows(1000, seed=1), within=timedelta(minutes=10))
        >>> len(found), sum(clicked is not None for _, _, clicked in found)
        (786, 163)
    """
    views, clicks = set[tuple[str, str]](), dict[str, list[str]]()
    for row in rows:
        if row["event_type"] == "view":
            views.add((row["ad_id"], row["event_time"]))
        else:
            clicks.setdefault(row["ad_id"], []).append(row["event_time"])
    found = list[tuple[str, str, str | None]]()
    for ad, shown in sorted(views):
        in_time = (at for at in clicks.get(ad, ()) if timedelta(0) <= _between(shown, at) <= within)
        found.append((ad, shown, min(in_time, default=None)))
    return found


def _between(first: str, second: str) -> timedelta:
    return datetime.fromisoformat(second) - datetime.fromisoformat(first)


def _ad_text(second: int) -> str:
    return f"{_FIRST_AD + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"
