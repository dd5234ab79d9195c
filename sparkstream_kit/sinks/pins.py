"""The version of something that a batch was made with, kept beside the checkpoint: a replay gets the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sparkstream_kit import _files
from sparkstream_kit.checkpoints.layout import KIT, numbered
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sparkstream_kit._spark.files import Location

__all__ = ["first_kept", "folder_for", "pinned", "versions_in_use"]


def pinned(location: Location, batch_id: int, what: str, choose: Callable[[], str]) -> str:
    """Return the version of `what` that belongs to a batch: the one that it had when it first came.

    The version is on the disk before anything is made with it. Those of batches whose commits Spark has
    removed are removed, too.

    Args:
        location: the query's checkpoint.
        batch_id: Spark's number of the batch.
        what: the thing that has versions, such as "model /models/spam".
        choose: gives the version to take for a batch that comes for the first time.

    Raises:
        InvalidInputError: the checkpoint is not on a local path, or the file of the batch is damaged.
    """
    folder = folder_for(location, what, "pins")
    file = folder / str(batch_id)
    found = _read(file) if file.exists() else {}
    if what not in found:
        found[what] = choose()
        folder.mkdir(parents=True, exist_ok=True)
        _files.replace(file, [json.dumps(found)])
        for number, old in numbered(folder).items():
            if number < first_kept(location):
                old.unlink()
    return found[what]


def folder_for(location: Location, what: str, name: str) -> Path:
    """Return a folder of the kit's in a checkpoint.

    Raises:
        InvalidInputError: the checkpoint is not on a local path.
    """
    if location.folder is None:
        raise InvalidInputError(
            f"{what}: its version for each batch is kept beside the checkpoint, and checkpoint {location} is "
            "not on a local path; give a local one, or use a fixed version (models.score, joins.with_table)"
        )
    return location.folder / KIT / name


def first_kept(location: Location) -> int:
    """Return the oldest batch whose commit is in a checkpoint; no batch before it can come again."""
    return min(numbered(folder_for(location, "a checkpoint", "..") / "commits"), default=0)


def versions_in_use(location: Location, what: str) -> set[str]:
    """Return the versions of `what` that batches have, which may come again."""
    return {_read(file).get(what, "") for file in numbered(folder_for(location, what, "pins")).values()}


def _read(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, TypeError, ValueError) as err:
        raise InvalidInputError(
            f"{file} is damaged, which says what batch {file.name} was made with; put it back, or delete it, "
            "and the batch is made with what is current"
        ) from err
