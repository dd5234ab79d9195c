"""`rewind`: a checkpoint as it was some batches ago."""

from __future__ import annotations

import re
import shlex
import textwrap
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit.checkpoints import lock
from sparkstream_kit.checkpoints.check import following, newer_state, newest_whole, obstacle
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import KIT, PINS, Input, Logs, Plan, checkpoint
from sparkstream_kit.checkpoints.show import count, file_lines
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


_NAME = re.compile(r"\.?(\d+)(?:\.compact)?(?:\.crc)?")
_SINKS = (  # where the checkpoint has no note of its query's sinks
    "one that keeps a record of its batches keeps a batch with the same rows once, and refuses others",
    "any other gets the rows a second time, or replaces what it has",
)


@dataclass(frozen=True)
class Rewind:
    """What a rewind does, or would do; as text, for people.

    Attributes:
        path: the checkpoint.
        to: the batch that becomes the last committed one.
        last: the last batch that it had planned or committed. Those from `to + 1` to `last` run again.
        same: whether the plan of batch `to + 1` is kept, so that it is replayed with the same rows.
        inputs: the files that the sources find again.
        moved: the files that leave the checkpoint, with their checksums.
        backup: where the moved files are, or would be.
        sinks: what the query's sinks make of it, a sentence for each, as `start` has noted it.
        applied: whether it was done.
    """

    path: Path
    to: int
    last: int
    same: bool
    inputs: tuple[Input, ...]
    moved: tuple[Path, ...]
    backup: Path
    sinks: tuple[str, ...]
    applied: bool

    def __str__(self) -> str:
        if not self.moved:
            return f"{self.path} is at batch {self.to}; nothing to rewind"
        again = _batches(self.to + 1, self.last)
        files = f", with {count(len(self.inputs), 'file')}:" if self.inputs else "."
        lines = [f"{self.path}: {again} run{'s' * (self.last == self.to + 1)} again{files}"]
        lines += [*file_lines(self.inputs), "", *self._rows(), ""]
        number = count(sum(file.suffix != ".crc" for file in self.moved), "file")
        if self.applied:
            kept = shlex.quote(f"{self.backup}/.")
            lines += [f"Moved {number}. To undo it, before the next start:"]
            lines += [f"  cp -a {kept} {shlex.quote(f'{self.path}/')}"]
        else:
            lines += [f"Nothing is changed yet. The rewind moves {number} to", f"  {self.backup}"]
        return "\n".join(lines)

    def _rows(self) -> list[str]:
        """Say which rows come again, and what the sinks make of them."""
        first, anew = self.to + 1, self.to + 1 + self.same
        lines = [f"Batch {first} will have the same rows as before."] if self.same else []
        if anew <= self.last:
            lines += [
                f"From batch {anew} on Spark plans anew: the same rows, cut into batches by what the",
                "sources hold then, and by maxFilesPerTrigger and the like.",
            ]
        if any(file.parent == self.path / PINS for file in self.moved):
            kept = f"Batch {first} keeps the version of a model or table that it had. " if self.same else ""
            lines += [
                f"{kept}From batch {anew} on",
                "the version is taken that is current when the batch comes.",
            ]
        lines += ["", "What the sinks make of it:"]
        wrapped = partial(textwrap.wrap, width=80, initial_indent="  ", subsequent_indent="    ")
        return lines + [line for sink in self.sinks or _SINKS for line in wrapped(sink)]


def rewind(path: str | Path, *, to: int, apply: bool = False) -> Rewind:
    """Make a batch the last committed one, so that the query runs what came after it again.

    The plan of the batch after it stays, and brings the same rows; what follows is planned anew. Offsets,
    commits and state after it, and the later entries of file sources' logs, move into the checkpoint's
    folder `sparkstream-kit/rewound-TIME`. A file that Spark had left there would be read again: an old
    snapshot of the state, for one, as if it belonged to the new batches. The batches that are planned anew
    take the model or table that is current then (`models.scorer`, `joins.reloading`); where the query itself
    learns its model (`models.learner`), the last one that has not learned the batch.

    Delivery: what the sinks do with a replayed batch is in the text of what is returned.

    Args:
        path: a checkpoint on a local path that no query uses.
        to: the batch.
        apply: do it; else only what it would do is returned.

    Raises:
        InvalidInputError: no checkpoint, or one in use; a batch that is not committed, or is no longer kept,
            or whose files are not whole; an input file of the replayed batches that has gone.

    Examples:
        >>> rewind("ckpt/totals", to=12)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder that ...
    """
    check(rewind, locals())
    root = checkpoint(path)
    if not apply:
        lock.check_unused(root)
    with lock.alone(root) if apply else nullcontext():
        logs = Logs(root)
        _check_batch(logs, to)
        after = following(logs, to)
        if after is not None and after.watermark >= END:
            after = None  # that batch has ended the input, which is to go on
        kept = after or logs.plan(to)
        moved = _moves(logs, to, kept, last=to + (after is not None))
        found = Rewind(
            path=root,
            to=to,
            last=max(logs.planned, logs.done),
            same=after is not None,
            inputs=tuple(logs.pending(to)),
            moved=tuple(moved),
            backup=_backup(root),
            sinks=tuple(logs.noted.get("sinks", ())),
            applied=apply,
        )
        if apply:
            _move(root, moved, found.backup)
    return found


def set_aside(logs: Logs, batch: int) -> None:
    """Move what a checkpoint has of a batch that is not committed, and of later ones, out of the way."""
    root, until = logs.root, logs.until(batch - 1)
    entries = [file for log in logs.sources for file in _after(root / "sources" / log, until.get(log, -1))]
    _move(root, [*_newer_states(root, batch), *entries, *_after(root / "offsets", batch - 1)], _backup(root))


def _backup(root: Path) -> Path:
    return root / KIT / f"rewound-{datetime.now(UTC):%Y%m%dT%H%M%S}"


def _move(root: Path, files: Iterable[Path], backup: Path) -> None:
    for file in files:
        target = backup / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)


def _newer_states(root: Path, version: int) -> list[Path]:
    """Return the files of later versions of the state.

    A data file comes before its .crc: a move that is cut off must leave a missing file, which a restart
    notices, and not a missing checksum, which it does not.
    """
    return sorted(newer_state(root, version), key=lambda file: file.suffix == ".crc")


def _check_batch(logs: Logs, to: int) -> None:
    """Refuse a batch that cannot be gone back to."""
    root, commits = logs.root, logs.entries("commits")
    if not commits:
        raise InvalidInputError(f"no batch of {root} is committed; there is nothing to rewind")
    refused = f"{root} cannot be rewound to batch {to}"
    if not min(commits) <= to <= max(commits):
        raise InvalidInputError(f"{refused}: it keeps {_batches(min(commits), max(commits))}")
    error = obstacle(logs, to)
    if error:
        other = newest_whole(logs)
        fix = "no other is whole" if other is None else f"the newest that is whole is batch {other}"
        raise InvalidInputError(f"{refused}: {error}; {fix}")
    gone = [file for file in logs.pending(to) if file.gone]
    if gone:
        raise InvalidInputError(
            f"{refused}: input of the replayed batches has gone ({count(len(gone), 'file')}, first "
            f"{gone[0].path}); put it back, or rewind to a later batch"
        )


def _moves(logs: Logs, to: int, kept: Plan, *, last: int) -> list[Path]:
    """Return the files that leave the checkpoint, with their checksums.

    The commits go last: a restart after an interrupted rewind fails, and the rewind can be run again.
    """
    root = logs.root
    done = [*_after(root / "offsets", last), *_after(root / "commits", to)]
    if not done:
        return []
    until, of_sources = logs.read_by(kept), logs.read_by(logs.last_plan or kept)
    entries = [file for log in of_sources for file in _after(root / "sources" / log, until.get(log, -1))]
    return [*_after(root / PINS, last), *_newer_states(root, to + 1), *entries, *done]


def _after(log: Path, number: int) -> list[Path]:
    """Return a log's files after a number, the last one first and each behind its checksum.

    A checksum whose file is lost is among them: Spark takes it for a file that another query has written.
    """
    named = ((_NAME.fullmatch(file.name), file) for file in log.glob("*"))
    found = [(int(match[1]), match[0].startswith("."), file) for match, file in named if match]
    return [file for each, _, file in sorted(found, reverse=True) if each > number]


def _batches(first: int, last: int) -> str:
    """Return a range of batches.

    Examples:
        >>> _batches(3, 3), _batches(3, 5)
        ('batch 3', 'batches 3 to 5')
    """
    return f"batch {first}" if first == last else f"batches {first} to {last}"
