"""`show`: what a checkpoint holds, and what a restart would run again."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.checkpoints import _inputs, _layout, _state, _words
from sparkstream_kit.checkpoints._layout import DamagedError
from sparkstream_kit.checkpoints.checking import damage
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Checkpoint", "Source", "State", "damage", "show"]


@dataclass(frozen=True)
class Source:
    """One source of a query.

    Attributes:
        folder: of a file source, where its newest file lies; None for another source.
        committed: its offset at the end of the last committed batch, in Spark's words; None before one.
        planned: its offset at the end of the last planned batch.
        replayed: the files that a planned batch which is not committed reads.
    """

    folder: str | None
    committed: str | None
    planned: str | None
    replayed: tuple[_inputs.Input, ...]

    def __str__(self) -> str:
        what = f"files of {self.folder}, " if self.folder else ""
        done = "nothing read yet" if self.committed is None else f"offset {_words.short(self.committed)}"
        more = self.planned is not None and self.planned != self.committed
        return f"{what}{done}" + (f", planned to {_words.short(str(self.planned))}" if more else "")


@dataclass(frozen=True)
class State:
    """One stateful operator of a query.

    Attributes:
        operator: Spark's name for it.
        stores: the names of its state stores.
        provider: what keeps it (HDFSBacked, RocksDB).
        partitions: how many, whatever `spark.sql.shuffle.partitions` says now.
    """

    operator: str
    stores: tuple[str, ...]
    provider: str
    partitions: int

    def __str__(self) -> str:
        stores = f"{len(self.stores)} stores, " if len(self.stores) > 1 else ""
        return f"{self.operator}, {stores}{_words.count(self.partitions, 'partition')}, {self.provider}"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds; as text, for people.

    Attributes:
        path: the folder.
        query_id: Spark's id of the query; None if it cannot be read.
        name: the query's name, if the kit's `start` has started it.
        committed: the last committed batch; None before the first.
        committed_at: when it was committed.
        planned: the last planned batch. If it is not committed, a restart runs it again.
        oldest: the oldest batch whose plan is kept.
        watermark: the time that the watermark had reached at the last commit, if the query has one.
        sources: the sources, in the order of the plan.
        states: the stateful operators.
        sizes: bytes on disk, by folder, the most first.
        in_use: whether a query runs on it that the kit's `start` has started on this machine.
        damage: why Spark could not go on from here, and the way out; None if it can.
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
        biggest = [f"{name} {_words.size(size)}" for name, size in list(self.sizes.items())[:3]]
        facts = [
            ("checkpoint", self.path),
            ("query", ", ".join(filter(None, (self.name, self.query_id))) or "unknown"),
            ("in use", self.in_use and "a query of the kit is running on it"),
            ("committed", self.committed_at and f"batch {self.committed}, {_words.time(self.committed_at)}"),
            ("planned", open_plan and f"batch {self.planned}, not committed"),
            ("kept", self.oldest is not None and f"batches {self.oldest} to {self.planned}"),
            ("watermark", self.watermark and _words.time(self.watermark)),
            *((f"source {number}", source) for number, source in enumerate(self.sources)),
            *((f"state {number}", state) for number, state in enumerate(self.states)),
            ("size", f"{_words.size(sum(self.sizes.values()))}, of it {', '.join(biggest)}"),
        ]
        shown = [f"{name:<12}{value}" for name, value in facts if value]
        return "\n".join([*shown, "", *self._restart(open_plan=open_plan)])

    def _restart(self, *, open_plan: bool) -> list[str]:
        """Say what a restart would do."""
        if self.damage:
            return [self.damage]
        if not open_plan:
            following = 0 if self.planned is None else self.planned + 1
            return [f"A restart runs nothing again; the next batch is {following}."]
        files = [file for source in self.sources for file in source.replayed]
        said = f", with {_words.count(len(files), 'file')}:" if files else "."
        return [f"A restart runs batch {self.planned} again{said}", *_words.files(files)]


def show(path: str | Path) -> Checkpoint:
    """Read what a checkpoint holds, without Spark.

    Args:
        path: a checkpoint on a local path; its query may be running.

    Raises:
        InvalidInputError: no checkpoint, or one of a newer Spark's format.

    Example:
        >>> show("ckpt/totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder that ...
    """
    check(show, locals())
    root = _layout.checkpoint(path)
    plans, commits = (_layout.numbered(root / name) for name in ("offsets", "commits"))
    committed, planned = max(commits, default=None), max(plans, default=None)
    last = _tried(_layout.plan, plans.get(-1 if planned is None else planned))
    ended = None if committed is None else _tried(_layout.plan, plans.get(committed))
    commit = _tried(_layout.commit, commits.get(-1 if committed is None else committed)) or {}
    watermark = commit.get("nextBatchWatermarkMs")
    readable = _layout.last_plan(root)
    settings = readable.query.get("conf", {}) if readable else {}
    provider = settings.get(STATE_STORE, "unknown").rpartition(".")[2]
    return Checkpoint(
        path=root,
        query_id=_tried(_layout.query_id, root / "metadata"),
        name=_name(root),
        committed=committed,
        committed_at=None if committed is None else _at(commits[committed].stat().st_mtime),
        planned=planned,
        oldest=min(plans, default=None),
        watermark=_at(watermark / 1000) if watermark else None,
        sources=tuple(
            _source(root, number, ended, last) for number in range(len(last.offsets) if last else 0)
        ),
        states=tuple(
            State(found.name, found.stores, provider.removesuffix("StateStoreProvider"), found.partitions)
            for found in _state.operators(root)
        ),
        sizes=_sizes(root),
        in_use=_in_use(root),
        damage=damage(root),
    )


def _tried(read: Callable[[Path], Any], file: Path | None) -> Any:
    """Return what a file says, or None if it is missing or damaged: `damage` says which and why."""
    try:
        return None if file is None else read(file)
    except DamagedError:
        return None


def _source(root: Path, number: int, ended: _layout.Plan | None, last: _layout.Plan) -> Source:
    committed = ended.offsets[number] if ended and number < len(ended.offsets) else None
    planned = last.offsets[number]
    until = last.files_until(number)
    if until is None:
        return Source(None, committed, planned, ())
    log = root / "sources" / str(_inputs.log_numbers(root, last)[number])
    before = ended.files_until(number) if ended else None
    after = -1 if before is None else before
    try:
        replayed = _inputs.inputs(log, after, until) if until > after else []
        newest = (replayed or _inputs.inputs(log, until - 1, until))[-1]
    except (DamagedError, IndexError):
        return Source("?", committed, planned, ())
    folder = str(newest.path.parent) if newest.path else newest.uri.rpartition("/")[0]
    return Source(folder, None if before is None else str(before), str(until), tuple(replayed))


def _in_use(root: Path) -> bool:
    try:
        with _layout.alone(root, change=False):
            return False
    except InvalidInputError:
        return True


def _name(root: Path) -> str | None:
    """Return the query's name, which `start` keeps in the checkpoint."""
    try:
        name = dict(json.loads((root / _layout.KIT / "query.json").read_text("utf-8"))).get("name")
    except (OSError, TypeError, ValueError):
        return None
    return name and str(name)


def _sizes(root: Path) -> dict[str, int]:
    """Return the bytes of each folder, the biggest first."""
    sizes: Counter[str] = Counter()
    for folder, _, names in os.walk(root):
        part = Path(folder).relative_to(root).parts
        for name in names if part else ():
            with suppress(FileNotFoundError):  # of a running query
                sizes[part[0]] += Path(folder, name).stat().st_size
    return dict(sizes.most_common())


def _at(seconds: float) -> datetime | None:
    """Return a moment; None for one that Python has no date for, such as the year 20000."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OSError, OverflowError, ValueError):
        return None
