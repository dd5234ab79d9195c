"""`assert_exactly_once` without a JVM: each defect of a sink is found, and what is sound passes."""

import subprocess
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from support.broken_sinks import BROKEN, ROWS, SOUND, expected_of, job

from sparkstream_kit.sinks.base import Opening
from sparkstream_kit.testing.exactly_once import _Proof, watching


@dataclass(frozen=True)
class _Batch:
    rows: list[Any]
    run: str

    def select(self, *_columns):
        return self

    def collect(self):
        return self.rows

    @property
    def sparkSession(self):
        context = SimpleNamespace(getLocalProperty=lambda _name: self.run)
        return SimpleNamespace(sparkContext=context)


class ProofAlone(_Proof):
    """A proof that plays Spark's part itself."""

    def run(self, source: Any, watch=None) -> None:
        run, commits = str(uuid.uuid4()), self.folder / "checkpoint"
        with nullcontext() if watch is None else watching(watch):
            _, sink = self.build(source, self.folder / "out")
            watched: Any = sink if watch is None else watch.sink(sink)
            write = watched.open(None, None, Opening())
            for number, rows in enumerate(source.batches):
                if not (commits / str(number)).exists():
                    write(_Batch(rows, run), number)
                    # In another process, as by Spark: Python has no event of it.
                    made = f"mkdir -p '{commits}' && touch '{commits}/{number}'"
                    subprocess.run(["sh", "-c", made], check=True)


class _Source:
    def __init__(self):
        self.batches: list[list[Any]] = []

    def add_data(self, rows):
        self.batches.append(rows)

    def publish(self):
        """Do nothing: a batch is there at once."""


def proof_alone(folder, make, read, expected):
    """Return what crashes a sink of `support.broken_sinks` in a folder."""
    streams: Any = lambda _schema: _Source()  # noqa: E731
    rows: Any = SimpleNamespace(schema=None)
    fed: Any = ROWS
    return ProofAlone(
        streams, folder / "run", job(make), read, "append", rows, fed, expected
    )


def proof_of(folder, name):
    make, read = {**BROKEN, **SOUND}[name]
    return proof_alone(folder, make, read, expected_of(name))


def test_a_schedule_has_a_name_also_one_of_two_crashes(tmp_path):
    proof = proof_of(tmp_path, "file_replaced_whole")
    first = proof.crashed(proof.start_schedule("1|2"))[-4]
    second = proof.crashed(first)[0]
    name = ":".join(["1|2", *(crash.label for crash in second.crashes)])
    assert (
        proof_of(tmp_path, "file_replaced_whole").named(name).crashes == second.crashes
    )
    for unknown in ("", "x:1", "1|2", "1|2:999", "3:1:999"):
        assert "give what a failure has printed" in refusal(proof.named, unknown)


SCHEDULES = 60  # of a sound sink: with two crashes too


@pytest.mark.fast("totals_replaced")
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_sink_survives(tmp_path, name):
    proof = proof_of(tmp_path, name)
    held = [
        schedule
        for schedule in islice(proof.schedules(), SCHEDULES)
        if proof.hold(schedule)
    ]
    assert len(held) == SCHEDULES
