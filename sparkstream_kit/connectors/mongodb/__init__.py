"""Collections of MongoDB, each batch written once by conditions in the documents and a ledger beside them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit.connectors import import_arrow, mode_for
from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.ledger import open_target

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["mongodb"]


def mongodb(
    url: str,
    collection: str,
    *,
    database: str | None = None,
    how: str = "append",
    keys: Sequence[str] = (),
    take_over: bool = False,
) -> Sink:
    r"""Write each row as a document of a MongoDB collection, by pymongo.

    `append` adds the rows of append mode; `_id` is then `QUERY/BATCH/ROW`. `upsert` adds or replaces the
    documents of update mode by their keys; `_id` is then the key, or a document of the keys where they are
    several, sorted by name. Columns keep their names. The field `sparkstream` says which query and batch have
    written a document, and with which number of its writes.

    No transaction is used, so that any server will do. The collection `sparkstream_ledger` of the same
    database keeps the last whole batch of each query: its number, and its plan, which says what the batch
    reads. A batch that is replayed with the same plan, as after a crash, is skipped. A checkpoint that has
    lost that plan, or is one batch older than the collection, gets it back when the query starts. A batch
    that was cut off is written again, in whatever order its rows come: a document keeps the newer write, even
    if an old driver wakes up and writes again. Until then a reader can see a part of a batch. While a batch
    is rewritten, a reader may see some of its former documents. A batch before the last one comes only from a
    checkpoint that was rewound further: the query fails, and the message contains the command that lets it
    write them again. It also fails when batches are missing, as in a database from an older backup.

    A decimal is a Decimal128; a date and a timestamp are a date of MongoDB, which has milliseconds, in UTC;
    a struct is a document, an array an array. A map is an array of `{key, value}`, as a field's name could
    not hold every key. Microseconds are cut off, and bytes that are not UTF-8 become `\xff`: a warning says
    how many values of a batch were changed. In a key they are refused, as two rows could then have the same.
    Where a name or a type cannot be held (`a.b`, `$x`, an interval, a decimal of more than 34 digits) the
    query does not start.

    Spark computes the batch first, onto the workers' disks; then the rows pass through the driver in small
    parts. The workers need the extra too, but not the server's address. On Spark Connect the server's Python
    needs the kit and the extra, and both it and the client reach MongoDB by this URL.

    Delivery: exactly once from replayable sources. A query without a checkpoint is a new one at each start.
    Writes are acknowledged by the majority of a replica set, unless the URL has a `w` of its own.

    Args:
        url: `mongodb://user:password@host:27017/shop`, or `mongodb+srv://…`, with MongoDB's own options. The
            server must answer within 10 seconds, or within the URL's `serverSelectionTimeoutMS`.
        collection: the collection, which is made when it is missing.
        database: the database, where the URL names none, or another one.
        how: `append` or `upsert`.
        keys: of `upsert`, the columns that a row is known by; no two rows of a batch may have the same.
        take_over: write to the collection although another query has written to it, or somebody else, or
            although earlier batches of this query are not in it.

    Raises:
        InvalidInputError: a URL, a name or keys that cannot be used; when the query starts, a server that
            does not answer or refuses the log-in, a column that MongoDB cannot hold, a collection with
            documents that this query has not written.
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
    try:
        import_arrow()
        from sparkstream_kit.connectors.mongodb.collection import Target, parse, prepare, take, write
    except ModuleNotFoundError as err:
        raise MissingExtraError("sinks.mongodb", "mongodb") from err
    mode = mode_for("mongodb", "url, 'totals'", how, keys, ("append", "upsert"))
    address = parse(url, database, collection)
    target = Target(address, collection, how, tuple(sorted(set(keys))), take_over)
    return Sink(
        kind="mongodb",
        modes=(mode,),
        promise="exactly once",
        after_rewind="writes a replayed batch with the same rows once; it refuses others, and says how to "
        "set its ledger back; by append it then removes the documents of those batches itself",
        needs_checkpoint=True,
        advice="use how='append' for append, 'upsert' with keys for update; a complete result is kept up to "
        "date by update, too",
        writes_to=(target.where,),
        open=partial(
            open_target, partial(prepare, target), partial(take, target), partial(write, target), target.where
        ),
    )


mongodb.__module__ = "sparkstream_kit.sinks"  # where users find it: messages name it so
