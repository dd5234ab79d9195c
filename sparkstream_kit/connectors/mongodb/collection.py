"""Write one batch into one MongoDB collection, exactly once and without transactions.

Every attempt to write a batch gets a write number from the ledger (`_Ledger.begin`),
higher than all earlier numbers of the query. Each document stores the number of the
write that wrote it, and a write may only replace a document with a lower number. So if
an older attempt still has writes on their way to the server, they are refused where the
newer attempt has already written, and overwritten by it elsewhere. When an attempt has
written all of its rows, the collection holds exactly these rows, and `_Ledger.finish`
records the batch.

`Target` is where `mongodb` writes, and `_Ledger` is its ledger. `connected` connects
and translates errors.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import bson
from bson.errors import BSONError
from pymongo import InsertOne, MongoClient, ReplaceOne, ReturnDocument
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidName,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import parse_uri, split_hosts

from sparkstream_kit.connectors import _arrow, check_row_keys, other_driver
from sparkstream_kit.connectors._tables import Entries
from sparkstream_kit.connectors.mongodb.documents import OWN, Encoder, check_schema
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks import base
from sparkstream_kit.sinks.ledger import pass_over

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pymongo.database import Database
    from pyspark.sql import DataFrame

    from sparkstream_kit.sinks.ledger import Batch

    _Document = dict[str, Any]


LEDGER = "sparkstream_ledger"

# Seconds to wait for a server; pymongo's default of 30 is long for a misspelt host
_PATIENCE = 10
# A server's error codes: not allowed, wrong log-in; the last is Atlas's
_REFUSED = (13, 18, 8000)
_HOW = "write mongodb://user@host:27017/shop, with %40 for an @ in a password"


@dataclass(frozen=True)
class Address:
    """A database of a MongoDB server.

    Attributes:
        url: the user's URL; out of the repr, because it may hold a password.
        database: the name of the database.
    """

    url: str = dataclasses.field(repr=False)
    database: str

    @property
    def shown(self) -> str:
        """The address for messages, without the user, the password and the options."""
        scheme, _, rest = self.url.partition("://")
        hosts = rest.partition("?")[0].rpartition("@")[2].partition("/")[0]
        return f"{scheme}://{hosts}/{self.database}"

    @property
    def known_as(self) -> str:
        """The address in one spelling, whatever the order of its hosts.

        This machine's own address is localhost.
        """
        _, _, hosts = self.shown.removesuffix(f"/{self.database}").partition("://")
        return f"{','.join(sorted(map(_at, hosts.split(','))))}/{self.database}"


def _at(host: str) -> str:
    """Return a host with its port, in one spelling: `localhost:27017` for `127.0.0.1`."""
    name, port = split_hosts(host)[0]
    return f"{'localhost' if name in ('127.0.0.1', '::1') else name.lower()}:{port}"


def parse(url: str, database: str | None, collection: str) -> Address:
    """Check a URL and the names that a user gave, and return the database that they mean.

    Args:
        url: the URL.
        database: the database, which overrides the one in the URL; None to use that
            one.
        collection: the collection, which must not be the ledger. pymongo checks the
            names when it connects.

    Raises:
        InvalidInputError: the URL is not one of MongoDB (the message does not show it,
            because it may hold a password) or names no database, or the collection is
            the ledger.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("mongodb", "mongodb+srv"):
        raise InvalidInputError(f"mongodb: this is no URL of MongoDB; {_HOW}")
    try:
        # As mongodb://, which looks up no host, and without the options, some of which
        # only +srv allows.
        in_url = parse_uri(f"mongodb://{rest.partition('?')[0]}")["database"]
    except (PyMongoError, ValueError):
        raise InvalidInputError(f"mongodb: the URL cannot be read; {_HOW}") from None
    named = database or in_url
    if not named:
        raise InvalidInputError(
            "mongodb: the URL names no database; write mongodb://host:27017/shop, or"
            " give database='shop'"
        )
    if collection == LEDGER:
        raise InvalidInputError(
            f"mongodb: the kit needs the name {LEDGER} for its own; use another"
        )
    if collection.startswith("system."):
        raise InvalidInputError(
            f"mongodb: {collection} is a name of the server's own; use another"
        )
    return Address(url, named)


@contextmanager
def connected(address: Address) -> Iterator[Database[dict[str, Any]]]:
    """Connect to a database for a `with` block, and report errors in one line.

    The secrets of the URL are left out of the line.

    Raises:
        InvalidInputError: the URL cannot be used, or the server refuses the log-in; a
            TransientError if it does not answer, or went away.
        KitError: the server reported an error later.
    """
    # The ledger on a secondary may be out of date, and a write that only one server has
    # can be rolled back.
    options: dict[str, Any] = {
        "appname": "sparkstream-kit",
        "readPreference": "primary",
        "w": "majority",
    }
    if "serverselectiontimeoutms" not in address.url.lower():
        options["serverSelectionTimeoutMS"] = _PATIENCE * 1000
    where = f"MongoDB at {address.shown}"
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(address.url, **options)
    except (PyMongoError, ValueError, TypeError) as err:
        raise InvalidInputError(
            f"{where} cannot be used: {cause(err, address)}; correct the URL"
        ) from None
    with client:
        try:
            client.admin.command("ping")
            yield client[address.database]
        except (PyMongoError, BSONError) as err:
            raise _told(err, where, address) from None


def _told(error: Exception, where: str, address: Address) -> KitError:
    """Translate an error of pymongo's into one of the kit's, with the fix if it is known."""
    said = cause(error, address)
    if isinstance(error, ServerSelectionTimeoutError):
        return TransientError(
            f"{where} does not answer: {said}; start it, or correct the URL"
        )
    is_away = isinstance(error, ConnectionFailure)
    if isinstance(error, PyMongoError) and error.has_error_label("RetryableWriteError"):
        is_away = True
    if is_away:
        return TransientError(f"{where} went away: {said}; start again when it is back")
    if isinstance(error, ConfigurationError | InvalidName):
        return InvalidInputError(f"{where} cannot be used: {said}")
    if isinstance(error, OperationFailure) and error.code in _REFUSED:
        fix = (
            "correct the log-in in the URL, or give the user the role readWrite on"
            f" {address.database}"
        )
        return InvalidInputError(f"{where} refuses this: {said}; {fix}")
    return KitError(f"{where}: {said}")


def cause(error: object, address: Address) -> str:
    """Return an error in one line of up to 300 characters, without the URL's secrets."""
    text = " ".join(str(error).split())
    # Cut what pymongo appends to the error: its settings, and a description of all
    # servers; and values.
    text = re.split(
        r" \(configured timeouts|, Timeout: |, full error: | dup key: ", text
    )[0]
    hidden = r"(?i)(?<=:)[^:/@]+(?=@)|(?<=password=)[^&;]+|(?<=properties=)[^&;]+"
    for secret in re.findall(hidden, address.url):
        text = text.replace(secret, "***").replace(unquote_plus(secret), "***")
    return text[:300]


_ROWS = 1000  # documents per request
_TRIES = 5  # attempts to replace documents that another query writes at the same moment
_DUPLICATE = 11000  # the server's error code for a key that exists already
_EXISTS = 48  # the server's error code for a collection that exists already
_CHANGED = (
    r"batch %d, %s: %d values are changed: microseconds are cut, bytes not of UTF-8"
    r" become \xff"
)
_LARGE = 16 * 1024 * 1024  # bytes of a document, at most
# The character after "/": the end of the range of the _ids that begin with "QUERY/"
_UNTIL = "0"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """The collection that a query writes to, and how, as the user asked for it in `mongodb`."""

    address: Address
    name: str
    how: str
    keys: tuple[str, ...]
    take_over: bool

    @property
    def where(self) -> base.Target:
        """The collection and its database."""
        known_as = f"{self.name} in {self.address.known_as}"
        return base.Target(
            "collection", f"{self.name} in {self.address.shown}", known_as=known_as
        )

    def itself(self) -> str:
        """Return what the collection is known by, whatever the address of its server is."""
        with connected(self.address) as database:
            return _Ledger(database, self).itself()

    def prepare(
        self, frame: DataFrame, query: str | None, coming: Batch | None, _makes: bool
    ) -> str | None:
        """Check that a query may write its rows to the collection; create nothing.

        Raises:
            InvalidInputError: MongoDB cannot hold the columns, or the collection is not
                this query's.
        """
        check_schema(frame.schema, self.keys)
        with connected(self.address) as database:
            ledger = _Ledger(database, self)
            ledger.check(query)
            return ledger.plan_of(coming)

    def take(self, query: str, driver: str, _frame: DataFrame) -> None:
        """Give a query its next epoch, so that no older driver can finish a batch."""
        with connected(self.address) as database:
            _Ledger(database, self).take(query, driver)

    def write(self, batch: Batch, frame: DataFrame) -> None:
        """Write a batch of a query, or skip it if the collection already has it.

        Raises:
            InvalidInputError: the ledger's rules refuse the batch; a row makes too
                large a document, or violates another unique index; or, for `upsert`, a
                key is null, would be changed, or occurs in two rows.
            KitError: the server reported an error, or a worker lost rows.
        """
        check_schema(frame.schema, self.keys)
        with connected(self.address) as database:
            ledger = _Ledger(database, self)
            ledger.check(batch.query)
            if ledger.is_written(batch):
                pass_over(frame, batch, self.where)
                return
            with _arrow.kept(frame) as parts:
                encoder = Encoder(frame.schema, self.keys)
                writer = _Writer(self, ledger, batch)
                if self.how == "append":
                    writer.clear()
                for part in parts:
                    for first in range(0, part.num_rows, _ROWS):
                        rows = part.slice(first, _ROWS)
                        writer.send(
                            encoder.documents(rows),
                            may_be_large=rows.nbytes > _LARGE // 4,
                        )
            ledger.finish(batch, writer.number, has_rows=writer.sent > 0)
        if encoder.changed:
            _log.warning(_CHANGED, batch.number, self.where, encoder.changed)


class _Ledger(Entries):
    """The ledger: one document for each collection, with an entry for each query that writes to it.

    An entry has `epoch` and `driver` from the first start that takes an epoch, and
    `batch` (-1 while batch 0 is written), `plan` and `write` (the number of the last
    write) from the query's first batch on. From the first batch with rows on it has
    `filled`, the last batch with rows, and `collection`, by which the server knows the
    collection, or True where the server gives collections no UUID.
    """

    what = "collection"
    removes = True

    def __init__(self, database: Database[_Document], target: Target) -> None:
        super().__init__(target.where, target.how, target.take_over)
        self._database = database
        self._ledger = database[LEDGER]
        self.rows = database[target.name]
        self._target = target.where
        self._me = {"_id": target.name}
        self._seen: _Document | None = None  # what the server says of the collection

    def entries(self) -> dict[str, dict[str, Any]]:
        found = self._ledger.find_one(self._me)
        return {} if found is None else dict(found["queries"])

    def take(self, query_id: str, driver: str) -> None:
        """Give a query its next epoch, in one atomic update."""
        entry = f"queries.{query_id}"
        newer = {"$inc": {f"{entry}.epoch": 1}, "$set": {f"{entry}.driver": driver}}
        self._ledger.update_one(self._me, newer, upsert=True)

    def has_rows(self) -> bool:
        return self.rows.find_one({}, {"_id": True}) is not None

    def set_back(self, query_id: str, batch_id: int) -> str:
        entry = f"queries.{query_id}"
        change = {
            "$set": {f"{entry}.batch": batch_id},
            "$unset": {f"{entry}.plan": "", f"{entry}.filled": ""},
        }
        database = f"db.getSiblingDB({json.dumps(self._database.name)})"
        return (
            f"run {database}.{LEDGER}.updateOne({json.dumps(self._me)},"
            f" {json.dumps(change)})"
        )

    def check(self, query_id: str | None) -> None:
        """Refuse a collection that does not belong to this query, or that has lost its rows.

        Raises:
            InvalidInputError: the ledger's rules refuse the collection, or it is a view
                or of time series.
        """
        self._look()
        if self._seen is None:
            self.check_lost(query_id)
            return
        kind = self._seen.get("type", "collection")
        if kind != "collection":
            raise InvalidInputError(
                f"{self.where} is a {kind}, whose documents cannot be replaced; use"
                " another collection"
            )
        if self.how == "upsert" and "collation" in self._seen.get("options", {}):
            raise InvalidInputError(
                f"{self.where} has a collation, by which different texts can be one"
                " key; use another collection"
            )
        self.check_same(query_id)
        self.check_owner(query_id)

    def _look(self) -> None:
        found = self._database.list_collections(filter={"name": self.rows.name})
        self._seen = next(map(dict, found), None)

    def _identity(self) -> Any:
        """Return what the collection is known by; True if the server does not say it."""
        return ((self._seen or {}).get("info") or {}).get("uuid") or True

    def check_same(self, query_id: str | None) -> None:
        """Refuse a collection that was made again or emptied after the query wrote rows.

        Raises:
            InvalidInputError: the collection lacks rows of this query.
        """
        own = self.of(query_id)
        noted = own.get("collection")
        last = own.get("batch", -1)
        # No rows yet, or an older kit has written them
        if noted is None or last < 0 or self.take_over:
            return
        if self._went(str(query_id), own):
            raise InvalidInputError(
                f"{self.where} was made again after this query had written its batches"
                f" up to {last}, and lacks the last ones; restore it; or, to write all"
                " rows again, start with another checkpoint folder; or, to go on"
                " without them, give take_over=True"
            )
        if not self.has_rows() and not self._expires():
            self.check_lost(query_id, is_there=True)

    def itself(self) -> str:
        """Return what the collection is known by, whatever the address of its server is."""
        servers = (
            self._database.client.topology_description.server_descriptions().values()
        )
        written = [
            each
            for each in servers
            if each.server_type_name in ("Standalone", "RSPrimary")
        ]
        processes = [
            str((each.topology_version or {}).get("processId", "")) for each in written
        ]
        if any(processes):  # of the one server that takes writes
            return f"{self._database.name}.{self.rows.name} of {processes}"
        self._look()
        uuid = self._identity()
        return self._target.known_as if uuid is True else str(uuid)

    def _went(self, query_id: str, entry: Mapping[str, Any]) -> bool:
        """Return whether the rows of a query went with a former collection of this name.

        A collection that was restored from a backup has another UUID than before, and
        these rows.
        """
        noted = entry.get("collection")
        if noted is None or not self._is_another(noted):
            return False
        newest = entry.get("filled", max(entry.get("batch", 0), 0))
        # First by the index of the _ids, which have the batch in them if they were
        # appended.
        appended = {
            "_id": {"$gte": f"{query_id}/{newest:09}/", "$lt": f"{query_id}{_UNTIL}"}
        }
        written = {f"{OWN}.query": query_id, f"{OWN}.batch": {"$gte": newest}}
        return all(
            self.rows.find_one(which, {"_id": True}) is None
            for which in (appended, written)
        )

    def _is_another(self, noted: Any) -> bool:
        """Return whether the collection is not the noted one, if the server says it."""
        now = self._identity()
        return now is not True and noted not in (None, True, now)

    def _expires(self) -> bool:
        """Return whether the server removes documents by their age."""
        return any(
            "expireAfterSeconds" in index
            for index in self.rows.index_information().values()
        )

    def any_query(self) -> tuple[str, int] | None:
        is_empty = not self.has_rows()
        for query_id, entry in self.entries().items():
            had_rows = entry.get("collection") is not None
            went = had_rows and (is_empty or self._went(query_id, entry))
            if entry.get("batch") is not None and not went:
                return query_id, max(entry["batch"], 0)
        return None

    def begin(self, batch: Batch) -> int:
        """Begin an attempt to write a batch, and return its write number.

        The number is higher than those of all earlier attempts of the query.

        Raises:
            InvalidInputError: in the meantime another driver of the query has started
                or has written the batch, or another query has begun to write to the
                collection.
        """
        entry = f"queries.{batch.query}"
        while True:
            begun = self._ledger.find_one_and_update(
                {**self._mine(batch), f"{entry}.batch": {"$lt": batch.number}},
                {"$inc": {f"{entry}.write": 1}},
                return_document=ReturnDocument.AFTER,
            )
            if begun is not None:
                self._look()
                return int(begun["queries"][batch.query]["write"])
            self.check_epoch(batch)
            if self.last_batch(batch.query) is not None:
                raise other_driver(batch.number)
            self._claim(batch)

    def _mine(self, batch: Batch) -> _Document:
        """Return the filter of an update that fails once a newer driver has started."""
        return {**self._me, f"queries.{batch.query}.driver": batch.driver}

    def superseded(self, batch: Batch) -> InvalidInputError:
        """Return the error for a batch that another driver has taken over in the meantime.

        Raises:
            InvalidInputError: the other driver has taken a newer epoch; this error
                names that driver.
        """
        self.check_epoch(batch)
        return other_driver(batch.number)

    def _make(self) -> bool:
        """Create the collection, and return whether it was missing."""
        try:
            self._database.create_collection(self.rows.name, check_exists=False)
        except OperationFailure as err:
            if err.code != _EXISTS:
                raise
            return False
        return True

    def _claim(self, batch: Batch) -> None:
        """Add a query to the ledger before its first batch, unless the ledger changes.

        In that case nothing is added, and `begin` tries again.

        Raises:
            InvalidInputError: the ledger's rules refuse the collection.
        """
        queries = self.entries()
        own = queries.get(batch.query, {"epoch": 1, "driver": batch.driver})
        claims = {batch.query: {**own, "batch": batch.number - 1, "write": 0}}
        # A new collection: others' rows are gone, so drop their entries
        if not self._make():
            self.check_owner(batch.query)
            claims = queries | claims
        with suppress(DuplicateKeyError):
            as_it_was = {**self._me, "queries": queries}
            self._ledger.update_one(
                as_it_was, {"$set": {"queries": claims}}, upsert=True
            )

    def finish(self, batch: Batch, number: int, *, has_rows: bool = False) -> None:
        """Record a batch as the query's last one, after all of its rows were written.

        Args:
            batch: the batch.
            number: the number of the write, from `begin`.
            has_rows: whether the batch has rows.

        Raises:
            InvalidInputError: in the meantime another driver has started, or has begun
                to write the batch; or the collection was made again.
        """
        entry = f"queries.{batch.query}"
        began = self._identity()
        # The first document that comes after a removal makes the collection again
        self._look()
        self.check_same(batch.query)
        if self._is_another(began):
            raise KitError(
                f"{self.where} was removed while batch {batch.number} was written;"
                " start again"
            )
        found: _Document = {}
        if has_rows:
            found = {
                f"{entry}.collection": self._identity(),
                f"{entry}.filled": batch.number,
            }
        done = self._ledger.update_one(
            {**self._mine(batch), f"{entry}.write": number},
            {
                "$set": {
                    f"{entry}.batch": batch.number,
                    f"{entry}.plan": batch.plan,
                    **found,
                }
            },
        )
        if not done.matched_count:
            raise self.superseded(batch)


def _named_in(info: Any) -> Iterator[str]:
    """Yield the names of fields that a rule of the server asks for or refuses."""
    if isinstance(info, dict):
        yield from info.get("missingProperties", ())
        if "propertyName" in info:
            yield info["propertyName"]
    parts: Iterable[Any] = ()
    if isinstance(info, dict):
        parts = info.values()
    elif isinstance(info, list):
        parts = info
    for part in parts:
        yield from _named_in(part)


class _Writer:
    """One attempt to write one batch.

    Attributes:
        number: the write number of this attempt, from `_Ledger.begin`.
        sent: how many documents it has written.
    """

    def __init__(self, target: Target, ledger: _Ledger, batch: Batch) -> None:
        self.number = ledger.begin(batch)
        self._target = target
        self._ledger = ledger
        self._rows = ledger.rows
        self._whole = batch
        self._query = batch.query
        self._batch = batch.number
        self.sent = 0

    def clear(self) -> None:
        """Delete documents of earlier attempts, and of later batches before a rewind.

        For `append` only, where a document's `_id` holds the number of its batch.
        """
        this = {
            "$gte": f"{self._query}/{self._batch:09}/",
            "$lt": f"{self._query}{_UNTIL}",
        }
        self._rows.delete_many({"_id": this, f"{OWN}.write": {"$lt": self.number}})

    def send(self, rows: Iterator[_Document], *, may_be_large: bool = False) -> None:
        """Write the documents of some rows, each unless a newer attempt has written it.

        Args:
            rows: the rows.
            may_be_large: whether a document can be too large for the server, so that
                each is measured.

        Raises:
            InvalidInputError: a newer attempt has written a document, or as for
                `write`.
            KitError: the server refuses a document, or other queries keep changing the
                same documents.
        """
        documents = [self._document(row) for row in rows]
        if may_be_large:
            for each in documents:
                self._check_size(each)
        if self._target.how == "append":
            # Insert first: at the first attempt of a batch none of these documents
            # exists.
            documents = self._refused(map(InsertOne, documents), documents)
        for _ in range(_TRIES):
            if not documents:
                return
            documents = self._refused(map(self._replace, documents), documents)
            self._explain(documents)
        raise KitError(
            f"other writers change {self._target.where} faster than this query; stop"
            " one of them"
        )

    def _document(self, row: _Document) -> _Document:
        number = self.sent
        self.sent += 1
        own = {OWN: {"query": self._query, "batch": self._batch, "write": self.number}}
        if self._target.how == "append":
            known = f"{self._query}/{self._batch:09}/{number:012}"
            return {"_id": known, **row, **own}
        keys = {key: row[key] for key in self._target.keys}
        if None in keys.values():
            check_row_keys(
                self._target.where, self._target.keys, self._batch, null=True
            )
        return {
            "_id": keys if len(keys) > 1 else next(iter(keys.values())),
            **row,
            **own,
        }

    def _check_size(self, document: _Document) -> None:
        size = len(bson.encode(document))
        if size > _LARGE:
            widest = max(
                document, key=lambda name: len(bson.encode({name: document[name]}))
            )
            raise InvalidInputError(
                f"{self._target.where}: a document of batch {self._batch} has {size:,}"
                f" bytes, most of them in column {widest}, and MongoDB takes {_LARGE:,}"
                " at most; split the row, or leave it out"
            )

    def _replace(self, document: _Document) -> ReplaceOne[Any]:
        older = [
            {f"{OWN}.query": {"$ne": self._query}},
            {f"{OWN}.write": {"$lt": self.number}},
        ]
        # If the document exists with a newer write, the filter finds nothing, so the
        # server tries to insert this document, and refuses it because of its _id.
        return ReplaceOne({"_id": document["_id"], "$or": older}, document, upsert=True)

    def _refused(
        self, changes: Iterable[Any], documents: list[_Document]
    ) -> list[_Document]:
        """Send changes, and return the documents refused because their `_id` exists.

        Args:
            changes: the changes, one for each document.
            documents: the documents, in the same order.

        Raises:
            KitError: the server refuses a document for another reason, such as another
                unique index; a TransientError if too few servers of a replica set have
                acknowledged the writes.
        """
        try:
            self._rows.bulk_write([*changes], ordered=False)
        except BulkWriteError as err:
            refused = err.details["writeErrors"]
            for each in refused:
                said = str(each.get("errmsg"))
                index = re.search(r"index: (\S+)", said)
                if (
                    each.get("code") == _DUPLICATE
                    and index
                    and not index[1].endswith("_id_")
                ):
                    raise InvalidInputError(
                        f"{self._target.where} has a unique index {index[1]}, in which"
                        f" a row of batch {self._batch} is the same as another document"
                        " (E11000); drop the index, or make it the key: how='upsert'"
                    ) from None
                if each.get("code") != _DUPLICATE or (
                    index and not index[1].endswith("_id_")
                ):
                    why = (
                        f"a document of batch {self._batch}:"
                        f" {cause(said, self._target.address)}"
                    )
                    if fields := dict.fromkeys(_named_in(each.get("errInfo"))):
                        why += f" (fields: {', '.join(fields)})"
                    raise KitError(f"{self._target.where} refuses {why}") from None
            if late := err.details.get("writeConcernErrors"):
                said = cause(late[0].get("errmsg"), self._target.address)
                raise TransientError(
                    f"{self._target.where}: rows are not on enough servers: {said};"
                    " start again when they are back"
                ) from None
            return [documents[each["index"]] for each in refused]
        return []

    def _explain(self, documents: list[_Document]) -> None:
        """Find out why the server refused documents, and raise an error if a retry cannot help.

        Raises:
            InvalidInputError: two rows of the batch have the same key, or a newer
                attempt of this query has written a document.
        """
        for each in documents:
            own = (self._rows.find_one({"_id": each["_id"]}, {OWN: True}) or {}).get(
                OWN, {}
            )
            if own.get("query") == self._query and own["write"] == self.number:
                check_row_keys(
                    self._target.where, self._target.keys, self._batch, twice=True
                )
            if own.get("query") == self._query and own["write"] > self.number:
                raise self._ledger.superseded(self._whole)
