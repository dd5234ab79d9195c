"""`run`: wait for any number of queries, and end them well."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError

from sparkstream_kit import _waiting, errors
from sparkstream_kit._arguments import check, is_a
from sparkstream_kit._dry_run import Planned
from sparkstream_kit._files import as_json, check_writable
from sparkstream_kit._spark import plan, shutdown
from sparkstream_kit._spark import queries as asking
from sparkstream_kit._spark.batch import close_ended
from sparkstream_kit.checkpoints import guard
from sparkstream_kit.checkpoints.check import READ_IN_PART, damage, unreadable
from sparkstream_kit.checkpoints.logs import Logs, local
from sparkstream_kit.checkpoints.lost import Backlog, backlog, findings
from sparkstream_kit.errors import CheckpointDamaged, DryRun, InputUnavailable, InvalidInputError, QueryFailed
from sparkstream_kit.progress import QuerySummary, RunSummary, drops
from sparkstream_kit.sources import samples
from sparkstream_kit.verdicts import KEPT, Record, Verdict, of_late, of_rules, of_values, record, verdicts

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    _OnBatch = Callable[[StreamingQueryProgress], None]

__all__ = ["run"]


_log = logging.getLogger(__name__)

# The exit codes of a clean stop that did not succeed; a JVM that Python has started is deaf to SIGINT.
_CUT = {"SIGINT": 130, "SIGTERM": 143, shutdown.SIGNALLED: 143}
_STOP_LIMIT = 5.0  # seconds that Spark may take to stop a query
_END_LIMIT = 30.0  # seconds that a job may take to end after its run
_LOOK_AT_FILES = 60.0  # seconds from one look at the input files to the next
_LOOK_AT_VALUES = 10.0  # seconds until the first look at what is in them


class _Watched:
    """A query of a run, and what it has done in it."""

    def __init__(self, query: StreamingQuery, before: QuerySummary | None) -> None:
        self.query = query
        self.name = query.name or query.id
        self.known = asking.started(query)
        by = drops(self.known.frame)
        self.done = before or QuerySummary(self.name, query.id, mode=self.known.mode, drops=by)
        self.records = deque[Record](maxlen=KEPT)
        self.samples = samples.Samples(query)
        self.passed_over: set[str] = set()  # kinds of input files that a warning has named
        # A socket is connected to in the first batch: before that there is no reader to miss.
        self.sockets: list[tuple[str, int]] | None = None
        self.endless = self.known.endless
        self.ended = False
        self._stopping: threading.Thread | None = None
        self._stops_until = 0.0
        self._backlog: Backlog | None = None
        self._logs: Logs | None = self.known.logs
        self._looks = True  # whether it reads files is known from its first batch on

    def post_end(self, inbox: _waiting.Inbox) -> None:
        """Wait for the end of the query, and post it."""
        asking.await_end(self.query)
        inbox.post("ended", self)

    def has_rows_on_their_way(self) -> bool:
        """Say whether a batch is in flight, or through but not recorded yet: both can outlast `idle`."""
        last, seen = self.query.lastProgress, self.done.last_batch
        recorded = last is None or last.numInputRows == 0 or (seen is not None and last.batchId <= seen)
        return not recorded or asking.in_batch(self.query)

    def with_waiting(self, progress: StreamingQueryProgress) -> StreamingQueryProgress:
        """Return the progress of a batch with how many files wait, of a query that reads files."""
        if self._looks:
            self._looks, self._backlog = False, backlog(self.query, progress)
        return progress if self._backlog is None else self._backlog.counted(progress)

    def count_waiting(self) -> None:
        """Count the files that wait at the end of the run."""
        if self._backlog is not None and (last := self.query.lastProgress) is not None:
            self.done = self.done.waiting_in(self._backlog.counted(last, now=True))

    def begin_stop(self) -> None:
        """Tell the query to stop, once, and do not wait: other queries stop meanwhile."""
        if self.ended or self._stopping is not None:
            return

        def stop() -> None:
            with suppress(Exception):  # Spark's own limit of time, or no JVM: both show in `has_stopped`
                self.query.stop()

        if self._backlog is not None:
            self._backlog.read_logs()  # Spark removes those of a temporary checkpoint
        self._stops_until = time.monotonic() + _STOP_LIMIT
        self._stopping = _waiting.in_thread("stop", stop)

    def has_stopped(self) -> bool:
        """Wait for the stop and say whether it came; Spark waits for as long as a Python function runs."""
        if self._stopping is None:
            return True
        self._stopping.join(max(0, self._stops_until - time.monotonic()))
        return not self._stopping.is_alive() and not asking.is_active(self.query)

    def logs(self) -> Logs | None:
        """Return the logs of its checkpoint, looked at anew; None where they are not on this machine."""
        if self._logs is None and (path := asking.checkpoint(self.query)) and (root := local(path)):
            self._logs = Logs(root)
        return self._logs and self._logs.again()

    def summary(self) -> QuerySummary:
        """Return what the query has done, and what its last batches mean."""
        interval, ends = self.known.interval, self.known.ends
        said = verdicts(list(self.records), interval=interval, ends=ends, mode=self.done.mode)
        found = *said, *of_late(self.done), *of_rules(self.done.broken), *of_values(self.done)
        return replace(self.done, verdicts=found)

    def look_at_values(self) -> list[Verdict]:
        """Look at a sample of its input files, and return what is new of what Spark could not read."""
        before = of_values(self.done)
        self.samples.look()
        self.done = replace(self.done, **samples.seen(self.query))
        return of_values(self.done)[len(before) :]

    def failure(self, error: Exception, summary: RunSummary) -> QueryFailed:
        """Return the error to raise for a query that has failed, with the cause in one line."""
        name, cause = f"query {self.name}", errors.innermost_cause(error)
        if said := plan.unavailable(f"{cause}\n{error}"):
            return InputUnavailable(name, said, summary)
        checkpoint, logs = asking.checkpoint(self.query), self.logs()
        # The start has looked at what is quickly read; Spark fails at the rest, in words of its own.
        looked_at = self.done.batches or READ_IN_PART in cause
        damaged = None if looked_at or logs is None else damage(logs, whole=True)
        if damaged := damaged or (checkpoint and unreadable(checkpoint, f"{cause}\n{error}")):
            return CheckpointDamaged(name, f"{damaged} (Spark: {cause})", summary)
        lost = guard.what_is_lost(self.known.frame, checkpoint, f"{cause}\n{error}")
        failed = QueryFailed(name, lost or cause, summary)
        failed.exit_code = _CUT.get(summary.ended_by, failed.exit_code)
        return failed


class _Run:
    """One call of `run`."""

    def __init__(
        self,
        queries: tuple[StreamingQuery, ...],
        inbox: _waiting.Inbox,
        on_batch: Callable[[StreamingQueryProgress], None] | None,
        *,
        idle: float | None = None,
        max_batches: int | None = None,
        before: QuerySummary | None = None,
    ) -> None:
        self._inbox = inbox
        self._on_batch = on_batch
        self._idle = idle
        self._max_batches = max_batches
        self._by_run_id = {str(query.runId): _Watched(query, before) for query in queries}
        self._queries = list(self._by_run_id.values())
        self._last_row = self._next_look = inbox.started
        self._next_values = inbox.started + _LOOK_AT_VALUES
        self._warnings: dict[str, str] = {}  # what was found, and the name of the query
        self._failed: _Watched | None = None  # the query that ended the run

    def to_end(self, grace: float) -> RunSummary:
        """Wait, let the batch in flight commit, stop every query, and say what was done."""
        manager = asking.manager(self._queries[0].query)
        listener = asking.ProgressTo(self._inbox, set(self._by_run_id))
        try:
            limit = grace + _STOP_LIMIT + _END_LIMIT
            with shutdown.jvm_waits_for(self._inbox, limit), _waiting.signals_posted_to(self._inbox):
                if manager is not None:
                    asking.listen(manager, listener)
                # Count the batches from before the listener first: once a later one is counted, earlier ones
                # look like duplicates.
                self._catch_up()
                for each in self._queries:
                    _waiting.in_thread("await", partial(each.post_end, self._inbox))
                ended_by = self._wait()
                self._let_batches_commit(time.monotonic() + grace)
        finally:
            stuck = self._stop_all()
            if manager is not None:
                asking.stop_listening(manager, listener)
        while (post := self._inbox.get(timeout=0))[0] != "look":
            if post[0] == "progress":  # of more batches than Spark remembers, if `on_batch` was slow
                self._record(post[1])
        self._catch_up()
        self._look_at_the_end(ended_by)
        close_ended()
        try:
            summary = self._summarise(ended_by)
        finally:
            for each in self._queries:
                asking.forget(each.query)
        if stuck:
            raise QueryFailed(
                f"query {', '.join(each.name for each in stuck)}",
                "it did not stop; the function of its batch still runs, or a source does not answer; it ends "
                "with this process",
                summary,
            )
        return summary

    def _look_at_the_end(self, ended_by: str) -> None:
        self._look_at_files()
        for each in self._queries:
            each.count_waiting()
            if ended_by not in _CUT:  # who has sent a signal does not wait for it
                each.look_at_values()
            asking.bring_printed(each.query)  # of a batch that failed

    def _wait(self) -> str:
        """Return why the run ends."""
        while still_open := [each for each in self._queries if not each.ended]:
            reason, wake_after = self._over(still_open)
            if reason:
                return reason
            if any(each.sockets for each in self._queries):
                wake_after = min(_waiting.LOOK_EVERY, wake_after)
            kind, what = self._inbox.next(wake_after=wake_after)
            if kind == "stop":
                return str(what)
            if kind == "progress":
                self._record(what)
                if time.monotonic() >= self._next_look:
                    self._look_at_files()
                if time.monotonic() >= self._next_values:
                    self._look_at_values()
            elif kind == "ended":
                what.ended = True
                if what.query.exception() is not None:
                    self._failed = what
                    return "failure"
            self._end_read_sockets()
        return "query.stop()" if any(each.endless for each in self._queries) else "end of input"

    def _over(self, still_open: list[_Watched]) -> tuple[str | None, float]:
        """Return why the run is over by its limits, or None and the seconds until `idle` may say so."""
        limit, idle = self._max_batches, self._idle
        if limit is not None and all(each.done.batches >= limit for each in still_open):
            return "max_batches are through", 0
        if idle is None:
            return None, math.inf
        left = self._last_row + idle - time.monotonic()
        if left <= 0:
            if any(asking.looks_for_first_rows(each.query) for each in self._queries):
                return None, _waiting.LOOK_EVERY
            if any(each.has_rows_on_their_way() for each in self._queries):
                self._last_row, left = time.monotonic(), idle
        return (f"{idle:g} s without a row" if left <= 0 else None), left

    def _end_read_sockets(self) -> None:
        """End the queries whose sockets have closed: Spark would go on waiting for them."""
        for each in self._queries:
            if each.sockets and not plan.is_being_read(asking.session(each.query), each.sockets):
                each.sockets, each.endless = [], False
                _waiting.in_thread("last-lines", partial(asking.finish_input, each.query))

    def _look_at_files(self) -> None:
        """Warn of what the queries' file sources lose or hide; Spark says nothing of it."""
        self._next_look = time.monotonic() + _LOOK_AT_FILES
        for each in self._queries:
            logs = each.logs()
            if logs is None or (last := each.query.lastProgress) is None:
                continue
            sources = [source.description for source in last.sources]
            late = bool(each.done.late_rows)
            for line in findings(logs, sources, each.passed_over, late=late):
                if line not in self._warnings:
                    self._warnings[line] = each.name
                    _log.warning("query %s: %s", each.name, line)

    def _look_at_values(self) -> None:
        """Say what Spark could not read of the queries' files, as soon as it is seen."""
        self._next_values = time.monotonic() + _LOOK_AT_FILES
        for each in self._queries:
            for verdict in each.look_at_values():
                _log.warning("query %s: %s", each.name, verdict)

    def _let_batches_commit(self, deadline: float) -> None:
        """Stop each query once its batch in flight has committed, or at the deadline."""
        before = {each: asking.last_batch(each.query) for each in self._queries if not each.ended}
        while before:
            for each, last in list(before.items()):
                through = not asking.in_batch(each.query) or asking.last_batch(each.query) != last
                if through or time.monotonic() >= deadline:
                    del before[each]
                    each.begin_stop()
            if before:
                kind, what = self._inbox.get(timeout=0.05)
                if kind == "progress":
                    self._record(what)
        self._stop_all()  # waited for here, while signals still go to the inbox

    def _stop_all(self) -> list[_Watched]:
        """Stop all queries side by side, and return those that did not stop."""
        for each in self._queries:
            each.begin_stop()
        return [each for each in self._queries if not each.has_stopped()]

    def _record(self, progress: StreamingQueryProgress) -> None:
        each = self._by_run_id[str(progress.runId)]
        if each.done.has(progress):
            return
        progress = each.with_waiting(progress)
        each.done = each.done.with_batch(progress)
        each.records.append(record(progress))
        each.samples.add(progress)
        if progress.numInputRows > 0:
            self._last_row = time.monotonic()
        if each.sockets is None:
            each.sockets = plan.sockets_in(" ".join(source.description for source in progress.sources))
        asking.bring_printed(each.query)
        if self._on_batch is not None:
            self._on_batch(progress)

    def _catch_up(self) -> None:
        """Record the batches whose events did not come: from before the run, or when their query ended."""
        for each in self._queries:
            for progress in each.query.recentProgress:
                if progress.durationMs.get("addBatch") is not None:
                    self._record(progress)

    def _summarise(self, ended_by: str) -> RunSummary:
        """Return the summary, or raise the failure of the query that ended the run, or else of any other."""
        summary = RunSummary(
            ended_by,
            time.monotonic() - self._inbox.started,
            tuple(each.summary() for each in self._queries),
            tuple(f"query {name}: {line}" for line, name in self._warnings.items()),
        )
        failed = [(each, error) for each in self._queries if (error := each.query.exception()) is not None]
        if not failed and ended_by == shutdown.BY_ITSELF:
            names = ", ".join(each.name for each in self._queries)
            raise QueryFailed(f"query {names}", shutdown.ENDED, summary)
        if not failed:
            return summary
        (first, cause), *others = sorted(failed, key=lambda found: found[0] is not self._failed)
        for each, error in others:
            _log.error("query %s failed, too: %s", each.name, errors.innermost_cause(error))
        raise first.failure(cause, summary) from cause


def run(
    *queries: StreamingQuery,
    run_for: float | None = None,
    idle: float | None = None,
    max_batches: int | None = None,
    stop_file: str | Path | None = None,
    grace: float = 30,
    on_batch: Callable[[StreamingQueryProgress], None] | None = None,
    drain: bool = False,
    show: str | None = None,
    ui: int | None = None,
    record: str | Path | None = None,
    summary_json: str | Path | None = None,
) -> RunSummary:
    """Wait for queries and end them well; call it in the main thread, where signals arrive.

    It ends at the end of input (every query has ended, as with `availableNow`, or its socket's peer has
    closed and all lines are through), after `run_for` or `idle` seconds, after `max_batches`, when the stop
    file appears, and on SIGINT or SIGTERM. The batch in flight is committed first; one that begins while the
    query is being stopped may be cut, and is replayed whole when the query is started on its checkpoint.
    Whatever happens, no query of the run is active afterwards (but one whose batch function hangs, which is
    an error), and the signal handlers are as before. What file sources lose or hide in silence (see
    `checkpoints.losses`) is logged as a warning, and is in the summary; on Spark Connect the files are the
    server's, and are not looked at.

    Args:
        *queries: running queries of one session.
        run_for: seconds after which the run ends.
        idle: seconds without an input row after which the run ends.
        max_batches: the run ends when each query has committed this number of batches since its start, or
            one more, as Spark begins the next batch by itself.
        stop_file: a path; the run ends within about half a second after a file appears there.
        grace: seconds that the batch in flight may take to commit before it is cut.
        on_batch: called in this thread after each batch with Spark's own progress record.
        drain: at the end of input, run one more batch of each query, which reads nothing and closes every
            window: what waited for the watermark is written. The input has ended then: `start` refuses the
            checkpoint afterwards, unless it is rewound.
        show: `terminal`: show on standard error what the queries do, and what that means; `notebook`: the
            same and the results beneath the cell (`monitoring.live` starts the query, too).
        ui: show the same on a page of this machine, at this port; 0 for a free one.
        record: a file that gets each batch as a line of JSON; `sparkstream watch FILE` shows it.
        summary_json: a file to which the summary is appended as a line of JSON, also after a failure: the
            fields of `RunSummary`, and `error`, the failure's message or null.

    Returns:
        What was done, query by query.

    Raises:
        QueryFailed: a query failed; the others have been stopped. It carries the summary.
        InputUnavailable: a query's socket could not be connected to.
        DryRun: a query was started with `dry_run=True`; the others have been stopped.
        CheckpointDamaged: a query could not go on from its checkpoint; the message names the file.
        InvalidInputError: no queries, a time or number that is not positive, or `drain` for a query that
            `start` has not started with a checkpoint, or on a Spark Connect server elsewhere.

    Examples:
        In a session::

            query = start(sales, sinks.console(), name="sales", availableNow=True)
            print(run(query))  # ends with the input, or cleanly on Ctrl-C and SIGTERM
    """
    if not queries:
        raise InvalidInputError("run() needs at least one query: run(start(frame, sink, name='totals'))")
    with _summary_kept(summary_json) as keep, ExitStack() as faces:
        try:
            with _stopped_if_refused(queries):
                planned = [query for query in queries if isinstance(query, Planned)]
                check(run, locals() | ({"queries": ()} if planned else {}))
                _check_limits(idle, max_batches, grace)
                inbox = _waiting.Inbox(run_for=run_for, stop_file=stop_file)
                if planned:
                    passed = "a dry run: all checks have passed, and nothing is started"
                    raise DryRun("\n".join([passed, *map(str, planned)]))
                if summary_json is not None:
                    check_writable("the summary", summary_json)
                drains = [_drain_of(query) for query in queries] if drain else []
                told = faces.enter_context(_shown(queries, on_batch, inbox, show=show, ui=ui, record=record))
            summary = _Run(queries, inbox, told, idle=idle, max_batches=max_batches).to_end(grace)
            if summary.ended_by == "end of input":
                summary = _drained(summary, drains, told, grace)
            return keep(summary)
        except (Py4JError, OSError) as err:
            if not shutdown.jvm_has_ended(err):
                raise
            raise QueryFailed("run", "Spark's JVM ended before the run did") from err


@contextmanager
def _summary_kept(path: str | Path | None) -> Iterator[Callable[[RunSummary], RunSummary]]:
    """Yield what appends the summary to a file, if one is given; that of a run that fails is appended too."""

    def keep(summary: Any, error: str | None = None) -> Any:
        if path is not None:
            try:
                with Path(path).open("a", encoding="utf-8") as file:
                    file.write(as_json({**(vars(summary) if summary else {}), "error": error}) + "\n")
            except OSError as err:  # the run has ended as it has
                _log.warning("the summary is not in %s: %s", path, err)
        return summary

    try:
        yield keep
    except QueryFailed as err:
        keep(err.summary, str(err))
        raise


@contextmanager
def _stopped_if_refused(queries: tuple[StreamingQuery, ...]) -> Iterator[None]:
    """Stop the queries if the block fails, so that none runs on with nobody to end it."""
    try:
        yield
    except BaseException:
        for query in queries:
            if is_a("StreamingQuery", query):  # and not a session, say, which can be stopped too
                query.stop()
        raise


def _check_limits(idle: float | None, max_batches: int | None, grace: float) -> None:
    if idle is not None and not idle > 0:
        raise InvalidInputError(f"idle must be a positive number of seconds, not {idle}")
    if not grace >= 0:
        raise InvalidInputError(f"grace must be a number of seconds, not {grace}")
    if max_batches is not None and max_batches < 1:
        raise InvalidInputError(f"max_batches must be a whole number from 1, not {max_batches}")


@contextmanager
def _shown(
    queries: tuple[StreamingQuery, ...], on_batch: _OnBatch | None, inbox: _waiting.Inbox, **asked: Any
) -> Iterator[_OnBatch | None]:
    """Open the faces that were asked for; yield what to call with each batch."""
    if all(value is None for value in asked.values()):
        yield on_batch
        return
    from sparkstream_kit.monitoring import watching

    with watching(queries, stop=partial(inbox.post, "stop"), **asked) as shown:

        def told(progress: StreamingQueryProgress) -> None:
            shown(progress)
            if on_batch is not None:
                on_batch(progress)

        yield told


def _drain_of(query: StreamingQuery) -> asking.Drain:
    known = asking.started(query)
    if known.drain is not None and known.location is not None and known.location.is_in_reach:
        return known.drain
    raise InvalidInputError(
        f"run(drain=True): query {query.name or query.id} has no checkpoint that can be written from "
        "here, for its last batch; give start(…, checkpoint='folder')"
    )


def _drained(
    summary: RunSummary, drains: list[asking.Drain], on_batch: _OnBatch | None, grace: float
) -> RunSummary:
    """Run the last batch of each query that still holds something, and add it to the summary."""
    for number, drain in enumerate(drains):
        query, done = drain(), summary.queries[number]
        if query is not None:
            last = _Run((query,), _waiting.Inbox(), on_batch, before=done).to_end(grace)
            done, seconds = last.queries[0], summary.seconds + last.seconds
            warnings = tuple(dict.fromkeys([*summary.warnings, *last.warnings]))
            summary = replace(summary, ended_by=last.ended_by, seconds=seconds, warnings=warnings)
        is_through = summary.ended_by == "end of input"
        if is_through and done.waiting_rows:
            done = replace(done, waiting_rows=0)  # no row waits any more; its state may keep others
        queries = summary.queries
        summary = replace(summary, queries=(*queries[:number], done, *queries[number + 1 :]))
        if not is_through:
            break
    return summary
