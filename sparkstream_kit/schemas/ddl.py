"""Schemas from DDL text and from type names, without Spark's parser where that is possible."""

from __future__ import annotations

import re

from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import types as T

from sparkstream_kit._arguments import check, said
from sparkstream_kit.errors import InvalidInputError, hint

__all__ = ["decimal_type", "from_ddl", "reason", "schema_of"]

_SQL_TYPES: dict[str, T.DataType] = {
    "bigint": T.LongType(),
    "binary": T.BinaryType(),
    "boolean": T.BooleanType(),
    "byte": T.ByteType(),
    "date": T.DateType(),
    "double": T.DoubleType(),
    "float": T.FloatType(),
    "int": T.IntegerType(),
    "integer": T.IntegerType(),
    "long": T.LongType(),
    "short": T.ShortType(),
    "smallint": T.ShortType(),
    "string": T.StringType(),
    "timestamp": T.TimestampType(),
    "timestamp_ntz": T.TimestampNTZType(),
    "tinyint": T.ByteType(),
}
_DECIMAL_NAMES = ("dec", "decimal", "numeric")
_FLAT_TYPE = re.compile(r"\s*(\w+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*", re.ASCII)
_FLAT_COLUMN = re.compile(
    r"\s*(\w+)(?:\s*:\s*|\s+)(\w+\s*(?:\([\d\s,]*\))?)(\s+NOT\s+NULL)?\s*", re.ASCII | re.IGNORECASE
)


def from_ddl(ddl: str) -> T.StructType:
    """Return the schema that a DDL text describes.

    Flat columns of the everyday types are read in Python, so that a job can build its schema before Spark
    starts. All else (nested types, back-quoted names, comments) goes to Spark's own parser, which lives in
    the JVM or the Connect server and so needs a running session.

    Args:
        ddl: the columns, as in `CREATE TABLE`: `name TYPE [NOT NULL], ...` (Spark SQL guide, "Data Types").

    Returns:
        The columns with the names, the order and the nullability of the text.

    Raises:
        InvalidInputError: `ddl` is not DDL text, has no column, or needs Spark's parser and no session runs.

    Example:
        >>> from_ddl("a INT, b DECIMAL(12,2)").simpleString()
        'struct<a:int,b:decimal(12,2)>'
    """
    check(from_ddl, locals())
    schema = _flat_columns(ddl) or _spark_type(ddl, "DDL")
    if not isinstance(schema, T.StructType) or not schema.fields:
        raise InvalidInputError(f"DDL {ddl!r} names no columns; write it like 'a INT, b DECIMAL(12,2)'")
    return schema


def schema_of(**columns: str | T.DataType) -> T.StructType:
    """Return the schema with these columns, in this order, all nullable.

    Args:
        **columns: a type for each column name: a DDL type name ("string", "decimal(12,2)") or a `DataType`.
            Nested type names ("array<int>") need a running session; `ArrayType(IntegerType())` does not.

    Returns:
        One nullable column for each keyword.

    Raises:
        InvalidInputError: a type cannot be read; the message names the column.

    Example:
        >>> schema_of(ProductKey="string", SaleAmount="decimal(12,2)").simpleString()
        'struct<ProductKey:string,SaleAmount:decimal(12,2)>'
    """
    return T.StructType([T.StructField(name, _named_type(name, given)) for name, given in columns.items()])


def _flat_columns(ddl: str) -> T.StructType | None:
    """Return the schema of flat DDL, or None for what only Spark can read."""
    fields = []
    for column in re.split(r",(?![^(]*\))", ddl):
        match = _FLAT_COLUMN.fullmatch(column)
        dtype = _flat_type(match[2], f"column {match[1]}") if match else None
        if not match or not dtype:
            return None
        fields.append(T.StructField(match[1], dtype, nullable=not match[3]))
    return T.StructType(fields)


def _flat_type(text: str, what: str) -> T.DataType | None:
    """Return the type that an everyday type name stands for, or None for what only Spark can read."""
    match = _FLAT_TYPE.fullmatch(text)
    if match and match[1].lower() in _DECIMAL_NAMES:
        return decimal_type(int(match[2] or 10), int(match[3] or 0), what)  # 10 and 0 are Spark's defaults
    return _SQL_TYPES.get(match[1].lower()) if match and not match[2] else None


def _named_type(name: str, given: str | T.DataType) -> T.DataType:
    if isinstance(given, T.DataType):
        return given
    if not isinstance(given, str):
        raise InvalidInputError(
            f"column {name} is {said(given)}; give a type's name, such as 'string', or a DataType"
        )
    dtype = _flat_type(given, f"column {name}") or _spark_type(given, f"column {name}: type")
    if isinstance(dtype, T.StructType) and not given.lower().lstrip().startswith("struct"):
        raise InvalidInputError(
            f"column {name}: {given!r} is not a type; write 'struct<name: type>' for nested columns"
        )
    return dtype


def _spark_type(text: str, what: str) -> T.DataType:
    near = hint(text, [*_SQL_TYPES, *_DECIMAL_NAMES]) if text.isidentifier() else ""
    try:
        return T.DataType.fromDDL(text)
    except PySparkRuntimeError as error:  # no session to ask
        fix = near or "; start a session first, or give a DataType"
        raise InvalidInputError(f"only a running Spark can read {what} {text!r}{fix}") from error
    except PySparkException as error:
        raise InvalidInputError(f"cannot read {what} {text!r}{near or ': ' + reason(error)}") from error


def reason(error: Exception) -> str:
    """Return Spark's own sentence without its error class, its SQLSTATE and its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((x for x in lines if re.search(r"\[[A-Z_.]+\]", x)), lines[0] if lines else repr(error))
    return re.sub(r"^.*?\[[A-Z_.]+\] |\.? SQLSTATE: \w+", "", line).rstrip(".")


def decimal_type(precision: int, scale: int, what: str) -> T.DecimalType:
    """Return a decimal type that exists, or say of `what` that its type does not."""
    if precision not in range(1, 39) or scale not in range(precision + 1):
        raise InvalidInputError(
            f"{what}: decimal({precision},{scale}) does not exist; precision is 1 to 38, scale 0 to precision"
        )
    return T.DecimalType(precision, scale)
