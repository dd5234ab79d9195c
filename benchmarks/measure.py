"""Run a command and account for all of its processes: what was printed and when, and their CPU time.

Python starts Spark's JVM and does not wait for it: this process becomes the parent of what is orphaned,
and adds up the kernel's own account of each child.
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

_PR_SET_CHILD_SUBREAPER = 36
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Print one JSON object: lines ([seconds, CPU seconds so far, text]), cpu (seconds), code, others.

    `others` is the part of the machine's time that went to other processes meanwhile.
    """
    limit, errors, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started, busy = time.monotonic(), _cpu_of_machine()
    with Path(errors).open("wb") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    watchdog = threading.Timer(float(limit), _kill, (process.pid,))
    watchdog.start()
    # Stopped in the middle, it leaves nothing running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lines = [
            (time.monotonic() - started, _cpu_of_session(process.pid), line.decode().rstrip("\n"))
            for line in process.stdout or ()
        ]
        cpu, code = _account(process.pid)
    except KeyboardInterrupt:
        _kill(process.pid)
        return 130
    finally:
        watchdog.cancel()
    others = _cpu_of_machine() - busy - cpu
    part = others / (time.monotonic() - started) / (os.cpu_count() or 1)
    sys.stdout.write(json.dumps({"lines": lines, "cpu": cpu, "code": code, "others": max(part, 0.0)}))
    return 0


def _account(main_pid: int) -> tuple[float, int]:
    """Wait for all processes; return their CPU seconds and the main one's exit code."""
    cpu, code = 0.0, 0
    while True:
        try:
            pid, status, used = os.wait4(-1, 0)
        except ChildProcessError:
            return cpu, code
        cpu += used.ru_utime + used.ru_stime
        code = os.waitstatus_to_exitcode(status) if pid == main_pid else code


def _kill(session: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def _cpu_of_machine() -> float:
    """Return the CPU seconds that all processes have taken since the machine's start."""
    user, nice, system = Path("/proc/stat").read_text("utf-8").split()[1:4]
    return (int(user) + int(nice) + int(system)) / _TICK


def _cpu_of_session(session: int) -> float:
    """Return the CPU seconds so far of the processes of a session, with those they have waited for."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            fields = stat.read_text("utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += sum(map(int, fields[11:15]))
    return ticks / _TICK


if __name__ == "__main__":
    sys.exit(main())
