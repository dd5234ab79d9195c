"""The terminal's view step by step: when it draws what, and the cells of its table."""

# ruff: noqa: SLF001 - the steps of the module are its own
import importlib.util
import io
import sys
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from support.pictures import AT, batch, picture
from support.played import Played

from sparkstream_kit import display
from sparkstream_kit.monitoring import terminal as module
from sparkstream_kit.monitoring.board import Board, QueryState
from sparkstream_kit.monitoring.pictures import Result
from sparkstream_kit.progress import QuerySummary
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.verdicts import Verdict

BAD = Verdict("bad", "it falls\nbehind", "backlog")
WARN = Verdict("warn", "it is slow", "slow")
TOLD: Any = (batch(0, 0), batch(1234, 4, rows=30, seconds=1.5))


class Stream(io.StringIO):
    """A stream that is a terminal, or none."""

    def __init__(self, *, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


@pytest.fixture
def drawn(monkeypatch):
    """Which view was opened with what, instead of drawing."""
    seen: list[Any] = []
    monkeypatch.setattr(module, "_draw", lambda *given: seen.append(("draw", given)))
    monkeypatch.setattr(module, "_write", lambda *given: seen.append(("write", given)))
    monkeypatch.setenv("TERM", "xterm")
    return seen


@pytest.mark.parametrize(
    ("is_terminal", "term", "has_rich", "way"),
    [
        (True, "xterm", True, "draw"),
        (True, None, True, "draw"),
        (False, "xterm", True, "write"),
        (True, "dumb", True, "write"),
        (True, "unknown", True, "write"),
        (True, "xterm", False, "write"),
    ],
    ids=["terminal", "no-term", "file", "dumb", "unknown", "no-rich"],
)
def test_a_picture_is_drawn_in_a_terminal_that_can(
    is_terminal, term, has_rich, way, drawn, monkeypatch
):
    if term is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", term)
    spec = object() if has_rich else None
    asked: list[str] = []

    def find_spec(name):
        asked.append(name)
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    board, out = Board(), Stream(is_terminal=is_terminal)
    query = Played(session="session", targets=(Target("view", "totals"),))
    with module.shown(board, out, [query]):
        pass
    [(found, given)] = drawn
    assert found == way
    assert given[0] is board
    assert given[-1].is_set()
    if way == "draw":
        assert asked == ["rich"]
        assert given[1]._places == {"q": ("session", Target("view", "totals"))}
        assert given[2] is out
    else:
        assert given[1] is out


def test_without_a_stream_it_is_standard_error(drawn, monkeypatch):
    stream = Stream(is_terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with module.shown(Board()):
        pass
    assert drawn[0][1][1] is stream


# --- a picture in place


class Found:
    """Results of queries, and what was asked."""

    def __init__(self, result=None):
        self.result = result
        self.asked: list[Any] = []

    def of(self, name, batches, *, last):
        self.asked.append((name, batches, last))
        return self.result


BARS = Result("view q", bars=[("tea", "5", 1.0), ("ink", "2.5", 0.5)])


def bars(result, *, last=False):
    found: Any = Found(result)
    drawn = module._bars(picture(batch(), name="q"), found, last=last)
    return found.asked, [text.plain for text in drawn]


def test_a_result_has_its_bars_beneath():
    asked, [text] = bars(BARS, last=True)
    assert asked == [("q", 1, True)]
    assert text == "\n" + display.bars([("tea", 5.0), ("ink", 2.5)])
    assert bars(None)[1] == []
    assert bars(Result("view q"))[1] == []


class Live:
    """What stands in the place of rich's picture: what is drawn, and how."""

    made: list[Any]

    def __init__(self, **how):
        self.how = how
        self.updates: list[Any] = []
        Live.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, group, *, refresh):
        self.updates.append((len(group.renderables), refresh))


@pytest.mark.parametrize("on_stderr", [True, False])
@pytest.mark.parametrize("stdout_is_terminal", [True, False])
def test_a_board_is_drawn_in_place(on_stderr, stdout_is_terminal, monkeypatch):
    Live.made = []
    monkeypatch.setattr("rich.live.Live", Live)
    out = Stream(is_terminal=True)
    if on_stderr:
        monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(sys, "stdout", Stream(is_terminal=stdout_is_terminal))
    moments: list[Any] = []

    def moment(*given, **how):
        moments.append((given, how))
        yield
        given[1].set()
        yield

    monkeypatch.setattr(module, "moments", moment)
    board = Board()
    for name in ("one", "two"):
        board.expect(QueryState(QuerySummary(name, name)))
    results: Any = Found(BARS)
    over = threading.Event()
    module._draw(board, results, out, over)
    [live] = Live.made
    assert live.updates == [(3, True), (3, True)], "a table and two charts"
    assert live.how["auto_refresh"] is False
    assert live.how["console"].file is out
    assert live.how["redirect_stderr"] is on_stderr
    assert live.how["redirect_stdout"] is (on_stderr and stdout_is_terminal)
    assert moments == [((board, over), {"every": 0.25, "beat": 1.0})]
    assert [last for _, _, last in results.asked] == [False, False, True, True]


# --- the table


def table(*pictures, width=120, now=AT):
    """Return the lines of a table, without blanks at their ends."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as shown:
        console.print(module._query_table(pictures, now, width))
    return [line.rstrip() for line in shown.get().splitlines()]


def test_a_table_has_a_line_for_each_query_and_verdicts_beneath():
    shown = picture(*TOLD, verdicts=[BAD], state_rows=1234)
    waits = picture(name="waits")
    assert [line.split() for line in table(shown, waits, width=80)] == [
        *[
            [
                "query",
                "batch",
                "rows/s",
                "in",
                "rows/s",
                "done",
                "batch",
                "ms",
                "state",
                "rows",
            ]
        ],
        ["q", "1,234", "7.5", "11.4", "1,500", "1,234"],
        ["waits", "-", "-", "-", "-", "-"],
        ["○", "waits:", "starting", "Spark's", "first", "batch", "…", "0", "s"],
        ["●", "q:", "it", r"falls\nbehind"],
    ]


@pytest.mark.parametrize(
    ("width", "sparks"),
    [(99, 0), (100, 8), (103, 8), (104, 9), (160, 23), (164, 24), (300, 24)],
)
def test_a_wide_table_has_sparklines(width, sparks, monkeypatch):
    asked: list[int] = []
    real = module._row

    def row(shown, count):
        asked.append(count)
        return real(shown, count)

    monkeypatch.setattr(module, "_row", row)
    lines = table(picture(*TOLD), width=width)
    assert asked == [sparks]
    heads = lines[0].split()
    assert ("time" in heads) is bool(sparks)
    assert ("▂" in lines[1] or "█" in lines[1]) is bool(sparks)


def test_a_long_name_is_cut_at_a_fifth_of_the_width():
    name = "n" * 60
    for width, shown in ((60, 16), (80, 16), (120, 24)):
        line = table(picture(name=name, verdicts=()), width=width)[1]
        assert line.split()[0] == "n" * (shown - 1) + "…"


@pytest.mark.parametrize(
    ("counts", "head"),
    [
        ({"state_rows": 0}, "state rows"),
        ({"late_rows": 0}, "late"),
        ({"bad_rows": 0}, "bad"),
    ],
)
def test_a_number_that_a_query_has_is_a_column(counts, head):
    assert head in table(picture(*TOLD, **counts), picture(*TOLD))[0]
    assert head not in table(picture(*TOLD))[0]
    assert head not in table(picture(**counts))[0], "before its first batch"


def test_what_waits_is_a_column():
    behind = batch(1, files_waiting=0)
    assert "behind" in table(picture(behind))[0]
    assert "behind" not in table(picture(*TOLD))[0]


def cells(shown, sparks):
    """Return the cells of a query as texts, and their styles."""
    found = module._row(shown, sparks)
    texts = [cell.plain if isinstance(cell, Text) else cell for cell in found]
    return texts, [str(cell.style) for cell in found if isinstance(cell, Text)]


def test_the_cells_of_a_query():
    texts, styles = cells(picture(*TOLD, name="tea\n", verdicts=[BAD]), 0)
    assert texts == [r"tea\n", "1,234", "7.5", "11.4", "1,500"]
    assert styles == ["bold red"]
    texts, styles = cells(picture(*TOLD), 2)
    assert texts == ["q", "1,234", "7.5", "11.4", "▃█", "1,500", "█▆"]
    assert styles == ["green", "blue", "magenta"]


def test_the_cells_of_a_query_without_a_batch():
    assert cells(picture(verdicts=[WARN]), 0) == (["q", *"----"], ["yellow"])
    assert cells(picture(), 2)[0] == ["q", "-", "-", "-", "", "-", ""]


def beneath(*pictures):
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as shown:
        for lines in module._lines_beneath(pictures, AT + timedelta(seconds=7)):
            console.print(lines)
    return [line.rstrip() for line in shown.get().splitlines()]


def test_beneath_the_table_bad_verdicts_come_first():
    shown = [
        picture(batch(), name="one\n", verdicts=[WARN]),
        picture(name="two", verdicts=[BAD, WARN]),
    ]
    assert beneath(*shown) == [
        "○ two: starting Spark's first batch … 7 s",
        r"● two: it falls\nbehind",
        r"● one\n: it is slow",
        "● two: it is slow",
    ]
    assert module._lines_beneath([picture(batch())], AT) == []


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 4, ""),
        ([0], 4, "▁"),
        ([1, 1], 4, "██"),
        ([0, 1, 2], 4, "▁▄█"),
        ([9, 1, 1, 1], 3, "███"),
        ([1, 9, 1], 3, "▃█▃"),
    ],
)
def test_a_sparkline_has_the_last_values_in_eight_heights(values, width, line):
    assert module._sparkline(values, width) == line


# --- lines


class Clock:
    """A clock that a test sets, and the moments of a view."""

    def __init__(self, monkeypatch, board, *steps):
        self.now = 1000.0
        self.board = board
        self.out = Stream(is_terminal=False)
        self.over = threading.Event()
        self.steps = steps
        self.asked: list[Any] = []
        self.shown: list[list[str]] = []
        monkeypatch.setattr(module, "moments", self.moments)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        module._write(board, self.out, self.over)
        self._keep()

    def _keep(self):
        self.shown.append(self.out.getvalue().splitlines())
        self.out.seek(0)
        self.out.truncate()

    def moments(self, *given, **how):
        self.asked.append((given, how))
        for number, step in enumerate(self.steps):
            if number:
                self._keep()
            step(self)
            yield


def pictures_of(*shown):
    """Return a step after which a board shows some pictures."""

    def step(clock):
        clock.board.pictures = lambda: list(shown)

    return step


def later(seconds, *shown, ends=False):
    def step(clock):
        pictures_of(*shown)(clock)
        clock.now += seconds
        if ends:
            clock.over.set()

    return step


ONE, TWO, THREE = (
    picture(*[batch(number) for number in range(count)]) for count in (1, 2, 3)
)


def test_a_query_has_a_line_when_it_has_changed_and_five_seconds_are_over(monkeypatch):
    board: Any = SimpleNamespace()
    clock = Clock(
        monkeypatch,
        board,
        later(0, ONE),
        later(100, ONE),
        later(0, TWO),
        later(4.9, THREE),
        later(0.1, THREE),
        later(1, ONE),
        later(1, TWO, ends=True),
    )
    assert [[line.split()[2] for line in lines] for lines in clock.shown] == [
        *(["0"], [], ["1"], [], ["2"], [], ["1"]),
    ]
    assert clock.asked == [((board, clock.over), {"every": 0.25, "beat": 1.0})]


def test_each_query_has_its_own_lines(monkeypatch):
    other = picture(batch(), name="other", verdicts=[WARN])
    clock = Clock(monkeypatch, SimpleNamespace(), later(0, ONE), later(1, ONE, other))
    assert len(clock.shown[0]) == 1
    assert [line.partition(":")[0] for line in clock.shown[1]] == ["other", "other"]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (picture(batch()), picture(batch(1)), True),
        (picture(batch()), picture(batch(), batch()), False),
        (
            picture(verdicts=[WARN]),
            picture(verdicts=[Verdict("warn", "slower", "slow")]),
            True,
        ),
        (picture(verdicts=[WARN]), picture(), False),
        (picture(), picture(active=False), False),
        (picture(batch()), picture(batch(), active=False), True),
    ],
    ids=["batch", "batches", "text", "kinds", "ended", "ended-later"],
)
def test_what_must_change_before_a_new_line(one, other, is_same):
    assert (module._state(one) == module._state(other)) is is_same


def test_the_lines_of_a_query():
    shown = picture(*TOLD, name="tea\n", verdicts=[BAD, WARN], late_rows=12_345)
    assert module.lines(shown, AT) == [
        r"tea\n: batch 1,234 in 1.5 s, 7.5 rows/s in, 11.4 rows/s done, late: 12.3k",
        r"tea\n: verdict: it falls\nbehind",
        r"tea\n: verdict: it is slow",
    ]
    assert module.lines(picture(), AT + timedelta(seconds=7)) == [
        "q: starting Spark's first batch … 7 s"
    ]


def test_the_numbers_of_a_query():
    last = batch(7, seconds=0.06, records_behind=0)
    shown = picture(last, state_rows=1, late_rows=2, bad_rows=3)
    assert module._numbers(shown) == (
        "batch 7 in 0.1 s, - rows/s in, 167 rows/s done, rows in state: 1, behind:"
        " 0, late: 2, bad: 3"
    )
