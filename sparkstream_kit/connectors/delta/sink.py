"""`sinks.delta`: which table, which writer, and each batch once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit._spark.place import Here, Place, locate, refuse_elsewhere, refuse_many_disks
from sparkstream_kit._spark.session import shares_settings
from sparkstream_kit.connectors import import_arrow, mode_for
from sparkstream_kit.connectors.delta import writers
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, reject_unknown
from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.ledger import open_target, pass_over

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit.sinks.base import Opening
    from sparkstream_kit.sinks.ledger import Batch


_WRITERS = ("auto", "spark", "delta-rs")
_TRIES = 5  # for a commit that another writer was quicker with
_JARS = "get_session(…, connectors=['delta'])"


def delta(
    path: str | Path | None = None,
    *,
    table: str | None = None,
    how: str = "append",
    keys: Sequence[str] = (),
    writer: str = "auto",
    merge_schema: bool = False,
    take_over: bool = False,
) -> Sink:
    """Write each batch to a Delta table, in one commit with the batch's number.

    `append` adds the rows of append mode. `upsert` adds or overwrites the rows of update mode by their keys.
    `replace` makes the table the whole result of complete mode. A reader sees all of a batch or nothing of
    it, and the table's history has a commit for each batch, whose `userMetadata` names the query and the
    batch.

    Two writers keep this one promise. Delta's writer for Spark writes from the workers: for large batches,
    clusters, tables of the catalog and any file system. delta-rs writes from the driver's Python: for small
    results in a local folder, which it writes sooner, without jars. The kit takes Spark's where the session
    has Delta's extension (`get_session(…, connectors=["delta"])`), and else delta-rs; `upsert` on Spark
    Connect is for delta-rs alone. `writer` says otherwise. They understand each other's batches, so that a
    query can go on with the other one.

    The table is made when it is missing; make it yourself for partitions or properties. An existing one must
    have the query's columns. It belongs to one query, whose id is in its property `sparkstream.queries`. With
    each batch Delta keeps the query's id and the batch's number as a transaction of an application, and in
    `userMetadata` the batch's plan, which says what it reads. A batch that is replayed with the same plan, as
    after a crash, is skipped. A checkpoint that has lost that plan, or is one batch older than the table,
    gets it back when the query starts, if the commit is among the table's last thousand and was not cleaned
    away: else a batch is known by its number alone. A batch before the last one comes only from a checkpoint
    that was rewound further. Spark may then split the input differently, so these batches can be neither
    skipped nor written again safely: the query fails, and the message contains the command that lets it write
    them again. It also fails when batches are missing, as in a table from an older backup. By `replace` each
    batch is the whole result, and is always written.

    delta-rs: Spark computes the batch first, onto the workers' disks; then the rows pass in small parts into
    a temporary file of the driver, and from there into the table. `upsert` merges them in the driver's
    memory: for more than a few million rows in a batch, or in the table's files that it touches, take Spark's
    writer. On Spark Connect the server's Python needs the kit, and for delta-rs the extra, too.

    Delivery: exactly once from replayable sources. A query without a checkpoint is a new one at each start.

    Args:
        path: the table's folder.
        table: in place of a path, a table of the catalog, as `table` or `schema.table`.
        how: `append`, `upsert` or `replace`.
        keys: of `upsert`, the columns that a row is known by; no two rows of a batch may have the same.
        writer: `auto`, `spark` or `delta-rs`.
        merge_schema: add columns that the query has and the table lacks; rows that are there have null in
            them.
        take_over: write to the table although another query has written to it, or somebody else, or although
            earlier batches of this query are not in it.

    Raises:
        InvalidInputError: a table, keys or a writer that cannot be used; when the query starts, a folder that
            holds something else or is of each node of a cluster, a column that Delta cannot hold, a table
            with other columns or with rows that this query has not written.
        MissingExtraError: delta-rs is needed, and not installed.

    Examples:
        >>> delta("out/totals", how="replace").modes
        ('complete',)
        >>> delta("out/totals", how="upsert")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: delta: how='upsert' and keys belong together: ...
    """
    check(delta, locals())
    mode = mode_for("delta", "'out/totals'", how, keys)
    reject_unknown("writer", [writer], _WRITERS)
    if (path is None) == (table is None):
        raise InvalidInputError(
            "delta: give a path or a table of the catalog: delta('out/totals') or delta(table='shop.totals')"
        )
    if table is not None and writer == "delta-rs":
        raise InvalidInputError("delta: delta-rs knows no catalog; give the table's path, or writer='spark'")
    target = writers.Target(f"Delta table {path or table}", how, tuple(keys), merge_schema, take_over)

    def open_table(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        spark = frame.sparkSession
        by_spark = _is_sparks(spark, writer, how)
        place = _place(spark, None if path is None else str(path), table, by_spark=by_spark)
        batches = _Writer(target, place, table, by_spark=by_spark)
        take = partial(batches.take, spark)
        return open_target(batches.prepare, take, batches.write, target.where, frame, location, opening)

    return Sink(
        kind="delta",
        modes=(mode,),
        promise="exactly once",
        after_rewind="writes a replayed batch with the same rows once; it refuses others, and says how to "
        "set the table back; a table restored from a backup of that moment goes on exactly once",
        needs_checkpoint=how != "replace",
        advice="use how='append' for append, 'upsert' with keys for update, 'replace' for complete",
        writes_to=(target.where,),
        open=open_table,
    )


delta.__module__ = "sparkstream_kit.sinks"  # where users find it: messages name it so


def _is_sparks(spark: SparkSession, writer: str, how: str) -> bool:
    """Say whether Delta's writer for Spark writes in a session, and not delta-rs.

    Raises:
        InvalidInputError: it is asked for, and cannot be used there.
    """
    extended = writers.is_extended(spark)
    # Delta takes the transaction of a MERGE from the settings: other writes must not have them meanwhile.
    fits = extended and not (how == "upsert" and shares_settings(spark))
    if writer == "spark" and not extended:
        raise InvalidInputError(
            f"delta: writer='spark' needs a session with Delta's extension: {_JARS}; it must be the "
            "first session of the process"
        )
    if writer == "spark" and not fits:
        raise InvalidInputError(
            "delta: on Spark Connect writer='spark' cannot upsert: its transactions would get into "
            "other writes of the session; give writer='delta-rs' and a local folder"
        )
    return fits and writer != "delta-rs"


def _place(spark: SparkSession, path: str | None, table: str | None, *, by_spark: bool) -> Place | None:
    """Return a table's folder; None for a table of the catalog.

    Raises:
        InvalidInputError: the writer cannot write there.
    """
    if path is None:
        if by_spark:
            return None
        connect = ", and to upsert no Spark Connect" if writers.is_extended(spark) else ""
        raise InvalidInputError(f"delta: table {table} is in the catalog, which needs {_JARS}{connect}")
    location = locate(spark, path)
    if by_spark:
        refuse_many_disks(spark, "delta", path)
        # With its scheme: a path without one may be on another file system for Delta than for `locate`.
        return Here(location.uri, location.folder) if location.folder else location
    if location.folder is None:
        refuse_elsewhere(spark, f"delta {path}", f"writer='spark' on a server with {_JARS}")
        raise InvalidInputError(
            f"delta {path}: delta-rs writes to local folders alone; for this one use {_JARS}"
        )
    return location


def _tried(change: Callable[[], None]) -> None:
    """Change a table, again where another writer was quicker."""
    for left in reversed(range(_TRIES)):
        try:
            change()
        except writers.ConflictError:
            if not left:
                raise
        else:
            return


class _Writer:
    """Writes the batches of one query; on Spark Connect it is pickled before the first.

    Args:
        target: what the user asked for.
        place: the table's folder; None for a table of the catalog.
        name: the table in the catalog, if it is one.
        by_spark: Delta's writer for Spark writes, and not delta-rs.
    """

    def __init__(
        self, target: writers.Target, place: Place | None, name: str | None, *, by_spark: bool
    ) -> None:
        self._target, self._place, self._name, self._by_spark = target, place, name, by_spark
        self._table: writers.Table | None = None  # opened with the first batch

    def _opened(self, spark: SparkSession) -> writers.Table:
        if self._by_spark:
            return writers.SparkTable(spark, self._place, self._name)
        try:
            import_arrow()
            from sparkstream_kit.connectors.delta.rust import RustTable
        except ModuleNotFoundError as err:
            raise MissingExtraError(f"sinks.delta, in a session without {_JARS},", "delta") from err
        return RustTable(str(self._place and self._place.folder))

    def prepare(self, frame: DataFrame, query: str | None, following: int | None, makes: bool) -> str | None:
        """Make the table where it is missing, and see that the query may write to it."""
        opened = self._opened(frame.sparkSession)
        return writers.prepare(self._target, opened, frame.schema, query, following, makes)

    def take(self, spark: SparkSession, query: str, driver: str) -> None:
        """Give the query its next epoch."""
        _tried(lambda: writers.take(self._opened(spark), query, driver))

    def write(self, batch: Batch, frame: DataFrame) -> None:
        """Write a batch of the query."""
        _tried(lambda: self._try(batch, frame))

    def _try(self, batch: Batch, frame: DataFrame) -> None:
        if self._table is None:
            self._table = self._opened(frame.sparkSession)
        if writers.is_written(self._target, self._table, frame.schema, batch):
            pass_over(frame, batch, self._target.where)
        else:
            self._table.write(frame, self._target, writers.Commit(batch.query, batch.number, batch.plan))
