"""The log of a file source: which files it has found, and which of them a batch has read.

sources/I/K            the files that entry K of source I added, a line of JSON each; I is its number or name
sources/I/K.compact    the same, and all that came before it, whose own files Spark removes when the batches
                       that need them are no longer kept
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from sparkstream_kit.checkpoints import _records, layout
from sparkstream_kit.checkpoints.layout import DamagedError, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "Input",
    "check_ends",
    "committed",
    "file_logs",
    "inputs",
    "log_file",
    "log_files",
    "log_names",
    "log_text",
    "pending",
    "planned",
]

_END = 1 << 16  # bytes that are read of each end of a file

# As Spark writes it; a URI has no quote in it.
_LINE = re.compile(r'\{"path":"([^"]*)","timestamp":(-?\d+),"batchId":(\d+)\}')


class Input(NamedTuple):
    """A file that a file source has found.

    Attributes:
        entry: the entry of the log that added it.
        time: when it was changed last, in milliseconds since 1970.
        uri: where it lies.
    """

    entry: int
    time: int
    uri: str

    @property
    def path(self) -> str | None:
        """The file's local path; None if it lies elsewhere."""
        return unquote(self.uri.removeprefix("file://")) if self.uri.startswith("file:///") else None

    @property
    def gone(self) -> bool:
        """A local file that no longer exists."""
        return self.path is not None and not os.path.exists(self.path)  # noqa: PTH110 - of many files


def log_names(root: Path, of: Plan) -> tuple[str, ...]:
    """Return the name of each source's log, in the order of the plan: a number, or the source's name.

    A DataFrame that is read twice, as in a join with itself, stands twice in the plan and has one log.
    """
    logs = layout.source_logs(root)
    if all(name in logs for name, last in zip(of.names, of.files, strict=True) if last is not None):
        return of.names
    if of.has_named_sources:
        return _by_place(root, of, logs)
    numbered = {int(name): log for name, log in logs.items() if name.isdecimal()}
    ends = {number: layout.newest(log) for number, log in numbered.items()}
    furthest = max(last for last in of.files if last is not None)
    for reached in (ends, dict.fromkeys(numbered, furthest)):  # a log may have lost its end
        for found in _shared(of, reached, ()):
            if set(numbered) <= set(found):
                return tuple(map(str, found))
    return of.names


def _by_place(root: Path, of: Plan, logs: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the names of the sources of a plan that has only their places; `start` notes them.

    Without a note the log that goes further is that of the source which has been read further.
    """
    noted = _records.noted(root).get("sources", ())
    if len(noted) == len(of.names):
        return tuple(noted)
    last = layout.last_plan(root) or of
    read = sorted((until, place) for place, until in enumerate(last.files) if until is not None)
    found = dict(enumerate(of.names))
    longest = sorted((layout.newest(log), name) for name, log in logs.items() if _is_of_files(log))
    found |= {place: name for (_, place), (_, name) in zip(reversed(read), reversed(longest), strict=False)}
    return tuple(found.values())


def _is_of_files(log: Path) -> bool:
    newest = next(reversed(layout.numbered(log).values()), None)
    return newest is not None and newest.read_bytes().startswith(b'v1\n{"path":')


def _shared(of: Plan, reached: dict[int, int], found: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield which logs sources may have: each its own that reaches its offset, or that of an equal one."""
    if len(found) == len(of.offsets):
        yield found
        return
    offset, last = of.offsets[len(found)], of.files[len(found)]
    equal = [log for log, other in zip(found, of.offsets, strict=False) if other == offset]
    for log in dict.fromkeys((max(found, default=-1) + 1, *equal)):
        if log in equal or last is None or reached.get(log, -1) >= last:
            yield from _shared(of, reached, (*found, log))


def file_logs(root: Path, of: Plan) -> dict[Path, int]:
    """Return the log of each file source, with the last entry that a plan reads."""
    found = zip(log_names(root, of), of.files, strict=True)
    return {root / "sources" / log: last for log, last in found if last is not None}


def planned(root: Path) -> dict[Path, int]:
    """Return the log of each file source, with the last entry that a batch was planned with."""
    last = layout.last_plan(root)
    return file_logs(root, last) if last else {}


def committed(root: Path, batch: int | None = None) -> dict[Path, int]:
    """Return the log of each file source, with the last entry that a batch has read: the last committed one.

    Raises:
        DamagedError, InvalidInputError: the plan of the batch cannot be read.
    """
    done = layout.newest(root / "commits") if batch is None else batch
    return file_logs(root, layout.plan(root / "offsets" / str(done))) if done >= 0 else {}


def log_files(log: Path, until: int) -> list[Path]:
    """Return the files that together hold a file source's log up to an entry.

    Raises:
        DamagedError: one of them is missing.
    """
    found = layout.numbered(log)
    first = max((number for number, file in found.items() if file.suffix and number <= until), default=0)
    missing = next((number for number in range(first, until + 1) if number not in found), None)
    if missing is not None:
        raise DamagedError(log / str(missing), "is missing")
    return [found[number] for number in range(first, until + 1)]


def log_file(file: Path) -> list[Input]:
    """Return the inputs in a file of a file source's log.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    texts = [text for text in layout.lines(file, "v1") if text]
    found = [match for match in map(_LINE.fullmatch, texts) if match]
    if len(found) < len(texts):
        raise DamagedError(file)
    with layout.reading(file):
        return [Input(int(match[3]), int(match[2]), match[1]) for match in found]


def check_ends(file: Path) -> None:
    """Raise DamagedError if a file of a file source's log is empty or cut off; only its ends are read."""
    with layout.reading(file), file.open("rb") as opened:
        head = opened.read(_END)
        opened.seek(max(file.stat().st_size - _END, 0))
        tail = opened.read().rstrip(b"\n")
    if not head:
        raise DamagedError(file, "is empty")
    if not head.startswith(b"v1\n") or not tail.endswith(b"}"):
        raise DamagedError(file)


def log_text(found: Iterable[Input]) -> str:
    """Return the text of a file of a file source's log."""
    texts = [f'{{"path":"{each.uri}","timestamp":{each.time},"batchId":{each.entry}}}' for each in found]
    return "\n".join(["v1", *texts])


def inputs(log: Path, after: int = -1, until: int | None = None) -> list[Input]:
    """Return the files that a file source's log added after one entry and up to another, or to its end.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    last = layout.newest(log) if until is None else until
    if last <= after:
        return []
    files = [file for file in log_files(log, last) if int(file.stem) > after]
    return [found for file in files for found in log_file(file) if after < found.entry <= last]


def pending(root: Path, batch: int) -> list[Input]:
    """Return the files that were found after the end of a batch; a damaged log counts as empty."""
    found: list[Input] = []
    for log in planned(root):
        with suppress(DamagedError):
            found += inputs(log, committed(root, batch).get(log, -1))
    return found
