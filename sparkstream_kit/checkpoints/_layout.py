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
import struct
import zipfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIT = "sparkstream-kit"
_LOG_NAME = re.compile(r"(\d+)(\.compact)?")
_CRC_HEAD = 8
_SMALL = 1 << 20  # a file up to this many bytes is read to compare its checksum
# What Python raises for a file that is not what it seems to be.
_NONSENSE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


class DamagedError(Exception):
    """The `file` is not what Spark wrote: `what` is wrong with it, and the `fix` where it is known."""

    def __init__(self, file: Path, what: str, fix: str = "") -> None:
        super().__init__(f"{file} {what}")
        self.file = file
        self.what = what
        self.fix = fix


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read and understood into a DamagedError that names it."""
    try:
        yield
    except InvalidInputError:
        raise
    except FileNotFoundError:
        raise DamagedError(file, "is missing") from None
    except IsADirectoryError:
        raise DamagedError(file, "is a folder") from None
    except OSError as err:
        raise DamagedError(file, f"cannot be read ({err.strerror})") from None
    except UnicodeDecodeError:
        raise DamagedError(file, "is not text") from None
    except _NONSENSE:
        raise DamagedError(file, "is not what Spark wrote") from None


def tried(read: Callable[[Path], object], file: Path) -> Iterator[DamagedError]:
    """Yield what reading a file raises, if it is damaged."""
    try:
        read(file)
    except DamagedError as err:
        yield err


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
        DamagedError: the file is missing, empty, cut off or changed.
        InvalidInputError: it is of a version that a newer Spark may have written.
    """
    with reading(file):
        text = file.read_bytes().decode()
    if not text.strip():
        raise DamagedError(file, "is empty")
    version, *rest = text.split("\n")
    if re.fullmatch(r"v\d+", version) and version not in versions and not checksum_differs(file):
        raise InvalidInputError(f"{file} has format {version}, which this version of the kit does not know")
    if version not in versions or not rest:
        raise DamagedError(file, "is cut off or changed")
    return rest


def as_json(file: Path, line: str) -> Any:
    """Return what a line of a log holds.

    Raises:
        DamagedError: the line is cut off or changed.
    """
    try:
        return json.loads(line)
    except ValueError:
        raise DamagedError(file, "is cut off or changed") from None


def query_id(file: Path) -> str:
    """Return the id of the checkpoint's query, which `metadata` holds.

    Raises:
        DamagedError: it cannot be read.
    """
    with reading(file):
        text = file.read_bytes().decode()
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
    if not offsets:
        raise DamagedError(file, "is cut off or changed")
    for line in (query, *(offset for offset in offsets if offset.startswith(("{", "[")))):
        as_json(file, line)
    with reading(file):
        settings = dict(as_json(file, query))
        settings["conf"] = dict(settings.get("conf", {}))
        found = Plan(settings, tuple(None if offset == "-" else offset for offset in offsets))
        for source in range(len(offsets)):
            found.files_until(source)
    return found


def commit(file: Path) -> dict[str, Any]:
    """Return what `commits/N` says; its `stateUniqueIds` are of each operator, partition and store.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    found = as_json(file, lines(file, "v1", "v2")[0])
    with reading(file):
        ids = (found.get("stateUniqueIds") or {}).items()
        found["stateUniqueIds"] = {each: [frozenset(stores) for stores in parts] for each, parts in ids}
        found["nextBatchWatermarkMs"] = int(found.get("nextBatchWatermarkMs", 0))
        return dict(found)


def last_plan(root: Path) -> Plan | None:
    """Return the last plan that can be read."""
    for file in reversed(numbered(root / "offsets").values()):
        with suppress(DamagedError):
            return plan(file)
    return None


def checksum_differs(file: Path, *, whole: bool = False) -> bool:
    """Return whether a file is not what Hadoop's `.NAME.crc` beside it says; False without one.

    The checksum file holds "crc", a zero byte, the bytes a checksum covers, and a CRC-32 for each such part.
    Hadoop reads on without a checksum file that has another head.

    Args:
        file: the file.
        whole: read a large file, too, and do not only compare its size.
    """
    try:
        sums = file.with_name(f".{file.name}.crc").read_bytes()
        size = file.stat().st_size
        step = int.from_bytes(sums[4:8], "big")
        if len(sums) < _CRC_HEAD or sums[:4] != b"crc\0":
            return False
        if not 0 < step <= _SMALL or len(sums) - _CRC_HEAD != 4 * -(-size // step):
            return True
        if size > _SMALL and not whole:
            return False
        with file.open("rb") as opened:
            parts = (zlib.crc32(part).to_bytes(4, "big") for part in iter(lambda: opened.read(step), b""))
            return b"".join(parts) != sums[_CRC_HEAD:]
    except OSError:  # of the file itself, whoever reads it says what is wrong
        return False


def check_unchanged(file: Path) -> None:
    """Raise DamagedError if a file is not what its checksum says."""
    if checksum_differs(file, whole=True):
        what = f"was changed after Spark wrote it (delete .{file.name}.crc, its checksum, if that was meant)"
        raise DamagedError(file, what)


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
    if not file.is_file():
        yield
        return
    with file.open("r+b" if change else "rb") as held:
        try:
            fcntl.lockf(held, (fcntl.LOCK_EX if change else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInputError(f"checkpoint {root} is in use; end its query first") from None
        if left := left_running(held.read()):  # of this very file: to close another one would unlock it
            raise InvalidInputError(f"checkpoint {root} is in use by {left}")
        yield


def left_running(said: bytes) -> str | None:
    """Say which query a killed client of `sparkstream serve` has left running, by what its lock file says.

    The client's own lock went with it. What it wrote there did not, and the server runs the query until the
    next client comes.
    """
    try:
        holder = json.loads(said)
        client = Path(holder["client"])
        server = json.loads((client.parent.parent / "server.json").read_text("utf-8"))["pid"]
        program = Path(f"/proc/{server}/cmdline").read_bytes()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not client.exists() or b"SparkConnectServer" not in program:
        return None
    return (
        f"query {holder['query']}, which runs on in the Spark Connect server (process {server}) although its "
        "client was killed; end it: run any job there, or sparkstream serve --stop"
    )
