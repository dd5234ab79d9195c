r"""Web server logs: errors and response sizes by path and minute, or the sessions of each host.

The files hold common or combined log lines, as Apache and many others write them. The
report grows in OUT_DIR/errors or OUT_DIR/sessions as minutes or sessions end; lines
that cannot be read, or that are dated an hour ahead, are in OUT_DIR/bad with the
reason. The summary has the least number that came too late.
Guarantee: every line is read exactly once for the report and for OUT_DIR/bad, over
stops and restarts.
Run: spark-submit jobs/log_errors.py INPUT_DIR OUT_DIR --report errors \
    --available-now --drain
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import (
    jobflags,
    quarantine,
    run,
    sinks,
    spark_session,
    start,
    windows,
)


def requests(lines: DataFrame, watermark: str) -> DataFrame:
    """Return the columns of `quarantine.parse_log`, and why a line is bad."""
    return windows.with_watermark(quarantine.parse_log(lines), "time", watermark)


def transform(rows: DataFrame, report: str = "errors") -> DataFrame:
    """Return requests, errors and sizes by minute and path, or by session and host.

    The columns are start, end, path, requests, errors and p95 of the bytes. Sessions
    have the host in place of the path, and the sum of the bytes in place of p95.

    p95 is off by at most a thousandth of the group's rows, in their order
    (approx_percentile). A sum beyond the range of BIGINT is null.
    """
    requests = F.count("*").alias("requests")
    errors = F.count_if(F.col("status") >= 400).alias("errors")  # noqa: PLR2004
    if report == "sessions":
        sessions = rows.groupBy(windows.session("time", "30 minutes"), "host")
        size = F.try_sum("bytes").alias("bytes")
        return windows.flatten(sessions.agg(requests, errors, size), "session_window")
    # "GET /shop?page=2 HTTP/1.1" is of the path /shop
    path = F.regexp_replace("request", r"(?s)^\S+ ([^ ?]+).*$", "$1").alias("path")
    minutes = rows.groupBy(windows.tumbling("time", "1 minute"), path)
    p95 = F.approx_percentile("bytes", 0.95, 1000).alias("p95")
    return windows.flatten(minutes.agg(requests, errors, p95))


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the report goes to OUT_DIR, and how many lines it read to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.LINES,
        *jobflags.FOLDER,
        *jobflags.EVENT_TIME,
        *jobflags.RUN,
        "--max-bad",
        without=["--checkpoint"],  # it is in OUT_DIR
    )
    parser.add_argument(
        "--report",
        choices=["errors", "sessions"],
        default="errors",
        help="What to report. Default: %(default)s.",
    )
    args = parser.parse_args(argv)
    out = args.out_dir
    jobflags.check_apart(args.input_dir, {"OUT_DIR/bad": f"{out}/bad"})

    with spark_session("log-errors", **jobflags.for_session(args)) as spark:
        rows = requests(jobflags.lines(spark, args), args.watermark)
        bad = sinks.batch_files(f"{out}/bad").taking(quarantine.bad_rows)
        bad_query = start(rows, bad, name="log_bad", **jobflags.for_start(args, "bad"))
        counts = transform(rows, args.report)
        report = sinks.batch_files(f"{out}/{args.report}")
        report_query = start(
            counts,
            report,
            name=f"log_{args.report}",
            **jobflags.for_start(args, args.report),
        )
        return jobflags.finish(
            args, run(bad_query, report_query, **jobflags.for_run(args))
        )


if __name__ == "__main__":
    raise SystemExit(main())
