"""Files that land in a folder as Spark's file source needs them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.feeds.lines import paced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["drip"]


def drip(
    files: Iterable[tuple[str, str | bytes]],
    folder: str | os.PathLike[str],
    *,
    every: float = 0.0,
    stop: threading.Event | None = None,
    on_file: Callable[[Path], object] | None = None,
) -> list[Path]:
    """Land files in a folder as Spark's file source needs them: whole, in order, and each under a new name.

    A file is written under a hidden name, which Spark skips, synced to disk and renamed. Modification times
    (the order that Spark reads in) rise by a millisecond or more, also above the newest file that is there.

    Args:
        files: (name, content) pairs; text is written as UTF-8.
        folder: where they land; it is made if it is missing.
        every: seconds from one file to the next, the first one landing at once.
        stop: ends the drip when it is set, also during a wait.
        on_file: called with the path of each file that has landed.

    Returns:
        The paths that landed, in order.

    Raises:
        InvalidInputError: a name is in the folder already (Spark reads a name only once) or is one that Spark
            skips, the folder cannot be written, or `every` is below 0.

    Example:
        >>> import tempfile
        >>> from sparkstream_kit.feeds import sales_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in drip(sales_files(2, rows=10, seed=1), folder)]
        ['sales-1-0001.csv', 'sales-1-0002.csv']
    """
    check(drip, locals())
    if not every >= 0:
        raise InvalidInputError(f"every is {every} seconds; give 0 or more")
    target, landed = Path(folder), list[Path]()
    try:
        target.mkdir(parents=True, exist_ok=True)
        stamp = max((entry.stat().st_mtime_ns for entry in target.iterdir() if entry.is_file()), default=0)
    except OSError as err:
        raise InvalidInputError(f"cannot use {target} ({err.strerror}); give a folder to write in") from err
    for name, content in paced(files, every, stop or threading.Event()):
        stamp = max(time.time_ns(), (stamp // 1_000_000 + 1) * 1_000_000)  # Spark compares milliseconds
        landed.append(_land(target, name, content.encode() if isinstance(content, str) else content, stamp))
        if on_file:
            on_file(landed[-1])
    return landed


def _land(folder: Path, name: str, content: bytes, stamp: int) -> Path:
    path, hidden = folder / name, folder / f".{name}.part"
    if path.name != name or name.startswith((".", "_")):
        raise InvalidInputError(
            f"file name {name!r} cannot be used; give one without / that does not begin with . or _, "
            "as Spark skips those"
        )
    if path.exists():
        raise InvalidInputError(
            f"{path} exists already, and Spark reads a file name only once; give a new name or folder"
        )
    try:
        with hidden.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.utime(hidden, ns=(stamp, stamp))
        hidden.replace(path)
    except OSError as err:
        raise InvalidInputError(f"cannot write {path} ({err.strerror}); give a folder to write in") from err
    finally:
        hidden.unlink(missing_ok=True)
    return path
