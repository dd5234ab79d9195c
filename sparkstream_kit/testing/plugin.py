"""The pytest plugin: the fixtures `spark` and `stream`, unless a conftest.py has its own.

pytest loads this module through the package's entry point in every project that has the
package installed, so the module imports nothing of Spark before a test uses a fixture.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from sparkstream_kit.testing.harness import Streams


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A Spark session for the test run: local on two cores, or on the server of SPARK_REMOTE.

    The session uses the kit's `test` profile. The time zones of Python and of the
    session are UTC until the end of the run, so that a timestamp without a zone means
    the same time on every machine.
    """
    from sparkstream_kit import spark_session
    from sparkstream_kit._internal.file_system import for_spark

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="sparkstream-") as folder,
    ):
        patch.setenv("TZ", "UTC")
        time.tzset()
        warehouse = for_spark(Path(folder, "warehouse"))
        local = {"spark.master": "local[2]", "spark.sql.warehouse.dir": warehouse}
        # A server keeps its master and warehouse
        conf = {} if os.environ.get("SPARK_REMOTE") else local
        with (
            spark_session("pytest", profile="test", conf=conf) as session,
            _own_tables(session),
        ):
            yield session
    time.tzset()


@contextmanager
def _own_tables(spark: SparkSession) -> Iterator[None]:
    """Keep the run's tables in a database dropped at the end, if a server outlives the run."""
    from sparkstream_kit._internal.spark.session import on_server

    if not on_server(spark):
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


@pytest.fixture
def stream(spark: SparkSession) -> Iterator[Streams]:
    """Make the sources and queries of one test: `stream(schema)`, `stream.query(frame)`.

    The queries are stopped and their files removed after the test.
    """
    from sparkstream_kit.testing import streams

    with streams(spark) as workspace:
        yield workspace
