"""Rules for `alert_when`: small frozen dataclasses, as rules of your own can be.

A rule has

- `state`: a dataclass whose fields all have defaults; `state()` is the state of a key
  before its first row. Fields are `str`, `int`, `float`, `bool` or lists of these. You
  may add a field later: a state from the checkpoint then has the field's default (but
  not if an aggregation, a deduplication or a join is in the same query, because Spark
  then does not store state as Avro).
- `step(state, time, value)`: takes one row and returns the next state, and an `Alert`
  or None. The time is in seconds since 1970. The value is that of the column; a struct
  is passed as a dict, with times in microseconds since 1970.

A rule that can also alert when no row arrives has

- `due(state)`: returns the time (seconds since 1970) at which `expire` is to be called
  if no row arrives before it, or None.
- `expire(state)`: returns the next state and the `Alert` for that time. At the end of a
  static or drained input it is called until `due` returns None, so a single row must
  not lead to alerts without end.

Such a rule also gets rows without a value, with `value` None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from sparkstream_kit._internal.arguments import said
from sparkstream_kit._internal.durations import positive, to_microseconds
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Seen:
    """What `Ewma` and `ZScore` keep for a key: count, mean and spread of its values."""

    count: int = 0
    mean: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True)
class Last:
    """What `Jump` and `Silent` keep for a key: its last row and a reported silence."""

    time: float | None = None
    value: float | None = None
    told: bool = False


@dataclass(frozen=True)
class Times:
    """The state of `Often` for a key: the times of its last rows, in seconds since 1970."""

    recent: list[float] = field(default_factory=list)


_LARGEST = 1e150  # whose square is finite


def is_usable(value: Any) -> bool:
    """Return whether a rule can compute with a value: not null, not NaN, not too big.

    Its square must be finite.
    """
    if value is None:
        return False
    if isinstance(value, float):
        return abs(value) < _LARGEST  # which is False for NaN, too
    return True


class Alert(NamedTuple):
    """What a rule found: a score, in the rule's own measure, and a sentence that explains it."""

    score: float
    reason: str


class Rule(Protocol):
    """The interface of a rule, for type checkers; a rule does not have to inherit from it."""

    @property
    def state(self) -> Callable[[], Any]:
        """Return the dataclass that holds the state of a key."""

    def step(self, state: Any, time: float, value: Any) -> tuple[Any, Alert | None]:
        """Take one row; return the next state, and an alert or None."""


@dataclass(frozen=True)
class Ewma:
    """Alerts on a value far from the key's moving mean, which forgets old values exponentially.

    mean += alpha * (value - mean), and likewise the variance: T. Finch, "Incremental
    calculation of weighted mean and variance" (2009), section 9. A value raises an
    alert if it is more than `sigmas` standard deviations from the mean of the values
    before it. It is then counted as if it lay on that limit, so that one outlier does
    not hide the next and a lasting change stops raising alerts after some rows: S.
    Gelper, R. Fried and C. Croux, "Robust forecasting with exponential and Holt-Winters
    smoothing" (2010). As long as all values of a key are equal, none raises an alert.
    The score is the distance in standard deviations.

    Args:
        alpha: the weight of the newest value, above 0 and at most 1; the mean covers
            about 1 / alpha values.
        sigmas: the largest distance from the mean, in standard deviations, that raises
            no alert.
        warmup: how many values of a key must come first, before one can raise an alert.
        of: the field to check, if the value column is a struct.

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
        """Return the next state, and an alert if the value is too far from the moving mean."""
        deviation = math.sqrt(state.spread)
        counted, alert = _limited(self, state, float(value), deviation, "moving mean")
        if state.count == 0:
            return Seen(count=1, mean=counted), alert
        step = counted - state.mean
        mean = state.mean + self.alpha * step
        spread = (1 - self.alpha) * (state.spread + self.alpha * step * step)
        return Seen(state.count + 1, mean, spread), alert


@dataclass(frozen=True)
class ZScore:
    """Alerts on a value far from the mean of all earlier values of its key.

    Mean and standard deviation (of a sample) are computed as in B. P. Welford, "Note on
    a method for calculating corrected sums of squares and products" (1962). A value
    raises an alert if it is more than `sigmas` standard deviations from the mean of the
    values before it. It is then counted as if it lay on that limit, as in `Ewma`. As
    long as all values of a key are equal, none raises an alert. The score is the
    distance in standard deviations.

    Args:
        sigmas: the largest distance from the mean, in standard deviations, that raises
            no alert.
        warmup: how many values of a key must come first, before one can raise an alert;
            at least 2.
        of: the field to check, if the value column is a struct.

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
        """Return the next state, and an alert if the value is too far from the mean."""
        deviation = 0.0
        if state.count > 1:
            deviation = math.sqrt(state.spread / (state.count - 1))
        counted, alert = _limited(self, state, float(value), deviation, "mean")
        count = state.count + 1
        mean = state.mean + (counted - state.mean) / count
        spread = state.spread + (counted - state.mean) * (counted - mean)
        return Seen(count, mean, spread), alert


@dataclass(frozen=True)
class Jump:
    """Alerts on a value that differs by more than `by` from the key's previous value.

    The score is the difference, without its sign.

    Args:
        by: the largest difference that raises no alert, in the column's own unit.
        of: the field to check, if the value column is a struct.

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
        """Return the next state, and an alert if the value is too far from the previous one."""
        now = float(value)
        before = state.value
        if before is not None and abs(now - before) > self.by:
            return Last(time, now), self._alert(now, before)
        return Last(time, now), None

    def _alert(self, now: float, before: float) -> Alert:
        score = abs(now - before)
        where = "above" if now > before else "below"
        reason = (
            f"{_text(now)} is {_text(score)} {where} {_text(before)}, the value before"
            f" (limit {_text(self.by)})"
        )
        return Alert(score, reason)


@dataclass(frozen=True)
class Often:
    """Alerts when a key has more than `most` values in a time; the score is how many.

    Each further value within the duration raises an alert, too. A row whose value is
    null does not count.

    Args:
        most: the largest number of values that raises no alert.
        within: the duration, such as "1 minute" or a `timedelta`. A value that is this
            old no longer counts.
        of: the field that must have a value, if the value column is a struct.

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
        """Return the next state, and an alert if there are too many values."""
        span = to_microseconds("within", self.within)
        recent = [
            earlier
            for earlier in state.recent
            if round(abs(time - earlier) * 1e6) < span
        ]
        recent.append(time)
        count = len(recent)
        if count <= self.most:
            return Times(recent), None
        reason = (
            f"{count} rows in {_text(max(recent) - min(recent))} seconds"
            f" (limit {self.most} within {self.within})"
        )
        return Times(recent), Alert(count, reason)


@dataclass(frozen=True)
class Silent:
    """Alerts when a key has no row for more than `after` of event time.

    The score is `after` in seconds.

    The time of the alert is the key's last row plus `after`; its value is null. Each
    silence raises one alert, once the watermark has passed that time. A feed that stops
    altogether therefore raises no alert: without rows the watermark does not move. Give
    `run` an `idle` time to notice that. At the end of a static or drained input every
    key is silent.

    Args:
        after: the longest silence that raises no alert, such as "10 minutes" or a
            `timedelta`.

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
        """Return the next state: a row ends the silence."""
        if state.time is None:
            return Last(time), None
        return Last(max(time, state.time)), None

    def due(self, state: Last) -> float | None:
        """Return when the silence raises an alert, in seconds; None if none will."""
        if state.time is None or state.told:
            return None
        return state.time + self.seconds

    def expire(self, state: Last) -> tuple[Last, Alert]:
        """Return the state with the silence reported, and the alert."""
        since = datetime.fromtimestamp(int(state.time or 0), UTC)
        reason = (
            f"no row since {since:%Y-%m-%d %H:%M:%S} UTC, for more than {self.after}"
        )
        return replace(state, told=True), Alert(self.seconds, reason)


def _limited(
    rule: Ewma | ZScore, state: Seen, value: float, deviation: float, what: str
) -> tuple[float, Alert | None]:
    """Return the value to count, cut to the limit, and an alert if it was beyond it.

    Args:
        rule: with the limit, in standard deviations.
        state: the count and the mean of the values before.
        value: the new value.
        deviation: the standard deviation of the values before.
        what: what the alert calls the mean.
    """
    score = abs(value - state.mean) / deviation if deviation else 0.0
    if state.count < rule.warmup or score <= rule.sigmas:
        return value, None
    limit = rule.sigmas * deviation
    if value > state.mean:
        where = "above"
        counted = state.mean + limit
    else:
        where = "below"
        counted = state.mean - limit
    reason = (
        f"{_text(value)} is {_text(score)} deviations {where} the {what}"
        f" {_text(state.mean)} (limit {_text(rule.sigmas)})"
    )
    return counted, Alert(score, reason)


def _check_number(rule: object, name: str, low: float, high: float = math.inf) -> None:
    """Refuse an argument that is no number above `low`, or at least `low` for `warmup`."""
    value = getattr(rule, name)
    may_be_low = name == "warmup"
    if _is_within(value, low, high) and (may_be_low or value != low):
        return
    least = "at least" if may_be_low else "above"
    until = "" if high == math.inf else f" and at most {high:g}"
    raise InvalidInputError(
        f"{type(rule).__name__}(): {name} is {said(value)}; give a number {least}"
        f" {low:g}{until}"
    )


def _is_within(value: Any, low: float, high: float) -> bool:
    """Return whether a value is a finite number (and no bool) from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and low <= value <= high


def _text(number: float) -> str:
    """Format a number for a reader: four digits, or a whole number with commas from 1,000 on.

    Examples:
        >>> _text(20.0), _text(1234567.0), _text(20.2613), _text(-0.00012345)
        ('20', '1,234,567', '20.26', '-0.0001234')
    """
    if abs(number) >= 1000:  # noqa: PLR2004 - four digits
        return f"{number:,.0f}"
    return f"{number:.4g}"
