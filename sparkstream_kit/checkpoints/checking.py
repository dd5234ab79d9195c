"""What is wrong with a checkpoint: before Spark says it in its own words, or loses rows without a word."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sparkstream_kit import _arguments
from sparkstream_kit.checkpoints import _inputs, _layout, _state
from sparkstream_kit.checkpoints._layout import DamagedError, Plan, tried
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_T = TypeVar("_T")

__all__ = ["Problem", "check", "damage", "following", "newest_whole", "obstacle"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a checkpoint: which file, what is wrong with it, and what to do."""

    file: Path
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file} {self.what}; {self.fix}"


def check(path: str | Path) -> list[Problem]:
    """Look at all files of a checkpoint, and say what is wrong with them.

    First comes what a restart would trip over, then what it would not notice: a damaged file of an older
    batch, to which a rewind is not possible then; a file that differs from its checksum; and an input file
    that was planned and has gone, without which Spark replays the batch in silence.

    Args:
        path: a checkpoint on a local path.

    Returns:
        The problems, one a file; an empty list if there is none.

    Raises:
        InvalidInputError: no checkpoint, or one of a newer Spark's format.
    """
    _arguments.check(check, locals())
    root = _layout.checkpoint(path)
    found: dict[Path, Problem] = {}
    way_out = None
    for error in _restart(root, whole=True):
        way_out = way_out or _way_out(root)
        found.setdefault(error.file, Problem(error.file, error.what, error.fix or way_out))
    for error in (*_older(root), *_gone(root)):
        found.setdefault(error.file, Problem(error.file, error.what, error.fix))
    return list(found.values())


def damage(path: str | Path, *, whole: bool = False) -> str | None:
    """Say in one line why Spark could not go on from a checkpoint, or return None.

    It looks at what a restart reads and at nothing else: the last plans, the logs of file sources, and of the
    state the last snapshot and each change since then, which are as many as partitions times batches.

    Args:
        path: the checkpoint, which need not exist yet. On a path that is not local nothing is looked at.
        whole: read all that a restart reads, and compare it with its checksums.

    Example:
        >>> damage("a/folder/that/is/not/there/yet")
    """
    root = _layout.local(path)
    if root is None or not root.is_dir():
        return None
    try:
        error = next(_restart(root, whole=whole), None)
        if error is None:
            return None
        # A file that is wrong can make others look missing: its checksum tells which one it is.
        error = next(_restart(root, whole=True), error)
        fix = error.fix or f"{_way_out(root)}; all that is wrong: {_command('check', root)}"
    except InvalidInputError:  # a newer format, which may well be whole
        return None
    return f"checkpoint {root} is damaged: {error.file.relative_to(root)} {error.what}; {fix}"


def _command(name: str, root: Path) -> str:
    """Return a command on a checkpoint, to be copied."""
    return f"sparkstream checkpoint {name} {shlex.quote(str(root))}"


def _way_out(root: Path) -> str:
    batch = newest_whole(root)
    if batch is None:
        return "restore it from a backup, or start anew on another checkpoint"
    return f"restore it from a backup, or go back: {_command('rewind', root)} --to {batch}"


def newest_whole(root: Path) -> int | None:
    """Return the last batch that a checkpoint can be rewound to, or None."""
    return next((n for n in reversed(_layout.numbered(root / "commits")) if obstacle(root, n) is None), None)


def obstacle(root: Path, batch: int) -> DamagedError | None:
    """Return why Spark could not go on from the end of a batch, or None."""
    try:
        commit = _whole(_layout.commit)(root / "commits" / str(batch))
        _inputs.whole_plan(root, batch)
        # Spark reads two plans, the last one and the one before it.
        if batch and following(root, batch) is None:
            _whole(_layout.plan)(root / "offsets" / str(batch - 1))
    except DamagedError as err:
        return err
    return next(_state.lost(root, batch + 1, commit, whole=True), None)


def following(root: Path, batch: int) -> Plan | None:
    """Return the plan of the batch after a batch, if Spark can follow it."""
    with suppress(DamagedError):
        return _inputs.whole_plan(root, batch + 1)
    return None


def _whole(read: Callable[[Path], _T]) -> Callable[[Path], _T]:
    """Return a function that also compares what it reads with its checksum."""

    def read_whole(file: Path) -> _T:
        found = read(file)
        _layout.check_unchanged(file)
        return found

    return read_whole


def _restart(root: Path, *, whole: bool) -> Iterator[DamagedError]:
    """Yield what a restart would trip over."""
    plan = _whole(_layout.plan) if whole else _layout.plan
    commit = _whole(_layout.commit) if whole else _layout.commit
    query_id = _whole(_layout.query_id) if whole else _layout.query_id
    plans, commits = (list(_layout.numbered(root / name)) for name in ("offsets", "commits"))
    if plans or commits or (root / "metadata").exists():
        for err in tried(query_id, root / "metadata"):
            fix = (
                'restore it; or delete .metadata.crc and write {"id": "…"} into metadata, with the id from '
                "the query's progress or a sink's ledger"
            )
            yield DamagedError(err.file, err.what, fix)
    done = max(commits, default=-1)
    last = max(done, *plans, -1)
    for batch in range(max(last - 1, 0), last + 1):
        yield from tried(plan, root / "offsets" / str(batch))
    ended = {}
    if commits:
        try:
            ended = commit(root / "commits" / str(done))
        except DamagedError as err:
            yield err
    yield from _logs(root, whole=whole)
    for log in (root / "offsets", root / "commits", *_layout.numbered(root / "sources").values()):
        yield from _orphans(log)
    yield from _state.lost(root, done + 1, ended, whole=whole)


def _logs(root: Path, *, whole: bool) -> Iterator[DamagedError]:
    """Yield what is wrong with the logs of file sources, of which a restart reads all since a compaction."""
    plan = _layout.last_plan(root)
    read = _whole(_inputs.check_log_file) if whole else _inputs.check_log_file
    for log, planned in _inputs.file_logs(root, plan) if plan else ():
        try:
            files = _inputs.log_files(log, max(planned, *_layout.numbered(log), -1))
        except DamagedError as err:
            yield err
        else:
            for file in files:
                yield from tried(read, file)


def _orphans(log: Path) -> Iterator[DamagedError]:
    """Yield the files that Spark cannot write again: it takes what is left of them for another query's."""
    last = max(_layout.numbered(log), default=-1)
    for file in log.glob(".*.crc"):
        number = file.name.split(".")[1]
        if number.isdigit() and int(number) > last:
            fix = f"delete {file.name} too, and the batch runs again"
            yield DamagedError(log / number, "is missing, but not its checksum", fix)


def _older(root: Path) -> Iterator[DamagedError]:
    """Yield what is wrong with files that a restart does not read, and what differs from its checksum."""
    for name, read in (("offsets", _layout.plan), ("commits", _layout.commit)):
        found = _layout.numbered(root / name)
        for batch in range(min(found, default=0), max(found, default=-1) + 1):
            fix = f"a restart does not need it, but batch {batch} cannot be rewound to"
            for err in tried(_whole(read), root / name / str(batch)):
                yield DamagedError(err.file, err.what, fix)
    for log in _layout.numbered(root / "sources").values():
        for file in _layout.numbered(log).values():
            for err in tried(_layout.check_unchanged, file):
                yield DamagedError(err.file, err.what, "restore it from a backup")


def _gone(root: Path) -> Iterator[DamagedError]:
    """Yield the input files that the next batches would read and that no longer exist."""
    done = max(_layout.numbered(root / "commits"), default=-1)
    for file in _inputs.pending(root, done):
        if file.gone and file.path:
            fix = "put it back first: without it Spark runs the batch with no error and without its rows"
            yield DamagedError(file.path, "is planned to be read and has gone", fix)
