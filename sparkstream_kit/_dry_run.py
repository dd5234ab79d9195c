"""A dry run: `start` makes all its checks, starts nothing, and leaves nothing behind.

`start` returns a `Planned` instead of a query. In a job with several queries, one may read a folder that
another one would only create when it runs. The sink notes such a folder with `would_make`, and a source that
reads it gets an empty temporary folder in its place (`stand_in`), so that the second query can be checked,
too. `undone` removes what a check had to create.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._files import for_spark, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

_folders: set[str] = set()  # the folders that the queries of this process's dry runs would have created
# By the original folder: the temporary folder in its place, which is deleted when the process ends.
_stand_ins: dict[str, tempfile.TemporaryDirectory[str]] = {}


@dataclass(frozen=True)
class Planned:
    """A query that `start(…, dry_run=True)` has checked and not started; printing it shows what would run.

    Attributes:
        name: the query's name.
        says: pairs of a label, such as `mode`, `sink`, `checkpoint`, `input` or `trigger`, and its text. A
            label can occur several times.
    """

    name: str
    says: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """Return a line with the query's name, and one line for each pair in `says`."""
        return "\n".join([f"query {self.name}", *(f"  {what:<11}{text}" for what, text in self.says)])


def would_make(folder: str) -> None:
    """Note a folder that a query would have created, because another query of the dry run may read it."""
    _folders.add(_named(folder))


def stand_in(folder: str) -> str | None:
    """Return an empty temporary folder in place of one that a query of the dry run would have created.

    Args:
        folder: the folder that a source is to read.

    Returns:
        The temporary folder as a path for Spark; None if no query would have created `folder`.
    """
    if _named(folder) not in _folders:
        return None
    made = tempfile.TemporaryDirectory(prefix="sparkstream-", ignore_cleanup_errors=True)
    _stand_ins[folder] = made
    return for_spark(Path(made.name))


def _named(folder: str) -> str:
    """Normalise a folder's path: a local one becomes absolute, any other loses its trailing slashes."""
    local = plain(folder)
    return folder.rstrip("/") if local is None else str(Path(local).absolute())


def meant(text: str) -> str:
    """Replace the names of temporary folders in a text by those of the folders that they stand in for."""
    for folder, made in _stand_ins.items():
        text = text.replace(for_spark(Path(made.name)), folder)
    return text


@contextmanager
def undone(path: Path | None) -> Iterator[None]:
    """Remove a file or folder that the block has created, and the parents created with it, after the block.

    Files and folders that are not empty are kept: a job that was started meanwhile is using them.

    Args:
        path: the file or folder that the block may create; None removes nothing.
    """
    missing = [] if path is None else [each for each in (path, *path.parents) if not each.exists()]
    try:
        yield
    finally:
        for each in missing:
            if each.is_dir():
                with suppress(OSError):  # not empty
                    each.rmdir()
            elif each.exists() and not each.stat().st_size:
                each.unlink()
