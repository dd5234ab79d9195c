"""`sparkstream doctor`: checks that this machine has what streams need, without starting Spark.

`examine` runs all checks. Each check is a generator function of this module, which
yields a `Finding` for each thing that it looked at.
"""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import server as serving
from sparkstream_kit._internal.java import CORRUPTS, CORRUPTS_HOW, find_java, lacks
from sparkstream_kit.cli.common import pyspark_version
from sparkstream_kit.connectors import _packages
from sparkstream_kit.errors import KitError
from sparkstream_kit.profiles import read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator


_LIMIT = 60.0  # seconds that a Java may take to print its version
_PANDAS = (2, 2)  # the oldest pandas; Spark does not support pandas 3 yet
_LEAST = 1  # GB of free disk; less is `bad`
_LITTLE = 5  # GB of free disk; less is `warn`


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        level: `ok`, `warn` or `bad`.
        what: the thing that was checked, such as "Java".
        found: the state of that thing.
        fix: what to do about a problem; empty if there is none, or if `found` already
            says it.
    """

    level: str
    what: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        """Return the finding as one line with columns."""
        line = f"{self.level:<6}{self.what:<14}{self.found}"
        if self.fix:
            line += f"; {self.fix}"
        return line


def examine() -> Iterator[Finding]:
    """Run all checks, and yield their findings."""
    for run_check in (java, python, versions, user, host, disks, time_zone, remote):
        yield from run_check()


def java() -> Iterator[Finding]:
    """Check the version of the Java that Spark's scripts would start."""
    supported = goes_with_spark()["java"]
    supported_text = ", ".join(map(str, supported[:-1])) + f" or {supported[-1]}"
    fix = (
        f"install Java {supported_text}, and set JAVA_HOME to its folder if it is not the first"
        " on PATH"
    )
    home = os.environ.get("JAVA_HOME")
    found = find_java()
    if found is None:
        reason = "there is no java on PATH"
        if home:
            reason = f"JAVA_HOME={home} has no bin/java"
        yield Finding("bad", "Java", reason, fix)
        return
    output = _output_of(str(found), "-XX:+PrintFlagsFinal", "-version")
    # Such as: openjdk version "17.0.12", and of Java 8: java version "1.8.0_402"
    number = re.search(r'version "(?:1\.)?((\d+)[\d.]*)', output)
    if number is None:
        yield Finding("bad", "Java", f"{found} does not say its version", fix)
        return
    exact = number[1]
    version = int(number[2])
    if CORRUPTS.fullmatch(exact) and re.search(r"UseG1GC\s*= true", output):
        yield Finding("bad", "Java", f"{exact} at {found} {CORRUPTS_HOW}")
    elif version < min(supported):
        yield Finding(
            "bad", "Java", f"{version} at {found}", f"Spark 4 cannot run on it; {fix}"
        )
    elif version not in supported:
        yield Finding(
            "warn",
            "Java",
            f"{version} at {found}",
            f"this Spark supports Java {supported_text}",
        )
    else:
        yield Finding("ok", "Java", f"{version} at {found}")


def python() -> Iterator[Finding]:
    """Check the version of this Python."""
    running = ".".join(map(str, sys.version_info[:2]))
    supported = goes_with_spark()["python"]
    found = f"{running} at {sys.executable}"
    if running in supported:
        yield Finding("ok", "Python", found)
    else:
        yield Finding(
            "warn", "Python", found, f"this Spark supports {', '.join(supported)}"
        )


def versions() -> Iterator[Finding]:
    """Check the versions of the kit, PySpark and pandas, and the Spark in SPARK_HOME.

    That Spark must have the version of PySpark.
    """
    yield Finding("ok", "the kit", version_of("sparkstream-kit") or "of a checkout")
    spark = pyspark_version()
    if not spark:
        yield Finding(
            "bad", "PySpark", "it is not installed", "run: pip install pyspark"
        )
        return
    tested = list(_packages.versions())
    level = "ok"
    fix = ""
    if _numbers(spark)[:2] < _numbers(tested[0]):
        level = "bad"
        fix = f"the kit needs {tested[0]} or newer: pip install --upgrade pyspark"
    elif _feature(spark) not in tested:
        level = "warn"
        fix = f"the kit is tested on Spark {', '.join(tested)}"
    yield Finding(level, "PySpark", spark, fix)
    pandas = version_of("pandas")
    if pandas is not None and not _PANDAS <= _numbers(pandas) < (_PANDAS[0] + 1,):
        fix = "Spark needs pandas 2.2 or newer, below 3: pip install 'pandas<3'"
        yield Finding("warn", "pandas", pandas, fix)
    home = os.environ.get("SPARK_HOME")
    if home:
        yield _spark_home(home, spark)


def _spark_home(home: str, spark: str) -> Finding:
    """Check the Spark in SPARK_HOME, which must have the version of PySpark."""
    jars = sorted(Path(home, "jars").glob("spark-core_2.13-*.jar"))
    if not jars:
        found = f"{home} has no Spark 4 in jars/"
        return Finding("bad", "SPARK_HOME", found, "correct it, or unset it")
    version = jars[-1].stem.rpartition("-")[2]
    if version != spark:
        found = f"{home} is Spark {version}, and PySpark is {spark}"
        fix = f"unset it, or pip install pyspark=={version}"
        return Finding("bad", "SPARK_HOME", found, fix)
    return Finding("ok", "SPARK_HOME", f"Spark {spark} at {home}")


def user() -> Iterator[Finding]:
    """Check the user's name, limit of open files, and locale for the names of files."""
    problems = lacks()
    if not problems:
        name = pwd.getpwuid(os.getuid()).pw_name
        yield Finding("ok", "user", f"{name} has a name, and may open enough files")
    for problem in problems:
        found, _, fix = problem.partition("; ")
        yield Finding("bad", "user", found, fix)


def host() -> Iterator[Finding]:
    """Check that this machine resolves its own host name, as Spark's JVM needs it."""
    name = socket.gethostname()
    chosen = os.environ.get("SPARK_LOCAL_IP")
    if chosen:
        yield Finding("ok", "host name", f"SPARK_LOCAL_IP={chosen}")
        return
    try:
        yield Finding("ok", "host name", f"{name} is {socket.gethostbyname(name)}")
    except OSError:
        fix = "add it to /etc/hosts, or set SPARK_LOCAL_IP=127.0.0.1"
        yield Finding("bad", "host name", f"no address is known for {name}", fix)


def disks() -> Iterator[Finding]:
    """Check the free space for temporary files."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 1e9
    level = "ok"
    fix = ""
    if free < _LITTLE:
        level = "warn"
        fix = "make room, or set TMPDIR and SPARK_LOCAL_DIRS to a larger disk"
    if free < _LEAST:
        level = "bad"
    yield Finding(level, "temporary", f"{free:.1f} GB free in {folder}", fix)


def time_zone() -> Iterator[Finding]:
    """Check that Python on this machine has the time zone of the sessions, which a profile sets."""
    session = read_profile("local")["spark.sql.session.timeZone"]
    now = datetime.now().astimezone()
    offsets = sorted(
        {f"{datetime(now.year, month, 1).astimezone():%z}" for month in (1, 7)}
    )
    if session == "UTC" and offsets == ["+0000"]:
        yield Finding("ok", "time zone", f"sessions and Python have {session}")
        return
    fix = "export TZ=UTC, or compare times that have a zone"
    difference = (
        f"sessions have {session}, Python has {now.tzname()} ({' or '.join(offsets)})"
    )
    yield Finding(
        "warn", "time zone", f"{difference}: collect() gives times of Python's", fix
    )


def remote() -> Iterator[Finding]:
    """Check that a Spark Connect server listens at SPARK_REMOTE, if that is set."""
    url = os.environ.get("SPARK_REMOTE")
    if not url:
        yield Finding(
            "ok", "SPARK_REMOTE", "not set: sessions are of their own process"
        )
        return
    try:
        host, port = serving.reach(url)
        yield Finding("ok", "SPARK_REMOTE", f"a server listens on {host}:{port}")
    except KitError as err:
        yield Finding("bad", "SPARK_REMOTE", *str(err).split("; ", 1))


def goes_with_spark() -> dict[str, Any]:
    """Return the Java and Python versions that the installed PySpark supports.

    For a PySpark that `conf/versions.toml` does not list, these are the versions of the
    newest one listed.
    """
    supported = _packages.versions()
    return supported.get(_feature(pyspark_version())) or supported[list(supported)[-1]]


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    return next(
        (found.version for found in importlib.metadata.distributions(name=package)),
        None,
    )


def _feature(version: str) -> str:
    """Return the first two numbers of a version of Spark, such as "4.1".

    They are the key in `conf/versions.toml`.
    """
    return ".".join(version.split(".")[:2])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _output_of(*command: str) -> str:
    """Return a program's output and errors; "" if it cannot be run or is too slow."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
