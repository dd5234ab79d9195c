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
from sparkstream_kit.checkpoints.logs import DamagedError, Input, Logs, Plan, query_id
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
    replayed: tuple[Input, ...]
    name: str = ""

    def __str__(self) -> str:
        what = f"files of {self.folder}, " if self.folder else ""
        done = (
            "nothing read yet"
            if self.committed is None
            else f"offset {_short(self.committed)}"
        )
        more = self.planned is not None and self.planned != self.committed
        return f"{what}{done}" + (
            f", planned to {_short(str(self.planned))}" if more else ""
        )


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
        open_plan = self.planned is not None and self.planned != self.committed
        biggest = [
            f"{name} {_size(size)}" for name, size in list(self.sizes.items())[:3]
        ]
        when = (
            _time(self.committed_at)
            if self.committed_at
            else "but when is not known, as of a copy"
        )
        facts = [
            ("checkpoint", self.path),
            ("query", ", ".join(filter(None, (self.name, self.query_id))) or "unknown"),
            ("in use", self.in_use and "a query of the kit is running on it"),
            (
                "committed",
                self.committed is not None and f"batch {self.committed}, {when}",
            ),
            ("planned", open_plan and f"batch {self.planned}, not committed"),
            (
                "kept",
                self.oldest is not None and f"batches {self.oldest} to {self.planned}",
            ),
            ("watermark", self.watermark and _time(self.watermark)),
            *((f"source {source.name}", source) for source in self.sources),
            *((f"state {number}", state) for number, state in enumerate(self.states)),
            ("size", f"{_size(sum(self.sizes.values()))}, of it {', '.join(biggest)}"),
        ]
        wide = max(12, *(len(name) + 2 for name, _ in facts))
        shown = [f"{name:<{wide}}{value}" for name, value in facts if value]
        return "\n".join([*shown, "", *self._restart(open_plan=open_plan)])

    def _restart(self, *, open_plan: bool) -> list[str]:
        """Return the lines about what a restart would do."""
        if self.damage:
            return [self.damage]
        if not open_plan:
            following = 0 if self.planned is None else self.planned + 1
            return [f"A restart runs nothing again; the next batch is {following}."]
        files = [file for source in self.sources for file in source.replayed]
        said = f", with {count(len(files), 'file')}:" if files else "."
        return [f"A restart runs batch {self.planned} again{said}", *file_lines(files)]


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
    last, ended = (_tried(partial(logs.plan, batch)) for batch in (logs.planned, done))
    watermark = (_tried(partial(logs.commit, done)) or {}).get("nextBatchWatermarkMs")
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


def _sources(logs: Logs, ended: Plan | None, last: Plan) -> Iterator[Source]:
    """Yield the sources, in the order of the plan.

    Args:
        logs: the logs of the checkpoint.
        ended: the plan of the last committed batch, if it can be read.
        last: the plan of the last planned batch.
    """
    before = {} if ended is None else dict(zip(ended.names, ended.offsets, strict=True))
    entries = {} if ended is None else dict(zip(ended.names, ended.files, strict=True))
    for name, log, planned, until in zip(
        last.names, logs.names(last), last.offsets, last.files, strict=True
    ):
        committed = before.get(name)
        read = entries.get(name)
        if until is None:
            yield Source(None, committed, planned, (), name)
            continue
        folder = "?"  # as of a log that cannot be read
        replayed: list[Input] = []
        with suppress(DamagedError, IndexError):
            replayed = logs.inputs(log, -1 if read is None else read, until)
            newest = (replayed or logs.inputs(log, until - 1, until))[-1]
            folder = (newest.path or newest.uri).rpartition("/")[0]
        yield Source(
            folder,
            None if read is None else str(read),
            str(until),
            tuple(replayed),
            name,
        )


def _sizes(root: Path) -> dict[str, int]:
    """Return the bytes of each folder of a checkpoint, largest first, without checksum files."""
    sizes: Counter[str] = Counter()
    for folder, _, names in os.walk(root):
        part = Path(folder).relative_to(root).parts
        # Without checksums
        for name in (each for each in names if part and not each.startswith(".")):
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
    units = iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    step = 1024
    while number >= step and unit != "GiB":
        number = number / step
        unit = next(units)
    return f"{number:,.{int(unit != 'B' and number < 10)}f} {unit}"  # noqa: PLR2004 - two digits


def file_lines(found: Sequence[Input]) -> list[str]:
    """Return a line with size and path for each of the first five files, and one for the rest.

    A file that no longer exists has "gone" in place of its size; one on another file
    system has nothing.
    """
    lines = []
    for file in found[:_SHOWN]:
        told = (
            ""
            if file.path is None
            else "gone"
            if file.gone
            else _size(Path(file.path).stat().st_size)
        )
        lines.append(f"  {told:>8}  {file.path or file.uri}")
    if len(found) > _SHOWN:
        lines.append(f"            and {len(found) - _SHOWN:,} more")
    return lines
