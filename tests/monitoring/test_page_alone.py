"""The page's server and the metrics step by step, without Spark and without a run."""

# ruff: noqa: SLF001 - the steps of the module are its own
import io
import json
import socket
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from conftest import refusal
from support.pictures import AT, batch, picture
from support.played import Played
from support.recorded import progress

from sparkstream_kit.errors import InvalidInputError, MissingExtraError, QueryFailed
from sparkstream_kit.monitoring import page as module
from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.monitoring.page import Page, Server, metrics
from sparkstream_kit.monitoring.pictures import Results, Sent
from sparkstream_kit.verdicts import Verdict

BAD = Verdict("bad", "it falls behind", "backlog")
WARN = Verdict("warn", "it is slow", "slow")

# --- metrics


def samples(*pictures):
    """Return the samples of some queries: name, labels and value."""
    return [
        (sample.name.removeprefix("sparkstream_"), sample.labels, sample.value)
        for family in metrics(pictures)
        for sample in family.samples
    ]


def named(*pictures):
    """Return the values of the samples of some queries, by their names and labels."""
    return {
        (name, *labels.values()): value for name, labels, value in samples(*pictures)
    }


def test_metrics_have_names_texts_and_labels():
    families = {family.name: family for family in metrics([])}
    assert list(families) == [
        *(f"sparkstream_{name}" for name in module._TOTALS),
        *(f"sparkstream_{name}" for name in module._LAST),
        "sparkstream_last_batch_begin_seconds",
        "sparkstream_last_batch_part_seconds",
        "sparkstream_verdicts",
    ]
    assert all(not family.samples for family in families.values())
    assert {family.type for family in families.values()} == {"counter", "gauge"}
    texts = {name: family.documentation for name, family in families.items()}
    assert texts["sparkstream_batches"] == "Batches committed."
    assert texts["sparkstream_state_rows"] == "Rows in state."
    assert texts["sparkstream_last_batch_begin_seconds"] == (
        "When it began, in Unix time."
    )
    assert texts["sparkstream_last_batch_part_seconds"] == "Parts of that time."
    assert texts["sparkstream_verdicts"] == "Verdicts on the last batches."


def test_each_number_of_a_query_is_a_metric():
    last = batch(
        7,
        5,
        seconds=3.0,
        rows=11,
        state_rows=13,
        state_bytes=17,
        watermark=AT - timedelta(seconds=19),
        files_waiting=23,
        work=1.0,
        planning=0.5,
        log_writes=0.25,
        looking=0.125,
    )
    counted: dict[str, Any] = {
        "batches": 29,
        "input_rows": 31,
        "output_rows": 37,
        "late_rows": 41,
        "bad_rows": 43,
        "busy_seconds": 47.0,
    }
    shown = picture(batch(6), last, verdicts=[WARN, WARN, BAD], **counted)
    totals: dict[Any, Any] = {
        (f"{name}_total", "q"): value for name, value in counted.items()
    }
    assert named(shown) == totals | {
        ("last_batch_id", "q"): 7,
        ("last_batch_rows", "q"): 11,
        ("last_batch_seconds", "q"): 3.0,
        ("state_rows", "q"): 13,
        ("state_bytes", "q"): 17,
        ("watermark_lag_seconds", "q"): 24.0,
        ("waiting", "q"): 23,
        ("last_batch_begin_seconds", "q"): AT.timestamp() + 5,
        ("last_batch_part_seconds", "q", "work"): 1.0,
        ("last_batch_part_seconds", "q", "planning"): 0.5,
        ("last_batch_part_seconds", "q", "log writes"): 0.25,
        ("last_batch_part_seconds", "q", "looking for input"): 0.125,
        ("verdicts", "q", "warn"): 2,
        ("verdicts", "q", "bad"): 1,
    }
    labels = {tuple(labels) for _, labels, _ in samples(shown)}
    assert labels == {("query",), ("query", "part"), ("query", "level")}


def test_a_query_has_no_metric_of_what_it_does_not_know():
    assert named(picture(batch(0, rows=0))) == {
        ("batches_total", "q"): 1,
        ("input_rows_total", "q"): 0,
        ("busy_seconds_total", "q"): 0,
        ("last_batch_id", "q"): 0,
        ("last_batch_rows", "q"): 0,
        ("last_batch_seconds", "q"): 2.0,
        ("last_batch_begin_seconds", "q"): AT.timestamp(),
        ("last_batch_part_seconds", "q", "work"): 0,
        ("last_batch_part_seconds", "q", "planning"): 0,
        ("last_batch_part_seconds", "q", "log writes"): 0,
        ("last_batch_part_seconds", "q", "looking for input"): 0,
        ("verdicts", "q", "warn"): 0,
        ("verdicts", "q", "bad"): 0,
    }


def test_a_query_without_a_batch_has_its_totals_and_verdicts():
    assert named(picture(verdicts=[WARN])) == {
        ("batches_total", "q"): 0,
        ("input_rows_total", "q"): 0,
        ("busy_seconds_total", "q"): 0,
        ("verdicts", "q", "warn"): 1,
        ("verdicts", "q", "bad"): 0,
    }


def test_each_query_has_its_metrics():
    found = named(picture(batch(3)), picture(batch(4), name="other"))
    assert found["last_batch_id", "q"] == 3
    assert found["last_batch_id", "other"] == 4


def asked(port, path="/metrics"):
    """Return what a server answers, as a text."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as to:
        to.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return to.makefile("rb").read().decode()


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost")]
)
def test_metrics_are_served_until_the_block_ends(host, shown, capsys):
    board = Board()
    board.add(progress(name="tea"))
    with module.exported(board, f"{host}:0"):
        said = capsys.readouterr().err
        port = int(said.rpartition(":")[2].partition("/")[0])
        assert said == f"metrics of this run: http://{shown}:{port}/metrics\n"
        text = asked(port)
        assert 'sparkstream_batches_total{query="tea"} 1.0' in text
        assert "python_info" not in text, "nothing of the process"
    with pytest.raises(ConnectionRefusedError):
        asked(port)


@pytest.mark.parametrize(
    "address", ["9108", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:"]
)
def test_an_address_of_metrics_is_a_host_and_a_port(address):
    said = refusal(module.exported(Board(), address).__enter__)
    assert said.startswith(f"cannot serve metrics at {address} (")
    assert said.endswith("); give another host:port, such as 127.0.0.1:9109")


def test_metrics_need_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError) as caught:
        module.exported(Board(), "127.0.0.1:0").__enter__()
    assert str(caught.value) == (
        "run(…, metrics=…) needs an optional library; run: pip install"
        " 'sparkstream-kit[metrics]'"
    )


# --- the data of a page


def page_of(board=None, stop=print, **more):
    return Page(board or Board(), Results({}), stop, **more)


def test_each_page_has_a_token_of_its_own_which_is_not_shown():
    one, other = page_of(), page_of()
    assert one.token != other.token
    assert len(one.token) == 22, "sixteen bytes"
    assert one.token not in repr(one)


def test_the_end_of_a_page_waits_two_seconds_for_each_reader():
    page = page_of()
    waited: list[Any] = []

    class Reader(threading.Thread):
        def join(self, timeout=None):
            waited.append((timeout, page.ended, page.over.is_set()))

    readers = [Reader(), Reader()]
    for reader in readers:
        page.readers.add(reader)
    page.end("it has ended")
    assert waited == [(2.0, "it has ended", True)] * 2


def test_the_pictures_of_a_page_come_until_its_end(monkeypatch):
    asked_for: list[Any] = []

    def moments(board, over, **how):
        asked_for.append((board, over, how))
        yield
        yield

    monkeypatch.setattr(module, "moments", moments)
    page = page_of()
    first, second = map(json.loads, page.pictures())
    assert asked_for == [(page.board, page.over, {"every": 0.25, "beat": 2.0})]
    assert (first["first"], second["first"]) == (True, False)


def fail(error):
    raise error


def test_a_picture_has_the_end_and_spark_s_own_page():
    page = page_of(spark="http://host:4040")
    page.ended = "it has ended"
    page.board.add(progress())
    told = json.loads(page._picture(Sent(page.results)))
    assert (told["ended"], told["spark"]) == ("it has ended", "http://host:4040")
    assert [query["name"] for query in told["queries"]] == ["sales_clean"]


def test_an_error_is_the_picture_and_is_logged_once(monkeypatch, caplog):
    page = page_of()
    sent = Sent(page.results)
    page.ended = "it\nended"
    monkeypatch.setattr(page.board, "pictures", lambda: fail(ValueError("no\x1broom")))
    for _ in range(2):
        told = json.loads(page._picture(sent))
        assert told == {"error": r"ValueError: no\u001broom", "ended": r"it\nended"}
    page.board.problem = "another"
    assert json.loads(page._picture(sent))["error"] == "another"
    assert len(caplog.messages) == 2
    assert caplog.messages[1] == "the page of the run shows no queries: another"


def test_a_board_with_a_problem_is_not_asked(monkeypatch):
    page = page_of()
    page.board.problem = "ValueError: no such part"
    monkeypatch.setattr(page.board, "pictures", lambda: pytest.fail("it was asked"))
    told = json.loads(page._picture(Sent(page.results)))
    assert told == {"error": "ValueError: no such part", "ended": ""}


# --- the server


@pytest.fixture
def server():
    """A server that nobody serves: a test hands it what a browser sends."""
    made = Server(0, page_of())
    yield made
    made.server_close()


def test_a_server_listens_on_this_machine_alone(server):
    assert server.socket.getsockname() == ("127.0.0.1", server.server_port)
    assert server.server_name == "127.0.0.1"
    assert server.server_port > 0
    assert (server.daemon_threads, server.timeout) == (True, 0.1)


def test_an_error_of_a_request_is_a_line_in_the_log(server, caplog):
    with suppress(LookupError):
        try:
            fail(LookupError("mine"))
        finally:
            server.handle_error("request", "address")
    with suppress(OSError):
        try:
            fail(ConnectionResetError("gone"))
        finally:
            server.handle_error("request", "address")
    assert caplog.messages == [
        "the page of the run could not answer: LookupError: mine"
    ]


class Request(module._Handler):
    """A request as a browser has sent it, without a connection.

    Args:
        server: the server.
        path: the path that is asked for.
        token: what is given as the header Authorization.
    """

    def __init__(self, server, path="/", token=None):
        self.server = server
        self.path = path
        self.headers = Message()
        if token is not None:
            self.headers["Authorization"] = token
        self.request_version = "HTTP/1.1"
        self.requestline = f"GET {path} HTTP/1.1"
        self.client_address = ("127.0.0.1", 1)
        self.wfile: Any = io.BytesIO()

    def answer(self):
        """Return the status, the headers and the body of the answer."""
        head, _, body = self.wfile.getvalue().partition(b"\r\n\r\n")
        status, *lines = head.decode().splitlines()
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status.split()[1]), headers, body.decode()


@pytest.mark.parametrize(("path", "file"), [(p, f) for p, f in module._FILES.items()])
def test_a_file_of_the_page_is_answered_whole_with_its_kind(server, path, file):
    request = Request(server, f"{path}?token=x")
    request.do_GET()
    status, headers, body = request.answer()
    name, kind = file
    assert status == 200
    assert headers["Content-Type"] == f"{kind}; charset=utf-8"
    folder = Path(module.__file__).parent / "web"
    assert body == (folder / name).read_text("utf-8")


def test_each_answer_has_the_headers_that_guard_it(server):
    request = Request(server, "/nothing")
    request.do_GET()
    _, headers, _ = request.answer()
    assert headers.pop("Date")
    assert headers.pop("Server").strip() == "sparkstream"
    kind = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close"}
    assert headers == kind | module._HEADERS


@pytest.mark.parametrize("path", ["/nothing", "/stop", "/events/", "/page.py"])
def test_there_is_nothing_at_another_address(server, path):
    request = Request(server, path, f"Bearer {server.page.token}")
    request.do_GET()
    status, _, body = request.answer()
    assert status == 404
    assert body == "there is nothing at this address; the page is at /\n"


@pytest.mark.parametrize("path", ["/events", "/status"])
@pytest.mark.parametrize("token", [None, "Bearer ", "Bearer wrong", "Bearer ä"])
def test_what_the_run_does_takes_the_token(server, path, token):
    request = Request(server, path, token)
    request.do_GET()
    status, _, body = request.answer()
    assert status == 401
    assert body == (
        "to look at the run takes the token of the address that it printed:"
        " Authorization: Bearer TOKEN\n"
    )


def test_the_status_is_json(server):
    server.page.ended = "it has ended"
    request = Request(server, "/status?x=1", f"Bearer {server.page.token}")
    request.do_GET()
    status, headers, body = request.answer()
    assert (status, headers["Content-Type"]) == (
        *(200, "application/json; charset=utf-8"),
    )
    assert json.loads(body)["ended"] == "it has ended"


def test_events_are_sent_until_the_run_ends(server):
    server.page.over.set()
    server.page.ended = "it has ended"
    request = Request(server, "/events", server.page.token)
    request.do_GET()
    status, headers, body = request.answer()
    assert (status, headers["Content-Type"]) == (
        *(200, "text/event-stream; charset=utf-8"),
    )
    assert body.startswith("data: {")
    assert body.endswith("}\n\n")
    assert json.loads(body.removeprefix("data: "))["ended"] == "it has ended"
    assert list(server.page.readers) == [threading.current_thread()]


def test_the_run_is_ended_by_a_post_with_the_token():
    stops: list[str] = []
    with Server(0, page_of(stop=stops.append)) as server:
        request = Request(server, "/stop?x=1", f"Bearer {server.page.token}")
        request.do_POST()
    status, headers, body = request.answer()
    assert (status, body) == (202, "the run ends after the batch in flight\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert stops == ["the web page"]


@pytest.mark.parametrize(
    ("path", "token", "status", "said"),
    [
        ("/", "TOKEN", 405, "only /stop takes a POST\n"),
        ("/status", "TOKEN", 405, "only /stop takes a POST\n"),
        (
            "/stop",
            "wrong",
            401,
            (
                "to end the run takes the token of the address that it printed:"
                " Authorization: Bearer TOKEN\n"
            ),
        ),
    ],
    ids=["page", "status", "token"],
)
def test_a_post_that_ends_nothing(path, token, status, said):
    stops: list[str] = []
    with Server(0, page_of(stop=stops.append)) as server:
        request = Request(server, path, token.replace("TOKEN", server.page.token))
        request.do_POST()
    found, _, body = request.answer()
    assert (found, body) == (status, said)
    assert stops == []


def test_what_is_no_request_is_refused_in_few_words(server, capsys):
    request = Request(server)
    request.send_error(501, "Unsupported method ('<script>')")
    status, headers, body = request.answer()
    assert (status, body) == (501, "Not Implemented\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    request.log_message("%s", "a request")
    assert capsys.readouterr().err == ""


# --- a page that is served


def test_a_page_is_served_until_the_block_ends(capsys):
    board = Board()
    with module.served(board, [], port=0, stop=print):
        said = capsys.readouterr().err
        address, token = said.strip().split("#token=")
        port = int(address.split(":")[-1].strip("/"))
        assert said == f"page of this run: http://127.0.0.1:{port}/#token={token}\n"
        assert len(token) == 22
        assert asked(port, "/").startswith("HTTP/1.1 200 OK")
    with pytest.raises(ConnectionRefusedError):
        asked(port, "/")


def test_spark_s_own_page_is_named_beside_it(capsys, monkeypatch):
    monkeypatch.setattr(module, "web_page", lambda spark: f"http://{spark}")
    with module.served(Board(), [Played(session="spark")], port=0, stop=print):
        said = capsys.readouterr().err
    assert said.endswith(" (Spark's own page: http://spark)\n")


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (None, "the run has ended"),
        (
            QueryFailed("query q", "no room"),
            "the run has ended by an error: query q failed: no room",
        ),
        (ValueError("no"), "the run has ended by an error: ValueError: no"),
        (
            KeyboardInterrupt("Ctrl+C"),
            "the run has ended by an error: KeyboardInterrupt: Ctrl+C",
        ),
    ],
    ids=["well", "failed", "error", "interrupt"],
)
def test_a_page_is_told_how_the_run_ended(error, how, monkeypatch):
    ended: list[str] = []
    monkeypatch.setattr(Page, "end", lambda _, told: ended.append(told))

    def run():
        with module.served(Board(), [], port=0, stop=print):
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    assert ended == [how]


def test_spark_s_page_is_that_of_the_first_query_that_tells_its_session(monkeypatch):
    monkeypatch.setattr(module, "web_page", lambda spark: f"page of {spark}")
    queries = [Played(), Played(session="one"), Played(session="two")]
    assert module._page_of_spark(queries) == "page of one"
    assert module._page_of_spark(queries[:1]) is None
    assert module._page_of_spark([]) is None


def test_a_port_that_is_taken_or_not_allowed_is_refused():
    fix = "give another one, or take a free one with ui=0 (of a job: --ui alone)"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(module._server, port, page_of())
    assert said == (
        f"cannot open port {port} for the page of the run (Address already in use);"
        f" {fix}"
    )
    with pytest.raises(InvalidInputError) as caught:
        module._server(65536, page_of())
    assert str(caught.value) == (
        "cannot open port 65536 for the page of the run (bind(): port must be 0-65535.);"
        f" {fix}"
    )
