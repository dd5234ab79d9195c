"""Start and run: tables of the catalog: `table`.

A table that is there already decides its format, its columns, its partitions and the
options of its readers: `_Table` asks for them, and writes what they read. Spark keeps
no option with a table that it makes for a stream.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import quoted
from sparkstream_kit._internal.spark.place import (
    locate,
    reached,
    refuse_many_disks,
    session_of_writer,
)
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.sinks import folders
from sparkstream_kit.sinks.base import Form, Sink, SparkSink, Target
from sparkstream_kit.sinks.builtin import AFTER_REWIND
from sparkstream_kit.sinks.file_columns import data_columns
from sparkstream_kit.sinks.formats import NAMES, Format, of, plain_name
from sparkstream_kit.sinks.readback import keep_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter
    from pyspark.sql.types import StructType

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Heard


# The options that a reader needs, too.
_OF_READERS = (
    "charset",
    "chartoescapequoteescaping",
    "comment",
    "dateformat",
    "delimiter",
    "encoding",
    "escape",
    "header",
    "linesep",
    "locale",
    "multiline",
    "nullvalue",
    "quote",
    "sep",
    "timestampformat",
    "timestampntzformat",
    "timezone",
)
# EmptyValue is another thing for a reader
_NOT_OF_WRITERS = ("emptyvalue", "path", "serialization.format")
# Options with which Spark reads other rows from a table than were written to it, and
# the value that does not.
_READ_OTHERWISE = {
    "csv": {
        "emptyvalue": "",
        "locale": "en-us",
        "maxcharspercolumn": "-1",
        "maxcolumns": "20480",
    },
    "json": {"multiline": "false"},
    "text": {"wholetext": "false"},
}

_LIMITED = re.compile(r"\b(var)?char\(")  # a type as DESCRIBE shows it


def table(
    name: str,
    *,
    format: str = "parquet",  # noqa: A002 - Spark's own word
    partition_by: Sequence[str] = (),
    **options: Any,
) -> Sink:
    """Append rows to a table of the catalog, which is created if it is missing.

    Without `start`: `sinks.table("t")(df.writeStream).toTable("t")`.

    Delivery: for Spark's file formats, exactly once from replayable sources for readers
    that use Spark; for other formats, what the format promises.

    A table that is there already decides its format, its options and its partitions. A
    value that the format would change fails its batch, as docs/files.md lists. Only
    `start` checks values and columns: without it Spark writes what it can.

    A table in a file format belongs to one query and one checkpoint, as the folder of
    `sinks.files` does: once a query writes to the table, Spark no longer shows the rows
    that it had before.

    Args:
        name: the table, as `table` or `schema.table`.
        format: the format of a new table: `csv`, `json`, `orc`, `parquet`, `text`, or
            another one that the session has.
        partition_by: the columns by which a new table is partitioned.
        **options: further options of the format, by its own names. Those that a reader
            needs, such as `sep`, belong to the table: create it with them before the
            query starts.

    Raises:
        InvalidInputError: the name is empty; when the query starts, the table has other
            columns, the format cannot hold a column, a new table would be read without
            an option, a table in a file format has rows that this query has not written
            or batches that do not match the checkpoint, or Spark does not know the
            format.

    Examples:
        In a session::

            start(sales, sinks.table("all_sales"), name="sales", checkpoint="ckpt")
    """
    check(table, locals())
    if not name.strip():
        raise InvalidInputError(
            "sinks.table(): the name is empty; give a table, as table or schema.table"
        )

    own = _Table(name, of(table, format, options), tuple(partition_by))
    sink = SparkSink(
        kind="table",
        modes=("append", "complete"),
        promise=f"that of {format}",
        after_rewind=f"does what {format} does",
        needs_checkpoint=True,
        advice="use append, or sinks.snapshot for a complete result",
        to_table=name,
        writes_to=(Target("table", name),),
        configure=own.configure,
        check=own.check,
        checked=own.checked,
        claim=own.claim,
        read=lambda spark, _schema, _location: spark.table(name),
    )
    if own.form.kind not in NAMES:
        return sink
    return replace(
        sink,
        modes=("append",),
        promise="exactly once, read through Spark",
        after_rewind=AFTER_REWIND,
        form=Form(own.as_written, "csv"),
    )


class _Stored(NamedTuple):
    """A table of the catalog in one of Spark's file formats.

    Attributes:
        provider: the format, as the table's creator spelled it.
        folder: where its files are.
        columns: its columns.
        limited: those of CHAR or VARCHAR, alone or inside.
        partitions: the columns that become names of folders.
        options: the options with which Spark reads it.
    """

    provider: str
    folder: str
    columns: StructType
    limited: list[str]
    partitions: list[str]
    options: dict[str, str]


@dataclass(frozen=True)
class _Table:
    """A table as the caller named it.

    Attributes:
        name: the table.
        form: the format and the options that the caller gave.
        partition_by: the columns by which the caller partitions it.
    """

    name: str
    form: Format
    partition_by: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"table {self.name}"

    def _stored(self, spark: SparkSession) -> _Stored | None:
        """Return the table; None if there is none yet, or if it is in no file format of Spark's."""
        if self.form.kind not in NAMES or not spark.catalog.tableExists(self.name):
            return None
        rows = spark.sql(f"DESCRIBE TABLE EXTENDED {self.name}").collect()
        described = {row.col_name: row.data_type for row in rows}
        if plain_name(str(described.get("Provider"))) not in NAMES:
            return None
        [row] = spark.sql(f"DESCRIBE TABLE EXTENDED {self.name} AS JSON").collect()
        description = json.loads(row[0])
        columns = spark.table(self.name).schema
        return _Stored(
            provider=description["provider"],
            folder=description["location"],
            columns=columns,
            # Not in the schema, where they are STRING
            limited=[
                row.col_name
                for row in rows[: len(columns)]
                if _LIMITED.search(row.data_type)
            ],
            partitions=description.get("partition_columns", []),
            options=description.get("storage_properties", {}),
        )

    def _written(self, there: _Stored | None) -> tuple[Format, Sequence[str]]:
        """Return the format to write in, and the columns that become names of folders.

        Raises:
            InvalidInputError: the table is of another format, is read without an option
                of the caller, or has an option with which Spark reads other rows than
                are written.
        """
        if there is None:
            return self.form, self.partition_by
        kind = plain_name(there.provider)
        if kind != self.form.kind:
            raise InvalidInputError(
                f"{self} has the format {kind}, not {self.form.kind}; give"
                f" format={kind!r}"
            )
        own = {name.lower(): value for name, value in there.options.items()}
        for name, value in self.form.given.items():
            is_own = str(value).lower() == own.get(name.lower(), "").lower()
            if name.lower() in _OF_READERS and not is_own:
                raise InvalidInputError(
                    f"{self} was created without the option {name}={value!r}, so it is"
                    " read without it; leave it out, or write to a table that has it"
                )
        for name, harmless in _READ_OTHERWISE.get(kind, {}).items():
            if own.get(name, harmless).lower() != harmless:
                raise InvalidInputError(
                    f"{self} was created with the option {name}={own[name]!r}, with"
                    " which Spark reads other rows than are written; use a table"
                    " without it"
                )
        options = {
            key: value
            for key, value in there.options.items()
            if key.lower() not in _NOT_OF_WRITERS
        }
        form = replace(
            self.form, spelled=there.provider, given={**options, **self.form.given}
        )
        form.check_options(str(self))
        return form, there.partitions

    def check(self, frame: DataFrame, location: Place | None) -> None:
        """Refuse rows that the table cannot hold, and a folder of another checkpoint."""
        spark = frame.sparkSession
        there = self._stored(spark)
        form, partitions = self._written(there)
        if there is not None:
            self._check_rows(there, frame)
        elif form.kind in NAMES and not spark.catalog.tableExists(self.name):
            self._check_options_of_new(frame)
        form.check(str(self), frame, partitions)
        path = form.given.get("path")
        if path is not None:
            refuse_many_disks(spark, f"{self}:", path)
        folder = path
        if there is not None:
            folder = there.folder
        if folder is not None and location is not None and form.kind in NAMES:
            with reached(f"{self}: folder", folder):
                folders.check_log(
                    f"{self}: folder {folder}", locate(spark, folder), location
                )

    def _check_options_of_new(self, frame: DataFrame) -> None:
        """Refuse options that a new table would be read without.

        Raises:
            InvalidInputError: there is such an option; the message has the statement
                that creates the table.
        """
        own = {
            key: value
            for key, value in self.form.given.items()
            if key.lower() in _OF_READERS
        }
        if not own:
            return
        columns = ", ".join(
            f"{quoted(each.name)} {each.dataType.simpleString()}"
            for each in frame.schema
        )
        options = ", ".join(f"{key} {str(value)!r}" for key, value in own.items())
        how = f"USING {self.form.kind} OPTIONS ({options})"
        if self.partition_by:
            how += f" PARTITIONED BY ({', '.join(map(quoted, self.partition_by))})"
        raise InvalidInputError(
            f"{self}: Spark creates it without the option {next(iter(own))}, so it"
            f" would be read without it; create it first: CREATE TABLE {self.name}"
            f" ({columns}) {how}"
        )

    def _check_rows(self, there: _Stored, frame: DataFrame) -> None:
        """Refuse rows that do not fit a table, which Spark would write into its folder as they are.

        Raises:
            InvalidInputError: a column is not in the table, is of another type or at
                another place there, or has a limited length there; or the table has
                other partitions.
        """
        partitions = [name.lower() for name in there.partitions]
        asked = [name.lower() for name in self.partition_by]
        if asked and asked != partitions:
            has = ", ".join(there.partitions) or "no column"
            raise InvalidInputError(
                f"{self} is partitioned by {has}; leave partition_by out"
            )
        types = {
            each.name.lower(): each.dataType.simpleString() for each in there.columns
        }
        for each in frame.schema:
            kind = each.dataType.simpleString()
            wanted = types.get(each.name.lower())
            if wanted is None:
                fix = hint(each.name, there.columns.names)
                if not fix:
                    fix = "; leave it out, or use another table"
                raise InvalidInputError(f"{self} has no column {each.name}{fix}")
            if wanted != kind:
                raise InvalidInputError(
                    f"{self}: column {each.name} is {kind}, and {wanted} in the table;"
                    " cast it, or use another table"
                )
        if there.limited:
            raise InvalidInputError(
                f"{self}: column {there.limited[0]} is CHAR or VARCHAR, and Spark"
                " neither checks nor fills up the texts that a stream writes; use a"
                " table that has STRING"
            )
        ordered = [name for name in types if name not in partitions]
        given = [each.name.lower() for each in data_columns(frame, there.partitions)]
        if self.form.kind in ("csv", "text") and ordered != given:
            raise InvalidInputError(
                f"{self} has the columns {', '.join(ordered)}, and {self.form.kind}"
                " knows them by their places alone; select them in this order"
            )

    def checked(self, frame: DataFrame) -> DataFrame:
        """Return the frame as the table takes it; values it would change are checked."""
        there = self._stored(frame.sparkSession)
        form, partitions = self._written(there)
        rows = frame
        if there is not None:
            # JSON has its fields by names in which case counts.
            spelled = {name.lower(): name for name in there.columns.names}
            others = {
                name: spelled[name.lower()]
                for name in frame.columns
                if name not in spelled.values()
            }
            if others:
                rows = frame.withColumnsRenamed(others)
        return form.guarded(str(self), rows, partitions)

    def configure(self, writer: DataStreamWriter) -> DataStreamWriter:
        """Set up a writer for the table."""
        form, partitions = self._written(self._stored(session_of_writer(writer)))
        return (
            writer.format(form.spelled).options(**form.options).partitionBy(*partitions)
        )

    def claim(self, spark: SparkSession, checkpoint: Place | None) -> Heard | None:
        """Record in the table's folder which query owns it."""
        there = self._stored(spark)
        if there is None:
            return None
        return folders.claim(locate(spark, there.folder), checkpoint)

    def as_written(self, frame: DataFrame, folder: str) -> DataFrame:
        """Write rows as the table's are written, and read them back with their types."""
        form, _ = self._written(self._stored(frame.sparkSession))
        keep_files(frame, folder, form)
        reader = frame.sparkSession.read.schema(frame.schema).format(form.kind)
        return reader.options(**form.reading).load(folder)
