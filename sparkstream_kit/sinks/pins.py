"""The version of something that a batch was made with, kept beside the checkpoint: a replay gets the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sparkstream_kit.checkpoints.logs import KIT, PINS
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sparkstream_kit._spark.place import Place

__all__ = ["first_kept", "folder_for", "pinned", "versions_in_use"]


def pinned(location: Place, batch_id: int, what: str, choose: Callable[[], str]) -> str:
    """Return the version of `what` that belongs to a batch: the one that it had when it first came.

    The version is on the disk before anything is made with it. Those of batches whose commits Spark has
    removed are removed, too, and a rewind takes away those of the batches that Spark plans anew.

    Args:
        location: the query's checkpoint.
        batch_id: Spark's number of the batch.
        what: the thing that has versions, such as "model /models/spam".
        choose: gives the version to take for a batch that comes for the first time.

    Raises:
        InvalidInputError: the checkpoint is on a Spark Connect server elsewhere, or the file of the batch is
            damaged.
    """
    there = _checkpoint(location, what)
    found = _versions(there, batch_id) or {}
    if what not in found:
        found[what] = choose()
        there.write(f"{PINS}/{batch_id}", json.dumps(found))
        oldest = first_kept(location)
        for batch in there.entries(PINS):
            if batch < oldest:
                there.remove(f"{PINS}/{batch}")
    return found[what]


def _checkpoint(location: Place, what: str) -> Place:
    if not location.is_in_reach:
        raise _refusal(location, what)
    return location


def _refusal(location: Place, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what}: its version for each batch is kept beside the checkpoint, and checkpoint {location} is "
        "not on a local path; give a local one, or use a fixed version (models.score, joins.with_table)"
    )


def folder_for(location: Place, what: str, name: str) -> Path:
    """Return a folder of the kit's in a checkpoint.

    Raises:
        InvalidInputError: the checkpoint is not on a local path.
    """
    if location.folder is None:
        raise _refusal(location, what)
    return location.folder / KIT / name


def first_kept(location: Place) -> int:
    """Return the oldest batch whose commit is in a checkpoint; no batch before it can come again."""
    return min(_checkpoint(location, "a checkpoint").entries("commits"), default=0)


def versions_in_use(location: Place, what: str) -> set[str]:
    """Return the versions of `what` that batches have, which may come again."""
    there = _checkpoint(location, what)
    return {(_versions(there, batch) or {}).get(what, "") for batch in there.entries(PINS)}


def _versions(there: Place, batch: int) -> dict[str, str] | None:
    try:
        text = there.read(f"{PINS}/{batch}")
        return None if text is None else dict(json.loads(text))
    except (OSError, TypeError, ValueError) as err:
        file = f"{there.folder or there}/{PINS}/{batch}"
        raise InvalidInputError(
            f"{file} is damaged, which says what batch {batch} was made with; put it back, or delete it, and "
            "the batch is made with what is current"
        ) from err
