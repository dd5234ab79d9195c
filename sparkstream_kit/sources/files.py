r"""Folders of files, read as they arrive: CSV, JSON, text, Parquet and ORC.

The public functions (`csv`, `json`, `orc`, `parquet`, `text`) check their arguments and
set up Spark's own file source. `sources.listing` chooses the path and the options with
which Spark counts each file once and reads them in order; `sources.strict` has the
rules of single values.

Spark reads each file once, in the order of modification times, and identifies a file by
its path. It does not read a file again that is overwritten or appended to, and it
counts the same content twice under two names. So make each file appear whole: write it
under a name that begins with a dot or an underscore, then rename it. Spark reads files
in subfolders only if these are partition folders (`day=1`) or with
`recursiveFileLookup=True`.

A batch takes up to 256 MiB of files. One file per batch would take several times as
long for a backlog, and a single batch could be too large. `max_files_per_trigger`
limits the number of files instead, and `maxBytesPerTrigger=64 * 1024**2` sets another
size.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from pyspark.errors import PySparkException
from pyspark.sql import types as T
from pyspark.sql.types import StructType

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check, check_options
from sparkstream_kit._internal.columns import column, shape_of
from sparkstream_kit._internal.spark.place import reached
from sparkstream_kit._internal.spark.session import as_schema
from sparkstream_kit.errors import InvalidInputError, reject_unknown, said_by_spark
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamReader


def csv(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    partitions: StructType | str | None = None,
    nulls: str | Sequence[str] | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    r"""Stream the rows of CSV files; replayable, so exactly once up to the sink.

    The files are read by RFC 4180: a quote within quotes is doubled, and a header must
    have the names of the schema in their order. A line that does not fit fails the
    query, with its file: one with too few or too many fields, or with a value that is
    not of its column's type. Spark does not convert the columns that the query does not
    use, so it does not check their values. `docs/files.md` lists what is checked.

    To go on at such a line, read the files with `text` and parse the lines with
    `quarantine.parse_csv`, which keeps each bad line with a reason. Or choose one of
    Spark's lenient ways:

    - `mode="PERMISSIVE"`: what does not fit is NULL, as in Spark. This is the default
      if the schema has the column `_corrupt_record` (string), which then has the line.
    - `multiLine=True`: a value in quotes may contain line feeds. Spark then cannot
      split a large file among several tasks. Give `lineSep="\r\n"`, too, if lines end
      so.
    - `escape="\\"`: a quote within quotes is written as `\"`.
    - `locale="de-DE"`: as a DECIMAL 2,50 is two and a half, and 2.50 fails.
    - `enforceSchema=True`: the names in the header are ignored.

    Files in windows-1252, as Excel writes on Windows, must be converted to UTF-8,
    because Spark does not read them: `iconv -f windows-1252 -t UTF-8 IN > OUT`.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns in the order of the fields, as a StructType or as DDL
            ("ProductKey STRING, SaleAmount DECIMAL(12,2)"); `sparkstream schema FILE`
            prints the schema of a sample file, as `schemas.infer` returns it.
        partitions: the columns in the names of subfolders (`day=1`), as a StructType or
            as DDL. Default: as they are found at the start, each a STRING with the text
            in the name; in a function of a pipeline, none. Give those of a folder that
            has none yet in the order in which they will be nested: Spark joins them by
            their place.
        nulls: the text that stands for a missing value, such as "NA"; an empty field is
            NULL, too. Spark knows one such text; `quarantine.parse_csv` takes a list.
        max_files_per_trigger: the most files that one batch reads. Default: files of
            256 MiB together.
        **options: further options of Spark's CSV reader and file source by Spark's own
            names (`header=True`, `maxFileAge="30d"`, `pathGlobFilter="*.csv"`). A name
            that is nearly a known option is refused; any other is passed to Spark
            unchecked.

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: the folder does not exist or is a file, it has a file that
            ends with .lz4 or .snappy, the schema is missing, cannot be read or has a
            type that a file cannot hold, or a keyword or an option is misspelt or has a
            value that Spark cannot use.

    Examples:
        In a session::

            sales = sources.csv(spark, "incoming", schema="product STRING, amount INT")
    """
    check(csv, locals())
    if nulls:
        marker = _only_marker(nulls)
        # "" is null, too
        options = {"emptyValue": marker, **options, "nullValue": marker}
    return _read_stream(
        spark, csv, path, schema, partitions, max_files_per_trigger, options
    )


def _only_marker(nulls: str | Sequence[str]) -> str:
    """Return the one text that stands for a missing value.

    Raises:
        InvalidInputError: there are several.
    """
    if isinstance(nulls, str):
        return nulls
    marker, *others = nulls
    if others:
        raise InvalidInputError(
            "sources.csv() takes one text for a missing value, not"
            f" {', '.join(nulls)}; give one, or read the lines with sources.text and"
            " give all to quarantine.parse_csv"
        )
    return marker


def json(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    partitions: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of JSON Lines files; replayable, so exactly once up to the sink.

    A line that is no JSON object, or has a value of another type than its column, fails
    the query, with its file; so does a value that is NULL or missing in a column that
    is NOT NULL in the schema. A field that a line lacks is NULL otherwise, and a field
    that the schema lacks is left out, so a renamed field is not noticed. Spark reads
    the first value of a line and ignores the text behind it, and keeps the last of two
    fields with the same name. `docs/files.md` lists what is checked.

    To go on at a bad line, or to notice all of this, read the files with `text` and
    parse the lines with `quarantine.parse_json`, which keeps each bad line with a
    reason. `mode="PERMISSIVE"` reads what does not fit as NULL, as Spark does; it is
    the default if the schema has the column `_corrupt_record` (string), which then has
    the line.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        partitions: the columns in the names of subfolders, as for `csv`.
        max_files_per_trigger: the most files that one batch reads. Default: files of
            256 MiB together.
        **options: further options of Spark's JSON reader and file source by Spark's own
            names (`multiLine=True` for files that are one array or one object over
            several lines).

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: as for `csv`.

    Examples:
        In a session::

            events = sources.json(spark, "events", schema="time TIMESTAMP, action STRING")
    """
    check(json, locals())
    return _read_stream(
        spark, json, path, schema, partitions, max_files_per_trigger, options
    )


def parquet(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    partitions: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of Parquet files; replayable, so exactly once up to the sink.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        partitions: the columns in the names of subfolders, as for `csv`.
        max_files_per_trigger: the most files that one batch reads. Default: files of
            256 MiB together.
        **options: further options of Spark's Parquet reader and file source by Spark's
            own names (`maxFileAge="30d"`).

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: as for `csv`.

    Examples:
        In a session::

            sales = sources.parquet(spark, "incoming", schema="product STRING, amount INT")
    """
    check(parquet, locals())
    return _read_stream(
        spark, parquet, path, schema, partitions, max_files_per_trigger, options
    )


def orc(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    partitions: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of ORC files; replayable, so exactly once up to the sink.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        partitions: the columns in the names of subfolders, as for `csv`.
        max_files_per_trigger: the most files that one batch reads. Default: files of
            256 MiB together.
        **options: further options of Spark's ORC reader and file source by Spark's own
            names (`maxFileAge="30d"`).

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: as for `csv`.

    Examples:
        In a session::

            sales = sources.orc(spark, "incoming", schema="product STRING, amount INT")
    """
    check(orc, locals())
    return _read_stream(
        spark, orc, path, schema, partitions, max_files_per_trigger, options
    )


def text(
    spark: SparkSession,
    path: str | Path,
    *,
    partitions: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the lines of text files; replayable, so exactly once up to the sink.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        partitions: the columns in the names of subfolders, as for `csv`.
        max_files_per_trigger: the most files that one batch reads. Default: files of
            256 MiB together.
        **options: further options of Spark's text reader and file source by Spark's own
            names (`wholetext=True`).

    Returns:
        A streaming DataFrame with `value` (string), a line without its line end, then
        the partition columns.

    Raises:
        InvalidInputError: as for `csv`.

    Examples:
        In a session::

            lines = sources.text(spark, "incoming", max_files_per_trigger=1)
    """
    check(text, locals())
    user_options = _by_lower_name(options)
    charset = user_options.get("charset", "UTF-8")
    encoding = str(user_options.get("encoding", charset))
    if encoding.lower() not in ("utf-8", "utf8"):
        raise InvalidInputError(
            f"sources.text() reads UTF-8; convert the files (iconv -f {encoding} -t"
            " UTF-8 IN > OUT) or, if they are ISO-8859-1, decode the lines:"
            " lines.withColumn('value', F.decode(F.col('value').cast('binary'),"
            " 'ISO-8859-1'))"
        )
    if "schema" in user_options:
        raise InvalidInputError(
            "sources.text() takes no schema: its one column is value, a line; give the"
            " schema to sources.csv or sources.json, or parse the lines"
            " (quarantine.parse_csv, parse_json)"
        )
    return _read_stream(
        spark, text, path, "value STRING", partitions, max_files_per_trigger, options
    )


def _read_stream(
    spark: SparkSession,
    call: Callable[..., DataFrame],
    path: str | Path,
    schema: StructType | str | None,
    partitions: StructType | str | None,
    max_files: int | None,
    options: dict[str, Any],
) -> DataFrame:
    """Return the stream of a folder's rows, for the public function `call`."""
    from sparkstream_kit.sources.listing import one_limit
    from sparkstream_kit.sources.strict import values_of

    kind = call.__name__
    check_options(call, options, getattr(spark.readStream, kind))
    builtin.check_number("max_files_per_trigger", max_files)
    if schema is None:
        raise InvalidInputError(
            f"sources.{kind}() needs a schema: give schema='name STRING, amount INT' or"
            f" a StructType; `sparkstream schema {path}` prints that of the files"
        )
    columns = as_schema(schema, spark)
    user_options = _by_lower_name(options)
    if max_files is not None:
        user_options["maxfilespertrigger"] = max_files
    values = values_of(spark, kind, columns, user_options)
    all_options = one_limit(values.strict_options() | values.options)
    read_as = values.schema()
    try:
        with reached("input", str(path)):
            frame = _stream(spark, kind, str(path), read_as, partitions, all_options)
            # On Connect, the server looks at the folders now
            shape = shape_of(frame)
    except PySparkException as err:
        refusal = _folders_that_differ(path, err)
        if refusal is None:
            raise
        raise InvalidInputError(refusal) from None
    exact = values.select(shape.names)
    if exact is not None:
        return frame.select(exact)
    if shape.is_whole:
        return frame
    # Without partition columns that are not declared, whose types Spark would guess
    return frame.select(*map(column, shape.names))


def _stream(
    spark: SparkSession,
    kind: str,
    path: str,
    columns: StructType,
    partitions: StructType | str | None,
    options: dict[str, Any],
) -> DataFrame:
    """Return the stream of a folder as Spark reads it, each file once and in order.

    Args:
        spark: the session.
        kind: the format.
        path: the path as the user wrote it.
        columns: the columns of the files, with the types as which Spark reads them.
        partitions: the columns in the names of folders, as the user declared them.
        options: all options of the source, with names in lower case.
    """
    from sparkstream_kit.sources.listing import by_name, readable

    place, to_read = readable(spark, kind, path, options)
    _refuse_wrong_options(to_read)
    to_load, condition = by_name(spark, path, place, to_read)
    reader = spark.readStream.format(kind).options(**to_read)
    declared: list[T.StructField] = []
    if partitions is not None:
        declared = as_schema(partitions, spark).fields
    frame = _load(reader, to_load, columns, declared)
    if condition is None:
        return frame
    return frame.where(condition)


def _folders_that_differ(path: str | Path, error: PySparkException) -> str | None:
    """Return what is wrong with an input's folders; None for other errors of Spark."""
    alike = "lay all files out alike, as in day=1/hour=2"
    meanings = {
        "CONFLICTING_": (
            f"input {path}: its folders of partitions differ in names or depth; {alike}"
        ),
        "EMPTY_PARTITION_": (
            f"input {path}: the folder of a partition has no value; {alike}"
        ),
        "INVALID_PARTITION_VALUE": (
            f"input {path}: {said_by_spark(error)}; declare it as STRING"
        ),
        "PATH_NOT_FOUND": f"input folder {path} {_why_not_found(str(path))}",
    }
    condition = str(error.getCondition())
    for begin, meaning in meanings.items():
        if condition.startswith(begin):
            return meaning
    return None


def _why_not_found(path: str) -> str:
    """Return why Spark does not find a folder: it may be the locale of its JVM."""
    local = file_system.plain(path)
    if local is not None and not local.isascii() and os.path.exists(local):  # noqa: PTH110 - a text
        return (
            "is there, but Spark's JVM cannot read its name in this locale; set"
            " LC_ALL=C.UTF-8 before Spark starts"
        )
    return "does not exist; create it or correct the path"


# Options that Spark reads only when the query runs: what each may be, as a pattern, and
# in words.
_WHOLE = (r"0*[1-9]\d*", "a whole number of 1 or more")
_SWITCH = ("true|false", "True or False")
_OF_STREAMS = {
    "cleanSource": ("archive|delete|off", "'archive', 'delete' or 'off'"),
    "discardCachedInputRatio": (r"0?\.\d+|[01](\.0*)?", "a number from 0 to 1"),
    "fileNameOnly": _SWITCH,
    "latestFirst": _SWITCH,
    "maxBytesPerTrigger": _WHOLE,
    "maxCachedFiles": (r"\d+", "a whole number"),
    "maxFileAge": (
        r"\d+(us|ms|s|m|min|h|d)?",
        "a number and Spark's letter of a unit, such as '12h' or '30d'",
    ),
    "maxFilesPerTrigger": _WHOLE,
}


def _refuse_wrong_options(options: Mapping[str, Any]) -> None:
    """Refuse an option of streams of files at which the running query would fail.

    Args:
        options: those that the user gave, with names in lower case.
    """
    for name, (pattern, allowed) in _OF_STREAMS.items():
        value = options.get(name.lower())
        if value is not None and not re.fullmatch(pattern, str(value), re.IGNORECASE):
            raise InvalidInputError(f"{name} is {value!r}; give {allowed}")


def _load(
    reader: DataStreamReader,
    place: str,
    columns: StructType,
    partitions: list[T.StructField],
) -> DataFrame:
    """Return the stream of a reader; a partition column that is not declared is a string.

    Spark would take the text in the names of folders for a number or a date where it
    looks like one, and fail at a later folder where it does not.

    Raises:
        InvalidInputError: there are folders of partitions, and a declared one is not
            among them.
    """
    # On Connect, only the schema of the frame makes Spark look for the path.
    frame = reader.schema(columns).load(place)
    names = shape_of(frame).names[len(columns) :]  # of the partitions that there are
    declared = [field.name.lower() for field in partitions]  # Spark ignores case
    if names:
        known_names = [name.lower() for name in (*names, *columns.names)]
        reject_unknown("partition", declared, known_names)
    texts = [
        T.StructField(name, T.StringType())
        for name in names
        if name.lower() not in declared
    ]
    if not partitions and not texts:
        return frame
    return reader.schema(StructType([*columns, *partitions, *texts])).load(place)


def _by_lower_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their names in lower case, as Spark compares them; but those of Hadoop."""
    by_name = {}
    for name, value in options.items():
        is_of_hadoop = "." in name
        by_name[name if is_of_hadoop else name.lower()] = value
    return by_name
