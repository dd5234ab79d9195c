"""Run one of the project's jobs, and say what it took: job.py NAME [ARGUMENT …].

The last line is a JSON object: rows (that the job read), state (rows that its queries
kept at the most) and memory (MiB that Python, its workers and the JVM had at the most,
as the kernel counts them).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import threading
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sparkstream_kit as kit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOBS = Path(__file__).resolve().parent.parent.parent / "jobs"


def memory() -> float:
    """Return the memory of this session's processes in MiB.

    What two processes share counts for both.
    """
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = (
                stat.read_text("utf-8", errors="replace").rpartition(")")[2].split()
            )
            if int(fields[3]) == os.getsid(0):
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def announced(
    make: Callable[..., Any], out: Any, *args: Any, **more: Any
) -> Iterator[Any]:
    """Say when the session is up, as every program of a benchmark does."""
    with make(*args, **more) as spark:
        out.write("session is up\n")
        out.flush()
        yield spark


def counted(
    run: Callable[..., Any],
    rows: dict[str, int],
    state: dict[str, int],
    *queries: Any,
    **more: Any,
) -> Any:
    """Add up what each query reads, and keep the most rows that it had in state."""
    own = more.pop("on_batch", None)

    def on_batch(batch: Any) -> None:
        rows[batch.name] += batch.numInputRows
        state[batch.name] = max(
            state[batch.name], sum(part.numRowsTotal for part in batch.stateOperators)
        )
        if own:
            own(batch)

    return run(*queries, on_batch=on_batch, **more)


def main() -> int:
    """Run the job's main, with its output thrown away; return its exit code."""
    name, *args = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    rows: dict[str, int] = defaultdict(int)
    state: dict[str, int] = defaultdict(int)
    # A job imports them from the package when its main runs.
    kit.spark_session = partial(announced, kit.spark_session, out)
    kit.run = partial(counted, kit.run, rows, state)
    sys.path.insert(0, str(JOBS))
    job = importlib.import_module(name)
    found, ended = [memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            found.append(memory())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        code = int(job.main(args))
    finally:
        ended.set()
        watching.join()
    # A job that reads its input in two queries reads it twice.
    result = {
        "rows": max(rows.values(), default=0),
        "state": sum(state.values()),
        "memory": max(found),
    }
    out.write(json.dumps(result) + "\n")
    out.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
