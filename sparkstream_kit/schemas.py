"""Build, compare, require and infer schemas; all of them are plain `StructType` objects."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import inspect
import json
import re
import types
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

__all__ = ["diff", "from_dataclass", "from_ddl", "infer", "require", "schema_of", "to_code"]

Frame = TypeVar("Frame", DataFrame, T.StructType)

_BULLET = "\n  - "
_IGNORE = ("ignore_column_order", "ignore_extra", "ignore_nullable")
_FORMATS = ("csv", "json", "orc", "parquet")
_SQL_TYPES = {  # under both of Spark's names: int and integer, bigint and long
    name: dtype
    for dtype in (
        *(T.BinaryType(), T.BooleanType(), T.ByteType(), T.DateType(), T.DoubleType(), T.FloatType()),
        *(
            T.IntegerType(),
            T.LongType(),
            T.ShortType(),
            T.StringType(),
            T.TimestampType(),
            T.TimestampNTZType(),
        ),
    )
    for name in (dtype.simpleString(), dtype.typeName())
}
_DECIMAL_NAMES = ("dec", "decimal", "numeric")
_PYTHON_TYPES: dict[Any, T.DataType] = {
    bool: T.BooleanType(),
    bytes: T.BinaryType(),
    dt.date: T.DateType(),
    dt.datetime: T.TimestampType(),
    float: T.DoubleType(),
    int: T.LongType(),
    str: T.StringType(),
}
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


def from_dataclass(cls: type[Any]) -> T.StructType:
    """Return the schema of a dataclass: a column for each field.

    `str`, `int` (long), `float` (double), `bool`, `bytes`, `date`, `datetime` (timestamp), `list[T]`,
    `dict[K, V]` and dataclasses stand for themselves; `Annotated[Decimal, (12, 2)]` gives precision and
    scale; `Annotated[int, IntegerType()]` gives any other Spark type. `X | None` is nullable, others are not.

    Args:
        cls: a dataclass, whose annotations may be strings (`from __future__ import annotations`).

    Returns:
        The columns, named as the fields are.

    Raises:
        InvalidInputError: `cls` is not a dataclass, contains itself, or has a field of another type.

    Example:
        >>> @dataclasses.dataclass
        ... class Sale:
        ...     key: str
        ...     amount: Annotated[decimal.Decimal, (12, 2)] | None
        >>> [(f.name, f.dataType.simpleString(), f.nullable) for f in from_dataclass(Sale)]
        [('key', 'string', False), ('amount', 'decimal(12,2)', True)]
    """
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
        raise InvalidInputError(f"from_dataclass needs a dataclass (the class itself), not {cls!r}")
    return _struct(cls, cls.__name__, ())


def diff(
    actual: DataFrame | T.StructType,
    expected: DataFrame | T.StructType,
    *,
    ignore_nullable: bool = True,
    ignore_column_order: bool = False,
    ignore_extra: bool = False,
) -> list[str]:
    """Return what differs between two schemas, a readable line for each difference.

    Names are compared exactly; column metadata (comments) is not compared.

    Args:
        actual: the schema there is, or a DataFrame that has it.
        expected: the schema there should be, or a DataFrame that has it.
        ignore_nullable: do not compare nullability, which file sources drop anyway.
        ignore_column_order: do not compare the order of the columns.
        ignore_extra: allow columns that `expected` lacks.

    Returns:
        The lines, none if the schemas agree. Nested columns are dotted: `items.element.price`.

    Raises:
        InvalidInputError: an argument is neither a schema nor a DataFrame.

    Example:
        >>> diff(schema_of(key="string", amount="double"), schema_of(key="string", amount="decimal(12,2)"))
        ['amount is double, expected decimal(12,2)']
    """
    ignored = {"null": ignore_nullable, "order": ignore_column_order, "extra": ignore_extra}
    found = _struct_diff("", _schema(actual), _schema(expected))
    return [line for kind, line in found if not ignored.get(kind)]


def require(actual: Frame, expected: DataFrame | T.StructType, **ignore: bool) -> Frame:
    """Return `actual` if its schema is the expected one, so that it chains: `df.transform(require, SALES)`.

    Args:
        actual: a DataFrame, static or streaming, or a schema.
        expected: the schema that it must have, or a DataFrame that has it.
        **ignore: the `ignore_...` keywords of `diff`.

    Returns:
        `actual`, untouched.

    Raises:
        InvalidInputError: the schemas differ; the message holds the lines of `diff`.

    Example:
        >>> require(schema_of(saleAmount="string"), schema_of(SaleAmount="string"), ignore_extra=True)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: schema differs: missing SaleAmount string; did you mean ...
    """
    reject_unknown("keyword of require()", ignore, _IGNORE)
    lines = diff(actual, expected, **ignore)
    if lines:
        raise InvalidInputError(
            "schema differs:" + "".join(f"{' ' if len(lines) == 1 else _BULLET}{x}" for x in lines)
        )
    return actual


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
        InvalidInputError: the path or the format does not exist, or no schema can be had from the files.

    Example:
        In a session::

            print(to_code(infer(spark, "samples/", header=True)))
    """
    reject_unknown("format", [format], _FORMATS)
    inferring = {"inferSchema": True} if format == "csv" else {}
    try:
        schema = spark.read.format(format).options(**{**inferring, **options}).load(str(path)).schema
    except (PySparkException, Py4JJavaError) as error:
        raise InvalidInputError(f"cannot infer a {format} schema from {path}: {_reason(error)}") from error
    if schema.names in ([], ["_corrupt_record"]):
        raise InvalidInputError(f"cannot infer a {format} schema from {path}: there is no {format} row in it")
    return schema


def to_code(schema: T.StructType) -> str:
    """Return Python source that sets `SCHEMA` to an equal schema, one column a line, with PySpark alone.

    Args:
        schema: the schema to write down.

    Returns:
        The source text, imports first.

    Example:
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
    used: set[str] = set()
    body = _code(schema, "", used)
    return f"from pyspark.sql.types import {', '.join(sorted(used))}\n\nSCHEMA = {body}\n"


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
        return _decimal(int(match[2] or 10), int(match[3] or 0), what)  # 10 and 0 are Spark's defaults
    return _SQL_TYPES.get(match[1].lower()) if match and not match[2] else None


def _named_type(name: str, given: str | T.DataType) -> T.DataType:
    if isinstance(given, T.DataType):
        return given
    if not isinstance(given, str):
        raise InvalidInputError(
            f"column {name} has type {given!r}; give a name such as 'string', or a DataType"
        )
    dtype = _flat_type(given, f"column {name}") or _spark_type(given, f"column {name}: type")
    if isinstance(dtype, T.StructType) and not given.lower().lstrip().startswith("struct"):
        raise InvalidInputError(
            f"column {name}: type {given!r} is not one type; write 'struct<...>' for columns"
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
        raise InvalidInputError(f"cannot read {what} {text!r}{near or ': ' + _reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return Spark's own sentence without its error class, its SQLSTATE and its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((x for x in lines if re.search(r"\[[A-Z_.]+\]", x)), lines[0] if lines else repr(error))
    return re.sub(r"^.*?\[[A-Z_.]+\] |\.? SQLSTATE: \w+", "", line).rstrip(".")


def _decimal(precision: int, scale: int, what: str) -> T.DecimalType:
    if not (1 <= precision <= T.DecimalType(38, 0).precision and 0 <= scale <= precision):
        raise InvalidInputError(
            f"{what}: decimal({precision},{scale}) does not exist; precision is 1 to 38, scale 0 to precision"
        )
    return T.DecimalType(precision, scale)


def _struct(cls: type[Any], path: str, outer: tuple[type, ...]) -> T.StructType:
    if cls in outer:
        raise InvalidInputError(
            f"{path}: {cls.__name__} contains itself, as no Spark schema can; hold a key instead"
        )
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidInputError(
            f"{path}: the annotation {error.name} is not defined at run time; import it outside TYPE_CHECKING"
        ) from error
    inside = (*outer, cls)
    columns = [
        (f.name, *_from_hint(hints[f.name], f"{path}.{f.name}", inside)) for f in dataclasses.fields(cls)
    ]
    return T.StructType([T.StructField(*column) for column in columns])


def _from_hint(given: Any, path: str, outer: tuple[type, ...], *extras: Any) -> tuple[T.DataType, bool]:
    """Return the Spark type of an annotation, and whether it may be null; `extras` is what annotates it."""
    origin, args = get_origin(given), get_args(given)
    if origin is Annotated:
        return _from_hint(args[0], path, outer, *args[1:], *extras)
    if origin in (Union, types.UnionType) and len(args) == 2 and types.NoneType in args:  # noqa: PLR2004 - X | None
        return _from_hint(args[args[0] is types.NoneType], path, outer, *extras)[0], True
    chosen = next((extra for extra in extras if isinstance(extra, T.DataType)), None)
    return chosen or _bare_type(given, path, outer, extras), False


def _bare_type(given: Any, path: str, outer: tuple[type, ...], extras: tuple[Any, ...]) -> T.DataType:
    """Return the Spark type of an annotation without its `Annotated` and its `| None`."""
    origin, args = get_origin(given), get_args(given)
    if given is decimal.Decimal:
        return _annotated_decimal(path, extras)
    if origin is list and args:
        return T.ArrayType(*_from_hint(args[0], f"{path}.element", outer))
    if origin is dict and args:
        key, key_nullable = _from_hint(args[0], f"{path}.key", outer)
        if key_nullable:
            raise InvalidInputError(
                f"{path}.key may be None, which Spark's maps do not allow; drop the '| None'"
            )
        return T.MapType(key, *_from_hint(args[1], f"{path}.value", outer))
    if isinstance(given, type) and dataclasses.is_dataclass(given):
        return _struct(given, path, outer)
    if given not in _PYTHON_TYPES:
        shown = given.__name__ if isinstance(given, type) and not origin else str(given)
        raise InvalidInputError(
            f"{path} has type {shown}; allowed are str, int, float, bool, bytes, date, datetime, "
            "Annotated[Decimal, (12, 2)], list[T], dict[K, V], dataclasses, Annotated[T, DataType], X | None"
        )
    return _PYTHON_TYPES[given]


def _annotated_decimal(path: str, extras: tuple[Any, ...]) -> T.DecimalType:
    for extra in extras:
        match extra:
            case (int(precision), int(scale)):
                return _decimal(precision, scale, path)
    raise InvalidInputError(f"{path}: Decimal needs precision and scale; write Annotated[Decimal, (12, 2)]")


def _schema(given: object) -> T.StructType:
    if isinstance(given, DataFrame):
        return given.schema
    if not isinstance(given, T.StructType):
        raise InvalidInputError(f"expected a schema or a DataFrame, not {given!r}; from_ddl() reads text")
    return given


def _struct_diff(prefix: str, actual: T.StructType, expected: T.StructType) -> Iterator[tuple[str, str]]:
    """Yield the kind of each difference, for `diff` to leave out, and its line."""
    has, wants = {f.name: f for f in actual}, {f.name: f for f in expected}
    extra = [name for name in has if name not in wants]
    for name, want in wants.items():
        path = prefix + name
        if name not in has:
            yield "missing", f"missing {path} {want.dataType.simpleString()}{hint(name, extra)}"
            continue
        yield from _type_diff(path, has[name].dataType, want.dataType)
        yield from _null_diff(path, has[name].nullable, want.nullable)
    for name in extra:
        yield "extra", f"unexpected {prefix}{name} {has[name].dataType.simpleString()}"
    for name in has:
        if actual.names.count(name) > 1:
            yield "twice", f"{prefix}{name} appears twice"
    got, order = [n for n in has if n in wants], [n for n in wants if n in has]
    if got != order:
        where = f" in {prefix.rstrip('.')}" if prefix else ""
        yield "order", f"order{where} is {', '.join(got)}; expected {', '.join(order)}"


def _type_diff(path: str, actual: T.DataType, expected: T.DataType) -> Iterator[tuple[str, str]]:
    if isinstance(actual, T.StructType) and isinstance(expected, T.StructType):
        yield from _struct_diff(f"{path}.", actual, expected)
    elif isinstance(actual, T.ArrayType) and isinstance(expected, T.ArrayType):
        yield from _type_diff(f"{path}.element", actual.elementType, expected.elementType)
        yield from _null_diff(f"{path}.element", actual.containsNull, expected.containsNull)
    elif isinstance(actual, T.MapType) and isinstance(expected, T.MapType):
        yield from _type_diff(f"{path}.key", actual.keyType, expected.keyType)
        yield from _type_diff(f"{path}.value", actual.valueType, expected.valueType)
        yield from _null_diff(f"{path}.value", actual.valueContainsNull, expected.valueContainsNull)
    elif actual != expected:
        yield "type", f"{path} is {actual.simpleString()}, expected {expected.simpleString()}"


def _null_diff(path: str, actual: bool, expected: bool) -> Iterator[tuple[str, str]]:
    if actual != expected:
        said = {True: "nullable", False: "not null"}
        yield "null", f"{path} is {said[actual]}, expected {said[expected]}"


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
