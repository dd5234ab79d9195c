"""A query that a test plays: what `run` asks of Spark, the test has said before."""

import threading
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from pyspark.sql.streaming.query import StreamingQuery
from support.recorded import progress

from sparkstream_kit._internal.spark import queries as spark_queries

WAITS = {
    "message": "Waiting for data to arrive",
    "isDataAvailable": False,
    "isTriggerActive": False,
}
WORKS = {
    "message": "Processing new data",
    "isDataAvailable": True,
    "isTriggerActive": True,
}
LOOKS = WAITS | {"message": "Getting offsets", "isTriggerActive": True}
BEGINS = WAITS | {"message": "Initializing sources"}


class Session:
    """A session whose queries a test plays, and the manager of its listeners.

    Args:
        runs: False after `spark.stop()`.
    """

    def __init__(self, *, runs=True):
        self.sparkContext = SimpleNamespace(_jsc=object() if runs else None)
        self._jsparkSession = SimpleNamespace(sessionUUID=lambda: id(self))
        self.streams = self
        self.active: list[Any] = []
        self.heard: list[Any] = []

    def addListener(self, listener):
        self.heard.append(listener)

    def removeListener(self, listener):
        self.heard.remove(listener)


class Played(StreamingQuery):
    """A query that does nothing by itself, as if `start` had not started it.

    Args:
        name: its name.
        session: its session, if `start` is to know one.
        **facts: what else `start` knows about it.
    """

    id = "1f0c4a4e-0000-4000-8000-000000000000"
    name: Any = None
    runId: Any = None  # noqa: N815 - Spark's name
    isActive: Any = True  # noqa: N815 - Spark's name
    status: Any = WAITS
    recentProgress: Any = ()  # noqa: N815 - Spark's name

    def __init__(self, name="q", session=None, **facts):
        self.name = name
        self.runId = uuid4()
        self.recentProgress = []
        self.failed: Exception | None = None
        self.calls: list[str] = []  # what was asked of it that is not a question
        self.at_stop: Any = lambda: None
        self.over = threading.Event()
        if session is not None:
            facts["frame"] = SimpleNamespace(sparkSession=session)
        noted = spark_queries.StartFacts(**facts)
        spark_queries._start_facts[str(self.runId)] = noted  # noqa: SLF001 - as `note` does

    def batch(self, number, rows=1, **changes):
        """Return the progress of one of its batches."""
        return progress(
            runId=str(self.runId), batchId=number, numInputRows=rows, **changes
        )

    @property
    def lastProgress(self):
        return self.recentProgress[-1] if self.recentProgress else None

    def exception(self):
        return self.failed

    def end(self, failed=None):
        """End, well or with an error."""
        self.failed = failed
        self.isActive = False
        self.over.set()

    def stop(self):
        self.calls.append("stop")
        self.end(self.failed)
        self.at_stop()

    def processAllAvailable(self):
        self.calls.append("processAllAvailable")

    def awaitTermination(self, timeout=None):
        self.calls.append("awaitTermination")
        return self.over.wait(20)
