"""Be called when a verdict begins and when it has ended: by a function, or by a post to a URL."""

import json
import logging
import socketserver
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import HANGS, refusal
from support.recorded import OTHER, TOLD, progress

from sparkstream_kit import monitoring, quarantine, run, sinks, sources, start
from sparkstream_kit.monitoring import board, pictures, watching
from sparkstream_kit.verdicts import Verdict

WINDOWS = [each for each in TOLD if each["name"] == "action_windows"][-1]
BEGIN = datetime(2026, 1, 14, 9, tzinfo=UTC)
HUSH = "/services/T00/hush?sig=hush"  # as of a webhook: who knows it can post


class Query:
    """A query whose watermark is ahead of the clock in some batches, and who looks at it."""

    def __init__(self, call):
        self.faces = ExitStack()
        self.tell, [self.look] = self.faces.enter_context(
            watching([], print, on_verdict=call)
        )
        self.number, self.at = 0, BEGIN

    def batch(self, *, ahead, after, **of):
        """Add a batch that begins some seconds after the last one, and look at once.

        `of` is for another query.
        """
        self.number, self.at = self.number + 1, self.at + timedelta(seconds=after)
        mark = (
            self.at
            + timedelta(days=9 if ahead else -1)
            + timedelta(seconds=self.number)
        )
        times = {"watermark": written(mark)}
        changes = {
            "timestamp": written(self.at),
            "batchId": self.number,
            "eventTime": times,
        }
        state = [
            each | {"numRowsDroppedByWatermark": 0}
            for each in WINDOWS["stateOperators"]
        ]
        self.tell(progress(WINDOWS, **changes, stateOperators=state, **of))
        self.look(self.at)


def written(at):
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def test_a_verdict_that_comes_and_goes_calls_once():
    told: list[monitoring.Alert] = []
    query = Query(told.append)
    with query.faces:
        for _ in range(10):
            query.batch(ahead=False, after=10)
        assert told == []
        for _ in range(3):
            query.batch(ahead=True, after=10)
            [begun] = told
            assert begun.query == "action_windows"
            assert (begun.verdict.kind, begun.verdict.level) == ("watermark", "bad")
            assert begun.verdict.text.endswith(
                "windows.with_watermark sets such rows aside"
            ), "the fix"
            assert begun.ended is None
            for _ in range(9):  # more than a minute, and too few batches
                query.batch(ahead=False, after=3600)
        for _ in range(20):
            query.batch(ahead=True, after=1)
            for _ in range(12):  # batches enough, and less than a minute
                query.batch(ahead=False, after=1)
        assert len(told) == 1
        query.batch(ahead=False, after=47)
        assert len(told) == 1
        query.batch(ahead=False, after=1)
        [begun, ended] = told
        assert (ended.since, ended.ended) == (BEGIN + timedelta(seconds=110), query.at)
        assert str(ended).startswith(
            "ended: query action_windows: its watermark is at 2026-01-23 "
        )
        assert str(ended).endswith(" (since 2026-01-14 09:01:50 UTC)")
        query.batch(ahead=True, after=100)
        assert [each.ended is None for each in told] == [
            True,
            False,
            True,
        ], "it begins anew"


def test_the_batches_of_another_query_end_nothing():
    told: list[monitoring.Alert] = []
    query = Query(told.append)
    with query.faces:
        for number in range(40):
            query.batch(ahead=False, after=1, name="other", id=OTHER)
            if number < 11:
                query.batch(ahead=number == 9, after=1)
        for _ in range(3):
            query.batch(ahead=False, after=20, name="other", id=OTHER)
    [bad] = [each for each in told if each.verdict.level == "bad"]
    assert (bad.query, bad.verdict.kind, bad.ended) == (
        "action_windows",
        "watermark",
        None,
    )


@pytest.fixture
def broken(lines):
    """A stream of which each batch breaks a rule, so that its first batch has a verdict."""
    return quarantine.expect(lines, {"value = 'b'": "warn"})


def test_a_run_calls_in_its_thread_once(broken):
    told, before = [], datetime.now(UTC)
    query = start(broken, sinks.memory("called"), name="called", availableNow=True)
    summary = run(
        query, on_verdict=lambda alert: told.append((alert, threading.current_thread()))
    )
    [(alert, thread)] = told
    assert summary.queries[0].batches == 3
    assert thread is threading.main_thread()
    assert (alert.query, alert.verdict.kind) == ("called", "rule value = 'b'")
    assert before < alert.since < datetime.now(UTC)


def test_a_query_without_batches_is_told_of(spark, folder, monkeypatch):
    monkeypatch.setattr(board, "_SILENT", -60.0)
    query = start(sources.text(spark, folder), sinks.memory("silent"), name="silent")
    told = []

    def on_verdict(alert):
        told.append(alert.verdict.kind)
        query.stop()

    assert run(query, on_verdict=on_verdict, run_for=HANGS).ended_by == "query.stop()"
    assert told == ["silence"]


@pytest.mark.parametrize("when", ["in the run", "at its end"])
def test_what_on_verdict_raises_ends_the_run_as_of_on_batch(
    broken, tmp_path, monkeypatch, when
):
    trigger: dict[str, Any] = {"availableNow": True} if when == "at its end" else {}
    query = start(broken, sinks.memory("raises"), **trigger)
    if when == "at its end":  # no look while the run waits
        monkeypatch.setattr(
            "sparkstream_kit.runs._Run._wait", lambda _: query.awaitTermination()
        )

    def on_verdict(_):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(query, on_verdict=on_verdict, summary_json=tmp_path / "kept")
    assert not query.isActive
    assert (
        json.loads((tmp_path / "kept").read_text("utf-8"))["error"]
        == "LookupError: mine"
    )


# --- a URL


class Receiver(ThreadingHTTPServer):
    """A server that keeps what is posted, and answers with a status, or not at all."""

    daemon_threads = True

    def __init__(self, status=200):
        self.status, self.got, self.others = status, [], []
        self.came, self.answers = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}{HUSH}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(
            (self.path, self.headers["Content-Type"], json.loads(body))
        )
        self.server.came.set()
        if self.server.status == 0:
            self.server.answers.wait(HANGS)
        self.send_response(self.server.status or 200)
        self.send_header("Location", "/elsewhere?key=hush")
        self.end_headers()

    def do_GET(self):
        self.server.others.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def posted(url, caplog):
    """Let a verdict begin, with the alert posted to a URL, and return the log."""
    query = Query(url)
    with query.faces, caplog.at_level(logging.WARNING):
        for _ in range(10):
            query.batch(ahead=True, after=10)
    return caplog.messages


def test_an_alert_is_posted_as_json(caplog):
    with Receiver(204) as receiver:
        assert posted(receiver.url, caplog) == []
        assert "sparkstream-picture" not in {
            each.name for each in threading.enumerate()
        }, "it has ended, too"
        receiver.shutdown()
    [(path, kind, alert)] = receiver.got
    assert (path, kind) == (HUSH, "application/json")
    assert (
        alert["verdict"]
        .pop("text")
        .startswith("its watermark is at 2026-01-23 09:01 UTC, ahead of the")
    )
    assert alert == {
        "query": "action_windows",
        "verdict": {"level": "bad", "kind": "watermark"},
        "since": "2026-01-14T09:01:40+00:00",
        "ended": None,
    }


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (404, "HTTP Error 404: Not Found"),
        (302, "HTTP Error 302: Found"),
        (0, "timed out"),
    ],
)
def test_a_post_that_fails_is_a_line_in_the_log_without_the_url(
    status, why, monkeypatch, caplog
):
    if status == 0:  # it does not answer
        monkeypatch.setattr(monitoring, "_ANSWERS_WITHIN", 0.2)
    with Receiver(status) as receiver:
        [line] = posted(receiver.url, caplog)
        receiver.answers.set()
        receiver.shutdown()
    assert line.startswith(
        f"an alert was not posted to 127.0.0.1 ({why}): bad: query action"
    )
    assert "hush" not in line
    assert (len(receiver.got), receiver.others) == (
        1,
        [],
    ), "a redirect would lose the alert"


def test_nobody_listens(free_port, caplog):
    [line] = posted(f"http://127.0.0.1:{free_port}{HUSH}", caplog)
    assert "Connection refused" in line
    assert "hush" not in line


def test_a_dead_receiver_neither_blocks_nor_fails_a_run(broken, monkeypatch):
    monkeypatch.setattr(monitoring, "_ANSWERS_WITHIN", HANGS)
    monkeypatch.setattr(pictures, "_END_LIMIT", 0.1)
    query = start(broken, sinks.memory("dead"), name="dead", availableNow=True)
    began = time.monotonic()
    with Receiver(0) as receiver:
        summary = run(query, on_verdict=receiver.url)
        assert not receiver.answers.is_set()
        assert receiver.came.wait(HANGS)
        receiver.answers.set()
        receiver.shutdown()
    assert time.monotonic() - began < HANGS, "the receiver was waited for"
    assert (summary.ended_by, summary.queries[0].batches) == ("end of input", 3)


class Raw(socketserver.StreamRequestHandler):
    """Answers a post with raw bytes, or with a header line now and then until it is to end."""

    answer: bytes | None = None
    over = threading.Event()

    def handle(self):
        while self.rfile.readline().strip():
            pass
        if self.answer is not None:
            self.wfile.write(self.answer)
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        with suppress(OSError):
            while not self.over.wait(0.05):
                self.wfile.write(b"X-More: 1\r\n")


@contextmanager
def raw_server(answer):
    handler: Any = type(
        "Handler", (Raw,), {"answer": answer, "over": threading.Event()}
    )
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{HUSH}"
        finally:
            handler.over.set()
            server.shutdown()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 403 \x1b[31mred\r\n\r\n", b"\x00\xff\r\n\x1b[31m\r\n", None]
)
def test_an_answer_without_end_or_with_odd_characters_is_one_plain_line(
    answer, monkeypatch, caplog
):
    monkeypatch.setattr(monitoring, "_ANSWERS_WITHIN", 0.2)
    monkeypatch.setattr(monitoring, "_SLACK", 0.2)
    with raw_server(answer) as url:
        [line] = posted(url, caplog)
    assert line.isprintable()
    assert line.startswith("an alert was not posted to 127.0.0.1 (")
    if answer is None:
        assert "(no answer within 0.2 seconds)" in line


def test_alerts_that_wait_when_the_run_ends_are_said_one_by_one(
    monkeypatch, caplog, until
):
    monkeypatch.setattr(monitoring, "_ANSWERS_WITHIN", HANGS)
    monkeypatch.setattr(pictures, "_END_LIMIT", 0.1)
    verdict = Verdict("bad", "falling behind", "backlog")
    before = {*threading.enumerate()}
    with Receiver(0) as receiver, caplog.at_level(logging.WARNING):
        posts = monitoring._AlertPosts(receiver.url)  # noqa: SLF001
        with ExitStack() as faces:
            faces.callback(posts.give_up)
            faces.enter_context(pictures.drawing(posts.post_all))
            faces.callback(posts.add, None)
            for number in range(3):
                posts.add(monitoring.Alert(f"q{number}", verdict, BEGIN))
            assert receiver.came.wait(HANGS)
        receiver.answers.set()
        until(
            lambda: (
                not [
                    each
                    for each in {*threading.enumerate()} - before
                    if "picture" in each.name
                ]
            )
        )
        # What was said not to be posted is not posted later
        assert len(receiver.got) == 1
        receiver.shutdown()
    said = (
        "an alert was not posted to 127.0.0.1 (the run ended before there was an"
        " answer): bad: query q{}: "
    )
    begins = [said.format(number) for number in range(3)]
    assert [line[: len(said) - 1] for line in caplog.messages] == begins


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host{HUSH}",
        f"host{HUSH}",
        f"https:{HUSH}",
        f"https://me:hush@host{HUSH}",
        "",
    ],
)
def test_a_url_that_takes_no_post_is_refused_unseen(url):
    with ExitStack() as faces:
        said = refusal(lambda: faces.enter_context(watching([], print, on_verdict=url)))
    assert (
        said == "on_verdict (--alert-url) is no URL, or one with a password; give"
        " https://HOST/PATH"
    )
