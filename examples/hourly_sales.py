"""Sales by product and hour, from a folder of JSON files: a first job of your own, to copy and change.

Each line is a sale: {"time": "2024-01-01T08:10:00Z", "product": "tea", "amount": 2}
Guarantee: over restarts on the same --checkpoint every sale counts once. A sale that arrives more than ten
minutes after a newer one may be too late for its hour; the summary at the end counts those, and lines that
cannot be read.
Run: python hourly_sales.py INPUT_DIR --available-now
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import jobflags, quarantine, run, sinks, sources, spark_session, start

SALES = "time TIMESTAMP, product STRING, amount INT"


def transform(sales: DataFrame) -> DataFrame:
    """Return start (timestamp), product (string) and total (bigint), a row for each product and hour."""
    hours = sales.withWatermark("time", "10 minutes").groupBy(F.window("time", "1 hour"), "product")
    return hours.agg(F.sum("amount").alias("total")).select("window.start", "product", "total")


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the changed totals of each batch go to standard output."""
    args = jobflags.parser(__doc__, "INPUT_DIR", *jobflags.RUN).parse_args(argv)

    with spark_session("hourly-sales", **jobflags.for_session(args)) as spark:
        lines = sources.text(spark, args.input_dir)
        rows = quarantine.parse_json(lines, SALES)  # bad ones have a reason
        totals = transform(quarantine.good_rows(rows))
        query = start(totals, sinks.console(), name="hourly_sales", mode="update", **jobflags.for_start(args))
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
