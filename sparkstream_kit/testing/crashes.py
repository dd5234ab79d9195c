"""Every crash of a driver: what would lie on the disk had it died at any of its calls, kept while it runs.

Nothing is thrown into the code under test: it runs undisturbed, and before each call that changes its folder
the folder is kept as a dead driver would leave it. So no `except` and no `finally` of a sink can do what a
dead process does not do. Python's audit events number the calls on files, and SQLite's own trace the
statements; between them each line of the sink is looked at, as Spark and native libraries have no events.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import sysconfig
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from sparkstream_kit.sinks.base import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.sinks import Sink

Disk = dict[str, bytes | None]  # what a folder holds, by path: a file's bytes, or None for a folder

_CHANGES = {
    "os.link": "link",
    "os.mkdir": "make folder",
    "os.remove": "remove",
    "os.rename": "rename",
    "os.rmdir": "remove folder",
    "os.symlink": "link",
    "os.truncate": "cut off",
    "open": "open",
    "sqlite3.connect": "connect to",
}
_IN_FOLDER = ("os.mkdir", "os.remove", "os.rmdir")  # events that end with the folder that a name is in
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READS = {"EXPLAIN", "PRAGMA", "SELECT"}  # statements that change nothing
_START = "the start"
_SHOWN = 60  # characters of a statement
# Code whose lines nobody has to look at: Python's, that of installed packages, and the kit's.
_OTHERS = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]), "<")

WHOLE, LOST, HALF, ERROR = "", " lost", " half", " error"
_MEANS = {
    WHOLE: "crash before {}",
    LOST: "power cut before {}, what was written and not synced is lost",
    HALF: "crash before {}, the last file written is cut in half",
    ERROR: "an I/O error in place of {}",
}


@dataclass(frozen=True)
class Crash:
    """A moment at which a driver can die.

    Attributes:
        label: names it among the crashes of its start, such as `17` or `17 lost`.
        words: the same for people.
        disk: what lies on the disk then; None of an error, which the driver lives through.
    """

    label: str
    words: str
    disk: Disk | None = field(repr=False)


def read_disk(folder: Path) -> tuple[Disk, dict[str, int]]:
    """Return what a folder holds, and the inode of each file."""
    found: Disk = {}
    inodes = {}
    for path, folders, files in os.walk(folder):
        below = os.path.relpath(path, folder)
        found.update({os.path.normpath(f"{below}/{name}"): None for name in folders})
        for name in files:
            # Spark may just have removed it.
            with suppress(FileNotFoundError), open(os.path.join(path, name), "rb") as file:  # noqa: PTH118, PTH123
                inside = os.path.normpath(f"{below}/{name}")
                inodes[inside] = os.fstat(file.fileno()).st_ino
                found[inside] = file.read()
    return found, inodes


def write_disk(folder: Path, disk: Disk) -> None:
    """Put into an empty folder what a disk held."""
    for name in sorted(disk):
        content = disk[name]
        if content is None:
            (folder / name).mkdir(parents=True, exist_ok=True)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


class Watch:
    """Numbers the calls of one start, and keeps each crash that leaves something new on the disk."""

    def __init__(self, folder: Path, seen: set[Any], fail_at: int | None = None) -> None:
        self.crashes: list[Crash] = []
        self.calls = 0
        self._folder, self._seen, self._fail_at = folder, seen, fail_at
        self._doing = _START
        self._looks = 0  # since the last call
        self._known: Any = None  # how the folder looked
        self._last = 0  # inode of the file that was opened last
        self._opened: dict[str, int] = {}  # files to be written, with the bytes that a power cut leaves
        self._unsynced: dict[int, int] = {}  # the same by inode, of those that are there
        self._contents: dict[bytes, bytes] = {}  # each once, as most are in every crash

    def sink(self, sink: Sink) -> Sink:
        """Return a sink whose batches are watched."""

        def open_watched(frame: DataFrame, location: Place | None) -> Write:
            write = opened(sink, frame, location)

            def write_watched(batch: DataFrame, batch_id: int) -> None:
                self._doing = f"batch {batch_id}"
                self._call("the first line of the sink", fails=False)
                before = sys.gettrace()
                sys.settrace(before if self._fail_at else self._trace)
                try:
                    write(batch, batch_id)
                finally:
                    sys.settrace(before)
                self._call("Spark's commit, after the sink", fails=False)

            return write_watched

        return replace(sink, open=open_watched, realtime=None)

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """Number a call of Python that is about to change the folder."""
        if event not in _CHANGES or (event == "open" and not args[2] & _WRITES):
            return
        paths = [os.fsdecode(each) for each in args[:2] if isinstance(each, str | bytes)]
        in_folder = args[-1] if event in _IN_FOLDER and args[-1] != -1 else None
        within = [os.path.abspath(path) for path in paths]  # noqa: PTH100
        if in_folder is None and not any(path.startswith(f"{self._folder}{os.sep}") for path in within):
            return
        shown = [path if in_folder else os.path.relpath(path, self._folder) for path in paths]
        self._call(f"{_CHANGES[event]} {' to '.join(shown)}")
        with suppress(FileNotFoundError):
            info = os.stat(paths[-1], dir_fd=in_folder)  # noqa: PTH116
            if event == "open":
                self._opened[within[0]] = 0 if args[2] & os.O_TRUNC else info.st_size
            else:
                self._unsynced.pop(info.st_ino, None)  # it goes, and a new file may get its inode
            return
        if event == "open":
            self._opened[within[0]] = 0

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        """Connect to SQLite, and number the statements."""
        connection = _connect(*args, **options)

        def run(statement: str) -> None:
            words = statement.split()
            if words[0].upper() not in _READS:
                try:
                    self._call(" ".join(words)[:_SHOWN])
                except OSError:
                    connection.interrupt()

        connection.set_trace_callback(run)
        return connection

    def fsync(self, file: Any) -> None:
        """Sync a file, after which no crash undoes what was written."""
        number = file if isinstance(file, int) else file.fileno()
        self._call("fsync")
        _fsync(number)
        self._unsynced.pop(os.fstat(number).st_ino, None)

    def _call(self, what: str, *, fails: bool = True) -> None:
        self.calls += 1
        self._looks = 0
        words = f"call {self.calls} ({self._doing}: {what})"
        if self._fail_at is None:
            self._keep(str(self.calls), words)
        if fails and self._doing != _START:
            self.crashes.append(Crash(f"{self.calls}{ERROR}", _MEANS[ERROR].format(words), None))
        if self.calls == self._fail_at:
            raise OSError(errno.EIO, "an error made by assert_exactly_once")

    def _trace(self, frame: FrameType, *_: Any) -> Callable[..., Any] | None:
        file = frame.f_code.co_filename
        return None if file.startswith(_OTHERS) else self._line

    def _line(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        """Keep what a line has changed without a call that has a number, such as a write of Spark's."""
        if event != "line":
            return self._line
        looks = [
            (path, os.stat(f"{path}/{name}").st_mtime_ns)  # noqa: PTH116
            for path, _, files in os.walk(self._folder)
            for name in files
            if os.path.exists(f"{path}/{name}")  # noqa: PTH110
        ]
        if looks != self._known:
            self._known = looks
            self._looks += 1
            where = f"line {frame.f_lineno} of {Path(frame.f_code.co_filename).name} ({self._doing})"
            self._keep(f"{self.calls}.{self._looks}", where)
        return self._line

    def _keep(self, label: str, words: str) -> None:
        disk, inodes = read_disk(self._folder)
        for path, size in self._opened.items():
            with suppress(FileNotFoundError):
                self._last = os.stat(path).st_ino  # noqa: PTH116
                self._unsynced.setdefault(self._last, size)
        self._opened = {}
        lost, half = dict(disk), dict(disk)
        for name, inode in inodes.items():
            content, kept = disk[name], self._unsynced.get(inode)
            if content is not None and kept is not None:
                lost[name] = content[:kept]
                if inode == self._last:
                    half[name] = content[: (kept + len(content)) // 2]
        for kind, state in ((WHOLE, disk), (HALF, half), (LOST, lost)):
            shared = {n: c and self._contents.setdefault(c, c) for n, c in state.items()}
            key = hash(frozenset(shared.items()))
            if key not in self._seen:
                self._seen.add(key)
                self.crashes.append(Crash(f"{label}{kind}", _MEANS[kind].format(words), shared))


_fsync, _connect = os.fsync, sqlite3.connect
_hooked: list[Watch] = []  # a hook stays for good, and hears nothing while this is empty
_known_to_python: list[bool] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _hooked:
        _hooked[-1].heard(event, args)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Let a watch hear of the calls of this process."""
    if not _known_to_python:
        sys.addaudithook(_hear)
        _known_to_python.append(True)
    with ExitStack() as stack:
        stack.enter_context(patch.object(os, "fsync", watch.fsync))
        for module in (sqlite3, sqlite3.dbapi2):
            stack.enter_context(patch.object(module, "connect", watch.connect))
        _hooked.append(watch)
        stack.callback(_hooked.clear)
        yield
