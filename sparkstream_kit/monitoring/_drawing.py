"""The thread in which a face draws its picture, and when it draws."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkstream_kit import _waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sparkstream_kit.monitoring.board import Board

_log = logging.getLogger(__name__)

_END_LIMIT = 10.0  # seconds that the last picture may take


@contextmanager
def drawing(draw: Callable[[threading.Event], None]) -> Iterator[None]:
    """Draw beside the block until it ends, and then once more; an error in it is logged, and ends it alone.

    Args:
        draw: draws until its event is set, and then for the last time.
    """
    over = threading.Event()

    def drawn() -> None:
        try:
            draw(over)
        except Exception as err:  # noqa: BLE001 - said, and the run goes on
            _log.warning("the run goes on without its picture: %s: %s", type(err).__name__, err)

    thread = _waiting.in_thread("picture", drawn)
    try:
        yield
    finally:
        over.set()
        thread.join(_END_LIMIT)


def moments(board: Board, over: threading.Event, *, every: float, beat: float) -> Iterator[None]:
    """Yield at once, whenever something on a board is new, and when it is over.

    Args:
        board: of a run.
        over: ends this.
        every: seconds from one moment to the next, at least.
        beat: and at most: silence is news, too.
    """
    seen = -1
    while not over.is_set():
        seen = board.wait(seen, beat)
        yield
        over.wait(every)
    yield
