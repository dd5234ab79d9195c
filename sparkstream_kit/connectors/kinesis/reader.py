"""The data source that Spark's Python workers run: it looks ahead, plans ranges, and reads them.

Kinesis has no call that tells the number of the newest record. So the driver's worker reads ahead and keeps
sequence numbers, and the executors read the same records again. The range of a shard, from one number to
another, gives the same records each time, until the stream has deleted them; that is noticed, as offsets hold
how many there were.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition

from sparkstream_kit.connectors.kinesis import offsets
from sparkstream_kit.connectors.kinesis.looking import Ahead
from sparkstream_kit.connectors.kinesis.service import Service
from sparkstream_kit.errors import InvalidInputError

_AvailableNow: Any
try:  # Spark 4.2 and later
    from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow as _AvailableNow
except ImportError:
    _AvailableNow = object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sparkstream_kit.connectors.kinesis.offsets import Offset, Shard
    from sparkstream_kit.connectors.kinesis.service import Stream

__all__ = ["NAME", "KinesisSource", "Reader"]

_log = logging.getLogger(__name__)

NAME = "sparkstream_kinesis"
_SCHEMA = (
    "value BINARY, partition_key STRING, sequence_number STRING, shard_id STRING, "
    "approximate_arrival_timestamp TIMESTAMP"
)
_PARTS = 4  # of the time that the stream keeps a record: so often an idle query notes how far it has come
_NEW = "start on a new checkpoint"


class KinesisSource(DataSource):
    """The data source, by its options."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the format."""
        return NAME

    def schema(self) -> str:
        """Return the columns; asks for the stream, so that what is wrong shows when a source is made."""
        _service(self.options).describe()
        return _SCHEMA

    def streamReader(self, schema: object) -> Reader:  # noqa: ARG002 - Spark's signature
        """Return what reads the stream."""
        return Reader(dict(self.options))


def _service(options: Mapping[str, str]) -> Service:
    place = options.get("region"), options.get("endpoint")
    return Service(options["stream"], *place, float(options["retry_for"]))


@dataclass
class _State:
    """What the driver's worker knows since a query has started; only offsets outlive it.

    Attributes:
        stream: what the stream is.
        first: where a new query starts.
        ahead: what looks ahead.
        at: where the next batch starts, for a Spark that does not say so.
        seen: all records that arrived before this time were found by the last look; 0 if that is not known.
    """

    stream: Stream
    first: Offset
    ahead: Ahead
    at: Offset | None = None
    seen: float = 0.0


class Reader(DataSourceStreamReader, _AvailableNow):  # type: ignore[misc]
    """Reads a stream. Spark makes one in the driver's worker for each query, and one for its tasks.

    Args:
        options: those of the source.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._starting = options["starting"]
        self._most = int(options["max_records_per_trigger"])
        self._strict = options["fail_on_data_loss"] == "true"
        self._service = _service(options)
        self._known: _State | None = None

    # --- what Spark calls in the driver's worker

    def initialOffset(self) -> Offset:
        """Return where a new query starts."""
        return self._state.first

    def getDefaultReadLimit(self) -> Any:
        """Return how many records a batch may have; for Spark 4.2 and later."""
        from pyspark.sql.streaming.datasource import ReadMaxRows

        return ReadMaxRows(self._most)

    def prepareForTriggerAvailableNow(self) -> None:
        """Leave out what arrives later; for Spark 4.2 and later."""
        # The service tells its time to the second below.
        self._state.ahead.leave_out(since=self._service.describe().now + 1)

    def latestOffset(self, start: Offset | None = None, limit: Any = None) -> Offset:
        """Return the end of the next batch; Spark 4.0 and 4.1 give neither its start nor a limit."""
        state = self._state
        start = start or state.at or state.first
        self._check(start)
        shards = state.ahead.shards()
        begin = self._checked_for_losses(start, shards)
        most = self._most if limit is None else getattr(limit, "max_rows", sys.maxsize)
        found = state.ahead.look(offsets.readable(begin, shards), most)
        state.seen = offsets.seen_until(begin, found, shards)
        return offsets.moved(begin, found, shards, refresh=state.stream.keeps / _PARTS)

    def reportLatestOffset(self) -> Offset | None:
        """Return for the query's progress how many seconds it is behind; for Spark 4.2 and later."""
        state = self._state
        if not state.seen:
            return None
        behind = max(0.0, state.ahead.now - state.seen)
        return {"stream": self._service.stream, "seconds_behind": round(behind, 1)}

    def partitions(self, start: Offset, end: Offset) -> Sequence[InputPartition]:
        """Return a part of the batch for each shard with records in it."""
        self._check(end)
        self._state.at = end  # before Spark 4.2, where a restarted query goes on is told by this call alone
        return [InputPartition(each) for each in offsets.ranges(start, end)]

    # --- what Spark calls in a task

    def read(self, partition: InputPartition) -> Iterator[tuple[Any, ...]]:
        """Yield the records of a range.

        Raises:
            InvalidInputError: not all of them are there any more.
        """
        shard, after, until, records = partition.value
        iterator: str | None = self._service.iterator(shard, after)
        number = 0
        while iterator and number < records:
            page = self._service.page(iterator, records - number)
            if page is None:  # it has expired
                iterator = self._service.iterator(shard, after)
                continue
            iterator = None if page.is_last else page.iterator
            for record in page.records:
                if int(record["SequenceNumber"]) > int(until):
                    iterator = None
                    break
                after, number = record["SequenceNumber"], number + 1
                arrived = record["ApproximateArrivalTimestamp"].astimezone(UTC)
                yield record["Data"], record["PartitionKey"], after, shard, arrived
        if after != until or number != records:
            self._lose(
                f"stream {self._service.stream} no longer has all {records:,} records of {shard} that belong "
                f"to a batch, but {number:,}: it has deleted them, or is another stream of this name"
            )

    # --- how

    @property
    def _state(self) -> _State:
        if self._known is None:
            stream = self._service.describe()
            begin = f"@{stream.now}" if self._starting == "latest" else self._starting
            first = offsets.beginning(self._service.stream, stream.created, begin)
            self._known = _State(stream, first, Ahead(self._service, stream.now))
        return self._known

    def _check(self, known: Offset) -> None:
        """Refuse a checkpoint that knows another stream."""
        name = self._service.stream
        if known.get("stream") != name:
            was = known.get("stream", "something else")
            raise InvalidInputError(f"the checkpoint's query has read {was}, and not stream {name}; {_NEW}")
        if known["created"] != self._state.stream.created:
            raise InvalidInputError(
                f"stream {name} was deleted and made again after the query had read it; {_NEW}"
            )

    def _checked_for_losses(self, start: Offset, shards: Mapping[str, Shard]) -> Offset:
        """Return where a batch begins, unless records that come next are gone."""
        state, name = self._state, self._service.stream
        if offsets.made_again(start, shards):
            raise InvalidInputError(f"stream {name} was deleted and made again under the query; {_NEW}")
        if missing := offsets.gone(start, shards):
            said = f"stream {name} no longer has {missing[0]}, of which the query has not read all records"
            self._lose(said)
            left = {each: shard for each, shard in start["shards"].items() if each in shards}
            start = {**start, "shards": left}
        if start["seen"] and state.ahead.now - start["seen"] > state.stream.keeps:
            state.stream = self._service.describe()  # it may have been told to keep them longer
            hours, seen = state.stream.keeps / 3600, time.gmtime(start["seen"])
            if state.ahead.now - start["seen"] > state.stream.keeps:
                self._lose(
                    f"stream {name} keeps records for {hours:g} hours, and the query has read what arrived "
                    f"before {time.strftime('%Y-%m-%d %H:%M:%S', seen)} UTC: later records may be gone"
                )
        return start

    def _lose(self, said: str) -> None:
        """Refuse to go on without records, or say that the query does."""
        if self._strict:
            raise InvalidInputError(
                f"{said}; {_NEW}, or, to go on without: sources.kinesis(…, fail_on_data_loss=False)"
            )
        _log.warning("%s; the query goes on without", said)
