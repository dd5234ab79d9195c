"""`alert_when`: rules by key, in order of event time; `once`: duplicates, also among late rows."""

from __future__ import annotations

import math
import pickle
import sys
from collections import Counter, defaultdict
from functools import cached_property, reduce
from operator import and_
from struct import Struct
from typing import TYPE_CHECKING, Any

from pyspark import cloudpickle
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.streaming import stateful_processor as base

from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit._internal.columns import column, holds, refuse_taken, refuse_twice
from sparkstream_kit._internal.durations import positive
from sparkstream_kit.connectors import modules_by_value
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.schemas import schema_of
from sparkstream_kit.sinks.base import JSON
from sparkstream_kit.state import processor
from sparkstream_kit.state.processor import MILLI, Handler, InOrder, in_order, timer_at
from sparkstream_kit.state.rules import Ewma, Jump, ZScore, is_usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from pyspark.sql import Column, Row

    from sparkstream_kit.state.rules import Alert, Rule

    _Entry = tuple[int, int, int]  # see _ENTRY


_ADDED = schema_of(rule=T.StringType(), score=T.DoubleType(), reason=T.StringType())
_SECOND = 1e6  # microseconds


def alert_when(
    frame: DataFrame,
    key: str | Sequence[str],
    time: str,
    value: str,
    rule: Rule | Sequence[Rule],
) -> DataFrame:
    """Raise alerts on the values of a key, such as one far from its mean; one row for each alert.

    Rows are handled in the order of their times: a row waits in the state until the
    watermark passes it, and only then can it alert. So the alerts do not depend on how
    the input is split into batches. Rows with the same time are ordered by their values
    as text. Late rows are dropped, and Spark counts them.

    A row without a key or a time is ignored. A row whose value is null, NaN or infinite
    changes no mean and raises no alert, but it does end a silence for `Silent`. The
    state keeps the waiting rows and, for ever, a few numbers for each key. If you
    change an argument of a rule, the new value applies from the next start on, to the
    numbers that the state has.

    Delivery: a batch replayed after a crash gives the same alerts.

    Args:
        frame: static or streaming.
        key: the columns that identify a key, each with statistics of its own: one name,
            or a list of names.
        time: the event-time column (timestamp), which needs a watermark in a stream.
        value: the column that the rules check: a number, or a struct for rules that
            check one or several of its fields.
        rule: one or several rules: `Ewma`, `ZScore`, `Jump`, `Often`, `Silent`, or a
            rule of your own; `sparkstream_kit.state.rules` describes how to write one.

    Returns:
        The key columns, the time and the value under their names; `rule STRING`, the
        class of the rule; `score DOUBLE`, what the rule measured, such as the distance
        from the mean in standard deviations; `reason STRING`, a sentence with the
        numbers. The time keeps its watermark.

    Raises:
        InvalidInputError: a column that does not exist, a time that is not a timestamp
            or has no watermark, a value that is not a number, a column that is given
            twice or named like one of the three added ones, or an object that is not a
            rule.
        MissingExtraError: a library of the extra `state` is not installed.

    Examples:
        In a session::

            rules = [state.Ewma(alpha=0.1), state.Silent("10 minutes")]
            state.alert_when(readings, "device", "time", "temperature", rules)
    """
    check(alert_when, locals())
    call = "alert_when()"
    rules = _rules(call, rule)
    places = [
        *processor.places_of_keys(call, frame, key),
        processor.place_of_time(call, frame, time),
        processor.place_of(call, frame, value),
    ]
    fields = [frame.schema[place] for place in places]
    names = [field.name for field in fields]
    refuse_twice(f"{call}: column", names)
    refuse_taken(names, _ADDED.names, call)
    for each in rules:
        _check_value(call, fields[-1], each)

    at = len(fields) - 2  # the index of the time, behind the keys
    rows = processor.packed(frame.select(*map(column, names)), at)
    *keys_and_time, checked = rows.schema
    # Nullable, even if the input's column is not: an alert without a row, of a silence,
    # has no value.
    nullable = T.StructField(checked.name, checked.dataType)
    output = T.StructType([*keys_and_time, nullable, *_ADDED])
    streaming = frame.isStreaming
    handler = InOrder(_Rules(rules, at), at, output.names, streaming=streaming)
    groups = rows.groupBy(*rows.columns[:at])
    alerts = processor.processed(call, groups, handler, output, streaming=streaming)
    return alerts.select(*processor.unpacked(rows.columns, fields), *_ADDED.names)


def _by_value(rules: Sequence[Any]) -> bytes:
    """Pickle rules with the code of their classes and states, for `pickle.loads`.

    A worker can import the kit, but not always the script or the notebook that defines
    the classes.
    """
    names = {type(rule).__module__ for rule in rules}
    names |= {rule.state.__module__ for rule in rules}
    kit = __name__.partition(".")[0]
    theirs = [name for name in names if name.partition(".")[0] != kit]
    modules = [sys.modules[name] for name in theirs if name in sys.modules]
    # cloudpickle pickles the classes of a script (`__main__`) by value anyway
    imported = [module for module in modules if module.__name__ != "__main__"]
    pickler: Any = cloudpickle
    with modules_by_value(imported):
        return bytes(pickler.dumps(rules))


class _Rules(Handler):
    """Handles the rows of a key by a list of rules, each with a state of its own."""

    def __init__(self, rules: Sequence[Rule], at: int) -> None:
        self._at = at
        # First what refuses a state that cannot be kept, or pickled.
        self._kinds = [
            processor.columns(f"{type(rule).__name__}.state", rule.state)
            for rule in rules
        ]
        self._names = _names(rules)
        # Pickled with their code: their classes may be in the caller's script
        self._rules = _by_value(rules)
        self.states = dict(zip(self._names, self._kinds, strict=True))

    @cached_property
    def rules(self) -> Sequence[Any]:
        """The rules; in a worker, they are unpickled at the first row."""
        return pickle.loads(self._rules)  # type: ignore[no-any-return]  # noqa: S301 - our own

    def load(self, kept: list[tuple[Any, ...] | None]) -> list[Any]:
        stored = zip(self.rules, self._kinds, kept, strict=True)
        return [
            processor.read(rule.state, columns.names, state)
            for rule, columns, state in stored
        ]

    def save(self, known: list[Any]) -> list[tuple[Any, ...]]:
        return [
            processor.to_keep(state, columns)
            for state, columns in zip(known, self._kinds, strict=True)
        ]

    def see(
        self, known: list[Any], key: tuple[Any, ...], row: Sequence[Any]
    ) -> Iterator[tuple[Any, ...]]:
        time = row[self._at]
        value = row[self._at + 1]
        for number, rule in enumerate(self.rules):
            checked = _value_for(rule, value)
            if checked is None and not hasattr(rule, "due"):
                continue
            known[number], alert = rule.step(known[number], time / _SECOND, checked)
            if alert is not None:
                yield self._alert_row(rule, key, time, value, alert)

    def due(self, known: list[Any]) -> int | None:
        return min((time for time, _ in self._dues(known)), default=None)

    def expire(
        self, known: list[Any], key: tuple[Any, ...]
    ) -> Iterator[tuple[Any, ...]]:
        time, number = min(self._dues(known))
        rule = self.rules[number]
        known[number], alert = rule.expire(known[number])
        yield self._alert_row(rule, key, time, None, alert)

    def _dues(self, known: list[Any]) -> list[tuple[int, int]]:
        """Return when to call each rule that waits (microseconds), and its index."""
        dues = []
        for number, rule in enumerate(self.rules):
            if not hasattr(rule, "due"):
                continue
            seconds = rule.due(known[number])
            if seconds is not None:
                dues.append((round(seconds * _SECOND), number))
        return dues

    def _alert_row(
        self, rule: Any, key: tuple[Any, ...], time: int, value: Any, alert: Alert
    ) -> tuple[Any, ...]:
        """Return an alert as a row of the result."""
        score, reason = alert
        return (*key, time, value, type(rule).__name__, float(score), str(reason))


def _value_for(rule: Any, value: Any) -> Any:
    """Return what a rule checks, a value or one of its fields; None if it cannot use it."""
    field = getattr(rule, "of", None)
    if field is not None and value is not None:
        value = value[field]
    return value if is_usable(value) else None


def _check_value(call: str, field: T.StructField, rule: Any) -> None:
    """Refuse a rule whose field is missing, or is no number if the rule computes."""
    of = getattr(rule, "of", None)
    if of is not None:
        if not isinstance(field.dataType, T.StructType):
            raise InvalidInputError(
                f"{call}: of={of!r} is for a struct, and column {field.name} is none"
            )
        reject_unknown(f"field of {field.name}", [of], field.dataType.names)
        field = field.dataType[of]
    computes = isinstance(rule, Ewma | Jump | ZScore)
    if computes and not isinstance(field.dataType, T.NumericType):
        raise InvalidInputError(
            f"{call}: column {field.name} is {field.dataType.simpleString()}, not a"
            " number; cast it first"
        )


def _names(rules: Sequence[Rule]) -> list[str]:
    """Name the rules' states: by class, with a number from a class's second rule on.

    Examples:
        >>> _names([Ewma(), Jump(by=1), Jump(by=9), Jump(by=99)])
        ['Ewma', 'Jump', 'Jump2', 'Jump3']
    """
    names = []
    numbers = Counter[str]()
    for rule in rules:
        name = type(rule).__name__
        numbers[name] += 1
        names.append(name if numbers[name] == 1 else f"{name}{numbers[name]}")
    return names


def _is_rule(rule: Any) -> bool:
    """Return whether an object has what `sparkstream_kit.state.rules` says of a rule."""
    if isinstance(rule, type) or not callable(getattr(rule, "step", None)):
        return False
    has_both_or_none = hasattr(rule, "due") == hasattr(rule, "expire")
    return has_both_or_none and hasattr(rule, "state")


def _rules(call: str, argument: Any) -> list[Rule]:
    """Return the argument `rule` as a list, and refuse what is no rule."""
    rules = list(argument) if isinstance(argument, list | tuple) else [argument]
    if not rules:
        raise InvalidInputError(
            f"{call} needs at least one rule, such as state.ZScore()"
        )
    for rule in rules:
        if not _is_rule(rule):
            raise InvalidInputError(
                f"{call}: rule is {said(rule)}; give state.Ewma(), state.ZScore(),"
                " state.Jump(by=…), state.Silent(after) or an object with `state` and"
                " `step`, and `expire` if it has `due`"
            )
    return rules


def once(
    frame: DataFrame, ids: str | Sequence[str], time: str, within: str | timedelta
) -> DataFrame:
    """Drop duplicates within a time: keep the first row of each id, even if it is late.

    `dropDuplicatesWithinWatermark` drops every late row; here a late row passes if its
    id is not known. A row is a duplicate if a row with the same ids was kept whose time
    is at most `within` before or after its own. An id is forgotten when the watermark
    is `within` past the time of its row, which bounds the state (24 bytes for an id); a
    duplicate that is even later passes. Within a batch, the first row by time is kept,
    and among rows with the same time the first by its text, so a replayed batch gives
    the same result. If rows of one id have different times, the order in which they
    arrive can decide which of them is kept.

    A row with a null in one of its ids, or without a time, is never a duplicate, and
    always passes.

    Args:
        frame: static or streaming.
        ids: the columns that identify a row: one name, or a list of names.
        time: the event-time column (timestamp) with the watermark.
        within: how far apart in event time duplicates may be, such as "1 hour" or a
            `timedelta`.

    Returns:
        The same columns, without the duplicates. The time column keeps its watermark,
        so windows after this step drop the late rows.

    Raises:
        InvalidInputError: a column that does not exist, a time that is not a timestamp
            or has no watermark, or a duration that cannot be read or is not positive.
        MissingExtraError: a library of the extra `state` is not installed.

    Examples:
        In a session::

            events = windows.with_watermark(events, "time", "10 minutes")
            state.once(events, "event_id", "time", within="1 hour")
    """
    check(once, locals())
    call = "once()"
    span = positive("within", within)
    at = processor.place_of_time(call, frame, time)
    places = processor.places_of_keys(call, frame, ids)
    for place in places:
        _check_id(call, frame.schema[place])
    parts = [_id_part(frame, place) for place in places]
    # Null if one of the ids is null
    has_id = reduce(and_, (part.isNotNull() for part in parts))
    hashes = {
        "h0": F.when(has_id, F.xxhash64(*parts)),
        "h1": F.xxhash64(F.lit(0), *parts),
    }
    packed = processor.packed(frame)
    rows = packed.withColumns(hashes).withColumn("group", F.pmod("h0", F.lit(_GROUPS)))
    streaming = frame.isStreaming
    handler = _Once(at, span, timers=streaming)
    groups = rows.groupBy("group")
    kept = processor.processed(call, groups, handler, rows.schema, streaming=streaming)
    return kept.select(*processor.unpacked(packed.columns, frame.schema))


def _check_id(call: str, field: T.StructField) -> None:
    """Refuse an id of a type that has no hash in Spark."""
    if holds(field.dataType, T.MapType, T.VariantType):
        what = (
            f"column {field.name} is {field.dataType.simpleString()}, of which"
            " Spark makes no hash"
        )
        raise InvalidInputError(
            f"{call}: {what}; give a column of its own: F.to_json('{field.name}')"
        )


def _id_part(frame: DataFrame, place: int) -> Column:
    """Return an id's column of the packed rows, as one whose hash tells all its values apart."""
    name = f"c{place}"
    if isinstance(frame.schema[place].dataType, T.ArrayType | T.StructType):
        # Spark's hash leaves nulls out, and knows nothing of where an array or a struct
        # ends.
        return F.to_json(name, JSON)
    return F.col(name)


# Of ids: if each id had one, a row would take Python some ten times as long
_GROUPS = 256
# Of the state of a group: new entries are appended, and all are written anew once in 16
# batches
_PARTS = 16
# A row that passed: two hashes of its id, and its time
_ENTRY = Struct("<3q")


class _Once(base.StatefulProcessor):
    """Keeps an entry for each row that passed, until the watermark is `within` past its time.

    A row ends with the two hashes of its id, and its group. Two ids with the same
    hashes, of 128 bits, would be one; that a billion ids contain such a pair has a
    probability of about 1 in 10**21.
    """

    def __init__(self, at: int, span: int, *, timers: bool) -> None:
        self._at = at
        self._span = span
        self._timers = timers

    def init(self, handle: base.StatefulProcessorHandle) -> None:
        self._handle = handle
        self._kept = handle.getListState("kept", "entries BINARY")

    def handleInputRows(
        self,
        key: Any,
        rows: Iterator[Row],
        timerValues: base.TimerValues,  # noqa: N803 - Spark's
    ) -> Iterator[Row]:
        if key[0] is None:  # one of the ids is null
            yield from rows
            return
        ordered = in_order(rows, self._at)
        parts = list(self._kept.get())
        forgotten = self._forgotten_until(timerValues)
        known = _times_by_id(parts, forgotten, {row[-3] for row in ordered})
        new = []
        for row in ordered:
            time = row[self._at]
            if time is None:
                yield row
                continue
            first = row[-3]
            second = row[-2]
            times = known[first, second]
            if any(abs(time - other) <= self._span for other in times):
                continue  # a duplicate
            times.append(time)
            if time > forgotten:
                new.append((first, second, time))
            yield row
        if not new:
            return
        if len(parts) < _PARTS:
            self._kept.appendValue(_packed(new))
        else:
            self._kept.put([_packed([*_entries(parts, forgotten), *new])])
        if self._timers and not parts:
            oldest = min(time for _, _, time in new)
            self._handle.registerTimer(timer_at(oldest + self._span))

    def handleExpiredTimer(
        self,
        key: Any,  # noqa: ARG002
        timerValues: base.TimerValues,  # noqa: N803
        expiredTimerInfo: base.ExpiredTimerInfo,  # noqa: N803, ARG002
    ) -> Iterator[Row]:
        forgotten = self._forgotten_until(timerValues)
        entries = list(_entries(list(self._kept.get()), forgotten))
        if entries:
            self._kept.put([_packed(entries)])
            # When these have passed, too
            self._handle.registerTimer(timer_at(int(forgotten) + 2 * self._span))
        else:
            self._kept.clear()
        return iter(())

    def _forgotten_until(self, now: base.TimerValues) -> float:
        """Return the newest time whose entries are forgotten (microseconds)."""
        if not self._timers:
            return -math.inf
        return now.getCurrentWatermarkInMs() * MILLI - self._span


def _times_by_id(
    parts: list[tuple[bytes]], forgotten: float, wanted: set[int]
) -> defaultdict[tuple[int, int], list[int]]:
    """Return the times of the rows that passed, by the two hashes of their ids.

    Args:
        parts: the state of a group.
        forgotten: the newest time whose entries are forgotten.
        wanted: the first hashes of the ids to look for.
    """
    times = defaultdict[tuple[int, int], list[int]](list)
    for first, second, time in _entries(parts, forgotten):
        if first in wanted:
            times[first, second].append(time)
    return times


def _entries(parts: list[tuple[bytes]], forgotten: float) -> Iterator[_Entry]:
    """Yield the entries of a group's state that are newer than a time."""
    for (part,) in parts:
        for entry in _ENTRY.iter_unpack(part):
            _, _, time = entry
            if time > forgotten:
                yield entry


def _packed(entries: list[_Entry]) -> tuple[bytes]:
    """Pack entries as one part of a group's state."""
    return (b"".join(_ENTRY.pack(*entry) for entry in entries),)
