"""The public function `sinks.iceberg`: checks its arguments, and builds the `Sink`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit._spark.place import refuse_elsewhere
from sparkstream_kit.connectors import _tables, mode_for
from sparkstream_kit.connectors.iceberg import SYSTEM
from sparkstream_kit.errors import InvalidInputError, without_secrets
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import exactly_once, open_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place
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

    Docs.
    """
    check(iceberg, locals())
    SYSTEM.need("sinks.iceberg")
    mode = mode_for("iceberg", "'shop.totals'", how, keys, SYSTEM.ways)
    if not all(part for part in table.split(".")) or "." not in table:
        raise InvalidInputError(f"iceberg: table {table!r} names no namespace; give one: 'shop.totals'")
    if keep_snapshots < 1:
        raise InvalidInputError(f"iceberg: keep_snapshots is {keep_snapshots}; give 1 or more")
    given = dict(catalog) if isinstance(catalog, Mapping) else str(Path(catalog).absolute())
    place = given if isinstance(given, str) else given.get("uri") or f"catalog {given.get('name', 'default')}"
    where = Target("Iceberg table", without_secrets(f"{table} in {place}"))

    def open_table(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        if isinstance(given, str):
            refuse_elsewhere(frame.sparkSession, f"iceberg: catalog {given}", "a catalog that it can reach")
        target = _Target(
            where=where,
            how=how,
            keys=tuple(keys),
            merge_schema=merge_schema,
            take_over=take_over,
            name=table,
            catalog=given,
            keep=keep_snapshots,
        )
        return open_target(target, frame, location, opening)

    return exactly_once("iceberg", where, (mode,), open_table)


@dataclass(kw_only=True)
class _Target(_tables.Target):
    """What the user asked for, and the catalog.

    Attributes:
        name: the table's name, with its namespace.
        catalog: the folder of a SQLite catalog, or the properties of another one.
        keep: how many snapshots to keep.
    """

    name: str
    catalog: str | dict[str, str]
    keep: int

    def opened(self, spark: SparkSession) -> IcebergTable:  # noqa: ARG002 - a writer of another format asks
        from sparkstream_kit.connectors.iceberg.table import IcebergTable

        return IcebergTable(self.name, self.catalog, self.keep)

    def take(self, query: str, driver: str, frame: DataFrame) -> None:
        super().take(query, driver, frame)
        self.opened(frame.sparkSession).clean(query)
