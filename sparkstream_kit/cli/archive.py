"""The making of the archive of classes: for `sparkstream warm`, for set-up, after a first session.

As a script, the module is the training run, whose JVM writes the archive at its end.
`_internal.java` says where an archive is and how it is used.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.java import MADE_NS, Archive, find_java, in_environment
from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame, SparkSession

_LIMIT = 600.0  # seconds that the training run may take


def warm(begins: Callable[[], None] = lambda: None) -> Path:
    """Make the class-data archive for the Java and Spark in use, and return its path.

    Spark starts faster with the archive. To make it, the function runs a few small
    streams in a separate process, whose JVM writes the classes that it loaded to the
    archive. An archive that can still be used is kept.

    Args:
        begins: called before the streams run.

    Raises:
        InvalidInputError: no Java was found.
        KitError: the JVM wrote no archive, and the message ends with the last line of
            its output; or it did not end within ten minutes.
    """
    archive = Archive.of(find_java())
    if archive is None:
        raise InvalidInputError(
            "no Java was found: install Java 17 or newer, or set JAVA_HOME"
        )
    parent = file_system.private_folder(archive.path.parent)
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix=".warm-") as folder,
        (parent / "lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be making it
        if archive.path.exists():
            return archive.path
        begins()
        made = Path(folder, archive.path.name)
        _train(archive.kind.make.format(made), made)
        keep(archive, made)
    return archive.path


def _train(options: str, made: Path) -> None:
    """Run this module as a script, in a JVM with options by which it writes an archive."""
    environment = dict(os.environ)
    environment.pop("SPARK_REMOTE", None)
    environment["SPARK_SUBMIT_OPTS"] = options
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise KitError(
            f"no class-data archive after {_LIMIT:g} s; see if a Spark job runs here"
        ) from err
    if done.returncode or not made.exists():
        output = f"{done.stderr}{done.stdout}".rstrip().splitlines()
        last = "nothing"
        if output:
            last = output[-1].strip()
        raise KitError(
            f"no class-data archive; the last words of its training run: {last}"
        )


def keep(archive: Archive, made: Path) -> None:
    """Install a new archive as a whole; in a virtual environment, remove those that it replaces."""
    # The user's cache is shared, and others may use the archives there
    if in_environment():
        for old in archive.path.parent.glob(f"{archive.path.name.partition('-')[0]}-*"):
            old.unlink(missing_ok=True)  # another `warm` may have removed it
    made.chmod(0o600)  # anyone who can write to the archive can run code in our JVMs
    with made.open("rb") as file:
        # Java 17 crashes on an archive that a power cut has left short
        os.fsync(file.fileno())
    os.utime(made, ns=(MADE_NS, MADE_NS))
    made.replace(archive.path)


# The sales files of `feeds`, in other types than theirs, so that more is converted
_SALES = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct STRING,
    Rate DECIMAL(12,2), Amount DOUBLE, Name STRING, State STRING, Region STRING,
    Product STRING, Rows INT, Margin DOUBLE"""


def _run_streams() -> None:
    """Run a small stream of each common kind, so that the JVM loads the classes for the archive."""
    from sparkstream_kit import feeds, spark_session
    from sparkstream_kit._internal.spark.session import end_jvm

    with (
        tempfile.TemporaryDirectory(prefix="sparkstream-") as folder,
        spark_session("sparkstream warm", profile="local") as spark,
    ):
        feeds.drip(feeds.sales_files(2, rows=50, seed=0), f"{folder}/in")
        _run_three(spark, folder)
        with suppress(MissingExtraError):
            _run_into_table(spark, folder)
        spark.sql("SELECT * FROM totals ORDER BY total").toJSON().collect()
        spark.read.parquet(f"{folder}/good").write.json(f"{folder}/json")
    end_jvm()  # it writes the archive at its end


def _run_three(spark: SparkSession, folder: str) -> None:
    """Run totals into a view, windows onto the console, and checked lines into files."""
    from pyspark.sql import functions as F

    from sparkstream_kit import run, sinks, sources, start, windows

    rows = sources.csv(spark, f"{folder}/in", schema=_SALES)
    totals = rows.groupBy("Quantity").agg(
        F.sum("Rate").alias("total"), F.count("*").alias("orders")
    )
    timed = rows.withColumn("time", F.timestamp_seconds("OrderID"))
    marked = timed.withWatermark("time", "1 minute")
    hourly = marked.groupBy(windows.tumbling("time", "1 hour")).count()
    run(
        start(
            totals,
            sinks.latest("totals"),
            name="totals",
            mode="complete",
            availableNow=True,
        ),
        start(
            windows.flatten(hourly),
            sinks.console(),
            name="hourly",
            mode="update",
            availableNow=True,
        ),
        start(
            _good_rows(spark, folder),
            sinks.batch_files(f"{folder}/good"),
            name="good",
            checkpoint=f"{folder}/checkpoint",
            availableNow=True,
        ),
    )


def _run_into_table(spark: SparkSession, folder: str) -> None:
    """Run checked lines into a table of a database.

    Raises:
        MissingExtraError: the library for databases is not installed.
    """
    from sparkstream_kit import run, sinks, start

    table = sinks.sql_table(f"sqlite:///{folder}/good.db", "good")
    query = start(
        _good_rows(spark, folder),
        table,
        name="table",
        checkpoint=f"{folder}/table",
        availableNow=True,
    )
    run(query)


def _good_rows(spark: SparkSession, folder: str) -> DataFrame:
    """Return the lines of the sales files that can be read, file by file."""
    from sparkstream_kit import quarantine, sources

    lines = sources.text(spark, f"{folder}/in", max_files_per_trigger=1)
    return quarantine.good_rows(quarantine.parse_csv(lines, _SALES))


if __name__ == "__main__":
    _run_streams()
