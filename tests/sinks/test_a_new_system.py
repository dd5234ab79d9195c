"""A new system is one module, which is found by its name and keeps the contract.

Tests and pages read it, too. The module is `lite.py` in tests/support/new_system/.
"""

import json
import sys

import pytest
from conftest import ROOT, refusal
from support import sink_contract
from support.sink_contract import LOSSES, Adaptor, Stream
from support.sql import sql

from sparkstream_kit import connectors, sinks
from sparkstream_kit.checkpoints import rewind


@pytest.fixture
def path(monkeypatch, tmp_path):
    """The file of the new system, which is among the connectors for the time of a test."""
    monkeypatch.setattr(
        connectors,
        "__path__",
        [*connectors.__path__, str(ROOT / "tests/support/new_system")],
    )
    yield tmp_path / "rows.db"
    vars(sinks).pop("lite", None)
    vars(connectors).pop("lite", None)
    sys.modules.pop("sparkstream_kit.connectors.lite", None)


@pytest.fixture
def stream(spark, path, tmp_path):
    def rows():
        return sorted(
            json.loads(row)["n"]
            for (row,) in sql(f"sqlite:///{path}", "SELECT row FROM rows")
        )

    return Stream(spark, tmp_path, Adaptor(sinks.lite(path), rows))


def test_it_is_among_the_sinks_with_all_that_is_known_of_it(path):
    assert "lite" in sinks.__all__
    assert "lite" in dir(sinks)
    with pytest.raises(AttributeError, match=r"did you mean lite\?"):
        _ = sinks.lita
    assert refusal(sinks.lite, 9) == "sinks.lite(): path is 9; give a path"
    assert connectors.systems()["lite"].sink == sinks.lite(path).promise


def test_each_batch_is_written_once(stream, path):
    stream.land(3)
    stream.go()
    stream.check()
    assert sql(f"sqlite:///{path}", "SELECT batch, epoch FROM ledger") == [(1, 1)]
    assert "lite writes a replayed batch with the same rows once" in str(
        rewind(stream.checkpoint, to=0)
    )
    assert f"lite to table rows in {path}: exactly once" in str(
        stream.started(dry_run=True)
    )


@pytest.mark.fast("plan cut")
@pytest.mark.parametrize("how", LOSSES)
def test_it_keeps_the_contract(stream, how):
    sink_contract.lost(stream, how)


def test_its_manners_are_those_of_every_sink(stream, path, spark):
    sink_contract.manners("lite", spark, sinks.lite(path), stream.checkpoint)
