"""Lines of JSON."""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import holds, quoted
from sparkstream_kit.quarantine.rows import RAW, check_type, finite, is_missing, not_a, parsed, typed
from sparkstream_kit.schemas import from_ddl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame

__all__ = ["parse_json"]

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
        text, found = F.try_variant_get(piece, "$", "STRING"), F.col(f"_v{index}")
        reason = not_a(field.name, found, kind, text, formats.get(type(kind)))
        problems.append(F.when(is_missing(found, kind) & ~_absent(piece), reason))
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
