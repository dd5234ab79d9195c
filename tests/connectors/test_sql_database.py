"""`connectors.sql_table.database` without Spark: URLs, connections, errors and values."""

# ruff: noqa: SLF001 - the steps of the module are its own
import datetime as dt
import decimal
import math
import sqlite3
import sys
from contextlib import closing, nullcontext
from types import SimpleNamespace
from typing import Any

import psycopg
import pyarrow as pa
import pymysql
import pytest
import sqlalchemy as sa
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit.connectors._tables import ConflictError
from sparkstream_kit.connectors.sql_table import database
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    MissingExtraError,
    TransientError,
)

IN_UTC = dt.UTC
FILE = "sqlite:////data/t.db"
POSTGRESQL = sa.make_url("postgresql+psycopg://clerk:hush@host/shop")
MARIADB = sa.make_url("mariadb+pymysql://clerk:hush@host/shop")


@pytest.fixture
def url(tmp_path):
    """An SQLite database without tables."""
    return database.parse(f"sqlite:///{tmp_path}/t.db")


@pytest.fixture
def connection(url):
    with database.connected(url) as connection:
        yield connection


def part(*columns):
    """Return rows as Spark gives them, from their columns."""
    return pa.RecordBatch.from_arrays(
        [*columns], [f"c{number}" for number in range(len(columns))]
    )


def made(connection, columns, name="t"):
    """Make a table of SQLite and return it."""
    connection.exec_driver_sql(f"CREATE TABLE {name} ({columns})")
    return sa.Table(name, sa.MetaData(), autoload_with=connection)


def rows(connection, name="t"):
    return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]  # noqa: S608


# --- URLs


SPELLINGS = {
    "postgresql": ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
    "postgresql with its driver": (
        "postgresql+psycopg://u@h/d",
        "postgresql+psycopg://u@h/d",
    ),
    "postgresql without a database": ("postgresql://h", "postgresql+psycopg://h"),
    "mariadb": ("mariadb://u@h/d", "mariadb+pymysql://u@h/d"),
    "an option": (
        "mariadb://u@h/d?connect_timeout=5",
        "mariadb+pymysql://u@h/d?connect_timeout=5",
    ),
    "sqlite": ("sqlite:////{}/t.db", "sqlite:////{}/t.db"),
    "sqlite with its driver": ("sqlite+pysqlite:////{}/t.db", "sqlite:////{}/t.db"),
    "an option of sqlite": (
        "sqlite:////{}/t.db?isolation_level=DEFERRED&timeout=5",
        "sqlite:////{}/t.db?isolation_level=DEFERRED&timeout=5",
    ),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_a_url_is_the_one_with_the_driver_that_is_used(tmp_path, what):
    given, parsed = SPELLINGS[what]
    folder = str(tmp_path).lstrip("/")
    url = database.parse(given.format(folder))
    assert url.render_as_string(hide_password=False) == parsed.format(folder)


def test_the_path_of_a_file_is_whole_and_without_links(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    url = database.parse("sqlite:///link/t.db")
    assert url == sa.make_url(f"sqlite:///{tmp_path.resolve()}/real/t.db")


CANNOT_BE_READ = (
    "the database's URL cannot be read; write sqlite:///totals.db,"
    " postgresql+psycopg://user@host/name or mariadb+pymysql://user@host/name, with %40"
    " for an @ in a password"
)
NO_FILE = (
    "an SQLite database without a file is lost at once; name one, such as"
    " sqlite:///totals.db"
)
WRONG = {
    "no URL": ("totals.db", CANNOT_BE_READ),
    "a port that is no number": ("postgresql://u:hush@h:x/d", CANNOT_BE_READ),
    "a name that is near": (
        "postgres://u:hush@h/d",
        (
            "sql_table writes to sqlite, postgresql and mariadb, not postgres; did you mean"
            " postgresql?"
        ),
    ),
    "another database": (
        "oracle://u:hush@h/d",
        (
            "sql_table writes to sqlite, postgresql and mariadb, not oracle; write to"
            " others with sinks.foreach_batch"
        ),
    ),
    "another driver": (
        "postgresql+psycopg2://u:hush@h/d",
        "sql_table does not use psycopg2; write postgresql+psycopg://…",
    ),
    "another driver of mariadb": (
        "mariadb+mysqldb://u:hush@h/d",
        "sql_table does not use mysqldb; write mariadb+pymysql://…",
    ),
    "no database": (
        "mariadb://u:hush@h",
        "the URL names no database; write mariadb+pymysql://user@host/name",
    ),
    "no path": ("sqlite://", NO_FILE),
    "an empty path": ("sqlite:///", NO_FILE),
    "the memory": ("sqlite:///:memory:", NO_FILE),
    "no folder": (
        "sqlite:////no/such/t.db",
        "database /no/such/t.db: folder /no/such does not exist; create it",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_url_that_is_no_use_is_one_line(what):
    given, said = WRONG[what]
    assert refusal(database.parse, given) == said


OPTIONS = {
    "misspelt": (
        "sqlite:////tmp/t.db?timeot=5",
        "unknown option of an SQLite URL timeot; did you mean timeout?",
    ),
    "of SQLite's own URLs": (
        "sqlite:////tmp/t.db?uri=true&mode=ro",
        (
            "unknown option of an SQLite URL uri; known: cached_statements,"
            " check_same_thread, detect_types, isolation_level, timeout"
        ),
    ),
    "no number": (
        "sqlite:////tmp/t.db?timeout=abc",
        (
            "database sqlite:////tmp/t.db cannot be used: could not convert string to"
            " float: 'abc'; correct the URL"
        ),
    ),
    "twice": (
        "sqlite:////tmp/t.db?detect_types=1&detect_types=2",
        (
            "database sqlite:////tmp/t.db cannot be used: int() argument must be a string,"
            " a bytes-like object or a real number, not 'tuple'; correct the URL"
        ),
    ),
    "a host before a file": (
        "sqlite://u:hush@host//tmp/t.db",
        (
            "sqlite://u:***@host//tmp/t.db has host where other databases have their"
            " server; a path has three slashes, and an absolute one four:"
            " sqlite:///host//tmp/t.db"
        ),
    ),
    "no number for mariadb": (
        "mariadb://u:hush@h/d?connect_timeout=abc",
        (
            "database mariadb+pymysql://u:***@h/d cannot be used: invalid literal for"
            " int() with base 10: 'abc'; correct the URL"
        ),
    ),
    "no truth for mariadb": (
        "mariadb://u:hush@h/d?local_infile=abc",
        (
            "database mariadb+pymysql://u:***@h/d cannot be used: String is not true/false:"
            " 'abc'; correct the URL"
        ),
    ),
    "a plugin that there is not": (
        "postgresql://u:hush@h/d?plugin=abc",
        (
            "database postgresql+psycopg://u:***@h/d cannot be used: Can't load plugin:"
            " sqlalchemy.plugins:abc; correct the URL"
        ),
    ),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_an_option_that_is_no_use_is_refused_by_the_call(what):
    given, said = OPTIONS[what]
    assert refusal(database.parse, given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        OPTIONS["no number"],
        (
            OPTIONS["a host before a file"][0],
            (
                "database sqlite://u:***@host//tmp/t.db cannot be used: Invalid SQLite"
                " URL: sqlite://u:***@host//tmp/t.db; correct the URL"
            ),
        ),
    ],
    ids=["no number", "a host before a file"],
)
def test_and_so_it_is_by_a_connection(given, said):
    def connect():
        with database.connected(sa.make_url(given)):
            pytest.fail("there is a connection")

    assert refusal(connect) == said


AT_THE_SERVER = {
    "one that postgresql does not know": (
        "postgresql://u@127.0.0.1:1/d?colour=red",
        (
            "database postgresql+psycopg://u@127.0.0.1:1/d cannot be used: invalid connection"
            ' option "colour"; correct the URL'
        ),
    ),
    "no number for postgresql": (
        "postgresql://u@127.0.0.1:1/d?connect_timeout=abc",
        (
            "database postgresql+psycopg://u@127.0.0.1:1/d cannot be used: bad value for"
            " connect_timeout: 'abc'; correct the URL"
        ),
    ),
    "a way that postgresql does not know": (
        "postgresql://u@127.0.0.1:1/d?sslmode=abc",
        (
            "database postgresql+psycopg://u@127.0.0.1:1/d cannot be used: connection is"
            ' bad: invalid sslmode value: "abc"; correct the URL'
        ),
    ),
    "one that mariadb does not know": (
        "mariadb://u@127.0.0.1:1/d?colour=red",
        (
            "database mariadb+pymysql://u@127.0.0.1:1/d cannot be used:"
            " Connection.__init__() got an unexpected keyword argument 'colour'; correct"
            " the URL"
        ),
    ),
}


@pytest.mark.parametrize("what", AT_THE_SERVER)
def test_an_option_that_a_driver_refuses_is_refused_with_the_first_connection(what):
    given, said = AT_THE_SERVER[what]
    url = database.parse(given)

    def connect():
        with database.connected(url):
            pytest.fail("there is a connection")

    assert refusal(connect) == said


@pytest.mark.parametrize(
    ("given", "library", "said"),
    [
        ("postgresql://u@h/d", "psycopg", "sinks.sql_table with PostgreSQL needs"),
        ("mariadb://u@h/d", "pymysql", "sinks.sql_table with MariaDB needs"),
    ],
    ids=["postgresql", "mariadb"],
)
def test_a_driver_that_is_missing_is_named_by_the_call(
    monkeypatch, given, library, said
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=said):
        database.parse(given)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:hush@h:1/d?password=hush", "postgresql://u:***@h:1/d"),
        ("mariadb://h/d?ssl_key=hush&ssl_key=more", "mariadb://h/d"),
        ("sqlite:////data/t.db?timeout=5", "sqlite:////data/t.db"),
    ],
    ids=["a password", "options", "a file"],
)
def test_a_url_is_shown_without_its_secrets(given, shown):
    assert database.shown(sa.make_url(given)) == shown


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("postgresql://u@127.0.0.1/d", "postgresql://u@localhost:5432/d"),
        ("postgresql://u@[::1]/d", "postgresql://u@localhost:5432/d"),
        ("postgresql+psycopg://localhost:5/d", "postgresql+psycopg://localhost:5/d"),
        ("mariadb://u@db.example/d", "mariadb://u@db.example:3306/d"),
        ("mariadb+pymysql://127.0.0.2:7/d", "mariadb+pymysql://127.0.0.2:7/d"),
    ],
    ids=["127.0.0.1", "::1", "a port", "another host", "another port"],
)
def test_an_address_has_one_spelling(given, at):
    assert database.at_one_address(sa.make_url(given)) == sa.make_url(at)


def test_a_server_is_asked_what_it_knows_a_table_by(connection, monkeypatch):
    # The statement of a server would need one
    monkeypatch.setitem(
        database._IDENTITY, "sqlite", "SELECT ifnull(:schema, '') || '/' || :name"
    )
    assert database.identity(connection, "s", "t") == "s/t"
    assert database.identity(connection, None, "t") == "/t"


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (FILE, {"timeout": 60}),
        (f"{FILE}?timeout=5", {}),
        ("postgresql://u:hush@h/d", {}),
        (
            "mariadb://u@h/d",
            {
                "charset": "utf8mb4",
                "init_command": (
                    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'"
                ),
            },
        ),
        (
            "mariadb://u:p%C3%A4@h/d",
            {
                "charset": "utf8mb4",
                "init_command": (
                    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'"
                ),
                "password": b"p\xc3\xa4",
            },
        ),
    ],
    ids=["sqlite", "a timeout", "postgresql", "mariadb", "a password of mariadb"],
)
def test_a_driver_gets_the_options_that_keep_values_as_they_are(given, options):
    assert database._driver_options(sa.make_url(given)) == options


@pytest.mark.parametrize(
    ("given", "level"),
    [(FILE, None), (POSTGRESQL, "READ COMMITTED"), (MARIADB, "READ COMMITTED")],
    ids=["sqlite", "postgresql", "mariadb"],
)
def test_a_transaction_of_a_server_sees_what_others_commit(given, level):
    engine = database._engine(sa.make_url(given))
    assert engine.dialect._on_connect_isolation_level == level


# --- connections and their errors


def test_what_is_not_committed_is_rolled_back(url):
    with database.connected(url) as connection:
        made(connection, "v INTEGER")
        connection.commit()
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        connection.commit()
        connection.exec_driver_sql("INSERT INTO t VALUES (2)")
    assert connection.closed
    with database.connected(url) as connection:
        assert rows(connection) == [(1,)]


def test_an_error_of_a_database_is_one_line(url):
    with pytest.raises(KitError) as no, database.connected(url) as connection:
        connection.exec_driver_sql("SELECT * FROM missing")
    assert type(no.value) is KitError
    assert str(no.value) == f"database {url}: no such table: missing"


def test_so_is_one_of_its_driver_and_of_a_connection_that_is_lost(url):
    with pytest.raises(KitError) as no, database.connected(url) as connection:
        connection.exec_driver_sql("SELECT 1")
        driver: Any = connection.connection.driver_connection
        driver.close()  # so that no rollback can be made
        driver.execute("SELECT 1")
    said = f"database {url}: Cannot operate on a closed database."
    assert str(no.value) == said


def test_an_error_of_the_block_itself_is_raised_as_it_is(url):
    with pytest.raises(ZeroDivisionError), database.connected(url):
        _ = 1 / 0


def test_a_lock_of_another_process_is_one(url, tmp_path):
    with database.connected(url) as connection:
        made(connection, "v INTEGER")
        connection.commit()
    with (
        closing(sqlite3.connect(tmp_path / "t.db")) as other,
        pytest.raises(database.LockedError) as no,
        database.connected(url) as connection,
    ):
        other.execute("BEGIN IMMEDIATE")
        database.wait_at_most(connection, 0)
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert str(no.value) == f"database {url}: database is locked"
    assert no.value.exit_code == 75


def test_the_wait_for_a_lock_is_in_seconds(connection):
    database.wait_at_most(connection, 7)
    assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 7000


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    url = sa.make_url(f"sqlite:///{tmp_path}")

    def connect():
        with database.connected(url):
            pytest.fail("there is a connection")

    assert refusal(connect) == (
        f"database sqlite:///{tmp_path} cannot be used: unable to open database file;"
        " correct the URL"
    )


def of_driver(*arguments):
    """Return an error of a driver, as SQLAlchemy hands it on."""
    return sa.exc.OperationalError("SELECT 1", {}, Exception(*arguments))


AWAY = of_driver(2003, "Can't connect to 'host' (111 Connection refused)")
NO_USER = of_driver(1045, "Access denied for user 'clerk' (using password: hush)")
NO_ROLE = of_driver('FATAL:  role "clerk" does not exist')


def test_a_server_that_does_not_answer_may_answer_later():
    error = database._unconnected(AWAY, MARIADB, is_of_database=True)
    assert type(error) is TransientError
    assert str(error) == (
        "database mariadb+pymysql://clerk:***@host/shop cannot be reached: Can't connect"
        " to 'host' (111 Connection refused); start it, or correct the URL"
    )


@pytest.mark.parametrize(
    ("given", "url", "said"),
    [
        (
            NO_USER,
            MARIADB,
            (
                "database mariadb+pymysql://clerk:***@host/shop refuses the log-in: Access"
                " denied for user 'clerk' (using password: ***); give the right user and"
                " password in the URL"
            ),
        ),
        (
            NO_ROLE,
            POSTGRESQL,
            (
                "database postgresql+psycopg://clerk:***@host/shop refuses the log-in:"
                ' FATAL:  role "clerk" does not exist; give the right user and password in'
                " the URL, or the password in PGPASSWORD or ~/.pgpass"
            ),
        ),
        (
            of_driver('FATAL:  database "shop" does not exist'),
            POSTGRESQL,
            (
                "database postgresql+psycopg://clerk:***@host/shop cannot be used: FATAL: "
                ' database "shop" does not exist; correct the URL'
            ),
        ),
    ],
    ids=["mariadb", "postgresql", "no database"],
)
def test_a_server_that_refuses_will_refuse_again(given, url, said):
    error = database._unconnected(given, url, is_of_database=True)
    assert type(error) is InvalidInputError
    assert str(error) == said


def test_an_error_of_the_drivers_own_arguments_is_no_log_in():
    given = TypeError("no argument password")
    error = database._unconnected(given, POSTGRESQL, is_of_database=False)
    assert type(error) is InvalidInputError
    assert str(error) == (
        "database postgresql+psycopg://clerk:***@host/shop cannot be used: no argument"
        " password; correct the URL"
    )


REFUSALS = {
    "below those of the server": (of_driver(999, "x"), False),
    "the first of the server": (of_driver(1000, "x"), True),
    "the last of the server": (of_driver(1999, "x"), True),
    "above those of the server": (of_driver(2000, "x"), False),
    "too many connections": (of_driver(1040, "x"), False),
    "shut down": (of_driver(1053, "x"), False),
    "too many errors": (of_driver(1129, "x"), False),
    "too many connections of a user": (of_driver(1203, "x"), False),
    "a log-in": (of_driver(1045, "x"), True),
    "a text": (of_driver("x"), False),
    "nothing": (of_driver(), False),
    "not of SQLAlchemy": (ValueError("x"), False),
    "fatal": (of_driver("FATAL: no database"), True),
    "while it starts": (of_driver("FATAL: the database is starting up"), False),
    "while it ends": (of_driver("FATAL: the database is shutting down"), False),
    "while it recovers": (of_driver("FATAL: it is in recovery mode"), False),
    "too many clients": (of_driver("FATAL: sorry, too many clients already"), False),
    "no password": (of_driver("fe_sendauth: no password supplied"), True),
    "no file": (of_driver("unable to open database file"), True),
    "no option": (of_driver('invalid connection option "x"'), True),
    "no port": (of_driver('invalid port number: "x"'), True),
    "no mode": (of_driver('invalid sslmode value: "x"'), True),
    "no integer": (of_driver("bad value for connect_timeout: 'x'"), True),
    "no answer": (of_driver("connection refused"), False),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_a_server_will_refuse_again(what):
    error, refuses = REFUSALS[what]
    assert database._is_refusal(error) is refuses


def lost():
    error = of_driver("server closed the connection")
    error.connection_invalidated = True
    return error


def of_sqlite(name):
    error = sqlite3.OperationalError("x")
    error.sqlite_errorname = name
    return error


KINDS = {
    "a lost connection": (lost(), TransientError),
    "a lock of mariadb": (of_driver(1205, "x"), database.LockedError),
    "a lock of postgresql": (
        sa.exc.OperationalError("x", {}, psycopg.errors.LockNotAvailable("x")),
        database.LockedError,
    ),
    "a lock of sqlite": (of_sqlite("SQLITE_BUSY"), database.LockedError),
    "a deadlock of mariadb": (pymysql.err.OperationalError(1213, "x"), ConflictError),
    "a changed row of mariadb": (of_driver(1020, "x"), ConflictError),
    "a deadlock of postgresql": (
        sa.exc.OperationalError("x", {}, psycopg.errors.DeadlockDetected("x")),
        ConflictError,
    ),
    "no order of postgresql": (psycopg.errors.SerializationFailure("x"), ConflictError),
    "a changed row of sqlite": (of_sqlite("SQLITE_BUSY_SNAPSHOT"), ConflictError),
    "another of sqlite": (of_sqlite("SQLITE_FULL"), KitError),
    "another of mariadb": (of_driver(1406, "x"), KitError),
    "a text": (of_driver("1205"), KitError),
    "nothing": (of_driver(), KitError),
}


@pytest.mark.parametrize("what", KINDS)
def test_the_kind_of_an_error_says_whether_to_try_again(what):
    error, kind = KINDS[what]
    assert database._kind_of(error) is kind


CAUSES = {
    "one line": (ValueError("no"), "no"),
    "the first of some": (ValueError("\n  no \n\nat line 7"), "no"),
    "of the driver": (of_driver("no such table\nLINE 1"), "no such table"),
    "the text and not the number": (of_driver(1045, "Access denied"), "Access denied"),
    "three arguments": (ValueError(1, "a", "b"), "(1, 'a', 'b')"),
    "one argument": (ValueError(1), "1"),
    "no text": (KeyboardInterrupt(), "KeyboardInterrupt"),
    "blanks": (ValueError(" \n "), "ValueError"),
    "the password": (ValueError("hush is wrong: hush"), "*** is wrong: ***"),
}


@pytest.mark.parametrize("what", CAUSES)
def test_a_cause_is_the_first_line_without_the_password(what):
    error, cause = CAUSES[what]
    assert database._cause(error, POSTGRESQL) == cause


def test_a_cause_has_no_password_of_an_option():
    url = sa.make_url("postgresql://h/d?sslpassword=still&user=clerk&password=")
    error = ValueError("clerk and still")
    assert database._cause(error, url) == "clerk and ***"


# --- rows on their way into a table


def test_rows_are_inserted_in_parts_and_the_changed_values_counted(connection):
    stage = made(connection, "v TEXT, w INTEGER")
    bad = pa.array([b"a", b"\xff", b"\xfe"], pa.binary())
    texts = bad.view(pa.string())
    parts = [part(texts, pa.array([1, 2, None])), part(texts, pa.array([4, 5, 6]))]
    assert database.load(connection, stage, iter(parts)) == 4
    assert rows(connection) == [
        ("a", 1),
        (r"\xff", 2),
        (r"\xfe", None),
        ("a", 4),
        (r"\xff", 5),
        (r"\xfe", 6),
    ]


def test_no_parts_are_no_rows(connection):
    stage = made(connection, "v TEXT")
    assert database.load(connection, stage, iter(())) == 0
    assert rows(connection) == []


def test_an_error_while_rows_are_inserted_is_raised_as_it_is(connection):
    stage = made(connection, "v INTEGER NOT NULL")
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        database.load(connection, stage, iter([part(pa.array([1, None]))]))


class Copied:
    """A connection to PostgreSQL that keeps what is copied; the server would be another process."""

    dialect = SimpleNamespace(name="postgresql")

    def __init__(self):
        self.connection = SimpleNamespace(driver_connection=self)
        self.statement = ""
        self.text = b""

    def cursor(self):
        return nullcontext(self)

    def copy(self, statement):
        self.statement = statement
        return nullcontext(self)

    def write(self, text):
        self.text += text


def test_postgresql_gets_rows_by_copy():
    copied: Any = Copied()
    stage: Any = SimpleNamespace(name="stage")
    texts = pa.array([b"a\tb", b"\xff"], pa.binary()).view(pa.string())
    parts = [part(texts, pa.array([1, None])), part(texts, pa.array([3, 4]))]
    assert database.load(copied, stage, iter(parts)) == 2
    assert copied.statement == "COPY stage FROM STDIN (ENCODING 'UTF8')"
    assert copied.text == (b"a\\tb\t1\n\\\\xff\t\\N\na\\tb\t3\n\\\\xff\t4\n"), (
        "backslashes are escaped, null is not"
    )


class Refusing:
    """A connection to a MariaDB that takes no row; the texts of its driver are the real ones."""

    dialect = SimpleNamespace(name="mariadb", loaded_dbapi=pymysql)

    def __init__(self, limit):
        self._limit = limit
        self._driver = pymysql.connect(defer_connect=True, charset="utf8mb4")
        self._driver.server_status = 0  # which a server would say
        self.connection = SimpleNamespace(driver_connection=self)
        self.statement = ""
        self.asked: list[str] = []
        self.is_given_up = False

    def execute(self, statement):
        self.asked.append(str(statement))
        return SimpleNamespace(scalar=lambda: self._limit)

    def cursor(self):
        return self

    def mogrify(self, *given):
        return self._driver.cursor().mogrify(*given)

    def executemany(self, statement, _rows):
        self.statement = statement
        raise pymysql.err.OperationalError(2006, "server has gone away")

    def invalidate(self):
        self.is_given_up = True


STAGE: Any = SimpleNamespace(name="stage", columns=["v", "w"])
ROWS = part(pa.array(["a", "ää", None]), pa.array([1, 2, 3]))
# of the second: INSERT INTO stage VALUES ('ää', 2)
SIZE = len("INSERT INTO stage VALUES ('ää', 2)".encode())


def test_the_row_that_is_too_large_for_mariadb_is_measured():
    refusing: Any = Refusing(limit=SIZE)
    with pytest.raises(KitError) as no:
        database.load(refusing, STAGE, iter([ROWS]))
    assert str(no.value) == (
        f"a row has {SIZE} bytes as a statement, and this MariaDB takes fewer than"
        f" {SIZE} (max_allowed_packet); run SET GLOBAL max_allowed_packet = 64, and"
        " write it into the server's configuration"
    )
    assert refusing.is_given_up
    assert refusing.asked == ["SELECT @@max_allowed_packet"]
    assert refusing.statement == "INSERT INTO stage VALUES (%s, %s)"


def test_another_error_of_mariadb_is_raised_as_it_is():
    refusing: Any = Refusing(limit=SIZE + 1)
    with pytest.raises(pymysql.err.OperationalError):
        database.load(refusing, STAGE, iter([ROWS]))
    assert not refusing.is_given_up


@pytest.mark.parametrize(("size", "next_power"), [(64, 128), (63, 64), (1_000, 1_024)])
def test_the_size_that_is_advised_is_the_next_power_of_two(size, next_power):
    refusing: Any = Refusing(limit=0)
    with pytest.raises(KitError, match=f"max_allowed_packet = {next_power},"):
        database._check_size(refusing, size, size)


def test_the_size_of_the_largest_row_is_in_bytes():
    cursor = Refusing(limit=0)
    statement = "INSERT INTO stage VALUES (%s, %s)"
    known: list[tuple[Any, ...]] = [("a", 1), ("ää", 2), (None, 3)]
    assert database._largest(cursor, statement, known) == SIZE


# --- values that a table would change


def counting(connection, columns, *values):
    """Insert values by way of `checked`, and return the table's rows."""
    table = made(connection, columns)
    parts = [part(*values)]
    checked = database.checked(connection, table, "batch 3 for table t", parts)
    database.load(connection, table, checked)
    return rows(connection)


def test_a_null_that_sqlite_would_number_is_refused(connection):
    said = refusal(
        counting, connection, "v INTEGER PRIMARY KEY", pa.array([1, None], pa.int64())
    )
    assert said == (
        "batch 3 for table t: column v is null, in place of which the table would write"
        " a number of its own; fill it with F.coalesce, or leave such rows out"
    )


@pytest.mark.parametrize(
    ("columns", "values", "there"),
    [
        ("v INTEGER PRIMARY KEY", [[1, 2]], [(1,), (2,)]),
        ("v INTEGER", [[1, None]], [(1,), (None,)]),
        ("v INT PRIMARY KEY", [[1, None]], [(1,), (None,)]),
        ("v INTEGER, w INTEGER, PRIMARY KEY (v, w)", [[None], [1]], [(None, 1)]),
    ],
    ids=["no null", "no key", "another type", "two columns"],
)
def test_any_other_value_goes_through(connection, columns, values, there):
    arrays = [pa.array(each, pa.int64()) for each in values]
    assert counting(connection, columns, *arrays) == there


def test_the_columns_of_another_schema_are_asked(connection):
    connection.exec_driver_sql("ATTACH ':memory:' AS other")
    connection.exec_driver_sql("CREATE TABLE other.t (v INTEGER PRIMARY KEY)")
    connection.exec_driver_sql("CREATE TABLE t (v INTEGER)")
    null = [part(pa.array([None], pa.int64()))]
    here, there = (
        sa.Table("t", sa.MetaData(), sa.Column("v", sa.Integer), schema=schema)
        for schema in (None, "other")
    )
    assert list(database.checked(connection, here, "t", null)) == null
    assert refusal(list, database.checked(connection, there, "t", null))


def test_the_rules_are_asked_before_the_rows(connection):
    table = made(connection, "v INTEGER PRIMARY KEY")
    checked = database.checked(
        connection, table, "t", iter([part(pa.array([1])), part(pa.array([None]))])
    )
    connection.close()
    assert next(checked).num_rows == 1
    assert "column v is null" in refusal(next, checked)


TABLE = sa.Table(
    "t", sa.MetaData(), sa.Column("n", sa.Integer), sa.Column("v", sa.Text)
)
NUMBER = pa.array([1], pa.int64())


@pytest.mark.parametrize(
    "text",
    [
        pa.array(["äöü"]),
        pa.array([None], pa.string()),
        pa.array([b"abcd"]),
        pa.array(["äöü"], pa.large_string()),
    ],
    ids=["as long as it may be", "null", "bytes", "a large one"],
)
def test_a_text_as_long_as_its_column_is_taken(text):
    rows = part(NUMBER, text)
    rules = {"v": (3, False), "n": (0, False), "other": (0, True)}
    assert database._part_as_it_is(rows, TABLE, "t", rules) is rows


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_a_text_longer_than_its_column_is_refused(kind):
    rows = part(NUMBER, pa.array(["x" * 1_001], kind))
    rules = {"v": (1_000, False)}
    assert refusal(database._part_as_it_is, rows, TABLE, "table t", rules) == (
        "table t: a text in column v has 1,001 characters, and the table takes 1,000 at"
        " most; make the column wider, or leave such rows out"
    )
    assert database._part_as_it_is(rows, TABLE, "table t", {}) is rows


def test_each_column_is_looked_at():
    rows = part(NUMBER, pa.array([None], pa.string()))
    rules = {"n": (None, True), "v": (None, True)}
    said = refusal(database._part_as_it_is, rows, TABLE, "t", rules)
    assert said.startswith("t: column v is null")


# --- values as a database takes them


def test_lines_of_copy_have_tabs_between_and_their_ends():
    columns = [pa.array(["a", None, ""]), pa.array(["1", "2", None])]
    assert database._copy_text(columns) == b"a\t1\n\\N\t2\n\t\\N\n"


RAW = b"a\xffb\0"
ENCODED = {
    "a text": (pa.array(["ä", None]), "sqlite", ["ä", None], 0),
    "a large text": (pa.array(["a\n"], pa.large_string()), "postgresql", ["a\\n"], 0),
    "a NUL": (pa.array(["a\0", "b"]), "postgresql", ["a\\\\x00", "b"], 1),
    "a NUL elsewhere": (pa.array(["a\0", "b"]), "mariadb", ["a\0", "b"], 0),
    "bytes for copy": (
        pa.array([RAW, None]),
        "postgresql",
        [r"\\x61ff6200", None],
        0,
    ),
    "large bytes for copy": (
        pa.array([b"a"], pa.large_binary()),
        "postgresql",
        [r"\\x61"],
        0,
    ),
    "bytes": (pa.array([RAW, None]), "sqlite", [RAW, None], 0),
    "numbers for copy": (pa.array([1, None]), "postgresql", ["1", None], 0),
    "numbers": (pa.array([1, None]), "mariadb", [1, None], 0),
    "booleans for copy": (pa.array([True, None]), "postgresql", ["true", None], 0),
    "booleans": (pa.array([True, None]), "sqlite", [True, None], 0),
    "floats for mariadb": (
        pa.array([1.5, math.inf, -math.inf, math.nan, None]),
        "mariadb",
        [1.5, None, None, None, None],
        2,
    ),
    "floats": (pa.array([1.5, math.inf]), "sqlite", [1.5, math.inf], 0),
    "floats for copy": (
        pa.array([1.5, math.inf]),
        "postgresql",
        ["1.5", "inf"],
        0,
    ),
    "a time": (
        pa.array([0], pa.timestamp("us", "UTC")),
        "sqlite",
        ["1970-01-01 00:00:00.000000"],
        0,
    ),
    "a time for copy": (
        pa.array([0], pa.timestamp("us", "UTC")),
        "postgresql",
        ["1970-01-01 00:00:00.000000Z"],
        0,
    ),
    "a date": (
        pa.array([-719_163, 0], pa.date32()),
        "mariadb",
        [None, "1970-01-01"],
        1,
    ),
    "decimals": (
        pa.array([decimal.Decimal("1E-18")], pa.decimal128(38, 18)),
        "postgresql",
        ["0.000000000000000001"],
        0,
    ),
}


@pytest.mark.parametrize("what", ENCODED)
def test_a_column_as_a_database_takes_it(what):
    column, name, values, changed = ENCODED[what]
    encoded, count = database._encoded_column(column, name)
    assert (encoded.to_pylist(), count) == (values, changed)


def test_the_changed_values_of_all_columns_are_counted():
    texts = pa.array(["a\0", "\0", "c"])
    columns, changed = database._encoded(part(texts, texts), "postgresql")
    assert [column.to_pylist() for column in columns] == [
        ["a\\\\x00", "\\\\x00", "c"]
    ] * 2
    assert changed == 4


def of_bytes(*values):
    """Return a column of texts that need not be UTF-8."""
    return pa.array(values, pa.binary()).view(pa.string())


TEXTS: dict[str, tuple[pa.Array, bool, list[str | None], int]] = {
    "plain": (of_bytes(b"a", None), True, ["a", None], 0),
    "not UTF-8": (of_bytes(b"\xff", b"a", None), False, [r"\xff", "a", None], 1),
    "not UTF-8 for copy": (of_bytes(b"\xff\n"), True, [r"\\xff\n"], 1),
    "NUL": (of_bytes(b"\0", b"\0\0", b"a"), True, [r"\\x00", r"\\x00\\x00", "a"], 2),
    "NUL and not UTF-8": (of_bytes(b"\0", b"\xff"), True, [r"\\x00", r"\\xff"], 2),
    "NUL that may stay": (of_bytes(b"\0"), False, ["\0"], 0),
    "a backslash": (of_bytes(b"\\n"), True, [r"\\n"], 0),
    "line ends and tabs": (of_bytes(b"\n\r\t"), True, [r"\n\r\t"], 0),
    "a backslash that may stay": (of_bytes(b"\\\n"), False, ["\\\n"], 0),
    "no rows": (of_bytes(), True, [], 0),
}


@pytest.mark.parametrize("what", TEXTS)
def test_texts_are_valid_and_escaped_for_copy(what):
    column, copy, values, changed = TEXTS[what]
    texts, count = database._strings(column, copy=copy)
    assert (texts.to_pylist(), count) == (values, changed)


def test_texts_that_are_valid_are_not_made_again():
    texts = pa.array(["a", "\0"])
    assert database._strings(texts, copy=False)[0] is texts


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["1.50", None], ["1.50", None]),
        (["1E-9", "-1E-9", None], ["0.000000001", "-0.000000001", None]),
        (["0.000000000", "12.000000001"], ["0.000000000", "12.000000001"]),
    ],
    ids=["plain", "small", "zero"],
)
def test_decimals_have_all_their_digits(values, texts):
    scale = 2 if values[0] == "1.50" else 9
    numbers = [None if each is None else decimal.Decimal(each) for each in values]
    column = pa.array(numbers, pa.decimal128(20, scale))
    assert database._decimals(column).to_pylist() == texts


A_DAY = 86_400_000_000
DAYS = {
    "the day before the first": (-719_163, None),
    "the first": (-719_162, "0001-01-01"),
    "the last": (2_932_896, "9999-12-31"),
    "the day after the last": (2_932_897, None),
}


@pytest.mark.parametrize("what", DAYS)
def test_a_date_outside_of_four_digits_is_null(what):
    day, text = DAYS[what]
    texts, changed = database._times(pa.array([day, None], pa.date32()), copy=False)
    assert texts.to_pylist() == [text, None]
    assert changed == (text is None)


MICROSECONDS = {
    "just before the first": (-719_162 * A_DAY - 1, None),
    "the first": (-719_162 * A_DAY, "0001-01-01 00:00:00.000000"),
    "the last": (2_932_897 * A_DAY - 1, "9999-12-31 23:59:59.999999"),
    "just after the last": (2_932_897 * A_DAY, None),
}


@pytest.mark.parametrize("copy", [False, True], ids=["others", "copy"])
@pytest.mark.parametrize("zone", [None, "UTC"], ids=["local", "in UTC"])
@pytest.mark.parametrize("what", MICROSECONDS)
def test_a_time_outside_of_four_digits_is_null(what, zone, copy):
    since_1970, text = MICROSECONDS[what]
    column = pa.array([since_1970, None], pa.timestamp("us", zone))
    texts, changed = database._times(column, copy=copy)
    end = "Z" if zone and copy else ""
    assert texts.to_pylist() == [None if text is None else f"{text}{end}", None]
    assert changed == (text is None)


def test_a_time_of_another_unit_or_zone_is_one_in_utc():
    column = pa.array([1], pa.timestamp("ms", "Asia/Tokyo"))
    texts, _ = database._times(column, copy=True)
    assert texts.to_pylist() == ["1970-01-01 00:00:00.001000Z"]
    column = pa.array([1], pa.timestamp("ms", "Asia/Tokyo"))
    texts, _ = database._times(column, copy=False)
    assert texts.to_pylist() == ["1970-01-01 00:00:00.001000"]


@pytest.mark.parametrize(
    ("flags", "count"),
    [([True, False, None, True], 2), ([], 0), ([None], 0)],
    ids=["some", "none", "null"],
)
def test_flags_are_counted(flags, count):
    assert database._count(pa.array(flags, pa.bool_())) == count


# --- values that are read back


BOOLEAN, TEXT = T.BooleanType(), T.StringType()
IN_JSON: dict[str, tuple[Any, T.DataType | None, str | None]] = {
    "null": (None, TEXT, None),
    "true of sqlite": (1, BOOLEAN, "true"),
    "false of sqlite": (0, BOOLEAN, "false"),
    "true": (True, BOOLEAN, "true"),
    "a number in place of a boolean": (2, BOOLEAN, "2"),
    "a boolean in place of a number": (True, T.IntegerType(), "1"),
    "false in place of a number": (False, None, "0"),
    "an integer": (12, T.LongType(), "12"),
    "a float": (0.1, T.DoubleType(), "0.1"),
    "a decimal": (decimal.Decimal("1.500"), T.DecimalType(5, 3), "1.5"),
    "infinity": (math.inf, T.DoubleType(), '"Infinity"'),
    "minus infinity": (-math.inf, T.DoubleType(), '"-Infinity"'),
    "no number": (math.nan, T.DoubleType(), '"NaN"'),
    "no decimal": (decimal.Decimal("NaN"), None, '"NaN"'),
    "a text": ('ä"', TEXT, '"ä\\""'),
    "bytes": (b"\0\xff", T.BinaryType(), '"AP8="'),
    "a view of bytes": (memoryview(b"\0\xff"), T.BinaryType(), '"AP8="'),
    "a text of a time": (
        "2026-01-31 12:00:00.000001",
        T.TimestampType(),
        '"2026-01-31T12:00:00.000001Z"',
    ),
    "a text of a time with its zone": (
        "2026-01-31 12:00:00.000001Z",
        T.TimestampType(),
        '"2026-01-31T12:00:00.000001Z"',
    ),
    "a local time": (
        "2026-01-31 12:00:00.000001",
        T.TimestampNTZType(),
        '"2026-01-31T12:00:00.000001"',
    ),
    "a local time with a zone": (
        "2026-01-31 12:00:00.000001Z",
        T.TimestampNTZType(),
        '"2026-01-31T12:00:00.000001Z"',
    ),
    "a time in place of a text": (
        "2026-01-31 12:00:00.000001",
        TEXT,
        '"2026-01-31 12:00:00.000001"',
    ),
    "a text in place of a time": ("noon", T.TimestampType(), '"noon"'),
    "a text in place of a local time": ("noon", T.TimestampNTZType(), '"noon"'),
    "a time with more behind it": (
        "2026-01-31 12:00:00.000001Z.",
        T.TimestampType(),
        '"2026-01-31 12:00:00.000001Z."',
    ),
    "a time of the driver": (
        dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        T.TimestampType(),
        '"2026-01-31T10:00:00.000000Z"',
    ),
    "a local time of the driver": (
        dt.datetime(2026, 1, 31, 12),  # noqa: DTZ001 - without a zone
        T.TimestampNTZType(),
        '"2026-01-31T12:00:00.000000"',
    ),
    "a time of the driver in place of a text": (
        dt.datetime(2026, 1, 31, 12),  # noqa: DTZ001 - without a zone
        TEXT,
        '"2026-01-31 12:00:00.000000"',
    ),
    "a date": (dt.date(2026, 1, 31), T.DateType(), '"2026-01-31"'),
}


@pytest.mark.parametrize("what", IN_JSON)
def test_a_value_of_a_database_as_a_text_of_json(what):
    value, kind, text = IN_JSON[what]
    assert database.as_json(value, kind) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (decimal.Decimal("1.00"), "1"),
        (100, "100"),
        (decimal.Decimal("1E+2"), "100"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (decimal.Decimal("-0.00"), "0"),
        (-0.5, "-0.5"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (decimal.Decimal("0.1000000000000000000000000000001"), f"0.1{'0' * 29}1"),
    ],
    ids=str,
)
def test_equal_numbers_have_equal_texts(number, text):
    assert database._as_number(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.datetime(1, 1, 1), "0001-01-01 00:00:00.000000"),  # noqa: DTZ001 - without a zone
        (dt.datetime(2026, 1, 2, tzinfo=IN_UTC), "2026-01-02 00:00:00.000000Z"),
        (
            dt.datetime(
                2026, 1, 2, 1, 0, 0, 7, tzinfo=dt.timezone(dt.timedelta(hours=1))
            ),
            "2026-01-02 00:00:00.000007Z",
        ),
    ],
    ids=["without a zone", "in UTC", "with a zone"],
)
def test_a_time_is_as_it_was_written(value, text):
    assert database._as_time(value) == text
