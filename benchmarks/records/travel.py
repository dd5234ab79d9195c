"""How long a record takes from one topic to another, by the clock of one process.

That process writes the records and reads them again.
"""

import time

from confluent_kafka import Consumer, Producer, TopicPartition

RATE = 50  # records a second, so that no queue grows
WARM = 10  # seconds, in which the JVM compiles what runs often


def milliseconds(servers: str, given: str, made: str, count: int) -> list[float]:
    """Send records to a topic, and return how long each took to come out of another one.

    Records that are sent in a while to warm up do not count.

    Args:
        servers: the broker.
        given: the topic that the query reads.
        made: the topic that it writes, with one partition.
        count: how many records to time.
    """
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "bench", "fetch.wait.max.ms": 5}
    )
    consumer.assign([TopicPartition(made, 0, 0)])
    sent: dict[bytes, float] = {}
    took: dict[bytes, float] = {}
    # Of the records that are timed: sent a while after one has come out
    first: int | None = None
    begun, deadline = time.perf_counter(), time.monotonic() + 200
    warm = float("inf")
    while first is None or len(took) < first + count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(took)} of {len(sent)} records came out")
        if first is None and time.perf_counter() > warm:
            first = len(sent)
        while time.perf_counter() - begun >= len(sent) / RATE and (
            first is None or len(sent) < first + count
        ):
            key = b"%d" % len(sent)
            sent[key] = time.perf_counter()
            producer.produce(given, b'{"n": %d}' % len(sent), key)
            producer.poll(0)
        for message in consumer.consume(100, 0.002):
            key = message.key() or b""
            if message.error() is None and key in sent:
                took.setdefault(key, time.perf_counter() - sent[key])
                warm = min(warm, time.perf_counter() + WARM)
    consumer.close()
    return [took[b"%d" % number] * 1000 for number in range(first, first + count)]
