"""`get_session`: a SparkSession with the settings of a profile, quiet, and with the driver's own Python."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sparkstream_kit import _packages
from sparkstream_kit._arguments import check
from sparkstream_kit._spark import launch, settings
from sparkstream_kit._spark.session import identity, jvm_runs, restart, runs
from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown
from sparkstream_kit.profiles import is_local, read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["get_session", "is_local", "spark_session"]

_log = logging.getLogger(__name__)

# What each session of this process was started with: its profile and its `conf`.
_asked: dict[str, tuple[str | Path | None, dict[str, str]]] = {}


def get_session(
    app_name: str,
    *,
    profile: str | Path | None = None,
    conf: Mapping[str, Any] | None = None,
    connectors: Sequence[str] = (),
) -> SparkSession:
    """Start a Spark session with settings that fit a stream, or return the one that runs already.

    Settings take effect in this order: what the launch gave (spark-submit's flags, a properties file,
    spark-defaults, PYSPARK_SUBMIT_ARGS), then `conf`, then the profile, then Spark's defaults. An entry
    of `conf` that loses is a warning. In a session that already runs, only the runtime settings of `conf`
    are applied; another profile than the session's is a warning.

    What a session on a local master listens with is for this machine alone: its ports, and Spark's web page,
    which has no login. SPARK_LOCAL_IP in the environment puts the page on another address.

    With SPARK_REMOTE, or `spark.remote` in `conf`, it is a session on that Spark Connect server, whose own
    settings count as those of the launch; of a profile the runtime settings apply.

    Args:
        app_name: the name in Spark's UI and logs.
        profile: `local`, `test`, `cluster` or the path of a file in spark-defaults format; by default
            `local` on a local master and `cluster` on any other.
        conf: further settings by Spark's own keys; True and False become `true` and `false`.
        connectors: the systems that Spark shall know beside its own, such as `kafka` and `delta`
            (`sparkstream connectors` lists them), with the settings that they need. Spark fetches their
            packages in its own version, or takes their jars from the folder that SPARKSTREAM_JARS names. It
            can do so only when it starts: spark-submit, and a Connect server, must have been given them.

    Returns:
        A plain `pyspark.sql.SparkSession`; `spark_session` stops it at the end of a `with` block.

    Raises:
        InvalidInputError: an unknown profile, no usable Java, no Connect server at the address, a value that
            Spark cannot read, a static setting that differs from that of the running session, or a connector
            that Spark does not have.
        KitError: Spark did not start for another reason.
        MissingExtraError: Spark Connect without the libraries of its client.

    Examples:
        >>> get_session("docs", profile="lokal")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown profile lokal; did you mean local?; known: ...
    """
    check(get_session, locals())
    explicit = {key: _text(value) for key, value in (conf or {}).items()}
    reject_unknown("connector", connectors, _packages.CONNECTORS)
    session = _session(app_name, profile, explicit, connectors)
    for name in connectors:
        _check_connector(session, name)
    return session


def _session(
    app_name: str, profile: str | Path | None, explicit: dict[str, str], connectors: Sequence[str]
) -> SparkSession:
    ran, asked = runs(), explicit
    if remote := explicit.get("spark.remote") or os.environ.get("SPARK_REMOTE"):
        from sparkstream_kit import server

        session = server.attach(remote, app_name, profile, explicit)
        if not ran:
            _asked[identity(session)] = profile, {}
        return _adjust(session, profile, server.of_session(explicit))
    profiled = None if profile is None else read_profile(profile)
    if ran:
        return _adjust(SparkSession.builder.getOrCreate(), profile, explicit)
    if connectors and not jvm_runs():
        explicit = explicit | _packages.needed(connectors, pyspark.__version__, (profiled or {}) | explicit)
    named = {**(profiled or {}), **explicit}
    with launch.starting(named, quiet=profile != "cluster"):
        given = _given_by_launch()
        master = given.get("spark.master") or named.get("spark.master", "local[*]")
        if profiled is None:
            profiled = read_profile("local" if is_local(master) else "cluster")
        chosen = {"spark.app.name": app_name, "spark.master": master, **profiled, **explicit}
        if is_local(master):
            _prepare_local(given, chosen)
        applied: dict[str, Any] = {
            key: chosen[key] for key in chosen if key not in given and not key.startswith(launch.LAUNCH_KEYS)
        }
        with launch.web_page_on_loopback() if is_local(master) else nullcontext():
            spark = _start(applied)
    _report_losers(spark, explicit, given)
    _asked[identity(spark)] = profile, asked
    return spark


def _check_connector(spark: SparkSession, name: str) -> None:
    """Refuse a session that lacks a connector, or a setting of it, before a query meets that."""
    asked = _packages.CONNECTORS[name].settings
    lacks = any(value not in (spark.conf.get(key, None) or "") for key, value in asked.items())
    try:
        _ = spark.read.format(name).load().schema
    except (PySparkException, Py4JError) as err:  # where it is there, it asks for its options
        lacks = lacks or _packages.missing_source(err) is not None
    if lacks:
        raise InvalidInputError(_packages.missing(name))


@contextmanager
def spark_session(
    app_name: str,
    *,
    profile: str | Path | None = None,
    conf: Mapping[str, Any] | None = None,
    connectors: Sequence[str] = (),
) -> Iterator[SparkSession]:
    """Give the session of `get_session`, and stop it at the end of the `with` block if it was started here.

    One that ran before, such as a notebook's, is left running. On Spark Connect a session's queries and views
    end with it, and the server goes on.

    Args and errors are those of `get_session`.

    Examples:
        In a session::

            with spark_session("sales") as spark:
                spark.sql("SELECT 1").show()
    """
    ran = runs()
    spark = get_session(app_name, profile=profile, conf=conf, connectors=connectors)
    try:
        yield spark
    finally:
        if not ran:
            spark.stop()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _prepare_local(given: Mapping[str, str], chosen: dict[str, str]) -> None:
    """Have a local session be quiet, listen on this machine only, and run the driver's own Python."""
    launch.silence_jvm(has_level="spark.log.level" in given)
    if not {"spark.driver.host", "spark.driver.bindAddress"} & {*given, *chosen}:
        chosen |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    if "spark.pyspark.python" not in {*given, *chosen}:
        # Spark would take whatever python3 is first on PATH, and wait 10 s for it to fail.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def _start(conf: dict[str, Any]) -> SparkSession:
    """Start Spark; a handler of SIGINT that the program has set up stays."""
    interrupt = signal.getsignal(signal.SIGINT)
    context = SparkContext.getOrCreate(SparkConf().setAll(list(conf.items())))
    # Spark's own handler, which cancels the running work, is for where there was none.
    if interrupt is not signal.default_int_handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    try:
        spark: SparkSession = SparkSession.builder.config(map=conf).getOrCreate()
        _ = spark.conf  # where Spark reads the values, which the context has taken as they are
    except PySparkException:
        context.stop()  # the next session would have them, too
        raise
    return spark


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


def _adjust(spark: SparkSession, profile: str | Path | None, explicit: Mapping[str, str]) -> SparkSession:
    """Apply runtime settings to a session that runs; refuse static ones that differ, and then apply none."""
    of_profile, before = _asked.get(identity(spark), (None, {}))
    if profile not in (None, of_profile):
        _log.warning(
            "profile %s is not applied: a session%s runs already; call spark.stop() first",
            profile,
            f" with profile {of_profile}" if of_profile else "",
        )
    runtime = {key: value for key, value in explicit.items() if spark.conf.isModifiable(key)}
    for key, value in explicit.items():
        # The same words again, as of a cell that is run twice, ask for what was said to already.
        if key in runtime or before.get(key) == value:
            continue
        current = spark.conf.get(key, None)
        if current is None or not settings.same(key, value, current, spark):
            for unknown in _unknown(spark, [key]):
                raise InvalidInputError(unknown)
            has = "none" if current is None else settings.shown_value(key, current)
            raise InvalidInputError(
                f"{settings.shown(key, value)} cannot be set in the running session, which has {has}; "
                f"{restart(spark)}"
            )
    settings.put(spark, runtime)
    return spark


def _report_losers(spark: SparkSession, explicit: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Warn of entries of `conf` that the launch overruled, and of `spark.sql` keys that Spark lacks."""
    for key, value in explicit.items():
        actual = given.get(key)
        lost = f"conf {settings.shown(key, value)} is not in force"
        if actual is None and key.startswith(launch.LAUNCH_KEYS):
            _log.warning(
                "%s: the JVM must know it when it starts; "
                "give it to spark-submit, or call get_session first in a new process",
                lost,
            )
        elif actual is not None and not settings.same(key, value, actual, spark):
            _log.warning("%s: the launch gave %s, which wins", lost, settings.shown_value(key, actual))
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
