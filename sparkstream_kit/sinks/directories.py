"""Start and run: folders of one query with a directory for each batch: `batch_files`.

A directory is renamed into place, so that any program can read it. `batch_files` is a
sink with a ledger (`sparkstream_kit.sinks.ledger`). It needs no ledger beside its rows:
the names of the directories say which batches are written, and each directory keeps the
plan of its batch.
"""

from __future__ import annotations

import os
import shlex
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark.place import (
    Place,
    locate,
    reached,
    refuse_elsewhere,
    refuse_many_disks,
)
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import MODES, Form, Target
from sparkstream_kit.sinks.folders import BATCH, OWNER, highest
from sparkstream_kit.sinks.formats import Format, of
from sparkstream_kit.sinks.ledger import (
    Epoch,
    Ledger,
    exactly_once,
    open_target,
    pass_over,
)
from sparkstream_kit.sinks.readback import keep_files, of_files

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit.sinks.base import Opening, Sink
    from sparkstream_kit.sinks.ledger import Batch


# A folder of epochs: _sparkstream_epochs/3/driver names who started epoch 3
_EPOCHS = "_sparkstream_epochs"
# Readers skip names that begin with _ or . (a name such as _name=value only if it
# begins with a dot).
_PLAN = "_sparkstream_plan"


def batch_files(path: str | Path, *, format: str = "parquet", **options: Any) -> Sink:  # noqa: A002 - Spark's own word
    """Write each batch to a directory of its own: `batch=000000`, `batch=000001`, ….

    Each directory appears complete, by a rename, and never changes afterwards. So every
    reader counts each row once: a second stream, or a program that does not use Spark.
    `spark.read` adds the batch number as the column `batch`. In update and complete
    mode a directory holds the rows that its batch emitted.

    The folder must be on a local path or on hdfs://, because other file systems have no
    atomic rename. On a cluster a local path must be shared by all nodes; give it as
    `file:///…`. The folder belongs to one query, whose id is in the file
    `_sparkstream_query`.

    Each directory keeps the plan of its batch (which input the batch read) in
    `_sparkstream_plan`:

    - A batch that is replayed with the same plan, as after a crash, is skipped.
    - If the checkpoint has lost the last batch's plan, or is one batch older than the
      folder, the plan is put back when the query starts.
    - A batch before the last one is replayed only after a rewind of the checkpoint.
      Spark may then split the input differently, so the query fails until you remove
      the later directories.
    - If the last directory is missing, or all of them are, the query fails; the message
      says how to write the missing batches again, or how to continue without them.
      Older directories may be deleted.

    A value that the format would change fails its batch, as docs/files.md lists.

    Delivery: exactly once from replayable sources, for every reader.

    Args:
        path: the folder; it is created if it is missing.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        **options: further options of Spark's writer, by Spark's own names. Unless they
            say otherwise, CSV and JSON have timestamps with six digits of a second, and
            JSON has null fields.

    Raises:
        InvalidInputError: the format is unknown, an option makes rows unreadable, or
            the path is neither local nor hdfs://; when the query starts, the format
            cannot hold a column (CSV of one column that can be NULL is one), the folder
            has rows that this query has not written, is on a Spark Connect server
            elsewhere, or is a local path on a cluster, where each node would write to a
            disk of its own, or the query has a column `batch`.

    Examples:
        >>> batch_files("s3a://bucket/rows")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: batch_files s3a://bucket/rows: only a local ...
    """
    check(batch_files, locals())
    form = of(batch_files, format, options, path)
    text = str(path)
    local_path = file_system.plain(text)
    if local_path is None and not text.startswith("hdfs:"):
        raise _without_rename(text)
    name = text.rstrip("/") if local_path is None else os.path.realpath(local_path)
    where = Target("folder", name, name)

    def read_folder(
        spark: SparkSession, schema: StructType, _location: Place
    ) -> DataFrame:
        rows = of_files(spark, text, form, schema, ["batch"])
        return rows.withColumn(
            "batch", F.col("batch").try_cast("int")
        ).withColumnRenamed("batch", BATCH)

    def as_written(frame: DataFrame, folder: str) -> DataFrame:
        keep_files(frame, folder, form)
        return of_files(frame.sparkSession, folder, form, frame.schema)

    def open_folder(
        frame: DataFrame, location: Place | None, opening: Opening
    ) -> Write:
        spark = frame.sparkSession
        form.check("batch_files", frame)
        if local_path is not None:
            refuse_elsewhere(spark, f"batch_files {path}", "sinks.files")
            refuse_many_disks(spark, "batch_files", text)
        if "batch" in (name.lower() for name in frame.columns):
            raise InvalidInputError(
                "batch_files: column batch has the name of the directories; rename it"
            )
        place = locate(spark, text)
        if not place.is_in_reach:
            place.make()  # which says that only the Connect server reaches the folder
        if not place.renames_in_one_step:
            raise _without_rename(text)
        folder = _Folder(place, where, form.in_session(spark))
        return open_target(folder, frame, location, opening)

    compared = Form(as_written, "json" if form.kind == "json" else "csv")
    return exactly_once(
        "batch_files", where, MODES, open_folder, read=read_folder, form=compared
    )


def _without_rename(path: str) -> InvalidInputError:
    return InvalidInputError(
        f"batch_files {path}: only a local path and hdfs:// have a rename that is"
        " atomic; use sinks.files, read through Spark"
    )


class _DirectoryLedger(Ledger):
    """The ledger of `batch_files`: directories, and a file with the owning query's id."""

    what = "folder"
    removes = True

    def __init__(self, place: Place) -> None:
        super().__init__(f"folder {place.folder or place}", "append", take_over=None)
        self._place = place

    @cached_property
    def names(self) -> set[str]:
        """The names in the folder, listed once: it has a directory for each batch."""
        return set(self._place.names())

    @cached_property
    def _owner(self) -> str | None:
        owner = self._place.read(OWNER)
        return None if owner is None else owner.strip()

    @cached_property
    def _last(self) -> int:
        last = -1
        for name in self.names:
            number = name.removeprefix("batch=")
            if number != name and number.isdecimal():
                last = max(last, int(number))
        return last

    def last_batch(self, query_id: str | None) -> int | None:
        if self._owner is not None:
            return self._last if query_id == self._owner else None
        if self._last < 0 or self.has_rows():
            return None
        # An empty directory is a user's: continue after it (see `set_back_command`)
        return self._last

    def last_plan(self, query_id: str) -> str | None:  # noqa: ARG002 - one folder has one query
        return self._place.read(f"{_directory(self._last)}/{_PLAN}")

    def epoch(self, query_id: str) -> Epoch | None:
        # Of a query whose directories were all removed
        if self._owner not in (None, query_id):
            return None
        newest = highest(self._place, _EPOCHS)
        if newest < 0:
            return None
        return Epoch(newest, str(self._place.read(f"{_EPOCHS}/{newest}/driver")))

    def any_query(self) -> tuple[str, int] | None:
        if self._owner is None or not self.has_rows():
            return None
        return (self._owner or "unknown", self._last)

    def check_owner(self, query_id: str | None) -> None:
        """Refuse a folder of another query, also one of which nobody knows whose it is any more.

        Raises:
            InvalidInputError: as for any sink; or the folder has rows of batches, and
                no owner.
        """
        if self._owner is None and self._last >= 0 and self.has_rows():
            lost = (
                f"{self.where} has directories of batches, and no file {OWNER}, which"
                " says whose they are"
            )
            fix = "restore the folder from a backup, or use another one"
            if query_id is not None and self._place.folder:
                file = shlex.quote(f"{self._place.folder}/{OWNER}")
                fix += (
                    "; or, if they are this query's and none is missing, run echo"
                    f" {query_id} > {file}"
                )
            raise InvalidInputError(
                f"{lost}: it was removed while its query ran, or put back in part;"
                f" {fix}"
            )
        super().check_owner(query_id)

    def has_rows(self) -> bool:
        """Return whether there can be rows: not in hidden names or empty folders.

        Crashes leave hidden names.
        """
        return any(
            not name.startswith((".", "_")) and not self._place.is_empty_folder(name)
            for name in self.names
        )

    def set_back_command(self, query_id: str, batch_id: int) -> str:  # noqa: ARG002 - one folder has one query
        if batch_id < self._last:
            return f"remove the directories from {_directory(batch_id + 1)} on"
        make = "mkdir -p" if self._place.folder else "hdfs dfs -mkdir -p"
        folder = self._place.folder or self._place
        return f"run {make} {shlex.quote(f'{folder}/{_directory(batch_id)}')}"


def _directory(batch: int) -> str:
    return f"batch={batch:06}"


@dataclass(frozen=True)
class _Folder:
    """The folder that a query writes to, and how.

    Attributes:
        place: the folder.
        where: the folder, for messages.
        form: the format of the files.
        done: the last batch of this process and the epoch; empty before its first
            batch. It saves listing the folder for every batch but the first.
    """

    place: Place
    where: Target
    form: Format
    done: list[int] = field(default_factory=list)

    def prepare(
        self,
        _frame: DataFrame,
        query: str | None,
        next_batch: Batch | None,
        makes: bool,
    ) -> str | None:
        """Check that a query may write to the folder, and create it if it is missing."""
        with reached("batch_files: folder", self.place.text):
            ledger = _DirectoryLedger(self.place)
            ledger.check_owner(query)
            plan = ledger.plan_of(next_batch)
            if makes:
                # Now, so that a second stream can read the folder before its first
                # batch
                self.place.make()
            return plan

    def take(self, _query: str, driver: str, _frame: DataFrame) -> None:
        """Give the query its next epoch, and stop an older driver that is still writing.

        Directories that the older driver has not renamed into place yet are removed
        under another name, so that its rename fails.

        Raises:
            InvalidInputError: another driver has taken the same epoch at the same
                moment.
        """
        hidden = f"{_EPOCHS}/.{uuid.uuid4().hex}"
        last = max(highest(self.place, _EPOCHS), 0)
        self.place.write(f"{hidden}/driver", driver)
        try:
            self.place.rename(hidden, f"{_EPOCHS}/{last + 1}")
        except OSError as err:
            raise InvalidInputError(
                f"folder {self.place}: another driver has started in the same moment"
            ) from err
        # Keep the last one: another driver may be reading it just now.
        self.place.remove(f"{_EPOCHS}/{last - 1}")
        for name in self.place.names():
            if name.startswith(".batch="):
                discarded = f".batch={uuid.uuid4().hex}"
                # Its driver has just renamed it into place: that batch counts
                with suppress(OSError):
                    self.place.rename(name, discarded)
                    self.place.remove(discarded)

    def write(self, batch: Batch, frame: DataFrame) -> None:
        """Write a batch into a hidden directory, and rename that into place.

        Raises:
            InvalidInputError: the ledger's rules refuse the batch.
        """
        target = _directory(batch.number)
        ledger = _DirectoryLedger(self.place)
        if not self._continues_last_batch(batch):
            ledger.check_owner(batch.query)
            if ledger.is_written(batch):
                pass_over(frame, batch, ledger.where)
                return
            is_first = ledger.epoch(batch.query) is None
            if not self._is_owned_by(batch.query):
                self.place.write(OWNER, batch.query + "\n")
            if is_first:
                self.take(batch.query, batch.driver, frame)
            self.done[:] = [batch.number - 1, highest(self.place, _EPOCHS)]
            # After the epoch was read: that number must not be a newer driver's
            ledger.check_epoch(batch)
        hidden = f".{target}.epoch={self.done[1]}"
        try:
            writer = self.form.guarded("batch_files", frame).write.format(
                self.form.kind
            )
            # A batch that failed in this process has left its directory, whose epoch is
            # still this driver's.
            writer.options(**self.form.options).mode("overwrite").save(
                f"{self.place.uri}/{hidden}"
            )
            if batch.plan is not None:
                self.place.write(f"{hidden}/{_PLAN}", batch.plan)
            ledger.check_epoch(batch)
            self._check_not_removed(batch)
            self.place.rename(hidden, target)
        except Exception:
            # A newer driver has removed the hidden directory, which can fail in many
            # ways: report that instead.
            ledger.check_epoch(batch)
            raise
        self.done[0] = batch.number

    def _is_owned_by(self, query: str) -> bool:
        return (self.place.read(OWNER) or "").strip() == query

    def _continues_last_batch(self, batch: Batch) -> bool:
        """Return whether this process wrote the last batch, and the folder is unchanged.

        Else the whole folder is looked at: it was removed, emptied or made again, which
        leaves it without its owner or its last batch; or another driver has written
        this batch already.
        """
        if self.done[:1] != [batch.number - 1] or not self._is_owned_by(batch.query):
            return False
        last = f"{_directory(batch.number - 1)}/{_PLAN}"
        if batch.plan is not None and self.place.read(last) is None:
            return False
        return self.place.read(f"{_directory(batch.number)}/{_PLAN}") is None

    def _check_not_removed(self, batch: Batch) -> None:
        """Refuse a batch if the folder was removed or emptied while the batch was written.

        Raises:
            InvalidInputError: the folder has no ledger any more, or that of another
                query.
        """
        if self._is_owned_by(batch.query):
            return
        ledger = _DirectoryLedger(self.place)
        ledger.check_owner(batch.query)
        ledger.check_earlier(batch)
        raise InvalidInputError(
            f"{ledger.where} was removed while batch {batch.number} was written to it;"
            " start the query again, which writes that batch once more"
        )
