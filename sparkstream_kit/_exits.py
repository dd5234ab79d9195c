"""How a job ends: one line for an error, the exit code, and nothing but results on standard output.

spark-submit merges standard output and standard error, and gives a job no way to tell them apart. Therefore
`take_standard_streams` asks Linux for the streams of the launch, by system calls that Python does not name.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import io
import logging
import os
import re
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sparkstream_kit import _waiting, errors
from sparkstream_kit._packages import missing_source
from sparkstream_kit._spark import shutdown
from sparkstream_kit.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable

# System calls of Linux, by the same numbers on every architecture.
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438

# What gRPC says when the server ends, between two calls or within one; and what the server says meanwhile.
_CUT_OFF = re.compile(r"StatusCode\.(UNAVAILABLE|CANCELLED)|error processing RPC|a stopped SparkContext")


def exit_codes(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Wrap a job's `main`, so that it ends with the right exit code, and with one line if it failed.

    The codes are 0 for a job that ended as asked, also by a signal; 1 for a query that failed; 2 for wrong
    arguments, or input that cannot be read; 130 and 143 for a second signal, which cuts a clean stop short.
    An error that is not the user's keeps its stack trace: it is a bug.

    Before the run there is nothing to commit, and a signal ends the job at once. Under spark-submit the JVM
    then sets the exit code, 130 or 143, if it received the signal too. A second signal, more than a second
    after the first, ends the process at once.

    Args:
        main: takes the arguments (None: those of the process) and returns the exit code.

    Examples:
        In a session::

            @jobflags.exit_codes
            def main(argv=None):
                args = jobflags.parser(__doc__, "INPUT_DIR", *jobflags.RUN).parse_args(argv)
                with spark_session("sales", **jobflags.for_session(args)) as spark:
                    lines = sources.text(spark, args.input_dir)
                    query = start(lines, sinks.console(), **jobflags.for_start(args))
                    return jobflags.finish(args, run(query, **jobflags.for_run(args)))
    """

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> int:
        take_standard_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # a result in a pipe is seen when it is there
        stop = _Stop(shutdown.job_begins())
        if logging.lastResort is not None:  # what writes the log of a program that has not set it up
            logging.lastResort.setFormatter(_Plain())
        loggers = logging.getLogger(), logging.getLogger("psycopg")
        for logger in loggers:
            logger.addFilter(_not_raised_as_well)
        # What py4j logs on the root logger makes a handler, which would then write this logger's, too.
        py4j = logging.getLogger("py4j")
        py4j_level = py4j.level
        py4j.setLevel(logging.CRITICAL)
        former = sys.unraisablehook
        sys.unraisablehook = stop.unraisable
        try:
            with _waiting.signals_to(stop.unwind, again=stop.leave):
                try:
                    _run(main, argv, stop)
                finally:
                    # The JVM may go in here, and py4j would log it.
                    stop.job.end(stop.code)
        finally:
            sys.unraisablehook = former
            logging.disable(logging.NOTSET)
            # A JVM that was told to end may go later; a thread of py4j's own would log that.
            if not any(hook.called for hook in stop.job.hooks):
                for logger in loggers:
                    logger.removeFilter(_not_raised_as_well)
                py4j.setLevel(py4j_level)
        atexit.register(_ignore_signals)
        return stop.code

    return wrapped


def _ignore_signals() -> None:
    """Let a process that ends do so with its exit code; before its end Python takes its handlers away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _not_raised_as_well(record: logging.LogRecord) -> bool:
    """Leave out what py4j logs on the root logger of a JVM that has gone, and psycopg of a lost server."""
    return "py4j" not in record.pathname and not str(record.msg).startswith("error ignored terminating")


class _Plain(logging.Formatter):
    """Writes no control characters of the input, such as those in the names of files."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


class _Signalled(KeyboardInterrupt):
    """A signal outside of a run; at a KeyboardInterrupt py4j drops the connection, whose answer is unread."""


class _Stop:
    """What a job's signals do outside of its run."""

    def __init__(self, job: shutdown.Job) -> None:
        self.job = job
        self.name: str | None = None  # of the signal that the job is being ended by
        self.code = 1  # of the job, if nothing else ends it
        self.over = False

    def end(self, code: int) -> None:
        """Take the exit code; from here on the job ends by itself, and no signal changes it."""
        self.code, self.over = code, True

    def unwind(self, name: str) -> None:
        """End the job from where it is, so that temporary folders go and no query is left behind."""
        if self.over:
            return
        if self.job.holds_jvm:
            # The queries end with the JVM; to cut off what it does would be told as an error.
            self.leave(name)
        # The JVM may have received the signal too: that it is lost is then no news.
        logging.disable(logging.CRITICAL)
        self.name = name
        raise _Signalled(name)

    def leave(self, name: str) -> NoReturn:
        """End the process here and now."""
        if os.isatty(2):
            os.write(2, b"\x1b[?25h")  # a live picture hides the cursor
        os._exit(self.code if self.over else 128 + signal.Signals[name])

    def unraisable(self, unraisable: Any) -> None:
        """Leave where Python would drop the signal and go on, as in the destructor of an object."""
        if isinstance(unraisable.exc_value, _Signalled):
            self.leave(str(unraisable.exc_value))
        sys.__unraisablehook__(unraisable)


def _run(main: Callable[[list[str] | None], int], argv: list[str] | None, stop: _Stop) -> None:
    """Run a job to its exit code, which is in `stop` then."""
    try:
        try:
            code = main(argv)
            sys.stdout.flush()
            stop.end(code)
        except Exception as err:
            # What follows a signal comes of it: a call into the JVM was cut off, or a query failed.
            if stop.name is not None:
                raise
            _end_with(err, stop)
    except BaseException as err:
        name = stop.name or ("SIGINT" if isinstance(err, KeyboardInterrupt) else None)
        if name is None or isinstance(err, SystemExit):
            raise
        stop.end(128 + signal.Signals[name] if stop.job.has_run else 0)
        if not stop.job.has_run:
            print(f"{Path(sys.argv[0]).name}: stopped by {name} before it began to run", file=sys.stderr)
            shutdown.end_start_of_session(stop.code)


def _end_with(err: Exception, stop: _Stop) -> None:
    """End a job that has failed; an error that is nobody's to mend but ours goes on."""
    if isinstance(err, BrokenPipeError) and _reader_is_gone():
        # As with `head`: nothing more to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        stop.end(0)
        return
    if isinstance(err, errors.KitError):
        code, line = err.exit_code, str(err)
    elif known := missing_source(err) or errors.wrong_event_time(err):
        code, line = 2, known
    elif cause := _cause_in_spark(err):
        code, line = 1, cause
    else:
        raise err
    stop.end(code)
    if isinstance(err, errors.DryRun):
        print(line)  # what was asked for
        return
    print(f"{Path(sys.argv[0]).name}: {printable(errors.without_secrets(line), lines=True)}", file=sys.stderr)


def _cause_in_spark(err: Exception) -> str | None:
    """Return a line for an error that came from Spark, None for any other."""
    if type(err).__module__ == "pyspark.errors.exceptions.connect" and _CUT_OFF.search(str(err)):
        return "the Spark Connect server ended before the job did, or can no longer be reached"
    if type(err).__module__.startswith("pyspark.errors") or type(err).__name__ == "Py4JJavaError":
        return errors.innermost_cause(err)
    return "Spark's JVM ended before the job did" if shutdown.jvm_has_ended(err) else None


def _reader_is_gone() -> bool:
    """Say whether the other end of our standard output is closed."""
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))


def take_standard_streams() -> None:
    """Under spark-submit on Linux, give Python the launch's own standard output and error again.

    spark-submit merges the two into one pipe to the JVM, which prints it on standard output: results and
    errors could not be told apart, and nothing would be a terminal. Elsewhere this does nothing.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ or not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    if Path(f"/proc/{parent}/comm").read_text("utf-8").strip() != "java":
        return
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        taken = _stream_of(parent, number)
        if taken is not None:
            os.dup2(taken, number)
            os.close(taken)


def _stream_of(process: int, number: int) -> int | None:
    """Return a descriptor of another process's stream; None where the system does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The very same open file: in a plain file, both processes go on writing at one position.
    pidfd = libc.syscall(_PIDFD_OPEN, process, 0)
    taken: int = libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if pidfd >= 0:
        os.close(pidfd)
    if taken >= 0:
        return taken
    try:
        # A system that forbids this (ptrace is needed) may still let us open the file a second time.
        return os.open(f"/proc/{process}/fd/{number}", os.O_WRONLY | os.O_APPEND)
    except OSError:
        return None
