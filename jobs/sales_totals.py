"""Totals by product of a folder of sales files, kept up to date as files arrive.

The files are CSV of the twelve sales columns. Lines that cannot be read are counted, by
reason.
Guarantee: every line counts exactly once, over stops and restarts on the same
--checkpoint.
Run: spark-submit jobs/sales_totals.py INPUT_DIR
"""

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import (
    display,
    jobflags,
    quarantine,
    run,
    sinks,
    spark_session,
    start,
)

SALES = """OrderID BIGINT, OrderDate DATE, Quantity INT, DiscountPct DECIMAL(9,4),
    Rate DECIMAL(12,2), SaleAmount DECIMAL(12,2) NOT NULL, CustomerName STRING,
    State STRING, Region STRING, ProductKey STRING NOT NULL, RowCount INT,
    ProfitMargin DECIMAL(9,4)"""


def transform(lines: DataFrame, *, header: bool = False) -> DataFrame:
    """Return Orders and TotalSales of each ProductKey, and Orders of each Problem of lines."""
    sales = quarantine.parse_csv(lines, SALES, date_format="M/d/yy", header=header)
    groups = sales.groupBy("ProductKey", F.col(quarantine.REASON).alias("Problem"))
    return groups.agg(
        F.count("*").alias("Orders"), F.sum("SaleAmount").alias("TotalSales")
    )


def totals(counted: DataFrame) -> DataFrame:
    """Return the result, biggest first: ProductKey, Orders and TotalSales.

    Their types are string, bigint and decimal.
    """
    # One task sorts these few rows; over several partitions Spark runs a job to sample
    # them first.
    good = counted.where("Problem IS NULL").drop("Problem").coalesce(1)
    return good.orderBy("TotalSales", "ProductKey", ascending=[False, True])


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the totals go to standard output, everything else to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.INPUT,
        *jobflags.OUTPUT,
        *jobflags.RUN,
        without=["--show"],  # a terminal always shows the run
        table="sales_totals",
        max_files_per_trigger=1,
        show=sys.stderr.isatty(),
    )
    args = parser.parse_args(argv)

    sink = sinks.fan_out(
        sinks.latest("totals").taking(totals),  # the view that a terminal shows
        sinks.latest("counted"),
        *jobflags.outputs(args, part=totals),
    )
    with spark_session("sales-totals", **jobflags.for_session(args)) as spark:
        rows = transform(jobflags.lines(spark, args), header=args.header)
        query = start(
            rows, sink, name="sales_totals", mode="complete", **jobflags.for_start(args)
        )
        summary = run(query, **jobflags.for_run(args))
        counted = spark.table("counted").where("Problem IS NOT NULL")
        for problem, lines in sorted(counted.select("Problem", "Orders").collect()):
            print(f"bad lines: {lines:,} ({problem})", file=sys.stderr)
        print(display.render(spark.table("totals"), args.format), end="")
    return jobflags.finish(args, summary)


if __name__ == "__main__":
    raise SystemExit(main())
