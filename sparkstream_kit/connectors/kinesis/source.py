"""Streams of Amazon Kinesis as a source; what reads them is in `reader`, which Spark's Python workers run."""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import TYPE_CHECKING
from weakref import WeakSet

from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from sparkstream_kit._arguments import check, said
from sparkstream_kit._spark.batch import modules_by_value
from sparkstream_kit.connectors.kinesis.service import address
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, hint, innermost_cause
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["kinesis"]

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
        max_records_per_trigger: the most records in one batch, over all shards. With Spark 4.0 and 4.1 a
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

    Example:
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
    from sparkstream_kit.connectors.kinesis import looking, offsets, reader, service

    if spark not in _registered:
        # Spark does not give the worker that plans a stream the files of --py-files.
        with modules_by_value((errors, looking, offsets, reader, service)):
            spark.dataSource.register(reader.KinesisSource)
        _registered.add(spark)
    try:
        frame = spark.readStream.format(reader.NAME).options(**options).load()
        frame.schema  # noqa: B018 - Connect asks the worker only now
    except PySparkException as err:
        cause = innermost_cause(err)
        if "MissingExtraError" in str(err):
            raise MissingExtraError("sources.kinesis()", "kinesis") from None
        raise InvalidInputError(f"sources.kinesis(): {cause}") from None
    return frame
