"""Events of a shop from CSV files into a table: checked, each once, in whole batches.

The columns are event_id, time, user, product, type and price. What cannot be read, has
an unknown type, a price below 0 or a time ahead of the clock is a row of the table
events_bad, with the reason. An event that comes again within an hour of the first is
left out; late events are kept.
Guarantee: every event exactly once, over stops and restarts on the same --checkpoint.
Run: spark-submit jobs/events_to_postgres.py INPUT_DIR --database URL --checkpoint DIR
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
    state,
    windows,
)

EVENTS = """event_id STRING NOT NULL, time TIMESTAMP NOT NULL, user STRING NOT NULL,
    product STRING NOT NULL, type STRING NOT NULL, price DECIMAL(10,2) NOT NULL"""
TYPES = ["view", "cart", "purchase"]


def transform(
    lines: DataFrame,
    *,
    watermark: str = "10 minutes",
    within: str = "1 hour",
    header: bool = False,
) -> DataFrame:
    """Return the events, each once, and the columns of `quarantine` that say why a line is bad."""
    rows = quarantine.parse_csv(lines, EVENTS, header=header)
    wrong = F.when(~F.col("type").isin(TYPES), f"type: none of {', '.join(TYPES)}")
    rows = quarantine.mark_bad(rows, wrong.when(F.col("price") < 0, "price: below 0"))
    rows = windows.with_watermark(rows, "time", watermark)
    # A bad row passes `once`: it is told by a column of its own, which is null then.
    good = F.col(quarantine.REASON).isNull()
    marked = rows.withColumn("_id", F.when(good, F.col("event_id")))
    return state.once(marked, "_id", "time", within).drop("_id")


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the rows go to the database, and how many they were to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.INPUT,
        "--watermark",
        *jobflags.RUN,
        without=["--checkpoint"],  # a required one is added below
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        type=jobflags.database,
        required=True,
        help="Add the rows to sqlite:///shop.db, postgresql+psycopg://user@host/name,"
        " or the URL in env:NAME.",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        type=jobflags.checkpoint_folder,
        required=True,
        help="Keep progress in this folder and resume from it.",
    )
    args = parser.parse_args(argv)
    jobflags.check_apart(
        args.input_dir, {"--database": args.database, "--checkpoint": args.checkpoint}
    )

    good = sinks.sql_table(args.database, "events")
    bad = sinks.sql_table(args.database, "events_bad")
    with spark_session("events-to-postgres", **jobflags.for_session(args)) as spark:
        rows = transform(
            jobflags.lines(spark, args), watermark=args.watermark, header=args.header
        )
        query = start(
            rows, quarantine.split(good, bad), name="events", **jobflags.for_start(args)
        )
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
