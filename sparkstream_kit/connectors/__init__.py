"""Extra: sources and sinks of other systems: each system has one module or folder.

The core imports a module of this package when its source or sink is first used, such as `sinks.sql_table`. So
a program needs only the packages of the systems that it uses.

This file has the functions that several of these sinks share: `mode_for` turns the argument `how` into an
output mode, `check_row_keys` and `other_driver` refuse a batch that cannot be written safely, and
`import_arrow` imports the packages of Spark's `mapInArrow`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sparkstream_kit.errors import InvalidInputError, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__: list[str] = []

_MODES = {"append": "append", "upsert": "update", "replace": "complete"}


def import_arrow() -> None:
    """Import the packages that Spark's `mapInArrow` needs, so that a missing one is noticed early.

    Spark itself imports them only in the first batch.

    Raises:
        ModuleNotFoundError: pandas or pyarrow is not installed.
    """
    for needed in ("pandas", "pyarrow"):
        import_module(needed)


def mode_for(
    sink: str, target: str, how: str, keys: Sequence[str], ways: Sequence[str] = tuple(_MODES)
) -> str:
    """Return the output mode that a sink needs for its argument `how`.

    Args:
        sink: the name of the sink, for messages.
        target: the first argument of the sink as the user wrote it, for messages.
        how: "append", "upsert" or "replace".
        keys: the key columns of an upsert; empty for the other two.
        ways: the values of `how` that the sink supports; by default all three.

    Returns:
        "append" for "append", "update" for "upsert", "complete" for "replace".

    Raises:
        InvalidInputError: the sink does not support `how`, keys are given without an upsert, or an upsert has
            no keys.

    Examples:
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


def check_row_keys(
    where: str, keys: Sequence[str], batch_id: int, *, null: bool = False, twice: bool = False
) -> None:
    """Refuse a batch whose keys do not identify its rows.

    Args:
        where: the target of the sink, for messages.
        keys: the key columns.
        batch_id: the number of the batch, for messages.
        null: whether the caller has found a row with a null key.
        twice: whether the caller has found two rows with the same key.

    Raises:
        InvalidInputError: a key is null, which equals nothing, so an upsert cannot find its row; or two rows
            have the same key, so one of them would be lost.
    """
    named = f"batch {batch_id} for {where}: key {', '.join(keys)}"
    if null:
        raise InvalidInputError(f"{named} is null; fill it with F.coalesce, or leave such rows out")
    if twice:
        raise InvalidInputError(f"{named} is the same in two rows; use the columns that the query groups by")


def other_driver(batch_id: int) -> InvalidInputError:
    """Return the error for a batch that a second driver of the same query has written meanwhile."""
    return InvalidInputError(
        f"batch {batch_id} was written by another driver of this query in the meantime; stop one of them"
    )
