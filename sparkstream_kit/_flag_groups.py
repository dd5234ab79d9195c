"""The shared flags of jobs by their groups; `jobflags` has them for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkstream_kit import _flag_values
from sparkstream_kit._flag_values import checkpoint_folder, database, existing_folder, seconds

if TYPE_CHECKING:
    from collections.abc import Callable


def _value(metavar: str, read: Callable[[str], Any], says: str, **more: Any) -> dict[str, Any]:
    return {"metavar": metavar, "type": read, "help": says, **more}


def _switch(says: str) -> dict[str, Any]:
    return {"action": "store_true", "help": says}


# Lines of text to read, of files or of a topic of Kafka; `lines` makes the stream.
LINES = {
    "INPUT_DIR": _value("INPUT_DIR", existing_folder, "A folder of text files, or a pattern for folders."),
    "--max-files-per-trigger": _value(
        "N",
        _flag_values.number_of_files,
        "The most files that one batch reads, or all; with more, a backlog is read several times faster. "
        "Default: %(default)s.",
        default="all",
    ),
    "--kafka": _value(
        "SERVERS",
        _flag_values.servers,
        "Read the lines from Kafka, one in each record, in place of INPUT_DIR. SERVERS is host:port, or "
        "several with commas between them. Needs --topic.",
    ),
    "--topic": _value(
        "TOPIC", str, "The topic to read with --kafka; without a checkpoint, from its beginning."
    ),
    "--max-offsets-per-trigger": _value(
        "N",
        _flag_values.positive_int,
        "With --kafka, the most records that one batch reads. Default: all that are there.",
    ),
}

# Posts over HTTP, in the place of the above.
POSTS = {
    "--url": _value(
        "URL",
        _flag_values.url,
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
        _flag_values.percent,
        "At the end, fail with exit code 1 if more of the run's lines are bad, such as 1%%. Default: never.",
    ),
}

# A server to read lines from.
SERVER = {
    "HOST": _value(
        "HOST", _flag_values.host, "The server's name. Default: %(default)s.", nargs="?", default="localhost"
    ),
    "PORT": _value(
        "PORT", _flag_values.port, "The server's port. Default: %(default)s.", nargs="?", default=9999
    ),
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
    "--delta": _value("PATH", str, "Keep the result in this Delta table, replaced whole after each batch."),
    "--chart": _value("FILE.png", str, "Draw the result as a picture at the end."),
}

# A folder for all that the job writes, with its progress in OUT_DIR/_checkpoint.
FOLDER = {"OUT_DIR": _value("OUT_DIR", str, "A folder that only this job writes to, local or on hdfs://.")}

# How late a row may come, and what becomes of the last windows.
EVENT_TIME = {
    "--watermark": _value(
        "DELAY",
        _flag_values.delay,
        'How much later than newer rows a row may come, in event time, such as "10 minutes". '
        "Default: %(default)s.",
        default="10 minutes",
    ),
    "--max-late": _value(
        "PERCENT",
        _flag_values.percent,
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
        _flag_values.interval,
        'Time from one batch to the next, such as "5 seconds". Default: no wait.',
    ),
    "--available-now": _switch("Read the input that is there, then end."),
    "--run-for": _value(
        "SECONDS", seconds, "Stop cleanly after this many seconds. Default: run until stopped."
    ),
    "--idle": _value("SECONDS", seconds, "Stop after this many seconds without a row. Default: never."),
    "--stop-file": _value("PATH", str, "Stop cleanly when a file appears at this path."),
    "--grace": _value(
        "SECONDS",
        seconds,
        "At a stop, let the batch in flight run for at most this many seconds. Default: %(default)s.",
        default=30,
    ),
    "--dry-run": _switch("Check everything, print what would run, and end; nothing is read or written."),
    **SHOW,
}
