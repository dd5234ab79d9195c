"""Count the words of the lines that a TCP server sends, most frequent first.

Guarantee: at most once, because a socket cannot send again. It ends when the server closes the connection.
Run: nc -lk 9999 (or: sparkstream feed lines), then: spark-submit jobs/socket_wordcount.py localhost 9999
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sparkstream_kit import jobflags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pyspark.sql import DataFrame


def transform(lines: DataFrame) -> DataFrame:
    """Return word (string) and count (bigint) of the column `value`, most frequent first."""
    from pyspark.sql import functions as F

    words = lines.select(F.explode(F.split("value", r"\s+")).alias("word")).where("word != ''")
    # Over several partitions Spark would count each batch twice: once to find out how to sort it.
    return words.groupBy("word").count().coalesce(1).orderBy("count", "word", ascending=[False, True])


def flags() -> argparse.ArgumentParser:
    """Return the job's command line."""
    parser = jobflags.parser(__doc__, "--profile", "--run-for", "--idle", "--trigger", "--stop-file")
    parser.add_argument("host", metavar="HOST", nargs="?", type=jobflags.host, default="localhost")
    parser.add_argument("port", metavar="PORT", nargs="?", type=jobflags.port, default=9999)
    parser.add_argument(
        "--database",
        metavar="URL",
        type=jobflags.database,
        help="Keep the counts in the table word_counts instead, replaced whole after each batch. URL is "
        "sqlite:///counts.db, postgresql+psycopg://user@host/name (password in PGPASSWORD or ~/.pgpass), or "
        "env:NAME to read it from the environment variable NAME.",
    )
    parser.add_argument(
        "--take-over", action="store_true", help="Replace the table even if another run wrote it."
    )
    return parser


@jobflags.exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job: the counts of each batch go to standard output, everything else to standard error."""
    args = flags().parse_args(argv)
    jobflags.check_needs(args, "--take-over", "--database")

    from sparkstream_kit import run, sinks, sources, spark_session, start

    sink = sinks.console()
    if args.database:
        sink = sinks.sql_table(args.database, "word_counts", how="replace", take_over=args.take_over)
    with spark_session("socket-wordcount", profile=args.profile) as spark:
        query = start(
            transform(sources.socket_lines(spark, args.host, args.port)),
            sink,
            name="socket_wordcount",
            mode="complete",
            **jobflags.trigger(args),
        )
        summary = run(query, run_for=args.run_for, idle=args.idle, stop_file=args.stop_file)
        print(summary, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
