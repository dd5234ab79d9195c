"""`sinks.mongodb` without a server: arguments, refused columns, values as MongoDB has them."""

import datetime as dt
import re
import sys
import time
import traceback
from collections import defaultdict
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import bson
import pyarrow as pa
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from conftest import refusal
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    NotPrimaryError,
)
from pyspark.sql import types as T
from support import rows, sink_contract

from sparkstream_kit import sinks, start
from sparkstream_kit._internal.columns import types_in
from sparkstream_kit.connectors import _arrow
from sparkstream_kit.connectors.mongodb import collection, connection, documents
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    MissingExtraError,
    TransientError,
)
from sparkstream_kit.sinks.batches import target_key
from sparkstream_kit.sinks.ledger import Batch

pytestmark = pytest.mark.usefixtures("spark")  # Spark reads DDL in its JVM

URL = "mongodb://kit:hush@localhost/shop"
TYPED: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


def parsed(ddl):
    made = T.StructType.fromDDL(ddl)
    assert isinstance(made, T.StructType)
    return made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("postgresql://kit:hush@host/db", "t"),
            "this is no URL of MongoDB; write mongodb://user@host",
        ),
        (
            ("mongodb://kit:hu/sh@host/shop", "t"),
            "the URL cannot be read; write mongodb://user@host",
        ),
        (("mongodb://host:no/shop", "t"), "the URL cannot be read"),
        (
            ("mongodb://kit:hush@host", "t"),
            "the URL names no database; write mongodb://host:27017/shop, or",
        ),
        ((URL, "sparkstream_ledger"), "the kit needs the name sparkstream_ledger"),
        (
            (URL, "system.profile"),
            "system.profile is a name of the server's own; use another",
        ),
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
        (
            {"how": "replace"},
            "unknown way to write (how=) replace; known: append, upsert",
        ),
        ({"how": "upsert"}, "how='upsert' and keys belong together"),
        ({"keys": ["k"]}, "how='upsert' and keys belong together"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    assert message in refusal(sinks.mongodb, URL, "totals", **arguments)


def test_the_advice_for_another_mode_has_only_its_own_ways():
    assert "'replace'" not in sinks.mongodb(URL, "t").advice


def test_the_password_is_in_no_text_of_the_sink():
    url = (
        "mongodb+srv://kit:hush@cluster.example.org/?tlsCertificateKeyFilePassword=hush"
    )
    for sink in (sinks.mongodb(URL, "t"), sinks.mongodb(url, "t", database="shop")):
        assert "hush" not in repr(sink)
        assert sink.writes_to[0].name.endswith("/shop")


def test_without_pymongo_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(
        MissingExtraError, match=r"pip install 'sparkstream-kit\[mongodb\]'"
    ):
        sinks.mongodb(URL, "t")


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        (
            "`a.b` INT",
            (
                "column 'a.b': MongoDB cannot find a field again whose name is empty,"
                " has a dot"
            ),
        ),
        ("`$x` INT", "column '$x': MongoDB cannot find"),
        (
            "m MAP<STRING, ARRAY<STRUCT<`$`: INT>>>",
            "in column m the field '$': MongoDB cannot find",
        ),
        (
            "v VARIANT",
            (
                "column v has the type variant, which MongoDB cannot hold; cast it, or"
                " leave it out"
            ),
        ),
        ("d DECIMAL(38,18)", "cast it: F.col('d').cast('decimal(34,18)')"),
        ("d DECIMAL(38,38)", "cast it: F.col('d').cast('decimal(34,34)')"),
        (
            "d ARRAY<DECIMAL(38,38)>",
            "the type decimal(38,38), which MongoDB cannot hold; cast it, or leave",
        ),
        (
            "sparkstream INT",
            "the kit needs the name sparkstream for a field of its own",
        ),
        (
            "_id INT",
            "a column _id is the document's key: give how='upsert', keys=['_id']",
        ),
        ("n INT, n INT", "column n appears twice"),
    ],
)
def test_columns_that_mongodb_cannot_hold(ddl, message):
    assert message in refusal(documents.check_schema, parsed(ddl), ())


@pytest.mark.parametrize(
    ("ddl", "keys", "message"),
    [
        ("n INT", ["m"], "unknown key m; known: n"),
        ("_id INT, k INT", ["_id", "k"], "a column _id is the document's key"),
    ],
)
def test_keys_that_mongodb_cannot_hold(ddl, keys, message):
    assert message in refusal(documents.check_schema, parsed(ddl), keys)


def test_a_key_that_is_an_array_in_mongodb_is_refused():
    for ddl in ("k ARRAY<INT>", "k MAP<STRING, INT>", "k STRUCT<a: ARRAY<INT>>"):
        said = refusal(documents.check_schema, parsed(ddl), ["k"])
        assert "which cannot be an _id; make it a text: F.to_json('k')" in said


class Server:
    """What a ledger asks of a database: a collection with a UUID, rows, and queries' entries.

    It is its own client, too. `last` is the last batch that the documents of the query
    q are of.
    """

    def __init__(
        self, uuid, *, rows=True, ttl=False, kind="collection", last=None, **options
    ):
        self.info = [
            {
                "name": "t",
                "type": kind,
                "info": {"uuid": uuid} if uuid else {},
                "options": options,
            }
        ]
        self.rows, self.ttl, self.last, self.queries = rows, ttl, last, {}
        self.processes = [("Standalone", None)]

    def __getitem__(self, name):
        return self

    name = "t"

    def list_collections(self, filter):  # noqa: A002 - pymongo's
        return iter(self.info)

    @property
    def client(self):
        return self

    topology_description = client

    def server_descriptions(self):
        """Return what is known of the servers: by default, one of those without an id."""
        return {
            number: SimpleNamespace(
                server_type_name=kind, topology_version=known and {"processId": known}
            )
            for number, (kind, known) in enumerate(self.processes)
        }

    def find_one(self, which, fields=None):
        if which == {"_id": "t"}:
            return {"queries": self.queries}
        if f"{documents.OWN}.query" in which:
            newest = which[f"{documents.OWN}.batch"]["$gte"]
            is_there = self.last is not None and which[f"{documents.OWN}.query"] == "q"
            return {"_id": 1} if is_there and self.last >= newest else None
        return {"_id": 1} if self.rows and not which else None

    def index_information(self):
        return {"_id_": {}, "ttl": {"expireAfterSeconds": 5} if self.ttl else {}}


AGAIN = (
    "collection t in mongodb://localhost/shop was made again after this query had"
    " written its batches up to 3"
)
EMPTY = (
    "collection t in mongodb://localhost/shop is empty, but this query has written its"
    " batches up to 3"
)
SAME = [  # what the ledger has noted, the server, what is said
    ("a", Server("a"), ""),
    ("a", Server("b"), AGAIN),
    ("a", Server("a", rows=False), EMPTY),
    ("a", Server("a", rows=False, ttl=True), ""),
    ("a", Server("b", rows=False, ttl=True), AGAIN),
    (True, Server(None), ""),  # a server that gives no UUIDs
    (True, Server(None, rows=False), EMPTY),
    (True, Server("b"), ""),
    (None, Server("b", rows=False), ""),  # no rows yet, or the entry of an older kit
    ("a", Server("b", last=2), ""),  # put back from a backup: the batch 3 had no rows
    ("a", Server("b", last=1), AGAIN),  # from an older one
]


def test_a_collection_that_was_made_again_or_emptied_is_refused():
    for noted, server, said in SAME:
        server.queries = {
            "q": (
                {"batch": 3}
                | ({} if noted is None else {"collection": noted, "filled": 2})
            )
        }
        for take_over in (False, True):
            target = collection.MongoTarget(
                connection.parse(URL, None, "t"), "t", "append", (), take_over
            )
            rules = collection._MongoLedger(server, target)  # type: ignore[arg-type] # noqa: SLF001
            if said and not take_over:
                assert said in refusal(rules.check, "q")
            else:
                rules.check("q")
            # The way out: a new checkpoint owns what has lost the rows of others.
            if said == AGAIN and not server.rows:
                rules.check("other")
            if not said and noted and server.rows and not take_over:
                assert "was written by another query" in refusal(rules.check, "other")


@pytest.mark.parametrize(
    ("server", "how", "said"),
    [
        (
            Server("a", kind="view"),
            "append",
            "is a view, whose documents cannot be replaced; use another",
        ),
        (
            Server("a", collation={"locale": "en"}),
            "upsert",
            "has a collation, by which different texts can",
        ),
    ],
)
def test_a_collection_that_cannot_be_written_is_refused(server, how, said):
    target = collection.MongoTarget(
        connection.parse(URL, None, "t"), "t", how, (), take_over=True
    )
    rules = collection._MongoLedger(server, target)  # noqa: SLF001
    assert said in refusal(rules.check, "q")


ONE = [  # two URLs of one database
    ("mongodb://localhost/shop", "mongodb://127.0.0.1:27017/shop"),
    ("mongodb://[::1]/shop", "mongodb://kit:hush@LOCALHOST:27017/shop?w=1"),
    ("mongodb://a,b:27018/shop", "mongodb://b:27018,A:27017/shop?replicaSet=rs"),
    (
        "mongodb+srv://one.example.org/shop",
        "mongodb+srv://kit:hush@One.example.org/shop",
    ),
]
OTHER = [
    "mongodb://localhost:27018/shop",
    "mongodb://localhost/other",
    "mongodb://example.org/shop",
]


def test_one_collection_by_two_urls_is_one_target():
    for one, same in ONE:
        both = (
            sinks.mongodb(one, "t"),
            sinks.mongodb(same, "t", how="upsert", keys=["k"]),
        )
        assert target_key(*both[0].writes_to) == target_key(*both[1].writes_to)
        assert len({*both[0].writes_to, *sinks.mongodb(one, "T").writes_to}) == 2
    for other in OTHER:
        assert (
            len(
                sinks.fan_out(
                    sinks.mongodb("mongodb://localhost/shop", "t"),
                    sinks.mongodb(other, "t"),
                ).writes_to
            )
            == 2
        )
    with pytest.raises(
        InvalidInputError,
        match="two sinks write to collection t in mongodb://localhost/shop",
    ):
        sinks.fan_out(
            sinks.mongodb("mongodb://localhost/shop", "t"),
            sinks.mongodb("mongodb://127.0.0.1/shop", "t"),
        )


def test_a_server_says_by_what_a_collection_is_known():
    target = collection.MongoTarget(
        connection.parse(URL, None, "t"), "t", "append", (), take_over=False
    )

    def known(uuid, *processes):
        server = Server(uuid)
        server.processes = list(processes) or server.processes
        return collection._MongoLedger(server, target).identity()  # type: ignore[arg-type] # noqa: SLF001

    one, routers = ("RSPrimary", "1"), [("Mongos", "2"), ("Mongos", "3")]
    # Whatever its collection is
    assert known("a", ("RSSecondary", "9"), one) == known("b", one)
    # A copy of all its data has the same UUID
    assert known("a", one) != known("a", ("Standalone", "2"))
    assert known("a", routers[0]) == known("a", routers[1]) != known("b", routers[0])
    assert known(None) == "t in localhost:27017/shop"


def test_a_server_that_goes_away_may_be_tried_again():
    address = connection.parse(URL, None, "t")
    for error in (
        AutoReconnect("connection closed"),
        NetworkTimeout("timed out"),
        NotPrimaryError("steps down"),
    ):
        told = connection._in_one_line(error, "MongoDB at h/shop", address)  # noqa: SLF001
        assert isinstance(told, TransientError)
        assert (
            str(told)
            == f"MongoDB at h/shop went away: {error}; start again when it is back"
        )


def test_a_document_that_is_too_large_is_told_with_its_size(monkeypatch):
    target = collection.MongoTarget(
        connection.parse(URL, None, "t"), "t", "append", (), take_over=False
    )
    writer = object.__new__(collection._WriteAttempt)  # noqa: SLF001 - without a server
    writer.__dict__ |= {
        "_target": target,
        "_query": "q",
        "_batch": 3,
        "sent": 0,
        "number": 1,
    }
    said = refusal(
        writer.send,
        iter([{"v": "x" * collection._LARGE}]),  # noqa: SLF001
        may_be_large=True,
    )
    assert "a document of batch 3 has 16,777,3" in said
    assert (
        "bytes, most of them in column v, and MongoDB takes 16,777,216 at most; split"
        " the row, or" in said
    )


# As a server says it:
# https://www.mongodb.com/docs/manual/core/schema-validation/handle-invalid-documents/
UNFIT = {
    "operatorName": "$jsonSchema",
    "schemaRulesNotSatisfied": [
        {
            "operatorName": "properties",
            "propertiesNotSatisfied": [
                {"propertyName": "n", "details": [{"consideredValue": "hush"}]}
            ],
        },
        {
            "operatorName": "required",
            "specifiedAs": {"required": ["k", "n"]},
            "missingProperties": ["k"],
        },
    ],
}


def test_the_fields_that_a_rule_of_the_server_refuses_are_named():
    def refuse(*_, **__):
        error = {
            "index": 0,
            "code": 121,
            "errmsg": "Document failed validation",
            "errInfo": {"details": UNFIT},
        }
        raise BulkWriteError({"writeErrors": [error]})

    target = collection.MongoTarget(
        connection.parse(URL, None, "t"), "t", "append", (), take_over=False
    )
    writer = object.__new__(collection._WriteAttempt)  # noqa: SLF001 - without a server
    known = {"_target": target, "_query": "q", "_batch": 3, "sent": 0, "number": 1}
    writer.__dict__ |= {**known, "_rows": SimpleNamespace(bulk_write=refuse)}
    with pytest.raises(
        KitError,
        match=r"a document of batch 3: Document failed validation \(fields: n, k\)$",
    ):
        writer.send(iter([{"n": "hush"}]))


VALUES: list[tuple[str, pa.Array, list[Any]]] = [
    ("v INT", pa.array([1, None], pa.int32()), [1, None]),
    ("v DOUBLE", pa.array([0.5, float("-inf")]), [0.5, float("-inf")]),
    ("v BIGINT", pa.array([1, 2**40], pa.int64()), [1, 2**40]),
    ("v STRING", pa.array(["a\0b", "Käse"]), ["a\0b", "Käse"]),
    ("v BINARY", pa.array([b"\xff\0"]), [b"\xff\0"]),
    (
        "v DECIMAL(34,2)",
        pa.array([Decimal("-7.50")], pa.decimal128(34, 2)),
        [bson.Decimal128("-7.50")],
    ),
    (
        "v DATE",
        pa.array([dt.date(2026, 1, 14)]),
        [dt.datetime(2026, 1, 14, tzinfo=dt.UTC)],
    ),
    *(
        (
            "v DATE",
            pa.array([day], pa.int32()).cast(pa.date32()),
            [DatetimeMS(day * 86_400_000)],
        )
        for day in (-800_000, 3_000_000)  # of years that Python does not have
    ),
    (
        "v TIMESTAMP",
        pa.array([1_768_348_800_123_000], pa.timestamp("us", "Europe/Berlin")),
        [dt.datetime(2026, 1, 14, 0, 0, 0, 123_000, dt.UTC)],
    ),
    (
        "v TIMESTAMP_NTZ",
        pa.array([0], pa.timestamp("us")),
        [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)],
    ),
    (
        "v ARRAY<DATE>",
        pa.array([[dt.date(1970, 1, 2), None], None]),
        [[dt.datetime(1970, 1, 2, tzinfo=dt.UTC), None], None],
    ),
    (
        "v STRUCT<n: BIGINT, d: DECIMAL(3,1)>",
        pa.array(
            [{"n": 1, "d": Decimal("1.5")}, None],
            pa.struct([("n", pa.int64()), ("d", pa.decimal128(3, 1))]),
        ),
        [{"n": 1, "d": bson.Decimal128("1.5")}, None],
    ),
    (
        "v MAP<STRING, DATE>",
        pa.array(
            [[("a.b", dt.date(1970, 1, 1)), ("", None)]],
            pa.map_(pa.string(), pa.date32()),
        ),
        [
            [
                {"key": "a.b", "value": dt.datetime(1970, 1, 1, tzinfo=dt.UTC)},
                {"key": "", "value": None},
            ]
        ],
    ),
]


def encoded(ddl, column):
    """Return values as a reader has them again, and how many were changed."""
    encoder = documents.Encoder(parsed(ddl))
    made = encoder.documents(pa.RecordBatch.from_arrays([column], ["c0"]))
    return [
        bson.decode(bson.encode(each), codec_options=TYPED)["v"] for each in made
    ], encoder.changed


def test_a_value_comes_back_as_it_was():
    for ddl, column, expected in VALUES:
        assert encoded(ddl, column) == (expected, 0), ddl


def as_document(value, kind):  # noqa: PLR0911 - one for each type
    """Return a value as a reader of the collection has it, by the table of docs/mongodb.md."""
    if value is None:
        return None
    if isinstance(kind, T.ArrayType):
        return [as_document(each, kind.elementType) for each in value]
    if isinstance(kind, T.MapType):
        return [
            {
                "key": as_document(key, kind.keyType),
                "value": as_document(each, kind.valueType),
            }
            for key, each in value
        ]
    if isinstance(kind, T.StructType):
        return {
            field.name: as_document(each, field.dataType)
            for field, each in zip(kind, value, strict=True)
        }
    if isinstance(kind, T.DecimalType):
        return bson.Decimal128(value)
    if isinstance(kind, T.TimestampType | T.TimestampNTZType):
        moment = value.replace(tzinfo=dt.UTC, fold=0)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    if isinstance(kind, T.DateType):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    return value


@pytest.mark.parametrize("kind", rows.ALL, ids=repr)
@pytest.mark.fast(
    "DOUBLE", "DECIMAL(20,8)", "TIMESTAMP", "ARRAY<STRUCT<a: DOUBLE, b: ARRAY<STRING>>>"
)
def test_each_corner_case_of_a_type_is_in_its_document(spark, kind):
    made = rows.corners(kind)
    frame = made.frame(spark)
    [field] = frame.schema
    inside = [*types_in(field.dataType)]
    too_long = any(
        isinstance(each, T.DecimalType) and each.precision > 34 for each in inside
    )
    if too_long or kind in (rows.INTERVAL_DAYS, rows.INTERVAL_MONTHS, rows.VARIANT):
        said = refusal(documents.check_schema, frame.schema, ())
        assert "which MongoDB cannot hold; cast it" in said
        assert said.endswith(", or leave it out")
        return
    documents.check_schema(frame.schema, ())
    encoder, found = documents.Encoder(frame.schema), list[Any]()
    with _arrow.kept(frame) as parts:
        for part in parts:
            found += [
                bson.decode(bson.encode(each), TYPED)["v"]
                for each in encoder.documents(part)
            ]
    shown = repr(found).replace(
        "FixedOffset(datetime.timedelta(0), 'UTC')", repr(dt.UTC)
    )
    assert shown == repr([as_document(row[0], field.dataType) for row in made.rows])


def test_what_is_cut_or_changed_is_counted():
    read, changed = encoded(
        "v TIMESTAMP", pa.array([-1, 999, 2000], pa.timestamp("us", "UTC"))
    )
    assert [each.timestamp() for each in read] == [-0.001, 0.0, 0.002]
    assert changed == 2
    raw = pa.array([[b"a\xff", b"b"]], pa.list_(pa.binary())).cast(
        pa.list_(pa.string()), safe=False
    )
    assert encoded("v ARRAY<STRING>", raw) == ([["a\\xff", "b"]], 1)


@pytest.mark.parametrize(
    ("ddl", "column"),
    [
        ("v TIMESTAMP", pa.array([1000, 1001], pa.timestamp("us", "UTC"))),
        (
            "v STRING",
            pa.array([b"\\xff", b"\xff"], pa.binary()).cast(pa.string(), safe=False),
        ),
        (
            "v STRUCT<at: TIMESTAMP_NTZ>",
            pa.array([{"at": 1}], pa.struct([("at", pa.timestamp("us"))])),
        ),
    ],
)
def test_a_key_that_would_be_changed_is_refused(ddl, column):
    part = pa.RecordBatch.from_arrays([column], ["c0"])
    said = refusal(list, documents.Encoder(parsed(ddl), ["v"]).documents(part))
    assert re.search(
        r"key v has a value .*date_trunc\('millisecond', 'v'\), .*base64", said
    )
    assert len(list(documents.Encoder(parsed(ddl), ["n"]).documents(part))) == len(
        column
    )


def test_a_query_that_was_cut_off_within_its_first_batch_has_written_nothing(
    monkeypatch,
):
    # A ledger whose query was cut off within its first batch.
    ledger = collection._MongoLedger  # noqa: SLF001
    monkeypatch.setattr(ledger, "entries", lambda _: {"q": {"batch": -1}})
    target = collection.MongoTarget(
        connection.parse(URL, None, "t"), "t", "append", (), take_over=False
    )
    rules = collection._MongoLedger(defaultdict(dict), target)  # type: ignore[arg-type] # noqa: SLF001
    rules.check_owner("q")
    rules.check_lost("q")
    assert not rules.is_written(Batch("q", 0))
    assert "holds none of this query's batches: it was deleted" in refusal(
        rules.is_written, Batch("q", 3)
    )


def test_a_server_that_does_not_answer_is_one_line_in_time(spark, tmp_path, free_port):
    url = f"mongodb://kit:hush@127.0.0.1:{free_port}/shop?serverSelectionTimeoutMS=500"
    rate = spark.readStream.format("rate").load().select("value")
    began = time.monotonic()
    line = refusal(
        start, rate, sinks.mongodb(url, "t"), name="q", checkpoint=tmp_path / "ckpt"
    )
    assert time.monotonic() - began < 25  # the driver alone waits for 30 s
    assert line.startswith(
        f"MongoDB at mongodb://127.0.0.1:{free_port}/shop does not answer:"
        f" 127.0.0.1:{free_port}: "
    )
    assert line.endswith("Connection refused; start it, or correct the URL")


def test_what_the_server_says_has_no_secret():
    url = "mongodb://kit:hu%40sh@host/shop?authMechanismProperties=AWS_SESSION_TOKEN:hidden"
    address = connection.parse(url, None, "t")
    said = connection.cause(
        "bad hu%40sh, hu@sh and AWS_SESSION_TOKEN:hidden (configured timeouts: 5)",
        address,
    )
    assert said == "bad ***, *** and ***"


def test_its_manners_are_those_of_every_sink(spark, tmp_path):
    sink_contract.manners("mongodb", spark, sinks.mongodb(URL, "t"), tmp_path / "ckpt")


def test_a_key_that_is_held_as_it_is_stays():
    part = pa.RecordBatch.from_arrays(
        [pa.array([-1000, 1000], pa.timestamp("us"))], ["c0"]
    )
    found = documents.Encoder(parsed("v TIMESTAMP_NTZ"), ["v"]).documents(part)
    assert [each["v"] for each in found] == [DatetimeMS(-1), DatetimeMS(1)]


def test_nan_and_infinity_are_kept():
    [nan, infinity], changed = encoded(
        "v DOUBLE", pa.array([float("nan"), float("-inf")])
    )
    assert (nan != nan, infinity, changed) == (  # noqa: PLR0124 - only NaN is not itself
        True,
        float("-inf"),
        0,
    )


def test_ten_seconds_are_the_limit_where_the_url_has_none(monkeypatch):
    given: dict[str, Any] = {}

    class Stop(Exception):  # noqa: N818 - no error
        pass

    def client(url, **options):
        given.update(options)
        raise Stop

    monkeypatch.setattr(connection, "MongoClient", client)
    with (
        pytest.raises(Stop),
        connection.connected(connection.parse("mongodb://h/shop?w=0", None, "t")),
    ):
        pass
    assert (given["serverSelectionTimeoutMS"], given["w"]) == (10_000, "majority")
