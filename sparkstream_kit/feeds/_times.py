"""Times as rows and files hold them: epoch seconds, ISO texts and datetimes, compared as microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR = 2099
_MILLISECONDS_FROM = 100_000_000_000  # as seconds the year 5138, as milliseconds 1973


def microseconds(value: object, pattern: str | None = None) -> int | None:
    """Return a time in microseconds since 1970, or None if it cannot be read.

    A number, or a text that is one, is epoch seconds; from 100,000,000,000 on it is milliseconds. Any other
    text is ISO 8601 with hyphens, and UTC if it names no time zone. With a pattern of `datetime.strptime` it
    is a text of that alone.

    Example:
        >>> microseconds("1/2/1970 0:00", "%m/%d/%Y %H:%M")
        86400000000
        >>> microseconds(5), microseconds("5.5"), microseconds("1970-01-01T00:00:05Z"), microseconds("soon")
        (5000000, 5500000, 5000000, None)
    """
    try:
        if pattern is not None:
            value = datetime.strptime(str(value), pattern)  # noqa: DTZ007 - UTC, below
        elif isinstance(value, str):
            value = datetime.fromisoformat(value) if _is_iso(value) else _number(value)
        if isinstance(value, datetime):
            zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
            return (zoned - _EPOCH) // timedelta(microseconds=1)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return round(value * (1000 if abs(value) >= _MILLISECONDS_FROM else 1_000_000))
    except (ValueError, OverflowError):
        pass
    return None


def in_far_year(value: Any) -> Any:
    """Return a time that `microseconds` can read, moved to the year 2099; of the same kind and shape.

    Example:
        >>> in_far_year("2024-02-29 12:00:00"), in_far_year(0)
        ('2099-02-28 12:00:00', 4070908800)
    """
    if isinstance(value, str):
        if not _is_iso(value):
            return str(in_far_year(_number(value)))
        return f"{_FAR}{value[4:]}".replace(f"{_FAR}-02-29", f"{_FAR}-02-28")
    if isinstance(value, datetime):
        return value.replace(year=_FAR, day=min(value.day, 28) if value.month == 2 else value.day)  # noqa: PLR2004
    scale = 1000 if abs(value) >= _MILLISECONDS_FROM else 1
    moved = in_far_year(_EPOCH + timedelta(seconds=float(value) / scale)) - _EPOCH
    return type(value)(moved / timedelta(seconds=1) * scale)


def _is_iso(text: str) -> bool:
    return text[4:5] == "-"  # else fromisoformat would take some long numbers for dates


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)
