"""From the command line to arguments: the parser of a job, and checks across its flags."""

from __future__ import annotations

import itertools
import math
import re
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sparkstream_kit._internal.file_system import matching, plain, spelt
from sparkstream_kit._internal.stopping.exits import rehearse
from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown
from sparkstream_kit.jobflags import groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def parser(
    doc: str | None,
    *flags: str,
    without: Iterable[str] = (),
    table: str = "result",
    **defaults: Any,
) -> ArgumentParser:
    """Make an argument parser with the named shared flags; a job adds arguments of its own to it.

    Args:
        doc: the docstring of the job, which becomes the text of `--help`.
        *flags: the shared flags that the job supports, such as "INPUT_DIR", "--run-for"
            or `*RUN`.
        without: those of these flags that the job does not have, such as
            "--checkpoint" of `*RUN`.
        table: the name of the table that `--database` writes.
        **defaults: defaults that differ from the shared ones, such as
            `max_files_per_trigger=1`.

    Raises:
        InvalidInputError: a name of `without` is none of the flags.

    Returns:
        An `argparse.ArgumentParser`. Where the standard one would exit with a usage
        error, its `parse_args` raises `InvalidInputError`, also for flags that do not
        go together.

    Examples:
        >>> parser("A job.", "--run-for").parse_args(["--run-for", "60"]).run_for
        60.0
        >>> parser("A job.", "--run-for").parse_args(["--run-fr", "60"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown argument --run-fr; did you mean --run-for?
    """
    left_out = list(without)
    reject_unknown("flag of without", left_out, flags)
    shared = [flag for flag in flags if flag not in left_out]
    job_parser = _Parser(
        description=doc, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )
    job_parser.shared = shared
    # The group of each flag in the help; a flag of two groups is in the last one
    group_of: dict[str, Any] = {}
    keywords_of: dict[str, dict[str, Any]] = {}
    for title, group_flags in groups.TITLES.items():
        group = job_parser.add_argument_group(title)
        for flag, keywords in group_flags.items():
            group_of[flag] = group
            keywords_of[flag] = keywords
    for flag in shared:
        keywords = dict(keywords_of[flag])  # a copy, as the group is shared
        says = keywords["help"].replace("TABLE", table)
        if flag == "--checkpoint" and "OUT_DIR" in shared:
            says = says.replace("a temporary folder", "OUT_DIR/_checkpoint")
        if flag in ("--kafka", "--topic") and "INPUT_DIR" not in shared:
            says = says.replace(", in place of INPUT_DIR", "")
            keywords["required"] = True
        keywords["help"] = says
        name = flag
        if not flag.startswith("--"):
            name = _name(flag)
        group_of[flag].add_argument(name, **keywords)
    job_parser.set_defaults(table=table, **defaults)
    return job_parser


class _Parser(ArgumentParser):
    """The parser that `parser` returns; `shared` holds the names of its shared flags."""

    shared: Sequence[str] = ()

    def format_help(self) -> str:
        """Return the help, whose usage shows what the job requires, and not each of its flags."""
        words: list[str] = []
        for action in self._actions:
            if action.required:
                words += [*action.option_strings, str(action.metavar)]
        usage = " ".join([*words, "[FLAGS]"])
        others = [groups.INSTEAD[flag] for flag in self._inputs()]
        if others:
            one_of = " | ".join(["INPUT_DIR", *others])
            usage = usage.replace("INPUT_DIR", f"({one_of})")
        self.usage = f"%(prog)s {usage}"
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        if "required: INPUT_DIR" in message:
            inputs = " or ".join(["INPUT_DIR", *self._inputs()])
            message = message.replace("INPUT_DIR", inputs, 1)
        if not message.endswith("?"):
            message = f"{message}; see --help"
        raise InvalidInputError(message)

    def _inputs(self) -> list[str]:
        """Return the flags of the job that replace INPUT_DIR."""
        return [flag for flag in groups.INSTEAD if flag in self.shared]

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(args) if args is not None else sys.argv[1:]
        self._refuse_unknown(words)
        names = {word.partition("=")[0] for word in words}
        instead = [flag for flag in self._inputs() if flag in names]
        for action in self._actions:
            if action.dest == "input_dir":
                # With SUPPRESS the argument takes no value
                action.nargs = SUPPRESS if instead else None
        parsed, rest = self.parse_known_args(words, namespace)
        if rest:
            is_folder = "INPUT_DIR" in self.shared and not rest[0].startswith("-")
            if instead and is_folder:
                self.error(
                    f"{instead[0]} is in place of INPUT_DIR: leave out one of them"
                )
            self.error(f"unknown argument {rest[0]}")
        if "OUT_DIR" in self.shared:
            parsed.out_dir = parsed.out_dir.rstrip("/") or parsed.out_dir
            if getattr(parsed, "checkpoint", None) is None:
                parsed.checkpoint = f"{parsed.out_dir}/_checkpoint"
        values: dict[str, Any] = {}
        # A job may have a --checkpoint in a form of its own
        for flag in (*self.shared, "--checkpoint"):
            if hasattr(parsed, _name(flag)):
                values[flag] = getattr(parsed, _name(flag))
        _check(values)
        rehearse(parsed)
        return parsed

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        """Refuse an unknown flag before argparse reads the words.

        Argparse would read the value of a misspelt flag as a positional argument.
        """
        own_flags = [flag for action in self._actions for flag in action.option_strings]
        for word in itertools.takewhile(lambda word: word != "--", words):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in own_flags:
                self.error(f"unknown argument {name}{hint(name, own_flags)}")


def _check(flags: Mapping[str, Any]) -> None:
    """Refuse flags that do not go together, and outputs in the input folder."""
    for flag, other in groups.NEEDS:
        if flags.get(flag) and not flags.get(other):
            raise InvalidInputError(
                f"{flag} does nothing without {other}; give both, or neither"
            )
    for one, other in groups.EXCLUDES:
        if flags.get(one) and flags.get(other):
            raise InvalidInputError(
                f"{one} and {other} exclude each other; give one of them"
            )
    if flags.get("--url") and flags.get("--checkpoint") and not flags.get("--spool"):
        raise InvalidInputError(
            "--url with --checkpoint needs --spool, a folder that a restart finds"
            " again; give it"
        )
    for place in ("INPUT_DIR", "--spool"):
        if place in flags:
            check_apart(flags[place], {flag: flags.get(flag) for flag in groups.WRITES})


def _name(flag: str) -> str:
    """Return the attribute of the parsed arguments that holds the value of a flag."""
    return flag.removeprefix("--").replace("-", "_").lower()


def check_apart(
    input_dir: str | None, outputs: Mapping[str, str | Path | None]
) -> None:
    """Check that no output is in the input folder, where the job would read its own files.

    The parser checks the shared flags. A job calls this function for outputs of its
    own.

    Args:
        input_dir: the folder that the job reads, or a pattern for folders; None if it
            reads from elsewhere.
        outputs: the path of each output by the name of its argument, such as "OUT_DIR";
            None for an output that was not given. A URL of SQLite counts as the path of
            its file.

    Raises:
        InvalidInputError: an output is the input folder or directly in it.

    Examples:
        >>> check_apart("in", {"--snapshot": "in/out.csv"})
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: --snapshot in/out.csv lies in the input folder ...
    """
    if input_dir is None:
        return
    folder = plain(input_dir)
    if folder is None:
        return
    inputs = {Path(path).resolve() for path in [folder, *matching(folder)]}
    # Which may match a folder that is created later
    pattern = str(Path(folder).absolute())
    for name, path in outputs.items():
        if not path:
            continue
        target = Path(spelt(re.sub("^sqlite:///", "", str(path))))
        is_read = target in inputs or target.match(pattern)
        lies_inside = target.parent in inputs or target.parent.match(pattern)
        if is_read or lies_inside:
            lies = "is" if target in inputs else "lies in"
            raise InvalidInputError(
                f"{name} {path} {lies} the input folder {input_dir}, and would be read;"
                " put it elsewhere"
            )


def check_multiple(
    made: ArgumentParser, args: Namespace, flag: str, of_flag: str
) -> None:
    """Check that a time is a multiple of another; the error names the nearest multiples.

    Args:
        made: the parser of the job, which knows the defaults.
        args: the parsed arguments of the job.
        flag: the flag with the time in seconds that must be a multiple, such as
            "--window".
        of_flag: the flag with the other time in seconds, such as "--batch-interval".

    Raises:
        InvalidInputError: the first time is not a multiple of the other, rounded to
            milliseconds, or the other time is less than a millisecond.

    Examples:
        In a session::

            args = parser.parse_args(["--window", "10", "--slide", "5"])
            jobflags.check_multiple(parser, args, "--window", "--slide")
    """
    value = getattr(args, _name(flag))
    unit = getattr(args, _name(of_flag))
    if round(unit * 1000) == 0:
        raise InvalidInputError(
            f"{of_flag} {unit:g} is less than a millisecond; use 0.001 or more"
        )
    if round(value * 1000) % round(unit * 1000) == 0:
        return
    below = math.floor(value / unit)
    near = f"{(below + 1) * unit:g}"
    if below:
        near = f"{below * unit:g} or {near}"
    raise InvalidInputError(
        f"{_said(made, args, flag)} {value:g} is not a multiple of"
        f" {_said(made, args, of_flag)} {unit:g}; use {near}"
    )


def _said(made: ArgumentParser, args: Namespace, flag: str) -> str:
    """Name a flag for a message, which says if its value is the default."""
    if getattr(args, _name(flag)) == made.get_default(_name(flag)):
        return f"the default {flag}"
    return flag
