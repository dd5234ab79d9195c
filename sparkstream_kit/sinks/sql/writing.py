"""One batch into one table: staged, then merged with its ledger row in one transaction."""

from __future__ import annotations

import logging
import shlex
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sparkstream_kit._spark.batch import query_id as query_of_batch
from sparkstream_kit._spark.batch import query_of
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.sql import columns, ledger, rows
from sparkstream_kit.sinks.sql.databases import connected, shown

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType
    from sqlalchemy.engine import URL, Connection

    from sparkstream_kit._spark.files import Location
    from sparkstream_kit.sinks.base import Write

__all__ = ["Target", "sink"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where the rows go, and how."""

    url: URL = field(repr=False)
    schema: str | None
    name: str
    how: str
    keys: tuple[str, ...]
    take_over: bool

    @property
    def full_name(self) -> str:
        """The table's name with its schema, where that is not the one that the database takes by itself."""
        return self.name if self.schema in (None, "public") else f"{self.schema}.{self.name}"

    def table(self, schema: StructType) -> sa.Table:
        """Return the table as a query with this schema makes it.

        Raises:
            InvalidInputError: a name or a type that the database cannot hold, or a key that is no column.
        """
        if self.url.get_backend_name() == "postgresql":
            columns.check_names([self.schema or "", self.name, *schema.names])
        made = columns.columns(schema, self.keys)
        return sa.Table(self.name, sa.MetaData(), *made, schema=self.schema, quote=True, quote_schema=True)


def sink(target: Target, mode: str) -> Sink:
    """Return the sink of `sinks.sql_table`."""

    def open_table(frame: DataFrame, location: Location | None) -> Write:
        if not frame.isStreaming:  # a query without `start`: its first batch says which query it is
            return partial(_write, target, None, None)
        # Nothing goes on without a checkpoint: any new id will do, and Connect has no other.
        known = str(uuid.uuid4()) if location is None else None
        query_id = known if location is None else query_of(frame.sparkSession, location)
        with connected(target.url) as connection:
            ledger.prepare(connection, target, target.table(frame.schema), query_id)
        return partial(_write, target, location, known)

    return Sink(
        kind="sql_table",
        modes=(mode,),
        promise="exactly once",
        after_rewind="keeps a batch that comes with the same rows once; others it refuses, and says how to "
        "reset its ledger; a database restored from a backup of that moment goes on exactly once",
        needs_checkpoint=target.how != "replace",
        advice="use how='insert' for append, 'upsert' with keys for update, 'replace' for complete",
        writes_to=(f"table {target.full_name} in {shown(target.url)}",),
        open=open_table,
    )


def _write(
    target: Target, location: Location | None, known: str | None, batch: DataFrame, batch_id: int
) -> None:
    query_id = known or query_of_batch(batch, location)
    table = target.table(batch.schema)
    with connected(target.url) as connection:
        last = ledger.last_batch(connection, target, query_id)
        if last is None:
            ledger.prepare(connection, target, table, query_id)
    if last is not None and batch_id < last:
        raise InvalidInputError(_gone_back(target, query_id, batch_id, last))
    accepted = target.how == "replace" or (
        last is None and target.take_over
    )  # by replace, nothing is missing
    if batch_id > (-1 if last is None else last) + 1 and not accepted:
        raise InvalidInputError(_lacking(target, location, query_id, batch_id, last))
    if batch_id == last:
        _log.info("batch %d is in table %s already", batch_id, target.name)
        rows.consume(batch)
        return
    dialect = target.url.get_backend_name()
    with (
        rows.encoded(batch, dialect, f"batch {batch_id} for table {target.name}") as blobs,
        connected(target.url) as connection,
    ):
        stage = _stage(table)
        stage.create(connection)
        rows.load(connection, stage, blobs)
        ledger.advance(connection, target, table, query_id, batch_id)
        _merge(connection, target, table, stage, batch_id)
        connection.commit()


def _gone_back(target: Target, query_id: str, batch_id: int, last: int) -> str:
    remove = "" if target.how != "insert" else "remove their rows from the table, then "
    return (
        f"batch {batch_id} comes again, but table {target.name} has all batches up to {last}: the checkpoint "
        f"was rewound or restored; to write batches {batch_id} to {last} again, {remove}run "
        + ledger.statement_back_to(target, query_id, batch_id - 1)
    )


def _lacking(
    target: Target, location: Location | None, query_id: str, batch_id: int, last: int | None
) -> str:
    """Say that the table lacks batches of the query, and how it gets them, or goes on without them."""
    where = f"table {target.name} in {shown(target.url)}"
    if last is None:
        return (
            f"batch {batch_id} comes, but {where} has no batch of this query: it has written them elsewhere, "
            "or the database was put back from an older backup; start with a new checkpoint folder to write "
            "all rows, or give take_over=True (of a job: --take-over) to go on without the earlier ones"
        )
    folder = shlex.quote(location.text if location else "CHECKPOINT")
    return (
        f"batch {batch_id} comes, but {where} has this query's batches up to {last} only, as after a restore "
        f"from an older backup; to write the missing ones, run sparkstream checkpoint rewind {folder} --to "
        f"{last}; to go on without their rows, run {ledger.statement_back_to(target, query_id, batch_id - 1)}"
    )


def _stage(table: sa.Table) -> sa.Table:
    """Return a temporary table of this connection: the rows come slowly, and shared ones stay free."""
    return sa.Table(
        "sparkstream_stage",
        sa.MetaData(),
        *(sa.Column(column.name, column.type, quote=True) for column in table.columns),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )


def _merge(connection: Connection, target: Target, table: sa.Table, stage: sa.Table, batch_id: int) -> None:
    if target.how == "replace":
        connection.execute(sa.delete(table))
    names = [column.name for column in table.columns]
    # SQLite cannot tell ON CONFLICT from a join's ON without a WHERE.
    every = sa.select(*stage.columns).where(sa.true())
    if target.how != "upsert":
        connection.execute(sa.insert(table).from_select(names, every))
        return
    _check_keys(connection, target, stage, batch_id)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).from_select(names, every)
    values = {name: insert.excluded[name] for name in names if name not in target.keys}
    keys = [table.c[key] for key in target.keys]
    if values:
        merged = insert.on_conflict_do_update(index_elements=keys, set_=values)
    else:
        merged = insert.on_conflict_do_nothing(index_elements=keys)
    connection.execute(merged)


def _check_keys(connection: Connection, target: Target, stage: sa.Table, batch_id: int) -> None:
    """Refuse keys that do not tell rows apart: null equals nothing, and of two rows one would be lost."""
    keys = [stage.c[key] for key in target.keys]
    named = f"batch {batch_id} for table {target.name}: key {', '.join(target.keys)}"
    some = sa.select(sa.literal(1)).select_from(stage).limit(1)
    if connection.execute(some.where(sa.or_(*(key.is_(None) for key in keys)))).first() is not None:
        raise InvalidInputError(f"{named} is null; fill it with F.coalesce, or leave such rows out")
    if connection.execute(some.group_by(*keys).having(sa.func.count() > 1)).first() is not None:
        raise InvalidInputError(f"{named} is the same in two rows; use the columns that the query groups by")
