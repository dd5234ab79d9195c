"""Questions about a query that runs, and what `start` knows of it; and about a StreamingContext."""

from __future__ import annotations

import ast
import json
import re
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import listener as events
from pyspark.sql.streaming.listener import StreamingQueryListener, StreamingQueryProgress
from pyspark.sql.streaming.query import StreamingQuery, StreamingQueryManager

from sparkstream_kit._spark import batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql.streaming.listener import SourceProgress, StateOperatorProgress
    from pyspark.streaming import StreamingContext

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit._waiting import Inbox

    Drain = Callable[[], StreamingQuery | None]


class ProgressTo(StreamingQueryListener):
    """Posts the progress of the run's queries; what a listener raises, Spark would swallow."""

    def __init__(self, inbox: Inbox, run_ids: set[str]) -> None:
        self._inbox = inbox
        self._run_ids = run_ids

    def onQueryStarted(self, event: events.QueryStartedEvent) -> None:
        """Do nothing; Spark asks for it."""

    def onQueryProgress(self, event: events.QueryProgressEvent) -> None:
        """Post a batch of the run."""
        if str(event.progress.runId) in self._run_ids:
            self._inbox.post("progress", event.progress)

    def onQueryIdle(self, event: events.QueryIdleEvent) -> None:
        """Do nothing; Spark asks for it."""

    def onQueryTerminated(self, event: events.QueryTerminatedEvent) -> None:
        """Do nothing; Spark asks for it."""

    @property
    def _jlistener(self) -> Any:
        """Return this listener as the JVM has it; Connect never asks."""
        if not hasattr(self, "_jlistenerobj"):
            wrapper = SparkContext._jvm.PythonStreamingQueryListenerWrapper  # type: ignore[union-attr]
            self._jlistenerobj = wrapper(_ByJson(self))
        return self._jlistenerobj


class _ByJson(events.JStreamingQueryListener):
    """Takes a progress from the JVM as one text; PySpark asks for each value of it, some hundred calls."""

    def onQueryProgress(self, jevent: Any) -> None:
        """Pass the progress on, as `query.lastProgress` makes it."""
        text = jevent.progress().json()
        self.pylistener.onQueryProgress(
            events.QueryProgressEvent(StreamingQueryProgress.fromJson(json.loads(text)))
        )


def manager(query: StreamingQuery) -> StreamingQueryManager | None:
    """Return the manager that tells listeners of a query: of its own session, whichever is active."""
    if hasattr(query, "_jsq"):
        return StreamingQueryManager(query._jsq.sparkSession().streams())
    spark = session(query)
    return None if spark is None else spark.streams


def listen(manager: StreamingQueryManager, listener: StreamingQueryListener) -> None:
    """Have Spark tell a listener what its queries do."""
    with _listening:
        manager.addListener(listener)


def stop_listening(manager: StreamingQueryManager, listener: StreamingQueryListener) -> None:
    """Have Spark tell a listener no more; what has happened until now has been told.

    On Spark Connect PySpark's own way waits for the thread that tells, and holds the lock that this thread
    needs for an event that comes just then: both would wait for ever.
    """
    bus: Any = getattr(manager, "_sqlb", None)
    with _listening:
        if bus is None:
            manager.removeListener(listener)
            return
        with bus._lock:
            teller = bus._execution_thread
            if bus._listener_bus != [listener] or teller is None:
                bus._listener_bus[:] = [each for each in bus._listener_bus if each is not listener]
                return
        with suppress(Exception):  # the server has gone, and with it the stream of events
            _end_telling(bus)
        teller.join()
        with bus._lock:
            bus._listener_bus.clear()
            bus._execution_thread = None


def _end_telling(bus: Any) -> None:
    """Ask the server to end the stream of events."""
    from pyspark.sql.connect.proto import Command

    command = Command()
    command.streaming_query_listener_bus_command.remove_listener_bus_listener = True
    bus._sqm._session.client.execute_command(command)


def session(query: StreamingQuery) -> SparkSession | None:
    """Return the session to ask about a query: its own, if `start` has started it."""
    frame = started(query).frame
    return SparkSession.getActiveSession() if frame is None else frame.sparkSession


@dataclass(frozen=True)
class Started:
    """What `start` knows of a query and the query does not tell; all empty if `start` has not started it.

    Attributes:
        frame: what it computes.
        mode: its output mode.
        location: its checkpoint.
        logs: of the checkpoint, where that is a folder of this machine (a `checkpoints.logs.Logs`).
        drain: starts it once more, for its last batch.
        prints: whether it hands its batches to a function, which may print.
        interval: seconds from one batch to the next that its trigger asks for, if it does.
        targets: what its sink writes to, such as "view totals", as in `Sink.writes_to`.
        endless: whether it ends only if somebody stops it.
        ends: whether its trigger ends it, as `availableNow` does.
    """

    frame: DataFrame | None = None
    mode: str | None = None
    location: Place | None = None
    drain: Drain | None = None
    prints: bool = False
    interval: float | None = None
    targets: tuple[str, ...] = ()
    endless: bool = False
    ends: bool = False
    logs: Any = None


_WAIT_AGAIN = 1.0  # seconds after a wait that has failed
_listening = threading.Lock()  # one thread at a time changes who listens
_TABLES = ("memory", "view")  # of `sinks.memory` and `sinks.latest`
_BEHIND = "avgOffsetsBehindLatest"  # what Spark's Kafka source reports
_FILES = ("filesWaiting", "filesRead")  # what the kit adds for a source of files, of which Spark says nothing
_started: dict[str, Started] = {}  # by run, until `forget`, or until nobody has the query any more
_running: dict[str, StreamingQuery] = {}  # by run; whoever asks Spark for its queries may ask of these


def note(query: StreamingQuery, known: Started) -> None:
    """Keep what `start` knows of a query."""
    for run_id in [run_id for run_id, other in list(_running.items()) if not is_active(other)]:
        _running.pop(run_id, None)  # another thread may forget one meanwhile
    run_id = str(query.runId)
    _started[run_id], _running[run_id] = known, query
    weakref.finalize(query, _started.pop, run_id, None).atexit = False


def stop_unknown(spark: SparkSession, name: str) -> None:
    """Stop a query that Spark runs although its start has failed, as by a view's name that it cannot read."""
    with suppress(Exception):  # its JVM or its session has gone, which the error of the start says
        for query in spark.streams.active:
            if query.name == name and str(query.runId) not in _running:
                query.stop()


def is_active(query: StreamingQuery) -> bool:
    """Say whether a query runs."""
    with suppress(Exception):  # its JVM or its session has gone
        return query.isActive
    return False


def await_end(query: StreamingQuery) -> None:
    """Wait until a query runs no more; its error is asked of the query itself.

    On Spark Connect the call that waits can fail although the query runs on.
    """
    while True:
        with suppress(Exception):
            query.awaitTermination()
        if not is_active(query):
            return
        time.sleep(_WAIT_AGAIN)


def forget(query: StreamingQuery) -> None:
    """Drop what was kept: the run is over."""
    for kept in (_started, _running):
        kept.pop(str(query.runId), None)


def started(query: StreamingQuery) -> Started:
    """Return what `start` knows of a query."""
    return _started.get(str(query.runId), Started())


def table(query: StreamingQuery) -> str | None:
    """Return the name by which the session has the rows of a query; None if it has them not."""
    targets = (each.partition(" ") for each in started(query).targets)
    return next((name for kind, _, name in targets if kind in _TABLES), None)


def bring_printed(query: StreamingQuery) -> None:
    """Print here what the query's functions have printed at the server."""
    known = started(query)
    if known.frame is not None and known.prints:
        batch.bring_printed(known.frame.sparkSession, str(query.name))


def checkpoint(query: StreamingQuery) -> str | None:
    """Return where a query's checkpoint is; on Connect only one that is on this machine, too."""
    if hasattr(query, "_jsq"):
        return str(query._jsq.streamingQuery().resolvedCheckpointRoot())
    location = started(query).location
    return location.text if location is not None and location.folder is not None else None


def last_batch(query: StreamingQuery) -> int | None:
    """Return the id of the last batch that Spark has committed in this run of a query."""
    progress = query.lastProgress
    return None if progress is None else progress.batchId


def looks_for_first_rows(query: StreamingQuery) -> bool:
    """Say whether a query has not yet come to know if there is input, as in a large folder."""
    status = query.status
    starting = status["isTriggerActive"] or status["message"].startswith("Initializing")
    return bool(starting and query.isActive and query.lastProgress is None)


def in_batch(query: StreamingQuery) -> bool:
    """Say whether a batch is in flight."""
    status = query.status
    return query.isActive and status["isTriggerActive"] and status["isDataAvailable"]


def finish_input(query: StreamingQuery) -> None:
    """End a query whose input has ended, once all that had arrived is through."""
    # A failure on the way is the query's own, and `run` asks the query for it.
    with suppress(Exception):
        query.processAllAvailable()
        query.stop()


def records_behind(source: SourceProgress) -> int | None:
    """Return how many records a source was behind, which Kafka alone says: the average of its partitions."""
    if _BEHIND not in (source.metrics or {}):
        return None
    ends = ast.literal_eval(source.endOffset)  # before Spark 4.2 a text of Python's, and not of JSON
    return round(float(source.metrics[_BEHIND]) * sum(map(len, ends.values())))


def with_files(
    progress: StreamingQueryProgress, counted: Mapping[int, tuple[int, int]]
) -> StreamingQueryProgress:
    """Return a progress with how many files wait and how many were read, by the number of the source."""
    told = json.loads(progress.json)
    for at, numbers in counted.items():
        source = told["sources"][at]
        source["metrics"] = (source.get("metrics") or {}) | dict(zip(_FILES, map(str, numbers), strict=True))
    return StreamingQueryProgress.fromJson(told)


def files(source: SourceProgress) -> tuple[int, int] | None:
    """Return how many files of a source wait, and how many were read; None where that was not counted."""
    metrics = source.metrics or {}
    return None if _FILES[0] not in metrics else (int(metrics[_FILES[0]]), int(metrics[_FILES[1]]))


def entry_at(offset: str | None) -> int:
    """Return the entry of its log at which a source of files is by an offset; -1 before the first."""
    found = re.search(
        r"logOffset\D*(\d+)", offset or ""
    )  # before Spark 4.2 a text of Python's, and not of JSON
    return int(found[1]) if found else -1


def seconds_behind(source: SourceProgress) -> float | None:
    """Return how many seconds a source was behind, which Kinesis alone says, from Spark 4.2 on."""
    told = source.latestOffset or ""
    return float(json.loads(told)["seconds_behind"]) if '"seconds_behind"' in told else None


def times_computed(operator: StateOperatorProgress) -> int:
    """Return how often a batch's state was computed, as twice for a sort: Spark adds up the counts of all."""
    if operator.operatorName == "symmetricHashJoin":  # it has four stores a partition
        return 1
    return max(1, operator.numStateStoreInstances // max(1, operator.numShufflePartitions))


def receivers(ssc: StreamingContext) -> int:
    """Return how many streams hold a core each for as long as the context runs."""
    return len(ssc._jssc.ssc().graph().getReceiverInputStreams())


def has_stopped(ssc: StreamingContext) -> bool:
    """Say whether a context has been stopped."""
    return bool(ssc._jssc.getState().toString() == "STOPPED")


def runs_batch() -> bool:
    """Say whether a thread of the JVM still runs a batch, with the Python functions that it calls.

    A JVM runs one context at a time; after its stop such a thread ends with the batch that it is at.
    """
    jvm: Any = SparkContext._jvm
    return "[streaming-job-executor-" in jvm.java.lang.Thread.getAllStackTraces().keySet().toString()


def unprocessed(ssc: StreamingContext) -> tuple[int, int]:
    """Return how many batches with records have not been through, and how many records these have.

    Of a context that has stopped these are what it has left behind.
    """
    scheduler = ssc._jssc.ssc().scheduler()
    waiting = scheduler.getClass().getDeclaredField("jobSets")
    waiting.setAccessible(True)
    found = [each for each in waiting.get(scheduler).values() if not _is_through(each)]
    records = [number for each in found if (number := each.toBatchInfo().numRecords())]
    return len(records), sum(records)


def _is_through(batch: Any) -> bool:
    jobs = batch.jobs()
    try:
        return all(job.result().isSuccess() for job in map(jobs.apply, range(jobs.size())))
    except Py4JJavaError:  # it has none
        return False
