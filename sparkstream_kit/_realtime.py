"""Spark's real-time mode: what it does not run, said before the query starts and not after."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from pyspark.sql.streaming.readwriter import DataStreamWriter

from sparkstream_kit._spark.plan import analyzed_plan, has, inputs_of, runs_python
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkstream_kit.sinks import Sink

_SAFETY = "spark.sql.streaming.realTimeMode.allowlistCheck"
# Operators of a plan that keep state or exchange rows between tasks, which Spark 4.2 runs in batches only.
_OPERATORS = {
    "Aggregate": "an aggregation (groupBy, distinct)",
    "Deduplicate|Distinct": "dropDuplicates",
    "FlatMapGroups|TransformWithState": "state by key",
    "Repartition|RebalancePartitions": "repartition or coalesce",
    "Sort": "orderBy",
    "Window": "a window function",
}


def check_realtime(frame: DataFrame, sink: Sink, mode: str) -> None:
    """Refuse a query that Spark would fail after its start, or would not start.

    https://spark.apache.org/docs/latest/streaming/index.html and the lists in Spark 4.2's
    `RealTimeModeAllowlist`. A session that has switched these off has switched off this check, too.

    Raises:
        InvalidInputError: this Spark has no real-time mode, or it cannot run the query.
    """
    if "realTime" not in inspect.signature(DataStreamWriter.trigger).parameters:
        raise InvalidInputError(
            f"trigger realTime is in Spark 4.1 and later, and this is {frame.sparkSession.version}; give "
            "processingTime='0 seconds'"
        )
    if sink.realtime is None:
        raise InvalidInputError(
            f"trigger realTime cannot write to {sink.kind}: it has no batches to hand over; give "
            "sinks.kafka, or processingTime='0 seconds'"
        )
    if mode != "update":
        raise InvalidInputError(f"trigger realTime writes in mode update, not {mode}; give mode='update'")
    if frame.sparkSession.conf.get(_SAFETY, "true") == "false":
        return
    instead = "; leave it out, or give processingTime='0 seconds'"
    if not any(each.kind == "kafka" for each in inputs_of(frame)):
        raise InvalidInputError(
            "trigger realTime reads from Kafka only; give sources.kafka, or processingTime='0 seconds'"
        )
    if runs_python(frame):
        raise InvalidInputError(f"trigger realTime runs no Python function{instead}")
    for names, what in _OPERATORS.items():
        if has(frame, names):
            raise InvalidInputError(f"trigger realTime does not run {what}{instead}")
    if analyzed_plan(frame).count("StreamingRelationV2 ") > 1 and has(frame, "Join"):
        raise InvalidInputError(f"trigger realTime does not join two streams{instead}")
