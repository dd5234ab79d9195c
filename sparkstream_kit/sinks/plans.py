"""Start and run: the plan of a batch, which a sink with a ledger keeps beside the rows.

The plan says which input a batch reads. `plan_of` returns it as a text, `is_same_input` compares
two of them, and `put_back` restores one in a checkpoint.

Why it is kept: Spark identifies a batch by its number alone. If the checkpoint loses
the plan of a batch, through a truncated file, a power cut or a restore from a backup,
Spark plans a new batch of the same number from what the sources hold by then. A sink
that compared only numbers would skip this batch as already written, and lose its rows.
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from sparkstream_kit._internal.spark.logical_plan import inputs_of
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import (
    InputFile,
    Logs,
    at_hand,
    log_text,
    of_batch,
    versioned,
)
from sparkstream_kit.checkpoints.moved import Move, bases, renamed
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Target


_log = logging.getLogger(__name__)


@dataclass
class _FilesOfSource:
    """The files that a batch reads from one file source.

    Attributes:
        folder: the folder that the source reads; None if it is not known.
        files: the files, as the source's log lists them.
        compact: the entries of the log that also list all earlier files.
    """

    folder: str | None
    files: list[InputFile]
    compact: list[int]

    def inputs(self, *, relative: bool) -> list[tuple[str, int]]:
        """Return the files by name and modification time, in an order to compare."""
        names = []
        for file in self.files:
            name = file.uri
            if relative and self.folder is not None:
                path = unquote(urlsplit(file.uri).path)
                name = path.removeprefix(self.folder.rstrip("/"))
            names.append((name, file.time))
        return sorted(names)


@dataclass
class _Plan:
    """Which input a batch reads; `packed` writes the fields by these names.

    Attributes:
        offsets: the batch's entry in Spark's offset log.
        watermark: in milliseconds since 1970.
        others: for each source that is no file source, the offsets at which the batch
            begins and ends; None for a source that has given no row yet.
        logs: what the batch reads from each file source, by the name of its log in
            `sources/`.
    """

    offsets: str
    watermark: int
    others: list[list[str | None]]
    logs: dict[str, _FilesOfSource]

    def packed(self) -> str:
        """Return the plan as a text: JSON, compressed and base64-encoded."""
        text = json.dumps(vars(self), default=vars)
        return base64.b64encode(zlib.compress(text.encode())).decode()

    @property
    def has_folders(self) -> bool:
        """Whether the folder of each file source is known."""
        return all(source.folder for source in self.logs.values())

    @property
    def ends_the_input(self) -> bool:
        """Whether this is the batch without rows by which a query was drained."""
        return self.watermark == END

    def reads_the_same(self, other: _Plan) -> bool:
        """Return whether another plan reads the same input, as `is_same_input` says."""
        if self.watermark != other.watermark:
            return False
        if self._other_offsets() != other._other_offsets():
            return False
        relative = self.has_folders and other.has_folders
        return self._inputs(relative=relative) == other._inputs(relative=relative)

    def _other_offsets(self) -> list[list[Any]]:
        return [[_parsed(begin), _parsed(end)] for begin, end in self.others]

    def _inputs(self, *, relative: bool) -> list[list[tuple[str, int]]]:
        return [source.inputs(relative=relative) for source in self.logs.values()]


def _parsed(offset: str | None) -> Any:
    """Return an offset to compare, JSON parsed, so that key order does not matter."""
    if offset is None or not offset.startswith(("{", "[")):
        return offset
    return json.loads(offset)


def plan_of(
    location: Place | None, batch: int, folders: Mapping[str, str]
) -> str | None:
    """Return the plan of a batch as a text: which input the batch reads.

    The plan holds the batch's entry in Spark's offset log, its watermark, the files
    that it reads with their modification times, and the start and end offsets of each
    other source.

    Args:
        location: the query's checkpoint.
        batch: the batch's number.
        folders: the folder that each file source of the query reads, by the source's
            name in `sources/`. A file is identified by its path below its source's
            folder, so that it counts as the same file after the folder was moved.

    Returns:
        The plan, compressed and base64-encoded; None without a checkpoint.

    Raises:
        DamagedError: a log of the checkpoint that the batch needs cannot be read.
    """
    if location is None:
        return None
    return _read_plan(location, batch, folders).packed()


def _read_plan(location: Place, batch: int, folders: Mapping[str, str]) -> _Plan:
    """Read the plan of a batch from its checkpoint, as for `plan_of`."""
    with of_batch(location, batch) as logs:
        spark_plan = logs.plan(batch)
        begin_of: dict[str, str | None] = {}
        if batch:
            before = logs.plan(batch - 1)
            begin_of = dict(zip(before.names, before.offsets, strict=True))
        read_before = logs.until(batch - 1)
        files = {}
        for log, last in logs.read_by(spark_plan).items():
            files[log] = _files_of_source(
                logs, log, folders.get(log), read_before.get(log, -1), last
            )
        offsets = "\n".join(versioned(logs.root / "offsets" / str(batch), "v1", "v2"))
        others: list[list[str | None]] = []
        for last_file_entry, name, end in zip(
            spark_plan.files, spark_plan.names, spark_plan.offsets, strict=True
        ):
            if last_file_entry is None:  # no file source
                others.append([begin_of.get(name), end])
        return _Plan(offsets, spark_plan.watermark, others, files)


def _files_of_source(
    logs: Logs, log: str, folder: str | None, after: int, until: int
) -> _FilesOfSource:
    """Return what a batch reads from a file source: some entries of its log."""
    compact = [
        entry
        for entry, file in logs.entries(f"sources/{log}").items()
        if file.suffix and after < entry <= until
    ]
    return _FilesOfSource(folder, logs.inputs(log, after=after, until=until), compact)


def _unpacked(text: str) -> _Plan:
    """Return a kept plan.

    Raises:
        InvalidInputError: the text is not what `plan_of` has returned.
    """
    try:
        fields = json.loads(zlib.decompress(base64.b64decode(text)))
        logs = {}
        for name, source in fields["logs"].items():
            files = [InputFile(*file) for file in source["files"]]
            logs[name] = _FilesOfSource(source["folder"], files, source["compact"])
        return _Plan(fields["offsets"], fields["watermark"], fields["others"], logs)
    except (ValueError, TypeError, LookupError, AttributeError, zlib.error) as err:
        raise InvalidInputError(
            "the plan that a sink keeps of its last batch is damaged; restore the sink"
            " from a backup, or start anew with another target and another checkpoint"
        ) from err


def is_same_input(one: str, other: str) -> bool:
    """Return whether two plans read the same input: equal files, offsets and watermark.

    The settings and the wall-clock time that Spark notes with each plan are not
    compared, nor are the numbers of the log entries in which a file source lists its
    files.
    """
    return _unpacked(one).reads_the_same(_unpacked(other))


def ends_the_input(plan: str) -> bool:
    """Return whether a plan is that of the batch without rows by which a query was drained."""
    return _unpacked(plan).ends_the_input


def folders_read(frame: DataFrame) -> dict[str, str]:
    """Return the folder that each file source of a query reads, for `plan_of`."""
    folders = bases(frame.sparkSession, inputs_of(frame))
    return {name: str(path) for name, path in folders.items()}


def put_back(
    location: Place,
    batch: int,
    plan: str,
    folders: Mapping[str, str],
    where: Target,
    *,
    makes: bool,
) -> None:
    """Put the plan of the next batch back into a checkpoint that lost or replaced it.

    The sink has the rows of that batch already, and kept its plan. Without the plan
    Spark would read other input under the same number, and the sink would have to
    refuse it.

    Entries that the checkpoint has instead, such as a newer plan and the files that it
    lists, are set aside, as by a rewind. The query finds those files again and reads
    them in the following batch.

    Args:
        location: the checkpoint; no query may run on it.
        batch: the batch after the last committed one.
        plan: the plan that `plan_of` returned when the batch's rows were written.
        folders: as for `plan_of`.
        where: the sink's target, for messages.
        makes: change the checkpoint; if False, only check, and log the same warning.

    Raises:
        InvalidInputError: a file that the batch reads no longer exists, the checkpoint
            has another plan and is not on a local path, or the kept plan is damaged.
    """
    kept_plan = _unpacked(plan)
    # A drained query continues: the ledger refuses the batch with advice
    if kept_plan.ends_the_input:
        return
    is_planned = str(batch) in location.names("offsets")
    if is_planned and kept_plan.reads_the_same(_read_plan(location, batch, folders)):
        return
    _follow_moves(kept_plan, folders)
    loss = "has another" if is_planned else "has lost the"
    finding = (
        f"checkpoint {location} {loss} plan of batch {batch}, whose rows {where} has"
    )
    deleted = _first_deleted(kept_plan)
    if deleted is not None:
        raise InvalidInputError(
            f"{finding}; to put the plan back the files that it reads are needed, and"
            f" {deleted.path} has gone; restore it first"
        )
    if is_planned and location.folder is None:
        raise InvalidInputError(
            f"{finding}; copy the checkpoint to this machine (hdfs dfs -get), run"
            f" sparkstream checkpoint rewind COPY --to {batch - 1} --apply, remove"
            f" COPY/offsets/{batch}, and put the copy back"
        )
    if makes:
        with at_hand(location) as logs:
            if location.folder is not None:
                from sparkstream_kit.checkpoints.operate.rewind import set_aside

                set_aside(logs, batch)
            _write(location, logs, batch, kept_plan)
    _log.warning(
        "%s; it is put back, so that the replayed batch has the same rows", finding
    )


def _follow_moves(plan: _Plan, folders: Mapping[str, str]) -> None:
    """Give the files of a plan the names that they have now, if their folder has moved."""
    for name, source in plan.logs.items():
        now = folders.get(name)
        if now and source.folder is not None and source.folder != now:
            move = Move("", Path(source.folder), Path(now))
            source.files = [
                file._replace(uri=renamed(file.uri, move)) for file in source.files
            ]


def _first_deleted(plan: _Plan) -> InputFile | None:
    """Return the first local file of a plan that no longer exists; None if all exist."""
    for source in plan.logs.values():
        for file in source.files:
            if file.is_gone:
                return file
    return None


def _write(checkpoint: Place, logs: Logs, batch: int, plan: _Plan) -> None:
    """Write the log entries of file sources, then the plan by which Spark uses them."""
    for name, source in plan.logs.items():
        for entry in sorted({file.entry for file in source.files}):
            files = [file for file in source.files if file.entry == entry]
            file_name = str(entry)
            # A compacted entry also lists all earlier files
            if entry in source.compact:
                earlier_files = Logs(logs.root).inputs(name, until=entry - 1)
                files = [*earlier_files, *files]
                file_name += ".compact"
            _replace(checkpoint, f"sources/{name}", file_name, log_text(files))
    _replace(checkpoint, "offsets", str(batch), plan.offsets)


def _replace(checkpoint: Place, log: str, name: str, text: str) -> None:
    # First: Spark accepts a missing checksum, but not a wrong one
    checkpoint.remove(f"{log}/.{name}.crc")
    checkpoint.write(f"{log}/{name}", text)
