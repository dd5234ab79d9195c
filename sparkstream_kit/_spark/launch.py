"""Start the JVM of a session: what it must know, what it says, where it listens, why it did not start."""

from __future__ import annotations

import atexit
import logging
import os
import re
import select
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger

from sparkstream_kit import _packages, _waiting
from sparkstream_kit._spark.session import jvm_runs
from sparkstream_kit.errors import InvalidInputError, KitError, cause_in_log, innermost_cause, said_by_spark
from sparkstream_kit.profiles import is_local, log4j2_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger(__name__)

# What the JVM must know when it starts: later, Spark ignores these and still claims to have them.
LAUNCH_KEYS = (
    "spark.driver.defaultJavaOptions",
    "spark.driver.extra",
    "spark.driver.memory",
    "spark.driver.userClassPathFirst",
    "spark.jars",
    "spark.submit.",
)

_LOOPBACK = "127.0.0.1"
_HELD = 30.0  # seconds; who waits longer, for a download of spark.jars.packages, wants to see why
# How lines begin that tell nobody anything: Java's own, of options that Spark gives it, and what PySpark's
# worker for `transformWithState` prints at a query's start, each before an empty line.
_WORKER = b"Streaming TransformWithStateInPandas Python worker"
_NOISE = (
    *(_WORKER, b"Starting " + _WORKER),
    *(b"WARNING: Using incubator modules: ", b"WARNING: package sun.security.action not in "),
)
_JAVA = "install one (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"


@contextmanager
def starting(wanted: Mapping[str, str], *, quiet: bool) -> Iterator[None]:
    """Start the JVM (under spark-submit: meet it) for a context that is started in the block.

    What the JVM says until then is held back: it is passed on when the block has ended well, without Java's
    own warnings of Spark's options. When the start has failed, its cause is the error.

    Args:
        wanted: the settings of the session; the JVM gets those that only its start can take.
        quiet: give it the kit's log settings where the master is local.

    Raises:
        InvalidInputError: Java is missing or too old, its Spark is of another version than PySpark, or
            Spark cannot read a setting.
        KitError: it did not start for another reason.
    """
    if sys.stderr and sys.stderr.isatty():
        sys.stderr.write("starting Spark …\n")
    words = None
    if not jvm_runs():
        words = _launch(wanted, quiet=quiet)
    SparkContext._ensure_initialized()
    _refuse_versions()
    try:
        yield
    except (Py4JError, PySparkException) as err:
        if words is not None:
            _log.debug("the JVM said: %s", words.drop())
        cause = innermost_cause(err)
        if re.match(r"(Spark)?(IllegalArgument|NumberFormat)Exception: |.*Could not parse Master URL", cause):
            raise InvalidInputError(f"{said_by_spark(ValueError(cause))}; correct that setting") from err
        raise KitError(f"Spark did not start: {cause}") from err
    finally:
        if words is not None:
            words.pass_on()


_CORRUPTS_WITH = "G1"  # how the names of its two parts begin


def _refuse_versions() -> None:
    """Refuse a Spark of another version than PySpark, which fails later, and a Java that corrupts data."""
    jvm: Any = SparkContext._jvm
    java, python = str(jvm.org.apache.spark.package.SPARK_VERSION()), pyspark.__version__
    if re.findall(r"\d+", java)[:2] != re.findall(r"\d+", python)[:2]:
        home = os.environ.get("SPARK_HOME")
        unset = f"unset SPARK_HOME ({home}), or " if home else ""
        raise InvalidInputError(
            f"Spark's Java machine is of Spark {java}, and PySpark is {python}; {unset}run: "
            f"pip install pyspark=={java}"
        )
    version = str(jvm.java.lang.System.getProperty("java.version"))
    collectors = jvm.java.lang.management.ManagementFactory.getGarbageCollectorMXBeans()
    if _packages.CORRUPTS.fullmatch(version) and collectors[0].getName().startswith(_CORRUPTS_WITH):
        raise InvalidInputError(f"Java {version} {_packages.CORRUPTS_HOW}")


@contextmanager
def web_page_on_loopback() -> Iterator[None]:
    """Have the context that is started in the block show its web page to this machine alone.

    Spark asks for the page's address in the JVM's environment only, and the page has no login. Under
    spark-submit the JVM has its environment before Python runs, so that it is put there from here. An
    address that the launch gave stays.
    """
    jvm: Any = SparkContext._jvm
    if jvm.java.lang.System.getenv("SPARK_LOCAL_IP") is not None:
        yield
        return
    held = jvm.java.lang.Class.forName("java.lang.ProcessEnvironment")
    read_only = held.getDeclaredField("theUnmodifiableEnvironment")
    inner = jvm.java.lang.Class.forName("java.util.Collections$UnmodifiableMap").getDeclaredField("m")
    for field in (read_only, inner):
        field.setAccessible(True)  # Spark opens both packages to itself and so to us
    environment = inner.get(read_only.get(None))
    environment.put("SPARK_LOCAL_IP", _LOOPBACK)
    try:
        yield
    finally:
        # A later context of this JVM may be one of a cluster.
        environment.remove("SPARK_LOCAL_IP")


def conf_folder() -> Path | None:
    """Return the folder of the installation's settings, as Spark's own scripts find it."""
    if given := os.environ.get("SPARK_CONF_DIR"):
        return Path(given)
    return Path(os.environ["SPARK_HOME"], "conf") if os.environ.get("SPARK_HOME") else None


def silence_jvm(*, has_level: bool) -> None:
    """Put the kit's log settings in force, unless the launch brought settings or a level of its own."""
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        # They print the stack trace of each error that is raised as an exception all the same.
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)
    jvm: Any = SparkContext._jvm
    if has_level or _has_own_log4j2() or jvm.java.lang.System.getProperty("log4j2.configurationFile"):
        return
    # Spark sets up logging at its first log call, over whatever was there, and prints a line about it: make
    # that call happen now, and the line go nowhere.
    errors = jvm.java.lang.System.err
    jvm.java.lang.System.setErr(jvm.java.io.PrintStream(jvm.java.io.OutputStream.nullOutputStream()))
    try:
        jvm.org.apache.spark.sql.types.StructType.fromDDL("a INT")
    finally:
        jvm.java.lang.System.setErr(errors)
    address = jvm.java.net.URI(log4j2_file().as_uri())
    for current in (True, False):
        jvm.org.apache.logging.log4j.LogManager.getContext(current).setConfigLocation(address)


def _has_own_log4j2() -> bool:
    """Say whether the installation brings log settings."""
    folder = conf_folder()
    return folder is not None and any(folder.glob("log4j2.*"))


def _launch(wanted: Mapping[str, str], *, quiet: bool) -> _Words:
    """Start the JVM with the settings that only its start can take."""
    _know_own_name()
    defaults = _spark_defaults()
    launch = SparkConf(loadDefaults=False)
    for key, value in wanted.items():
        if key.startswith(LAUNCH_KEYS) and key not in defaults:
            launch.set(key, value)
    options = os.environ.get("SPARK_SUBMIT_OPTS", "")
    # By itself the JVM says on standard output, where results go, why it cannot start.
    more = ["-XX:+DisplayVMOutputToStderr"]
    if "SharedArchiveFile" not in options:
        more.append(_packages.java_options())
    asked = re.search(r"\bmaster[\s=]+['\"]?([^\s'\"]+)", os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    master = (asked and asked[1]) or ({**wanted, **defaults}).get("spark.master", "local[*]")
    # On a cluster, lost executors are worth a line.
    if quiet and is_local(master) and "log4j" not in options and not _has_own_log4j2():
        more.append(f"-Dlog4j2.configurationFile={log4j2_file().as_uri()}")
    os.environ["SPARK_SUBMIT_OPTS"] = " ".join([options, *more]).strip()
    words = _Words()
    try:
        # A JVM whose launch is interrupted would be left behind.
        with _waiting.signals_after():
            gateway = launch_gateway(launch, {"stderr": words.end})
            SparkContext._ensure_initialized(gateway=gateway)
    except (PySparkRuntimeError, OSError) as err:
        words.closed()
        said = words.drop()
        _log.debug("the JVM said: %s", said)
        raise InvalidInputError(_why(err, said)) from err
    finally:
        words.closed()
        if options:
            os.environ["SPARK_SUBMIT_OPTS"] = options
        else:
            os.environ.pop("SPARK_SUBMIT_OPTS", None)
    return words


class _Words:
    """What the JVM writes to standard error, through a pipe: held back while it starts, then passed on.

    Noise is left out. What it says after this process has ended goes nowhere.
    """

    def __init__(self) -> None:
        self._pipe, self.end = os.pipe()
        self._said = b""  # all of it, while the JVM starts
        self._held = b""  # what has not been passed on yet
        self._after_noise = False
        self._starts, self._until = True, time.monotonic() + _HELD
        self._lock = threading.Lock()
        self._thread = _waiting.in_thread("what the JVM says", self._read)
        atexit.register(self._settle)

    def _settle(self) -> None:
        """Give what the JVM has said by now a second to be passed on; the thread ends with this process."""
        _waiting.until(lambda: not self._thread.is_alive() or not self._has_more(), 1.0)
        with self._lock:
            pass  # the last words are out

    def _has_more(self, wait: int | None = 0) -> bool:
        """Say whether there is more in the pipe, or its end; wait some milliseconds for it, or for good."""
        ready = select.poll()  # one for each thread
        ready.register(self._pipe, select.POLLIN)
        return bool(ready.poll(wait))

    def closed(self) -> None:
        """Leave the writing end to the JVM alone: what is read ends with it."""
        if self.end >= 0:
            os.close(self.end)
            self.end = -1

    def pass_on(self) -> None:
        """Pass on what has been held back, and from now on everything at once."""
        with self._lock:
            self._starts, self._said, self._until = False, b"", 0.0
            self._show()

    def drop(self) -> str:
        """Return what the JVM has said, and pass none of it on; one that has ended has said all."""
        if self.end < 0:
            self._thread.join(1.0)
        with self._lock:
            said, self._said, self._held = self._said, b"", b""
        return said.decode(errors="replace")

    def _read(self) -> None:
        data = b" "
        while data and self._has_more(None):
            with self._lock:  # who has it finds all in the pipe, held back or passed on
                data = os.read(self._pipe, 1 << 16)
                self._held += data
                if self._starts:
                    self._said += data
                if time.monotonic() > self._until:
                    self._show(is_end=not data)

    def _show(self, *, is_end: bool = False) -> None:
        """Pass on what was held back; the begin of a line that may be noise waits for the rest of it."""
        lines = self._held.splitlines(keepends=True)
        last, self._held = lines[-1] if lines else b"\n", b""
        may_be_noise = any(last[: len(each)] == each[: len(last)] for each in _NOISE)
        if may_be_noise and not is_end and not last.endswith(b"\n"):
            self._held = lines.pop()
        shown = b""
        for line in lines:
            is_noise = line.startswith(_NOISE)
            if not is_noise and not (self._after_noise and line == b"\n"):
                shown += line
            self._after_noise = is_noise
        with suppress(OSError):  # closed; what the JVM says must be read all the same, or it would wait
            while shown:
                shown = shown[os.write(2, shown) :]


def _why(error: Exception, said: str) -> str:
    """Return in one line why the JVM did not start, and what to do."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"Spark cannot be started: {error.filename} does not exist; correct or unset SPARK_HOME"
    if isinstance(error, OSError):
        return f"Spark cannot be started: {error.strerror or error}"
    need = f"and Spark needs Java 17 or newer; {_JAVA}"
    cause = cause_in_log(said)
    if version := re.search(r"only recognizes class file versions up to (\d+)", said):
        cause = f"this is Java {int(version[1]) - 44}, {need}"  # Java 17 has class files of version 61
    elif re.search(r"Unrecognized option: --|Module jdk\.incubator\.vector not found", said):
        cause = f"this Java is too old or not whole, {need}"
    elif re.search(r"JAVA_HOME is not set|java: (command )?not found|java: No such file", said):
        cause = f"no Java was found, {need}"
    return f"Spark's Java machine did not start: {cause}"


def _know_own_name() -> None:
    """Name an address where this machine cannot resolve its own name: Spark's JVM would not start."""
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        os.environ.setdefault("SPARK_LOCAL_IP", _LOOPBACK)


def _spark_defaults() -> dict[str, str]:
    """Return what the installation's spark-defaults.conf sets, which a launch flag would beat."""
    folder = conf_folder()
    path = folder / "spark-defaults.conf" if folder else None
    # Spark reads it more leniently than the kit reads a profile: no line of it is an error here.
    text = path.read_text("utf-8", errors="replace") if path and path.is_file() else ""
    return dict(re.findall(r"^\s*(spark\.[^\s=:]+)[ \t=:]*(.*?)\s*$", text, re.MULTILINE))
