"""The public function `sinks.delta`: chooses the writer for a session, and writes each batch once.

`delta` returns the `Sink`. When a query starts, the session decides which writer is
used: Delta's own for Spark (`writers.SparkTable`) or delta-rs (`rust.RustTable`).
`_tables.TableTarget` then writes the batches.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql.types import TimestampType

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import holds
from sparkstream_kit._internal.spark.place import (
    Place,
    locate,
    refuse_elsewhere,
    refuse_many_disks,
)
from sparkstream_kit._internal.spark.session import on_server
from sparkstream_kit.connectors import _tables, mode_for
from sparkstream_kit.connectors.delta import SYSTEM, writers
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.file_columns import cuts_microseconds
from sparkstream_kit.sinks.ledger import exactly_once, open_target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit.sinks.base import Opening, Sink


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

    The argument `how` selects how batches change the table:

    - `append` inserts the rows of append mode.
    - `upsert` inserts the rows of update mode, or overwrites the rows that have the
      same keys.
    - `replace` makes the table equal to the whole result of complete mode.

    A reader sees all of a batch or nothing of it. The table's history has a commit for
    each batch, whose `userMetadata` names the query and the batch.

    There are two writers with the same promise. Delta's writer for Spark writes from
    the workers; use it for large batches, clusters, tables of the catalog and any file
    system. delta-rs writes from the driver's Python; use it for small results in a
    local folder, where it is faster and needs no jars. By default the kit uses Delta's
    writer for Spark if the session has Delta's extension (`get_session(…,
    connectors=["delta"])`), else delta-rs. On Spark Connect only delta-rs supports
    `upsert`. The argument `writer` overrides the choice. Each writer recognizes the
    batches of the other, so a query can switch between them.

    The table is created if it is missing; create it yourself if you want partitions or
    properties. An existing table must have the query's columns, and the query each
    column of it that is NOT NULL. The table belongs to one query, whose id is in its
    property `sparkstream.queries`. With each batch Delta stores the query's id and the
    batch's number as an application transaction, and in `userMetadata` the batch's plan
    (which input the batch read):

    - A batch that is replayed with the same plan, as after a crash, is skipped.
    - If the checkpoint has lost the last batch's plan, or is one batch older than the
      table, the plan is put back when the query starts. This needs the batch's commit
      to be among the last thousand of the table, and not yet cleaned up; otherwise
      batches are compared by number alone.
    - A batch before the last one is replayed only after a rewind of the checkpoint.
      Spark may then split the input differently, so these batches can be neither
      skipped nor rewritten safely: the query fails, and the message contains the
      command that lets the query write them again.
    - If batches are missing, as in a table that was made again or restored from an
      older backup, the query fails.

    With `replace` each batch is the whole result, and is always written.

    With delta-rs, Spark first computes the batch, onto the workers' disks. Then the
    rows pass in small parts into a temporary file of the driver, and from there into
    the table. `upsert` merges them in the driver's memory: if a batch, or the table's
    files that it touches, has more than a few million rows, use Delta's writer for
    Spark. On Spark Connect the server's Python needs the kit and, for delta-rs, the
    extra.

    Delivery: exactly once from replayable sources. Without a checkpoint each start is a
    new query.

    Args:
        path: the table's folder.
        table: a table of the catalog, as `table` or `schema.table`, in place of a path.
        how: `append`, `upsert` or `replace`.
        keys: the columns that identify a row, for `upsert` only; no two rows of a batch
            may have the same keys.
        writer: `auto`, `spark` or `delta-rs`.
        merge_schema: add columns that the query has and the table lacks; existing rows
            have null in them.
        take_over: write to the table although another query or program has written to
            it, or although earlier batches of this query are missing from it.

    Raises:
        InvalidInputError: the table, keys or writer cannot be used; when the query
            starts, the folder holds something else or is a local path on a cluster,
            where each node would write to a disk of its own, Delta cannot hold a
            column, or the table has other columns or rows that this query has not
            written.
        MissingExtraError: the query needs delta-rs, which is not installed.

    Examples:
        >>> delta("out/totals", how="replace").modes
        ('complete',)
        >>> delta("out/totals", how="upsert")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: delta: how='upsert' and keys belong together: ...
    """
    check(delta, locals())
    mode = mode_for("delta", "'out/totals'", how, keys, SYSTEM.ways)
    reject_unknown("writer", [writer], ("auto", "spark", "delta-rs"))
    where = _where(path, table, writer)
    folder = None if path is None else str(path)

    def target_in(spark: SparkSession) -> _tables.TableTarget:
        by_spark = _is_sparks(spark, writer, how)
        place = _place(spark, folder, table, by_spark=by_spark)

        def table_in(spark: SparkSession) -> _tables.Table:
            if by_spark:
                return writers.SparkTable(spark, place, table)
            SYSTEM.need(f"sinks.delta, in a session without {_JARS},")
            from sparkstream_kit.connectors.delta.rust import RustTable

            return RustTable(str(place and place.folder))

        return _tables.TableTarget(
            where, how, tuple(keys), merge_schema, take_over, table_in
        )

    def open_table(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        spark = frame.sparkSession
        target = target_in(spark)
        if _is_sparks(spark, writer, how):
            _refuse_cut_times(frame)
        identity = partial(target.identity, spark)
        return open_target(target, frame, location, opening, identity=identity)

    return exactly_once(
        "delta",
        where,
        (mode,),
        open_table,
        keys=keys,
        read=lambda spark, *_: target_in(spark).rows(spark),
    )


def _where(path: str | Path | None, table: str | None, writer: str) -> Target:
    """Return the table that the caller names, by its path or in the catalog.

    Raises:
        InvalidInputError: both or neither is given, or the writer knows no catalog.
    """
    if (path is None) == (table is None):
        raise InvalidInputError(
            "delta: give a path or a table of the catalog: delta('out/totals') or"
            " delta(table='shop.totals')"
        )
    if table is not None and writer == "delta-rs":
        raise InvalidInputError(
            "delta: delta-rs knows no catalog; give the table's path, or writer='spark'"
        )
    within = (table or "").rpartition(".")[0]
    return Target("Delta table", str(path or table), str(path or ""), within=within)


def _is_sparks(spark: SparkSession, writer: str, how: str) -> bool:
    """Return whether to use Delta's writer for Spark in a session; else delta-rs is used.

    Raises:
        InvalidInputError: the user asked for writer='spark', which cannot be used in
            this session.
    """
    # Delta reads the transaction of a MERGE from the session's settings. On Spark
    # Connect a batch function uses the session's own settings, so the session's other
    # writes would get the same transaction.
    is_extended = writers.is_extended(spark)
    fits = is_extended and not (how == "upsert" and on_server(spark))
    if writer == "spark" and not is_extended:
        raise InvalidInputError(
            f"delta: writer='spark' needs a session with Delta's extension: {_JARS}; it"
            " must be the first session of the process"
        )
    if writer == "spark" and not fits:
        raise InvalidInputError(
            "delta: on Spark Connect writer='spark' cannot upsert: its transactions"
            " would get into other writes of the session; give writer='delta-rs' and a"
            " local folder"
        )
    return fits and writer != "delta-rs"


def _refuse_cut_times(frame: DataFrame) -> None:
    """Refuse times if the session has Spark cut their microseconds in Delta's files.

    Raises:
        InvalidInputError: the session has the setting, and a column has times.
    """
    times = [each.name for each in frame.schema if holds(each.dataType, TimestampType)]
    if times and cuts_microseconds(frame.sparkSession):
        raise InvalidInputError(
            f"delta: column {times[0]} is timestamp, and the session's"
            " spark.sql.parquet.outputTimestampType=TIMESTAMP_MILLIS cuts its"
            " microseconds; set it to TIMESTAMP_MICROS, or give writer='delta-rs'"
        )


def _place(
    spark: SparkSession, path: str | None, table: str | None, *, by_spark: bool
) -> Place | None:
    """Return a table's folder, and check that the chosen writer can write to it.

    Returns:
        None for a table of the catalog.

    Raises:
        InvalidInputError: the writer cannot write to this folder or table.
    """
    if path is None:
        if by_spark:
            return None
        connect = ""
        if writers.is_extended(spark):
            connect = ", and to upsert a session without Spark Connect"
        raise InvalidInputError(
            f"delta: table {table} is in the catalog, which needs {_JARS}{connect}"
        )
    location = locate(spark, path)
    if by_spark:
        refuse_many_disks(spark, "delta", path)
    elif location.folder is None:
        refuse_elsewhere(
            spark, f"delta {path}", f"writer='spark' on a server with {_JARS}"
        )
        raise InvalidInputError(
            f"delta {path}: delta-rs writes to local folders alone; for this use"
            f" {_JARS}"
        )
    return location
