"""Start and run: what ends the wait of a run: a time, a stop file, a signal, an event.

`run` and `dstreams.run` wait in this way.

An `Inbox` collects the events of all threads for the one thread that waits, and also
checks the time limit and the stop file. `signals_posted_to` and `signals_to` handle
SIGINT and SIGTERM.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal import file_system
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

# Seconds between two checks of a stop file or of a socket's reader: neither can wake
# the waiting thread.
LOOK_EVERY = 0.5

_STOPS = (signal.SIGINT, signal.SIGTERM)
_SAME_STOP = 1.0  # seconds for which a repeated signal counts as the same one


class Inbox:
    """A queue to which threads and signal handlers post, and which one thread reads.

    Args:
        run_for: seconds after which `next` returns a stop; None for no limit.
        stop_file: a local path; `next` returns a stop once a file exists there.

    Raises:
        InvalidInputError: `run_for` is not positive, or `stop_file` is not on this
            machine.
    """

    def __init__(
        self, *, run_for: float | None = None, stop_file: str | Path | None = None
    ) -> None:
        if run_for is not None and not run_for > 0:
            raise InvalidInputError(
                f"run_for must be a positive number of seconds, not {run_for}"
            )
        self.posts: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.started = time.monotonic()
        self._deadline = math.inf
        if run_for is not None:
            self._deadline = self.started + run_for
        self._stop_file: Path | None = None
        if stop_file is not None:
            self._stop_file = file_system.local("stop_file", stop_file)

    def post(self, kind: str, what: Any = None) -> None:
        """Post an event and wake the reader; safe in a signal handler.

        `SimpleQueue.put` is reentrant.
        """
        self.posts.put((kind, what))

    def next(self, *, wake_after: float = math.inf) -> tuple[str, Any]:
        """Wait for the next post, the time limit or the stop file.

        Args:
            wake_after: seconds after which to return although nothing has happened.

        Returns:
            The next post; or `("stop", reason)` if the time is over or the stop file
            exists, even if posts are waiting; or `("look", None)`, after `wake_after`
            seconds at most.
        """
        if self._stop_file is not None and self._stop_file.exists():
            return "stop", f"stop file {self._stop_file}"
        left = self._deadline - time.monotonic()
        if left <= 0:
            return "stop", "run_for is over"
        timeout = min(left, wake_after)
        if self._stop_file is not None:
            timeout = min(timeout, LOOK_EVERY)
        return self.get(timeout)

    def get(self, timeout: float = math.inf) -> tuple[str, Any]:
        """Return the next post, or `("look", None)` after `timeout` seconds."""
        try:
            return self.posts.get(timeout=min(timeout, threading.TIMEOUT_MAX))
        except Empty:
            return "look", None


class signals_to:  # noqa: N801 - a context manager, used as a function
    """Within a `with` block, call `handle` with "SIGINT" or "SIGTERM" when such a signal arrives.

    The former handlers are restored at the end of the block. A second signal goes to
    `again`, by default to the former handler, so that a second Ctrl-C takes effect at
    once.

    A signal within a second of the previous one is ignored, because programs such as
    `timeout` signal both a process and its group. This also holds if the previous
    signal arrived in a block inside this one. Outside the main thread, where Python
    allows no handlers, the block changes nothing.

    Args:
        handle: called with the name of the first signal.
        again: called with the name of each further signal; None for the former handler.
    """

    def __init__(
        self,
        handle: Callable[[str], object],
        again: Callable[[str], object] | None = None,
    ) -> None:
        self._handle = handle
        self._again = again
        self._former: dict[int, Any] = {}
        self._handled = False
        # The time of the last signal that was not ignored, by the monotonic clock
        self.heard = -math.inf

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                self._former[number] = signal.signal(number, self._receive)

    def __exit__(self, *_raised: object) -> None:
        for former in self._former.values():
            outer = getattr(former, "__self__", None)
            if isinstance(outer, signals_to):
                outer.heard = max(outer.heard, self.heard)
        self._put_back()

    def _put_back(self) -> None:
        while self._former:
            signal.signal(*self._former.popitem())

    def _receive(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        now = time.monotonic()
        if now - self.heard <= _SAME_STOP:
            return
        self.heard = now
        if not self._handled:
            self._handled = True
            self._handle(name)
        elif self._again is not None:
            self._again(name)
        else:
            self._put_back()
            signal.raise_signal(number)


def signals_posted_to(inbox: Inbox) -> AbstractContextManager[None]:
    """Within a `with` block, post the first SIGINT or SIGTERM to an inbox as a stop."""
    return signals_to(lambda name: inbox.post("stop", name))
