"""Run a server to try things on, `kafka` or `kinesis`, with sales coming in, until Ctrl-C.

Beside Kafka runs a schema registry, and orders come in as records of Avro.
"""

from __future__ import annotations

import io
import itertools
import json
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

# Whose fixtures start the same servers
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import fastavro
from support.ports import free_port
from systems.conftest import jars
from systems.daemons import listens
from systems.kafka import Broker
from systems.kinesis import REGION, Server
from systems.registry import ASchemaRegistry

from sparkstream_kit import feeds, schemas
from sparkstream_kit.connectors._registry.client import Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Send = Callable[[str, str], object]  # a key and a text

NEXT = """\
{what}. Each second two sales come into its {where} sales, as lines of CSV{more}.
To read them, type in another terminal:

  cd {root}
  . .venv/bin/activate
  export {exports}
  python
  >>> from sparkstream_kit import get_session, run, sinks, sources, start
  >>> spark = get_session({session})
  >>> lines = {source}
  >>> run(start(lines.select("value"), sinks.console(), name="sales"), run_for=30)
{job}
Ctrl-C here ends the server, and removes its data.
"""


_PRICE = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
_TIME = {"type": "long", "logicalType": "timestamp-millis"}
_ORDER = {
    "type": "record",
    "name": "shop.Order",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "time", "type": _TIME},
        {"name": "product", "type": "string"},
        {"name": "quantity", "type": "int"},
        {"name": "price", "type": _PRICE},
    ],
}


def orders(address: str) -> Callable[[str], bytes]:
    """Register the schema of orders, and return what makes a record of a product."""
    registry = schemas.registry(address)
    number = registry.register("orders-value", Schema("AVRO", json.dumps(_ORDER)))
    parsed = fastavro.parse_schema(_ORDER)
    places = itertools.count(1)

    def record(product: str) -> bytes:
        place = next(places)
        order = {
            "order_id": f"order-{place}",
            "time": datetime.now(UTC),
            "product": product,
            "quantity": place % 9 + 1,
            "price": Decimal(place % 50 + 100).scaleb(-2),
        }
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, order)
        return b"\0" + number.to_bytes(4, "big") + out.getvalue()

    return record


@contextmanager
def registry() -> Iterator[str]:
    """Run a schema registry, and give its address."""
    port = free_port() if _in_use(8081) else 8081  # Confluent's own
    with tempfile.TemporaryDirectory(prefix="sparkstream-registry-") as home:
        server = ASchemaRegistry(jars("registry"), Path(home), port)
        try:
            server.start()
            yield server.url
        finally:
            server.stop()


@contextmanager
def kafka() -> Iterator[tuple[Send, dict[str, str]]]:
    """Run a Kafka broker and a registry; give what sends a sale, and what to type to read them."""
    # Kafka's own, as the pages have it
    broker = Broker(jars("kafka"), port=0 if _in_use(9092) else 9092)
    try:
        with registry() as address:
            yield _of_kafka(broker, address)
    finally:
        broker.stop()
        broker.remove()


def _of_kafka(broker: Broker, address: str) -> tuple[Send, dict[str, str]]:
    for topic in ("sales", "lines", "orders", "checked"):
        broker.topic(topic, 2)
    order = orders(address)

    def send(key: str, text: str) -> None:
        broker.send("sales", [text])
        broker.send("lines", [key])
        broker.send("orders", [order(key)])

    servers = broker.servers
    more = ", their products into its topic lines, and orders into its topic orders"
    more += f", as Avro with the schema registry at {address}"
    job = f"""
Or run a job on them:

  python jobs/sales_totals.py --kafka {servers} --topic sales --run-for 30
  python jobs/kafka_word_count.py --kafka {servers} --topic lines --run-for 30
  python jobs/kafka_orders.py checked-out --kafka {servers} --topic orders --to checked \\
    --registry {address} --run-for 30

What is in a topic, and the code that reads it:

  sparkstream schema --topic orders --bootstrap {servers} \\
    --registry {address}
"""
    return send, {
        "what": f"Kafka runs at {servers}",
        "where": "topic",
        "more": more,
        "job": job,
        "exports": f"SPARKSTREAM_JARS={jars('spark')}",
        "session": '"sales", connectors=["kafka"]',
        "source": f'sources.kafka(spark, "{servers}", "sales")',
    }


@contextmanager
def kinesis() -> Iterator[tuple[Send, dict[str, str]]]:
    """Run a server of Kinesis's protocol, as `kafka` does."""
    server = Server()
    login = "AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any"
    try:
        server.start()
        server.create("sales", 2)
        yield (
            lambda key, text: server.put("sales", [(key, text)]),
            {
                "what": f"A server of Kinesis's protocol runs at {server.url}",
                "where": "stream",
                "more": "",
                "job": "",
                "exports": (
                    f"{login} AWS_DEFAULT_REGION={REGION} AWS_ENDPOINT_URL={server.url}"
                ),
                "session": '"sales"',
                "source": 'sources.kinesis(spark, "sales")',
            },
        )
    finally:
        server.stop()


def _in_use(port: int) -> bool:
    try:
        return bool(listens(port))
    except OSError:
        return False


def main() -> None:
    """Start the server that is named, and feed it until a signal comes."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with {"kafka": kafka, "kinesis": kinesis}[sys.argv[1]]() as (send, facts):
        print(NEXT.format(root=Path(__file__).parent.parent, **facts), flush=True)
        for row in itertools.cycle(feeds.sales_rows(1000, seed=7)):
            if over.wait(0.5):
                break
            send(row[9], feeds.csv_line(row))


if __name__ == "__main__":
    main()
