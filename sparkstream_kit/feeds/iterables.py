"""Iterables that the feeds share: made anew for each reading, counted, and paced."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Again", "count_to", "paced"]

_T = TypeVar("_T")


class Again(Generic[_T]):
    """What `make` returns, made anew for each iteration."""

    def __init__(self, make: Callable[[], Iterable[_T]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[_T]:
        return iter(self._make())


def paced(
    items: Iterable[_T], period: float, stop: threading.Event, clock: Callable[[], float] = time.monotonic
) -> Iterator[_T]:
    """Give an item each `period` seconds until `stop`, counted from the start: delays do not add up."""
    start = clock()
    for number, item in enumerate(items):
        wait = start + number * period - clock()
        if stop.wait(wait) if wait > 0 else stop.is_set():
            return
        yield item


def count_to(end: int | None) -> Iterable[int]:
    """Count from 0 up to `end`, or for ever."""
    if end is not None and end < 0:
        raise InvalidInputError(f"count is {end}; give 0 or more, or None for no end")
    return Again(itertools.count) if end is None else range(end)
