"""`clone`: a copy of a checkpoint."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from pathlib import Path

from sparkstream_kit._arguments import check
from sparkstream_kit.checkpoints import lock, logs
from sparkstream_kit.checkpoints.logs import KIT
from sparkstream_kit.errors import InvalidInputError


def clone(source: str | Path, target: str | Path, *, new_id: bool = False) -> Path:
    """Copy a checkpoint that no query uses; the copy appears whole or not at all.

    The copy has the same query id, so a query continues from it as from the original: a sink with a ledger
    knows which batches it has. That is right for a backup, or to move a checkpoint. Never run both on one
    sink: it would take the batches of one for those of the other, and a session that starts the second ends
    the first. For a query beside the original, with sinks of its own, give it a new id. A SQL table belongs
    to the query that has written it: to go on with it under the new id, start the copy with
    `sinks.sql_table(…, take_over=True)`.

    Args:
        source: a checkpoint on a local path.
        target: a folder that does not exist yet.
        new_id: give the copy a query id of its own.

    Returns:
        The copy's folder.

    Raises:
        InvalidInputError: no checkpoint, one in use, a target that exists, or a copy that failed.

    Examples:
        >>> clone("ckpt/totals", "ckpt/copy")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder that ...
    """
    check(clone, locals())
    root, copy = logs.checkpoint(source), logs.local(target)
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
        with lock.alone(root):
            # Of a copy that was killed: in a container the next process may have the same number.
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(
                root, temporary, ignore=lambda *at: left_out(*at) if Path(at[0]).name == KIT else []
            )
        point_at(temporary, copy)
        if new_id:
            logs.replace(temporary / "metadata", json.dumps({"id": str(uuid.uuid4())}))
        temporary.rename(copy)
    except (OSError, shutil.Error) as err:
        raise InvalidInputError(f"cannot copy {source} to {target}: {err}") from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return copy


def point_at(written: Path, copy: Path) -> None:
    """Correct the schemas' paths of transformWithState, which Spark keeps in full."""
    for file in written.glob("state/*/_metadata/v2/[0-9]*"):
        here = copy / file.parents[2].relative_to(written)
        parts = re.split(r'(?<=")file:/[^"]*(?=/_stateSchema/)', file.read_text("utf-8"))
        logs.replace(file, f"file:{here}".join(parts))
