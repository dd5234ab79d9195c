"""One batch into one collection: each document by a condition, and the ledger before and after them.

A query counts its writes: `begin` gives each try of a batch a higher number than all before, and each
document keeps the number that has written it. A document is written only over one with a lower number. So
whatever an older try still has on its way to the server is refused where a newer one has been, and
overwritten where it has not: when a try has written all of its rows, the collection has exactly these.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

import bson
import pyarrow as pa
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import InsertOne, MongoClient, ReplaceOne, ReturnDocument
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import parse_uri
from pyspark.sql import types as T

from sparkstream_kit._columns import types_in
from sparkstream_kit.connectors import arrow, check_row_keys, other_driver
from sparkstream_kit.errors import InvalidInputError, KitError, reject_unknown
from sparkstream_kit.sinks.ledger import Epoch, Ledger, pass_over, refuse_twice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymongo.database import Database
    from pyspark.sql import DataFrame

    from sparkstream_kit.sinks.ledger import Batch

    _Document = dict[str, Any]


LEDGER = "sparkstream_ledger"

_PATIENCE = 10  # seconds; pymongo's own 30 are long for a name that is wrong
_UNAUTHORIZED, _AUTHENTICATION_FAILED, _ATLAS = 13, 18, 8000  # codes of servers; the last of MongoDB's own
_NOT_IN_DATABASES = '/\\. "$*<>:|?\0'
_HOW = "write mongodb://user@host:27017/shop, with %40 for an @ in a password"


@dataclass(frozen=True)
class Address:
    """A database of a server."""

    url: str = dataclasses.field(repr=False)
    database: str

    @property
    def shown(self) -> str:
        """The address for messages: without user, password and options."""
        scheme, _, rest = self.url.partition("://")
        hosts = rest.partition("?")[0].rpartition("@")[2].partition("/")[0]
        return f"{scheme}://{hosts}/{self.database}"


def parse(url: str, database: str | None, collection: str) -> Address:
    """Return the database that is meant.

    Raises:
        InvalidInputError: no URL of MongoDB (it is not shown: it may hold a password), or a name that
            MongoDB does not take.
    """
    scheme, _, rest = url.partition("://")
    bare, _, options = rest.partition("?")
    if scheme not in ("mongodb", "mongodb+srv"):
        raise InvalidInputError(f"mongodb: this is no URL of MongoDB; {_HOW}")
    try:
        # Without the options, of which some are for mongodb+srv alone, and without looking its host up.
        named = parse_uri(f"mongodb://{bare}")["database"]
    except (PyMongoError, ValueError):
        raise InvalidInputError(f"mongodb: the URL cannot be read; {_HOW}") from None
    named = database or named
    if not named:
        raise InvalidInputError(
            "mongodb: the URL names no database; write mongodb://host:27017/shop, or give database='shop'"
        )
    if set(named) & set(_NOT_IN_DATABASES):
        raise InvalidInputError(f"mongodb: MongoDB takes no database of the name {named}; use another")
    if collection == LEDGER:
        raise InvalidInputError(f"mongodb: the kit needs the name {LEDGER} for its own; use another")
    if (
        not collection
        or {"$", "\0"} & set(collection)
        or ".." in collection
        or collection.startswith((".", "system."))
        or collection.endswith(".")
    ):
        raise InvalidInputError(
            f"mongodb: MongoDB takes no collection of the name {collection!r}; use another"
        )
    if any(re.fullmatch("(?i)w=0+", unquote_plus(each)) for each in re.split("[&;]", options)):
        raise InvalidInputError(
            "mongodb: with w=0 the server does not say whether it has written; leave w out of the URL"
        )
    return Address(url, named)


@contextmanager
def connected(address: Address) -> Iterator[Database[dict[str, Any]]]:
    """Connect, and put what goes wrong in words.

    Raises:
        InvalidInputError: the server does not answer, or refuses the log-in.
        KitError: it reported an error later.
    """
    options = _options(address.url)
    where = f"MongoDB at {address.shown}"
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(address.url, **options)
    except (PyMongoError, ValueError, TypeError) as err:
        raise InvalidInputError(f"{where} cannot be used: {cause(err, address)}; correct the URL") from None
    with client:
        try:
            client.admin.command("ping")
        except PyMongoError as err:
            told = _told(err, where, address)
            raise told if isinstance(told, InvalidInputError) else InvalidInputError(str(told)) from None
        try:
            yield client[address.database]
        except (PyMongoError, BSONError) as err:
            raise _told(err, where, address) from None


def _options(url: str) -> dict[str, Any]:
    """Return the options of a client beside those that a URL has."""
    given = {each.partition("=")[0].lower() for each in re.split("[&;]", url.partition("?")[2])}
    # A ledger that is read elsewhere could be an old one.
    options: dict[str, Any] = {"appname": "sparkstream-kit", "readPreference": "primary"}
    if "serverselectiontimeoutms" not in given:
        options["serverSelectionTimeoutMS"] = _PATIENCE * 1000
    if "w" not in given:
        options["w"] = "majority"  # what one server has written alone can be taken back by the others
    return options


def _told(error: Exception, where: str, address: Address) -> KitError:
    """Return an error in words, with the fix where it is known."""
    said = cause(error, address)
    if isinstance(error, ServerSelectionTimeoutError):
        return InvalidInputError(f"{where} does not answer: {said}; start it, or correct the URL")
    if isinstance(error, ConfigurationError):
        return InvalidInputError(f"{where} cannot be used: {said}")
    code = error.code if isinstance(error, OperationFailure) else None
    if code in (_AUTHENTICATION_FAILED, _ATLAS):
        return InvalidInputError(
            f"{where} refuses the log-in: {said}; correct the user, the password or authSource in the URL"
        )
    if code == _UNAUTHORIZED:
        return InvalidInputError(
            f"{where} does not allow this: {said}; give the user the role readWrite on {address.database}"
        )
    return KitError(f"{where}: {said}")


def cause(error: object, address: Address) -> str:
    """Return what the server or pymongo said, in one line without the URL's secrets."""
    text = " ".join(str(error).split())
    # pymongo goes on with its settings, and with all that it knows of the servers.
    text = re.split(r" \(configured timeouts|, Timeout: |, full error: ", text)[0]
    rest = address.url.partition("://")[2]
    password = rest.partition("?")[0].rpartition("@")[0].partition(":")[2]
    options = re.findall(r"(?i)(?:password|properties)=([^&;]+)", rest.partition("?")[2])
    for secret in filter(None, (password, *options)):
        text = text.replace(secret, "***").replace(unquote_plus(secret), "***")
    return text[:300]


OWN = "sparkstream"  # the field that says who has written a document

_DIGITS = 34  # of a Decimal128
_A_DAY = 86_400_000  # milliseconds
_AS_THEY_ARE = ("binary", "boolean", "byte", "double", "float", "integer", "short", "void")
_KEPT = (
    *_AS_THEY_ARE,
    *("array", "char", "date", "decimal", "long", "map", "string", "timestamp", "timestamp_ntz", "varchar"),
)


def check_schema(schema: T.StructType, keys: Sequence[str]) -> None:
    """Refuse columns that MongoDB cannot hold, and keys by which it cannot know a document.

    Raises:
        InvalidInputError: in words, with the fix.
    """
    reject_unknown("key", keys, schema.names)
    for field in schema.fields:
        if field.name == OWN:
            raise InvalidInputError(
                f"mongodb: the kit needs the name {OWN} for a field of its own; rename it"
            )
        if field.name == "_id" and list(keys) != ["_id"]:
            raise InvalidInputError(
                "mongodb: a column _id is the document's key: give how='upsert', keys=['_id'], or rename it"
            )
        if field.name in keys and isinstance(field.dataType, T.ArrayType | T.MapType):
            raise InvalidInputError(
                f"mongodb: key {field.name} is {field.dataType.simpleString()}, which MongoDB does not take "
                f"for a key; make it a text: F.to_json('{field.name}')"
            )
        for kind in types_in(field.dataType):
            _check_type(field.name, kind)
    _check_names("column", schema)


def _check_names(what: str, schema: T.StructType) -> None:
    for name in schema.names:
        if not name or "." in name or name.startswith("$") or "\0" in name:
            raise InvalidInputError(
                f"mongodb: {what} {name!r}: MongoDB cannot find a field again whose name is empty, has a dot "
                "or begins with a dollar; rename it"
            )
    refuse_twice(f"mongodb: {what}", schema.names)


def _check_type(column: str, kind: T.DataType) -> None:
    if isinstance(kind, T.StructType):
        _check_names(f"in column {column} the field", kind)
    elif isinstance(kind, T.DecimalType) and kind.precision > _DIGITS:
        raise InvalidInputError(
            f"mongodb: column {column} is {kind.simpleString()}, and MongoDB's decimals have {_DIGITS} "
            f"digits; cast it: F.col('{column}').cast('decimal({_DIGITS},{min(kind.scale, _DIGITS)})')"
        )
    elif kind.typeName() not in _KEPT:
        raise InvalidInputError(
            f"mongodb: column {column} has the type {kind.simpleString()}, which MongoDB cannot hold; cast "
            "it, or leave it out"
        )


class Encoder:
    """Makes documents of the rows of one schema.

    Args:
        schema: that of the rows.
        keys: the columns by which a document is known.

    Attributes:
        changed: how many values were changed so far, because MongoDB cannot hold them as they were.
    """

    def __init__(self, schema: T.StructType, keys: Sequence[str] = ()) -> None:
        self.changed = 0
        self._names, self._keys = schema.names, keys
        self._makers = [self._maker(field.dataType) for field in schema.fields]

    def documents(self, part: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Make a document of each row; the columns of the part have the schema's order.

        Raises:
            InvalidInputError: a key cannot be held as it is.
        """
        columns = []
        for name, column, make in zip(self._names, part.columns, self._makers, strict=True):
            values, before = _plain(column).to_pylist(), self.changed
            columns.append(values if make is None else [make(value) for value in values])
            if name in self._keys and self.changed > before:
                raise InvalidInputError(
                    f"mongodb: key {name} has a value that MongoDB cannot hold as it is, and two rows could "
                    f"then have the same: truncate times with F.date_trunc('millisecond', '{name}'), encode "
                    f"a text that is not UTF-8 with F.base64('{name}')"
                )
        for row in zip(*columns, strict=True):
            yield dict(zip(self._names, row, strict=True))

    def _maker(self, kind: T.DataType) -> Callable[[Any], Any] | None:
        """Return the function that makes a value for MongoDB of one as `_plain` has it; None: as it is."""
        make: Callable[[Any], Any]
        if isinstance(kind, T.StructType):
            make = self._struct(kind)
        elif isinstance(kind, T.ArrayType):
            element = self._maker(kind.elementType)
            if element is None:
                return None
            make = lambda values: [element(each) for each in values]  # noqa: E731
        elif isinstance(kind, T.MapType):
            entry = self._struct(T.StructType().add("key", kind.keyType).add("value", kind.valueType))
            make = lambda pairs: [entry({"key": key, "value": value}) for key, value in pairs]  # noqa: E731
        elif isinstance(kind, T.DecimalType):
            make = Decimal128
        elif isinstance(kind, T.DateType):
            make = lambda days: DatetimeMS(days * _A_DAY)  # noqa: E731
        elif isinstance(kind, T.TimestampType | T.TimestampNTZType):
            make = self._time
        elif isinstance(kind, T.LongType):
            make = Int64  # a plain int is 32 bits or 64, by its value
        elif kind.typeName() in _AS_THEY_ARE:
            return None
        else:
            make = self._text
        return lambda value: None if value is None else make(value)

    def _struct(self, kind: T.StructType) -> Callable[[Any], Any]:
        makers = [(field.name, self._maker(field.dataType)) for field in kind.fields]
        return lambda value: {
            name: value[name] if make is None else make(value[name]) for name, make in makers
        }

    def _time(self, microseconds: int) -> DatetimeMS:
        milliseconds, cut = divmod(microseconds, 1000)
        self.changed += cut > 0
        return DatetimeMS(milliseconds)

    def _text(self, value: str | bytes) -> str:
        if isinstance(value, str):
            return value
        text = value.decode("utf-8", "backslashreplace")
        self.changed += text.encode() != value
        return text


def _plain(column: pa.Array) -> pa.Array:
    """Return a column with times as numbers, of which Python's own begin with the year 1.

    Texts with bytes that are not UTF-8, which Python refuses, are bytes.
    """
    try:
        column.validate(full=True)
        is_utf8 = True
    except pa.ArrowInvalid:
        is_utf8 = False
    kind = _plain_type(column.type, is_utf8=is_utf8)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: pa.DataType, *, is_utf8: bool) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_plain_type(each.type, is_utf8=is_utf8)) for each in kind])
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type, is_utf8=is_utf8))
    if pa.types.is_map(kind):
        return pa.map_(
            _plain_type(kind.key_type, is_utf8=is_utf8), _plain_type(kind.item_type, is_utf8=is_utf8)
        )
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return pa.int32() if pa.types.is_date(kind) else pa.int64()
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.large_binary() if is_text and not is_utf8 else kind


_ROWS = 1000  # documents that are made and sent at a time
_TRIES = 5  # for a document that another query writes in the same moment
_DUPLICATE, _EXISTS = 11000, 48  # codes of the server: a key, a collection
_LARGEST = 16 * 1024 * 1024  # bytes of a document
_UNTIL = "0"  # sorts right after the slash in what documents are known by

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where the rows go, and how."""

    address: Address
    name: str
    how: str
    keys: tuple[str, ...]
    take_over: bool

    @property
    def where(self) -> str:
        """The collection and its database, for messages and to tell two targets apart."""
        return f"collection {self.name} in {self.address.shown}"


class _Store:
    """The ledger: one document for each collection, with the queries that write to it."""

    def __init__(self, database: Database[_Document], target: Target) -> None:
        self._database, self._target = database, target
        self._ledger, self.rows = database[LEDGER], database[target.name]
        self._me = {"_id": target.name}

    @property
    def rules(self) -> Ledger:
        """The rules for this collection."""
        target = self._target
        name = f"collection {target.name}"
        return Ledger(self, name, target.where, target.how, target.take_over, what="collection", removes=True)

    def _queries(self) -> dict[str, dict[str, Any]]:
        found = self._ledger.find_one(self._me)
        return {} if found is None else dict(found["queries"])

    def last_batch(self, query_id: str | None) -> int | None:
        return self._queries().get(str(query_id), {}).get("batch")  # -1 in its first batch

    def last_plan(self, query_id: str) -> str | None:
        return self._queries().get(query_id, {}).get("plan")

    def any_query(self) -> tuple[str, int] | None:
        written = ((query, each.get("batch")) for query, each in self._queries().items())
        return next(((query, max(batch, 0)) for query, batch in written if batch is not None), None)

    def epoch(self, query_id: str) -> Epoch | None:
        own = self._queries().get(query_id, {})
        return Epoch(own["epoch"], own["driver"]) if "epoch" in own else None

    def take(self, query_id: str, driver: str) -> None:
        """Give a query its next epoch."""
        entry = f"queries.{query_id}"
        newer = {"$inc": {f"{entry}.epoch": 1}, "$set": {f"{entry}.driver": driver}}
        self._ledger.update_one(self._me, newer, upsert=True)

    def has_rows(self) -> bool:
        return self.rows.find_one({}, {"_id": True}) is not None

    def set_back(self, query_id: str, batch_id: int) -> str:
        entry = f"queries.{query_id}"
        change = {"$set": {f"{entry}.batch": batch_id}, "$unset": {f"{entry}.plan": ""}}
        database = f"db.getSiblingDB({json.dumps(self._database.name)})"
        return f"run {database}.{LEDGER}.updateOne({json.dumps(self._me)}, {json.dumps(change)})"

    def check(self, query_id: str | None) -> None:
        """Refuse a collection that is not this query's, or that is gone.

        Raises:
            InvalidInputError: the ledger's rules refuse it.
        """
        if self.rows.name in self._database.list_collection_names():
            self.rules.check_owner(query_id)
        else:
            self.rules.check_lost(query_id)

    def begin(self, batch: Batch) -> int:
        """Begin to write a batch; return the number of this write, higher than all before of the query.

        Raises:
            InvalidInputError: another driver of the query has started or has written the batch in the
                meantime, or another query has begun to write to the collection.
        """
        entry = f"queries.{batch.query}"
        while True:
            begun = self._ledger.find_one_and_update(
                {**self._mine(batch), f"{entry}.batch": {"$lt": batch.number}},
                {"$inc": {f"{entry}.write": 1}},
                return_document=ReturnDocument.AFTER,
            )
            if begun is not None:
                own = begun["queries"][batch.query]
                if own["batch"] < 0:  # the first batch again: somebody may have dropped the collection
                    self._make()
                return int(own["write"])
            self.rules.check_epoch(batch)
            if self.last_batch(batch.query) is not None:
                raise other_driver(batch.number)
            self._claim(batch)

    def _mine(self, batch: Batch) -> _Document:
        """Return the condition that no newer driver of the query has started."""
        return {**self._me, f"queries.{batch.query}.driver": batch.driver}

    def superseded(self, batch: Batch) -> InvalidInputError:
        """Return the refusal of a batch that another driver has begun since, or may begin."""
        self.rules.check_epoch(batch)
        return other_driver(batch.number)

    def _make(self) -> bool:
        """Make the collection; return whether it was not there."""
        try:
            self._database.create_collection(self.rows.name, check_exists=False)
        except OperationFailure as err:
            if err.code != _EXISTS:
                raise
            return False
        return True

    def _claim(self, batch: Batch) -> None:
        """Enter a query before its first batch here, unless the ledger is changed in the same moment."""
        queries = self._queries()
        own = queries.get(batch.query, {"epoch": 1, "driver": batch.driver})
        claims = {batch.query: {**own, "batch": batch.number - 1, "write": 0}}
        if not self._make():  # else the rows of others are gone, and so are their claims
            self.rules.check_owner(batch.query)
            claims = queries | claims
        with suppress(DuplicateKeyError):
            as_it_was = {**self._me, "queries": queries}
            self._ledger.update_one(as_it_was, {"$set": {"queries": claims}}, upsert=True)

    def finish(self, batch: Batch, number: int) -> None:
        """Make a batch the query's last one.

        Raises:
            InvalidInputError: another driver has started, or begun to write it, in the meantime.
        """
        entry = f"queries.{batch.query}"
        done = self._ledger.update_one(
            {**self._mine(batch), f"{entry}.write": number},
            {"$set": {f"{entry}.batch": batch.number, f"{entry}.plan": batch.plan}},
        )
        if not done.matched_count:
            raise self.superseded(batch)


def prepare(
    target: Target, frame: DataFrame, query_id: str | None, following: int | None, _makes: bool
) -> str | None:
    """See that a query may write its rows to the collection; make nothing.

    Returns:
        The plan of the query's next batch, if the collection has it already.

    Raises:
        InvalidInputError: MongoDB cannot hold the columns, or the collection is not this query's.
    """
    check_schema(frame.schema, target.keys)
    with connected(target.address) as database:
        store = _Store(database, target)
        store.check(query_id)
        return store.rules.plan_of(query_id, following)


def take(target: Target, query_id: str, driver: str) -> None:
    """Give a query its next epoch: from here on no older driver of the query can finish a batch."""
    with connected(target.address) as database:
        _Store(database, target).take(query_id, driver)


def write(target: Target, batch: Batch, frame: DataFrame) -> None:
    """Write a batch of a query, once.

    Raises:
        InvalidInputError: the ledger's rules refuse the batch, or its rows have no keys to be known by.
        KitError: the server reported an error, or a worker lost rows.
    """
    check_schema(frame.schema, target.keys)
    with connected(target.address) as database:
        store = _Store(database, target)
        store.check(batch.query)
        if store.rules.is_written(batch):
            pass_over(frame, batch, target.where)
            return
        with arrow.kept(frame) as parts:
            encoder = Encoder(frame.schema, target.keys)
            writer = _Writer(target, store, batch)
            if target.how == "append":
                writer.clear()
            for part in parts:
                for first in range(0, part.num_rows, _ROWS):
                    writer.send(encoder.documents(part.slice(first, _ROWS)))
        store.finish(batch, writer.number)
    if encoder.changed:
        _log.warning(
            r"batch %d, %s: %d values are changed: microseconds are cut, bytes not of UTF-8 become \xff",
            batch.number,
            target.where,
            encoder.changed,
        )


class _Made(NamedTuple):
    """A document: what it is known by, and its bytes."""

    known: Any
    raw: RawBSONDocument


class _Writer:
    """One try of one batch."""

    def __init__(self, target: Target, store: _Store, batch: Batch) -> None:
        self.number = store.begin(batch)
        self._target, self._store, self._rows = target, store, store.rows
        self._whole, self._query, self._batch = batch, batch.query, batch.number
        self._sent = 0

    def clear(self) -> None:
        """Remove what former tries have written of this batch, and of later ones before a rewind."""
        this = {"$gte": f"{self._query}/{self._batch:09}/", "$lt": f"{self._query}{_UNTIL}"}
        self._rows.delete_many({"_id": this, f"{OWN}.write": {"$lt": self.number}})

    def send(self, rows: Iterator[_Document]) -> None:
        """Write the documents of some rows."""
        documents = [self._document(row) for row in rows]
        if self._target.how == "append":
            # The first try of a batch finds none of them there.
            documents = self._refused([InsertOne(each.raw) for each in documents], documents)
        for _ in range(_TRIES):
            if not documents:
                return
            documents = self._refused([self._replace(each) for each in documents], documents)
            self._explain(documents)
        raise KitError(f"other writers change {self._target.where} faster than this query; stop one of them")

    def _document(self, row: _Document) -> _Made:
        own = {OWN: {"query": self._query, "batch": self._batch, "write": self.number}}
        if self._target.how == "append":
            known = f"{self._query}/{self._batch:09}/{self._sent:012}"
            self._sent += 1
            return self._encoded(known, {**row, **own})
        keys = {key: row[key] for key in self._target.keys}
        if None in keys.values():
            check_row_keys(self._target.where, self._target.keys, self._batch, null=True)
        return self._encoded(keys if len(keys) > 1 else next(iter(keys.values())), {**row, **own})

    def _encoded(self, known: object, fields: _Document) -> _Made:
        raw = bson.encode({"_id": known, **fields})
        if len(raw) > _LARGEST:
            widest = max(fields, key=lambda name: len(bson.encode({name: fields[name]})))
            raise InvalidInputError(
                f"batch {self._batch} for {self._target.where}: a row makes a document of {len(raw):,} "
                f"bytes, most of them in column {widest}, and MongoDB holds {_LARGEST:,}; leave such rows "
                "out, or split them"
            )
        return _Made(known, RawBSONDocument(raw))

    def _replace(self, document: _Made) -> ReplaceOne[Any]:
        older = [{f"{OWN}.query": {"$ne": self._query}}, {f"{OWN}.write": {"$lt": self.number}}]
        # Where none fits, an insert is tried, which the server refuses if there is a newer one.
        return ReplaceOne({"_id": document.known, "$or": older}, document.raw, upsert=True)

    def _refused(self, changes: Sequence[Any], documents: list[_Made]) -> list[_Made]:
        """Send changes; return the documents whose `_id` is there already.

        Raises:
            InvalidInputError: another unique index refuses one.
            KitError: the server refuses one.
        """
        try:
            self._rows.bulk_write(changes, ordered=False)
        except BulkWriteError as err:
            for each in err.details["writeErrors"]:
                self._check(each)
            if late := err.details.get("writeConcernErrors"):
                said = cause(late[0].get("errmsg"), self._target.address)
                raise KitError(f"{self._target.where}: rows are not on enough servers: {said}") from None
            return [documents[each["index"]] for each in err.details["writeErrors"]]
        return []

    def _check(self, error: _Document) -> None:
        """Let pass that a document of this `_id` is there; its values are not for messages."""
        said = str(error.get("errmsg"))
        if error.get("code") != _DUPLICATE:
            said = cause(said, self._target.address)
            raise KitError(
                f"{self._target.where} refuses a document of batch {self._batch}: {said}"
            ) from None
        index = re.search(r"index: (\S+)", said)
        if index is not None and not index[1].endswith("_id_"):
            raise InvalidInputError(
                f"{self._target.where} has a unique index {index[1]}, in which a row of batch {self._batch} "
                "is the same as another document (E11000); drop the index, or make it the key: how='upsert'"
            ) from None

    def _explain(self, documents: list[_Made]) -> None:
        """Refuse documents that this try, or a newer one of this query, has written already."""
        for each in documents:
            own = (self._rows.find_one({"_id": each.known}, {OWN: True}) or {}).get(OWN, {})
            if own.get("query") == self._query and own["write"] == self.number:
                check_row_keys(self._target.where, self._target.keys, self._batch, twice=True)
            if own.get("query") == self._query and own["write"] > self.number:
                raise self._store.superseded(self._whole)
