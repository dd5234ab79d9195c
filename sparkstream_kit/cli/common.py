"""What the commands share: how a line is said, and what a signal does."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkstream_kit import _waiting
from sparkstream_kit.errors import printable, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def say(what: object) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"sparkstream: {printable(without_secrets(str(what)), lines=True)}\n")


def show(what: object) -> None:
    """Write a text, as a command's answer, to standard output."""
    sys.stdout.write(f"{printable(str(what), lines=True)}\n")


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
