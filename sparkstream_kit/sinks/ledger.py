"""Start and run: the rules of sinks with a ledger, which write each batch exactly once.

Such a sink keeps a ledger beside its rows. For each query the ledger holds the last
batch, by its number and its plan (which input the batch read), and is updated in the
same transaction as the batch's rows, or after them. Each target system has two classes:
a `Ledger`, which reads the ledger and decides whether a batch is written, skipped or
refused, and a `LedgerTarget`, which checks the target and writes. `exactly_once` makes
the sink, and `open_target` opens it.

Why the plan is kept: the number of a batch alone does not say which rows it has (see
`sparkstream_kit.sinks.plans`). So the plans are compared when a number is replayed, and
`start` puts the plan back into a checkpoint that has lost it; the replayed batch then
has the same rows.

Why there are epochs: each start of a query takes the next epoch in the target, and a
batch is written only while its driver holds the newest epoch. So the target refuses a
stalled driver that resumes after its replacement started, on any machine.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sparkstream_kit._internal.columns import refuse_twice
from sparkstream_kit._internal.spark.batch import checkpoint_of_batch, id_of_batch
from sparkstream_kit._internal.spark.place import id_in_checkpoint
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import BatchSink
from sparkstream_kit.sinks.plans import (
    ends_the_input,
    folders_read,
    is_same_input,
    plan_of,
    put_back,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Form, Opening, Read, Target


_log = logging.getLogger(__name__)

# What a sink that takes a target over does to the rows there, by how it writes
_TAKES_OVER = {
    "append": "add to",
    "upsert": "overwrite and add to",
    "replace": "replace",
}


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

    @property
    def previous(self) -> int:
        """The batch that the target must have got before this one; -1 for none."""
        if self.before is None:
            return self.number - 1
        return self.before


class Replay(Enum):
    """How a batch compares with the last one in its target: whether it is a replay of it."""

    NEW = "the target does not have the batch yet"
    SAME = "the target has the batch, with the same plan or one that is not known"
    OTHER_PLAN = "the target has a batch of this number with another plan"
    AFTER_END = "the target has, by this number, the batch that ended the input"
    EARLIER = "the target has later batches"


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

    def set_back_command(self, query_id: str, batch_id: int) -> str:
        """Say how the user makes `batch_id` the query's last batch: `run UPDATE …`."""

    def check_owner(self, query_id: str | None) -> None:
        """Refuse a target with rows that this query has not written, unless `take_over` allows it.

        Raises:
            InvalidInputError: another query has written to the target, or another
                program has.
        """
        if self.take_over or self.last_batch(query_id) is not None:
            return
        other = self.any_query()
        if other is not None:
            other_id, last = other
            raise InvalidInputError(
                f"{self.where} was written by another query ({other_id}, up to its"
                f" batch {last}); start on that query's checkpoint,"
                f" {self._instead_of_taking_over()}"
            )
        if self.has_rows():
            raise InvalidInputError(
                f"{self.where} has rows that no query of the kit has written;"
                f" {self._instead_of_taking_over()}"
            )

    def _instead_of_taking_over(self) -> str:
        """Return the user's ways on where the target has rows of others."""
        if self.take_over is None:
            return f"use another {self.what}, or remove this one"
        verb = _TAKES_OVER.get(self.how, "add to")
        return f"use another {self.what}, or give take_over=True to {verb} its rows"

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
        if last is not None and last < 0:  # its first batch is being written
            last = None
        if self._lacks_earlier(batch, last):
            raise self._gap_error(batch, last)
        return last

    def _lacks_earlier(self, batch: Batch, last: int | None) -> bool:
        """Return whether the target lacks batches before this one; `last` is its last batch."""
        if last is not None:
            return batch.previous > last
        if self.take_over:
            return False
        return batch.previous >= 0

    def _gap_error(self, batch: Batch, last: int | None) -> InvalidInputError:
        """Return the error for a target that lacks batches: what is wrong, and three ways on."""
        held_batches = "none of this query's batches"
        write_again = (
            "start with a new checkpoint folder (and a new target for each other sink)"
        )
        if last is not None:
            held_batches = f"this query's batches up to {last} only"
            write_again = (
                f"run sparkstream checkpoint rewind {shlex.quote(batch.checkpoint)}"
                f" --to {last}"
            )
        goal = "go on without their rows"
        if self.how == "replace":
            goal = "let the next batch write all rows"
        cause = self._cause_of_gap(batch, last)
        accept = self._way_to_accept(batch, last)
        return InvalidInputError(
            f"batch {batch.number} is next, but {self.where} holds {held_batches}: {cause}; or,"
            f" to write the missing batches again, {write_again}; or, to {goal}, {accept}"
        )

    def _cause_of_gap(self, batch: Batch, last: int | None) -> str:
        """Return why the target may lack batches, and how it gets them back."""
        if last is None and batch.former:
            targets = " and ".join(batch.former)
            return (
                f"the query has written to {targets} so far; give it that target again"
            )
        return (
            f"it was deleted, or put back from an older backup; restore the {self.what}"
        )

    def _way_to_accept(self, batch: Batch, last: int | None) -> str:
        """Return how the user lets the query go on without the missing batches."""
        if last is None and self.take_over is not None:
            return "give take_over=True"
        return self.set_back_command(batch.query, batch.number - 1)

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
        if last is None:
            return False
        replay = self._replay(batch, last)
        if replay is Replay.NEW:
            return False
        if replay is Replay.SAME:
            return True
        raise self._replay_error(batch, last, replay)

    def _replay(self, batch: Batch, last: int) -> Replay:
        """Compare a batch with the last one that the target has."""
        if batch.number > last:
            return Replay.NEW
        if batch.number < last:
            return Replay.EARLIER
        kept_plan = self.last_plan(batch.query)
        if not kept_plan or not batch.plan or is_same_input(kept_plan, batch.plan):
            return Replay.SAME
        if ends_the_input(kept_plan):
            return Replay.AFTER_END
        return Replay.OTHER_PLAN

    def _replay_error(
        self, batch: Batch, last: int, replay: Replay
    ) -> InvalidInputError:
        """Return the error for a batch that can be neither skipped nor written safely."""
        findings = {
            Replay.EARLIER: (
                f"all batches up to {last}: the checkpoint was rewound or restored"
            ),
            Replay.OTHER_PLAN: (
                f"another one of this number: the plan in {batch.checkpoint} was lost,"
                " which sparkstream_kit.start puts back, or a rewind gave it up"
            ),
            Replay.AFTER_END: "the batch that ended the input under this number",
        }
        batches = f"batch {last}"
        if last > batch.number:
            batches = f"batches {batch.number} to {last}"
        remove = ""
        if self.how == "append" and not self.removes:
            remove = f"remove them from the {self.what}, then "
        set_back = self.set_back_command(batch.query, batch.number - 1)
        return InvalidInputError(
            f"batch {batch.number} is replayed, but {self.where} has {findings[replay]}; to"
            f" write the rows of {batches} again, {remove}{set_back}"
        )

    def plan_of(self, next_batch: Batch | None) -> str | None:
        """Return the kept plan of a query's next batch, if the target has that batch.

        Args:
            next_batch: the batch; None to look up no plan.

        Returns:
            The plan; None if the target does not have the batch, or if the sink
            replaces the whole result: then a gap would end with the next batch, which
            may never come.

        Raises:
            InvalidInputError: as for `check_earlier`.
        """
        if next_batch is None:
            return None
        last = self.check_earlier(next_batch)
        if last != next_batch.number or self.how == "replace":
            return None
        return self.last_plan(next_batch.query)


class LedgerTarget(Protocol):
    """Where and how a sink with a ledger writes; a class for each target system.

    On Spark Connect it is pickled, and `write` runs in another process.
    """

    @property
    def where(self) -> Target:
        """The target."""

    def prepare(
        self, frame: DataFrame, query: str | None, next_batch: Batch | None, makes: bool
    ) -> str | None:
        """Check the target when a query starts.

        Args:
            frame: the query's DataFrame.
            query: the query's id; None if it was never started before.
            next_batch: the query's next batch; None if it was never started before, or
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
    identity: Callable[[], str] | None = None,
) -> Write:
    """Open a sink with a ledger, as its `BatchSink.open`.

    If the target has the query's next batch but the checkpoint has lost its plan, the
    plan is put back.

    Args:
        target: the target.
        frame: the query's DataFrame, or its first batch if the query does not use
            `start`.
        location: the query's checkpoint; None without one.
        opening: the start that all sinks of the query share.
        identity: returns what the target's own system knows it by, whatever its address
            and spelling; by default two sinks of one query are told apart by their
            names alone.

    Returns:
        The function that `foreachBatch` calls with each batch's DataFrame and id.

    Raises:
        InvalidInputError: two columns have the same name, only a Spark Connect server
            reaches the checkpoint, another sink of the query has this target by another
            name, `prepare` refuses the query, or a plan cannot be put back.
    """
    refuse_twice("column", frame.columns)
    driver = this_driver()
    query, own_id, next_number = _query_identity(frame, location, opening)
    former = _former_targets(target, opening)
    writer = _Writer(target, location, opening, driver, former, own_id)
    next_batch = None
    if query is not None and next_number is not None:
        next_batch = writer.batch(query, next_number, None, location)
    plan = target.prepare(frame, query, next_batch, opening.makes)
    if identity is not None:
        _refuse_twin(target.where, identity(), opening)
    if plan is not None and next_number is not None and location is not None:
        put_back(
            location,
            next_number,
            plan,
            opening.ledgers.folders,
            target.where,
            makes=opening.makes,
        )
    if query is not None and own_id is None:
        opening.at_end.append(partial(target.take, query, driver, frame))
    return writer.write


class _QueryIdentity(NamedTuple):
    """As what a target knows the query of a sink that opens.

    Attributes:
        query: the query's id; None at the first start, when Spark has given none yet.
        own_id: the same id if the sink has made it, as without a checkpoint; else None.
        next_number: the number of the batch after the last committed one, of which the
            checkpoint may have lost the plan; None without a checkpoint, and for a
            batch of a query that runs.
    """

    query: str | None
    own_id: str | None = None
    next_number: int | None = None


def _query_identity(
    frame: DataFrame, location: Place | None, opening: Opening
) -> _QueryIdentity:
    if not frame.isStreaming:
        # A batch of a query that runs: its plan is there, and nothing may change it
        return _QueryIdentity(
            id_of_batch(frame, location or checkpoint_of_batch(frame))
        )
    if location is None:
        # Without a checkpoint each start is a new query
        own_id = str(uuid.uuid4())
        return _QueryIdentity(own_id, own_id)
    opening.ledgers.folders |= folders_read(frame)
    committed = max(location.entries("commits"), default=-1)
    return _QueryIdentity(id_in_checkpoint(location), next_number=committed + 1)


def _former_targets(target: LedgerTarget, opening: Opening) -> tuple[str, ...]:
    """Return the targets to which a query has written so far, if this one is none of them."""
    if str(target.where) in opening.ledgers.former:
        return ()
    return opening.ledgers.former


@dataclass
class _Writer:
    """One start of a query on one target: `write` is what `foreachBatch` calls.

    On Spark Connect it is pickled, and `write` runs in another process.

    Attributes:
        target: the target.
        location: the query's checkpoint; None without one.
        opening: the start that all sinks of the query share.
        driver: this start, from `this_driver`.
        former: as in `Batch`.
        own_id: the query's id if it has no checkpoint; else None, and Spark's id is
            used.
    """

    target: LedgerTarget
    location: Place | None
    opening: Opening
    driver: str
    former: tuple[str, ...]
    own_id: str | None

    def write(self, rows: DataFrame, number: int) -> None:
        """Write a batch, with the plan that all sinks of the query share."""
        checkpoint = self.location or checkpoint_of_batch(rows)
        plans = self.opening.ledgers.plans
        # Without `start` a writer can be started again
        if self.location is None or number not in plans:
            plans.clear()
            plans[number] = plan_of(checkpoint, number, self.opening.ledgers.folders)
        query = self.own_id or id_of_batch(rows, checkpoint)
        self.target.write(self.batch(query, number, plans[number], checkpoint), rows)

    def batch(
        self, query: str, number: int, plan: str | None, checkpoint: Place | None
    ) -> Batch:
        """Return a batch of the query with everything by which a ledger identifies it."""
        before = self.opening.ledgers.before.get(number)
        # A continuation on a new target begins with this batch there
        if self.opening.ledgers.begins.get(str(self.target.where)) == number:
            before = -1
        return Batch(
            query=query,
            number=number,
            plan=plan,
            checkpoint=Batch.checkpoint if checkpoint is None else checkpoint.text,
            driver=self.driver,
            before=before,
            former=self.former,
        )


def exactly_once(
    kind: str,
    where: Target,
    modes: tuple[str, ...],
    opens: Callable[[DataFrame, Place | None, Opening], Write],
    advice: str = (
        "use how='append' for append, 'upsert' with keys for update, 'replace' for"
        " complete"
    ),
    *,
    keys: Sequence[str] = (),
    read: Read | None = None,
    form: Form | None = None,
) -> BatchSink:
    """Return a sink with a ledger, which writes each batch exactly once.

    Args:
        kind: the name of its function.
        where: the target.
        modes: the output modes that it supports.
        opens: the `BatchSink.open`, which calls `open_target`.
        advice: what to do instead in another output mode.
        keys: as in `Sink`.
        read: as in `Sink`.
        form: as in `Sink`.
    """
    return BatchSink(
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
        open=opens,
        keys=tuple(keys),
        read=read,
        form=form,
    )


def pass_over(rows: DataFrame, batch: Batch, where: object) -> None:
    """Read and discard a batch that the target has: a stateful query needs it read."""
    _log.info("batch %d is in %s already", batch.number, where)
    rows.write.format("noop").mode("append").save()
