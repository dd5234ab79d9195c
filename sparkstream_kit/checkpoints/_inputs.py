"""The log of a file source: which files it has found.

sources/I/K            the files that offset K of source I added, a line of JSON each
sources/I/K.compact    the same, and all that came before it, whose own files Spark removes when the batches
                       that need them are no longer kept
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit.checkpoints._layout import (
    DamagedError,
    Plan,
    as_json,
    check_unchanged,
    last_plan,
    lines,
    numbered,
    plan,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_END = 1 << 16


@dataclass(frozen=True)
class Input:
    """A file that a file source has found: its URI, the offset that added it, and its line in the log."""

    uri: str
    offset: int
    line: str

    @property
    def path(self) -> Path | None:
        """The file's local path; None if it lies elsewhere."""
        match = re.fullmatch(r"file:/*(/.*)", self.uri)
        return Path(unquote(match[1])) if match else None

    @property
    def gone(self) -> bool:
        """A local file that no longer exists."""
        return self.path is not None and not self.path.exists()


def log_numbers(root: Path, of: Plan) -> tuple[int, ...]:
    """Return the number of each source's log, in the order of the plan.

    A DataFrame that is read twice, as in a join with itself, stands twice in the plan and has one log.
    """
    logs = numbered(root / "sources")
    until = [of.files_until(place) for place in range(len(of.offsets))]
    each = tuple(range(len(until)))
    if all(place in logs for place in each if until[place] is not None):
        return each
    newest = {number: max(numbered(log), default=-1) for number, log in logs.items()}
    furthest = max(last for last in until if last is not None)
    for reached in (newest, dict.fromkeys(logs, furthest)):  # a log may have lost its end
        for found in _shared(list(zip(of.offsets, until, strict=True)), reached, ()):
            if set(logs) <= set(found):
                return found
    return each


def _shared(
    places: list[tuple[str | None, int | None]], reached: dict[int, int], found: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Yield which logs sources may have: each its own that reaches its offset, or that of an equal one."""
    if len(found) == len(places):
        yield found
        return
    offset, last = places[len(found)]
    equal = [log for log, (other, _) in zip(found, places, strict=False) if other == offset]
    for log in dict.fromkeys((max(found, default=-1) + 1, *equal)):
        if log in equal or last is None or reached.get(log, -1) >= last:
            yield from _shared(places, reached, (*found, log))


def file_logs(root: Path, of: Plan) -> list[tuple[Path, int]]:
    """Return the log of each file source, with the last offset that a plan reads."""
    until = {log: of.files_until(place) for place, log in enumerate(log_numbers(root, of))}
    return [(root / "sources" / str(log), last) for log, last in until.items() if last is not None]


def log_files(log: Path, until: int) -> list[Path]:
    """Return the files that together hold a file source's log up to an offset.

    Raises:
        DamagedError: one of them is missing.
    """
    found = numbered(log)
    compacts = [number for number, file in found.items() if file.suffix]
    first = max((number for number in compacts if number <= until), default=0)
    missing = next((number for number in range(first, until + 1) if number not in found), None)
    if missing is not None:
        raise DamagedError(log / str(missing), "is missing")
    return [found[number] for number in range(first, until + 1)]


def check_log_file(file: Path) -> None:
    """Raise DamagedError if a file of a file source's log is empty or cut off; only its ends are read."""
    with reading(file), file.open("rb") as opened:
        head = opened.read(_END)
        opened.seek(max(file.stat().st_size - _END, 0))
        tail = opened.read().rstrip(b"\n").rpartition(b"\n")[2]
    if not head:
        raise DamagedError(file, "is empty")
    if not head.startswith(b"v1\n") or not tail.endswith(b"}"):
        raise DamagedError(file, "is cut off or changed")


def whole_plan(root: Path, batch: int) -> Plan:
    """Return the plan of a batch that Spark can follow.

    Raises:
        DamagedError: the plan, or a log of a file source that it reads.
    """
    file = root / "offsets" / str(batch)
    found = plan(file)
    check_unchanged(file)
    for log, until in file_logs(root, found):
        for each in log_files(log, until):
            check_log_file(each)
            check_unchanged(each)
    return found


def inputs(log: Path, after: int, until: int) -> list[Input]:
    """Return the files that a file source's log added after one offset and up to another.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    found: dict[Path, list[Input]] = {}
    for file in log_files(log, until):
        if file.suffix or int(file.name) > after:
            parsed = [(line, as_json(file, line)) for line in lines(file, "v1") if line]
            with reading(file):
                found[file] = [
                    Input(str(entry["path"]), int(entry["batchId"]), line) for line, entry in parsed
                ]
    return [entry for each in found.values() for entry in each if after < entry.offset <= until]


def pending(root: Path, batch: int) -> list[Input]:
    """Return the files that were found after the end of a batch; a damaged log counts as empty."""
    last = last_plan(root)
    found: list[Input] = []
    for log, _ in file_logs(root, last) if last else ():
        with suppress(DamagedError):
            ended = plan(root / "offsets" / str(batch)) if batch >= 0 else Plan({}, ())
            after = dict(file_logs(root, ended)).get(log, -1)
            found += inputs(log, after, max(numbered(log), default=-1))
    return found
