"""Move the later files of a checkpoint aside, so that Spark runs their batches again.

Spark would read such a file again: for example, it would take an old snapshot of the state for one of the
new batches. A sink with a ledger calls `set_aside` before it writes the plan of a batch; `rewind` uses the
other functions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparkstream_kit.checkpoints.logs import KIT, Logs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


_NAME = re.compile(r"\.?(\d+)(?:\.compact)?(?:\.crc)?")
STATE_FILE = re.compile(r"(\d+)(?:_([0-9a-f-]{36}))?\.(delta|snapshot|changelog|zip)(?:\.crc)*")
_METADATA = re.compile(r"(\d+)(\.crc)?")


def set_aside(logs: Logs, batch: int) -> None:
    """Move the files of a batch that is not committed, and of later batches, to a backup folder.

    The files are plans, versions of the state and entries of the file sources' logs. The backup folder is
    `sparkstream-kit/rewound-TIME` in the checkpoint, as for a rewind. The caller then writes another plan.

    Args:
        logs: the logs of the checkpoint.
        batch: the number of the batch.
    """
    root, until = logs.root, logs.until(batch - 1)
    entries = [
        file for log in logs.sources for file in later_files(root / "sources" / log, until.get(log, -1))
    ]
    move(root, [*newer_state(root, batch), *entries, *later_files(root / "offsets", batch - 1)], backup(root))


def backup(root: Path) -> Path:
    """Return a new folder in a checkpoint for the files that are moved now."""
    return root / KIT / f"rewound-{datetime.now(UTC):%Y%m%dT%H%M%S}"


def move(root: Path, files: Iterable[Path], backup: Path) -> None:
    """Move files of a checkpoint, in their order, to the same places below a backup folder."""
    for file in files:
        target = backup / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)


def newer_state(root: Path, version: int) -> list[Path]:
    """Return the files of the state after a version, and the operators' metadata, all with their checksums.

    Data files come first. A data file must be moved before its .crc: an interrupted rewind then leaves a
    missing file, which a restart notices, and not a missing checksum, which a restart does not notice.

    Args:
        root: the folder of the checkpoint.
        version: the last version that is not returned; it holds the state after batch `version - 1`.
    """
    found = []
    for file in root.glob("state/**/*"):
        # A v2 metadata file has the number of the first batch of its run, not a version. Batch `version` is
        # the first one that runs again, so its metadata file may stay as well.
        kind = _METADATA if file.parent.name == "v2" else STATE_FILE
        match = kind.fullmatch(file.name.lstrip("."))
        if match and int(match[1]) > version:
            found.append(file)
    return sorted(found, key=lambda file: file.suffix == ".crc")


def later_files(log: Path, number: int) -> list[Path]:
    """Return a log's files with a greater number, the last one first and each after its checksum file.

    A checksum without its file is returned, too: Spark would take it for a file of another query.
    """
    named = ((_NAME.fullmatch(file.name), file) for file in log.glob("*"))
    found = [(int(match[1]), match[0].startswith("."), file) for match, file in named if match]
    return [file for each, _, file in sorted(found, reverse=True) if each > number]
