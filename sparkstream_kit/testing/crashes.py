"""What a driver leaves on the disk if it dies, for each call at which it can die.

Nothing is thrown into the code under test. It runs undisturbed, and before each call that changes its folder
the folder is kept as a dead driver would leave it: what no `except` and no `finally` can change. Python's
audit events number the calls on files, and SQLite's trace the statements. Between them each line of the
user's code is looked at, because what Spark and native libraries write has no event.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import sysconfig
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.sinks import Sink

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

        def open_watched(frame: DataFrame, location: Place | None) -> Write:
            write = opened(sink, frame, location)

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
