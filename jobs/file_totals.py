"""Counts and sums by key of a folder of CSV files of your own, kept up to date as files arrive.

--schema names the columns and their types, in Spark's DDL. Lines that do not fit are counted, by reason.
Guarantee: every line counts exactly once, over stops and restarts on the same --checkpoint.
Run: spark-submit jobs/file_totals.py INPUT_DIR --schema "shop STRING, price INT" --key shop --value price
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sparkstream_kit import display, errors, jobflags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType


def transform(
    lines: DataFrame, schema: StructType, keys: Sequence[str], value: str, *, header: bool = False
) -> DataFrame:
    """Return Rows and Total (null beyond 38 digits) of each key, and of each _reason why lines are bad."""
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    from sparkstream_kit import quarantine

    errors.reject_unknown("column of --key", keys, schema.names)
    errors.reject_unknown("column of --value", [value], schema.names)
    if taken := {"rows", "total"} & {key.lower() for key in keys}:
        raise errors.InvalidInputError(f"--key: the result has a column {taken.pop()}; rename it in --schema")
    if not isinstance(kind := schema[value].dataType, T.NumericType):
        raise errors.InvalidInputError(f"--value {value} is {kind.simpleString()}; give a column of numbers")
    rows = quarantine.parse_csv(lines, schema, header=header)
    *groups, amount = (F.col("`" + name.replace("`", "``") + "`") for name in [*keys, value])
    if isinstance(kind, T.IntegralType):
        amount = amount.cast("decimal(20,0)")  # the sum could pass the range of the column's own type
    return rows.groupBy(*groups, "_reason").agg(F.count("*").alias("Rows"), F.try_sum(amount).alias("Total"))


def totals(counted: DataFrame) -> DataFrame:
    """Return the result: the keys, Rows and Total, by key."""
    good = counted.where("_reason IS NULL").drop("_reason").coalesce(1)  # few rows: one task sorts them
    plain = good.toDF(*(f"c{place}" for place in range(len(good.columns))))  # for names with dots and quotes
    return plain.orderBy(*plain.columns[:-2]).toDF(*good.columns)


@jobflags.exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job: the totals go to standard output, everything else to standard error."""
    output = (flag for flag in jobflags.OUTPUT if flag != "--chart")
    parser = jobflags.parser(__doc__, *jobflags.INPUT, *output, *jobflags.RUN, table="file_totals")
    parser.add_argument("--schema", metavar="DDL", required=True, help="The columns, in their order.")
    parser.add_argument("--key", metavar="A,B", required=True, help="The columns to add up by.")
    parser.add_argument("--value", metavar="C", required=True, help="The column to sum.")
    args = parser.parse_args(argv)

    from sparkstream_kit import run, schemas, sinks, spark_session, start

    views = sinks.latest("totals").taking(totals), sinks.latest("counted")  # --ui shows the first
    sink = sinks.fan_out(*views, *jobflags.outputs(args, part=totals))
    with spark_session("file-totals", **jobflags.for_session(args)) as spark:
        lines, keys = jobflags.lines(spark, args), args.key.split(",")
        rows = transform(lines, schemas.from_ddl(args.schema), keys, args.value, header=args.header)
        query = start(rows, sink, name="file_totals", mode="complete", **jobflags.for_start(args))
        summary = run(query, **jobflags.for_run(args))
        print(summary, file=sys.stderr)
        reasons = spark.table("counted").where("_reason IS NOT NULL").select("_reason", "Rows")
        for reason, rows in sorted(reasons.collect()):
            print(f"bad lines: {rows:,} ({reason})", file=sys.stderr)
        print(display.render(spark.table("totals"), args.format), end="")
    jobflags.check_bad_rows(summary, args.max_bad)
    return 0


if __name__ == "__main__":
    sys.exit(main())
