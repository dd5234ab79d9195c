"""A Kafka broker for the tests and for `make kafka`: one Java process, in a temporary folder.

It is broker and controller in one (KRaft), from the jars that `scripts/systems.sh
kafka` has fetched.
"""

import atexit
import base64
import functools
import json
import secrets
import shutil
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic
from conftest import HANGS, process
from faults.drivers import until
from support.ports import free_ports
from systems.conftest import jars
from systems.daemons import SMALL, Daemon, java

_REQUEST = 20  # seconds that one request to the broker may take
# What the client would print on standard error, a test sees by itself
_QUIET = {"log_level": 0}

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners={listeners}PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={home}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Killed, it is let in again once its session has ended: after 2 seconds, not 9.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
log.retention.check.interval.ms=500
log.retention.ms=-1
log.segment.delete.delay.ms=0
file.delete.delay.ms=0
"""
_LOGGING = """\
Configuration:
  status: WARN
  Appenders: {Console: {name: C, PatternLayout: {pattern: "%d{ISO8601} %p %c{1} %m%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: C}}}
"""


def ids(number, first=0):
    """Return so many records, each an id as JSON."""
    return [json.dumps({"id": first + each}) for each in range(number)]


class Record(NamedTuple):
    """A record as the broker has it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Secure:
    """What a broker needs to ask for TLS and a password, and what its clients then need.

    Attributes:
        user: who may log in.
        password: with this password, made anew each time.
        certificate: the file of the certificate, PEM, which a client has to trust.
    """

    def __init__(self, folder):
        self.user, self.password = "kit", secrets.token_hex(12)
        self.certificate, self._store = folder / "broker.pem", folder / "broker.p12"
        self._inner = secrets.token_hex(12)  # of the key itself, which no client knows
        key = (
            "-alias",
            "broker",
            "-keystore",
            str(self._store),
            "-storepass",
            self._inner,
        )
        _keytool(
            "-genkeypair",
            *key,
            "-keyalg",
            "RSA",
            "-dname",
            "CN=kit",
            "-ext",
            "san=ip:127.0.0.1",
        )
        _keytool("-exportcert", *key, "-rfc", "-file", str(self.certificate))

    def login(self, password=None):
        """Return what a client logs in with, as Kafka's `sasl.jaas.config`."""
        module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        return (
            f'{module} username="{self.user}" password="{password or self.password}";'
        )

    def options(self, password=None):
        """Return the options with which Spark reaches the broker."""
        return {
            "kafka.security.protocol": "SASL_SSL",
            "kafka.sasl.mechanism": "PLAIN",
            "kafka.sasl.jaas.config": self.login(password),
            "kafka.ssl.truststore.type": "PEM",
            "kafka.ssl.truststore.location": str(self.certificate),
        }

    def settings(self, port):
        """Return the settings of the broker's second listener."""
        own = f'{self.login()[:-1]} user_{self.user}="{self.password}";'
        return {
            "listeners": f"SASL_SSL://127.0.0.1:{port},",
            "advertised.listeners": f"SASL_SSL://127.0.0.1:{port},",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": own,
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": str(self._store),
            "ssl.keystore.password": self._inner,
            "ssl.key.password": self._inner,
        }


class Broker:
    """A running broker, which can be stopped or killed, and started again on the same data.

    Args:
        jars: the folder of Kafka's jars.
        port: where it listens for clients; at any free port for 0.
        secure: whether it also listens where clients log in, by TLS.

    Attributes:
        servers: its address for clients, `127.0.0.1:PORT`.
        secure: what a client needs at `secure_servers`, its other address, where it
            asks for TLS and a log-in; None without one.
        admin: a client of confluent-kafka's for whatever has no method here.
    """

    servers: str
    admin: AdminClient

    def __init__(self, jars, *, port=0, secure=False):
        self._home = Path(tempfile.mkdtemp(prefix="sparkstream-kafka-"))
        free, controller, other = free_ports(3)
        port = port or free
        self.servers, self.secure_servers = f"127.0.0.1:{port}", f"127.0.0.1:{other}"
        self.secure = Secure(self._home) if secure else None
        more = self.secure.settings(other) if self.secure else {}
        first = {
            name: more.pop(name, "") for name in ("listeners", "advertised.listeners")
        }
        text = _SETTINGS.format(
            port=port,
            controller=controller,
            home=self._home,
            listeners=first["listeners"],
            advertised=first["advertised.listeners"],
        )
        text += "".join(f"{name}={value}\n" for name, value in more.items())
        (self._home / "server.properties").write_text(text)
        (self._home / "log4j2.yaml").write_text(_LOGGING)
        (self._home / "data").mkdir()
        # What Kafka's own tool would write, in a Java of its own for a second.
        ids = f"version=1\nnode.id=1\ncluster.id={_id()}\ndirectory.id={_id()}\n"
        (self._home / "data" / "meta.properties").write_text(ids)
        command = [
            java(),
            *SMALL,
            f"-Dlog4j2.configurationFile={self._home}/log4j2.yaml",
            "-cp",
            f"{jars}/*",
        ]
        command += ["kafka.Kafka", str(self._home / "server.properties")]
        self._daemon = Daemon("Kafka", command, self._home / "log")
        atexit.register(self.remove)
        self.start()

    # --- the process

    def start(self):
        """Start the broker, unless it runs, and wait until it answers."""
        if self._daemon.runs:
            return
        self._daemon.start()
        self.admin = AdminClient({"bootstrap.servers": self.servers, **_QUIET})
        self._daemon.until(self._is_ready)

    def _is_ready(self):
        """Say whether all partitions have their leader again."""
        try:
            found = self.admin.list_topics(timeout=1)
        except KafkaException:  # it does not listen yet
            return False
        leaders = [
            part.leader
            for topic in found.topics.values()
            for part in topic.partitions.values()
        ]
        return bool(found.brokers) and -1 not in leaders

    def stop(self):
        """Stop the broker in good order."""
        self._daemon.stop()

    def kill(self):
        """Kill the broker, as a crash does."""
        self._daemon.kill()

    def remove(self):
        """Kill the broker and remove its data."""
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    # --- topics

    def topic(self, name="", partitions=1, records=(), **config):
        """Make a topic that can be written to, and return its name; without a name a new one.

        Args:
            name: the topic's name.
            partitions: how many it has.
            records: values that are written to it.
            **config: its settings in snake case, such as `retention_ms=1500`.
        """
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        new = NewTopic(name, partitions, 1, config=settings)
        self.admin.create_topics([new], operation_timeout=_REQUEST)[name].result(
            _REQUEST
        )
        self._wait_for_partitions(name, partitions)
        if records:
            self.send(name, records)
        return name

    def delete(self, name):
        """Delete a topic, and wait until it is gone."""
        self.admin.delete_topics([name], operation_timeout=_REQUEST)[name].result(
            _REQUEST
        )
        self._wait_for_partitions(name, 0)

    def add_partitions(self, name, total):
        """Give a topic more partitions, so that it has `total`."""
        self.admin.create_partitions([NewPartitions(name, total)])[name].result(
            _REQUEST
        )
        self._wait_for_partitions(name, total)

    def drop_before(self, name, offsets):
        """Delete the records of a topic before these offsets, as retention does after days."""
        wanted = [
            TopicPartition(name, partition, offset)
            for partition, offset in offsets.items()
        ]
        for done in self.admin.delete_records(wanted).values():
            done.result(_REQUEST)

    def _wait_for_partitions(self, name, total):
        def has_them():
            found = self.admin.list_topics(timeout=_REQUEST).topics.get(name)
            leaders = (
                [part.leader for part in found.partitions.values()] if found else []
            )
            return len(leaders) == total and -1 not in leaders

        until(has_them, lambda: f"topic {name} with {total} partitions")

    # --- records

    def send(
        self, topic, values, *, key=None, headers=(), partition=None, timestamp=None
    ):
        """Write records, wait until the broker has all of them, and return how many.

        Args:
            topic: where they go.
            values: a value for each; None is a tombstone.
            key: the key of all of them; without one and without `partition` they go
                round the partitions.
            headers: the headers of all of them.
            partition: where all of them go.
            timestamp: of all of them, in milliseconds since 1970; without one, now.
        """
        producer = Producer(
            {"bootstrap.servers": self.servers, "linger.ms": 5, "acks": "all", **_QUIET}
        )
        failed: list[str] = []
        more: dict[str, Any] = {} if partition is None else {"partition": partition}
        if timestamp is not None:
            more["timestamp"] = timestamp

        def done(error, _):
            if error is not None:
                failed.append(str(error))

        number = 0
        for number, value in enumerate(values, 1):  # noqa: B007 - returned
            while True:
                try:
                    producer.produce(
                        topic,
                        value,
                        key,
                        headers=list(headers),
                        on_delivery=done,
                        **more,
                    )
                    break
                except BufferError:
                    # Its queue is full: the broker takes what is in it
                    producer.poll(1)
            producer.poll(0)
        assert producer.flush(HANGS) == 0, (
            f"not within {HANGS} s: all records at the broker"
        )
        assert not failed, failed[0]
        return number

    def ends(self, topic):
        """Return the first offset of each partition, and the one that its next record will have."""
        end = time.monotonic() + HANGS
        while True:
            try:
                return self._ends(topic)
            except KafkaException as err:
                # after a start of the broker, until it knows its leaders
                if (
                    err.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION
                    or time.monotonic() > end
                ):
                    raise

    def _ends(self, topic):
        with closing(self._consumer()) as consumer:
            found = {
                number: consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=_REQUEST
                )
                for number in (
                    consumer.list_topics(topic, timeout=_REQUEST)
                    .topics[topic]
                    .partitions
                )
            }
        return dict(sorted(found.items()))

    def records(self, topic):
        """Return the committed records of a topic, by partition and offset."""
        left = {
            number for number, (first, end) in self.ends(topic).items() if end > first
        }
        found: list[Record] = []
        with closing(self._consumer()) as consumer:
            consumer.assign([TopicPartition(topic, number, 0) for number in left])
            end = time.monotonic() + HANGS
            while left:
                assert time.monotonic() < end, (
                    f"not within {HANGS} s: the records of {topic}"
                )
                for message in consumer.consume(10_000, 0.2):
                    # A transaction ends with an offset that has no record
                    if error := message.error():
                        assert error.code() == KafkaError._PARTITION_EOF, error  # noqa: SLF001
                        left.discard(message.partition())
                    else:
                        found.append(_record(message))
        return sorted(found, key=lambda record: record[:2])

    def _consumer(self):
        settings = {
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "bootstrap.servers": self.servers,
            "group.id": "tests",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
        return Consumer({**settings, **_QUIET})


def _record(message):
    place = message.partition(), message.offset()
    return Record(*place, message.key(), message.value(), message.headers() or [])


def _keytool(*args):
    done = process([java("keytool"), *args])
    assert done.returncode == 0, done.stdout + done.stderr


def _id():
    """Return a new id as Kafka writes them; one that began with a dash would look like a flag."""
    return "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]


@functools.cache
def broker():
    """Return the broker of this test run, started when it is first asked for."""
    return Broker(jars("kafka"))
