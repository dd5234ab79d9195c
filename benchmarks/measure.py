"""Run a command; record what it prints and when, and the CPU time of its processes.

Python starts Spark's JVM and does not wait for it: this process becomes the parent of
what is orphaned, and adds up the kernel's own account of each child. The kernel keeps
none of PySpark's workers, since their parent ignores SIGCHLD (pyspark/daemon.py): of
these counts what they had taken at the last look, of two a second.
Run: python benchmarks/measure.py LIMIT_SECONDS STDERR_FILE COMMAND …
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36
_TICK = os.sysconf("SC_CLK_TCK")
_SIGCHLD = 1 << (signal.SIGCHLD - 1)  # in a mask of signals


def main() -> int:
    """Run the command, and print one JSON object with what it printed, took and returned.

    The object has `lines` ([seconds, CPU seconds so far, text]), `cpu` (seconds),
    `code` and `others`. `others` is the part of the machine's time that went to other
    processes meanwhile.
    """
    limit, errors, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started, busy = time.monotonic(), _cpu_of_machine()
    with Path(errors).open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    watchdog = threading.Timer(float(limit), _kill, (process.pid,))
    watchdog.start()
    workers, done = dict[int, int](), threading.Event()
    look = threading.Thread(target=_look, args=(process.pid, workers, done))
    look.start()
    # Stopped in the middle, it leaves nothing running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lines = [
            (
                time.monotonic() - started,
                _cpu_of_session(process.pid),
                line.decode().rstrip("\n"),
            )
            for line in process.stdout or ()
        ]
        cpu, code = _account(process.pid, workers)
    except KeyboardInterrupt:
        _kill(process.pid)
        return 130
    finally:
        watchdog.cancel()
        done.set()
    look.join()
    cpu += sum(workers.values()) / _TICK
    others = _cpu_of_machine() - busy - cpu
    part = others / (time.monotonic() - started) / (os.cpu_count() or 1)
    sys.stdout.write(
        json.dumps({"lines": lines, "cpu": cpu, "code": code, "others": max(part, 0.0)})
    )
    return 0


def _account(main_pid: int, workers: dict[int, int]) -> tuple[float, int]:
    """Wait for all processes; return their CPU seconds and the main one's exit code.

    A worker that outlives its parent is waited for here, and leaves `workers`.
    """
    cpu, code = 0.0, 0
    while True:
        try:
            pid, status, used = os.wait4(-1, 0)
        except ChildProcessError:
            return cpu, code
        workers.pop(pid, None)
        cpu += used.ru_utime + used.ru_stime
        code = os.waitstatus_to_exitcode(status) if pid == main_pid else code


def _look(session: int, workers: dict[int, int], done: threading.Event) -> None:
    """Keep the ticks of each of PySpark's workers in a session, by process, until `done` is set."""
    while not done.wait(0.5):
        of = {pid: fields for pid, fields in _stats() if int(fields[3]) == session}
        for pid, (_, parent, *fields) in of.items():
            if int(parent) in of and _SIGCHLD & int(
                _status(int(parent)).get("SigIgn", "0"), 16
            ):
                workers[pid] = int(fields[9]) + int(fields[10])


def _status(pid: int) -> dict[str, str]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
    return {}


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Yield each process with the fields of its `stat` from its state on, the third one."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            fields = (
                stat.read_text("utf-8", errors="replace").rpartition(")")[2].split()
            )
            yield int(stat.parent.name), fields


def _kill(session: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def _cpu_of_machine() -> float:
    """Return the CPU seconds that all processes have taken since the machine's start."""
    user, nice, system = Path("/proc/stat").read_text("utf-8").split()[1:4]
    return (int(user) + int(nice) + int(system)) / _TICK


def _cpu_of_session(session: int) -> float:
    """Return the CPU seconds so far of a session's processes and of those they waited for."""
    of = (fields for _, fields in _stats() if int(fields[3]) == session)
    return sum(sum(map(int, fields[11:15])) for fields in of) / _TICK


if __name__ == "__main__":
    sys.exit(main())
