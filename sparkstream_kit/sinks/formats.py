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
    STEADY,
    changed_inside,
    column,
    find_column,
    holds,
    refuse_twice,
    types_in,
)
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import JSON, NO_OPTIONS
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
_NESTED = (T.ArrayType, T.MapType, T.StructType)
# Of make_interval(), which no format of Spark's has
_NO_FILE = (T.CalendarIntervalType,)
_CANNOT_HOLD: dict[str, tuple[type[T.DataType], ...]] = {
    "csv": (*_NESTED, *_NO_FILE, T.BinaryType, T.NullType, T.VariantType),
    # JSON keeps no NULL, no date and no decimal of a variant
    "json": (*_NO_FILE, T.VariantType),
    "orc": (*_NO_FILE, T.NullType, T.VariantType),
    "parquet": (*_NO_FILE, T.NullType),
}
# What to use instead of a format, if that is not JSON.
_INSTEAD = {
    "csv": "JSON, or F.to_json(column)",
    "json": "F.to_json(column), or Parquet",
}
_NO_FOLDER = (*_NESTED, *_NO_FILE, T.BinaryType, T.NullType, T.VariantType)
# The characters that an encoding cannot write, by its name without punctuation.
_BEYOND = {"iso88591": "[^\\x00-\\xff]", "usascii": "[^\\x00-\\x7f]"}
_UTF8 = ("utf8", "")
_LINE_ENDS = r"[\r\n]"
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
    """

    kind: str
    spelled: str
    given: dict[str, Any] = dataclasses.field(repr=False)
    in_table: bool = False

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
        _check_folders(sink, frame, partition_by)
        columns = data_columns(frame, partition_by)
        check_types(sink, self.kind, columns)
        if self.kind == "parquet":
            refuse_cut_times(sink, frame.sparkSession, columns)
        if self.kind == "csv":
            self._check_csv(sink, columns)

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

    def _check_csv(self, sink: str, columns: list[T.StructField]) -> None:
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
        if texts and self._is_on("quoteAll", default=False):
            raise InvalidInputError(
                f"{sink}: quoteAll=True writes NULL as an empty text, and column"
                f" {texts[0]} can have both; give nullValue='NULL', too"
            )

    def guarded(
        self, sink: str, frame: DataFrame, partition_by: Sequence[str] = ()
    ) -> DataFrame:
        """Return a frame whose rows fail the batch if the format would change or lose one.

        Only columns that can have such a value get an expression, so there is no pass
        over the data.
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
        if self.kind == "orc" and isinstance(kind, _NESTED):
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
            is_null_text = value.cast("string") == F.lit(null)
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


def check_types(sink: str, name: str, columns: Sequence[T.StructField]) -> None:
    """Refuse columns whose types a format cannot hold.

    Args:
        sink: the sink, for messages.
        name: the plain name of the format.
        columns: the columns that stand in a file.

    Raises:
        InvalidInputError: there is such a column.
    """
    for field in columns:
        names = [field.name, *_names_of_fields(field.dataType)]
        odd = [each for each in names if "`" in each]
        if name == "orc" and odd:
            raise InvalidInputError(
                f"{sink}: column {odd[0]} has a backtick in its name, and Spark reads"
                " it from ORC as NULL; rename it"
            )
        if _can_hold(name, field.dataType, len(columns)):
            continue
        form = "text (one column, a string)" if name == "text" else name
        instead = _INSTEAD.get(name, "JSON")
        if isinstance(field.dataType, T.BinaryType):
            instead = "JSON, or F.base64(column)"
        raise InvalidInputError(
            f"{sink}: column {field.name} is {field.dataType.simpleString()}, and a"
            f" file of {form} cannot hold it; leave it out, cast it, or use {instead}"
        )


def refuse_cut_times(
    sink: str, spark: SparkSession, columns: Sequence[T.StructField]
) -> None:
    """Refuse times in Parquet if the session has Spark cut their microseconds.

    Args:
        sink: the sink, for messages.
        spark: the session that writes.
        columns: the columns that stand in a file.

    Raises:
        InvalidInputError: the session has the setting, and a column has times.
    """
    times = [each.name for each in columns if holds(each.dataType, T.TimestampType)]
    unit = spark.conf.get("spark.sql.parquet.outputTimestampType")
    if times and str(unit).upper() == "TIMESTAMP_MILLIS":
        raise InvalidInputError(
            f"{sink}: column {times[0]} is timestamp, and the session's"
            " spark.sql.parquet.outputTimestampType=TIMESTAMP_MILLIS cuts its"
            " microseconds; set it to TIMESTAMP_MICROS"
        )


def _names_of_fields(kind: T.DataType) -> list[str]:
    """Return the names of the fields of all structs in a type."""
    names: list[str] = []
    for inside in types_in(kind):
        if isinstance(inside, T.StructType):
            names += inside.names
    return names


def _can_hold(name: str, kind: T.DataType, columns: int) -> bool:
    """Return whether a file of so many columns gives back one of this type unchanged."""
    if name == "text":
        return isinstance(kind, T.StringType) and columns == 1
    inside = list(types_in(kind))
    keys = [each.keyType for each in inside if isinstance(each, T.MapType)]
    if name == "json" and any(not isinstance(key, T.StringType) for key in keys):
        return False  # in JSON a key is a text
    if name == "orc" and any(isinstance(key, T.DateType) for key in keys):
        return False  # Spark writes the last of the dates for each key
    is_empty = any(
        isinstance(each, T.StructType) and not each.fields for each in inside
    )
    if name in ("orc", "parquet") and is_empty:
        return False
    return not holds(kind, *_CANNOT_HOLD[name])


def _is_no(character: str) -> bool:
    return len(character) != 1 or character == "\0"


def _named(value: Column, field: T.StructField) -> Column:
    """Return a value as a column with the name and the metadata of a field."""
    if field.metadata:
        return value.alias(field.name, metadata=field.metadata)
    return value.alias(field.name)


def data_columns(frame: DataFrame, partition_by: Sequence[str]) -> list[T.StructField]:
    """Return the columns that stand in the files, not in the names of folders."""
    folders = [name.lower() for name in partition_by]
    return [field for field in frame.schema if field.name.lower() not in folders]


def _check_folders(sink: str, frame: DataFrame, partition_by: Sequence[str]) -> None:
    """Refuse columns whose values cannot be read back from the names of folders.

    Raises:
        InvalidInputError: there is no such column, it is given twice, no other column
            is left, or its type or its name does not go into the name of a folder.
    """
    names = [find_column(frame, name, f"{sink}: partition_by") for name in partition_by]
    refuse_twice(f"{sink}: partition_by: column", names)
    if len(names) == len(frame.columns):
        what = "partition_by has each column" if names else "the query has no column"
        raise InvalidInputError(
            f"{sink}: {what}, and a file has rows of the others; leave one in the files"
        )
    for name in names:
        kind = frame.schema[name].dataType
        who = f"{sink}: partition_by column {name}"
        if name.startswith("."):
            raise InvalidInputError(
                f"{who} makes hidden folders, which readers skip; rename it"
            )
        if isinstance(kind, _NO_FOLDER):
            raise InvalidInputError(
                f"{who} is {kind.simpleString()}, of which no folder has the name;"
                " cast it"
            )
        if is_collated(kind):
            raise InvalidInputError(
                f"{who} is {kind.simpleString()}, as which Spark reads no folder; give"
                " F.collate(column, 'UTF8_BINARY')"
            )
        zone = frame.sparkSession.conf.get("spark.sql.session.timeZone")
        if isinstance(kind, T.TimestampType) and zone not in STEADY:
            raise InvalidInputError(
                f"{who} is a timestamp, and the name of a folder has no UTC offset: in"
                f" {zone} an hour that comes twice would be one; set"
                " spark.sql.session.timeZone to UTC, or use a column with F.to_date()"
                " of it"
            )
