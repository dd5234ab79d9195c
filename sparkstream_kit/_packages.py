"""Start and run: the packages of other systems and the class archive that a JVM is launched with.

A third of the time to the first result is spent on loading and checking some 15,000 classes. The archive
holds these classes, loaded and checked. `sparkstream warm` or the set-up of this project makes it once for
each combination of Java and Spark. From Java 19 on, the JVM renews an existing archive by itself.
`java_options` returns the flags for the archive; `needed` and `arguments` return the settings and
spark-submit flags for the connectors (Kafka, Delta, Avro).

https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sparkstream_kit.connectors import Connector


# Seen as damaged ORC and Parquet files: https://bugs.openjdk.org/browse/JDK-8377811
CORRUPTS = re.compile(r"25(\.0\.[0-2])?")
CORRUPTS_HOW = (
    "can corrupt data with its garbage collector G1 (JDK-8377811); use Java 25.0.3 or newer, or Java 21, or "
    "another collector (-XX:+UseParallelGC)"
)
_RENEWS_ITSELF = 19  # the first version of Java that renews the archive
# Silences the JVM's log of why it does not use an archive, which does not concern someone who runs a job.
QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"


def java_options() -> str:
    """Return the JVM flags to use the class-data archive; an empty string if no archive fits.

    Examples:
        >>> java_options() == "" or "-XX:SharedArchiveFile=" in java_options()
        True
    """
    with suppress(InvalidInputError, OSError):  # no home folder, or unreadable files: no archive can be used
        if (archive := Archive.of_this_launch()) is not None and archive.path.exists():
            renewing = "-XX:+AutoCreateSharedArchive " if archive.renews_itself else ""
            # A damaged archive crashes the JVM unless its checksums are verified; verifying takes no
            # measurable time. The path is quoted because Spark's launcher splits the options at blanks.
            return f'{renewing}"-XX:SharedArchiveFile={archive.path}" -XX:+VerifySharedSpaces {QUIET}'
    return ""


class Archive(NamedTuple):
    """A class-data archive. Its path names all that it depends on, so that a stale one is not found."""

    path: Path
    renews_itself: bool

    @classmethod
    def of_this_launch(cls) -> Archive | None:
        """Return the archive for the Java and Spark that would be launched now; its file may not exist."""
        java, jars = find_java(), _spark_jars()
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


def find_java() -> Path | None:
    """Return the path of the Java that Spark's own scripts would start, or None."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    return Path(os.path.realpath(java)) if java and Path(java).exists() else None


def _spark_jars() -> Path | None:
    home = os.environ.get("SPARK_HOME")
    root = Path(home) if home else _files.pyspark_folder()
    return root / "jars" if root and (root / "jars").is_dir() else None


@cache
def versions() -> dict[str, dict[str, Any]]:
    """Return `conf/versions.toml`: which versions go together, for each feature version of Spark.

    Examples:
        >>> versions()["4.2"]["java"]
        [17, 21, 25]
    """
    return tomllib.loads(_files.in_conf("versions.toml").read_text("utf-8"))


# Spark's error for a data source that it does not have, and the sources that every Spark has.
_NO_SOURCE = re.compile(r"Failed to find (?:the )?data source: ([^\s,]+?)\.(?:\s|$)")
_OWN_SOURCES = ("console", "csv", "json", "memory", "noop", "orc", "parquet", "rate", "socket", "text", "xml")

_LISTS = ("spark.jars", "spark.jars.packages", "spark.sql.extensions")

JARS = "SPARKSTREAM_JARS"  # environment variable: a folder of jars, for machines without a network


def connectors() -> dict[str, Connector]:
    """Return Spark's connectors for other systems and formats, by name."""
    from sparkstream_kit.connectors import AVRO, systems

    of_systems = {name: each.connector for name, each in systems().items() if each.connector}
    return {"avro": AVRO, **of_systems}


def coordinates(connector: Connector, spark: str) -> str | None:
    """Return the Maven coordinates of a connector for a version of Spark; None if it has no package yet."""
    feature = ".".join(re.findall(r"\d+", spark)[:2])
    delta = versions().get(feature, {}).get("delta")
    if "{delta}" in connector.package and not delta:
        return None
    return connector.package.format(spark=spark, feature=feature, delta=delta)


def missing_source(error: BaseException) -> str | None:
    """Return a line with what to install if an error is about a missing data source; else None.

    Examples:
        >>> missing_source(ValueError("Failed to find the data source: parqet. Make sure the provider …"))
        'Spark has no data source parqet; did you mean parquet?'
    """
    found = _NO_SOURCE.search(str(error))
    if found is None:
        return None
    name = found[1]
    if near := hint(name, _OWN_SOURCES):
        return f"Spark has no data source {name}{near}"
    if name.lower() in connectors():
        return missing(name.lower())
    return (
        f"Spark has no data source {name}; launch with spark-submit --packages ITS-PACKAGE, or give "
        "get_session(…, conf={'spark.jars.packages': 'ITS-PACKAGE'}) before Spark runs"
    )


def missing(name: str) -> str:
    """Return a line that explains how to launch Spark with a connector.

    Examples:
        >>> missing("kafka").partition(", or")[0]
        'Spark has no connector kafka; launch with spark-submit $(sparkstream connectors kafka) …'
    """
    return (
        f"Spark has no connector {name}; launch with spark-submit $(sparkstream connectors {name}) …, or "
        f"give get_session(…, connectors=[{name!r}]) before Spark runs"
    )


def needed(names: Iterable[str], spark: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the session settings that add connectors.

    If the environment variable SPARKSTREAM_JARS names a folder, the connectors' jars are taken from it;
    otherwise Spark downloads the packages.

    Args:
        names: the names of the connectors, keys of `connectors()`.
        spark: the version of Spark, such as "4.2.0".
        given: the settings of the user. If a setting is a list in both, the result has the items of both.

    Raises:
        InvalidInputError: an unknown connector, a connector without a package for this Spark, a folder in
            which one of the jars is missing, or a user's setting that contradicts one a connector needs.

    Examples:
        >>> needed(["kafka"], "4.2.0", {"spark.jars.packages": "a:b:1"})
        {'spark.jars.packages': 'a:b:1,org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0'}
    """
    folder, before = os.environ.get(JARS), given or {}
    lists: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        reject_unknown("connector", [name], connectors())
        known = connectors()[name]
        if folder:
            lists.setdefault("spark.jars", []).extend(_in_folder(name, Path(folder)))
        elif found := coordinates(known, spark):
            lists.setdefault("spark.jars.packages", []).append(found)
        else:
            newest = max((each for each in versions() if coordinates(known, each)), key=_in_order)
            raise InvalidInputError(
                f"connector {name} has no package for Spark {spark}; use Spark {newest}, or "
                f"name a folder with its jars: {JARS}=FOLDER"
            )
        for key, value in known.settings.items():
            if key not in _LISTS and before.get(key, value) != value:
                raise InvalidInputError(
                    f"connector {name} needs {key}={value}, and not {before[key]}; leave that setting out"
                )
            lists.setdefault(key, []).append(value)
    return {
        key: ",".join(dict.fromkeys([*filter(None, before.get(key, "").split(",")), *values]))
        for key, values in lists.items()
    }


def arguments(names: Iterable[str], spark: str) -> list[str]:
    """Return the spark-submit flags that add connectors."""
    flags = {"spark.jars": "--jars", "spark.jars.packages": "--packages"}
    words: list[str] = []
    for key, value in needed(names, spark).items():
        words += [flags[key], value] if key in flags else ["--conf", f"{key}={value}"]
    return words


def _in_order(text: str) -> list[tuple[int, str]]:
    """Return a sort key that orders versions by their numbers: 4.9 before 4.10."""
    return [(int(number or 0), words) for words, number in re.findall(r"(\D*)(\d*)", text)]


def _in_folder(name: str, folder: Path) -> list[str]:
    """Return one jar in a folder for each prefix of a connector: the latest version of each."""
    found = {
        start: sorted(folder.glob(f"{start}*.jar"), key=lambda jar: _in_order(jar.name))
        for start in connectors()[name].jars
    }
    if missing := [start for start, files in found.items() if not files]:
        raise InvalidInputError(
            f"connector {name}: {JARS}={folder} has no {missing[0]}*.jar; put it there, or unset {JARS} "
            "to have Spark fetch it"
        )
    return [str(files[-1]) for files in found.values()]
