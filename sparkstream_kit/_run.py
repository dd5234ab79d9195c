"""One call of `run`: its queries, what they have done, and how they end."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit import _waiting, errors
from sparkstream_kit._spark import query as asking
from sparkstream_kit._spark import shutdown, sockets
from sparkstream_kit._spark.batch import close_ended
from sparkstream_kit.checkpoints import losses, topics
from sparkstream_kit.checkpoints.problems import damage
from sparkstream_kit.errors import CheckpointDamaged, InputUnavailable, InvalidInputError, QueryFailed
from sparkstream_kit.progress import QuerySummary, RunSummary
from sparkstream_kit.verdicts import KEPT, Record, Verdict, of_rules, record, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["Limits", "Run"]

_log = logging.getLogger(__name__)

# The exit codes of a clean stop that did not succeed; a JVM that Python has started is deaf to SIGINT.
_CUT = {"SIGINT": 130, "SIGTERM": 143, "a signal to the JVM": 143}
_STOP_LIMIT = 5.0  # seconds that Spark may take to stop a query
_LOOK_AT_FILES = 60.0  # seconds from one look at the input files to the next


@dataclass(frozen=True)
class Limits:
    """What ends a run and can be told from its batches alone."""

    idle: float | None
    max_batches: int | None

    def __post_init__(self) -> None:
        if self.max_batches is not None and self.max_batches < 1:
            raise InvalidInputError(f"max_batches must be a whole number from 1, not {self.max_batches}")


class Run:
    """One call of `run`: its queries and what they have done."""

    def __init__(
        self,
        queries: tuple[StreamingQuery, ...],
        inbox: _waiting.Inbox,
        on_batch: Callable[[StreamingQueryProgress], None] | None,
        limits: Limits,
        before: QuerySummary | None = None,
    ) -> None:
        self._inbox = inbox
        self._on_batch = on_batch
        self._limits = limits
        self._queries = {str(query.runId): query for query in queries}
        self._names = {run_id: query.name or query.id for run_id, query in self._queries.items()}
        self._done = {
            run_id: before or QuerySummary(self._names[run_id], query.id, mode=asking.mode(query))
            for run_id, query in self._queries.items()
        }
        self._records = {run_id: deque[Record](maxlen=KEPT) for run_id in self._queries}
        self._last_row = self._inbox.started
        self._warnings: dict[str, str] = {}  # what was found, and the query that it was found at
        self._passed_over: dict[str, set[str]] = {run_id: set() for run_id in self._queries}
        self._next_look = self._inbox.started
        self._ended: set[str] = set()
        self._sockets: dict[str, list[tuple[str, int]]] = {}  # of each query with a batch through

    def to_end(self, grace: float) -> RunSummary:
        """Wait, let the batch in flight commit, stop every query, and say what was done."""
        manager = asking.manager(next(iter(self._queries.values())))
        listener = asking.ProgressTo(self._inbox, set(self._queries))
        try:
            with shutdown.jvm_waits_for(self._inbox, grace + 10), _waiting.signals_posted_to(self._inbox):
                if manager is not None:
                    asking.listen(manager, listener)
                # Count the batches from before the listener first: once a later one is counted, earlier ones
                # look like duplicates.
                self._catch_up()
                for run_id, query in self._queries.items():
                    _waiting.in_thread("await", partial(self._await, run_id, query))
                ended_by = self._wait()
                self._drain(time.monotonic() + grace)
        finally:
            stuck = {self._names[run_id]: run_id for run_id in self._names if not self._stop(run_id)}
            if manager is not None:
                asking.stop_listening(manager, listener)
        while (post := self._inbox.get(timeout=0))[0] != "look":
            if post[0] == "progress":  # of more batches than Spark remembers, if `on_batch` was slow
                self._record(post[1])
        self._catch_up()
        self._look_at_files()
        for query in self._queries.values():
            asking.bring_printed(query)  # of a batch that failed
        close_ended()
        try:
            summary = self._summarise(ended_by)
        finally:
            for query in self._queries.values():
                asking.forget(query)
        if stuck:
            why = dict.fromkeys(asking.why_it_runs(self._queries[run_id]) for run_id in stuck.values())
            raise QueryFailed(
                f"query {', '.join(stuck)}",
                f"it did not stop, because {' and '.join(why)}; it ends with this process",
                summary,
            )
        return summary

    def _await(self, run_id: str, query: StreamingQuery) -> None:
        # The error is asked of the query itself, in `_summarise`.
        with suppress(Exception):
            query.awaitTermination()
        self._inbox.post("ended", run_id)

    def _wait(self) -> str:
        """Return why the run ends."""
        open_queries = set(self._queries)
        while open_queries:
            reason, wake_after = self._over(open_queries)
            if reason:
                return reason
            if any(self._sockets.values()):
                wake_after = min(_waiting.LOOK_EVERY, wake_after or _waiting.LOOK_EVERY)
            kind, what = self._inbox.next(wake_after=wake_after)
            if kind == "stop":
                return str(what)
            if kind == "progress":
                self._record(what)
                if time.monotonic() >= self._next_look:
                    self._look_at_files()
            elif kind == "ended":
                open_queries.discard(what)
                self._ended.add(what)
                if self._queries[what].exception() is not None:
                    return "failure"
            self._end_read_sockets()
        return "end of input"

    def _over(self, open_queries: set[str]) -> tuple[str | None, float | None]:
        """Return why the run is over by its limits, or None and the seconds until `idle` may say so."""
        limit, idle = self._limits.max_batches, self._limits.idle
        if limit is not None and all(self._done[run_id].batches >= limit for run_id in open_queries):
            return "max_batches are through", None
        if idle is None:
            return None, None
        left = self._last_row + idle - time.monotonic()
        if left <= 0:
            if any(asking.looks_for_first_rows(query) for query in self._queries.values()):
                return None, _waiting.LOOK_EVERY
            if any(self._has_rows_on_their_way(query) for query in self._queries.values()):
                self._last_row, left = time.monotonic(), idle
        return (f"{idle:g} s without a row" if left <= 0 else None), left

    def _end_read_sockets(self) -> None:
        """End the queries whose sockets have closed: Spark would go on waiting for them."""
        for run_id, addresses in self._sockets.items():
            if addresses and not asking.is_being_read(self._queries[run_id], addresses):
                self._sockets[run_id] = []
                _waiting.in_thread("last-lines", partial(asking.finish_input, self._queries[run_id]))

    def _has_rows_on_their_way(self, query: StreamingQuery) -> bool:
        """Say whether a batch is in flight, or through but not recorded yet: both can outlast `idle`."""
        last = query.lastProgress
        seen = self._done[str(query.runId)].last_batch
        recorded = last is None or last.numInputRows == 0 or (seen is not None and last.batchId <= seen)
        return not recorded or asking.in_batch(query)

    def _look_at_files(self) -> None:
        """Warn of what the queries' file sources lose or hide; Spark says nothing of it."""
        self._next_look = time.monotonic() + _LOOK_AT_FILES
        for run_id, query in self._queries.items():
            checkpoint, last = asking.checkpoint(query), query.lastProgress
            if checkpoint is None or last is None:
                continue
            sources = [source.description for source in last.sources]
            for line in losses.findings(checkpoint, sources, self._passed_over[run_id]):
                if line not in self._warnings:
                    self._warnings[line] = run_id
                    _log.warning("query %s: %s", self._names[run_id], line)

    def _drain(self, deadline: float) -> None:
        """Stop each query once its batch in flight has committed, or at the deadline."""
        before = {
            run_id: asking.last_batch(query)
            for run_id, query in self._queries.items()
            if run_id not in self._ended
        }
        while before:
            for run_id, last in list(before.items()):
                query = self._queries[run_id]
                through = not asking.in_batch(query) or asking.last_batch(query) != last
                if through or time.monotonic() >= deadline:
                    del before[run_id]
                    self._stop(run_id)
            if before:
                kind, what = self._inbox.get(timeout=0.05)
                if kind == "progress":
                    self._record(what)

    def _stop(self, run_id: str) -> bool:
        """Stop a query and say whether it has; Spark waits for as long as a Python function of it runs."""
        if run_id in self._ended:
            return True
        query = self._queries[run_id]

        def stop() -> None:
            with suppress(Exception):  # Spark's own limit of time, or no JVM: both show below
                query.stop()

        stopping = _waiting.in_thread("stop", stop)
        stopping.join(_STOP_LIMIT)
        if stopping.is_alive():
            return False
        with suppress(Exception):  # with the JVM, or the session, the query has gone
            return not query.isActive
        return True

    def _record(self, progress: StreamingQueryProgress) -> None:
        run_id = str(progress.runId)
        before, self._done[run_id] = self._done[run_id], self._done[run_id].with_batch(progress)
        if self._done[run_id] is before:
            return
        self._records[run_id].append(record(progress))
        if progress.numInputRows > 0:
            self._last_row = time.monotonic()
        if run_id not in self._sockets:
            # A socket is connected to in the first batch: before that there is no reader to miss.
            self._sockets[run_id] = sockets.addresses(self._queries[run_id], progress)
        asking.bring_printed(self._queries[run_id])
        if self._on_batch is not None:
            self._on_batch(progress)

    def _catch_up(self) -> None:
        """Record the batches whose events did not come: from before the run, or when their query ended."""
        for query in self._queries.values():
            for progress in query.recentProgress:
                if progress.durationMs.get("addBatch") is not None:
                    self._record(progress)

    def _summarise(self, ended_by: str) -> RunSummary:
        """Return the summary, or raise the failure of the first query that failed."""
        summary = RunSummary(
            ended_by,
            time.monotonic() - self._inbox.started,
            tuple(replace(done, verdicts=self._verdicts(each, done)) for each, done in self._done.items()),
            tuple(f"query {self._names[run_id]}: {line}" for line, run_id in self._warnings.items()),
        )
        for run_id, query in self._queries.items():
            error = query.exception()
            if error is None:
                continue
            name, cause = f"query {self._names[run_id]}", errors.innermost_cause(error)
            if said := sockets.unavailable(query, f"{cause}\n{error}"):
                raise InputUnavailable(name, said, summary) from error
            if damaged := self._damaged(run_id):
                raise CheckpointDamaged(name, f"{damaged} (Spark: {cause})", summary) from error
            lost = topics.what_is_lost(asking.frame(query), asking.checkpoint(query), f"{cause}\n{error}")
            failed = QueryFailed(name, lost or cause, summary)
            # The signal may have hit a process that Spark had started for the batch.
            failed.exit_code = _CUT.get(ended_by, failed.exit_code)
            raise failed from error
        return summary

    def _verdicts(self, run_id: str, done: QuerySummary) -> tuple[Verdict, ...]:
        """Return what the last batches of a query mean."""
        interval = asking.interval(self._queries[run_id])
        return (*verdicts(list(self._records[run_id]), interval=interval), *of_rules(done.broken))

    def _damaged(self, run_id: str) -> str | None:
        """Say which file of a checkpoint is damaged, where no batch has come through since the start.

        The start looks at what is quickly read; what else is wrong, Spark says in words of its own.
        """
        checkpoint = None if self._done[run_id].batches else asking.checkpoint(self._queries[run_id])
        return None if checkpoint is None else damage(checkpoint, whole=True)
