"""The test of `kafka_orders.py`, to change with it: records in, and what must come out of them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import fastavro
from kafka_orders import WRITTEN, transform

from sparkstream_kit import quarantine

if TYPE_CHECKING:
    from pathlib import Path

    from sparkstream_kit.testing import Streams

NUMBER = 7  # the id of the schema
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "product", "type": "string"},
        {"name": "quantity", "type": "int"},
        {"name": "price", "type": DECIMAL},
    ],
}
TIME = datetime(2026, 1, 14, 12, tzinfo=UTC)


def record(order_id: str, quantity: int = 1, price: str = "1.00") -> bytearray:
    """Return an order as a program with a schema registry writes it."""
    out = io.BytesIO()
    value = {
        "order_id": order_id,
        "time": TIME,
        "product": "tea",
        "quantity": quantity,
        "price": Decimal(price),
    }
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), value)
    return bytearray(b"\0" + NUMBER.to_bytes(4, "big") + out.getvalue())


def test_an_order_has_its_total_and_a_bad_record_its_reason(
    stream: Streams, tmp_path: Path
) -> None:
    (tmp_path / f"{NUMBER}.avsc").write_text(json.dumps(SCHEMA))
    records = stream("value BINARY")
    rows = transform(records.to_df(), "10 minutes", schemas=tmp_path)
    query = stream.query(rows.select(*WRITTEN, quarantine.REASON))
    records.add_data([(record("a", 3, "2.50"),), (record("b", 0),)])
    records.add_data([(bytearray(b"no Avro"),), (None,)])
    first, second = query.step()
    good, bad = sorted(first.rows, key=lambda row: row[0] is None)
    assert good[0] == "a"
    assert good[2:] == ("tea", 3, Decimal("2.50"), Decimal("7.50"), None)
    assert bad[-1] == "quantity: below 1"
    reasons = sorted(row[-1] for row in second.rows)
    assert reasons == ["no value", "not Avro with a schema id"]
