"""Extra: `schemas.infer`: the schema that Spark finds in sample files, with corrections."""

from __future__ import annotations

import logging
import re
from functools import cache, partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check_options
from sparkstream_kit._internal.columns import column
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import InvalidInputError, reject_unknown, said_by_spark
from sparkstream_kit.quarantine.rows import is_missing, typed
from sparkstream_kit.sources.values import NO_NUMBERS, PATTERNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import Column, DataFrame, Row, SparkSession


# The formats that `infer` reads, and how it recognizes one by a file's name.
_FORMATS = ("csv", "json", "orc", "parquet")
_BY_NAME = {f".{name}": name for name in _FORMATS} | {
    ".jsonl": "json",
    ".ndjson": "json",
    ".tsv": "csv",
}

# In CSV files: what stands for a missing value, and text that is no number (01234,
# +4930, 12F, 1E5) or time of a day (10:30, to which Spark would add the date of today).
_MISSING = ("NA", "N/A", "null", "NULL", "-", r"\N", "?")
_SEPARATOR = re.compile(r"[;\t|]")  # where line 1 has no comma
_GARBLED = "[\ufffd\0\u0080-\u009f]"  # what bytes of another encoding become
_CODE = r"^(\+|-?0\d|\d?\d:|\d+([dDfF]|[eE]\d+)$)"
# What may be a name in line 1, and may be a value of a column of numbers there: besides
# what stands for a missing value it is NaN and infinity.
_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
# A text of JSON that is a date with a time, and that a source reads as TIMESTAMP as it
# is.
_TIMESTAMP = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?$"
_MOST_DIGITS = 17  # of a number that is written as a DOUBLE
_DECIMAL_DIGITS = 38  # the most of a DECIMAL
# Why a column stays text.
_CODES = "has codes (01234, +49, 1E5) or times of a day, which stay text,"
_OTHER_TIMES = (
    "has dates or times in another form than 2026-01-31 10:30:00.123456, which stay"
    " text,"
)
_OTHER_NUMBERS = (
    "has numbers in another form than 1.5, or too big for a DOUBLE, which stay text,"
)
_LONG = (
    "has numbers that DOUBLE would round, which stay text (DECIMAL(38,30) holds 30"
    " places),"
)
# Notes for the log.
_OVER_LINES = (
    "has JSON over several lines; write one object per line (jq -c '.[]' for an array,"
    " jq -c . otherwise), or give multiLine=True if it is one value"
)
_NOT_JSON = (
    "has lines that are not JSON, or not UTF-8; the schema is that of the others"
)
_NOT_UTF8 = (
    "may not be UTF-8; if it is windows-1252, as Excel writes on Windows, convert it:"
    " iconv -f windows-1252 -t UTF-8 IN > OUT; else give encoding='ISO-8859-1', or"
    r" 'UTF-16', multiLine=True and lineSep='\r\n'"
)
_DATED = (T.DateType, T.TimestampType, T.TimestampNTZType)
# Options of CSV with which Spark's reader reads dates and times in a source, too
_LEFT_TO_SPARK = {
    "enabledatetimeparsingfallback",
    "locale",
    "timestampntzformat",
    "timezone",
}


_log = logging.getLogger(__name__)


def inferred(
    call: Callable[..., T.StructType],
    spark: SparkSession,
    path: str,
    form: str | None,
    options: dict[str, Any],
) -> T.StructType:
    """Return the schema of sample files, and log what a source of them needs.

    The rules are those of `infer`.

    Raises:
        InvalidInputError: as for `schemas.infer`.
    """
    if form is None:
        form = format_of(path)
    reject_unknown("format", [form], _FORMATS)
    check_options(call, options, getattr(spark.read, form))
    settings = _as_spark_names_them(options)
    has_tabs = form == "csv" and path.lower().endswith(".tsv") and "sep" not in settings
    if has_tabs:
        settings["sep"] = "\t"
    read = partial(_read, spark, locate(spark, path).text, form, **settings)
    failed = f"cannot infer a {form} schema from {path}"
    no_inference = {"spark.sql.sources.partitionColumnTypeInference.enabled": "false"}
    try:
        with in_force(spark, no_inference):
            schema, notes = _of_format(form, read)
    except (PySparkException, Py4JJavaError) as error:
        raise InvalidInputError(
            f"{failed}: {said_by_spark(error)}; correct the path or the format"
        ) from error
    if not schema.fields:
        raise InvalidInputError(
            f"{failed}: it has no {form} rows in its encoding; give a file that has"
            " some"
        )
    if has_tabs:
        notes = ["has tabs between its values; read it with sep='\\t'", *notes]
    for note in notes:
        _log.warning("%s %s", path, note)
    return schema


def _as_spark_names_them(options: dict[str, Any]) -> dict[str, Any]:
    """Return options by one name each: Spark takes any case, and two have another name."""
    other_names = {"delimiter": "sep", "charset": "encoding"}
    settings = {}
    for name, value in options.items():
        settings[other_names.get(name.lower(), name.lower())] = value
    return settings


def _of_format(form: str, read: partial[DataFrame]) -> tuple[T.StructType, list[str]]:
    """Return the schema of files of a format, and notes for the log."""
    if form == "csv":
        return _of_csv(read)
    if form == "json":
        return _of_json(read)
    return read().schema, []


def _read(
    spark: SparkSession,
    path: str,
    form: str,
    *,
    schema: T.StructType | None = None,
    **options: Any,
) -> DataFrame:
    if form == "csv":  # as the sources of files do
        options = {"escape": '"', "inferschema": True, **options}
    reader = spark.read.format(form).options(**options)
    if schema is not None:
        reader = reader.schema(schema)
    return reader.load(path)


def _of_json(read: partial[DataFrame]) -> tuple[T.StructType, list[str]]:
    rows = read()
    schema_found = T.StructType(
        [field for field in rows.schema.fields if field.name != "_corrupt_record"]
    )
    if len(schema_found) == len(rows.schema):
        return _finer(read, schema_found)
    # Spark reads each object that has a line of its own, also in an array or in another
    # object. Those begin in line 1, which is then no object.
    if "multiline" not in read.keywords and (
        not schema_found.fields or rows.take(1)[0]["_corrupt_record"]
    ):
        read_whole = partial(read, multiline=True)
        known_whole = read_whole().schema
        if "_corrupt_record" not in known_whole.names:
            schema, notes = _finer(read_whole, known_whole)
            return schema, [_OVER_LINES, *notes]
    schema, notes = _finer(read, schema_found)
    return schema, [_NOT_JSON, *notes]


# The way to a value in JSON: the names of the fields, and None for each element of an
# array.
_Path = tuple[str | None, ...]


def _finer(
    read: partial[DataFrame], schema: T.StructType
) -> tuple[T.StructType, list[str]]:
    """Return a JSON schema with types that Spark does not find, and notes on them.

    The types are found at any depth.
    """
    if "primitivesasstring" in read.keywords:
        return schema, []
    if "infertimestamp" not in read.keywords:
        schema = _with_times(read, schema)
    return _with_decimals(read, schema)


def _with_times(read: partial[DataFrame], spark_schema: T.StructType) -> T.StructType:
    """Return a schema of JSON with TIMESTAMP where every text is a date with a time."""
    paths = _paths(spark_schema, T.StringType)
    if not paths:
        return spark_schema
    # The largest of booleans is whether any is true
    findings = [
        F.struct(
            _largest(path, _is_timestamp).alias("has_time"),
            _largest(path, lambda text: ~_is_timestamp(text)).alias("has_other"),
        )
        for path in paths
    ]
    [texts_by_path] = read(schema=spark_schema).agg(*findings).collect()
    schema = spark_schema
    for path, texts in zip(paths, texts_by_path, strict=True):
        if texts.has_time and not texts.has_other:
            schema = _with_type(schema, path, T.TimestampType())
    return schema


def _is_timestamp(text: Column) -> Column:
    """Return whether a text is a date with a time, and one that exists; null for a null."""
    return text.rlike(_TIMESTAMP) & (
        text.isNull() | text.try_cast("timestamp").isNotNull()
    )


def _with_decimals(
    read: partial[DataFrame], spark_schema: T.StructType
) -> tuple[T.StructType, list[str]]:
    """Return a JSON schema with DECIMAL for numbers that DOUBLE rounds, and notes.

    Such numbers have more digits than a DOUBLE keeps.
    """
    paths = _paths(spark_schema, T.DoubleType)
    if not paths:
        return spark_schema, []
    as_written = spark_schema
    for path in paths:
        as_written = _with_type(as_written, path, T.StringType())
    [numbers_by_path] = (
        read(schema=as_written).agg(*map(_look_at_numbers, paths)).collect()
    )
    schema = spark_schema
    notes = []
    for path, numbers in zip(paths, numbers_by_path, strict=True):
        if numbers.digits is None or numbers.digits <= _MOST_DIGITS:
            continue
        name = ".".join("[]" if step is None else step for step in path)
        if numbers.has_other or numbers.before + numbers.behind > _DECIMAL_DIGITS:
            notes.append(
                "has numbers that DOUBLE rounds, and more digits than a DECIMAL has,"
                f" in {name}"
            )
            continue
        kind = T.DecimalType(_DECIMAL_DIGITS, numbers.behind)
        schema = _with_type(schema, path, kind)
        notes.append(
            f"has numbers that DOUBLE would round, so they are {kind.simpleString()},"
            f" in {name}"
        )
    return schema, notes


def _look_at_numbers(path: _Path) -> Column:
    """Return an aggregate: how the numbers at the end of a way are written in JSON.

    It is a struct of the most `digits` that count, the most digits `before` and
    `behind` the point, and `has_other`: one has an exponent.
    """

    def before(text: Column) -> Column:
        return F.length(F.regexp_extract(text, r"^-?(\d*)", 1))

    def behind(text: Column) -> Column:
        return F.length(F.regexp_extract(text, r"\.(\d*)", 1))

    return F.struct(
        _largest(path, lambda text: F.length(_digits(text))).alias("digits"),
        _largest(path, before).alias("before"),
        _largest(path, behind).alias("behind"),
        _largest(path, lambda text: ~text.rlike(r"^-?[\d.]+$")).alias("has_other"),
    )


def _paths(kind: T.DataType, wanted: type[T.DataType]) -> list[_Path]:
    """Return the paths to each `wanted` type within a JSON type.

    Fields that Spark cannot tell apart, by their case alone, are left out.
    """
    if isinstance(kind, wanted):
        return [()]
    if isinstance(kind, T.ArrayType):
        return [(None, *rest) for rest in _paths(kind.elementType, wanted)]
    if not isinstance(kind, T.StructType):
        return []
    paths: list[_Path] = []
    names = [name.lower() for name in kind.names]
    for field in kind.fields:
        if names.count(field.name.lower()) == 1:
            inside = _paths(field.dataType, wanted)
            paths += [(field.name, *rest) for rest in inside]
    return paths


def _with_type(kind: Any, path: Sequence[str | None], new: T.DataType) -> Any:
    """Return a type with another one at the end of a way."""
    if not path:
        return new
    step, *rest = path
    if step is None:
        return T.ArrayType(_with_type(kind.elementType, rest, new))
    changed = T.StructType()
    for field in kind.fields:
        inner = field.dataType
        if field.name == step:
            inner = _with_type(inner, rest, new)
        changed.add(field.name, inner)
    return changed


def _largest(path: _Path, look: Callable[[Column], Column]) -> Column:
    """Return an aggregate: the largest result of a function of the values at the end of a way."""

    def within(value: Column, rest: Sequence[str | None]) -> Column:
        if not rest:
            return look(value)
        step, *after = rest
        if step is None:
            return F.array_max(F.transform(value, lambda one: within(one, after)))
        return within(value.getField(step), after)

    return F.max(within(column(str(path[0])), path[1:]))


def _digits(text: Column) -> Column:
    """Return the digits of a number that count."""
    return F.regexp_replace(text, r"[eE].*|^[-+0.]+|\.|0+$", "")


def _of_csv(read: partial[DataFrame]) -> tuple[T.StructType, list[str]]:
    """Return the schema of CSV files, and notes on their separator and header."""
    texts = read(inferschema=False)
    first = _first_fields(texts)
    if len(first) == 1 and "sep" not in read.keywords:
        other = _SEPARATOR.search(first[0] or "")
        if other:
            sep = other[0]
            schema, notes = _of_csv(partial(read, sep=sep))
            advice = f"has {sep!r} between its values; read it with {sep=}"
            return schema, [advice, *notes]
    if "header" in read.keywords or not _may_be_names(texts.sparkSession, first):
        return _typed(read)
    schema, notes = _typed(partial(read, header=True))
    if not _are_names(first, schema, notes):
        schema, notes = _typed(read)
        if not notes and _is_all_text(schema):
            # Nothing shows whether line 1 has names.
            notes = ["is all text; if line 1 has names, read it with header=True"]
        return schema, notes
    # Spark makes a name of its own for one that is empty or there twice, as pandas
    # writes one for the index.
    are_same = all(
        name == field for name, field in zip(schema.names, first, strict=False)
    )
    advice = "header=True" if are_same else "header=True, enforceSchema=True"
    return schema, [f"has names in line 1; read it with {advice}", *notes]


def _first_fields(texts: DataFrame) -> list[str | None]:
    """Return the fields of the first line, without the values of partitions."""
    line = texts.first() or ()
    return [
        field
        for name, field in zip(texts.columns, line, strict=False)
        if re.match(r"_c\d", name)
    ]


def _may_be_names(spark: SparkSession, first: list[str | None]) -> bool:
    """Return whether line 1 can have names: no number, date or boolean, and a text."""
    fields = [field for field in first if field and not _may_be_a_value(field)]
    as_line = F.lit("\x01".join(fields) or "1")
    types_of = F.schema_of_csv(as_line, {"sep": "\x01"})
    [[ddl]] = spark.range(1).select(types_of).collect()
    texts = str(ddl).count(": STRING")
    return texts > 0 and texts == len(fields)


def _may_be_a_value(field: str) -> bool:
    """Return whether a text that can be a name also stands for a missing value or no number."""
    return field in _MISSING or _NO_NUMBER.fullmatch(field) is not None


def _are_names(first: list[str | None], schema: T.StructType, notes: list[str]) -> bool:
    """Return whether line 1, whose fields can be names, has other values than the lines below.

    Args:
        first: the fields of line 1.
        schema: the types of the lines below it.
        notes: what is to be said of them.
    """
    unclear = [field is not None and _may_be_a_value(field) for field in first]
    if not any(unclear):
        return bool(notes) or not _is_all_text(schema)
    return any(
        not is_unclear and field.dataType != T.StringType()
        for is_unclear, field in zip(unclear, schema, strict=False)
    )


def _is_all_text(schema: T.StructType) -> bool:
    return {field.dataType for field in schema} <= {T.StringType()}


def _typed(read: partial[DataFrame]) -> tuple[T.StructType, list[str]]:
    """Return the types of the columns of CSV files, and notes on what they hold."""
    spark_schema = read().schema
    texts = read(inferschema=False)
    texts = texts.toDF(*(str(index) for index in range(len(spark_schema))))
    is_garbled = F.concat_ws("", *texts.columns).rlike(_GARBLED)
    [[rows, has_garbled, *texts_by_column]] = texts.agg(
        F.count(F.lit(1)), F.max(is_garbled), *map(_look_at_texts, texts.columns)
    ).collect()
    if _has_line_feeds(read, rows):
        line_ends = _line_ends(read)
        schema, notes = _typed(partial(read, multiline=True, **line_ends))
        advice = "".join(f", lineSep={end!r}" for end in line_ends.values())
        note = f"has quoted values with line feeds; read it with multiLine=True{advice}"
        return schema, [note, *notes]
    schema, notes = _corrected(read, spark_schema, texts_by_column)
    if has_garbled or re.search(_GARBLED, "".join(spark_schema.names)):
        notes = [_NOT_UTF8, *notes]
    return (schema if rows else T.StructType()), notes


def _corrected(
    read: partial[DataFrame], spark_schema: T.StructType, texts_by_column: Sequence[Row]
) -> tuple[T.StructType, list[str]]:
    """Infer types past one marker of a missing value in each column; codes of digits stay text.

    Args:
        read: reads the files.
        spark_schema: the schema that Spark finds.
        texts_by_column: what `_look_at_texts` found in each column.
    """

    @cache
    def types_past(marker: str) -> list[T.DataType]:
        return [field.dataType for field in read(nullvalue=marker).schema]

    kinds: list[T.DataType] = []
    missing: dict[str, str] = {}
    for index, (field, findings) in enumerate(
        zip(spark_schema, texts_by_column, strict=True)
    ):
        kind = field.dataType
        is_unclear = kind == T.StringType() and len(findings.markers) == 1
        if is_unclear and "nullvalue" not in read.keywords:
            [marker] = findings.markers
            kind = types_past(marker)[index]
            if kind != T.StringType():
                missing[field.name] = marker
        kinds.append(kind)
    unread = _unread(read, kinds)
    schema = T.StructType()
    stays_text: dict[str, list[str]] = {}
    for index, field in enumerate(spark_schema):
        kind = kinds[index]
        findings = texts_by_column[index]
        reason = _why_text(kind, findings, is_unread=index in unread)
        if reason is not None:
            kind = T.StringType()
            stays_text.setdefault(reason, []).append(field.name)
        schema.add(field.name, kind, field.nullable, field.metadata)
    notes = [_note_on_missing(missing)] if missing else []
    for reason, names in stays_text.items():
        notes.append(f"{reason} in {', '.join(names)}")
    return schema, notes


def _look_at_texts(name: str) -> Column:
    """Return an aggregate: what the texts of a column of a CSV file look like.

    It is a struct of the `markers` of missing values in the column, and two flags, each
    null without rows: `has_code` and `is_long` (a number has more digits than a DOUBLE
    keeps).
    """
    text = F.col(name)
    is_marker = text.isin(*_MISSING)
    return F.struct(
        F.collect_set(F.when(is_marker, text)).alias("markers"),
        F.max(text.rlike(_CODE)).alias("has_code"),
        F.max(F.length(_digits(text)) > _MOST_DIGITS).alias("is_long"),
    )


def _unread(read: partial[DataFrame], kinds: Sequence[T.DataType]) -> set[int]:
    """Return the places of columns with a text that `sources.csv` does not read as their type.

    Spark's own reader, which has found the type, cuts or guesses more.

    Args:
        read: reads the files.
        kinds: the types of all columns.
    """
    types: tuple[type[T.DataType], ...] = (T.DoubleType,)
    if _LEFT_TO_SPARK.isdisjoint(read.keywords):
        types = (*types, *_DATED)
    checked = {
        index: kind for index, kind in enumerate(kinds) if isinstance(kind, types)
    }
    if not checked:
        return set()
    named = [read.keywords[name] for name in NO_NUMBERS if name in read.keywords]
    texts = read(inferschema=False)
    texts = texts.toDF(*(str(index) for index in range(len(kinds))))
    unread = []
    for index, kind in checked.items():
        text = F.col(str(index))
        pattern = read.keywords.get(PATTERNS.get(type(kind), "").lower())
        is_unread = is_missing(typed(text, kind, pattern, zeros=True), kind)
        is_value = text.isNotNull() & ~text.isin(*_MISSING, *named)
        unread.append(F.max(is_value & is_unread))
    [flags] = texts.agg(*unread).collect()
    return {index for index, flag in zip(checked, flags, strict=True) if flag}


def _has_line_feeds(read: partial[DataFrame], rows: int) -> bool:
    """Return whether quoted values have line feeds, so that there are fewer rows than lines."""
    if "multiline" in read.keywords:
        return False
    return read(inferschema=False, multiline=True).count() < rows


def _note_on_missing(missing: dict[str, str]) -> str:
    """Return a note on the markers of missing values, by the names of their columns."""
    markers = sorted({*missing.values()})
    columns = ", ".join(missing)
    if len(markers) == 1:
        [nulls] = markers
        return f"has {nulls} for NULL in {columns}; read it with {nulls=}"
    return (
        f"has {', '.join(markers)} for NULL in {columns}; read its lines"
        f" (quarantine.parse_csv) with nulls={markers}"
    )


def _why_text(kind: T.DataType, findings: Row, *, is_unread: bool) -> str | None:
    """Return why a column stays text though Spark finds a type; None if it does not.

    Args:
        kind: the type that Spark finds.
        findings: what `_look_at_texts` found in the column.
        is_unread: whether the column has a text that a source does not read as `kind`.
    """
    is_dated = isinstance(kind, _DATED)
    if findings.has_code and (is_dated or isinstance(kind, T.NumericType)):
        return _CODES
    if findings.is_long and isinstance(kind, T.DoubleType):
        return _LONG
    if is_unread:
        if is_dated:
            return _OTHER_TIMES
        return _OTHER_NUMBERS
    return None


def _line_ends(read: partial[DataFrame]) -> dict[str, str]:
    """Return the option for line ends that `sources.csv` needs; {} for the default."""
    if "linesep" in read.keywords:
        return {}
    spark, place, _ = read.args
    first = spark.read.text(place, lineSep="\n").first()
    # In UTF-16 a zero byte follows.
    if first is not None and first[0].rstrip("\0").endswith("\r"):
        return {"linesep": "\r\n"}
    return {}


def format_of(path: str) -> str:
    """Return the format of the first file at a path: by its name, or csv."""
    local = file_system.plain(path)
    first = path
    if local:
        first = min(glob(local), default=path)  # noqa: PTH207 - also of a relative path
    top = Path(first)
    files = [file for file in top.rglob("[!._]*") if file.is_file()]
    suffixes = min(files, default=top).suffixes
    for suffix in reversed(suffixes):
        if suffix.lower() in _BY_NAME:
            return _BY_NAME[suffix.lower()]
    return "csv"
