"""What `sinks.sql_table` writes is what it was given: rows of every type, read by the databases' own clients.

Each database holds what its row of `HELD` says; every other value comes back as it was.
"""

import datetime as dt
import math
import sqlite3
from contextlib import closing
from decimal import Decimal

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from pyspark.sql import functions as F
from support import rows
from support.sql import DATABASES, new

from sparkstream_kit import sinks
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import opened

TEXT = rows.texts_of((*rows.TEXTS, "a\0b", "\0", "a", "A", "a ", "Ä", "ä", "ß", "ss"))
KINDS = (rows.BOOLEAN, *rows.NUMBERS, TEXT, rows.BINARY, *rows.TIMES)
REFUSED = (rows.INTERVAL_DAYS, rows.INTERVAL_MONTHS, rows.VARIANT, *rows.NESTED, *rows.ODD_MAPS)
MANY = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
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
    if at.get_backend_name() == "sqlite":
        connection, quote = sqlite3.connect(str(at.database)), '"'
    elif at.get_backend_name() == "postgresql":
        connection, quote = psycopg.connect(url.replace("+psycopg", "")), '"'
        connection.execute("SET TIME ZONE 'UTC'")
    else:
        made = {"host": at.host, "port": at.port, "user": at.username, "password": at.password}
        connection, quote = pymysql.connect(**made, database=at.database), "`"
    columns = ", ".join(quote + name.replace(quote, 2 * quote) + quote for name in names)
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT {columns} FROM {table}")  # noqa: S608 - ours
        return [tuple(row) for row in cursor.fetchall()]


def held(name, kind, value):
    """Return what a database has for a value; where it is not the value, the docstring of the sink says so."""
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        gone = (name == "mariadb") or (name == "sqlite" and math.isnan(value))
        return None if gone else value
    if name == "postgresql":
        return value.replace("\0", r"\x00") if isinstance(value, str) else value
    if name == "sqlite" and isinstance(value, Decimal):
        return f"{value:f}"
    if name == "sqlite" and isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    if name == "sqlite" and isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    return value


def told(row):
    """Return a row as a text that tells NaN from itself no longer, and all else apart."""
    return repr(tuple(0.0 if value == 0 and isinstance(value, float) else value for value in row))


def same(url, table, given_rows):
    """See that a table has these rows, and no others."""
    name = sa.make_url(url).get_backend_name()
    expected = [
        tuple(held(name, column.kind, value) for column, value in zip(given_rows.columns, row, strict=True))
        for row in given_rows.rows
    ]
    names = [column.name for column in given_rows.columns]
    expected = [tuple(int(v) if isinstance(v, bool) and name != "postgresql" else v for v in r) for r in expected]
    assert sorted(map(told, found(url, table, names))) == sorted(map(told, expected))
