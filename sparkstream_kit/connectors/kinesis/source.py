"""Streams of Amazon Kinesis as a source, which Spark's Python workers run.

Kinesis has no call that returns the sequence number of the newest record. So the Python
worker of the driver reads ahead and keeps sequence numbers, and the tasks read the same
records again. The range of a shard from one number to another has the same records each
time, until the stream deletes them. A deletion is noticed, because offsets hold the
number of records.

`kinesis`, the only public function (`sources.kinesis`), registers `KinesisSource` with
the session. For each query Spark then makes a `Reader` in the driver's worker, and
another one for the tasks. `service` has the calls of Kinesis and the functions that
compute offsets.
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

from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit.connectors import modules_by_value
from sparkstream_kit.connectors.kinesis import service
from sparkstream_kit.connectors.kinesis.service import Ahead, Service, address
from sparkstream_kit.errors import (
    InvalidInputError,
    MissingExtraError,
    hint,
    innermost_cause,
)
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.connectors.kinesis.service import Offset, Shard, Stream


_AvailableNow: Any
try:  # Spark 4.2 and later
    from pyspark.sql.streaming.datasource import (
        SupportsTriggerAvailableNow as _AvailableNow,
    )
except ImportError:
    _AvailableNow = object


_log = logging.getLogger(__name__)

NAME = "sparkstream_kinesis"
_SCHEMA = (
    "value BINARY, partition_key STRING, sequence_number STRING, shard_id STRING, "
    "approximate_arrival_timestamp TIMESTAMP"
)
# An idle query notes its progress this many times per retention period. Otherwise,
# after a long idle time, it would look like a query that was down while records
# expired.
_PARTS = 4
_NEW = "start on a new checkpoint"


class KinesisSource(DataSource):
    """The data source that Spark finds by its name, with the options `kinesis` sets."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the format."""
        return NAME

    def schema(self) -> str:
        """Return the columns as DDL; also check that the stream can be read.

        So a problem shows when a source is made.

        Raises:
            InvalidInputError: the stream does not exist or cannot be read.
            MissingExtraError: boto3 is not installed for Spark's Python workers.
            TransientError: Kinesis cannot be reached.
        """
        _service(self.options).describe()
        return _SCHEMA

    def streamReader(self, schema: object) -> Reader:  # noqa: ARG002 - Spark's signature
        """Return the reader of the stream."""
        return Reader(dict(self.options))


def _service(options: Mapping[str, str]) -> Service:
    place = options.get("region"), options.get("endpoint")
    return Service(options["stream"], *place, float(options["retry_for"]))


@dataclass
class _State:
    """The state of a running query in the driver's worker; after a restart only its offsets remain.

    Attributes:
        stream: the stream's description at the start of the query, or after its last
            check for lost records.
        first: the offset at which a query without a checkpoint starts.
        ahead: reads ahead in the shards.
        at: the offset at which the next batch starts; Spark 4.1 does not pass it to
            `latestOffset`.
        seen: the last look found all records that arrived before this time (seconds
            since 1970); 0 if unknown.
    """

    stream: Stream
    first: Offset
    ahead: Ahead
    at: Offset | None = None
    seen: float = 0.0


class Reader(DataSourceStreamReader, _AvailableNow):  # type: ignore[misc]
    """Plans the batches of a query in the driver's worker, and reads their records in tasks.

    For each query Spark makes one reader in the driver's worker, and another one for
    the tasks. The names of the public methods are Spark's (`DataSourceStreamReader`).

    Args:
        options: the options of the source, as texts.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._starting = options["starting"]
        self._most = int(options["max_records_per_trigger"])
        self._strict = options["fail_on_data_loss"] == "true"
        self._service = _service(options)
        self._known: _State | None = None

    # --- called by Spark in the driver's worker

    def initialOffset(self) -> Offset:
        """Return the offset at which a query without a checkpoint starts."""
        return self._state.first

    def getDefaultReadLimit(self) -> Any:
        """Return the most records that a batch may have; called by Spark 4.2 and later."""
        from pyspark.sql.streaming.datasource import ReadMaxRows

        return ReadMaxRows(self._most)

    def prepareForTriggerAvailableNow(self) -> None:
        """Ignore records that arrive after this call; called by Spark 4.2 and later."""
        # The service's time is rounded down to a second, so add one to include all
        # records of now.
        self._state.ahead.leave_out(since=self._service.describe().now + 1)

    def latestOffset(self, start: Offset | None = None, limit: Any = None) -> Offset:
        """Return the offset at which the next batch ends.

        Args:
            start: where the batch starts. Spark 4.1 does not pass it, so it comes from
                the last batch.
            limit: a `ReadMaxRows`, or another limit, which means no limit. Spark 4.1
                does not pass it, so `max_records_per_trigger` applies.

        Raises:
            InvalidInputError: the checkpoint belongs to another stream, or records may
                have been deleted before they were read.
        """
        state = self._state
        start = start or state.at or state.first
        self._check(start)
        shards = state.ahead.shards()
        begin = self._checked_for_losses(start, shards)
        most = self._most
        if limit is not None:
            most = getattr(limit, "max_rows", sys.maxsize)
        found = state.ahead.look(service.readable(begin, shards), most)
        state.seen = service.seen_until(begin, found, shards)
        return service.moved(begin, found, shards, refresh=state.stream.keeps / _PARTS)

    def reportLatestOffset(self) -> Offset | None:
        """Report how many seconds the query is behind, for its progress.

        Spark 4.2 and later call this.

        Returns:
            `stream` (the name) and `seconds_behind`; None if unknown.
        """
        state = self._state
        if not state.seen:
            return None
        behind = max(0.0, state.ahead.now - state.seen)
        return {"stream": self._service.stream, "seconds_behind": round(behind, 1)}

    def partitions(self, start: Offset, end: Offset) -> Sequence[InputPartition]:
        """Return one partition of the batch for each shard that has records in it.

        Raises:
            InvalidInputError: the checkpoint belongs to another stream.
        """
        self._check(end)
        # Spark 4.1 tells a restarted query only here where it resumes
        self._state.at = end
        return [InputPartition(part) for part in service.ranges(start, end)]

    # --- called by Spark in a task

    def read(self, partition: InputPartition) -> Iterator[tuple[Any, ...]]:
        """Yield a partition's records as rows of the schema, in the order of the shard.

        Raises:
            InvalidInputError: the stream no longer has all records of the range, and
                `fail_on_data_loss` is true.
        """
        shard, after, until, records = partition.value
        iterator: str | None = self._service.iterator(shard, after)
        number = 0
        while iterator and number < records:
            page = self._service.page(iterator, records - number)
            if page is None:  # the iterator has expired
                iterator = self._service.iterator(shard, after)
                continue
            iterator = None if page.is_last else page.iterator
            for record in page.records:
                if int(record["SequenceNumber"]) > int(until):
                    iterator = None
                    break
                after = record["SequenceNumber"]
                number += 1
                arrived = record["ApproximateArrivalTimestamp"].astimezone(UTC)
                yield record["Data"], record["PartitionKey"], after, shard, arrived
        if after != until or number != records:
            self._lose(
                f"stream {self._service.stream} no longer has all {records:,} records"
                f" of {shard} that belong to a batch, but {number:,}: it has deleted"
                " them, or is another stream of this name"
            )

    # --- helpers

    @property
    def _state(self) -> _State:
        """What the driver's worker knows of the query; of a new query, its first offset."""
        if self._known is None:
            stream = self._service.describe()
            begin = self._starting
            if begin == "latest":
                begin = f"@{stream.now}"
            first = service.beginning(self._service.stream, stream.created, begin)
            self._known = _State(stream, first, Ahead(self._service, stream.now))
        return self._known

    def _check(self, known: Offset) -> None:
        """Refuse an offset of another stream, or of an earlier stream with the same name.

        Raises:
            InvalidInputError: the name or the creation time of the stream differs.
        """
        name = self._service.stream
        if known.get("stream") != name:
            was = known.get("stream", "something else")
            raise InvalidInputError(
                f"the checkpoint's query has read {was}, and not stream {name}; {_NEW}"
            )
        if known["created"] != self._state.stream.created:
            raise InvalidInputError(
                f"stream {name} was made again after the query had read it; {_NEW}"
            )

    def _checked_for_losses(self, start: Offset, shards: Mapping[str, Shard]) -> Offset:
        """Return the offset at which a batch begins, if no records after it were lost.

        Returns:
            `start`; without the shards that the stream no longer has, if
            `fail_on_data_loss` is false.

        Raises:
            InvalidInputError: the stream was recreated. With `fail_on_data_loss`, also:
                a shard that was not read to its end is gone, or the next records may be
                older than the retention period.
        """
        state = self._state
        name = self._service.stream
        if service.is_recreated(start, shards):
            raise InvalidInputError(
                f"stream {name} was deleted and made again under the query; {_NEW}"
            )
        missing = service.missing_shards(start, shards)
        if missing:
            self._lose(
                f"stream {name} no longer has {missing[0]}, of which the query has not"
                " read all records"
            )
            known = start["shards"].items()
            existing = {shard: place for shard, place in known if shard in shards}
            start = {**start, "shards": existing}
        behind = state.ahead.now - start["seen"]
        if start["seen"] and behind > state.stream.keeps:
            # The retention period may have been extended
            state.stream = self._service.describe()
            if behind > state.stream.keeps:
                hours = state.stream.keeps / 3600
                seen = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(start["seen"]))
                self._lose(
                    f"stream {name} keeps records for {hours:g} hours, and the query"
                    f" has read what arrived before {seen} UTC: later records may be"
                    " gone"
                )
        return start

    def _lose(self, loss: str) -> None:
        """Raise an error about lost records, or with `fail_on_data_loss=False` log a warning."""
        if self._strict:
            raise InvalidInputError(
                f"{loss}; {_NEW}, or, to go on without: sources.kinesis(…,"
                " fail_on_data_loss=False)"
            )
        _log.warning("%s; the query goes on without", loss)


_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_WORDS = ("earliest", "latest")
# Spark warns if a source is registered twice
_registered: WeakSet[SparkSession] = WeakSet()


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

    An offset has a sequence number for each shard, and a batch has one partition for
    each shard with new records. The source follows splits and merges: a new shard is
    read after its parents have been read to their ends. A query fails if the stream was
    deleted and recreated after the query had read it, or if records may have been
    deleted before they were read.

    The Python environment of Spark's workers needs the extra `kinesis`. There boto3
    looks for credentials: in the environment that Spark was started with, in `~/.aws`,
    or in the machine's role. Credentials are in no option, plan or checkpoint.
    AWS_DEFAULT_REGION and AWS_ENDPOINT_URL are used, too.

    Args:
        spark: the session.
        stream: the name of the stream.
        starting: where a query without a checkpoint begins: "earliest", "latest" (the
            second in which the query starts) or a time (the first records that arrived
            then or later; without a time zone, it is in UTC). A query with a checkpoint
            resumes after its last batch.
        binary: keep `value` as bytes.
        max_records_per_trigger: the most records in one batch, over all shards. With
            Spark 4.1, a query with availableNow=True ends after one such batch.
        region: the region of the stream, such as "eu-central-1". Default:
            AWS_DEFAULT_REGION, or the region that boto3 finds.
        endpoint: the address of another service with Kinesis's protocol, such as
            "http://localhost:4567".
            Default: AWS_ENDPOINT_URL_KINESIS or AWS_ENDPOINT_URL, or AWS itself.
        retry_for: for how many seconds a call is repeated while Kinesis throttles or
            cannot be reached; then the query fails.
        fail_on_data_loss: False: continue without records that the stream has deleted
            before they were read, with a warning in the log.

    Returns:
        A streaming DataFrame with `value` (string, or binary), `partition_key`
        (string), `sequence_number` (string: 56 digits), `shard_id` (string) and
        `approximate_arrival_timestamp` (timestamp). A record that the Kinesis Producer
        Library has aggregated from several is one row: it is not split.

    Raises:
        InvalidInputError: the stream does not exist, there is no region or there are no
            credentials, AWS denies access, Kinesis cannot be reached for `retry_for`
            seconds, or an argument is invalid. The message is a single line.
        MissingExtraError: boto3 is not installed for Spark's Python workers.

    Examples:
        >>> kinesis(None, "sales")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: sources.kinesis(): spark is None; ...
    """
    check(kinesis, locals())
    if not _NAME.fullmatch(stream):
        fix = "give up to 128 letters, digits, dots, underscores and dashes"
        raise InvalidInputError(
            f"sources.kinesis(): {stream!r} is no name of a stream; {fix}"
        )
    if not 0 <= retry_for < float("inf"):
        raise InvalidInputError(
            f"retry_for is {retry_for}; give a number of seconds, 0 or more"
        )
    builtin.check_number("max_records_per_trigger", max_records_per_trigger)
    # Look in this process's environment, too: workers do not see variables that a
    # notebook sets.
    region = region or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = address(endpoint)
    options = {
        "stream": stream,
        "starting": _starting(starting),
        "max_records_per_trigger": str(max_records_per_trigger),
        "retry_for": str(float(retry_for)),
        "fail_on_data_loss": str(fail_on_data_loss).lower(),
    }
    if region:
        options["region"] = region
    if endpoint:
        options["endpoint"] = endpoint
    frame = _loaded(spark, options)
    value = F.col("value")
    if not binary:
        value = value.cast("string")
    return frame.select(value.alias("value"), *frame.columns[1:])


def _starting(starting: object) -> str:
    """Convert the argument `starting` to a position as in an offset.

    Returns:
        Empty for "earliest", "@" and seconds since 1970 for a time. "latest" stays,
        because its time is only known when the query starts.

    Raises:
        InvalidInputError: the value is neither of the two words nor a time, or the time
            is in the future.
    """
    if isinstance(starting, datetime):
        return f"@{builtin.moment(starting)}"
    if starting not in _WORDS:
        fix = "give earliest, latest or a datetime"
        near = hint(str(starting), _WORDS) or f"; {fix}"
        raise InvalidInputError(
            f"sources.kinesis(): starting is {said(starting)}{near}"
        )
    return "" if starting == "earliest" else "latest"


def _loaded(spark: SparkSession, options: dict[str, str]) -> DataFrame:
    """Register the data source and return Spark's own streaming DataFrame.

    Raises:
        InvalidInputError: the source in Spark's worker has raised an error; with its
            cause in one line.
        MissingExtraError: boto3 is not installed for Spark's Python workers.
    """
    from sparkstream_kit import errors

    if spark not in _registered:
        # The worker that plans a stream does not get the files of --py-files, so the
        # modules are sent to it.
        with modules_by_value((errors, service, sys.modules[__name__])):
            spark.dataSource.register(KinesisSource)
        _registered.add(spark)
    try:
        frame = spark.readStream.format(NAME).options(**options).load()
        frame.schema  # noqa: B018 - on Connect, only this asks the worker
    except PySparkException as err:
        if "MissingExtraError" in str(err):
            raise MissingExtraError("sources.kinesis()", "kinesis") from None
        kind = InvalidInputError
        if "TransientError" in str(err):
            kind = errors.TransientError
        raise kind(f"sources.kinesis(): {innermost_cause(err)}") from None
    return frame
