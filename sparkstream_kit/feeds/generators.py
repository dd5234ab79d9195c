"""Generated rows, each kind with its true answer, which is computed without Spark."""

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

from sparkstream_kit._arguments import check
from sparkstream_kit._durations import sizes
from sparkstream_kit.feeds.files import Again, count_to, csv_line, line_files, zipf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


_Given = ParamSpec("_Given")
_Row = TypeVar("_Row")


def _seeded(make: Callable[_Given, Iterator[_Row]]) -> Callable[_Given, Iterable[_Row]]:
    """Let rows that a function of a count and a seed makes be gone through again; refuse wrong arguments."""

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


_ACTIONS_BEGIN = 1469501107  # 2016-07-26 02:45:07 UTC
_ACTIONS, _WEIGHTS = ("Open", "Close", "Print", "Share"), (9, 8, 2, 1)
_ACTION_GAPS, _ACTION_GAP_WEIGHTS = (0, 1, 7, 40, 300), (2, 6, 6, 4, 1)  # seconds from a row to the next one


@_seeded
def actions_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make actions of the users of a program.

    Each is a dict of `time` (seconds since 1970-01-01 UTC, in order) and `action` (Open, Close and others).

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> list(actions_rows(2, seed=1))
        [{'time': 1469501107, 'action': 'Open'}, {'time': 1469501147, 'action': 'Close'}]
    """
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    time = _ACTIONS_BEGIN
    for number in count_to(count):
        time += pick(_ACTION_GAPS, _ACTION_GAP_WEIGHTS)[0] if number else 0
        yield {"time": time, "action": pick(_ACTIONS, _WEIGHTS)[0]}


def actions_truth(rows: Iterable[dict[str, Any]], *, slide: str = "1 hour") -> list[tuple[str, str, int]]:
    """Count rows of `actions_rows` by action in windows of an hour, one every `slide`, without Spark.

    Returns:
        (start of the window as an ISO text in UTC, action, count), in this order.

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
        for start in range(row["time"] - row["time"] % step, row["time"] - length, -step)
    )
    return [(_plain(start), action, count) for (start, action), count in sorted(counts.items())]


_TYPES = ("banner", "modal", "sponsored-search", "mail", "mobile")
_FIRST_AD = datetime(2024, 1, 1, tzinfo=UTC)
_CLICKED, _SOON = 0.3, 0.8  # of the views, and of their clicks those that come within ten minutes


@_seeded
def ads_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make views of ads, and clicks on them.

    An event is a view, a click within 10 minutes or within an hour, or a stray click. Each is a dict of the
    benchmark's fields, all strings: `user_id`, `page_id`, `ad_id` (one for each showing of an ad), `ad_type`,
    `event_type` ("view" or "click"), `event_time` (ISO 8601, UTC, a whole second), `ip_address`. Times
    increase; three views in ten are clicked once, and of these clicks four in five come within 10 minutes.
    One event in fifty is a click on an ad that was never shown.

    Args:
        count: how many events; None never ends.
        seed: the same seed gives the same events; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in ads_rows(2, seed=1):
        ...     print(row["event_time"], row["event_type"], row["ad_id"], row["ip_address"])
        2024-01-01T00:00:03Z view ad-1-0000000 10.130.152.104
        2024-01-01T00:00:10Z view ad-1-0000001 10.199.149.5
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    second, waiting = 0, list[tuple[int, int, dict[str, Any]]]()  # clicks that are to come
    for number in count_to(count):
        second += draw.randrange(1, 10)
        if waiting and waiting[0][0] <= second:
            clicked_at, _, row = waiting.pop(0)
            # Behind the last event, so that times increase: at most some seconds later than drawn.
            yield {
                **row,
                "event_type": "click",
                "event_time": _zulu(_FIRST_AD + timedelta(seconds=max(clicked_at, second))),
            }
            continue
        stray = draw.random() < 1 / 50
        row = {
            "user_id": f"user-{draw.randrange(500)}",
            "page_id": f"page-{draw.randrange(100)}",
            "ad_id": f"{'stray' if stray else 'ad'}-{seed}-{number:07}",
            "ad_type": draw.choice(_TYPES),
            "event_type": "click" if stray else "view",
            "event_time": _zulu(_FIRST_AD + timedelta(seconds=second)),
            "ip_address": str(ipaddress.IPv4Address(0x0A000000 + draw.randrange(2**24))),
        }
        if not stray and draw.random() < _CLICKED:
            delay = draw.randrange(1, 600) if draw.random() < _SOON else draw.randrange(700, 3600)
            waiting.append((second + delay, number, row))
            waiting.sort(key=lambda each: each[:2])
        yield row


def ads_truth(rows: Iterable[dict[str, Any]], *, within: timedelta) -> list[tuple[str, str, str | None]]:
    """Find the first click of each view, if one came in time, without Spark.

    Returns:
        (ad_id, time of the view, time of the click or None) for each view, by ad_id; a view that comes twice
        is one.

    Examples:
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


_FIRST_CARD = datetime(2024, 6, 1, tzinfo=UTC)
_CARDS = 40
_PLACES = ((40.71, -74.01), (41.88, -87.63), (29.76, -95.37), (39.74, -104.99), (47.61, -122.33))  # in the US
_FAR_AWAY = (35.68, 139.69)  # Tokyo
_SHOPS = (
    ("Corner Foods", "grocery"), ("Night Fuel", "gas"), ("Web & Co, Ltd", "shopping"), ("Cinema", "leisure"),
)  # fmt: skip
_CARD_WARMUP = 15  # payments of a card before its first fraud
_BURST = 4  # further payments within a minute of the first
_TIMES = 40  # how many times the usual amount


@_seeded
def cards_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make payments of 40 cards, with frauds among them.

    Each is a dict of `card` (digits), `time` (ISO 8601, UTC), `merchant`, `category`, `amount` (a text with
    two decimals), `lat` and `lon` (texts, degrees). A card pays in its own city, some 10 minutes or more
    apart, amounts that differ by at most a half from what is usual for it. One payment in 100 begins a fraud:
    a burst of five payments within a minute, an amount 40 times the usual, or a payment in Tokyo. Times
    increase.

    Args:
        count: how many payments; None never ends.
        seed: the same seed gives the same payments; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in cards_rows(2, seed=1):
        ...     print(row["card"], row["time"], row["merchant"], row["amount"], row["lat"])
        4000000000000008 2024-06-01T00:00:23Z Web & Co, Ltd 45.50 39.7018
        4000000000000031 2024-06-01T00:00:48Z Cinema 58.22 41.8328
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    paid, second, burst = [0] * _CARDS, 0, list[int]()  # how often, now, cards whose burst goes on
    order = list(range(_CARDS))
    for _ in count_to(count):
        if burst:
            card, second, kind = burst.pop(), second + draw.randrange(1, 6), "burst"
        else:
            if not order:
                order = list(range(_CARDS))
                second += 600  # a card pays once in a round
            card, second = order.pop(draw.randrange(len(order))), second + draw.randrange(5, 30)
            kind = draw.choice(("amount", "place", "burst")) if draw.random() < 1 / 100 else "usual"
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

    A payment in Tokyo is two findings: on the way there, and on the way back. Of a burst, the fifth payment
    is one.

    Args:
        rows: of `cards_rows`, in the order of their times.

    Returns:
        (card, time, "burst", "amount" or "place"), by time.

    Examples:
        >>> found = cards_truth(cards_rows(2000, seed=1))
        >>> len(found), found[0]
        (25, ('4000000000000014', '2024-06-01T07:02:42Z', 'place'))
    """
    found, last = list[tuple[str, str, str]](), dict[str, tuple[str, bool]]()
    recent = dict[str, list[datetime]]()
    for row in rows:
        card, time, far = row["card"], row["time"], float(row["lon"]) > 0
        now = datetime.fromisoformat(time)
        recent[card] = [each for each in recent.get(card, []) if now - each < timedelta(minutes=1)] + [now]
        if len(recent[card]) > _BURST:
            found.append((card, time, "burst"))
        if float(row["amount"]) > (20 + 2 * int(card[4:])) * _TIMES / 3:
            found.append((card, time, "amount"))
        if card in last and last[card][1] != far:
            found.append((card, time, "place"))
        last[card] = (time, far)
    return sorted(found, key=lambda each: (each[1], each[0], each[2]))


_EVENTS_START = datetime(2024, 3, 1, 9, tzinfo=UTC)
_EVENT_PRODUCTS = (
    ("kettle", 3490), ("desk lamp", 2250), ('monitor, 27"', 18999), ("socks", 799), ("backpack", 5400),
    ("chess set", 2999), ("crème brûlée torch", 1875), ("notebook", 350), ("headphones", 12900),
)  # fmt: skip


@_seeded
def events_rows(count: int | None, *, seed: int) -> Iterator[dict[str, str]]:
    """Make the events of a shop.

    Each is a dict of texts, as they stand in a CSV file: event_id (unique in a seed), time (ISO 8601 in UTC,
    at most 12 seconds after the one before), user, product (some with commas or quotes), type (view, cart or
    purchase) and price (with two decimals).

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

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
    moment = _EVENTS_START
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

    Returns:
        (type, number of events, sum of their prices) for each type, by type.

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
    return sorted((kind, len(each), sum(each, Decimal("0.00"))) for kind, each in prices.items())


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


@_seeded
def log_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make requests to a web server.

    Each is a dict of host, time (seconds since 1970, in order), request, status, bytes (None: -) and agent.
    Some hosts are IPv6 addresses, some requests hold quotes or lack the protocol, and every other line is a
    combined one: its agent is not None.

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> print(log_line(next(iter(log_rows(1, seed=1)))))
        d104.aa.net - - [01/Jul/1995:00:00:01 -0400] "GET / HTTP/1.0" 200 19817
    """
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    time, hosts, paths = _BEGIN, zipf(len(_HOSTS)), zipf(len(_PATHS))
    for number in count_to(count):
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


def log_line(row: Mapping[str, Any] | str) -> str:
    """Write a row of `log_rows` as a log line; a text, such as a bad line, stays.

    Examples:
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

    Examples:
        >>> [(path, requests, errors) for _, path, requests, errors, _ in log_errors(log_rows(3, seed=1))]
        [('/', 3, 0)]
    """
    check(log_errors, locals())
    found = defaultdict(list)
    for row in rows:
        path = row["request"].split(" ")[1].partition("?")[0]
        found[_plain(row["time"] // 60 * 60), path].append(row)
    return [
        (*key, len(here), _errors(here), sorted(row["bytes"] for row in here if row["bytes"] is not None))
        for key, here in sorted(found.items())
    ]


def log_sessions(
    rows: Iterable[Mapping[str, Any]], *, gap: int = 1800
) -> list[tuple[str, str, str, int, int]]:
    """Compute the truth of `--report sessions`: runs of requests of a host that are less than `gap` s apart.

    Returns:
        (host, start, end as ISO texts in UTC, requests, errors); the end is the last request plus the gap.

    Examples:
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
        (host, _plain(each[0]["time"]), _plain(each[-1]["time"] + gap), len(each), _errors(each))
        for host, of_host in sessions.items()
        for each in of_host
    )


def _errors(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["status"] >= 400 for row in rows)  # noqa: PLR2004 - errors begin there


_SPAM = 0.3  # of the messages
# How often each word is drawn, in ham and in spam. No other word is ever drawn.
_MESSAGE_WEIGHTS = {
    "home": (9, 1), "dinner": (8, 1), "tomorrow": (8, 2), "thanks": (9, 2), "meeting": (6, 1),
    "train": (5, 1), "love": (7, 2), "ok": (9, 3), "the": (10, 10), "you": (10, 10), "now": (5, 6),
    "call": (5, 8), "free": (2, 9), "win": (1, 9), "prize": (1, 8), "cash": (1, 7), "offer": (1, 7),
    "urgent": (1, 6), "click": (1, 6), "reply": (3, 6),
}  # fmt: skip
_FIRST_MESSAGE = datetime(2024, 1, 1, tzinfo=UTC)


@_seeded
def messages_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make messages, each labelled ham or spam.

    They are shaped after the SMS spam collection, and three in ten are spam. Each is a dict of `id` (string),
    `time` (ISO 8601, UTC, a whole second; times increase), `label` ("ham" or "spam") and `text` (4 to 12
    words, drawn one by one with odds that depend on the label).

    Args:
        count: how many messages; None never ends.
        seed: the same seed gives the same messages; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in messages_rows(2, seed=1):
        ...     print(row["label"], "|", row["text"])
        ham | thanks love love the you
        ham | train you home love you tomorrow offer free home home
    """
    odds = {
        "ham": [ham for ham, _ in _MESSAGE_WEIGHTS.values()],
        "spam": [spam for _, spam in _MESSAGE_WEIGHTS.values()],
    }
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    time = _FIRST_MESSAGE
    for number in count_to(count):
        time += timedelta(seconds=draw.randrange(1, 10))
        label = "spam" if draw.random() < _SPAM else "ham"
        words = draw.choices(list(_MESSAGE_WEIGHTS), odds[label], k=draw.randrange(4, 13))
        yield {
            "id": f"m-{seed}-{number:07}",
            "time": f"{time:%Y-%m-%dT%H:%M:%SZ}",
            "label": label,
            "text": " ".join(words),
        }


def messages_truth(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Give the likelier label of each message by the odds that made it (Bayes' rule), without Spark.

    No model can be right more often than this one, on the average; a model that has learned comes close.

    Returns:
        (id, label) for each message, in their order.

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
        (row["id"], "spam" if prior + sum(map(log_odds.__getitem__, row["text"].split())) > 0 else "ham")
        for row in rows
    ]


_START = datetime(2024, 5, 1, 12, tzinfo=UTC)
# Cased and caseless scripts, marks that are no letters, digits first, an underscore, a letter that grows.
_TAGS = (
    "Spark", "Café", "データ", "Мосты", "हिन्दी", "Straße", "2026goals", "live_coding", "Ελλάδα", "Música",
    "บันทึก", "Kafka", "서울", "ÅNGSTRÖM", "Tiếng_Việt", "لندن", "Rust", "Bücher", "open_data", "IoT",
)  # fmt: skip
# What looks like a tag and is none.
_NO_TAGS = (
    "issue #42", "mail me a#b", "C# and F#", "AT&#84;T", "press #️⃣ now", "see x.org/#top", "fish & chips",
)  # fmt: skip


@_seeded
def posts_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make posts of two networks.

    Each is a dict that `posts_line` writes in the shape of its network: id (text, unique in a seed),
    created_at (ISO 8601 in UTC, at most 4 seconds after the one before), network ("x" or "mastodon"), text,
    and tags: the hashtags in the text as they are counted, each once. In the text they stand in any case,
    some twice, some after the full-width #, beside what only looks like a tag. The most frequent tag is
    another one every ten minutes or so.

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> row = list(posts_rows(3, seed=2))[2]
        >>> row["text"], row["tags"]
        ('issue #42 #ÅNGSTRÖM', ['ångström'])
    """
    weights = zipf(len(_TAGS))
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    moment = _START
    for number in count_to(count):
        moment += timedelta(seconds=pick(range(5))[0])
        leading = number // 300
        ranks = pick(range(len(_TAGS)), cum_weights=weights, k=pick(range(4))[0])
        tags = [_TAGS[(rank + leading) % len(_TAGS)] for rank in ranks]
        written = [pick("##＃")[0] + pick((tag, tag.upper(), tag.lower()))[0] for tag in tags]  # noqa: RUF001
        yield {
            "id": f"{seed}{number + 1:09}",
            "created_at": f"{moment:%Y-%m-%dT%H:%M:%S.000Z}",
            "network": pick(("x", "mastodon"))[0],
            "text": " ".join([pick(_NO_TAGS)[0], *written]),
            "tags": sorted({tag.upper().lower() for tag in tags}),
        }


def posts_line(row: Mapping[str, Any] | str) -> str:
    """Write a post as its network's API gives it, as a line of JSON; a text, such as a bad row, stays.

    The fields are those of a post of the X API v2 with `created_at`, and of a Mastodon status.

    Examples:
        >>> row = {"id": "7", "created_at": "2024-05-01T12:00:00.000Z", "text": "hi", "network": "x"}
        >>> posts_line(row)
        '{"data": {"id": "7", "text": "hi", "created_at": "2024-05-01T12:00:00.000Z"}}'
    """
    if isinstance(row, str):
        return row
    post = {"id": row["id"], "text": row["text"], "created_at": row["created_at"]}
    if row["network"] == "x":
        return json.dumps({"data": post}, ensure_ascii=False)
    content = f"<p>{html.escape(post.pop('text'))}</p>"
    status = {**post, "content": content, "tags": [{"name": tag} for tag in row["tags"]]}
    return json.dumps(status, ensure_ascii=False)


def posts_truth(
    rows: Iterable[Mapping[str, Any]], *, n: int = 10, length: int = 600, slide: int = 60
) -> list[tuple[str, str, int]]:
    """Compute the true top tags of posts from `posts_rows` in windows that slide over them, without Spark.

    Args:
        rows: the posts.
        n: how many tags of a window to give.
        length: the windows' length in seconds.
        slide: seconds from one window's start to the next one's.

    Returns:
        (start of the window in ISO 8601, tag, posts with it), by start, the most frequent tag first and equal
        ones by their text.

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
        for tag, posts in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:n]
    ]


_PRODUCTS = (
    ("Build - Data Lake", "180"), ("Build - Web Shop", "149.5"), ("Workshop - Streaming", "210"),
    ("Advice - Cloud Cost", "195"), ("Build - Mobile App", "160"), ("Support - Night Desk", "87.25"),
    ("Workshop - Statistics", "125"), ("Advice - Security", "240"), ("Build - Search", "155"),
    ("Support - Upgrades", "95"), ("Workshop - Rust", "140"), ("Advice - Pricing", "170.75"),
    ("Build - Payments", "165"), ("Support - Backup", "72.5"), ("Workshop - Kotlin", "130"),
    ("Advice - Hiring", "110"), ("Support - Migration", "99.99"),
)  # fmt: skip
_STATES = (
    ("New York", "East"), ("Massachusetts", "East"), ("Pennsylvania", "East"), ("Maine", "East"),
    ("Oregon", "West"), ("Washington", "West"), ("Nevada", "West"), ("Utah", "West"),
    ("Illinois", "Central"), ("Iowa", "Central"), ("Kansas", "Central"), ("Wisconsin", "Central"),
    ("Georgia", "South"), ("Louisiana", "South"), ("North Carolina", "South"), ("Tennessee", "South"),
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

    OrderID, OrderDate (month/day/two-digit year, no leading zeros), Quantity, DiscountPct (0 to 0.1), Rate,
    SaleAmount (Quantity x Rate less the discount, rounded to the cent), CustomerName (some with commas or
    quotes), State (of the US), Region, ProductKey, RowCount (1), ProfitMargin. An order has one row or more;
    orders come by date, starting over after four years; the 17 products differ widely in their totals.

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

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
    number, days = 10_000, 0
    order: tuple[str, ...] = ()
    for _ in count_to(count):
        if not order or pick((True, False), cum_weights=(6, 10))[0]:
            number, days = number + pick(range(1, 40))[0], days + pick((0, 0, 0, 1))[0]
            day = date(2024, 1, 1) + timedelta(days % 1461)  # a two-digit year can tell a century only
            order = (str(number), f"{day.month}/{day.day}/{day:%y}", *pick(_CUSTOMERS), *pick(_STATES)[0])
        product, rate = pick(_PRODUCTS, cum_weights=weights)[0]
        quantity, discount = pick(range(1, 51))[0], Decimal(pick(range(11))[0]) / 100
        amount = (quantity * Decimal(rate) * (1 - discount)).quantize(Decimal("0.01"), ROUND_HALF_UP)
        sold = (str(quantity), _text(discount), rate, _text(amount))
        margin = _text(Decimal(pick(range(35, 81))[0]) / 100)
        yield (*order[:2], *sold, *order[2:], product, "1", margin)


def sales_totals(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `sales_rows`, exactly and without Spark.

    Returns:
        (ProductKey, Orders, TotalSales) for each product, the biggest TotalSales first and equal ones by key;
        Orders counts rows.

    Examples:
        >>> for product, orders, total in sales_totals(sales_rows(1000, seed=1))[:2]:
        ...     print(product, orders, total)
        Build - Data Lake 303 1322326.80
        Build - Web Shop 132 484016.88
    """
    amounts = defaultdict(list)
    for row in rows:
        amounts[row[9]].append(Decimal(row[5]))
    totals = [(product, len(each), sum(each, Decimal("0.00"))) for product, each in amounts.items()]
    return sorted(totals, key=lambda total: (-total[2], total[0]))


def sales_files(count: int | None, *, rows: int, seed: int) -> Iterable[tuple[str, str]]:
    """Make (name, text) pairs for `drip`: headerless CSV files that together hold `sales_rows(count * rows)`.

    So `sales_totals(sales_rows(count * rows, seed=seed))` is their truth. A quote in a name is doubled (RFC
    4180), which Spark reads with the option escape='"'.

    Args:
        count: how many files; None never ends.
        rows: how many rows are in each.
        seed: the same seed gives the same files; it is part of their names, so that two seeds share a folder.

    Raises:
        InvalidInputError: the count is below 0, or there is not a row in a file.

    Examples:
        >>> [(name, len(text.splitlines())) for name, text in sales_files(2, rows=50, seed=1)]
        [('sales-1-0001.csv', 50), ('sales-1-0002.csv', 50)]
    """
    check(sales_files, locals())
    count_to(count)  # refuses one below 0
    total = None if count is None else count * rows
    lines = Again(lambda: map(csv_line, sales_rows(total, seed=seed)))
    return line_files(lines, rows=rows, name=f"sales-{seed}-{{}}.csv")


def _text(number: Decimal) -> str:
    """Write a number without trailing zeros and without an exponent."""
    return f"{number.normalize():f}"


_FIRST = datetime(2024, 3, 1, tzinfo=UTC)
_DEVICES, _EVERY = 8, 31  # seconds from one reading of a device to the next
_QUIET = (900, 2400)  # seconds that a silence lasts
_WARMUP, _APART = 40, 25  # readings before the first spike of a device, and between two
_USUAL, _NOISE, _SPIKE = 18.0, 0.5, 15.0  # degrees: of the first device, at most, at least


@_seeded
def sensors_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make temperatures of eight devices.

    Each device is read about every 31 seconds. A reading is a dict of `device` ("d1" to "d8"), `time` (ISO
    8601, UTC) and `temperature` (degrees Celsius). A device has a usual temperature of its own, one degree
    from that of the next, which drifts by at most half a degree, with a noise of at most half a degree. One
    reading in 150 is a spike of 15 to 25 degrees; after one in 300 the device is silent for 15 to 40 minutes.
    Times increase.

    Args:
        count: how many readings; None never ends.
        seed: the same seed gives the same readings; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in sensors_rows(2, seed=1):
        ...     print(row)
        {'device': 'd1', 'time': '2024-03-01T00:00:01Z', 'temperature': 18.1}
        {'device': 'd2', 'time': '2024-03-01T00:00:05Z', 'temperature': 18.84}
    """
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    drift, since_spike, silent_until = ([0.0] * _DEVICES, [_APART - _WARMUP] * _DEVICES, [0] * _DEVICES)
    slot = 0
    for _ in count_to(count):
        while True:  # the next device that is not silent
            turn, device = divmod(slot, _DEVICES)
            slot += 1
            second = turn * _EVERY + device * _EVERY // _DEVICES + draw.randrange(1, 3)
            if second >= silent_until[device]:
                break
        drift[device] = min(0.5, max(-0.5, drift[device] + draw.choice((-0.01, 0, 0.01))))
        noise = sum(draw.uniform(-_NOISE, _NOISE) for _ in range(4)) / 4
        since_spike[device] += 1
        spike = since_spike[device] > _APART and draw.random() < 1 / 150
        if spike:
            since_spike[device] = 0
        elif draw.random() < 1 / 300:
            silent_until[device] = second + draw.randrange(*_QUIET)
        degrees = _usual(device) + drift[device] + noise + (draw.uniform(_SPIKE, 25) if spike else 0)
        yield {
            "device": f"d{device + 1}",
            "time": _zulu(_FIRST + timedelta(seconds=second)),
            "temperature": round(degrees, 2),
        }


def sensors_truth(
    rows: Iterable[dict[str, Any]],
    *,
    silent: timedelta = timedelta(minutes=10),
    delay: timedelta = timedelta(0),
) -> list[tuple[str, str, str]]:
    """Find the spikes and the silences that were put into readings, without Spark.

    Args:
        rows: of `sensors_rows`, in the order of their times.
        silent: how long a device says nothing before it counts as silent.
        delay: how far the watermark stays behind the newest reading: what comes after it is not found yet.

    Returns:
        (device, time, "spike" or "silence"), by time: of the reading, or `silent` after the last one.

    Examples:
        >>> found = sensors_truth(sensors_rows(2000, seed=1))
        >>> len(found), found[0]
        (9, ('d3', '2024-03-01T00:35:47Z', 'spike'))
    """
    check(sensors_truth, locals())
    found, last = list[tuple[datetime, str, str]](), dict[str, datetime]()
    now = _FIRST
    for row in rows:
        device, now = row["device"], datetime.fromisoformat(row["time"])
        if device in last and now - last[device] > silent:
            found.append((last[device] + silent, device, "silence"))
        if row["temperature"] > _usual(int(device[1:]) - 1) + _SPIKE / 2:
            found.append((now, device, "spike"))
        last[device] = now
    found += [(time + silent, device, "silence") for device, time in last.items()]
    due = [each for each in sorted(found) if each[0] <= now - delay]
    return [(device, _zulu(time), what) for time, device, what in due]


def _usual(device: int) -> float:
    return _USUAL + device
