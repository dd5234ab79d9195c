"""Extra: models that score streams, each by its version, of `pyspark.ml` or of scikit-learn.

A model is a folder to which a `pyspark.ml.PipelineModel` was saved, or a file that
`joblib.dump` wrote, as scikit-learn's guide "Model persistence" describes. Such a file
is a pickle, which runs code when it is read: read no file from a place that you do not
trust, and read it with the versions of Python and scikit-learn that wrote it.

Models that change are kept in a folder of versions, which `publish` makes:

models/spam/1            a folder of pyspark.ml, or 1.joblib
models/spam/2            the next version; versions never change
models/spam/current      the name of the version in use

Use `score` for a fixed version. If the version may change while a query runs, use
`scorer`, which records the version of each batch beside the checkpoint. `learner` makes
a new version from each batch.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit._internal.columns import column, find_column, refuse_taken
from sparkstream_kit._internal.file_system import escaped, for_spark, plain, replace
from sparkstream_kit._internal.spark.batch import id_of_batch
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit.checkpoints.pins import (
    first_kept,
    out_of_reach,
    pinned,
    versions_in_use,
)
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import InvalidInputError, hint, innermost_cause
from sparkstream_kit.sinks.base import BatchSink, Part, Sink, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Opening

__all__ = ["learner", "publish", "score", "scorer", "switch"]


_CURRENT = "current"
_FILE = ".joblib"


def publish(model: Any, path: str | Path, version: str | None = None) -> Path:
    """Save a model as a new version and make it current; readers see no half-done step.

    Args:
        model: a fitted `pyspark.ml.PipelineModel`, or a model of scikit-learn.
        path: a folder of versions on a local path; it is created if it does not exist.
        version: the name of the version, such as "2". An existing version is never
            replaced. Default: the current time (UTC).

    Returns:
        The file or folder of the version.

    Raises:
        InvalidInputError: the path is not local, the version exists or cannot name a
            file, or `model` is not a model.
        MissingExtraError: scikit-learn is not installed.

    Examples:
        >>> publish(None, "models/spam", "1")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: models.publish(): model is None; give a fitted ...
    """
    check(publish, locals())
    folder = _folder_of(path)
    if version is None:
        version = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    _check_new_name(version, folder)
    if type(model).__name__ == "PipelineModel" and hasattr(model, "write"):
        target = folder / version
        hidden = folder / f".{version}.{os.getpid()}.tmp"
        model.write().overwrite().save(for_spark(hidden))
        hidden.rename(target)
    elif hasattr(model, "predict") and not hasattr(model, "write"):
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{version}{_FILE}"
        replace(target, [_pickled(model)])
    else:
        fix = "give a fitted PipelineModel of pyspark.ml, or a model of scikit-learn"
        raise InvalidInputError(f"models.publish(): model is {said(model)}; {fix}")
    switch(folder, version)
    return target


def _check_new_name(version: str, folder: Path) -> None:
    """Refuse the name of a new version that cannot name a file, or that exists."""
    is_taken = version == _CURRENT or version.endswith(_FILE)
    if is_taken or not re.fullmatch(r"\w[\w.-]*", version):
        fix = "use letters, digits, - and _, such as '2'"
        raise InvalidInputError(f"version {version!r} cannot name a file; {fix}")
    if version in _versions_in(folder):
        fix = "give another name, or models.switch to make it current"
        raise InvalidInputError(
            f"version {version} of {folder} exists, and replayed batches are scored by"
            f" it; {fix}"
        )


def switch(path: str | Path, version: str) -> None:
    """Make another version current, such as an earlier one; begun batches keep theirs.

    Args:
        path: a folder of versions on a local path.
        version: the name of an existing version.

    Raises:
        InvalidInputError: the path is not local, or there is no such version.

    Examples:
        In a session::

            models.switch("models/spam", "000001")  # the next batches are scored by it
    """
    check(switch, locals())
    folder = _folder_of(path)
    _refuse_unknown(folder, version)
    replace(folder / _CURRENT, [version + "\n"])


def _folder_of(path: str | Path) -> Path:
    """Return the absolute path of a folder of versions, which must be local."""
    local = plain(str(path))
    if local is None:
        why = "only on a local path does a version become current in one step"
        fix = "give a local one, or score with a fixed version (models.score)"
        raise InvalidInputError(f"models {path}: {why}; {fix}")
    return Path(local).absolute()


def _versions_in(folder: Path) -> list[str]:
    """Return the names of the versions in a folder, sorted; none if there is no folder."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir()]
    return sorted(
        name.removesuffix(_FILE)
        for name in names
        if name != _CURRENT and not name.startswith(".")
    )


def _current(folder: Path) -> str:
    """Return the name of the version in use."""
    file = folder / _CURRENT
    if not file.is_file():
        fix = "publish one by models.publish, as the job train_posts does"
        versions = _versions_in(folder)
        if versions:
            fix = (
                f"make one so by models.switch({str(folder)!r}, …) with one of:"
                f" {', '.join(versions)}"
            )
        raise InvalidInputError(f"no model of {folder} is current; {fix}")
    return file.read_text("utf-8").strip()


def _name_of(query: str) -> str:
    """Return the prefix of the names of all versions that a query learns."""
    return f"learned-{query[:8]}-"


def _learned(version: str, query: str) -> int:
    """Return the last batch that a version of a query has learned; -1 for any other.

    Examples:
        >>> _learned("learned-0f3a9c12-000007", "0f3a9c12-5d1e-4c77-9a55-1f2c3d4e5f60")
        7
        >>> _learned("2", "0f3a9c12-5d1e-4c77-9a55-1f2c3d4e5f60")
        -1
    """
    prefix = _name_of(query)
    if not version.startswith(prefix):
        return -1
    return int(version.removeprefix(prefix))


def _without(batch_id: int, query: str, folder: Path) -> str:
    """Return the version in use, or the query's last one that has not learned the batch.

    The version in use has learned the batch already if the query's checkpoint is older
    than the models.

    Raises:
        InvalidInputError: the query has no version left from before the batch.
    """
    now = _current(folder)
    if _learned(now, query) < batch_id:
        return now
    earlier = [
        name for name in _versions_in(folder) if -1 < _learned(name, query) < batch_id
    ]
    if not earlier:
        why = f"no version is left that has not learned batch {batch_id} of this query"
        fix = (
            f"make one current that has not: models.switch({str(folder)!r}, 'VERSION')"
        )
        raise InvalidInputError(f"models {folder}: {why}; {fix}")
    return max(earlier, key=lambda name: _learned(name, query))


def _version_for(
    query: str, batch_id: int, folder: Path, location: Place | None
) -> str:
    """Return the version by which to score and learn a batch, the same in a replay."""
    choose = partial(_without, batch_id, query, folder)
    if location is None:
        return choose()
    return pinned(location, batch_id, f"model {folder}", choose)


def _refuse_unknown(folder: Path, version: str) -> None:
    """Refuse the name of a version that a folder does not have."""
    versions = _versions_in(folder)
    if version not in versions:
        known = f"; there are: {', '.join(versions) or 'none'}"
        near = hint(version, versions) or known
        raise InvalidInputError(f"{folder} has no version {version!r}{near}")


def _find(
    spark: SparkSession, path: str | Path, version: str | None
) -> tuple[Path | str, str]:
    """Return a model and its version: a `Path` for scikit-learn, a text for Spark."""
    local = plain(str(path))
    if local is not None and Path(local).is_file():
        return Path(local), version or Path(local).name.removesuffix(_FILE)
    place = locate(spark, path)
    if place.folder is None:  # on a file system that only Spark can read
        return place.text, version or place.text.rstrip("/").rpartition("/")[2]
    folder = place.folder
    if (folder / "metadata").is_dir():
        return for_spark(folder), version or folder.name
    if not folder.is_dir():
        fix = "give a folder of pyspark.ml, a file, or a folder of versions"
        raise InvalidInputError(f"no model {path}; {fix}")
    if version is None:
        versions = ", ".join(_versions_in(folder)) or "none"
        fix = "give version=, or use models.scorer for the one that is current"
        raise InvalidInputError(
            f"{path} is no model but a folder of versions ({versions}); {fix}"
        )
    _refuse_unknown(folder, version)
    file = folder / f"{version}{_FILE}"
    if file.is_file():
        return file, version
    return for_spark(folder / version), version


_VERSION = "model_version"
_PREDICTION = "prediction"
# The SQL types of predictions, by the kind of NumPy's type.
_TYPES = {
    "U": "string",
    "O": "string",
    "S": "string",
    "i": "bigint",
    "u": "bigint",
    "b": "boolean",
}


def score(
    frame: DataFrame,
    path: str | Path,
    *,
    version: str | None = None,
    features: str | Sequence[str] | None = None,
) -> DataFrame:
    """Score each row with a fixed version of a model, in batch and streaming alike.

    A model of scikit-learn is read here and sent to Spark's workers with the query. The
    workers need scikit-learn, but not the file.

    Args:
        frame: static or streaming.
        path: a folder of versions, or a model itself. Where this process cannot read
            the disk, as on HDFS, it is the model itself, such as
            "hdfs://nn/models/spam/3".
        version: the version to use from a folder of versions. For a model itself, the
            name to show as its version (default: the name of its file or folder).
        features: for scikit-learn, either one column, whose values the model takes as a
            sequence, such as texts (if a value is null, the prediction is null), or a
            list of columns, which the model takes as a table (a null becomes NaN).
            Default: the columns that the model was fitted with, if it knows them. A
            pipeline of `pyspark.ml` knows its columns.

    Returns:
        The rows with the columns that the pipeline of `pyspark.ml` adds or, for
        scikit-learn, with `prediction` (string, bigint, boolean or double, depending on
        the model's classes), and with `model_version` (string).

    Raises:
        InvalidInputError: there is no such model or version, it cannot be read,
            `features` are not the columns that it was fitted with, the frame has a
            column that scoring adds or lacks one that the model needs, or Spark Connect
            cannot run the model.
        MissingExtraError: scikit-learn is not installed.

    Examples:
        >>> score(None, "models/spam", version="1")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: models.score(): frame is None; give a DataFrame
    """
    check(score, locals())
    return _loaded(frame.sparkSession, path, version, features)(frame)


def scorer(path: str | Path, *, features: str | Sequence[str] | None = None) -> Part:
    """Score each batch with the version that is current when the batch first runs.

    `sink.taking(models.scorer(path))` scores the batches before a sink that works batch
    by batch. The version is recorded beside the checkpoint before the batch is scored,
    so a batch replayed after a crash is scored by the same version. Several scorers of
    one path in a query score a batch with the same version. A query without a
    checkpoint records nothing, because none of its batches can be replayed.

    Args:
        path: a folder of versions on a local path, which `publish` makes.
        features: the column or columns for scikit-learn, as in `score`.

    Returns:
        The argument for `Sink.taking`. Batches get the same columns as from `score`.

    Raises:
        InvalidInputError: the path is not local. When the query starts: any error of
            `score`, no version is current, or the checkpoint is on a Spark Connect
            server elsewhere.
        MissingExtraError: scikit-learn is not installed.

    Examples:
        In a session::

            scorer = models.scorer("models/spam", features="text")
            scored = sinks.batch_files("scored").taking(scorer)
            start(posts, scored, name="score", checkpoint="ckpt")
    """
    check(scorer, locals())
    folder = _folder_of(path)

    def open_part(
        location: Place | None,
    ) -> Callable[[DataFrame, int | None], DataFrame]:
        last_read = _LastRead()
        if location is not None and not location.is_in_reach:
            raise out_of_reach(location, f"model {folder}")

        def take(batch: DataFrame, batch_id: int | None) -> DataFrame:
            if location is None or batch_id is None:
                version = _current(folder)
            else:
                query = id_of_batch(batch, location)
                version = _version_for(query, batch_id, folder, location)
            if version not in last_read:
                last_read.clear()
                last_read[version] = _loaded(
                    batch.sparkSession, for_spark(folder), version, features
                )
            scored = last_read[version]
            return scored(batch)

        return take

    return Part(open_part)


class _LastRead(dict[str, "Callable[[DataFrame], DataFrame]"]):
    """The last model that was read, by its version; left out of a pickled function."""

    def __reduce__(self) -> tuple[type[_LastRead], tuple[()]]:
        return _LastRead, ()


def _loaded(
    spark: SparkSession,
    path: str | Path,
    version: str | None,
    features: str | Sequence[str] | None,
) -> Callable[[DataFrame], DataFrame]:
    """Read a model, and return the function that scores a frame by it."""
    model, name = _find(spark, path, version)
    if isinstance(model, Path):
        transform = _of_sklearn(model, features)
    else:
        transform = _of_spark(spark, model)

    def scored(frame: DataFrame) -> DataFrame:
        refuse_taken(frame.columns, [_VERSION], "scoring")
        return transform(frame).withColumn(_VERSION, F.lit(name))

    return scored


def _of_spark(spark: SparkSession, path: str) -> Callable[[DataFrame], DataFrame]:
    """Return a function that scores a frame by a pipeline of `pyspark.ml`."""
    from pyspark.ml import PipelineModel

    try:
        model = PipelineModel.read().session(spark).load(escaped(path))
    except Exception as err:
        fix = (
            "give a folder that a PipelineModel was saved to:"
            " pipeline.fit(frame).write().save(folder)"
        )
        raise InvalidInputError(
            f"cannot read the model in {path} ({innermost_cause(err)}); {fix}"
        ) from err

    def transform(frame: DataFrame) -> DataFrame:
        try:
            result: DataFrame = model.transform(frame)
            result.schema  # noqa: B018 - Connect resolves the columns only here
        except Exception as err:
            why = (
                f"the model in {path} cannot score these columns"
                f" ({innermost_cause(err)})"
            )
            fix = "give it those that it was fitted with, and none that it adds"
            raise InvalidInputError(f"{why}; {fix}") from err
        return result

    return transform


def _of_sklearn(
    file: Path, features: str | Sequence[str] | None
) -> Callable[[DataFrame], DataFrame]:
    """Return a function that scores a frame by a model of scikit-learn."""
    model = _sklearn_model(file)
    columns = _feature_columns(file, model, features)
    is_one_column = isinstance(features, str)
    predict = _prediction_udf(
        file.read_bytes(), _prediction_type(model), of_one_column=is_one_column
    )

    def transform(frame: DataFrame) -> DataFrame:
        for name in columns:
            find_column(frame, name)
        refuse_taken(frame.columns, [_PREDICTION], "scoring")
        values = [column(name) for name in columns]
        if is_one_column:
            return frame.withColumn(_PREDICTION, predict(values[0]))
        return frame.withColumn(_PREDICTION, predict(F.struct(*values)))

    return transform


def _feature_columns(
    file: Path, model: Any, features: str | Sequence[str] | None
) -> list[str]:
    """Return the columns that a model takes: `features`, or those that it was fitted with.

    Raises:
        InvalidInputError: the model was fitted with other columns, or neither says
            which columns they are.
    """
    fitted = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if features is None and not fitted:
        fix = "give features='text' for a column of values, or a list of columns"
        raise InvalidInputError(f"{file} does not say which columns it takes; {fix}")
    if isinstance(features, str):
        columns = [features]
    else:
        columns = list(features or fitted)
    if fitted and columns != fitted:
        why = f"{file} was fitted with the columns {', '.join(fitted)}, in this order"
        raise InvalidInputError(f"{why}; give features={fitted}, or leave it out")
    return columns


def _prediction_type(model: Any) -> str:
    """Return the SQL type of a model's predictions: that of its classes, or `double`."""
    numpy_type = getattr(getattr(model, "classes_", None), "dtype", None)
    if numpy_type is None:
        return "double"
    return _TYPES.get(numpy_type.kind, "double")


def _prediction_udf(data: bytes, sql_type: str, *, of_one_column: bool) -> Any:
    """Return a pandas UDF that predicts with the model in `data`, the bytes of its file.

    Spark passes it batches of a column as Series, and those of a struct as DataFrames.
    """
    from collections.abc import Iterator as Many

    import pandas as pd  # type: ignore[import-untyped]
    from pyspark.sql.pandas.functions import pandas_udf

    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        return _predictions(data, batches)

    batch_type: Any = pd.Series if of_one_column else pd.DataFrame
    predict.__annotations__ = {"batches": Many[batch_type], "return": Many[pd.Series]}
    to_udf: Any = pandas_udf  # its overloads name no iterators without their types
    return to_udf(predict, sql_type)


def _predictions(data: bytes, batches: Iterator[Any]) -> Iterator[Any]:
    """Predict in a worker of Spark; a row whose single feature is null gets null."""
    import pandas as pd

    model = _unpickled(data)
    for batch in batches:
        if batch.ndim == 1:
            has_value = batch.notna()
        else:
            has_value = pd.Series(data=True, index=batch.index)
        predictions: Any = pd.Series(
            [None] * len(batch), index=batch.index, dtype=object
        )
        if has_value.any():
            predictions[has_value] = model.predict(batch[has_value]).tolist()
        yield predictions


def _joblib() -> Any:
    """Return joblib, the library that reads and writes models of scikit-learn."""
    # The pickles name the second one
    need("a model of scikit-learn", "sklearn", "joblib", "sklearn")
    import joblib

    return joblib


@lru_cache(maxsize=4)  # in each Python worker, which Spark uses for many tasks
def _unpickled(data: bytes) -> Any:
    """Load a model from the bytes of its file; this runs the code that is pickled in them."""
    return _joblib().load(io.BytesIO(data))


def _pickled(model: Any) -> bytes:
    """Return a model as the bytes of a file."""
    buffer = io.BytesIO()
    _joblib().dump(model, buffer)
    return buffer.getvalue()


def _sklearn_model(file: Path | str) -> Any:
    """Read a scikit-learn model for a learner, which changes it: not from the cache."""
    if not isinstance(file, Path):
        fix = "give one of scikit-learn"
        raise InvalidInputError(
            f"{file} is a model of pyspark.ml, which cannot learn; {fix}"
        )
    joblib = _joblib()
    try:
        model = joblib.load(file)
    except Exception as err:
        fix = "write it by models.publish, or by joblib.dump(model, file)"
        raise InvalidInputError(
            f"cannot read the model in {file} ({innermost_cause(err)}); {fix}"
        ) from err
    if not hasattr(model, "predict"):
        fix = "give a model of scikit-learn"
        raise InvalidInputError(
            f"{file} holds {said(model)}, which cannot predict; {fix}"
        )
    return model


def _last_step(model: Any) -> tuple[Any, Any]:
    """Split a model before its last step, which must be able to learn."""
    if hasattr(model, "steps"):
        steps = model[:-1]
        last = model[-1]
    else:
        steps = ()
        last = model
    if not hasattr(last, "partial_fit"):
        fix = "choose one that has, such as SGDClassifier"
        raise InvalidInputError(
            f"{said(last)} has no partial_fit and cannot learn from batches; {fix}"
        )
    return steps, last


def learner(
    path: str | Path,
    *,
    features: str | Sequence[str],
    label: str,
    classes: Sequence[str] | None = None,
    first: Any = None,
) -> Sink:
    """Learn from each batch with scikit-learn, which makes a new current version.

    A batch continues from the version that was current when the batch first ran, which
    is recorded beside the checkpoint, and makes a version named after the query and the
    batch. So a batch replayed after a crash makes the same version again and is not
    learned twice. If a checkpoint is older than the models, as after a restore from a
    backup, a batch continues from the query's last version that has not learned it. In
    a `fan_out` with a sink that takes a `scorer` of the same path, a batch is scored by
    the model that has not learned it yet, whichever of the two sinks comes first.

    Rows without a label, or without a value in a single column of features, are not
    learned. All other rows pass through the driver's memory. For a replay to make the
    same model, rows must come in the same order, as from files, and the model must not
    draw random numbers without a seed. Learned versions are removed as Spark removes
    its commits, so about 100 of them are kept.

    Delivery: each batch is learned once.

    Args:
        path: a folder of versions on a local path, for models of scikit-learn whose
            last step has `partial_fit`. The steps before it are not fitted further.
        features: one column of values, such as texts, or a list of columns; as in
            `score`.
        label: the column with the true answer.
        classes: for a classifier, all labels that can ever occur. Default: those that
            the model knows.
        first: a model to begin with if the folder has no current version.

    Returns:
        A sink for queries in append mode, with a checkpoint on a local path.

    Raises:
        InvalidInputError: the path is not local. When the query starts: there is no
            model, the model has no `partial_fit`, or a column is missing.
        MissingExtraError: scikit-learn is not installed.

    Examples:
        In a session::

            learned = models.learner(
                "models/spam", features="text", label="label", classes=["ham", "spam"]
            )
            scorer = models.scorer("models/spam", features="text")
            scored = sinks.batch_files("scored").taking(scorer)
            start(posts, sinks.fan_out(scored, learned), name="posts", checkpoint="ckpt")
    """
    check(learner, locals())
    folder = _folder_of(path)
    lesson = _Lesson(folder, features, label, classes)

    def open_learner(
        frame: DataFrame, location: Place | None, opening: Opening
    ) -> Write:
        if first is not None and not (folder / _CURRENT).exists():
            if not opening.makes:
                return lambda *_: None
            _begin_with(first, folder)
        lesson.check(frame)

        def write(batch: DataFrame, batch_id: int) -> None:
            lesson.learn(batch, batch_id, location)

        return write

    return BatchSink(
        kind="learner",
        modes=("append",),
        promise="each batch is learned once",
        after_rewind="learns from the model as it was before the replayed batch",
        advice="a row is to be learned once: use append",
        needs_checkpoint=True,
        writes_to=(
            Target("folder", os.path.realpath(folder), os.path.realpath(folder)),
        ),
        open=open_learner,
    )


def _begin_with(model: Any, folder: Path) -> None:
    """Publish the model with which a learner begins, as the version "first"."""
    # An earlier start was killed before it made it current
    if (folder / f"first{_FILE}").exists():
        switch(folder, "first")
    else:
        publish(model, folder, "first")


@dataclass(frozen=True)
class _Lesson:
    """What a learner learns from each batch, and where it keeps the versions."""

    folder: Path
    features: str | Sequence[str]
    label: str
    classes: Sequence[str] | None

    @property
    def columns(self) -> list[str]:
        """The columns with features."""
        if isinstance(self.features, str):
            return [self.features]
        return list(self.features)

    def check(self, frame: DataFrame) -> None:
        """Refuse a frame without the columns, and a model that cannot learn."""
        for name in (*self.columns, self.label):
            find_column(frame, name)
        _last_step(self.model(frame.sparkSession, _current(self.folder)))

    def model(self, spark: SparkSession, version: str) -> Any:
        """Read the model of a version."""
        file, _ = _find(spark, for_spark(self.folder), version)
        return _sklearn_model(file)

    def rows(self, batch: DataFrame) -> Any:
        """Return the rows of a batch to learn from, as a DataFrame of pandas."""
        names = dict.fromkeys([*self.columns, self.label])  # each once
        rows: Any = batch.select(*map(column, names)).toPandas()
        needed = [self.label]
        if isinstance(self.features, str):
            needed.append(self.features)
        return rows.dropna(subset=needed)

    def learn(self, batch: DataFrame, batch_id: int, location: Place | None) -> None:
        """Make a version that has learned a batch, and make it current."""
        folder = self.folder
        query = id_of_batch(batch, location)
        current = _current(folder)
        base = _version_for(query, batch_id, folder, location)
        rows = self.rows(batch)
        if rows.empty:
            return
        model = self.model(batch.sparkSession, base)
        if isinstance(self.features, str):
            features = rows[self.features]
        else:
            features = rows[self.columns]
        _learn(model, features, rows[self.label], self.classes)
        version = f"{_name_of(query)}{batch_id:06}"
        replace(folder / f"{version}{_FILE}", [_pickled(model)])
        # Do not switch if somebody has published another version meanwhile: that one is
        # to stay current.
        is_replay = _learned(current, query) >= batch_id
        if _current(folder) == current and (current == base or is_replay):
            switch(folder, version)
        if location is not None:
            _remove_old(folder, query, location)


def _remove_old(folder: Path, query: str, location: Place) -> None:
    """Remove a query's versions that no batch can need again, except those in use."""
    # Batches without labels make no version, so the version a replay needs may be older
    # than all the others.
    used = {_current(folder), *versions_in_use(location, f"model {folder}")}
    first = first_kept(location) - 1
    for old in folder.glob(f"{_name_of(query)}*{_FILE}"):
        if _learned(old.stem, query) < first and old.stem not in used:
            old.unlink()


def _learn(model: Any, rows: Any, labels: Any, classes: Sequence[str] | None) -> None:
    """Let the last step of a model learn rows, as the steps before it give them."""
    steps, last = _last_step(model)
    if len(steps):
        rows = steps.transform(rows)
    if classes is None:
        classes = getattr(last, "classes_", None)
    if classes is None:
        last.partial_fit(rows, labels.to_numpy())
    else:
        last.partial_fit(rows, labels.to_numpy(), classes=classes)
