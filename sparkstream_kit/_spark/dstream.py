"""Questions to a StreamingContext, of the older API, that PySpark has no call for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark import SparkContext

if TYPE_CHECKING:
    from pyspark.streaming import StreamingContext


def receivers(ssc: StreamingContext) -> int:
    """Return how many streams hold a core each for as long as the context runs."""
    return len(ssc._jssc.ssc().graph().getReceiverInputStreams())


def has_stopped(ssc: StreamingContext) -> bool:
    """Say whether a context has been stopped."""
    return bool(ssc._jssc.getState().toString() == "STOPPED")


def runs_batch() -> bool:
    """Say whether a thread of the JVM still runs a batch, with the Python functions that it calls.

    A JVM runs one context at a time; after its stop such a thread ends with the batch that it is at.
    """
    jvm: Any = SparkContext._jvm
    return "[streaming-job-executor-" in jvm.java.lang.Thread.getAllStackTraces().keySet().toString()
