"""Rows on their way into a temporary table: encoded for a database.

What a database cannot hold is changed, and counted: PostgreSQL takes no NUL in a text, MariaDB no infinity
and no time outside of the years 1 to 9999, and none of the databases bytes that are not UTF-8. To leave such
a row out would lose it, and to fail would stop the query at it for good.
"""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

__all__ = ["CHANGED", "load"]

CHANGED = {
    "mariadb": r"bytes that are not UTF-8 become \xff, infinity and times out of range null",
    "postgresql": r"bytes that are not UTF-8 become \xff, NUL characters \x00, times out of range infinity",
    "sqlite": r"bytes that are not UTF-8 become \xff",
}


def load(connection: Connection, stage: Table, parts: Iterator[pa.RecordBatch]) -> int:
    """Put rows into an empty table, column by column; return how many values were changed."""
    driver: Any = connection.connection.driver_connection
    changed = 0
    if connection.dialect.name == "postgresql":
        statement = f"COPY {stage.name} FROM STDIN (ENCODING 'UTF8')"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for part in parts:
                columns, others = _encoded(part, copy=True)
                copy.write(_copy_text(columns))
                changed += others
        return changed
    mariadb = connection.dialect.name == "mariadb"
    marks = ", ".join(["%s" if mariadb else "?"] * len(stage.columns))
    statement = f"INSERT INTO {stage.name} VALUES ({marks})"  # noqa: S608 - a constant
    cursor = driver.cursor()
    for part in parts:
        columns, others = _encoded(part, copy=False)
        if mariadb:
            columns, more = _finite(part, columns)
            others += more
        # SQLAlchemy's own insert() takes three times as long.
        cursor.executemany(statement, zip(*(column.to_pylist() for column in columns), strict=True))
        changed += others
    return changed


def _finite(part: pa.RecordBatch, columns: list[pa.Array]) -> tuple[list[pa.Array], int]:
    """Make null of what MariaDB refuses: doubles that are not finite, and times out of its range."""
    ready, changed = [], 0
    for column, given in zip(columns, part.columns, strict=True):
        refused = None
        if pa.types.is_floating(given.type):
            refused = pc.invert(pc.is_finite(given))
            changed += pc.sum(pc.cast(pc.is_inf(given), pa.int64())).as_py() or 0
        elif pa.types.is_timestamp(given.type) or pa.types.is_date(given.type):
            refused = pc.invert(pc.match_substring_regex(column, r"^\d{4}-"))
            refused = pc.or_(refused, pc.starts_with(column, "0000"))
            changed += pc.sum(pc.cast(refused, pa.int64())).as_py() or 0
        if refused is None or not pc.any(refused).as_py():
            ready.append(column)
        else:
            ready.append(pc.if_else(refused, pa.scalar(None, column.type), column))
    return ready, changed


def _copy_text(columns: list[pa.Array]) -> bytes:
    r"""Return lines in COPY's text format.

    Not in its CSV format, where before PostgreSQL 18 a line `\.` ends the data, also within a quoted text.
    """
    lines = pc.binary_join_element_wise(*columns, "\t", null_handling="replace", null_replacement="\\N")
    whole = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0]
    return bytes(whole.as_buffer()) + b"\n"


def _encoded(part: pa.RecordBatch, *, copy: bool) -> tuple[list[pa.Array], int]:
    """Return columns that a database can hold, and how many values were changed for it.

    Args:
        part: the rows.
        copy: for PostgreSQL's COPY, which takes texts alone; SQLite takes some values as they are.
    """
    columns, changed = [], 0
    for column in part.columns:
        kind, others = column.type, 0
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            ready, others = _strings(column.cast(pa.string()), copy=copy)
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            ready, others = _times(column, copy=copy)
        elif pa.types.is_decimal(kind):
            ready = _decimals(column)
        elif not copy:
            ready = column
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            texts = [None if raw is None else f"\\\\x{raw.hex()}" for raw in column.to_pylist()]
            ready = pa.array(texts, pa.string())
        else:
            ready = column.cast(pa.string())
        columns.append(ready)
        changed += others
    return columns, changed


def _strings(column: pa.Array, *, copy: bool) -> tuple[pa.Array, int]:
    r"""Make strings of UTF-8: other bytes become \xff, and for COPY a NUL becomes \x00."""
    texts, changed = column, 0
    if not _is_utf8(column) or (copy and pc.any(pc.match_substring(column, "\0")).as_py()):
        raws = column.cast(pa.binary()).to_pylist()
        plain = [None if raw is None else raw.decode("utf-8", "backslashreplace") for raw in raws]
        if copy:
            plain = [text and text.replace("\0", "\\x00") for text in plain]
        changed = sum(t is not None and t.encode() != raw for t, raw in zip(plain, raws, strict=True))
        texts = pa.array(plain, pa.string())
    if copy and pc.any(pc.match_substring_regex(texts, r"[\\\n\r\t]")).as_py():
        for raw, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
            texts = pc.replace_substring(texts, raw, escaped)
    return texts, changed


def _is_utf8(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _decimals(column: pa.Array) -> pa.Array:
    """Make texts of decimals with all their digits, never `1E-18`."""
    texts = column.cast(pa.string())
    if pc.any(pc.match_substring(texts, "E")).as_py():
        plain = [None if text is None else f"{decimal.Decimal(text):f}" for text in texts.to_pylist()]
        texts = pa.array(plain, pa.string())
    return texts


def _times(column: pa.Array, *, copy: bool) -> tuple[pa.Array, int]:
    """Make texts of dates and timestamps; an instant's text is in UTC.

    Arrow writes the years from 1 to 9999, and `_far` the others.
    """
    a_day, zone = 1, ""
    if pa.types.is_timestamp(column.type):
        a_day, zone = 86_400_000_000, "Z" if copy and column.type.tz else ""
        column = column.cast(pa.timestamp("us", "UTC" if zone else None))
    texts = column.cast(pa.string())
    units = column.cast(pa.int64() if a_day > 1 else pa.int32()).cast(pa.int64())
    others = pc.or_(pc.less(units, -719_162 * a_day), pc.greater_equal(units, 2_932_897 * a_day))
    if not pc.any(others).as_py():
        return texts, 0
    rows = zip(texts.to_pylist(), units.to_pylist(), others.to_pylist(), strict=True)
    made = [_far(unit, a_day, zone, copy=copy) if other else text for text, unit, other in rows]
    return pa.array(made, pa.string()), sum(text in ("infinity", "-infinity") for text in made)


def _far(units: int, a_day: int, zone: str, *, copy: bool) -> str:
    """Write a time before the year 1 or after 9999.

    PostgreSQL has no year 0, which is 1 BC there, and what is beyond its range is infinity.
    """
    first, last = -4712, 5_874_897  # PostgreSQL's years; no timestamp of Spark's is later than it can hold
    cycles, days = divmod(units // a_day + 719_162, 146_097)  # since the year 1, in the calendar's 400 years
    day = dt.date.fromordinal(days + 1)
    year = day.year + 400 * cycles
    if copy and not first <= year <= last:
        return "infinity" if year > 0 else "-infinity"
    before = copy and year <= 0
    shown = f"{1 - year:04}" if before else f"{'-' * (year < 0)}{abs(year):04}"
    clock = (
        "" if a_day == 1 else f" {dt.datetime.fromtimestamp(units % a_day / 1e6, dt.UTC):%H:%M:%S.%f}{zone}"
    )
    return f"{shown}{day:-%m-%d}{clock}{' BC' * before}"
