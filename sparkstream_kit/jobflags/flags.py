"""The flags that jobs share, each with the same meaning in every job that has it."""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from sparkstream_kit.errors import InvalidInputError, KitError, hint
from sparkstream_kit.jobflags.values import (
    checkpoint_folder,
    interval,
    percent,
    profile,
    seconds,
    state_store,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from sparkstream_kit.queries.summary import RunSummary

__all__ = ["check_bad_rows", "check_needs", "label", "parser", "trigger"]

_SHARED: dict[str, dict[str, Any]] = {
    "--profile": {
        "metavar": "NAME",
        "type": profile,
        "help": "Settings profile: local, test, cluster or a path. Default: chosen from the master.",
    },
    "--checkpoint": {
        "metavar": "DIR",
        "type": checkpoint_folder,
        "help": "Keep progress in this folder and resume from it. Default: a temporary folder.",
    },
    "--run-for": {
        "metavar": "SECONDS",
        "type": seconds,
        "help": "Stop cleanly after this many seconds. Default: run until stopped.",
    },
    "--idle": {
        "metavar": "SECONDS",
        "type": seconds,
        "help": "Stop after this many seconds without a row. Default: never.",
    },
    "--available-now": {"action": "store_true", "help": "Read the input that is there, then end."},
    "--trigger": {
        "metavar": "INTERVAL",
        "type": interval,
        "help": 'Time from one batch to the next, such as "5 seconds". Default: no wait.',
    },
    "--state-store": {
        "metavar": "NAME",
        "type": state_store,
        "help": "memory, or rocksdb for state larger than memory. Default: what the profile says.",
    },
    "--header": {
        "action": "store_true",
        "help": "The files have headers: leave out each line that holds the column names in their order.",
    },
    "--max-bad": {
        "metavar": "PERCENT",
        "type": percent,
        "help": "At the end, fail with exit code 1 if more of the run's lines are bad, such as 1%%. "
        "Default: never.",
    },
    "--stop-file": {"metavar": "PATH", "help": "Stop cleanly when a file appears at this path."},
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


def label(made: argparse.ArgumentParser, args: argparse.Namespace, flag: str) -> str:
    """Return a flag as a message names it, so that one that was not given says so.

    Example:
        >>> made = parser("A job.", "--idle")
        >>> label(made, made.parse_args([]), "--idle")
        'the default --idle'
        >>> label(made, made.parse_args(["--idle", "5"]), "--idle")
        '--idle'
    """
    name = _name(flag)
    return f"the default {flag}" if getattr(args, name) == made.get_default(name) else flag


def check_needs(args: argparse.Namespace, flag: str, needed: str) -> None:
    """Refuse a flag that does nothing without another.

    Raises:
        InvalidInputError: `flag` is given and `needed` is not.

    Example:
        >>> check_needs(argparse.Namespace(take_over=True, database=None), "--take-over", "--database")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: --take-over does nothing without --database; give both, ...
    """
    if getattr(args, _name(flag)) and not getattr(args, _name(needed)):
        raise InvalidInputError(f"{flag} does nothing without {needed}; give both, or neither")


def _name(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


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


def check_bad_rows(summary: RunSummary, max_bad: Decimal | None) -> None:
    """Say at the end of a job if no line could be read, or raise if more were bad than `--max-bad` allows.

    Args:
        summary: of the job's run.
        max_bad: the percentage that `--max-bad` gives, or None.

    Raises:
        KitError: more of the run's lines are bad; a job ends with exit code 1.
    """
    lines = sum(query.parsed_rows or 0 for query in summary.queries)
    bad = sum(query.bad_rows or 0 for query in summary.queries)
    if max_bad is not None and bad * 100 > max_bad * lines:
        raise KitError(f"bad lines: {bad:,} of {lines:,} ({_share(bad, lines)}); --max-bad is {max_bad}%")
    if lines and bad == lines:
        sys.stderr.write("no line could be read: is this the right folder?\n")


def _share(part: int, whole: int) -> str:
    percentage = part * 100 / whole
    return f"{percentage:.1f}%" if percentage >= 1 else f"{percentage:.2g}%"
