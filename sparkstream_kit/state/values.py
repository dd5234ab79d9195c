"""Values of a key's rows before: running statistics, the row before, and the last row of another stream."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import refuse_taken
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.schemas import schema_of
from sparkstream_kit.state import _frames, _typed
from sparkstream_kit.state._known import is_usable, welford
from sparkstream_kit.state._ordered import PROTOCOL, Handler, Ordered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame

__all__ = ["as_of", "last_by_key", "running"]

_NUMBER = T.DoubleType()
_STATISTICS = schema_of(count=T.LongType(), mean=_NUMBER, stddev=_NUMBER, min=_NUMBER, max=_NUMBER)


def running(frame: DataFrame, key: str | Sequence[str], time: str, value: str) -> DataFrame:
    """Add to each row the statistics of its key so far, the row itself included.

    Rows come out in the order of their times, once the watermark has passed them; until then they wait in the
    state, as for `alert_when`. Late rows are dropped, and counted by Spark. Mean and standard deviation are
    computed as B. P. Welford, "Note on a method for calculating corrected sums of squares and products"
    (1962). Where one result for each key or window is enough, use Spark's own `groupBy(…).agg(…)`: it is four
    times as fast.

    A row whose value is null, NaN or infinite comes out with the statistics so far, which it does not change.
    A row without key or time has none: it comes out at once, with nulls.

    Args:
        frame: static or streaming.
        key: the columns whose values have statistics of their own: one name, or a list of them.
        time: the event-time column (timestamp) with the watermark.
        value: a column of numbers.

    Returns:
        The same columns, then `count BIGINT`, `mean DOUBLE`, `stddev DOUBLE` (of a sample; null for a single
        value), `min DOUBLE` and `max DOUBLE`. The time keeps its watermark.

    Raises:
        InvalidInputError: no such column, a time that is no timestamp or has no watermark, a value that is no
            number, a column of an added name, or a Spark before 4.1.
    """
    check(running, locals())
    call = "running()"
    at = _frames.place_of(call, frame, value)
    _frames.check_number(call, frame.schema[at])
    placed = _placed(call, frame, key, time, _STATISTICS.names)
    return _handled(placed, placed.rows, _Statistics(at), _STATISTICS.fields, _STATISTICS.fields)


def last_by_key(
    frame: DataFrame, key: str | Sequence[str], time: str, columns: str | Sequence[str]
) -> DataFrame:
    """Add to each row values of the row of its key before it: the function `lag` of a batch, for streams.

    Before means by time, and among rows of the same time by their text. Rows come out once the watermark has
    passed them, and wait in the state until then; the state also keeps the last row of each key, for ever.
    Late rows are dropped, and counted by Spark. A row without key or time comes out at once, with nulls, and
    comes before no other.

    Args:
        frame: static or streaming.
        key: the columns that tell the series apart: one name, or a list of them.
        time: the event-time column (timestamp) with the watermark.
        columns: whose values to add: one name, or a list of them.

    Returns:
        The same columns, then `last_<time>` and `last_<column>` for each of the columns, in the types of
        these; all are null in the first row of a key. The time keeps its watermark.

    Raises:
        InvalidInputError: no such column, a time that is no timestamp or has no watermark, a column of an
            added name, or a Spark before 4.1.

    Example:
        In a session::

            state.last_by_key(payments, "card", "time", ["lat", "lon"])  # last_time, last_lat, last_lon
    """
    check(last_by_key, locals())
    call = "last_by_key()"
    names = [time, *([columns] if isinstance(columns, str) else columns)]
    places = [_frames.place_of(call, frame, name) for name in names]
    last = [f"last_{frame.columns[at]}" for at in places]
    placed = _placed(call, frame, key, time, last)
    packed = [placed.rows.schema[at] for at in places]
    return _handled(placed, placed.rows, _Last(places), _named(last, frame, places), packed)


def as_of(
    left: DataFrame,
    right: DataFrame,
    key: str | Sequence[str],
    time: str,
    columns: str | Sequence[str] | None = None,
) -> DataFrame:
    """Add to each row of one stream the values of the last row of another stream at or before its time.

    This is the as-of join of pandas (`merge_asof`), which Structured Streaming lacks: the price that held
    when an order came. Both streams need a watermark; a row waits until both have passed it, because Spark
    goes by the slower one. A stream without new rows holds the other one back. The state keeps the rows that
    wait and, for ever, the last right row of each key. Late rows of both are dropped, and counted by Spark.

    Args:
        left: the rows that come out; static or streaming, as the right ones are.
        right: the rows to look into.
        key: the columns in both that must be equal: one name, or a list of them.
        time: the event-time column (timestamp) in both, with the watermark.
        columns: which columns of the right rows to add; by default all but key and time.

    Returns:
        The columns of the left rows, then `last_<time>`, the time of the right row, and the right columns
        under their names; null where no right row of the key comes before. Left rows without key or time come
        out at once, with nulls. The left time keeps its watermark.

    Raises:
        InvalidInputError: no such column, a time that is no timestamp or has no watermark, key columns of
            different types, a column of an added name, a static and a streaming frame, or a Spark before 4.1.

    Example:
        In a session::

            state.as_of(orders, prices, "product", "time")  # last_time, price
    """
    check(as_of, locals())
    call = "as_of()"
    if left.isStreaming != right.isStreaming:
        raise InvalidInputError(f"{call} takes two streams or two static frames; use a join for one of each")
    given = {name.lower() for name in (time, *([key] if isinstance(key, str) else key))}
    wanted = [name for name in right.columns if name.lower() not in given]
    if columns is not None:
        wanted = [columns] if isinstance(columns, str) else list(columns)
    places = [_frames.place_of(call, right, name) for name in (time, *wanted)]
    last, *others = (right.columns[at] for at in places)
    names = [f"last_{last}", *others]
    lefts, rights = _placed(call, left, key, time, names), _placed(call, right, key, time)
    for at, other in zip(lefts.keys, rights.keys, strict=True):
        here, there = left.schema[at], right.schema[other]
        if here.dataType != there.dataType:
            raise InvalidInputError(
                f"{call}: column {here.name} is {here.dataType.simpleString()} on the left and "
                f"{there.dataType.simpleString()} on the right; cast one of them"
            )
    packed = [rights.rows.schema[at] for at in places]
    # Of the same time, the right rows come first: rows go by their text, which begins with the side.
    sided = lefts.rows.select(F.lit(1).alias("side"), "*")
    same = zip((*lefts.keys, lefts.time), (*rights.keys, rights.time), strict=True)
    shown = rights.rows.select(
        F.lit(0).alias("side"),
        *(F.col(f"c{other}").alias(f"c{at}") for at, other in same),
        *(F.col(f"c{at}").alias(f"r{number}") for number, at in enumerate(places)),
    )
    both = sided.unionByName(shown, allowMissingColumns=True)
    return _handled(lefts, both, _AsOf(len(left.columns)), _named(names, right, places), packed, first=1)


class _Placed(NamedTuple):
    """A frame that a function was given, packed for the way through Python.

    Attributes:
        call: the function.
        frame: what it was given.
        rows: the same, packed.
        keys: which of the columns c0, c1, … of the rows are the keys.
        time: which of them is the time.
    """

    call: str
    frame: DataFrame
    rows: DataFrame
    keys: list[int]
    time: int


def _placed(
    call: str, frame: DataFrame, key: str | Sequence[str], time: str, added: Sequence[str] = ()
) -> _Placed:
    """Check the columns of a frame, to which others are to be added, and pack it."""
    at = _frames.place_of_time(call, frame, time)
    keys = _frames.places_of_keys(call, frame, key)
    refuse_taken(frame.columns, added, call)
    return _Placed(call, frame, _frames.packed(frame, at), keys, at)


def _named(names: Sequence[str], frame: DataFrame, places: Sequence[int]) -> list[T.StructField]:
    """Return fields of these names with the types of some columns, which stand at these places."""
    return [T.StructField(name, frame.schema[at].dataType) for name, at in zip(names, places, strict=True)]


def _handled(
    placed: _Placed,
    rows: DataFrame,
    handler: Handler,
    added: Sequence[T.StructField],
    packed: Sequence[T.StructField],
    *,
    first: int = 0,
) -> DataFrame:
    """Return what a handler makes of rows in order: the columns of a frame, and those that it adds.

    Args:
        placed: the frame.
        rows: its packed rows, or these and others.
        handler: makes of a row the columns of the frame, and those that are added.
        added: the columns that are added.
        packed: fields of the types that these have while they are packed.
        first: how many columns of the rows come before c0.
    """
    fields, streaming = placed.frame.schema, placed.frame.isStreaming
    names = [f"c{number}" for number in range(len(fields))]
    new = [f"n{number}" for number in range(len(added))]
    made = [T.StructField(name, field.dataType) for name, field in zip(new, packed, strict=True)]
    output = T.StructType([*(rows.schema[name] for name in names), *made])
    processor = Ordered(handler, placed.time + first, output.names, waits=streaming, streaming=streaming)
    groups = rows.groupBy(*(f"c{number}" for number in placed.keys))
    found = _frames.processed(placed.call, groups, processor, output, streaming=streaming)
    return found.select(*_frames.unpacked(output.names, [*fields, *added]))


@dataclass
class _Numbers:
    """The statistics of a key."""

    count: int = 0
    mean: float = 0.0
    spread: float = 0.0
    low: float = math.inf
    high: float = -math.inf


class _Statistics(Handler):
    """Adds the statistics of the rows so far."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._kinds = _typed.columns("statistics", _Numbers)
        self.states = {"statistics": self._kinds}

    def load(self, kept: list[tuple[Any, ...] | None]) -> _Numbers:
        found: _Numbers = _typed.read(_Numbers, self._kinds.names, kept[0])
        return found

    def save(self, known: _Numbers) -> list[tuple[Any, ...]]:
        return [_typed.to_keep(known, self._kinds)]

    def see(self, known: _Numbers, key: tuple[Any, ...], row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        if is_usable(row[self._at]):
            value = float(row[self._at])
            known.count, known.mean, known.spread = welford(known.count, known.mean, known.spread, value)
            known.low, known.high = min(known.low, value), max(known.high, value)
        count = known.count
        deviation = math.sqrt(known.spread / (count - 1)) if count > 1 else None
        numbers = (known.mean, deviation, known.low, known.high) if count else (None,) * 4
        yield (*row, count, *numbers)

    def pass_by(self, row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        yield (*row, *(None,) * len(_STATISTICS))


class _Last(Handler):
    """Adds values of the row before."""

    def __init__(self, places: Sequence[int]) -> None:
        self._places = places
        self.states = {"last": schema_of(row=T.BinaryType())}

    def load(self, kept: list[tuple[Any, ...] | None]) -> list[Any]:
        return [pickle.loads(kept[0][0]) if kept[0] else None]  # noqa: S301 - our own

    def save(self, known: list[Any]) -> list[tuple[Any, ...]]:
        return [(pickle.dumps(known[0], PROTOCOL),)]

    def see(self, known: list[Any], key: tuple[Any, ...], row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        yield (*row, *(known[0] or (None,) * len(self._places)))
        known[0] = tuple(row[at] for at in self._places)

    def pass_by(self, row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        yield (*row, *(None,) * len(self._places))


class _AsOf(_Last):
    """Adds values of the last right row: a row is its side (0 or 1), the left columns, the right ones."""

    def __init__(self, left: int) -> None:
        super().__init__(())
        self._left = left + 1

    def see(self, known: list[Any], key: tuple[Any, ...], row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        right = tuple(row[self._left :])
        if row[0]:
            yield (*row[1 : self._left], *(known[0] or (None,) * len(right)))
        else:
            known[0] = right

    def pass_by(self, row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        if row[0]:
            yield (*row[1 : self._left], *(None,) * (len(row) - self._left))
