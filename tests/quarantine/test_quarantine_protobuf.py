"""Records of Protobuf: each kind of field, what is bad and why, and the schemas of a registry."""

import json
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit import schemas
from sparkstream_kit.connectors._registry import protos
from sparkstream_kit.connectors._registry.client import Reference, Registry, Schema
from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.quarantine import bad_rows, good_rows, parse_protobuf, protobuf
from sparkstream_kit.quarantine.protobuf import Decoder

PLACE = """syntax = "proto3"; package shop;
message Place { int32 x = 1; optional int64 n = 2; }"""
ORDER = """syntax = "proto3"; package shop;
import "shop/place.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Refund { message Line { string why = 1; } int64 id = 1; }
enum State { NEW = 0; PAID = 1; }
message Order {
  int64 id = 1; optional int64 maybe = 2; uint64 big = 3; float ratio = 4;
  double share = 5; bool paid = 6; string name = 7; bytes raw = 8; State state = 9;
  repeated int32 prices = 10; map<string, int32> counts = 11; map<int64, Place> places = 12;
  Place place = 13;
  oneof how { string card = 14; int32 cash = 15; }
  google.protobuf.Timestamp at = 16; google.protobuf.Duration took = 17;
  google.protobuf.Int64Value score = 18; google.protobuf.Struct more = 19;
  repeated State states = 20; string unread = 21;
}"""
OLD = """syntax = "proto2"; package shop;
enum Kind { A = 0; B = 1; }
message Old { required int32 id = 1; optional int32 size = 2 [default = 5];
  optional int32 depth = 3; optional Kind kind = 4;
  map<string, Kind> kinds = 5; }"""
ORDERS = """id BIGINT, maybe INT, big BIGINT, ratio FLOAT, share DOUBLE, paid BOOLEAN,
    name STRING, raw BINARY, state STRING, prices ARRAY<INT>, counts MAP<STRING, INT>,
    places MAP<BIGINT, STRUCT<x: INT>>, place STRUCT<x: INT, n: BIGINT>, card STRING,
    cash INT, at TIMESTAMP, took INTERVAL DAY TO SECOND, score BIGINT, more STRING,
    states ARRAY<STRING>"""
WITH_PLACE = (Reference("shop/place.proto", "place", 1, Schema("PROTOBUF", PLACE)),)
SCHEMA = Schema("PROTOBUF", ORDER, WITH_PLACE)
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def descriptor():
    return protos.compiled(SCHEMA)


@pytest.fixture(scope="module")
def messages(descriptor):
    return protos.Messages(descriptor)


@pytest.fixture(scope="module")
def old():
    return protos.compiled(Schema("PROTOBUF", OLD))


def one(name, kind, nullable=True):
    return T.StructType([T.StructField(name, kind, nullable)])


INT, LONG, TEXT = T.IntegerType(), T.LongType(), T.StringType()
X = one("x", INT)
# A column, what fills the message, and the value of the column or the reason
FIELDS: dict[str, tuple[str, T.DataType, Any, Any]] = {
    "an integer": ("id", LONG, {"id": 5}, 5),
    "one that is not set": ("id", LONG, {}, 0),
    "in a decimal": ("id", T.DecimalType(5, 2), {"id": 5}, Decimal("5.00")),
    "too big": ("id", INT, {"id": 2**31}, "id: not an int"),
    "without a sign": ("big", LONG, {"big": 2**63 - 1}, 2**63 - 1),
    "without a sign, too big": ("big", LONG, {"big": 2**63}, "big: not a bigint"),
    "optional": ("maybe", INT, {"maybe": 0}, 0),
    "optional, not set": ("maybe", INT, {}, None),
    "a float": ("ratio", T.FloatType(), {"ratio": 0.5}, 0.5),
    "a double": ("share", T.DoubleType(), {"share": 0.1}, 0.1),
    "a bool": ("paid", T.BooleanType(), {"paid": True}, True),
    "a text": ("name", TEXT, {"name": "Zürich 東"}, "Zürich 東"),
    "a text as a number": ("name", INT, {"name": "5"}, "name: not an int"),
    "bytes": ("raw", T.BinaryType(), {"raw": b"\0\xff"}, b"\0\xff"),
    "an enum": ("state", TEXT, {"state": 1}, "PAID"),
    "an enum, not set": ("state", TEXT, {}, "NEW"),
    "an enum's number": ("state", INT, {"state": 1}, 1),
    "an unknown enum value": (
        "state",
        TEXT,
        {"state": 7},
        "state: unknown enum value 7",
    ),
    "the number of one": ("state", INT, {"state": 7}, 7),
    "among others": (
        "states",
        T.ArrayType(TEXT),
        {"states": [0, 7]},
        "states: unknown enum value 7",
    ),
    "repeated": ("prices", T.ArrayType(INT), {"prices": [1, 2]}, [1, 2]),
    "repeated, none": ("prices", T.ArrayType(INT), {}, []),
    "repeated, for one": ("prices", INT, {"prices": [1]}, "prices: not an int"),
    "one, for several": ("id", T.ArrayType(INT), {}, "id: not an array<int>"),
    "a map": ("counts", T.MapType(TEXT, INT), {"counts": {"a": 1}}, {"a": 1}),
    "a map of messages": (
        "places",
        T.MapType(LONG, X),
        {"places": {3: {"x": 1}}},
        {3: {"x": 1}},
    ),
    "a map for a list": ("counts", T.ArrayType(INT), {}, "counts: not an array<int>"),
    "an imported message": ("place", X, {"place": {"x": 1}}, {"x": 1}),
    "one that is empty": ("place", one("n", LONG), {"place": {}}, {"n": None}),
    "one with a column that is missing": (
        "place",
        one("n", LONG, nullable=False),
        {"place": {}},
        "place: not a struct<n:bigint>",
    ),
    "a message that is not set": ("place", X, {}, None),
    "a message as a text": ("place", TEXT, {"place": {}}, "place: not a string"),
    "of a oneof": ("cash", INT, {"cash": 0}, 0),
    "the other of it": ("card", TEXT, {"cash": 0}, None),
    "a time": ("at", T.TimestampType(), {"at": {"seconds": 1709208000}}, NOON),
    "before 1970": (
        "at",
        T.TimestampType(),
        {"at": {"seconds": -1, "nanos": 5000}},
        datetime(1969, 12, 31, 23, 59, 59, 5, tzinfo=UTC),
    ),
    "too fine a time": (
        "at",
        T.TimestampType(),
        {"at": {"nanos": 1}},
        "at: not a timestamp",
    ),
    "too late a time": (
        "at",
        T.TimestampType(),
        {"at": {"seconds": 2**40}},
        "at: not a timestamp",
    ),
    "a time as its parts": (
        "at",
        one("nanos", INT),
        {"at": {"nanos": 1}},
        {"nanos": 1},
    ),
    "a duration": (
        "took",
        T.DayTimeIntervalType(),
        {"took": {"seconds": -1, "nanos": -500_000_000}},
        timedelta(seconds=-1.5),
    ),
    "a wrapper": ("score", LONG, {"score": {"value": 3}}, 3),
    "an empty wrapper": ("score", LONG, {"score": {}}, 0),
    "no wrapper": ("score", LONG, {}, None),
    "a struct": ("more", TEXT, {"more": {"a": [True]}}, '{"a": [true]}'),
    "not a field": ("color", TEXT, {"id": 5}, None),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_is_its_column_or_a_reason(descriptor, messages, case):
    name, kind, given, expected = FIELDS[case]
    record = messages.of("shop.Order")(**given, unread="x").SerializeToString()
    found = Decoder(one(name, kind), None, descriptor, "shop.Order")(record)
    is_bad = isinstance(expected, str) and expected.startswith(f"{name}: ")
    assert found == ((None, expected) if is_bad else (expected, None))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"\x08\x07", (7, 5, None, None, None)),
        (b"\x08\x07\x10\x00\x20\x01", (7, 0, None, "B", None)),
        (b"\x08\x07\x20\x09", (None, None, None, None, "kind: unknown enum value 9")),
        (b"\x10\x00", (None, None, None, None, "not valid for its schema")),
        (b"", (None, None, None, None, "not valid for its schema")),
        (None, (None, None, None, None, "no value")),
    ],
)
def test_of_proto2_there_are_defaults_and_required_fields(old, record, expected):
    columns = T.StructType()
    for name in ("id", "size", "depth"):
        columns.add(name, INT)
    columns.add("kind", TEXT)
    assert Decoder(columns, None, old, "shop.Old")(record) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (b"\x0a\x01a\x10\x01", ({"a": "B"}, None)),
        (b"\x0a\x01a\x10\x07", (None, "kinds: unknown enum value 7")),
    ],
)
def test_of_proto2_a_map_has_no_unknown_enum_value(old, entry, expected):
    columns = one("kinds", T.MapType(T.StringType(), T.StringType()))
    record = b"\x08\x07\x2a" + bytes([len(entry)]) + entry
    assert Decoder(columns, None, old, "shop.Old")(record) == expected


def header(number, *indexes):
    return b"\0" + number.to_bytes(4, "big") + bytes(indexes)


def known(monkeypatch, **more):
    """Give this process a registry that knows schemas already."""
    found: dict[Any, Schema] = {
        7: SCHEMA,
        8: Schema("AVRO", '"long"'),
        9: Schema("PROTOBUF", "message {"),
        **more,
    }
    monkeypatch.setattr(Registry, "schema", lambda _, number: found.get(number))
    return Registry("http://registry")


HEADED = {
    "the second message": (header(7, 2, 2) + b"\x08\x05", (5, None)),
    "the first one": (header(7, 0) + b"\x08\x05", (5, None)),
    "the first one, counted": (header(7, 2, 0) + b"\x08\x05", (5, None)),
    "one inside of another": (header(7, 4, 0, 0), (None, None)),
    "a message that is not there": (
        header(7, 2, 8),
        (None, "a message that its schema does not have"),
    ),
    "a number below 0": (
        header(7, 2, 1),
        (None, "a message that its schema does not have"),
    ),
    "no indexes": (header(7), (None, "a message that its schema does not have")),
    "half of them": (
        header(7, 4, 0),
        (None, "a message that its schema does not have"),
    ),
    "an endless one": (
        header(7, *[255] * 9),
        (None, "a message that its schema does not have"),
    ),
    "another first byte": (b"\1\0\0\0\7\0", (None, "not Protobuf with a schema id")),
    "too short": (b"\0\0\0\0", (None, "not Protobuf with a schema id")),
    "an unknown schema": (header(99, 0), (None, "unknown schema id")),
    "a schema of Avro": (header(8, 0), (None, "a schema that cannot be read")),
    "a schema that does not compile": (
        header(9, 0),
        (None, "a schema that cannot be read"),
    ),
    "damaged": (header(7, 2, 2) + b"\x08", (None, "not valid for its schema")),
}


@pytest.mark.parametrize("case", HEADED)
def test_a_record_says_its_schema_and_its_message(monkeypatch, case):
    record, expected = HEADED[case]
    decode = Decoder(one("id", LONG), known(monkeypatch))
    assert decode(record) == expected


def test_with_a_name_other_messages_are_bad(monkeypatch):
    decode = Decoder(one("id", LONG), known(monkeypatch), message="shop.Order")
    assert decode(header(7, 2, 2)) == (0, None)
    assert decode(header(7, 0)) == (None, "another message: shop.Refund")


def test_a_schema_is_compiled_once_and_an_unknown_id_is_not_kept(monkeypatch):
    registry = known(monkeypatch)
    first, _ = protobuf._messages(registry, 7)  # noqa: SLF001
    assert first is not None
    assert protobuf._messages(registry, 7)[0] is first  # noqa: SLF001
    assert protobuf._messages(registry, 10) == (None, "unknown schema id")  # noqa: SLF001
    monkeypatch.setattr(Registry, "schema", lambda *_: SCHEMA)
    assert protobuf._messages(registry, 10)[0] is not None  # noqa: SLF001


def test_an_entry_of_a_map_is_no_message(messages):
    order = messages.names().index("shop.Order")
    descriptor = messages.of("shop.Order").DESCRIPTOR
    inner = [each.name for each in descriptor.nested_types]
    refused = []
    for place, name in enumerate(inner):
        try:
            messages.by_index([order, place])
        except LookupError:
            refused.append(name)
    assert sorted(refused) == ["CountsEntry", "PlacesEntry"]


def test_an_import_cannot_write_elsewhere(tmp_path):
    for name in ("../out.proto", f"{tmp_path}/out.proto"):
        bad = Schema(
            "PROTOBUF", PLACE, (Reference(name, "p", 1, Schema("PROTOBUF", PLACE)),)
        )
        with pytest.raises(ValueError, match="is no name of an import"):
            protos.compiled(bad)
    assert list(tmp_path.iterdir()) == []


def test_a_descriptor_may_leave_the_well_known_types_out(descriptor):
    from google.protobuf import descriptor_pb2

    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor)
    own = [file for file in files.file if not file.name.startswith("google/")]
    short = descriptor_pb2.FileDescriptorSet(file=own).SerializeToString()
    decode = Decoder(one("score", LONG), None, short, "shop.Order")
    assert decode(b"\x92\x01\x02\x08\x03") == (3, None)


# --- with Spark


def frame(spark, *records):
    rows = [
        (None if each is None else bytearray(each), n) for n, each in enumerate(records)
    ]
    return spark.createDataFrame(rows, "value BINARY, offset INT")


@pytest.fixture
def file(tmp_path, descriptor):
    path = tmp_path / "orders.desc"
    path.write_bytes(descriptor)
    return path


@pytest.mark.slow
@pytest.mark.connect
def test_plain_records_are_rows_with_typed_columns(spark, file, messages):
    message = messages.of("shop.Order")(
        id=5,
        ratio=0.5,
        raw=b"\xff",
        state=1,
        prices=[1, 2],
        counts={"a": 1},
        places={3: {"x": 1}},
        place={"n": 4},
        cash=3,
        at={"seconds": 1709208000},
        took={"seconds": 90},
        score={"value": 8},
    )
    bad = messages.of("shop.Order")(id=1, state=7)
    given = frame(
        spark, message.SerializeToString(), bad.SerializeToString(), None, b"\xff"
    )
    rows = parse_protobuf(given, ORDERS, descriptor=file, message="shop.Order")
    [row] = good_rows(rows).collect()
    assert row.asDict(recursive=True) == {
        "id": 5,
        "maybe": None,
        "big": 0,
        "ratio": 0.5,
        "share": 0.0,
        "paid": False,
        "name": "",
        "raw": b"\xff",
        "state": "PAID",
        "prices": [1, 2],
        "counts": {"a": 1},
        "places": {3: {"x": 1}},
        "place": {"x": 0, "n": 4},
        "card": None,
        "cash": 3,
        "at": datetime(2024, 2, 29, 12),  # noqa: DTZ001 - as PySpark gives it
        "took": timedelta(seconds=90),
        "score": 8,
        "more": None,
        "states": [],
        "offset": 0,
    }
    found = bad_rows(rows).orderBy("offset").select("_reason").collect()
    assert found == [
        ("state: unknown enum value 7",),
        ("no value",),
        ("not valid for its schema",),
    ]


class Server(BaseHTTPRequestHandler):
    """A registry with one schema, which refers to another."""

    def do_GET(self):
        reference = {"name": "shop/place.proto", "subject": "place", "version": 1}
        answers: dict[str, Any] = {
            "/schemas/ids/7": {"schema": ORDER, "references": [reference]},
            "/subjects/place/versions/1": {"schema": PLACE},
        }
        answer = {**answers[self.path], "schemaType": "PROTOBUF"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_workers_ask_a_registry(spark):
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        registry = schemas.registry(f"http://127.0.0.1:{server.server_port}")
        given = frame(spark, header(7, 2, 2) + b"\x08\x05", b"x")
        rows = parse_protobuf(given, "id BIGINT", registry=registry).orderBy("offset")
        found = rows.select("id", "_reason").collect()
        server.shutdown()
        thread.join()
    assert found == [(5, None), (None, "not Protobuf with a schema id")]


def test_what_cannot_be_is_one_line(spark, file, tmp_path):
    def said(schema="id INT", **given):
        return refusal(parse_protobuf, frame(spark, b""), schema, **given)

    assert said().startswith(
        "parse_protobuf() takes registry='http://host:8081' or desc"
    )
    assert "give one of them" in said(registry="http://a", descriptor=file)
    several = said(descriptor=file)
    assert several.endswith("has the messages shop.Refund, shop.Order; give message=")
    unknown = said(descriptor=file, message="Order")
    assert "has no message Order; known: shop.Refund, shop.Order" in unknown
    assert "No such file or directory: '/none'; make it" in said(descriptor="/none")
    (tmp_path / "no.desc").write_bytes(b"\xff")
    assert "it is no FileDescriptorSet; make it" in said(
        descriptor=tmp_path / "no.desc"
    )
    (tmp_path / "no.desc").write_bytes(b"")
    assert "it has no file; make it" in said(descriptor=tmp_path / "no.desc")
    assert "Protobuf cannot hold map<date,int>" in said(
        "a MAP<DATE, INT>", registry="http://a"
    )
    text = spark.createDataFrame([("a",)], "value STRING")
    assert "parse_protobuf() reads the first column, and value is string" in refusal(
        parse_protobuf, text, "id INT", registry="http://a"
    )


def test_without_protobuf_one_line_says_what_to_install(spark, monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc_tools", None)
    with pytest.raises(MissingExtraError, match=r"sparkstream-kit\[protobuf\]"):
        parse_protobuf(frame(spark, b""), "id INT", registry="http://a")
