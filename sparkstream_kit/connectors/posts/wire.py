"""One connection to a server of posts: the request, the meaning of the answer, and the posts in it.

`Stream` opens a connection and yields its messages, `fetch` reads a page of a timeline, and `TurnedAway` is
the error for any other answer. `check_url` and `_followed` keep the bearer token (`Token`) from other hosts.
The feeder in `source` decides when to connect again, with `wait_after`.

A stream has one of two formats, and the Content-Type of the answer tells which:

- lines of JSON, as the X API v2 sends them: one object per line, and an empty line at least every 20 seconds
  as a heartbeat ("Consuming streaming data", "Handling disconnections" in X's documentation);
- server-sent events, as Mastodon sends them: `event: update` and `data: {…}`, and lines that begin with a
  colon as a heartbeat ("streaming API methods" in Mastodon's documentation; the format is "Server-sent
  events" in the HTML standard, but a carriage return alone does not end a line).

The waits before the next connection are those of X's documentation ("Handling disconnections"): none after a
connection that had been up; 0.25, 0.5, … 16 seconds after one that failed; 5, 10, … 320 seconds after a
server error; after "too many requests" the time in the server's header, or 1, 2, 4, … 15 minutes without one.
"""

from __future__ import annotations

import codecs
import email.utils
import http.client
import json
import os
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from sparkstream_kit._files import is_url
from sparkstream_kit.errors import InvalidInputError, printable, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The defaults of a feeder.
TOKEN = "POSTS_TOKEN"  # noqa: S105 - the name of an environment variable
EVERY = 1.0  # seconds from one file to the next
STALL = 30.0  # seconds of silence: X sends a heartbeat every 20 seconds, Mastodon every 15


_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Token:
    """A bearer token from the environment, which no message and no `repr` shows.

    Attributes:
        name: the name of the environment variable.
        value: the token; None if the variable is not set or empty.
    """

    name: str
    value: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, name: str) -> Token:
        """Return the token that an environment variable holds."""
        return cls(name, os.environ.get(name, "").strip() or None)

    def hidden(self, text: str) -> str:
        """Remove the token and other secrets from a text of the server, which may repeat them."""
        return without_secrets(text.replace(self.value, "***") if self.value else text)

    def headers(self) -> dict[str, str]:
        """Return the request header with the token; no header without a token.

        Raises:
            InvalidInputError: the token has a character that no token can have.
        """
        if not self.value:
            return {}
        if not re.fullmatch(r"[!-~]+", self.value):
            raise InvalidInputError(
                f"the token in {self.name} has a space, a line end or a letter that no token has; set it anew"
            )
        return {"Authorization": f"Bearer {self.value}"}


def host_of(url: str) -> str | None:
    """Return the host of a URL; None if no request can be sent to the URL.

    Examples:
        >>> host_of("https://x.com/a"), host_of("http://127.0.0.1:abc/"), host_of("http://[x/")
        ('x.com', None, None)
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        str(host).encode("idna")
    except ValueError:
        return None
    return host if host and re.fullmatch(r"[!-~]+", url) else None


# Names of a key or signature in the query of a URL. `without_secrets` covers token=, password= and more.
_SECRET = re.compile(r"(?i)[?&;]([\w.-]*[._-])?(key|sig|signature|auth|authorization|credential)=")


def _shows_secret(url: str) -> bool:
    """Return whether a URL has user information, which is a key for many servers, or a key in its query.

    Examples:
        >>> _shows_secret("https://sk_live_abc@host/stream"), _shows_secret("https://host/stream?api_key=abc")
        (True, True)
        >>> _shows_secret("https://host/@user?tag=keys")
        False
    """
    named = re.match(r"([\w.+-]*:)?[/\\]*[^/\\?#]*@", url)  # also one that lacks its https://
    return named is not None or _SECRET.search(url) is not None or without_secrets(url) != url


def check_url(url: str, token: Token) -> None:
    """Refuse a URL that cannot be requested, or that would show the token to others.

    Raises:
        InvalidInputError: the URL has a secret in it, is no URL of a server, or would send the token
            unencrypted to another machine; or the token has a character that no token can have.

    Examples:
        >>> check_url("api.x.com/2/tweets/sample/stream", Token("POSTS_TOKEN"))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: api.x.com/2/tweets/sample/stream is no URL; did you mean ...
    """
    if _shows_secret(url):
        raise InvalidInputError(
            f"others can see a token in a URL; leave it out, and put it into the environment variable "
            f"{token.name}"
        )
    if not is_url(url):
        raise InvalidInputError(f"{url} is no URL; did you mean https://{url.partition('://')[2] or url}?")
    host = host_of(url)
    if host is None:
        raise InvalidInputError(
            f"{url!r} is no URL of a server, such as https://api.x.com/2/tweets/search/stream"
        )
    if token.headers() and urlsplit(url).scheme == "http" and host not in _HERE:
        raise InvalidInputError(f"{url} would show the token to everyone on the way; give https://")


def wait_after(error: Exception | None, failures: int) -> float:
    """Return the number of seconds to wait before the next connection.

    Args:
        error: the error that ended the last connection; None if it ended without an error.
        failures: the number of connections in a row that failed, or ended within 5 seconds.

    Examples:
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
    """Return the longest gap, in seconds, whose posts X sends again (`backfill_minutes`); 0 for other URLs.

    Examples:
        >>> backfill_of("https://api.x.com/2/tweets/search/stream?backfill_minutes=5")
        300.0
    """
    query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    minutes = query.get("backfill_minutes", query.get("backfillminutes", ""))
    return 60.0 * int(minutes) if minutes.isdecimal() else 0.0


def timeline_of(url: str) -> str | None:
    """Return the URL of the timeline with the posts of a Mastodon stream; None for any other URL.

    Examples:
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


LONGEST_ID = 1000  # the most characters of a post's or an event's id; real ids have about twenty
_LONGEST = 16 * 1024**2  # the most bytes of a line, an event or a page; a post has some kilobytes
_SHOWN = 200  # the most characters of a server's text in a message
_PATIENCE = 2  # the head of an answer, or a page of a timeline, may take this many times `stall`
_REDIRECTS = 3  # the most requests that follow each other's redirects
_TOO_MANY = (420, 429)  # HTTP status codes for "too many requests"
_MOST = 900.0  # the longest wait, in seconds, that a server may ask for: X's rate limits reset in 15 minutes


@dataclass(frozen=True)
class Message:
    """One message of a stream, or one post of a timeline.

    Attributes:
        kind: "post", "beat" (a heartbeat, or an event that is not a new post), "other" (a JSON object without
            an id, such as an error) or "unreadable".
        id: the id of a post; "" for other kinds.
        line: a post as the server sent it, as one line of JSON without a line end.
        event: the id of the last server-sent event, from which the server can resume; None without one.
        says: for "other", the error text of the server, such as why it will end the connection; for
            "unreadable", the reason.
    """

    kind: str
    id: str = ""
    line: bytes = b""
    event: str | None = None
    says: str = ""


class TurnedAway(Exception):  # noqa: N818 - named after the event, as `QueryFailed` is
    """The server has answered with something other than a stream or the requested JSON.

    Args:
        status: the HTTP status.
        line: the error, as a line for the user.
        wait: seconds until the server accepts the next request; None if it does not specify a time.

    Attributes:
        status: the HTTP status.
        line: the error, as a line for the user.
        wait: seconds until the server accepts the next request; None if it does not specify a time.
    """

    def __init__(self, status: int, line: str, wait: float | None) -> None:
        super().__init__(line)
        self.status = status
        self.line = line
        self.wait = wait

    @property
    def limited(self) -> bool:
        """Whether the server has received too many requests."""
        return self.status in _TOO_MANY

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.limited or self.status >= http.client.INTERNAL_SERVER_ERROR


class Stream:
    """An open connection to a stream of posts; `messages` yields the messages that arrive.

    Args:
        url: the URL of the stream.
        token: the token for the server.
        stall: after this many seconds of silence the connection counts as dead.
        event: the id of the last server-sent event received, so that the server can resume after it.

    Raises:
        TurnedAway: the server's answer is not a stream of posts.
        OSError, http.client.HTTPException: the server cannot be reached, or its answer is not HTTP.
    """

    def __init__(self, url: str, token: Token, *, stall: float, event: str | None = None) -> None:
        wanted = {"Accept": "text/event-stream, application/x-ndjson;q=0.9, application/json;q=0.8"}
        # The header "Last-Event-ID" is part of the HTML standard.
        again = {"Last-Event-ID": event} if event and _can_be_sent(event) else {}
        self._response, self._socket = _answer(url, token, wanted | again, stall)
        self._event = event
        kind = self._response.headers.get_content_type()
        self._events = kind == "text/event-stream"
        if self._response.length is not None or "html" in kind:  # a stream has no length
            self.close()
            line = f"{without_secrets(url)} is a document ({kind[:_SHOWN]}), not a stream of posts"
            raise TurnedAway(200, line, None)

    def close(self) -> None:
        """End the connection, even while another thread reads from it."""
        with suppress(OSError):  # the connection has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def messages(self) -> Iterator[Message]:
        """Yield the messages until the connection ends; an incomplete line or event at its end is dropped.

        Raises:
            OSError, http.client.HTTPException: the connection was cut, nothing arrived for `stall` seconds,
                or a line or an event is longer than 16 MiB.
        """
        lines = (line.strip() or None for line in self._lines())
        yield from map(self._message, self._from_events() if self._events else lines)

    def _lines(self) -> Iterator[bytes]:
        while (line := self._line()).endswith(b"\n"):
            yield line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) >= _LONGEST:
            raise http.client.HTTPException(f"a line is longer than {_LONGEST:,} bytes")

    def _line(self) -> bytes:
        with _as_http():
            return self._response.readline(_LONGEST)

    def _from_events(self) -> Iterator[bytes | None]:
        """Yield the data of each event that is a new post; None for other events and for heartbeats."""
        name, data = b"", list[bytes]()
        for line in self._lines():
            field_name, _, value = line.removeprefix(codecs.BOM_UTF8).partition(b":")
            value = value.removeprefix(b" ")
            if not line:
                # Mastodon also sends events for edits and deletions, which are not new posts.
                if data and name in (b"", b"message", b"update"):
                    yield b" ".join(data)
                elif data:
                    yield None
                name, data = b"", []
            elif not field_name:
                yield None  # a comment: the heartbeat
            elif field_name == b"event":
                name = value
            elif field_name == b"data":
                data.append(value)
                if sum(map(len, data)) > _LONGEST:
                    raise http.client.HTTPException(f"an event is longer than {_LONGEST:,} bytes")
            elif field_name == b"id" and (not value or _can_be_sent(value.decode("latin-1"))):
                self._event = value.decode("latin-1") or None

    def _message(self, data: bytes | None) -> Message:
        if data is None:
            return Message("beat")
        try:
            # Decode here, because `json.loads` of bytes would also accept UTF-16, which Spark does not read.
            text = data.decode().removeprefix("\ufeff")
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            return Message("unreadable", says="it is no object of JSON in UTF-8")
        post = id_of(found)
        if len(post) > LONGEST_ID:
            return Message("unreadable", says=f"its id has {len(post):,} characters")
        if post:
            line = text.replace("\r", " ").replace("\n", " ")  # in JSON these are white space
            return Message("post", post, line.encode(), self._event)
        return Message("other", says=_says(found))


def _can_be_sent(event: str) -> bool:
    """Whether a header can hold the id of an event: http.client refuses line ends, and this kit long ids."""
    return re.fullmatch(rf"[ -~\x80-\xff]{{1,{LONGEST_ID}}}", event) is not None


def id_of(post: Mapping[str, Any]) -> str:
    """Return the id of a post, at its top level (Mastodon) or in `data` (X); "" for a message without one.

    Examples:
        >>> id_of({"data": {"id": "7"}}), id_of({"id": 8, "data": {"id": "7"}}), id_of({"errors": []})
        ('7', '8', '')
    """
    data = post.get("data")
    found = data.get("id") if post.get("id") is None and isinstance(data, dict) else post.get("id")
    if not isinstance(found, str | int) or isinstance(found, bool):
        return ""
    return str(found).encode(errors="backslashreplace").decode()  # JSON can hold lone surrogates


def by_age(post: str) -> tuple[int, str]:
    """Return a sort key for ids: they are numbers without leading zeros, so the shorter one is the older."""
    return len(post), post


def fetch(url: str, token: Token, *, timeout: float) -> Any:
    """Request a URL and return the JSON in the answer, such as a page of a timeline.

    Args:
        url: the URL.
        token: the token for the server.
        timeout: the longest silence of the server, in seconds. The body may take twice as long in all.

    Raises:
        TurnedAway: the server refuses the request, or its answer is not JSON or is longer than 16 MiB.
        OSError, http.client.HTTPException: the server cannot be reached, or the answer is cut off.
    """
    response, connection = _answer(url, token, {"Accept": "application/json"}, timeout)
    try:
        with _as_http(), _within(_PATIENCE * timeout, connection):
            body = response.read(_LONGEST + 1)
    finally:
        connection.close()
    if len(body) > _LONGEST:
        raise TurnedAway(200, f"{url} is longer than {_LONGEST:,} bytes", None)
    if response.length:  # the server announced more bytes than it sent
        raise http.client.IncompleteRead(body)
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise TurnedAway(200, f"{url} is no JSON", None) from None


@contextmanager
def _as_http() -> Iterator[None]:
    """Turn the errors that http.client raises for an answer that is not HTTP into an `HTTPException`."""
    try:
        yield
    except (ValueError, ArithmeticError, MemoryError) as err:  # for example for a chunk of -5 bytes
        raise http.client.HTTPException(f"it sends no HTTP ({err})") from err


@contextmanager
def _within(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Cut a connection if the block takes longer than some seconds.

    The timeout of a socket is not enough: a server that sends single bytes now and then never exceeds it.
    """

    def cut() -> None:
        with suppress(OSError):  # the connection has ended already
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _answer(
    url: str, token: Token, headers: Mapping[str, str], timeout: float
) -> tuple[http.client.HTTPResponse, socket.socket]:
    """Send a request, follow its redirects, and return the answer and its connection.

    Raises:
        InvalidInputError: the token has a character that no token can have.
        TurnedAway: the server refuses the request, redirects too often or to a host that must not get the
            token, or sends a compressed answer.
        OSError, http.client.HTTPException: the server cannot be reached, or its answer is not HTTP.
    """
    asked = url
    for _ in range(_REDIRECTS):
        response, connection = _ask(asked, {**headers, **token.headers()}, timeout)
        if response.status == http.client.OK:
            packed = response.headers.get("Content-Encoding", "").strip().lower()
            if packed in ("", "identity"):
                return response, connection
            connection.close()
            line = f"{without_secrets(url)} comes compressed ({packed[:_SHOWN]}), which it was not asked for"
            raise TurnedAway(200, line, None)
        where = response.getheader("Location")
        try:
            if where is None or not 300 <= response.status < 400:  # noqa: PLR2004 - a redirect
                raise _turned_away(response, url, token)
        finally:
            connection.close()
        # Mastodon can redirect from its own host to that of its streams, such as streaming.NAME.
        asked = _followed(asked, where)
    raise TurnedAway(response.status, f"{url} only leads from one address to the next", None)


def _ask(
    url: str, headers: Mapping[str, str], timeout: float
) -> tuple[http.client.HTTPResponse, socket.socket]:
    parts = urlsplit(url)
    # The default context of HTTPSConnection verifies the certificate and the host name in it.
    kind = http.client.HTTPSConnection if parts.scheme.lower() == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=timeout)
    connection.connect()
    opened: socket.socket = connection.sock  # the connection forgets it when the answer closes it
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with _as_http(), _within(_PATIENCE * timeout, opened):
            connection.request("GET", target, headers={"User-Agent": "sparkstream-kit", **headers})
            return connection.getresponse(), opened
    except BaseException:
        opened.close()
        raise


def _followed(url: str, location: str) -> str:
    """Return the absolute URL of a redirect: the same host or a subdomain, encrypted.

    Without encryption the target must be the same host, and the first URL unencrypted, too.

    Raises:
        TurnedAway: the token must not be sent there.

    Examples:
        >>> _followed("https://x.com/a", "https://streaming.x.com/b")
        'https://streaming.x.com/b'
        >>> _followed("https://x.com/a", "http://x.com/b")
        Traceback (most recent call last):
        ...
        sparkstream_kit.connectors.posts.wire.TurnedAway: https://x.com/a leads to http://x.com/b; give ...
    """
    try:
        where = urljoin(url, location)
    except ValueError:  # such as http://[x/
        where = location
    old, new = host_of(url), host_of(where)
    scheme = urlsplit(where).scheme if new else ""
    encrypted = scheme == "https" and f".{new}".endswith(f".{old}")
    # `check_url` lets a token be sent without encryption to this machine only, so the same host is safe.
    if not encrypted and (urlsplit(url).scheme, scheme, new) != ("http", "http", old):
        shown = without_secrets(where.encode("ascii", "backslashreplace").decode())
        raise TurnedAway(301, f"{url} leads to {shown[:_SHOWN]}; give that, if you trust it", None)
    return where


def _turned_away(response: http.client.HTTPResponse, url: str, token: Token) -> TurnedAway:
    said = f"{response.status} {response.reason}".strip()[:_SHOWN]
    try:
        body = json.loads(response.read(4096))
        detail = _says(body) if isinstance(body, dict) else ""
    except (ValueError, RecursionError, OSError, http.client.HTTPException):
        detail = ""
    token_asked = response.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
    fix = f"; the kit takes the token from the environment variable {token.name}" if token_asked else ""
    line = f"{url} answers {said}{f': {token.hidden(detail)}' if detail else ''}{fix}"
    return TurnedAway(response.status, line, _wait(response.headers))


def _says(body: Mapping[str, Any]) -> str:
    """Return the error text in a server message as one line; X has it in `detail`, Mastodon in `error`.

    The text is empty if the message has none of the known fields.
    """
    errors = body.get("errors")
    for part in (body, *(errors if isinstance(errors, list) else [])):
        for name in ("detail", "message", "error_description", "error", "title"):
            if isinstance(part, dict) and isinstance(found := part.get(name), str) and found:
                return " ".join(without_secrets(found).split())[:_SHOWN]
    return ""


def _wait(headers: Mapping[str, str] | http.client.HTTPMessage) -> float | None:
    """Return the wait in seconds that the headers of an answer ask for; None if they ask for none.

    `retry-after` is in seconds or a date (RFC 9110). The reset time of a rate limit is in seconds since 1970
    at X ("Rate limits") and in ISO 8601 at Mastodon ("Rate limits").

    The wait is at most 15 minutes, the longest known one: a longer value has another unit, such as
    milliseconds.

    Examples:
        >>> _wait({"retry-after": "7"}), _wait({"x-rate-limit-reset": "0"}), _wait({})
        (7.0, 0.0, None)
        >>> _wait({"x-rate-limit-reset": "1700000000000"})
        900.0
    """
    for name in ("retry-after", "x-rate-limit-reset", "x-ratelimit-reset"):
        given, now = headers.get(name, ""), time.time()
        if re.fullmatch(r"\d+(\.\d+)?", given):
            seconds = float(given) if name == "retry-after" else float(given) - now
            return min(max(0.0, seconds), _MOST)
        for read in (email.utils.parsedate_to_datetime, datetime.fromisoformat):
            with suppress(ValueError, OverflowError, LookupError, TypeError):
                return min(max(0.0, read(given).timestamp() - now), _MOST)
    return None


def why(err: Exception) -> str:
    """Describe in a few words why a connection failed or ended.

    Examples:
        >>> why(TimeoutError("timed out")), why(ConnectionRefusedError(111, "Connection refused"))
        ('timed out', 'Connection refused')
    """
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    # An answer that is not HTTP is in the error as the server sent it, so make it printable.
    return printable(str(err).strip())[:_SHOWN] or type(err).__name__
