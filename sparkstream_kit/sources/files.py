r"""Folders of files, read as they arrive: CSV, JSON, text, Parquet and ORC.

The public functions (`csv`, `json`, `orc`, `parquet`, `text`) check their arguments and set up Spark's own
file source. `readable` chooses the options with which Spark counts each file once, and `by_name` the path
with which it reads files of the same modification time in the order of their names.

Spark reads each file once, in the order of modification times, and identifies a file by its path. It does not
read a file again that is overwritten or appended to, and it counts the same content twice under two names. So
make each file appear whole: write it under a name that begins with a dot or an underscore, then rename it.
Spark reads files in subfolders only if these are partition folders (`day=1`) or with
`recursiveFileLookup=True`.

A batch takes up to 256 MiB of files. One file per batch would take several times as long for a backlog, and
a single batch could be too large. `max_files_per_trigger` limits the number of files instead, and
`maxBytesPerTrigger=64 * 1024**2` sets another size.

Special characters in file names: Spark treats a path with one of `* ? [ ] { } \` as a pattern. In a batch of
several files, each such path makes Spark read all other files of the batch once more (SPARK-58518, Spark
3.4.1 and later); in a batch of its own the file is read once. Hadoop cannot open a local file with a colon in
its name, because it looks for a checksum file beside it. So a source that finds such a name when it is
created reads one file per batch. Any other source ignores such names, so that a file that arrives while the
query runs cannot spoil a batch: the query reads this file after its next start.

Order of files: Spark reads files with the same modification time in the order in which it lists them. Files
that are copied together, with `cp` or `unzip`, often have the same time to the millisecond. Spark lists a
local folder in no particular order, so rows of such files can arrive in any order and be late for a
watermark. Spark lists the matches of a pattern by name, as HDFS and object stores list a folder. So, if files
of a local folder have the same time and one batch does not take all files, the source gives Spark a pattern
in place of the folder; `docs/watermarks.md` lists the cases in which that is not possible. A query that reads
such a pattern fails when a file with a colon in its name arrives; after its next start it reads all files.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from contextlib import suppress
from functools import reduce
from operator import and_, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException, IllegalArgumentException, PySparkException
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, MapType, StringType, StructField, StructType, TimestampType

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column, holds
from sparkstream_kit._files import IN_ORDER
from sparkstream_kit._spark.place import locate, path_for, reached
from sparkstream_kit.errors import InvalidInputError, said_by_spark
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamReader


_log = logging.getLogger(__name__)

_PATTERN = r"*?[]{}\ ".strip()
_NOT_A_FOLDER = "input {} is a file; give the folder that it is in"

# By default Hadoop opens local files through one cached object, which looks for a checksum beside each file
# and so fails at a name with a colon. This class looks for none; with the cache it would not be used.
_WITHOUT_CHECKSUMS = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}


def readable(spark: SparkSession, path: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path and the options with which Spark counts each file of a folder once.

    A path that names an existing local folder means this folder, even if its name, or the name of the working
    folder, has the characters of a pattern: these characters are escaped.

    Args:
        spark: the session.
        path: the path as the user wrote it, a folder or a pattern for folders.
        options: the other options of the source; upper and lower case in their names do not matter.

    Returns:
        The path to load, and the options to add or replace: a `pathGlobFilter` that ignores names with
        special characters, or `maxFilesPerTrigger=1` if such names exist already, the path of an existing
        folder has such characters (then also `basePath`), or the user's own `pathGlobFilter` asks for them.

    Raises:
        InvalidInputError: the path is that of a file, or subfolders are read and the folder contains a link
            that leads back into it.
    """
    options = {name.lower(): value for name, value in options.items()}
    # The path in Python's form if this process can read it as well, else None. A relative path is relative to
    # the JVM's working folder, which can differ from Python's.
    given = None if locate(spark, path).folder is None else _files.plain(path)
    base = str(locate(spark, ".").folder)
    local = None if given is None else os.path.join(base, given)  # noqa: PTH118 - a pattern, too
    place, ours = path_for(spark, path), dict[str, Any]()
    if local is not None:
        whole = os.path.abspath(local)  # noqa: PTH100 - a path of any form
        if os.path.isfile(local):  # noqa: PTH113
            raise InvalidInputError(_NOT_A_FOLDER.format(path))
        if os.path.isdir(local) and _files.is_pattern(whole):  # noqa: PTH112
            # Spark finds the base of partition folders by itself only for a path that is no pattern.
            whole = _files.for_spark(Path(whole))
            place, ours = _files.escaped(whole), {"basePath": whole}
        elif _files.is_pattern(base) and local != given:
            place = os.path.join(_files.escaped(_files.for_spark(Path(base))), str(given))  # noqa: PTH118
    recursive = _is_recursive(options)
    if local is not None and recursive and (link := _link_back(local)):
        raise InvalidInputError(
            f"input {path}: {link} is a link back into it, by which Spark would read its files again and "
            "again; remove the link"
        )
    within = None if local is None else os.path.join(base, _files.plain(place) or place)  # noqa: PTH118
    found = list(ours.values()) or _misread(spark, place, within, options)
    alone = recursive or str(options.get("maxfilespertrigger")) == "1"
    # Ignore the special names that have not appeared yet, or a later file could spoil a batch of several.
    chars = "" if found else (":" if local is not None else "") + ("" if alone else _PATTERN)
    kept = _leaving_out(chars, str(options.get("pathglobfilter", "*"))) if chars else None
    if recursive:
        _files.read_whole.add(os.path.abspath(within or place))  # noqa: PTH100
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
    """Whether Spark reads all subfolders (`recursiveFileLookup`); only then it lists each file once."""
    return str(options.get("recursivefilelookup")).lower() == "true"


def _misread(spark: SparkSession, path: str, local: str | None, options: dict[str, Any]) -> list[str]:
    """Return the paths of the present files that Spark would misread because of a character in their names.

    Args:
        spark: the session.
        path: the path for Spark, a folder or a pattern.
        local: the same path if this process can list the files itself, which is faster than a Spark call.
        options: the options of the source, with names in lower case.
    """
    if local is None or set(local) & set("{}\\"):  # Python's glob does not know these
        return [name for name in _by_spark(spark, path, options) if _files.is_pattern(name)]
    tops = glob.glob(local)  # noqa: PTH207 - of an absolute path or a relative one
    if not tops and _files.is_pattern(local):
        _log.warning("input %s: nothing matches this pattern yet", path)
    for folder in {top if os.path.isdir(top) else os.path.dirname(top) for top in tops}:  # noqa: PTH112, PTH120
        if _files.is_pattern(local) and Path(folder, "_spark_metadata").exists():
            raise InvalidInputError(
                f"input {path} matches files that a query has written to {folder}, and for a pattern Spark "
                f"does not leave out what is not committed; give the folder {folder}"
            )
    files = [name for top in tops for name in _files_under(top, recursive=_is_recursive(options))]
    found = [name for name in files if _files.is_pattern(name) or ":" in name.rpartition("/")[2]]
    if found and "pathglobfilter" in options:
        read = set(_by_spark(spark, path, options))
        return [name for name in found if os.path.abspath(name) in read]  # noqa: PTH100
    return found


def _files_under(top: str, *, recursive: bool) -> Iterator[str]:
    """Yield the files that Spark reads in a folder, also those in its partition folders (`day=1`).

    For the path of a file, yield the path itself.
    """
    if os.path.isfile(top):  # noqa: PTH113
        yield top
    for entry in _files.below(top, recursive=recursive):
        if not _files.is_hidden(entry.name) and not entry.is_dir():
            yield entry.path


def _link_back(folder: str) -> str | None:
    """Return a link below a folder that leads to this folder, into it or to a folder above it, else None.

    With `recursiveFileLookup` Spark would read the files behind such a link again and again.
    """
    top = os.path.realpath(folder)
    for root, folders, _ in os.walk(top):  # os.walk does not follow links
        for name in folders:
            path = os.path.join(root, name)  # noqa: PTH118
            real = os.path.realpath(path)
            inside = real == top or real.startswith(f"{top}/") or top.startswith(f"{real}/")
            if inside and os.path.islink(path) and not name.startswith((".", "_")):  # noqa: PTH114
                return path
    return None


def _by_spark(spark: SparkSession, path: str, options: dict[str, Any]) -> list[str]:
    """Return the paths that Spark lists for a path or a pattern, without scheme and host.

    For a plain folder these are only the files with a special character in their names, unless the options
    have a `pathGlobFilter` of their own.

    Raises:
        InvalidInputError: the path is that of a file.
    """
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
    """Narrow a pattern for `pathGlobFilter` so that it matches no name with one of some characters.

    A Hadoop pattern cannot repeat a set of characters. So each `*` becomes optional groups nested 255 deep,
    one for each character that a name can have.

    Args:
        chars: the characters that no name may have.
        pattern: the user's own `pathGlobFilter`, or `*`.

    Returns:
        The narrower pattern; None if the pattern itself names one of these characters, or has a negated set
        such as `[^a]`.
    """
    one = "[^" + re.sub(r"(\W)", r"\\\1", chars) + "]"
    parts = {"*": f"{{,{one}" * _files.LONGEST_NAME + "*" + "}" * _files.LONGEST_NAME, "?": one}
    written = re.split(r"(\\.|\[[^]]*\]|[*?])", pattern)
    for part in written[1::2]:
        if part not in parts and (part[1:2] in "!^" or any(char in chars for char in part[1:-1] or part[1:])):
            return None
    return "".join(parts.get(part, part) for part in written)


# With more paths than this setting allows, Spark starts a job to list them, with one task for each path,
# before each batch.
_JOBS_FROM = "spark.sql.sources.parallelPartitionDiscovery.threshold"


def by_name(
    spark: SparkSession, path: str, place: str, options: Mapping[str, Any]
) -> tuple[str, Column | None]:
    """Return a path with which Spark lists the files of a folder by name, if the order of files matters.

    The path is a pattern for the files of the folder. It matches subfolders, too, so the rows of their files
    must be filtered out.

    Args:
        spark: the session.
        path: the path as the user wrote it.
        place: the path as Spark must get it, from `readable`.
        options: all options of the source.

    Returns:
        The path to load, and the condition for the rows to keep. They are `place` and None if the order does
        not matter, because no two files have the same modification time or one batch takes all files. They
        are the same if a pattern cannot be used: subfolders are read, the user gave a pattern, the path is
        not an existing folder of this machine, a name has a colon, or Spark would start a job to list the
        paths.
    """
    folder = locate(spark, path).folder
    if folder is None or not folder.is_dir():
        return place, None
    given = {name.lower(): str(value) for name, value in options.items()}
    with os.scandir(folder) as entries:
        found = list(entries)
    files = [entry for entry in found if entry.is_file() and not _files.is_hidden(entry.name)]
    below = _is_recursive(given) or any("=" in entry.name for entry in found if entry.is_dir())
    # Hadoop cannot resolve a pattern in a folder in which a name has a colon (HADOOP-14217).
    has_colon = any(":" in entry.name for entry in found)
    most = int(spark.conf.get(_JOBS_FROM) or 0)
    if below or has_colon or len(found) > most or not _split_ties(files, given):
        return place, None
    depth = len(folder.parts) - 1
    only = F.col("_metadata.file_path").rlike(f"^file:/+([^/]+/){{{depth}}}[^/]+$")
    return place.rstrip("/") + IN_ORDER, only


def _split_ties(files: list[os.DirEntry[str]], options: Mapping[str, str]) -> bool:
    """Whether some files have the same modification time (in ms) and one batch does not take all files."""
    times, size = Counter[int](), 0
    for file in files:
        with suppress(FileNotFoundError):  # the file was deleted after the folder was listed
            told = file.stat()
            times[told.st_mtime_ns // 1_000_000] += 1
            size += told.st_size
    if max(times.values(), default=0) < 2:  # noqa: PLR2004 - a tie needs two files
        return False
    most_files, most_bytes = options.get("maxfilespertrigger"), options.get("maxbytespertrigger", "")
    if most_files is not None:
        return not most_files.isdigit() or int(most_files) < len(files)
    return not most_bytes.isdigit() or int(most_bytes) < size


_BYTES = 256 * 1024**2
_LINES = StructType().add("value", StringType())
_CORRUPT = "_corrupt_record"  # Spark's default for the option columnNameOfCorruptRecord

# Options with which Spark reads what a file has, or fails. Without them it reads CSV by other rules than
# RFC 4180 and turns what does not fit into NULL. `columnPruning`: with it, Spark does not count the fields of
# a line if the query needs only some of them.
_STRICT: dict[str, dict[str, Any]] = {
    "csv": {"escape": '"', "enforceSchema": False, "columnPruning": False},
    "json": {},
}
_LAST = 253_402_300_799_999_999  # the end of the year 9999, in microseconds since 1970
_TOO_LATE = "a time after the year 9999, as if milliseconds were seconds"


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
    r"""Stream the rows of CSV files as they are written; replayable, so exactly once up to the sink.

    The files are read by RFC 4180: a quote within quotes is doubled, and a header must have the names of the
    schema in their order. A line that does not fit fails the query, with its file: one with too few or too
    many fields, or with a value that is not of its column's type. Spark does not convert the columns that the
    query does not use, so it does not check their values. `docs/files.md` lists what is checked.

    To go on at such a line, read the files with `text` and parse the lines with `quarantine.parse_csv`, which
    keeps each bad line with a reason. Or choose one of Spark's lenient ways:

    - `mode="PERMISSIVE"`: what does not fit is NULL, as in Spark. This is the default if the schema has the
      column `_corrupt_record` (string), which then has the line.
    - `multiLine=True`: a value in quotes may contain line feeds. Spark then cannot split a large file among
      several tasks.
    - `escape="\\"`: a quote within quotes is written as `\"`.
    - `enforceSchema=True`: the names in the header are ignored.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns in the order of the fields, as a StructType or as DDL ("ProductKey STRING,
            SaleAmount DECIMAL(12,2)"); `sparkstream schema FILE` prints the schema of a sample file, as
            `schemas.infer` returns it.
        partitions: the columns in the names of subfolders (`day=1`), as a StructType or as DDL. Default: as
            they are found at the start, each a STRING with the text in the name.
        nulls: the text that stands for a missing value, such as "NA"; an empty field is NULL, too. Spark
            knows one such text; `quarantine.parse_csv` takes several.
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
        **options: further options of Spark's CSV reader and file source by Spark's own names (`header=True`,
            `maxFileAge="30d"`, `pathGlobFilter="*.csv"`). A name that is nearly a known option is
            refused; any other is passed to Spark unchecked.

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: the folder does not exist or is a file, the schema is missing or cannot be read, or
            a keyword or an option is misspelt.

    Examples:
        In a session::

            sales = sources.csv(spark, "incoming", schema="product STRING, amount INT")
    """
    check(csv, locals())
    if nulls is not None:
        marker, *others = [nulls] if isinstance(nulls, str) else nulls
        if others:
            raise InvalidInputError(
                f"sources.csv() takes one text for a missing value, not {', '.join([marker, *others])}; give "
                "one, or read the lines with sources.text and give all to quarantine.parse_csv"
            )
        options = _merged(options, {"nullValue": marker})
    return _read(spark, "csv", path, schema, partitions, max_files_per_trigger, options)


def json(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    partitions: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of JSON Lines files as they are written; replayable, so exactly once up to the sink.

    A line that is no JSON object, or has a value of another type than its column, fails the query, with its
    file. A field that a line lacks is NULL, and a field that the schema lacks is left out, so a renamed field
    is not noticed. Spark reads the first value of a line and ignores the text behind it, and keeps the last
    of two fields with the same name. `docs/files.md` lists what is checked.

    To go on at a bad line, or to notice all of this, read the files with `text` and parse the lines with
    `quarantine.parse_json`, which keeps each bad line with a reason. `mode="PERMISSIVE"` reads what does not
    fit as NULL, as Spark does; it is the default if the schema has the column `_corrupt_record` (string),
    which then has the line.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        partitions: the columns in the names of subfolders, as for `csv`.
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
        **options: further options of Spark's JSON reader and file source by Spark's own names
            (`multiLine=True` for files that are one array or one object over several lines).

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: as for `csv`.

    Examples:
        In a session::

            events = sources.json(spark, "events", schema="time TIMESTAMP, action STRING")
    """
    check(json, locals())
    return _read(spark, "json", path, schema, partitions, max_files_per_trigger, options)


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
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
        **options: further options of Spark's Parquet reader and file source by Spark's own names
            (`maxFileAge="30d"`).

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: as for `csv`.

    Examples:
        In a session::

            sales = sources.parquet(spark, "incoming", schema="product STRING, amount INT")
    """
    check(parquet, locals())
    return _read(spark, "parquet", path, schema, partitions, max_files_per_trigger, options)


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
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
        **options: further options of Spark's ORC reader and file source by Spark's own names
            (`maxFileAge="30d"`).

    Returns:
        A streaming DataFrame with the columns of `schema`, then the partition columns.

    Raises:
        InvalidInputError: as for `csv`.

    Examples:
        In a session::

            sales = sources.orc(spark, "incoming", schema="product STRING, amount INT")
    """
    check(orc, locals())
    return _read(spark, "orc", path, schema, partitions, max_files_per_trigger, options)


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
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
        **options: further options of Spark's text reader and file source by Spark's own names
            (`wholetext=True`).

    Returns:
        A streaming DataFrame with `value` (string), a line without its line end, then the partition columns.

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
    return _read(spark, "text", path, _LINES, partitions, max_files_per_trigger, options)


def _read(
    spark: SparkSession,
    kind: str,
    path: str | Path,
    schema: StructType | str | None,
    partitions: StructType | str | None,
    max_files: int | None,
    options: dict[str, Any],
) -> DataFrame:
    builtin.check_options(kind, options, ["max_files_per_trigger", "nulls", "partitions", "schema"])
    builtin.check_number("max_files_per_trigger", max_files)
    if schema is None:
        raise InvalidInputError(
            f"sources.{kind}() needs a schema: give schema='name STRING, amount INT' or a StructType; "
            f"`sparkstream schema {path}` prints that of the files"
        )
    columns = _columns(schema)
    options = _merged(_strict(kind, columns.names, options), options)
    fields = [*columns.fields, *([] if partitions is None else _columns(partitions).fields)]
    if max_files is not None:
        options = _merged(options, {"maxFilesPerTrigger": max_files})
    elif not {"maxfilespertrigger", "maxbytespertrigger"} & {name.lower() for name in options}:
        options = options | {"maxBytesPerTrigger": _BYTES}
    try:
        with reached("input", str(path)):
            place, ours = readable(spark, str(path), options)
            given = _merged(options, ours)
            place, only = by_name(spark, str(path), place, given)
            frame = _loaded(spark.readStream.format(kind).options(**given), place, fields)
    except PySparkException as err:
        if err.getCondition() == "INVALID_PARTITION_VALUE":
            raise InvalidInputError(f"input {path}: {said_by_spark(err)}; declare it as STRING") from None
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        raise InvalidInputError(
            f"input folder {path} does not exist; create it or correct the path"
        ) from None
    keeps = [] if only is None else [only]
    if kind == "json" and str(given["mode"]).upper() == "FAILFAST":
        keeps += [_in_time(each) for each in fields if holds(each.dataType, TimestampType)]
    return frame.where(reduce(and_, keeps)) if keeps else frame


def _columns(given: StructType | str) -> StructType:
    return from_ddl(given) if isinstance(given, str) else given


def _strict(kind: str, columns: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which Spark reads files strictly, unless `options` ask for a lenient way.

    Args:
        kind: the format.
        columns: the names of the columns in the files.
        options: those that the user gave.
    """
    if kind not in _STRICT:
        return {}
    given = {name.lower(): str(value) for name, value in options.items()}
    has_corrupt = given.get("columnnameofcorruptrecord", _CORRUPT) in columns
    strict = _STRICT[kind] | {"mode": "PERMISSIVE" if has_corrupt else "FAILFAST"}
    if kind == "csv":
        # A value that is torn at a line feed has too few fields, but in a single column each half has one.
        strict["multiLine"] = len(columns) == 1
        if given.get("mode", strict["mode"]).upper() == "FAILFAST":
            strict["unescapedQuoteHandling"] = "RAISE_ERROR"  # which Spark does in every mode
    return strict


def _loaded(reader: DataStreamReader, place: str, fields: list[StructField]) -> DataFrame:
    """Return the stream of a reader; a partition column that is not declared is a string.

    Spark would take the text in the names of folders for a number or a date where it looks like one, and fail
    at a later folder where it does not.
    """
    frame = reader.schema(StructType(fields)).load(place)
    known = {each.name.lower() for each in fields}
    # On Connect, only the schema of the frame makes Spark look for the path.
    found = [StructField(name, StringType()) for name in frame.columns if name.lower() not in known]
    return reader.schema(StructType([*fields, *found])).load(place) if found else frame


def _in_time(field: StructField) -> Column:
    """Return a condition that fails at a time after the year 9999.

    Spark takes a number in JSON for seconds since 1970, so that milliseconds become such a time.
    """
    says = F.concat(F.lit(f"column {field.name}: {_TOO_LATE}; "), F.col("_metadata.file_path"))
    late = _is_late(column(field.name), field.dataType)
    return F.coalesce(F.when(late, F.raise_error(says).cast("boolean")), F.lit(True))


def _is_late(value: Column, kind: Any) -> Column:
    if isinstance(kind, TimestampType):
        return value > F.timestamp_micros(F.lit(_LAST))
    if isinstance(kind, ArrayType):
        return F.exists(value, lambda one: _is_late(one, kind.elementType))
    if isinstance(kind, MapType):
        return F.exists(F.map_values(value), lambda one: _is_late(one, kind.valueType))
    inside = [each for each in getattr(kind, "fields", []) if holds(each.dataType, TimestampType)]
    return reduce(or_, [_is_late(value.getField(each.name), each.dataType) for each in inside], F.lit(False))


def _merged(options: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Return the options, replaced and extended by the others; the case of names does not matter."""
    replaced = {name.lower() for name in others}
    if "maxfilespertrigger" in replaced:
        replaced.add("maxbytespertrigger")  # Spark accepts only one of these two limits
    return {name: value for name, value in options.items() if name.lower() not in replaced} | others
