"""A Delta table in a local folder, written with delta-rs from the driver's Python, without Delta's jars.

`RustTable` implements `_tables.Table`; `sinks.delta` chooses it for a session without Delta's extension. Only
this module imports the library (`deltalake`), so it is needed only when such a sink is opened.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from pyspark.sql import types as T

from sparkstream_kit._columns import quoted
from sparkstream_kit.connectors import _arrow
from sparkstream_kit.connectors._tables import DELTA, ConflictError, Target, command, metadata, nullable
from sparkstream_kit.connectors.delta.writers import HISTORY, application, set_back
from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.sinks.ledger import Batch


class RustTable:
    """A Delta table in a local folder; see `_tables.Table` for the methods."""

    format = DELTA

    def __init__(self, folder: str) -> None:
        self.place = folder
        self._known: DeltaTable | None = None

    def set_back(self, query: str, batch: int) -> str:
        """Return a command that makes `batch` the query's last batch."""
        return command(set_back, self.place, query, batch)

    def _now(self) -> DeltaTable | None:
        """Return the table in its newest version, with the commits of others; None if there is no table."""
        if not DeltaTable.is_deltatable(self.place):
            self._known = None
        elif self._known is None:
            with _in_one_line(self.place):
                self._known = DeltaTable(self.place)
        else:
            self._known.update_incremental()
        return self._known

    def schema(self) -> T.StructType | None:
        """Return the table's columns in its newest version; None if there is no table.

        Raises:
            InvalidInputError: there is no table, but the folder has other files.
        """
        table = self._now()
        if table is not None:
            return T.StructType.fromJson(json.loads(table.schema().to_json()))
        folder = Path(self.place)
        if folder.is_file() or any(each.name != "_delta_log" for each in folder.glob("*")):
            raise InvalidInputError(f"{self.place} is no Delta table, but not empty; use another folder")
        return None

    def properties(self) -> dict[str, str]:
        """Return the table's properties in its newest version; an empty dict if there is no table."""
        table = self._now()
        return {} if table is None else dict(table.metadata().configuration)

    def last_batch(self, query: str) -> int | None:
        """Return the last batch of a query, with whichever writer it was written; None before the first."""
        return None if self._known is None else self._known.transaction_version(application(query))

    def history(self) -> Iterator[str | None]:
        """Return the `userMetadata` of the newest commits, newest first, at most `HISTORY` of them."""
        commits = [] if self._known is None else self._known.history(HISTORY)
        return (commit.get("userMetadata") for commit in commits)

    def has_rows(self) -> bool:
        """Return whether the table has rows."""
        return self._known is not None and bool(self._known.count())

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return all rows of the table's newest version; they pass through the driver's memory."""
        return spark.createDataFrame(self._loaded().to_pyarrow_table(), self.schema())

    def create(self, schema: T.StructType) -> None:
        """Create the table, unless another driver has just created it."""
        with _in_one_line(self.place):
            DeltaTable.create(self.place, Schema.from_json(nullable(schema).json()), mode="ignore")

    def add_columns(self, columns: list[T.StructField]) -> None:
        """Add nullable columns to the table."""
        added = Schema.from_json(nullable(T.StructType(columns)).json()).fields
        with _in_one_line(self.place):
            self._loaded().alter.add_columns(added)

    def note(self, properties: dict[str, str]) -> None:
        """Set properties of the table, in a commit."""
        with _in_one_line(self.place):
            self._loaded().alter.set_table_properties(properties, raise_if_not_exists=False)

    def write(self, batch: DataFrame, target: Target, which: Batch) -> None:
        """Write a batch in one commit, even if the batch has no rows.

        Raises:
            InvalidInputError: for `upsert`, a key is null or occurs in two rows of the batch.
            ConflictError: another writer has committed at the same moment.
            KitError: delta-rs reported an error, or the table was removed.
        """
        table = self._loaded()
        properties = CommitProperties(
            custom_metadata={"userMetadata": metadata(which)},
            app_transactions=[Transaction(application(which.query), which.number)],
        )
        schema = Schema.from_json(nullable(batch.schema).json())
        with _arrow.gathered(batch, pa.schema(schema)) as rows, _in_one_line(self.place):
            if target.how == "upsert" and rows.num_rows:
                _arrow.check_keys(rows, target.where, target.keys, which.number)
                _merge(table, rows, target, properties)
            elif target.how == "replace" or rows.num_rows:
                mode: Literal["append", "overwrite"] = "overwrite" if target.how == "replace" else "append"
                # schema_mode="merge" matches columns by name; those that only the table has become null.
                write_deltalake(table, rows, mode=mode, schema_mode="merge", commit_properties=properties)
            else:
                # Without this commit, the ledger would find a gap before the next batch.
                table.create_write_transaction([], "append", table.schema(), commit_properties=properties)

    def _loaded(self) -> DeltaTable:
        table = self._known or self._now()
        if table is None:
            raise KitError(f"the Delta table {self.place} was removed while a query writes to it")
        return table


def _merge(table: DeltaTable, rows: pa.Table, target: Target, properties: CommitProperties) -> None:
    same = " AND ".join(f"target.{quoted(key)} = source.{quoted(key)}" for key in target.keys)
    # Each column by itself, because delta-rs's `when_matched_update_all` fails on names with a backtick.
    columns = {quoted(name): f"source.{quoted(name)}" for name in rows.column_names}
    merging = table.merge(
        rows, same, source_alias="source", target_alias="target", commit_properties=properties
    )
    merging.when_matched_update(columns).when_not_matched_insert(columns).execute()


@contextmanager
def _in_one_line(folder: str) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as err:
        # Without colours, and without the frames of Rust's stack.
        lines = re.sub(r"\x1b\[[\d;]*m", "", str(err)).splitlines()
        line = " ".join(" ".join(each for each in lines if not re.match(r"\s*(\d+: |at )", each)).split())
        kind = ConflictError if isinstance(err, CommitFailedError) else KitError
        raise kind(f"Delta table {folder}: {line}") from err
