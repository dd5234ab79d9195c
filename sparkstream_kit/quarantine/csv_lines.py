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

    A line is bad when it is not valid UTF-8 or has the noncharacter U+FFFF in it, when it has another number
    of fields than the schema has columns, when its quotes are not in pairs, when a value in any column does
    not parse as the column's type, when a decimal or a timestamp has more digits than the column holds (it
    would be rounded), when a number is too big for its type, or when a column that the schema says is NOT
    NULL is empty. Values in quotes may hold the separator and doubled quotes (RFC 4180), but no line feed.

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
    check_names(schema)
    for field in schema.fields:
        if not isinstance(field.dataType, _TYPES):
            raise InvalidInputError(
                f"column {field.name}: CSV cannot hold {field.dataType.simpleString()}; read it as a string"
            )
    line = F.col(f"`{lines.columns[0]}`")
    texts = ", ".join(f"c{index} STRING" for index in range(len(schema.fields)))
    options = {"sep": sep, "quote": '"', "escape": '"', "columnNameOfCorruptRecord": "corrupt"}
    # Every column is asked for as text: Spark then parses all of them, and loses nothing.
    few = (F.octet_length(line) < _MOST_FIELDS) | (_count(line, sep) < _MOST_FIELDS)
    # What follows its end of a line from_csv drops, and mixes into the next line.
    read = F.from_csv(F.when(few & ~line.contains(_END), line), f"{texts}, corrupt STRING", options)
    frame = lines.select(line.alias(RAW), read.alias("read"))

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
    reason = F.coalesce(*_of_line(len(values)), *problems)
    return parsed(frame.select(RAW, "read", *values), schema.names, reason)


def _of_line(fields: int) -> list[Column]:
    """Return what can be wrong with a line as a whole."""
    raw = F.col(RAW)
    read = F.col("read").isNull() | F.col("read.corrupt").isNotNull()
    return [
        F.when(~F.is_valid_utf8(raw), "not valid UTF-8"),
        F.when(raw.contains(_END), "U+FFFF, which is no character"),
        # An open quote would take the rest of the line into its value, and be gone from it.
        F.when(raw.contains('"') & (_count(raw, '"') % 2 == 1), "unbalanced quote"),
        F.when(read | (F.trim(raw) == ""), f"not {fields} fields"),
    ]


def _count(text: Column, part: str) -> Column:
    # In bytes: to count letters takes a look at each.
    without = F.octet_length(F.replace(text, F.lit(part)))
    return (F.octet_length(text) - without) / len(part.encode())
