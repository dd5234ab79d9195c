"""The public function `sinks.iceberg`: checks its arguments, and builds the `Sink`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark.place import refuse_elsewhere
from sparkstream_kit.connectors import _tables, mode_for
from sparkstream_kit.connectors.iceberg import SYSTEM
from sparkstream_kit.errors import InvalidInputError, without_secrets
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import exactly_once, open_target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.connectors.iceberg.table import IcebergTable
    from sparkstream_kit.sinks.base import Opening, Sink


def iceberg(
    table: str,
    *,
    catalog: str | Path | Mapping[str, str] = "iceberg",
    how: str = "append",
    keys: Sequence[str] = (),
    merge_schema: bool = False,
    keep_snapshots: int = 20,
    take_over: bool = False,
) -> Sink:
    """Write each batch to an Iceberg table with pyiceberg, in one commit with the batch's number.

    The argument `how` selects how batches change the table:

    - `append` inserts the rows of append mode.
    - `upsert` inserts the rows of update mode, or overwrites the rows that have the
      same keys.
    - `replace` makes the table equal to the whole result of complete mode.

    A reader sees all of a batch or nothing of it.

    The table and its namespace are created if they are missing; create the table
    yourself if you want partitions or properties. An existing table must have the
    query's columns and format version 2, and the query every column of it that is
    required. It belongs to one query, whose id is in its property
    `sparkstream.queries`. The snapshots of each batch have its number in their
    summaries, and the table's properties have the number and the plan (which input the
    batch read) of the last one:

    - A batch that is replayed with the same plan, as after a crash, is skipped.
    - If the checkpoint has lost the last batch's plan, or is one batch older than the
      table, the plan is put back when the query starts.
    - A batch before the last one is replayed only after a rewind of the checkpoint.
      Spark may then split the input differently, so these batches can be neither
      skipped nor rewritten safely: the query fails, and the message contains the
      command that lets the query write them again.
    - If batches are missing, as in a table that was rolled back to an older snapshot,
      the query fails, and the message contains the command that writes them again.

    With `replace` each batch is the whole result, and is always written.

    Spark first computes the batch, onto the workers' disks. Then the rows pass in small
    parts into a temporary file of the driver, and from there into the table. `upsert`
    reads all rows of the table into the driver's memory whose keys are between the
    least and the greatest of the batch: some million rows at most. Only the driver
    needs to reach the catalog and the table's storage. On Spark Connect the server's
    Python needs the kit and the extra.

    Files that no snapshot needs stay, such as those of a batch that was cut off:
    pyiceberg has no way to remove them.

    Delivery: exactly once from replayable sources. Without a checkpoint each start is a
    new query.

    Args:
        table: the table with its namespace, as `shop.totals`.
        catalog: a folder for a SQLite catalog and its tables on this machine, created
            if it is missing; or the properties of another catalog, as pyiceberg names
            them: `{"type": "rest", "uri": "https://…"}`, or `{"name": "prod"}` for one
            of pyiceberg's own configuration, which keeps secrets out of the code.
        how: `append`, `upsert` or `replace`.
        keys: the columns that identify a row, for `upsert` only; no two rows of a batch
            may have the same keys.
        merge_schema: add columns that the query has and the table lacks; existing rows
            have null in them.
        keep_snapshots: how many snapshots to keep, 1 or more; older ones expire, but
            for those of branches and tags. Each one that is kept makes every commit
            about a millisecond slower. The files of a snapshot that has expired stay,
            for readers that have begun.
        take_over: write to the table although another query or program has written to
            it, or although earlier batches of this query are missing from it.

    Raises:
        InvalidInputError: the table, keys or number of snapshots cannot be used; when
            the query starts, the catalog cannot be reached, Iceberg cannot hold a
            column, or the table has other columns, another format version, or rows that
            this query has not written.
        MissingExtraError: pyiceberg, SQLAlchemy, pyarrow or pandas is not installed.

    Examples:
        >>> iceberg("shop.totals", catalog="lake", how="replace").modes
        ('complete',)
        >>> iceberg("totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: iceberg: table 'totals' names no ...
    """
    check(iceberg, locals())
    SYSTEM.need("sinks.iceberg")
    mode = mode_for("iceberg", "'shop.totals'", how, keys, SYSTEM.ways)
    if "." not in table or "" in table.split("."):
        raise InvalidInputError(
            f"iceberg: table {table!r} names no namespace; give one: 'shop.totals'"
        )
    if keep_snapshots < 1:
        raise InvalidInputError(
            f"iceberg: keep_snapshots is {keep_snapshots}; give 1 or more"
        )
    folder_or_properties = _checked(catalog)
    where = Target(
        "Iceberg table",
        without_secrets(f"{table} in {_shown(folder_or_properties)}"),
        within=table.rpartition(".")[0],
    )

    def table_in(_: SparkSession) -> IcebergTable:
        from sparkstream_kit.connectors.iceberg.table import IcebergTable

        return IcebergTable(table, folder_or_properties, keep_snapshots)

    # A new one for each start, which opens the table anew.
    new_target = partial(
        _tables.TableTarget, where, how, tuple(keys), merge_schema, take_over, table_in
    )

    def open_table(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        spark = frame.sparkSession
        if isinstance(folder_or_properties, str):
            what = f"iceberg: catalog {folder_or_properties}"
            refuse_elsewhere(spark, what, "a catalog that it can reach")
        target = new_target()
        identity = partial(target.identity, spark)
        return open_target(target, frame, location, opening, identity=identity)

    return exactly_once(
        "iceberg", where, (mode,), open_table, keys=keys, read=new_target().rows
    )


def _checked(catalog: str | Path | Mapping[str, str]) -> str | dict[str, str]:
    """Return a catalog as `IcebergTable` takes it: a folder's absolute path, or properties.

    Raises:
        InvalidInputError: pyiceberg would take another folder.
    """
    if isinstance(catalog, Mapping):
        return dict(catalog)
    folder = str(file_system.local("catalog", catalog).absolute())
    if "#" in folder or "?" in folder:  # of which pyiceberg makes another folder
        raise InvalidInputError(
            f"iceberg: catalog {catalog} has a # or ? in its path; give another folder"
        )
    return folder


def _shown(catalog: str | dict[str, str]) -> str:
    """Return a catalog's folder, address or name, for messages."""
    if isinstance(catalog, str):
        return catalog
    return catalog.get("uri") or f"catalog {catalog.get('name', 'default')}"
