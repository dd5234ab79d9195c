"""What tests of checkpoints share."""

import pytest

from sparkstream_kit import run, sinks, start


@pytest.fixture
def finish(tmp_path):
    """Run a query on the checkpoint `ckpt`, or on another one, until its input is through."""

    def run_through(frame, sink=None, mode="update", **options):
        how = {"name": "q", "checkpoint": tmp_path / "ckpt", "availableNow": True} | options
        return run(start(frame, sink or sinks.console(), mode=mode, **how))

    return run_through
