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
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit._internal.file_system import plain
from sparkstream_kit._internal.stopping.exits import (
    exit_codes,
    say,
    take_standard_streams,
)
from sparkstream_kit.errors import KitError, count
from sparkstream_kit.jobflags.groups import (
    EVENT_TIME,
    FOLDER,
    INPUT,
    LINES,
    OUTPUT,
    POSTS,
    RUN,
    SERVER,
    SHOW,
)
from sparkstream_kit.jobflags.parsing import check_apart, check_multiple, parser
from sparkstream_kit.jobflags.types import (
    checkpoint_folder,
    database,
    existing_folder,
    registry,
    seconds,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from decimal import Decimal

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
    "registry",
    "seconds",
    "take_standard_streams",
]


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
    if dry_run:  # only the spool is looked at, as a stream that nothing feeds
        posts = sources.posts(spark, args.spool, max_files_per_trigger=most)
    else:
        posts = sources.posts(
            spark, args.url, spool=args.spool, max_files_per_trigger=most
        )
    return posts.select("value")


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

    chosen = []
    if getattr(args, "snapshot", None):
        chosen.append(sinks.snapshot(args.snapshot))
    if getattr(args, "database", None):
        chosen.append(
            sinks.sql_table(
                args.database, args.table, how="replace", take_over=take_over
            )
        )
    if part is None:
        return chosen
    return [sink.taking(part) for sink in chosen]


def for_session(args: Namespace) -> dict[str, Any]:
    """Turn `--profile` and `--kafka` into keywords of `spark_session`.

    Args:
        args: the parsed arguments of the job.

    Examples:
        >>> from argparse import Namespace
        >>> for_session(Namespace(profile="test", kafka="localhost:9092"))
        {'profile': 'test', 'connectors': ['kafka']}
    """
    connectors = []
    if getattr(args, "kafka", None):
        connectors.append("kafka")
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
        >>> from argparse import Namespace
        >>> for_start(Namespace(checkpoint="ckpt", trigger="5 seconds"))
        {'checkpoint': 'ckpt', 'processingTime': '5 seconds'}
        >>> for_start(Namespace(checkpoint="ckpt"), "bad")
        {'checkpoint': 'ckpt/bad'}
    """
    flags = vars(args)
    if flags.get("drain") and not flags.get("checkpoint") and not flags.get("dry_run"):
        # Spark would remove its own temporary checkpoint at the end of the query,
        # before the last batch of the drain, which needs it.
        args.temporary = tempfile.TemporaryDirectory(
            prefix="sparkstream-", ignore_cleanup_errors=True
        )
        args.checkpoint = flags["checkpoint"] = args.temporary.name
    keywords: dict[str, Any] = {"checkpoint": _part_of(flags.get("checkpoint"), part)}
    if flags.get("shadow"):
        keywords["dry_run"] = "compare"
    elif flags.get("dry_run"):
        keywords["dry_run"] = True
    if flags.get("continues"):
        keywords["continues"] = _part_of(flags["continues"], part)
    if flags.get("available_now"):
        keywords["availableNow"] = True
    elif flags.get("trigger"):
        keywords["processingTime"] = flags["trigger"]
    return keywords


def _part_of(folder: str | None, part: str | None) -> str | None:
    """Return the subfolder of a checkpoint for one query of a job with several queries."""
    if not folder or not part:
        return folder
    return f"{folder.rstrip('/')}/{part}"


# The flags that are keywords of `run` under the same name
_OF_RUN = (
    "run_for",
    "idle",
    "stop_file",
    "drain",
    "record",
    "summary_json",
    "ui",
    "metrics",
)


def for_run(args: Namespace) -> dict[str, Any]:
    """Turn the flags that end a run, `--drain` and `*SHOW` into keywords of `run`.

    Args:
        args: the parsed arguments of the job.

    Examples:
        >>> from argparse import Namespace
        >>> for_run(Namespace(input_dir="in", run_for=60.0, stop_file=None))
        {'run_for': 60.0}
        >>> for_run(Namespace(show=True, ui=8080))
        {'ui': 8080, 'show': 'terminal'}
    """
    flags = vars(args)
    keywords: dict[str, Any] = {}
    for name in _OF_RUN:
        if flags.get(name) is not None:
            keywords[name] = flags[name]
    if flags.get("alert_url"):
        keywords["on_verdict"] = flags["alert_url"]
    if flags.get("show"):
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
    queries = itertools.chain(*(summary.queries for summary in summaries))
    has_state = any(query.state_rows for query in queries)
    # None where the job has this flag, and it was not given
    if has_state and getattr(args, "checkpoint", "") is None:
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
    counts = [
        _Lines(query.bad_rows or 0, query.parsed_rows)
        for query in summary.queries
        if query.parsed_rows
    ]
    if not counts:
        return
    worst = max(counts, key=lambda lines: (lines.bad / lines.parsed, lines.parsed))
    if max_bad is not None and worst.bad * 100 > max_bad * worst.parsed:
        raise KitError(
            f"bad lines: {worst.bad:,} of {worst.parsed:,} ({worst.percent:.3g}%);"
            f" --max-bad is {max_bad}%"
        )
    if all(lines.bad == lines.parsed for lines in counts):
        say("no line could be read: is this the right folder?")


class _Lines(NamedTuple):
    """How many lines a query parsed, and how many of them were bad."""

    bad: int
    parsed: int

    @property
    def percent(self) -> float:
        return self.bad * 100 / self.parsed


def check_late_rows(max_late: Decimal | None, *summaries: RunSummary) -> None:
    """Raise at the end of a job if more rows came too late than `--max-late` allows.

    Rows that were set aside as late count like rows that were dropped. If only bounds
    of the number of dropped rows are known, the lower bound counts.

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
    if max_late is None:
        return
    for query in itertools.chain(*(summary.queries for summary in summaries)):
        late = (query.late_rows or 0) + (query.rows_set_aside or 0)
        if late * 100 <= max_late * query.input_rows:
            continue
        parts: list[str] = []
        if query.late_rows:
            parts.append(f"{query.late_rows_said} dropped")
        if query.rows_set_aside:
            parts.append(f"{query.rows_set_aside:,} set aside as late")
        share = f"{' and '.join(parts)}, of {count(query.input_rows, 'row')}"
        raise KitError(f"query {query.name}: {share}; --max-late is {max_late}%")
