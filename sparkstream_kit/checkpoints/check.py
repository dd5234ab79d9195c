"""What is wrong with the files of a checkpoint, and the way out; for those of its input see `lost`.

Of the state, which operators there are, and whether a version of it can be loaded:

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
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _arguments
from sparkstream_kit.checkpoints.logs import (
    DamagedError,
    Logs,
    Plan,
    checkpoint,
    command,
    commit,
    local,
    log_file,
    numbered,
    plan,
    query_id,
    reading,
    versioned,
)
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


_WRITE_ID = (
    'restore it; or delete .metadata.crc and write {"id": "…"} into metadata, with the id from the query\'s '
    "progress or a sink's ledger"
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a checkpoint: which file, what is wrong with it, and what to do."""

    file: Path
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file} {self.what}; {self.fix}"


def check(path: str | Path) -> list[Problem]:
    """Find what is wrong with the files of a checkpoint.

    First comes what a restart would trip over, then what it would not notice: a damaged file of an older
    batch, to which a rewind is not possible then; a log that differs from its checksum; and an input file
    that was planned and has gone, without which Spark replays the batch in silence. Of the state, missing
    files are found; their contents Spark checks itself when it loads them.

    Args:
        path: a checkpoint on a local path; copy one of another file system to this machine first.

    Returns:
        The problems, one for each file; an empty list if there is none.

    Raises:
        InvalidInputError: no checkpoint, one on another file system, or one of a newer Spark's format.

    Examples:
        In a session::

            for problem in checkpoints.check("ckpt/sales"):
                print(problem)
    """
    _arguments.check(check, locals())
    logs = Logs(checkpoint(path))
    found: dict[Path, Problem] = {}
    errors = list(_restart(logs, whole=True))
    way_out = _way_out(logs) if errors else ""
    for error in (*errors, *_older(logs), *_gone(logs)):
        found.setdefault(error.file, Problem(error.file, error.what, error.fix or way_out))
    return list(found.values())


def damage(logs: Logs, *, whole: bool = False) -> str | None:
    """Say in one line why Spark could not continue from a checkpoint, or return None.

    Args:
        logs: of the checkpoint, which need not exist yet.
        whole: compare them with their checksums, too.

    Examples:
        >>> damage(Logs(Path("a/folder/that/is/not/there/yet")))
    """
    root = logs.root
    try:
        error = next(_restart(logs, whole=whole), None)
        if error is None:
            return None
        # A file that is wrong can make others look missing: its checksum tells which one it is.
        error = next(_restart(logs, whole=True), error)
        fix = error.fix or f"{_way_out(logs)}; all that is wrong: {command('check', root)}"
    except InvalidInputError:  # a newer format, which may well be whole
        return None
    return f"checkpoint {root} is damaged: {error.file.relative_to(root)} {error.what}; {fix}"


# What Spark says where it cannot load the state, or read a file of the checkpoint, whose path follows.
_STATE = re.compile(r"CANNOT_LOAD_STATE_STORE|CANNOT_READ_STATE")
READ_IN_PART = "STATE_STORE_COMMIT_VALIDATION_FAILED"
_IN_PART = (
    "its function of the batch did not read all of it (show, limit, an early return), and Spark has "
    "no state of that batch: let it write, count or collect the whole batch"
)
_FILE = r"(Checksum|Corrupt|EOF|FileNotFound|Zip)\w*Exception[^\n]*{}/"


def unreadable(path: str, cause: str) -> str | None:
    """Say in one line that Spark could not read a checkpoint on a local path, and the way out; else None.

    Args:
        path: the checkpoint.
        cause: what Spark says of the failure.

    Examples:
        >>> unreadable("ckpt", "division by zero")
    """
    root = local(path)
    if root is None or not root.is_dir():
        return None
    in_part = READ_IN_PART in cause
    if not in_part and not _STATE.search(cause) and not re.search(_FILE.format(re.escape(str(root))), cause):
        return None
    logs = Logs(root)
    what = _IN_PART if in_part else "Spark cannot read it"
    return f"checkpoint {root} is damaged: {what}; {_way_out(logs, before=logs.done)}"


def _way_out(logs: Logs, before: int | None = None) -> str:
    batch = newest_whole(logs, before)
    if batch is None:
        return "restore it from a backup, or start anew on another checkpoint"
    return f"restore it from a backup, or go back: {command('rewind', logs.root)} --to {batch}"


def newest_whole(logs: Logs, before: int | None = None) -> int | None:
    """Return the last batch, or the last one before a batch, that a checkpoint can be rewound to, or None."""
    batches = (n for n in reversed(logs.entries("commits")) if before is None or n < before)
    return next((n for n in batches if obstacle(logs, n) is None), None)


def obstacle(logs: Logs, batch: int) -> DamagedError | None:
    """Return why Spark could not continue from the end of a batch, or None."""
    try:
        logs.commit(batch, whole=True)
        _whole_plan(logs, batch)
        # Spark reads two plans, the last one and the one before it.
        if batch and following(logs, batch) is None:
            logs.plan(batch - 1, whole=True)
    except DamagedError as err:
        return err
    return next(_lost_state(logs, batch + 1), None)


def following(logs: Logs, batch: int) -> Plan | None:
    """Return the plan of the batch after a batch, if Spark can follow it."""
    with suppress(DamagedError):
        return _whole_plan(logs, batch + 1)
    return None


def _whole_plan(logs: Logs, batch: int) -> Plan:
    """Return the plan of a batch, if it and the logs of file sources that it reads are whole."""
    found = logs.plan(batch, whole=True)
    for log, until in logs.read_by(found).items():
        for file in logs.files(log, until):
            logs.read(log_file, file, whole=True)
    return found


def _restart(logs: Logs, *, whole: bool) -> Iterator[DamagedError]:
    """Yield what a restart would trip over."""
    errors_of = partial(logs.damage, whole=whole)
    root, done, last = logs.root, logs.done, max(logs.done, logs.planned)
    if last >= 0 or (root / "metadata").exists():
        found = errors_of(query_id, root / "metadata")
        yield from (DamagedError(err.file, err.what, _WRITE_ID) for err in found)
    yield from errors_of(plan, *(root / "offsets" / str(n) for n in range(max(last - 1, 0), last + 1)))
    if done >= 0:
        yield from errors_of(commit, root / "commits" / str(done))
    for log, planned in logs.until_planned.items():
        try:
            files = logs.files(log, max(planned, *logs.entries(f"sources/{log}"), -1))
        except DamagedError as err:
            yield err
        else:
            yield from errors_of(log_file, *files)
    if last < 0 and newer_state(root, 1):  # the first batch, which may have failed, makes version 1
        yield DamagedError(root / "offsets", "has no batch, but state has been written")
    for name in ("offsets", "commits", *(f"sources/{log}" for log in logs.sources)):
        yield from _orphans(root / name, max(logs.entries(name), default=-1))
    yield from _lost_state(logs, done + 1)


def _orphans(log: Path, last: int) -> Iterator[DamagedError]:
    """Yield the files that Spark cannot write again: it takes what is left of them for another query's."""
    for file in log.glob(".*.crc"):
        number = file.name.split(".")[1]
        # Asked now: the query may be running, and its next batch may have come since `last` was read.
        if number.isdigit() and int(number) > last and not (log / file.name[1:-4]).exists():
            fix = f"delete {file.name} too, and the batch runs again"
            yield DamagedError(log / number, "is missing, but not its checksum", fix)


def _older(logs: Logs) -> Iterator[DamagedError]:
    """Yield what is wrong with files that a restart does not read, and what differs from its checksum."""
    for name, read in (("offsets", plan), ("commits", commit)):
        found = logs.entries(name)
        batches = range(min(found, default=0), max(found, default=-1) + 1)
        for err in logs.damage(read, *(logs.root / name / str(batch) for batch in batches), whole=True):
            fix = f"a restart does not need it, but batch {err.file.name} cannot be rewound to"
            yield DamagedError(err.file, err.what, fix)


def _gone(logs: Logs) -> Iterator[DamagedError]:
    """Yield the input files that the next batches would read and that no longer exist."""
    for file in logs.pending(logs.done):
        if file.gone:
            fix = "put it back first: without it Spark runs the batch with no error and without its rows"
            yield DamagedError(Path(str(file.path)), "is planned to be read and has gone", fix)


_STATE_FILE = re.compile(r"(\d+)(?:_([0-9a-f-]{36}))?\.(delta|snapshot|changelog|zip)(?:\.crc)*")
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


def newer_state(root: Path, version: int) -> list[Path]:
    """Return the files of later versions, with their checksums: of the state and of its operators."""
    found = []
    for file in root.glob("state/**/*"):
        # V2 metadata is named after the first batch of a run; batch `version` is the first that runs again.
        is_metadata = file.parent.name == "v2"
        match = (
            _METADATA.fullmatch(file.name) if is_metadata else _STATE_FILE.fullmatch(file.name.lstrip("."))
        )
        if match and int(match[1]) > version:
            found.append(file)
    return found


def _described(file: Path) -> str:
    """Return the text of an operator's metadata, which is JSON."""
    text = versioned(file, "v1", "v2")[1]
    with reading(file):
        json.loads(text)
    return text


def _lost_state(logs: Logs, version: int) -> Iterator[DamagedError]:
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
        match = _STATE_FILE.fullmatch(path.name)
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
