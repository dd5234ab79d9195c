"""Files: the kit's own, replaced whole or as lines of JSON, where they go, and what Spark makes of names."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import stat
from contextlib import suppress
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.abc import ResourceLoader
    from importlib.resources.abc import Traversable


# Behind a folder, it has Spark list the folder's files by their names; `sources` says when.
IN_ORDER = "/{[^._]*,_*=*}"

LONGEST_NAME = 255  # of a file, on every local file system
# By the path of each source of this process: for which characters in a name a file waits; None where Spark
# lists the files so that each is read once.
left_out: dict[str, str | None] = {}
_OWN = "sparkstream-kit"  # the folder of the kit in the user's cache, and in an environment


def replace(target: Path, parts: Iterable[str | bytes], *, private: bool = False) -> None:
    """Put a file in place whole: written beside it, flushed to the disk, renamed.

    A file that was there hands on who may read and write it.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        opener = _private if private else None  # which Path.open lacks
        with open(temporary, "wb", opener=opener) as file:
            if not private and (before := _mode(target)) is not None:
                os.fchmod(file.fileno(), before)
            file.writelines(part.encode() if isinstance(part, str) else part for part in parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)  # each try of a supervisor's would fill a full disk further
        raise


def _mode(path: Path) -> int | None:
    """Return who may read and write a file; None if there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def as_json(value: object) -> str:
    """Return what programs read of a value: of a dataclass its documented fields, of a time its ISO form."""
    return json.dumps(value, default=_fields, ensure_ascii=False)


def _fields(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.repr}
    return value.isoformat() if isinstance(value, datetime) else str(value)


def check_writable(what: str, path: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot be written: now, and not after the last row.

    Raises:
        InvalidInputError: with what the path is for.
    """
    try:
        Path(path).open("a").close()
    except OSError as err:
        raise InvalidInputError(f"cannot write {what} {path} ({err.strerror}); give another file") from err


def private_folder(path: Path) -> Path:
    """Make a folder of the kit's own, with those above it that are missing, for this user alone."""
    if not path.parent.exists() or path.parent.name == _OWN:
        private_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    if path.name == _OWN:  # it may have been there
        path.chmod(0o700)
    return path


def private_file(path: Path) -> BinaryIO:
    """Open a file of the kit's own to be written anew, for this user alone."""
    return open(path, "wb", opener=_private)


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # it may have been there
    return descriptor


def plain(path: str) -> str | None:
    """Return a local path without its `file:`, as Python writes it; None for one of another file system.

    Examples:
        >>> plain("file:///data/in"), plain("data/in"), plain("s3a://bucket/in")
        ('/data/in', 'data/in', None)
    """
    text = re.sub(r"^file:(//)?(?=/)", "", path)
    return None if re.match(r"[a-z][a-z0-9+.-]*:", text, re.IGNORECASE) else text


def log_entries(names: Iterable[str]) -> dict[int, str]:
    """Return the entries of one of Spark's numbered logs by their number, in order, of the names there.

    Examples:
        >>> log_entries(["10", "9.compact", "9", ".10.crc", "metadata"])
        {9: '9.compact', 10: '10'}
    """
    found = [name for name in names if re.fullmatch(r"\d+(\.compact)?", name)]
    # K.compact, which holds all that came before, stands for K.
    in_order = sorted((int(name.split(".")[0]), name) for name in found)
    return dict(in_order)


def local(what: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a file or folder that only this machine's disks can hold.

    Raises:
        InvalidInputError: it is on another file system.
    """
    text = plain(str(path))
    if text is None:
        raise InvalidInputError(f"{what} {path} is not on this machine; give a local path")
    return Path(text)


def for_spark(path: Path) -> str:
    """Return a local path so that Spark takes it as it is, whatever its default file system.

    Not `Path.as_uri`: Spark would take `%20` for a part of the name.

    Examples:
        >>> for_spark(Path("/my models"))
        'file:///my models'
    """
    return f"file://{path}"


def escaped(path: str) -> str:
    r"""Return a path for Spark's readers, which take it for a pattern otherwise.

    Examples:
        >>> print(escaped("/in/sales[7]"))
        /in/sales\[7\]
    """
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def folder_of(path: str) -> str:
    """Return the folder that a source reads, of the path by which Spark lists its files in their order.

    Examples:
        >>> folder_of("/data/in" + IN_ORDER), folder_of("/data/in")
        ('/data/in', '/data/in')
    """
    return path.removesuffix(IN_ORDER)


def is_read_once(path: str) -> bool:
    """Say whether Spark counts a file once in any batch, as far as a source of this process tells."""
    recursive = [folder for folder, chars in left_out.items() if chars is None]
    # The files of a batch with partition columns are listed once, too.
    return "=" in path.rpartition("/")[0] or any(path.startswith(f"{folder}/") for folder in recursive)


def is_hidden(name: str) -> bool:
    """Say whether Spark passes over a file or a folder, by its name.

    Examples:
        >>> [is_hidden(name) for name in ("a.csv", ".a.csv", "_a.csv", "a.csv._COPYING_", "_day=1")]
        [False, True, True, True, False]
    """
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def is_read_below(name: str, *, recursive: bool) -> bool:
    """Say whether Spark reads the files of a folder in a folder: `day=1`, or any if it is told to."""
    return not is_hidden(name) and (recursive or "=" in name)


def below(top: str, *, recursive: bool = False) -> Iterator[os.DirEntry[str]]:
    """Yield what lies in a folder, and in place of each folder in it that Spark reads, what lies in that.

    What is gone by now is left out, and so is a link to nothing.
    """
    tops = [top]
    while tops:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(tops.pop()) as entries:
            for entry in entries:
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link to itself
                    continue
                if is_folder and is_read_below(entry.name, recursive=recursive):
                    tops.append(entry.path)
                else:
                    yield entry


def matching(pattern: str) -> list[str]:
    """Return the paths on this machine that one of Hadoop's patterns stands for, or that a path is.

    None for a pattern of another file system.
    """
    local = plain(pattern)
    if local is None:
        return []
    found = ["/"]
    for part in filter(None, os.path.abspath(local).split("/")):  # noqa: PTH100 - a pattern
        if not is_pattern(part):
            found = [os.path.join(each, part) for each in found]  # noqa: PTH118
            continue
        wanted = as_regex(part)
        found = [
            os.path.join(each, name)  # noqa: PTH118
            for each in found
            if os.path.isdir(each)  # noqa: PTH112
            for name in os.listdir(each)  # noqa: PTH208
            if wanted.fullmatch(name)
        ]
    return [each for each in found if os.path.exists(each)]  # noqa: PTH110


def is_pattern(path: str) -> bool:
    """Say whether Spark takes a path for a pattern."""
    return escaped(path) != path


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return one of Hadoop's patterns for a name as one of Python's, also one that leaves names out.

    Examples:
        >>> [bool(as_regex("{a,b}?-*.cs[!x]").fullmatch(name)) for name in ("b1-.csv", "c1-.csv", "b1-.csx")]
        [True, False, False]
    """
    deep = rf"(?:\{{,(\[\^(?:\\.|[^]])*\])){{{LONGEST_NAME}}}\*\}}{{{LONGEST_NAME}}}"
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


def in_conf(name: str) -> Traversable:
    """Return a file of `conf/`: from the wheel or zip first, from the checkout next."""
    packaged = resources.files("sparkstream_kit") / "conf" / name
    return packaged if packaged.is_file() else Path(__file__).parent.parent / "conf" / name


def pyspark_folder() -> Path | None:
    """Return where an import would find PySpark, without the time that the import takes."""
    found = importlib.util.find_spec("pyspark")
    return Path(found.origin).parent if found and found.origin else None


def pyspark_version() -> str:
    """Return the version of that PySpark, also out of the zip that `spark-submit` gives; "" without one."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        return ""
    loader = cast("ResourceLoader", found.loader)
    with suppress(OSError):
        text = loader.get_data(str(Path(found.origin).with_name("version.py"))).decode()
        if version := re.search(r"""^__version__.*["'](.+)["']""", text, re.MULTILINE):
            return version[1]
    return ""


def cache_folder() -> Path:
    """Return where the kit keeps what can be made again, by the XDG rules; never /tmp, where others write.

    Raises:
        InvalidInputError: this user has no home folder, and XDG_CACHE_HOME names none.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG rules ignore a relative path.
        return (given if given.is_absolute() else Path.home() / ".cache") / _OWN
    except RuntimeError as err:
        raise InvalidInputError(f"{err}; set XDG_CACHE_HOME to a folder") from err
