"""A long past for a checkpoint, and what a process has used: shared by both programs."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

# Batches before the past is written into the log, and batches that are measured
BEFORE, BATCHES = 21, 40
LONG_AGO, TODAY = 1_600_000_000, 1_750_000_000  # seconds since 1970
# As after many batches: few plans are kept
SHORT = {"spark.sql.streaming.minBatchesToRetain": "2"}


def land(folder: Path, numbers: range) -> None:
    """Write a file of one row for each number."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        file = folder / f"{number:03}.csv"
        file.write_text(f"{number},a\n")
        os.utime(file, (TODAY + number, TODAY + number))


def write(log: Path, folder: Path, files: int) -> None:
    """Add files to the log of a file source, as if its first batch had read them long ago."""
    newest = max(log.glob("*.compact"), key=lambda file: int(file.stem))
    version, *lines = newest.read_text().split("\n")
    first = json.loads(lines[0])
    with newest.open("w") as file:
        file.write(version)
        for number in range(files):
            name = f"file://{folder}/2020/{number // 3600:05}/part-{number:09}-c000.csv"
            at = LONG_AGO * 1000 + number
            entry = json.dumps(
                first | {"path": name, "timestamp": at, "batchId": 0},
                separators=(",", ":"),
            )
            file.write(f"\n{entry}")
        file.writelines(f"\n{line}" for line in lines)
    newest.with_name(f".{newest.name}.crc").unlink(missing_ok=True)


def used(jvm: int) -> dict[str, float]:
    """Return the CPU seconds of this process and its JVM, and this process's memory in MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    fields = Path(f"/proc/{jvm}/stat").read_text().rsplit(")", 1)[1].split()
    status = Path("/proc/self/status").read_text().split()
    return {
        "python": own.ru_utime + own.ru_stime,
        "jvm": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        "memory": int(status[status.index("VmRSS:") + 1]) / 1024,
    }


def measure(spark: SparkSession, go: Callable[[], int]) -> None:
    """Run the batches, and print the line of the result: their rows, and what they have used."""
    jvm = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()  # type: ignore[union-attr]  # noqa: SLF001
    before = used(jvm)
    print("session is up", flush=True)
    rows = go()
    after = used(jvm)
    taken = {name: round(after[name] - before[name], 2) for name in before}
    print(
        json.dumps(
            {"rows": rows, "cpu": round(taken["python"] + taken["jvm"], 2), **taken}
        ),
        flush=True,
    )
