"""Schemas inferred from sample files, and written down as code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._spark.files import path_for
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.schemas.ddl import reason

if TYPE_CHECKING:
    import os

    from pyspark.sql import SparkSession

__all__ = ["infer", "to_code"]

_FORMATS = ("csv", "json", "orc", "parquet")


def infer(
    spark: SparkSession,
    path: str | os.PathLike[str],
    *,
    format: str = "csv",  # noqa: A002 - Spark's own word
    **options: Any,
) -> T.StructType:
    """Return the schema that Spark infers from sample files; `print(to_code(...))` gives code to paste.

    CSV and JSON are read to the end. Money comes out as `double`: make it a decimal in the pasted code.

    Args:
        spark: the session, classic or Connect.
        path: a file, a folder or a glob.
        format: csv, json, orc or parquet.
        **options: Spark's reader options (`header=True`, `sep=";"`, `samplingRatio=0.1`).

    Returns:
        The inferred schema, all nullable.

    Raises:
        InvalidInputError: the path or the format does not exist, or the files have no rows or no schema.

    Example:
        In a session::

            print(to_code(infer(spark, "samples/", header=True)))
    """
    check(infer, locals())
    reject_unknown("format", [format], _FORMATS)
    inferring = {"inferSchema": True} if format == "csv" else {}
    there = path_for(spark, str(path))
    try:
        schema = spark.read.format(format).options(**{**inferring, **options}).load(there).schema
    except (PySparkException, Py4JJavaError) as error:
        raise InvalidInputError(f"cannot infer a {format} schema from {path}: {reason(error)}") from error
    if schema.names in ([], ["_corrupt_record"]):
        raise InvalidInputError(
            f"cannot infer a {format} schema from {path}: it has no {format} rows; give a file that has some"
        )
    return schema


def to_code(schema: T.StructType) -> str:
    """Return Python source that sets `SCHEMA` to an equal schema, one column a line, with PySpark alone.

    Args:
        schema: the schema to write down.

    Returns:
        The source text, imports first.

    Example:
        >>> from sparkstream_kit.schemas import schema_of
        >>> print(to_code(schema_of(key="string", tags=T.ArrayType(T.LongType()))))
        from pyspark.sql.types import ArrayType, LongType, StringType, StructField, StructType
        <BLANKLINE>
        SCHEMA = StructType(
            [
                StructField("key", StringType()),
                StructField("tags", ArrayType(LongType())),
            ]
        )
        <BLANKLINE>
    """
    check(to_code, locals())
    used: set[str] = set()
    body = _code(schema, "", used)
    return f"from pyspark.sql.types import {', '.join(sorted(used))}\n\nSCHEMA = {body}\n"


def _code(dtype: T.DataType, indent: str, used: set[str]) -> str:
    used.add(type(dtype).__name__)
    if isinstance(dtype, T.ArrayType):
        nulls = "" if dtype.containsNull else ", containsNull=False"
        return f"ArrayType({_code(dtype.elementType, indent, used)}{nulls})"
    if isinstance(dtype, T.MapType):
        nulls = "" if dtype.valueContainsNull else ", valueContainsNull=False"
        key, value = _code(dtype.keyType, indent, used), _code(dtype.valueType, indent, used)
        return f"MapType({key}, {value}{nulls})"
    if not isinstance(dtype, T.StructType) or not dtype.fields:
        return repr(dtype)
    used.add("StructField")
    inner, lines = indent + 8 * " ", []
    for field in dtype:
        nulls = "" if field.nullable else ", nullable=False"
        notes = f", metadata={field.metadata!r}" if field.metadata else ""
        name = json.dumps(field.name, ensure_ascii=False)
        lines.append(f"{inner}StructField({name}, {_code(field.dataType, inner, used)}{nulls}{notes}),\n")
    return f"StructType(\n{indent}    [\n{''.join(lines)}{indent}    ]\n{indent})"
