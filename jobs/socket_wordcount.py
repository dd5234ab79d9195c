"""Count the words of the lines that a TCP server sends, most frequent first.

The counts are printed after each batch; with --snapshot or --database they go to a file
or a table instead.
Guarantee: at most once, because a socket cannot send again. It ends when the server
closes the connection.
Run: nc -lk 9999 (or: sparkstream feed lines)
then: spark-submit jobs/socket_wordcount.py localhost 9999
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import display, jobflags, run, sinks, sources, spark_session, start


def transform(lines: DataFrame) -> DataFrame:
    """Return word (string) and count (bigint) of the column `value`, most frequent first."""
    words = lines.select(F.explode(F.split("value", r"\s+")).alias("word"))
    counts = words.where("word != ''").groupBy("word").count()
    # Over several partitions Spark would count each batch twice: once to find out how
    # to sort it.
    return counts.coalesce(1).orderBy("count", "word", ascending=[False, True])


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: counts of each batch go to standard output, all else to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.SERVER,
        *jobflags.RUN,
        "--snapshot",
        "--database",
        # A socket cannot send again
        without=["--checkpoint", "--available-now", "--continues", "--shadow"],
        table="word_counts",
    )
    args = parser.parse_args(argv)

    # A socket cannot be read again, so that each run is a new query: it takes the table
    # over.
    outputs = jobflags.outputs(args, take_over=True)
    # A page shows the rows of `latest`
    latest = sinks.latest("counts")
    if outputs:
        sink = sinks.fan_out(latest, *outputs)
    elif args.ui is not None:
        sink = sinks.fan_out(latest, sinks.foreach_batch(display.show))
    else:
        sink = sinks.console()
    with spark_session("socket-wordcount", **jobflags.for_session(args)) as spark:
        counts = transform(sources.socket_lines(spark, args.host, args.port))
        query = start(
            counts,
            sink,
            name="socket_wordcount",
            mode="complete",
            **jobflags.for_start(args),
        )
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
