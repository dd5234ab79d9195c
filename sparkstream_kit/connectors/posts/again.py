"""When a server is asked again after a connection has ended, and where it has what was missed.

The waits are those of X's documentation ("Handling disconnections"): none after a connection that had been
up; 0.25, 0.5, … 16 seconds after one that failed; 5, 10, … 320 seconds after an error of the server; after
"too many requests" as long as the server's header says, or 1, 2, 4, … 15 minutes.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from sparkstream_kit.connectors.posts.wire import TurnedAway

__all__ = ["backfill_of", "timeline_of", "wait_after"]


def wait_after(error: Exception | None, failures: int) -> float:
    """Return how many seconds to wait before the next connection.

    Args:
        error: what ended the last one; None for a connection that ended without an error.
        failures: how many in a row have failed, or ended within 5 seconds.

    Example:
        >>> [wait_after(OSError(), failures) for failures in (0, 1, 2, 100)]
        [0.0, 0.25, 0.5, 16.0]
        >>> [wait_after(TurnedAway(503, "", None), failures) for failures in (1, 2, 9)]
        [5.0, 10.0, 320.0]
        >>> [wait_after(TurnedAway(429, "", wait), 1) for wait in (None, 7.0)]
        [60.0, 7.0]
    """
    if not failures:
        return 0.0
    if not isinstance(error, TurnedAway):
        return min(0.25 * failures, 16.0)
    doubled = 2.0 ** min(failures - 1, 10)
    if error.wait is not None:
        return max(error.wait, 1.0)
    return min(60.0 * doubled, 900.0) if error.limited else min(5.0 * doubled, 320.0)


def backfill_of(url: str) -> float:
    """Return of how many seconds without a connection a stream of X brings the posts; 0 for any other URL.

    Example:
        >>> backfill_of("https://api.x.com/2/tweets/search/stream?backfill_minutes=5")
        300.0
    """
    query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    minutes = query.get("backfill_minutes", query.get("backfillminutes", ""))
    return 60.0 * int(minutes) if minutes.isdecimal() else 0.0


def timeline_of(url: str) -> str | None:
    """Return the timeline that has the posts of a stream of Mastodon's; None for any other URL.

    Example:
        >>> timeline_of("https://mastodon.example/api/v1/streaming/public/local")
        'https://mastodon.example/api/v1/timelines/public?local=true'
        >>> timeline_of("https://mastodon.example/api/v1/streaming/hashtag?tag=spark")
        'https://mastodon.example/api/v1/timelines/tag/spark'
    """
    parts = urlsplit(url)
    found = re.fullmatch(r"(.*/api/v1)/streaming/(public|hashtag)(?:/(local|remote))?", parts.path)
    query = dict(parse_qsl(parts.query))
    if not found or (found[2] == "hashtag" and "tag" not in query):
        return None
    path = f"{found[1]}/timelines/" + (
        "public" if found[2] == "public" else f"tag/{quote(query.pop('tag'), safe='')}"
    )
    if found[3]:
        query[found[3]] = "true"
    return urlunsplit(parts._replace(path=path, query=urlencode(query)))
