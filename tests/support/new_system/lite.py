"""A whole system in one module: JSON rows in a SQLite table, by the standard library."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.connectors import System, other_driver
from sparkstream_kit.sinks.base import Sink, Target
from sparkstream_kit.sinks.ledger import (
    Batch,
    Epoch,
    Ledger,
    exactly_once,
    open_target,
    pass_over,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame


SYSTEM = System(sink="exactly once")


def lite(path: str | Path) -> Sink:
    """Append rows to the table `rows` of a database."""
    check(lite, locals())
    file = _File(str(path))
    return exactly_once("lite", file.where, ("append",), partial(open_target, file))


@dataclass(frozen=True)
class _File:
    path: str

    @property
    def where(self) -> Target:
        return Target("table", f"rows in {self.path}", self.path)

    @contextmanager
    def _ledger(self) -> Iterator[_Ledger]:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS rows (row TEXT)")
            database.execute(
                "CREATE TABLE IF NOT EXISTS ledger (query TEXT PRIMARY KEY, batch,"
                " plan, epoch, driver)"
            )
            yield _Ledger(database, self)

    def prepare(
        self, _frame: DataFrame, query: str | None, following: Batch | None, makes: bool
    ) -> str | None:
        if not makes and not Path(self.path).exists():
            return None
        with self._ledger() as ledger:
            ledger.check_owner(query)
            return ledger.plan_of(following)

    def take(self, query: str, driver: str, _frame: DataFrame) -> None:
        with self._ledger() as ledger:
            ledger.database.execute(
                "INSERT INTO ledger (query, epoch, driver) VALUES (?, 1, ?) "
                "ON CONFLICT DO UPDATE SET epoch = epoch + 1, driver = excluded.driver",
                (query, driver),
            )

    def write(self, batch: Batch, frame: DataFrame) -> None:
        with self._ledger() as ledger:
            is_written = ledger.is_written(batch)
        if is_written:
            pass_over(frame, batch, self.where)
            return
        rows = [
            (json.dumps(row.asDict(recursive=True), default=str),)
            for row in frame.collect()
        ]
        with self._ledger() as ledger:
            ledger.database.execute("BEGIN IMMEDIATE")
            ledger.check_epoch(batch)
            ledger.check_owner(batch.query)
            last = ledger.last_batch(batch.query)
            if last is not None and last >= batch.number:
                raise other_driver(batch.number)
            ledger.database.executemany("INSERT INTO rows VALUES (?)", rows)
            ledger.database.execute(
                "INSERT INTO ledger VALUES (?, ?, ?, 1, ?) "
                "ON CONFLICT DO UPDATE SET batch = excluded.batch, plan ="
                " excluded.plan",
                (batch.query, batch.number, batch.plan, batch.driver),
            )


class _Ledger(Ledger):
    def __init__(self, database: sqlite3.Connection, file: _File) -> None:
        super().__init__(file.where, "append", take_over=None)
        self.database = database

    def _of(self, query_id: str | None) -> tuple[int | None, str | None, Epoch | None]:
        select = "SELECT batch, plan, epoch, driver FROM ledger WHERE query = ?"
        found = self.database.execute(select, (query_id,)).fetchone()
        return (
            (None, None, None)
            if found is None
            else (found[0], found[1], Epoch(*found[2:]))
        )

    def last_batch(self, query_id: str | None) -> int | None:
        return self._of(query_id)[0]

    def last_plan(self, query_id: str) -> str | None:
        return self._of(query_id)[1]

    def epoch(self, query_id: str) -> Epoch | None:
        return self._of(query_id)[2]

    def any_query(self) -> tuple[str, int] | None:
        found = self.database.execute(
            "SELECT query, batch FROM ledger WHERE batch IS NOT NULL"
        ).fetchone()
        return None if found is None else (found[0], found[1])

    def has_rows(self) -> bool:
        return self.database.execute("SELECT 1 FROM rows").fetchone() is not None

    def set_back_command(self, query_id: str, batch_id: int) -> str:
        return (
            f"let the table ledger say batch {batch_id}, and no plan, for the query"
            f" {query_id}"
        )
