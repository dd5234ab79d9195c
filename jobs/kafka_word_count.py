r"""Count the words of a Kafka topic; a count that changes is printed, or written to --to.

In --to a record has the word as its key and {"word": …, "count": …} as its value, and
the last record of a word has its count. A record that comes twice after a crash has the
same headers (see `sinks.kafka`).
Guarantee: every record counts exactly once, over stops and restarts on the same
--checkpoint.
Run: spark-submit $(sparkstream connectors kafka) jobs/kafka_word_count.py \
    --kafka HOST:9092 --topic lines
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import display, jobflags, run, sinks, spark_session, start


def transform(lines: DataFrame) -> DataFrame:
    """Return word (string) and count (bigint) of the column `value`."""
    words = lines.select(F.explode(F.split("value", r"\s+")).alias("word"))
    return words.where("word != ''").groupBy("word").count()


def most_frequent_first(counts: DataFrame) -> DataFrame:
    """Return the same counts, sorted by one task: they are few."""
    return counts.coalesce(1).orderBy("count", "word", ascending=[False, True])


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: counts go to standard output or to a topic, all else to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.LINES,
        *jobflags.RUN,
        without=["INPUT_DIR", "--max-files-per-trigger"],
    )
    parser.add_argument(
        "--to",
        metavar="TOPIC",
        help="Write the counts to this topic, and do not print them; needs"
        " --checkpoint.",
    )
    args = parser.parse_args(argv)
    if args.to and not args.checkpoint:
        parser.error(
            "--to needs --checkpoint: without one, every start would write all counts"
            " again"
        )
    if args.to == args.topic:
        parser.error(f"--to {args.to} is the topic that is read; give another one")

    if args.to:
        sink = sinks.kafka(args.kafka, args.to, key="word")
    else:
        sink = sinks.foreach_batch(display.show).taking(most_frequent_first)
    with spark_session("kafka-word-count", **jobflags.for_session(args)) as spark:
        counts = transform(jobflags.lines(spark, args))
        query = start(
            counts,
            sink,
            name="kafka_word_count",
            mode="update",
            **jobflags.for_start(args),
        )
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
