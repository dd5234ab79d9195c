"""The page's server, without a browser: who may ask, and what it sends.

Its failures stop no run.
"""

import io
import json
import logging
import os
import re
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, redirect_stderr
from datetime import datetime
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, process, refusal
from pyspark.sql import functions as F
from support.recorded import OTHER, TOLD, progress
from support.spark_jobs import counting_jobs
from support.zips import zipped_kit

import sparkstream_kit
from sparkstream_kit import run, sinks, start
from sparkstream_kit.errors import QueryFailed, printable
from sparkstream_kit.monitoring import page as _requests
from sparkstream_kit.monitoring import watching
from sparkstream_kit.monitoring.board import Board, QueryState
from sparkstream_kit.monitoring.page import served
from sparkstream_kit.monitoring.pictures import Results, bars
from sparkstream_kit.progress import QuerySummary
from sparkstream_kit.sinks.base import Target

WEB = Path(sparkstream_kit.__file__).parent / "monitoring" / "web"
SCRIPT = "<script>alert(1)</script>"


class Served:
    """A board with its page, and what its stop function was called with."""

    def __init__(self):
        self.board = Board()
        self.stops: list[str] = []
        self.stack, said = ExitStack(), io.StringIO()
        with redirect_stderr(said):
            self.stack.enter_context(
                served(self.board, [], port=0, stop=self.stops.append)
            )
        self.address = said.getvalue().split()[4]
        self.port = int(self.address.split(":")[2].split("/")[0])
        self.token = self.address.partition("#token=")[2]

    def ask(self, path="/", method="GET", **headers):
        """Return the status, text and headers of an answer."""
        with connection(self.port) as to:
            to.request(method, path, headers=headers)
            answer = to.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())

    def end(self):
        self.board.end()
        self.stack.close()


def connection(port):
    return closing(HTTPConnection("127.0.0.1", port, timeout=30))


@contextmanager
def events(port, token):
    """The stream of pictures."""
    with connection(port) as to:
        to.request("GET", "/events", headers={"Authorization": f"Bearer {token}"})
        with to.getresponse() as stream:
            yield stream


def picture(stream):
    """The next picture of a stream; None at its end."""
    line = stream.readline()
    if not line:
        return None
    assert line.startswith(b"data: "), line
    assert stream.readline() == b"\n"
    return json.loads(line[len(b"data: ") :])


def picture_with(stream, what):
    """The next picture of a stream that has something, within a minute."""
    end = time.monotonic() + 60
    while (found := picture(stream)) is not None and time.monotonic() < end:
        if what(found):
            return found
    raise AssertionError(f"no such picture; the last one was {found}")


@pytest.fixture
def page(monkeypatch):
    """A page of an empty board, which shows ten times as often that it lives."""
    monkeypatch.setattr(_requests, "_BEAT", 0.2)
    made = Served()
    yield made
    made.end()


# --- who may ask, and for what


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/?token=x", {}, 200),
        ("GET", "/nothing", {}, 404),
        ("GET", "/../page.py", {}, 404),
        ("GET", "/stop", {"Authorization": "TOKEN"}, 404),
        ("GET", "/events", {}, 401),
        ("GET", "/events?token=TOKEN", {}, 401),
        ("GET", "/events", {"Authorization": "Bearer \xe4"}, 401),
        ("GET", "/status", {"Authorization": "TOKEN"}, 200),
        ("GET", "/status", {"Authorization": "Bearer wrong"}, 401),
        ("POST", "/status", {"Authorization": "TOKEN"}, 405),
        ("PUT", "/stop", {"Authorization": "TOKEN"}, 501),
        ("POST", "/stop?token=TOKEN", {"Origin": "http://evil.example"}, 401),
        ("POST", "/stop", {"Authorization": "Bearer wrong"}, 401),
        ("POST", "/stop", {"Authorization": "TOKEN"}, 202),
    ],
)
def test_who_may_ask_for_what(page, method, path, headers, status):
    sent = {
        name: value.replace("TOKEN", f"Bearer {page.token}")
        for name, value in headers.items()
    }
    found, text, answered = page.ask(path.replace("TOKEN", page.token), method, **sent)
    assert found == status, text
    assert page.stops == (["the web page"] if status == 202 else [])
    assert "default-src 'none'" in answered["Content-Security-Policy"]
    assert "unsafe" not in answered["Content-Security-Policy"]
    assert answered["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answered["X-Content-Type-Options"] == "nosniff"
    assert not any(name.startswith("Access-Control") for name in answered)
    assert page.token not in text


def test_two_runs_have_two_tokens(page):
    other = Served()
    assert len({page.token, other.token}) == 2
    assert len(page.token) > 20
    other.end()


def test_nobody_elsewhere_reaches_it(page):
    listening = Path("/proc/net/tcp").read_text("utf-8")
    [address] = re.findall(rf"(\w+):{page.port:04X} 00000000:0000 0A", listening)
    assert address == "0100007F"  # 127.0.0.1, and not 0.0.0.0
    assert f":{page.port:04X} " not in Path("/proc/net/tcp6").read_text("utf-8")


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (SCRIPT, "Bad Request\n"),  # without a version, and so is the answer
        (f"{SCRIPT} / HTTP/1.1", "HTTP/1.1 501 Not Implemented\r\n"),
    ],
)
def test_what_is_no_request_is_answered_without_an_echo(page, request_line, answer):
    with connection(page.port) as to:
        to.connect()
        to.sock.sendall(f"{request_line}\r\n\r\n".encode())
        said = to.sock.makefile("rb").read().decode()
    assert said.startswith(answer)
    assert "<script>" not in said


# --- what it sends


def test_a_browser_is_sent_each_batch_once(page):
    page.board.add(progress(batchId=1))
    page.board.add(progress(batchId=2))
    with events(page.port, page.token) as stream:
        assert stream.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        told = picture(stream)
        assert told["first"]
        assert [each["batch"] for each in told["queries"][0]["batches"]] == [1, 2]
        assert not picture(stream)["queries"][0]["batches"], "a sign of life"
        page.board.add(progress(batchId=3))
        told = picture_with(stream, lambda each: each["queries"][0]["batches"])
        assert not told["first"]
        assert [each["batch"] for each in told["queries"][0]["batches"]] == [3]
        with events(page.port, page.token) as another:
            assert len(picture(another)["queries"][0]["batches"]) == 3


def test_a_name_is_text_however_it_looks(page):
    page.board.add(progress(name=f"{SCRIPT}\n\ndata: \x1b[2J"))
    with events(page.port, page.token) as stream:
        assert picture(stream)["queries"][0]["name"] == rf"{SCRIPT}\n\ndata: \u001b[2J"


def test_many_batches_come_in_few_pictures(page):
    with events(page.port, page.token) as stream:
        picture(stream)
        began = time.monotonic()
        for number in range(200):
            page.board.add(progress(batchId=number))
        told, pictures = 0, 0
        while told < 200:
            pictures += 1
            told += sum(len(each["batches"]) for each in picture(stream)["queries"])
    # One comes so often, at most
    assert pictures <= 3 + (time.monotonic() - began) // 0.25


def test_the_end_is_told_before_the_server_ends(page):
    page.board.add(progress())
    with events(page.port, page.token) as stream:
        assert picture(stream)["ended"] == ""
        page.end()
        assert (
            picture_with(stream, lambda each: each["ended"])["ended"]
            == "the run has ended"
        )
        assert picture(stream) is None
    with pytest.raises(ConnectionRefusedError):
        page.ask()


def test_the_end_waits_a_little_for_who_is_being_told(page, monkeypatch):
    told: list[bool] = []
    real = Board.pictures

    def slow(board):
        if board.ended:
            threading.Event().wait(0.5)  # a machine that does much else
            told.append(True)
        return real(board)

    with events(page.port, page.token) as stream:
        picture(stream)
        monkeypatch.setattr(Board, "pictures", slow)
        page.end()
        assert told


def test_an_error_of_the_run_is_told():
    page = Served()
    with events(page.port, page.token) as stream:
        picture(stream)
        page.board.end()
        with pytest.raises(QueryFailed), page.stack:
            raise QueryFailed(
                "query totals", "no such shop at postgresql://me:hush@host/db"
            )
        said = picture_with(stream, lambda each: each["ended"])["ended"]
    assert said.startswith(
        "the run has ended by an error: query totals failed: no such shop"
    )
    assert "hush" not in said


# --- what it answers to a program


def status(page):
    code, text, headers = page.ask("/status", Authorization=f"Bearer {page.token}")
    assert (code, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    return json.loads(text), text


def test_the_status_of_a_run_is_json(page):
    assert status(page)[0] == {"version": 1, "ended": "", "problem": "", "queries": []}
    page.board.expect(QueryState(QuerySummary("waits", "2")))
    page.board.add(progress(batchId=1))
    page.board.add(progress(batchId=2), (7, 2))
    page.board.problem = "ValueError: no such part"
    page.board.add(progress(name="tea\x1b[2J\n\x9bforged\u202e", id=OTHER))
    answer, text = status(page)
    assert printable(text) == text, "it controls no terminal"
    assert answer["problem"] == "ValueError: no such part"
    found = {each["summary"]["name"]: each for each in answer["queries"]}
    assert found["waits"]["batch"] is None
    assert found["tea\x1b[2J\n\x9bforged\u202e"]["summary"]["batches"] == 1
    told = found[TOLD[0]["name"]]
    batch, summary = told["batch"], told["summary"]
    assert datetime.fromisoformat(batch["at"]) == datetime.fromisoformat(
        TOLD[0]["timestamp"]
    )
    assert (batch["batch"], batch["rows"], batch["files_waiting"]) == (
        2,
        TOLD[0]["numInputRows"],
        7,
    )
    assert batch["seconds"] == TOLD[0]["durationMs"]["triggerExecution"] / 1000
    assert (summary["batches"], summary["input_rows"]) == (
        2,
        2 * TOLD[0]["numInputRows"],
    )
    [silent] = [each for each in summary["verdicts"] if each["kind"] == "silence"]
    assert (silent["level"], silent["text"][:13]) == ("warn", "no batch for ")

    page_text = (
        (ROOT / "docs" / "monitoring.md")
        .read_text("utf-8")
        .partition("## The status")[2]
    )
    named = set(re.findall(r"`(\w+)`", page_text.partition("\n## ")[0]))
    assert {*answer, *told, *batch, "verdicts", *silent} <= named


# --- what must not harm the run


def test_an_error_in_the_board_is_shown_and_said_once(page, monkeypatch, caplog):
    page.board.add(progress(batchId=1))
    with events(page.port, page.token) as stream:
        picture(stream)
        with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
            broken.setattr(Board, "pictures", lambda _: {"here": []}["gone"])
            page.board.add(progress(batchId=2))
            for _ in range(2):
                assert (
                    "KeyError"
                    in picture_with(stream, lambda each: "error" in each)["error"]
                )
        assert [each.name for each in caplog.records] == [
            "sparkstream_kit.monitoring.page"
        ]
        told = picture_with(stream, lambda each: "queries" in each)
        assert [each["batch"] for each in told["queries"][0]["batches"]] == [2], (
            "and goes on"
        )


def fail(*_):
    raise ValueError("no such part")


def test_a_batch_that_the_board_cannot_take_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(Board, "add", fail)
    with watching([], stop=print, ui=0) as (tell, _):
        tell(progress())
        [(port, token)] = re.findall(
            r"127\.0\.0\.1:(\d+)/#token=(\S+)", capsys.readouterr().err
        )
        with events(int(port), token) as stream:
            assert picture(stream) == {"error": "ValueError: no such part", "ended": ""}


def test_a_browser_that_has_gone_leaves_no_thread(page, until, caplog):
    before = set(threading.enumerate())
    with events(page.port, page.token) as stream:
        picture(stream)
        serving = set(threading.enumerate()) - before
        assert serving
    until(lambda: not serving & set(threading.enumerate()))
    assert not caplog.records


def test_an_answer_that_fails_is_one_line_in_the_log(page, monkeypatch, caplog):
    monkeypatch.setattr(_requests, "status", fail)
    with pytest.raises(RemoteDisconnected):
        status(page)
    assert caplog.messages == [
        "the page of the run could not answer: ValueError: no such part"
    ]
    assert page.ask()[0] == 200


def test_a_port_that_is_taken_is_one_line(page):
    for port, why in (
        (page.port, "Address already in use"),
        (65536, "must be 0-65535"),
    ):
        said = refusal(served(Board(), [], port=port, stop=print).__enter__)
        assert re.search(
            rf"port {port} .*{why}.*\); give another one, or take a free one w", said
        )


def test_no_file_of_the_page_names_another_host():
    files = {path.name: path.read_text("utf-8") for path in WEB.iterdir()}
    assert {
        "index.html",
        "page.js",
        "page.css",
        "uplot.js",
        "uplot.css",
        "uplot-licence.txt",
    } <= set(files)
    for name, text in files.items():
        assert (
            re.findall(
                r"(?:https?:)?//[\w.-]+\.\w+/",
                text.replace("http://www.w3.org/2000/svg", ""),
            )
            == []
        ), name
    assert "innerHTML" not in files["page.js"]
    assert "MIT" in files["uplot-licence.txt"]


def test_it_works_from_a_zip(tmp_path):
    code = """
from http.client import HTTPConnection
from sparkstream_kit.monitoring import page
from sparkstream_kit.monitoring.board import Board, Picture
assert "kit.zip" in page.__file__
board = Board()
import contextlib, io
with contextlib.redirect_stderr(io.StringIO()) as said, page.served(board, [], port=0, stop=print):
    to = HTTPConnection("127.0.0.1", int(said.getvalue().split(":")[3].split("/")[0]))
    to.request("GET", "/uplot.js")
    print(len(to.getresponse().read()))
    board.end()
"""
    env = {**os.environ, "PYTHONPATH": str(zipped_kit(tmp_path))}
    done = process([sys.executable, "-c", code], env=env, cwd=tmp_path)
    assert (int(done.stdout or 0), done.returncode) == (
        (WEB / "uplot.js").stat().st_size,
        0,
    ), done.stderr


# --- with a query


@pytest.mark.connect
def test_a_run_is_shown_with_its_result_and_ended_by_the_page(spark, folder, capsys):
    (folder / "1.txt").write_text("tea\nink\ntea\n")
    counted = (
        spark.readStream.text(str(folder)).groupBy("value").agg(F.count("*").alias("n"))
    )
    query = start(
        counted.orderBy("value"),
        sinks.latest("shown"),
        name="run_shown",
        mode="complete",
    )
    pictures: list[Any] = []

    def look(port, token):
        with events(port, token) as stream:
            pictures.append(
                picture_with(stream, lambda each: "result" in each["queries"][0])
            )
            with connection(port) as to:
                to.request(
                    "POST", "/stop", headers={"Authorization": f"Bearer {token}"}
                )
                assert to.getresponse().status == 202
            pictures.append(picture_with(stream, lambda each: each["ended"]))

    threads: list[threading.Thread] = []

    def begin(_):
        if not threads:
            [(port, token)] = re.findall(
                r"127\.0\.0\.1:(\d+)/#token=(\S+)", capsys.readouterr().err
            )
            threads.append(threading.Thread(target=look, args=(int(port), token)))
            threads[0].start()

    summary = run(query, ui=0, on_batch=begin, run_for=120)
    threads[0].join()
    assert summary.ended_by == "the web page"
    [shown] = pictures[0]["queries"]
    assert shown["name"] == "run_shown"
    result = shown["result"]
    assert (result["columns"], result["numeric"]) == (["value", "n"], [False, True])
    assert result["rows"] == [["ink", "1"], ["tea", "2"]]
    assert result["bars"] == [["tea", "2", 1.0], ["ink", "1", 0.5]]
    assert pictures[1]["ended"] == "the run has ended"


@pytest.mark.connect
@pytest.mark.classic_only("counts the jobs of this process")
def test_the_rows_of_latest_cost_no_job(spark, folder):
    (folder / "1.txt").write_text("tea\nink\ntea\n")
    counted = (
        spark.readStream.text(str(folder)).groupBy("value").count().orderBy("value")
    )
    query = start(
        counted,
        sinks.latest("shown"),
        name="shown_q",
        mode="complete",
        availableNow=True,
    )
    results = Results({"shown_q": (spark, Target("view", "shown"))})
    run(query)
    with counting_jobs(spark) as jobs:
        found = results.of("shown_q", 1, last=True)
        assert not jobs()
    assert found is not None
    assert found.rows == [("ink", "1"), ("tea", "2")]
    assert results.of("shown_q", 1, last=True) is found, (
        "no second look without a batch"
    )


def test_bars_of_what_has_no_bar():
    assert bars([False], [("a",)]) == []
    assert bars([False, True], [("a", None), ("b", "NaN")]) == []
    assert bars([False, True], [("a", "-1")]) == [("a", "-1", 0.0)]
    assert bars([True, True], [("1", "2")]) == [("1", "2", 1.0)]


def test_a_result_that_cannot_be_read_says_why(spark):
    found = Results({"q": (spark, Target("view", "gone"))}).of("q", 1, last=False)
    assert found is not None
    assert "gone" in str(found.problem)
    assert str(found.problem).startswith("it cannot be read: ")
