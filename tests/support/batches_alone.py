"""A stand-in for Spark's part of a proof: batches in their order, each committed after its sink. No JVM runs.

It shows in milliseconds what a crash does to a sink that only collects its batches; the rounds with Spark, in
the same tests, show that Spark does the same.
"""

import subprocess
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from support.broken_sinks import ROWS, job

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


class _Source:
    def __init__(self):
        self.batches: list[list[Any]] = []

    def add_data(self, rows):
        self.batches.append(rows)

    def publish(self):
        """Do nothing: a batch is there at once."""


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


def proof_alone(folder, make, read, expected):
    """Return what crashes a sink of `support.broken_sinks` in a folder."""
    streams: Any = lambda _schema: _Source()  # noqa: E731
    rows: Any = SimpleNamespace(schema=None)
    fed: Any = ROWS
    return ProofAlone(streams, folder / "run", job(make), read, "append", rows, fed, expected)
