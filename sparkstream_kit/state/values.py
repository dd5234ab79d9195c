"""`as_of`, and what `state` shares: columns, packed rows, a processor in time order.

`InOrder` is the stateful processor of `alert_when` and `as_of`: it keeps the rows of a
key until the watermark has passed them and hands them to a `Handler` in the order of
their times. `packed` and `unpacked` turn times into whole numbers on the way to Python
and back; `columns`, `read` and `to_keep` store a dataclass.
"""

from __future__ import annotations

import pickle
from dataclasses import MISSING, fields, is_dataclass
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
    found = find_column(frame, name, caller=caller)
    if frame.columns.count(found) > 1:
        raise InvalidInputError(
            f"{caller}: two columns are named {found}; rename one of them"
        )
    return frame.columns.index(found)


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
    for at, (name, each) in enumerate(zip(names, frame.schema, strict=True)):
        metadata = dict(each.metadata) if at == timed_by else {}
        columns.append(
            _converted(F.col(name), each.dataType).alias(name, metadata=metadata)
        )
    return frame.toDF(*names).select(*columns)


def unpacked(names: Sequence[str], fields: Iterable[T.StructField]) -> list[Column]:
    """Unpack a frame's columns, to the names, types and watermarks of the fields."""
    return [
        _converted(F.col(name), field.dataType, back=True).alias(
            field.name, metadata=dict(field.metadata)
        )
        for name, field in zip(names, fields, strict=True)
    ]


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
    need(
        f"state.{call.removesuffix('()')}",
        "state",
        "pandas",
        "pyarrow",
        "google.protobuf",
    )
    return rows.transformWithState(
        processor, output, "Append", "EventTime" if streaming else "None"
    )


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
        self._kept = [
            handle.getValueState(name, kept)
            for name, kept in self._handler.states.items()
        ]
        # Each holds those of a batch
        self._waiting = handle.getListState("waiting", "row BINARY")
        self._timer = handle.getValueState("timer", "at BIGINT")

    def handleInputRows(
        self,
        key: Any,
        rows: Iterator[Row],
        timerValues: base.TimerValues,  # noqa: N803, ARG002 - Spark's
    ) -> Iterator[Row]:
        """Handle the new rows of a key, or store them until the watermark passes them."""
        found: list[tuple[Any, ...]] = []
        placed = []
        for row in in_order(rows, self._at):
            if row[self._at] is None or any(part is None for part in key):
                found += self._handler.pass_by(row)
            else:
                placed.append(tuple(row))
        if placed and self._streaming:
            self._waiting.appendValue((pickle.dumps(placed, PROTOCOL),))
            self._wake(placed[0][self._at])
        elif placed:
            found += self._handled(key, placed, None)
        return (self._result(*each) for each in found)

    def handleExpiredTimer(
        self,
        key: Any,
        timerValues: base.TimerValues,  # noqa: N803
        expiredTimerInfo: base.ExpiredTimerInfo,  # noqa: N803, ARG002
    ) -> Iterator[Row]:
        """Handle the stored rows of a key that the watermark has passed."""
        now = timerValues.getCurrentWatermarkInMs() * MILLI
        self._timer.clear()
        waiting = [row for (part,) in self._waiting.get() for row in pickle.loads(part)]  # noqa: S301 - our own
        passed = [row for row in waiting if row[self._at] <= now]
        if passed:
            waiting = [row for row in waiting if row[self._at] > now]
            self._waiting.clear()
        if passed and waiting:  # put() refuses an empty list
            self._waiting.put([(pickle.dumps(waiting, PROTOCOL),)])
        found = self._handled(key, in_order(passed, self._at), now)
        if waiting:
            self._wake(min(row[self._at] for row in waiting))
        return (self._result(*each) for each in found)

    def _handled(
        self, key: tuple[Any, ...], rows: Iterable[Sequence[Any]], now: int | None
    ) -> list[tuple[Any, ...]]:
        """Return the results of rows and of what was due, in order, until `now`."""
        handler = self._handler
        known = handler.load([state.get() for state in self._kept])
        # To store changes only: an empty state would stay for ever
        before = handler.save(known)
        found: list[tuple[Any, ...]] = []
        for row in rows:
            while (due := handler.due(known)) is not None and due < row[self._at]:
                found += handler.expire(known, key)
            found += handler.see(known, key, row)
        while (due := handler.due(known)) is not None and (
            not self._streaming or (now or due - 1) >= due
        ):
            found += handler.expire(known, key)
        for state, old, new in zip(
            self._kept, before, handler.save(known), strict=True
        ):
            if new != old:
                state.update(new)
        if due is not None:
            self._wake(due)
        return found

    def _wake(self, time: int) -> None:
        """Set the key's timer to `time` of the watermark, unless it is set earlier."""
        if not self._streaming:
            return
        wanted = timer_at(time)
        set_for = self._timer.get()
        if set_for is None or wanted < set_for[0]:
            if set_for is not None:
                self._handle.deleteTimer(set_for[0])
            self._handle.registerTimer(wanted)
            self._timer.update((wanted,))


def in_order(rows: Iterable[Any], at: int) -> list[Any]:
    """Sort rows by time, then by their text; rows without a time come first."""
    return sorted(
        rows, key=lambda row: (row[at] is not None, row[at] or 0, repr(tuple(row)))
    )


def timer_at(micros: int) -> int:
    """Return the first watermark, in milliseconds since 1970, that has reached a time."""
    return -(-micros // MILLI)


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
    found = from_dataclass(cls)
    for field, each in zip(fields(cls), found, strict=True):
        kind = (
            each.dataType.elementType
            if isinstance(each.dataType, T.ArrayType)
            else each.dataType
        )
        has_default = (
            field.default is not MISSING or field.default_factory is not MISSING
        )
        if each.nullable:  # what is stored as null becomes the default
            has_default = field.default is None
        if type(kind) not in _PYTHON or not has_default:
            raise InvalidInputError(
                f"{what}: field {field.name} of {cls.__name__} cannot be kept; give it"
                " a default (None, if it may be None), and a type of str, int, float,"
                " bool or a list of one of them"
            )
    return T.StructType([T.StructField(each.name, each.dataType) for each in found])


def read(cls: Any, names: list[str], kept: tuple[Any, ...] | None) -> Any:
    """Make a state from its stored values; a null becomes the default of the field."""
    return cls(
        **{
            name: value
            for name, value in zip(names, kept or (), strict=False)
            if value is not None
        }
    )


def to_keep(state: Any, kinds: T.StructType) -> tuple[Any, ...]:
    """Return the values to store, of their exact types: the JVM reads others as null."""
    return tuple(_of_type(getattr(state, kind.name), kind.dataType) for kind in kinds)


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
    given = {name.lower() for name in (time, *([key] if isinstance(key, str) else key))}
    wanted = [name for name in right.columns if name.lower() not in given]
    if columns is not None:
        wanted = [columns] if isinstance(columns, str) else list(columns)
    places = [place_of(call, right, name) for name in (time, *wanted)]
    last, *others = (right.columns[at] for at in places)
    names = [f"last_{last}", *others]
    lefts, rights = (
        [*places_of_keys(call, frame, key), place_of_time(call, frame, time)]
        for frame in (left, right)
    )
    refuse_taken(left.columns, names, call)
    # A note of the query names the columns that are kept: of the right rows these
    # alone.
    right = right.select(*(column(right.columns[at]) for at in (*places, *rights[:-1])))
    rights = [*range(len(places), len(right.columns)), 0]
    places = [*range(len(places))]
    for at, other in zip(lefts, rights, strict=True):
        here = left.schema[at]
        there = right.schema[other]
        if here.dataType != there.dataType:
            raise InvalidInputError(
                f"{call}: column {here.name} is {here.dataType.simpleString()} on the"
                f" left and {there.dataType.simpleString()} on the right; cast one of"
                " them"
            )
    # The side is the first column, and rows with the same time are ordered by their
    # text: so a right row (0) comes before a left row (1) of the same time, which then
    # finds it.
    sided = packed(left, lefts[-1]).select(F.lit(1).alias("side"), "*")
    shown = packed(right, rights[-1]).select(
        F.lit(0).alias("side"),
        *(
            F.col(f"c{other}").alias(f"c{at}")
            for at, other in zip(lefts, rights, strict=True)
        ),
        *(F.col(f"c{at}").alias(f"r{number}") for number, at in enumerate(places)),
    )
    both = sided.unionByName(shown, allowMissingColumns=True)
    end = len(left.columns) + 1
    streaming = left.isStreaming
    _, *fields = both.schema
    output = T.StructType(fields[: end - 1])
    for number, field in enumerate(fields[end - 1 :]):
        output.add(f"n{number}", field.dataType)
    processor = InOrder(_AsOf(end), lefts[-1] + 1, output.names, streaming=streaming)
    groups = both.groupBy(*(f"c{at}" for at in lefts[:-1]))
    found = processed(call, groups, processor, output, streaming=streaming)
    added = [
        T.StructField(name, right.schema[at].dataType)
        for name, at in zip(names, places, strict=True)
    ]
    return found.select(*unpacked(output.names, [*left.schema, *added]))


class _AsOf(Handler):
    """Adds the values of the last right row.

    A row is its side (1: left), the left and the right columns.
    """

    def __init__(self, left: int) -> None:
        self.states = {"last": schema_of(row=T.BinaryType())}
        self._left = left

    def load(self, kept: list[tuple[Any, ...] | None]) -> list[Any]:
        return [pickle.loads(kept[0][0]) if kept[0] else None]  # noqa: S301 - our own

    def save(self, known: list[Any]) -> list[tuple[Any, ...]]:
        return [(pickle.dumps(known[0], PROTOCOL),)]

    def see(
        self,
        known: list[Any],
        key: tuple[Any, ...],  # noqa: ARG002
        row: Sequence[Any],
    ) -> Iterator[tuple[Any, ...]]:
        right = tuple(row[self._left :])
        if row[0]:
            yield (*row[1 : self._left], *(known[0] or (None,) * len(right)))
        else:
            known[0] = right

    def pass_by(self, row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        if row[0]:
            yield (*row[1 : self._left], *(None,) * (len(row) - self._left))
