"""Actions as typed rows; rows that come too late and bad lines are kept aside, never lost.

The files are JSON lines such as {"time": 1469501107, "action": "Open"}. They become
Parquet in OUT_DIR/rows, OUT_DIR/late (with the watermark that they missed) and
OUT_DIR/bad (with the reason).
Guarantee: every line is in one of the three folders once, for every reader, over stops
and restarts.
Run: spark-submit jobs/action_rows.py INPUT_DIR OUT_DIR
"""

from pyspark.sql import DataFrame

from sparkstream_kit import (
    jobflags,
    quarantine,
    run,
    sinks,
    spark_session,
    start,
    windows,
)


def transform(lines: DataFrame, watermark: str) -> DataFrame:
    """Return the time (timestamp) and action of each line, and why a line is bad."""
    rows = quarantine.parse_json(lines, "time BIGINT NOT NULL, action STRING NOT NULL")
    timed = rows.withColumn("time", rows.time.cast("timestamp"))
    return windows.with_watermark(timed, "time", watermark)


def in_one_file(batch: DataFrame) -> DataFrame:
    """Return the good rows of a batch, in one partition."""
    return quarantine.good_rows(batch).coalesce(1)


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the rows go to OUT_DIR, and how many they were to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.LINES,
        *jobflags.FOLDER,
        "--watermark",
        "--max-late",
        "--max-bad",
        *jobflags.RUN,
    )
    args = parser.parse_args(argv)
    out = args.out_dir
    jobflags.check_apart(args.input_dir, {"OUT_DIR/rows": f"{out}/rows"})

    # In files of one batch each no row is late a second time when `action_windows`
    # reads them.
    rows = sinks.batch_files(f"{out}/rows").taking(in_one_file)
    bad = sinks.batch_files(f"{out}/bad").taking(quarantine.bad_rows)
    late = sinks.batch_files(f"{out}/late").taking(quarantine.good_rows)
    sink = sinks.by_watermark("time", on_time=sinks.fan_out(rows, bad), late=late)
    with spark_session("action-rows", **jobflags.for_session(args)) as spark:
        actions = transform(jobflags.lines(spark, args), args.watermark)
        query = start(
            actions, sink, name="action_rows", **jobflags.for_start(args, "rows")
        )
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
