"""State of a running query beyond its public API, on any session, and of DStreams.

`start` notes in `StartFacts` what it knows about a query, and `run`, the summaries and the
monitoring look it up here by the query's run. `listen` and `stop_listening` register a
progress listener, `is_active` to `finish_input` ask about a query or wait for it, and
`records_behind` to `times_computed` read values out of Spark's progress. The last
functions are about a StreamingContext of DStreams.
"""

from __future__ import annotations

import ast
import json
import re
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import listener as events
from pyspark.sql.streaming.listener import (
    StreamingQueryListener,
    StreamingQueryProgress,
)

from sparkstream_kit._internal.arguments import is_a
from sparkstream_kit._internal.durations import FiftiethOfTheTime
from sparkstream_kit._internal.spark.session import is_connect, settings_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pyspark.sql.streaming.listener import SourceProgress, StateOperatorProgress
    from pyspark.sql.streaming.query import StreamingQuery, StreamingQueryManager
    from pyspark.streaming import StreamingContext

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit._internal.stopping.waiting import Inbox

    Drain = Callable[[], StreamingQuery | None]


class ProgressTo(StreamingQueryListener):
    """Posts the progress of a run's queries to an inbox.

    The run reads the inbox in its own thread. An exception in a listener itself would
    be swallowed by Spark.
    """

    def __init__(self, inbox: Inbox, run_ids: set[str]) -> None:
        self._inbox = inbox
        self._run_ids = run_ids

    def onQueryStarted(self, event: events.QueryStartedEvent) -> None:
        """Do nothing; the interface requires this method."""

    def onQueryProgress(self, event: events.QueryProgressEvent) -> None:
        """Post the progress of a batch if its query belongs to the run."""
        if str(event.progress.runId) in self._run_ids:
            self._inbox.post("progress", event.progress)

    def onQueryTerminated(self, event: events.QueryTerminatedEvent) -> None:
        """Do nothing; the interface requires this method."""

    @property
    def _jlistener(self) -> Any:
        """The listener's wrapper in the JVM, which PySpark reads on classic sessions only."""
        if not hasattr(self, "_jlistenerobj"):
            jvm: Any = SparkContext._jvm
            self._jlistenerobj = jvm.PythonStreamingQueryListenerWrapper(_ByJson(self))
        return self._jlistenerobj


class _ByJson(events.JStreamingQueryListener):
    """Fetches a progress from the JVM as one JSON text.

    PySpark's own listener fetches every value on its own, in some hundred py4j calls.
    """

    def onQueryProgress(self, jevent: Any) -> None:
        """Pass the progress on, built from JSON as `query.lastProgress` is."""
        progress = StreamingQueryProgress.fromJson(json.loads(jevent.progress().json()))
        self.pylistener.onQueryProgress(events.QueryProgressEvent(progress))


def managers(queries: Iterable[StreamingQuery]) -> list[StreamingQueryManager]:
    """Return the managers whose listeners receive the queries' events: one for each session.

    A query whose session is not known, as on Spark Connect without an active session,
    has none.
    """
    sessions: dict[str, SparkSession] = {}
    for query in queries:
        spark = session(query)
        if spark is not None:
            sessions.setdefault(settings_id(spark), spark)
    return [spark.streams for spark in sessions.values()]


def listen(manager: StreamingQueryManager, listener: StreamingQueryListener) -> None:
    """Register a listener for the events of a manager's queries."""
    with _listening:
        manager.addListener(listener)


def stop_listening(
    manager: StreamingQueryManager, listener: StreamingQueryListener
) -> None:
    """Remove a listener; it has received all earlier events when this function returns."""
    bus: Any = getattr(manager, "_sqlb", None)
    with _listening:
        if bus is None:
            manager.removeListener(listener)
        else:
            from sparkstream_kit._internal.spark import connect

            connect.stop_telling(bus, listener)
    # The JVM holds the listener's wrapper, and the wrapper the listener: without this
    # neither is ever freed.
    vars(listener).pop("_jlistenerobj", None)


def session(query: StreamingQuery) -> SparkSession | None:
    """Return a query's session; on Spark Connect without `start` the active one, or None."""
    frame = start_facts(query).frame
    if frame is not None:
        return frame.sparkSession
    if hasattr(query, "_jsq"):
        context: Any = SparkContext._active_spark_context
        return (
            None
            if context is None
            else SparkSession(context, query._jsq.sparkSession())
        )
    return SparkSession.getActiveSession()


def session_was_stopped(query: StreamingQuery) -> bool:
    """Return whether the session of a query has been stopped; False on Spark Connect."""
    return hasattr(query, "_jsq") and bool(
        query._jsq.sparkSession().sparkContext().isStopped()
    )


class TargetLooks:
    """Looks whether a target still has a query's rows, for at most 1/50 of the time.

    At the end of a run it looks in any case.

    Args:
        look: called with the last batch; returns what is lost, with a way out, or None.
    """

    def __init__(self, look: Callable[[int], str | None]) -> None:
        self._look = look
        self._looks = FiftiethOfTheTime()
        self._looked_at: int | None = None  # the last batch of the last look

    def lost_rows(self, last_batch: int, *, at_end: bool) -> str | None:
        """Return what is lost of the rows up to a batch, with a way out, or None."""
        is_due = last_batch != self._looked_at and self._looks.is_due()
        if not (is_due or at_end):
            return None
        with self._looks.taken():
            lost = self._look(last_batch)
        self._looked_at = last_batch
        return lost


class StartFacts(NamedTuple):
    """What `start` knows about a query and a StreamingQuery does not provide.

    For a query that `start` has not started, all attributes have their defaults.

    Attributes:
        frame: the DataFrame that the query writes.
        mode: the output mode.
        location: the checkpoint, if one was given.
        drain: starts the query once more for its last batch, which closes every window;
            returns the new query, or None if there is nothing to close.
        prints: whether the query passes its batches to a Python function, which may
            print.
        interval: seconds between batches as the trigger asks, or None if batches follow
            each other at once.
        targets: what the sink writes to, as in `Sink.writes_to`.
        writes: what `targets` are, and those that `by_value` has found since, as in
            `Opening.targets`.
        ends: whether the trigger ends the query, as `availableNow` does.
        says_end: whether the query has a progress without a batch when it has read all
            input.
        progress_listeners: functions to call with each progress, once its batch is committed.
        target: looks whether the target still has the query's rows; None if nobody can
            look.
    """

    frame: DataFrame | None = None
    mode: str | None = None
    location: Place | None = None
    drain: Drain | None = None
    prints: bool = False
    interval: float | None = None
    targets: tuple[Any, ...] = ()
    writes: Mapping[tuple[str, str], str] = MappingProxyType({})
    ends: bool = False
    says_end: bool = False
    progress_listeners: tuple[Callable[[StreamingQueryProgress], None], ...] = ()
    target: TargetLooks | None = None

    def lost_rows(self, last_batch: int | None, *, at_end: bool) -> str | None:
        """Return what the target has lost of the query's rows, with a way out, or None.

        Args:
            last_batch: the last batch of this run; None before the first one.
            at_end: whether the run has ended, so that this is the last look.
        """
        if self.target is None:
            return None
        if last_batch is None:
            last_batch = -1
        # What cannot be read now, as after the end of the JVM, is not lost
        with suppress(OSError, ValueError, Py4JError, PySparkException):
            return self.target.lost_rows(last_batch, at_end=at_end)
        return None


# In errors of Spark Connect: the session, the query or the server has ended, or this
# client is closed.
_ENDED = re.compile(
    r"INVALID_HANDLE\.SESSION|STREAMING_QUERY_(NOT_FOUND|RUN_ID)|UNAVAILABLE|closed"
    r" channel"
)
_WAIT_AGAIN = 1.0  # seconds until the next attempt after a wait has failed
_listening = threading.Lock()  # one thread at a time adds or removes listeners
# Kinds of targets that are tables: those of `sinks.memory` and `sinks.latest`
_TABLES = ("memory", "view")
_BEHIND = "avgOffsetsBehindLatest"  # a metric of Spark's Kafka source
# By run id, until the query is garbage-collected
_start_facts: dict[str, StartFacts] = {}
# By run id. This reference keeps a running query's entry in `_start_facts` although the
# caller may have dropped the query: a caller that gets the query from Spark's list of
# active queries needs the entry, too.
_running: dict[str, StreamingQuery] = {}


def note(query: StreamingQuery, facts: StartFacts) -> None:
    """Keep what `start` knows about a query; drop ended queries from `_running`."""
    for other_id, other in list(_running.items()):
        if not is_active(other):
            # With a default, as another thread may have removed the entry meanwhile
            _running.pop(other_id, None)
    run_id = str(query.runId)
    _start_facts[run_id] = facts
    _running[run_id] = query
    weakref.finalize(query, _start_facts.pop, run_id, None).atexit = False


def stop_unknown(spark: SparkSession, name: str) -> None:
    """Stop a query that Spark runs although its start has failed.

    This happens, for example, when Spark starts a query and then cannot read the name
    of its view.
    """
    # If the JVM or the session has ended, the error of the start says so
    with suppress(Exception):
        for query in spark.streams.active:
            if query.name == name and str(query.runId) not in _running:
                query.stop()


def running() -> Iterator[tuple[StreamingQuery, StartFacts]]:
    """Yield the running queries that `start` has started in this process, with their notes."""
    for query in list(_running.values()):
        if is_active(query):
            yield query, start_facts(query)


# A setting with which a query has a progress each time that it finds no new input, and
# so one at the end.
SAYS_END = {"spark.sql.streaming.noDataProgressEventInterval": "0"}


def is_endless(query: StreamingQuery) -> bool:
    """Return whether a query ends only when it is stopped, by its trigger.

    On Spark Connect this is not known of a query without `start`, and False.
    """
    facts = start_facts(query)
    if facts.frame is not None:
        return not facts.ends
    if not hasattr(query, "_jsq"):
        return False
    trigger = query._jsq.streamingQuery().trigger().getClass().getSimpleName()
    return trigger not in ("AvailableNowTrigger$", "OneTimeTrigger$")


def has_done_all(query: StreamingQuery) -> bool:
    """Return whether a query that ended without an error had read all input before that.

    A query with the trigger `availableNow` or `once` has a progress at its end, also if
    there was no input. After batches, a further one without a batch shows that it has
    looked for more; without `start` it may lack that one, so that one batch counts as
    all.
    """
    last = query.lastProgress
    if last is None:
        return False
    return not start_facts(query).says_end or "addBatch" not in last.durationMs


@contextmanager
def stopped_if_refused(queries: Iterable[StreamingQuery]) -> Iterator[None]:
    """Stop queries if the block fails, so that none keeps running after `run` was refused."""
    try:
        yield
    except BaseException:
        for query in queries:
            # A wrong argument, such as a session, may have a `stop`, too
            if is_a("StreamingQuery", query):
                query.stop()
        raise


def is_active(query: StreamingQuery) -> bool:
    """Return whether a query runs; False if its JVM or its session has ended.

    On Spark Connect a call can fail although the query runs: then it counts as running.
    """
    try:
        return query.isActive
    except Exception as err:  # noqa: BLE001 - whatever py4j or the client raises
        said = f"{getattr(err, '_grpc_status_code', '')} {err}"
        return not hasattr(query, "_jsq") and not _ENDED.search(said)


def await_end(query: StreamingQuery) -> None:
    """Wait until a query has ended; leave the error of a failed query to the caller.

    On Spark Connect `awaitTermination` can fail although the query is still running, so
    it is called again.
    """
    while True:
        with suppress(Exception):  # whatever py4j or the client raises
            query.awaitTermination()
            return
        if not is_active(query):
            return
        time.sleep(_WAIT_AGAIN)


def start_facts(query: StreamingQuery) -> StartFacts:
    """Return what `start` knows about a query; defaults for a query that it has not started."""
    return _start_facts.get(str(query.runId), StartFacts())


def table(query: StreamingQuery) -> str | None:
    """Return the name of a query's view or in-memory table; None for any other sink."""
    for target in start_facts(query).targets:
        if target.kind in _TABLES:
            return str(target.name)
    return None


def bring_printed(query: StreamingQuery) -> None:
    """On Spark Connect, print here what the query's batch function has printed on the server."""
    facts = start_facts(query)
    if facts.frame is not None and facts.prints and is_connect(facts.frame):
        from sparkstream_kit._internal.spark import connect

        connect.bring_printed(facts.frame.sparkSession, str(query.name))


def checkpoint(query: StreamingQuery) -> str | None:
    """Return a query's checkpoint path; on Spark Connect None if it is not on this machine."""
    if hasattr(query, "_jsq"):
        return str(query._jsq.streamingQuery().resolvedCheckpointRoot())
    location = start_facts(query).location
    if location is None or location.folder is None:
        return None
    return location.text


def last_batch(query: StreamingQuery) -> int | None:
    """Return the id of the last batch that this run has committed; None before the first."""
    progress = query.lastProgress
    if progress is None:
        return None
    return progress.batchId


def looks_for_first_rows(query: StreamingQuery) -> bool:
    """Return whether a query still looks for its first input, as when it lists a large folder."""
    status = query.status
    starting = status["isTriggerActive"] or status["message"].startswith("Initializing")
    return bool(starting and query.isActive and query.lastProgress is None)


def in_batch(query: StreamingQuery) -> bool:
    """Return whether a query is running a batch that has data."""
    status = query.status
    return query.isActive and status["isTriggerActive"] and status["isDataAvailable"]


def finish_input(query: StreamingQuery) -> None:
    """Process all input that has arrived, then stop the query; for a source that has ended."""
    # If the query fails meanwhile, ignore it here: `run` gets the error from the query.
    with suppress(Exception):
        query.processAllAvailable()
        query.stop()


def records_behind(source: SourceProgress) -> int | None:
    """Return how many records a Kafka source was behind the newest ones; None for any other source.

    Spark reports an average over the partitions, so the result is that average times
    their number.
    """
    if _BEHIND not in (source.metrics or {}):
        return None
    # Before Spark 4.2 the text is a Python dict and not JSON
    ends = ast.literal_eval(source.endOffset)
    return round(float(source.metrics[_BEHIND]) * sum(map(len, ends.values())))


def entry_at(offset: str | None) -> int:
    """Return the log entry up to which a file source's offset reaches; -1 before the first.

    Before Spark 4.2 the text is a Python dict and not JSON.

    Examples:
        >>> entry_at('{"logOffset":12}'), entry_at("{'logOffset': 12}"), entry_at(None)
        (12, 12, -1)
    """
    found = re.search(r"logOffset\D*(\d+)", offset or "")
    if found is None:
        return -1
    return int(found[1])


def seconds_behind(source: SourceProgress) -> float | None:
    """Return how many seconds Kinesis was behind; None for other sources, and before Spark 4.2."""
    offset = source.latestOffset or ""
    if '"seconds_behind"' not in offset:
        return None
    return float(json.loads(offset)["seconds_behind"])


def times_computed(operator: StateOperatorProgress) -> int:
    """Return how many times a batch's state was computed, by which Spark's counts must be divided.

    A sort, for example, computes its input twice, and Spark adds up the counts of both
    computations.
    """
    # Has four stores for each partition
    if operator.operatorName == "symmetricHashJoin":
        return 1
    partitions = max(1, operator.numShufflePartitions)
    return max(1, operator.numStateStoreInstances // partitions)


def receivers(ssc: StreamingContext) -> int:
    """Return the number of receivers; each occupies one core for as long as the context runs."""
    return len(ssc._jssc.ssc().graph().getReceiverInputStreams())


def has_stopped(ssc: StreamingContext) -> bool:
    """Return whether a StreamingContext has been stopped."""
    return str(ssc._jssc.getState().toString()) == "STOPPED"


def runs_batch() -> bool:
    """Return whether a JVM thread still runs a DStream batch, with its Python functions.

    A JVM runs one StreamingContext at a time. After the context has stopped, such a
    thread ends with its current batch.
    """
    jvm: Any = SparkContext._jvm
    names = jvm.java.lang.Thread.getAllStackTraces().keySet().toString()
    return "[streaming-job-executor-" in names


def unprocessed(ssc: StreamingContext) -> tuple[int, int]:
    """Return how many batches with records are not finished, and how many records they have.

    For a stopped context, these batches were never processed to the end.
    """
    scheduler = ssc._jssc.ssc().scheduler()
    waiting = scheduler.getClass().getDeclaredField("jobSets")
    waiting.setAccessible(True)
    # A copy: at a short batch interval the map grows faster than Python can walk
    # through it.
    job_sets = ssc._jvm.java.util.ArrayList(waiting.get(scheduler).values())  # type: ignore[union-attr]
    batches = 0
    records = 0
    for batch in job_sets:
        if batch.hasStarted() and _is_through(batch):
            continue
        size = batch.toBatchInfo().numRecords()
        records += size
        if size:
            batches += 1
    return batches, records


def _is_through(batch: Any) -> bool:
    """Return whether all jobs of a DStream batch (a JobSet of the JVM) have succeeded."""
    jobs = batch.jobs()
    with suppress(Py4JJavaError):  # a job without a result has not finished
        results = [jobs.apply(index).result() for index in range(jobs.size())]
        return all(result.isSuccess() for result in results)
    return False
