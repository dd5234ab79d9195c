"""Where the kit's own files go, and how: replaced whole, so that a reader never sees a part of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit.errors import InvalidInputError

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
    """Return where the kit keeps what can be made again, by the XDG rules; never /tmp, where others write.

    Raises:
        InvalidInputError: this user has no home folder, and XDG_CACHE_HOME names none.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG rules ignore a relative path.
        return (given if given.is_absolute() else Path.home() / ".cache") / "sparkstream-kit"
    except RuntimeError as err:
        raise InvalidInputError(f"{err}; set XDG_CACHE_HOME to a folder") from err
