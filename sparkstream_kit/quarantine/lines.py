"""Parse lines of CSV and JSON into typed rows, or into bad rows with a reason.

`parse_csv` and `parse_json` check their arguments here and read the values of a line.
Each hands its reader to `rows.parsed`, which adds the columns `_reason`, `_raw`,
`_bytes` and `_file` and counts the rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_, or_
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import (
    as_compared,
    finite,
    holds,
    quoted,
    refuse_twice,
    shape_of,
    types_in,
)
from sparkstream_kit._internal.spark.session import as_schema, refuse_former_patterns
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine import headers
from sparkstream_kit.quarantine.fields import not_so_many, split_fields
from sparkstream_kit.quarantine.plain_json import IS_PLAIN, PlainLines
from sparkstream_kit.quarantine.rows import (
    BLOCK,
    RAW,
    SCALARS,
    is_missing,
    not_a,
    parsed,
    typed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.connectors._registry.client import Registry
    from sparkstream_kit.quarantine.rows import Read


NESTED = (T.ArrayType, T.MapType, T.StructType)

_LIKE_HEADER = "like a header"  # why a line is bad


def schema_for(
    frame: DataFrame,
    form: str,
    schema: T.StructType | str,
    fix: str,
    also: tuple[type[T.DataType], ...],
) -> T.StructType:
    """Return a schema whose column types a format can hold.

    Args:
        frame: what is parsed; its session reads DDL.
        form: the name of the format, such as "JSON".
        schema: as the caller gave it.
        fix: what to do about a type that the format cannot hold, such as "read it as a
            string".
        also: types that the format supports in addition to `SCALARS`.

    Raises:
        InvalidInputError: a type, or one inside it, is not supported. The message names
            the column.
    """
    schema = as_schema(schema, frame.sparkSession)
    for field in schema.fields:
        for kind in types_in(field.dataType):
            if isinstance(kind, T.StructType):
                names = as_compared(frame.sparkSession, kind.names)
                refuse_twice(f"column {field.name}: its field", names)
            if not _can_hold(kind, also):
                raise InvalidInputError(
                    f"column {field.name}: {form} cannot hold {kind.simpleString()};"
                    f" {fix}"
                )
    return schema


def _can_hold(kind: T.DataType, also: tuple[type[T.DataType], ...]) -> bool:
    """Return whether a format with these types besides `SCALARS` can hold a type."""
    if isinstance(kind, T.MapType) and not isinstance(kind.keyType, T.StringType):
        return False
    return isinstance(kind, (*SCALARS, *also))


def parse_csv(
    lines: DataFrame,
    schema: T.StructType | str,
    *,
    date_format: str | None = None,
    timestamp_format: str | None = None,
    nulls: str | Sequence[str] = (),
    sep: str = ",",
    header: bool = False,
) -> DataFrame:
    """Parse lines of CSV; each line gives one row, good or bad.

    A line is bad when

    - it is not valid UTF-8, or contains U+FFFF or U+0000 (or U+FFFE, with a `sep` of
      several characters);
    - it is blank, or its number of fields is not the number of columns in the schema;
    - its quotes are not in pairs, or a quote that begins a value is not closed at the
      end of the value;
    - a value in any column does not parse as the column's type;
    - a decimal or a timestamp has more digits than the column holds (it would be
      rounded), or a number is too big for its type;
    - a date or a timestamp is not in the years 1 to 9999;
    - a timestamp without an offset names a local time that does not exist in the
      session's time zone (the hour that is skipped in spring);
    - a column that is NOT NULL in the schema is empty.

    A local time that occurs twice, in autumn, is read as the first of the two. Where
    that matters, write times with their offset, or keep the session in UTC, as the
    kit's profiles do. Values in quotes may contain the separator and doubled quotes
    (RFC 4180), but no line feed.

    Args:
        lines: a DataFrame, streaming or static, whose first column is the line
            (string), such as that of `sources.text`. Its other columns are kept. If the
            first two are `key` and `value`, as in Spark's records of Kafka, `value` is
            the line.
        schema: the columns in the order of the fields, as a StructType or as DDL ("key
            STRING NOT NULL, amount INT"). The types can be numbers, decimals, strings,
            booleans, dates and timestamps.
        date_format: the pattern of dates, such as "M/d/yy" (Spark's datetime patterns).
            Default: ISO dates.
        timestamp_format: the pattern of timestamps. Default: ISO timestamps. With a
            pattern of more than six S, the digits of a second after the sixth must be
            zeros; without a pattern, a seventh digit makes a line bad.
        nulls: the texts that stand for a missing value, such as "NA" or ("NA", "-"); an
            empty field is NULL, too.
        sep: the separator, one character or more. A line in which a separator such as
            `||` could begin at two places, as in `a|||b`, is bad.
        header: the first line of each file that is not blank is a header and gives no
            row. It has the names of the columns in their order; case, blanks around a
            name and names that are missing in the file, such as the one of an index,
            are ignored. If it has other names, all lines of its file are bad: their
            values could be those of other columns. Of a large file, which Spark reads
            in parts, such a header fails the query. A file whose first line is a row,
            with a value in a column that is no text, has no header; its rows are read.
            The summary of `run` says how many files had no header. A line further down
            that looks like a header is a bad row, as each such line is without
            `header=True`. A Python function finds the first lines, so the lines have to
            come as `sources.text` reads them: parse first, then join or repartition. Of
            lines that come from no file, such as those of Kafka, each that consists of
            the names is left out.

    Returns:
        The columns of `schema` (all null in a bad row), then

        - `_reason` (string): null in a good row, else the reason, such as "SaleAmount:
            not a decimal(12,2)". It never contains a value from the line, so you can
            group by it;
        - `_raw` (string): the line. Bytes that are not valid UTF-8 and U+0000, which
            most readers refuse in a text, are replaced by U+FFFD;
        - `_bytes` (binary): the exact bytes of the line if `_raw` has such
            replacements, else null;
        - `_file` (string): the file that the line comes from. It is null if the line
            does not come from a file, and before Spark 4.2 also if the lines were
            transformed first, for example filtered. If `lines` has a column `_file`,
            its value is used;

        then the other columns of `lines`. Spark's progress counts the rows, and so does
        the summary of `run`.

    Raises:
        InvalidInputError: DDL that cannot be read, a column type that CSV cannot hold,
            two columns of the same name, a column named like one of the four above, a
            separator that CSV cannot have, or `header=True` for lines of files that an
            earlier step has mixed.

    Examples:
        In a session::

            lines = sources.text(spark, "incoming")
            rows = quarantine.parse_csv(lines, "product STRING NOT NULL, amount DECIMAL(12,2)")
            sink = quarantine.split(sinks.batch_files("good"), sinks.batch_files("bad"))
            start(rows, sink, name="sales", checkpoint="ckpt")
    """
    check(parse_csv, locals())
    schema = schema_for(lines, "CSV", schema, "read it as a string", ())
    if not sep or not {*sep}.isdisjoint('"\\\r\n\0\ufffe\uffff'):
        raise InvalidInputError(
            f"sep is {sep!r}; give one character or more, but no quote, backslash or"
            " line end"
        )
    settings = _settings(
        lines.sparkSession, schema, date_format, timestamp_format, nulls
    )
    read = partial(_read_csv, schema=schema, settings=settings, sep=sep, header=header)
    with_blocks = header and headers.has_places(lines)
    return parsed(lines, schema, read, "csv", with_blocks=with_blocks)


@dataclass(frozen=True)
class _Settings:
    """How the values of a line are read.

    Attributes:
        date_format: Spark's pattern of dates; None for ISO.
        timestamp_format: Spark's pattern of timestamps; None for ISO.
        nulls: the texts that stand for a missing value.
    """

    date_format: str | None
    timestamp_format: str | None
    nulls: Sequence[str]

    def pattern_of(self, kind: T.DataType) -> str | None:
        """Return the pattern for values of a type; None for ISO or if the type has none."""
        if isinstance(kind, T.DateType):
            return self.date_format
        if isinstance(kind, T.TimestampType):
            return self.timestamp_format
        return None


def _settings(
    spark: SparkSession,
    schema: T.StructType,
    date_format: str | None,
    timestamp_format: str | None,
    nulls: str | Sequence[str],
) -> _Settings:
    """Return how values are read.

    Raises:
        InvalidInputError: a pattern is one of Python's, or one for weeks; or the
            session reads patterns in the way of Spark 2.
    """
    patterns = {"date_format": date_format, "timestamp_format": timestamp_format}
    for name, pattern in patterns.items():
        if re.search("%|YYYY", pattern or ""):
            raise InvalidInputError(
                f"{name} is {pattern!r}; write it as Spark does: 'yyyy-MM-dd HH:mm:ss'"
            )
    markers = [nulls] if isinstance(nulls, str) else [*nulls]
    settings = _Settings(date_format, timestamp_format, markers)
    used = ((date_format, T.DateType), (timestamp_format, T.TimestampType))
    for pattern, kind in used:
        if pattern is not None and holds(schema, kind):
            refuse_former_patterns(f"the pattern {pattern!r}", spark)
    return settings


def _read_csv(
    frame: DataFrame,
    schema: T.StructType,
    settings: _Settings,
    sep: str,
    *,
    header: bool,
) -> tuple[DataFrame, Column, Column | None]:
    """Read the values of lines of CSV; the result is that of a `Read` of `rows`."""
    frame, fields, is_whole = split_fields(frame, sep, len(schema))
    texts = [_text_or_null(field, settings) for field in fields]
    values = []
    for index, (column, text) in enumerate(zip(schema, texts, strict=True)):
        value = typed(text, column.dataType, settings.pattern_of(column.dataType))
        values.append(value.alias(f"_v{index}"))
    frame = frame.select("*", *values)

    too_few = F.lit(not_so_many(len(schema)))
    hint = headers.other_separator(len(schema), sep)
    reason = F.coalesce(
        "_unreadable",
        F.when(~is_whole, F.concat(too_few, hint)),
        *_csv_problems(schema, texts),
    )
    looks_like_header = _looks_like_header(
        schema, fields, texts, is_whole, header=header
    )
    if not header:
        return frame, *_without_header(reason, looks_like_header)

    is_named = is_whole & headers.are_names(fields, schema.names)
    has_names = headers.has_two_names(fields, schema.names)
    looks_like_header |= is_named | (_has_words(schema, texts) & has_names)
    if BLOCK not in shape_of(frame).names:  # no files, so that only the looks are known
        return frame, *_header_by_names(reason, is_named, looks_like_header)

    is_data = reason.isNull() & _is_surely_data(schema, fields, sep)
    frame = frame.select(
        "*", reason.alias("_why"), looks_like_header.alias("_looks_so")
    )
    return _header_by_place(frame, is_named, is_data, schema.names, sep)


def _without_header(reason: Column, looks_like_header: Column) -> tuple[Column, Column]:
    """Return the reason and `is_header` of a line where there are no headers.

    `is_header` is never true. It is false for a line that looks like a header, which is
    a bad row, and null for any other line.
    """
    is_header = F.when(looks_like_header, F.lit(False))
    return F.coalesce(reason, F.when(looks_like_header, _LIKE_HEADER)), is_header


def _header_by_names(
    reason: Column, is_named: Column, looks_like_header: Column
) -> tuple[Column, Column]:
    """Return the reason and `is_header` of a line that comes from no file.

    `is_header` is true for each line that consists of the names of the columns. It is
    false for another line that looks like a header, which is a bad row, and null for
    any other line.
    """
    is_header = F.when(is_named, F.lit(True)).when(looks_like_header, F.lit(False))
    reason = F.coalesce(reason, F.when(looks_like_header, _LIKE_HEADER))
    return F.when(~is_named, reason), is_header


def _header_by_place(
    frame: DataFrame, is_named: Column, is_data: Column, names: list[str], sep: str
) -> tuple[DataFrame, Column, Column]:
    """Return the frame, and the reason and `is_header` of a line of a file.

    `is_header` is true for the first line of a file that is its header, false for the
    first line of a file without one, and null for any other line.

    Args:
        frame: the lines of files. `_why` has the reason why the values of a line are
            bad, and `_looks_so` whether the line looks like a header.
        is_named: whether a line consists of the names of the columns.
        is_data: whether a line could be no header.
        names: the names of the columns.
        sep: the separator.
    """
    frame, is_header, of_file = headers.placed(
        frame, is_header=is_named, is_data=is_data, names=names, sep=sep
    )
    is_like_header = is_header.isNull() & F.col("_looks_so")
    reason = F.coalesce(of_file, "_why", F.when(is_like_header, _LIKE_HEADER))
    return frame, F.when(~F.coalesce(is_header, F.lit(False)), reason), is_header


def _text_or_null(field: Column, settings: _Settings) -> Column:
    """Return the text of a field, or null if it stands for a missing value."""
    if not settings.nulls:
        return field
    return F.when(~field.isin(settings.nulls), field)


def _csv_problems(schema: T.StructType, texts: Sequence[Column]) -> list[Column]:
    """Return reasons (string), each null if one thing about one column is right.

    Args:
        schema: the columns, whose values are `_v0`, `_v1`, …
        texts: the texts of the values.
    """
    problems = []
    for index, (column, text) in enumerate(zip(schema, texts, strict=True)):
        kind = column.dataType
        if not isinstance(kind, T.StringType):
            is_wrong = text.isNotNull() & is_missing(F.col(f"_v{index}"), kind)
            problems.append(F.when(is_wrong, f"{column.name}: {not_a(kind)}"))
        if not column.nullable:
            is_empty = text.isNull() | (F.trim(text) == "")
            problems.append(F.when(is_empty, f"{column.name}: empty"))
    return problems


def _looks_like_header(
    schema: T.StructType,
    fields: Sequence[Column],
    texts: Sequence[Column],
    is_whole: Column,
    *,
    header: bool,
) -> Column:
    """Return whether a line looks like a header: it has words in all columns that are no text.

    If there is only one such column, a word in it may just be one wrong value, and if
    there is none, any line has them. So the names of the columns decide, too:

    | columns that are no text | with header=True            | without              |
    | ------------------------ | --------------------------- | -------------------- |
    | two or more              | words in all of them        | words in all of them |
    | none or one              | words, and one of the names | words, and all names |
    """
    has_words = _has_words(schema, texts)
    if len(_typed_columns(schema)) > 1:
        return has_words
    are_names = [
        _is_name(field, name) for field, name in zip(fields, schema.names, strict=True)
    ]
    is_named = reduce(or_, are_names) if header else reduce(and_, are_names)
    return has_words & is_whole & is_named & F.lit(len(schema) > 1)


def _has_words(schema: T.StructType, texts: Sequence[Column]) -> Column:
    """Return whether a line has words in all columns that are no text."""
    has_words = F.lit(True)
    for index in _typed_columns(schema):
        begins_with_a_letter = texts[index].rlike(r"^\D*\p{L}")
        has_words &= F.col(f"_v{index}").isNull() & begins_with_a_letter
    return has_words


def _is_surely_data(schema: T.StructType, fields: Sequence[Column], sep: str) -> Column:
    """Return whether a line could be no header: it has a typed value, and no column's name."""
    has_typed_value = F.lit(False)
    for index in _typed_columns(schema):
        has_typed_value |= F.col(f"_v{index}").isNotNull()
    is_data = has_typed_value & ~headers.splits_elsewhere(len(schema), sep)
    for column, field in zip(schema, fields, strict=True):
        if isinstance(column.dataType, T.StringType):
            is_data &= ~headers.is_a_name(field, schema.names)
    return is_data


def _typed_columns(schema: T.StructType) -> list[int]:
    """Return the places of the columns that are no text."""
    return [
        index
        for index, column in enumerate(schema)
        if not isinstance(column.dataType, T.StringType)
    ]


def _is_name(text: Column, name: str) -> Column:
    return F.equal_null(F.lower(F.trim(text)), F.lower(F.lit(name)))


# Spark's JSON parser stops at the end of the first value and ignores the rest of the
# line. So each line is parsed as the first element of an array whose second element is
# this text: if the second element is read back, the line is exactly one value, for no
# line can contain the text.
_END = uuid4().hex

# A line of a JSON array or object that goes over several lines, such as `[`, `{"a":
# 1},` or `}`.
_PART = r",\s*$|^\s*[\[{]\s*$|^\s*[\]}]"

# A string literal of JSON; digits in it are not a number.
_TEXT_OF_JSON = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NUMBER_OF_JSON = r"\d[\d.]*(?:[eE][+-]?\d+)?"  # without its sign, such as 12.5 or 1e-3
# VARIANT stores a number without an exponent as a decimal, and a number with an
# exponent as a double.
_DECIMAL_DIGITS = 38
_DOUBLE_DIGITS = 17
_SMALLEST_DOUBLE = 2.2250738585072014e-308
# The types whose values JSON has as strings alone; a TIMESTAMP may also be a number.
_WRITTEN_AS_STRING = (T.DateType, T.StringType, T.TimestampType, T.TimestampNTZType)


def parse_json(
    lines: DataFrame,
    schema: T.StructType | str,
    *,
    date_format: str | None = None,
    timestamp_format: str | None = None,
    nulls: str | Sequence[str] = (),
    refuse_unknown: bool = False,
    header: bool = False,
    registry: Registry | str | None = None,
) -> DataFrame:
    """Parse lines that hold one JSON object each; each line gives one row, good or bad.

    A line is bad when

    - it is blank, not valid UTF-8 or not valid JSON (NaN, for example, or a field that
      occurs twice), such as a line of an array that goes over several lines;
    - it contains anything but one object;
    - a value in any column is not of the column's type;
    - a value does not fit: an integer that is too big, a decimal or a timestamp with
      more digits than the column holds, a number that would become infinite;
    - a column that is NOT NULL in the schema is null or missing.

    A renamed field therefore goes unnoticed unless its column is NOT NULL: mark the
    columns that you rely on. `refuse_unknown` also finds every new field name.

    A number in quotes is not accepted as a number, except for a decimal, because many
    writers quote decimals to keep their digits. A number without quotes is not accepted
    as a string. An integer is accepted as a TIMESTAMP, as in Spark's own reader, unless
    `timestamp_format` is given: it counts the seconds since 1970. Milliseconds make the
    line bad, because as seconds they would lie after the year 9999. The same rules hold
    for each value in structs, arrays and maps, but fields that a nested struct of the
    schema does not have are ignored. Before Spark 4.2 half of a surrogate pair is read
    as `?`; from 4.2 on such a line is not valid.

    VARIANT stores numbers of up to 38 digits, and numbers with an exponent as a double
    of up to 17 digits. If the schema has a VARIANT, a line with a number beyond these
    limits is bad, whichever field it is in.

    Args:
        lines: a DataFrame, streaming or static, whose first column is the line
            (string), such as that of `sources.text`. Its other columns are kept. If the
            first two are `key` and `value`, as in Spark's records of Kafka, `value` is
            the line.
        schema: the columns, as a StructType or as DDL. Each is a field of the object,
            by its exact name. The types can be those of `parse_csv`, structs, arrays,
            maps with string keys, and `VARIANT` for any JSON value.
        date_format: the pattern of dates, such as "M/d/yy" (Spark's datetime patterns).
            Default: ISO dates.
        timestamp_format: the pattern of timestamps, as in `parse_csv`. Default: ISO
            timestamps.
        nulls: the strings that stand for a missing value, in a column of any type, such
            as "NA".
        refuse_unknown: a line with a field that the schema does not have is bad, too.
        header: the lines are records (binary) with the id of their schema in front of
            the JSON, a zero byte and four bytes, as Confluent's serializers write it.
            It is left out; a record without it is bad ("not JSON with a schema id").
        registry: as `header`, and the id must be that of a schema of JSON in this
            registry, from `schemas.registry` or given by its address. The values are
            checked by `schema` alone. `parse_avro` says how a registry is asked.

    Returns:
        The same as `parse_csv`: the columns of `schema` (all null in a bad row), then
        `_reason`, such as "SaleAmount: not a decimal(12,2)" or "SaleAmount: missing",
        `_raw`, `_bytes` and `_file`, then the other columns of `lines`.

    Raises:
        InvalidInputError: DDL that cannot be read, a column type that JSON cannot hold,
            two columns of the same name, a column name that `parse_csv` refuses, a
            first column that is not binary, with `header`, or a `registry` that is no
            address.

    Examples:
        In a session::

            lines = sources.text(spark, "events")
            events = quarantine.parse_json(lines, "time TIMESTAMP NOT NULL, action STRING")
            counts = quarantine.good_rows(events).groupBy("action").count()
    """
    check(parse_json, locals())
    also = (*NESTED, T.VariantType)
    schema = schema_for(
        lines, "JSON", schema, "read it as a string or as VARIANT", also
    )
    settings = _settings(
        lines.sparkSession, schema, date_format, timestamp_format, nulls
    )
    read: Read = partial(
        _read_json, schema=schema, settings=settings, refuse_unknown=refuse_unknown
    )
    if header or registry is not None:
        from sparkstream_kit.quarantine.decoded import refuse_text
        from sparkstream_kit.quarantine.schema_ids import with_header

        refuse_text("parse_json", lines)
        read = with_header(read, registry)
    return parsed(lines, schema, read, "json")


def _read_json(
    frame: DataFrame,
    schema: T.StructType,
    settings: _Settings,
    *,
    refuse_unknown: bool,
) -> tuple[DataFrame, Column, Column | None]:
    """Read the values of lines of JSON; the result is that of a `Read` of `rows`."""
    line = F.col(RAW)
    plain = PlainLines(
        schema, settings.date_format, settings.timestamp_format, settings.nulls
    )
    if plain.exist:
        frame = plain.read(frame)
        line = F.when(~F.col(IS_PLAIN), line)
    # Separate select steps: in a single step Spark would evaluate each expression again
    # for every use.
    in_array = F.concat(F.lit("["), line, F.lit(f',"{_END}"]'))
    frame = frame.select("*", F.try_parse_json(in_array).alias("_read"))
    fields = F.try_variant_get("_read", "$[0]", _json_fields(schema))
    frame = frame.select("*", fields.alias("_whole"))

    values = []
    problems = []
    for index, field in enumerate(schema.fields):
        kind = field.dataType
        piece = _piece_or_null(F.col("_whole").getField(field.name), settings)
        value, is_exact = _json_value(piece, kind, settings)
        if isinstance(kind, NESTED):
            value = F.when(is_exact, value)
        if plain.exist:
            value = F.when(F.col(IS_PLAIN), F.col(f"_p{index}")).otherwise(value)
        values.append(value.alias(f"_v{index}"))
        if not field.nullable:
            problems.append(F.when(_is_absent(piece), f"{field.name}: missing"))
        is_wrong = is_missing(F.col(f"_v{index}"), kind) & ~_is_absent(piece)
        problems.append(F.when(is_wrong, f"{field.name}: {not_a(kind)}"))
    reason = F.coalesce(
        *_json_line_problems(schema, refuse_unknown=refuse_unknown), *problems
    )
    if plain.exist:
        reason = F.when(~F.col(IS_PLAIN), reason)
    return frame.select("*", *values), reason, None


def _json_line_problems(schema: T.StructType, *, refuse_unknown: bool) -> list[Column]:
    """Return reasons (string), each null if one thing about a whole line is right."""
    is_no_json = F.col("_read").isNull()
    is_part = F.col(RAW).rlike(_PART)
    is_no_object = F.col("_whole").isNull()
    end = F.try_variant_get("_read", "$[1]", "STRING")
    is_one_value = F.equal_null(end, F.lit(_END))
    problems = [
        F.when(~F.is_valid_utf8(RAW), "not valid UTF-8"),
        F.when(F.trim(RAW) == "", "a blank line"),
        F.when(is_no_json & is_part, "a part of JSON over several lines"),
        F.when(is_no_json, "not valid JSON, or a field twice"),
        F.when(is_no_object | ~is_one_value, "not one JSON object"),
    ]
    if holds(schema, T.VariantType):
        has_other = _has_other_number(F.col(RAW))
        problems.append(F.when(has_other, "a number that VARIANT cannot hold"))
    if refuse_unknown:
        names = F.map_keys(F.try_variant_get("_read", "$[0]", "MAP<STRING, VARIANT>"))
        has_unknown = F.exists(names, lambda name: ~name.isin(schema.names))
        problems.append(F.when(has_unknown, "a field that the schema does not have"))
    return problems


def _has_other_number(line: Column) -> Column:
    """Return whether a line of JSON has a number that VARIANT would change.

    VARIANT rounds such a number, or turns it into zero or infinity.
    """
    bare = F.regexp_replace(line, _TEXT_OF_JSON, "")

    def is_changed(number: Column) -> Column:
        digits = F.regexp_replace(number, r"[eE].*|\.", "")
        size = F.abs(number.cast("double"))
        is_zero = ~digits.rlike("[1-9]")
        fits = (size >= _SMALLEST_DOUBLE) & (size < float("inf")) | is_zero
        is_double = number.rlike("[eE]")
        most_digits = F.when(is_double, F.lit(_DOUBLE_DIGITS)).otherwise(
            F.lit(_DECIMAL_DIGITS)
        )
        return (F.length(digits) > most_digits) | is_double & ~fits

    numbers = F.regexp_extract_all(bare, F.lit(_NUMBER_OF_JSON), F.lit(0))
    return F.exists(numbers, is_changed)


def _json_fields(kind: T.StructType) -> str:
    """Return the type (DDL) that splits an object into its fields and keeps each value as it is."""
    return f"STRUCT<{', '.join(quoted(name) + ': VARIANT' for name in kind.names)}>"


def _piece_or_null(piece: Column, settings: _Settings) -> Column:
    """Return a JSON value, or null for a string that stands for a missing value."""
    if not settings.nulls:
        return piece
    is_string = F.schema_of_variant(piece) == "STRING"
    text = F.when(is_string, F.try_variant_get(piece, "$", "STRING"))
    return F.when(~F.coalesce(text.isin(settings.nulls), F.lit(False)), piece)


def _is_absent(piece: Column) -> Column:
    return piece.isNull() | F.is_variant_null(piece)


class _JsonValue(NamedTuple):
    """A JSON value as a type, and whether that is exact (or null is allowed)."""

    value: Column
    is_exact: Column


def _json_value(
    piece: Column, kind: T.DataType, settings: _Settings, *, nullable: bool = True
) -> _JsonValue:
    """Convert a JSON value to a type, with all that lies inside it."""
    if isinstance(kind, T.StructType):
        value, is_exact = _json_struct(piece, kind, settings)
    elif isinstance(kind, T.ArrayType):
        value, is_exact = _json_array(piece, kind, settings)
    elif isinstance(kind, T.MapType):
        value, is_exact = _json_map(piece, kind, settings)
    else:
        value = scalar(piece, kind, settings.pattern_of(kind))
        is_exact = ~is_missing(value, kind)
    if nullable:
        is_exact = _is_absent(piece) | is_exact
    return _JsonValue(value, is_exact)


def _json_struct(piece: Column, kind: T.StructType, settings: _Settings) -> _JsonValue:
    fields = F.try_variant_get(piece, "$", _json_fields(kind))
    values = []
    is_exact = fields.isNotNull()
    for field in kind.fields:
        part = _piece_or_null(fields.getField(field.name), settings)
        read = _json_value(part, field.dataType, settings, nullable=field.nullable)
        values.append(read.value.alias(field.name))
        is_exact &= read.is_exact
    return _JsonValue(F.when(fields.isNotNull(), F.struct(*values)), is_exact)


def _json_array(piece: Column, kind: T.ArrayType, settings: _Settings) -> _JsonValue:
    def read(part: Column) -> _JsonValue:
        part = _piece_or_null(part, settings)
        return _json_value(part, kind.elementType, settings, nullable=kind.containsNull)

    parts = F.try_variant_get(piece, "$", "ARRAY<VARIANT>")
    return _JsonValue(
        F.transform(parts, lambda part: read(part).value),
        F.forall(parts, lambda part: read(part).is_exact),
    )


def _json_map(piece: Column, kind: T.MapType, settings: _Settings) -> _JsonValue:
    def read(part: Column) -> _JsonValue:
        part = _piece_or_null(part, settings)
        return _json_value(
            part, kind.valueType, settings, nullable=kind.valueContainsNull
        )

    parts = F.try_variant_get(piece, "$", "MAP<STRING, VARIANT>")
    return _JsonValue(
        F.transform_values(parts, lambda _, part: read(part).value),
        F.forall(F.map_values(parts), lambda part: read(part).is_exact),
    )


def scalar(
    piece: Column, kind: T.DataType, pattern: str | None, *, zeros: bool = False
) -> Column:
    """Return a JSON value as a type; null if absent or not exactly a value of it."""
    if isinstance(kind, T.VariantType):
        return piece
    shape = F.schema_of_variant(piece)
    text = F.when(shape == "STRING", F.try_variant_get(piece, "$", "STRING"))
    if isinstance(kind, T.TimestampType) and not pattern:
        seconds = F.when(shape == "BIGINT", F.try_variant_get(piece, "$", "BIGINT"))
        return F.coalesce(typed(text, kind, None, zeros=zeros), seconds.cast(kind))
    if isinstance(kind, _WRITTEN_AS_STRING):
        return typed(text, kind, pattern, zeros=zeros)
    value = F.try_variant_get(piece, "$", kind.simpleString())
    if isinstance(kind, T.DecimalType):
        scales = "|".join(map(str, range(kind.scale + 1)))
        fits = shape.rlike(rf"^(BIGINT|DECIMAL\(\d+,({scales})\))$")
        # Spark's own writers write 0.00000000 as 0E-8, which is a double.
        fits |= (shape == "DOUBLE") & (F.try_variant_get(piece, "$", "DOUBLE") == 0)
        return F.when(fits, value).otherwise(typed(text, kind, None))
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        return F.when(shape.rlike("^(BIGINT|DECIMAL.*|DOUBLE)$") & finite(value), value)
    wanted = "BOOLEAN" if isinstance(kind, T.BooleanType) else "BIGINT"
    return F.when(shape == wanted, value)
