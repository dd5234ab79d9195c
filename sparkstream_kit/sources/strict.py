"""Thin: each value as it stands in a file, or an error with its column and file.

Spark's readers change some values without a word: as a decimal 2,50 becomes 250 and
2.505 is rounded, 1e400 becomes infinity and 1d is 1; bytes that are not UTF-8 become
the character U+FFFD; 200 in JSON becomes -56 as a TINYINT, and `10:30` becomes a time
of today; a whole number of Parquet loses its upper bits. So the kit lets Spark read
such columns as another type, which holds what is written, and converts them with the
functions of `quarantine`. `Values` has the rules of one source; docs/files.md lists
them, and the options that leave the conversion to Spark.

Each format is a class: `CsvValues`, `JsonValues` and `ParquetValues` say what Spark's
reader of that format changes, and how to read it instead. Of any other format it
changes nothing (`Values`).
"""

from __future__ import annotations

import re
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import (
    changed_inside,
    column,
    finite,
    holds,
    number,
    type_with,
)
from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown
from sparkstream_kit.quarantine.lines import NESTED, scalar
from sparkstream_kit.quarantine.rows import is_missing, typed
from sparkstream_kit.sources.values import (
    CHARSETS,
    NO_NUMBERS,
    PATTERNS,
    encoding_of,
    failing,
    has_other_keys,
    has_required,
    is_one_character,
    is_set,
    is_true,
    keeps_digits,
    lacks,
    leaves,
    marks_of,
    no_file_left_out,
    refuse_headers_left_out,
    refuse_patterns,
    self_overlaps,
    whole_number,
    with_point,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column, SparkSession


_DATED = (T.DateType, T.TimestampType, T.TimestampNTZType)
_TEXTS = (T.StringType, T.BinaryType)  # in CSV bytes are those of a text
_FRACTIONS = (T.DecimalType, T.DoubleType, T.FloatType)

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


# Options with which Spark reads what a CSV file has, or fails. Without them it reads CSV
# by other rules than RFC 4180 and turns what does not fit into NULL. `columnPruning`:
# with it, Spark does not count the fields of a line if the query needs only some of them.
_RFC_4180 = {"escape": '"', "enforceschema": False, "columnpruning": False}
# Spark's default for the option columnNameOfCorruptRecord, and for the setting:
_CORRUPT = "_corrupt_record"
_CORRUPT_SETTING = "spark.sql.columnNameOfCorruptRecord"
_MODES = ("FAILFAST", "PERMISSIVE", "DROPMALFORMED")


class _WrongText(NamedTuple):
    """What Spark's reader leaves in a text that it has read wrongly.

    Attributes:
        pattern: a regular expression that finds it in the text.
        message: what is said of such a text, after the text itself.
    """

    pattern: str
    message: str


class Values:
    """How the values of a source are read: as Spark reads them, in ORC and text.

    Args:
        spark: the session.
        kind: the format.
        columns: the columns of the files.
        options: those that the user gave, with names in lower case.

    Attributes:
        options: the user's, with those of the session that concern them.
        is_strict: whether a value that does not fit fails the query, and is not left to
            Spark.
        marks: in another locale, the decimal mark and the marks between the digits of a
            thousand.

    Raises:
        InvalidInputError: with a type or an option Spark reads no file, or other values
            than a file has; the message has the fix.
    """

    # The types whose values Spark's reader changes, and the type as which Spark reads
    # them instead
    read_as: ClassVar[Mapping[Any, T.DataType]] = {}
    # What reads lines one by one, for messages
    parser: ClassVar[str] = "quarantine.parse_csv"
    written_time: ClassVar[str] = "write it as 2026-01-31 10:30:00"

    def __init__(
        self,
        spark: SparkSession,
        kind: str,
        columns: T.StructType,
        options: Mapping[str, Any],
    ) -> None:
        self.kind = kind
        self.columns = columns
        self._spark = spark
        self.options = {**self._options_of_session(), **options}
        for field in columns.fields:
            self._refuse_type(field)
        self._refuse_options()
        self.is_strict = self._fails_query()
        if self.is_strict:
            refuse_patterns(spark, columns, self.options)
        self.marks: tuple[str, str] | None = None
        if self.is_strict:
            self.marks = marks_of(spark, columns, options)

    def _options_of_session(self) -> dict[str, Any]:
        """Return the options that settings of the session stand for."""
        return {}

    def _refuse_type(self, field: T.StructField) -> None:
        if holds(field.dataType, T.CharType, T.VarcharType) and not is_set(
            self._spark, "charVarcharAsString"
        ):
            reason = "Spark's readers do not check the length of a text"
            raise InvalidInputError(
                f"column {field.name}: {field.dataType.simpleString()}: {reason}; declare"
                " STRING, and check it with quarantine.expect"
            )

    def _refuse_options(self) -> None:
        encoding = encoding_of(self.options)
        if (
            encoding is not None
            and encoding.upper() not in CHARSETS
            and not is_set(self._spark, "javaCharsets")
        ):
            suggestion = hint(encoding, CHARSETS)
            fix = suggestion or f"; {_ICONV.format(encoding)}"
            raise InvalidInputError(
                f"sources.{self.kind}() cannot read the encoding {encoding}{fix}"
            )
        locale = self.options.get("locale")
        if locale is not None and not re.fullmatch(
            r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", str(locale)
        ):
            raise InvalidInputError(
                f"locale is {locale!r}; write it as a language and a country, such as"
                " 'de-DE'"
            )

    def _fails_query(self) -> bool:
        """Return whether a value that does not fit fails the query."""
        return True

    def strict_options(self) -> dict[str, Any]:
        """Return options for strict reading, unless the user's ask for a lenient way."""
        return no_file_left_out(self._spark)

    def schema(self) -> T.StructType:
        """Return the columns with the types as which Spark reads them."""
        schema = T.StructType()
        for field in self.columns.fields:
            kind = type_with(field.dataType, partial(self._type_to_read, field))
            schema.add(field.name, kind, metadata=field.metadata)
        return schema

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

    def _type_to_read(self, field: T.StructField, kind: T.DataType) -> T.DataType:
        if not self._is_checked(field, kind):
            return kind
        if isinstance(kind, _DATED) and self._is_dated_by_spark(kind):
            return kind
        return self.read_as[type(kind)]

    def _is_checked(self, field: T.StructField, kind: T.DataType) -> bool:
        """Return whether a column's values of a type are converted or checked.

        Args:
            field: the column.
            kind: its type, or one within it, which is not nested.
        """
        if not self.is_strict or type(kind) not in self.read_as:
            return False
        if isinstance(kind, _TEXTS):
            return bool(self._text_checks(field, column(field.name)))
        return True

    def _is_dated_by_spark(self, kind: T.DataType) -> bool:
        """Return whether dates or times have an option only Spark's readers know."""
        if "enabledatetimeparsingfallback" in self.options:
            return True
        if isinstance(kind, T.TimestampType) and "timezone" in self.options:
            return True
        if PATTERNS[type(kind)].lower() not in self.options:
            return False
        return "locale" in self.options or isinstance(kind, T.TimestampNTZType)

    def _pattern(self, kind: T.DataType) -> Any:
        """Return the user's pattern for the values of a type; None if there is none."""
        return self.options.get(PATTERNS[type(kind)].lower())

    def _changes(self, field: T.StructField) -> bool:
        return any(self._is_checked(field, each) for each in leaves(field.dataType))

    def _requires(self, field: T.StructField) -> bool:
        return self.is_strict and (not field.nullable or has_required(field.dataType))

    def _exact(self, field: T.StructField) -> Column:
        """Return a column with each value as its own type; it fails at one that does not fit."""
        value = self._value(field, column(field.name), field.dataType)
        if self._requires(field):
            message = (
                f"no value, and the schema says NOT NULL; leave that out, {_LENIENT}; "
            )
            missing = failing(field, F.lit(self._with_parser(message)), field.dataType)
            is_lacking = lacks(value, field.dataType, required=not field.nullable)
            value = F.when(is_lacking, missing).otherwise(value)
        return value.alias(field.name, metadata=field.metadata)

    def _value(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        if isinstance(kind, NESTED):
            if not any(self._is_checked(field, each) for each in leaves(kind)):
                return raw
            return changed_inside(
                raw, kind, lambda one, inner: self._value(field, one, inner)
            )
        if not self._is_checked(field, kind):
            return raw
        if isinstance(kind, _TEXTS):
            return self._text(field, raw, kind)
        if isinstance(kind, _DATED):
            return self._dated(field, raw, kind)
        return self._number(field, raw, kind)

    def _with_parser(self, message: str) -> str:
        return message.replace("PARSER", self.parser)

    # --- texts

    def _text(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        # Of several checks, that of the encoding decides first.
        value = raw.cast(kind)
        for is_wrong, message in reversed(self._text_checks(field, raw)):
            value = F.when(is_wrong, failing(field, message, kind)).otherwise(value)
        return value

    def _text_checks(
        self,
        field: T.StructField,  # noqa: ARG002 - of CSV
        raw: Column,
    ) -> list[tuple[Column, Column]]:
        """Return what a text must not be, each with the message for one that is."""
        return [
            (raw.rlike(wrong.pattern), F.concat(raw, F.lit(f"{wrong.message}; ")))
            for wrong in self._wrong_texts()
        ]

    def _wrong_texts(self) -> list[_WrongText]:
        """Return what a text must not have, because Spark has then read it wrongly."""
        encoding = encoding_of(self.options)
        if encoding is None:
            encodings = (
                "give encoding='ISO-8859-1', or encoding='UTF-8' if the file itself has"
                " U+FFFD"
            )
            return [
                _WrongText("\ufffd", f" is not UTF-8; {_OF_WINDOWS}; else {encodings}")
            ]
        if encoding.upper() == _LATIN:
            fix = f"{_OF_WINDOWS}, and leave encoding= out"
            return [_WrongText(_ONLY_WINDOWS, f" is not ISO-8859-1; {fix}")]
        if encoding.upper() == "UTF-8":
            return []
        return [_WrongText("\ufffd", f" is not {encoding}; correct encoding=")]

    # --- dates and times

    def _dated(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        value = raw
        is_none = raw.isNull()
        if not self._is_dated_by_spark(kind):
            value, is_none = self._parsed(raw, kind)
        name = "date" if isinstance(kind, T.DateType) else "timestamp"
        fix = f"{self._way_to_date(kind)}, declare STRING, {_LENIENT}"
        failure = self._failure(field, raw, kind, name, fix)
        return F.when(~is_missing(value, kind), value).when(~is_none, failure)

    def _parsed(self, raw: Column, kind: T.DataType) -> tuple[Column, Column]:
        """Return a date or time, and whether the file has none there."""
        return typed(raw, kind, self._pattern(kind), zeros=True), raw.isNull()

    def _way_to_date(self, kind: T.DataType) -> str:
        """Return what can be done about a date or time that is written otherwise."""
        option = PATTERNS[type(kind)]
        if option.lower() in self.options:
            return f"correct {option}={self._pattern(kind)!r}"
        if isinstance(kind, T.DateType):
            return f"write it as 2026-01-31, give {option}='dd.MM.yyyy'"
        return f"{self.written_time}, give {option}='dd.MM.yyyy HH:mm'"

    # --- numbers

    def _number(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        text, is_none = self._digits(raw, kind)
        values = [
            *self._special_numbers(raw, kind),
            number(text, kind),
            whole_number(text, kind),
        ]
        failure = self._failure(
            field, raw, kind, kind.simpleString(), self._number_fix(kind)
        )
        return F.coalesce(*values, F.when(~is_none, failure))

    def _digits(self, raw: Column, kind: T.DataType) -> tuple[Column, Column]:
        """Return a number as text with a point, and whether the file has none there."""
        is_none = raw.isNull()
        if self.marks and isinstance(kind, T.DecimalType):
            return with_point(raw, self.marks), is_none
        return raw, is_none

    def _special_numbers(
        self,
        raw: Column,  # noqa: ARG002 - of CSV
        kind: T.DataType,  # noqa: ARG002 - of CSV
    ) -> list[Column]:
        """Return NaN and the infinities, where texts stand for them."""
        return []

    def _number_fix(self, kind: T.DataType) -> str:
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

    def _failure(
        self, field: T.StructField, raw: Column, kind: T.DataType, name: str, fix: str
    ) -> Column:
        """Return the failure for a value that does not fit, with what can be done."""
        text = raw.cast("string")
        message = self._failure_message(field, text, name, fix)
        return failing(field, F.concat(text, message), kind)

    def _failure_message(
        self,
        field: T.StructField,  # noqa: ARG002 - of CSV
        text: Column,  # noqa: ARG002 - of CSV
        name: str,
        fix: str,
    ) -> Column:
        return F.lit(self._with_parser(f" is no {name}; {fix}; "))


class _LineValues(Values):
    """A format of text, in which a line may not fit: it has a mode, and a column for such lines."""

    def _options_of_session(self) -> dict[str, Any]:
        corrupt = self._spark.conf.get(_CORRUPT_SETTING, _CORRUPT)
        if corrupt == _CORRUPT:
            return {}
        return {"columnnameofcorruptrecord": corrupt}

    def _fails_query(self) -> bool:
        if "mode" not in self.options:
            # A column for the lines that do not fit asks for them.
            column_for_lines = self.options.get("columnnameofcorruptrecord", _CORRUPT)
            return column_for_lines not in self.columns.names
        mode = str(self.options["mode"]).upper()
        reject_unknown(f"mode of sources.{self.kind}()", [mode], _MODES)
        return mode == "FAILFAST"

    def strict_options(self) -> dict[str, Any]:
        """Return the mode, too: to fail, unless the user's options ask for another."""
        mode = "FAILFAST" if self.is_strict else "PERMISSIVE"
        return {**super().strict_options(), "mode": mode}


class CsvValues(_LineValues):
    """The values of CSV: all of them are texts."""

    read_as = dict.fromkeys(
        (*_FRACTIONS, T.StringType, T.BinaryType, *_DATED), T.StringType()
    )

    def _refuse_type(self, field: T.StructField) -> None:
        if isinstance(field.dataType, NESTED):
            name = field.dataType.simpleString()
            raise InvalidInputError(
                f"column {field.name}: CSV cannot hold {name}; declare it as STRING"
            )
        super()._refuse_type(field)
        is_variant = holds(field.dataType, T.VariantType)
        if is_variant and "singlevariantcolumn" not in self.options:
            reason = "Spark would guess the type of each value, so that 007 is 7"
            raise InvalidInputError(
                f"column {field.name}: variant: {reason}; declare STRING"
            )

    def _refuse_options(self) -> None:
        super()._refuse_options()
        if self.options.get("escape") == "":
            reason = 'with it Spark reads a last field "" as a quote (SPARK-46959)'
            raise InvalidInputError(
                f"escape is ''; {reason}: leave it out, and a quote within quotes is"
                " doubled"
            )
        refuse_headers_left_out(self.options)

    def strict_options(self) -> dict[str, Any]:
        """Return options to read by RFC 4180, and to fail at what does not fit."""
        strict = super().strict_options() | _RFC_4180
        # A quote within quotes is doubled
        strict["escape"] = self.options.get("quote") or '"'
        # A value that is torn at a line end has too few fields, but in a single column
        # each half has one. So Spark must not tear it, and `_torn_at_line_ends` finds
        # it.
        strict["multiline"] = len(self.columns) == 1
        if self.is_strict:
            # Which Spark does in every mode
            strict["unescapedquotehandling"] = "RAISE_ERROR"
        if self.is_strict and is_true(self.options, "multiline"):
            # Without it Spark takes the first line end of a file for that of all lines,
            # and changes those in values.
            strict["linesep"] = "\n"
        return strict

    def _text_checks(
        self, field: T.StructField, raw: Column
    ) -> list[tuple[Column, Column]]:
        return [
            *super()._text_checks(field, raw),
            *self._torn_at_line_ends(field, raw),
        ]

    def _wrong_texts(self) -> list[_WrongText]:
        return [*super()._wrong_texts(), *self._wrong_beside_separators()]

    def _wrong_beside_separators(self) -> list[_WrongText]:
        """Return what shows that Spark may have split a line wrongly at a long separator.

        With `sep="||"` that is a quote anywhere in a text, or a "|" at its beginning,
        as in the second text of `a|||b`. With a separator of one character it is
        nothing.
        """
        sep = str(self.options.get("sep", self.options.get("delimiter", ",")))
        if is_one_character(sep):
            return []
        fix = f"read the lines with sources.text and quarantine.parse_csv(sep={sep!r})"
        wrong_texts = []
        quote = str(self.options.get("quote", '"'))
        if quote:
            message = (
                " has a quote, which Spark misreads beside a separator of several"
                f" characters; {fix}"
            )
            wrong_texts.append(_WrongText(re.escape(quote), message))
        overlaps = [re.escape(end) for end in self_overlaps(sep)]
        if overlaps:
            message = (
                " begins with a part of the separator, which could begin at two"
                f" places; {fix}"
            )
            wrong_texts.append(_WrongText(f"^({'|'.join(overlaps)})", message))
        return wrong_texts

    def _torn_at_line_ends(
        self, field: T.StructField, raw: Column
    ) -> list[tuple[Column, Column]]:
        """Return what a text must not be, and the message: Spark changed or left a line end."""
        if "linesep" in self.options:
            return []
        if is_true(self.options, "multiline"):
            if field.name != self.columns.names[-1]:
                return []
            message = (
                r"a value ends with \r; if lines end with \r\n, give lineSep='\r\n'; "
            )
            return [(raw.endswith("\r"), F.lit(message))]
        if len(self.columns) == 1 and "multiline" not in self.options:
            # Spark takes the first line end of a file for that of all its lines, so
            # that another one is in a value, too.
            message = (
                r"a value has a line end; if it is within quotes, give multiLine=True;"
                r" if lines end in different ways (\n, \r\n, \r), give multiLine=False; "
            )
            return [(raw.rlike(r"[\r\n]"), F.lit(message))]
        return []

    def _failure(
        self, field: T.StructField, raw: Column, kind: T.DataType, name: str, fix: str
    ) -> Column:
        failure = super()._failure(field, raw, kind, name, fix)
        for is_torn, message in self._torn_at_line_ends(field, raw):
            torn = failing(field, message, kind)
            failure = F.when(is_torn, torn).otherwise(failure)
        return failure

    def _special_numbers(self, raw: Column, kind: T.DataType) -> list[Column]:
        """Return NaN and the infinities, where CSV has the texts that the options name."""
        if isinstance(kind, T.DecimalType):
            return []
        values = []
        for option, meaning in NO_NUMBERS.items():
            if option in self.options:
                is_text = raw == self.options[option]
                values.append(F.when(is_text, F.lit(meaning)).cast(kind))
        return values

    def _failure_message(
        self, field: T.StructField, text: Column, name: str, fix: str
    ) -> Column:
        message = super()._failure_message(field, text, name, fix)
        if is_true(self.options, "header"):
            return message
        header = (
            f" is no {name}, but the name of the column: give header=True;"
            f" otherwise {fix}; "
        )
        is_name = F.lower(F.trim(text)) == field.name.strip().lower()
        return F.when(is_name, F.lit(self._with_parser(header))).otherwise(message)


class JsonValues(_LineValues):
    """The values of JSON: a text is in quotes, and a number is not."""

    read_as: ClassVar[Mapping[Any, T.DataType]] = {
        # A variant knows whether 2026 is in quotes. As a STRING a decimal keeps its
        # digits.
        **dict.fromkeys(_DATED, T.VariantType()),
        T.ByteType: T.ShortType(),
        T.DecimalType: T.StringType(),
        T.FloatType: T.DoubleType(),
        T.StringType: T.StringType(),
    }
    parser = "quarantine.parse_json"
    written_time = f"{Values.written_time} or in seconds, not milliseconds"

    @cached_property
    def _keeps_digits(self) -> bool:
        return keeps_digits(self._spark, self.options)

    def _refuse_type(self, field: T.StructField) -> None:
        super()._refuse_type(field)
        if has_other_keys(field.dataType):
            name = field.dataType.simpleString()
            fix = "the keys in JSON are texts: declare MAP<STRING, …>"
            raise InvalidInputError(
                f"column {field.name}: JSON cannot hold {name}; {fix}"
            )

    def strict_options(self) -> dict[str, Any]:
        """Return options to read what the standard of JSON allows, and to fail otherwise."""
        strict = super().strict_options()
        if self.is_strict:
            strict["allowsinglequotes"] = False
        return strict

    def _type_to_read(self, field: T.StructField, kind: T.DataType) -> T.DataType:
        if self._is_checked(field, kind) and self._is_variant(kind):
            return T.VariantType()
        return super()._type_to_read(field, kind)

    def _is_variant(self, kind: T.DataType) -> bool:
        """Return whether a decimal is read as a variant, which knows numbers from texts.

        In a locale a number is written with a point and a text is not, and where the
        bytes are decoded first, Spark gives a number as text with the digits of a
        double.
        """
        if not isinstance(kind, T.DecimalType):
            return False
        return self.marks is not None or not self._keeps_digits

    def _wrong_texts(self) -> list[_WrongText]:
        encoding = encoding_of(self.options)
        # Spark's reader of JSON fails at bytes of another encoding
        if encoding is None or encoding.upper() != _LATIN:
            return []
        return super()._wrong_texts()

    def _parsed(self, raw: Column, kind: T.DataType) -> tuple[Column, Column]:
        value = scalar(raw, kind, self._pattern(kind), zeros=True)
        return value, raw.isNull() | F.is_variant_null(raw)

    def _number(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        if isinstance(kind, T.FloatType):
            return self._float(field, raw, kind)
        return super()._number(field, raw, kind)

    def _float(self, field: T.StructField, raw: Column, kind: T.DataType) -> Column:
        value = raw.try_cast(kind)
        is_in_range = finite(value) | ~finite(raw)
        failure = self._failure(
            field, raw, kind, "float", "declare a wider type, DOUBLE"
        )
        return F.when(is_in_range, value).when(raw.isNotNull(), failure)

    def _digits(self, raw: Column, kind: T.DataType) -> tuple[Column, Column]:
        if not self._is_variant(kind):
            return super()._digits(raw, kind)
        return self._text_of_variant(raw), raw.isNull() | F.is_variant_null(raw)

    def _text_of_variant(self, raw: Column) -> Column:
        """Return a decimal as text with a point; null if its digits are not known."""
        text = raw.cast("string")
        shape = F.schema_of_variant(raw)
        decimal = text
        if self.marks is not None:
            decimal = with_point(text, self.marks)
        # With an exponent, or more than 38 digits, a number is a double, of which zero
        # alone is exact.
        is_zero = (shape == "DOUBLE") & (text.try_cast("double") == 0)
        is_known = shape.rlike("^(BIGINT|DECIMAL)") | is_zero
        return F.when(shape == "STRING", decimal).when(is_known, text)


class ParquetValues(Values):
    """The values of Parquet: of a whole number Spark would take the lower bits."""

    read_as = dict.fromkeys((T.ByteType, T.ShortType), T.IntegerType())


_OF_FORMAT = {"csv": CsvValues, "json": JsonValues, "parquet": ParquetValues}


def values_of(
    spark: SparkSession, kind: str, columns: T.StructType, options: Mapping[str, Any]
) -> Values:
    """Return how the values of a format are read (see `Values`)."""
    return _OF_FORMAT.get(kind, Values)(spark, kind, columns, options)
