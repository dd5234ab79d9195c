"""Sales files in, typed rows out; bad lines are kept aside with the reason.

Good rows are in OUT_DIR/good, bad lines in OUT_DIR/bad. The files are CSV of the twelve
sales columns, without headers or with --header. Each batch becomes one directory of
Parquet in either folder, put in place whole; every line is a row in one of them, and
nothing is rounded or nulled.
Guarantee: every line exactly once, for every reader, over stops and restarts on the
same OUT_DIR.
Run: spark-submit jobs/sales_clean.py INPUT_DIR OUT_DIR
"""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import (
    errors,
    jobflags,
    quarantine,
    run,
    schemas,
    sinks,
    spark_session,
    start,
)

SALES = """OrderID BIGINT, OrderDate DATE, Quantity INT, DiscountPct DECIMAL(9,4),
    Rate DECIMAL(12,2), SaleAmount DECIMAL(12,2) NOT NULL, CustomerName STRING,
    State STRING, Region STRING, ProductKey STRING NOT NULL, RowCount INT,
    ProfitMargin DECIMAL(9,4)"""


def transform(
    lines: DataFrame, dedupe: Sequence[str] = (), *, header: bool = False
) -> DataFrame:
    """Return the sales columns, and the columns of `quarantine` that say why a line is bad."""
    rows = quarantine.parse_csv(lines, SALES, date_format="M/d/yy", header=header)
    if not dedupe:
        return rows
    # In a bad row all columns are null: it is the line that must not come twice.
    line = F.coalesce(quarantine.BYTES, F.col(quarantine.RAW).cast("binary"))
    bad_line = F.when(F.col(quarantine.REASON).isNotNull(), line)
    marked = rows.withColumn("_line", bad_line)
    return marked.dropDuplicates([*dedupe, "_line"]).drop("_line")


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the rows go to OUT_DIR, and how many they were to standard error."""
    parser = jobflags.parser(__doc__, *jobflags.INPUT, *jobflags.FOLDER, *jobflags.RUN)
    parser.add_argument(
        "--dedupe",
        metavar="A,B",
        type=lambda text: text.split(","),
        default=[],
        help="Keep one of the rows that are equal in these columns, such as"
        " OrderID,ProductKey, and one of equal bad lines. The state then keeps each of"
        " them in memory, without end.",
    )
    args = parser.parse_args(argv)
    out = args.out_dir
    jobflags.check_apart(
        args.input_dir, {"OUT_DIR/good": f"{out}/good", "OUT_DIR/bad": f"{out}/bad"}
    )

    good = sinks.batch_files(f"{out}/good")
    bad = sinks.batch_files(f"{out}/bad")
    sink = quarantine.split(good, bad)
    with spark_session("sales-clean", **jobflags.for_session(args)) as spark:
        errors.reject_unknown(
            "column of --dedupe", args.dedupe, schemas.from_ddl(SALES).names
        )
        rows = transform(jobflags.lines(spark, args), args.dedupe, header=args.header)
        query = start(rows, sink, name="sales_clean", **jobflags.for_start(args))
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
