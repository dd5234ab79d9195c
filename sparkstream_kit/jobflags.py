"""What jobs share on the command line: flags, exit codes, one-line errors, and their own standard streams.

Standard library only, so that a job's arguments are checked before pyspark is imported.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import io
import itertools
import math
import os
import re
import select
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sparkstream_kit import _causes
from sparkstream_kit.errors import InvalidInputError, KitError, check_file, hint
from sparkstream_kit.profiles import read_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "check_multiple",
    "checkpoint_folder",
    "existing_folder",
    "exit_codes",
    "interval",
    "output_file",
    "parser",
    "port",
    "positive_int",
    "profile",
    "seconds",
    "take_standard_streams",
    "trigger",
]

_LAST_PORT = 65535
# System calls of Linux, by the same numbers on every architecture.
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438


def seconds(text: str) -> float:
    """Read a positive number of seconds.

    Example:
        >>> seconds("1.5")
        1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds, such as 60 or 0.5")
    return value


def positive_int(text: str) -> int:
    """Read a whole number from 1.

    Example:
        >>> positive_int("3")
        3
    """
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def port(text: str) -> int:
    """Read a TCP port, 1 to 65535.

    Example:
        >>> port("9999")
        9999
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to {_LAST_PORT}")
    return int(text)


def existing_folder(text: str) -> str:
    """Read the path of a folder; a local one must exist, one with a scheme (s3a://…) is left to Spark.

    Example:
        >>> existing_folder("s3a://bucket/sales")
        's3a://bucket/sales'
    """
    if "://" not in text and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"folder {text} does not exist; create it or correct the path")
    return text


def checkpoint_folder(text: str) -> str:
    """Read the path of a checkpoint: a folder, or nothing yet.

    Example:
        >>> checkpoint_folder("ckpt/totals")
        'ckpt/totals'
    """
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"checkpoint {text} is a file; give a folder")
    return text


def interval(text: str) -> str:
    """Read an interval between batches, such as "5 seconds".

    Example:
        >>> interval("500 milliseconds")
        '500 milliseconds'
    """
    if not re.fullmatch(r"\s*\d+ *(milliseconds?|seconds?|minutes?|hours?)\s*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval, such as '5 seconds' or '1 minute'")
    return text


def profile(text: str) -> str:
    """Read the name of a profile, or the path of one, and see that it can be read.

    Example:
        >>> profile("local")
        'local'
    """
    try:
        read_profile(text)
    except InvalidInputError as err:
        raise argparse.ArgumentTypeError(str(err)) from err
    return text


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a reader of the path of a file to write, with one of these endings, in a folder that exists.

    Example:
        >>> output_file(".csv", ".json")("totals.csv").name
        'totals.csv'
    """

    def read(text: str) -> Path:
        try:
            return check_file("file", text, *suffixes)
        except InvalidInputError as err:
            raise argparse.ArgumentTypeError(str(err)) from err

    return read


_SHARED: dict[str, dict[str, Any]] = {
    "--profile": {
        "metavar": "NAME",
        "type": profile,
        "help": "settings: local, test, cluster or a file (by the master)",
    },
    "--checkpoint": {
        "metavar": "DIR",
        "type": checkpoint_folder,
        "help": "go on from this folder (a temporary one, removed at the end)",
    },
    "--run-for": {"metavar": "SECONDS", "type": seconds, "help": "stop cleanly after so long (never)"},
    "--idle": {"metavar": "SECONDS", "type": seconds, "help": "stop after so long without a row (never)"},
    "--available-now": {"action": "store_true", "help": "read what is there, then end"},
    "--trigger": {
        "metavar": "INTERVAL",
        "type": interval,
        "help": 'start a batch every so often, such as "5 seconds" (at once)',
    },
    "--stop-file": {"metavar": "PATH", "help": "stop cleanly when a file appears here"},
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}; see --help")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        flags = [flag for action in self._actions for flag in action.option_strings]
        # First, for argparse would take the value of a misspelt flag as one of the job's arguments.
        for name in [
            word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", given)
        ]:
            if name.startswith("--") and name not in flags:
                raise InvalidInputError(f"unknown argument {name}{hint(name, flags)}; see --help")
        known, rest = self.parse_known_args(given, namespace)
        if rest:
            raise InvalidInputError(f"unknown argument {rest[0]}; see --help")
        return known


def parser(doc: str | None, *flags: str) -> argparse.ArgumentParser:
    """Return an argument parser with the named shared flags; a job adds its own arguments to it.

    Args:
        doc: the job's docstring, which becomes the text of `--help`.
        *flags: which of the shared flags the job can honour, such as "--run-for".

    Returns:
        An `argparse.ArgumentParser` that raises `InvalidInputError` where the usual one would exit.

    Example:
        >>> parser("A job.", "--run-for").parse_args(["--run-for", "60"]).run_for
        60.0
        >>> parser("A job.", "--run-for").parse_args(["--run-fro", "60"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown argument --run-fro; did you mean --run-for?; ...
    """
    made = _Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    for flag in flags:
        made.add_argument(flag, **_SHARED[flag])
    return made


def trigger(args: argparse.Namespace) -> dict[str, Any]:
    """Return the trigger that `--available-now` and `--trigger` ask for, as keywords of `start`.

    Raises:
        InvalidInputError: both are given.

    Example:
        >>> trigger(argparse.Namespace(available_now=False, trigger="5 seconds"))
        {'processingTime': '5 seconds'}
    """
    available_now = getattr(args, "available_now", False)
    if available_now and args.trigger:
        raise InvalidInputError("--available-now and --trigger exclude each other; give one of them")
    if available_now:
        return {"availableNow": True}
    return {"processingTime": args.trigger} if args.trigger else {}


def check_multiple(flag: str, value: float, of_flag: str, of: float) -> None:
    """Refuse a time that is not a whole multiple of another, and name the nearest that are.

    Raises:
        InvalidInputError: `value` is not a multiple of `of`, to the millisecond, or `of` is less than one.

    Example:
        >>> check_multiple("--window", 25, "--batch-interval", 2)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: --window 25 is not a multiple of --batch-interval 2; use ...
    """
    if round(of * 1000) == 0:
        raise InvalidInputError(f"{of_flag} {of:g} is less than a millisecond; use 0.001 or more")
    number = value / of
    if round(value * 1000) % round(of * 1000):
        near = " or ".join(f"{math.floor(number + up) * of:g}" for up in (0, 1) if math.floor(number + up))
        raise InvalidInputError(f"{flag} {value:g} is not a multiple of {of_flag} {of:g}; use {near}")


def exit_codes(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap a job's `main`: its own standard streams, one line for an error, and the exit code.

    0 ended as asked; 1 a query failed; 2 wrong arguments or input that cannot be had; 130 and 143 a signal
    whose clean stop did not succeed. An error that is not the user's keeps its stack trace: it is a bug.

    Args:
        main: takes the arguments (None: those of the process) and returns the exit code.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        take_standard_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # a result in a pipe is seen when it is there
        try:
            code = main(argv)
            sys.stdout.flush()
        except KitError as err:
            print(f"{Path(sys.argv[0]).name}: {err}", file=sys.stderr)
            return err.exit_code
        except KeyboardInterrupt:
            return 130
        except Exception as err:
            if isinstance(err, BrokenPipeError) and _reader_is_gone():
                # As with `head`: nothing more to say, and nowhere to say it.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                return 0
            cause = _cause_in_spark(err)
            if cause is None:
                raise
            print(f"{Path(sys.argv[0]).name}: {cause}", file=sys.stderr)
            return 1
        else:
            return code

    return wrapped


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
