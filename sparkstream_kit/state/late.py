"""Late rows: told from the others, and kept by a deduplication of which Spark's own would lose them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import holds, refuse_taken
from sparkstream_kit._durations import positive
from sparkstream_kit.schemas import schema_of
from sparkstream_kit.state import _frames
from sparkstream_kit.state._ordered import MILLI, in_order, timer_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from pyspark.sql.streaming.stateful_processor import (
        ExpiredTimerInfo,
        StatefulProcessorHandle,
        TimerValues,
    )

__all__ = ["once", "split_late"]

_TASKS = 64  # groups of rows without a key, which Spark spreads over its shuffle partitions


def split_late(frame: DataFrame, time: str, by: str | None = None) -> DataFrame:
    """Tell the rows that come after the watermark has passed their time from those that are in time.

    A row is late when its time is not after the watermark of its batch: the newest time of all batches
    before, less the delay. No row is dropped and no state is kept. The time column keeps its watermark, so
    that windows can count the other rows in the same query::

        told = state.split_late(windows.with_watermark(events, "time", "10 minutes"), "time")
        counts = told.where("NOT late").groupBy(windows.tumbling("time", "1 hour")).count()

    Without `where` a window counts late rows, too, until it has closed. To have the late rows aside as well,
    start a second query on `told.where("late")`; where both read the same files one by one, the one has
    exactly what the other lacks. Do not union both in one query: with this operator in two branches, Spark
    emits no window. For large volumes use `sinks.by_watermark`, which spares the pass through Python.

    Delivery: a batch that comes again after a crash gives the same rows.

    Args:
        frame: static or streaming; of a static one no row is late.
        time: the event-time column (timestamp) with the watermark. A row without a time is not late.
        by: a column by whose values the rows are spread over tasks; by default the whole row.

    Returns:
        The same rows and columns, then `late BOOLEAN` and `watermark TIMESTAMP`: the watermark that a late
        row has missed, null in other rows.

    Raises:
        InvalidInputError: no such column, a time that is no timestamp or has no watermark, a column `late` or
            `watermark` that is there already, or a Spark before 4.1.
    """
    check(split_late, locals())
    call = "split_late()"
    at = _frames.place_of_time(call, frame, time)
    refuse_taken(frame.columns, ("late", "watermark"), call)
    spread = None if by is None else _frames.place_of(call, frame, by)
    if not frame.isStreaming:
        return frame.select("*", F.lit(False).alias("late"), F.lit(None).cast("timestamp").alias("watermark"))
    rows = _frames.packed(frame)
    hashed = [
        field.name
        for place, field in enumerate(rows.schema)
        if spread in (None, place) and not holds(field.dataType, T.MapType, T.VariantType)
    ]
    group = F.pmod(F.hash(*hashed or [f"c{at}"]), F.lit(_TASKS))
    output = T.StructType([*rows.schema, *schema_of(late=T.BooleanType(), at=T.LongType())])
    groups = rows.withColumn("task", group).groupBy("task")
    found = _frames.processed(call, groups, _Late(at, output.names), output, streaming=True)
    columns = _frames.unpacked(rows.columns, frame.schema)
    return found.select(*columns, "late", F.timestamp_millis("at").alias("watermark"))


class _Late(StatefulProcessor):
    """Compares each row with the watermark, and keeps nothing."""

    def __init__(self, at: int, names: Sequence[str]) -> None:
        self._at = at
        self._names = names

    def init(self, handle: StatefulProcessorHandle) -> None:
        pass

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: TimerValues) -> Iterator[Row]:  # noqa: N803, ARG002 - Spark's
        watermark = timerValues.getCurrentWatermarkInMs()
        told = Row(*self._names)
        for row in rows:
            *values, _ = row  # without the task
            time = values[self._at]
            late = time is not None and time <= watermark * MILLI
            yield told(*values, late, watermark if late else None)


def once(frame: DataFrame, ids: str | Sequence[str], time: str, within: str | timedelta) -> DataFrame:
    """Keep the first row of each id, and drop those that come again within a duration of event time.

    Unlike `dropDuplicatesWithinWatermark`, which drops every late row, a late row passes if its id is not
    known. A row comes again if a row of its ids was kept whose time is at most `within` before or after its
    own. An id is forgotten when the watermark is `within` past the time of its row, so that the state is
    bounded; a duplicate that is later still passes. Of a batch, the first row by time is kept, and among rows
    of the same time the first by its text, so that a batch which comes again gives the same. Rows of one id
    with other times in other orders may keep another of them.

    A row with a null in one of its ids, or without a time, is nobody's duplicate, and passes each time.

    Args:
        frame: static or streaming.
        ids: the columns that tell rows apart: one name, or a list of them.
        time: the event-time column (timestamp) with the watermark.
        within: how far apart duplicates may be, such as "1 hour".

    Returns:
        The same columns, without the rows that come again. The time column keeps its watermark; windows after
        it drop the late rows.

    Raises:
        InvalidInputError: no such column, a time that is no timestamp or has no watermark, a duration that
            cannot be read or is not positive, or a Spark before 4.1.

    Example:
        In a session::

            events = windows.with_watermark(events, "time", "10 minutes")
            state.once(events, "event_id", "time", within="1 hour")
    """
    check(once, locals())
    call = "once()"
    span = positive("within", within)
    at = _frames.place_of_time(call, frame, time)
    keys = _frames.places_of_keys(call, frame, ids)
    rows = _frames.packed(frame)
    groups = rows.groupBy(*(f"c{place}" for place in keys))
    processor = _Once(at, span, timers=frame.isStreaming)
    kept = _frames.processed(call, groups, processor, rows.schema, streaming=frame.isStreaming)
    return kept.select(*_frames.unpacked(rows.columns, frame.schema))


class _Once(StatefulProcessor):
    """Keeps the times of the rows of one id that were kept, until the watermark has passed them."""

    def __init__(self, at: int, span: int, *, timers: bool) -> None:
        self._at = at
        self._span = span
        self._timers = timers

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._handle = handle
        self._kept = handle.getValueState("kept", "times ARRAY<BIGINT>")

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: TimerValues) -> Iterator[Row]:  # noqa: N803, ARG002 - Spark's
        if any(part is None for part in key):
            yield from rows
            return
        times = self._known()
        before = len(times)
        for row in in_order(rows, self._at):
            time = row[self._at]
            if time is None:
                yield row
            elif all(abs(time - other) > self._span for other in times):
                times.append(time)
                yield row
        if len(times) > before:
            self._kept.update((times,))
        for time in times[before:] if self._timers else ():
            self._handle.registerTimer(timer_at(time + self._span))

    def handleExpiredTimer(
        self,
        key: Any,  # noqa: ARG002
        timerValues: TimerValues,  # noqa: N803
        expiredTimerInfo: ExpiredTimerInfo,  # noqa: N803, ARG002
    ) -> Iterator[Row]:
        passed = timerValues.getCurrentWatermarkInMs() * MILLI - self._span
        times = [time for time in self._known() if time > passed]
        if times:
            self._kept.update((times,))
        else:
            self._kept.clear()
        return iter(())

    def _known(self) -> list[int]:
        kept = self._kept.get()
        return [] if kept is None else list(kept[0])
