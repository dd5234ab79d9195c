"""Generated rows, each kind with its true answer, which is computed without Spark.

Each function whose name ends in `_rows` makes one kind of rows from a count and a seed;
`feeds.datasets` lists the kinds for `sparkstream feed`. The functions that compute the
true answers are independent of the jobs, so that tests can compare the output of a job
with them.
"""

from __future__ import annotations

import html
import inspect
import ipaddress
import json
import math
import random
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.durations import sizes
from sparkstream_kit.feeds.files import Again, count_to, csv_line, line_files, zipf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


_Given = ParamSpec("_Given")
_Row = TypeVar("_Row")


def _seeded(make: Callable[_Given, Iterator[_Row]]) -> Callable[_Given, Iterable[_Row]]:
    """Decorate a generator of a count and a seed, so that its rows can be iterated again and again.

    The decorated function checks its arguments when it is called, and not at the first
    row.
    """

    @wraps(make)
    def rows(*args: _Given.args, **given: _Given.kwargs) -> Iterable[_Row]:
        bound = inspect.signature(make).bind(*args, **given).arguments
        check(make, bound)
        count_to(bound["count"])
        return Again(partial(make, *args, **given))

    return rows


def _zulu(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _plain(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


_ACTIONS = ("Open", "Close", "Print", "Share")
_WEIGHTS = (9, 8, 2, 1)
_ACTION_GAPS = (0, 1, 7, 40, 300)  # seconds between two rows
_ACTION_GAP_WEIGHTS = (2, 6, 6, 4, 1)


@_seeded
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
        time += pick(_ACTION_GAPS, _ACTION_GAP_WEIGHTS)[0] if number else 0
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
    counts = Counter(
        (start, row["action"])
        for row in rows
        for start in range(
            row["time"] - row["time"] % step, row["time"] - length, -step
        )
    )
    return [
        (_plain(start), action, count)
        for (start, action), count in sorted(counts.items())
    ]


_TYPES = ("banner", "modal", "sponsored-search", "mail", "mobile")
_FIRST_AD = datetime(2024, 1, 1, tzinfo=UTC)
_CLICKED = 0.3  # the share of views with a click
_SOON = 0.8  # the share of clicks that come within ten minutes


@_seeded
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
    # Clicks that are due later, sorted by time
    waiting: list[tuple[int, int, dict[str, Any]]] = []
    for number in count_to(count):
        second += draw.randrange(1, 10)
        if waiting and waiting[0][0] <= second:
            clicked_at, _, row = waiting.pop(0)
            # A click comes after the last event, so that times increase. So it may be
            # some seconds later than the time that was drawn.
            time = _zulu(_FIRST_AD + timedelta(seconds=max(clicked_at, second)))
            yield {**row, "event_type": "click", "event_time": time}
            continue
        stray = draw.random() < 1 / 50
        row = {
            "user_id": f"user-{draw.randrange(500)}",
            "page_id": f"page-{draw.randrange(100)}",
            "ad_id": f"{'stray' if stray else 'ad'}-{seed}-{number:07}",
            "ad_type": draw.choice(_TYPES),
            "event_type": "click" if stray else "view",
            "event_time": _zulu(_FIRST_AD + timedelta(seconds=second)),
            "ip_address": str(
                ipaddress.IPv4Address(0x0A000000 + draw.randrange(2**24))
            ),
        }
        if not stray and draw.random() < _CLICKED:
            delay = (
                draw.randrange(1, 600)
                if draw.random() < _SOON
                else draw.randrange(700, 3600)
            )
            waiting.append((second + delay, number, row))
            waiting.sort(key=lambda each: each[:2])
        yield row


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
    found = list[tuple[str, str, str | None]]()
    parsed = datetime.fromisoformat
    for ad, shown in sorted(views):
        in_time = (
            at
            for at in clicks.get(ad, ())
            if timedelta(0) <= parsed(at) - parsed(shown) <= within
        )
        found.append((ad, shown, min(in_time, default=None)))
    return found


_FIRST_CARD = datetime(2024, 6, 1, tzinfo=UTC)
_CARDS = 40
# In the US
_PLACES = (
    (40.71, -74.01),
    (41.88, -87.63),
    (29.76, -95.37),
    (39.74, -104.99),
    (47.61, -122.33),
)
_FAR_AWAY = (35.68, 139.69)  # Tokyo
_SHOPS = (
    ("Corner Foods", "grocery"), ("Night Fuel", "gas"),
    ("Web & Co, Ltd", "shopping"), ("Cinema", "leisure"),
)  # fmt: skip
_CARD_WARMUP = 15  # payments of a card before its first fraud
_BURST = 4  # further payments of a burst, within a minute of its first
_TIMES = 40  # factor between a fraudulent and the usual amount


@_seeded
def cards_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make payments of 40 cards, with frauds among them.

    Each payment is a dict of strings: `card` (16 digits), `time` (ISO 8601, UTC),
    `merchant`, `category`, `amount` (two decimals), `lat` and `lon` (degrees). A card
    pays in its own city, at intervals of about 10 minutes or more, and its amounts
    differ by at most half from its usual amount. After the first 15 payments of a card,
    one payment in 100 starts a fraud: a burst of five payments within a minute, an
    amount about 40 times the usual, or a payment in Tokyo. Times increase.

    Args:
        count: the number of payments; None for payments without an end.
        seed: the seed of the random choices: the same seed gives the same payments, and
            a smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in cards_rows(2, seed=1):
        ...     print(row["card"], row["time"], row["merchant"], row["amount"], row["lat"])
        4000000000000008 2024-06-01T00:00:23Z Web & Co, Ltd 45.50 39.7018
        4000000000000031 2024-06-01T00:00:48Z Cinema 58.22 41.8328
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    # Payments so far by card, the current second, and the card of each payment that a
    # burst still needs.
    paid = [0] * _CARDS
    second = 0
    burst = list[int]()
    order = list(range(_CARDS))
    for _ in count_to(count):
        if burst:
            card = burst.pop()
            second = second + draw.randrange(1, 6)
            kind = "burst"
        else:
            if not order:
                order = list(range(_CARDS))
                # Each card pays once in a round, so its payments are far apart
                second += 600
            card = order.pop(draw.randrange(len(order)))
            second = second + draw.randrange(5, 30)
            kind = (
                draw.choice(("amount", "place", "burst"))
                if draw.random() < 1 / 100
                else "usual"
            )
            if paid[card] < _CARD_WARMUP:
                kind = "usual"
            if kind == "burst":
                burst = [card] * _BURST
        paid[card] += 1
        usual = 20 + 2 * card
        amount = usual * draw.uniform(0.5, 1.5) * (_TIMES if kind == "amount" else 1)
        lat, lon = _FAR_AWAY if kind == "place" else _PLACES[card % len(_PLACES)]
        merchant, category = draw.choice(_SHOPS)
        yield {
            "card": f"4000{card:012}",
            "time": _zulu(_FIRST_CARD + timedelta(seconds=second)),
            "merchant": merchant,
            "category": category,
            "amount": f"{amount:.2f}",
            "lat": f"{lat + draw.uniform(-0.05, 0.05):.4f}",
            "lon": f"{lon + draw.uniform(-0.05, 0.05):.4f}",
        }


def cards_truth(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Find the frauds that were put into payments, without Spark.

    A payment in Tokyo gives two findings: that payment, and the next payment of the
    card at home. A burst gives one finding, its fifth payment.

    Args:
        rows: payments of `cards_rows`, in the order of their times.

    Returns:
        A tuple (card, time, kind) for each finding, sorted by time; the kind is
        "burst", "amount" or "place".

    Examples:
        >>> found = cards_truth(cards_rows(2000, seed=1))
        >>> len(found), found[0]
        (25, ('4000000000000014', '2024-06-01T07:02:42Z', 'place'))
    """
    found = list[tuple[str, str, str]]()
    last = dict[str, tuple[str, bool]]()
    recent = dict[str, list[datetime]]()
    for row in rows:
        card = row["card"]
        time = row["time"]
        far = float(row["lon"]) > 0
        now = datetime.fromisoformat(time)
        recent[card] = [
            each for each in recent.get(card, []) if now - each < timedelta(minutes=1)
        ] + [now]
        if len(recent[card]) > _BURST:
            found.append((card, time, "burst"))
        if float(row["amount"]) > (20 + 2 * int(card[4:])) * _TIMES / 3:
            found.append((card, time, "amount"))
        if card in last and last[card][1] != far:
            found.append((card, time, "place"))
        last[card] = (time, far)
    return sorted(found, key=lambda each: (each[1], each[0], each[2]))


_EVENT_PRODUCTS = (
    ("kettle", 3490), ("desk lamp", 2250), ('monitor, 27"', 18999),
    ("socks", 799), ("backpack", 5400), ("chess set", 2999),
    ("crème brûlée torch", 1875), ("notebook", 350), ("headphones", 12900),
)  # fmt: skip


@_seeded
def events_rows(count: int | None, *, seed: int) -> Iterator[dict[str, str]]:
    """Make the events of a shop.

    Each event is a dict of strings, as in a CSV file: event_id (unique within a seed),
    time (ISO 8601 in UTC, at most 12 seconds after the one before), user, product (some
    names have commas or quotes), type (view, cart or purchase) and price (with two
    decimals).

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in events_rows(2, seed=1):
        ...     print(*row.values(), sep=", ")
        1-0000001, 2024-03-01T09:00:01Z, user-382, chess set, view, 29.99
        1-0000002, 2024-03-01T09:00:07Z, user-326, desk lamp, cart, 22.50
    """
    weights = zipf(len(_EVENT_PRODUCTS))
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    moment = datetime(2024, 3, 1, 9, tzinfo=UTC)
    for number in count_to(count):
        moment += timedelta(seconds=pick(range(13))[0])
        product, cents = pick(_EVENT_PRODUCTS, cum_weights=weights)[0]
        yield {
            "event_id": f"{seed}-{number + 1:07}",
            "time": _zulu(moment),
            "user": f"user-{pick(range(1, 501))[0]}",
            "product": product,
            "type": pick(("view", "cart", "purchase"), cum_weights=(7, 9, 10))[0],
            "price": f"{Decimal(cents) / 100:.2f}",
        }


def events_truth(rows: Iterable[Mapping[str, str]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `events_rows`, exactly and without Spark.

    Args:
        rows: events of `events_rows`, in any order.

    Returns:
        A tuple (type, number of events, sum of their prices) for each type, sorted by
        type.

    Examples:
        >>> for kind, events, total in events_truth(events_rows(1000, seed=1)):
        ...     print(kind, events, total)
        cart 198 10472.13
        purchase 99 5928.19
        view 703 36093.72
    """
    prices = defaultdict(list)
    for row in rows:
        prices[row["type"]].append(Decimal(row["price"]))
    return sorted(
        (kind, len(each), sum(each, Decimal("0.00"))) for kind, each in prices.items()
    )


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


@_seeded
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
        time += pick(_GAPS, _GAP_WEIGHTS)[0] if number else 0
        status = pick(_STATUSES, _STATUS_WEIGHTS)[0]
        protocol = pick((" HTTP/1.0", ""), (9, 1))[0]
        yield {
            "host": pick(_HOSTS, cum_weights=hosts)[0],
            "time": time,
            "request": f"GET {pick(_PATHS, cum_weights=paths)[0]}{protocol}",
            "status": status,
            "bytes": (pick(range(40_000))[0] if status == 200 else pick((0, None))[0]),  # noqa: PLR2004
            "agent": pick(_AGENTS)[0] if number % 2 else None,
        }


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
    return line if row["agent"] is None else f'{line} "-" "{row["agent"]}"'


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
    found = defaultdict(list)
    for row in rows:
        path = row["request"].split(" ")[1].partition("?")[0]
        found[_plain(row["time"] // 60 * 60), path].append(row)
    return [
        (
            *key,
            len(here),
            _errors(here),
            sorted(row["bytes"] for row in here if row["bytes"] is not None),
        )
        for key, here in sorted(found.items())
    ]


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
    sessions: dict[str, list[list[Mapping[str, Any]]]] = defaultdict(list)
    for row in rows:
        of_host = sessions[row["host"]]
        if of_host and row["time"] - of_host[-1][-1]["time"] <= _GAP:
            of_host[-1].append(row)
        else:
            of_host.append([row])
    return sorted(
        (
            host,
            _plain(each[0]["time"]),
            _plain(each[-1]["time"] + _GAP),
            len(each),
            _errors(each),
        )
        for host, of_host in sessions.items()
        for each in of_host
    )


def _errors(rows: Iterable[Mapping[str, Any]]) -> int:
    """Count the requests with a status of 400 or more."""
    return sum(row["status"] >= 400 for row in rows)  # noqa: PLR2004 - errors begin there


_SPAM = 0.3  # the share of messages that are spam
# The weight of each word in ham and in spam. Messages consist of these words alone.
_MESSAGE_WEIGHTS = {
    "home": (9, 1), "dinner": (8, 1), "tomorrow": (8, 2), "thanks": (9, 2), "meeting": (6, 1),
    "train": (5, 1), "love": (7, 2), "ok": (9, 3), "the": (10, 10), "you": (10, 10), "now": (5, 6),
    "call": (5, 8), "free": (2, 9), "win": (1, 9), "prize": (1, 8), "cash": (1, 7), "offer": (1, 7),
    "urgent": (1, 6), "click": (1, 6), "reply": (3, 6),
}  # fmt: skip


@_seeded
def messages_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make messages, each labelled ham or spam.

    The messages resemble the SMS spam collection; three in ten are spam. Each is a dict
    of strings: `id`, `time` (ISO 8601, UTC, a whole second; times increase), `label`
    ("ham" or "spam") and `text` (4 to 12 words, each drawn with odds that depend on the
    label).

    Args:
        count: the number of messages; None for messages without an end.
        seed: the seed of the random choices: the same seed gives the same messages, and
            a smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in messages_rows(2, seed=1):
        ...     print(row["label"], "|", row["text"])
        ham | thanks love love the you
        ham | train you home love you tomorrow offer free home home
    """
    ham, spam = zip(*_MESSAGE_WEIGHTS.values(), strict=True)
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    time = datetime(2024, 1, 1, tzinfo=UTC)
    for number in count_to(count):
        time += timedelta(seconds=draw.randrange(1, 10))
        label, odds = ("spam", spam) if draw.random() < _SPAM else ("ham", ham)
        words = draw.choices(list(_MESSAGE_WEIGHTS), odds, k=draw.randrange(4, 13))
        yield {
            "id": f"m-{seed}-{number:07}",
            "time": _zulu(time),
            "label": label,
            "text": " ".join(words),
        }


def messages_truth(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Find the more probable label of each message by Bayes' rule, without Spark.

    The function knows the odds from which the words were drawn, so on average no model
    can be right more often. A trained model comes close.

    Args:
        rows: messages of `messages_rows`.

    Returns:
        A tuple (id, label) for each message, in the order of the messages.

    Examples:
        >>> rows = list(messages_rows(1000, seed=1))
        >>> best = messages_truth(rows)
        >>> sum(label == row["label"] for row, (_, label) in zip(rows, best, strict=True))
        970
    """
    totals = [sum(each) for each in zip(*_MESSAGE_WEIGHTS.values(), strict=True)]
    log_odds = {
        word: math.log(spam / totals[1]) - math.log(ham / totals[0])
        for word, (ham, spam) in _MESSAGE_WEIGHTS.items()
    }
    prior = math.log(_SPAM) - math.log(1 - _SPAM)
    return [
        (
            row["id"],
            (
                "spam"
                if prior + sum(map(log_odds.__getitem__, row["text"].split())) > 0
                else "ham"
            ),
        )
        for row in rows
    ]


# Tags that are hard to read: scripts with and without case, combining marks, a digit at
# the start, underscores, and a letter (ß) that becomes longer in upper case.
_TAGS = (
    "Spark", "Café", "データ", "Мосты", "हिन्दी", "Straße", "2026goals",
    "live_coding", "Ελλάδα", "Música", "บันทึก", "Kafka", "서울", "ÅNGSTRÖM",
    "Tiếng_Việt", "لندن", "Rust", "Bücher", "open_data", "IoT",
)  # fmt: skip
# Texts that look like a tag but contain none.
_NO_TAGS = (
    "issue #42", "mail me a#b", "C# and F#", "AT&#84;T", "press #️⃣ now",
    "see x.org/#top", "fish & chips",
)  # fmt: skip


@_seeded
def posts_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make posts of two networks.

    Each post is a dict that `posts_line` formats as its network does: id (a string,
    unique within a seed), created_at (ISO 8601 in UTC, at most 4 seconds after the one
    before), network ("x" or "mastodon"), text, and tags, the sorted list of hashtags in
    the text, each once, as they are counted: in upper case and then in lower case, so
    that ß is "ss". In the text, the hashtags are in any case, some appear twice, some
    begin with the full-width #, and each text also contains something that only looks
    like a tag. About every ten minutes, another tag becomes the most frequent one.

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> row = list(posts_rows(3, seed=2))[2]
        >>> row["text"], row["tags"]
        ('issue #42 #ÅNGSTRÖM', ['ångström'])
    """
    weights = zipf(len(_TAGS))
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    for number in count_to(count):
        moment += timedelta(seconds=pick(range(5))[0])
        leading = number // 300
        ranks = pick(range(len(_TAGS)), cum_weights=weights, k=pick(range(4))[0])
        tags = [_TAGS[(rank + leading) % len(_TAGS)] for rank in ranks]
        written = [
            pick("##＃")[0] + pick((tag, tag.upper(), tag.lower()))[0]  # noqa: RUF001
            for tag in tags
        ]
        yield {
            "id": f"{seed}{number + 1:09}",
            "created_at": f"{moment:%Y-%m-%dT%H:%M:%S.000Z}",
            "network": pick(("x", "mastodon"))[0],
            "text": " ".join([pick(_NO_TAGS)[0], *written]),
            "tags": sorted({tag.upper().lower() for tag in tags}),
        }


def posts_line(row: Mapping[str, Any] | str) -> str:
    """Format a post of `posts_rows` as a line of JSON, as its network's API returns it.

    The fields are those of a post of the X API v2 with `created_at`, or of a Mastodon
    status. A row that is a string, such as a bad row of `disturb`, is returned
    unchanged.

    Examples:
        >>> time = "2024-05-01T12:00:00.000Z"
        >>> row = {"id": "7", "created_at": time, "text": "hi", "network": "x"}
        >>> posts_line(row)
        '{"data": {"id": "7", "text": "hi", "created_at": "2024-05-01T12:00:00.000Z"}}'
    """
    if isinstance(row, str):
        return row
    post = {"id": row["id"], "text": row["text"], "created_at": row["created_at"]}
    if row["network"] == "x":
        return json.dumps({"data": post}, ensure_ascii=False)
    content = f"<p>{html.escape(post.pop('text'))}</p>"
    status = {
        **post,
        "content": content,
        "tags": [{"name": tag} for tag in row["tags"]],
    }
    return json.dumps(status, ensure_ascii=False)


def posts_truth(
    rows: Iterable[Mapping[str, Any]],
    *,
    n: int = 10,
    length: int = 600,
    slide: int = 60,
) -> list[tuple[str, str, int]]:
    """Compute the true top tags of posts from `posts_rows` in sliding windows, without Spark.

    Args:
        rows: posts of `posts_rows`, in any order.
        n: the number of tags to return for each window.
        length: the length of a window in seconds.
        slide: the seconds from the start of one window to the next.

    Returns:
        A tuple (start of the window in ISO 8601, tag, number of posts with the tag) for
        each of the top tags, sorted by start; within a window, the most frequent tag
        comes first, and equally frequent tags are sorted by their text.

    Examples:
        >>> posts_truth(posts_rows(500, seed=1), n=1, length=600, slide=600)
        [('2024-05-01T12:00:00Z', 'spark', 99), ('2024-05-01T12:10:00Z', 'café', 67)]
    """
    check(posts_truth, locals())
    counts: dict[int, Counter[str]] = {}
    for row in rows:
        second = int(datetime.fromisoformat(row["created_at"]).timestamp())
        for start in range(second - second % slide, second - length, -slide):
            counts.setdefault(start, Counter()).update(row["tags"])
    return [
        (_zulu(datetime.fromtimestamp(start, UTC)), tag, posts)
        for start, counter in sorted(counts.items())
        for tag, posts in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[
            :n
        ]
    ]


_PRODUCTS = (
    ("Build - Data Lake", "180"), ("Build - Web Shop", "149.5"),
    ("Workshop - Streaming", "210"), ("Advice - Cloud Cost", "195"),
    ("Build - Mobile App", "160"), ("Support - Night Desk", "87.25"),
    ("Workshop - Statistics", "125"), ("Advice - Security", "240"),
    ("Build - Search", "155"), ("Support - Upgrades", "95"),
    ("Workshop - Rust", "140"), ("Advice - Pricing", "170.75"),
    ("Build - Payments", "165"), ("Support - Backup", "72.5"),
    ("Workshop - Kotlin", "130"), ("Advice - Hiring", "110"),
    ("Support - Migration", "99.99"),
)  # fmt: skip
_STATES = (
    ("New York", "East"), ("Massachusetts", "East"),
    ("Pennsylvania", "East"), ("Maine", "East"),
    ("Oregon", "West"), ("Washington", "West"), ("Nevada", "West"), ("Utah", "West"),
    ("Illinois", "Central"), ("Iowa", "Central"),
    ("Kansas", "Central"), ("Wisconsin", "Central"),
    ("Georgia", "South"), ("Louisiana", "South"),
    ("North Carolina", "South"), ("Tennessee", "South"),
)  # fmt: skip
_CUSTOMERS = tuple(
    shape.format(first, last)
    for shape in ("{0} {1}", "{1}, {0}", '{0} "Bear" {1}')
    for first in ("Ann", "Bo", "Chidi", "Dana", "Zoë")
    for last in ("Smith", "Lee", "O'Hara", "Okafor", "Åkesson", "van Dijk")
)


@_seeded
def sales_rows(count: int | None, *, seed: int) -> Iterator[tuple[str, ...]]:
    r"""Make sales rows: tuples of twelve texts, as they stand in a CSV file.

    The columns are OrderID, OrderDate (month/day/two-digit year, no leading zeros),
    Quantity, DiscountPct (0 to 0.1), Rate, SaleAmount (Quantity x Rate less the
    discount, rounded to the cent), CustomerName (some with commas or quotes), State (of
    the US), Region, ProductKey, RowCount (always 1) and ProfitMargin. An order has one
    or more rows. Orders come by date; after four years the dates start over. The totals
    of the 17 products differ widely.

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in sales_rows(2, seed=1):
        ...     print(row[1], row[5:10])
        1/2/24 ('4491.9', 'Bo "Bear" O\'Hara', 'Oregon', 'West', 'Workshop - Streaming')
        1/3/24 ('3850.2', "O'Hara, Bo", 'Georgia', 'South', 'Build - Data Lake')
    """
    weights = zipf(len(_PRODUCTS))
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    number = 10_000
    days = 0
    order: tuple[str, ...] = ()
    for _ in count_to(count):
        if not order or pick((True, False), cum_weights=(6, 10))[0]:
            number = number + pick(range(1, 40))[0]
            days = days + pick((0, 0, 0, 1))[0]
            # After four years the dates start over, because a two-digit year is only
            # clear within a century.
            day = date(2024, 1, 1) + timedelta(days % 1461)
            order = (
                str(number),
                f"{day.month}/{day.day}/{day:%y}",
                *pick(_CUSTOMERS),
                *pick(_STATES)[0],
            )
        product, rate = pick(_PRODUCTS, cum_weights=weights)[0]
        quantity = pick(range(1, 51))[0]
        discount = Decimal(pick(range(11))[0]) / 100
        amount = (quantity * Decimal(rate) * (1 - discount)).quantize(
            Decimal("0.01"), ROUND_HALF_UP
        )
        sold = (str(quantity), _text(discount), rate, _text(amount))
        margin = _text(Decimal(pick(range(35, 81))[0]) / 100)
        yield (*order[:2], *sold, *order[2:], product, "1", margin)


def sales_totals(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `sales_rows`, exactly and without Spark.

    Args:
        rows: rows of `sales_rows`, in any order.

    Returns:
        A tuple (ProductKey, Orders, TotalSales) for each product, the largest
        TotalSales first; products with equal totals are sorted by key. Orders is the
        number of rows.

    Examples:
        >>> for product, orders, total in sales_totals(sales_rows(1000, seed=1))[:2]:
        ...     print(product, orders, total)
        Build - Data Lake 303 1322326.80
        Build - Web Shop 132 484016.88
    """
    amounts = defaultdict(list)
    for row in rows:
        amounts[row[9]].append(Decimal(row[5]))
    totals = [
        (product, len(each), sum(each, Decimal("0.00")))
        for product, each in amounts.items()
    ]
    return sorted(totals, key=lambda total: (-total[2], total[0]))


def sales_files(
    count: int | None, *, rows: int, seed: int
) -> Iterable[tuple[str, str]]:
    """Make headerless CSV files of `sales_rows`, as (name, text) pairs for `drip`.

    Together the files hold `sales_rows(count * rows, seed=seed)`.

    The true totals of the files are `sales_totals(sales_rows(count * rows,
    seed=seed))`. A quote in a name is doubled (RFC 4180); Spark reads that with the
    option escape='"'.

    Args:
        count: the number of files; None for files without an end.
        rows: the number of rows in each file.
        seed: the seed of the random choices: the same seed gives the same files. The
            seed is part of the file names, so that files of two seeds can land in one
            folder.

    Raises:
        InvalidInputError: the count is below 0, or `rows` is below 1.

    Examples:
        >>> [(name, len(text.splitlines())) for name, text in sales_files(2, rows=50, seed=1)]
        [('sales-1-0001.csv', 50), ('sales-1-0002.csv', 50)]
    """
    check(sales_files, locals())
    count_to(count)  # raises an error for a count below 0
    total = None if count is None else count * rows
    lines = Again(lambda: map(csv_line, sales_rows(total, seed=seed)))
    return line_files(lines, rows=rows, name=f"sales-{seed}-{{}}.csv")


def _text(number: Decimal) -> str:
    """Format a number without trailing zeros and without an exponent."""
    return f"{number.normalize():f}"


_FIRST = datetime(2024, 3, 1, tzinfo=UTC)
_DEVICES = 8
_EVERY = 31  # seconds from one reading of a device to the next
_QUIET = (900, 2400)  # least and most seconds of a silence
_SILENT = timedelta(minutes=10)  # without a reading, as in the job
_WARMUP = 40  # readings of a device before its first spike
_APART = 25  # readings of a device between two spikes
# Degrees: the usual temperature of the first device, the largest noise, the smallest
# spike.
_USUAL = 18.0
_NOISE = 0.5
_SPIKE = 15.0


@_seeded
def sensors_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make temperatures of eight devices.

    Each device is read about every 31 seconds. A reading is a dict of `device` ("d1" to
    "d8"), `time` (a string, ISO 8601, UTC) and `temperature` (a float, degrees
    Celsius). Each device has its own usual temperature, one degree above that of the
    device before it. The temperature drifts by at most half a degree, and has a noise
    of at most half a degree. About one reading in 150 is a spike of 15 to 25 degrees
    above that; after about one in 300, the device is silent for 15 to 40 minutes. Times
    increase.

    Args:
        count: the number of readings; None for readings without an end.
        seed: the seed of the random choices: the same seed gives the same readings, and
            a smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in sensors_rows(2, seed=1):
        ...     print(row)
        {'device': 'd1', 'time': '2024-03-01T00:00:01Z', 'temperature': 18.1}
        {'device': 'd2', 'time': '2024-03-01T00:00:05Z', 'temperature': 18.84}
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    drift = [0.0] * _DEVICES
    since_spike = [_APART - _WARMUP] * _DEVICES
    silent_until = [0] * _DEVICES
    slot = 0
    for _ in count_to(count):
        while True:  # skip devices that are silent
            turn, device = divmod(slot, _DEVICES)
            slot += 1
            second = turn * _EVERY + device * _EVERY // _DEVICES + draw.randrange(1, 3)
            if second >= silent_until[device]:
                break
        drift[device] = min(
            0.5, max(-0.5, drift[device] + draw.choice((-0.01, 0, 0.01)))
        )
        noise = sum(draw.uniform(-_NOISE, _NOISE) for _ in range(4)) / 4
        since_spike[device] += 1
        spike = since_spike[device] > _APART and draw.random() < 1 / 150
        if spike:
            since_spike[device] = 0
        elif draw.random() < 1 / 300:
            silent_until[device] = second + draw.randrange(*_QUIET)
        degrees = (
            _USUAL
            + device
            + drift[device]
            + noise
            + (draw.uniform(_SPIKE, 25) if spike else 0)
        )
        yield {
            "device": f"d{device + 1}",
            "time": _zulu(_FIRST + timedelta(seconds=second)),
            "temperature": round(degrees, 2),
        }


def sensors_truth(
    rows: Iterable[dict[str, Any]], *, delay: timedelta = timedelta(0)
) -> list[tuple[str, str, str]]:
    """Find the spikes and the silences that were put into readings, without Spark.

    Args:
        rows: readings of `sensors_rows`, in the order of their times.
        delay: the watermark delay: findings later than the newest reading minus the
            delay are left out, because a streaming job has not emitted them yet.

    Returns:
        A tuple (device, time, kind) for each finding, sorted by time. The kind is
        "spike" or "silence"; the time is that of the spike, or ten minutes after the
        last reading before the silence.

    Examples:
        >>> found = sensors_truth(sensors_rows(2000, seed=1))
        >>> len(found), found[0]
        (9, ('d3', '2024-03-01T00:35:47Z', 'spike'))
    """
    check(sensors_truth, locals())
    found = list[tuple[datetime, str, str]]()
    last = dict[str, datetime]()
    now = _FIRST
    for row in rows:
        device = row["device"]
        now = datetime.fromisoformat(row["time"])
        if device in last and now - last[device] > _SILENT:
            found.append((last[device] + _SILENT, device, "silence"))
        if row["temperature"] > _USUAL + int(device[1:]) - 1 + _SPIKE / 2:
            found.append((now, device, "spike"))
        last[device] = now
    found += [(time + _SILENT, device, "silence") for device, time in last.items()]
    due = [each for each in sorted(found) if each[0] <= now - delay]
    return [(device, _zulu(time), what) for time, device, what in due]
