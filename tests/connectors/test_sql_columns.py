"""Tables of others: a column that `sinks.sql_table` accepts holds or refuses each value."""

import datetime as dt
import struct
from decimal import Decimal

import pyarrow as pa
import pytest
import sqlalchemy as sa
from conftest import refusal
from pyspark.sql import types as T
from support.sql import DATABASES, new

from sparkstream_kit.connectors.sql_table import columns, database
from sparkstream_kit.connectors.sql_table import table as sql_table
from sparkstream_kit.errors import InvalidInputError, KitError


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    """An empty database."""
    return new(request.param, tmp_path)


LAST = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001 - with and without a zone
# A type of Spark's, how its values come, and its corner cases.
TYPES: tuple[tuple[T.DataType, pa.DataType, list[object]], ...] = (
    (T.ByteType(), pa.int8(), [-128, 127]),
    (T.ShortType(), pa.int16(), [-(2**15), 2**15 - 1]),
    (T.IntegerType(), pa.int32(), [0, -(2**31), 2**31 - 1, 12_345]),
    (T.LongType(), pa.int64(), [0, -(2**63), 2**63 - 1, 2**53 + 1]),
    (T.FloatType(), pa.float32(), [0.1, 3e38, 16_777_217.0]),
    (T.DoubleType(), pa.float64(), [0.1, 1.005, 1e300, 123_456.789]),
    (
        T.DecimalType(10, 2),
        pa.decimal128(10, 2),
        [Decimal("1.25"), Decimal("-99999999.99")],
    ),
    (
        T.DecimalType(38, 18),
        pa.decimal128(38, 18),
        [Decimal("12345678901234567890.123456789012345678")],
    ),
    (
        T.StringType(),
        pa.string(),
        [
            "",
            "a ",
            "abcde ",
            "abcdef",
            "x" * 63 + " ",
            "ab" + " " * 300,
            "Ä€😀日本",
            "007",
            "1e3",
            "NULL",
        ],
    ),
    (T.BinaryType(), pa.binary(), [b"", b"a\0", b"abcde\0", b"\xff" * 300]),
    (T.BooleanType(), pa.bool_(), [True, False]),
    (T.DateType(), pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    (T.TimestampType(), pa.timestamp("us", "UTC"), [LAST.replace(tzinfo=dt.UTC)]),
    (T.TimestampNTZType(), pa.timestamp("us"), [LAST]),
)
COLUMNS = {
    "sqlite": [
        "INT",
        "INTEGER PRIMARY KEY",
        "TINYINT",
        "REAL",
        "DOUBLE",
        "NUMERIC",
        "DECIMAL(10,2)",
        "TEXT",
        "VARCHAR(5)",
        "CHAR(5)",
        "CLOB",
        "BLOB",
        "BOOLEAN",
        "DATE",
        "DATETIME",
        "TIMESTAMP",
        "STRING",
        "JSON",
        "TIME",
        "TEXT COLLATE NOCASE",
        "XYZ",
    ],
    "postgresql": [
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "numeric(5,2)",
        "numeric(40,18)",
        "numeric(20,-2)",
        "real",
        "double precision",
        "text",
        "varchar",
        "varchar(5)",
        "char(5)",
        "bpchar",
        '"char"',
        "name",
        "bytea",
        "boolean",
        "date",
        "timestamp",
        "timestamp(0)",
        "timestamptz",
        "timestamptz(3)",
        "json",
        "jsonb",
        "uuid",
        "money",
        "bit(3)",
        "inet",
        "text[]",
        "serial",
        "oid",
        "time",
        "interval",
    ],
    "mariadb": [
        "tinyint",
        "tinyint(1)",
        "smallint",
        "mediumint",
        "int",
        "int(3) zerofill",
        "int unsigned",
        "bigint",
        "decimal(10,2)",
        "decimal(65,30)",
        "decimal(20,0)",
        "float",
        "float(7,2)",
        "double",
        "double(10,2)",
        "bit(64)",
        "year",
        "char(5)",
        "varchar(5)",
        "varchar(50) character set latin1",
        "varchar(50) character set utf8mb3",
        "tinytext",
        "text",
        "longtext",
        "json",
        "enum('a','b')",
        "set('a','b')",
        "binary(5)",
        "varbinary(5)",
        "tinyblob",
        "longblob",
        "date",
        "datetime",
        "datetime(6)",
        "timestamp(6)",
        "time",
        "uuid",
        "int auto_increment unique",
        "bigint not null",
    ],
}


def written(url, name, schema, rows):
    """Write one row and return its only value, as the database has it; the row is not kept."""
    target = sql_table.SqlTarget.of(
        database.parse(url), name, "append", (), take_over=True
    )
    made = target.table(schema)
    with database.connected(target.url) as connection:
        sql_table._create(connection, made)  # noqa: SLF001 - the steps of a batch
        stage = sql_table._stage(made)  # noqa: SLF001
        stage.create(connection)
        database.load(
            connection, stage, database.checked(connection, made, name, [rows])
        )
        sql_table._merge(connection, target, made, stage, 0)  # noqa: SLF001
        [[value]] = connection.exec_driver_sql(f"SELECT v FROM {name}")  # noqa: S608 - ours
    return value


def fits(url, name, schema):
    """Return whether a query with this schema may write to a table."""
    made = sql_table.SqlTarget.of(
        database.parse(url), name, "append", (), take_over=True
    ).table(schema)
    with database.connected(database.parse(url)) as connection:
        try:
            columns.check_columns(connection, made, name)
        except InvalidInputError:
            return False
    return True


def plain(value, kind):
    """Return a value as it can be compared, whatever its column is."""
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).replace(tzinfo=None)
    if isinstance(kind, T.FloatType) and value is not None:
        return struct.pack("f", value)  # a column of eight bytes has more digits of it
    if isinstance(kind, T.NumericType | T.BooleanType) and value is not None:
        return Decimal(str(int(value) if isinstance(value, bool) else value))
    return value


def test_a_column_that_others_have_made_holds_a_value_or_refuses_it(url):
    refused, ours = set(), {}
    for number, column in enumerate(COLUMNS[sa.make_url(url).get_backend_name()]):
        with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
            connection.exec_driver_sql(f"CREATE TABLE t{number} (v {column})")
        for at, (kind, arrow, values) in enumerate(TYPES):
            schema = T.StructType([T.StructField("v", kind)])
            for value in [*values, None] if fits(url, f"t{number}", schema) else ():
                one = pa.RecordBatch.from_arrays([pa.array([value], arrow)], ["c0"])
                try:
                    there = written(url, f"t{number}", schema, one)
                except KitError:
                    refused.add(column)
                    continue
                if (at, value) not in ours:
                    ours[at, value] = written(url, f"r{at}", schema, one)
                assert plain(there, kind) == plain(ours[at, value], kind), (
                    column,
                    kind,
                    value,
                )
    assert refused


def test_a_null_that_a_column_would_count_is_told(tmp_path):
    url = new("sqlite", tmp_path)
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (v INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE many (v INTEGER, w INTEGER, PRIMARY KEY (v, w))"
        )
    schema, null = (
        T.StructType([T.StructField("v", T.IntegerType())]),
        pa.array([None], pa.int32()),
    )
    line = refusal(
        written, url, "t", schema, pa.RecordBatch.from_arrays([null], ["c0"])
    )
    assert line.startswith(
        "t: column v is null, in place of which the table would write a number of"
        " its own"
    )
    both = T.StructType([*schema, T.StructField("w", T.IntegerType())])
    assert (
        written(
            url, "many", both, pa.RecordBatch.from_arrays([null, null], ["c0", "c1"])
        )
        is None
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("postgresql", 5), ("mariadb", 768)])
def test_a_text_of_which_blanks_would_be_cut_off_is_told(tmp_path, name, most):
    url = new(name, tmp_path)
    schema = T.StructType([T.StructField("v", T.StringType())])
    keys = ("v",) if name == "mariadb" else ()
    target = sql_table.SqlTarget.of(
        database.parse(url), "t", "upsert", keys, take_over=True
    )
    with database.connected(target.url) as connection:
        if name == "mariadb":  # a key of the kit's own table
            sql_table._create(connection, target.table(schema))  # noqa: SLF001
        else:
            connection.exec_driver_sql("CREATE TABLE t (v VARCHAR(5))")
        connection.commit()
    for text in ("ä" * most, "ä" * (most - 1) + "  "):
        one = pa.RecordBatch.from_arrays([pa.array([text])], ["c0"])
        if len(text) == most:
            assert written(url, "t", schema, one) == text
        else:
            line = refusal(written, url, "t", schema, one)
            said = (
                f"t: a text in column v has {most + 1} characters, and the table takes"
                f" {most} at most; make"
            )
            assert line.startswith(said)
