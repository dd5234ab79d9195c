"""The making of the archive of classes: for `sparkstream warm`, for set-up, after a first session.

As a script, the module is the training run, whose JVM writes the archive at its end.
`_java` says where an archive is and how it is used.
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
        environment = {
            key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"
        }
        environment["SPARK_SUBMIT_OPTS"] = archive.kind.make.format(made)
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
                f"no class-data archive after {_LIMIT:g} s; see if a Spark job runs"
                " here"
            ) from err
        if done.returncode or not made.exists():
            words = [
                line
                for line in (done.stderr + done.stdout).splitlines()
                if line.strip()
            ] or ["nothing"]
            raise KitError(
                "no class-data archive; the last words of its training run:"
                f" {words[-1].strip()}"
            )
        keep(archive, made)
    return archive.path


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


def _run_streams() -> None:
    """Run a small stream of each common kind, so that the JVM loads the classes for the archive."""
    from pyspark.sql import functions as F

    from sparkstream_kit import (
        feeds,
        quarantine,
        run,
        sinks,
        sources,
        spark_session,
        start,
        windows,
    )
    from sparkstream_kit._internal.spark.session import end_jvm

    columns = (
        "OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct STRING,"
        " Rate DECIMAL(12,2),\n"
        "        Amount DOUBLE, Name STRING, State STRING, Region STRING,"
        " Product STRING, Rows INT, Margin DOUBLE"
    )
    with (
        tempfile.TemporaryDirectory(prefix="sparkstream-") as folder,
        spark_session("sparkstream warm", profile="local") as spark,
    ):
        feeds.drip(feeds.sales_files(2, rows=50, seed=0), f"{folder}/in")
        lines = sources.text(spark, f"{folder}/in", max_files_per_trigger=1)
        rows = sources.csv(spark, f"{folder}/in", schema=columns)
        parsed = quarantine.parse_csv(lines, rows.schema)
        totals = rows.groupBy("Quantity").agg(
            F.sum("Rate").alias("total"), F.count("*").alias("orders")
        )
        timed = rows.withColumn("time", F.timestamp_seconds("OrderID")).withWatermark(
            "time", "1 minute"
        )
        hourly = windows.flatten(
            timed.groupBy(windows.tumbling("time", "1 hour")).count()
        )
        good = quarantine.good_rows(parsed)
        clean = sinks.batch_files(f"{folder}/good")
        run(
            start(
                totals,
                sinks.latest("totals"),
                name="totals",
                mode="complete",
                availableNow=True,
            ),
            start(
                hourly, sinks.console(), name="hourly", mode="update", availableNow=True
            ),
            start(
                good,
                clean,
                name="good",
                checkpoint=f"{folder}/checkpoint",
                availableNow=True,
            ),
        )
        with suppress(MissingExtraError):
            table = sinks.sql_table(f"sqlite:///{folder}/good.db", "good")
            run(
                start(
                    good,
                    table,
                    name="table",
                    checkpoint=f"{folder}/table",
                    availableNow=True,
                )
            )
        spark.sql("SELECT * FROM totals ORDER BY total").toJSON().collect()
        spark.read.parquet(f"{folder}/good").write.json(f"{folder}/json")
    end_jvm()  # it writes the archive at its end


if __name__ == "__main__":
    _run_streams()
