"""A Delta table in a local folder, written with delta-rs instead of Delta's jars.

The library writes from the driver's Python.

`RustTable` implements `_tables.Table`; `sinks.delta` chooses it for a session without
Delta's extension. Only this module imports the library (`deltalake`), so it is needed
only when such a sink is opened.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import holds, quoted
from sparkstream_kit.connectors import _arrow
from sparkstream_kit.connectors._tables import (
    DELTA,
    ConflictError,
    TableTarget,
    command,
    metadata,
    nullable,
)
from sparkstream_kit.connectors.delta.writers import (
    HISTORY,
    NOT_IN_PARTITIONS,
    application,
    is_text,
    no_table,
    not_in_partitions,
    set_back,
)
from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.sinks.ledger import Batch


_LOG = "_delta_log"
# Seconds to wait for another query's first commit; after them its process is taken for
# dead
_MAKING = 5.0
_PAUSE = 0.02  # seconds between two looks for it
# The types of which delta-rs makes no partitions that can be read again
_NO_PARTITIONS = (T.BinaryType, T.DecimalType, T.DoubleType, T.FloatType)
_COLOURS = re.compile(r"\x1b\[[\d;]*m")  # "\x1b[31m"
# A line of Rust's stack: "   0: deltalake::write", and then "      at src/lib.rs:7"
_FRAME = re.compile(r"\s*(\d+: |at )")


class RustTable:
    """A Delta table in a local folder; see `_tables.Table` for the methods."""

    format = DELTA

    def __init__(self, folder: str) -> None:
        self.place = folder
        self._known: DeltaTable | None = None
        # Of the file of the newest commit that is known
        self._newest: tuple[int, int] | None = None

    def set_back_command(self, query: str, batch: int) -> str:
        """Return a command that makes `batch` the query's last batch."""
        return command(set_back, self.place, query, batch)

    def _now(self) -> DeltaTable | None:
        """Return the newest version of the table; None if there is no table.

        It has the commits of others, too.
        """
        # delta-rs fails on a file
        if not Path(self.place).is_dir() or not DeltaTable.is_deltatable(self.place):
            self._known = None
        elif self._known is None or self._stat() != self._newest:
            # delta-rs adds the commits of a table that was made again to what it knows
            # of the former one.
            with _in_one_line(self.place):
                self._known = DeltaTable(self.place)
        else:
            self._known.update_incremental()
        self._newest = self._stat()
        return self._known

    def _stat(self) -> tuple[int, int] | None:
        """Return what tells the file of the newest known commit from another one of its name."""
        if self._known is None:
            return None
        with suppress(FileNotFoundError):
            name = f"{self._known.version():020}.json"
            status = Path(self.place, _LOG, name).stat()
            return status.st_ino, status.st_mtime_ns
        return None

    def schema(self) -> T.StructType | None:
        """Return the table's columns in its newest version; None if there is no table.

        Raises:
            InvalidInputError: there is no table, but the folder has other files, or is
                a file.
        """
        table = self._now() or self._being_made()
        if table is None:
            self._check_folder()
            return None
        settings = table.metadata().configuration
        if settings.get("delta.columnMapping.mode", "none") != "none":
            raise InvalidInputError(
                f"Delta table {self.place} has column mapping, with which delta-rs"
                " cannot add rows; use Delta's writer for Spark: get_session(…,"
                " connectors=['delta'])"
            )
        columns = T.StructType.fromJson(json.loads(table.schema().to_json()))
        self._check_partitions(columns, table.metadata().partition_columns)
        return columns

    def _check_folder(self) -> None:
        """Refuse a file, and a folder with more than the log of a table."""
        folder = Path(self.place)
        is_file = folder.is_file() or (folder / _LOG).is_file()
        if is_file or any(path.name != _LOG for path in folder.glob("*")):
            raise no_table(self.place)

    def _being_made(self) -> DeltaTable | None:
        """Wait for the first commit of a table that another query is creating.

        The folder of its log exists before that commit.

        Returns:
            The table; None if there is no log folder, or if no commit has followed
            after `_MAKING` seconds.
        """
        end = time.monotonic() + _MAKING
        while Path(self.place, _LOG).is_dir() and time.monotonic() < end:
            table = self._now()
            if table is not None:
                return table
            time.sleep(_PAUSE)
        return None

    def _check_partitions(self, columns: T.StructType, names: list[str]) -> None:
        """Refuse partitions by types that delta-rs writes into the log unreadably."""
        for name in names:
            kind = columns[name].dataType
            if isinstance(kind, _NO_PARTITIONS):
                raise InvalidInputError(
                    f"Delta table {self.place} is partitioned by {name}, a"
                    f" {kind.simpleString()}, of which delta-rs makes no partitions"
                    " that can be read again; use Delta's writer for Spark:"
                    " get_session(…, connectors=['delta'])"
                )

    def properties(self) -> dict[str, str]:
        """Return the table's properties, in the version that `schema` has found."""
        return dict(self._loaded().metadata().configuration)

    def identity(self) -> str:
        """Return the id in the table's metadata."""
        return str(self._loaded().metadata().id)

    def last_batch(self, query: str) -> int | None:
        """Return a query's last batch, by any writer; None before the first."""
        if self._known is None:
            return None
        return self._known.transaction_version(application(query))

    def history(self) -> list[str | None]:
        """Return the `userMetadata` of up to `HISTORY` newest commits, newest first."""
        if self._known is None:
            return []
        commits = self._known.history(HISTORY)
        return [commit.get("userMetadata") for commit in commits]

    def has_rows(self) -> bool:
        """Return whether the table has rows."""
        return self._known is not None and bool(self._known.count())

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return all rows of the table's newest version; they pass through the driver's memory.

        Raises:
            InvalidInputError: a column is a VARIANT, of which delta-rs makes a struct
                of bytes.
        """
        for field in (self.schema() or T.StructType()).fields:
            if holds(field.dataType, T.VariantType):
                raise InvalidInputError(
                    f"Delta table {self.place}: delta-rs cannot read column"
                    f" {field.name} back, a VARIANT; use Delta's writer for Spark:"
                    " get_session(…, connectors=['delta'])"
                )
        return spark.createDataFrame(self._loaded().to_pyarrow_table(), self.schema())

    def create(self, schema: T.StructType) -> None:
        """Create the table, unless another driver has just created it.

        delta-rs would overwrite a table that is being created at the same time. So the
        driver that creates the log folder creates the table, and the other one waits.

        Raises:
            InvalidInputError: the folder cannot be made.
        """
        with _in_one_line(self.place):
            try:
                Path(self.place, _LOG).mkdir(parents=True)
            except FileExistsError:
                if self._being_made() is not None:
                    return
            except OSError as err:
                raise InvalidInputError(
                    f"Delta table {self.place} cannot be made ({err.strerror}); give"
                    " another folder"
                ) from err
            DeltaTable.create(
                self.place, Schema.from_json(nullable(schema).json()), mode="ignore"
            )

    def add_columns(self, columns: list[T.StructField]) -> None:
        """Add nullable columns to the table."""
        added = Schema.from_json(nullable(T.StructType(columns)).json()).fields
        with _in_one_line(self.place):
            self._loaded().alter.add_columns(added)

    def note(self, properties: dict[str, str]) -> None:
        """Set properties of the table, in a commit."""
        with _in_one_line(self.place):
            self._loaded().alter.set_table_properties(
                properties, raise_if_not_exists=False
            )

    @contextmanager
    def gathered(
        self, frame: DataFrame, target: TableTarget, batch: Batch
    ) -> Iterator[pa.Table]:
        """Yield the rows of a batch, whose keys and nulls are checked."""
        table = self._loaded()
        required = [field.name for field in table.schema().fields if not field.nullable]
        partitions = table.metadata().partition_columns
        texts = [name for name in partitions if is_text(frame.schema, name)]
        schema = Schema.from_json(nullable(frame.schema).json())
        with _arrow.gathered(frame, pa.schema(schema)) as rows:
            if target.how == "upsert" and rows.num_rows:
                _arrow.check_keys(rows, target.where, target.keys, batch.number)
            _arrow.check_required(rows, target.where, required, batch.number)
            for name in texts:
                of_no_partition = pa.array(NOT_IN_PARTITIONS, rows[name].type)
                if pc.any(pc.is_in(rows[name], of_no_partition)).as_py():
                    raise InvalidInputError(
                        f"batch {batch.number}: {not_in_partitions(target.where, name)}"
                    )
            yield rows

    def commit(self, rows: pa.Table, target: TableTarget, batch: Batch) -> None:
        """Write the rows of a batch in one commit, even if there are none.

        Raises:
            ConflictError: another writer has committed at the same moment.
            KitError: delta-rs reported an error, or the table was removed.
        """
        table = self._loaded()
        writing = _without_statistics(self._far(rows))
        properties = CommitProperties(
            custom_metadata={"userMetadata": metadata(batch)},
            app_transactions=[Transaction(application(batch.query), batch.number)],
        )
        with _in_one_line(self.place, _rules(table)):
            if target.how == "upsert" and rows.num_rows:
                _merge(table, rows, target, properties, writing)
            elif target.how == "replace" or rows.num_rows:
                mode: Literal["append", "overwrite"] = "append"
                if target.how == "replace":
                    mode = "overwrite"
                # schema_mode="merge" matches columns by name; those that only the table
                # has become null.
                write_deltalake(
                    table,
                    rows,
                    mode=mode,
                    schema_mode="merge",
                    commit_properties=properties,
                    writer_properties=writing,
                )
            else:
                # Without this commit, the ledger would find a gap before the next
                # batch.
                table.create_write_transaction(
                    [], "append", table.schema(), commit_properties=properties
                )

    def _far(self, rows: pa.Table) -> list[str]:
        """Return the columns with years beyond 9999, also in rows that a merge moves.

        They are noted in the table when they get the first such value.
        """
        known = self.properties().get(_FAR, "").split()
        others = [name for name in rows.column_names if name not in known]
        new = [name for name in others if _arrow.beyond_python(rows[name])]
        if new:
            self.note({_FAR: " ".join([*known, *new])})
        return [*known, *new]

    def _loaded(self) -> DeltaTable:
        table = self._known or self._now()
        if table is None:
            raise KitError(
                f"the Delta table {self.place} was removed while a query writes to it"
            )
        return table


# The table's property with the columns of which there are no statistics
_FAR = "sparkstream.far"


def _without_statistics(names: list[str]) -> WriterProperties:
    """Leave columns out of a file's statistics, in which readers cannot read a year beyond 9999."""
    none = ColumnProperties(statistics_enabled="NONE")
    return WriterProperties(column_properties=dict.fromkeys(names, none))


def _merge(
    table: DeltaTable,
    rows: pa.Table,
    target: TableTarget,
    properties: CommitProperties,
    writing: WriterProperties,
) -> None:
    """Insert the rows of a batch, or overwrite those with the same keys, in one commit."""
    conditions = [f"target.{quoted(key)} = source.{quoted(key)}" for key in target.keys]
    # Each column by itself, because delta-rs's `when_matched_update_all` fails on names
    # with a backtick.
    columns = {quoted(name): f"source.{quoted(name)}" for name in rows.column_names}
    merge = table.merge(
        rows,
        " AND ".join(conditions),
        source_alias="source",
        target_alias="target",
        commit_properties=properties,
        writer_properties=writing,
    )
    merge.when_matched_update(columns).when_not_matched_insert(columns).execute()


def _rules(table: DeltaTable) -> str:
    """Return the constraints of a table as a text, for messages."""
    prefix = "delta.constraints."
    rules = []
    for name, rule in table.metadata().configuration.items():
        if name.startswith(prefix):
            rules.append(f"{name.removeprefix(prefix)}: {rule}")
    return ", ".join(rules)


@contextmanager
def _in_one_line(folder: str, rules: str = "") -> Iterator[None]:
    """Turn an error of delta-rs into one of the kit's, within a `with` block.

    Args:
        folder: the table's folder, for the message.
        rules: the table's constraints, for the error of a row that breaks one.
    """
    try:
        yield
    except (DeltaError, OSError) as err:
        line = _one_line(str(err))
        if rules and "failed validation check" in line:
            row = line.partition("data found: ")[2]
            line = f"a row breaks a rule of the table ({rules}); {row}"
        kind = ConflictError if isinstance(err, CommitFailedError) else KitError
        raise kind(f"Delta table {folder}: {line}") from err


def _one_line(error: str) -> str:
    r"""Return an error of delta-rs without colours, and without the frames of Rust's stack.

    Examples:
        >>> _one_line("\x1b[31mGeneric error\x1b[0m\n   0: deltalake::write\n      at src/lib.rs:7")
        'Generic error'
    """
    lines = _COLOURS.sub("", error).splitlines()
    words = [line for line in lines if not _FRAME.match(line)]
    return " ".join(" ".join(words).split())
