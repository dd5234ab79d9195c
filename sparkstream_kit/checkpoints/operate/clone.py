"""`clone`: copy a checkpoint, with the same query id or a new one.

`sparkstream checkpoint clone` calls `clone`. `evolve` uses `point_at` for the
checkpoint that it builds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.file_system import local
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.checkpoints.operate.check import checkpoint
from sparkstream_kit.checkpoints.operate.rewind import alone, check_unused
from sparkstream_kit.errors import InvalidInputError

# The checkpoints of which this one is a copy, a path on each line
_ORIGINS = f"{logs.KIT}/copied-from"


def clone(source: str | Path, target: str | Path, *, new_id: bool = False) -> Path:
    """Copy a checkpoint that no query uses; the copy appears whole or not at all.

    By default the copy has the same query id, so a query continues from the copy as
    from the original: a sink with a ledger still knows which batches it holds. Use this
    for a backup, or to move a checkpoint. Never run a query on the original and one on
    the copy with the same sink: the sink would mistake the batches of one query for
    those of the other, and a session that starts the second query stops the first. For
    a query that runs beside the original and has sinks of its own, pass `new_id=True`.
    A SQL table belongs to the query that wrote it: to continue the table under the new
    id, start the copy with `sinks.sql_table(…, take_over=True)`.

    Args:
        source: the folder of a checkpoint, on a local path.
        target: the folder of the copy. It must not exist yet.
        new_id: give the copy a new, random query id.

    Returns:
        The absolute path of the copy.

    Raises:
        InvalidInputError: `source` is no checkpoint, is not on a local path or is in
            use; `target` exists, is not on a local path or lies in the checkpoint; or
            copying failed.

    Examples:
        >>> clone("ckpt/totals", "ckpt/copy")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder ...
    """
    check(clone, locals())
    root = checkpoint(source)
    copy = local("copy", target).absolute()
    if copy.exists() or copy.is_symlink():
        raise InvalidInputError(f"copy {target} exists; give a folder that does not")
    if copy.is_relative_to(root.resolve()):
        raise InvalidInputError(
            f"copy {target} lies in the checkpoint itself; give a folder beside it"
        )
    temporary = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    try:
        check_unused(root)
        # A backup that is mounted read-only cannot be locked
        with alone(root) if os.access(root, os.W_OK) else nullcontext():
            # Remove what a killed `clone` left: in a container the next process may
            # have the same pid.
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(root, temporary, ignore=partial(_left_out, root))
        _make_writable(temporary)
        point_at(temporary, copy)
        if new_id:
            logs.replace(temporary / "metadata", json.dumps({"id": str(uuid.uuid4())}))
        (temporary / logs.KIT).mkdir(exist_ok=True)
        # A copy of a copy names both
        with (temporary / _ORIGINS).open("a", encoding="utf-8") as file:
            file.write(f"{root.absolute()}\n")
        temporary.rename(copy)
    except (OSError, shutil.Error) as err:
        raise InvalidInputError(f"cannot copy {source} to {target}: {err}") from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return copy


def copied_from(root: Path) -> list[Path]:
    """Return the existing checkpoints of the same query of which a checkpoint is a copy."""
    file = root / _ORIGINS
    if not file.exists():
        return []
    origins = [Path(line) for line in file.read_text("utf-8").splitlines()]
    existing = [
        origin
        for origin in origins
        if (origin / "metadata").exists() and not origin.samefile(root)
    ]
    own = logs.query_id(root / "metadata")
    return [path for path in existing if logs.query_id(path / "metadata") == own]


def _make_writable(copy: Path) -> None:
    """Let the owner write to all folders of a copy; those of a backup may not allow it."""
    folders = [path for path in copy.rglob("*") if path.is_dir()]
    for folder in (copy, *folders):
        folder.chmod(folder.stat().st_mode | 0o200)


def _left_out(root: Path, folder: str, names: list[str]) -> list[str]:
    """Return the names in a folder that a copy must not have: the lock and what was rewound.

    Other folders may hold a file of these names, such as what is known of a column
    `lock`.
    """
    if Path(folder) != root / logs.KIT:
        return []
    return [name for name in names if name == "lock" or name.startswith("rewound-")]


def point_at(written: Path, copy: Path) -> None:
    """Point the metadata of transformWithState at the schema files of the copy.

    Spark stores the absolute paths of these files, which would still point into the
    original.

    Args:
        written: the folder that holds the copy now.
        copy: the folder to which the copy will be renamed.
    """
    for file in written.glob("state/*/_metadata/v2/[0-9]*"):
        state = copy / file.parents[2].relative_to(written)
        # Around each `file:/old/ckpt/state/0` in `"file:/old/ckpt/state/0/_stateSchema/x"`
        parts = re.split(
            r'(?<=")file:/[^"]*(?=/_stateSchema/)', file.read_text("utf-8")
        )
        logs.replace(file, f"file:{state}".join(parts))
