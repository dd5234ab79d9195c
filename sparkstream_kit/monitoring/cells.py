"""`live`: a stream beneath a notebook's cell, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sparkstream_kit import run, sinks, start
from sparkstream_kit._arguments import check, is_a
from sparkstream_kit._spark import plan
from sparkstream_kit._spark import queries as asking
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["live"]


def live(
    shown: DataFrame | StreamingQuery,
    *,
    name: str = "live",
    mode: str | None = None,
    run_for: float | None = None,
    idle: float | None = None,
    max_batches: int | None = None,
    **trigger: Any,
) -> DataFrame | None:
    """Show a stream beneath the cell of a notebook: its result, its progress, and what is wrong in words.

    It waits as `run` does, and ends the query after `run_for` or `idle` seconds, after `max_batches`, at the
    end of input, or when the cell is interrupted. Outside of a notebook, the progress is shown as
    `run(…, show="terminal")` shows it.

    ::

        counts = events.groupBy(windows.tumbling("time", "1 hour"), "action").count()
        monitoring.live(counts, run_for=20)

    Args:
        shown: a streaming DataFrame, for which a query is started that keeps its result in the driver's
            memory; or a query that runs.
        name: the name of the query that is started, and of its table.
        mode: its output mode; by default `complete` for an aggregation, else `append`.
        run_for: seconds after which it ends.
        idle: seconds without an input row after which it ends.
        max_batches: it ends after this number of batches.
        **trigger: of the query that is started, such as `availableNow=True`.

    Returns:
        The result, as a static DataFrame; None of a query that keeps none in the session.

    Raises:
        InvalidInputError: as for `start` and `run`; a DataFrame that does not stream.
        QueryFailed: the query failed.
    """
    check(live, locals())
    if is_a("StreamingQuery", shown):
        query = cast("StreamingQuery", shown)
    else:
        query = _started(cast("DataFrame", shown), name, mode, trigger)
    frame, table = asking.started(query).frame, asking.table(query)
    try:
        run(query, run_for=run_for, idle=idle, max_batches=max_batches, show="notebook")
    except KeyboardInterrupt:  # before or after `run` takes it for the end of the run
        query.stop()
        raise
    return None if frame is None or table is None else frame.sparkSession.table(table)


def _started(frame: DataFrame, name: str, mode: str | None, trigger: dict[str, Any]) -> StreamingQuery:
    if not frame.isStreaming:
        raise InvalidInputError(
            "live() shows a stream, and this DataFrame does not stream; show it with display.show(frame)"
        )
    if mode is None:
        mode = "complete" if plan.has(frame, "Aggregate") else "append"
    sink = sinks.latest(name) if mode == "complete" else sinks.memory(name)
    return start(frame, sink, name=name, mode=mode, **trigger)
