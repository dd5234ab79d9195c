"""`assert_exactly_once` without a JVM: each defect of a sink is found, and what is sound passes."""

from itertools import islice

import pytest
from conftest import refusal
from support.batches_alone import proof_alone
from support.broken_sinks import BROKEN, SOUND, expected_of

NEED_SPARK = {name for name in BROKEN if name.startswith(("another_", "keys_", "spark_"))}
NEED_SPARK |= {"plain_beside_exactly_once", "written_on_the_way"}
SCHEDULES = 60  # of a sound sink: with two crashes too


def proof_of(folder, name):
    make, read = {**BROKEN, **SOUND}[name]
    return proof_alone(folder, make, read, expected_of(name))


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in NEED_SPARK])
def test_each_defect_is_found(tmp_path, name):
    proof = proof_of(tmp_path, name)
    with pytest.raises(AssertionError, match=r"not exactly once|without any crash"):
        for schedule in proof.schedules():
            proof.hold(schedule)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_sink_survives(tmp_path, name):
    proof = proof_of(tmp_path, name)
    held = [schedule for schedule in islice(proof.schedules(), SCHEDULES) if proof.hold(schedule)]
    assert len(held) == SCHEDULES


def test_rows_come_in_up_to_three_batches_with_a_stop_after_each(tmp_path):
    proof = proof_of(tmp_path, "file_replaced_whole")
    ways = []
    for schedule in proof.schedules():
        if len(schedule.crashes) > 1:
            break
        ways.append(schedule.way)
    assert list(dict.fromkeys(ways)) == ["3", "1-2", "1|2", "1-1-1", "1|1-1", "1-1|1"]


def test_a_schedule_has_a_name_also_one_of_two_crashes(tmp_path):
    proof = proof_of(tmp_path, "file_replaced_whole")
    first = proof.crashed(proof.begun("1|2"))[-4]
    second = proof.crashed(first)[0]
    name = ":".join(["1|2", *(crash.label for crash in second.crashes)])
    assert proof_of(tmp_path, "file_replaced_whole").named(name).crashes == second.crashes
    for unknown in ("", "x:1", "1|2", "1|2:999", "3:1:999"):
        assert "give what a failure has printed" in refusal(proof.named, unknown)
