"""`learner`: a model that learns from each batch, once."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _dry_run, _files
from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column, find_column
from sparkstream_kit._spark.batch import id_of_batch
from sparkstream_kit.models.estimators import last_step, pickled, sklearn_model
from sparkstream_kit.models.versions import (
    CURRENT,
    FILE,
    current,
    find,
    folder_of,
    learned,
    name_of,
    publish,
    switch,
    without,
)
from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.ledger import first_kept, pinned, versions_in_use

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place

__all__ = ["learner"]


def learner(
    path: str | Path,
    *,
    features: str | Sequence[str],
    label: str,
    classes: Sequence[str] | None = None,
    first: Any = None,
) -> Sink:
    """Learn from each batch with scikit-learn's `partial_fit`; each batch makes a new current version.

    A batch is learned from the version that was current when it first came, which is kept beside the
    checkpoint, and makes a version named after the query and the batch. So a batch that comes again after a
    crash makes its version again, and is not learned twice. Where a checkpoint is older than the models, as
    after a restore from a backup, a batch is learned from the query's last version without it. In a `fan_out`
    with a sink that takes a `scorer` of the same path, a batch is scored by the model that has not seen it
    yet, in whichever order they stand.

    Rows without a label, or without a value in a single column of features, are not learned from. The others
    pass through the driver's memory. For the same model after a replay, rows must come in the same order, as
    from files, and the model must draw no random numbers without a seed. Learned versions are removed as
    Spark removes its commits, so that about 100 stay.

    Delivery: each batch is learned once.

    Args:
        path: a folder of versions on a local path, for models of scikit-learn whose last step has
            `partial_fit`; the steps before it are not fitted further.
        features: a column of values, such as texts, or a list of columns; as in `score`.
        label: the column of the true answer.
        classes: all labels that will ever come, for a classifier. Default: those that the model knows.
        first: a model to begin with where the folder has none.

    Returns:
        A sink for queries in append mode, with a checkpoint on a local path.

    Raises:
        InvalidInputError: the path is not local; when the query starts: no model, one without `partial_fit`,
            or a column that is missing.
        MissingExtraError: scikit-learn is not installed.

    Example:
        In a session::

            learned = models.learner("models/spam", features="text", label="label", classes=["ham", "spam"])
            scored = sinks.batch_files("scored").taking(models.scorer("models/spam", features="text"))
            start(posts, sinks.fan_out(scored, learned), name="posts", checkpoint="ckpt")
    """
    check(learner, locals())
    folder, columns = folder_of(path), [features] if isinstance(features, str) else list(features)

    def open_learner(frame: DataFrame, location: Place | None) -> Write:
        if first is not None and not (folder / CURRENT).exists():
            if not _dry_run.making():
                return lambda *_: None
            _begin_with(first, folder)
        for name in (*columns, label):
            find_column(frame, name)
        last_step(sklearn_model(find(frame.sparkSession, _files.for_spark(folder), current(folder))[0]))

        def write(batch: DataFrame, batch_id: int) -> None:
            query, spark, now = id_of_batch(batch, location), batch.sparkSession, current(folder)
            choose = partial(without, batch_id, query, folder)
            what = f"model {folder}"
            base = choose() if location is None else pinned(location, batch_id, what, choose)
            rows: Any = batch.select(*map(column, dict.fromkeys([*columns, label]))).toPandas()
            rows = rows.dropna(subset=[label, features] if isinstance(features, str) else [label])
            if rows.empty:
                return
            model = sklearn_model(find(spark, _files.for_spark(folder), base)[0])
            _learn(model, rows[features if isinstance(features, str) else columns], rows[label], classes)
            version = f"{name_of(query)}{batch_id:06}"
            _files.replace(folder / f"{version}{FILE}", [pickled(model)])
            # Else somebody has published another, which is to stay.
            if current(folder) == now and (now == base or learned(now, query) >= batch_id):
                switch(folder, version)
            if location is not None:
                _remove_old(folder, query, location)

        return write

    return Sink(
        kind="learner",
        modes=("append",),
        promise="each batch is learned once",
        after_rewind="learns from the model that stood before the batch that comes again",
        advice="a row is to be learned once: use append",
        needs_checkpoint=True,
        writes_to=(f"folder {os.path.realpath(folder)}",),
        open=open_learner,
    )


def _begin_with(first: Any, folder: Path) -> None:
    if (folder / f"first{FILE}").exists():  # a start was killed before it became the current one
        switch(folder, "first")
    else:
        publish(first, folder, "first")


def _remove_old(folder: Path, query: str, location: Place) -> None:
    """Remove what a query learned before the batches that may come again, but for the versions in use."""
    # Batches without labels make no version: that of a batch may be older than all others kept.
    used = {current(folder), *versions_in_use(location, f"model {folder}")}
    first = first_kept(location) - 1
    for old in folder.glob(f"{name_of(query)}*{FILE}"):
        if learned(old.stem, query) < first and old.stem not in used:
            old.unlink()


def _learn(model: Any, rows: Any, labels: Any, classes: Sequence[str] | None) -> None:
    steps, last = last_step(model)
    known = classes if classes is not None else getattr(last, "classes_", None)
    last.partial_fit(
        rows if steps is None else steps.transform(rows),
        labels.to_numpy(),
        **({} if known is None else {"classes": known}),
    )
