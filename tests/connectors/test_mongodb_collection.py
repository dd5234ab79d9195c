"""`sinks.mongodb` step by step: its ledger, its attempts to write, and what the server refuses.

The server is played, with pymongo's own errors and requests.
With a server: tests/systems/.
"""

# ruff: noqa: SLF001 - the steps are the sink's own
import logging
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import Batch, Epoch

pymongo = pytest.importorskip("pymongo")
bson = pytest.importorskip("bson")
collection = pytest.importorskip("sparkstream_kit.connectors.mongodb.collection")
connection = pytest.importorskip("sparkstream_kit.connectors.mongodb.connection")
InsertOne, ReplaceOne = pymongo.InsertOne, pymongo.ReplaceOne
BulkWriteError = pymongo.errors.BulkWriteError
DuplicateKeyError = pymongo.errors.DuplicateKeyError
OperationFailure = pymongo.errors.OperationFailure

WHERE = "collection t in mongodb://localhost/shop"
BATCH = Batch("q", 3, "plan", driver="me")
DUPLICATE, EXISTS = 11000, 48


def target_of(how="append", keys=(), *, take_over=False):
    address = connection.parse("mongodb://kit:hush@localhost/shop", None, "t")
    return collection.MongoTarget(address, "t", how, keys, take_over)


class Asked:
    """What keeps the calls to it, and answers as a test has said.

    Attributes:
        calls: the name of each call, with what was given.
        answers: what each call returns, one after the other, or raises; the last one
            again and again.
    """

    def __init__(self, name, calls, **answers):
        self.name = name
        self.calls = calls
        self.answers: dict[str, list[Any]] = answers

    def _answer(self, call, *given):
        self.calls.append((f"{self.name}.{call}", *given))
        left = self.answers.get(call, [None])
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def find_one(self, which, fields=None):
        return self._answer("find_one", which, fields)

    def update_one(self, which, change, *, upsert=False):
        matched = self._answer("update_one", which, change, upsert)
        return SimpleNamespace(matched_count=1 if matched is None else matched)

    def find_one_and_update(self, which, change, return_document):
        return self._answer("find_one_and_update", which, change, return_document)

    def bulk_write(self, changes, *, ordered):
        return self._answer("bulk_write", changes, ordered)

    def delete_many(self, which):
        return self._answer("delete_many", which)

    def index_information(self):
        return self._answer("index_information") or {"_id_": {}}


def info_of(uuid: Any = "id", **more):
    """Return what a server says of the collection t."""
    return {"name": "t", "type": "collection", "info": {"uuid": uuid}, **more}


class Database(Asked):
    """A database with the ledger and the collection t.

    Attributes:
        queries: the entries of the ledger; None without a ledger.
    """

    def __init__(self, queries=None, *, info: Any = "there", **answers):
        super().__init__("shop", [], **answers)
        found = [info_of()] if info == "there" else info
        self.answers.setdefault("list_collections", [found])
        self.ledger = Asked("ledger", self.calls)
        noted = None if queries is None else {"_id": "t", "queries": queries}
        self.ledger.answers["find_one"] = [noted]
        self.rows = Asked("t", self.calls, find_one=[{"_id": 1}])
        self.servers: dict[str, Any] = {}

    def __getitem__(self, name):
        return {"sparkstream_ledger": self.ledger, "t": self.rows}[name]

    def list_collections(self, filter):  # noqa: A002 - pymongo's
        return iter(self._answer("list_collections", filter))

    def create_collection(self, name, *, check_exists):
        return self._answer("create_collection", name, check_exists)

    @property
    def client(self):
        topology = SimpleNamespace(server_descriptions=lambda: self.servers)
        return SimpleNamespace(topology_description=topology)

    def named(self, call):
        """Return what a call was given, each time."""
        return [given for called, *given in self.calls if called == call]


def ledger_of(database, how="append", **more):
    return collection._MongoLedger(database, target_of(how, **more))


# --- the target


def test_a_target_is_known_by_its_collection_and_its_server():
    assert target_of().where == Target(
        "collection",
        "t in mongodb://localhost/shop",
        known_as="t in localhost:27017/shop",
    )


@pytest.fixture
def opened(monkeypatch):
    """The database to which targets connect; the addresses that they gave."""
    database = Database({})
    database.addresses = []  # type: ignore[attr-defined]

    @contextmanager
    def connected(address):
        database.addresses.append(address)  # type: ignore[attr-defined]
        yield database

    monkeypatch.setattr(collection, "connected", connected)
    return database


def test_a_target_asks_its_server_by_what_the_collection_is_known(opened):
    target = target_of()
    assert target.identity() == "id"
    assert opened.addresses == [target.address]


def test_a_start_takes_an_epoch_in_one_update(opened):
    target_of().take("q", "me", None)
    assert opened.calls == [
        (
            "ledger.update_one",
            {"_id": "t"},
            {"$inc": {"queries.q.epoch": 1}, "$set": {"queries.q.driver": "me"}},
            True,
        )
    ]


def frame_of(*names):
    schema = T.StructType([T.StructField(name, T.LongType()) for name in names])
    return SimpleNamespace(schema=schema)


@pytest.mark.parametrize(
    ("number", "plan"),
    [(3, "kept"), (4, None), (None, None)],
    ids=["the collection has it", "it is new", "no next batch"],
)
def test_the_plan_of_a_batch_that_the_collection_has_is_found(opened, number, plan):
    entry = {"batch": 3, "plan": "kept"}
    opened.ledger.answers["find_one"] = [{"queries": {"q": entry}}]
    batch = None if number is None else Batch("q", number)
    assert target_of().prepare(frame_of("n"), "q", batch, False) == plan
    assert not opened.named("shop.create_collection")


def test_a_start_refuses_columns_before_it_connects_and_others_rows(opened):
    said = refusal(target_of().prepare, frame_of("$"), "q", None, True)
    assert "MongoDB cannot find a field again" in said
    assert opened.addresses == []
    said = refusal(target_of().prepare, frame_of("n"), "q", None, True)
    assert said.startswith(f"{WHERE} has rows that no query of the kit has written")


# --- a batch


@pytest.fixture
def batch_of(monkeypatch):
    """A function that returns a batch with its parts, as Spark's workers leave them."""

    def made(*parts):
        frame = frame_of("n")

        @contextmanager
        def kept(given):
            assert given is frame
            yield [
                pa.record_batch([pa.array(part, pa.int64())], ["c0"]) for part in parts
            ]

        monkeypatch.setattr(collection._arrow, "kept", kept)
        return frame

    return made


def begun(opened, **entry):
    """Let the ledger give the query q the write number 7."""
    own = {"epoch": 1, "driver": "me", "batch": 2} | entry
    opened.ledger.answers["find_one"] = [{"queries": {"q": own}}]
    written = {"queries": {"q": own | {"write": 7}}}
    opened.ledger.answers["find_one_and_update"] = [written]


def document(number, value, batch=3):
    return {
        "_id": f"q/{batch:09}/{number:012}",
        "n": value,
        "sparkstream": {"query": "q", "batch": batch, "write": 7},
    }


def test_a_batch_is_written_between_its_beginning_and_its_end(opened, batch_of):
    begun(opened)
    target_of().write(BATCH, batch_of([1, 2], [3]))
    names = [call[0] for call in opened.calls]
    changes = [name for name in names if name not in ("ledger.find_one", "t.find_one")]
    assert changes == [
        "shop.list_collections",
        "ledger.find_one_and_update",
        "shop.list_collections",
        "t.delete_many",
        "t.bulk_write",
        "t.bulk_write",
        "shop.list_collections",
        "ledger.update_one",
    ]
    assert opened.named("t.bulk_write") == [
        [[InsertOne(document(0, 1)), InsertOne(document(1, 2))], False],
        [[InsertOne(document(2, 3))], False],
    ]
    [[_, change, _]] = opened.named("ledger.update_one")
    assert change["$set"]["queries.q.filled"] == 3


def test_a_batch_without_rows_is_recorded_without_being_the_last_with_rows(
    opened, batch_of
):
    begun(opened)
    target_of().write(BATCH, batch_of())
    assert opened.named("t.bulk_write") == []
    [[_, change, _]] = opened.named("ledger.update_one")
    assert change == {"$set": {"queries.q.batch": 3, "queries.q.plan": "plan"}}


def test_an_upsert_deletes_nothing(opened, batch_of):
    begun(opened)
    target_of("upsert", ("n",)).write(BATCH, batch_of([1]))
    assert opened.named("t.delete_many") == []
    [[[change], _]] = opened.named("t.bulk_write")
    assert isinstance(change, ReplaceOne)


def test_a_batch_that_the_collection_has_is_passed_over(opened, batch_of, monkeypatch):
    passed: list[Any] = []
    monkeypatch.setattr(collection, "pass_over", lambda *given: passed.append(given))
    begun(opened, batch=3)
    frame = batch_of([1])
    target_of().write(BATCH, frame)
    assert passed == [(frame, BATCH, target_of().where)]
    assert opened.named("t.bulk_write") == []
    assert opened.named("ledger.update_one") == []


def test_columns_and_others_rows_are_refused_with_each_batch(opened, batch_of):
    said = refusal(target_of().write, BATCH, frame_of("$"))
    assert "MongoDB cannot find a field again" in said
    said = refusal(target_of().write, BATCH, batch_of([1]))
    assert said.startswith(f"{WHERE} has rows that no query of the kit has written")


@pytest.mark.parametrize("changed", [0, 2])
def test_values_that_were_changed_are_a_warning(
    opened, batch_of, monkeypatch, caplog, changed
):
    begun(opened)
    encoder = SimpleNamespace(documents=lambda rows: iter(()), changed=changed)
    monkeypatch.setattr(collection, "Encoder", lambda schema, keys: encoder)
    target_of().write(BATCH, batch_of([1]))
    assert caplog.messages == [
        (
            f"batch 3, {WHERE}: {changed} values are changed: microseconds are cut, bytes"
            r" not of UTF-8 become \xff"
        )
    ] * bool(changed)
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}


@pytest.mark.parametrize(("size", "measured"), [(4 << 20, False), (4 << 20 | 1, True)])
def test_documents_of_large_parts_are_measured(
    opened, batch_of, monkeypatch, size, measured
):
    begun(opened)
    asked: list[bool] = []

    def send(attempt, rows, *, may_be_large):
        asked.append(may_be_large)

    rows = SimpleNamespace(nbytes=size)
    monkeypatch.setattr(collection, "_in_requests", lambda parts: [rows])
    monkeypatch.setattr(collection._WriteAttempt, "send", send)
    monkeypatch.setattr(
        collection,
        "Encoder",
        lambda *_: SimpleNamespace(documents=lambda part: iter(()), changed=0),
    )
    target_of().write(BATCH, batch_of([1]))
    assert asked == [measured]


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        ([0], []),
        ([1], [1]),
        ([1000], [1000]),
        ([1001], [1000, 1]),
        ([2500, 3], [1000, 1000, 500, 3]),
    ],
)
def test_a_request_has_a_thousand_rows_at_most(rows, sizes):
    parts = [pa.record_batch([pa.array(range(count))], ["n"]) for count in rows]
    found = list(collection._in_requests(parts))
    assert [part.num_rows for part in found] == sizes
    values = [value for part in found for value in part.column(0).to_pylist()]
    assert values == [value for count in rows for value in range(count)]


# --- the ledger


def test_a_ledger_knows_its_target_and_the_collections():
    database = Database()
    ledger = ledger_of(database, "upsert", take_over=True)
    assert (ledger.where, ledger.how, ledger.take_over) == (WHERE, "upsert", True)
    assert (ledger.what, ledger.removes) == ("collection", True)
    assert ledger.rows is database.rows
    assert database.calls == []


@pytest.mark.parametrize(
    ("queries", "found"), [(None, {}), ({"q": {"batch": 1}}, {"q": {"batch": 1}})]
)
def test_the_entries_are_those_of_the_ledgers_document(queries, found):
    database = Database(queries)
    assert ledger_of(database).entries() == found
    assert database.calls == [("ledger.find_one", {"_id": "t"}, None)]


@pytest.mark.parametrize(("document", "has"), [({"_id": 1}, True), (None, False)])
def test_a_collection_has_rows_if_one_is_found(document, has):
    database = Database()
    database.rows.answers["find_one"] = [document]
    assert ledger_of(database).has_rows() is has
    assert database.calls == [("t.find_one", {}, {"_id": True})]


def test_a_ledger_is_set_back_in_mongodbs_shell():
    assert ledger_of(Database()).set_back_command("q", 4) == (
        'run db.getSiblingDB("shop").sparkstream_ledger.updateOne({"_id": "t"},'
        ' {"$set": {"queries.q.batch": 4}, "$unset": {"queries.q.plan": "",'
        ' "queries.q.filled": ""}})'
    )


WRITTEN = {"q": {"batch": 3, "collection": "id", "filled": 2}}


@pytest.mark.parametrize(
    ("info", "how", "queries", "said"),
    [
        ([], "append", {}, None),
        ([], "append", WRITTEN, f"{WHERE} is gone, but this query has written"),
        ([info_of()], "append", WRITTEN, None),
        (
            [info_of(type="view")],
            "append",
            WRITTEN,
            (
                f"{WHERE} is a view, whose documents cannot be replaced; use another"
                " collection"
            ),
        ),
        ([{"name": "t"}], "append", WRITTEN, None),
        (
            [info_of(options={"collation": {}})],
            "upsert",
            WRITTEN,
            (
                f"{WHERE} has a collation, by which different texts can be one key; use"
                " another collection"
            ),
        ),
        ([info_of(options={"collation": {}})], "append", WRITTEN, None),
        ([info_of(options={"capped": 1})], "upsert", WRITTEN, None),
        ([info_of("other")], "append", WRITTEN, f"{WHERE} was made again after"),
        ([info_of()], "append", {}, f"{WHERE} has rows that no query of the kit has"),
    ],
    ids=[
        "not there",
        "gone",
        "the query's",
        "a view",
        "an old server's",
        "a collation",
        "a collation without keys",
        "other options",
        "made again",
        "another program's",
    ],
)
def test_a_collection_is_checked_before_it_is_written(info, how, queries, said):
    database = Database(queries, info=info)
    database.rows.answers["find_one"] = [None, None, {"_id": 1}]
    if queries is not WRITTEN or said is None:
        database.rows.answers["find_one"] = [{"_id": 1}]
    ledger = ledger_of(database, how)
    if said is None:
        ledger.check("q")
    else:
        assert refusal(ledger.check, "q").startswith(said)
    assert database.named("shop.list_collections") == [[{"name": "t"}]]


def described(*found, queries=None):
    """Return the ledger of a collection that the server has described."""
    database = Database(queries, info=list(found))
    ledger = ledger_of(database)
    ledger._describe_collection()
    database.calls.clear()
    return ledger


@pytest.mark.parametrize(
    ("found", "identity"),
    [
        ([], True),
        ([info_of("u")], "u"),
        ([info_of(None)], True),
        ([{"name": "t"}], True),
        ([{"name": "t", "info": None}], True),
        ([info_of("u"), info_of("v")], "u"),
    ],
    ids=["none", "an id", "no id", "no description", "an empty one", "the first"],
)
def test_a_collection_is_known_by_its_uuid_where_there_is_one(found, identity):
    assert described(*found)._identity() == identity


@pytest.mark.parametrize(
    ("noted", "current", "is_another"),
    [
        (None, "id", False),
        (True, "id", False),
        ("id", "id", False),
        ("former", "id", True),
        ("former", None, False),
    ],
    ids=["not noted", "no id then", "the same", "another", "no id now"],
)
def test_a_collection_is_another_if_the_server_says_so(noted, current, is_another):
    ledger = described(info_of(current))
    assert ledger._is_another(noted) is is_another


@pytest.mark.parametrize(
    ("entry", "since"),
    [
        ({"collection": "former", "filled": 2, "batch": 9}, 2),
        ({"collection": "former", "batch": 9}, 9),
        ({"collection": "former", "batch": -1}, 0),
        ({"collection": "former"}, 0),
    ],
    ids=["the last with rows", "the last", "the first", "none"],
)
def test_the_last_rows_are_looked_for_by_id_and_by_batch(entry, since):
    ledger = described(info_of())
    ledger.rows.answers["find_one"] = [None]
    assert ledger._rows_are_gone("q", entry) is True
    appended = {"_id": {"$gte": f"q/{since:09}/", "$lt": "q0"}}
    written = {"sparkstream.query": "q", "sparkstream.batch": {"$gte": since}}
    assert ledger.rows.calls == [
        ("t.find_one", appended, {"_id": True}),
        ("t.find_one", written, {"_id": True}),
    ]


@pytest.mark.parametrize(
    "found", [[{"_id": 1}], [None, {"_id": 1}]], ids=["id", "batch"]
)
def test_rows_that_are_found_are_not_gone(found):
    ledger = described(info_of())
    ledger.rows.answers["find_one"] = [*found]
    assert ledger._rows_are_gone("q", {"collection": "former"}) is False


@pytest.mark.parametrize("noted", [None, "id"], ids=["not noted", "the same"])
def test_rows_of_the_same_collection_are_not_looked_for(noted):
    ledger = described(info_of())
    assert ledger._rows_are_gone("q", {"collection": noted}) is False
    assert ledger.rows.calls == []


AGAIN = (
    f"{WHERE} was made again after this query had written its batches up to 3, and"
    " lacks the last ones; restore it; or, to write all rows again, start with another"
    " checkpoint folder; or, to go on without them, give take_over=True"
)
EMPTY = (
    f"{WHERE} is empty, but this query has written its batches up to 3 to it; restore"
    " the collection; or, to write all rows again, remove the collection and start with"
    " another checkpoint folder; or, to go on without its rows, give take_over=True"
)


@pytest.mark.parametrize(
    ("entry", "found", "indexes", "said"),
    [
        ({"batch": 3, "collection": "id"}, [{"_id": 1}], {}, None),
        ({"batch": 3, "collection": "id"}, [None], {}, EMPTY),
        (
            {"batch": 3, "collection": "id"},
            [None],
            {"ttl": {"expireAfterSeconds": 1}},
            None,
        ),
        ({"batch": 3, "collection": "former"}, [None], {}, AGAIN),
        (
            {"batch": 0, "collection": "former"},
            [None],
            {},
            AGAIN.replace("to 3", "to 0"),
        ),
        ({"batch": -1, "collection": "former"}, [None], {}, None),
        ({"collection": "former"}, [None], {}, None),
        ({"batch": 3}, [None], {}, None),
    ],
    ids=[
        "rows",
        "empty",
        "expired",
        "made again",
        "after the first batch",
        "within the first batch",
        "before it",
        "of an older kit",
    ],
)
def test_a_collection_has_the_rows_that_the_query_wrote(entry, found, indexes, said):
    ledger = described(info_of(), queries={"q": entry})
    ledger.rows.answers["find_one"] = found
    ledger.rows.answers["index_information"] = [indexes]
    if said is None:
        ledger.check_same("q")
    else:
        assert refusal(ledger.check_same, "q") == said
    ledger.take_over = True
    ledger.check_same("q")


@pytest.mark.parametrize(
    ("servers", "known"),
    [
        ([], "id"),
        ([("Standalone", {"processId": 5})], "shop.t of ['5']"),
        (
            [("RSSecondary", {"processId": 4}), ("RSPrimary", {"processId": 5})],
            "shop.t of ['5']",
        ),
        ([("RSSecondary", {"processId": 4})], "id"),
        ([("Standalone", None)], "id"),
        ([("Standalone", {})], "id"),
    ],
    ids=["none", "one", "a primary", "a secondary", "no version", "no process"],
)
def test_a_server_is_known_by_its_process_or_else_the_collection_by_its_uuid(
    servers, known
):
    database = Database()
    database.servers = {
        f"h:{number}": SimpleNamespace(server_type_name=kind, topology_version=version)
        for number, (kind, version) in enumerate(servers)
    }
    assert ledger_of(database).identity() == known


def test_without_a_uuid_the_collection_is_known_by_its_name():
    database = Database(info=[info_of(None)])
    assert ledger_of(database).identity() == "t in localhost:27017/shop"


@pytest.mark.parametrize(
    ("queries", "rows", "found"),
    [
        ({}, True, None),
        ({"q": {"batch": 3}}, True, ("q", 3)),
        ({"q": {"batch": -1}}, True, ("q", 0)),
        ({"q": {"epoch": 1}, "r": {"batch": 2}}, True, ("r", 2)),
        ({"q": {"batch": 3}}, False, ("q", 3)),
        ({"q": {"batch": 3, "collection": "id"}}, True, ("q", 3)),
        ({"q": {"batch": 3, "collection": "id"}}, False, None),
        ({"q": {"batch": 3, "collection": True}}, False, None),
    ],
    ids=[
        "none",
        "a query",
        "its first batch",
        "one without a batch",
        "without rows so far",
        "with rows",
        "its rows are gone",
        "of a server without ids",
    ],
)
def test_another_query_counts_if_its_rows_are_there(queries, rows, found):
    ledger = described(info_of(), queries=queries)
    ledger.rows.answers["find_one"] = [{"_id": 1} if rows else None]
    assert ledger.any_query() == found


def test_another_query_whose_rows_went_with_a_former_collection_does_not_count():
    entry = {"batch": 3, "collection": "former"}
    ledger = described(info_of(), queries={"q": entry})
    ledger.rows.answers["find_one"] = [{"_id": "of another program"}, None, None]
    assert ledger.any_query() is None


# --- the beginning and the end of an attempt


OF_DRIVER = {"_id": "t", "queries.q.driver": "me"}


def test_an_attempt_begins_with_the_next_write_number():
    database = Database()
    written = {"queries": {"q": {"write": 7}}}
    database.ledger.answers["find_one_and_update"] = [written]
    ledger = ledger_of(database)
    assert ledger.begin(BATCH) == 7
    assert database.calls == [
        (
            "ledger.find_one_and_update",
            {**OF_DRIVER, "queries.q.batch": {"$lt": 3}},
            {"$inc": {"queries.q.write": 1}},
            pymongo.ReturnDocument.AFTER,
        ),
        ("shop.list_collections", {"name": "t"}),
    ]
    assert ledger._identity() == "id"


def test_a_query_that_is_not_in_the_ledger_is_added_and_begins_then():
    database = Database({}, info=[info_of()])
    written = {"queries": {"q": {"write": 1}}}
    database.ledger.answers["find_one_and_update"] = [None, written]
    assert ledger_of(database).begin(BATCH) == 1
    assert len(database.named("shop.create_collection")) == 1
    assert len(database.named("ledger.find_one_and_update")) == 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"epoch": 2, "driver": "newer", "batch": 2},
            (
                f"another driver has started to write to {WHERE} (epoch 2, newer); this one"
                " ends"
            ),
        ),
        (
            {"epoch": 1, "driver": "me", "batch": 3},
            (
                "batch 3 was written by another driver of this query in the meantime; stop"
                " one of them"
            ),
        ),
    ],
    ids=["a newer driver", "the batch is written"],
)
def test_an_attempt_that_another_driver_has_overtaken_ends(entry, said):
    database = Database({"q": entry})
    assert refusal(ledger_of(database).begin, BATCH) == said
    assert database.named("ledger.update_one") == []
    superseded = ledger_of(database).superseded
    if "another driver has started" in said:
        assert refusal(superseded, BATCH) == said
    else:
        assert str(superseded(BATCH)) == said


@pytest.mark.parametrize(
    ("answer", "made"),
    [(None, True), (OperationFailure("exists", EXISTS), False)],
    ids=["missing", "there"],
)
def test_a_missing_collection_is_made(answer, made):
    database = Database(create_collection=[answer])
    assert ledger_of(database)._make() is made
    assert database.named("shop.create_collection") == [["t", False]]


def test_a_collection_that_cannot_be_made_is_an_error():
    database = Database(create_collection=[OperationFailure("no", 13)])
    with pytest.raises(OperationFailure):
        ledger_of(database)._make()


OTHERS = {"r": {"batch": 8}}
MINE = {"epoch": 1, "driver": "me", "batch": 2, "write": 0}


@pytest.mark.parametrize(
    ("queries", "is_there", "take_over", "claims"),
    [
        ({}, False, False, {"q": MINE}),
        (OTHERS, False, False, {"q": MINE}),
        (OTHERS, True, True, OTHERS | {"q": MINE}),
        (
            {"q": {"epoch": 4, "driver": "me"}},
            False,
            False,
            {"q": MINE | {"epoch": 4}},
        ),
    ],
    ids=["the first", "in place of others", "beside others", "with its epoch"],
)
def test_a_query_is_added_to_the_ledger_as_it_was(queries, is_there, take_over, claims):
    exists = OperationFailure("exists", EXISTS) if is_there else None
    database = Database(queries, create_collection=[exists])
    ledger = ledger_of(database, take_over=take_over)
    ledger._claim(BATCH)
    assert database.named("ledger.update_one") == [
        [{"_id": "t", "queries": queries}, {"$set": {"queries": claims}}, True]
    ]


def test_a_query_is_not_added_to_a_collection_of_others():
    exists = OperationFailure("exists", EXISTS)
    database = Database(OTHERS, create_collection=[exists])
    said = refusal(ledger_of(database)._claim, BATCH)
    assert "was written by another query (r, up to its batch 8)" in said
    assert database.named("ledger.update_one") == []


def test_a_ledger_that_changes_meanwhile_is_no_error():
    database = Database({})
    database.ledger.answers["update_one"] = [DuplicateKeyError("E11000")]
    ledger_of(database)._claim(BATCH)
    database.ledger.answers["update_one"] = [OperationFailure("no", 13)]
    with pytest.raises(OperationFailure):
        ledger_of(database)._claim(BATCH)


@pytest.mark.parametrize("has_rows", [True, False])
def test_a_batch_is_recorded_for_the_newest_attempt(has_rows):
    ledger = described(info_of(), queries={"q": MINE})
    ledger.finish(BATCH, 7, has_rows=has_rows)
    change = {"queries.q.batch": 3, "queries.q.plan": "plan"}
    if has_rows:
        change |= {"queries.q.collection": "id", "queries.q.filled": 3}
    assert ledger._database.named("ledger.update_one") == [
        [{**OF_DRIVER, "queries.q.write": 7}, {"$set": change}, False]
    ]
    assert len(ledger._database.named("shop.list_collections")) == 1


def test_a_batch_without_rows_is_the_default():
    ledger = described(info_of(), queries={"q": MINE})
    ledger.finish(BATCH, 7)
    [[_, change, _]] = ledger._database.named("ledger.update_one")
    assert "queries.q.filled" not in change["$set"]


def test_an_attempt_that_is_not_the_newest_is_not_recorded():
    ledger = described(info_of(), queries={"q": MINE})
    ledger._ledger.answers["update_one"] = [0]
    said = refusal(ledger.finish, BATCH, 7)
    assert said.startswith("batch 3 was written by another driver of this query")


def test_a_collection_that_was_removed_while_it_was_written_is_told():
    ledger = described(info_of("former"), queries={"q": MINE})
    ledger._database.answers["list_collections"] = [[info_of("id")]]
    with pytest.raises(KitError) as err:
        ledger.finish(BATCH, 7)
    assert str(err.value) == (
        f"{WHERE} was removed while batch 3 was written; start again"
    )
    assert type(err.value) is KitError
    assert ledger._database.named("ledger.update_one") == []


def test_a_collection_that_lost_the_rows_of_earlier_batches_is_told_first():
    entry = MINE | {"batch": 3, "collection": "former"}
    ledger = described(info_of("former"), queries={"q": entry})
    ledger._database.answers["list_collections"] = [[info_of("id")]]
    ledger.rows.answers["find_one"] = [None]
    assert refusal(ledger.finish, BATCH, 7) == AGAIN


# --- an attempt


class Ledger:
    """A ledger that gives the attempt the number 7."""

    def __init__(self, rows):
        self.rows = rows
        self.begun: list[Any] = []

    def begin(self, batch):
        self.begun.append(batch)
        return 7

    def superseded(self, batch):
        return InvalidInputError(f"batch {batch.number} was taken over")


def attempt_of(how="append", keys=(), **answers):
    """Return an attempt, and the collection that it writes to."""
    rows = Asked("t", [], **answers)
    ledger: Any = Ledger(rows)
    attempt = collection._WriteAttempt(target_of(how, keys), ledger, BATCH)
    assert ledger.begun == [BATCH]
    assert (attempt.number, attempt.sent) == (7, 0)
    return attempt, rows


def test_what_earlier_attempts_have_written_is_removed():
    attempt, rows = attempt_of()
    attempt.clear()
    ids = {"$gte": "q/000000003/", "$lt": "q0"}
    assert rows.calls == [
        ("t.delete_many", {"_id": ids, "sparkstream.write": {"$lt": 7}})
    ]


OWN = {"query": "q", "batch": 3, "write": 7}


def test_appended_documents_are_numbered():
    attempt, _ = attempt_of()
    assert attempt._document({"n": 5}) == document(0, 5)
    assert attempt._document({"n": 6}) == document(1, 6)
    assert attempt.sent == 2


@pytest.mark.parametrize(
    ("keys", "key"),
    [(("k",), "a"), (("k", "n"), {"k": "a", "n": 5})],
    ids=["one key", "two keys"],
)
def test_an_upserted_document_has_its_keys_as_its_id(keys, key):
    attempt, _ = attempt_of("upsert", keys)
    row = {"n": 5, "k": "a"}
    assert attempt._document(row) == {"_id": key, **row, "sparkstream": OWN}
    assert attempt.sent == 1


@pytest.mark.parametrize("row", [{"k": None, "n": 5}, {"k": "a", "n": None}])
def test_a_key_that_is_null_is_refused(row):
    attempt, _ = attempt_of("upsert", ("k", "n"))
    assert refusal(attempt._document, row) == (
        f"batch 3 for {WHERE}: key k, n is null; fill it with F.coalesce, or leave such"
        " rows out"
    )


LARGE = 16 * 1024 * 1024


@pytest.mark.parametrize(("over", "is_refused"), [(0, False), (1, True)])
def test_a_document_may_have_16_mebibytes(over, is_refused):
    attempt, _ = attempt_of()
    rest = len(bson.encode({"small": 1, "wide": ""}))
    wide = {"small": 1, "wide": "x" * (LARGE - rest + over)}
    if not is_refused:
        attempt._check_size(wide)
    else:
        assert refusal(attempt._check_size, wide) == (
            f"{WHERE}: a document of batch 3 has 16,777,217 bytes, most of them in"
            " column wide, and MongoDB takes 16,777,216 at most; split the row, or leave"
            " it out"
        )


def test_a_document_replaces_an_older_one_or_another_querys():
    attempt, _ = attempt_of()
    older = [{"sparkstream.query": {"$ne": "q"}}, {"sparkstream.write": {"$lt": 7}}]
    row = {"_id": 1, "n": 5}
    expected = ReplaceOne({"_id": 1, "$or": older}, row, upsert=True)
    assert attempt._replace(row) == expected


def refused(*errors, **more):
    """Return the server's refusal of some documents, as pymongo raises it."""
    return BulkWriteError({"writeErrors": list(errors), **more})


def of_id(index, text="E11000 duplicate key error collection: shop.t index: _id_ dup"):
    return {"index": index, "code": DUPLICATE, "errmsg": text}


def test_an_append_inserts_its_documents():
    attempt, rows = attempt_of()
    attempt.send(iter([{"n": 1}, {"n": 2}]))
    assert rows.calls == [
        (
            "t.bulk_write",
            [InsertOne(document(0, 1)), InsertOne(document(1, 2))],
            False,
        )
    ]


def test_an_upsert_replaces_its_documents():
    attempt, rows = attempt_of("upsert", ("k",))
    attempt.send(iter([{"k": 1}]))
    one = {"_id": 1, "k": 1, "sparkstream": OWN}
    assert rows.calls == [("t.bulk_write", [attempt._replace(one)], False)]


def test_documents_that_exist_are_replaced():
    attempt, rows = attempt_of(bulk_write=[refused(of_id(1)), None])
    attempt.send(iter([{"n": 1}, {"n": 2}]))
    assert rows.calls[1:] == [
        ("t.bulk_write", [attempt._replace(document(1, 2))], False)
    ]


def test_no_rows_are_no_request():
    attempt, rows = attempt_of("upsert", ("k",))
    attempt.send(iter([]))
    assert rows.calls == []


@pytest.mark.parametrize("times", [4, 5])
def test_documents_that_others_change_are_tried_five_times(times):
    errors = [refused(of_id(0))] * times
    attempt, rows = attempt_of("upsert", ("k",), bulk_write=[*errors, None])
    if times < 5:
        attempt.send(iter([{"k": 1}]))
    else:
        with pytest.raises(KitError) as err:
            attempt.send(iter([{"k": 1}]))
        assert str(err.value) == (
            f"other writers change {WHERE} faster than this query; stop one of them"
        )
    assert [call[0] for call in rows.calls] == (
        ["t.bulk_write", "t.find_one"] * times + ["t.bulk_write"] * (times < 5)
    )


@pytest.mark.parametrize("may_be_large", [True, False])
def test_documents_are_measured_if_they_may_be_large(monkeypatch, may_be_large):
    attempt, _ = attempt_of()
    measured: list[Any] = []
    monkeypatch.setattr(attempt, "_check_size", measured.append)
    attempt.send(iter([{"n": 1}, {"n": 2}]), may_be_large=may_be_large)
    assert measured == [document(0, 1), document(1, 2)] * may_be_large


# --- what the server refuses


def test_changes_that_are_taken_leave_nothing():
    attempt, rows = attempt_of()
    assert attempt._refused(["change"], [{"_id": 1}]) == []
    assert rows.calls == [("t.bulk_write", ["change"], False)]


def test_documents_whose_id_exists_are_returned():
    attempt, _ = attempt_of(bulk_write=[refused(of_id(2), of_id(0))])
    documents = [{"_id": number} for number in range(3)]
    assert attempt._refused([], documents) == [{"_id": 2}, {"_id": 0}]


def test_another_refusal_is_raised():
    other = {"index": 0, "code": 121, "errmsg": "no"}
    attempt, _ = attempt_of(bulk_write=[refused(of_id(1), other)])
    with pytest.raises(KitError, match="refuses a document of batch 3: no") as err:
        attempt._refused([], [{}, {}])
    assert err.value.__suppress_context__


def test_rows_on_too_few_servers_may_be_tried_again():
    late = [{"errmsg": "waiting for replication timed out"}]
    attempt, _ = attempt_of(bulk_write=[refused(writeConcernErrors=late)])
    with pytest.raises(TransientError) as err:
        attempt._refused([], [])
    assert str(err.value) == (
        f"{WHERE}: rows are not on enough servers: waiting for replication timed out;"
        " start again when they are back"
    )
    enough, _ = attempt_of(bulk_write=[refused(writeConcernErrors=[])])
    assert enough._refused([], []) == []


@pytest.mark.parametrize(
    ("refusal_of", "said", "kind"),
    [
        (
            {"code": DUPLICATE, "errmsg": "E11000 index: n_1 dup key"},
            (
                f"{WHERE} has a unique index n_1, in which a row of batch 3 is the same"
                " as another document (E11000); drop the index, or make it the key:"
                " how='upsert'"
            ),
            InvalidInputError,
        ),
        (
            {"code": DUPLICATE, "errmsg": "no name"},
            f"{WHERE} refuses a document of batch 3: no name",
            KitError,
        ),
        (
            {"code": 121, "errmsg": "index: n_1"},
            f"{WHERE} refuses a document of batch 3: index: n_1",
            KitError,
        ),
        (
            {
                "code": 121,
                "errmsg": "Document failed",
                "errInfo": [{"missingProperties": ["k", "n"]}, {"propertyName": "k"}],
            },
            (f"{WHERE} refuses a document of batch 3: Document failed (fields: k, n)"),
            KitError,
        ),
    ],
    ids=["a unique index", "one without a name", "another code", "fields"],
)
def test_a_refusal_that_no_retry_helps_is_told(refusal_of, said, kind):
    attempt, _ = attempt_of()
    told = attempt._refusal(refusal_of)
    assert str(told) == said
    assert type(told) is kind


@pytest.mark.parametrize(
    ("code", "text", "is_of_its_id"),
    [
        (DUPLICATE, "index: _id_ dup key", True),
        (DUPLICATE, "index: shop.t.$_id_ dup key", True),
        (DUPLICATE, "nothing", True),
        (DUPLICATE, "index: n_1 dup key", False),
        (121, "index: _id_ dup key", False),
    ],
    ids=["its id", "an older server's", "no name", "another index", "another code"],
)
def test_a_document_is_refused_because_of_its_id(code, text, is_of_its_id):
    refusal_of = {"code": code, "errmsg": text}
    assert collection._is_of_its_id(refusal_of) is is_of_its_id


@pytest.mark.parametrize(
    ("text", "index"),
    [("E11000 index: n_1 dup key", "n_1"), ("nothing", ""), (None, "")],
    ids=["named", "not named", "no text"],
)
def test_an_index_is_named_in_a_text(text, index):
    assert collection._index_of({"errmsg": text}) == index


@pytest.mark.parametrize(
    ("info", "names"),
    [
        (None, []),
        ("text", []),
        ({}, []),
        ({"missingProperties": ["a", "b"]}, ["a", "b"]),
        ({"propertyName": "c"}, ["c"]),
        (
            {"x": [{"propertyName": "c"}, {"y": {"missingProperties": ["d"]}}]},
            ["c", "d"],
        ),
    ],
    ids=["nothing", "a text", "an empty one", "missing", "wrong", "within"],
)
def test_fields_are_named_in_what_a_rule_says(info, names):
    assert list(collection._named_in(info)) == names


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (None, None),
        ({}, None),
        ({"query": "r", "write": 99}, None),
        ({"query": "q", "write": 6}, None),
        (
            {"query": "q", "write": 7},
            (
                f"batch 3 for {WHERE}: key k is the same in two rows; use the columns"
                " that the query groups by"
            ),
        ),
        ({"query": "q", "write": 8}, "batch 3 was taken over"),
    ],
    ids=["gone", "no query's", "another query's", "older", "the same", "newer"],
)
def test_why_a_document_exists_is_found_out(own, said):
    found = None if own is None else {"sparkstream": own}
    attempt, rows = attempt_of("upsert", ("k",), find_one=[{}, found])
    documents = [{"_id": 1}, {"_id": 2}]
    if said is None:
        attempt._explain(documents)
    else:
        assert refusal(attempt._explain, documents).startswith(said)
    assert rows.calls == [
        ("t.find_one", {"_id": 1}, {"sparkstream": True}),
        ("t.find_one", {"_id": 2}, {"sparkstream": True}),
    ]


def test_the_epoch_of_a_query_is_in_its_entry():
    database = Database({"q": {"epoch": 2, "driver": "d"}})
    assert ledger_of(database).epoch("q") == Epoch(2, "d")
