"""Numbers, sizes and times, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sparkstream_kit.checkpoints._inputs import Input

_SHOWN = 5  # files that are named; of more the number is said


def count(number: int, what: str) -> str:
    """Return a number of things.

    Example:
        >>> count(1, "file"), count(2000, "file"), count(2, "batch")
        ('1 file', '2,000 files', '2 batches')
    """
    many = f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"{number:,} {what if number == 1 else many}"


def size(number: float) -> str:
    """Return a number of bytes.

    Example:
        >>> size(999), size(2048), size(50 << 20)
        ('999 B', '2.0 KiB', '50 MiB')
    """
    units = iter(("B", "KiB", "MiB", "GiB"))
    unit, step = next(units), 1024
    while number >= step and unit != "GiB":
        number, unit = number / step, next(units)
    return f"{number:,.{int(unit != 'B' and number < 10)}f} {unit}"  # noqa: PLR2004 - two digits


def time(moment: datetime) -> str:
    """Return a moment of UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def short(text: str, room: int = 60) -> str:
    """Return a text, or its beginning if it is long."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


def batches(first: int, last: int) -> str:
    """Return a range of batches.

    Example:
        >>> batches(3, 3), batches(3, 5)
        ('batch 3', 'batches 3 to 5')
    """
    return f"batch {first}" if first == last else f"batches {first} to {last}"


def files(found: Sequence[Input]) -> Iterable[str]:
    """Yield a line for each of the first files, with its size, and one for the rest."""
    for file in found[:_SHOWN]:
        told = "" if file.path is None else "gone" if file.gone else size(file.path.stat().st_size)
        yield f"  {told:>8}  {file.path or file.uri}"
    if len(found) > _SHOWN:
        yield f"            and {len(found) - _SHOWN:,} more"
