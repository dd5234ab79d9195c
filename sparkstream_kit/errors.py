"""The kit's exceptions: each message says what was wrong, what was given, and the fix."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "InputUnavailable",
    "InvalidInputError",
    "KitError",
    "MissingExtraError",
    "QueryFailed",
    "check_file",
    "hint",
    "reject_unknown",
    "without_secrets",
]


class KitError(Exception):
    """Base of every error that the kit raises on purpose; the message is for the user, on one line.

    What an argument holds that nobody else may see is hidden in it.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class InvalidInputError(KitError, ValueError):
    """An argument, a flag, a file or an address that cannot be used; a job ends with exit code 2."""

    exit_code = 2


class MissingExtraError(KitError, ImportError):
    """An optional library is not installed; the message names the `pip install` to run."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional library; run: pip install 'sparkstream-kit[{extra}]'")


class QueryFailed(KitError):  # noqa: N818 - the name says what happened, as Spark's own STREAM_FAILED
    """A query, or a DStream batch, ended with an error; the others of its run have been stopped.

    Attributes:
        cause: the innermost error, on one line.
        summary: what the run had done until then (a `RunSummary`), or None.
    """

    def __init__(self, name: str, cause: str, summary: object = None) -> None:
        super().__init__(f"{name} failed: {cause}")
        self.cause = without_secrets(cause)
        self.summary = summary


class InputUnavailable(QueryFailed):
    """A query failed because its input cannot be had, such as a port that nobody listens on."""

    exit_code = 2


def without_secrets(text: str) -> str:
    """Return a text to print without the passwords of URLs in it, and without tokens and keys.

    Example:
        >>> without_secrets("unknown argument postgresql://kit:hush@host/db")
        'unknown argument postgresql://kit:***@host/db'
        >>> without_secrets("sc://host:15002/;token=hush cannot be had")
        'sc://host:15002/;token=*** cannot be had'
    """
    # Up to the last @, though one in a password should be written %40: to hide too much does no harm. As a
    # path, a URL has lost a slash.
    text = re.sub(r"(:/{1,2}[^\s/:@]*:)\S*@", r"\1***@", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret|access[._]?key)=)[^\s&;,'\"]+", r"\1***", text)


def hint(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known name nearest to `name`, or an empty string.

    Example:
        >>> hint("chekpoint", ["checkpoint", "trigger"])
        '; did you mean checkpoint?'
        >>> hint("zzz", ["checkpoint", "trigger"])
        ''
    """
    lowered = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[near[0]]}?" if near else ""


def reject_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the first of `given` that is not in `known`, naming the nearest known name.

    Args:
        what: what the names are, for the message ("keyword of start()").
        given: the names the caller used.
        known: the names that are understood.

    Raises:
        InvalidInputError: a name in `given` is not in `known`.

    Example:
        >>> reject_unknown("trigger", ["procesingTime"], ["processingTime", "availableNow"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown trigger procesingTime; did you mean processingTime?
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = hint(name, names)
            raise InvalidInputError(f"unknown {what} {name}{near or '; known: ' + ', '.join(names)}")


def check_file(what: str, path: str | Path, *suffixes: str) -> Path:
    """Return the path of a file to write, if its ending is right and its folder is there.

    Args:
        what: what the file is, for the message ("snapshot").
        path: the file, which need not exist.
        *suffixes: the endings that are understood, such as ".csv".

    Raises:
        InvalidInputError: another ending, or no such folder.

    Example:
        >>> check_file("snapshot", "totals.xml", ".csv", ".json")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: snapshot totals.xml: the name must end in .csv or .json
    """
    target = Path(path)
    if target.suffix not in suffixes:
        raise InvalidInputError(f"{what} {path}: the name must end in {' or '.join(suffixes)}")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise InvalidInputError(f"{what} {path}: folder {folder} does not exist; create it")
    return target
