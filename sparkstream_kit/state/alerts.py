"""`alert_when`: rules by key, in the order of event time."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit._arguments import check, said
from sparkstream_kit._columns import column, refuse_taken
from sparkstream_kit._spark.batch import by_value
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.schemas import schema_of
from sparkstream_kit.state import _frames, _typed
from sparkstream_kit.state._known import is_usable
from sparkstream_kit.state._ordered import Handler, Ordered
from sparkstream_kit.state.rules import Ewma, Jump, ZScore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame

    from sparkstream_kit.state.rules import Alert, Rule

__all__ = ["alert_when"]

_ADDED = schema_of(rule=T.StringType(), score=T.DoubleType(), reason=T.StringType())
_SECOND = 1e6  # microseconds


def alert_when(
    frame: DataFrame,
    key: str | Sequence[str],
    time: str,
    value: str,
    rule: Rule | Sequence[Rule],
    *,
    order: str = "time",
) -> DataFrame:
    """Return a row for each alert that a rule raises on the values of a key.

    Rows are handled in the order of their times: a row waits in the state until the watermark passes it, and
    only then can it alert. So the alerts do not depend on how the input is cut into batches. Rows of the same
    time go by their values as text. Late rows are dropped, and counted by Spark; `split_late` shows them.

    With `order="arrival"` a row alerts in the batch in which it comes, also when it is late; within a batch,
    rows go by their times. What alerts then depends on the batches, and so may differ in a second run.

    A row without key or time is left out. One whose value is null, NaN or infinite changes no mean and raises
    no alert; for `Silent` it is a row like others. The state keeps the rows that wait and, for ever, some
    numbers for each key. A changed argument of a rule holds from the next start on, with the numbers kept.

    Delivery: a batch that comes again after a crash gives the same alerts.

    Args:
        frame: static or streaming.
        key: the columns whose values have statistics of their own: one name, or a list of them.
        time: the event-time column (timestamp) with the watermark.
        value: the column that the rules look at: a number, or a struct of several for rules that look at its
            fields.
        rule: one or several: `Ewma`, `ZScore`, `Jump`, `Often`, `Silent`, or one of your own; how to write
            one stands in `sparkstream_kit.state.rules`.
        order: `time` or `arrival`.

    Returns:
        The key's columns, the time and the value under their names; `rule STRING`, the rule's class;
        `score DOUBLE`, how far beyond the rule; `reason STRING`, why, in words with the numbers. The time
        keeps its watermark.

    Raises:
        InvalidInputError: no such column, a time that is no timestamp or has no watermark, a value that is no
            number, columns of the same name, an object that is no rule, or a Spark before 4.1.

    Example:
        In a session::

            rules = [state.Ewma(alpha=0.1), state.Silent("10 minutes")]
            state.alert_when(readings, "device", "time", "temperature", rules)
    """
    check(alert_when, locals())
    call = "alert_when()"
    reject_unknown(f"order of {call}", [order], ("arrival", "time"))
    rules = _rules(call, rule)
    keys = _frames.places_of_keys(call, frame, key)
    names = [
        frame.columns[at] for at in (*keys, *(_frames.place_of(call, frame, each) for each in (time, value)))
    ]
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice:
        raise InvalidInputError(f"{call}: column {twice[0]} is given twice; copy it under another name")
    waits = order == "time"
    timed = waits or any(hasattr(each, "due") for each in rules)
    _frames.place_of_time(call, frame, time, watermark=timed)
    refuse_taken(names, _ADDED.names, call)
    fields = [frame.schema[_frames.place_of(call, frame, name)] for name in names]
    for each in rules:
        if isinstance(each, Ewma | Jump | ZScore):
            _frames.check_number(call, _looked_at(call, fields[-1], each.of))

    at = len(keys)
    rows = _frames.packed(frame.select(*map(column, names)), at if waits else None)
    *known, looked_at = rows.schema
    # No value belongs to an alert that comes without a row, whatever the input's column holds.
    looked_at = T.StructField(looked_at.name, looked_at.dataType)
    output = T.StructType([*known, looked_at, *_ADDED])
    streaming = frame.isStreaming
    processor = Ordered(
        _Rules(rules, at), at, output.names, waits=waits and streaming, streaming=streaming and timed
    )
    groups = rows.groupBy(*rows.columns[:at])
    found = _frames.processed(call, groups, processor, output, streaming=streaming and timed)
    return found.select(*_frames.unpacked(rows.columns, fields), *_ADDED.names)


class _Rules(Handler):
    """Handles the rows of a key by rules, each with a state of its own."""

    def __init__(self, rules: Sequence[Rule], at: int) -> None:
        self._at = at
        self._rules = by_value(rules)  # they may be of the caller's own script
        self._names = _names(rules)
        self._kinds = [_typed.columns(f"{type(rule).__name__}.state", rule.state) for rule in rules]
        self.states = dict(zip(self._names, self._kinds, strict=True))
        self._loaded: Sequence[Any] | None = None

    @property
    def rules(self) -> Sequence[Any]:
        """The rules; in a worker, they are unpickled at the first row."""
        if self._loaded is None:
            self._loaded = pickle.loads(self._rules)  # noqa: S301 - our own
        return self._loaded

    def load(self, kept: list[tuple[Any, ...] | None]) -> list[Any]:
        known = zip(self.rules, self._kinds, kept, strict=True)
        return [_typed.read(rule.state, kinds.names, each) for rule, kinds, each in known]

    def save(self, known: list[Any]) -> list[tuple[Any, ...]]:
        return [_typed.to_keep(each, kinds) for each, kinds in zip(known, self._kinds, strict=True)]

    def see(self, known: list[Any], key: tuple[Any, ...], row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        time, value = row[self._at], row[self._at + 1]
        for number, rule in enumerate(self.rules):
            of = getattr(rule, "of", None)
            looked = value if of is None or value is None else value[of]
            if not is_usable(looked):
                looked = None
            if looked is None and not hasattr(rule, "due"):
                continue
            known[number], alert = rule.step(known[number], time / _SECOND, looked)
            if alert is not None:
                yield self._told(rule, key, time, value, alert)

    def due(self, known: list[Any]) -> int | None:
        return min((time for time, _ in self._dues(known)), default=None)

    def expire(self, known: list[Any], key: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        time, number = min(self._dues(known))
        known[number], alert = self.rules[number].expire(known[number])
        yield self._told(self.rules[number], key, time, None, alert)

    def _dues(self, known: list[Any]) -> list[tuple[int, int]]:
        """Return when each rule wants to be asked, in microseconds, and its number."""
        asked = [
            (number, rule.due(known[number]))
            for number, rule in enumerate(self.rules)
            if hasattr(rule, "due")
        ]
        return [(round(time * _SECOND), number) for number, time in asked if time is not None]

    def _told(self, rule: Any, key: tuple[Any, ...], time: int, value: Any, alert: Alert) -> tuple[Any, ...]:
        score, reason = alert
        return (*key, time, value, type(rule).__name__, float(score), str(reason))


def _looked_at(call: str, field: T.StructField, of: str | None) -> T.StructField:
    """Return the column of the values, or the field of it that a rule looks at."""
    if of is None:
        return field
    if not isinstance(field.dataType, T.StructType):
        raise InvalidInputError(f"{call}: of={of!r} is for a struct, and column {field.name} is none")
    reject_unknown(f"field of {field.name}", [of], field.dataType.names)
    return field.dataType[of]


def _names(rules: Sequence[Rule]) -> list[str]:
    """Return the names of the rules' states; a second rule of a class is told by its number."""
    seen: Counter[str] = Counter()
    names = []
    for rule in rules:
        name = type(rule).__name__
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}{seen[name]}")
    return names


def _rules(call: str, given: Any) -> list[Rule]:
    rules = list(given) if isinstance(given, list | tuple) else [given]
    if not rules:
        raise InvalidInputError(f"{call} needs at least one rule, such as state.ZScore()")
    for rule in rules:
        if isinstance(rule, type):
            raise InvalidInputError(f"{call}: rule is {said(rule)}; call it: {rule.__name__}()")
        if not (callable(getattr(rule, "step", None)) and hasattr(rule, "state")):
            raise InvalidInputError(
                f"{call}: rule is {said(rule)}; give state.Ewma(), state.ZScore(), state.Jump(by=…), "
                "state.Silent(after) or an object with `state` and `step` as these have"
            )
        if hasattr(rule, "due") and not callable(getattr(rule, "expire", None)):
            raise InvalidInputError(
                f"{call}: rule {type(rule).__name__} has `due` but no `expire`; give both"
            )
    return rules
