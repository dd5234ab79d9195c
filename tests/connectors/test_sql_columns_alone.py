"""`connectors.sql_table.columns` without Spark: types of columns, and tables that do not fit."""

# ruff: noqa: SLF001 - the steps of the module are its own
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import refusal
from pyspark.sql import types as T
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import SAWarning

from sparkstream_kit.connectors.sql_table import columns


def server(url):
    """Return a connection to a server that is not asked."""
    connection: Any = SimpleNamespace(dialect=sa.make_url(url).get_dialect()())
    return connection


POSTGRESQL = server("postgresql+psycopg://")
MARIADB = server("mariadb+pymysql://")


@pytest.fixture
def connection():
    """A connection to an SQLite database in memory."""
    with sa.create_engine("sqlite://").connect() as connection:
        yield connection


SQLITE = server("sqlite://")


# --- types for the columns of a query


def of(kind, name="v"):
    return T.StructType().add(name, kind)


def made(kind, keys=()):
    """Return the types of a column in SQLite, PostgreSQL and MariaDB."""
    [column] = columns.columns_of(of(kind), keys)
    return [
        column.type.compile(database.dialect)
        for database in (SQLITE, POSTGRESQL, MARIADB)
    ]


COLLATED = "COLLATE utf8mb4_nopad_bin"
TYPES: dict[str, tuple[T.DataType, list[str]]] = {
    "binary": (T.BinaryType(), ["BLOB", "BYTEA", "LONGBLOB"]),
    "boolean": (T.BooleanType(), ["BOOLEAN", "BOOLEAN", "BOOL"]),
    "byte": (T.ByteType(), ["SMALLINT"] * 3),
    "date": (T.DateType(), ["DATE"] * 3),
    "decimal": (
        T.DecimalType(10, 2),
        ["TEXT", "NUMERIC(10, 2)", "NUMERIC(10, 2)"],
    ),
    "double": (T.DoubleType(), ["DOUBLE", "DOUBLE PRECISION", "DOUBLE"]),
    "float": (T.FloatType(), ["REAL", "REAL", "DOUBLE"]),
    "integer": (T.IntegerType(), ["INTEGER"] * 3),
    "long": (T.LongType(), ["BIGINT"] * 3),
    "short": (T.ShortType(), ["SMALLINT"] * 3),
    "string": (T.StringType(), ["TEXT", "TEXT", f"LONGTEXT {COLLATED}"]),
    "local time": (
        T.TimestampNTZType(),
        ["DATETIME", "TIMESTAMP WITHOUT TIME ZONE", "DATETIME(6)"],
    ),
    "time": (
        T.TimestampType(),
        ["DATETIME", "TIMESTAMP WITH TIME ZONE", "DATETIME(6)"],
    ),
}


@pytest.mark.parametrize("what", TYPES)
def test_a_type_of_spark_has_one_in_each_database(what):
    kind, expected = TYPES[what]
    assert made(kind) == expected


def test_keys_share_what_mariadb_can_index():
    text, raw = T.StringType(), T.BinaryType()
    assert made(text, ["v"]) == ["TEXT", "TEXT", f"VARCHAR(768) {COLLATED}"]
    assert made(raw, ["v"]) == ["BLOB", "BYTEA", "VARBINARY(3072)"]
    two = of(text, "v").add("w", raw).add("x", text)
    found = columns.columns_of(two, ["v", "w"])
    assert [column.type.compile(MARIADB.dialect) for column in found] == [
        f"VARCHAR(384) {COLLATED}",
        "VARBINARY(1536)",
        f"LONGTEXT {COLLATED}",
    ]
    assert [column.primary_key for column in found] == [True, True, False]
    assert [column.autoincrement for column in found] == [False] * 3
    names: list[Any] = [column.name for column in found]
    assert all(name.quote for name in names)
    assert made(T.LongType(), ["v"]) == ["BIGINT"] * 3


@pytest.mark.parametrize(
    ("schema", "keys", "said"),
    [
        (of("long"), ["w"], "unknown key w; known: v"),
        (T.StructType(), [], "sql_table: the query has no columns; select some"),
        (
            of("long").add("", "long"),
            [],
            "sql_table: a column has no name; give it one, as in F.col(…).alias('total')",
        ),
    ],
    ids=["a key", "no columns", "no name"],
)
def test_columns_that_cannot_be_are_refused(schema, keys, said):
    assert refusal(columns.columns_of, schema, keys) == said


WINDOW = T.StructType().add("start", "timestamp").add("end", "timestamp")
NO_TYPES = {
    "an array": ("v", T.ArrayType(T.LongType()), "array<bigint>", "F.to_json('v')"),
    "a name with a blank": (
        "a b",
        T.DayTimeIntervalType(),
        "interval day to second",
        "F.col('`a b`').cast('string')",
    ),
    "a struct": ("s", of("long"), "struct<v:bigint>", "F.to_json('s')"),
    "a window": (
        "w",
        WINDOW,
        "struct<start:timestamp,end:timestamp>",
        "F.to_json('w'); windows.flatten makes two columns of a window",
    ),
}


@pytest.mark.parametrize("what", NO_TYPES)
def test_a_type_that_sql_does_not_have_is_refused(what):
    name, kind, shown, way = NO_TYPES[what]
    assert refusal(columns.columns_of, of(kind, name)) == (
        f"sql_table: column {name} is {shown}, which a column of SQL cannot hold; leave"
        f" it out, cast it, or make it a text: {way}"
    )


@pytest.mark.parametrize("name", ["a b", "total"])
def test_an_array_under_another_name_is_made_a_text_too(name):
    said = refusal(columns.columns_of, of(T.VariantType(), name))
    quoted = f"`{name}`" if " " in name else name
    assert said.endswith(f"make it a text: F.to_json('{quoted}')")


# --- what a column of others holds


N, D = sa.Integer(), sa.Numeric
TEXT, TIME = sa.Text(), sa.DateTime
HOLDS: dict[str, tuple[Any, Any, Any, bool]] = {
    "the same": (POSTGRESQL, sa.BigInteger(), sa.BigInteger(), True),
    "the same in another spelling": (SQLITE, sa.VARCHAR(5), sa.String(5), True),
    "a text in a longer one": (POSTGRESQL, sa.VARCHAR(5), TEXT, True),
    "a text in a number": (POSTGRESQL, sa.Integer(), TEXT, False),
    "a number in a text": (POSTGRESQL, TEXT, N, False),
    "a number in a wider one": (POSTGRESQL, sa.BigInteger(), N, True),
    "a number in a decimal": (POSTGRESQL, sa.NUMERIC(10, 0), N, True),
    "a number in a rounded one": (POSTGRESQL, sa.NUMERIC(10, -2), N, False),
    "a number in a decimal of sqlite": (SQLITE, sa.NUMERIC(10, 0), N, True),
    "a float in a double": (POSTGRESQL, sa.Double(), sa.REAL(), True),
    "a double in a float": (POSTGRESQL, sa.REAL(), sa.Double(), False),
    "a double in a float of sqlite": (SQLITE, sa.REAL(), sa.Double(), True),
    "a number in a float of sqlite": (SQLITE, sa.REAL(), N, False),
    "a boolean in a tinyint": (MARIADB, mysql.TINYINT(1), sa.Boolean(), True),
    "a boolean in a number": (POSTGRESQL, N, sa.Boolean(), False),
    "bytes in bytes": (MARIADB, sa.VARBINARY(5), sa.VARBINARY(9), True),
    "a decimal in one with more digits": (
        POSTGRESQL,
        sa.NUMERIC(10, 4),
        D(10, 2),
        True,
    ),
    "a decimal in one with as many": (POSTGRESQL, sa.NUMERIC(12, 2), D(10, 2), True),
    "a decimal in one with fewer": (POSTGRESQL, sa.NUMERIC(12, 1), D(10, 2), False),
    "a decimal in one of any": (POSTGRESQL, sa.NUMERIC(), D(10, 2), True),
    "a decimal without a scale": (POSTGRESQL, sa.NUMERIC(12, 0), D(), True),
    "a decimal in a double": (POSTGRESQL, sa.Double(), D(10, 2), False),
    "a double in a decimal": (POSTGRESQL, sa.NUMERIC(20, 5), sa.Double(), False),
    "a time with its zone": (
        POSTGRESQL,
        postgresql.TIMESTAMP(timezone=True, precision=6),
        TIME(timezone=True),
        True,
    ),
    "a time without its zone": (
        POSTGRESQL,
        postgresql.TIMESTAMP(timezone=False),
        TIME(timezone=True),
        False,
    ),
    "a time in seconds": (
        POSTGRESQL,
        postgresql.TIMESTAMP(timezone=True, precision=0),
        TIME(timezone=True),
        False,
    ),
    "a time of mariadb": (MARIADB, mysql.DATETIME(), mysql.DATETIME(fsp=6), False),
    "a time of sqlite": (SQLITE, sa.TIMESTAMP(), TIME(), True),
    "a date": (POSTGRESQL, sa.DATE(), sa.Date(), True),
    "a text in a time": (POSTGRESQL, postgresql.TIMESTAMP(), TEXT, False),
    "a text in a time of sqlite": (SQLITE, sa.TIMESTAMP(), TEXT, False),
    "a time in a date": (POSTGRESQL, sa.Date(), TIME(), False),
}


@pytest.mark.parametrize("what", HOLDS)
def test_a_column_holds_every_value_or_not(what):
    database, existing, wanted, holds = HOLDS[what]
    assert columns._holds(database, existing, wanted) is holds


@pytest.mark.parametrize(
    ("precision", "holds"), [(15, True), (16, False), (None, True)], ids=str
)
def test_sqlite_keeps_fifteen_digits_of_a_decimal(precision, holds):
    wanted: Any = sa.Numeric(precision, 2)
    existing: Any = sa.NUMERIC(5, 1)
    assert columns._holds_decimals(existing, wanted, in_sqlite=True) is holds


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (sa.CHAR(5), True),
        (sa.Enum("a"), True),
        (mysql.SET("a"), True),
        (sa.String(), True),
        (sa.VARCHAR(5), False),
        (sa.Text(), False),
        (mysql.DOUBLE(10, 2), True),
        (mysql.DOUBLE(), False),
        (sa.NUMERIC(10, -1), True),
        (sa.NUMERIC(10, 0), False),
        (sa.Integer(), False),
    ],
    ids=[
        *("char", "enum", "set", "name", "varchar", "text", "double with a scale"),
        *("double", "scale below zero", "scale of zero", "integer"),
    ],
)
def test_a_column_changes_values_without_an_error(kind, changes):
    assert columns._changes(kind) is changes


@pytest.mark.parametrize(
    ("kind", "exact"),
    [(sa.Numeric(5, 2), True), (sa.Double(), False), (sa.Integer(), False)],
    ids=["decimal", "double", "integer"],
)
def test_a_decimal_is_exact(kind, exact):
    assert columns._is_exact(kind) is exact


def test_a_type_is_spelt_as_the_database_does():
    assert columns._spelt(MARIADB, sa.Boolean()) == "BOOL"
    assert columns._spelt(POSTGRESQL, sa.types.NullType()) == ""


# --- tables that do not fit


def wanted(*names, keys=()):
    """Return the table that a query with columns of numbers would make."""
    schema = T.StructType()
    for name in names:
        schema.add(name, "long")
    return sa.Table("t", sa.MetaData(), *columns.columns_of(schema, keys))


def check(connection, statement, table):
    connection.exec_driver_sql(statement)
    columns.check_columns(connection, table, "table t")


OTHERS = {
    "missing": ("a BIGINT", "it lacks b BIGINT, c BIGINT"),
    "more": (
        "a BIGINT, b BIGINT, c BIGINT, d TEXT, e TEXT",
        "it has d, e, which the query does not",
    ),
    "all": (
        "a TEXT, b BIGINT, d TEXT",
        "it lacks c BIGINT; it has d, which the query does not; a is TEXT and not BIGINT",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_table_with_other_columns_is_refused(connection, what):
    made, differences = OTHERS[what]
    statement = f"CREATE TABLE t ({made})"
    assert refusal(check, connection, statement, wanted("a", "b", "c")) == (
        f"table t has other columns: {differences}; change the table or the query, or use"
        " another table"
    )


def test_a_type_of_the_databases_own_has_no_name(connection):
    differences = columns._differences(
        connection, {"a": sa.types.NullType()}, {"a": sa.BigInteger()}
    )
    assert differences == ["a is of a type of the database's own and not BIGINT"]


def test_a_table_that_fits_is_taken(connection):
    made = "CREATE TABLE t (b BIGINT, a INTEGER, c NUMERIC)"
    check(connection, made, wanted("a", "b", "c"))


def test_a_column_that_the_table_computes_is_refused(connection):
    made = "CREATE TABLE t (a BIGINT, b BIGINT GENERATED ALWAYS AS (a) STORED)"
    assert refusal(check, connection, made, wanted("a", "b")) == (
        "table t computes its column b itself; write to another table, or leave that"
        " column out of it"
    )


NOT_UNIQUE = (
    "table t is not unique in a, b, so that no row can be known by it; add a primary key"
    " or a unique index, or use another table"
)


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE t (a BIGINT, b BIGINT)",
        "CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT UNIQUE)",
        "CREATE TABLE t (a BIGINT, b BIGINT, c BIGINT, UNIQUE (a, b, c))",
    ],
    ids=["no key", "each for itself", "more"],
)
def test_an_upsert_needs_a_table_that_is_unique_in_its_keys(connection, made):
    table = wanted(*("abc" if "c BIGINT" in made else "ab"), keys=["b", "a"])
    assert refusal(check, connection, made, table) == NOT_UNIQUE


@pytest.mark.parametrize(
    "rule",
    ["PRIMARY KEY (b, a)", "UNIQUE (a, b)", "PRIMARY KEY (a), UNIQUE (b, a)"],
)
def test_a_table_that_is_unique_in_the_keys_is_taken(connection, rule):
    made = f"CREATE TABLE t (a BIGINT, b BIGINT, {rule})"
    check(connection, made, wanted("a", "b", keys=["a", "b"]))


@pytest.mark.parametrize(("unique", "fits"), [("UNIQUE", True), ("", False)])
def test_a_unique_index_will_do_and_another_one_not(connection, unique, fits):
    connection.exec_driver_sql("CREATE TABLE t (a BIGINT, b BIGINT)")
    index = f"CREATE {unique} INDEX i ON t (a, b)"
    table = wanted("a", "b", keys=["a", "b"])
    if fits:
        check(connection, index, table)
    else:
        assert refusal(check, connection, index, table) == NOT_UNIQUE


def test_who_inserts_alone_needs_no_key(connection):
    check(connection, "CREATE TABLE t (a BIGINT)", wanted("a"))


@pytest.mark.parametrize(("column", "fits"), [("k", False), ("v", True)])
def test_a_key_that_ignores_case_is_refused(connection, column, fits):
    schema = T.StructType().add("k", "string").add("v", "string")
    table = sa.Table("t", sa.MetaData(), *columns.columns_of(schema, ["k"]))
    kinds = {"k": "TEXT", "v": "TEXT"} | {column: "TEXT COLLATE NOCASE"}
    made = f"CREATE TABLE t (k {kinds['k']} UNIQUE, v {kinds['v']} UNIQUE)"
    if fits:
        check(connection, made, table)
    else:
        assert refusal(check, connection, made, table) == (
            "table t takes different texts in k for the same key (NOCASE); give that"
            " column the collation BINARY, or use another table"
        )


def test_a_second_key_is_refused_in_mariadb_alone():
    keys = {"k"}
    unique = [{"k"}, {"b", "a"}]
    assert refusal(columns._check_one_key, MARIADB, keys, unique, "table t") == (
        "table t is unique in a, b too, and MariaDB would overwrite a row that is the same"
        " there; drop that index, or use another table"
    )
    columns._check_one_key(MARIADB, keys, [{"k"}], "table t")
    columns._check_one_key(POSTGRESQL, keys, unique, "table t")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "table t is a view; give the table"),
        ({"mariadb_comment": "InnoDB"}, "table t is a view; give the table"),
        (
            {"mariadb_comment": "x", "mariadb_engine": "MyISAM", "z_engine": "InnoDB"},
            (
                "table t is one of MyISAM, which has no transactions; ALTER TABLE t"
                " ENGINE=InnoDB, or use another table"
            ),
        ),
    ],
    ids=["a view", "a view with a comment", "another engine"],
)
def test_a_table_of_mariadb_has_transactions(monkeypatch, options, said):
    asked = []

    def inspect(_):
        def get_table_options(name, schema):
            asked.append((name, schema))
            return options

        return SimpleNamespace(get_table_options=get_table_options)

    # The server would be another process
    monkeypatch.setattr(sa, "inspect", inspect)
    table = sa.Table("t", sa.MetaData(), schema="s")
    assert refusal(columns._check_engine, MARIADB, table, "table t") == said
    assert asked == [("t", "s")]
    options.clear()
    options["mariadb_engine"] = "InnoDB"
    columns._check_engine(MARIADB, table, "table t")


def test_columns_of_other_types_are_told_for_a_comparison(connection):
    connection.exec_driver_sql("CREATE TABLE t (a INTEGER, b TEXT, c BIGINT)")
    trial = wanted("a", "b", "c", "d")
    trial.name = "trial"
    trial.create(connection)
    table = sa.Table("t", sa.MetaData())
    assert columns.other_types(connection, table, trial) == {
        "a": {
            "is": "INTEGER in the target, and BIGINT in the changed query",
            "fits": True,
        },
        "b": {
            "is": "TEXT in the target, and BIGINT in the changed query",
            "fits": False,
        },
    }


def test_a_type_that_sqlalchemy_does_not_know_is_no_warning(monkeypatch):
    def get_columns(table, schema):
        warnings.warn("Did not recognize type 'bpchar'", SAWarning, stacklevel=2)
        return ({"name": f"{schema}.{table}"},)

    inspector = SimpleNamespace(get_columns=get_columns)
    monkeypatch.setattr(sa, "inspect", lambda _: inspector)
    assert columns.existing_columns(POSTGRESQL, "t", "s") == [{"name": "s.t"}]


def test_a_table_is_asked_for_its_engine_in_mariadb_alone(connection, monkeypatch):
    asked: list[Any] = []
    monkeypatch.setattr(columns, "_check_engine", lambda *given: asked.append(given))
    table = wanted("a")
    check(connection, "CREATE TABLE t (a BIGINT)", table)
    assert asked == []
    monkeypatch.setattr(connection.dialect, "name", "mariadb")
    columns.check_columns(connection, table, "table t")
    assert asked == [(connection, table, "table t")]


def test_each_unique_index_is_looked_at(connection, monkeypatch):
    asked: list[Any] = []
    monkeypatch.setattr(columns, "_check_one_key", lambda *given: asked.append(given))
    made = "CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT UNIQUE)"
    check(connection, made, wanted("a", "b", keys=["a"]))
    assert asked == [(connection, {"a"}, [{"a"}, {"b"}], "table t")]
