"""The hashtags that most posts of the last minutes have, window by window, as the windows close.

The posts are lines of JSON: statuses of Mastodon, or {"data": {"id", "text", "created_at"}} of the X API v2.
A post that comes again counts once. The summary counts what is later than --delay, or no post.
Guarantee: every post counts exactly once in --database, over restarts on the same --checkpoint.
Run: spark-submit jobs/hashtag_trends.py INPUT_DIR
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sparkstream_kit import display, jobflags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

POSTS = "id STRING NOT NULL, created_at TIMESTAMP NOT NULL, text STRING, tags ARRAY<STRUCT<name: STRING>>"
# The rules of twitter-text: letters, marks, digits and underscores, of which one is a letter or a mark.
TAG = r"""(?x) (?<! [\p{L}\p{M}\p{Nd}_&/] ) [\#\uFF03] (?! [\uFE0F\u20E3] )
    (?= [\p{Nd}_]*+ [\p{L}\p{M}] ) ( [\p{L}\p{M}\p{Nd}_]++ ) (?! [\#\uFF03] | :// )"""


def transform(
    lines: DataFrame, *, window: str = "10 minutes", slide: str = "1 minute", delay: str = "10 minutes"
) -> DataFrame:
    """Return start, end (timestamp), tag (string) and posts (bigint) of each tag in each window."""
    from pyspark.sql import functions as F

    from sparkstream_kit import quarantine, schemas, windows

    line = F.coalesce(F.get_json_object("value", "$.data"), "value").alias("value")
    posts = quarantine.parse_json(lines.select(line), schemas.from_ddl(POSTS))
    posts = windows.with_watermark(posts, "created_at", delay).where(F.col(quarantine.REASON).isNull())
    found = F.coalesce(F.col("tags")["name"], F.regexp_extract_all("text", F.lit(TAG), F.lit(1)))
    # Lower of upper, as lower alone leaves "straße" and "STRASSE" apart.
    tags = F.array_distinct(F.transform(found, lambda tag: F.lower(F.upper(tag))))
    once = posts.dropDuplicatesWithinWatermark(["id"]).select("created_at", F.explode(tags).alias("tag"))
    groups = once.groupBy(windows.sliding("created_at", window, slide), "tag")
    return windows.flatten(groups.agg(F.count("*").alias("posts")))


def show(batch: DataFrame, _: int) -> None:
    """Print the rows of the windows that have closed."""
    if rows := display.render(batch, "table").splitlines()[2:]:
        print(*rows, sep="\n", flush=True)


@jobflags.exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job: the trends go to standard output, everything else to standard error."""
    parser = jobflags.parser(__doc__, "INPUT_DIR", "--max-files-per-trigger", "--max-bad", *jobflags.RUN)
    says = "Also write to the table hashtag_trends of this database; needs --checkpoint."
    parser.add_argument("--database", metavar="URL", type=jobflags.database, help=says)
    parser.add_argument("--top", metavar="N", type=int, default=10, help="Tags of a window. Default: 10.")
    for flag, default in {"--window": "10 minutes", "--slide": "1 minute", "--delay": "10 minutes"}.items():
        parser.add_argument(flag, metavar="DURATION", default=default, help="Default: %(default)s.")
    args = parser.parse_args(argv)
    jobflags.check_apart(args.input_dir, {"--database": args.database})

    from sparkstream_kit import run, sinks, spark_session, start, windows

    top = windows.top(args.top, by="posts", each=["start", "end"])
    tables = [sinks.sql_table(args.database, "hashtag_trends")] if args.database else []
    sink = sinks.fan_out(*(each.taking(top) for each in (*tables, sinks.foreach_batch(show))))
    with spark_session("hashtag-trends", profile=args.profile, conf=args.state_store) as spark:
        lines = jobflags.lines(spark, args)
        trends = transform(lines, window=args.window, slide=args.slide, delay=args.delay)
        query = start(trends, sink, name="hashtag_trends", **jobflags.for_start(args))
        summary = run(query, **jobflags.for_run(args))
    print(summary, file=sys.stderr)
    jobflags.check_bad_rows(summary, args.max_bad)
    return 0


if __name__ == "__main__":
    sys.exit(main())
