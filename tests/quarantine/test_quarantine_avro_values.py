"""Records of Avro without Spark: each value for a column's type, and where a schema comes from."""

import io
import json
import math
import re
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit.connectors._registry import avros
from sparkstream_kit.connectors._registry.client import Reference, Schema
from sparkstream_kit.quarantine import avro
from sparkstream_kit.quarantine.avro import Decoder, Folder, in_folder
from sparkstream_kit.quarantine.decoded import UnfitError

INT, LONG, TEXT = T.IntegerType(), T.LongType(), T.StringType()
UNFIT = "does not fit"
UTC_NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
NOON = datetime(2024, 2, 29, 12)  # noqa: DTZ001 - without a zone
UID = uuid.UUID("12345678-1234-5678-1234-567812345678")


def struct_of(**kinds):
    return T.StructType([T.StructField(name, *kind) for name, kind in kinds.items()])


# A type, and pairs of a value as fastavro reads it and what becomes of it.
VALUES: dict[str, tuple[T.DataType, list[tuple[Any, Any]]]] = {
    "a byte": (T.ByteType(), [(127, 127), (128, UNFIT), (-128, -128), (-129, UNFIT)]),
    "a short": (T.ShortType(), [(32767, 32767), (32768, UNFIT), (-32768, -32768)]),
    "an int": (
        INT,
        [
            (2**31 - 1, 2**31 - 1), (2**31, UNFIT), (-(2**31), -(2**31)),
            (-(2**31) - 1, UNFIT), (1.0, UNFIT), (True, UNFIT), ("1", UNFIT),
            (Decimal(1), UNFIT), (None, None),
        ],
    ),
    "a bigint": (LONG, [(2**63 - 1, 2**63 - 1), (2**63, UNFIT), (-(2**63), -(2**63))]),
    "a decimal": (
        T.DecimalType(5, 2),
        [
            (7, Decimal("7.00")), (Decimal("7.5"), Decimal("7.50")),
            (Decimal("7.5000"), Decimal("7.50")), (Decimal("7.505"), UNFIT),
            (Decimal("-999.99"), Decimal("-999.99")), (Decimal(1000), UNFIT),
            (1000, UNFIT), (10**200, UNFIT), (0.5, UNFIT), (Decimal("inf"), UNFIT),
            (Decimal("nan"), UNFIT), ("7", UNFIT), (True, UNFIT),
        ],
    ),
    "a decimal without digits after the point": (
        T.DecimalType(38, 0), [(10**38 - 1, Decimal(10**38 - 1)), (10**38, UNFIT)],
    ),
    "a double": (
        T.DoubleType(),
        [
            (0.1, 0.1), (2**53, float(2**53)), (2**53 + 1, UNFIT), (10**400, UNFIT),
            (math.inf, math.inf), (-math.inf, -math.inf), (True, UNFIT), ("1", UNFIT),
            (Decimal(1), UNFIT),
        ],
    ),
    "a float": (
        T.FloatType(),
        [
            (0.5, 0.5), (0.1, 0.10000000149011612), (2**24, float(2**24)),
            (2**24 + 1, UNFIT), (3.4028234663852886e38, 3.4028234663852886e38),
            (3.40282357e38, UNFIT), (1e39, UNFIT), (-1e39, UNFIT), (math.inf, math.inf),
            (10**400, UNFIT),
        ],
    ),
    "a timestamp": (
        T.TimestampType(), [(UTC_NOON, UTC_NOON), (NOON, UNFIT), (1, UNFIT)],
    ),
    "a timestamp without a zone": (
        T.TimestampNTZType(), [(NOON, NOON), (UTC_NOON, UNFIT), ("2024", UNFIT)],
    ),
    "a date": (T.DateType(), [(date(2024, 2, 29), date(2024, 2, 29)), (NOON, UNFIT)]),
    "a text": (TEXT, [("ü\0", "ü\0"), (UID, str(UID)), (b"a", UNFIT), (1, UNFIT)]),
    "bytes": (T.BinaryType(), [(b"\0\xff", b"\0\xff"), ("a", UNFIT)]),
    "a boolean": (T.BooleanType(), [(False, False), (1, UNFIT)]),
    "an array": (
        T.ArrayType(INT), [([], []), ([1, None], [1, None]), ([2**31], UNFIT),
                           ((1,), UNFIT), ({}, UNFIT)],
    ),
    "an array without nulls": (
        T.ArrayType(INT, containsNull=False), [([1], [1]), ([1, None], UNFIT)],
    ),
    "a map": (
        T.MapType(TEXT, INT), [({}, {}), ({"a": None}, {"a": None}), ([], UNFIT),
                               ({"a": "1"}, UNFIT)],
    ),
    "a map without nulls": (
        T.MapType(TEXT, INT, valueContainsNull=False),
        [({"a": 1}, {"a": 1}), ({"a": None}, UNFIT)],
    ),
    "a struct": (
        struct_of(x=(INT, False), y=(T.ArrayType(LONG), True)),
        [
            ({"x": 1, "y": [2], "z": 3}, {"x": 1, "y": [2]}),
            ({"x": 1}, {"x": 1, "y": None}),
            ({"y": [2]}, UNFIT), ({"x": None}, UNFIT), ({"x": 1, "y": ["2"]}, UNFIT),
            ([], UNFIT),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_a_value_fits_its_column_exactly_or_not_at_all(case):
    kind, pairs = VALUES[case]
    for given, expected in pairs:
        if expected is UNFIT:
            with pytest.raises(UnfitError):
                avro._fitted(given, kind)  # noqa: SLF001
        else:
            found = avro._fitted(given, kind)  # noqa: SLF001
            # A bool is an int, and 7 is equal to Decimal("7.00")
            assert (repr(found), type(found)) == (repr(expected), type(expected))


def test_what_is_no_number_stays_so_in_a_column_of_floats():
    for kind in (T.FloatType(), T.DoubleType()):
        assert math.isnan(avro._fitted(math.nan, kind))  # noqa: SLF001


# --- records

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": ["null", "long"]},
        {"name": "shop", "type": "string"},
    ],
}
NOTHING = {"type": "record", "name": "Nothing", "fields": []}
KNOWN = {
    7: json.dumps(ORDER),
    8: '"long"',
    9: json.dumps(NOTHING),
    10: '{"type": "other.Type"}',
    2**24: json.dumps(ORDER),
}


def record(value, schema=ORDER, number=7):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


NORTH = record({"id": 5, "shop": "north"})
NONE = (None, None)
RECORDS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "a record": (NORTH, ("north", 5, None)),
    "a record in a bytearray": (bytearray(NORTH), ("north", 5, None)),
    "of another schema, as long as its header": (
        record({}, NOTHING, 9),
        (None, None, "id: missing"),
    ),
    "a null": (record({"id": None, "shop": "x"}), (*NONE, "id: missing")),
    "too big": (record({"id": 2**31, "shop": "x"}), (*NONE, "id: not an int")),
    "an id of four bytes": (
        record({"id": 5, "shop": "x"}, number=2**24),
        ("x", 5, None),
    ),
    "no value": (None, (*NONE, "no value")),
    "empty": (b"", (*NONE, "not Avro with a schema id")),
    "too short": (b"\0\0\0\0", (*NONE, "not Avro with a schema id")),
    "another first byte": (b"\1" + NORTH[1:], (*NONE, "not Avro with a schema id")),
    "an unknown schema": (
        record({"id": 5, "shop": "x"}, number=99),
        (*NONE, "unknown schema id"),
    ),
    "a schema that cannot be read": (
        record({"id": 5, "shop": "x"}, number=10),
        (*NONE, "a schema that cannot be read"),
    ),
    "cut off": (NORTH[:-1], (*NONE, "not valid for its schema")),
    "a byte more": (NORTH + b"\0", (*NONE, "not valid for its schema")),
    "a bare number": (record(5, "long", 8), (*NONE, "not a record with fields")),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_is_its_columns_or_a_reason(case):
    given, expected = RECORDS[case]
    columns = struct_of(shop=(TEXT, True), id=(INT, False))
    decode = Decoder(columns, Folder("here", KNOWN))
    assert decode(given) == expected


def test_a_field_that_a_record_does_not_have_is_null():
    decode = Decoder(struct_of(more=(INT, True)), Folder("here", KNOWN))
    assert decode(NORTH) == (None, None)


# --- schemas


def test_a_folder_gives_its_schemas_by_the_numbers_of_their_files(tmp_path):
    for name, schema in {"7.avsc": ORDER, "08.avsc": "long"}.items():
        (tmp_path / name).write_text(json.dumps(schema))
    for name in ("order.avsc", "\u00b2.avsc", "9.txt"):
        (tmp_path / name).write_text("no schema")
    found = in_folder(tmp_path)
    assert found.known == {7: json.dumps(ORDER), 8: '"long"'}
    assert re.fullmatch("[0-9a-f]{64}", found.digest)
    assert in_folder(tmp_path) == found
    (tmp_path / "9.avsc").write_text('"int"')
    assert in_folder(tmp_path) != found


def test_a_folder_without_schemas_is_refused(tmp_path):
    missing = tmp_path / "none"
    assert refusal(in_folder, missing) == (
        f"schemas {missing}: there is no such folder; create it or correct the path"
    )
    (tmp_path / "order.avsc").write_text('"long"')
    assert refusal(in_folder, tmp_path) == (
        f"schemas {tmp_path}: no file there is named by the id of its schema;"
        " name them 7.avsc and the like"
    )
    wrong = {
        "": "Expecting value: line 1 column 1 (char 0)",
        "{}": "'type'",
        "[1]": "argument of type 'int' is not iterable",
        '"other.Type"': "other.Type",
        '{"type": "record", "name": "R", "fields": [{"name": "a"}]}': (
            "Record field 'a' is missing 'type'"
        ),
    }
    file = tmp_path / "7.avsc"
    for text, why in wrong.items():
        file.write_text(text)
        said = f"schema {file} cannot be read: {why}; correct the file"
        assert refusal(in_folder, tmp_path) == said


def test_a_schema_that_refers_to_others_is_whole(monkeypatch):
    """Each type is where it comes first, as if one had written them all into one schema."""
    place = {
        "type": "record",
        "name": "a.Place",
        "fields": [{"name": "x", "type": "int"}],
    }
    shop = {
        "type": "record",
        "name": "a.Shop",
        "fields": [{"name": "at", "type": "Place"}, {"name": "was", "type": "Place"}],
    }
    of_place = Reference("a.Place", "place", 1, Schema("AVRO", json.dumps(place)))
    of_shop = Reference(
        "a.Shop", "shop", 1, Schema("AVRO", json.dumps(shop), (of_place,))
    )
    sale = {
        "type": "record",
        "name": "Sale",
        "fields": [
            {"name": "shops", "type": {"type": "array", "items": "a.Shop"}},
            {"name": "place", "type": ["null", "a.Place"]},
        ],
    }
    value: dict[str, Any] = {
        "shops": [{"at": {"x": 1}, "was": {"x": 2}}],
        "place": {"x": 3},
    }
    text = json.dumps(sale).replace('"a.Shop"', json.dumps(shop), 1)
    whole: dict[str, Any] = json.loads(text)
    inner = whole["fields"][0]["type"]["items"]["fields"]
    inner[0]["type"] = place
    schema = Schema("AVRO", json.dumps(sale), (of_shop, of_place))
    either = Schema("AVRO", '["a.Place", "a.Shop"]', (of_place, of_shop))
    both = [place, shop]
    one = struct_of(x=(INT, True))
    decode = Decoder(
        struct_of(x=(INT, True), place=(one, True), was=(one, True)),
        Folder("here", {}),
    )
    cases = [
        (record(value, whole, 7), (None, {"x": 3}, None, None)),
        (record(value["shops"][0], both, 8), (None, None, {"x": 2}, None)),
    ]
    found = {7: schema, 8: either}
    monkeypatch.setattr(Folder, "schema", lambda _, number: found[number])
    for given, expected in cases:
        assert decode(given) == expected


@pytest.mark.parametrize(
    "schema",
    [
        Schema("PROTOBUF", "message M {}"),
        Schema("AVRO", "other.Type"),
        Schema(
            "AVRO", '"M"', (Reference("M", "m", 1, Schema("PROTOBUF", "message M {}")),)
        ),
    ],
    ids=["not Avro", "of an unknown type", "that refers to what is not Avro"],
)
def test_a_schema_that_cannot_be_read_makes_records_bad(schema, monkeypatch):
    monkeypatch.setattr(Folder, "schema", lambda *_: schema)
    why = avro.schema_by_id(7, Folder("here", {}))
    assert why == (None, "a schema that cannot be read")


def test_that_an_id_is_unknown_is_not_kept():
    known: dict[int, str] = {}
    folder = Folder("here", known)
    assert avro.schema_by_id(7, folder) == (None, "unknown schema id")
    known[7] = '"long"'
    assert avro.schema_by_id(7, folder) == (fastavro.parse_schema("long"), None)


def test_the_same_id_in_another_place_is_another_schema():
    first, second = Folder("a", {7: "long"}), Folder("b", {7: "int"})
    assert avro.schema_by_id(7, first)[0] == fastavro.parse_schema("long")
    assert avro.schema_by_id(7, second)[0] == fastavro.parse_schema("int")


def test_a_schema_is_parsed_once(monkeypatch):
    parsed = []

    def counted(schema):
        parsed.append(schema.text)
        return avros.whole(schema)

    monkeypatch.setattr(avro, "whole", counted)
    folder = Folder("once", {7: '"long"', 8: '"nothing"'})
    for number in (7, 8, 7, 8):
        avro.schema_by_id(number, folder)
    assert parsed == ['"long"', '"nothing"']
