"""The test of `score_posts.py`, to change with it: rows in, and what must come out of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from score_posts import transform
from train_posts import train

from sparkstream_kit import quarantine

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparkstream_kit.testing import Streams


def post(number: int, text: str, label: str | None = None) -> tuple[str]:
    return (
        json.dumps(
            {
                "id": str(number),
                "time": "2024-01-01T00:00:00Z",
                "label": label,
                "text": text,
            }
        ),
    )


def test_posts_are_typed_and_bad_lines_have_a_reason(stream: Streams) -> None:
    lines = stream("value STRING")
    query = stream.query(transform(lines.to_df()).select("id", "label", "_reason"))
    lines.add_data([post(1, "win a prize", "spam"), ('{"id": "2"}',)])
    assert query.step()[0].rows == [("1", "spam", None), (None, None, "time: missing")]


def test_a_model_learns_the_words_of_spam(spark: SparkSession) -> None:
    ham = [post(number, "dinner tomorrow", "ham") for number in range(10)]
    spam = [post(number, "win prize now", "spam") for number in range(10, 20)]
    posts = transform(spark.createDataFrame(ham + spam, "value STRING"))
    model = train(quarantine.good_rows(posts), "sklearn")
    assert list(model.predict(["a prize to win", "call me tomorrow"])) == [
        "spam",
        "ham",
    ]
