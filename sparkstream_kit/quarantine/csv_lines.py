"""Lines of CSV."""

from __future__ import annotations

import re
from functools import partial, reduce
from operator import and_
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.rows import FILE, RAW, SCALARS, is_missing, not_a, parsed, readable, typed
from sparkstream_kit.schemas import from_ddl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame

__all__ = ["parse_csv"]

# Spark's parser fails the query at a line with more fields than this (its option maxColumns).
_MOST_FIELDS = 20_000

# What from_csv takes for the end of a line, as a line feed can be in a value.
_CSV_END = "\uffff"

# Given to from_csv in place of a separator of several characters, beside which it misreads quotes.
_SEP = "\ufffe"

# A field after the last one, which no readable line can hold: where it is read tells how many there are.
_AFTER_LAST = "\0"


def parse_csv(
    lines: DataFrame,
    schema: T.StructType | str,
    *,
    date_format: str | None = None,
    timestamp_format: str | None = None,
    sep: str = ",",
    header: bool = False,
) -> DataFrame:
    """Parse lines of CSV; each line gives one row, good or bad.

    A line is bad when it is not valid UTF-8 or has U+FFFF or U+0000 in it, when it has another number of
    fields than the schema has columns, when its quotes are not in pairs, when a quote that begins a value
    is not closed at the value's end, when a value in any column does not parse as the column's type, when a
    decimal or a timestamp has more digits than the column holds (it would be rounded), when a number is too
    big for its type, when a date is not in the years 1 to 9999, when a timestamp without an offset names a
    local time that does not exist in the session's time zone (the hour that is skipped in spring), or when a
    column that the schema says is NOT NULL is empty. A local time that comes twice, in autumn, is the first
    of the two: where that matters, write times with their offset, or keep the session in UTC, as the kit's
    profiles do. Values in quotes may hold the separator and doubled quotes (RFC 4180), but no line feed.

    Args:
        lines: a DataFrame, streaming or static, whose first column is the line (string), such as that of
            `sources.text`. Its other columns are kept.
        schema: the columns in their order, as a StructType or as DDL ("key STRING NOT NULL, amount INT");
            numbers, decimals, strings, booleans, dates and timestamps.
        date_format: the pattern of dates, such as "M/d/yy" (Spark's datetime patterns; default ISO).
        timestamp_format: the same for timestamps. Under a pattern with more than six S the digits of a second
            after the sixth must be zeros; without a pattern a seventh digit makes a line bad.
        sep: the separator, one character or more.
        header: count a line that holds the schema's column names in their order (case ignored) as a header,
            and leave it out. A line that holds them in another order fails the query.

    Returns:
        The columns of `schema` (all null in a bad row), then

        - `_reason` (string): null in a good row, else such as "SaleAmount: not a decimal(12,2)", with no
          value in it, so that it can be grouped by;
        - `_raw` (string): the line. What most readers refuse in a text is U+FFFD here: bytes that are not
          UTF-8, and U+0000;
        - `_bytes` (binary): the line exactly, where `_raw` is not; else null;
        - `_file` (string): the file of the line; null if it is not from a file, or before Spark 4.2 if
          something was done to the lines, such as a filter. Where `lines` has a column `_file`, it is that
          column's value;

        then the other columns of `lines`. Spark's progress counts the rows, as `run`'s summary does.

    Raises:
        InvalidInputError: DDL that cannot be read, a column type that CSV cannot hold, two columns of one
            name, a column named as one of the four above, or a separator that CSV cannot have.
    """
    check(parse_csv, locals())
    schema = from_ddl(schema) if isinstance(schema, str) else schema
    for field in schema.fields:
        if not isinstance(field.dataType, SCALARS):
            raise InvalidInputError(
                f"column {field.name}: CSV cannot hold {field.dataType.simpleString()}; read it as a string"
            )
    if not sep or set(sep) & set('"\\\r\n\0'):
        raise InvalidInputError(
            f"sep is {sep!r}; give one character or more, but no quote, backslash or end of a line"
        )
    patterns = {"date_format": date_format, "timestamp_format": timestamp_format}
    formats: dict[type, str | None] = {T.DateType: date_format, T.TimestampType: timestamp_format}
    read = partial(_read_csv, schema=schema, formats=formats, sep=sep, header=header)
    return parsed(lines, schema, read, "csv", **patterns, sep=sep, header=header)


def _read_csv(
    frame: DataFrame, schema: T.StructType, formats: Mapping[type, str | None], sep: str, *, header: bool
) -> tuple[DataFrame, Column, Column | None]:
    mark, line = sep, F.col(RAW)
    if len(sep.encode("utf-16-le")) > 2:  # noqa: PLR2004 - bytes of a character of Java's
        mark, line = _SEP, F.replace(line, F.lit(sep), F.lit(_SEP))
    # Steps of their own: Spark would work each out for every use.
    unreadable = _unreadable(line, mark, len(schema), [_CSV_END, _SEP] if mark != sep else [_CSV_END])
    frame = frame.select("*", unreadable.alias("_unreadable"))
    frame = frame.select("*", _csv_fields(line, mark, len(schema)).alias("_read"))
    *texts, after_last = [F.col(f"_read.c{index}") for index in range(len(schema) + 1)]
    if mark != sep:
        texts = [F.replace(text, F.lit(_SEP), F.lit(sep)) for text in texts]
    values, problems, words = [], [], []
    for index, (field, text) in enumerate(zip(schema.fields, texts, strict=True)):
        value, kind = F.col(f"_v{index}"), field.dataType
        values.append(typed(text, kind, formats.get(type(kind))).alias(f"_v{index}"))
        if not isinstance(kind, T.StringType):
            reason = not_a(field.name, value, kind, text, formats.get(type(kind)))
            problems.append(F.when(text.isNotNull() & is_missing(value, kind), reason))
            words.append(value.isNull() & text.rlike(r"^\D*\p{L}"))
        if not field.nullable:
            problems.append(F.when(text.isNull() | (F.trim(text) == ""), f"{field.name}: empty"))
    whole = F.equal_null(after_last, F.lit(_AFTER_LAST))
    reason = F.coalesce("_unreadable", F.when(~whole, _not_so_many(len(schema))), *problems)

    # Words in place of all numbers and dates. (In one such column alone, a value may be wrong for once.)
    is_header = F.when(reduce(and_, words), F.lit(False)) if len(words) > 1 else F.lit(None).cast("boolean")
    if header:
        named = whole & _are_names(texts, schema.names)
        is_header = F.when(named, F.lit(True)).otherwise(is_header)
        reason = F.when(~named, reason)
    return frame.select("*", *values), reason, is_header


def _unreadable(line: Column, mark: str, fields: int, no_characters: Sequence[str]) -> Column:
    """Return why a line must not reach Spark's parser, or null."""
    raw, marks = F.col(RAW), F.regexp_count(line, F.lit(re.escape(mark)))
    return F.coalesce(
        F.when(F.coalesce(F.trim(raw), F.lit("")) == "", _not_so_many(fields)),
        F.when(~F.is_valid_utf8(raw), "not valid UTF-8"),
        # What follows the first is dropped, and mixed into the next line.
        *(F.when(raw.contains(one), f"U+{ord(one):X}, which is no character") for one in no_characters),
        # It would be left out of a value in quotes.
        F.when(raw.contains("\0"), "a NUL character"),
        F.when(raw.contains('"'), _misquoted(line, re.escape(mark))),
        F.when((F.octet_length(raw) >= _MOST_FIELDS) & (marks >= _MOST_FIELDS), _not_so_many(fields)),
    )


def _misquoted(line: Column, mark: str) -> Column:
    """Return what is wrong with the quotes of a line, or null."""
    value = rf'(?<![^{mark}])"[^"]*+(?:""[^"]*+)*+"(?![^{mark}])'
    # In most lines all quotes are around a value or doubled in it.
    usual = rf'^[^"]*+(?:{value}[^"]*+)*+\z'
    # A value that does not begin with a quote may hold some, too.
    with_quotes_within = rf'^[^"]*+(?:(?:{value}|(?<=[^{mark}])")[^"]*+)*+\z'
    return (
        F.when(line.rlike(usual), None)
        # Often the half of a value with a line feed in it.
        .when(F.regexp_count(line, F.lit('"')) % 2 == 1, "unbalanced quote")
        # Spark's parser would take the quotes, or the rest of the line, into the value.
        .when(~line.rlike(with_quotes_within), "misplaced quote")
    )


def _csv_fields(line: Column, mark: str, count: int) -> Column:
    """Return the fields of a readable line as c0, c1, …, with one after the last."""
    # Every column is asked for as text: Spark then parses all of them, and loses nothing.
    names = ", ".join(f"c{index} STRING" for index in range(count + 1))
    marked = F.when(F.col("_unreadable").isNull(), F.concat(line, F.lit(mark + _AFTER_LAST)))
    return F.from_csv(marked, names, {"sep": mark, "quote": '"', "escape": '"'})


def _are_names(texts: list[Column], names: list[str]) -> Column:
    """Say whether a line's fields are the columns' names; fail where they are, in another order."""
    lowered = [F.lower(F.trim(text)) for text in texts]
    wanted = [F.lower(F.lit(name)) for name in names]
    same = reduce(and_, [F.equal_null(text, name) for text, name in zip(lowered, wanted, strict=True)])
    moved = lowered[0].isin(wanted) & (F.array_sort(F.array(*lowered)) == F.array_sort(F.array(*wanted)))
    error = F.concat(
        F.lit("the header of "),
        F.coalesce(readable(F.col(FILE)), F.lit("the input")),
        F.lit(f" has the columns in another order than the schema, which has {', '.join(names)}; it is "),
        F.col(RAW),
    )
    return F.when(~same & moved, F.raise_error(error).cast("boolean")).otherwise(same)


def _not_so_many(fields: int) -> str:
    return f"not {fields} field{'' if fields == 1 else 's'}"
