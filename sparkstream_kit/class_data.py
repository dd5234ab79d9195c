"""The class-data archive: what a JVM has loaded of Spark, kept so that the next one need not load it again.

A third of the time to a first result goes into loading and checking some 15,000 classes. The archive is made
once, by `sparkstream warm` or by the set-up of this project, and each Java and each Spark has its own. From
Java 19 on the JVM renews it by itself, once it is there.

https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError, KitError

__all__ = ["java_options", "warm"]

_RENEWS_ITSELF = 19  # the first Java that does
# Why an archive is left aside interests nobody who runs a job.
_QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"
_LIMIT = 300.0  # seconds that the training run may take


def java_options() -> str:
    """Return the flags that give a JVM the archive; none where there is none that fits.

    Example:
        >>> java_options() == "" or "-XX:SharedArchiveFile=" in java_options()
        True
    """
    try:
        archive = _Archive.of_this_launch()
        if archive is None or not archive.usable():
            return ""
    except (InvalidInputError, OSError):  # no home folder, or files out of reach: there is no archive either
        return ""
    renewing = "-XX:+AutoCreateSharedArchive " if archive.renews_itself else ""
    # Without its check sums verified, a damaged archive crashes the JVM; to verify them costs nothing that
    # could be measured. Spark's launcher splits the options at blanks.
    return f'{renewing}"-XX:SharedArchiveFile={archive.path}" -XX:+VerifySharedSpaces {_QUIET}'


def warm() -> Path:
    """Make the archive for the Java and the Spark of this environment, if need be, and return its path.

    A small stream of each common kind runs in a process of its own, for the JVM to learn from.

    Raises:
        InvalidInputError: no Java was found.
        KitError: the JVM has made no archive; the message has its own words.
    """
    archive = _Archive.of_this_launch()
    if archive is None:
        raise InvalidInputError("no Java was found: install Java 17 or newer, or set JAVA_HOME")
    if archive.usable():
        return archive.path
    _files.private_folder(archive.path.parent)
    with tempfile.TemporaryDirectory(dir=archive.path.parent, prefix=".warm-") as folder:
        made = Path(folder, "made.jsa")
        environment = {key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"}
        environment["SPARK_SUBMIT_OPTS"] = f'"-XX:ArchiveClassesAtExit={made}" {_QUIET}'
        try:
            # Its output ends when its JVM has: that one writes the archive after Python is gone.
            done = subprocess.run(
                [sys.executable, "-c", "from sparkstream_kit import class_data as c; c._run_streams()"],
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


@dataclass(frozen=True)
class _Archive:
    """An archive's path, which names all that it depends on, so that what is stale is not even found."""

    path: Path
    renews_itself: bool

    @classmethod
    def of_this_launch(cls) -> _Archive | None:
        """Return the archive, there or not, of the Java and the Spark that a launch from here would take."""
        java, jars = _java(), _spark_jars()
        if java is None or jars is None:
            return None
        file = java.parent.parent / "release"
        release = file.read_text("utf-8") if file.is_file() else ""
        version = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
        major = int(version[1]) if version else 0
        parts = [str(java), release, os.environ.get("SPARK_CONF_DIR", ""), str(jars)]
        for file in (java, *sorted(jars.glob("*.jar"))):
            stat = file.stat()
            parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return cls(_folder() / f"java{major}-{key}.jsa", major >= _RENEWS_ITSELF)

    def usable(self) -> bool:
        """Say whether the archive is there, as it was made: Java 17 crashes on one that is cut short."""
        if self.renews_itself:
            return self.path.exists()
        try:
            return self._note.read_text("utf-8") == str(self.path.stat().st_size)
        except OSError:
            return False

    def keep(self, made: Path) -> None:
        """Put a new archive in place, whole or not at all; what it replaces in this environment goes."""
        if _in_environment():  # else others may use what lies there
            for old in self.path.parent.glob(f"{self.path.name.partition('-')[0]}-*"):
                old.unlink(missing_ok=True)  # another `warm` may be at it
        size = made.stat().st_size
        made.chmod(0o600)  # who could write it could run what they like in our JVMs
        made.replace(self.path)
        _files.replace(self._note, [str(size)], private=True)

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".jsa.size")


def _in_environment() -> bool:
    return sys.prefix != sys.base_prefix


def _folder() -> Path:
    """Return where archives are: in the virtual environment, with which they go, or in the user's cache."""
    return Path(sys.prefix, "share", "sparkstream-kit") if _in_environment() else _files.cache_folder()


def _java() -> Path | None:
    """Return the Java that Spark's own scripts would start."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    return Path(os.path.realpath(java)) if java and Path(java).exists() else None


def _spark_jars() -> Path | None:
    home = os.environ.get("SPARK_HOME")
    root = Path(home) if home else _files.pyspark_folder()
    return root / "jars" if root and (root / "jars").is_dir() else None


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
