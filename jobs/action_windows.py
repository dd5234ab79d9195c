"""Actions counted by the hour in which they happened, from what `action_rows` writes.

OUT_DIR gets a directory for each batch: in mode append windows that have closed, in
mode update windows that have changed, in mode complete all windows. With the
--watermark of `action_rows` no row is late here.
Guarantee: every row counts exactly once, over stops and restarts on the same OUT_DIR.
INPUT_DIR is the folder OUT_DIR/rows of that job.
Run: spark-submit jobs/action_windows.py INPUT_DIR OUT_DIR --available-now --drain
"""

from pyspark.sql import DataFrame

from sparkstream_kit import jobflags, run, sinks, sources, spark_session, start, windows


def transform(rows: DataFrame, watermark: str, slide: str = "1 hour") -> DataFrame:
    """Return start, end, action and count, in windows of an hour that start every `slide`."""
    marked = windows.with_watermark(rows, "time", watermark, ahead=None)
    groups = marked.groupBy(windows.sliding("time", "1 hour", slide), "action")
    return windows.flatten(groups.count())


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the counts go to OUT_DIR, and how many rows they count to standard error."""
    parser = jobflags.parser(
        __doc__,
        "INPUT_DIR",
        *jobflags.FOLDER,
        *jobflags.EVENT_TIME,
        *jobflags.RUN,
    )
    parser.add_argument(
        "--mode",
        choices=["append", "update", "complete"],
        default="append",
        help="The output mode: append, update or complete. Default: %(default)s.",
    )
    parser.add_argument(
        "--slide",
        metavar="DURATION",
        default="1 hour",
        help="From one window's start to the next one's, such as \"30 minutes\"."
        " Default: %(default)s.",
    )
    args = parser.parse_args(argv)

    sink = sinks.batch_files(args.out_dir)
    with spark_session("action-windows", **jobflags.for_session(args)) as spark:
        rows = sources.parquet(
            spark, args.input_dir, schema="time TIMESTAMP, action STRING"
        )
        counts = transform(rows, args.watermark, args.slide)
        query = start(
            counts,
            sink,
            name="action_counts",
            mode=args.mode,
            **jobflags.for_start(args),
        )
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
