"""What a person sees on the page of a run, and what the browser does for it."""

import re
import subprocess
import sys
import threading
from itertools import islice
from typing import Any

import pytest
from browser.tabs import nothing_else
from conftest import HANGS, environment, running
from support.recorded import OTHER, TOLD, progress

from sparkstream_kit import feeds
from sparkstream_kit.monitoring import pictures
from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.monitoring.page import Page, Server
from sparkstream_kit.monitoring.pictures import Results
from sparkstream_kit.sinks.base import Target

OF_WINDOWS = [each for each in TOLD if each["name"] == "action_windows"]
SCRIPT = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)>"


TEA = [("tea", "12345"), ("<b>ink</b>", "2")]


class Shown:
    """A page with the recorded queries, and its server; `result` is what a view would have."""

    def __init__(self):
        self.result = ["shop", "n"], [False, True], TEA
        self.page = Page(Board(), self.results("action_windows"), self.stops.append)
        self.server = Server(0, self.page)
        self.port = self.server.server_port
        self.address = f"http://127.0.0.1:{self.port}/#token={self.page.token}"

    stops: list[str] = []  # noqa: RUF012 - set anew by the fixture

    def results(self, name):
        session: Any = None
        return Results({name: (session, Target("view", "totals"))})

    def add(self, told, **changes):
        self.page.board.add(progress(told, **changes))


@pytest.fixture
def shown(monkeypatch):
    Shown.stops, made = [], Shown()
    monkeypatch.setattr(pictures, "_of_view", lambda *_, **__: made.result)
    with made.server:
        thread = threading.Thread(target=made.server.serve_forever, args=(0.1,))
        thread.start()
        yield made
        made.page.board.end()
        made.page.end("the run has ended")
        made.server.shutdown()
        thread.join()


def test_a_page_shows_what_the_queries_do_and_follows_them(shown, tab):
    for each in TOLD:
        shown.add(each)
    tab.browser.get(shown.address)
    with nothing_else(tab, shown.port):
        names = tab.until("h2", lambda found: len(found) == 3)
        assert names == [each.name for each in shown.page.board.pictures()]
        assert tab.texts("#state") == ["live"]
        assert any("its state grows" in each for each in tab.texts(".verdicts li"))
        charts = {
            name: tab.run(
                "return Object.keys(CHARTS).filter(each =>"
                " cards.get(arguments[0]).charts[each].chart)",
                name,
            )
            for name in names
        }
        assert charts["sales_clean"] == ["rate", "parts"]
        assert charts["score_payments"] == ["rate", "parts", "state"]
        assert charts["action_windows"] == ["rate", "parts", "state", "lag"]
        assert tab.run(
            "return [...document.querySelectorAll('canvas')].every(each => each.width >"
            " 200)"
        )
        assert tab.texts("td") == ["tea", "12345", "<b>ink</b>", "2"]
        assert tab.texts(".bars span") == ["tea", "12,345", "<b>ink</b>", "2"]
        last = OF_WINDOWS[-1]
        shown.result = ["shop", "n"], [False, True], [("tea", "12346")]
        shown.add(last, batchId=last["batchId"] + 1, numInputRows=1)
        tab.until(
            "article small", lambda found: f"batch {last['batchId'] + 1}" in found
        )
        tab.until("td", lambda found: found == ["tea", "12346"])


# How many files wait after each batch, and what a card says that has no verdict yet.
CALM = {
    (None, None): ["ok", "nothing is wrong"],
    (0, 0): ["ok", "nothing is wrong"],
    (4, 0): ["ok", "nothing is wrong"],
    (0, 62): ["warn", "62 files wait to be read, 62 more than a batch ago"],
    (9, 0, 0, 1): [
        "ok",
        "nothing is wrong; 1 file waits to be read, and they become fewer",
    ],
    (3, 3): ["ok", "nothing is wrong; 3 files wait to be read"],
    (0, *range(1000, 8000, 1000)): [
        "warn",
        "7,000 files wait to be read, 5,000 more than 5 batches ago",
    ],
}


def test_it_does_not_say_that_all_is_well_beside_a_backlog_that_grows(shown, tab):
    tab.browser.get(shown.address)
    for waiting, said in CALM.items():
        batches = [{"waiting": each, "files_waiting": each} for each in waiting]
        assert tab.run("return calm(arguments[0])", batches) == said
    kafka = [{"waiting": each, "files_waiting": None} for each in (1, 2)]
    assert "2 records wait" in tab.run("return calm(arguments[0])", kafka)[1]


def test_what_is_read_and_what_arrives_are_two_numbers(shown, tab):
    tab.browser.get(shown.address)
    full = """
        const card = newCard("full")
        const all = [[0, 19, 9], [2, 20, 8]].map(([at, files, waiting]) => ({
          batch: at, at, files, waiting, files_waiting: waiting, rows: 100, seconds: 1,
        }))
        card.batches = all
        numbers(card, {rows: 200}, all[1])
        return [...card.numbers.children].slice(0, 2).map((each) => each.innerText)
    """
    read, arriving = tab.run(full)
    assert read.startswith("rows read")
    assert arriving.startswith("new rows arriving")
    assert [re.sub(r"\D", "", each) for each in (read, arriving)] == ["50", "0"]


def test_what_a_job_says_is_text(shown, tab):
    shown.result = [SCRIPT, "n"], [False, True], [(SCRIPT, "2")]
    shown.page.results = shown.results(SCRIPT)
    shown.page.spark = "javascript:alert(1)"
    shown.add(OF_WINDOWS[0], name=SCRIPT)
    tab.browser.get(shown.address)
    with nothing_else(tab, shown.port):
        tab.until("td", lambda found: found == [SCRIPT, "2"])
        assert tab.texts("h2") == [SCRIPT]
        assert tab.texts("th")[0] == SCRIPT
        assert tab.run(
            "return [document.scripts.length, document.images.length, document.title]"
        ) == [
            2,
            0,
            "sparkstream",
        ]
        assert tab.run("return document.getElementById('spark').hidden")


def test_an_error_is_shown_and_the_end_too(shown, tab, monkeypatch):
    shown.add(OF_WINDOWS[0])
    tab.browser.get(shown.address)
    tab.until("h2", len)
    with monkeypatch.context() as broken:
        broken.setattr(Board, "pictures", lambda _: {"here": []}["gone"])
        tab.until("#problem", lambda found: "KeyError" in found[0])
    tab.until("#problem", lambda found: not found[0])
    shown.page.board.end()
    shown.page.end("the run has ended")
    tab.until("#state", lambda found: found == ["the run has ended"])
    assert tab.run("return document.getElementById('stop').hidden")


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_a_screen_by_day_and_by_night(shown, tab, width):
    for each in TOLD:
        shown.add(each)
    shown.add(
        OF_WINDOWS[0],
        name="a_query_with_a_name_that_is_much_longer_than_any_phone_is_wide",
        id=OTHER,
    )
    tab.emulate(width)
    tab.browser.get(shown.address)
    tab.until("figure canvas", lambda found: len(found) >= 9)
    back, canvas = (
        "getComputedStyle(document.body).backgroundColor",
        "document.querySelector('canvas')",
    )
    looks = f"return [{back}, {canvas}.toDataURL()]"
    light = tab.run(looks)
    assert tab.run("return document.documentElement.scrollWidth") <= width
    lefts = (
        "[...document.querySelectorAll('figure:not([hidden])')].map(each =>"
        " each.offsetLeft)"
    )
    assert (len(set(tab.run(f"return {lefts}"))) == 1) == (width == 390)
    tab.emulate(width, "dark")
    tab.until(
        "h2",
        lambda _: all(
            now != before for now, before in zip(tab.run(looks), light, strict=True)
        ),
    )
    assert tab.run("return document.documentElement.scrollWidth") <= width


def test_the_rows_of_a_result_are_sorted_by_a_click_and_stay_so(shown, tab):
    kinds, rows = (
        [False, True, False],
        [
            ("tea", "9", None),
            ("ink", "10", "b"),
            ("pen", "-1", "a"),
        ],
    )
    shown.result = ["shop", "n", "note"], kinds, rows
    shown.add(OF_WINDOWS[0])
    tab.browser.get(shown.address)

    def column(place):
        return tab.texts(f"tbody td:nth-child({place})")

    def click(place):
        tab.run(
            "document.querySelectorAll('th button')[arguments[0] - 1].click()", place
        )

    tab.until("td", lambda found: len(found) == 9)
    assert column(1) == ["tea", "ink", "pen"], "as the job has it"
    click(2)
    assert column(2) == ["10", "9", "-1"], "by number, the largest first"
    assert tab.run(
        "return [...document.querySelectorAll('th')].map(each => each.ariaSort)"
    ) == [*("none", "descending", "none")]
    shown.result = ["shop", "n", "note"], kinds, [*rows, ("oil", "11", "c")]
    shown.add(OF_WINDOWS[0], batchId=OF_WINDOWS[0]["batchId"] + 1)
    tab.until("td", lambda found: len(found) == 12)
    assert column(2) == ["11", "10", "9", "-1"], "new rows, too"
    click(2)
    click(2)
    assert column(1) == ["tea", "ink", "pen", "oil"], "as the job has it again"
    click(3)
    assert column(3) == ["a", "b", "c", "NULL"], "what is not known comes last"


def test_without_the_token_nothing_is_shown_and_there_is_no_button(shown, tab):
    shown.add(OF_WINDOWS[0])
    tab.browser.get(shown.address.partition("#")[0])
    tab.until(
        "#state",
        lambda found: found[0].startswith(
            "not shown: open the address that this run printed"
        ),
    )
    assert tab.texts("h2") == []
    assert tab.run("return document.getElementById('stop').hidden")
    assert (
        tab.run("return fetch('stop', {method: 'POST'}).then(answer => answer.status)")
        == 401
    )
    assert shown.stops == []
    tab.browser.get(shown.address)  # the same page, and now its token
    tab.until("h2", len)


COUNTS = """
import sys
from sparkstream_kit import run, sinks, sources, spark_session, start
with spark_session("counts", profile="test") as spark:
    counts = sources.text(spark, sys.argv[1]).groupBy("value").count()
    query = start(counts, sinks.latest("counts"), name="counts", mode="complete")
    print(run(query, ui=int(sys.argv[2])), file=sys.stderr)
"""


def test_a_job_is_watched_killed_started_again_and_ended(folder, tab, free_port):
    list(
        feeds.drip(
            islice(iter(feeds.sales_files(None, rows=20, seed=1)), 2), folder, every=0
        )
        or ()
    )
    job = (sys.executable, "-c", COUNTS, str(folder), free_port)
    how = {
        "env": environment(),
        "stderr": subprocess.PIPE,
        "stdout": subprocess.DEVNULL,
    }
    with running(*job, **how) as first:
        tab.browser.get(address(first))
        tab.until("td", lambda found: len(found) > 8)
        assert tab.texts("h2") == ["counts"]
        assert tab.texts("h3") == [
            f"Result view counts: {len(tab.texts('tbody tr'))} rows"
        ]
        first.kill()
        tab.until(
            "#state",
            lambda found: found[0].startswith("no connection: the job has been killed"),
        )
    with running(*job, **how) as second:
        new = address(second)
        tab.until(
            "#state",
            lambda found: found[0].startswith(
                "not shown: open the address that this run"
            ),
        )
        assert tab.run("return document.getElementById('stop').hidden"), (
            "each run has a token of its own"
        )
        tab.browser.get(new)
        tab.until("td", len)
        stop_twice(tab)
        tab.until("#state", lambda found: found == ["the run has ended"])
        said = second.communicate(timeout=HANGS)[1]
    assert second.returncode == 0
    assert "by: the web page" in said


def address(process):
    """The address that a job prints."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+/#token=\S+", line):
            return found[0]
    raise AssertionError("the job has printed no address")


def stop_twice(tab):
    tab.until("#stop", lambda found: found == ["Stop the run"])
    tab.run("document.getElementById('stop').click()")
    tab.until("#stop", lambda found: found == ["Click again to stop"])
    tab.run("document.getElementById('stop').click()")


def test_a_result_of_four_columns_fits_a_phone(shown, tab):
    columns, words = (
        [
            "ProductKey",
            "Orders",
            "TotalSales",
            "Comment",
        ],
        "a longer description, with words",
    )
    rows = [(f"Computer-desktop-{n}", str(n), f"{n}4321.50", words) for n in range(12)]
    shown.result = columns, [False, True, True, False], rows
    shown.add(OF_WINDOWS[0])
    tab.emulate(390)
    tab.browser.get(shown.address)
    tab.until("td", lambda found: len(found) == 48)
    wide = (
        "document.querySelector('.scroll').scrollWidth <="
        " document.querySelector('.scroll').clientWidth"
    )
    assert tab.run(f"return {wide}"), "no column is pushed off the screen"
    numbers = "[...document.querySelectorAll('.bars span.number, td.number')]"
    cut = f"return {numbers}.some(each => each.scrollWidth > each.clientWidth + 1)"
    assert not tab.run(cut), "no number is cut"
