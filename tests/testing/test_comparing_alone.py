"""Comparisons of streams step by step, without Spark: scripts, splits, and what differs."""

# ruff: noqa: SLF001 - the steps of the module are its own
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import DataFrame, Row
from support.recorded import progress

from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.testing import comparing as module
from sparkstream_kit.testing.comparing import (
    _search,
    _Trial,
    assert_stream_equals_batch,
    run_script,
)
from sparkstream_kit.testing.harness import Batch, Query

ROW: Any = Row  # of values without names
SALE = Row("product", "total")
AT = datetime(2026, 1, 14, 9, tzinfo=UTC)


def batch(number, *rows):
    return Batch(number, list(rows), progress(batchId=number))


# --- scripts


class Source:
    def __init__(self):
        self.added: list[Any] = []

    def add_data(self, rows):
        self.added.append(rows)


class Steps(Query):
    """A query whose steps a test has said."""

    def __init__(self, *steps):
        self.steps = list(steps)
        frame: Any = SimpleNamespace(columns=["product", "total"])
        self.frame = frame

    def step(self, *, watermark=None):
        return self.steps.pop(0)


def test_a_script_steps_the_query_and_compares_its_rows():
    source: Any = Source()
    query = Steps(
        [batch(0, SALE("tea", 1)), batch(1, SALE("ink", 2))],
        [],
        [batch(2, SALE("tea", None))],
    )
    script = [
        (source, ["a"], [{"total": 2, "product": "ink"}, ("tea", 1)]),
        [source, ["b"], []],
        (source, ["c"], iter([{"product": "tea"}])),
    ]
    checked: Any = script
    run_script(query, checked)
    assert source.added == [["a"], ["b"], ["c"]]
    assert query.steps == []


def test_a_step_with_other_rows_is_named_with_its_batches():
    source: Any = Source()
    query = Steps([], [batch(4, SALE("tea", 3)), batch(5)])
    with pytest.raises(AssertionError) as caught:
        run_script(query, [(source, [], []), (source, [], [("tea", 2)])])
    assert str(caught.value).splitlines() == [
        "step 2 delivered other rows than expected",
        *("missing:", "  ('tea', 2)"),
        *("unexpected:", "  Row(product='tea', total=3)"),
        *("expected:", "  ('tea', 2)"),
        *("delivered in batch 4:", "  Row(product='tea', total=3)"),
        "delivered in batch 5: none",
    ]


@pytest.mark.parametrize("step", [None, "abc", (1, 2), (1, 2, 3, 4)], ids=str)
def test_a_step_of_a_script_has_three_parts(step):
    source: Any = Source()
    query = Steps([])
    script: Any = [(source, [], []), step]
    assert refusal(run_script, query, script) == (
        "step 2 is no tuple of three; give a source, rows and results"
    )
    assert len(source.added) == 1


def test_a_script_is_for_a_query():
    wrong: Any = 5
    said = refusal(run_script, wrong, [])
    assert said == "testing.run_script(): query is 5; give a Query"


# --- what is compared


class Rows(DataFrame):
    """Rows of a test, as a DataFrame without Spark."""

    sparkSession: Any = None  # noqa: N815 - Spark's name
    schema: Any = "columns"
    isStreaming: Any = False  # noqa: N815 - Spark's name

    def __new__(cls, *rows):
        return object.__new__(cls)

    def __init__(self, *rows):
        self.rows = list(rows)

    def collect(self):
        return self.rows


class Streaming(Rows):
    isStreaming = True  # noqa: N815 - Spark's name


def same(frame):
    return frame


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        (
            Rows(1),
            {"mode": "update"},
            (
                "keys=[] in update mode; give the result's key columns in update mode, and"
                " leave keys out in the other modes"
            ),
        ),
        (Rows(1), {"keys": ["a"]}, "keys=['a'] in append mode; give the result's key"),
        (
            Streaming(1),
            {},
            "rows is a streaming DataFrame; give a static one, which can be split",
        ),
        (Rows(), {}, "rows is empty; give a static DataFrame with some rows to feed"),
        (
            Rows(1),
            {"watermark": "time"},
            "watermark is a text; give a column and a delay: ('time', '1 minute')",
        ),
        (Rows(1), {"mode": "Append"}, "unknown output mode Append; did you mean appe"),
        (5, {}, "testing.assert_stream_equals_batch(): rows is 5; give a DataFrame"),
    ],
    ids=["no-keys", "keys", "streaming", "empty", "text", "mode", "number"],
)
def test_what_cannot_be_compared_is_refused(rows, how, said):
    assert refusal(assert_stream_equals_batch, same, rows, **how).startswith(said)


class Workspace:
    def __init__(self, session):
        self.session = session

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def searched(monkeypatch):
    """What was searched for a difference, instead of a search."""
    calls: list[Any] = []
    asked: list[Any] = []
    monkeypatch.setattr(module, "streams", Workspace)
    monkeypatch.setattr(module, "_search", lambda *given: calls.append((given, asked)))

    def event_time(rows, column, call, **how):
        asked.append((column, call, how))
        return f"{column} of the rows"

    monkeypatch.setattr("sparkstream_kit._internal.columns.event_time", event_time)
    return calls


def test_a_comparison_is_a_search(searched):
    rows = Rows("a", "b")
    rows.sparkSession = "session"
    assert_stream_equals_batch(same, rows, mode="update", keys=["k"], examples=3)
    [((trial, examples), asked)] = searched
    assert trial.stream.session == "session"
    assert (trial.transform, trial.frame, trial.fed) == (same, rows, ["a", "b"])
    assert (trial.mode, trial.keys) == ("update", ("k",))
    assert (trial.event_time, trial.delay) == (None, timedelta())
    assert (examples, asked) == (3, [])


def test_a_comparison_with_a_watermark_knows_its_column_and_delay(searched):
    assert_stream_equals_batch(same, Rows(1), watermark=("time", "2 seconds"))
    [((trial, examples), asked)] = searched
    call = "assert_stream_equals_batch()"
    assert asked == [("time", call, {"watermark": False, "without_zone": True})]
    assert trial.event_time == "time of the rows"
    assert trial.delay == timedelta(seconds=2)
    assert examples == 10


# --- a search


class Differs:
    """A trial that differs when a row comes before another one in one batch."""

    fed = ("a", "b", "c", "d")

    def __init__(self, differs):
        self.differs = differs
        self.seen: list[Any] = []

    def split(self, places, cuts):
        assert len(places) == 4
        assert len(cuts) == 3
        assert all(0 <= kept <= 9 and 0 <= place <= 8 for kept, place in places)
        assert all(0 <= cut <= 4 for cut in cuts)
        trial: Any = self
        return _Trial.split(trial, places, cuts)

    _times = ()

    def differences(self, split):
        self.seen.append(split)
        return f"differs: {split}" if self.differs(split) else None


def searching(differs, examples=30):
    trial: Any = Differs(differs)
    _search(trial, examples)
    return trial


def test_where_nothing_differs_each_split_is_tried_once_and_always_the_same():
    one = searching(lambda _: False).seen
    assert len(set(one)) == len(one) > 5
    assert len(one) <= 30
    assert searching(lambda _: False).seen == one
    assert len(searching(lambda _: False, examples=1).seen) == 1


def test_the_smallest_difference_is_told():
    with pytest.raises(AssertionError) as caught:
        searching(lambda split: any(3 in batch for batch in split))
    assert str(caught.value) == "differs: ((3,),)"
    assert not getattr(caught.value, "__notes__", [])
    assert caught.value.__suppress_context__


def test_a_search_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(MissingExtraError) as caught:
        searching(lambda _: False)
    assert str(caught.value).startswith("assert_stream_equals_batch needs an optional")
    assert "sparkstream-kit[testing]" in str(caught.value)


# --- a trial


def trial(*fed, mode="append", keys=(), event_time=None, delay=0, **more):
    given: dict[str, Any] = {"stream": None, "transform": same, "frame": None}
    return _Trial(
        **given | more,
        fed=list(fed),
        mode=mode,
        keys=keys,
        event_time=event_time,
        delay=timedelta(seconds=delay),
    )


def timed(*seconds):
    return [
        Row(time=None if each is None else AT + timedelta(seconds=each))
        for each in seconds
    ]


def test_event_times_are_those_of_the_rows_and_the_earliest_of_one_without():
    assert trial(*timed(5))._times == []
    assert trial(*timed(None, None), event_time="time")._times == []
    found = trial(*timed(5, None, 3), event_time="time")._times
    assert [(time - AT).total_seconds() for time in found] == [5, 3, 3]


@pytest.mark.parametrize(
    ("places", "cuts", "split"),
    [
        ([(1, 0), (1, 0), (1, 0)], [0, 0, 0], ((0, 1, 2),)),
        ([(1, 2), (1, 1), (1, 0)], [3, 3, 3], ((2, 1, 0),)),
        ([(1, 0), (1, 0), (1, 0)], [1, 2, 1], ((0,), (1,), (2,))),
        ([(1, 0), (0, 0), (1, 0)], [1, 2, 2], ((0,), (2,))),
        ([(1, 0), (0, 0), (1, 0)], [2, 2, 2], ((0,), (2,))),
        ([(0, 0), (0, 0), (0, 0)], [1, 1, 1], ((0,),)),
        ([(0, 5), (9, 4), (1, 3)], [1, 1, 1], ((2,), (1,))),
    ],
    ids=["whole", "order", "cuts", "left-out", "batch", "nothing", "places"],
)
def test_rows_are_split_by_their_places_and_cuts(places, cuts, split):
    assert trial(*timed(0, 0, 0)).split(places, cuts) == split


def test_a_row_is_moved_back_by_less_than_the_delay():
    # The largest place of three rows is 6: a row is moved back by 6/7 of the delay
    rows = timed(0, 8, 9)
    with_delay = trial(*rows, event_time="time", delay=10)
    assert with_delay.split([(1, 6), (1, 0), (1, 0)], []) == ((1, 0, 2),)
    assert with_delay.split([(1, 5), (1, 0), (1, 0)], []) == ((0, 1, 2),)
    without = trial(*rows, event_time="time")
    assert without.split([(1, 6), (1, 0), (1, 0)], []) == ((0, 1, 2),)


class Frames:
    """A session that makes frames of rows, and keeps of which."""

    def __init__(self):
        self.made: list[Any] = []

    def createDataFrame(self, rows, columns):
        self.made.append((rows, columns))
        return Rows(*rows)


def streamed(delivered, **more):
    """Return a trial whose stream delivers some batches, and what it was fed."""
    session = Frames()
    frame = Rows()
    frame.sparkSession = session
    made: Any = trial(("tea", 1), ("ink", 2), ("pen", 3), frame=frame, **more)
    fed: list[Any] = []

    def stream(batches):
        fed.append(batches)
        return delivered

    made.__dict__["_streamed"] = stream
    return made, fed, session.made


def test_a_stream_that_gives_the_rows_of_a_batch_does_not_differ():
    made, fed, frames = streamed([batch(0, ("pen", 3)), batch(1, ("tea", 1))])
    assert made.differences(((2,), (0,))) is None
    assert fed == [[[("pen", 3)], [("tea", 1)]]]
    assert frames == [([("tea", 1), ("pen", 3)], "columns")], "in the order of the rows"


def test_a_stream_that_differs_shows_its_input_and_both_results():
    made, _, _ = streamed([batch(7, ("pen", 4))])
    assert made.differences(((2,),)).splitlines() == [
        (
            "in append mode the stream's result is not that of a batch run; the smallest"
            " input found:"
        ),
        *("rows of batch 0:", "  ('pen', 3)"),
        *("missing:", "  ('pen', 3)"),
        *("unexpected:", "  ('pen', 4)"),
        *("expected:", "  ('pen', 3)"),
        *("delivered in batch 7:", "  ('pen', 4)"),
    ]


class Stepped:
    """A workspace whose query says which way it was run."""

    def __init__(self, error=None):
        self.calls: list[Any] = []
        self.error = error

    def __call__(self, schema):
        self.calls.append(("source", schema))
        return self

    def add_data(self, rows):
        self.calls.append(("add", rows))

    def to_df(self):
        return "frame"

    def query(self, frame, *, mode):
        self.calls.append(("query", frame, mode))
        return self

    def drain(self):
        self.calls.append("drain")
        return ["drained"]

    def step(self):
        self.calls.append("step")
        if self.error:
            raise self.error
        return ["stepped"]

    def restart(self):
        self.calls.append("restart")


@pytest.mark.parametrize(
    ("mode", "event_time", "way", "result"),
    [
        ("append", "time", "drain", "drained"),
        ("append", None, "step", "stepped"),
        ("update", "time", "step", "stepped"),
    ],
    ids=["append", "no-watermark", "update"],
)
def test_a_stream_in_append_mode_with_a_watermark_is_drained(
    mode, event_time, way, result
):
    stream = Stepped()
    made: Any = trial(
        *timed(1),
        stream=stream,
        frame=Rows(),
        transform=lambda frame: f"{frame} changed",
        mode=mode,
        event_time=event_time,
    )
    assert made._streamed([["a"], ["b", "c"]]) == [result]
    assert stream.calls == [
        ("source", "columns"),
        ("add", ["a"]),
        ("add", ["b", "c"]),
        ("query", "frame changed", mode),
        way,
        "restart",
    ]


def test_a_stream_that_fails_is_stopped():
    stream = Stepped(LookupError("mine"))
    made: Any = trial(stream=stream, frame=Rows())
    with pytest.raises(LookupError, match="mine"):
        made._streamed([])
    assert stream.calls[-1] == "restart"


TEA, INK, MORE = SALE("tea", 1), SALE("ink", 2), SALE("tea", 3)


@pytest.mark.parametrize(
    ("mode", "keys", "delivered", "result"),
    [
        ("append", (), [batch(0, TEA), batch(1, INK, MORE)], [TEA, INK, MORE]),
        ("append", (), [], []),
        ("complete", (), [batch(0, TEA), batch(1, INK, MORE)], [INK, MORE]),
        ("update", ("product",), [batch(0, TEA, INK), batch(1, MORE)], [MORE, INK]),
        ("update", ("product",), [batch(0)], []),
        ("update", ("product", "total"), [batch(0, TEA, INK, TEA)], [TEA, INK]),
    ],
    ids=["append", "none", "complete", "update", "update-none", "two-keys"],
)
def test_a_reader_has_all_rows_or_the_last_ones(mode, keys, delivered, result):
    assert trial(mode=mode, keys=keys)._result(delivered) == result


def test_a_key_is_a_column_of_the_result():
    said = refusal(trial(mode="update", keys=("produkt",))._result, [batch(0, TEA)])
    assert said == "unknown key column produkt; did you mean product?"


def test_rows_of_batches():
    batches = [batch(3, TEA), batch(4), batch(5, INK, MORE)]
    assert module._all_rows(batches) == [TEA, INK, MORE]
    assert module._delivered(batches) == {
        "delivered in batch 3": [TEA],
        "delivered in batch 4": [],
        "delivered in batch 5": [INK, MORE],
    }
