"""What sinks with a ledger share: how a query is known, and the check of `how` and `keys`."""

from __future__ import annotations

import uuid
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from sparkstream_kit._spark.batch import id_in_checkpoint, id_of_batch
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.files import Location

    # Takes the query's id, its checkpoint for messages, the rows, and the batch's number.
    _WriteOfQuery = Callable[[str, str | None, DataFrame, int], None]

__all__ = ["check_keys", "import_arrow", "known_as", "opener"]


def import_arrow() -> None:
    """Import what Spark's mapInArrow asks for, and only in the first batch.

    Raises:
        ModuleNotFoundError: pandas or pyarrow is not installed.
    """
    for needed in ("pandas", "pyarrow"):
        import_module(needed)


def check_keys(sink: str, target: str, how: str, keys: Sequence[str]) -> None:
    """Refuse keys without an upsert, and an upsert without keys.

    Example:
        >>> check_keys("delta", "'out/totals'", "upsert", [])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: delta: how='upsert' and keys belong together: ...
    """
    if (how == "upsert") != bool(keys):
        raise InvalidInputError(
            f"{sink}: how='upsert' and keys belong together: {sink}({target}, how='upsert', keys=['shop']); "
            f"given: how={how!r}, keys={list(keys)}"
        )


def known_as(frame: DataFrame, location: Location | None) -> tuple[str | None, str | None]:
    """Return a query's id, which is None before its first start, and the same id if no checkpoint keeps it.

    A query without a checkpoint is a new one at each start, so that any new id will do.
    """
    if location is None:
        new = str(uuid.uuid4())
        return new, new
    return id_in_checkpoint(frame.sparkSession, location), None


def opener(
    prepare: Callable[[StructType, str | None], None], write: _WriteOfQuery
) -> Callable[[DataFrame, Location | None], Write]:
    """Return `Sink.open` of a sink that writes the batches of a query by the query's id.

    Args:
        prepare: is called when the query starts, with the columns and the id; None before the first start.
        write: is called for each batch, on Spark Connect in another process.
    """

    def open_target(frame: DataFrame, location: Location | None) -> Write:
        if not frame.isStreaming:  # a query without `start`: its first batch says which query it is
            return partial(_write, write, None, None)
        query, known = known_as(frame, location)
        prepare(frame.schema, query)
        return partial(_write, write, location, known)

    return open_target


def _write(
    write: _WriteOfQuery, location: Location | None, known: str | None, batch: DataFrame, batch_id: int
) -> None:
    checkpoint = None if location is None else location.text
    write(known or id_of_batch(batch, location), checkpoint, batch, batch_id)
