"""What sinks with a ledger share: `how` and `keys`, how a query is known, and what they refuse."""

from __future__ import annotations

import logging
import uuid
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from sparkstream_kit._spark.batch import id_in_checkpoint, id_of_batch
from sparkstream_kit.errors import InvalidInputError, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.files import Location

    # Takes the query's id, its checkpoint for messages, the rows, and the batch's number.
    _WriteOfQuery = Callable[[str, str | None, DataFrame, int], None]

__all__ = [
    "check_row_keys",
    "import_arrow",
    "mode_for",
    "open_target",
    "other_driver",
    "pass_over",
    "refuse_twice",
]

_MODES = {"append": "append", "upsert": "update", "replace": "complete"}

_log = logging.getLogger(__name__)


def import_arrow() -> None:
    """Import what Spark's mapInArrow asks for, and only in the first batch.

    Raises:
        ModuleNotFoundError: pandas or pyarrow is not installed.
    """
    for needed in ("pandas", "pyarrow"):
        import_module(needed)


def mode_for(
    sink: str, target: str, how: str, keys: Sequence[str], ways: Sequence[str] = tuple(_MODES)
) -> str:
    """Return the output mode for a way to write (`how`).

    Raises:
        InvalidInputError: a way that the sink does not have, keys without an upsert, or an upsert without
            keys.

    Example:
        >>> mode_for("delta", "'out/totals'", "upsert", ["shop"])
        'update'
        >>> mode_for("delta", "'out/totals'", "upsert", [])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: delta: how='upsert' and keys belong together: ...
    """
    reject_unknown("way to write (how=)", [how], ways)
    if (how == "upsert") != bool(keys):
        raise InvalidInputError(
            f"{sink}: how='upsert' and keys belong together: {sink}({target}, how='upsert', keys=['shop']); "
            f"given: how={how!r}, keys={list(keys)}"
        )
    return _MODES[how]


def open_target(
    prepare: Callable[[DataFrame, str | None], None],
    write: _WriteOfQuery,
    frame: DataFrame,
    location: Location | None,
) -> Write:
    """Open a sink that writes the batches of a query by the query's id; for `Sink.open`.

    Args:
        prepare: is called when the query starts, with its rows and its id; None before the first start.
        write: is called for each batch, on Spark Connect in another process.
        frame: the query's rows, or its first batch if it was started without `start`.
        location: the query's checkpoint.

    Raises:
        InvalidInputError: two columns of the rows have one name; and what `prepare` raises.
    """
    known = None
    refuse_twice("column", frame.columns)
    if frame.isStreaming:
        # Without a checkpoint it is a new query at each start.
        known = str(uuid.uuid4()) if location is None else None
        prepare(frame, known if location is None else id_in_checkpoint(frame.sparkSession, location))
    return partial(_write, write, location, known)


def _write(
    write: _WriteOfQuery, location: Location | None, known: str | None, batch: DataFrame, batch_id: int
) -> None:
    checkpoint = None if location is None else location.text
    write(known or id_of_batch(batch, location), checkpoint, batch, batch_id)


def pass_over(batch: DataFrame, batch_id: int, where: str) -> None:
    """Read a batch that the target has already: a stateful query fails when its batch is not read."""
    _log.info("batch %d is in %s already", batch_id, where)
    batch.write.format("noop").mode("append").save()


def refuse_twice(what: str, names: Sequence[str]) -> None:
    """Refuse columns or fields of one name, which a join by an expression gives.

    Example:
        >>> refuse_twice("column", ["id", "amount", "id"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: column id comes twice; rename or drop one
    """
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"{what} {name} comes twice; rename or drop one")


def check_row_keys(
    where: str, keys: Sequence[str], batch_id: int, *, null: bool = False, twice: bool = False
) -> None:
    """Refuse keys that do not tell the rows of a batch apart.

    Raises:
        InvalidInputError: a key is null, which equals nothing, or two rows have the same, of which one would
            be lost.
    """
    named = f"batch {batch_id} for {where}: key {', '.join(keys)}"
    if null:
        raise InvalidInputError(f"{named} is null; fill it with F.coalesce, or leave such rows out")
    if twice:
        raise InvalidInputError(f"{named} is the same in two rows; use the columns that the query groups by")


def other_driver(batch_id: int) -> InvalidInputError:
    """Return the refusal of a batch that a second driver of the query writes, too."""
    return InvalidInputError(
        f"batch {batch_id} was written by another driver of this query in the meantime; stop one of them"
    )
