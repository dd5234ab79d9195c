"""`as_of`, and what `state` shares: columns, packed rows, a processor in time order.

`InOrder` is the stateful processor of `alert_when` and `as_of`: it keeps the rows of a
key until the watermark has passed them and hands them to a `Handler` in the order of
their times. `packed` and `unpacked` turn times into whole numbers on the way to Python
and back; `columns`, `read` and `to_keep` store a dataclass.
"""

from __future__ import annotations

import pickle
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import partial
from inspect import isclass
from typing import TYPE_CHECKING, Any, Protocol

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.streaming import stateful_processor as base

from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit._internal.columns import (
    changed_inside,
    column,
    event_time,
    find_column,
    holds,
    refuse_taken,
)
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.schemas import from_dataclass, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspark.sql import GroupedData


def place_of(caller: str, frame: DataFrame, name: str) -> int:
    """Return the index of a column in a frame.

    Raises:
        InvalidInputError: there is no such column, or there are two.
    """
    spelt = find_column(frame, name, caller=caller)
    if frame.columns.count(spelt) > 1:
        raise InvalidInputError(
            f"{caller}: two columns are named {spelt}; rename one of them"
        )
    return frame.columns.index(spelt)


def places_of_keys(
    caller: str, frame: DataFrame, keys: str | Sequence[str]
) -> list[int]:
    """Return the indexes of the key columns, given as one name or as a list of names.

    Raises:
        InvalidInputError: the list is empty, or `place_of` refuses a name.
    """
    names = [keys] if isinstance(keys, str) else list(keys)
    if not names:
        raise InvalidInputError(
            f"{caller} needs at least one key; give the columns that tell rows apart"
        )
    return [place_of(caller, frame, name) for name in names]


def place_of_time(caller: str, frame: DataFrame, name: str) -> int:
    """Return the index of the event-time column.

    Raises:
        InvalidInputError: there is no such column, it is not a timestamp, or a stream
            has no watermark on it.
    """
    return place_of(caller, frame, event_time(frame, name, caller))


def packed(frame: DataFrame, timed_by: int | None = None) -> DataFrame:
    """Rename the columns to c0, c1, …, and turn the times and dates in them into whole numbers.

    Python's `datetime` would lose information: a time without a zone keeps only one of
    the two hours at the end of summer time, and a year after 9999 does not exist.

    Args:
        frame: static or streaming.
        timed_by: the index of the time column that keeps its watermark. Without it no
            column has a watermark any more, so that Spark drops no late rows before a
            processor sees them.
    """
    if not frame.isStreaming:
        # Create the coordinator to which Spark's state stores report: a batch query
        # uses state stores, too, but does not create it.
        frame.sparkSession.streams  # noqa: B018
    names = [f"c{at}" for at in range(len(frame.columns))]
    columns = []
    for at, (name, field) in enumerate(zip(names, frame.schema, strict=True)):
        metadata = dict(field.metadata) if at == timed_by else {}
        numbers = _converted(F.col(name), field.dataType)
        columns.append(numbers.alias(name, metadata=metadata))
    return frame.toDF(*names).select(*columns)


def unpacked(names: Sequence[str], fields: Iterable[T.StructField]) -> list[Column]:
    """Unpack a frame's columns, to the names, types and watermarks of the fields."""
    columns = []
    for name, field in zip(names, fields, strict=True):
        values = _converted(F.col(name), field.dataType, back=True)
        columns.append(values.alias(field.name, metadata=dict(field.metadata)))
    return columns


def processed(
    call: str,
    rows: GroupedData,
    processor: base.StatefulProcessor,
    output: T.StructType,
    *,
    streaming: bool,
) -> DataFrame:
    """Run a processor over grouped rows, by event time if `streaming`, and return its results.

    Raises:
        MissingExtraError: a library of the extra `state` is not installed.
    """
    function = f"state.{call.removesuffix('()')}"
    need(function, "state", "pandas", "pyarrow", "google.protobuf")
    time_mode = "EventTime" if streaming else "None"
    return rows.transformWithState(processor, output, "Append", time_mode)


def _converted(column: Column, dtype: T.DataType, *, back: bool = False) -> Column:
    """Convert the times and dates in a column to whole numbers or, with `back`, back."""
    if isinstance(dtype, T.TimestampType):
        return F.timestamp_micros(column) if back else F.unix_micros(column)
    if isinstance(dtype, T.DateType):
        return F.date_from_unix_date(column) if back else F.unix_date(column)
    if not holds(dtype, T.TimestampType, T.DateType):
        return column
    return changed_inside(column, dtype, partial(_converted, back=back))


MILLI = 1000  # microseconds; Spark's watermarks and timers are in milliseconds
# Of pickle; fixed, because another version of Python may read the state later
PROTOCOL = 5


class Handler(Protocol):
    """What to do with the rows of one key; all times are microseconds since 1970.

    `load` and `save` convert between the stored state and any object of the handler's
    own, here called known.
    """

    # The columns of each state that is stored for a key, by its name
    states: dict[str, T.StructType]

    def load(self, kept: list[tuple[Any, ...] | None]) -> Any:
        """Make the handler's object from the stored states.

        They are in the order of `states`; one that is not stored is None.
        """

    def save(self, known: Any) -> list[tuple[Any, ...]]:
        """Return the states to store, in the order of `states`."""

    def see(
        self, known: Any, key: tuple[Any, ...], row: Sequence[Any]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the results of a row, and update `known`."""

    def pass_by(self, row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        """Yield the results of a row without a key or a time, which cannot be put in order."""
        return iter(())

    def due(self, known: Any) -> int | None:  # noqa: ARG002
        """Return the time at which to call `expire` if no row comes before it, or None."""
        return None

    def expire(self, known: Any, key: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        """Yield the results for the time that `due` returned, and update `known`."""
        return iter(())


class InOrder(base.StatefulProcessor):
    """Hands the rows of each key to a handler in the order of their times, behind the watermark.

    Until the watermark has passed a row, it waits in the state. Rows with the same time
    are ordered by their text, so that the order does not depend on the batches. Each
    key has one timer, set for the first time at which there is something to do.
    """

    def __init__(
        self, handler: Handler, at: int, names: Sequence[str], *, streaming: bool
    ) -> None:
        """Keep the arguments; Spark calls `init` in the worker.

        Args:
            handler: handles the rows.
            at: the index of the time in a row.
            names: the columns of the results.
            streaming: rows wait for the watermark; otherwise all rows of a key are in
                this batch.
        """
        self._handler = handler
        self._at = at
        self._names = names
        self._streaming = streaming

    def init(self, handle: base.StatefulProcessorHandle) -> None:
        """Open the states of a key; Spark calls this before it passes rows."""
        self._handle = handle
        self._result = Row(*self._names)
        self._states = [
            handle.getValueState(name, columns)
            for name, columns in self._handler.states.items()
        ]
        # Each item holds the rows of a batch
        self._waiting = handle.getListState("waiting", "row BINARY")
        self._timer = handle.getValueState("timer", "at BIGINT")

    def handleInputRows(
        self,
        key: Any,
        rows: Iterator[Row],
        timerValues: base.TimerValues,  # noqa: N803, ARG002 - Spark's
    ) -> Iterator[Row]:
        """Handle the new rows of a key, or store them until the watermark passes them."""
        results: list[tuple[Any, ...]] = []
        ordered = []
        for row in in_order(rows, self._at):
            if row[self._at] is None or any(part is None for part in key):
                results += self._handler.pass_by(row)
            else:
                ordered.append(tuple(row))
        if ordered and self._streaming:
            self._waiting.appendValue((pickle.dumps(ordered, PROTOCOL),))
            self._wake(ordered[0][self._at])
        elif ordered:
            results += self._handled(key, ordered, None)
        return (self._result(*values) for values in results)

    def handleExpiredTimer(
        self,
        key: Any,
        timerValues: base.TimerValues,  # noqa: N803
        expiredTimerInfo: base.ExpiredTimerInfo,  # noqa: N803, ARG002
    ) -> Iterator[Row]:
        """Handle the stored rows of a key that the watermark has passed."""
        now = timerValues.getCurrentWatermarkInMs() * MILLI
        self._timer.clear()
        passed = []
        waiting = []
        for (part,) in self._waiting.get():
            for row in pickle.loads(part):  # noqa: S301 - our own
                if row[self._at] <= now:
                    passed.append(row)
                else:
                    waiting.append(row)
        if passed:
            self._waiting.clear()
        if passed and waiting:  # put() refuses an empty list
            self._waiting.put([(pickle.dumps(waiting, PROTOCOL),)])
        results = self._handled(key, in_order(passed, self._at), now)
        if waiting:
            self._wake(min(row[self._at] for row in waiting))
        return (self._result(*values) for values in results)

    def _handled(
        self, key: tuple[Any, ...], rows: Iterable[Sequence[Any]], now: int | None
    ) -> list[tuple[Any, ...]]:
        """Return the results of a key's rows and of what falls due, in the order of time.

        What falls due before a row comes before the results of the row. After the last
        row comes what is due at `now` or earlier, and the timer is set for the rest. In
        a batch query, `now` is None and everything that is still due comes.
        """
        handler = self._handler
        known = handler.load([state.get() for state in self._states])
        # To store changes only: an empty state would stay for ever
        before = handler.save(known)
        results: list[tuple[Any, ...]] = []
        for row in rows:
            due = handler.due(known)
            while due is not None and due < row[self._at]:
                results += handler.expire(known, key)
                due = handler.due(known)
            results += handler.see(known, key, row)
        due = handler.due(known)
        while due is not None and self._has_passed(due, now):
            results += handler.expire(known, key)
            due = handler.due(known)
        after = handler.save(known)
        for state, old, new in zip(self._states, before, after, strict=True):
            if new != old:
                state.update(new)
        if due is not None:
            self._wake(due)
        return results

    def _has_passed(self, due: int, now: int | None) -> bool:
        """Return whether the watermark `now` has reached a time; in a batch query, always."""
        if not self._streaming:
            return True
        if not now:  # Spark's watermark is 0 until a row has moved it
            return False
        return now >= due

    def _wake(self, time: int) -> None:
        """Set the key's timer to `time` of the watermark, unless it is set earlier."""
        wanted = timer_at(time)
        current = self._timer.get()
        if current is not None:
            [set_for] = current
            if set_for <= wanted:
                return
            self._handle.deleteTimer(set_for)
        self._handle.registerTimer(wanted)
        self._timer.update((wanted,))


def in_order(rows: Iterable[Any], at: int) -> list[Any]:
    """Sort rows by time, then by their text; rows without a time come first."""

    def order(row: Any) -> tuple[bool, int, str]:
        time = row[at]
        return time is not None, time or 0, repr(tuple(row))

    return sorted(rows, key=order)


def timer_at(micros: int) -> int:
    """Return the first watermark, in milliseconds since 1970, that has reached a time.

    Examples:
        >>> timer_at(1_999), timer_at(2_000), timer_at(2_001)
        (2, 2, 3)
    """
    return -(-micros // MILLI)  # rounded up


# The types of the fields of a state.
_PYTHON = {T.StringType: str, T.LongType: int, T.DoubleType: float, T.BooleanType: bool}


def columns(what: str, cls: Any) -> T.StructType:
    """Return the columns that store a state, all nullable: in an old state a newer field is null.

    Raises:
        InvalidInputError: `cls` is not a dataclass, or a field has no default or a type
            that is not allowed.
    """
    if not (isclass(cls) and is_dataclass(cls)):
        raise InvalidInputError(
            f"{what} is {said(cls)}; give a dataclass (the class itself)"
        )
    schema = from_dataclass(cls)
    for field, stored in zip(fields(cls), schema, strict=True):
        if not (_is_storable(stored.dataType) and _has_default(field, stored)):
            raise InvalidInputError(
                f"{what}: field {field.name} of {cls.__name__} cannot be kept; give it"
                " a default (None, if it may be None), and a type of str, int, float,"
                " bool or a list of one of them"
            )
    return T.StructType([T.StructField(each.name, each.dataType) for each in schema])


def _is_storable(dtype: T.DataType) -> bool:
    """Return whether a state can hold values of a type, which may be a list."""
    if isinstance(dtype, T.ArrayType):
        return type(dtype.elementType) in _PYTHON
    return type(dtype) in _PYTHON


def _has_default(field: Field[Any], stored: T.StructField) -> bool:
    """Return whether a field has a default; one that may be None must have None."""
    if stored.nullable:  # what is stored as null becomes the default
        return field.default is None
    return field.default is not MISSING or field.default_factory is not MISSING


def read(cls: Any, names: list[str], kept: tuple[Any, ...] | None) -> Any:
    """Make a state from its stored values; a null becomes the default of the field."""
    if kept is None:
        return cls()
    stored = zip(names, kept, strict=False)
    return cls(**{name: value for name, value in stored if value is not None})


def to_keep(state: Any, kinds: T.StructType) -> tuple[Any, ...]:
    """Return the values to store, of their exact types: the JVM reads others as null."""
    return tuple(
        _of_type(getattr(state, field.name), field.dataType) for field in kinds
    )


def _of_type(value: Any, kind: T.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, T.ArrayType):
        return [_of_type(item, kind.elementType) for item in value]
    return _PYTHON[type(kind)](value)


def as_of(
    left: DataFrame,
    right: DataFrame,
    key: str | Sequence[str],
    time: str,
    columns: str | Sequence[str] | None = None,
) -> DataFrame:
    """Add to each row of one stream the last row of another, at or before its time.

    This is the as-of join of pandas (`merge_asof`), which Structured Streaming lacks;
    it answers, for example, which price was valid when an order came. Both streams need
    a watermark. A row waits until both watermarks have passed it, because Spark uses
    the slower one, so a stream without new rows holds the other one back. The state
    keeps the waiting rows and, for ever, the last right row of each key. Late rows of
    both streams are dropped, and Spark counts them.

    Args:
        left: the rows that are returned; static or streaming.
        right: the rows to look up; static or streaming as `left` is.
        key: the columns in both frames that must be equal: one name, or a list of
            names.
        time: the event-time column (timestamp) in both frames, with the watermark in a
            stream.
        columns: the columns of the right rows to add. Default: all except key and time.

    Returns:
        The columns of the left rows, then `last_<time>`, the time of the right row, and
        the right columns under their names. The added columns are null if the key has
        no right row at or before the time. Left rows without a key or a time are
        returned at once, with nulls. The left time keeps its watermark.

    Raises:
        InvalidInputError: a column that does not exist, a time that is not a timestamp
            or has no watermark, key or time columns of different types, a left column
            named like an added one, or a static and a streaming frame.
        MissingExtraError: a library of the extra `state` is not installed.

    Examples:
        In a session::

            state.as_of(orders, prices, "product", "time")  # last_time, price
    """
    check(as_of, locals())
    call = "as_of()"
    if left.isStreaming != right.isStreaming:
        raise InvalidInputError(
            f"{call} takes two streams or two static frames; use a join for one of each"
        )
    sides = _sides(call, left, right, key, time, columns)
    width = len(left.columns)
    streaming = left.isStreaming
    both = _one_stream(sides)

    _, *both_fields = both.schema  # without the side
    output = T.StructType(both_fields[:width])
    for number, field in enumerate(both_fields[width:]):
        output.add(f"n{number}", field.dataType)
    *left_keys, left_time = sides.left_places
    processor = InOrder(
        _AsOf(1 + width), 1 + left_time, output.names, streaming=streaming
    )
    groups = both.groupBy(*(f"c{at}" for at in left_keys))
    results = processed(call, groups, processor, output, streaming=streaming)
    added = [
        T.StructField(name, field.dataType)
        for name, field in zip(sides.added, sides.right.schema, strict=False)
    ]
    return results.select(*unpacked(output.names, [*left.schema, *added]))


# The side of a row, its first column. Rows with the same time are ordered by their text:
# so a right row comes before a left row of the same time, which then finds it.
_RIGHT = 0
_LEFT = 1


@dataclass(frozen=True)
class _Sides:
    """The two frames of `as_of`, and where their keys and times are.

    Attributes:
        left: the rows that are returned.
        right: its time, the other columns that are added, and then its keys.
        left_places: the indexes of the keys and of the time, in this order.
        right_places: the same of the right frame.
        added: the names of the right time and of the other added columns in the result.
    """

    left: DataFrame
    right: DataFrame
    left_places: list[int]
    right_places: list[int]
    added: list[str]


def _sides(
    call: str,
    left: DataFrame,
    right: DataFrame,
    key: str | Sequence[str],
    time: str,
    columns: str | Sequence[str] | None,
) -> _Sides:
    """Find the columns of both frames of `as_of`, and cut the right one to those it needs."""
    added_places = [
        place_of(call, right, name)
        for name in (time, *_columns_to_add(right, key, time, columns))
    ]
    last, *others = (right.columns[at] for at in added_places)
    added = [f"last_{last}", *others]
    left_places = [*places_of_keys(call, left, key), place_of_time(call, left, time)]
    right_keys = places_of_keys(call, right, key)
    place_of_time(call, right, time)  # refuses one that is no event time
    refuse_taken(left.columns, added, call)
    # A note of the query names the columns that are kept: of the right rows these
    # alone.
    cut = right.select(
        *(column(right.columns[at]) for at in (*added_places, *right_keys))
    )
    # In it the keys come last, and the time comes first
    right_places = [*range(len(added), len(cut.columns)), 0]
    for at, other in zip(left_places, right_places, strict=True):
        left_field = left.schema[at]
        right_field = cut.schema[other]
        if left_field.dataType != right_field.dataType:
            raise InvalidInputError(
                f"{call}: column {left_field.name} is {left_field.dataType.simpleString()} on the"
                f" left and {right_field.dataType.simpleString()} on the right; cast one of"
                " them"
            )
    return _Sides(left, cut, left_places, right_places, added)


def _columns_to_add(
    right: DataFrame,
    key: str | Sequence[str],
    time: str,
    columns: str | Sequence[str] | None,
) -> list[str]:
    """Return the right columns that `as_of` adds after the time: by default, all others."""
    if isinstance(columns, str):
        return [columns]
    if columns is not None:
        return list(columns)
    keys = [key] if isinstance(key, str) else key
    in_both = {name.lower() for name in (time, *keys)}
    return [name for name in right.columns if name.lower() not in in_both]


def _one_stream(sides: _Sides) -> DataFrame:
    """Return the rows of both frames as one frame: the side, left columns, right columns.

    A left row has nulls in the right columns (r0, r1, …); a right row has its keys and
    its time in those of the left columns (c0, c1, …), and nulls in the others.
    """
    lefts = packed(sides.left, sides.left_places[-1]).select(
        F.lit(_LEFT).alias("side"), "*"
    )
    shared = [
        F.col(f"c{other}").alias(f"c{at}")
        for at, other in zip(sides.left_places, sides.right_places, strict=True)
    ]
    looked_up = [F.col(f"c{at}").alias(f"r{at}") for at in range(len(sides.added))]
    rights = packed(sides.right, sides.right_places[-1]).select(
        F.lit(_RIGHT).alias("side"), *shared, *looked_up
    )
    return lefts.unionByName(rights, allowMissingColumns=True)


class _AsOf(Handler):
    """Adds the values of the last right row to a left row.

    A row is its side, the left and the right columns, as `_one_stream` gives them.

    Args:
        left: the number of values before the right columns.
    """

    def __init__(self, left: int) -> None:
        self.states = {"last": schema_of(row=T.BinaryType())}
        self._left = left

    def load(self, kept: list[tuple[Any, ...] | None]) -> list[Any]:
        [last] = kept
        if not last:
            return [None]
        return [pickle.loads(last[0])]  # noqa: S301 - our own

    def save(self, known: list[Any]) -> list[tuple[Any, ...]]:
        return [(pickle.dumps(known[0], PROTOCOL),)]

    def see(
        self,
        known: list[Any],
        key: tuple[Any, ...],  # noqa: ARG002
        row: Sequence[Any],
    ) -> Iterator[tuple[Any, ...]]:
        side, *left = row[: self._left]
        right = tuple(row[self._left :])
        if side == _RIGHT:
            known[0] = right
        else:
            last = known[0] or (None,) * len(right)
            yield (*left, *last)

    def pass_by(self, row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        side, *left = row[: self._left]
        if side == _LEFT:
            nulls = (None,) * (len(row) - self._left)
            yield (*left, *nulls)
