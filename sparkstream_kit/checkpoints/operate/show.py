"""`show`: report what a checkpoint holds, and what a restart would run again.

`sparkstream checkpoint show` calls `show`, which returns a `Checkpoint` with a `Source`
for each source. `file_lines` names files, here and in `rewind`.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.checkpoints import lock
from sparkstream_kit.checkpoints.logs import (
    BatchPlan,
    DamagedError,
    InputFile,
    Logs,
    query_id,
)
from sparkstream_kit.checkpoints.operate.check import State, checkpoint, damage, states
from sparkstream_kit.errors import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


_SHOWN = 5  # files that are named; of the rest only the number is shown


@dataclass(frozen=True)
class Source:
    """One source of a query, as its checkpoint describes it.

    Attributes:
        folder: the folder of the newest file of a file source, or "?" if its log cannot
            be read; None before the first file, and for any other source.
        committed: the offset at the end of the last committed batch, as Spark's text
            (for a file source, the entry of its log); None if nothing was read yet.
        planned: the offset at the end of the last planned batch, in the same form.
        replayed: the files that a restart reads again, because their batch is planned
            and not committed.
        name: the name of the source, or its position in the query as text ("0", "1").
    """

    folder: str | None
    committed: str | None
    planned: str | None
    replayed: tuple[InputFile, ...]
    name: str = ""

    def __str__(self) -> str:
        """Return a line such as `files of /in, offset 4, planned to 5`."""
        parts = []
        if self.folder:
            parts.append(f"files of {self.folder}")
        if self.committed is None:
            parts.append("nothing read yet")
        else:
            parts.append(f"offset {_short(self.committed)}")
        if self.planned is not None and self.planned != self.committed:
            parts.append(f"planned to {_short(self.planned)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint; `str()` gives a report for the user.

    Attributes:
        path: the folder of the checkpoint.
        query_id: Spark's id of the query; None if it cannot be read.
        name: the query's name; None if `start` did not start the query.
        committed: the last committed batch; None before the first.
        committed_at: the time of that commit, in UTC; None before the first, and if it
            is not known, as in a copy that has not kept the times of the files (`cp -a`
            and `checkpoints.clone` keep them).
        planned: the last planned batch; None before the first. If it is not committed,
            a restart runs it again.
        oldest: the oldest batch whose plan is still kept; None before the first.
        watermark: the watermark after the last commit, in UTC; None without a
            watermark, and for one beyond Python's last year.
        sources: the sources, in the order of the plan.
        states: the stateful operators.
        sizes: the size of each folder in bytes, without checksum files, the largest
            first.
        in_use: whether a query that `start` started on this machine is running on the
            checkpoint.
        damage: why Spark could not continue from the checkpoint, and the way out; None
            if it can.
    """

    path: Path
    query_id: str | None
    name: str | None
    committed: int | None
    committed_at: datetime | None
    planned: int | None
    oldest: int | None
    watermark: datetime | None
    sources: tuple[Source, ...]
    states: tuple[State, ...]
    sizes: dict[str, int]
    in_use: bool
    damage: str | None

    def __str__(self) -> str:
        """Return the report: a fact on each line, and what a restart would do."""
        facts = self._facts()
        width = max(len(name) for name, _ in facts) + 2
        lines = [f"{name:<{width}}{text}" for name, text in facts]
        return "\n".join([*lines, "", *self._restart()])

    @property
    def _has_open_plan(self) -> bool:
        """Whether a batch is planned and not committed."""
        return self.planned is not None and self.planned != self.committed

    def _facts(self) -> list[tuple[str, str]]:
        """Return the facts that are known, each with its name."""
        name_and_id = [text for text in (self.name, self.query_id) if text]
        facts = [
            ("checkpoint", str(self.path)),
            ("query", ", ".join(name_and_id) or "unknown"),
        ]
        if self.in_use:
            facts.append(("in use", "a query of the kit is running on it"))
        if self.committed is not None:
            when = "but when is not known, as of a copy"
            if self.committed_at is not None:
                when = _time(self.committed_at)
            facts.append(("committed", f"batch {self.committed}, {when}"))
        if self._has_open_plan:
            facts.append(("planned", f"batch {self.planned}, not committed"))
        if self.oldest is not None:
            facts.append(("kept", f"batches {self.oldest} to {self.planned}"))
        if self.watermark is not None:
            facts.append(("watermark", _time(self.watermark)))
        facts += [(f"source {source.name}", str(source)) for source in self.sources]
        facts += [(f"state {at}", str(state)) for at, state in enumerate(self.states)]
        size = _size(sum(self.sizes.values()))
        largest = [f"{name} {_size(size)}" for name, size in self.sizes.items()][:3]
        if largest:
            size += f", of it {', '.join(largest)}"
        facts.append(("size", size))
        return facts

    def _restart(self) -> list[str]:
        """Return the lines about what a restart would do."""
        if self.damage:
            return [self.damage]
        if not self._has_open_plan:
            following = 0 if self.planned is None else self.planned + 1
            return [f"A restart runs nothing again; the next batch is {following}."]
        files: list[InputFile] = []
        for source in self.sources:
            files += source.replayed
        again = f"A restart runs batch {self.planned} again"
        if not files:
            return [f"{again}."]
        return [f"{again}, with {count(len(files), 'file')}:", *file_lines(files)]


def show(path: str | Path) -> Checkpoint:
    """Read what a checkpoint holds, without Spark.

    A damaged file is no error: the result has None for what cannot be read, and
    `damage` names the file.

    Args:
        path: a checkpoint on a local path; its query may be running. Copy a checkpoint
            on another file system, such as hdfs://namenode/ckpt, to this machine first.

    Raises:
        InvalidInputError: there is no checkpoint at `path`, it is on another file
            system, or a newer Spark wrote it in a format that the kit does not know.

    Examples:
        >>> show("ckpt/totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder ...
    """
    check(show, locals())
    logs = Logs(checkpoint(path))
    root = logs.root
    plans = logs.entries("offsets")
    commits = logs.entries("commits")
    done = logs.done
    last = _tried(partial(logs.plan, logs.planned))
    ended = _tried(partial(logs.plan, done))
    commit = _tried(partial(logs.commit, done)) or {}
    watermark = commit.get("nextBatchWatermarkMs")
    return Checkpoint(
        path=root,
        query_id=_tried(partial(query_id, root / "metadata")),
        name=logs.noted.get("name"),
        committed=done if commits else None,
        committed_at=logs.committed_at(done),
        planned=logs.planned if plans else None,
        oldest=min(plans, default=None),
        watermark=_at(watermark / 1000) if watermark else None,
        sources=tuple(_sources(logs, ended, last)) if last else (),
        states=tuple(states(logs)),
        sizes=_sizes(root),
        in_use=lock.user_of(root) is not None,
        damage=damage(logs),
    )


def _tried(read: Callable[[], Any]) -> Any:
    """Return the result of a function that reads a file; None if the file is missing or damaged."""
    with suppress(DamagedError):
        return read()
    return None


def _sources(logs: Logs, ended: BatchPlan | None, last: BatchPlan) -> Iterator[Source]:
    """Yield the sources, in the order of the plan.

    Args:
        logs: the logs of the checkpoint.
        ended: the plan of the last committed batch, if it can be read.
        last: the plan of the last planned batch.
    """
    before: dict[str, str | None] = {}
    entries: dict[str, int | None] = {}
    if ended is not None:
        before = dict(zip(ended.names, ended.offsets, strict=True))
        entries = dict(zip(ended.names, ended.files, strict=True))
    for name, log, planned, until in zip(
        last.names, logs.names(last), last.offsets, last.files, strict=True
    ):
        if until is None:
            yield Source(None, before.get(name), planned, (), name)
        else:
            yield _source_of_files(logs, log, name, entries.get(name), until)


def _source_of_files(
    logs: Logs, log: str, name: str, read: int | None, until: int
) -> Source:
    """Return what is known of a file source.

    Args:
        logs: the logs of the checkpoint.
        log: the name of the source's log.
        name: the name of the source.
        read: the last entry of the log that a committed batch has read, if any.
        until: the last entry that is planned to be read.
    """
    folder = "?"  # as of a log that cannot be read
    replayed: list[InputFile] = []
    with suppress(DamagedError, IndexError):
        replayed = logs.inputs(log, -1 if read is None else read, until)
        newest = (replayed or logs.inputs(log, until - 1, until))[-1]
        folder = (newest.path or newest.uri).rpartition("/")[0]
    committed = None if read is None else str(read)
    return Source(folder, committed, str(until), tuple(replayed), name)


def _sizes(root: Path) -> dict[str, int]:
    """Return the bytes of each folder of a checkpoint, largest first, without checksum files."""
    sizes: Counter[str] = Counter()
    for folder, _, names in os.walk(root):
        part = Path(folder).relative_to(root).parts
        if not part:
            continue
        for name in names:
            if name.startswith("."):
                continue  # a checksum file
            with suppress(FileNotFoundError):  # a running query may remove files
                sizes[part[0]] += Path(folder, name).stat().st_size
    return dict(sizes.most_common())


def _at(seconds: float) -> datetime | None:
    """Return a Unix time as a UTC datetime; None if Python cannot hold it (year 20000)."""
    with suppress(OSError, OverflowError, ValueError):
        return datetime.fromtimestamp(seconds, UTC)
    return None


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _short(text: str, room: int = 60) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _size(number: float) -> str:
    """Return a number of bytes as text with a unit, up to GiB.

    Examples:
        >>> _size(999), _size(2048), _size(50 << 20)
        ('999 B', '2.0 KiB', '50 MiB')
    """
    units = ("B", "KiB", "MiB", "GiB")
    at = 0
    while number >= 1024 and at < len(units) - 1:  # noqa: PLR2004
        number = number / 1024
        at += 1
    # Two digits for small numbers; there are no parts of a byte
    digits = 1 if at > 0 and number < 10 else 0  # noqa: PLR2004
    return f"{number:,.{digits}f} {units[at]}"


def file_lines(files: Sequence[InputFile]) -> list[str]:
    """Return a line with size and path for each of the first five files, and one for the rest.

    A file that no longer exists has "gone" in place of its size; one on another file
    system has nothing.
    """
    lines = []
    for file in files[:_SHOWN]:
        if file.path is None:
            size = ""
        elif file.is_gone:
            size = "gone"
        else:
            size = _size(Path(file.path).stat().st_size)
        lines.append(f"  {size:>8}  {file.path or file.uri}")
    if len(files) > _SHOWN:
        lines.append(f"            and {len(files) - _SHOWN:,} more")
    return lines
