"""A small stream for the tests of sinks, and what they do with it."""

from typing import Any

import pytest
from conftest import ran
from pyspark.sql import functions as F

from sparkstream_kit import feeds, run, sources, start
from sparkstream_kit.connectors import _tables
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks.base import Target

Rows = list[tuple[Any, ...]]
TOTALS: Rows = [("a", 3), ("b", 4), ("c", 5)]  # of the three batches
# A mode, arguments of a sink, and what it then has
CASES: dict[str, tuple[str, dict[str, Any], Rows]] = {
    "append": (
        "append",
        {},
        [("a", 1), ("a", 2), ("b", 1), ("b", 3), ("c", 2), ("c", 3)],
    ),
    "upsert": ("update", {"keys": ["k"]}, TOTALS),
    "replace": ("complete", {}, TOTALS),
}
KEYS = [  # wrong ones of an upsert, as SQL, and what is said of them
    ("IF(n = 3, NULL, k)", "key key is null; fill it"),
    ("'one'", "key key is the same in two rows; use"),
]


def three_batches(spark, folder):
    """Three batches of two rows: (a, 1), (b, 1); (a, 2), (c, 2); (b, 3), (c, 3)."""
    feeds.drip(
        [("1.csv", "a,1\nb,1\n"), ("2.csv", "a,2\nc,2\n"), ("3.csv", "b,3\nc,3\n")],
        folder,
    )
    return sources.csv(
        spark, str(folder), schema="k STRING, n INT", max_files_per_trigger=1
    )


def totals(stream):
    return stream.groupBy("k").agg(F.sum("n").alias("total"))


def finish(frame, sink, checkpoint, mode="append", **more):
    """Run a query over all that is there."""
    run(
        start(
            frame,
            sink,
            name="q",
            mode=mode,
            checkpoint=checkpoint,
            availableNow=True,
            **more,
        )
    )


def refused(frame, sink, checkpoint, mode="append"):
    """Return the line with which a query is refused, at its start or at its next batch."""
    with pytest.raises((InvalidInputError, QueryFailed)) as error:
        finish(frame, sink, checkpoint, mode)
    assert "\n" not in str(error.value)
    return str(error.value)


def forget_commit(checkpoint, batch_id=None):
    """Make Spark believe that it was killed between the sink and the commit of its last batch."""
    commits = checkpoint / "commits"
    last = (
        max(int(path.name) for path in commits.glob("[0-9]*"))
        if batch_id is None
        else batch_id
    )
    for name in (f"{last}", f".{last}.crc"):
        (commits / name).unlink()


def noting(file):
    """Return a function of a column that notes in a file each number that it is computed for."""
    path = str(file)

    def note(number):
        with open(path, "a") as notes:  # noqa: PTH123 - in another process, which has no import of ours
            notes.write(f"{number}\n")
        return number

    return F.udf(note, "int", useArrow=False)


CONNECTED = """
import sys
from pathlib import Path
from sparkstream_kit import get_session, run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError
url, home = sys.argv[1], Path(sys.argv[2])

def finish(frame, sink, checkpoint, mode):
    run(start(frame, sink, name="q", mode=mode, checkpoint=checkpoint, availableNow=True))

spark = get_session("connected")
stream = sources.csv(spark, str(home / "in"), schema="k STRING, n INT", max_files_per_trigger=1)
totals = stream.groupBy("k").agg({{"n": "sum"}}).withColumnRenamed("sum(n)", "total")
for _ in range(2):
    finish(stream, {rows}, home / "a", "append")
    finish(totals, {totals}, home / "b", {mode!r})
    for name in ("a/commits/2", "a/commits/.2.crc", "b/commits/2", "b/commits/.2.crc"):
        (home / name).unlink()
try:
    finish(stream, {rows}, home / "c", "append")
except InvalidInputError as err:
    print(err)
"""


def connected(connect, url, home, rows, totals, mode):
    """Write rows and totals on Spark Connect, each last batch twice; return what it says."""
    return ran(
        CONNECTED.format(rows=rows, totals=totals, mode=mode),
        url,
        home,
        SPARK_REMOTE=connect,
    ).stdout


def table_target(*, take_over=False):
    """Return what a writer of a table format is given for appends."""
    where = Target("table", "t")
    how: dict[str, Any] = {
        "how": "append",
        "keys": (),
        "merge_schema": False,
        "take_over": take_over,
    }
    return _tables.TableTarget(
        where=where, **how, open_table=lambda _: pytest.fail("a test opens it itself")
    )
