"""Extra: show, copy, set back or drain a checkpoint, or carry it over to a changed query.

Users call `show`, `clone` and `rewind` as `sparkstream_kit.checkpoints.show` and so on,
or by the command `sparkstream checkpoint`. `start` calls `evolve` for `continues=` and
`compared` for `dry_run="compare"`; `run(…, drain=True)` calls `draining`, for a last
batch of each query that closes every window. A running stream needs none of this.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sparkstream_kit.errors import InvalidInputError, QueryFailed, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit._internal.spark.queries import Drain
    from sparkstream_kit.checkpoints.guard import StartingQuery
    from sparkstream_kit.checkpoints.logs import Logs
    from sparkstream_kit.checkpoints.operate.shadow import Shadow
    from sparkstream_kit.progress import RunSummary
    from sparkstream_kit.sinks.base import Sink


def compared(
    query: StartingQuery, sink: Sink, dry_run: str, before: str | Path | None
) -> Shadow:
    """Compare a changed query with what the query of the checkpoint `before` has written.

    Raises:
        InvalidInputError: `dry_run` is not "compare", or there is no checkpoint.
    """
    from sparkstream_kit.checkpoints.operate.shadow import shadow

    reject_unknown("dry run", [dry_run], ["compare"])
    if before is None:
        raise InvalidInputError(
            "start(): dry_run='compare' needs a checkpoint; give that of before"
        )
    return shadow(
        query.frame,
        sink,
        checkpoint=before,
        name=query.name,
        mode=query.mode,
        moved=query.moved,
    )


def draining(queries: Iterable[StreamingQuery]) -> Callable[..., RunSummary]:
    """Return a function that runs each query's last batch, and adds it to their run's summary.

    Raises:
        InvalidInputError: a query has no checkpoint that this process can write to.
    """
    from sparkstream_kit._internal.spark.queries import start_facts

    drains: list[Drain] = []
    by_run = {query.runId: query for query in queries}
    for query in by_run.values():
        facts = start_facts(query)
        place = facts.location
        if facts.drain is None or place is None or not place.is_in_reach:
            raise InvalidInputError(
                f"run(drain=True): query {query.name or query.id} has no checkpoint"
                " that can be written from here, for its last batch; give start(…,"
                " checkpoint='folder')"
            )
        drains.append(facts.drain)
    return partial(_drained, drains)


def _drained(
    drains: list[Drain], summary: RunSummary, make_run: Callable[..., Any], grace: float
) -> RunSummary:
    """Run the last batch of each query that may have windows to close, and add it to the summary.

    Args:
        drains: for each query, in the order of the summary, the function that starts
            its last batch.
        summary: the summary so far.
        make_run: makes the run of the last batch, which the limits of the whole run end,
            too.
        grace: as for `run`.
    """
    for number, drain in enumerate(drains):
        query = drain()
        if query is not None:
            try:
                last = make_run((query,), before=summary.queries[number]).to_end(grace)
            except QueryFailed as err:
                if err.summary is not None:
                    err.summary = _joined(summary, err.summary, number)  # type: ignore[arg-type]
                raise
            summary = _joined(summary, last, number)
        if summary.ended_by != "end of input":
            break
        # No row waits for the watermark any more; the state may still keep rows for
        # other purposes.
        done = summary.queries[number]
        if done.waiting_rows:
            done = replace(done, waiting_rows=0)
            summary = _joined(summary, replace(summary, queries=(done,)), number)
    return summary


def _joined(summary: RunSummary, last: RunSummary, number: int) -> RunSummary:
    """Return a run's summary after query `number` has run its last batch, told by `last`."""
    queries = (*summary.queries[:number], *last.queries, *summary.queries[number + 1 :])
    warnings = tuple(dict.fromkeys([*summary.warnings, *last.warnings]))
    return replace(last, queries=queries, warnings=warnings)


def has_windows(query: StartingQuery, place: Place | None) -> bool:
    """Return whether a last batch of a query may close windows.

    It cannot if the query has no checkpoint, no state or no watermark, if its mode is
    `complete`, which has already written everything, or if the last batch has already
    run.
    """
    from sparkstream_kit._internal.spark.logical_plan import has
    from sparkstream_kit.checkpoints import drain
    from sparkstream_kit.checkpoints.logs import at_hand

    # Without a watermark a last batch would write nothing, and then the checkpoint
    # would accept no more rows.
    if query.mode == "complete" or not has(query.frame, "EventTimeWatermark"):
        return False
    if place is None or not place.names("state"):
        return False
    with at_hand(place) as logs:
        return drain.drained(logs) is None


def plan_last_batch(logs: Logs, place: Place | None) -> None:
    """Plan in a checkpoint the last batch, which reads nothing and closes every window."""
    from sparkstream_kit.checkpoints.drain import END, plan_empty_batch

    number = plan_empty_batch(logs, END)
    # If the checkpoint is on another file system, the plan is in a local copy so far:
    # write it there, too.
    if place is not None and place.folder is None:
        plan = (logs.root / "offsets" / str(number)).read_text("utf-8")
        place.write(f"offsets/{number}", plan)
