"""The public function `sinks.mongodb`: checks its arguments, and builds the `Sink`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.connectors import mode_for
from sparkstream_kit.connectors.mongodb import SYSTEM
from sparkstream_kit.sinks.ledger import exactly_once, open_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparkstream_kit.sinks.base import Sink


def mongodb(
    url: str,
    collection: str,
    *,
    database: str | None = None,
    how: str = "append",
    keys: Sequence[str] = (),
    take_over: bool = False,
) -> Sink:
    r"""Write each row as a document of a MongoDB collection, with pymongo.

    The argument `how` selects how batches change the collection:

    - `append` inserts the rows of append mode, with `QUERY/BATCH/ROW` as the `_id`.
    - `upsert` inserts the rows of update mode, or replaces the documents that have the
      same keys. The `_id` is the key or, with several keys, a document of the keys,
      sorted by name.

    Fields have the names of the columns. The field `sparkstream` records the query and
    the batch that wrote the document, and the number of that write (a counter per
    query).

    The sink uses no transactions, so any server will do. The collection
    `sparkstream_ledger` of the same database keeps, for each query, the number of its
    last complete batch and that batch's plan (which input the batch read):

    - A batch that is replayed with the same plan, as after a crash, is skipped.
    - If the checkpoint has lost the last batch's plan, or is one batch older than the
      collection, the plan is put back when the query starts.
    - A batch that was interrupted is written again, and its rows may come in another
      order. A document keeps the newer write, even if an old driver wakes up and writes
      again.
    - A batch before the last one is replayed only after a rewind of the checkpoint: the
      query fails, and the message contains the command that lets the query write these
      batches again.
    - If batches are missing, as in a database restored from an older backup, the query
      fails. So it does if the collection was deleted, made again or emptied since the
      query has written to it. A collection that is restored with its last rows goes on,
      and one with a TTL index may be empty.

    While a batch is written, a reader can see a part of it; while it is rewritten, also
    some of its former documents.

    Types: a decimal becomes a Decimal128, a struct a document, and an array an array. A
    date or timestamp becomes a MongoDB date in UTC, which has milliseconds. A map
    becomes an array of `{key, value}`, because a field's name cannot hold every key.
    Microseconds are cut off, and bytes that are not UTF-8 become `\xff` and the like; a
    warning says how many values of a batch were changed. In a key such values are
    refused, because two rows could then have the same key. If MongoDB cannot hold a
    name or a type (`a.b`, `$x`, an interval, a decimal with more than 34 digits), the
    query does not start. A document has at most 16 MiB; a row that would be larger
    fails its batch. Dates are kept in all years; Python reads those after 9999 with
    `CodecOptions(datetime_conversion="DATETIME_AUTO")`.

    Spark first computes the batch, onto the workers' disks; then the rows pass through
    the driver in small parts. The workers need the extra too, but no access to the
    MongoDB server. On Spark Connect the server's Python needs the kit and the extra,
    and both the server and the client must reach MongoDB by this URL.

    Delivery: exactly once from replayable sources. Without a checkpoint each start is a
    new query. Writes are acknowledged by the majority of a replica set, whatever `w`
    the URL sets.

    Args:
        url: `mongodb://user:password@host:27017/shop`, or `mongodb+srv://…`, with
            MongoDB's own options. The server must answer within 10 seconds, or within
            the URL's `serverSelectionTimeoutMS`.
        collection: the collection, which is created if it is missing.
        database: the database, if the URL names none; it overrides the database that
            the URL names.
        how: `append` or `upsert`.
        keys: the columns that identify a row, for `upsert` only; no two rows of a batch
            may have the same keys.
        take_over: write to the collection although another query or program has written
            to it, or although earlier batches of this query are missing from it.

    Raises:
        InvalidInputError: the URL or the keys cannot be used; when the query starts,
            the server does not answer or refuses the log-in, MongoDB cannot hold a name
            or a column, or the collection has documents that this query has not
            written.
        MissingExtraError: pymongo, pyarrow or pandas is not installed.

    Examples:
        >>> mongodb("mongodb://localhost/shop", "totals", how="upsert", keys=["product"]).modes
        ('update',)
        >>> mongodb("mongodb://localhost", "totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: mongodb: the URL names no database; write ...
    """
    check(mongodb, locals())
    SYSTEM.need("sinks.mongodb")
    from sparkstream_kit.connectors.mongodb.collection import MongoTarget
    from sparkstream_kit.connectors.mongodb.connection import parse

    mode = mode_for("mongodb", "url, 'totals'", how, keys, SYSTEM.ways)
    address = parse(url, database, collection)
    target = MongoTarget(address, collection, how, tuple(sorted(set(keys))), take_over)
    open_mongodb = partial(open_target, target, identity=target.identity)
    advice = (
        "use how='append' for append, 'upsert' with keys for update, also of a complete"
        " result"
    )
    return exactly_once("mongodb", target.where, (mode,), open_mongodb, advice)
