"""The rules of a ledger: which batch a sink may write next, free of any database.

A sink that writes exactly once keeps a ledger beside its rows: the last batch of each query, written in one
transaction with the rows of that batch, or after them. A `Store` reads it in one system; `Ledger` decides.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Protocol

from sparkstream_kit.errors import InvalidInputError

__all__ = ["Ledger", "Store"]


class Store(Protocol):
    """A ledger in one system."""

    def last_batch(self, query_id: str | None) -> int | None:
        """Return the last batch that a query has written; None before its first, less than 0 within it."""

    def any_query(self) -> tuple[str, int] | None:
        """Return a query that has written to the target, and its last batch."""

    def has_rows(self) -> bool:
        """Say whether the target has rows, whoever has written them."""

    def set_back(self, query_id: str, batch_id: int) -> str:
        """Return the command by which a user makes this the query's last batch."""


@dataclass(frozen=True)
class Ledger:
    """The rules for one target of a sink.

    Attributes:
        store: the ledger itself.
        name: the target for messages, such as `table totals`.
        where: the same with its database.
        how: `append`, `upsert` or `replace`.
        take_over: write although another query has written there, or earlier batches are missing.
        what: what a target is called in its system.
        removes: the sink removes the rows of batches that it writes again by itself.
    """

    store: Store
    name: str
    where: str
    how: str
    take_over: bool
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
        accept = f"use another {self.what}, or give take_over=True to {does} its rows"
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

    def is_written(self, query_id: str, batch_id: int, checkpoint: str | None) -> bool:
        """Say whether a batch is in the target already; refuse one that is neither the last nor the next.

        Raises:
            InvalidInputError: the checkpoint was set back, or the target lacks batches of the query.
        """
        last = self._last_whole(query_id)
        if last is not None and batch_id < last:
            adds = self.how == "append" and not self.removes
            remove = f"remove their rows from the {self.what}, then " if adds else ""
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
                f"elsewhere, or the {self.what} was put back from an older backup; start with a new "
                "checkpoint folder to write all rows, or give take_over=True to go on without the "
                "earlier ones"
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

    def _last_whole(self, query_id: str | None) -> int | None:
        """Return the last batch that is there as a whole."""
        last = self.store.last_batch(query_id)
        return None if last is None or last < 0 else last
