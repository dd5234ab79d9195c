r"""What each value becomes on its way into a database, made by the workers: a blob of a whole Arrow batch.

Every function is nested in the one that returns it: so it goes to the workers as a whole, and they do not
need the kit. What a database cannot hold is changed, and counted: PostgreSQL takes no NUL in a text, and
neither database bytes that are not UTF-8. To leave such a row out would lose it, and to fail would stop the
query at it for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    _Encode = Callable[[pa.RecordBatch], tuple[bytes, int]]  # a blob, and how many values were changed for it
    _Convert = Callable[[Any], tuple[Any, int]]  # of a column

__all__ = ["as_copy_text", "as_ipc"]


def as_ipc() -> _Encode:
    """Return the function that makes a blob for SQLite."""
    values = _values(copy=False)

    def encode(part: pa.RecordBatch) -> tuple[bytes, int]:
        import pyarrow as pa

        columns, changed = zip(*map(values, part.columns), strict=True)
        sink = pa.BufferOutputStream()
        ready = pa.RecordBatch.from_arrays(list(columns), names=part.schema.names)
        with pa.ipc.new_stream(sink, ready.schema) as writer:
            writer.write_batch(ready)
        return cast("bytes", sink.getvalue().to_pybytes()), sum(changed)

    return encode


def as_copy_text() -> _Encode:
    r"""Return the function that makes a blob of COPY's text format.

    Not of its CSV format, where before PostgreSQL 18 a line `\.` ends the data, also within a quoted text.
    """
    values = _values(copy=True)

    def encode(part: pa.RecordBatch) -> tuple[bytes, int]:
        import pyarrow as pa
        import pyarrow.compute as pc

        columns, changed = [], 0
        for column in part.columns:
            text, others = values(column)
            changed += others
            free = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            if free and pc.any(pc.match_substring_regex(text, r"[\\\n\r\t]")).as_py():
                for raw, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
                    text = pc.replace_substring(text, raw, escaped)
            columns.append(text.cast(pa.string()))
        lines = pc.binary_join_element_wise(*columns, "\t", null_handling="replace", null_replacement="\\N")
        whole = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0]
        return cast("bytes", whole.as_buffer().to_pybytes() + b"\n"), changed

    return encode


def _values(*, copy: bool) -> _Convert:
    """Return the function that makes of a column what the database can hold.

    Args:
        copy: for PostgreSQL, which takes texts alone; else for SQLite, which takes some values as they are.
    """
    strings, decimals, times = _strings(nul=not copy), _decimals(), _times(copy=copy)

    def values(column: Any) -> tuple[Any, int]:
        import pyarrow as pa

        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return strings(column)
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return times(column)
        if pa.types.is_decimal(kind):
            return decimals(column)
        return (column.cast(pa.string()) if copy else column), 0

    return values


def _strings(*, nul: bool) -> _Convert:
    r"""Return the function for strings: bytes that are not UTF-8 become \xff, and NUL \x00 unless `nul`."""

    def strings(column: Any) -> tuple[Any, int]:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            column.validate(full=True)
            if nul or not pc.any(pc.match_substring(column, "\0")).as_py():
                return column, 0
        except pa.ArrowInvalid:  # not UTF-8
            pass
        raws = column.cast(pa.large_binary()).to_pylist()
        texts = [None if raw is None else raw.decode("utf-8", "backslashreplace") for raw in raws]
        if not nul:
            texts = [text and text.replace("\0", "\\x00") for text in texts]
        changed = sum(t is not None and t.encode() != raw for t, raw in zip(texts, raws, strict=True))
        return pa.array(texts, pa.string()), changed

    return strings


def _decimals() -> _Convert:
    """Return the function for decimals: texts with all their digits, never `1E-18`."""

    def decimals(column: Any) -> tuple[Any, int]:
        import decimal

        import pyarrow as pa
        import pyarrow.compute as pc

        texts = column.cast(pa.string())
        if pc.any(pc.match_substring(texts, "E")).as_py():
            plain = [None if text is None else f"{decimal.Decimal(text):f}" for text in texts.to_pylist()]
            texts = pa.array(plain, pa.string())
        return texts, 0

    return decimals


def _times(*, copy: bool) -> _Convert:
    """Return the function for dates and timestamps; an instant's text is in UTC.

    Arrow writes the years from 1 to 9999, and this the others: PostgreSQL has no year 0, which is 1 BC there,
    and what is beyond its range is infinity.
    """
    first, last = -4712, 5_874_897  # PostgreSQL's years; no timestamp of Spark's is later than it can hold

    def far(units: int, a_day: int, zone: str) -> str:
        import datetime as dt

        days, time = divmod(units, a_day)
        cycles, days = divmod(days + 719_162, 146_097)  # since the year 1, in the 400 years of the calendar
        day = dt.date.fromordinal(days + 1)
        year = day.year + 400 * cycles
        if copy and not first <= year <= last:
            return "infinity" if year > 0 else "-infinity"
        before = copy and year <= 0
        shown = f"{1 - year:04}" if before else f"{'-' * (year < 0)}{abs(year):04}"
        clock = "" if a_day == 1 else f" {dt.datetime.fromtimestamp(time / 1e6, dt.UTC):%H:%M:%S.%f}{zone}"
        return f"{shown}{day:-%m-%d}{clock}{' BC' * before}"

    def times(column: Any) -> tuple[Any, int]:
        import pyarrow as pa
        import pyarrow.compute as pc

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
        made = [far(unit, a_day, zone) if other else text for text, unit, other in rows]
        return pa.array(made, pa.string()), sum(text in ("infinity", "-infinity") for text in made)

    return times
