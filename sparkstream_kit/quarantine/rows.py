"""What both parsers share: the two columns beside the values, texts as typed values, and the count."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    StringType,
    StructType,
    TimestampType,
)

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = [
    "OBSERVED",
    "RAW",
    "REASON",
    "bad_rows",
    "check_names",
    "finite",
    "good_rows",
    "parsed",
    "quoted",
    "typed",
]

REASON = "_reason"
RAW = "_raw"
OBSERVED = "sparkstream_quarantine"

# What a cast takes and should not: Java's 1d, 1f and 0x1p3; a clock time alone, which becomes today.
_JAVA_FLOAT = r"(?i)[\d.][df]\s*$|0x"
_ISO_DATE = r"^\s*\d{4}-\d\d?-\d\d?"

# Two parses in one query must not have the same name; the number is no part of what a checkpoint knows.
_numbers = count(1)


def good_rows(rows: DataFrame) -> DataFrame:
    """Return the good rows of `parse_csv` or `parse_json`, with the columns of the schema alone."""
    check(good_rows, locals())
    return rows.where(F.col(REASON).isNull()).drop(REASON, RAW)


def bad_rows(rows: DataFrame) -> DataFrame:
    """Return the bad rows of `parse_csv` or `parse_json`: `_reason` (string) and `_raw` (string)."""
    check(bad_rows, locals())
    return rows.where(F.col(REASON).isNotNull()).select(REASON, RAW)


def check_names(schema: StructType) -> None:
    """Refuse a schema that has a column of the name of one of ours."""
    for name in schema.names:
        if name in (RAW, REASON):
            raise InvalidInputError(f"column {name}: the name is taken by the kit; rename the column")


def parsed(frame: DataFrame, names: list[str], reason: Column) -> DataFrame:
    """Return the values v0, v1, … of a frame (all null in a bad row), the reason and the raw line, counted.

    Spark's progress then has, in `observedMetrics`, how many `rows` and `bad_rows` went through each parse;
    as with its input rows, a batch that is computed twice counts twice.
    """
    # Steps of their own: Spark would work out each value a second time for the reason, and the reason for
    # each column.
    checked = frame.select(*[f"v{index}" for index in range(len(names))], reason.alias(REASON), RAW)
    good = F.col(REASON).isNull()
    columns = [F.when(good, F.col(f"v{index}")).alias(name) for index, name in enumerate(names)]
    counts = (F.count("*").alias("rows"), F.count(REASON).alias("bad_rows"))
    return checked.select(*columns, REASON, RAW).observe(f"{OBSERVED}_{next(_numbers)}", *counts)


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever is in it."""
    return "`" + name.replace("`", "``") + "`"


def typed(text: Column, kind: DataType, pattern: str | None) -> Column:
    """Return a text as a value of a type, or null where it does not parse without loss."""
    if isinstance(kind, StringType):
        return text
    if isinstance(kind, (DateType, TimestampType)) and pattern:
        return F.try_to_timestamp(text, F.lit(pattern)).cast(kind)
    fits, value = F.lit(True), text.try_cast(kind)
    if isinstance(kind, DateType):
        fits = text.rlike(_ISO_DATE + r"\s*$")
    elif isinstance(kind, TimestampType):
        fits = text.rlike(_ISO_DATE + r"([ T](?!.*\.\d{7}).*)?$")
    elif isinstance(kind, DecimalType):
        # A cast rounds what the scale cannot hold: such a text is not a value of this type. (A regular
        # expression that says the same takes as long as the cast.)
        point = F.instr(text, ".")
        short = (point == 0) | (F.octet_length(F.rtrim(text)) - point <= kind.scale)
        fits = short & ~text.contains("e") & ~text.contains("E")
    elif isinstance(kind, (DoubleType, FloatType)):
        # A cast makes what is too big infinite.
        fits = ~text.rlike(_JAVA_FLOAT) & (finite(value) | text.rlike("(?i)inf|nan"))
    return F.when(fits, value)


def finite(value: Column) -> Column:
    """Say whether a floating-point value is a number that can be written down."""
    return F.abs(value) < float("inf")
