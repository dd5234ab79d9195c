"""Web server logs with known errors and sessions: common and combined lines, and the truth without Spark."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.lines import Again, count_to, zipf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["log_errors", "log_line", "log_rows", "log_sessions"]

_BEGIN = 804_571_201  # 1995-07-01 04:00:01 UTC, when the log that NASA published begins
_HOSTS = (
    "199.72.81.55", "unicomp6.unicomp.net", "burger.letters.com", "2001:db8::8a2e:370:7334",
    "205.212.115.106", "d104.aa.net", "129.94.144.152", "ppptky391.asahi-net.or.jp", "::1",
    "link097.txdirect.net", "net-1-141.eden",
)  # fmt: skip
_PATHS = (
    "/", "/history/apollo/", "/images/logo.gif", "/shuttle/countdown/", '/search?q="moon"',
    "/cgi-bin/map?9,8",
)  # fmt: skip
_STATUSES, _STATUS_WEIGHTS = (200, 304, 302, 404, 403, 500, 501), (80, 8, 4, 5, 1, 1, 1)
_GAPS, _GAP_WEIGHTS = (0, 1, 2, 9, 90), (4, 5, 5, 4, 1)  # seconds from a line to the next one
_AGENTS = ("-", "Mozilla/2.0 (compatible; MSIE 3.0)", 'Lynx \\"2.5\\"')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def log_rows(count: int | None, *, seed: int) -> Iterable[dict[str, Any]]:
    """Make requests: host, time (seconds since 1970, in order), request, status, bytes (None: -) and agent.

    Some hosts are IPv6 addresses, some requests hold quotes or lack the protocol, and every other line is a
    combined one: its agent is not None.

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> print(log_line(next(iter(log_rows(1, seed=1)))))
        d104.aa.net - - [01/Jul/1995:00:00:01 -0400] "GET / HTTP/1.0" 200 19817
    """
    check(log_rows, locals())
    numbers = count_to(count)

    def make() -> Iterator[dict[str, Any]]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        time, hosts, paths = _BEGIN, zipf(len(_HOSTS)), zipf(len(_PATHS))
        for number in numbers:
            time += pick(_GAPS, _GAP_WEIGHTS)[0] if number else 0
            status, protocol = pick(_STATUSES, _STATUS_WEIGHTS)[0], pick((" HTTP/1.0", ""), (9, 1))[0]
            yield {
                "host": pick(_HOSTS, cum_weights=hosts)[0],
                "time": time,
                "request": f"GET {pick(_PATHS, cum_weights=paths)[0]}{protocol}",
                "status": status,
                "bytes": pick(range(40_000))[0] if status == 200 else pick((0, None))[0],  # noqa: PLR2004
                "agent": pick(_AGENTS)[0] if number % 2 else None,
            }

    return Again(make)


def log_line(row: Mapping[str, Any] | str) -> str:
    """Write a row of `log_rows` as a log line; a text, such as a bad line, stays.

    Example:
        >>> row = {"host": "::1", "time": 0, "request": "GET /", "status": 200, "bytes": None, "agent": None}
        >>> log_line(row)
        '::1 - - [31/Dec/1969:20:00:00 -0400] "GET /" 200 -'
    """
    check(log_line, locals())
    if isinstance(row, str):
        return row
    at = datetime.fromtimestamp(row["time"], timezone(timedelta(hours=-4)))
    time = f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S %z}"
    sent = "-" if row["bytes"] is None else row["bytes"]
    line = f'{row["host"]} - - [{time}] "{row["request"]}" {row["status"]} {sent}'
    return line if row["agent"] is None else f'{line} "-" "{row["agent"]}"'


def log_errors(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int, int, list[int]]]:
    """Compute the truth of `--report errors`: by minute and path.

    Returns:
        (start of the minute as an ISO text in UTC, path, requests, errors, bytes sent in their order).

    Example:
        >>> [(path, requests, errors) for _, path, requests, errors, _ in log_errors(log_rows(3, seed=1))]
        [('/', 3, 0)]
    """
    check(log_errors, locals())
    found = defaultdict(list)
    for row in rows:
        path = row["request"].split(" ")[1].partition("?")[0]
        found[_iso(row["time"] // 60 * 60), path].append(row)
    return [
        (
            *key,
            len(here),
            _errors(here),
            sorted(row["bytes"] for row in here if row["bytes"] is not None),
        )
        for key, here in sorted(found.items())
    ]


def log_sessions(
    rows: Iterable[Mapping[str, Any]], *, gap: int = 1800
) -> list[tuple[str, str, str, int, int]]:
    """Compute the truth of `--report sessions`: runs of requests of a host that are less than `gap` s apart.

    Returns:
        (host, start, end as ISO texts in UTC, requests, errors); the end is the last request plus the gap.

    Example:
        >>> log_sessions(log_rows(1, seed=1))
        [('d104.aa.net', '1995-07-01 04:00:01', '1995-07-01 04:30:01', 1, 0)]
    """
    check(log_sessions, locals())
    sessions: dict[str, list[list[Mapping[str, Any]]]] = defaultdict(list)
    for row in rows:
        of_host = sessions[row["host"]]
        if of_host and row["time"] - of_host[-1][-1]["time"] < gap:
            of_host[-1].append(row)
        else:
            of_host.append([row])
    return sorted(
        (host, _iso(each[0]["time"]), _iso(each[-1]["time"] + gap), len(each), _errors(each))
        for host, of_host in sessions.items()
        for each in of_host
    )


def _errors(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["status"] >= 400 for row in rows)  # noqa: PLR2004 - errors begin there


def _iso(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
