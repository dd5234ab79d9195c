"""The files of a checkpoint on a local path, as Spark 4 writes them.

metadata       {"id": the query's id}
offsets/N      the plan of batch N: "v1", a line about the query, a line for each source
commits/N      batch N is done: "v1" (or "v2", with the ids of the state's files), a line
sources/I/     what source I keeps; for a file source see `_inputs`
state/         see `_state`
sparkstream-kit/   the kit's own; Spark ignores it
"""

from __future__ import annotations

import fcntl
import json
import re
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

KIT = "sparkstream-kit"
_LOG_NAME = re.compile(r"(\d+)(\.compact)?")
_SMALL = 1 << 20  # a file up to this many bytes is read to compare its checksum


class DamagedError(Exception):
    """The `file` is not what Spark wrote: `what` is wrong with it, and the `fix` where it is known."""

    def __init__(self, file: Path, what: str, fix: str = "") -> None:
        super().__init__(f"{file} {what}")
        self.file = file
        self.what = what
        self.fix = fix


@dataclass(frozen=True)
class Plan:
    """What `offsets/N` says: the query's settings, and the offset up to which it reads each source."""

    query: dict[str, Any]
    offsets: tuple[str | None, ...]

    def files_until(self, source: int) -> int | None:
        """Return the last offset of a file source's log that this batch reads; None for another source."""
        text = self.offsets[source] if source < len(self.offsets) else None
        value = json.loads(text) if text and text.startswith("{") else None
        return int(value["logOffset"]) if isinstance(value, dict) and set(value) == {"logOffset"} else None


def local(path: str | Path) -> Path | None:
    """Return a checkpoint's local path, or None if it is on another file system."""
    text = _files.plain(str(path))
    return None if text is None else Path(text)


def checkpoint(path: str | Path) -> Path:
    """Return the folder of a checkpoint that Spark has written to.

    Raises:
        InvalidInputError: it is on another file system, not there, or no checkpoint.
    """
    root = local(path)
    if root is None:
        raise InvalidInputError(f"checkpoint {path} is not on a local path; copy it to this machine first")
    if not root.is_dir():
        raise InvalidInputError(f"no checkpoint {path}; give the folder that the query was started with")
    if not any((root / name).exists() for name in ("metadata", "offsets", "commits")):
        raise InvalidInputError(f"{path} is no checkpoint (no metadata, offsets or commits in it)")
    return root


def numbered(folder: Path) -> dict[int, Path]:
    """Return the files of one of Spark's logs by their number, in order."""
    names = [path for path in folder.iterdir() if _LOG_NAME.fullmatch(path.name)] if folder.is_dir() else []
    # K.compact after K, so that it wins.
    return {int(path.name.split(".")[0]): path for path in sorted(names, key=_order)}


def _order(path: Path) -> tuple[int, int]:
    return int(path.name.split(".")[0]), len(path.name)


def lines(file: Path, *versions: str) -> list[str]:
    """Return the lines of a log's file after its version.

    Raises:
        DamagedError: the file is missing, empty or cut off.
        InvalidInputError: it is of a version that a newer Spark may have written.
    """
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise DamagedError(file, "is missing") from None
    except UnicodeDecodeError:
        raise DamagedError(file, "is not text") from None
    if not text.strip():
        raise DamagedError(file, "is empty")
    version, *rest = text.split("\n")
    if re.fullmatch(r"v\d+", version) and version not in versions:
        raise InvalidInputError(f"{file} has format {version}, which this version of the kit does not know")
    if version not in versions or not rest:
        raise DamagedError(file, "is cut off")
    return rest


def as_json(file: Path, line: str) -> Any:
    """Return what a line of a log holds.

    Raises:
        DamagedError: the line is cut off.
    """
    try:
        return json.loads(line)
    except ValueError:
        what = "is cut off" if line.startswith("{") else "is not what Spark wrote"
        raise DamagedError(file, what) from None


def query_id(root: Path) -> str:
    """Return the id of the checkpoint's query.

    Raises:
        DamagedError: it cannot be read.
    """
    file = root / "metadata"
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise DamagedError(file, "is missing") from None
    if not text.strip():
        raise DamagedError(file, "is empty")
    found = as_json(file, text)
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise DamagedError(file, "does not hold a query's id")
    return str(found["id"])


def plan(file: Path) -> Plan:
    """Return what `offsets/N` says.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    query, *offsets = lines(file, "v1")
    found = as_json(file, query)
    if not offsets:
        raise DamagedError(file, "is cut off")
    for offset in offsets:
        if offset.startswith(("{", "[")):
            as_json(file, offset)
    return Plan(found, tuple(None if offset == "-" else offset for offset in offsets))


def commit(file: Path) -> dict[str, Any]:
    """Return what `commits/N` says.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    found: dict[str, Any] = as_json(file, lines(file, "v1", "v2")[0])
    return found


def last_plan(root: Path) -> Plan | None:
    """Return the last plan that can be read."""
    for file in reversed(numbered(root / "offsets").values()):
        with suppress(DamagedError):
            return plan(file)
    return None


def checksum_differs(file: Path) -> bool:
    """Return whether a file is not what Hadoop's `.NAME.crc` beside it says; False without one.

    The checksum file holds "crc", a zero byte, the bytes a checksum covers, and a CRC-32 for each such part.
    """
    try:
        sums = file.with_name(f".{file.name}.crc").read_bytes()
        size = file.stat().st_size
    except FileNotFoundError:
        return False
    step = int.from_bytes(sums[4:8], "big")
    if sums[:4] != b"crc\0" or not step:
        return False
    if len(sums) - 8 != 4 * -(-size // step):
        return True
    if size > _SMALL:
        return False
    data = file.read_bytes()
    parts = (zlib.crc32(data[at : at + step]).to_bytes(4, "big") for at in range(0, len(data), step))
    return b"".join(parts) != sums[8:]


@contextmanager
def alone(root: Path, *, change: bool) -> Iterator[None]:
    """Hold the lock that a query of the kit holds on its checkpoint, so that none starts meanwhile.

    Raises:
        InvalidInputError: a query uses the checkpoint.
    """
    file = root / KIT / "lock"
    if change:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    if not file.exists():
        yield
        return
    with file.open("r+b" if change else "rb") as held:
        try:
            fcntl.lockf(held, (fcntl.LOCK_EX if change else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInputError(f"checkpoint {root} is in use; end its query first") from None
        yield
