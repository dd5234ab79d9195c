"""Sales by product and hour from a folder of JSON files: a first job to copy and change.

Each line is a sale: {"time": "2024-01-01T08:10:00Z", "product": "tea", "amount": 2}
Once an hour is over, its totals come to OUT_DIR/totals: `cat OUT_DIR/totals/*/*.json`
shows them. Lines that cannot be read are in OUT_DIR/bad, each with its reason. A sale
that comes more than --watermark after a newer one may be too late for its hour; the
summary at the end counts those.
Guarantee: every line counts exactly once, over stops and restarts on the same OUT_DIR.
Run: python hourly_sales.py INPUT_DIR OUT_DIR --available-now
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

SALES = "time TIMESTAMP NOT NULL, product STRING NOT NULL, amount INT NOT NULL"


def sales(lines: DataFrame, watermark: str) -> DataFrame:
    """Return time, product and amount; columns of `quarantine` say why a line is bad."""
    return windows.with_watermark(
        quarantine.parse_json(lines, SALES), "time", watermark
    )


def transform(rows: DataFrame) -> DataFrame:
    """Return the total of each product in each hour; a bad row has no time.

    The columns are start and end (timestamp), product (string) and total (bigint).
    """
    hours = rows.groupBy(windows.tumbling("time", "1 hour"), "product")
    return windows.flatten(hours.agg(F.sum("amount").alias("total")))


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: totals and bad lines go to OUT_DIR, and how many they were to standard error."""
    flags = (
        *jobflags.LINES,
        "--max-bad",
        *jobflags.FOLDER,
        *jobflags.EVENT_TIME,
        *jobflags.RUN,
    )
    args = jobflags.parser(__doc__, *flags).parse_args(argv)

    bad, totals = (
        sinks.batch_files(f"{args.out_dir}/{name}", format="json")
        for name in ("bad", "totals")
    )
    with spark_session("hourly-sales", **jobflags.for_session(args)) as spark:
        rows = sales(jobflags.lines(spark, args), args.watermark)
        kept = bad.taking(quarantine.bad_rows)
        first = start(rows, kept, name="bad_lines", **jobflags.for_start(args, "bad"))
        second = start(
            transform(rows),
            totals,
            name="hourly_sales",
            **jobflags.for_start(args, "totals"),
        )
        return jobflags.finish(args, run(first, second, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
