"""What tests of checkpoints share."""

import shutil

import pytest
from support import checkpoint_queries as queries

from sparkstream_kit import run, sinks, start
from sparkstream_kit.profiles import read_profile


@pytest.fixture
def as_local(spark):
    """A session with the settings of the profile `local`, which has two partitions."""
    own = spark.newSession()
    for key, value in read_profile("local").items():
        if key.startswith("spark.sql.") and own.conf.isModifiable(key):
            own.conf.set(key, value)
    assert own.conf.get("spark.sql.shuffle.partitions") == "2"
    return own


@pytest.fixture(scope="session")
def made(spark, tmp_path_factory):
    """A folder of six files, the checkpoint of a query that summed them, and its batches.

    The batches are 0 to 5.
    """
    folder = tmp_path_factory.mktemp("made")
    queries.land(folder / "in", *range(6))
    batches = queries.run(queries.totals(spark, folder / "in"), folder / "checkpoint")
    assert [batch for batch, _ in batches] == [0, 1, 2, 3, 4, 5]
    return folder / "in", folder / "checkpoint", batches


@pytest.fixture
def lines(spark, folder):
    """The lines of the files of a folder, as a stream."""
    return spark.readStream.text(str(folder))


@pytest.fixture
def checkpoint(made, tmp_path):
    """A copy of that checkpoint, to change."""
    return shutil.copytree(made[1], tmp_path / "checkpoint")


@pytest.fixture
def finish(tmp_path):
    """Run a query on the checkpoint `ckpt`, or on another one, until its input is through."""

    def run_through(frame, sink=None, mode="update", **options):
        how = {
            "name": "q",
            "checkpoint": tmp_path / "ckpt",
            "availableNow": True,
        } | options
        return run(start(frame, sink or sinks.console(), mode=mode, **how))

    return run_through
