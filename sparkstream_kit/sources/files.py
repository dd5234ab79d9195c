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

Spark takes a path with one of `* ? [ ] { } \` for a pattern. In a batch of several files each such name makes
it read all the others once more (SPARK-58518, Spark 3.4.1 and later); in a batch of its own the file is read
once. And Hadoop cannot open a local file with a colon in its name, because it looks for a checksum beside it.

So a source that finds such a name when it is made reads one file a batch. Any other source leaves such
names out, so that one that lands while the query runs cannot spoil a batch: it is read after the next start.

The order of files: Spark reads them by their times, and those of one time in the order of its listing.

Files that are copied together often have one time, to the millisecond. Spark lists a local folder in no
order, so that their rows may come in any order, and late for a watermark. A pattern is listed by names, as
HDFS and object stores list a folder.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructType

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._dry_run import stand_in
from sparkstream_kit._files import IN_ORDER
from sparkstream_kit._spark.place import locate, path_for, reached
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import Column, DataFrame, SparkSession


_log = logging.getLogger(__name__)

_PATTERN = r"*?[]{}\ ".strip()
_NOT_A_FOLDER = "input {} is a file; give the folder that it is in"

# Hadoop keeps one object for all local files, which looks for checksums; this one does not.
_WITHOUT_CHECKSUMS = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}


def readable(spark: SparkSession, path: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a path as Spark must be given it, and options with which each file counts once.

    A local folder that exists is meant as it is spelt, also where its name, or that of the working folder,
    looks like a pattern.

    Args:
        spark: the session.
        path: the path as the user wrote it.
        options: the other options of the source.

    Raises:
        InvalidInputError: there is a file at that path; or a link to the folder in itself, if subfolders are
            read, too.
    """
    options = {name.lower(): value for name, value in options.items()}
    # A path that this process can look at, too.
    local = None if locate(spark, path).folder is None else _files.plain(path)
    place, ours = path_for(spark, path), dict[str, Any]()
    if local is not None:
        whole = os.path.abspath(local)  # noqa: PTH100 - a path of any form
        if os.path.isfile(local):  # noqa: PTH113
            raise InvalidInputError(_NOT_A_FOLDER.format(path))
        if os.path.isdir(local) and _files.is_pattern(whole):  # noqa: PTH112
            # Spark itself gives the base of partition folders only where it sees no pattern.
            whole = _files.for_spark(Path(whole))
            place, ours = _files.escaped(whole), {"basePath": whole}
        elif _files.is_pattern(here := str(Path.cwd())) and not os.path.isabs(local):  # noqa: PTH117
            place = os.path.join(_files.escaped(_files.for_spark(Path(here))), local)  # noqa: PTH118
    recursive = _is_recursive(options)
    if local is not None and recursive and (link := _link_back(local)):
        raise InvalidInputError(
            f"input {path}: {link} is a link back into it, by which Spark would read its files again and "
            "again; remove the link"
        )
    found = list(ours.values()) or _misread(spark, place, options, is_local=local is not None)
    alone = recursive or str(options.get("maxfilespertrigger")) == "1"
    # No file of such a name is to come into a batch while the query runs.
    chars = "" if found else (":" if local is not None else "") + ("" if alone else _PATTERN)
    kept = _leaving_out(chars, str(options.get("pathglobfilter", "*"))) if chars else None
    where = os.path.abspath(_files.plain(place) or place)  # noqa: PTH100
    _files.left_out[where] = None if recursive else chars if kept else ""
    if kept:
        return place, {"pathGlobFilter": kept}
    if found and not alone:
        _log.warning(
            "%s is read one file a batch: beside %s Spark would count the other files of a batch twice; "
            "give it a name without * ? [ ] { } \\ and :",
            path,
            found[0],
        )
    if not alone:
        ours["maxFilesPerTrigger"] = 1
    return place, ours | (_WITHOUT_CHECKSUMS if local is not None and found else {})


def _is_recursive(options: Mapping[str, Any]) -> bool:
    """Say whether Spark lists each file once, as it does only then."""
    return str(options.get("recursivefilelookup")).lower() == "true"


def _misread(spark: SparkSession, path: str, options: dict[str, Any], *, is_local: bool) -> list[str]:
    """Return the files there that Spark would misread."""
    local = _files.plain(path) if is_local else None
    if local is None or set(local) & set("{}\\"):  # Python's patterns lack these
        return [name for name in _by_spark(spark, path, options) if _files.is_pattern(name)]
    tops = glob.glob(local)  # noqa: PTH207 - of an absolute path or a relative one
    if not tops and _files.is_pattern(local):
        _log.warning("input %s: nothing matches this pattern yet", path)
    files = [name for top in tops for name in _files_under(top, recursive=_is_recursive(options))]
    found = [name for name in files if _files.is_pattern(name) or ":" in name.rpartition("/")[2]]
    if found and "pathglobfilter" in options:
        read = set(_by_spark(spark, path, options))
        return [name for name in found if os.path.abspath(name) in read]  # noqa: PTH100
    return found


def _files_under(top: str, *, recursive: bool) -> Iterator[str]:
    """Return the files that Spark reads there: also those in partition folders (`day=1`)."""
    if os.path.isfile(top):  # noqa: PTH113
        yield top
    for entry in _files.below(top, recursive=recursive):
        if not _files.is_hidden(entry.name) and not entry.is_dir():
            yield entry.path


def _link_back(folder: str) -> str | None:
    """Return a link to a folder that is read anyway, or that holds the link."""
    top = os.path.realpath(folder)
    for root, folders, _ in os.walk(top):  # follows no link
        for name in folders:
            path = os.path.join(root, name)  # noqa: PTH118
            real = os.path.realpath(path)
            inside = real == top or real.startswith(f"{top}/") or top.startswith(f"{real}/")
            if inside and os.path.islink(path) and not name.startswith((".", "_")):  # noqa: PTH114
                return path
    return None


def _by_spark(spark: SparkSession, path: str, options: dict[str, Any]) -> list[str]:
    """Return the paths of the files there, without what stands before the first folder."""
    given: dict[str, Any] = {}
    if not _files.is_pattern(path):
        given = {"pathglobfilter": r"*[\*\?\[\]\{\}\\]*", "basepath": path}
    for name in {"pathglobfilter", "recursivefilelookup"} & set(options):
        given[name] = options[name]
    try:
        uris = spark.read.format("binaryFile").options(**given).load(path).inputFiles()
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND" or not _files.is_pattern(path):
            raise
        _log.warning("input %s: nothing matches this pattern yet", path)
        return []
    except IllegalArgumentException as err:
        if "'basePath' must be a directory" not in str(err):
            raise
        raise InvalidInputError(_NOT_A_FOLDER.format(path)) from None
    return [unquote(re.sub(r"^[^:/]*:(//[^/]*)?", "", uri)) for uri in uris]


def _leaving_out(chars: str, pattern: str) -> str | None:
    """Return a pattern for `pathGlobFilter` without names that have one of these characters.

    It is nested, a character deep for each of a name, as such a pattern cannot say "and so on" of a set.

    Returns:
        None for a pattern that asks for such characters, or for all but some.
    """
    one = "[^" + re.sub(r"(\W)", r"\\\1", chars) + "]"
    parts = {"*": f"{{,{one}" * _files.LONGEST_NAME + "*" + "}" * _files.LONGEST_NAME, "?": one}
    written = re.split(r"(\\.|\[[^]]*\]|[*?])", pattern)
    for part in written[1::2]:
        if part not in parts and (part[1:2] in "!^" or any(char in chars for char in part[1:-1] or part[1:])):
            return None
    return "".join(parts.get(part, part) for part in written)


# From so many paths on, Spark lists them in a job of as many tasks, before each batch.
_JOBS_FROM = "spark.sql.sources.parallelPartitionDiscovery.threshold"


def by_name(
    spark: SparkSession, path: str, place: str, options: Mapping[str, Any]
) -> tuple[str, Column | None]:
    """Return the path by which Spark lists the files of a folder by their names, where that matters.

    A pattern for the files of a folder matches its subfolders, too, so that their files must be left out.

    Args:
        spark: the session.
        path: the path as the user wrote it.
        place: the same as Spark must be given it.
        options: all options of the source.

    Returns:
        The path, and the rows to keep. It is `place`, and None, where no two files have one time, where a
        batch takes them all, or where no pattern does: with subfolders that are read, with a pattern of the
        user's, with a colon in a name, and where Spark would start a job to list so many paths.
    """
    folder = locate(spark, path).folder
    if folder is None or not folder.is_dir():
        return place, None
    given = {name.lower(): str(value) for name, value in options.items()}
    with os.scandir(folder) as entries:
        found = list(entries)
    files = [entry for entry in found if entry.is_file() and not _files.is_hidden(entry.name)]
    below = _is_recursive(given) or any("=" in entry.name for entry in found if entry.is_dir())
    # Hadoop fails at a pattern in a folder with such a name (HADOOP-14217).
    has_colon = any(":" in entry.name for entry in found)
    most = int(spark.conf.get(_JOBS_FROM) or 0)
    if below or has_colon or len(found) > most or not _split_ties(files, given):
        return place, None
    depth = len(folder.parts) - 1
    only = F.col("_metadata.file_path").rlike(f"^file:/+([^/]+/){{{depth}}}[^/]+$")
    return place.rstrip("/") + IN_ORDER, only


def _split_ties(files: list[os.DirEntry[str]], options: Mapping[str, str]) -> bool:
    """Say whether some files have one time, and a batch does not take them all."""
    times, size = Counter[int](), 0
    for file in files:
        with suppress(FileNotFoundError):  # it went at this moment
            told = file.stat()
            times[told.st_mtime_ns // 1_000_000] += 1
            size += told.st_size
    if max(times.values(), default=0) < 2:  # noqa: PLR2004 - a tie is of two
        return False
    most_files, most_bytes = options.get("maxfilespertrigger"), options.get("maxbytespertrigger", "")
    if most_files is not None:
        return not most_files.isdigit() or int(most_files) < len(files)
    return not most_bytes.isdigit() or int(most_bytes) < size


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
    lines with `quarantine.parse_csv`, which gives each bad line a reason. `run` reports what is lost, in its
    summary and by a verdict: how many rows have NULL in every column that the query reads (where it
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

    Examples:
        In a session::

            sales = sources.csv(spark, "incoming", schema="product STRING, amount INT")
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
    parse the lines with `quarantine.parse_json`. `run` reports rows and columns without a value, from a
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

    Examples:
        In a session::

            events = sources.json(spark, "events", schema="time TIMESTAMP, action STRING")
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

    Examples:
        In a session::

            sales = sources.parquet(spark, "incoming", schema="product STRING, amount INT")
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

    Examples:
        In a session::

            sales = sources.orc(spark, "incoming", schema="product STRING, amount INT")
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

    Examples:
        In a session::

            lines = sources.text(spark, "incoming", max_files_per_trigger=1)
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
    builtin.check_options(file_format, options, ["max_files_per_trigger", "schema"])
    builtin.check_number("max_files_per_trigger", max_files)
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
            place, ours = readable(spark, given_path, options)
            given = _merged(options, ours)
            place, only = by_name(spark, given_path, place, given)
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
