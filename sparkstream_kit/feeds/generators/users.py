"""What users do: actions in a program, views of ads with clicks, requests to a web server."""

from __future__ import annotations

import heapq
import ipaddress
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.durations import sizes
from sparkstream_kit.feeds.files import count_to, zipf
from sparkstream_kit.feeds.generators import iso_time, plain_time, seeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_ACTIONS = ("Open", "Close", "Print", "Share")
_WEIGHTS = (9, 8, 2, 1)
_ACTION_GAPS = (0, 1, 7, 40, 300)  # seconds between two rows
_ACTION_GAP_WEIGHTS = (2, 6, 6, 4, 1)


@seeded
def actions_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make actions of the users of a program.

    Each row is a dict of `time` (whole seconds since 1970-01-01 UTC; never decreases)
    and `action` (Open, Close, Print or Share).

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> list(actions_rows(2, seed=1))
        [{'time': 1469501107, 'action': 'Open'}, {'time': 1469501147, 'action': 'Close'}]
    """
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    time = 1469501107  # 2016-07-26 02:45:07 UTC
    for number in count_to(count):
        if number > 0:
            time += pick(_ACTION_GAPS, _ACTION_GAP_WEIGHTS)[0]
        yield {"time": time, "action": pick(_ACTIONS, _WEIGHTS)[0]}


def actions_truth(
    rows: Iterable[dict[str, Any]], *, slide: str = "1 hour"
) -> list[tuple[str, str, int]]:
    """Count `actions_rows` by action in windows of an hour every `slide`, without Spark.

    Args:
        rows: rows of `actions_rows`, in any order.
        slide: the time from the start of one window to the next, at most an hour.

    Returns:
        A tuple (start of the window, action, count) for each window and action with
        rows, sorted by start and action. The start is a text such as "2016-07-26
        02:00:00", in UTC.

    Raises:
        InvalidInputError: `slide` cannot be read, or is longer than an hour.

    Examples:
        >>> actions_truth(actions_rows(90, seed=1), slide="30 minutes")[:2]
        [('2016-07-26 02:00:00', 'Close', 18), ('2016-07-26 02:00:00', 'Open', 18)]
    """
    check(actions_truth, locals())
    length, step, _ = (size // 10**6 for size in sizes("1 hour", slide, None))
    counts = Counter[tuple[int, str]]()
    for row in rows:
        time = row["time"]
        newest_start = time - time % step
        for start in range(newest_start, time - length, -step):
            counts[start, row["action"]] += 1
    return [
        (plain_time(start), action, count)
        for (start, action), count in sorted(counts.items())
    ]


_TYPES = ("banner", "modal", "sponsored-search", "mail", "mobile")
_FIRST_AD = datetime(2024, 1, 1, tzinfo=UTC)
_CLICKED = 0.3  # the share of views with a click
_SOON = 0.8  # the share of clicks that come within ten minutes
_FIRST_IP = 0x0A000000  # 10.0.0.0


@seeded
def ads_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make views of ads, and clicks on them.

    An event is a view, a click on a view, or a stray click on an ad that was never
    shown. Each is a dict of the fields of the Yahoo streaming benchmark, all strings:
    `user_id`, `page_id`, `ad_id` (a new one each time that an ad is shown), `ad_type`,
    `event_type` ("view" or "click"), `event_time` (ISO 8601, UTC, a whole second),
    `ip_address`. Times increase. Three views in ten are clicked once. Of these clicks,
    four in five come within 10 minutes, and the others within an hour. About one event
    in fifty is a stray click.

    Args:
        count: the number of events; None for events without an end.
        seed: the seed of the random choices: the same seed gives the same events, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in ads_rows(2, seed=1):
        ...     print(row["event_time"], row["event_type"], row["ad_id"], row["ip_address"])
        2024-01-01T00:00:03Z view ad-1-0000000 10.130.152.104
        2024-01-01T00:00:10Z view ad-1-0000001 10.199.149.5
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    second = 0
    # A heap of clicks that are due later: the second, the number of the view, the view
    clicks: list[tuple[int, int, dict[str, Any]]] = []
    for number in count_to(count):
        second += draw.randrange(1, 10)
        time = iso_time(_FIRST_AD + timedelta(seconds=second))
        if clicks and clicks[0][0] <= second:
            _, _, view = heapq.heappop(clicks)
            # So that times increase, a click has the time of its turn, which may be
            # some seconds after the one that was drawn.
            yield {**view, "event_type": "click", "event_time": time}
            continue
        is_stray = draw.random() < 1 / 50
        event = _ad_event(draw, f"{seed}-{number:07}", time, is_stray=is_stray)
        if not is_stray and draw.random() < _CLICKED:
            delay = _click_delay(draw)
            heapq.heappush(clicks, (second + delay, number, event))
        yield event


def _ad_event(
    draw: random.Random, number: str, time: str, *, is_stray: bool
) -> dict[str, Any]:
    """Make a view of an ad, or a stray click on an ad that was never shown."""
    kind = "view"
    ad = f"ad-{number}"
    if is_stray:
        kind = "click"
        ad = f"stray-{number}"
    return {
        "user_id": f"user-{draw.randrange(500)}",
        "page_id": f"page-{draw.randrange(100)}",
        "ad_id": ad,
        "ad_type": draw.choice(_TYPES),
        "event_type": kind,
        "event_time": time,
        "ip_address": str(ipaddress.IPv4Address(_FIRST_IP + draw.randrange(2**24))),
    }


def _click_delay(draw: random.Random) -> int:
    """Return the seconds from a view to its click."""
    if draw.random() < _SOON:
        return draw.randrange(1, 600)
    return draw.randrange(700, 3600)


def ads_truth(
    rows: Iterable[dict[str, Any]], *, within: timedelta
) -> list[tuple[str, str, str | None]]:
    """Find the first click of each view, if one came in time, without Spark.

    Args:
        rows: events of `ads_rows`, in any order.
        within: the longest time from a view to a click that counts for it.

    Returns:
        A tuple (ad_id, time of the view, time of the click or None) for each view,
        sorted by ad_id. A view that comes twice counts once.

    Examples:
        >>> found = ads_truth(ads_rows(1000, seed=1), within=timedelta(minutes=10))
        >>> len(found), sum(clicked is not None for _, _, clicked in found)
        (786, 163)
    """
    views = set[tuple[str, str]]()
    clicks = dict[str, list[str]]()
    for row in rows:
        if row["event_type"] == "view":
            views.add((row["ad_id"], row["event_time"]))
        else:
            clicks.setdefault(row["ad_id"], []).append(row["event_time"])
    results = list[tuple[str, str, str | None]]()
    for ad, shown_at in sorted(views):
        first_click = None
        for clicked_at in sorted(clicks.get(ad, ())):
            wait = datetime.fromisoformat(clicked_at) - datetime.fromisoformat(shown_at)
            if timedelta(0) <= wait <= within:
                first_click = clicked_at
                break
        results.append((ad, shown_at, first_click))
    return results


# 1995-07-01 04:00:01 UTC, the first time in the access log that NASA published
_BEGIN = 804_571_201
_HOSTS = (
    "199.72.81.55", "unicomp6.unicomp.net", "burger.letters.com", "2001:db8::8a2e:370:7334",
    "205.212.115.106", "d104.aa.net", "129.94.144.152", "ppptky391.asahi-net.or.jp", "::1",
    "link097.txdirect.net", "net-1-141.eden",
)  # fmt: skip
_PATHS = (
    "/", "/history/apollo/", "/images/logo.gif", "/shuttle/countdown/", '/search?q="moon"',
    "/cgi-bin/map?9,8",
)  # fmt: skip
_STATUSES = (200, 304, 302, 404, 403, 500, 501)
_STATUS_WEIGHTS = (80, 8, 4, 5, 1, 1, 1)
_GAPS = (0, 1, 2, 9, 90)  # seconds between two lines
_GAP_WEIGHTS = (4, 5, 5, 4, 1)
_AGENTS = ("-", "Mozilla/2.0 (compatible; MSIE 3.0)", 'Lynx \\"2.5\\"')
_MONTHS = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)


@seeded
def log_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make requests to a web server.

    Each request is a dict of host, time (whole seconds since 1970; never decreases),
    request, status, bytes (None for a "-" in the log) and agent. Some hosts are IPv6
    addresses. Some requests contain quotes or lack the protocol. Every other line has
    the combined log format: its agent is not None.

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> print(log_line(next(iter(log_rows(1, seed=1)))))
        d104.aa.net - - [01/Jul/1995:00:00:01 -0400] "GET / HTTP/1.0" 200 19817
    """
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    time = _BEGIN
    hosts = zipf(len(_HOSTS))
    paths = zipf(len(_PATHS))
    for number in count_to(count):
        if number > 0:
            time += pick(_GAPS, _GAP_WEIGHTS)[0]
        status = pick(_STATUSES, _STATUS_WEIGHTS)[0]
        protocol = pick((" HTTP/1.0", ""), (9, 1))[0]
        host = pick(_HOSTS, cum_weights=hosts)[0]
        path = pick(_PATHS, cum_weights=paths)[0]
        sizes_sent = range(40_000) if status == HTTPStatus.OK else (0, None)
        request = {
            "host": host,
            "time": time,
            "request": f"GET {path}{protocol}",
            "status": status,
            "bytes": pick(sizes_sent)[0],
            "agent": None,
        }
        if number % 2 == 1:
            request["agent"] = pick(_AGENTS)[0]
        yield request


def log_line(row: Mapping[str, Any] | str) -> str:
    """Format a row of `log_rows` as a line of the common or the combined log format.

    A row that is a string, such as a bad row of `disturb`, is returned unchanged.

    Examples:
        >>> row = {"host": "::1", "time": 0, "request": "GET /", "status": 200}
        >>> log_line({**row, "bytes": None, "agent": None})
        '::1 - - [31/Dec/1969:20:00:00 -0400] "GET /" 200 -'
    """
    check(log_line, locals())
    if isinstance(row, str):
        return row
    at = datetime.fromtimestamp(row["time"], timezone(timedelta(hours=-4)))
    time = f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S %z}"
    sent = "-" if row["bytes"] is None else row["bytes"]
    line = f'{row["host"]} - - [{time}] "{row["request"]}" {row["status"]} {sent}'
    if row["agent"] is None:
        return line
    return f'{line} "-" "{row["agent"]}"'


def log_errors(
    rows: Iterable[Mapping[str, Any]],
) -> list[tuple[str, str, int, int, list[int]]]:
    """Compute the true result of `--report errors`: requests and errors by minute and path.

    Args:
        rows: requests of `log_rows`, in any order.

    Returns:
        A tuple (start of the minute, path, requests, errors, bytes) for each minute and
        path, in this order. The start is a text in UTC, the path has no query string,
        errors are requests with a status of 400 or more, and bytes is the sorted list
        of the sizes that are known.

    Examples:
        >>> found = log_errors(log_rows(3, seed=1))
        >>> [(path, requests, errors) for _, path, requests, errors, _ in found]
        [('/', 3, 0)]
    """
    check(log_errors, locals())
    groups = defaultdict(list)
    for row in rows:
        path = row["request"].split(" ")[1].partition("?")[0]
        minute = plain_time(row["time"] // 60 * 60)
        groups[minute, path].append(row)
    results = []
    for (minute, path), requests in sorted(groups.items()):
        sizes_sent = [row["bytes"] for row in requests if row["bytes"] is not None]
        errors = _errors(requests)
        results.append((minute, path, len(requests), errors, sorted(sizes_sent)))
    return results


_GAP = 1800  # seconds without a request, as in the job


def log_sessions(
    rows: Iterable[Mapping[str, Any]],
) -> list[tuple[str, str, str, int, int]]:
    """Compute the true result of `--report sessions`: the sessions of each host.

    A session ends at a pause of more than 30 minutes between two requests, as in the
    job.

    Args:
        rows: requests of `log_rows`, in the order of their times.

    Returns:
        A tuple (host, start, end, requests, errors) for each session, in this order.
        Start and end are texts in UTC; the end is 30 minutes after the last request.

    Examples:
        >>> log_sessions(log_rows(1, seed=1))
        [('d104.aa.net', '1995-07-01 04:00:01', '1995-07-01 04:30:01', 1, 0)]
    """
    check(log_sessions, locals())
    sessions: list[list[Mapping[str, Any]]] = []
    newest: dict[str, list[Mapping[str, Any]]] = {}  # of each host
    for row in rows:
        host = row["host"]
        if host in newest and row["time"] - newest[host][-1]["time"] <= _GAP:
            newest[host].append(row)
        else:
            newest[host] = [row]
            sessions.append(newest[host])
    results = []
    for session in sessions:
        start = plain_time(session[0]["time"])
        end = plain_time(session[-1]["time"] + _GAP)
        host = session[0]["host"]
        results.append((host, start, end, len(session), _errors(session)))
    return sorted(results)


def _errors(rows: Iterable[Mapping[str, Any]]) -> int:
    """Count the requests with a status of 400 or more."""
    failed = [row for row in rows if row["status"] >= HTTPStatus.BAD_REQUEST]
    return len(failed)
