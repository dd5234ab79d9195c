"""Start and run: the rules of sinks with a ledger, which write each batch exactly once.

Such a sink keeps a ledger beside its rows. For each query the ledger holds the last
batch, by its number and its plan (which input the batch read), and is updated in the
same transaction as the batch's rows, or after them. Each target system has two classes:
a `Ledger`, which reads the ledger and decides whether a batch is written, skipped or
refused, and a `LedgerTarget`, which checks the target and writes. `exactly_once` makes
the sink, and `open_target` opens it.

Why the plan is kept: Spark identifies a batch by its number alone. If the checkpoint
loses the plan of a batch, through a truncated file, a power cut or a restore from a
backup, Spark plans a new batch of the same number from what the sources hold by then. A
sink that compared only numbers would skip this batch as already written, and lose its
rows. So a sink with a ledger keeps each batch's plan as a text (`plan_of`), compares
the plans when a number is replayed (`same`), and `start` puts the plan back into a
checkpoint that has lost it (`put_back`); the replayed batch then has the same rows.

Why there are epochs: each start of a query takes the next epoch in the target, and a
batch is written only while its driver holds the newest epoch. So a driver that was
thought dead and wakes up, on any machine, is refused by the target.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import shlex
import socket
import uuid
import zlib
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from sparkstream_kit._internal.columns import refuse_twice
from sparkstream_kit._internal.spark.batch import checkpoint_of_batch, id_of_batch
from sparkstream_kit._internal.spark.logical_plan import inputs_of
from sparkstream_kit._internal.spark.place import id_in_checkpoint
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import (
    Input,
    Logs,
    at_hand,
    log_text,
    of_batch,
    versioned,
)
from sparkstream_kit.checkpoints.moved import Move, bases, renamed
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Form, Opening, Read, Target

    _Plan = dict[str, Any]


_log = logging.getLogger(__name__)


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
    with of_batch(location, batch) as logs:
        return base64.b64encode(
            zlib.compress(json.dumps(_read(logs, batch, folders)).encode())
        ).decode()


def _read(logs: Logs, batch: int, folders: Mapping[str, str]) -> _Plan:
    plan = logs.plan(batch)
    before = logs.plan(batch - 1) if batch else None
    begins = logs.until(batch - 1)
    former = dict(zip(before.names, before.offsets, strict=True)) if before else {}
    sources = zip(plan.files, plan.names, plan.offsets, strict=True)
    files = {}
    for log, last in logs.read_by(plan).items():
        first = begins.get(log, -1)
        entries = logs.entries(f"sources/{log}")
        files[log] = {
            "folder": folders.get(log),
            "files": logs.inputs(log, after=first, until=last),
            "compact": [
                n for n, each in entries.items() if each.suffix and first < n <= last
            ],
        }
    return {
        "offsets": "\n".join(versioned(logs.root / "offsets" / str(batch), "v1", "v2")),
        "watermark": plan.watermark,
        "others": [
            [former.get(name), end] for files, name, end in sources if files is None
        ],
        "logs": files,
    }


def _unpacked(text: str) -> _Plan:
    """Return a kept plan.

    Raises:
        InvalidInputError: the text is not what `plan_of` has returned.
    """
    try:
        plan: _Plan = json.loads(zlib.decompress(base64.b64decode(text)))
        for log in plan["logs"].values():
            log["files"] = [Input(*each) for each in log["files"]]
    except (ValueError, TypeError, LookupError, AttributeError, zlib.error) as err:
        raise InvalidInputError(
            "the plan that a sink keeps of its last batch is damaged; restore the sink"
            " from a backup, or start anew with another target and another checkpoint"
        ) from err
    return plan


def same(one: str, other: str) -> bool:
    """Return whether two plans read the same input: equal files, offsets and watermark.

    The settings and the wall-clock time that Spark notes with each plan are not
    compared, nor are the numbers of the log entries in which a file source lists its
    files.
    """
    plans = [_unpacked(text) for text in (one, other)]
    relative = all(log["folder"] for plan in plans for log in plan["logs"].values())
    return _reads(plans[0], relative=relative) == _reads(plans[1], relative=relative)


def _reads(plan: _Plan, *, relative: bool) -> list[Any]:
    files = [
        sorted(
            (_name(each, log["folder"] if relative else None), each.time)
            for each in log["files"]
        )
        for log in plan["logs"].values()
    ]
    offsets = [[_parsed(text) for text in ends] for ends in plan["others"]]
    return [plan["watermark"], offsets, files]


def _parsed(offset: str | None) -> Any:
    """Return an offset to compare, JSON parsed, so that key order does not matter."""
    if offset is None or not offset.startswith(("{", "[")):
        return offset
    return json.loads(offset)


def _name(file: Input, above: str | None) -> str:
    """Return a file's path below its source's folder `above`; if None, its whole URI."""
    return (
        file.uri
        if above is None
        else unquote(urlsplit(file.uri).path).removeprefix(above.rstrip("/"))
    )


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
    kept = _unpacked(plan)
    # A drained query continues: the ledger refuses the batch with advice
    if kept["watermark"] == END:
        return
    planned = str(batch) in location.names("offsets")
    if planned and same(plan, plan_of(location, batch, folders) or plan):
        return
    for name, log in kept["logs"].items():
        # It has moved
        if (now := folders.get(name)) and log["folder"] not in (None, now):
            move = Move("", Path(log["folder"]), Path(now))
            log["files"] = [
                each._replace(uri=renamed(each.uri, move)) for each in log["files"]
            ]
    gone = [file for log in kept["logs"].values() for file in log["files"] if file.gone]
    lacks = (
        f"checkpoint {location} has {'another' if planned else 'lost the'} plan of"
        f" batch {batch}, whose "
    )
    lacks += f"rows {where} has"
    if gone:
        raise InvalidInputError(
            f"{lacks}; to put the plan back the files that it reads are needed, and"
            f" {gone[0].path} has gone; restore it first"
        )
    if planned and location.folder is None:
        raise InvalidInputError(
            f"{lacks}; copy the checkpoint to this machine (hdfs dfs -get), run"
            f" sparkstream checkpoint rewind COPY --to {batch - 1} --apply, remove"
            f" COPY/offsets/{batch}, and put the copy back"
        )
    if makes:
        with at_hand(location) as logs:
            if location.folder is not None:
                from sparkstream_kit.checkpoints.operate.rewind import set_aside

                set_aside(logs, batch)
            _note(location, logs, batch, kept)
    _log.warning(
        "%s; it is put back, so that the replayed batch has the same rows", lacks
    )


def _note(there: Place, logs: Logs, batch: int, plan: _Plan) -> None:
    """Write the log entries of file sources, then the plan by which Spark uses them."""
    for name, log in plan["logs"].items():
        for entry in sorted({each.entry for each in log["files"]}):
            new = [each for each in log["files"] if each.entry == entry]
            suffix = ""
            # A compacted entry also lists all earlier files
            if entry in log["compact"]:
                new = [*Logs(logs.root).inputs(name, until=entry - 1), *new]
                suffix = ".compact"
            _replace(there, f"sources/{name}", f"{entry}{suffix}", log_text(new))
    _replace(there, "offsets", str(batch), plan["offsets"])


def _replace(there: Place, log: str, name: str, text: str) -> None:
    # First: Spark accepts a missing checksum, but not a wrong one
    there.remove(f"{log}/.{name}.crc")
    there.write(f"{log}/{name}", text)


@dataclass(frozen=True)
class Batch:
    """One batch of a query, with everything by which a ledger identifies it.

    Attributes:
        query: Spark's id of the query.
        number: Spark's number of the batch, from 0.
        plan: which input the batch reads (see `plan_of`); None if that is not known, in
            which case only the number is compared.
        checkpoint: the path of the query's checkpoint, for messages.
        driver: the start of the query that writes the batch, from `this_driver`.
        before: the batch that the target must have got before this one, -1 for none;
            None for the one with the number before.
        former: the targets to which the query has written so far, if this is none of
            them; else empty.
    """

    query: str
    number: int
    plan: str | None = None
    checkpoint: str = "CHECKPOINT"
    driver: str = ""
    before: int | None = None
    former: tuple[str, ...] = ()


class Epoch(NamedTuple):
    """The newest start of a query, as recorded in the target; only its driver may write.

    Attributes:
        number: 1 for the query's first start, then one more for each later start.
        driver: the process that started the query, from `this_driver`.
    """

    number: int
    driver: str

    def __str__(self) -> str:
        """Return the epoch as a phrase for messages."""
        return f"epoch {self.number}, {self.driver}"


def this_driver() -> str:
    """Return a text that identifies this start: process id, host and current time."""
    since = datetime.now().astimezone().isoformat(" ")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


class Ledger(Protocol):
    """What a target has of each query, and the rules: who may write it, and which batch.

    Each target system has a subclass, which reads its own ledger.

    Attributes:
        where: the target and its database or server, for messages.
        how: how the sink writes a batch: `append`, `upsert` or `replace`.
        take_over: whether to write although another query has written to the target, or
            earlier batches are missing; None for a sink that has no such argument.
        what: the word for a target in its system: table, folder or collection.
        removes: whether the sink itself removes the old rows of a batch that it writes
            again, so that the user does not have to.
    """

    where: str
    how: str
    take_over: bool | None
    what: str = "table"
    removes: bool = False

    def __init__(self, where: object, how: str, take_over: bool | None) -> None:
        self.where = str(where)
        self.how = how
        self.take_over = take_over

    def last_batch(self, query_id: str | None) -> int | None:
        """Return the last batch that a query has written.

        Returns:
            None before the query's first batch; a negative number while its first batch
            is being written.
        """

    def last_plan(self, query_id: str) -> str | None:
        """Return the plan of the query's last batch; None if the plan was not kept."""

    def epoch(self, query_id: str) -> Epoch | None:
        """Return the newest epoch of a query; None before the first.

        The query's first batch takes epoch 1, or an earlier second start does: a first
        start has no query id yet under which it could take one.
        """

    def any_query(self) -> tuple[str, int] | None:
        """Return the id and the last batch of any query that wrote here; else None."""

    def has_rows(self) -> bool:
        """Return whether the target has rows, whoever has written them."""

    def set_back(self, query_id: str, batch_id: int) -> str:
        """Say how the user makes `batch_id` the query's last batch: `run UPDATE …`."""

    def check_owner(self, query_id: str | None) -> None:
        """Refuse a target with rows that this query has not written, unless `take_over` allows it.

        Raises:
            InvalidInputError: another query has written to the target, or another
                program has.
        """
        if self.take_over or self.last_batch(query_id) is not None:
            return
        does = {"upsert": "overwrite and add to", "replace": "replace"}.get(
            self.how, "add to"
        )
        accept = f"use another {self.what}, or "
        accept += (
            "remove this one"
            if self.take_over is None
            else f"give take_over=True to {does} its rows"
        )
        if other := self.any_query():
            raise InvalidInputError(
                f"{self.where} was written by another query ({other[0]}, up to its"
                f" batch {other[1]}); start on that query's checkpoint, {accept}"
            )
        if self.has_rows():
            raise InvalidInputError(
                f"{self.where} has rows that no query of the kit has written; {accept}"
            )

    def check_epoch(self, batch: Batch) -> None:
        """Refuse a batch from a driver that does not hold the newest epoch of its query.

        Raises:
            InvalidInputError: the query has since been started again, by another
                driver.
        """
        epoch = self.epoch(batch.query)
        if epoch is not None and epoch.driver != batch.driver:
            raise InvalidInputError(
                f"another driver has started to write to {self.where} ({epoch}); this"
                " one ends"
            )

    def check_earlier(self, batch: Batch) -> int | None:
        """Refuse a target that lacks batches before this one, unless `take_over` allows it.

        Returns:
            The last batch that was written completely; None if there is none.

        Raises:
            InvalidInputError: the target lacks batches; the message says how to go on.
        """
        last = self.last_batch(batch.query)
        before = batch.number - 1 if batch.before is None else batch.before
        if last is not None and last < 0:  # its first batch is being written
            last = None
        if before <= (-1 if last is None else last) or (
            last is None and self.take_over
        ):
            return last
        has = "none of this query's batches"
        again = (
            "start with a new checkpoint folder (and a new target for each other sink)"
        )
        if last is not None:
            has = f"this query's batches up to {last} only"
            again = (
                f"run sparkstream checkpoint rewind {shlex.quote(batch.checkpoint)}"
                f" --to {last}"
            )
        may_take = last is None and self.take_over is not None
        accept = (
            "give take_over=True"
            if may_take
            else self.set_back(batch.query, batch.number - 1)
        )
        goal = (
            "let the next batch write all rows"
            if self.how == "replace"
            else "go on without their rows"
        )
        cause = (
            f"it was deleted, or put back from an older backup; restore the {self.what}"
        )
        if last is None and batch.former:
            written = " and ".join(batch.former)
            cause = (
                f"the query has written to {written} so far; give it that target again"
            )
        raise InvalidInputError(
            f"batch {batch.number} is next, but {self.where} holds {has}: {cause}; or,"
            f" to write the missing batches again, {again}; or, to {goal}, {accept}"
        )

    def is_written(self, batch: Batch) -> bool:
        """Return whether the target already has a batch, which the sink must then skip.

        A batch that can be neither skipped nor written safely is refused, with a
        message that says how to repair the checkpoint or the target.

        Raises:
            InvalidInputError: another driver has started the query, the checkpoint was
                rewound or restored, the batch has another plan than the one in the
                target, or the target lacks earlier batches.
        """
        self.check_epoch(batch)
        # Each batch is the whole result: gaps and replays do no harm
        if self.how == "replace":
            return False
        last = self.check_earlier(batch)
        if last is None or batch.number > last:
            return False
        has = f"all batches up to {last}: the checkpoint was rewound or restored"
        if batch.number == last:
            kept = self.last_plan(batch.query)
            if not kept or not batch.plan or same(kept, batch.plan):
                return True
            has = (
                f"another one of this number: the plan in {batch.checkpoint} was lost,"
                " which "
            )
            has += "sparkstream_kit.start puts back, or a rewind gave it up"
            if _unpacked(kept)["watermark"] == END:
                has = "the batch that ended the input under this number"
        adds = self.how == "append" and not self.removes
        remove = f"remove them from the {self.what}, then " if adds else ""
        these = (
            f"batches {batch.number} to {last}"
            if last > batch.number
            else f"batch {last}"
        )
        raise InvalidInputError(
            f"batch {batch.number} is replayed, but {self.where} has {has}; to write"
            f" the rows of {these} again,"
            f" {remove}{self.set_back(batch.query, batch.number - 1)}"
        )

    def plan_of(self, coming: Batch | None) -> str | None:
        """Return the kept plan of a query's next batch, if the target has that batch.

        Args:
            coming: the batch; None to look up no plan.

        Returns:
            The plan; None if the target does not have the batch, or if the sink
            replaces the whole result: then a gap would end with the next batch, which
            may never come.

        Raises:
            InvalidInputError: as for `check_earlier`.
        """
        if (
            coming is None
            or self.check_earlier(coming) != coming.number
            or self.how == "replace"
        ):
            return None
        return self.last_plan(coming.query)


class LedgerTarget(Protocol):
    """Where and how a sink with a ledger writes; a class for each target system.

    On Spark Connect it is pickled, and `write` runs in another process.
    """

    @property
    def where(self) -> Target:
        """The target."""

    def prepare(
        self, frame: DataFrame, query: str | None, coming: Batch | None, makes: bool
    ) -> str | None:
        """Check the target when a query starts.

        Args:
            frame: the query's DataFrame.
            query: the query's id; None if it was never started before.
            coming: the query's next batch; None if it was never started before, or
                while it runs.
            makes: create what is missing; if False, as in a dry run, only check.

        Returns:
            The plan of the next batch, if the target already has that batch
            (`Ledger.plan_of`); else None.
        """

    def take(self, query: str, driver: str, frame: DataFrame) -> None:
        """Give a query its next epoch, in one atomic step: no older driver can write from now on.

        It is called after all sinks of the query are open. At the query's first start
        there is no id yet; then its first batch takes the epoch, unless a second start
        does so before it.
        """

    def write(self, batch: Batch, frame: DataFrame) -> None:
        """Write a batch of a query, or skip it if the target already has it."""


def folders_read(frame: DataFrame) -> dict[str, str]:
    """Return the folder that each file source of a query reads, for `plan_of`."""
    return {
        name: str(path)
        for name, path in bases(frame.sparkSession, inputs_of(frame)).items()
    }


def _refuse_twin(where: Target, known_as: str, opening: Opening) -> None:
    """Refuse a target that another sink of the query has by another name.

    Args:
        where: the target, as this sink names it.
        known_as: what the target's own system knows it by.
        opening: the start that all sinks of the query share.

    Raises:
        InvalidInputError: there is such a sink.
    """
    name = str(where)
    other = opening.targets.setdefault((where.kind, f"itself: {known_as}"), name)
    if other != name:
        raise InvalidInputError(
            f"{name} is the same as {other}, to which this query writes, too; union"
            " their rows in the query"
        )


def open_target(
    target: LedgerTarget,
    frame: DataFrame,
    location: Place | None,
    opening: Opening,
    *,
    itself: Callable[[], str] | None = None,
) -> Write:
    """Open a sink with a ledger, as its `Sink.open`.

    If the target has the query's next batch but the checkpoint has lost its plan, the
    plan is put back.

    Args:
        target: the target.
        frame: the query's DataFrame, or its first batch if the query does not use
            `start`.
        location: the query's checkpoint; None without one.
        opening: the start that all sinks of the query share.
        itself: returns what the target's own system knows it by, whatever its address
            and spelling; by default two sinks of one query are told apart by their
            names alone.

    Returns:
        The function that `foreachBatch` calls with each batch's DataFrame and id.

    Raises:
        InvalidInputError: two columns have the same name, only a Spark Connect server
            reaches the checkpoint, another sink of the query has this target by another
            name, `prepare` refuses the query, or a plan cannot be put back.
    """
    driver = this_driver()
    coming = None
    known = None
    folders = opening.folders
    plans = opening.plans
    name = str(target.where)
    former = () if name in opening.former else opening.former
    refuse_twice("column", frame.columns)

    def before(number: int) -> int | None:
        return -1 if opening.begins.get(name) == number else opening.before.get(number)

    # While the query runs, its plan is there, and nothing may change it
    if not frame.isStreaming:
        query: str | None = id_of_batch(frame, location or checkpoint_of_batch(frame))
    elif location is None:
        # Without a checkpoint each start is a new query
        query = known = str(uuid.uuid4())
    else:
        folders |= folders_read(frame)
        if (query := id_in_checkpoint(location)) is not None:
            number = max(location.entries("commits"), default=-1) + 1
            coming = Batch(
                query, number, None, location.text, driver, before(number), former
            )
    plan = target.prepare(frame, query, coming, opening.makes)
    if itself is not None:
        _refuse_twin(target.where, itself(), opening)
    if plan is not None and coming is not None and location is not None:
        put_back(
            location, coming.number, plan, folders, target.where, makes=opening.makes
        )
    if query is not None and known is None:
        opening.left.append(partial(target.take, query, driver, frame))

    def write_batch(rows: DataFrame, number: int) -> None:
        there = location or checkpoint_of_batch(rows)
        checkpoint = Batch.checkpoint if there is None else there.text
        # Without `start` a writer can be started again
        if location is None or number not in plans:
            plans.clear()
            plans[number] = plan_of(there, number, folders)
        query_id = known or id_of_batch(rows, there)
        batch = Batch(
            query_id, number, plans[number], checkpoint, driver, before(number), former
        )
        target.write(batch, rows)

    return write_batch


def exactly_once(
    kind: str,
    where: Target,
    modes: tuple[str, ...],
    open_sink: Callable[[DataFrame, Place | None, Opening], Write],
    advice: str = (
        "use how='append' for append, 'upsert' with keys for update, 'replace' for"
        " complete"
    ),
    *,
    keys: Sequence[str] = (),
    read: Read | None = None,
    form: Form | None = None,
) -> Sink:
    """Return a sink with a ledger, which writes each batch exactly once.

    Args:
        kind: the name of its function.
        where: the target.
        modes: the output modes that it supports.
        open_sink: the `Sink.open`, which calls `open_target`.
        advice: what to do instead in another output mode.
        keys: as in `Sink`.
        read: as in `Sink`.
        form: as in `Sink`.
    """
    return Sink(
        kind=kind,
        modes=modes,
        promise="exactly once",
        after_rewind=(
            "writes a replayed batch with the same rows once; it refuses others, and"
            " says how to set the target back; a target restored from a backup of that"
            " moment goes on exactly once"
        ),
        # A result that is always whole has no row twice
        needs_checkpoint=modes != ("complete",),
        advice=advice,
        writes_to=(where,),
        open=open_sink,
        keys=tuple(keys),
        read=read,
        form=form,
    )


def pass_over(rows: DataFrame, batch: Batch, where: object) -> None:
    """Read and discard a batch that the target has: a stateful query needs it read."""
    _log.info("batch %d is in %s already", batch.number, where)
    rows.write.format("noop").mode("append").save()
