"""Columns of SQL tables: the types for a query's columns, and the checks of an existing table.

`columns_of` maps Spark's types to SQL. `check_columns` refuses an existing table whose
columns would change a value, or in which an upsert could find the wrong row, and
`other_types` says which columns of a table differ from those of a query.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeGuard

import sqlalchemy as sa
from pyspark.sql import types as T
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import SAWarning

from sparkstream_kit._internal.columns import is_window, quoted
from sparkstream_kit.errors import InvalidInputError, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection, Inspector
    from sqlalchemy.types import TypeEngine


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


_DECIMALS = (sa.NUMERIC, sa.DECIMAL)
# Types of columns that hold all values of a type; those of times and decimals depend on
# more than the type. MariaDB stores a BOOLEAN as TINYINT.
_WIDER: dict[Any, Any] = {
    sa.Boolean: mysql.TINYINT,
    sa.Float: sa.Double,
    sa.Integer: (sa.Integer, *_DECIMALS),
    sa.String: sa.String,
    sa.VARBINARY: sa.VARBINARY,
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


def columns_of(schema: T.StructType, keys: Sequence[str] = ()) -> list[sa.Column[Any]]:
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
    """Return the SQL type for a column.

    Raises:
        InvalidInputError: SQL has none.
    """
    # MariaDB can index texts and bytes only with a maximum length
    if field.name in keys:
        most_bytes = _INDEX // len(keys)
        if isinstance(field.dataType, T.StringType):
            text = mysql.VARCHAR(most_bytes // 4, collation=COLLATION)
            return sa.Text().with_variant(text, "mariadb")
        if isinstance(field.dataType, T.BinaryType):
            raw = mysql.VARBINARY(most_bytes)
            return sa.LargeBinary().with_variant(raw, "mariadb")
    if isinstance(field.dataType, T.DecimalType):
        # SQLite would turn a decimal into a float.
        exact = sa.Numeric(field.dataType.precision, field.dataType.scale)
        return exact.with_variant(sa.Text(), "sqlite")
    for spark_type, sql_type in _TYPES.items():
        if isinstance(field.dataType, spark_type):
            return sql_type
    raise _no_type(field)


def _no_type(field: T.StructField) -> InvalidInputError:
    """Return the error for a column of a type that SQL does not have, with the way to a text."""
    name = field.name if field.name.isidentifier() else quoted(field.name)
    as_text = f"F.col('{name}').cast('string')"
    if isinstance(field.dataType, _OF_JSON):
        as_text = f"F.to_json('{name}')"
    of_window = ""
    if is_window(field.dataType):
        of_window = "; windows.flatten makes two columns of a window"
    return InvalidInputError(
        f"sql_table: column {field.name} is {field.dataType.simpleString()}, which a"
        " column of SQL cannot hold; leave it out, cast it, or make it a text:"
        f" {as_text}{of_window}"
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
    existing = existing_columns(connection, table.name, table.schema)
    table_types = {str(column["name"]): column["type"] for column in existing}
    query_types = {column.name: column.type for column in table.columns}
    differences = _differences(connection, table_types, query_types)
    if differences:
        raise InvalidInputError(
            f"{where} has other columns: {'; '.join(differences)}; change the table or"
            " the query, or use another table"
        )
    for column in existing:
        if column.get("computed"):
            raise InvalidInputError(
                f"{where} computes its column {column['name']} itself; write to another"
                " table, or leave that column out of it"
            )
    if connection.dialect.name == "mariadb":
        _check_engine(connection, table, where)
    keys = {column.name for column in table.primary_key}
    if not keys:
        return
    unique = _unique_columns(inspector, table)
    if keys not in unique:
        raise InvalidInputError(
            f"{where} is not unique in {', '.join(sorted(keys))}, so that no row can be"
            " known by it; add a primary key or a unique index, or use another table"
        )
    _check_one_key(connection, keys, unique, where)
    _check_exact_keys(connection, table, keys, where)


def _differences(
    connection: Connection,
    table_types: Mapping[str, TypeEngine[Any]],
    query_types: Mapping[str, TypeEngine[Any]],
) -> list[str]:
    """Return phrases that say how the columns of a table differ from those that a query would make.

    Args:
        connection: a connection to the database.
        table_types: the types of the table's columns.
        query_types: those of the query's.
    """
    missing = []
    other_kinds = []
    for name, kind in query_types.items():
        if name not in table_types:
            missing.append(f"{name} {_spelt(connection, kind)}")
        elif not _holds(connection, table_types[name], kind):
            existing = _spelt(connection, table_types[name])
            existing = existing or "of a type of the database's own"
            other_kinds.append(
                f"{name} is {existing} and not {_spelt(connection, kind)}"
            )
    extra = [name for name in table_types if name not in query_types]
    phrases = []
    if missing:
        phrases.append(f"it lacks {', '.join(missing)}")
    if extra:
        phrases.append(f"it has {', '.join(extra)}, which the query does not")
    return phrases + other_kinds


def _check_engine(connection: Connection, table: sa.Table, where: str) -> None:
    """Refuse a view of MariaDB, and a table whose storage engine has no transactions."""
    options = sa.inspect(connection).get_table_options(table.name, schema=table.schema)
    engine = ""
    for name, value in options.items():
        if name.endswith("_engine"):
            engine = value
            break
    if not engine:
        raise InvalidInputError(f"{where} is a view; give the table")
    if engine != "InnoDB":
        raise InvalidInputError(
            f"{where} is one of {engine}, which has no transactions; "
            f"ALTER TABLE {table.name} ENGINE=InnoDB, or use another table"
        )


def _unique_columns(inspector: Inspector, table: sa.Table) -> list[set[str]]:
    """Return the column sets of a table's primary key, unique constraints and unique indexes."""
    primary_key = inspector.get_pk_constraint(table.name, schema=table.schema)
    constraints = inspector.get_unique_constraints(table.name, schema=table.schema)
    indexes = inspector.get_indexes(table.name, schema=table.schema)
    unique: list[Any] = [primary_key["constrained_columns"]]
    unique += [constraint["column_names"] for constraint in constraints]
    unique += [index["column_names"] for index in indexes if index["unique"]]
    return [set(names) for names in unique if names]


def _check_one_key(
    connection: Connection, keys: set[str], unique: Sequence[set[str]], where: str
) -> None:
    """Refuse a table of MariaDB with a second unique index, by which it also matches rows."""
    if connection.dialect.name != "mariadb":
        return
    for names in unique:
        if names != keys:
            raise InvalidInputError(
                f"{where} is unique in {', '.join(sorted(names))} too, and MariaDB"
                " would overwrite a row that is the same there; drop that index, or use"
                " another table"
            )


def _check_exact_keys(
    connection: Connection, table: sa.Table, keys: set[str], where: str
) -> None:
    """Refuse a key column that treats different texts as equal, such as one that ignores case.

    An upsert could overwrite the wrong row.
    """
    database = connection.dialect.name
    names = {"schema": table.schema, "name": table.name}
    for column, collation in connection.execute(sa.text(_INEXACT[database]), names):
        if column in keys:
            raise InvalidInputError(
                f"{where} takes different texts in {column} for the same key"
                f" ({collation}); give that column the collation {_EXACT[database]}, or"
                " use another table"
            )


def other_types(
    connection: Connection, table: sa.Table, trial_table: sa.Table
) -> dict[str, dict[str, Any]]:
    """Return which columns of a table have another type than the query would give them.

    For each: `is`, a phrase, and `fits`, whether the column holds all values of the
    query.

    Args:
        connection: a connection to the database.
        table: the table.
        trial_table: a table that was made with the types of the query.
    """
    table_types = _types(connection, table)
    query_types = _types(connection, trial_table)
    others = {}
    for column in trial_table.columns:
        if column.name not in table_types:
            continue
        their_type = table_types[column.name].compile(connection.dialect)
        our_type = query_types[column.name].compile(connection.dialect)
        if their_type != our_type:
            fits = _holds(connection, table_types[column.name], column.type)
            phrase = f"{their_type} in the target, and {our_type} in the changed query"
            others[column.name] = {"is": phrase, "fits": fits}
    return others


def _types(connection: Connection, table: sa.Table) -> dict[str, TypeEngine[Any]]:
    """Return the types of a table's columns by their names, as the database has them."""
    columns = existing_columns(connection, table.name, table.schema)
    return {str(column["name"]): column["type"] for column in columns}


def existing_columns(
    connection: Connection, table: str, schema: str | None
) -> list[Any]:
    """Return the columns of a table as SQLAlchemy describes them."""
    # Of a type that it does not know, such as bpchar, SQLAlchemy warns; the kit looks at
    # the columns of such a type by itself. Filters are those of all threads: if two ask
    # at once, this one may stay, and it is for this message alone.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Did not recognize type", SAWarning)
        return [*sa.inspect(connection).get_columns(table, schema=schema)]


def _spelt(connection: Connection, kind: TypeEngine[Any]) -> str:
    """Return a type as the database spells it; "" if SQLAlchemy does not know it."""
    if isinstance(kind, sa.types.NullType):
        return ""
    return kind.compile(connection.dialect)


def _holds(
    connection: Connection, existing: TypeEngine[Any], wanted: TypeEngine[Any]
) -> bool:
    """Return whether an existing column stores every value exactly or fails, but never rounds one.

    Args:
        connection: a connection to the database.
        existing: the type of the existing column.
        wanted: the type that this query would create.
    """
    if _spelt(connection, existing) == _spelt(connection, wanted):
        return True
    # The type in this database: in SQLite a decimal is a text
    wanted_in_database = wanted.dialect_impl(connection.dialect)
    in_sqlite = connection.dialect.name == "sqlite"
    if isinstance(existing, _DECIMALS) and _is_exact(wanted):
        return _holds_decimals(existing, wanted, in_sqlite=in_sqlite)
    if isinstance(existing, sa.DateTime) and isinstance(
        wanted_in_database, sa.DateTime
    ):
        return in_sqlite or _holds_times(existing, wanted_in_database)
    if not in_sqlite and _changes(existing):
        return False
    if in_sqlite and isinstance(existing, sa.Float):
        return isinstance(wanted_in_database, sa.Float)  # each has eight bytes there
    return any(
        isinstance(wanted_in_database, kind) and isinstance(existing, kinds)
        for kind, kinds in _WIDER.items()
    )


def _is_exact(kind: TypeEngine[Any]) -> TypeGuard[sa.Numeric[Any]]:
    return isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float)


def _holds_decimals(
    existing: sa.Numeric[Any], wanted: sa.Numeric[Any], *, in_sqlite: bool
) -> bool:
    """Return whether a column of decimals keeps all digits of others after the point."""
    if in_sqlite:
        return (wanted.precision or _DIGITS) <= _DIGITS
    return existing.scale is None or existing.scale >= (wanted.scale or 0)


def _holds_times(existing: sa.DateTime, wanted: sa.DateTime) -> bool:
    """Return whether a column of PostgreSQL keeps times to the microsecond, and with their zone."""
    if not isinstance(existing, postgresql.TIMESTAMP):
        return False
    in_microseconds = existing.precision in (None, 6)
    return in_microseconds and existing.timezone == wanted.timezone


def _changes(existing: TypeEngine[Any]) -> bool:
    """Return whether a column of a server cuts or rounds values without an error."""
    # Blanks at the end, or a text that is taken for another one
    if isinstance(existing, (sa.CHAR, sa.Enum, mysql.SET)):
        return True
    # PostgreSQL's "char" and name, which cut a text
    if type(existing) is sa.String:
        return True
    # DOUBLE(10, 2) of MariaDB, NUMERIC(10, -2) of PostgreSQL
    scale = getattr(existing, "scale", None)
    return scale is not None and (isinstance(existing, sa.Float) or scale < 0)
