"""Questions to a StreamingContext, of the older API, that PySpark has no call for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
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


def unprocessed(ssc: StreamingContext) -> tuple[int, int]:
    """Return how many batches with records have not been through, and how many records these have.

    Of a context that has stopped these are what it has left behind.
    """
    scheduler = ssc._jssc.ssc().scheduler()
    waiting = scheduler.getClass().getDeclaredField("jobSets")
    waiting.setAccessible(True)
    found = [each for each in waiting.get(scheduler).values() if not _is_through(each)]
    records = [number for each in found if (number := each.toBatchInfo().numRecords())]
    return len(records), sum(records)


def _is_through(batch: Any) -> bool:
    jobs = batch.jobs()
    try:
        return all(job.result().isSuccess() for job in map(jobs.apply, range(jobs.size())))
    except Py4JJavaError:  # it has none
        return False
