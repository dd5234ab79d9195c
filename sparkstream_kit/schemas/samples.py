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
from sparkstream_kit._internal.spark.place import path_for
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import InvalidInputError, reject_unknown, said_by_spark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession


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
# How a date or a time begins; Spark also takes a year and a month for one
_DAY = r"^\s*\d{4}-\d\d?-\d\d?"
# A text of JSON that is a time of a day, and that a source reads as TIMESTAMP as it is.
_MOMENT = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?$"
_MOST_DIGITS = 17  # of a number that is written as a DOUBLE
_DECIMAL_DIGITS = 38  # the most of a DECIMAL
# Why a column stays text.
_CODES = "has codes (01234, +49, 1E5) or times of a day, which stay text,"
_NO_DAY = "has times without a day (2026-01), which stay text,"
_LONG = (
    "has numbers that DOUBLE would round, which stay text (DECIMAL(38,30) holds 30"
    " places),"
)
_DATED = (T.DateType, T.TimestampType, T.TimestampNTZType)


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
    form = _format_of(path) if form is None else form
    reject_unknown("format", [form], _FORMATS)
    check_options(call, options, getattr(spark.read, form))
    tabs = {"sep": "\t"} if form == "csv" and path.lower().endswith(".tsv") else {}
    # Spark knows its options in any letters, and two of them by another name, too.
    other_names = {"delimiter": "sep", "charset": "encoding"}
    given = {
        other_names.get(name.lower(), name.lower()): value
        for name, value in options.items()
    }
    tabs = tabs if "sep" not in given else {}
    read = partial(_read, spark, path_for(spark, path), form, **{**tabs, **given})
    special = {"csv": _of_csv, "json": _of_json}.get(form)
    failed = f"cannot infer a {form} schema from {path}"
    try:
        with in_force(
            spark, {"spark.sql.sources.partitionColumnTypeInference.enabled": "false"}
        ):
            schema, notes = special(read) if special else (read().schema, [])
    except (PySparkException, Py4JJavaError) as error:
        raise InvalidInputError(
            f"{failed}: {said_by_spark(error)}; correct the path or the format"
        ) from error
    if not schema.fields:
        raise InvalidInputError(
            f"{failed}: it has no {form} rows in its encoding; give a file that has"
            " some"
        )
    for note in [
        *(f"has tabs between its values; read it with {sep=}" for sep in tabs.values()),
        *notes,
    ]:
        _log.warning("%s %s", path, note)
    return schema


def _read(
    spark: SparkSession,
    path: str,
    form: str,
    *,
    schema: T.StructType | None = None,
    **options: Any,
) -> DataFrame:
    as_sources_do = {"escape": '"', "inferschema": True} if form == "csv" else {}
    reader = spark.read.format(form).options(**{**as_sources_do, **options})
    return (reader if schema is None else reader.schema(schema)).load(path)


def _of_json(read: partial[DataFrame]) -> tuple[T.StructType, list[str]]:
    rows = read()
    known = T.StructType(
        [field for field in rows.schema.fields if field.name != "_corrupt_record"]
    )
    if len(known) == len(rows.schema):
        return _finer(read, known)
    # Spark reads each object that has a line of its own, also in an array or in another
    # object. Those begin in line 1, which is then no object.
    if "multiline" not in read.keywords and (
        not known.fields or rows.take(1)[0]["_corrupt_record"]
    ):
        whole = partial(read, multiline=True)
        if "_corrupt_record" not in (known_whole := whole().schema).names:
            fix = (
                "write one object per line (jq -c '.[]' for an array, jq -c ."
                " otherwise)"
            )
            schema, notes = _finer(whole, known_whole)
            says = (
                f"has JSON over several lines; {fix}, or give multiLine=True if it is"
                " one value"
            )
            return schema, [says, *notes]
    schema, notes = _finer(read, known)
    return schema, [
        "has lines that are not JSON, or not UTF-8; the schema is that of the others",
        *notes,
    ]


# The way to a value in JSON: the names of the fields, and None for each element of an
# array.
_Path = tuple[str | None, ...]


def _finer(
    read: partial[DataFrame], known: T.StructType
) -> tuple[T.StructType, list[str]]:
    """Return a JSON schema with types that Spark does not find, and notes on them.

    The types are found at any depth.
    """
    if "primitivesasstring" in read.keywords:
        return known, []
    schema = known if "infertimestamp" in read.keywords else _with_times(read, known)
    return _with_decimals(read, schema)


def _with_times(read: partial[DataFrame], known: T.StructType) -> T.StructType:
    """Return a schema of JSON with TIMESTAMP for texts that are all times with their day."""
    paths = _paths(known, T.StringType)
    looks = [_largest(path, _is_moment) for path in paths]
    looks += [_largest(path, lambda text: ~_is_moment(text)) for path in paths]
    if not looks:
        return known
    [found] = read(schema=known).agg(*looks).collect()
    schema = known
    for path, has_time, has_other in zip(
        paths, found, found[len(paths) :], strict=False
    ):
        if has_time and not has_other:
            schema = _with_type(schema, path, T.TimestampType())
    return schema


def _is_moment(text: Column) -> Column:
    """Return whether a text is a time with its day, and one that there is; null for a null."""
    return text.rlike(_MOMENT) & (
        text.isNull() | text.try_cast("timestamp").isNotNull()
    )


def _with_decimals(
    read: partial[DataFrame], known: T.StructType
) -> tuple[T.StructType, list[str]]:
    """Return a JSON schema with DECIMAL for numbers that DOUBLE rounds, and notes.

    Such numbers have more digits than a DOUBLE keeps.
    """
    paths = _paths(known, T.DoubleType)
    if not paths:
        return known, []
    as_written = known
    for path in paths:
        as_written = _with_type(as_written, path, T.StringType())
    looks = [
        lambda text: F.length(_digits(text)),
        lambda text: F.length(F.regexp_extract(text, r"^-?(\d*)", 1)),
        lambda text: F.length(F.regexp_extract(text, r"\.(\d*)", 1)),
        lambda text: ~text.rlike(r"^-?[\d.]+$"),
    ]
    asked = [_largest(path, look) for path in paths for look in looks]
    [found] = read(schema=as_written).agg(*asked).collect()
    schema = known
    notes = []
    for at, path in enumerate(paths):
        digits, before, behind, has_other = found[4 * at : 4 * at + 4]
        if digits is None or digits <= _MOST_DIGITS:
            continue
        name = ".".join("[]" if step is None else step for step in path)
        if has_other or before + behind > _DECIMAL_DIGITS:
            notes.append(
                "has numbers that DOUBLE rounds, and more digits than a DECIMAL has,"
                f" in {name}"
            )
            continue
        kind = T.DecimalType(_DECIMAL_DIGITS, behind)
        schema = _with_type(schema, path, kind)
        notes.append(
            f"has numbers that DOUBLE would round, so they are {kind.simpleString()},"
            f" in {name}"
        )
    return schema, notes


def _paths(kind: T.DataType, wanted: type[T.DataType]) -> list[_Path]:
    """Return the paths to each `wanted` type within a JSON type.

    Fields that Spark cannot tell apart, by their case alone, are left out.
    """
    if isinstance(kind, wanted):
        return [()]
    if isinstance(kind, T.ArrayType):
        return [(None, *rest) for rest in _paths(kind.elementType, wanted)]
    found: list[_Path] = []
    if isinstance(kind, T.StructType):
        names = [name.lower() for name in kind.names]
        for field in kind.fields:
            if names.count(field.name.lower()) == 1:
                found += [
                    (field.name, *rest) for rest in _paths(field.dataType, wanted)
                ]
    return found


def _with_type(kind: Any, path: Sequence[str | None], new: T.DataType) -> Any:
    """Return a type with another one at the end of a way."""
    if not path:
        return new
    step, *rest = path
    if step is None:
        return T.ArrayType(_with_type(kind.elementType, rest, new))
    changed = T.StructType()
    for field in kind.fields:
        inner = (
            _with_type(field.dataType, rest, new)
            if field.name == step
            else field.dataType
        )
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
    texts = read(inferschema=False)
    line = texts.first()
    first = [
        value
        for name, value in zip(texts.columns, line or (), strict=False)
        if re.match(r"_c\d", name)
    ]
    if (
        len(first) == 1
        and "sep" not in read.keywords
        and (sep := _SEPARATOR.search(first[0] or ""))
    ):
        schema, notes = _of_csv(partial(read, sep=sep[0]))
        return schema, [
            f"has {sep[0]!r} between its values; read it with sep={sep[0]!r}",
            *notes,
        ]
    names = "header" not in read.keywords and _is_text(
        texts.sparkSession, [each for each in first if each]
    )
    schema, notes = _typed(partial(read, header=True) if names else read)
    if not names:
        return schema, notes
    if not notes and {field.dataType for field in schema} <= {T.StringType()}:
        return _typed(read)[0], [
            "is all text; if line 1 has names, read it with header=True"
        ]
    # Spark makes a name of its own for one that is empty or there twice, as pandas
    # writes one for the index.
    same = all(name == value for name, value in zip(schema.names, first, strict=False))
    how = "header=True" if same else "header=True, enforceSchema=True"
    return schema, [f"has names in line 1; read it with {how}", *notes]


def _is_text(spark: SparkSession, fields: list[str]) -> bool:
    """Return whether all fields are text: no number, date, boolean or missing value."""
    types_of = F.schema_of_csv(F.lit("\x01".join(fields) or "1"), {"sep": "\x01"})
    [[ddl]] = spark.range(1).select(types_of).collect()
    return str(ddl).count(": STRING") == len(fields) > 0 and {*fields}.isdisjoint(
        _MISSING
    )


def _typed(read: partial[DataFrame]) -> tuple[T.StructType, list[str]]:
    """Infer types past one marker of a missing value in each column; codes of digits stay text."""
    schema = read().schema
    texts = read(inferschema=False)
    texts = texts.toDF(*map(str, range(len(schema))))
    looks = [F.count(F.lit(1)), F.max(F.concat_ws("", *texts.columns).rlike(_GARBLED))]
    for text in map(F.col, texts.columns):
        looks += [
            F.collect_set(F.when(text.isin(*_MISSING), text)),
            F.max(text.rlike(_CODE)),
            F.max(~text.isin(*_MISSING) & ~text.rlike(_DAY)),
            F.max(F.length(_digits(text)) > _MOST_DIGITS),
        ]
    [[rows, garbled, *seen]] = texts.agg(*looks).collect()
    if (
        "multiline" not in read.keywords
        and read(inferschema=False, multiline=True).count() < rows
    ):
        ends = _line_ends(read)
        schema, notes = _typed(partial(read, multiline=True, **ends))
        how = "".join(f", lineSep={end!r}" for end in ends.values())
        return schema, [
            f"has quoted values with line feeds; read it with multiLine=True{how}",
            *notes,
        ]
    past = cache(lambda marker: read(nullvalue=marker).schema)
    missing: dict[str, str] = {}
    stays_text: dict[str, list[str]] = {_CODES: [], _NO_DAY: [], _LONG: []}
    notes = []
    has_pattern = not {"dateformat", "timestampformat"}.isdisjoint(
        map(str.lower, read.keywords)
    )
    if garbled or re.search(_GARBLED, "".join(schema.names)):
        notes.append(
            "may not be UTF-8; if it is windows-1252, as Excel writes on Windows,"
            " convert it: iconv -f "
            "windows-1252 -t UTF-8 IN > OUT; else give encoding='ISO-8859-1', or"
            " 'UTF-16', multiLine=True "
            r"and lineSep='\r\n'"
        )
    for at, field in enumerate(schema):
        markers, code, no_day, is_long = seen[4 * at : 4 * at + 4]
        if (
            len(markers) == 1
            and field.dataType == T.StringType()
            and "nullvalue" not in read.keywords
        ):
            field.dataType = past(markers[0])[at].dataType
            missing |= (
                {} if field.dataType == T.StringType() else {field.name: markers[0]}
            )
        no_date = no_day and not has_pattern
        why = _why_text(
            field.dataType, has_code=code, has_no_date=no_date, is_long=is_long
        )
        if why is not None:
            field.dataType = T.StringType()
            stays_text[why].append(field.name)
    if missing:
        markers = sorted({*missing.values()})
        nulls = markers[0] if len(markers) == 1 else markers
        call = "it" if len(markers) == 1 else "its lines (quarantine.parse_csv)"
        notes.append(
            f"has {', '.join(markers)} for NULL in {', '.join(missing)}; read {call}"
            f" with {nulls=}"
        )
    notes += [
        f"{why} in {', '.join(names)}" for why, names in stays_text.items() if names
    ]
    # Of the types as they are now
    return T.StructType(schema.fields if rows else []), notes


def _why_text(
    kind: T.DataType, *, has_code: bool, has_no_date: bool, is_long: bool
) -> str | None:
    """Return why a column stays text though Spark finds a type; None if it does not."""
    is_dated = isinstance(kind, _DATED)
    if has_code and (is_dated or isinstance(kind, T.NumericType)):
        return _CODES
    if has_no_date and is_dated:
        return _NO_DAY
    if is_long and isinstance(kind, T.DoubleType):
        return _LONG
    return None


def _line_ends(read: partial[DataFrame]) -> dict[str, str]:
    """Return the option for line ends that `sources.csv` needs; {} for the default."""
    if "linesep" in read.keywords:
        return {}
    spark, place, _ = read.args
    first = spark.read.text(place, lineSep="\n").first()
    # In UTF-16 a zero byte follows.
    is_windows = first is not None and first[0].rstrip("\0").endswith("\r")
    return {"linesep": "\r\n"} if is_windows else {}


def _format_of(path: str) -> str:
    """Return the format of the first file at a path: by its name, or csv."""
    local = file_system.plain(path)
    top = Path(min(glob(local), default=path) if local else path)  # noqa: PTH207 - also of a relative path
    first = min((each for each in top.rglob("[!._]*") if each.is_file()), default=top)
    return next(
        (
            _BY_NAME[end]
            for end in map(str.lower, first.suffixes[::-1])
            if end in _BY_NAME
        ),
        "csv",
    )
