"""What sources check in their arguments: numbers, times, and options, of which Spark ignores unknown ones."""

from __future__ import annotations

import difflib
import inspect
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyspark.sql.streaming.readwriter import DataStreamReader

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEAR = 0.9


def check_options(source: str, given: Iterable[str], keywords: Iterable[str]) -> None:
    """Refuse an option that is nearly a keyword of the source, or of Spark's own function for the format.

    Any other name is Spark's to know: an option of a format, of Hadoop or of Kafka's client.

    Args:
        source: the function of `sources`, such as "csv".
        given: the names of the options.
        keywords: the keywords of the function itself.

    Raises:
        InvalidInputError: a name that is nearly one of these.

    Example:
        >>> check_options("csv", ["headr"], ["schema"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown keyword of sources.csv() headr; did you mean header?
    """
    function = getattr(DataStreamReader, source, None)
    sparks = inspect.signature(function).parameters if function else ()
    known = {_plain(name): name for name in [*sparks, *keywords]}
    for name in given:
        near = difflib.get_close_matches(_plain(name), known, n=1, cutoff=_NEAR)
        # No option of Spark's has a low line: they are written as maxFileAge.
        meant = known[near[0]] if near else re.sub("_(.)", lambda found: found[1].upper(), name)
        # Some begin and end as others do: timestampNTZFormat.
        plain = _plain(name), _plain(meant)
        is_typing_error = plain[0] != plain[1] and abs(len(plain[0]) - len(plain[1])) <= 1
        if "." not in name and (is_typing_error or ("_" in name and name != meant)):
            raise InvalidInputError(f"unknown keyword of sources.{source}() {name}; did you mean {meant}?")


def check_number(name: str, number: int | None) -> None:
    """Refuse a number of rows or files that is less than 1; None is no limit."""
    if number is not None and number < 1:
        raise InvalidInputError(f"{name} must be 1 or more, not {number}")


def moment(starting: datetime) -> float:
    """Return the time at which a source starts, in seconds since 1970; without a time zone it is in UTC.

    Raises:
        InvalidInputError: it is yet to come.
    """
    at = starting if starting.tzinfo else starting.replace(tzinfo=UTC)
    if at > datetime.now(UTC):
        raise InvalidInputError(f"starting is {starting}, which is yet to come; give starting='latest'")
    return at.timestamp()


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
