"""`clone` and `rewind`: a copy of a checkpoint, and a checkpoint as it was some batches ago."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit.checkpoints import _inputs, _layout, _moving, _words
from sparkstream_kit.checkpoints._layout import KIT
from sparkstream_kit.checkpoints.checking import following, newest_whole, obstacle
from sparkstream_kit.errors import InvalidInputError

__all__ = ["Rewind", "clone", "rewind"]


def clone(source: str | Path, target: str | Path, *, new_id: bool = False) -> Path:
    """Copy a checkpoint that no query uses; the copy appears whole or not at all.

    The copy has the same query id, so that a query goes on from it as from the original: a sink with a ledger
    knows which batches it has. That is right for a backup, or to move a checkpoint. Never run both on one
    sink: it would take the batches of one for those of the other, and a session that starts the second ends
    the first. For a query beside the original, with a sink of its own, give it a new id.

    Args:
        source: a checkpoint on a local path.
        target: a folder that does not exist yet.
        new_id: give the copy a query id of its own.

    Returns:
        The copy's folder.

    Raises:
        InvalidInputError: no checkpoint, one in use, a target that exists, or a copy that failed.

    Example:
        >>> clone("ckpt/totals", "ckpt/copy")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder that ...
    """
    check(clone, locals())
    root, copy = _layout.checkpoint(source), _layout.local(target)
    if copy is None:
        raise InvalidInputError(f"{target} is not a local path; give one, and copy it from there")
    copy = copy.absolute()
    if copy.exists() or copy.is_symlink():
        raise InvalidInputError(f"{target} exists; give a folder that does not")
    if not copy.parent.is_dir():
        raise InvalidInputError(f"{target}: folder {copy.parent} does not exist; create it")
    if copy.is_relative_to(root.resolve()):
        raise InvalidInputError(f"{target} lies in the checkpoint itself; give a folder beside it")
    temporary = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    left_out = shutil.ignore_patterns("rewound-*", "lock")
    try:
        with _layout.alone(root, change=False):
            shutil.copytree(
                root, temporary, ignore=lambda *at: left_out(*at) if Path(at[0]).name == KIT else []
            )
        _point_at(temporary, copy)
        if new_id:
            _replace(temporary / "metadata", json.dumps({"id": str(uuid.uuid4())}))
        temporary.rename(copy)
    except (OSError, shutil.Error) as err:
        raise InvalidInputError(f"cannot copy {source} to {target}: {err}") from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return copy


def _point_at(written: Path, copy: Path) -> None:
    """Correct the schemas' paths of transformWithState, which Spark keeps in full."""
    for file in written.glob("state/*/_metadata/v2/[0-9]*"):
        here = copy / file.parents[2].relative_to(written)
        parts = re.split(r'(?<=")file:/[^"]*(?=/_stateSchema/)', file.read_text("utf-8"))
        _replace(file, f"file:{here}".join(parts))


def _replace(file: Path, text: str) -> None:
    """Write a file of Spark's anew; without the checksum of what it was."""
    _files.replace(file, [text])
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


@dataclass(frozen=True)
class Rewind:
    """What a rewind does, or would do; as text, for people.

    Attributes:
        path: the checkpoint.
        to: the batch that becomes the last committed one.
        last: the last batch that it had planned or committed. Those from `to + 1` to `last` run again.
        same: whether the plan of batch `to + 1` is kept, so that it comes again with the same rows.
        inputs: the files that the sources find again.
        moved: the files that leave the checkpoint, with their checksums.
        backup: where the moved files are, or would be.
        applied: whether it was done.
    """

    path: Path
    to: int
    last: int
    same: bool
    inputs: tuple[_inputs.Input, ...]
    moved: tuple[Path, ...]
    backup: Path
    applied: bool

    def __str__(self) -> str:
        if not self.moved:
            return f"{self.path} is at batch {self.to}; nothing to rewind"
        again = _words.batches(self.to + 1, self.last)
        files = f", with {_words.count(len(self.inputs), 'file')}:" if self.inputs else "."
        lines = [f"{self.path}: {again} run{'s' * (self.last == self.to + 1)} again{files}"]
        lines += [*_words.files(self.inputs), "", *self._rows(), "", *self._sinks(again), ""]
        number = _words.count(sum(file.suffix != ".crc" for file in self.moved), "file")
        if self.applied:
            lines += [f"Moved {number}. To undo it, before the next start:"]
            kept = shlex.quote(f"{self.backup}/.")
            return "\n".join([*lines, f"  cp -a {kept} {shlex.quote(f'{self.path}/')}"])
        return "\n".join([*lines, f"Nothing is changed yet; --apply moves {number} to", f"  {self.backup}"])

    def _rows(self) -> list[str]:
        first, anew = self.to + 1, self.to + 1 + self.same
        kept = [f"Batch {first} comes with the same rows as before."] if self.same else []
        if anew > self.last:
            return kept
        return [
            *kept,
            f"From batch {anew} on Spark plans anew: the same rows, cut into batches by what the",
            "sources hold then, and by maxFilesPerTrigger and the like.",
        ]

    def _sinks(self, again: str) -> list[str]:
        if self.last == self.to + self.same:
            known = [
                f"  sql_table, batch_files,  know {again} by its number, and keep it once",
                "  files, table",
            ]
        else:
            known = [
                "  sql_table, batch_files   reject batches they already hold and tell you how to",
                "                           reset; restored from a backup of that moment, they",
                "                           continue exactly once",
                f"  files, table             refuse, as Spark would skip {again} by number:",
                "                           start anew with another folder and another checkpoint",
            ]
        return [
            "What the sinks make of it:",
            *known,
            "  snapshot, latest         replace what they have",
            "  foreach_batch, others    get the rows a second time",
        ]


def rewind(path: str | Path, *, to: int, apply: bool = False) -> Rewind:
    """Make a batch the last committed one, so that the query runs what came after it again.

    The plan of the batch after it stays, and brings the same rows; what follows is planned anew. Offsets,
    commits and state after it, and the later entries of file sources' logs, move into the checkpoint's
    folder `sparkstream-kit/rewound-TIME`. A file that Spark had left there would be read again: an old
    snapshot of the state, for one, as if it belonged to the new batches.

    Delivery: which sink keeps a batch once that comes again is in the text of what is returned.

    Args:
        path: a checkpoint on a local path that no query uses.
        to: the batch.
        apply: do it; else only what it would do is returned.

    Raises:
        InvalidInputError: no checkpoint, or one in use; a batch that is not committed, or is no longer kept,
            or whose files are not whole; an input file that would come again and has gone.

    Example:
        >>> rewind("ckpt/totals", to=12)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder that ...
    """
    check(rewind, locals())
    root = _layout.checkpoint(path)
    with _layout.alone(root, change=apply):
        _check_batch(root, to)
        after = following(root, to)
        kept = after or _layout.plan(root / "offsets" / str(to))
        moved = _moving.moves(root, to, kept, last=to + (after is not None))
        backup = root / KIT / f"rewound-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        found = Rewind(
            path=root,
            to=to,
            last=max((*_layout.numbered(root / "offsets"), *_layout.numbered(root / "commits"))),
            same=after is not None,
            inputs=tuple(_inputs.pending(root, to)),
            moved=tuple(moved),
            backup=backup,
            applied=apply,
        )
        if apply:
            for file in moved:
                _moving.move(file, backup / file.relative_to(root))
    return found


def _check_batch(root: Path, to: int) -> None:
    """Refuse a batch that cannot be gone back to."""
    commits = _layout.numbered(root / "commits")
    if not commits:
        raise InvalidInputError(f"no batch of {root} is committed; there is nothing to rewind")
    if not min(commits) <= to <= max(commits):
        kept = _words.batches(min(commits), max(commits))
        raise InvalidInputError(f"{root} cannot be rewound to batch {to}: it keeps {kept}")
    error = obstacle(root, to)
    if error:
        other = newest_whole(root)
        fix = "no other is whole" if other is None else f"the newest that is whole is batch {other}"
        raise InvalidInputError(f"{root} cannot be rewound to batch {to}: {error}; {fix}")
    gone = [file for file in _inputs.pending(root, to) if file.gone]
    if gone:
        number = _words.count(len(gone), "input file")
        raise InvalidInputError(
            f"{root} cannot be rewound to batch {to}: {number} that would come again cannot be had, first "
            f"{gone[0].path}, which has gone; put it back, or rewind to a later batch"
        )
