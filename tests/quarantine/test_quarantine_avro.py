"""Records of Avro: what is good, what is bad and why, and where their schemas come from."""

import io
import json
import random
import re
import sys
import threading
import uuid
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import pytest
from conftest import refusal

from sparkstream_kit.errors import MissingExtraError, innermost_cause
from sparkstream_kit.quarantine import bad_rows, good_rows, parse_avro
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.schemas import registry as schema_registry


def field(name, kind):
    return {"name": name, "type": ["null", kind], "default": None}


def logical(kind, name, **more):
    return {"type": kind, "logicalType": name, **more}


WRITTEN = {
    "type": "record",
    "name": "Payment",
    "fields": [
        {"name": "id", "type": "long"},
        field("amount", logical("bytes", "decimal", precision=20, scale=4)),
        field("share", "double"),
        field("ratio", "double"),
        field("paid", "boolean"),
        field("name", "string"),
        field("raw", "bytes"),
        field("kind", {"type": "enum", "name": "Kind", "symbols": ["CARD", "CASH"]}),
        field("uid", logical("string", "uuid")),
        field("day", logical("int", "date")),
        field("at", logical("long", "timestamp-micros")),
        field("here", logical("long", "local-timestamp-millis")),
        field("prices", {"type": "array", "items": ["null", "long"]}),
        field("counts", {"type": "map", "values": "int"}),
        field(
            "place",
            {
                "type": "record",
                "name": "Place",
                "fields": [field("x", "int"), field("n", "long")],
            },
        ),
        field("unread", "string"),
    ],
}
OTHER = {
    "type": "record",
    "name": "Other",
    "fields": [field("id", "string"), field("amount", "double")],
}
PAYMENTS = """id INT NOT NULL, amount DECIMAL(5,2), share DOUBLE, ratio FLOAT,
    paid BOOLEAN, name STRING, raw BINARY, kind STRING, uid STRING, day DATE,
    at TIMESTAMP, here TIMESTAMP_NTZ, prices ARRAY<BIGINT>, counts MAP<STRING, INT>,
    place STRUCT<x: INT NOT NULL, n: BIGINT>"""
UID = uuid.UUID("12345678-1234-5678-1234-567812345678")
WHEN = datetime(2024, 2, 29, 10, 0, 0, 123456)  # noqa: DTZ001 - as PySpark gives it
GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"id": 1}, {}),
    ({"id": 1, "unread": "x", "share": 1.5}, {"share": 1.5}),
    ({"id": 2**31 - 1, "amount": Decimal("7.5")}, {"amount": Decimal("7.50")}),
    ({"id": 1, "amount": Decimal("-999.9900")}, {"amount": Decimal("-999.99")}),
    ({"id": 1, "share": 0.1, "ratio": 0.5}, {"share": 0.1, "ratio": 0.5}),
    (
        {"id": 1, "paid": False, "name": "Zürich 東\0", "raw": b"\0\xff"},
        {"paid": False, "raw": b"\0\xff"},
    ),
    ({"id": 1, "kind": "CASH", "uid": UID}, {"kind": "CASH", "uid": str(UID)}),
    ({"id": 1, "day": date(2024, 2, 29)}, {"day": date(2024, 2, 29)}),
    ({"id": 1, "at": WHEN.replace(tzinfo=UTC)}, {"at": WHEN}),
    (
        {"id": 1, "here": WHEN.replace(microsecond=5000)},
        {"here": WHEN.replace(microsecond=5000)},
    ),
    (
        {"id": 1, "prices": [1, None], "counts": {"a": 3}},
        {"prices": [1, None], "counts": {"a": 3}},
    ),
    ({"id": 1, "place": {"x": 1}}, {"place": (1, None)}),
]
UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"id": 2**31}, "id: not an int"),
    ({"id": 1, "amount": Decimal("7.505")}, "amount: not a decimal(5,2)"),
    ({"id": 1, "amount": Decimal(1000)}, "amount: not a decimal(5,2)"),
    ({"id": 1, "ratio": 1e39}, "ratio: not a float"),
    ({"id": 1, "place": {"n": 1}}, "place: not a struct<x:int,n:bigint>"),
]


def record(value, schema=WRITTEN, number=7):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


BAD: list[tuple[bytes | None, str]] = [
    *((record(value), reason) for value, reason in UNFIT),
    (record({"id": "1"}, OTHER, 8), "id: not an int"),  # fields are read by name
    (record({"amount": 1.5}, OTHER, 8), "id: missing"),
    (None, "no value"),
    (b"\0\0\0\0", "not Avro with a schema id"),
    (b"\1" + record({"id": 1})[1:], "not Avro with a schema id"),
    (b'{"id": 1}', "not Avro with a schema id"),
    (record({"id": 1}, number=99), "unknown schema id"),
    (record({"id": 1})[:-1], "not valid for its schema"),
    (record({"id": 1}) + b"\0", "not valid for its schema"),
    (record(5, {"type": "long"}, 9), "not a record with fields"),
]


@pytest.fixture
def folder(tmp_path):
    for number, schema in {7: WRITTEN, 8: OTHER, 9: "long"}.items():
        (tmp_path / f"{number}.avsc").write_text(json.dumps(schema))
    (tmp_path / "payment.avsc").write_text("its name is no id")
    return tmp_path


def frame(spark, *records):
    rows = [
        (bytearray(each) if each is not None else None, n)
        for n, each in enumerate(records)
    ]
    return spark.createDataFrame(rows, "value BINARY, offset INT")


@pytest.mark.slow
@pytest.mark.connect
def test_good_records_are_rows_with_typed_columns(spark, folder):
    rows = parse_avro(
        frame(spark, *(record(value) for value, _ in GOOD)),
        from_ddl(PAYMENTS),
        schemas=folder,
    )
    assert rows.where("_reason IS NOT NULL OR contains(_raw, '\\0')").collect() == []
    found = good_rows(rows)
    assert found.drop("offset").schema == from_ddl(PAYMENTS.replace(" NOT NULL", "", 1))
    for row, (written, expected) in zip(
        found.orderBy("offset").collect(), GOOD, strict=True
    ):
        assert row["id"] == written["id"]
        assert row["name"] == written.get("name")
        assert {name: row[name] for name in expected} == expected


@pytest.mark.slow
@pytest.mark.connect
def test_bad_records_keep_their_bytes_and_say_why(spark, folder):
    rows = parse_avro(
        frame(spark, *(each for each, _ in BAD)), from_ddl(PAYMENTS), schemas=folder
    )
    assert good_rows(rows).count() == 0
    assert rows.select("id", "amount").distinct().collect() == [(None, None)]
    found = bad_rows(rows).orderBy("offset").collect()
    assert [row["_reason"] for row in found] == [reason for _, reason in BAD]
    for row, (given, _) in zip(found, BAD, strict=True):
        raw = None if row["_raw"] is None else row["_raw"].encode()
        assert given == (raw if row["_bytes"] is None else row["_bytes"])


class Registry(BaseHTTPRequestHandler):
    """The one call of a schema registry."""

    asked: list[tuple[str, str | None]]
    fails = False

    def do_GET(self):
        self.asked.append((self.path, self.headers["Authorization"]))
        number = int(self.path.removeprefix("/apis/schemas/ids/"))
        answers: dict[int, Any] = {
            7: {"schema": json.dumps(WRITTEN)},
            8: {"schema": json.dumps(OTHER), "schemaType": "AVRO"},
            9: {"schema": '"long"'},
            10: {"schema": "message M {}", "schemaType": "PROTOBUF"},
            11: {
                "schema": json.dumps(
                    {
                        "type": "record",
                        "name": "R",
                        "fields": [field("x", "other.Type")],
                    }
                )
            },
        }
        known = number in answers and not self.fails
        self.send_response(503 if self.fails else 200 if known else 404)
        self.end_headers()
        self.wfile.write(
            json.dumps(answers[number] if known else {"error_code": 40403}).encode()
        )

    def log_message(self, *_):
        pass


@pytest.fixture
def registry(monkeypatch):
    """A registry of this test alone; its `url` is in it."""
    handler = type("Handler", (Registry,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.url = f"http://kit:h%40sh@127.0.0.1:{server.server_port}/apis/"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield handler
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_registry_is_asked_once_for_each_id(spark, registry):
    more = [
        (record({"id": 1}, number=number), "a schema that cannot be read")
        for number in (10, 11)
    ]
    for _ in range(2):  # the second time from what the workers know
        records = frame(
            spark,
            *[record(value) for value, _ in GOOD] * 3,
            *(each for each, _ in BAD + more),
        )
        rows = parse_avro(
            records.coalesce(1), from_ddl(PAYMENTS), registry=registry.url
        )
        found = rows.orderBy("offset").collect()
        reasons = [None] * 3 * len(GOOD) + [reason for _, reason in BAD + more]
        assert [row["_reason"] for row in found] == reasons
    login, asked = "Basic a2l0OmhAc2g=", Counter(registry.asked)
    assert set(asked) == {
        (f"/apis/schemas/ids/{number}", login) for number in (7, 8, 9, 10, 11, 99)
    }
    assert max(asked.values()) <= 2  # a worker or two


@pytest.mark.slow
def test_a_registry_that_fails_ends_the_query_and_its_password_is_nowhere(
    spark, registry, capsys, free_port
):
    registry.fails = True
    for url, said in {
        registry.url: "HTTP Error 503",
        f"http://kit:h%40sh@127.0.0.1:{free_port}": (
            "<urlopen error [Errno 111] Connection refused>"
        ),
    }.items():
        away = schema_registry(url, wait=0)
        rows = parse_avro(
            frame(spark, record({"id": 1})), from_ddl(PAYMENTS), registry=away
        )
        with pytest.raises(Exception, match="schema registry") as raised:
            rows.collect()
        cause = innermost_cause(raised.value)
        assert f"schema registry {away.place} gives no schema 7: {said}" in cause
        rows.explain(True)
        assert "h@sh" not in f"{raised.value}{raised.getrepr()}{capsys.readouterr()}"


@pytest.mark.parametrize(
    ("schema", "given", "message"),
    [
        (
            "id INT",
            {},
            (
                "parse_avro() takes schemas='folder' or registry='http://host:8081';"
                " give one"
            ),
        ),
        (
            "id INT",
            {"schemas": "a", "registry": "http://b"},
            "parse_avro() takes schemas='folder' or",
        ),
        (
            "id INT",
            {"schemas": "/none"},
            "schemas /none: there is no such folder; create it or correct the path",
        ),
        (
            "id INT",
            {"registry": "localhost:8081"},
            "registry 'localhost:8081' is no address, such as http",
        ),
        ("id INT", {"registry": ""}, "registry '' is no address, such as http"),
        (
            "a STRUCT<b: ARRAY<INTERVAL DAY>>",
            {"registry": "http://host"},
            "column a: Avro cannot hold",
        ),
        (
            "_raw INT",
            {"registry": "http://host"},
            "column _raw: the name is taken by the kit; rename",
        ),
    ],
)
def test_what_cannot_be_is_one_line(spark, schema, given, message):
    assert refusal(parse_avro, frame(spark, b""), from_ddl(schema), **given).startswith(
        message
    )


def test_files_that_are_no_schemas_and_text_are_one_line(spark, tmp_path):
    def said(records):
        return refusal(parse_avro, records, from_ddl("id INT"), schemas=tmp_path)

    record_of_none = frame(spark, b"")
    (tmp_path / "payment.avsc").write_text('"long"')
    assert "no file there is named by the id of its schema; name them" in said(
        record_of_none
    )
    for text in ("", "{}", '{"type": "record"}', '"other.Type"', "[1]"):
        (tmp_path / "1.avsc").write_text(text)
        assert re.search(
            r"schema .*/1\.avsc cannot be read: .*; correct the file",
            said(record_of_none),
        )
    text = spark.createDataFrame([("a",)], "value STRING")
    assert "reads the first column, and value is string, not binary" in said(text)


def test_the_record_is_the_first_column_or_the_value_of_kafka(spark, folder):
    def columns_of(ddl):
        records = spark.createDataFrame([], ddl)
        return parse_avro(records, "id INT", schemas=folder).columns

    added = ["id", "_reason", "_raw", "_bytes", "_file"]
    assert columns_of("record BINARY, n INT") == [*added, "n"]
    assert columns_of("key BINARY, n STRING") == [*added, "n"]
    assert columns_of("key STRING, value BINARY") == [*added, "key"]
    assert columns_of("key INT, value BINARY, topic STRING") == [*added, "key", "topic"]
    assert "value is string, not binary" in refusal(
        columns_of, "key BINARY, value STRING"
    )
    assert "n is int, not binary" in refusal(columns_of, "n INT, value BINARY")


def test_without_fastavro_one_line_says_what_to_install(spark, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(
        MissingExtraError, match=r"pip install 'sparkstream-kit\[avro\]'"
    ):
        parse_avro(frame(spark, b""), from_ddl("id INT"), schemas=folder)


def test_fields_are_read_by_name_and_one_that_the_writer_lacks_is_null(spark, folder):
    written = frame(spark, record({"id": "1", "amount": 1.5}, OTHER, 8))
    rows = parse_avro(written, "share DOUBLE, amount DOUBLE", schemas=folder)
    assert rows.select("share", "amount", "_reason").collect() == [(None, 1.5, None)]


def test_whatever_the_bytes_are_a_record_is_one_row(spark, folder):
    pick, whole = (
        random.Random(5),  # noqa: S311
        record(GOOD[5][0] | {"prices": [1, 2], "counts": {"a": 1}}),
    )
    damaged = []
    for _ in range(500):
        some = bytearray(whole)
        for _ in range(pick.randint(1, 4)):
            some[pick.randrange(5, len(some))] = pick.randrange(256)
        damaged.append(
            bytes(some[: pick.choice([len(some), pick.randrange(len(some))])])
        )
    rows = parse_avro(
        frame(spark, *damaged), from_ddl(PAYMENTS), schemas=folder
    ).collect()
    assert sorted(row["offset"] for row in rows) == list(range(500))
    reasons = Counter(row["_reason"] for row in rows)
    assert reasons["not valid for its schema"] > 100, reasons
