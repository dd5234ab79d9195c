"""Extra: the command line of jobs: flags that mean the same in every job, and what they ask of Spark.

A job names the flags that it can honour, one by one or as a group: `*INPUT`, `*LINES`, `*POSTS`, `*SERVER`,
`*OUTPUT`, `*FOLDER`, `*EVENT_TIME`, `*RUN` (with `*SHOW` in it), `*SHOW`. `lines` turns the
input flags into a stream, and `outputs` the output flags into sinks. `exit_codes` is how a job ends.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
import sys
import tempfile
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sparkstream_kit._dry_run import would_make
from sparkstream_kit._durations import delay_of, not_negative
from sparkstream_kit._exits import exit_codes, take_standard_streams
from sparkstream_kit._files import plain
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    hint,
    is_url,
    shows_secret,
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


_LAST_PORT = 65535
# With one of these Spark may look for a path on another machine or file system.
_ELSEWHERE = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "PYSPARK_GATEWAY_PORT", "SPARK_REMOTE")


def seconds(text: str) -> float:
    """Read a positive number of seconds.

    Examples:
        >>> seconds("1.5")
        1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a positive number of seconds, such as 60 or 0.5")
    return value


def _positive_int(text: str) -> int:
    """Read a whole number from 1.

    Examples:
        >>> _positive_int("3")
        3
    """
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _number_of_files(text: str) -> int | None:
    """Read a whole number from 1, or "all"."""
    return None if text == "all" else _positive_int(text)


def _percent(text: str) -> Decimal:
    """Read a percentage, 0% to 100%.

    Examples:
        >>> _percent("0.5%")
        Decimal('0.5')
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text, re.ASCII) or Decimal(text[:-1]) > 100:  # noqa: PLR2004 - all
        raise ArgumentTypeError(f"{text!r} is not a percentage from 0% to 100%, such as 1% or 0.5%")
    return Decimal(text[:-1])


def _port(text: str) -> int:
    """Read a TCP port, 1 to 65535.

    Examples:
        >>> _port("9999")
        9999
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LAST_PORT):
        raise ArgumentTypeError(f"{text!r} is not a port, 1 to {_LAST_PORT}")
    return int(text)


def _host(text: str) -> str:
    """Read the name or address of a machine; a number alone is most likely a port.

    Examples:
        >>> _host("localhost")
        'localhost'
    """
    if text.isdigit():
        raise ArgumentTypeError(f"{text} is a number, perhaps a port; give the host and then the port")
    return text


def _servers(text: str) -> str:
    """Read the addresses of servers, each with its port, with commas between them.

    Examples:
        >>> _servers("localhost:9092,other:9092")
        'localhost:9092,other:9092'
    """
    for each in text.split(","):
        name, _, number = each.strip().rpartition(":")
        if not name or not number.isascii() or not number.isdigit() or int(number) > _LAST_PORT:
            raise ArgumentTypeError(f"{each.strip()!r} is not host:port, such as localhost:9092")
    return text


def _url(text: str) -> str:
    """Read a URL of HTTP. Everyone on the machine can see a command line: a token in it is refused.

    Examples:
        >>> _url("https://api.x.com/2/tweets/sample/stream")
        'https://api.x.com/2/tweets/sample/stream'
    """
    if shows_secret(text):
        raise ArgumentTypeError(
            "others can see a token on the command line; leave it out, and put it into POSTS_TOKEN"
        )
    if not is_url(text):
        raise ArgumentTypeError(f"{text!r} is no URL, such as https://api.x.com/2/tweets/sample/stream")
    return text


def _interval(text: str) -> str:
    """Read the time from one batch to the next, in the words of Spark's trigger."""
    return _duration(text, not_negative, "an interval, such as '5 seconds' or '1 minute 30 seconds'")


def _delay(text: str) -> str:
    """Read how late a row may come; with no delay at all, Spark drops rows as new as the newest."""
    return _duration(text, delay_of, "a delay, such as '10 minutes' or '1 hour 30 minutes'")


def _duration(text: str, read: Callable[[str, str], int], what: str) -> str:
    try:
        read("it", text)
    except InvalidInputError as err:
        raise ArgumentTypeError(f"{text!r} is not {what}") from err
    return text


def existing_folder(text: str) -> str:
    """Read the path of a folder, or a pattern for folders; what this process can look at must exist.

    A path of another file system is left to Spark, and so is one that Spark may look for elsewhere: on the
    machine of a Connect server (SPARK_REMOTE), or where a Hadoop configuration names another file system.
    Under spark-submit Spark's JVM runs already, so that its own answer comes as soon.

    Examples:
        >>> existing_folder("s3a://bucket/sales")
        's3a://bucket/sales'
    """
    local = plain(text)
    if local is None or any(name in os.environ for name in _ELSEWHERE):
        return text
    if Path(local).is_file():
        raise ArgumentTypeError(f"{text} is a file; give the folder that it is in")
    # What Spark takes for a pattern may match later.
    if not Path(local).is_dir() and not set(local) & set("*?[]{}\\"):
        raise ArgumentTypeError(f"folder {text} does not exist; create it or correct the path")
    return text


def checkpoint_folder(text: str) -> str:
    """Read the path of a checkpoint: a folder, or nothing yet.

    Examples:
        >>> checkpoint_folder("ckpt/totals")
        'ckpt/totals'
    """
    local = plain(text)
    if local is not None and Path(local).exists() and not Path(local).is_dir():
        raise ArgumentTypeError(f"checkpoint {text} is a file; give a folder")
    return text


def database(text: str) -> str:
    """Read a database's URL, or the name of an environment variable that holds it, as env:NAME.

    Everyone on the machine can see a command line, and Spark's web page shows it: a password is refused
    there. A URL that is wrong is not shown, as it may hold one.

    Examples:
        >>> database("sqlite:///totals.db")
        'sqlite:///totals.db'
    """
    url = text
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        url = os.environ.get(name, "")
        if not url:
            raise ArgumentTypeError(f"the environment variable {name} is not set; put the URL there")
    elif without_secrets(text) != text:
        raise ArgumentTypeError(
            "others can see a password on the command line; leave it out and set PGPASSWORD or ~/.pgpass, or "
            "put the URL into an environment variable and give env:NAME"
        )
    if not re.match(r"\w+(\+\w+)?://", url):
        raise ArgumentTypeError(
            "this is not a URL, such as sqlite:///totals.db or postgresql+psycopg://user@host/name"
        )
    return url


def _value(metavar: str, read: Callable[[str], Any], says: str, **more: Any) -> dict[str, Any]:
    return {"metavar": metavar, "type": read, "help": says, **more}


def _switch(says: str) -> dict[str, Any]:
    return {"action": "store_true", "help": says}


# Lines of text to read, of files or of a topic of Kafka; `lines` makes the stream.
LINES = {
    "INPUT_DIR": _value("INPUT_DIR", existing_folder, "A folder of text files, or a pattern for folders."),
    "--max-files-per-trigger": _value(
        "N",
        _number_of_files,
        "The most files that one batch reads, or all; with more, a backlog is read several times faster. "
        "Default: %(default)s.",
        default="all",
    ),
    "--kafka": _value(
        "SERVERS",
        _servers,
        "Read the lines from Kafka, one in each record, in place of INPUT_DIR. SERVERS is host:port, or "
        "several with commas between them. Needs --topic.",
    ),
    "--topic": _value(
        "TOPIC", str, "The topic to read with --kafka; without a checkpoint, from its beginning."
    ),
    "--max-offsets-per-trigger": _value(
        "N",
        _positive_int,
        "With --kafka, the most records that one batch reads. Default: all that are there.",
    ),
}

# Posts over HTTP, in the place of the above.
POSTS = {
    "--url": _value(
        "URL",
        _url,
        "Read posts from this stream of X, of Mastodon or of a server like them, in place of INPUT_DIR. A "
        "token is taken from the environment variable POSTS_TOKEN.",
    ),
    "--spool": _value(
        "DIR",
        str,
        "With --url, keep the posts in this folder, from which they are read. Default: a temporary folder.",
    ),
}

# The same as LINES, where lines can be headers, and bad.
INPUT = {
    **LINES,
    "--header": _switch(
        "The files have headers: leave out each line that holds the column names in their order."
    ),
    "--max-bad": _value(
        "PERCENT",
        _percent,
        "At the end, fail with exit code 1 if more of the run's lines are bad, such as 1%%. Default: never.",
    ),
}

# A server to read lines from.
SERVER = {
    "HOST": _value("HOST", _host, "The server's name. Default: %(default)s.", nargs="?", default="localhost"),
    "PORT": _value("PORT", _port, "The server's port. Default: %(default)s.", nargs="?", default=9999),
}

# Where the result goes; `outputs` makes the sinks.
OUTPUT = {
    "--format": {
        "choices": ["table", "csv", "json"],
        "default": "table",
        "help": "Format of the result on standard output. Default: %(default)s.",
    },
    "--snapshot": _value(
        "FILE", str, "Also write the result to this .csv or .json file, replaced whole after each batch."
    ),
    "--database": _value(
        "URL",
        database,
        "Keep the result in the table TABLE of this database, replaced whole after each batch. URL is "
        "sqlite:///results.db, postgresql+psycopg://user@host/name (password in PGPASSWORD or ~/.pgpass), "
        "mariadb+pymysql://user@host/name, or env:NAME to read it, with its password, from the environment "
        "variable NAME.",
    ),
}

# A folder for all that the job writes, with its progress in OUT_DIR/_checkpoint.
FOLDER = {"OUT_DIR": _value("OUT_DIR", str, "A folder that only this job writes to, local or on hdfs://.")}

# How late a row may come, and what becomes of the last windows.
EVENT_TIME = {
    "--watermark": _value(
        "DELAY",
        _delay,
        'How much later than newer rows a row may come, in event time, such as "10 minutes". '
        "Default: %(default)s.",
        default="10 minutes",
    ),
    "--max-late": _value(
        "PERCENT",
        _percent,
        "At the end, fail with exit code 1 if more of the run's rows may have come too late, such as 1%%. "
        "Default: never.",
    ),
    "--drain": _switch(
        "At the end of the input, write what still waits for the watermark, such as open windows. The "
        "checkpoint takes no more rows then."
    ),
}

# What shows the run; for each job whose queries `run` waits for.
SHOW = {
    "--show": _switch(
        "Show on standard error what the queries do: rows a second, the time of their batches, and what is "
        "wrong. In a terminal as a picture in place (needs the extra cli), elsewhere as lines."
    ),
    "--record": _value(
        "FILE", str, "Append each batch to this file, as a line of JSON; sparkstream watch FILE shows it."
    ),
    "--summary-json": _value(
        "FILE", str, "At the end, append the summary to this file, as a line of JSON, also after a failure."
    ),
    "--ui": _switch("Show what the queries do on a page of this machine, at a free port."),
}

# How the query runs, and what ends it.
RUN = {
    "--profile": _value(
        "NAME", str, "Settings profile: local, test, cluster or a path. Default: chosen from the master."
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
        "SECONDS", seconds, "Stop cleanly after this many seconds. Default: run until stopped."
    ),
    "--idle": _value("SECONDS", seconds, "Stop after this many seconds without a row. Default: never."),
    "--stop-file": _value("PATH", str, "Stop cleanly when a file appears at this path."),
    "--dry-run": _switch("Check everything, print what would run, and end; nothing is read or written."),
    **SHOW,
}


_INSTEAD = ("--kafka", "--url")  # of INPUT_DIR

_NEEDS = (
    ("--drain", "--available-now"),
    ("--kafka", "--topic"),
    ("--topic", "--kafka"),
    ("--max-offsets-per-trigger", "--kafka"),
    ("--spool", "--url"),
)
_EXCLUDES = (
    ("--available-now", "--trigger"),
    ("--available-now", "--url"),  # which waits for what comes
    ("--kafka", "--url"),
)

# Flags whose file or folder may not be in the input folder.
_WRITTEN = (
    "OUT_DIR",
    "--checkpoint",
    "--snapshot",
    "--database",
    "--stop-file",
    "--record",
    "--summary-json",
)


# --- from the command line to arguments


def parser(doc: str | None, *flags: str, table: str = "result", **defaults: Any) -> ArgumentParser:
    """Make an argument parser with the named shared flags; a job adds arguments of its own to it.

    Args:
        doc: the job's docstring, which becomes the text of `--help`.
        *flags: which of the shared flags the job can honour, such as "INPUT_DIR", "--run-for" or `*RUN`.
        table: the name of the table that `--database` writes.
        **defaults: defaults of the job's own, such as `max_files_per_trigger=1`.

    Returns:
        An `argparse.ArgumentParser` that raises `InvalidInputError` where the usual one would exit, also for
        flags that do not go together.

    Examples:
        >>> parser("A job.", "--run-for").parse_args(["--run-for", "60"]).run_for
        60.0
        >>> parser("A job.", "--run-for").parse_args(["--run-fro", "60"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown argument --run-fro; did you mean --run-for?; ...
    """
    made = _Parser(description=doc, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    made.shared = flags
    known = {**INPUT, **POSTS, **SERVER, **OUTPUT, **EVENT_TIME, **FOLDER, **RUN}
    folder = "OUT_DIR/_checkpoint" if "OUT_DIR" in flags else "a temporary folder"
    for flag in flags:
        says = known[flag]["help"].replace("TABLE", table).replace("a temporary folder", folder)
        how = {**known[flag], "help": says}
        if flag in ("--kafka", "--topic") and "INPUT_DIR" not in flags:
            how |= {"help": says.replace(", in place of INPUT_DIR", ""), "required": True}
        made.add_argument(flag if flag.startswith("--") else _name(flag), **how)
    made.set_defaults(table=table, **defaults)
    return made


class _Parser(ArgumentParser):
    shared: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        if "required: INPUT_DIR" in message:
            inputs = ["INPUT_DIR", *(flag for flag in _INSTEAD if flag in self.shared)]
            message = message.replace("INPUT_DIR", " or ".join(inputs), 1)
        raise InvalidInputError(f"{message}; see --help")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        flags = [flag for action in self._actions for flag in action.option_strings]
        # First, for argparse would take the value of a misspelt flag as one of the job's arguments.
        for word in itertools.takewhile(lambda word: word != "--", given):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in flags:
                self.error(f"unknown argument {name}{hint(name, flags)}")
        names = {word.partition("=")[0] for word in given}
        instead = [flag for flag in _INSTEAD if flag in self.shared and flag in names]
        for action in self._actions:
            if action.dest == "input_dir":
                action.nargs = SUPPRESS if instead else None  # SUPPRESS takes no word
        parsed, rest = self.parse_known_args(given, namespace)
        if rest:
            if instead and "INPUT_DIR" in self.shared and not rest[0].startswith("-"):
                self.error(f"{instead[0]} is in place of INPUT_DIR: leave out one of them")
            self.error(f"unknown argument {rest[0]}")
        if "OUT_DIR" in self.shared:
            parsed.out_dir = parsed.out_dir.rstrip("/") or parsed.out_dir
            if getattr(parsed, "checkpoint", None) is None:
                parsed.checkpoint = f"{parsed.out_dir}/_checkpoint"
        _check({flag: getattr(parsed, _name(flag)) for flag in self.shared})
        return parsed


def _check(given: Mapping[str, Any]) -> None:
    """Refuse values that cannot be used, and shared flags that do not go together."""
    for flag, other in _NEEDS:
        if given.get(flag) and not given.get(other):
            raise InvalidInputError(f"{flag} does nothing without {other}; give both, or neither")
    for one, other in _EXCLUDES:
        if given.get(one) and given.get(other):
            raise InvalidInputError(f"{one} and {other} exclude each other; give one of them")
    if given.get("--url") and given.get("--checkpoint") and not given.get("--spool"):
        raise InvalidInputError(
            "--url with --checkpoint needs --spool, a folder that a restart finds again; give it"
        )
    for place in ("INPUT_DIR", "--spool"):
        if place in given:
            check_apart(given[place], {flag: given.get(flag) for flag in _WRITTEN})


def _name(flag: str) -> str:
    """Return the name of a flag's value among the arguments."""
    return flag.removeprefix("--").replace("-", "_").lower()


def check_apart(input_dir: str | None, outputs: Mapping[str, str | Path | None]) -> None:
    """Refuse to write into the input folder, where a job would read its own files.

    For the shared flags, the parser does this. A job does it for an output of its own.

    Args:
        input_dir: the folder that the job reads, or a pattern for folders; None where it reads from Kafka.
        outputs: what it writes, by the name of its argument, such as "OUT_DIR"; None for what was not given.

    Raises:
        InvalidInputError: an output is the input folder or a file in it.

    Examples:
        >>> check_apart("incoming", {"--snapshot": "incoming/totals.csv"})
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: --snapshot incoming/totals.csv lies in the input folder ...
    """
    folder = None if input_dir is None else plain(input_dir)
    if folder is None:
        return
    read = {Path(each).resolve() for each in [folder, *glob.glob(folder)]}  # noqa: PTH207 - of any path
    for name, path in outputs.items():
        local = None if path is None else plain(re.sub("^sqlite:///", "", str(path)))
        if local is None:
            continue
        target = Path(local).resolve()
        # A pattern may match what is made later.
        made = any(each.match(str(Path(folder).absolute())) for each in (target, target.parent))
        if made or {target, target.parent} & read:
            lies = "is" if target in read else "lies in"
            raise InvalidInputError(
                f"{name} {path} {lies} the input folder {input_dir}, and would be read; put it elsewhere"
            )


def check_multiple(made: ArgumentParser, args: Namespace, flag: str, of_flag: str) -> None:
    """Refuse a time that is not a whole multiple of another, and name the nearest that are.

    Args:
        made: the job's parser, which knows the defaults.
        args: the job's arguments.
        flag: the flag that gives the time, such as "--window".
        of_flag: the flag that gives the other time, such as "--batch-interval".

    Raises:
        InvalidInputError: the time is not a multiple, to the millisecond, or the other is less than one.

    Examples:
        In a session::

            args = parser.parse_args(["--window", "10", "--slide", "5"])
            jobflags.check_multiple(parser, args, "--window", "--slide")
    """
    value, of = getattr(args, _name(flag)), getattr(args, _name(of_flag))
    if round(of * 1000) == 0:
        raise InvalidInputError(f"{of_flag} {of:g} is less than a millisecond; use 0.001 or more")
    if round(value * 1000) % round(of * 1000):
        below = math.floor(value / of)
        near = " or ".join(f"{number * of:g}" for number in (below, below + 1) if number)
        said, of_said = (
            f"the default {each}" if getattr(args, _name(each)) == made.get_default(_name(each)) else each
            for each in (flag, of_flag)
        )
        raise InvalidInputError(f"{said} {value:g} is not a multiple of {of_said} {of:g}; use {near}")


# --- from arguments to a query


def lines(spark: SparkSession, args: Namespace) -> DataFrame:
    """Read the stream that the input flags ask for.

    Returns:
        A streaming DataFrame with `value` (string): a line without its line end. From Kafka also with
        `_file` (string), such as "kafka:sales/0/17" for the record 17 of partition 0, by which a bad line is
        found again (`quarantine.parse_csv`). From a URL a line is a post.

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
        records = sources.kafka(spark, args.kafka, args.topic, max_offsets_per_trigger=most)
        place = "concat_ws('/', concat('kafka:', topic), partition, offset) AS _file"
        return records.selectExpr("value", place)
    return sources.text(spark, args.input_dir, max_files_per_trigger=most)


def _posts(spark: SparkSession, args: Namespace, most: int | None) -> DataFrame:
    from sparkstream_kit import sources

    if getattr(args, "spool", None) is None:
        args.temporary_spool = tempfile.TemporaryDirectory(prefix="sparkstream-", ignore_cleanup_errors=True)
        args.spool = args.temporary_spool.name
    if getattr(args, "dry_run", False):
        would_make(args.spool)
        return sources.posts(spark, args.spool, max_files_per_trigger=most).select("value")
    return sources.posts(spark, args.url, spool=args.spool, max_files_per_trigger=most).select("value")


def outputs(
    args: Namespace, part: Callable[[DataFrame], DataFrame] | None = None, *, take_over: bool = False
) -> list[Sink]:
    """Make the sinks that `--snapshot` and `--database` ask for, for a query in complete mode.

    Args:
        args: the job's arguments.
        part: what these sinks get of each batch, a function of it; None gives them the whole batch.
        take_over: replace a table that another query has written.

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
        asked.append(sinks.sql_table(args.database, args.table, how="replace", take_over=take_over))
    return asked if part is None else [sink.taking(part) for sink in asked]


def for_session(args: Namespace) -> dict[str, Any]:
    """Turn `--profile` and `--kafka` into keywords of `spark_session`.

    Examples:
        >>> for_session(Namespace(profile="test", kafka="localhost:9092"))
        {'profile': 'test', 'connectors': ['kafka']}
    """
    connectors = ["kafka"] if getattr(args, "kafka", None) else []
    return {"profile": getattr(args, "profile", None), "connectors": connectors}


def for_start(args: Namespace, part: str | None = None) -> dict[str, Any]:
    """Turn the flags about a start into keywords of `start`.

    Args:
        args: the job's arguments.
        part: where a job has several queries, the folder in `--checkpoint` that this one has for itself.

    Examples:
        >>> for_start(Namespace(checkpoint="ckpt", trigger="5 seconds"))
        {'checkpoint': 'ckpt', 'processingTime': '5 seconds'}
        >>> for_start(Namespace(checkpoint="ckpt"), "bad")
        {'checkpoint': 'ckpt/bad'}
    """
    given = vars(args)
    if given.get("drain") and not given.get("checkpoint") and not given.get("dry_run"):
        # Spark removes a temporary one when the query ends, and the last batch comes after that.
        args.temporary = tempfile.TemporaryDirectory(prefix="sparkstream-", ignore_cleanup_errors=True)
        args.checkpoint = given["checkpoint"] = args.temporary.name
    keywords: dict[str, Any] = {"checkpoint": given.get("checkpoint")}
    if part is not None and keywords["checkpoint"]:
        keywords["checkpoint"] = f"{keywords['checkpoint'].rstrip('/')}/{part}"
    if given.get("dry_run"):
        keywords["dry_run"] = True
    if given.get("available_now"):
        keywords["availableNow"] = True
    elif given.get("trigger"):
        keywords["processingTime"] = given["trigger"]
    return keywords


def for_run(args: Namespace) -> dict[str, Any]:
    """Turn the flags that end a run, `--drain` and `*SHOW` into keywords of `run`.

    Examples:
        >>> for_run(Namespace(input_dir="in", run_for=60.0, stop_file=None))
        {'run_for': 60.0, 'stop_file': None}
        >>> for_run(Namespace(show=True, ui=True))
        {'show': 'terminal', 'ui': 0}
    """
    given = vars(args)
    names = ("run_for", "idle", "stop_file", "drain")
    keywords: dict[str, Any] = {name: given[name] for name in names if name in given}
    keywords |= {name: given[name] for name in ("record", "summary_json") if given.get(name) is not None}
    if given.get("show"):
        keywords["show"] = "terminal"
    if given.get("ui"):
        keywords["ui"] = 0  # a free port
    return keywords


def finish(args: Namespace, *summaries: RunSummary) -> int:
    """Print what was done to standard error, and hold it against `--max-bad` and `--max-late`.

    Returns:
        The exit code of a job that has ended well: 0.

    Raises:
        KitError: more rows are bad or late than these flags allow; a job ends with exit code 1.

    Examples:
        In a session::

            parser = jobflags.parser("Totals of sales.", *jobflags.INPUT, *jobflags.RUN)
            args = parser.parse_args(["incoming"])
            sys.exit(jobflags.finish(args, summary))
    """
    sys.stderr.write("".join(f"{summary}\n" for summary in summaries))
    for summary in summaries if "max_bad" in args else ():
        check_bad_rows(summary, args.max_bad)
    if "max_late" in args:
        check_late_rows(args.max_late, *summaries)
    return 0


def check_bad_rows(summary: RunSummary, max_bad: Decimal | None) -> None:
    """Warn at the end of a job if no line could be read; raise if more were bad than `--max-bad` allows.

    Each query counts for itself, because two queries of a job may have parsed the same lines: the one with
    the greatest share of bad lines decides.

    Args:
        summary: of the job's run.
        max_bad: the percentage that `--max-bad` gives, or None.

    Raises:
        KitError: more of the lines that a query parsed are bad; a job ends with exit code 1.

    Examples:
        In a session::

            jobflags.check_bad_rows(summary, Decimal(1))  # raises if more than 1 % were bad
    """
    counted = [(query.bad_rows or 0, query.parsed_rows) for query in summary.queries if query.parsed_rows]
    bad, parsed = max(counted, key=lambda each: (each[0] / each[1], each[1]), default=(0, 0))
    if max_bad is not None and bad * 100 > max_bad * parsed:
        percentage = bad * 100 / parsed
        share = f"{percentage:.1f}%" if percentage >= 1 else f"{percentage:.2g}%"
        raise KitError(f"bad lines: {bad:,} of {parsed:,} ({share}); --max-bad is {max_bad}%")
    if counted and all(bad == parsed for bad, parsed in counted):
        sys.stderr.write("no line could be read: is this the right folder?\n")


def check_late_rows(max_late: Decimal | None, *summaries: RunSummary) -> None:
    """Raise at the end of a job if more rows came too late than `--max-late` allows.

    Rows that were set aside count as those that were dropped. Where their number is known between bounds, the
    upper one counts.

    Args:
        max_late: the percentage that `--max-late` gives, or None.
        *summaries: of the job's runs.

    Raises:
        KitError: more rows of a query may have been late; a job ends with exit code 1.

    Examples:
        >>> from decimal import Decimal
        >>> from sparkstream_kit.progress import QuerySummary, RunSummary
        >>> done = QuerySummary("q", "id", input_rows=200, late_rows=1, late_rows_at_most=5)
        >>> check_late_rows(Decimal(1), RunSummary("end of input", 9.0, (done,)))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.KitError: query q: between 1 and 5 late rows dropped, of 200 rows; ...
    """
    for query in (query for summary in summaries for query in summary.queries):
        late = (query.late_rows_at_most or query.late_rows or 0) + (query.rows_set_aside or 0)
        if max_late is None or late * 100 <= max_late * query.input_rows:
            continue
        said = [f"{query.late_rows_said} dropped"] if query.late_rows else []
        said += [f"{query.rows_set_aside:,} set aside as late"] if query.rows_set_aside else []
        rows = f"{query.input_rows:,} {'row' if query.input_rows == 1 else 'rows'}"
        raise KitError(f"query {query.name}: {' and '.join(said)}, of {rows}; --max-late is {max_late}%")
