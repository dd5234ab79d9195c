"""The processor behind every function that takes the rows of a key in the order of their times."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Protocol

from pyspark.sql import Row
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspark.sql import types as T
    from pyspark.sql.streaming.stateful_processor import (
        ExpiredTimerInfo,
        StatefulProcessorHandle,
        TimerValues,
    )

MILLI = 1000  # microseconds; Spark's watermarks and timers are in milliseconds
PROTOCOL = 5  # of pickle, fixed: a state outlives the Python that wrote it


class Handler(Protocol):
    """What is done with the rows of one key; all times are microseconds since 1970."""

    states: dict[str, T.StructType]  # what is kept of a key, by name

    def load(self, kept: list[tuple[Any, ...] | None]) -> Any:
        """Return what is known of a key by what was kept of it, in the order of `states`."""

    def save(self, known: Any) -> list[tuple[Any, ...]]:
        """Return what is to be kept of a key."""

    def see(self, known: Any, key: tuple[Any, ...], row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the results of a row, and change what is known."""

    def pass_by(self, row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        """Yield the results of a row without a key or a time, which has no place in any order."""
        return iter(())

    def due(self, known: Any) -> int | None:  # noqa: ARG002
        """Return the time at which to call `expire` if no row comes before; None if there is none."""
        return None

    def expire(self, known: Any, key: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        """Yield the results of the time that `due` has said, and change what is known."""
        return iter(())


class Ordered(StatefulProcessor):
    """Hands the rows of each key to a handler by their times, once the watermark has passed them.

    Until then they wait in the state. Rows of the same time go by their text, so that the order does not
    depend on the batches. Each key has one timer: at the first time at which something is to be done.
    """

    def __init__(
        self, handler: Handler, at: int, names: Sequence[str], *, waits: bool, streaming: bool
    ) -> None:
        """Take what to do.

        Args:
            handler: what is done with the rows.
            at: where the time stands in a row.
            names: the columns of the results.
            waits: rows wait for the watermark; else they are handled as they come.
            streaming: there are later batches; else all rows of a key are here at once.
        """
        self._handler = handler
        self._at = at
        self._names = names
        self._waits = waits
        self._streaming = streaming

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._handle = handle
        self._result = Row(*self._names)
        self._kept = [handle.getValueState(name, kept) for name, kept in self._handler.states.items()]
        self._waiting = handle.getListState("waiting", "row BINARY")
        self._timer = handle.getValueState("timer", "at BIGINT")

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: TimerValues) -> Iterator[Row]:  # noqa: N803, ARG002 - Spark's
        found: list[tuple[Any, ...]] = []
        placed = []
        for row in in_order(rows, self._at):
            if row[self._at] is None or any(part is None for part in key):
                found += self._handler.pass_by(row)
            else:
                placed.append(tuple(row))
        if placed and self._waits:
            self._waiting.appendList([(pickle.dumps(row, PROTOCOL),) for row in placed])
            self._wake(placed[0][self._at])
        elif placed:
            found += self._handled(key, placed, None)
        return (self._result(*each) for each in found)

    def handleExpiredTimer(
        self,
        key: Any,
        timerValues: TimerValues,  # noqa: N803
        expiredTimerInfo: ExpiredTimerInfo,  # noqa: N803, ARG002
    ) -> Iterator[Row]:
        now = timerValues.getCurrentWatermarkInMs() * MILLI
        self._timer.clear()
        waiting = [pickle.loads(each[0]) for each in self._waiting.get()] if self._waits else []  # noqa: S301 - our own
        passed = [row for row in waiting if row[self._at] <= now]
        if passed:
            waiting = [row for row in waiting if row[self._at] > now]
            self._waiting.clear()
        if passed and waiting:  # Spark takes no empty list
            self._waiting.put([(pickle.dumps(row, PROTOCOL),) for row in waiting])
        found = self._handled(key, in_order(passed, self._at), now)
        if waiting:
            self._wake(min(row[self._at] for row in waiting))
        return (self._result(*each) for each in found)

    def _handled(
        self, key: tuple[Any, ...], rows: Iterable[Sequence[Any]], now: int | None
    ) -> list[tuple[Any, ...]]:
        """Return the results of rows in their order, and of what was due among them and until now."""
        handler = self._handler
        known = handler.load([state.get() for state in self._kept])
        before = handler.save(known)  # a key of which nothing is known yet is not kept: it would be for ever
        found: list[tuple[Any, ...]] = []
        for row in rows:
            while (due := handler.due(known)) is not None and due < row[self._at]:
                found += handler.expire(known, key)
            found += handler.see(known, key, row)
        while (due := handler.due(known)) is not None and (not self._streaming or (now or due - 1) >= due):
            found += handler.expire(known, key)
        for state, old, new in zip(self._kept, before, handler.save(known), strict=True):
            if new != old:
                state.update(new)
        if due is not None:
            self._wake(due)
        return found

    def _wake(self, time: int) -> None:
        """See to it that the key's timer is no later than when the watermark reaches a time."""
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
    """Return rows by their time, those of one time by their text, and those without a time first."""
    return sorted(rows, key=lambda row: (row[at] is not None, row[at] or 0, repr(tuple(row))))


def timer_at(micros: int) -> int:
    """Return the first millisecond at which the watermark has passed a time."""
    return -(-micros // MILLI)
