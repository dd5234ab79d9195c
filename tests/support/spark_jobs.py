"""The jobs of Spark that a test has caused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import SparkJobInfo
    from pyspark.sql import SparkSession


def jobs_of(spark: SparkSession, group: str | None = None) -> list[SparkJobInfo]:
    """Return the jobs of `group`, or those without one.

    Spark notes a job in a thread of its own, often after the job has ended; this waits for that thread.
    """
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()  # noqa: SLF001
    tracker = spark.sparkContext.statusTracker()
    found = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    return [job for job in found if job is not None]
