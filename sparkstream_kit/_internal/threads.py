"""Start and run: a thread beside the main one, and a wait for a condition that has no event."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], object], limit: float) -> bool:
    """Wait until a condition is true, for `limit` seconds at most, and return whether it is.

    Args:
        condition: what is called every 50 milliseconds.
        limit: seconds; with 0 it is called once.
    """
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    return True


def in_thread(name: str, function: Callable[[], object]) -> threading.Thread:
    """Run `function` in a thread that does not keep the process alive."""
    thread = threading.Thread(target=function, name=f"sparkstream-{name}", daemon=True)
    thread.start()
    return thread
