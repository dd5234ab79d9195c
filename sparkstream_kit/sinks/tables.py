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

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import column, quoted
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
from sparkstream_kit.sinks.refusals import stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter
    from pyspark.sql.types import StructType

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Look


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

# What a table must keep while a query writes to it: by the names that DESCRIBE AS JSON
# has, and as messages name it.
_KEPT = {
    "location": "folder",
    "partition_columns": "partitions",
    "provider": "format",
    "storage_properties": "options",
}
# Types as DESCRIBE shows them: with a limit anywhere, and VARCHAR alone
_LIMITED = re.compile(r"\b(var)?char\(")
_VARCHAR = re.compile(r"varchar\((\d+)\)")
_NAMES = re.compile(r"`((?:[^`]|``)+)`|([^.`]+)")  # of a table, with those above it


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
        limited: of those with CHAR or VARCHAR, alone or inside, the types by the names.
        partitions: the columns that become names of folders.
        options: the options with which Spark reads it.
    """

    provider: str
    folder: str
    columns: StructType
    limited: dict[str, str]
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
        description = _described(spark, self.name)
        columns = spark.table(self.name).schema
        return _Stored(
            provider=description["provider"],
            folder=description["location"],
            columns=columns,
            # Not in the schema, where they are STRING
            limited={
                row.col_name.lower(): row.data_type
                for row in rows[: len(columns)]
                if _LIMITED.search(row.data_type)
            },
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
        form.check(str(self), frame, partitions)
        path = form.given.get("path")
        if path is not None:
            refuse_many_disks(spark, f"{self}:", path)
        if form.kind not in NAMES:
            return
        if there is None and not spark.catalog.tableExists(self.name):
            self._check_new(frame, path, location)
            return
        folder = path
        if there is not None:
            folder = there.folder
        if folder is not None and location is not None:
            with reached(f"{self}: folder", folder):
                folders.check_log(
                    f"{self}: folder {folder}", locate(spark, folder), location
                )

    def _check_new(
        self, frame: DataFrame, path: str | None, location: Place | None
    ) -> None:
        """Refuse what Spark would not create as it was, or not as it was asked for.

        The folder of a new table has files if the table was dropped, or if the catalog
        ended with its session. Spark creates no table without a path over files. With
        one it does, but it forgets that a table over a log of its file sink has
        partitions, and takes the types of their columns from the names of the folders.

        Raises:
            InvalidInputError: the folder has such files, or lacks batches of the query,
                or there is an option that the table would be read without; the message
                has the statements that create the table.
        """
        spark = frame.sparkSession
        folder = path
        if folder is None:
            folder = self._folder_of_new(spark)
        if folder is not None:
            what = f"{self} is not in the catalog, and its folder {folder}"
            with reached(f"{self}: folder", folder):
                files = locate(spark, folder)
                if location is not None:
                    folders.check_log(what, files, location)
                if files.names() and (path is None or self.partition_by):
                    raise InvalidInputError(
                        f"{what} is left, over which Spark would not create it as it"
                        f" was; to go on with it, run {self._over(frame, folder)}"
                    )
        self._check_options_of_new(frame, path)

    def _over(self, frame: DataFrame, folder: str) -> str:
        """Return the statements that create the table over a folder with files of a stream."""
        if not self.partition_by:
            return self._statement(frame, folder)
        empty = self._statement(frame, f"{folder}/_empty")
        return f"{empty}; ALTER TABLE {self.name} SET LOCATION {folder!r}"

    def _folder_of_new(self, spark: SparkSession) -> str | None:
        """Return the folder of a new table without a path; None in other catalogs than Spark's."""
        parts = []
        for in_backticks, plain in _NAMES.findall(self.name):
            parts.append(in_backticks.replace("``", "`") or plain)
        *above, name = parts
        if not above:
            above = [spark.catalog.currentDatabase()]
        *catalogs, schema = above
        if not catalogs:
            catalogs = [spark.catalog.currentCatalog()]
        if catalogs != ["spark_catalog"]:
            return None
        described = spark.sql(f"DESCRIBE NAMESPACE {quoted(schema)}").collect()
        facts = {row.info_name: row.info_value for row in described}
        if "Location" not in facts:
            return None
        if str(spark.conf.get("spark.sql.caseSensitive", "false")).lower() != "true":
            name = name.lower()
        return f"{facts['Location']}/{name}"

    def _check_options_of_new(self, frame: DataFrame, path: str | None) -> None:
        """Refuse options that a new table would be read without.

        Raises:
            InvalidInputError: there is such an option; the message has the statement
                that creates the table.
        """
        own = self._options_of_readers()
        if own:
            raise InvalidInputError(
                f"{self}: Spark creates it without the option {next(iter(own))}, so it"
                " would be read without it; create it first:"
                f" {self._statement(frame, path)}"
            )

    def _options_of_readers(self) -> dict[str, Any]:
        """Return the caller's options that a reader needs, too."""
        return {
            key: value
            for key, value in self.form.given.items()
            if key.lower() in _OF_READERS
        }

    def _statement(self, frame: DataFrame, folder: str | None) -> str:
        """Return the statement that creates the table for rows of the frame, in a folder."""
        columns = ", ".join(
            f"{quoted(each.name)} {each.dataType.simpleString()}"
            for each in frame.schema
        )
        statement = f"CREATE TABLE {self.name} ({columns}) USING {self.form.kind}"
        own = self._options_of_readers()
        if own:
            options = ", ".join(f"{key} {str(value)!r}" for key, value in own.items())
            statement += f" OPTIONS ({options})"
        if self.partition_by:
            partitions = ", ".join(map(quoted, self.partition_by))
            statement += f" PARTITIONED BY ({partitions})"
        if folder is not None:
            statement += f" LOCATION {folder!r}"
        return statement

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
        for name, kind in there.limited.items():
            if not _VARCHAR.fullmatch(kind):
                raise InvalidInputError(
                    f"{self}: column {name} is {kind}, and Spark neither checks nor"
                    " fills up the texts that a stream writes; use a table that has"
                    " STRING"
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
            rows = _within_limits(str(self), rows, there.limited)
        form = form.in_session(frame.sparkSession)
        return form.guarded(str(self), rows, partitions)

    def configure(self, writer: DataStreamWriter) -> DataStreamWriter:
        """Set up a writer for the table."""
        form, partitions = self._written(self._stored(session_of_writer(writer)))
        return (
            writer.format(form.spelled).options(**form.options).partitionBy(*partitions)
        )

    def claim(self, spark: SparkSession, checkpoint: Place | None) -> Look | None:
        """Record in the table's folder which query owns it; return what looks at both."""
        if self._stored(spark) is None:
            return None
        claimed = _described(spark, self.name)
        look_at_folder = folders.claim(locate(spark, claimed["location"]), checkpoint)
        # By its full name: the session may use another schema by then
        names = (claimed["catalog_name"], *claimed["namespace"], claimed["table_name"])
        full_name = ".".join(map(quoted, names))

        def look(batch: int) -> str | None:
            happened = _lost(spark, full_name, claimed)
            if happened is not None:
                return (
                    f"{self} {happened}; put it back as it was, or start anew with"
                    " another target and another checkpoint"
                )
            if look_at_folder is None:
                return None
            return look_at_folder(batch)

        return look

    def as_written(self, frame: DataFrame, folder: str) -> DataFrame:
        """Write rows as the table's are written, and read them back with their types."""
        form, _ = self._written(self._stored(frame.sparkSession))
        keep_files(frame, folder, form)
        reader = frame.sparkSession.read.schema(frame.schema).format(form.kind)
        return reader.options(**form.reading).load(folder)


def _within_limits(
    table: str, frame: DataFrame, limited: Mapping[str, str]
) -> DataFrame:
    """Let a text fail the batch that is longer than the VARCHAR of its column."""
    checked = {}
    for each in frame.schema:
        match = _VARCHAR.fullmatch(limited.get(each.name.lower(), ""))
        if match is not None:
            value = column(each.name)
            is_longer = F.length(value) > int(match[1])
            message = f"has a text that is longer than {match[0]}"
            who = f"{table}: column {each.name}"
            refusals = [(is_longer, message)]
            checked[each.name] = stopped(refusals, value, each.dataType, who)
    if not checked:
        return frame
    return frame.withColumns(checked)


def _lost(spark: SparkSession, name: str, claimed: dict[str, Any]) -> str | None:
    """Return what has happened to a table since it was `claimed`; None if nothing has.

    Columns may have been added.
    """
    try:
        now = _described(spark, name)
    except AnalysisException as err:
        if err.getCondition() != "TABLE_OR_VIEW_NOT_FOUND":
            raise
        return "was dropped while the query wrote to it"
    change = _change(claimed, now)
    if change is None:
        return None
    return f"was changed or made again while the query wrote to it: {change}"


def _described(spark: SparkSession, name: str) -> dict[str, Any]:
    """Return what the catalog says of a table, which is in one of Spark's formats."""
    [row] = spark.sql(f"DESCRIBE TABLE EXTENDED {name} AS JSON").collect()
    description: dict[str, Any] = json.loads(row[0])
    return description


def _change(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Return which part of a table's description has changed; None if new rows still fit it."""
    for key, part in _KEPT.items():
        if before.get(key) != now.get(key):
            return f"its {part}, before {before.get(key)}, is now {now.get(key)}"
    types = {each["name"]: each["type"] for each in now["columns"]}
    for each in before["columns"]:
        if types.get(each["name"]) != each["type"]:
            return f"its column {each['name']} has gone, or is of another type"
    return None
