"""The hashtags that most posts of the last minutes have, window by window, as the windows close.

The posts are lines of JSON: statuses of Mastodon, or {"data": {"id", "text",
"created_at"}} of the X API v2. A post that comes again counts once. The summary counts
posts that came too late, and lines that are no posts.
Guarantee: every post counts exactly once in --database, over restarts on the same
--checkpoint.
Run: spark-submit jobs/hashtag_trends.py INPUT_DIR      or in its place: --url URL --spool DIR
"""

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
    windows,
)

POSTS = (
    "id STRING NOT NULL, created_at TIMESTAMP NOT NULL, text STRING, tags"
    " ARRAY<STRUCT<name: STRING>>"
)
# The rules of twitter-text: letters, marks, digits and underscores, of which one is a
# letter or a mark.
TAG = r"""(?x) (?<! [\p{L}\p{M}\p{Nd}_&/] ) [\#\uFF03] (?! [\uFE0F\u20E3] )
    (?= [\p{Nd}_]*+ [\p{L}\p{M}] ) ( [\p{L}\p{M}\p{Nd}_]++ ) (?! [\#\uFF03] | :// )"""


def transform(
    lines: DataFrame,
    *,
    window: str = "10 minutes",
    slide: str = "1 minute",
    watermark: str = "10 minutes",
) -> DataFrame:
    """Return start, end (timestamp), tag (string) and posts (bigint) of each tag in each window."""
    # A post of X is inside of "data"
    of_x = F.when(
        F.get_json_object("value", "$.id").isNull(),
        F.get_json_object("value", "$.data"),
    )
    statuses = lines.select(F.coalesce(of_x, "value").alias("value"))
    parsed = quarantine.parse_json(statuses, POSTS)
    marked = windows.with_watermark(parsed, "created_at", watermark)
    posts = marked.where(F.col(quarantine.REASON).isNull())

    in_text = F.regexp_extract_all("text", F.lit(TAG), F.lit(1))
    written = F.coalesce(F.col("tags")["name"], in_text)
    # In two steps, as lower alone leaves "straße" and "STRASSE" apart, and Spark takes
    # lower(upper()) for it.
    upper = F.transform(written, F.upper)
    tags = F.array_distinct(F.transform(upper, F.lower))

    once = posts.dropDuplicates(["id", "created_at"])
    tagged = once.select("created_at", F.explode(tags).alias("tag"))
    groups = tagged.groupBy(windows.sliding("created_at", window, slide), "tag")
    return windows.flatten(groups.agg(F.count("*").alias("posts")))


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the trends go to standard output, everything else to standard error."""
    parser = jobflags.parser(
        __doc__,
        "INPUT_DIR",
        *jobflags.POSTS,
        "--max-bad",
        *jobflags.EVENT_TIME,
        *jobflags.RUN,
        "--database",
        without=["--idle"],  # a stream of posts may be quiet
        table="hashtag_trends",
    )
    parser.add_argument(
        "--window",
        metavar="DURATION",
        default="10 minutes",
        help="The length of a window. Default: %(default)s.",
    )
    parser.add_argument(
        "--slide",
        metavar="DURATION",
        default="1 minute",
        help="From one window's start to the next one's. Default: %(default)s.",
    )
    args = parser.parse_args(argv)

    top = windows.top(10, by="posts", each=["start", "end"])
    outputs = []
    if args.database:
        table = sinks.sql_table(args.database, "hashtag_trends")
        outputs.append(table.taking(top))
    outputs.append(sinks.foreach_batch(display.show).taking(top))
    sink = sinks.fan_out(*outputs)
    with spark_session("hashtag-trends", **jobflags.for_session(args)) as spark:
        posts = jobflags.lines(spark, args)
        trends = transform(
            posts, window=args.window, slide=args.slide, watermark=args.watermark
        )
        query = start(trends, sink, name="hashtag_trends", **jobflags.for_start(args))
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
