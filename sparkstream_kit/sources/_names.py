r"""Names of files and folders that Spark misreads, and options of its file source that mend it.

Spark takes a path with one of `* ? [ ] { } \` for a pattern. In a batch of several files each such name makes
it read all the others once more (SPARK-58518, Spark 3.4.1 and later); in a batch of its own the file is read
once. And Hadoop cannot open a local file with a colon in its name, because it looks for a checksum beside it.

So a source that finds such a name when it is made reads one file a batch. Any other source leaves such
names out, so that one that lands while the query runs cannot spoil a batch: it is read after the next start.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException, IllegalArgumentException

from sparkstream_kit import _files
from sparkstream_kit._spark.place import locate, path_for
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

_PATTERN = r"*?[]{}\ ".strip()
# By the path of each source of this process: for which characters in a name a file waits; None where Spark
# lists the files so that each is read once.
_left_out: dict[str, str | None] = {}
_LONGEST_NAME = 255  # of a file, on every local file system
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
    local, here = _local(spark, path), str(Path.cwd())
    place, ours = path_for(spark, path), dict[str, Any]()
    if local is not None:
        whole = os.path.abspath(local)  # noqa: PTH100 - a path of any form
        if os.path.isfile(local):  # noqa: PTH113
            raise InvalidInputError(_NOT_A_FOLDER.format(path))
        if os.path.isdir(local) and is_pattern(whole):  # noqa: PTH112
            # Spark itself gives the base of partition folders only where it sees no pattern.
            whole = _files.for_spark(Path(whole))
            place, ours = _files.escaped(whole), {"basePath": whole}
        elif is_pattern(here) and not os.path.isabs(local):  # noqa: PTH117
            place = os.path.join(_files.escaped(_files.for_spark(Path(here))), local)  # noqa: PTH118
    recursive = _is_recursive(options)
    if local is not None and recursive and (link := _link_back(local)):
        raise InvalidInputError(
            f"input {path}: {link} is a link back into it, by which Spark would read its files again and "
            "again; remove the link"
        )
    found = list(ours.values()) or _misread(spark, place, options)
    alone = recursive or str(options.get("maxfilespertrigger")) == "1"
    # No file of such a name is to come into a batch while the query runs.
    chars = "" if found else (":" if local is not None else "") + ("" if alone else _PATTERN)
    kept = _leaving_out(chars, str(options.get("pathglobfilter", "*"))) if chars else None
    where = os.path.abspath(_files.plain(place) or place)  # noqa: PTH100
    _left_out[where] = None if recursive else chars if kept else ""
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


def left_out(path: str) -> str:
    """Return the characters for which a source of this process leaves a file out of a path that it reads."""
    return _left_out.get(path) or ""


def is_read_once(path: str) -> bool:
    """Say whether Spark counts a file once in any batch, as far as a source of this process tells."""
    recursive = [folder for folder, chars in _left_out.items() if chars is None]
    # The files of a batch with partition columns are listed once, too.
    return "=" in path.rpartition("/")[0] or any(path.startswith(f"{folder}/") for folder in recursive)


def is_pattern(path: str) -> bool:
    """Say whether Spark takes a path for a pattern."""
    return _files.escaped(path) != path


def _local(spark: SparkSession, path: str) -> str | None:
    """Return a path that this process can look at, too; None for any other."""
    return None if locate(spark, path).folder is None else _files.plain(path)


def _is_recursive(options: dict[str, Any]) -> bool:
    """Say whether Spark lists each file once, as it does only then."""
    return str(options.get("recursivefilelookup")).lower() == "true"


def _misread(spark: SparkSession, path: str, options: dict[str, Any]) -> list[str]:
    """Return the files there that Spark would misread."""
    local = _local(spark, path)
    if local is None or set(local) & set("{}\\"):  # Python's patterns lack these
        return [name for name in _by_spark(spark, path, options) if is_pattern(name)]
    tops = glob.glob(local)  # noqa: PTH207 - of an absolute path or a relative one
    if not tops and is_pattern(local):
        _log.warning("input %s: nothing matches this pattern yet", path)
    files = [name for top in tops for name in _files_under(top, recursive=_is_recursive(options))]
    found = [name for name in files if is_pattern(name) or ":" in name.rpartition("/")[2]]
    if found and "pathglobfilter" in options:
        read = set(_by_spark(spark, path, options))
        return [name for name in found if os.path.abspath(name) in read]  # noqa: PTH100
    return found


def _files_under(top: str, *, recursive: bool) -> Iterator[str]:
    """Return the files that Spark reads there: also those in partition folders (`day=1`)."""
    if os.path.isfile(top):  # noqa: PTH113
        yield top
    for root, folders, files in os.walk(top, followlinks=True):
        folders[:] = [
            name for name in folders if not name.startswith((".", "_")) and (recursive or "=" in name)
        ]
        yield from (os.path.join(root, name) for name in files if not name.startswith((".", "_")))  # noqa: PTH118


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
    if not is_pattern(path):
        given = {"pathglobfilter": r"*[\*\?\[\]\{\}\\]*", "basepath": path}
    for name in {"pathglobfilter", "recursivefilelookup"} & set(options):
        given[name] = options[name]
    try:
        uris = spark.read.format("binaryFile").options(**given).load(path).inputFiles()
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND" or not is_pattern(path):
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
    parts = {"*": f"{{,{one}" * _LONGEST_NAME + "*" + "}" * _LONGEST_NAME, "?": one}
    written = re.split(r"(\\.|\[[^]]*\]|[*?])", pattern)
    for part in written[1::2]:
        if part not in parts and (part[1:2] in "!^" or any(char in chars for char in part[1:-1] or part[1:])):
            return None
    return "".join(parts.get(part, part) for part in written)


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return one of Hadoop's patterns for a name as one of Python's, also one of `_leaving_out`.

    Example:
        >>> [bool(as_regex("{a,b}?-*.cs[!x]").fullmatch(name)) for name in ("b1-.csv", "c1-.csv", "b1-.csx")]
        [True, False, False]
    """
    deep = rf"(?:\{{,(\[\^(?:\\.|[^]])*\])){{{_LONGEST_NAME}}}\*\}}{{{_LONGEST_NAME}}}"
    parts, at = {"*": ".*", "?": ".", "{": "(?:", ",": "|", "}": ")"}, 0
    made = ""
    for found in re.finditer(rf"{deep}|\\(.)|\[((?:\\.|[^]])*)\]|.", pattern, re.DOTALL):
        at += (found[0] == "{") - (found[0] == "}")
        if found[1]:
            made += f"{found[1]}*"
        elif found[2]:
            made += re.escape(found[2])
        elif found[3]:
            made += f"[{re.sub('^!', '^', found[3])}]"
        else:
            literal = found[0] == "," and not at
            made += re.escape(",") if literal else parts.get(found[0], re.escape(found[0]))
    return re.compile(made, re.DOTALL)
