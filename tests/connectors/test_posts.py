"""Posts over HTTP: what a feeder makes of what servers send, and what Spark reads of its spool."""

import errno
import gzip
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from datetime import datetime
from itertools import groupby

import hashtag_trends
import pytest
from conftest import HANGS, refusal, running, self_signed
from pyspark.sql import functions as F
from support import posts_server
from support.posts_server import TOKEN, PostsServer, Site, streaming, tweet

from sparkstream_kit import jobflags, run, sinks, sources, start
from sparkstream_kit.cli import main
from sparkstream_kit.connectors.posts import source, wire
from sparkstream_kit.connectors.posts.source import Feeder
from sparkstream_kit.connectors.posts.spool import Spool
from sparkstream_kit.connectors.posts.wire import Message, Token, fetch
from sparkstream_kit.errors import InvalidInputError

LINES = "application/json; charset=utf-8"
EVENTS = "text/event-stream"
KNOWN = Token("POSTS_TOKEN", TOKEN)
UNKNOWN = "what came meanwhile is missed, unless the server sends it again by itself"


@pytest.fixture
def site():
    """A site of which a test says what it sends."""
    return Site()


@pytest.fixture
def server(site):
    server = PostsServer(site)
    yield server
    for feeding in source._feeding.values():  # noqa: SLF001 - as the end of the process does
        feeding.end()
    server.close()


@pytest.fixture
def token(monkeypatch):
    """The token in the environment."""
    monkeypatch.setenv("POSTS_TOKEN", TOKEN)


def read(folder):
    """Return the posts of the files that Spark reads."""
    lines = [
        line
        for path in sorted(folder.glob("[!_.]*"))
        for line in path.read_text("utf-8").split("\n")
    ]
    return [json.loads(line) for line in lines if line]


def numbers(folder):
    """Return which posts of X these are, by their texts."""
    return [int(post["data"]["text"].split()[1]) for post in read(folder)]


class Fed:
    """A feeder at work in a thread."""

    def __init__(self, url, folder, **given):
        self.said: list[str] = []
        self.folder = folder
        self.feeder = Feeder(
            url,
            folder,
            token=KNOWN,
            **{"every": 0.05, "stall": 5, "say": self.said.append, **given},
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.feeder.run, args=[self._stop])
        self._thread.start()

    @property
    def facts(self):
        return self.feeder.facts

    def get(self, until, number):
        """Wait until so many posts more have come."""
        enough = self.facts.posts + number
        until(lambda: self.facts.posts >= enough)

    def has_said(self, what):
        return any(what in line for line in self.said)

    def stop(self):
        self._stop.set()
        self._thread.join(HANGS)
        assert not self._thread.is_alive()
        return self.facts

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# --- the formats


def test_lines_of_json_are_kept_whole_and_once(site, server, tmp_path, until):
    odd = json.dumps({"data": {"id": 9007199254740993, "text": "line\u2028end \ud83d"}})
    # It has its own id
    event = json.dumps({"id": "event-1", "data": {"id": "order-7"}})
    sent = [tweet(site, 0), tweet(site, 1), tweet(site, 0), odd, event]
    ending = {
        "errors": [
            {
                "title": "operational-disconnect",
                "detail": "Disconnected for operational reasons.",
            }
        ]
    }
    parts: list[str | bytes] = ["\r\n", *(f"{line}\r\n" for line in sent)]
    parts += ["no json\r\n", "[1]\r\n", b"\xff\r\n", '{"data": {"sum": 8}}\r\n']
    site.answers = [
        streaming(
            LINES, [*parts, json.dumps(ending) + "\r\n", tweet(site, 2)[:40]], cut=True
        )
    ]
    with Fed(server.x, tmp_path / "spool") as feed:
        until(lambda: site.counts.get("cut") and feed.facts.others == 5)
        facts = feed.stop()
    assert read(feed.folder) == [
        json.loads(line) for line in (sent[0], sent[1], odd, event)
    ]
    [file] = feed.folder.glob("posts-*.jsonl")
    # Not only the same JSON, but as it came
    assert file.read_text("utf-8").split("\n")[0] == sent[0]
    assert str(facts).startswith(
        "4 posts in 1 file; 1 repeats dropped; 5 messages that were no posts"
    )
    assert feed.said[:2] == [
        "a line was left out: it is no object of JSON in UTF-8",
        "the server says: Disconnected for operational reasons.",
    ]


def test_events_are_kept_and_edits_deletions_and_comments_are_not(
    server, site, tmp_path, until
):
    parts = [
        ":)\n",
        'event: update\ndata: {"id": "1", "content": "a"}\n\n',
        ":thump\n",
        "event: delete\ndata: 1\n\n",
        'event: status.update\ndata: {"id": "5"}\n\n',
        'data: {"id": "2",\r\n', 'data:"content": "b"}\r\n\r\n',
        'event: update\ndata: {"id": "3"}\n\nevent: update\ndata: {"id": "half"}\n',
    ]  # fmt: skip
    site.answers = [streaming(EVENTS, parts)]
    with Fed(server.mastodon, tmp_path) as feed:
        until(lambda: feed.facts.posts == 3)
        feed.stop()
    assert read(tmp_path) == [
        {"id": "1", "content": "a"},
        {"id": "2", "content": "b"},
        {"id": "3"},
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name[0] not in "p_"] == []


def test_a_server_of_events_is_asked_to_go_on_where_it_was_cut(
    server, site, tmp_path, until
):
    url = f"{server.url}/open"
    first = ['id: 41\ndata: {"id": "a"}\n\n', 'id: 42\ndata: {"id": "b"}\n\n']
    again = ['id: 42\ndata: {"id": "b"}\n\n', 'id: 43\ndata: {"id": "c"}\n\n']
    site.answers = [
        streaming(EVENTS, first, cut=True),
        streaming(EVENTS, again, cut=True),
    ]
    with Fed(url, tmp_path) as feed:
        until(lambda: feed.facts.posts == 3)
    before = len(site.asked)
    with Fed(url, tmp_path):  # another process, at another time
        until(lambda: len(site.asked) > before)
    asked = [headers.get("Last-Event-Id") for _, headers in site.asked]
    assert (asked[0], asked[1], asked[-1]) == (None, "42", "43")
    assert [post["id"] for post in read(tmp_path)] == ["a", "b", "c"]


# --- whatever a server sends


def with_chunk(size):
    """Return an answer with a post, and then a chunk that says it is of this size."""

    def answer(handler):
        handler.begin(LINES)
        handler.send('{"id": "before"}\n')
        handler.wfile.write(size + b"\r\nabc\r\n")

    return answer


def raw(head):
    """Return an answer that is not made by a server of HTTP."""

    def answer(handler):
        handler.close_connection = True
        handler.wfile.write(head)

    return answer


def plain(kind, body, **headers):
    """Return an answer with a body as it is: no chunks, no length, to the end of the connection."""

    def answer(handler):
        handler.close_connection = True
        handler.send_response(200)
        for name, value in {"Content-Type": kind, **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


HOSTILE = {
    "an id of 5,000 digits": (
        streaming(LINES, [f'{{"id": "{"9" * 5000}"}}\n']),
        "its id has 5,000 characters",
    ),
    "a number of 5,000 digits": (
        streaming(LINES, [f'{{"id": {"9" * 5000}}}\n']),
        "it is no object of JSON",
    ),
    "an escape in an event's id": (
        streaming(EVENTS, ['id: \x1b[31m\ndata: {"id": "before"}\n\n']),
        "",
    ),
    "an event's id of 100 kB": (
        streaming(EVENTS, [f'id: {"i" * 100_000}\ndata: {{"id": "c"}}\n\n']),
        "",
    ),
    "a carriage return in an event's id": (
        streaming(EVENTS, ['id: a\rb\ndata: {"id": "before"}\n\n']),
        "",
    ),
    "an event without an end": (
        streaming(EVENTS, [f"data: {'d' * 2**20}\n" for _ in range(18)]),
        "an event is longer than 16,777,216 bytes",
    ),
    "a line without an end": (
        streaming(LINES, ["d" * 2**20 for _ in range(18)]),
        "a line is longer than 16,777,216 bytes",
    ),
    "a chunk of size -5": (with_chunk(b"-5"), ""),
    "a chunk of size 2^80": (with_chunk(b"1" + b"0" * 20), ""),
    "UTF-16": (
        streaming(LINES, ['{"id": "1"}\n'.encode("utf-16")]),
        "it is no object of JSON in UTF-8",
    ),
    "UTF-16 without a mark": (
        plain(LINES, '{"id": "1"}\n'.encode("utf-16-le")),
        "a line was left out: it is no object of JSON in UTF-8",
    ),
    "too many brackets": (
        streaming(LINES, ["[" * 100_000 + "\n"]),
        "it is no object of JSON",
    ),
    "half a character": (
        streaming(LINES, ['{"id": "\\ud83d", "text": "\\udc00"}\n']),
        "",
    ),
    "gzip": (
        plain(LINES, gzip.compress(b'{"id": "1"}\n'), Content_Encoding="gzip"),
        "comes compressed (gzip), which it was not asked for",
    ),
    "no HTTP at all": (raw(b"\x00\x01\x02\r\n" * 100), ""),
    "a status with an escape": (
        raw(b"HTTP/1.1 503 \x1b]0;pwned\x07\r\nContent-Length: 0\r\n\r\n"),
        "503",
    ),
    "500 headers": (raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n"), ""),
    "a wait of 5,000 digits": (
        lambda handler: handler.whole(503, {}, Retry_After="9" * 5000),
        "503",
    ),
}


@pytest.mark.fast(
    "a number of 5,000 digits", "an escape *", "UTF-16", "a chunk of size -5"
)
@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_a_server_sends_the_feeder_goes_on_and_so_does_the_next_one(
    what, site, server, tmp_path, until, monkeypatch
):
    monkeypatch.setattr(wire, "wait_after", lambda *_: 0.05)
    url = f"{server.url}/open"
    hostile, line = HOSTILE[what]
    honest = streaming(LINES, ['{"id": "7", "text": "a\\u2028b"}\n'])
    site.answers = [streaming(EVENTS, ['data: {"id": "0"}\n\n']), hostile, honest]
    with Fed(url, tmp_path) as feed:
        until(
            lambda: (
                not site.answers
                and {"0", "7"} <= {post.get("id") for post in read(tmp_path)}
            )
        )
        feed.stop()
    said = "\n".join(feed.said)
    assert line in said
    assert not re.search(r"[^\n -~…]", said), "only what a terminal shows as it is"
    # The next start, with a server that is honest.
    site.answers = [streaming(LINES, ['{"id": "8"}\n'])]
    with Fed(url, tmp_path):
        until(lambda: "8" in {post.get("id") for post in read(tmp_path)})
    assert all(set(post) for post in read(tmp_path)), "each line of the spool is a post"


@pytest.mark.parametrize("what", ["gzip", "no HTTP at all", "500 headers"])
def test_a_first_answer_that_is_hostile_is_one_line(what, site, server, tmp_path):
    site.answers = [HOSTILE[what][0]]
    assert re.fullmatch("[ -~]{,300}", refusal(Fed, f"{server.url}/open", tmp_path))


@pytest.mark.slow
def test_an_answer_that_never_gets_to_its_point_is_cut(site, server):
    def endless(handler):
        while True:  # until the reader has gone
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    site.answers = [endless]
    with pytest.raises((OSError, http.client.HTTPException)):
        fetch(f"{server.url}/open", KNOWN, timeout=0.1)


def test_an_event_with_data_of_another_kind_has_its_own_id(
    server, site, tmp_path, until
):
    sent = [{"id": f"event-{number}", "data": {"id": "order-7"}} for number in range(2)]
    odd = {"id": "event-2", "data": [1]}
    lines = [json.dumps(each) + "\n" for each in (*sent, odd, {"data": {"sum": 8}})]
    site.answers = [streaming(LINES, lines, cut=True)]
    with Fed(server.x, tmp_path) as feed:
        until(lambda: feed.facts.others)
        said = str(feed.stop())
    assert read(tmp_path) == [*sent, odd]
    assert said.startswith("3 posts in 1 file; 1 messages that were no posts")


# --- what is missed


@pytest.fixture
def federated(site, server):
    """A site that has posts of other servers, too, which rank by when they were written."""
    site.rate, site.ids = 500, posts_server.federated
    return server


def publish(site, until, number):
    """Wait until a site has so many posts more; return the number of the first of them."""
    before = site.published()
    until(lambda: site.published() > before + number)
    return before


def gaps(site, folder):
    """Return which posts a spool lacks between its first and last; it has no post twice."""
    number = {str(site.ids(each)): each for each in range(60_000)}
    got = [number[post["id"]] for post in read(folder)]
    assert len(got) == len(set(got))
    return set(range(got[0], max(got) + 1)) - set(got)


def catch_up(feed, until):
    """Wait until what was missed is there, and what ranks before the end of the timeline."""
    until(lambda: feed.has_said("fetched that had been missed"))
    feed.get(until, 200)


@pytest.mark.slow
def test_what_came_meanwhile_is_fetched_also_what_ranks_before_it(
    site, federated, tmp_path, until
):
    site.slow = 0.02  # so no page is empty
    with Fed(federated.mastodon, tmp_path) as feed:
        feed.get(until, 400)
    first = publish(site, until, 300)
    # So pages are shorter than others
    site.left_out = frozenset(range(first, first + 300, 97))
    with Fed(federated.mastodon, tmp_path) as feed:
        catch_up(feed, until)
        facts = feed.stop()
    assert facts.later > 100
    assert gaps(site, tmp_path) == site.left_out
    assert facts.posts == len(read(tmp_path))


def test_a_stop_in_the_middle_of_a_timeline_leaves_the_rest_to_be_fetched(
    server, tmp_path
):
    feeder = Feeder(server.mastodon, tmp_path, token=KNOWN, say=print)
    feeder._spool.left_at("7")  # noqa: SLF001 - at this moment no stop can be timed from outside
    feeder._stop.set()  # noqa: SLF001
    feeder._catch_up()  # noqa: SLF001
    assert feeder.facts.behind == "7"
    stop = threading.Event()
    stop.set()
    feeder.run(stop)


def test_ctrl_c_while_the_reading_thread_starts_leaves_no_thread(
    server, tmp_path, interrupted_starts, until
):
    feeder = Feeder(server.mastodon, tmp_path, token=KNOWN, say=print)
    with pytest.raises(KeyboardInterrupt):
        feeder.run(threading.Event())
    [thread] = interrupted_starts
    until(lambda: not thread.is_alive())


@pytest.mark.usefixtures("token")
def test_ctrl_c_while_the_feeder_of_a_session_starts_leaves_no_thread(
    spark, server, tmp_path, interrupted_starts, until
):
    with pytest.raises(KeyboardInterrupt):
        sources.posts(spark, server.mastodon, spool=tmp_path / "spool")
    assert interrupted_starts
    until(lambda: not any(thread.is_alive() for thread in interrupted_starts))


@pytest.mark.slow
def test_a_page_of_a_timeline_that_is_shorter_than_others_is_not_its_end(
    site, federated, tmp_path, until
):
    site.slow = 0.02  # so no page is empty
    with Fed(federated.mastodon, tmp_path) as feed:
        feed.get(until, 400)
    first = publish(site, until, 500)
    site.left_out = frozenset(range(first, first + 500, 97))
    with Fed(federated.mastodon, tmp_path) as feed:
        catch_up(feed, until)
    assert gaps(site, tmp_path) == site.left_out


@pytest.mark.slow
def test_what_is_yet_to_be_fetched_is_known_to_the_next_feeder(
    site, federated, tmp_path, until
):
    with Fed(federated.mastodon, tmp_path) as feed:
        feed.get(until, 100)
    publish(site, until, 100)
    site.closed = True
    with Fed(federated.mastodon, tmp_path) as feed:
        feed.get(until, 400)  # more than are read again anyway
        assert str(feed.stop()).endswith(
            "what was missed last is fetched at the next start"
        )
    site.closed = False
    with Fed(federated.mastodon, tmp_path) as feed:
        catch_up(feed, until)
    assert gaps(site, tmp_path) == set()


def test_a_timeline_that_is_not_there_is_said(server, site, tmp_path, until):
    site.rate, site.ids = 300, posts_server.scattered
    with Fed(server.x, tmp_path, timeline=f"{server.url}/none") as feed:
        feed.get(until, 30)
    with Fed(server.x, tmp_path, timeline=f"{server.url}/none") as feed:
        until(
            lambda: feed.has_said("what comes while there is no connection is missed")
        )
    assert feed.has_said(f"{server.url}/none?limit=40 answers 404")


def test_a_timeline_of_which_no_post_is_known_is_not_said_to_be_asked(
    site, server, tmp_path, until
):
    site.answers = [streaming(EVENTS, [":)\n"], cut=True)]
    with Fed(server.mastodon, tmp_path) as feed:
        until(lambda: feed.has_said("connected again"))
    assert not any("timelines" in path for path, _ in site.asked)
    assert feed.said[-1].endswith(UNKNOWN)


@pytest.mark.parametrize(
    "what", ["without an end", "of one post that has no end", "gzip"]
)
def test_a_timeline_that_cannot_be_read_is_said_and_the_stream_goes_on(
    what, site, server, tmp_path, until, monkeypatch
):
    sent = threading.Event()

    def endless(handler, _query):
        handler.begin("application/json")
        handler.send("[" if what == "without an end" else '[{"id": "')
        part = '{"id": "1"},' * 20_000 if what == "without an end" else "9" * 2**18
        for _ in range(200):  # 50 MB
            handler.send(part)
        sent.set()

    def packed(handler, _query):
        plain("application/json", gzip.compress(b"[]"), Content_Encoding="gzip")(
            handler
        )

    monkeypatch.setattr(
        posts_server.Handler, "timeline", packed if what == "gzip" else endless
    )
    site.rate = 100
    with Fed(server.mastodon, tmp_path) as feed:
        feed.get(until, 5)
    with Fed(server.mastodon, tmp_path) as feed:
        feed.get(until, 5)
        until(
            lambda: feed.has_said("what comes while there is no connection is missed")
        )
        feed.stop()
    assert not sent.is_set(), "it is not read whole"


# --- when the server is asked again


@pytest.mark.parametrize(("minutes", "promised"), [(5, True), (0, False)])
def test_a_backfill_of_x_closes_a_gap_of_its_length(
    site, server, tmp_path, until, minutes, *, promised
):
    site.answers = [
        streaming(
            LINES, [f"{tweet(site, n)}\r\n" for n in range(first, first + 40)], cut=True
        )
        for first in (0, 30)
    ]
    with Fed(f"{server.x}?backfill_minutes={minutes}", tmp_path) as feed:
        until(lambda: feed.facts.posts == 70)
        until(lambda: feed.has_said("connected again"))
        facts = feed.stop()
    asked = feed.has_said("the server is asked for what was missed")
    assert (asked, facts.repeats) == (promised, 10)


@pytest.mark.slow
def test_what_cannot_be_fetched_is_said(site, server, tmp_path, until):
    site.rate, site.ids = 300, posts_server.scattered
    with Fed(server.x, tmp_path) as feed:
        feed.get(until, 300)
    publish(site, until, 100)
    with Fed(server.x, tmp_path) as again:
        again.get(until, 1)
        facts = again.stop()
    got = numbers(tmp_path)
    assert max(got) - min(got) + 1 > len(got)
    assert again.said[0].endswith(UNKNOWN)
    assert (facts.cuts, facts.later) == (1, 0)


def test_a_limit_is_waited_out_as_the_server_says(site, server, tmp_path, until):
    def limited(handler):
        handler.whole(
            429,
            {"title": "ConnectionException", "detail": "TooManyConnections"},
            Retry_After="1",
        )

    site.answers = [limited, streaming(LINES, [tweet(site, 0) + "\r\n"])]
    with Fed(server.x, tmp_path) as feed:
        until(lambda: feed.facts.posts == 1)
    assert (
        feed.said[0]
        == f"{server.x} answers 429 Too Many Requests: TooManyConnections; next try in"
        " 1.0 s"
    )


def test_a_limit_in_another_unit_is_not_waited_out_for_years(site, server, tmp_path):
    site.answers = [
        lambda handler: handler.whole(429, {}, x_rate_limit_reset="1799999999000")
    ]
    with Fed(server.x, tmp_path) as feed:
        assert feed.said == [
            f"{server.x} answers 429 Too Many Requests; next try in 900.0 s"
        ]
        assert feed.stop().posts == 0


@pytest.mark.slow
def test_a_connection_by_which_nothing_comes_is_given_up(site, server, tmp_path, until):
    silent = threading.Event()

    def stalled(handler):
        handler.begin(LINES)
        silent.wait(HANGS)

    site.answers = [stalled, streaming(LINES, [tweet(site, 0) + "\r\n"])]
    with Fed(server.x, tmp_path, stall=2) as feed:  # the time to connect, too
        until(lambda: feed.facts.posts == 1)
    silent.set()
    assert feed.said[0] == "the connection has ended: timed out; next try in 0.2 s"


@pytest.mark.parametrize(
    "where",
    [
        "http://127.0.0.1:abc/",
        "http://[x/",
        "/\xe9",
        "ftp://127.0.0.1/",
        "http://a..127.0.0.1/",
    ],
)
def test_a_redirection_to_no_address_is_one_line(where, site, server, tmp_path, until):
    def away(handler):
        handler.whole(302, "", Location=where)

    line = {
        "http://127.0.0.1:abc/": (
            "cannot be read: nonnumeric port: 'abc'; correct the address"
        ),
        "http://[x/": "cannot be read: Invalid IPv6 URL; correct the address",
        "/\xe9": "answers 404 Not Found",
    }.get(where, f"leads to {where}; give that, if you trust it")
    site.answers = [away]
    assert refusal(Fed, server.x, tmp_path).startswith(f"{server.x} {line}")
    # Later it is said, and does not end the feeder.
    site.answers = [streaming(LINES, [tweet(site, 0) + "\r\n"]), away]
    with Fed(server.x, tmp_path) as feed:
        until(
            lambda: feed.has_said(
                line.removeprefix("cannot be read: ").partition(";")[0]
            )
        )
        assert feed.stop().posts == 1


def test_a_redirection_is_followed_on_the_same_host_and_the_token_goes_nowhere_else(
    site, server, tmp_path, until
):
    other = PostsServer(Site())
    away = other.x.replace("127.0.0.1", "localhost")
    sent = streaming(LINES, [tweet(site, 0) + "\r\n"])
    site.answers = [lambda handler: handler.whole(301, "", Location="/open"), sent]
    with Fed(server.x, tmp_path / "near") as feed:
        until(lambda: feed.facts.posts == 1)
    site.answers = [lambda handler: handler.whole(301, "", Location=away)]
    with pytest.raises(
        InvalidInputError,
        match=f"{server.x} leads to {away}; give that, if you trust it",
    ):
        Fed(server.x, tmp_path / "far")
    other.close()
    assert other.site.asked == []


# --- the spool


def test_each_point_at_which_a_feeder_can_die_leaves_each_post_once(tmp_path):
    first, other = (
        Message("post", "1", b'{"id": "1"}'),
        Message("post", "2", b'{"id": "2"}'),
    )

    def landed_of(spool, post):
        """Return the file that a post comes into, if it is no repeat."""
        before = {*tmp_path.glob("posts-*.jsonl")}
        spool.take(post)
        spool.land()
        return next(iter({*tmp_path.glob("posts-*.jsonl")} - before), None)

    spool = Spool(tmp_path, print)
    landed = landed_of(spool, first)
    assert landed
    spool.close()
    # It died before the file got its name: the database has the post.
    landed.rename(tmp_path / f".{landed.name}")
    # And before another file was in the database: nobody has its post.
    (tmp_path / f".posts-{2**42}.jsonl").write_bytes(b'{"id": "2"}\n{"id')
    again = Spool(tmp_path, print)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [landed.name]
    assert list(tmp_path.glob(".posts*")) == []
    assert landed_of(again, first) is None
    second = landed_of(again, other)
    assert second
    assert second.name > landed.name
    landed.unlink()  # as Spark does with what it has read, where it is told to
    again.close()
    with closing(sqlite3.connect(tmp_path / "_feed.db")) as database, database:
        database.execute(
            "UPDATE facts SET facts = json_set(facts, '$.later_version', 7)"
        )
    last = Spool(tmp_path, print)
    assert landed_of(last, first) is None
    assert (last.facts.posts, last.facts.repeats) == (2, 2)
    last.close()


def test_a_folder_that_cannot_be_written_for_a_while_loses_nothing(
    site, server, tmp_path, until, monkeypatch
):
    site.rate = 200
    folder, away = tmp_path / "spool", tmp_path / "away"
    with Fed(server.x, folder) as feed:
        until(lambda: feed.facts.files)
        tries: list[Exception] = []
        land = feed.feeder._spool.land  # noqa: SLF001

        def tried():
            try:
                land()
            except (OSError, sqlite3.Error) as err:
                tries.append(err)
                raise

        monkeypatch.setattr(feed.feeder._spool, "land", tried)  # noqa: SLF001
        folder.rename(away)
        until(lambda: len(tries) > 10)
        away.rename(folder)
        files = feed.facts.files
        until(lambda: feed.facts.files > files)
        feed.stop()
    got = numbers(folder)
    assert got == list(range(got[0], got[0] + len(got)))
    # Told again only when the words change; within a transaction SQLite has words of
    # its own.
    assert feed.said
    assert feed.said == [line for line, _ in groupby(feed.said)]
    why = (
        r"\((No such file or directory|disk I/O error|attempt to write a readonly"
        r" database)\)"
    )
    for line in feed.said:
        assert re.fullmatch(
            rf"cannot write in {re.escape(str(folder))} {why}; it is tried again", line
        )


def test_a_spool_of_a_later_version_can_be_read(tmp_path):
    spool = Spool(tmp_path, print)
    spool.take(Message("post", "1", b'{"id": "1"}'))
    spool.land()
    spool.close()
    with closing(sqlite3.connect(tmp_path / "_feed.db")) as database, database:
        database.execute(
            "UPDATE facts SET facts = json_set(facts, '$.later_version', 7)"
        )
    again = Spool(tmp_path, print)
    assert again.facts.posts == 1
    again.close()


@pytest.mark.parametrize("name", ["_feed.db", ".posts-1.jsonl"])
def test_a_spool_that_could_not_be_opened_can_be_opened_later(name, tmp_path):
    (tmp_path / name).mkdir()
    assert f"cannot write in {tmp_path} " in refusal(Spool, tmp_path, print)
    (tmp_path / name).rmdir()
    Spool(tmp_path, print).close()


def test_a_spool_has_one_feeder(server, tmp_path):
    line = f"another feeder fills {tmp_path} already; stop it"
    with Fed(server.x, tmp_path), pytest.raises(InvalidInputError, match=line):
        Fed(server.x, tmp_path)
    with Fed(server.x, tmp_path):
        pass  # the first has let it go


def test_a_database_that_is_damaged_is_one_line(server, tmp_path):
    (tmp_path / "_feed.db").write_text("not a database" * 100)
    assert "_feed.db is damaged (file is not a database); remove it" in refusal(
        Fed, server.x, tmp_path
    )
    (tmp_path / "_feed.db").unlink()
    with Fed(server.x, tmp_path):
        pass
    for facts in ("cut o", "[1]"):
        with closing(sqlite3.connect(tmp_path / "_feed.db")) as database, database:
            database.execute("REPLACE INTO facts VALUES (1, ?)", (facts,))
        assert re.search(
            r"_feed\.db is damaged \(.*\); remove it", refusal(Fed, server.x, tmp_path)
        )


def test_a_database_that_is_locked_for_a_while_loses_nothing(
    site, server, tmp_path, until
):
    site.rate = 200
    with Fed(server.x, tmp_path) as feed:
        until(lambda: feed.facts.files)
        with closing(sqlite3.connect(tmp_path / "_feed.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            until(lambda: feed.has_said("it is tried again"))
        files = feed.facts.files
        until(lambda: feed.facts.files > files)
        feed.stop()
    got = numbers(tmp_path)
    assert got == list(range(got[0], got[0] + len(got)))
    assert feed.said == [
        f"cannot write in {tmp_path} (database is locked); it is tried again"
    ]


def test_what_came_before_an_error_is_kept(site, server, tmp_path):
    def say(line):
        raise BrokenPipeError(line)

    ending = json.dumps({"errors": [{"detail": "the end"}]})
    site.answers = [streaming(LINES, [f"{tweet(site, 0)}\r\n{ending}\r\n"])]
    feeder = Feeder(server.x, tmp_path, token=KNOWN, every=3600, say=say)
    with pytest.raises(BrokenPipeError):
        feeder.run(threading.Event())
    assert read(tmp_path) == [json.loads(tweet(site, 0))]
    Spool(tmp_path, print).close()  # it has let the folder go


def test_a_full_disk_keeps_no_file_of_each_try(tmp_path, monkeypatch):
    spool = Spool(tmp_path, print)
    spool.take(Message("post", "1", b'{"id": "1"}'))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    for _try in range(3):
        with (
            monkeypatch.context() as disk,
            pytest.raises(OSError, match="No space left"),
        ):
            disk.setattr(os, "fsync", full)
            spool.land()
    assert list(tmp_path.glob(".posts-*.jsonl")) == []
    spool.land()
    assert len(list(tmp_path.glob("posts-*.jsonl"))) == 1
    spool.close()


def test_a_feeder_that_is_stopped_keeps_what_has_come_and_says_what_was_done(
    server, site, tmp_path, until
):
    site.rate = 100
    words = [
        sys.executable,
        "-m",
        "sparkstream_kit",
        "feed",
        "posts",
        server.x,
        tmp_path / "spool",
    ]
    env = {**os.environ, "MINE": TOKEN}
    with running(
        *words, "--every", 3600, "--token-env", "MINE", stderr=subprocess.PIPE, env=env
    ) as feed:
        assert feed.stderr
        said, before = feed.stderr.readline(), site.published()
        until(lambda: site.published() > before + 100)
        feed.send_signal(signal.SIGTERM)
        rest = feed.communicate(timeout=HANGS)[1]
    assert (feed.returncode, said) == (
        0,
        (
            f"sparkstream: feeding {tmp_path}/spool with the posts of {server.x}; stop"
            " with Ctrl-C\n"
        ),
    )
    got = read(tmp_path / "spool")
    files = len(list((tmp_path / "spool").glob("posts-*")))
    assert (
        rest == f"sparkstream: {len(got):,} posts in {files} file{'s' * (files > 1)}\n"
    )
    assert len(got) > 50
    assert TOKEN.encode() not in b"".join(
        path.read_bytes() for path in (tmp_path / "spool").iterdir()
    )


# --- what is wrong is one line


def test_a_token_that_is_missing_wrong_or_in_the_wrong_place_is_one_line_without_it(
    server, tmp_path, capsys, monkeypatch
):
    spool, wrong = str(tmp_path / "spool"), "not-this-one-99"

    def said(url=server.x, given=None):
        monkeypatch.delenv("POSTS_TOKEN", raising=False)
        if given is not None:
            monkeypatch.setenv("POSTS_TOKEN", given)
        assert main(["feed", "posts", url, spool]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        assert wrong not in text
        return text.removeprefix("sparkstream: ").rstrip("\n")

    fix = "; the kit takes the token from the environment variable POSTS_TOKEN"
    assert said() == f"{server.x} answers 401 Unauthorized: Unauthorized: None{fix}"
    assert (
        said(given=wrong)
        == f"{server.x} answers 401 Unauthorized: Unauthorized: Bearer ***{fix}"
    )
    assert said(server.mastodon, wrong).endswith(
        f"answers 401 Unauthorized: Invalid access token{fix}"
    )
    assert said(given=f"{wrong} {wrong}").startswith(
        "the token in POSTS_TOKEN has a space, a line end"
    )
    for url in (
        f"https://{wrong}@host/stream",
        f"{wrong}@host/stream",
        f"{server.x}?api_key={wrong}",
    ):
        assert said(url).startswith("others can see a token in a URL; leave it out")
    assert said("http://api.example/stream", wrong).endswith(
        "to everyone on the way; give https://"
    )


def test_a_certificate_is_verified(tmp_path, monkeypatch, until, site):
    certificate, both = self_signed(tmp_path)
    site.rate, server = 50, PostsServer(site, both)
    line = (
        rf"{server.x} cannot be read: .*certificate verify failed: self-signed"
        r" certificate"
    )
    assert re.match(line, refusal(Fed, server.x, tmp_path / "spool"))
    assert site.asked == []  # the token was not sent
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(
        InvalidInputError,
        match="certificate verify failed: .*not valid for '127.0.0.1'",
    ):
        Fed(server.x.replace("localhost", "127.0.0.1"), tmp_path / "spool")
    with Fed(server.x, tmp_path / "spool") as feed:
        until(lambda: feed.facts.posts)
    server.close()


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("whole", "line"),
    [
        ((), "{url} answers 404 Not Found: Not found"),
        (
            (200, "<html>", "text/html"),
            "{url} is a document (text/html), not a stream of posts",
        ),
        (
            (200, [{"id": "1"}]),
            "{url} is a document (application/json), not a stream of posts",
        ),
        (
            (409, {"title": "Conflict", "detail": "no rules"}),
            "{url} answers 409 Conflict: no rules",
        ),
    ],
)
def test_a_server_that_has_no_stream_is_one_line(
    whole, line, site, server, tmp_path, capsys
):
    url = server.x if whole else f"{server.url}/none"
    site.answers = [lambda handler: handler.whole(*whole)] if whole else []
    assert main(["feed", "posts", url, str(tmp_path / "spool")]) == 2
    assert capsys.readouterr().err == f"sparkstream: {line.format(url=url)}\n"


@pytest.mark.slow
@pytest.mark.usefixtures("token")
def test_what_does_not_answer_may_answer_later_but_a_server_without_tls_is_wrong(
    server, tmp_path, capsys
):
    for url, code in (
        ("https://no-such-host.invalid/", 75),
        (server.url.replace("http:", "https:"), 2),
    ):
        assert main(["feed", "posts", url, str(tmp_path / "spool")]) == code
        assert capsys.readouterr().err.startswith(
            f"sparkstream: {url} cannot be read: "
        )


@pytest.mark.usefixtures("token")
def test_words_that_make_no_sense_and_servers_without_a_stream_are_one_line(
    server, site, tmp_path, capsys, free_port
):
    file = tmp_path / "file"
    file.touch()
    spool = str(tmp_path / "spool")
    site.answers = [lambda handler: handler.whole(200, "<html>", "text/html")]
    nobody = (
        f"http://127.0.0.1:{free_port}/ cannot be read: Connection refused; correct the"
        " address, or try"
    )
    for words, line in (
        (
            ["api.x.com/2/stream", spool],
            "'api.x.com/2/stream' is no URL; did you mean https://api.x.com/2/str",
        ),
        (["https://[x", spool], "'https://[x' is no URL; write it like https://"),
        ([server.x], "Missing argument 'FOLDER'; see --help"),
        ([server.x, spool, spool], "Got unexpected extra argument"),
        ([server.x, spool, "--files", "3"], "No such option: --files"),
        ([spool, "--stall", "3"], "No such option: --stall"),
        (
            [server.x, spool, "--stall", "0"],
            "stall is 0.0 seconds; give a number above 0",
        ),
        (
            [server.x, str(file)],
            f"cannot write in {file} (File exists); give a folder for the posts",
        ),
        ([f"http://127.0.0.1:{free_port}/", spool], nobody),
        (
            ["http://no-such-host.invalid/", spool],
            "http://no-such-host.invalid/ would show the token",
        ),
        (
            [f"{server.url}/none", spool],
            f"{server.url}/none answers 404 Not Found: Not found",
        ),
        (
            [server.x, spool],
            f"{server.x} is a document (text/html), not a stream of posts",
        ),
    ):
        assert main(["feed", "posts", *words]) == (75 if line == nobody else 2), line
        said = capsys.readouterr().err
        assert line in said
        assert said.count("\n") == 1, said


# --- as a source


def test_the_columns_of_both_networks(spark, folder):
    entities = {"hashtags": [{"start": 0, "end": 6, "tag": "spark"}]}
    moment = "2010-01-01T12:00:00.000Z"
    tweet = {
        "data": {
            "id": "1",
            "created_at": moment,
            "text": "#spark",
            "entities": entities,
        }
    }
    tags = [{"name": "a"}, {"name": "b"}]
    status = {"id": "2", "created_at": moment, "content": "<p>#a #b</p>", "tags": tags}
    event = {"id": "4", "text": "y", "data": {"id": "order-7", "text": "z"}}
    lines = [
        json.dumps(each)
        for each in (tweet, status, {"data": {"id": "3", "text": "x"}}, event)
    ]
    (folder / "posts-1.jsonl").write_text("".join(f"{line}\n" for line in lines))
    frame = sources.posts(spark, folder)
    assert (
        frame.schema.simpleString()
        == "struct<id:string,created_at:timestamp,text:string,tags:array<string>,value:string>"
    )
    start(frame, sinks.memory("both"), availableNow=True).awaitTermination()
    noon = datetime(2010, 1, 1, 12)  # noqa: DTZ001 - in UTC
    assert [tuple(row) for row in spark.table("both").orderBy("id").collect()] == [
        ("1", noon, "#spark", ["spark"], lines[0]),
        ("2", noon, "<p>#a #b</p>", ["a", "b"], lines[1]),
        ("3", None, "x", None, lines[2]),
        ("4", None, "y", None, lines[3]),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("token")
def test_one_feeder_fills_the_spool_until_the_session_ends(
    spark, server, site, tmp_path, until, monkeypatch
):
    site.rate = 50
    frame = sources.posts(spark, server.x, spool=tmp_path / "spool", every=0.1)
    # For another query, the same feeder.
    again = sources.posts(spark, server.x, spool=tmp_path / "spool", every=0.1)
    assert len(site.asked) == 1
    assert again.schema == frame.schema
    with pytest.raises(
        InvalidInputError, match="another feeder fills .* already; stop it"
    ):
        sources.posts(spark, server.mastodon, spool=tmp_path / "spool")
    ids: list[str] = []
    sink = sinks.foreach_batch(
        lambda batch, _: ids.extend(row.id for row in batch.collect())
    )
    query = start(frame.select("id"), sink, name="ids", checkpoint=tmp_path / "ckpt")
    until(lambda: len(ids) > 200)
    query.stop()
    read_now = {post["data"]["id"] for post in read(tmp_path / "spool")}
    assert len(ids) == len(set(ids))
    assert set(ids) <= read_now
    with monkeypatch.context() as patch:
        patch.setattr(source, "has_ended", lambda _: True)
        until(lambda: site.counts.get("gone"))  # it has left
    # Of another session
    sources.posts(spark, server.x, spool=tmp_path / "spool", every=0.1)
    until(lambda: len(site.asked) == 2)
    # In a cell that is run again
    sources.posts(spark, server.x, spool=tmp_path / "spool", every=0.2)
    until(lambda: len(site.asked) == 3)


def test_a_source_that_cannot_be_had_is_one_line(spark, server, tmp_path, monkeypatch):
    monkeypatch.delenv("POSTS_TOKEN", raising=False)
    with pytest.raises(
        InvalidInputError,
        match="need a folder; give spool='posts', the same at each start",
    ):
        sources.posts(spark, server.x)
    said = refusal(
        sources.posts,
        spark,
        server.x,
        spool=tmp_path / "spool",
        token_env="OTHER",  # noqa: S106 - a name
    )
    assert re.search(
        r"answers 401 Unauthorized: .* the environment variable OTHER", said
    )
    with pytest.raises(
        InvalidInputError, match="is no URL; did you mean https://api.x.com/2/tweets"
    ):
        sources.posts(
            spark, "api.x.com/2/tweets/sample/stream", spool=tmp_path / "spool"
        )
    with pytest.raises(
        InvalidInputError, match=f"input folder {tmp_path}/none does not exist"
    ):
        sources.posts(spark, tmp_path / "none").schema  # noqa: B018
    with pytest.raises(
        InvalidInputError, match="is a folder, which another process fills; give t"
    ):
        sources.posts(spark, tmp_path, every=5)


# --- the flags of jobs


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--url", "api.x.com/2"], "'api.x.com/2' is no URL; did you mean https://api.x.com/2?"),
        (
            ["--url", "https://x.com/?token=hush"],
            "others can see a token in a URL; leave it out, and put it",
        ),
        (
            ["in", "--url", "https://x.com/"],
            "--url is in place of INPUT_DIR: leave out one of them",
        ),
        (
            ["--url", "https://x.com/", "--available-now"],
            "--available-now and --url exclude each other",
        ),
        (["--url", "https://x.com/", "--checkpoint", "c"], "--url with --checkpoint needs --spool"),
        (["in", "--spool", "s"], "--spool does nothing without --url; give both, or neither"),
        (
            ["--url", "https://x.com/", "--spool", "s", "--record", "s/r"],
            "--record s/r lies in the input",
        ),
        ([], "the following arguments are required: INPUT_DIR or --url; see --help"),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together_are_one_line(
    flags, line, folder, monkeypatch, capsys
):
    monkeypatch.chdir(folder.parent)
    assert hashtag_trends.main(flags) == 2
    said = capsys.readouterr().err
    assert line in said
    assert "hush" not in said


@pytest.mark.parametrize("there", [True, False])
def test_a_dry_run_asks_no_server(spark, server, site, tmp_path, *, there):
    spool = tmp_path / "spool"
    if there:
        spool.mkdir()
    given = ["--url", server.x, "--spool", str(spool), "--dry-run"]
    args = jobflags.parser(
        "A job.", *jobflags.LINES, *jobflags.POSTS, *jobflags.RUN
    ).parse_args(given)
    assert jobflags.lines(spark, args).columns == ["value"]
    assert (site.asked, spool.exists()) == ([], there)


def test_a_job_without_the_flag_of_a_dry_run_can_read_posts(
    spark, server, tmp_path, monkeypatch
):
    monkeypatch.delenv("POSTS_TOKEN", raising=False)
    given = ["--url", server.x, "--spool", str(tmp_path / "spool")]
    args = jobflags.parser("A job.", *jobflags.LINES, *jobflags.POSTS).parse_args(given)
    # So it has asked the server
    with pytest.raises(InvalidInputError, match="answers 401 Unauthorized"):
        jobflags.lines(spark, args)


def test_a_dry_run_names_no_temporary_folder(spark, server, site, capsys):
    @jobflags.exit_codes
    def main(argv):
        args = jobflags.parser("A job.", *jobflags.POSTS, *jobflags.RUN).parse_args(
            argv
        )
        query = start(
            jobflags.lines(spark, args),
            sinks.console(),
            name="dry",
            **jobflags.for_start(args),
        )
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))

    assert main(["--url", server.x, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "\n  input      files of a temporary folder\n" in out
    assert tempfile.gettempdir() not in out
    assert site.asked == []


@pytest.mark.slow
def test_the_raw_post_is_what_the_job_reads(spark, folder):
    status = {**posts_server.status(Site(), 4), "data": {"id": "order-7"}}
    (folder / "posts-1.jsonl").write_text(f"{tweet(Site(), 3)}\n{json.dumps(status)}\n")
    lines = spark.read.text(str(folder)).select(F.col("value"))
    rows = hashtag_trends.transform(
        lines, window="1 minute", slide="1 minute"
    ).collect()
    assert sorted((row.tag, row.posts) for row in rows) == [("tag3", 1), ("tag4", 1)]
