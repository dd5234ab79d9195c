"""`assert_exactly_once`: crash a job at every call that changes something, and start it again each time.

Nothing is thrown into the code under test. It runs undisturbed, and before each call that changes its folder
the folder is kept as a dead driver would leave it: what no `except` and no `finally` can change. Python's
audit events number the calls on files, and SQLite's trace the statements. Between them each line of the
user's code is looked at, because what Spark and native libraries write has no event.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import sqlite3
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError, QueryFailed, innermost_cause
from sparkstream_kit.testing.harness import fault_of_the_test, streams, told, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from pyspark.sql import DataFrame, Row

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.sinks.base import Opening
    from sparkstream_kit.testing.harness import Source, Streams


__tracebackhide__ = fault_of_the_test

Disk = dict[str, bytes | None]  # what a folder holds, by path: a file's bytes, or None for a folder

_CHANGES = {
    *("open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"),
    *("os.truncate", "shutil.rmtree", "sqlite3.connect"),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READS = {"EXPLAIN", "PRAGMA", "SELECT"}  # statements that change nothing
_SHOWN = 60  # characters of a statement
# Code whose lines need no look: Python's, that of installed packages, and the kit's.
_OTHERS = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]), "<")
_START = "the start"
_fsync, _connect = os.fsync, sqlite3.connect


@dataclass(frozen=True)
class Crash:
    """A moment at which a driver can die, or a batch fail.

    Attributes:
        label: names it among those of its start, such as `17`, `17.2` (a line after call 17) or `17 lost`.
            Calls of `start` itself, which go on beside the first batch, are `start 1` and so on.
        words: the same for people.
        fails_at: the call that reports an error, and does nothing; None of a crash.
        disk: what a crash leaves.
    """

    label: str
    words: str
    fails_at: str | None = None
    disk: Disk = field(default_factory=dict, repr=False)


def read_disk(folder: Path) -> tuple[Disk, dict[str, int]]:
    """Return what a folder holds, and the inode of each file."""
    disk: Disk = {}
    inodes = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # Spark may just have removed it
            name = str(path.relative_to(folder))
            inodes[name] = path.stat().st_ino
            disk[name] = None if path.is_dir() else path.read_bytes()
    return disk, inodes


def write_disk(folder: Path, disk: Disk) -> None:
    """Put into a folder what a disk held."""
    for name, content in sorted(disk.items()):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)


class Watch:
    """Numbers the calls of one start, and keeps each crash that leaves something new on the disk.

    Attributes:
        crashes: the crashes, in the order of the calls.
    """

    def __init__(self, folder: Path, seen: set[int], fails_at: str | None = None) -> None:
        self.crashes: list[Crash] = []
        self._calls: Counter[str] = Counter()  # of `start`, and of the batches, which run beside each other
        self._writer: int | None = None  # the thread of the batches
        self._folder, self._seen, self._fails_at = folder, seen, fails_at
        self._doing = _START
        self._lines = 0  # since the last call
        self._opened: dict[str, int] = {}  # to be written; how many bytes of each a power cut leaves
        self._unsynced: dict[int, int] = {}  # the same by inode, the file opened last at the end
        self._contents: dict[bytes, bytes] = {}  # each once: most are in every crash

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return self._calls.total()

    def sink(self, sink: Sink) -> Sink:
        """Return a sink whose batches are watched."""
        from sparkstream_kit.sinks.base import opened

        def open_watched(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
            write = opened(sink, frame, location, opening)

            def write_watched(batch: DataFrame, batch_id: int) -> None:
                self._doing, before = f"batch {batch_id}", sys.gettrace()
                self._writer = threading.get_ident()
                self.call("the first line of the sink", can_fail=False)
                sys.settrace(before if self._fails_at else self._trace)
                try:
                    write(batch, batch_id)
                finally:
                    sys.settrace(before)
                self.call("Spark's commit, after the sink", can_fail=False)

            return write_watched

        return replace(sink, open=open_watched, realtime=None)

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """Number a call of Python's that is about to change the folder."""
        if event not in _CHANGES or (event == "open" and not args[2] & _WRITES):
            return
        names = [each for each in args[:2] if isinstance(each, str | bytes | os.PathLike)]
        paths = [Path(os.fsdecode(name)).absolute() for name in names]
        shown = [str(path.relative_to(self._folder)) for path in paths if self._folder in path.parents]
        if shown:
            self.call(f"{event.removeprefix('os.')} {' to '.join(shown)}")
        if shown and event == "open":
            is_kept = paths[0].exists() and not args[2] & os.O_TRUNC
            self._opened[str(paths[0])] = paths[0].stat().st_size if is_kept else 0

    def connect(self, *args: Any, **options: Any) -> Any:
        """Connect to SQLite, and number the statements."""
        connection = _connect(*args, **options)

        def run(statement: str) -> None:
            words = statement.split()
            if words[0].upper() not in _READS:
                try:
                    self.call(" ".join(words)[:_SHOWN])
                except OSError:
                    connection.interrupt()

        connection.set_trace_callback(run)
        return connection

    def fsync(self, file: Any) -> None:
        """Sync a file: no power cut undoes any more what was written."""
        self.call("fsync")
        _fsync(file)
        number = file if isinstance(file, int) else file.fileno()
        self._unsynced.pop(os.fstat(number).st_ino, None)

    def call(self, what: str, *, can_fail: bool = True) -> None:
        """Number a call, keep what a crash before it leaves, and fail it if this is asked for.

        Raises:
            OSError: it is the call that shall fail.
        """
        label, doing = self.number()
        words = f"call {label} ({doing}: {what})"
        if label == self._fails_at:
            raise OSError(errno.EIO, "an error made by assert_exactly_once")
        self._keep(label, words)
        if can_fail and doing != _START:
            self.crashes.append(Crash(f"{label} error", f"an I/O error in place of {words}", label))

    def number(self) -> tuple[str, str]:
        """Number a call; return its label and what it is a call of."""
        if threading.get_ident() != self._writer:
            self._calls[_START] += 1
            return f"start {self._calls[_START]}", _START
        self._calls[""] += 1
        self._lines = 0
        return str(self._calls[""]), self._doing

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        """Look at the folder before each line of the user's code: Spark may have changed it."""
        file = frame.f_code.co_filename
        if file.startswith(_OTHERS):
            return None
        if event == "line":
            self._lines += 1
            where = f"line {frame.f_lineno} of {Path(file).name} ({self._doing})"
            self._keep(f"{self._calls['']}.{self._lines}", where)
        return self._trace

    def _keep(self, label: str, words: str) -> None:
        if self._fails_at:
            return
        disk, inodes = read_disk(self._folder)
        for path, size in self._opened.items():
            with suppress(FileNotFoundError):
                self._unsynced.setdefault(os.stat(path).st_ino, size)  # noqa: PTH116 - a text
        self._opened = {}
        # What is gone is forgotten: a new file may get its inode.
        self._unsynced = {inode: size for inode, size in self._unsynced.items() if inode in inodes.values()}
        lost, half = dict(disk), dict(disk)
        for name, inode in inodes.items():
            content = disk[name]
            if content and inode in self._unsynced:
                size = self._unsynced[inode]
                lost[name] = content[:size]
                if inode == next(reversed(self._unsynced)):
                    half[name] = content[: (size + len(content)) // 2]
        self._add(label, f"crash before {words}", disk)
        self._add(f"{label} half", f"crash before {words}, with the last file written cut in half", half)
        self._add(f"{label} lost", f"power cut before {words}, which loses what was not synced", lost)

    def _add(self, label: str, words: str, disk: Disk) -> None:
        shared = {name: text and self._contents.setdefault(text, text) for name, text in disk.items()}
        key = hash(frozenset(shared.items()))
        if key not in self._seen:
            self._seen.add(key)
            self.crashes.append(Crash(label, words, disk=shared))


_watches: list[Watch] = []  # an audit hook stays for good: it hears nothing while this is empty
_hooks: list[Callable[[str, tuple[Any, ...]], None]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    for watch in _watches:
        watch.heard(event, args)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Let a watch hear of the calls of this process."""
    if not _hooks:
        _hooks.append(_hear)
        sys.addaudithook(_hear)
    with ExitStack() as stack:
        stack.enter_context(patch.object(os, "fsync", watch.fsync))
        for module in (sqlite3, sqlite3.dbapi2):
            stack.enter_context(patch.object(module, "connect", watch.connect))
        stack.callback(_watches.clear)
        _watches.append(watch)
        yield


_CALL, _NAME = "assert_exactly_once()", "exactly_once"
_BATCHES = 3  # at most, of one input
_NOT_COVERED = (
    "the moments while executors write files",
    "files of Spark's own: of the checkpoint, and of sinks such as sinks.files",
    "what is not in the folder, such as a database server",
)
_ADVICE = (
    "After a crash a batch comes again, with the same number and the same rows. Write it to a sink that "
    "keeps a record of its batches (sinks.sql_table, sinks.delta, sinks.batch_files); or write the number of "
    "the batch in one transaction with its rows, and skip a batch whose number is there."
)


@dataclass(frozen=True)
class Certificate:
    """What `assert_exactly_once` has tried; it prints as one line.

    Attributes:
        schedules: how often the job was crashed, each time with something else on the disk.
        calls: how many calls were numbered, before each of which the job could have died.
        inputs: the ways in which the rows came: `2|1` is a batch of two rows, a stop, a start, and one more
            row.
        seconds: how long it took.
        not_covered: the crashes that were not tried.
    """

    schedules: int
    calls: int
    inputs: tuple[str, ...]
    seconds: float
    not_covered: tuple[str, ...] = _NOT_COVERED

    def __str__(self) -> str:
        """Return the certificate in one line."""
        return (
            f"{self.schedules} schedules, 0 differences: {self.calls} calls, over the inputs "
            f"{', '.join(self.inputs)}, in {self.seconds} s; not covered: {'; '.join(self.not_covered)}"
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
    """Crash a job at every call that changes something, and see that a restart gives the same result.

    The job runs over the rows in one, two and three batches, also stopped and started again after each of
    them. Before each call that changes its folder (a file opened, synced, renamed or removed, a statement or
    commit of SQLite, the first line and the end of the sink), and at each line of your own function that has
    changed something, the folder is kept as a killed process leaves it. It is also kept as a power cut leaves
    it: what was written and not synced is lost. Then the job is started on each of these folders and runs to
    the end. Calls within a batch also fail with an I/O error, as on a full disk. When all schedules
    with one crash have been tried, those with a second one in the next start follow.

    The result must be that of an undisturbed run over the same batches. Rows are compared in any order.

    Args:
        build: a function of the streaming DataFrame and an empty folder. It returns the transformed frame and
            the sink, which writes into that folder, and is called for each start.
        rows: a static DataFrame with some rows to feed; three are enough.
        read: a function of the folder, which returns the rows of the result.
        mode: `append`, `update` or `complete`.
        expected: the true result, such as that of a batch run. Without it a sink that loses rows in every run
            is not found.
        most: how many schedules to try, the shortest first.
        only: one schedule to run alone, as a failure has printed it.
        report: a file to keep the certificate in, as JSON.

    Returns:
        What was tried, and what was not.

    Raises:
        AssertionError: a schedule that breaks the job, with what is missing or there twice, and what to do.
        InvalidInputError: no rows, `most` below 1, a sink of Spark's own, a name for `only` that no schedule
            has, or a session of Spark Connect, where batches are not written by this process.

    Examples:
        In a session::

            import sqlite3

            def build(sales, folder):
                return sales, sinks.sql_table(f"sqlite:///{folder}/sales.db", "sales")

            def read(folder):
                return sqlite3.connect(folder / "sales.db").execute("SELECT * FROM sales").fetchall()

            rows = spark.createDataFrame([("tea", 2), ("ink", 1)], "product STRING, amount INT")
            testing.assert_exactly_once(build, rows, read=read, most=3)
    """
    check(assert_exactly_once, locals())
    from sparkstream_kit._spark.session import starts_python_for_batches

    if starts_python_for_batches(rows.sparkSession):
        raise InvalidInputError(
            f"{_CALL} watches this process, and on Spark Connect another one writes; unset SPARK_REMOTE"
        )
    if most < 1:
        raise InvalidInputError(f"{_CALL}: most is {most}; give 1 or more")
    began, fed = time.monotonic(), rows.collect()
    if not fed:
        raise InvalidInputError(f"{_CALL}: rows is empty; give a static DataFrame with some rows to feed")
    with (
        streams(rows.sparkSession) as stream,
        tempfile.TemporaryDirectory(prefix="sparkstream-", ignore_cleanup_errors=True) as folder,
    ):
        proof = _Proof(stream, Path(folder).resolve() / "run", build, read, mode, rows, fed, expected)
        schedules = islice(proof.schedules(), most) if only is None else [proof.named(only)]
        done = [proof.hold(schedule) for schedule in schedules]
    seconds = round(time.monotonic() - began, 1)
    made = Certificate(len(done), proof.calls, tuple(dict.fromkeys(done)), seconds)
    if report is not None:
        _files.replace(Path(report), [_files.as_json(made), "\n"])
    return made


@dataclass(frozen=True)
class _Schedule:
    """A way in which rows come, and the crashes of one start after the other; the last start must mend it."""

    way: str
    source: Source
    begins: Disk = field(repr=False)  # what is there before the first start that is crashed
    result: list[Any]  # of an undisturbed run
    crashes: tuple[Crash, ...] = ()


@dataclass
class _Proof:
    stream: Streams
    folder: Path
    build: Callable[[DataFrame, Path], tuple[DataFrame, Sink]]
    read: Callable[[Path], Iterable[Any]]
    mode: str
    rows: DataFrame
    fed: list[Row]
    expected: Iterable[Any] | None
    calls: int = 0
    seen: set[int] = field(default_factory=set)

    def schedules(self) -> Iterator[_Schedule]:
        """Yield all schedules with one crash, then those with two, and so on."""
        before: Iterable[_Schedule] = map(self.begun, _ways(len(self.fed)))
        while before:
            found = []
            for schedule in before:
                for longer in self.crashed(schedule):
                    yield longer
                    found.append(longer)
            random.Random(0).shuffle(found)  # noqa: S311 - where not all are tried, some of each
            before = found

    def named(self, name: str) -> _Schedule:
        """Return the schedule that a failure has printed."""
        way, *labels = name.split(":")
        known = re.fullmatch(r"\d+([-|]\d+)*\|?", way)
        schedule = self.begun(way) if known and labels else None
        for label in labels:
            found = self.crashed(schedule) if schedule else []
            schedule = next((each for each in found if each.crashes[-1].label == label), None)
        if schedule is None:
            raise InvalidInputError(f"{_CALL}: only is {name!r}; give what a failure has printed")
        return schedule

    def begun(self, way: str) -> _Schedule:
        """Let the rows come in a way, up to the start that is to be crashed."""
        source, rows = self.stream(self.rows.schema), iter(self.fed)
        before, stop, after = way.partition("|")
        self.put({})
        self.land(source, rows, before)
        if stop:
            self.run(source)
            self.land(source, rows, after)
        begins, _ = read_disk(self.folder)
        self.run(source)
        result = list(self.read(self.folder / "out"))
        if self.expected is not None and (text := _difference(list(self.expected), result)):
            raise AssertionError(f"without any crash, with rows in batches of {way}: {text}")
        return _Schedule(way, source, begins, result)

    def land(self, source: Source, rows: Iterator[Row], sizes: str) -> None:
        for size in re.findall(r"\d+", sizes):
            source.add_data(list(islice(rows, int(size))))
        source.publish()

    def crashed(self, schedule: _Schedule) -> list[_Schedule]:
        """Return a schedule with a crash more, for each crash of its last start."""
        self.arrive(schedule)
        watch = Watch(self.folder, self.seen)
        self.run(schedule.source, watch)
        self.calls += watch.calls
        # The likeliest to break a sink come first: late in the batch, and without an error.
        latest = list(reversed(watch.crashes))
        latest.sort(key=lambda crash: crash.fails_at is not None)
        return [replace(schedule, crashes=(*schedule.crashes, crash)) for crash in latest]

    def arrive(self, schedule: _Schedule) -> None:
        """Make the folder what the last crash has left."""
        if not schedule.crashes:
            self.put(schedule.begins)
            return
        *before, last = schedule.crashes
        if last.fails_at is None:
            self.put(last.disk)
            return
        self.arrive(replace(schedule, crashes=tuple(before)))
        with suppress(Exception):  # the one that was made, unless the sink has dealt with it
            self.run(schedule.source, Watch(self.folder, set(), last.fails_at))

    def put(self, disk: Disk) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        write_disk(self.folder, disk or {"out": None})

    def run(self, source: Source, watch: Watch | None = None) -> None:
        """Start the job once, over all input that is there."""
        from pyspark.errors import StreamingQueryException

        from sparkstream_kit import start
        from sparkstream_kit.sinks.base import check_writes_batches

        with nullcontext() if watch is None else watching(watch):
            frame, sink = self.build(source.to_df(), self.folder / "out")
            check_writes_batches(sink, _CALL)
            sink = sink if watch is None else watch.sink(sink)
            checkpoint = self.folder / "checkpoint"
            query = start(frame, sink, name=_NAME, mode=self.mode, checkpoint=checkpoint, availableNow=True)
            try:
                query.awaitTermination()
            except StreamingQueryException as err:
                raise QueryFailed(_NAME, innermost_cause(err)) from err

    def hold(self, schedule: _Schedule) -> str:
        """See that the start after a crash leads to what there is without one; return how the rows came."""
        self.arrive(schedule)
        try:
            self.run(schedule.source)
            text = _difference(schedule.result, list(self.read(self.folder / "out")))
        except Exception as err:  # noqa: BLE001 - whatever the job or the look at its result may raise
            text = f"the next start fails: {innermost_cause(err)}"
        if not text:
            return schedule.way
        name = ":".join([schedule.way, *(crash.label for crash in schedule.crashes)])
        crashes = "; after a restart ".join(crash.words for crash in schedule.crashes)
        raise AssertionError(
            f"not exactly once, with rows in batches of {schedule.way}: {crashes}; "
            f"{text}\nTo run this schedule alone: assert_exactly_once(…, only={name!r})\n{_ADVICE}"
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
    """Return in words how a result differs from the true one; nothing if it does not."""
    missing, unexpected = without(expected, found), without(found, expected)
    if not missing and not unexpected:
        return ""
    row, wrong = (missing or unexpected)[0], "is missing"
    if not missing:
        wrong = "should not be there" if without([row], expected) else "is there twice"
    return told(
        f"in the end row {row!r} {wrong}",
        {"missing": missing, "unexpected": unexpected, "expected": expected},
    )
