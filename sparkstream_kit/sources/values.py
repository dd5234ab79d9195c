"""Thin: what strict sources know of single values: options, numbers, what is missing.

`sources.strict` reads the values of each format with them.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import holds, types_in
from sparkstream_kit._internal.spark.session import may_ask, refuse_former_patterns
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column, SparkSession


# The encodings that Spark's readers know
CHARSETS = (
    "UTF-8",
    "UTF-16",
    "UTF-16BE",
    "UTF-16LE",
    "UTF-32",
    "ISO-8859-1",
    "US-ASCII",
)
# By type: the option that says how its values are written
PATTERNS: dict[type[T.DataType], str] = {
    T.DateType: "dateFormat",
    T.TimestampType: "timestampFormat",
    T.TimestampNTZType: "timestampNTZFormat",
}
# By option of CSV: what the text stands for that the option names
NO_NUMBERS = {"nanvalue": "NaN", "positiveinf": "Infinity", "negativeinf": "-Infinity"}
# Options with which Spark leaves out files, or parts of them, without a word. Each is
# also a setting of the session, `spark.sql.files.` with its name.
_LEAVES_OUT = ("ignoreCorruptFiles", "ignoreMissingFiles")
# What a number can have as decimal mark, or between the digits of a thousand.
_MARKS = (".", ",", "'", "\u2019", "\u066b", "\u066c", "\u00a0", "\u202f", " ")


def has_other_keys(kind: T.DataType) -> bool:
    """Return whether there is a map in a type whose keys are no texts."""
    maps = [each for each in types_in(kind) if isinstance(each, T.MapType)]
    return any(not isinstance(each.keyType, T.StringType) for each in maps)


def is_set(spark: SparkSession, setting: str) -> bool:
    """Return whether one of Spark's settings for its former ways is on."""
    return _is_on(spark, f"spark.sql.legacy.{setting}")


def _is_on(spark: SparkSession, setting: str) -> bool:
    """Return whether a setting of the session is true."""
    return str(spark.conf.get(setting, "false")).lower() == "true"


def no_file_left_out(spark: SparkSession) -> dict[str, Any]:
    """Return the options with which no setting of the session leaves out a file.

    Such a setting may be there for other queries. An option is given only where the
    setting is on.
    """
    return {
        name.lower(): False
        for name in _LEAVES_OUT
        if _is_on(spark, f"spark.sql.files.{name}")
    }


def refuse_headers_left_out(options: Mapping[str, Any]) -> None:
    """Refuse options with which a CSV file with another header would be left out."""
    checks_header = is_true(options, "header") and not is_true(options, "enforceschema")
    if checks_header and is_true(options, "ignorecorruptfiles"):
        raise InvalidInputError(
            "ignoreCorruptFiles=True with header=True: Spark would leave out each file"
            " with another header; leave ignoreCorruptFiles out, or give"
            " enforceSchema=True if the names do not count"
        )


def refuse_patterns(
    spark: SparkSession, columns: T.StructType, options: Mapping[str, Any]
) -> None:
    """Refuse a pattern for a column in a session that reads it in Spark 2's way.

    Raises:
        InvalidInputError: there is such a pattern.
    """
    for kind, name in PATTERNS.items():
        pattern = options.get(name.lower())
        has_values = any(holds(field.dataType, kind) for field in columns)
        if pattern is not None and has_values:
            refuse_former_patterns(f"{name}={pattern!r}", spark)


def encoding_of(options: Mapping[str, Any]) -> str | None:
    """Return the encoding that the options of a source name; None if they name none."""
    encoding = options.get("encoding", options.get("charset"))
    return None if encoding is None else str(encoding)


def keeps_digits(spark: SparkSession, options: Mapping[str, Any]) -> bool:
    """Return whether Spark reads a number of JSON as text with the digits of the file.

    It takes them from the bytes of a line, but where it decodes these first, it writes
    a double anew.
    """
    setting = spark.conf.get("spark.sql.json.enableExactStringParsing", "true")
    return encoding_of(options) is None and str(setting).lower() == "true"


def is_true(options: Mapping[str, Any], name: str) -> bool:
    """Return whether an option of Spark is on, as Spark reads it."""
    return str(options.get(name, False)).lower() == "true"


def is_one_character(sep: str) -> bool:
    r"""Return whether a separator is one character, or one that is escaped, such as `\t`."""
    is_escaped = re.fullmatch(r"\\.", sep) is not None
    return is_escaped or len(sep.encode("utf-16-le")) == 2  # noqa: PLR2004 - one of Java's


def self_overlaps(sep: str) -> list[str]:
    """Return the ends of a separator with which it also begins.

    Examples:
        >>> self_overlaps("|||"), self_overlaps("<>"), self_overlaps("aba")
        (['||', '|'], [], ['a'])
    """
    ends = [sep[start:] for start in range(1, len(sep))]
    return [end for end in ends if sep.startswith(end)]


def whole_number(text: Column, kind: T.DataType) -> Column:
    """Return a number that Spark reads exactly as a DECIMAL(38,18); null for others."""
    value = text.try_cast(kind)
    is_same = value == text.try_cast("decimal(38,18)")
    # With more than 18 places both are rounded.
    has_more_places = text.rlike(r"\.\d{18,}[1-9]|[eE]-\d\d")
    return F.when(is_same & ~has_more_places, value)


def failing(field: T.StructField, message: Column, kind: T.DataType) -> Column:
    """Return a column that fails the query with what is wrong, and with the file."""
    file = F.col("_metadata.file_path")
    full_message = F.concat(F.lit(f"column {field.name}: "), message, file)
    return F.raise_error(full_message).cast(kind)


def leaves(kind: T.DataType) -> list[T.DataType]:
    """Return the types in a type that are not nested, also those of a map's keys."""
    if isinstance(kind, T.ArrayType):
        return leaves(kind.elementType)
    if isinstance(kind, T.MapType):
        return [*leaves(kind.keyType), *leaves(kind.valueType)]
    if isinstance(kind, T.StructType):
        kinds: list[T.DataType] = []
        for field in kind.fields:
            kinds += leaves(field.dataType)
        return kinds
    return [kind]


def has_required(kind: T.DataType) -> bool:
    """Return whether a value inside a type must not be null."""
    if isinstance(kind, T.ArrayType):
        return not kind.containsNull or has_required(kind.elementType)
    if isinstance(kind, T.MapType):
        return not kind.valueContainsNull or has_required(kind.valueType)
    if isinstance(kind, T.StructType):
        return any(
            not field.nullable or has_required(field.dataType) for field in kind.fields
        )
    return False


def lacks(value: Column, kind: T.DataType, *, required: bool) -> Column:
    """Return whether a value is null, or has a null inside, where it must not."""
    conditions = []
    if required:
        conditions.append(value.isNull())
    if has_required(kind):
        conditions += _lacks_inside(value, kind)
    return reduce(or_, conditions, F.lit(False))


def _lacks_inside(value: Column, kind: T.DataType) -> list[Column]:
    """Return for each part of an array, a map or a struct whether it lacks a value."""
    if isinstance(kind, T.ArrayType):
        item = kind.elementType
        item_required = not kind.containsNull
        return [F.exists(value, lambda each: lacks(each, item, required=item_required))]
    if isinstance(kind, T.MapType):
        item = kind.valueType
        item_required = not kind.valueContainsNull
        return [
            F.exists(
                F.map_values(value),
                lambda each: lacks(each, item, required=item_required),
            )
        ]
    conditions = []
    if isinstance(kind, T.StructType):
        for field in kind.fields:
            part = value.getField(field.name)
            is_missing_inside = lacks(part, field.dataType, required=not field.nullable)
            conditions.append(value.isNotNull() & is_missing_inside)
    return conditions


def with_point(text: Column, marks: tuple[str, str]) -> Column:
    """Return a number that is written as in a locale with a point; null if it is not written so.

    The digits before the decimal mark may be in groups, of which the last has three
    digits (in India those before it have two). Spark takes a mark of groups anywhere,
    so that 2.50 is 250 in German.

    In German, 1.234,5 and 1234,5 and ,5 and 1,5e3 are written so, and 1.23 is not.
    """
    decimal, groups = marks
    group = "(?!)"  # matches nothing
    if groups:
        group = f"[{re.escape(groups)}]"
    point = re.escape(decimal)
    in_groups = rf"\d{{1,3}}({group}\d{{2,3}})*{group}\d{{3}}"
    integer_part = rf"({in_groups}|\d+)"
    digits = rf"({integer_part}({point}\d*)?|{point}\d+)"
    is_written_so = text.rlike(rf"^\s*[+-]?{digits}([eE][+-]?\d+)?\s*$")
    ungrouped = F.regexp_replace(text, group, "")
    return F.when(is_written_so, F.replace(ungrouped, F.lit(decimal), F.lit(".")))


def marks_of(
    spark: SparkSession, columns: T.StructType, options: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Return the decimal mark of a source's locale, and its marks between thousands.

    Spark is asked, as it uses Java's table of locales. None if there is no locale, or
    no decimal to read.

    Raises:
        InvalidInputError: none of the known marks is the decimal mark.
    """
    if "locale" not in options or not holds(columns, T.DecimalType):
        return None
    locale = str(options["locale"])
    if not may_ask(spark):
        raise InvalidInputError(
            f"locale {locale} in a function of a pipeline, where Spark may not be asked"
            " for its decimal mark; call the source above the function, or declare the"
            " decimals as STRING"
        )
    csv_options = {"locale": locale, "sep": "\u0001"}
    # With a decimal mark in the middle this is one and a part, with a mark between
    # digits over a thousand.
    parsed = [
        F.from_csv(F.lit(f"1{mark}234"), "n DECIMAL(9,3)", csv_options).getField("n")
        for mark in _MARKS
    ]
    [row] = spark.range(1).select(*parsed).collect()
    numbers = [
        (mark, value)
        for mark, value in zip(_MARKS, row, strict=True)
        if value is not None
    ]
    decimals = [mark for mark, value in numbers if value == Decimal("1.234")]
    if not decimals:
        fix = "declare the decimals as STRING"
        raise InvalidInputError(
            f"locale {locale} has a decimal mark or digits that are not read; {fix}"
        )
    groups = [mark for mark, value in numbers if mark not in decimals]
    return decimals[0], "".join(groups)
