"""One connection to a server of posts: what is asked, what the answer means, and the posts in it.

Two formats are read, and the answer's Content-Type says which:

- lines of JSON, as the X API v2 sends them: an object a line, and an empty line at least every 20 seconds to
  show that the connection lives ("Consuming streaming data", "Handling disconnections" in X's documentation);
- server-sent events, as Mastodon sends them: `event: update` and `data: {…}`, and lines that begin with a
  colon to show that the connection lives ("streaming API methods" in Mastodon's documentation; the format is
  "Server-sent events" in the HTML standard).

The waits are those of X's documentation ("Handling disconnections"): none after a connection that had been
up; 0.25, 0.5, … 16 seconds after one that failed; 5, 10, … 320 seconds after an error of the server; after
"too many requests" as long as the server's header says, or 1, 2, 4, … 15 minutes.
"""

from __future__ import annotations

import codecs
import email.utils
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from sparkstream_kit.errors import InvalidInputError, is_url, printable, shows_secret, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What a feeder does where nothing else is said.
TOKEN = "POSTS_TOKEN"  # noqa: S105 - the name of an environment variable
EVERY = 1.0  # seconds from one file to the next
STALL = 30.0  # seconds without anything: X and Mastodon send something every 20 and 15 seconds


_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Token:
    """A bearer token from the environment, which no message shows.

    Attributes:
        name: of the environment variable.
        value: the token; None where the variable is not set.
    """

    name: str
    value: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, name: str) -> Token:
        """Return the token that an environment variable holds."""
        return cls(name, os.environ.get(name, "").strip() or None)

    def hidden(self, text: str) -> str:
        """Return a text of the server's without the token, should it repeat it."""
        return without_secrets(text.replace(self.value, "***") if self.value else text)

    def headers(self) -> dict[str, str]:
        """Return the header of a request that gives the token."""
        if not self.value:
            return {}
        if not re.fullmatch(r"[!-~]+", self.value):
            raise InvalidInputError(
                f"the token in {self.name} has a space, a line end or a letter that no token has; set it anew"
            )
        return {"Authorization": f"Bearer {self.value}"}


def host_of(url: str) -> str | None:
    """Return the host of a URL; None for a URL that cannot be asked.

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


def check_url(url: str, token: Token) -> None:
    """Refuse a URL that cannot be asked, or that would show the token to others.

    Examples:
        >>> check_url("api.x.com/2/tweets/sample/stream", Token("POSTS_TOKEN"))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: api.x.com/2/tweets/sample/stream is no URL; did you mean ...
    """
    if shows_secret(url):
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


def may_follow(url: str, where: str) -> bool:
    """Say whether the token may go where a redirection leads: to the same host or one below it, encrypted.

    Examples:
        >>> may_follow("https://x.com/a", "https://streaming.x.com/b")
        True
        >>> [may_follow("https://x.com/a", where) for where in ("ftp://x.com/b", "http://x.com/b")]
        [False, False]
    """
    old, new = host_of(url), host_of(where)
    if new is None:
        return False
    schemes = urlsplit(url).scheme, urlsplit(where).scheme
    # Without encryption a token goes to this machine alone: see `check_url`.
    return (schemes[1] == "https" and (new == old or new.endswith(f".{old}"))) or (
        schemes == ("http", "http") and new == old
    )


def wait_after(error: Exception | None, failures: int) -> float:
    """Return how many seconds to wait before the next connection.

    Args:
        error: what ended the last one; None for a connection that ended without an error.
        failures: how many in a row have failed, or ended within 5 seconds.

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
    """Return of how many seconds without a connection a stream of X brings the posts; 0 for any other URL.

    Examples:
        >>> backfill_of("https://api.x.com/2/tweets/search/stream?backfill_minutes=5")
        300.0
    """
    query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    minutes = query.get("backfill_minutes", query.get("backfillminutes", ""))
    return 60.0 * int(minutes) if minutes.isdecimal() else 0.0


def timeline_of(url: str) -> str | None:
    """Return the timeline that has the posts of a stream of Mastodon's; None for any other URL.

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


LONGEST_ID = 1000  # characters of a post's id, and of an event's: servers have some twenty
_LONGEST = 16 * 1024**2  # bytes of a line, an event or a page of a timeline: a post has some kilobytes
_SHOWN = 200  # characters of a server's words
_PATIENCE = 2  # times the longest silence, for the head of an answer and for a page of a timeline
_REDIRECTS = 3
_TOO_MANY = (420, 429)
_MOST = 900.0  # seconds that a server may ask to wait: the window of X's limits is 15 minutes
_STREAMS = ("application/json", "application/jsonl", "application/x-ndjson", "application/stream+json",
            "application/x-json-stream", "text/plain", "")  # fmt: skip


@dataclass(frozen=True)
class Message:
    """A thing that a stream has sent.

    Attributes:
        kind: "post", "beat" (the connection lives), "other" (a message that is no post) or "unreadable".
        id: the post's.
        line: the post as it came, as one line of JSON.
        event: of a server-sent event, the id from which the server can go on.
        says: what a message of the server's says, such as why it will end the connection; or why a line is
            unreadable.
    """

    kind: str
    id: str = ""
    line: bytes = b""
    event: str | None = None
    says: str = ""


class TurnedAway(Exception):  # noqa: N818 - it says what has happened, as `QueryFailed` does
    """The server has answered with something other than a stream.

    Attributes:
        status: the HTTP status.
        line: what to tell the user.
        wait: seconds after which the server wants to be asked again; None if it does not say.
    """

    def __init__(self, status: int, line: str, wait: float | None) -> None:
        super().__init__(line)
        self.status = status
        self.line = line
        self.wait = wait

    @property
    def limited(self) -> bool:
        """Say whether the server has been asked too often."""
        return self.status in _TOO_MANY

    @property
    def passes(self) -> bool:
        """Say whether the same request may do better later."""
        return self.limited or self.status >= http.client.INTERNAL_SERVER_ERROR


class Stream:
    """An open connection to a stream of posts; `messages` gives what comes.

    Args:
        url: of the stream.
        token: for the server.
        stall: seconds without anything from the server, after which the connection counts as dead.
        event: the id of the last server-sent event, from which the server is to go on.

    Raises:
        TurnedAway: the server answers with something else.
        OSError, http.client.HTTPException: the server cannot be reached, or answers no HTTP.
    """

    def __init__(self, url: str, token: Token, *, stall: float, event: str | None = None) -> None:
        wanted = {"Accept": "text/event-stream, application/x-ndjson;q=0.9, application/json;q=0.8"}
        # "Last-Event-ID" in the HTML standard.
        again = {"Last-Event-ID": event} if event and _can_be_sent(event) else {}
        self._response, self._socket = _answer(url, token, wanted | again, stall)
        self._event = event
        kind = self._response.headers.get_content_type() if "content-type" in self._response.headers else ""
        self._events = kind == "text/event-stream"
        whole = self._response.length is not None  # a stream does not say how long it is
        if whole or not (self._events or kind in _STREAMS):
            self.close()
            page = "a page of HTML" if "html" in kind else "a whole document" if whole else kind[:_SHOWN]
            raise TurnedAway(200, f"{without_secrets(url)} is {page}, not a stream of posts", None)

    def close(self) -> None:
        """End the connection, also while another thread reads from it."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def messages(self) -> Iterator[Message]:
        """Yield what comes, until the connection ends. A half line or a half event at its end is left out.

        Raises:
            OSError, http.client.HTTPException: the connection was cut, or nothing came for too long.
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
        """Yield the data of each event that is a post; None for anything else."""
        name, data = b"", list[bytes]()
        for line in self._lines_of_events():
            field_name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if not line:
                # Mastodon also tells of edits and deletions, which are no new posts.
                if data and name in (b"", b"message", b"update"):
                    yield b" ".join(data)
                elif data:
                    yield None
                name, data = b"", []
            elif not field_name:
                yield None  # a comment
            elif field_name == b"event":
                name = value
            elif field_name == b"data":
                data.append(value)
                if sum(map(len, data)) > _LONGEST:
                    raise http.client.HTTPException(f"an event is longer than {_LONGEST:,} bytes")
            elif field_name == b"id" and (not value or _can_be_sent(value.decode("latin-1"))):
                self._event = value.decode("latin-1") or None

    def _lines_of_events(self) -> Iterator[bytes]:
        """Yield lines as the standard has them: a carriage return ends one, too; a mark may come first."""
        first = codecs.BOM_UTF8
        for line in self._lines():
            yield from line.removeprefix(first).split(b"\r")
            first = b""

    def _message(self, data: bytes | None) -> Message:
        if data is None:
            return Message("beat")
        try:
            # Not what `json` makes of bytes: it guesses UTF-16, too, which Spark does not read.
            text = data.decode().removeprefix("\ufeff")
            found = json.loads(text)
        except (ValueError, RecursionError) as err:
            kinds = {UnicodeDecodeError: "it is not UTF-8", RecursionError: "it is nested too deeply"}
            return Message("unreadable", says=kinds.get(type(err), "it is no JSON"))
        if not isinstance(found, dict):
            return Message("unreadable", says="it is no object of JSON")
        post = id_of(found)
        if len(post) > LONGEST_ID:
            return Message("unreadable", says=f"its id has {len(post):,} characters")
        if post:
            line = text.replace("\r", " ").replace("\n", " ")  # in JSON these are white space
            return Message("post", post, line.encode(), self._event)
        return Message("other", says=_says(found))


def _can_be_sent(event: str) -> bool:
    """Say whether a header can hold the id of an event: http.client refuses one with a line end."""
    return re.fullmatch(rf"[ -~\x80-\xff]{{1,{LONGEST_ID}}}", event) is not None


def id_of(post: Mapping[str, Any]) -> str:
    """Return the id of a post, its own (Mastodon) or that of its `data` (X); "" for anything else.

    Examples:
        >>> id_of({"data": {"id": "7"}}), id_of({"id": 8, "data": {"id": "7"}}), id_of({"errors": []})
        ('7', '8', '')
    """
    data = post.get("data")
    found = data.get("id") if post.get("id") is None and isinstance(data, dict) else post.get("id")
    if not isinstance(found, str | int) or isinstance(found, bool):
        return ""
    return str(found).encode(errors="backslashreplace").decode()  # JSON can hold halves of characters


def by_age(post: str) -> tuple[int, str]:
    """Return a key that sorts ids as the numbers that they are."""
    return len(post), post


def fetch(url: str, token: Token, *, timeout: float) -> Any:
    """Return the JSON at a URL, such as a page of a timeline.

    Raises:
        TurnedAway: the server answers with something else.
        OSError, http.client.HTTPException: the server cannot be reached.
    """
    response, connection = _answer(url, token, {"Accept": "application/json"}, timeout)
    try:
        with _as_http(), _within(_PATIENCE * timeout, connection):
            body = response.read(_LONGEST + 1)
    finally:
        connection.close()
    if len(body) > _LONGEST:
        raise TurnedAway(200, f"{url} is longer than {_LONGEST:,} bytes", None)
    if response.length:  # there would be more
        raise http.client.IncompleteRead(body)
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise TurnedAway(200, f"{url} is no JSON", None) from None


@contextmanager
def _as_http() -> Iterator[None]:
    """Take what http.client stumbles over for what it is: an answer that is no HTTP."""
    try:
        yield
    except (ValueError, ArithmeticError, MemoryError) as err:  # such as of a chunk of -5 bytes
        raise http.client.HTTPException(f"it sends no HTTP ({err})") from err


@contextmanager
def _within(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Cut a connection that takes longer, also one by which a byte comes now and then."""

    def cut() -> None:
        with suppress(OSError):  # it has ended already
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
    """Return the answer to a request and the connection that it comes by."""
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
            if where is None or not 300 <= response.status < 400:  # noqa: PLR2004 - a redirection
                raise _turned_away(response, url, token)
        finally:
            connection.close()
        # Mastodon sends from its own name to that of its streams, which may be streaming.NAME.
        asked = _followed(asked, where)
    raise TurnedAway(response.status, f"{url} only leads from one address to the next", None)


def _ask(
    url: str, headers: Mapping[str, str], timeout: float
) -> tuple[http.client.HTTPResponse, socket.socket]:
    parts = urlsplit(url)
    # Its default context verifies the certificate and the name in it.
    kind = http.client.HTTPSConnection if parts.scheme.lower() == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=timeout)
    connection.connect()
    opened: socket.socket = connection.sock  # the connection itself forgets it when the answer ends with it
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with _as_http(), _within(_PATIENCE * timeout, opened):
            connection.request("GET", target, headers={"User-Agent": "sparkstream-kit", **headers})
            return connection.getresponse(), opened
    except BaseException:
        opened.close()
        raise


def _followed(url: str, location: str) -> str:
    """Return where a redirection leads, if the token may go there."""
    try:
        where = urljoin(url, location)
    except ValueError:  # such as http://[x/
        where = location
    if not may_follow(url, where):
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
    status = response.status
    if status == http.client.UNAUTHORIZED and not token.value:
        line = f"{url} asks for a token ({said}); put it into the environment variable {token.name}"
    elif status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        refused = f"the token in {token.name}" if token.value else "a request without a token"
        line = f"{url} refuses {refused} ({said})"
    elif status == http.client.NOT_FOUND:
        line = f"there is nothing at {url} ({said}); correct the address"
    else:
        line = f"{url} answers {said}"
    return TurnedAway(status, line + (f": {token.hidden(detail)}" if detail else ""), _wait(response.headers))


def _says(body: Mapping[str, Any]) -> str:
    """Return what a message of the server's says, on one line: X has `detail`, Mastodon `error`."""
    errors = body.get("errors")
    for part in (body, *(errors if isinstance(errors, list) else [])):
        for name in ("detail", "message", "error_description", "error", "title"):
            if isinstance(part, dict) and isinstance(found := part.get(name), str) and found:
                return " ".join(without_secrets(found).split())[:_SHOWN]
    return ""


def _wait(headers: Mapping[str, str] | http.client.HTTPMessage) -> float | None:
    """Return after how many seconds the server wants to be asked again; None where it does not say.

    `retry-after` is seconds or a date (RFC 9110); the reset of a limit is seconds since 1970 at X
    ("Rate limits") and a time in ISO 8601 at Mastodon ("Rate limits").

    What is longer than the longest wait that is known has another unit, such as milliseconds.

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
    """Say in a few words why a connection failed or ended.

    Examples:
        >>> why(TimeoutError("timed out")), why(ConnectionRefusedError(111, "Connection refused"))
        ('nothing came any more', 'Connection refused')
    """
    if isinstance(err, TimeoutError):
        return "nothing came any more"
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {err.verify_message}"
    if isinstance(err, http.client.IncompleteRead):
        return "it was cut off"
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    # What is no HTTP is in the error as it came.
    return printable(str(err).strip())[:_SHOWN] or type(err).__name__
