"""What `sinks.sql_table` writes is what it was given, for rows of every type.

The rows are read by the databases' own clients. Each database holds what `HELD` says;
every other value comes back as it was.
"""

import datetime as dt
import math
import sqlite3
from contextlib import closing
from decimal import Decimal
from itertools import count
from typing import Any

import numpy as np
import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from pyspark.sql import functions as F
from support import rows
from support.sql import DATABASES, new

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import open_batch_sink

TEXT = rows.texts_of((*rows.TEXTS, "a\0b", "\0", "a", "A", "a ", "Ä", "ä", "ß", "ss"))
KINDS = (rows.BOOLEAN, *rows.NUMBERS, TEXT, rows.BINARY, *rows.TIMES)
NUMBERS = count()
REFUSED = (
    rows.INTERVAL_DAYS,
    rows.INTERVAL_MONTHS,
    rows.VARIANT,
    *rows.NESTED,
    *rows.ODD_MAPS,
)
MANY = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    """An empty database."""
    return new(request.param, tmp_path)


@pytest.fixture
def one_row(spark):
    """A stream of one column, over which a table becomes a stream."""
    return spark.readStream.format("rate").load().select("value")


def found(url, table, names):
    """Return the rows of a table, as the database's own client has them."""
    at = sa.make_url(url)
    connection: Any
    if at.get_backend_name() == "sqlite":
        connection, quote = sqlite3.connect(str(at.database)), '"'
    elif at.get_backend_name() == "postgresql":
        connection, quote = psycopg.connect(url.replace("+psycopg", "")), '"'
        connection.execute("SET TIME ZONE 'UTC'")
    else:
        made = {
            "host": at.host,
            "port": at.port,
            "user": at.username,
            "password": at.password,
        }
        connection, quote = pymysql.connect(**made, database=at.database), "`"
    columns = ", ".join(
        quote + name.replace(quote, 2 * quote) + quote for name in names
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT {columns} FROM {table}")  # noqa: S608 - ours
        return [tuple(row) for row in cursor.fetchall()]


def in_sqlite(_kind, value):
    if isinstance(value, float):
        return None if math.isnan(value) else value + 0.0  # -0.0 has no sign there
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(value, dt.date):
        return value.isoformat()
    return int(value) if isinstance(value, bool) else value


def in_postgresql(kind, value):
    if kind is rows.FLOAT:
        # The client reads the shortest text of four bytes
        return float(str(np.float32(value)))
    return value.replace("\0", r"\x00") if isinstance(value, str) else value


def in_mariadb(_kind, value):
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None  # nor here
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    return int(value) if isinstance(value, bool) else value


# What a database has for a value; where it is another one, the docstring of the sink
# says so.
HELD = {"sqlite": in_sqlite, "postgresql": in_postgresql, "mariadb": in_mariadb}


def same(url, name, table):
    """See that a table of a database has the rows of a table, and no others."""
    held = HELD[sa.make_url(url).get_backend_name()]
    expected = []
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        expected.append(
            tuple(
                value if value is None else held(column.kind, value)
                for column, value in cells
            )
        )
    there = found(url, name, [column.name for column in table.columns])
    assert sorted(map(repr, there)) == sorted(map(repr, expected))


def every_corner(*, null):
    """Return a table with a column for each kind, in whose rows each corner case is."""
    columns = tuple(
        rows.Column(f"c{number}", kind) for number, kind in enumerate(KINDS)
    )
    count = max(len(kind.corners) for kind in KINDS)
    cells = [
        tuple(kind.corners[row % len(kind.corners)] for kind in KINDS)
        for row in range(count)
    ]
    return rows.Table(columns, (*cells, *([(None,) * len(KINDS)] if null else [])))


def test_every_corner_of_every_type_is_held(spark, url, one_row):
    table = every_corner(null=True)
    # In which one hour of autumn comes twice, and one of spring not at all.
    with in_force(spark, {"spark.sql.session.timeZone": "Europe/Berlin"}):
        write = open_batch_sink(sinks.sql_table(url, "t"), table.over(one_row), None)
        write(table.frame(spark), 0)
    same(url, "t", table)


@pytest.mark.slow
@MANY
@given(table=rows.tables(KINDS))
def test_rows_come_back_as_they_were(spark, url, one_row, table):
    name = f"t{next(NUMBERS)}"
    write = open_batch_sink(sinks.sql_table(url, name), table.over(one_row), None)
    write(table.frame(spark), 0)
    same(url, name, table)


@pytest.mark.slow
def test_each_type_is_a_key(spark, url, one_row):
    for at, kind in enumerate(KINDS):
        keys = [*dict.fromkeys(kind.corners)]
        if kind in (rows.FLOAT, rows.DOUBLE):
            # What is null there is refused as a key
            keys = [each for each in keys if math.isfinite(each)]
        columns = (
            rows.Column("k", kind, nullable=False),
            rows.Column("v", rows.INT, nullable=False),
        )
        first, second = (
            rows.Table(columns, tuple((key, number) for key in keys))
            for number in range(2)
        )
        sink = sinks.sql_table(url, f"t{at}", how="upsert", keys=["k"])
        write = open_batch_sink(sink, first.over(one_row), None)
        for number, table in enumerate((first, second)):
            write(table.frame(spark), number)
            same(url, f"t{at}", table)


def test_a_type_that_sql_does_not_have_is_refused_with_a_text_that_works(
    spark, tmp_path, one_row
):
    sink = sinks.sql_table(new("sqlite", tmp_path), "t")
    for kind in REFUSED:
        frame = rows.corners(kind).over(one_row)
        with pytest.raises(
            InvalidInputError, match="which a column of SQL cannot hold"
        ) as no:
            open_batch_sink(sink, frame, None)
        way = str(no.value).rpartition("make it a text: ")[2]
        as_text = frame.select(eval(way, {"F": F}).alias("v"))  # noqa: S307 - our own message
        assert as_text.dtypes == [("v", "string")]
