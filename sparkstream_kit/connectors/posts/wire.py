"""One connection to a server of posts: the request, the meaning of the answer, and the posts in it.

`Stream` opens a connection and yields its messages, `fetch` reads a page of a timeline,
and `TurnedAway` is the error for any other answer. `check_url` and `_Redirects` keep
the bearer token (`Token`) from other hosts. The feeder in `source` decides when to
connect again, with `wait_after`.

A stream has one of two formats, and the Content-Type of the answer tells which:

- lines of JSON, as the X API v2 sends them: one object per line, and an empty line at
  least every 20 seconds as a heartbeat ("Consuming streaming data", "Handling
  disconnections" in X's documentation);
- server-sent events, as Mastodon sends them: `event: update` and `data: {…}`, and lines
  that begin with a colon as a heartbeat ("streaming API methods" in Mastodon's
  documentation; the format is "Server-sent events" in the HTML standard, but a carriage
  return alone does not end a line).

The waits before the next connection are those of X's documentation ("Handling
disconnections"): none after a connection that had been up; 0.25, 0.5, … 16 seconds
after one that failed; 5, 10, … 320 seconds after a server error; after "too many
requests" the time in the server's header, or 1, 2, 4, … 15 minutes without one.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from sparkstream_kit._internal.file_system import is_url
from sparkstream_kit.errors import InvalidInputError, printable, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message as EmailMessage

# The defaults of a feeder.
TOKEN = "POSTS_TOKEN"  # noqa: S105 - the name of an environment variable
EVERY = 1.0  # seconds from one file to the next
# Seconds of silence: X sends a heartbeat every 20 seconds, Mastodon every 15
STALL = 30.0

# How a connection fails; http.client raises the last two for an answer that is not
# HTTP.
FAILED = (OSError, http.client.HTTPException, ValueError, OverflowError)

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
        """Remove the token from a text of the server, which may repeat it."""
        if not self.value:
            return text
        return text.replace(self.value, "***")

    def headers(self) -> dict[str, str]:
        """Return the request header with the token; no header without a token.

        Raises:
            InvalidInputError: the token has a character that no token can have.
        """
        if not self.value:
            return {}
        if not re.fullmatch(r"[!-~]+", self.value):
            raise InvalidInputError(
                f"the token in {self.name} has a space, a line end or a letter that no"
                " token has; set it anew"
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
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return None
    if not re.fullmatch(r"[!-~]+", url):
        return None
    return host or None


# Names of a key or signature in the query of a URL, as in ?api_key=abc&x-sig=def.
# `without_secrets` covers token=, password= and more.
_SECRET = re.compile(
    r"(?i)[?&;]([\w.-]*[._-])?(key|sig|signature|auth|authorization|credential)="
)


# User information before a host: https://USER@host, or without its https://
_USER = re.compile(r"([\w.+-]*:)?[/\\]*[^/\\?#]*@")


def _shows_secret(url: str) -> bool:
    """Return whether a URL has user information, or a key in its query.

    For many servers the user information is a key.

    Examples:
        >>> _shows_secret("https://sk_live_abc@host/stream"), _shows_secret("https://host/stream?api_key=abc")
        (True, True)
        >>> _shows_secret("https://host/@user?tag=keys")
        False
    """
    if _USER.match(url) or _SECRET.search(url):
        return True
    return without_secrets(url) != url


def check_url(url: str, token: Token) -> None:
    """Refuse a URL that cannot be requested, or that would show the token to others.

    Raises:
        InvalidInputError: the URL has a secret in it, is no URL of a server, or would
            send the token unencrypted to another machine; or the token has a character
            that no token can have.

    Examples:
        >>> check_url("api.x.com/2/tweets/sample/stream", Token("POSTS_TOKEN"))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: 'api.x.com/2/tweets/sample/stream' is no URL; ...
    """
    if _shows_secret(url):
        fix = f"leave it out, and put it into the environment variable {token.name}"
        raise InvalidInputError(f"others can see a token in a URL; {fix}")
    if not is_url(url):
        address = url.partition("://")[2] or url
        raise InvalidInputError(f"{url!r} is no URL; did you mean https://{address}?")
    host = host_of(url)
    if host is None:
        raise InvalidInputError(
            f"{url!r} is no URL; write it like https://api.x.com/2/tweets/sample/stream"
        )
    if token.headers() and urlsplit(url).scheme == "http" and host not in _HERE:
        raise InvalidInputError(
            f"{url} would show the token to everyone on the way; give https://"
        )


def wait_after(error: Exception | None, failures: int) -> float:
    """Return the number of seconds to wait before the next connection.

    Args:
        error: the error that ended the last connection; None if it ended without an
            error.
        failures: the number of connections in a row that failed, or ended within 5
            seconds.

    Examples:
        >>> [wait_after(OSError(), failures) for failures in (0, 1, 2, 100)]
        [0.0, 0.25, 0.5, 16.0]
        >>> [wait_after(TurnedAway(503, ""), failures) for failures in (1, 2, 9)]
        [5.0, 10.0, 320.0]
        >>> [wait_after(TurnedAway(429, "", wait), 1) for wait in (None, 7.0)]
        [60.0, 7.0]
    """
    if not failures:
        return 0.0
    if not isinstance(error, TurnedAway):
        return min(0.25 * failures, 16.0)
    if error.wait is not None:
        return max(error.wait, 1.0)
    doubled = 2.0 ** min(failures - 1, 10)
    if error.limited:
        return min(60.0 * doubled, 900.0)
    return min(5.0 * doubled, 320.0)


def backfill_of(url: str) -> float:
    """Return the longest gap in seconds that X fills (`backfill_minutes`); else 0.

    X then sends the posts of the gap again.

    Examples:
        >>> backfill_of("https://api.x.com/2/tweets/search/stream?backfill_minutes=5")
        300.0
    """
    query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    minutes = query.get("backfill_minutes", query.get("backfillminutes", ""))
    if not re.fullmatch("[0-9]{1,9}", minutes):
        return 0.0
    return 60.0 * int(minutes)


_STREAM = re.compile(
    r"(?P<api>.*/api/v1)/streaming/(?P<kind>public|hashtag)(/(?P<part>local|remote))?"
)


def timeline_of(url: str) -> str | None:
    """Return the URL of the timeline with the posts of a Mastodon stream; None for any other URL.

    Examples:
        >>> timeline_of("https://mastodon.example/api/v1/streaming/public/local")
        'https://mastodon.example/api/v1/timelines/public?local=true'
        >>> timeline_of("https://mastodon.example/api/v1/streaming/hashtag?tag=spark")
        'https://mastodon.example/api/v1/timelines/tag/spark'
    """
    parts = urlsplit(url)
    stream = _STREAM.fullmatch(parts.path)
    if stream is None:
        return None
    query = dict(parse_qsl(parts.query))
    name = "public"
    if stream["kind"] == "hashtag":
        if "tag" not in query:
            return None
        name = f"tag/{quote(query.pop('tag'), safe='')}"
    if stream["part"]:
        query[stream["part"]] = "true"
    path = f"{stream['api']}/timelines/{name}"
    return urlunsplit(parts._replace(path=path, query=urlencode(query)))


LONGEST_ID = 1000  # the most characters of a post's id; real ids have about twenty
# The most bytes of a line, an event or a page; a post has some kilobytes
_LONGEST = 16 * 1024**2
_SHOWN = 200  # the most characters of a server's text in a message
_TOO_MANY = (420, 429)  # HTTP status codes for "too many requests"
# The longest wait, in seconds, that a server may ask for: X's rate limits reset in 15
# minutes
_MOST = 900.0


@dataclass(frozen=True)
class Message:
    """One message of a stream, or one post of a timeline.

    Attributes:
        kind: "post", "beat" (a heartbeat, or an event that is not a new post) or
            "other" (anything else).
        id: the id of a post; "" for other kinds.
        line: a post as the server sent it, as one line of JSON without a line end.
        event: the id of the last server-sent event, from which the server can resume;
            None without one.
        says: for "other", what to tell the user about it: the error text of the server,
            or why the line cannot be read; "" if there is nothing to tell.
    """

    kind: str
    id: str = ""
    line: bytes = b""
    event: str | None = None
    says: str = ""


@dataclass(eq=False)
class TurnedAway(Exception):  # noqa: N818 - named after the event, as `QueryFailed` is
    """The server has answered with something other than a stream or the requested JSON.

    Attributes:
        status: the HTTP status.
        line: the error, as a line for the user.
        wait: seconds until the server accepts the next request; None if it does not
            specify a time.
    """

    status: int
    line: str
    wait: float | None = None

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
        event: the id of the last server-sent event received, so that the server can
            resume after it.

    Raises:
        TurnedAway: the server's answer is not a stream of posts. OSError,
        http.client.HTTPException: the server cannot be reached, or its answer is not
        HTTP.
    """

    def __init__(
        self, url: str, token: Token, *, stall: float, event: str | None = None
    ) -> None:
        wanted = {
            "Accept": (
                "text/event-stream, application/x-ndjson;q=0.9, application/json;q=0.8"
            )
        }
        if event:
            wanted["Last-Event-ID"] = event  # part of the HTML standard
        self._response = _answer(url, token, wanted, stall)
        self._socket = socket.socket(fileno=os.dup(self._response.fileno()))
        self._event = event
        kind = self._response.headers.get_content_type()
        self._events = kind == "text/event-stream"
        # A stream has no length
        if self._response.length is not None or "html" in kind:
            self.close()
            line = (
                f"{without_secrets(url)} is a document ({kind[:_SHOWN]}), not a stream"
                " of posts"
            )
            raise TurnedAway(200, line)

    def close(self) -> None:
        """End the connection, even while another thread reads from it."""
        with suppress(OSError):  # the connection has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def messages(self) -> Iterator[Message]:
        """Yield the messages until the connection ends; drop an incomplete last one.

        A message is a line or an event.

        Raises:
            OSError, http.client.HTTPException, ValueError, OverflowError: the
                connection was cut, nothing arrived for `stall` seconds, or a line is
                longer than 16 MiB.
        """
        data = self._from_events() if self._events else self._from_lines()
        for part in data:
            yield self._message(part)

    def _lines(self) -> Iterator[bytes]:
        while (line := self._response.readline(_LONGEST)).endswith(b"\n"):
            yield line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) >= _LONGEST:
            raise http.client.HTTPException(f"a line is longer than {_LONGEST:,} bytes")

    def _from_lines(self) -> Iterator[bytes | None]:
        """Yield each line; None for an empty one, which is a heartbeat."""
        for line in self._lines():
            yield line.strip() or None

    def _from_events(self) -> Iterator[bytes | None]:
        """Yield the data of each new post; None for other events and for heartbeats."""
        name = b""
        data = list[bytes]()
        size = 0
        for line in self._lines():
            field_name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if not line:
                # Mastodon also sends events for edits and deletions, which are not new
                # posts.
                if data and name in (b"", b"message", b"update"):
                    yield b" ".join(data)
                elif data:
                    yield None
                name = b""
                data = []
                size = 0
            elif not field_name:
                yield None  # a comment: the heartbeat
            elif field_name == b"event":
                name = value
            elif field_name == b"data":
                data.append(value)
                size += len(value) + 1
                if size > _LONGEST:
                    raise http.client.HTTPException(
                        f"an event is longer than {_LONGEST:,} bytes"
                    )
            elif field_name == b"id" and re.fullmatch(rb"[ -~]{0,1000}", value):
                # what a header can hold
                self._event = value.decode() or None

    def _message(self, data: bytes | None) -> Message:
        """Return the message of a line or an event; None is a heartbeat."""
        if data is None:
            return Message("beat")
        try:
            # Decode here, because `json.loads` of bytes would also accept UTF-16, which
            # Spark does not read.
            content = json.loads(data.decode())
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            return Message(
                "other", says="a line was left out: it is no object of JSON in UTF-8"
            )
        post = id_of(content)
        if len(post) > LONGEST_ID:
            return Message(
                "other",
                says=f"a line was left out: its id has {len(post):,} characters",
            )
        if post:
            return Message("post", post, data.replace(b"\r", b" "), self._event)
        text = _says(content)
        if text:
            text = f"the server says: {text}"
        return Message("other", says=text)


def id_of(post: Mapping[str, Any]) -> str:
    """Return a post's id, at its top level (Mastodon) or in `data` (X); "" without one.

    Examples:
        >>> of_x = {"data": {"id": "7"}}
        >>> id_of(of_x), id_of({"id": 8, **of_x}), id_of({"errors": []})
        ('7', '8', '')
    """
    post_id = post.get("id")
    data = post.get("data")
    if post_id is None and isinstance(data, dict):
        post_id = data.get("id")
    if not isinstance(post_id, str | int):
        return ""
    # JSON can hold lone surrogates
    return str(post_id).encode(errors="backslashreplace").decode()


def by_age(post: str) -> tuple[int, str]:
    """Return a sort key for ids, by which a shorter one is older.

    The ids are numbers without leading zeros.
    """
    return len(post), post


def fetch(url: str, token: Token, *, timeout: float) -> Any:
    """Request a URL and return the JSON in the answer, such as a page of a timeline.

    Args:
        url: the URL.
        token: the token for the server.
        timeout: the longest silence of the server, in seconds; the whole answer may
            take twice as long.

    Raises:
        TurnedAway: the server refuses the request, or its answer is not JSON or longer
            than 16 MiB.
        OSError, http.client.HTTPException: the server cannot be reached, or the answer
            is cut off.
    """
    with _answer(url, token, {"Accept": "application/json"}, timeout) as response:
        body = _whole(response, url, time.monotonic() + 2 * timeout)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise TurnedAway(200, f"{url} is no JSON") from None


def _whole(answer: http.client.HTTPResponse, url: str, end: float) -> bytes:
    """Read an answer to its end, up to `_LONGEST` bytes and until the time `end`."""
    body = bytearray()
    while part := answer.read1(2**16):
        body += part
        if len(body) > _LONGEST:
            raise TurnedAway(
                200, f"{without_secrets(url)} is longer than {_LONGEST:,} bytes"
            )
        if time.monotonic() > end:
            raise TimeoutError("timed out")
    return bytes(body)


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only to a host that may have the token.

    This is the same host, or an encrypted subdomain of it.

    Mastodon can redirect from its own host to that of its streams, such as
    streaming.NAME.
    """

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        old = urlsplit(req.full_url)
        new = urlsplit(newurl)
        # `check_url` lets a token be sent without encryption to this machine only, so
        # the same host is safe.
        is_same = (old.scheme, old.hostname) == (new.scheme, new.hostname)
        is_within = f".{new.hostname}".endswith(f".{old.hostname}")
        is_encrypted = new.scheme == "https"
        if not is_same and not (is_within and is_encrypted):
            shown = without_secrets(newurl)[:_SHOWN]
            raise TurnedAway(
                code, f"{req.full_url} leads to {shown}; give that, if you trust it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = build_opener(_Redirects, ProxyHandler({}))


def _answer(
    url: str, token: Token, headers: Mapping[str, str], timeout: float
) -> http.client.HTTPResponse:
    """Send a request, follow its redirects, and return the answer.

    Raises:
        TurnedAway: the server refuses the request, or redirects too often or to a host
            that must not get the token; or the answer is compressed.
        OSError, http.client.HTTPException: the server cannot be reached, or its answer
            is not HTTP.
    """
    sent = {"User-Agent": "sparkstream-kit", **headers, **token.headers()}
    try:
        answer: http.client.HTTPResponse = _opener.open(
            Request(url, headers=sent),  # noqa: S310 - see `check_url`
            timeout=timeout,
        )
    except HTTPError as err:
        with err:
            raise _turned_away(err, url, token) from None
    except URLError as err:
        if isinstance(err.reason, OSError):  # the error of the connection
            raise err.reason from None
        raise err from None
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        answer.close()
        raise TurnedAway(
            200,
            f"{without_secrets(url)} comes compressed ({encoding[:_SHOWN]}), which it"
            " was not asked for",
        )
    return answer


def _turned_away(answer: HTTPError, url: str, token: Token) -> TurnedAway:
    """Return the error for an answer with an HTTP status of 400 or more."""
    status = " ".join(f"{answer.code} {answer.reason}".split())[:_SHOWN]
    line = f"{url} answers {status}"
    try:
        detail = token.hidden(_says(json.loads(answer.read(4096))))
    except (*FAILED, AttributeError, RecursionError):  # such as a page of HTML
        detail = ""
    if detail:
        line += f": {detail}"
    if answer.code in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        line += f"; the kit takes the token from the environment variable {token.name}"
    return TurnedAway(answer.code, line, _wait(answer.headers))


def _says(body: Mapping[str, Any]) -> str:
    """Return the error text in a server message as one line.

    X has it in `detail`, Mastodon in `error`.

    The text is empty if the message has none of the known fields.
    """
    parts = [body]
    errors = body.get("errors")
    if isinstance(errors, list):
        parts += [error for error in errors if isinstance(error, dict)]
    for part in parts:
        for name in ("detail", "message", "error_description", "error", "title"):
            text = part.get(name)
            if isinstance(text, str) and text:
                return " ".join(without_secrets(text).split())[:_SHOWN]
    return ""


def _wait(headers: Mapping[str, str] | EmailMessage) -> float | None:
    """Return the wait in seconds that the headers of an answer ask for; None if they ask for none.

    `retry-after` is in seconds (RFC 9110; a date counts as none), and the reset time of
    X's rate limits in seconds since 1970 ("Rate limits"). The wait is at most 15
    minutes, the longest known one: a longer value has another unit, such as
    milliseconds.

    Examples:
        >>> _wait({"retry-after": "7"}), _wait({"x-rate-limit-reset": "0"}), _wait({})
        (7.0, 0.0, None)
        >>> _wait({"x-rate-limit-reset": "1700000000000"})
        900.0
    """
    for name, since in (("retry-after", 0.0), ("x-rate-limit-reset", time.time())):
        seconds = headers.get(name, "")
        if re.fullmatch(r"[0-9]{1,20}", seconds):
            return min(max(0.0, int(seconds) - since), _MOST)
    return None


def why(err: Exception) -> str:
    """Describe in a few words why a connection failed or ended.

    Examples:
        >>> why(TimeoutError("timed out")), why(ConnectionRefusedError(111, "Connection refused"))
        ('timed out', 'Connection refused')
    """
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    # An answer that is not HTTP is in the error as the server sent it, so make it
    # printable.
    return printable(str(err).strip())[:_SHOWN] or type(err).__name__
