"""Extra: how a job ends: one line for an error, and the exit code.

`exit_codes` wraps the `main` of a job. It turns errors of the kit and of Spark into one
line on standard error, sets the exit code, and handles the signals that arrive before
and after the job's run (`runs.run` handles those during the run).

spark-submit merges standard output and standard error into one stream.
`take_standard_streams` therefore gets the original streams of the launch from Linux, by
system calls for which Python has no functions.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import functools
import io
import logging
import os
import re
import select
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sparkstream_kit import errors
from sparkstream_kit._internal.file_system import open_missing_streams, plain
from sparkstream_kit._internal.stopping import shutdown, waiting
from sparkstream_kit.connectors._packages import missing_source
from sparkstream_kit.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable

# Numbers of Linux system calls, the same on every architecture.
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438

# No room is left. An error of standard output, or of a file that is open, does not name
# the file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Errors of gRPC when the Connect server ends, between two calls or during one, and of a
# server that is ending.
_CUT_OFF = re.compile(
    r"StatusCode\.(UNAVAILABLE|CANCELLED)|error processing RPC|a stopped SparkContext"
)


def exit_codes(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Wrap a job's `main` so that it ends with the right exit code, and with one line if it failed.

    The exit codes are: 0 for a job that ended as asked, by a signal, too; 1 for a query
    that failed, or for more bad or late rows than allowed; 2 for wrong arguments, or a
    start that is refused; 3 for `--shadow` if something differs; 75 for what may pass,
    as a database that is away; 130 (SIGINT) and 143 (SIGTERM) for a second signal,
    which cuts a clean stop short. Any other error is a bug and keeps its stack trace.

    A signal before the run ends the job at once, because there is nothing to commit.
    With `--shadow` the exit code is then 130 or 143, because 0 says that all rows are
    equal. If the JVM of spark-submit received that signal, too, it sets the exit code
    itself, to 130 or 143. A second signal, more than a second after the first, ends the
    process at once.

    Args:
        main: a function of the list of arguments (None stands for those of the process)
            that returns the exit code.

    Returns:
        A function like `main`, whose argument may be left out.

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
        open_missing_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # The reader of a pipe gets each line at once
            sys.stdout.reconfigure(line_buffering=True)
        stop = _Stop(shutdown.job_begins())
        _quiet_logs()
        former = sys.unraisablehook
        sys.unraisablehook = stop.unraisable
        try:
            with (
                warnings.catch_warnings(),
                waiting.signals_to(stop.unwind, again=stop.leave),
            ):
                try:
                    _run(main, argv, stop)
                finally:
                    # Inside both `try` blocks, as the JVM may end here.
                    stop.job.end(stop.code)
        finally:
            sys.unraisablehook = former
            logging.disable(logging.NOTSET)
            _let_go_of_full_streams()
        atexit.register(_ignore_signals)
        return stop.code

    return wrapped


def _quiet_logs() -> None:
    """Log in plain lines, and not what libraries raise, too, if a connection is lost.

    This stays so after the job, as a JVM that was told to end may end later.
    """
    # The handler of a program that has not configured logging
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Plain())
    # py4j also logs on the root logger, which creates a root handler; that one would
    # write the messages of the py4j logger, too.
    logging.getLogger().addFilter(_not_of_py4j)
    for library in ("py4j", "psycopg"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def _let_go_of_full_streams() -> None:
    """Discard what cannot be written: Python's exit would try again, and end with code 120."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _ignore_signals() -> None:
    """Ignore signals during Python's exit, so that a late one does not change the exit code.

    Python removes its own signal handlers before the process has ended.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _not_of_py4j(record: logging.LogRecord) -> bool:
    """Leave out what py4j logs if the JVM has ended: that is raised as an error, too."""
    return "py4j" not in record.pathname


class _Plain(logging.Formatter):
    """Escapes control characters that log messages have from the input.

    The name of a file can have some, for example.
    """

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


class _Signalled(KeyboardInterrupt):
    """Raised by a signal outside of a run.

    It is a KeyboardInterrupt, because py4j handles that exception: it drops the
    connection whose answer has not been read.
    """


class _Stop:
    """Handles the signals of a job outside of its run, and keeps the job's exit code.

    Attributes:
        job: the job.
        name: the name of the signal that is ending the job, or None.
        code: the exit code of the job.
        over: whether `code` is final.
    """

    def __init__(self, job: shutdown.Job) -> None:
        self.job = job
        self.name: str | None = None
        self.code = 1  # unless `end` sets another one
        self.over = False

    def end(self, code: int) -> None:
        """Set the final exit code; from here on no signal changes it."""
        self.code = code
        self.over = True

    def unwind(self, name: str) -> None:
        """Raise `_Signalled` at the first signal, so that cleanup leaves no query behind.

        Cleanup code removes temporary folders, for example. If the job has run queries
        in a JVM of this process, the process ends at once instead.
        """
        if self.over:
            return
        if self.job.holds_jvm:
            # The queries end with the JVM. Unwinding would cut off a call into the JVM
            # and report that as an error.
            self.leave(name)
        # A call into the JVM may be cut off, or the JVM may have received the signal,
        # too: then errors about its lost connection are expected.
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        self.name = name
        raise _Signalled(name)

    def leave(self, name: str) -> NoReturn:
        """End the process at once, with the job's final exit code or the signal's."""
        if os.isatty(2):
            # Show the cursor again, which the live display hides
            os.write(2, b"\x1b[?25h")
        if self.over:
            os._exit(self.code)
        os._exit(128 + signal.Signals[name])

    def unraisable(self, unraisable: Any) -> None:
        """End the process if Python drops a signal's exception, as in a destructor."""
        if isinstance(unraisable.exc_value, _Signalled):
            self.leave(str(unraisable.exc_value))
        sys.__unraisablehook__(unraisable)


def _run(
    main: Callable[[list[str] | None], int], argv: list[str] | None, stop: _Stop
) -> None:
    """Run a job's `main`, and set the exit code in `stop`; an unknown error is raised."""
    try:
        try:
            code = _code_of(main, argv)
            sys.stdout.flush()
            stop.end(code)
        except Exception as err:
            # After a signal any error is its consequence: a call into the JVM was cut
            # off, or a query failed.
            if stop.name is not None:
                raise
            _end_with(err, stop)
    except BaseException as err:
        name = stop.name
        if name is None and isinstance(err, KeyboardInterrupt):
            name = "SIGINT"
        if name is None or isinstance(err, SystemExit):
            raise
        _end_by_signal(name, argv, stop)


def _end_by_signal(name: str, argv: list[str] | None, stop: _Stop) -> None:
    """Set the exit code of a job that a signal has ended; say so if it had not run yet."""
    # Of a comparison 0 says that all rows are equal
    compares = "--shadow" in (sys.argv if argv is None else argv)
    if stop.job.has_run or compares:
        stop.end(128 + signal.Signals[name])
    else:
        stop.end(0)
    if stop.job.has_run:
        return
    when = "it began to run"
    if compares:
        when = "the comparison was done; nothing was changed"
    _say(f"stopped by {name} before {when}")
    shutdown.end_start_of_session(stop.code)


class _Rehearsal:
    """The first run of a job's `main`, which becomes a dry run if the job continues checkpoints.

    `start` continues a query at once, and from then on its old checkpoint is refused.
    If a later query of the job were refused then, neither the old job nor the new one
    could run. So all queries are checked before.

    Attributes:
        is_one: whether the run is a dry run.
    """

    def __init__(self) -> None:
        self.is_one = False


_rehearsal: _Rehearsal | None = None  # None if no first run of a job's `main` runs


def rehearse(args: Any) -> None:
    """Make the first run of a job's `main` a dry run, if it is to continue checkpoints.

    `parse_args` of a job's parser calls it, so that the arguments are those that the
    job gets.

    Args:
        args: the parsed arguments. `dry_run` is set, and nothing else.
    """
    if _rehearsal is not None and _continues(args):
        _rehearsal.is_one = True
        args.dry_run = True
        logging.disable(logging.WARNING)  # the start that follows says the same


def _continues(args: Any) -> bool:
    """Return whether a job is asked to continue checkpoints and has not done so yet."""
    given = vars(args)
    old = given.get("continues")
    new = given.get("checkpoint")
    if old is None or new is None or given.get("dry_run") or given.get("shadow"):
        return False
    old_root = Path(plain(old) or old)
    new_root = Path(plain(new) or new)
    # One for each query of the job
    files = [*old_root.glob("metadata"), *old_root.glob("*/metadata")]
    copies = [new_root / file.relative_to(old_root) for file in files]
    return not all(copy.exists() for copy in copies)


def _code_of(main: Callable[[list[str] | None], int], argv: list[str] | None) -> int:
    """Run `main`, first as a dry run if it continues checkpoints; return its exit code.

    Raises:
        InvalidInputError: a query is refused in the dry run; nothing has been changed.
    """
    global _rehearsal  # noqa: PLW0603 - a process runs one job
    _rehearsal = first = _Rehearsal()
    try:
        code = main(argv)
    except errors.DryRun:
        if not first.is_one:
            raise
    finally:
        _rehearsal = None
    if not first.is_one:
        return code
    logging.disable(logging.NOTSET)
    return main(argv)


def _end_with(err: Exception, stop: _Stop) -> None:
    """Print a job's error on one line and set the exit code; raise a bug again."""
    if isinstance(err, BrokenPipeError) and _reader_is_gone():
        # The reader of the results has enough, as with `| head`.
        stop.end(0)
        return
    code_and_line = _code_and_line(err)
    if code_and_line is None:
        raise err
    code, line = code_and_line
    stop.end(code)
    if isinstance(err, errors.DryRun):
        # On standard output: the description of the dry run is the job's result. A run
        # would have another temporary folder.
        temporary = rf"{re.escape(tempfile.gettempdir())}/sparkstream-\w+"
        print(re.sub(temporary, "a temporary folder", line))
        return
    _say(printable(errors.without_secrets(line), lines=True))


def _code_and_line(err: Exception) -> tuple[int, str] | None:
    """Return the exit code and the line for an error of a job; None for a bug."""
    if isinstance(err, OSError) and err.filename is None and err.errno in _FULL:
        return 1, (
            f"standard output, or a file of the job, cannot be written: {err.strerror};"
            " make room"
        )
    if isinstance(err, errors.KitError):
        return err.exit_code, str(err)
    return _of_spark(err)


def say(text: str) -> None:
    """Write lines of a job to standard error; no job fails if that is not possible."""
    # Its disk is full, or the stream is closed
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"{text}\n")


def _say(line: str) -> None:
    """Say a line under the job's name."""
    say(f"{Path(sys.argv[0]).name}: {line}")


def _of_spark(err: Exception) -> tuple[int, str] | None:
    """Return exit code and line for an error of Spark or its JVM; None for another."""
    module = type(err).__module__
    is_of_connect = module == "pyspark.errors.exceptions.connect"
    if is_of_connect and _CUT_OFF.search(str(err)):
        return 1, (
            "the Spark Connect server ended before the job did, or can no longer be"
            " reached"
        )
    if module.startswith("pyspark.errors") or type(err).__name__ == "Py4JJavaError":
        from sparkstream_kit._internal.spark.logical_plan import wrong_event_time

        message = missing_source(err) or wrong_event_time(err)
        if message:
            return 2, message
        return 1, errors.innermost_cause(err)
    if shutdown.jvm_has_ended(err):
        return 1, f"the job was cut off: {shutdown.ENDED}"
    return None


def _reader_is_gone() -> bool:
    """Return whether standard output is a pipe whose reader has closed it."""
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))


def take_standard_streams() -> None:
    """Give Python the standard streams of the launch again, under spark-submit on Linux.

    spark-submit merges standard output and standard error into one pipe to the JVM,
    which prints it on its standard output. A caller could then not separate results
    from errors, and neither stream would be a terminal. If the process does not run
    under spark-submit on Linux, or Linux refuses access, the streams stay as they are.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ or not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    if Path(f"/proc/{parent}/comm").read_text("utf-8").strip() != "java":
        return
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if stream is None:
            continue
        stream.flush()
        taken = _stream_of(parent, number)
        if taken is not None:
            os.dup2(taken, number)
            os.close(taken)


def _stream_of(process: int, number: int) -> int | None:
    """Return a descriptor of another process's open stream; None if the system does not allow it.

    Args:
        process: the id of the process.
        number: the descriptor in that process: 1 for standard output, 2 for standard
            error.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Duplicate the open file itself: if it is a plain file, both processes then share
    # one write position.
    pidfd = libc.syscall(_PIDFD_OPEN, process, 0)
    taken: int = libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if pidfd >= 0:
        os.close(pidfd)
    if taken >= 0:
        return taken
    try:
        # pidfd_getfd needs the permission to ptrace. Without it, opening the file again
        # may still work.
        return os.open(f"/proc/{process}/fd/{number}", os.O_WRONLY | os.O_APPEND)
    except OSError:
        return None
