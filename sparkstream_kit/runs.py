"""Start and run: `run` waits for any number of queries, and ends them well.

`run` is the only public function. It creates a `_Run`, which listens to the progress of
its queries, waits until one of the limits ends the run, lets the batch in flight
commit, and stops every query. A `_Watched` holds one query of the run and what the run
has counted of it; its `summary` becomes part of the `RunSummary`.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections import deque
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError

from sparkstream_kit import errors
from sparkstream_kit._internal import threads
from sparkstream_kit._internal.arguments import check, is_a
from sparkstream_kit._internal.file_system import check_writable
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark import queries as spark_queries
from sparkstream_kit._internal.spark.batch import close_ended
from sparkstream_kit._internal.spark.session import has_ended
from sparkstream_kit._internal.stopping import shutdown, waiting
from sparkstream_kit.checkpoints.damage import READ_IN_PART
from sparkstream_kit.checkpoints.guard import explained
from sparkstream_kit.checkpoints.input_files import Files
from sparkstream_kit.checkpoints.logs import Logs, local
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.progress import QuerySummary, RunSummary, first_summary
from sparkstream_kit.verdicts import KEPT, Record, of_query, record

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring import Alert

__all__ = ["run"]


_log = logging.getLogger(__name__)

# Exit codes of a run that a signal ended and in which a query then failed. A signal to
# the JVM counts as SIGTERM: a JVM that Python has started ignores SIGINT.
_CUT = {"SIGINT": 130, "SIGTERM": 143, shutdown.SIGNALLED: 143}
# In the text of a failure: something is away, and the next start may succeed.
_AWAY = re.compile(r"\berrors\.TransientError\b|no Kafka broker has answered")
_STOP_LIMIT = 5.0  # seconds that Spark may take to stop a query
_END_LIMIT = 30.0  # seconds that a job may take to end after its run
_LOOK_AT_FILES = 60.0  # seconds between two checks of the input files
_LOOK_AT_SESSIONS = 2.0  # seconds between two checks of the sessions, which call no JVM


class _Watched:
    """A query of a run, and what the query has done during the run.

    Attributes:
        query: the query.
        name: its name, else its id.
        facts: what `start` knows about it.
        done: its summary so far.
        records: its last batches, for the verdicts.
        sockets: host and port of each socket that it reads; None before its first
            batch.
        endless: whether it ends only when it is stopped.
        ended: whether it has ended.
        lost: the error of a query whose session was stopped, of which Spark says
            nothing; None for others.
        last: its last progress; one without a batch, too, as of a start that has found
            no new input.
    """

    def __init__(self, query: StreamingQuery, before: QuerySummary | None) -> None:
        self.query = query
        self.name = query.name or query.id
        self.facts = spark_queries.start_facts(query)
        self.done = before or first_summary(self.name, query.id, self.facts)
        self.records = deque[Record](maxlen=KEPT)
        # Spark connects to a socket in the first batch. Before that a missing reader
        # does not mean that the socket has closed.
        self.sockets: list[tuple[str, int]] | None = None
        self.endless = spark_queries.is_endless(query)
        self.ended = False
        self.lost: Exception | None = None
        self._session = spark_queries.session(query)
        self.last: StreamingQueryProgress | None = None
        self._stopping: threading.Thread | None = None
        self._stops_until = 0.0
        self._files: Files | None = None  # made when first asked for

    def post_end(self, inbox: waiting.Inbox) -> None:
        """Wait until the query has ended, and post that to the inbox."""
        spark_queries.await_end(self.query)
        inbox.post("ended", self)

    def has_lost_session(self) -> bool:
        """Return whether the session stopped while Spark still calls the query active.

        The thread of a query that waits for input then ends without a word.
        """
        if self.ended or self._session is None or not has_ended(self._session):
            return False
        if spark_queries.is_active(self.query):
            self.lost = RuntimeError("the session was stopped")
            self.ended = True
        return self.ended

    def error(self) -> Exception | None:
        """Return why the query has failed; None if it has not."""
        return self.query.exception() or self.lost

    def was_stopped(self) -> bool:
        """Return whether the query, which has ended, was stopped before it had read all input."""
        return self.endless or not spark_queries.has_done_all(self.query)

    def has_rows_on_their_way(self) -> bool:
        """Return whether a batch with rows is running, or committed but not recorded yet.

        Either can last longer than `idle`, and must not count as idle time.
        """
        last = self.query.lastProgress
        if last is not None and last.numInputRows > 0:
            recorded = self.done.last_batch
            if recorded is None or last.batchId > recorded:
                return True
        return spark_queries.in_batch(self.query)

    def count_waiting(self) -> None:
        """Count the waiting files once more, at the end of the run."""
        if self.records and self.last is not None:
            self.done = self.done.waiting_in(self.files().counted(self.last, now=True))
            self.done = replace(self.done, **self.files().other_fields()._asdict())

    def trim_logs(self) -> None:
        """Shorten the logs of the query's file sources, if they have grown long."""
        if self._files is not None and not self.ended:
            self._files.trim_logs()

    def files(self) -> Files:
        if self._files is None:
            self._files = Files(self.query)
        return self._files

    def begin_stop(self) -> None:
        """Begin to stop the query in a thread, so that several queries stop at once."""
        if self.ended or self._stopping is not None:
            return

        def stop() -> None:
            # Spark's own time limit may raise here, or the JVM has ended. `has_stopped`
            # shows the result.
            with suppress(Exception):
                self.query.stop()

        if self._files is not None:
            # Now: Spark deletes a temporary checkpoint when the query stops
            self._files.read_logs()
        self._stops_until = time.monotonic() + _STOP_LIMIT
        self._stopping = threads.in_thread("stop", stop)

    def has_stopped(self) -> bool:
        """Wait for the stop, for five seconds at most, and return whether the query has stopped.

        Spark cannot stop a query while a Python function of a batch is running.
        """
        if self._stopping is None:
            return True
        self._stopping.join(max(0, self._stops_until - time.monotonic()))
        return not self._stopping.is_alive() and not spark_queries.is_active(self.query)

    def summary(self) -> QuerySummary:
        """Return the summary of the query, with all verdicts on it."""
        verdicts = of_query(
            self.done, list(self.records), self.facts.interval, self.facts.ends
        )
        return replace(self.done, verdicts=tuple(verdicts))

    def refuse_lost_rows(self, *, at_end: bool = False) -> None:
        """Raise an InvalidInputError if the target has lost rows of the query."""
        lost = self.facts.lost_rows(self.done.last_batch, at_end=at_end)
        if lost is not None:
            raise InvalidInputError(f"query {self.name}: {lost}")

    def failure(self, error: Exception, summary: RunSummary) -> QueryFailed:
        """Return the exception to raise for a query that has failed, with the cause in one line.

        Args:
            error: the query's exception.
            summary: the summary of the run, which the exception carries.
        """
        name = f"query {self.name}"
        cause = errors.innermost_cause(error)
        if spark_queries.session_was_stopped(self.query):
            cause = (
                "its session was stopped while it ran; end the query first, then call"
                " spark.stop()"
            )
            return QueryFailed(name, cause, summary)
        text = f"{cause}\n{error}"
        unavailable = logical_plan.unavailable(text)
        if unavailable:
            return errors.InputUnavailable(name, unavailable, summary)
        damaged = self._damaged(cause, text)
        if damaged:
            cause = f"{damaged} (Spark: {cause})"
            return errors.CheckpointDamaged(name, cause, summary)
        means = self._meaning_to_systems(text)
        if means:
            cause = f"{means} (Spark: {cause})"
        lost = self.facts.lost_rows(self.done.last_batch, at_end=True)
        failed = QueryFailed(name, lost or cause, summary)
        if lost or "SCHEMA_NOT_COMPATIBLE" in text:  # which no restart changes
            failed.exit_code = InvalidInputError.exit_code
        if _AWAY.search(f"{cause}\n{error}"):
            failed.exit_code = errors.TransientError.exit_code
        failed.exit_code = _CUT.get(summary.ended_by, failed.exit_code)
        return failed

    def _damaged(self, cause: str, text: str) -> str | None:
        """Return which file of the checkpoint the failure comes from; None if it is none.

        The start has checked only the checkpoint files that are quickly read. If Spark
        failed before the first batch, check all of them now, as Spark's own message
        does not say what to do.
        """
        checkpoint = spark_queries.checkpoint(self.query)
        if not checkpoint:
            return None
        root = local(checkpoint)
        if root is None or not root.is_dir():
            return None
        only_cause = self.done.batches > 0 or READ_IN_PART in cause
        return explained(Logs(root), text, only_cause=only_cause)

    def _meaning_to_systems(self, text: str) -> str | None:
        """Return what a failure means, by the systems that the query reads; None if unknown."""
        from sparkstream_kit.connectors import meaning  # only a failure needs it

        kinds: set[str] = set()
        if self.facts.frame is not None:
            kinds = {source.kind for source in logical_plan.inputs_of(self.facts.frame)}
        return meaning(kinds, text)


@dataclass(eq=False)
class _Run:
    """One call of `run`, or the run of a query's last batch with `drain=True`.

    Args:
        queries: the queries, of any sessions.
        inbox: where signals, limits, progress and ends are posted.
        on_batch: the functions to call with each batch.
        on_tick: the functions to call twice a second and at the end, as for
            `on_verdict`.
        idle: as for `run`.
        max_batches: as for `run`.
        keep: keeps the summary if a callback raises.
        before: the summary to continue, for the last batch of a query that has been run
            before.
    """

    queries: tuple[StreamingQuery, ...]
    inbox: waiting.Inbox
    on_batch: list[Callable[..., None]]
    on_tick: list[Callable[..., None]]
    keep: Callable[..., object]
    idle: float | None = None
    max_batches: int | None = None
    before: QuerySummary | None = None

    def __post_init__(self) -> None:
        self._raised: BaseException | None = None  # by a callback
        self._by_run_id: dict[str, _Watched] = {}
        for query in self.queries:
            self._by_run_id[str(query.runId)] = _Watched(query, self.before)
        self._queries = list(self._by_run_id.values())
        self._last_row = self.inbox.started
        self._next_look = self.inbox.started
        self._warnings: dict[str, str] = {}  # each warning, and the name of its query
        self._failed: _Watched | None = None  # the query that ended the run

    def to_end(self, grace: float) -> RunSummary:
        """Wait, let the batch in flight commit, stop every query, and return the summary.

        Args:
            grace: seconds that the batch in flight may take to commit.

        Raises:
            QueryFailed: a query failed or did not stop, or the JVM ended by itself.
            BaseException: what a callback has raised, once the queries have stopped.
        """
        run_ids = set(self._by_run_id)
        managers = spark_queries.managers(self.queries)
        listeners = [
            (manager, spark_queries.ProgressTo(self.inbox, run_ids))
            for manager in managers
        ]
        try:
            limit = grace + _STOP_LIMIT + _END_LIMIT
            with (
                shutdown.jvm_waits_for(self.inbox, limit),
                waiting.signals_posted_to(self.inbox),
            ):
                for manager, listener in listeners:
                    spark_queries.listen(manager, listener)
                # Count the batches from before the listener first: once a later one is
                # counted, earlier ones look like duplicates.
                self._catch_up()
                for watched in self._queries:
                    threads.in_thread("await", partial(watched.post_end, self.inbox))
                ended_by = self._wait()
                self._let_batches_commit(time.monotonic() + grace)
        finally:
            stuck = self._stop_all()
            for manager, listener in listeners:
                spark_queries.stop_listening(manager, listener)
        self._count_the_rest()
        close_ended()
        summary = self._summarise(ended_by)
        if stuck:
            raise QueryFailed(
                f"query {', '.join(watched.name for watched in stuck)}",
                "it did not stop; the function of its batch still runs, or a source"
                " does not answer; it ends with this process",
                summary,
            )
        return summary

    def _count_the_rest(self) -> None:
        """Count and report what is left, once the queries have stopped.

        That is the batches that ended last, the verdicts after them, the files that are
        lost or wait, what a failed batch has printed, and rows that the target has lost.
        """
        self._record_posted()
        self._catch_up()
        self._call(self.on_tick)
        self._look_at_files()
        for watched in self._queries:
            watched.count_waiting()
            # A batch that failed has printed, too
            spark_queries.bring_printed(watched.query)
            # Of a query that has failed, `failure` tells it
            if self._raised is None and watched.error() is None:
                self._call([partial(watched.refuse_lost_rows, at_end=True)])

    def _record_posted(self) -> None:
        """Record the batches that are in the inbox.

        If `on_batch` was slow, it has more batches than `recentProgress` remembers.
        """
        while True:
            kind, what = self.inbox.get(timeout=0)
            if kind == "look":
                return
            if kind == "progress":
                self._record(what)

    def _wait(self) -> str:
        """Wait until the run ends, recording its batches; return why it ended."""
        while True:
            still_open = [watched for watched in self._queries if not watched.ended]
            if not still_open:
                break
            reason, wake_after = self._over(still_open)
            if reason:
                return reason
            wake_after = min(wake_after, self._look_after())
            kind, what = self.inbox.next(wake_after=wake_after)
            if kind == "stop":
                return str(what)
            if kind == "progress":
                self._record(what)
            elif kind == "ended":
                what.ended = True
            if self._has_failure(still_open):
                return "failure"
            self._end_read_sockets()
            self._look_now_and_then()
            self._call(self.on_tick)
        if any(watched.was_stopped() for watched in self._queries):
            return "query.stop()"
        return "end of input"

    def _look_after(self) -> float:
        """Return the seconds after which to look at sessions, sockets and verdicts."""
        if self.on_tick or any(watched.sockets for watched in self._queries):
            return waiting.LOOK_EVERY
        return _LOOK_AT_SESSIONS

    def _look_now_and_then(self) -> None:
        """Look at the targets; once a minute at the input files, and trim their logs."""
        self._call([watched.refuse_lost_rows for watched in self._queries])
        if time.monotonic() >= self._next_look:
            self._look_at_files()
            for watched in self._queries:
                watched.trim_logs()

    def _has_failure(self, were_open: list[_Watched]) -> bool:
        """Return whether one of the queries that were open has ended with an error."""
        ended = (each for each in were_open if each.ended or each.has_lost_session())
        self._failed = next((each for each in ended if each.error() is not None), None)
        return self._failed is not None

    def _over(self, still_open: list[_Watched]) -> tuple[str | None, float]:
        """Check the limits `max_batches` and `idle`.

        The run does not end as idle while a query looks for its first rows. Rows on
        their way to a batch that is not recorded yet count as rows of now.

        Returns:
            The reason why the run is over, or None; and the seconds after which to
            check again.
        """
        limit = self.max_batches
        idle = self.idle
        if limit is not None and all(each.done.batches >= limit for each in still_open):
            return "max_batches are through", 0
        if idle is None:
            return None, math.inf
        left = self._last_row + idle - time.monotonic()
        if left > 0:
            return None, left
        queries = [each.query for each in self._queries]
        if any(map(spark_queries.looks_for_first_rows, queries)):
            return None, waiting.LOOK_EVERY
        if any(each.has_rows_on_their_way() for each in self._queries):
            self._last_row = time.monotonic()
            return None, idle
        return f"{idle:g} s without a row", left

    def _end_read_sockets(self) -> None:
        """End the queries whose sockets have closed; Spark itself would go on waiting for input."""
        for watched in self._queries:
            if not watched.sockets:
                continue
            session = spark_queries.session(watched.query)
            if logical_plan.is_being_read(session, watched.sockets):
                continue
            watched.sockets = []
            watched.endless = False
            finish = partial(spark_queries.finish_input, watched.query)
            threads.in_thread("last-lines", finish)

    def _look_at_files(self) -> None:
        """Log new findings about files that sources lose or ignore: Spark does not."""
        self._next_look = time.monotonic() + _LOOK_AT_FILES
        for watched in self._queries:
            for line in watched.files().findings(watched.last):
                if line not in self._warnings:
                    self._warnings[line] = watched.name
                    _log.warning("query %s: %s", watched.name, line)

    def _let_batches_commit(self, deadline: float) -> None:
        """Stop each query once its batch in flight has committed, or at the deadline."""
        # The last batch that each query had committed when the run ended
        committed: dict[_Watched, int | None] = {}
        for watched in self._queries:
            if not watched.ended:
                committed[watched] = spark_queries.last_batch(watched.query)
        while _begin_stops(committed, deadline):
            kind, what = self.inbox.get(timeout=0.05)
            if kind == "progress":
                self._record(what)
        self._stop_all()  # wait here, while signals still go to the inbox

    def _stop_all(self) -> list[_Watched]:
        """Stop all queries at the same time, and return those that did not stop."""
        for watched in self._queries:
            watched.begin_stop()
        return [watched for watched in self._queries if not watched.has_stopped()]

    def _record(self, progress: StreamingQueryProgress) -> None:
        """Count a batch once, print what its function printed, and tell those who want to know."""
        watched = self._by_run_id.get(str(progress.runId))
        # None: a late event of the run before a drain
        if watched is None or watched.done.has(progress):
            return
        watched.files().look_for(progress)
        files = watched.files().counted(progress)
        watched.done = watched.done.with_batch(progress, files)
        watched.records.append(record(progress, files))
        watched.last = progress
        if progress.numInputRows > 0:
            self._last_row = time.monotonic()
        if watched.sockets is None:
            described = " ".join(source.description for source in progress.sources)
            watched.sockets = logical_plan.sockets_in(described)
        spark_queries.bring_printed(watched.query)
        self._call(list(watched.facts.progress_listeners), progress)
        self._call(self.on_batch, progress, files)

    def _call(self, callbacks: list[Any], *batch: object) -> None:
        """Call functions of the user and of views; an error of one is kept, and ends the run.

        So is a `sys.exit()` of theirs: it is raised again once the queries have stopped
        and the summary is kept.
        """
        try:
            for callback in callbacks:
                callback(*batch)
        except BaseException as err:  # noqa: BLE001 - raised again, once there is a summary
            self._raised = self._raised or err
            self.on_batch = []
            self.on_tick = []
            self.inbox.post("stop", "failure")

    def _catch_up(self) -> None:
        """Record batches that had no event: before the run, or as queries ended."""
        for watched in self._queries:
            for progress in watched.query.recentProgress:
                watched.last = progress
                if progress.durationMs.get("addBatch") is not None:
                    self._record(progress)

    def _summarise(self, ended_by: str) -> RunSummary:
        """Return the summary of the run.

        Raises:
            QueryFailed: a query failed, or the JVM ended by itself. If several queries
                failed, the error is that of the one that ended the run; the others are
                logged.
        """
        summary = RunSummary(
            ended_by,
            time.monotonic() - self.inbox.started,
            tuple(watched.summary() for watched in self._queries),
            tuple(f"query {name}: {line}" for line, name in self._warnings.items()),
        )
        failures = self._failures()
        if self._raised is not None:
            _log_failures(failures)
            self.keep(summary, errors.innermost_cause(self._raised))
            raise self._raised
        if failures:
            _log_failures(failures[1:])
            first, cause = failures[0]
            raise first.failure(cause, summary) from cause
        if ended_by == shutdown.BY_ITSELF:
            names = ", ".join(watched.name for watched in self._queries)
            raise QueryFailed(f"query {names}", shutdown.ENDED, summary)
        return summary

    def _failures(self) -> list[tuple[_Watched, Exception]]:
        """Return the queries that failed, with their errors; first the one that ended the run."""
        failures = []
        for watched in self._queries:
            error = watched.error()
            if error is not None:
                failures.append((watched, error))
        failures.sort(key=lambda failure: failure[0] is not self._failed)
        return failures


def _begin_stops(committed: dict[_Watched, int | None], deadline: float) -> bool:
    """Stop the queries whose batch in flight has committed; return whether others are left.

    Args:
        committed: the last batch that each query had committed when the run ended. A
            query that stops is taken out.
        deadline: when to wait no longer for a batch, by `time.monotonic`.
    """
    for watched, batch_id in list(committed.items()):
        is_in_flight = (
            spark_queries.in_batch(watched.query)
            and spark_queries.last_batch(watched.query) == batch_id
        )
        if not is_in_flight or time.monotonic() >= deadline:
            del committed[watched]
            watched.begin_stop()
    return bool(committed)


def _log_failures(failures: list[tuple[_Watched, Exception]]) -> None:
    """Log the queries that failed beside the error that is raised."""
    for watched, error in failures:
        cause = errors.innermost_cause(error)
        _log.error("query %s failed, too: %s", watched.name, cause)


def run(
    *queries: StreamingQuery,
    run_for: float | None = None,
    idle: float | None = None,
    max_batches: int | None = None,
    stop_file: str | Path | None = None,
    grace: float = 30,
    on_batch: Callable[[StreamingQueryProgress], None] | None = None,
    on_verdict: Callable[[Alert], object] | str | None = None,
    drain: bool = False,
    show: str | None = None,
    ui: int | None = None,
    record: str | Path | None = None,
    metrics: str | None = None,
    summary_json: str | Path | None = None,
) -> RunSummary:
    """Wait for queries and end them well; call it in the main thread, where signals arrive.

    The run ends at the end of input, after `run_for` or `idle` seconds, after
    `max_batches`, when the stop file appears, on SIGINT or SIGTERM, or when a query
    fails. The input ends when every query has ended, as with `availableNow`; a query
    that reads a socket ends when the peer has closed the connection and all lines have
    been processed. If other code stops a query before, as another thread may, that is
    not the end of input.

    In another thread than the main one `run` does the same, but hears no signals, which
    Python gives to the main thread only: end it there by a stop file.

    At the end, the batch in flight is committed first. A batch that begins while its
    query is being stopped may be cut off; it is replayed as a whole when the query is
    restarted on its checkpoint. After `run` no query of the run is active, unless a
    batch function hangs, which raises QueryFailed; and the former signal handlers are
    restored.

    Files that the file sources of a query lose or ignore silently (see
    `checkpoints.lost`) are logged as warnings and listed in the summary. This needs a
    query that `start` has started, and files on this machine; on Spark Connect also a
    checkpoint and a server that `sparkstream serve` has started here.

    Args:
        *queries: running queries, also of several sessions.
        run_for: seconds after which the run ends. Default: no limit.
        idle: seconds without an input row after which the run ends. Default: no limit.
        max_batches: the run ends when each query has committed this number of batches
            since its start, or one more, because Spark begins the next batch by itself.
            Default: no limit.
        stop_file: a local path; the run ends within about half a second after a file
            appears there.
        grace: seconds that the batch in flight may take to commit before it is cut off.
        on_batch: a function to call in this thread after each batch, with Spark's
            StreamingQueryProgress.
        on_verdict: a function to call in this thread with a `monitoring.Alert` when a
            verdict on a query begins, and when it has ended: when neither the last 10
            batches of the query nor the last minute had it, so that a verdict that
            comes and goes calls once. What has not ended when the run ends, and
            verdicts on late rows and broken rules, only begin. Or the URL of a server
            that answers HTTP, to which each alert is posted as JSON, once, by another
            thread; at its end the run waits up to 10 seconds for that.
        drain: at the end of input, run one more batch of each query, which reads
            nothing and closes every window, so that rows that wait for the watermark
            are written. Afterwards `start` refuses the checkpoint, because its input
            has ended, unless the checkpoint is rewound.
        show: `terminal` shows the queries' progress and its diagnosis on standard
            error; `notebook` shows both, and the results, beneath the cell
            (`monitoring.live` starts the query, too).
        ui: the port of a web page on this machine that shows the same; 0 for a free
            port.
        record: a file to which each batch is written as a line of JSON; `sparkstream
            watch FILE` shows it.
        metrics: host:port at which the run serves metrics for Prometheus, to all who
            reach that address, such as "0.0.0.0:9108"; needs the extra `metrics`.
        summary_json: a file to which the summary is appended as a line of JSON, after a
            failure, too: `version` (1), the fields of `RunSummary`, and `error`, the
            failure's message or null.

    Returns:
        What each query has done during the run; printing it gives a readable report.

    Raises:
        QueryFailed: a query failed, or did not stop, or Spark's JVM ended; the other
            queries have been stopped. The exception carries the summary, or None if the
            JVM ended before there was one.
        InputUnavailable: a query could not connect to its socket.
        DryRun: a query was started with `dry_run=True`; the others have been stopped.
        CheckpointDamaged: a query could not resume from its checkpoint; the message
            names the file.
        InvalidInputError: there are no queries; a limit is not positive or `grace` is
            negative; `show`, `ui`, `metrics` or a file cannot be used; or `drain` is
            given for a query that `start` has not started with a checkpoint, or that
            runs on a Spark Connect server elsewhere. The queries have been stopped.

    Examples:
        In a session::

            query = start(sales, sinks.console(), name="sales", availableNow=True)
            print(run(query))  # ends with the input, or cleanly on Ctrl-C and SIGTERM
    """
    with (
        _keeping(summary_json) as keep,
        ExitStack() as views,
        _end_of_the_jvm_as_failure(),
    ):
        with spark_queries.stopped_if_refused(queries):
            arguments = dict(locals())
            planned: list[Any] = [each for each in queries if is_a("Planned", each)]
            if planned:
                arguments["queries"] = ()  # these are no queries
            check(run, arguments)
            _check(queries, idle, max_batches, grace)
            inbox = waiting.Inbox(run_for=run_for, stop_file=stop_file)
            _end_dry_run(planned)
            if summary_json is not None:
                check_writable("the summary", summary_json)
            run_last_batches = _draining(queries) if drain else None
            faces = {
                "show": show,
                "ui": ui,
                "record": record,
                "metrics": metrics,
                "on_verdict": on_verdict,
            }
            per_batch, per_tick = _open_views(views, queries, inbox, on_batch, faces)
        make_run = partial(
            _Run, inbox=inbox, on_batch=per_batch, on_tick=per_tick, keep=keep
        )
        summary = make_run(queries, idle=idle, max_batches=max_batches).to_end(grace)
        if run_last_batches is not None and summary.ended_by == "end of input":
            summary = run_last_batches(summary, make_run, grace)
        return keep(summary)


@contextmanager
def _end_of_the_jvm_as_failure() -> Iterator[None]:
    """Raise QueryFailed for an error in the block that means that Spark's JVM has ended."""
    try:
        yield
    except (Py4JError, OSError) as err:
        if not shutdown.jvm_has_ended(err):
            raise
        raise QueryFailed("run", f"it has no summary: {shutdown.ENDED}") from err


def _end_dry_run(planned: list[Any]) -> None:
    """Raise DryRun with what the queries of a dry run have to say, if there are any."""
    if planned:
        # Imported here, because few runs need it
        from sparkstream_kit.checkpoints.operate.shadow import dry

        raise dry(planned)


def _draining(queries: tuple[StreamingQuery, ...]) -> Callable[..., RunSummary]:
    """Return the function that runs the last batches of the queries, as `operate.draining` does."""
    # Imported here, because few runs need it
    from sparkstream_kit.checkpoints.operate import draining

    return draining(queries)


def _open_views(
    stack: ExitStack,
    queries: tuple[StreamingQuery, ...],
    inbox: waiting.Inbox,
    on_batch: Callable[[StreamingQueryProgress], None] | None,
    faces: dict[str, Any],
) -> tuple[list[Callable[..., None]], list[Callable[..., None]]]:
    """Open, until the stack is closed, what shows or keeps a run.

    Args:
        stack: what closes it.
        queries: the queries of the run.
        inbox: where a stop that somebody asks for on the page is posted.
        on_batch: as for `run`.
        faces: the arguments of `run` that ask for a view, such as `show`.

    Returns:
        What to call with the progress and the files of each batch, and what to call
        while the run waits.
    """
    on_batch_callbacks: list[Callable[..., None]] = []
    on_tick_callbacks: list[Callable[..., None]] = []
    if any(face is not None for face in faces.values()):
        # Imported here, because few runs need it
        from sparkstream_kit.monitoring import watching

        views: Any = watching(queries, partial(inbox.post, "stop"), **faces)
        tell, on_tick_callbacks = stack.enter_context(views)
        on_batch_callbacks.append(tell)
    if on_batch is not None:
        on_batch_callbacks.append(lambda progress, _files: on_batch(progress))
    return on_batch_callbacks, on_tick_callbacks


def _keeping(
    path: str | Path | None,
) -> AbstractContextManager[Callable[..., RunSummary]]:
    """Yield a function that keeps a summary for `summary_json`, and returns the summary."""
    if path is None:
        return nullcontext(lambda summary, _error=None: summary)
    from sparkstream_kit.monitoring import summary_kept

    return summary_kept(path)


def _check(
    queries: tuple[StreamingQuery, ...],
    idle: float | None,
    max_batches: int | None,
    grace: float,
) -> None:
    """Refuse a run of no query, and limits that cannot be; `Inbox` checks `run_for`."""
    if not queries:
        raise InvalidInputError(
            "run() needs at least one query: run(start(frame, sink, name='totals'))"
        )
    if idle is not None and not idle > 0:
        raise InvalidInputError(
            f"run(): idle must be a positive number of seconds, not {idle}"
        )
    if not grace >= 0:
        raise InvalidInputError(
            f"run(): grace must be a number of seconds from 0, not {grace}"
        )
    if max_batches is not None and max_batches < 1:
        raise InvalidInputError(
            f"run(): max_batches must be a whole number from 1, not {max_batches}"
        )
