"""The jobs of Spark that a test has caused."""

from contextlib import contextmanager
from uuid import uuid4


@contextmanager
def counting_jobs(spark):
    """Give a function that returns the jobs which this block has run up to now.

    Spark notes a job in a thread of its own, often after the job has ended: the
    function waits for it.
    """
    context, group = spark.sparkContext, f"counted {uuid4()}"
    context.setJobGroup(group, "by a test")

    def jobs():
        context._jsc.sc().listenerBus().waitUntilEmpty()  # noqa: SLF001
        tracker = context.statusTracker()
        return [
            job
            for job in map(tracker.getJobInfo, tracker.getJobIdsForGroup(group))
            if job is not None
        ]

    try:
        yield jobs
    finally:
        context._jsc.clearJobGroup()  # noqa: SLF001 - Python's SparkContext has no such call
