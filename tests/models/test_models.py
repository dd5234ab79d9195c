"""Models: both libraries, versions, what a replay is scored with, and what is learned once."""

import json
import os
import re
import shutil

import pytest
from conftest import refusal
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer, Tokenizer

from sparkstream_kit import checkpoints, feeds, models, run, sinks, sources, start
from sparkstream_kit._internal.spark.place import Place
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import clone
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks.base import Opening

POSTS = "id STRING, time STRING, label STRING, text STRING"
ROWS = list(feeds.messages_rows(300, seed=1))


def says(word):
    """Return a pipeline of pyspark.ml that needs no training."""
    statement = "SELECT *, 'WORD' AS says FROM __THIS__".replace("WORD", word)
    return PipelineModel(stages=[SQLTransformer(statement=statement)])


@pytest.fixture(scope="session")
def trained():
    """Train a model of scikit-learn on so many posts."""
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import SGDClassifier
        from sklearn.pipeline import make_pipeline
    except ImportError:
        pytest.skip("needs scikit-learn: pip install 'sparkstream-kit[sklearn]'")

    def train(count):
        words = HashingVectorizer(n_features=256, alternate_sign=False)
        model = make_pipeline(words, SGDClassifier(random_state=0))
        return model.fit(
            [row["text"] for row in ROWS[:count]],
            [row["label"] for row in ROWS[:count]],
        )

    return train


def learn(model, rows):
    """Let a model learn rows, as `learner` does."""
    model[-1].partial_fit(
        model[0].transform([row["text"] for row in rows]),
        [row["label"] for row in rows],
    )


def current(path):
    """Return the current model of a folder of versions."""
    import joblib

    return joblib.load(path / f"{(path / 'current').read_text().strip()}.joblib")


def kept(stream):
    """Return the folder of the pins of the test's query."""
    return next(stream.folder.glob("*/checkpoint/sparkstream-kit/pins"))


def versions_by_batch(spark, path):
    rows = (
        spark.read.parquet(str(path))
        .select("batch", "model_version")
        .distinct()
        .collect()
    )
    return sorted(map(tuple, rows))


# --- a fixed version


@pytest.mark.slow
@pytest.mark.connect
def test_a_model_of_scikit_learn_scores_streams_as_it_scores_here(
    spark, stream, trained, tmp_path
):
    model = trained(200)
    models.publish(model, tmp_path / "spam", "1")
    rows = [*ROWS[200:230], {**ROWS[0], "id": "none", "text": None}]
    static = models.score(
        spark.createDataFrame(rows, POSTS),
        tmp_path / "spam",
        version="1",
        features="text",
    )
    assert static.columns == [*ROWS[0], "prediction", "model_version"]
    expected = {
        row["id"]: model.predict([row["text"]])[0] for row in rows if row["text"]
    } | {"none": None}
    assert {row.id: row.prediction for row in static.collect()} == expected
    assert {row.model_version for row in static.collect()} == {"1"}

    posts = stream(POSTS)
    query = stream.query(
        models.score(
            posts.to_df(), tmp_path / "spam" / "1.joblib", version="A", features="text"
        )
    )
    posts.add_data(rows)
    [batch] = query.step()
    assert {(row.id, row.prediction) for row in batch.rows} == set(expected.items())
    assert {row.model_version for row in batch.rows} == {"A"}


@pytest.mark.slow
def test_a_model_over_columns_gets_them_by_name_and_nulls_as_nan(
    spark, trained, tmp_path
):
    import pandas as pd  # type: ignore[import-untyped]
    from sklearn.tree import DecisionTreeRegressor

    table = pd.DataFrame({"a.b": [0.0, 1.0, 2.0, None], "c `d": [1, 1, 1, 1]})
    models.publish(
        DecisionTreeRegressor(random_state=0).fit(table, [0.0, 10.0, 20.0, 99.0]),
        tmp_path,
        "1",
    )
    rows = [(0, 1, 0.0), (1, 1, 2.0), (2, 1, None)]
    frame = spark.createDataFrame(rows, "id INT, `c ``d` INT, `a.b` DOUBLE")
    scored = models.score(frame, tmp_path, version="1").orderBy("id").collect()
    assert [(row.id, row.prediction) for row in scored] == [
        (0, 0.0),
        (1, 20.0),
        (2, 99.0),
    ]
    other_order = refusal(
        models.score, frame, tmp_path, version="1", features=["c `d", "a.b"]
    )
    assert (
        "was fitted with the columns a.b, c `d, in this order; give features="
        in other_order
    )
    with pytest.raises(
        InvalidInputError, match="there is no column a.b; the columns are: id"
    ):
        models.score(frame.select("id"), tmp_path, version="1")


@pytest.mark.connect
def test_a_pipeline_of_pyspark_ml_scores_and_says_its_version(spark, tmp_path):
    models.publish(says("hello"), tmp_path / "greeting", "2024-01-01")
    scored = models.score(
        spark.range(2).toDF("id"), tmp_path / "greeting", version="2024-01-01"
    ).collect()
    assert {tuple(row) for row in scored} == {
        (each, "hello", "2024-01-01") for each in (0, 1)
    }
    alone = models.score(
        spark.range(1).toDF("id"), tmp_path / "greeting" / "2024-01-01"
    )
    assert [tuple(row) for row in alone.collect()] == [(0, "hello", "2024-01-01")]


@pytest.mark.slow
def test_what_cannot_score_is_said_in_one_line(spark, tmp_path):
    frame, folder = spark.range(1).toDF("id"), tmp_path / "versions"
    models.publish(says("hello"), folder, "one")
    (folder / "broken").mkdir()
    (folder / "torn.joblib").write_bytes(b"\x80not a pickle")

    def score(path, version=None, given=frame):
        return refusal(models.score, given, path, version=version)

    assert score(tmp_path / "none").startswith(
        f"no model {tmp_path}/none; give a folder of pyspark.ml"
    )
    of_versions = (
        f"{folder} is no model but a folder of versions (broken, one, torn); give"
        " version="
    )
    assert score(folder).startswith(of_versions)
    assert score(folder, "onne") == f"{folder} has no version 'onne'; did you mean one?"
    assert score(folder, "broken").startswith(
        f"cannot read the model in file://{folder}/broken ("
    )
    taken = frame.withColumn("model_version", frame.id)
    assert score(folder, "one", taken).startswith(
        "column model_version exists already; rename or drop it"
    )
    twice = refusal(models.publish, says("other"), folder, "one")
    assert twice.startswith(
        f"version one of {folder} exists, and replayed batches are scored by it"
    )
    assert refusal(models.publish, says("x"), folder, "a/b").startswith(
        "version 'a/b' cannot name a file"
    )
    assert refusal(models.publish, 3, folder, "two").startswith(
        "models.publish(): model is 3; give a"
    )
    refusal(models.publish, 3, tmp_path / "new", "1")
    assert not (tmp_path / "new").exists()
    assert "give a fitted PipelineModel" in refusal(models.publish, Tokenizer(), folder)
    assert refusal(models.switch, folder, "two").startswith(
        f"{folder} has no version 'two'; there are:"
    )
    (folder / "current").unlink()
    none_is_current = refusal(models.scorer(folder).open(None), frame, None)
    assert (
        f"make one so by models.switch('{folder}', …) with one of: broken, one, torn"
        in none_is_current
    )
    assert refusal(models.scorer, "s3a://models/spam").startswith(
        "models s3a://models/spam: only on a"
    )
    said = refusal(models.scorer(folder).open, Place("ckpt"))  # of a server elsewhere
    assert said.startswith(
        f"model {folder}: its version for each batch is kept beside the checkpoint"
    )
    take = models.scorer(tmp_path / "none").open(None)
    assert refusal(take, frame, None).startswith(
        f"no model of {tmp_path}/none is current; publish"
    )


def test_a_pipeline_that_lacks_its_columns_or_adds_one_that_is_there_is_said_in_one_line(
    spark, tmp_path
):
    words = PipelineModel(stages=[Tokenizer(inputCol="text", outputCol="words")])
    folder = models.publish(words, tmp_path / "words", "1")
    for frame, why in (
        (spark.createDataFrame([], "other STRING"), "text"),
        (spark.createDataFrame([], "text STRING, words STRING"), "words"),
    ):
        said = refusal(models.score, frame, folder)
        assert re.match(
            rf"the model in file://{folder} cannot score these columns"
            rf" \(.*\b{why}\b.*\); give",
            said,
        )


def test_a_file_that_holds_no_model_is_said_in_one_line(spark, trained, tmp_path):
    joblib = pytest.importorskip("joblib")
    file = tmp_path / "torn.joblib"
    file.write_bytes(b"\x80not a pickle")
    said = refusal(models.score, spark.range(1), file, features="id")
    assert said.startswith(f"cannot read the model in {file} (")
    assert "; write it by models.publish" in said
    joblib.dump({"a": 1}, file)
    said = refusal(models.score, spark.range(1), file, features="id")
    assert (
        said
        == f"{file} holds a dict, which cannot predict; give a model of scikit-learn"
    )
    file = models.publish(trained(100), tmp_path / "spam", "1")
    said = refusal(models.score, spark.range(1), file)
    assert "does not say which columns it takes; give features='text' for" in said


# --- a version that changes


@pytest.mark.slow
def test_a_batch_that_comes_again_is_scored_by_the_version_that_it_had(
    spark, stream, tmp_path
):
    models.publish(says("ham"), tmp_path / "spam", "1")
    models.publish(says("spam"), tmp_path / "spam", "2")
    models.switch(tmp_path / "spam", "1")
    out, also = tmp_path / "out", tmp_path / "also"
    seen: list[str] = []
    each_time = sinks.foreach_batch(
        lambda batch, _: seen.extend(row.model_version for row in batch.collect())
    )
    scored = sinks.fan_out(
        sinks.batch_files(out), sinks.batch_files(also), each_time
    ).taking(models.scorer(tmp_path / "spam"))
    numbers = stream("n INT")
    query = stream.query(numbers.to_df(), sink=scored)
    for number in range(2):
        numbers.add_data([(number,)])
        query.step()
    models.switch(tmp_path / "spam", "2")
    query.replay()
    assert versions_by_batch(spark, out) == [(0, "1"), (1, "1")]
    numbers.add_data([(2,)])
    query.step()
    models.switch(tmp_path / "spam", "1")
    query.replay()
    assert (
        versions_by_batch(spark, out)
        == versions_by_batch(spark, also)
        == [(0, "1"), (1, "1"), (2, "2")]
    )
    for row in spark.read.parquet(str(out)).collect():
        assert row.says == {"1": "ham", "2": "spam"}[row.model_version]

    # The pin is what holds it: without it the batch is scored by the version that is
    # current now.
    (kept(stream) / "2").unlink()
    query.replay()
    assert seen == ["1", "1", "1", "2", "2", "1"]
    # A directory that is there stays
    assert versions_by_batch(spark, out)[-1] == (2, "2")


@pytest.mark.slow
def test_a_scorer_whose_version_has_gone_says_so(spark, stream, tmp_path):
    models.publish(says("ham"), tmp_path / "spam", "1")
    scored = sinks.batch_files(tmp_path / "out").taking(
        models.scorer(tmp_path / "spam")
    )
    numbers = stream("n INT")
    query = stream.query(numbers.to_df(), sink=scored)
    numbers.add_data([(0,)])
    query.step()
    models.publish(says("spam"), tmp_path / "spam", "2")
    (tmp_path / "spam" / "1").rename(tmp_path / "gone")
    query.kill_before_commit()
    with pytest.raises(QueryFailed, match="spam has no version '1'; there are: 2"):
        query.step()


# --- a model that learns


@pytest.mark.slow
def test_a_batch_is_scored_then_learned_once_whatever_comes_again(
    spark, stream, trained, tmp_path
):
    first, path = trained(20), tmp_path / "spam"
    batches = [
        [*ROWS[at : at + 20], {**ROWS[0], "id": "unlabelled", "label": None}]
        for at in (20, 40, 60)
    ]

    learner = models.learner(
        path, features="text", label="label", classes=["ham", "spam"], first=first
    )
    scored = sinks.batch_files(tmp_path / "out").taking(
        models.scorer(path, features="text")
    )
    posts = stream(POSTS)
    query = stream.query(posts.to_df(), sink=sinks.fan_out(learner, scored))
    for number, rows in enumerate(batches):
        posts.add_data(rows)
        query.step()
        if number:
            query.replay()
        if number == 1:
            query.restart()
            query.replay()

    query.restart()
    checkpoints.rewind(kept(stream).parents[1], to=0, apply=True)
    for batch in (1, 2):  # as the refusal of `batch_files` says
        shutil.rmtree(tmp_path / "out" / f"batch={batch:06}")
    query.step()

    # What it must be: a model that learned each batch once, and scored it before.
    model = trained(20)
    for number, rows in enumerate(batches):
        found = spark.read.parquet(
            str(tmp_path / "out" / f"batch={number:06}")
        ).collect()
        assert {row.id: row.prediction for row in found} == {
            row["id"]: model.predict([row["text"]])[0] for row in rows
        }
        learn(model, [row for row in rows if row["label"]])
    assert (current(path)[-1].coef_ == model[-1].coef_).all()
    origins = [
        version.split("-")[0]
        for _, version in versions_by_batch(spark, tmp_path / "out")
    ]
    assert origins == ["first", "learned", "learned"]

    # Somebody's own version stays current, and the next batch is learned from it.
    models.publish(trained(40), path, "mine")
    posts.add_data(ROWS[80:90])
    query.replay()
    assert versions_by_batch(spark, tmp_path / "out")[-1] == (3, "mine")


def test_a_learner_killed_before_its_first_model_was_the_current_one_starts_again(
    stream, trained, tmp_path
):
    first = trained(20)
    models.publish(first, tmp_path / "spam", "first")
    (tmp_path / "spam" / "current").unlink()
    posts = stream(POSTS)
    learner = models.learner(
        tmp_path / "spam", features="text", label="label", first=first
    )
    posts.add_data(ROWS[20:25])
    [batch] = stream.query(posts.to_df(), sink=learner).step()
    assert len(batch.rows) == 5
    assert (tmp_path / "spam" / "current").read_text("utf-8").endswith("-000000\n")


@pytest.mark.fast("2")
@pytest.mark.parametrize("older", [1, 2])
def test_a_checkpoint_that_is_older_than_the_models_learns_no_batch_twice(
    spark, trained, tmp_path, older
):
    path, checkpoint = tmp_path / "spam", tmp_path / "ckpt"
    (tmp_path / "in").mkdir()
    landed = 20

    def land_and_learn(count):
        nonlocal landed
        lines = (json.dumps(row) + "\n" for row in ROWS[landed : landed + count])
        (tmp_path / "in" / f"{landed:03}.json").write_text("".join(lines))
        landed += count
        posts = sources.json(spark, tmp_path / "in", schema=POSTS)
        learner = models.learner(
            path, features="text", label="label", first=trained(20)
        )
        run(
            start(
                posts, learner, name="learned", checkpoint=checkpoint, availableNow=True
            )
        )

    land_and_learn(5)
    backup = clone(checkpoint, tmp_path / "backup")
    for _ in range(older):
        land_and_learn(5)
    shutil.rmtree(checkpoint)
    clone(backup, checkpoint)
    land_and_learn(5)  # with what landed since the backup, as one batch

    model = trained(20)
    for first, last in ((20, 25), (25, landed)):
        learn(model, ROWS[first:last])
    # How many rows it has learned; their order is Spark's
    assert current(path)[-1].t_ == model[-1].t_


@pytest.mark.slow
def test_a_version_that_a_batch_may_need_again_is_kept_whatever_its_age(
    spark, stream, trained, tmp_path
):
    path, key = tmp_path / "spam", "spark.sql.streaming.minBatchesToRetain"
    learner = models.learner(path, features="text", label="label", first=trained(20))
    posts = stream(POSTS)
    query = stream.query(posts.to_df(), sink=learner)
    unlabelled = {**ROWS[0], "label": None}
    with in_force(spark, {key: "2"}):
        for batch in (ROWS[20:25], *[[unlabelled]] * 6, ROWS[25:30]):
            posts.add_data(batch)
            query.step()
        assert not {"0", "1", "2", "3"} & {pin.name for pin in kept(stream).iterdir()}
        # Batch 7 is made of batch 0's version, which is older than all batches kept.
        [again] = query.replay()
        assert again.batch_id == 7
        [base] = path.glob("learned-*-000000.joblib")
        for number in range(8, 14):
            posts.add_data(ROWS[number : number + 1])
            query.step()
    assert not base.exists()  # no batch that may come again needs it any more
    assert len(list(path.glob("learned-*"))) < 6


def test_what_cannot_learn_is_said_in_one_line(stream, trained, tmp_path):
    from sklearn.neighbors import KNeighborsClassifier

    posts = stream(POSTS).to_df()

    def refused(path, label="label", first=None):
        learner = models.learner(path, features="text", label=label, first=first)
        assert isinstance(learner, sinks.BatchSink)
        return refusal(learner.open, posts, None, Opening())

    assert refused(tmp_path / "a").startswith(
        f"no model of {tmp_path}/a is current; publish one by models.pub"
    )
    assert (
        refused(tmp_path / "b", first=trained(30), label="lable")
        == "there is no column lable; did you mean label?"
    )
    said = (
        "a sklearn.KNeighborsClassifier has no partial_fit and cannot learn from"
        " batches; choose"
    )
    assert refused(tmp_path / "c", first=KNeighborsClassifier()).startswith(said)
    models.publish(says("ham"), tmp_path / "d", "1")
    assert (
        "is a model of pyspark.ml, which cannot learn; give one of scikit-learn"
        in refused(tmp_path / "d")
    )


def test_a_version_appears_whole_and_leaves_nothing_behind(tmp_path, trained):
    file = models.publish(trained(30), tmp_path / "spam")
    assert sorted(os.listdir(tmp_path / "spam")) == [  # noqa: PTH208
        file.name,
        "current",
    ]
    assert (tmp_path / "spam" / "current").read_text() == f"{file.stem}\n"
