"""The shared flags of jobs, in groups, and which of them go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkstream_kit.jobflags import types

if TYPE_CHECKING:
    from collections.abc import Callable


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
        "INPUT_DIR",
        types.existing_folder,
        "The input folder, or a pattern for folders.",
    ),
    "--max-files-per-trigger": _value(
        "N",
        types.number_of_files,
        "The most files that one batch reads, or all; with more, a backlog is read"
        " several times faster. Default: %(default)s.",
        default="all",
    ),
    "--kafka": _value(
        "SERVERS",
        types.servers,
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
        types.positive_int,
        "With --kafka, the most records that one batch reads. Default: all that are"
        " there.",
    ),
}

# Input of posts over HTTP, in place of files or Kafka.
POSTS = {
    "--url": _value(
        "URL",
        types.url,
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
        types.percent,
        "At the end, fail with exit code 1 if more than this share of the lines is bad,"
        " such as 1%%. Default: never.",
    ),
}

# Input of lines from a TCP server.
SERVER = {
    "HOST": _value(
        "HOST",
        types.host,
        "The server's name. Default: %(default)s.",
        nargs="?",
        default="localhost",
    ),
    "PORT": _value(
        "PORT",
        types.port,
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
        types.database,
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
        types.delay,
        'How much later than newer rows a row may come, in event time, such as "10'
        ' minutes". Default: %(default)s.',
        default="10 minutes",
    ),
    "--max-late": _value(
        "PERCENT",
        types.percent,
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
        types.database,
        "Post each problem to this URL, as JSON; env:NAME takes it from the"
        " environment.",
    ),
    "--ui": _value(
        "PORT",
        types.port,
        "Show the run on a web page. Default: a free port.",
        nargs="?",
        const=0,
    ),
    "--metrics": _value(
        "HOST:PORT",
        types.servers,
        "Serve Prometheus metrics to all who reach this address.",
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
        types.checkpoint_folder,
        "Keep progress in this folder and resume from it. Default: a temporary folder.",
    ),
    "--trigger": _value(
        "INTERVAL",
        types.interval,
        'Time from one batch to the next, such as "5 seconds". Default: no wait.',
    ),
    "--available-now": _switch("Read the input that is there, then end."),
    "--run-for": _value(
        "SECONDS",
        types.seconds,
        "Stop cleanly after this many seconds. Default: run until stopped.",
    ),
    "--idle": _value(
        "SECONDS",
        types.seconds,
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
TITLES = {
    "input": INPUT | POSTS | SERVER,
    "output": FOLDER | OUTPUT,
    "run": EVENT_TIME | RUN,
    "look": SHOW,
}
# Flags that replace INPUT_DIR, as the usage shows them.
INSTEAD = {"--kafka": "--kafka SERVERS --topic TOPIC", "--url": "--url URL"}

NEEDS = (  # pairs in which the first flag does nothing without the second
    ("--shadow", "--checkpoint"),
    ("--continues", "--checkpoint"),
    ("--drain", "--available-now"),
    ("--kafka", "--topic"),
    ("--topic", "--kafka"),
    ("--max-offsets-per-trigger", "--kafka"),
    ("--spool", "--url"),
)
EXCLUDES = (  # pairs of flags that cannot be used together
    ("--available-now", "--trigger"),
    # A stream of posts has no end that a job could read up to
    ("--available-now", "--url"),
    ("--kafka", "--url"),
)

# Flags whose file or folder must not be in the input folder, where the job would read
# it as input.
WRITES = (
    "OUT_DIR",
    "--checkpoint",
    "--snapshot",
    "--database",
    "--stop-file",
    "--record",
    "--summary-json",
)
