"""Start the JVM of a classic session: launch options, log output, web page, start errors.

`session.get_session` enters `starting` around the creation of its SparkContext.
`starting` launches the JVM (under spark-submit it runs already), hides its output until
the start is over, and turns a failed start into an error of one line. `silence_jvm`
applies the kit's log settings, and `web_page_on_loopback` keeps Spark's web page on
this machine.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger
from pyspark.serializers import UTF8Deserializer, read_int

from sparkstream_kit._internal import java, threads
from sparkstream_kit._internal.spark.session import CONTEXT_LOGGERS, jvm_runs
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    innermost_cause,
    said_by_spark,
)
from sparkstream_kit.profiles import is_local, log4j2_file, read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger(__name__)

# Prefixes of the settings that take effect only when the JVM starts. Set later, they
# have no effect, although Spark's configuration then shows the new value.
LAUNCH_KEYS = (
    "spark.driver.defaultJavaOptions",
    "spark.driver.extra",
    "spark.driver.memory",
    "spark.driver.userClassPathFirst",
    "spark.jars",
    "spark.submit.",
)

_OPTIONS = "spark.driver.extraJavaOptions"
_BRINGS_OPTIONS = re.compile(rf"{_OPTIONS}|--(properties-file|driver-java-options)\b")
# Seconds for which output is held back during a start. A longer wait, such as for a
# download of spark.jars.packages, is explained by that output, so it is shown from then
# on.
_HELD = 30.0
# Beginnings of lines to leave out: Java's warnings about options that Spark itself
# sets, and the lines that PySpark's `transformWithState` worker prints when a query
# starts. An empty line after one is left out, too.
_WORKER = b"Streaming TransformWithStateInPandas Python worker"
_NOISE = (
    _WORKER,
    b"Starting " + _WORKER,
    b"WARNING: Using incubator modules: ",
    b"WARNING: package sun.security.action not in ",
)
# What Ivy says while it finds the packages of spark.jars.packages: a hundred lines, of
# use if it fails.
_IVY = re.compile(
    rb"^(?::: loading settings ::|Ivy Default Cache set to:).*?^:: retrieving"
    rb" ::[^\n]*\n(?:\t[^\n]*\n)*",
    re.MULTILINE | re.DOTALL,
)

# How the cause begins if Spark cannot read the value of a setting
_WRONG_SETTING = re.compile(
    r"(Spark)?(IllegalArgument|NumberFormat)Exception: |.*Could not parse Master URL"
)


@contextmanager
def starting(settings: Mapping[str, str], profile: str | Path | None) -> Iterator[None]:
    """Start the JVM for a SparkContext made in the block; under spark-submit, connect to its JVM.

    The JVM's output is held back until the block ends, for 30 seconds at most, and then
    written to standard error without the lines of `_NOISE` and `_IVY`. If the start
    fails, the output is dropped instead, and the error names the cause.

    Args:
        settings: the settings of the session. The JVM is launched with those that have a
            prefix in `LAUNCH_KEYS`, unless spark-defaults.conf sets them.
        profile: the profile of the session; without one it is `local` on a local
            master. There the JVM also gets the kit's log settings, but with the profile
            `cluster`.

    Raises:
        InvalidInputError: Java is missing, too old, or has a bug that corrupts data;
            Spark's version differs from PySpark's; or Spark cannot read a setting.
        KitError: Spark did not start for another reason.
    """
    if sys.stderr and sys.stderr.isatty():
        sys.stderr.write("starting Spark …\n")
    jvm_output: _HeldOutput | None = None
    if not jvm_runs():
        jvm_output = _launch(settings, profile)
    SparkContext._ensure_initialized()
    _refuse_versions()
    try:
        yield
    except (Py4JError, PySparkException) as err:
        if jvm_output is not None:
            _log.debug("the JVM said: %s", jvm_output.drop())
        cause = innermost_cause(err)
        if _WRONG_SETTING.match(cause):
            raise InvalidInputError(
                f"{said_by_spark(ValueError(cause))}; correct that setting"
            ) from err
        raise KitError(
            "; ".join([f"Spark did not start: {cause}", *java.lacks()])
        ) from err
    finally:
        if jvm_output is not None:
            jvm_output.pass_on()


_CORRUPTS_WITH = "G1"  # prefix of the names of the G1 collector's two parts


def _refuse_versions() -> None:
    """Refuse a Spark of another version than PySpark's, and a Java that corrupts data.

    With a Spark of another version, the session would only fail later.

    Raises:
        InvalidInputError: the first two numbers of the versions differ, or this Java
            with the G1 collector can corrupt data (JDK-8377811).
    """
    jvm: Any = SparkContext._jvm
    spark = str(jvm.org.apache.spark.package.SPARK_VERSION())
    python = pyspark.__version__
    if re.findall(r"\d+", spark)[:2] != re.findall(r"\d+", python)[:2]:
        home = os.environ.get("SPARK_HOME")
        unset = ""
        if home:
            unset = f"unset SPARK_HOME ({home}), or "
        raise InvalidInputError(
            f"Spark's Java machine is of Spark {spark}, and PySpark is {python};"
            f" {unset}run: pip install pyspark=={spark}"
        )
    version = str(jvm.java.lang.System.getProperty("java.version"))
    if java.CORRUPTS.fullmatch(version):
        collectors = (
            jvm.java.lang.management.ManagementFactory.getGarbageCollectorMXBeans()
        )
        if collectors[0].getName().startswith(_CORRUPTS_WITH):
            raise InvalidInputError(f"Java {version} {java.CORRUPTS_HOW}")


@contextmanager
def web_page_on_loopback() -> Iterator[None]:
    """Make the SparkContext that is created in the block serve its web page on 127.0.0.1 only.

    The page has no login. Spark reads the page's address only from SPARK_LOCAL_IP in
    the JVM's environment, and under spark-submit the JVM starts before Python. The
    variable is therefore set inside the running JVM, by reflection, and removed after
    the block. An address that the launch has set is kept.
    """
    jvm: Any = SparkContext._jvm
    if jvm.java.lang.System.getenv("SPARK_LOCAL_IP") is not None:
        yield
        return
    held = jvm.java.lang.Class.forName("java.lang.ProcessEnvironment")
    read_only = held.getDeclaredField("theUnmodifiableEnvironment")
    inner = jvm.java.lang.Class.forName(
        "java.util.Collections$UnmodifiableMap"
    ).getDeclaredField("m")
    for field in (read_only, inner):
        # Allowed, because Spark launches its JVM with both packages opened
        field.setAccessible(True)
    environment = inner.get(read_only.get(None))
    environment.put("SPARK_LOCAL_IP", "127.0.0.1")
    try:
        yield
    finally:
        # A later context of this JVM may run on a cluster, where loopback would be the
        # wrong address.
        environment.remove("SPARK_LOCAL_IP")


def silence_jvm(*, has_level: bool) -> None:
    """Apply the kit's log settings, unless the launch brought its own log settings or log level.

    Args:
        has_level: whether the launch has set `spark.log.level`.
    """
    for name in CONTEXT_LOGGERS:
        # These loggers print a stack trace for each error that PySpark raises as an
        # exception anyway.
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)
    jvm: Any = SparkContext._jvm
    if has_level or _has_own_log4j2():
        return
    if jvm.java.lang.System.getProperty("log4j2.configurationFile"):
        return
    # At its first log call Spark replaces the log settings in force and prints a line
    # about it. Trigger that call now, with Java's standard error discarded, so that it
    # cannot replace the kit's settings later.
    errors = jvm.java.lang.System.err
    jvm.java.lang.System.setErr(
        jvm.java.io.PrintStream(jvm.java.io.OutputStream.nullOutputStream())
    )
    try:
        jvm.org.apache.spark.sql.types.StructType.fromDDL("a INT")
    finally:
        jvm.java.lang.System.setErr(errors)
    address = jvm.java.net.URI(log4j2_file().as_uri())
    for current in (True, False):
        jvm.org.apache.logging.log4j.LogManager.getContext(current).setConfigLocation(
            address
        )


def _has_own_log4j2() -> bool:
    """Return whether Spark's configuration folder has log settings (a file `log4j2.*`)."""
    return any(java.conf_folder().glob("log4j2.*"))


def _launch(settings: Mapping[str, str], profile: str | Path | None) -> _HeldOutput:
    """Start the JVM with the settings of `LAUNCH_KEYS`, archived classes and the kit's logging.

    Returns:
        The reader of the JVM's standard error, which holds its output back.

    Raises:
        InvalidInputError: the JVM did not start.
    """
    _know_own_name()
    jvm_output = _HeldOutput()
    try:
        env = java.with_names(java.environment())
        archive = java.known_archive(java.find_java(env))
        archive_path = None
        archive_options = ""
        if archive is not None:
            archive_path = archive.path
            archive_options = archive.options
        launch_options = f"{env.get('SPARK_SUBMIT_OPTS', '')} {settings}"
        has_own_archive = _CHOOSES_ARCHIVE.search(launch_options) is not None
        if has_own_archive:
            archive_options = ""
        arguments, options = _arguments(settings, profile, env, archive_options)
        command = java.command(
            arguments, env, options, archive=archive_path, stderr=jvm_output.end
        )
        SparkContext._ensure_initialized(gateway=_gateway(command, env, jvm_output.end))
        if archive_path is not None and not has_own_archive:
            atexit.register(_warm, archive_path)
    except (OSError, subprocess.SubprocessError) as err:
        jvm_output.closed()
        output = jvm_output.drop()
        _log.debug("the JVM said: %s", output)
        if isinstance(err, OSError):
            raise InvalidInputError(
                f"Spark cannot be started: {err.strerror or err}"
            ) from err
        cause = f"{java.NOT_STARTED}{_why_not_started(output)}"
        raise InvalidInputError("; ".join([cause, *java.lacks()])) from err
    finally:
        jvm_output.closed()
    return jvm_output


# Options with which a launch chooses an archive of classes, or none
_CHOOSES_ARCHIVE = re.compile(r"-Xshare:|-XX:(AOT|SharedArchive|ArchiveClasses)")


def _arguments(
    wanted: Mapping[str, str],
    profile: str | Path | None,
    env: Mapping[str, str],
    archive_options: str,
) -> tuple[list[str], list[str]]:
    """Return the arguments of spark-submit, and further options of the JVM, for a launch.

    Args:
        wanted: the settings of the session.
        profile: the profile of the session.
        env: the environment of the launch.
        archive_options: the options by which the JVM uses an archive of classes.
    """
    defaults = _spark_defaults()
    submitted = env.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
    local = is_local(_master(submitted, {**wanted, **defaults}))
    name = profile or ("local" if local else "cluster")
    of_profile = read_profile(name).get(_OPTIONS, "")
    keys = [key for key in wanted if key.startswith(LAUNCH_KEYS)]
    settings = {key: wanted[key] for key in keys if key not in defaults}
    if settings.get(_OPTIONS) == of_profile:
        del settings[_OPTIONS]  # the profile's come before those of the launch
    arguments: list[str] = []
    for key, value in settings.items():
        arguments += ["--conf", f"{key}={value}"]
    arguments += shlex.split(submitted)
    # Without this flag the JVM prints its start errors on standard output, which is for
    # results.
    options = ["-XX:+DisplayVMOutputToStderr", *shlex.split(archive_options)]
    has_own_options = _OPTIONS in {**settings, **defaults}
    if not has_own_options and not _BRINGS_OPTIONS.search(submitted):
        if local:
            options.append(java.PARALLEL)
        options += shlex.split(of_profile)
    # On a cluster Spark's own log settings stay, so that lost executors are logged.
    has_own_logs = "log4j" in env.get("SPARK_SUBMIT_OPTS", "") or _has_own_log4j2()
    if profile != "cluster" and local and not has_own_logs:
        options.append(f"-Dlog4j2.configurationFile={log4j2_file().as_uri()}")
    return arguments, options


def _master(submitted: str, settings: Mapping[str, str]) -> str:
    """Return the master of a launch.

    Args:
        submitted: the arguments in PYSPARK_SUBMIT_ARGS, which win, such as
            "--master local[2] pyspark-shell".
        settings: the settings of the session and of spark-defaults.conf.
    """
    match = re.search(r"\bmaster[\s=]+['\"]?([^\s'\"]+)", submitted)
    if match:
        return match[1]
    return settings.get("spark.master", "local[*]")


def _warm(archive: Path) -> None:
    """In a terminal or a notebook, make the archive in the background if there is none."""
    waits = "ipykernel" in sys.modules or (
        sys.stderr is not None and sys.stderr.isatty()
    )
    if archive.exists() or not waits or not os.access(archive.parent, os.W_OK):
        return
    sys.stderr.write(
        "preparing a faster start of Spark in the background: once, for about a"
        " minute\n"
    )
    command = [
        "nice",
        sys.executable,
        "-c",
        "from sparkstream_kit.cli.archive import warm; warm()",
    ]
    none = subprocess.DEVNULL
    subprocess.Popen(
        command, stdin=none, stdout=none, stderr=none, start_new_session=True
    )


def _gateway(command: list[str], env: dict[str, str], stderr: int) -> Any:
    """Start the JVM and connect to it, as PySpark does.

    The JVM writes its port to a file, and ends when its input ends.

    Raises:
        CalledProcessError: the JVM ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder, "gateway")
        env |= {
            "_PYSPARK_DRIVER_CONN_INFO_PATH": str(port_file),
            "SPARK_CONNECT_MODE": "0",
        }
        # The shell that is replaced by the JVM leaves it deaf to Ctrl-C, which is for
        # Python.
        deaf = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
        jvm = subprocess.Popen(deaf, env=env, stdin=subprocess.PIPE, stderr=stderr)
        try:
            # PySpark imports it for its first call to the JVM, and with it pandas: a
            # third of a second.
            import_module("pyspark.testing.utils")
            while not port_file.exists():
                if jvm.poll() is not None:
                    raise subprocess.CalledProcessError(jvm.returncode, command)  # noqa: TRY301 - as run does
                time.sleep(0.01)
            with port_file.open("rb") as file:
                port = read_int(file)
                secret = UTF8Deserializer().loads(file)
            os.environ |= {
                "PYSPARK_GATEWAY_PORT": str(port),
                "PYSPARK_GATEWAY_SECRET": secret,
            }
            gateway = launch_gateway()
        except BaseException:
            jvm.kill()  # it would outlive an interrupted start
            raise
        finally:
            for key in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
                # A program that this one starts has a JVM of its own
                os.environ.pop(key, None)
    gateway.proc = jvm
    return gateway


class _HeldOutput:
    """Reads the JVM's standard error; holds it back during the start, then passes it on.

    A thread reads the pipe and writes to this process's standard error, without the
    lines of `_NOISE`. Output that the JVM writes after this process has ended is lost.

    Attributes:
        end: the descriptor of the pipe's writing end, which the JVM inherits; -1 once
            it is closed here.
    """

    def __init__(self) -> None:
        self._pipe, self.end = os.pipe()
        self._said = b""  # all output since the start began, for an error message
        self._held = b""  # output that has not been passed on yet
        self._after_noise = False
        self._until = time.monotonic() + _HELD
        self._starts = True
        self._lock = threading.Lock()
        self._thread = threads.in_thread("what the JVM says", self._read)
        atexit.register(self._settle)

    def _settle(self) -> None:
        """At exit, wait up to a second until the JVM's output has been passed on.

        The reading thread does not keep the process alive, so output that is still in
        the pipe would be lost.
        """
        threads.until(lambda: not self._thread.is_alive() or not self._has_more(), 1.0)
        with self._lock:
            pass  # the thread has finished writing what it read last

    def _has_more(self, wait: int | None = 0) -> bool:
        """Return whether the pipe can be read: it has data, or its writing end is closed.

        Args:
            wait: milliseconds to wait for that; None waits without a limit.
        """
        ready = select.poll()  # a poll object must not be used by two threads at once
        ready.register(self._pipe, select.POLLIN)
        return bool(ready.poll(wait))

    def closed(self) -> None:
        """Close this process's copy of the writing end, so that the pipe ends when the JVM does."""
        if self.end >= 0:
            os.close(self.end)
            self.end = -1

    def pass_on(self) -> None:
        """Pass on the output that was held back, and from now on all output immediately."""
        with self._lock:
            self._starts = False
            self._said = b""
            self._until = 0.0
            self._held = _IVY.sub(b"", self._held)
            self._show()

    def drop(self) -> str:
        """Return the JVM's output since its start, and pass on none that is still held back."""
        # If the JVM has ended, the thread reads the rest of the pipe and ends, too.
        self._thread.join(1.0)
        with self._lock:
            output, self._said, self._held = self._said, b"", b""
        return output.decode(errors="replace")

    def _read(self) -> None:
        """Read the pipe until its end, in a thread of its own."""
        data = b" "
        while data and self._has_more(None):
            # Read under the lock: `_settle` relies on all data being in the pipe, held
            # back, or passed on.
            with self._lock:
                data = os.read(self._pipe, 1 << 16)
                self._held += data
                if self._starts:
                    self._said += data
                if time.monotonic() > self._until:
                    self._show(is_end=not data)

    def _show(self, *, is_end: bool = False) -> None:
        """Pass on the output that was held back, without noise.

        An unfinished last line that may turn out to be noise is kept until the rest of
        it arrives.

        Args:
            is_end: whether the pipe has ended, so that the last line is complete.
        """
        lines = self._held.splitlines(keepends=True)
        last = b"\n"
        if lines:
            last = lines[-1]
        self._held = b""
        may_be_noise = any(last[: len(each)] == each[: len(last)] for each in _NOISE)
        if may_be_noise and not is_end and not last.endswith(b"\n"):
            self._held = lines.pop()
        output = b""
        for line in lines:
            is_noise = line.startswith(_NOISE)
            if not is_noise and not (self._after_noise and line == b"\n"):
                output += line
            self._after_noise = is_noise
        # Standard error may be closed. Go on reading all the same: a full pipe would
        # block the JVM.
        with suppress(OSError):
            while output:
                output = output[os.write(2, output) :]


# Lines that Java and Spark's scripts print at every failed start, whatever the cause.
_SAYS_NOTHING = re.compile(
    r"^Error occurred during initialization of VM|"
    r"^Error: Could not create the Java Virtual Machine|"
    r"^Error: A fatal exception has occurred|CMD: bad array subscript"
)


def cause_in_log(text: str) -> str:
    r"""Find the most useful line of a log: the innermost cause, the first error, or the last line.

    Examples:
        >>> cause_in_log("ERROR Server: Error\njava.lang.IllegalStateException: no port\n\tat x")
        'IllegalStateException: no port'
    """
    lines = [line for line in text.splitlines() if not _SAYS_NOTHING.search(line)]
    lines = [line.strip() for line in lines if line.strip()]
    # Without the package, and "Exception in thread "main"" before it
    return re.sub(
        r'^(Exception in thread "[^"]*" )?(\w+\.)*(?=\w+(Error|Exception)\b)',
        "",
        _most_useful(lines),
    )


def _most_useful(lines: list[str]) -> str:
    """Return the most useful line of a log, for `cause_in_log`."""
    caused_by = "Caused by: "
    for line in reversed(lines):
        if line.startswith(caused_by):
            return line.removeprefix(caused_by)
    # A line that begins with the name of an exception, else one that has some error
    for pattern in (
        r"^([\w$]+\.)+[\w$]*(Error|Exception)\b",
        r"Error|Exception|error:|not found",
    ):
        for line in lines:
            if re.search(pattern, line):
                return line
    if lines:
        return lines[-1]
    return "without a word"


def _why_not_started(output: str) -> str:
    """Return why the JVM did not start, and how to fix it, from what it said.

    The version of a Java behind a wrapper, as of jenv or asdf, is only known from that.
    """
    newest = re.search(r"only recognizes class file versions up to (\d+)", output)
    if newest:
        # Java 17 has class files of version 61
        return f"this is Java {int(newest[1]) - 44}, {java.NEEDS}"
    if re.search(
        r"Unrecognized option: --|Module jdk\.incubator\.vector not found", output
    ):
        return f"this Java is too old or not whole, {java.NEEDS}"
    return cause_in_log(output)


def _know_own_name() -> None:
    """Set SPARK_LOCAL_IP if this machine cannot resolve its own name: no JVM would start."""
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")


def _spark_defaults() -> dict[str, str]:
    """Return the settings of spark-defaults.conf, which a launch flag would override."""
    path = java.conf_folder() / "spark-defaults.conf"
    # Spark accepts lines that the kit refuses in a profile, so no line is an error
    # here.
    if not path.is_file():
        return {}
    text = path.read_text("utf-8", errors="replace")
    return dict(
        re.findall(r"^\s*(spark\.[^\s=:]+)[ \t=:]*(.*?)\s*$", text, re.MULTILINE)
    )
