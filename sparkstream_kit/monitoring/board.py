"""What the queries of a run have done and do now: one record of a batch, one board, many faces."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit._late import drops
from sparkstream_kit._spark import queries as asking
from sparkstream_kit.progress import QuerySummary
from sparkstream_kit.sources import samples
from sparkstream_kit.verdicts import (
    LEVELS,
    Record,
    Verdict,
    of_late,
    of_rules,
    of_values,
    record,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspark.sql.streaming.listener import StateOperatorProgress, StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["SHOWN", "Batch", "Board", "Picture"]

SHOWN = 300  # batches of a query that a face can show
_SILENT = 10.0  # seconds without a batch, beyond what its trigger asks for, that are worth a word
_FIRST = 10.0  # seconds that a first batch may take, which starts much
# The parts of a batch by Spark's names, folded to four that people know.
_PLANNING = ("queryPlanning", "getBatch")
_LOG_WRITES = ("walCommit", "commitBatch", "commitOffsets")
_LOOKING = ("latestOffset",)


@dataclass(frozen=True)
class Batch(Record):
    """One batch, as faces show it: a `Record` with what charts need.

    Attributes:
        work: seconds in which its rows were read, computed and written.
        planning: seconds in which Spark planned that.
        log_writes: seconds in which Spark wrote the checkpoint's logs.
        looking: seconds in which Spark looked for new input.
        rows_out: rows written; None where the sink does not say.
        state_bytes: the memory that its state takes; None without state.
        late: rows or groups that it dropped as late; None without a watermark.
        bad: bad rows that `quarantine` found in it; None where the query does not use that.
    """

    work: float = 0.0
    planning: float = 0.0
    log_writes: float = 0.0
    looking: float = 0.0
    rows_out: int | None = None
    state_bytes: int | None = None
    late: int | None = None
    bad: int | None = None

    @property
    def lag(self) -> float | None:
        """Seconds from the watermark to the batch's begin; None without a watermark."""
        return None if self.watermark is None else (self.at - self.watermark).total_seconds()


@dataclass(frozen=True)
class Picture:
    """A query at one moment.

    Attributes:
        name: the query's name.
        run_id: Spark's id of this start of the query.
        active: whether the run goes on.
        interval: seconds from one batch to the next that its trigger asks for; None without one.
        summary: what it has done in this run.
        batches: the last ones, at most 300, in order.
        verdicts: what they mean, the worst first.
        since: when it was started.
    """

    name: str
    run_id: str
    active: bool
    interval: float | None
    summary: QuerySummary
    batches: tuple[Batch, ...]
    verdicts: tuple[Verdict, ...]
    since: datetime

    @property
    def level(self) -> str:
        """How the query does: `bad`, `warn` or `ok`, as its worst verdict."""
        return self.verdicts[0].level if self.verdicts else "ok"


class Board:
    """Keeps the last batches of each query; one thread adds to it, and any number of others look at it.

    Attributes:
        problem: why no more batches are added, if that has failed.
        live: whether its batches are added as they come; of a recording that is still being read nothing is
            said of how long ago the last one was.
    """

    def __init__(self) -> None:
        self._queries: dict[str, _Query] = {}
        self._changed = threading.Condition()
        self._version = 0
        self._ended = False
        self.problem = ""
        self.live = True

    def watch(self, queries: Iterable[StreamingQuery]) -> None:
        """Add queries, before their first batch."""
        for query in queries:
            known = asking.started(query)
            by = drops(known.frame)
            summary = QuerySummary(query.name or query.id, query.id, mode=known.mode, drops=by)
            self.expect(str(query.runId), summary, known.interval, ends=known.ends)
            self._queries[str(query.runId)].query = query

    def expect(
        self,
        run_id: str,
        summary: QuerySummary,
        interval: float | None,
        since: datetime | None = None,
        *,
        ends: bool = False,
    ) -> None:
        """Add a query, before its first batch.

        Args:
            run_id: Spark's id of this start of the query.
            summary: what it has done before.
            interval: seconds from one batch to the next that its trigger asks for; None without one.
            since: when it was started; by default now.
            ends: whether it ends by itself, as with `availableNow`.
        """
        with self._changed:
            self._queries[run_id] = _Query(summary, interval, since or datetime.now(UTC), ends)
            self._tell()

    def clear(self) -> None:
        """Forget what was, for another run."""
        with self._changed:
            self._queries.clear()
            self._ended = False
            self._tell()

    def add(self, progress: StreamingQueryProgress) -> None:
        """Add a batch, of a query that nobody has said to expect, too.

        A query that was started once more, as for its last batch, is the same one.
        """
        check(Board.add, locals())
        run_id, query_id = str(progress.runId), str(progress.id)
        with self._changed:
            if run_id not in self._queries:
                same = (key for key, each in self._queries.items() if each.summary.query_id == query_id)
                run_id = next(same, run_id)
            if run_id not in self._queries:
                summary = QuerySummary(progress.name or query_id, query_id)
                self._queries[run_id] = _Query(summary, None, datetime.now(UTC), True)
            if self._queries[run_id].add(progress):
                self._tell()

    def end(self) -> None:
        """Say that no more batches come."""
        with self._changed:
            self._ended = True
            self._tell()

    @property
    def ended(self) -> bool:
        """Whether no more batches come."""
        return self._ended

    def wait(self, seen: int, limit: float) -> int:
        """Wait until there is something new, at most so many seconds.

        Args:
            seen: what this function returned last; -1 before.
            limit: seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version > seen, limit)
            return self._version

    def pictures(self, now: datetime | None = None) -> list[Picture]:
        """Return each query as it is now, the one with the worst verdict first.

        Args:
            now: the moment that they are shown at; by default the clock's.
        """
        with self._changed:
            kept = [
                (run_id, each, each.summary, tuple(each.batches)) for run_id, each in self._queries.items()
            ]
            ended = self._ended
        moment = now or datetime.now(UTC)
        made = []
        for run_id, each, summary, batches in kept:
            query, interval, since = each.query, each.interval, each.since
            silent = None if ended or not self.live else _silent(batches, since, interval, moment)
            if query is not None and silent and not asking.is_active(query):
                silent = None  # its input has ended, and not that of the others
            summary = replace(summary, **samples.seen(query))  # noqa: PLW2901 - it, and more of it
            said = [
                *verdicts(batches, interval=interval, ends=each.ends, mode=summary.mode),
                *of_late(summary),
                *of_rules(summary.broken),
                *of_values(summary),
            ]
            said = sorted([silent, *said] if silent else said, key=lambda one: LEVELS.index(one.level))
            made.append(
                Picture(summary.name, run_id, not ended, interval, summary, batches, tuple(said), since)
            )
        return sorted(made, key=lambda each: LEVELS.index(each.level))

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()


class _Query:
    """What the board keeps of a query."""

    def __init__(self, summary: QuerySummary, interval: float | None, since: datetime, ends: bool) -> None:
        self.summary = summary
        self.ends = ends
        self.interval = interval
        self.since = since
        self.query: StreamingQuery | None = None  # not of a recording
        self.batches: deque[Batch] = deque(maxlen=SHOWN)

    def add(self, progress: StreamingQueryProgress) -> bool:
        """Add a batch, and say whether it is a new one."""
        before, self.summary = self.summary, self.summary.with_batch(progress)
        if self.summary is before:
            return False
        times, out = progress.durationMs, progress.sink.numOutputRows
        self.batches.append(
            Batch(
                **vars(record(progress)),
                work=times.get("addBatch", 0) / 1000,
                planning=sum(times.get(part, 0) for part in _PLANNING) / 1000,
                log_writes=sum(times.get(part, 0) for part in _LOG_WRITES) / 1000,
                looking=sum(times.get(part, 0) for part in _LOOKING) / 1000,
                rows_out=out if out >= 0 else None,
                state_bytes=_bytes(progress.stateOperators),
                late=_more(before.late_rows, self.summary.late_rows),
                bad=_more(before.bad_rows, self.summary.bad_rows),
            )
        )
        return True


def _bytes(states: Sequence[StateOperatorProgress]) -> int | None:
    """Return the memory of a state; None without one."""
    return sum(each.memoryUsedBytes // asking.times_computed(each) for each in states) if states else None


def _more(before: int | None, now: int | None) -> int | None:
    return None if now is None else now - (before or 0)


def _silent(
    batches: tuple[Batch, ...], since: datetime, interval: float | None, now: datetime
) -> Verdict | None:
    """Say that a query has had no batch for long, although it runs."""
    last = batches[-1] if batches else None
    quiet = (now - (last.at if last else since)).total_seconds() - (last.seconds if last else 0)
    if quiet <= _SILENT + 2 * max(interval or 0, last.seconds if last else _FIRST):
        return None
    return Verdict("warn", f"no batch for {quiet:,.0f} s: no new rows have come, or a batch takes long")
