"""Where the kit's own files go, and how: replaced whole, so that a reader never sees a part of one."""

from __future__ import annotations

import importlib.util
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.abc import ResourceLoader


def replace(target: Path, texts: Iterable[str]) -> None:
    """Put a file in place whole: written beside it, flushed to the disk, renamed."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(texts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)  # each try of a supervisor's would fill a full disk further
        raise


def plain(path: str) -> str | None:
    """Return a local path without its `file:`, as Python writes it; None for one of another file system.

    Example:
        >>> plain("file:///data/in"), plain("data/in"), plain("s3a://bucket/in")
        ('/data/in', 'data/in', None)
    """
    text = re.sub(r"^file:(//)?(?=/)", "", path)
    return None if re.match(r"[a-z][a-z0-9+.-]*:", text, re.IGNORECASE) else text


def pyspark_folder() -> Path | None:
    """Return where an import would find PySpark, without the time that the import takes."""
    found = importlib.util.find_spec("pyspark")
    return Path(found.origin).parent if found and found.origin else None


def of_pyspark(name: str) -> str:
    """Return the text of a file of that PySpark, also out of the zip that `spark-submit` gives; else ""."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        return ""
    with suppress(OSError):
        loader = cast("ResourceLoader", found.loader)
        return loader.get_data(str(Path(found.origin).with_name(name))).decode()
    return ""


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
