"""Start and run: `get_session`, a quiet session by a profile, with the driver's Python.

`spark_session` is the same as a context manager, which also stops the session, unless
others use it. A classic session is started here, with the help of `launch`; a
session on Spark Connect comes from `server.attach`. If a session already runs,
`_adjust` applies the runtime settings to it and refuses static ones that differ.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark import launch
from sparkstream_kit._internal.spark.queries import running
from sparkstream_kit._internal.spark.session import (
    activate,
    has_ended,
    identity,
    jvm_runs,
    on_server,
    put_settings,
    runs,
    same_setting,
    shown_setting,
    shown_value,
)
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.profiles import is_local, read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["get_session", "is_local", "spark_session"]

_log = logging.getLogger(__name__)

# By the session's id: the profile and the `conf` with which it was started.
_start_arguments: dict[str, tuple[str | Path | None, dict[str, str]]] = {}
_one_at_a_time = threading.RLock()  # held while a session starts, is adjusted or stops


class _Users:
    """Who uses a session that a block of `spark_session` has started.

    Attributes:
        blocks: the thread of each block that is in force.
        others: the threads that have got the session by `get_session` outside of a
            block.
    """

    def __init__(self) -> None:
        self.blocks: list[threading.Thread] = []
        self.others: set[threading.Thread] = set()

    def add(self, thread: threading.Thread) -> None:
        """Note that a thread has got the session by `get_session`; forget those that have ended."""
        self._forget_ended()
        if thread not in self.blocks:
            self.others.add(thread)

    def leave(self, thread: threading.Thread) -> bool:
        """Note that a block has ended, and return whether nobody uses the session any more."""
        self.blocks.remove(thread)
        self.others.discard(thread)
        self._forget_ended()
        return not self.blocks and not self.others

    def _forget_ended(self) -> None:
        self.others = {each for each in self.others if each.is_alive()}


# By the session's id, for each session that a block has started
_users: dict[str, _Users] = {}


def get_session(
    app_name: str,
    *,
    profile: str | Path | None = None,
    conf: Mapping[str, Any] | None = None,
    connectors: Sequence[str] = (),
) -> SparkSession:
    """Start a Spark session with settings that suit streaming, or return the one that already runs.

    If a setting is given more than once, the first of these wins: the launch
    (spark-submit's flags, a properties file, spark-defaults.conf, PYSPARK_SUBMIT_ARGS),
    `conf`, the profile, Spark's defaults. An entry of `conf` that the launch overrides
    is logged as a warning. In a session that already runs, only the runtime settings of
    `conf` are applied; a profile other than the session's own is logged as a warning.

    A session on a local master can be reached from this machine only: both its ports
    and Spark's web page, which has no login. Set SPARK_LOCAL_IP in the environment to
    serve the page on another address.

    It can be called in any thread, and the session be used in all of them. Spark reads
    the texts of types (`cast("timestamp")`) with the settings of the thread's active
    session, which is the one that is returned, unless the thread has another one; so
    call it in each thread.

    With SPARK_REMOTE in the environment, or `spark.remote` in `conf`, the session runs
    on that Spark Connect server. The server's own settings then take the place of the
    launch, and only the runtime settings of a profile are applied.

    Args:
        app_name: the application's name in Spark's UI and logs.
        profile: `local`, `test`, `cluster` or the path of a file in spark-defaults
            format. Default: `local` on a local master and `cluster` on any other.
        conf: further settings by Spark's own keys; True and False become `true` and
            `false`.
        connectors: external systems that Spark must support, such as `kafka` and
            `delta` (`sparkstream connectors` lists them); the settings that they need
            are added. Spark downloads their packages in its own version, or takes their
            jars from the folder in SPARKSTREAM_JARS. Both are possible only when the
            JVM starts, so spark-submit or a Connect server must have been started with
            them.

    Returns:
        A plain `pyspark.sql.SparkSession`. Use `spark_session` to stop it at the end of
        a `with` block.

    Raises:
        InvalidInputError: the profile or a connector is unknown, there is no usable
            Java, no Connect server answers at the address, Spark cannot read a value, a
            static setting differs from that of the running session, or Spark lacks a
            connector.
        KitError: Spark did not start for another reason.
        MissingExtraError: the libraries of the Spark Connect client are not installed.

    Examples:
        >>> get_session("docs", profile="lokal")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown profile lokal; did you mean local?
    """
    check(get_session, locals())
    with _one_at_a_time:
        session = _session_with_connectors(app_name, profile, conf, connectors)
        users = _users.get(identity(session))
        if users is not None:
            users.add(threading.current_thread())
        return session


def _session_with_connectors(
    app_name: str,
    profile: str | Path | None,
    conf: Mapping[str, Any] | None,
    connectors: Sequence[str],
) -> SparkSession:
    """Start or find a session with the connectors, and make it active in this thread."""
    explicit = {key: _as_text(value) for key, value in (conf or {}).items()}
    session = _session(app_name, profile, explicit, connectors)
    if connectors:
        # Only then is it needed
        from sparkstream_kit.connectors._packages import check_session

        check_session(session, connectors)
    activate(session)
    return session


def _as_text(value: Any) -> str:
    """Return the value of a setting as Spark writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _session(
    app_name: str,
    profile: str | Path | None,
    explicit: dict[str, str],
    connectors: Sequence[str],
) -> SparkSession:
    """Start or find the session of `get_session`; do not check its connectors."""
    was_running = runs()
    remote = explicit.get("spark.remote") or os.environ.get("SPARK_REMOTE")
    if remote:
        from sparkstream_kit import server

        session = server.attach(remote, app_name, profile, explicit)
        if not was_running:
            _start_arguments[identity(session)] = profile, {}
        return _adjust(session, profile, server.of_session(explicit))
    profiled: dict[str, str] = {}
    if profile is not None:
        profiled = read_profile(profile)
    if was_running:
        return _adjust(SparkSession.builder.getOrCreate(), profile, explicit)
    requested = explicit
    if connectors and not jvm_runs():
        from sparkstream_kit.connectors._packages import needed

        known_settings = profiled | explicit
        requested = explicit | needed(connectors, pyspark.__version__, known_settings)
    named = profiled | requested
    with launch.starting(named, profile):
        launch_settings = _launch_settings()
        master = launch_settings.get("spark.master") or named.get(
            "spark.master", "local[*]"
        )
        if profile is None:
            profile = "local" if is_local(master) else "cluster"
            named = read_profile(profile) | requested
        chosen = {"spark.app.name": app_name, "spark.master": master, **named}
        spark = _launched(launch_settings, chosen, local=is_local(master))
    _warn_of_unused_conf(spark, requested, launch_settings)
    _start_arguments[identity(spark)] = profile, explicit
    return spark


def _launched(
    launch_settings: Mapping[str, str], chosen: dict[str, str], *, local: bool
) -> SparkSession:
    """Start a session in the JVM that runs now.

    Args:
        launch_settings: the settings of the launch, which win.
        chosen: the settings for the session.
        local: whether the session's master is a local one.
    """
    if local:
        _prepare_local(launch_settings, chosen)
    # The JVM has those of the launch already
    keys = [key for key in chosen if key not in launch_settings]
    keys = [key for key in keys if not key.startswith(launch.LAUNCH_KEYS)]
    applied: dict[str, Any] = {key: chosen[key] for key in keys}
    if not local:
        return _start(applied)
    with launch.web_page_on_loopback():
        return _start(applied)


@contextmanager
def spark_session(
    app_name: str,
    *,
    profile: str | Path | None = None,
    conf: Mapping[str, Any] | None = None,
    connectors: Sequence[str] = (),
) -> Iterator[SparkSession]:
    """Start a session as `get_session` does, and stop it after the `with` block.

    Its queries are stopped first.

    A session that was running before the block, such as a notebook's, is yielded and
    not stopped. Blocks in several threads share the session that the first of them has
    started, and the last one to end stops it; it is left running for a thread that has
    got it by `get_session` outside of a block and has not ended. On Spark Connect, the
    session's queries and views end with the session, and the server keeps running.

    The arguments and errors are those of `get_session`.

    Examples:
        In a session::

            with spark_session("sales") as spark:
                spark.sql("SELECT 1").show()
    """
    check(get_session, locals())
    thread = threading.current_thread()
    with _one_at_a_time:
        was_running = runs()
        spark = _session_with_connectors(app_name, profile, conf, connectors)
        if not was_running:
            _users[identity(spark)] = _Users()
        session = identity(spark)
        users = _users.get(session)  # None if the session was running before all blocks
        if users is not None:
            users.blocks.append(thread)
    try:
        yield spark
    finally:
        with _one_at_a_time:
            if users is not None and users.leave(thread):
                _users.pop(session, None)
                _stop(spark)


def _stop(spark: SparkSession) -> None:
    """Stop a session that runs, and first all queries, also those of its `newSession()`."""
    if has_ended(spark):  # PySpark would forget the session that may run since
        return
    # Spark prints a Java stack trace for a query that still runs when its context
    # stops.
    with suppress(Exception):  # the JVM may have ended
        if not on_server(spark):
            for query, session in _running_with(spark):
                session.conf.set("spark.sql.streaming.stopTimeout", "5s")
                with suppress(Exception):  # the function of a batch may hang
                    query.stop()
    spark.stop()


def _running_with(spark: SparkSession) -> list[tuple[StreamingQuery, SparkSession]]:
    """Return the running queries of a session, and those that `start` knows, of any session.

    The session of a query that `start` knows may have come from `newSession()`.
    """
    queries: list[tuple[StreamingQuery, SparkSession]] = []
    for query, facts in running():
        session = spark
        if facts.frame is not None:
            session = facts.frame.sparkSession
        queries.append((query, session))
    queries += [(query, spark) for query in spark.streams.active]
    return queries


def _prepare_local(launch_settings: Mapping[str, str], chosen: dict[str, str]) -> None:
    """Prepare a local session: quiet logs, ports on this machine, the driver's Python.

    Args:
        launch_settings: the settings of the launch.
        chosen: the settings for the session. The driver's host and bind address are
            added as 127.0.0.1, unless one of the two has one of them.
    """
    launch.silence_jvm(has_level="spark.log.level" in launch_settings)
    if not {"spark.driver.host", "spark.driver.bindAddress"} & {
        *launch_settings,
        *chosen,
    }:
        chosen |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    if "spark.pyspark.python" not in {*launch_settings, *chosen}:
        # By default Spark starts the first python3 on PATH; if that one does not work,
        # it fails after 10 s.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def _start(conf: dict[str, Any]) -> SparkSession:
    """Start the context and the session; keep a SIGINT handler that the program has installed."""
    interrupt = signal.getsignal(signal.SIGINT)
    context = SparkContext.getOrCreate(SparkConf().setAll(list(conf.items())))
    # PySpark installs a SIGINT handler that cancels running jobs. Keep it only if there
    # was no handler before.
    if (
        interrupt is not signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(signal.SIGINT, interrupt)
    try:
        spark: SparkSession = SparkSession.builder.config(map=conf).getOrCreate()
        # Only here does Spark check the values; the context accepts any text
        _ = spark.conf
    except PySparkException:
        context.stop()  # otherwise the next session would get the bad values, too
        raise
    return spark


def _launch_settings() -> dict[str, str]:
    """Return the settings of the launch: from flags, files and the environment.

    Values that Spark and PySpark fill in when nothing was given are left out.
    """
    settings = dict(SparkConf().getAll())
    script = ""
    if sys.argv:
        script = Path(sys.argv[0]).name
    filled_in = {
        "spark.master": {"local[*]"},
        "spark.app.name": {script, "pyspark-shell"},
        "spark.ui.showConsoleProgress": {"true"},
    }
    return {
        key: value
        for key, value in settings.items()
        if value not in filled_in.get(key, ())
    }


def _adjust(
    spark: SparkSession, profile: str | Path | None, explicit: Mapping[str, str]
) -> SparkSession:
    """Apply the runtime settings of `explicit` to a running session.

    Raises:
        InvalidInputError: a static setting differs from the session's, or Spark cannot
            read a value. Then no setting has been changed.
    """
    own_profile, former_conf = _start_arguments.get(identity(spark), (None, {}))
    if profile not in (None, own_profile):
        other = f" with profile {own_profile}" if own_profile else ""
        _log.warning(
            "profile %s is not applied: a session%s runs; call spark.stop() first",
            profile,
            other,
        )
    runtime: dict[str, str] = {}
    static: dict[str, str] = {}
    for key, value in explicit.items():
        if spark.conf.isModifiable(key):
            runtime[key] = value
        elif former_conf.get(key) != value:
            # A value that was given at the session's start, too, has been handled then.
            # This happens, for example, when a notebook cell runs twice.
            static[key] = value
    for key, value in static.items():
        current = spark.conf.get(key, None)
        if current is None or not same_setting(key, value, current):
            raise InvalidInputError(_explain_difference(spark, key, value, current))
    put_settings(spark, runtime)
    return spark


def _explain_difference(
    spark: SparkSession, key: str, value: str, current: str | None
) -> str:
    """Say that a running session has another value of a static setting, and what to do."""
    unknown = _misspelt_key_warnings(spark, [key])
    if unknown:
        return unknown[0]
    has = "none"
    if current is not None:
        has = shown_value(key, current)
    fix = "call spark.stop() first, then get_session again"
    if on_server(spark):
        fix = "start the Connect server with it"
    return (
        f"{shown_setting(key, value)} cannot be set in the running session, which has"
        f" {has}; {fix}"
    )


def _warn_of_unused_conf(
    spark: SparkSession, explicit: Mapping[str, str], launch_settings: Mapping[str, str]
) -> None:
    """Log a warning for each entry of `conf` without effect, and for misspelt `spark.sql` keys.

    An entry has no effect if the launch overrides it, or if the JVM, which was running
    already, would have needed it at its start.
    """
    for key, value in explicit.items():
        actual = launch_settings.get(key)
        lost = f"conf {shown_setting(key, value)} is not in force"
        if actual is None and key.startswith(launch.LAUNCH_KEYS):
            _log.warning(
                "%s: the JVM must know it when it starts; give it to spark-submit, or"
                " call get_session first in a new process",
                lost,
            )
        elif actual is not None and not same_setting(key, value, actual):
            _log.warning(
                "%s: the launch gave %s, which wins", lost, shown_value(key, actual)
            )
    static = [key for key in explicit if not spark.conf.isModifiable(key)]
    for warning in _misspelt_key_warnings(spark, static):
        _log.warning(warning)


# Static settings that many sessions are given: to ask Spark for all that it knows takes
# half a second.
_STATIC = re.compile(r"spark\.sql\.(extensions|warehouse\.dir|catalog\.spark_catalog)")


def _misspelt_key_warnings(spark: SparkSession, keys: list[str]) -> list[str]:
    """Return a line for each unknown `spark.sql` key that resembles a known one."""
    sql_keys = [key for key in keys if key.startswith("spark.sql.")]
    keys_to_check = [key for key in sql_keys if not _STATIC.fullmatch(key)]
    if not keys_to_check:
        return []
    known_keys = {row[0] for row in spark.sql("SET -v").select("key").collect()}
    lines: list[str] = []
    for key in keys_to_check:
        suggestion = ""
        if key not in known_keys:
            suggestion = hint(key, known_keys)
        if suggestion:
            lines.append(f"Spark knows no setting {key}{suggestion}")
    return lines
