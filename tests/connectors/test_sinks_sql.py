"""`sinks.sql_table` in SQLite, PostgreSQL and MariaDB.

What holds for Delta too is in test_tables.py.
"""

import datetime as dt
import logging
import re
import sys
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import failure, ran, refusal
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from support import mariadb, postgresql, sink_contract
from support.sink_streams import (
    CASES,
    connected,
    finish,
    forget_commit,
    refused,
    totals,
)
from support.sql import DATABASES, new, sql

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.connectors.sql_table import database
from sparkstream_kit.connectors.sql_table import table as sql_tables
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    MissingExtraError,
    QueryFailed,
    TransientError,
)
from sparkstream_kit.sinks.base import open_batch_sink


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    """An empty database."""
    return new(request.param, tmp_path)


def test_rows_that_are_gone_from_the_result_go_from_the_table(stream, url, tmp_path):
    small = sinks.sql_table(url, "t", how="replace").taking(
        lambda batch: batch.where("total < 4")
    )
    seen: list[list[tuple[Any, ...]]] = []
    look = sinks.foreach_batch(
        lambda *_: seen.append(sql(url, "SELECT k, total FROM t ORDER BY k"))
    )
    finish(totals(stream), sinks.fan_out(small, look), tmp_path / "ckpt", "complete")
    assert seen == [[("a", 1), ("b", 1)], [("a", 3), ("b", 1), ("c", 2)], [("a", 3)]]


def test_one_name_in_two_schemas_is_two_tables():
    url = "postgresql+psycopg://kit@host/db"
    north, south = (
        sinks.sql_table(url, f"{schema}.t") for schema in ("north", "south")
    )
    assert len(sinks.fan_out(north, south).writes_to) == 2
    with pytest.raises(InvalidInputError, match="two sinks write to table t in"):
        sinks.fan_out(sinks.sql_table(url, "t"), sinks.sql_table(url, "public.t"))


@pytest.mark.parametrize("how", ["append", "replace"])
def test_of_two_new_queries_on_one_table_the_later_is_refused(
    stream, url, monkeypatch, how
):
    #   one:                [ batch 0, committed ]
    #   two:  [ batch 0 computed …                 … loaded ]  refused
    batch = stream.sparkSession.createDataFrame([("a", 1)], "k STRING, n INT")
    one, two = (
        open_batch_sink(sinks.sql_table(url, "t", how=how), stream, None)
        for _ in range(2)
    )
    load = database.load

    def load_after_the_other(*args):
        monkeypatch.setattr(database, "load", load)
        one(batch, 0)
        load(*args)

    monkeypatch.setattr(database, "load", load_after_the_other)
    assert re.search(
        "was written by another query .* up to its batch 0", refusal(two, batch, 0)
    )
    assert sql(url, "SELECT k, n FROM t") == [("a", 1)]
    one(batch, 1)  # and goes on


def test_a_reader_never_sees_half_a_batch(spark, url, tmp_path):
    # Batch N of the source has 2,000 rows; the ledger says which batches a reader must
    # see.
    rate = (
        spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 2000).load()
    )
    numbers = start(
        rate, sinks.sql_table(url, "t"), name="numbers", checkpoint=tmp_path / "ckpt"
    )
    written = "SELECT coalesce(max(batch_id) + 1, 0) * 2000 FROM sparkstream_ledger"
    look = f"SELECT (SELECT count(*) FROM t), ({written})"  # noqa: S608 - constants
    seen: set[int] = set()
    engine = sa.create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while len(seen) < 6 and numbers.isActive:
            rows, expected = connection.execute(sa.text(look)).one()
            seen.add(rows)
            assert rows == expected
    numbers.stop()
    engine.dispose()
    assert numbers.exception() is None


TYPES = {
    "flag": ("boolean", True),
    "tiny": ("tinyint", -128),
    "small": ("smallint", 32767),
    "whole": ("int", -2147483648),
    "long": ("bigint", 9223372036854775807),
    "single": ("float", 0.5),
    "double": ("double", 0.1),
    "huge": ("double", 1.7976931348623157e308),
    "endless": ("double", float("-inf")),
    "money": ("decimal(38,10)", Decimal("1234567890123456789012345678.0123456789")),
    "cents": ("decimal(12,2)", Decimal("10.10")),
    "day": ("date", dt.date(1, 1, 1)),
    "instant": ("timestamp", dt.datetime(2024, 3, 10, 2, 30, 0, 123456, tzinfo=dt.UTC)),
    "clock": (
        "timestamp_ntz",
        dt.datetime(2024, 3, 10, 2, 30, 0, 1),  # noqa: DTZ001 - it has no zone
    ),
    "raw": ("binary", b"\x00\\x\xff\n"),
    "empty": ("string", ""),
    "Hard one.": (
        "string",
        'tab\t, "quote", \\N, \\.\n\\.\nnext\r\n, € \U0001f600, a\\',
    ),
    "select": ("string", "\\N"),
}


def test_every_type_comes_back_as_it_was(spark, url, tmp_path, folder):
    schema = ", ".join(f"`{name}` {kind}" for name, (kind, _) in TYPES.items())
    values = tuple(value for _, value in TYPES.values())
    spark.createDataFrame([values, (None,) * len(TYPES)], schema).write.parquet(
        str(folder / "1")
    )
    frame = spark.readStream.schema(schema).parquet(str(folder / "*"))
    # Where 2:30 on this day does not exist: an instant must not pass through the
    # session's clock.
    with in_force(spark, {"spark.sql.session.timeZone": "America/New_York"}):
        finish(frame, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    engine = sa.create_engine(url)
    table = sa.Table("t", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(sa.select(table))]
    engine.dispose()
    full, nothing = sorted(rows, key=lambda row: row["flag"] is None)
    assert set(nothing.values()) == {None}
    # Which has neither: both come back as text, the instant in UTC
    if url.startswith("sqlite"):
        full["money"], full["cents"] = Decimal(full["money"]), Decimal(full["cents"])
    if not url.startswith("postgresql"):
        full["instant"] = full["instant"].replace(tzinfo=dt.UTC)
    expected = {name: value for name, (_, value) in TYPES.items()}
    # Whose doubles are finite, and decimals to SQLAlchemy
    if url.startswith("mariadb"):
        expected["endless"] = None
        full |= {name: float(full[name]) for name in ("single", "double", "huge")}
    assert full == expected


def test_a_mode_that_does_not_fit_is_refused(stream, tmp_path):
    sink = sinks.sql_table(f"sqlite:///{tmp_path}/t.db", "t", how="replace")
    message = (
        "sink sql_table supports output mode complete, not append; use how='append' for"
        " append"
    )
    assert message in refusal(start, stream, sink, name="q")
    with pytest.raises(InvalidInputError, match="sink sql_table needs a checkpoint"):
        start(stream, sinks.sql_table(f"sqlite:///{tmp_path}/t.db", "t"), name="q")


def test_a_way_to_write_that_does_not_fit_is_said():
    with pytest.raises(
        InvalidInputError, match="how='upsert' and keys belong together"
    ):
        sinks.sql_table("sqlite:///t.db", "t", how="upsert")
    with pytest.raises(
        InvalidInputError, match="unknown way to write .* upsrt; did you mean upsert"
    ):
        sinks.sql_table("sqlite:///t.db", "t", how="upsrt")


def test_without_the_kit_it_is_as_exact_and_as_careful(stream, url, tmp_path):
    def run_plain(checkpoint):
        writer = sinks.sql_table(url, "t")(stream.writeStream).trigger(
            availableNow=True
        )
        writer.option(
            "checkpointLocation", str(tmp_path / checkpoint)
        ).start().awaitTermination()

    for _ in range(2):
        run_plain("first")
        assert sql(url, "SELECT count(*), sum(n) FROM t") == [(6, 12)]
        forget_commit(tmp_path / "first", 2)
    with pytest.raises(Exception, match="was written by another query"):
        run_plain("second")
    with pytest.raises(
        InvalidInputError, match="cannot tell which query a batch is of; it writes"
    ):
        open_batch_sink(sinks.sql_table(url, "t"), stream.sparkSession.range(1), None)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["append", "upsert"])
def test_a_database_put_back_from_an_older_backup_is_refused_with_the_way_on(
    stream, url, tmp_path, how
):
    mode, more, _ = CASES[how]
    frame = (
        stream if how == "append" else totals(stream).withColumnRenamed("total", "n")
    )
    checkpoint, sink = tmp_path / "my ckpt", sinks.sql_table(url, "t", how=how, **more)
    finish(frame, sink, checkpoint, mode)
    sql(url, "UPDATE sparkstream_ledger SET batch_id = 0")
    sql(url, "DELETE FROM t")
    sql(url, "INSERT INTO t VALUES ('a', 1), ('b', 1)")
    feeds.drip([("4.csv", "d,10\n")], tmp_path / "in")
    message = (
        "batch 3 is next, but table t in .* holds this query's batches up to 0 only:"
        " .*; or, to write the missing batches again, run sparkstream checkpoint"
        f" rewind '{checkpoint}' --to 0; or, to go on without their rows, run (UPDATE"
        " .*')"
    )
    for _ in range(2):
        on = re.search(message, refused(frame, sink, checkpoint, mode))
    assert on is not None
    assert sorted(sql(url, "SELECT * FROM t")) == [("a", 1), ("b", 1)]
    sql(url, on[1])
    finish(frame, sink, checkpoint, mode)
    assert sorted(sql(url, "SELECT * FROM t")) == [("a", 1), ("b", 1), ("d", 10)]


@pytest.mark.slow
def test_a_database_without_any_batch_of_a_query_needs_the_flag(stream, url, tmp_path):
    finish(
        stream,
        sinks.sql_table(f"sqlite:///{tmp_path}/other.db", "t"),
        tmp_path / "ckpt",
    )
    feeds.drip([("4.csv", "d,10\n")], tmp_path / "in")
    for _ in range(2):
        line = refused(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
        assert re.search(
            "batch 3 is next, but table t in .* holds none of this query's batches",
            line,
        )
    finish(stream, sinks.sql_table(url, "t", take_over=True), tmp_path / "ckpt")
    feeds.drip([("5.csv", "e,10\n")], tmp_path / "in")
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    assert sql(url, "SELECT k FROM t ORDER BY k") == [("d",), ("e",)]


HARD = {
    "nul": (b"a\0b", "a\0b", r"a\x00b"),
    "not UTF-8": (b"Stra\xdfe \xf0\x9f", r"Stra\xdfe \xf0\x9f", r"Stra\xdfe \xf0\x9f"),
    "a surrogate": (b"\xed\xa0\x80", r"\xed\xa0\x80", r"\xed\xa0\x80"),
    "all at once": (b"\0\t\\N\n\xff", "\0\t\\N\n\\xff", "\\x00\t\\N\n\\xff"),
    "nothing wrong": (
        "naïve \U0001f600".encode(),
        "naïve \U0001f600",
        "naïve \U0001f600",
    ),
}


@pytest.mark.fast("sqlite-append")
@pytest.mark.parametrize("how", CASES)
def test_no_text_stops_a_query(spark, url, folder, tmp_path, caplog, how):
    rows = [(name, raw) for name, (raw, _, _) in HARD.items()]
    spark.createDataFrame([*rows, ("null", None)], "k STRING, v BINARY").write.parquet(
        str(folder / "1")
    )
    read = spark.readStream.schema("k STRING, v BINARY").parquet(str(folder / "*"))
    mode, more, _ = CASES[how]
    frame = read.select("k", F.expr("CAST(v AS STRING)").alias("v"))
    frame = frame if how == "append" else frame.groupBy("k").agg(F.max("v").alias("v"))
    finish(frame, sinks.sql_table(url, "t", how=how, **more), tmp_path / "ckpt", mode)
    place = 2 if url.startswith("postgresql") else 1
    expected = {"null": None} | {name: each[place] for name, each in HARD.items()}
    assert dict(sql(url, "SELECT k, v FROM t")) == expected
    changed = 4 if url.startswith("postgresql") else 3
    said = (
        f"batch 0 for table t: {changed} values are changed: bytes that are not UTF-8"
        " become"
    )
    assert said in caplog.text


TIMES = (
    "-4713-12-31",
    "0000-12-31",
    "0001-01-01",
    "9999-12-31",
    "+10000-01-01",
    "+5881580-07-11",
)


def test_a_time_out_of_range_is_null_and_stops_no_query(
    spark, url, folder, tmp_path, caplog
):
    days = spark.createDataFrame([(k,) for k in TIMES], "k STRING").selectExpr(
        "k", "CAST(k AS DATE) AS d"
    )
    held = F.length("k") < 14  # beyond it a timestamp has no place in Spark either
    stamps = [
        F.when(held, F.col("d").cast(kind)).alias(kind)
        for kind in ("timestamp", "timestamp_ntz")
    ]
    days.select("*", *stamps).write.parquet(str(folder / "1"))
    schema = "k STRING, d DATE, timestamp TIMESTAMP, timestamp_ntz TIMESTAMP_NTZ"
    frame = spark.readStream.schema(schema).parquet(str(folder / "*"))
    finish(frame, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    casts = [
        f"CAST({column} AS CHAR(30))" for column in ("d", "timestamp", "timestamp_ntz")
    ]
    found = {k: [text and text.rstrip() for text in texts] for k, *texts in sql(
        url, f"SELECT k, {', '.join(casts)} FROM t"  # noqa: S608
    )}  # fmt: skip
    clock = " 00:00:00" if url.startswith("postgresql") else " 00:00:00.000000"
    zone = "+00" if url.startswith("postgresql") else ""
    assert found == {
        name: (
            [name, f"{name}{clock}{zone}", f"{name}{clock}"]
            if "0001" <= name <= "9999-12-31"
            else [None] * 3
        )
        for name in TIMES
    }
    assert "batch 0 for table t: 10 values are changed: " in caplog.text
    assert "out of range null" in caplog.text


@pytest.mark.slow
def test_mariadb_tells_texts_apart_as_spark_does(spark, folder, tmp_path):
    url = mariadb.server().database()
    texts = ["a", "A", "a ", "\u00e4", "\u0061\u0308", "\u00df", "ss", "", "x" * 768]
    spark.createDataFrame(
        [(text, 1) for text in texts], "k STRING, n INT"
    ).write.parquet(str(folder / "1"))
    frame = spark.readStream.schema("k STRING, n INT").parquet(str(folder / "*"))
    frame = frame.groupBy("k").agg(F.sum("n").alias("n"))
    finish(
        frame,
        sinks.sql_table(url, "t", how="upsert", keys=["k"]),
        tmp_path / "ckpt",
        "update",
    )
    assert sorted(sql(url, "SELECT k, n FROM t")) == sorted((text, 1) for text in texts)
    # Tables whose names differ in that alone have ledgers of their own.
    for name in ("names", "NAMES"):
        finish(
            frame,
            sinks.sql_table(url, name, how="replace"),
            tmp_path / name,
            "complete",
        )
    assert len(sql(url, "SELECT * FROM sparkstream_ledger")) == 3


BIN = "COLLATE utf8mb4_nopad_bin"
ONE_KEY_FOR_TWO = {  # columns of tables in which an upsert would lose rows, by database
    "sqlite": {
        "k TEXT COLLATE NOCASE PRIMARY KEY, total BIGINT": (
            "NOCASE.; give that column the .* BINARY"
        ),
        "k TEXT COLLATE RTRIM UNIQUE, total BIGINT": (
            "RTRIM.; give that column the collation BINARY"
        ),
    },
    "mariadb": {
        "k VARCHAR(9) PRIMARY KEY, total BIGINT": (
            r"texts in k for the same key \(latin1_\w+\); give"
        ),
        f"k TEXT {BIN}, total BIGINT, UNIQUE (k(9))": (
            r"for the same key \(indexed by 9 characters\)"
        ),
        "k VARCHAR(9) COLLATE utf8mb4_bin UNIQUE, total BIGINT": (
            r"for the same key \(utf8mb4_bin\)"
        ),
        f"k CHAR(9) {BIN} PRIMARY KEY, total BIGINT": (
            r"k is CHAR\(9\) .*and not VARCHAR"
        ),
        f"k ENUM('a', 'b', 'c') {BIN} PRIMARY KEY, total BIGINT": (
            r"k is ENUM\('a','b','c'\) .*and not"
        ),
        f"k VARCHAR(9) {BIN} PRIMARY KEY, total BIGINT UNIQUE": (
            "is unique in total too, and MariaDB would"
        ),
        f"k VARCHAR(9) {BIN} PRIMARY KEY, total BIGINT) ENGINE=MyISAM #": (
            "one of MyISAM, which has no tran"
        ),
    },
    "postgresql": {
        "k CITEXT PRIMARY KEY, total BIGINT": (
            'citext.; give that column the collation "C" and the type TEXT'
        ),
        "k TEXT COLLATE loose UNIQUE, total BIGINT": (
            'loose.; give that column the collation "C"'
        ),
        "k CHAR(9) PRIMARY KEY, total BIGINT": r"k is CHAR\(9\) and not TEXT",
        "k letter PRIMARY KEY, total BIGINT": "k is letter and not TEXT",
    },
}
OWN_TYPES = (
    "CREATE EXTENSION citext",
    "CREATE TYPE letter AS ENUM ('a', 'b', 'c')",
    (
        "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2',"
        " deterministic = false)"
    ),
)


@pytest.mark.fast("sqlite*")
@pytest.mark.parametrize(
    ("name", "columns"),
    [(name, each) for name, found in ONE_KEY_FOR_TWO.items() for each in found],
)
def test_a_table_in_which_an_upsert_would_lose_rows_is_refused(
    stream, tmp_path, name, columns
):
    url = new(name, tmp_path)
    for statement in OWN_TYPES if name == "postgresql" else ():
        sql(url, statement)
    sql(url, f"CREATE TABLE t ({columns})")
    with pytest.raises(InvalidInputError, match=ONE_KEY_FOR_TWO[name][columns]):
        finish(
            totals(stream),
            sinks.sql_table(url, "t", how="upsert", keys=["k"]),
            tmp_path / "c",
            "update",
        )


@pytest.mark.slow
def test_a_start_on_tables_that_are_there_needs_no_right_to_create(stream, tmp_path):
    url = new("postgresql", tmp_path)
    finish(stream.where("n = 1"), sinks.sql_table(url, "t"), tmp_path / "ckpt")
    sql(url, "CREATE ROLE clerk LOGIN PASSWORD 'x'")
    sql(
        url,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk",
    )
    feeds.drip([("4.csv", "a,1\n")], tmp_path / "in")
    finish(
        stream.where("n = 1"),
        sinks.sql_table(re.sub("//.*@", "//clerk:x@", url), "t"),
        tmp_path / "ckpt",
    )
    assert len(sql(url, "SELECT * FROM t")) == 3


# Columns of one's own that hold all that the query writes, and what they then have
WIDER = {
    "sqlite": (
        "i NUMERIC, v DECIMAL(9, 2), t TIMESTAMP, f DOUBLE",
        (1, 2.25, "2026-03-01 02:30:00.123456", 0.5),
    ),
    "mariadb": (
        "i DECIMAL(20), v NUMERIC(14, 4), t DATETIME(6), f DOUBLE",
        (
            1,
            Decimal("2.2500"),
            dt.datetime(2026, 3, 1, 2, 30, 0, 123456),  # noqa: DTZ001 - has none there
            0.5,
        ),
    ),
    "postgresql": (
        "i NUMERIC, v NUMERIC, t TIMESTAMP(6) WITH TIME ZONE, f DOUBLE PRECISION",
        (1, Decimal("2.25"), dt.datetime(2026, 3, 1, 2, 30, 0, 123456, dt.UTC), 0.5),
    ),
}
NARROWER = {  # and such as would round a value, and their names
    "sqlite": {"v": "NUMERIC"},
    "mariadb": {"t": "DATETIME", "f": "FLOAT"},
    "postgresql": {
        "v": "NUMERIC(9, 1)",
        "t": "TIMESTAMP WITHOUT TIME ZONE",
        "f": "NUMERIC(10, 2)",
    },
}


@pytest.mark.fast("sqlite", "postgresql")
@pytest.mark.parametrize("name", WIDER)
def test_a_column_that_holds_every_value_is_taken_and_one_that_rounds_is_not(
    spark, folder, tmp_path, name
):
    url = new(name, tmp_path)
    feeds.drip([("1.csv", "1,2.25,2026-03-01 02:30:00.123456Z,0.5\n")], folder)
    columns, row = WIDER[name]
    digits = {"sqlite": 16}.get(name, 9)
    for number, (column, kind) in enumerate(NARROWER[name].items()):
        frame = sources.csv(
            spark,
            str(folder),
            schema=f"i INT, v DECIMAL({digits},2), t TIMESTAMP, f FLOAT",
        )
        others = [
            each
            for each in re.split(r", (?=\w )", columns)
            if not each.startswith(f"{column} ")
        ]
        sql(url, f"CREATE TABLE n{number} ({column} {kind}, {', '.join(others)})")
        with pytest.raises(
            InvalidInputError, match=rf"has other columns: {column} is "
        ):
            finish(frame, sinks.sql_table(url, f"n{number}"), tmp_path / "no")
    frame = sources.csv(
        spark, str(folder), schema="i INT, v DECIMAL(9,2), t TIMESTAMP, f FLOAT"
    )
    schema = "s." if name == "postgresql" else ""  # where its ledger is then, too
    if schema:
        sql(url, "CREATE SCHEMA s")
    sql(url, f"CREATE TABLE {schema}t ({columns})")
    finish(frame, sinks.sql_table(url, f"{schema}t"), tmp_path / "ckpt")
    assert sql(url, f"SELECT i, v, t, f FROM {schema}t") == [row]  # noqa: S608 - ours
    assert sql(url, f"SELECT batch_id FROM {schema}sparkstream_ledger") == [(0,)]  # noqa: S608


@pytest.mark.slow
def test_a_first_batch_does_not_go_on_without_the_lock(stream, tmp_path, monkeypatch):
    url = mariadb.server().database()
    monkeypatch.setattr(sql_tables, "_PATIENCE", 0)
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as other:
        assert (
            other.execute(
                sa.text("SELECT GET_LOCK(MD5('sparkstream_ledger None.t'), 0)")
            ).scalar()
            == 1
        )
        with pytest.raises(
            QueryFailed, match="table t is locked by the first batch of another query"
        ):
            finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    assert sql(url, "SELECT count(*) FROM t") == [(0,)]
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    assert sql(url, "SELECT count(*) FROM t") == [(6,)]


def test_a_dry_run_makes_no_table(stream, url, tmp_path):
    told = start(
        stream,
        sinks.sql_table(url, "t"),
        name="q",
        checkpoint=tmp_path / "c",
        dry_run=True,
    )
    assert "sql_table" in str(told)
    assert not sa.inspect(sa.create_engine(url)).get_table_names()


def test_a_decimal_in_sqlite_has_all_its_digits(spark, folder, tmp_path):
    feeds.drip([("1.csv", "0.000000000000000001\n0\n-12.5\n\n")], folder)
    frame = sources.csv(
        spark, str(folder), schema="v DECIMAL(38,18)", ignoreLeadingWhiteSpace=True
    )
    finish(frame, sinks.sql_table(f"sqlite:///{tmp_path}/t.db", "t"), tmp_path / "ckpt")
    found = sorted(
        sql(
            f"sqlite:///{tmp_path}/t.db",
            "SELECT v, typeof(v) FROM t WHERE v IS NOT NULL",
        )
    )
    texts = ["-12.500000000000000000", "0.000000000000000000", "0.000000000000000001"]
    assert found == [(text, "text") for text in texts]


@pytest.mark.slow
def test_a_table_that_is_gone_is_said(stream, url, tmp_path):
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    sql(url, "DROP TABLE t")
    with pytest.raises(
        InvalidInputError,
        match="is gone, but this query has written its batches up to 2",
    ):
        finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    # For a new query, what another has written went with the table.
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "new")
    assert sql(url, "SELECT count(*) FROM t") == [(6,)]


WRONG_TABLES = {
    "k TEXT": "it lacks n INTEGER; change the table or the query, or use another",
    "k TEXT, more TEXT": (
        "it lacks n INTEGER; it has more, which the query does not; change the table"
    ),
    "k TEXT, n TEXT": "n is TEXT and not INTEGER",
    "k TEXT, n FLOAT": "n is (FLOAT|DOUBLE PRECISION) and not INTEGER",
}


@pytest.mark.parametrize("columns", WRONG_TABLES)
def test_a_table_with_other_columns_is_refused_in_words(stream, url, tmp_path, columns):
    sql(url, f"CREATE TABLE t ({columns})")
    with pytest.raises(
        InvalidInputError,
        match=f"table t in .* has other columns: {WRONG_TABLES[columns]}",
    ):
        finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")


def test_keys_must_tell_rows_apart(stream, url, tmp_path):
    sql(url, "CREATE TABLE plain (k TEXT, total BIGINT)")
    wrong: list[tuple[DataFrame, str, str, str]] = [
        (totals(stream), "plain", "k", "is not unique in k"),
        (totals(stream), "t", "key", "unknown key key; known"),
        (stream.withColumn("k", F.lit("x")), "two", "k", "in two rows"),
        (
            totals(stream.withColumn("k", F.expr("nullif(k, 'a')"))),
            "null",
            "k",
            "key k is null; fill it",
        ),
    ]
    for frame, name, key, message in wrong:
        with pytest.raises(KitError, match=message):
            sink = sinks.sql_table(url, name, how="upsert", keys=[key])
            finish(frame, sink, tmp_path / f"{name}-{key}", "update")


def test_what_sql_cannot_hold_is_refused_at_start(stream, url, tmp_path):
    message = (
        "column ks is array<string>, which a column of SQL cannot hold; leave it out,"
        " cast it, or make"
    )
    frame = stream.select(F.array("k").alias("ks"))
    assert message in refusal(
        finish, frame, sinks.sql_table(url, "t"), tmp_path / "ckpt"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            "postgresql://kit:hush@host:port/db",
            "the database's URL cannot be read; write sqlite:///",
        ),
        ("postgres://kit:hush@host/db", "not postgres; did you mean postgresql?"),
        (
            "mysql://kit:hush@host/db",
            "not mysql; write to others with sinks.foreach_batch",
        ),
        (
            "postgresql+psycopg2://kit:hush@host/db",
            "does not use psycopg2; write postgresql+psycopg://",
        ),
        (
            "mariadb://kit:hush@host",
            "the URL names no database; write mariadb+pymysql://user@host/name",
        ),
        ("sqlite://", "is lost at once; name one, such as sqlite:///totals.db"),
        ("sqlite:////no/such/t.db", "folder /no/such does not exist; create it"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line_without_its_password(wrong, message):
    said = refusal(sinks.sql_table, wrong, "t")
    assert message in said
    assert "hush" not in said


@pytest.mark.parametrize("name", ["SPARKSTREAM_LEDGER", "main.sparkstream_ledger"])
def test_the_kits_own_name_is_refused(name):
    said = refusal(sinks.sql_table, "sqlite:///t.db", name)
    assert (
        said
        == "sql_table: the kit keeps its ledger in sparkstream_ledger; give another"
        " table"
    )


@pytest.mark.parametrize(
    ("missing", "extra"), [("sqlalchemy", "sql"), ("psycopg", "postgresql")]
)
def test_a_missing_library_is_named(monkeypatch, missing, extra):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        MissingExtraError, match=rf"pip install 'sparkstream-kit\[{extra}\]'"
    ):
        sinks.sql_table("postgresql://kit@host/db", "t")


@pytest.mark.slow
def test_a_password_is_in_no_repr_error_plan_or_log(stream, tmp_path, caplog, capfd):
    server = postgresql.server()
    url, wrong = server.database(), server.url.replace(server.password, "hush-hush")
    caplog.set_level(logging.DEBUG, logger="sqlalchemy")
    caplog.set_level(logging.DEBUG, logger="sparkstream_kit")
    said = [
        repr(sinks.sql_table(url, "t")),
        str(sinks.fan_out(sinks.sql_table(url, "t"))),
    ]
    for bad in (
        wrong,
        re.sub(r":\d+/", ":1/", wrong),
        f"{wrong}?sslpassword=hush-hush&connect_timeout=5",
    ):
        is_away = ":1/" in bad
        what = (
            "cannot be reached: .*; start it, or correct"
            if is_away
            else "refuses the log-in: .*PGPASS"
        )
        with pytest.raises(InvalidInputError, match=what) as no:
            start(
                stream, sinks.sql_table(bad, "t"), name="q", checkpoint=tmp_path / "no"
            )
        assert no.value.__cause__ is None
        # A server that is away may come back; one that refuses the log-in refuses the
        # next one, too.
        assert no.value.exit_code == (75 if is_away else 2), no.value
        said.append(str(no.value))
    query = start(
        stream, sinks.sql_table(url, "t"), name="q", checkpoint=tmp_path / "ckpt"
    )
    query.processAllAvailable()
    query.explain(extended=True)
    said += [str(progress) for progress in query.recentProgress]
    query.stop()
    query = start(
        stream, sinks.sql_table(url, "t"), name="q", checkpoint=tmp_path / "ckpt"
    )
    query.processAllAvailable()
    sql(url, "ALTER TABLE t DROP COLUMN n")
    feeds.drip([("4.csv", "a,1\n")], tmp_path / "in")
    with pytest.raises(QueryFailed) as failed:
        run(query)
    said += [
        str(failed.value),
        str(failed.value.__cause__),
        caplog.text,
        *capfd.readouterr(),
    ]
    assert 'column "n" of relation "t" does not exist' in failed.value.cause
    for text in said:
        assert server.password not in text
        assert "hush-hush" not in text


@pytest.mark.slow
def test_a_database_that_stops_in_mid_transaction_fails_the_query_and_a_restart_is_exact(
    stream, tmp_path, until
):
    server = mariadb.server()
    url, checkpoint = server.database(), tmp_path / "ckpt"
    waiting = (
        "SELECT 1 FROM information_schema.processlist "
        "WHERE state LIKE 'Waiting%' AND info LIKE 'INSERT INTO `t` %'"
    )
    finish(stream, sinks.sql_table(url, "t"), checkpoint)
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as other:
        # Rows can be staged and the ledger row written, but not the table.
        other.execute(sa.text("LOCK TABLES t READ"))
        query = start(
            stream, sinks.sql_table(url, "t"), name="q", checkpoint=checkpoint
        )
        until(lambda: sql(url, waiting))
        server.stop()
        other.invalidate()
    try:
        assert "database mariadb+pymysql://kit:***@127.0.0.1:" in failure(run, query)
        with pytest.raises(
            TransientError,
            match=r"cannot be reached: .*Connection refused\)?; start it",
        ):
            finish(stream, sinks.sql_table(url, "t"), checkpoint)
    finally:
        server.start()
    assert sql(url, "SELECT count(*), sum(n) FROM t") == [(6, 12)]
    finish(stream, sinks.sql_table(url, "t"), checkpoint)
    assert sql(url, "SELECT count(*), sum(n) FROM t") == [(7, 22)]


@pytest.mark.slow
@pytest.mark.xdist_group("connect")
def test_on_spark_connect_it_is_the_same(connect, stream, tmp_path):
    url = postgresql.server().database()
    both = """sinks.fan_out(
        sinks.sql_table(url, "kept", how="replace").taking(lambda batch: batch.where("total > 3")),
        sinks.batch_files(home / "out", format="json"),
    )"""
    said = connected(
        connect, url, tmp_path, 'sinks.sql_table(url, "rows")', both, "complete"
    )
    assert "table rows in" in said
    assert "was written by another query" in said
    assert sorted(sql(url, "SELECT k, n FROM rows")) == CASES["append"][2]
    assert sql(url, "SELECT k, total FROM kept ORDER BY k") == [("b", 4), ("c", 5)]
    folders = sorted(path.name for path in (tmp_path / "out").glob("[!_]*"))
    assert folders == [f"batch={number:06}" for number in range(3)]


def test_its_manners_are_those_of_every_sink(spark, tmp_path):
    sink = sinks.sql_table(f"sqlite:///{tmp_path}/t.db", "t")
    sink_contract.manners("sql_table", spark, sink, tmp_path / "ckpt")


def test_the_url_of_a_file_is_shown_as_it_can_be_given_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = database.parse("sqlite+pysqlite:///shop.db?timeout=3")
    assert database.shown(url) == f"sqlite:///{tmp_path}/shop.db"


def test_a_batch_that_fails_half_way_leaves_nothing(stream, url, tmp_path):
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    sql(url, "CREATE UNIQUE INDEX once ON t (k, n)")
    feeds.drip([("4.csv", "new,10\na,1\n")], tmp_path / "in")
    for _ in range(2):
        with pytest.raises(
            QueryFailed, match="database .*: (UNIQUE|duplicate key|.*Duplicate entry)"
        ):
            finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
        assert sql(url, "SELECT count(*), sum(n) FROM t") == [(6, 12)]
        assert sql(url, "SELECT batch_id FROM sparkstream_ledger") == [(2,)]
    sql(url, "DROP INDEX once ON t" if url.startswith("mariadb") else "DROP INDEX once")
    finish(stream, sinks.sql_table(url, "t"), tmp_path / "ckpt")
    assert sql(url, "SELECT count(*), sum(n) FROM t") == [(8, 23)]


@pytest.mark.slow
def test_a_name_that_postgresql_would_cut_is_refused(stream, tmp_path):
    url = postgresql.server().database()
    long, fits = "ä" * 32, "ä" * 31 + "a"
    for frame, table in (
        (stream, long),
        (stream, f"{long}.t"),
        (stream.withColumnRenamed("n", long), "t"),
    ):
        assert (
            f"a name in PostgreSQL has at most 63 bytes, and {long} has 64; rename"
            in refusal(finish, frame, sinks.sql_table(url, table), tmp_path / "no")
        )
    for _ in range(2):  # and is found again
        finish(
            stream.withColumnRenamed("n", fits),
            sinks.sql_table(url, fits),
            tmp_path / "ckpt",
        )
    assert sql(url, f'SELECT count(*) FROM "{fits}"') == [(6,)]  # noqa: S608 - a constant
    finish(
        stream, sinks.sql_table(f"sqlite:///{tmp_path}/t.db", long), tmp_path / "lite"
    )


@pytest.mark.slow
def test_a_reader_sees_the_old_result_or_the_new_one(spark, url, tmp_path):
    rate = (
        spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1000).load()
    )
    # 500 groups, and in each the same number of rows.
    counts = rate.groupBy((F.col("value") % 500).alias("k")).agg(
        F.count("*").alias("n")
    )
    how: dict[str, Any] = {
        "name": "counts",
        "mode": "complete",
        "checkpoint": tmp_path / "ckpt",
    }
    query = start(counts, sinks.sql_table(url, "t", how="replace"), **how)
    seen: set[tuple[Any, ...]] = set()
    while len(seen) < 5 and query.isActive:
        seen.update(sql(url, "SELECT count(*), min(n), max(n) FROM t"))
    query.stop()
    assert query.exception() is None
    assert all(
        rows == (0, None, None) or (rows[0] == 500 and rows[1] == rows[2])
        for rows in seen
    ), seen


@pytest.mark.slow
@pytest.mark.parametrize("how", CASES)
def test_any_name_will_do(stream, url, tmp_path, how):
    # Words that SQLite or PostgreSQL keeps for itself, and what needs quotes.
    mode, _, expected = CASES[how]
    frame = (stream if how == "append" else totals(stream)).toDF("nothing", "do")
    more: dict[str, Any] = {"keys": ["nothing"]} if how == "upsert" else {}
    for table in ("nothing", "my table", 'say "x"', "select", "Mixed"):
        for _ in range(2):
            finish(
                frame,
                sinks.sql_table(url, table, how=how, **more),
                tmp_path / table,
                mode,
            )
        quoted = '"' + table.replace('"', '""') + '"'
        assert sorted(sql(url, f'SELECT "nothing", "do" FROM {quoted}')) == sorted(  # noqa: S608
            expected
        )


MEMORY = """
import resource, sys
from pathlib import Path
from sparkstream_kit import get_session, run, sinks, start
url, folder, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

with get_session("memory", profile="test", conf={"spark.master": "local[2]"}) as spark:
    rate = spark.readStream.format("rate-micro-batch").option("numPartitions", 2)
    def load(rows, name):
        frame = rate.option("rowsPerBatch", rows).load()
        names = "value % 1000 AS shop", "CAST(value AS STRING) AS s"
        frame = frame.selectExpr("value", *names, "CAST(value AS DECIMAL(12,2)) AS v")
        sink = sinks.sql_table(url, name)
        kept = f"{folder}/{name}"
        query = start(frame, sink, name=name, checkpoint=kept, processingTime="1 hour")
        while query.lastProgress is None:
            assert query.isActive, query.exception()
            query.awaitTermination(0.1)
        query.stop()
    load(20_000, "few")
    before = peak()
    load(rows, "many")
    print((peak() - before) / 1024)
"""


@pytest.mark.slow
def test_the_drivers_python_stays_small_whatever_the_batch(url, tmp_path):
    done = ran(MEMORY, url, tmp_path, 1_000_000)
    assert sql(url, "SELECT count(*), sum(shop) FROM many") == [
        (1_000_000, 499_500_000)
    ]
    assert float(done.stdout) < 50


@pytest.mark.slow
def test_the_way_back_has_the_quotes_of_the_database(stream, tmp_path):
    url, checkpoint = mariadb.server().database(), tmp_path / "ckpt"
    schema = f"{url.rpartition('/')[2]}-more"
    sql(url, f'CREATE DATABASE "{schema}"')
    sink = sinks.sql_table(url, f"{schema}.t")
    finish(stream, sink, checkpoint)
    forget_commit(checkpoint, 2)
    forget_commit(checkpoint, 1)
    for name in ("2", ".2.crc"):
        (checkpoint / "offsets" / name).unlink()
    with pytest.raises(QueryFailed, match=f"UPDATE `{schema}`.sparkstream_ledger"):
        finish(stream, sink, checkpoint)
