"""What `run` asks of Spark about a query, and what only a classic session can tell."""

from __future__ import annotations

import ast
import json
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import (
    JStreamingQueryListener,
    QueryProgressEvent,
    StreamingQueryListener,
    StreamingQueryProgress,
)
from pyspark.sql.streaming.query import StreamingQueryManager

from sparkstream_kit._spark import printing, sockets
from sparkstream_kit._spark.session import is_connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.listener import (
        QueryIdleEvent,
        QueryStartedEvent,
        QueryTerminatedEvent,
        SourceProgress,
        StateOperatorProgress,
    )
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._spark.files import Location
    from sparkstream_kit._waiting import Inbox

    Drain = Callable[[], StreamingQuery | None]

__all__ = [
    "ProgressTo",
    "bring_printed",
    "checkpoint",
    "drain",
    "finish_input",
    "forget",
    "frame",
    "in_batch",
    "interval",
    "is_being_read",
    "last_batch",
    "listen",
    "looks_for_first_rows",
    "manager",
    "mode",
    "note",
    "records_behind",
    "seconds_behind",
    "session",
    "stop_listening",
    "table",
    "targets",
    "times_computed",
    "why_it_runs",
]


class ProgressTo(StreamingQueryListener):
    """Posts the progress of the run's queries; what a listener raises, Spark would swallow."""

    def __init__(self, inbox: Inbox, run_ids: set[str]) -> None:
        self._inbox = inbox
        self._run_ids = run_ids

    def onQueryStarted(self, event: QueryStartedEvent) -> None:
        """Do nothing; Spark asks for it."""

    def onQueryProgress(self, event: QueryProgressEvent) -> None:
        """Post a batch of the run."""
        if str(event.progress.runId) in self._run_ids:
            self._inbox.post("progress", event.progress)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:
        """Do nothing; Spark asks for it."""

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:
        """Do nothing; Spark asks for it."""

    @property
    def _jlistener(self) -> Any:
        """Return this listener as the JVM has it; Connect never asks."""
        if not hasattr(self, "_jlistenerobj"):
            wrapper = SparkContext._jvm.PythonStreamingQueryListenerWrapper  # type: ignore[union-attr]
            self._jlistenerobj = wrapper(_ByJson(self))
        return self._jlistenerobj


class _ByJson(JStreamingQueryListener):
    """Takes a progress from the JVM as one text; PySpark asks for each value of it, some hundred calls."""

    def onQueryProgress(self, jevent: Any) -> None:
        """Pass the progress on, as `query.lastProgress` makes it."""
        text = jevent.progress().json()
        self.pylistener.onQueryProgress(QueryProgressEvent(StreamingQueryProgress.fromJson(json.loads(text))))


def manager(query: StreamingQuery) -> StreamingQueryManager | None:
    """Return what Spark tells listeners of a query by: that of its own session, whichever is active."""
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
    started = _started.get(str(query.runId))
    return SparkSession.getActiveSession() if started is None else started.frame.sparkSession


@dataclass(frozen=True)
class _Started:
    """What `start` knows of a query.

    Attributes:
        frame: what it computes.
        mode: its output mode.
        checkpoint: only one that is on this machine.
        prints: whether its functions print at a server.
        drain: starts it once more, for its last batch.
        interval: seconds from one batch to the next that its trigger asks for, if it does.
        targets: what its sink writes to, as in `Sink.writes_to`.
    """

    frame: DataFrame
    mode: str
    checkpoint: str | None
    prints: bool
    drain: Drain | None
    interval: float | None
    targets: tuple[str, ...]


_listening = threading.Lock()  # one thread at a time changes who listens
_TABLES = ("memory", "view")  # of `sinks.memory` and `sinks.latest`
_BEHIND = "avgOffsetsBehindLatest"  # what Spark's Kafka source reports
_started: dict[str, _Started] = {}  # by run, until `forget`, or until nobody has the query any more
_running: dict[str, StreamingQuery] = {}  # by run; whoever asks Spark for its queries may ask of these


def note(
    query: StreamingQuery,
    frame: DataFrame,
    mode: str,
    location: Location | None,
    drain: Drain,
    *,
    prints: bool,
    interval: float | None,
    targets: tuple[str, ...],
) -> None:
    """Keep what `start` knows of a query that cannot be asked for it."""
    for run_id in [run_id for run_id, other in _running.items() if not _is_active(other)]:
        del _running[run_id]
    here = location.text if location is not None and location.folder is not None else None
    spark = frame.sparkSession
    prints = prints and is_connect(spark)
    can_end = here is not None or (location is not None and not is_connect(spark))
    run_id = str(query.runId)
    _started[run_id], _running[run_id] = (
        _Started(frame, mode, here, prints, drain if can_end else None, interval, targets),
        query,
    )
    weakref.finalize(query, _started.pop, run_id, None).atexit = False


def _is_active(query: StreamingQuery) -> bool:
    try:
        return query.isActive
    except (Py4JError, PySparkException, OSError):  # its JVM or its session has gone
        return False


def forget(query: StreamingQuery) -> None:
    """Drop what was kept: the run is over."""
    for kept in (_started, _running):
        kept.pop(str(query.runId), None)


def mode(query: StreamingQuery) -> str | None:
    """Return the output mode of a query that `start` has started."""
    started = _started.get(str(query.runId))
    return None if started is None else started.mode


def frame(query: StreamingQuery) -> DataFrame | None:
    """Return what a query computes, if `start` has started it."""
    started = _started.get(str(query.runId))
    return None if started is None else started.frame


def drain(query: StreamingQuery) -> Drain | None:
    """Return what starts a query once more for its last batch, if its checkpoint can be written."""
    started = _started.get(str(query.runId))
    return None if started is None else started.drain


def interval(query: StreamingQuery) -> float | None:
    """Return the seconds from batch to batch that a query's trigger asks for; None if it asks for none."""
    started = _started.get(str(query.runId))
    return None if started is None else started.interval


def targets(query: StreamingQuery) -> tuple[str, ...]:
    """Return what the sink of a query writes to, such as "view totals", if `start` has started it."""
    started = _started.get(str(query.runId))
    return () if started is None else started.targets


def table(query: StreamingQuery) -> str | None:
    """Return the name by which the session has the rows of a query; None if it has them not."""
    names = [name for kind, _, name in (each.partition(" ") for each in targets(query)) if kind in _TABLES]
    return names[0] if names else None


def bring_printed(query: StreamingQuery) -> None:
    """Print here what the query's functions have printed at the server."""
    started = _started.get(str(query.runId))
    if started is not None and started.prints:
        printing.bring_printed(started.frame.sparkSession, str(query.name))


def checkpoint(query: StreamingQuery) -> str | None:
    """Return where a query's checkpoint is; on Connect only one that is on this machine, too."""
    if not hasattr(query, "_jsq"):
        started = _started.get(str(query.runId))
        return None if started is None else started.checkpoint
    return str(query._jsq.streamingQuery().resolvedCheckpointRoot())


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


def why_it_runs(query: StreamingQuery) -> str:
    """Say what a query is at that did not stop when it was told to."""
    status = query.status
    if status["isTriggerActive"] and status["isDataAvailable"]:
        return "the function of its batch still runs"
    return f"Spark still waits, as for a source that does not answer (it says: {status['message']})"


def is_being_read(query: StreamingQuery, addresses: list[tuple[str, int]]) -> bool:
    """Say whether Spark still reads one of a query's sockets, as far as that can be told."""
    if hasattr(query, "_jsq"):
        return sockets.is_being_read(None, addresses)
    spark = session(query)
    return spark is None or sockets.is_being_read(spark, addresses)


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


def seconds_behind(source: SourceProgress) -> float | None:
    """Return how many seconds a source was behind, which Kinesis alone says, from Spark 4.2 on."""
    told = source.latestOffset or ""
    return float(json.loads(told)["seconds_behind"]) if '"seconds_behind"' in told else None


def times_computed(operator: StateOperatorProgress) -> int:
    """Return how often a batch's state was computed, as twice for a sort: Spark adds up the counts of all."""
    if operator.operatorName == "symmetricHashJoin":  # it has four stores a partition
        return 1
    return max(1, operator.numStateStoreInstances // max(1, operator.numShufflePartitions))
