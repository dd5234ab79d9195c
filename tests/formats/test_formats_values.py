"""Avro of any columns, without Spark: what fastavro reads is what the columns held."""

import datetime as dt
import io
import json
import struct
from decimal import Decimal

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import types as T

from sparkstream_kit.connectors._registry import avros
from sparkstream_kit.connectors._registry.client import Reference, Schema
from sparkstream_kit.errors import KitError
from sparkstream_kit.formats import avro_records as of_avro

NUMBER = 7


def whole(bits):
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@st.composite
def decimals(draw):
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    digits = st.integers(-(10**precision) + 1, 10**precision - 1)
    values = digits.map(lambda number: Decimal(number).scaleb(-scale))
    return T.DecimalType(precision, scale), values


# Each a type of Spark, and a strategy of its values
PLAIN = st.one_of(
    decimals(),
    st.sampled_from(
        [
            (T.BooleanType(), st.booleans()),
            (T.ByteType(), whole(8)),
            (T.ShortType(), whole(16)),
            (T.IntegerType(), whole(32)),
            (T.LongType(), whole(64)),
            (T.FloatType(), st.floats(width=32, allow_nan=False)),
            (T.DoubleType(), st.floats(allow_nan=False)),
            (T.StringType(), st.text(max_size=5)),
            (T.BinaryType(), st.binary(max_size=5)),
            (T.DateType(), st.dates()),
            (T.TimestampType(), st.datetimes(timezones=st.just(dt.UTC))),
            (T.TimestampNTZType(), st.datetimes()),
        ]
    ),
)


def arrays(inner):
    kind, values = inner
    return T.ArrayType(kind), st.lists(st.none() | values, max_size=3)


def maps(inner):
    kind, values = inner
    keys = st.text(max_size=3)
    return (
        T.MapType(T.StringType(), kind),
        st.dictionaries(keys, st.none() | values, max_size=3),
    )


def structs(inner):
    fields = T.StructType()
    values = {}
    for number, (kind, value, nullable) in enumerate(inner):
        fields.add(f"f{number}", kind, nullable)
        values[f"f{number}"] = st.none() | value if nullable else value
    return fields, st.fixed_dictionaries(values)


def records(inner):
    fields = st.tuples(inner, st.booleans()).map(lambda each: (*each[0], each[1]))
    return st.lists(fields, min_size=1, max_size=4).map(structs)


ROWS = records(
    st.recursive(
        PLAIN,
        lambda inner: st.one_of(inner.map(arrays), inner.map(maps), records(inner)),
        max_leaves=6,
    )
).flatmap(
    lambda found: st.tuples(
        st.just(found[0]), st.lists(found[1], min_size=1, max_size=4)
    )
)


ARROW = {
    T.BooleanType: pa.bool_(),
    T.ByteType: pa.int8(),
    T.ShortType: pa.int16(),
    T.IntegerType: pa.int32(),
    T.LongType: pa.int64(),
    T.FloatType: pa.float32(),
    T.DoubleType: pa.float64(),
    T.StringType: pa.string(),
    T.BinaryType: pa.binary(),
    T.DateType: pa.date32(),
    T.TimestampType: pa.timestamp("us", "UTC"),
    T.TimestampNTZType: pa.timestamp("us"),
}


def arrow_type(kind):
    """Return the type that Spark gives to Arrow for one of its own."""
    if isinstance(kind, T.StructType):
        return pa.struct([(each.name, arrow_type(each.dataType)) for each in kind])
    if isinstance(kind, T.ArrayType):
        return pa.list_(arrow_type(kind.elementType))
    if isinstance(kind, T.MapType):
        return pa.map_(arrow_type(kind.keyType), arrow_type(kind.valueType))
    if isinstance(kind, T.DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    return ARROW[type(kind)]


def array_of(rows, kind):
    return pa.array([_as_arrow(row, kind) for row in rows], arrow_type(kind))


def _as_arrow(value, kind):
    if value is None:
        return None
    if isinstance(kind, T.StructType):
        return {each.name: _as_arrow(value[each.name], each.dataType) for each in kind}
    if isinstance(kind, T.ArrayType):
        return [_as_arrow(each, kind.elementType) for each in value]
    if isinstance(kind, T.MapType):
        return [(key, _as_arrow(each, kind.valueType)) for key, each in value.items()]
    return value


def read(record, text):
    assert record[:5] == struct.pack(">bI", 0, NUMBER)
    rest = io.BytesIO(record[5:])
    value = fastavro.schemaless_reader(rest, json.loads(text), None)
    assert rest.read() == b""
    return value


@given(ROWS)
@settings(deadline=None, max_examples=20)
def test_what_is_read_is_what_the_columns_held(found):
    kind, rows = found
    text = json.dumps(of_avro.schema_of(kind, "shop.Row"))
    of_avro.check_fits(of_avro.parsed(text), kind)
    encoder = of_avro.Encoder(NUMBER, text)
    values = array_of([*rows, None], kind)
    for first in (0, 1):  # Arrow's arrays are often parts of others
        encoded = encoder(values.slice(first)).to_pylist()
        assert encoded.pop() is None
        assert [read(each, text) for each in encoded] == rows[first:]


LOCAL = "local-timestamp-micros"
STAMP = {
    "type": "record",
    "name": "shop.Stamp",
    "fields": [{"name": "at", "type": {"type": "long", "logicalType": LOCAL}}],
}
TWICE = {
    "type": "record",
    "name": "shop.Row",
    "fields": [
        {"name": "sent", "type": STAMP},
        {"name": "paid", "type": ["null", "shop.Stamp"]},
        {"name": "seen", "type": {"type": "array", "items": "shop.Stamp"}},
    ],
}


@pytest.mark.parametrize("where", ["inside", "referred to"])
def test_a_type_that_a_schema_names_twice_is_written(where):
    schema = Schema("AVRO", json.dumps(TWICE))
    if where == "referred to":
        other = Reference("shop.Stamp", "s", 1, Schema("AVRO", json.dumps(STAMP)))
        named = json.loads(schema.text)
        named["fields"][0]["type"] = "shop.Stamp"
        schema = Schema("AVRO", json.dumps(named), (other,))
    stamp = T.StructType().add("at", T.TimestampNTZType(), nullable=False)
    kind = T.StructType().add("sent", stamp, nullable=False).add("paid", stamp)
    kind = kind.add("seen", T.ArrayType(stamp, False), nullable=False)
    text = avros.text_of(avros.whole(schema))
    of_avro.check_fits(of_avro.parsed(text), kind)
    first = {"at": dt.datetime.fromisoformat("2026-01-14T09:00:00")}
    second = {"at": dt.datetime.fromisoformat("2026-01-14T10:00:00")}
    row = {"sent": first, "paid": second, "seen": [second, first]}
    [record] = of_avro.Encoder(NUMBER, text)(array_of([row], kind)).to_pylist()
    assert read(record, json.dumps(TWICE)) == row


def test_what_is_not_exact_is_refused():
    text = '{"type": "long", "logicalType": "timestamp-millis"}'
    encoder = of_avro.Encoder(NUMBER, text)
    kind = pa.timestamp("us", "UTC")
    assert encoder(pa.array([5000], kind)).to_pylist() == [b"\0\0\0\0\7\n"]
    with pytest.raises(KitError, match="does not fit schema 7"):
        encoder(pa.array([5001], kind))
    colour = '{"type": "enum", "name": "Colour", "symbols": ["RED"]}'
    encoder = of_avro.Encoder(NUMBER, colour)
    assert encoder(pa.array(["RED"])).to_pylist() == [b"\0\0\0\0\7\0"]
    with pytest.raises(KitError, match="does not fit schema 7"):
        encoder(pa.array(["BLUE"]))


def test_text_that_is_not_utf8_is_refused():
    bad = pa.array([b"\xff"], pa.binary()).view(pa.string())
    with pytest.raises(KitError, match="does not fit schema 7"):
        of_avro.Encoder(NUMBER, '"string"')(bad)
