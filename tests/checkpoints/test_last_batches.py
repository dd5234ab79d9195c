"""Which queries get a last batch, and what the summary of their run says then; no query runs.

`test_drain` drains queries.
"""

import json
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from conftest import refusal
from support.checkpoint_files import commit, plan, whole_checkpoint

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark import queries
from sparkstream_kit._internal.spark.place import Place, locate
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.guard import StartingQuery
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import (
    _drained,
    _joined,
    compared,
    draining,
    has_windows,
    plan_last_batch,
)
from sparkstream_kit.errors import QueryFailed
from sparkstream_kit.progress import QuerySummary, RunSummary

NOTHING: Any = None

# --- a comparison


def test_what_is_compared_needs_the_word_and_a_checkpoint():
    sink = sinks.console()
    said = refusal(compared, NOTHING, sink, "compered", None)
    assert "unknown dry run compered; did you mean compare?" in said
    said = refusal(compared, NOTHING, sink, "compare", None)
    assert said == (
        "start(): dry_run='compare' needs a checkpoint; give that of before"
    )
    query = StartingQuery(NOTHING, "q", "append", False, {})
    said = refusal(compared, query, sink, "compare", "ckpt")
    assert said.startswith("checkpoints.shadow(): frame is None")


# --- queries to drain


@dataclass(eq=False)
class Ended:
    """What is asked of a query that has ended."""

    name: str | None = "sales"
    id: str = "the-id"
    isActive: bool = False  # noqa: N815 - Spark's name
    runId: str = field(default_factory=lambda: str(uuid.uuid4()))  # noqa: N815


def ended(location, drain=NOTHING, **more):
    """Return a query of which `start` knows its checkpoint and how to run its last batch."""
    query: Any = Ended(**more)
    queries.note(query, queries.StartFacts(location=location, drain=drain))
    return query


def test_each_query_is_drained_once_in_order(spark, tmp_path):
    place = locate(spark, tmp_path)
    drained: list[str] = []

    def drain(name):
        return lambda: drained.append(name)

    a, b = ended(place, drain("a")), ended(place, drain("b"))
    summary = summarized(QuerySummary("a", "1"), QuerySummary("b", "2"))
    assert draining(iter([b, a, b]))(summary, NOTHING, 1.0) == summary
    assert drained == ["b", "a"]


@pytest.mark.parametrize("name", ["sales", None])
def test_a_query_that_has_no_checkpoint_in_reach_is_refused(spark, tmp_path, name):
    here, far = locate(spark, tmp_path), Place("/on/the/server")
    for place, drain in [(here, NOTHING), (NOTHING, print), (far, print)]:
        query = ended(place, drain, name=name)
        said = refusal(draining, [query])
        assert said.startswith(
            f"run(drain=True): query {name or 'the-id'} has no check"
        )
        assert said.endswith("its last batch; give start(…, checkpoint='folder')")
    unknown: Any = Ended()
    assert "query sales has no checkpoint" in refusal(draining, [unknown])


# --- the summary


def summarized(*of_queries, ended_by="end of input", seconds=1.0, warnings=()):
    return RunSummary(ended_by, seconds, of_queries, warnings)


A = QuerySummary("a", "1", batches=2, waiting_rows=5)
B = QuerySummary("b", "2", batches=3)
C = QuerySummary("c", "3", batches=4)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_last_batch_of_a_query_is_told_in_its_place(number):
    before = summarized(A, B, C, warnings=("x", "y"))
    last = replace((A, B, C)[number], batches=9)
    told = summarized(last, ended_by="SIGINT", seconds=2.0, warnings=("y", "z"))
    expected = [A, B, C]
    expected[number] = last
    assert _joined(before, told, number) == RunSummary(
        "SIGINT", 2.0, tuple(expected), ("x", "y", "z")
    )


class Runs:
    """Runs of last batches: each ends as it is told, and is noted."""

    def __init__(self, **ends):
        self.ends = ends
        self.made: list[tuple[Any, Any, Any]] = []

    def __call__(self, run_queries, *, before):
        [query] = run_queries

        def to_end(grace):
            self.made.append((query, before.name, grace))
            end = self.ends[query]
            if isinstance(end, Exception):
                raise end
            return end

        self.to_end = to_end
        return self


def drains(*names):
    found: Any = [lambda name=name: name for name in names]
    return found


def test_each_query_that_may_have_windows_runs_its_last_batch():
    runs = Runs(
        a=summarized(replace(A, batches=3, waiting_rows=1), seconds=2.0),
        c=summarized(replace(C, batches=5), seconds=3.0),
    )
    summary = _drained(drains("a", None, "c"), summarized(A, B, C), runs, 7.0)
    assert runs.made == [("a", "a", 7.0), ("c", "c", 7.0)]
    assert summary == summarized(
        *(replace(A, batches=3, waiting_rows=0), B, replace(C, batches=5)), seconds=3.0
    )


def test_rows_that_no_window_keeps_do_not_wait_any_more():
    summary = _drained(drains(None, None), summarized(B, A), NOTHING, 7.0)
    assert summary == summarized(B, replace(A, waiting_rows=0))
    of_no_state = replace(A, waiting_rows=None)
    summary = _drained(drains(None), summarized(of_no_state), NOTHING, 7.0)
    assert summary == summarized(of_no_state)


def test_what_ends_a_run_ends_the_last_batches_too():
    runs = Runs(a=summarized(A, ended_by="SIGINT"))
    summary = _drained(drains("a", "b"), summarized(A, B), runs, 7.0)
    assert [made[0] for made in runs.made] == ["a"]
    assert summary == summarized(A, B, ended_by="SIGINT")
    stopped = summarized(A, B, ended_by="run_for is over")
    assert _drained(drains(None, "b"), stopped, runs, 7.0) == stopped


def test_a_last_batch_that_fails_is_told_beside_the_other_queries():
    last = summarized(replace(B, batches=4), ended_by="failure")
    runs = Runs(b=QueryFailed("b", "x", last))
    with pytest.raises(QueryFailed, match="b failed: x") as failed:
        _drained(drains(None, "b"), summarized(B, B), runs, 7.0)
    assert failed.value.summary == summarized(
        B, replace(B, batches=4), ended_by="failure"
    )
    with pytest.raises(QueryFailed) as failed:
        _drained(drains("b"), summarized(B), Runs(b=QueryFailed("b", "x")), 7.0)
    assert failed.value.summary is None


# --- windows to close


@pytest.fixture(scope="module")
def timed(spark):
    rows = spark.readStream.format("rate").load()
    return rows.withWatermark("timestamp", "1 minute")


def starting(frame, mode="append"):
    return StartingQuery(frame, "q", mode, False, {})


def test_a_query_with_a_state_and_a_watermark_may_have_windows(spark, timed, tmp_path):
    place = locate(spark, tmp_path)
    assert not has_windows(starting(timed), NOTHING)
    assert not has_windows(starting(timed), place)  # and no state
    (tmp_path / "state/0").mkdir(parents=True)
    assert has_windows(starting(timed), place)
    assert not has_windows(starting(timed, "complete"), place)
    plain = spark.readStream.format("rate").load()
    assert not has_windows(starting(plain), place)
    plan(tmp_path, 0, "-", watermark=END)
    assert has_windows(starting(timed), place)  # it is being drained
    commit(tmp_path, 0)
    assert not has_windows(starting(timed), place)


def test_a_last_batch_reads_nothing_and_closes_every_window(tmp_path):
    logs = Logs(whole_checkpoint(tmp_path, 2))
    plan_last_batch(logs, NOTHING)
    last = logs.plan(2)
    assert (last.files, last.watermark) == ((1,), END)


@pytest.mark.classic_only("sets Hadoop's own settings")
def test_a_last_batch_is_planned_on_another_file_system_too(spark, tmp_path):
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001
    hadoop.set("fs.viewfs.mounttable.last.link./far", tmp_path.as_uri())
    logs = Logs(whole_checkpoint(tmp_path / "copy", 1))
    (tmp_path / "ckpt/offsets").mkdir(parents=True)
    plan_last_batch(logs, locate(spark, "viewfs://last/far/ckpt"))
    [there] = (tmp_path / "ckpt/offsets").glob("[!.]*")
    assert there.name == "1"
    assert there.read_text() == (tmp_path / "copy/offsets/1").read_text()
    here = Logs(whole_checkpoint(tmp_path / "here", 1))
    plan_last_batch(here, locate(spark, tmp_path / "here"))
    [_, query, _] = (tmp_path / "here/offsets/1").read_text().split("\n")
    assert json.loads(query)["batchWatermarkMs"] == END
