"""Ask Kafka's brokers about topics and offsets, through the Kafka classes in Spark's JVM.

So the kit reaches Kafka with the same settings as Spark does, and needs no library of its own. `client` opens
an admin client on a classic session. On Spark Connect the JVM is out of reach (`can_ask`); there,
`try_to_read` runs a batch query that reads no records, to find out whether the topics can be read.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from sparkstream_kit import errors
from sparkstream_kit._spark.session import is_connect
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyspark.sql import SparkSession


_LIMIT = 10_000  # milliseconds to wait for a broker's answer; the default of Kafka's clients is a minute
_TIMEOUT = "default.api.timeout.ms"
_CENTURY = 100 * 365 * 86_400_000  # milliseconds


class Topic(NamedTuple):
    """A Kafka topic.

    Attributes:
        id: Kafka's id of the topic, which changes when the topic is deleted and created again.
        partitions: the numbers of its partitions, in order.
    """

    id: str
    partitions: tuple[int, ...]


def refuse_shown(caller: str, options: Mapping[str, object]) -> None:
    """Refuse a secret option that Spark would show in plans.

    Spark hides only options with a word like `password` in their name, so not a private key.

    Args:
        caller: the public function that got the options, for the message.
        options: the options of a Kafka source or sink.

    Raises:
        InvalidInputError: `kafka.ssl.keystore.key` is among the options.
    """
    for name in options:
        if name.lower() == "kafka.ssl.keystore.key":
            raise InvalidInputError(
                f"{caller}: Spark would show {name} in its plans; put the key into a file, and give "
                "kafka.ssl.keystore.location"
            )


def can_ask(spark: SparkSession) -> bool:
    """Return whether `client` can be used with a session: only a classic session has a JVM in reach."""
    return not is_connect(spark)


class Client:
    """Asks Kafka's brokers about topics, partitions and offsets; `client` creates it."""

    def __init__(self, jvm: Any, admin: Any) -> None:
        self._jvm = jvm
        self._admin = admin

    def names(self) -> list[str]:
        """Return the names of all topics that this user may see."""
        return sorted(self._admin.listTopics().names().get())

    def matching(self, pattern: str) -> list[str]:
        """Return the names of the topics that match a Java regular expression, as `subscribePattern` does."""
        expression = self._jvm.java.util.regex.Pattern.compile(pattern)
        return [name for name in self.names() if expression.matcher(name).matches()]

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Return the topics with these names; a topic that does not exist is left out."""
        found = {}
        for name, answer in dict(self._admin.describeTopics([*names]).topicNameValues()).items():
            try:
                said = answer.get()
                numbers = sorted(part.partition() for part in said.partitions())
                found[name] = Topic(said.topicId().toString(), tuple(numbers))
            except Py4JJavaError as err:
                if not innermost_cause(err).startswith("UnknownTopicOrPartitionException"):
                    raise
        return found

    def offsets(self, of: Iterable[tuple[str, int]], *, earliest: bool) -> dict[tuple[str, int], int]:
        """Return an offset of each partition.

        Args:
            of: topic and number of each partition.
            earliest: return the offset of the first record that Kafka still has, instead of the offset that
                the next record will get.
        """
        specs = self._jvm.org.apache.kafka.clients.admin.OffsetSpec
        spec = specs.earliest() if earliest else specs.latest()
        parts = {each: self._jvm.org.apache.kafka.common.TopicPartition(*each) for each in of}
        answer = self._admin.listOffsets(dict.fromkeys(parts.values(), spec))
        return {each: int(answer.partitionResult(part).get().offset()) for each, part in parts.items()}


@contextmanager
def client(spark: SparkSession, options: Mapping[str, str]) -> Iterator[Client]:
    """Open a Kafka admin client with the options of a source, for the length of a `with` block.

    Args:
        spark: a session for which `can_ask` is true.
        options: the options of the source. Those that begin with `kafka.` configure the client;
            `kafka.default.api.timeout.ms` sets how long to wait for an answer (10,000 by default).

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or an option is invalid. The message is one
            line without the secrets among the options.
    """
    jvm: Any = spark._jvm
    given = {name[6:]: str(value) for name, value in options.items() if name.lower().startswith("kafka.")}
    limit = str(_limit(options))
    settings = given | {_TIMEOUT: limit, "request.timeout.ms": limit}
    try:
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
        try:
            yield Client(jvm, admin)
        finally:
            admin.close(jvm.java.time.Duration.ZERO)
    except (Py4JJavaError, PySparkException) as err:
        # `from None` drops the stack trace: Java's message in it may show a secret setting.
        raise InvalidInputError(_refusal(options, innermost_cause(err))) from None


def try_to_read(spark: SparkSession, options: Mapping[str, str]) -> None:
    """Check that the topics of a source can be read, by a batch query that reads no records.

    Args:
        spark: a session on Spark Connect, where `client` cannot be used.
        options: the options of the source.

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or a topic does not exist.
    """
    limit = str(_limit(options))
    own = {
        # Start at a time in the far future: no record is that new, so the batch is empty.
        "startingTimestamp": str(int(time.time() * 1000) + _CENTURY),
        "startingOffsetsByTimestampStrategy": "latest",
        f"kafka.{_TIMEOUT}": limit,
        "kafka.request.timeout.ms": limit,
        "fetchOffset.numRetries": "1",
    }
    given = {name: value for name, value in options.items() if re.match(r"(?i)kafka\.|subscribe", name)}
    try:
        spark.read.format("kafka").options(**given | own).load().isEmpty()
    except PySparkException as err:
        cause = innermost_cause(err)
        found = re.search(r"(?:[\w.]+\.)?(\w+(?:Exception|Error): .*)", cause.partition("JVM stacktrace")[0])
        raise InvalidInputError(_refusal(options, found[1] if found else cause)) from None


def _refusal(options: Mapping[str, str], cause: str) -> str:
    """Return one line on why Kafka did not answer, with a fix if one is known.

    Args:
        options: the options of the source.
        cause: the error of Kafka's client.
    """
    servers = options["kafka.bootstrap.servers"]
    limit = _limit(options) / 1000
    if "UnknownTopicOrPartition" in cause:
        topic = options.get("subscribe")
        return f"Kafka at {servers} has no topic {topic}; create it first, or correct the name"
    if "TimeoutException" in cause:
        return (
            f"no Kafka broker at {servers} has answered within {limit:g} s; start it, correct servers, or "
            "give the protocol that it speaks, such as **{'kafka.security.protocol': 'SASL_SSL'}"
        )
    if "No resolvable bootstrap urls" in cause:
        return f"Kafka: {errors.unknown_host(servers)}"
    if "CertPathBuilderException" in cause:
        return (
            f"Kafka at {servers} has a certificate that is not trusted here; give the file of it, or of its "
            "authority: **{'kafka.ssl.truststore.type': 'PEM', 'kafka.ssl.truststore.location': …}"
        )
    if re.search("JAAS|LoginModule", cause):  # do not repeat Kafka's message: it may contain the password
        return (
            f"Kafka at {servers}: kafka.sasl.jaas.config cannot be read; write it as "
            '…LoginModule required username="…" password="…";'
        )
    return f"Kafka at {servers}: {cause}"


def _limit(options: Mapping[str, str]) -> int:
    """Return how many milliseconds to wait for a broker's answer.

    Raises:
        InvalidInputError: `kafka.default.api.timeout.ms` is not a number.
    """
    given = options.get(f"kafka.{_TIMEOUT}", str(_LIMIT))
    if not given.isdecimal():
        raise InvalidInputError(f"kafka.{_TIMEOUT} is {given!r}; give a number of milliseconds")
    return int(given)
