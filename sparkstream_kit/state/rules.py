"""Rules for `alert_when`: small frozen dataclasses, as rules of your own can be.

A rule has

- `state`: a dataclass whose fields all have defaults: `state()` is what is known of a key before its first
  row. Fields are `str`, `int`, `float`, `bool` or lists of them. A field may be added later: what the
  checkpoint has kept without it goes on with its default (not where an aggregation, a deduplication or a
  join stands in the same query, for which Spark keeps no state in Avro).
- `step(state, time, value)`: returns the next state, and an `Alert` or None. The time is in seconds since
  1970. The value is that of the column; a struct comes as a dict, in which times are microseconds.

A rule that also speaks when no row comes has

- `due(state)`: the time at which it wants to be asked if no row comes until then, or None;
- `expire(state)`: returns the next state and the `Alert` of that time. At the end of a static or drained
  input it is asked until nothing is due any more, so one row must not lead to alerts without end.

Such a rule also gets rows without a value, with `value` None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from sparkstream_kit._arguments import said
from sparkstream_kit._durations import positive, to_microseconds
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Alert(NamedTuple):
    """What a rule has found: how far beyond the rule, and why, in words."""

    score: float
    reason: str


class Rule(Protocol):
    """What `alert_when` takes, for type checkers; nothing has to inherit from it."""

    @property
    def state(self) -> Callable[[], Any]:
        """Return the dataclass of what is known of a key."""

    def step(self, state: Any, time: float, value: Any) -> tuple[Any, Alert | None]:
        """Return the next state, and an alert or None."""


@dataclass(frozen=True)
class Ewma:
    """A value far from the key's moving mean, which forgets old values exponentially.

    mean += alpha * (value - mean), and likewise the variance: T. Finch, "Incremental calculation of weighted
    mean and variance" (2009), section 9. A value alerts when it is more than `sigmas` standard deviations
    from the mean of those before. It is then counted in as if it lay on that limit, so that one outlier hides
    no other and a lasting change stops alerting after some rows: S. Gelper, R. Fried and C. Croux, "Robust
    forecasting with exponential and Holt-Winters smoothing" (2010). While all values are equal, none alerts.

    Args:
        alpha: the weight of the newest value, from 0 to 1; about 1 / alpha values are remembered.
        sigmas: how many standard deviations are too many.
        warmup: how many values of a key come before the first that may alert.
        of: the field to look at, where the column of the values is a struct.

    Examples:
        >>> rule = Ewma(warmup=2)
        >>> known = rule.state()
        >>> for time, value in enumerate([20.0, 21.0, 20.0, 21.0, 45.0]):
        ...     known, alert = rule.step(known, time, value)
        >>> alert.reason
        '45 is 64.46 deviations above the moving mean 20.18 (limit 5)'
    """

    alpha: float = 0.1
    sigmas: float = 5.0
    warmup: int = 20
    of: str | None = None
    state: ClassVar[type[Seen]] = Seen

    def __post_init__(self) -> None:
        _check_number(self, "alpha", 0, 1)
        _check_number(self, "sigmas", 0)
        _check_number(self, "warmup", 0)

    def step(self, state: Seen, time: float, value: Any) -> tuple[Seen, Alert | None]:  # noqa: ARG002 - as in each rule
        """Return the next state, and an alert for a value too far from the mean."""
        deviation = math.sqrt(state.spread)
        counted, alert = _limited(self, state, float(value), deviation, "moving mean")
        step = counted - state.mean if state.count else 0.0
        return Seen(
            count=state.count + 1,
            mean=state.mean + self.alpha * step if state.count else counted,
            spread=(1 - self.alpha) * (state.spread + self.alpha * step * step),
        ), alert


@dataclass(frozen=True)
class ZScore:
    """A value far from the mean of all values of its key so far.

    Mean and standard deviation (of a sample) as B. P. Welford, "Note on a method for calculating corrected
    sums of squares and products" (1962). A value alerts when it is more than `sigmas` standard deviations
    from the mean of those before, and is then counted in as if it lay on that limit, as for `Ewma`. While all
    values are equal, none alerts.

    Args:
        sigmas: how many standard deviations are too many.
        warmup: how many values of a key come before the first that may alert; at least 2.
        of: the field to look at, where the column of the values is a struct.

    Examples:
        >>> rule = ZScore(sigmas=3, warmup=3)
        >>> known = rule.state()
        >>> for time, value in enumerate([20.0, 21.0, 22.0, 14.5]):
        ...     known, alert = rule.step(known, time, value)
        >>> alert
        Alert(score=6.5, reason='14.5 is 6.5 deviations below the mean 21 (limit 3)')
    """

    sigmas: float = 5.0
    warmup: int = 30
    of: str | None = None
    state: ClassVar[type[Seen]] = Seen

    def __post_init__(self) -> None:
        _check_number(self, "sigmas", 0)
        _check_number(self, "warmup", 2)

    def step(self, state: Seen, time: float, value: Any) -> tuple[Seen, Alert | None]:  # noqa: ARG002 - as in each rule
        """Return the next state, and an alert for a value too far from the mean."""
        deviation = math.sqrt(state.spread / (state.count - 1)) if state.count > 1 else 0.0
        counted, alert = _limited(self, state, float(value), deviation, "mean")
        return Seen(*welford(state.count, state.mean, state.spread, counted)), alert


@dataclass(frozen=True)
class Jump:
    """A value that differs by more than `by` from the value of its key before; the score is the difference.

    Args:
        by: how much it may differ, in the column's own unit.
        of: the field to look at, where the column of the values is a struct.

    Examples:
        >>> rule = Jump(by=10)
        >>> rule.step(rule.step(rule.state(), 0, 20.0)[0], 1, 45.5)[1]
        Alert(score=25.5, reason='45.5 is 25.5 above 20, the value before (limit 10)')
    """

    by: float
    of: str | None = None
    state: ClassVar[type[Last]] = Last

    def __post_init__(self) -> None:
        _check_number(self, "by", 0)

    def step(self, state: Last, time: float, value: Any) -> tuple[Last, Alert | None]:
        """Return the next state, and an alert for a value too far from the one before."""
        now, before, alert = float(value), state.value, None
        if before is not None and (score := abs(now - before)) > self.by:
            where = "above" if now > before else "below"
            reason = f"{_text(now)} is {_text(score)} {where} {_text(before)}, the value before"
            alert = Alert(score, f"{reason} (limit {_text(self.by)})")
        return Last(time, now), alert


@dataclass(frozen=True)
class Often:
    """More than `most` values of a key within a duration; the score is how many.

    Each further one within the duration alerts, too. A row whose value is null does not count.

    Args:
        most: how many may come.
        within: how long the first of them counts, such as "1 minute".
        of: the field to look at, where the column of the values is a struct.

    Examples:
        >>> rule = Often(most=2, within="1 minute")
        >>> known = rule.state()
        >>> for time in (0, 20, 59.5):
        ...     known, alert = rule.step(known, time, 1.0)
        >>> alert
        Alert(score=3, reason='3 rows in 59.5 seconds (limit 2 within 1 minute)')
    """

    most: int
    within: str | timedelta
    of: str | None = None
    state: ClassVar[type[Times]] = Times

    def __post_init__(self) -> None:
        _check_number(self, "most", 0)
        positive("Often(): within", self.within)

    def step(self, state: Times, time: float, value: Any) -> tuple[Times, Alert | None]:  # noqa: ARG002 - as in each rule
        """Return the next state, and an alert if there were too many."""
        span = to_microseconds("within", self.within) / 1e6
        recent = [*(each for each in state.recent if abs(time - each) < span), time]
        if (count := len(recent)) <= self.most:
            return Times(recent), None
        reason = f"{count} rows in {_text(max(recent) - min(recent))} seconds"
        return Times(recent), Alert(count, f"{reason} (limit {self.most} within {self.within})")


@dataclass(frozen=True)
class Silent:
    """No row of a key for longer than `after`, by event time; the score is `after` in seconds.

    The alert has the time at which the silence was due, which is `after` past the key's last row, and no
    value. There is one alert for each silence, once the watermark has passed that time. So a feed that stops
    altogether is no alert: without rows the watermark stands still. Give `run` an `idle` time for that. At
    the end of a static or drained input every key is silent.

    Args:
        after: such as "10 minutes", or a `timedelta`.

    Examples:
        >>> rule = Silent("10 minutes")
        >>> rule.expire(rule.step(rule.state(), 1767225600, None)[0])[1].reason
        'no row since 2026-01-01 00:00:00 UTC, for more than 10 minutes'
    """

    after: str | timedelta
    state: ClassVar[type[Last]] = Last

    def __post_init__(self) -> None:
        positive("Silent(): after", self.after)

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return to_microseconds("after", self.after) / 1e6

    def step(self, state: Last, time: float, value: Any) -> tuple[Last, Alert | None]:  # noqa: ARG002 - as in each rule
        """Return the next state: the silence is over."""
        return Last(time if state.time is None else max(time, state.time)), None

    def due(self, state: Last) -> float | None:
        """Return the time at which the silence is due, if nothing was said of it."""
        return None if state.time is None or state.told else state.time + self.seconds

    def expire(self, state: Last) -> tuple[Last, Alert]:
        """Return the alert."""
        since = datetime.fromtimestamp(int(state.time or 0), UTC)
        reason = f"no row since {since:%Y-%m-%d %H:%M:%S} UTC, for more than {self.after}"
        return replace(state, told=True), Alert(self.seconds, reason)


def _limited(
    rule: Ewma | ZScore, state: Seen, value: float, deviation: float, what: str
) -> tuple[float, Alert | None]:
    """Return a value as it is counted in, and an alert if it is too far from the mean."""
    if state.count < rule.warmup or not deviation:
        return value, None
    score = abs(value - state.mean) / deviation
    if score <= rule.sigmas:
        return value, None
    above = value > state.mean
    far = f"{_text(score)} deviations {'above' if above else 'below'}"
    reason = f"{_text(value)} is {far} the {what} {_text(state.mean)} (limit {_text(rule.sigmas)})"
    limit = rule.sigmas * deviation
    return state.mean + (limit if above else -limit), Alert(score, reason)


def _check_number(rule: object, name: str, low: float, high: float = math.inf) -> None:
    value = getattr(rule, name)
    call = type(rule).__name__
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{call}(): {name} is {said(value)}; give a number")
    if not (low <= value <= high and math.isfinite(value)) or (value == 0 and name != "warmup"):
        until = "" if high == math.inf else f" and at most {high:g}"
        least = "at least" if name == "warmup" else "above"
        raise InvalidInputError(f"{call}(): {name} is {value}; give a number {least} {low:g}{until}")


def _text(number: float) -> str:
    """Return a number as people write it.

    Examples:
        >>> _text(20.0), _text(1234567.0), _text(20.2613), _text(-0.00012345)
        ('20', '1,234,567', '20.26', '-0.0001234')
    """
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"  # noqa: PLR2004 - four digits
