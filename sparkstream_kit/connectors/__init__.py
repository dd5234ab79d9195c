"""Extra: sources and sinks of other systems: each system has one module or folder.

The core opens a module here when its source or sink is first asked for, such as `sinks.sql_table`. Here
stands what these sinks share: `how` and `keys`, and what they refuse.
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
