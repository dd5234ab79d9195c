"""The rules of a ledger: which batch a sink may write next, free of any database.

A sink that writes exactly once keeps a ledger beside its rows: the last batch of each query, written in one
transaction with the rows of that batch. A `Store` reads and writes it in one system; `Ledger` decides.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Protocol

from sparkstream_kit.errors import InvalidInputError

__all__ = ["Ledger", "Store"]


class Store(Protocol):
    """A ledger in one system. What it writes comes true together with the rows, or not at all."""

    def last_batch(self, query_id: str | None) -> int | None:
        """Return the last batch that a query has written; None before its first."""

    def any_query(self) -> tuple[str, int] | None:
        """Return a query that has written to the target, and its last batch."""

    def has_rows(self) -> bool:
        """Say whether the target has rows, whoever has written them."""

    def advance(self, query_id: str, batch_id: int) -> bool:
        """Make this the query's last batch; False if the query has no batch yet, or this one or a later."""

    def add(self, query_id: str, batch_id: int) -> None:
        """Enter a query with its first batch here."""

    def forget(self) -> None:
        """Remove all queries from the ledger of this target."""

    def lock(self) -> None:
        """Let other queries wait with their first batch until the transaction ends."""

    def set_back(self, query_id: str, batch_id: int) -> str:
        """Return the command by which a user makes this the query's last batch."""


@dataclass(frozen=True)
class Ledger:
    """The rules for one target of a sink.

    Attributes:
        store: the ledger itself.
        name: the target for messages, such as `table totals`.
        where: the same with its database.
        how: `insert`, `upsert` or `replace`.
        take_over: write although another query has written there, or earlier batches are missing.
    """

    store: Store
    name: str
    where: str
    how: str
    take_over: bool

    def check_owner(self, query_id: str | None) -> None:
        """Refuse a target with rows that this query has not written.

        Raises:
            InvalidInputError: another query has written to it, or somebody else.
        """
        if self.take_over or self.store.last_batch(query_id) is not None:
            return
        does = {"insert": "add to", "upsert": "overwrite and add to", "replace": "replace"}[self.how]
        accept = f"use another table, or give take_over=True to {does} its rows"
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
        last = self.store.last_batch(query_id)
        if last is not None and self.how != "replace":
            raise InvalidInputError(
                f"{self.where} is gone, but this query has written its batches up to {last} to it; restore "
                "the table, or start with another checkpoint folder"
            )

    def is_written(self, query_id: str, batch_id: int, checkpoint: str | None) -> bool:
        """Say whether a batch is in the target already; refuse one that is neither the last nor the next.

        Raises:
            InvalidInputError: the checkpoint was set back, or the target lacks batches of the query.
        """
        last = self.store.last_batch(query_id)
        if last is not None and batch_id < last:
            remove = "remove their rows from the table, then " if self.how == "insert" else ""
            raise InvalidInputError(
                f"batch {batch_id} comes again, but {self.name} has all batches up to {last}: the checkpoint "
                f"was rewound or restored; to write batches {batch_id} to {last} again, {remove}run "
                + self.store.set_back(query_id, batch_id - 1)
            )
        if self.how == "replace":  # the next batch is the whole result: nothing is missing
            return batch_id == last
        if last is None and batch_id > 0 and not self.take_over:
            raise InvalidInputError(
                f"batch {batch_id} comes, but {self.where} has no batch of this query: it has written them "
                "elsewhere, or the database was put back from an older backup; start with a new checkpoint "
                "folder to write all rows, or give take_over=True to go on without the earlier ones"
            )
        if last is not None and batch_id > last + 1:
            folder = shlex.quote(checkpoint or "CHECKPOINT")
            raise InvalidInputError(
                f"batch {batch_id} comes, but {self.where} has this query's batches up to {last} only, as "
                "after a restore from an older backup; to write the missing ones, run sparkstream checkpoint "
                f"rewind {folder} --to {last}; to go on without their rows, run "
                + self.store.set_back(query_id, batch_id - 1)
            )
        return batch_id == last

    def advance(self, query_id: str, batch_id: int) -> None:
        """Enter a batch; the transaction decides whether the entry and the rows both come true.

        It is the first statement on what others share: from here on a second driver of the query waits, and
        so does another query with its first batch.

        Raises:
            InvalidInputError: another driver has written the batch in the meantime, or another query has
                begun to write to the target, or has taken it over.
        """
        if self.store.advance(query_id, batch_id):
            return
        if self.store.last_batch(query_id) is not None:
            raise InvalidInputError(
                f"batch {batch_id} was written by another driver of this query in the meantime; stop one of "
                "them"
            )
        self.store.lock()
        self.check_owner(query_id)  # asked at the start, too; but another query may have come since
        if self.how == "replace":
            # The rows of others go, and so do their claims: they cannot go on as if their rows were there.
            self.store.forget()
        self.store.add(query_id, batch_id)
