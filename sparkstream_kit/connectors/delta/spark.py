"""Delta's writer for Spark: from the workers, to any file system and to tables of the catalog."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from contextlib import contextmanager
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import _files
from sparkstream_kit._columns import column, quoted
from sparkstream_kit._spark.place import Place, locate, through_spark
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.connectors.delta.tables import (
    GONE,
    HISTORY,
    OWNERS,
    ConflictError,
    application,
    nullable,
)
from sparkstream_kit.connectors.openers import check_row_keys
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.batches import kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.connectors.delta.tables import Commit, Target

__all__ = ["SparkTable"]

_SETTINGS = "spark.databricks.delta."
_TRANSACTION = "txn STRUCT<appId: STRING, version: BIGINT>"
# A commit, or a checkpoint: whole (000….checkpoint.parquet), one of several parts, or one with a UUID.
_NAME = re.compile(
    r"/(?P<version>\d+)(?P<checkpoint>\.checkpoint(\.\d+\.(?P<parts>\d+)|\..+)?)?\.(?P<kind>json|parquet)$"
)


class SparkTable:
    """A table in a folder, or in the catalog."""

    def __init__(self, spark: SparkSession, location: Place | None, name: str | None) -> None:
        self._spark, self._name = spark, name
        self._location = location
        self._written: dict[str, int] = {}  # by this process: the log is read before the first batch alone

    @property
    def place(self) -> str:
        """The table's folder."""
        return self._where().text

    def _where(self) -> Place:
        if self._location is None:
            detail = self._spark.sql(f"DESCRIBE DETAIL {self._name}").select("format", "location").first()
            if detail is None or detail.format != "delta":
                raise InvalidInputError(f"table {self._name} is no Delta table; use another")
            self._location = locate(self._spark, str(detail.location))
        return self._location

    def _sql_name(self) -> str:
        return f"delta.{quoted(self.place)}"

    def schema(self) -> T.StructType | None:
        """Return its columns as they are now; None if there is no table."""
        try:
            if self._name is not None:
                return self._spark.table(self._name).schema
            return self._spark.read.format("delta").load(self.place).schema
        except AnalysisException as err:
            if err.getCondition() not in GONE:
                raise
        # A writer that was killed before its first commit may have left the folder of the log.
        if self._location is not None and {*self._location.names()} - {"_delta_log"}:
            raise InvalidInputError(f"{self.place} is no Delta table, but not empty; use another folder")
        return None

    def owners(self) -> list[str]:
        """Return the queries that may write to it, as it is now; none if there is no table."""
        if self.schema() is None:
            return []
        properties = self._spark.sql(f"SHOW TBLPROPERTIES {self._sql_name()}").collect()
        return next((row.value.split() for row in properties if row.key == OWNERS), [])

    def last_batch(self, query: str) -> int | None:
        """Return the last batch of a query, whoever has written it."""
        return self._written[query] if query in self._written else self._in_log(query)

    def _in_log(self, query: str) -> int | None:
        """Return the version of the query's last transaction: in the newest checkpoint, or committed since.

        https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
        """
        log = through_spark(self._spark, f"{self.place}/_delta_log")
        paths = [] if log is None else [str(row.path) for row in log.select("path").collect()]
        named = [(name, path) for path in paths if (name := _NAME.search(path))]
        since = _newest_checkpoint(name for name, _ in named)
        files: dict[tuple[bool, str], list[str]] = {}  # in this order: commits, and the checkpoint
        for name, path in named:
            of_checkpoint, version = bool(name["checkpoint"]), int(name["version"])
            if version == since if of_checkpoint else version > since:
                files.setdefault((of_checkpoint, name["kind"]), []).append(_files.escaped(path))
        for (_, kind), some in sorted(files.items()):
            actions = self._spark.read.schema(_TRANSACTION).format(kind).load(some)
            mine = actions.where(F.col("txn.appId") == application(query))
            last = mine.agg(F.max_by("txn.version", "_metadata.file_name")).collect()[0][0]
            if last is not None:
                return int(last)
        return None

    def history(self) -> list[str | None]:
        """Return the `userMetadata` of the newest commits."""
        commits = self._spark.sql(f"DESCRIBE HISTORY {self._sql_name()} LIMIT {HISTORY}")
        return [row.userMetadata for row in commits.select("userMetadata").collect()]

    def has_rows(self) -> bool:
        """Say whether it has rows."""
        return not self._spark.read.format("delta").load(self.place).isEmpty()

    def create(self, schema: T.StructType) -> None:
        """Make it, unless another driver has just done so."""
        columns = T.StructType.fromJson(json.loads(nullable(schema)))
        writer = self._spark.createDataFrame([], columns).write.format("delta").mode("ignore")
        try:
            writer.save(self.place) if self._name is None else writer.saveAsTable(self._name)
        except Exception:
            if self.schema() is None:  # else another query has been quicker
                raise

    def add_columns(self, columns: list[T.StructField]) -> None:
        """Add columns."""
        added = ", ".join(f"{quoted(each.name)} {each.dataType.simpleString()}" for each in columns)
        self._spark.sql(f"ALTER TABLE {self._sql_name()} ADD COLUMNS ({added})")

    def own(self, queries: list[str]) -> None:
        """Note which queries may write to it."""
        value = " ".join(queries)
        with _conflicts(self.place):
            self._spark.sql(f"ALTER TABLE {self._sql_name()} SET TBLPROPERTIES ('{OWNERS}' = '{value}')")

    def write(self, batch: DataFrame, target: Target, commit: Commit) -> None:
        """Write a batch in one commit."""
        with _conflicts(self.place):
            if target.how == "upsert":
                self._merge(batch, target, commit)
            else:
                writer = batch.write.format("delta").mode("append" if target.how == "append" else "overwrite")
                writer = writer.option("userMetadata", commit.metadata)
                last = self.last_batch(commit.query)
                if target.how != "replace" or last is None or last < commit.batch:
                    # A table is replaced once more, and Delta would skip a number that it knows.
                    writer = writer.option("txnAppId", application(commit.query))
                    writer = writer.option("txnVersion", commit.batch)
                writer.save(self.place)
        self._written[commit.query] = max(commit.batch, self.last_batch(commit.query) or 0)

    def _merge(self, batch: DataFrame, target: Target, commit: Commit) -> None:
        with kept(batch):
            _check_keys(batch, target, commit)
            same = " AND ".join(f"t.{quoted(key)} = s.{quoted(key)}" for key in target.keys)
            columns = [quoted(name) for name in batch.columns]
            with _as_view(batch) as view, in_force(batch.sparkSession, _as_transaction(commit)):
                batch.sparkSession.sql(
                    f"MERGE INTO {self._sql_name()} AS t USING {view} AS s ON {same} "  # noqa: S608 - quoted
                    f"WHEN MATCHED THEN UPDATE SET {', '.join(f't.{name} = s.{name}' for name in columns)} "
                    f"WHEN NOT MATCHED THEN INSERT ({', '.join(columns)}) "
                    f"VALUES ({', '.join(f's.{name}' for name in columns)})"
                )


def _newest_checkpoint(names: Iterable[re.Match[str]]) -> int:
    """Return the version of the newest checkpoint that has all of its parts; -1 if there is none.

    `_last_checkpoint` says it, too, but Spark reads no file whose name begins with an underscore.
    """
    there = Counter((int(name["version"]), int(name["parts"] or 1)) for name in names if name["checkpoint"])
    return max((version for (version, parts), count in there.items() if count >= parts), default=-1)


@contextmanager
def _conflicts(place: str) -> Iterator[None]:
    try:
        yield
    except (PySparkException, Py4JError) as err:
        # https://docs.delta.io/concurrency-control/#conflict-exceptions
        found = re.search(r"DELTA_(CONCURRENT\w+|METADATA_CHANGED|PROTOCOL_CHANGED)", str(err))
        if found is None:
            raise
        raise ConflictError(f"Delta table {place}: another writer was quicker ({found[0]})") from err


def _check_keys(batch: DataFrame, target: Target, commit: Commit) -> None:
    keys = [column(key) for key in target.keys]
    is_null = reduce(or_, [key.isNull() for key in keys])
    counted = batch.groupBy(*keys).agg(F.count("*").alias("rows"))
    rows, null = counted.agg(F.max("rows"), F.max(is_null)).collect()[0]  # nulls of a batch without rows
    check_row_keys(target.where, target.keys, commit.batch, null=bool(null), twice=(rows or 0) > 1)


@contextmanager
def _as_view(batch: DataFrame) -> Iterator[str]:
    view = f"sparkstream_{uuid.uuid4().hex}"
    batch.createOrReplaceTempView(view)
    try:
        yield view
    finally:
        batch.sparkSession.catalog.dropTempView(view)


def _as_transaction(commit: Commit) -> dict[str, str]:
    """Return the settings that make a statement the write of this batch: SQL has no other way."""
    return {
        f"{_SETTINGS}write.txnAppId": application(commit.query),
        f"{_SETTINGS}write.txnVersion": str(commit.batch),
        f"{_SETTINGS}commitInfo.userMetadata": commit.metadata,
    }
