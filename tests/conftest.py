"""One local session for the whole test run, and what tests of jobs share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkstream_kit import get_session

# Python shows a timestamp in its own time zone; Spark shows it in the session's. Here both are UTC.
os.environ["TZ"] = "UTC"
time.tzset()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session with the test profile on two cores; what it writes goes to a temporary folder."""
    warehouse = tmp_path_factory.mktemp("warehouse")
    conf = {"spark.master": "local[2]", "spark.sql.warehouse.dir": warehouse.as_uri()}
    with get_session("tests", profile="test", conf=conf) as session:
        yield session


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a query behind, and end the query."""
    yield
    if "spark" in request.fixturenames:
        left = request.getfixturevalue("spark").streams.active
        for query in left:
            query.stop()
        assert not left, f"queries left running: {[query.name for query in left]}"


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds, for 60 s at most."""

    def wait(condition: Callable[[], object], limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, f"not within {limit} s: {condition}"
            time.sleep(0.05)  # between looks, within the limit

    return wait


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty input folder."""
    path = tmp_path / "in"
    path.mkdir()
    return path
