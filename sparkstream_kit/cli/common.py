"""What the commands share: how a line is said, and what a signal does."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkstream_kit import _waiting
from sparkstream_kit.errors import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["say", "stopped_by_signal"]


def say(what: object) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"sparkstream: {without_secrets(str(what))}\n")


@contextmanager
def stopped_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGINT or SIGTERM, in a thread: in a handler it could wait for what it interrupted."""
    inbox = _waiting.Inbox(run_for=None, stop_file=None)

    def wait() -> None:
        inbox.get(None)
        stop()

    _waiting.in_thread("stop", wait)
    with _waiting.signals_posted_to(inbox):
        yield
