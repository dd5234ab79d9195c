"""Kafka topics as a source: Spark's own reader, with checks before the query runs.

Spark reports a wrong topic, a failed log-in or a broker that does not answer late or
never. `kafka`, the only public function (`sources.kafka`), checks its arguments, asks
the brokers, and returns Spark's own streaming DataFrame. `sinks.kafka` uses
`check_topics` for the same check of its topic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from sparkstream_kit._internal.arguments import check, check_options, said
from sparkstream_kit._internal.columns import shape_of
from sparkstream_kit._internal.spark.session import may_ask
from sparkstream_kit.connectors._packages import missing_source
from sparkstream_kit.connectors.kafka import brokers
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


_WORDS = {"earliest": -2, "latest": -1}
# Spark's options that have an argument of their own here, by their names in lower case.
_OURS = {
    "assign": "topics",
    "kafka.bootstrap.servers": "servers",
    "maxoffsetspertrigger": "max_offsets_per_trigger",
    "sparkstream.laggroup": "lag_group",
    "startingoffsets": "starting",
    "startingoffsetsbytimestamp": "starting",
    "startingoffsetsbytimestampstrategy": "starting",
    "startingtimestamp": "starting",
    "subscribe": "topics",
    "subscribepattern": "pattern",
}


def kafka(
    spark: SparkSession,
    servers: str,
    topics: str | Sequence[str] = (),
    *,
    pattern: str | None = None,
    starting: str | datetime | Mapping[str, Mapping[int, int | str]] = "earliest",
    binary: bool = False,
    max_offsets_per_trigger: int | None = None,
    lag_group: str | None = None,
    **options: Any,
) -> DataFrame:
    r"""Stream the records of Kafka topics; replayable, so exactly once up to the sink.

    ::

        lines = sources.kafka(spark, "localhost:9092", "sales")
        sales = quarantine.parse_json(lines, SALES)

    This call asks the brokers, so that a wrong address, a failed log-in or a missing
    topic is an error here. Spark would report it late or never. `start` asks the
    brokers again if the query has a checkpoint, and refuses two changes:

    - a topic was deleted and recreated while the query was stopped. Spark would
      silently skip the first records of the new topic;
    - Kafka has deleted records before the query read them. The message has their
      number.

    On Spark Connect these two checks are not possible; `start` logs a warning instead.

    Args:
        spark: the session, with Spark's Kafka connector (`get_session(…,
            connectors=["kafka"])`).
        servers: the address of one or more brokers, "localhost:9092" or
            "one:9092,two:9092".
        topics: the name of a topic, or a list of names.
        pattern: a Java regular expression, in place of `topics`. Topics whose whole
            name matches are read. A matching topic that is created later is read from
            its beginning.
        starting: where a query without a checkpoint begins: "earliest", "latest", a
            time (the first records with this timestamp or a later one; without a time
            zone, it is in UTC) or an offset for every partition, `{"sales": {0: 25, 1:
            "earliest"}}`. A query with a checkpoint resumes after its last batch.
        binary: keep `value` and `key` as bytes, for example to decode Avro.
        max_offsets_per_trigger: the most records in one batch, over all partitions;
            Spark may read a few more. Default: no limit.
        lag_group: a consumer group for this query alone, to which `run` commits the
            offsets of each batch after its commit, so that Kafka's own tools show how
            far the query is behind. The offsets are never read back: the query resumes
            from its checkpoint. If Kafka refuses them, a warning says why. A query
            without `run` commits none, and Spark Connect cannot. Default: no group.
        **options: further options of Spark's Kafka source (`failOnDataLoss=False`,
            `minPartitions=8`). Records of transactions that were not committed are left
            out; to read them, too, give `**{"kafka.isolation.level":
            "read_uncommitted"}`. Options of Kafka's own client have dots in their names
            and must be passed with two stars: `**{"kafka.security.protocol":
            "SASL_SSL", "kafka.sasl.jaas.config": …}`.

    Returns:
        A streaming DataFrame with `value` and `key` (string, or binary), `topic`
        (string), `partition` (int), `offset` (bigint), `timestamp` (timestamp: when the
        record was created or when the broker received it, depending on the topic's
        settings) and `headers` (array of struct of `key` string and `value` binary;
        null for a record without headers). `value` is null in a record that deletes a
        key.

    Raises:
        InvalidInputError: Spark has no Kafka connector, no broker answers within 10
            seconds (or the limit in `kafka.default.api.timeout.ms`), the log-in fails,
            a topic does not exist, or `starting` or an option cannot be used. The
            message is a single line.

    Examples:
        >>> kafka(None, "localhost:9092", "sales")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: sources.kafka(): spark is None; ...
    """
    check(kafka, locals())
    names = [topics] if isinstance(topics, str) else list(topics)
    if bool(names) == (pattern is not None):
        raise InvalidInputError(
            "sources.kafka() takes topics or a pattern: sources.kafka(spark, servers,"
            " 'sales') or sources.kafka(spark, servers, pattern='sales-.*')"
        )
    _refuse_sparks_names(options)
    brokers.refuse_shown("sources.kafka()", options)
    check_options(kafka, options)
    builtin.check_number("max_offsets_per_trigger", max_offsets_per_trigger)
    own_options = {
        "kafka.bootstrap.servers": servers,
        "includeHeaders": "true",
        **_starting(starting, names),
    }
    if names:
        own_options["subscribe"] = ",".join(names)
    else:
        own_options["subscribePattern"] = str(pattern)
    if max_offsets_per_trigger is not None:
        own_options["maxOffsetsPerTrigger"] = str(max_offsets_per_trigger)
    if lag_group is not None:
        own_options[brokers.GROUP] = lag_group
    all_options = _with_user_options(options, own_options)
    frame = _loaded(spark, all_options)
    _check_broker(spark, all_options, names, starting)
    value = F.col("value")
    key = F.col("key")
    if not binary:
        value = value.cast("string")
        key = key.cast("string")
    rest = ("topic", "partition", "offset", "timestamp", "headers")
    return frame.select(value.alias("value"), key.alias("key"), *rest)


def _refuse_sparks_names(options: Mapping[str, object]) -> None:
    """Refuse Spark's own names of options that are arguments of `kafka`."""
    for name in options:
        argument = _OURS.get(name.lower())
        if argument:
            raise InvalidInputError(
                f"sources.kafka(): {name} is called {argument} here; give {argument}=…"
            )


def _with_user_options(
    options: Mapping[str, object], own_options: dict[str, str]
) -> dict[str, str]:
    """Return all options of the source: the user's, and its own, which come first."""
    all_options = {"kafka.isolation.level": "read_committed"}
    for name, value in options.items():
        if name.lower() != "includeheaders":
            all_options[name] = str(value)
    return all_options | own_options


def _starting(starting: object, names: Sequence[str]) -> dict[str, str]:
    """Convert the argument `starting` to options of Spark's Kafka source.

    Raises:
        InvalidInputError: the value has another type, a time is in the future, or the
            mapping does not have exactly the topics in `names`.
    """
    if isinstance(starting, str) and starting in _WORDS:
        return {"startingOffsets": starting}
    if isinstance(starting, datetime):
        # A partition without a record of this time or later begins at its end. By
        # default Spark fails there.
        return {
            "startingTimestamp": str(int(builtin.moment(starting) * 1000)),
            "startingOffsetsByTimestampStrategy": "latest",
        }
    if isinstance(starting, Mapping) and names:
        offsets = {topic: _offsets(topic, parts) for topic, parts in starting.items()}
        if set(offsets) == set(names):
            return {"startingOffsets": json.dumps(offsets)}
        topics = ", ".join(str(topic) for topic in offsets) or "none"
        raise InvalidInputError(
            f"sources.kafka(): starting names the topics {topics}, and the source reads"
            f" {', '.join(names)}; give each of them its offsets"
        )
    fix = (
        "; give 'earliest', 'latest', a datetime, or for topics by name their offsets:"
        " {'sales': {0: 25}}"
    )
    if isinstance(starting, str):
        fix = hint(starting, _WORDS) or fix
    raise InvalidInputError(f"sources.kafka(): starting is {said(starting)}{fix}")


def _offsets(topic: str, parts: object) -> dict[str, int]:
    """Convert the offsets of one topic to Spark's form: partition as text, offset as a number.

    Spark writes "earliest" as -2 and "latest" as -1.

    Raises:
        InvalidInputError: a partition or an offset is no such number or word, or there
            are none.
    """
    if not isinstance(parts, Mapping) or not parts:
        description = said(parts) if parts != {} else "empty"
        raise InvalidInputError(
            f"sources.kafka(): starting: {topic} is {description}; give each partition an"
            " offset, such as {0: 25}"
        )
    offsets: dict[str, int] = {}
    for part, value in parts.items():
        offset: Any = value
        if isinstance(value, str):
            offset = _WORDS.get(value, value)
        are_whole = type(part) is int and type(offset) is int
        if not are_whole or part < 0 or offset < min(_WORDS.values()):
            raise InvalidInputError(
                f"sources.kafka(): starting: partition {part!r} of {topic} is"
                f" {said(value)}; give the number of a partition and an offset,"
                " 'earliest' or 'latest'"
            )
        offsets[str(part)] = offset
    return offsets


def _loaded(spark: SparkSession, options: Mapping[str, str]) -> DataFrame:
    """Return Spark's own streaming DataFrame.

    Raises:
        InvalidInputError: Spark refuses the options or has no Kafka connector; with the
            cause in one line.
    """
    try:
        frame = spark.readStream.format("kafka").options(**options).load()
        shape_of(frame)  # on Connect, only this checks the options
    except PySparkException as err:
        lines = [line.strip() for line in str(err).splitlines()]
        cause = missing_source(err) or next(line for line in lines if line)
        raise InvalidInputError(f"sources.kafka(): {cause.strip()}") from None
    return frame


def _check_broker(
    spark: SparkSession,
    options: Mapping[str, str],
    names: Sequence[str],
    starting: object,
) -> None:
    """Refuse topics, and offsets in `starting`, that the brokers do not have.

    On Spark Connect only the server reaches Kafka, so an empty read by Spark stands in
    for the questions.

    Raises:
        InvalidInputError: no broker answers, the log-in fails, a topic or an offset
            does not exist, or `lag_group` is given on Spark Connect.
    """
    if not brokers.can_ask(spark):
        if brokers.GROUP in options:
            raise InvalidInputError(
                "sources.kafka(): lag_group needs a session without Spark Connect;"
                " leave it out"
            )
        if may_ask(spark):
            brokers.try_to_read(spark, options)
        return
    with brokers.client(spark, options) as client:
        if not names:
            # Only check that Java accepts the pattern: a topic that matches may be
            # created later.
            client.matching(options["subscribePattern"])
            return
        topics = check_topics(client, options["kafka.bootstrap.servers"], names)
        if isinstance(starting, Mapping):
            _check_offsets(client, json.loads(options["startingOffsets"]), topics)


def check_topics(
    client: brokers.Client, servers: str, names: Sequence[str]
) -> dict[str, brokers.Topic]:
    """Refuse topics that do not exist in Kafka.

    Args:
        client: the open client.
        servers: the brokers' addresses, for messages.
        names: the names of the topics.

    Returns:
        The id and the partitions of each topic, by its name.

    Raises:
        InvalidInputError: a topic does not exist; the message names a similar one if
            there is one.
    """
    topics = client.topics(names)
    for name in names:
        if name not in topics:
            fix = hint(name, client.names()) or "; create it first, or correct the name"
            raise InvalidInputError(f"Kafka at {servers} has no topic {name}{fix}")
    return topics


def _check_offsets(
    client: brokers.Client,
    requested: Mapping[str, Mapping[str, int]],
    topics: Mapping[str, brokers.Topic],
) -> None:
    """Refuse offsets in `starting` that do not exist, and partitions without an offset.

    Raises:
        InvalidInputError: the partitions given are not exactly those of the topic, or
            an offset is outside the range that Kafka still has.
    """
    for name, topic in topics.items():
        numbers = sorted(int(part) for part in requested[name])
        if numbers != sorted(topic.partitions):
            raise InvalidInputError(
                f"sources.kafka(): starting has offsets for the partitions {numbers} of"
                f" {name}, which has {sorted(topic.partitions)}; give each of them one,"
                " such as 0: 'earliest'"
            )
    exact = {}
    for name, parts in requested.items():
        for part, offset in parts.items():
            if offset >= 0:  # and not "earliest" or "latest"
                exact[name, int(part)] = offset
    first = client.earliest(exact)
    last = client.latest(exact)
    for (name, number), offset in exact.items():
        begin = first[name, number]
        end = last[name, number]
        if not begin <= offset <= end:
            raise InvalidInputError(
                f"sources.kafka(): starting: partition {number} of {name} has the offsets"
                f" {begin} to {end}, and not {offset}; give one of these, 'earliest' or"
                " 'latest'"
            )
