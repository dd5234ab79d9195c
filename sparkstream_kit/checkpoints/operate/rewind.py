"""Set a checkpoint back to an earlier batch, so that its query runs the later ones again.

`sparkstream checkpoint rewind` calls `rewind`, which returns a `Rewind`. `set_aside`
moves the later files of a checkpoint away before a batch gets another plan: Spark would
read them again, and take an old snapshot of the state for one of the new batches.
`untrim` brings back what `start` has taken out of the logs of files.
"""

from __future__ import annotations

import fcntl
import re
import shlex
import textwrap
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.checkpoints import lock
from sparkstream_kit.checkpoints.damage import newer_state
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import KIT, PINS, BatchPlan, InputFile, Logs
from sparkstream_kit.checkpoints.operate.check import (
    checkpoint,
    following,
    newest_whole,
    obstacle,
    pending,
)
from sparkstream_kit.checkpoints.operate.show import file_lines
from sparkstream_kit.checkpoints.trim import restore, trimmed
from sparkstream_kit.errors import InvalidInputError, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


_SINKS = (  # shown if the checkpoint has no note about its query's sinks
    (
        "one that keeps a record of its batches keeps a batch with the same rows once,"
        " and refuses others"
    ),
    "any other gets the rows a second time, or replaces what it has",
)
# Such as `17`, `19.compact`, `.17.crc`
_NAME = re.compile(r"\.?(\d+)(?:\.compact)?(?:\.crc)?")


@dataclass(frozen=True)
class Rewind:
    """The result of a rewind, or of its preview; `str()` gives a report for the user.

    Attributes:
        path: the folder of the checkpoint.
        to: the batch that becomes the last committed one.
        last: the last batch that was planned or committed before. Batches `to + 1` to
            `last` run again.
        same: whether the plan of batch `to + 1` is kept, so that this batch is replayed
            with the same rows.
        inputs: the input files that the file sources read again.
        moved: the files that leave the checkpoint, including their checksum files.
        backup: the folder to which these files are, or would be, moved.
        sinks: what each sink of the query does with replayed batches, one sentence
            each, from the note that `start` keeps in the checkpoint; empty without a
            note.
        applied: whether the rewind was done; False for a preview.
    """

    path: Path
    to: int
    last: int
    same: bool
    inputs: tuple[InputFile, ...]
    moved: tuple[Path, ...]
    backup: Path
    sinks: tuple[str, ...]
    applied: bool

    def __str__(self) -> str:
        if not self.moved:
            return f"{self.path} is at batch {self.to}; nothing to rewind"
        first = self.to + 1
        runs = "runs" if first == self.last else "run"
        again = f"{self.path}: {_batches(first, self.last)} {runs} again"
        if self.inputs:
            lines = [f"{again}, with {count(len(self.inputs), 'file')}:"]
        else:
            lines = [f"{again}."]
        lines += [*file_lines(self.inputs), "", *self._rows(), ""]
        without_checksums = [file for file in self.moved if file.suffix != ".crc"]
        number = count(len(without_checksums), "file")
        if self.applied:
            kept = shlex.quote(f"{self.backup}/.")
            lines += [f"Moved {number}. To undo it, before the next start:"]
            lines += [f"  cp -a {kept} {shlex.quote(f'{self.path}/')}"]
        else:
            lines += [f"Nothing is changed yet. The rewind moves {number} to"]
            lines += [f"  {self.backup}"]
        return "\n".join(lines)

    def _rows(self) -> list[str]:
        """Return the lines about the replayed rows, and what the sinks do with them."""
        first = self.to + 1
        anew = first + 1 if self.same else first
        lines = []
        if self.same:
            lines.append(f"Batch {first} will have the same rows as before.")
        if anew <= self.last:
            lines += [
                (
                    f"From batch {anew} on Spark plans anew: the same rows, cut into"
                    " batches by what the"
                ),
                "sources hold then, and by maxFilesPerTrigger and the like.",
            ]
        if not self.same:
            lines += [
                (
                    "But if a sink with a ledger has appended or upserted batch"
                    f" {first}, start puts the plan"
                ),
                "of that batch back, unless the batch has ended the input (drain).",
            ]
        if any(file.parent == self.path / PINS for file in self.moved):
            of_first = ""
            if self.same:
                of_first = (
                    f"Batch {first} keeps the version of a model or table that it had. "
                )
            lines += [
                f"{of_first}From batch {anew} on",
                "the version is taken that is current when the batch comes.",
            ]
        lines += ["", "What the sinks make of it:"]
        for sink in self.sinks or _SINKS:
            lines += textwrap.wrap(
                sink, width=80, initial_indent="  ", subsequent_indent="    "
            )
        return lines


def rewind(path: str | Path, *, to: int, apply: bool = False) -> Rewind:
    """Make an earlier batch the last committed one, so that the query runs all later batches again.

    Without `apply` nothing is changed, and the result says what a rewind would do.

    If the plan of batch `to + 1` is whole, it stays, and that batch is replayed with
    the same rows. If it is not, `start` puts it back from a sink with a ledger that has
    that batch. Spark plans all other batches anew. The later offsets, commits and
    versions of the state, and the later entries of the file sources' logs, move to the
    checkpoint's folder `sparkstream-kit/rewound-TIME`. If they stayed, Spark would read
    them again: for example, it would take an old snapshot of the state for one of the
    new batches.

    A batch that is planned anew uses the model or table that is current when it runs
    (`models.scorer`, `joins.reloading`). If the query itself trains its model
    (`models.learner`), the batch uses the last version that has not learned from this
    batch.

    Delivery: the text of the result says what each sink does with a replayed batch.

    Args:
        path: a checkpoint on a local path that no query uses.
        to: the number of the batch that becomes the last committed one. It must be
            committed and still kept.
        apply: do the rewind. Default: only return what it would do.

    Returns:
        The batches and files that run again, the files that are moved, and what the
        sinks do.

    Raises:
        InvalidInputError: there is no checkpoint at `path`, or a query uses it; the
            batch is not committed, is no longer kept, or has missing or damaged files;
            or an input file of the replayed batches no longer exists.

    Examples:
        >>> rewind("ckpt/totals", to=12)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder ...
    """
    check(rewind, locals())
    root = checkpoint(path)
    check_unused(root)
    with alone(root) if apply else nullcontext():
        logs = Logs(root)
        _check_batch(logs, to)
        replayed = following(logs, to)
        if replayed is not None and replayed.watermark == END:
            # Drop the plan of a draining batch: it would close all windows before the
            # new rows
            replayed = None
        if replayed is not None:
            moved = _moves(logs, to, replayed, last=to + 1)
        else:
            moved = _moves(logs, to, logs.plan(to), last=to)
        result = Rewind(
            path=root,
            to=to,
            last=max(logs.planned, logs.done),
            same=replayed is not None,
            inputs=tuple(pending(logs, to)),
            moved=tuple(moved),
            backup=backup(root),
            sinks=tuple(logs.noted.get("sinks", ())),
            applied=apply,
        )
        if apply:
            move(root, moved, result.backup)
    return result


def check_unused(root: Path) -> None:
    """Refuse a checkpoint that a query of the kit uses; nothing is locked.

    Raises:
        InvalidInputError: a query uses the checkpoint.
    """
    if user := lock.user_of(root):
        raise lock.used_by(root, user)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Lock a checkpoint within a block, so that no query of the kit starts on it.

    Args:
        root: the folder of the checkpoint.

    Raises:
        InvalidInputError: a query uses the checkpoint.
    """
    file = root / KIT / "lock"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    # Another thread that opened and closed the file would drop the lock
    with lock.mutex:
        check_unused(root)
        with file.open("r+b") as held:
            try:
                fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise lock.used_by(
                    root, "a query that starts just now; end it first"
                ) from None
            yield


def _check_batch(logs: Logs, to: int) -> None:
    """Refuse a batch to which the checkpoint cannot be rewound."""
    root = logs.root
    commits = logs.entries("commits")
    if not commits:
        raise InvalidInputError(
            f"no batch of {root} is committed; there is nothing to rewind"
        )
    refused = f"{root} cannot be rewound to batch {to}"
    if not min(commits) <= to <= max(commits):
        raise InvalidInputError(
            f"{refused}: it keeps {_batches(min(commits), max(commits))}; give a batch"
            " that it keeps"
        )
    if error := obstacle(logs, to):
        other = newest_whole(logs)
        fix = "no other is whole"
        if other is not None:
            fix = f"the newest that is whole is batch {other}"
        raise InvalidInputError(f"{refused}: {error}; {fix}")
    if gone := [file for file in pending(logs, to) if file.is_gone]:
        raise InvalidInputError(
            f"{refused}: input of the replayed batches has gone"
            f" ({count(len(gone), 'file')}, first {gone[0].path}); put it back, or"
            " rewind to a later batch"
        )


def _moves(logs: Logs, to: int, kept: BatchPlan, *, last: int) -> list[Path]:
    """Return the files to move out of a checkpoint, in order, with their checksums.

    The commits are moved last: if a rewind is interrupted, a restart fails and the
    rewind can be run again.

    Args:
        logs: the logs of the checkpoint.
        to: the batch that becomes the last committed one.
        kept: the last plan that stays.
        last: the number of that plan.
    """
    root = logs.root
    done = [*later_files(root / "offsets", last), *later_files(root / "commits", to)]
    if not done:
        return []
    of_files = logs.read_by(logs.last_plan or kept)
    return [
        *later_files(root / PINS, last),
        *newer_state(root, to + 1),
        *_later_entries(root, of_files, logs.read_by(kept)),
        *done,
    ]


def _later_entries(
    root: Path, of_files: Iterable[str], until: Mapping[str, int]
) -> list[Path]:
    """Return the entries of the logs of file sources beyond those that stay.

    Args:
        root: the folder of the checkpoint.
        of_files: the names of the logs.
        until: the last entry that stays of each log; a log without one loses all.
    """
    files = []
    for log in of_files:
        files += later_files(root / "sources" / log, until.get(log, -1))
    return files


def _batches(first: int, last: int) -> str:
    """Return a range of batches as text.

    Examples:
        >>> _batches(3, 3), _batches(3, 5)
        ('batch 3', 'batches 3 to 5')
    """
    return f"batch {first}" if first == last else f"batches {first} to {last}"


def set_aside(logs: Logs, batch: int) -> None:
    """Move the files of a batch that is not committed, and of later batches, to a backup folder.

    The files are plans, versions of the state and entries of the file sources' logs.
    The backup folder is `sparkstream-kit/rewound-TIME` in the checkpoint, as for a
    rewind. The caller then writes another plan.

    Args:
        logs: the logs of the checkpoint.
        batch: the number of the batch.
    """
    root = logs.root
    of_files = [log for log in logs.sources if logs.is_of_files(log)]
    files = [
        # Without its plan the batch counts as not planned, whatever else is left of it
        # after a crash here.
        *later_files(root / "offsets", batch - 1),
        *newer_state(root, batch),
        *_later_entries(root, of_files, logs.until(batch - 1)),
    ]
    move(root, files, backup(root))


def backup(root: Path) -> Path:
    """Return a new folder in a checkpoint for the files that are moved now."""
    return root / KIT / f"rewound-{datetime.now(UTC):%Y%m%dT%H%M%S}"


def move(root: Path, files: Iterable[Path], backup: Path) -> None:
    """Move files of a checkpoint, in their order, to the same places below a backup folder."""
    for file in files:
        target = backup / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)


def later_files(log: Path, number: int) -> list[Path]:
    """Return a log's files beyond a number, the last first, each after its checksum file.

    A checksum without its file is returned, too: Spark would take it for a file of
    another query.
    """
    numbered = []
    for file in log.glob("*"):
        if match := _NAME.fullmatch(file.name):
            is_checksum = file.name.startswith(".")
            numbered.append((int(match[1]), is_checksum, file))
    numbered.sort(reverse=True)
    return [file for entry, _, file in numbered if entry > number]


def untrim(path: str | Path) -> int:
    """Bring back all entries that `start` has taken out of the logs of a checkpoint's file sources.

    A query needs them only if it goes on without the kit and with a longer `maxFileAge`
    than it had: `start` brings them back by itself.

    Args:
        path: a checkpoint on a local path that no query uses.

    Returns:
        The number of logs to which entries were brought back.

    Raises:
        InvalidInputError: there is no checkpoint at `path`, a query uses it, or a log
            is damaged.

    Examples:
        >>> untrim("ckpt/totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder ...
    """
    check(untrim, locals())
    root = checkpoint(path)
    with alone(root):
        logs = Logs(root)
        shortened = [log for log in logs.sources if trimmed(root, log)]
        for log in shortened:
            restore(logs, log)
    return len(shortened)
