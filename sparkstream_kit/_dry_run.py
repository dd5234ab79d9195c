"""A dry run: `start` makes all its checks, starts nothing, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._files import for_spark, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

_folders: set[str] = set()  # that the queries of this process's dry runs would have made
_stand_ins: dict[str, tempfile.TemporaryDirectory[str]] = {}  # kept until the process ends


@dataclass(frozen=True)
class Planned:
    """A query that `start(…, dry_run=True)` has checked and not started; its text says what would run.

    Attributes:
        name: the query's name.
        says: what would run: mode, sink, checkpoint, input, trigger, and the text of each.
    """

    name: str
    says: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """Return a line for the query, and one for each thing that is said of it."""
        return "\n".join([f"query {self.name}", *(f"  {what:<11}{text}" for what, text in self.says)])


def would_make(folder: str) -> None:
    """Note a folder that a query would have made, from which another one may read."""
    _folders.add(_named(folder))


def stand_in(folder: str) -> str | None:
    """Return an empty folder in place of one that a query of this dry run would have made; else None."""
    if _named(folder) not in _folders:
        return None
    made = tempfile.TemporaryDirectory(prefix="sparkstream-", ignore_cleanup_errors=True)
    _stand_ins[folder] = made
    return for_spark(Path(made.name))


def _named(folder: str) -> str:
    """Return a folder by the one name that it has however it is written."""
    local = plain(folder)
    return folder.rstrip("/") if local is None else str(Path(local).absolute())


def meant(text: str) -> str:
    """Return a text with the folders themselves, where others stand in for them."""
    for folder, made in _stand_ins.items():
        text = text.replace(for_spark(Path(made.name)), folder)
    return text


@contextmanager
def undone(path: Path | None) -> Iterator[None]:
    """Remove an empty file or folder after the block, and the folders above it, that the block has made.

    What is not empty stays: a job that was started meanwhile has made it.
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
