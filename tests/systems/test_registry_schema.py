"""`sparkstream schema` of a subject and of a topic: the code that it prints reads the records."""

import io
import json
from typing import Any

import fastavro
import pytest

from sparkstream_kit import quarantine, schemas
from sparkstream_kit.cli import main
from sparkstream_kit.connectors._registry.client import Schema

FIRST = {
    "type": "record",
    "name": "shop.Sale",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "gone", "type": ["null", "string"], "default": None},
    ],
}
TIME = {"type": "long", "logicalType": "timestamp-millis"}
TIME_OF_DAY = {"type": "int", "logicalType": "time-millis"}
SECOND = {
    **FIRST,
    "fields": [
        {"name": "id", "type": "long"},
        # The name of a column of Kafka's own, and one that older records lack
        {"name": "timestamp", "type": TIME, "default": 0},
        {"name": "at", "type": TIME_OF_DAY, "default": 0},
    ],
}
PROTO = (
    'syntax = "proto3"; package shop; message Order { int64 id = 1; } message Refund'
)
PROTO += " { int64 id = 1; string why = 2; }"
OF_JSON = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "day": {"type": "string", "format": "date"}},
    "required": ["id"],
}  # fmt: skip


def header(number):
    return b"\0" + number.to_bytes(4, "big")


def avro(number, schema, **value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return header(number) + out.getvalue()


def registered(registry, subject, kind, *schemas_):
    client = schemas.registry(registry.url)
    texts = [each if kind == "PROTOBUF" else json.dumps(each) for each in schemas_]
    return [client.register(subject, Schema(kind, text)) for text in texts]


@pytest.fixture
def printed(capsys):
    def run(*words):
        assert main(["schema", *words]) == 0, capsys.readouterr().err
        return capsys.readouterr()

    return run


@pytest.fixture
def looked_into(spark, broker, printed):
    """Print what is in a topic, and run what was printed; return both."""

    def look(topic, *more):
        shown = printed("--topic", topic, "--bootstrap", broker.servers, *more)
        found: dict[str, Any] = {}
        exec(shown.out, found)  # noqa: S102 - as a user runs it
        rows = next(
            found[name] for name in ("rows", "records", "lines") if name in found
        )
        writer = rows.writeStream.trigger(availableNow=True)
        return shown, collected(spark, writer)

    return look


def collected(spark, writer):
    query = writer.format("memory").queryName("looked_into").start()
    query.awaitTermination()
    return spark.table("looked_into")


def said(shown):
    return [
        line.removeprefix("# ")
        for line in shown.out.splitlines()
        if line.startswith("#")
    ]


def test_a_subject_is_printed_as_columns(spark, registry, printed):
    registered(registry, "printed-value", "AVRO", FIRST, SECOND)
    shown = printed("--registry", registry.url, "printed-value")
    assert shown.out == (
        'SCHEMA = (\n    "id BIGINT NOT NULL, "\n    "timestamp TIMESTAMP"\n)\n'
    )
    version, left_out = shown.err.splitlines()
    assert "version 2" in version
    assert "quarantine.parse_avro" in version
    assert left_out.startswith("sparkstream: at is left out: it is a time of a day")
    registered(registry, "proto-value", "PROTOBUF", PROTO)
    shown = printed("--registry", registry.url, "proto-value")
    assert '"id BIGINT"' in shown.out
    assert "its messages are shop.Order, shop.Refund" in shown.err
    shown = printed(
        "--registry", registry.url, "proto-value", "--message", "shop.Refund", "--json"
    )
    fields = json.loads(shown.out)["schema"]["fields"]
    assert [each["name"] for each in fields] == ["id", "why"]


def test_what_is_wrong_is_one_line(spark, registry, broker, capsys):
    registered(registry, "text-value", "AVRO", "string")
    empty = broker.topic()
    of_topic = ["--bootstrap", broker.servers, "--topic"]
    for words, line in [
        (["--registry", registry.url, "nobody"], "has no subject nobody; correct"),
        (["--registry", registry.url, "text-value"], "is no record with fields"),
        ([*of_topic, "nobody"], "has no topic nobody; create it first"),
        ([*of_topic, empty], f"topic {empty} at {broker.servers} has no records"),
    ]:
        assert main(["schema", *words]) == 2
        err = capsys.readouterr().err
        assert line in err
        assert err.count("\n") == 1


def test_avro_of_several_schemas_is_read(spark, broker, registry, looked_into):
    first, second = registered(registry, "sales-value", "AVRO", FIRST, SECOND)
    records = [
        avro(first, FIRST, id=1, gone="x"),
        avro(second, SECOND, id=2, timestamp=7, at=8),
        None,
        b"1,2",
        avro(second, SECOND, id=3, timestamp=0, at=0),
        header(999_999) + b"1",
    ]
    topic = broker.topic(records=records)
    shown, rows = looked_into(topic, "--registry", registry.url)
    head, *rest, keys = said(shown)
    assert [head, *sorted(rest), keys] == [
        f"topic {topic}, its newest records: 6",
        f"  Avro (schema ids {first}, {second}): 3",
        "  text: 1",
        "  tombstones: 1",
        "  with a schema id that the registry does not know (schema ids 999999): 1",
        "keys: none",
    ]
    good = quarantine.good_rows(rows).select("id", "gone", "timestamp")
    assert sorted((row.id, row.gone, row.timestamp is None) for row in good.collect()) == [
        (1, "x", True),
        (2, None, False),
        (3, None, False),
    ]  # fmt: skip
    assert quarantine.bad_rows(rows).count() == 3


def test_messages_of_protobuf_are_read(broker, registry, looked_into):
    [number] = registered(registry, "refunds-value", "PROTOBUF", PROTO)
    refund = header(number) + b"\2\2" + b"\x08\5\x12\1x"
    order = header(number) + b"\0" + b"\x08\6"
    topic = broker.topic(records=[refund, order, refund])
    shown, rows = looked_into(topic, "--registry", registry.url)
    assert 'message="shop.Refund"' in shown.out
    assert sorted(rows.select("id", "why", "_reason").collect(), key=str) == [
        (5, "x", None),
        (5, "x", None),
        (None, None, "another message: shop.Order"),
    ]


def test_json_is_read_with_and_without_a_registry(broker, registry, looked_into):
    [number] = registered(registry, "json-value", "JSON", OF_JSON)
    body = b'{"id": 1,\n "day": "2026-01-31"}'
    topic = broker.topic(records=[header(number) + body])
    shown, rows = looked_into(topic, "--registry", registry.url)
    assert '"id BIGINT NOT NULL, "' in shown.out
    assert rows.selectExpr("id", "string(day)").collect() == [(1, "2026-01-31")]
    shown, rows = looked_into(topic)
    assert "header=True" in shown.out
    assert rows.selectExpr("id", "string(day)").collect() == [(1, "2026-01-31")]
    shown, rows = looked_into(broker.topic(records=[body, body]))
    assert "  JSON: 2" in said(shown)
    assert rows.selectExpr("id", "string(day)").distinct().collect() == [
        (1, "2026-01-31")
    ]


def test_text_and_bytes_are_read_as_they_are(broker, printed, looked_into, capsys):
    topic = broker.topic()
    broker.send(topic, [b"1,2"], key=b"a")
    shown, rows = looked_into(topic)
    assert said(shown)[1:] == ["  text: 1", "keys: text: 1"]
    assert [row.value for row in rows.collect()] == ["1,2"]
    topic = broker.topic(records=[b"\xff\xfe"])
    shown, rows = looked_into(topic)
    assert "  other bytes: 1" in said(shown)
    assert [bytes(row.value) for row in rows.collect()] == [b"\xff\xfe"]
    found = printed("--topic", topic, "--bootstrap", broker.servers, "--json").out
    assert json.loads(found)["topic"]["values"] == {"other bytes": 1}
    topic = broker.topic(records=[header(7) + b"\2"])
    assert main(["schema", "--topic", topic, "--bootstrap", broker.servers]) == 2
    assert "have the schema ids 7; give --registry URL" in capsys.readouterr().err


def test_only_the_newest_records_count(broker, looked_into):
    topic = broker.topic(partitions=2, records=[b"old"] * 6)
    broker.send(topic, [b'{"n": 1}'] * 3, partition=1)
    shown, _ = looked_into(topic, "--records", "3")
    assert said(shown)[:2] == [
        f"topic {topic}, its newest records: 3",
        "  JSON: 3",
    ]


def test_a_login_is_read_from_the_environment(
    broker, registry, looked_into, monkeypatch
):
    """The code that is printed names the variables, and no password."""
    registered(registry, "login-value", "AVRO", FIRST)
    secret = registry.url.replace("://", "://user:hush@")
    monkeypatch.setenv("REGISTRY", secret)
    monkeypatch.setenv("CLIENT", "kit-of-tests")
    [number] = registered(registry, "login-value", "AVRO", FIRST)
    topic = broker.topic(records=[avro(number, FIRST, id=1, gone=None)])
    option = "kafka.client.id=env:CLIENT"
    shown, rows = looked_into(
        topic, "--registry", "env:REGISTRY", "--option", option, "--records", "1"
    )
    assert 'os.environ["REGISTRY"]' in shown.out
    assert '"kafka.client.id": os.environ["CLIENT"]' in shown.out
    assert "hush" not in shown.out + shown.err
    assert rows.select("id").collect() == [(1,)]
