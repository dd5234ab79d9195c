"""The notebook's view step by step, without a kernel: what stands in its HTML and its text."""

# ruff: noqa: SLF001 - the steps of the module are its own
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.pictures import AT, batch, picture
from support.played import Played
from support.recorded import progress

from sparkstream_kit import display
from sparkstream_kit.monitoring import notebook as module
from sparkstream_kit.monitoring.board import Board, QueryState
from sparkstream_kit.monitoring.pictures import Result, Results
from sparkstream_kit.progress import QuerySummary
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.verdicts import Verdict

BAD = Verdict("bad", "it falls <behind>", "backlog")
WARN = Verdict("warn", "it is slow", "slow")
TABLE = Result("view <q>", ["a", "n"], [False, True], [("<x>", "5"), (None, "25")])
GONE = Result("view <q>", problem="it cannot be <read>")
RED, YELLOW, GREEN = "#d64545", "#c98a1b", display.GREEN


class Handle:
    """An output of a cell, which keeps its updates."""

    def __init__(self):
        self.updates: list[Any] = []

    def update(self, bundle, **how):
        self.updates.append((bundle, how))


def test_a_board_is_shown_beneath_the_cell_until_the_block_ends(monkeypatch):
    handle = Handle()
    shown: list[Any] = []
    drawn: list[Any] = []

    def show_html(what, **how):
        shown.append((what, how))
        return handle

    monkeypatch.setattr(display, "show_html", show_html)
    monkeypatch.setattr(module, "_update", lambda *given: drawn.append(given))
    board = Board()
    targets = (Target("memory", "rows"),)
    with module.shown(board, [Played(session="session", targets=targets)]):
        pass
    bundle = {"text/plain": "", "text/html": ""}
    assert shown == [(bundle, {"raw": True, "display_id": True})]
    [(found, results, its_handle, over)] = drawn
    assert found is board
    assert results._places == {"q": ("session", targets[0])}
    assert its_handle is handle
    assert over.is_set()


def test_the_cell_is_drawn_at_each_moment_and_at_the_end(monkeypatch):
    handle, board, results = Handle(), Board(), Results({})
    asked: list[Any] = []
    bundles: list[Any] = []

    def moments(*given, **how):
        asked.append((given, how))
        yield
        given[1].set()
        yield

    def bundle(*given, last):
        bundles.append((given, last))
        return f"bundle {len(bundles)}"

    monkeypatch.setattr(module, "moments", moments)
    monkeypatch.setattr(module, "_bundle", bundle)
    over = threading.Event()
    module._update(board, results, handle, over)
    assert asked == [((board, over), {"every": 0.5, "beat": 1.0})]
    assert bundles == [((board, results), False), ((board, results), True)]
    assert handle.updates == [("bundle 1", {"raw": True}), ("bundle 2", {"raw": True})]


def test_a_view_is_html_and_text_of_each_query(monkeypatch):
    asked: list[Any] = []

    def of(name, batches, *, last):
        asked.append((name, batches, last))

    results = Results({})
    monkeypatch.setattr(results, "of", of)
    board = Board()
    board.add(progress(name="tea"))
    board.expect(QueryState(QuerySummary("ink", "2"), since=datetime.now(UTC)))
    board.end()
    bundle = module._bundle(board, results, last=True)
    assert asked == [("tea", 1, True), ("ink", 0, True)]
    tea, ink = bundle["text/plain"].split("\n\n")
    assert tea.startswith("tea: batch 63 in ")
    assert ink == "ink: ended before its first batch"
    tea, ink = bundle["text/html"].split("<hr>")
    assert " · batch 63 · ended</div>" in tea
    assert "ended before its first batch" in ink
    module._bundle(board, results)
    assert asked[2:] == [("tea", 1, False), ("ink", 0, False)]


# --- text


def test_the_text_of_a_query_begins_with_its_result():
    shown = picture(verdicts=[WARN], name="tea")
    lines = [
        "tea: starting Spark's first batch … 7 s",
        "tea: verdict: it is slow",
    ]
    now = AT + timedelta(seconds=7)
    assert module._query_text(shown, None, now).split("\n") == lines
    with_result = module._query_text(shown, GONE, now).split("\n")
    assert with_result == ["view <q>: it cannot be <read>", *lines]


def test_a_table_of_text_has_numbers_on_the_right():
    assert module._table_text(TABLE).splitlines() == [
        "a      n",
        "----  --",
        "<x>    5",
        "NULL  25",
    ]
    swapped = Result("t", ["n", "a"], [True, False], [("5", "x"), ("25", "y")])
    assert module._table_text(swapped).splitlines() == [
        " n  a",
        "--  -",
        " 5  x",
        "25  y",
    ]


def rows(count, place="view q"):
    texts = [(f"n{number}",) for number in range(count)]
    return Result(place, ["name"], [False], texts)


@pytest.mark.parametrize(
    ("count", "place", "first", "last", "note"),
    [
        (0, "view q", None, None, ""),
        (20, "view q", "n0", "n19", ""),
        (21, "view q", "n0", "n19", "the first 20 rows of view q"),
        (20, "table q", "n0", "n19", ""),
        (21, "table q", "n1", "n20", "the last 20 rows of table q"),
    ],
    ids=["none", "all", "first", "all-of-a-table", "last"],
)
def test_twenty_rows_are_shown(count, place, first, last, note):
    result = rows(count, place)
    shown, said = module._cut(result)
    assert said == note
    assert len(shown) == min(count, 20)
    if shown:
        assert (shown[0], shown[-1]) == ((first,), (last,))
    text = module._table_text(result)
    assert text.endswith(note)
    assert len(text.splitlines()) == 2 + len(shown) + bool(note)


# --- HTML


def test_a_table_of_html_is_escaped_and_says_which_rows_it_has():
    html = module._table_html(TABLE)
    assert html == display.html_table(TABLE.columns, TABLE.numeric, TABLE.rows)
    problem = "<div>view &lt;q&gt;: it cannot be &lt;read&gt;</div>"
    assert module._table_html(GONE) == problem
    many = rows(21, "table <q>")
    table = display.html_table(["name"], [False], many.rows[1:])
    note = "the last 20 rows of table &lt;q&gt;"
    assert module._table_html(many) == (
        f'{table}<small style="opacity:.7">{note}</small>'
    )


def html_of(shown, result=None, now=AT):
    html = module._query_html(shown, result, now)
    assert html.startswith('<div style="line-height:1.5">')
    assert html.endswith("</div>")
    return html.removeprefix('<div style="line-height:1.5">').removesuffix("</div>")


@pytest.mark.parametrize(
    ("verdicts", "colour", "dots"),
    [
        ([], GREEN, ""),
        (
            [BAD, WARN],
            RED,
            (
                f'<div><span style="color:{RED}">●</span> it falls &lt;behind&gt;</div>'
                f'<div><span style="color:{YELLOW}">●</span> it is slow</div>'
            ),
        ),
    ],
    ids=["ok", "bad"],
)
def test_a_query_without_a_batch_has_its_state_and_verdicts(verdicts, colour, dots):
    shown = picture(name="<q>", verdicts=verdicts)
    assert html_of(shown, now=AT + timedelta(seconds=7)) == (
        f'<div><b style="color:{colour}">&lt;q&gt;</b> · starting Spark&#x27;s first'
        f" batch … 7 s</div>{dots}"
    )


@pytest.mark.parametrize(("active", "state"), [(True, ""), (False, " · ended")])
def test_a_query_has_its_last_batch_and_its_numbers(active, state):
    shown = picture(batch(3), batch(4, 2), active=active)
    name = f'<b style="color:{GREEN}">q</b>'
    head = f'<div style="margin-top:8px">{name} · batch 4{state}</div>'
    assert html_of(shown) == head + module._progress(shown)
    assert html_of(shown, TABLE).startswith(module._table_html(TABLE) + head)


def numbers(shown):
    """Return the numbers of a query as they are shown, and which of them have a chart."""
    html = module._progress(shown)
    begin = '<div style="display:flex;flex-wrap:wrap;gap:4px 24px">'
    assert html.startswith(begin)
    parts = html.removeprefix(begin).split('<div><small style="opacity:.7">')[1:]
    found = {}
    for part in parts:
        words, _, rest = part.partition("</small><br><b>")
        value, _, chart = rest.partition("</b><br>")
        found[words] = value, "<svg" in chart
    return found


def test_the_numbers_of_a_query():
    shown = picture(batch(0), batch(1, 4, rows=30, seconds=1.5), input_rows=1234)
    assert numbers(shown) == {
        "rows/s in": ("7.5", True),
        "rows/s done": ("11.4", False),
        "batch": ("1.50 s", True),
        "rows so far": ("1,234", False),
    }
    one = numbers(picture(batch(0)))
    assert not any(has_chart for _, has_chart in one.values()), "no line of one value"


def test_the_numbers_of_a_query_with_a_watermark_and_state():
    last = batch(1, 4, has_watermark=True, watermark=AT, state_rows=5, files_waiting=6)
    shown = picture(*(batch(0), last), state_rows=5_000, late_rows=0, bad_rows=12_345)
    found = numbers(shown)
    assert found["watermark (UTC)"] == ("2026-01-14 09:00:00", False)
    assert found["rows in state"] == ("5,000", True)
    assert found["behind"] == ("6", False)
    assert found["late"] == ("0", False)
    assert found["bad"] == ("12,345", False)
    begins = picture(batch(0, has_watermark=True))
    assert numbers(begins)["watermark (UTC)"] == ("none yet", False)


def points(html, number):
    """Return the points of a chart of some HTML."""
    return html.split('<polyline points="')[number].partition('"')[0].split()


def test_a_chart_has_the_last_batches():
    many = picture(*[batch(number, number) for number in range(130)])
    html = module._progress(many)
    assert len(points(html, 1)) == 120
    with_state = [batch(0), batch(1, 1, state_rows=4), batch(2, 2, state_rows=4)]
    chart = points(module._progress(picture(*with_state, state_rows=4)), 3)
    assert chart == ["0.0,23.0", "60.0,1.0", "120.0,1.0"], "no state is a state of 0"


def test_a_chart_needs_two_values():
    assert module._chart([], "red") == module._chart([1], "red") == ""
    assert module._chart([1, 2], "red") == display.line([1, 2], 2, "red")
