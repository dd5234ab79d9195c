"""`sinks.mongodb` without a server: its arguments, columns that it refuses, values as MongoDB has them."""

import datetime as dt
import re
import sys
import time
import traceback
from collections import defaultdict
from decimal import Decimal
from typing import Any

import bson
import pyarrow as pa
import pytest
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from conftest import refusal
from pyspark.sql import types as T
from support import sink_contract

from sparkstream_kit import sinks, start
from sparkstream_kit.connectors.mongodb import collection
from sparkstream_kit.errors import InvalidInputError, MissingExtraError
from sparkstream_kit.sinks.ledger import Batch

pytestmark = pytest.mark.usefixtures("spark")  # Spark reads DDL in its JVM

URL = "mongodb://kit:hush@localhost/shop"
TYPED: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


def parsed(ddl):
    made = T.StructType.fromDDL(ddl)
    assert isinstance(made, T.StructType)
    return made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("postgresql://kit:hush@host/db", "t"), "this is no URL of MongoDB; write mongodb://user@host"),
        (
            ("mongodb://kit:hu/sh@host/shop", "t"),
            "the URL cannot be read; write mongodb://user@host:27017/shop",
        ),
        (("mongodb://host:no/shop", "t"), "the URL cannot be read"),
        (("mongodb://kit:hush@host", "t"), "the URL names no database; write mongodb://host:27017/shop, or"),
        ((URL, "sparkstream_ledger"), "the kit needs the name sparkstream_ledger"),
    ],
)
def test_an_address_that_cannot_be_used(arguments, message):
    with pytest.raises(InvalidInputError) as error:
        sinks.mongodb(*arguments)
    assert message in str(error.value)
    assert "hush" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"how": "replace"}, "unknown way to write (how=) replace; known: append, upsert"),
        ({"how": "upsert"}, "how='upsert' and keys belong together"),
        ({"keys": ["k"]}, "how='upsert' and keys belong together"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    assert message in refusal(sinks.mongodb, URL, "totals", **arguments)


def test_the_password_is_in_no_text_of_the_sink():
    url = "mongodb+srv://kit:hush@cluster.example.org/?tlsCertificateKeyFilePassword=hush"
    for sink in (sinks.mongodb(URL, "t"), sinks.mongodb(url, "t", database="shop")):
        assert "hush" not in repr(sink)
        assert sink.writes_to[0].name.endswith("/shop")


def test_without_pymongo_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sparkstream-kit\[mongodb\]'"):
        sinks.mongodb(URL, "t")


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("`a.b` INT", "column 'a.b': MongoDB cannot find a field again whose name is empty, has a dot"),
        ("`$x` INT", "column '$x': MongoDB cannot find"),
        ("s STRUCT<`a.b`: INT>", "in column s the field 'a.b': MongoDB cannot find"),
        ("m MAP<STRING, ARRAY<STRUCT<`$`: INT>>>", "in column m the field '$': MongoDB cannot find"),
        ("wait INTERVAL DAY", "column wait has the type interval day, which MongoDB cannot hold"),
        ("v VARIANT", "column v has the type variant, which MongoDB cannot hold"),
        ("d DECIMAL(38,18)", "cast it: F.col('d').cast('decimal(34,18)')"),
        ("d DECIMAL(38,38)", "cast it: F.col('d').cast('decimal(34,34)')"),
        ("sparkstream INT", "the kit needs the name sparkstream for a field of its own"),
        ("_id INT", "a column _id is the document's key: give how='upsert', keys=['_id']"),
        ("n INT, n INT", "column n appears twice"),
    ],
)
def test_columns_that_mongodb_cannot_hold(ddl, message):
    assert message in refusal(collection.check_schema, parsed(ddl), ())


@pytest.mark.parametrize(
    ("ddl", "keys", "message"),
    [
        ("n INT", ["m"], "unknown key m; known: n"),
        ("k ARRAY<INT>", ["k"], "key k is array<int>, which MongoDB does not take for a key"),
        ("_id INT, k INT", ["_id", "k"], "a column _id is the document's key"),
    ],
)
def test_keys_that_mongodb_cannot_hold(ddl, keys, message):
    assert message in refusal(collection.check_schema, parsed(ddl), keys)


VALUES: list[tuple[str, pa.Array, list[Any]]] = [
    ("v INT", pa.array([1, None], pa.int32()), [1, None]),
    ("v BIGINT", pa.array([1, 2**40], pa.int64()), [1, 2**40]),
    ("v STRING", pa.array(["a\0b", "Käse"]), ["a\0b", "Käse"]),
    ("v BINARY", pa.array([b"\xff\0"]), [b"\xff\0"]),
    ("v DECIMAL(34,2)", pa.array([Decimal("-7.50")], pa.decimal128(34, 2)), [bson.Decimal128("-7.50")]),
    ("v DATE", pa.array([dt.date(2026, 1, 14)]), [dt.datetime(2026, 1, 14, tzinfo=dt.UTC)]),
    (
        "v TIMESTAMP",
        pa.array([1_768_348_800_123_000], pa.timestamp("us", "Europe/Berlin")),
        [dt.datetime(2026, 1, 14, 0, 0, 0, 123_000, dt.UTC)],
    ),
    ("v TIMESTAMP_NTZ", pa.array([0], pa.timestamp("us")), [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]),
    (
        "v ARRAY<DATE>",
        pa.array([[dt.date(1970, 1, 2), None], None]),
        [[dt.datetime(1970, 1, 2, tzinfo=dt.UTC), None], None],
    ),
    ("v ARRAY<INT>", pa.array([[1, 2], []], pa.list_(pa.int32())), [[1, 2], []]),
    (
        "v STRUCT<n: BIGINT, s: STRUCT<d: DECIMAL(3,1)>>",
        pa.array(
            [{"n": 1, "s": {"d": Decimal("1.5")}}, {"n": None, "s": None}, None],
            pa.struct([("n", pa.int64()), ("s", pa.struct([("d", pa.decimal128(3, 1))]))]),
        ),
        [{"n": 1, "s": {"d": bson.Decimal128("1.5")}}, {"n": None, "s": None}, None],
    ),
    (
        "v MAP<STRING, DATE>",
        pa.array(
            [[("a.b", dt.date(1970, 1, 1)), ("$", None), ("", None)]], pa.map_(pa.string(), pa.date32())
        ),
        [
            [
                {"key": "a.b", "value": dt.datetime(1970, 1, 1, tzinfo=dt.UTC)},
                {"key": "$", "value": None},
                {"key": "", "value": None},
            ]
        ],
    ),
]


def encoded(ddl, column):
    """Return values as a reader has them again, and how many were changed."""
    encoder = collection.Encoder(parsed(ddl))
    made = encoder.documents(pa.RecordBatch.from_arrays([column], ["c0"]))
    read = [bson.decode(bson.encode(each), codec_options=TYPED)["v"] for each in made]
    return read, encoder.changed


@pytest.mark.parametrize(("ddl", "column", "expected"), VALUES, ids=[ddl for ddl, _, _ in VALUES])
def test_a_value_comes_back_as_it_was(ddl, column, expected):
    assert encoded(ddl, column) == (expected, 0)


def test_nan_and_infinity_are_kept():
    [nan, infinity], changed = encoded("v DOUBLE", pa.array([float("nan"), float("-inf")]))
    assert (nan != nan, infinity, changed) == (True, float("-inf"), 0)  # noqa: PLR0124 - only NaN is not itself


def test_what_is_cut_or_changed_is_counted():
    times = pa.array([-1, 999, 2000], pa.timestamp("us", "UTC"))
    read, changed = encoded("v TIMESTAMP", times)
    assert [each.timestamp() for each in read] == [-0.001, 0.0, 0.002]
    assert changed == 2
    raw = pa.array([[b"a\xff", b"b"]], pa.list_(pa.binary())).cast(pa.list_(pa.string()), safe=False)
    assert encoded("v ARRAY<STRING>", raw) == ([["a\\xff", "b"]], 1)


def raw_texts(*values):
    """Return texts that need not be UTF-8, as Spark has them."""
    return pa.array(values, pa.binary()).cast(pa.string(), safe=False)


@pytest.mark.parametrize(
    ("ddl", "column"),
    [
        ("v TIMESTAMP", pa.array([1000, 1001], pa.timestamp("us", "UTC"))),
        ("v STRING", raw_texts(b"\\xff", b"\xff")),
        ("v STRUCT<at: TIMESTAMP_NTZ>", pa.array([{"at": 1}], pa.struct([("at", pa.timestamp("us"))]))),
    ],
)
def test_a_key_that_would_be_changed_is_refused(ddl, column):
    part = pa.RecordBatch.from_arrays([column], ["c0"])
    said = refusal(list, collection.Encoder(parsed(ddl), ["v"]).documents(part))
    assert re.search(r"key v has a value .*date_trunc\('millisecond', 'v'\), .*base64", said)
    assert len(list(collection.Encoder(parsed(ddl), ["n"]).documents(part))) == len(column)


def test_a_key_that_is_held_as_it_is_stays():
    part = pa.RecordBatch.from_arrays([pa.array([-1000, 1000], pa.timestamp("us"))], ["c0"])
    found = collection.Encoder(parsed("v TIMESTAMP_NTZ"), ["v"]).documents(part)
    assert [each["v"] for each in found] == [DatetimeMS(-1), DatetimeMS(1)]


def test_a_query_that_was_cut_off_within_its_first_batch_has_written_nothing(monkeypatch):
    # A ledger whose query was cut off within its first batch.
    monkeypatch.setattr(collection._Ledger, "entries", lambda _: {"q": {"batch": -1}})  # noqa: SLF001
    target = collection.Target(collection.parse(URL, None, "t"), "t", "append", (), take_over=False)
    rules = collection._Ledger(defaultdict(dict), target)  # type: ignore[arg-type] # noqa: SLF001
    rules.check_owner("q")
    rules.check_lost("q")
    assert not rules.is_written(Batch("q", 0))
    assert "holds none of this query's batches: it was deleted" in refusal(rules.is_written, Batch("q", 3))


def test_years_that_python_does_not_have_are_kept():
    column = pa.array([-800_000, 3_000_000], pa.int32()).cast(pa.date32())
    [first, last] = collection.Encoder(parsed("v DATE")).documents(
        pa.RecordBatch.from_arrays([column], ["c0"])
    )
    assert (first["v"], last["v"]) == (DatetimeMS(-800_000 * 86_400_000), DatetimeMS(3_000_000 * 86_400_000))


def test_a_server_that_does_not_answer_is_one_line_in_time(spark, tmp_path, free_port):
    url = f"mongodb://kit:hush@127.0.0.1:{free_port}/shop?serverSelectionTimeoutMS=500"
    rate = spark.readStream.format("rate").load().select("value")
    began = time.monotonic()
    line = refusal(start, rate, sinks.mongodb(url, "t"), name="q", checkpoint=tmp_path / "ckpt")
    assert time.monotonic() - began < 25  # the driver alone waits for 30 s
    assert line.startswith(
        f"MongoDB at mongodb://127.0.0.1:{free_port}/shop does not answer: 127.0.0.1:{free_port}: "
    )
    assert line.endswith("Connection refused; start it, or correct the URL")


def test_ten_seconds_are_the_limit_where_the_url_has_none(monkeypatch):
    given: dict[str, Any] = {}

    class Stop(Exception):  # noqa: N818 - no error
        pass

    def client(url, **options):
        given.update(options)
        raise Stop

    monkeypatch.setattr(collection, "MongoClient", client)
    with pytest.raises(Stop), collection.connected(collection.parse("mongodb://h/shop?w=0", None, "t")):
        pass
    assert (given["serverSelectionTimeoutMS"], given["w"]) == (10_000, "majority")


def test_what_the_server_says_has_no_secret():
    url = "mongodb://kit:hu%40sh@host/shop?authMechanismProperties=AWS_SESSION_TOKEN:hidden"
    address = collection.parse(url, None, "t")
    said = collection.cause(
        "bad hu%40sh, hu@sh and AWS_SESSION_TOKEN:hidden (configured timeouts: 5)", address
    )
    assert said == "bad ***, *** and ***"


def test_its_manners_are_those_of_every_sink(spark, tmp_path):
    sink_contract.manners("mongodb", spark, sinks.mongodb(URL, "t"), tmp_path / "ckpt")
