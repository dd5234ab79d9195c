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
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructType

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
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
    # The path in Python's form if this process can read it as well, else None.
    local = None if locate(spark, path).folder is None else _files.plain(path)
    place, ours = path_for(spark, path), dict[str, Any]()
    if local is not None:
        whole = os.path.abspath(local)  # noqa: PTH100 - a path of any form
        if os.path.isfile(local):  # noqa: PTH113
            raise InvalidInputError(_NOT_A_FOLDER.format(path))
        if os.path.isdir(local) and _files.is_pattern(whole):  # noqa: PTH112
            # Spark finds the base of partition folders by itself only for a path that is no pattern.
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
    # Ignore the special names that have not appeared yet, or a later file could spoil a batch of several.
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
    """Whether Spark reads all subfolders (`recursiveFileLookup`); only then it lists each file once."""
    return str(options.get("recursivefilelookup")).lower() == "true"


def _misread(spark: SparkSession, path: str, options: dict[str, Any], *, is_local: bool) -> list[str]:
    """Return the paths of the present files that Spark would misread because of a character in their names.

    Args:
        spark: the session.
        path: the path for Spark, a folder or a pattern.
        options: the options of the source, with names in lower case.
        is_local: whether this process can list the files itself, which is faster than a Spark call.
    """
    local = _files.plain(path) if is_local else None
    if local is None or set(local) & set("{}\\"):  # Python's glob does not know these
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


def csv(
    spark: SparkSession,
    path: str | Path,
    *,
    schema: StructType | str | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream the rows of CSV files; replayable, so exactly once up to the sink.

    Spark reads a value that it cannot parse as NULL. To lose no value, read the files with `text` and parse
    the lines with `quarantine.parse_csv`, which keeps each bad line with a reason. With `csv`, the summary
    and the verdicts of `run` report two signs of lost values:

    - the number of rows with NULL in every column that the query reads. If the query reads a single column,
      only broken lines and rows without any value count;
    - the columns that the query reads and that are NULL in all rows of this run and of earlier runs, once
      100 rows have been sampled.

    A wrong value in a row with good values is not noticed, and nothing is reported for a query that was not
    started with `start`.

    For these reports `run` samples the files beside the stream: after ten seconds, then every minute, and at
    the end unless a signal ends the run. A sample is taken from up to 32 of the files that were read since
    the last one. If these have at most 4 MiB together, all their rows are sampled; otherwise the first 1,000
    rows of four of them, so that a few broken lines in large files can be missed. Files are sampled if the
    checkpoint is on this machine, or if there is none; without a checkpoint the sample is from the files in
    the folder. (Counting in the stream itself took 11 % more CPU for 2 of 12 columns, and 74 to 86 % more for
    all of them.)

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL ("ProductKey STRING, SaleAmount DECIMAL(12,2)");
            `sparkstream schema FILE` prints the schema of a sample file, as `schemas.infer` returns it.
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
        **options: further options of Spark's CSV reader and file source by Spark's own names (`header=True`,
            `maxFileAge="30d"`, `pathGlobFilter="*.csv"`). A name that is nearly a known option is
            refused; any other is passed to Spark unchecked.

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

    Spark reads a renamed field and a broken line as NULL and raises no error. To lose no value, read the
    files with `text` and parse the lines with `quarantine.parse_json`. `run` reports rows and columns without
    a value, from a sample of the files; `csv` describes the sample and its limits.

    Args:
        spark: the session.
        path: a folder, or a pattern for folders, such as "in/2026-*".
        schema: the columns, as a StructType or as DDL.
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
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
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
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
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
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
        max_files_per_trigger: the most files that one batch reads. Default: files of 256 MiB together.
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
            place, ours = readable(spark, str(path), options)
            given = _merged(options, ours)
            place, only = by_name(spark, str(path), place, given)
            frame = spark.readStream.format(file_format).schema(columns).options(**given).load(place)
            frame.schema  # noqa: B018 - on Connect, only this looks for the path
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        raise InvalidInputError(
            f"input folder {path} does not exist; create it or correct the path"
        ) from None
    return frame if only is None else frame.where(only)


def _merged(options: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Return the options, replaced and extended by the others; the case of names does not matter."""
    replaced = {name.lower() for name in others}
    if "maxfilespertrigger" in replaced:
        replaced.add("maxbytespertrigger")  # Spark accepts only one of these two limits
    return {name: value for name, value in options.items() if name.lower() not in replaced} | others
