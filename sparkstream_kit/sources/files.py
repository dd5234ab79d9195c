r"""Folders of files, read as they arrive: CSV, JSON, text, Parquet and ORC.

Spark reads each file once, in the order of modification times, and remembers it by its path: a file that is
overwritten or appended to is not read again, and the same content under another name counts twice. Land
files whole: write under a name that begins with a dot or underscore, then rename. Files in subfolders are not
read, but for partition folders (`day=1`) and with `recursiveFileLookup=True`.

A batch takes files until it has 256 MiB of them, so that a backlog is read neither a file at a time, which
takes several times as long, nor all at once; `max_files_per_trigger` counts files instead, and
`maxBytesPerTrigger=64 * 1024**2` is another amount. Where a file's name has one of `* ? [ ] { } \`, the
source takes one file in each batch, as Spark would count the others of its batch twice (SPARK-58518). A file
of such a name that lands while the query runs is read after the query's next start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.sql.types import StringType, StructType

from sparkstream_kit._arguments import check
from sparkstream_kit._dry_run import stand_in
from sparkstream_kit._spark.files import reached
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources import _names, _options

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

__all__ = ["csv", "json", "orc", "parquet", "text"]

_BYTES = 256 * 1024**2
_LINES = StructType().add("value", StringType())


def csv(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of CSV files; replayable, so exactly once up to the sink.

    A value that does not parse becomes null without a word; where that matters, read the files with
    `text` and parse the lines with `quarantine.parse_csv`.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL ("ProductKey STRING, SaleAmount DECIMAL(12,2)").
        max_files_per_trigger: the most files that one batch reads, in place of an amount of bytes.
        **options: further options of Spark's CSV reader and file source by Spark's own names (`header=True`,
            `maxFileAge="30d"`, `pathGlobFilter="*.csv"`). An option that Spark does not know is passed on
            with a warning.

    Returns:
        A streaming DataFrame with the columns of `schema`.

    Raises:
        InvalidInputError: the folder does not exist or is a file, the schema cannot be read, or a keyword or
            an option is misspelt.
    """
    check(csv, locals())
    return _read(spark, "csv", path, schema, max_files_per_trigger, options)


def json(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of JSON Lines files; replayable, so exactly once up to the sink.

    A renamed field is null, not an error. Arguments, result and errors are those of `csv`; `options` are
    those of Spark's JSON reader (`multiLine=True`).
    """
    check(json, locals())
    return _read(spark, "json", path, schema, max_files_per_trigger, options)


def parquet(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of Parquet files; replayable. Arguments, result and errors are those of `csv`."""
    check(parquet, locals())
    return _read(spark, "parquet", path, schema, max_files_per_trigger, options)


def orc(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of ORC files; replayable. Arguments, result and errors are those of `csv`."""
    check(orc, locals())
    return _read(spark, "orc", path, schema, max_files_per_trigger, options)


def text(
    spark: SparkSession, path: str | Path, *, max_files_per_trigger: int | None = None, **options: Any
) -> DataFrame:
    """Stream the lines of text files; replayable. Arguments and errors are those of `csv`.

    Returns:
        A streaming DataFrame with one column, `value` (string): a line without its line end.
    """
    check(text, locals())
    return _read(spark, "text", path, _LINES, max_files_per_trigger, options)


def _read(
    spark: SparkSession,
    file_format: str,
    path: str | Path,
    schema: StructType | str,
    max_files: int | None,
    options: dict[str, Any],
) -> DataFrame:
    _options.check(file_format, options, ["max_files_per_trigger", "schema"])
    _options.check_number("max_files_per_trigger", max_files)
    columns = from_ddl(schema) if isinstance(schema, str) else schema
    if max_files is not None:
        options = _merged(options, {"maxFilesPerTrigger": max_files})
    elif not {"maxfilespertrigger", "maxbytespertrigger"} & {name.lower() for name in options}:
        options = options | {"maxBytesPerTrigger": _BYTES}
    try:
        with reached("input", str(path)):
            place, ours = _names.readable(spark, stand_in(str(path)) or str(path), options)
            given = _merged(options, ours)
            frame = spark.readStream.format(file_format).schema(columns).options(**given).load(place)
            frame.schema  # noqa: B018 - Connect looks for the path only now
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        raise InvalidInputError(
            f"input folder {path} does not exist; create it or correct the path"
        ) from None
    return frame


def _merged(options: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Return the options with others in their place, whatever their upper and lower case."""
    replaced = {name.lower() for name in others}
    if "maxfilespertrigger" in replaced:
        replaced.add("maxbytespertrigger")  # Spark takes one of the two
    return {name: value for name, value in options.items() if name.lower() not in replaced} | others
