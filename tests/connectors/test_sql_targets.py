"""Which table `sinks.sql_table` writes to: its identity, its names, and what its database says."""

import os
import re
import threading

import pytest
import sqlalchemy as sa
from conftest import refusal
from support import mariadb, sink_contract
from support.sink_contract import Adaptor, Stream
from support.sink_streams import TOTALS, finish, refused, totals
from support.sql import DATABASES, new, sql

from sparkstream_kit import feeds, sinks, start
from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.sql_table import database
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks.base import open_batch_sink


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    """An empty database."""
    return new(request.param, tmp_path)


# --- a table that was made again


CHANGES = {
    "removed": ("DROP TABLE t",),
    "made again": ("DROP TABLE t", "CREATE TABLE t (n INTEGER)"),
    "emptied": ("DELETE FROM t",),
}


def stream_into(spark, url, folder):
    """Return a stream of the contract into the table t."""

    def numbers():
        return sorted(n for (n,) in sql(url, "SELECT n FROM t"))

    return Stream(spark, folder, Adaptor(sinks.sql_table(url, "t"), numbers))


def changing(url, change):
    """Return a function that changes the table."""

    def do():
        for statement in CHANGES[change]:
            sql(url, statement)

    return do


@pytest.mark.fast("sqlite-made again")
@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_lost_all_rows_is_refused(spark, url, tmp_path, change):
    stream = stream_into(spark, url, tmp_path)
    sink_contract.a_target_made_again_is_refused(stream, changing(url, change))


@pytest.mark.fast("sqlite-emptied")
@pytest.mark.parametrize("change", CHANGES)
def test_so_it_is_while_the_query_runs(spark, url, tmp_path, change):
    stream = stream_into(spark, url, tmp_path)
    sink_contract.a_target_made_again_under_a_running_query_is_refused(
        stream, changing(url, change)
    )


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_take_over_goes_on_without_the_rows_that_are_lost(
    stream, url, tmp_path, change
):
    finish(stream.select("n"), sinks.sql_table(url, "t"), tmp_path / "ckpt")
    changing(url, change)()
    feeds.drip([("4.csv", "d,10\n")], tmp_path / "in")
    line = refused(stream.select("n"), sinks.sql_table(url, "t"), tmp_path / "ckpt")
    assert "; or, to go on without its rows, give take_over=True" in line
    finish(
        stream.select("n"), sinks.sql_table(url, "t", take_over=True), tmp_path / "ckpt"
    )
    feeds.drip([("5.csv", "e,20\n")], tmp_path / "in")
    finish(stream.select("n"), sinks.sql_table(url, "t"), tmp_path / "ckpt")
    assert sorted(sql(url, "SELECT n FROM t")) == [(10,), (20,)]


@pytest.mark.slow
def test_old_rows_may_go_and_a_query_may_write_none(stream, url, tmp_path):
    finish(stream.where("n > 100"), sinks.sql_table(url, "none"), tmp_path / "none")
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    finish(
        totals(stream),
        sinks.sql_table(url, "whole", how="replace"),
        tmp_path / "whole",
        "complete",
    )
    sql(url, "DELETE FROM t WHERE n < 3")
    sql(url, "DELETE FROM whole")
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    finish(stream.where("n > 100"), sinks.sql_table(url, "none"), tmp_path / "none")
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    finish(
        totals(stream),
        sinks.sql_table(url, "whole", how="replace"),
        tmp_path / "whole",
        "complete",
    )
    assert sorted(sql(url, "SELECT k, n FROM t")) == [("a", 10), ("b", 3), ("c", 3)]
    assert sorted(sql(url, "SELECT k, total FROM whole")) == [("a", 13), *TOTALS[1:]]


def test_a_ledger_of_an_earlier_version_is_refused_with_what_it_lacks(stream, tmp_path):
    url = new("sqlite", tmp_path)
    open_batch_sink(sinks.sql_table(url, "t"), stream, None)
    sql(url, "ALTER TABLE sparkstream_ledger DROP COLUMN written")
    line = refusal(open_batch_sink, sinks.sql_table(url, "t"), stream, None)
    sql(url, re.findall("run (ALTER .*)", line)[0])
    open_batch_sink(sinks.sql_table(url, "t"), stream, None)


# --- one table under two names


SPELLINGS = [("t", "T"), ("t", "main.t"), ("Main.t", "t"), ("v1.2", "V1.2")]


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_two_spellings_of_one_table_of_sqlite_are_one_target(
    stream, tmp_path, one, other
):
    url = new("sqlite", tmp_path)
    with pytest.raises(InvalidInputError, match="two sinks write to table"):
        sinks.fan_out(sinks.sql_table(url, one), sinks.sql_table(url, other))
    assert (
        len(
            sinks.fan_out(
                sinks.sql_table(url, "Ä"), sinks.sql_table(url, "ä")
            ).writes_to
        )
        == 2
    )
    batch = stream.sparkSession.createDataFrame([("a", 1)], "k STRING, n INT")
    open_batch_sink(sinks.sql_table(url, one), stream, None)(batch, 0)
    line = refusal(open_batch_sink, sinks.sql_table(url, other), stream, None)
    assert "was written by another query" in line  # and not by no query of the kit


def test_two_links_to_one_file_are_one_target(stream, tmp_path):
    url = new("sqlite", tmp_path)
    open_batch_sink(sinks.sql_table(url, "u"), stream, None)
    os.link(tmp_path / "test.db", tmp_path / "other.db")
    both = sinks.fan_out(
        sinks.sql_table(url, "t"),
        sinks.sql_table(f"sqlite:///{tmp_path}/other.db", "T"),
    )
    line = refusal(start, stream, both, name="q", checkpoint=tmp_path / "ckpt")
    assert re.search(
        r"table T in .* is the same as table t in .*; union their rows in the query",
        line,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_one_server_under_two_addresses_is_one_target(stream, tmp_path, name):
    url = new(name, tmp_path)
    local = url.replace("127.0.0.1", "localhost")
    with pytest.raises(InvalidInputError, match="two sinks write to table"):
        sinks.fan_out(sinks.sql_table(url, "t"), sinks.sql_table(local, "t"))
    if name == "postgresql":  # to another user it is the same table
        sql(url, "CREATE ROLE clerk SUPERUSER LOGIN PASSWORD 'x'")
        elsewhere, table = re.sub("//.*@", "//clerk:x@", url), "t"
    else:  # and so it is from another schema
        schema = sa.make_url(url).database
        elsewhere, table = url.replace(schema, "mysql"), f"{schema}.t"
        with pytest.raises(InvalidInputError, match="two sinks write to table t in"):
            sinks.fan_out(sinks.sql_table(url, "t"), sinks.sql_table(url, table))
    both = sinks.fan_out(sinks.sql_table(url, "t"), sinks.sql_table(elsewhere, table))
    line = refusal(start, stream, both, name="q", checkpoint=tmp_path / "ckpt")
    assert re.search(
        r"is the same as table t in .*; union their rows in the query", line
    )


@pytest.mark.fast("of0-k tea and k Tea have the same target, table tea in")
@pytest.mark.parametrize(
    ("of", "said"),
    [
        (("Tea", "tea"), "k tea and k Tea have the same target, table tea in"),
        (
            ("v1.2", "main.t"),
            "the dot in k main.t would lead to the schema main; replace it in the name",
        ),
    ],
)
def test_by_value_tells_tables_apart_as_the_database_does(stream, tmp_path, of, said):
    url = new("sqlite", tmp_path)
    feeds.drip([("0.csv", f"{of[0]},1\n"), ("00.csv", f"{of[1]},1\n")], tmp_path / "in")
    by = sinks.by_value("k", lambda value: sinks.sql_table(url, value))
    frame = stream.where(stream.k.isin(*of))
    assert said in refused(frame, by, tmp_path / "ckpt")


@pytest.mark.slow
def test_no_value_leads_to_another_schema(stream, tmp_path):
    url = new("postgresql", tmp_path)
    sql(url, "CREATE SCHEMA other")
    feeds.drip([("0.csv", "other.users,1\n")], tmp_path / "in")
    frame = stream.where("k = 'other.users'")
    line = refused(
        frame,
        sinks.by_value("k", lambda value: sinks.sql_table(url, value)),
        tmp_path / "ckpt",
    )
    assert "the dot in k other.users would lead to the schema other; replace it" in line
    plain = sinks.by_value(
        "k", lambda value: sinks.sql_table(url, value.replace(".", "_"))
    )
    finish(frame, plain, tmp_path / "ckpt")
    assert sql(url, "SELECT n FROM other_users") == [(1,)]


# --- names


NAMES = ("excluded", "Sparkstream_Stage", "a %(b)s")
CHANGED = {  # how the rows of two batches change a table: (a, 1), (b, 2), then (a, 5)
    "append": ((), [("a", 1), ("a", 5), ("b", 2)]),
    "upsert": (("k",), [("a", 5), ("b", 2)]),
    "replace": ((), [("a", 5)]),
}


@pytest.mark.fast("sqlite-upsert")
@pytest.mark.parametrize("how", CHANGED)
def test_a_table_and_its_columns_may_have_any_name(stream, url, how):
    keys, expected = CHANGED[how]
    spark = stream.sparkSession
    for name in NAMES:
        sink = sinks.sql_table(url, name, how=how, keys=keys, take_over=True)
        write = open_batch_sink(sink, stream.withColumnRenamed("n", name), None)
        for number, rows in enumerate(([("a", 1), ("b", 2)], [("a", 5)])):
            write(spark.createDataFrame(rows, f"k STRING, `{name}` INT"), number)
        assert sorted(sql(url, f'SELECT k, "{name}" FROM "{name}"')) == expected  # noqa: S608 - ours


@pytest.mark.parametrize(
    "name", ["sparkstream_ledger", "Sparkstream_Ledger", "main.sparkstream_ledger", ""]
)
def test_the_name_of_the_ledger_is_refused(tmp_path, name):
    line = refusal(sinks.sql_table, new("sqlite", tmp_path), name)
    assert re.search("give another table|is no name of a table", line)


def test_columns_that_are_one_to_the_database_are_refused(stream, tmp_path):
    sink = sinks.sql_table(new("sqlite", tmp_path), "t")
    line = refusal(open_batch_sink, sink, stream.selectExpr("k", "n AS K"), None)
    assert "column k appears twice; rename" in line
    assert "the query has no columns; select some" in refusal(
        open_batch_sink, sink, stream.select(), None
    )
    assert "a column has no name; give it one" in refusal(
        open_batch_sink, sink, stream.selectExpr("k AS ``"), None
    )


NO_TABLES = {
    "a view": ("CREATE VIEW t AS SELECT k, n FROM u", "view"),
    "a generated column": (
        "CREATE TABLE t (k {text}, n INTEGER GENERATED ALWAYS AS (1) STORED)",
        "itself",
    ),
}


@pytest.mark.parametrize("what", NO_TABLES)
def test_what_takes_no_rows_is_refused_at_the_start(stream, url, tmp_path, what):
    statement, said = NO_TABLES[what]
    text = "LONGTEXT COLLATE utf8mb4_nopad_bin" if url.startswith("mariadb") else "TEXT"
    sql(url, f"CREATE TABLE u (k {text}, n INTEGER)")
    rule = (
        "CREATE VIEW t AS SELECT k, max(n) AS n FROM u GROUP BY k"
        if url.startswith("post")
        else statement
    )
    sql(url, (rule if what == "a view" else statement).format(text=text))
    with pytest.raises(InvalidInputError, match=said) as no:
        start(stream, sinks.sql_table(url, "t"), name="q", checkpoint=tmp_path / "ckpt")
    assert no.value.exit_code == 2


# --- what the database says


def test_a_transaction_that_was_given_up_is_tried_again(stream, tmp_path, monkeypatch):
    url = new("sqlite", tmp_path)
    load, left = database.load, [*"four"]

    class GivenUpError(Exception):
        sqlstate = "40P01"

    def load_later(*args):
        changed = load(*args)
        if left:
            left.pop()
            raise sa.exc.OperationalError(
                "INSERT", {}, GivenUpError("deadlock detected")
            )
        return changed

    monkeypatch.setattr(database, "load", load_later)
    write = open_batch_sink(sinks.sql_table(url, "t"), stream, None)
    batch = stream.sparkSession.createDataFrame([("a", 1), ("b", 2)], "k STRING, n INT")
    write(batch, 0)
    assert sql(url, "SELECT k, n FROM t") == [("a", 1), ("b", 2)]
    left.extend("x" * _tables.TRIES)
    with pytest.raises(KitError, match="deadlock detected"):
        write(batch, 1)
    write(batch, 1)
    assert sql(url, "SELECT count(*) FROM t") == [(4,)]


@pytest.mark.slow
def test_a_deadlock_with_another_writer_is_no_end(stream, tmp_path, until):
    url = new("postgresql", tmp_path)
    sink = sinks.sql_table(url, "t", how="upsert", keys=["k"])
    write = open_batch_sink(sink, totals(stream), None)
    spark = stream.sparkSession
    write(
        spark.createDataFrame([("a", 1), ("b", 1)], "k STRING, total LONG").coalesce(1),
        0,
    )
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as other:
        other.execute(sa.text("UPDATE t SET total = 7 WHERE k = 'b'"))
        newer = spark.createDataFrame(
            [("a", 2), ("b", 2)], "k STRING, total LONG"
        ).coalesce(1)
        thread = threading.Thread(target=write, args=(newer, 1))
        thread.start()
        until(lambda: sql(url, waits))
        # Each waits for the other now
        other.execute(sa.text("UPDATE t SET total = 7 WHERE k = 'a'"))
        other.commit()
        thread.join()
    assert sorted(sql(url, "SELECT k, total FROM t")) == [("a", 2), ("b", 2)]


@pytest.mark.slow
@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_another_isolation_by_default_ends_no_query(stream, tmp_path, level):
    url = new("postgresql", tmp_path)
    sql(url, f"ALTER ROLE kit SET default_transaction_isolation = '{level}'")
    try:
        with database.connected(database.parse(url)) as connection:
            assert (
                connection.execute(sa.text("SHOW transaction_isolation")).scalar()
                == "read committed"
            )
    finally:
        sql(url, "ALTER ROLE kit RESET default_transaction_isolation")


@pytest.mark.slow
@pytest.mark.parametrize("password", ["pä", "p€", "p\U0001f600", "a b%@:/'\"\\"])
def test_a_password_of_mariadb_has_any_letters(stream, tmp_path, password):
    server, user = mariadb.server(), f"odd{ord(password[1])}"
    server.user(user, password)
    own = sa.make_url(server.database()).set(username=user, password=password)
    sink = sinks.sql_table(own.render_as_string(hide_password=False), "t")
    open_batch_sink(sink, stream, None)
    assert password not in repr(sink)


NO_LOG_INS = {
    "without a password": (
        "kit@",
        "no password supplied; give .* in PGPASSWORD or ~/.pgpass",
    ),
    "with a wrong one": (
        "kit:no@",
        "password authentication failed .* in PGPASSWORD or ~/.pgpass",
    ),
}


@pytest.mark.parametrize("how", NO_LOG_INS)
def test_a_log_in_that_postgresql_refuses_is_no_reason_to_start_again(
    stream, tmp_path, monkeypatch, how
):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    user, said = NO_LOG_INS[how]
    url = re.sub("//.*@", f"//{user}", new("postgresql", tmp_path))
    with pytest.raises(InvalidInputError, match=f"refuses the log-in: .*{said}") as no:
        open_batch_sink(sinks.sql_table(url, "t"), stream, None)
    assert no.value.exit_code == 2
    assert "cannot be reached" not in str(no.value)
    assert not isinstance(no.value, TransientError)


@pytest.mark.slow
def test_a_row_that_is_too_large_for_mariadb_is_said(stream, tmp_path):
    url = mariadb.server().database()
    write = open_batch_sink(sinks.sql_table(url, "t"), stream, None)
    # 16 MB are allowed
    large = stream.sparkSession.sql("SELECT repeat('it''s', 4500000) AS k, 1 AS n")
    with pytest.raises(
        KitError,
        match=r"a row has 22,\d+,\d+ bytes .* 16,777,216 \(max_allowed_packet\)",
    ) as no:
        write(large, 0)
    sql(url, re.findall("run (SET GLOBAL .*),", str(no.value))[0])
    try:
        write(large, 0)
    finally:
        sql(url, "SET GLOBAL max_allowed_packet = 16777216")
    assert sql(url, "SELECT length(k) FROM t") == [(18_000_000,)]
