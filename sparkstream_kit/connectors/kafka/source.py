"""Topics of Kafka as a source: Spark's own reader, with what it says too late said before the query runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from sparkstream_kit._arguments import check, said
from sparkstream_kit._packages import missing_source
from sparkstream_kit._spark import plan as asking
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SERVER = re.compile(r"(?:\w+://)?(\[[^\]]+\]|[^\s:/,\[\]]+):(\d{1,5})")
_WORDS = {"earliest": -2, "latest": -1}
# By Spark's word for it, what this function calls so.
_OURS = {
    "kafka.bootstrap.servers": "servers",
    "subscribe": "topics",
    "subscribepattern": "pattern",
    "assign": "topics",
    "startingoffsets": "starting",
    "startingtimestamp": "starting",
    "startingoffsetsbytimestamp": "starting",
    "maxoffsetspertrigger": "max_offsets_per_trigger",
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
    **options: Any,
) -> DataFrame:
    r"""Stream the records of Kafka topics; replayable, so exactly once up to the sink.

    ::

        lines = sources.kafka(spark, "localhost:9092", "sales")
        sales = quarantine.parse_json(lines, SALES)

    The brokers are asked before a query runs: that none answers, that a log-in fails, or that a topic is not
    there, Spark would say late or never. `start` with a checkpoint asks once more. It refuses a topic that
    was deleted and made again while the query was stopped, of which Spark would skip the first records in
    silence, and records that Kafka has deleted before the query read them, with their number. On Spark
    Connect Kafka cannot be asked for these two, and a warning says so.

    Args:
        spark: the session, with Spark's Kafka connector (`get_session(…, connectors=["kafka"])`).
        servers: one or more of the brokers, "localhost:9092" or "one:9092,two:9092".
        topics: the name of a topic, or a list of names.
        pattern: in place of `topics`: a regular expression of Java's that the whole name of a topic matches.
            Topics that are made later are read, too, from their beginning.
        starting: where a new query begins: "earliest", "latest", a time (in UTC, if it has no time zone: the
            first records with this timestamp or a later one) or an offset for every partition,
            `{"sales": {0: 25, 1: "earliest"}}`. A query with a checkpoint goes on after its
            last batch.
        binary: leave `value` and `key` as bytes, as for Avro.
        max_offsets_per_trigger: the most records in one batch, over all partitions; Spark may take a few
            more.
        **options: further options of Spark's Kafka source (`failOnDataLoss=False`, `minPartitions=8`). Those
            of Kafka's own client have dots in their names, and take two stars:
            `**{"kafka.security.protocol": "SASL_SSL", "kafka.sasl.jaas.config": …}`.

    Returns:
        A streaming DataFrame with `value` and `key` (string, or binary), `topic` (string), `partition` (int),
        `offset` (bigint), `timestamp` (timestamp: when the record was made, or when the broker got it, as the
        topic is set up) and `headers` (array of struct of `key` string and `value` binary; null without any).
        A value is null in a record that deletes a key.

    Raises:
        InvalidInputError: in one line: Spark has no Kafka connector, no broker answers within 10 seconds
            (`kafka.default.api.timeout.ms` is another limit), the log-in fails, a topic is not there, or
            `starting` or an option cannot be used.

    Examples:
        >>> kafka(None, "localhost:9092", "sales")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: sources.kafka(): spark is None; give a session, such as ...
    """
    check(kafka, locals())
    names = [topics] if isinstance(topics, str) else list(topics)
    _check_names(names, pattern)
    _check_servers(servers)
    for name in options:
        if ours := _OURS.get(name.lower()):
            raise InvalidInputError(f"sources.kafka(): {name} is called {ours} here; give {ours}=…")
    asking.refuse_shown("sources.kafka()", options)
    builtin.check_options("kafka", options, [*(kafka.__kwdefaults__ or ()), "servers", "topics"])
    builtin.check_number("max_offsets_per_trigger", max_offsets_per_trigger)
    first = _starting(starting, names)
    given = {name: str(value) for name, value in options.items()}
    given |= {"kafka.bootstrap.servers": servers, "includeHeaders": "true", **first}
    given |= {"subscribe": ",".join(names)} if names else {"subscribePattern": str(pattern)}
    if max_offsets_per_trigger is not None:
        given["maxOffsetsPerTrigger"] = str(max_offsets_per_trigger)
    frame = _loaded(spark, given)
    _check_broker(spark, given, names, starting)
    value, key = F.col("value"), F.col("key")
    if not binary:
        value, key = value.cast("string"), key.cast("string")
    rest = ("topic", "partition", "offset", "timestamp", "headers")
    return frame.select(value.alias("value"), key.alias("key"), *rest)


kafka.__module__ = "sparkstream_kit.sources"  # where users find it: messages name it so


def _check_names(names: Sequence[str], pattern: str | None) -> None:
    if bool(names) == (pattern is not None):
        raise InvalidInputError(
            "sources.kafka() takes topics or a pattern: sources.kafka(spark, servers, 'sales') or "
            "sources.kafka(spark, servers, pattern='sales-.*')"
        )
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                f"topic {name!r} is no name of a topic, which has letters, digits, dots, underscores and "
                f"dashes; give several topics as a list, and a pattern so: pattern={name!r}"
            )


def _check_servers(servers: str) -> None:
    for server in servers.split(","):
        if not _SERVER.fullmatch(server.strip()):
            raise InvalidInputError(
                f"servers {servers!r}: {server.strip()!r} is not host:port; give servers such as "
                "'localhost:9092' or 'one:9092,two:9092'"
            )


def _starting(starting: object, names: Sequence[str]) -> dict[str, str]:
    """Return where to begin in Spark's options."""
    if isinstance(starting, str) and starting in _WORDS:
        return {"startingOffsets": starting}
    if isinstance(starting, datetime):
        # A partition without such a record begins at its end; Spark would fail for it.
        return {
            "startingTimestamp": str(int(builtin.moment(starting) * 1000)),
            "startingOffsetsByTimestampStrategy": "latest",
        }
    if isinstance(starting, Mapping) and names:
        found = {topic: _offsets(topic, parts) for topic, parts in starting.items()}
        if set(found) == set(names):
            return {"startingOffsets": json.dumps(found)}
        raise InvalidInputError(
            f"starting names the topics {', '.join(map(str, found)) or 'none'}, and the source reads "
            f"{', '.join(names)}; give each of them its offsets"
        )
    fix = "; give 'earliest', 'latest', a datetime, or for topics by name their offsets: {'sales': {0: 25}}"
    if isinstance(starting, str):
        fix = hint(starting, _WORDS) or fix
    raise InvalidInputError(f"sources.kafka(): starting is {said(starting)}{fix}")


def _offsets(topic: str, parts: object) -> dict[str, int]:
    """Return the offsets of a topic's partitions, by numbers alone."""
    if not isinstance(parts, Mapping) or not parts:
        raise InvalidInputError(f"starting: {topic} is {said(parts)}; give its offsets, such as {{0: 25}}")
    found = {}
    for part, offset in parts.items():
        number = _WORDS.get(offset, offset) if isinstance(offset, str) else offset
        whole = [each for each in (part, number) if isinstance(each, int) and not isinstance(each, bool)]
        if whole != [part, number] or whole[0] < 0 or whole[1] < min(_WORDS.values()):
            raise InvalidInputError(
                f"starting: partition {part} of {topic} is {said(offset)}; give the number of a partition "
                "and an offset, 'earliest' or 'latest'"
            )
        found[str(part)] = whole[1]
    return found


def _loaded(spark: SparkSession, options: Mapping[str, str]) -> DataFrame:
    """Return Spark's own frame; what it refuses, in one line."""
    try:
        frame = spark.readStream.format("kafka").options(**options).load()
        frame.schema  # noqa: B018 - Connect looks at the options only now
    except PySparkException as err:
        cause = missing_source(err) or next(line for line in str(err).splitlines() if line.strip())
        raise InvalidInputError(f"sources.kafka(): {cause.strip()}") from None
    return frame


def _check_broker(
    spark: SparkSession, options: Mapping[str, str], names: Sequence[str], starting: object
) -> None:
    """Refuse what the brokers do not have."""
    if not asking.can_ask(spark):
        asking.try_to_read(spark, options)
        return
    with asking.client(spark, options) as client:
        if not names:
            client.matching(options["subscribePattern"])  # it can be read; that none matches may change
            return
        there = topics_there(client, options["kafka.bootstrap.servers"], names)
        if isinstance(starting, Mapping):
            _check_offsets(client, json.loads(options["startingOffsets"]), there)


def topics_there(client: asking.Client, servers: str, names: Sequence[str]) -> dict[str, asking.Topic]:
    """Return what Kafka says of topics.

    Raises:
        InvalidInputError: one of them is not there.
    """
    there = client.topics(names)
    for name in names:
        if name not in there:
            near = hint(name, client.names()) or "; create it first, or correct the name"
            raise InvalidInputError(f"Kafka at {servers} has no topic {name}{near}")
    return there


def _check_offsets(
    client: asking.Client, wanted: Mapping[str, Mapping[str, int]], there: Mapping[str, asking.Topic]
) -> None:
    """Refuse offsets that no partition has, and a partition that has none."""
    for name, topic in there.items():
        given = sorted(int(part) for part in wanted[name])
        if given != sorted(topic.partitions):
            raise InvalidInputError(
                f"starting has offsets for the partitions {given} of {name}, which has "
                f"{sorted(topic.partitions)}; give each of them one, such as 0: 'earliest'"
            )
    exact = {(name, int(part)): offset for name in wanted for part, offset in wanted[name].items()}
    exact = {part: offset for part, offset in exact.items() if offset >= 0}
    first, last = (client.offsets(exact, earliest=earliest) for earliest in (True, False))
    for (name, part), offset in exact.items():
        if not first[name, part] <= offset <= last[name, part]:
            raise InvalidInputError(
                f"starting: partition {part} of {name} has the offsets {first[name, part]} to "
                f"{last[name, part]}, and not {offset}; give one of these, 'earliest' or 'latest'"
            )
