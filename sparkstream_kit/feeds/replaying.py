"""A file of one's own, replayed by the clock of its rows."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import threading
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.feeds._times import microseconds
from sparkstream_kit.feeds.lines import Again

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

__all__ = ["replay", "replay_files"]

_JSON = (".json", ".jsonl", ".ndjson")
_LOOKED_AT = 100  # lines in which a time must be readable, else the name is most likely wrong
_log = logging.getLogger(__name__)


def replay(
    file: str | os.PathLike[str],
    *,
    time: str,
    time_format: str | None = None,
    speed: float = 60.0,
    stop: threading.Event | None = None,
) -> Iterable[str]:
    r"""Give the lines of a file at the pace of their times: for a `LineServer`, or to write elsewhere.

    The first line comes at once, and each further one when as much time has passed, divided by `speed`, as
    lies between its time and the first line's. No line is left out or moved: one without a readable time, or
    with an earlier time than a line before it, comes right after the line before it. At the end a warning
    (by `logging`) says how many these were.

    Args:
        file: CSV with a header, which is not given, or lines of JSON (.json, .jsonl or .ndjson); UTF-8.
        time: the column or field of the time, such as "time" or "data.created_at": epoch seconds
            (milliseconds from 100,000,000,000 on) or ISO 8601; UTC where there is no time zone.
        time_format: how the times are written otherwise, in the letters of Python's `strptime`, such as
            "%m/%d/%Y %H:%M".
        speed: how many seconds of the file pass in a second; `float("inf")` does not wait.
        stop: ends the lines when it is set, also during a wait.

    Raises:
        InvalidInputError: there is no such file, it has no such column, its first 100 lines have no
            readable time, it is not UTF-8, or `speed` is not above 0.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     print("time,price\n2024-01-01 12:00,5\n2024-01-01 12:30,7", file=file, flush=True)
        ...     list(replay(file.name, time="time", speed=1_000_000))
        ['2024-01-01 12:00,5', '2024-01-01 12:30,7']
    """
    check(replay, locals())
    source, stopped = _Source(Path(file), time, time_format, speed), stop or threading.Event()

    def make() -> Iterator[str]:
        start = clock.monotonic()
        for due, line in source.due_lines():
            if _wait(start + due, stopped):
                return
            yield line

    return Again(make)


def replay_files(
    file: str | os.PathLike[str],
    *,
    time: str,
    time_format: str | None = None,
    speed: float = 60.0,
    every: float = 1.0,
    stop: threading.Event | None = None,
) -> Iterable[tuple[str, str]]:
    """Give the lines of a file as small files, at the pace of their times: (name, text) pairs for `drip`.

    The lines of each `every` seconds come together in one file at their end, with the header of a CSV file
    first; where no line is due there is no file. Lines keep their order, as with `replay`.

    Args:
        file: as for `replay`.
        time: as for `replay`.
        time_format: as for `replay`.
        speed: as for `replay`.
        every: seconds from one file to the next.
        stop: as for `replay`.

    Raises:
        InvalidInputError: as `replay`, and if `every` is not above 0.
    """
    check(replay_files, locals())
    if not every > 0:
        raise InvalidInputError(f"every is {every} seconds; give a number above 0")
    source, stopped = _Source(Path(file), time, time_format, speed), stop or threading.Event()

    def make() -> Iterator[tuple[str, str]]:
        start = clock.monotonic()
        name = f"{source.path.stem}-{{:04}}{source.path.suffix}".lstrip("._")  # Spark skips such names
        slots = itertools.groupby(source.due_lines(), key=lambda line: int(line[0] / every))
        for number, (slot, lines) in enumerate(slots, 1):
            text = "".join(f"{line}\n" for line in (*source.header, *(line for _, line in lines)))
            if _wait(start + (slot + 1) * every, stopped):
                return
            yield name.format(number), text

    return Again(make)


def _wait(until: float, stop: threading.Event) -> bool:
    left = until - clock.monotonic()
    return stop.wait(left) if left > 0 else stop.is_set()


class _Source:
    """The lines of a file, each with the second in which it is due."""

    def __init__(self, path: Path, time: str, time_format: str | None, speed: float) -> None:
        if not path.is_file():
            raise InvalidInputError(
                f"no file {path}; give the path of a CSV file with a header or of JSON lines"
            )
        if not speed > 0:
            raise InvalidInputError(
                f"speed is {speed}; give a number above 0, such as 60 for a minute in a second"
            )
        self.path, self.time, self.speed = path, time, speed
        self._format = time_format
        self._json = path.suffix.lower() in _JSON
        self.header = [] if self._json else [line for _, line in itertools.islice(self._records(), 1)]
        self._columns = next(csv.reader(self.header), [])
        if self.header and time not in self._columns:
            known = f"; the columns are: {', '.join(self._columns)}"
            raise InvalidInputError(f"{path} has no column {time!r}{hint(time, self._columns) or known}")
        times = [moment for moment, _ in itertools.islice(self._timed_lines(), _LOOKED_AT)]
        if times and set(times) == {None}:
            known = "epoch seconds and ISO 8601, such as 2024-01-31 12:00:00; for others give time_format"
            takes = f"{known}='%m/%d/%Y %H:%M' or the like" if time_format is None else repr(time_format)
            raise InvalidInputError(
                f"no time can be read from {time!r} in the first lines of {path}; it takes {takes}"
            )

    def due_lines(self) -> Iterator[tuple[float, str]]:
        """Give each line with the second in which it is due, which never decreases."""
        first: int | None = None
        newest = unreadable = earlier = lines = 0
        for moment, line in self._timed_lines():
            lines += 1
            if moment is None:
                unreadable += 1
            elif first is None:
                first = newest = moment
            else:
                earlier += moment < newest
                newest = max(newest, moment)
            yield (newest - (first or 0)) / 1_000_000 / self.speed if first is not None else 0.0, line
        if unreadable or earlier:
            _log.warning(
                "of %d lines of %s, %d have no readable time and %d an earlier time than a line before them; "
                "each came right after the line before it",
                lines,
                self.path,
                unreadable,
                earlier,
            )

    def _timed_lines(self) -> Iterator[tuple[int | None, str]]:
        for fields, line in itertools.islice(self._records(), len(self.header), None):
            value = (
                _field(fields, self.time)
                if self._json
                else dict(zip(self._columns, fields, strict=False)).get(self.time)
            )
            yield microseconds(value.strip() if isinstance(value, str) else value, self._format), line

    def _records(self) -> Iterator[tuple[Any, str]]:
        """Give each record, parsed, and its text as it stands in the file; one of CSV may hold newlines."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                if self._json:
                    for line in file:
                        yield _json(line), line.rstrip("\r\n")
                    return
                seen: list[str] = []
                for fields in csv.reader(_noting(file, seen)):
                    yield fields, "".join(seen).rstrip("\r\n")
                    seen.clear()
        except (OSError, UnicodeDecodeError, csv.Error) as err:
            raise InvalidInputError(f"cannot read {self.path} ({err}); give a readable UTF-8 file") from err


def _noting(lines: Iterable[str], seen: list[str]) -> Iterator[str]:
    for line in lines:
        seen.append(line)
        yield line


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _field(value: Any, name: str) -> Any:
    """Return a field of a JSON object, or of one in it by names with dots; None where there is none."""
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    outer, _, inner = name.partition(".")
    return _field(value.get(outer), inner) if inner else None
