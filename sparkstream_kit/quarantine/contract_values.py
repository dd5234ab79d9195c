"""Extra: what a rule of a data contract is about: a value of a row, and values in SQL.

`quarantine.contracts` makes rules of these.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pyspark.sql import types as T

from sparkstream_kit._internal.columns import quoted
from sparkstream_kit._internal.durations import unknown_zone
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.patterns import of_java, why_broken

TIMESTAMPS = (T.TimestampType, T.TimestampNTZType)
_MOST_DIGITS = 38  # of a decimal, also of one that is written in SQL
_IN_QUOTES = "write it in quotes"
_LIKE_A_DATE = "write it like 2026-01-31"


class Rule(NamedTuple):
    """A rule that each row decides.

    Attributes:
        name: what the contract calls it, such as "amount: minimum 0".
        condition: what is true for a good row (SQL).
        level: what `expect` does with a row that breaks it.
        more: what of the rule is not checked; empty if nothing.
    """

    name: str
    condition: str
    level: str = "quarantine"
    more: str = ""


class Left(NamedTuple):
    """A rule that is not checked, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Value:
    """A value in a row.

    Attributes:
        path: its place, for names, such as `lines[].price`.
        sql: the value (SQL).
        arrays: the arrays in which it lies (SQL), each with the name of its element.
        within: the struct that it is in (SQL); empty for a column.
        zone: the zone of times that the contract writes without one.
    """

    path: str
    sql: str
    arrays: tuple[tuple[str, str], ...] = ()
    within: str = ""
    zone: str = "UTC"

    def field(self, name: str) -> Value:
        """Return a field of this struct."""
        sql = f"{self.sql}.{quoted(name)}"
        return replace(self, path=f"{self.path}.{name}", sql=sql, within=self.sql)

    def each(self, array: str, mark: str = "[]") -> Value:
        """Return what stands for each element of an array that is made of this value."""
        element = f"element{len(self.arrays) + 1}"
        arrays = (*self.arrays, (array, element))
        return Value(f"{self.path}{mark}", element, arrays)

    def rule(self, name: str, condition: str) -> Rule:
        """Return a rule; its condition is about one element of the arrays."""
        whole = condition
        for array, element in reversed(self.arrays):
            whole = f"{array} IS NULL OR forall({array}, {element} -> {whole})"
        return Rule(f"{self.path}: {name}", whole)

    def unless_null(self, name: str, condition: str) -> Rule:
        """Return a rule that holds for a value that is null."""
        return self.rule(name, f"{self.sql} IS NULL OR {condition}")

    def left(self, name: str, why: str) -> Left:
        """Return a rule that is not checked."""
        return Left(f"{self.path}: {name}", why)


def is_one_of(values: list[Any], value: Value, kind: T.DataType, key: str) -> str:
    """Return the condition that a value is one of those in a list of the contract."""
    texts = [literal(each, value, kind, key) for each in values if each is not None]
    return f"{value.sql} IN ({', '.join(texts) or 'NULL'})"


def matches(pattern: Any, value: Value) -> str:
    """Return the condition that a value has a pattern.

    Raises:
        InvalidInputError: it is no regular expression, at which a query would fail.
    """
    if not isinstance(pattern, str):
        raise wrong(pattern, value, "pattern", "a text", _IN_QUOTES)
    for_java = of_java(pattern)
    why = why_broken(for_java)
    if why:
        kind = f"a regular expression ({why})"
        raise wrong(pattern, value, "pattern", kind, "correct it")
    return f"{value.sql} RLIKE {text_in_sql(for_java)}"


def literal(given: Any, value: Value, kind: T.DataType, key: str) -> str:
    """Return a value of a contract in SQL.

    Raises:
        InvalidInputError: it is not of the column's type.
    """
    if isinstance(kind, T.StringType):
        if not isinstance(given, str):
            raise wrong(given, value, key, "a text", _IN_QUOTES)
        return text_in_sql(given)
    if isinstance(kind, T.BooleanType):
        if not isinstance(given, bool):
            raise wrong(given, value, key, "true or false", "write one of them")
        return str(given).lower()
    if isinstance(kind, T.NumericType):
        number = number_in_sql(given, value, key)
        # As a decimal, 0.1 is not the value that a FLOAT has
        return f"CAST({number} AS FLOAT)" if isinstance(kind, T.FloatType) else number
    if isinstance(kind, T.DateType):
        return _date(given, value, key)
    if isinstance(kind, TIMESTAMPS):
        return _timestamp(given, value, kind, key)
    raise InvalidInputError(
        f"{value.path}: {key} is for single values, and the column is"
        f" {kind.simpleString()}; leave it out of the contract"
    )


def text_in_sql(given: str) -> str:
    r"""Return a text in SQL; without quotes in it, it is written as it is.

    Examples:
        >>> print(text_in_sql(r"^\d+$"), text_in_sql("it's"))
        r'^\d+$' 'it\'s'
    """
    if "'" not in given:
        return f"r'{given}'"
    escaped = given.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def number_in_sql(given: Any, value: Value, key: str) -> str:
    """Return a number of a contract in SQL.

    Raises:
        InvalidInputError: it is none, or one that no column can hold.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not _is_finite(given):
        raise wrong(given, value, key, "a number", "write one, without quotes")
    number = Decimal(str(given))
    digits = format(number, "f")
    if len(re.sub(r"\D", "", digits)) > _MOST_DIGITS:
        return f"{number:e}D"
    return digits


def _is_finite(number: float) -> bool:
    """Return whether a number is one that a column can hold.

    Examples:
        >>> _is_finite(10**38), _is_finite(10**400), _is_finite(float("inf"))
        (True, False, False)
    """
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def whole(given: Any, value: Value, key: str) -> int:
    """Return a number of a contract that says how many.

    Raises:
        InvalidInputError: it is none, or below 0.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise wrong(given, value, key, "a whole number", "write 0 or more")
    return given


def _date(given: Any, value: Value, key: str) -> str:
    try:
        day = dt.date.fromisoformat(str(given))
    except ValueError:
        raise wrong(given, value, key, "a date", _LIKE_A_DATE) from None
    return f"DATE'{day.isoformat()}'"


def _timestamp(given: Any, value: Value, kind: T.DataType, key: str) -> str:
    """Return a time in SQL; without an offset it is one of the contract's zone.

    Raises:
        InvalidInputError: it is no time, or there is no such zone.
    """
    try:
        time = dt.datetime.fromisoformat(str(given))
    except ValueError:
        raise wrong(given, value, key, "a time", f"{_LIKE_A_DATE} 10:30:00") from None
    if isinstance(kind, T.TimestampNTZType):
        return f"TIMESTAMP_NTZ'{time.replace(tzinfo=None).isoformat(sep=' ')}'"
    if time.tzinfo is None:
        time = time.replace(tzinfo=_zone(value))
    return f"TIMESTAMP'{time.isoformat(sep=' ')}'"


def _zone(value: Value) -> dt.tzinfo:
    """Return the zone of times that the contract writes without one.

    Raises:
        InvalidInputError: there is no such zone.
    """
    try:
        of_offset = dt.datetime.fromisoformat(f"2026-01-01T00:00:00{value.zone}").tzinfo
    except ValueError:
        of_offset = None
    if value.zone == "UTC" or of_offset is not None:
        return of_offset or dt.UTC
    try:
        return ZoneInfo(value.zone)
    except (ZoneInfoNotFoundError, ValueError):
        error = unknown_zone(value.zone)
        raise InvalidInputError(f"{value.path}: defaultTimezone: {error}") from None


def wrong(given: Any, value: Value, key: str, kind: str, fix: str) -> InvalidInputError:
    """Return the error for a value of a contract that is not of the kind it must be."""
    return InvalidInputError(
        f"{value.path}: {key} has {given!r}, which is not {kind}; {fix}"
    )
