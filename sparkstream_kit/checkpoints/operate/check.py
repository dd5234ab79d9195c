"""Find damaged and missing files of a checkpoint, and say how to repair it.

`check` lists every `Problem` for a user; `damage` and `unreadable` give `start` and
`run` one line about the first one; `obstacle` and `newest_whole` tell `rewind` which
batches Spark could continue from. `states` lists the stateful operators (`State`), and
`checkpoint` finds the folder of a checkpoint.

Files of the state of operator O, where the state's version N + 1 is its content after
batch N:

state/O/_metadata/metadata     the operator's name and stores; transformWithState has
                               _metadata/v2/N instead
state/O/0/_metadata/schema     the types of its keys and values
state/O/P/V.delta, V.snapshot  version V of partition P, written by the HDFS-backed provider
state/O/P/V.zip, V.changelog   the same, written by RocksDB; the zip names files in SSTs/
state/O/P/V_ID.…               the same in state format v2; commits/N holds the ID
state/O/P/STORE/…              the files of store STORE, if it is not the default store
"""

from __future__ import annotations

import json
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sparkstream_kit._internal import arguments
from sparkstream_kit.checkpoints import logs as parts
from sparkstream_kit.checkpoints.damage import (
    READ_IN_PART,
    STATE_FILE,
    missing_inputs,
    restart,
)
from sparkstream_kit.checkpoints.logs import BatchPlan, DamagedError, Logs, log_file
from sparkstream_kit.errors import InvalidInputError, count
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from sparkstream_kit.checkpoints.logs import InputFile


_T = TypeVar("_T")


@dataclass(frozen=True)
class Problem:
    """One damaged or missing file of a checkpoint, or of its input; `str()` gives it as one line.

    Attributes:
        file: the path of the file.
        what: the problem, as a phrase that follows the file's name, such as "is
            missing".
        fix: how to repair it.
    """

    file: Path
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file} {self.what}; {self.fix}"


def checkpoint(path: str | Path) -> Path:
    """Return the folder of a checkpoint, after checking that Spark has written to it.

    Raises:
        InvalidInputError: the path is on another file system, is no folder, or holds no
            checkpoint.
    """
    root = parts.local(path)
    if root is None:
        raise InvalidInputError(
            f"checkpoint {path} is not on a local path; copy it to this machine first,"
            " and put the copy back afterwards (hdfs dfs -get, hdfs dfs -put)"
        )
    if not root.is_dir():
        raise InvalidInputError(
            f"no checkpoint {path}; give the folder that the query was started with"
        )
    if not any((root / name).exists() for name in ("metadata", "offsets", "commits")):
        fix = ""
        if inside := [str(file.parent) for file in sorted(root.glob("*/metadata"))]:
            fix = f"; give {' or '.join(inside)}"
        raise InvalidInputError(
            f"{path} is no checkpoint (no metadata, offsets or commits in it){fix}"
        )
    return root


def check(path: str | Path) -> list[Problem]:
    """Find damaged and missing files of a checkpoint, without Spark.

    First come the files that a restart needs. One that only differs from its checksum
    is a problem, too, although a restart may not notice it. Then come input files that
    were planned and no longer exist: without them Spark would replay the batch
    silently. Of the state's data only missing files are found, as Spark checks their
    contents when it loads them. Damage to older batches, which a restart does not need,
    is not looked for: `rewind` finds it.

    Args:
        path: a checkpoint on a local path. Copy a checkpoint on another file system to
            this machine first.

    Returns:
        The problems, one for each file; an empty list if there is none.

    Raises:
        InvalidInputError: there is no checkpoint at `path`, it is on another file
            system, or a newer Spark wrote it in a format that the kit does not know.

    Examples:
        In a session::

            for problem in checkpoints.check("ckpt/sales"):
                print(problem)
    """
    arguments.check(check, locals())
    logs = Logs(checkpoint(path))
    damaged = list(_restart(logs))
    way_out = _way_out(logs) if damaged else ""
    problems: dict[Path, Problem] = {}
    for error in (*damaged, *missing_inputs(logs)):
        problem = Problem(error.file, error.what, error.fix or way_out)
        problems.setdefault(error.file, problem)
    return list(problems.values())


def damage(logs: Logs) -> str | None:
    """Return, in one line, why a checkpoint cannot be continued and the way out; else None.

    A file in a format of a newer Spark is not damage.

    Args:
        logs: the logs of the checkpoint, which need not exist yet.

    Examples:
        >>> damage(Logs(Path("a/folder/that/is/not/there/yet")))
    """
    root = logs.root
    # The format of a newer Spark: nothing shows that it is damaged
    with suppress(InvalidInputError):
        # A changed file can make other files look missing, so a wrong checksum comes
        # first.
        error = next(_restart(logs), None)
        if error is not None:
            file = error.file.relative_to(root)
            fix = error.fix
            if not fix:
                every_problem = parts.command("check", root)
                fix = f"{_way_out(logs)}; all that is wrong: {every_problem}"
            return f"checkpoint {root} is damaged: {file} {error.what}; {fix}"
    return None


# Spark's error conditions for a state that it cannot load
_STATE_ERROR = re.compile(r"CANNOT_LOAD_STATE_STORE|CANNOT_READ_STATE")
_IN_PART = (
    "its function of the batch did not read all of it (show, limit, an early return),"
    " and Spark has no state of that batch: let it write, count or collect the whole"
    " batch"
)
# An exception for a file of the checkpoint that Spark cannot read; the path follows the
# name: `ChecksumException: Checksum error: file:/ckpt/state/0/0/2.delta at 0 exp: …`
_FILE_ERROR = r"(Checksum|Corrupt|EOF|FileNotFound|Zip)\w*Exception[^\n]*{}/"


def unreadable(logs: Logs, cause: str) -> str | None:
    """Return in one line that Spark could not read a query's checkpoint, and the way out.

    None if the query failed for another reason.

    Args:
        logs: the logs of the checkpoint.
        cause: the text of Spark's error.

    Examples:
        >>> unreadable(Logs(Path("ckpt")), "division by zero")
    """
    root = logs.root
    error_on_its_file = _FILE_ERROR.format(re.escape(str(root)))
    if READ_IN_PART in cause:
        what = _IN_PART
    elif _STATE_ERROR.search(cause) or re.search(error_on_its_file, cause):
        what = "Spark cannot read it"
    else:
        return None
    return f"checkpoint {root} is damaged: {what}; {_way_out(logs, before=logs.done)}"


def _restart(logs: Logs) -> Iterator[DamagedError]:
    """Yield all damage that would make a restart fail."""
    yield from restart(logs, partial(_whole, logs))
    yield from _lost_state(logs, logs.done + 1)


def _whole(logs: Logs, reader: Callable[[Path], _T], file: Path) -> _T:
    """Return what `Logs.read` does of a file, after comparing the file with its checksum.

    Raises:
        DamagedError, InvalidInputError: as for `Logs.read`; or the file differs from
            its checksum.
    """
    content = logs.read(reader, file)
    if _differs(file):
        fix = f"delete .{file.name}.crc, its checksum, if that was meant"
        raise DamagedError(file, f"was changed after Spark wrote it ({fix})")
    return content


def _differs(file: Path) -> bool:
    """Return whether a file differs from its checksum file `.NAME.crc`; False without one.

    A checksum file holds "crc", a zero byte, the number of bytes that each checksum
    covers, and a CRC-32 for each part of that length. Hadoop ignores a checksum file
    that begins with anything else; so does this function.
    """
    try:
        sums = file.with_name(f".{file.name}.crc").read_bytes()
        data = file.read_bytes()
    except OSError:  # if the file itself cannot be read, its reader reports the error
        return False
    step = int.from_bytes(sums[4:8], "big")
    if sums[:4] != b"crc\0" or not step:
        return False
    checksums = bytearray()
    for start in range(0, len(data), step):
        checksum = zlib.crc32(data[start : start + step])
        checksums += checksum.to_bytes(4, "big")
    return sums[8:] != checksums


def _way_out(logs: Logs, before: int | None = None) -> str:
    """Return how to repair a checkpoint, by a backup or a rewind to a batch before `before`."""
    batch = newest_whole(logs, before)
    if batch is None:
        return "restore it from a backup, or start anew on another checkpoint"
    return (
        f"restore it from a backup, or go back: {parts.command('rewind', logs.root)}"
        f" --to {batch}"
    )


def newest_whole(logs: Logs, before: int | None = None) -> int | None:
    """Return the newest batch that a checkpoint can be rewound to, or None.

    Args:
        logs: the logs of the checkpoint.
        before: consider only batches with a smaller number.
    """
    for batch in reversed(logs.entries("commits")):
        is_allowed = before is None or batch < before
        if is_allowed and obstacle(logs, batch) is None:
            return batch
    return None


def obstacle(logs: Logs, batch: int) -> InvalidInputError | None:
    """Return why Spark could not continue from the end of a batch; None if it can."""
    try:
        _whole(logs, parts.commit, logs.root / "commits" / str(batch))
        _whole_plan(logs, batch)
        # Spark reads the last two plans. Without a next plan these are `batch` and
        # `batch - 1`.
        if batch and following(logs, batch) is None:
            _whole(logs, parts.plan, logs.root / "offsets" / str(batch - 1))
    except InvalidInputError as err:
        return err
    return next(_lost_state(logs, batch + 1), None)


def pending(logs: Logs, batch: int) -> list[InputFile]:
    """Return what `Logs.pending` does; nothing if a file of the logs differs from its checksum."""
    for log in logs.until_planned:
        if any(map(_differs, logs.entries(f"sources/{log}").values())):
            return []
    return logs.pending(batch)


def following(logs: Logs, batch: int) -> BatchPlan | None:
    """Return the plan of the batch after a given batch; None if it is missing or damaged.

    Spark replays a plan that exists and plans anew otherwise.
    """
    with suppress(InvalidInputError):
        return _whole_plan(logs, batch + 1)
    return None


def _whole_plan(logs: Logs, batch: int) -> BatchPlan:
    """Return the plan of a batch, after checking the plan and the file sources' logs that it reads.

    Raises:
        DamagedError: the plan or one of the log files is missing, damaged or differs
            from its checksum.
    """
    plan = _whole(logs, parts.plan, logs.root / "offsets" / str(batch))
    for log, until in logs.read_by(plan).items():
        for file in logs.files(log, until):
            _whole(logs, log_file, file)
    return plan


_SCHEMAS = (
    "*/_metadata/schema",
    "*/*/_metadata/schema",
    "_stateSchema/*/[0-9]*",
    "_metadata/v2/[0-9]*",
)


@dataclass(frozen=True)
class State:
    """One stateful operator of a query, as its checkpoint describes it.

    Attributes:
        folder: the folder of its state, `state/O` in the checkpoint.
        operator: Spark's name for the operator, such as `stateStoreSave`; `unknown` if
            its metadata is lost.
        stores: the names of its state stores.
        provider: the state store provider, `HDFSBacked` or `RocksDB`.
        partitions: the number of state partitions. It is fixed by the first batch,
            whatever `spark.sql.shuffle.partitions` is now.
    """

    folder: Path
    operator: str
    stores: tuple[str, ...]
    provider: str
    partitions: int

    def __str__(self) -> str:
        stores = ""
        if len(self.stores) > 1:
            stores = f"{len(self.stores)} stores, "
        return (
            f"{self.operator}, {stores}{count(self.partitions, 'partition')},"
            f" {self.provider}"
        )


def states(logs: Logs) -> list[State]:
    """Return the stateful operators of a query; one whose metadata is lost is named `unknown`."""
    plan = logs.last_plan
    provider = "unknown"
    if plan is not None:
        # Such as `org.apache.spark.….HDFSBackedStateStoreProvider`
        class_name = plan.conf.get(STATE_STORE, "unknown").rpartition(".")[2]
        provider = class_name.removesuffix("StateStoreProvider")
    folders = logs.entries("state").values()
    return [_state(logs, folder, provider) for folder in folders]


def _state(logs: Logs, folder: Path, provider: str) -> State:
    """Return what is known of one stateful operator, whose state is in a folder."""
    versions = parts.numbered(folder / "_metadata" / "v2")
    file = folder / "_metadata" / "metadata"
    if versions:
        file = versions[max(versions)]
    # Count the partitions that have a folder. The metadata does not tell: Spark writes
    # the value of `spark.sql.shuffle.partitions` for every operator, also for one that
    # has all rows in one partition.
    partitions = max(parts.numbered(folder), default=0) + 1
    try:
        with parts.reading(file):
            described = logs.read(_described, file)
            name = str(described["operatorInfo"]["operatorName"])
            stores = [str(store["storeName"]) for store in described["stateStoreInfo"]]
    except DamagedError:
        # no error: Spark runs without the metadata, so guess from the folders
        name = "unknown"
        folders = {path.name for path in folder.glob("[0-9]*/*") if path.is_dir()}
        stores = sorted(store for store in folders if store[0] not in "_S")
        if not stores:
            stores = ["default"]
    return State(folder, name, tuple(stores), provider, partitions)


def _described(file: Path) -> Any:
    """Return what an operator's metadata says.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`; or the text is not JSON.
    """
    with parts.reading(file):
        return json.loads(parts.versioned(file, "v1", "v2")[1])


def _lost_state(logs: Logs, version: int) -> Iterator[DamagedError]:
    """Yield the files that a version of the state needs and that are missing, empty or cut off.

    Version 0, before the first batch, is empty and needs no file. The contents of the
    files are not checked: Spark compares them with checksums of its own when it loads
    them.
    """
    # By operator, for each partition: the ids in the file names of state format v2.
    ids: dict[str, Any] = {}
    with suppress(DamagedError):
        ids = logs.commit(version - 1).get("stateUniqueIds") or {}
    for state in states(logs):
        of_partition = dict(enumerate(ids.get(state.folder.name, ())))
        for partition, store in product(range(state.partitions), state.stores):
            folder = state.folder / str(partition)
            if store != "default":
                folder = folder / store
            if missing := _missing(folder, version, of_partition.get(partition, ())):
                yield missing
        yield from _cut_off_schemas(state)
    for folder in logs.root.glob("state/*/_metadata/v2"):
        yield from _wrong_metadata(logs, folder)


def _cut_off_schemas(state: State) -> Iterator[DamagedError]:
    """Yield the files with the schema of a state that are empty or cut off.

    Spark's own error does not name such a file.
    """
    for pattern in _SCHEMAS:
        for file in state.folder.glob(pattern):
            data = b"" if file.is_dir() else file.read_bytes()
            # A schema ends with the JSON of a struct.
            is_cut_off = file.name == "schema" and not data.endswith(b"]}")
            if not data or is_cut_off:
                yield DamagedError(file)


def _wrong_metadata(logs: Logs, folder: Path) -> Iterator[DamagedError]:
    """Yield the newest metadata of transformWithState if it is damaged or names a missing file.

    Spark stores the absolute paths of the schema files, which are wrong after a move or
    a plain copy.
    """
    versions = parts.numbered(folder)
    file = versions[max(versions)] if versions else folder / "0"
    try:
        text = json.dumps(logs.read(_described, file), ensure_ascii=False)
    except DamagedError as err:
        yield err
        return
    for path in re.findall(r'"file:(/[^"]*/_stateSchema/[^"]*)"', text):
        if not Path(path).exists():
            copying = f"{parts.command('clone', logs.root)} COPY"
            fix = f"a folder that was moved or copied by hand becomes whole by a copy: {copying}"
            yield DamagedError(file, f"names {path}, which does not exist", fix)
            return


def _missing(folder: Path, version: int, ids: Collection[str]) -> DamagedError | None:
    """Return the missing file of a version of one state store, or None.

    A version consists of its changes and those of the versions before it, back to a
    whole version.

    Args:
        folder: the folder of the store's files.
        version: the version.
        ids: the ids that the file of `version` may have in its name, in state format
            v2; else empty.
    """
    kinds = _kinds_of_files(folder, version, ids)
    for number in range(version, 0, -1):
        if number not in kinds:
            name = f"{number}_*" if ids else str(number)
            return DamagedError(folder / f"{name}.{_usual_kind(kinds)}", "is missing")
        # Such a file holds a whole version, the others hold changes
        if kinds[number] & {"snapshot", "zip"}:
            break
    return None


def _kinds_of_files(
    folder: Path, version: int, ids: Collection[str]
) -> dict[int, set[str]]:
    """Return for each version of one state store what its files are: `delta`, `zip` and so on.

    In format v2 the files of interrupted batches stay beside the right ones. `ids`
    names the right file of the newest version. The right files of earlier versions are
    named only in a compressed line of that file, so any file of an earlier version is
    accepted.

    Args:
        folder: the folder of the store's files.
        version: the newest version.
        ids: as for `_missing`.
    """
    kinds: dict[int, set[str]] = {}
    if not folder.is_dir():
        return kinds
    for path in folder.iterdir():
        match = STATE_FILE.fullmatch(path.name)
        if not match or path.suffix == ".crc":
            continue
        number = int(match[1])
        if number == version and ids and match[2] not in ids:
            continue  # of an interrupted batch
        kinds.setdefault(number, set()).add(match[3])
    return kinds


def _usual_kind(kinds: dict[int, set[str]]) -> str:
    """Return the kind of file that a store has for most versions, for the name of a missing one."""
    used = set().union(*kinds.values())
    for kind in ("delta", "changelog", "zip", "snapshot"):
        if kind in used:
            return kind
    return "delta"
