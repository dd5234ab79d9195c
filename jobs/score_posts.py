"""Posts scored by a model as they arrive, in OUT_DIR/scored; bad lines with the reason in OUT_DIR/bad.

The files are JSON lines: id, time, text and, if known, label (ham or spam). MODEL is a folder of versions.
Guarantee: every post exactly once, for every reader; one that comes again is scored by the same version.
Run: spark-submit jobs/score_posts.py LABELLED_DIR MODEL --train spark, then INPUT_DIR MODEL OUT_DIR
"""

from __future__ import annotations

import sys
from typing import Any

from pyspark.sql import DataFrame

from sparkstream_kit import jobflags, models, quarantine, run, schemas, sinks, spark_session, start

POSTS = "id STRING NOT NULL, time TIMESTAMP NOT NULL, label STRING, text STRING NOT NULL"
NAMED = "SELECT id, time, label, text, if(index = 1, 'spam', 'ham') AS prediction FROM __THIS__"


def transform(lines: DataFrame) -> DataFrame:
    """Return the posts, and the columns of `quarantine` that say why a line is bad."""
    return quarantine.parse_json(lines, schemas.from_ddl(POSTS))


def train(posts: DataFrame, library: str) -> Any:
    """Return a model of the words, of pyspark.ml or of scikit-learn, whose `prediction` is a label."""
    if library == "sklearn":
        from sklearn import feature_extraction, linear_model, pipeline

        words = feature_extraction.text.HashingVectorizer(n_features=4096, alternate_sign=False)
        model = pipeline.make_pipeline(words, linear_model.SGDClassifier(loss="log_loss", random_state=0))
        return model.fit(*zip(*posts.select("text", "label").collect(), strict=True))
    from pyspark.ml import Pipeline, classification, feature

    words = feature.RegexTokenizer(inputCol="text", outputCol="words")
    counts = feature.HashingTF(inputCol="words", outputCol="features", numFeatures=1024)
    bayes = classification.NaiveBayes(labelCol="answer", predictionCol="index", smoothing=0.1)
    stages: Any = [words, counts, bayes, feature.SQLTransformer(statement=NAMED)]
    return Pipeline(stages=stages).fit(posts.selectExpr("*", "double(label = 'spam') AS answer"))


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the rows go to OUT_DIR, and how many they were to standard error."""
    flags = ("--profile", "--available-now", "--run-for", "--dry-run", *jobflags.SHOW)
    parser = jobflags.parser(__doc__, *jobflags.LINES, *flags)
    parser.add_argument("model", metavar="MODEL", help="A local folder of versions of a model.")
    parser.add_argument("out", metavar="OUT_DIR", nargs="?", help="For this job's rows alone.")
    parser.add_argument("--checkpoint", metavar="DIR", help="Resume from it. Default: OUT_DIR/_checkpoint.")
    parser.add_argument("--train", choices=["spark", "sklearn"], help="Learn a new version from INPUT_DIR.")
    parser.add_argument("--learn", action="store_true", help="Learn from each batch too (scikit-learn).")
    args = parser.parse_args(argv)
    if bool(args.train) == bool(args.out) or (args.train and (args.kafka or args.dry_run or args.learn)):
        parser.error("give OUT_DIR to score, or --train to train, which has no --dry-run and no --learn")
    with spark_session("score-posts", **jobflags.for_session(args)) as spark:
        if args.train:
            known = transform(spark.read.text(args.input_dir)).where("label IN ('ham', 'spam')")
            if len(posts := known.groupBy("label").count().collect()) < 2:  # noqa: PLR2004
                parser.error(f"{args.input_dir} has no posts with the label ham, or none with spam")
            told = "learned from " + " and ".join(f"{number:,} {label}" for label, number in sorted(posts))
            print(f"{told}: {models.publish(train(known, args.train), args.model)}", file=sys.stderr)
            return 0
        scored = sinks.batch_files(f"{args.out}/scored").taking(models.scorer(args.model, features="text"))
        learned = models.learner(args.model, features="text", label="label", classes=["ham", "spam"])
        good = sinks.fan_out(scored, *([learned] if args.learn else []))
        sink = quarantine.split(good, sinks.batch_files(f"{args.out}/bad"))
        how = jobflags.for_start(args) | {"checkpoint": args.checkpoint or f"{args.out}/_checkpoint"}
        query = start(transform(jobflags.lines(spark, args)), sink, name="score_posts", **how)
        print(run(query, **jobflags.for_run(args)), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
