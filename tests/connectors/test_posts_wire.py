"""One connection to a server of posts, step by step: what is asked, and what an answer means.

What a feeder makes of whole streams is in test_posts.py.
"""

# ruff: noqa: SLF001 - the steps are the module's own
import gzip
import http.client
import http.server
import io
import json
import threading
from email.message import Message as Headers
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import pytest
from conftest import refusal

from sparkstream_kit.connectors.posts import wire
from sparkstream_kit.connectors.posts.wire import Message, Stream, Token, TurnedAway

HUSH = Token("POSTS_TOKEN", "hush")
NONE = Token("POSTS_TOKEN")
LONGEST = 16 * 1024**2
BEAT = Message("beat")


# --- the token


@pytest.mark.parametrize(
    ("given", "value"),
    [(None, None), ("", None), (" \n", None), (" hush\n", "hush")],
    ids=["not set", "empty", "blank", "with blanks"],
)
def test_a_token_comes_from_the_environment(monkeypatch, given, value):
    monkeypatch.delenv("MINE", raising=False)
    if given is not None:
        monkeypatch.setenv("MINE", given)
    token = Token.from_environment("MINE")
    assert (token.name, token.value) == ("MINE", value)
    assert "hush" not in repr(token)


@pytest.mark.parametrize(
    ("token", "shown"), [(HUSH, "a *** b ***"), (NONE, "a hush b hush")]
)
def test_a_token_is_hidden_in_a_text(token, shown):
    assert token.hidden("a hush b hush") == shown


def test_a_token_is_sent_as_a_bearer():
    assert HUSH.headers() == {"Authorization": "Bearer hush"}
    assert NONE.headers() == {}
    assert Token("T", "!~").headers() == {"Authorization": "Bearer !~"}


@pytest.mark.parametrize("value", ["a b", "a\nb", "ä", "a\x7f"])
def test_a_token_that_no_header_holds_is_refused(value):
    assert refusal(Token("MINE", value).headers) == (
        "the token in MINE has a space, a line end or a letter that no token has; set"
        " it anew"
    )


# --- addresses


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://x.com/a", "x.com"),
        ("http://[::1]:80/", "::1"),
        ("http://h:abc/", None),
        ("http://[x/", None),
        ("http:///path", None),
        ("http://h/a b", None),
        ("http://h/ä", None),
    ],
)
def test_a_url_has_a_host_if_it_can_be_requested(url, host):
    assert wire.host_of(url) == host


@pytest.mark.parametrize(
    ("url", "shows"),
    [
        ("https://me@h/", True),
        ("me@h/", True),
        ("https://h/s?api_key=a", True),
        ("https://h/s?a=1&X-Sig=a", True),
        ("https://h/s?password=a", True),
        ("https://h/@me?tag=keys", False),
        ("https://h/s?monkey=a", False),
    ],
    ids=["user", "without a scheme", "key", "signature", "password", "path", "monkey"],
)
def test_a_url_with_a_secret_is_known(url, shows):
    assert wire._shows_secret(url) is shows


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "https://me@h/",
            (
                "others can see a token in a URL; leave it out, and put it into the"
                " environment variable POSTS_TOKEN"
            ),
        ),
        ("h/stream", "'h/stream' is no URL; did you mean https://h/stream?"),
        ("gopher://h/s", "'gopher://h/s' is no URL; did you mean https://h/s?"),
        (
            "https:///s",
            (
                "'https:///s' is no URL; write it like"
                " https://api.x.com/2/tweets/sample/stream"
            ),
        ),
        (
            "http://h/s",
            "http://h/s would show the token to everyone on the way; give https://",
        ),
    ],
    ids=["a user", "no scheme", "another scheme", "no host", "not encrypted"],
)
def test_an_address_that_cannot_be_used_is_refused(url, said):
    assert refusal(wire.check_url, url, HUSH) == said


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("https://h/s", HUSH),
        ("http://h/s", NONE),
        ("http://localhost:1/s", HUSH),
        ("http://127.0.0.1/s", HUSH),
        ("http://[::1]/s", HUSH),
    ],
)
def test_an_address_that_shows_the_token_to_nobody_is_taken(url, token):
    wire.check_url(url, token)


def test_a_token_that_cannot_be_sent_is_refused_with_the_address():
    said = refusal(wire.check_url, "https://h/s", Token("MINE", "a b"))
    assert said.startswith("the token in MINE has a space")


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", 0),
        ("?backfill_minutes=5", 300),
        ("?BackfillMinutes=2", 120),
        ("?backfill_minutes=0", 0),
        ("?backfill_minutes=-1", 0),
        ("?backfill_minutes=1.5", 0),
        ("?backfill_minutes=1234567890", 0),
        ("?backfill_minutes=1&backfillminutes=2", 60),
    ],
)
def test_a_url_says_which_gap_x_fills(query, seconds):
    assert (
        wire.backfill_of(f"https://api.x.com/2/tweets/search/stream{query}") == seconds
    )


M = "https://m.example"


@pytest.mark.parametrize(
    ("path", "timeline"),
    [
        ("/api/v1/streaming/public", "/api/v1/timelines/public"),
        ("/api/v1/streaming/public/local", "/api/v1/timelines/public?local=true"),
        (
            "/in/api/v1/streaming/public/remote?only_media=true",
            "/in/api/v1/timelines/public?only_media=true&remote=true",
        ),
        ("/api/v1/streaming/hashtag?tag=a%2Fb", "/api/v1/timelines/tag/a%2Fb"),
        (
            "/api/v1/streaming/hashtag/local?tag=a&x=1",
            "/api/v1/timelines/tag/a?x=1&local=true",
        ),
        ("/api/v1/streaming/hashtag", None),
        ("/api/v1/streaming/user", None),
        ("/api/v1/streaming/public/other", None),
    ],
)
def test_a_stream_of_mastodon_has_a_timeline(path, timeline):
    assert wire.timeline_of(f"{M}{path}") == (timeline and f"{M}{timeline}")


# --- waits


def refused(status, wait=None):
    return TurnedAway(status, "line", wait)


@pytest.mark.parametrize(
    ("error", "failures", "wait"),
    [
        (None, 0, 0),
        (refused(503), 0, 0),
        (None, 1, 0.25),
        (OSError(), 3, 0.75),
        (OSError(), 64, 16),
        (OSError(), 65, 16),
        (refused(503), 1, 5),
        (refused(503), 2, 10),
        (refused(503), 7, 320),
        (refused(503), 8, 320),
        (refused(503), 5000, 320),
        (refused(429), 1, 60),
        (refused(429), 4, 480),
        (refused(420), 5, 900),
        (refused(429, 7.0), 3, 7),
        (refused(503, 0.0), 3, 1),
        (refused(503, 1.5), 3, 1.5),
    ],
)
def test_the_wait_grows_with_failures_and_is_the_servers_if_it_says_one(
    error, failures, wait
):
    assert wire.wait_after(error, failures) == wait


@pytest.mark.parametrize(
    ("status", "limited", "passes"),
    [
        (420, True, True),
        (429, True, True),
        (500, False, True),
        (503, False, True),
        (499, False, False),
        (200, False, False),
    ],
)
def test_an_answer_passes_if_it_is_the_servers_fault_or_a_limit(
    status, limited, passes
):
    error = refused(status)
    assert (error.limited, error.passes) == (limited, passes)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "900"}, 900),
        ({"retry-after": "901"}, 900),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"x-rate-limit-reset": "1030"}, 30),
        ({"x-rate-limit-reset": "999"}, 0),
        ({"retry-after": "x", "x-rate-limit-reset": "1030"}, 30),
        ({"retry-after": "2", "x-rate-limit-reset": "1030"}, 2),
        ({"x-rate-limit-reset": "1" * 21}, None),
    ],
)
def test_a_server_says_how_long_to_wait(monkeypatch, headers, wait):
    monkeypatch.setattr(wire, "time", SimpleNamespace(time=lambda: 1000.0))
    assert wire._wait(headers) == wait


# --- a server's words


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, ""),
        ({"detail": "a", "title": "b"}, "a"),
        ({"title": "b"}, "b"),
        ({"error": "Not\n  found"}, "Not found"),
        ({"error": "", "title": "b"}, "b"),
        ({"error": 5, "title": "b"}, "b"),
        ({"errors": [5, {"message": "c"}]}, "c"),
        ({"title": "b", "errors": [{"message": "c"}]}, "b"),
        ({"errors": {"message": "c"}}, ""),
        ({"error": "password=hush"}, "password=***"),
        ({"error": "x" * 201}, "x" * 200),
    ],
    ids=[
        "nothing",
        "the first field",
        "the last field",
        "lines",
        "an empty text",
        "a number",
        "in a list",
        "before a list",
        "no list",
        "a secret",
        "a long text",
    ],
)
def test_a_servers_text_is_found_in_its_message(body, said):
    assert wire._says(body) == said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "timed out"),
        (OSError(), "OSError"),
        (http.client.BadStatusLine("\x1b[2J"), "\\u001b[2J"),
        (ValueError(" "), "ValueError"),
        (ValueError("x" * 201), "x" * 200),
    ],
    ids=["of the system", "a text", "none", "not printable", "blank", "long"],
)
def test_why_a_connection_failed_is_a_few_words(error, words):
    assert wire.why(error) == words


@pytest.mark.parametrize(
    ("post", "post_id"),
    [
        ({"id": "7"}, "7"),
        ({"id": 8, "data": {"id": "7"}}, "8"),
        ({"data": {"id": "7"}}, "7"),
        ({"data": [1]}, ""),
        ({"data": {}}, ""),
        ({"id": 1.5}, ""),
        ({"id": None, "data": {"id": 9}}, "9"),
        ({"id": "\ud83d"}, "\\ud83d"),
        ({}, ""),
    ],
)
def test_a_post_has_its_id_at_the_top_or_in_its_data(post, post_id):
    assert wire.id_of(post) == post_id


def test_ids_are_ordered_by_length_and_then_by_text():
    assert sorted(["10", "9", "11", ""], key=wire.by_age) == ["", "9", "10", "11"]
    assert wire.by_age("10") == (2, "10")


# --- messages


def stream_of(data, *, events=False, event=None):
    """Return a stream whose connection has sent this data."""
    stream = object.__new__(Stream)  # without a connection
    stream._response = io.BytesIO(data)  # type: ignore[assignment]
    stream._events, stream._event = events, event
    return stream


def test_each_line_is_a_message_and_an_empty_one_a_heartbeat():
    stream = stream_of(b'\r\n{"id": 1}\r\n  \n {"id": 2} \n{"id": 3}')
    assert list(stream.messages()) == [
        BEAT,
        Message("post", "1", b'{"id": 1}'),
        BEAT,
        Message("post", "2", b'{"id": 2}'),
    ]


def test_lines_end_with_a_line_feed_and_a_last_one_that_is_cut_is_dropped():
    assert list(stream_of(b"a\r\nb\n\rc\nrest")._lines()) == [b"a", b"b", b"\rc"]
    assert list(stream_of(b"")._lines()) == []


@pytest.mark.parametrize(("length", "fails"), [(0, True), (-1, False)])
def test_a_line_has_16_mebibytes_at_most(monkeypatch, length, fails):
    monkeypatch.setattr(wire, "_LONGEST", 10)
    stream = stream_of(b"x" * (10 + length))
    if not fails:
        assert list(stream._lines()) == []
        return
    with pytest.raises(http.client.HTTPException) as err:
        list(stream._lines())
    assert str(err.value) == "a line is longer than 10 bytes"


def test_each_new_post_is_an_event_and_other_events_are_heartbeats():
    stream = stream_of(
        b":)\n"
        b'event: update\ndata: {"id": 1}\n\n'
        b'data:{"id": 2}\n\n'
        b'event: message\ndata: {"id":\ndata: 3}\n\n'
        b"event: delete\ndata: 4\n\n"
        b"event: update\n\n"
        b"\n"
        b"retry: 5\n"
        b'data: {"id": 6}\n',
        events=True,
    )
    assert list(stream._from_events()) == [
        None,
        b'{"id": 1}',
        b'{"id": 2}',
        b'{"id": 3}',
        None,
    ]


def test_an_event_begins_without_what_the_one_before_had():
    stream = stream_of(b"event: delete\ndata: 1\n\ndata: 2\n\n", events=True)
    assert list(stream._from_events()) == [None, b"2"]


@pytest.mark.parametrize(
    ("lines", "event"),
    [
        (b"id: 7\n", "7"),
        (b"id:7\n", "7"),
        (b"id:\n", None),
        (b"id: \xff\n", "before"),
        (b"id: " + b"x" * 1000 + b"\n", "x" * 1000),
        (b"id: " + b"x" * 1001 + b"\n", "before"),
        (b"idx: 7\n", "before"),
    ],
    ids=["an id", "without a blank", "empty", "no text", "long", "too long", "another"],
)
def test_the_last_event_has_an_id(lines, event):
    stream = stream_of(lines, events=True, event="before")
    assert list(stream._from_events()) == []
    assert stream._event == event


@pytest.mark.parametrize(
    ("lines", "fails"),
    [
        (b"data: 123456789\n", False),
        (b"data: 1234567890\n", True),
        (b"data: 1234\ndata: 1234\n", False),
        (b"data: 1234\ndata: 12345\n", True),
        (b"data: 12345678\n\ndata: 12345678\n", False),
    ],
    ids=["ten", "eleven", "two lines", "two long lines", "two events"],
)
def test_an_event_has_16_mebibytes_at_most(monkeypatch, lines, fails):
    stream = stream_of(lines, events=True)
    monkeypatch.setattr(Stream, "_lines", lambda self: iter(lines.split(b"\n")[:-1]))
    monkeypatch.setattr(wire, "_LONGEST", 10)
    if not fails:
        list(stream._from_events())
        return
    with pytest.raises(http.client.HTTPException) as err:
        list(stream._from_events())
    assert str(err.value) == "an event is longer than 10 bytes"


def test_the_format_is_that_of_the_answer():
    data = b'data: {"id": 1}\n\n'
    post = Message("post", "1", b'{"id": 1}', "e")
    assert list(stream_of(data, events=True, event="e").messages()) == [post]
    [wrong, beat] = stream_of(data).messages()
    assert (wrong.kind, beat) == ("other", BEAT)


UNREADABLE = "a line was left out: it is no object of JSON in UTF-8"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, BEAT),
        (b"no json", Message("other", says=UNREADABLE)),
        (b"[1]", Message("other", says=UNREADABLE)),
        (b'{"id": "\xff"}', Message("other", says=UNREADABLE)),
        ('{"id": 1}'.encode("utf-16"), Message("other", says=UNREADABLE)),
        (b"[" * 100_000, Message("other", says=UNREADABLE)),
        (b"{}", Message("other")),
        (b'{"error": "no"}', Message("other", says="the server says: no")),
        (b'{"id":\r1}', Message("post", "1", b'{"id": 1}', "e")),
        (
            b'{"id": "%s"}' % (b"x" * 1000),
            Message("post", "x" * 1000, b'{"id": "%s"}' % (b"x" * 1000), "e"),
        ),
        (
            b'{"id": "%s"}' % (b"x" * 1001),
            Message("other", says="a line was left out: its id has 1,001 characters"),
        ),
    ],
    ids=[
        "a heartbeat",
        "no JSON",
        "a list",
        "no UTF-8",
        "UTF-16",
        "too deep",
        "nothing",
        "words",
        "a post",
        "a long id",
        "an id too long",
    ],
)
def test_a_line_is_a_post_a_heartbeat_or_words(data, message):
    assert stream_of(b"", event="e")._message(data) == message


# --- answers


def refusal_with(body, code=400, reason="Bad Request", **headers):
    """Return an answer of a server that refuses a request."""
    given = Headers()
    for name, value in headers.items():
        given[name.replace("_", "-")] = value
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HTTPError("https://h/s", code, reason, given, io.BytesIO(text))


@pytest.mark.parametrize(
    ("answer", "status", "line", "wait"),
    [
        (
            refusal_with({"detail": "no hush here"}),
            400,
            "https://h/s answers 400 Bad Request: no *** here",
            None,
        ),
        (refusal_with(b"<html>"), 400, "https://h/s answers 400 Bad Request", None),
        (refusal_with([1]), 400, "https://h/s answers 400 Bad Request", None),
        (refusal_with({}, 503, "", retry_after="7"), 503, "https://h/s answers 503", 7),
        (
            refusal_with({}, 401, "No\n entry"),
            401,
            (
                "https://h/s answers 401 No entry; the kit takes the token from the"
                " environment variable POSTS_TOKEN"
            ),
            None,
        ),
        (
            refusal_with({"error": "no"}, 403, "Forbidden"),
            403,
            (
                "https://h/s answers 403 Forbidden: no; the kit takes the token from the"
                " environment variable POSTS_TOKEN"
            ),
            None,
        ),
        (
            refusal_with({}, 404, "x" * 300),
            404,
            f"https://h/s answers 404 {'x' * 196}",
            None,
        ),
        (
            refusal_with(b'{"error": "%s"}' % (b"x" * 5000)),
            400,
            "https://h/s answers 400 Bad Request",
            None,
        ),
    ],
    ids=["words", "a page", "a list", "no words", "401", "403", "a long one", "cut"],
)
def test_a_refusal_is_one_line_with_the_servers_words(answer, status, line, wait):
    told = wire._turned_away(answer, "https://h/s", HUSH)
    assert (told.status, told.line, told.wait) == (status, line, wait)


def parts_of(*parts):
    """Return an answer that comes in parts."""
    left = [*parts, b""]

    def read1(most):
        assert most == 65536
        return left.pop(0)

    return SimpleNamespace(read1=read1)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(wire, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_an_answer_is_read_to_its_end(clock, monkeypatch):
    monkeypatch.setattr(wire, "_LONGEST", 4)
    assert wire._whole(parts_of(b"ab", b"cd"), "u", 1000.0) == b"abcd"
    assert wire._whole(parts_of(), "u", 0) == b""


def test_an_answer_that_is_too_long_is_cut(clock, monkeypatch):
    monkeypatch.setattr(wire, "_LONGEST", 4)
    with pytest.raises(TurnedAway) as err:
        wire._whole(parts_of(b"abcde"), "https://h/s?password=hush", 1000.0)
    assert (err.value.status, err.value.line) == (
        200,
        "https://h/s?password=*** is longer than 4 bytes",
    )


def test_an_answer_that_takes_too_long_is_cut(clock):
    with pytest.raises(TimeoutError, match="timed out"):
        wire._whole(parts_of(b"a"), "u", 999.9)


@pytest.mark.parametrize(
    ("old", "new", "follows"),
    [
        ("https://h/a", "https://h/b", True),
        ("http://h/a", "http://h/b", True),
        ("https://h/a", "https://s.h/b", True),
        ("https://h/a", "http://s.h/b", False),
        ("https://h/a", "http://h/b", False),
        ("http://h/a", "https://h/b", True),
        ("https://h/a", "https://xh/b", False),
        ("https://h/a", "https://other/b", False),
    ],
    ids=[
        "same",
        "same, not encrypted",
        "within",
        "within, not encrypted",
        "no longer encrypted",
        "encrypted now",
        "a similar name",
        "another",
    ],
)
def test_a_redirection_is_followed_where_the_token_may_go(old, new, follows):
    request = Request(old, headers={"A": "b"})  # noqa: S310 - nothing is sent
    redirects = wire._Redirects()
    if follows:
        found = redirects.redirect_request(request, None, 302, "", {}, new)
        assert found is not None
        assert (found.full_url, found.headers) == (new, {"A": "b"})
        return
    with pytest.raises(TurnedAway) as err:
        redirects.redirect_request(request, None, 302, "", {}, new)
    assert (err.value.status, err.value.line) == (
        302,
        f"{old} leads to {new}; give that, if you trust it",
    )


def test_where_a_redirection_leads_is_shown_without_a_secret_and_cut():
    request = Request("https://h/a")
    new = f"https://o/?token=hush&{'x' * 300}"
    with pytest.raises(TurnedAway) as err:
        wire._Redirects().redirect_request(request, None, 302, "", {}, new)
    shown = f"https://o/?token=***&{'x' * 300}"[:200]
    assert err.value.line == f"https://h/a leads to {shown}; give that, if you trust it"


# --- real answers, of a server on this machine


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the test has said, and keeps the headers of each request."""

    def do_GET(self):
        self.server.asked.append(self.headers)  # type: ignore[attr-defined]
        status, headers, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    """A server that answers each request in the same way."""
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=[0.02], daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def answers(server):
    """A function that sets the answer, and returns the address and the headers of requests."""

    def set_to(body=b"", status=200, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        server.asked = []
        server.answer = status, named, body
        return f"http://127.0.0.1:{server.server_port}/s", server.asked

    return set_to


LINES, EVENTS = "application/json; charset=utf-8", "text/event-stream"


def test_a_stream_asks_for_events_or_lines_with_its_token(answers):
    url, asked = answers(b'{"id": 1}\n', Content_Type=LINES)
    stream = Stream(url, HUSH, stall=20)
    try:
        assert list(stream.messages()) == [Message("post", "1", b'{"id": 1}')]
    finally:
        stream.close()
    assert asked[0]["Accept"] == (
        "text/event-stream, application/x-ndjson;q=0.9, application/json;q=0.8"
    )
    assert asked[0]["Authorization"] == "Bearer hush"
    assert asked[0]["User-Agent"] == "sparkstream-kit"
    assert "Last-Event-ID" not in asked[0]


def test_a_stream_of_events_is_asked_to_resume(answers):
    url, asked = answers(b'data: {"id": 1}\n\n', Content_Type=EVENTS)
    stream = Stream(url, NONE, stall=20, event="7")
    try:
        assert list(stream.messages()) == [Message("post", "1", b'{"id": 1}', "7")]
    finally:
        stream.close()
    assert asked[0]["Last-Event-ID"] == "7"
    assert "Authorization" not in asked[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": LINES, "Content_Length": "0"},
        {"Content_Type": LINES, "Content_Length": "2"},
        {"Content_Type": "text/html"},
    ],
    ids=["empty", "with a length", "a page"],
)
def test_a_document_is_no_stream(answers, headers):
    url, _ = answers(b"{}"[: int(headers.get("Content_Length", 2))], **headers)
    with pytest.raises(TurnedAway) as err:
        Stream(f"{url}?password=hush", NONE, stall=20)
    kind = headers["Content_Type"].partition(";")[0]
    assert err.value.status == 200
    assert err.value.line == (
        f"{url}?password=*** is a document ({kind}), not a stream of posts"
    )


def test_the_connection_of_a_document_is_ended(answers, monkeypatch):
    closed: list[Any] = []

    def close(stream):
        closed.append(stream)

    monkeypatch.setattr(Stream, "close", close)
    url, _ = answers(b"", Content_Type="text/html")
    with pytest.raises(TurnedAway):
        Stream(url, NONE, stall=20)
    [stream] = closed
    stream._socket.close()


def test_a_connection_can_be_ended_twice(answers):
    url, _ = answers(b"", Content_Type=LINES)
    stream = Stream(url, NONE, stall=20)
    stream.close()
    assert stream._socket.fileno() == -1
    stream.close()


def test_json_is_fetched(answers):
    url, asked = answers(b'[{"id": 1}]')
    assert wire.fetch(url, HUSH, timeout=20) == [{"id": 1}]
    assert asked[0]["Accept"] == "application/json"
    assert asked[0]["Authorization"] == "Bearer hush"


@pytest.mark.parametrize(
    "body", [b"<html>", b"[" * 100_000], ids=["a page", "too deep"]
)
def test_what_is_no_json_is_told(answers, body):
    url, _ = answers(body)
    with pytest.raises(TurnedAway) as err:
        wire.fetch(url, HUSH, timeout=20)
    assert (err.value.status, err.value.line) == (200, f"{url} is no JSON")


def test_a_whole_answer_may_take_twice_as_long_as_a_silence(answers, monkeypatch):
    url, _ = answers(b"[]")
    ends: list[Any] = []

    def whole(answer, asked, end):
        ends.append((asked, end))
        return b"[]"

    monkeypatch.setattr(wire, "_whole", whole)
    monkeypatch.setattr(wire, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    wire.fetch(url, NONE, timeout=20)
    assert ends == [(url, 1040.0)]


def test_a_refusal_is_turned_into_a_line(answers):
    url, _ = answers(b'{"error": "hush"}', 503, Retry_After="7")
    with pytest.raises(TurnedAway) as err:
        wire._answer(url, HUSH, {}, 20)
    assert err.value.line == f"{url} answers 503 Service Unavailable: ***"
    assert err.value.wait == 7
    assert err.value.__suppress_context__


@pytest.mark.parametrize("encoding", ["identity", "Identity"])
def test_an_answer_that_is_not_compressed_is_read(answers, encoding):
    url, _ = answers(b"a", Content_Encoding=encoding)
    with wire._answer(url, NONE, {}, 20) as answer:
        assert answer.read() == b"a"


def test_an_answer_that_is_compressed_is_refused(answers):
    url, _ = answers(gzip.compress(b"{}"), Content_Encoding="gzip")
    with pytest.raises(TurnedAway) as err:
        wire._answer(f"{url}?password=hush", NONE, {}, 20)
    assert (err.value.status, err.value.line) == (
        200,
        f"{url}?password=*** comes compressed (gzip), which it was not asked for",
    )


def test_the_connection_of_a_compressed_answer_is_ended(monkeypatch):
    closed: list[str] = []
    answer = SimpleNamespace(
        headers={"Content-Encoding": "gzip"}, close=lambda: closed.append("closed")
    )
    opener = SimpleNamespace(open=lambda request, timeout: answer)
    monkeypatch.setattr(wire, "_opener", opener)
    with pytest.raises(TurnedAway):
        wire._answer("https://h/s", NONE, {}, 20)
    assert closed == ["closed"]


def test_who_cannot_be_reached_is_an_error_of_the_connection(free_port):
    with pytest.raises(ConnectionRefusedError) as err:
        wire._answer(f"http://127.0.0.1:{free_port}/", NONE, {}, 20)
    assert err.value.__suppress_context__


def test_an_answer_has_its_own_headers_and_those_of_the_caller(answers):
    url, asked = answers(b"")
    wire._answer(url, NONE, {"X-Mine": "1"}, 20).close()
    assert (asked[0]["X-Mine"], asked[0]["User-Agent"]) == ("1", "sparkstream-kit")
