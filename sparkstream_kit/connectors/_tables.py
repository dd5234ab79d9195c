"""What sinks with a ledger share: ledgers of entries, and the rules of table formats.

`Entries` is a ledger that keeps an entry for each query, as those of Kafka, MongoDB and
SQL do.

A table of Delta Lake or Iceberg is its own ledger. A commit of such a table holds a
batch's rows together with its number and plan, and the table's properties hold the
owners and epochs. `Table` is what a writer implements: `delta.writers.SparkTable`,
`delta.rust.RustTable` and `iceberg.table.IcebergTable`. `TableTarget` is the `LedgerTarget`
of these sinks; `prepare`, `take` and `is_written` apply the rules of `sinks.ledger` to
a `Table`.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pyspark.sql import types as T

from sparkstream_kit._internal.columns import types_in
from sparkstream_kit.errors import InvalidInputError, KitError, reject_unknown
from sparkstream_kit.sinks.ledger import Batch, Epoch, Ledger, pass_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.sinks import base


# The table's property with the ids of the queries that may write to it
OWNERS = "sparkstream.queries"
# Plus a query's id: the table's property with that query's newest epoch
EPOCH = "sparkstream.epoch."
EXACT = {  # the types of Spark that every format holds
    "array",
    "binary",
    "boolean",
    "date",
    "decimal",
    "double",
    "float",
    "integer",
    "long",
    "map",
    "string",
    "struct",
    "timestamp",
    "timestamp_ntz",
}
TRIES = 20  # attempts of a commit, if other writers commit at the same moment
# Of a column that the table fills itself
_FILLED = ("delta.generationExpression", "delta.identity.start")

_Done = TypeVar("_Done")


class Entries(Ledger):
    """A ledger that keeps an entry for each query.

    An entry is a dict with `batch` and `plan` of the last batch, and `epoch` and
    `driver` of the newest start; what is missing or None there is not known yet.
    """

    def entries(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the entries for this target as they are now, by the query's id."""
        raise NotImplementedError

    def of(self, query_id: str | None) -> Mapping[str, Any]:
        """Return the entry of a query; an empty one if there is none."""
        return self.entries().get(str(query_id), {})

    def last_batch(self, query_id: str | None) -> int | None:
        return self.of(query_id).get("batch")

    def last_plan(self, query_id: str) -> str | None:
        return self.of(query_id).get("plan")

    def epoch(self, query_id: str) -> Epoch | None:
        entry = self.of(query_id)
        if not entry.get("epoch"):
            return None
        return Epoch(entry["epoch"], entry["driver"])

    def any_query(self) -> tuple[str, int] | None:
        for query, entry in self.entries().items():
            batch = entry.get("batch")
            if batch is not None:
                return query, max(batch, 0)
        return None

    def check_lost(self, query_id: str | None, *, is_there: bool = False) -> None:
        """Refuse a target that lost this query's rows: deleted, made again or emptied.

        A sink whose ledger lies beside the target calls this when the target does not
        exist, or has no rows although this query has written some. If each batch
        replaces the whole result, nothing is lost, and the target may be recreated.

        Args:
            query_id: the query's id.
            is_there: whether the target exists, without rows.

        Raises:
            InvalidInputError: the query has written to the target, and would not write
                those rows again.
        """
        last = self.last_batch(query_id)
        if last is None or last < 0 or self.how == "replace" or self.take_over:
            return
        state = "is gone"
        first = ""
        if is_there:
            state = "is empty"
            first = f"remove the {self.what} and "
        line = (
            f"{self.where} {state}, but this query has written its batches up to {last}"
            f" to it; restore the {self.what}; or, to write all rows again,"
            f" {first}start with another checkpoint folder"
        )
        if self.take_over is not None:
            line += "; or, to go on without its rows, give take_over=True"
        raise InvalidInputError(line)


def gone_error(target: object) -> InvalidInputError:
    """Return the error for a target that is to be read back, but was removed."""
    return InvalidInputError(
        f"{target} is gone, but this query is compared with its rows; restore it"
    )


class ConflictError(KitError):
    """This commit was not made, as another writer has committed just then; retry it."""


class Format(NamedTuple):
    """What a table format can hold.

    Attributes:
        name: its name, for messages.
        types: the names of the types, as `typeName()` of Spark returns them.
        not_in_names: the characters that a column's name may not contain.
    """

    name: str
    types: set[str]
    not_in_names: str = ""


# Parquet's rule for names
DELTA = Format("Delta", {*EXACT, "byte", "short", "variant"}, " ,;{}()\n\t=")
ICEBERG = Format("Iceberg", EXACT)


def metadata(batch: Batch) -> str:
    """Return a batch as JSON, as the table keeps it."""
    return json.dumps({"query": batch.query, "batch": batch.number, "plan": batch.plan})


def nullable(schema: T.StructType) -> T.StructType:
    """Return a schema with every value nullable, because a later query may have nulls."""

    def loosen(part: dict[str, Any]) -> dict[str, Any]:
        for key in ("nullable", "containsNull", "valueContainsNull"):
            if key in part:
                part[key] = True
        return part

    return T.StructType.fromJson(json.loads(schema.json(), object_hook=loosen))


def command(function: Callable[..., None], *arguments: object) -> str:
    """Return the command that calls a function, for messages."""
    name = function.__name__
    shown = ", ".join(repr(argument) for argument in arguments)
    code = f"from {function.__module__} import {name}; {name}({shown})"
    return f"run python -c {shlex.quote(code)}"


class Table(Protocol):
    """A table, as one of the writers accesses it; a commit can raise ConflictError."""

    @property
    def format(self) -> Format:
        """The table's format."""

    def schema(self) -> T.StructType | None:
        """Return the table's columns in its newest version; None if there is no table.

        A column that must have a value in each row is not nullable.

        Raises:
            InvalidInputError: the table is one that this writer cannot write to.
        """

    def properties(self) -> dict[str, str]:
        """Return the table's properties, in the version that `schema` has found or a newer one."""

    def identity(self) -> str:
        """Return the id that the format has given the table that `schema` has found."""

    def last_batch(self, query: str) -> int | None:
        """Return a query's last batch, by any writer; None before the first."""

    def history(self) -> Iterable[str | None]:
        """Return the `metadata` of the newest batches, newest first; None for others.

        A commit that is not a batch has None.
        """

    def has_rows(self) -> bool:
        """Return whether the table has rows."""

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return all rows of the table's newest version."""

    def create(self, schema: T.StructType) -> None:
        """Create the table, unless another driver has just created it."""

    def add_columns(self, columns: list[T.StructField]) -> None:
        """Add nullable columns to the table."""

    def note(self, properties: dict[str, str]) -> None:
        """Set properties of the table, in a commit.

        Raises:
            ConflictError: another writer has set properties or written a batch at the
                same moment.
        """

    def gathered(
        self, frame: DataFrame, target: TableTarget, batch: Batch
    ) -> AbstractContextManager[Any]:
        """Return a context manager with the rows of a batch, in the form that `commit` takes.

        Raises:
            InvalidInputError: for `upsert`, a key is null or occurs in two rows of the
                batch; or a column that must have a value has none.
        """

    def commit(self, rows: Any, target: TableTarget, batch: Batch) -> None:
        """Write a batch, even one without rows, with its number and plan in one commit.

        Raises:
            ConflictError: another writer has committed at the same moment.
        """

    def set_back_command(self, query: str, batch: int) -> str:
        """Return a command that makes `batch` the query's last batch; see `command`."""


class _TableLedger(Ledger):
    """The ledger as one query sees it; the table itself holds the entries.

    Args:
        target: what the user asked for.
        table: the table.
        me: the query's id; None before its first start.
    """

    def __init__(self, target: TableTarget, table: Table, me: str | None) -> None:
        super().__init__(target.where, target.how, target.take_over)
        self._table = table
        self._me = me
        # Both are read once, because each read looks at the table's log.
        self.columns = table.schema()
        self.properties: dict[str, str] = {}
        if self.columns is not None:
            self.properties = table.properties()

    @property
    def owners(self) -> list[str]:
        """The ids of the queries that may write to the table."""
        return self.properties.get(OWNERS, "").split()

    def epoch(self, query_id: str) -> Epoch | None:
        epoch = self.properties.get(f"{EPOCH}{query_id}")  # "3 DRIVER"
        if not epoch:
            return None
        number, _, driver = epoch.partition(" ")
        return Epoch(int(number), driver)

    def last_batch(self, query_id: str | None) -> int | None:
        # A query that is no longer an owner has lost its rows to one that took the
        # table over: treat it as one that has never written here.
        if query_id not in self.owners:
            return None
        return self._table.last_batch(str(query_id))

    def last_plan(self, query_id: str) -> str | None:
        last = self.last_batch(query_id)
        for text in self._table.history():
            # The commit of another program
            with suppress(ValueError, TypeError, LookupError):
                noted = json.loads(text or "")
                if noted["query"] == query_id and noted["batch"] == last:
                    return None if noted["plan"] is None else str(noted["plan"])
        return None

    def any_query(self) -> tuple[str, int] | None:
        if self._me in self.owners:
            return None
        for other in self.owners:
            last = self._table.last_batch(other)
            if last is not None:
                return other, last
        return None

    def has_rows(self) -> bool:
        return self._me not in self.owners and self._table.has_rows()

    def set_back_command(self, query_id: str, batch_id: int) -> str:
        return self._table.set_back_command(query_id, batch_id)


@dataclass
class TableTarget:
    """What the user asked for, and where the batches of one query go; a `LedgerTarget`.

    On Spark Connect it is pickled before the first batch.

    Attributes:
        where: the table.
        how: `append`, `upsert` or `replace`.
        keys: the columns that identify a row, for `upsert`; empty otherwise.
        merge_schema: whether to add columns that the table lacks.
        take_over: whether to write although another query has written to the table, or
            earlier batches are missing.
        open_table: returns the table, as one of the writers accesses it.
        table: the table, opened with the first batch, after the pickling.
    """

    where: base.Target
    how: str
    keys: tuple[str, ...]
    merge_schema: bool
    take_over: bool
    open_table: Callable[[SparkSession], Table]
    table: Table | None = None

    def prepare(
        self, frame: DataFrame, query: str | None, next_batch: Batch | None, makes: bool
    ) -> str | None:
        """Create the table if it is missing, and check that the query may write to it.

        Raises:
            InvalidInputError: as for the function `prepare`.
            MissingExtraError: the query needs a library that is not installed.
        """
        return prepare(
            self,
            self.open_table(frame.sparkSession),
            frame.schema,
            query,
            next_batch,
            makes,
        )

    def take(self, query: str, driver: str, frame: DataFrame) -> None:
        """Give the query its next epoch in the table."""
        tried(lambda: take(self, self.open_table(frame.sparkSession), query, driver))

    def write(self, batch: Batch, frame: DataFrame) -> None:
        """Write a batch of the query, or skip it if the table already has it."""
        if self.table is None:
            self.table = self.open_table(frame.sparkSession)
        table = self.table
        schema = frame.schema
        if tried(lambda: is_written(self, table, schema, batch)):
            pass_over(frame, batch, self.where)
            return
        with table.gathered(frame, self, batch) as rows:
            with suppress(ConflictError):
                table.commit(rows, self, batch)
                return
            # Others commit while a batch is computed. From now on little time passes
            # between look and commit.
            tried(lambda: self._again(table, schema, batch, rows))

    def identity(self, spark: SparkSession) -> str:
        """Return what the table is known by, whatever its path and catalog are called."""
        table = self.open_table(spark)
        if table.schema() is None:
            return str(self.where)
        return table.identity()

    def rows(self, spark: SparkSession, *_: object) -> DataFrame:
        """Return all rows of the table, for `Sink.read`.

        Raises:
            InvalidInputError: there is no table.
        """
        table = self.open_table(spark)
        if table.schema() is None:
            raise gone_error(self.where)
        return table.rows(spark)

    def _again(
        self, table: Table, schema: T.StructType, batch: Batch, rows: Any
    ) -> None:
        """Write a batch, unless the table has it since another writer was quicker."""
        if not is_written(self, table, schema, batch):
            table.commit(rows, self, batch)


def tried(change: Callable[[], _Done]) -> _Done:
    """Run a change of a table, and retry it if another writer has committed at the same moment.

    Raises:
        ConflictError: the change has failed so `TRIES` times.
    """
    for _ in range(TRIES - 1):
        with suppress(ConflictError):
            return change()
    return change()


def take(target: TableTarget, table: Table, query: str, driver: str) -> None:
    """Give a query its next epoch, so that no older driver can go on.

    A batch of an older driver is then refused, or raises ConflictError.
    """
    last = _TableLedger(target, table, query).epoch(query)
    number = last.number + 1 if last else 1
    table.note({f"{EPOCH}{query}": f"{number} {driver}"})


def prepare(
    target: TableTarget,
    table: Table,
    schema: T.StructType,
    query: str | None,
    next_batch: Batch | None = None,
    makes: bool = True,
) -> str | None:
    """Create the table if it is missing, and check that this query may write to it.

    Args:
        target: what the user asked for.
        table: the table.
        schema: the schema of the query's rows.
        query: the query's id; None if it was never started before.
        next_batch: the query's next batch; None to look up no plan.
        makes: create the table and columns that are missing; if False, as in a dry run,
            only check.

    Returns:
        The plan of the next batch, if the table already has that batch; else None.

    Raises:
        InvalidInputError: the format cannot hold a column, the table has other columns
            or rows that this query did not write, or the table was removed at the same
            moment.
    """
    _check_schema(target, table.format, schema)
    ledger = _TableLedger(target, table, query)
    if ledger.columns is None:
        ledger.plan_of(next_batch)  # refused before a table is made
        if not makes:
            return None
        # Without rows: if two queries created it with rows, one would fail
        table.create(schema)
        ledger = _TableLedger(target, table, query)
    if ledger.columns is None:
        raise InvalidInputError(
            f"{target.where} was removed while a query started to write to it"
        )
    ledger.check_owner(query)
    if target.how != "append" and ledger.properties.get("delta.appendOnly") == "true":
        raise InvalidInputError(
            f"{target.where} takes appends alone (delta.appendOnly), and"
            f" how={target.how!r} changes rows; write to another table, or set that"
            " property of the table to false"
        )
    added = _check_columns(target, schema, ledger.columns)
    if added and makes:
        table.add_columns(added)
    return ledger.plan_of(next_batch)


def is_written(
    target: TableTarget, table: Table, schema: T.StructType, batch: Batch
) -> bool:
    """Return whether the table already has a batch; refuse a batch that may not be written.

    Before a query's first batch, this function creates the table if it is missing, and
    makes the query its owner.

    Raises:
        InvalidInputError: the ledger's rules refuse the batch, or as for `prepare`.
    """
    query = batch.query
    ledger = _TableLedger(target, table, query)
    if query in ledger.owners:
        if ledger.is_written(batch):
            return True
        # Others may have changed the columns since the query was started.
        added = []
        if ledger.columns is not None:
            added = _check_columns(target, schema, ledger.columns)
        if added:
            table.add_columns(added)
            # The table has another version now
            return is_written(target, table, schema, batch)
        return False
    ledger.is_written(batch)  # refused before a table is made
    prepare(target, table, schema, query)
    ledger = _TableLedger(target, table, query)
    # Another driver may have written since the first look
    is_written_now = ledger.is_written(batch)
    owners = [query]
    if target.how != "replace":  # which deletes the rows of others
        owners = [*ledger.owners, query]
    epoch = ledger.epoch(query) or Epoch(1, batch.driver)
    table.note(
        {
            OWNERS: " ".join(owners),
            f"{EPOCH}{query}": f"{epoch.number} {epoch.driver}",
        }
    )
    return is_written_now


def _check_schema(target: TableTarget, form: Format, schema: T.StructType) -> None:
    """Refuse keys that are no columns, and names and types that the format cannot hold."""
    reject_unknown("key", target.keys, schema.names)
    for kind in types_in(schema):
        if isinstance(kind, T.StructType):
            _check_case(form, kind.names)
    for field in schema.fields:
        not_allowed = [char for char in field.name if char in form.not_in_names]
        if not_allowed:
            fix = "rename it, as in F.count('*').alias('orders')"
            raise InvalidInputError(
                f"column {field.name}: {form.name} allows no {not_allowed[0]!r} in a name;"
                f" {fix}"
            )
        for kind in types_in(field.dataType):
            if kind.typeName() not in form.types:
                raise InvalidInputError(
                    f"column {field.name} has the type {kind.simpleString()}, which "
                    f"{form.name} cannot hold; cast it, or leave it out"
                )


def _check_case(form: Format, names: list[str]) -> None:
    """Refuse names that differ only in their case, which readers of the format take for one."""
    by_lower_name: dict[str, str] = {}
    for name in names:
        other = by_lower_name.setdefault(name.lower(), name)
        if other != name:
            raise InvalidInputError(
                f"{form.name} cannot tell the names {other} and {name} apart; rename"
                " one of them"
            )


def _check_columns(
    target: TableTarget, schema: T.StructType, existing: T.StructType
) -> list[T.StructField]:
    """Compare the query's columns with the table's, and return the columns to add to the table.

    Args:
        target: what the user asked for.
        schema: the schema of the query's rows.
        existing: the table's schema.

    Raises:
        InvalidInputError: a column has another type or another case in the table, or
            the table lacks it and `merge_schema` is False; or the query lacks a column
            that must have a value.
    """
    in_any_case = {field.name.lower(): field for field in existing.fields}
    by_name = {field.name: field for field in existing.fields}
    missing = []
    for field in schema.fields:
        existing_field = by_name.get(field.name) or in_any_case.get(field.name.lower())
        if existing_field is None:
            missing.append(field)
        elif existing_field.name != field.name:
            raise InvalidInputError(
                f"column {field.name} is called {existing_field.name} in {target.where};"
                " rename it"
            )
        elif existing_field.dataType.simpleString() != field.dataType.simpleString():
            raise InvalidInputError(
                f"column {field.name} is {field.dataType.simpleString()}, and"
                f" {existing_field.dataType.simpleString()} in {target.where}; cast it, or"
                " write to another table"
            )
    if missing and not target.merge_schema:
        names = ", ".join(field.name for field in missing)
        raise InvalidInputError(
            f"{target.where} has no column {names}; give merge_schema=True to add it,"
            " or leave it out"
        )
    required = [field.name for field in existing.fields if _is_required(field)]
    unfilled = [name for name in required if name not in schema.names]
    if unfilled:
        raise InvalidInputError(
            f"{target.where} requires a value of {', '.join(unfilled)} in each row, and"
            " the query has no such column; add it to the query, or let the table have"
            " null there"
        )
    return missing


def _is_required(field: T.StructField) -> bool:
    """Return whether a query must write a column: it has no nulls, and is not filled by itself."""
    return not field.nullable and not any(name in field.metadata for name in _FILLED)
