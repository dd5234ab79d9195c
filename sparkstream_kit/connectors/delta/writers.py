"""What both Delta writers share, and the writer that uses Delta's jars in Spark.

A Delta table is its own ledger: an application transaction holds each query's last
batch, the `userMetadata` of commits holds plans, and table properties hold the owners
and epochs. `connectors._tables` has the rules. `SparkTable` is one of the two writers,
and `rust.RustTable` the other. Users run `set_back` when a message says so.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.columns import column, quoted
from sparkstream_kit._internal.spark.place import LocalPlace, Place, locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.connectors import check_row_keys
from sparkstream_kit.connectors._tables import (
    DELTA,
    ConflictError,
    TableTarget,
    command,
    metadata,
    nullable,
)
from sparkstream_kit.errors import InvalidInputError, TransientError
from sparkstream_kit.sinks.batches import computed_once
from sparkstream_kit.sinks.ledger import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from pyspark.sql import DataFrame, Row, SparkSession


# The error conditions with which Spark and Delta report a table that does not exist.
_GONE = (
    "DELTA_PATH_DOES_NOT_EXIST",
    "DELTA_TABLE_NOT_FOUND",
    "PATH_NOT_FOUND",
    "TABLE_OR_VIEW_NOT_FOUND",
)

# The newest commits, of all writers, in which the plan of a query's last batch is
# searched
HISTORY = 1000


# Texts that come back as NULL from a column by which a table is partitioned:
# https://github.com/delta-io/delta/blob/master/PROTOCOL.md#partition-value-serialization
NOT_IN_PARTITIONS = ("", "__HIVE_DEFAULT_PARTITION__")


def not_in_partitions(where: object, name: str) -> str:
    """Return what is wrong with such a text."""
    return (
        f"column {name}, by which {where} is partitioned, has a text that Delta reads"
        f" as NULL there (an empty one, or {NOT_IN_PARTITIONS[1]}); replace it, as in"
        f" F.when(F.col('{name}') == '', 'none').otherwise(F.col('{name}'))"
    )


def no_table(place: str) -> InvalidInputError:
    """Return the error for a folder with other files, or for a file in its place."""
    return InvalidInputError(
        f"{place} is no Delta table, but not empty; use another folder"
    )


def is_text(schema: T.StructType, name: str) -> bool:
    """Return whether a schema has a column of this name that is a text."""
    return name in schema.names and isinstance(schema[name].dataType, T.StringType)


def application(query: str) -> str:
    """Return the application id of the Delta transactions that hold a query's last batch.

    It contains the query's id. Under a fixed id, Delta would take the first batches of
    a new checkpoint for old ones, and skip them.
    """
    return f"sparkstream-{query}"


def is_extended(spark: SparkSession) -> bool:
    """Return whether a session has Delta's SQL extension; Delta's jars alone are not enough."""
    extensions = spark.conf.get("spark.sql.extensions", "") or ""
    return "DeltaSparkSessionExtension" in extensions


def set_back(place: str, query: str, batch: int) -> None:
    """Reset a query's last batch in a Delta table, to write the later ones again.

    Messages of `sinks.delta` print a command that calls this function. The rows of the
    later batches stay in the table: delete them first, unless the query overwrites
    them.

    The function appends one commit to the table's log itself, in the format of Delta's
    protocol (https://github.com/delta-io/delta/blob/master/PROTOCOL.md), because
    Delta's writer for Spark skips a batch number that it knows. So it needs neither of
    the two writers; it needs Spark only if the table is not on this machine's file
    system.

    Args:
        place: the path of the table's folder.
        query: the query's id, as in the `userMetadata` of the table's history.
        batch: the number of the batch that becomes the last one.

    Raises:
        InvalidInputError: the folder is not a Delta table, or another writer has just
            committed.
    """
    from sparkstream_kit.session import get_session

    path = file_system.plain(place)
    folder = f"{place}/_delta_log"
    if path is None:
        log = locate(get_session("sparkstream-set-back"), folder)
    else:
        log = LocalPlace(folder, Path(path, "_delta_log"))
    versions = [int(name[:20]) for name in log.names() if re.match(r"\d{20}\.", name)]
    if not versions:
        raise InvalidInputError(f"{place} is no Delta table; give the folder of one")
    hidden = f".{uuid.uuid4()}.tmp"
    commit = f"{max(versions) + 1:020}.json"
    actions = _actions_of_set_back(query, batch)
    log.write(hidden, "".join(f"{json.dumps(action)}\n" for action in actions))
    try:
        if path is None:
            log.rename(hidden, commit)
        else:
            # A rename would overwrite a commit of another writer
            here = Path(path, "_delta_log")
            (here / commit).hardlink_to(here / hidden)
    except OSError as err:
        raise TransientError(
            f"{place}: another writer has just committed ({err}); try again"
        ) from err
    finally:
        log.remove(hidden)


def _actions_of_set_back(query: str, batch: int) -> list[dict[str, Any]]:
    """Return the actions of a commit that makes `batch` the query's last batch."""
    now = int(time.time() * 1000)
    info = {
        "timestamp": now,
        "inCommitTimestamp": now,
        "operation": "SET BACK",
        "operationParameters": {},
        "userMetadata": metadata(Batch(query, batch)),
    }
    last = {"appId": application(query), "version": batch, "lastUpdated": now}
    return [{"commitInfo": info}, {"txn": last}]


_TRANSACTION = "txn STRUCT<appId: STRING, version: BIGINT>"
# The file of a commit, or of a checkpoint: one file, one of several parts, or a file with
# a UUID in its name.
_NAME = re.compile(
    r"""
    / (?P<version> \d+ )               # 00000000000000000007.json
    (?P<checkpoint> \.checkpoint       # 00000000000000000007.checkpoint.parquet
        ( \. \d+ \. (?P<parts> \d+ )   # ….checkpoint.0000000001.0000000003.parquet
        | \. .+                        # ….checkpoint.80a083e8-7026.json
        )?
    )?
    \. (?P<kind> json | parquet ) $
    """,
    re.VERBOSE,
)


class SparkTable:
    """A Delta table in a folder or the catalog, written with Delta's jars.

    See `Table` for the methods.
    """

    format = DELTA

    def __init__(
        self, spark: SparkSession, location: Place | None, name: str | None
    ) -> None:
        self._spark = spark
        self._name = name
        self._location = location
        self._partitioned_by: list[str] | None = None  # None until it is asked
        # Of this process, by query: saves reading the log
        self._written: dict[str, int] = {}

    @property
    def place(self) -> str:
        """The path of its folder, with the scheme.

        Without a scheme, Delta could take another file system.

        Raises:
            InvalidInputError: a table of the catalog has another format.
        """
        if self._location is None:
            description = self._spark.sql(f"DESCRIBE DETAIL {self._name}")
            detail = description.select("format", "location").first()
            if detail is None or detail.format != "delta":
                raise InvalidInputError(
                    f"table {self._name} is no Delta table; use another"
                )
            self._location = locate(self._spark, str(detail.location))
        return self._location.uri

    def set_back_command(self, query: str, batch: int) -> str:
        """Return a command that makes `batch` the query's last batch."""
        return command(set_back, self.place, query, batch)

    def _sql_name(self) -> str:
        return f"delta.{quoted(self.place)}"

    def schema(self) -> T.StructType | None:
        """Return the table's columns in its newest version; None if there is no table.

        Raises:
            InvalidInputError: there is no table, but its folder has other files, or is
                a file.
        """
        if self._location is not None:
            folder = self._location.folder
            if folder is not None and folder.is_file():
                raise no_table(self.place)
        try:
            if self._name is not None:
                return self._spark.table(self._name).schema
            return self._spark.read.format("delta").load(self.place).schema
        except AnalysisException as err:
            if err.getCondition() not in _GONE:
                raise
        # The log folder alone does no harm: a writer that was killed before its first
        # commit leaves it.
        names = [] if self._location is None else self._location.names()
        if any(name != "_delta_log" for name in names):
            raise no_table(self.place)
        return None

    def properties(self) -> dict[str, str]:
        """Return the table's properties in its newest version."""
        return dict(self._spark.sql(f"SHOW TBLPROPERTIES {self._sql_name()}").collect())

    def identity(self) -> str:
        """Return the id in the table's metadata."""
        return str(self._detail()["id"])

    def _detail(self) -> Row:
        return self._spark.sql(f"DESCRIBE DETAIL {self._sql_name()}").collect()[0]

    def last_batch(self, query: str) -> int | None:
        """Return a query's last batch, by any writer; None before the first."""
        if query in self._written:
            return self._written[query]
        return self._in_log(query)

    def _in_log(self, query: str) -> int | None:
        """Read the query's last batch from its last transaction in Delta's log.

        That transaction is in one of the commits since the newest checkpoint, or in
        that checkpoint.
        https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
        """
        # Spark reads a path as a pattern
        log = file_system.escaped(f"{self.place}/_delta_log")
        listed = self._spark.read.format("binaryFile").load(log).select("path")
        paths = [row.path for row in listed.collect()]
        for kind, some in _newest_files(paths):
            files = [file_system.escaped(path) for path in some]
            actions = self._spark.read.schema(_TRANSACTION).format(kind).load(files)
            mine = actions.where(F.col("txn.appId") == application(query))
            newest = F.max_by("txn.version", "_metadata.file_name")
            [[last]] = mine.agg(newest).collect()
            if last is not None:
                return int(last)
        return None

    def history(self) -> list[str | None]:
        """Return the `userMetadata` of up to `HISTORY` newest commits, newest first."""
        commits = self._spark.sql(
            f"DESCRIBE HISTORY {self._sql_name()} LIMIT {HISTORY}"
        )
        return [row.userMetadata for row in commits.select("userMetadata").collect()]

    def has_rows(self) -> bool:
        """Return whether the table has rows."""
        return not self._spark.read.format("delta").load(self.place).isEmpty()

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return all rows of the table's newest version."""
        return spark.read.format("delta").load(self.place)

    def create(self, schema: T.StructType) -> None:
        """Create the table, unless another driver has just created it."""
        empty = self._spark.createDataFrame([], nullable(schema))
        writer = empty.write.format("delta").mode("ignore")
        try:
            if self._name is None:
                writer.save(self.place)
            else:
                writer.saveAsTable(self._name)
        except Exception:
            if self.schema() is None:  # if there is a table, another query was quicker
                raise

    def add_columns(self, columns: list[T.StructField]) -> None:
        """Add nullable columns to the table."""
        added = ", ".join(
            f"{quoted(field.name)} {field.dataType.simpleString()}" for field in columns
        )
        self._spark.sql(f"ALTER TABLE {self._sql_name()} ADD COLUMNS ({added})")

    def note(self, properties: dict[str, str]) -> None:
        """Set properties of the table, in a commit."""
        values = ", ".join(
            f"'{name}' = '{value}'" for name, value in properties.items()
        )
        with _conflicts(self.place):
            self._spark.sql(
                f"ALTER TABLE {self._sql_name()} SET TBLPROPERTIES ({values})"
            )

    def gathered(
        self, frame: DataFrame, target: TableTarget, _batch: Batch
    ) -> AbstractContextManager[DataFrame]:
        """Return the batch, whose rows stay with Spark; a text that has no partition fails it."""
        if self._partitioned_by is None:
            self._partitioned_by = list(self._detail()["partitionColumns"])
        for name in self._partitioned_by:
            if is_text(frame.schema, name):
                text = column(name)
                wrong = F.raise_error(F.lit(not_in_partitions(target.where, name)))
                frame = frame.withColumn(
                    name, F.when(text.isin(*NOT_IN_PARTITIONS), wrong).otherwise(text)
                )
        return nullcontext(frame)

    def commit(self, frame: DataFrame, target: TableTarget, batch: Batch) -> None:
        """Write a batch in one commit, together with its number and plan.

        Raises:
            InvalidInputError: for `upsert`, a key is null or occurs in two rows of the
                batch.
            ConflictError: another writer has committed at the same moment.
        """
        with _conflicts(self.place):
            if target.how == "upsert":
                self._merge(frame, target, batch)
            else:
                self._write(frame, target, batch)
        last = self.last_batch(batch.query) or 0
        self._written[batch.query] = max(batch.number, last)

    def _write(self, frame: DataFrame, target: TableTarget, batch: Batch) -> None:
        """Append the rows of a batch, or replace those of the table."""
        mode = "append" if target.how == "append" else "overwrite"
        # Static, because the session may have dynamic.
        options: dict[str, Any] = {
            "userMetadata": metadata(batch),
            "partitionOverwriteMode": "static",
        }
        last = self.last_batch(batch.query)
        if target.how != "replace" or last is None or last < batch.number:
            # A replayed `replace` is written without a number, because Delta would skip
            # a known one.
            options["txnAppId"] = application(batch.query)
            options["txnVersion"] = batch.number
        frame.write.format("delta").mode(mode).options(**options).save(self.place)

    def _merge(self, frame: DataFrame, target: TableTarget, batch: Batch) -> None:
        """Insert the rows of a batch, or overwrite those with the same keys."""
        with computed_once(frame):
            _check_keys(frame, target, batch)
            same = " AND ".join(
                f"t.{quoted(key)} = s.{quoted(key)}" for key in target.keys
            )
            columns = [quoted(name) for name in frame.columns]
            updates = ", ".join(f"t.{name} = s.{name}" for name in columns)
            values = ", ".join(f"s.{name}" for name in columns)
            settings = {  # a MERGE has no options for the batch's number and plan
                "spark.databricks.delta.write.txnAppId": application(batch.query),
                "spark.databricks.delta.write.txnVersion": str(batch.number),
                "spark.databricks.delta.commitInfo.userMetadata": metadata(batch),
            }
            with _as_view(frame) as view, in_force(frame.sparkSession, settings):
                frame.sparkSession.sql(
                    f"MERGE INTO {self._sql_name()} AS t USING {view} AS s ON {same} "  # noqa: S608 - quoted
                    f"WHEN MATCHED THEN UPDATE SET {updates} "
                    f"WHEN NOT MATCHED THEN INSERT ({', '.join(columns)}) "
                    f"VALUES ({values})"
                )


def _newest_files(paths: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return the files of a log that are to be read: `json` or `parquet`, and the paths of it.

    The commits since the newest checkpoint come first, and then that checkpoint.

    Examples:
        >>> _newest_files(["/l/5.json", "/l/6.json", "/l/6.checkpoint.parquet", "/l/7.json"])
        [('json', ['/l/7.json']), ('parquet', ['/l/6.checkpoint.parquet'])]
    """
    names = [name for path in paths if (name := _NAME.search(path))]
    since = _newest_checkpoint(names)
    commits: dict[str, list[str]] = {}
    checkpoint: dict[str, list[str]] = {}
    for name in names:
        version = int(name["version"])
        if not name["checkpoint"] and version > since:
            commits.setdefault(name["kind"], []).append(name.string)
        elif name["checkpoint"] and version == since:
            checkpoint.setdefault(name["kind"], []).append(name.string)
    return sorted(commits.items()) + sorted(checkpoint.items())


def _newest_checkpoint(names: Iterable[re.Match[str]]) -> int:
    """Return the version of the newest checkpoint that has all of its parts; -1 if there is none.

    The file `_last_checkpoint` holds this version, too, but Spark cannot read a file
    whose name begins with an underscore.
    """
    # By its version and the number of parts that it needs
    files = Counter[tuple[int, int]]()
    for name in names:
        if name["checkpoint"]:
            files[int(name["version"]), int(name["parts"] or 1)] += 1
    whole = [version for (version, parts), count in files.items() if count >= parts]
    return max(whole, default=-1)


@contextmanager
def _conflicts(place: str) -> Iterator[None]:
    """Report a commit that another writer has prevented as a ConflictError."""
    try:
        yield
    except (PySparkException, Py4JError) as err:
        # https://docs.delta.io/concurrency-control/#conflict-exceptions
        found = re.search(
            r"DELTA_(CONCURRENT\w+|METADATA_CHANGED|PROTOCOL_CHANGED)", str(err)
        )
        if found is None:
            raise
        raise ConflictError(
            f"Delta table {place}: another writer was quicker ({found[0]})"
        ) from err


def _check_keys(frame: DataFrame, target: TableTarget, batch: Batch) -> None:
    """Refuse a batch with a null key, or with two rows of the same key."""
    keys = [column(key) for key in target.keys]
    is_null = reduce(or_, [key.isNull() for key in keys])
    counted = frame.groupBy(*keys).agg(F.count("*").alias("rows"))
    # Both are null for a batch without rows
    [[most, null]] = counted.agg(F.max("rows"), F.max(is_null)).collect()
    check_row_keys(
        target.where,
        target.keys,
        batch.number,
        null=bool(null),
        twice=most is not None and most > 1,
    )


@contextmanager
def _as_view(batch: DataFrame) -> Iterator[str]:
    """Give a batch a name in its session's catalog, within a `with` block."""
    view = f"sparkstream_{uuid.uuid4().hex}"
    batch.createOrReplaceTempView(view)
    try:
        yield view
    finally:
        batch.sparkSession.catalog.dropTempView(view)
