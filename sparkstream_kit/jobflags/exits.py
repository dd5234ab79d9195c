"""How a job ends: its exit code, one line for an error, and its own standard streams."""

from __future__ import annotations

import ctypes
import functools
import io
import logging
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sparkstream_kit import _causes, _shutdown, _waiting
from sparkstream_kit.errors import InvalidInputError, KitError, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["exit_codes", "take_standard_streams"]

# What the library's errors call an argument, and what the jobs do.
_FLAGS = {"take_over=True": "--take-over"}

# System calls of Linux, by the same numbers on every architecture.
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438


def exit_codes(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap a job's `main`: its own standard streams, one line for an error, and the exit code.

    0 ended as asked, by a signal too; 1 a query failed; 2 wrong arguments or input that cannot be had; 130
    and 143 a second signal, which cuts a clean stop short. An error that is not the user's keeps its stack
    trace: it is a bug.

    Before the run there is nothing to commit, and a signal ends the job at once. Under spark-submit the JVM
    then sets the exit code, 130 or 143, if it got the signal too.

    Args:
        main: takes the arguments (None: those of the process) and returns the exit code.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        take_standard_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # a result in a pipe is seen when it is there
        _shutdown.job_begins()
        loggers = logging.getLogger(), logging.getLogger("psycopg")
        for logger in loggers:
            logger.addFilter(_not_raised_as_well)
        code = 1
        try:
            with _waiting.signals_to(_unwind):
                code = _run(main, argv)
        finally:
            logging.disable(logging.NOTSET)
            _shutdown.job_ends(code)  # the JVM may go in here, and py4j would log it
            for logger in loggers:
                logger.removeFilter(_not_raised_as_well)
        return code

    return wrapped


def _not_raised_as_well(record: logging.LogRecord) -> bool:
    """Leave out what py4j logs on the root logger of a JVM that has gone, and psycopg of a lost server."""
    return "py4j" not in record.pathname and not str(record.msg).startswith("error ignored terminating")


class _Signalled(BaseException):
    """A signal outside of a run."""


def _unwind(name: str) -> NoReturn:
    """End the job from where it is, so that temporary folders go and no JVM is left behind."""
    # The JVM may have got the signal too: what is said of losing it is no news.
    logging.disable(logging.CRITICAL)
    raise _Signalled(name)


def _run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None) -> int:
    try:
        code = main(argv)
        sys.stdout.flush()
    except KitError as err:
        said = str(err)
        for argument, flag in _FLAGS.items():
            said = said.replace(argument, flag)
        print(f"{Path(sys.argv[0]).name}: {said}", file=sys.stderr)
        return err.exit_code
    except (KeyboardInterrupt, _Signalled) as signalled:
        name = str(signalled) or "SIGINT"
        if _shutdown.job_has_run():
            return 128 + signal.Signals[name]
        print(f"{Path(sys.argv[0]).name}: stopped by {name} before it began to run", file=sys.stderr)
        return 0
    except Exception as err:
        if isinstance(err, BrokenPipeError) and _reader_is_gone():
            # As with `head`: nothing more to say, and nowhere to say it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        missing = _causes.missing_source(err)
        cause = missing or _cause_in_spark(err)
        if cause is None:
            raise
        print(f"{Path(sys.argv[0]).name}: {without_secrets(cause)}", file=sys.stderr)
        return 1 if missing is None else InvalidInputError.exit_code
    else:
        return code


def _cause_in_spark(err: Exception) -> str | None:
    """Return a line for an error that came from Spark, None for any other."""
    if type(err).__module__.startswith("pyspark.errors") or type(err).__name__ == "Py4JJavaError":
        return _causes.innermost(err)
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(err.__traceback__)]
    lost = type(err).__module__.startswith("py4j") or isinstance(err, ConnectionError)
    return "Spark's JVM ended before the job did" if lost and "py4j.java_gateway" in modules else None


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
