"""The ledger: the last batch of each query and table, written in one transaction with the batch's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.sql import columns
from sparkstream_kit.sinks.sql.databases import shown

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from sparkstream_kit.sinks.sql.writing import Target

__all__ = ["advance", "last_batch", "prepare", "statement_back_to"]

_NAME = "sparkstream_ledger"


def _ledger(target: Target) -> sa.Table:
    return sa.Table(
        _NAME,
        sa.MetaData(),
        sa.Column("table_name", sa.String(255), primary_key=True),
        sa.Column("query_id", sa.String(64), primary_key=True),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        schema=target.schema,
    )


def last_batch(connection: Connection, target: Target, query_id: str | None) -> int | None:
    """Return the last batch that a query has written to the table; None before its first."""
    ledger = _ledger(target)
    if not sa.inspect(connection).has_table(ledger.name, schema=ledger.schema):
        return None
    own = sa.select(ledger.c.batch_id).where(
        ledger.c.table_name == target.name, ledger.c.query_id == query_id
    )
    return connection.execute(own).scalar()


def prepare(connection: Connection, target: Target, table: sa.Table, query_id: str | None) -> None:
    """Make the table and the ledger where they are missing, and see that this query may write to the table.

    Args:
        connection: to the database; it is committed.
        target: where the rows go.
        table: as this query would make it.
        query_id: the query; None when it has not been started before.

    Raises:
        InvalidInputError: the table has other columns, has rows that this query did not write, or is gone.
    """
    ledger = _ledger(target)
    where = f"{target.name} in {shown(target.url)}"
    connection.execute(CreateTable(ledger, if_not_exists=True))
    last = last_batch(connection, target, query_id)
    if sa.inspect(connection).has_table(table.name, schema=table.schema):
        columns.check(connection, table, where)
        if last is None and not target.take_over:
            _refuse_rows_of_others(connection, target, table, where)
    else:
        if last is not None and target.how != "replace":
            raise InvalidInputError(
                f"table {where} is gone, but this query has written its batches up to {last} to it; restore "
                "the table, or start with another checkpoint folder"
            )
        connection.execute(CreateTable(table, if_not_exists=True))
        connection.execute(sa.delete(ledger).where(ledger.c.table_name == target.name))
    connection.commit()


def _refuse_rows_of_others(connection: Connection, target: Target, table: sa.Table, where: str) -> None:
    ledger = _ledger(target)
    other = connection.execute(
        sa.select(ledger.c.query_id, ledger.c.batch_id).where(ledger.c.table_name == target.name).limit(1)
    ).first()
    does = {"insert": "add to", "upsert": "overwrite and add to", "replace": "replace"}[target.how]
    accept = f"take_over=True to {does} its rows"
    if other is not None:
        raise InvalidInputError(
            f"table {where} was written by another query ({other.query_id}, up to its batch "
            f"{other.batch_id}); start on that query's checkpoint, use another table, or give {accept}"
        )
    if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
        raise InvalidInputError(
            f"table {where} has rows that no query of the kit has written; use another table, or give "
            f"{accept}"
        )


def advance(connection: Connection, target: Target, table: sa.Table, query_id: str, batch_id: int) -> None:
    """Write in the ledger that a batch is in the table; the transaction decides whether both come true.

    It is the first statement on what others share: from here on a second driver of the query waits, and so
    does another query with its first batch.

    Raises:
        InvalidInputError: another driver has written the batch in the meantime, or another query has begun
            to write to the table, or has taken it over.
    """
    ledger = _ledger(target)
    own = (ledger.c.table_name == target.name) & (ledger.c.query_id == query_id)
    moved = sa.update(ledger).where(own, ledger.c.batch_id < batch_id).values(batch_id=batch_id)
    if connection.execute(moved).rowcount:
        return
    if last_batch(connection, target, query_id) is not None:
        raise InvalidInputError(
            f"batch {batch_id} was written by another driver of this query in the meantime; stop one of them"
        )
    if connection.dialect.name == "postgresql":
        # SQLite has let one transaction alone get here. A lock of the ledger would stop those that go on.
        key = sa.func.hashtextextended(f"{_NAME} {target.schema}.{target.name}", 0)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
    if not target.take_over:
        # Asked in `prepare`, too; but while this batch was computed, another query may have come.
        _refuse_rows_of_others(connection, target, table, f"{target.name} in {shown(target.url)}")
    if target.how == "replace":
        # The rows of others go, and so do their claims: they cannot go on as if their rows were there.
        connection.execute(sa.delete(ledger).where(ledger.c.table_name == target.name))
    values = {"table_name": target.name, "query_id": query_id, "batch_id": batch_id}
    connection.execute(sa.insert(ledger).values(values))


def statement_back_to(target: Target, query_id: str, batch_id: int) -> str:
    """Return the statement by which a user makes this batch the last one that the ledger knows."""
    ledger = _ledger(target)
    own = (ledger.c.table_name == target.name) & (ledger.c.query_id == query_id)
    statement = sa.update(ledger).where(own).values(batch_id=batch_id)
    return " ".join(str(statement.compile(compile_kwargs={"literal_binds": True})).split())
