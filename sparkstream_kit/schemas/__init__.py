"""Thin: build, compare, require and infer schemas; all of them are plain `StructType` objects.

`from_ddl`, `schema_of` and `from_dataclass` build a schema, `from_contract` reads one
from a data contract and `infer` one from sample files, and `to_code` writes one as
Python source. `diff` lists the differences between two schemas; `require` refuses a
DataFrame that has any. `registry` names the schema registry of Kafka's records.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import inspect
import json
import types
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pyspark.errors import PySparkRuntimeError
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit._internal.columns import quoted
from sparkstream_kit._internal.spark.session import schema_of_ddl, type_of_ddl
from sparkstream_kit.errors import (
    InvalidInputError,
    hint,
    reject_unknown,
)

if TYPE_CHECKING:
    import os

    from pyspark.sql import SparkSession

    from sparkstream_kit.connectors._registry.client import Registry
    from sparkstream_kit.schemas.contracts import Formats

__all__ = [
    "diff",
    "formats_of",
    "from_contract",
    "from_dataclass",
    "from_ddl",
    "infer",
    "registry",
    "require",
    "schema_of",
    "to_code",
]

_Frame = TypeVar("_Frame", DataFrame, T.StructType)

_DECIMAL_DIGITS = 38  # the most of a DECIMAL

_PYTHON_TYPES: dict[Any, T.DataType] = {
    bool: T.BooleanType(),
    bytes: T.BinaryType(),
    dt.date: T.DateType(),
    dt.datetime: T.TimestampType(),
    float: T.DoubleType(),
    int: T.LongType(),
    str: T.StringType(),
}


def from_ddl(ddl: str) -> T.StructType:
    """Make a schema from DDL text.

    Spark's own parser reads the text. The parser is in the JVM or the Connect server,
    so a session must be running: the active one of the thread, or else the first one of
    the process. Its setting `spark.sql.timestampType` says which type TIMESTAMP is.

    Args:
        ddl: the columns: `name TYPE [NOT NULL] [COMMENT 'text'], ...` (Spark SQL guide,
            "Data Types"). Other clauses of `CREATE TABLE`, such as DEFAULT, are
            refused. Two columns may have the same name, as in Spark's parser;
            `quarantine` refuses such a schema.

    Returns:
        The columns with the names, the order and the nullability of the text.

    Raises:
        InvalidInputError: `ddl` is not DDL text or has no column, or no session is
            running.

    Examples:
        In a session::

            from_ddl("ProductKey STRING NOT NULL, SaleAmount DECIMAL(12,2)")
    """
    check(from_ddl, locals())
    return schema_of_ddl(ddl)


def schema_of(**columns: str | T.DataType) -> T.StructType:
    """Make a schema from keywords: these columns, in this order, all nullable.

    Args:
        **columns: a type for each column name: a `DataType`, or a DDL type name
            ("string", "decimal(12,2)"), which needs a running session.

    Returns:
        One nullable column for each keyword.

    Raises:
        InvalidInputError: a type cannot be read; the message names the column.

    Examples:
        >>> schema_of(ProductKey=T.StringType(), SaleAmount=T.DecimalType(12, 2)).simpleString()
        'struct<ProductKey:string,SaleAmount:decimal(12,2)>'
    """
    schema = T.StructType()
    for name, kind in columns.items():
        if isinstance(kind, str):
            schema.add(name, _type_by_name(name, kind))
        elif isinstance(kind, T.DataType):
            schema.add(name, kind)
        else:
            raise InvalidInputError(
                f"schema_of(): column {name} is {said(kind)}; give a type's name, such"
                " as 'string', or a DataType"
            )
    return schema


def _type_by_name(name: str, kind: str) -> T.DataType:
    """Return the type of a column by the name of the type."""
    if not kind.strip():
        raise InvalidInputError(
            f"schema_of(): column {name} has no type; give a type's name, such as"
            " 'string'"
        )
    schema = type_of_ddl(f"{quoted(name)} {kind}", f"column {name}: type {kind!r}")
    if not isinstance(schema, T.StructType) or len(schema) != 1:
        raise InvalidInputError(
            f"schema_of(): column {name} is {kind!r}, which names several columns;"
            " give each column a keyword of its own"
        )
    return schema[0].dataType


def from_dataclass(cls: type[Any]) -> T.StructType:
    """Make the schema of a dataclass: one column for each field.

    `str`, `int` (long), `float` (double), `bool`, `bytes`, `date`, `datetime`
    (timestamp), `list[T]`, `dict[K, V]` and dataclasses become the matching Spark type.
    `Annotated[Decimal, (12, 2)]` gives precision and scale, and `Annotated[int,
    IntegerType()]` gives any other Spark type. A field `X | None` is nullable; every
    other field is not.

    Args:
        cls: a dataclass. Its annotations may be strings (`from __future__ import
            annotations`).

    Returns:
        One column for each field, with the field's name.

    Raises:
        InvalidInputError: `cls` is not a dataclass, contains itself, or has a field of
            another type.

    Examples:
        >>> @dataclasses.dataclass
        ... class Sale:
        ...     key: str
        ...     amount: Annotated[decimal.Decimal, (12, 2)] | None
        >>> [(f.name, f.dataType.simpleString(), f.nullable) for f in from_dataclass(Sale)]
        [('key', 'string', False), ('amount', 'decimal(12,2)', True)]
    """
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
        raise InvalidInputError(
            f"from_dataclass needs a dataclass (the class itself), not {said(cls)}"
        )
    try:
        return _struct(cls, cls.__name__)
    # Of an annotation; and of a class that contains itself.
    except (AttributeError, NameError, SyntaxError, RecursionError) as error:
        raise InvalidInputError(
            f"cannot make a schema of {cls.__name__}: {error}"
        ) from error


def _struct(cls: type[Any], path: str) -> T.StructType:
    hints = get_type_hints(cls, include_extras=True)
    schema = T.StructType()
    for field in dataclasses.fields(cls):
        schema.add(field.name, *_from_hint(hints[field.name], f"{path}.{field.name}"))
    return schema


def _from_hint(annotation: Any, path: str, *extras: Any) -> tuple[T.DataType, bool]:
    """Return the Spark type of an annotation, and whether it may be null.

    `extras` come from `Annotated`.
    """
    origin = get_origin(annotation)
    args = get_args(annotation)
    if origin is Annotated:
        return _from_hint(args[0], path, *args[1:], *extras)
    if origin in (Union, types.UnionType) and len(args) == 2 and types.NoneType in args:  # noqa: PLR2004 - X | None
        [inner] = (arg for arg in args if arg is not types.NoneType)
        kind, _ = _from_hint(inner, path, *extras)
        return kind, True
    for extra in extras:
        kind_of_extra = _type_of_extra(annotation, path, extra)
        if kind_of_extra is not None:
            return kind_of_extra, False
    return _bare_type(annotation, path), False


def _type_of_extra(annotation: Any, path: str, extra: Any) -> T.DataType | None:
    """Return the Spark type that one part of `Annotated` names; None if it names none."""
    match extra:
        case T.DataType():
            return extra
        case (int(precision), int(scale)) if (
            annotation is decimal.Decimal and 0 <= scale <= precision <= _DECIMAL_DIGITS
        ):
            return T.DecimalType(precision, scale)
        case type() if issubclass(extra, T.DataType):
            raise InvalidInputError(
                f"{path}: {extra.__name__} is a class; write a type, such as"
                f" {extra.__name__}()"
            )
    return None


def _bare_type(annotation: Any, path: str) -> T.DataType:
    """Return the Spark type of an annotation without `Annotated` and `| None`."""
    origin = get_origin(annotation)
    args = get_args(annotation)
    if origin is list and args:
        return T.ArrayType(*_from_hint(args[0], f"{path}.element"))
    if origin is dict and args:
        key, _ = _from_hint(args[0], f"{path}.key")
        return T.MapType(key, *_from_hint(args[1], f"{path}.value"))
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _struct(annotation, path)
    if annotation not in _PYTHON_TYPES:
        is_plain_class = isinstance(annotation, type) and not origin
        shown = annotation.__name__ if is_plain_class else str(annotation)
        raise InvalidInputError(
            f"{path} has type {shown}; allowed are str, int, float, bool, bytes, date,"
            " datetime, Annotated[Decimal, (12, 2)], list[T], dict[K, V], dataclasses,"
            " Annotated[T, DataType], X | None"
        )
    return _PYTHON_TYPES[annotation]


def from_contract(
    contract: str | os.PathLike[str], name: str | None = None
) -> T.StructType:
    """Make the schema of a table from a data contract (ODCS).

    The Open Data Contract Standard describes a table, a topic or a file by properties.
    The logical type of a property says what it is, and its physical type how many
    digits and bits it has: `number` is DOUBLE, and with `decimal(12,2)` it is
    DECIMAL(12,2). `integer` alone is BIGINT, a time of a day STRING, and an object
    without properties VARIANT. `sparkstream contract check` prints the types.

    Args:
        contract: the file, of ODCS 3.
        name: the object in its schema (its name or physical name). Default: the only
            one.

    Returns:
        A column for each property, by its physical name if it has one. A property that
        is `required` is not null; its description is the column's comment.

    Raises:
        InvalidInputError: the file cannot be read or is no contract of ODCS 3, there is
            no such object, or a property has no type that is known.
        MissingExtraError: open-data-contract-standard is not installed.

    Examples:
        In a session::

            schema = schemas.from_contract("orders.odcs.yaml", "orders")
            rows = quarantine.parse_json(lines, schema)
    """
    check(from_contract, locals())
    from sparkstream_kit.schemas import contracts

    found = contracts.read("schemas.from_contract", contract)
    return contracts.schema_of(found, name, lambda _: None)


def formats_of(contract: str | os.PathLike[str], name: str | None = None) -> Formats:
    """Read the formats of dates and times from a data contract, for a parser of `quarantine`.

    Args:
        contract: the file, as in `from_contract`.
        name: the object in its schema. Default: the only one.

    Returns:
        The arguments `date_format` and `timestamp_format` of `parse_csv` and
        `parse_json`; without those that are ISO 8601, which need no pattern.

    Raises:
        InvalidInputError: as in `from_contract`, or two columns of one type have
            different formats.
        MissingExtraError: open-data-contract-standard is not installed.

    Examples:
        In a session::

            formats = schemas.formats_of("orders.odcs.yaml", "orders")
            rows = quarantine.parse_json(lines, "product STRING, day DATE", **formats)
    """
    check(formats_of, locals())
    from sparkstream_kit.schemas import contracts

    return contracts.formats(contracts.read("schemas.formats_of", contract), name)


def registry(
    address: str,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    wait: float = 60,
) -> Registry:
    """Name a schema registry and how to log in to it, for what reads and writes its records.

    It must have the API of Confluent's registry, which others have too, often below a
    path. Nothing is asked yet: the first request is that of a worker that meets the id
    of a schema. A registry that is away is asked again until `wait` is over, and then
    the query fails. The login goes to Spark's workers, and is in no plan, message or
    `repr`.

    Each process asks once for the schema of an id, which never changes. It asks again
    after a minute for an id that the registry did not know.

    Args:
        address: its address, such as "http://localhost:8081", with its path if it has
            one: "https://registry/apis/ccompat/v7". A user and a password can be in it:
            "https://user:password@registry".
        user: who logs in, with `password` (HTTP's Basic).
        password: the password of `user`.
        token: a token to log in with, in place of a user (HTTP's Bearer).
        ca: a file on the driver's machine with the certificates to trust, PEM. Default:
            those of the system.
        certificate: a file on the driver's machine with the certificate to log in with,
            PEM.
        key: a file with the key of `certificate`, PEM, without a password. Default: it
            is in the same file.
        wait: the seconds for which a registry that is away is asked again. It is away
            if it does not answer, or answers with 429, 500, 502, 503 or 504.

    Returns:
        The registry, as `registry=` takes it. Where no login is needed, the text of the
        address is enough there.

    Raises:
        InvalidInputError: the address is none with http or https, a user and a token
            are given, a password without a user or a key without a certificate, or a
            file cannot be read or used.

    Examples:
        >>> registry("https://registry/apis/ccompat/v7", user="job", password="secret")
        Registry(place='https://registry/apis/ccompat/v7', wait=60.0)
    """
    check(registry, locals())
    from sparkstream_kit.connectors._registry import client

    return client.made(
        address,
        user=user,
        password=password,
        token=token,
        ca=None if ca is None else str(ca),
        certificate=None if certificate is None else str(certificate),
        key=None if key is None else str(key),
        wait=wait,
    )


def diff(
    actual: DataFrame | T.StructType,
    expected: DataFrame | T.StructType,
    *,
    ignore_nullable: bool = True,
    ignore_extra: bool = False,
) -> list[str]:
    """Compare two schemas and return each difference as a readable line.

    Names are compared exactly. What lies inside a column (a struct, an array, a map) is
    compared as part of the column's type, with its order of fields and without its
    nullability. Column metadata (comments) is not compared.

    Args:
        actual: the schema to check, or a DataFrame that has it.
        expected: the schema it should be, or a DataFrame that has that schema.
        ignore_nullable: do not compare the nullability of columns, which file sources
            drop anyway.
        ignore_extra: allow columns that `expected` does not have (of fields in a
            struct, never).

    Returns:
        One line for each difference; an empty list if the schemas agree.

    Raises:
        InvalidInputError: an argument is neither a schema nor a DataFrame.

    Examples:
        >>> diff(schema_of(amount=T.DoubleType()), schema_of(amount=T.DecimalType(12, 2)))
        ['amount is double, expected decimal(12,2)']
    """
    check(diff, locals())
    schema = _schema(actual)
    has = {field.name: field for field in schema}
    wants = {field.name: field for field in _schema(expected)}
    extra = [name for name in has if name not in wants]
    lines = []
    for name, wanted in wants.items():
        if name in has:
            lines += _differences(has[name], wanted, ignore_nullable=ignore_nullable)
        else:
            kind = wanted.dataType.simpleString()
            lines.append(f"missing {name} {kind}{hint(name, extra)}")
    if not ignore_extra:
        for name in extra:
            lines.append(f"unexpected {name} {has[name].dataType.simpleString()}")
    for name in has:
        if schema.names.count(name) > 1:
            lines.append(f"{name} appears twice")
    order = [name for name in has if name in wants]
    expected_order = [name for name in wants if name in has]
    if order != expected_order:
        lines.append(
            f"order is {', '.join(order)}; expected {', '.join(expected_order)}"
        )
    return lines


def _differences(
    actual: T.StructField, expected: T.StructField, *, ignore_nullable: bool
) -> list[str]:
    """Return a line for each difference between two columns of the same name."""
    lines = []
    kind = actual.dataType.simpleString()
    expected_kind = expected.dataType.simpleString()
    if kind != expected_kind:
        lines.append(f"{actual.name} is {kind}, expected {expected_kind}")
    if actual.nullable != expected.nullable and not ignore_nullable:
        nullability = _nullability(actual)
        lines.append(
            f"{actual.name} is {nullability}, expected {_nullability(expected)}"
        )
    return lines


def _nullability(field: T.StructField) -> str:
    return "nullable" if field.nullable else "not null"


def require(
    actual: _Frame, expected: DataFrame | T.StructType, **ignore: bool
) -> _Frame:
    """Refuse a DataFrame whose schema is not the expected one.

    In a chain: `df.transform(require, SALES)`.

    Args:
        actual: a DataFrame, static or streaming, or a schema.
        expected: the schema that it must have, or a DataFrame that has that schema.
        **ignore: the `ignore_...` keywords of `diff`.

    Returns:
        `actual`, unchanged.

    Raises:
        InvalidInputError: the schemas differ (the message contains the lines of
            `diff`), or a keyword is unknown.

    Examples:
        >>> sales = schema_of(saleAmount=T.LongType())
        >>> require(sales, schema_of(SaleAmount=T.LongType()), ignore_extra=True)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: schema differs: missing SaleAmount bigint; ...
    """
    reject_unknown("keyword of require()", ignore, diff.__kwdefaults__ or ())
    lines = diff(actual, expected, **ignore)
    if lines:
        before = "\n  - " if len(lines) > 1 else " "
        raise InvalidInputError(
            "schema differs:" + "".join(before + line for line in lines)
        )
    return actual


def _schema(side: DataFrame | T.StructType) -> T.StructType:
    """Return the schema of a DataFrame, or the schema that was given."""
    return side.schema if isinstance(side, DataFrame) else side


def infer(
    spark: SparkSession,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - Spark's own word
    **options: Any,
) -> T.StructType:
    r"""Infer the schema of sample files, as Spark does; `print(to_code(...))` gives code to paste.

    CSV and JSON files are read to the end. Quotes are read as RFC 4180 has them
    (`escape='"'`), and partition values as text. The log has a line for each option
    that a source of these files needs, and for columns that are not what Spark alone
    would make of them:

    - Line 1 of a CSV file has names if each of its fields is text and a column below is
      not (`header=True`).
    - The values of a CSV file may have ; or | or a tab between them, if line 1 has no
      comma (`sep=";"`).
    - A name in line 1 may be empty or there twice; Spark makes one of its own
      (`enforceSchema=True`).
    - A column of numbers, dates or booleans in a CSV file may have one of NA, N/A,
      null, NULL, -, \N and ? for a missing value (`nulls="NA"`).
    - A column of numbers in a CSV file stays text if one begins with a zero or a plus,
      such as 01234, or has more digits than a DOUBLE keeps. So does a column of months,
      such as 2026-01.
    - Texts in JSON that are all times with their day are TIMESTAMP, and numbers of
      which one has more digits than a DOUBLE keeps are DECIMAL, also within objects and
      arrays.
    - A quoted value of a CSV file may have line feeds, and JSON may go over several
      lines (`multiLine=True`).
    - Other lines that are not JSON are ignored.

    Amounts of money are inferred as `double`: make them a decimal in the pasted code.

    Args:
        spark: the session, classic or Connect.
        path: a file, a folder or a glob.
        format: csv, json, orc or parquet. Default: from the name of the first file
            (`.json`, `.jsonl`, `.parquet`, …), otherwise csv.
        **options: Spark's reader options (`sep=";"`, `samplingRatio=0.1`). `header`,
            `multiLine` and `nullValue` are not inferred if they are given.

    Returns:
        The inferred schema. All columns are nullable.

    Raises:
        InvalidInputError: the path or the format does not exist, or the files have no
            rows (such as a CSV file with nothing but a header, with `header=True`) or
            no schema, or an option is misspelt.

    Examples:
        In a session::

            print(to_code(infer(spark, "samples/")))
    """
    check(infer, locals())
    from sparkstream_kit.schemas.samples import inferred

    return inferred(infer, spark, str(path), format, options)


def to_code(schema: T.StructType) -> str:
    """Write a schema as Python source that sets `SCHEMA` to its DDL text, one column to a line.

    Spark itself writes the text, so a session must be running. The text does not say
    that the elements of an array or the values of a map are never null, and of a
    column's metadata it has the comment alone.

    Args:
        schema: the schema to write.

    Returns:
        The source text. `from_ddl`, the sources of files and `quarantine` take `SCHEMA`
        as it is.

    Raises:
        InvalidInputError: no session is running.

    Examples:
        In a session::

            print(to_code(schema_of(key="string", tags="array<bigint>")))
            # SCHEMA = (
            #     "key STRING, "
            #     "tags ARRAY<BIGINT>"
            # )
    """
    check(to_code, locals())
    try:
        columns = [T.StructType([field]).toDDL() for field in schema]
    except (AssertionError, PySparkRuntimeError) as error:
        # the first one on Spark Connect
        raise InvalidInputError(
            "to_code(): only a running Spark can write DDL; start a session first"
        ) from error
    # As the content of a text in Python's source, where JSON escapes the same signs
    escaped = [json.dumps(ddl, ensure_ascii=False)[1:-1] for ddl in columns]
    body = ', "\n    "'.join(escaped)
    return f'SCHEMA = (\n    "{body}"\n)\n'
