"""Start and run: write the kit's own files, and treat paths and names as Spark does.

`replace` writes a file so that a reader sees the old or the new one, `private_folder`
and `private_file` keep others out, and `open_missing_streams` opens standard streams
that are closed. `is_hidden`, `is_pattern`, `matching`, `escaped` and others repeat
Spark's rules for paths and file names in Python. `in_conf` finds a file of `conf/`,
`cache_folder` the folder of the cache.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import sys
from contextlib import suppress
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sparkstream_kit.errors import InvalidInputError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.resources.abc import Traversable


# Appended to a folder, this pattern makes Spark list the folder's files by name;
# `sources` describes when.
IN_ORDER = "/{[^._]*,_*=*}"

LONGEST_NAME = 255  # of a file name, on every local file system
# Errors of a file that this user may not use, or that has no room.
NOT_USABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
# The name of the kit's folder in the user's cache, and in an environment
_OWN = "sparkstream-kit"


def replace(
    target: Path, parts: Iterable[str | bytes], *, private: bool = False
) -> None:
    """Replace a file as a whole: write one beside it, flush it to disk, and rename it.

    The new file has the permissions of the file that it replaces; with `private`, only
    this user can read it.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        # open() and not Path.open(), which has no opener
        opener = _private if private else None
        with open(temporary, "wb", opener=opener) as file:
            if not private:
                with suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), target.stat().st_mode)
            file.writelines(map(_as_bytes, parts))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        # Each retry of a supervisor would leave a file on a full disk
        temporary.unlink(missing_ok=True)
        raise


def _as_bytes(part: str | bytes) -> bytes:
    if isinstance(part, str):
        return part.encode()
    return part


def open_missing_streams() -> None:
    """Open standard output and standard error where a supervisor or `>&-` has closed them.

    Python has no stream then, and what a program writes would fail only because nobody
    reads it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nobody = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
            setattr(sys, name, nobody)


JSON_VERSION = 1  # of the answers to programs (docs/json.md)


def as_json(value: object) -> str:
    """Return a value as JSON, also one with dataclasses, times or other objects.

    A dataclass is an object of its documented fields, a time is in ISO format, and
    anything else is text.
    """
    return json.dumps(value, default=_fields, ensure_ascii=False)


def csv_record(values: Iterable[object]) -> str:
    r"""Return values as a record of CSV by RFC 4180, without its line end.

    None is an empty field, and an empty text is "". Python's csv writes both as an
    empty field, and does not quote a carriage return or a line feed that is not in its
    own line end.

    Examples:
        >>> csv_record([7, None, "", "a\rb", "c, d"])
        '7,,"","a\rb","c, d"'
    """
    fields = [_csv_field(value) for value in values]
    if fields == [""]:  # an empty line, which readers skip
        return '""'
    return ",".join(fields)


def _csv_field(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    # A line of blanks alone is skipped, too.
    if not text.strip() or any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _fields(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        documented = [field.name for field in dataclasses.fields(value) if field.repr]
        return {name: getattr(value, name) for name in documented}
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def check_writable(what: str, path: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot be written, before the work begins; make no file.

    Raises:
        InvalidInputError: the file cannot be opened for appending; the message contains
            `what`.
    """
    is_new = not os.path.lexists(path)
    try:
        Path(path).open("a").close()
        if is_new:
            Path(path).unlink()
    except OSError as err:
        raise InvalidInputError(
            f"cannot write {what} {path} ({err.strerror}); give another file"
        ) from err


def private_folder(path: Path) -> Path:
    """Create a folder of the kit, and missing folders above it, that only this user can access."""
    if not path.parent.exists() or path.parent.name == _OWN:
        private_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    if path.name == _OWN:  # it may have existed with other permissions
        path.chmod(0o700)
    return path


def private_file(path: Path) -> BinaryIO:
    """Open a file of the kit for writing, emptied, that only this user can read and write."""
    return open(path, "wb", opener=_private)


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # the file may have existed with other permissions
    return descriptor


def plain(path: str) -> str | None:
    """Return a local path without its `file:`; None for a path on another file system.

    Examples:
        >>> plain("file:///data/in"), plain("in-10:00"), plain("s3a://bucket/in")
        ('/data/in', 'in-10:00', None)
    """
    text = re.sub(r"^file:(//)?(?=/)", "", path)
    # Of the schemes that are known, also without a slash: s3a:bucket is misspelt, and
    # no folder.
    scheme = re.match(r"[a-z][a-z0-9+.-]*:/|(file|hdfs|s3[an]?):", text, re.IGNORECASE)
    return None if scheme else text


def refuse_misspelt(path: str) -> None:
    """Refuse a path whose scheme lacks its slashes, or which no text in UTF-8 can hold.

    Raises:
        InvalidInputError: the path is one such as `s3a:bucket`, which Hadoop cannot
            read; or Python could not read its name in this locale.

    Examples:
        >>> refuse_misspelt("s3a:bucket/in")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: path s3a:bucket/in is misspelt; write s3a://bucket/in
    """
    shown = path.encode(errors="backslashreplace").decode()
    if shown != path:
        raise InvalidInputError(
            f"path {shown} is not UTF-8 here; set LC_ALL=C.UTF-8, or give it another"
            " name"
        )
    scheme, _, rest = path.partition(":")
    if plain(path) is None and not rest.startswith("/"):
        slashes = "//"
        if scheme.lower() == "file":
            slashes = "///"
        raise InvalidInputError(
            f"path {path} is misspelt; write {scheme}:{slashes}{rest}"
        )


def spelt(path: str) -> str:
    """Return a local path as absolute, with links resolved; any other unchanged."""
    here = plain(path)
    if here is None:
        return path
    return os.path.realpath(here)


def log_entries(names: Iterable[str]) -> dict[int, str]:
    """Return the entries of a numbered log of Spark's, in order, from its file names.

    The keys are their numbers.

    Examples:
        >>> log_entries(["10", "9.compact", "9", ".10.crc", "metadata"])
        {9: '9.compact', 10: '10'}
    """
    numbered = [name for name in names if re.fullmatch(r"\d+(\.compact)?", name)]
    entries = sorted((int(name.split(".")[0]), name) for name in numbered)
    # K.compact replaces K: it holds K and all earlier entries. It is sorted after K, so
    # the dict keeps it.
    return dict(entries)


def query_id(metadata: str) -> str | None:
    """Return the query's id in the text of a checkpoint's `metadata`; None without one.

    Raises:
        ValueError: the text is no JSON.

    Examples:
        >>> query_id('{"id":"ad7c6d5c-1f2e-4b6a-9c3d-0a1b2c3d4e5f"}')
        'ad7c6d5c-1f2e-4b6a-9c3d-0a1b2c3d4e5f'
    """
    fields = json.loads(metadata)
    if isinstance(fields, dict) and isinstance(fields.get("id"), str):
        return str(fields["id"])
    return None


def local(what: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a file or folder that must be on this machine.

    Raises:
        InvalidInputError: the path is on another file system.
    """
    text = plain(str(path))
    if text is None:
        raise InvalidInputError(
            f"{what} {path} is not on this machine; give a local path"
        )
    return Path(text)


def is_url(text: str) -> bool:
    """Return whether a text is an HTTP or HTTPS URL.

    Examples:
        >>> is_url("https://api.x.com/2"), is_url("posts/"), is_url("api.x.com/2")
        (True, False, False)
    """
    return re.match(r"https?:/", text, re.IGNORECASE) is not None


def for_spark(path: Path) -> str:
    """Return a local path as a URL that Spark takes literally, whatever its default file system.

    This is not `Path.as_uri`: Spark would read `%20` as a part of the name.

    Examples:
        >>> for_spark(Path("/my models"))
        'file:///my models'
    """
    return f"file://{path}"


def escaped(path: str) -> str:
    r"""Escape a path for Spark's readers, which would otherwise read it as a pattern.

    Examples:
        >>> print(escaped("/in/sales[7]"))
        /in/sales\[7\]
    """
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def folder_of(path: str) -> str:
    """Return a source's folder, without the pattern that makes Spark list it by name.

    Examples:
        >>> folder_of("/data/in" + IN_ORDER), folder_of("/data/in")
        ('/data/in', '/data/in')
    """
    return path.removesuffix(IN_ORDER)


def is_hidden(name: str) -> bool:
    """Return whether Spark ignores a file or folder because of its name.

    Examples:
        >>> [is_hidden(name) for name in ("a.csv", ".a.csv", "_a.csv", "a.csv._COPYING_", "_day=1")]
        [False, True, True, True, False]
    """
    return (
        name.startswith(".")
        or (name.startswith("_") and "=" not in name)
        or name.endswith("._COPYING_")
    )


def below(top: str, *, recursive: bool = False) -> Iterator[os.DirEntry[str]]:
    """Yield what a folder holds; for a subfolder that Spark reads, what that holds.

    An entry that disappears meanwhile is skipped, and so is a link to itself. A link to
    a missing file is yielded.
    """
    tops = [top]
    while tops:
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(tops.pop()) as entries,
        ):
            for entry in entries:
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link to itself
                    continue
                # Spark reads a subfolder such as day=1 always.
                is_read = recursive or "=" in entry.name
                if is_folder and is_read and not is_hidden(entry.name):
                    tops.append(entry.path)
                else:
                    yield entry


def matching(pattern: str) -> list[str]:
    """Return the existing paths on this machine that a Hadoop pattern, or a plain path, matches.

    The list is empty for a pattern on another file system.
    """
    local = plain(pattern)
    if local is None:
        return []
    paths = ["/"]
    for part in filter(None, os.path.abspath(local).split("/")):  # noqa: PTH100 - a pattern
        if is_pattern(part):
            paths = _matching_in(paths, as_regex(part))
        else:
            paths = [os.path.join(path, part) for path in paths]  # noqa: PTH118
    return [path for path in paths if os.path.exists(path)]  # noqa: PTH110


def _matching_in(folders: list[str], wanted: re.Pattern[str]) -> list[str]:
    """Return the paths of the entries of some folders whose names match."""
    paths: list[str] = []
    for folder in folders:
        if os.path.isdir(folder):  # noqa: PTH112
            names = filter(wanted.fullmatch, os.listdir(folder))  # noqa: PTH208
            paths += [os.path.join(folder, name) for name in names]  # noqa: PTH118
    return paths


def matches(pattern: str, path: str) -> bool:
    """Return whether a Hadoop pattern matches a local path, or a folder above it.

    The path need not exist.

    Examples:
        >>> [matches("/in/*/day=?", path) for path in ("/in/a/day=1/b.csv", "/in/a", "/in/day=1/b")]
        [True, False, False]
    """
    local = plain(pattern)
    if local is None:
        return False
    parts = os.path.abspath(local).split("/")  # noqa: PTH100 - a pattern
    names = path.split("/")
    if len(parts) > len(names):
        return False
    above = zip(parts, names, strict=False)
    return all(as_regex(part).fullmatch(name) for part, name in above)


def is_pattern(path: str) -> bool:
    """Return whether Spark reads a path as a pattern."""
    return escaped(path) != path


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return a Hadoop pattern for one name as a Python regular expression; it may exclude names.

    Examples:
        >>> matched = as_regex("{a,b}?-*.cs[!x]").fullmatch
        >>> [bool(matched(name)) for name in ("b1-.csv", "c1-.csv", "b1-.csx")]
        [True, False, False]
        >>> generated = "{,[^a]" * LONGEST_NAME + "*" + "}" * LONGEST_NAME  # by `sources`
        >>> as_regex(f"{generated}7").pattern
        '[^a]*7'
    """
    open_groups = 0
    regex = ""
    for token in re.finditer(_TOKENS, pattern, re.DOTALL | re.VERBOSE):
        if token["none_of"]:
            regex += f"{token['none_of']}*"
        elif token["escaped"]:
            regex += re.escape(token["escaped"])
        elif token["one_of"]:
            regex += f"[{re.sub('^!', '^', token['one_of'])}]"
        elif token[0] == "{":
            open_groups += 1
            regex += "(?:"
        elif token[0] == "}":
            open_groups -= 1
            regex += ")"
        elif token[0] == "," and open_groups:
            regex += "|"
        elif token[0] == ",":
            regex += ","
        else:
            regex += _SIGNS.get(token[0], re.escape(token[0]))
    return re.compile(regex, re.DOTALL)


# What a Hadoop pattern consists of. The first is how `sources` excludes characters from
# a name of any length: {,[^x]{,[^x]…*}}, nested as deep as a name can be long.
_TOKENS = rf"""
    (?: \{{, (?P<none_of> \[\^ (?: \\. | [^]] )* \] ) ){{{LONGEST_NAME}}} \*\}}{{{LONGEST_NAME}}}
    | \\ (?P<escaped> . )
    | \[ (?P<one_of> (?: \\. | [^]] )* ) \]
    | .
"""
_SIGNS = {"*": ".*", "?": "."}


def in_conf(name: str) -> Traversable:
    """Return a file of `conf/`: of the wheel or zip if there, else of the checkout."""
    packaged = resources.files("sparkstream_kit") / "conf" / name
    if packaged.is_file():
        return packaged
    return Path(__file__).parents[2] / "conf" / name


def cache_folder() -> Path:
    """Return the kit's cache folder, for files that can be made again, by the XDG rules.

    It is never in /tmp, where other users can write.

    Raises:
        InvalidInputError: this user has no home folder, and XDG_CACHE_HOME names none.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if cache.is_absolute():  # the XDG rules say to ignore a relative path
        return cache / _OWN
    try:
        return Path.home() / ".cache" / _OWN
    except RuntimeError as err:
        raise InvalidInputError(f"{err}; set XDG_CACHE_HOME to a folder") from err


def unreached(cause: str) -> type[InvalidInputError]:
    """Return the kind of the error for a file system or a catalog that failed with this cause.

    Examples:
        >>> unreached("ConnectException: Connection refused")
        <class 'sparkstream_kit.errors.TransientError'>
        >>> unreached("AccessControlException: no")
        <class 'sparkstream_kit.errors.InvalidInputError'>
    """
    away = re.search(
        "Connect(ion)?(Exception|Error)|NoRouteTo|UnknownHost|Time(d ?)?out|"
        "Unavailable|Standby|"
        # As those of a catalog in SQL say
        "Connection refused|database is locked",
        cause,
    )
    if away:
        return TransientError
    return InvalidInputError
