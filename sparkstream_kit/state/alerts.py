"""`alert_when`: rules by key, in order of event time; `once`: duplicates, also among late rows."""

from __future__ import annotations

import math
import pickle
import sys
from collections import defaultdict
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
from sparkstream_kit.state import values
from sparkstream_kit.state.rules import Ewma, Jump, ZScore, is_usable
from sparkstream_kit.state.values import MILLI, Handler, InOrder, in_order, timer_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from pyspark.sql import Row

    from sparkstream_kit.state.rules import Alert, Rule


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
    keys = values.places_of_keys(call, frame, key)
    time_and_value = (
        values.place_of_time(call, frame, time),
        values.place_of(call, frame, value),
    )
    fields = [frame.schema[at] for at in (*keys, *time_and_value)]
    refuse_twice(f"{call}: column", [field.name for field in fields])
    refuse_taken([field.name for field in fields], _ADDED.names, call)
    for each in rules:
        _check_value(call, fields[-1], each)

    at = len(keys)
    rows = values.packed(frame.select(*(column(field.name) for field in fields)), at)
    *known, looked_at = rows.schema
    # Nullable, even if the input's column is not: an alert without a row, of a silence,
    # has no value.
    looked_at = T.StructField(looked_at.name, looked_at.dataType)
    output = T.StructType([*known, looked_at, *_ADDED])
    streaming = frame.isStreaming
    processor = InOrder(_Rules(rules, at), at, output.names, streaming=streaming)
    found = values.processed(
        call, rows.groupBy(*rows.columns[:at]), processor, output, streaming=streaming
    )
    return found.select(*values.unpacked(rows.columns, fields), *_ADDED.names)


def _by_value(rules: Sequence[Any]) -> bytes:
    """Pickle rules with the code of their classes and states, for `pickle.loads`.

    A worker can import the kit, but not always the script or the notebook that defines
    the classes.
    """
    names = {type(each).__module__ for each in rules} | {
        each.state.__module__ for each in rules
    }
    ours = __name__.partition(".")[0]
    modules = [
        sys.modules[name]
        for name in names
        if name.partition(".")[0] != ours and name in sys.modules
    ]
    # Which pickles the classes of a script (`__main__`) by value anyway
    pickler: Any = cloudpickle
    with modules_by_value(
        module for module in modules if module.__name__ != "__main__"
    ):
        return bytes(pickler.dumps(rules))


class _Rules(Handler):
    """Handles the rows of a key by a list of rules, each with a state of its own."""

    def __init__(self, rules: Sequence[Rule], at: int) -> None:
        self._at = at
        # First what refuses a state that cannot be kept, or pickled.
        self._kinds = [
            values.columns(f"{type(rule).__name__}.state", rule.state) for rule in rules
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
        known = zip(self.rules, self._kinds, kept, strict=True)
        return [
            values.read(rule.state, kinds.names, each) for rule, kinds, each in known
        ]

    def save(self, known: list[Any]) -> list[tuple[Any, ...]]:
        return [
            values.to_keep(each, kinds)
            for each, kinds in zip(known, self._kinds, strict=True)
        ]

    def see(
        self, known: list[Any], key: tuple[Any, ...], row: Sequence[Any]
    ) -> Iterator[tuple[Any, ...]]:
        time = row[self._at]
        value = row[self._at + 1]
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

    def expire(
        self, known: list[Any], key: tuple[Any, ...]
    ) -> Iterator[tuple[Any, ...]]:
        time, number = min(self._dues(known))
        known[number], alert = self.rules[number].expire(known[number])
        yield self._told(self.rules[number], key, time, None, alert)

    def _dues(self, known: list[Any]) -> list[tuple[int, int]]:
        """Return when to call each rule that waits (microseconds), and its index."""
        asked = [
            (n, rule.due(known[n]))
            for n, rule in enumerate(self.rules)
            if hasattr(rule, "due")
        ]
        return [(round(time * _SECOND), n) for n, time in asked if time is not None]

    def _told(
        self, rule: Any, key: tuple[Any, ...], time: int, value: Any, alert: Alert
    ) -> tuple[Any, ...]:
        score, reason = alert
        return (*key, time, value, type(rule).__name__, float(score), str(reason))


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
    if isinstance(rule, Ewma | Jump | ZScore) and not isinstance(
        field.dataType, T.NumericType
    ):
        raise InvalidInputError(
            f"{call}: column {field.name} is {field.dataType.simpleString()}, not a"
            " number; cast it first"
        )


def _names(rules: Sequence[Rule]) -> list[str]:
    """Name the rules' states: by class, with a number from a class's second rule on."""
    names = [type(rule).__name__ for rule in rules]
    numbers = [names[: at + 1].count(name) for at, name in enumerate(names)]
    return [
        f"{name}{number if number > 1 else ''}"
        for name, number in zip(names, numbers, strict=True)
    ]


def _rules(call: str, given: Any) -> list[Rule]:
    rules = list(given) if isinstance(given, list | tuple) else [given]
    if not rules:
        raise InvalidInputError(
            f"{call} needs at least one rule, such as state.ZScore()"
        )
    for rule in rules:
        has_step = callable(getattr(rule, "step", None)) and hasattr(
            rule, "due"
        ) == hasattr(rule, "expire")
        if isinstance(rule, type) or not (has_step and hasattr(rule, "state")):
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
    at = values.place_of_time(call, frame, time)
    keys = values.places_of_keys(call, frame, ids)
    for place in keys:
        field = frame.schema[place]
        if holds(field.dataType, T.MapType, T.VariantType):
            what = (
                f"column {field.name} is {field.dataType.simpleString()}, of which"
                " Spark makes no hash"
            )
            raise InvalidInputError(
                f"{call}: {what}; give a column of its own: F.to_json('{field.name}')"
            )
    rows = values.packed(frame)
    # Spark's hash leaves nulls out, and knows nothing of where an array or a struct
    # ends.
    nested = [
        place
        for place in keys
        if isinstance(frame.schema[place].dataType, T.ArrayType | T.StructType)
    ]
    parts = [
        F.to_json(f"c{place}", JSON) if place in nested else F.col(f"c{place}")
        for place in keys
    ]
    known = reduce(and_, (part.isNotNull() for part in parts))
    rows = rows.withColumns(
        {"h0": F.when(known, F.xxhash64(*parts)), "h1": F.xxhash64(F.lit(0), *parts)}
    )
    rows = rows.withColumn("group", F.pmod("h0", F.lit(_GROUPS)))
    groups = rows.groupBy("group")
    processor = _Once(at, span, timers=frame.isStreaming)
    kept = values.processed(
        call, groups, processor, rows.schema, streaming=frame.isStreaming
    )
    return kept.select(*values.unpacked(rows.columns[:-3], frame.schema))


# Of ids: if each id had one, a row would take Python some ten times as long
_GROUPS = 256
# Of the state of a group: new entries are appended, and all are written anew once in 16
# batches
_PARTS = 16
_ENTRY = Struct("<3q")  # two hashes of an id, and the time of the row that passed


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
        passed = self._passed(timerValues)
        asked = {row[-3] for row in ordered}
        times = defaultdict[tuple[int, int], list[int]](list)
        for first, second, time in _entries(parts, passed):
            if first in asked:
                times[first, second].append(time)
        new = []
        for row in ordered:
            time = row[self._at]
            seen = times[row[-3], row[-2]]
            if time is None:
                yield row
            elif all(abs(time - other) > self._span for other in seen):
                seen.append(time)
                new += [(row[-3], row[-2], time)] if time > passed else []
                yield row
        if not new:
            return
        if len(parts) < _PARTS:
            self._kept.appendValue(_packed(new))
        else:
            self._kept.put([_packed([*_entries(parts, passed), *new])])
        if self._timers and not parts:
            self._handle.registerTimer(
                timer_at(min(time for *_, time in new) + self._span)
            )

    def handleExpiredTimer(
        self,
        key: Any,  # noqa: ARG002
        timerValues: base.TimerValues,  # noqa: N803
        expiredTimerInfo: base.ExpiredTimerInfo,  # noqa: N803, ARG002
    ) -> Iterator[Row]:
        passed = self._passed(timerValues)
        if entries := [*_entries(list(self._kept.get()), passed)]:
            self._kept.put([_packed(entries)])
            # When these have passed, too
            self._handle.registerTimer(timer_at(int(passed) + 2 * self._span))
        else:
            self._kept.clear()
        return iter(())

    def _passed(self, now: base.TimerValues) -> float:
        """Return the newest time whose entries are forgotten (microseconds)."""
        return (
            now.getCurrentWatermarkInMs() * MILLI - self._span
            if self._timers
            else -math.inf
        )


def _entries(
    parts: list[tuple[bytes]], passed: float
) -> Iterator[tuple[int, int, int]]:
    return (
        each
        for (part,) in parts
        for each in _ENTRY.iter_unpack(part)
        if each[2] > passed
    )


def _packed(entries: list[tuple[int, int, int]]) -> tuple[bytes]:
    return (b"".join(_ENTRY.pack(*each) for each in entries),)
