"""The archive of classes, with which a JVM starts sooner: where it is, how to use it, how to make it.

A third of the time to the first result is spent on loading and checking some 15,000 classes. The archive
holds these classes, loaded and checked. For Java 25.0.3 or newer it also has them linked, with what the JVM
has learned about their methods. From Java 19 to 24 the JVM renews an archive by itself.

`warm` makes one for each combination of Java and Spark: for the command `sparkstream warm`, for the set-up
of this project, and after a first session in a terminal or a notebook. As a script, the module is the
training run.

https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html, https://openjdk.org/jeps/514
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparkstream_kit import _files
from sparkstream_kit._spark.java import find_java, release, spark_home, version
from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping


def java_options(given: Mapping[str, str] = os.environ) -> str:
    """Return the JVM flags to use the archive; an empty string if no archive fits.

    Args:
        given: the environment of the launch.

    Examples:
        >>> java_options() == "" or "-XX:" in java_options()
        True
    """
    with suppress(InvalidInputError, OSError):  # no home folder, or unreadable files: no archive can be used
        if (archive := Archive.of_this_launch(given)) is not None and archive.path.exists():
            return archive.kind.use.format(archive.path)
    return ""


class Kind(NamedTuple):
    """How a Java keeps classes: the flags, which have the path of the archive as `{}`.

    The path is quoted because Spark's launcher splits the options at blanks.
    """

    suffix: str
    make: str
    use: str


# Silences the JVM's log of why it does not use an archive, which does not concern someone who runs a job.
_QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"
# A damaged archive crashes the JVM unless its checksums are verified; verifying takes no measurable time.
_CHECKED = f'"-XX:SharedArchiveFile={{}}" -XX:+VerifySharedSpaces {_QUIET}'
_CDS = Kind("jsa", f'"-XX:ArchiveClassesAtExit={{}}" {_QUIET}', _CHECKED)
_KINDS = {  # by the first version of Java that has it
    (0,): _CDS,
    (19,): _CDS._replace(use=f"-XX:+AutoCreateSharedArchive {_CHECKED}"),
    (25, 0, 3): Kind(
        "aot",
        '"-XX:AOTCacheOutput={}" -Xlog:aot=off',
        '"-XX:AOTCache={}" -XX:+VerifySharedSpaces -Xlog:aot=off -Xlog:cds=off',
    ),
}


class Archive(NamedTuple):
    """An archive of classes. Its path names all that it depends on, so that a stale one is not found."""

    path: Path
    kind: Kind

    @classmethod
    def of_this_launch(cls, given: Mapping[str, str] = os.environ) -> Archive | None:
        """Return the archive for the Java and Spark that would be launched now; its file may not exist."""
        java, jars = find_java(given), spark_home() / "jars"
        if java is None or not jars.is_dir():
            return None
        said = release(java)
        number = version(said) or (0,)
        parts = [str(java), said, given.get("SPARK_CONF_DIR", ""), str(jars)]
        for file in (java, *sorted(jars.glob("*.jar"))):
            stat = file.stat()
            parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        kind = _KINDS[max(first for first in _KINDS if first <= number)]
        return cls(_folder() / f"java{number[0]}-{key}.{kind.suffix}", kind)

    def keep(self, made: Path) -> None:
        """Install a new archive as a whole; in a virtual environment, remove those that it replaces."""
        if _in_environment():  # the user's cache is shared, and others may use the archives there
            for old in self.path.parent.glob(f"{self.path.name.partition('-')[0]}-*"):
                old.unlink(missing_ok=True)  # another `warm` may have removed it
        made.chmod(0o600)  # anyone who can write to the archive can run code in our JVMs
        with made.open("rb") as file:
            os.fsync(file.fileno())  # Java 17 crashes on an archive that a power cut has left short
        made.replace(self.path)


def _in_environment() -> bool:
    return sys.prefix != sys.base_prefix


def _folder() -> Path:
    """Return the folder for archives: in the virtual environment, or without one in the user's cache."""
    return Path(sys.prefix, "share", "sparkstream-kit") if _in_environment() else _files.cache_folder()


_LIMIT = 300.0  # seconds that the training run may take


def warm() -> Path:
    """Make the class-data archive for the Java and the Spark of this environment, and return its path.

    Spark starts faster with the archive. To make it, the function runs a few small streams in a separate
    process, whose JVM writes the classes that it loaded to the archive. An archive that can still be used is
    kept.

    Raises:
        InvalidInputError: no Java was found.
        KitError: the JVM wrote no archive; the message ends with the last line of its output.
    """
    archive = Archive.of_this_launch()
    if archive is None:
        raise InvalidInputError("no Java was found: install Java 17 or newer, or set JAVA_HOME")
    parent = _files.private_folder(archive.path.parent)
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix=".warm-") as folder,
        (parent / "lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be making it
        if archive.path.exists():
            return archive.path
        made = Path(folder, archive.path.name)
        environment = {key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"}
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
            raise KitError(f"no class-data archive after {_LIMIT:g} s; see if a Spark job runs here") from err
        if done.returncode or not made.exists():
            words = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["nothing"]
            raise KitError(f"no class-data archive; the last words of its training run: {words[-1].strip()}")
        archive.keep(made)
    return archive.path


def warm_later() -> None:
    """Make the archive in the background when this process ends, and say so."""

    def begin() -> None:
        sys.stderr.write("learning in the background how to start Spark faster, once for a minute\n")
        command = ["nice", sys.executable, "-c", "from sparkstream_kit.cli.archive import warm; warm()"]
        none = subprocess.DEVNULL
        subprocess.Popen(command, stdin=none, stdout=none, stderr=none, start_new_session=True)

    atexit.register(begin)


def _run_streams() -> None:
    """Run a small stream of each common kind, so that the JVM loads the classes for the archive."""
    from pyspark.sql import functions as F

    from sparkstream_kit import feeds, quarantine, run, sinks, sources, spark_session, start, windows
    from sparkstream_kit._spark.launch import end_jvm

    columns = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct STRING, Rate DECIMAL(12,2),
        Amount DOUBLE, Name STRING, State STRING, Region STRING, Product STRING, Rows INT, Margin DOUBLE"""
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
        with suppress(MissingExtraError):
            table = sinks.sql_table(f"sqlite:///{folder}/good.db", "good")
            run(start(good, table, name="table", checkpoint=f"{folder}/table", availableNow=True))
        spark.sql("SELECT * FROM totals ORDER BY total").toJSON().collect()
        spark.read.parquet(f"{folder}/good").write.json(f"{folder}/json")
    end_jvm()  # it writes the archive at its end


if __name__ == "__main__":
    _run_streams()
