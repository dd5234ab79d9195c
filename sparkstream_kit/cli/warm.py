"""Make the class-data archive: small streams run once, and the JVM keeps what it has loaded for them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sparkstream_kit._archive import QUIET, Archive
from sparkstream_kit._files import private_folder
from sparkstream_kit.errors import InvalidInputError, KitError

__all__ = ["warm"]

_LIMIT = 300.0  # seconds that the training run may take


def warm() -> Path:
    """Make the archive for the Java and the Spark of this environment, if need be, and return its path.

    A small stream of each common kind runs in a process of its own, for the JVM to learn from.

    Raises:
        InvalidInputError: no Java was found.
        KitError: the JVM has made no archive; the message has its own words.
    """
    archive = Archive.of_this_launch()
    if archive is None:
        raise InvalidInputError("no Java was found: install Java 17 or newer, or set JAVA_HOME")
    if archive.usable():
        return archive.path
    private_folder(archive.path.parent)
    with tempfile.TemporaryDirectory(dir=archive.path.parent, prefix=".warm-") as folder:
        made = Path(folder, "made.jsa")
        environment = {key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"}
        environment["SPARK_SUBMIT_OPTS"] = f'"-XX:ArchiveClassesAtExit={made}" {QUIET}'
        try:
            # Its output ends when its JVM has: that one writes the archive after Python is gone.
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
            raise KitError(f"no class-data archive after {_LIMIT:g} s; see if a Spark job runs here") from err
        if done.returncode or not made.exists():
            words = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["nothing"]
            raise KitError(f"no class-data archive; the last words of its training run: {words[-1].strip()}")
        archive.keep(made)
    return archive.path


def _run_streams() -> None:
    """Run a small stream of each common kind: what the JVM loads for them is what the archive will hold."""
    from pyspark.sql import functions as F

    from sparkstream_kit import feeds, quarantine, run, sinks, sources, spark_session, start, windows

    columns = "OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct STRING, Rate DECIMAL(12,2)"
    with (
        tempfile.TemporaryDirectory(prefix="sparkstream-") as folder,
        spark_session("sparkstream warm", profile="local") as spark,
    ):
        feeds.drip(feeds.sales_files(2, rows=50, seed=0), f"{folder}/in")
        lines = sources.text(spark, f"{folder}/in", max_files_per_trigger=1)
        rows = sources.csv(spark, f"{folder}/in", schema=columns)
        parsed = quarantine.parse_csv(lines, rows.schema)
        totals = rows.groupBy("Quantity").agg(F.sum("Rate").alias("total"), F.count("*").alias("orders"))
        timed = rows.withColumn("time", F.timestamp_seconds("OrderID")).withWatermark("time", "1 minute")
        hourly = windows.flatten(timed.groupBy(windows.tumbling("time", "1 hour")).count())
        good, clean = quarantine.good_rows(parsed), sinks.batch_files(f"{folder}/good")
        run(
            start(totals, sinks.latest("totals"), name="totals", mode="complete", availableNow=True),
            start(hourly, sinks.console(), name="hourly", mode="update", availableNow=True),
            start(good, clean, name="good", checkpoint=f"{folder}/checkpoint", availableNow=True),
        )
        spark.sql("SELECT * FROM totals ORDER BY total").toJSON().collect()
        spark.read.parquet(f"{folder}/good").write.json(f"{folder}/json")


if __name__ == "__main__":
    _run_streams()
