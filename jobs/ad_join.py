"""Views of ads, each with its first click in time, or none; bad lines are kept aside.

Views are in OUT_DIR/views, bad lines in OUT_DIR/bad. The files are JSON lines with the
fields of the Yahoo streaming benchmark; a showing has its own ad_id. A view is written
when the watermark is ten minutes past it, or by --drain. Late rows are only counted.
Guarantee: every view exactly once, also where it or its click comes twice, for every
reader, over stops and restarts on the same OUT_DIR.
Run: spark-submit jobs/ad_join.py INPUT_DIR OUT_DIR
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import (
    jobflags,
    joins,
    quarantine,
    run,
    sinks,
    spark_session,
    start,
    windows,
)

EVENTS = """user_id STRING, page_id STRING, ad_id STRING NOT NULL, ad_type STRING,
    event_type STRING NOT NULL, event_time TIMESTAMP NOT NULL, ip_address STRING"""


def parse(lines: DataFrame, delay: str) -> DataFrame:
    """Return the events with a watermark; columns of `quarantine` say why a line is bad."""
    events = quarantine.parse_json(lines, EVENTS)
    return windows.with_watermark(events, "event_time", delay)


def transform(
    lines: DataFrame, *, delay: str = "10 minutes", within: str = "10 minutes"
) -> DataFrame:
    """Return each view of an ad, with the time of its first click if there is one.

    The columns are ad_id, user_id, page_id, ad_type, shown_at and clicked_at; without a
    click, clicked_at is null.
    """
    events = quarantine.good_rows(parse(lines, delay))
    shown = of_kind(events, "view").withColumnRenamed("event_time", "shown_at")
    views = shown.drop("event_type", "ip_address")
    clicked = of_kind(events, "click").withColumnRenamed("event_time", "clicked_at")
    clicks = clicked.select("ad_id", "clicked_at")
    pairs = joins.within(
        views,
        clicks,
        on="ad_id",
        how="left",
        within=within,
        left_time="shown_at",
        right_time="clicked_at",
    )
    # An event that comes twice, and a second click, give further pairs of the same
    # view.
    return pairs.groupBy(*views.columns).agg(F.min("clicked_at").alias("clicked_at"))


def of_kind(events: DataFrame, kind: str) -> DataFrame:
    """Return the events of one type."""
    # With the time in it, the filter stays above the watermark: on Spark Connect each
    # side has its own.
    time = F.when(F.col("event_type") == kind, F.col("event_time"))
    return events.where(time.isNotNull())


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the rows go to OUT_DIR, and how many they were to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.LINES,
        *jobflags.FOLDER,
        "--max-bad",
        *jobflags.EVENT_TIME,
        *jobflags.RUN,
        max_files_per_trigger=1,
    )
    args = parser.parse_args(argv)

    with spark_session("ad-join", **jobflags.for_session(args)) as spark:
        lines = jobflags.lines(spark, args)
        views = transform(lines, delay=args.watermark)
        bad = quarantine.bad_rows(parse(lines, args.watermark))
        views_query = start(
            views,
            sinks.batch_files(f"{args.out_dir}/views"),
            name="ad_join_views",
            **jobflags.for_start(args, "views"),
        )
        bad_query = start(
            bad,
            sinks.batch_files(f"{args.out_dir}/bad"),
            name="ad_join_bad",
            **jobflags.for_start(args, "bad"),
        )
        summary = run(views_query, bad_query, **jobflags.for_run(args))
        return jobflags.finish(args, summary)


if __name__ == "__main__":
    raise SystemExit(main())
