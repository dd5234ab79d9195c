"""Start and run: a thread beside the main one, and a wait for a condition that has no event.

Ctrl+C may come while a thread starts. So what starts one that would not end by itself
sets the event of its end then, too: `beside` does so.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socketserver import BaseServer


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
    thread = _thread(name, function)
    thread.start()
    return thread


@contextmanager
def beside(
    name: str, function: Callable[[threading.Event], object], limit: float | None = None
) -> Iterator[None]:
    """Run `function` in a thread while the block runs, and wait for its end.

    An interrupt (Ctrl+C) that comes while the thread starts ends it, too.

    Args:
        name: the name of the thread.
        function: returns soon after the event that it is given is set.
        limit: most seconds to wait for its end; None for no limit.
    """
    over = threading.Event()
    thread = _thread(name, lambda: function(over))
    try:
        thread.start()
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join(limit)


def serve(server: BaseServer, over: threading.Event) -> None:
    """Answer the requests to a server until `over` is set, then close it.

    Unlike `shutdown` of `socketserver`, the event may be set before this begins. The
    server's `timeout` is the time between two looks at the event, in seconds.
    """
    with server:
        while not over.is_set():
            server.handle_request()


def _thread(name: str, function: Callable[[], object]) -> threading.Thread:
    return threading.Thread(target=function, name=f"sparkstream-{name}", daemon=True)
