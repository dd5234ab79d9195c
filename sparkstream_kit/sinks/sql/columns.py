"""Columns: Spark's types in SQL, exactly or not at all, and whether a table that exists has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection
    from sqlalchemy.types import TypeEngine

__all__ = ["check", "check_names", "columns"]

_LONGEST = 63  # bytes of a name in PostgreSQL

_TYPES: dict[type[T.DataType], TypeEngine[Any]] = {
    T.BinaryType: sa.LargeBinary(),
    T.BooleanType: sa.Boolean(),
    T.ByteType: sa.SmallInteger(),
    T.DateType: sa.Date(),
    T.DoubleType: sa.Double(),
    T.FloatType: sa.REAL(),
    T.IntegerType: sa.Integer(),
    T.LongType: sa.BigInteger(),
    T.ShortType: sa.SmallInteger(),
    T.StringType: sa.Text(),
    T.TimestampNTZType: sa.DateTime(),
    T.TimestampType: sa.DateTime(timezone=True),
}


def columns(schema: T.StructType, keys: Sequence[str] = ()) -> list[sa.Column[Any]]:
    """Return a table's columns for a schema; the keys are its primary key.

    Raises:
        InvalidInputError: a type that SQL cannot hold, or a key that is not a column.
    """
    for key in keys:
        if key not in schema.names:
            raise InvalidInputError(
                f"sql_table: key {key} is not a column; columns: {', '.join(schema.names)}"
            )
    return [
        # An integer key is the user's own, not one that the database counts. Names have quotes, as SQLAlchemy
        # does not know all words that a database keeps for itself.
        sa.Column(field.name, _type(field), primary_key=field.name in keys, autoincrement=False, quote=True)
        for field in schema
    ]


def check_names(names: Iterable[str]) -> None:
    """Refuse a name that PostgreSQL would cut, so that nothing is found by it again.

    Raises:
        InvalidInputError: a schema's, table's or column's name is too long.
    """
    for name in names:
        if len(name.encode()) > _LONGEST:
            raise InvalidInputError(
                f"sql_table: PostgreSQL cuts names at {_LONGEST} bytes, and {name} has {len(name.encode())}; "
                "rename it"
            )


def _type(field: T.StructField) -> TypeEngine[Any]:
    if isinstance(field.dataType, T.DecimalType):
        # SQLite would make a float of a number.
        exact = sa.Numeric(field.dataType.precision, field.dataType.scale)
        return exact.with_variant(sa.Text(), "sqlite")
    for spark_type, sql_type in _TYPES.items():
        if isinstance(field.dataType, spark_type):
            return sql_type
    raise InvalidInputError(
        f"sql_table: column {field.name} is {field.dataType.simpleString()}, which a column of SQL cannot "
        f"hold; leave it out, cast it, or make it a text: F.to_json('{field.name}')"
    )


def check(connection: Connection, table: sa.Table, where: str) -> None:
    """Refuse a table that exists with other columns, or that is not unique in the keys.

    Args:
        connection: to the database.
        table: as this query would make it.
        where: the table and its database, for messages.

    Raises:
        InvalidInputError: in words, with the fix.
    """
    inspector = sa.inspect(connection)
    found = {str(c["name"]): c["type"] for c in inspector.get_columns(table.name, schema=table.schema)}
    missing = [f"{c.name} {c.type.compile(connection.dialect)}" for c in table.columns if c.name not in found]
    extra = [name for name in found if name not in table.columns]
    other = [
        f"{column.name} is {found[column.name].compile(connection.dialect)} "
        f"and not {column.type.compile(connection.dialect)}"
        for column in table.columns
        if column.name in found and not _holds(connection, found[column.name], column.type)
    ]
    if missing or extra or other:
        said = [f"it lacks {', '.join(missing)}"] if missing else []
        said += [f"it has {', '.join(extra)}, which the query does not"] if extra else []
        raise InvalidInputError(
            f"table {where} has other columns: {'; '.join([*said, *other])}; change the table or the query, "
            "or use another table"
        )
    keys = {column.name for column in table.primary_key}
    if not keys:
        return
    unique: list[Iterable[Any]] = [
        inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"],
        *(c["column_names"] for c in inspector.get_unique_constraints(table.name, schema=table.schema)),
        *(i["column_names"] for i in inspector.get_indexes(table.name, schema=table.schema) if i["unique"]),
    ]
    if keys not in [set(names) for names in unique]:
        raise InvalidInputError(
            f"table {where} is not unique in {', '.join(sorted(keys))}, so that no row can be known by it; "
            "add a primary key or a unique index, or use another table"
        )


def _holds(connection: Connection, theirs: TypeEngine[Any], ours: TypeEngine[Any]) -> bool:
    """Say whether a column keeps every value of ours as it is, or fails: what it rounds is not right."""
    if theirs.compile(connection.dialect) == ours.compile(connection.dialect):
        return True
    here = ours.dialect_impl(connection.dialect)  # a decimal is a text in SQLite
    if isinstance(here, sa.Numeric) and not isinstance(here, sa.Float):
        return (
            isinstance(theirs, sa.Numeric)
            and not isinstance(theirs, sa.Float)
            and (theirs.scale is None or theirs.scale >= (here.scale or 0))
        )
    return any(isinstance(here, kind) and isinstance(theirs, kind) for kind in (sa.Integer, sa.String))
