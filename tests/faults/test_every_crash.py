"""Crashes as `assert_exactly_once` makes them, beside real kills at the same numbered calls."""

import itertools
import json
import os
import re
import signal
import sys
from typing import Any

import pytest
from conftest import environment, process
from faults.drivers import SCRIPTS
from support.broken_sinks import BROKEN, ROWS, SALES, SOUND, expected_of, job
from support.kits_sinks import KITS

from sparkstream_kit.testing import Source, Streams, assert_exactly_once
from sparkstream_kit.testing.exactly_once import _Proof

MOST = int(os.environ.get("SCHEDULES", "100"))  # of each sink
FEW = 5  # the same, in `make faults`, of these:
FAST = (
    "sqlite upsert",
    "batch_files",
    "delta append",
    "snapshot",
    "fan_out",
    "by_value",
    "iceberg append",
)


@pytest.fixture
def rows(spark):
    return spark.createDataFrame(ROWS, SALES)


@pytest.mark.fast(f"*-{FEW}")
@pytest.mark.parametrize(
    ("name", "most"),
    [*((name, FEW) for name in FAST), *((name, MOST) for name in KITS)],
)
def test_the_kit_s_own_sinks_survive_every_crash(name, most, rows, tmp_path):
    build, read, mode, expected = KITS[name]
    report = tmp_path / "report.json"
    made = assert_exactly_once(
        build, rows, read=read, mode=mode, expected=expected, most=most, report=report
    )
    assert str(made).startswith(f"{made.schedules} schedules, 0 differences")
    assert json.loads(report.read_text())["schedules"] == made.schedules
    assert made.schedules == FEW or most == MOST


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_sound_sinks_of_a_user_s_own_survive_every_crash(name, rows):
    make, read = SOUND[name]
    assert_exactly_once(
        job(make), rows, read=read, expected=expected_of(name), most=MOST
    )


@pytest.mark.fast(
    "marker_in_a_second_transaction", "rename_before_sync", "error_is_swallowed"
)
@pytest.mark.parametrize("name", BROKEN)
def test_each_defect_is_found(name, rows):
    make, read = BROKEN[name]
    expected = expected_of(name)
    with pytest.raises(AssertionError, match=r"not exactly once|without any crash"):
        assert_exactly_once(job(make), rows, read=read, expected=expected)


def proof_of(spark, folder, name):
    """Return what crashes one of the sinks in a folder."""
    make, read = {**BROKEN, **SOUND}[name]
    rows = spark.createDataFrame(ROWS, SALES)
    run, fed = folder / "run", rows.collect()
    return _Proof(
        Streams(spark, folder), run, job(make), read, "append", rows, fed, None
    )


def found_after(proof, source):
    """Return what the next start makes of the folder, or that it fails."""
    try:
        proof.run(source)
        return sorted(proof.read(proof.folder / "out"))
    except Exception as err:  # noqa: BLE001 - whatever a broken sink raises
        return type(err).__name__


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("marker_in_a_second_transaction", 2),
        ("marker_in_a_second_transaction", 5),
        ("ledger_in_one_transaction", 5),
        ("marker_before_the_rename", 5),
        ("totals_in_place", 5),
    ],
)
def test_a_real_kill_leaves_what_the_crash_at_that_call_leaves(
    spark, tmp_path, name, kills
):
    proof = proof_of(spark, tmp_path / "crashed", name)
    (tmp_path / "crashed").mkdir()
    breaking: list[Any] = []
    harmless: list[Any] = []
    for each in proof.crashed(proof.start_schedule("2-1")):
        # A kill loses nothing that was not synced
        if re.fullmatch(r"[\d.]+", each.crashes[-1].label):
            proof.arrive(each)
            wanted = found_after(proof, each.source)
            (harmless if wanted == sorted(expected_of(name)) else breaking).append(
                (each, wanted)
            )
    assert bool(breaking) == (name in BROKEN)
    some = breaking[: kills // 2]
    for each, wanted in (*some, *harmless[: kills - len(some)]):
        call = each.crashes[-1].label
        folder = tmp_path / call
        folder.mkdir()
        done = process(
            [sys.executable, SCRIPTS / "killed_at.py", folder, name, "2-1", call],
            env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
            start_new_session=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed = proof_of(spark, folder, name)
        source = Source(
            spark, (each.source.schema, None), folder / "source-0", itertools.count()
        )
        assert found_after(killed, source) == wanted
