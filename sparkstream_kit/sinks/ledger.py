"""The contract of sinks with a ledger: which batch may be written next, free of any system.

A sink that writes exactly once keeps a ledger beside its rows: of each query the last batch, by its number
and by its plan, written in one step with the rows of that batch, or after them. A `Store` reads it in one
system; `Ledger` decides; `open_target` is the way of every such sink from a start to its batches.
"""

from __future__ import annotations

import logging
import shlex
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sparkstream_kit._spark.batch import checkpoint_of_batch, id_in_checkpoint, id_of_batch
from sparkstream_kit.checkpoints import batches
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place

__all__ = ["Batch", "Ledger", "Store", "open_target", "pass_over", "refuse_twice"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """A batch of a query, as a ledger knows it.

    Attributes:
        query: Spark's id of the query.
        number: Spark's number of the batch.
        plan: what the batch reads (see `checkpoints.batches`); None where that cannot be had, and then only
            the number counts.
        checkpoint: the query's checkpoint, for messages.
    """

    query: str
    number: int
    plan: str | None = None
    checkpoint: str = "CHECKPOINT"


class Store(Protocol):
    """A ledger in one system."""

    def last_batch(self, query_id: str | None) -> int | None:
        """Return the last batch that a query has written; None before its first, less than 0 within it."""

    def last_plan(self, query_id: str) -> str | None:
        """Return the plan of that batch; None where it was not kept."""

    def any_query(self) -> tuple[str, int] | None:
        """Return a query that has written to the target, and its last batch."""

    def has_rows(self) -> bool:
        """Say whether the target has rows, whoever has written them."""

    def set_back(self, query_id: str, batch_id: int) -> str:
        """Return what a user does to make this the query's last batch, such as `run UPDATE …`."""


@dataclass(frozen=True)
class Ledger:
    """The rules for one target of a sink.

    Attributes:
        store: the ledger itself.
        name: the target for messages, such as `table totals`.
        where: the same with its database.
        how: `append`, `upsert` or `replace`.
        take_over: write although another query has written there, or earlier batches are missing; None of a
            sink that has no such argument.
        what: what a target is called in its system.
        removes: the sink removes the rows of batches that it writes again by itself.
    """

    store: Store
    name: str
    where: str
    how: str
    take_over: bool | None
    what: str = "table"
    removes: bool = False

    def check_owner(self, query_id: str | None) -> None:
        """Refuse a target with rows that this query has not written.

        Raises:
            InvalidInputError: another query has written to it, or somebody else.
        """
        if self.take_over or self.store.last_batch(query_id) is not None:
            return
        does = {"upsert": "overwrite and add to", "replace": "replace"}.get(self.how, "add to")
        accept = f"use another {self.what}, or "
        accept += "remove this one" if self.take_over is None else f"give take_over=True to {does} its rows"
        if other := self.store.any_query():
            raise InvalidInputError(
                f"{self.where} was written by another query ({other[0]}, up to its batch {other[1]}); start "
                f"on that query's checkpoint, {accept}"
            )
        if self.store.has_rows():
            raise InvalidInputError(f"{self.where} has rows that no query of the kit has written; {accept}")

    def check_lost(self, query_id: str | None) -> None:
        """Refuse to make a target anew that has gone with rows of this query.

        Raises:
            InvalidInputError: the query has written to it, and would not write those rows again.
        """
        last = self._last_whole(query_id)
        if last is not None and self.how != "replace":
            raise InvalidInputError(
                f"{self.where} is gone, but this query has written its batches up to {last} to it; restore "
                f"the {self.what}, or start with another checkpoint folder"
            )

    def is_written(self, batch: Batch) -> bool:
        """Say whether a batch is in the target already; refuse one that may be neither skipped nor written.

        Raises:
            InvalidInputError: the checkpoint was set back, the batch has other rows than it had, or the
                target lacks batches of the query.
        """
        if self.how == "replace":  # each batch is the whole result: nothing is missing, nothing comes twice
            return False
        last = self._last_whole(batch.query)
        if last is None:
            if batch.number > 0 and not self.take_over:
                raise InvalidInputError(
                    f"batch {batch.number} comes, but {self.where} has no batch of this query: it has "
                    f"written them elsewhere, or the {self.what} was put back from an older backup; start "
                    "with a new checkpoint folder to write all rows, or "
                    f"{self._take_over(batch)} to go on without the earlier ones"
                )
            return False
        if batch.number > last + 1:
            raise InvalidInputError(
                f"batch {batch.number} comes, but {self.where} has this query's batches up to {last} only, "
                "as after a restore from an older backup; to write the missing ones, run sparkstream "
                f"checkpoint rewind {shlex.quote(batch.checkpoint)} --to {last}; to go on without their "
                "rows, " + self.store.set_back(batch.query, batch.number - 1)
            )
        if batch.number < last:
            raise self._came_again(batch, last, f"{self.name} has all batches up to {last}")
        if batch.number == last:
            kept = self.store.last_plan(batch.query)
            if kept and batch.plan and not batches.same(kept, batch.plan):
                raise self._other_rows(batch, kept)
        return batch.number == last

    def _take_over(self, batch: Batch) -> str:
        if self.take_over is None:
            return self.store.set_back(batch.query, batch.number - 1)
        return "give take_over=True"

    def _came_again(self, batch: Batch, last: int, but: str) -> InvalidInputError:
        adds = self.how == "append" and not self.removes
        remove = f"remove their rows from the {self.what}, then " if adds else ""
        these = f"batches {batch.number} to {last}" if last > batch.number else f"batch {last}"
        return InvalidInputError(
            f"batch {batch.number} comes again, but {but}: the checkpoint was rewound or restored; to write "
            f"{these} again, {remove}{self.store.set_back(batch.query, batch.number - 1)}"
        )

    def _other_rows(self, batch: Batch, kept: str) -> InvalidInputError:
        """Return the refusal of a batch that was planned anew: to skip it would lose rows."""
        if batches.ends_input(kept):
            but = f"{self.name} has the batch that ended the input under this number"
            return self._came_again(batch, batch.number, but)
        return InvalidInputError(
            f"batch {batch.number} comes with other rows than those that {self.where} has of it: its plan in "
            f"checkpoint {batch.checkpoint} was lost, and Spark made another one; start the query with "
            "sparkstream_kit.start, which puts the plan back that is kept with the rows"
        )

    def plan_of(self, query_id: str | None, batch_id: int | None) -> str | None:
        """Return the plan of a batch, for a checkpoint that may have lost it, if it is the query's last."""
        if query_id is None or batch_id is None or self.how == "replace":
            return None
        return self.store.last_plan(query_id) if self._last_whole(query_id) == batch_id else None

    def _last_whole(self, query_id: str | None) -> int | None:
        """Return the last batch that is there as a whole."""
        last = self.store.last_batch(query_id)
        return None if last is None or last < 0 else last


def open_target(
    prepare: Callable[[DataFrame, str | None, int | None], str | None],
    write: Callable[[Batch, DataFrame], None],
    where: str,
    frame: DataFrame,
    location: Place | None,
) -> Write:
    """Open a sink with a ledger; for `Sink.open`.

    A checkpoint that has lost the plan of its next batch, although the target has the batch, gets it back.

    Args:
        prepare: is called when the query starts, with its rows, its id (None before the first start) and its
            next batch. It checks the target, and returns `Ledger.plan_of` that batch.
        write: is called with each batch and its rows, on Spark Connect in another process.
        where: the target, for messages.
        frame: the query's rows, or its first batch if it was started without `start`.
        location: the query's checkpoint.

    Raises:
        InvalidInputError: two columns of the rows have one name; what `prepare` raises; or a plan that cannot
            be put back.
    """
    known, folders = None, {}
    refuse_twice("column", frame.columns)
    if frame.isStreaming:
        # Without a checkpoint it is a new query at each start.
        known = str(uuid.uuid4()) if location is None else None
        query, following = known, batches.next_batch(location)
        if location is not None:
            query, folders = id_in_checkpoint(location), batches.folders_read(frame)
        plan = prepare(frame, query, following)
        if plan is not None and location is not None and following is not None:
            batches.put_back(frame.sparkSession, location, following, plan, folders, where)
    return partial(_write, write, location, known, folders)


def _write(
    write: Callable[[Batch, DataFrame], None],
    location: Place | None,
    known: str | None,
    folders: Mapping[str, str],
    rows: DataFrame,
    number: int,
) -> None:
    location = location or checkpoint_of_batch(rows)
    plan = batches.plan_of(location, number, folders)
    checkpoint = Batch.checkpoint if location is None else location.text
    write(Batch(known or id_of_batch(rows, location), number, plan, checkpoint), rows)


def pass_over(rows: DataFrame, batch: Batch, where: str) -> None:
    """Read a batch that the target has already: a stateful query fails when its batch is not read."""
    _log.info("batch %d is in %s already", batch.number, where)
    rows.write.format("noop").mode("append").save()


def refuse_twice(what: str, names: list[str]) -> None:
    """Refuse columns or fields of one name, which a join by an expression gives.

    Example:
        >>> refuse_twice("column", ["id", "amount", "id"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: column id comes twice; rename or drop one
    """
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"{what} {name} comes twice; rename or drop one")
