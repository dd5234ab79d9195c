"""The board step by step, without Spark: rates, numbers, silence, and lines of a recording."""

# ruff: noqa: SLF001 - the steps of the board are its own
import json
import os
import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import DataFrame
from support.pictures import AT, batch, picture
from support.played import Played
from support.recorded import LINES, OTHER, TOLD, progress

from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.monitoring import board as module
from sparkstream_kit.monitoring.board import SHOWN, Board, QueryState
from sparkstream_kit.progress import QuerySummary
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.verdicts import Verdict

BAD = Verdict("bad", "it falls behind", "backlog")
WARN = Verdict("warn", "it is slow", "slow")
FIX = "give a file that --record of this version has written"


def seconds(number):
    return timedelta(seconds=number)


# --- rates


def test_the_input_rate_needs_a_second_batch():
    assert module.arriving([]) is None
    assert module.arriving([batch(0)]) is None
    assert module.arriving([batch(0), batch(1, 4)]) == 10 / 4


def test_the_input_rate_is_of_the_five_batches_after_the_one_before_them():
    batches = [batch(number, number * 10, rows=10**number) for number in range(7)]
    assert module.arriving(batches) == (10**2 + 10**3 + 10**4 + 10**5 + 10**6) / 50


def test_a_backlog_that_shrinks_makes_no_rate_below_zero():
    batches = [
        batch(0, records_behind=900, rows=0),
        batch(1, 4, records_behind=10, rows=30),
    ]
    assert module.arriving(batches) == 0
    batches[0] = batch(0, records_behind=12)
    assert module.arriving(batches) == (30 - 2) / 4


def test_two_batches_of_one_moment_have_no_rate():
    assert module.arriving([batch(0), batch(1)]) is None


@pytest.mark.parametrize(
    ("begin", "end", "growth"),
    [
        ({}, {}, 0),
        ({"records_behind": 5}, {}, 0),
        ({}, {"records_behind": 5}, 0),
        ({"records_behind": 5}, {"records_behind": 12}, 7),
        ({"records_behind": 12}, {"records_behind": 5}, -7),
        # A file has 60 / 3 rows
        (
            {"files_waiting": 2, "files": 4},
            {"files_waiting": 4, "files": 7},
            40,
        ),
        ({"files_waiting": 2, "files": 4}, {"files_waiting": 4, "files": 4}, 0),
        ({"files_waiting": 2, "files": 4}, {"files_waiting": 4, "files": 5}, 120),
        ({"files_waiting": 2}, {"files_waiting": 4, "files": 7}, 2),
        ({"files_waiting": 2, "files": 4}, {"files_waiting": 4}, 2),
        # Files and records at once
        (
            {"files_waiting": 2, "files": 4, "records_behind": 1},
            {"files_waiting": 4, "files": 7, "records_behind": 1},
            0,
        ),
        (
            {"records_behind": 1},
            {"files_waiting": 4, "files": 7, "records_behind": 1},
            0,
        ),
    ],
    ids=[
        *("not-known", "not-known-any-more", "not-known-before", "records"),
        *("fewer-records", "files", "no-file-read", "one-file-read"),
        *("files-read-not-known-before", "files-read-not-known"),
        *("two-units", "two-units-since"),
    ],
)
def test_a_backlog_grows_by_rows(begin, end, growth):
    grown = module._backlog_growth(batch(0, **begin), batch(1, **end), 60)
    assert grown == growth


def test_the_processing_rate_is_of_the_last_five_batches_and_their_own_time():
    assert module.done([]) is None
    assert module.done([batch(0, rows=3, seconds=0.0)]) is None
    assert module.done([batch(0, rows=3, seconds=2.0)]) == 1.5
    batches = [batch(number, rows=10**number, seconds=2.0) for number in range(7)]
    assert module.done(batches) == (10**2 + 10**3 + 10**4 + 10**5 + 10**6) / 10


@pytest.mark.parametrize(
    ("rows", "time", "rate"),
    [(6, 2, 3), (0, 2, 0), (6, 0.5, 12), (6, 0, None), (6, -1, None)],
)
def test_a_rate_is_of_a_time_above_zero(rows, time, rate):
    assert module.rate(rows, time) == rate


# --- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.04, "0.0"),
        (3.25, "3.2"),
        (4.0, "4"),
        (99.5, "99.5"),
        (99.96, "100.0"),
        (100.4, "100"),
        (999.6, "1,000"),
        (9_999, "9,999"),
        (9_999.4, "9,999"),
        (10_000, "10.0k"),
        (999_949, "999.9k"),
        (999_950, "1.0M"),
        (999_960, "1.0M"),
        (1_000_000, "1.0M"),
        (999_949_999, "999.9M"),
        (999_950_000, "1.0G"),
        (1_000_000_000, "1.0G"),
        (999_949_999_999, "999.9G"),
        (999_950_000_000, "1.0T"),
        (1e12, "1.0T"),
        (999e12, "999.0T"),
    ],
)
def test_a_number_has_six_characters_at_most(value, text):
    assert module.short(value) == text
    assert len(text) <= 6


@pytest.mark.parametrize(
    ("values", "top"),
    [
        ([], 0.0),
        ([2.0], 2.0),
        ([1.0, 3.0, 1.0], 3.0),
        ([1.0, 3.5, 1.0], 3.0),
        ([0.0, 0.0, 7.0], 7.0),
        ([0.0], 0.0),
    ],
)
def test_a_chart_is_three_medians_high_at_most(values, top):
    assert module.height(values) == top


def test_a_query_without_a_batch_is_starting_or_has_ended():
    begins = picture()
    for since, text in ((0, "0"), (7.4, "7"), (61, "61"), (-3, "0")):
        said = module.starting(begins, AT + seconds(since))
        assert said == f"starting Spark's first batch … {text} s"
    ended = module.starting(picture(active=False), AT)
    assert ended == "ended before its first batch"


# --- live


@pytest.fixture
def ran(monkeypatch):
    """What `run` was called with in place of a run."""
    calls: list[Any] = []
    monkeypatch.setattr(module, "run", lambda *given, **how: calls.append((given, how)))
    return calls


class Views:
    """A session of which a test asks for a table."""

    def table(self, name):
        return f"rows of {name}"


def test_live_runs_a_query_and_returns_its_rows(ran):
    query = Played(session=Views(), targets=(Target("view", "totals"),))
    rows: Any = module.live(query, run_for=3, idle=4, max_batches=5)
    assert rows == "rows of totals"
    how = {"run_for": 3, "idle": 4, "max_batches": 5, "show": "notebook"}
    assert ran == [((query,), how)]
    assert query.calls == []


@pytest.mark.parametrize(
    "query",
    [
        Played(targets=(Target("view", "totals"),)),
        Played(session=Views(), targets=(Target("folder", "out"),)),
    ],
    ids=["no-session", "no-table"],
)
def test_live_returns_nothing_of_a_query_whose_rows_are_elsewhere(query, ran):
    assert module.live(query) is None
    assert len(ran) == 1


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"mode": "append"}, "mode"),
        ({"name": "mine"}, "name"),
        ({"availableNow": True}, "availableNow"),
    ],
)
def test_live_of_a_running_query_takes_nothing_that_is_for_a_frame(more, word, ran):
    said = refusal(module.live, Played(), **more)
    known = "known: idle, max_batches, run_for"
    assert said == f"unknown keyword of live() with a running query {word}; {known}"
    assert ran == []


def test_live_looks_at_its_arguments_first(ran):
    wrong: Any = 5
    said = refusal(module.live, wrong)
    assert said.startswith("monitoring.live(): shown is 5; give ")
    assert ran == []


def test_ctrl_c_stops_the_query_of_live(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", interrupted)
    query = Played()
    with pytest.raises(KeyboardInterrupt):
        module.live(query)
    assert query.calls == ["stop"]


def test_live_starts_a_query_for_a_frame(ran, monkeypatch):
    query = Played(session=Views(), targets=(Target("memory", "mine"),))
    started: list[Any] = []

    def start(*given):
        started.append(given)
        return query

    monkeypatch.setattr(module, "_started", start)
    frame = object.__new__(DataFrame)
    shown: Any = module.live(frame, name="mine", mode="update", availableNow=True)
    assert shown == "rows of mine"
    assert started == [(frame, "mine", "update", {"availableNow": True})]
    assert [given for given, _ in ran] == [(query,)]


@pytest.mark.parametrize(
    ("mode", "has_groups", "sink", "used"),
    [
        (None, False, "memory", "append"),
        (None, True, "latest", "complete"),
        ("append", True, "memory", "append"),
        ("update", True, "memory", "update"),
        ("complete", False, "latest", "complete"),
    ],
)
def test_live_starts_a_frame_in_the_mode_that_its_plan_allows(
    mode, has_groups, sink, used, monkeypatch
):
    started: list[Any] = []
    asked: list[Any] = []

    def has(frame, operator):
        asked.append(operator)
        return has_groups

    def start(frame, to, **how):
        started.append((frame, to, how))
        return "a query"

    monkeypatch.setattr(logical_plan, "has", has)
    monkeypatch.setattr(module, "start", start)
    monkeypatch.setattr(
        module,
        "sinks",
        SimpleNamespace(
            latest=lambda name: ("latest", name), memory=lambda name: ("memory", name)
        ),
    )
    frame: Any = SimpleNamespace(isStreaming=True)
    found: Any = module._started(frame, "mine", mode, {"availableNow": True})
    assert found == "a query"
    how = {"name": "mine", "mode": used, "availableNow": True}
    assert started == [(frame, (sink, "mine"), how)]
    assert asked == (["Aggregate"] if mode is None else [])


def test_live_refuses_a_frame_that_does_not_stream():
    frame: Any = SimpleNamespace(isStreaming=False)
    said = refusal(module._started, frame, "mine", None, {})
    assert said == (
        "live() shows a stream, and this DataFrame does not stream; show it with"
        " display.show(frame)"
    )


# --- a recording


def test_a_recording_has_a_first_line_its_batches_and_a_last_line(tmp_path):
    path = tmp_path / "run.jsonl"
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with module.recording(path, [Played("sales")]) as add:
        assert path.read_bytes().count(b"\n") == 1, "it is there at once"
        add(progress())
        add(progress(batchId=64), (3, 5))
        assert path.read_bytes().count(b"\n") == 3
    first, one, two, end = map(json.loads, path.read_text("utf-8").splitlines())
    assert (first["recording"], first["by"]) == (1, "sparkstream-kit")
    assert [query["name"] for query in first["queries"]] == ["sales"]
    assert (one["batchId"], one["files"]) == (63, None)
    assert (two["batchId"], two["files"]) == (64, [3, 5])
    times = [datetime.fromisoformat(line) for line in (first["at"], end["end"])]
    assert before <= times[0] <= times[1] <= datetime.now(UTC)
    assert len(end["end"]) == len("2026-11-21T01:15:41.011+00:00"), "milliseconds"


def test_a_run_that_fails_has_a_last_line_too(tmp_path):
    path = tmp_path / "run.jsonl"
    with pytest.raises(LookupError), module.recording(path, []):
        raise LookupError
    assert list(json.loads(path.read_text("utf-8").splitlines()[-1])) == ["end"]


def test_a_disk_that_is_full_at_the_end_fails_no_run(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"

    def full():
        raise OSError("no room")

    with module.recording(path, []):
        monkeypatch.setattr(module, "end_line", full)
    assert path.read_bytes().count(b"\n") == 1


def test_a_folder_takes_no_recording(tmp_path):
    said = refusal(module.recording(tmp_path, []).__enter__)
    assert said == (
        f"cannot write the recording {tmp_path} (Is a directory); give a file that can"
        " be written"
    )


def test_an_error_without_words_of_the_system_is_said_by_its_own():
    with pytest.raises(InvalidInputError) as caught, module._in_one_line("f"):
        raise OSError("odd")
    assert str(caught.value) == (
        "cannot write the recording f (odd); give a file that can be written"
    )


@pytest.mark.parametrize(
    ("content", "before", "left"),
    [
        (b"", "", b""),
        (b"{", "", b""),
        (b'{"recor', "", b""),
        (b'{"recording":1,"by"', "", b""),
        (b'{"recording":1}\n', "", b'{"recording":1}\n'),
        (b'{"recording":1}\n{"batch', "\n", b'{"recording":1}\n{"batch'),
        (b'{"recording":1}\n{"end":1}\n', "", b'{"recording":1}\n{"end":1}\n'),
    ],
    ids=[
        *("empty", "a-brace", "torn-word", "torn-first-line"),
        *("one-line", "torn-later", "whole"),
    ],
)
def test_a_recording_begins_on_a_line_of_its_own(content, before, left, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with path.open("a+b") as file:
        assert module._before(file.fileno(), path) == before
        os.fstat(file.fileno())  # it is still open
    assert path.read_bytes() == left


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"{}\n",
        b"a",
        b'{"recordinh',
        b"\xff\n",
        b"[1]\n",
        b'{"records":1}\n{"recording":1}\n',
    ],
    ids=["csv", "object", "torn", "another-word", "bytes", "list", "later"],
)
def test_what_is_no_recording_is_left_as_it_is(content, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(content)
    with path.open("a+b") as file:
        said = refusal(module._before, file.fileno(), path)
    assert said == f"{path} holds something else than recordings; give another file"
    assert path.read_bytes() == content


def test_the_first_line_says_what_start_knows_of_each_query():
    known = Played("sales", mode="update", interval=2.5, ends=True)
    other = Played(None)
    line = module.first_line([known, other])
    assert line.endswith("}\n")
    assert ": " not in line
    assert json.loads(line)["queries"] == [
        {
            "name": "sales",
            "id": Played.id,
            "mode": "update",
            "interval": 2.5,
            "ends": True,
        },
        {
            "name": Played.id,
            "id": Played.id,
            "mode": None,
            "interval": None,
            "ends": False,
        },
    ]


def test_a_batch_s_line_hides_passwords_of_its_sources_and_its_sink():
    told = json.loads(LINES[0])
    told["sources"] = [{"description": "s3a://me:hush@store/in"}, {"no": "words"}]
    told["sink"] = {"description": "jdbc:x://me:hush@host/out"}
    given: Any = SimpleNamespace(json=json.dumps(told))
    line = json.loads(module.batch_line(given, (3, 5)))
    assert line["sources"] == [
        {"description": "s3a://me:***@store/in"},
        {"no": "words"},
    ]
    assert line["sink"] == {"description": "jdbc:x://me:***@host/out"}
    assert line["files"] == [3, 5]


def test_a_batch_without_source_and_sink_has_a_line():
    given: Any = SimpleNamespace(json='{"batchId": 1}')
    assert module.batch_line(given) == '{"batchId":1,"files":null}\n'


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ('{"a": 1}\n', {"a": 1}),
        ('{"a": 1', {}),
        ("", {}),
        ("[1]", {}),
        ("5", {}),
        ("null", {}),
        ("[" * 100_000, {}),
    ],
    ids=["whole", "torn", "empty", "list", "number", "null", "deep"],
)
def test_a_line_is_an_object_or_nothing(line, values):
    assert module._read(line) == values


# --- a recording on a board


def head(*queries, recording=1):
    at = AT.isoformat()
    return json.dumps({"recording": recording, "at": at, "queries": queries})


ONE = {"name": "one", "id": "1", "mode": "update", "interval": 2.5, "ends": False}


def test_a_recording_fills_a_board_and_ends_it():
    board = Board()
    module.follow([head(ONE), LINES[0][:50], LINES[0], '{"end": "now"}'], board)
    assert board.ended
    waits, recorded = board._queries.values()
    assert (waits.summary.name, waits.summary.query_id) == ("one", "1")
    assert (waits.summary.mode, waits.interval, waits.ends) == ("update", 2.5, False)
    assert waits.since == AT
    assert recorded.summary.batches == 1


def test_a_line_that_is_a_batch_ends_nothing():
    board = Board()
    module.follow([head(ONE), LINES[0]], board)
    assert not board.ended


def test_the_queries_of_an_old_recording_end():
    board = Board()
    old = {name: value for name, value in ONE.items() if name != "ends"}
    module.follow([head(old)], board)
    [query] = board._queries.values()
    assert query.ends is True


def test_the_last_run_of_a_recording_remains():
    board = Board()
    module.follow([head(ONE), '{"end": 1}', head(ONE | {"id": "2"})], board)
    assert list(board._queries) == ["2"]
    assert not board.ended


@pytest.mark.parametrize(
    ("files", "waiting", "read"), [([7, 9], 7, 9), (None, None, None)]
)
def test_a_recorded_batch_has_its_files(files, waiting, read):
    board = Board()
    module._replay(json.loads(LINES[0]) | {"files": files}, board)
    [batch_of_it] = board.pictures()[0].batches
    assert (batch_of_it.files_waiting, batch_of_it.files) == (waiting, read)


def test_a_batch_of_before_files_were_recorded_has_none():
    board = Board()
    module._replay(json.loads(LINES[0]), board)
    assert board.pictures()[0].batches[0].files_waiting is None


@pytest.mark.parametrize(
    "first", ["", "{}", LINES[0], head(recording=2), "no JSON"], ids=str
)
def test_a_recording_begins_with_its_first_line(first):
    said = refusal(module.follow, [first, head(ONE)], Board())
    assert said == f"line 1 does not begin a recording; {FIX}"


def test_no_line_is_no_recording_and_no_error():
    board = Board()
    module.follow([], board)
    assert board.pictures() == []


@pytest.mark.parametrize(
    "line",
    [
        '{"batchId": 1}',
        '{"id": 5, "sources": 3}',
        json.dumps(json.loads(LINES[0]) | {"files": [1]}),
        json.dumps(json.loads(LINES[0]) | {"timestamp": "soon"}),
        '{"recording": 1}',
        '{"recording": 1, "at": "soon", "queries": []}',
        json.dumps(json.loads(LINES[0]) | {"durationMs": 5}),
    ],
    ids=["few", "kinds", "files", "time", "no-time", "head", "durations"],
)
def test_a_line_of_something_else_is_named_by_its_number(line):
    board = Board()
    if '"files": [1]' in line:
        line = line.replace('"files": [1]', '"files": 5')
    said = refusal(module.follow, [head(ONE), line], board)
    assert said == f"line 2 is no progress that can be read; {FIX}"


# --- batches and pictures


def test_the_lag_is_from_the_watermark_to_the_start_of_the_batch():
    assert batch().lag is None
    assert batch(after=9, watermark=AT).lag == 9.0


def test_the_level_is_that_of_the_first_verdict():
    assert picture().level == "ok"
    assert picture(verdicts=[BAD, WARN]).level == "bad"
    assert picture(verdicts=[WARN]).level == "warn"


def test_phases_are_summed_in_seconds():
    told = progress(durationMs={"a": 1500, "b": 250})
    assert module._seconds(told, "a", "b", "none") == 1.75
    assert module._seconds(told) == 0


def test_a_batch_has_its_phases_in_groups():
    phases = {
        "addBatch": 1000,
        "queryPlanning": 200,
        "getBatch": 30,
        "walCommit": 4000,
        "commitBatch": 500,
        "commitOffsets": 60,
        "latestOffset": 7000,
        "triggerExecution": 9000,
    }
    state = QueryState(QuerySummary("q", "1"))
    assert state.add(progress(durationMs=phases), (7, 9))
    [added] = state.batches
    assert (added.work, added.planning) == (1.0, 0.23)
    assert (added.log_writes, added.looking) == (4.56, 7.0)
    assert (added.seconds, added.files_waiting, added.files) == (9.0, 7, 9)


@pytest.mark.parametrize(("told", "rows"), [(-1, None), (0, 0), (1, 1)])
def test_a_sink_may_not_say_how_many_rows_it_wrote(told, rows):
    state = QueryState(QuerySummary("q", "1"))
    state.add(progress(sink={"description": "s", "numOutputRows": told}), None)
    assert state.batches[0].rows_out == rows


def test_a_batch_is_added_once():
    state = QueryState(QuerySummary("q", "1"))
    assert state.add(progress(), None) is True
    assert state.add(progress(), None) is False
    assert state.summary.batches == len(state.batches) == 1
    assert state.add(progress(batchId=64), None) is True


WITH_STATE = [each for each in TOLD if each["name"] == "action_windows"]


def operators(*bytes_used, instances=2, partitions=2):
    [one] = WITH_STATE[0]["stateOperators"]
    counts = {"numStateStoreInstances": instances, "numShufflePartitions": partitions}
    return [one | counts | {"memoryUsedBytes": used} for used in bytes_used]


def test_the_memory_of_a_state_is_divided_by_how_often_it_was_computed():
    def state_bytes(states):
        return module._state_bytes(progress(WITH_STATE[0], stateOperators=states))

    assert state_bytes([]) is None
    assert state_bytes(operators(101)) == 101
    assert state_bytes(operators(101, 20)) == 121
    assert state_bytes(operators(101, 20, instances=4)) == 60


@pytest.mark.parametrize(
    ("before", "now", "more"),
    [(None, None, None), (3, None, None), (None, 5, 5), (3, 5, 2), (5, 5, 0)],
)
def test_a_total_grows_by(before, now, more):
    assert module._more(before, now) == more


def test_a_batch_has_what_its_totals_have_grown_by():
    state = QueryState(QuerySummary("q", "1", late_rows=4, mode="append"))
    [operator] = operators(1)
    for number, dropped in ((1, 3), (2, 0)):
        states = [operator | {"numRowsDroppedByWatermark": dropped}]
        state.add(progress(WITH_STATE[0], batchId=number, stateOperators=states), None)
    assert [each.late for each in state.batches] == [1, 0], "a group has one, at least"
    assert [each.bad for each in state.batches] == [None, None]


# --- silence


@pytest.mark.parametrize(
    ("interval", "usual", "silent"),
    [
        (None, 0.0, 10),
        (None, 2.0, 14),
        (1.0, 2.0, 14),
        (3.0, 2.0, 16),
    ],
)
def test_a_query_is_silent_ten_seconds_after_two_batches_time(interval, usual, silent):
    batches = (batch(0, seconds=usual * 9), batch(1, 100, seconds=usual))
    ended = AT + seconds(100 + usual)
    assert module._silent(batches, AT, interval, ended + seconds(silent)) is None
    verdict = module._silent(batches, AT, interval, ended + seconds(silent + 1))
    assert verdict == Verdict(
        "warn",
        f"no batch for {silent + 1} s: no new rows have come, or a batch takes long",
        "silence",
    )


@pytest.mark.parametrize(("interval", "silent"), [(None, 30), (10.0, 30), (11.0, 32)])
def test_a_first_batch_may_take_ten_seconds_as_spark_starts(interval, silent):
    assert module._silent((), AT, interval, AT + seconds(silent)) is None
    verdict = module._silent((), AT, interval, AT + seconds(silent + 1))
    assert verdict is not None
    assert verdict.text.startswith(f"no batch for {silent + 1} s: ")


def test_a_long_silence_is_easy_to_read():
    verdict = module._silent((), AT, None, AT + seconds(123_456))
    assert verdict is not None
    assert verdict.text.startswith("no batch for 123,456 s: ")


# --- what the board keeps of a query

NOISE = [Verdict("warn", "w"), Verdict("bad", "b"), Verdict("warn", "x")]


@pytest.fixture
def noise(monkeypatch):
    """Each query has the verdicts `NOISE`, and the arguments of the last look are kept."""
    looked: list[Any] = []

    def of_query(*given):
        looked.append(given)
        return list(NOISE)

    monkeypatch.setattr(module, "of_query", of_query)
    return looked


def test_a_picture_has_what_is_known_and_the_worst_verdict_first(noise):
    one = batch(3)
    summary = QuerySummary("q", "1")
    state = QueryState(summary, 2.5, AT, ends=False, batches=deque([one]))
    shown = state.picture(AT + seconds(600), active=True, live=True)
    assert noise == [(summary, (one,), 2.5, False)]
    assert (shown.name, shown.active, shown.since) == ("q", True, AT)
    assert shown.summary is summary
    assert shown.batches == (one,)
    assert [each.text[:8] for each in shown.verdicts] == ["b", "no batch", "w", "x"]
    assert not state.picture(AT, active=False, live=False).active


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("runs", [None, True, False])
def test_silence_is_said_of_a_query_that_goes_on(live, runs):
    query = None
    if runs is not None:
        query = Played()
        query.isActive = runs
    state = QueryState(QuerySummary("q", "1"), since=AT, query=query)
    verdicts = state.picture(AT + seconds(600), active=True, live=live).verdicts
    says_it = live and runs is not False
    assert [each.kind for each in verdicts] == (["silence"] if says_it else [])


def test_a_query_that_is_not_silent_has_no_such_verdict():
    state = QueryState(QuerySummary("q", "1"), since=AT)
    assert state.picture(AT, active=True, live=True).verdicts == ()


def test_a_query_keeps_its_last_batches():
    state = QueryState(QuerySummary("q", "1"))
    for number in range(SHOWN + 2):
        state.add(progress(batchId=number), None)
    assert len(state.batches) == SHOWN == 300
    assert state.batches[0].batch == 2
    assert state.ends is True
    assert state.interval is None


# --- the board


def state_of(id_, level=None):
    """Return a query without a batch, whose name is its id."""
    broken = {"a > 0": 1} if level == "warn" else {}
    return QueryState(QuerySummary(id_, id_, broken=broken))


def test_a_new_board_is_empty_and_live():
    board = Board()
    assert (board.problem, board.ended, board.live) == ("", False, True)
    assert board.pictures() == []
    assert board.wait(-1, 0) == 0


def changes(board):
    """Yield after each change of a board: it must have told those who wait."""
    version = board.wait(-1, 0)
    while True:
        yield
        now = board.wait(version, 0)
        assert now == version + 1
        version = now


def test_each_change_is_told():
    board = Board()
    change = changes(board)
    next(change)
    board.watch([Played("q")])
    next(change)
    board.add(progress())
    next(change)
    board.end()
    next(change)
    board.clear()
    next(change)
    board.expect(state_of("1"))
    next(change)


def test_a_batch_that_the_board_has_is_no_change():
    board = Board()
    board.add(progress())
    version = board.wait(-1, 0)
    board.add(progress())
    assert board.wait(version, 0) == version


def test_who_waits_is_woken_by_a_change(until):
    board = Board()
    version = board.wait(-1, 0)
    told: list[int] = []
    waiting = threading.Thread(
        target=lambda: told.append(board.wait(version, 600)), daemon=True
    )
    waiting.start()
    until(lambda: board._changed._waiters)  # type: ignore[attr-defined]
    board.end()
    waiting.join(30)
    assert told == [version + 1]


def test_a_board_watches_running_queries():
    board = Board()
    query = Played("sales", mode="update", interval=2.5, ends=True)
    board.watch([query])
    [state] = board._queries.values()
    assert (state.summary.name, state.summary.query_id) == ("sales", Played.id)
    assert (state.summary.mode, state.interval, state.ends) == ("update", 2.5, True)
    assert state.query is query
    assert datetime.now(UTC) - state.since < timedelta(minutes=10)


def test_a_query_without_a_name_is_known_by_its_id():
    board = Board()
    board.watch([Played(None)])
    board.add(progress(name=None, id=OTHER))
    assert {each.name for each in board.pictures()} == {Played.id, OTHER}


def test_batches_go_to_the_query_of_their_id():
    board = Board()
    board.add(progress(id=OTHER, name="n"), (7, 9))
    board.add(progress(id=OTHER, name="n", runId=Played.id, batchId=64))
    board.add(progress(id=Played.id, name="n"))
    totals = {each.summary.query_id: each.summary.batches for each in board.pictures()}
    assert totals == {OTHER: 2, Played.id: 1}
    assert board._queries[OTHER].batches[0].files_waiting == 7


def test_a_cleared_board_has_no_query_and_goes_on():
    board = Board()
    board.expect(state_of("1"))
    board.end()
    board.clear()
    assert (board.pictures(), board.ended) == ([], False)


def test_the_query_with_the_worst_verdict_comes_first():
    board = Board()
    board.live = False
    for id_, level in (("a", None), ("b", "warn"), ("c", None), ("d", "warn")):
        board.expect(state_of(id_, level))
    assert [each.name for each in board.pictures()] == ["b", "d", "a", "c"]


@pytest.mark.parametrize(
    ("ended", "live", "silent"),
    [(False, True, True), (True, True, False), (False, False, False)],
)
def test_silence_is_for_a_run_that_goes_on_and_is_live(ended, live, silent):
    board = Board()
    board.expect(QueryState(QuerySummary("q", "1"), since=AT))
    board.live = live
    if ended:
        board.end()
    [shown] = board.pictures(AT + seconds(600))
    assert bool(shown.verdicts) == silent
    assert shown.active is not ended


def test_a_picture_is_of_now_if_nothing_else_is_said():
    board = Board()
    board.expect(QueryState(QuerySummary("q", "1")))
    assert board.pictures()[0].verdicts == ()


def test_a_picture_stays_as_it_is():
    board = Board()
    board.add(progress())
    [before] = board.pictures()
    board.add(progress(batchId=64))
    assert len(before.batches) == before.summary.batches == 1
