"""`start`: one named streaming query, its arguments checked before Spark sees them."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _connect
from sparkstream_kit.checkpoints._plans import keeps_states_by_name
from sparkstream_kit.checkpoints.guards import guard
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES
from sparkstream_kit.queries import asking
from sparkstream_kit.sinks import builtin, printed
from sparkstream_kit.sinks.base import MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.sinks import Sink

__all__ = ["start"]

_TRIGGERS = ("availableNow", "continuous", "once", "processingTime", "realTime")


def start(
    frame: DataFrame,
    sink: Sink,
    *,
    name: str | None = None,
    mode: str = "append",
    checkpoint: str | Path | None = None,
    allow_changed_query: bool = False,
    **trigger: Any,
) -> StreamingQuery:
    """Start one named streaming query.

    A query with `transformWithState` gets the RocksDB state store, without which Spark refuses it; any other
    has what the session has (`spark.sql.streaming.stateStore.providerClass`). A checkpoint keeps its own.

    Args:
        frame: a streaming DataFrame.
        sink: from `sparkstream_kit.sinks`; its docstring states the delivery promise.
        name: the query's name, in progress, errors and Spark's UI; a memory or latest table gives its own.
        mode: `append`, `update` or `complete`.
        checkpoint: the folder that the query goes on from, which is this query's alone
            (`checkpoints.guard`); without one a temporary one is used, which Spark removes when the query
            ends (after a failure, too, with the kit's profiles).
        allow_changed_query: go on with the state in the checkpoint although a different query wrote it.
        **trigger: one of Spark's own words: `processingTime="5 seconds"`, `availableNow=True`, ….

    Returns:
        Spark's own StreamingQuery, running.

    Raises:
        InvalidInputError: a frame that does not stream, an unknown trigger, an output mode that the sink
            does not support, a missing name or checkpoint, a query of this name that already runs, or a
            checkpoint that is in use, damaged, of a different query, or out of reach of the other nodes.

    Example:
        >>> from sparkstream_kit import sinks
        >>> start(None, sinks.files("out"), name="totals", mode="complete")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: sink files supports output mode append, not complete; ...
    """
    reject_unknown("trigger", trigger, _TRIGGERS)
    _check_sink(sink, mode, checkpoint)
    if not frame.isStreaming:
        raise InvalidInputError(
            f"query {name or sink.kind}: the DataFrame does not stream; read it with spark.readStream"
        )
    name = _name(frame, sink, name)
    location = None if checkpoint is None else _connect.server_path(frame.sparkSession, str(checkpoint))
    with _fitting_state_store(frame):
        return _start(frame, sink, name, mode, location, trigger, allow_changed_query=allow_changed_query)


def _start(
    frame: DataFrame,
    sink: Sink,
    name: str,
    mode: str,
    location: str | None,
    trigger: dict[str, Any],
    *,
    allow_changed_query: bool,
) -> StreamingQuery:
    spark = frame.sparkSession
    query = None
    try:
        with guard(frame, location, name, mode, allow_changed_query=allow_changed_query) as held:
            views = _views_of_memory(sink, spark, name, location)
            bound = builtin.memory(name) if views else printed.kept(sink.bind(frame, location), spark, name)
            writer = bound(frame.writeStream).queryName(name).outputMode(mode)
            if location is not None:
                writer = writer.option("checkpointLocation", location)
            if trigger:
                writer = writer.trigger(**trigger)
            query = writer.toTable(sink.to_table) if sink.to_table else writer.start()
    except BaseException:
        if query is not None:
            query.stop()  # it could not be noted
        raise
    if held is not None:
        held.until_end_of(query)
    if views:
        _show(views, spark, name, query)
    if _connect.is_connect(spark):
        asking.note(query, asking.Started(spark, location, prints=bound.write is not None))
    return query


@contextmanager
def _fitting_state_store(frame: DataFrame) -> Iterator[None]:
    """Give a query that needs RocksDB for its state just that, whatever the session has for others.

    https://spark.apache.org/docs/latest/streaming/structured-streaming-transform-with-state.html
    """
    spark = frame.sparkSession
    given = spark.conf.get(STATE_STORE) or ""
    if given == STATE_STORES["rocksdb"] or not keeps_states_by_name(frame):
        yield
        return
    spark.conf.set(STATE_STORE, STATE_STORES["rocksdb"])
    try:
        yield
    finally:
        spark.conf.set(STATE_STORE, given)


def _check_sink(sink: Sink, mode: str, checkpoint: str | Path | None) -> None:
    """Refuse what the sink cannot do."""
    if mode not in sink.modes:
        reject_unknown("output mode", [mode], MODES)
        raise InvalidInputError(
            f"sink {sink.kind} supports output mode {' and '.join(sink.modes)}, not {mode}; {sink.advice}"
        )
    if sink.needs_checkpoint and checkpoint is None:
        raise InvalidInputError(
            f"sink {sink.kind} needs a checkpoint: without one a restart would append every row again; "
            "give start(…, checkpoint='folder')"
        )


def _views_of_memory(
    sink: Sink, spark: SparkSession, name: str, location: str | None
) -> dict[str, Callable[[DataFrame], DataFrame]]:
    """Return the views that make the sink on Connect, over Spark's memory sink; none if that cannot be.

    A function of a batch would first start a Python at the server, for two seconds. Memory forgets what it
    had at a restart, so that it is for queries that have none; and its table has the query's name, until the
    views are made, which must be free.
    """
    if not sink.views or not _connect.is_connect(spark) or location is not None:
        return {}
    free = re.fullmatch(r"\w+", name) and name not in sink.views and not spark.catalog.tableExists(name)
    return dict(sink.views) if free else {}


def _show(
    views: Mapping[str, Callable[[DataFrame], DataFrame]],
    spark: SparkSession,
    name: str,
    query: StreamingQuery,
) -> None:
    """Make the views of a query's table in memory, whose own name is free again then."""
    try:
        for view, part in views.items():
            # In one partition, as memory has it in two and an order would shuffle it: 50 ms, not 200.
            part(spark.table(name).coalesce(1)).createOrReplaceTempView(view)
    except BaseException:
        query.stop()
        raise
    finally:
        spark.catalog.dropTempView(name)


def _name(frame: DataFrame, sink: Sink, name: str | None) -> str:
    """Return the query's name, checked against the sink and the queries that run."""
    if sink.query_name and name not in (None, sink.query_name):
        raise InvalidInputError(
            f"sink {sink.kind} names its query {sink.query_name}, because Spark names the table after the "
            f"query; leave name={name} out, or use it for the table"
        )
    chosen = sink.query_name or name
    if not chosen:
        raise InvalidInputError(f"a query needs a name: start(…, sinks.{sink.kind}(…), name='totals')")
    if any(query.name == chosen for query in frame.sparkSession.streams.active):
        raise InvalidInputError(
            f"a query named {chosen} already runs; end it first: "
            f"[q.stop() for q in spark.streams.active if q.name == {chosen!r}]"
        )
    return chosen
