"""`train_posts` and `score_posts`: either library, a swap in mid-stream, learning on."""

import pytest
import score_posts
import train_posts

from sparkstream_kit import feeds, models, quarantine, sinks

ROWS = list(feeds.messages_rows(700, seed=2))
KNOWN, NEW = ROWS[:500], ROWS[500:]
SKLEARN = "needs scikit-learn: pip install 'sparkstream-kit[sklearn]'"


def lines(spark, rows):
    return spark.createDataFrame(
        [(feeds.json_line(row),) for row in rows], "value STRING"
    )


def posts(spark, rows):
    return quarantine.good_rows(score_posts.transform(lines(spark, rows)))


def right(labels):
    """Count the posts of NEW whose label was found."""
    return sum(labels[row["id"]] == row["label"] for row in NEW)


@pytest.mark.connect
def test_good_and_bad_lines_are_told_apart(spark):
    rows = [
        *lines(spark, NEW[:5]).collect(),
        ("no post",),
        ('{"id": "1", "text": "x"}',),
    ]
    frame = spark.createDataFrame(rows, "value STRING")
    reasons = [row["_reason"] for row in score_posts.transform(frame).collect()]
    assert [reason is None for reason in reasons] == [True] * 5 + [False] * 2
    assert reasons[-1] == "time: missing"


@pytest.mark.slow
def test_both_libraries_come_close_to_the_best_answer_and_take_turns_in_mid_stream(
    spark, stream, tmp_path
):
    pytest.importorskip("sklearn", reason=SKLEARN)
    spam, out = tmp_path / "spam", tmp_path / "out"
    known = posts(spark, KNOWN)
    models.publish(train_posts.train(known, "sklearn"), spam, "words")
    models.publish(train_posts.train(known, "spark"), spam, "bayes")
    scored = sinks.batch_files(out).taking(models.scorer(spam, features="text"))
    source = stream("value STRING")
    query = stream.query(
        score_posts.transform(source.to_df()), sink=scored.taking(quarantine.good_rows)
    )
    for number, version in enumerate(("bayes", "words", "bayes")):
        models.switch(spam, version)
        source.add_data(lines(spark, NEW[number * 60 : number * 60 + 60]).collect())
        query.step()
    models.switch(spam, "words")
    query.replay()

    found = spark.read.parquet(str(out)).collect()
    assert {(row.batch, row.model_version) for row in found} == {
        (0, "bayes"),
        (1, "words"),
        (2, "bayes"),
    }
    best = right(dict(feeds.messages_truth(NEW)))
    # The same model in a batch run, version by batch
    for version in ("bayes", "words"):
        truth = {
            row.id: row.prediction
            for row in models.score(
                posts(spark, NEW), spam, version=version, features="text"
            ).collect()
        }
        of_stream = {
            row.id: row.prediction for row in found if row.model_version == version
        }
        assert of_stream == {key: truth[key] for key in of_stream}
        assert best * 0.93 < right(truth) <= best + 4


@pytest.mark.slow
def test_the_job_trains_then_scores_and_learns_over_two_runs(
    job, spark, folder, tmp_path
):
    pytest.importorskip("sklearn", reason=SKLEARN)
    labelled, spam, out = tmp_path / "labelled", tmp_path / "spam", tmp_path / "out"
    feeds.drip(
        feeds.line_files(map(feeds.json_line, KNOWN), rows=250, name="known-{}.json"),
        labelled,
    )
    trained = job("python", "train_posts", labelled, spam, "--library", "sklearn")
    spam_posts = sum(row["label"] == "spam" for row in KNOWN)
    assert (
        f"learned from {len(KNOWN) - spam_posts} ham and {spam_posts} spam: {spam}/"
        in trained.stderr
    )
    first = (spam / "current").read_text().strip()

    files = list(
        feeds.line_files(map(feeds.json_line, NEW), rows=50, name="new-{}.json")
    )
    flags = (
        folder,
        spam,
        out,
        "--available-now",
        "--max-files-per-trigger",
        1,
        "--learn",
        "--checkpoint",
    )
    for part in (files[:2], [*files[2:], ("bad.json", "no post\n")]):
        feeds.drip(part, folder)
        assert job("python", "score_posts", *flags, tmp_path / "ckpt").stdout == ""
    found = spark.read.parquet(str(out / "scored")).collect()
    assert sorted(row.id for row in found) == [row["id"] for row in NEW]
    assert {row.model_version for row in found if row.batch == 0} == {first}
    assert len({row.model_version for row in found}) == len(files)
    assert right({row.id: row.prediction for row in found}) > len(NEW) * 0.9
    [bad] = spark.read.parquet(str(out / "bad")).collect()
    assert bad["_raw"] == "no post"


@pytest.mark.slow
def test_the_job_trains_with_pyspark_ml_by_spark_submit(job, spark, folder, tmp_path):
    feeds.drip(
        feeds.line_files(map(feeds.json_line, KNOWN), rows=500, name="known-{}.json"),
        folder,
    )
    spam, out = tmp_path / "spam", tmp_path / "out"
    job("spark-submit", "train_posts", folder, spam)
    job("spark-submit", "score_posts", folder, spam, out, "--available-now")
    assert (
        spark.read.parquet(str(out / "scored")).where("label = prediction").count()
        > 450
    )


@pytest.mark.parametrize(
    ("library", "labels"),
    [
        ("sklearn", ["ham", "ham"]),
        pytest.param("spark", ["spam", "eggs", None], marks=pytest.mark.slow),
    ],
)
def test_training_without_both_labels_is_one_line(
    library, labels, spark, folder, tmp_path, capsys
):
    rows = [row | {"label": label} for row, label in zip(ROWS, labels, strict=False)]
    feeds.drip(
        feeds.line_files(map(feeds.json_line, rows), rows=9, name="known-{}.json"),
        folder,
    )
    assert (
        train_posts.main([str(folder), str(tmp_path / "model"), "--library", library])
        == 2
    )
    [line] = capsys.readouterr().err.splitlines()
    assert f"{folder} has no posts with the label ham, or none with spam" in line
    assert not (tmp_path / "model").exists()


def test_scoring_without_a_model_says_how_to_train_one(spark, capsys, folder, tmp_path):
    assert (
        score_posts.main([str(folder), str(tmp_path / "spam"), str(tmp_path / "out")])
        == 2
    )
    said = "publish one by models.publish, as the job train_posts does\n"
    assert capsys.readouterr().err.endswith(
        f"no model of {tmp_path}/spam is current; {said}"
    )
