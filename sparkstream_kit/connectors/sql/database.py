"""The database: its URL, its errors in one line without a password, and a table's columns."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pyspark.sql import types as T
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError, hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.types import TypeEngine

__all__ = ["check_columns", "check_names", "columns", "connected", "parse", "shown"]

_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}
_BUSY = 60  # seconds to wait while another process has an SQLite file locked; Python's own 5 are soon over
_LONGEST = 63  # bytes of a name in PostgreSQL

_TYPES: dict[type[T.DataType], TypeEngine[Any]] = {
    T.BinaryType: sa.LargeBinary(),
    T.BooleanType: sa.Boolean(),
    T.ByteType: sa.SmallInteger(),
    T.DateType: sa.Date(),
    T.DoubleType: sa.Double(),
    T.FloatType: sa.REAL(),
    T.IntegerType: sa.Integer(),
    T.LongType: sa.BigInteger(),
    T.ShortType: sa.SmallInteger(),
    T.StringType: sa.Text(),
    T.TimestampNTZType: sa.DateTime(),
    T.TimestampType: sa.DateTime(timezone=True),
}


def parse(text: str) -> URL:
    """Return the URL of a database that the kit can write to; an SQLite file's path is made absolute.

    Raises:
        InvalidInputError: no URL (it is not shown: it may hold a password), or another kind of database.
        MissingExtraError: the database's driver is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise InvalidInputError(
            "the database's URL cannot be read; write sqlite:///totals.db or "
            "postgresql+psycopg://user@host/name, with %40 for an @ in a password"
        ) from None
    backend, _, driver = url.drivername.partition("+")
    if backend not in _DRIVERS:
        near = hint(backend, _DRIVERS) or "; write to others with sinks.foreach_batch"
        raise InvalidInputError(f"sql_table writes to sqlite and postgresql, not {backend}{near}")
    if driver not in ("", _DRIVERS[backend]):
        raise InvalidInputError(f"sql_table does not use {driver}; write {backend}+{_DRIVERS[backend]}://…")
    url = url.set(drivername=f"{backend}+{_DRIVERS[backend]}")
    if backend == "postgresql":
        try:
            import psycopg  # noqa: F401 - asked for here, so that it is missed before a query starts
        except ImportError as err:
            raise MissingExtraError("sinks.sql_table with PostgreSQL", "postgresql") from err
        return url
    if url.database in (None, "", ":memory:"):
        raise InvalidInputError(
            "an SQLite database without a file is lost at once; name one, such as sqlite:///totals.db"
        )
    file = Path(str(url.database)).resolve()  # by one name, whatever links lead to it
    if not file.parent.is_dir():
        raise InvalidInputError(f"database {file}: folder {file.parent} does not exist; create it")
    return url.set(database=str(file))


def shown(url: URL) -> str:
    """Return a URL for messages: without the password and the options, which can hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """Connect, and put what goes wrong in words; what is not committed when it ends has not happened.

    Raises:
        InvalidInputError: the database cannot be reached.
        KitError: it reported an error later.
    """
    options: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite" and "timeout" not in url.query:
        options["timeout"] = _BUSY
    # A connection a batch: one that was kept would be found dead after a restart of the database.
    engine = sa.create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=options)
    errors = (SQLAlchemyError, engine.dialect.loaded_dbapi.Error)
    try:
        connection = engine.connect()
    except errors as err:
        raise InvalidInputError(
            f"database {shown(url)} cannot be reached: {_cause(err, url)}; start it, or correct the URL"
        ) from None
    with connection:
        try:
            yield connection
        except errors as err:
            connection.invalidate()  # it may be dead: to roll back on it would be an error of its own
            raise KitError(f"database {shown(url)}: {_cause(err, url)}") from None


def _cause(error: BaseException, url: URL) -> str:
    """Return the first line of what the database said, without the URL's secrets."""
    lines = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines()]
    text = next((line for line in lines if line), type(error).__name__)
    secrets = [str(url.password or ""), *(str(v) for k, v in url.query.items() if "password" in k)]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def columns(schema: T.StructType, keys: Sequence[str] = ()) -> list[sa.Column[Any]]:
    """Return a table's columns for a schema; the keys are its primary key.

    Raises:
        InvalidInputError: a type that SQL cannot hold, or a key that is not a column.
    """
    for key in keys:
        if key not in schema.names:
            raise InvalidInputError(
                f"sql_table: key {key} is not a column; columns: {', '.join(schema.names)}"
            )
    return [
        # An integer key is the user's own, not one that the database counts. Names have quotes, as SQLAlchemy
        # does not know all words that a database keeps for itself.
        sa.Column(field.name, _type(field), primary_key=field.name in keys, autoincrement=False, quote=True)
        for field in schema
    ]


def check_names(names: Iterable[str]) -> None:
    """Refuse a name that PostgreSQL would cut, so that nothing is found by it again.

    Raises:
        InvalidInputError: a schema's, table's or column's name is too long.
    """
    for name in names:
        if len(name.encode()) > _LONGEST:
            raise InvalidInputError(
                f"sql_table: PostgreSQL cuts names at {_LONGEST} bytes, and {name} has {len(name.encode())}; "
                "rename it"
            )


def _type(field: T.StructField) -> TypeEngine[Any]:
    if isinstance(field.dataType, T.DecimalType):
        # SQLite would make a float of a number.
        exact = sa.Numeric(field.dataType.precision, field.dataType.scale)
        return exact.with_variant(sa.Text(), "sqlite")
    for spark_type, sql_type in _TYPES.items():
        if isinstance(field.dataType, spark_type):
            return sql_type
    raise InvalidInputError(
        f"sql_table: column {field.name} is {field.dataType.simpleString()}, which a column of SQL cannot "
        f"hold; leave it out, cast it, or make it a text: F.to_json('{field.name}')"
    )


def check_columns(connection: Connection, table: sa.Table, where: str) -> None:
    """Refuse a table that exists with other columns, or that is not unique in the keys.

    Args:
        connection: to the database.
        table: as this query would make it.
        where: the table and its database, for messages.

    Raises:
        InvalidInputError: in words, with the fix.
    """
    inspector = sa.inspect(connection)
    found = {str(c["name"]): c["type"] for c in inspector.get_columns(table.name, schema=table.schema)}
    missing = [f"{c.name} {c.type.compile(connection.dialect)}" for c in table.columns if c.name not in found]
    extra = [name for name in found if name not in table.columns]
    other = [
        f"{column.name} is {found[column.name].compile(connection.dialect)} "
        f"and not {column.type.compile(connection.dialect)}"
        for column in table.columns
        if column.name in found and not _holds(connection, found[column.name], column.type)
    ]
    if missing or extra or other:
        said = [f"it lacks {', '.join(missing)}"] if missing else []
        said += [f"it has {', '.join(extra)}, which the query does not"] if extra else []
        raise InvalidInputError(
            f"table {where} has other columns: {'; '.join([*said, *other])}; change the table or the query, "
            "or use another table"
        )
    keys = {column.name for column in table.primary_key}
    if not keys:
        return
    unique: list[Iterable[Any]] = [
        inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"],
        *(c["column_names"] for c in inspector.get_unique_constraints(table.name, schema=table.schema)),
        *(i["column_names"] for i in inspector.get_indexes(table.name, schema=table.schema) if i["unique"]),
    ]
    if keys not in [set(names) for names in unique]:
        raise InvalidInputError(
            f"table {where} is not unique in {', '.join(sorted(keys))}, so that no row can be known by it; "
            "add a primary key or a unique index, or use another table"
        )


def _holds(connection: Connection, theirs: TypeEngine[Any], ours: TypeEngine[Any]) -> bool:
    """Say whether a column keeps every value of ours as it is, or fails: what it rounds is not right."""
    if theirs.compile(connection.dialect) == ours.compile(connection.dialect):
        return True
    here = ours.dialect_impl(connection.dialect)  # a decimal is a text in SQLite
    if isinstance(here, sa.Numeric) and not isinstance(here, sa.Float):
        return (
            isinstance(theirs, sa.Numeric)
            and not isinstance(theirs, sa.Float)
            and (theirs.scale is None or theirs.scale >= (here.scale or 0))
        )
    return any(isinstance(here, kind) and isinstance(theirs, kind) for kind in (sa.Integer, sa.String))
