"""`run`: wait for any number of queries, and end them well."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError

from sparkstream_kit import _waiting
from sparkstream_kit._arguments import check, is_a
from sparkstream_kit._dry_run import Planned
from sparkstream_kit._run import Run
from sparkstream_kit._spark import queries as asking
from sparkstream_kit._spark import shutdown
from sparkstream_kit.errors import DryRun, InvalidInputError, QueryFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.progress import RunSummary

    _OnBatch = Callable[[StreamingQueryProgress], None]

__all__ = ["run"]


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
) -> RunSummary:
    """Wait for queries and end them well; call it in the main thread, where signals arrive.

    It ends at the end of input (every query has ended, as with `availableNow`, or its socket's peer has
    closed and all lines are through), after `run_for` or `idle` seconds, after `max_batches`, when the stop
    file appears, and on SIGINT or SIGTERM. The batch in flight is committed first; one that begins while the
    query is being stopped may be cut, and comes again whole when the query is started on its checkpoint.
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

    Returns:
        What was done, query by query.

    Raises:
        QueryFailed: a query failed; the others have been stopped. It carries the summary.
        InputUnavailable: a query's socket could not be connected to.
        DryRun: a query was started with `dry_run=True`; the others have been stopped.
        CheckpointDamaged: a query could not go on from its checkpoint; the message names the file.
        InvalidInputError: no queries, a time or number that is not positive, or `drain` for a query that
            `start` has not started with a checkpoint, or on a Spark Connect server elsewhere.
    """
    if not queries:
        raise InvalidInputError("run() needs at least one query: run(start(frame, sink, name='totals'))")
    try:
        with ExitStack() as faces:
            with _stopped_if_refused(queries):
                planned = [query for query in queries if isinstance(query, Planned)]
                check(run, locals() | ({"queries": ()} if planned else {}))
                _check_limits(idle, max_batches, grace)
                inbox = _waiting.Inbox(run_for=run_for, stop_file=stop_file)
                if planned:
                    passed = "a dry run: all checks have passed, and nothing is started"
                    raise DryRun("\n".join([passed, *map(str, planned)]))
                drains = [_drain_of(query) for query in queries] if drain else []
                shown = _shown(queries, on_batch, inbox, show=show, ui=ui, record=record)
                told = faces.enter_context(shown)
            summary = Run(queries, inbox, told, idle=idle, max_batches=max_batches).to_end(grace)
            if summary.ended_by != "end of input":
                return summary
            return _drained(summary, drains, told, grace)
    except (Py4JError, OSError) as err:
        if not shutdown.jvm_has_ended(err):
            raise
        raise QueryFailed("run", "Spark's JVM ended before the run did") from err


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
    from sparkstream_kit.monitoring import faces

    with faces.watching(queries, stop=partial(inbox.post, "stop"), **asked) as shown:

        def told(progress: StreamingQueryProgress) -> None:
            shown(progress)
            if on_batch is not None:
                on_batch(progress)

        yield told


def _drain_of(query: StreamingQuery) -> asking.Drain:
    if found := asking.drain(query):
        return found
    raise InvalidInputError(
        f"run(drain=True): query {query.name or query.id} has no checkpoint that can be written from "
        "here, for its last batch; give start(…, checkpoint='folder')"
    )


def _drained(
    summary: RunSummary,
    drains: list[asking.Drain],
    on_batch: _OnBatch | None,
    grace: float,
) -> RunSummary:
    """Run the last batch of each query that still holds something, and add it to the summary."""
    for number, drain in enumerate(drains):
        if (query := drain()) is None:
            summary = _with_nothing_waiting(summary, number)
            continue
        inbox = _waiting.Inbox()
        done = summary.queries[number]
        last = Run((query,), inbox, on_batch, before=done).to_end(grace)
        summary = replace(
            last,
            seconds=summary.seconds + last.seconds,
            queries=(*summary.queries[:number], *last.queries, *summary.queries[number + 1 :]),
            warnings=tuple(dict.fromkeys([*summary.warnings, *last.warnings])),
        )
        if last.ended_by != "end of input":
            break
        summary = _with_nothing_waiting(summary, number)
    return summary


def _with_nothing_waiting(summary: RunSummary, number: int) -> RunSummary:
    """Return the summary of a run after which no row of a query waits: its state may keep others."""
    queries = list(summary.queries)
    if queries[number].waiting_rows:
        queries[number] = replace(queries[number], waiting_rows=0)
    return replace(summary, queries=tuple(queries))
