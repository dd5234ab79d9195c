"""Many small batches into one sink, and what the driver holds after some of them.

Each time a line of JSON in FOLDER/looks: the batch, the JVM's heap in megabytes after a
full collection, and the open descriptors, threads and temporary files of Python and its
JVM; `names` says which threads.
Run: python soak.py SINK TARGET FOLDER LOOK [LOOK ...]
SINK: see `make`; TARGET: the first arguments of a sink of another system, such as
"sqlite:///t.db t"; LOOK: after how many batches to look
"""

import gc
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparkstream_kit import jobflags
from sparkstream_kit.sinks import Sink

KEPT = (
    *(
        "sql.ui.retainedExecutions",
        "ui.retainedJobs",
        "ui.retainedStages",
        "ui.retainedTasks",
    ),
    "sql.streaming.numRecentProgressUpdates",
)
# Pools that take a new thread for each task until they are full, or let it go after
# some time: those of Spark, and that of delta-rs, which has a hundred threads after a
# table's checkpoint, until it has nothing to do for ten seconds.
POOLS = (
    "block-manager-",
    "ResultQueryStag",
    "QueryStageCreat",
    "shuffle-exchang",
    "tokio-rt-worker",
)
# One after the other: what a collection finds unused, Spark's cleaner lets go of for
# the next one
LOOKS = 5
MOST_LOOKS = 100
YEAR = 365 * 86_400  # seconds
# Files of a year that wait in the folder, and that stay there once they were read
WAITING, STAYING = 20, 200


def make(kind, target, folder):
    """Return a sink with its output mode."""
    from sparkstream_kit import connectors, sinks

    def collect(batch, _batch_id):
        batch.collect()

    made: dict[str, Callable[[], tuple[str, Sink]]] = {
        "batch_files": lambda: ("append", sinks.batch_files(f"{folder}/out")),
        "by_value": lambda: (
            "append",
            sinks.by_value("k", lambda k: sinks.batch_files(f"{folder}/out/{k}")),
        ),
        "by_watermark": lambda: (
            "append",
            sinks.by_watermark(
                "timestamp",
                on_time=sinks.batch_files(f"{folder}/out"),
                late=sinks.batch_files(f"{folder}/late"),
            ),
        ),
        "console": lambda: ("complete", sinks.console()),
        "fan_out": lambda: (
            "complete",
            sinks.fan_out(sinks.latest("t"), sinks.batch_files(f"{folder}/out")),
        ),
        "files": lambda: ("append", sinks.files(f"{folder}/out")),
        "foreach_batch": lambda: ("update", sinks.foreach_batch(collect)),
        "latest": lambda: ("complete", sinks.latest("t")),
        "memory": lambda: ("complete", sinks.memory("t")),
        "snapshot": lambda: ("complete", sinks.snapshot(f"{folder}/out.csv")),
        "table": lambda: ("append", sinks.table("t", path=f"{folder}/out")),
    }
    if kind in made:
        return made[kind]()
    name, _, how = kind.replace("year", "sql_table-upsert").partition("-")
    if name not in connectors.names("sink"):
        sys.exit(f"no sink to soak is named {name}: enter it in `make` of {__file__}")
    more: dict[str, Any] = {"how": how} if how else {}
    more |= {"catalog": f"{folder}/lake"} if name == "iceberg" else {}
    sink = getattr(sinks, name)(
        *target.split(), **more, **({"keys": ["k"]} if how == "upsert" else {})
    )
    return sink.modes[0], sink


def land(folder, read, number):
    """Land the files of a year, each dated as it would have come; old ones leave.

    Few of them are read.
    """
    folder.mkdir(exist_ok=True)
    newest = max((int(file.stem) for file in folder.glob("*.csv")), default=-1)
    for each in range(newest + 1, read + WAITING):
        hidden = folder / f".{each}"
        hidden.write_text(f"{each % 7},{each}\n")
        at = time.time() - YEAR + each * YEAR / number
        os.utime(hidden, (at, at))
        hidden.rename(folder / f"{each:07}.csv")
        (folder / f"{each - STAYING:07}.csv").unlink(missing_ok=True)


def threads(pid):
    """Return how many threads of each name a process has, without those of `POOLS`."""
    found: Counter[str] = Counter()
    for name in Path(f"/proc/{pid}/task").glob("*/comm"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            text = name.read_text().strip()
            found[re.sub(r"\d+", "N", text)] += not text.startswith(POOLS)
    return found


def held(spark):
    """Return what this process and its JVM hold now."""
    jvm: Any = spark._jvm  # noqa: SLF001
    gc.collect()
    jvm.java.lang.System.gc()
    pools = jvm.java.lang.management.ManagementFactory.getMemoryPoolMXBeans()
    # As it was after the collection; null of no heap
    after = [pool.getCollectionUsage() for pool in pools]
    pids = os.getpid(), jvm.java.lang.ProcessHandle.current().pid()
    names: Counter[str] = sum(map(threads, pids), Counter())
    return {
        "megabytes": sum(usage.getUsed() for usage in after if usage is not None) / 1e6,
        "descriptors": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),  # noqa: PTH208
        "threads": names.total(),
        "files": sum(len(files) for _, _, files in os.walk(tempfile.gettempdir())),
        "names": names,
    }


def least(spark):
    """Return the least that is held in some looks one after the other."""
    found = [held(spark)]
    # Spark's cleaner removes the files of what a collection has found unused, in its
    # own time.
    while len(found) < LOOKS or (
        found[-1]["files"] < found[-LOOKS]["files"] and len(found) < MOST_LOOKS
    ):
        time.sleep(0.2)
        found.append(held(spark))
    return {
        name: min(each[name] for each in found) for name in found[0] if name != "names"
    } | {"names": min(found, key=lambda each: each["threads"])["names"]}


@jobflags.exit_codes
def main(argv=None):
    """Run until the last look."""
    kind, target, folder, *looks = sys.argv[1:] if argv is None else argv

    from pyspark.sql import functions as F

    from sparkstream_kit import get_session, sources, start

    conf = {f"spark.{name}": "10" for name in KEPT} | {
        "spark.master": "local[2]",
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        # A full collection takes what is only held softly, too.
        "spark.driver.extraJavaOptions": "-XX:SoftRefLRUPolicyMSPerMB=0",
    }
    # "delta" has the table written by Spark
    connectors = os.environ.get("CONNECTORS", "").split()
    with get_session(
        "soak", profile="local", conf=conf, connectors=connectors
    ) as spark:
        rate = (
            spark.readStream.format("rate-micro-batch")
            .option("rowsPerBatch", 10)
            .load()
        )
        key, value = (
            (F.col("value") % 7).alias("k"),
            F.col("value").cast("string").alias("v"),
        )
        frame = rate.select(key, value)
        if kind == "year":
            land(Path(folder, "in"), 0, int(looks[-1]))
            frame = sources.csv(
                spark, f"{folder}/in", schema="k INT, v STRING", max_files_per_trigger=1
            )
        if kind == "by_watermark":
            frame = rate.select(key, value, "timestamp").withWatermark(
                "timestamp", "1 second"
            )
        mode, sink = make(kind, target, folder)
        if mode != "append":
            frame = frame.groupBy("k").agg(F.max("v").alias("v"))
        name = sink.query_name or "soak"
        for look in map(int, looks):
            query = start(
                frame, sink, name=name, mode=mode, checkpoint=f"{folder}/ckpt"
            )
            while query.lastProgress is None or query.lastProgress["batchId"] < look:
                query.awaitTermination(1)  # raises if it failed
                if kind == "year" and query.lastProgress:
                    land(
                        Path(folder, "in"),
                        query.lastProgress["batchId"],
                        int(looks[-1]),
                    )
            query.stop()  # what a batch holds while it runs is not counted
            with Path(folder, "looks").open("a") as file:
                file.write(json.dumps({"batch": look, **least(spark)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
