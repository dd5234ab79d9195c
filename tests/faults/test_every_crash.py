"""Crashes as `assert_exactly_once` makes them, beside real kills at the same numbered calls."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys

import pytest
from conftest import environment
from faults.drivers import LIMIT, SCRIPTS
from support.broken_sinks import BROKEN, SOUND

from sparkstream_kit import sinks
from sparkstream_kit.testing import Source, Streams
from sparkstream_kit.testing.exactly_once import _Proof

ROWS = [("tea", 2), ("ink", 1), ("tea", 2)]
KILLS = 5  # of each sink


def proof_of(spark, folder, name):
    """Return what crashes one of the sinks in a folder."""
    make, read = {**BROKEN, **SOUND}[name]
    rows = spark.createDataFrame(ROWS, "product STRING, amount INT")

    def build(sales, out):
        return sales, sinks.foreach_batch(make(out))

    return _Proof(Streams(spark, folder), folder / "run", build, read, "append", rows, rows.collect(), None)


def found_after(proof, source):
    """Return what the next start makes of the folder, or that it fails."""
    try:
        proof.run(source)
        return sorted(proof.read(proof.folder / "out"))
    except Exception as err:  # noqa: BLE001 - whatever a broken sink raises
        return type(err).__name__


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ledger_in_one_transaction",
        "marker_in_a_second_transaction",
        "marker_before_the_rename",
        "totals_in_place",
    ],
)
def test_a_real_kill_leaves_what_the_crash_at_that_call_leaves(spark, tmp_path, name):
    proof = proof_of(spark, tmp_path / "crashed", name)
    (tmp_path / "crashed").mkdir()
    crashed = [each for each in proof.crashed(proof.begun("2-1")) if each.crashes[-1].label.isdecimal()]
    assert len(crashed) >= KILLS
    for each in crashed[:: len(crashed) // KILLS][:KILLS]:
        call = each.crashes[-1].label
        folder = tmp_path / call
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, SCRIPTS / "killed_at.py", folder, name, "2-1", call],
            env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
            start_new_session=True,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        proof.arrive(each)
        wanted = found_after(proof, each.source)
        killed = proof_of(spark, folder, name)
        source = Source(spark, (each.source.schema, None), folder / "source-0", itertools.count())
        found = found_after(killed, source)
        print(f"{name}, call {call}: {each.crashes[-1].words}: {found}")  # noqa: T201 - kept in the log
        assert found == wanted
