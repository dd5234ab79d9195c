"""What a page is sent and what a result shows, step by step, without Spark."""

# ruff: noqa: SLF001 - the steps of the module are its own
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from support.pictures import AT, batch, picture
from support.played import Played
from support.recorded import OTHER, progress

from sparkstream_kit.monitoring import pictures
from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.monitoring.pictures import Result, Results, Sent
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.verdicts import Verdict

BAD = Verdict("bad", "it falls\nbehind", "backlog")


# --- a view in a thread


def test_a_view_draws_in_a_thread_until_the_block_ends(monkeypatch):
    limits: list[Any] = []
    seen: list[Any] = []
    real = threading.Thread.join

    def join(thread, timeout=None):
        limits.append(timeout)
        real(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)

    def draw(over):
        seen.append((threading.current_thread().name, over.is_set()))
        over.wait(30)
        seen.append(over.is_set())

    with pictures.drawing(draw):
        pass
    assert seen[-1] is True
    assert seen[0][0] == "sparkstream-picture"
    assert limits == [10.0]


def test_a_view_that_fails_is_a_line_in_the_log(caplog):
    def draw(_):
        raise ValueError("no room")

    with pictures.drawing(draw):
        pass
    assert caplog.messages == [
        "the run goes on without its picture: ValueError: no room"
    ]


class Over(threading.Event):
    """The end of a run, which comes after some moments; it keeps how long a view waits."""

    def __init__(self, after):
        super().__init__()
        self.after = after
        self.waits: list[float] = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        if len(self.waits) >= self.after:
            self.set()
        return self.is_set()


@pytest.mark.parametrize(("live", "count"), [(True, 4), (False, 0)])
def test_a_view_draws_at_each_moment_and_at_the_end(live, count):
    board, over = Board(), Over(after=3)
    board.live = live
    found = list(pictures.moments(board, over, every=0.25, beat=0.0))
    assert len(found) == count
    assert over.waits == [0.25] * 3


def test_a_run_that_has_ended_is_drawn_once():
    over = Over(after=1)
    over.set()
    assert list(pictures.moments(Board(), over, every=0.25, beat=0.0)) == [None]
    assert over.waits == []


def test_a_view_waits_for_a_change_of_the_board():
    asked: list[Any] = []
    versions = iter([5, 7, 7])

    def wait(version, limit):
        asked.append((version, limit))
        return next(versions)

    board: Any = SimpleNamespace(wait=wait, live=True)
    list(pictures.moments(board, Over(after=3), every=0.25, beat=2.0))
    assert asked == [(-1, 2.0), (5, 2.0), (7, 2.0)]


# --- what a browser is sent


class Found:
    """Results of queries that a test sets, and what was asked of them."""

    def __init__(self, **results):
        self.results: dict[str, Any] = results
        self.asked: list[Any] = []

    def of(self, name, batches, *, last):
        self.asked.append((name, batches, last))
        return self.results.get(name)


def sent_by(results=None):
    """Return what sends a browser its news."""
    found: Any = results or Found()
    return Sent(found)


def told(sent, *queries, ended="", spark=None):
    """Return what a browser is sent of some queries."""
    text = sent.text(queries, ended=ended, spark=spark)
    assert "\n" not in text
    return json.loads(text)


def test_the_first_message_says_so():
    sent = sent_by()
    assert told(sent) == {"first": True, "ended": "", "spark": None, "queries": []}
    again = told(sent, ended="it\nended", spark="http://host:4040")
    assert again == {
        "first": False,
        "ended": r"it\nended",
        "spark": "http://host:4040",
        "queries": [],
    }


def test_a_query_is_sent_with_its_totals_and_verdicts():
    shown = picture(
        name="tea\n",
        verdicts=[BAD],
        input_rows=30,
        late_rows=2,
        bad_rows=None,
    )
    [query] = told(sent_by(), shown)["queries"]
    assert query == {
        "name": r"tea\n",
        "verdicts": [["bad", r"it falls\nbehind"]],
        "batches": [],
        "totals": {"rows": 30, "late": 2, "bad": None},
    }


def test_each_batch_is_sent_once_also_the_first_one():
    sent = sent_by()

    def numbers(*queries):
        return [
            [each["batch"] for each in query["batches"]]
            for query in told(sent, *queries)["queries"]
        ]

    assert numbers(picture()) == [[]]
    assert numbers(picture(batch(0), batch(1))) == [[0, 1]]
    assert numbers(picture(batch(0), batch(1))) == [[]]
    other = picture(batch(0), name="other")
    assert numbers(picture(batch(1), batch(2)), other) == [[2], [0]]
    assert numbers(picture()) == [[]]
    assert numbers(picture(batch(2), batch(3))) == [[3]], "it is not forgotten"


def test_a_result_is_sent_when_it_is_another():
    one = Result("view q", ["a"], [False], [("x",)])
    found = Found(q=one)
    sent = sent_by(found)
    [query] = told(sent, picture(batch()))["queries"]
    assert query["result"] == {
        "place": "view q",
        "columns": ["a"],
        "numeric": [False],
        "rows": [["x"]],
        "more": False,
        "bars": [],
        "problem": None,
    }
    assert "result" not in told(sent, picture(batch()))["queries"][0]
    found.results["q"] = Result("view q", problem="gone")
    [query] = told(sent, picture(batch()), ended="now")["queries"]
    assert query["result"]["problem"] == "gone"
    assert found.asked == [("q", 1, False), ("q", 1, False), ("q", 1, True)]


def test_a_query_without_a_result_is_sent_none():
    assert "result" not in told(sent_by(), picture(batch()))["queries"][0]


# --- the status


def test_the_status_has_each_query_with_its_last_batch():
    board = Board()
    board.live = False
    board.problem = "no room"
    board.add(progress())
    board.add(progress(batchId=64))
    answer = json.loads(pictures.status(board, "it\x1bended"))
    [query] = answer.pop("queries")
    assert answer == {"version": 1, "ended": "it\x1bended", "problem": "no room"}
    assert query["batch"]["batch"] == 64
    assert query["summary"]["batches"] == 2


def test_the_status_controls_no_terminal_and_has_the_verdicts_of_now():
    board = Board()
    board.watch([Played("tea\x1b\u202e")])
    board._queries[Played.id].since = AT
    text = pictures.status(board, "")
    assert r"tea\u001b\u202e" in text
    [query] = json.loads(text)["queries"]
    assert query["batch"] is None
    assert [each["kind"] for each in query["summary"]["verdicts"]] == ["silence"]


# --- results


@pytest.fixture
def reads(monkeypatch):
    """A clock that a test sets, and the reads of results; each gives another one."""
    played = SimpleNamespace(now=1000.0, done=[])

    def read(*place):
        played.done.append(place)
        return Result(f"read {len(played.done)}")

    monkeypatch.setattr(pictures, "_read_result", read)
    clock = SimpleNamespace(monotonic=lambda: played.now)
    monkeypatch.setattr(pictures, "time", clock)
    return played


def results_of(*names):
    where: Any = {name: (f"session of {name}", f"place of {name}") for name in names}
    return Results(where)


def test_a_query_whose_rows_are_elsewhere_has_no_result(reads):
    assert results_of("q").of("other", 5, last=True) is None
    assert reads.done == []


def test_a_result_is_read_after_the_first_batch(reads):
    results = results_of("q")
    assert results.of("q", 0, last=False) is None
    assert results.of("q", 0, last=True) is None
    assert reads.done == []
    assert results.of("q", 1, last=False) == Result("read 1")
    assert reads.done == [("session of q", "place of q")]


@pytest.mark.parametrize(
    ("batches", "later", "last", "is_read"),
    [
        (1, 1000, False, False),
        (1, 1000, True, False),
        (2, 1.9, False, False),
        (2, 2.0, False, True),
        (2, 0, True, True),
    ],
    ids=["no-batch", "no-batch-at-the-end", "soon", "two-seconds", "at-the-end"],
)
def test_a_result_is_read_again_after_a_batch_and_two_seconds(
    batches, later, last, is_read, reads
):
    results = results_of("q")
    before = results.of("q", 1, last=False)
    reads.now += later
    after = results.of("q", batches, last=last)
    assert (after is before) is not is_read
    assert len(reads.done) == 1 + is_read


def test_each_query_has_its_own_time_of_reading(reads):
    results = results_of("q", "other")
    results.of("q", 1, last=False)
    assert results.of("other", 1, last=False) == Result("read 2")
    assert results.of("q", 1, last=False) == Result("read 1")


VIEW, TABLE = Target("view", "totals"), Target("memory", "rows")


@pytest.mark.parametrize(
    ("targets", "memory", "place"),
    [
        ((VIEW,), False, VIEW),
        ((TABLE,), False, None),
        ((TABLE,), True, TABLE),
        ((Target("folder", "out"), VIEW, TABLE), True, VIEW),
        ((Target("folder", "out"), TABLE, VIEW), False, VIEW),
        ((), True, None),
    ],
    ids=["view", "table", "table-wanted", "first", "first-view", "none"],
)
def test_the_place_of_a_result_is_what_the_query_writes(targets, memory, place):
    query = Played("q", session="session", targets=targets)
    found: dict[str, Any] = pictures.places([query], memory=memory)
    assert found == ({} if place is None else {"q": ("session", place)})


def test_places_are_by_name_or_else_by_id():
    queries = [
        Played(None, session="one", targets=(VIEW,)),
        Played("q", session="two", targets=(VIEW,)),
        Played("without a session", targets=(VIEW,)),
        Played("without a target", session="three"),
    ]
    found: dict[str, Any] = pictures.places(queries)
    assert found == {Played.id: ("one", VIEW), "q": ("two", VIEW)}
    assert OTHER not in found


class Frame:
    """A table of which a test says the columns and the rows."""

    def __init__(self, kinds, rows):
        self.dtypes = list(kinds.items())
        self.columns = list(kinds)
        self.rows = rows

    def count(self):
        return len(self.rows)

    def limit(self, number):
        return Frame(dict(self.dtypes), self.rows[:number])

    def offset(self, number):
        return Frame(dict(self.dtypes), self.rows[number:])


class Tables:
    """A session that has one table, and keeps the names that were asked for."""

    def __init__(self, kinds, rows):
        self.frame = Frame(kinds, rows)
        self.asked: list[str] = []

    def table(self, name):
        self.asked.append(name)
        return self.frame


@pytest.fixture(autouse=True)
def _texts(monkeypatch):
    """The rows of a played frame are texts already."""
    monkeypatch.setattr(
        pictures, "cells", SimpleNamespace(cells=lambda frame: frame.rows)
    )


def rows(count):
    return [(f"n{number}", str(number)) for number in range(count)]


@pytest.mark.parametrize(
    ("kind", "is_number"),
    [
        *(("tinyint", True), ("smallint", True), ("int", True), ("bigint", True)),
        *(("float", True), ("double", True), ("decimal(9,2)", True)),
        *(("string", False), ("interval day", False), ("array<int>", False)),
    ],
)
def test_columns_of_numbers_are_known_by_their_types(kind, is_number):
    spark: Any = Tables({"a": kind}, [])
    assert pictures._of_view(spark, "t", newest=False) == (["a"], [is_number], [])


@pytest.mark.parametrize(
    ("count", "first"), [(0, 0), (49, 0), (50, 0), (51, 1), (60, 10)]
)
def test_of_a_table_the_newest_fifty_rows_are_read(count, first):
    spark: Any = Tables({"a": "string", "n": "int"}, rows(count))
    _, _, found = pictures._of_view(spark, "my table", newest=True)
    assert found == rows(count)[first:]
    assert spark.asked == ["`my table`"]


def test_of_a_view_a_row_more_than_fifty_is_read():
    spark: Any = Tables({"a": "string", "n": "int"}, rows(60))
    columns, numeric, found = pictures._of_view(spark, "v", newest=False)
    assert (columns, numeric) == (["a", "n"], [False, True])
    assert found == rows(51)


@pytest.mark.parametrize(("count", "more"), [(50, False), (51, True)])
def test_a_result_has_fifty_rows_and_says_whether_there_are_more(count, more):
    spark: Any = Tables({"a\n": "string", "n": "int"}, rows(count))
    result = pictures._read_result(spark, Target("view", "tea\n"))
    assert result.place == r"view tea\n"
    assert (result.columns, result.numeric) == ([r"a\n", "n"], [False, True])
    assert result.rows == rows(50)
    assert result.more is more
    assert result.bars[0] == ("n49", "49", 1.0)
    assert result.problem is None


def test_a_table_in_memory_shows_its_newest_rows():
    spark: Any = Tables({"a": "string", "n": "int"}, rows(60))
    result = pictures._read_result(spark, Target("memory", "t"))
    assert result.place == "table t"
    assert result.rows == rows(60)[10:]
    assert result.more is False


def test_a_result_that_cannot_be_read_has_a_problem():
    class Gone:
        def table(self, _):
            raise ValueError("no\x1b table")

    spark: Any = Gone()
    result = pictures._read_result(spark, VIEW)
    problem = r"it cannot be read: ValueError: no\u001b table"
    assert result == Result("view totals", problem=problem)


def test_control_characters_of_values_are_escaped_and_nothing_else():
    found = pictures._printable_row(("a\n", None, "", "0"))
    assert found == (r"a\n", None, "", "0")


# --- bars


@pytest.mark.parametrize(
    ("numeric", "rows", "bars"),
    [
        ([False], [("a",)], []),
        ([], [()], []),
        ([False, True], [], []),
        ([False, True], [("a", None), ("b", "NaN"), ("c", "Infinity")], []),
        ([False, True], [("a", "-1")], [("a", "-1", 0.0)]),
        ([False, True], [("a", "0")], [("a", "0", 0.0)]),
        (
            [False, True],
            [("a", "-1"), ("b", "4"), ("c", "1")],
            [("b", "4", 1.0), ("c", "1", 0.25), ("a", "-1", 0.0)],
        ),
        ([False, True], [("", "1")], [("", "1", 1.0)]),
        ([False, True], [(None, "1")], [("NULL", "1", 1.0)]),
        (
            [False, True, False, True],
            [("a", "9", None, "1")],
            [("a · NULL", "1", 1.0)],
        ),
        ([True, True, True], [("7", "8", "9")], [("7", "9", 1.0)]),
        ([True], [("7",)], [("", "7", 1.0)]),
        ([True, False], [("7", "a")], [("a", "7", 1.0)]),
    ],
    ids=[
        *("no-number", "no-column", "no-row", "not-finite", "negative", "zero"),
        *("largest-first", "empty-text", "null", "two-labels", "numbers"),
        *("one-number", "number-first"),
    ],
)
def test_bars(numeric, rows, bars):
    assert pictures.bars(numeric, rows) == bars


def test_there_are_ten_bars_at_most():
    found = pictures.bars([False, True], rows(12))
    assert [value for _, value, _ in found] == [str(n) for n in range(11, 1, -1)]


@pytest.mark.parametrize(
    ("numeric", "value", "labels"),
    [
        ([False, True, False], 1, [0, 2]),
        ([True, True, True], 2, [0]),
        ([True, True], 0, [1]),
        ([True], 0, []),
    ],
)
def test_labels_are_texts_or_else_the_first_other_column(numeric, value, labels):
    assert pictures._label_places(numeric, value) == labels
