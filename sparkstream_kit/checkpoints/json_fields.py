"""Start and run: find columns that no line of the JSON files of a run has.

Spark reads a field that is missing as NULL, without a word, and leaves out a field that
the schema lacks. So a renamed field is a column that is NULL in each row.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_MOST = 8_000_000  # bytes to look at, so that the end of a run stays quick
_LISTED = 5  # fields that a hint names
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


class OtherFields(NamedTuple):
    """The columns that no line has, and the fields that the lines have and the schema lacks.

    The names are those in a `QuerySummary`.
    """

    absent_fields: tuple[str, ...] = ()
    other_fields: tuple[str, ...] = ()


def other_fields(files: Iterable[str], columns: Sequence[str]) -> OtherFields:
    """Compare the names of columns with the fields of JSON files.

    A column counts as absent only if there are other fields in its place: a field that
    may be missing is no mistake. Upper and lower case count as equal.

    Args:
        files: local files of JSON, UTF-8, plain or packed with gzip.
        columns: the names that the schema has.

    Returns:
        Both are empty if each column is in some line, if the first file is no JSON, or
        if there is more to look at than 8 MB.
    """
    absent = {name.lower(): name for name in columns}
    others: list[str] = []
    left = _MOST
    for number, file in enumerate(files):
        content = _beginning(file, left + 1)
        left -= len(content)
        text = content.decode("utf-8", "replace")
        if number == 0:
            others = [each for each in _fields(text) if each.lower() not in absent]
        in_folders = re.findall(r"/([^/=]+)=[^/]*(?=/)", file.lower())
        # Many writers escape each letter that is not ASCII
        lowered = _ESCAPED.sub(lambda code: chr(int(code[1], 16)), text).lower()
        for name in list(absent):
            is_there = re.search(rf'"{re.escape(name)}"\s*:', lowered)
            if is_there or name in in_folders:
                del absent[name]
        if not absent or not others or left < 0:
            return OtherFields()
    if not others:  # there is no file
        return OtherFields()
    return OtherFields(tuple(absent.values()), tuple(others[:_LISTED]))


def _beginning(file: str, most: int) -> bytes:
    """Return the first bytes of a file; none if it cannot be read."""
    opened: Any = gzip.open if file.endswith(".gz") else open
    try:
        with opened(file, "rb") as content:
            return bytes(content.read(most))
    except (OSError, EOFError, zlib.error):
        return b""


def _fields(text: str) -> list[str]:
    """Return the names of the fields of the first object in a text."""
    for candidate in (text.lstrip().partition("\n")[0], text):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            return list(value)
    return []
