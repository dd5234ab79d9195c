"""Files that land in a folder as Spark's file source needs them.

Lines of text, from a file or made up, and what all feeds share: iterables to read again, and a pace.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


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
        'Files that land in a f'
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


def csv_line(row: Mapping[str, object] | tuple[object, ...] | str) -> str:
    r"""Write the values of a row, a dict or a tuple, as a line of CSV; a text, such as a bad row, stays.

    A quote in a value is doubled (RFC 4180), which Spark reads with the option escape='"'. None is empty.

    Example:
        >>> csv_line({"id": 7, "name": 'Bo "Bear" Lee', "price": None}), csv_line("not a row: 1 {")
        ('7,"Bo ""Bear"" Lee",', 'not a row: 1 {')
    """
    if isinstance(row, str):
        return row
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row if isinstance(row, tuple) else row.values())
    return text.getvalue()


def json_line(row: Mapping[str, object] | str) -> str:
    r"""Write a row as a line of JSON; a text, such as a bad row, stays. A datetime becomes an ISO text.

    Example:
        >>> json_line({"time": 1469501107, "action": "Öffnen"}), json_line("not a row: 1 {")
        ('{"time": 1469501107, "action": "Öffnen"}', 'not a row: 1 {')
    """
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)


def line_files(lines: Iterable[str], *, rows: int, name: str) -> Iterable[tuple[str, str]]:
    r"""Cut lines into files of `rows` lines each: (name, text) pairs for `drip`; the last may be shorter.

    Args:
        lines: without newlines.
        rows: how many lines a file holds.
        name: a pattern for the files' names, in which {} is the number of the file: "clicks-{}.json".

    Raises:
        InvalidInputError: there is not a line in a file, or the pattern has no place for the number.

    Example:
        >>> list(line_files(["a", "b", "c"], rows=2, name="letters-{}.txt"))
        [('letters-0001.txt', 'a\nb\n'), ('letters-0002.txt', 'c\n')]
    """
    check(line_files, locals())
    if rows < 1:
        raise InvalidInputError(f"rows is {rows}; give at least 1 row per file")
    if "{}" not in name:
        raise InvalidInputError(f"name {name!r} has no {{}} for the number of the file; give 'rows-{{}}.csv'")

    def make() -> Iterator[tuple[str, str]]:
        rest = iter(lines)
        for number in itertools.count(1):
            if not (part := [f"{line}\n" for line in itertools.islice(rest, rows)]):
                return
            yield name.replace("{}", f"{number:04}"), "".join(part)

    return Again(make)


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
    target, landed = _files.local("folder", folder), list[Path]()
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
