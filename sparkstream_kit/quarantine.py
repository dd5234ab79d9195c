"""Parse lines of text into typed good rows, and bad rows with a reason; nothing is dropped or rounded.

`spark.readStream.csv` misses most bad rows: it does not look at columns that the query does not use, rounds
decimals to the scale of the schema, and turns what does not parse into null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    ByteType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["RAW", "REASON", "bad_rows", "good_rows", "parse_csv"]

REASON = "_reason"
RAW = "_raw"

_CAST = (BooleanType, ByteType, DoubleType, FloatType, IntegerType, LongType, ShortType)

# Spark's parser fails the query at a line with more fields than this (its option maxColumns).
_MOST_FIELDS = 20_000

# What a cast takes and should not: Java's 1d, 1f and 0x1p3; a clock time alone, which becomes today.
_JAVA_FLOAT = r"(?i)[\d.][df]\s*$|0x"
_ISO_DATE = r"^\s*\d{4}-\d\d?-\d\d?"


def parse_csv(
    lines: DataFrame,
    schema: StructType,
    *,
    date_format: str | None = None,
    timestamp_format: str | None = None,
    sep: str = ",",
) -> DataFrame:
    """Parse lines of CSV without a header; each line gives one row, good or bad.

    A line is bad when it has another number of fields than the schema has columns, when its quotes are
    not in pairs, when a value in any column does not parse as the column's type, when a decimal or a
    timestamp has more digits than the column holds (it would be rounded), or when a column that the schema
    says is NOT NULL is empty. Values in quotes may hold the separator and doubled quotes (RFC 4180), but
    no line feed.

    Args:
        lines: a DataFrame, streaming or static, whose first column is the line (string), such as that of
            `sources.text`.
        schema: the columns in their order; numbers, decimals, strings, booleans, dates and timestamps.
        date_format: the pattern of dates, such as "M/d/yy" (Spark's datetime patterns; default ISO).
        timestamp_format: the same for timestamps.
        sep: the separator.

    Returns:
        The columns of `schema` (all null in a bad row), then `_reason` (string: null in a good row, else
        such as "SaleAmount: not a decimal(12,2)", with no value in it, so that it can be grouped by), then
        `_raw` (string: the line).

    Raises:
        InvalidInputError: a column type that CSV cannot hold, or a column named `_reason` or `_raw`.
    """
    _check(schema)
    line = F.col(f"`{lines.columns[0]}`")
    texts = ", ".join(f"c{index} STRING" for index in range(len(schema.fields)))
    options = {"sep": sep, "quote": '"', "escape": '"', "columnNameOfCorruptRecord": "corrupt"}
    # Every column is asked for as text: Spark then parses all of them, and loses nothing.
    few = (F.octet_length(line) < _MOST_FIELDS) | (_count(line, sep) < _MOST_FIELDS)
    read = F.from_csv(F.when(few, line), f"{texts}, corrupt STRING", options)
    frame = lines.select(line.alias(RAW), read.alias("read"))

    formats: dict[type, str | None] = {DateType: date_format, TimestampType: timestamp_format}
    names = [field.name for field in schema.fields]
    values, problems = [], []
    for index, field in enumerate(schema.fields):
        text = F.col(f"read.c{index}")
        value = _typed(text, field, formats.get(type(field.dataType)))
        what = f"{field.name}: not a {field.dataType.simpleString()}"
        problems.append(F.when(text.isNotNull() & value.isNull(), what))
        if not field.nullable:
            problems.append(F.when(text.isNull() | (F.trim(text) == ""), f"{field.name}: empty"))
        values.append(value)
    fields = F.when(
        F.col("read").isNull() | F.col("read.corrupt").isNotNull() | (F.trim(RAW) == ""),
        f"not {len(names)} fields",
    )
    # An open quote would take the rest of the line into its value, and be gone from it.
    quotes = F.when(_count(F.col(RAW), '"') % 2 == 1, "unbalanced quote")
    reason = F.coalesce(quotes, fields, *problems)
    good = reason.isNull()
    return frame.select(
        *[F.when(good, value).alias(name) for name, value in zip(names, values, strict=True)],
        reason.alias(REASON),
        F.col(RAW),
    )


def good_rows(parsed: DataFrame) -> DataFrame:
    """Return the good rows of `parse_csv`, with the columns of the schema alone."""
    return parsed.where(F.col(REASON).isNull()).drop(REASON, RAW)


def bad_rows(parsed: DataFrame) -> DataFrame:
    """Return the bad rows of `parse_csv`: `_reason` (string) and `_raw` (string)."""
    return parsed.where(F.col(REASON).isNotNull()).select(REASON, RAW)


def _check(schema: StructType) -> None:
    for field in schema.fields:
        kind = type(field.dataType)
        if kind not in (*_CAST, DateType, DecimalType, StringType, TimestampType):
            raise InvalidInputError(
                f"column {field.name}: CSV cannot hold {field.dataType.simpleString()}; read it as a string"
            )
        if field.name in (RAW, REASON):
            raise InvalidInputError(f"column {field.name}: the name is taken by the kit; rename the column")


def _count(text: Column, part: str) -> Column:
    return (F.length(text) - F.length(F.replace(text, F.lit(part)))) / len(part)


def _typed(text: Column, field: StructField, pattern: str | None) -> Column:
    """Return a text as the field's type, or null where it does not parse without loss."""
    kind = field.dataType
    if isinstance(kind, StringType):
        return text
    if isinstance(kind, (DateType, TimestampType)) and pattern:
        return F.try_to_timestamp(text, F.lit(pattern)).cast(kind)
    fits = F.lit(True)
    if isinstance(kind, DateType):
        fits = text.rlike(_ISO_DATE + r"\s*$")
    elif isinstance(kind, TimestampType):
        fits = text.rlike(_ISO_DATE + r"([ T](?!.*\.\d{7}).*)?$")
    elif isinstance(kind, DecimalType):
        # A cast rounds what the scale cannot hold: such a text is not a value of this type.
        after = rf"(\.\d{{0,{kind.scale}}})?"
        fits = text.rlike(rf"^\s*[+-]?(\d+{after}|(?=\.\d){after})\s*$")
    elif isinstance(kind, (DoubleType, FloatType)):
        fits = ~text.rlike(_JAVA_FLOAT)
    return F.when(fits, text.try_cast(kind))
