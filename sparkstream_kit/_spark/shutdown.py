"""A signal to the JVM, or to the process group, must not end the JVM before the run that needs it has ended.

A container's runtime signals the JVM under spark-submit, and Ctrl-C reaches both processes. The JVM then runs
its shutdown hooks; one of ours comes before Spark's own and holds it until Python is done. Classic sessions
only: on Connect the server is not ours to hold.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkstream_kit._waiting import Inbox

SIGNALLED = "a signal to the JVM"  # what a run was ended by, in the words of its summary
BY_ITSELF = "the end of the JVM by itself"  # as where it has no memory left
ENDED = (
    "Spark's JVM ended before it was asked to, as it does without memory (spark-submit --driver-memory 4g)"
)
_SIGNALLED = 128  # exit codes from here on are those of signals, which the JVM gives by itself
_DYING = 1.0  # seconds that a JVM which no longer answers may take to end
_PRIORITY = 1000  # Hadoop runs hooks from the highest priority to the lowest; Spark's own are at 30 to 90


class Job:
    """A job's `main` while it runs.

    Attributes:
        has_run: whether it has come to its run.
        holds_jvm: whether that was in a JVM of this process, which ends with it.
        hooks: what holds the JVM until the end of the job.
    """

    def __init__(self) -> None:
        self.has_run = False
        self.holds_jvm = False
        self.hooks: list[_Hook] = []

    def end(self, exit_code: int) -> None:
        """Let a JVM that was told to end go, with the exit code of the job."""
        global _job  # noqa: PLW0603 - a process has one JVM, and runs one job
        _job = None
        for hook in self.hooks:
            hook.release(exit_code)


_job: Job | None = None  # None when no job's `main` runs, as in a notebook


class _Hook:
    """Asks a run to end, and keeps the JVM until `release`; a `java.lang.Runnable` in py4j's eyes.

    Attributes:
        called: whether the JVM has been told to end.
    """

    def __init__(self, inbox: Inbox, limit: float) -> None:
        from py4j.protocol import Py4JJavaError
        from pyspark import SparkContext
        from pyspark.java_gateway import ensure_callback_server_started

        self._inbox = inbox
        self._limit = min(limit, threading.TIMEOUT_MAX)
        self._released = threading.Event()
        self.called = False
        gateway: Any = SparkContext._gateway
        ensure_callback_server_started(gateway)
        self._gateway = gateway
        self._jvm = gateway.jvm
        # A thread around the proxy: Hadoop compares hooks, which a bare proxy cannot answer.
        self._thread = self._jvm.java.lang.Thread(self)
        seconds = self._jvm.java.util.concurrent.TimeUnit.SECONDS
        try:
            self._manager().addShutdownHook(self._thread, _PRIORITY, int(self._limit), seconds)
        except Py4JJavaError:  # it ends already, and waits for the hook of an earlier run
            self._ask_to_end()

    def _manager(self) -> Any:
        return self._jvm.org.apache.hadoop.util.ShutdownHookManager.get()

    def run(self) -> None:
        """Be the hook: called by the JVM in a thread of its own when it has been told to end."""
        self._ask_to_end()
        self._released.wait(self._limit)

    def _ask_to_end(self) -> None:
        self.called = True
        self._inbox.post("stop", SIGNALLED if self._is_signalled() else BY_ITSELF)

    def _is_signalled(self) -> bool:
        """Say whether a signal ends the JVM, and not Spark: the thread that took it waits for the hooks."""
        try:
            threads = str(self._jvm.java.lang.Thread.getAllStackTraces().keySet().toString())
        except Exception:  # noqa: BLE001 - of py4j or of Java, which has no memory for the answer
            return False
        return re.search(r"\bSIG[A-Z0-9]+ handler\b", threads) is not None

    def release(self, exit_code: int | None = None) -> None:
        """Let the JVM go."""
        from py4j.protocol import Py4JError

        try:
            if not self.called:
                self._manager().removeShutdownHook(self._thread)
            elif exit_code is not None and exit_code < _SIGNALLED:
                # Else spark-submit's exit code would be that of the signal, although the stop was clean.
                self._delete_temporary_files()
                self._jvm.java.lang.Runtime.getRuntime().halt(exit_code)
        except (Py4JError, ConnectionError):  # gone by now, or told to go just now
            self.called = True
        self._released.set()

    def _delete_temporary_files(self) -> None:
        """Do what Spark's last hook and Java's own would, which `halt` leaves out; neither has a door."""
        manager = self._class("org.apache.spark.util.ShutdownHookManager$")
        folders = manager.getDeclaredField("shutdownDeletePaths")
        folders.setAccessible(True)
        for path in folders.get(manager.getField("MODULE$").get(None)).mkString("\n").split("\n"):
            shutil.rmtree(path, ignore_errors=True)
        delete = self._class("java.io.DeleteOnExitHook").getDeclaredMethod("runHooks", self._none("Class"))
        delete.setAccessible(True)  # Spark opens java.io to itself and so to us
        delete.invoke(None, self._none("Object"))

    def _class(self, name: str) -> Any:
        return self._jvm.java.lang.Class.forName(name)

    def _none(self, kind: str) -> Any:
        """Return an empty array, Java's "no arguments"."""
        return self._gateway.new_array(getattr(self._jvm.java.lang, kind), 0)

    class Java:
        """What py4j asks for."""

        implements = ("java.lang.Runnable",)


@contextmanager
def jvm_waits_for(inbox: Inbox, limit: float) -> Iterator[None]:
    """Hold the JVM until the block has ended, and in a job until the job has; for `limit` seconds at most."""
    from pyspark import SparkContext

    if _job is not None:
        _job.has_run = True
    if SparkContext._gateway is None:  # Connect: no JVM of ours
        yield
        return
    if _job is not None:
        _job.holds_jvm = True
    hook = _Hook(inbox, limit)
    try:
        yield
    finally:
        if _job is None:
            hook.release()
        else:
            _job.hooks.append(hook)


def end_start_of_session(exit_code: int) -> None:
    """End the JVM of spark-submit unless a session runs in it; it may still be starting one.

    When Python ends, spark-submit interrupts what its JVM is doing. If that is the start of Spark's web page,
    Spark ends the JVM with exit code 1.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ or "pyspark" not in sys.modules:
        return
    from py4j.protocol import Py4JError
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if gateway is None or SparkContext._active_spark_context is not None:
        return
    with suppress(Py4JError, ConnectionError):  # it ends while it answers
        gateway.jvm.java.lang.System.exit(exit_code)


def jvm_has_ended(err: BaseException) -> bool:
    """Say whether an error is that the JVM of this process has gone: its port takes no connection then."""
    of_a_connection = isinstance(err, OSError) or type(err).__module__.startswith("py4j")
    if not of_a_connection or "pyspark" not in sys.modules:
        return False
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if gateway is None:
        return False
    modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(err.__traceback__)}
    port = gateway.gateway_parameters

    def is_closed() -> bool:
        try:
            socket.create_connection((port.address, port.port)).close()
        except OSError:
            return True
        return False

    # Its calls may end before its port does.
    return _waiting.until(is_closed, _DYING if "py4j.java_gateway" in modules else 0)


def job_begins() -> Job:
    """Note that a job's `main` runs: what it does after its run needs the JVM too."""
    global _job  # noqa: PLW0603
    _job = Job()
    return _job
