"""Which files leave a checkpoint that goes back to an older batch, and how they leave."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparkstream_kit.checkpoints import _inputs, _layout, _state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sparkstream_kit.checkpoints._layout import Plan

_NAME = re.compile(r"\.?(\d+)(?:\.compact)?(?:\.crc)?")


def _logs(root: Path, kept: Plan) -> Iterator[tuple[Path, int]]:
    """Yield the log of each file source with the last offset that stays in it, -1 for none."""
    until = dict(_inputs.file_logs(root, kept))
    for log, _ in _inputs.file_logs(root, _layout.last_plan(root) or kept):
        yield log, until.get(log, -1)


def moves(root: Path, to: int, kept: Plan, *, last: int) -> list[Path]:
    """Return the files that leave the checkpoint, with their checksums.

    The commits go last: a restart after an interrupted rewind fails, and the rewind can be run again.
    """
    done = [*_after(root / "offsets", last), *_after(root / "commits", to)]
    if not done:
        return []
    logs = [file for log, until in _logs(root, kept) for file in _after(log, until)]
    # A data file before its .crc: an interrupted rewind must leave a missing file, which a restart notices,
    # and not a missing checksum, which it does not.
    state = sorted(_state.newer(root, to + 1), key=lambda file: file.suffix == ".crc")
    return [*state, *logs, *done]


def _after(log: Path, number: int) -> list[Path]:
    """Return a log's files after a number, the last one first and each behind its checksum.

    A checksum whose file is lost is among them: Spark takes it for a file that another query has written.
    """
    named = ((_NAME.fullmatch(file.name), file) for file in log.glob("*"))
    found = [(int(match[1]), match[0].startswith("."), file) for match, file in named if match]
    return [file for each, _, file in sorted(found, reverse=True) if each > number]


def move(file: Path, target: Path) -> None:
    """Move a file to a folder that may not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file.rename(target)
