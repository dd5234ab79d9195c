"""Ask Kafka's brokers about topics and offsets, with the classes in Spark's JVM.

The answers guard a start.

So the kit reaches Kafka with the same settings as Spark does, and needs no library of
its own. `client` opens an admin client on a classic session. On Spark Connect the JVM
is out of reach (`can_ask`); there, `try_to_read` runs a batch query that reads no
records, to find out whether the topics can be read.

For a topic Spark stores only the offset up to which it has read each partition. If the
topic was deleted and made again while the query was stopped, Spark silently skips as
many records of the new topic as it had read of the old one, even with `failOnDataLoss`.
So `question` notes the id that Kafka gives each topic, and compares it at the next
start.

Spark commits no offsets to Kafka, where its tools look for the lag of a reader.
`progress_listener` commits them after each batch, for a source that names a consumer group.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from sparkstream_kit._internal.spark.logical_plan import unknown_host
from sparkstream_kit._internal.spark.session import java
from sparkstream_kit.checkpoints.guard import NoteEntry, Remark
from sparkstream_kit.errors import InvalidInputError, TransientError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress

    from sparkstream_kit._internal.spark.logical_plan import Input
    from sparkstream_kit.checkpoints.guard import Answer, StartingQuery
    from sparkstream_kit.checkpoints.logs import Logs


_log = logging.getLogger(__name__)

# Milliseconds to wait for a broker's answer; the default of Kafka's clients is a minute
_LIMIT = "10000"
_TIMEOUT = "default.api.timeout.ms"
# The option of a source that names its consumer group; Spark ignores it
GROUP = "sparkstream.lagGroup"
_AGAIN = 60  # seconds until offsets are committed again after that has failed
_CENTURY = 100 * 365 * 86_400_000  # milliseconds


class Topic(NamedTuple):
    """A Kafka topic.

    Attributes:
        id: Kafka's id of the topic, which changes when the topic is deleted and created
            again.
        partitions: the numbers of its partitions, in order.
    """

    id: str
    partitions: tuple[int, ...]


def refuse_shown(caller: str, options: Mapping[str, object]) -> None:
    """Refuse a secret option that Spark would show in plans.

    Spark hides only options with a word like `password` in their name, so not a private
    key.

    Args:
        caller: the public function that got the options, for the message.
        options: the options of a Kafka source or sink.

    Raises:
        InvalidInputError: `kafka.ssl.keystore.key` is among the options.
    """
    for name in options:
        if name.lower() == "kafka.ssl.keystore.key":
            fix = "put the key into a file, and give kafka.ssl.keystore.location"
            raise InvalidInputError(
                f"{caller}: Spark would show {name} in its plans; {fix}"
            )


def can_ask(spark: SparkSession) -> bool:
    """Return whether `client` works with a session: only a classic one reaches a JVM."""
    return java(spark) is not None


class Client:
    """Asks Kafka's brokers about topics, partitions and offsets; `client` creates it."""

    def __init__(self, jvm: Any, admin: Any) -> None:
        self._java = jvm
        self._admin = admin

    def names(self) -> list[str]:
        """Return the names of all topics that this user may see."""
        return sorted(self._admin.listTopics().names().get())

    def matching(self, pattern: str) -> list[str]:
        """Return the topics whose names match a Java regular expression.

        Spark's `subscribePattern` selects topics in the same way.
        """
        expression = self._java.java.util.regex.Pattern.compile(pattern)
        return [name for name in self.names() if expression.matcher(name).matches()]

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Return the topics with these names; a topic that does not exist is left out."""
        answers = self._admin.describeTopics([*names]).topicNameValues()
        topics = {}
        for name, answer in dict(answers).items():
            try:
                description = answer.get()
            except Py4JJavaError as err:
                cause = innermost_cause(err)
                if not cause.startswith("UnknownTopicOrPartitionException"):
                    raise
            else:
                numbers = sorted(part.partition() for part in description.partitions())
                topics[name] = Topic(description.topicId().toString(), tuple(numbers))
        return topics

    def earliest(
        self, topic_partitions: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        """Return the offset of the first record still there, by topic and partition."""
        specs = self._java.org.apache.kafka.clients.admin.OffsetSpec
        return self._offsets(topic_partitions, specs.earliest())

    def latest(
        self, topic_partitions: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        """Return the offset that the next record will get, by topic and number of a partition."""
        specs = self._java.org.apache.kafka.clients.admin.OffsetSpec
        return self._offsets(topic_partitions, specs.latest())

    def _offsets(
        self, topic_partitions: Iterable[tuple[str, int]], spec: Any
    ) -> dict[tuple[str, int], int]:
        new_partition = self._java.org.apache.kafka.common.TopicPartition
        partitions = {
            (name, number): new_partition(name, number)
            for name, number in topic_partitions
        }
        answer = self._admin.listOffsets(dict.fromkeys(partitions.values(), spec))
        offsets = {}
        for place, partition in partitions.items():
            offsets[place] = int(answer.partitionResult(partition).get().offset())
        return offsets

    def commit(self, group: str, offsets: Mapping[str, Mapping[str, int]]) -> None:
        """Commit next offsets, by topic and partition, to a group without members."""
        kafka = self._java.org.apache.kafka
        committed = {}
        for name, parts in offsets.items():
            for number, offset in parts.items():
                partition = kafka.common.TopicPartition(name, int(number))
                position = kafka.clients.consumer.OffsetAndMetadata(offset)
                committed[partition] = position
        self._admin.alterConsumerGroupOffsets(group, committed).all().get()


@contextmanager
def client(spark: SparkSession, options: Mapping[str, str]) -> Iterator[Client]:
    """Open a Kafka admin client with the options of a source, for the length of a `with` block.

    Args:
        spark: a session for which `can_ask` is true.
        options: the options of the source. Those that begin with `kafka.` configure the
            client; `kafka.default.api.timeout.ms` sets how long to wait for an answer
            (10,000 by default).

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or an option is invalid.
            The message is one line without the secrets among the options.
    """
    jvm = java(spark)
    settings = {
        name[len("kafka.") :]: str(value)
        for name, value in options.items()
        if name.lower().startswith("kafka.")
    }
    limit = _limit(options)
    settings[_TIMEOUT] = limit
    settings["request.timeout.ms"] = limit
    try:
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
        try:
            yield Client(jvm, admin)
        finally:
            admin.close(jvm.java.time.Duration.ZERO)
    except (Py4JJavaError, PySparkException) as err:
        # `from None` drops the stack trace: Java's message in it may show a secret
        # setting.
        raise _refusal(options, innermost_cause(err)) from None


def try_to_read(spark: SparkSession, options: Mapping[str, str]) -> None:
    """Check that the topics of a source can be read, by a batch query that reads no records.

    Args:
        spark: a session on Spark Connect, where `client` cannot be used.
        options: the options of the source.

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or a topic does not
            exist.
    """
    limit = _limit(options)
    probe_options = {
        # Start at a time in the far future: no record is that new, so the batch is
        # empty.
        "startingTimestamp": str(int(time.time() * 1000) + _CENTURY),
        "startingOffsetsByTimestampStrategy": "latest",
        f"kafka.{_TIMEOUT}": limit,
        "kafka.request.timeout.ms": limit,
        "fetchOffset.numRetries": "1",
    }
    user_options = {
        name: value
        for name, value in options.items()
        if re.match(r"(?i)kafka\.|subscribe", name)
    }
    try:
        spark.read.format("kafka").options(
            **user_options | probe_options
        ).load().isEmpty()
    except PySparkException as err:
        raise _refusal(options, _javas_cause(innermost_cause(err))) from None


def _javas_cause(error: str) -> str:
    """Return the error of Java in an error of Spark Connect, without its package.

    Examples:
        >>> _javas_cause("(org.apache.kafka.TimeoutException) a.b.TimeoutException: late")
        'TimeoutException: late'
    """
    text = error.partition("JVM stacktrace")[0]
    cause = re.search(r"(?:[\w.]+\.)?(\w+(?:Exception|Error): .*)", text)
    return cause[1] if cause else error


def _refusal(options: Mapping[str, str], cause: str) -> InvalidInputError:
    """Return the error for a Kafka that did not answer, with a fix if one is known.

    Args:
        options: the options of the source.
        cause: the error of Kafka's client.
    """
    servers = options["kafka.bootstrap.servers"]
    if "UnknownTopicOrPartition" in cause:
        fix = "create it first, or correct the name"
        return InvalidInputError(
            f"Kafka at {servers} has no topic {options.get('subscribe')}; {fix}"
        )
    if "TimeoutException" in cause:
        return TransientError(
            f"no Kafka broker at {servers} has answered within"
            f" {int(_limit(options)) / 1000:g} s; start it, correct its address (of a"
            " job: --kafka), or give sources.kafka the protocol that it speaks, such as"
            " **{'kafka.security.protocol': 'SASL_SSL'}"
        )
    if "No resolvable bootstrap urls" in cause:
        return TransientError(f"Kafka: {unknown_host(servers)}")
    if "CertPathBuilderException" in cause:
        return InvalidInputError(
            f"Kafka at {servers} has a certificate that is not trusted here; give the"
            " file of it, or of its authority: **{'kafka.ssl.truststore.type': 'PEM',"
            " 'kafka.ssl.truststore.location': …}"
        )
    # Do not repeat Kafka's message: it may contain the password
    if re.search("JAAS|LoginModule", cause):
        return InvalidInputError(
            f"Kafka at {servers}: kafka.sasl.jaas.config cannot be read; write it as "
            '…LoginModule required username="…" password="…";'
        )
    return InvalidInputError(f"Kafka at {servers}: {cause}")


def _limit(options: Mapping[str, str]) -> str:
    """Return how many milliseconds to wait for a broker's answer.

    Raises:
        InvalidInputError: `kafka.default.api.timeout.ms` is not a number.
    """
    limit = options.get(f"kafka.{_TIMEOUT}", _LIMIT)
    if not limit.isdecimal():
        raise InvalidInputError(
            f"kafka.{_TIMEOUT} is {limit!r}; give a number of milliseconds"
        )
    return limit


GO_ON = "to go on without: sources.kafka(…, failOnDataLoss=False)"


def question(query: StartingQuery, logs: Logs) -> Iterator[Answer]:
    """Refuse Kafka topics that were made again, or have lost records still to be read.

    Lost records are only remarked if the source has `failOnDataLoss=False`. The ids of
    the topics are noted; on Spark Connect, where Kafka cannot be asked, the ids of the
    last note are kept.
    """
    spark = query.spark
    noted_ids = logs.noted.get("topics", {})
    inputs = [source for source in query.inputs if source.kind == "kafka"]
    if not can_ask(spark):
        if inputs:
            yield Remark(
                f"query {query.name}: on Spark Connect Kafka cannot be asked whether a"
                " topic was deleted and made again while the query was stopped; Spark"
                " would skip its first records"
            )
        yield NoteEntry("topics", dict(noted_ids))
        return
    # The id of each topic, by the log of its source
    ids: dict[str, dict[str, str]] = {}
    for source in inputs:
        with client(spark, source.options) as admin:
            topics = Topics(admin, source, *_read_until(logs, source))
            former = dict(noted_ids.get(source.log, {}))
            recreated = topics.recreated(former)
            if recreated:
                raise InvalidInputError(
                    f"checkpoint {logs.place}: topic {recreated[0]} at {topics.servers} was"
                    " deleted and made again after the query had read it, and Spark"
                    " would skip its first records; start the query on a new"
                    " checkpoint"
                )
            for loss in topics.losses():
                if topics.fails_on_loss:
                    raise InvalidInputError(f"checkpoint {logs.place}: {loss}; {GO_ON}")
                yield Remark(f"query {query.name}: {loss}; continuing without them")
            now = {name: topic.id for name, topic in topics.topics.items()}
            ids[source.log] = former | now
    yield NoteEntry("topics", ids)


def progress_listener(query: StartingQuery) -> Callable[[StreamingQueryProgress], None]:
    """Return a function that commits a batch's offsets to the sources' consumer groups.

    The offsets are never read back. If Kafka refuses them, a warning says why, and the
    query goes on.
    """
    inputs = query.inputs
    until = 0.0

    def commit_offsets(progress: StreamingQueryProgress) -> None:
        nonlocal until
        for source, report in zip(inputs, progress.sources, strict=False):
            group = source.options.get(GROUP.lower())
            if group is None or not report.endOffset or time.monotonic() < until:
                continue
            try:
                with client(query.spark, source.options) as admin:
                    # Before Spark 4.2 it is no JSON
                    admin.commit(group, ast.literal_eval(report.endOffset))
            except InvalidInputError as err:
                until = time.monotonic() + _AGAIN
                _log.warning(
                    "query %s: lag_group %s shows no lag: %s", query.name, group, err
                )

    return commit_offsets


class Topics:
    """A Kafka source of a query: its topics now, and the offsets where it continues.

    Args:
        client: the client of the source's brokers.
        read: the source.
        batch: the last committed batch; None before the first.
        offsets: the next offset of each partition, by topic; only of topics that the
            query has read.

    Attributes:
        servers: the addresses of the brokers, for messages.
        fails_on_loss: whether lost records are an error (`failOnDataLoss`).
        topics: the topics that the source reads now, by name.
    """

    def __init__(
        self,
        client: Client,
        source: Input,
        batch: int | None,
        offsets: Mapping[str, Mapping[int, int]],
    ) -> None:
        options = source.options
        self.servers = options["kafka.bootstrap.servers"]
        self.fails_on_loss = options.get("failondataloss", "true").lower() != "false"
        self._client = client
        self._batch = batch
        self._offsets = offsets
        names = [name.strip() for name in options.get("subscribe", "").split(",")]
        names = [name for name in names if name]
        names += json.loads(options.get("assign", "{}"))
        if "subscribepattern" in options:
            names = client.matching(options["subscribepattern"])
        self.topics = client.topics(names)

    def recreated(self, noted_ids: Mapping[str, str]) -> list[str]:
        """Return the topics that were deleted and made again after the query had read them.

        Their ids differ from the noted ones. Before the first commit every such topic
        counts, as a planned batch may have read it.

        Args:
            noted_ids: the id of each topic at the last start.
        """
        recreated = []
        for name, topic in self.topics.items():
            was_read = name in self._offsets or self._batch is None
            if was_read and noted_ids.get(name, topic.id) != topic.id:
                recreated.append(name)
        return recreated

    def losses(self) -> Iterator[str]:
        """Yield sentences on topics and records that the query can no longer read."""
        unread = sorted(set(self._offsets) - set(self.topics))
        existing = sorted(self._client.topics(unread)) if unread else []
        deleted = [name for name in unread if name not in existing]
        if existing:
            yield (
                f"the query no longer reads topic {', '.join(existing)}, of which it"
                " may not have read all"
            )
        if deleted:
            yield f"Kafka at {self.servers} no longer has topic {', '.join(deleted)}"
        for topic, parts in self._lost_records().items():
            numbers = [f"partition {part}: {count:,}" for part, count in parts.items()]
            yield (
                f"Kafka at {self.servers} has deleted {sum(parts.values()):,} records"
                f" of topic {topic} that were still to be read ({', '.join(numbers)})"
            )

    def _lost_records(self) -> dict[str, dict[int, int]]:
        """Return how many records were deleted before they were read, by topic and partition."""
        positions = {}
        for name, parts in self._offsets.items():
            for part, offset in parts.items():
                if name in self.topics and part in self.topics[name].partitions:
                    positions[name, part] = offset
        first = self._client.earliest(positions)
        lost: dict[str, dict[int, int]] = {}
        for name, part in sorted(positions):
            count = first[name, part] - positions[name, part]
            if count > 0:
                lost.setdefault(name, {})[part] = count
        return lost


def _read_until(
    logs: Logs, source: Input
) -> tuple[int | None, dict[str, dict[int, int]]]:
    """Return the last committed batch, and the offsets up to which it read a Kafka source.

    A batch that is planned and not committed begins at the same offsets.

    Returns:
        The number of the batch, or None before the first; and the offset of each
        partition, by topic.
    """
    if logs.done < 0:
        return None, {}
    plan = logs.plan(logs.done)
    for place in source.places:
        if str(place) in plan.names:
            number = plan.names.index(str(place))
            return logs.done, offsets_in(plan.offsets[number] or "{}")
    return logs.done, {}


def offsets_in(text: str) -> dict[str, dict[int, int]]:
    """Return the offset of each partition of a Kafka source, by topic, from Spark's JSON.

    Examples:
        >>> offsets_in('{"sales":{"0":25,"1":7}}')
        {'sales': {0: 25, 1: 7}}
    """
    offsets = {}
    for name, parts in json.loads(text).items():
        offsets[name] = {int(part): offset for part, offset in parts.items()}
    return offsets
