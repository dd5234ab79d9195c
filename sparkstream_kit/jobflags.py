"""Extra: the command line of jobs: shared flags, and what they ask of Spark.

`parser` makes the argument parser of a job. The job names the flags that it supports,
one by one or as a group: `*INPUT`, `*LINES`, `*POSTS`, `*SERVER`, `*OUTPUT`, `*FOLDER`,
`*EVENT_TIME`, `*RUN` (which includes `*SHOW`), `*SHOW`. `lines` turns the input flags
into a stream, and `outputs` turns the output flags into sinks. `for_session`,
`for_start` and `for_run` turn flags into keywords of the functions that their names end
in. `finish` prints the summary and checks the limits for bad and late rows, and
`exit_codes` turns the errors of a job into exit codes.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import sys
import tempfile
from argparse import (
    SUPPRESS,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sparkstream_kit._internal.durations import delay_of, not_negative
from sparkstream_kit._internal.file_system import matching, plain, spelt
from sparkstream_kit._internal.stopping.exits import (
    exit_codes,
    rehearse,
    say,
    take_standard_streams,
)
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    count,
    hint,
    without_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.progress import RunSummary
    from sparkstream_kit.sinks import Sink

__all__ = [
    "EVENT_TIME",
    "FOLDER",
    "INPUT",
    "LINES",
    "OUTPUT",
    "POSTS",
    "RUN",
    "SERVER",
    "SHOW",
    "check_apart",
    "check_bad_rows",
    "check_late_rows",
    "check_multiple",
    "checkpoint_folder",
    "database",
    "existing_folder",
    "exit_codes",
    "finish",
    "for_run",
    "for_session",
    "for_start",
    "lines",
    "outputs",
    "parser",
    "seconds",
    "take_standard_streams",
]


# If one of these variables is set, Spark may look for a path on another machine or file
# system.
_ELSEWHERE = (
    "HADOOP_CONF_DIR",
    "YARN_CONF_DIR",
    "PYSPARK_GATEWAY_PORT",
    "SPARK_REMOTE",
)


def seconds(text: str) -> float:
    """Parse the value of a flag as a positive number of seconds; for `type=` of argparse.

    Raises:
        ArgumentTypeError: the text is not such a number.

    Examples:
        >>> seconds("1.5")
        1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(
            f"{text!r} is not a positive number of seconds, such as 60 or 0.5"
        )
    return value


def _positive_int(text: str, most: int | None = None) -> int:
    """Parse a whole number, 1 or more, and at most `most`.

    Examples:
        >>> _positive_int("3")
        3
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= (most or int(text))):
        raise ArgumentTypeError(
            f"{text!r} is not a whole number from 1{f' to {most}' if most else ''}"
        )
    return int(text)


_LAST_PORT = 65535
_port = partial(_positive_int, most=_LAST_PORT)


def _number_of_files(text: str) -> int | None:
    """Parse a whole number, 1 or more, or "all", which becomes None."""
    return None if text == "all" else _positive_int(text)


def _percent(text: str) -> Decimal:
    """Parse a percentage from 0% to 100%.

    Examples:
        >>> _percent("0.5%")
        Decimal('0.5')
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text, re.ASCII) or Decimal(text[:-1]) > 100:  # noqa: PLR2004 - all
        raise ArgumentTypeError(
            f"{text!r} is not a percentage from 0% to 100%, such as 1% or 0.5%"
        )
    return Decimal(text[:-1])


def _host(text: str) -> str:
    """Parse the name or address of a machine; reject a number, which is most likely a port.

    Examples:
        >>> _host("localhost")
        'localhost'
    """
    if text.isdigit():
        raise ArgumentTypeError(
            f"{text} is a number, perhaps a port; give the host and then the port"
        )
    return text


def _by(read: Callable[[str], object]) -> Callable[[str], str]:
    """Return a `type=` for argparse: `read` checks the text, which stays as it is."""

    def reader(text: str) -> str:
        try:
            read(text)
        except InvalidInputError as err:
            raise ArgumentTypeError(str(err)) from err
        return text

    return reader


def _servers(text: str) -> str:
    """Parse the addresses of servers as host:port, separated by commas.

    Examples:
        >>> _servers("localhost:9092,other:9092")
        'localhost:9092,other:9092'
    """
    for each in text.split(","):
        name, _, number = each.strip().rpartition(":")
        if (
            not name
            or not number.isascii()
            or not number.isdigit()
            or int(number) > _LAST_PORT
        ):
            raise ArgumentTypeError(
                f"{each.strip()!r} is not host:port, such as localhost:9092"
            )
    return text


@_by
def _url(text: str) -> None:
    from sparkstream_kit.connectors.posts.wire import TOKEN, Token, check_url

    check_url(text, Token.from_environment(TOKEN))


_interval = _by(partial(not_negative, "the interval"))
_delay = _by(partial(delay_of, "the delay"))


def existing_folder(text: str) -> str:
    """Parse the path of an input folder, or a pattern for folders; a local folder must exist.

    The check is left to Spark for a path of another file system, and where Spark may
    look for the path on another machine or file system: on a Connect server
    (SPARK_REMOTE), and with a Hadoop configuration. Under spark-submit it is left to
    Spark, too, because the JVM runs already and Spark's own error comes as fast.

    Raises:
        ArgumentTypeError: the path is a file, or there is no such folder.

    Examples:
        >>> existing_folder("s3a://bucket/sales")
        's3a://bucket/sales'
    """
    local = plain(text)
    if local is None or any(name in os.environ for name in _ELSEWHERE):
        return text
    if Path(local).is_file():
        raise ArgumentTypeError(f"{text} is a file; give the folder that it is in")
    # A pattern may match folders that are created later.
    if not Path(local).is_dir() and not set(local) & set("*?[]{}\\"):
        raise ArgumentTypeError(
            f"folder {text} does not exist; create it or correct the path"
        )
    return text


def checkpoint_folder(text: str) -> str:
    """Parse the path of a checkpoint: a folder, which need not exist yet.

    Raises:
        ArgumentTypeError: the path is a file.

    Examples:
        >>> checkpoint_folder("ckpt/totals")
        'ckpt/totals'
    """
    local = plain(text)
    if local is not None and Path(local).exists() and not Path(local).is_dir():
        raise ArgumentTypeError(f"checkpoint {text} is a file; give a folder")
    return text


def database(text: str) -> str:
    """Parse the URL of a database or of alerts; env:NAME reads it from the environment.

    A password in the URL on the command line is rejected, because every user of the
    machine can see a command line, and Spark's web UI shows it. `sinks.sql_table`
    checks the URL itself.

    Raises:
        ArgumentTypeError: the variable is not set, or the URL on the command line has a
            password.

    Examples:
        >>> database("sqlite:///totals.db")
        'sqlite:///totals.db'
    """
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        url = os.environ.get(name, "")
        if not url:
            raise ArgumentTypeError(
                f"the environment variable {name} is not set; put the URL there"
            )
        return url
    if without_secrets(text) != text:
        raise ArgumentTypeError(
            "others can see a password on the command line; put the URL into an"
            " environment variable and give env:NAME, or, for a database, set"
            " PGPASSWORD or ~/.pgpass"
        )
    return text


def _value(
    metavar: str, read: Callable[[str], Any], says: str, **more: Any
) -> dict[str, Any]:
    """Describe an argument with a value, as keywords of `add_argument`."""
    return {"metavar": metavar, "type": read, "help": says, **more}


def _switch(says: str) -> dict[str, Any]:
    """Describe a flag without a value, as keywords of `add_argument`."""
    return {"action": "store_true", "help": says}


# Input of text lines, from files or from a Kafka topic; `lines` makes the stream.
LINES = {
    "INPUT_DIR": _value(
        "INPUT_DIR", existing_folder, "The input folder, or a pattern for folders."
    ),
    "--max-files-per-trigger": _value(
        "N",
        _number_of_files,
        "The most files that one batch reads, or all; with more, a backlog is read"
        " several times faster. Default: %(default)s.",
        default="all",
    ),
    "--kafka": _value(
        "SERVERS",
        _servers,
        "Read the lines from Kafka, one in each record, in place of INPUT_DIR. SERVERS"
        " is host:port, or several with commas between them. Needs --topic.",
    ),
    "--topic": _value(
        "TOPIC",
        str,
        "The topic to read with --kafka; without a checkpoint, from its beginning.",
    ),
    "--max-offsets-per-trigger": _value(
        "N",
        _positive_int,
        "With --kafka, the most records that one batch reads. Default: all that are"
        " there.",
    ),
}

# Input of posts over HTTP, in place of files or Kafka.
POSTS = {
    "--url": _value(
        "URL",
        _url,
        "Read posts from this stream of X, of Mastodon or of a server like them, in"
        " place of INPUT_DIR. A token is taken from the environment variable"
        " POSTS_TOKEN.",
    ),
    "--spool": _value(
        "DIR",
        str,
        "With --url, keep the posts in this folder, from which they are read. Default:"
        " a temporary folder.",
    ),
}

# LINES, for jobs whose files may have header lines and bad lines.
INPUT = {
    **LINES,
    "--header": _switch(
        "The files have headers: the first line of each file gives no row."
    ),
    "--max-bad": _value(
        "PERCENT",
        _percent,
        "At the end, fail with exit code 1 if more than this share of the lines is bad,"
        " such as 1%%. Default: never.",
    ),
}

# Input of lines from a TCP server.
SERVER = {
    "HOST": _value(
        "HOST",
        _host,
        "The server's name. Default: %(default)s.",
        nargs="?",
        default="localhost",
    ),
    "PORT": _value(
        "PORT",
        _port,
        "The server's port. Default: %(default)s.",
        nargs="?",
        default=9999,
    ),
}

# Output of the result; `outputs` makes the sinks of `--snapshot` and `--database`.
OUTPUT = {
    "--format": {
        "choices": ["table", "csv", "json"],
        "default": "table",
        "help": "Format of the result on standard output. Default: %(default)s.",
    },
    "--snapshot": _value(
        "FILE",
        str,
        "Write the result to this .csv or .json file, replaced whole after each batch.",
    ),
    "--database": _value(
        "URL",
        database,
        "Keep the result in the table TABLE of this database. URL is"
        " sqlite:///results.db, postgresql+psycopg://user@host/name (password in"
        " PGPASSWORD or ~/.pgpass), mariadb+pymysql://user@host/name, or env:NAME to"
        " read it, with its password, from the environment variable NAME.",
    ),
}

# A folder for all output of the job, with its checkpoint in OUT_DIR/_checkpoint.
FOLDER = {
    "OUT_DIR": _value(
        "OUT_DIR", str, "A folder that only this job writes to, local or on hdfs://."
    )
}

# The watermark delay, the limit for late rows, and the last windows at the end of the
# input.
EVENT_TIME = {
    "--watermark": _value(
        "DELAY",
        _delay,
        'How much later than newer rows a row may come, in event time, such as "10'
        ' minutes". Default: %(default)s.',
        default="10 minutes",
    ),
    "--max-late": _value(
        "PERCENT",
        _percent,
        "At the end, fail with exit code 1 if more than this share of the rows came too"
        " late, such as 1%%. Where only bounds of the number of late rows are known,"
        " the least number counts. Default: never.",
    ),
    "--drain": _switch(
        "At the end of the input, write what still waits for the watermark, such as"
        " open windows. The checkpoint takes no more rows then."
    ),
}

# Views of the run and its summary, for every job that calls `run`.
SHOW = {
    "--show": _switch(
        "Show on standard error what the queries do: rows a second, the time of their"
        " batches, and what is wrong. In a terminal as a picture in place (needs the"
        " extra cli), elsewhere as lines."
    ),
    "--record": _value(
        "FILE",
        str,
        "Append each batch to this file, as a line of JSON; sparkstream watch FILE"
        " shows it.",
    ),
    "--summary-json": _value(
        "FILE",
        str,
        "At the end, append the summary to this file, as a line of JSON, also after a"
        " failure.",
    ),
    "--alert-url": _value(
        "URL",
        database,
        "Post each problem to this URL, as JSON; env:NAME takes it from the"
        " environment.",
    ),
    "--ui": _value(
        "PORT",
        _port,
        "Show the run on a web page. Default: a free port.",
        nargs="?",
        const=0,
    ),
    "--metrics": _value(
        "HOST:PORT", _servers, "Serve Prometheus metrics to all who reach this address."
    ),
}

# Settings, checkpoint and trigger of the query, and what ends the run.
RUN = {
    "--profile": _value(
        "NAME",
        str,
        "Settings: local, test, cluster or a file. Default: local on one machine, else"
        " cluster.",
    ),
    "--checkpoint": _value(
        "DIR",
        checkpoint_folder,
        "Keep progress in this folder and resume from it. Default: a temporary folder.",
    ),
    "--trigger": _value(
        "INTERVAL",
        _interval,
        'Time from one batch to the next, such as "5 seconds". Default: no wait.',
    ),
    "--available-now": _switch("Read the input that is there, then end."),
    "--run-for": _value(
        "SECONDS",
        seconds,
        "Stop cleanly after this many seconds. Default: run until stopped.",
    ),
    "--idle": _value(
        "SECONDS",
        seconds,
        "Stop after this many seconds without a row. Default: never.",
    ),
    "--stop-file": _value(
        "PATH", str, "Stop cleanly when a file appears at this path."
    ),
    "--dry-run": _switch(
        "Check everything, print what would run, and end; nothing is read or written."
    ),
    "--shadow": _switch(
        "Run this job over what the query of --checkpoint has read, compare the rows"
        " with those that it has written, print what differs, and end with exit code 3"
        " if any does; nothing is written."
    ),
    "--continues": _value(
        "DIR",
        str,
        "For a changed job: continue from this old checkpoint, on the new one of"
        " --checkpoint.",
    ),
    **SHOW,
}


# The groups of flags in --help; a flag of two groups is shown in the last one.
_GROUPS = {
    "input": INPUT | POSTS | SERVER,
    "output": FOLDER | OUTPUT,
    "run": EVENT_TIME | RUN,
    "look": SHOW,
}
# Flags that replace INPUT_DIR, as the usage shows them.
_INSTEAD = {"--kafka": "--kafka SERVERS --topic TOPIC", "--url": "--url URL"}

_NEEDS = (  # pairs in which the first flag does nothing without the second
    ("--shadow", "--checkpoint"),
    ("--continues", "--checkpoint"),
    ("--drain", "--available-now"),
    ("--kafka", "--topic"),
    ("--topic", "--kafka"),
    ("--max-offsets-per-trigger", "--kafka"),
    ("--spool", "--url"),
)
_EXCLUDES = (  # pairs of flags that cannot be used together
    ("--available-now", "--trigger"),
    # A stream of posts has no end that a job could read up to
    ("--available-now", "--url"),
    ("--kafka", "--url"),
)

# Flags whose file or folder must not be in the input folder, where the job would read
# it as input.
_WRITES = (
    "OUT_DIR",
    "--checkpoint",
    "--snapshot",
    "--database",
    "--stop-file",
    "--record",
    "--summary-json",
)


# --- from the command line to arguments


def parser(
    doc: str | None, *flags: str, table: str = "result", **defaults: Any
) -> ArgumentParser:
    """Make an argument parser with the named shared flags; a job adds arguments of its own to it.

    Args:
        doc: the docstring of the job, which becomes the text of `--help`.
        *flags: the shared flags that the job supports, such as "INPUT_DIR", "--run-for"
            or `*RUN`.
        table: the name of the table that `--database` writes.
        **defaults: defaults that differ from the shared ones, such as
            `max_files_per_trigger=1`.

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
    made = _Parser(
        description=doc, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.shared = flags
    known: dict[str, tuple[Any, Any]] = {}
    for title, those in _GROUPS.items():
        group = made.add_argument_group(title)
        known |= {flag: (group, how) for flag, how in those.items()}
    for flag in flags:
        group, how = known[flag]
        says = how["help"].replace("TABLE", table)
        how = {**how, "help": says}
        if flag == "--checkpoint" and "OUT_DIR" in flags:
            how["help"] = says.replace("a temporary folder", "OUT_DIR/_checkpoint")
        if flag in ("--kafka", "--topic") and "INPUT_DIR" not in flags:
            how["help"] = says.replace(", in place of INPUT_DIR", "")
            how["required"] = True
        group.add_argument(flag if flag.startswith("--") else _name(flag), **how)
    made.set_defaults(table=table, **defaults)
    return made


class _Parser(ArgumentParser):
    """The parser that `parser` returns; `shared` holds the names of its shared flags."""

    shared: Sequence[str] = ()

    def format_help(self) -> str:
        """Return the help, whose usage shows what the job requires, and not each of its flags."""
        ways = [
            "INPUT_DIR",
            *(way for flag, way in _INSTEAD.items() if flag in self.shared),
        ]
        needed = [
            " ".join([*a.option_strings, str(a.metavar)])
            for a in self._actions
            if a.required
        ]
        one_of = f"({' | '.join(ways)})" if len(ways) > 1 else "INPUT_DIR"
        self.usage = (
            f"%(prog)s {' '.join([*needed, '[FLAGS]']).replace('INPUT_DIR', one_of)}"
        )
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        if "required: INPUT_DIR" in message:
            inputs = ["INPUT_DIR", *(flag for flag in _INSTEAD if flag in self.shared)]
            message = message.replace("INPUT_DIR", " or ".join(inputs), 1)
        raise InvalidInputError(
            message if message.endswith("?") else f"{message}; see --help"
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        flags = [flag for action in self._actions for flag in action.option_strings]
        # Check names first: argparse would read the value of a misspelt flag as a
        # positional argument.
        for word in itertools.takewhile(lambda word: word != "--", given):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in flags:
                self.error(f"unknown argument {name}{hint(name, flags)}")
        names = {word.partition("=")[0] for word in given}
        instead = [flag for flag in _INSTEAD if flag in self.shared and flag in names]
        for action in self._actions:
            if action.dest == "input_dir":
                # With SUPPRESS the argument takes no value
                action.nargs = SUPPRESS if instead else None
        parsed, rest = self.parse_known_args(given, namespace)
        if rest:
            if instead and "INPUT_DIR" in self.shared and not rest[0].startswith("-"):
                self.error(
                    f"{instead[0]} is in place of INPUT_DIR: leave out one of them"
                )
            self.error(f"unknown argument {rest[0]}")
        if "OUT_DIR" in self.shared:
            parsed.out_dir = parsed.out_dir.rstrip("/") or parsed.out_dir
            if getattr(parsed, "checkpoint", None) is None:
                parsed.checkpoint = f"{parsed.out_dir}/_checkpoint"
        # Which a job may have in a form of its own
        shared = (*self.shared, "--checkpoint")
        _check(
            {
                flag: getattr(parsed, _name(flag))
                for flag in shared
                if hasattr(parsed, _name(flag))
            }
        )
        rehearse(parsed)
        return parsed


def _check(given: Mapping[str, Any]) -> None:
    """Refuse flags that do not go together, and outputs in the input folder."""
    for flag, other in _NEEDS:
        if given.get(flag) and not given.get(other):
            raise InvalidInputError(
                f"{flag} does nothing without {other}; give both, or neither"
            )
    for one, other in _EXCLUDES:
        if given.get(one) and given.get(other):
            raise InvalidInputError(
                f"{one} and {other} exclude each other; give one of them"
            )
    if given.get("--url") and given.get("--checkpoint") and not given.get("--spool"):
        raise InvalidInputError(
            "--url with --checkpoint needs --spool, a folder that a restart finds"
            " again; give it"
        )
    for place in ("INPUT_DIR", "--spool"):
        if place in given:
            check_apart(given[place], {flag: given.get(flag) for flag in _WRITES})


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
    folder = None if input_dir is None else plain(input_dir)
    if folder is None:
        return
    read = {Path(each).resolve() for each in [folder, *matching(folder)]}
    # Which may match a folder that is created later
    pattern = str(Path(folder).absolute())
    for name, path in outputs.items():
        target = Path(spelt(re.sub("^sqlite:///", "", str(path))))
        if path and any(
            each in read or each.match(pattern) for each in (target, target.parent)
        ):
            lies = "is" if target in read else "lies in"
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
    of = getattr(args, _name(of_flag))
    if round(of * 1000) == 0:
        raise InvalidInputError(
            f"{of_flag} {of:g} is less than a millisecond; use 0.001 or more"
        )
    if round(value * 1000) % round(of * 1000):
        below = math.floor(value / of)
        near = " or ".join(
            f"{number * of:g}" for number in (below, below + 1) if number
        )
        said, of_said = (
            (
                f"the default {each}"
                if getattr(args, _name(each)) == made.get_default(_name(each))
                else each
            )
            for each in (flag, of_flag)
        )
        raise InvalidInputError(
            f"{said} {value:g} is not a multiple of {of_said} {of:g}; use {near}"
        )


# --- from arguments to a query


def lines(spark: SparkSession, args: Namespace) -> DataFrame:
    """Read the stream that the input flags ask for: files, a Kafka topic or posts.

    Args:
        spark: the session.
        args: the parsed arguments of the job, with the flags of `*LINES`, `*INPUT` or
            `*POSTS`.

    Returns:
        A streaming DataFrame with the column `value` (string): one line without its
        line end. With `--url`, each line is a post. With `--kafka`, each line is a
        record, and the column `_file` (string) says where the record is, such as
        "kafka:sales/0/17" for offset 17 in partition 0; `quarantine.parse_csv` keeps it
        for bad lines.

    Raises:
        InvalidInputError: as for `sources.text`, `sources.kafka` and `sources.posts`.

    Examples:
        In a session::

            args = jobflags.parser("Totals of sales.", *jobflags.INPUT).parse_args(["incoming"])
            lines = jobflags.lines(spark, args)
    """
    from sparkstream_kit import sources

    most = getattr(args, "max_files_per_trigger", None)
    if getattr(args, "url", None):
        return _posts(spark, args, most)
    if getattr(args, "kafka", None):
        most = getattr(args, "max_offsets_per_trigger", None)
        records = sources.kafka(
            spark, args.kafka, args.topic, max_offsets_per_trigger=most
        )
        place = "concat_ws('/', concat('kafka:', topic), partition, offset) AS _file"
        return records.selectExpr("value", place)
    return sources.text(spark, args.input_dir, max_files_per_trigger=most)


_spools: list[tempfile.TemporaryDirectory[str]] = []


def _posts(spark: SparkSession, args: Namespace, most: int | None) -> DataFrame:
    """Read the posts of `--url`, through the folder of `--spool` or a temporary folder."""
    from sparkstream_kit import sources

    dry_run = getattr(args, "dry_run", False)
    spool = getattr(args, "spool", None)
    if spool is None or (dry_run and not Path(plain(spool) or spool).exists()):
        # Removed when the process ends, after the feeder, which still writes when the
        # session has ended.
        _spools.append(
            tempfile.TemporaryDirectory(
                prefix="sparkstream-", ignore_cleanup_errors=True
            )
        )
        args.spool = _spools[-1].name
    url, spool = (args.spool, None) if dry_run else (args.url, args.spool)
    return sources.posts(spark, url, spool=spool, max_files_per_trigger=most).select(
        "value"
    )


def outputs(
    args: Namespace,
    part: Callable[[DataFrame], DataFrame] | None = None,
    *,
    take_over: bool = False,
) -> list[Sink]:
    """Make the sinks that `--snapshot` and `--database` ask for, for a query in complete mode.

    Args:
        args: the parsed arguments of the job.
        part: a function that selects from each batch the rows that these sinks write;
            None for all rows.
        take_over: whether to replace a table that another query has written.

    Returns:
        A sink for each of the two flags that was given: an empty list, one sink or two.

    Examples:
        In a session::

            parser = jobflags.parser("Totals of sales.", *jobflags.OUTPUT)
            args = parser.parse_args(["--snapshot", "totals.csv"])
            totals = sinks.fan_out(sinks.latest("totals"), *jobflags.outputs(args))
    """
    from sparkstream_kit import sinks

    asked = []
    if getattr(args, "snapshot", None):
        asked.append(sinks.snapshot(args.snapshot))
    if getattr(args, "database", None):
        asked.append(
            sinks.sql_table(
                args.database, args.table, how="replace", take_over=take_over
            )
        )
    return asked if part is None else [sink.taking(part) for sink in asked]


def for_session(args: Namespace) -> dict[str, Any]:
    """Turn `--profile` and `--kafka` into keywords of `spark_session`.

    Args:
        args: the parsed arguments of the job.

    Examples:
        >>> for_session(Namespace(profile="test", kafka="localhost:9092"))
        {'profile': 'test', 'connectors': ['kafka']}
    """
    connectors = ["kafka"] if getattr(args, "kafka", None) else []
    return {"profile": getattr(args, "profile", None), "connectors": connectors}


def for_start(args: Namespace, part: str | None = None) -> dict[str, Any]:
    """Turn `--checkpoint`, `--trigger`, `--available-now` and `--dry-run` into keywords of `start`.

    With `--drain` and without `--checkpoint`, the checkpoint is a temporary folder,
    which lasts as long as `args`.

    Args:
        args: the parsed arguments of the job.
        part: for a job with several queries, the subfolder of `--checkpoint` for this
            query.

    Examples:
        >>> for_start(Namespace(checkpoint="ckpt", trigger="5 seconds"))
        {'checkpoint': 'ckpt', 'processingTime': '5 seconds'}
        >>> for_start(Namespace(checkpoint="ckpt"), "bad")
        {'checkpoint': 'ckpt/bad'}
    """
    given = vars(args)
    if given.get("drain") and not given.get("checkpoint") and not given.get("dry_run"):
        # Spark would remove its own temporary checkpoint at the end of the query,
        # before the last batch of the drain, which needs it.
        args.temporary = tempfile.TemporaryDirectory(
            prefix="sparkstream-", ignore_cleanup_errors=True
        )
        args.checkpoint = given["checkpoint"] = args.temporary.name
    keywords: dict[str, Any] = {"checkpoint": given.get("checkpoint")}
    if part is not None and keywords["checkpoint"]:
        keywords["checkpoint"] = f"{keywords['checkpoint'].rstrip('/')}/{part}"
    if given.get("dry_run") or given.get("shadow"):
        keywords["dry_run"] = "compare" if given.get("shadow") else True
    if given.get("continues"):
        keywords["continues"] = (
            f"{given['continues'].rstrip('/')}/{part}" if part else given["continues"]
        )
    if given.get("available_now"):
        keywords["availableNow"] = True
    elif given.get("trigger"):
        keywords["processingTime"] = given["trigger"]
    return keywords


def for_run(args: Namespace) -> dict[str, Any]:
    """Turn the flags that end a run, `--drain` and `*SHOW` into keywords of `run`.

    Args:
        args: the parsed arguments of the job.

    Examples:
        >>> for_run(Namespace(input_dir="in", run_for=60.0, stop_file=None))
        {'run_for': 60.0}
        >>> for_run(Namespace(show=True, ui=8080))
        {'ui': 8080, 'show': 'terminal'}
    """
    given = vars(args)
    names = (
        "run_for",
        "idle",
        "stop_file",
        "drain",
        "record",
        "summary_json",
        "ui",
        "metrics",
    )
    keywords: dict[str, Any] = {
        name: given[name] for name in names if given.get(name) is not None
    }
    if given.get("alert_url"):
        keywords["on_verdict"] = given["alert_url"]
    if given.get("show"):
        keywords["show"] = "terminal"
    return keywords


def finish(args: Namespace, *summaries: RunSummary) -> int:
    """Print the summaries to standard error, and check them against `--max-bad` and `--max-late`.

    Args:
        args: the parsed arguments of the job.
        *summaries: the summary of each run of the job.

    Returns:
        0, the exit code of a job that has ended well.

    Raises:
        KitError: more rows are bad or late than these flags allow; a job ends with exit
            code 1.

    Examples:
        In a session::

            parser = jobflags.parser("Totals of sales.", *jobflags.INPUT, *jobflags.RUN)
            args = parser.parse_args(["incoming"])
            sys.exit(jobflags.finish(args, summary))
    """
    for summary in summaries:
        say(str(summary))
    state = any(query.state_rows for summary in summaries for query in summary.queries)
    if state and getattr(args, "checkpoint", "") is None:  # of a job that has this flag
        say(
            "without --checkpoint the state of this run is gone: the next run begins"
            " anew"
        )
    for summary in summaries:
        check_bad_rows(summary, getattr(args, "max_bad", None))
    check_late_rows(getattr(args, "max_late", None), *summaries)
    return 0


def check_bad_rows(summary: RunSummary, max_bad: Decimal | None) -> None:
    """Raise if more lines were bad than `--max-bad` allows; warn if none could be read.

    Each query is checked by itself, because two queries of a job may have parsed the
    same lines. The query with the largest share of bad lines decides.

    Args:
        summary: the summary of the job's run.
        max_bad: the allowed percentage of bad lines, from `--max-bad`; None for no
            limit.

    Raises:
        KitError: a larger share of the lines that a query parsed is bad; a job ends
            with exit code 1.

    Examples:
        In a session::

            jobflags.check_bad_rows(summary, Decimal(1))  # raises if more than 1 % were bad
    """
    counted = [
        (query.bad_rows or 0, query.parsed_rows)
        for query in summary.queries
        if query.parsed_rows
    ]
    bad, parsed = max(
        counted, key=lambda each: (each[0] / each[1], each[1]), default=(0, 0)
    )
    if max_bad is not None and bad * 100 > max_bad * parsed:
        share = f"{bad * 100 / parsed:.3g}%"
        raise KitError(
            f"bad lines: {bad:,} of {parsed:,} ({share}); --max-bad is {max_bad}%"
        )
    if counted and all(bad == parsed for bad, parsed in counted):
        say("no line could be read: is this the right folder?")


def check_late_rows(max_late: Decimal | None, *summaries: RunSummary) -> None:
    """Raise at the end of a job if more rows came too late than `--max-late` allows.

    Rows that were set aside as late count like rows that were dropped. Where only
    bounds of the number of dropped rows are known, the least number counts.

    Args:
        max_late: the allowed percentage of a query's input rows, from `--max-late`;
            None for no limit.
        *summaries: the summaries of the job's runs.

    Raises:
        KitError: more rows of a query were late; a job ends with exit code 1.

    Examples:
        >>> from decimal import Decimal
        >>> from sparkstream_kit.progress import QuerySummary, RunSummary
        >>> done = QuerySummary("q", "id", input_rows=200, late_rows=3, late_rows_exact=False)
        >>> check_late_rows(Decimal(1), RunSummary("end of input", 9.0, (done,)))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.KitError: query q: at least 3 late rows dropped, of 200 rows; ...
    """
    for query in (query for summary in summaries for query in summary.queries):
        late = (query.late_rows or 0) + (query.rows_set_aside or 0)
        if max_late is not None and late * 100 > max_late * query.input_rows:
            came = []
            if query.late_rows:
                came.append(f"{query.late_rows_said} dropped")
            if query.rows_set_aside:
                came.append(f"{query.rows_set_aside:,} set aside as late")
            share = f"{' and '.join(came)}, of {count(query.input_rows, 'row')}"
            raise KitError(f"query {query.name}: {share}; --max-late is {max_late}%")
