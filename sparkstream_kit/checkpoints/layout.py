"""The files of a checkpoint on a local path, as Spark 4 writes them.

metadata       {"id": the query's id}
offsets/N      the plan of batch N: "v1", a line about the query, a line for each source, by its place in the
               query; in "v2" the line of a source begins with its name, or its place
commits/N      batch N is done: "v1" (or "v2", with the ids of the state's files), a line
sources/I/     what source I keeps, by its number or its name; for a file source see `inputs`
state/         see `state`
sparkstream-kit/   the kit's own; Spark ignores it
"""

from __future__ import annotations

import json
import os
import re
import shlex
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "KIT",
    "PINS",
    "DamagedError",
    "Plan",
    "change_offsets",
    "check_unchanged",
    "checkpoint",
    "checksum_differs",
    "command",
    "commit",
    "last_plan",
    "lines",
    "local",
    "newest",
    "numbered",
    "page_file",
    "plan",
    "plan_in",
    "query_id",
    "reading",
    "replace",
    "source_logs",
    "tried",
    "unchanged",
    "versioned",
    "watermark",
]

_T = TypeVar("_T")

KIT = "sparkstream-kit"
PINS = f"{KIT}/pins"  # a file for each batch: which version of a model or table it was made with
_MISSING = "is missing"
_SMALL = 1 << 20  # bytes; Hadoop's checksums cover 512


class DamagedError(InvalidInputError):
    """The `file` is not what Spark wrote: `what` is wrong with it, and the `fix` where it is known."""

    def __init__(self, file: Path, what: str = "is cut off or changed", fix: str = "") -> None:
        super().__init__(f"{file} {what}")
        self.file = file
        self.what = what
        self.fix = fix

    @property
    def is_missing(self) -> bool:
        """Whether there is no such file."""
        return self.what == _MISSING


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read and understood into a DamagedError that names it."""
    try:
        yield
    except InvalidInputError:
        raise
    except FileNotFoundError:
        raise DamagedError(file, _MISSING) from None
    except OSError as err:
        raise DamagedError(file, f"cannot be read ({err.strerror})") from None
    except Exception as err:  # whatever Python raises for a text or an archive that is none
        raise DamagedError(file) from err


def tried(read: Callable[[Path], object], file: Path) -> Iterator[DamagedError]:
    """Yield what reading a file raises, if it is damaged."""
    try:
        read(file)
    except DamagedError as err:
        yield err


@dataclass(frozen=True)
class Plan:
    """What `offsets/N` says of a batch; each source has its place in both tuples.

    Attributes:
        conf: the settings that the batch was planned with.
        offsets: up to where it reads each source, in Spark's words; None for one without rows yet.
        files: of a file source, the last entry of its log that it reads; None for another source.
        watermark: in milliseconds since 1970; 0 before the first one, and without one.
        names: of the sources, in the same order: each its name, or its place in the query as a text.
    """

    conf: dict[str, Any]
    offsets: tuple[str | None, ...]
    files: tuple[int | None, ...]
    watermark: int
    names: tuple[str, ...]

    @property
    def has_named_sources(self) -> bool:
        """Whether its sources have names (`readStream.name()`): in that case all of them have."""
        return self.conf.get("spark.sql.streaming.queryEvolution.enableSourceEvolution") == "true"


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
        raise InvalidInputError(
            f"checkpoint {path} is not on a local path; copy it to this machine first, and put the copy "
            "back afterwards (hdfs dfs -get, hdfs dfs -put)"
        )
    if not root.is_dir():
        raise InvalidInputError(f"no checkpoint {path}; give the folder that the query was started with")
    if not any((root / name).exists() for name in ("metadata", "offsets", "commits")):
        raise InvalidInputError(f"{path} is no checkpoint (no metadata, offsets or commits in it)")
    return root


def numbered(folder: Path) -> dict[int, Path]:
    """Return the files of one of Spark's logs by their number, in order; none where there is no folder."""
    names: list[str] = []
    with suppress(FileNotFoundError, NotADirectoryError):  # Spark may be removing a temporary checkpoint
        names = os.listdir(folder)  # noqa: PTH208 - in one step
    return {number: folder / name for number, name in _files.log_entries(names).items()}


def newest(log: Path) -> int:
    """Return the number of the newest file of one of Spark's logs; -1 where there is none."""
    return max(numbered(log), default=-1)


def source_logs(root: Path) -> dict[str, Path]:
    """Return the folders in which a checkpoint's sources keep their logs, by number or name."""
    folders: list[Path] = []
    with suppress(FileNotFoundError, NotADirectoryError):  # as in `numbered`
        folders = [folder for folder in (root / "sources").iterdir() if folder.is_dir()]
    by_number = sorted(folders, key=lambda folder: (len(folder.name), folder.name))
    return {folder.name: folder for folder in by_number}


def _text(file: Path) -> str:
    with reading(file):
        text = file.read_bytes().decode()
    if not text.strip():
        raise DamagedError(file, "is empty")
    return text


def lines(file: Path, *versions: str) -> list[str]:
    """Return the lines of a log's file after its version.

    Raises:
        DamagedError: the file is missing, empty, cut off or changed.
        InvalidInputError: it is of a version that a newer Spark may have written.
    """
    return versioned(file, *versions)[1:]


def versioned(file: Path, *versions: str) -> list[str]:
    """Return the lines of a log's file, the first of which is its version."""
    found = _text(file).split("\n")
    version = found[0]
    if re.fullmatch(r"v\d+", version) and version not in versions and not checksum_differs(file):
        raise InvalidInputError(f"{file} has format {version}, which this version of the kit does not know")
    if version not in versions or len(found) == 1:
        raise DamagedError(file)
    return found


def query_id(file: Path) -> str:
    """Return the id of the checkpoint's query, which `metadata` holds.

    Raises:
        DamagedError: it cannot be read.
    """
    text = _text(file)
    with reading(file):
        found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise DamagedError(file, "does not hold a query's id")
    return str(found["id"])


def plan(file: Path) -> Plan:
    """Return what `offsets/N` says.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    text = "\n".join(versioned(file, "v1", "v2"))
    with reading(file):
        return plan_in(text)


def plan_in(text: str) -> Plan:
    """Return what the text of `offsets/N` says, or raise what Python does for another text."""
    version, query, first, *more = text.split("\n")
    texts, said = [first, *more], json.loads(query)
    each = list(enumerate(texts)) if version == "v1" else sorted(_by_name(text) for text in texts)
    offsets = tuple(None if text == "-" else text for _, text in each)
    files = tuple(_files_until(offset) for offset in offsets)
    names = tuple(str(name) for name, _ in each)
    return Plan(dict(said.get("conf", {})), offsets, files, int(said.get("batchWatermarkMs", 0)), names)


def _by_name(line: str) -> tuple[int | str, str]:
    """Return the name of a source, or its place, and its offset."""
    name, offset = line.split(":", 1)
    return int(name) if name.isdecimal() else name, offset


def change_offsets(file: Path, changed: Mapping[str, str]) -> None:
    """Write new offsets of some sources, by their names in the plan, into `offsets/N`."""
    version, query, *texts = versioned(file, "v1", "v2")
    for place, text in enumerate(texts):
        name = str(place) if version == "v1" else text.partition(":")[0]
        if name in changed:
            texts[place] = changed[name] if version == "v1" else f"{name}:{changed[name]}"
    replace(file, "\n".join([version, query, *texts]))


def watermark(text: str) -> int:
    r"""Return the watermark of a batch in milliseconds since 1970, which the text of `offsets/N` says.

    Raises:
        ValueError: the text is cut off or changed.

    Example:
        >>> watermark('v1\n{"batchWatermarkMs":1767225600000,"conf":{}}\n{"logOffset":0}')
        1767225600000
    """
    try:
        return int(json.loads(text.split("\n")[1])["batchWatermarkMs"])
    except (LookupError, TypeError) as err:
        raise ValueError("no watermark in it") from err


def _files_until(offset: str | None) -> int | None:
    """Return the entry of a file source's log that an offset names; None for that of another source."""
    value = json.loads(offset) if offset and offset.startswith(("{", "[")) else None
    return int(value["logOffset"]) if isinstance(value, dict) and set(value) == {"logOffset"} else None


def commit(file: Path) -> dict[str, Any]:
    """Return what `commits/N` says; its `stateUniqueIds` are of each operator, partition and store.

    Raises:
        DamagedError, InvalidInputError: as for `lines`.
    """
    text = lines(file, "v1", "v2")[0]
    with reading(file):
        found = json.loads(text)
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


def checksum_differs(file: Path, *, whole: bool = True) -> bool:
    """Return whether a file is not what Hadoop's `.NAME.crc` beside it says; False without one.

    The checksum file holds "crc", a zero byte, the bytes a checksum covers, and a CRC-32 for each such part.
    Hadoop reads on without a checksum file that has another head.

    Args:
        file: the file.
        whole: read a large file, too, and do not only compare its size.
    """
    try:
        sums = file.with_name(f".{file.name}.crc").read_bytes()
        head, step = sums[:4], int.from_bytes(sums[4:8], "big")
        if head != b"crc\0" or len(sums) < len(head) + 4:
            return False
        size = file.stat().st_size
        if not 0 < step <= _SMALL or len(sums) - 8 != 4 * -(-size // step):
            return True
        if size > _SMALL and not whole:
            return False
        with file.open("rb") as opened:
            parts = iter(partial(opened.read, step), b"")
            return sums[8:] != b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    except OSError:  # of the file itself, whoever reads it says what is wrong
        return False


def check_unchanged(file: Path) -> None:
    """Raise DamagedError if a file is not what its checksum says."""
    if checksum_differs(file):
        what = f"was changed after Spark wrote it (delete .{file.name}.crc, its checksum, if that was meant)"
        raise DamagedError(file, what)


def unchanged(read: Callable[[Path], _T], file: Path) -> _T:
    """Return what a file says, if its checksum agrees."""
    found = read(file)
    check_unchanged(file)
    return found


def replace(file: Path, text: str) -> None:
    """Write a file of Spark's anew, as a whole."""
    # First: a checksum that does not fit is damage, and none is not.
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    _files.replace(file, [text])


def command(name: str, root: Path) -> str:
    """Return a command on a checkpoint, for its user to copy.

    Example:
        >>> command("rewind", Path("my ckpt"))
        "sparkstream checkpoint rewind 'my ckpt'"
    """
    return f"sparkstream checkpoint {name} {shlex.quote(str(root))}"


def page_file(root: Path) -> Path:
    """Return where a run notes the address of its page, for `sparkstream watch CHECKPOINT`."""
    return root / KIT / "page"
