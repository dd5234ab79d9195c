"""Extra: which version of a table or a model each batch used, for `joins.reloading` and `models`.

`pinned` records the version in the checkpoint, so that a replayed batch uses the same
one; `versions_in_use` lists the versions that must be kept. `copies_of` keeps copies of
a table that changes while the stream runs.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from sparkstream_kit._internal import file_system
from sparkstream_kit.checkpoints.logs import KIT, PINS
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._internal.spark.place import Place


def copies_of(
    name: str,
    read: Callable[[SparkSession], DataFrame],
    join: Callable[[DataFrame, DataFrame], DataFrame],
) -> Part:
    """Join each batch with a table's rows of its first run, for `joins.reloading`.

    Args:
        name: the name of the table, used for its folder of copies.
        read: a function that takes the session and reads the table.
        join: a function that joins a batch with the table.
    """
    subject = f"table {name}"

    def open_part(
        location: Place | None,
    ) -> Callable[[DataFrame, int | None], DataFrame]:
        if location is not None and location.folder is None:
            raise out_of_reach(location, subject)
        return partial(take, location)

    def take(
        location: Place | None, batch: DataFrame, batch_id: int | None
    ) -> DataFrame:
        spark = batch.sparkSession
        if location is None or location.folder is None or batch_id is None:
            return join(batch, read(spark))
        copies = location.folder / KIT / "tables" / name
        version = pinned(
            location, batch_id, subject, lambda: _copied(read(spark), copies)
        )
        used = {version, *versions_in_use(location, subject)}
        for path in copies.iterdir():
            if path.name not in used:
                shutil.rmtree(path)
        folder = file_system.for_spark(copies / version)
        copy = spark.read.parquet(file_system.escaped(folder))
        return join(batch, copy)

    return Part(open_part)


def _copied(table: DataFrame, copies: Path) -> str:
    """Copy a table to a new folder, and return the folder's name."""
    name = uuid4().hex
    table.coalesce(1).write.parquet(file_system.for_spark(copies / name))
    return name


def pinned(
    location: Place, batch_id: int, subject: str, choose: Callable[[], str]
) -> str:
    """Return the version of `subject` for a batch; a replay gets that of the first run.

    A new version is written to the checkpoint before it is returned, so no result can
    depend on a version that was not recorded. The records of batches whose commits
    Spark has deleted are deleted here. A rewind removes the records of the batches that
    Spark will plan again.

    Args:
        location: the query's checkpoint.
        batch_id: Spark's number of the batch.
        subject: the thing that has versions, such as "model /models/spam".
        choose: returns the version to use if the batch has none yet, because it runs
            for the first time.

    Raises:
        InvalidInputError: the checkpoint is on a Spark Connect server elsewhere, or the
            file of the batch is damaged.
    """
    if not location.is_in_reach:
        raise out_of_reach(location, subject)
    versions = _versions(location, batch_id)
    if subject not in versions:
        versions[subject] = choose()
        location.write(f"{PINS}/{batch_id}", json.dumps(versions))
        oldest = first_kept(location)
        for batch in location.entries(PINS):
            if batch < oldest:
                location.remove(f"{PINS}/{batch}")
    return versions[subject]


def out_of_reach(location: Place, subject: str) -> InvalidInputError:
    """Return the error of a checkpoint beside which this process cannot keep versions."""
    return InvalidInputError(
        f"{subject}: its version for each batch is kept beside the checkpoint, and"
        f" checkpoint {location} is not on a local path; give a local one, or use a"
        " fixed version (models.score, joins.with_table)"
    )


def first_kept(location: Place) -> int:
    """Return the oldest batch whose commit is in a checkpoint: no earlier batch can be replayed."""
    return min(location.entries("commits"), default=0)


def versions_in_use(location: Place, subject: str) -> set[str]:
    """Return the versions of `subject` that a replay may need; others can be deleted."""
    return {
        _versions(location, batch).get(subject, "") for batch in location.entries(PINS)
    }


def _versions(location: Place, batch: int) -> dict[str, str]:
    """Return the versions that are recorded for a batch, each by the thing that has it."""
    try:
        text = location.read(f"{PINS}/{batch}")
        if text is None:
            return {}
        return dict(json.loads(text))
    except (OSError, TypeError, ValueError) as err:
        file = f"{location.folder or location}/{PINS}/{batch}"
        fix = "put it back, or delete it, and the batch is made with what is current"
        raise InvalidInputError(
            f"{file} is damaged, which says what batch {batch} was made with; {fix}"
        ) from err
