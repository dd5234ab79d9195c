"""The jobs of Spark that a test has caused."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark import SparkJobInfo
    from pyspark.sql import SparkSession


@contextmanager
def counting_jobs(spark: SparkSession) -> Iterator[Callable[[], list[SparkJobInfo]]]:
    """Give a function that returns the jobs which this block has run up to now.

    Spark notes a job in a thread of its own, often after the job has ended: the function waits for it.
    """
    context, group = spark.sparkContext, f"counted {uuid4()}"
    context.setJobGroup(group, "by a test")

    def jobs() -> list[SparkJobInfo]:
        context._jsc.sc().listenerBus().waitUntilEmpty()  # noqa: SLF001
        tracker = context.statusTracker()
        found = map(tracker.getJobInfo, tracker.getJobIdsForGroup(group))
        return [job for job in found if job is not None]

    try:
        yield jobs
    finally:
        context._jsc.clearJobGroup()  # noqa: SLF001 - Python's SparkContext has no such call
