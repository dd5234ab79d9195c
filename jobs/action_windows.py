"""Actions counted by the hour in which they happened; rows that come too late are kept aside, never lost.

The files are JSON lines such as {"time": 1469501107, "action": "Open"}. A first query sorts the lines into
OUT_DIR/rows, OUT_DIR/late (with the watermark that they missed) and OUT_DIR/bad (with the reason). A second
one counts the rows into OUT_DIR/counts, a directory for each batch: in mode append windows that have closed,
in mode update windows that have changed, in mode complete all windows; there no row is late.
Guarantee: every line is in one of the three folders once, and counts once, over stops and restarts.
Run: spark-submit jobs/action_windows.py INPUT_DIR OUT_DIR --available-now --drain
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame

from sparkstream_kit import jobflags, quarantine, run, schemas, sinks, sources, spark_session, start, windows


def events(lines: DataFrame, watermark: str) -> DataFrame:
    """Return the time (timestamp) and action of each line, and why a line is bad."""
    rows = quarantine.parse_json(lines, schemas.from_ddl("time BIGINT NOT NULL, action STRING NOT NULL"))
    return windows.with_watermark(rows.withColumn("time", rows.time.cast("timestamp")), "time", watermark)


def transform(rows: DataFrame, watermark: str, slide: str = "1 hour") -> DataFrame:
    """Return start, end, action and count, in windows of an hour that start every `slide`."""
    marked = windows.with_watermark(rows, "time", watermark, ahead=None)
    return windows.flatten(marked.groupBy(windows.sliding("time", "1 hour", slide), "action").count())


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the rows and counts go to OUT_DIR, and how many they were to standard error."""
    run_flags = (flag for flag in jobflags.RUN if flag not in ("--checkpoint", "--idle"))
    flags = (*jobflags.LINES, *jobflags.FOLDER, *jobflags.EVENT_TIME, *run_flags, "--max-bad")
    parser = jobflags.parser(__doc__, *flags)
    says = "The output mode: append, update or complete. Default: %(default)s."
    parser.add_argument("--mode", choices=["append", "update", "complete"], default="append", help=says)
    says = "From one window's start to the next one's, such as \"30 minutes\". Default: %(default)s."
    parser.add_argument("--slide", metavar="DURATION", default="1 hour", help=says)
    out = (args := parser.parse_args(argv)).out_dir
    jobflags.check_apart(args.input_dir, {"OUT_DIR/rows": f"{out}/rows"})

    # In files of one batch each no row is late a second time, and a replayed batch is known.
    rows = sinks.batch_files(f"{out}/rows").taking(lambda batch: quarantine.good_rows(batch).coalesce(1))
    late = sinks.batch_files(f"{out}/late").taking(quarantine.good_rows)
    sink = sinks.fan_out(rows, sinks.batch_files(f"{out}/bad").taking(quarantine.bad_rows))
    if args.mode != "complete":
        sink = sinks.by_watermark("time", on_time=sink, late=late)
    with spark_session("action-windows", **jobflags.for_session(args)) as spark:
        how = jobflags.for_start(args) | {"checkpoint": f"{out}/_checkpoint/rows"}
        begun = [start(events(jobflags.lines(spark, args), args.watermark), sink, name="action_rows", **how)]
        ends, summaries = jobflags.for_run(args), []
        if args.available_now or args.dry_run:  # the second query takes the rows that are there then
            summaries = [run(begun.pop(), **ends | {"drain": False})]
            ends["run_for"] = args.run_for and max(args.run_for - summaries[0].seconds, 0.001)
        if not summaries or summaries[0].ended_by == "end of input":
            counts = sources.parquet(spark, f"{out}/rows", schema="time TIMESTAMP, action STRING")
            counts, sink = transform(counts, args.watermark, args.slide), sinks.batch_files(f"{out}/counts")
            how |= {"checkpoint": f"{out}/_checkpoint/counts", "mode": args.mode}
            begun.append(start(counts, sink, name="action_counts", **how))
            summaries.append(run(*begun, **ends))
    return jobflags.finish(args, *summaries)


if __name__ == "__main__":
    sys.exit(main())
