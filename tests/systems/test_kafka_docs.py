"""docs/kafka.md works as it stands, one block after the other."""

import io
import json
import re
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from conftest import ROOT
from faults.drivers import until
from support.pages import run_page
from systems import kafka
from systems.conftest import jars

PAGE = (ROOT / "docs" / "kafka.md").read_text("utf-8")
PAYMENT = {
    "type": "record",
    "name": "Payment",
    "fields": [
        {"name": "id", "type": "long"},
        {
            "name": "amount",
            "type": {
                "type": "bytes",
                "logicalType": "decimal",
                "precision": 9,
                "scale": 2,
            },
        },
    ],
}


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(spark, tmp_path, monkeypatch, request):
    # Of its own, whose topics have the names that the page says
    broker = kafka.Broker(jars("kafka"))
    request.addfinalizer(broker.remove)
    for name in ("orders", "orders-dead", "payments", "totals", "shouted", "copies"):
        broker.topic(name)
    broker.send(
        "orders",
        ['{"id":1,"shop":"a","amount":7.5}', '{"id":2,"shop":"a","amount":7.505}'],
    )
    value = io.BytesIO()
    fastavro.schemaless_writer(
        value, fastavro.parse_schema(PAYMENT), {"id": 5, "amount": Decimal("7.50")}
    )
    broker.send("payments", [b"\0\0\0\0\7" + value.getvalue()])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "7.avsc").write_text(json.dumps(PAYMENT))

    def arrived():
        until(lambda: len(broker.records("shouted")) == 2, lambda: "two records")

    names: dict[str, Any] = {"arrived": arrived}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        there = block.replace("localhost:9092", broker.servers).replace(
            "ckpt/", f"{tmp_path}/ckpt/"
        )
        if "realTime" in there:  # five seconds are not enough on a machine that is busy
            there = there.replace(
                "run(query, run_for=5)", "arrived()\nrun(query, run_for=5)"
            )
        exec(compile(there, "docs/kafka.md", "exec"), names)  # noqa: S102 - our own page

    [good] = spark.read.parquet(f"{tmp_path}/orders/good/*").drop("timestamp").collect()
    assert (good["id"], good["amount"], good["offset"]) == (1, Decimal("7.50"), 0)
    [letter] = broker.records("orders-dead")
    said = json.loads(letter.value or b"")
    assert (said["_reason"], said["partition"], said["offset"]) == (
        "amount: not a decimal(12,2)",
        0,
        1,
    )
    assert (tmp_path / "ckpt" / "orders" / "commits").is_dir()
    assert [(row.id, row.amount) for row in spark.table("payments").collect()] == [
        (5, Decimal("7.50"))
    ]
    assert len(broker.records("shouted")) == 2
    assert len(broker.records("copies")) == 2


GOOD = '{"id":1,"shop":"a","amount":7.50}'
BAD = '{"id":2,"shop":"a","amount":7.505}'
# The topics that are there when a guide begins, and what is in them.
GUIDES: dict[str, dict[str, list[str]]] = {
    "kafka-to-delta": {"orders": [GOOD, BAD, '{"id":2,"shop":"b","amount":3.00}']},
    "kafka-to-kafka": {
        "orders": [GOOD, '{"id":3,"shop":"b","amount":3.00}', BAD],
        "billed": [],
        "orders-dead": [],
    },
    "kafka-to-iceberg": {},  # where the driver is killed
}


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_runs_from_top_to_bottom(guide, tmp_path, request):
    broker = kafka.Broker(jars("kafka"))
    request.addfinalizer(broker.remove)
    for topic, records in GUIDES[guide].items():
        broker.topic(topic, records=records)
    run_page(
        ROOT / "docs" / "guides" / f"{guide}.md",
        tmp_path,
        [("localhost:9092", broker.servers)],
    )
    if "orders-dead" in GUIDES[guide]:
        [letter] = broker.records("orders-dead")
        assert (
            json.loads(letter.value or b"")["_reason"] == "amount: not a decimal(12,2)"
        )
