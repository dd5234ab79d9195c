"""Thin: lines of JSON as most programs write them, which Spark's own parser reads exactly.

`parse_json` finds out about each value of a line what JSON type it has. That is dear,
and for most lines one question is enough: does the line have the form that programs
write for these columns? `from_json` then gives exactly the values that the way of
`parse_json` gives. Lines of any other form, good or bad, are read in that way.

A regular expression describes the form. It leaves out what `from_json` would change
without a word: numbers with more digits than a column holds, numbers in quotes, texts
without quotes, a field twice, text behind the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import STEADY, holds, types_in
from sparkstream_kit.quarantine.rows import RAW, is_missing, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame

IS_PLAIN = "_is_plain"
_TEXTS = "_texts"

# Java's regular expressions go one call deeper for each repetition of a group, so the
# repetitions, the columns and the bytes of a line have limits.
_MOST_COLUMNS = 60
_MOST_ELEMENTS = 64
_MOST_ESCAPES = 20
_MOST_BYTES = 1_000_000

# Braces by their numbers: Spark counts those of a literal when it prints generated code.
_OPEN = r"\x7b"
_CLOSE = r"\x7d"
_SEPARATOR = rf"(?:, *+(?=\")|(?={_CLOSE}))"  # after a field

# A text has no character that JSON forbids, and no replacement for bytes that are not
# UTF-8. Half of a surrogate pair is no character. The control characters are listed one
# by one, because Java finds such a character in a table, and a range four times slower.
_CONTROLS = "".join(rf"\x{number:02x}" for number in range(32))
_CHARACTERS = rf"[^\"\\\ufffd{_CONTROLS}]*+"
_ESCAPED = r"\\(?:[\"\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})"
_NOT_IN_NAMES = {'"', "\\", "\ufffd", *map(chr, range(32))}

# The digits after the first that a type of whole numbers surely holds.
_MORE_DIGITS: dict[Any, int] = {
    T.ByteType: 1,
    T.ShortType: 3,
    T.IntegerType: 8,
    T.LongType: 17,
}
_NOT_MINUS_ZERO = r"(?:-(?=[0.]*+[1-9]))?+"  # VARIANT has no negative zero
_DOUBLE = r"(?:0|[1-9][0-9]{0,14}+)(?:\.[0-9]{1,17}+)?+(?:[eE][-+]?+[0-9]{1,2}+)?+"
_FLOAT = r"(?:0|[1-9][0-9]{0,3}+)(?:\.[0-9]{1,3}+)?+"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6}+)?+"
_OFFSET = r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
_TIMES = (T.DateType, T.TimestampType)
_KINDS = (
    T.ArrayType,
    T.BooleanType,
    T.DecimalType,
    T.DoubleType,
    T.FloatType,
    T.StringType,
    T.StructType,
    *_MORE_DIGITS,
    *_TIMES,
)


@dataclass(frozen=True)
class PlainLines:
    """Lines of JSON in the plain form of a schema.

    Attributes:
        schema: the columns.
        date_format: Spark's pattern of dates; None for ISO.
        timestamp_format: Spark's pattern of timestamps; None for ISO.
        nulls: texts that stand for a missing value; no plain line has one.
    """

    schema: T.StructType
    date_format: str | None = None
    timestamp_format: str | None = None
    nulls: Sequence[str] = ()

    @property
    def exist(self) -> bool:
        """Return whether the schema has a plain form.

        None is known for maps, which can have a key twice, for VARIANT, and for names
        that JSON writes with a backslash.
        """
        kinds = [kind for field in self.schema for kind in types_in(field.dataType)]
        records = [kind for kind in kinds if isinstance(kind, T.StructType)]
        names = [name for record in (self.schema, *records) for name in record.names]
        return (
            0 < len(names) <= _MOST_COLUMNS
            and all(isinstance(kind, _KINDS) for kind in kinds)
            and all(_NOT_IN_NAMES.isdisjoint(name) for name in names)
        )

    def read(self, frame: DataFrame) -> DataFrame:
        """Add the columns IS_PLAIN, and `_p0`, `_p1`, … with the values of a plain line."""
        # Separate select steps: in a single step Spark would evaluate each expression
        # again for every use.
        has_form = F.col(RAW).rlike(self._form()) & (F.octet_length(RAW) < _MOST_BYTES)
        frame = frame.select("*", F.when(has_form, F.col(RAW)).alias(_TEXTS))
        options = {"columnNameOfCorruptRecord": _no_name(self.schema)}
        values = F.from_json(_TEXTS, _with_texts(self.schema), options)
        frame = frame.select("*", values.alias("_typed"))
        read = []
        is_exact = F.col("_typed").isNotNull()
        for index, field in enumerate(self.schema):
            found = F.col("_typed").getField(field.name)
            read.append(self._value(found, field.dataType).alias(f"_p{index}"))
            if holds(field.dataType, *_TIMES):
                value = F.col(f"_p{index}")
                is_exact &= self._is_exact(found, value, field.dataType)
        return frame.select("*", *read).select("*", is_exact.alias(IS_PLAIN))

    def _form(self) -> str:
        """Return a regular expression of plain lines.

        Fields in the order of the schema are found in half the time of those in any
        order, where the empty group of a field shows whether it was there before.
        """
        fields = []
        required = []
        for index, field in enumerate(self.schema):
            # A reference to a group that has matched nothing yet never matches
            is_first = rf"(?<c{index}>(?!\k<c{index}>))"
            fields.append(self._field(field, is_first) + _SEPARATOR)
            if not field.nullable:
                required.append(rf"\k<c{index}>")
        count = f"{{0,{len(fields)}}}+"
        in_order = self._record(self.schema)
        in_any_order = (
            f"{_OPEN}(?:{'|'.join(fields)}){count}{_CLOSE}{''.join(required)}"
        )
        return rf"\A(?:{in_order}|{in_any_order})\z"

    def _record(self, kind: T.StructType) -> str:
        """Return a regular expression of an object with its fields in the order of a schema."""
        fields = [
            f"(?>{self._field(field)}{_SEPARATOR}){'?+' if field.nullable else ''}"
            for field in kind
        ]
        return f"{_OPEN}{''.join(fields)}{_CLOSE}"

    def _field(self, field: T.StructField, condition: str = "") -> str:
        value = self._literal(field.dataType, nullable=field.nullable)
        return f'"{_literally(field.name)}": *+{condition}{value}'

    def _literal(self, kind: T.DataType, *, nullable: bool) -> str:
        """Return a regular expression of the values of a type."""
        form = self._literal_of(kind)
        return f"(?>{form}|null)" if nullable else f"(?>{form})"

    def _literal_of(self, kind: T.DataType) -> str:
        if isinstance(kind, T.StructType):
            return self._record(kind)
        if isinstance(kind, T.ArrayType):
            element = self._literal(kind.elementType, nullable=kind.containsNull)
            return rf"\[(?:{element}(?:, *+{element}){{0,{_MOST_ELEMENTS}}}+)?+\]"
        if isinstance(kind, (T.StringType, *_TIMES)):
            return self._text(kind)
        return _bare(kind)

    def _text(self, kind: T.DataType) -> str:
        """Return a regular expression of a text, or of a date or a timestamp in ISO 8601."""
        if isinstance(kind, T.DateType) and not self.date_format:
            form = _DATE
        elif isinstance(kind, T.TimestampType) and not self.timestamp_format:
            form = f"{_DATE}[ T]{_TIME}{_OFFSET}?+"
        elif self.nulls:
            form = _CHARACTERS
        else:
            count = f"{{0,{_MOST_ESCAPES}}}+"
            form = f"{_CHARACTERS}(?:{_ESCAPED}{_CHARACTERS}){count}"
        if not self.nulls:
            return f'"{form}"'
        missing = "|".join(map(_literally, self.nulls))
        return f'"(?!(?:{missing})"){form}"'

    def _value(self, text: Column, kind: T.DataType) -> Column:
        """Return a value with its dates and timestamps, which `from_json` has read as texts."""
        if not holds(kind, *_TIMES):
            return text
        if isinstance(kind, T.StructType):
            fields = [
                self._value(text.getField(field.name), field.dataType).alias(field.name)
                for field in kind
            ]
            return F.when(text.isNotNull(), F.struct(*fields))
        if isinstance(kind, T.ArrayType):
            element = kind.elementType
            return F.transform(text, lambda each: self._value(each, element))
        pattern = self._pattern_of(kind)
        return typed(text, kind, pattern) if pattern else text.try_cast(kind)

    def _is_exact(self, text: Column, value: Column, kind: T.DataType) -> Column:
        """Return whether the dates and timestamps in a value are those of the texts."""
        if isinstance(kind, T.StructType):
            parts = [
                self._is_exact(
                    text.getField(field.name),
                    value.getField(field.name),
                    field.dataType,
                )
                for field in kind
                if holds(field.dataType, *_TIMES)
            ]
            return text.isNull() | reduce(and_, parts)
        if isinstance(kind, T.ArrayType):
            element = kind.elementType
            are_exact = F.forall(
                text,
                lambda each: self._is_exact(each, self._value(each, element), element),
            )
            return text.isNull() | are_exact
        is_exact = ~is_missing(value, kind)
        if isinstance(kind, T.TimestampType) and not self.timestamp_format:
            is_exact &= _exists(text, value)
        return text.isNull() | is_exact

    def _pattern_of(self, kind: T.DataType) -> str | None:
        if isinstance(kind, T.DateType):
            return self.date_format
        return self.timestamp_format


def _exists(text: Column, value: Column) -> Column:
    """Return whether the time of a text with an offset, or a local time, exists.

    Spark moves a local time in the hour that the clock skips in spring.
    """
    is_steady = F.current_timezone().isin(*STEADY)
    has_offset = text.endswith("Z") | text.rlike(r"[+-][0-9]{2}:[0-9]{2}\z")
    as_written = text.try_cast("timestamp_ntz")
    is_same = F.equal_null(value.cast("timestamp_ntz"), as_written)
    return is_steady | has_offset | is_same


def _bare(kind: T.DataType) -> str:
    """Return a regular expression of the values of a type that JSON writes without quotes."""
    if isinstance(kind, T.BooleanType):
        return "true|false"
    if isinstance(kind, T.DoubleType):
        return _NOT_MINUS_ZERO + _DOUBLE
    if isinstance(kind, T.FloatType):
        return _NOT_MINUS_ZERO + _FLOAT
    if isinstance(kind, T.DecimalType):
        number = _decimal(kind)
        return f'{number}|"{number}"'  # many writers quote decimals
    return rf"-?+(?:0|[1-9][0-9]{{0,{_MORE_DIGITS[type(kind)]}}}+)"


def _decimal(kind: T.DecimalType) -> str:
    """Return a regular expression of the numbers that a decimal holds without rounding.

    Examples:
        >>> import re
        >>> form = _decimal(T.DecimalType(4, 2)).replace("+)", ")").replace("}+", "}")
        >>> [bool(re.fullmatch(form, text)) for text in ("12.3", "-0.25", "123", "1.234")]
        [True, True, False, False]
    """
    whole = kind.precision - kind.scale
    before = rf"(?:0|[1-9][0-9]{{0,{whole - 1}}}+)" if whole else "0"
    after = rf"(?:\.[0-9]{{1,{kind.scale}}}+)?+" if kind.scale else ""
    return f"-?+{before}{after}"


def _literally(text: str) -> str:
    r"""Return a regular expression that matches just this text.

    Examples:
        >>> print(_literally("a_1"), _literally("a.b"))
        a_1 a\x{2e}b
    """
    return "".join(
        sign
        if sign.isascii() and (sign.isalnum() or sign == "_")
        else rf"\x{{{ord(sign):x}}}"
        for sign in text
    )


def _with_texts(kind: T.DataType) -> Any:
    """Return a type with STRING in place of its dates and timestamps, and no NOT NULL."""
    if isinstance(kind, T.StructType):
        return T.StructType(
            [T.StructField(field.name, _with_texts(field.dataType)) for field in kind]
        )
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_with_texts(kind.elementType))
    return T.StringType() if isinstance(kind, _TIMES) else kind


def _no_name(schema: T.StructType) -> str:
    """Return a name that no column has: Spark fills the column of that name with the line."""
    name = "_no_column"
    while name in schema.names:
        name += "_"
    return name
