"""Database access for `sql_table`: connections, errors, column types and values.

`parse` checks a URL. `connected` opens a connection and reports errors in one line
without the password. `columns` and `check_columns` map Spark's types to SQL and compare
them with an existing table. `load` inserts rows.
`sparkstream_kit.connectors.sql_table.table` calls them.

Values that a database cannot hold are changed and counted: PostgreSQL accepts no NUL in
a text, MariaDB no infinity, and no database accepts bytes that are not UTF-8. A time
outside of the years 1 to 9999, which each database writes in another way, if at all,
becomes null. The alternatives are worse: to drop the row would lose it, and to fail
would stop the query at that row for good.
"""

from __future__ import annotations

import base64
import decimal
import json
import math
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from pyspark.sql import types as T
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from sparkstream_kit._internal.columns import quoted
from sparkstream_kit.connectors import _arrow, need
from sparkstream_kit.connectors._tables import ConflictError
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    TransientError,
    hint,
    reject_unknown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.types import TypeEngine


CHANGED = {  # the values that `load` changes in each database, and into what
    "mariadb": (
        r"bytes that are not UTF-8 become \xff, infinity and times out of range null"
    ),
    "postgresql": (
        r"bytes that are not UTF-8 become \xff, NUL characters \x00, times out of range"
        r" null"
    ),
    "sqlite": r"bytes that are not UTF-8 become \xff, times out of range null",
}


def load(connection: Connection, stage: Table, parts: Iterator[pa.RecordBatch]) -> int:
    """Insert rows into an empty table: by COPY in PostgreSQL, by `executemany` in the others.

    Args:
        connection: a connection to the database, in a transaction that the caller
            commits.
        stage: the empty table; its columns have the same order as those of the rows.
        parts: the rows.

    Returns:
        The number of values that were changed because the database cannot hold them.

    Raises:
        KitError: MariaDB does not take a row of this size.
    """
    driver: Any = connection.connection.driver_connection
    database = connection.dialect.name
    changed = 0
    if database == "postgresql":
        statement = f"COPY {stage.name} FROM STDIN (ENCODING 'UTF8')"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for part in parts:
                columns, others = _encoded(part, database)
                copy.write(_copy_text(columns))
                changed += others
        return changed
    marks = ", ".join(["%s" if database == "mariadb" else "?"] * len(stage.columns))
    statement = f"INSERT INTO {stage.name} VALUES ({marks})"  # noqa: S608 - a constant
    cursor = driver.cursor()
    most = (
        connection.execute(sa.text(_MOST)).scalar() if database == "mariadb" else None
    )
    for part in parts:
        columns, others = _encoded(part, database)
        rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
        try:
            # SQLAlchemy's own insert() takes three times as long.
            cursor.executemany(statement, rows)
        except connection.dialect.loaded_dbapi.Error:
            if (
                most is not None
                and (largest := _largest(cursor, statement, rows)) >= most
            ):
                # MariaDB has closed it, without a word of the size
                connection.invalidate()
                raise KitError(
                    _TOO_LARGE.format(largest, most, 1 << largest.bit_length())
                ) from None
            raise
        changed += others
    return changed


def checked(
    connection: Connection, table: sa.Table, where: str, parts: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Return rows with a table's columns; refuse values that the table would change.

    The database is asked about its columns now and not with the first row: while
    PostgreSQL copies rows, the connection takes no other statement.

    Raises:
        InvalidInputError: while the rows are read: a text is too long for its column,
            or a column that counts by itself is to be null.
    """
    names = {"schema": table.schema, "name": table.name}
    found = connection.execute(sa.text(_CHANGING[connection.dialect.name]), names)
    rules = {name: (most, counts) for name, most, counts in found}
    return (_part_as_it_is(part, table, where, rules) for part in parts)


def _part_as_it_is(
    part: pa.RecordBatch,
    table: sa.Table,
    where: str,
    rules: Mapping[str, tuple[int | None, bool]],
) -> pa.RecordBatch:
    """Return some rows, and refuse a value that the table would change, as for `checked`.

    Args:
        part: the rows.
        table: the table.
        where: the table, for the message.
        rules: by the name of a column, how many characters it takes (None for any
            number), and whether it counts by itself.
    """
    for column, name in zip(part.columns, table.columns.keys(), strict=True):
        most, counts = rules.get(name, (None, False))
        if counts and column.null_count:
            raise InvalidInputError(
                f"{where}: column {name} is null, in place of which the table would"
                " write a number of its own; fill it with F.coalesce, or leave such"
                " rows out"
            )
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(
            column.type
        )
        longest = (
            pc.max(pc.utf8_length(column)).as_py()
            if most is not None and is_text
            else None
        )
        if longest is not None and most is not None and longest > most:
            raise InvalidInputError(
                f"{where}: a text in column {name} has {longest:,} characters, and the"
                f" table takes {most:,} at most; make the column wider, or leave such"
                " rows out"
            )
    return part


def _largest(cursor: Any, statement: str, rows: list[tuple[Any, ...]]) -> int:
    """Return how many bytes the largest of these rows has as a statement of MariaDB."""
    return max(
        len(cursor.mogrify(statement, row).encode(errors="surrogateescape"))
        for row in rows
    )


def _copy_text(columns: list[pa.Array]) -> bytes:
    r"""Join columns of escaped texts to lines in the text format of PostgreSQL's COPY.

    The CSV format is not safe: before PostgreSQL 18 a line `\.` ends the data there,
    even in a quoted text.
    """
    lines = pc.binary_join_element_wise(
        *columns, "\t", null_handling="replace", null_replacement="\\N"
    )
    whole = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0]
    return bytes(whole.as_buffer()) + b"\n"


def _encoded(part: pa.RecordBatch, database: str) -> tuple[list[pa.Array], int]:
    """Convert the columns of some rows to values that a database can hold.

    Args:
        part: the rows.
        database: PostgreSQL's COPY takes only texts; the other databases take numbers,
            booleans and bytes as they are.

    Returns:
        The columns, and how many values were changed, without NaN.
    """
    columns = []
    changed = 0
    copy = database == "postgresql"
    for column in part.columns:
        kind = column.type
        others = 0
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            ready, others = _strings(column.cast(pa.string()), copy=copy)
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            ready, others = _times(column, copy=copy)
        elif pa.types.is_decimal(kind):
            ready = _decimals(column)
        elif pa.types.is_floating(kind) and database == "mariadb":
            ready = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
            others = _count(pc.is_inf(column))
        elif not copy:
            ready = column
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            texts = [
                None if raw is None else f"\\\\x{raw.hex()}"
                for raw in column.to_pylist()
            ]
            ready = pa.array(texts, pa.string())
        else:
            ready = column.cast(pa.string())
        columns.append(ready)
        changed += others
    return columns, changed


def _strings(column: pa.Array, *, copy: bool) -> tuple[pa.Array, int]:
    r"""Make valid UTF-8 of texts: a byte such as 0xFF becomes `\xff`.

    For COPY, a NUL becomes `\x00`; backslashes, line ends and tabs are then escaped.

    Returns:
        The texts, and how many were changed, escapes not counted.
    """
    texts = _arrow.valid_utf8(column)
    if copy and pc.any(pc.match_substring(texts, "\0")).as_py():
        texts = pc.replace_substring(texts, "\0", "\\x00")
    changed = 0
    if texts is not column:
        changed = pc.sum(
            pc.not_equal(texts.cast(pa.binary()), column.cast(pa.binary()))
        ).as_py()
    if copy and pc.any(pc.match_substring_regex(texts, r"[\\\n\r\t]")).as_py():
        for raw, escaped in (
            ("\\", "\\\\"),
            ("\n", "\\n"),
            ("\r", "\\r"),
            ("\t", "\\t"),
        ):
            texts = pc.replace_substring(texts, raw, escaped)
    return texts, changed


def _decimals(column: pa.Array) -> pa.Array:
    """Convert decimals to texts with all their digits, never in the form `1E-18`."""
    texts = column.cast(pa.string())
    if pc.any(pc.match_substring(texts, "E")).as_py():
        plain = [
            None if text is None else f"{decimal.Decimal(text):f}"
            for text in texts.to_pylist()
        ]
        texts = pa.array(plain, pa.string())
    return texts


def _times(column: pa.Array, *, copy: bool) -> tuple[pa.Array, int]:
    """Convert dates and timestamps to texts; timestamps with a time zone are in UTC.

    Returns:
        The texts, and how many times outside of the years 1 to 9999 are null among
        them.
    """
    a_day = 1
    units = pa.int32()
    if pa.types.is_timestamp(column.type):
        a_day = 86_400_000_000
        units = pa.int64()
        column = column.cast(
            pa.timestamp("us", "UTC" if copy and column.type.tz else None)
        )
    since = column.cast(units).cast(pa.int64())  # 1970
    kept = pc.and_(
        pc.greater_equal(since, -719_162 * a_day), pc.less(since, 2_932_897 * a_day)
    )
    return pc.if_else(
        kept, column.cast(pa.string()), pa.scalar(None, pa.string())
    ), _count(pc.invert(kept))


def _count(are: pa.Array) -> int:
    """Return how many values of an array of booleans are true."""
    return pc.sum(pc.cast(are, pa.int64())).as_py() or 0


# Otherwise MariaDB cuts a text that is too long and only warns, and writes another
# number for a 0 into a column that counts by itself.
_MODES = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO"
_MOST = "SELECT @@max_allowed_packet"
_TOO_LARGE = (
    "a row has {:,} bytes as a statement, and this MariaDB takes fewer than {:,}"
    " (max_allowed_packet); run SET GLOBAL max_allowed_packet = {}, and write it into"
    " the server's configuration"
)
_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mariadb": "pymysql"}
_SAID = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}
# Seconds to wait while another process has locked an SQLite file; Python's default of 5
# is short
_BUSY = 60
# Statements that limit the wait for another process's lock, until the transaction or
# the connection ends.
_WAIT = {
    "mariadb": "SET SESSION innodb_lock_wait_timeout = {0}, lock_wait_timeout = {0}",
    "postgresql": "SET LOCAL lock_timeout = '{0}s'",
    "sqlite": "PRAGMA busy_timeout = {0}000",
}
# The databases' error codes when that wait is over
_LOCKED = (1205, "55P03", "SQLITE_BUSY")
# Their codes of a deadlock, and of a row that another transaction has changed
# meanwhile.
_CONFLICTS = (1020, 1213, "40001", "40P01", "SQLITE_BUSY_SNAPSHOT")
# What a server says in English that answers, and will refuse the next start, too.
_REFUSES = re.compile(
    "FATAL: (?!.*(start|shut|recover|too many))|no password supplied|unable to"
    " open|invalid (connection|port)"
)
# MariaDB has numbers for it: those of the server, but when it has too many connections,
# or is shut down.
_OF_SERVER = range(1000, 2000)
_FOR_NOW = (1040, 1053, 1129, 1203)
_NO_LOG_IN = re.compile(
    "password|authentication|Access denied|role .* does not exist", re.IGNORECASE
)

# The MariaDB collation under which "a", "A" and "a " differ, as they do in Spark.
COLLATION = "utf8mb4_nopad_bin"
# A collation in each database that compares texts exactly.
_EXACT = {
    "mariadb": f"{COLLATION} and an index on all of it",
    "postgresql": '"C" and the type TEXT',
    "sqlite": "BINARY",
}
# The columns of unique indexes that do not compare texts exactly, each with its
# collation or type.
_INEXACT = {
    "mariadb": (
        "SELECT column_name, collation_name FROM information_schema.columns WHERE"
        " table_name = :name AND table_schema = coalesce(:schema, database()) AND"
        " collation_name <> 'utf8mb4_nopad_bin' UNION SELECT column_name,"
        " concat('indexed by ', sub_part, ' characters') FROM"
        " information_schema.statistics WHERE table_name = :name AND table_schema ="
        " coalesce(:schema, database()) AND sub_part > 0 AND non_unique = 0"
    ),
    "postgresql": (
        "SELECT a.attname, coalesce(c.collname, format_type(a.atttypid, NULL)) FROM"
        " pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[],"
        " i.indclass::oid[]) k(col, coll, ops) JOIN pg_attribute a ON a.attrelid ="
        " i.indrelid AND a.attnum = k.col JOIN pg_opclass o ON o.oid = k.ops LEFT JOIN"
        " pg_collation c ON c.oid = k.coll AND NOT c.collisdeterministic WHERE"
        " i.indrelid = to_regclass(concat_ws('.', quote_ident(:schema),"
        " quote_ident(:name))) AND i.indisunique AND (c.oid IS NOT NULL OR o.opcname"
        " LIKE 'citext%')"
    ),
    "sqlite": (
        "SELECT x.name, x.coll FROM pragma_index_list(:name, coalesce(:schema, 'main'))"
        " l JOIN pragma_index_xinfo(l.name, coalesce(:schema, 'main')) x WHERE"
        " l.\"unique\" AND x.key AND x.coll <> 'BINARY'"
    ),
}
# The columns that may change a value without an error, each with its length and whether
# it counts by itself: blanks beyond the length of a column are cut off, and one that
# counts has a number in place of NULL.
_CHANGING = {
    "mariadb": (
        "SELECT column_name, if(data_type REGEXP 'char|text', character_maximum_length,"
        " NULL), extra LIKE '%auto_increment%' FROM information_schema.columns WHERE"
        " table_name = :name AND table_schema = coalesce(:schema, database())"
    ),
    "postgresql": (
        "SELECT attname, atttypmod - 4, false FROM pg_attribute WHERE attrelid ="
        " to_regclass(concat_ws('.', quote_ident(:schema), quote_ident(:name))) AND"
        " atttypid = 'varchar'::regtype AND atttypmod > 4"
    ),
    "sqlite": (
        "SELECT name, NULL, sum(1) OVER () = 1 AND upper(type) = 'INTEGER' "
        "FROM pragma_table_info(:name, coalesce(:schema, 'main')) WHERE pk"
    ),
}
# As `load` writes times
_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{6})(Z?)")
_DECIMALS = (sa.NUMERIC, sa.DECIMAL)
# Types of columns that hold all values of a type; those of times and decimals depend on
# more than the type. MariaDB stores a BOOLEAN as TINYINT.
_WIDER: dict[Any, Any] = {kind: kind for kind in (sa.String, sa.VARBINARY)}
_WIDER |= {
    sa.Boolean: mysql.TINYINT,
    sa.Float: sa.Double,
    sa.Integer: (sa.Integer, *_DECIMALS),
}
_DIGITS = 15  # the most digits of a decimal that SQLite keeps in a column of numbers
_INDEX = 3072  # the most bytes of a MariaDB index; a character has up to four

# MariaDB's defaults would lose data: it shows only six digits of a FLOAT, and cuts a
# TEXT at 64 KiB and a time to whole seconds.
_MICROSECONDS = mysql.DATETIME(fsp=6)
_OF_JSON = (T.ArrayType, T.MapType, T.StructType, T.VariantType)
_TYPES: dict[type[T.DataType], TypeEngine[Any]] = {
    T.BinaryType: sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mariadb"),
    T.BooleanType: sa.Boolean(),
    T.ByteType: sa.SmallInteger(),
    T.DateType: sa.Date(),
    T.DoubleType: sa.Double(),
    T.FloatType: sa.REAL().with_variant(mysql.DOUBLE(), "mariadb"),
    T.IntegerType: sa.Integer(),
    T.LongType: sa.BigInteger(),
    T.ShortType: sa.SmallInteger(),
    T.StringType: (
        sa.Text().with_variant(mysql.LONGTEXT(collation=COLLATION), "mariadb")
    ),
    T.TimestampNTZType: sa.DateTime().with_variant(_MICROSECONDS, "mariadb"),
    T.TimestampType: sa.DateTime(timezone=True).with_variant(_MICROSECONDS, "mariadb"),
}


class LockedError(TransientError):
    """Another process holds a lock that the kit needs, and has not released it in time."""


def parse(text: str) -> URL:
    """Parse the URL of a database that the kit can write to.

    Returns:
        The URL with the driver that the kit uses, which for SQLite is SQLAlchemy's own
        default; the path of an SQLite file is absolute, without links.

    Raises:
        InvalidInputError: the text is not a URL (the message does not show it, because
            it may hold a password), names another kind of database or another driver,
            an SQLite database without a file or in a missing folder, or a MariaDB
            server without a database.
        MissingExtraError: the database's driver is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise InvalidInputError(
            "the database's URL cannot be read; write sqlite:///totals.db,"
            " postgresql+psycopg://user@host/name or mariadb+pymysql://user@host/name,"
            " with %40 for an @ in a password"
        ) from None
    backend, _, driver = url.drivername.partition("+")
    if backend not in _DRIVERS:
        near = hint(backend, _DRIVERS) or "; write to others with sinks.foreach_batch"
        raise InvalidInputError(
            f"sql_table writes to sqlite, postgresql and mariadb, not {backend}{near}"
        )
    if driver not in ("", _DRIVERS[backend]):
        raise InvalidInputError(
            f"sql_table does not use {driver}; write {backend}+{_DRIVERS[backend]}://…"
        )
    if backend != "sqlite":
        url = url.set(drivername=f"{backend}+{_DRIVERS[backend]}")
        # Not in the first batch
        need(f"sinks.sql_table with {_SAID[backend]}", backend, _DRIVERS[backend])
        # PostgreSQL takes PGDATABASE or the user's name
        if backend == "mariadb" and not url.database:
            raise InvalidInputError(
                f"the URL names no database; write {url.drivername}://user@host/name"
            )
        return url
    if url.database in (None, "", ":memory:"):
        raise InvalidInputError(
            "an SQLite database without a file is lost at once; name one, such as"
            " sqlite:///totals.db"
        )
    # Two links to one file must give the same URL
    file = Path(str(url.database)).resolve()
    if not file.parent.is_dir():
        raise InvalidInputError(
            f"database {file}: folder {file.parent} does not exist; create it"
        )
    return url.set(drivername=backend, database=str(file))  # as a user writes it


def shown(url: URL) -> str:
    """Return a URL for messages, without the password and the options.

    An option may hold a password, too.
    """
    return url.set(query={}).render_as_string(hide_password=True)


def at_one_address(url: URL) -> URL:
    """Return a URL with one spelling of this machine's own address, and with its port."""
    ports = {"postgresql": 5432, "mariadb": 3306}
    host = "localhost" if url.host in ("127.0.0.1", "::1") else url.host
    return url.set(host=host, port=url.port or ports[url.get_backend_name()])


# A server is known by its start or its data; a table by its number, or by its schema if
# it is not there.
_IDENTITY = {
    "postgresql": (
        "SELECT concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()),"
        " current_database(), coalesce(to_regclass(concat_ws('.', quote_ident(:schema),"
        " quote_ident(:name)))::oid::text, concat_ws('.',"
        " coalesce(quote_ident(:schema), current_schema()), quote_ident(:name))))"
    ),
    "mariadb": (
        "SELECT concat_ws(' ', @@hostname, @@port, @@datadir, coalesce(:schema,"
        " database()), if(@@lower_case_table_names, lower(:name), :name))"
    ),
}


def identity(connection: Connection, schema: str | None, name: str) -> str:
    """Return what the server knows a table by, whatever address and spelling it was given."""
    statement = sa.text(_IDENTITY[connection.dialect.name])
    return str(connection.execute(statement, {"schema": schema, "name": name}).scalar())


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """Connect to a database for a `with` block, and report its errors in one line.

    The password is left out of the line.

    Changes that are not committed when the block ends are rolled back.

    Raises:
        TransientError: the database cannot be reached; an InvalidInputError if it
            refuses the log-in.
        KitError: the database reported an error later; a TransientError if it is away,
            a LockedError if another process holds a lock, and a ConflictError if the
            transaction was given up for that of another, so that it can be tried again.
    """
    options: dict[str, Any] = {}
    more: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        if "timeout" not in url.query:
            options["timeout"] = _BUSY
    else:
        # Whatever the server's default is: a transaction sees ledger entries that other
        # queries commit while it runs.
        more["isolation_level"] = "READ COMMITTED"
    if url.get_backend_name() == "mariadb":
        options = {
            "charset": "utf8mb4",
            "init_command": f"SET SESSION sql_mode = '{_MODES}'",
        }
        if url.password:
            # PyMySQL would take a text as Latin-1
            options["password"] = str(url.password).encode()
    # A new connection for each batch: a pooled one would be dead after a restart of the
    # database.
    engine = sa.create_engine(
        url, poolclass=NullPool, hide_parameters=True, connect_args=options, **more
    )
    errors = (SQLAlchemyError, engine.dialect.loaded_dbapi.Error)
    try:
        connection = engine.connect()
    except Exception as err:  # noqa: BLE001 - a driver raises anything for an option that it does not know
        raise _unconnected(err, url, is_of_database=isinstance(err, errors)) from None
    with connection:
        try:
            yield connection
        except errors as err:
            # A rollback on a dead connection would raise another error
            connection.invalidate()
            kind = (
                TransientError
                if getattr(err, "connection_invalidated", False)
                else _kind_of(err)
            )
            raise kind(f"database {shown(url)}: {_cause(err, url)}") from None


def _unconnected(error: Exception, url: URL, *, is_of_database: bool) -> KitError:
    """Return the error for a connection that could not be made.

    Args:
        error: what the driver has raised.
        url: the database.
        is_of_database: whether it is an error of the database, and not of the driver's
            own arguments.
    """
    said = f"database {shown(url)}"
    cause = _cause(error, url)
    codes = getattr(getattr(error, "orig", None), "args", ())[:1]
    refuses = any(
        code in _OF_SERVER and code not in _FOR_NOW
        for code in codes
        if isinstance(code, int)
    )
    if is_of_database and not refuses and not _REFUSES.search(str(error)):
        return TransientError(
            f"{said} cannot be reached: {cause}; start it, or correct the URL"
        )
    if is_of_database and _NO_LOG_IN.search(cause):
        places = "in the URL"
        if url.get_backend_name() == "postgresql":
            places += ", or the password in PGPASSWORD or ~/.pgpass"
        return InvalidInputError(
            f"{said} refuses the log-in: {cause}; give the right user and password"
            f" {places}"
        )
    return InvalidInputError(f"{said} cannot be used: {cause}; correct the URL")


def _kind_of(err: Exception) -> type[KitError]:
    """Return the exception for an error that a database reports once it is connected."""
    error: Any = getattr(err, "orig", err)
    codes = {getattr(error, name, None) for name in ("sqlstate", "sqlite_errorname")}
    codes |= {each for each in error.args[:1] if isinstance(each, int)}
    if codes & {*_LOCKED}:
        return LockedError
    return ConflictError if codes & {*_CONFLICTS} else KitError


def wait_at_most(connection: Connection, seconds: int) -> None:
    """Limit the seconds to wait for another process's lock, before a LockedError."""
    connection.exec_driver_sql(_WAIT[connection.dialect.name].format(seconds))


def _cause(error: BaseException, url: URL) -> str:
    """Return the first line of a database's error text, without the URL's secrets."""
    said = getattr(error, "orig", None) or error
    said = said.args[1] if len(said.args) == 2 else said  # noqa: PLR2004 - MariaDB's number and text
    text = next(
        filter(None, map(str.strip, str(said).splitlines())), type(error).__name__
    )
    secrets = [
        str(url.password or ""),
        *(str(v) for k, v in url.query.items() if "password" in k),
    ]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def columns(schema: T.StructType, keys: Sequence[str] = ()) -> list[sa.Column[Any]]:
    """Return the SQL columns for a schema of Spark's; the keys become the primary key.

    Raises:
        InvalidInputError: SQL cannot hold a column's type, or a key is not a column.
    """
    reject_unknown("key", keys, schema.names)
    if not schema.names:
        raise InvalidInputError("sql_table: the query has no columns; select some")
    if "" in schema.names:
        raise InvalidInputError(
            "sql_table: a column has no name; give it one, as in"
            " F.col(…).alias('total')"
        )
    return [
        # No autoincrement: the user supplies integer keys. Names are always quoted,
        # because SQLAlchemy does not know all reserved words of each database.
        sa.Column(
            field.name,
            _type(field, keys),
            primary_key=field.name in keys,
            autoincrement=False,
            quote=True,
        )
        for field in schema
    ]


def _type(field: T.StructField, keys: Sequence[str]) -> TypeEngine[Any]:
    # MariaDB can index texts and bytes only with a maximum length
    if field.name in keys:
        room = _INDEX // len(keys)
        if isinstance(field.dataType, T.StringType):
            return sa.Text().with_variant(
                mysql.VARCHAR(room // 4, collation=COLLATION), "mariadb"
            )
        if isinstance(field.dataType, T.BinaryType):
            return sa.LargeBinary().with_variant(mysql.VARBINARY(room), "mariadb")
    if isinstance(field.dataType, T.DecimalType):
        # SQLite would turn a decimal into a float.
        exact = sa.Numeric(field.dataType.precision, field.dataType.scale)
        return exact.with_variant(sa.Text(), "sqlite")
    for spark_type, sql_type in _TYPES.items():
        if isinstance(field.dataType, spark_type):
            return sql_type
    name = field.name if field.name.isidentifier() else quoted(field.name)
    as_text = f"F.col('{name}').cast('string')"
    if isinstance(field.dataType, _OF_JSON):
        as_text = f"F.to_json('{name}')"
    is_window = isinstance(field.dataType, T.StructType) and field.dataType.names == [
        "start",
        "end",
    ]
    flat = "; windows.flatten makes two columns of a window" if is_window else ""
    raise InvalidInputError(
        f"sql_table: column {field.name} is {field.dataType.simpleString()}, which a"
        " column of SQL cannot hold; leave it out, cast it, or make it a text:"
        f" {as_text}{flat}"
    )


def check_columns(connection: Connection, table: sa.Table, where: str) -> None:
    """Refuse an existing table that has other columns than the query, or is not unique in the keys.

    Args:
        connection: a connection to the database.
        table: the table as this query would create it.
        where: the table and its database, for messages.

    Raises:
        InvalidInputError: the table does not fit; the message names the differences and
            the fix.
    """
    inspector = sa.inspect(connection)
    there = inspector.get_columns(table.name, schema=table.schema)
    found = {str(c["name"]): c["type"] for c in there}
    wanted = {column.name: column.type for column in table.columns}
    if said := _differences(connection, found, wanted):
        raise InvalidInputError(
            f"{where} has other columns: {'; '.join(said)}; change the table or the"
            " query, or use another table"
        )
    if computed := [str(c["name"]) for c in there if c.get("computed")]:
        raise InvalidInputError(
            f"{where} computes its column {computed[0]} itself; write to another table,"
            " or leave that column out of it"
        )
    if connection.dialect.name == "mariadb":
        _check_engine(connection, table, where)
    keys = {column.name for column in table.primary_key}
    if not keys:
        return
    unique: list[Iterable[Any]] = [
        inspector.get_pk_constraint(table.name, schema=table.schema)[
            "constrained_columns"
        ],
        *(
            c["column_names"]
            for c in inspector.get_unique_constraints(table.name, schema=table.schema)
        ),
        *(
            i["column_names"]
            for i in inspector.get_indexes(table.name, schema=table.schema)
            if i["unique"]
        ),
    ]
    if keys not in [set(names) for names in unique]:
        raise InvalidInputError(
            f"{where} is not unique in {', '.join(sorted(keys))}, so that no row can be"
            " known by it; add a primary key or a unique index, or use another table"
        )
    _check_keys(connection, table, where, [set(names) for names in unique if names])


def _differences(
    connection: Connection,
    found: Mapping[str, TypeEngine[Any]],
    wanted: Mapping[str, TypeEngine[Any]],
) -> list[str]:
    """Return phrases that say how the columns of a table differ from those that a query would make.

    Args:
        connection: a connection to the database.
        found: the types of the table's columns.
        wanted: those of the query's.
    """
    said = []
    missing = [
        f"{name} {_spelt(connection, kind)}"
        for name, kind in wanted.items()
        if name not in found
    ]
    if missing:
        said.append(f"it lacks {', '.join(missing)}")
    more = [name for name in found if name not in wanted]
    if more:
        said.append(f"it has {', '.join(more)}, which the query does not")
    for name, kind in wanted.items():
        if name in found and not _holds(connection, found[name], kind):
            theirs = (
                _spelt(connection, found[name]) or "of a type of the database's own"
            )
            said.append(f"{name} is {theirs} and not {_spelt(connection, kind)}")
    return said


def other_types(
    connection: Connection, table: sa.Table, made: sa.Table
) -> dict[str, dict[str, Any]]:
    """Return which columns of a table have another type than the query would give them.

    For each: `is`, a phrase, and `fits`, whether the column holds all values of the
    query.

    Args:
        connection: a connection to the database.
        table: the table.
        made: a table that was made with the types of the query.
    """
    theirs = _types(connection, table)
    ours = _types(connection, made)
    found = {}
    for column in made.columns:
        if column.name not in theirs:
            continue
        there = theirs[column.name].compile(connection.dialect)
        here = ours[column.name].compile(connection.dialect)
        if there != here:
            fits = _holds(connection, theirs[column.name], column.type)
            phrase = f"{there} in the target, and {here} in the changed query"
            found[column.name] = {"is": phrase, "fits": fits}
    return found


def _types(connection: Connection, table: sa.Table) -> dict[str, TypeEngine[Any]]:
    """Return the types of a table's columns by their names, as the database has them."""
    columns = sa.inspect(connection).get_columns(table.name, schema=table.schema)
    return {str(each["name"]): each["type"] for each in columns}


def as_json(value: Any, kind: T.DataType | None) -> str | None:
    """Return a value of a database as a text of JSON.

    Args:
        value: the value, as the driver gives it.
        kind: the type of the query's column. It says what the database does not: that a
            time without an offset is in UTC, and that 0 and 1 are a boolean.
    """
    if value is None:
        return None
    if isinstance(kind, T.BooleanType) and value in (0, 1):
        return "true" if value else "false"
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, (int, float, decimal.Decimal)) and math.isfinite(value):
        return _as_number(value)
    if isinstance(value, float):
        # As Spark writes them
        value = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, (bytes, memoryview)):
        value = base64.b64encode(value).decode()
    if isinstance(value, datetime):
        value = _as_time(value)
    if isinstance(kind, (T.TimestampType, T.TimestampNTZType)) and (
        found := _TIME.fullmatch(str(value))
    ):
        in_utc = isinstance(kind, T.TimestampType)
        value = f"{found[1]}T{found[2]}{'Z' if in_utc else found[3]}"
    return json.dumps(str(value), ensure_ascii=False)


def _as_number(value: float | decimal.Decimal) -> str:
    """Return a number in full, so that equal numbers have equal texts.

    Equal are, for example, 1, 1.0 and 1.00, or 0.0 and -0.0.
    """
    exact = (
        decimal.Decimal(repr(value))
        if isinstance(value, float)
        else decimal.Decimal(value)
    )
    text = f"{exact:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _as_time(value: datetime) -> str:
    """Return a time as `load` writes it; one that has an offset, in UTC and with a Z."""
    if value.tzinfo is None:
        return value.isoformat(" ", "microseconds")
    return (
        value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") + "Z"
    )


def _check_engine(connection: Connection, table: sa.Table, where: str) -> None:
    """Refuse a view of MariaDB, and a table whose storage engine has no transactions."""
    options = sa.inspect(connection).get_table_options(table.name, schema=table.schema)
    engine = next(
        (value for name, value in options.items() if name.endswith("_engine")), ""
    )
    if not engine:
        raise InvalidInputError(f"{where} is a view; give the table")
    if engine != "InnoDB":
        raise InvalidInputError(
            f"{where} is one of {engine}, which has no transactions; "
            f"ALTER TABLE {table.name} ENGINE=InnoDB, or use another table"
        )


def _check_keys(
    connection: Connection, table: sa.Table, where: str, unique: list[set[str]]
) -> None:
    """Refuse a table in which an upsert could overwrite the wrong row.

    Two things can cause it: in MariaDB a second unique index, by which it also matches
    rows, and in each database a key column that treats different texts as equal, such
    as one that ignores case.

    Args:
        connection: a connection to the database.
        table: the table as this query would create it; its primary key has the query's
            keys.
        where: the table and its database, for messages.
        unique: the column sets of the existing table's primary key and unique indexes.

    Raises:
        InvalidInputError: one of both is the case.
    """
    keys = [column.name for column in table.primary_key]
    dialect = connection.dialect.name
    others = [names for names in unique if names != set(keys)]
    if others and dialect == "mariadb":
        raise InvalidInputError(
            f"{where} is unique in {', '.join(sorted(others[0]))} too, and MariaDB"
            " would overwrite a row that is the same there; drop that index, or use"
            " another table"
        )
    names = {"schema": table.schema, "name": table.name}
    for key, collation in connection.execute(sa.text(_INEXACT[dialect]), names):
        if key in keys:
            raise InvalidInputError(
                f"{where} takes different texts in {key} for the same key"
                f" ({collation}); give that column the collation {_EXACT[dialect]}, or"
                " use another table"
            )


def _spelt(connection: Connection, kind: TypeEngine[Any]) -> str:
    """Return a type as the database spells it; "" if SQLAlchemy does not know it."""
    return (
        "" if isinstance(kind, sa.types.NullType) else kind.compile(connection.dialect)
    )


def _holds(
    connection: Connection, theirs: TypeEngine[Any], ours: TypeEngine[Any]
) -> bool:
    """Return whether an existing column stores every value exactly or fails, but never rounds one.

    Args:
        connection: a connection to the database.
        theirs: the type of the existing column.
        ours: the type that this query would create.
    """
    if _spelt(connection, theirs) == _spelt(connection, ours):
        return True
    # The type in this database: in SQLite a decimal is a text
    here = ours.dialect_impl(connection.dialect)
    in_sqlite = connection.dialect.name == "sqlite"
    if (
        isinstance(theirs, _DECIMALS)
        and isinstance(ours, sa.Numeric)
        and not isinstance(ours, sa.Float)
    ):
        few = (ours.precision or _DIGITS) <= _DIGITS
        return (
            few
            if in_sqlite
            else theirs.scale is None or theirs.scale >= (ours.scale or 0)
        )
    if isinstance(theirs, sa.DateTime) and isinstance(here, sa.DateTime):
        whole = isinstance(theirs, postgresql.TIMESTAMP) and theirs.precision in (
            None,
            6,
        )
        return in_sqlite or (whole and theirs.timezone == here.timezone)
    if not in_sqlite and _changes(theirs):
        return False
    if in_sqlite and isinstance(theirs, sa.Float):
        return isinstance(here, sa.Float)  # each has eight bytes there
    return any(
        isinstance(here, kind) and isinstance(theirs, kinds)
        for kind, kinds in _WIDER.items()
    )


def _changes(theirs: TypeEngine[Any]) -> bool:
    """Return whether a column of a server cuts or rounds values without an error."""
    # Blanks at the end, or a text that is taken for another one; PostgreSQL's "char"
    # and name cut a text.
    cuts = (
        isinstance(theirs, (sa.CHAR, sa.Enum, mysql.SET)) or type(theirs) is sa.String
    )
    # DOUBLE(10, 2) of MariaDB, NUMERIC(10, -2) of PostgreSQL
    scale = getattr(theirs, "scale", None)
    rounds = scale is not None and (isinstance(theirs, sa.Float) or scale < 0)
    return cuts or rounds
