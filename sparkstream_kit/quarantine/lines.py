"""Lines of CSV, JSON and web server logs as typed rows, or as bad rows with a reason."""

from __future__ import annotations

import re
from functools import partial, reduce
from operator import and_
from typing import TYPE_CHECKING

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import holds, quoted
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.rows import (
    FILE,
    RAW,
    SCALARS,
    check_type,
    finite,
    is_missing,
    parsed,
    readable,
    typed,
)
from sparkstream_kit.schemas import from_ddl, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame


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

    Examples:
        In a session::

            lines = sources.text(spark, "incoming")
            rows = quarantine.parse_csv(lines, "product STRING NOT NULL, amount DECIMAL(12,2)")
            sink = quarantine.split(sinks.batch_files("good"), sinks.batch_files("bad"))
            start(rows, sink, name="sales", checkpoint="ckpt")
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
            wrong = text.isNotNull() & is_missing(value, kind)
            problems.append(F.when(wrong, f"{field.name}: not a {kind.simpleString()}"))
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


# Spark's parser stops at the end of the first value, and does not look at what follows: so each line is put
# into an array, before one of these. A line that closes the array itself must hold the first, as it is or
# with \u0074 and the like for its letters; and it cannot end in both.
_END, _OTHER_END = "the end of the line", "the other end"

_OTHERWISE = "JSON cannot hold {type}; read it as a string or as VARIANT"

# VARIANT keeps a number as decimal digits, or, if it has an exponent, as a double.
_TEXT_OF_JSON = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_DECIMAL_DIGITS, _DOUBLE_DIGITS, _SMALLEST_DOUBLE = 38, 17, 2.2250738585072014e-308


def parse_json(
    lines: DataFrame,
    schema: T.StructType | str,
    *,
    date_format: str | None = None,
    timestamp_format: str | None = None,
    refuse_unknown: bool = False,
) -> DataFrame:
    """Parse lines that hold one JSON object each; each line gives one row, good or bad.

    A line is bad when it is not valid UTF-8 or not valid JSON (as with NaN, or with a field that comes
    twice), when it holds anything but one object, when a value in any column is not of the column's type,
    when it does not fit (an integer that is too big, a decimal or a timestamp with more digits than the
    column holds, a number that would become infinite), or when a column that the schema says is NOT NULL is
    null or missing. So mark with NOT NULL what must not be renamed; `refuse_unknown` finds every new name.

    A number in quotes is no number, but for a decimal: quotes are how many writers keep its digits. A number
    without quotes is no string. An integer is a TIMESTAMP, too, as in Spark's own reader: the seconds since
    1970, unless `timestamp_format` is given. Milliseconds are bad, as they would be after the year 9999. In
    structs, arrays and maps the same holds for each value in them, but fields that a nested struct of the
    schema does not have are passed over. Half of a surrogate pair is read as `?` before Spark 4.2, which
    finds that such a line is not valid.

    VARIANT holds numbers of up to 38 digits, and those with an exponent as a double, of up to 17 digits. With
    a VARIANT in the schema, a line that has any other number, in whichever field, is bad.

    Args:
        lines: a DataFrame, streaming or static, whose first column is the line (string), such as that of
            `sources.text`. Its other columns are kept.
        schema: the columns, as a StructType or as DDL, each a field of the object by its exact name: those
            that CSV can hold, structs, arrays, maps with string keys, and `VARIANT` for any JSON value.
        date_format: the pattern of dates, such as "M/d/yy" (Spark's datetime patterns; default ISO).
        timestamp_format: the same for timestamps. Under a pattern with more than six S the digits of a second
            after the sixth must be zeros; without a pattern a seventh digit makes a line bad.
        refuse_unknown: a line is bad also when it has a field that the schema does not have.

    Returns:
        As `parse_csv`: the columns of `schema` (all null in a bad row), then `_reason`, such as
        "SaleAmount: not a decimal(12,2)" or "SaleAmount: missing", `_raw`, `_bytes` and `_file`, then the
        other columns of `lines`.

    Raises:
        InvalidInputError: DDL that cannot be read, a column type that JSON cannot hold, or a name as in
            `parse_csv`.

    Examples:
        In a session::

            lines = sources.text(spark, "events")
            events = quarantine.parse_json(lines, "time TIMESTAMP NOT NULL, action STRING")
            counts = quarantine.good_rows(events).groupBy("action").count()
    """
    check(parse_json, locals())
    schema = from_ddl(schema) if isinstance(schema, str) else schema
    for field in schema.fields:
        check_type(field.name, field.dataType, (T.VariantType,), _OTHERWISE)
    patterns = {"date_format": date_format, "timestamp_format": timestamp_format}
    formats: dict[type, str | None] = {T.DateType: date_format, T.TimestampType: timestamp_format}
    read = partial(_read_lines, schema=schema, formats=formats, refuse_unknown=refuse_unknown)
    return parsed(lines, schema, read, "json", **patterns, refuse_unknown=refuse_unknown)


def _read_lines(
    frame: DataFrame, schema: T.StructType, formats: Mapping[type, str | None], *, refuse_unknown: bool
) -> tuple[DataFrame, Column, Column | None]:
    # Steps of their own: Spark would work each out for every use.
    frame = frame.select("*", _wrapped(F.col(RAW), _END).alias("_read"))
    frame = frame.select("*", F.try_variant_get("_read", "$[0]", _json_fields(schema)).alias("_whole"))

    values, problems = [], []
    for index, field in enumerate(schema.fields):
        piece, kind = F.col("_whole").getField(field.name), field.dataType
        value, exact = _read_json(piece, kind, formats)
        nested = isinstance(kind, (T.ArrayType, T.MapType, T.StructType))
        values.append((F.when(exact, value) if nested else value).alias(f"_v{index}"))
        if not field.nullable:
            problems.append(F.when(_absent(piece), f"{field.name}: missing"))
        wrong = is_missing(F.col(f"_v{index}"), kind) & ~_absent(piece)
        problems.append(F.when(wrong, f"{field.name}: not a {kind.simpleString()}"))
    if refuse_unknown:
        names = F.map_keys(F.try_variant_get("_read", "$[0]", "MAP<STRING, VARIANT>"))
        unknown = F.exists(names, lambda name: ~name.isin(schema.names))
        problems.insert(0, F.when(unknown, "a field that the schema does not have"))
    if holds(schema, T.VariantType):
        problems.insert(0, F.when(_has_other_number(F.col(RAW)), "a number that VARIANT cannot hold"))
    suspect = F.col(RAW).contains(_END) | F.col(RAW).contains("\\u00")
    ends = _ends(F.col("_read"), _END) & (~suspect | _ends(_wrapped(F.col(RAW), _OTHER_END), _OTHER_END))
    reason = F.coalesce(
        F.when(~F.is_valid_utf8(RAW), "not valid UTF-8"),
        F.when(F.col("_read").isNull(), "not valid JSON, or a field twice"),
        F.when(F.col("_whole").isNull() | ~ends, "not one JSON object"),
        *problems,
    )
    return frame.select("*", *values), reason, None


def _wrapped(line: Column, end: str) -> Column:
    return F.try_parse_json(F.concat(F.lit("["), line, F.lit(f',"{end}"]')))


def _ends(read: Column, end: str) -> Column:
    """Say whether a line is one value: whether its end comes next."""
    return F.equal_null(F.try_variant_get(read, "$[1]", "STRING"), F.lit(end))


def _has_other_number(line: Column) -> Column:
    """Say whether a line of JSON has a number that VARIANT would round, or make zero or infinite."""
    bare = F.regexp_replace(line, _TEXT_OF_JSON, "")

    def other(number: Column) -> Column:
        digits = F.regexp_replace(number, r"[eE].*|\.", "")
        size = F.abs(number.cast("double"))
        fits = (size >= _SMALLEST_DOUBLE) & (size < float("inf")) | ~digits.rlike("[1-9]")
        is_double = number.rlike("[eE]")
        most = F.when(is_double, F.lit(_DOUBLE_DIGITS)).otherwise(F.lit(_DECIMAL_DIGITS))
        return (F.length(digits) > most) | is_double & ~fits

    return F.exists(F.regexp_extract_all(bare, F.lit(r"\d[\d.]*(?:[eE][+-]?\d+)?"), F.lit(0)), other)


def _json_fields(kind: T.StructType) -> str:
    """Return the type that takes an object apart and leaves its values as they are."""
    return f"STRUCT<{', '.join(quoted(name) + ': VARIANT' for name in kind.names)}>"


def _absent(piece: Column) -> Column:
    return piece.isNull() | F.is_variant_null(piece)


def _read_json(
    piece: Column, kind: T.DataType, formats: Mapping[type, str | None], *, nullable: bool = True
) -> tuple[Column, Column]:
    """Return a JSON value as a type, and whether that is the very same value (or null, where it may be)."""
    if isinstance(kind, T.StructType):
        whole = F.try_variant_get(piece, "$", _json_fields(kind))
        parts = [
            _read_json(whole.getField(each.name), each.dataType, formats, nullable=each.nullable)
            for each in kind.fields
        ]
        named = [value.alias(name) for (value, _), name in zip(parts, kind.names, strict=True)]
        value = F.when(whole.isNotNull(), F.struct(*named))
        exact = reduce(Column.__and__, [same for _, same in parts], whole.isNotNull())
    elif isinstance(kind, (T.ArrayType, T.MapType)):
        value, exact = _read_all(piece, kind, formats)
    else:
        value = _scalar(piece, kind, formats.get(type(kind)))
        exact = ~is_missing(value, kind)
    return value, (_absent(piece) | exact if nullable else exact)


def _read_all(
    piece: Column, kind: T.ArrayType | T.MapType, formats: Mapping[type, str | None]
) -> tuple[Column, Column]:
    """Return the same of all elements of an array, or of all values of a map."""
    if isinstance(kind, T.ArrayType):
        inner, nullable = kind.elementType, kind.containsNull
    else:
        inner, nullable = kind.valueType, kind.valueContainsNull

    def value(one: Column) -> Column:
        return _read_json(one, inner, formats)[0]

    def exact(one: Column) -> Column:
        return _read_json(one, inner, formats, nullable=nullable)[1]

    if isinstance(kind, T.ArrayType):
        pieces = F.try_variant_get(piece, "$", "ARRAY<VARIANT>")
        return F.transform(pieces, value), F.forall(pieces, exact)
    pieces = F.try_variant_get(piece, "$", "MAP<STRING, VARIANT>")
    return F.transform_values(pieces, lambda _, one: value(one)), F.forall(F.map_values(pieces), exact)


def _scalar(piece: Column, kind: T.DataType, pattern: str | None) -> Column:
    """Return a JSON value as a type, or null where it is absent or not exactly one of that type."""
    shape = F.schema_of_variant(piece)
    text = F.when(shape == "STRING", F.try_variant_get(piece, "$", "STRING"))
    value = F.try_variant_get(piece, "$", kind.simpleString())
    if isinstance(kind, T.VariantType):
        return piece
    if isinstance(kind, T.TimestampType) and not pattern:
        seconds = F.when(shape == "BIGINT", F.try_variant_get(piece, "$", "BIGINT"))
        return F.coalesce(typed(text, kind, None), seconds.cast(kind))
    if isinstance(kind, (T.DateType, T.StringType, T.TimestampType)):
        return typed(text, kind, pattern)
    if isinstance(kind, T.DecimalType):
        scales = "|".join(map(str, range(kind.scale + 1)))
        fits = shape.rlike(rf"^(BIGINT|DECIMAL\(\d+,({scales})\))$")
        return F.when(fits, value).otherwise(typed(text, kind, None))
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        return F.when(shape.rlike("^(BIGINT|DECIMAL.*|DOUBLE)$") & finite(value), value)
    return F.when(shape == ("BOOLEAN" if isinstance(kind, T.BooleanType) else "BIGINT"), value)


_SCHEMA = schema_of(
    host=T.StringType(),
    user=T.StringType(),
    time=T.TimestampType(),
    request=T.StringType(),
    status=T.IntegerType(),
    bytes=T.LongType(),
    referer=T.StringType(),
    agent=T.StringType(),
)
_FIELDS = 7
# A request may hold quotes: it ends at the first one that two words and the line's end, or a quote, follow.
_LINE = r'(?s)^(\S+) \S+ ([^\[]*)\[([^\]]*)\] "(.*?)" (\S++) (\S++)(?: (".*))?\s*$'
_LAST_TWO = r'(?s)^"(.*?)" "(.*)"$'
_TIME = "dd/MMM/yyyy:HH:mm:ss Z"


def parse_log(lines: DataFrame) -> DataFrame:
    """Parse lines of a web server's log, in the common or the combined format; each line gives one row.

    A line is bad when it is not valid UTF-8, when it is not of the format, when its time cannot be read, when
    its status is not a number of three digits, or when its bytes are neither "-" nor a number
    that a bigint holds. A request may hold quotes. The formats are those of Apache HTTP Server, "Log Files",
    section "Access Log".

    Args:
        lines: a DataFrame, streaming or static, whose first column is the line (string), such as that of
            `sources.text`. Its other columns are kept.

    Returns:
        host (string: a name or an address), user (string), time (timestamp), request (string), status (int),
        bytes (bigint), and of a combined line referer and agent (string); what is "-" is null. Then, as in
        `parse_csv`, `_reason`, such as "status: not a number", `_raw`, `_bytes` and `_file`, and the other
        columns of `lines`. Spark's progress counts the rows, as `run`'s summary does.

    Raises:
        InvalidInputError: `lines` has another column of one of these names.

    Examples:
        In a session::

            requests = quarantine.parse_log(sources.text(spark, "logs/"))
            errors = requests.where("status >= 400")
    """
    check(parse_log, locals())
    return parsed(lines, _SCHEMA, _read_log, "log")


def _read_log(frame: DataFrame) -> tuple[DataFrame, Column, Column | None]:
    # Steps of their own: Spark would work each out for every use. One search finds all fields; a line holds
    # no line feed, and only one that is of the format becomes so many parts.
    found = F.regexp_replace(RAW, _LINE, "\n".join(f"${number + 1}" for number in range(_FIELDS)))
    frame = frame.select("*", F.when(F.is_valid_utf8(RAW), F.split(found, "\n")).alias("_parts"))
    host, user, time, request, status, size, rest = (F.get("_parts", F.lit(n)) for n in range(_FIELDS))
    last = F.rtrim(rest)
    last_two = F.when(
        F.endswith(last, F.lit('"')), F.split(F.regexp_replace(last, _LAST_TWO, "$1\n$2"), "\n")
    )
    frame = frame.select(
        "*",
        F.try_to_timestamp(time, F.lit(_TIME)).alias("_v2"),
        F.when(status.rlike("^[1-9][0-9]{2}$"), status).cast("int").alias("_v4"),
        F.when(size.rlike("^[0-9]+$"), size).try_cast("bigint").alias("_v5"),
        F.when(F.size(last_two) == 2, last_two).alias("_last_two"),  # noqa: PLR2004 - referer and agent
    )
    reason = (
        F.when(F.col("_parts").isNull(), "not valid UTF-8")
        .when(F.size("_parts") != _FIELDS, "not a log line")
        # Something stands behind the bytes, and it is no referer and agent.
        .when((last != "") & F.col("_last_two").isNull(), "not a log line")
        .when(is_missing(F.col("_v2"), T.TimestampType()), "time: not a timestamp")
        .when(F.col("_v4").isNull(), "status: not a number")
        .when(F.col("_v5").isNull() & (size != "-"), "bytes: neither a number nor -")
    )
    texts = {0: host, 1: F.trim(user), 3: request}
    texts |= {6: F.get("_last_two", F.lit(0)), 7: F.get("_last_two", F.lit(1))}
    return (
        frame.select("*", *(F.nullif(text, F.lit("-")).alias(f"_v{n}") for n, text in texts.items())),
        reason,
        None,
    )
