"""Totals by product of a folder of sales files, kept up to date as files arrive.

The files are CSV of the twelve sales columns, without headers or with --header. Lines that cannot be read
are counted, by reason.
Guarantee: every line counts exactly once, over stops and restarts on the same --checkpoint.
Run: spark-submit jobs/sales_totals.py INPUT_DIR
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sparkstream_kit import display, jobflags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress

SALES = """OrderID BIGINT, OrderDate DATE, Quantity INT, DiscountPct DECIMAL(9,4), Rate DECIMAL(12,2),
    SaleAmount DECIMAL(12,2) NOT NULL, CustomerName STRING, State STRING, Region STRING,
    ProductKey STRING NOT NULL, RowCount INT, ProfitMargin DECIMAL(9,4)"""


def transform(lines: DataFrame, *, header: bool = False) -> DataFrame:
    """Return a row for each product, and for each Problem that lines have; the only state of the job."""
    from pyspark.sql import functions as F

    from sparkstream_kit import quarantine, schemas

    parsed = quarantine.parse_csv(lines, schemas.from_ddl(SALES), date_format="M/d/yy", header=header)
    return parsed.groupBy("ProductKey", F.col(quarantine.REASON).alias("Problem")).agg(
        F.count("*").alias("Orders"), F.sum("SaleAmount").alias("TotalSales")
    )


def totals(counted: DataFrame) -> DataFrame:
    """Return the result: ProductKey (string), Orders (bigint) and TotalSales (decimal), biggest first."""
    good = counted.where("Problem IS NULL").select("ProductKey", "Orders", "TotalSales")
    # One task sorts these few rows; over several partitions Spark runs a job to sample them first.
    return good.coalesce(1).orderBy("TotalSales", "ProductKey", ascending=[False, True])


def problems(counted: DataFrame) -> DataFrame:
    """Return what could not be read: Problem (string), Lines (bigint)."""
    bad = counted.where("Problem IS NOT NULL").selectExpr("Problem", "Orders AS Lines")
    return bad.coalesce(1).orderBy("Problem")


def flags() -> argparse.ArgumentParser:
    """Return the job's command line."""
    limits = ("--available-now", "--run-for", "--idle", "--stop-file", "--max-bad")
    settings = ("--profile", "--state-store", "--checkpoint", "--trigger", "--header")
    parser = jobflags.parser(__doc__, *settings, *limits)
    parser.add_argument("input_dir", metavar="INPUT_DIR", type=jobflags.existing_folder)
    parser.add_argument(
        "--max-files-per-trigger",
        metavar="N",
        type=jobflags.positive_int,
        default=1,
        help="The most files that one batch reads. Default: 1, which is easy to follow; with more, a backlog "
        "is read several times faster.",
    )
    parser.add_argument(
        "--format", choices=["table", "csv", "json"], default="table", help="Format of the result."
    )
    parser.add_argument(
        "--snapshot",
        metavar="FILE",
        type=jobflags.output_file(".csv", ".json"),
        help="Also write the result to this .csv or .json file, replaced whole after each batch.",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        type=jobflags.database,
        help="Also keep the totals in the table sales_totals, replaced whole after each batch. URL is "
        "sqlite:///totals.db, postgresql+psycopg://user@host/name (password in PGPASSWORD or ~/.pgpass), or "
        "env:NAME to read it from the environment variable NAME.",
    )
    parser.add_argument(
        "--take-over", action="store_true", help="Replace the table even if another query wrote it."
    )
    parser.add_argument("--chart", metavar="FILE.png", help="Draw the totals as a picture at the end.")
    return parser


@jobflags.exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job: the totals go to standard output, everything else to standard error."""
    args = flags().parse_args(argv)
    trigger = jobflags.trigger(args)
    chart = display.check_chart(args.chart) if args.chart else None
    names = ("--checkpoint", "--snapshot", "--database", "--chart", "--stop-file")
    written = {name: getattr(args, name[2:].replace("-", "_")) for name in names}
    jobflags.check_apart(args.input_dir, written)
    jobflags.check_needs(args, "--take-over", "--database")

    from sparkstream_kit import run, sinks, sources, spark_session, start

    outputs = [sinks.latest("sales_stream").taking(totals), sinks.latest("sales_problems").taking(problems)]
    if args.snapshot:
        outputs.append(sinks.snapshot(args.snapshot).taking(totals))
    if args.database:
        table = sinks.sql_table(args.database, "sales_totals", how="replace", take_over=args.take_over)
        outputs.append(table.taking(totals))
    with spark_session("sales-totals", profile=args.profile, conf=args.state_store) as spark:
        lines = sources.text(spark, args.input_dir, max_files_per_trigger=args.max_files_per_trigger)
        query = start(
            transform(lines, header=args.header),
            sinks.fan_out(*outputs),
            name="sales_totals",
            mode="complete",
            checkpoint=args.checkpoint,
            **trigger,
        )
        with display.live() as draw:
            summary = run(
                query,
                run_for=args.run_for,
                idle=args.idle,
                stop_file=args.stop_file,
                on_batch=lambda batch: draw(lambda: picture(spark, batch)),
            )
        print(summary, file=sys.stderr)
        for problem, count in spark.sql("SELECT Problem, Lines FROM sales_problems").collect():
            print(f"bad lines: {count:,} ({problem})", file=sys.stderr)
        if chart:
            display.chart(values(spark), "Total sales by product", chart)
        print(display.render(spark.sql("SELECT * FROM sales_stream"), args.format), end="")
    jobflags.check_bad_rows(summary, args.max_bad)
    return 0


def values(spark: SparkSession) -> list[tuple[str, float]]:
    """Return the totals as they stand, for drawing."""
    rows = spark.sql("SELECT ProductKey, TotalSales FROM sales_stream").collect()
    return [(row.ProductKey, float(row.TotalSales)) for row in rows]


def picture(spark: SparkSession, batch: StreamingQueryProgress) -> str:
    """Return the live picture after a batch."""
    return f"batch {batch.batchId}, new lines: {batch.numInputRows:,}\n\n{display.bars(values(spark))}\n"


if __name__ == "__main__":
    sys.exit(main())
