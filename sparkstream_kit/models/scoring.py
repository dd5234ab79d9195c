"""`score` with a fixed version, and `scorer` with that which is current when a batch comes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column, find_column, refuse_taken
from sparkstream_kit._files import escaped, for_spark
from sparkstream_kit._spark.batch import id_of_batch
from sparkstream_kit.errors import InvalidInputError, innermost_cause
from sparkstream_kit.models.estimators import sklearn_model, unpickled
from sparkstream_kit.models.versions import current, find, folder_of, without
from sparkstream_kit.sinks.base import Part
from sparkstream_kit.sinks.ledger import pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.place import Place

__all__ = ["score", "scorer"]

_VERSION, _PREDICTION = "model_version", "prediction"
# What NumPy calls the types of predictions.
_TYPES = {"U": "string", "O": "string", "S": "string", "i": "bigint", "u": "bigint", "b": "boolean"}


def score(
    frame: DataFrame,
    path: str | Path,
    *,
    version: str | None = None,
    features: str | Sequence[str] | None = None,
) -> DataFrame:
    """Score each row with a fixed version of a model; a plain transform, for batch and streaming alike.

    A model of scikit-learn is read here and goes to Spark's workers with the query; they need scikit-learn,
    but not the file.

    Args:
        frame: static or streaming.
        path: a folder of versions, or a model itself.
        version: which version, of a folder of versions; for a model itself, what to call it (its name).
        features: for scikit-learn, a column whose values the model takes one by one, such as texts (where it
            is null, the prediction is null), or a list of columns that it takes as a table (a null comes as
            NaN). Default: the columns that the model was fitted with, if it knows them. A pipeline of
            `pyspark.ml` knows its columns.

    Returns:
        The rows with the columns that the pipeline of `pyspark.ml` adds, or with `prediction` (string,
        bigint, boolean or double, as the model's classes are), and with `model_version` (string).

    Raises:
        InvalidInputError: there is no such model or version, it cannot be read, the frame lacks a column that
            it needs or has one that it adds, or Spark Connect cannot run it.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> score(None, "models/spam", version="1")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: models.score(): frame is None; give a DataFrame ...
    """
    check(score, locals())
    spark = frame.sparkSession
    model, name = find(spark, path, version)
    return _loaded(spark, model, name, features)(frame)


def scorer(path: str | Path, *, features: str | Sequence[str] | None = None) -> Part:
    """Score each batch with the version that is current when it first comes.

    `sink.taking(models.scorer(path))` does so before a sink that works batch by batch. The version is
    written beside the checkpoint before the batch is scored, so that a batch that comes again after a crash
    is scored as it was. Several scorers of one path in a query score a batch with the same version. In a
    query without a checkpoint nothing comes again, and nothing is written.

    Args:
        path: a folder of versions on a local path, which `publish` makes.
        features: as in `score`.

    Returns:
        What `Sink.taking` takes. Batches come out as from `score`.

    Raises:
        InvalidInputError: the path is not local, or, when the query starts, as `score`; or the checkpoint is
            on a Spark Connect server elsewhere.
        MissingExtraError: scikit-learn is not installed.

    Example:
        In a session::

            scored = sinks.batch_files("scored").taking(models.scorer("models/spam", features="text"))
            start(posts, scored, name="score", checkpoint="ckpt")
    """
    check(scorer, locals())
    folder = folder_of(path)

    def open_part(location: Place | None) -> Callable[[DataFrame, int | None], DataFrame]:
        kept = _Kept()

        def take(batch: DataFrame, batch_id: int | None) -> DataFrame:
            if location is None or batch_id is None:
                version = current(folder)
            else:
                query = id_of_batch(batch, location)
                choose = partial(without, batch_id, query, folder)
                version = pinned(location, batch_id, f"model {folder}", choose)
            if version not in kept:
                model, name = find(batch.sparkSession, for_spark(folder), version)
                kept.clear()
                kept[version] = _loaded(batch.sparkSession, model, name, features)
            return kept[version](batch)

        return take

    return Part(open_part)


class _Kept(dict[str, "Callable[[DataFrame], DataFrame]"]):
    """The model that was read last; where a query's function is pickled it stays behind."""

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def _loaded(
    spark: SparkSession, model: Path | str, version: str, features: str | Sequence[str] | None
) -> Callable[[DataFrame], DataFrame]:
    transform = _of_sklearn(model, features) if isinstance(model, Path) else _of_spark(spark, model)

    def scored(frame: DataFrame) -> DataFrame:
        refuse_taken(frame.columns, [_VERSION], "scoring")
        return transform(frame).withColumn(_VERSION, F.lit(version))

    return scored


def _of_spark(spark: SparkSession, path: str) -> Callable[[DataFrame], DataFrame]:
    from pyspark.ml import PipelineModel

    try:
        model = PipelineModel.read().session(spark).load(escaped(path))
    except Exception as err:
        raise InvalidInputError(
            f"cannot read the model in {path} ({innermost_cause(err)}); give a folder that a PipelineModel "
            "was saved to: pipeline.fit(frame).write().save(folder)"
        ) from err

    def transform(frame: DataFrame) -> DataFrame:
        try:
            result: DataFrame = model.transform(frame)
            result.schema  # noqa: B018 - Connect looks for the columns only now
        except Exception as err:
            raise InvalidInputError(
                f"the model in {path} cannot score these columns ({innermost_cause(err)}); give it those "
                "that it was fitted with, and none that it adds"
            ) from err
        return result

    return transform


def _of_sklearn(file: Path, features: str | Sequence[str] | None) -> Callable[[DataFrame], DataFrame]:
    from collections.abc import Iterator as Many

    import pandas as pd  # type: ignore[import-untyped]
    from pyspark.sql.pandas.functions import pandas_udf

    model = sklearn_model(file)
    fitted = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if features is None and not fitted:
        raise InvalidInputError(
            f"{file} does not say which columns it takes; give features='text' for a column of values, or a "
            "list of columns"
        )
    one = isinstance(features, str)
    columns = [str(features)] if one else list(features or fitted)
    if fitted and columns != fitted:
        raise InvalidInputError(
            f"{file} was fitted with the columns {', '.join(fitted)}; give features={fitted}, or leave it out"
        )
    data = file.read_bytes()
    kind = getattr(getattr(model, "classes_", None), "dtype", None)

    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        return _predictions(data, batches)

    takes: Any = pd.Series if one else pd.DataFrame
    predict.__annotations__ = {"batches": Many[takes], "return": Many[pd.Series]}
    made: Any = pandas_udf  # its overloads name no iterators without their types
    function = made(predict, _TYPES.get(kind.kind, "double") if kind is not None else "double")

    def transform(frame: DataFrame) -> DataFrame:
        for name in columns:
            find_column(frame, name)
        refuse_taken(frame.columns, [_PREDICTION], "scoring")
        given = column(columns[0]) if one else F.struct(*(column(name) for name in columns))
        return frame.withColumn(_PREDICTION, function(given))

    return transform


def _predictions(data: bytes, batches: Iterator[Any]) -> Iterator[Any]:
    """Predict in a worker of Spark's."""
    import pandas as pd

    model = unpickled(data)
    for batch in batches:
        found: Any = pd.Series([None] * len(batch), index=batch.index, dtype=object)
        known = batch.notna() if batch.ndim == 1 else pd.Series(data=True, index=batch.index)
        if known.any():
            found[known] = model.predict(batch[known]).tolist()
        yield found
