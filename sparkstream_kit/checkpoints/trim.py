"""Cut from file sources' logs what Spark never looks at again, and restore it on request.

A file source lists in its log every file that it has ever read. Spark reads the whole
log at a start and writes all of it anew at each compaction, by default in every tenth
batch. Yet of the files in the log it only considers those that are at most `maxFileAge`
(by default 7 days) older than the newest one: it reads no older file, whether the log
lists it or not (`SeenFilesMap` in Spark's `FileStreamSource`). So a log without these
entries means the same to Spark.

`trim` moves such entries from the newest compacted file of a log to the folder
`sparkstream-kit/trimmed` of the checkpoint, and `restore` brings them back. Each file
there is named `ENTRY.LIMIT.AGE`: the number of the compacted file, the time before
which its entries were taken out, and the `maxFileAge` of the source, both in
milliseconds.

These entries always stay:

- those of the batches that the checkpoint keeps, which a restart or a rewind may run
  again;
- those that Spark would consider after a rewind to the oldest of these batches;
- all entries of a source with `latestFirst` and a limit for each batch, for which Spark
  ignores `maxFileAge`, and those in a checkpoint that is not on a local path.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._internal import file_system
from sparkstream_kit.checkpoints.logs import (
    KIT,
    DamagedError,
    Logs,
    log_after,
    log_file,
    log_lines,
    log_text,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sparkstream_kit.checkpoints.logs import InputFile


LONG = 100_000  # bytes: a shorter log, of less than some 1,000 files, is left as it is
# The units of `maxFileAge`, in milliseconds
_UNITS = {
    "": 1,
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
# The end of a line of a log; `logs` has the whole line
_LINE = re.compile(rb'"timestamp":(?P<time>-?\d+),"batchId":(?P<entry>\d+)\}')


def max_age(options: Mapping[str, str]) -> int | None:
    """Return a file source's `maxFileAge` in milliseconds; None if unknown or ignored by Spark.

    Args:
        options: the options of the source.

    Examples:
        >>> max_age({"maxFileAge": "2d"}), max_age({}) == max_age({"maxFileAge": "7d"})
        (172800000, True)
        >>> max_age({"latestFirst": "true", "maxFilesPerTrigger": "1"})
    """
    lowered = {name.lower(): value.strip().lower() for name, value in options.items()}
    is_limited = "maxfilespertrigger" in lowered or "maxbytespertrigger" in lowered
    if is_limited and lowered.get("latestfirst") == "true":
        return None
    text = lowered.get("maxfileage", "7d")  # Spark's default
    age = re.fullmatch(r"(?P<number>\d+)\s*(?P<unit>[a-z]*)", text)
    if age is None or age["unit"] not in _UNITS:
        return None
    return int(age["number"]) * _UNITS[age["unit"]]


def trimmed(root: Path, log: str) -> list[Path]:
    """Return the files with the entries that were taken out of a log, in the form of the log."""
    folder = root / KIT / "trimmed" / log
    return list(folder.glob("[0-9]*"))


def due(logs: Logs, log: str, age: int | None) -> Callable[[], None] | None:
    """Return the function to run on a log, `restore` or `trim`; None if it is as it should be.

    A log is trimmed once a quarter of it can be taken out.

    Args:
        logs: the logs of a checkpoint on a local path.
        log: the name of a file source's log.
        age: the `max_age` of the source. If it has grown since the log was trimmed, the
            log is restored.
    """
    for file in trimmed(logs.root, log):
        if age is None or age > int(file.name.split(".")[2]):
            return partial(restore, logs, log)
    if age is None:
        return None
    # Spark may remove a file in the same moment: then another look finds the next one.
    with suppress(DamagedError, FileNotFoundError):
        return _trim_if_due(logs, log, age)
    return None


def _trim_if_due(logs: Logs, log: str, age: int) -> Callable[[], None] | None:
    """Return the function that trims a log; None if less than a quarter can be taken out.

    Raises:
        DamagedError, FileNotFoundError: a file of the log cannot be read.
    """
    file = _newest(logs, log)
    if file is None:
        return None
    size = file.stat().st_size
    if size < LONG:
        return None
    first = logs.until(min(logs.entries("offsets"))).get(log, -1)
    last_inputs = log_after(file, min(first, int(file.stem)) - 1)
    newest = max(
        (each.time for each in last_inputs if each.entry <= first), default=age
    )
    limit = newest - age
    with reading(file), file.open("rb") as lines:
        lines.seek(size // 4)
        lines.readline()  # the rest of a line
        if not _is_out(lines.readline(), first, limit):
            return None
    return partial(trim, logs, file, first, limit, age)


def trim(logs: Logs, file: Path, first: int, limit: int, age: int) -> None:
    """Move the entries of a compacted file that Spark never looks at again to the folder `trimmed`.

    A crash at any moment does no harm: until the last step the file of the log is as it
    was.

    Args:
        logs: the logs of the checkpoint.
        file: the newest compacted file of a log.
        first: the first entry of the log that stays, however old its files are.
        limit: the modification time of the oldest files that stay, in milliseconds
            since 1970.
        age: the `max_age` of the source.
    """
    target = (
        logs.root / KIT / "trimmed" / file.parent.name / f"{file.stem}.{limit}.{age}"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    file_system.replace(target, _lines(file, first, limit, out=True))
    logs.replace(file, _lines(file, first, limit, out=False))


def restore(logs: Logs, log: str) -> None:
    """Bring back the entries that were taken out of a log; after a crash it can be called again."""
    trimmed_files = trimmed(logs.root, log)
    file = _newest(logs, log)
    # Without a compacted file, as after a rewind, the log has all entries
    if trimmed_files and file is not None:
        inputs: list[InputFile] = []
        for part in (*trimmed_files, file):
            inputs += log_file(part)
        # After a crash some are in both
        in_order = sorted(dict.fromkeys(inputs), key=lambda each: each.entry)
        logs.replace(file, [log_text(in_order)])
    for part in trimmed_files:
        part.unlink()


def _newest(logs: Logs, log: str) -> Path | None:
    """Return the newest compacted file of a log."""
    for file in reversed(logs.entries(f"sources/{log}").values()):
        if file.suffix:
            return file
    return None


def _lines(file: Path, first: int, limit: int, *, out: bool) -> Iterator[bytes]:
    """Yield the lines of a log that are taken out, or that stay, after the version's line."""
    yield b"v1"
    with reading(file):
        for line in log_lines(file):
            if _is_out(line, first, limit) == out:
                yield b"\n" + line


def _is_out(line: bytes, first: int, limit: int) -> bool:
    """Return whether a line of a log is taken out; the arguments are those of `trim`.

    Raises:
        ValueError: the line is not one that Spark wrote.
    """
    fields = _LINE.search(line)
    if fields is None:
        raise ValueError(f"not a line of a file source's log: {line!r}")
    return int(fields["time"]) < limit and int(fields["entry"]) < first
