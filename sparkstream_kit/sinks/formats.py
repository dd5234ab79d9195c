"""Thin: Spark's file formats: what each can hold, and options that keep every value.

`of` returns a `Format`: its plain name and the options with which Spark's writer keeps
every value. If a schema or an option shows that a value would change, `Format.check`
refuses it at the start. If only the value itself shows it, a column of `Format.guarded`
fails the batch before the row is written. docs/files.md has all of this in tables.
"""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrameWriter
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check_options
from sparkstream_kit._internal.columns import (
    changed_inside,
    column,
    holds,
    refuse_twice,
    types_in,
)
from sparkstream_kit._internal.spark.session import refuse_former_patterns
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import JSON, NO_OPTIONS
from sparkstream_kit.sinks.file_columns import (
    NESTED,
    check_folders,
    check_types,
    cuts_microseconds,
    data_columns,
)
from sparkstream_kit.sinks.refusals import (
    in_a_folder,
    is_collated,
    lost_bytes,
    lost_in_orc,
    mark_at_the_beginning,
    meets,
    stopped,
    without_collation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

    from sparkstream_kit.sinks.base import Sink
    from sparkstream_kit.sinks.refusals import Refusals


NAMES = ("csv", "json", "orc", "parquet", "text")  # Spark's built-in file formats
_ANY_NAME = "|".join(NAMES)
# In lower case: the plain name, or the name of a class of Spark's
_SPELLED = re.compile(
    rf"""
    (?P<plain> {_ANY_NAME} )
    | (?: org\.apache\.spark | com\.databricks\.spark ) \. [\w.]*?  # … .datasources.json.
      (?P<of_class> {_ANY_NAME} )                                     # Json
      (?: fileformat | datasourcev2 | \.defaultsource )?              # FileFormat
    """,
    re.VERBOSE,
)

# So that CSV has each text as it is.
_CSV = {"ignoreLeadingWhiteSpace": "false", "ignoreTrailingWhiteSpace": "false"}
# The characters that an encoding cannot write, by its name without punctuation.
_BEYOND = {"iso88591": "[^\\x00-\\xff]", "usascii": "[^\\x00-\\x7f]"}
_UTF8 = ("utf8", "")
_QUOTES_NULL = "spark.sql.legacy.nullValueWrittenAsQuotedEmptyStringCsv"
_LINE_ENDS = r"[\r\n]"
# The options of CSV that say how values stand in a line, and not how each is written
_OF_A_LINE = ("delimiter", "nullvalue", "quoteall", "sep")
# Not line ends, of which a text has quotes
_BLANKS = r"\A[\x00-\x09\x0b\x0c\x0e-\x20]+\z"
# The characters that Java's trim takes for blanks
_BLANK = "".join(map(chr, range(0x21)))
# How Spark's CSV spells the characters of a separator.
_ESCAPED = {
    "\\t": "\t",
    "\\r": "\r",
    "\\b": "\b",
    "\\f": "\f",
    '\\"': '"',
    "\\'": "'",
    "\\\\": "\\",
}


def plain_name(name: str) -> str:
    """Return the plain name of a file format of Spark, however spelled; others as given.

    Examples:
        >>> spelled = "org.apache.spark.sql.execution.datasources.json.JsonFileFormat"
        >>> plain_name("CSV"), plain_name(spelled)
        ('csv', 'json')
        >>> plain_name("delta")
        'delta'
    """
    match = _SPELLED.fullmatch(name.strip().lower())
    if match is None:
        return name
    return match["plain"] or match["of_class"]


def of(
    call: Callable[..., Sink], name: str, given: Mapping[str, Any], path: object = None
) -> Format:
    """Return the given format, with options that keep every value where none are given.

    Args:
        call: the sink's function.
        name: the format, as the caller spells it.
        given: the options of Spark's writer that the caller gave.
        path: the folder; None for a table, which may have other formats than Spark's
            for files.

    Raises:
        InvalidInputError: an option is misspelt, or makes values change or rows
            unreadable; the format is unknown, or is XML; or the name of the folder
            ends in that of another format.
    """
    kind = plain_name(name)
    if path is not None:
        reject_unknown("file format", [kind], NAMES)
        named = PurePath(str(path)).suffix[1:]
        if named in NAMES and named != kind:
            raise InvalidInputError(
                f"{path} is a folder of {kind}; give format={named!r}, or another name"
            )
    if kind.lower() == "xml":
        raise InvalidInputError(
            f"sinks.{call.__name__}(): format is {name!r}, and Spark reads texts from"
            " XML without the blanks at their ends; give 'parquet', or 'json'"
        )
    check_options(call, given, getattr(DataFrameWriter, kind, None), *NO_OPTIONS)
    form = Format(kind, name.strip(), dict(given), in_table=path is None)
    form.check_options(f"sinks.{call.__name__}()")
    return form


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files, with the options of Spark's writer.

    Attributes:
        kind: the format's plain name; one that is not in NAMES is not checked.
        spelled: the name to give to Spark.
        given: the options that the caller gave.
        in_table: whether the files are those of a table, which Spark reads with the
            table's own options.
        cuts_times: whether the session has Spark cut microseconds of this format.
    """

    kind: str
    spelled: str
    given: dict[str, Any] = dataclasses.field(repr=False)
    in_table: bool = False
    cuts_times: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The options for Spark's writer: they keep every value, unless overridden."""
        if self.kind == "json":
            return {**JSON, **self.given}
        if self.kind != "csv":
            return self.given
        quote = self._option("quote", default='"')
        options = {**JSON, **_CSV}
        if not self.in_table:
            # RFC 4180 doubles a quote. Spark reads a table with an escape of its own.
            options["escape"] = quote
        if quote != '"':
            # Spark would write two double quotes
            options["emptyValue"] = quote * 2
        return {**options, **self.given}

    @property
    def reading(self) -> dict[str, Any]:
        """The options with which Spark's reader reads what these options have written."""
        return {
            name: value
            for name, value in self.options.items()
            if name.lower() != "emptyvalue"
        }

    def _option(self, *names: str, default: str = "") -> str:
        """Return an option that the caller gave, by any of its names; Spark ignores their case."""
        lower = [name.lower() for name in names]
        option = default
        for name, value in self.given.items():
            if name.lower() in lower:
                option = str(value)  # the last one counts
        return option

    def _is_on(self, name: str, *, default: bool) -> bool:
        return self._option(name, default=str(default)).lower() == "true"

    @property
    def _sep(self) -> str:
        """The separator of CSV, as the characters that stand in the file."""
        given = self._option("sep", "delimiter", default=",")
        return re.sub(r"\\.", lambda pair: _ESCAPED.get(pair[0], pair[0]), given)

    @property
    def _has_null(self) -> bool:
        """Whether CSV has a text for NULL that readers do not take for blanks."""
        return bool(self._option("nullValue").strip(_BLANK))

    @property
    def _encoding(self) -> str:
        return re.sub(r"\W|_", "", self._option("encoding", "charset").lower())

    def check_options(self, who: str) -> None:
        """Refuse options with which rows cannot be read, or with which a text becomes another one.

        Raises:
            InvalidInputError: there is such an option; the message says what to give
                instead.
        """
        wrong = ""
        if self.kind in ("json", "text") and self._encoding not in _UTF8:
            wrong = (
                f"encoding is given, and Spark reads back {self.kind} of UTF-8 alone;"
                " leave it out"
            )
        if self.kind == "json" and self._is_on("pretty", default=False):
            wrong = (
                "pretty=True writes a row over several lines, and readers take each"
                " line for a row; leave it out"
            )
        if self.kind == "json" and self._option("lineSep").strip("\r\n"):
            wrong = "lineSep can be a part of a value; leave it out"
        if self.kind == "csv":
            wrong = self._wrong_csv()
        if wrong:
            raise InvalidInputError(f"{who}: {wrong}")

    def _wrong_csv(self) -> str:
        """Return what is wrong with the options of CSV; empty if nothing is."""
        wrong = self._wrong_characters()
        if wrong:
            return wrong
        empty = self._option("emptyValue", default='""')
        if empty != '""':
            return (
                f"emptyValue is {empty!r}, which readers do not take for an empty text;"
                " leave it out, or write NULL instead: F.nullif('column', F.lit(''))"
            )
        if not self._is_on("escapeQuotes", default=True):
            return (
                "escapeQuotes is False, and other readers take a quote in a text for"
                " its end; leave it out"
            )
        of_escape = self._option("charToEscapeQuoteEscaping")
        if of_escape not in {"", self._option("escape")}:
            return (
                "charToEscapeQuoteEscaping is not escape, which tears a text with a"
                " quote; give both"
            )
        return ""

    def _wrong_characters(self) -> str:
        """Return what is wrong with the separator, quote and escape of CSV; empty if nothing."""
        quote = self._option("quote", default='"')
        escape = self._option("escape", default="\\")
        sep = self._sep
        given = self._option("sep", "delimiter", default=",")
        pairs = re.findall(r"\\.?", given)
        if any(pair not in _ESCAPED for pair in pairs):
            return (
                f"sep is {given!r}, and Spark reads a backslash as the begin of \\t;"
                " leave it out"
            )
        if _is_no(quote):
            return (
                "quote is no character, and a text with a separator needs quotes;"
                " leave it out"
            )
        if _is_no(escape):
            return (
                "escape is no character, and a text with a quote needs it; leave it out"
            )
        if sep in {"", quote, escape, "\r", "\n"}:
            return (
                f"sep is {sep!r}, which has another meaning in CSV; give another one,"
                " such as ';'"
            )
        return ""

    def in_session(self, spark: SparkSession) -> Format:
        """Return the format as a session writes it: its settings can cut values."""
        cuts_times = self.kind == "parquet" and cuts_microseconds(spark)
        return dataclasses.replace(self, cuts_times=cuts_times)

    def check(
        self, sink: str, frame: DataFrame, partition_by: Sequence[str] = ()
    ) -> None:
        """Refuse columns that the format cannot hold, and names of which there are two.

        Spark refuses some of them in the first batch or when the files are read, and
        changes the others without a word.

        Args:
            sink: the sink, for messages.
            frame: the rows.
            partition_by: the columns that become names of folders.

        Raises:
            InvalidInputError: the format cannot hold a column, alone or as a folder.
        """
        # Readers ignore case
        refuse_twice(f"{sink}: column", [name.lower() for name in frame.columns])
        if self.kind not in NAMES:
            return
        self._check_names(sink, frame)
        check_folders(sink, frame, partition_by)
        columns = data_columns(frame, partition_by)
        check_types(sink, self.kind, columns)
        if self.kind in ("csv", "json"):
            refuse_former_patterns(sink, frame.sparkSession)
        if self.kind == "csv":
            self._check_csv(sink, frame.sparkSession, columns)

    def _check_names(self, sink: str, frame: DataFrame) -> None:
        """Refuse names with which Spark cannot read the files, or reads other values."""
        for field in frame.schema:
            for kind in types_in(field.dataType):
                self._check_names_inside(f"{sink}: column {field.name}", kind)
        corrupt = frame.sparkSession.conf.get("spark.sql.columnNameOfCorruptRecord")
        if self.kind in ("csv", "json") and corrupt in frame.columns:
            raise InvalidInputError(
                f"{sink}: column {corrupt} has the name of the one in which Spark's"
                f" reader of {self.kind} puts what it cannot read; rename it"
            )

    def _check_names_inside(self, who: str, kind: T.DataType) -> None:
        """Refuse a type with two fields of one name, and one that ORC does not give back."""
        if isinstance(kind, T.StructType):
            refuse_twice(f"{who}: field", [name.lower() for name in kind.names])
        if self.kind != "orc":
            return
        if is_collated(kind):
            raise InvalidInputError(
                f"{who} has a {kind.simpleString()}, which Spark cannot read from orc;"
                " give F.collate(column, 'UTF8_BINARY'), or use format='parquet'"
            )
        if isinstance(kind, T.StructType) and "" in kind.names:
            raise InvalidInputError(
                f"{who} has a field without a name, which Spark cannot read from orc;"
                " give the field a name"
            )

    def _check_csv(
        self, sink: str, spark: SparkSession, columns: list[T.StructField]
    ) -> None:
        """Refuse columns of CSV whose NULL would be a line that readers skip, or an empty text."""
        if self._has_null:
            return
        texts = [
            each.name
            for each in columns
            if each.nullable and isinstance(each.dataType, T.StringType)
        ]
        if len(columns) == 1 and columns[0].nullable:
            raise InvalidInputError(
                f"{sink}: column {columns[0].name} is the only one and can be NULL, of"
                " which CSV makes an empty line, and readers skip that row; give"
                " nullValue='NULL', a second column, or format='json'"
            )
        quotes_null = ""
        if self._is_on("quoteAll", default=False):
            quotes_null = "quoteAll=True"
        elif str(spark.conf.get(_QUOTES_NULL, "false")).lower() == "true":
            quotes_null = f"the session's {_QUOTES_NULL}=true"
        if texts and quotes_null:
            raise InvalidInputError(
                f"{sink}: {quotes_null} writes NULL as an empty text, and column"
                f" {texts[0]} can have both; give nullValue='NULL', too"
            )

    def guarded(
        self, sink: str, frame: DataFrame, partition_by: Sequence[str] = ()
    ) -> DataFrame:
        """Return a frame whose rows fail the batch if the format would change or lose one.

        Only columns that can have such a value get an expression, so there is no pass
        over the data. Call it on what `in_session` returns.
        """
        if self.kind not in NAMES:
            return frame
        data = data_columns(frame, partition_by)
        values = [column(field.name) for field in frame.schema]
        cells = []
        for field, value in zip(frame.schema, values, strict=True):
            who = f"{sink}: column {field.name}"
            if field in data:
                cell = self._cell(who, data, field, value, field.dataType)
            else:
                text = without_collation(value, field.dataType)
                refusals = in_a_folder(field.name, text, field.dataType)
                cell = stopped(refusals, value, field.dataType, who)
            cells.append(cell)
        if all(cell is value for cell, value in zip(cells, values, strict=True)):
            return frame
        return frame.select(
            [
                _named(cell, field)
                for cell, field in zip(cells, frame.schema, strict=True)
            ]
        )

    def _cell(
        self,
        who: str,
        data: list[T.StructField],
        field: T.StructField,
        value: Column,
        kind: T.DataType,
    ) -> Column:
        """Return a value in a file, or an error where the format would change it.

        Args:
            who: the column, for the error.
            data: the columns that stand in the file.
            field: the column.
            value: the column's value, or one inside of it.
            kind: the type of this value.
        """
        changes_times = self.kind == "orc" or self.cuts_times
        if changes_times and isinstance(kind, NESTED):
            if not holds(kind, T.DateType, T.TimestampType):
                return value
            return changed_inside(value, kind, partial(self._cell, who, data, field))
        text = without_collation(value, kind)
        refusals = [*self._refusals(text, kind)]
        if field == data[0]:
            refusals += mark_at_the_beginning(self.kind, text, kind)
            refusals += self._lost_line(data)
        return stopped(refusals, value, kind, who)

    def _refusals(self, value: Column, kind: T.DataType) -> Refusals:
        """Yield what a value must not be, because it would be another one when it is read."""
        if self.kind in ("csv", "json"):
            yield from lost_bytes(value, kind)
        if self.kind == "text":
            yield from self._lost_in_text(value)
        if self.cuts_times and isinstance(kind, T.TimestampType):
            says = (
                "has a time with microseconds, and the session's spark.sql.parquet"
                ".outputTimestampType=TIMESTAMP_MILLIS cuts them; set it to"
                " TIMESTAMP_MICROS, or write F.date_trunc('MILLISECOND', column)"
            )
            yield F.pmod(F.unix_micros(value), F.lit(1000)) != 0, says
        if self.kind == "orc" and isinstance(kind, T.DateType | T.TimestampType):
            yield from lost_in_orc(value, kind)
        if self.kind == "csv":
            yield from self._lost_in_csv(value, kind)

    def _lost_in_text(self, value: Column) -> Refusals:
        says = "has NULL, of which text has no sign; give F.coalesce(column, F.lit(''))"
        yield value.isNull(), says
        says = (
            "has a text with a line end, which would be two rows; use format='json' or"
            " 'csv'"
        )
        line_sep = self._option("lineSep")
        if line_sep:
            yield meets(value, line_sep), says
        else:
            yield value.rlike(_LINE_ENDS), says

    def _lost_in_csv(self, value: Column, kind: T.DataType) -> Refusals:
        """Yield what a value in CSV must not be: the text for NULL, or one that changes."""
        null = self._option("nullValue")
        if null:
            says = f"has {null!r}, which stands for NULL; give another nullValue"
            is_null_text = self._text_in_csv(value, kind) == F.lit(null)
            yield is_null_text, says
        if not isinstance(kind, T.StringType):
            return
        if self.in_table:
            yield from self._lost_in_csv_table(value)
        yield from self._lost_beside_quotes(value)
        line_sep = self._option("lineSep")
        if line_sep and line_sep != "\n":
            says = (
                "has a text with a line end, which lineSep changes; leave lineSep out"
            )
            has_line_end = meets(value, line_sep) | value.contains("\n")
            yield has_line_end, says
        beyond = _BEYOND.get(self._encoding)
        if beyond is not None:
            says = "has a text that the encoding cannot write; leave encoding out"
            yield value.rlike(beyond), says

    def _text_in_csv(self, value: Column, kind: T.DataType) -> Column:
        """Return a value as the text that stands in the file, without quotes."""
        if isinstance(kind, T.StringType):
            return value
        options = {
            name: str(setting)
            for name, setting in self.options.items()
            if name.lower() not in _OF_A_LINE
        }
        # No pattern has this separator, so that the text needs no quotes
        line = F.to_csv(F.struct(value), {**options, "sep": "\x01"})
        return F.when(value.isNotNull(), line)  # of NULL to_csv makes no text

    def _lost_in_csv_table(self, value: Column) -> Refusals:
        """Yield what a text in a table of CSV must not be, whose readers have few options."""
        if not self._option("nullValue"):
            says = (
                "has an empty text, which a table of csv reads as NULL; use"
                " format='parquet'"
            )
            yield value == F.lit(""), says
        if not self._is_on("multiLine", default=False):
            says = (
                "has a text with a line end, which a table of csv reads as two rows;"
                " use format='parquet'"
            )
            yield value.rlike(_LINE_ENDS), says

    def _lost_beside_quotes(self, value: Column) -> Refusals:
        """Yield what a text in quotes, or one without them beside a separator, must not have."""
        quote = self._option("quote", default='"')
        in_quotes = (
            value.contains(self._sep) | value.contains(quote) | value.rlike(_LINE_ENDS)
        )
        if self._is_on("quoteAll", default=False):
            in_quotes = F.lit(True)
        says = (
            "has a text with a NUL character in quotes, which Spark's reader leaves"
            " out; remove it"
        )
        yield value.contains("\0") & in_quotes, says
        if len(self._sep) > 1:
            says = "has a text that ends like sep begins; give a sep of one character"
            yield meets(value, self._sep) & ~in_quotes, says

    def _lost_line(self, data: list[T.StructField]) -> Refusals:
        """Yield what a row must not be, because readers skip its line: blanks alone."""
        has_words = len(data) > 1 and self._sep.strip(_BLANK)
        if self.kind != "csv" or self._is_on("quoteAll", default=False) or has_words:
            return
        all_blank = F.lit(True)
        for field in data:
            value = without_collation(column(field.name), field.dataType)
            is_blank = F.lit(False)
            if isinstance(field.dataType, T.StringType):
                is_blank = value.rlike(_BLANKS)
            if not self._has_null:
                is_blank = value.isNull() | is_blank
            all_blank = all_blank & is_blank
        says = (
            "begins a line of blanks alone, which readers skip; give quoteAll=True and"
            " nullValue='NULL'"
        )
        yield all_blank, says


def _is_no(character: str) -> bool:
    return len(character) != 1 or character == "\0"


def _named(value: Column, field: T.StructField) -> Column:
    """Return a value as a column with the name and the metadata of a field."""
    if field.metadata:
        return value.alias(field.name, metadata=field.metadata)
    return value.alias(field.name)
