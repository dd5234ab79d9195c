"""The pytest plugin: the fixtures `spark` and `stream`. A fixture of that name in a conftest.py wins.

Nothing of Spark is imported before a test asks for a fixture.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pyspark.sql import SparkSession

    from sparkstream_kit.testing.harness import Streams

_HARNESS = "sparkstream_kit.testing.harness"


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A session for the test run: the kit's test profile on two cores, or the server of SPARK_REMOTE.

    Python's time zone and the session's are UTC until the end of the run, so that a timestamp without a zone
    is the same on every machine.
    """
    from sparkstream_kit import spark_session
    from sparkstream_kit._files import for_spark

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="sparkstream-") as folder:
        patch.setenv("TZ", "UTC")
        time.tzset()
        warehouse = for_spark(Path(folder, "warehouse"))
        local = {"spark.master": "local[2]", "spark.sql.warehouse.dir": warehouse}
        conf = {} if os.environ.get("SPARK_REMOTE") else local  # a server has its own
        with spark_session("pytest", profile="test", conf=conf) as session, _own_tables(session):
            yield session
    time.tzset()


@contextmanager
def _own_tables(spark: SparkSession) -> Iterator[None]:
    """On a server, which goes on after the run, keep the run's tables in a database that goes with it."""
    from sparkstream_kit._spark.session import outlives_process

    if not outlives_process(spark):
        yield
        return
    name = f"pytest_{uuid.uuid4().hex}"
    spark.sql(f"CREATE DATABASE {name}")
    spark.catalog.setCurrentDatabase(name)
    try:
        yield
    finally:
        spark.catalog.setCurrentDatabase("default")
        spark.sql(f"DROP DATABASE {name} CASCADE")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Draw the timeline of a streaming test that fails below its report."""
    report = yield
    if call.when == "call" and report.failed:
        streams: Any = getattr(item, "funcargs", {}).get("stream")
        if type(streams).__module__ == _HARNESS:  # a DataFrame has an attribute of every name
            try:
                drawn = streams.timeline()
            except Exception as err:  # noqa: BLE001 - it would end pytest, and hide why the test has failed
                drawn = f"no timeline: {type(err).__name__}: {err}"
            if drawn:
                report.sections.append(("streams", drawn))
    return report


@pytest.fixture
def stream(spark: SparkSession) -> Iterator[Streams]:
    """Make sources and queries: `stream(schema)`, `stream.query(frame)`; gone after the test."""
    from sparkstream_kit.testing import streams

    with streams(spark) as made:
        yield made
