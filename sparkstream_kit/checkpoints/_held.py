"""The locks on checkpoints that queries of this process hold.

Look here before opening a lock file: POSIX drops a process's locks when it closes any descriptor of it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparkstream_kit.checkpoints.locks import Lock

mutex = threading.RLock()
by_path: dict[str, Lock] = {}  # by the lock file's real path


def not_ended(path: str) -> Lock | None:
    """Return the lock of a query that is starting or running; release that of one that has ended.

    A query releases its lock itself, but a moment after its `awaitTermination` has returned.
    """
    with mutex:
        holder = by_path.get(path)
        if holder is None or holder.in_use():
            return holder
        holder.release()
        return None
