"""`assert_exactly_once`: a job is crashed at every call that leaves something, and each time started again."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.errors import StreamingQueryException

from sparkstream_kit import _files, start
from sparkstream_kit._arguments import check
from sparkstream_kit._spark.session import starts_python_for_batches
from sparkstream_kit.errors import InvalidInputError, QueryFailed, innermost_cause
from sparkstream_kit.sinks.base import check_writes_batches
from sparkstream_kit.testing.crashes import Watch, read_disk, watching, write_disk
from sparkstream_kit.testing.harness import fault_of_the_test, streams, told, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyspark.sql import DataFrame, Row
    from pyspark.sql.types import StructType

    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.testing.crashes import Crash, Disk
    from sparkstream_kit.testing.harness import Source, Streams


__tracebackhide__ = fault_of_the_test

_CALL, _NAME = "assert_exactly_once()", "exactly_once"
_BATCHES = 3  # at most, of one input
_ADVICE = (
    "a batch comes again after a crash, with the same number and the same rows: write it to a sink that keeps "
    "a record of its batches (sinks.sql_table, sinks.delta, sinks.batch_files), or write the batch's number "
    "in one transaction with its rows, and skip a number that is there"
)
NOT_COVERED = (
    "the time while an executor writes files",
    "Spark's own files: those of its checkpoint, and of its own sinks, such as sinks.files",
    "what is not in the folder, such as a database server",
)


@dataclass(frozen=True)
class Certificate:
    """What `assert_exactly_once` has tried; it prints as one line.

    Attributes:
        schedules: the crashes that left different things behind, each followed by a start to the end.
        calls: the calls that were numbered, before each of which the job could have died.
        inputs: the ways in which the rows came: `2|1` is a batch of two rows, a stop and a start, and one
            more row.
        seconds: how long it took.
        not_covered: what no crash was tried in.
    """

    schedules: int
    calls: int
    inputs: tuple[str, ...]
    seconds: float
    not_covered: tuple[str, ...] = NOT_COVERED

    def __str__(self) -> str:
        return (
            f"{self.schedules} schedules, 0 differences: crashes at {self.calls} calls over the inputs "
            f"{', '.join(self.inputs)}, in {self.seconds:.0f} s; not covered: {'; '.join(self.not_covered)}"
        )


def assert_exactly_once(
    build: Callable[[DataFrame, Path], tuple[DataFrame, Sink]],
    rows: DataFrame,
    *,
    read: Callable[[Path], Iterable[Any]],
    mode: str = "append",
    expected: Iterable[Any] | None = None,
    most: int = 200,
    only: str | None = None,
    report: str | Path | None = None,
) -> Certificate:
    """DOC"""
    check(assert_exactly_once, locals())
    began, fed = time.monotonic(), rows.collect()
    if starts_python_for_batches(rows.sparkSession):
        raise InvalidInputError(
            f"{_CALL} watches the driver's own Python, in which Spark Connect writes nothing; unset SPARK_REMOTE"
        )
    if not fed:
        raise InvalidInputError(f"{_CALL}: rows is empty; give a static DataFrame with some rows to feed")
    with (
        streams(rows.sparkSession) as stream,
        tempfile.TemporaryDirectory(prefix="sparkstream-", ignore_cleanup_errors=True) as folder,
    ):
        proof = _Proof(stream, Path(folder).resolve() / "run", build, read, mode, rows.schema, fed, expected)
        for schedule in proof.schedules(most) if only is None else proof.named(only):
            proof.hold(schedule)
    made = Certificate(proof.held, proof.calls, tuple(proof.ways), round(time.monotonic() - began, 1))
    if report is not None:
        _files.replace(Path(report), [_files.as_json(made), "\n"])
    return made


@dataclass(frozen=True)
class _Way:
    """One way in which the rows come, and what an undisturbed run makes of them."""

    name: str
    source: Source
    begins: Disk
    expected: list[Any]


@dataclass(frozen=True)
class _Schedule:
    """A start that is crashed, perhaps the start after that too, and the start that must mend it."""

    way: _Way
    crashes: tuple[Crash, ...]


@dataclass
class _Proof:
    stream: Streams
    folder: Path
    build: Callable[[DataFrame, Path], tuple[DataFrame, Sink]]
    read: Callable[[Path], Iterable[Any]]
    mode: str
    schema: StructType
    fed: list[Row]
    expected: Iterable[Any] | None
    held: int = 0
    calls: int = 0
    ways: list[str] = field(default_factory=list)
    seen: set[Any] = field(default_factory=set)

    def schedules(self, most: int) -> Iterator[_Schedule]:
        """Yield all with one crash, the shortest first, and then those with two, up to so many in all."""
        single = []
        for name in _ways(len(self.fed)):
            for schedule in self._of_way(name) if self.held < most else ():
                if self.held < most:
                    yield schedule
                    single.append(schedule)
        random.Random(0).shuffle(single)  # noqa: S311 - a sample, the same each time
        for first in single:
            for schedule in self._after(first) if self.held < most else ():
                if self.held < most:
                    yield schedule

    def named(self, name: str) -> Iterator[_Schedule]:
        """Yield the one schedule of a name, which a failure has printed."""
        way, *labels = name.split(":")
        found: list[_Schedule] = []
        for label in labels:
            known = self._after(found[0]) if found else self._of_way(way)
            found = [each for each in known if each.crashes[-1].label == label]
            if not found:
                break
        if not found:
            raise InvalidInputError(
                f"{_CALL}: only is {name!r}; give what a failure has printed, such as '2-1:17'"
            )
        yield from found

    def _of_way(self, name: str) -> list[_Schedule]:
        """Let the rows come in one way, undisturbed, and return the crashes of the last start."""
        self.ways.append(name)
        source, rows = self.stream(self.schema), iter(self.fed)
        for before, part in enumerate(name.split("|")):
            for size in re.findall(r"\d+", part):
                source.add_data(list(islice(rows, int(size))))
            source.publish()
            if not before:
                self._put({})
                if "|" in name:
                    self._run(source)
        begins = read_disk(self.folder)[0]
        watch = self._watched(source)
        way = _Way(name, source, begins, list(self.read(self.folder / "target")))
        if self.expected is not None and (text := _difference(list(self.expected), way.expected)):
            raise AssertionError(f"without any crash, rows {name}: {text}")
        # The likeliest to break a sink come first: late in the batch, and without an error.
        latest_first = sorted(reversed(watch.crashes), key=lambda crash: crash.disk is None)
        return [_Schedule(way, (crash,)) for crash in latest_first]

    def _after(self, schedule: _Schedule) -> list[_Schedule]:
        """Return the schedules that have a second crash, in the start after a first one."""
        self._arrive(schedule)
        watch = self._watched(schedule.way.source)
        return [_Schedule(schedule.way, (*schedule.crashes, crash)) for crash in watch.crashes]

    def _watched(self, source: Source) -> Watch:
        watch = Watch(self.folder, self.seen)
        self._run(source, watch)
        self.calls += watch.calls
        return watch

    def _arrive(self, schedule: _Schedule) -> None:
        """Make the folder what the last crash has left."""
        *before, last = schedule.crashes
        if last.disk is not None:
            self._put(last.disk)
            return
        if before:
            self._arrive(replace(schedule, crashes=tuple(before)))
        else:
            self._put(schedule.way.begins)
        with suppress(Exception):  # it is the error that was made, or the sink has dealt with it
            self._run(schedule.way.source, Watch(self.folder, set(), fail_at=int(last.label.split()[0])))

    def _put(self, disk: Disk) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "target").mkdir(parents=True)
        write_disk(self.folder, disk)

    def _run(self, source: Source, watch: Watch | None = None) -> None:
        """Start the query once, over all input that is there."""
        with nullcontext() if watch is None else watching(watch):
            frame, sink = self.build(source.to_df(), self.folder / "target")
            check_writes_batches(sink, _CALL)
            sink = sink if watch is None else watch.sink(sink)
            checkpoint = self.folder / "checkpoint"
            query = start(frame, sink, name=_NAME, mode=self.mode, checkpoint=checkpoint, availableNow=True)
            try:
                query.awaitTermination()
            except StreamingQueryException as err:
                raise QueryFailed(_NAME, innermost_cause(err)) from err

    def hold(self, schedule: _Schedule) -> None:
        """See that the start after a crash leads to what there is without one."""
        self._arrive(schedule)
        try:
            self._run(schedule.way.source)
            text = _difference(schedule.way.expected, list(self.read(self.folder / "target")))
        except Exception as err:  # noqa: BLE001 - whatever the job or the look at its result may raise
            text = f"the next start fails: {type(err).__name__}: {innermost_cause(err)}"
        self.held += 1
        if text:
            name = ":".join([schedule.way.name, *(crash.label for crash in schedule.crashes)])
            crashes = "; after the restart ".join(crash.words for crash in schedule.crashes)
            raise AssertionError(
                f"not exactly once: {crashes}; {text}\nTo run this schedule alone: "
                f"assert_exactly_once(…, only={name!r})\n{_ADVICE}"
            )


def _ways(rows: int) -> Iterator[str]:
    """Yield the ways in which rows can come: in up to three batches, with a stop after each."""
    for batches in range(1, min(rows, _BATCHES) + 1):
        ends = [rows * number // batches for number in range(batches + 1)]
        sizes = [str(end - begin) for begin, end in pairwise(ends)]
        yield "-".join(sizes)
        for stop in range(1, batches + 1):
            yield f"{'-'.join(sizes[:stop])}|{'-'.join(sizes[stop:])}"


def _difference(expected: list[Any], found: list[Any]) -> str:
    """Return in words how a result differs from the true one."""
    missing, unexpected = without(expected, found), without(found, expected)
    if not missing and not unexpected:
        return ""
    row, wrong = (unexpected or missing)[0], "is missing"
    if unexpected:
        wrong = "should not be there" if without([row], expected) else "is there twice"
    parts = {"missing": missing, "unexpected": unexpected, "expected": expected}
    return told(f"after the restart row {row!r} {wrong}", parts)
