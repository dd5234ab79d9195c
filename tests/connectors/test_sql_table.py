"""`connectors.sql_table.table` without Spark: names, the ledger, and a batch in a transaction."""

# ruff: noqa: SLF001 - the steps of the module are its own
import json
import sqlite3
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.connectors._tables import ConflictError
from sparkstream_kit.connectors.sql_table import database
from sparkstream_kit.connectors.sql_table import table as tables
from sparkstream_kit.connectors.sql_table.table import SqlTarget, _SqlLedger
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks.base import OTHER_TYPE, Target
from sparkstream_kit.sinks.ledger import Batch

SCHEMA = T.StructType().add("k", "string").add("n", "integer")
FRAME: Any = SimpleNamespace(schema=SCHEMA, columns=["k", "n"])
POSTGRESQL = "postgresql+psycopg://clerk@127.0.0.1/shop"
MARIADB = "mariadb+pymysql://clerk@db.example/shop"


def target_of(url, table="t", how="append", keys=(), *, take_over=False):
    return SqlTarget.of(sa.make_url(url), table, how, keys, take_over=take_over)


@pytest.fixture
def url(tmp_path):
    """The URL of an SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/t.db"


@pytest.fixture
def target(url):
    """The table t, for appends."""
    return target_of(url)


@pytest.fixture
def connection(target):
    """A connection to its database, which has the table and the ledger."""
    with database.connected(target.url) as connection:
        tables._create(connection, target.table(SCHEMA))
        tables._create(connection, _SqlLedger(connection, target).table)
        connection.commit()
        yield connection


@pytest.fixture
def ledger(connection, target):
    return _SqlLedger(connection, target)


def sql(url, statement):
    """Run a statement of another program, and return its rows."""
    path = str(sa.make_url(url).database)
    with closing(sqlite3.connect(path, timeout=0)) as other:
        found = other.execute(statement).fetchall()
        other.commit()
        return found


def entry(url, query="q"):
    """Return a query's batch, plan, epoch, driver and number of rows; None without an entry."""
    columns = "query_id, batch_id, plan, epoch, driver, written"
    for found, *noted in sql(url, f"SELECT {columns} FROM sparkstream_ledger"):  # noqa: S608 - ours
        if found == query:
            return tuple(noted)
    return None


def part(*rows):
    """Return rows of a batch as they come from Spark."""
    keys, numbers = zip(*rows, strict=True) if rows else ((), ())
    arrays = [pa.array(keys, pa.string()), pa.array(numbers, pa.int32())]
    return pa.RecordBatch.from_arrays(arrays, ["c0", "c1"])


def write(target, batch, *rows):
    """Write a batch, whose rows are computed."""
    parts: Any = [part(*rows)]
    target._write(batch, target.table(SCHEMA), parts)


def batch(number, query="q", **more):
    return Batch(query, number, **{"driver": "D", "plan": f"plan {number}"} | more)


# --- names


NAMES = {
    "a table": (MARIADB, "t", (None, "t")),
    "a schema": (MARIADB, "s.t", ("s", "t")),
    "two dots": (POSTGRESQL, "a.b.t", ("a.b", "t")),
    "no schema before the dot": (POSTGRESQL, ".t", (None, "t")),
    "of sqlite": ("sqlite:////t.db", "t", (None, "t")),
    "its only schema": ("sqlite:////t.db", "Main.t", ("Main", "t")),
    "a dot in sqlite": ("sqlite:////t.db", "v1.2", (None, "v1.2")),
    "a dot at its end": ("sqlite:////t.db", "v1.", (None, "v1.")),
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_is_that_of_a_table_in_a_schema(what):
    url, name, parts = NAMES[what]
    target = target_of(url, name, "upsert", ("k",), take_over=True)
    assert (target.schema, target.name) == parts
    assert (target.how, target.keys, target.take_over) == ("upsert", ("k",), True)


NO_NAMES = {
    "nothing": ("sqlite:////t.db", "", "'' is no name of a table"),
    "no table": (POSTGRESQL, "s.", "'s.' is no name of a table"),
    "no table of sqlite": ("sqlite:////t.db", "main.", "'main.' is no name of a table"),
}


@pytest.mark.parametrize("what", NO_NAMES)
def test_a_table_has_a_name(what):
    url, name, said = NO_NAMES[what]
    line = f"sql_table: {said}; give 'table' or 'schema.table'"
    assert refusal(target_of, url, name) == line


@pytest.mark.parametrize("name", ["sparkstream_ledger", "s.Sparkstream_LEDGER"])
def test_the_table_is_not_the_ledger(name):
    assert refusal(target_of, POSTGRESQL, name) == (
        "sql_table: the kit keeps its ledger in sparkstream_ledger; give another table"
    )


def test_a_table_of_sqlite_is_known_by_its_file_and_small_letters():
    assert target_of("sqlite:////data/t.db?timeout=5", "TÄ").where == Target(
        "table", "TÄ in sqlite:////data/t.db", "/data/t.db", "tÄ in /data/t.db", ""
    )


@pytest.mark.parametrize(
    ("url", "name", "shown", "known_as", "within"),
    [
        (
            POSTGRESQL,
            "T",
            f"T in {POSTGRESQL}",
            "T in postgresql+psycopg://clerk@localhost:5432/shop",
            "",
        ),
        (
            MARIADB,
            "s.t",
            f"s.t in {MARIADB}",
            "s.t in mariadb+pymysql://clerk@db.example:3306/shop",
            "s",
        ),
    ],
    ids=["postgresql", "mariadb"],
)
def test_a_table_of_a_server_is_known_by_its_address(
    url, name, shown, known_as, within
):
    where = target_of(url, name).where
    assert where == Target("table", shown, "", known_as, within)


@pytest.mark.parametrize(
    ("url", "name", "shown"),
    [
        (POSTGRESQL, "t", "t"),
        (POSTGRESQL, "public.t", "t"),
        (POSTGRESQL, "s.t", "s.t"),
        (MARIADB, "shop.t", "t"),
        (MARIADB, "public.t", "public.t"),
        ("sqlite:////t.db", "main.t", "t"),
    ],
)
def test_the_schema_by_default_is_not_said(url, name, shown):
    assert target_of(url, name).in_its_schema == shown


def test_a_table_of_sqlite_is_identified_by_its_file(target, url, tmp_path):
    assert target.identity() == f"t in {tmp_path}/t.db"
    sql(url, "CREATE TABLE t (v)")
    (tmp_path / "u.db").hardlink_to(tmp_path / "t.db")
    status = (tmp_path / "t.db").stat()
    other = target_of(f"sqlite:///{tmp_path}/u.db", "T")
    assert target.identity() == f"t in {status.st_dev}:{status.st_ino}"
    assert other.identity() == target.identity()


def test_a_table_of_a_server_is_identified_by_the_server(monkeypatch):
    # The server itself would be another process
    monkeypatch.setattr(database, "connected", lambda url: nullcontext(str(url)))
    monkeypatch.setattr(database, "identity", lambda *given: repr(given))
    assert target_of(POSTGRESQL, "s.T").identity() == repr((POSTGRESQL, "s", "T"))


def named(*names):
    schema = T.StructType()
    for name in names:
        schema.add(name, "integer")
    return schema


@pytest.mark.parametrize(
    ("name", "columns", "wrong"),
    [
        ("s" * 64 + ".t", ["k"], "s" * 64),
        ("t" * 64, ["k"], "t" * 64),
        ("t", ["k", "ä" * 32], "ä" * 32),
    ],
    ids=["schema", "table", "column"],
)
def test_a_name_that_postgresql_would_cut_is_refused(name, columns, wrong):
    target = target_of(POSTGRESQL, name)
    assert refusal(target.table, named(*columns)) == (
        f"sql_table: a name in PostgreSQL has at most 63 bytes, and {wrong} has 64;"
        " rename it"
    )


def test_a_name_as_long_as_postgresql_takes_it_is_taken():
    schema, name, column = "s" * 63, "t" * 63, "k" * 63
    table = target_of(POSTGRESQL, f"{schema}.{name}").table(named(column, "K", "k"))
    assert (table.schema, table.name) == (schema, name)
    assert table.columns.keys() == [column, "K", "k"]
    assert target_of(MARIADB, "t").table(named("k" * 64)).columns.keys() == ["k" * 64]


@pytest.mark.parametrize("url", ["sqlite:////t.db", MARIADB])
def test_two_columns_that_are_one_to_the_database_are_refused(url):
    assert refusal(target_of(url).table, named("n", "k", "K")) == (
        "sql_table: column k appears twice; rename or drop one"
    )
    assert target_of(url).table(named("Ä", "ä")).columns.keys() == ["Ä", "ä"]


def test_a_table_has_the_keys_and_quotes_that_each_name_needs():
    table = target_of(POSTGRESQL, "s.t", "upsert", ("k",)).table(SCHEMA)
    assert [column.name for column in table.primary_key] == ["k"]
    assert (table.name.quote, table.schema.quote) == (True, True)
    assert all(column.name.quote for column in table.columns)
    assert target_of(POSTGRESQL).named().columns.keys() == []


@pytest.mark.parametrize(
    ("name", "small"), [("T", "t"), ("Ä", "Ä"), ("aÄB", "aÄb")], ids=str
)
def test_sqlite_takes_the_letters_of_ascii_alone_for_the_same(name, small):
    assert tables._small(name) == small


# --- a start


def test_a_start_makes_the_table_and_the_ledger(target, url):
    assert target.prepare(FRAME, None, None, True) is None
    names = sql(url, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert sorted(names) == [("sparkstream_ledger",), ("t",)]
    assert sql(url, "SELECT count(*) FROM t") == [(0,)]
    assert target.prepare(FRAME, "q", None, True) is None


def test_a_look_makes_nothing(target, url, tmp_path):
    assert target.prepare(FRAME, None, None, False) is None
    assert not (tmp_path / "t.db").exists()
    sql(url, "CREATE TABLE other (v)")
    assert target.prepare(FRAME, None, None, False) is None
    assert sql(url, "SELECT name FROM sqlite_master") == [("other",)]


@pytest.mark.parametrize("has_file", [True, False], ids=["a file", "no file"])
def test_a_look_refuses_a_gap(target, url, has_file):
    if has_file:
        sql(url, "CREATE TABLE other (v)")
    said = refusal(target.prepare, FRAME, "q", batch(3), False)
    assert said.startswith(
        f"batch 3 is next, but table t in {url} holds none of this query's batches"
    )


def test_a_start_with_a_gap_makes_no_table(target, url):
    sql(url, "CREATE TABLE other (v)")
    refusal(target.prepare, FRAME, "q", batch(3), True)
    assert sql(url, "SELECT name FROM sqlite_master") == [("other",)]


def test_a_table_with_other_columns_is_refused(target, url):
    sql(url, "CREATE TABLE t (v)")
    said = refusal(target.prepare, FRAME, None, None, False)
    assert said.startswith(f"table t in {url} has other columns: ")


@pytest.mark.parametrize("makes", [True, False], ids=["start", "look"])
def test_a_table_with_rows_of_nobody_is_refused(target, url, makes):
    sql(url, "CREATE TABLE t (k TEXT, n INTEGER)")
    sql(url, "INSERT INTO t VALUES ('a', 1)")
    said = refusal(target.prepare, FRAME, None, None, makes)
    assert said.startswith(
        f"table t in {url} has rows that no query of the kit has written;"
    )


def test_the_next_plan_is_that_of_a_batch_that_is_there(target):
    target.prepare(FRAME, None, None, True)
    write(target, batch(0), ("a", 1))
    assert target.prepare(FRAME, "q", batch(0), True) == "plan 0"
    assert target.prepare(FRAME, "q", batch(1), True) is None


def test_a_table_of_another_query_is_refused_until_it_has_no_rows(target, url):
    target.prepare(FRAME, None, None, True)
    write(target, batch(0, "other"), ("a", 1))
    said = refusal(target.prepare, FRAME, "q", None, True)
    assert said.startswith(f"table t in {url} was written by another query (other, up")
    sql(url, "DELETE FROM t")
    target.prepare(FRAME, "q", None, False)
    assert entry(url, "other") is not None
    target.prepare(FRAME, "q", None, True)
    assert entry(url, "other") is None


def test_what_others_have_noted_goes_with_the_rows_and_what_is_noted_of_the_query_stays(
    target, url
):
    target.prepare(FRAME, None, None, True)
    write(target, batch(0), ("a", 1))
    sql(url, "DELETE FROM t")
    assert refusal(target.prepare, FRAME, "q", None, True).startswith(
        f"table t in {url} is empty, but this query has written its batches up to 0"
    )
    taking_over = replace(target, take_over=True)
    sql(url, "INSERT INTO t VALUES ('a', 1)")
    write(taking_over, batch(0, "other"), ("b", 1))
    sql(url, "DELETE FROM t")
    taking_over.prepare(FRAME, "q", None, True)
    assert entry(url) == (0, "plan 0", 1, "D", 1)
    assert entry(url, "other") is None


def test_entries_of_a_table_that_has_rows_stay(target, url):
    target.prepare(FRAME, None, None, True)
    write(target, batch(0, "other"), ("a", 1))
    replace(target, take_over=True).prepare(FRAME, "q", None, True)
    assert entry(url, "other") == (0, "plan 0", 1, "D", 1)


def test_entries_of_a_table_that_is_gone_go_when_it_is_made_again(target, url):
    target.prepare(FRAME, None, None, True)
    write(target, batch(0), ("a", 1))
    sql(url, "DROP TABLE t")
    assert refusal(target.prepare, FRAME, "q", None, True).startswith(
        f"table t in {url} is gone, but this query has written its batches up to 0"
    )
    target.prepare(FRAME, "another", None, True)
    assert entry(url) is None


def test_a_ledger_of_an_earlier_version_is_refused(target, url):
    target.prepare(FRAME, None, None, True)
    sql(url, "ALTER TABLE sparkstream_ledger DROP COLUMN written")
    assert refusal(target.prepare, FRAME, "q", None, False) == (
        f"the ledger of table t in {url} is of an earlier version; run ALTER TABLE"
        " sparkstream_ledger ADD COLUMN written BIGINT"
    )


def test_a_view_is_tried_out_and_refused(target, url):
    sql(url, "CREATE TABLE u (k TEXT, n INTEGER)")
    sql(url, "CREATE VIEW t AS SELECT * FROM u")
    assert refusal(target.prepare, FRAME, None, None, True) == (
        f"database {url}: cannot modify t because it is a view"
    )


def test_a_try_writes_nothing(target, url):
    sql(url, "CREATE TABLE t (k TEXT, n INTEGER)")
    sql(url, "INSERT INTO t VALUES ('a', 1)")
    for how in ("append", "replace"):
        replace(target, how=how)._try_out(target.table(SCHEMA))
    assert sql(url, "SELECT * FROM t") == [("a", 1)]
    assert sql(url, "SELECT name FROM sqlite_master") == [("t",)]


def test_a_try_of_a_replace_tries_to_delete(target, url):
    sql(url, "CREATE TABLE u (k TEXT, n INTEGER)")
    sql(url, "CREATE VIEW t AS SELECT * FROM u")
    sql(url, "CREATE TRIGGER adds INSTEAD OF INSERT ON t BEGIN SELECT 1; END")
    target._try_out(target.table(SCHEMA))
    with pytest.raises(KitError, match="cannot modify t because it is a view"):
        replace(target, how="replace")._try_out(target.table(SCHEMA))


@pytest.fixture
def waits(monkeypatch):
    """The seconds for which the kit would wait for a lock; it does not."""
    asked = []
    wait_at_most = database.wait_at_most

    def wait(connection, seconds):
        asked.append(seconds)
        wait_at_most(connection, 0)

    monkeypatch.setattr(database, "wait_at_most", wait)
    return asked


@contextmanager
def locked(url):
    """Lock a database, as another process does."""
    path = str(sa.make_url(url).database)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def test_a_try_of_a_table_that_is_locked_is_left_to_the_first_batch(target, url, waits):
    sql(url, "CREATE TABLE t (k TEXT, n INTEGER)")
    with locked(url):
        target._try_out(target.table(SCHEMA))
    assert waits == [1]


def test_a_start_takes_the_next_epoch(target, url):
    target.prepare(FRAME, None, None, True)
    target.take("q", "first", FRAME)
    assert entry(url) == (-2, None, 1, "first", None)
    target.take("q", "second", FRAME)
    assert entry(url) == (-2, None, 2, "second", None)


def test_a_start_that_gave_way_to_another_is_tried_again(target, url, monkeypatch):
    target.prepare(FRAME, None, None, True)
    given_up = []

    def lock(_ledger, patience):
        given_up.append(patience)
        if len(given_up) < 3:
            raise ConflictError("for another")

    monkeypatch.setattr(_SqlLedger, "lock", lock)
    target.take("q", "first", FRAME)
    assert given_up == [30, 30, 30]
    assert entry(url) == (-2, None, 1, "first", None)


def test_a_start_waits_for_another_driver_and_names_it(target, url, waits):
    target.prepare(FRAME, None, None, True)
    target.take("q", "first", FRAME)
    waits.clear()
    with locked(url), pytest.raises(TransientError) as no:
        target.take("q", "second", FRAME)
    assert str(no.value) == (
        f"table t in {url}: another process has locked the ledger for 30 s, such as the"
        " query's last driver (not known); end that process, and start again"
    )
    assert waits == [30, 1]


def test_the_driver_that_holds_the_lock_is_named(target, url, waits):
    target.prepare(FRAME, None, None, True)
    target.take("q", "first", FRAME)
    path = str(target.url.database)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # others may read
        with pytest.raises(TransientError, match=r"driver \(epoch 1, first\); end"):
            target.take("q", "second", FRAME)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KitError("no right"), InvalidInputError),
        (TransientError("away"), TransientError),
        (ConflictError("for another"), ConflictError),
        (InvalidInputError("wrong"), InvalidInputError),
    ],
    ids=["refused", "away", "given up", "wrong"],
)
def test_what_a_database_refuses_at_a_start_it_will_refuse_again(
    target, raised, expected
):
    with pytest.raises(expected) as no, tables._connected_to_start(target, "q"):
        raise raised
    assert type(no.value) is expected
    assert str(no.value) == str(raised)


# --- a batch


def test_a_batch_and_its_entry_are_written_at_once(target, url):
    target.prepare(FRAME, None, None, True)
    write(target, batch(0), ("a", 1), ("b", 2))
    assert sql(url, "SELECT * FROM t") == [("a", 1), ("b", 2)]
    assert entry(url) == (0, "plan 0", 1, "D", 2)
    write(target, batch(1), ("c", 3))
    write(target, batch(2))
    assert sql(url, "SELECT count(*) FROM t") == [(3,)]
    assert entry(url) == (2, "plan 2", 1, "D", 3)


def test_changed_values_are_warned_of(target, url, caplog):
    target.prepare(FRAME, None, None, True)
    bad = pa.array([b"\xff", b"a"], pa.binary()).view(pa.string())
    rows = pa.RecordBatch.from_arrays([bad, pa.array([1, 2], pa.int32())], ["a", "b"])
    parts: Any = [rows]
    target._write(batch(7), target.table(SCHEMA), parts)
    assert caplog.messages == [
        (
            "batch 7 for table t: 1 values are changed: bytes that are not UTF-8 become"
            r" \xff, times out of range null"
        )
    ]
    caplog.clear()
    write(target, batch(8), ("a", 1))
    assert caplog.messages == []


def test_a_value_that_the_table_would_change_is_refused_with_its_batch(url):
    target = target_of(url)
    sql(url, "CREATE TABLE t (k TEXT, n INTEGER PRIMARY KEY)")
    target.prepare(FRAME, None, None, True)
    said = refusal(write, target, batch(7), ("a", None))
    assert said.startswith(f"batch 7 for table t in {url}: column n is null, in place")
    assert entry(url) is None


def test_a_table_that_is_emptied_while_a_batch_is_computed_is_refused(target, url):
    target.prepare(FRAME, None, None, True)
    write(target, batch(0), ("a", 1))
    sql(url, "DELETE FROM t")
    assert "is empty, but this query has written its batches up to 1" in refusal(
        write, target, batch(1), ("b", 1)
    )
    assert entry(url) == (0, "plan 0", 1, "D", 1)


@pytest.mark.parametrize(
    ("how", "keys", "there"),
    [
        ("append", (), [("a", 1), ("a", 5), ("b", 2)]),
        ("upsert", ("k",), [("a", 5), ("b", 2)]),
        ("replace", (), [("a", 5)]),
    ],
)
def test_the_rows_of_a_batch_change_the_table(url, how, keys, there):
    target = target_of(url, "t", how, keys)
    target.prepare(FRAME, None, None, True)
    write(target, batch(0), ("a", 1), ("b", 2))
    write(target, batch(1), ("a", 5))
    assert sql(url, "SELECT * FROM t ORDER BY k, n") == there


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([("a", 1), ("a", 2)], "is the same in two rows; use the columns that the"),
        ([(None, 1)], "is null; fill it with F.coalesce, or leave such rows out"),
    ],
    ids=["twice", "null"],
)
def test_an_upsert_of_rows_that_no_key_tells_apart_is_refused(url, rows, wrong):
    target = target_of(url, "t", "upsert", ("k",))
    target.prepare(FRAME, None, None, True)
    said = refusal(write, target, batch(7), *rows)
    assert said.startswith(f"batch 7 for table t: key k {wrong}")


def test_rows_are_the_same_in_all_keys_or_not_the_same(url):
    target = target_of(url, "t", "upsert", ("k", "n"))
    target.prepare(FRAME, None, None, True)
    write(target, batch(0), ("a", 1), ("a", 2), ("b", 1))
    assert sql(url, "SELECT count(*) FROM t") == [(3,)]
    refusal(write, target, batch(1), ("a", None))


@pytest.fixture
def kept(monkeypatch):
    """The batches that were computed; each has one row."""
    computed = []

    @contextmanager
    def keep(frame):
        computed.append(frame)
        yield [part(("a", 1))]

    # The rows would come from Spark
    monkeypatch.setattr(arrow, "kept", keep)
    return computed


@pytest.fixture
def passed(monkeypatch):
    """The batches that were read and discarded."""
    skipped: list[Any] = []
    monkeypatch.setattr(tables, "pass_over", lambda *given: skipped.append(given))
    return skipped


def test_a_batch_that_is_there_is_passed_over(target, url, kept, passed):
    target.prepare(FRAME, None, None, True)
    target.write(batch(0, plan=None), FRAME)
    assert (kept, passed) == ([FRAME], [])
    target.write(batch(0, plan=None), FRAME)
    assert (kept, passed) == ([FRAME], [(FRAME, batch(0, plan=None), "table t")])
    assert sql(url, "SELECT * FROM t") == [("a", 1)]


def test_a_batch_that_gave_way_to_another_transaction_is_tried_again(
    target, url, kept, passed, monkeypatch
):
    target.prepare(FRAME, None, None, True)
    merge = tables._merge
    given_up: list[Any] = []

    def merge_later(*given):
        merge(*given)
        if len(given_up) < 2:
            given_up.append(given)
            raise ConflictError("for another")

    monkeypatch.setattr(tables, "_merge", merge_later)
    target.write(batch(0), FRAME)
    assert kept == [FRAME]  # computed once
    assert sql(url, "SELECT * FROM t") == [("a", 1)]


def test_a_batch_that_the_ledger_refuses_is_not_computed(target, kept):
    target.prepare(FRAME, None, None, True)
    refusal(target.write, batch(5), FRAME)
    assert kept == []


# --- rows that are read back


class Spark:
    """A session that keeps what a DataFrame is made of."""

    def createDataFrame(self, rows, schema):
        return rows, {field.name: field.metadata for field in schema}


SPARK: Any = Spark()
NOWHERE: Any = None


def test_rows_are_read_back_as_texts_of_json(target, url):
    sql(url, "CREATE TABLE t (n REAL, k TEXT, more BLOB)")
    sql(url, "INSERT INTO t VALUES (1.5, 'a', x'00'), (NULL, '1', 7)")
    rows, columns = target.rows(SPARK, SCHEMA, NOWHERE)
    assert rows == [["1.5", '"a"', '"AA=="'], [None, '"1"', "7"]]
    assert columns == {
        "n": {
            OTHER_TYPE: {
                "is": "REAL in the target, and INTEGER in the changed query",
                "fits": False,
            }
        },
        "k": {},
        "more": {},
    }


def test_the_types_of_the_query_say_what_the_database_does_not(target, url):
    sql(url, "CREATE TABLE t (yes BOOLEAN, n BOOLEAN)")
    sql(url, "INSERT INTO t VALUES (1, 1)")
    schema = T.StructType().add("yes", "boolean").add("n", "integer")
    rows, _ = target.rows(SPARK, schema, NOWHERE)
    assert rows == [["true", "1"]]


@pytest.mark.parametrize("has_file", [True, False], ids=["a file", "no file"])
def test_a_table_that_is_gone_is_not_read_back(target, url, tmp_path, has_file):
    if has_file:
        sql(url, "CREATE TABLE other (v)")
    assert refusal(target.rows, SPARK, SCHEMA, NOWHERE) == (
        f"table t in {url} is gone, but this query is compared with its rows; restore it"
    )
    assert (tmp_path / "t.db").exists() == has_file


def test_rows_as_the_table_would_have_them_need_no_table(target, kept, tmp_path):
    frame: Any = SimpleNamespace(schema=SCHEMA, columns=["k", "n"], sparkSession=SPARK)
    rows, columns = target.written(frame, "folder")
    assert rows == [['"a"', "1"]]
    assert columns == {"k": {}, "n": {}}
    assert list(tmp_path.iterdir()) == []


# --- the ledger


def test_a_ledger_that_is_not_made_has_no_entries(target, url):
    sql(url, "CREATE TABLE t (k TEXT, n INTEGER)")
    with database.connected(target.url) as connection:
        ledger = _SqlLedger(connection, target)
        ledger.check_itself()
        assert ledger.entries() == {}
        assert ledger.last_batch("q") is None
        assert not ledger.lacks_rows()


def test_entries_are_those_of_the_table(ledger, connection):
    ledger.take("q", "D")
    ledger._enter("other", "E", 4, "plan")
    ledger._name = "u"  # of another table
    ledger._enter("third", "F", 5)
    ledger._name = "t"
    found = ledger.entries()
    assert {name: (each["batch"], each["epoch"]) for name, each in found.items()} == {
        "q": (None, 1),
        "other": (4, 1),
    }
    assert found["other"]["plan"] == "plan"
    assert found["other"]["driver"] == "E"


def test_an_entry_is_found_in_any_case_of_the_name_in_sqlite(ledger, connection, url):
    ledger._enter("q", "D", 4)
    other = _SqlLedger(connection, target_of(url, "T"))
    assert other.last_batch("q") == 4


def test_only_the_driver_of_the_newest_epoch_moves_on(ledger):
    assert not ledger.advance(batch(0))  # there is no entry
    ledger.take("q", "D")
    assert not ledger.advance(batch(0))  # nor a batch
    ledger.add(batch(0))
    assert ledger.last_batch("q") == 0
    assert not ledger.advance(batch(0))
    assert ledger.advance(batch(1))
    assert (ledger.last_batch("q"), ledger.last_plan("q")) == (1, "plan 1")
    assert not ledger.advance(batch(2, driver="E"))
    assert ledger.last_batch("q") == 1
    assert ledger.epoch("q") == (1, "D")


def test_a_whole_result_may_come_again(connection, url):
    ledger = _SqlLedger(connection, target_of(url, how="replace"))
    ledger.take("q", "D")
    assert not ledger.advance(batch(3))
    ledger.add(batch(3))
    assert ledger.advance(batch(3))
    assert ledger.advance(batch(2))
    assert ledger.last_batch("q") == 2


def test_a_first_batch_enters_the_query_if_no_start_has(ledger):
    ledger.add(batch(0))
    assert (ledger.last_batch("q"), ledger.epoch("q")) == (0, (1, "D"))
    assert ledger.last_plan("q") == "plan 0"


def test_others_are_forgotten(ledger):
    for query in ("a", "b", "c"):
        ledger._enter(query, "D", 0)
    ledger._name = "u"
    ledger._enter("d", "D", 0)
    ledger._name = "t"
    ledger.forget(but="b")
    assert [*ledger.entries()] == ["b"]
    ledger.forget()
    assert not ledger.entries()
    ledger._name = "u"
    assert [*ledger.entries()] == ["d"]


def counted(ledger, connection, *rows):
    stage = tables._stage(ledger._target.table(SCHEMA))
    stage.drop(connection, checkfirst=True)
    stage.create(connection)
    database.load(connection, stage, iter([part(*rows)]))
    ledger.count("q", stage)
    return ledger.of("q")["written"]


def test_the_rows_that_a_query_has_written_are_counted(ledger, connection):
    ledger._enter("q", "D", 0)
    ledger._enter("other", "D", 0)
    assert counted(ledger, connection) is None
    assert counted(ledger, connection, ("a", 1)) == 1
    assert counted(ledger, connection, ("a", 1), ("b", 1)) == 3
    assert counted(ledger, connection) == 3
    assert ledger.of("other")["written"] is None


def test_a_table_that_lost_all_rows_lacks_them(ledger, connection):
    assert not ledger.has_rows()
    ledger._enter("other", "D", 0)
    assert not ledger.lacks_rows()  # which it has never written
    ledger._enter("q", "D", 0)
    counted(ledger, connection, ("a", 1))
    assert ledger.lacks_rows()
    connection.exec_driver_sql("INSERT INTO t VALUES ('a', 1)")
    assert ledger.has_rows()
    assert not ledger.lacks_rows()


def test_a_table_is_kept_while_it_has_rows_or_has_got_none(ledger, connection, url):
    ledger._enter("q", "D", 4)
    ledger.check_kept("q")
    counted(ledger, connection, ("a", 1))
    assert refusal(ledger.check_kept, "q").startswith(
        f"table t in {url} is empty, but this query has written its batches up to 4"
    )
    ledger.check_kept("another")
    ledger.check_kept(None)
    connection.exec_driver_sql("INSERT INTO t VALUES ('a', 1)")
    ledger.check_kept("q")
    connection.exec_driver_sql("DROP TABLE t")
    assert refusal(ledger.check_kept, "q").startswith(
        f"table t in {url} is gone, but this query has written its batches up to 4"
    )
    ledger.check_kept("another")


def test_the_way_back_is_a_statement_that_runs(ledger, connection):
    ledger._enter("q", "D", 4, "plan")
    counted(ledger, connection, ("a", 1))
    said = ledger.set_back_command("q", 2)
    assert said == (
        'run UPDATE sparkstream_ledger SET batch_id=2, "plan"=NULL, written=NULL WHERE'
        " sparkstream_ledger.table_name = 't' AND sparkstream_ledger.query_id = 'q'"
    )
    connection.exec_driver_sql(said.removeprefix("run "))
    assert ledger.of("q")["batch"] == 2
    assert ledger.of("q")["written"] is None


@pytest.mark.parametrize("name", ["first", "other"])
def test_a_batch_is_noted_only_for_the_newest_driver(ledger, name):
    ledger.take("q", "first")
    ledger.take("q", "other")
    if name == "other":
        tables._advance(ledger, batch(0, driver=name))
        assert ledger.last_batch("q") == 0
        return
    said = refusal(tables._advance, ledger, batch(0, driver=name))
    assert said.startswith("another driver has started to write to table t in ")
    assert "(epoch 2, other); this one ends" in said


def test_a_batch_that_another_driver_has_noted_meanwhile_is_refused(ledger):
    ledger._enter("q", "D", 3)
    assert refusal(tables._advance, ledger, batch(3)) == (
        "batch 3 was written by another driver of this query in the meantime; stop one"
        " of them"
    )
    tables._advance(ledger, batch(4))
    assert ledger.last_batch("q") == 4


def test_a_first_batch_looks_again_for_another_query(ledger):
    ledger._enter("other", "D", 3)
    said = refusal(tables._advance, ledger, batch(0))
    assert "was written by another query (other, up to its batch 3)" in said
    assert ledger.last_batch("q") is None


@pytest.mark.parametrize(
    ("how", "left"), [("append", ["other", "q"]), ("replace", ["q"])]
)
def test_who_replaces_all_rows_forgets_the_others(connection, url, how, left):
    ledger = _SqlLedger(connection, target_of(url, how=how, take_over=True))
    ledger._enter("other", "D", 3)
    tables._advance(ledger, batch(0))
    assert sorted(ledger.entries()) == left


def test_a_first_batch_waits_for_that_of_another_query(ledger, monkeypatch):
    patience: list[int] = []
    monkeypatch.setattr(ledger, "lock", patience.append)
    tables._advance(ledger, batch(0))
    tables._advance(ledger, batch(1))
    assert patience == [600]


class Asked:
    """A connection to a server that keeps its statements; each answer is the same number."""

    def __init__(self, url, answer: Any = 1):
        self.dialect = sa.make_url(url).get_dialect()()
        self._answer = answer
        self.statements: list[str] = []

    def exec_driver_sql(self, statement):
        self.statements.append(statement)

    def execute(self, statement):
        options = {"literal_binds": True}
        text = statement.compile(dialect=self.dialect, compile_kwargs=options)
        self.statements.append(" ".join(str(text).split()))
        return SimpleNamespace(scalar=lambda: self._answer)


def ledger_at(connection, url, name="t"):
    return _SqlLedger(connection, target_of(url, name))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("t", "sparkstream_ledger None.t"),
        ("public.t", "sparkstream_ledger None.t"),
        ("s.t", "sparkstream_ledger s.t"),
    ],
)
def test_a_lock_of_postgresql_has_the_name_of_the_table(name, key):
    asked: Any = Asked(POSTGRESQL, answer=None)
    ledger_at(asked, POSTGRESQL, name).lock(30)
    assert len(asked.statements) == 1
    assert asked.statements[0].startswith(
        f"SELECT pg_advisory_xact_lock(hashtextextended('{key}', 0))"
    )


def test_a_lock_of_mariadb_is_waited_for():
    asked: Any = Asked(MARIADB, answer=1)
    ledger_at(asked, MARIADB, "s.T").lock(30)
    assert asked.statements[0] == "SELECT @@lower_case_table_names"
    assert asked.statements[1].startswith(
        "SELECT get_lock(md5('sparkstream_ledger s.t'), 30)"
    )


@pytest.mark.parametrize("answer", [0, None])
def test_a_lock_of_mariadb_that_does_not_come_is_told(answer):
    asked: Any = Asked(MARIADB, answer)
    with pytest.raises(database.LockedError) as no:
        ledger_at(asked, MARIADB, "s.t").lock(30)
    assert str(no.value) == (
        "table t is locked by the first batch of another query for 30 s; start again"
        " when that has ended"
    )


def test_sqlite_needs_no_lock(ledger, connection, monkeypatch):
    monkeypatch.setattr(
        connection, "execute", lambda _: pytest.fail("it is not asked"), raising=False
    )
    ledger.lock(30)


@pytest.mark.parametrize(
    ("url", "answer", "name"),
    [
        (MARIADB, 1, "t"),
        (MARIADB, 0, "T"),
        (POSTGRESQL, 1, "T"),
    ],
    ids=["mariadb in small letters", "mariadb", "postgresql"],
)
def test_a_table_has_its_name_in_the_ledger(url, answer, name):
    asked: Any = Asked(url, answer)
    assert ledger_at(asked, url, "T")._name == name


# --- statements


def inserting(url, how="append", keys=("k",), name="t"):
    """Return the statement that inserts the staged rows."""
    target = target_of(url, name, how, keys)
    asked: Any = Asked(url)
    table = target.table(SCHEMA)
    tables._insert(asked, target, table, tables._stage(table))
    [statement] = asked.statements
    return statement


OF_STAGE = "SELECT {0} FROM sparkstream_stage WHERE true"


def test_rows_are_inserted_by_their_names():
    assert inserting("sqlite:////t.db", name='a "b" %') == (
        'INSERT INTO "a ""b"" %" AS target ("k", "n") SELECT "k", "n" FROM'
        " sparkstream_stage WHERE true"
    )
    assert inserting(MARIADB, name="s.t") == (
        "INSERT INTO `s`.`t` (`k`, `n`) SELECT `k`, `n` FROM sparkstream_stage WHERE"
        " true"
    )


def test_rows_of_an_upsert_overwrite_those_with_the_same_keys():
    assert inserting(POSTGRESQL, "upsert", ("k", "n")) == (
        'INSERT INTO "t" AS target ("k", "n") SELECT "k", "n" FROM sparkstream_stage'
        ' WHERE true ON CONFLICT ("k", "n") DO UPDATE SET "k" = excluded."k", "n" ='
        ' excluded."n"'
    )
    assert inserting(MARIADB, "upsert") == (
        "INSERT INTO `t` (`k`, `n`) SELECT `k`, `n` FROM sparkstream_stage WHERE true ON"
        " DUPLICATE KEY UPDATE `k` = VALUES(`k`), `n` = VALUES(`n`)"
    )


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("t", "sparkstream_stage"),
        ("sparkstream_stage", "sparkstream_stage_of_rows"),
        ("Sparkstream_Stage", "sparkstream_stage_of_rows"),
    ],
)
def test_the_stage_never_has_the_name_of_the_table(name, stage):
    table = target_of("sqlite:////t.db", name).table(SCHEMA)
    assert tables._stage(table).name == stage


def test_the_stage_has_the_columns_and_is_seen_by_nobody_else(connection, target, url):
    stage = tables._stage(target.table(SCHEMA))
    assert stage.columns.keys() == ["k", "n"]
    assert not stage.primary_key.columns
    stage.create(connection)
    connection.commit()
    names = sql(url, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert sorted(names) == [("sparkstream_ledger",), ("t",)]


def test_a_table_that_is_there_is_not_made(connection, target, monkeypatch):
    other = sa.Table("other", sa.MetaData(), sa.Column("v", sa.Integer))
    tables._create(connection, other)
    assert sa.inspect(connection).has_table("other")
    monkeypatch.setattr(
        connection, "execute", lambda _: pytest.fail("it is made"), raising=False
    )
    tables._create(connection, other)


def test_values_without_a_kind_of_the_query_are_texts_too(connection):
    connection.exec_driver_sql("CREATE TABLE u (a, b)")
    connection.exec_driver_sql("INSERT INTO u VALUES (1, 'x')")
    others = {"b": {"is": "other", "fits": True}}
    table = sa.Table("u", sa.MetaData())
    read: Any = tables._as_json(
        SPARK, connection, table, ["a", "b"], T.StructType(), others
    )
    rows, columns = read
    assert rows == [["1", json.dumps("x")]]
    assert columns == {"a": {}, "b": {OTHER_TYPE: {"is": "other", "fits": True}}}


def test_rows_are_staged_in_the_database_of_a_server(monkeypatch, kept):
    asked = []

    def connected(url):
        asked.append(url.get_backend_name())
        raise TransientError("away")

    # The server would be another process
    monkeypatch.setattr(database, "connected", connected)
    for url in (POSTGRESQL, "sqlite:////data/t.db"):
        with pytest.raises(TransientError):
            target_of(url).written(FRAME, "folder")
    assert asked == ["postgresql", "sqlite"]


def test_an_entry_without_an_epoch_takes_the_first(ledger, connection):
    ledger._enter("q", "D", 3)
    connection.exec_driver_sql("UPDATE sparkstream_ledger SET epoch = NULL")
    ledger.take("q", "E")
    assert ledger.epoch("q") == (1, "E")
    assert ledger.last_batch("q") == 3


def test_the_ledger_has_room_for_names_and_plans():
    asked: Any = Asked(MARIADB)
    ledger = ledger_at(asked, MARIADB, "s.t")
    made = str(sa.schema.CreateTable(ledger.table).compile(dialect=asked.dialect))
    lines = [line.strip("\t ,") for line in made.splitlines()]
    assert "CREATE TABLE s.sparkstream_ledger (" in lines
    assert "table_name VARCHAR(255) NOT NULL" in lines
    assert "query_id VARCHAR(64) NOT NULL" in lines
    assert "batch_id BIGINT NOT NULL" in lines
    assert "plan LONGTEXT" in lines
    assert "driver VARCHAR(255)" in lines
    assert "PRIMARY KEY (table_name, query_id)" in lines
