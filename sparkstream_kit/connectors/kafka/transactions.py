"""Write each batch to Kafka in one transaction with its record in the ledger.

A producer of confluent-kafka makes the transaction.

The ledger is a compacted topic with one partition. Its last committed record with the
key `TOPIC/QUERY` says which batch of the query is in the topic. Kafka's own fence holds
back an older driver: a `transactional.id` belongs to one query and one topic, and
whoever takes it (`init_transactions`) ends the open transaction of the former producer,
which can commit nothing any more. A driver whose commit fails reads the ledger. If it
is not the older one it takes the id again, and finds there whether the commit was done.

The ledger also has the id that Kafka gives each topic. A topic that was made again has
another id, and lacks the rows that the query has written, so the query is refused.

`TransactionalTarget` is where `sinks.kafka` writes with `exactly_once=True`.
`_TransactionWriter` is a producer, with the ledger as it was when the producer took its
id: nobody else can change that, so the ledger is not read for each batch.
`_TopicLedger` has the rules.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from sparkstream_kit.connectors import _arrow
from sparkstream_kit.connectors._tables import Entries
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks import base
from sparkstream_kit.sinks.ledger import pass_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from confluent_kafka import Message
    from pyspark.sql import DataFrame

    from sparkstream_kit.sinks.ledger import Batch

    _Entry = dict[str, Any]
    _Ids = dict[str, str | None]


_WAIT = 10  # seconds to wait for an answer of the brokers at a start
_TAKES = 3  # attempts to take the transactional id at a start
_PAUSE = 1  # second, in which a newer driver that has just taken the id notes its epoch
# Codes of librdkafka: no answer in time, no connection, no broker.
_TIMED_OUT = -185
_AWAY = (_TIMED_OUT, -195, -187)
_PURGED = (-151, -152)  # a record that was not sent because of the error of another one
_TOO_LARGE = 10
_NO_TOPIC = 3
_NOT_ALLOWED = 29
_NO_PARTITION = -190
# Of the ledger: it has no such topic, or no partition 0
_GONE = (_NO_TOPIC, _NO_PARTITION, -188)
# The id of a topic of brokers that have no ids, before Kafka 2.8
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
_TIMEOUT = "transaction.timeout.ms"
# Bytes of a ledger record: the plan of a batch has the names of all its files
_LARGEST = 50_000_000
# …PlainLoginModule required username="a" password="b"; with a backslash before a quote
_LOG_IN = re.compile(r'(username|password)="((?:[^"\\]|\\.)*)"')
_QUIET = logging.getLogger(f"{__name__}.librdkafka")  # errors have what it would print
_QUIET.setLevel(logging.CRITICAL + 1)
_OF_LEDGER = {
    "cleanup.policy": "compact",
    # Kafka compacts closed segments only: small ones keep a start short
    "segment.bytes": "1048576",
    "max.message.bytes": str(_LARGEST),
}
_SETTINGS: dict[str, Any] = {
    _TIMEOUT: "300000",
    "message.max.bytes": str(_LARGEST),
    "partitioner": "murmur2_random",  # as Kafka's Java clients choose partitions
    "queue.buffering.max.kbytes": "65536",
    "isolation.level": "read_committed",
    "enable.auto.commit": "false",
    "enable.partition.eof": "true",
    "fetch.wait.max.ms": "50",
    # Asked for by every consumer; nothing is committed to it
    "group.id": "sparkstream-ledger",
    # A topic that is gone is noticed after this time; librdkafka's default is 5 minutes
    "topic.metadata.refresh.interval.ms": "10000",
}
# The brokers refuse a whole package of records that is larger than the topic's limit
# for a record. Packages of this size, that of Kafka's Java client, fit into every
# topic.
_SMALL_PACKAGES = {"batch.size": "16384"}


def settings_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Translate options of Kafka's Java client to settings of librdkafka.

    The options are those that `sinks.kafka` takes.

    Examples:
        >>> login = 'org.apache.…PlainLoginModule required username="a" password="b";'
        >>> settings_of({"kafka.linger.ms": 5, "kafka.sasl.jaas.config": login})
        {'linger.ms': '5', 'sasl.username': 'a', 'sasl.password': 'b'}
        >>> store = "kafka.ssl.truststore"
        >>> settings_of({f"{store}.type": "PEM", f"{store}.certificates": "-----B…"})
        {'ssl.ca.pem': '-----B…'}
    """
    settings = {
        name.lower().removeprefix("kafka."): str(value)
        for name, value in options.items()
    }
    # Of the look at the topic, which Java's client takes
    settings.pop("default.api.timeout.ms", None)
    login = settings.pop("sasl.jaas.config", "")
    for jaas_key, text in _LOG_IN.findall(login):
        settings[f"sasl.{jaas_key}"] = re.sub(r"\\(.)", r"\1", text)
    if settings.pop("ssl.truststore.type", "") == "PEM":  # in a file or as a text
        for java_name, librdkafka_name in (
            ("location", "location"),
            ("certificates", "pem"),
        ):
            value = settings.pop(f"ssl.truststore.{java_name}", None)
            if value is not None:
                settings[f"ssl.ca.{librdkafka_name}"] = value
    return settings


class _Undelivered(NamedTuple):
    """A record that was not delivered.

    Attributes:
        error: the reason.
        topic: the record's topic.
        partition: the partition that its row asked for; None if the row left it open.
        size: the bytes of its key and value.
    """

    error: KafkaError
    topic: str
    partition: int | None
    size: int

    def __str__(self) -> str:
        """Return the reason, with the fix if it is known."""
        code = self.error.code()
        if code == _TOO_LARGE:
            return (
                f"a record of {self.size:,} bytes is too large (MSG_SIZE_TOO_LARGE);"
                " raise the topic's max.message.bytes, or leave such rows out"
            )
        if code == _NO_PARTITION:
            return (
                f"there is no partition {self.partition}; correct the rows, or add"
                " partitions to the topic"
            )
        if code == _NO_TOPIC:
            return "there is no such topic; create it, or correct the rows"
        return self.error.str()


@dataclass(frozen=True)
class TransactionalTarget:
    """The topic that a query writes to, and its ledger.

    Attributes:
        servers: the addresses of the brokers to ask first.
        topic: the topic.
        ledger: the topic of the ledger.
        take_over: as in `Ledger`.
        options: the user's options; out of the repr, because they may hold a password.
        check: refuses a query whose columns cannot be written, or whose topic does not
            exist.
        records: returns a batch's records: `value` and `key` (binary), and where the
            user has named columns for them `partition` (int), `headers` (as in
            `sources.kafka`) and `topic` (string).
    """

    servers: str
    topic: str
    ledger: str
    take_over: bool
    options: Mapping[str, Any] = field(repr=False)
    check: Callable[[DataFrame], None] = field(repr=False)
    records: Callable[[DataFrame], DataFrame] = field(repr=False)

    @property
    def where(self) -> base.Target:
        """The topic and its brokers."""
        return base.Target("topic", f"{self.topic} of {self.servers}")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of all clients."""
        fixed = {"bootstrap.servers": self.servers, "logger": _QUIET}
        return _SETTINGS | settings_of(self.options) | fixed

    @property
    def seconds(self) -> float:
        """How long a transaction may take."""
        return int(self.settings[_TIMEOUT]) / 1000

    def prepare(
        self, frame: DataFrame, query: str | None, next_batch: Batch | None, makes: bool
    ) -> str | None:
        """Check the columns, the topic and the ledger, which is created if it is missing.

        Raises:
            InvalidInputError: a column or the topic cannot be used, or another query
                has written to it.
        """
        self.check(frame)
        with self._errors_in_one_line(InvalidInputError):
            if makes:
                self._make()
            # Transactions may be open, which `take` waits for once it has ended its
            # own.
            entries = self.entries(all_of_them=False)
            topics = {self.topic, *_topics_of(entries.get(str(query)))}
            ids = topic_ids(AdminClient(self.settings), topics)
            ledger = _TopicLedger(self, entries, ids[self.topic])
        ledger.check_topics(query, ids)
        ledger.check_owner(query)
        # An open transaction may hide newer entries: if batches are missing, the next
        # batch is refused.
        if next_batch is None or ledger.last_batch(query) != next_batch.number:
            return None
        return ledger.last_plan(next_batch.query)

    def identity(self) -> str:
        """Return what the topic is known by, whatever the addresses of its brokers are."""
        with self._errors_in_one_line(InvalidInputError):
            ids = topic_ids(AdminClient(self.settings), [self.topic])
        return ids[self.topic] or str(self.where)

    def take(self, query: str, driver: str, _frame: DataFrame) -> None:
        """Give a query its next epoch: from now on no older driver can commit.

        For this it takes the query's transactional id.
        """
        with self._errors_in_one_line(InvalidInputError):
            for attempt in range(1, _TAKES + 1):
                writer = _TransactionWriter(self, query, driver)
                _writers[self.servers, self.topic, query] = writer
                former = writer.ledger.epoch(query)
                number = former.number + 1 if former else 1
                try:
                    writer.begin()
                    writer.commit({"epoch": number, "driver": driver})
                except KafkaException as err:
                    # An older driver that saw no newer epoch has taken the id back: it
                    # sees this one next.
                    if attempt == _TAKES or not err.args[0].fatal():
                        raise
                else:
                    return

    def write(self, batch: Batch, frame: DataFrame) -> None:
        """Write a batch of a query, or skip it if the topic already has it.

        Raises:
            InvalidInputError: the ledger's rules refuse the batch.
            KitError: Kafka refuses the batch or has not taken it in time, or a worker
                lost rows.
        """
        with self._errors_in_one_line(KitError):
            undelivered = self._write_once(batch, frame)
            if undelivered is not None and undelivered.error.code() != _TOO_LARGE:
                # A commit without an answer may be done: the second try finds the batch
                # in the ledger then.
                undelivered = self._write_once(batch, frame)
            if undelivered is not None and undelivered.error.code() == _TOO_LARGE:
                undelivered = self._write_once(batch, frame, _SMALL_PACKAGES)
            if undelivered is not None:
                kind = TransientError if undelivered.error.code() in _AWAY else KitError
                raise kind(
                    f"topic {undelivered.topic} of {self.servers}: batch {batch.number}:"
                    f" {undelivered}"
                )

    def _write_once(
        self,
        batch: Batch,
        frame: DataFrame,
        extra_settings: Mapping[str, str] | None = None,
    ) -> _Undelivered | None:
        """Write or skip a batch; return why it failed, if it can be tried again at once.

        Args:
            batch: the batch.
            frame: its rows.
            extra_settings: further settings of the producer.

        Raises:
            InvalidInputError: the ledger's rules refuse the batch, as when a newer
                driver has started.
            KitError: the time for the transaction is over.
        """
        key = self.servers, self.topic, batch.query
        writer = _writers.get(key)
        if writer is None or writer.driver != batch.driver:
            writer = _TransactionWriter(
                self, batch.query, batch.driver, extra_settings or {}
            )
            _writers[key] = writer
        if writer.ledger.is_written(batch):
            pass_over(frame, batch, self.where)
            return None
        try:
            writer.write(batch, self.records(frame))
        except BaseException as err:
            _writers.pop(key, None)
            # If it cannot be ended now, the next to take the id ends it
            with suppress(KafkaException):
                writer.producer.abort_transaction(_WAIT)
            if not isinstance(err, KafkaException):
                raise
            undelivered = writer.undelivered
            if undelivered is None:
                undelivered = _Undelivered(err.args[0], self.topic, None, 0)
            if undelivered.topic == self.ledger and undelivered.error.code() in _GONE:
                raise InvalidInputError(self._without_ledger) from None
        else:
            return None
        # A newer driver that has just taken the id notes its epoch meanwhile
        time.sleep(_PAUSE)
        with suppress(KafkaException):  # no broker answers
            _TopicLedger(self, self.entries(all_of_them=False)).check_epoch(batch)
        if time.monotonic() < writer.deadline:
            return undelivered
        raise KitError(
            f"{self.where} has not taken batch {batch.number} within {self.seconds:g} s"
            f" ({undelivered}); if no broker answered, start again; a large batch needs more"
            " time, up to the brokers' transaction.max.timeout.ms: sinks.kafka(…,"
            f" **{{'kafka.{_TIMEOUT}': 900000}})"
        )

    @property
    def _without_ledger(self) -> str:
        """The message for a ledger that was removed while a query runs.

        Nothing is committed without the ledger.
        """
        return (
            f"the ledger of {self.where}, topic {self.ledger}, is gone; restore it, or"
            " start again: the next start makes a new one, and says how to go on"
            " without what was in the former"
        )

    @contextmanager
    def _errors_in_one_line(self, kind: type[KitError]) -> Iterator[None]:
        """Report an error of Kafka's client in one line."""
        try:
            yield
        except KafkaException as err:
            if err.args[0].code() in _AWAY:
                kind = TransientError
            raise kind(f"{self.where}: {err.args[0].str()}") from None

    def _make(self) -> None:
        """Create the topic of the ledger if it is missing."""
        admin = AdminClient(self.settings)
        if self.ledger not in admin.list_topics(timeout=_WAIT).topics:
            new = NewTopic(self.ledger, 1, -1, config=_OF_LEDGER)
            try:
                answers = admin.create_topics([new], operation_timeout=_WAIT)
                answers[self.ledger].result()
            except KafkaException as err:
                # Another driver was sooner
                if err.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    raise

    def entries(self, *, all_of_them: bool) -> dict[str, _Entry]:
        """Return the last committed entry of each query in the ledger.

        Args:
            all_of_them: wait for the end of the transactions that are open, to read
                what is behind their first record; else a ledger that does not exist is
                an empty one.

        Raises:
            InvalidInputError: there is no ledger, or a record of it is no entry.
        """
        part = TopicPartition(self.ledger, 0, OFFSET_BEGINNING)
        entries: dict[str, _Entry] = {}
        end = -1
        reader: Any
        with closing(Consumer(self.settings)) as reader:
            if not all_of_them:
                topics = reader.list_topics(timeout=_WAIT).topics
                if self.ledger not in topics:
                    return entries
            reader.assign([part])
            # One without a value is falsy
            while (message := reader.poll(self.seconds)) is not None:
                error = message.error()
                offset = message.offset()
                if error is None:
                    self._add_entry(message, entries)
                    offset += 1  # the next one
                elif error.code() in _GONE:
                    raise InvalidInputError(self._without_ledger)
                elif error.name() != "_PARTITION_EOF":
                    raise KafkaException(error)
                elif not all_of_them:  # the end of what is committed
                    return entries
                # What is added during the reading may be added faster than it is read
                if end < 0:
                    end = reader.get_watermark_offsets(part, cached=True)[1]
                if 0 <= end <= offset:
                    return entries
        raise KafkaException(
            KafkaError(_TIMED_OUT, f"ledger {self.ledger} cannot be read to its end")
        )

    def _add_entry(self, message: Message, entries: dict[str, _Entry]) -> None:
        """Add a ledger's record, with the key TOPIC/QUERY, to the entries; null removes one.

        Raises:
            InvalidInputError: no ledger has such a record.
        """
        entry: Any = None
        try:
            topic, slash, query = (message.key() or b"").decode().partition("/")
            if topic == self.topic:
                entry = json.loads(message.value() or b"null")
        except ValueError:
            raise self._no_entry() from None
        if not slash or not isinstance(entry, dict | None):
            raise self._no_entry()
        if topic != self.topic:
            return
        if entry is None:  # somebody has removed the entry
            entries.pop(query, None)
        else:
            entries[query] = entry

    def _no_entry(self) -> InvalidInputError:
        return InvalidInputError(
            f"topic {self.ledger} of {self.servers} has a record that is no entry"
            " of a ledger; give the ledger a topic of its own: sinks.kafka(…,"
            f" ledger='{self.topic}-sparkstream-ledger')"
        )


def topic_ids(admin: AdminClient, names: Iterable[str]) -> _Ids:
    """Return the id that Kafka gives each topic, by name.

    The id is None for a topic that does not exist, and empty if it is not known: the
    brokers are older than Kafka 2.8, or this user may not ask.
    """
    ids: _Ids = {}
    answers = admin.describe_topics(TopicCollection([*names]), request_timeout=_WAIT)
    for name, answer in answers.items():
        try:
            topic_id = str(answer.result().topic_id)
        except KafkaException as err:
            code = err.args[0].code()
            if code == _NO_TOPIC:
                ids[name] = None
            elif code == _NOT_ALLOWED:
                ids[name] = ""
            else:
                raise
        else:
            ids[name] = "" if topic_id == _NO_ID else topic_id
    return ids


def _topics_of(entry: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the ids of the topics that a query has written to; of an older kit's entry, none."""
    if entry is None:
        return {}
    return dict(entry.get("topics", {}))


# Of this process, by brokers, topic and query
_writers: dict[tuple[str, str, str], _TransactionWriter] = {}


class _TransactionWriter:
    """A producer that has taken the transactional id of a query and a topic.

    Attributes:
        driver: the start of the query that has taken the id.
        ledger: the ledger, whose entry of the query only the holder of the id changes.
        producer: the producer.
        deadline: the monotonic time in seconds until which the transaction can be
            committed.
    """

    def __init__(
        self,
        target: TransactionalTarget,
        query: str,
        driver: str,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.driver = driver
        self.deadline = 0.0
        self._failed: list[_Undelivered] = []
        # As they come: within librdkafka's call nothing may be asked of an error.
        self._reports: list[tuple[KafkaError, Message]] = []
        self._target = target
        self._query = query
        self._topics = {target.topic}  # of the records of the transaction
        self._admin = AdminClient(target.settings)
        own = {
            "transactional.id": f"sparkstream/{target.topic}/{query}",
            "delivery.report.only.error": True,
            "on_delivery": lambda *report: self._reports.append(report),
        }
        self.producer = Producer({**target.settings, **(more or {}), **own})
        self.producer.init_transactions(target.seconds)
        self.ledger = _TopicLedger(target, target.entries(all_of_them=True))

    @property
    def undelivered(self) -> _Undelivered | None:
        """A record that was not delivered, the largest of them; None if there is none."""
        records = list(self._failed)
        for error, message in self._reports:
            size = len(message.value() or b"") + len(message.key() or b"")
            topic = str(message.topic())
            records.append(_Undelivered(error, topic, message.partition(), size))
        failed = [record for record in records if record.error.code() not in _PURGED]
        return max(failed, key=lambda record: record.size, default=None)

    def begin(self) -> None:
        """Begin a transaction."""
        self._topics = {self._target.topic}
        self.deadline = time.monotonic() + self._target.seconds
        self.producer.begin_transaction()

    def write(self, batch: Batch, records: DataFrame) -> None:
        """Write the records of a batch and its entry in the ledger, in one transaction.

        The batch is computed before the transaction begins, which keeps it short.
        """
        rows = 0
        with _arrow.kept(records) as parts:
            self.begin()
            for part in parts:
                rows += part.num_rows
                values = [column.to_pylist() for column in part.columns]
                columns = dict(zip(records.columns, values, strict=True))
                self._send_rows(
                    zip(
                        columns["value"],
                        columns["key"],
                        columns.get("partition", repeat(None)),
                        columns.get("headers", repeat(None)),
                        columns.get("topic", repeat(None)),
                        strict=False,  # repeat has no end
                    )
                )
        self.commit({"batch": batch.number, "plan": batch.plan, "rows": rows})

    def _send_rows(self, records: Iterable[tuple[Any, ...]]) -> None:
        """Give records to the producer: value, key, partition, headers, topic of each.

        Raises:
            InvalidInputError: a row has a partition, a header or a topic that it must
                not have.
        """
        self._send(self._checked(records))

    def _checked(self, records: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Yield the records of rows, each with the topic that it goes to; see `_send_rows`."""
        target = self._target
        for value, key, partition, headers, topic in records:
            if partition is not None and partition < 0:
                raise InvalidInputError(
                    f"{target.where}: a row has partition {partition}; give 0 or"
                    " more, or null to leave the choice to Kafka"
                )
            for header in headers or ():
                if header is None or header["key"] is None:
                    raise InvalidInputError(
                        f"{target.where}: a row has a header without a key; give each"
                        " header a key, or leave such headers out: F.filter(…)"
                    )
            if topic == "":
                raise InvalidInputError(
                    f"{target.where}: a row goes to a topic without a name; give"
                    f" its name, or null for {target.topic}"
                )
            if topic == target.ledger:
                raise InvalidInputError(
                    f"{target.where}: a row goes to topic {topic}, which is the"
                    " ledger; leave it out, or give another ledger="
                )
            topic_of_row = target.topic if topic is None else topic
            self._topics.add(topic_of_row)
            yield value, key, partition, headers, topic_of_row

    def _send(self, records: Iterable[tuple[Any, ...]]) -> None:
        """Hand records to the producer: value, key, partition, headers and topic of each."""
        if time.monotonic() >= self.deadline:
            raise KafkaException(KafkaError(_TIMED_OUT))
        for value, key, partition, headers, topic in records:
            number = -1 if partition is None else partition
            pairs = None
            if headers is not None:
                pairs = [(header["key"], header["value"]) for header in headers]
            while True:
                try:
                    self.producer.produce(topic, value, key, number, headers=pairs)
                    break
                except BufferError:
                    # the queue is full until the brokers have taken some of it
                    self.producer.poll(0.01)
                except KafkaException as err:
                    size = len(value or b"") + len(key or b"")
                    self._failed.append(
                        _Undelivered(err.args[0], topic, partition, size)
                    )
                    raise

    def commit(self, entry: _Entry) -> None:
        """Commit the transaction, with an entry in the ledger.

        The entry is added to the query's former entry.

        Raises:
            InvalidInputError: a topic was made again since the query has written to it.
        """
        former = self.ledger.of(self._query)
        # What is made again from now on is found with the next batch
        ids = topic_ids(self._admin, self._topics)
        self.ledger.check_topics(self._query, ids)
        topics = _topics_of(former)
        for name, topic_id in ids.items():
            if topic_id:
                topics[name] = topic_id
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # Of a query that had no id yet when it was started
        first = {"epoch": 1, "driver": self.driver}
        entry = {**first, **former, **entry, "topics": topics, "time": now}
        key = f"{self._target.topic}/{self._query}"
        self._send([(json.dumps(entry), key, 0, None, self._target.ledger)])
        self.producer.commit_transaction()
        self.ledger.found[self._query] = entry


class _TopicLedger(Entries):
    """The ledger, as one reading of it has `found` it."""

    what = "topic"

    def __init__(
        self,
        target: TransactionalTarget,
        found: dict[str, _Entry],
        known: str | None = "",
    ) -> None:
        super().__init__(target.where, "append", target.take_over)
        self._target = target
        self.found = found
        self._known = known

    def entries(self) -> dict[str, _Entry]:
        return self.found

    def any_query(self) -> tuple[str, int] | None:
        topic = self._target.topic
        for query, entry in self.found.items():
            noted_id = _topics_of(entry).get(topic)
            is_same = noted_id is None or self._known in ("", noted_id)
            # Else its rows went with a former topic of this name
            if entry.get("batch") is not None and is_same:
                return query, max(entry["batch"], 0)
        return None

    def check_topics(self, query_id: str | None, ids: _Ids) -> None:
        """Refuse topics that were deleted, or made again, after the query had written to them.

        Args:
            query_id: the query's id.
            ids: the ids that some topics have now, as `topic_ids` returns them.

        Raises:
            InvalidInputError: a topic lacks rows of this query; with `take_over` it is
                accepted.
        """
        last = self.last_batch(query_id)
        noted_ids = _topics_of(self.found.get(str(query_id)))
        if last is None or self.take_over:
            return
        for name, topic_id in ids.items():
            if name in noted_ids and topic_id not in ("", noted_ids[name]):
                happened = "was deleted"
                if topic_id is not None:
                    happened += " and made again"
                raise InvalidInputError(
                    f"topic {name} of {self._target.servers} {happened} after this"
                    f" query had written its batches up to {last}; to write all rows"
                    " again, start with a new checkpoint folder (and a new target for"
                    " each other sink); or, to go on without them, give take_over=True"
                )

    def has_rows(self) -> bool:
        return False  # a topic may have other writers, whose records do no harm

    def set_back_command(self, query_id: str, batch_id: int) -> str:
        entry = {**self.of(query_id), "batch": batch_id, "plan": None}
        record = f"'{self._target.topic}/{query_id}' {shlex.quote(json.dumps(entry))}"
        address = (
            f"--bootstrap-server {self._target.servers} --topic {self._target.ledger}"
        )
        return (
            f"run printf '%s\\t%s\\n' {record} | kafka-console-producer.sh {address}"
            " --property parse.key=true"
        )
