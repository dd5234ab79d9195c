"""Thin: each value as it stands in a file, or an error with its column and file.

Spark's readers change some values without a word: as a decimal 2,50 becomes 250 and
2.505 is rounded, 1e400 becomes infinity and 1d is 1; bytes that are not UTF-8 become
the character U+FFFD; 200 in JSON becomes -56 as a TINYINT, and `10:30` becomes a time
of today; a whole number of Parquet loses its upper bits. So the kit lets Spark read
such columns as another type, which holds what is written, and converts them with the
functions of `quarantine`. `Values` has the rules of one source; docs/files.md lists
them, and the options that leave the conversion to Spark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import (
    changed_inside,
    column,
    finite,
    holds,
    number,
    type_with,
    types_in,
)
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.quarantine.lines import NESTED, scalar
from sparkstream_kit.quarantine.rows import is_missing, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column, SparkSession


_DATED = (T.DateType, T.TimestampType, T.TimestampNTZType)
_TEXTS = (T.StringType, T.BinaryType)  # in CSV bytes are those of a text
_FRACTIONS = (T.DecimalType, T.DoubleType, T.FloatType)

# The types whose values Spark's readers change, and the type as which Spark reads them
# instead.
_READ_AS: dict[str, dict[Any, T.DataType]] = {
    "csv": dict.fromkeys(
        (*_FRACTIONS, T.StringType, T.BinaryType, *_DATED), T.StringType()
    ),
    "json": {
        # A variant knows whether 2026 is in quotes. As a STRING a decimal keeps its
        # digits.
        **dict.fromkeys(_DATED, T.VariantType()),
        T.ByteType: T.ShortType(),
        T.DecimalType: T.StringType(),
        T.FloatType: T.DoubleType(),
        T.StringType: T.StringType(),
    },
    "parquet": dict.fromkeys((T.ByteType, T.ShortType), T.IntegerType()),
}

# The option with the pattern of each type
_PATTERNS: dict[type[T.DataType], str] = {
    T.DateType: "dateFormat",
    T.TimestampType: "timestampFormat",
    T.TimestampNTZType: "timestampNTZFormat",
}
# By option of CSV: what the text stands for that the option names
_NO_NUMBERS = {"nanvalue": "NaN", "positiveinf": "Infinity", "negativeinf": "-Infinity"}

# Spark's
CHARSETS = (
    "UTF-8",
    "UTF-16",
    "UTF-16BE",
    "UTF-16LE",
    "UTF-32",
    "ISO-8859-1",
    "US-ASCII",
)
_LATIN = "ISO-8859-1"
# Bytes for which ISO-8859-1 has control characters alone, and windows-1252 the euro
# sign and quotes.
_ONLY_WINDOWS = "[\u0080-\u009f]"
_ICONV = "convert the files: iconv -f {} -t UTF-8 IN > OUT"
_OF_WINDOWS = (
    "if it is windows-1252, as Excel writes on Windows,"
    f" {_ICONV.format('windows-1252')}"
)

_ASIDE = "set such lines aside with PARSER"
_LENIENT = f"{_ASIDE}, or read NULL with mode='PERMISSIVE'"
# What a number can have as decimal mark, or between the digits of a thousand.
_MARKS = (".", ",", "'", "\u2019", "\u066b", "\u066c", "\u00a0", "\u202f", " ")


def refuse_unreadable(
    spark: SparkSession, kind: str, columns: T.StructType, options: Mapping[str, Any]
) -> None:
    """Refuse types and options with which Spark reads no file, or other values than a file has.

    Args:
        spark: the session.
        kind: the format.
        columns: the columns of the files.
        options: those that the user gave, with names in lower case.

    Raises:
        InvalidInputError: a type or an option cannot be used; the message has the fix.
    """
    for field in columns.fields:
        _refuse_type(spark, kind, field)
        is_variant = kind == "csv" and holds(field.dataType, T.VariantType)
        if is_variant and "singlevariantcolumn" not in options:
            why = "Spark would guess the type of each value, so that 007 is 7"
            raise InvalidInputError(
                f"column {field.name}: variant: {why}; declare STRING"
            )
    _refuse_options(spark, kind, options)


def _refuse_options(spark: SparkSession, kind: str, options: Mapping[str, Any]) -> None:
    encoding = encoding_of(options)
    if (
        encoding is not None
        and encoding.upper() not in CHARSETS
        and not _is_set(spark, "javaCharsets")
    ):
        near = hint(encoding, CHARSETS)
        fix = near or f"; {_ICONV.format(encoding)}"
        raise InvalidInputError(
            f"sources.{kind}() cannot read the encoding {encoding}{fix}"
        )
    locale = options.get("locale")
    if locale is not None and not re.fullmatch(
        r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", str(locale)
    ):
        raise InvalidInputError(
            f"locale is {locale!r}; write it as a language and a country, such as"
            " 'de-DE'"
        )
    if kind == "csv" and options.get("escape") == "":
        why = 'with it Spark reads a last field "" as a quote (SPARK-46959)'
        raise InvalidInputError(
            f"escape is ''; {why}: leave it out, and a quote within quotes is doubled"
        )


def _refuse_type(spark: SparkSession, kind: str, field: T.StructField) -> None:
    if kind == "csv" and isinstance(field.dataType, NESTED):
        name = field.dataType.simpleString()
        raise InvalidInputError(
            f"column {field.name}: CSV cannot hold {name}; declare it as STRING"
        )
    if holds(field.dataType, T.CharType, T.VarcharType) and not _is_set(
        spark, "charVarcharAsString"
    ):
        why = "Spark's readers do not check the length of a text"
        raise InvalidInputError(
            f"column {field.name}: {field.dataType.simpleString()}: {why}; declare"
            " STRING, and check it with quarantine.expect"
        )
    if kind == "json" and _has_other_keys(field.dataType):
        name = field.dataType.simpleString()
        fix = "the keys in JSON are texts: declare MAP<STRING, …>"
        raise InvalidInputError(f"column {field.name}: JSON cannot hold {name}; {fix}")


def _has_other_keys(kind: T.DataType) -> bool:
    """Return whether there is a map in a type whose keys are no texts."""
    maps = [each for each in types_in(kind) if isinstance(each, T.MapType)]
    return any(not isinstance(each.keyType, T.StringType) for each in maps)


def _is_set(spark: SparkSession, setting: str) -> bool:
    """Return whether one of Spark's settings for its former ways is on."""
    return str(spark.conf.get(f"spark.sql.legacy.{setting}", "false")).lower() == "true"


def encoding_of(options: Mapping[str, Any]) -> str | None:
    """Return the encoding that the options of a source name; None if they name none."""
    given = options.get("encoding", options.get("charset"))
    return None if given is None else str(given)


def keeps_digits(spark: SparkSession, options: Mapping[str, Any]) -> bool:
    """Return whether Spark reads a number of JSON as text with the digits of the file.

    It takes them from the bytes of a line, but where it decodes these first, it writes
    a double anew.
    """
    setting = spark.conf.get("spark.sql.json.enableExactStringParsing", "true")
    return encoding_of(options) is None and str(setting).lower() == "true"


def is_true(options: Mapping[str, Any], name: str) -> bool:
    """Return whether an option of Spark is on, as Spark reads it."""
    return str(options.get(name, False)).lower() == "true"


@dataclass(frozen=True)
class Values:
    """How the values of a source are read.

    Attributes:
        kind: the format.
        columns: the columns of the files.
        options: those that the user gave, with names in lower case.
        is_strict: whether a value that does not fit fails the query, and is not left to
            Spark.
        marks: in another locale, the decimal mark and the marks between the digits of a
            thousand.
        keeps_digits: whether Spark keeps the digits of a number that it reads from JSON
            as text.
    """

    kind: str
    columns: T.StructType
    options: Mapping[str, Any]
    is_strict: bool
    marks: tuple[str, str] | None = None
    keeps_digits: bool = True

    def schema(self) -> T.StructType:
        """Return the columns with the types as which Spark reads them."""
        read = T.StructType()
        for field in self.columns.fields:
            kind = type_with(field.dataType, self._read_as)
            read.add(field.name, kind, metadata=field.metadata)
        return read

    def select(self, names: list[str]) -> list[Column] | None:
        """Return each column as its own type; None if nothing is converted or checked.

        Args:
            names: the names of all columns of the frame.
        """
        exact = {}
        for field in self.columns.fields:
            if self._changes(field) or self._requires(field):
                exact[field.name] = self._exact(field)
        if not exact:
            return None
        return [exact.get(name, column(name)) for name in names]

    def _read_as(self, kind: T.DataType) -> T.DataType:
        if not self._is_checked(kind):
            return kind
        if isinstance(kind, _DATED) and self._is_dated_by_spark(kind):
            return kind
        if self._is_variant(kind):
            return T.VariantType()
        return _READ_AS[self.kind][type(kind)]

    def _is_variant(self, kind: T.DataType) -> bool:
        """Return whether a decimal of JSON is read as a variant, which knows numbers from texts.

        In a locale a number is written with a point and a text is not, and where the
        bytes are decoded first, Spark gives a number as text with the digits of a
        double.
        """
        is_decimal = self.kind == "json" and isinstance(kind, T.DecimalType)
        return is_decimal and (self.marks is not None or not self.keeps_digits)

    def _is_checked(self, kind: T.DataType) -> bool:
        """Return whether the values of a type, which is not nested, are converted or checked."""
        if not self.is_strict or type(kind) not in _READ_AS.get(self.kind, {}):
            return False
        if isinstance(kind, _TEXTS):
            return bool(self._wrong_texts())
        return True

    def _is_dated_by_spark(self, kind: T.DataType) -> bool:
        """Return whether dates or times have an option only Spark's readers know."""
        if "enabledatetimeparsingfallback" in self.options:
            return True
        if isinstance(kind, T.TimestampType) and "timezone" in self.options:
            return True
        if _PATTERNS[type(kind)].lower() not in self.options:
            return False
        return "locale" in self.options or isinstance(kind, T.TimestampNTZType)

    def _pattern(self, kind: T.DataType) -> Any:
        """Return the user's pattern for the values of a type; None if there is none."""
        return self.options.get(_PATTERNS[type(kind)].lower())

    def _wrong_texts(self) -> list[tuple[str, str]]:
        """Return patterns of what no text has, each with what is said of one that has it."""
        return [*self._wrong_bytes(), *self._wrong_beside_separators()]

    def _wrong_bytes(self) -> list[tuple[str, str]]:
        """Return the same for texts whose bytes are not those of the encoding."""
        encoding = encoding_of(self.options)
        if encoding is None:
            if self.kind == "json":
                return []
            ways = (
                "give encoding='ISO-8859-1', or encoding='UTF-8' if the file itself has"
                " U+FFFD"
            )
            return [("\ufffd", f" is not UTF-8; {_OF_WINDOWS}; else {ways}")]
        if encoding.upper() == _LATIN:
            fix = f"{_OF_WINDOWS}, and leave encoding= out"
            return [(_ONLY_WINDOWS, f" is not ISO-8859-1; {fix}")]
        if self.kind == "json" or encoding.upper() == "UTF-8":
            return []
        return [("\ufffd", f" is not {encoding}; correct encoding=")]

    def _wrong_beside_separators(self) -> list[tuple[str, str]]:
        """Return the same for texts that a long separator may have split wrongly."""
        sep = str(self.options.get("sep", self.options.get("delimiter", ",")))
        if self.kind != "csv" or _is_one_character(sep):
            return []
        fix = f"read the lines with sources.text and quarantine.parse_csv(sep={sep!r})"
        wrong = []
        quote = str(self.options.get("quote", '"'))
        if quote:
            says = (
                " has a quote, which Spark misreads beside a separator of several"
                f" characters; {fix}"
            )
            wrong.append((re.escape(quote), says))
        ends = [re.escape(end) for end in _ends_as_it_begins(sep)]
        if ends:
            says = (
                " begins with a part of the separator, which could begin at two"
                f" places; {fix}"
            )
            wrong.append((f"^({'|'.join(ends)})", says))
        return wrong

    def _changes(self, field: T.StructField) -> bool:
        return any(self._is_checked(each) for each in _leaves(field.dataType))

    def _requires(self, field: T.StructField) -> bool:
        return self.is_strict and (not field.nullable or _has_required(field.dataType))

    def _exact(self, field: T.StructField) -> Column:
        """Return a column with each value as its own type; it fails at one that does not fit."""
        value = column(field.name)
        if self._changes(field):
            value = self._value(field, value, field.dataType)
        if self._requires(field):
            says = (
                f"no value, and the schema says NOT NULL; leave that out, {_LENIENT}; "
            )
            missing = _failing(field, F.lit(self._said(says)), field.dataType)
            lacks = _lacks(value, field.dataType, required=not field.nullable)
            value = F.when(lacks, missing).otherwise(value)
        if field.metadata:
            return value.alias(field.name, metadata=field.metadata)
        return value.alias(field.name)

    def _value(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        if isinstance(kind, NESTED):
            if not any(self._is_checked(each) for each in _leaves(kind)):
                return raw
            return changed_inside(
                raw, kind, lambda one, inner: self._value(field, one, inner)
            )
        if not self._is_checked(kind):
            return raw
        if isinstance(kind, _TEXTS):
            return self._text(field, raw, kind)
        if isinstance(kind, _DATED):
            return self._dated(field, raw, kind)
        return self._number(field, raw, kind)

    def _text(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        checks = [
            (raw.rlike(pattern), F.concat(raw, F.lit(f"{says}; ")))
            for pattern, says in self._wrong_texts()
        ]
        if not checks:
            return raw
        if self.kind == "csv":
            checks += self._torn_at_line_ends(field, raw)
        (is_wrong, message), *others = checks
        value = F.when(is_wrong, _failing(field, message, kind))
        for is_wrong, message in others:
            value = value.when(is_wrong, _failing(field, message, kind))
        return value.otherwise(raw.cast(kind))

    def _torn_at_line_ends(
        self, field: T.StructField, raw: Column
    ) -> list[tuple[Column, Column]]:
        """Return what a CSV text must not be, and the message: Spark changed or left a line end."""
        if "linesep" in self.options:
            return []
        if is_true(self.options, "multiline"):
            if field.name != self.columns.names[-1]:
                return []
            says = (
                r"a value ends with \r; if lines end with \r\n, give lineSep='\r\n'; "
            )
            return [(raw.endswith("\r"), F.lit(says))]
        if len(self.columns) == 1:
            says = (
                "a value has a line feed; give multiLine=True, or read it as Spark"
                " does: mode='PERMISSIVE'; "
            )
            return [(raw.contains("\n"), F.lit(says))]
        return []

    def _dated(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        pattern = self._pattern(kind)
        is_none = raw.isNull()
        if self._is_dated_by_spark(kind):
            value = raw
        elif self.kind == "json":
            value = scalar(raw, kind, pattern, zeros=True)
            is_none = is_none | F.is_variant_null(raw)
        else:
            value = typed(raw, kind, pattern, zeros=True)
        name = "date" if isinstance(kind, T.DateType) else "timestamp"
        fix = f"{self._way_to_date(kind)}, declare STRING, {_LENIENT}"
        wrong = self._wrong(field, raw, kind, name, fix)
        return F.when(~is_missing(value, kind), value).when(~is_none, wrong)

    def _way_to_date(self, kind: T.DataType) -> str:
        """Return what can be done about a date or time that is written otherwise."""
        option = _PATTERNS[type(kind)]
        pattern = self._pattern(kind)
        if option.lower() in self.options:
            return f"correct {option}={pattern!r}"
        if isinstance(kind, T.DateType):
            return f"write it as 2026-01-31, give {option}='dd.MM.yyyy'"
        written = "write it as 2026-01-31 10:30:00"
        if self.kind == "json":
            written += " or in seconds, not milliseconds"
        return f"{written}, give {option}='dd.MM.yyyy HH:mm'"

    def _number(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        if self.kind == "json" and isinstance(kind, T.FloatType):
            return self._float_of_json(field, raw, kind)
        is_none = raw.isNull()
        text = raw
        if self._is_variant(kind):
            is_none = is_none | F.is_variant_null(raw)
            text = self._text_of_variant(raw)
        elif self.marks and isinstance(kind, T.DecimalType):
            text = _with_point(raw, self.marks)
        values = [number(text, kind), _whole_number(text, kind)]
        if self.kind == "csv" and not isinstance(kind, T.DecimalType):
            values = [*self._no_numbers(raw, kind), *values]
        wrong = self._wrong(field, raw, kind, kind.simpleString(), self._ways(kind))
        return F.coalesce(*values, F.when(~is_none, wrong))

    def _float_of_json(
        self, field: T.StructField, raw: Column, kind: T.DataType
    ) -> Column:
        value = raw.try_cast(kind)
        fits = finite(value) | ~finite(raw)
        wrong = self._wrong(field, raw, kind, "float", "declare a wider type, DOUBLE")
        return F.when(fits, value).when(raw.isNotNull(), wrong)

    def _no_numbers(self, raw: Column, kind: T.DataType) -> list[Column]:
        """Return NaN and the infinities, where CSV has the texts that the options name."""
        values = []
        for option, meaning in _NO_NUMBERS.items():
            if option in self.options:
                is_text = raw == self.options[option]
                values.append(F.when(is_text, F.lit(meaning)).cast(kind))
        return values

    def _text_of_variant(self, raw: Column) -> Column:
        """Return a decimal of JSON as text with a point; null if its digits are not known."""
        plain = raw.cast("string")
        shape = F.schema_of_variant(raw)
        written = plain
        if self.marks is not None:
            written = _with_point(plain, self.marks)
        # With an exponent, or more than 38 digits, a number is a double, of which zero
        # alone is exact.
        is_zero = (shape == "DOUBLE") & (plain.try_cast("double") == 0)
        is_known = shape.rlike("^(BIGINT|DECIMAL)") | is_zero
        return F.when(shape == "STRING", written).when(is_known, plain)

    def _ways(self, kind: T.DataType) -> str:
        """Return what can be done about a number that does not fit."""
        if isinstance(kind, T.IntegralType):
            return "declare a wider type"
        wider = "declare a wider type or STRING"
        if self.marks:
            return (
                f"in locale {self.options['locale']} the decimal mark is"
                f" {self.marks[0]}; {wider}"
            )
        if isinstance(kind, T.DecimalType):
            return f"{wider}, say by locale='de-DE' what a comma is, or {_ASIDE}"
        return f"{wider}, or {_ASIDE}"

    def _wrong(
        self, field: T.StructField, raw: Column, kind: T.DataType, name: str, fix: str
    ) -> Column:
        """Return the failure for a value that does not fit, with what can be done."""
        text = raw.cast("string")
        words = F.lit(self._said(f" is no {name}; {fix}; "))
        if self.kind == "csv" and not is_true(self.options, "header"):
            header = (
                f" is no {name}, but the name of the column: give header=True;"
                f" otherwise {fix}; "
            )
            is_name = F.lower(F.trim(text)) == field.name.strip().lower()
            words = F.when(is_name, F.lit(self._said(header))).otherwise(words)
        return _failing(field, F.concat(text, words), kind)

    def _said(self, says: str) -> str:
        parser = "parse_json" if self.kind == "json" else "parse_csv"
        return says.replace("PARSER", f"quarantine.{parser}")


def _is_one_character(sep: str) -> bool:
    r"""Return whether a separator is one character, or one that is escaped, such as `\t`."""
    is_escaped = re.fullmatch(r"\\.", sep) is not None
    return is_escaped or len(sep.encode("utf-16-le")) == 2  # noqa: PLR2004 - one of Java's


def _ends_as_it_begins(sep: str) -> list[str]:
    """Return the ends of a separator with which it also begins.

    Examples:
        >>> _ends_as_it_begins("|||"), _ends_as_it_begins("<>"), _ends_as_it_begins("aba")
        (['||', '|'], [], ['a'])
    """
    ends = [sep[at:] for at in range(1, len(sep))]
    return [end for end in ends if sep.startswith(end)]


def _whole_number(text: Column, kind: T.DataType) -> Column:
    """Return a number that Spark reads exactly as a DECIMAL(38,18); null for others."""
    value = text.try_cast(kind)
    is_same = value == text.try_cast("decimal(38,18)")
    # With more than 18 places both are rounded.
    has_more_places = text.rlike(r"\.\d{18,}[1-9]|[eE]-\d\d")
    return F.when(is_same & ~has_more_places, value)


def _failing(field: T.StructField, message: Column, kind: T.DataType) -> Column:
    """Return a column that fails the query with what is wrong, and with the file."""
    file = F.col("_metadata.file_path")
    whole = F.concat(F.lit(f"column {field.name}: "), message, file)
    return F.raise_error(whole).cast(kind)


def _leaves(kind: T.DataType) -> list[T.DataType]:
    """Return the types in a type that are not nested, also those of a map's keys."""
    if isinstance(kind, T.ArrayType):
        return _leaves(kind.elementType)
    if isinstance(kind, T.MapType):
        return [*_leaves(kind.keyType), *_leaves(kind.valueType)]
    if isinstance(kind, T.StructType):
        leaves: list[T.DataType] = []
        for field in kind.fields:
            leaves += _leaves(field.dataType)
        return leaves
    return [kind]


def _has_required(kind: T.DataType) -> bool:
    """Return whether a value inside a type must not be null."""
    if isinstance(kind, T.ArrayType):
        return not kind.containsNull or _has_required(kind.elementType)
    if isinstance(kind, T.MapType):
        return not kind.valueContainsNull or _has_required(kind.valueType)
    if isinstance(kind, T.StructType):
        return any(
            not field.nullable or _has_required(field.dataType) for field in kind.fields
        )
    return False


def _lacks(value: Column, kind: T.DataType, *, required: bool) -> Column:
    """Return whether a value is null, or has a null inside, where it must not."""
    conditions = []
    if required:
        conditions.append(value.isNull())
    if _has_required(kind):
        conditions += _lacks_inside(value, kind)
    return reduce(or_, conditions, F.lit(False))


def _lacks_inside(value: Column, kind: T.DataType) -> list[Column]:
    """Return for each part of an array, a map or a struct whether it lacks a value."""
    if isinstance(kind, T.ArrayType):
        item = kind.elementType
        item_required = not kind.containsNull
        return [
            F.exists(value, lambda each: _lacks(each, item, required=item_required))
        ]
    if isinstance(kind, T.MapType):
        item = kind.valueType
        item_required = not kind.valueContainsNull
        return [
            F.exists(
                F.map_values(value),
                lambda each: _lacks(each, item, required=item_required),
            )
        ]
    conditions = []
    if isinstance(kind, T.StructType):
        for field in kind.fields:
            part = value.getField(field.name)
            lacks = _lacks(part, field.dataType, required=not field.nullable)
            conditions.append(value.isNotNull() & lacks)
    return conditions


def _with_point(text: Column, marks: tuple[str, str]) -> Column:
    """Return a number that is written as in a locale with a point; null if it is not written so.

    The digits before the decimal mark may be in groups, of which the last has three
    digits (in India those before it have two). Spark takes a mark of groups anywhere,
    so that 2.50 is 250 in German.

    In German, 1.234,5 and 1234,5 and ,5 and 1,5e3 are written so, and 1.23 is not.
    """
    decimal, groups = marks
    group = "(?!)"  # matches nothing
    if groups:
        group = f"[{re.escape(groups)}]"
    point = re.escape(decimal)
    in_groups = rf"\d{{1,3}}({group}\d{{2,3}})*{group}\d{{3}}"
    whole = rf"({in_groups}|\d+)"
    digits = rf"({whole}({point}\d*)?|{point}\d+)"
    fits = text.rlike(rf"^\s*[+-]?{digits}([eE][+-]?\d+)?\s*$")
    plain = F.regexp_replace(text, group, "")
    return F.when(fits, F.replace(plain, F.lit(decimal), F.lit(".")))


def marks_of(
    spark: SparkSession, columns: T.StructType, options: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Return the decimal mark of a source's locale, and its marks between thousands.

    Spark is asked, as it uses Java's table of locales. None if there is no locale, or
    no decimal to read.

    Raises:
        InvalidInputError: none of the known marks is the decimal mark.
    """
    if "locale" not in options or not holds(columns, T.DecimalType):
        return None
    locale = str(options["locale"])
    how = {"locale": locale, "sep": "\u0001"}
    # With a decimal mark in the middle this is one and a part, with a mark between
    # digits over a thousand.
    read = [
        F.from_csv(F.lit(f"1{mark}234"), "n DECIMAL(9,3)", how).getField("n")
        for mark in _MARKS
    ]
    [row] = spark.range(1).select(*read).collect()
    numbers = [
        (mark, value)
        for mark, value in zip(_MARKS, row, strict=True)
        if value is not None
    ]
    decimals = [mark for mark, value in numbers if value < 2]  # noqa: PLR2004 - one and a part
    if not decimals:
        fix = "declare the decimals as STRING"
        raise InvalidInputError(
            f"locale {locale} has a decimal mark or digits that are not read; {fix}"
        )
    groups = [mark for mark, value in numbers if mark not in decimals]
    return decimals[0], "".join(groups)
