"""`get_session`: a SparkSession with the settings of a profile, quiet, and with the driver's own Python."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from sparkstream_kit import _archive, _connect, _waiting
from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.profiles import log4j2_file, read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["get_session", "is_local", "spark_session"]

_log = logging.getLogger(__name__)

# What the JVM must know when it starts: later, Spark ignores these and still claims to have them.
_LAUNCH_KEYS = (
    "spark.driver.defaultJavaOptions",
    "spark.driver.extra",
    "spark.driver.memory",
    "spark.driver.userClassPathFirst",
    "spark.jars",
    "spark.submit.",
)


def get_session(
    app_name: str, *, profile: str | Path | None = None, conf: Mapping[str, Any] | None = None
) -> SparkSession:
    """Return the running session, or start one with the settings of a profile.

    Settings take effect in this order: what the launch gave (spark-submit's flags, a properties file,
    spark-defaults, PYSPARK_SUBMIT_ARGS), then `conf`, then the profile, then Spark's defaults. An entry
    of `conf` that loses is a warning. In a session that already runs, only the runtime settings of `conf`
    are applied.

    With SPARK_REMOTE, or `spark.remote` in `conf`, it is a session on that Spark Connect server, whose own
    settings count as those of the launch; of a profile the runtime settings apply.

    Args:
        app_name: the name in Spark's UI and logs.
        profile: `local`, `test`, `cluster` or the path of a file in spark-defaults format; by default
            `local` on a local master and `cluster` on any other.
        conf: further settings by Spark's own keys; True and False become `true` and `false`.

    Returns:
        A plain `pyspark.sql.SparkSession`; `spark_session` stops it at the end of a `with` block.

    Raises:
        InvalidInputError: an unknown profile, no usable Java, no Connect server at the address, or a static
            setting that differs from that of the running session.
        MissingExtraError: Spark Connect without the libraries of its client.

    Example:
        >>> get_session("docs", profile="lokal")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown profile lokal; did you mean local?; known: ...
    """
    check(get_session, locals())
    explicit = {key: _text(value) for key, value in (conf or {}).items()}
    remote = _connect.remote_url(explicit)
    if remote is not None:
        session = _connect.attach(remote, app_name, profile, explicit)
        return _adjust(session, _connect.of_session(explicit))
    settings = None if profile is None else read_profile(profile)
    if SparkContext._active_spark_context is not None:  # noqa: SLF001 - no public question for this
        return _adjust(SparkSession.builder.getOrCreate(), explicit)

    named = {**(settings or {}), **explicit}
    _launch_jvm(named, quiet=profile != "cluster")
    given = _given_by_launch()
    master = given.get("spark.master") or named.get("spark.master", "local[*]")
    if settings is None:
        settings = read_profile("local" if is_local(master) else "cluster")
    wanted = {**settings, **explicit}
    if is_local(master):
        _silence_jvm(given)
        if "spark.pyspark.python" not in {**given, **wanted}:
            # Spark would take whatever python3 is first on PATH, and wait 10 s for it to fail.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

    chosen = {"spark.app.name": app_name, "spark.master": master, **wanted}
    applied: dict[str, Any] = {
        key: chosen[key] for key in chosen if key not in given and not key.startswith(_LAUNCH_KEYS)
    }
    _start_context(applied)
    spark: SparkSession = SparkSession.builder.config(map=applied).getOrCreate()
    _report_losers(spark, explicit, given)
    return spark


@contextmanager
def spark_session(
    app_name: str, *, profile: str | Path | None = None, conf: Mapping[str, Any] | None = None
) -> Iterator[SparkSession]:
    """Give the session of `get_session`, and stop it at the end of the `with` block.

    A classic session is a context manager itself; one of Spark Connect is none. There its queries and views
    end with it, and the server goes on.

    Args and errors are those of `get_session`.
    """
    spark = get_session(app_name, profile=profile, conf=conf)
    try:
        yield spark
    finally:
        spark.stop()


def is_local(master: str) -> bool:
    """Say whether a master URL runs everything in the driver's own process.

    Example:
        >>> is_local("local[2]"), is_local("spark://host:7077"), is_local("local-cluster[2,1,1024]")
        (True, False, False)
    """
    return master == "local" or master.startswith("local[")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _launch_jvm(wanted: Mapping[str, str], *, quiet: bool) -> None:
    """Start the JVM (under spark-submit: meet it) with the settings that only its start can take."""
    if SparkContext._gateway is None and "PYSPARK_GATEWAY_PORT" not in os.environ:  # noqa: SLF001
        _know_own_name()
        defaults = _spark_defaults()
        launch = SparkConf(loadDefaults=False)
        for key, value in wanted.items():
            if key.startswith(_LAUNCH_KEYS) and key not in defaults:
                launch.set(key, value)
        options = os.environ.get("SPARK_SUBMIT_OPTS", "")
        more = [] if "SharedArchiveFile" in options else [_archive.java_options()]
        asked = re.search(r"\bmaster[\s=]+['\"]?([^\s'\"]+)", os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
        master = (asked and asked[1]) or ({**wanted, **defaults}).get("spark.master", "local[*]")
        # On a cluster, lost executors are worth a line.
        if quiet and is_local(master) and "log4j" not in options and not _has_own_log4j2():
            more.append(f"-Dlog4j2.configurationFile={log4j2_file().as_uri()}")
        os.environ["SPARK_SUBMIT_OPTS"] = " ".join([options, *more]).strip()
        try:
            # A JVM whose launch is interrupted would be left behind.
            with _waiting.signals_after():
                SparkContext._ensure_initialized(conf=launch)  # noqa: SLF001
        except PySparkRuntimeError as err:
            raise InvalidInputError(
                "Spark's Java machine did not start (its own words are above); it needs Java 17 or newer: "
                "install one (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
            ) from err
        except FileNotFoundError as err:
            raise InvalidInputError(
                f"Spark cannot be started: {err.filename} does not exist; correct or unset SPARK_HOME"
            ) from err
        finally:
            if options:
                os.environ["SPARK_SUBMIT_OPTS"] = options
            else:
                os.environ.pop("SPARK_SUBMIT_OPTS", None)
    SparkContext._ensure_initialized()  # noqa: SLF001


def _start_context(conf: Mapping[str, str]) -> None:
    """Start the SparkContext; a handler of SIGINT that the program has set up stays."""
    interrupt = signal.getsignal(signal.SIGINT)
    SparkContext.getOrCreate(SparkConf().setAll(list(conf.items())))
    # Spark's own handler, which cancels the running work, is for where there was none.
    if interrupt is not signal.default_int_handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def _know_own_name() -> None:
    """Name an address where this machine cannot resolve its own name: Spark's JVM would not start."""
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")


def _spark_defaults() -> dict[str, str]:
    """Return what the installation's spark-defaults.conf sets, which a launch flag would beat."""
    folder = _conf_folder()
    path = folder / "spark-defaults.conf" if folder else None
    # Spark reads it more leniently than the kit reads a profile: no line of it is an error here.
    text = path.read_text("utf-8", errors="replace") if path and path.is_file() else ""
    return dict(re.findall(r"^\s*(spark\.[^\s=:]+)[ \t=:]*(.*?)\s*$", text, re.MULTILINE))


def _conf_folder() -> Path | None:
    """Return the folder of the installation's settings, as Spark's own scripts find it."""
    if given := os.environ.get("SPARK_CONF_DIR"):
        return Path(given)
    return Path(os.environ["SPARK_HOME"], "conf") if os.environ.get("SPARK_HOME") else None


def _given_by_launch() -> dict[str, str]:
    """Return what flags, files and environment gave, without what Spark fills in when nothing was given."""
    given = dict(SparkConf().getAll())
    script = Path(sys.argv[0]).name if sys.argv else ""
    filled_in = {
        "spark.master": {"local[*]"},
        "spark.app.name": {script, "pyspark-shell"},
        "spark.ui.showConsoleProgress": {"true"},
    }
    return {key: value for key, value in given.items() if value not in filled_in.get(key, ())}


def _silence_jvm(given: Mapping[str, str]) -> None:
    """Put the kit's log settings in force, unless the launch brought settings of its own."""
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        # They print the stack trace of each error that is raised as an exception all the same.
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)
    jvm: Any = SparkContext._jvm  # noqa: SLF001
    configured = jvm.java.lang.System.getProperty("log4j2.configurationFile")
    if configured or "spark.log.level" in given or _has_own_log4j2():
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
    folder = _conf_folder()
    return folder is not None and any(folder.glob("log4j2.*"))


def _adjust(spark: SparkSession, explicit: Mapping[str, str]) -> SparkSession:
    """Apply runtime settings to a session that runs; refuse static ones that differ, and then apply none."""
    runtime = {key: value for key, value in explicit.items() if spark.conf.isModifiable(key)}
    for key, value in explicit.items():
        if key not in runtime and (current := spark.conf.get(key, None)) != value:
            for unknown in _unknown(spark, [key]):
                raise InvalidInputError(unknown)
            fix = (
                "start the Connect server with it"
                if _connect.is_connect(spark)
                else "call spark.stop() first, then get_session again"
            )
            raise InvalidInputError(
                f"{key}={value} cannot be set in the running session, which has {current or 'none'}; {fix}"
            )
    for key, value in runtime.items():
        spark.conf.set(key, value)
    return spark


def _report_losers(spark: SparkSession, explicit: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Warn of entries of `conf` that the launch overruled, and of `spark.sql` keys that Spark lacks."""
    for key, value in explicit.items():
        actual = given.get(key)
        if actual is None and key.startswith(_LAUNCH_KEYS):
            _log.warning(
                "conf %s=%s is not in force: the JVM must know it when it starts; "
                "give it to spark-submit, or call get_session first in a new process",
                key,
                value,
            )
        elif actual not in (None, value):
            _log.warning("conf %s=%s is not in force: the launch gave %s, which wins", key, value, actual)
    for unknown in _unknown(spark, [key for key in explicit if not spark.conf.isModifiable(key)]):
        _log.warning(unknown)


def _unknown(spark: SparkSession, keys: list[str]) -> list[str]:
    """Return a line for each `spark.sql` key that Spark lacks and that looks like one that it has."""
    sql_keys = [key for key in keys if key.startswith("spark.sql.")]
    if not sql_keys:
        return []
    known = {row[0] for row in spark.sql("SET -v").select("key").collect()}
    hints = {key: hint(key, known) for key in sql_keys if key not in known}
    return [f"Spark knows no setting {key}{near}" for key, near in hints.items() if near]
