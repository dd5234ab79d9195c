"""The job `kafka_orders`: what it writes where, over kills with new input between them."""

import io
import itertools
import json
import os
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import kafka_orders
import pytest
from conftest import ROOT
from faults.drivers import ended
from support.batch_folders import rows_in

from sparkstream_kit import schemas
from sparkstream_kit.connectors._registry.client import Schema

JOB = ROOT / "jobs" / "kafka_orders.py"
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
FIRST = {
    "type": "record",
    "name": "shop.Order",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "product", "type": "string"},
        {"name": "quantity", "type": "int"},
        {"name": "price", "type": DECIMAL},
    ],
}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
SECOND = {**FIRST, "fields": [NOTE, *FIRST["fields"]]}
NOW = datetime(2026, 1, 14, 12, tzinfo=UTC)
KILLS = 10
WRONG = (
    "quantity: below 1",
    "unknown schema id",
    "not Avro with a schema id",
    "no value",
)


class Orders:
    """Orders in a topic, good, late and bad ones, and where each of them belongs."""

    def __init__(self, broker, registry):
        self._broker = broker
        self._client = schemas.registry(registry.url)
        self._numbers = itertools.count()
        self.topic = broker.topic(partitions=2)
        self.to = broker.topic(partitions=2)
        self.on_time: dict[str, Decimal] = {}
        self.late: set[str] = set()
        self.reasons: Counter[str] = Counter()

    def send(self, schema=FIRST, *, late=0):
        """Send some orders of a schema; old ones are late in all batches but the first."""
        number = self._client.register(
            f"{self.topic}-value", Schema("AVRO", json.dumps(schema))
        )
        values = [self._order(number, schema) for _ in range(60)]
        values += [self._order(number, schema, days=2) for _ in range(late)]
        values += [
            self._order(number, schema, quantity=0),
            self._order(999_999, schema, quantity=0),
            b"no Avro",
            None,
        ]
        self.reasons.update(WRONG)
        self._broker.send(self.topic, values)

    def _order(self, number, schema, *, days=0, quantity=None):
        place = next(self._numbers)
        price = Decimal(place % 50 + 1).scaleb(-2)
        many = place % 7 + 1
        order_id = f"order-{place}"
        if days:
            self.late.add(order_id)
        elif quantity is None:
            self.on_time[order_id] = many * price
        value = {
            "order_id": order_id,
            "time": NOW + timedelta(seconds=place % 300, days=-days),
            "product": f"p{place % 3}",
            "quantity": many if quantity is None else quantity,
            "price": price,
        }
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
        return b"\0" + number.to_bytes(4, "big") + out.getvalue()

    def written(self):
        """Return the orders in the topic of results, as a reader with the registry has them."""
        found: list[dict[str, Any]] = []
        for record in self._broker.records(self.to):
            number = int.from_bytes(record.value[1:5], "big")
            schema = self._client.schema(number)
            assert schema is not None
            content = io.BytesIO(record.value[5:])
            order: Any = fastavro.schemaless_reader(
                content, json.loads(schema.text), None
            )
            assert record.key == order["product"].encode()
            found.append(order)
        return found

    def check(self, out):
        """See that each order is in its place once, and that the totals are exact."""
        written = self.written()
        expected: dict[str, Decimal] = defaultdict(Decimal)
        found: dict[str, Decimal] = defaultdict(Decimal)
        for order_id, total in self.on_time.items():
            expected[f"p{int(order_id[6:]) % 3}"] += total
        for order in written:
            found[order["product"]] += order["total"]
        assert found == expected
        assert sorted(each["order_id"] for each in written) == sorted(self.on_time)
        late = [row["order_id"] for row in rows_in(out / "late")]
        assert sorted(late) == sorted(self.late)
        bad = rows_in(out / "bad")
        assert Counter(row["_reason"] for row in bad) == self.reasons
        places = Counter((row["partition"], row["offset"]) for row in bad)
        assert set(places.values()) == {1}


@pytest.fixture
def orders(broker, registry):
    return Orders(broker, registry)


def flags(orders, broker, registry, out):
    named = ["--kafka", broker.servers, "--topic", orders.topic]
    return [str(out), *named, "--registry", registry.url, "--to", orders.to]


def test_orders_late_ones_and_bad_records(
    spark, orders, broker, registry, tmp_path, capsys
):
    given = flags(orders, broker, registry, tmp_path / "out")
    orders.send()
    assert kafka_orders.main([*given, "--available-now"]) == 0
    orders.send(SECOND, late=3)
    assert kafka_orders.main([*given, "--available-now"]) == 0
    orders.check(tmp_path / "out")
    assert "67 rows in" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_ten_times_each_order_counts_once(
    orders, broker, registry, tmp_path, begin
):
    out = tmp_path / "out"
    checkpoint = out / "_checkpoint"
    ledger = f"{orders.to}-sparkstream-ledger"
    points = [
        lambda: len(list(checkpoint.glob("offsets/[0-9]*"))),
        lambda: broker.ends(ledger)[0][1] if has_topic(broker, ledger) else 0,
        lambda: len(list(out.glob("bad/batch=*"))),
        lambda: len(list(checkpoint.glob("commits/[0-9]*"))),
    ]
    jars = {"SPARKSTREAM_JARS": os.environ["SPARKSTREAM_JARS"]}
    given = flags(orders, broker, registry, out)
    for number in range(KILLS):
        orders.send(FIRST if number < KILLS // 2 else SECOND, late=4 * (number > 0))
        reached = points[number % len(points)]
        before = reached()
        few = ("--max-offsets-per-trigger", "30", "--profile", "test")
        driver = begin("python", JOB, *given, *few, **jars)
        driver.until(lambda reached=reached, before=before: reached() > before)
        driver.kill(["group", "jvm", "python"][number % 3])
    ended(begin("python", JOB, *given, "--available-now", **jars))
    orders.check(out)


def has_topic(broker, name):
    return name in broker.admin.list_topics(timeout=20).topics
