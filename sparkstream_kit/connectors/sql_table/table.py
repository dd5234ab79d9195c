"""Write a batch to an SQL table: stage its rows, then merge them in a transaction.

The same transaction writes the ledger entry.

`SqlTarget` is where `sql_table` writes, and `_SqlLedger` is its ledger: the table
`sparkstream_ledger` beside the rows.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pyspark.sql.types import StringType, StructType
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from sparkstream_kit._internal.columns import refuse_twice
from sparkstream_kit.connectors import _arrow, check_row_keys, other_driver
from sparkstream_kit.connectors._tables import Entries, gone_error, tried
from sparkstream_kit.connectors.sql_table import database
from sparkstream_kit.connectors.sql_table.columns import (
    COLLATION,
    check_columns,
    columns_of,
    existing_columns,
    other_types,
)
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks import base
from sparkstream_kit.sinks.ledger import pass_over

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from sqlalchemy.engine import URL, Connection

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.ledger import Batch


_LEDGER = "sparkstream_ledger"
# As SQLite takes names
_NAME = sa.String(255).with_variant(sa.String(255, collation="NOCASE"), "sqlite")
_WRITTEN = "written"
_STAGE = "sparkstream_stage"
_LONGEST = 63  # bytes of a name in PostgreSQL, which cuts a longer one without a word
_MARIADB: dict[str, Any] = {
    "mariadb_engine": "InnoDB",
    "mariadb_collate": COLLATION,
}

# Seconds that a first batch waits in MariaDB for another query's; in PostgreSQL, no
# limit
_PATIENCE = 600
_AT_START = 30  # seconds that a start waits for a transaction of another driver
# batch_id in the ledger of a query that has taken an epoch, but has not written a batch
_STARTED = -2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SqlTarget:
    """The table that a query writes to, and how, as the user asked for it in `sql_table`."""

    url: URL = field(repr=False)
    schema: str | None
    name: str
    how: str
    keys: tuple[str, ...]
    take_over: bool

    @classmethod
    def of(
        cls, url: URL, table: str, how: str, keys: tuple[str, ...], *, take_over: bool
    ) -> SqlTarget:
        """Return the target for a table as `table` or `schema.table`.

        SQLite knows no schema but `main`.

        Raises:
            InvalidInputError: the table has no name, or that of the ledger.
        """
        schema, _, name = table.rpartition(".")
        if url.get_backend_name() == "sqlite" and schema.lower() != "main":
            schema = ""
            name = table
        if not name:
            raise InvalidInputError(
                f"sql_table: {table!r} is no name of a table; give 'table' or"
                " 'schema.table'"
            )
        if name.lower() == _LEDGER:
            raise InvalidInputError(
                f"sql_table: the kit keeps its ledger in {_LEDGER}; give another table"
            )
        return cls(url, schema or None, name, how, keys, take_over)

    @property
    def where(self) -> base.Target:
        """The table and its database."""
        name = self.in_its_schema
        within = self.schema or ""
        where = f"{name} in {database.shown(self.url)}"
        if self.url.get_backend_name() == "sqlite":
            path = str(self.url.database)
            return base.Target(
                "table", where, path, f"{_small(name)} in {path}", within
            )
        known_as = f"{name} in {database.shown(database.at_one_address(self.url))}"
        return base.Target("table", where, "", known_as, within)

    @property
    def in_its_schema(self) -> str:
        """The name with its schema, but without the one that the database takes by default."""
        default = {
            "postgresql": "public",
            "sqlite": self.schema,
            "mariadb": self.url.database,
        }
        is_default = self.schema in (None, default[self.url.get_backend_name()])
        return self.name if is_default else f"{self.schema}.{self.name}"

    def identity(self) -> str:
        """Return what identifies the table, whatever its address, user and spelling."""
        if not self.where.path:
            with database.connected(self.url) as connection:
                return database.identity(connection, self.schema, self.name)
        file = Path(self.where.path)
        if not file.exists():
            return self.where.known_as
        status = file.stat()  # the same for two hard links
        return f"{_small(self.name)} in {status.st_dev}:{status.st_ino}"

    def table(self, schema: StructType) -> sa.Table:
        """Return the table as a query with this schema of Spark's would create it.

        Raises:
            InvalidInputError: the database cannot hold a type or a name, or a key is
                not a column.
        """
        if self.url.get_backend_name() == "postgresql":
            _check_lengths([self.schema or "", self.name, *schema.names])
        else:  # PostgreSQL is the only one in which `k` and `K` are two columns
            refuse_twice("sql_table: column", [*map(_small, schema.names)])
        return self.named(*columns_of(schema, self.keys))

    def named(self, *columns: sa.Column[Any]) -> sa.Table:
        """Return the table with these columns; with none, for statements without any."""
        names: dict[str, Any] = {
            "schema": self.schema,
            "quote": True,
            "quote_schema": True,
        }
        return sa.Table(self.name, sa.MetaData(), *columns, **names, **_MARIADB)

    def rows(
        self, spark: SparkSession, schema: StructType, _location: Place
    ) -> DataFrame:
        """Return all rows, each value as a text of JSON, through the driver's memory.

        A number of the database is a number there, and a text of the database a text,
        whatever the query has.

        Raises:
            InvalidInputError: there is no table.
        """
        # SQLite would make it
        if self.where.path and not Path(self.where.path).exists():
            raise gone_error(self.where)
        with database.connected(self.url) as connection:
            if not sa.inspect(connection).has_table(self.name, schema=self.schema):
                raise gone_error(self.where)
            # A table of this query's, so that the database spells its types as those of
            # the other.
            stage = _stage(self.table(schema))
            stage.create(connection)
            others = other_types(connection, self.named(), stage)
            columns = existing_columns(connection, self.name, self.schema)
            names = [str(column["name"]) for column in columns]
            return _as_json(spark, connection, self.named(), names, schema, others)

    def written(self, frame: DataFrame, _folder: str) -> DataFrame:
        """Return rows as `rows` would, by way of a temporary table, for `Form`."""
        url = self.url
        if url.get_backend_name() == "sqlite":
            url = sa.make_url("sqlite://")
        stage = _stage(self.table(frame.schema))
        with _arrow.kept(frame) as parts, database.connected(url) as connection:
            stage.create(connection)
            database.load(connection, stage, iter(parts))
            return _as_json(
                frame.sparkSession, connection, stage, frame.columns, frame.schema, {}
            )

    def prepare(
        self, frame: DataFrame, query: str | None, next_batch: Batch | None, makes: bool
    ) -> str | None:
        """Create missing tables, and check that this query may write to them.

        They are the table and the ledger.

        Raises:
            InvalidInputError: the table has other columns, has rows that this query did
                not write, takes no rows, or was deleted or emptied although the query
                has written to it.
        """
        table = self.table(frame.schema)
        if self.where.path and not makes and not Path(self.where.path).exists():
            with sa.create_engine("sqlite://").connect() as nothing:
                return _SqlLedger(nothing, self).plan_of(next_batch)
        with _connected_to_start(self, query) as connection:
            ledger = _SqlLedger(connection, self)
            ledger.check_itself()
            exists = sa.inspect(connection).has_table(table.name, schema=table.schema)
            if exists:
                check_columns(connection, table, str(self.where))
            has_kept_rows = exists and not ledger.lacks_rows()
            if has_kept_rows:
                ledger.check_owner(query)
            ledger.check_kept(query)
            plan = ledger.plan_of(next_batch)  # refused before a table is made
            if makes:
                _create(connection, ledger.table)
                if not exists:
                    _create(connection, table)
                    ledger.forget()
                elif (
                    not has_kept_rows
                ):  # what other queries have written went with the rows
                    ledger.forget(but=query or "")
                connection.commit()
                self._try_out(table)
        return plan

    def _try_out(self, table: sa.Table) -> None:
        """Write no rows and roll back, so that a view or missing right is refused now.

        Where another process has locked the table, as for a backup, the first batch
        waits for it.
        """
        with suppress(database.LockedError), database.connected(self.url) as connection:
            database.wait_at_most(connection, 1)
            stage = _stage(table)
            stage.create(connection)
            if self.how == "replace":
                connection.execute(sa.delete(table).where(sa.false()))
            _insert(connection, self, table, stage)

    def take(self, query: str, driver: str, _frame: DataFrame) -> None:
        """Give a query its next epoch, so that no older driver can write a batch.

        Raises:
            InvalidInputError: another process has locked the ledger for too long.
        """

        def take() -> None:
            with _connected_to_start(self, query) as connection:
                ledger = _SqlLedger(connection, self)
                ledger.lock(_AT_START)
                ledger.take(query, driver)
                connection.commit()

        tried(take)

    def write(self, batch: Batch, frame: DataFrame) -> None:
        """Write a batch of a query, or skip it if the table already has it.

        Raises:
            InvalidInputError: the ledger's rules refuse the batch; or, for `upsert`, a
                key is null or occurs in two rows of the batch.
            KitError: the database reported an error, or a worker lost rows.
        """
        table = self.table(frame.schema)
        with database.connected(self.url) as connection:
            is_written = _SqlLedger(connection, self).is_written(batch)
        if is_written:
            pass_over(frame, batch, f"table {self.name}")
            return
        # Spark computes the batch before the connection opens, so the database holds no
        # lock for that time.
        with _arrow.kept(frame) as parts:
            # Tried again if the database gave the transaction up for another one, as in
            # a deadlock.
            tried(lambda: self._write(batch, table, parts))

    def _write(self, batch: Batch, table: sa.Table, parts: _arrow.Parts) -> None:
        """Write the rows of a batch and its entry in the ledger, in one transaction."""
        with database.connected(self.url) as connection:
            stage = _stage(table)
            stage.create(connection)
            where = f"batch {batch.number} for {self.where}"
            rows = database.checked(connection, table, where, parts)
            changed = database.load(connection, stage, rows)
            if changed:
                _log.warning(
                    "batch %d for table %s: %d values are changed: %s",
                    batch.number,
                    self.name,
                    changed,
                    database.CHANGED[connection.dialect.name],
                )
            ledger = _SqlLedger(connection, self)
            _advance(ledger, batch)
            # In this transaction: the table may have been emptied just now
            ledger.check_kept(batch.query)
            _merge(connection, self, table, stage, batch.number)
            ledger.count(batch.query, stage)
            connection.commit()


def _check_lengths(names: Sequence[str]) -> None:
    """Refuse names that PostgreSQL would cut, so that the kit would not find them."""
    for name in names:
        length = len(name.encode())
        if length > _LONGEST:
            raise InvalidInputError(
                f"sql_table: a name in PostgreSQL has at most {_LONGEST} bytes, and"
                f" {name} has {length}; rename it"
            )


def _small(name: str) -> str:
    """Return a name as SQLite compares it: `T` is `t`, but `Ä` is not `ä`."""
    return name.encode().lower().decode()


class _SqlLedger(Entries):
    """The ledger: a row for each query and target table, in the target's schema."""

    def __init__(self, connection: Connection, target: SqlTarget) -> None:
        super().__init__(target.where, target.how, target.take_over)
        self._connection = connection
        self._target = target
        self.table = sa.Table(
            _LEDGER,
            sa.MetaData(),
            sa.Column("table_name", _NAME, primary_key=True),
            sa.Column("query_id", sa.String(64), primary_key=True),
            sa.Column("batch_id", sa.BigInteger, nullable=False),
            sa.Column("plan", sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")),
            sa.Column("epoch", sa.BigInteger),
            sa.Column("driver", sa.String(255)),
            # How many rows, of all of the query's batches
            sa.Column("written", sa.BigInteger),
            schema=target.schema,
            **_MARIADB,
        )

    @cached_property
    def _name(self) -> str:
        """The target's name in the ledger, in small letters if MariaDB ignores case."""
        name = self._target.name
        if self._connection.dialect.name == "mariadb":
            setting = sa.text("SELECT @@lower_case_table_names")
            if self._connection.execute(setting).scalar():
                return name.lower()
        return name

    @property
    def _is_of_table(self) -> sa.ColumnElement[bool]:
        return self.table.c.table_name == self._name

    @cached_property
    def _is_made(self) -> bool:
        return sa.inspect(self._connection).has_table(_LEDGER, schema=self.table.schema)

    def check_itself(self) -> None:
        """Refuse a ledger that an earlier version of the kit has made.

        Raises:
            InvalidInputError: it lacks a column; the message has the SQL that adds it.
        """
        if not self._is_made:
            return
        inspector = sa.inspect(self._connection)
        columns = inspector.get_columns(_LEDGER, schema=self.table.schema)
        if _WRITTEN not in [column["name"] for column in columns]:
            preparer = self._connection.dialect.identifier_preparer
            ledger = preparer.format_table(self.table)
            raise InvalidInputError(
                f"the ledger of {self.where} is of an earlier version; run ALTER TABLE"
                f" {ledger} ADD COLUMN {_WRITTEN} BIGINT"
            )

    def check_kept(self, query_id: str | None) -> None:
        """Refuse a table that is gone, or has no rows although this query has written some.

        Raises:
            InvalidInputError: the table was deleted, made again or emptied.
        """
        if not sa.inspect(self._connection).has_table(
            self._target.name, schema=self._target.schema
        ):
            self.check_lost(query_id)
        elif self.of(query_id).get(_WRITTEN) and not self.has_rows():
            self.check_lost(query_id, is_there=True)

    def lacks_rows(self) -> bool:
        """Return whether queries have written rows to the table, and it has none."""
        has_written = any(entry[_WRITTEN] for entry in self.entries().values())
        return has_written and not self.has_rows()

    def count(self, query_id: str, stage: sa.Table) -> None:
        """Add the rows of a batch to those that the query has written."""
        count = sa.select(sa.func.count()).select_from(stage)
        rows = self._connection.execute(count).scalar()
        if rows:
            total = sa.func.coalesce(self.table.c.written, 0) + rows
            update = sa.update(self.table).where(self._is_of_query(query_id))
            self._connection.execute(update.values(written=total))

    def entries(self) -> dict[str, dict[str, Any]]:
        if not self._is_made:
            return {}
        batch = sa.func.nullif(self.table.c.batch_id, _STARTED).label("batch")
        select = sa.select(self.table, batch).where(self._is_of_table)
        rows = self._connection.execute(select).mappings()
        return {row["query_id"]: dict(row) for row in rows}

    def has_rows(self) -> bool:
        any_row = sa.select(sa.literal(1)).select_from(self._target.named()).limit(1)
        return self._connection.execute(any_row).first() is not None

    def take(self, query_id: str, driver: str) -> None:
        """Give a query its next epoch, in a transaction that the caller commits."""
        next_epoch = sa.func.coalesce(self.table.c.epoch, 0) + 1
        update = (
            sa.update(self.table)
            .where(self._is_of_query(query_id))
            .values(epoch=next_epoch, driver=driver)
        )
        if not self._connection.execute(update).rowcount:
            self._enter(query_id, driver, _STARTED)

    def advance(self, batch: Batch) -> bool:
        """Record a batch as the query's last one, if this driver may still write it.

        Returns:
            False, and nothing is recorded, if the query has no batch yet or has since
            been started by another driver; or, except with `replace`, if the ledger has
            this batch or a later one.
        """
        last = self.table.c.batch_id
        is_next = sa.true() if self.how == "replace" else last < batch.number
        return self._move(batch, (last != _STARTED) & is_next)

    def add(self, batch: Batch) -> None:
        """Record the first batch of a query in this table."""
        if not self._move(batch, sa.true()):
            self._enter(batch.query, batch.driver, batch.number, batch.plan)

    def _move(self, batch: Batch, condition: sa.ColumnElement[bool]) -> bool:
        is_same_driver = self.table.c.driver == batch.driver
        update = self._set(batch.query, batch.number, batch.plan).where(
            is_same_driver, condition
        )
        return bool(self._connection.execute(update).rowcount)

    def _enter(
        self, query_id: str, driver: str, batch_id: int, plan: str | None = None
    ) -> None:
        entry = {
            "table_name": self._name,
            "query_id": query_id,
            "epoch": 1,
            "driver": driver,
            "batch_id": batch_id,
            "plan": plan,
        }
        self._connection.execute(sa.insert(self.table).values(entry))

    def forget(self, but: str = "") -> None:
        """Delete this target's ledger entries, except those of the query `but`."""
        others = self._is_of_table & (self.table.c.query_id != but)
        self._connection.execute(sa.delete(self.table).where(others))

    def lock(self, patience: int) -> None:
        """Make first batches of other queries, and starts, wait until this transaction ends.

        Raises:
            LockedError: in MariaDB, another query has held the lock for `patience`
                seconds.
        """
        # SQLite needs no lock: only one of its transactions can be here. In the others
        # a lock of the ledger table would also stop queries that are past their first
        # batch, so a separate lock is used.
        schema = None
        if "." in self._target.in_its_schema:
            schema = self._target.schema
        key = f"{_LEDGER} {schema}.{self._name}"
        if self._connection.dialect.name == "postgresql":
            number = sa.func.hashtextextended(key, 0)
            lock = sa.select(sa.func.pg_advisory_xact_lock(number))
            self._connection.execute(lock)
        if self._connection.dialect.name == "mariadb":  # held until the connection ends
            lock = sa.select(sa.func.get_lock(sa.func.md5(key), patience))
            if self._connection.execute(lock).scalar() != 1:
                raise database.LockedError(
                    f"table {self._target.name} is locked by the first batch of another"
                    f" query for {patience} s; start again when that has ended"
                )

    def set_back_command(self, query_id: str, batch_id: int) -> str:
        values = {"literal_binds": True}
        # What its rows are is then up to the user, who may have removed all of them.
        unknown = self._set(query_id, batch_id, sa.null()).values(written=sa.null())
        statement = unknown.compile(self._connection, compile_kwargs=values)
        return "run " + " ".join(str(statement).split())

    def _set(self, query_id: str, batch_id: int, plan: Any) -> sa.Update:
        return (
            sa.update(self.table)
            .where(self._is_of_query(query_id))
            .values(batch_id=batch_id, plan=plan)
        )

    def _is_of_query(self, query_id: str | None) -> sa.ColumnElement[bool]:
        return self._is_of_table & (self.table.c.query_id == query_id)


@contextmanager
def _connected_to_start(
    target: SqlTarget, query_id: str | None
) -> Iterator[Connection]:
    """Connect for a start; wait at most `_AT_START` seconds for another driver.

    A driver that was suspended in the middle of a transaction would otherwise block the
    start for long.

    Raises:
        TransientError: the other driver still holds its lock; the message names it, if
            it is known.
        InvalidInputError: the database refuses a statement.
    """
    try:
        with database.connected(target.url) as connection:
            database.wait_at_most(connection, _AT_START)
            yield connection
    except database.LockedError:
        epoch = None
        with suppress(KitError), database.connected(target.url) as connection:
            database.wait_at_most(connection, 1)
            epoch = _SqlLedger(connection, target).epoch(str(query_id))
        raise TransientError(
            f"{target.where}: another process has locked the ledger for {_AT_START} s,"
            f" such as the query's last driver ({epoch or 'not known'}); end that"
            " process, and start again"
        ) from None
    except KitError as err:
        if type(err) is not KitError:
            raise
        # What the database refuses now, it will refuse again
        raise InvalidInputError(str(err)) from None


def _as_json(
    spark: SparkSession,
    connection: Connection,
    table: sa.Table,
    names: Sequence[str],
    schema: StructType,
    others: dict[str, dict[str, Any]],
) -> DataFrame:
    """Return the rows of a table of a database, each value as a text of JSON.

    Args:
        spark: the session.
        connection: a connection to the database.
        table: the table.
        names: its columns.
        schema: the columns of the query.
        others: the columns that have another type than the query would give them; see
            `other_types`.
    """
    # Without types, so that the values come as the driver has them: SQLAlchemy would
    # convert some of them.
    columns: list[sa.ColumnClause[Any]]
    columns = [sa.column(sa.quoted_name(name, quote=True)) for name in names]
    kinds = {field.name: field.dataType for field in schema}
    rows = []
    for row in connection.execute(sa.select(*columns).select_from(table)):
        named = zip(names, row, strict=True)
        rows.append([database.as_json(value, kinds.get(name)) for name, value in named])
    texts = StructType()
    for name in names:
        metadata = {}
        if name in others:
            metadata = {base.OTHER_TYPE: others[name]}
        texts.add(name, StringType(), metadata=metadata)
    return spark.createDataFrame(rows, texts)


def _create(connection: Connection, table: sa.Table) -> None:
    """Create a table if it is missing.

    PostgreSQL asks for the right to create even if the table is there.
    """
    if not sa.inspect(connection).has_table(table.name, schema=table.schema):
        connection.execute(CreateTable(table, if_not_exists=True))


def _advance(ledger: _SqlLedger, batch: Batch) -> None:
    """Record a batch in the ledger, in the transaction that also writes its rows.

    This is the transaction's first statement on a shared table. From here on, a second
    driver of the query has to wait until the transaction ends, even with its start. If
    this is the query's first batch, the first batch of another query waits too.

    Raises:
        InvalidInputError: in the meantime another driver of the query has started or
            has written the batch, or another query has begun to write to the table or
            has taken it over.
    """
    if ledger.advance(batch):
        return
    ledger.lock(_PATIENCE)
    ledger.check_epoch(batch)
    if ledger.last_batch(batch.query) is not None:
        raise other_driver(batch.number)
    # Again: another query may have written since the start
    ledger.check_owner(batch.query)
    if ledger.how == "replace":
        # The rows of other queries are deleted, so delete their entries too: otherwise
        # those queries would continue as if their rows were still in the table.
        ledger.forget(but=batch.query)
    ledger.add(batch)


def _stage(table: sa.Table) -> sa.Table:
    """Return a temporary table for the rows, so that a slow load holds no lock on a shared table.

    A temporary table hides another one of the same name, so it has never the name of
    the target.
    """
    name = _STAGE
    if _small(table.name) == _STAGE:  # a quoted_name of SQLAlchemy has no small letters
        name = f"{_STAGE}_of_rows"
    return sa.Table(
        name,
        sa.MetaData(),
        *(sa.Column(column.name, column.type, quote=True) for column in table.columns),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
        **_MARIADB,
    )


def _merge(
    connection: Connection,
    target: SqlTarget,
    table: sa.Table,
    stage: sa.Table,
    batch_id: int,
) -> None:
    """Bring the staged rows of a batch into the table, by `how`."""
    if target.how == "replace":
        connection.execute(sa.delete(table))
    if target.how == "upsert":
        _check_keys(connection, target, stage, batch_id)
    _insert(connection, target, table, stage)


def _insert(
    connection: Connection, target: SqlTarget, table: sa.Table, stage: sa.Table
) -> None:
    """Insert the staged rows, for `upsert` over the rows with the same keys."""
    in_mariadb = connection.dialect.name == "mariadb"
    preparer = connection.dialect.identifier_preparer
    names = [preparer.quote_identifier(column.name) for column in table.columns]
    columns = ", ".join(names)
    into = preparer.format_table(table)
    if not in_mariadb:
        # An alias, for a table named excluded, as SQL calls the new rows
        into += " AS target"
    # The WHERE is for SQLite, whose parser would otherwise take ON CONFLICT for the ON
    # of a join.
    insert = (
        f"INSERT INTO {into} ({columns}) SELECT {columns}"  # noqa: S608 - quoted names
        f" FROM {preparer.format_table(stage)} WHERE true"
    )
    if target.how == "upsert" and in_mariadb:
        values = ", ".join(f"{name} = VALUES({name})" for name in names)
        insert += f" ON DUPLICATE KEY UPDATE {values}"
    elif target.how == "upsert":
        keys = ", ".join(preparer.quote_identifier(key) for key in target.keys)
        values = ", ".join(f"{name} = excluded.{name}" for name in names)
        insert += f" ON CONFLICT ({keys}) DO UPDATE SET {values}"
    connection.exec_driver_sql(insert)


def _check_keys(
    connection: Connection, target: SqlTarget, stage: sa.Table, batch_id: int
) -> None:
    """Refuse a batch with a null key, or with two rows of the same key."""
    keys = [stage.c[key] for key in target.keys]
    is_null = [key.is_(None) for key in keys]
    some = sa.select(sa.literal(1)).select_from(stage).limit(1)
    null = connection.execute(some.where(sa.or_(*is_null))).first()
    twice = connection.execute(some.group_by(*keys).having(sa.func.count() > 1)).first()
    check_row_keys(
        f"table {target.name}",
        target.keys,
        batch_id,
        null=null is not None,
        twice=twice is not None,
    )
