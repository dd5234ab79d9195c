"""Move the later files of a checkpoint aside, so that Spark runs their batches again.

Spark would read such a file again: for example, it would take an old snapshot of the state for one of the
new batches. A sink with a ledger calls `set_aside` before it writes the plan of a batch; `rewind` uses the
other functions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparkstream_kit.checkpoints.damage import newer_state
from sparkstream_kit.checkpoints.logs import KIT, Logs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


_NAME = re.compile(r"\.?(\d+)(?:\.compact)?(?:\.crc)?")


def set_aside(logs: Logs, batch: int) -> None:
    """Move the files of a batch that is not committed, and of later batches, to a backup folder.

    The files are plans, versions of the state and entries of the file sources' logs. The backup folder is
    `sparkstream-kit/rewound-TIME` in the checkpoint, as for a rewind. The caller then writes another plan.

    Args:
        logs: the logs of the checkpoint.
        batch: the number of the batch.
    """
    root, until = logs.root, logs.until(batch - 1)
    of_files = [log for log in logs.sources if logs.is_of_files(log)]
    entries = [file for log in of_files for file in later_files(root / "sources" / log, until.get(log, -1))]
    # Without its plan the batch counts as not planned, whatever else is left of it after a crash here.
    move(root, [*later_files(root / "offsets", batch - 1), *newer_state(root, batch), *entries], backup(root))


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
    """Return a log's files with a greater number, the last one first and each after its checksum file.

    A checksum without its file is returned, too: Spark would take it for a file of another query.
    """
    named = ((_NAME.fullmatch(file.name), file) for file in log.glob("*"))
    found = [(int(match[1]), match[0].startswith("."), file) for match, file in named if match]
    return [file for each, _, file in sorted(found, reverse=True) if each > number]
