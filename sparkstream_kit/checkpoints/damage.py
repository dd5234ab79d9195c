"""Damage to a checkpoint that `start` looks for, in the few files that the next batch needs.

Spark itself looks at the files of the state when it loads them;
`sparkstream_kit.checkpoints.operate.check` finds all damage, and the way out, where something is
wrong.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit.checkpoints.logs import (
    DamagedError,
    commit,
    log_after,
    plan,
    query_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sparkstream_kit.checkpoints.logs import Logs

    _Reader = Callable[[Path], object]


STATE_FILE = re.compile(
    r"(\d+)(?:_([0-9a-f-]{36}))?\.(delta|snapshot|changelog|zip)(?:\.crc)*"
)
# Reads only the two ends of a file, as no entry is later
_ENDS = partial(log_after, entry=sys.maxsize)
_METADATA = re.compile(r"(\d+)(\.crc)?")
# Spark's error condition for a batch that a function has read in part.
READ_IN_PART = "STATE_STORE_COMMIT_VALIDATION_FAILED"

_WRITE_ID = (
    'restore it; or delete .metadata.crc and write {"id": "…"} into metadata, with the'
    " id from the query's progress or a sink's ledger"
)


def restart(
    logs: Logs, read_file: Callable[[_Reader, Path], object] | None = None
) -> Iterator[DamagedError]:
    """Yield the damage that would make a restart fail, but for that of the state.

    Args:
        logs: the logs of the checkpoint, which need not exist yet.
        read_file: how to read a file, given the function that parses it. Default: as
            `Logs.read` does.
    """
    if read_file is None:
        read_file = logs.read
    for reader, file in _needed(logs):
        try:
            read_file(reader, file)
        except DamagedError as err:
            if reader is query_id:
                yield DamagedError(file, err.what, _WRITE_ID)
            else:
                yield err
    # `start` removes all but the state of such a checkpoint
    if max(logs.done, logs.planned) < 0:
        # A first batch that failed may have left version 1: no damage.
        if newer_state(logs.root, 1):
            yield DamagedError(
                logs.root / "offsets", "has no batch, but state has been written"
            )
        return
    of_sources = [f"sources/{log}" for log in logs.sources]
    for name in ("offsets", "commits", *of_sources):
        last = max(logs.entries(name), default=-1)
        yield from _orphans(logs.root / name, last)


def _orphans(log: Path, last: int) -> Iterator[DamagedError]:
    """Yield log files that are missing while their checksums still exist.

    Spark cannot write such a file again: it takes the checksum for a file that another
    query has written.

    Args:
        log: the folder of the log.
        last: the number of the log's last entry; only later entries are looked at.
    """
    for checksum in log.glob(".*.crc"):  # such as .7.crc and .9.compact.crc
        number = checksum.name.split(".")[1]
        if not number.isdigit() or int(number) <= last:
            continue
        name = checksum.name.removeprefix(".").removesuffix(".crc")
        # Look for the file only now: a running query may have written it since `last`
        # was read.
        if not (log / name).exists():
            fix = f"delete {checksum.name} too, and the batch runs again"
            yield DamagedError(log / number, "is missing, but not its checksum", fix)


def _needed(logs: Logs) -> Iterator[tuple[_Reader, Path]]:
    """Yield the files that a restart needs, but for those of the state, each with its reader."""
    root = logs.root
    done = logs.done
    last = max(done, logs.planned)
    if last >= 0 or (root / "metadata").exists():
        yield query_id, root / "metadata"
    for batch in range(max(last - 1, 0), last + 1):
        yield plan, root / "offsets" / str(batch)
    if done >= 0:
        yield commit, root / "commits" / str(done)
    for log, planned in logs.until_planned.items():
        last_written = max(logs.entries(f"sources/{log}"), default=planned)
        for file in logs.files(log, max(planned, last_written)):
            yield _ENDS, file


def missing_inputs(logs: Logs) -> Iterator[DamagedError]:
    """Yield the local input files that the next batches would read and that no longer exist."""
    for file in logs.pending(logs.done):
        if file.is_gone:
            fix = (
                "put it back first: without it Spark runs the batch with no error and"
                " without its rows"
            )
            yield DamagedError(
                Path(str(file.path)), "is planned to be read and has gone", fix
            )


def newer_state(root: Path, version: int) -> list[Path]:
    """Return the state's files after a version and the operators' metadata, with checksums.

    Data files come first. A data file must be moved before its .crc: an interrupted
    rewind then leaves a missing file, which a restart notices, and not a missing
    checksum, which a restart does not notice.

    Args:
        root: the folder of the checkpoint.
        version: the last version that is not returned; it holds the state after batch
            `version - 1`.
    """
    data_files = []
    checksums = []
    for file in root.glob("state/**/*"):
        name = file.name.lstrip(".")
        # A v2 metadata file has the number of the first batch of its run, not a
        # version. Batch `version` is the first one that runs again, so its metadata
        # file may stay as well.
        if file.parent.name == "v2":
            numbered = _METADATA.fullmatch(name)
        else:
            numbered = STATE_FILE.fullmatch(name)
        if numbered is None or int(numbered[1]) <= version:
            continue
        if file.suffix == ".crc":
            checksums.append(file)
        else:
            data_files.append(file)
    return data_files + checksums
