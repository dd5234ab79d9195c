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
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit.checkpoints import logs
from sparkstream_kit.checkpoints.logs import DamagedError
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


_FILE = re.compile(r"(\d+)(?:_([0-9a-f-]{36}))?\.(delta|snapshot|changelog|zip)(?:\.crc)*")
_METADATA = re.compile(r"\.?(\d+)(\.crc)?")
_SCHEMAS = ("*/_metadata/schema", "*/*/_metadata/schema", "_stateSchema/*/[0-9]*", "_metadata/v2/[0-9]*")
_STRUCT = b'"type":"struct","fields":['
_COMPLETE = ("snapshot", "zip")  # hold a whole version; the others what changed since the version before
_CHANGES = ("delta", "changelog")
_LZ4 = b"LZ4Block"


@dataclass(frozen=True)
class State:
    """One stateful operator of a query.

    Attributes:
        folder: where its state is.
        operator: Spark's name for it.
        stores: the names of its state stores.
        provider: what keeps it (HDFSBacked, RocksDB).
        partitions: how many, whatever `spark.sql.shuffle.partitions` says now.
    """

    folder: Path
    operator: str
    stores: tuple[str, ...]
    provider: str
    partitions: int

    def __str__(self) -> str:
        stores = f"{len(self.stores)} stores, " if len(self.stores) > 1 else ""
        many = "" if self.partitions == 1 else "s"
        return f"{self.operator}, {stores}{self.partitions} partition{many}, {self.provider}"


def states(root: Path) -> list[State]:
    """Return the stateful operators; one whose metadata is lost is named `unknown`."""
    plan = logs.last_plan(root)
    provider = plan.conf.get(STATE_STORE, "unknown").rpartition(".")[2] if plan else "unknown"
    folders = logs.numbered(root / "state").values()
    return [_state(folder, provider.removesuffix("StateStoreProvider")) for folder in folders]


def _state(folder: Path, provider: str) -> State:
    described = list(logs.numbered(folder / "_metadata" / "v2").values())
    file = described[-1] if described else folder / "_metadata" / "metadata"
    there = logs.numbered(folder)
    try:
        _check_sound(file, whole=False)
        text = logs.lines(file, "v1", "v2")[0]
        with logs.reading(file):
            found = json.loads(text)
            name = str(found["operatorInfo"]["operatorName"])
            stores = tuple(str(store["storeName"]) for store in found["stateStoreInfo"])
            partitions = int(found["stateStoreInfo"][0]["numPartitions"])
            if _has_one_partition(folder, name, there):
                partitions = 1
            return State(folder, name, stores, provider, partitions)
    except DamagedError:  # Spark does without it
        names = {path.name for path in folder.glob("[0-9]*/*") if path.is_dir() and path.name[0] not in "_S"}
        stores = tuple(sorted(names)) or ("default",)
        return State(folder, "unknown", stores, provider, max(there, default=0) + 1)


def _has_one_partition(folder: Path, name: str, there: Collection[int]) -> bool:
    """Say whether an operator has all rows in one partition: a limit, or an aggregate without keys.

    Of such an operator, too, Spark writes down that it has as many as `spark.sql.shuffle.partitions`.
    """
    if name == "globalLimit":
        return True
    if name != "stateStoreSave" or any(partition > 0 for partition in there):
        return False
    schema = folder / "0" / "_metadata" / "schema"
    with suppress(OSError):
        has_keys = schema.read_bytes().partition(b"{")[2].startswith(_STRUCT + b"{")
        return not has_keys or logs.checksum_differs(schema)
    return 0 in there


def newer(root: Path, version: int) -> list[Path]:
    """Return the files of later versions, with their checksums: of the state and of its operators."""
    found = []
    for file in root.glob("state/**/*"):
        # V2 metadata is named after the first batch of a run; batch `version` is the first that runs again.
        is_metadata = file.parent.name == "v2"
        match = _METADATA.fullmatch(file.name) if is_metadata else _FILE.fullmatch(file.name.lstrip("."))
        if match and int(match[1]) > version:
            found.append(file)
    return found


def lost(root: Path, version: int, *, whole: bool) -> Iterator[DamagedError]:
    """Yield what stands in the way of loading a version of the state.

    Args:
        root: the checkpoint.
        version: the version; 0 is the empty state before the first batch.
        whole: read large files, too, and the schemas; without it their sizes and ends are looked at.
    """
    ids: dict[str, Any] = {}  # of state format v2
    with suppress(DamagedError):
        ids = logs.commit(root / "commits" / str(version - 1))["stateUniqueIds"]
    for state in states(root):
        of_partition = dict(enumerate(ids.get(state.folder.name, ())))
        for partition, store in product(range(state.partitions), state.stores):
            folder = state.folder / str(partition) / ("" if store == "default" else store)
            try:
                needed = _needed(folder, version, of_partition.get(partition, ()))
            except DamagedError as err:
                yield err
                continue
            for file in needed:
                yield from logs.tried(partial(_check_version, whole=whole), file)
        for pattern in _SCHEMAS if whole else ():
            for file in state.folder.glob(pattern):
                yield from logs.tried(partial(_check_sound, whole=whole), file)
    for folder in root.glob("state/*/_metadata/v2"):
        file = max(logs.numbered(folder).items(), default=(0, folder / "0"))[1]
        yield from logs.tried(partial(_check_described, root=root), file)


def _needed(folder: Path, version: int, ids: Collection[str]) -> list[Path]:
    """Return the files that make up a version: what has changed since the last one that was kept whole.

    Raises:
        DamagedError: one of them is missing.
    """
    found: dict[int, dict[str, list[Path]]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _FILE.fullmatch(path.name)
        # Format v2 keeps what an interrupted batch wrote. The newest version's file is known by its id, those
        # before it only by a compressed line in it: there any of them will do.
        if match and path.suffix != ".crc" and (int(match[1]) != version or not ids or match[2] in ids):
            found.setdefault(int(match[1]), {}).setdefault(match[3], []).append(path)
    needed: list[Path] = []
    for number in range(version, 0, -1):
        kinds = found.get(number, {})
        kind = next((kind for kind in (*_COMPLETE, *_CHANGES) if kind in kinds), None)
        if kind is None:
            used = {kind for each in found.values() for kind in each} or {"delta"}
            kind = next(kind for kind in (*_CHANGES, "zip", "snapshot") if kind in used)
            raise DamagedError(folder / f"{number}{'_*' if ids else ''}.{kind}", "is missing")
        needed += kinds[kind]
        if kind in _COMPLETE:
            break
    return needed


def _check_sound(file: Path, *, whole: bool) -> None:
    """Raise DamagedError for a file that is empty, a folder, or not what its checksum says."""
    with logs.reading(file), file.open("rb") as opened:
        if not opened.read(1):
            raise DamagedError(file, "is empty")
        if logs.checksum_differs(file, whole=whole):
            raise DamagedError(file)


def _check_version(file: Path, *, whole: bool) -> None:
    """Raise DamagedError if a file with a version of the state, or one that belongs to it, is not whole."""
    _check_sound(file, whole=whole)
    own_checksum = file.with_name(f"{file.name}.crc")  # beside that of Hadoop, .NAME.crc
    if whole and own_checksum.exists():
        _check_sound(own_checksum, whole=whole)
    with logs.reading(file), file.open("rb") as opened:
        head, size = opened.read(len(_LZ4)), opened.seek(0, os.SEEK_END)
        opened.seek(max(size - len(_LZ4) - 13, 0))
        end = opened.read()
        # A copy may have lost its checksum. Source: LZ4BlockOutputStream of lz4-java, which ends with a block
        # of no bytes: its name, a token, and three numbers that are zero.
        if _LZ4.startswith(head) and not (end.startswith(_LZ4) and end.endswith(bytes(12))):
            raise DamagedError(file)
        if file.suffix == ".zip":
            _check_parts(file, whole=whole)


def _check_parts(file: Path, *, whole: bool) -> None:
    """Raise DamagedError if a file that RocksDB's zip of a version names is missing, or not whole."""
    with zipfile.ZipFile(file) as held:
        parts = json.loads(held.read("metadata").decode().partition("\n")[2])["sstFiles"]
    for part in parts:
        needed = file.parent / "SSTs" / str(part["dfsSstFileName"])
        if not needed.exists():
            raise DamagedError(needed, f"is missing, of which {file.name} is made")
        if needed.stat().st_size != part["sizeBytes"]:
            raise DamagedError(needed)
        if whole:
            _check_sound(needed, whole=whole)


def _check_described(file: Path, root: Path) -> None:
    """Raise DamagedError if what transformWithState cannot do without is not there, or lies elsewhere."""
    text = logs.lines(file, "v1", "v2")[0]
    with logs.reading(file):
        json.loads(text)
    for path in re.findall(r'"file:(/[^"]*/_stateSchema/[^"]*)"', text):  # in full, as Spark keeps them
        if not Path(path).exists():
            raise DamagedError(
                file,
                f"names {path}, which does not exist",
                "a folder that was moved or copied by hand becomes whole by a copy: "
                f"{logs.command('clone', root)} COPY",
            )
