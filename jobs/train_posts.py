"""A model of spam, trained on labelled posts: a new version in MODEL, for score_posts.py.

The files are JSON lines: id, time, text and label (ham or spam); other lines and other
labels are left out.
Run: spark-submit jobs/train_posts.py LABELLED_DIR MODEL --library spark
"""

import sys
from typing import Any

from pyspark.sql import DataFrame

from sparkstream_kit import jobflags, models, quarantine, spark_session
from sparkstream_kit.connectors import need

POSTS = (
    "id STRING NOT NULL, time TIMESTAMP NOT NULL, label STRING, text STRING NOT NULL"
)
NAMED = (
    "SELECT id, time, label, text, if(index = 1, 'spam', 'ham') AS prediction FROM"
    " __THIS__"
)


def train(posts: DataFrame, library: str) -> Any:
    """Return a model of the words, whose `prediction` is a label.

    It is a model of pyspark.ml, or of scikit-learn if the library is sklearn.
    """
    if library == "sklearn":
        from sklearn import feature_extraction, linear_model, pipeline

        words = feature_extraction.text.HashingVectorizer(
            n_features=4096, alternate_sign=False
        )
        classifier = linear_model.SGDClassifier(loss="log_loss", random_state=0)
        rows = posts.select("text", "label").collect()
        texts = [row.text for row in rows]
        labels = [row.label for row in rows]
        return pipeline.make_pipeline(words, classifier).fit(texts, labels)
    from pyspark.ml import Pipeline, classification, feature  # here, as it needs numpy

    words = feature.RegexTokenizer(inputCol="text", outputCol="words")
    counts = feature.HashingTF(inputCol="words", outputCol="features", numFeatures=1024)
    bayes = classification.NaiveBayes(
        labelCol="answer", predictionCol="index", smoothing=0.1
    )
    stages: Any = [words, counts, bayes, feature.SQLTransformer(statement=NAMED)]
    answered = posts.selectExpr("*", "double(label = 'spam') AS answer")
    return Pipeline(stages=stages).fit(answered)


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: the model goes to MODEL, and what it has learned from to standard error."""
    parser = jobflags.parser(__doc__, "INPUT_DIR", "--profile")
    parser.add_argument(
        "model", metavar="MODEL", help="A local folder of versions of a model."
    )
    parser.add_argument(
        "--library",
        choices=["spark", "sklearn"],
        default="spark",
        help="Default: %(default)s.",
    )
    args = parser.parse_args(argv)
    if args.library == "sklearn":
        need("train_posts", "sklearn", "sklearn")
    else:
        need("train_posts", "sklearn", "numpy")  # for pyspark.ml

    with spark_session("train-posts", **jobflags.for_session(args)) as spark:
        lines = quarantine.parse_json(spark.read.text(args.input_dir), POSTS)
        labelled = quarantine.good_rows(lines).where("label IN ('ham', 'spam')")
        counts = labelled.groupBy("label").count().collect()
        if len(counts) < 2:  # noqa: PLR2004
            parser.error(
                f"{args.input_dir} has no posts with the label ham, or none with spam"
            )
        numbers = " and ".join(
            f"{number:,} {label}" for label, number in sorted(counts)
        )
        version = models.publish(train(labelled, args.library), args.model)
        print(f"learned from {numbers}: {version}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
