"""The address of a MongoDB server, what its errors mean, and the forms of values in documents.

Without Spark and without a server; whole rows are in test_sinks_mongodb.py.
"""

# ruff: noqa: SLF001 - the steps are the modules' own
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit import sinks
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError

bson = pytest.importorskip("bson")
errors = pytest.importorskip("pymongo.errors")
connection = pytest.importorskip("sparkstream_kit.connectors.mongodb.connection")
documents = pytest.importorskip("sparkstream_kit.connectors.mongodb.documents")

URL = "mongodb://kit:hush@localhost/shop"
HOW = "write mongodb://user@host:27017/shop, with %40 for an @ in a password"
MS = bson.datetime_ms.DatetimeMS


# --- addresses


@pytest.mark.parametrize(
    ("url", "shown", "known_as"),
    [
        (URL, "mongodb://localhost/s", "localhost:27017/s"),
        (
            "mongodb://me@B:1,a/x?w=1&b=c@d",
            "mongodb://B:1,a/s",
            "a:27017,b:1/s",
        ),
        ("mongodb://127.0.0.1:5", "mongodb://127.0.0.1:5/s", "localhost:5/s"),
        ("mongodb://[::1]/x", "mongodb://[::1]/s", "localhost:27017/s"),
        (
            "mongodb+srv://me:a@h.example/?x=y",
            "mongodb+srv://h.example/s",
            "h.example:27017/s",
        ),
    ],
)
def test_an_address_is_shown_without_a_user_and_known_in_one_spelling(
    url, shown, known_as
):
    address = connection.Address(url, "s")
    assert (address.shown, address.known_as) == (shown, known_as)
    assert "mongodb" not in repr(address)


@pytest.mark.parametrize(
    ("url", "database", "found"),
    [
        (URL, None, "shop"),
        (URL, "other", "other"),
        ("mongodb://h", "other", "other"),
        ("mongodb+srv://h.example/shop?tls=true&authSource=x", None, "shop"),
    ],
)
def test_the_database_is_that_of_the_url_or_of_the_user(url, database, found):
    address = connection.parse(url, database, "t")
    assert address == connection.Address(url, found)


@pytest.mark.parametrize(
    ("url", "collection", "said"),
    [
        ("http://h/shop", "t", f"mongodb: this is no URL of MongoDB; {HOW}"),
        ("mongodb://h:x/shop", "t", f"mongodb: the URL cannot be read; {HOW}"),
        ("mongodb://a:b@c@h/shop", "t", f"mongodb: the URL cannot be read; {HOW}"),
        (
            "mongodb://h",
            "t",
            (
                "mongodb: the URL names no database; write mongodb://host:27017/shop, or"
                " give database='shop'"
            ),
        ),
        (
            URL,
            "sparkstream_ledger",
            "mongodb: the kit needs the name sparkstream_ledger for its own; use another",
        ),
        (
            URL,
            "system.x",
            "mongodb: system.x is a name of the server's own; use another",
        ),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url, collection, said):
    with pytest.raises(InvalidInputError) as err:
        connection.parse(url, None, collection)
    assert str(err.value) == said
    assert err.value.__cause__ is None
    assert err.value.__suppress_context__ or err.value.__context__ is None


# --- a connection


class Client:
    """A client of pymongo's, whose server a test plays."""

    made: list[Any]
    error: Exception | None = None

    def __init__(self, url, **options):
        self.did: list[Any] = [url, options]
        self.admin = self
        self.made.append(self)

    def command(self, name):
        self.did.append(name)
        if self.error is not None:
            raise self.error

    def __getitem__(self, name):
        return f"database {name}"

    def __enter__(self):
        self.did.append("open")
        return self

    def __exit__(self, *_):
        self.did.append("closed")


@pytest.fixture
def client(monkeypatch):
    """The clients that are made."""

    class OfThisTest(Client):
        made: list[Any] = []  # noqa: RUF012 - of this test

    monkeypatch.setattr(connection, "MongoClient", OfThisTest)
    return OfThisTest


OPTIONS = {"appname": "sparkstream-kit", "readPreference": "primary", "w": "majority"}


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("", {"serverSelectionTimeoutMS": 10_000}),
        ("?ServerSelectionTimeoutMS=5", {}),
    ],
    ids=["ten seconds", "the user's"],
)
def test_a_connection_is_tried_and_ended(client, query, more):
    address = connection.Address(f"{URL}{query}", "shop")
    with connection.connected(address) as database:
        [made] = client.made
        assert made.did[-1] == "ping"
        assert database == "database shop"
    assert made.did == [address.url, OPTIONS | more, "open", "ping", "closed"]


AT = "MongoDB at mongodb://localhost/shop"


@pytest.mark.parametrize("error", [errors.PyMongoError, ValueError, TypeError])
def test_a_url_that_pymongo_does_not_take_is_refused(monkeypatch, error):
    def refuses(*_, **__):
        raise error("no hush")

    monkeypatch.setattr(connection, "MongoClient", refuses)
    with (
        pytest.raises(InvalidInputError) as err,
        connection.connected(connection.Address(URL, "shop")),
    ):
        pass
    assert str(err.value) == f"{AT} cannot be used: no ***; correct the URL"
    assert err.value.__suppress_context__


def test_errors_of_a_server_are_one_line_also_those_of_the_block(client):
    address = connection.Address(URL, "shop")
    client.error = errors.AutoReconnect("reset")
    with (
        pytest.raises(TransientError, match="went away"),
        connection.connected(address),
    ):
        pass
    client.error = None
    with (
        pytest.raises(KitError, match="too deep") as err,
        connection.connected(address),
    ):
        raise bson.errors.InvalidDocument("too deep")
    assert err.value.__suppress_context__
    assert client.made[-1].did[-1] == "closed"
    with pytest.raises(LookupError), connection.connected(address):
        raise LookupError


# --- errors


def labelled(error):
    error._add_error_label("RetryableWriteError")
    return error


@pytest.mark.parametrize(
    ("error", "said", "kind"),
    [
        (
            errors.ServerSelectionTimeoutError("nobody"),
            "S does not answer: nobody; start it, or correct the URL",
            TransientError,
        ),
        (
            errors.AutoReconnect("reset"),
            "S went away: reset; start again when it is back",
            TransientError,
        ),
        (
            labelled(errors.OperationFailure("steps down", 91)),
            "S went away: steps down; start again when it is back",
            TransientError,
        ),
        (
            errors.ConfigurationError("no TLS"),
            "S cannot be used: no TLS",
            InvalidInputError,
        ),
        (
            errors.InvalidName("a$b"),
            "S cannot be used: a$b",
            InvalidInputError,
        ),
        *[
            (
                errors.OperationFailure("not allowed", code),
                (
                    "S refuses this: not allowed; correct the log-in in the URL, or give the"
                    " user the role readWrite on shop"
                ),
                InvalidInputError,
            )
            for code in (13, 18, 8000)
        ],
        (errors.OperationFailure("odd", 14), "S: odd", KitError),
        (bson.errors.InvalidDocument("deep"), "S: deep", KitError),
    ],
)
def test_an_error_is_told_with_its_fix(error, said, kind):
    told = connection._in_one_line(error, "S", connection.Address(URL, "shop"))
    assert (str(told), type(told)) == (said, kind)


@pytest.mark.parametrize(
    ("error", "is_away"),
    [
        (errors.ConnectionFailure("x"), True),
        (errors.NotPrimaryError("x"), True),
        (labelled(errors.OperationFailure("x")), True),
        (errors.OperationFailure("x"), False),
        (bson.errors.BSONError("x"), False),
    ],
)
def test_a_server_is_away_if_the_error_says_so(error, is_away):
    assert connection._is_away(error) is is_away


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" a\n  b ", "a b"),
        ("no (configured timeouts: x)", "no"),
        ("no, Timeout: 5s, Topology", "no"),
        ("no, full error: {}", "no"),
        ("no dup key: { a: 1 }", "no"),
        ("a hush b hush", "a *** b ***"),
        ("x" * 301, "x" * 300),
    ],
)
def test_an_error_is_cut_and_has_no_secret(text, said):
    assert connection.cause(text, connection.Address(URL, "shop")) == said


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://u:p%40s@h/s",
        "mongodb://h/s?tlsCertificateKeyFilePassword=p%40s&a=b",
        "mongodb://h/s?authMechanismProperties=p%40s;x",
    ],
)
def test_secrets_are_hidden_as_they_are_and_decoded(url):
    address = connection.Address(url, "s")
    assert connection.cause("p%40s and p@s", address) == "*** and ***"


# --- the sink


def test_the_sink_has_the_mode_of_its_way_and_its_keys_in_order():
    one: Any = sinks.mongodb(URL, "t", database="other", take_over=True)
    assert one.modes == ("append",)
    [target] = one.open.args
    assert (target.name, target.how, target.keys) == ("t", "append", ())
    assert target.take_over is True
    assert target.address == connection.Address(URL, "other")
    assert one.open.keywords == {"identity": target.identity}
    assert one.writes_to == (target.where,)
    assert one.advice == (
        "use how='append' for append, 'upsert' with keys for update, also of a complete"
        " result"
    )
    two: Any = sinks.mongodb(URL, "t", how="upsert", keys=["b", "a", "b"])
    assert two.modes == ("update",)
    assert two.open.args[0].keys == ("a", "b")
    assert "url is 5" in refusal(sinks.mongodb, 5, "t")


# --- the types of documents


def schema_of(*kinds, **named):
    fields = [(f"c{number}", kind) for number, kind in enumerate(kinds)]
    return T.StructType([T.StructField(*field) for field in [*fields, *named.items()]])


LONG, TEXT, TIME = T.LongType(), T.StringType(), T.TimestampType()


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        (T.DecimalType(34, 3), True),
        (T.DecimalType(35, 3), False),
        (LONG, True),
        (T.VarcharType(3), True),
        (T.DayTimeIntervalType(), False),
    ],
)
def test_a_type_fits_into_a_document(kind, fits):
    assert documents._fits(kind) is fits
    schema = schema_of(kind)
    if fits:
        documents.check_schema(schema, ())
    else:
        assert "which MongoDB cannot hold" in refusal(
            documents.check_schema, schema, ()
        )


@pytest.mark.parametrize(
    ("kind", "column", "fix"),
    [
        (
            T.DecimalType(38, 10),
            None,
            "cast it: F.col('n').cast('decimal(34,10)'), or leave it out",
        ),
        (
            T.DecimalType(38, 36),
            None,
            "cast it: F.col('n').cast('decimal(34,34)'), or leave it out",
        ),
        (T.DecimalType(38, 10), T.ArrayType(LONG), "cast it, or leave it out"),
        (T.DayTimeIntervalType(), None, "cast it, or leave it out"),
    ],
)
def test_a_type_that_does_not_fit_has_a_fix(kind, column, fix):
    field = T.StructField("n", column or kind)
    assert documents._fix(field, kind) == fix


@pytest.mark.parametrize("name", ["", "a.b", "$a", "a\0"])
def test_a_name_that_mongodb_cannot_find_is_refused(name):
    assert refusal(
        documents._check_names, "column", schema_of(a=LONG, **{name: LONG})
    ) == (
        f"mongodb: column {name!r}: MongoDB cannot find a field again whose name is"
        " empty, has a dot or begins with a dollar; rename it"
    )
    documents._check_names("column", schema_of(**{"a$": LONG}))


def test_two_columns_of_one_name_are_refused():
    schema = T.StructType([T.StructField("n", LONG)] * 2)
    assert refusal(documents._check_names, "column", schema).startswith(
        "mongodb: column n appears twice"
    )


@pytest.mark.parametrize(
    ("schema", "keys", "said"),
    [
        (schema_of(n=LONG), ["m"], "unknown key m; known: n"),
        (
            schema_of(sparkstream=LONG),
            [],
            (
                "mongodb: the kit needs the name sparkstream for a field of its own; rename"
                " it"
            ),
        ),
        (
            schema_of(_id=LONG, n=LONG),
            ["n"],
            (
                "mongodb: a column _id is the document's key: give how='upsert',"
                " keys=['_id'], or rename it"
            ),
        ),
        (
            schema_of(n=T.ArrayType(LONG)),
            ["n"],
            (
                "mongodb: key n has the type array<bigint>, which cannot be an _id; make it"
                " a text: F.to_json('n')"
            ),
        ),
        (
            schema_of(n=T.MapType(TEXT, LONG)),
            ["n"],
            (
                "mongodb: key n has the type map<string,bigint>, which cannot be an _id;"
                " make it a text: F.to_json('n')"
            ),
        ),
        (
            schema_of(n=T.ArrayType(schema_of(**{"$": LONG}))),
            [],
            (
                "mongodb: in column n the field '$': MongoDB cannot find a field again whose"
                " name is empty, has a dot or begins with a dollar; rename it"
            ),
        ),
        (
            schema_of(n=T.DayTimeIntervalType()),
            [],
            (
                "mongodb: column n has the type interval day to second, which MongoDB cannot"
                " hold; cast it, or leave it out"
            ),
        ),
    ],
    ids=["key", "own", "_id", "array", "map", "a field", "a type"],
)
def test_columns_that_a_document_cannot_have_are_refused(schema, keys, said):
    assert refusal(documents.check_schema, schema, keys) == said


def test_columns_that_a_document_can_have_are_taken():
    documents.check_schema(schema_of(_id=LONG, n=T.ArrayType(LONG)), ["_id"])
    documents.check_schema(schema_of(n=schema_of(sparkstream=LONG, _id=LONG)), ["n"])


# --- values


def encoder_of(*kinds, keys=()) -> Any:
    return documents.Encoder(schema_of(*kinds), keys)


@pytest.mark.parametrize(
    "kind",
    [T.BooleanType(), T.DoubleType(), T.IntegerType(), T.ArrayType(T.DoubleType())],
)
def test_a_value_that_pymongo_writes_as_it_is_is_kept(kind):
    assert encoder_of()._converter(kind) is None


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (LONG, None, None),
        (LONG, 5, bson.Int64(5)),
        (T.DateType(), 2, MS(2 * 86_400_000)),
        (T.DateType(), -1, MS(-86_400_000)),
        (TIME, 5000, MS(5)),
        (T.TimestampNTZType(), 5000, MS(5)),
        (T.DecimalType(5, 2), Decimal("1.50"), bson.Decimal128("1.50")),
        (TEXT, "a", "a"),
        (T.ArrayType(T.DateType()), [1, None], [MS(86_400_000), None]),
        (T.ArrayType(T.DateType()), None, None),
        (
            schema_of(T.DoubleType(), T.DateType()),
            {"c0": 0.5, "c1": 1},
            {"c0": 0.5, "c1": MS(86_400_000)},
        ),
        (
            T.MapType(TEXT, T.DateType()),
            [("a", 1), ("b", None)],
            [{"key": "a", "value": MS(86_400_000)}, {"key": "b", "value": None}],
        ),
    ],
)
def test_a_value_is_converted(kind, value, found):
    encoder = encoder_of()
    made = encoder._converter(kind)(value)
    assert made == found
    assert type(made) is type(found)
    assert encoder.changed == 0


@pytest.mark.parametrize(
    ("microseconds", "milliseconds", "changed"),
    [(0, 0, 0), (1999, 1, 1), (-1, -1, 1), (-1000, -1, 0), (2000, 2, 0)],
)
def test_microseconds_are_cut_and_counted(microseconds, milliseconds, changed):
    encoder = encoder_of()
    assert encoder._time(microseconds) == MS(milliseconds)
    assert encoder.changed == changed


@pytest.mark.parametrize(
    ("raw", "text", "changed"),
    [
        ("ä", "ä", 0),
        ("ä".encode(), "ä", 0),
        (b"a\xff", r"a\xff", 1),
        (rb"\xff", r"\xff", 0),
    ],
)
def test_bytes_that_are_not_utf_8_are_written_and_counted(raw, text, changed):
    encoder = encoder_of()
    assert encoder._text(raw) == text
    assert encoder.changed == changed


def test_changes_add_up():
    encoder = encoder_of()
    for _ in range(3):
        encoder._time(1)
        encoder._text(b"\xff")
    assert encoder.changed == 6


def part_of(*columns):
    names = [f"x{number}" for number in range(len(columns))]
    return pa.RecordBatch.from_arrays(list(columns), names)


TIMES = pa.array([1000, 1001], pa.timestamp("us"))


def test_rows_become_documents_with_the_names_of_the_columns():
    encoder = encoder_of(LONG, TIME)
    rows = part_of(pa.array([1, None]), TIMES)
    assert list(encoder.documents(rows)) == [
        {"c0": bson.Int64(1), "c1": MS(1)},
        {"c0": None, "c1": MS(1)},
    ]
    assert encoder.changed == 1
    assert list(encoder.documents(rows.slice(0, 0))) == []


def test_values_that_are_kept_stand_in_documents_as_they_are():
    rows = part_of(pa.array([0.5, None]), pa.array([True, False]))
    assert list(encoder_of(T.DoubleType(), T.BooleanType()).documents(rows)) == [
        {"c0": 0.5, "c1": True},
        {"c0": None, "c1": False},
    ]


def test_a_key_that_would_be_changed_is_refused_and_another_column_is_not():
    rows = part_of(TIMES, pa.array([1, 2]))
    said = refusal(list, encoder_of(TIME, LONG, keys=["c0"]).documents(rows))
    assert said == (
        "mongodb: key c0 has a value that MongoDB cannot hold as it is, and two rows"
        " could then have the same: truncate times with"
        " F.date_trunc('millisecond', 'c0'), encode a text that is not UTF-8 with"
        " F.base64('c0')"
    )
    assert len(list(encoder_of(TIME, LONG, keys=["c1"]).documents(rows))) == 2


@pytest.mark.parametrize(
    ("kind", "text_type", "found"),
    [
        (pa.date32(), None, pa.int32()),
        (pa.timestamp("us"), None, pa.int64()),
        (pa.string(), None, pa.string()),
        (pa.string(), pa.large_binary(), pa.large_binary()),
        (pa.int8(), pa.large_binary(), pa.int8()),
        (pa.list_(pa.date32()), None, pa.list_(pa.int32())),
        (
            pa.struct([("a", pa.string()), ("b", pa.date32())]),
            pa.large_binary(),
            pa.struct([("a", pa.large_binary()), ("b", pa.int32())]),
        ),
        (
            pa.map_(pa.string(), pa.date32()),
            pa.large_binary(),
            pa.map_(pa.large_binary(), pa.int32()),
        ),
    ],
    ids=["date", "time", "text", "bytes", "number", "list", "struct", "map"],
)
def test_types_become_plain_ones(kind, text_type, found):
    assert documents._plain_type(kind, text_type) == found


def test_a_column_of_plain_values_stays_and_others_are_cast():
    numbers = pa.array([1, 2])
    assert documents._plain(numbers) is numbers
    assert documents._plain(TIMES).to_pylist() == [1000, 1001]
    texts = pa.array(["a"])
    assert documents._plain(texts) is texts
    wrong = pa.array([b"\xff"]).cast(pa.string(), safe=False)
    assert documents._plain(wrong).to_pylist() == [b"\xff"]
    assert documents._plain(wrong).type == pa.large_binary()
