"""The harness step by step, without Spark: rows, values, files, and queries that a test plays."""

# ruff: noqa: SLF001 - the steps of the harness are its own
import itertools
import os
import pickle
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import refusal
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, Row
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema
from support import checkpoint_files as files
from support.played import Played
from support.recorded import TOLD, progress

import sparkstream_kit
from sparkstream_kit import sinks
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.testing import harness
from sparkstream_kit.testing.harness import Batch, Query, Source, Streams

WITH_STATE = next(each for each in TOLD if each["name"] == "action_windows")


@pytest.mark.parametrize(
    ("error", "hidden"),
    [(AssertionError(), True), (InvalidInputError("x"), True), (KeyError(), False)],
    ids=["assertion", "kit", "other"],
)
def test_the_kit_s_frames_are_hidden_for_faults_of_a_test(error, hidden):
    info = pytest.ExceptionInfo.from_exc_info((type(error), error, None))  # type: ignore[arg-type]
    assert harness.fault_of_the_test(info) is hidden


ROW: Any = Row  # of values without names

# --- rows


NAMES = ["product", "amount"]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (("tea", 1), {"product": "tea", "amount": 1}),
        (["tea", 1], {"product": "tea", "amount": 1}),
        ({"amount": 1}, {"amount": 1}),
        ({}, {}),
        (Row(amount=1, product="tea"), {"amount": 1, "product": "tea"}),
        (ROW("tea", 1), {"product": "tea", "amount": 1}),
    ],
    ids=["tuple", "list", "dict", "empty-dict", "row", "row-without-names"],
)
def test_a_row_has_values_by_name(row, named):
    assert harness.by_name(row, NAMES) == named


@pytest.mark.parametrize("row", [("tea",), ("tea", 1, 2), "te", 5, None, {1, 2}])
def test_a_row_of_another_shape_is_refused(row):
    said = refusal(harness.by_name, row, NAMES)
    assert said == (
        f"row {row!r} does not fit the columns product, amount; give tuples of 2, dicts"
        " or Rows"
    )


def test_an_unknown_column_of_a_row_is_refused():
    for row in ({"amout": 1}, Row(amout=1)):
        said = refusal(harness.by_name, row, NAMES)
        assert said == "unknown column amout; did you mean amount?"


def test_a_dict_is_put_in_the_order_of_the_columns():
    assert harness.in_order({"amount": 1}, NAMES) == (None, 1)
    assert harness.in_order({"amount": 1, "product": "tea"}, NAMES) == ("tea", 1)
    row = Row(amount=1)
    assert harness.in_order(row, NAMES) is row


NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ([1, 2], (1, 2), True),
        (Row(a=1), (1,), True),
        ([[1]], ((1,),), True),
        ([1, 2], [2, 1], False),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": 1}, {"a": 2}, False),
        ({(1,): 1}, {(1,): 1}, True),
        (bytearray(b"a"), b"a", True),
        (NAN, NAN, True),
        (NAN, 1.0, False),
        (0.1 + 0.2, 0.3, True),
        (1.00000001, 1.00000002, False),
        (1.0000000001, 1.0, True),
        (1.0, 1, True),
        ("a", "b", False),
        (None, None, True),
    ],
)
def test_values_that_count_as_equal_have_one_form(one, other, is_same):
    forms = harness.canonical(one), harness.canonical(other)
    assert (forms[0] == forms[1]) is is_same
    assert len(set(forms)) == 1 if is_same else 2


def test_rows_are_taken_from_rows_one_by_one():
    rows = [("a", 1), ("b", 2), ("a", 1), ("c", 3)]
    assert harness.without(rows, []) == rows
    assert harness.without(rows, [["a", 1.0]]) == [("b", 2), ("a", 1), ("c", 3)]
    assert harness.without(rows, [*rows, ("d", 1)]) == []
    assert harness.without([], rows) == []


def test_what_differs_is_missing_or_unexpected():
    assert harness.differing([1, 2], [2, 1]) == {}
    assert harness.differing([1, 2], [2]) == {
        "missing": [1],
        "unexpected": [],
        "expected": [1, 2],
    }
    assert harness.differing([1], [1, 1]) == {
        "missing": [],
        "unexpected": [1],
        "expected": [1],
    }


def test_a_failure_has_a_row_a_line():
    text = harness.failure_message("other rows", {"a": [("x", 1), "y"], "b": []})
    assert text == "other rows\na:\n  ('x', 1)\n  'y'\nb: none"
    assert harness.failure_message("none", {}) == "none"


# --- values for pyarrow


def struct(**kinds):
    return T.StructType([T.StructField(name, kind) for name, kind in kinds.items()])


INT, STRING = T.IntegerType(), T.StringType()
TIME = T.TimestampType()
PAIR = struct(x=INT, y=STRING)


@pytest.mark.parametrize(
    ("value", "kind", "arrow"),
    [
        (None, PAIR, None),
        ((1, "a"), PAIR, {"x": 1, "y": "a"}),
        ({"y": "a"}, PAIR, {"x": None, "y": "a"}),
        ([1, None], T.ArrayType(INT), [1, None]),
        ((1,), T.ArrayType(INT), [1]),
        ([(1, "a")], T.ArrayType(PAIR), [{"x": 1, "y": "a"}]),
        ({1: (2, "a")}, T.MapType(INT, PAIR), [(1, {"x": 2, "y": "a"})]),
        ({(1, "a"): 2}, T.MapType(PAIR, INT), [({"x": 1, "y": "a"}, 2)]),
        (5, INT, 5),
        (True, INT, True),
        (1.5, T.DoubleType(), 1.5),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), TIME, 1_000_000),
        (date(2026, 1, 14), T.DateType(), date(2026, 1, 14)),
        ("a", STRING, "a"),
    ],
)
def test_a_value_is_made_one_of_pyarrow_s(value, kind, arrow):
    found = harness._to_arrow(value, kind)
    assert found == arrow
    assert type(found) is type(arrow)


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("ab", T.ArrayType(STRING), "'ab' is not a list"),
        (b"ab", T.ArrayType(INT), "b'ab' is not a list"),
        ({"a": 1}, T.ArrayType(STRING), "{'a': 1} is not a list"),
        (1.5, INT, "1.5 is not a whole number"),
        (Decimal(1), T.LongType(), "Decimal('1') is not a whole number"),
        ("noon", TIME, "'noon' is not a datetime"),
        (date(2026, 1, 14), TIME, "datetime.date(2026, 1, 14) is not a datetime"),
        ((1,), PAIR, "row (1,) does not fit the columns x, y; give tuples of 2"),
    ],
)
def test_a_value_of_another_type_is_refused(value, kind, said):
    assert refusal(harness._to_arrow, value, kind).startswith(said)


SALES = T.StructType(
    [T.StructField("product", STRING), T.StructField("amount", INT, nullable=False)]
)
ARROW = to_arrow_schema(SALES)


def test_rows_are_written_as_a_parquet_file(tmp_path):
    path = tmp_path / "sales"
    rows = [("tea", 1), {"amount": 2}, Row(amount=3, product="ink")]
    harness.write_parquet(path, rows, SALES, ARROW)
    table = pq.read_table(path)
    assert table.to_pylist() == [
        {"product": "tea", "amount": 1},
        {"product": None, "amount": 2},
        {"product": "ink", "amount": 3},
    ]
    assert table.schema.names == ["product", "amount"]
    harness.write_parquet(path, [], SALES, ARROW)
    assert pq.read_table(path).num_rows == 0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("tea", 1), ("ink", None)],
            (
                "column amount (int): it is NOT NULL, and {'product': 'ink', 'amount':"
                " None} has no value for it; give one"
            ),
        ),
        (
            [{"product": "tea"}],
            (
                "column amount (int): it is NOT NULL, and {'product': 'tea'} has no value"
                " for it; give one"
            ),
        ),
        ([("tea", 2**31)], "column amount (int): "),
        ([(5, 1)], "column product (string): "),
        ([("tea", 1.5)], "column amount (int): 1.5 is not a whole number"),
        ([("tea",)], "row ('tea',) does not fit the columns product, amount; give tup"),
    ],
    ids=["null", "left-out", "large", "number", "fraction", "few"],
)
def test_rows_that_do_not_fit_are_refused(rows, said, tmp_path):
    path = tmp_path / "sales"
    found = refusal(harness.write_parquet, path, rows, SALES, ARROW)
    assert found.startswith(said)
    assert not path.exists()


def test_a_map_that_is_no_dict_names_its_column(tmp_path):
    columns = struct(m=T.MapType(INT, INT))
    arrow = to_arrow_schema(columns)
    said = refusal(harness.write_parquet, tmp_path / "m", [([1],)], columns, arrow)
    assert said == "column m (map<int,int>): 'list' object has no attribute 'items'"


# --- a batch


def batch(number=0, rows=(), **changes):
    return Batch(number, list(rows), progress(WITH_STATE, **changes))


@pytest.mark.parametrize(
    ("rows", "read", "is_empty"),
    [([], 0, True), ([], 1, False), ([ROW(1)], 0, False), ([ROW(1)], 1, False)],
)
def test_a_batch_is_empty_that_read_and_delivered_nothing(rows, read, is_empty):
    assert batch(0, rows, numInputRows=read).is_empty is is_empty


def test_the_late_rows_of_a_batch_are_those_of_all_its_operators():
    [one] = WITH_STATE["stateOperators"]
    states = [one | {"numRowsDroppedByWatermark": late} for late in (2, 3)]
    assert batch(stateOperators=states).late_rows == 5
    assert batch(stateOperators=[]).late_rows == 0


@pytest.fixture
def tokyo(monkeypatch):
    """The time zone of the process is that of Tokyo."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("tokyo")
@pytest.mark.parametrize(
    ("told", "watermark"),
    [
        ({}, None),
        (
            {"watermark": "2026-01-14T09:00:00.000Z"},
            datetime(2026, 1, 14, 18),  # noqa: DTZ001 - as rows have it
        ),
        (
            {"watermark": "9999-12-31T23:59:59.000Z"},
            datetime(9999, 12, 31, 23, 59, 59),  # noqa: DTZ001 - as rows have it
        ),
    ],
    ids=["none", "local", "drained"],
)
def test_the_watermark_of_a_batch_is_a_local_time(told, watermark):
    assert batch(eventTime=told).watermark == watermark


# --- a query that a test plays


class Alive(Played):
    """A query that runs until it is stopped.

    Args:
        batches: the progress of its batches, which come when its input is processed.
        fails: the error of processing.
        ends: it has ended when all is processed.
    """

    def __init__(self, batches=(), fails=None, ends=False):
        super().__init__("q")
        self.batches_to_come = list(batches)
        self.fails = fails
        self.ends = ends

    def processAllAvailable(self):
        super().processAllAvailable()
        self.recentProgress += self.batches_to_come
        self.batches_to_come = []
        if self.ends:
            self.isActive = False
        if self.fails:
            raise self.fails


class Catalog:
    """A session that keeps which views were dropped."""

    def __init__(self):
        self.catalog = self
        self.dropped: list[str] = []

    def dropTempView(self, name):
        self.dropped.append(name)


class PlayedQuery(Query):
    """A query of the harness whose Spark queries a test plays, one for each start."""

    def __init__(self, folder, *runs, mode="append", sink=None, frame=None):
        self.published = 0
        self.starts: list[Any] = []
        self.runs = list(runs)
        self.memory: Any = None
        frame = frame or SimpleNamespace(sparkSession=Catalog())
        super().__init__(frame, mode, sink, folder / "query-0", self._count)
        self._batches.mkdir(parents=True)

    def _count(self):
        self.published += 1

    def _start(self, **trigger):
        self.restart()
        self._memory = self.memory
        self.starts.append(trigger)
        return self.runs.pop(0)


def told_of(number, rows=1, **changes):
    return progress(WITH_STATE, batchId=number, numInputRows=rows, **changes)


def wrote(query, number, *rows):
    """Leave what the sink leaves of a batch, and its commit."""
    count = len(list(query._batches.iterdir()))
    content = pickle.dumps((number, list(rows)))
    (query._batches / f"{count:020}").write_bytes(content)
    committed(query, number)


def committed(query, number, watermark=0):
    files.plan(query._checkpoint, number, number)
    files.commit(query._checkpoint, number, watermark)


def test_a_query_has_a_name_and_folders_of_its_own(tmp_path):
    query = PlayedQuery(tmp_path)
    assert query._name == f"{tmp_path.name}_query_0".replace("-", "_")
    assert query._checkpoint == tmp_path / "query-0" / "checkpoint"
    assert query.batches == []


def test_a_step_publishes_and_gives_the_batches_that_are_not_empty(tmp_path):
    first = Alive([told_of(0), told_of(1, rows=0), told_of(2)])
    query = PlayedQuery(tmp_path, first)
    wrote(query, 0, ROW(1), ROW(2))
    wrote(query, 1)
    wrote(query, 2)
    one, two = query.step()
    assert (query.published, query.starts) == (1, [{}])
    assert (one.batch_id, one.rows) == (0, [(1,), (2,)])
    assert (two.batch_id, two.rows) == (2, [])
    assert two.progress.batchId == 2
    assert [each.batch_id for each in query.batches] == [0, 1, 2]
    assert list(query._batches.iterdir()) == [], "what was read is removed"


def test_a_query_goes_on_between_steps(tmp_path):
    first = Alive([told_of(0)])
    query = PlayedQuery(tmp_path, first)
    wrote(query, 0)
    query.step()
    first.batches_to_come = [told_of(1)]
    wrote(query, 1)
    assert [each.batch_id for each in query.step()] == [1]
    assert len(query.starts) == 1
    assert first.calls == ["processAllAvailable"] * 2
    assert [each.batch_id for each in query.batches] == [0, 1]


def test_a_query_that_has_ended_is_started_again(tmp_path):
    query = PlayedQuery(tmp_path, Alive(ends=True), Alive())
    query.step()
    query.step()
    assert len(query.starts) == 2


def test_a_failed_batch_names_the_query_and_the_next_step_starts_it_again(tmp_path):
    failed = Alive([told_of(0)], StreamingQueryException("no room"))
    query = PlayedQuery(tmp_path, failed, Alive([told_of(1)]))
    wrote(query, 0)
    with pytest.raises(QueryFailed) as caught:
        query.step()
    assert str(caught.value).startswith(f"{query._name} failed: ")
    assert "no room" in str(caught.value)
    wrote(query, 1)
    assert [each.batch_id for each in query.step()] == [0, 1], "with what it had done"
    assert len(query.starts) == 2


def test_another_error_of_a_step_is_as_it_is(tmp_path):
    query = PlayedQuery(tmp_path, Alive(fails=LookupError("mine")))
    with pytest.raises(LookupError, match="mine"):
        query.step()


def test_a_batch_whose_progress_spark_forgot_is_an_error(tmp_path):
    query = PlayedQuery(tmp_path, Alive([told_of(1)]))
    for number in (0, 1):
        wrote(query, number)
    assert refusal(query.step) == (
        "this step ran 2 batches, and Spark forgot the progress of batch 0; step more"
        " often, or give spark.sql.streaming.numRecentProgressUpdates a higher number"
    )


def test_files_that_are_being_written_are_no_batches(tmp_path):
    query = PlayedQuery(tmp_path, Alive())
    (query._batches / ".1").write_bytes(b"half")
    assert query.step() == []


# --- the watermark of a query


def test_a_watermark_moves_by_a_batch_without_data(tmp_path):
    runs = Alive([told_of(0)]), Alive([told_of(1, rows=0)])
    query = PlayedQuery(tmp_path, *runs)
    wrote(query, 0, ROW(1))

    def close():
        wrote(query, 1, ROW(2))
        query.runs[0].calls.clear()

    runs[0].at_stop = close
    found = query.step(watermark=datetime(2026, 1, 14, 9, tzinfo=UTC))
    assert [each.rows for each in found] == [[(1,)], [(2,)]]
    assert query.starts == [{}, {}]
    assert runs[0].calls[-1] == "stop"


def planned(query, number):
    """Return the watermark of the plan of a batch, in milliseconds."""
    return Logs(query._checkpoint).plan(number).watermark


def test_the_empty_batch_is_planned_with_the_watermark(tmp_path):
    query = PlayedQuery(tmp_path, Alive())
    committed(query, 0)
    assert query._move(5_000) == []
    assert planned(query, 1) == 5_000
    assert query.starts == [{}]


def test_a_drain_runs_its_last_batch_alone(tmp_path):
    last = Alive(ends=True)
    query = PlayedQuery(tmp_path, Alive(), last)
    committed(query, 0)
    assert query.drain() == []
    assert planned(query, 1) == END
    assert query.starts == [{}, {"once": True}]
    assert query._running is None
    assert query.published == 1


def test_a_drain_has_the_batches_of_the_step_and_the_last_one(tmp_path):
    query: Any = PlayedQuery(tmp_path)
    query.step = lambda: ["step"]
    query._move = lambda watermark: [watermark]
    assert query.drain() == ["step", END]


def test_no_watermark_moves_before_a_batch(tmp_path):
    query = PlayedQuery(tmp_path, Alive())
    said = "no batch has run yet, whose watermark could move; call add_data() first"
    assert refusal(query._move, 5_000) == said
    assert query.starts == []


AT_NINE = 1_768_381_200_000  # 2026-01-14 09:00:00 UTC
AT_NINE_IN_TOKYO = AT_NINE - 9 * 3_600_000


@pytest.mark.usefixtures("tokyo")
@pytest.mark.parametrize(
    ("watermark", "milliseconds"),
    [
        ("2026-01-14 09:00", AT_NINE_IN_TOKYO),
        ("2026-01-14 09:00:01", AT_NINE_IN_TOKYO + 1_000),
        ("09:00", AT_NINE_IN_TOKYO),
        ("9:00", AT_NINE_IN_TOKYO),
        ("9:00:00.250", AT_NINE_IN_TOKYO + 250),
        ("2026-01-14 09:00+00:00", AT_NINE),
        (datetime(2026, 1, 14, 9), AT_NINE_IN_TOKYO),  # noqa: DTZ001 - as rows have it
        (datetime(2026, 1, 14, 9, tzinfo=UTC), AT_NINE),
    ],
)
def test_a_watermark_is_a_time_or_one_on_the_day_of_the_watermark(
    watermark, milliseconds, tmp_path
):
    query = PlayedQuery(tmp_path)
    committed(query, 0, AT_NINE)
    assert query._milliseconds(watermark) == milliseconds


@pytest.mark.parametrize(
    "watermark",
    [
        "noon",
        "25:00",
        "",
        3,
        0,
        b"12:10",
        date(2026, 1, 14),
        timedelta(1),
        datetime.min,  # noqa: DTZ901 - as rows have it
    ],
    ids=str,
)
def test_a_watermark_that_is_no_time_is_refused(watermark, tmp_path):
    query = PlayedQuery(tmp_path, Alive())
    said = refusal(query.step, watermark=watermark)
    assert said == (
        f"step(): watermark is {watermark!r}; give a time, such as '12:10' or"
        " '2026-01-31 12:10'"
    )


# --- rows of a memory sink


class Memory:
    """The table of a memory sink."""

    def __init__(self, *rows):
        self.rows = list(rows)

    def collect(self):
        return self.rows


def wrote_rows(number, rows):
    return told_of(number, sink={"description": "memory", "numOutputRows": rows})


def test_rows_in_memory_are_those_of_each_batch_in_order(tmp_path):
    run = Alive([wrote_rows(0, 2), wrote_rows(1, 0), wrote_rows(2, 1)])
    query = PlayedQuery(tmp_path, run)
    query.memory = Memory(ROW(1), ROW(2), ROW(3))
    for number in range(3):
        committed(query, number)
    assert [each.rows for each in query.step()] == [[(1,), (2,)], [], [(3,)]]
    query.memory.rows.append(ROW(4))
    run.batches_to_come = [wrote_rows(3, 1)]
    committed(query, 3)
    assert [each.rows for each in query.step()] == [[(4,)]]


def test_a_batch_in_memory_that_spark_forgot_is_an_error(tmp_path):
    query = PlayedQuery(tmp_path, Alive([wrote_rows(1, 1)]))
    query.memory = Memory(ROW(1))
    for number in (0, 1):
        committed(query, number)
    said = refusal(query.step)
    assert said.startswith("this step ran 2 batches, and Spark forgot the progress of")


# --- restarts


def test_a_restart_waits_for_the_query_and_stops_it(tmp_path):
    run = Alive()
    query = PlayedQuery(tmp_path, run)
    query.step()
    run.calls.clear()
    query.restart()
    assert run.calls == ["processAllAvailable", "stop"]
    query.restart()
    assert run.calls == ["processAllAvailable", "stop"], "it has no query any more"


def test_a_restart_after_a_failure_is_none(tmp_path):
    run = Alive()
    query = PlayedQuery(tmp_path, run)
    query.step()
    run.fails = StreamingQueryException("no room")
    query.restart()
    assert run.calls[-1] == "stop"


def test_a_restart_keeps_the_progress_of_batches_that_nobody_stepped(tmp_path):
    run = Alive()
    query = PlayedQuery(tmp_path, run, Alive())
    query.step()
    run.batches_to_come = [told_of(0)]
    wrote(query, 0, ROW(1))
    query.restart()
    assert [each.rows for each in query.step()] == [[(1,)]]


def test_a_restart_without_new_batches_asks_for_no_rows(tmp_path):
    run = Alive([told_of(0)])
    query = PlayedQuery(tmp_path, run)
    wrote(query, 0)
    query.step()
    query._take = lambda _: pytest.fail("it asked")  # type: ignore[method-assign,assignment]
    query.restart()


def test_a_restart_drops_the_table_in_memory(tmp_path):
    session = Catalog()
    query = PlayedQuery(tmp_path, frame=SimpleNamespace(sparkSession=session))
    query.restart()
    assert session.dropped == []
    query._memory = Memory()  # type: ignore[assignment]
    query.restart()
    assert session.dropped == [query._name]
    assert query._memory is None


def test_a_restart_takes_another_frame(tmp_path):
    query = PlayedQuery(tmp_path)
    before = query.frame
    query.restart()
    assert query.frame is before
    frame = object.__new__(DataFrame)
    query.restart(frame)
    assert query.frame is frame
    wrong: Any = 5
    said = refusal(query.restart, wrong)
    assert said == "testing.Query.restart(): frame is 5; give a DataFrame"


# --- a kill before the commit


def numbers(folder):
    return sorted(int(file.name) for file in folder.iterdir())


def delivered(query, *reads):
    """Batches that a query has delivered, by the number of rows that each read."""
    for number, rows in enumerate(reads):
        committed(query, number)
        query.batches.append(Batch(number, [], told_of(number, rows)))


@pytest.mark.parametrize(
    ("reads", "commits"),
    [((1, 1), [0]), ((1, 1, 0), [0]), ((1, 0, 0), []), ((0, 0), [0])],
    ids=["last", "one-empty", "two-empty", "all-empty"],
)
def test_the_last_batch_with_rows_comes_again(reads, commits, tmp_path):
    query = PlayedQuery(tmp_path)
    delivered(query, *reads)
    query.kill_before_commit()
    assert numbers(query._checkpoint / "commits") == commits
    again = len(commits)
    assert numbers(query._checkpoint / "offsets") == list(range(again + 1))


@pytest.mark.parametrize(
    ("promise", "commits"), [("exactly once, always", [0, 1]), ("at least once", [0])]
)
def test_a_sink_that_keeps_a_record_gets_the_very_last_batch_again(
    promise, commits, tmp_path
):
    sink: Any = SimpleNamespace(parts=[], promise=promise)
    query = PlayedQuery(tmp_path, sink=sink)
    delivered(query, 1, 1, 0)
    query.kill_before_commit()
    assert numbers(query._checkpoint / "commits") == commits


def test_a_batch_that_has_no_commit_any_more_does_not_come_again(tmp_path):
    query = PlayedQuery(tmp_path)
    delivered(query, 1, 1)
    query.batches.append(Batch(7, [], told_of(7)))
    query.kill_before_commit()
    assert numbers(query._checkpoint / "commits") == [0]


def test_without_a_batch_there_is_nothing_to_kill(tmp_path):
    assert refusal(PlayedQuery(tmp_path).kill_before_commit) == (
        "no batch has been committed yet that could be replayed; call add_data() and"
        " step() first"
    )


def test_a_replay_is_a_kill_and_a_step(tmp_path):
    run = Alive([told_of(0)])
    query = PlayedQuery(tmp_path, Alive([told_of(0)]), run)
    wrote(query, 0, ROW(1))
    query.step()

    def comes_again():
        assert not (query._checkpoint / "commits" / "0").exists()
        wrote(query, 0, ROW(1))

    real = run.processAllAvailable
    run.processAllAvailable = lambda: (comes_again(), real())  # type: ignore[method-assign]
    assert [each.rows for each in query.replay()] == [[(1,)]]


# --- the start of a query


class Tables(Catalog):
    """A session that tells its tables."""

    def table(self, name):
        return f"rows of {name}"


@pytest.fixture
def started(monkeypatch):
    """What `start` was called with, and whether the session is on a server."""
    played = SimpleNamespace(calls=[], is_on_server=False)

    def start(*given, **how):
        played.calls.append((given, how))
        return "a query"

    monkeypatch.setattr(sparkstream_kit, "start", start)
    monkeypatch.setattr(
        "sparkstream_kit._internal.spark.session.on_server",
        lambda _: played.is_on_server,
    )
    return played


def made(tmp_path, mode="append", sink=None):
    frame: Any = SimpleNamespace(sparkSession=Tables())
    return Query(frame, mode, sink, tmp_path / "query-0", print)


def test_a_query_starts_with_a_function_that_records(started, tmp_path):
    query = made(tmp_path, "update")
    begun: Any = query._start(once=True)
    assert begun == "a query"
    [((frame, sink), how)] = started.calls
    assert frame is query.frame
    assert sink.kind == "foreach_batch"
    assert how == {
        "name": query._name,
        "mode": "update",
        "checkpoint": query._checkpoint,
        "once": True,
    }
    assert query._memory is None


@pytest.mark.parametrize(
    ("is_on_server", "mode", "is_first", "in_memory"),
    [
        (True, "append", True, True),
        (True, "update", True, True),
        (True, "complete", True, False),
        (True, "append", False, False),
        (False, "append", True, False),
    ],
    ids=["append", "update", "complete", "again", "classic"],
)
def test_on_a_server_the_first_run_is_in_memory(
    is_on_server, mode, is_first, in_memory, started, tmp_path
):
    started.is_on_server = is_on_server
    query = made(tmp_path, mode)
    if not is_first:
        query._checkpoint.mkdir(parents=True)
    query._start()
    [((_, sink), _)] = started.calls
    assert (sink.kind == "memory") is in_memory
    assert query._memory == (f"rows of {query._name}" if in_memory else None)
    if in_memory:
        assert sink.modes == ("append", "update")


def test_a_sink_under_test_comes_before_the_record(started, tmp_path):
    started.is_on_server = True
    mine = sinks.foreach_batch(print)
    query = made(tmp_path, sink=mine)
    query._start()
    [((_, sink), _)] = started.calls
    assert sink.parts[0] is mine
    assert len(sink.parts) == 2
    assert query._memory is None


class Rows:
    """A batch that gives its rows, and the time zone in which it was asked for them."""

    def collect(self):
        return [os.environ["TZ"], time.tzname[0]]


def test_the_record_of_a_batch_is_a_file_with_its_rows(monkeypatch, tmp_path):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    record = harness._recorder(str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    rows: Any = Rows()
    record(rows, 7)
    [file] = tmp_path.iterdir()
    assert pickle.loads(file.read_bytes()) == (7, ["Asia/Tokyo", "JST"])  # noqa: S301 - its own
    assert len(file.name) == 20
    assert int(file.name) > 10**18, "its name is a time, so that files have an order"
    monkeypatch.undo()
    time.tzset()


def test_without_a_time_zone_the_record_sets_none(monkeypatch, tmp_path):
    monkeypatch.delenv("TZ", raising=False)
    record = harness._recorder(str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(time, "tzset", lambda: pytest.fail("it set one"))
    rows: Any = SimpleNamespace(collect=list)
    record(rows, 0)
    assert os.environ["TZ"] == "UTC"


# --- sources


def source_in(folder, times: Iterator[int] | None = None):
    session: Any = None
    folder.mkdir(exist_ok=True)
    return Source(session, (SALES, ARROW), folder, times or itertools.count(5))


def test_added_rows_are_hidden_until_they_are_published(tmp_path):
    source = source_in(tmp_path / "source")
    source.add_data([("tea", 1)])
    source.add_data([("ink", 2)])
    hidden = [tmp_path / "source" / f".{number}.parquet" for number in (5, 6)]
    assert source.waiting == hidden
    assert [file.stat().st_mtime for file in hidden] == [5, 6]
    assert pq.read_table(hidden[1]).to_pylist() == [{"product": "ink", "amount": 2}]
    source.publish()
    assert source.waiting == []
    names = sorted(file.name for file in (tmp_path / "source").iterdir())
    assert names == ["5.parquet", "6.parquet"]
    source.publish()


def test_a_source_is_read_a_file_at_a_time_from_its_folder(tmp_path):
    class Reader:
        def __init__(self):
            self.asked: list[Any] = []
            self.readStream = self

        def schema(self, columns):
            self.asked.append(columns)
            return self

        def option(self, name, value):
            self.asked.append((name, value))
            return self

        def parquet(self, path):
            self.asked.append(path)
            return "a frame"

    reader: Any = Reader()
    source = Source(reader, (SALES, ARROW), tmp_path / "in[1]", iter([]))
    frame: Any = source.to_df()
    assert frame == "a frame"
    columns, option, path = reader.asked
    assert columns is SALES
    assert option == ("maxFilesPerTrigger", 1)
    assert path.endswith(r"/in\[1\]")


# --- a workspace


class Session:
    """A session that derives types, and counts how often it was asked to."""

    def __init__(self):
        self.asked = 0

    def createDataFrame(self, rows, columns):
        assert rows == []
        self.asked += 1
        return self

    def limit(self, number):
        assert number == 0, "else Spark would run a task"
        return self

    @property
    def schema(self):
        return SALES

    def toArrow(self):
        return SimpleNamespace(schema=ARROW)


@pytest.fixture
def workspace(tmp_path):
    session: Any = Session()
    return Streams(session, tmp_path)


def test_each_source_has_a_folder(workspace, tmp_path):
    one, other = workspace(SALES), workspace(SALES)
    assert (tmp_path / "source-0").is_dir()
    assert (tmp_path / "source-1").is_dir()
    assert one.schema is SALES
    one.add_data([("tea", 1)])
    other.add_data([("tea", 1)])
    times = [each.waiting[0].stat().st_mtime for each in (one, other)]
    assert times == [1_000_000_000, 1_000_000_001]
    assert workspace._sources == [one, other]
    assert one._folder == tmp_path / "source-0"


def test_the_types_of_a_schema_are_asked_for_once(workspace, tmp_path):
    workspace(SALES)
    workspace(SALES)
    assert workspace._spark.asked == 1
    workspace(struct(a=INT))
    assert workspace._spark.asked == 2
    session: Any = Session()
    Streams(session, tmp_path / "other")._types(SALES)
    assert session.asked == 1, "another session has types of its own"


def test_a_schema_is_columns(workspace):
    said = refusal(workspace, 5)
    assert said.startswith("testing.Streams(): ")
    assert "schema is 5; give " in said


def test_each_query_has_a_folder_and_publishes_all_sources(workspace, tmp_path):
    frame = object.__new__(DataFrame)
    one = workspace.query(frame)
    sink = sinks.foreach_batch(print)
    other = workspace.query(frame, mode="update", sink=sink)
    assert (tmp_path / "query-0" / "batches").is_dir()
    assert other._batches == tmp_path / "query-1" / "batches"
    assert (one._mode, one._sink, one.frame) == ("append", None, frame)
    assert (other._mode, other._sink) == ("update", sink)
    assert other._publish == workspace._publish
    assert workspace._queries == [one, other]
    said = refusal(workspace.query, frame, mode="Append")
    assert said == "unknown output mode Append; did you mean append?"


@pytest.fixture
def restarts(workspace):
    """How often a query of the workspace was stopped."""
    calls: list[Any] = []
    workspace._queries.append(SimpleNamespace(restart=lambda: calls.append("stop")))
    return calls


def test_the_end_stops_all_queries(workspace, restarts):
    workspace._queries.append(workspace._queries[0])
    workspace.stop()
    assert restarts == ["stop", "stop"]


@pytest.mark.parametrize(
    ("filled", "stops"), [(0, []), (1, []), (2, ["stop"])], ids=["none", "one", "two"]
)
def test_what_two_sources_got_is_published_while_no_query_runs(
    filled, stops, workspace, restarts
):
    sources = [workspace(SALES) for _ in range(3)]
    for source in sources[:filled]:
        source.add_data([("tea", 1)])
    workspace._publish()
    assert restarts == stops
    assert [source.waiting for source in sources] == [[]] * 3
    assert [len(list(source._folder.glob("[!.]*"))) for source in sources] == [
        *[1] * filled,
        *[0] * (3 - filled),
    ]


def test_a_workspace_is_stopped_and_removed(monkeypatch):
    stops: list[Path] = []
    monkeypatch.setattr(Streams, "stop", lambda self: stops.append(self.folder))
    monkeypatch.setattr(harness, "check", lambda *_: None)  # it takes no session
    session: Any = Session()
    with pytest.raises(LookupError), harness.streams(session) as stream:
        assert stream.folder.is_dir()
        assert stream.folder.name.startswith("sparkstream-test-")
        assert stream._spark is session
        raise LookupError
    assert stops == [stream.folder]
    assert not stream.folder.exists()


def test_a_workspace_takes_a_session():
    wrong: Any = 5
    said = refusal(harness.streams(wrong).__enter__)
    assert said == (
        "testing.streams(): spark is 5; give a session, such as get_session('name')"
    )
