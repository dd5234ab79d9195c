r"""Folders of files, read as they arrive: CSV, JSON, text, Parquet and ORC.

The public functions (`csv`, `json`, `orc`, `parquet`, `text`) check their arguments and
set up Spark's own file source. `readable` chooses the options with which Spark counts
each file once, and `by_name` the path with which it reads files of the same
modification time in the order of their names.

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

Special characters in file names: Spark treats a path with one of `* ? [ ] { } \` as a
pattern. In a batch of several files, each such path makes Spark read all other files of
the batch once more (SPARK-58518, Spark 3.4.1 and later); in a batch of its own the file
is read once. So a source that finds such a name when it is created reads one file per
batch. Any other source ignores such names, so that a file that arrives while the query
runs cannot spoil a batch: the query reads this file after its next start.
`recursiveFileLookup` alone would need no filter, but with it Spark plans the files of
all subfolders, too, such as those of a checkpoint or an output in the folder, which
would make a new batch after each batch.

Packed files: Hadoop knows them by the ends of their names. What tools write as `.lz4`
or `.snappy` it takes for a format of its own, and Java ends for lack of memory. So a
source refuses a folder with such a file, and ignores one that arrives while the query
runs.

Order of files: Spark reads files with the same modification time in the order in which
it lists them. Files that are copied together, with `cp` or `unzip`, often have the same
time to the millisecond. Spark lists a local folder in no particular order, so rows of
such files can arrive in any order and be late for a watermark. Spark lists the matches
of a pattern by name, as HDFS and object stores list a folder. So, if files of a local
folder have the same time and one batch does not take all files, the source gives Spark
a pattern in place of the folder; `docs/watermarks.md` lists the cases in which that is
not possible. A query that reads such a pattern fails when a file with a colon in its
name arrives; after its next start it reads all files.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.types import StructType

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check, check_options
from sparkstream_kit._internal.file_system import IN_ORDER
from sparkstream_kit._internal.spark.place import locate, path_for, reached
from sparkstream_kit._internal.spark.session import as_schema
from sparkstream_kit.errors import InvalidInputError, reject_unknown, said_by_spark
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamReader


_log = logging.getLogger(__name__)

# Hadoop's usual class for local files looks for a checksum beside each file, and so
# fails at a name with a colon. This class looks for none; with the cache of file
# systems it would not be used. A folder that has checksums is read with them.
_WITHOUT_CHECKSUMS = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}


# Hadoop knows a file with one of these ends by its name, but reads a format of its own.
# It takes the first bytes of what others write under such a name for a length, so that
# Java ends for lack of memory.
_MISTAKEN = (".lz4", ".snappy")
# The formats whose files Hadoop unpacks by their names
_OF_TEXT = ("csv", "json", "text")
# In a set of characters of a pattern: those that make a name a pattern
_SPECIAL = r"\*\?\[\]\{\}\\"


def readable(
    spark: SparkSession, kind: str, path: str, options: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the path and the options with which Spark counts each file of a folder once.

    A path that names an existing local folder means this folder, even if its name, or
    the name of the working folder, has the characters of a pattern: these characters
    are escaped.

    Args:
        spark: the session.
        kind: the format.
        path: the path as the user wrote it, a folder or a pattern for folders.
        options: the other options of the source, with names in lower case.

    Returns:
        The path to load, and all options: with a `pathGlobFilter` that ignores names
        with special characters, or `maxFilesPerTrigger=1` if such names exist already,
        or the user's own `pathGlobFilter` asks for them. The filter also ignores files
        that Hadoop would unpack wrongly.

    Raises:
        InvalidInputError: the path is that of a file, or a pattern for what Spark has
            written; or there is a file that Hadoop would unpack wrongly.
    """
    place = path_for(spark, path)
    folder = locate(spark, path).folder
    given = dict(options)
    if folder is not None:
        if folder.is_file():
            raise InvalidInputError(
                f"input {path} is a file; give the folder that it is in"
            )
        place, given = _of_folder(folder, place, given)
    wanted = given.get("pathglobfilter")
    unpacks = kind in _OF_TEXT
    if _is_recursive(given):
        if unpacks and folder is not None:
            _refuse_mistaken(
                path, _listed(file_system.below(str(folder), recursive=True), wanted)
            )
        return place, given | _without_mistaken(wanted, unpacks=unpacks)
    found = _found(spark, path, place, wanted)
    if unpacks:
        _refuse_mistaken(path, found)
    misread = [name for name in found if file_system.is_pattern(name)]
    if str(given.get("maxfilespertrigger")) == "1":
        return place, given | _without_mistaken(wanted, unpacks=unpacks)
    # Ignore the special names that have not appeared yet, or a later file could spoil a
    # batch of several.
    if not misread and (kept := _leaving_out(wanted or "*", unpacks=unpacks)):
        return place, given | {"pathglobfilter": kept}
    if misread:
        _log.warning(
            "%s is read one file a batch: beside %s Spark would count the other files"
            " of a batch twice; give it a name without * ? [ ] { } and \\",
            path,
            misread[0],
        )
    return place, _one_limit(
        given | {"maxfilespertrigger": 1} | _without_mistaken(wanted, unpacks=unpacks)
    )


def _of_folder(
    folder: Path, place: str, options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return path and options for a folder of this machine, whatever its name."""
    if not any(each.name.endswith(".crc") for each in file_system.below(str(folder))):
        options = options | _WITHOUT_CHECKSUMS
    if not folder.is_dir() or not file_system.is_pattern(str(folder)):
        return place, options
    # Spark finds the base of partition folders by itself only for a path that is no
    # pattern.
    base = file_system.for_spark(folder)
    return file_system.escaped(base), options | {"basepath": base}


def _refuse_mistaken(path: str, names: Sequence[str]) -> None:
    """Refuse a folder with a file that Hadoop would unpack wrongly, before Spark opens it."""
    for name in names:
        end = next((each for each in _MISTAKEN if name.lower().endswith(each)), None)
        if end is not None and not Path(name).is_dir():
            fix = (
                "unpack it, or pack it as .gz, .bz2 or .zst; pathGlobFilter='*.csv'"
                " leaves other names out"
            )
            raise InvalidInputError(
                f"input {path} has the file {name}: Spark cannot read what tools write"
                f" as {end}; {fix}"
            )


def _without_mistaken(wanted: str | None, *, unpacks: bool) -> dict[str, str]:
    """Return the option, if any, to ignore files that Hadoop would unpack wrongly."""
    if not unpacks or (wanted is not None and not wanted.endswith("*")):
        return {}
    before = "" if wanted is None else wanted[:-1]
    return {"pathglobfilter": before + _other_ends(before, "*", "")}


def _other_ends(before: str, text: str, special: str) -> str:
    """Return a pattern for the rest of a file's name, of which the end is none of `_MISTAKEN`.

    A pattern cannot say what a name must not be. So there is one pattern for each
    character of an end that can differ, and one for each part of an end that is the
    whole rest.

    Args:
        before: the pattern for what stands before the rest.
        text: the pattern for any text.
        special: further characters that no name may have, as in a set of a pattern.
    """

    def letters(text: str) -> str:
        return "".join(
            f"[{each.lower()}{each.upper()}]" if each.isalpha() else each
            for each in text
        )

    lasts = "".join(end[-1] + end[-1].upper() for end in _MISTAKEN)
    longer = [f"[^{lasts}{special}]"]
    whole = [] if before.lower().endswith(_MISTAKEN) else [""]
    for end in _MISTAKEN:
        for size in range(1, len(end)):
            other = end[-size - 1]
            same = end[-size:]
            longer.append(f"[^{other}{other.upper()}{special}]{letters(same)}")
            if not (before.lower() + same).endswith(end):
                whole.append(letters(same))
    rest = text + "{" + ",".join(longer) + "}"
    return "{" + ",".join([rest, *whole]) + "}"


def _one_limit(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with one limit per batch, of files or else bytes, as Spark asks."""
    if "maxfilespertrigger" not in options:
        return {"maxbytespertrigger": _BYTES, **options}
    return {
        name: value for name, value in options.items() if name != "maxbytespertrigger"
    }


def _is_recursive(options: Mapping[str, Any]) -> bool:
    """Return whether Spark reads all subfolders, and so lists each file only once."""
    return str(options.get("recursivefilelookup")).lower() == "true"


def _found(spark: SparkSession, path: str, place: str, wanted: str | None) -> list[str]:
    """Return the paths that exist; on other file systems, only those Spark may misread.

    Args:
        spark: the session.
        path: the path as the user wrote it.
        place: the path for Spark.
        wanted: the user's own `pathGlobFilter`, if there is one.

    Raises:
        InvalidInputError: the path is a pattern for what Spark has written.
    """
    folder = locate(spark, path).folder
    try:
        tops = (
            []
            if folder is None
            else [str(folder)]
            if folder.is_dir()
            else file_system.matching(str(folder))
        )
    except re.error:  # no pattern, or one that only Hadoop knows, such as {a/b,c}
        folder = None
    if folder is None:
        return _found_elsewhere(spark, place, wanted)
    if not folder.is_dir() and file_system.is_pattern(str(folder)):
        if not tops:
            _log.warning("input %s: nothing matches this pattern yet", path)
        for within in {top if top.is_dir() else top.parent for top in map(Path, tops)}:
            if (within / "_spark_metadata").exists():
                raise InvalidInputError(
                    f"input {path} matches files that a query has written to {within},"
                    " and for a pattern Spark does not leave out what is not"
                    f" committed; give the folder {within}"
                )
    return [
        *tops,
        *_listed((each for top in tops for each in file_system.below(top)), wanted),
    ]


def _listed(entries: Iterable[os.DirEntry[str]], wanted: str | None) -> list[str]:
    """Return the paths of the files that Spark reads, by their names."""
    names = file_system.as_regex(wanted or "*")
    found = [
        each
        for each in entries
        if names.fullmatch(each.name) and not file_system.is_hidden(each.name)
    ]
    return [each.path for each in found if not each.is_dir()]


def _found_elsewhere(spark: SparkSession, place: str, wanted: str | None) -> list[str]:
    """Return the same by a Spark job, for what this process cannot list."""
    if not wanted:
        ends = [
            "*" + re.sub("[a-z]", lambda one: f"[{one[0]}{one[0].upper()}]", end)
            for end in _MISTAKEN
        ]
        wanted = (
            "*"
            if file_system.is_pattern(place)
            else f"{{*[{_SPECIAL}]*,{','.join(ends)}}}"
        )
    try:
        uris = (
            spark.read.format("binaryFile")
            .load(place, pathGlobFilter=wanted)
            .inputFiles()
        )
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        return []
    return [unquote(uri) for uri in uris]


def _leaving_out(pattern: str, *, unpacks: bool) -> str | None:
    """Narrow a `pathGlobFilter` so that it matches no name that is a pattern to Spark.

    A Hadoop pattern cannot repeat a set of characters. So each `*` becomes optional
    groups nested 255 deep, one for each character that a name can have.

    Args:
        pattern: the user's own `pathGlobFilter`, or `*`.
        unpacks: whether Hadoop unpacks the files by their names.

    Returns:
        The narrower pattern; None if the pattern itself names a special character, or
        has a negated set such as `[^a]`.
    """
    one = f"[^{_SPECIAL}]"
    parts = {
        "*": f"{{,{one}" * file_system.LONGEST_NAME
        + "*"
        + "}" * file_system.LONGEST_NAME,
        "?": one,
    }
    written = re.split(r"(\\.|\[[^]]*\]|[*?])", pattern)
    for part in written[1::2]:
        inner = part[1:-1] or part[1:]
        if part not in parts and (inner[0] in "!^" or file_system.is_pattern(inner)):
            return None
    if unpacks and pattern.endswith("*") and not pattern.endswith(r"\*"):
        before = "".join(written[:-2])
        last = _other_ends(before, parts["*"], _SPECIAL)
        return "".join(parts.get(part, part) for part in written[:-2]) + last
    return "".join(parts.get(part, part) for part in written)


# With more paths than this setting allows, Spark starts a job to list them, with one
# task for each path, before each batch.
_JOBS_FROM = "spark.sql.sources.parallelPartitionDiscovery.threshold"


def by_name(
    spark: SparkSession, path: str, place: str, options: Mapping[str, Any]
) -> tuple[str, Column | None]:
    """Return a path for Spark to list a folder's files by name, if their order matters.

    The path is a pattern for the files of the folder. It matches subfolders, too, so
    the rows of their files must be filtered out.

    Args:
        spark: the session.
        path: the path as the user wrote it.
        place: the path as Spark must get it, from `readable`.
        options: all options of the source, with names in lower case.

    Returns:
        The path to load, and the condition for the rows to keep. They are `place` and
        None if the order does not matter, because no two files have the same
        modification time or one batch takes all files. They are the same if a pattern
        cannot be used: subfolders are read, the user gave a pattern, the path is not an
        existing folder of this machine, a name has a colon, or Spark would start a job
        to list the paths.
    """
    folder = locate(spark, path).folder
    if (
        folder is None
        or not folder.is_dir()
        or not _splits_ties(spark, folder, options)
    ):
        return place, None
    file = F.col("_metadata.file_path")
    here = f"^file:/+([^/]+/){{{len(folder.parts) - 1}}}"
    says = F.concat(
        F.lit("the first folder of partitions has come; start the query again: "), file
    )
    come = F.when(file.rlike(f"{here}[^/]*="), F.raise_error(says).cast("boolean"))
    return place.rstrip("/") + IN_ORDER, file.rlike(f"{here}[^/]+$") | come


def _splits_ties(spark: SparkSession, folder: Path, options: Mapping[str, Any]) -> bool:
    """Whether files of one time (in ms) come in several batches, and a pattern works."""
    with os.scandir(folder) as entries:
        found = list(entries)
    # Hadoop cannot resolve a pattern in a folder in which a name, or the path to it,
    # has a colon (HADOOP-14217). With a pattern, Spark does not look at the log of a
    # file sink.
    in_the_way = ":" in str(folder)
    in_the_way |= any(
        re.search("^_spark_meta|:", e.name) or ("=" in e.name and e.is_dir())
        for e in found
    )
    if (
        in_the_way
        or _is_recursive(options)
        or len(found) > int(spark.conf.get(_JOBS_FROM) or 0)
    ):
        return False
    stats = []
    for file in found:
        # The file was deleted after the folder was listed
        with suppress(FileNotFoundError):
            if file.is_file() and not file_system.is_hidden(file.name):
                stats.append(file.stat())
    limit = str(options.get("maxbytespertrigger"))
    size = sum(each.st_size for each in stats)
    if "maxfilespertrigger" in options:
        limit = str(options["maxfilespertrigger"])
        size = len(stats)
    times = {each.st_mtime_ns // 1_000_000 for each in stats}
    return len(times) < len(stats) and not (limit.isdigit() and int(limit) >= size)


_BYTES = 256 * 1024**2
# Spark's default for the option columnNameOfCorruptRecord, and for the setting:
_CORRUPT = "_corrupt_record"
_CORRUPT_SETTING = "spark.sql.columnNameOfCorruptRecord"

# Options with which Spark reads what a file has, or fails. Without them it reads CSV by
# other rules than RFC 4180 and turns what does not fit into NULL. `columnPruning`: with
# it, Spark does not count the fields of a line if the query needs only some of them.
_CSV = {"escape": '"', "enforceschema": False, "columnpruning": False}


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
            in the name. Give those of a folder that has none yet in the order in which
            they will be nested: Spark joins them by their place.
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
        marker, *others = [nulls] if isinstance(nulls, str) else nulls
        if others:
            raise InvalidInputError(
                "sources.csv() takes one text for a missing value, not"
                f" {', '.join([marker, *others])}; give one, or read the lines with"
                " sources.text and give all to quarantine.parse_csv"
            )
        # "" is null, too
        options = {"emptyValue": marker, **options, "nullValue": marker}
    return _read(spark, csv, path, schema, partitions, max_files_per_trigger, options)


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
    return _read(spark, json, path, schema, partitions, max_files_per_trigger, options)


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
    return _read(
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
    return _read(spark, orc, path, schema, partitions, max_files_per_trigger, options)


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
    given = _by_lower_name(options)
    encoding = str(given.get("encoding", "UTF-8"))
    if encoding.lower() not in ("utf-8", "utf8"):
        raise InvalidInputError(
            f"sources.text() reads UTF-8; convert the files (iconv -f {encoding} -t"
            " UTF-8 IN > OUT) or, if they are ISO-8859-1, decode the lines:"
            " lines.withColumn('value', F.decode(F.col('value').cast('binary'),"
            " 'ISO-8859-1'))"
        )
    if "schema" in given:
        raise InvalidInputError(
            "sources.text() takes no schema: its one column is value, a line; give the"
            " schema to sources.csv or sources.json, or parse the lines"
            " (quarantine.parse_csv, parse_json)"
        )
    return _read(
        spark, text, path, "value STRING", partitions, max_files_per_trigger, options
    )


def _read(
    spark: SparkSession,
    call: Callable[..., DataFrame],
    path: str | Path,
    schema: StructType | str | None,
    partitions: StructType | str | None,
    max_files: int | None,
    options: dict[str, Any],
) -> DataFrame:
    from sparkstream_kit.sources.values import (
        Values,
        keeps_digits,
        marks_of,
        refuse_unreadable,
    )

    kind = call.__name__
    check_options(call, options, getattr(spark.readStream, kind))
    builtin.check_number("max_files_per_trigger", max_files)
    if schema is None:
        raise InvalidInputError(
            f"sources.{kind}() needs a schema: give schema='name STRING, amount INT' or"
            f" a StructType; `sparkstream schema {path}` prints that of the files"
        )
    columns = as_schema(schema, spark)
    given = _by_lower_name(options) | (
        {} if max_files is None else {"maxfilespertrigger": max_files}
    )
    refuse_unreadable(spark, kind, columns, given)
    if (
        kind in ("csv", "json")
        and (name := spark.conf.get(_CORRUPT_SETTING, _CORRUPT)) != _CORRUPT
    ):
        given.setdefault("columnnameofcorruptrecord", name)
    is_strict = _is_strict(kind, columns.names, given)
    marks = marks_of(spark, columns, given) if is_strict else None
    values = Values(
        kind, columns, given, is_strict, marks, keeps_digits=keeps_digits(spark, given)
    )
    given = _one_limit(_strict(kind, columns.names, given) | given)
    read = values.schema()
    try:
        with reached("input", str(path)):
            place, given = readable(spark, kind, str(path), given)
            _refuse_wrong(given)
            place, only = by_name(spark, str(path), place, given)
            reader = spark.readStream.format(kind).options(**given)
            declared = [] if partitions is None else as_schema(partitions, spark).fields
            frame = _loaded(reader, place, read, declared)
            names = frame.columns  # on Connect, the server looks at the folders now
    except PySparkException as err:
        said = _folders_that_differ(path, err)
        if said is None:
            raise
        raise InvalidInputError(said) from None
    frame = frame if only is None else frame.where(only)
    exact = values.select(names)
    return frame if exact is None else frame.select(exact)


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
        "PATH_NOT_FOUND": f"input folder {path} {_missing(str(path))}",
    }
    condition = str(error.getCondition())
    return next(
        (said for begin, said in meanings.items() if condition.startswith(begin)), None
    )


def _missing(path: str) -> str:
    """Return why Spark does not find a folder: it may be the locale of its JVM."""
    plain = file_system.plain(path)
    if plain is not None and not plain.isascii() and os.path.exists(plain):  # noqa: PTH110 - a text
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


def _refuse_wrong(options: Mapping[str, Any]) -> None:
    """Refuse an option of streams of files at which the running query would fail.

    Args:
        options: those that the user gave, with names in lower case.
    """
    for name, (pattern, words) in _OF_STREAMS.items():
        value = options.get(name.lower())
        if value is not None and not re.fullmatch(pattern, str(value), re.IGNORECASE):
            raise InvalidInputError(f"{name} is {value!r}; give {words}")


def _is_strict(kind: str, columns: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Return whether a value that does not fit fails the query; of Parquet and ORC it always does.

    Args:
        kind: the format.
        columns: the names of the columns in the files.
        options: those that the user gave, with names in lower case.
    """
    if kind not in ("csv", "json"):
        return True
    if "mode" not in options:
        # A column for the lines that do not fit asks for them.
        return options.get("columnnameofcorruptrecord", _CORRUPT) not in columns
    mode = str(options["mode"]).upper()
    reject_unknown(
        f"mode of sources.{kind}()", [mode], ("FAILFAST", "PERMISSIVE", "DROPMALFORMED")
    )
    return mode == "FAILFAST"


def _strict(
    kind: str, columns: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return options for strict reading, unless `options` ask for a lenient way.

    The arguments are those of `_is_strict`.
    """
    if kind not in ("csv", "json"):
        return {}
    is_strict = _is_strict(kind, columns, options)
    strict: dict[str, Any] = {"mode": "FAILFAST" if is_strict else "PERMISSIVE"}
    if kind == "json":
        if is_strict:
            strict["allowsinglequotes"] = False
        return strict
    strict |= _CSV
    strict["escape"] = options.get("quote") or '"'  # a quote within quotes is doubled
    # A value that is torn at a line feed has too few fields, but in a single column
    # each half has one.
    strict["multiline"] = len(columns) == 1
    if is_strict:
        # Which Spark does in every mode
        strict["unescapedquotehandling"] = "RAISE_ERROR"
        if str(options.get("multiline")).lower() == "true":
            # Without it Spark takes the first line end of a file for that of all lines,
            # and changes those in values.
            strict["linesep"] = "\n"
    return strict


def _loaded(
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
    found = frame.columns[len(columns) :]
    declared = [each.name.lower() for each in partitions]  # Spark ignores case
    reject_unknown(
        "partition", declared if found else (), map(str.lower, (*found, *columns.names))
    )
    texts = [
        T.StructField(name, T.StringType())
        for name in found
        if name.lower() not in declared
    ]
    known = [*partitions, *texts]
    return reader.schema(StructType([*columns, *known])).load(place) if known else frame


def _by_lower_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their names in lower case, as Spark compares them; but those of Hadoop."""
    return {
        name if "." in name else name.lower(): value for name, value in options.items()
    }
