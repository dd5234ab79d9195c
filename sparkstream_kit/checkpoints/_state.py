"""The state of a checkpoint: which operators, and whether a version of it can be loaded.

state/O/_metadata/metadata     the operator's name and stores; transformWithState has _metadata/v2/N instead
state/O/0/_metadata/schema     the types of its keys and values
state/O/P/V.delta, V.snapshot  version V of partition P, by the HDFS-backed provider (batch N makes N + 1)
state/O/P/V.zip, V.changelog   the same by RocksDB; the zip names files of SSTs/
state/O/P/V_ID.…               the same in state format v2, where commits/N names the ID
state/O/P/STORE/…              where an operator has more stores than the default one
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit.checkpoints._layout import (
    DamagedError,
    as_json,
    checksum_differs,
    lines,
    numbered,
    reading,
    tried,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_FILE = re.compile(r"(\d+)(?:_([0-9a-f-]{36}))?\.(delta|snapshot|changelog|zip)(?:\.crc)*")
_LZ4 = b"LZ4Block"
_STRUCT = b'"type":"struct","fields":['
_SCHEMAS = ("*/_metadata/schema", "*/*/_metadata/schema", "_stateSchema/*/[0-9]*", "_metadata/v2/[0-9]*")
_COMPLETE = ("snapshot", "zip")  # hold a whole version; the others what changed since the version before


@dataclass(frozen=True)
class Operator:
    """A stateful operator: its number, Spark's name for it, its stores and its number of partitions."""

    folder: Path
    name: str
    stores: tuple[str, ...]
    partitions: int

    def folders(self) -> Iterator[tuple[int, Path]]:
        """Yield each partition's number with the folder of each of its stores."""
        for partition in range(self.partitions):
            for store in self.stores:
                folder = self.folder / str(partition)
                yield partition, folder if store == "default" else folder / store


def operators(root: Path) -> list[Operator]:
    """Return the stateful operators; one whose metadata is lost is named after its folder."""
    return [_operator(folder) for folder in numbered(root / "state").values()]


def _operator(folder: Path) -> Operator:
    described = list(numbered(folder / "_metadata" / "v2").values())
    file = described[-1] if described else folder / "_metadata" / "metadata"
    there = numbered(folder)
    try:
        _sound(file, whole=False)
        with reading(file):
            found = as_json(file, lines(file, "v1", "v2")[0])
            stores = found["stateStoreInfo"]
            name = str(found["operatorInfo"]["operatorName"])
            partitions = 1 if _has_one_partition(folder, name, there) else int(stores[0]["numPartitions"])
            return Operator(folder, name, tuple(str(store["storeName"]) for store in stores), partitions)
    except DamagedError:  # Spark does without it
        inner = next((path for path in there.values() if path.is_dir()), None)
        found = [path.name for path in inner.iterdir() if path.is_dir()] if inner else []
        stores = tuple(sorted(store for store in found if store[0] not in "_S"))
        return Operator(folder, "unknown", stores or ("default",), max(there, default=0) + 1)


def _has_one_partition(folder: Path, name: str, there: Collection[int]) -> bool:
    """Say whether an operator has all rows in one partition: a limit, or an aggregate without keys.

    Of such an operator, too, Spark writes down that it has as many as `spark.sql.shuffle.partitions`.
    """
    if name == "globalLimit":
        return True
    if name != "stateStoreSave" or any(partition > 0 for partition in there):
        return False
    schema = folder / "0" / "_metadata" / "schema"
    try:
        has_keys = schema.read_bytes().partition(b"{")[2].startswith(_STRUCT + b"{")
    except OSError:
        return 0 in there
    return not has_keys or checksum_differs(schema)


def newer(root: Path, version: int) -> list[Path]:
    """Return the files of later versions, with their checksums: of the state and of its operators."""
    files = ((file, _FILE.fullmatch(file.name.lstrip("."))) for file in root.glob("state/**/*"))
    found = [file for file, match in files if match and int(match[1]) > version]
    # V2 metadata is named after the first batch of a run; batch `version` is the first that runs again.
    described = (
        (file, re.fullmatch(r"\.?(\d+)(\.crc)?", file.name)) for file in root.glob("state/*/_metadata/v2/*")
    )
    return found + [file for file, match in described if match and int(match[1]) > version]


def lost(root: Path, version: int, commit: dict[str, Any], *, whole: bool = False) -> Iterator[DamagedError]:
    """Yield what stands in the way of loading a version of the state, a file each.

    Args:
        root: the checkpoint.
        version: the version; 0 is the empty state before the first batch.
        commit: what the commit of batch `version - 1` says, for the ids of state format v2.
        whole: read large files, too, and the schemas.
    """
    ids = commit.get("stateUniqueIds", {})
    for operator in operators(root):
        of_partition = dict(enumerate(ids.get(operator.folder.name, ())))
        for partition, folder in operator.folders():
            store_ids = of_partition.get(partition, ())
            yield from tried(partial(_chain, version=version, ids=store_ids, whole=whole), folder)
        for pattern in _SCHEMAS if whole else ():
            for file in operator.folder.glob(pattern):
                yield from tried(partial(_sound, whole=whole), file)
    for folder in root.glob("state/*/_metadata/v2"):
        file = max(numbered(folder).items(), default=(0, folder / "0"))[1]
        yield from tried(partial(_check_described, root=root), file)


def _chain(folder: Path, version: int, ids: Collection[str], *, whole: bool) -> None:
    """Raise DamagedError for a file that is missing between a version and the last one held whole before."""
    found: dict[int, dict[str, list[Path]]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _FILE.fullmatch(path.name)
        # Format v2 keeps what an interrupted batch wrote. The newest version's file is known by its id, those
        # before it only by a compressed line in it: there any of them will do.
        if match and path.suffix != ".crc" and (int(match[1]) != version or not ids or match[2] in ids):
            found.setdefault(int(match[1]), {}).setdefault(match[3], []).append(path)
    for number in range(version, 0, -1):
        kinds = found.get(number, {})
        complete = [kind for kind in _COMPLETE if kind in kinds]
        changes = [kind for kind in ("delta", "changelog") if kind in kinds]
        if not complete and not changes:
            used = {kind for each in found.values() for kind in each} or {"delta"}
            kind = next(k for k in ("delta", "changelog", "zip", "snapshot") if k in used)
            named = (
                f"{number}_{'*' if number < version or len(ids) > 1 else min(ids)}" if ids else str(number)
            )
            raise DamagedError(folder / f"{named}.{kind}", "is missing")
        for path in kinds[(complete or changes)[0]]:
            _check_version(path, whole=whole)
            own_checksum = path.with_name(f"{path.name}.crc")  # beside that of Hadoop, .NAME.crc
            if whole and own_checksum.exists():
                _sound(own_checksum, whole=whole)
        if complete:
            return


def _sound(file: Path, *, whole: bool) -> None:
    """Raise DamagedError for a file that is empty, a folder, or not what its checksum says."""
    with reading(file):
        found = file.stat()
        if stat.S_ISDIR(found.st_mode):
            raise DamagedError(file, "is a folder")
        if not found.st_size:
            raise DamagedError(file, "is empty")
        if checksum_differs(file, whole=whole):
            raise DamagedError(file, "is cut off or changed")


def _check_version(file: Path, *, whole: bool) -> None:
    _sound(file, whole=whole)
    with reading(file):
        if _lz4_has_no_end(file):
            raise DamagedError(file, "is cut off or changed")
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as held:
                parts = json.loads(held.read("metadata").decode().partition("\n")[2])["sstFiles"]
            for part in parts:
                needed = file.parent / "SSTs" / str(part["dfsSstFileName"])
                if not needed.exists():
                    raise DamagedError(needed, f"is missing, of which {file.name} is made")
                if needed.stat().st_size != part["sizeBytes"]:
                    raise DamagedError(needed, "is cut off or changed")
                if whole:
                    _sound(needed, whole=whole)


def _lz4_has_no_end(file: Path) -> bool:
    """Say whether a file in Spark's usual compression is cut off; a copy may have lost its checksum.

    Source: LZ4BlockOutputStream of lz4-java, which ends with a block of no bytes: its name, a token, and
    three numbers that are zero.
    """
    with file.open("rb") as opened:
        if opened.read(len(_LZ4)) != _LZ4:
            return False
        opened.seek(0, os.SEEK_END)
        opened.seek(max(opened.tell() - len(_LZ4) - 13, 0))
        end = opened.read()
    return not (end.startswith(_LZ4) and end.endswith(bytes(12)))


def _check_described(file: Path, root: Path) -> None:
    """Raise DamagedError if what transformWithState cannot do without is not there, or lies elsewhere."""
    text = lines(file, "v1", "v2")[0]
    as_json(file, text)
    for path in re.findall(r'"file:(/[^"]*/_stateSchema/[^"]*)"', text):  # in full, as Spark keeps them
        if not Path(path).exists():
            raise DamagedError(
                file,
                f"names {path}, which does not exist",
                "a folder that was moved or copied by hand becomes whole by a copy: "
                f"sparkstream checkpoint clone {shlex.quote(str(root))} COPY",
            )
