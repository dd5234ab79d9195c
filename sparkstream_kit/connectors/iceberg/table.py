"""An Iceberg table, written with pyiceberg from the driver's Python.

`IcebergTable` implements `_tables.Table`. The commit of a batch makes one snapshot or a
few, at once. Their summaries have the batch's number, and so has the table's property
`sparkstream.batch.QUERY`. Both are needed: a summary goes when its snapshot expires,
and a property stays as it is when somebody rolls the table back to an older snapshot.
The property `sparkstream.plan.QUERY` has the batch's plan.
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    RESTError,
)
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    GreaterThanOrEqual,
    LessThanOrEqual,
    Reference,
)
from pyiceberg.expressions.literals import literal
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table.update.snapshot import ExpireSnapshots
from pyiceberg.types import DoubleType, FloatType
from pyspark.errors import PySparkException
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from sparkstream_kit._internal import file_system
from sparkstream_kit.connectors import _arrow
from sparkstream_kit.connectors._tables import (
    ICEBERG,
    ConflictError,
    TableTarget,
    command,
    metadata,
    nullable,
)
from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table, Transaction
    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.sinks.ledger import Batch


# Plus a query's id: in summaries and properties, its last batch
_BATCH = "sparkstream.batch."
# Plus a query's id: the table's sequence number before that batch
_AFTER = "sparkstream.after."
# Plus a query's id: the property with `metadata` of its last batch
_PLAN = "sparkstream.plan."
# The properties of a table that the sink creates; without them each commit would be
# slower
_MADE_WITH = {
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
# Every twentieth commit merges manifests, and rewrites one that has not reached this
# size. pyiceberg alone merges none, or rewrites the largest each time: then commits
# become slower with each file of the table.
_MERGING = {
    "commit.manifest.target-size-bytes": "131072",
    "commit.manifest.min-count-to-merge": "2",
}
_EVERY = 20
_METRICS = "write.metadata.metrics."  # which statistics a file gets
# Version 1 has no sequence numbers, by which `last_batch` tells an expired snapshot; 3
# cannot be written.
_VERSION = 2
_OTHER = "write to another table"
_UPGRADES = {
    1: (
        "upgrade it: ALTER TABLE … SET TBLPROPERTIES ('format-version' = '2'), or with"
        " pyiceberg"
    )
}
# Of Spark 4.2 and later; earlier ones have timestamps in UTC without being told.
_IN_UTC: dict[str, Any] = {}
if "timezone" in signature(to_arrow_schema).parameters:
    _IN_UTC["timezone"] = "UTC"


class _FarError(KitError):
    """A date or time is outside the years 1 to 9999.

    pyiceberg makes statistics and partitions of these years alone.
    """


class _Foreign(T.DataType):
    """A type of Iceberg that Spark does not have, so that no column of a query fits it."""

    def __init__(self, name: str) -> None:
        self._shown = name

    def simpleString(self) -> str:
        return self._shown


def _column(field: pa.Field) -> T.StructField:
    """Return a column of a table as Spark's type, or as a foreign one."""
    one = pa.schema([field])
    try:
        kind = from_arrow_schema(one, prefer_timestamp_ntz=True)[0].dataType
    except PySparkException:
        kind = _Foreign(str(field.type))
    return T.StructField(field.name, kind, field.nullable)


def _load_folder(database: Path) -> Catalog:
    """Open the catalog of a folder, and create it if it is missing.

    Args:
        database: the catalog's file in the folder.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_suffix(".lock").open("a") as lock:
        # Of two that make its tables at once, one would fail
        fcntl.flock(lock, fcntl.LOCK_EX)
        return load_catalog(
            "default",
            type="sql",
            uri=f"sqlite:///{database}?timeout=30",
            warehouse=file_system.for_spark(database.parent),
        )


class IcebergTable:
    """An Iceberg table; see `_tables.Table` for the methods.

    Args:
        name: its name, with its namespace.
        catalog: the folder of a SQLite catalog, or the properties of another one for
            pyiceberg, with its `name`.
        keep: how many snapshots to keep.
    """

    format = ICEBERG

    def __init__(self, name: str, catalog: str | dict[str, str], keep: int) -> None:
        self._name = name
        self._keep = keep
        self._given: Any = catalog
        self._file: Path | None = None
        if isinstance(catalog, str):
            self._file = Path(catalog, "catalog.db")
        self._loaded: Catalog | None = None
        self._known: Table | None = None

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except KitError:  # such as InvalidInputError, which is a ValueError
            raise
        except (CommitFailedException, FileNotFoundError) as err:
            # or others have removed the old metadata
            line = f"another writer was quicker, or a file has gone ({err})"
            raise ConflictError(f"Iceberg table {self._name}: {line}") from err
        except OverflowError as err:
            raise _FarError(
                f"Iceberg table {self._name}: a column by which the table is"
                " partitioned has a date or time outside the years 1 to 9999, of which"
                " pyiceberg makes no partition; leave such rows out"
            ) from err
        except (
            ImportError,
            NotInstalledError,
            OSError,
            RESTError,
            SQLAlchemyError,
            ValueError,
        ) as err:
            if self._loaded is not None:
                # A connection whose commit has failed would keep the lock of SQLite
                self._loaded.close()
            first_line = str(err).partition("\n")[0]
            line = f"{type(err).__name__}: {first_line}"
            # Of a table that was read
            if isinstance(err, ValueError) and self._known is not None:
                raise KitError(
                    f"Iceberg table {self._name}: pyiceberg refuses this ({line})"
                ) from err
            raise file_system.unreached(line)(
                f"Iceberg table {self._name}: the catalog or its storage failed"
                f" ({line}); repair it, or the catalog's properties, and start again"
            ) from err

    @property
    def _catalog(self) -> Catalog:
        if self._loaded is None:
            if self._file is None:
                self._loaded = load_catalog(**{"name": "default", **self._given})
            else:
                self._loaded = _load_folder(self._file)
        return self._loaded

    def _now(self) -> Table | None:
        """Return the newest version of the table; None if there is no table.

        It has the commits of others, too.
        """
        self._known = None
        if self._file is not None and not self._file.exists():
            return None  # nor does a look make the catalog
        with self._in_one_line(), suppress(NoSuchTableError, NoSuchNamespaceError):
            self._known = self._catalog.load_table(self._name)
        return self._known

    @contextmanager
    def _changed(self) -> Iterator[Transaction]:
        """Commit a change, if no other commit was made since the table was read."""
        # By default pyiceberg would make the commit again on top of the other, even if
        # it is an old driver's.
        self._table.metadata.properties["commit.retry.num-retries"] = "0"
        with self._in_one_line(), self._table.transaction() as change:
            yield change

    @property
    def _table(self) -> Table:
        if self._known is None:
            raise KitError(
                f"the Iceberg table {self._name} was removed while a query writes to it"
            )
        return self._known

    def schema(self) -> T.StructType | None:
        """Return the table's columns in its newest version; None if there is no table."""
        table = self._now()
        if table is None:
            return None
        if table.format_version != _VERSION:
            raise InvalidInputError(
                f"Iceberg table {self._name} has format version {table.format_version},"
                f" and pyiceberg can note batches in version {_VERSION} alone;"
                f" {_UPGRADES.get(table.format_version, _OTHER)}"
            )
        for field in table.spec().fields:
            column = table.schema().find_field(field.source_id)
            if isinstance(column.field_type, FloatType | DoubleType):
                raise InvalidInputError(
                    f"Iceberg table {self._name} is partitioned by {column.name}, a"
                    f" {column.field_type}, of which pyiceberg makes no partitions; write"
                    " to another table, or take it out of the partitions"
                )
        return T.StructType(
            [_column(field) for field in schema_to_pyarrow(table.schema())]
        )

    def properties(self) -> dict[str, str]:
        """Return the table's properties, in the version that `schema` has found."""
        return self._table.properties

    def identity(self) -> str:
        """Return the table's UUID."""
        return str(self._table.metadata.table_uuid)

    def last_batch(self, query: str) -> int | None:
        """Return the last batch of a query: that of the newest snapshot that has one.

        The snapshots are those from the current one back.

        If none of them has one, the property is asked, but only if all of them are
        newer than its batch: its snapshot has expired then. Otherwise the table was
        rolled back.
        """
        if self._known is None:
            return None
        oldest = None
        snapshot = self._known.current_snapshot()
        while snapshot is not None:
            if snapshot.summary:
                summary = snapshot.summary.additional_properties
                if f"{_BATCH}{query}" in summary:
                    return int(summary[f"{_BATCH}{query}"])
            oldest = snapshot
            snapshot = self._known.snapshot_by_id(snapshot.parent_snapshot_id or 0)
        properties = self._known.properties
        if oldest is None or f"{_AFTER}{query}" not in properties:
            return None
        if (oldest.sequence_number or 0) <= int(properties[f"{_AFTER}{query}"]):
            return None
        return int(properties[f"{_BATCH}{query}"])

    def history(self) -> list[str | None]:
        """Return `metadata` of the last batch of each query."""
        return [
            text
            for name, text in self._table.properties.items()
            if name.startswith(_PLAN)
        ]

    def has_rows(self) -> bool:
        """Return whether the table has rows."""
        return any(True for _ in self._table.scan().plan_files())

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return all rows of the table's newest version; they pass through the driver's memory."""
        return spark.createDataFrame(self._table.scan().to_arrow(), self.schema())

    def create(self, schema: T.StructType) -> None:
        """Create the table and its namespace, unless another driver has just created them."""
        with self._in_one_line():
            namespace = self._name.rpartition(".")[0]
            with suppress(IntegrityError):  # another driver has made it since the look
                self._catalog.create_namespace_if_not_exists(namespace)
            columns = to_arrow_schema(nullable(schema), **_IN_UTC)
            self._catalog.create_table_if_not_exists(
                self._name, columns, properties=_MADE_WITH
            )

    def add_columns(self, columns: list[T.StructField]) -> None:
        """Add nullable columns to the table."""
        with self._in_one_line():
            added = to_arrow_schema(nullable(T.StructType(columns)), **_IN_UTC)
            with self._table.update_schema() as update:
                update.union_by_name(added)

    def note(self, properties: dict[str, str]) -> None:
        """Set properties of the table, in a commit with an empty snapshot.

        Only snapshots conflict with the commits of others.
        """
        with self._changed() as change:
            change.append(self._columns().empty_table(), snapshot_properties=properties)
            change.set_properties(properties)

    @contextmanager
    def gathered(
        self, frame: DataFrame, target: TableTarget, batch: Batch
    ) -> Iterator[pa.Table]:
        """Yield the rows of a batch, whose keys and nulls are checked."""
        with _arrow.gathered(frame, self._columns(*frame.columns)) as rows:
            if target.how == "upsert" and rows.num_rows:
                _arrow.check_keys(rows, target.where, target.keys, batch.number)
            required = [field.name for field in rows.schema if not field.nullable]
            _arrow.check_required(rows, target.where, required, batch.number)
            yield rows

    def commit(self, rows: pa.Table, target: TableTarget, batch: Batch) -> None:
        """Write the rows of a batch in one commit, even if there are none."""
        is_far = any(_arrow.beyond_python(column) for column in rows.columns)
        try:
            self._commit(rows, target, batch, statistics=not is_far)
        except _FarError:
            if is_far:
                raise
            # The rows that are written again beside those of the batch have such a
            # value.
            self._commit(rows, target, batch, statistics=False)

    def _commit(
        self, rows: pa.Table, target: TableTarget, batch: Batch, *, statistics: bool
    ) -> None:
        marks = self.marks(batch.query, batch.number)
        self._set_for_one_commit(batch.query, statistics=statistics)
        with self._changed() as change:
            written = _cleared(change, self._table, rows, target)
            _check_nulls(written, target, batch)
            change.append(written, snapshot_properties=marks)
            change.set_properties(marks | {f"{_PLAN}{batch.query}": metadata(batch)})
            expired = self._old()
            if expired:
                ExpireSnapshots(change).by_ids(expired).commit()

    def _set_for_one_commit(self, query: str, *, statistics: bool) -> None:
        """Set properties of the table for the next commit alone: nothing writes them.

        Args:
            query: the id of the query that commits.
            statistics: whether files get the least and greatest value of a column.
        """
        before = int(self._table.properties.get(f"{_AFTER}{query}", 0))
        merges = self._table.last_sequence_number // _EVERY > before // _EVERY
        properties = self._table.metadata.properties
        for name, value in _MERGING.items():
            properties.setdefault(name, value)
        properties["commit.manifest-merge.enabled"] = str(merges)
        if not statistics:
            for name in list(properties):
                if name.startswith(_METRICS):
                    del properties[name]
            # Pyiceberg fails on the least and greatest of such a column
            properties[f"{_METRICS}default"] = "counts"

    def marks(self, query: str, batch: int) -> dict[str, str]:
        """Return the properties that tell which batch of a query is the last.

        The next commit notes them in its summaries and in the table's properties.
        """
        return {
            f"{_BATCH}{query}": str(batch),
            f"{_AFTER}{query}": str(self._table.last_sequence_number),
        }

    def _columns(self, *names: str) -> pa.Schema:
        """Return the Arrow types of columns in the given order; without names, of all."""
        schema = schema_to_pyarrow(self._table.schema(), include_field_ids=False)
        return pa.schema([schema.field(name) for name in names or schema.names])

    def _old(self) -> list[int]:
        """Return old snapshots: not the newest, and no heads of branches or tags."""
        heads = {ref.snapshot_id for ref in self._table.refs().values()}
        snapshots = sorted(
            self._table.snapshots(), key=lambda snapshot: snapshot.timestamp_ms
        )
        ids = [snapshot.snapshot_id for snapshot in snapshots[: -self._keep]]
        return [snapshot for snapshot in ids if snapshot not in heads]

    def set_back_command(self, query: str, batch: int) -> str:
        """Return a command that makes `batch` the query's last batch.

        It calls the function `set_back`.
        """
        return command(set_back, self._name, query, batch, self._given)


def set_back(name: str, query: str, batch: int, catalog: str | dict[str, str]) -> None:
    """Reset a query's last batch in an Iceberg table, to write the later ones again.

    Messages of `sinks.iceberg` print a command that calls this function. The rows of
    the later batches stay in the table: remove them first, unless the query overwrites
    them.

    Args:
        name: the table, with its namespace.
        query: the query's id, as in the summaries of the table's snapshots.
        batch: the number of the batch that becomes the last one.
        catalog: the folder or the properties of its catalog; messages show a password
            in it as `***`.

    Raises:
        InvalidInputError: there is no such table.
        ConflictError: another writer has just committed.
    """
    table = IcebergTable(name, catalog, 1)
    if table.schema() is None:
        raise InvalidInputError(
            f"there is no Iceberg table {name}; give the name of one"
        )
    table.note(table.marks(query, batch))


def _cleared(
    change: Transaction, table: Table, rows: pa.Table, target: TableTarget
) -> pa.Table:
    """Delete the rows that a batch replaces or touches, and return those to write.

    These are the batch's rows and, for `upsert`, the others that have been deleted with
    those that it has: all whose keys are between the least and the greatest of the
    batch. Such a filter is quick whatever the number of keys.
    """
    if target.how == "append":
        return rows
    if target.how == "upsert" and not rows.num_rows:
        return rows
    touched = _range(rows, target.keys)
    if not any(True for _ in table.scan(touched).plan_files()):
        return rows  # pyiceberg would warn that it has nothing to delete
    if target.how == "upsert":
        deleted = table.scan(touched).to_arrow()
        if not deleted.num_rows:
            # A file has such keys between its least and its greatest, but none of them
            return rows
        others = _others(deleted, rows, list(target.keys))
        rows = pa.concat_tables([others, rows], promote_options="permissive")
    change.delete(touched)
    return rows


def _check_nulls(rows: pa.Table, target: TableTarget, batch: Batch) -> None:
    """Refuse rows with a NULL array or map of structs, of which pyiceberg makes an empty one."""
    for name in rows.column_names:
        if any(_loses_null(part) for part in rows[name].chunks):
            raise InvalidInputError(
                f"batch {batch.number} for {target.where}: column {name} has a NULL"
                " array or map of structs, which pyiceberg writes as an empty one;"
                f" fill it with F.coalesce, or write F.to_json('{name}')"
            )


def _loses_null(values: pa.Array) -> bool:
    """Return whether pyiceberg would write a NULL of these values, or in them, as an empty one."""
    kind = values.type
    if pa.types.is_struct(kind):
        structs = values.filter(values.is_valid())
        fields = range(kind.num_fields)
        return any(_loses_null(structs.field(number)) for number in fields)
    if pa.types.is_map(kind) and pa.types.is_struct(kind.item_type):
        return values.null_count > 0 or _loses_null(values.items)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if is_list and pa.types.is_struct(kind.value_type):
        return values.null_count > 0 or _loses_null(values.flatten())
    return False  # of other types pyiceberg keeps each NULL


def _range(rows: pa.Table, keys: tuple[str, ...]) -> BooleanExpression:
    """Return what is true of rows with keys from a batch's least to its greatest.

    Without keys that is true of every row.
    """
    within: BooleanExpression = AlwaysTrue()
    for key in keys:
        values = rows[key]
        kind = values.type
        # NaN is between no two numbers
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            continue
        # As numbers, as Python's dates and times end with the year 9999
        if pa.types.is_date(kind):
            values = values.cast(pa.int32())
        elif pa.types.is_timestamp(kind):
            values = values.cast(pa.int64())
        ends = pc.min_max(values).as_py()
        term = Reference(key)
        least = GreaterThanOrEqual(term=term, value=literal(ends["min"]))
        greatest = LessThanOrEqual(term=term, value=literal(ends["max"]))
        within = And(within, least, greatest)
    return within


def _others(existing: pa.Table, rows: pa.Table, keys: list[str]) -> pa.Table:
    """Return the rows of a table whose keys are not those of a row of the batch.

    The join is of the keys alone, with the rows' numbers in a column without a name:
    pyarrow joins no rows with nested values.
    """
    numbers = pa.array(range(existing.num_rows))
    numbered = _arrow.as_keys(existing, keys).append_column("", numbers)
    batch_keys = _arrow.as_keys(rows, keys).cast(existing.select(keys).schema)
    others = numbered.join(batch_keys, keys, join_type="left anti")
    return existing.take(others[""])
