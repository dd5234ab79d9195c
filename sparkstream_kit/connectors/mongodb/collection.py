"""Write one batch into one MongoDB collection, exactly once and without transactions.

Every attempt to write a batch gets a write number from the ledger (`_MongoLedger.begin`),
higher than all earlier numbers of the query. Each document stores the number of the
write that wrote it, and a write may only replace a document with a lower number. So if
an older attempt still has writes on their way to the server, they are refused where the
newer attempt has already written, and overwritten by it elsewhere. When an attempt has
written all of its rows, the collection holds exactly these rows, and `_MongoLedger.finish`
records the batch.

`MongoTarget` is where `mongodb` writes, `_MongoLedger` is its ledger, and
`_WriteAttempt` one attempt to write a batch.
"""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bson
from pymongo import InsertOne, ReplaceOne, ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from sparkstream_kit.connectors import _arrow, check_row_keys, other_driver
from sparkstream_kit.connectors._tables import Entries
from sparkstream_kit.connectors.mongodb.connection import LEDGER, cause, connected
from sparkstream_kit.connectors.mongodb.documents import OWN, Encoder, check_schema
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks import base
from sparkstream_kit.sinks.ledger import pass_over

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa
    from pymongo.database import Database
    from pyspark.sql import DataFrame

    from sparkstream_kit.connectors.mongodb.connection import Address
    from sparkstream_kit.sinks.ledger import Batch

    _Document = dict[str, Any]


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
class MongoTarget:
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

    def identity(self) -> str:
        """Return what the collection is known by, whatever the address of its server is."""
        with connected(self.address) as database:
            return _MongoLedger(database, self).identity()

    def prepare(
        self,
        frame: DataFrame,
        query: str | None,
        next_batch: Batch | None,
        _makes: bool,
    ) -> str | None:
        """Check that a query may write its rows to the collection; create nothing.

        Raises:
            InvalidInputError: MongoDB cannot hold the columns, or the collection is not
                this query's.
        """
        check_schema(frame.schema, self.keys)
        with connected(self.address) as database:
            ledger = _MongoLedger(database, self)
            ledger.check(query)
            return ledger.plan_of(next_batch)

    def take(self, query: str, driver: str, _frame: DataFrame) -> None:
        """Give a query its next epoch, so that no older driver can finish a batch."""
        with connected(self.address) as database:
            _MongoLedger(database, self).take(query, driver)

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
            ledger = _MongoLedger(database, self)
            ledger.check(batch.query)
            if ledger.is_written(batch):
                pass_over(frame, batch, self.where)
                return
            with _arrow.kept(frame) as parts:
                encoder = Encoder(frame.schema, self.keys)
                writer = _WriteAttempt(self, ledger, batch)
                if self.how == "append":
                    writer.clear()
                for rows in _in_requests(parts):
                    documents = encoder.documents(rows)
                    writer.send(documents, may_be_large=rows.nbytes > _LARGE // 4)
            ledger.finish(batch, writer.number, has_rows=writer.sent > 0)
        if encoder.changed:
            _log.warning(_CHANGED, batch.number, self.where, encoder.changed)


def _in_requests(parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield rows in parts of as many as one request has."""
    for part in parts:
        for first in range(0, part.num_rows, _ROWS):
            yield part.slice(first, _ROWS)


class _MongoLedger(Entries):
    """The ledger: one document for each collection, with an entry for each query that writes to it.

    An entry has `epoch` and `driver` from the first start that takes an epoch, and
    `batch` (-1 while batch 0 is written), `plan` and `write` (the number of the last
    write) from the query's first batch on. From the first batch with rows on it has
    `filled`, the last batch with rows, and `collection`, by which the server knows the
    collection, or True where the server gives collections no UUID.
    """

    what = "collection"
    removes = True

    def __init__(self, database: Database[_Document], target: MongoTarget) -> None:
        super().__init__(target.where, target.how, target.take_over)
        self._database = database
        self._ledger = database[LEDGER]
        self.rows = database[target.name]
        self._target = target.where
        self._me = {"_id": target.name}
        self._collection_info: _Document | None = (
            None  # what the server says of the collection
        )

    def entries(self) -> dict[str, dict[str, Any]]:
        ledger = self._ledger.find_one(self._me)
        if ledger is None:
            return {}
        return dict(ledger["queries"])

    def take(self, query_id: str, driver: str) -> None:
        """Give a query its next epoch, in one atomic update."""
        entry = f"queries.{query_id}"
        newer = {"$inc": {f"{entry}.epoch": 1}, "$set": {f"{entry}.driver": driver}}
        self._ledger.update_one(self._me, newer, upsert=True)

    def has_rows(self) -> bool:
        return self.rows.find_one({}, {"_id": True}) is not None

    def set_back_command(self, query_id: str, batch_id: int) -> str:
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
        self._describe_collection()
        if self._collection_info is None:
            self.check_lost(query_id)
            return
        kind = self._collection_info.get("type", "collection")
        if kind != "collection":
            raise InvalidInputError(
                f"{self.where} is a {kind}, whose documents cannot be replaced; use"
                " another collection"
            )
        if self.how == "upsert" and "collation" in self._collection_info.get(
            "options", {}
        ):
            raise InvalidInputError(
                f"{self.where} has a collation, by which different texts can be one"
                " key; use another collection"
            )
        self.check_same(query_id)
        self.check_owner(query_id)

    def _describe_collection(self) -> None:
        """Ask the server about the collection, and keep its answer."""
        answer = self._database.list_collections(filter={"name": self.rows.name})
        collections = [dict(collection) for collection in answer]
        self._collection_info = collections[0] if collections else None

    def _identity(self) -> Any:
        """Return what the collection is known by; True if the server does not say it."""
        if self._collection_info is None:
            return True
        info = self._collection_info.get("info") or {}
        return info.get("uuid") or True

    def check_same(self, query_id: str | None) -> None:
        """Refuse a collection that was made again or emptied after the query wrote rows.

        Raises:
            InvalidInputError: the collection lacks rows of this query.
        """
        own_entry = self.of(query_id)
        noted_id = own_entry.get("collection")
        last = own_entry.get("batch", -1)
        # No rows yet, or an older kit has written them
        if noted_id is None or last < 0 or self.take_over:
            return
        if self._rows_are_gone(str(query_id), own_entry):
            raise InvalidInputError(
                f"{self.where} was made again after this query had written its batches"
                f" up to {last}, and lacks the last ones; restore it; or, to write all"
                " rows again, start with another checkpoint folder; or, to go on"
                " without them, give take_over=True"
            )
        if not self.has_rows() and not self._expires():
            self.check_lost(query_id, is_there=True)

    def identity(self) -> str:
        """Return what the collection is known by, whatever the address of its server is."""
        topology = self._database.client.topology_description
        processes = []
        for server in topology.server_descriptions().values():
            # The one that takes writes
            if server.server_type_name in ("Standalone", "RSPrimary"):
                version = server.topology_version or {}
                processes.append(str(version.get("processId", "")))
        if any(processes):
            return f"{self._database.name}.{self.rows.name} of {processes}"
        self._describe_collection()
        uuid = self._identity()
        return self._target.known_as if uuid is True else str(uuid)

    def _rows_are_gone(self, query_id: str, entry: Mapping[str, Any]) -> bool:
        """Return whether the rows of a query went with a former collection of this name.

        A collection that was restored from a backup has another UUID than before, and
        these rows.
        """
        noted_id = entry.get("collection")
        if noted_id is None or not self._is_another(noted_id):
            return False
        newest = entry.get("filled", max(entry.get("batch", 0), 0))
        # First by the index of the _ids, which have the batch in them if they were
        # appended.
        appended = {"_id": _appended_since(query_id, newest)}
        written = {f"{OWN}.query": query_id, f"{OWN}.batch": {"$gte": newest}}
        for newest_rows in (appended, written):
            if self.rows.find_one(newest_rows, {"_id": True}) is not None:
                return False
        return True

    def _is_another(self, noted_id: Any) -> bool:
        """Return whether the collection is not the noted one, if the server says it."""
        if noted_id is None or noted_id is True:
            return False
        current_id = self._identity()
        return current_id is not True and current_id != noted_id

    def _expires(self) -> bool:
        """Return whether the server removes documents by their age."""
        indexes = self.rows.index_information().values()
        return any("expireAfterSeconds" in index for index in indexes)

    def any_query(self) -> tuple[str, int] | None:
        is_empty = not self.has_rows()
        for query_id, entry in self.entries().items():
            had_rows = entry.get("collection") is not None
            rows_are_gone = had_rows and (
                is_empty or self._rows_are_gone(query_id, entry)
            )
            if entry.get("batch") is not None and not rows_are_gone:
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
                {
                    **self._filter_of_driver(batch),
                    f"{entry}.batch": {"$lt": batch.number},
                },
                {"$inc": {f"{entry}.write": 1}},
                return_document=ReturnDocument.AFTER,
            )
            if begun is not None:
                self._describe_collection()
                return int(begun["queries"][batch.query]["write"])
            self.check_epoch(batch)
            if self.last_batch(batch.query) is not None:
                raise other_driver(batch.number)
            self._claim(batch)

    def _filter_of_driver(self, batch: Batch) -> _Document:
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
        own_entry = queries.get(batch.query, {"epoch": 1, "driver": batch.driver})
        claims = {batch.query: {**own_entry, "batch": batch.number - 1, "write": 0}}
        # A new collection: others' rows are gone, so drop their entries
        if not self._make():
            self.check_owner(batch.query)
            claims = queries | claims
        with suppress(DuplicateKeyError):
            as_it_was = {**self._me, "queries": queries}
            change = {"$set": {"queries": claims}}
            self._ledger.update_one(as_it_was, change, upsert=True)

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
        self._describe_collection()
        self.check_same(batch.query)
        if self._is_another(began):
            raise KitError(
                f"{self.where} was removed while batch {batch.number} was written;"
                " start again"
            )
        change = {f"{entry}.batch": batch.number, f"{entry}.plan": batch.plan}
        if has_rows:
            change[f"{entry}.collection"] = self._identity()
            change[f"{entry}.filled"] = batch.number
        newest_attempt = {**self._filter_of_driver(batch), f"{entry}.write": number}
        done = self._ledger.update_one(newest_attempt, {"$set": change})
        if not done.matched_count:
            raise self.superseded(batch)


def _appended_since(query: str, batch: int) -> _Document:
    """Return the range of the `_id`s that a query has appended from a batch on.

    They are `QUERY/000000007/000000000042`, with the numbers of the batch and the row.
    """
    return {"$gte": f"{query}/{batch:09}/", "$lt": f"{query}{_UNTIL}"}


class _WriteAttempt:
    """One attempt to write one batch.

    Attributes:
        number: the write number of this attempt, from `_MongoLedger.begin`.
        sent: how many documents it has written.
    """

    def __init__(self, target: MongoTarget, ledger: _MongoLedger, batch: Batch) -> None:
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
        ids = _appended_since(self._query, self._batch)
        older = {"$lt": self.number}
        self._rows.delete_many({"_id": ids, f"{OWN}.write": older})

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
            for document in documents:
                self._check_size(document)
        if self._target.how == "append":
            # Insert first: at the first attempt of a batch none of these documents
            # exists.
            documents = self._refused([InsertOne(new) for new in documents], documents)
        for _ in range(_TRIES):
            if not documents:
                return
            changes = [self._replace(document) for document in documents]
            documents = self._refused(changes, documents)
            self._explain(documents)
        if documents:
            raise KitError(
                f"other writers change {self._target.where} faster than this query;"
                " stop one of them"
            )

    def _document(self, row: _Document) -> _Document:
        """Return the next document of the batch: a row with its `_id` and the write's number."""
        number = self.sent
        self.sent += 1
        own = {OWN: {"query": self._query, "batch": self._batch, "write": self.number}}
        if self._target.how == "append":
            row_id = f"{self._query}/{self._batch:09}/{number:012}"
            return {"_id": row_id, **row, **own}
        keys = {key: row[key] for key in self._target.keys}
        if None in keys.values():
            check_row_keys(
                self._target.where, self._target.keys, self._batch, null=True
            )
        if len(keys) > 1:
            return {"_id": keys, **row, **own}
        [key] = keys.values()
        return {"_id": key, **row, **own}

    def _check_size(self, document: _Document) -> None:
        size = len(bson.encode(document))
        if size > _LARGE:
            sizes = {
                name: len(bson.encode({name: value}))
                for name, value in document.items()
            }
            widest = max(sizes, key=lambda name: sizes[name])
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
        self, changes: list[Any], documents: list[_Document]
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
            self._rows.bulk_write(changes, ordered=False)
        except BulkWriteError as err:
            refusals = err.details["writeErrors"]
            for refusal in refusals:
                if not _is_of_its_id(refusal):
                    raise self._refusal(refusal) from None
            late = err.details.get("writeConcernErrors")
            if late:
                why = cause(late[0].get("errmsg"), self._target.address)
                raise TransientError(
                    f"{self._target.where}: rows are not on enough servers: {why};"
                    " start again when they are back"
                ) from None
            return [documents[refusal["index"]] for refusal in refusals]
        return []

    def _refusal(self, refusal: Mapping[str, Any]) -> KitError:
        """Return the error for a document that no retry brings into the collection.

        Args:
            refusal: what the server says of the document.
        """
        index = _index_of(refusal)
        if refusal.get("code") == _DUPLICATE and index:
            return InvalidInputError(
                f"{self._target.where} has a unique index {index}, in which"
                f" a row of batch {self._batch} is the same as another document"
                " (E11000); drop the index, or make it the key: how='upsert'"
            )
        why = cause(str(refusal.get("errmsg")), self._target.address)
        fields = dict.fromkeys(_named_in(refusal.get("errInfo")))
        if fields:
            why += f" (fields: {', '.join(fields)})"
        return KitError(
            f"{self._target.where} refuses a document of batch {self._batch}: {why}"
        )

    def _explain(self, documents: list[_Document]) -> None:
        """Find out why the server refused documents, and raise an error if a retry cannot help.

        Raises:
            InvalidInputError: two rows of the batch have the same key, or a newer
                attempt of this query has written a document.
        """
        for document in documents:
            found = self._rows.find_one({"_id": document["_id"]}, {OWN: True}) or {}
            own = found.get(OWN, {})
            if own.get("query") != self._query:
                continue
            if own["write"] == self.number:
                check_row_keys(
                    self._target.where, self._target.keys, self._batch, twice=True
                )
            if own["write"] > self.number:
                raise self._ledger.superseded(self._whole)


def _is_of_its_id(refusal: Mapping[str, Any]) -> bool:
    """Return whether a document is refused because there is one with its `_id`."""
    if refusal.get("code") != _DUPLICATE:
        return False
    index = _index_of(refusal)
    return not index or index.endswith("_id_")


def _index_of(refusal: Mapping[str, Any]) -> str:
    """Return the index that a server's text names; "" without one.

    Examples:
        >>> _index_of({"errmsg": "E11000 duplicate key error collection: s.t index: n_1"})
        'n_1'
    """
    index = re.search(r"index: (\S+)", str(refusal.get("errmsg")))
    return index[1] if index else ""


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
