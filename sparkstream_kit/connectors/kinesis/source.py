"""Streams of Amazon Kinesis as a source, which Spark's Python workers run.

Kinesis has no call that tells the number of the newest record. So the driver's worker reads ahead and keeps
sequence numbers, and the executors read the same records again. The range of a shard, from one number to
another, gives the same records each time, until the stream has deleted them; that is noticed, as offsets hold
how many there were.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition

from sparkstream_kit._arguments import check, said
from sparkstream_kit._spark.batch import modules_by_value
from sparkstream_kit.connectors.kinesis import service
from sparkstream_kit.connectors.kinesis.service import Ahead, Service, address
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, hint, innermost_cause
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.connectors.kinesis.service import Offset, Shard, Stream


_AvailableNow: Any
try:  # Spark 4.2 and later
    from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow as _AvailableNow
except ImportError:
    _AvailableNow = object


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
        """Return the end of the next batch; Spark 4.1 gives neither its start nor a limit."""
        state = self._state
        start = start or state.at or state.first
        self._check(start)
        shards = state.ahead.shards()
        begin = self._checked_for_losses(start, shards)
        most = self._most if limit is None else getattr(limit, "max_rows", sys.maxsize)
        found = state.ahead.look(service.readable(begin, shards), most)
        state.seen = service.seen_until(begin, found, shards)
        return service.moved(begin, found, shards, refresh=state.stream.keeps / _PARTS)

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
        return [InputPartition(each) for each in service.ranges(start, end)]

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
            first = service.beginning(self._service.stream, stream.created, begin)
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
        if service.made_again(start, shards):
            raise InvalidInputError(f"stream {name} was deleted and made again under the query; {_NEW}")
        if missing := service.gone(start, shards):
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


_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_WORDS = ("earliest", "latest")
_registered: WeakSet[SparkSession] = WeakSet()  # Spark warns of a second time


def kinesis(
    spark: SparkSession,
    stream: str,
    *,
    starting: str | datetime = "earliest",
    binary: bool = False,
    max_records_per_trigger: int = 100_000,
    region: str | None = None,
    endpoint: str | None = None,
    retry_for: float = 300.0,
    fail_on_data_loss: bool = True,
) -> DataFrame:
    r"""Stream the records of an Amazon Kinesis stream; replayable, so exactly once up to the sink.

    ::

        lines = sources.kinesis(spark, "sales", region="eu-central-1")
        sales = quarantine.parse_json(lines, SALES)

    Offsets are sequence numbers, shard by shard, and a batch has one partition for each shard. Shards that
    are split or merged are followed: a new one is read once its parents have been read to their ends. Refused
    are a stream that was deleted and made again after the query had read it, and a start after which records
    may have been deleted before they were read.

    Needs the extra `kinesis` where Spark's Python workers run. There boto3 looks for credentials: in the
    environment that Spark was started with, `~/.aws`, or the machine's role. They are in no option, plan or
    checkpoint. AWS_DEFAULT_REGION and AWS_ENDPOINT_URL count, too.

    Args:
        spark: the session.
        stream: the name of the stream.
        starting: where a new query begins: "earliest", "latest" (the second in which it starts) or a time (in
            UTC, if it has no time zone: the first records that arrived then or later). A query with a
            checkpoint goes on after its last batch.
        binary: leave `value` as bytes.
        max_records_per_trigger: the most records in one batch, over all shards. With Spark 4.1 a
            query with availableNow=True ends after one such batch.
        region: the region of the stream, such as "eu-central-1"; by default that of the environment.
        endpoint: the address of another service of Kinesis's protocol, such as "http://localhost:4567".
        retry_for: for how many seconds a call is tried again while Kinesis throttles or cannot be reached;
            then the query fails.
        fail_on_data_loss: False goes on without records that the stream has deleted before they were read.

    Returns:
        A streaming DataFrame with `value` (string, or binary), `partition_key` (string), `sequence_number`
        (string: 56 digits), `shard_id` (string) and `approximate_arrival_timestamp` (timestamp). A record
        that the Kinesis Producer Library has put together of several is one row: they are not taken apart.

    Raises:
        InvalidInputError: in one line: there is no such stream, no region or no credentials, AWS denies it,
            or an argument cannot be used.
        MissingExtraError: boto3 is not installed where Spark's workers run.
        KitError: Kinesis cannot be reached.

    Examples:
        >>> kinesis(None, "sales")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: sources.kinesis(): spark is None; give a session, ...
    """
    check(kinesis, locals())
    if not _NAME.fullmatch(stream):
        raise InvalidInputError(
            f"stream {stream!r} is no name of a stream, which has letters, digits, dots, underscores and "
            "dashes"
        )
    if not 0 <= retry_for < float("inf"):
        raise InvalidInputError(f"retry_for is {retry_for}; give a number of seconds, 0 or more")
    builtin.check_number("max_records_per_trigger", max_records_per_trigger)
    endpoint = address(endpoint)  # of the environment, too: what a notebook sets there, workers do not see
    options = {
        "stream": stream,
        "starting": _starting(starting),
        "max_records_per_trigger": str(max_records_per_trigger),
        "retry_for": str(float(retry_for)),
        "fail_on_data_loss": str(fail_on_data_loss).lower(),
    }
    region = region or os.environ.get("AWS_DEFAULT_REGION")
    options |= {name: value for name, value in (("region", region), ("endpoint", endpoint)) if value}
    frame = _loaded(spark, options)
    value = F.col("value") if binary else F.col("value").cast("string")
    return frame.select(value.alias("value"), *frame.columns[1:])


kinesis.__module__ = "sparkstream_kit.sources"  # where users find it: messages name it so


def _starting(starting: object) -> str:
    """Return where to begin, as offsets have it; or "latest", which is worked out when the query starts."""
    if isinstance(starting, str) and starting in _WORDS:
        return "" if starting == "earliest" else starting
    if isinstance(starting, datetime):
        return f"@{builtin.moment(starting)}"
    fix = hint(str(starting), _WORDS)
    raise InvalidInputError(
        f"sources.kinesis(): starting is {said(starting)}{fix or '; give earliest, latest or a datetime'}"
    )


def _loaded(spark: SparkSession, options: dict[str, str]) -> DataFrame:
    """Return Spark's own frame; what its worker refuses, in one line."""
    from sparkstream_kit import errors

    if spark not in _registered:
        # Spark does not give the worker that plans a stream the files of --py-files.
        with modules_by_value((errors, service, sys.modules[__name__])):
            spark.dataSource.register(KinesisSource)
        _registered.add(spark)
    try:
        frame = spark.readStream.format(NAME).options(**options).load()
        frame.schema  # noqa: B018 - Connect asks the worker only now
    except PySparkException as err:
        cause = innermost_cause(err)
        if "MissingExtraError" in str(err):
            raise MissingExtraError("sources.kinesis()", "kinesis") from None
        raise InvalidInputError(f"sources.kinesis(): {cause}") from None
    return frame
