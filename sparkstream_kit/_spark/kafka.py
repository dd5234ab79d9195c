"""What Kafka says of its topics, asked through the client that Spark's connector brings into the JVM.

So the kit reaches Kafka as Spark does, with the same settings, and needs no library of its own. On Spark
Connect there is no JVM in reach: a batch that reads nothing tells there whether the topics can be read.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from sparkstream_kit._spark.session import is_connect
from sparkstream_kit.errors import InvalidInputError, innermost_cause, unknown_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyspark.sql import SparkSession

_LIMIT = 10_000  # milliseconds that the brokers have for an answer; Kafka's own clients wait for a minute
_TIMEOUT = "default.api.timeout.ms"
_CENTURY = 100 * 365 * 86_400_000


class Topic(NamedTuple):
    """A topic: its id, which another topic of the same name does not have, and its partitions."""

    id: str
    partitions: tuple[int, ...]


def refuse_shown(caller: str, options: Mapping[str, object]) -> None:
    """Refuse a secret that Spark would show, as it hides only what has a word like `password` in its name.

    Raises:
        InvalidInputError: a private key among the options.
    """
    for name in options:
        if name.lower() == "kafka.ssl.keystore.key":
            raise InvalidInputError(
                f"{caller}: Spark would show {name} in its plans; put the key into a file, and give "
                "kafka.ssl.keystore.location"
            )


def can_ask(spark: SparkSession) -> bool:
    """Say whether `client` can be used in a session."""
    return not is_connect(spark)


class Client:
    """Asks Kafka's brokers; made by `client`."""

    def __init__(self, jvm: Any, admin: Any) -> None:
        self._jvm = jvm
        self._admin = admin

    def names(self) -> list[str]:
        """Return the names of all topics that this user may see."""
        return sorted(self._admin.listTopics().names().get())

    def matching(self, pattern: str) -> list[str]:
        """Return the names of the topics that a regular expression of Java's matches."""
        expression = self._jvm.java.util.regex.Pattern.compile(pattern)
        return [name for name in self.names() if expression.matcher(name).matches()]

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Return those of the named topics that are there."""
        wanted = self._jvm.java.util.ArrayList()
        for name in names:
            wanted.add(name)
        found = {}
        for name, answer in dict(self._admin.describeTopics(wanted).topicNameValues()).items():
            try:
                said = answer.get()
            except Py4JJavaError as err:
                if innermost_cause(err).startswith("UnknownTopicOrPartitionException"):
                    continue
                raise
            numbers = sorted(part.partition() for part in said.partitions())
            found[name] = Topic(said.topicId().toString(), tuple(numbers))
        return found

    def offsets(self, of: Iterable[tuple[str, int]], *, earliest: bool) -> dict[tuple[str, int], int]:
        """Return the first offset that each partition has, or the one that its next record will have."""
        spec = self._jvm.org.apache.kafka.clients.admin.OffsetSpec
        asked = self._jvm.java.util.HashMap()
        parts = {each: self._jvm.org.apache.kafka.common.TopicPartition(*each) for each in of}
        for part in parts.values():
            asked.put(part, spec.earliest() if earliest else spec.latest())
        answer = self._admin.listOffsets(asked)
        return {each: int(answer.partitionResult(part).get().offset()) for each, part in parts.items()}


@contextmanager
def client(spark: SparkSession, options: Mapping[str, str]) -> Iterator[Client]:
    """Ask Kafka with the options of a source, in a `with` block.

    Args:
        spark: a session for which `can_ask` holds.
        options: those of the source; the ones of Kafka's clients begin with `kafka.`.

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or an option cannot be used; in one line
            without what is secret in the options.
    """
    jvm: Any = spark._jvm
    given = {name[6:]: value for name, value in options.items() if name.lower().startswith("kafka.")}
    limit = _limit(options)
    settings = jvm.java.util.Properties()
    for name, value in (given | {_TIMEOUT: limit, "request.timeout.ms": limit}).items():
        settings.put(name, str(value))
    admin = None
    try:
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
        yield Client(jvm, admin)
    except (Py4JJavaError, PySparkException) as err:
        # The stack trace is left out: Java's words may show a setting.
        raise InvalidInputError(_refusal(options, innermost_cause(err))) from None
    finally:
        if admin is not None:
            admin.close(jvm.java.time.Duration.ZERO)


def try_to_read(spark: SparkSession, options: Mapping[str, str]) -> None:
    """See that the topics of a source can be read, by a batch of Spark's from which no record comes.

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or a topic is not there.
    """
    limit = str(_limit(options))
    own = {
        # From a time at which no record is yet up to the end.
        "startingTimestamp": str(int(time.time() * 1000) + _CENTURY),
        "startingOffsetsByTimestampStrategy": "latest",
        f"kafka.{_TIMEOUT}": limit,
        "kafka.request.timeout.ms": limit,
        "fetchOffset.numRetries": "1",
    }
    kept = ("kafka.", "subscribe")
    given = {name: value for name, value in options.items() if name.lower().startswith(kept)}
    try:
        spark.read.format("kafka").options(**{**given, **own}).load().isEmpty()
    except PySparkException as err:
        cause = innermost_cause(err)
        found = re.search(r"(?:[\w.]+\.)?(\w+(?:Exception|Error): .*)", cause.partition("JVM stacktrace")[0])
        raise InvalidInputError(_refusal(options, found[1] if found else cause)) from None


def _refusal(options: Mapping[str, str], cause: str) -> str:
    """Say in one line why Kafka cannot be asked."""
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
        return f"Kafka: {unknown_host(servers)}"
    if "CertPathBuilderException" in cause:
        return (
            f"Kafka at {servers} has a certificate that is not trusted here; give the file of it, or of its "
            "authority: **{'kafka.ssl.truststore.type': 'PEM', 'kafka.ssl.truststore.location': …}"
        )
    if re.search("JAAS|LoginModule", cause):  # Kafka's words may hold a part of the password
        return (
            f"Kafka at {servers}: kafka.sasl.jaas.config cannot be read; write it as "
            '…LoginModule required username="…" password="…";'
        )
    return f"Kafka at {servers}: {cause}"


def _limit(options: Mapping[str, str]) -> int:
    """Return how many milliseconds the brokers have for an answer."""
    given = options.get(f"kafka.{_TIMEOUT}", str(_LIMIT))
    if not given.isdecimal():
        raise InvalidInputError(f"kafka.{_TIMEOUT} is {given!r}; give a number of milliseconds")
    return int(given)
