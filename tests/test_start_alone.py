"""`start` step by step, without Spark: what is refused, and what a query is started with."""

# ruff: noqa: SLF001 - the steps of a start are its own
import errno
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.readwriter import DataStreamWriter
from support.checkpoint_files import commit, plan, put
from support.played import Played, Session

from sparkstream_kit import queries, start
from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark import queries as spark_queries
from sparkstream_kit._internal.spark.place import LocalPlace, Place
from sparkstream_kit.checkpoints import guard as guards
from sparkstream_kit.checkpoints import operate
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.guard import Guarded, StartingQuery
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import evolve, shadow
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.queries import (
    _allow,
    _check_continues,
    _check_realtime,
    _check_sink,
    _check_streams,
    _inside,
    _name,
    _refuse_same_name,
    _refuse_within,
    _start,
    _start_facts,
    _starting,
    _StartRequest,
    _trigger,
    _trigger_for,
    _unshared,
    _writer,
    _writes,
)
from sparkstream_kit.sinks.base import BatchSink, Opening, SparkSink, Target


def noting(name):
    """Return a method that notes what it is told."""

    def note(self, *given, **named):
        self.told.append((name, *given, *named.items()))
        return self

    return note


CALLS = ("format", "queryName", "outputMode", "option", "trigger", "foreachBatch")
# A DataStreamWriter that only notes what it is told
Writer: Any = type(
    "Writer",
    (DataStreamWriter,),
    {
        "__init__": lambda self: setattr(self, "told", []),
        **{name: noting(name) for name in (*CALLS, "realtime", "hands_over")},
    },
)


class Frame(DataFrame):
    """A streaming DataFrame that Spark knows nothing of."""

    isStreaming: Any = True  # noqa: N815 - Spark's name
    sparkSession: Any = None  # noqa: N815 - Spark's name
    writeStream: Any = None  # noqa: N815 - Spark's name
    dtypes: Any = (("word", "string"), ("n", "int"))

    def __new__(cls, *_given, **_named):
        return object.__new__(cls)

    def __init__(self, *, streams=True):
        self.isStreaming = streams
        self.sparkSession = Session()
        self.writeStream = Writer()


def spark_sink(**how):
    """Return a sink of Spark's own."""
    facts: dict[str, Any] = {
        "kind": "noop",
        "modes": ("append", "update"),
        "promise": "none",
        "configure": lambda writer: writer.format("noop"),
    }
    return SparkSink(**facts | how)


def batch_sink(**how):
    """Return a sink that gets each batch."""
    facts: dict[str, Any] = {
        "kind": "log",
        "modes": ("append",),
        "promise": "none",
        "open": lambda *_: print,
    }
    return BatchSink(**facts | how)


def request_of(sink=None, location=None, **how):
    """Return what a query starts with."""
    facts: dict[str, Any] = {
        "frame": Frame(),
        "name": "sales",
        "mode": "append",
        "allow_changed": False,
        "moved": {},
    }
    return _StartRequest(StartingQuery(**facts | how), sink or spark_sink(), location)


@pytest.fixture
def settings(monkeypatch):
    """The settings that are in force in blocks; the queries read the folder /data/in."""
    seen: list[Any] = []

    @contextmanager
    def in_force(_query, further=None):
        seen.append(further)
        yield
        seen.append("over")

    monkeypatch.setattr(StartingQuery, "in_force", in_force)
    inputs = [
        SimpleNamespace(kind="file", path="/data/in"),
        SimpleNamespace(kind="kafka", path=None),
    ]
    monkeypatch.setattr(guards, "inputs_of", lambda _: inputs)
    return seen


# --- the trigger


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, {}),
        ({"availableNow": True}, {"availableNow": True}),
        ({"once": True}, {"once": True}),
        ({"processingTime": "5 seconds"}, {"processingTime": "5 seconds"}),
        ({"processingTime": "0 seconds"}, {"processingTime": "0 seconds"}),
        (
            {"processingTime": timedelta(seconds=5)},
            {"processingTime": "5000000 microseconds"},
        ),
        (
            {"processingTime": timedelta(microseconds=1)},
            {"processingTime": "1 microseconds"},
        ),
        ({"processingTime": timedelta(0)}, {"processingTime": "0 microseconds"}),
    ],
)
def test_a_trigger_is_given_to_spark_as_it_takes_it(given, taken):
    assert _trigger(given) == taken


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"availabelNow": True}, "did you mean availableNow?"),
        ({"chekpoint": "x"}, "did you mean checkpoint?"),
        ({"continuous": "1 second"}, "start() takes no trigger continuous"),
        (
            {"availableNow": True, "once": True},
            "start() takes one trigger, not availableNow and once; leave out the others",
        ),
        ({"availableNow": False}, "availableNow is False; give availableNow=True, or"),
        ({"availableNow": 1}, "availableNow is 1; give availableNow=True, or"),
        ({"once": None}, "once is None; give once=True, or leave it out"),
        ({"processingTime": True}, "processingTime is True; give a duration"),
        ({"processingTime": "soon"}, "cannot read processingTime 'soon'"),
        (
            {"processingTime": "-1 second"},
            "start(): processingTime is -1 second; give 0 seconds or more",
        ),
        (
            {"processingTime": timedelta(microseconds=-1)},
            "; give 0 seconds or more",
        ),
    ],
)
def test_a_trigger_that_cannot_be_is_refused_with_the_fix(given, says):
    assert says in refusal(_trigger, given)


# --- what is refused before anything is opened


def test_a_frame_must_stream():
    _check_streams(Frame(), "sales")
    said = refusal(_check_streams, Frame(streams=False), "sales")
    assert said.startswith("query sales: the DataFrame does not stream; read it with")


def test_a_changed_query_goes_on_in_one_way():
    _check_continues(None, allow_changed_query=False)
    _check_continues(None, allow_changed_query=True)
    _check_continues("old", allow_changed_query=False)
    said = refusal(_check_continues, "old", allow_changed_query=True)
    assert "leave one of them out" in said


@pytest.mark.parametrize(
    ("trigger", "has_memory", "is_refused"),
    [
        ({"realTime": "5 minutes"}, True, True),
        ({"realTime": "5 minutes"}, False, False),
        ({"availableNow": True}, True, False),
        ({}, False, False),
    ],
)
def test_real_time_runs_no_function_with_memory(
    monkeypatch, trigger, has_memory, is_refused
):
    monkeypatch.setattr(logical_plan, "has", lambda *_: has_memory)
    if is_refused:
        said = refusal(_check_realtime, Frame(), trigger)
        assert said.endswith("give processingTime='0 seconds'")
    else:
        _check_realtime(Frame(), trigger)


REAL_TIME = {"realTime": "5 minutes"}
IN_REAL_TIME = spark_sink(realtime=lambda frame: frame.writeStream)


@pytest.mark.parametrize(
    ("sink", "mode", "checkpoint", "trigger", "says"),
    [
        (spark_sink(), "append", None, {}, None),
        (spark_sink(), "update", None, {"availableNow": True}, None),
        (
            spark_sink(),
            "complete",
            None,
            {},
            (
                "sink noop supports output mode append and update, not complete; choose"
                " another output mode or another sink"
            ),
        ),
        (
            spark_sink(),
            "update",
            None,
            REAL_TIME,
            "trigger realTime cannot write to noop: it has no batches",
        ),
        (
            IN_REAL_TIME,
            "append",
            None,
            REAL_TIME,
            "trigger realTime writes in mode update, not append; give mode='update'",
        ),
        (IN_REAL_TIME, "update", None, REAL_TIME, None),
        (IN_REAL_TIME, "append", None, {}, None),
        (
            spark_sink(needs_checkpoint=True),
            "append",
            None,
            {},
            "sink noop needs a checkpoint: without one a restart would write",
        ),
        (spark_sink(needs_checkpoint=True), "append", "ckpt", {}, None),
        (spark_sink(), "append", "ckpt", {}, None),
    ],
    ids=[
        "its mode",
        "its other mode",
        "not its mode",
        "not in real time",
        "not in this mode in real time",
        "in real time",
        "a sink for real time in batches",
        "without a checkpoint",
        "with a checkpoint",
        "with one that is not needed",
    ],
)
def test_a_sink_supports_the_mode_the_trigger_and_the_checkpoint(
    sink, mode, checkpoint, trigger, says
):
    if says is None:
        _check_sink(sink, mode, checkpoint, trigger)
    else:
        assert refusal(_check_sink, sink, mode, checkpoint, trigger).startswith(says)


@pytest.mark.parametrize(
    ("required", "given", "name"),
    [
        (None, "sales", "sales"),
        ("table", None, "table"),
        ("table", "table", "table"),
    ],
)
def test_a_query_has_the_name_of_its_sink_or_the_given_one(required, given, name):
    assert _name(spark_sink(query_name=required), given) == name


def test_a_query_needs_one_name():
    sink = spark_sink(query_name="table")
    said = refusal(_name, sink, "sales")
    assert said.startswith("sink noop names its query table, because Spark names")
    assert "leave name=sales out" in said
    for nameless in (None, ""):
        assert refusal(_name, spark_sink(), nameless).startswith("a query needs a name")


def test_a_name_is_used_once_in_a_session():
    query = request_of(name="it's on").query
    _refuse_same_name(query)
    query.spark.streams.active = [Played("other"), Played("third")]
    _refuse_same_name(query)
    query.spark.streams.active.append(Played("it's on"))
    said = refusal(_refuse_same_name, query)
    assert said.startswith(
        "a query named it's on already runs; end it first: [q.stop()"
    )
    assert said.endswith('if q.name == "it\'s on"]')


# --- folders of input and output


@pytest.mark.parametrize(
    ("path", "folders", "verb"),
    [
        ("/data/in", ["/data/in"], "is"),
        ("/data/in/", ["/data/in"], "is"),
        ("/data/in", ["/data/in/"], "is"),
        ("/data/in/out", ["/data/in"], "lies in"),
        ("/data/in/a/b", ["/data/other", "/data/in"], "lies in"),
        ("/data/inner", ["/data/in"], None),
        ("/data", ["/data/in"], None),
        ("/data/in/_out", ["/data/in"], None),
        ("/data/in/.out/a", ["/data/in"], None),
        ("/data/in/a/_out", ["/data/in"], None),
        ("/data/in/day=1", ["/data/in"], "lies in"),
        ("/data/in/2/out", ["/data/in/*"], "lies in"),
        ("/data/in/2", ["/data/in/*"], "lies in"),
        ("/data/in/_2/out", ["/data/in/_*"], "lies in"),
        ("/data/in/2/_out", ["/data/in/*"], None),
        ("/data/in", ["/data/in/*"], None),
        ("/data/out", ["/data/in"], None),
        ("s3a://b/in/out", ["s3a://b/in"], "lies in"),
        ("s3a://b/out", ["s3a://b/in"], None),
        ("/data/in/out", [], None),
    ],
)
def test_a_path_within_a_folder_that_is_read_is_refused(path, folders, verb):
    refuse = partial(_refuse_within, "the query writes to", [path], "input folder")
    if verb is None:
        refuse(folders)
        return
    assert refusal(refuse, folders) == (
        f"the query writes to {path}, which {verb} the input folder {folders[-1]}; put it"
        " elsewhere"
    )


def test_any_of_the_paths_may_be_the_one_within(tmp_path):
    (tmp_path / "in" / "2").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    pattern = f"{tmp_path}/in/*"
    for path in (f"{tmp_path}/in/2", f"{tmp_path}/link/2"):
        said = refusal(
            _refuse_within, "q writes to", ["/data/x", path], "input folder", [pattern]
        )
        assert said.startswith(f"q writes to {path}, which is the input folder")


def test_folders_are_not_looked_at_for_a_sink_without_a_path(monkeypatch):
    monkeypatch.setattr(file_system, "matching", lambda _: pytest.fail("looked"))
    _refuse_within("q writes to", [], "input folder", ["/data/in"])


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/data/in", ""),
        ("/data/in/a.csv", "a.csv"),
        ("/data/in/a/b", "a/b"),
        ("/data/inner", None),
        ("/data", None),
    ],
)
def test_a_path_in_a_folder(path, inside):
    assert _inside(path, "/data/in") == inside


FOLDER = Target("folder", "/data/out", "/data/out")
VIEW = Target("view", "Totals")


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (("view", "Totals"), ("view", "totals", "s1")),
        (("memory", "Totals"), ("view", "totals", "s1")),
        (("table", "Totals"), ("table", "Totals")),
        (("folder", "/a"), ("folder", "/a")),
    ],
)
def test_views_are_those_of_a_session_and_other_targets_are_shared(target, key):
    assert _unshared("s1", target) == key


def allow(sink, session="1", inputs=(), targets=None):
    _allow("new", session, list(inputs), {} if targets is None else targets, sink)


@pytest.fixture
def runs(monkeypatch):
    """A query of session 7 that runs, and writes to a folder and a view."""
    session = Session()
    monkeypatch.setattr(
        queries, "settings_id", lambda spark: "7" if spark is session else "other"
    )
    writes = {("folder", "/data/out"): "x", ("view", "totals"): "x"}
    query = Played("old", session=session, writes=writes)
    monkeypatch.setattr(
        queries, "running", lambda: [(query, spark_queries.start_facts(query))]
    )
    yield query
    query.end()


@pytest.mark.parametrize(
    ("target", "session", "shared"),
    [
        (FOLDER, "7", "folder /data/out"),
        (FOLDER, "1", "folder /data/out"),
        (VIEW, "7", "view Totals"),
        (VIEW, "1", None),
        (Target("folder", "/data/out2", "/data/out2"), "7", None),
        (Target("table", "totals"), "7", None),
    ],
)
def test_a_target_of_a_query_that_runs_is_refused(runs, target, session, shared):
    sink = spark_sink(writes_to=(Target("table", "t"), target))
    if shared is None:
        allow(sink, session)
        return
    assert refusal(allow, sink, session) == (
        f"query new: sink noop writes to {shared}, as query old does, which runs; end"
        " that query first, or give each query a target of its own"
    )


def test_a_query_is_not_refused_its_own_targets(runs):
    sink = spark_sink(writes_to=(FOLDER,))
    allow(sink, "7", targets=spark_queries.start_facts(runs).writes)


def test_of_a_query_that_start_has_not_started_no_targets_are_known(monkeypatch):
    facts = spark_queries.StartFacts(writes={("folder", "/data/out"): "x"})
    monkeypatch.setattr(queries, "running", lambda: [(Played("plain"), facts)])
    allow(spark_sink(writes_to=(FOLDER,)))


def test_tables_may_be_shared_so_that_no_query_is_asked(monkeypatch):
    monkeypatch.setattr(queries, "running", lambda: pytest.fail("asked"))
    allow(spark_sink(writes_to=(Target("table", "t"),)))
    allow(spark_sink())


def test_a_sink_does_not_write_into_its_own_input():
    sink = spark_sink(writes_to=(VIEW, Target("folder", "/data/in/x", "/data/in/x")))
    assert refusal(allow, sink, inputs=["/data/in"]) == (
        "query new: sink noop writes to /data/in/x, which lies in the input folder"
        " /data/in; put it elsewhere"
    )


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        ("/data/in/ckpt", "lies in the input folder /data/in"),
        ("/data/o[ut]/ckpt", "lies in the output folder"),
        ("/data/o[ut]/_ckpt", None),
        ("/data/ckpt", None),
        (None, None),
    ],
)
def test_a_checkpoint_lies_outside_of_input_and_output(settings, checkpoint, says):
    sink = spark_sink(writes_to=(Target("folder", "/data/o[ut]", "/data/o[ut]"),))
    request = request_of(sink, checkpoint and Place(checkpoint))
    if says is None:
        opening = request.opening()
        assert opening.targets == {
            ("folder", "/data/o[ut]"): "another sink of the query"
        }
        assert opening.makes
        assert not request.opening(makes=False).makes
        return
    said = refusal(request.opening)
    assert said.startswith(f"query sales has checkpoint {checkpoint}, which {says}")


def test_an_opening_refuses_the_name_and_the_targets_of_a_query_that_runs(
    settings, runs
):
    request = request_of()
    with pytest.raises(InvalidInputError, match="writes to folder /data/out, as query"):
        request.opening().allows(spark_sink(writes_to=(FOLDER,)))
    with pytest.raises(InvalidInputError, match="lies in the input folder /data/in"):
        inside = Target("folder", "/data/in/x", "/data/in/x")
        request.opening().allows(spark_sink(writes_to=(inside,)))
    request.query.spark.streams.active = [Played("sales")]
    assert "a query named sales already runs" in refusal(request.opening)


# --- Spark's refusals


class OfJavaError(Py4JJavaError):  # type: ignore[misc]
    """An error of Java, as py4j raises it, but without a JVM to ask for its text."""

    def __init__(self):
        Exception.__init__(self, "An error occurred")
        java = SimpleNamespace(
            getMessage=lambda: "No space left on device",
            getSimpleName=lambda: "IOException",
        )
        java.getClass = java.getCause = lambda: java
        self.java_exception: Any = java

    def __str__(self):
        return "An error occurred"


def said_of(error):
    with pytest.raises(InvalidInputError) as caught, _starting(request_of().query):
        raise error
    return str(caught.value), caught.value.__cause__


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ValueError("Failed to find the data source: parqet. Make sure"),
            "Spark has no data source parqet; did you mean parquet?",
        ),
        (
            ValueError(
                'Cannot resolve "window(n, 1)" …, however "n" has the type "INT"'
            ),
            "event-time column n is int, not a timestamp",
        ),
        (AnalysisException("no such column"), "query sales: no such column"),
        (
            OSError(errno.EACCES, "Permission denied", "/data/out"),
            (
                "query sales: /data/out cannot be written or read: Permission denied;"
                " make room, or correct its rights"
            ),
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            (
                "query sales: a file cannot be written or read: No space left on device;"
                " make room, or correct its rights"
            ),
        ),
    ],
    ids=[
        "an unknown source",
        "a wrong event time",
        "a refusal",
        "a file without rights",
        "a full disk",
    ],
)
def test_what_spark_refuses_is_one_line(error, says):
    said, cause = said_of(error)
    assert said.startswith(says)
    assert cause is (error if "query sales" in says else None)


def test_a_folder_of_a_lost_table_is_a_refusal_of_spark(monkeypatch):
    class Known(PySparkException):
        def getCondition(self):
            return "LOCATION_ALREADY_EXISTS"

    assert said_of(Known("it is there"))[0] == "query sales: it is there"


def test_an_error_of_java_is_one_line():
    said, _ = said_of(OfJavaError())
    assert said.startswith("query sales: IOException: No space left on device; make")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        OSError(errno.ENOENT, "No such file", "/data/out"),
        PySparkException("of Spark itself"),
        KeyboardInterrupt(),
    ],
)
def test_what_is_no_refusal_is_raised_as_it_is(error):
    with pytest.raises(type(error)) as caught, _starting(request_of().query):
        raise error
    assert caught.value is error


# --- what Spark gets


def test_a_writer_has_all_that_a_query_starts_with():
    request = request_of(spark_sink(), Place("s3a://b/ckpt"), mode="update")
    writer: Any = _writer(request, {"processingTime": "5 seconds"}, None)
    assert writer.told == [
        ("format", "noop"),
        ("queryName", "sales"),
        ("outputMode", "update"),
        ("option", "checkpointLocation", "s3a://b/ckpt"),
        ("trigger", ("processingTime", "5 seconds")),
    ]


def test_without_checkpoint_and_trigger_spark_chooses():
    writer: Any = _writer(request_of(), {}, None)
    assert [call for call, *_ in writer.told] == ["format", "queryName", "outputMode"]


@pytest.mark.parametrize(
    ("trigger", "sink", "write", "told"),
    [
        ({}, spark_sink(), print, "hands over"),
        ({}, IN_REAL_TIME, print, "hands over"),
        ({}, IN_REAL_TIME, None, "format"),
        ({"realTime": "5 minutes"}, IN_REAL_TIME, None, "realtime"),
        ({"realTime": "5 minutes"}, spark_sink(), None, "format"),
    ],
)
def test_how_a_writer_is_made(monkeypatch, trigger, sink, write, told):
    def hand_over(writer, given):
        assert given is write
        return writer.hands_over()

    monkeypatch.setattr(queries, "hand_over", hand_over)
    if sink.realtime is not None:
        sink = replace(sink, realtime=lambda frame: frame.writeStream.realtime())
    writer: Any = _writer(request_of(sink), trigger, write)
    assert writer.told[0][0].replace("_", " ") == told


def test_a_checkpoint_notes_sinks_targets_and_columns():
    table = batch_sink(kind="table", writes_to=(Target("table", "t"),))
    both = batch_sink(parts=(table, table), writes_to=(Target("table", "t"), FOLDER))
    assert _writes(request_of(both)) == {
        "sinks": ["table gets the rows a second time"],
        "targets": ["table t", "folder /data/out"],
        "columns": [["word", "string"], ["n", "int"]],
    }


@pytest.mark.parametrize(
    ("trigger", "interval", "ends", "says_end"),
    [
        ({}, None, False, False),
        ({"processingTime": "0 seconds"}, None, False, False),
        ({"processingTime": "5 seconds"}, 5.0, False, False),
        ({"processingTime": "250 milliseconds"}, 0.25, False, False),
        ({"availableNow": True}, None, True, True),
        ({"once": True}, None, True, False),
    ],
)
def test_what_run_is_told_about_a_trigger(settings, trigger, interval, ends, says_end):
    request = request_of(
        spark_sink(writes_to=(FOLDER,)), Place("s3a://b/ckpt"), mode="update"
    )
    opening = Opening(targets={("folder", "/data/out"): "x"})
    facts = _start_facts(request, trigger, opening, prints=True)
    assert (facts.interval, facts.ends, facts.says_end) == (interval, ends, says_end)
    assert facts.frame is request.query.frame
    assert (facts.mode, facts.location) == ("update", request.location)
    assert (facts.prints, facts.targets) == (True, (FOLDER,))
    assert facts.writes is opening.targets
    assert facts.drain == request.drain
    assert not _start_facts(request, trigger, opening, prints=False).prints


@pytest.mark.parametrize(
    ("watermark", "drain", "given", "taken", "warns"),
    [
        (5, False, {}, {}, False),
        (5, False, {"availableNow": True}, {"availableNow": True}, False),
        (END, False, {"availableNow": True}, {"once": True}, True),
        (END, False, {"once": True}, {"once": True}, False),
    ],
    ids=[
        "as given",
        "another one",
        "a drain was cut off",
        "and one batch is asked for",
    ],
)
def test_the_trigger_of_a_drain(
    tmp_path, caplog, watermark, drain, given, taken, warns
):
    plan(tmp_path, 0, "-", watermark=watermark)
    logs = Logs(tmp_path)
    assert _trigger_for(request_of(), logs, given, drain=drain) == taken
    warning = "query sales: its drain was interrupted; finishing it now, then stopping"
    assert caplog.messages == ([warning] if warns else [])
    assert logs.refresh().planned == 0


def test_a_drain_plans_its_batch_and_runs_that_alone(tmp_path):
    plan(tmp_path, 0, "-", watermark=5)
    commit(tmp_path, 0)
    logs = Logs(tmp_path)
    request = request_of(location=LocalPlace(str(tmp_path), tmp_path))
    assert _trigger_for(request, logs, {"availableNow": True}, drain=True) == {
        "once": True
    }
    assert logs.plan(1).watermark == END


# --- the start of a query


@pytest.fixture
def begun(monkeypatch, settings):
    """Start queries that a test plays; what was done, in order."""
    done = SimpleNamespace(
        order=[], query=Played(), guarded=Guarded(None, None, lambda: None), look=None
    )

    @contextmanager
    def guard(query, location, of_systems, *, writes):
        done.order.append("guarded")
        done.writes = writes
        assert of_systems(query) == []
        yield done.guarded
        done.order.append("unguarded")

    def open_sink(sink, frame, location, opening):
        done.order.append("opened")
        done.opening = opening
        opening.at_end.append(lambda: done.order.append("end of opening"))
        return print if isinstance(sink, BatchSink) else None

    def begin_query(_sink, writer):
        done.order.append("begun")
        done.told = writer.told
        return done.query

    def claim(*_):
        done.order.append("claimed")
        return done.look

    monkeypatch.setattr(queries, "guard", guard)
    monkeypatch.setattr(queries, "open_sink", open_sink)
    monkeypatch.setattr(queries, "begin_query", begin_query)
    monkeypatch.setattr(queries, "claim", claim)
    monkeypatch.setattr(
        queries, "hand_over", lambda writer, _: writer.foreachBatch("write")
    )
    monkeypatch.setattr(
        "sparkstream_kit.connectors.progress_listeners", lambda _: (print,)
    )
    monkeypatch.setattr("sparkstream_kit.connectors.questions", lambda _: [])
    yield done
    done.query.end()


def test_a_start_in_its_order(begun, settings):
    begun.guarded = Guarded(None, None, lambda: begun.order.append("noted"))
    request = request_of(spark_sink(writes_to=(FOLDER,)))
    assert _start(request, {}) is begun.query
    assert begun.order == [
        "guarded",
        "opened",
        "end of opening",
        "begun",
        "noted",
        "claimed",
        "unguarded",
    ]
    assert begun.writes["targets"] == ["folder /data/out"]
    assert settings == [{}, "over"]
    facts = spark_queries.start_facts(begun.query)
    assert facts.frame is request.query.frame
    assert facts.target is None
    assert not facts.prints


def test_a_sink_of_batches_is_handed_them_and_prints(begun):
    _start(request_of(batch_sink()), {})
    assert begun.told[0] == ("foreachBatch", "write")
    assert spark_queries.start_facts(begun.query).prints


def test_in_real_time_no_sink_is_opened(begun):
    sink = replace(IN_REAL_TIME, realtime=lambda frame: frame.writeStream.realtime())
    _start(request_of(sink, mode="update"), {"realTime": "5 minutes"})
    assert "opened" not in begun.order
    assert begun.told[0] == ("realtime",)


def test_with_available_now_the_query_says_its_end(begun, settings):
    _start(request_of(), {"availableNow": True})
    assert settings == [
        {"spark.sql.streaming.noDataProgressEventInterval": "0"},
        "over",
    ]


def test_what_looks_after_the_rows_is_noted(begun):
    begun.look = lambda last: f"lost after {last}"
    _start(request_of(), {})
    facts = spark_queries.start_facts(begun.query)
    assert facts.lost_rows(7, at_end=True) == "lost after 7"


def test_a_checkpoint_tells_its_sinks_what_it_has_noted(begun, tmp_path):
    put(
        tmp_path / "sparkstream-kit/query.json",
        '{"mode": "append", "fingerprint": "x", "targets": ["table t"], "begins": {"t": 3}}',
    )
    plan(tmp_path, 0, "-", watermark=END)
    lock = SimpleNamespace(until_end_of=begun.order.append)
    begun.guarded = Guarded(lock, Logs(tmp_path), lambda: None)  # type: ignore[arg-type]
    _start(request_of(), {"availableNow": True})
    ledgers = begun.opening.ledgers
    assert (ledgers.former, ledgers.begins) == (("table t",), {"t": 3})
    assert begun.told[-1] == ("trigger", ("once", True)), (
        "of the drain that was cut off"
    )
    assert begun.order[-1] is begun.query, "it keeps the lock"


def test_a_target_that_another_query_took_meanwhile_is_refused(begun, runs):
    request = request_of(spark_sink(writes_to=(FOLDER,)))
    assert "as query old does" in refusal(_start, request, {})
    assert begun.order == ["guarded"]


def test_a_query_whose_start_fails_is_stopped(begun, monkeypatch):
    request = request_of()
    left, other = Played("sales"), Played("other")

    def begins_and_fails(*_):  # Spark has begun it, and `start` knows nothing of it
        request.query.spark.streams.active = [left, other]
        raise ValueError("no such view")

    monkeypatch.setattr(queries, "begin_query", begins_and_fails)
    with pytest.raises(ValueError, match="no such view"):
        _start(request, {})
    assert (left.calls, other.calls) == (["stop"], [])


# --- the whole call


@pytest.fixture
def whole(monkeypatch, settings):
    """Note what `start` comes to, and start nothing."""
    seen = SimpleNamespace(calls=[])

    def note(name):
        def call(*given, **named):
            seen.calls.append((name, given, named))
            return name

        return call

    for name in ("_start", "_planned"):
        monkeypatch.setattr(queries, name, note(name))
    monkeypatch.setattr(queries, "locate", lambda _, path: LocalPlace(str(path), path))
    monkeypatch.setattr(operate, "compared", note("compared"))
    monkeypatch.setattr(evolve, "evolve", note("evolve"))
    return seen


def begin(*given, **named) -> Any:
    """Start a query that a test plays."""
    return start(*given, **named)


def test_a_start_has_all_that_was_given(whole, settings, tmp_path):
    frame, sink = Frame(), spark_sink(writes_to=(FOLDER,))
    moved: Any = {"/a": "/b"}
    how: dict[str, Any] = {
        "mode": "update",
        "allow_changed_query": True,
        "moved": moved,
    }
    began = begin(frame, sink, name="sales", checkpoint=tmp_path, once=True, **how)
    assert began == "_start"
    [(_, (request, trigger), named)] = whole.calls
    assert (trigger, named) == ({"once": True}, {})
    assert request.query == StartingQuery(frame, "sales", "update", True, moved)
    assert request.sink is sink
    assert request.location.folder == tmp_path
    assert settings == [None, "over"], "the targets were looked at before"


def test_a_start_with_the_least(whole):
    assert begin(Frame(), spark_sink(query_name="table")) == "_start"
    [(_, (request, trigger), _)] = whole.calls
    assert (request.query.name, request.query.mode) == ("table", "append")
    assert (request.location, trigger) == (None, {})
    assert (request.query.allow_changed, request.query.moved) == (False, {})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"frame": None}, "frame is None; give a DataFrame"),
        ({"frame": Frame(streams=False)}, "query sales: the DataFrame does not stream"),
        ({"mode": "complete"}, "supports output mode append and update, not complete"),
        ({"once": False}, "once is False; give once=True"),
        ({"name": None}, "a query needs a name"),
        (
            {"continues": "old", "allow_changed_query": True},
            "leave one of them out",
        ),
        (
            {
                "frame": Frame(streams=False),
                "name": None,
            },
            "query noop: the DataFrame does not stream",
        ),
        (
            {
                "sink": spark_sink(
                    writes_to=(Target("folder", "/data/in/x", "/data/in/x"),)
                )
            },
            "lies in the input folder",
        ),
    ],
)
def test_a_start_refuses_before_it_begins(whole, given, says):
    how: dict[str, Any] = {"frame": Frame(), "sink": spark_sink(), "name": "sales"}
    assert says in refusal(begin, **how | given)
    assert whole.calls == []


def test_a_start_in_real_time_refuses_a_function_with_memory(whole, monkeypatch):
    monkeypatch.setattr(logical_plan, "has", lambda *_: True)
    said = refusal(
        begin, Frame(), IN_REAL_TIME, name="q", mode="update", realTime="5 minutes"
    )
    assert "runs no function with memory" in said


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_continuation_is_built_before_the_start(whole, tmp_path, dry_run):
    old, new = tmp_path / "old", tmp_path / "new"
    how: dict[str, Any] = {"checkpoint": new, "continues": old, "dry_run": dry_run}
    begin(Frame(), spark_sink(), name="sales", **how)
    [(first, given, named), (second, to_plan, _)] = whole.calls
    assert (first, second) == ("evolve", "_planned" if dry_run else "_start")
    query, _sink, location, before, opening = given
    assert (query.name, location.folder, before.folder) == ("sales", new, old)
    assert isinstance(opening(), Opening)
    assert named == {"dry_run": dry_run}
    if dry_run:
        assert to_plan[2] == "evolve", "what it carries over is told"


def test_a_dry_run_is_only_planned(whole, tmp_path):
    began = begin(Frame(), spark_sink(), name="sales", once=True, dry_run=True)
    assert began == "_planned"
    [(_, (request, trigger, carried), _)] = whole.calls
    assert (request.query.name, trigger, carried) == ("sales", {"once": True}, ())


@pytest.mark.parametrize(
    ("given", "name", "checkpoint"),
    [
        ({"name": "sales", "checkpoint": "new"}, "sales", "new"),
        ({"name": "sales", "checkpoint": "new", "continues": "old"}, "sales", "old"),
        ({"checkpoint": "new"}, "query", "new"),
    ],
)
def test_a_comparison_needs_no_name_and_looks_at_the_earlier_checkpoint(
    whole, given, name, checkpoint
):
    assert begin(Frame(), spark_sink(), dry_run="compare", **given) == "compared"
    [(_, (query, _sink, how, place), _)] = whole.calls
    assert (query.name, how, place) == (name, "compare", checkpoint)


def test_what_spark_refuses_of_a_comparison_is_one_line(whole, monkeypatch):
    def fail(*_):
        raise AnalysisException("no such column")

    monkeypatch.setattr(operate, "compared", fail)
    said = refusal(begin, Frame(), spark_sink(), name="sales", dry_run="compare")
    assert said == "query sales: no such column"


def test_a_plan_opens_nothing(settings, monkeypatch):
    monkeypatch.setattr(shadow, "planned", lambda *given: given)
    request = request_of(location=Place("s3a://b/ckpt"))
    plan: Any = queries._planned(request, {"once": True}, [("a", "b")])
    query, sink, location, trigger, carried, opening, _ = plan
    assert (query, sink, location) == (request.query, request.sink, request.location)
    assert (trigger, carried, opening.makes) == ({"once": True}, [("a", "b")], False)


@pytest.mark.parametrize("has_windows", [True, False])
def test_a_drain_starts_the_query_once_more_as_it_was(monkeypatch, has_windows):
    seen: list[Any] = []

    def start_again(request, trigger, *, drain):
        seen.extend([request, trigger, drain])
        return "query"

    monkeypatch.setattr(operate, "has_windows", lambda *_: has_windows)
    monkeypatch.setattr(queries, "_start", start_again)
    request = request_of(allow_changed=True, moved={"/a": "/b"})
    if not has_windows:
        assert request.drain() is None
        assert seen == []
        return
    assert request.drain() == "query"
    again, trigger, drain = seen
    assert (trigger, drain) == ({"once": True}, True)
    # What was allowed or moved was so at the first start
    assert (again.query.allow_changed, again.query.moved) == (False, {})
    assert again.query.name == "sales"
