"""The views of a run step by step, without Spark: what is opened, kept, told and posted."""

# ruff: noqa: SLF001 - the steps of the package are its own
import json
import threading
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from support.pictures import AT, picture
from support.played import Played
from support.recorded import progress

from sparkstream_kit import monitoring
from sparkstream_kit._internal.threads import in_thread
from sparkstream_kit.errors import QueryFailed
from sparkstream_kit.monitoring import Alert, notebook, page, terminal, watching
from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.progress import QuerySummary, RunSummary
from sparkstream_kit.verdicts import Verdict

BAD = Verdict("bad", "it falls behind", "backlog")
WARN = Verdict("warn", "it is slow", "slow")


def test_an_alert_is_a_line():
    alert = Alert("sales", BAD, AT)
    since = "(since 2026-01-14 09:00:00 UTC)"
    assert str(alert) == f"bad: query sales: it falls behind {since}"
    ended = Alert("sales", WARN, AT, AT + timedelta(hours=1))
    assert str(ended) == f"ended: query sales: it is slow {since}"
    assert alert.ended is None


# --- the summary


def kept(path):
    """Return the lines that were appended to a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


SUMMARY = RunSummary("end of input", 1.5, (QuerySummary("q", "1"),))


def test_a_summary_is_kept_once_and_returned(tmp_path):
    path = tmp_path / "kept"
    path.write_text('"before"\n')
    with monitoring.summary_kept(path) as keep:
        assert not kept(path)[1:], "not before it is there"
        assert keep(SUMMARY) is SUMMARY
        assert keep(SUMMARY) is SUMMARY
    before, line = kept(path)
    assert before == "before"
    assert (line["version"], line["ended_by"], line["seconds"]) == (
        *(1, "end of input", 1.5),
    )
    assert line["error"] is None
    assert line["queries"][0]["name"] == "q"


def test_without_a_path_a_summary_is_returned():
    with monitoring.summary_kept(None) as keep:
        assert keep(SUMMARY) is SUMMARY
        assert keep(SUMMARY, "an error") is SUMMARY


def test_without_a_path_a_failure_is_as_it_was():
    failed = QueryFailed("query q", "no room")
    with pytest.raises(QueryFailed) as caught, monitoring.summary_kept(None):
        raise failed
    assert caught.value is failed


def test_a_failure_is_kept_with_its_summary(tmp_path):
    path = tmp_path / "kept"
    failed = QueryFailed("query q", "no room", SUMMARY)
    with pytest.raises(QueryFailed) as caught, monitoring.summary_kept(path):
        raise failed
    assert caught.value is failed
    [line] = kept(path)
    assert (line["ended_by"], line["error"]) == (
        *("end of input", "query q failed: no room"),
    )


def test_a_failure_before_the_run_has_a_summary_is_kept(tmp_path):
    path = tmp_path / "kept"
    with pytest.raises(QueryFailed), monitoring.summary_kept(path):
        raise QueryFailed("query q", "no room")
    assert kept(path) == [{"version": 1, "error": "query q failed: no room"}]


def test_a_failure_after_the_summary_was_kept_is_not_kept_too(tmp_path):
    path = tmp_path / "kept"
    with pytest.raises(QueryFailed), monitoring.summary_kept(path) as keep:
        keep(SUMMARY)
        raise QueryFailed("query q", "no room")
    assert [line["error"] for line in kept(path)] == [None]


def test_another_error_keeps_nothing(tmp_path):
    with pytest.raises(LookupError), monitoring.summary_kept(tmp_path / "kept"):
        raise LookupError
    assert not (tmp_path / "kept").exists()


def test_a_summary_that_cannot_be_written_changes_no_end(tmp_path, caplog):
    with monitoring.summary_kept(tmp_path) as keep:
        assert keep(SUMMARY) is SUMMARY
    [said] = caplog.messages
    assert said == (
        f"the summary is not in {tmp_path}: [Errno 21] Is a directory: '{tmp_path}'"
    )


# --- the views


@pytest.fixture
def faces(monkeypatch):
    """What the views were opened with, and when they were closed."""
    seen: list[Any] = []

    def view(name):
        @contextmanager
        def opened(*given, **how):
            seen.append((name, given, how))
            try:
                yield
            finally:
                seen.append((f"{name} closes", given[0].ended))

        return opened

    monkeypatch.setattr(page, "exported", view("exported"))
    monkeypatch.setattr(page, "served", view("served"))
    monkeypatch.setattr(terminal, "shown", view("shown"))
    return seen


def test_what_is_asked_for_is_opened_and_closed_after_the_board_has_ended(faces):
    queries = [Played("q")]
    stop = print
    with watching(queries, stop, show="terminal", ui=0, metrics="host:1"):
        (exported, served, shown) = faces
    board = exported[1][0]
    assert [each.name for each in board.pictures()] == ["q"], "it watches the queries"
    assert exported == ("exported", (board, "host:1"), {})
    assert served == ("served", (board, queries), {"port": 0, "stop": stop})
    assert shown == ("shown", (board,), {"queries": queries})
    assert faces[3:] == [
        ("shown closes", True),
        ("served closes", True),
        ("exported closes", True),
    ]


def test_nothing_is_opened_that_is_not_asked_for(faces):
    with watching([], print) as (tell, on_tick):
        assert on_tick == []
        tell(progress())
    assert faces == []


def test_a_recording_has_each_batch(tmp_path):
    path = tmp_path / "run.jsonl"
    with watching([], print, record=path) as (tell, _):
        tell(progress(), (3, 5))
    _, one, end = kept(path)
    assert (one["batchId"], one["files"]) == (63, [3, 5])
    assert "end" in end


def test_an_error_of_the_run_ends_the_board(faces):
    with pytest.raises(LookupError), watching([], print, metrics="host:1"):
        raise LookupError
    assert faces[-1] == ("exported closes", True)


def test_an_unknown_view_is_refused_before_all_else(faces):
    wrong = watching([], print, show="terminl", metrics="host:1")
    said = refusal(wrong.__enter__)
    assert said == "unknown face (show=) terminl; did you mean terminal?"
    assert faces == []


@pytest.mark.parametrize(
    ("show", "in_notebook", "view"),
    [
        ("notebook", True, notebook),
        ("notebook", False, terminal),
        ("terminal", True, terminal),
        ("terminal", False, terminal),
    ],
    ids=["cell", "no-cell", "terminal-in-notebook", "terminal"],
)
def test_outside_of_a_notebook_its_view_is_that_of_a_terminal(
    show, in_notebook, view, monkeypatch
):
    monkeypatch.setattr("sparkstream_kit.display.in_notebook", lambda: in_notebook)
    assert monitoring._face(show) is view.shown


def test_a_verdict_is_looked_for_at_each_tick(monkeypatch):
    told: list[Alert] = []
    with watching([], print, on_verdict=told.append) as (tell, on_tick):
        [look] = on_tick
        tell(progress())
        look()
        assert [alert.verdict.kind for alert in told] == ["silence"]


def test_a_view_that_fails_is_left_out_and_the_others_go_on(caplog):
    board = Board()
    seen: list[Any] = []

    def fails(*_):
        raise ValueError("no room")

    listeners = [fails, lambda *given: seen.append(given)]
    monitoring._call_listeners(listeners, board, "batch", (3, 5))
    monitoring._call_listeners(listeners, board, "next")
    assert seen == [("batch", (3, 5)), ("next",)]
    assert caplog.messages == [
        (
            "a display of the run failed, and the run continues without it: ValueError: no"
            " room"
        )
    ]
    assert board.problem == "", "it is not the board that has failed"


def test_a_board_that_takes_no_batch_has_a_problem(caplog):
    board = Board()
    wrong: Any = SimpleNamespace()
    listeners: list[Any] = [board.add]
    monitoring._call_listeners(listeners, board, wrong)
    said = "AttributeError: 'types.SimpleNamespace' object has no attribute 'id'"
    assert board.problem == said
    assert listeners == []


# --- verdicts that begin and end


class Pictures:
    """A board whose pictures a test sets, and a watch of it."""

    def __init__(self):
        self.shown: list[Any] = []
        self.asked: list[Any] = []
        self.told: list[Alert] = []
        board: Any = self
        self.watch = monitoring._VerdictWatch(board, self.told.append)

    def pictures(self, now):
        self.asked.append(now)
        return self.shown

    def look(self, after, *verdicts, batches=0, name="q"):
        """Look some seconds later, at one query with some verdicts and batches."""
        self.shown = [picture(name=name, verdicts=verdicts, batches=batches)]
        self.watch.look(AT + timedelta(seconds=after))


def test_a_verdict_is_told_when_it_begins():
    board = Pictures()
    board.look(5, BAD, WARN)
    at = AT + timedelta(seconds=5)
    assert board.asked == [at]
    assert board.told == [Alert("q", BAD, at), Alert("q", WARN, at)]
    board.look(6, BAD, WARN)
    assert len(board.told) == 2


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (Verdict("warn", "", "backlog"), "q"),
        (Verdict("bad", "", "slow"), "q"),
        (BAD, "other"),
    ],
    ids=["level", "kind", "query"],
)
def test_another_level_kind_or_query_is_another_verdict(other, name):
    board = Pictures()
    board.look(0, BAD)
    board.look(0, other, name=name)
    assert len(board.told) == 2


def test_a_verdict_with_another_number_is_the_same():
    board = Pictures()
    board.look(0, BAD)
    board.look(0, Verdict("bad", "it falls behind by more", "backlog"))
    assert board.told == [Alert("q", BAD, AT)]


@pytest.mark.parametrize(
    ("batches", "after", "is_over"),
    [(10, 60, True), (9, 60, False), (10, 59, False), (11, 61, True)],
    ids=["both", "few-batches", "soon", "more"],
)
def test_a_verdict_is_over_ten_batches_and_a_minute_after_it_was_seen(
    batches, after, is_over
):
    board = Pictures()
    board.look(0, BAD, batches=1)
    board.look(5, BAD, batches=3)
    board.look(5 + after, batches=3 + batches)
    assert len(board.told) == 1 + is_over
    if is_over:
        ended = Alert("q", BAD, AT, AT + timedelta(seconds=5 + after))
        assert board.told[1] == ended
    board.look(10_000, batches=1_000)
    assert len(board.told) == 2, "it is told once"
    board.look(10_001, BAD, batches=1_001)
    assert board.told[2] == Alert("q", BAD, AT + timedelta(seconds=10_001))


def test_a_query_does_not_end_the_verdict_of_another():
    board = Pictures()
    board.look(0, BAD)
    board.look(10_000, batches=1_000, name="other")
    assert len(board.told) == 1


def test_the_time_of_a_look_is_now():
    board = Pictures()
    board.watch.look()
    assert board.asked[0] > AT


# --- posts

URL = "https://hooks.example/services/hush"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example/x",
        "ftp://hooks.example/x",
        "https:///x",
        "https://me@hooks.example/x",
        "https://me:hush@hooks.example/x",
    ],
)
def test_a_url_that_takes_no_post_is_refused(url):
    said = refusal(monitoring._alert_callback, url, ExitStack())
    assert said == (
        "on_verdict (--alert-url) is no URL, or one with a password; give"
        " https://HOST/PATH"
    )


def test_a_function_is_called_itself():
    with ExitStack() as faces:
        assert monitoring._alert_callback(print, faces) is print


@pytest.fixture
def answers(monkeypatch):
    """What posts fail with, instead of going out; "" for none."""
    failures: dict[str, str] = {}
    posted: list[Alert] = []

    def post(self, alert):
        posted.append(alert)
        return failures.get(alert.query, "")

    monkeypatch.setattr(monitoring._AlertPosts, "_post", post)
    return SimpleNamespace(failures=failures, posted=posted)


def test_alerts_are_posted_until_the_end(answers, caplog):
    answers.failures["two"] = "HTTP Error 404:\nNot Found"
    alerts = [Alert(name, BAD, AT) for name in ("one", "two", "three")]
    before = {*threading.enumerate()}
    with ExitStack() as faces:
        call = monitoring._alert_callback("https://hooks.example/@hush", faces)
        for alert in alerts:
            call(alert)
    assert answers.posted == alerts
    assert {*threading.enumerate()} <= before, "its thread has ended"
    assert caplog.messages == [
        (
            rf"an alert was not posted to hooks.example (HTTP Error 404:\nNot Found):"
            f" {alerts[1]}"
        )
    ]


def test_what_is_left_at_the_end_is_said_and_not_posted_later(answers, caplog):
    posts = monitoring._AlertPosts(URL)
    alerts = [Alert(name, BAD, AT) for name in ("one", "two")]
    for alert in alerts:
        posts.add(alert)
    posts.give_up()
    posts.add(None)
    posts.give_up()
    posts.post_all(None)
    assert answers.posted == []
    assert caplog.messages == [
        f"an alert was not posted to hooks.example (the run ended before there was an"
        f" answer): {alert}"
        for alert in alerts
    ]


def test_the_end_of_a_run_says_what_its_thread_has_not_posted(monkeypatch, caplog):
    monkeypatch.setattr(
        "sparkstream_kit.monitoring.pictures.drawing", lambda _: nullcontext()
    )
    with ExitStack() as faces:
        monitoring._alert_callback(URL, faces)(Alert("one", BAD, AT))
        assert caplog.messages == []
    [said] = caplog.messages
    assert "the run ended before" in said


def test_what_was_given_up_during_its_post_is_said_once(monkeypatch, caplog):
    posts = monitoring._AlertPosts(URL)

    def post(alert):
        posts.give_up()
        return "too late"

    monkeypatch.setattr(posts, "_post", post)
    posts.add(Alert("one", BAD, AT))
    posts.add(None)
    posts.post_all(None)
    [said] = caplog.messages
    assert "the run ended before" in said


def test_a_post_that_went_well_is_not_left(answers, caplog):
    posts = monitoring._AlertPosts(URL)
    posts.add(Alert("one", BAD, AT))
    posts.add(None)
    posts.post_all(None)
    posts.give_up()
    assert len(answers.posted) == 1
    assert caplog.messages == []


class Answer(BaseHTTPRequestHandler):
    """Keeps a post, and answers with the status of the server."""

    server: Any

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("status", "failure"),
    [(200, ""), (404, "HTTP Error 404: Not Found"), (302, "HTTP Error 302: Found")],
)
def test_a_post_says_why_it_failed(status, failure):
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.status, server.got = status, []  # type: ignore[attr-defined]
        thread = in_thread("answer", server.handle_request)
        posts = monitoring._AlertPosts(f"http://127.0.0.1:{server.server_port}/x")
        assert posts._post(Alert("one", BAD, AT)) == failure
        thread.join(30)
        [(kind, body)] = server.got  # type: ignore[attr-defined]
    assert kind == "application/json"
    assert (body["query"], body["verdict"]["kind"]) == ("one", "backlog")


def test_a_post_without_an_answer_says_so(monkeypatch):
    waited: list[float] = []

    def never(name, function):
        assert name == "post"
        return SimpleNamespace(join=waited.append)

    monkeypatch.setattr(monitoring, "in_thread", never)
    failure = monitoring._AlertPosts(URL)._post(Alert("one", BAD, AT))
    assert failure == "no answer within 10 seconds"
    assert waited == [11.0], "a second more than its answer may take"
