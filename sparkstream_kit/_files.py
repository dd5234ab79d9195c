"""Files of the kit's own: replaced whole, so that a reader never sees a part; and where they are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def replace(target: Path, texts: Iterable[str]) -> None:
    """Put a file in place whole: written beside it, flushed to the disk, renamed."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(texts)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def cache_folder() -> Path:
    """Return where the kit keeps files of the user: never in /tmp, where others can lay a file for us.

    Raises:
        RuntimeError: the user has no home folder.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG rules ignore a relative path.
    return (given if given.is_absolute() else Path.home() / ".cache") / "sparkstream-kit"
