"""What the kit's rules and statistics know of a key."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Seen:
    """What `Ewma` and `ZScore` know of a key: how many values, their mean, and a measure of their spread."""

    count: int = 0
    mean: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True)
class Last:
    """What `Jump` and `Silent` know of a key: its last row, and whether its silence was told."""

    time: float | None = None
    value: float | None = None
    told: bool = False


@dataclass(frozen=True)
class Times:
    """What `Often` knows of a key: when its last rows came, in seconds."""

    recent: list[float] = field(default_factory=list)


def welford(count: int, mean: float, spread: float, value: float) -> tuple[int, float, float]:
    """Return count, mean and sum of squared differences from the mean, with one more value."""
    count += 1
    new = mean + (value - mean) / count
    return count, new, spread + (value - mean) * (value - new)


def is_usable(value: Any) -> bool:
    """Say whether a value can be counted in: not null, NaN or infinite."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
