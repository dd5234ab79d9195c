"""Parse lines of CSV and JSON into typed rows, or into bad rows with a reason.

`parse_csv` and `parse_json` check their arguments here and read the values of a line.
Each hands its reader to `rows.parsed`, which adds the columns `_reason`, `_raw`,
`_bytes` and `_file` and counts the rows.
"""

from __future__ import annotations

import re
from functools import partial, reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any
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
    types_in,
)
from sparkstream_kit._internal.spark.session import as_schema
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine import headers
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
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame


# Spark's CSV parser fails the query at a line with more fields than this (its option
# maxColumns), so such a line is marked bad before it gets there.
_MOST_FIELDS = 20_000

# from_csv misreads quotes next to a separator of several characters, so this one
# character stands for it.
_SEP = "\ufffe"

# Appended to each line as one more field; no readable line can contain it. If it is
# read in the field after the last column, the line has the right number of fields.
_AFTER_LAST = "\0"


NESTED = (T.ArrayType, T.MapType, T.StructType)


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
            is_keyed = isinstance(kind, T.MapType) and not isinstance(
                kind.keyType, T.StringType
            )
            if is_keyed or not isinstance(kind, (*SCALARS, *also)):
                raise InvalidInputError(
                    f"column {field.name}: {form} cannot hold {kind.simpleString()};"
                    f" {fix}"
                )
    return schema


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
    settings = _settings(date_format, timestamp_format, nulls)
    read = partial(_read_csv, schema=schema, settings=settings, sep=sep, header=header)
    with_blocks = header and headers.has_places(lines)
    return parsed(lines, schema, read, "csv", with_blocks=with_blocks)


def _settings(
    date_format: str | None, timestamp_format: str | None, nulls: str | Sequence[str]
) -> dict[str, Any]:
    """Return how values are read: the patterns of dates and times, and `nulls` if there are any."""
    settings: dict[str, Any] = {
        "date_format": date_format,
        "timestamp_format": timestamp_format,
    }
    for name, given in settings.items():
        if re.search("%|YYYY", given or ""):
            raise InvalidInputError(
                f"{name} is {given!r}; write it as Spark does: 'yyyy-MM-dd HH:mm:ss'"
            )
    markers = [nulls] if isinstance(nulls, str) else [*nulls]
    if markers:
        settings["nulls"] = markers
    return settings


def _read_csv(
    frame: DataFrame,
    schema: T.StructType,
    settings: Mapping[str, Any],
    sep: str,
    *,
    header: bool,
) -> tuple[DataFrame, Column, Column | None]:
    frame, texts, after_last = _split(frame, sep, len(schema))
    values = []
    problems = []
    words = []
    for index, (field, written) in enumerate(zip(schema.fields, texts, strict=True)):
        value = F.col(f"_v{index}")
        kind = field.dataType
        text = (
            F.when(~written.isin(settings["nulls"]), written)
            if "nulls" in settings
            else written
        )
        values.append(
            typed(text, kind, settings.get(f"{kind.typeName()}_format")).alias(
                f"_v{index}"
            )
        )
        if not isinstance(kind, T.StringType):
            wrong = text.isNotNull() & is_missing(value, kind)
            problems.append(F.when(wrong, f"{field.name}: {not_a(kind)}"))
            words.append(value.isNull() & text.rlike(r"^\D*\p{L}"))
        if not field.nullable:
            problems.append(
                F.when(text.isNull() | (F.trim(text) == ""), f"{field.name}: empty")
            )
    frame = frame.select("*", *values)
    whole = F.equal_null(after_last, F.lit(_AFTER_LAST))
    too_few = F.concat(
        F.lit(_not_so_many(len(schema))), headers.other_separator(len(schema), sep)
    )
    reason = F.coalesce("_unreadable", F.when(~whole, too_few), *problems)

    # A line with words in all of its number and date columns looks like a header. If
    # there is only one such column, a word in it may just be one wrong value; so the
    # names of the columns decide, too.
    has_words = looks_so = reduce(and_, words, F.lit(True))
    if len(words) <= 1:
        is_named = reduce(or_ if header else and_, map(_is_name, texts, schema.names))
        looks_so = has_words & whole & is_named & F.lit(len(schema) > 1)
    if not header:
        is_header = F.when(looks_so, F.lit(False))
        return frame, F.coalesce(reason, F.when(looks_so, "like a header")), is_header

    named = whole & headers.are_names(texts, schema.names)
    looks_so |= named | has_words & headers.has_two_names(texts, schema.names)
    if BLOCK not in frame.columns:  # no files, so that only the looks are known
        is_header = F.when(named, F.lit(True)).when(looks_so, F.lit(False))
        return (
            frame,
            F.when(~named, F.coalesce(reason, F.when(looks_so, "like a header"))),
            is_header,
        )

    # A row that could be no header: it has a value of a type, and no name of a column.
    is_data = (
        reason.isNull()
        & _has_typed_value(schema)
        & ~headers.splits_elsewhere(len(schema), sep)
    )
    for field, text in zip(schema.fields, texts, strict=True):
        if isinstance(field.dataType, T.StringType):
            is_data &= ~headers.is_a_name(text, schema.names)
    frame = frame.select("*", reason.alias("_why"), looks_so.alias("_looks_so"))
    frame, is_first, other = headers.placed(
        frame, is_header=named, is_data=is_data, names=schema.names, sep=sep
    )
    like = F.when(is_first.isNull() & F.col("_looks_so"), "like a header")
    return (
        frame,
        F.when(~F.coalesce(is_first, F.lit(False)), F.coalesce(other, "_why", like)),
        is_first,
    )


def _split(
    frame: DataFrame, sep: str, count: int
) -> tuple[DataFrame, list[Column], Column]:
    """Split lines; return them with `_unreadable`, the fields, and one after the last."""
    is_one = len(sep.encode("utf-16-le")) == 2  # noqa: PLR2004 - bytes of a character of Java's
    line = F.col(RAW)
    mark = sep
    if not is_one:
        line = F.replace(RAW, F.lit(sep), F.lit(_SEP))
        mark = _SEP
    unreadable = _unreadable(line, mark, count)
    if not is_one:
        unreadable = F.coalesce(_of_separators(line, sep), unreadable)
    # Separate select steps: in a single step Spark would evaluate each expression again
    # for every use.
    frame = frame.select("*", unreadable.alias("_unreadable"))
    frame = frame.select("*", _csv_fields(line, mark, count).alias("_read"))
    *texts, after_last = [F.col(f"_read.c{index}") for index in range(count + 1)]
    if not is_one:
        texts = [F.replace(text, F.lit(_SEP), F.lit(sep)) for text in texts]
    return frame, texts, after_last


def _of_separators(line: Column, sep: str) -> Column:
    """Return why separators of several characters are unclear in a line; null if clear.

    Args:
        line: the line, in which `_SEP` stands for each separator.
        sep: the separator.
    """
    no_character = F.when(F.col(RAW).contains(_SEP), "U+FFFE, which is no character")
    if not any(sep.startswith(sep[at:]) for at in range(1, len(sep))):
        return no_character
    # Two separators can overlap: in `a|||b` the first two characters or the last two
    # could be the separator.
    from_the_end = F.reverse(F.replace(F.reverse(RAW), F.lit(sep[::-1]), F.lit(_SEP)))
    is_clear = ~F.is_valid_utf8(RAW) | (from_the_end == line)
    return F.coalesce(
        no_character, F.when(~is_clear, "a separator that could begin at two places")
    )


def _unreadable(line: Column, sep: str, fields: int) -> Column:
    """Return the reason why a line must not reach Spark's parser (string), or null if it may.

    Args:
        line: the line.
        sep: the separator in it, one character.
        fields: the number of columns.
    """
    raw = F.col(RAW)
    mark = re.escape(sep)
    many = (F.octet_length(raw) >= _MOST_FIELDS) & (
        F.regexp_count(line, F.lit(mark)) >= _MOST_FIELDS
    )
    return F.coalesce(
        F.when(F.coalesce(F.trim(raw), F.lit("")) == "", _not_so_many(fields)),
        F.when(~F.is_valid_utf8(raw), "not valid UTF-8"),
        # from_csv ends a line at U+FFFF, because a line feed can be part of a value:
        # the parser drops the rest, and mixes it into the next line.
        F.when(raw.contains("\uffff"), "U+FFFF, which is no character"),
        # The parser would leave it out of a value in quotes.
        F.when(raw.contains("\0"), "a NUL character"),
        F.when(raw.contains('"'), _misquoted(line, mark)),
        F.when(many, _not_so_many(fields)),
    )


def _misquoted(line: Column, mark: str) -> Column:
    """Return the error in the quotes of a line (string), or null if they are correct."""
    value = rf'(?<![^{mark}])"[^"]*+(?:""[^"]*+)*+"(?![^{mark}])'
    # In most lines every quote either encloses a value or is doubled within one.
    usual = rf'^[^"]*+(?:{value}[^"]*+)*+\z'
    # A value that does not begin with a quote may contain quotes, too.
    with_quotes_within = rf'^[^"]*+(?:(?:{value}|(?<=[^{mark}])")[^"]*+)*+\z'
    return (
        F.when(line.rlike(usual), None)
        # An odd number of quotes: often half of a value that contains a line feed.
        .when(F.regexp_count(line, F.lit('"')) % 2 == 1, "unbalanced quote")
        # Spark's parser would include the quotes, or the rest of the line, in the
        # value.
        .when(~line.rlike(with_quotes_within), "misplaced quote")
    )


def _csv_fields(line: Column, sep: str, count: int) -> Column:
    """Return a readable line's fields as a struct c0, c1, …, with one after the last."""
    # Read every column as a string: Spark then parses all of them, and changes no
    # value.
    names = ", ".join(f"c{index} STRING" for index in range(count + 1))
    marked = F.when(
        F.col("_unreadable").isNull(), F.concat(line, F.lit(sep + _AFTER_LAST))
    )
    return F.from_csv(marked, names, {"sep": sep, "quote": '"', "escape": '"'})


def _is_name(text: Column, name: str) -> Column:
    return F.equal_null(F.lower(F.trim(text)), F.lower(F.lit(name)))


def _has_typed_value(schema: T.StructType) -> Column:
    typed_at = [
        at
        for at, field in enumerate(schema)
        if not isinstance(field.dataType, T.StringType)
    ]
    return reduce(or_, [F.col(f"_v{at}").isNotNull() for at in typed_at], F.lit(False))


def _not_so_many(fields: int) -> str:
    return f"not {fields} field{'' if fields == 1 else 's'}"


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
# VARIANT stores a number without an exponent as a decimal, and a number with an
# exponent as a double.
_DECIMAL_DIGITS = 38
_DOUBLE_DIGITS = 17
_SMALLEST_DOUBLE = 2.2250738585072014e-308


def parse_json(
    lines: DataFrame,
    schema: T.StructType | str,
    *,
    date_format: str | None = None,
    timestamp_format: str | None = None,
    nulls: str | Sequence[str] = (),
    refuse_unknown: bool = False,
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

    Returns:
        The same as `parse_csv`: the columns of `schema` (all null in a bad row), then
        `_reason`, such as "SaleAmount: not a decimal(12,2)" or "SaleAmount: missing",
        `_raw`, `_bytes` and `_file`, then the other columns of `lines`.

    Raises:
        InvalidInputError: DDL that cannot be read, a column type that JSON cannot hold,
            two columns of the same name, or a column name that `parse_csv` refuses.

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
    settings = _settings(date_format, timestamp_format, nulls)
    read = partial(
        _read_lines, schema=schema, settings=settings, refuse_unknown=refuse_unknown
    )
    return parsed(lines, schema, read, "json")


def _read_lines(
    frame: DataFrame,
    schema: T.StructType,
    settings: Mapping[str, Any],
    *,
    refuse_unknown: bool,
) -> tuple[DataFrame, Column, Column | None]:
    # Separate select steps: in a single step Spark would evaluate each expression again
    # for every use.
    in_array = F.concat(F.lit("["), F.col(RAW), F.lit(f',"{_END}"]'))
    frame = frame.select("*", F.try_parse_json(in_array).alias("_read"))
    frame = frame.select(
        "*", F.try_variant_get("_read", "$[0]", _json_fields(schema)).alias("_whole")
    )

    values = []
    problems = []
    for index, field in enumerate(schema.fields):
        piece = _given(F.col("_whole").getField(field.name), settings)
        kind = field.dataType
        value, exact = _read_json(piece, kind, settings)
        values.append(
            (F.when(exact, value) if isinstance(kind, NESTED) else value).alias(
                f"_v{index}"
            )
        )
        if not field.nullable:
            problems.append(F.when(_absent(piece), f"{field.name}: missing"))
        wrong = is_missing(F.col(f"_v{index}"), kind) & ~_absent(piece)
        problems.append(F.when(wrong, f"{field.name}: {not_a(kind)}"))
    if refuse_unknown:
        names = F.map_keys(F.try_variant_get("_read", "$[0]", "MAP<STRING, VARIANT>"))
        unknown = F.exists(names, lambda name: ~name.isin(schema.names))
        problems.insert(0, F.when(unknown, "a field that the schema does not have"))
    if holds(schema, T.VariantType):
        problems.insert(
            0,
            F.when(_has_other_number(F.col(RAW)), "a number that VARIANT cannot hold"),
        )
    ends = F.equal_null(F.try_variant_get("_read", "$[1]", "STRING"), F.lit(_END))
    reason = F.coalesce(
        F.when(~F.is_valid_utf8(RAW), "not valid UTF-8"),
        F.when(F.trim(RAW) == "", "a blank line"),
        F.when(
            F.col("_read").isNull() & F.col(RAW).rlike(_PART),
            "a part of JSON over several lines",
        ),
        F.when(F.col("_read").isNull(), "not valid JSON, or a field twice"),
        F.when(F.col("_whole").isNull() | ~ends, "not one JSON object"),
        *problems,
    )
    return frame.select("*", *values), reason, None


def _has_other_number(line: Column) -> Column:
    """Return whether a line of JSON has a number that VARIANT would change.

    VARIANT rounds such a number, or turns it into zero or infinity.
    """
    bare = F.regexp_replace(line, _TEXT_OF_JSON, "")

    def other(number: Column) -> Column:
        digits = F.regexp_replace(number, r"[eE].*|\.", "")
        size = F.abs(number.cast("double"))
        fits = (size >= _SMALLEST_DOUBLE) & (size < float("inf")) | ~digits.rlike(
            "[1-9]"
        )
        is_double = number.rlike("[eE]")
        most = F.when(is_double, F.lit(_DOUBLE_DIGITS)).otherwise(
            F.lit(_DECIMAL_DIGITS)
        )
        return (F.length(digits) > most) | is_double & ~fits

    return F.exists(
        F.regexp_extract_all(bare, F.lit(r"\d[\d.]*(?:[eE][+-]?\d+)?"), F.lit(0)), other
    )


def _json_fields(kind: T.StructType) -> str:
    """Return the type (DDL) that splits an object into its fields and keeps each value as it is."""
    return f"STRUCT<{', '.join(quoted(name) + ': VARIANT' for name in kind.names)}>"


def _given(piece: Column, settings: Mapping[str, Any]) -> Column:
    """Return a JSON value, or null for a string that stands for a missing value."""
    if "nulls" not in settings:
        return piece
    text = F.when(
        F.schema_of_variant(piece) == "STRING", F.try_variant_get(piece, "$", "STRING")
    )
    return F.when(~F.coalesce(text.isin(settings["nulls"]), F.lit(False)), piece)


def _absent(piece: Column) -> Column:
    return piece.isNull() | F.is_variant_null(piece)


def _read_json(
    piece: Column,
    kind: T.DataType,
    settings: Mapping[str, Any],
    *,
    nullable: bool = True,
) -> tuple[Column, Column]:
    """Return a JSON value as a type, and whether that is exact (or null is allowed)."""
    if isinstance(kind, T.StructType):
        whole = F.try_variant_get(piece, "$", _json_fields(kind))
        parts = []
        for each in kind.fields:
            part = _given(whole.getField(each.name), settings)
            parts.append(
                _read_json(part, each.dataType, settings, nullable=each.nullable)
            )
        named = [
            value.alias(name)
            for (value, _), name in zip(parts, kind.names, strict=True)
        ]
        value = F.when(whole.isNotNull(), F.struct(*named))
        exact = reduce(Column.__and__, [same for _, same in parts], whole.isNotNull())
    elif isinstance(kind, T.ArrayType):
        pieces = F.try_variant_get(piece, "$", "ARRAY<VARIANT>")
        read = partial(
            _read_json,
            kind=kind.elementType,
            settings=settings,
            nullable=kind.containsNull,
        )
        value = F.transform(pieces, lambda each: read(_given(each, settings))[0])
        exact = F.forall(pieces, lambda each: read(_given(each, settings))[1])
    elif isinstance(kind, T.MapType):
        pieces = F.try_variant_get(piece, "$", "MAP<STRING, VARIANT>")
        read = partial(
            _read_json,
            kind=kind.valueType,
            settings=settings,
            nullable=kind.valueContainsNull,
        )
        value = F.transform_values(
            pieces, lambda _, each: read(_given(each, settings))[0]
        )
        exact = F.forall(
            F.map_values(pieces), lambda each: read(_given(each, settings))[1]
        )
    else:
        value = scalar(piece, kind, settings.get(f"{kind.typeName()}_format"))
        exact = ~is_missing(value, kind)
    return value, (_absent(piece) | exact if nullable else exact)


def scalar(
    piece: Column, kind: T.DataType, pattern: str | None, *, zeros: bool = False
) -> Column:
    """Return a JSON value as a type; null if absent or not exactly a value of it."""
    shape = F.schema_of_variant(piece)
    text = F.when(shape == "STRING", F.try_variant_get(piece, "$", "STRING"))
    value = F.try_variant_get(piece, "$", kind.simpleString())
    if isinstance(kind, T.VariantType):
        return piece
    if isinstance(kind, T.TimestampType) and not pattern:
        seconds = F.when(shape == "BIGINT", F.try_variant_get(piece, "$", "BIGINT"))
        return F.coalesce(typed(text, kind, None, zeros=zeros), seconds.cast(kind))
    if isinstance(
        kind, (T.DateType, T.StringType, T.TimestampType, T.TimestampNTZType)
    ):
        return typed(text, kind, pattern, zeros=zeros)
    if isinstance(kind, T.DecimalType):
        scales = "|".join(map(str, range(kind.scale + 1)))
        fits = shape.rlike(rf"^(BIGINT|DECIMAL\(\d+,({scales})\))$")
        # Spark's own writers write 0.00000000 as 0E-8, which is a double.
        fits |= (shape == "DOUBLE") & (F.try_variant_get(piece, "$", "DOUBLE") == 0)
        return F.when(fits, value).otherwise(typed(text, kind, None))
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        return F.when(shape.rlike("^(BIGINT|DECIMAL.*|DOUBLE)$") & finite(value), value)
    return F.when(
        shape == ("BOOLEAN" if isinstance(kind, T.BooleanType) else "BIGINT"), value
    )
