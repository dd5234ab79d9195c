"""Lines of text, from a file or made up, and what all feeds share: iterables to read again, and a pace."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Again", "count_to", "paced", "random_lines", "text_lines", "zipf"]

_T = TypeVar("_T")

_SYLLABLES = ("ka", "lo", "mi", "ren", "tu", "sha", "vo", "pel", "dri", "no", "zu", "bem")
_WORDS = (*_SYLLABLES, *(first + second for first in _SYLLABLES for second in _SYLLABLES))


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


def zipf(ranks: int) -> list[float]:
    """Return cumulative weights by Zipf's law, 1 / rank, for `random.choices`; the first is the heaviest."""
    return list(itertools.accumulate(1 / rank for rank in range(1, ranks + 1)))


def text_lines(path: str | os.PathLike[str]) -> Iterable[str]:
    """Give the lines of a UTF-8 text file without their newlines; each reading opens the file anew.

    Raises:
        InvalidInputError: there is no such file (at once), or it is not readable as UTF-8 (when it is read).

    Example:
        >>> next(iter(text_lines(__file__)))[3:25]
        'Lines of text, from a '
    """
    check(text_lines, locals())
    file = Path(path)
    if not file.is_file():
        raise InvalidInputError(f"no file {file}; give the path of a UTF-8 text file")

    def make() -> Iterator[str]:
        try:
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    yield line.removesuffix("\n")
        except (OSError, UnicodeDecodeError) as err:
            raise InvalidInputError(f"cannot read {file} ({err}); give a readable UTF-8 text file") from err

    return Again(make)


def random_lines(seed: int, *, count: int | None = None) -> Iterable[str]:
    """Make lines of 3 to 10 made-up words, a few of them frequent and most rare (Zipf's law: 1 / rank).

    Args:
        seed: the same seed gives the same lines.
        count: how many lines; None never ends.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> list(random_lines(1, count=2))
        ['tusha mitu lo dri', 'kano mibem ka ka tulo sha']
    """
    check(random_lines, locals())
    numbers, weights = count_to(count), zipf(len(_WORDS))

    def make() -> Iterator[str]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        for _ in numbers:
            yield " ".join(pick(_WORDS, cum_weights=weights, k=pick(range(3, 11))[0]))

    return Again(make)
