"""`sparkstream doctor`: checks that this machine has what streams need, without starting Spark.

`examine` runs all checks. Each check is a generator function of this module, which
yields a `Finding` for each thing that it looked at.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
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
_OF_JAVA = "/tmp"  # noqa: S108 - its folder for temporary files, unless it is told another
_FEW = 10_000  # files that a disk still takes; fewer is `warn`
# Seconds by which two clocks may differ: a disk may round the times of files to two
# seconds
_CLOCKS_DIFFER = 3.0
_DAY = 86_400.0
# By the kinds of file systems that another machine keeps: whether a rename there is one
# step, on which a checkpoint depends
_NETWORK = {
    r"nfs\d?|cifs|smb\d?|smbfs|9p|ceph|glusterfs|lustre|afs|gpfs|fuse\.sshfs|"
    r"fuse\.glusterfs|fuse\.ceph\S*|virtiofs": True,
    r"fuse\.(s3fs|gcsfuse|rclone|goofys|blobfuse\d?|mount-s3|geesefs)|mount-s3": False,
}


# Such as: openjdk version "17.0.12", and of Java 8: java version "1.8.0_402"
_VERSION = re.compile(r'version "(?:1\.)?((\d+)[\d.]*)')


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


def examine(folder: str = ".") -> Iterator[Finding]:
    """Run all checks, and yield their findings.

    Args:
        folder: where input and checkpoints are.
    """
    for run_check in (
        java,
        other_java,
        python,
        versions,
        user,
        host,
        disks,
        partial(checkpoints, folder),
        partial(clock, folder),
        time_zone,
        remote,
        servers,
    ):
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
    number = _VERSION.search(output)
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


def other_java() -> Iterator[Finding]:
    """Check whether `java` on PATH is another one than that of the kit.

    Programs other than the kit start that one: `spark-submit` without JAVA_HOME does.
    """
    started = find_java()
    on_path = shutil.which("java")
    if started is None or on_path is None:
        return
    other = Path(on_path).resolve()
    if other == started:
        return
    numbers = [_java_version(path) for path in (started, other)]
    if numbers[0] == numbers[1]:
        return
    who = "other programs start"
    fix = ""
    if not os.environ.get("JAVA_HOME"):
        who = "spark-submit starts"
        fix = f"for one Java, export JAVA_HOME={started.parent.parent}"
    level = "ok" if numbers[1] in goes_with_spark()["java"] else "warn"
    text = f"{numbers[1] or 'unknown'} at {other}, which {who}; the kit starts {numbers[0]}"
    yield Finding(level, "second Java", text, fix)


def _java_version(java: Path) -> int | None:
    """Return the first number of a Java's version, such as 17; None if it says none."""
    number = _VERSION.search(_output_of(str(java), "-version"))
    return int(number[2]) if number else None


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
    """Check the folders for temporary files: Python's, and those of Spark and of Java."""
    chosen = os.environ.get("TMPDIR")
    if chosen and not _is_writable(chosen):
        yield Finding(
            "bad",
            "temporary",
            f"TMPDIR={chosen} cannot be written",
            "create it, correct its rights, or unset TMPDIR",
        )
    folders = [tempfile.gettempdir()]
    for name in os.environ.get("SPARK_LOCAL_DIRS", "").split(","):
        if name and name not in folders:
            folders.append(name)
    for folder in folders:
        yield _disk(folder)
    # Java does not read TMPDIR
    if _forbids_programs(_OF_JAVA):
        yield Finding(
            "bad",
            "temporary",
            f"{_OF_JAVA} is mounted noexec, and Java loads its libraries from there",
            "mount it with exec, or export JAVA_TOOL_OPTIONS=-Djava.io.tmpdir=FOLDER",
        )


def _disk(folder: str) -> Finding:
    """Check the free space in a folder for temporary files, and whether it can be written."""
    if not _is_writable(folder):
        fix = "create it, correct its rights, or correct SPARK_LOCAL_DIRS"
        return Finding("bad", "temporary", f"{folder} cannot be written", fix)
    free = shutil.disk_usage(folder).free / 1e9
    level = "ok"
    fix = ""
    if free < _LITTLE:
        level = "warn"
        fix = "make room, or set TMPDIR and SPARK_LOCAL_DIRS to a larger disk"
    if free < _LEAST:
        level = "bad"
    disk = os.statvfs(folder)
    if disk.f_files and disk.f_favail < _FEW and level == "ok":
        text = f"{folder} takes {disk.f_favail:,} more files only"
        return Finding("warn", "temporary", text, "remove old files there")
    return Finding(level, "temporary", f"{free:.1f} GB free in {folder}", fix)


def _is_writable(folder: str) -> bool:
    """Return whether a file can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _forbids_programs(folder: str) -> bool:
    """Return whether no program can be run from a folder."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def checkpoints(folder: str = ".") -> Iterator[Finding]:
    """Check whether a folder is on a disk on which checkpoints are safe.

    A checkpoint needs locks, and renames that are one step.
    """
    path = Path(folder).resolve()
    kind = file_system_of(path, Path("/proc/self/mountinfo").read_text("utf-8"))
    for pattern, renames_in_one_step in _NETWORK.items():
        if not re.fullmatch(pattern, kind):
            continue
        found = f"{path} is on a network disk ({kind})"
        if renames_in_one_step:
            fix = (
                "a checkpoint there is as safe as its locks are, and slow: keep it on a"
                " disk of this machine, or on HDFS or S3 by its own URL"
            )
            yield Finding("warn", "checkpoints", found, fix)
        else:
            fix = (
                "a file there is not renamed in one step, so that a crash can damage a"
                " checkpoint: keep it on a disk of this machine, or give its URL (s3a://…)"
            )
            yield Finding("bad", "checkpoints", found, fix)
        return
    problem = _without_locks(path)
    if problem:
        fix = "keep checkpoints on another disk, or correct the rights of this folder"
        yield Finding("warn", "checkpoints", f"{path}: {problem}", fix)
        return
    yield Finding("ok", "checkpoints", f"{path} is on a disk with locks ({kind})")


def _without_locks(folder: Path) -> str:
    """Return why no file in a folder can be locked; "" if one can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        return f"no file can be made and locked there ({err.strerror})"
    return ""


def file_system_of(path: Path, mounts: str) -> str:
    r"""Return the kind of file system on which a path is, such as "ext4".

    Args:
        path: an absolute path without links.
        mounts: the text of `/proc/self/mountinfo`.

    Examples:
        >>> mounts = "1 0 0:1 / / rw - ext4 sda rw\n2 1 0:2 / /mnt/a\\040b rw x:1 - nfs4 h:/ rw"
        >>> file_system_of(Path("/mnt/a b/ckpt"), mounts)
        'nfs4'
        >>> file_system_of(Path("/mnt"), mounts)
        'ext4'
    """
    kind, longest = "unknown", -1
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        point = re.sub(
            r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4]
        )
        # Of two at one point, the later one is seen
        if path.is_relative_to(point) and len(point) >= longest:
            kind, longest = source.split(" ")[0], len(point)
    return kind


def clock(folder: str = ".") -> Iterator[Finding]:
    """Check this machine's clock against the times of files.

    A file source goes by the times of files, and passes over what is much older than
    the newest.

    Args:
        folder: where input is.
    """
    now = time.time()
    shown = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    fix = "set the clock (timedatectl set-ntp true)"
    if now < Path(__file__).stat().st_mtime - _DAY:
        yield Finding("bad", "clock", f"{shown}, before the kit was installed", fix)
        return
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder) as file:
        ahead = Path(file.name).stat().st_mtime - time.time()
        if abs(ahead) > _CLOCKS_DIFFER:
            way = "ahead of" if ahead > 0 else "behind"
            text = f"that of the disk of {folder} is {abs(ahead):.0f} s {way} this one"
            yield Finding("warn", "clock", text, f"{fix}, here and on its server")
            return
    yield Finding("ok", "clock", shown)


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


def servers() -> Iterator[Finding]:
    """Check whether a server of `sparkstream serve` still runs that no job would use."""
    running: list[serving.Server] = []
    with suppress(KitError):  # this user has no folder in which one could be noted
        running = serving.running()
    for server in running:
        found = f"one runs on port {server.port} (profile {server.profile}, process {server.pid})"
        if os.environ.get("SPARK_REMOTE"):
            yield Finding("ok", "server", found)
            continue
        port = "" if server.port == serving.PORT else f" --port {server.port}"
        fix = (
            f"SPARK_REMOTE is not set, so that jobs do not use it: export"
            f" SPARK_REMOTE={server.url}, or end it: sparkstream serve stop{port}"
        )
        yield Finding("warn", "server", found, fix)


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
