"""Count words with the older DStream API: by batch, since the beginning, and over a sliding window.

Guarantee: at most once, because a socket cannot send again; with --checkpoint the
running counts continue from the last batch of the run before. Spark reconnects by
itself when the server comes back.
Run: nc -lk 9999 (or: sparkstream feed lines)
then: spark-submit jobs/dstream_wordcount.py localhost 9999
"""

import sys

from pyspark.streaming import DStream

from sparkstream_kit import dstreams, jobflags, spark_session


def transform(lines: DStream[str]) -> DStream[tuple[str, int]]:
    """Return (word, 1) for each word."""
    return lines.flatMap(str.split).map(lambda word: (word, 1))


def most_frequent(counts: DStream[tuple[str, int]]) -> DStream[tuple[str, int]]:
    """Return the same counts, biggest first, as pprint shows only the first ten."""
    return counts.transform(
        lambda rdd: rdd.sortBy(lambda pair: (-pair[1], pair[0]), numPartitions=1)
    )


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the counts go to standard output, everything else to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.SERVER,
        "--profile",
        "--checkpoint",
        "--run-for",
        "--stop-file",
    )
    parser.add_argument(
        "--batch-interval",
        metavar="SECONDS",
        type=jobflags.seconds,
        default=2.0,
        help="Seconds from one batch to the next. Default: %(default)g.",
    )
    parser.add_argument(
        "--window",
        metavar="SECONDS",
        type=jobflags.seconds,
        default=20.0,
        help="Length of the window in seconds. Default: %(default)g.",
    )
    parser.add_argument(
        "--slide",
        metavar="SECONDS",
        type=jobflags.seconds,
        default=10.0,
        help="Seconds from one window to the next. Default: %(default)g.",
    )
    parser.add_argument(
        "--graceful",
        action="store_true",
        help="Process everything received before stopping; this can take long.",
    )
    args = parser.parse_args(argv)
    jobflags.check_multiple(parser, args, "--window", "--batch-interval")
    jobflags.check_multiple(parser, args, "--slide", "--batch-interval")

    with (
        spark_session("dstream-wordcount", **jobflags.for_session(args)) as spark,
        dstreams.streaming_context(spark, args.batch_interval) as ssc,
    ):
        words = transform(ssc.socketTextStream(args.host, args.port))
        snapshot = None
        if args.checkpoint:
            snapshot = f"{args.checkpoint}/counts.json"
        total = dstreams.running_counts(words, snapshot=snapshot)
        windowed = dstreams.windowed_counts(words, args.window, args.slide)
        most_frequent(words.reduceByKey(lambda a, b: a + b)).pprint()
        most_frequent(total).map(lambda pair: ("since the beginning", *pair)).pprint()
        length = f"in {args.window:g} s"
        most_frequent(windowed).map(lambda pair: (length, *pair)).pprint()
        ended_by = dstreams.run(ssc, graceful=args.graceful, **jobflags.for_run(args))
        print(f"ended by: {ended_by}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
