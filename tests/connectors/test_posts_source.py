"""The feeder of `sources.posts`, step by step: its connections, its timeline, and its end.

The connection and the spool are played; what a feeder makes of a server is in test_posts.py.
"""

# ruff: noqa: SLF001 - the steps are the feeder's own
import http.client
import json
import logging
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from sqlite3 import OperationalError
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import SparkSession

from sparkstream_kit import sources
from sparkstream_kit._internal.threads import in_thread as in_thread_of_the_kit
from sparkstream_kit.connectors.posts import source, wire
from sparkstream_kit.connectors.posts.spool import Facts
from sparkstream_kit.connectors.posts.wire import Message, Token, TurnedAway
from sparkstream_kit.errors import InvalidInputError, TransientError

NOW = 1000.0
URL = "https://m.example/api/v1/streaming/public"
TIMELINE = "https://m.example/api/v1/timelines/public"
TOKEN = Token("POSTS_TOKEN", "hush")


class Spooled:
    """A spool that keeps what is asked of it, in memory."""

    def __init__(self, folder, say):
        self.folder, self.say = folder, say
        self.facts = Facts()
        self.calls: list[Any] = []
        self.lands: list[Exception | None] = []

    def note_connection(self, **given):
        self.calls.append(("connection", given))

    def take(self, message, *, later=False):
        self.calls.append(("take", message, later))

    def left_at(self, post):
        self.calls.append(("left at", post))
        self.facts.behind = post

    def land(self):
        self.calls.append("land")
        error = self.lands.pop(0) if self.lands else None
        if error is not None:
            raise error

    def close(self):
        self.calls.append("close")


class Connection:
    """A connection that has these messages, and then ends or fails."""

    def __init__(self, *messages, error=None):
        self.closed = 0
        self._messages, self._error = messages, error

    def messages(self):
        yield from self._messages
        if self._error is not None:
            raise self._error

    def close(self):
        self.closed += 1


class Stops:
    """An event that is set when it has been waited for so often; how long each wait was."""

    def __init__(self, after):
        self.after = after
        self.waits: list[float] = []

    def wait(self, seconds):
        self.waits.append(seconds)
        return self.is_set()

    def is_set(self):
        return len(self.waits) > self.after

    def set(self):
        self.after = -1


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    clock = SimpleNamespace(now=NOW)
    monkeypatch.setattr(source, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Web:
    """What the feeder connects to: connections, or errors in their place, in order."""

    def __init__(self):
        self.asked: list[Any] = []
        self.answers: list[Any] = []

    def stream(self, url, token, *, stall, event):
        self.asked.append((url, token, stall, event))
        answer = self.answers.pop(0) if self.answers else Connection()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def web(monkeypatch, clock):
    """The connections of the test, and a spool in memory."""
    web = Web()
    monkeypatch.setattr(source, "Stream", web.stream)
    monkeypatch.setattr(source, "Spool", Spooled)
    return web


def feeder_of(web, *answers, **given) -> Any:
    """Return a feeder whose first connection is the first answer, and what it says."""
    web.answers = list(answers)
    said: list[str] = []
    feeder: Any = source.Feeder(
        **{"url": URL, "folder": "in", "token": TOKEN, "say": said.append, **given}
    )
    feeder.said = said
    feeder._spool.calls.clear()
    return feeder


# --- a feeder starts


def test_a_feeder_connects_at_once(web):
    connection = Connection()
    feeder = feeder_of(web, connection, stall=7.0)
    assert web.asked == [(URL, TOKEN, 7.0, None)]
    assert feeder._stream is connection
    assert feeder._timeline == TIMELINE
    assert (feeder._refusal, feeder._broken, feeder._unwritten) == (None, None, "")
    assert feeder.facts is feeder._spool.facts
    assert feeder.said == []


def test_the_timeline_is_that_of_the_user_or_of_the_stream(web):
    own = "https://other.example/timeline"
    assert feeder_of(web, timeline=own)._timeline == own
    assert feeder_of(web, url="https://x.example/stream")._timeline is None


def test_a_spool_with_an_event_is_resumed(web):
    feeder = feeder_of(web)
    feeder.facts.event = "7"
    feeder._connected()
    assert web.asked[-1] == (URL, TOKEN, 30.0, "7")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "no"}, "'no' is no URL; did you mean https://no?"),
        (
            {"timeline": "http://h/t"},
            "http://h/t would show the token to everyone on the way; give https://",
        ),
        ({"every": 0}, "every is 0 seconds; give a number above 0"),
        ({"stall": -1.0}, "stall is -1.0 seconds; give a number above 0"),
        ({"stall": float("nan")}, "stall is nan seconds; give a number above 0"),
    ],
    ids=["an address", "a timeline", "no pace", "a silence", "no number"],
)
def test_what_cannot_be_fed_is_refused_before_it_is_asked_for(web, given, said):
    assert refusal(feeder_of, web, **given) == said
    assert web.asked == []


def test_the_smallest_pace_is_taken(web):
    assert feeder_of(web, every=1e-9, stall=1e-9)._every == 1e-9


@pytest.mark.parametrize(
    ("error", "said", "kind"),
    [
        (TurnedAway(401, "no entry"), "no entry", InvalidInputError),
        (
            ConnectionRefusedError(111, "Connection refused"),
            (
                f"{URL} cannot be read: Connection refused; correct the address, or try"
                " again later"
            ),
            TransientError,
        ),
        (
            http.client.HTTPException("odd"),
            f"{URL} cannot be read: odd; correct the address, or try again later",
            TransientError,
        ),
        (
            ssl.SSLError(1, "self-signed"),
            (
                f"{URL} cannot be read: self-signed; correct the address, or try again"
                " later"
            ),
            InvalidInputError,
        ),
    ],
    ids=["turned away", "nobody", "no HTTP", "a certificate"],
)
def test_a_first_connection_that_fails_ends_the_feeder(
    web, monkeypatch, error, said, kind
):
    made: list[Any] = []

    def spooled(folder, say):
        made.append(Spooled(folder, say))
        return made[0]

    monkeypatch.setattr(source, "Spool", spooled)
    with pytest.raises(InvalidInputError) as err:
        feeder_of(web, error)
    assert (str(err.value), type(err.value)) == (said, kind)
    assert err.value.__suppress_context__
    assert made[0].calls == ["close"]


def test_a_first_answer_that_passes_is_waited_for(web):
    error = TurnedAway(503, "busy")
    feeder = feeder_of(web, error)
    assert feeder._stream is None
    assert feeder._refusal is error
    assert feeder.said == ["busy; next try in 5.0 s"]
    assert feeder._spool.calls == []


def test_a_servers_text_is_shown_printable(web):
    feeder = feeder_of(web)
    feeder._say("a\x1b[2J")
    assert feeder.said == ["a\\u001b[2J"]
    feeder._spool.say("b\x1b")
    assert feeder.said[1:] == ["b\\u001b"]


# --- writing what has arrived


def test_what_has_arrived_lands(web):
    feeder = feeder_of(web)
    feeder._unwritten = "before"
    feeder._land()
    assert feeder._spool.calls == ["land"]
    assert feeder._unwritten == ""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("odd"), "odd"),
        (OperationalError("database is locked"), "database is locked"),
    ],
    ids=["of the system", "another", "of the database"],
)
def test_what_cannot_be_written_is_told_once(web, error, reason):
    feeder = feeder_of(web)
    feeder._spool.lands = [error, error, None, error]
    trouble = f"cannot write in in ({reason})"
    feeder._land()
    feeder._land()
    assert feeder.said == [f"{trouble}; it is tried again"]
    assert feeder._unwritten == trouble
    feeder._land()
    assert feeder._unwritten == ""
    feeder._land()
    assert len(feeder.said) == 2


def test_what_cannot_be_written_at_the_end_is_lost(web):
    feeder = feeder_of(web)
    feeder._stop.set()
    error = OSError(28, "No space left on device")
    feeder._spool.lands = [error]
    with pytest.raises(InvalidInputError) as err:
        feeder._land()
    assert str(err.value) == (
        "cannot write in in (No space left on device); the posts of the last moments"
        " are lost"
    )
    assert err.value.__cause__ is error
    assert feeder.said == []


def test_a_connection_is_ended_if_there_is_one(web):
    connection = Connection()
    feeder = feeder_of(web, connection)
    feeder._hang_up()
    assert connection.closed == 1
    feeder._stream = None
    feeder._hang_up()
    assert connection.closed == 1


class Thread:
    """A thread that lives until it was waited for so often; how long each wait was."""

    def __init__(self, lives=0, at_join: Callable[[], object] = list):
        self.lives, self.at_join = lives, at_join
        self.joined: list[float] = []

    def is_alive(self):
        return len(self.joined) < self.lives

    def join(self, seconds):
        self.joined.append(seconds)
        self.at_join()


def run_with(feeder, monkeypatch, thread, stop) -> Any:
    """Return what `run` returns, whose reading thread is played."""
    started: list[Any] = []

    def in_thread(name, function):
        started.append((name, function))
        return thread

    monkeypatch.setattr(source, "in_thread", in_thread)
    try:
        return feeder.run(stop)
    finally:
        assert started == [("posts", feeder._read)]
        assert stop.is_set()
        assert feeder._spool.calls[-1] == "close"


def test_a_run_lands_at_each_pace_and_at_its_end(web, monkeypatch):
    connection, stop = Connection(), Stops(2)
    feeder = feeder_of(web, connection, every=0.25)
    assert run_with(feeder, monkeypatch, Thread(), stop) is feeder.facts
    assert stop.waits == [0.25] * 3
    assert feeder._stop is stop
    assert feeder._spool.calls == ["land", "land", "land", "close"]
    assert connection.closed == 1


def test_a_run_hangs_up_until_its_thread_has_ended(web, monkeypatch):
    connection, thread = Connection(), Thread(3)
    feeder = feeder_of(web, connection)
    run_with(feeder, monkeypatch, thread, Stops(0))
    assert thread.joined == [0.1] * 3
    assert connection.closed == 4


@pytest.mark.parametrize(("passed", "joins"), [(4.9, 2), (5, 1)])
def test_a_run_waits_five_seconds_for_its_thread(
    web, monkeypatch, clock, passed, joins
):
    def at_join():
        clock.now += passed

    thread = Thread(99, at_join)
    run_with(feeder_of(web), monkeypatch, thread, Stops(0))
    assert len(thread.joined) == joins


def test_what_has_ended_the_reading_is_raised_once_all_has_landed(web, monkeypatch):
    feeder = feeder_of(web)
    feeder._broken = LookupError("mine")
    with pytest.raises(LookupError, match="mine"):
        run_with(feeder, monkeypatch, Thread(), Stops(0))
    assert feeder._spool.calls == ["land", "close"]


def test_a_spool_is_closed_though_the_last_posts_cannot_be_written(web, monkeypatch):
    feeder = feeder_of(web)
    feeder._spool.lands = [OSError("full")]
    with pytest.raises(InvalidInputError, match="of the last moments are lost"):
        run_with(feeder, monkeypatch, Thread(), Stops(0))


def test_an_interrupt_while_the_thread_starts_ends_the_run(web, monkeypatch):
    connection, stop = Connection(), Stops(9)
    feeder = feeder_of(web, connection)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "in_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        feeder.run(stop)
    assert stop.is_set()
    assert connection.closed == 1
    assert feeder._spool.calls == ["land", "close"]


# --- the connections


def test_an_error_of_the_reading_ends_the_feeder(web, monkeypatch):
    feeder = feeder_of(web)
    error = LookupError("mine")

    def fails():
        raise error

    monkeypatch.setattr(feeder, "_connect_again_and_again", fails)
    feeder._read()
    assert feeder._broken is error
    assert feeder._stop.is_set()


def test_the_reading_connects(web, monkeypatch):
    feeder = feeder_of(web)
    called: list[str] = []
    monkeypatch.setattr(
        feeder, "_connect_again_and_again", lambda: called.append("called")
    )
    feeder._read()
    assert called == ["called"]
    assert feeder._broken is None
    assert not feeder._stop.is_set()


def connecting(feeder, clock, stop, *lasted):
    """Let a feeder connect until it stops; each connection lasts so many seconds."""
    left = list(lasted)
    follow = feeder._follow

    def followed(stream):
        clock.now += left.pop(0)
        follow(stream)

    feeder._stop = stop
    feeder._follow = followed
    feeder._connect_again_and_again()


def test_a_connection_that_has_ended_is_made_again(web, clock):
    first, second = Connection(), Connection(error=OSError(104, "reset"))
    feeder = feeder_of(web, first, second, Connection())
    stop = Stops(3)
    connecting(feeder, clock, stop, 5, 4.9, 4.9)
    assert stop.waits == [0, 0, 0.25, 0.5]
    assert feeder.said == [
        "the connection has ended; next try now",
        "the connection has ended: reset; next try in 0.2 s",
        "the connection has ended; next try in 0.5 s",
    ]
    assert len(web.asked) == 3
    assert (first.closed, second.closed) == (1, 1)
    assert feeder._stream is None


def test_a_connection_that_cannot_be_made_is_tried_again(web, clock):
    feeder = feeder_of(
        web,
        TurnedAway(503, "busy"),
        TurnedAway(503, "busy"),
        OperationalError("locked"),
    )
    stop = Stops(2)
    connecting(feeder, clock, stop)
    assert stop.waits == [5, 10, 0.75]
    assert feeder.said[1:] == [
        "busy; next try in 10.0 s",
        "the connection has ended: locked; next try in 0.8 s",
    ]


def test_a_refusal_counts_as_a_failure_though_it_came_late(web, clock):
    feeder = feeder_of(web, Connection(error=TurnedAway(503, "busy")))
    stop = Stops(1)
    connecting(feeder, clock, stop, 60)
    assert stop.waits == [0, 5]


def test_a_feeder_that_stops_says_nothing_of_its_connection(web, clock):
    connection = Connection()
    feeder = feeder_of(web, connection)
    stop = Stops(5)
    feeder._follow = lambda stream: stop.set()
    feeder._stop = stop
    feeder._connect_again_and_again()
    assert feeder.said == []
    assert connection.closed == 1
    assert feeder._stream is None


def test_another_error_is_no_end_of_a_connection(web):
    feeder = feeder_of(web, Connection(error=LookupError("mine")))
    feeder._stop = Stops(9)
    with pytest.raises(LookupError):
        feeder._connect_again_and_again()


@pytest.mark.parametrize(
    ("error", "failures", "line"),
    [
        (None, 0, "the connection has ended; next try now"),
        (None, 8000, "the connection has ended; next try in 16.0 s"),
        (OSError(5, "lost"), 0, "the connection has ended: lost; next try now"),
        (TurnedAway(429, "slow down"), 3, "slow down; next try in 240.0 s"),
    ],
)
def test_the_end_of_a_connection_is_told_with_the_next_try(web, error, failures, line):
    assert feeder_of(web)._again(error, failures) == line


# --- the messages


def post(number):
    return Message("post", str(number), b'{"id": "%d"}' % number)


def test_the_messages_of_a_connection_go_to_the_spool(web, clock):
    feeder = feeder_of(web, url=f"{URL}?backfill_minutes=2")
    feeder._follow(Connection(post(1), post(2)))
    assert feeder._spool.calls == [
        ("connection", {"has_timeline": True, "resumes": 120.0}),
        ("take", post(1), False),
        ("take", post(2), False),
    ]
    assert feeder._ask_at == NOW + 1


def test_a_connection_without_a_timeline_is_noted_so(web):
    feeder = feeder_of(web, url="https://x.example/stream")
    feeder._follow(Connection())
    assert feeder._spool.calls == [
        ("connection", {"has_timeline": False, "resumes": 0.0})
    ]


@pytest.mark.parametrize(
    ("behind", "later", "times"),
    [("", 60, 0), ("7", 0.9, 0), ("7", 1, 2)],
    ids=["nothing missed", "too early", "at its time"],
)
def test_what_was_missed_is_fetched_once_the_connection_is_a_second_old(
    web, clock, behind, later, times
):
    feeder = feeder_of(web)
    feeder.facts.behind = behind
    caught: list[Any] = []
    feeder._catch_up = lambda: caught.append(len(feeder._spool.calls))
    take = feeder._take

    def taken(message):
        clock.now = NOW + later
        take(message)

    feeder._take = taken
    feeder._follow(Connection(post(1), post(2)))
    assert caught == [2, 3][:times]


def test_no_message_is_taken_while_the_spool_cannot_be_written(web):
    feeder = feeder_of(web)
    waits: list[float] = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            feeder._unwritten = ""
        return False

    feeder._stop = SimpleNamespace(wait=wait)
    feeder._take(post(1))
    assert waits == []
    feeder._unwritten = "full"
    feeder._take(post(2), later=True)
    assert waits == [0.1] * 3
    assert feeder._spool.calls == [("take", post(1), False), ("take", post(2), True)]


def test_a_stop_ends_the_wait_for_the_spool(web):
    feeder = feeder_of(web)
    feeder._unwritten = "full"
    feeder._stop = Stops(1)
    feeder._take(post(1))
    assert feeder._stop.waits == [0.1] * 2
    assert feeder._spool.calls == [("take", post(1), False)]


# --- the timeline


def catching_up(web, *pages, behind="5", stop=None, **given) -> Any:
    """Return a feeder that has read these pages of its timeline, and what it asked for."""
    feeder = feeder_of(web, **given)
    feeder.facts.behind = behind
    feeder.asked = []
    left = list(pages)
    if stop is not None:
        feeder._stop = stop

    def page(after):
        feeder.asked.append(after)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return [post(number) for number in found]

    feeder._page = page
    feeder._catch_up()
    return feeder


def test_a_timeline_is_read_page_by_page_up_to_the_post_that_was_the_newest(web):
    feeder = catching_up(web, [8, 9, 10], [6, 7], [8, 9, 10], [11])
    assert feeder.asked == ["", "5", "7"]
    assert feeder._spool.calls == [
        ("take", post(6), True),
        ("take", post(7), True),
        ("left at", "5"),
        ("take", post(8), True),
        ("take", post(9), True),
        ("take", post(10), True),
        ("left at", "5"),
        ("left at", ""),
    ]
    assert feeder._ask_at == NOW + 5


def test_a_timeline_is_read_until_a_page_is_empty(web):
    feeder = catching_up(web, [], [])
    assert feeder.asked == ["", "5"]
    assert feeder._spool.calls == [("left at", "")]
    further = catching_up(web, [9], [6], [])
    assert further.asked == ["", "5", "6"]


def test_the_next_reading_starts_200_posts_before_the_end_of_this_one(web):
    numbers = [*range(6, 206)]
    feeder = catching_up(web, [999], numbers, [206], [])
    left = [call[1] for call in feeder._spool.calls if call[0] == "left at"]
    assert left == ["6", "7", ""]


def test_a_stop_leaves_the_rest_of_a_timeline_to_the_next_feeder(web):
    stop = threading.Event()
    stop.set()
    feeder = catching_up(web, [9], stop=stop)
    assert feeder.asked == [""]
    assert feeder._spool.calls == []
    assert feeder.facts.behind == "5"


@pytest.mark.parametrize(
    ("error", "ask_at", "timeline", "said"),
    [
        (TurnedAway(503, "busy"), 5, TIMELINE, []),
        (TurnedAway(429, "slow"), 60, TIMELINE, []),
        (OSError("lost"), 5, TIMELINE, []),
        (http.client.HTTPException("odd"), 5, TIMELINE, []),
    ],
    ids=["busy", "too often", "lost", "no HTTP"],
)
def test_an_error_that_passes_leaves_the_timeline_for_later(
    web, error, ask_at, timeline, said
):
    feeder = catching_up(web, [9], error)
    assert feeder._ask_at == NOW + ask_at
    assert feeder._timeline == timeline
    assert feeder.said == said
    assert feeder._spool.calls == []
    assert feeder.facts.behind == "5"


def test_a_timeline_that_is_refused_is_told_and_not_asked_again(web):
    feeder = catching_up(web, TurnedAway(404, "no timeline"))
    assert feeder.said == [
        "no timeline: what comes while there is no connection is missed"
    ]
    assert feeder._timeline is None
    assert feeder._spool.calls == [("left at", "")]


@pytest.mark.parametrize(
    ("timeline", "after", "url"),
    [
        (None, "", f"{TIMELINE}?limit=40"),
        (None, "7", f"{TIMELINE}?min_id=7&limit=40"),
        ("https://h/t?a=b", "7", "https://h/t?a=b&min_id=7&limit=40"),
    ],
    ids=["the newest", "after a post", "with a query"],
)
def test_a_page_has_the_posts_after_an_id(web, monkeypatch, timeline, after, url):
    asked: list[Any] = []

    def fetch(url, token, *, timeout):
        asked.append((url, token, timeout))
        return [{"id": "10"}, {"id": 9}, {"id": "7"}, 5, {}, {"id": "x" * 1001}]

    monkeypatch.setattr(wire, "fetch", fetch)
    feeder = feeder_of(web, timeline=timeline, stall=3.0)
    found = feeder._page(after)
    assert asked == [(url, TOKEN, 3.0)]
    expected = [
        Message("post", "9", b'{"id": 9}'),
        Message("post", "10", b'{"id": "10"}'),
    ]
    if not after:
        expected.insert(0, Message("post", "7", b'{"id": "7"}'))
    assert found == expected


def test_an_id_of_a_thousand_characters_is_one(web, monkeypatch):
    page = [{"id": "x" * 1000}]
    monkeypatch.setattr(wire, "fetch", lambda *_, **__: page)
    [found] = feeder_of(web)._page("7")
    assert (found.id, json.loads(found.line)) == ("x" * 1000, page[0])


def test_what_is_no_list_is_no_timeline(web, monkeypatch):
    monkeypatch.setattr(wire, "fetch", lambda *_, **__: {})
    with pytest.raises(TurnedAway) as err:
        feeder_of(web)._page("")
    assert (err.value.status, err.value.line) == (200, f"{TIMELINE} is no timeline")


# --- the feeder of a session


class Fed:
    """A feeder that runs until its end, or fails."""

    made: list[Any]
    error: Exception | None = None

    def __init__(self, url, folder, *, say, **options):
        self.given = (url, folder, options)
        self.say = say
        self.made.append(self)

    def run(self, stop):
        stop.wait(20)
        if self.error is not None:
            raise self.error
        return Facts(posts=3, files=2)


@pytest.fixture
def fed(monkeypatch):
    """The feeders that sessions start; no session ends by itself."""

    class OfThisTest(Fed):
        made: list[Any] = []  # noqa: RUF012 - of this test

    registered: list[Any] = []
    monkeypatch.setattr(source, "Feeder", OfThisTest)
    monkeypatch.setattr(source, "has_ended", lambda spark: spark == "ended")
    monkeypatch.setattr(source, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(source, "_feeding", {})
    monkeypatch.setattr(source, "atexit", SimpleNamespace(register=registered.append))
    yield SimpleNamespace(kind=OfThisTest, made=OfThisTest.made, registered=registered)
    for end in registered:
        end()


def feeding_of(spark="session", options=None) -> Any:
    return source._Feeding(spark, URL, Path("in"), options or {"every": 1.0})


def test_a_feeder_runs_until_it_is_told_to_end(fed, caplog):
    feeding = feeding_of()
    [feeder] = fed.made
    assert feeder.given == (URL, Path("in"), {"every": 1.0})
    assert fed.registered == [feeding.end]
    assert feeding.lives is True
    feeder.say("a line")
    feeding.end()
    assert feeding.lives is False
    assert caplog.messages == [
        f"posts of {URL}: a line",
        f"posts of {URL}: 3 posts in 2 files",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_feeder_ends_with_its_session(fed, until):
    feeding = feeding_of("ended")
    until(lambda: not feeding._thread.is_alive())
    assert feeding._over.is_set()


def test_a_feeder_that_fails_says_so(fed, caplog):
    fed.kind.error = InvalidInputError("full")
    feeding = feeding_of()
    feeding.end()
    assert caplog.messages == [f"posts of {URL}: full; the feeder has ended"]
    assert caplog.records[0].levelno == logging.ERROR


def test_a_feeder_does_the_same_for_the_same_arguments(fed):
    feeding = feeding_of(options={"every": 1.0})
    assert feeding.feeds(URL, {"every": 1.0}) is True
    assert feeding.feeds(URL, {"every": 2.0}) is False
    assert feeding.feeds("https://other", {"every": 1.0}) is False


def test_a_feeder_that_was_told_to_end_has_ten_seconds(fed):
    feeding = feeding_of()
    feeding._thread.is_alive()
    real = feeding._thread
    feeding._thread = Thread(2)
    assert feeding.lives is True
    assert feeding._thread.joined == []
    feeding._over.set()
    assert feeding.lives is True
    assert feeding._thread.joined == [10.0]
    feeding.end()
    assert feeding._thread.joined == [10.0] * 2
    real.join()


def test_a_thread_that_does_not_start_ends_the_feeder(fed, monkeypatch):
    started: list[Any] = []
    real = in_thread_of_the_kit

    def in_thread(name, function):
        if name == "session":
            raise RuntimeError("no thread")
        started.append(real(name, function))
        return started[0]

    monkeypatch.setattr(source, "in_thread", in_thread)
    with pytest.raises(RuntimeError, match="no thread"):
        feeding_of()
    started[0].join(20)
    assert not started[0].is_alive()
    assert fed.registered == []


# --- a spool has one feeder in a process


@pytest.fixture
def fill(fed, monkeypatch, tmp_path):
    """A function that has a spool fed, as `sources.posts` does."""
    refused: list[Any] = []
    monkeypatch.setattr(
        source, "locate", lambda spark, path: SimpleNamespace(folder=Path(path))
    )
    monkeypatch.setattr(
        source, "refuse_many_disks", lambda *given: refused.append(given)
    )

    def filled(spark="session", url=URL, spool: Any = tmp_path, every=1.0):
        refused.clear()
        found = source._fed(spark, url, spool, {"every": every})
        assert found == str(spool)
        assert refused == [(spark, "spool", str(spool))]
        return source._feeding[spool]

    return filled


def test_a_url_needs_a_spool(fed):
    said = refusal(source._fed, "session", URL, None, {})
    assert said == (
        f"posts of {URL} need a folder; give spool='posts', the same at each start"
    )


def test_a_spool_that_spark_does_not_read_is_refused(fed, monkeypatch):
    monkeypatch.setattr(source, "locate", lambda *_: SimpleNamespace(folder=None))
    said = refusal(source._fed, "session", URL, "s3://in", {})
    assert said == (
        "spool s3://in: this Spark does not read this machine's disks; run sparkstream"
        " feed posts URL FOLDER where it does, and give the FOLDER in place of the URL"
    )


def test_a_feeder_that_does_the_same_goes_on_for_the_new_session(fed, fill):
    first = fill("one")
    assert fill("two") is first
    assert first.spark == "two"
    assert len(fed.made) == 1


def test_a_feeder_of_the_same_stream_with_another_pace_is_replaced(fed, fill):
    first = fill()
    second = fill(every=2.0)
    assert second is not first
    assert not first._thread.is_alive()
    assert second._thread.is_alive()


def test_a_feeder_that_has_ended_is_started_again(fed, fill):
    first = fill()
    first.end()
    assert fill() is not first


def test_the_feeder_of_another_stream_is_not_ended(fed, fill):
    first = fill()
    other = fill(url="https://x.example/stream")
    assert other is not first
    assert first._thread.is_alive()
    first.end()


def test_two_spools_have_two_feeders(fed, fill, tmp_path):
    assert fill() is not fill(spool=tmp_path / "other")


# --- the arguments


class Asked(Exception):  # noqa: N818 - no error
    """The folder was to be read by Spark."""


@pytest.fixture
def asks(monkeypatch):
    """A function that calls `posts`, and returns what Spark is to read and what is fed."""
    fed: list[Any] = []

    def feed(spark, url, spool, options):
        fed.append((url, spool, options))
        return "the spool"

    def text(spark, place, **options):
        raise Asked(place, options)

    monkeypatch.setattr(source, "_fed", feed)
    monkeypatch.setattr(source, "text", text)
    monkeypatch.setenv("MINE", "hush")
    monkeypatch.delenv("POSTS_TOKEN", raising=False)

    def asked(url, **given):
        fed.clear()
        session = object.__new__(SparkSession)  # without a JVM, which nobody asks for
        with pytest.raises(Asked) as raised:
            source.posts(session, url, **given)
        return (*raised.value.args, list(fed))

    return asked


ALL = {"token": Token("POSTS_TOKEN"), "timeline": None, "every": 1.0, "stall": 30.0}


def test_a_url_is_fed_and_a_folder_is_read(asks):
    every = {"max_files_per_trigger": None}
    assert asks(URL) == ("the spool", every, [(URL, None, ALL)])
    assert asks("in/") == ("in/", every, [])
    assert asks(Path("in"), max_files_per_trigger=3, maxFileAge="1d") == (
        "in",
        {"max_files_per_trigger": 3, "maxFileAge": "1d"},
        [],
    )
    # What is no URL is told by the feeder
    assert asks("x.example", spool="in") == (
        "the spool",
        every,
        [("x.example", "in", ALL)],
    )


def test_a_feeder_has_the_arguments(asks):
    given = {"timeline": "https://t", "every": 2.0, "stall": 3.0}
    [_, _, fed] = asks(URL, spool="in", token_env="MINE", **given)  # noqa: S106 - a name
    assert fed == [(URL, "in", {"token": Token("MINE", "hush"), **given})]


@pytest.mark.parametrize(
    "given",
    [{"timeline": "https://t"}, {"token_env": "MINE"}, {"every": 2}, {"stall": 3}],
)
def test_a_folder_takes_no_arguments_of_a_feeder(given):
    session = object.__new__(SparkSession)
    assert refusal(source.posts, session, "in", **given) == (
        "in is a folder, which another process fills; give timeline, token_env, every"
        " and stall to its feeder, sparkstream feed posts"
    )


def test_arguments_of_another_type_are_refused():
    session = object.__new__(SparkSession)
    said = refusal(sources.posts, session, URL, spool=5)
    assert said == "sources.posts(): spool is 5; give a path"
