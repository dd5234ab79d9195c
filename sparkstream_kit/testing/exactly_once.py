"""`assert_exactly_once`: crash a job at each call that changes something, and restart it.

No exception is thrown into the code under test to imitate a crash. The job runs
undisturbed, and before each call that changes its folder, a `Watch` copies the folder
as a dead driver would leave it, so that no `except` and no `finally` of the job can
change the copy. Python's audit events report the calls on files, and the trace callback
of SQLite reports the statements. Writes of Spark and of native libraries cause no audit
event, so the watch also looks at the folder before each line of the user's code.
`_Proof` then restarts the job on each copy, and compares the result with that of an
undisturbed run. I/O errors are the exception: a call within a batch raises them in the
job itself.
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

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit.errors import InvalidInputError, QueryFailed, innermost_cause
from sparkstream_kit.testing.harness import (
    differing,
    failure_message,
    fault_of_the_test,
    streams,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from pyspark.sql import DataFrame, Row

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks import BatchSink, Sink
    from sparkstream_kit.sinks.base import Opening
    from sparkstream_kit.testing.harness import Source, Streams


__tracebackhide__ = fault_of_the_test

# The content of a folder, by path: the bytes of a file, or None for a folder
Disk = dict[str, bytes | None]

# The audit events of calls that change a folder
_CHANGES = {
    "open",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
    "sqlite3.connect",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# First words of statements that change nothing
_READS = {"EXPLAIN", "PRAGMA", "SELECT"}
_SHOWN = 60  # characters of a statement in a message
# Prefixes of files whose lines are not traced: Python's library, installed packages,
# the kit, generated code.
_OTHERS: tuple[str, ...] = (
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
    str(Path(__file__).parents[1]),
    "<",
)
_START = "the start"
_fsync = os.fsync
_connect = sqlite3.connect


@dataclass(frozen=True)
class Crash:
    """A point in a job's run where the driver can die, or a call fail with an I/O error.

    Attributes:
        label: identifies the crash within one start of the job, such as `17`, `17.2`
            (the second line after call 17) or `17 lost`. Calls of `start` itself, which
            run beside the first batch, are numbered separately: `start 1` and so on.
        words: a description of the crash for messages.
        fails_at: the label of the call that raises an I/O error instead of its work;
            None for a crash.
        disk: the folder as the crash leaves it; empty for an I/O error.
    """

    label: str
    words: str
    fails_at: str | None = None
    disk: Disk = field(default_factory=dict, repr=False)


def read_disk(folder: Path) -> tuple[Disk, dict[str, int]]:
    """Read a folder into memory; return its content, and the inode of each file and folder."""
    disk: Disk = {}
    inodes = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # Spark may just have removed it
            name = str(path.relative_to(folder))
            inodes[name] = path.stat().st_ino
            disk[name] = None if path.is_dir() else path.read_bytes()
    return disk, inodes


def write_disk(folder: Path, disk: Disk) -> None:
    """Write the content that `read_disk` returned into an empty folder."""
    for name, content in sorted(disk.items()):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)


class Watch:
    """Numbers the calls of one start of a job, and collects the crashes possible between them.

    A crash is kept only if it leaves a folder that no crash before it has left.

    Attributes:
        crashes: the crashes, in the order of the calls.
    """

    def __init__(
        self, folder: Path, seen: set[int], fails_at: str | None = None
    ) -> None:
        self.crashes: list[Crash] = []
        # `start` and the batches run concurrently, so their calls are counted apart to
        # keep labels stable.
        self._calls: Counter[str] = Counter()
        self._writer: int | None = None  # the thread that writes the batches
        self._folder = folder
        self._seen = seen
        self._fails_at = fails_at
        self._doing = _START
        self._lines = 0  # lines of the user's code since the last call
        # By path opened for writing: how many bytes of the file a power cut leaves.
        self._opened: dict[str, int] = {}
        # The same by inode, in the order of opening
        self._unsynced: dict[int, int] = {}
        # Keeps equal contents once: crashes share most files
        self._contents: dict[bytes, bytes] = {}

    @property
    def calls(self) -> int:
        """The number of calls so far."""
        return self._calls.total()

    def sink(self, sink: BatchSink) -> BatchSink:
        """Wrap a sink so that the watch sees the start, the lines and the end of each batch."""
        from sparkstream_kit.sinks.base import open_batch_sink

        def open_watched(
            frame: DataFrame, location: Place | None, opening: Opening
        ) -> Write:
            write = open_batch_sink(sink, frame, location, opening)

            def write_watched(batch: DataFrame, batch_id: int) -> None:
                before = sys.gettrace()
                self._doing = f"batch {batch_id}"
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

    def handle_audit_event(self, event: str, args: tuple[Any, ...]) -> None:
        """Handle an audit event of Python: number the call if it is about to change the folder."""
        if event not in _CHANGES:
            return
        is_open = event == "open"
        flags = args[2] if is_open else 0
        if is_open and not flags & _WRITES:
            return
        names = [arg for arg in args[:2] if isinstance(arg, str | bytes | os.PathLike)]
        paths = [Path(os.fsdecode(name)).absolute() for name in names]
        inside = [path for path in paths if self._folder in path.parents]
        if not inside:
            return
        relative = [str(path.relative_to(self._folder)) for path in inside]
        self.call(f"{event.removeprefix('os.')} {' to '.join(relative)}")
        if is_open:
            size = 0
            if paths[0].exists() and not flags & os.O_TRUNC:
                size = paths[0].stat().st_size
            self._opened[str(paths[0])] = size

    def connect(self, *args: Any, **options: Any) -> Any:
        """Stand in for `sqlite3.connect`, and number each statement that changes data."""
        connection = _connect(*args, **options)

        def run(statement: str) -> None:
            words = statement.split()
            if words[0].upper() in _READS:
                return
            try:
                self.call(" ".join(words)[:_SHOWN])
            except OSError:
                # sqlite3 ignores an error of a trace callback, so interrupt the
                # statement instead.
                connection.interrupt()

        connection.set_trace_callback(run)
        return connection

    def fsync(self, file: Any) -> None:
        """Sync a file in place of `os.fsync`, and note that a power cut keeps its content."""
        self.call("fsync")
        _fsync(file)
        number = file if isinstance(file, int) else file.fileno()
        self._unsynced.pop(os.fstat(number).st_ino, None)

    def call(self, description: str, *, can_fail: bool = True) -> None:
        """Number a call, and keep the folder as a crash before the call leaves it.

        Args:
            description: a description of the call for messages.
            can_fail: whether to add a schedule in which the call fails with an I/O
                error; only calls of a batch get one, not those of the start.

        Raises:
            OSError: the call is the one that this watch was made to fail.
        """
        if threading.get_ident() == self._writer:
            self._calls[""] += 1
            self._lines = 0
            label = str(self._calls[""])
            phase = self._doing
        else:
            self._calls[_START] += 1
            label = f"start {self._calls[_START]}"
            phase = _START
        call = f"call {label} ({phase}: {description})"
        if label == self._fails_at:
            raise OSError(errno.EIO, "an error made by assert_exactly_once")
        self._keep(label, call)
        if can_fail and phase != _START:
            self.crashes.append(
                Crash(f"{label} error", f"an I/O error in place of {call}", label)
            )

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        """Keep the folder before each line of the user's code: Spark may have changed it."""
        file = frame.f_code.co_filename
        if file.startswith(_OTHERS):
            return None
        if event == "line":
            self._lines += 1
            where = f"line {frame.f_lineno} of {Path(file).name} ({self._doing})"
            self._keep(f"{self._calls['']}.{self._lines}", where)
        return self._trace

    def _keep(self, label: str, words: str) -> None:
        """Add crashes: the folder as it is, its last file cut in half, or without unsynced data.

        A run that is made to fail with an I/O error keeps nothing.
        """
        if self._fails_at:
            return
        disk, inodes = read_disk(self._folder)
        self._update_unsynced({*inodes.values()})
        newest = next(reversed(self._unsynced), None)
        lost = dict(disk)
        half = dict(disk)
        for name, inode in inodes.items():
            content = disk[name]
            if content and inode in self._unsynced:
                size = self._unsynced[inode]
                lost[name] = content[:size]
                if inode == newest:
                    half[name] = content[: (size + len(content)) // 2]
        self._add(label, f"crash before {words}", disk)
        self._add(
            f"{label} half",
            f"crash before {words}, with the last file written cut in half",
            half,
        )
        self._add(
            f"{label} lost",
            f"power cut before {words}, which loses what was not synced",
            lost,
        )

    def _update_unsynced(self, inodes: set[int]) -> None:
        """Note the inodes of the files that were opened, and forget those of files that are gone.

        Args:
            inodes: the inodes of all files and folders that exist.
        """
        for path, size in self._opened.items():
            with suppress(FileNotFoundError):
                self._unsynced.setdefault(os.stat(path).st_ino, size)  # noqa: PTH116 - a text
        self._opened = {}
        # A new file may get the inode of one that is gone.
        self._unsynced = {
            inode: size for inode, size in self._unsynced.items() if inode in inodes
        }

    def _add(self, label: str, words: str, disk: Disk) -> None:
        """Add a crash, unless one before it has left the same folder."""
        shared: Disk = {}
        for name, content in disk.items():
            if content:
                shared[name] = self._contents.setdefault(content, content)
            else:
                shared[name] = content
        key = hash(frozenset(shared.items()))
        if key not in self._seen:
            self._seen.add(key)
            self.crashes.append(Crash(label, words, disk=shared))


# Python cannot remove an audit hook, so the hook does nothing while this is empty
_watches: list[Watch] = []
_hooks: list[Callable[[str, tuple[Any, ...]], None]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    for watch in _watches:
        watch.handle_audit_event(event, args)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Report this process's file calls and SQLite statements to a watch during the block."""
    if not _hooks:
        _hooks.append(_hear)
        sys.addaudithook(_hear)
    with ExitStack() as stack:
        for call in ("fsync", "fdatasync"):
            stack.enter_context(patch.object(os, call, watch.fsync))
        for module in (sqlite3, sqlite3.dbapi2):
            stack.enter_context(patch.object(module, "connect", watch.connect))
        stack.callback(_watches.clear)
        _watches.append(watch)
        yield


_CALL = "assert_exactly_once()"
_NAME = "exactly_once"
_BATCHES = 3  # most batches into which the rows are split
_NOT_COVERED = (
    "the moments while executors write files",
    "files of Spark's own: of the checkpoint, and of sinks such as sinks.files",
    "what is not in the folder, such as a database server",
)
_ADVICE = (
    "After a crash a batch comes again, with the same number and the same rows. Write"
    " it to a sink that keeps a record of its batches (sinks.sql_table, sinks.delta,"
    " sinks.batch_files); or write the number of the batch in one transaction with its"
    " rows, and skip a batch whose number is there."
)


@dataclass(frozen=True)
class Certificate:
    """The record of a passed `assert_exactly_once`: what it tried; prints as one line.

    Attributes:
        schedules: the number of schedules tried; no two crashes leave the same content
            on the disk.
        calls: the number of calls that were watched; the job could have died before
            each of them.
        inputs: the splits of the rows into batches: `2|1` is a batch of two rows, a
            stop and a restart, and a batch of one row.
        seconds: the duration of the test in seconds.
        not_covered: the kinds of crashes that are never tried.
    """

    schedules: int
    calls: int
    inputs: tuple[str, ...]
    seconds: float
    not_covered: tuple[str, ...] = _NOT_COVERED

    def __str__(self) -> str:
        """Return the certificate as one line of text."""
        return (
            f"{self.schedules} schedules, 0 differences: {self.calls} calls, over the"
            f" inputs {', '.join(self.inputs)}, in {self.seconds} s; not covered:"
            f" {'; '.join(self.not_covered)}"
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
    """Crash a job at each call that changes something; a restart must give the same result.

    The job runs over the rows in one, two and three batches, and also with a stop and a
    restart after each batch. The test copies the job's folder before each call that
    changes it (a file opened, synced, renamed or removed, a statement or commit of
    SQLite, the first line and the end of the sink), and at each line of your own
    function before which the folder has changed. It copies the folder as a killed
    process leaves it, and also as a power cut leaves it: without the bytes that were
    written and not synced. Then it starts the job on each of these copies, and the job
    runs to the end. In further schedules, a call within a batch fails with an I/O
    error, as on a full disk. After all schedules with one crash, schedules follow in
    which the restart crashes, too.

    The result must equal that of an undisturbed run over the same batches. Rows are
    compared in any order.

    Args:
        build: builds the job from the streaming DataFrame and a folder, which is empty
            at the first start. It returns the transformed DataFrame and a sink that
            writes into that folder. The test calls it for each start.
        rows: a static DataFrame with some rows to feed; three are enough.
        read: reads the result from the folder, and returns its rows.
        mode: the output mode: `append`, `update` or `complete`.
        expected: the rows of the true result, such as those of a batch run. Without it,
            the test cannot find a sink that loses rows in every run.
        most: the largest number of schedules to try, those with the fewest crashes
            first.
        only: the name of one schedule to run alone, as the message of a failure prints
            it.
        report: a file for the certificate, as JSON.

    Returns:
        A certificate of what was tried and what was not.

    Raises:
        AssertionError: a schedule leads to another result; the message shows the
            missing and the duplicate rows, the name of the schedule, and advice.
        InvalidInputError: `rows` is empty, `most` is below 1, the sink is one of
            Spark's own, no schedule has the name `only`, or the session is one of Spark
            Connect, where another process writes the batches.
        QueryFailed: the job fails in a run without a crash.

    Examples:
        In a session::

            import sqlite3

            def build(sales, folder):
                return sales, sinks.sql_table(f"sqlite:///{folder}/sales.db", "sales")

            def read(folder):
                database = sqlite3.connect(folder / "sales.db")
                return database.execute("SELECT * FROM sales").fetchall()

            rows = spark.createDataFrame([("tea", 2), ("ink", 1)], "product STRING, amount INT")
            testing.assert_exactly_once(build, rows, read=read, most=3)
    """
    check(assert_exactly_once, locals())
    from sparkstream_kit._internal.spark.session import on_server

    if on_server(rows.sparkSession):
        raise InvalidInputError(
            f"{_CALL} watches this process, and on Spark Connect another one writes;"
            " unset SPARK_REMOTE"
        )
    if most < 1:
        raise InvalidInputError(
            f"{_CALL}: most is {most}; give 1 or more, as no schedule would prove"
            " nothing"
        )
    began = time.monotonic()
    fed = rows.collect()
    expected_rows = None if expected is None else list(expected)
    if not fed:
        raise InvalidInputError(
            f"{_CALL}: rows is empty; give a static DataFrame with some rows to feed"
        )
    with (
        streams(rows.sparkSession) as stream,
        tempfile.TemporaryDirectory(
            prefix="sparkstream-", ignore_cleanup_errors=True
        ) as folder,
    ):
        run = Path(folder).resolve() / "run"
        proof = _Proof(stream, run, build, read, mode, rows, fed, expected_rows)
        schedules: Iterable[_Schedule]
        if only is None:
            schedules = islice(proof.schedules(), most)
        else:
            schedules = [proof.named(only)]
        ways = [proof.hold(schedule) for schedule in schedules]
    seconds = round(time.monotonic() - began, 1)
    inputs = tuple(dict.fromkeys(ways))
    certificate = Certificate(len(ways), proof.calls, inputs, seconds)
    if report is not None:
        file_system.replace(Path(report), [file_system.as_json(certificate), "\n"])
    return certificate


@dataclass(frozen=True)
class _Schedule:
    """A split of the rows into batches, and the crashes of its starts; the next must recover.

    Attributes:
        way: the sizes of the batches, such as `2-1`; `|` marks a stop and a restart.
        source: the source that holds the rows.
        begins: what the first start that is crashed finds: the folder, as if a crash
            had left it.
        result: the rows of the result of an undisturbed run.
        crashes: the crash of each start, in order.
    """

    way: str
    source: Source
    begins: Crash
    result: list[Any]
    crashes: tuple[Crash, ...] = ()


@dataclass
class _Proof:
    """Runs the schedules of one `assert_exactly_once`, whose arguments are its attributes."""

    stream: Streams
    folder: Path
    build: Callable[[DataFrame, Path], tuple[DataFrame, Sink]]
    read: Callable[[Path], Iterable[Any]]
    mode: str
    rows: DataFrame
    fed: list[Row]
    expected: list[Any] | None
    calls: int = 0
    seen: set[int] = field(default_factory=set)

    def schedules(self) -> Iterator[_Schedule]:
        """Yield all schedules with one crash, then all with two, and so on."""
        shorter: Iterable[_Schedule] = map(self.start_schedule, _ways(len(self.fed)))
        while shorter:
            longer = []
            for schedule in shorter:
                for extended in self.crashed(schedule):
                    yield extended
                    longer.append(extended)
            random.Random(0).shuffle(longer)  # noqa: S311 - if `most` cuts the list, some of each remain
            shorter = longer

    def named(self, name: str) -> _Schedule:
        """Return the schedule with a name that a failure has printed, such as `2|1:17 lost`."""
        schedule = self._find(name)
        if schedule is None:
            raise InvalidInputError(
                f"{_CALL}: only is {name!r}; give what a failure has printed"
            )
        return schedule

    def _find(self, name: str) -> _Schedule | None:
        """Return the schedule with a name; None if there is none."""
        way, *labels = name.split(":")
        if not labels or not re.fullmatch(r"\d+([-|]\d+)*\|?", way):
            return None
        schedule = self.start_schedule(way)
        for label in labels:
            with_label = [
                extended
                for extended in self.crashed(schedule)
                if extended.crashes[-1].label == label
            ]
            if not with_label:
                return None
            schedule = with_label[0]
        return schedule

    def start_schedule(self, way: str) -> _Schedule:
        """Prepare a schedule without crashes: feed rows as `way` says, up to the start to crash.

        The method also runs that start undisturbed, to get the result that every
        schedule must reach.

        Raises:
            AssertionError: that result is not the expected one.
        """
        source = self.stream(self.rows.schema)
        rows = iter(self.fed)
        before, stop, after = way.partition("|")
        self.put({})
        self.land(source, rows, before)
        if stop:
            self.run(source)
            self.land(source, rows, after)
        begins, _ = read_disk(self.folder)
        self.run(source)
        result = list(self.read(self.folder / "out"))
        if self.expected is not None and (text := _difference(self.expected, result)):
            raise AssertionError(
                f"without any crash, with rows in batches of {way}: {text}"
            )
        return _Schedule(way, source, Crash(_START, _START, disk=begins), result)

    def land(self, source: Source, rows: Iterator[Row], sizes: str) -> None:
        """Add the next rows to the source in batches of these sizes, such as `2-1`."""
        for size in re.findall(r"\d+", sizes):
            source.add_data(list(islice(rows, int(size))))
        source.publish()

    def crashed(self, schedule: _Schedule) -> list[_Schedule]:
        """Run a schedule's next start; return the schedule extended by each crash of that start."""
        self.arrive(schedule)
        watch = Watch(self.folder, self.seen)
        self.run(schedule.source, watch)
        self.calls += watch.calls
        # First try the crashes that most often break a sink: late in a batch, and
        # without an error.
        latest = list(reversed(watch.crashes))
        latest.sort(key=lambda crash: crash.fails_at is not None)
        return [
            replace(schedule, crashes=(*schedule.crashes, crash)) for crash in latest
        ]

    def arrive(self, schedule: _Schedule) -> None:
        """Bring the folder into the state after the last crash of a schedule."""
        *before, last = schedule.crashes or (schedule.begins,)
        if last.fails_at is None:
            self.put(last.disk)
            return
        self.arrive(replace(schedule, crashes=tuple(before)))
        # The I/O error that the watch raises, unless the sink handled it
        with suppress(Exception):
            self.run(schedule.source, Watch(self.folder, set(), last.fails_at))

    def put(self, disk: Disk) -> None:
        """Replace the content of the folder; an empty disk gives a folder with an empty `out`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        write_disk(self.folder, disk or {"out": None})

    def run(self, source: Source, watch: Watch | None = None) -> None:
        """Start the job once over all published input, with its calls reported to `watch`."""
        from pyspark.errors import StreamingQueryException

        from sparkstream_kit import start
        from sparkstream_kit.sinks.base import of_batches

        with nullcontext() if watch is None else watching(watch):
            job: Any = self.build(source.to_df(), self.folder / "out")
            if not (isinstance(job, tuple) and len(job) == 2):  # noqa: PLR2004
                raise InvalidInputError(
                    f"{_CALL}: build gave {said(job)}; return (frame, sink)"
                )
            frame, sink = job
            sink = of_batches(sink, _CALL)
            if watch is not None:
                sink = watch.sink(sink)
            query = start(
                frame,
                sink,
                name=_NAME,
                mode=self.mode,
                checkpoint=self.folder / "checkpoint",
                availableNow=True,
            )
            try:
                query.awaitTermination()
            except StreamingQueryException as err:
                raise QueryFailed(_NAME, innermost_cause(err)) from err

    def hold(self, schedule: _Schedule) -> str:
        """Crash the job as a schedule says, start it again, and check its result; return its `way`.

        Raises:
            AssertionError: the start fails, or its result differs from that of the
                undisturbed run.
        """
        self.arrive(schedule)
        try:
            self.run(schedule.source)
            text = _difference(schedule.result, list(self.read(self.folder / "out")))
        except Exception as err:  # noqa: BLE001 - the job and `read` may raise anything
            text = f"the next start fails: {innermost_cause(err)}"
        if not text:
            return schedule.way
        name = ":".join([schedule.way, *(crash.label for crash in schedule.crashes)])
        crashes = "; after a restart ".join(crash.words for crash in schedule.crashes)
        raise AssertionError(
            f"not exactly once, with rows in batches of {schedule.way}: {crashes};"
            f" {text}\nTo run this schedule alone: assert_exactly_once(…,"
            f" only={name!r})\n{_ADVICE}"
        )


def _ways(rows: int) -> Iterator[str]:
    """Yield the splits to try: up to three batches, without a stop and with one after each."""
    for batches in range(1, min(rows, _BATCHES) + 1):
        ends = [rows * number // batches for number in range(batches + 1)]
        sizes = [str(end - begin) for begin, end in pairwise(ends)]
        yield "-".join(sizes)
        for stop in range(1, batches + 1):
            yield f"{'-'.join(sizes[:stop])}|{'-'.join(sizes[stop:])}"


def _difference(expected: list[Any], found: list[Any]) -> str:
    """Return how the result found differs from the true one, as text; empty if it does not."""
    parts = differing(expected, found)
    if not parts:
        return ""
    if parts["missing"]:
        row = parts["missing"][0]
        wrong = "is missing"
    else:
        row = parts["unexpected"][0]
        is_unknown = bool(without([row], expected))
        wrong = "should not be there" if is_unknown else "is there twice"
    return failure_message(f"in the end row {row!r} {wrong}", parts)
