"""Posts scored by a model as they arrive; bad lines are kept aside with the reason.

Scored posts are in OUT_DIR/scored, bad lines in OUT_DIR/bad. The files are JSON lines:
id, time, text and, if known, label (ham or spam). MODEL is a folder of versions, to
which train_posts.py adds one.
Guarantee: every post exactly once, for every reader; one that comes again is scored by
the same version.
Run: spark-submit jobs/score_posts.py INPUT_DIR MODEL OUT_DIR
"""

from pyspark.sql import DataFrame

from sparkstream_kit import (
    jobflags,
    models,
    quarantine,
    run,
    sinks,
    spark_session,
    start,
)

POSTS = (
    "id STRING NOT NULL, time TIMESTAMP NOT NULL, label STRING, text STRING NOT NULL"
)


def transform(lines: DataFrame) -> DataFrame:
    """Return the posts, and the columns of `quarantine` that say why a line is bad."""
    return quarantine.parse_json(lines, POSTS)


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the rows go to OUT_DIR, and how many they were to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.LINES,
        "--profile",
        "--available-now",
        "--run-for",
        "--dry-run",
        *jobflags.SHOW,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="A local folder of versions of a model."
    )
    parser.add_argument("out", metavar="OUT_DIR", help="For this job's rows alone.")
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="Resume from it. Default: OUT_DIR/_checkpoint.",
    )
    parser.add_argument(
        "--learn", action="store_true", help="Learn from each batch too (scikit-learn)."
    )
    args = parser.parse_args(argv)
    if not args.checkpoint:
        args.checkpoint = f"{args.out}/_checkpoint"

    with spark_session("score-posts", **jobflags.for_session(args)) as spark:
        scorer = models.scorer(args.model, features="text")
        learner = models.learner(
            args.model, features="text", label="label", classes=["ham", "spam"]
        )
        good = [sinks.batch_files(f"{args.out}/scored").taking(scorer)]
        if args.learn:
            good.append(learner)
        bad = sinks.batch_files(f"{args.out}/bad")
        posts = transform(jobflags.lines(spark, args))
        query = start(
            posts,
            quarantine.split(sinks.fan_out(*good), bad),
            name="score_posts",
            **jobflags.for_start(args),
        )
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
