"""`run` step by step, without Spark: queries that a test plays, and what `run` makes of them."""

# ruff: noqa: SLF001 - the steps of a run are its own
import json
import logging
import math
import threading
import time
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from support.played import BEGINS, LOOKS, WAITS, WORKS, Played, Session

from sparkstream_kit import errors, run, runs
from sparkstream_kit._internal import threads
from sparkstream_kit._internal.spark import batch as spark_batch
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark import queries as spark_queries
from sparkstream_kit._internal.spark.place import LocalPlace, Place
from sparkstream_kit._internal.stopping import shutdown
from sparkstream_kit._internal.stopping.waiting import Inbox
from sparkstream_kit.checkpoints.json_fields import OtherFields
from sparkstream_kit.checkpoints.operate.shadow import Planned
from sparkstream_kit.errors import DryRun, InvalidInputError, QueryFailed
from sparkstream_kit.progress import QuerySummary, RunSummary
from sparkstream_kit.runs import _begin_stops, _check, _log_failures, _Run, _Watched

NOW = 1000.0
LOST = spark_queries.TargetLooks(lambda last: f"its table ends before batch {last}")


def watched(query, **counted):
    """Return a query of a run that has counted some batches."""
    return _Watched(query, QuerySummary(query.name, query.id, **counted))


def run_of(*queries, **how):
    """Return a run of queries, whose summary is not kept."""
    defaults: dict[str, Any] = {
        "inbox": Inbox(run_for=20),  # a test that is wrong ends, too
        "on_batch": [],
        "on_tick": [],
        "keep": print,
        "before": QuerySummary("q", "id"),
    }
    return _Run(queries, **defaults | how)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; it is at 1,000 seconds."""
    clock = SimpleNamespace(now=NOW)
    monkeypatch.setattr(
        "sparkstream_kit.runs.time", SimpleNamespace(monotonic=lambda: clock.now)
    )
    return clock


@pytest.fixture
def files(monkeypatch):
    """What is asked of the folders of a query; they always have a finding, and 3 files wait."""
    asked: list[Any] = []

    class Folders:
        def __init__(self, query):
            asked.append("made")

        def look_for(self, progress):
            asked.append(("look for", progress.batchId))

        def counted(self, progress, *, now=False):
            asked.append(("counted", progress.batchId, now))
            return 3, 5

        def findings(self, progress):
            asked.append(("findings", progress and progress.batchId))
            return ["a file has gone"]

        def other_fields(self):
            asked.append("fields")
            return OtherFields(("amount",), ("price",))

        def read_logs(self):
            asked.append("read logs")

        def trim_logs(self):
            asked.append("trim logs")

    monkeypatch.setattr("sparkstream_kit.runs.Files", Folders)
    return asked


# --- a query of a run


def test_a_query_is_known_by_its_name_or_else_by_its_id():
    assert watched(Played("sales")).name == "sales"
    assert watched(Played(None)).name == Played.id


def test_a_query_begins_with_nothing_or_with_what_was_counted_before():
    new = _Watched(Played("sales", mode="update"), None).done
    assert (new.name, new.query_id, new.batches) == ("sales", Played.id, 0)
    assert new.mode == "update"
    before = QuerySummary("sales", Played.id, batches=3)
    assert _Watched(Played("sales"), before).done is before


def test_an_end_is_posted_once_the_query_has_ended():
    query, inbox = Played(), Inbox()
    seen: list[object] = []
    query.over = SimpleNamespace(wait=lambda _: seen.append(inbox.get(timeout=0)))  # type: ignore[assignment]
    one = _Watched(query, None)
    one.post_end(inbox)
    assert seen == [("look", None)]
    assert inbox.get(timeout=0) == ("ended", one)


@pytest.mark.parametrize(
    ("session", "active", "ended", "lost"),
    [
        (None, True, False, False),
        (Session(), True, False, False),
        (Session(runs=False), True, False, True),
        # Spark knows itself that it has ended
        (Session(runs=False), False, False, False),
        (Session(runs=False), False, True, False),
        (Session(), True, True, False),
    ],
    ids=[
        "no session is known",
        "the session runs",
        "the session was stopped",
        "the query has ended with it",
        "the run knows that it has ended",
        "it has ended, and the session runs",
    ],
)
def test_a_query_whose_session_was_stopped_is_lost(session, active, ended, lost):
    query = Played(session=session)
    one = watched(query)
    one.ended, query.isActive = ended, active
    assert one.has_lost_session() is (lost or False)
    assert one.ended is (ended or lost)
    assert str(one.error()) == ("the session was stopped" if lost else "None")
    if session is None:
        assert one.lost is None


def test_the_error_of_a_query_comes_before_that_of_its_session():
    query = Played()
    one = watched(query)
    assert one.error() is None
    one.lost = RuntimeError("the session was stopped")
    assert one.error() is one.lost
    query.failed = ValueError("no such shop")
    assert one.error() is query.failed


@pytest.mark.parametrize(
    ("endless", "batches", "stopped"),
    [(False, 1, False), (False, 0, True), (True, 1, True), (True, 0, True)],
)
def test_an_end_is_a_stop_unless_all_input_was_read(endless, batches, stopped):
    query = Played()
    query.recentProgress = [query.batch(number) for number in range(batches)]
    one = watched(query)
    one.endless = endless
    assert one.was_stopped() is stopped


@pytest.mark.parametrize(
    ("last", "recorded", "status", "is_on_its_way"),
    [
        (None, None, WAITS, False),
        (None, None, WORKS, True),
        ((3, 1), None, WAITS, True),
        ((3, 1), 2, WAITS, True),
        ((3, 1), 3, WAITS, False),
        ((3, 1), 3, WORKS, True),
        ((3, 0), 2, WAITS, False),
        ((3, 0), None, WAITS, False),
        ((3, 0), 2, WORKS, True),
        ((3, 0), 2, LOOKS, False),
    ],
    ids=[
        "no batch yet",
        "the first batch runs",
        "the first batch is not counted yet",
        "the last batch is not counted yet",
        "all is counted",
        "all is counted, and a batch runs",
        "the last batch had no row",
        "the only batch had no row",
        "the last batch had no row, and a batch runs",
        "Spark looks for input",
    ],
)
def test_rows_on_their_way(last, recorded, status, is_on_its_way):
    query = Played()
    query.status = status
    if last:
        query.recentProgress = [query.batch(*last)]
    one = watched(query, last_batch=recorded)
    assert one.has_rows_on_their_way() is is_on_its_way


def test_the_folders_of_a_query_are_asked_for_once_and_when_needed(files):
    one = watched(Played())
    assert files == []
    assert one.files() is one.files()
    assert files == ["made"]


@pytest.mark.parametrize(
    ("records", "last", "waiting"),
    [
        ([None], True, 3),
        ([], True, None),
        ([None], False, None),
        ([], False, None),
    ],
    ids=["after a batch", "without a batch", "without a progress", "without both"],
)
def test_waiting_files_are_counted_at_the_end_if_there_was_a_batch(
    files, records, last, waiting
):
    query = Played()
    one = watched(query)
    one.records.extend(records)
    if last:
        one.last = query.batch(7)
    one.count_waiting()
    assert one.done.files_waiting == waiting
    assert one.done.absent_fields == (() if waiting is None else ("amount",))
    asked = ["made", ("counted", 7, True), "fields"]
    assert files == ([] if waiting is None else asked)


def test_logs_are_trimmed_while_the_query_runs_and_its_folders_are_known(files):
    one = watched(Played())
    one.trim_logs()
    assert files == [], "nobody has asked for them"
    one.files()
    one.trim_logs()
    assert files == ["made", "trim logs"]
    one.ended = True
    one.trim_logs()
    assert files == ["made", "trim logs"]


# --- the stop of a query


def test_a_stop_is_begun_once_and_waited_for(files):
    query = Played()
    one = watched(query)
    assert one.has_stopped(), "none was begun"
    one.begin_stop()
    one.begin_stop()
    assert one.has_stopped()
    assert query.calls == ["stop"]
    assert files == [], "nobody has asked for them"


def test_a_query_that_has_ended_is_not_stopped():
    query = Played()
    one = watched(query)
    one.ended = True
    one.begin_stop()
    assert one.has_stopped()
    assert query.calls == []


def test_logs_are_read_before_the_stop_which_deletes_a_temporary_checkpoint(files):
    query = Played()
    query.at_stop = lambda: files.append("stopped")
    one = watched(query)
    one.files()
    one.begin_stop()
    assert one.has_stopped()
    assert files == ["made", "read logs", "stopped"]


def test_a_stop_that_takes_a_moment_is_waited_for():
    query = Played()
    query.at_stop = partial(threading.Event().wait, 0.2)
    one = watched(query)
    one.begin_stop()
    assert one.has_stopped()


@pytest.mark.parametrize(
    ("after", "waits"), [(0, 5), (2, 3), (4.5, 0.5), (5, 0), (9, 0)]
)
def test_a_stop_is_waited_for_until_its_limit(monkeypatch, clock, after, waits):
    waited: list[float] = []
    hanging = SimpleNamespace(join=waited.append, is_alive=lambda: True)
    monkeypatch.setattr(threads, "in_thread", lambda *_: hanging)
    query = Played()
    one = watched(query)
    one.begin_stop()
    query.end()
    clock.now = NOW + after
    assert not one.has_stopped(), "although Spark says that it is not active"
    assert waited == [waits]


def test_a_query_that_is_active_after_its_stop_has_not_stopped():
    query = Played()

    def refuse():
        query.isActive = True
        raise RuntimeError("Spark's own time limit")

    query.at_stop = refuse
    one = watched(query)
    one.begin_stop()
    assert not one.has_stopped()


# --- what a query is told to have done


def test_a_summary_has_the_verdicts_on_the_query():
    one = watched(Played(), broken={"amount > 0": 3})
    summary = one.summary()
    assert [str(verdict) for verdict in summary.verdicts] == [
        "rule amount > 0: 3 rows break it"
    ]
    assert summary.broken == {"amount > 0": 3}


@pytest.mark.parametrize("at_end", [True, False])
def test_a_target_that_has_lost_rows_is_told_with_the_query(at_end):
    asked: list[tuple[int | None, bool]] = []

    def lost_rows(last, *, at_end):
        asked.append((last, at_end))
        return "its table has gone"

    target = SimpleNamespace(lost_rows=lost_rows)
    one = watched(Played("sales", target=target), last_batch=7)
    how = {"at_end": True} if at_end else {}
    said = refusal(one.refuse_lost_rows, **how)
    assert said == "query sales: its table has gone"
    assert asked == [(7, at_end)]


def test_a_target_with_all_rows_is_no_refusal():
    watched(Played()).refuse_lost_rows()
    looks = spark_queries.TargetLooks(lambda _: None)
    watched(Played(target=looks), last_batch=7).refuse_lost_rows(at_end=True)


# --- the failure of a query

NO_CONNECTION = (
    "TextSocketV2[host: h1, port: 99]\njava.net.ConnectException: Connection refused"
)


def failed(one, error, ended_by="failure"):
    """Return the exception of a query that has failed, with which the summary goes."""
    summary = RunSummary(ended_by, 1.0, ())
    failure = one.failure(error, summary)
    assert failure.summary is summary
    return type(failure), str(failure), failure.exit_code


@pytest.mark.parametrize(
    ("error", "facts", "ended_by", "raised", "says", "code"),
    [
        (ValueError("no such shop"), {}, "failure", QueryFailed, "no such shop", 1),
        (ValueError("no such shop"), {}, "SIGINT", QueryFailed, "no such shop", 130),
        (ValueError("no such shop"), {}, "SIGTERM", QueryFailed, "no such shop", 143),
        (
            ValueError("no such shop"),
            {},
            "a signal to the JVM",
            QueryFailed,
            "no such shop",
            143,
        ),
        (
            ValueError(NO_CONNECTION),
            {},
            "failure",
            errors.InputUnavailable,
            "nothing listens on h1:99",
            75,
        ),
        (
            ValueError("[X_SCHEMA_NOT_COMPATIBLE] another schema"),
            {},
            "failure",
            QueryFailed,
            "another schema",
            2,
        ),
        (
            ValueError("no such shop"),
            {"target": LOST},
            "failure",
            QueryFailed,
            "its table ends before batch 7",
            2,
        ),
        (
            ValueError("no such shop"),
            {"target": LOST},
            "SIGINT",
            QueryFailed,
            "its table ends before batch 7",
            130,
        ),
        (
            ValueError("sparkstream_kit.errors.TransientError: the shop is closed"),
            {},
            "failure",
            QueryFailed,
            "the shop is closed",
            75,
        ),
        (
            ValueError("sparkstream_kit.errors.TransientError: the shop is closed"),
            {"target": LOST},
            "failure",
            QueryFailed,
            "its table ends before batch 7",
            75,
        ),
    ],
    ids=[
        "an error",
        "an error after Ctrl-C",
        "an error after SIGTERM",
        "an error after a signal to the JVM",
        "nobody listens",
        "another schema",
        "lost rows",
        "lost rows after Ctrl-C",
        "what may pass",
        "what may pass, with lost rows",
    ],
)
def test_a_failure_has_its_cause_and_its_exit_code(
    error, facts, ended_by, raised, says, code
):
    one = watched(Played("sales", **facts), last_batch=7)
    kind, said, exit_code = failed(one, error, ended_by)
    assert (kind, exit_code) == (raised, code)
    assert said.startswith("query sales failed: ")
    assert says in said


def test_a_failure_of_a_stopped_session_says_so_and_nothing_else():
    query = Played("sales", target=LOST)
    one = watched(query, last_batch=7)
    context = SimpleNamespace(isStopped=lambda: True)
    spark = SimpleNamespace(sparkContext=lambda: context)
    query._jsq = SimpleNamespace(sparkSession=lambda: spark)
    assert failed(one, ValueError(NO_CONNECTION), "SIGINT") == (
        QueryFailed,
        (
            "query sales failed: its session was stopped while it ran; end the query"
            " first, then call spark.stop()"
        ),
        1,
    )


@pytest.mark.parametrize(
    ("error", "kind", "says", "code"),
    [
        (
            "org.apache.kafka.common.errors.TimeoutException: x",
            "kafka",
            "no Kafka broker has answered; start it, and then the query again (Spark: ",
            75,
        ),
        (
            "failOnDataLoss is set",
            "kafka",
            (
                "Kafka no longer has a topic or records that were still to be read"
                " (Spark: "
            ),
            1,
        ),
        ("failOnDataLoss is set", "delta", "failOnDataLoss is set", 1),
        ("no such shop", "kafka", "no such shop", 1),
        ("failOnDataLoss is set", None, "failOnDataLoss is set", 1),
    ],
    ids=[
        "no broker",
        "lost records",
        "of another system",
        "of none",
        "no input is known",
    ],
)
def test_a_failure_says_what_it_means_to_the_systems_that_are_read(
    monkeypatch, error, kind, says, code
):
    sources = [SimpleNamespace(kind="file"), SimpleNamespace(kind=kind)]
    monkeypatch.setattr(logical_plan, "inputs_of", lambda _: sources)
    one = watched(Played("sales", session=Session() if kind else None))
    told, said, exit_code = failed(one, RuntimeError(error))
    assert told is QueryFailed
    assert said.startswith(f"query sales failed: {says}") or (
        said == f"query sales failed: RuntimeError: {says}"
    )
    assert exit_code == code


# --- a failure that a damaged checkpoint explains

IN_PART = "[STATE_STORE_COMMIT_VALIDATION_FAILED] x"


@pytest.fixture
def damaged(tmp_path):
    """A checkpoint whose only batch is not as Spark wrote it."""
    (tmp_path / "offsets").mkdir()
    (tmp_path / "offsets" / "0").write_text("")
    (tmp_path / "metadata").write_text('{"id":"1f0c4a4e-0000-4000-8000-000000000000"}')
    return tmp_path


def test_before_its_first_batch_a_failure_is_explained_by_the_checkpoint(damaged):
    query = Played("sales", location=LocalPlace(str(damaged), damaged))
    kind, said, code = failed(watched(query), ValueError("Malformed log file"))
    assert (kind, code) == (errors.CheckpointDamaged, 2)
    assert f"checkpoint {damaged} is damaged: offsets/0 is" in said
    assert said.endswith("(Spark: ValueError: Malformed log file)")


@pytest.mark.parametrize(
    ("batches", "error", "says"),
    [
        (1, "Malformed log file", None),
        (1, IN_PART, "batch"),
        (0, IN_PART, "batch"),
    ],
    ids=["after a batch", "a batch read in part", "the first batch read in part"],
)
def test_after_a_batch_a_failure_is_explained_by_its_own_words_alone(
    damaged, batches, error, says
):
    query = Played("sales", location=LocalPlace(str(damaged), damaged))
    kind, said, _ = failed(watched(query, batches=batches), ValueError(error))
    assert kind is (errors.CheckpointDamaged if says else QueryFailed)
    assert "offsets/0" not in said
    assert (f"checkpoint {damaged} is damaged" in said) is bool(says)


@pytest.mark.parametrize(
    "place",
    [
        None,
        Place("elsewhere"),
        "s3a://bucket/ckpt",
        "a folder that is not there",
    ],
    ids=["none is known", "on a server", "in a store", "it is gone"],
)
def test_a_checkpoint_that_cannot_be_looked_at_explains_nothing(tmp_path, place):
    if isinstance(place, str):
        text = place if "://" in place else str(tmp_path / place)
        place = LocalPlace(text, tmp_path / "not there")
    query = Played("sales", location=place)
    kind, said, code = failed(watched(query), ValueError(IN_PART))
    assert (kind, code) == (QueryFailed, 1)
    assert said == f"query sales failed: ValueError: {IN_PART}"


# --- a batch


def test_a_batch_is_counted_once_and_told_to_all_who_listen(files, clock):
    told: list[Any] = []
    query = Played(progress_listeners=(lambda each: told.append(each.batchId),))
    of = run_of(query, on_batch=[lambda *given: told.append(given)], before=None)
    [one] = of._queries
    clock.now = NOW + 5
    batch = query.batch(4, rows=1)
    for each in (batch, query.batch(3), batch, Played().batch(5)):
        of._record(each)
    assert files == ["made", ("look for", 4), ("counted", 4, False)]
    assert told == [4, (batch, (3, 5))]
    assert (one.done.batches, one.done.last_batch, one.done.files_waiting) == (1, 4, 3)
    assert [(each.batch, each.files_waiting) for each in one.records] == [(4, 3)]
    assert one.last is batch
    assert one.sockets == [], "it reads none"


@pytest.mark.parametrize(("rows", "last"), [(0, 0), (1, NOW)])
def test_a_batch_with_rows_is_the_time_of_the_last_row(clock, rows, last):
    query = Played()
    of = run_of(query)
    of._last_row = 0
    of._record(query.batch(0, rows=rows))
    assert of._last_row == last


def test_the_first_batch_says_which_sockets_are_read():
    def read_by(query, *sockets):
        [source] = json.loads(query.batch(0).json)["sources"]
        return [
            source | {"description": f"TextSocketV2[host: {host}, port: {port}]"}
            for host, port in sockets
        ]

    query = Played()
    of = run_of(query)
    [one] = of._queries
    assert one.sockets is None
    of._record(query.batch(0, sources=read_by(query, ("a", 1), ("b", 2))))
    assert one.sockets == [("a", 1), ("b", 2)]
    one.sockets = []  # they have closed
    of._record(query.batch(1, sources=read_by(query, ("a", 1))))
    assert one.sockets == []


def test_what_a_batch_has_printed_is_brought_before_it_is_told(monkeypatch):
    order: list[object] = []
    monkeypatch.setattr(spark_queries, "bring_printed", order.append)
    query = Played()
    run_of(query, on_batch=[lambda *_: order.append("told")])._record(query.batch(0))
    assert order == [query, "told"]


def test_of_what_callbacks_raise_the_first_is_kept_and_ends_the_run():
    def fail(error):
        raise error

    of = run_of(Played(), on_batch=[print], on_tick=[print])
    of._call([lambda: None])
    assert of._raised is None
    assert of.inbox.get(timeout=0) == ("look", None)
    first = SystemExit(7)
    of._call([partial(fail, first), partial(fail, ValueError("never reached"))])
    assert of._raised is first
    assert of.inbox.get(timeout=0) == ("stop", "failure")
    assert (of.on_batch, of.on_tick) == ([], [])
    of._call([partial(fail, ValueError("the second"))])
    assert of._raised is first


def test_batches_without_an_event_are_counted_and_an_idle_look_is_none():
    query = Played()
    of = run_of(query)
    [one] = of._queries
    idle = query.batch(9, rows=0, durationMs={"triggerExecution": 3})
    query.recentProgress = [query.batch(7), query.batch(8), idle]
    of._catch_up()
    assert (one.done.batches, one.done.last_batch) == (2, 8)
    assert one.last is idle


def test_batches_in_the_inbox_are_recorded_and_nothing_is_waited_for():
    waits: list[float] = []

    class Noting(Inbox):
        def get(self, timeout=math.inf):
            waits.append(timeout)
            return super().get(timeout)

    query = Played()
    of = run_of(query, inbox=Noting())
    of.inbox.post("ended", of._queries[0])
    of.inbox.post("progress", query.batch(0))
    of.inbox.post("progress", query.batch(1))
    of._record_posted()
    assert of._queries[0].done.batches == 2
    assert waits == [0, 0, 0, 0]


# --- the wait


def waiting(*queries, posts=(), **how):
    """Return a run with posts in its inbox; a last one ends it."""
    of = run_of(*queries, **how)
    for kind, what in posts:
        of.inbox.post(kind, what)
    of.inbox.post("stop", "the last post")
    return of


def test_a_run_of_queries_that_have_ended_is_over():
    one, other = Played(), Played()
    of = run_of(one, other)
    for each in of._queries:
        each.ended = True
        each.query.recentProgress = [each.query.batch(0)]
    assert of._wait() == "end of input"
    other.recentProgress = []
    assert of._wait() == "query.stop()", "one of them had read nothing"


def test_a_run_waits_for_the_end_of_all_queries():
    one, other = Played(), Played()
    of = run_of(one, other)
    first, second = of._queries
    for each in (one, other):
        each.recentProgress = [each.batch(0)]
    of.inbox.post("ended", first)
    of.inbox.post("progress", other.batch(1))
    of.inbox.post("ended", second)
    assert of._wait() == "end of input"
    assert (first.ended, second.ended, second.done.batches) == (True, True, 1)


def test_a_run_ends_with_the_reason_of_a_stop():
    query = Played()
    of = waiting(query, posts=[("progress", query.batch(0)), ("stop", "SIGINT")])
    assert of._wait() == "SIGINT"
    assert of._queries[0].done.batches == 1


def test_a_run_ends_by_a_limit_without_a_look_at_the_inbox():
    of = waiting(Played(), max_batches=2, before=QuerySummary("q", "id", batches=2))
    assert of._wait() == "max_batches are through"
    assert of.inbox.get(timeout=0) == ("stop", "the last post")


def test_a_query_that_ends_with_an_error_ends_the_run():
    query = Played()
    of = waiting(query)
    query.failed = ValueError("no such shop")
    assert of._wait() == "the last post", "it has not ended yet"
    of = waiting(query, posts=[("ended", of._queries[0])])
    of.inbox.get()
    of.inbox.post("ended", of._queries[0])
    of.inbox.get()
    assert of._wait() == "failure"


def test_each_event_is_followed_by_a_look(monkeypatch, files, clock):
    looks: list[str] = []
    target = SimpleNamespace(lost_rows=lambda *_, **__: looks.append("target"))
    monkeypatch.setattr(logical_plan, "is_being_read", lambda *_: looks.append("read"))
    query = Played(target=target)
    of = waiting(
        query,
        posts=[("progress", query.batch(0))],
        on_tick=[partial(looks.append, "tick")],
    )
    of._queries[0].sockets = [("a", 1)]
    assert of._wait() == "the last post"
    assert looks == ["read", "target", "tick"]
    assert not of._queries[0].endless


@pytest.mark.parametrize(
    ("ticks", "sockets", "after"),
    [
        ([], None, 2.0),
        ([], [], 2.0),
        ([print], None, 0.5),
        ([], [("a", 1)], 0.5),
        ([print], [("a", 1)], 0.5),
    ],
    ids=[
        "before a batch",
        "no socket",
        "a view",
        "a socket",
        "a view and a socket",
    ],
)
def test_how_often_a_run_looks(ticks, sockets, after):
    of = run_of(Played(), Played(), on_tick=ticks)
    of._queries[1].sockets = sockets
    assert of._look_after() == after


@pytest.mark.parametrize(("seconds", "looks"), [(59, False), (60, True), (61, True)])
def test_files_are_looked_at_once_a_minute_and_their_logs_trimmed(
    files, clock, seconds, looks
):
    of = run_of(Played())
    of._look_at_files()
    files.clear()
    clock.now = NOW + seconds
    of._look_now_and_then()
    assert files == ([("findings", None), "trim logs"] if looks else [])
    files.clear()
    of._look_now_and_then()
    assert files == [], "not twice in a moment"


def test_files_are_looked_at_as_soon_as_a_run_begins(files, clock):
    of = run_of(Played(), inbox=SimpleNamespace(started=NOW))
    of._look_now_and_then()
    assert ("findings", None) in files


def test_lost_rows_end_a_run_with_their_refusal():
    of = run_of(Played("sales", target=LOST))
    of._look_now_and_then()
    assert "its table ends before batch -1" in str(of._raised)


def test_a_finding_is_logged_once_and_in_the_summary(files, caplog):
    query = Played()
    of = run_of(query, Played())
    of._queries[0].last = query.batch(7)
    of._look_at_files()
    of._look_at_files()
    assert caplog.messages == ["query q: a file has gone"]
    assert ("findings", 7) in files
    assert of._summarise("SIGINT").warnings == ("query q: a file has gone",)


@pytest.mark.parametrize(
    ("ended", "failed", "lost", "fails"),
    [
        (False, None, False, False),
        (False, ValueError("x"), False, False),
        (True, None, False, False),
        (True, ValueError("x"), False, True),
        (False, None, True, True),
    ],
    ids=[
        "it runs",
        "it is about to fail",
        "it has ended",
        "it has failed",
        "its session was stopped",
    ],
)
def test_a_failure_is_that_of_a_query_which_has_ended(ended, failed, lost, fails):
    good, query = Played(), Played(session=Session(runs=not lost))
    of = run_of(good, query)
    of._queries[1].ended = ended
    query.failed = failed
    assert of._has_failure(of._queries) is fails
    assert of._failed is (of._queries[1] if fails else None)
    assert of._has_failure(of._queries[:1]) is False


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ((1, 5), None),
        ((2, 2), "max_batches are through"),
        ((3, 2), "max_batches are through"),
    ],
)
def test_max_batches_are_those_of_each_query(batches, reason):
    of = run_of(Played(), Played(), max_batches=2)
    for one, number in zip(of._queries, batches, strict=True):
        one.done = QuerySummary("q", "id", batches=number)
    assert of._over(of._queries) == (reason, 0 if reason else math.inf)


def test_without_limits_a_run_is_never_over():
    assert run_of(Played())._over([]) == (None, math.inf)
    assert run_of(Played(), max_batches=None)._over([]) == (None, math.inf)


@pytest.mark.parametrize(
    ("since", "status", "over"),
    [
        (0.0, WAITS, (None, 10.0)),
        (9.5, WAITS, (None, 0.5)),
        (10.0, WAITS, ("10 s without a row", 0.0)),
        (12.0, WAITS, ("10 s without a row", -2.0)),
        (10.0, BEGINS, (None, 0.5)),
        (10.0, LOOKS, (None, 0.5)),
        (9.5, BEGINS, (None, 0.5)),
    ],
    ids=[
        "it begins",
        "a moment is left",
        "just over",
        "long over",
        "it looks where its input begins",
        "it looks for its first rows",
        "it begins, and a moment is left",
    ],
)
def test_a_run_is_idle_after_some_seconds_without_a_row(clock, since, status, over):
    query = Played()
    query.status = status
    of = run_of(Played(), query, idle=10)
    of._last_row = NOW
    clock.now = NOW + since
    assert of._over(of._queries) == over
    assert of._last_row == NOW


def test_rows_on_their_way_are_rows_of_now(clock):
    query = Played()
    query.recentProgress = [query.batch(0, rows=0)]
    query.status = WORKS
    of = run_of(Played(), query, idle=10)
    of._last_row = NOW
    clock.now = NOW + 10
    assert of._over(of._queries) == (None, 10)
    assert of._last_row == NOW + 10
    clock.now = NOW + 19
    assert of._over(of._queries) == (None, 1)


@pytest.mark.parametrize(
    ("sockets", "is_read", "finishes"),
    [
        (None, False, False),
        ([], False, False),
        ([("a", 1)], True, False),
        ([("a", 1)], False, True),
    ],
    ids=["before a batch", "no socket", "it is read", "it has closed"],
)
def test_a_query_ends_when_its_sockets_have_closed(
    monkeypatch, until, sockets, is_read, finishes
):
    asked: list[object] = []
    session = Session()

    def is_being_read(spark, of):
        asked.append((spark, of))
        return is_read

    monkeypatch.setattr(logical_plan, "is_being_read", is_being_read)
    query, other = Played(session=session), Played()
    of = run_of(other, query)
    one = of._queries[1]
    one.sockets, one.endless = sockets, True
    of._end_read_sockets()
    assert asked == ([(session, sockets)] if sockets else [])
    assert one.endless is not finishes
    if finishes:
        assert one.sockets == []
        until(lambda: query.calls == ["processAllAvailable", "stop"])
        of._end_read_sockets()
        assert len(asked) == 1, "once"
    else:
        assert one.sockets is sockets
        assert query.calls == []
    assert other.calls == []


# --- the end


@pytest.mark.parametrize(
    ("status", "last", "after", "stops"),
    [
        (WAITS, 4, 30, True),
        (LOOKS, 4, 30, True),
        (WORKS, 4, 30, False),
        (WORKS, 5, 30, True),
        (WORKS, 4, 0, True),
        (WORKS, 4, -1, True),
        (WORKS, 4, 1, False),
    ],
    ids=[
        "no batch runs",
        "it looks for input",
        "its batch runs",
        "its batch has committed",
        "the time is just over",
        "the time is long over",
        "a second is left",
    ],
)
def test_a_query_is_stopped_once_its_batch_has_committed(
    clock, status, last, after, stops
):
    query = Played()
    query.status, query.recentProgress = status, [query.batch(last)]
    one = watched(query)
    committed: Any = {one: 4}
    assert _begin_stops(committed, NOW + after) is not stops
    assert committed == ({} if stops else {one: 4})
    assert one.has_stopped()
    assert query.calls == (["stop"] if stops else [])


def test_batches_that_end_before_the_stop_are_counted_and_ended_queries_left_alone():
    order: list[str] = []
    query, ended = Played(), Played()
    query.status = WORKS
    query.at_stop = lambda: order.append("stopped")
    of = run_of(query, ended, on_batch=[lambda *_: order.append("told")])
    of._queries[1].ended = True
    ended.status = None  # nobody asks for it
    done = query.batch(0)

    def commits(*_):
        query.recentProgress = [done]
        order.append("committed")

    of.on_batch.insert(0, commits)
    of.inbox.post("ended", None)
    of.inbox.post("progress", done)
    of._let_batches_commit(time.monotonic() + 20)
    assert order == ["committed", "told", "stopped"]
    assert of._queries[0].done.batches == 1
    assert ended.calls == []


def test_the_stop_of_all_is_waited_for_while_signals_still_stop_the_run():
    query = Played()

    def takes_a_moment():
        threading.Event().wait(0.3)
        query.calls.append("end")

    query.at_stop = takes_a_moment
    of = run_of(query)
    of._let_batches_commit(0)
    assert query.calls == ["stop", "end"]


def test_queries_that_do_not_stop_are_told_apart():
    good, stuck = Played("good"), Played("stuck")
    stuck.at_stop = lambda: setattr(stuck, "isActive", True)
    of = run_of(good, stuck, before=None)
    assert of._stop_all() == [of._queries[1]]
    with pytest.raises(QueryFailed, match="query stuck failed: it did not stop") as err:
        of.to_end(0)
    assert isinstance(err.value.summary, RunSummary)
    assert [query.name for query in err.value.summary.queries] == ["good", "stuck"]


def test_what_is_left_is_counted_once_the_queries_have_stopped(monkeypatch, files):
    order: list[object] = []
    monkeypatch.setattr(
        spark_queries, "bring_printed", lambda query: order.append("printed")
    )
    query = Played("sales", target=LOST)
    of = run_of(query, on_tick=[lambda: order.append("tick")])
    [one] = of._queries
    of.inbox.post("progress", query.batch(0))
    query.recentProgress = [query.batch(1)]
    of._count_the_rest()
    assert one.done.batches == 2
    assert order == ["printed", "printed", "tick", "printed"]
    assert files[-3:] == [("findings", 1), ("counted", 1, True), "fields"]
    assert "its table ends before batch 1" in str(of._raised)
    assert isinstance(of._raised, InvalidInputError)


@pytest.mark.parametrize(
    ("raised", "failed"),
    [(ValueError("of a callback"), None), (None, ValueError("no such shop"))],
    ids=["a callback has raised", "the query has failed"],
)
def test_lost_rows_are_no_further_error(raised, failed):
    looks: list[int] = []
    query = Played(target=spark_queries.TargetLooks(looks.append))
    of = run_of(query)
    of._raised, query.failed = raised, failed
    of._count_the_rest()
    assert looks == []
    assert of._raised is raised


def test_a_run_listens_until_its_queries_have_stopped(monkeypatch):
    session, limits = Session(), []
    query = Played("sales", session=session)
    query.at_stop = lambda: query.calls.append(f"{len(session.heard)} listens")
    real = shutdown.jvm_waits_for

    def noted(inbox, limit):
        limits.append(limit)
        return real(inbox, limit)

    monkeypatch.setattr(shutdown, "jvm_waits_for", noted)
    ended: list[str] = []
    connection = SimpleNamespace(shutdown=lambda: ended.append("connection"))
    client = SimpleNamespace(connectionStopped=lambda _: None)
    thread = SimpleNamespace(isAlive=lambda: False)
    monkeypatch.setattr(spark_batch, "_connections", [(thread, client, connection)])
    of = run_of(query)
    query.recentProgress = [query.batch(3)]
    of.inbox.post("progress", query.batch(4))
    of.inbox.post("stop", "SIGINT")
    summary = of.to_end(30)
    assert summary.ended_by == "SIGINT"
    assert summary.queries[0].batches == 2, "that from before the run, too"
    assert sorted(query.calls) == ["1 listens", "awaitTermination", "stop"]
    assert session.heard == []
    assert limits == [65], "grace, the stop of the queries, the end of the job"
    assert ended == ["connection"]


def test_a_query_that_ends_by_itself_ends_the_run():
    query = Played()
    query.recentProgress = [query.batch(0)]
    query.end()
    assert run_of(query, inbox=Inbox(run_for=20)).to_end(30).ended_by == "end of input"
    assert query.calls == ["awaitTermination"]


def test_a_batch_in_flight_has_the_seconds_of_grace_to_commit():
    query = Played()
    committed: list[str] = []

    class Batch(dict[str, Any]):
        """A batch that has committed when Spark is asked for the third time."""

        asked = 0

        def __getitem__(self, key):
            if key == "isTriggerActive":
                self.asked += 1
                if self.asked > 2 and not committed:
                    committed.append("committed")
                    query.recentProgress = [query.batch(0)]
            return super().__getitem__(key)

    query.status = Batch(WORKS)
    query.at_stop = lambda: committed.append("stopped")
    of = waiting(query)
    assert of.to_end(20).queries[0].batches == 1
    assert committed == ["committed", "stopped"]


# --- the summary of a run


def test_what_a_callback_has_raised_comes_before_failures_and_is_kept(caplog):
    kept: list[Any] = []
    bad = Played("bad")
    bad.failed = ValueError("no such shop")
    of = run_of(bad, keep=lambda *given: kept.append(given))
    of._raised = LookupError("mine")
    with pytest.raises(LookupError, match="mine"):
        of._summarise("failure")
    [(summary, cause)] = kept
    assert (summary.ended_by, cause) == ("failure", "LookupError: mine")
    assert caplog.messages == ["query bad failed, too: ValueError: no such shop"]


def test_of_failures_that_of_the_query_which_ended_the_run_is_raised(caplog):
    queries = [Played(name) for name in ("good", "one", "two", "three")]
    for query in queries[1:]:
        query.failed = ValueError(f"of {query.name}")
    of = run_of(*queries)
    of._failed = of._queries[2]
    assert [one.name for one, _ in of._failures()] == ["two", "one", "three"]
    with pytest.raises(QueryFailed, match="query two failed: ValueError: of two") as e:
        of._summarise("failure")
    assert e.value.__cause__ is queries[2].failed
    assert caplog.messages == [
        "query one failed, too: ValueError: of one",
        "query three failed, too: ValueError: of three",
    ]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_a_failure_alone_is_not_logged(caplog):
    query = Played("bad")
    query.failed = ValueError("no such shop")
    with pytest.raises(QueryFailed, match="query bad failed: ValueError: no such shop"):
        run_of(query)._summarise("failure")
    assert caplog.messages == []
    _log_failures([])
    assert caplog.messages == []


def test_the_end_of_the_jvm_is_a_failure_of_all_queries_with_a_summary():
    of = run_of(Played("one"), Played("two"))
    with pytest.raises(QueryFailed, match="query one, two failed: Spark's JVM ended"):
        of._summarise("the end of the JVM by itself")


def test_a_run_that_ends_well_has_a_summary(clock):
    of = run_of(Played("one"), Played("two"), inbox=SimpleNamespace(started=NOW - 7))
    summary = of._summarise("SIGINT")
    assert (summary.ended_by, summary.seconds) == ("SIGINT", 7)
    assert len(summary.queries) == 2


# --- the arguments


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"queries": ()}, "at least one query"),
        ({"idle": 0}, "idle must be a positive number of seconds, not 0"),
        ({"idle": -1}, "idle must be a positive number of seconds, not -1"),
        ({"idle": math.nan}, "idle must be a positive number of seconds, not nan"),
        ({"grace": -0.1}, "grace must be a number of seconds from 0, not -0.1"),
        ({"grace": math.nan}, "grace must be a number of seconds from 0, not nan"),
        ({"max_batches": 0}, "max_batches must be a whole number from 1, not 0"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(wrong, says):
    good: dict[str, Any] = {
        "queries": (Played(),),
        "idle": None,
        "max_batches": None,
        "grace": 30,
    }
    assert says in refusal(_check, **good | wrong)


def test_limits_at_their_edges_are_taken():
    _check((Played(),), 0.1, 1, 0)
    _check((Played(),), math.inf, None, math.inf)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"idle": "5"}, "idle"),
        ({"max_batches": 0}, "max_batches must be"),
        ({"run_for": 0}, "run_for must be a positive number of seconds"),
        ({"summary_json": "/not/there/x"}, "cannot write the summary"),
        ({"drain": True}, "no checkpoint that can be written"),
    ],
    ids=["a type", "a limit", "a time", "a file", "a drain"],
)
def test_a_run_that_is_refused_stops_its_queries(wrong, says):
    query = Played()
    assert says in refusal(run, query, **wrong)
    assert query.calls == ["stop"]


def test_what_is_no_query_is_refused():
    assert refusal(run, "totals") == (
        "run(): queries is the string 'totals'; give a query that start(…) returned"
    )


def test_a_run_of_planned_queries_is_their_dry_run():
    query = Played()
    planned: Any = Planned("planned", ())
    with pytest.raises(DryRun, match="query planned"):
        run(query, planned)
    assert query.calls == ["stop"]
    runs._end_dry_run([])


@pytest.mark.parametrize(
    ("drain", "ends", "drained"),
    [
        (True, True, True),
        (False, True, False),
        (True, False, False),
    ],
    ids=["at the end of input", "without drain", "after a stop"],
)
def test_a_drain_follows_the_end_of_input(monkeypatch, tmp_path, drain, ends, drained):
    query = Played("sales")
    query.recentProgress = [query.batch(0)]
    if ends:
        query.end()
    begun: list[object] = []

    def last_batches(summary, make_run, grace):
        begun.extend([summary.ended_by, grace, make_run((query,)).inbox])
        return RunSummary("drained", 1.0, summary.queries)

    monkeypatch.setattr(runs, "_draining", lambda queries: last_batches)
    kept = tmp_path / "kept.jsonl"
    limit = 20 if ends else 0.1
    summary = run(query, drain=drain, run_for=limit, grace=7, summary_json=kept)
    assert (summary.ended_by == "drained") is drained
    assert begun[:2] == (["end of input", 7] if drained else [])
    assert json.loads(kept.read_text())["ended_by"] == summary.ended_by


def test_only_an_error_that_means_the_end_of_the_jvm_becomes_a_failure(monkeypatch):
    error = ConnectionRefusedError(111, "no")
    with pytest.raises(ConnectionRefusedError), runs._end_of_the_jvm_as_failure():
        raise error
    monkeypatch.setattr(shutdown, "jvm_has_ended", lambda err: err is error)
    with (
        pytest.raises(QueryFailed, match="run failed: it has no summary: Spark's JVM"),
        runs._end_of_the_jvm_as_failure(),
    ):
        raise error
    with pytest.raises(LookupError), runs._end_of_the_jvm_as_failure():
        raise LookupError


NO_FACES = dict.fromkeys(("show", "ui", "record", "metrics", "on_verdict"))


def test_without_a_view_only_on_batch_is_called():
    with ExitStack() as stack:
        assert runs._open_views(stack, (), Inbox(), None, NO_FACES) == ([], [])
        seen: list[Any] = []
        [tell], ticks = runs._open_views(stack, (), Inbox(), seen.append, NO_FACES)
        tell("progress", (1, 2))
        assert (seen, ticks) == (["progress"], [])


def test_a_view_is_told_before_on_batch(tmp_path):
    kept = tmp_path / "kept.jsonl"
    query = Played("sales")
    seen: list[Any] = []

    def note(batch):
        seen.append((batch.batchId, kept.read_text().count("sales_clean")))

    with ExitStack() as stack:
        faces = NO_FACES | {"record": kept}
        tells, ticks = runs._open_views(stack, (query,), Inbox(), note, faces)
        for tell in tells:
            tell(query.batch(7), None)
        assert (seen, ticks) == ([(7, 1)], [])


def test_without_a_file_the_monitoring_is_not_asked(monkeypatch):
    monkeypatch.setattr("sparkstream_kit.monitoring.summary_kept", pytest.fail)
    summary = RunSummary("SIGINT", 1.0, ())
    with runs._keeping(None) as keep:
        assert keep(summary) is summary
        assert keep(summary, "an error") is summary


def test_a_summary_is_kept_if_a_file_is_given(tmp_path):
    summary, kept = RunSummary("SIGINT", 1.0, ()), tmp_path / "kept.jsonl"
    with runs._keeping(kept) as keep:
        assert keep(summary) is summary
    assert json.loads(kept.read_text())["ended_by"] == "SIGINT"
