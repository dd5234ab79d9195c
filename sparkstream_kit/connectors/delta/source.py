"""The public function `sources.delta`: the rows that are added to a Delta table, or its changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.arguments import check, check_options
from sparkstream_kit._internal.columns import quoted
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit.connectors import _packages
from sparkstream_kit.connectors.delta.writers import SparkTable, is_extended
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sources import builtin

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession


_FEED = "delta.enableChangeDataFeed"


def delta(
    spark: SparkSession,
    path: str | Path | None = None,
    *,
    table: str | None = None,
    change_feed: bool = False,
    starting_version: int | None = None,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream a Delta table's new rows, or all its changes; replayable, so exactly once.

    The session needs Delta's jars: `get_session(…, connectors=["delta"])`.

    A query first reads the rows that the table has when the query starts, then the rows
    that are added. A commit that updates or deletes rows, such as one by `sinks.delta`
    with `how="upsert"` or `"replace"`, fails the query. There are two ways to read on:

    - `skipChangeCommits=True` skips such commits, including the rows that they add.
    - `change_feed=True` reads every change as a row. The table must record its changes,
      and only records those made after `ALTER TABLE … SET TBLPROPERTIES
      (delta.enableChangeDataFeed = true)`.

    Args:
        spark: the session.
        path: the table's folder.
        table: a table of the catalog, as `table` or `schema.table`, in place of a path.
        change_feed: read all changes; the rows that the table has at the start are read
            as inserts.
        starting_version: read the commits from this version of the table on, in place
            of the whole table. It has no effect on a query that resumes from a
            checkpoint. Default: the whole table.
        max_files_per_trigger: the most files that one batch reads. Default: Delta's,
            which is 1,000.
        **options: further options of Delta's source, by Delta's own names
            (`skipChangeCommits=True`, `startingVersion="latest"`,
            `maxBytesPerTrigger="64m"`, `failOnDataLoss=False`).

    Returns:
        A streaming DataFrame with the table's columns. With `change_feed` it also has
        `_change_type` (string: `insert`, `update_preimage`, `update_postimage` or
        `delete`), `_commit_version` (bigint) and `_commit_timestamp` (timestamp).

    Raises:
        InvalidInputError: the session has no Delta, the table does not exist, is not a
            Delta table or does not record its changes, or an option is misspelt.

    Examples:
        In a session::

            changes = sources.delta(spark, "out/totals", change_feed=True)
            newest = changes.where("_change_type IN ('insert', 'update_postimage')")
    """
    check(delta, locals())
    check_options(delta, options)
    if (path is None) == (table is None):
        raise InvalidInputError(
            "sources.delta: give a path or a table of the catalog: delta(spark,"
            " 'out/totals') or delta(spark, table='shop.totals')"
        )
    builtin.check_number("max_files_per_trigger", max_files_per_trigger)
    if not is_extended(spark):
        raise InvalidInputError(_packages.missing("delta"))
    location = None if path is None else locate(spark, path)
    opened = SparkTable(spark, location, table)
    if opened.schema() is None:
        raise InvalidInputError(
            f"Delta table {path or table} does not exist; create it or correct the name"
        )
    place = opened.place  # which refuses a table of another format
    if change_feed and opened.properties().get(_FEED, "false").lower() != "true":
        raise InvalidInputError(
            f"Delta table {place} keeps no changes; to keep those from now on, run"
            f" ALTER TABLE delta.{quoted(place)} SET TBLPROPERTIES ({_FEED} = true)"
        )
    given: dict[str, Any] = {}
    if starting_version is not None:
        given["startingVersion"] = starting_version
    if max_files_per_trigger is not None:
        given["maxFilesPerTrigger"] = max_files_per_trigger
    reader = spark.readStream.format("delta").options(**given | options)
    if change_feed:
        reader = reader.option("readChangeFeed", "true")
    if table is not None:
        return reader.table(table)
    return reader.load(place)
