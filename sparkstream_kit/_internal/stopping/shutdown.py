"""Keep the JVM alive until the run that needs it has ended, when a signal tells the JVM to end.

Under spark-submit a container's runtime sends SIGTERM to the JVM, and Ctrl-C reaches
both the JVM and Python. The JVM then runs its shutdown hooks. `jvm_waits_for` registers
a hook that runs before Spark's own: it asks the run to stop, and holds the JVM until
Python has committed the batch in flight and the job has ended. At the end of a job,
`Job.end` makes the JVM exit with the job's exit code instead of the signal's.

This is for classic sessions only: on Spark Connect the server's JVM is independent of
this process.
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

from sparkstream_kit._internal import threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkstream_kit._internal.stopping.waiting import Inbox

SIGNALLED = "a signal to the JVM"  # a reason in `RunSummary.ended_by`
# Another one, for example when the JVM has no memory left
BY_ITSELF = "the end of the JVM by itself"
ENDED = (
    "Spark's JVM ended by itself, most likely because it had no memory left, as for one"
    " very long line or for a file that is unpacked as a whole; give it more"
    " (spark-submit --driver-memory 4g, or conf={'spark.driver.memory': '4g'} in a new"
    " process)"
)
# Exit codes from here on stand for signals; after a signal the JVM sets them by itself
_SIGNALLED = 128
_DYING = 1.0  # seconds that a JVM may take to end after it has stopped answering
# Hadoop runs hooks from the highest priority to the lowest; Spark's own are at 30 to 90
_PRIORITY = 1000


class Job:
    """The job whose `main` is running.

    Attributes:
        has_run: whether the job has called `run`.
        holds_jvm: whether that run uses a JVM of this process, which ends with the
            process.
        hooks: the shutdown hooks that hold the JVM until the job ends: that of the last
            run, and those that the JVM has called.
    """

    def __init__(self) -> None:
        self.has_run = False
        self.holds_jvm = False
        self.hooks: list[_Hook] = []
        self._keeping = threading.Lock()  # runs of several threads may end at once

    def keep(self, hook: _Hook) -> None:
        """Keep the hook of a run until the job ends, in place of the hooks of earlier runs.

        One hook holds the JVM as well as many. Those that the JVM has called already
        are kept, too.
        """
        called: list[_Hook] = []
        idle: list[_Hook] = []
        with self._keeping:
            for former in self.hooks:
                # Asked once, because the JVM may call a hook at any time
                if former.called:
                    called.append(former)
                else:
                    idle.append(former)
            self.hooks = [hook, *called]
        for each in idle:
            each.release()

    def end(self, exit_code: int) -> None:
        """Release the hooks at the job's end; a JVM told to end exits with the job's code."""
        global _job  # noqa: PLW0603 - a process has one JVM, and runs one job
        _job = None
        for hook in self.hooks:
            hook.release(exit_code)


_job: Job | None = None  # None if no job's `main` is running, as in a notebook


class _Hook:
    """A shutdown hook of the JVM, which asks a run to stop and holds the JVM until `release`.

    The JVM calls it through py4j as a `java.lang.Runnable`.

    Attributes:
        called: whether the JVM has been told to end.
    """

    def __init__(self, inbox: Inbox, limit: float) -> None:
        from py4j.protocol import Py4JJavaError
        from pyspark import SparkContext
        from pyspark.java_gateway import ensure_callback_server_started

        self._limit = min(limit, threading.TIMEOUT_MAX)
        self._inbox = inbox
        self._released = threading.Event()
        self.called = False
        gateway: Any = SparkContext._gateway
        ensure_callback_server_started(gateway)
        self._gateway = gateway
        self._jvm = gateway.jvm
        # Wrap the py4j proxy in a Thread: Hadoop compares hooks with `equals`, which a
        # proxy does not have.
        self._thread = self._jvm.java.lang.Thread(self)
        seconds = self._jvm.java.util.concurrent.TimeUnit.SECONDS
        # The JVM is ending, and waits for the hook of an earlier run
        with suppress(Py4JJavaError):
            self._manager().addShutdownHook(
                self._thread, _PRIORITY, int(self._limit), seconds
            )
            return
        self.called = True
        inbox.post("stop", SIGNALLED)

    def _manager(self) -> Any:
        return self._jvm.org.apache.hadoop.util.ShutdownHookManager.get()

    def run(self) -> None:
        """Tell the run to stop, and wait for `release`; a JVM thread calls this at shutdown."""
        self.called = True
        self._inbox.post("stop", SIGNALLED if self._is_signalled() else BY_ITSELF)
        self._released.wait(self._limit)

    def _is_signalled(self) -> bool:
        """Return whether a signal ends the JVM, and not Spark.

        If so, the JVM's thread that handles the signal is waiting for the hooks, under
        the signal's name.
        """
        # Py4j or Java fails if the JVM has no memory for the answer
        with suppress(Exception):
            stacks = self._jvm.java.lang.Thread.getAllStackTraces()
            names = stacks.keySet().toString()
            return re.search(r"\bSIG[A-Z0-9]+ handler\b", names) is not None
        return False

    def release(self, exit_code: int | None = None) -> None:
        """Let the JVM end.

        Args:
            exit_code: the exit code that a JVM which has been told to end shall have;
                None, or a code of a signal, leaves it to the JVM.
        """
        from py4j.protocol import Py4JError

        try:
            if not self.called:
                self._manager().removeShutdownHook(self._thread)
            elif exit_code is not None and exit_code < _SIGNALLED:
                # Halt with the job's code: the JVM itself would exit with the signal's
                # code, although the stop was clean.
                self._delete_temporary_files()
                self._jvm.java.lang.Runtime.getRuntime().halt(exit_code)
        except (Py4JError, ConnectionError):
            # the JVM has ended, or has just begun to end
            self.called = True
        self._released.set()
        # The thread holds this hook in the JVM, and this hook the thread: without this
        # neither is ever freed.
        self._thread = None

    def _delete_temporary_files(self) -> None:
        """Delete the temporary files of Spark and Java, as `halt` skips the hooks that do.

        Neither hook has a public method, so both are reached by reflection.
        """
        java = self._jvm.java.lang
        array = self._gateway.new_array  # an empty array stands for no arguments
        manager = java.Class.forName("org.apache.spark.util.ShutdownHookManager$")
        folders = manager.getDeclaredField("shutdownDeletePaths")
        folders.setAccessible(True)
        paths = folders.get(manager.getField("MODULE$").get(None)).mkString("\n")
        for path in paths.split("\n"):
            shutil.rmtree(path, ignore_errors=True)
        hook = java.Class.forName("java.io.DeleteOnExitHook")
        delete = hook.getDeclaredMethod("runHooks", array(java.Class, 0))
        # Allowed, because Spark launches its JVM with java.io opened
        delete.setAccessible(True)
        delete.invoke(None, array(java.Object, 0))

    class Java:
        """Declares the Java interface for py4j, which looks for a class of this name."""

        implements = ("java.lang.Runnable",)


@contextmanager
def jvm_waits_for(inbox: Inbox, limit: float) -> Iterator[None]:
    """Hold the JVM until the block has ended, or within a job until the job has ended.

    Args:
        inbox: where the run is asked to stop when the JVM is told to end.
        limit: the most seconds for which the JVM is held after it has been told to end.
    """
    from pyspark import SparkContext

    if _job is not None:
        _job.has_run = True
        _job.holds_jvm |= SparkContext._gateway is not None
    if SparkContext._gateway is None:  # on Spark Connect this process has no JVM
        yield
        return
    hook = _Hook(inbox, limit)
    try:
        yield
    finally:
        if _job is None:
            hook.release()
        else:
            _job.keep(hook)


def end_start_of_session(exit_code: int) -> None:
    """End spark-submit's JVM with an exit code, unless a session runs; one may be starting.

    When Python ends, spark-submit interrupts its JVM. If the JVM is just starting
    Spark's web page, Spark would then end it with exit code 1.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ or "pyspark" not in sys.modules:
        return
    from py4j.protocol import Py4JError
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if gateway is None or SparkContext._active_spark_context is not None:
        return
    # The JVM ends before it can answer this call
    with suppress(Py4JError, ConnectionError):
        gateway.jvm.java.lang.System.exit(exit_code)


def jvm_has_ended(err: BaseException) -> bool:
    """Return whether an error means that this process's JVM has ended.

    Only errors of connections and of py4j can mean that. The JVM has ended if its port
    refuses connections.
    """
    of_a_connection = isinstance(err, OSError) or type(err).__module__.startswith(
        "py4j"
    )
    if not of_a_connection or "pyspark" not in sys.modules:
        return False
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if gateway is None:
        return False
    frames = [frame for frame, _ in traceback.walk_tb(err.__traceback__)]
    in_py4j = any(
        frame.f_globals.get("__name__") == "py4j.java_gateway" for frame in frames
    )
    port = gateway.gateway_parameters

    def is_closed() -> bool:
        with suppress(OSError):
            socket.create_connection((port.address, port.port)).close()
            return False
        return True

    # A dying JVM may drop calls before it closes its port. After a failed py4j call,
    # wait for that.
    return threads.until(is_closed, _DYING if in_py4j else 0)


def job_begins() -> Job:
    """Note that a job's `main` runs, to hold the JVM until the job ends, not only its run."""
    global _job  # noqa: PLW0603
    _job = Job()
    return _job
