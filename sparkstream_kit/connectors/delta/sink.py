"""`sinks.delta`: which table, which writer, and each batch once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit._spark.batch import id_of_batch
from sparkstream_kit._spark.files import Location, locate, refuse_elsewhere, refuse_many_disks
from sparkstream_kit._spark.session import shares_settings
from sparkstream_kit.connectors import openers
from sparkstream_kit.connectors.delta import tables
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, reject_unknown
from sparkstream_kit.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.batch import Write

__all__ = ["delta"]

_MODES = {"append": "append", "upsert": "update", "replace": "complete"}
_WRITERS = ("auto", "spark", "delta-rs")
_TRIES = 5  # for a commit that another writer was quicker with
_JARS = "get_session(…, connectors=['delta'])"

_log = logging.getLogger(__name__)


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
    each batch Delta keeps the query's id and the batch's number as a transaction of an application. A batch
    that it knows comes again after a crash, and is skipped. A batch before that one comes only from a
    checkpoint that was rewound or restored. Spark may then split the input differently, so these batches can
    be neither skipped nor written again safely: the query fails, and the message contains the command that
    lets it write them again. It also fails when batches are missing, as in a table from an older backup.

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

    Example:
        >>> delta("out/totals", how="replace").modes
        ('complete',)
        >>> delta("out/totals", how="upsert")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: delta: how='upsert' and keys belong together: ...
    """
    check(delta, locals())
    reject_unknown("way to write (how=)", [how], _MODES)
    reject_unknown("writer", [writer], _WRITERS)
    if (path is None) == (table is None):
        raise InvalidInputError(
            "delta: give a path or a table of the catalog: delta('out/totals') or delta(table='shop.totals')"
        )
    openers.check_keys("delta", "'out/totals'", how, keys)
    if table is not None and writer == "delta-rs":
        raise InvalidInputError("delta: delta-rs knows no catalog; give the table's path, or writer='spark'")
    asked = _Asked(None if path is None else str(path), table, writer, how)
    target = tables.Target(f"Delta table {path or table}", how, tuple(keys), merge_schema, take_over)

    def open_table(frame: DataFrame, location: Location | None) -> Write:
        place = asked.at(frame.sparkSession)
        if not frame.isStreaming:  # a query without `start`: its first batch says which query it is
            return _Writer(target, place, None, None)
        query, known = openers.known_as(frame, location)
        tables.prepare(target, place.table(frame.sparkSession), frame.schema, query)
        return _Writer(target, place, location, known)

    return Sink(
        kind="delta",
        modes=(_MODES[how],),
        promise="exactly once",
        after_rewind="keeps a batch that comes with the same rows once; others it refuses, and says how to "
        "set the table back; a table restored from a backup of that moment goes on exactly once",
        needs_checkpoint=how != "replace",
        advice="use how='append' for append, 'upsert' with keys for update, 'replace' for complete",
        writes_to=(target.where,),
        open=open_table,
    )


delta.__module__ = "sparkstream_kit.sinks"  # where users find it: messages name it so


@dataclass(frozen=True)
class _Asked:
    """The table and the writer as the user named them."""

    path: str | None
    name: str | None
    writer: str
    how: str

    def at(self, spark: SparkSession) -> _Place:
        """Return where that is for a session, and who writes.

        Raises:
            InvalidInputError: the writer cannot be used there.
            MissingExtraError: delta-rs is not installed.
        """
        extended = tables.is_extended(spark)
        # Delta takes the transaction of a MERGE from the settings: other writes must not have them meanwhile.
        fits = extended and not (self.how == "upsert" and shares_settings(spark))
        writer = self.writer if self.writer != "auto" else "spark" if fits else "delta-rs"
        location = None if self.path is None else locate(spark, self.path)
        folder = location.folder if location else None
        if writer == "spark":
            if not extended:
                raise InvalidInputError(
                    f"delta: writer='spark' needs a session with Delta's extension: {_JARS}; it must be the "
                    "first session of the process"
                )
            if not fits:
                raise InvalidInputError(
                    "delta: on Spark Connect writer='spark' cannot upsert: its transactions would get into "
                    "other writes of the session; give writer='delta-rs' and a local folder"
                )
            if self.path is not None:
                refuse_many_disks(spark, "delta", self.path)
            # With its scheme: a path without one may be on another file system for Delta than for `locate`.
            return _Place(writer, Location(f"file://{folder}", folder) if folder else location, self.name)
        if location is None:
            connect = "" if not extended else ", and to upsert no Spark Connect"
            raise InvalidInputError(
                f"delta: table {self.name} is in the catalog, which needs {_JARS}{connect}"
            )
        if folder is None:
            refuse_elsewhere(spark, f"delta {self.path}", f"writer='spark' on a server with {_JARS}")
            raise InvalidInputError(
                f"delta {self.path}: delta-rs writes to local folders alone; for this one use {_JARS}"
            )
        return _Place(writer, location, None)


@dataclass(frozen=True)
class _Place:
    """A table, and its writer: what a batch needs, on Spark Connect in another process."""

    writer: str
    location: Location | None
    name: str | None

    def table(self, spark: SparkSession) -> tables.Table:
        if self.writer == "spark":
            from sparkstream_kit.connectors.delta.spark import SparkTable

            return SparkTable(spark, self.location, self.name)
        try:
            openers.import_arrow()
            from sparkstream_kit.connectors.delta.rust import RustTable
        except ModuleNotFoundError as err:
            raise MissingExtraError(f"sinks.delta, in a session without {_JARS},", "delta") from err
        return RustTable(str(self.location and self.location.folder))


class _Writer:
    """Writes the batches of one query; on Spark Connect it is pickled before the first."""

    def __init__(
        self, target: tables.Target, place: _Place, location: Location | None, known: str | None
    ) -> None:
        self._target, self._place, self._location, self._known = target, place, location, known
        self._table: tables.Table | None = None

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._write(batch, batch_id)
            except tables.ConflictError:
                if not left:
                    raise
            else:
                return

    def _write(self, batch: DataFrame, batch_id: int) -> None:
        query = self._known or id_of_batch(batch, self._location)
        if self._table is None:
            self._table = self._place.table(batch.sparkSession)
        checkpoint = None if self._location is None else self._location.text
        if tables.is_written(self._target, self._table, batch.schema, query, batch_id, checkpoint):
            _log.info("batch %d is in %s already", batch_id, self._target.where)
            # Read all the same: a stateful query fails when its batch is not read.
            batch.write.format("noop").mode("append").save()
            return
        self._table.write(batch, self._target, tables.Commit(query, batch_id))
