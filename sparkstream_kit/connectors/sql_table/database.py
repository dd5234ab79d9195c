"""Database access for `sql_table`: connections, their errors, and the values of rows.

`parse` checks a URL. `connected` opens a connection and reports errors in one line
without the password. `checked` and `load` insert rows, and `as_json` is for those that
are read back. `sparkstream_kit.connectors.sql_table.table` calls them.

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
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

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
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Table
    from sqlalchemy.engine import URL, Connection, Engine


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
    if connection.dialect.name == "postgresql":
        return _copy(connection, stage, parts)
    return _insert(connection, stage, parts)


def _copy(connection: Connection, stage: Table, parts: Iterator[pa.RecordBatch]) -> int:
    """Insert rows into a table of PostgreSQL; return how many values were changed."""
    driver: Any = connection.connection.driver_connection
    statement = f"COPY {stage.name} FROM STDIN (ENCODING 'UTF8')"
    total = 0
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for part in parts:
            columns, changed = _encoded(part, connection.dialect.name)
            copy.write(_copy_text(columns))
            total += changed
    return total


def _insert(
    connection: Connection, stage: Table, parts: Iterator[pa.RecordBatch]
) -> int:
    """Insert rows into a table of SQLite or MariaDB; return how many values were changed."""
    driver: Any = connection.connection.driver_connection
    database = connection.dialect.name
    mark = "?"
    limit = None
    if database == "mariadb":
        mark = "%s"
        limit = connection.execute(sa.text(_LIMIT)).scalar()
    marks = ", ".join([mark] * len(stage.columns))
    statement = f"INSERT INTO {stage.name} VALUES ({marks})"  # noqa: S608 - a constant
    cursor = driver.cursor()
    total = 0
    for part in parts:
        columns, changed = _encoded(part, database)
        rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
        try:
            # SQLAlchemy's own insert() takes three times as long.
            cursor.executemany(statement, rows)
        except connection.dialect.loaded_dbapi.Error:
            if limit is not None:
                _check_size(connection, _largest(cursor, statement, rows), limit)
            raise
        total += changed
    return total


def _check_size(connection: Connection, size: int, limit: int) -> None:
    """Refuse a row that is too large for MariaDB, which closes the connection without a word.

    Args:
        connection: the connection, which is then given up.
        size: the bytes of the largest row as a statement.
        limit: how many bytes are too many for the server.

    Raises:
        KitError: the row is too large.
    """
    if size >= limit:
        connection.invalidate()
        raise KitError(_TOO_LARGE.format(size, limit, 1 << size.bit_length())) from None


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
    answer = connection.execute(sa.text(_CHANGING[connection.dialect.name]), names)
    rules = {name: (most, counts) for name, most, counts in answer}
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
        if most is None or not _arrow.is_text(column.type):
            continue
        longest = pc.max(pc.utf8_length(column)).as_py()
        if longest is not None and longest > most:
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
    total = 0
    for column in part.columns:
        values, changed = _encoded_column(column, database)
        columns.append(values)
        total += changed
    return columns, total


def _encoded_column(column: pa.Array, database: str) -> tuple[pa.Array, int]:
    """Convert one column, as for `_encoded`."""
    kind = column.type
    copy = database == "postgresql"
    if _arrow.is_text(kind):
        return _strings(column.cast(pa.string()), copy=copy)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _times(column, copy=copy)
    if pa.types.is_decimal(kind):
        return _decimals(column), 0
    if pa.types.is_floating(kind) and database == "mariadb":
        finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
        return finite, _count(pc.is_inf(column))
    if copy and _arrow.is_binary(kind):
        return _in_hex(column), 0
    if copy:
        column = column.cast(pa.string())
    return column, 0


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
        for raw, escaped in _ESCAPES:
            texts = pc.replace_substring(texts, raw, escaped)
    return texts, changed


def _in_hex(column: pa.Array) -> pa.Array:
    r"""Convert bytes to texts for COPY: `\\xff`, whose first backslash escapes the second."""
    texts: list[str | None] = []
    for raw in column.to_pylist():
        if raw is None:
            texts.append(None)
        else:
            texts.append(f"\\\\x{raw.hex()}")
    return pa.array(texts, pa.string())


def _decimals(column: pa.Array) -> pa.Array:
    """Convert decimals to texts with all their digits, never in the form `1E-18`."""
    texts = column.cast(pa.string())
    if pc.any(pc.match_substring(texts, "E")).as_py():
        plain: list[str | None] = []
        for text in texts.to_pylist():
            if text is None:
                plain.append(None)
            else:
                plain.append(f"{decimal.Decimal(text):f}")
        texts = pa.array(plain, pa.string())
    return texts


def _times(column: pa.Array, *, copy: bool) -> tuple[pa.Array, int]:
    """Convert dates and timestamps to texts; timestamps with a time zone are in UTC.

    Returns:
        The texts, and how many times outside of the years 1 to 9999 are null among
        them.
    """
    if pa.types.is_timestamp(column.type):
        zone = None
        if copy and column.type.tz:
            zone = "UTC"
        column = column.cast(pa.timestamp("us", zone))
        since_1970 = column.cast(pa.int64())
        a_day = 86_400_000_000
    else:
        since_1970 = column.cast(pa.int32()).cast(pa.int64())
        a_day = 1
    in_range = pc.and_(
        pc.greater_equal(since_1970, _FIRST_DAY * a_day),
        pc.less(since_1970, _DAY_AFTER * a_day),
    )
    texts = pc.if_else(in_range, column.cast(pa.string()), pa.scalar(None, pa.string()))
    return texts, _count(pc.invert(in_range))


def _count(flags: pa.Array) -> int:
    """Return how many values of an array of booleans are true."""
    return pc.sum(pc.cast(flags, pa.int64())).as_py() or 0


# Days from 1970-01-01 to 0001-01-01 and to the day after 9999-12-31
_FIRST_DAY = -719_162
_DAY_AFTER = 2_932_897
# In this order: the backslash first
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
# Otherwise MariaDB cuts a text that is too long and only warns, and writes another
# number for a 0 into a column that counts by itself.
_MODES = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO"
_LIMIT = "SELECT @@max_allowed_packet"
_TOO_LARGE = (
    "a row has {:,} bytes as a statement, and this MariaDB takes fewer than {:,}"
    " (max_allowed_packet); run SET GLOBAL max_allowed_packet = {}, and write it into"
    " the server's configuration"
)
_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mariadb": "pymysql"}
# The options that a URL of SQLite may have. SQLAlchemy leaves out any other without an
# error; `uri` would make another file of the path.
_OF_SQLITE = (
    "cached_statements",
    "check_same_thread",
    "detect_types",
    "isolation_level",
    "timeout",
)
_TITLES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}
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
    r" open|invalid (connection|port|\w+ value)|bad value for"
)
# MariaDB has numbers for it: those of the server, but when it has too many connections,
# or is shut down.
_OF_SERVER = range(1000, 2000)
_FOR_NOW = (1040, 1053, 1129, 1203)
_NO_LOG_IN = re.compile(
    "password|authentication|Access denied|role .* does not exist", re.IGNORECASE
)

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
# As `load` writes times: 2026-01-31 12:00:00.000000Z
_TIME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d\.\d{6})(?P<zone>Z?)"
)


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
            server without a database; or an option in it cannot be used.
        MissingExtraError: the database's driver is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The whole text may hold a password
        of_java = re.match(r"jdbc:\w+", text)
        form = f" ({of_java[0]} is a form of Java's)" if of_java else ""
        raise InvalidInputError(
            f"the database's URL cannot be read{form}; write sqlite:///totals.db,"
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
    if backend == "sqlite":
        return _of_file(url)
    url = url.set(drivername=f"{backend}+{_DRIVERS[backend]}")
    # Not in the first batch
    need(f"sinks.sql_table with {_TITLES[backend]}", backend, _DRIVERS[backend])
    # PostgreSQL takes PGDATABASE or the user's name
    if backend == "mariadb" and not url.database:
        raise InvalidInputError(
            f"the URL names no database; write {url.drivername}://user@host/name"
        )
    _engine(url)  # which refuses an option
    return url


def _of_file(url: URL) -> URL:
    """Return the URL of an SQLite database with the absolute path of its file, without links.

    Raises:
        InvalidInputError: it has no file, the file's folder is missing, or an option
            cannot be used.
    """
    if url.host:
        raise InvalidInputError(
            f"{shown(url)} has {url.host} where other databases have their server; a"
            " path has three slashes, and an absolute one four:"
            f" sqlite:///{url.host}/{url.database or ''}"
        )
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
    reject_unknown("option of an SQLite URL", url.query, _OF_SQLITE)
    url = url.set(drivername="sqlite", database=str(file))  # as a user writes it
    _engine(url)  # which refuses an option
    return url


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
            refuses the log-in, or an option of the URL cannot be used.
        KitError: the database reported an error later; a TransientError if it is away,
            a LockedError if another process holds a lock, and a ConflictError if the
            transaction was given up for that of another, so that it can be tried again.
    """
    engine = _engine(url)
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
            kind = _kind_of(err)
            raise kind(f"database {shown(url)}: {_cause(err, url)}") from None


def _engine(url: URL) -> Engine:
    """Return what makes connections to a database; it makes none yet.

    Raises:
        InvalidInputError: an option of the URL has a value that cannot be used.
    """
    isolation: dict[str, Any] = {}
    if url.get_backend_name() != "sqlite":
        # Whatever the server's default is: a transaction sees ledger entries that other
        # queries commit while it runs.
        isolation["isolation_level"] = "READ COMMITTED"
    try:
        # A new connection for each batch: a pooled one would be dead after a restart of
        # the database.
        return sa.create_engine(
            url,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=_driver_options(url),
            **isolation,
        )
    except Exception as err:  # noqa: BLE001 - SQLAlchemy raises anything for a wrong value
        raise _unconnected(err, url, is_of_database=False) from None


def _driver_options(url: URL) -> dict[str, Any]:
    """Return the arguments with which a database's driver connects, beside those of the URL."""
    options: dict[str, Any] = {}
    backend = url.get_backend_name()
    if backend == "sqlite" and "timeout" not in url.query:
        options["timeout"] = _BUSY
    if backend == "mariadb":
        options["charset"] = "utf8mb4"
        options["init_command"] = f"SET SESSION sql_mode = '{_MODES}'"
        if url.password:
            # PyMySQL would take a text as Latin-1
            options["password"] = str(url.password).encode()
    return options


def _unconnected(error: Exception, url: URL, *, is_of_database: bool) -> KitError:
    """Return the error for a connection that could not be made.

    Args:
        error: what the driver has raised.
        url: the database.
        is_of_database: whether it is an error of the database, and not of the driver's
            own arguments.
    """
    database = f"database {shown(url)}"
    cause = _cause(error, url)
    if is_of_database and not _is_refusal(error):
        return TransientError(
            f"{database} cannot be reached: {cause}; start it, or correct the URL"
        )
    if is_of_database and _NO_LOG_IN.search(cause):
        places = "in the URL"
        if url.get_backend_name() == "postgresql":
            places += ", or the password in PGPASSWORD or ~/.pgpass"
        return InvalidInputError(
            f"{database} refuses the log-in: {cause}; give the right user and password"
            f" {places}"
        )
    return InvalidInputError(f"{database} cannot be used: {cause}; correct the URL")


def _is_refusal(error: Exception) -> bool:
    """Return whether a server answers, and will refuse the next start, too."""
    arguments = getattr(getattr(error, "orig", None), "args", ())
    code = arguments[0] if arguments else None
    if isinstance(code, int) and code in _OF_SERVER and code not in _FOR_NOW:
        return True
    return _REFUSES.search(str(error)) is not None


def _kind_of(err: Exception) -> type[KitError]:
    """Return the exception for an error that a database reports once it is connected."""
    if getattr(err, "connection_invalidated", False):
        return TransientError
    error: Any = getattr(err, "orig", err)
    # PostgreSQL's, SQLite's and MariaDB's code
    codes = [getattr(error, "sqlstate", None), getattr(error, "sqlite_errorname", None)]
    if error.args and isinstance(error.args[0], int):
        codes.append(error.args[0])
    if any(code in _LOCKED for code in codes):
        return LockedError
    if any(code in _CONFLICTS for code in codes):
        return ConflictError
    return KitError


def wait_at_most(connection: Connection, seconds: int) -> None:
    """Limit the seconds to wait for another process's lock, before a LockedError."""
    connection.exec_driver_sql(_WAIT[connection.dialect.name].format(seconds))


def _cause(error: BaseException, url: URL) -> str:
    """Return the first line of a database's error text, without the URL's secrets."""
    original = getattr(error, "orig", None) or error
    text = str(original)
    if len(original.args) == 2:  # noqa: PLR2004 - MariaDB's number and text
        text = str(original.args[1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    cause = lines[0]
    secrets = [str(url.password or "")]
    for option, value in url.query.items():
        if "password" in option:
            secrets.append(str(value))
    for secret in secrets:
        if secret:
            cause = cause.replace(secret, "***")
    return cause


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
    if isinstance(value, (int, float, decimal.Decimal)) and math.isfinite(value):
        return _as_number(value)
    return json.dumps(_as_text(value, kind), ensure_ascii=False)


def _as_text(value: Any, kind: T.DataType | None) -> str:
    """Return a value as a text, as Spark writes it, unless it is a finite number or a boolean."""
    if isinstance(value, float):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, (bytes, memoryview)):
        return base64.b64encode(value).decode()
    text = str(value)
    if isinstance(value, datetime):
        text = _as_time(value)
    time = _TIME.fullmatch(text)
    if time and isinstance(kind, T.TimestampType):
        return f"{time['day']}T{time['time']}Z"
    if time and isinstance(kind, T.TimestampNTZType):
        return f"{time['day']}T{time['time']}{time['zone']}"
    return text


def _as_number(value: float | decimal.Decimal) -> str:
    """Return a number in full, so that equal numbers have equal texts.

    Equal are, for example, 1, 1.0 and 1.00, or 0.0 and -0.0.
    """
    exact = decimal.Decimal(value)
    if isinstance(value, float):
        exact = decimal.Decimal(repr(value))  # 0.1, and not the value of its bits
    text = f"{exact:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _as_time(value: datetime) -> str:
    """Return a time as `load` writes it; one that has an offset, in UTC and with a Z."""
    if value.tzinfo is None:
        return value.isoformat(" ", "microseconds")
    in_utc = value.astimezone(UTC).replace(tzinfo=None)
    return in_utc.isoformat(" ", "microseconds") + "Z"
