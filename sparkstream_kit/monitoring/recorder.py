"""A run's flight recorder: a file of JSON lines, which tells afterwards what the run did.

The first line says which queries ran. Each batch follows as Spark's own progress, and a line that says when
the run has ended. A run that was killed has no such line. The next run appends to the same file.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql.streaming.listener import StreamingQueryProgress

from sparkstream_kit._spark import queries as asking
from sparkstream_kit.errors import InvalidInputError, without_secrets
from sparkstream_kit.progress import QuerySummary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board

__all__ = ["batch_line", "end_line", "first_line", "follow", "has_ended", "recording"]

_FORM = 1  # of the lines; a later form has another number
_READ = "give a file that --record has written"
_BEGIN = b'{"recording":'
_LINE = 1 << 16  # bytes; the last line is shorter


@contextmanager
def recording(
    path: str | Path, queries: Sequence[StreamingQuery]
) -> Iterator[Callable[[StreamingQueryProgress], None]]:
    """Append a run to a file, each line whole and at once.

    Args:
        path: the file; one that another run has written keeps what is in it.
        queries: those of the run.

    Yields:
        A function that gets each progress, and raises an OSError where there is no room for it.

    Raises:
        InvalidInputError: the file cannot be written, or holds something else.
    """
    with _in_one_line(path):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    whole = True

    def add(line: str) -> None:
        nonlocal whole
        whole, data = False, line.encode()
        whole = os.write(file, data) == len(data)
        if not whole:
            raise OSError(f"no room in {path}")

    try:
        with _in_one_line(path):
            add(_before(file, path) + first_line(queries))
        try:
            yield lambda progress: add(batch_line(progress))
        finally:
            if whole:  # after a line that is torn, this one could not be read either
                with suppress(OSError):  # the disk is full, and the run may have ended well
                    os.write(file, end_line().encode())
    finally:
        os.close(file)


@contextmanager
def _in_one_line(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        why = err.strerror or err
        raise InvalidInputError(
            f"cannot write the recording {path} ({why}); give a file that can be written"
        ) from err


def _before(file: int, path: str | Path) -> str:
    """Return what has to come before a line, for it to be a line of its own."""
    with open(file, "rb", closefd=False) as there:
        begin = there.readline()
        if not begin.endswith(b"\n") and _BEGIN.startswith(begin[: len(_BEGIN)]):
            os.ftruncate(file, 0)  # a run was killed, or the disk was full, in the very first line
            return ""
        if "recording" not in _read(begin.decode(errors="replace")):
            raise InvalidInputError(f"{path} holds something else than recordings; give another file")
        there.seek(-1, os.SEEK_END)
        return "" if there.read() == b"\n" else "\n"  # after the line that a killed run has left


# --- lines


def first_line(queries: Iterable[StreamingQuery]) -> str:
    """Return the line that a recording of these queries begins with."""
    told = [
        {
            "name": query.name or query.id,
            "id": query.id,
            "runId": str(query.runId),
            "mode": asking.started(query).mode,
            "interval": asking.started(query).interval,
            "ends": asking.started(query).ends,
        }
        for query in queries
    ]
    return _line({"recording": _FORM, "by": "sparkstream-kit", "at": _now(), "queries": told})


def batch_line(progress: StreamingQueryProgress) -> str:
    """Return the line of a batch: Spark's progress, without the passwords of addresses in it."""
    told = json.loads(progress.json)
    for part in (*told.get("sources", []), told.get("sink", {})):
        if "description" in part:
            part["description"] = without_secrets(part["description"])
    return _line(told)


def end_line() -> str:
    """Return the last line of a recording."""
    return _line({"end": _now()})


def _line(told: dict[str, Any]) -> str:
    return json.dumps(told, separators=(",", ":")) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _read(line: str) -> dict[str, Any]:
    """Return what a line tells; nothing of one that is torn."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def follow(lines: Iterable[str], board: Board) -> None:
    """Put the lines of a recording on a board, until they end; of several runs, the last one stays there.

    Args:
        lines: of a file or of a connection; a line that is torn is left out.
        board: is ended by the line at a run's end.

    Raises:
        InvalidInputError: these are no lines of a recording, or they are of a later version of the kit.
    """
    begun = False
    for number, line in enumerate(lines, 1):
        told = _read(line)
        if not begun and "recording" not in told:
            raise InvalidInputError(f"line {number} is not the first one of a recording; {_READ}")
        try:
            if "recording" in told:
                if told["recording"] != _FORM:
                    raise InvalidInputError("it was recorded by another version of the kit; use that one")
                begun = True
                _expect(told, board)
            elif "end" in told:
                board.end()
            elif told:
                board.add(StreamingQueryProgress.fromJson(told))
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            if isinstance(err, InvalidInputError):
                raise
            raise InvalidInputError(f"line {number} is no progress that can be read; {_READ}") from err


def _expect(told: dict[str, Any], board: Board) -> None:
    board.clear()
    for query in told["queries"]:
        summary = QuerySummary(query["name"], query["id"], mode=query["mode"])
        since, ends = datetime.fromisoformat(told["at"]), query.get("ends", True)
        board.expect(query["runId"], summary, query["interval"], since, ends=ends)


def has_ended(path: Path) -> bool:
    """Say whether the last run in a file has ended; one that was killed has not."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE))
        last = file.read().removesuffix(b"\n").rpartition(b"\n")[2]
    return "end" in _read(last.decode(errors="replace"))
