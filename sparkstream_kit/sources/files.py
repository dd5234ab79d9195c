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

Files of one modification time, as `cp` and `unzip` leave them, are read in the order of their names, where a
batch does not take all files that are there; Spark itself reads them in no order. `docs/watermarks.md` says
where that cannot be. A source that does so ends its query, with an error, at a name with a colon that lands
while the query runs; the next start reads all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.sql.types import StringType, StructType

from sparkstream_kit._arguments import check
from sparkstream_kit._dry_run import stand_in
from sparkstream_kit._spark.place import reached
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources import _names, _options, _order

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
    schema: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of CSV files; replayable, so exactly once up to the sink.

    Spark makes NULL of a value that it cannot read. To lose none, read the files with `text` and parse the
    lines with `quarantine.parse_csv`, which gives each bad line a reason. What is lost here `run` tells, in
    its summary and by a verdict: how many rows have NULL in every column that the query reads (where it
    reads a single one, only broken lines and rows without any value count), and which columns that it reads
    are NULL in all rows of the run and of earlier runs, from 100 rows on. A wrong value beside right ones in
    its row is not seen, nor is what a query reads that `start` has not started.

    For that the files are looked at beside the stream, after ten seconds, then each minute, and at the end
    unless a signal ends the run: all rows of up to 32 files of 4 MiB together since the last look; of more,
    the first 1,000 rows of eight files, so that a few broken lines in large files can be missed. Files are
    looked at where the checkpoint is on this machine or there is none; with none, those in the folder. (To
    count in the stream itself took 11 % more CPU for 2 columns of 12, and 74 to 86 % for all of them.)

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL ("ProductKey STRING, SaleAmount DECIMAL(12,2)");
            `sparkstream schema FILE` prints one for a sample, as `schemas.infer` returns it.
        max_files_per_trigger: the most files that one batch reads. Default: as many as have 256 MiB together.
        **options: further options of Spark's CSV reader and file source by Spark's own names (`header=True`,
            `maxFileAge="30d"`, `pathGlobFilter="*.csv"`). An option that Spark does not know is passed on
            with a warning.

    Returns:
        A streaming DataFrame with the columns of `schema`.

    Raises:
        InvalidInputError: the folder does not exist or is a file, the schema is missing or cannot be read, or
            a keyword or an option is misspelt.
    """
    check(csv, locals())
    return _read(spark, "csv", path, schema, max_files_per_trigger, options)


def json(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of JSON Lines files; replayable, so exactly once up to the sink.

    A renamed field and a broken line are NULL, not an error. To lose none, read the files with `text` and
    parse the lines with `quarantine.parse_json`. `run` tells of rows and columns without a value, from a
    look at the files or at a sample of them, with the limits that `csv` has.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        max_files_per_trigger: the most files that one batch reads. Default: as many as have 256 MiB together.
        **options: further options of Spark's JSON reader and file source by Spark's own names
            (`multiLine=True`).

    Returns:
        A streaming DataFrame with the columns of `schema`.

    Raises:
        InvalidInputError: as for `csv`.
    """
    check(json, locals())
    return _read(spark, "json", path, schema, max_files_per_trigger, options)


def parquet(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of Parquet files; replayable, so exactly once up to the sink.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        max_files_per_trigger: the most files that one batch reads. Default: as many as have 256 MiB together.
        **options: further options of Spark's Parquet reader and file source by Spark's own names
            (`maxFileAge="30d"`).

    Returns:
        A streaming DataFrame with the columns of `schema`.

    Raises:
        InvalidInputError: as for `csv`.
    """
    check(parquet, locals())
    return _read(spark, "parquet", path, schema, max_files_per_trigger, options)


def orc(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of ORC files; replayable, so exactly once up to the sink.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        max_files_per_trigger: the most files that one batch reads. Default: as many as have 256 MiB together.
        **options: further options of Spark's ORC reader and file source by Spark's own names
            (`maxFileAge="30d"`).

    Returns:
        A streaming DataFrame with the columns of `schema`.

    Raises:
        InvalidInputError: as for `csv`.
    """
    check(orc, locals())
    return _read(spark, "orc", path, schema, max_files_per_trigger, options)


def text(
    spark: SparkSession, path: str | Path, *, max_files_per_trigger: int | None = None, **options: Any
) -> DataFrame:
    """Stream the lines of text files; replayable, so exactly once up to the sink.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        max_files_per_trigger: the most files that one batch reads. Default: as many as have 256 MiB together.
        **options: further options of Spark's text reader and file source by Spark's own names
            (`wholetext=True`).

    Returns:
        A streaming DataFrame with one column, `value` (string): a line without its line end.

    Raises:
        InvalidInputError: as for `csv`.
    """
    check(text, locals())
    if "schema" in {name.lower() for name in options}:
        raise InvalidInputError(
            "sources.text() takes no schema: its one column is value, a line; give the schema to sources.csv "
            "or sources.json, or parse the lines (quarantine.parse_csv, parse_json)"
        )
    return _read(spark, "text", path, _LINES, max_files_per_trigger, options)


def _read(
    spark: SparkSession,
    file_format: str,
    path: str | Path,
    schema: StructType | str | None,
    max_files: int | None,
    options: dict[str, Any],
) -> DataFrame:
    _options.check_options(file_format, options, ["max_files_per_trigger", "schema"])
    _options.check_number("max_files_per_trigger", max_files)
    if schema is None:
        raise InvalidInputError(
            f"sources.{file_format}() needs a schema: give schema='name STRING, amount INT' or a StructType; "
            f"`sparkstream schema {path}` prints that of the files"
        )
    columns = from_ddl(schema) if isinstance(schema, str) else schema
    if max_files is not None:
        options = _merged(options, {"maxFilesPerTrigger": max_files})
    elif not {"maxfilespertrigger", "maxbytespertrigger"} & {name.lower() for name in options}:
        options = options | {"maxBytesPerTrigger": _BYTES}
    try:
        with reached("input", str(path)):
            given_path = stand_in(str(path)) or str(path)
            place, ours = _names.readable(spark, given_path, options)
            given = _merged(options, ours)
            place, only = _order.by_name(spark, given_path, place, given)
            frame = spark.readStream.format(file_format).schema(columns).options(**given).load(place)
            frame.schema  # noqa: B018 - Connect looks for the path only now
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        raise InvalidInputError(
            f"input folder {path} does not exist; create it or correct the path"
        ) from None
    return frame if only is None else frame.where(only)


def _merged(options: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Return the options with others in their place, whatever their upper and lower case."""
    replaced = {name.lower() for name in others}
    if "maxfilespertrigger" in replaced:
        replaced.add("maxbytespertrigger")  # Spark takes one of the two
    return {name: value for name, value in options.items() if name.lower() not in replaced} | others
