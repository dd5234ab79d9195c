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
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit.checkpoints.logs import DamagedError, Logs, command, lines, numbered, reading
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


_FILE = re.compile(r"(\d+)(?:_([0-9a-f-]{36}))?\.(delta|snapshot|changelog|zip)(?:\.crc)*")
_METADATA = re.compile(r"\.?(\d+)(\.crc)?")
_STRUCT = b'"type":"struct","fields":['
_SCHEMAS = ("*/_metadata/schema", "*/*/_metadata/schema", "_stateSchema/*/[0-9]*", "_metadata/v2/[0-9]*")
_COMPLETE = ("snapshot", "zip")  # hold a whole version; the others what changed since the version before
_CHANGES = ("delta", "changelog")


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


def states(logs: Logs) -> list[State]:
    """Return the stateful operators; one whose metadata is lost is named `unknown`."""
    plan = logs.last_plan
    provider = plan.conf.get(STATE_STORE, "unknown").rpartition(".")[2] if plan else "unknown"
    folders = logs.entries("state").values()
    return [_state(logs, folder, provider.removesuffix("StateStoreProvider")) for folder in folders]


def _state(logs: Logs, folder: Path, provider: str) -> State:
    described = list(numbered(folder / "_metadata" / "v2").values())
    file = described[-1] if described else folder / "_metadata" / "metadata"
    there = numbered(folder)
    try:
        text = logs.read(_described, file)
        with reading(file):
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
        return not has_keys
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


def _described(file: Path) -> str:
    """Return the text of an operator's metadata, which is JSON."""
    text = lines(file, "v1", "v2")[0]
    with reading(file):
        json.loads(text)
    return text


def lost(logs: Logs, version: int) -> Iterator[DamagedError]:
    """Yield the files that a version of the state lacks; version 0 is empty, before the first batch.

    Their contents are Spark's to check, with checksums of its own, when it loads them.
    """
    ids: dict[str, Any] = {}  # of state format v2
    with suppress(DamagedError):
        ids = logs.commit(version - 1)["stateUniqueIds"]
    for state in states(logs):
        of_partition = dict(enumerate(ids.get(state.folder.name, ())))
        for partition, store in product(range(state.partitions), state.stores):
            folder = state.folder / str(partition) / ("" if store == "default" else store)
            if missing := _missing(folder, version, of_partition.get(partition, ())):
                yield missing
        for file in (file for pattern in _SCHEMAS for file in state.folder.glob(pattern)):
            if file.is_dir() or not file.stat().st_size:  # of these Spark says no more than that they end
                yield DamagedError(file, "is empty")
    for folder in logs.root.glob("state/*/_metadata/v2"):
        file = max(numbered(folder).items(), default=(0, folder / "0"))[1]
        errors = list(logs.damage(_described, file))
        yield from errors
        # Spark keeps the paths of schemas in full.
        paths = re.findall(
            r'"file:(/[^"]*/_stateSchema/[^"]*)"', "" if errors else logs.read(_described, file)
        )
        if gone := next((path for path in paths if not Path(path).exists()), None):
            fix = "a folder that was moved or copied by hand becomes whole by a copy: "
            fix += f"{command('clone', logs.root)} COPY"
            yield DamagedError(file, f"names {gone}, which does not exist", fix)


def _missing(folder: Path, version: int, ids: Collection[str]) -> DamagedError | None:
    """Return which file of a version is missing, back to the last one that was kept whole, or None."""
    found: dict[int, set[str]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _FILE.fullmatch(path.name)
        # Format v2 keeps what an interrupted batch wrote. The newest version's file is known by its id, those
        # before it only by a compressed line in it: there any of them will do.
        if match and path.suffix != ".crc" and (int(match[1]) != version or not ids or match[2] in ids):
            found.setdefault(int(match[1]), set()).add(match[3])
    for number in range(version, 0, -1):
        kinds = found.get(number, set())
        if not kinds:
            used = {kind for each in found.values() for kind in each} or {"delta"}
            kind = next(kind for kind in (*_CHANGES, "zip", "snapshot") if kind in used)
            return DamagedError(folder / f"{number}{'_*' if ids else ''}.{kind}", "is missing")
        if kinds & {*_COMPLETE}:
            break
    return None
