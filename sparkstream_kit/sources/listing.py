r"""Folders of input files: which of them Spark reads, each once and in which order.

`readable` chooses the options with which Spark counts each file once, and `by_name` the
path with which it reads files of the same modification time in the order of their
names.

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
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.file_system import IN_ORDER
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import may_ask
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyspark.sql import Column, SparkSession


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
_BYTES = 256 * 1024**2  # of the files of a batch, without an option
# With more paths than this setting allows, Spark starts a job to list them, with one
# task for each path, before each batch.
_JOBS_FROM = "spark.sql.sources.parallelPartitionDiscovery.threshold"


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
    location = locate(spark, path)
    place = location.text
    folder = location.folder
    all_options = dict(options)
    if folder is not None:
        if folder.is_file():
            raise InvalidInputError(
                f"input {path} is a file; give the folder that it is in"
            )
        place, all_options = _of_folder(folder, place, all_options)
    name_filter = all_options.get("pathglobfilter")
    unpacks = kind in _OF_TEXT
    without_mistaken = all_options | _without_mistaken(name_filter, unpacks=unpacks)
    if _is_recursive(all_options):
        if unpacks and folder is not None:
            entries = file_system.below(str(folder), recursive=True)
            _refuse_mistaken(path, _matching_files(entries, name_filter))
        return place, without_mistaken
    names = _find_paths(spark, path, place, name_filter)
    if unpacks:
        _refuse_mistaken(path, names)
    if str(all_options.get("maxfilespertrigger")) == "1":
        return place, without_mistaken
    special = [name for name in names if file_system.is_pattern(name)]
    if special:
        _log.warning(
            "%s is read one file a batch: beside %s Spark would count the other files"
            " of a batch twice; give it a name without * ? [ ] { } and \\",
            path,
            special[0],
        )
    else:
        # Ignore the special names that have not appeared yet, or a later file could
        # spoil a batch of several.
        plain_names = _without_special_names(name_filter or "*", unpacks=unpacks)
        if plain_names is not None:
            return place, all_options | {"pathglobfilter": plain_names}
    return place, one_limit(without_mistaken | {"maxfilespertrigger": 1})


def _of_folder(
    folder: Path, load_path: str, options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the path to load and the options for a folder of this machine.

    If the folder has no checksums in it, names of files may have a colon. If its own
    name has the characters of a pattern, they are escaped.
    """
    entries = file_system.below(str(folder))
    has_checksums = any(entry.name.endswith(".crc") for entry in entries)
    if not has_checksums:
        options = options | _WITHOUT_CHECKSUMS
    if not folder.is_dir() or not file_system.is_pattern(str(folder)):
        return load_path, options
    # Spark finds the base of partition folders by itself only for a path that is no
    # pattern.
    base = file_system.for_spark(folder)
    return file_system.escaped(base), options | {"basepath": base}


def one_limit(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with one limit per batch, of files or else bytes, as Spark asks."""
    if "maxfilespertrigger" not in options:
        return {"maxbytespertrigger": _BYTES, **options}
    return {
        name: value for name, value in options.items() if name != "maxbytespertrigger"
    }


def _is_recursive(options: Mapping[str, Any]) -> bool:
    """Return whether Spark reads all subfolders, and so lists each file only once."""
    return str(options.get("recursivefilelookup")).lower() == "true"


def _refuse_mistaken(path: str, names: Sequence[str]) -> None:
    """Refuse a folder with a file that Hadoop would unpack wrongly, before Spark opens it."""
    for name in names:
        end = _mistaken_end(name)
        if end is not None and not Path(name).is_dir():
            fix = (
                "unpack it, or pack it as .gz, .bz2 or .zst; pathGlobFilter='*.csv'"
                " leaves other names out"
            )
            raise InvalidInputError(
                f"input {path} has the file {name}: Spark cannot read what tools write"
                f" as {end}; {fix}"
            )


def _mistaken_end(name: str) -> str | None:
    """Return the end by which Hadoop would unpack a file wrongly; None if it has none."""
    for end in _MISTAKEN:
        if name.lower().endswith(end):
            return end
    return None


def _without_mistaken(name_filter: str | None, *, unpacks: bool) -> dict[str, str]:
    """Return the option, if any, to ignore files that Hadoop would unpack wrongly."""
    if not unpacks:
        return {}
    if name_filter is None:
        return {"pathglobfilter": _without_suffixes("", "*", "")}
    if not name_filter.endswith("*"):
        return {}
    prefix = name_filter[:-1]
    return {"pathglobfilter": prefix + _without_suffixes(prefix, "*", "")}


def _without_suffixes(prefix: str, any_text: str, special: str) -> str:
    """Return a pattern for the rest of a file's name that does not end with one of `_MISTAKEN`.

    A pattern cannot say what a name must not be. So it lists what the rest may be.

    Args:
        prefix: the pattern for what stands before the rest.
        any_text: the pattern for any text.
        special: further characters that no name may have, as in a set of a pattern.

    Examples:
        >>> matched = file_system.as_regex(_without_suffixes("", "*", "")).fullmatch
        >>> [bool(matched(name)) for name in ("a.csv", "lz4", "a.xlz4", "a.lz4", "a.LZ4")]
        [True, True, True, False, False]
    """
    # A rest that is longer than ".lz4" differs from it in one of its last characters:
    # *[^4], *[^zZ]4, *[^lL][zZ]4, *[^.][lL][zZ]4
    differing = [_other_than([suffix[-1] for suffix in _MISTAKEN], special)]
    # A shorter rest is a tail of it: nothing, 4, z4, lz4. But the prefix "a." and the
    # tail lz4 would be the suffix.
    tails = []
    if not prefix.lower().endswith(_MISTAKEN):
        tails.append("")
    for suffix in _MISTAKEN:
        for size in range(1, len(suffix)):
            tail = suffix[-size:]
            other = _other_than([suffix[-size - 1]], special)
            differing.append(other + _any_case(tail))
            if not (prefix.lower() + tail).endswith(suffix):
                tails.append(_any_case(tail))
    longer = any_text + "{" + ",".join(differing) + "}"
    return "{" + ",".join([longer, *tails]) + "}"


def _other_than(characters: list[str], special: str) -> str:
    """Return a pattern for a character that is none of these, in any case."""
    both_cases = "".join(character + character.upper() for character in characters)
    return f"[^{both_cases}{special}]"


def _any_case(text: str) -> str:
    """Return a pattern for a text in any case.

    Examples:
        >>> _any_case(".lz4")
        '.[lL][zZ]4'
    """
    pattern = ""
    for letter in text:
        is_letter = letter.isalpha()
        pattern += f"[{letter.lower()}{letter.upper()}]" if is_letter else letter
    return pattern


def _find_paths(
    spark: SparkSession, path: str, place: str, name_filter: str | None
) -> list[str]:
    """Return the paths that exist; on other file systems, only those Spark may misread.

    Args:
        spark: the session.
        path: the path as the user wrote it.
        place: the path for Spark.
        name_filter: the user's own `pathGlobFilter`, if there is one.

    Raises:
        InvalidInputError: the path is a pattern for what Spark has written.
    """
    folder = locate(spark, path).folder
    if folder is None:
        return _find_by_spark(spark, place, name_filter)
    matches = _matches(folder)
    if matches is None:
        return _find_by_spark(spark, place, name_filter)
    if not folder.is_dir() and file_system.is_pattern(str(folder)):
        if not matches:
            _log.warning("input %s: nothing matches this pattern yet", path)
        _refuse_what_spark_wrote(path, matches)
    entries = chain.from_iterable(map(file_system.below, matches))
    return [*matches, *_matching_files(entries, name_filter)]


def _matches(folder: Path) -> list[str] | None:
    """Return a folder, or what it matches as a pattern; None if only Hadoop knows that."""
    if folder.is_dir():
        return [str(folder)]
    try:
        return file_system.matching(str(folder))
    except re.error:  # no pattern, or one that only Hadoop knows, such as {a/b,c}
        return None


def _refuse_what_spark_wrote(path: str, matches: Sequence[str]) -> None:
    """Refuse a pattern that matches the output of Spark's file sink."""
    folders = set()
    for match in map(Path, matches):
        folders.add(match if match.is_dir() else match.parent)
    for folder in folders:
        if (folder / "_spark_metadata").exists():
            raise InvalidInputError(
                f"input {path} matches files that a query has written to {folder}, and"
                " for a pattern Spark does not leave out what is not committed; give"
                f" the folder {folder}"
            )


def _matching_files(
    entries: Iterable[os.DirEntry[str]], name_filter: str | None
) -> list[str]:
    """Return the paths of the files that Spark reads, by their names."""
    names = file_system.as_regex(name_filter or "*")
    visible = [
        entry
        for entry in entries
        if names.fullmatch(entry.name) and not file_system.is_hidden(entry.name)
    ]
    return [entry.path for entry in visible if not entry.is_dir()]


def _find_by_spark(
    spark: SparkSession, place: str, name_filter: str | None
) -> list[str]:
    """Return the same by a Spark job, for what this process cannot list.

    Where Spark may not be asked, the paths are not known.
    """
    if not may_ask(spark):
        return []
    names = name_filter
    if not names:
        names = "*" if file_system.is_pattern(place) else _names_to_misread()
    files = spark.read.format("binaryFile")
    try:
        uris = files.load(place, pathGlobFilter=names).inputFiles()
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        return []
    return [unquote(uri) for uri in uris]


def _names_to_misread() -> str:
    """Return a pattern for names that are patterns to Spark, or that Hadoop takes for packed."""
    packed = ["*" + _any_case(end) for end in _MISTAKEN]
    return f"{{*[{_SPECIAL}]*,{','.join(packed)}}}"


def _without_special_names(pattern: str, *, unpacks: bool) -> str | None:
    """Narrow a `pathGlobFilter` so that it matches no name that is a pattern to Spark.

    Args:
        pattern: the user's own `pathGlobFilter`, or `*`.
        unpacks: whether Hadoop unpacks the files by their names.

    Returns:
        The narrower pattern; None if the pattern itself names a special character, or
        has a negated set such as `[^a]`.

    Examples:
        >>> narrower = file_system.as_regex(_without_special_names("*.csv", unpacks=True))
        >>> [bool(narrower.fullmatch(name)) for name in ("a.csv", "a[1].csv", "a.txt")]
        [True, False, False]
    """
    plain_character = f"[^{_SPECIAL}]"
    narrower = {
        "*": _any_number_of(plain_character, file_system.LONGEST_NAME),
        "?": plain_character,
    }
    # At the odd places: an escaped character, a set, or one of * and ?
    parts = re.split(r"(\\.|\[[^]]*\]|[*?])", pattern)
    for part in parts[1::2]:
        if part not in narrower and _may_be_special(part):
            return None
    end = ""
    if unpacks and pattern.endswith("*") and not pattern.endswith(r"\*"):
        # In place of the last two parts, which are * and an empty text
        parts = parts[:-2]
        end = _without_suffixes("".join(parts), narrower["*"], _SPECIAL)
    return "".join(narrower.get(part, part) for part in parts) + end


def _any_number_of(character: str, limit: int) -> str:
    """Return a pattern for up to `most` characters of a set, which Hadoop's cannot repeat.

    Each character is in an optional group, which holds that of the next one.

    Examples:
        >>> _any_number_of("[^a]", 2)
        '{,[^a]{,[^a]*}}'
    """
    return f"{{,{character}" * limit + "*" + "}" * limit


def _may_be_special(part: str) -> bool:
    r"""Return whether an escaped character or a set of a pattern matches a special character.

    Examples:
        >>> [_may_be_special(part) for part in (r"\[", "[^a]", r"\a", "[ab]")]
        [True, True, False, False]
    """
    inner = part[1:]
    if part.startswith("[") and part != "[]":
        inner = part[1:-1]
    return inner[0] in "!^" or file_system.is_pattern(inner)


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
    if folder is None or not folder.is_dir():
        return place, None
    if not _splits_ties(spark, folder, options):
        return place, None
    file = F.col("_metadata.file_path")
    # The folder's own path, which has a part for each of its parents
    folder_pattern = f"^file:/+([^/]+/){{{len(folder.parts) - 1}}}"
    is_in_folder = file.rlike(f"{folder_pattern}[^/]+$")
    is_in_partition = file.rlike(f"{folder_pattern}[^/]*=")
    message = "the first folder of partitions has come; start the query again: "
    failure = F.raise_error(F.concat(F.lit(message), file)).cast("boolean")
    condition = is_in_folder | F.when(is_in_partition, failure)
    return place.rstrip("/") + IN_ORDER, condition


def _splits_ties(spark: SparkSession, folder: Path, options: Mapping[str, Any]) -> bool:
    """Whether files of one time (in ms) come in several batches, and a pattern works."""
    if _is_recursive(options):
        return False
    with os.scandir(folder) as listing:
        entries = list(listing)
    if ":" in str(folder) or any(map(_spoils_a_pattern, entries)):
        return False
    if len(entries) > int(str(spark.conf.get(_JOBS_FROM))):
        return False
    files = _stats(entries)
    times = {file.st_mtime_ns // 1_000_000 for file in files}
    return len(times) < len(files) and not _fit_in_one_batch(files, options)


def _spoils_a_pattern(entry: os.DirEntry[str]) -> bool:
    """Return whether Spark could not read a folder by a pattern because of an entry.

    Hadoop cannot resolve a pattern in a folder in which a name, or the path to it, has
    a colon (HADOOP-14217). With a pattern, Spark does not look at the log of a file
    sink, nor for partition folders.
    """
    if ":" in entry.name or entry.name.startswith("_spark_meta"):
        return True
    return "=" in entry.name and entry.is_dir()


def _stats(entries: Iterable[os.DirEntry[str]]) -> list[os.stat_result]:
    """Return the size and time of each file that Spark would read."""
    stats = []
    for entry in entries:
        # The file was deleted after the folder was listed
        with suppress(FileNotFoundError):
            if entry.is_file() and not file_system.is_hidden(entry.name):
                stats.append(entry.stat())
    return stats


def _fit_in_one_batch(
    files: Sequence[os.stat_result], options: Mapping[str, Any]
) -> bool:
    """Return whether the limit of a batch, in files or else bytes, takes all files."""
    limit = options.get("maxbytespertrigger")
    size = sum(file.st_size for file in files)
    if "maxfilespertrigger" in options:
        limit = options["maxfilespertrigger"]
        size = len(files)
    text = str(limit)
    return text.isdigit() and int(text) >= size
