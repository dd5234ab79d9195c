"""Lines of CSV."""

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
    StructType,
    TimestampType,
)

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.rows import RAW, check_names, parsed, typed

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["parse_csv"]

_TYPES = (
    *(BooleanType, ByteType, DateType, DecimalType, DoubleType, FloatType),
    *(IntegerType, LongType, ShortType, StringType, TimestampType),
)

# Spark's parser fails the query at a line with more fields than this (its option maxColumns).
_MOST_FIELDS = 20_000

# A field that is added to each line: a quote that is open at the end takes it into its value.
_LAST = "end"

# What from_csv takes for the end of a line, as a line feed can be in a value.
_END = "\uffff"


def parse_csv(
    lines: DataFrame,
    schema: StructType,
    *,
    date_format: str | None = None,
    timestamp_format: str | None = None,
    sep: str = ",",
) -> DataFrame:
    """Parse lines of CSV without a header; each line gives one row, good or bad.

    A line is bad when it is not valid UTF-8 or has U+FFFF or U+0000 in it, when it has another number of
    fields than the schema has columns, when its quotes are not in pairs or one is open at its end, when a
    value in any column does not parse as the column's type, when a decimal or a timestamp has more digits
    than the column holds (it would be rounded), when a number is too big for its type, or when a column that
    the schema says is NOT NULL is empty. Values in quotes may hold the separator and doubled quotes (RFC
    4180), but no line feed.

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
        `_raw` (string: the line). Spark's progress counts them, as `run`'s summary does.

    Raises:
        InvalidInputError: a column type that CSV cannot hold, or a column named `_reason` or `_raw`.
    """
    check(parse_csv, locals())
    check_names(schema)
    for field in schema.fields:
        if not isinstance(field.dataType, _TYPES):
            raise InvalidInputError(
                f"column {field.name}: CSV cannot hold {field.dataType.simpleString()}; read it as a string"
            )
    line = F.col(f"`{lines.columns[0]}`")
    texts = ", ".join(f"c{index} STRING" for index in range(len(schema.fields)))
    options = {"sep": sep, "quote": '"', "escape": '"', "columnNameOfCorruptRecord": "corrupt"}
    # A step of its own: Spark would work it out for each use.
    unreadable = _unreadable(line, sep, len(schema.fields)).alias("unreadable")
    frame = lines.select(line.alias(RAW), unreadable)
    # Every column is asked for as text: Spark then parses all of them, and loses nothing.
    whole = F.when(F.col("unreadable").isNull(), F.concat(RAW, F.lit(sep + _LAST)))
    read = F.from_csv(whole, f"{texts}, last STRING, corrupt STRING", options)
    frame = frame.select(RAW, "unreadable", read.alias("read"))

    formats: dict[type, str | None] = {DateType: date_format, TimestampType: timestamp_format}
    values, problems = [], []
    for index, field in enumerate(schema.fields):
        text, value, kind = F.col(f"read.c{index}"), F.col(f"v{index}"), field.dataType
        values.append(typed(text, kind, formats.get(type(kind))).alias(f"v{index}"))
        if not isinstance(kind, StringType):
            what = f"{field.name}: not a {kind.simpleString()}"
            problems.append(F.when(text.isNotNull() & value.isNull(), what))
        if not field.nullable:
            problems.append(F.when(text.isNull() | (F.trim(text) == ""), f"{field.name}: empty"))
    ours = F.equal_null("read.last", F.lit(_LAST))
    another = F.col("read.corrupt").isNotNull() | ~ours | (F.trim(RAW) == "")
    problems = [F.col("unreadable"), F.when(another, _not_so_many(len(values))), *problems]
    return parsed(frame.select(RAW, "unreadable", "read", *values), schema.names, F.coalesce(*problems))


def _unreadable(raw: Column, sep: str, fields: int) -> Column:
    """Return why a line must not reach Spark's parser, or null."""
    return F.coalesce(
        F.when(~F.is_valid_utf8(raw), "not valid UTF-8"),
        # What follows it is dropped, and mixed into the next line.
        F.when(raw.contains(_END), "U+FFFF, which is no character"),
        # It would be left out of a value in quotes.
        F.when(raw.contains("\0"), "a NUL character"),
        # An open quote would take the rest of the line into its value, and be gone from it.
        F.when(raw.contains('"') & (_count(raw, '"') % 2 == 1), "unbalanced quote"),
        F.when(
            (F.octet_length(raw) >= _MOST_FIELDS) & (_count(raw, sep) >= _MOST_FIELDS), _not_so_many(fields)
        ),
    )


def _not_so_many(fields: int) -> str:
    return f"not {fields} fields"


def _count(text: Column, part: str) -> Column:
    # In bytes: to count letters takes a look at each.
    without = F.octet_length(F.replace(text, F.lit(part)))
    return (F.octet_length(text) - without) / len(part.encode())
