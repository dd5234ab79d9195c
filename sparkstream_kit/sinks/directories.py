"""Folders that one query writes: `batch_files`, and the checks of the folders of Spark's own file sink.

`batch_files` writes one directory per batch and renames it into place, so that any program can read it. Its
rules are those of a sink with a ledger (`sparkstream_kit.sinks.ledger`); the directories are the ledger.

`check_log` and `claim` guard the folders of `sinks.files` and `sinks.table`. Spark's file sink records its
batches in the log `_spark_metadata`. It silently skips a batch whose number is in that log, whichever query
wrote it, and Spark's readers ignore files that are not in the log. If an earlier batch is missing from the
log, the query fails a few batches later and cannot recover. So `start` records beside the log which query
owns the folder, and checks that record and the log before the query starts.
"""

from __future__ import annotations

import os
import shlex
import uuid
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._columns import holds
from sparkstream_kit._spark.batch import id_in_checkpoint
from sparkstream_kit._spark.place import (
    Here,
    Place,
    locate,
    reached,
    refuse_elsewhere,
    refuse_many_disks,
    through_spark,
)
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import FILE_FORMATS, MODES, Sink
from sparkstream_kit.sinks.ledger import Epoch, Ledger, open_target, pass_over

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit.sinks.base import Opening
    from sparkstream_kit.sinks.ledger import Batch


# So that JSON keeps every value: nulls would be left out, and timestamps would be cut to milliseconds.
JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
_NESTED = (T.ArrayType, T.MapType, T.StructType, T.VariantType)
_CANNOT_HOLD = {"csv": (*_NESTED, T.NullType), "orc": (T.NullType, T.VariantType), "parquet": (T.NullType,)}


def exact(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Add to the options of a writer of files those that keep every value, where the caller gave none."""
    return {**(JSON if kind in ("csv", "json") else {}), **options}


def check_columns(sink: str, kind: str, frame: DataFrame, partition_by: Sequence[str] = ()) -> None:
    """Refuse columns that a file format of Spark cannot hold, which Spark itself does in the first batch.

    Args:
        sink: the sink, for messages.
        kind: the format; one that is not in FILE_FORMATS is not checked.
        frame: the rows.
        partition_by: the columns that become names of folders.

    Raises:
        InvalidInputError: the format cannot hold a column.
    """
    folders = [name.lower() for name in partition_by]
    columns = [each for each in frame.schema if each.name.lower() not in folders]
    for each in columns:
        is_text = each.dataType == T.StringType() and len(columns) == 1
        if holds(each.dataType, *_CANNOT_HOLD.get(kind, ())) or (kind == "text" and not is_text):
            form = "text (one column, a string)" if kind == "text" else kind
            raise InvalidInputError(
                f"{sink}: column {each.name} is {each.dataType.simpleString()}, and a file of {form} cannot "
                "hold it; leave it out, cast it, or use format='json'"
            )


_LOG = "_spark_metadata"
OWNER = "_sparkstream_query"  # a file with the owner's query id; readers skip names that begin with _


def check_log(spark: SparkSession, what: str, folder: Place, checkpoint: Place) -> None:
    """Refuse a folder of Spark's file sink that does not match the query's checkpoint.

    In such a folder Spark would skip batches of the query, hide files that are already there, or fail later
    because batches are missing. If only a Spark Connect server elsewhere reaches the folder, the check is
    made only at the query's first start, and only refuses a folder that has files.

    Args:
        spark: the session.
        what: the folder as messages name it, such as "files: folder out".
        folder: the folder of the files, on any file system.
        checkpoint: the query's checkpoint.

    Raises:
        InvalidInputError: the folder does not match the checkpoint; the message says what to do.
    """
    if not folder.is_in_reach:
        is_new = through_spark(spark, f"{checkpoint}/offsets") is None
        found = through_spark(spark, folder.text, below=True) if is_new else None
        if found is not None and found.inputFiles():  # lists files of any format without a Spark job
            raise _of_others(what, "has files already")
        return
    names = folder.names()
    written = _newest(folder, _LOG)
    owner = folder.read(OWNER) if written >= 0 and OWNER in names else None
    if owner is not None and owner.strip() != id_in_checkpoint(checkpoint):
        raise _of_others(
            what, f"has the batches of another query ({owner.strip()}), up to its batch {written}"
        )
    planned, committed = (_newest(checkpoint, log) for log in ("offsets", "commits"))
    if planned < 0 <= written:
        raise _of_others(what, f"has the batches of another query, up to its batch {written}")
    if planned < 0 and any(not name.startswith((".", "_")) for name in names):
        raise _of_others(what, "has files that no query has written")
    if written > planned:
        raise InvalidInputError(
            f"{what} has batches up to {written}, and checkpoint {checkpoint} was rewound or restored to "
            f"batch {planned}: Spark would skip what comes between by its number, whatever is in it; start "
            "anew with another folder and another checkpoint"
        )
    if written < committed:
        has = f"batches up to {written} only" if written >= 0 else "no batch of a query"
        raise InvalidInputError(
            f"{what} has {has}, and checkpoint {checkpoint} has committed batches up to {committed}: the "
            "others are missing; put the folder back as it was, or start anew with another folder and "
            "another checkpoint"
        )


def claim(folder: Place, checkpoint: Place | None) -> None:
    """Record in a folder the id of the query that owns it, on file systems with an atomic rename.

    On others, such as S3, nothing is recorded, because the record could not be replaced in one step.

    Args:
        folder: the folder of the files.
        checkpoint: the checkpoint of the query, which holds its id; None records nothing.
    """
    query = None if checkpoint is None else id_in_checkpoint(checkpoint)
    if query is not None and folder.renames_in_one_step and folder.read(OWNER) != f"{query}\n":
        folder.write(OWNER, f"{query}\n")


def _of_others(what: str, has: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} {has}, which Spark would take for this query's, or no longer show; start on the checkpoint "
        "of the query that wrote them, use another folder, or remove this one"
    )


def _newest(place: Place, log: str) -> int:
    """Return the highest number in a numbered log, or among the epochs; -1 if it is empty or missing."""
    return max(place.entries(log), default=-1)


_EPOCHS = "_sparkstream_epochs"  # a folder of epochs: _sparkstream_epochs/3/driver names who started epoch 3
# Readers skip names that begin with _ or . (a name such as _name=value only if it begins with a dot).
_PLAN = "_sparkstream_plan"


def batch_files(path: str | Path, *, format: str = "parquet", **options: Any) -> Sink:  # noqa: A002 - Spark's own word
    """Write each batch to a directory of its own: `batch=000000`, `batch=000001`, ….

    Each directory appears complete, by a rename, and never changes afterwards. So every reader counts each
    row once: a second stream, or a program that does not use Spark. `spark.read` adds the batch number as the
    column `batch`. In update and complete mode a directory holds the rows that its batch emitted.

    The folder must be on a local path or on hdfs://, because other file systems have no atomic rename. On a
    cluster a local path must be shared by all nodes; give it as `file:///…`. The folder belongs to one query,
    whose id is in the file `_sparkstream_query`.

    Each directory keeps the plan of its batch (which input the batch read) in `_sparkstream_plan`:

    - A batch that is replayed with the same plan, as after a crash, is skipped.
    - If the checkpoint has lost the last batch's plan, or is one batch older than the folder, the plan is put
      back when the query starts.
    - A batch before the last one is replayed only after a rewind of the checkpoint. Spark may then split the
      input differently, so the query fails until you remove the later directories.
    - If the last directory is missing, or all of them are, the query fails; the message says how to write
      the missing batches again, or how to continue without them. Older directories may be deleted.

    Delivery: exactly once from replayable sources, for every reader.

    Args:
        path: the folder; it is created if it is missing.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        **options: further options of Spark's writer, by Spark's own names. Unless they say otherwise, CSV and
            JSON have timestamps with six digits of a second, and JSON has null fields.

    Raises:
        InvalidInputError: the format is unknown, or the path is neither local nor hdfs://; when the query
            starts, the format cannot hold a column, the folder has rows that this query has not written, is
            on a Spark Connect server elsewhere, or is a local path on a cluster, where each node would write
            to a disk of its own, or the query has a column `batch`.

    Examples:
        >>> batch_files("s3a://bucket/rows")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: batch_files s3a://bucket/rows: only a local path and ...
    """
    check(batch_files, locals())
    reject_unknown("file format", [format], FILE_FORMATS)
    plain, text = _files.plain(str(path)), str(path)
    if plain is None and not text.startswith("hdfs:"):
        raise _without_rename(text)
    here = None if plain is None else Path(plain).absolute()

    where = f"folder {text.rstrip('/') if here is None else os.path.realpath(here)}"

    def open_folder(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        spark = frame.sparkSession
        check_columns("batch_files", format, frame)
        if plain is not None:
            refuse_elsewhere(spark, f"batch_files {path}", "sinks.files")
            refuse_many_disks(spark, "batch_files", text)
        if "batch" in (name.lower() for name in frame.columns):
            raise InvalidInputError("batch_files: column batch has the name of the directories; rename it")
        place = locate(spark, text)
        if here is not None and place.folder is not None:
            place = Here(text, here)
        if not place.renames_in_one_step:
            raise _without_rename(text)
        write = partial(_write, place, (format, exact(format, options)), [])
        take = partial(_take, place)
        prepare = reached("batch_files: folder", text)(partial(_prepare, place))
        return open_target(prepare, take, write, where, frame, location, opening)

    return Sink(
        kind="batch_files",
        modes=MODES,
        promise="exactly once",
        after_rewind="writes a replayed batch with the same rows once; it refuses others, and says which "
        "directories to remove first; a folder restored from a backup of that moment goes on exactly once",
        needs_checkpoint=True,
        writes_to=(where,),
        open=open_folder,
    )


def _without_rename(path: str) -> InvalidInputError:
    return InvalidInputError(
        f"batch_files {path}: only a local path and hdfs:// have a rename that is atomic; use sinks.files, "
        "read through Spark"
    )


class _Store:
    """The ledger of `batch_files`: the directories themselves, and the file with their owner's query id.

    Attributes:
        rules: the rules that decide whether a query and a batch may be written to this folder.
    """

    def __init__(self, there: Place) -> None:
        self._there = there
        where = f"folder {there.folder or there}"
        self.rules = Ledger(self, where, where, "append", take_over=None, what="folder", removes=True)

    @cached_property
    def names(self) -> set[str]:
        """The names in the folder, listed only once, because a folder has a directory for every batch."""
        return set(self._there.names())

    @cached_property
    def _owner(self) -> str | None:
        return None if OWNER not in self.names else str(self._there.read(OWNER)).strip()

    @cached_property
    def _last(self) -> int:
        numbers = (name.removeprefix("batch=") for name in self.names if name.startswith("batch="))
        return max((int(number) for number in numbers if number.isdecimal()), default=-1)

    def last_batch(self, query_id: str | None) -> int | None:
        if self._owner is None:  # an empty directory is a user's: continue after it (see `set_back`)
            return None if self._last < 0 or self.has_rows() else self._last
        return self._last if query_id == self._owner else None

    def last_plan(self, query_id: str) -> str | None:  # noqa: ARG002 - one folder has one query
        return self._there.read(f"{_directory(self._last)}/{_PLAN}")

    def epoch(self, query_id: str) -> Epoch | None:  # noqa: ARG002 - one folder has one query
        return _epoch(self._there)

    def any_query(self) -> tuple[str, int] | None:
        return None if self._owner is None else (self._owner or "unknown", self._last)

    def has_rows(self) -> bool:
        """Return whether the folder can hold rows: not in hidden names (left by crashes) or empty folders."""
        return any(
            not name.startswith((".", "_")) and not self._there.is_empty_folder(name) for name in self.names
        )

    def set_back(self, query_id: str, batch_id: int) -> str:  # noqa: ARG002 - one folder has one query
        if batch_id < self._last:
            return f"remove the directories from {_directory(batch_id + 1)} on"
        make = "mkdir" if self._there.folder else "hdfs dfs -mkdir"
        return f"run {make} {shlex.quote(f'{self._there.folder or self._there}/{_directory(batch_id)}')}"


def _directory(batch: int) -> str:
    return f"batch={batch:06}"


def _prepare(
    there: Place, _frame: DataFrame, query: str | None, following: int | None, makes: bool
) -> str | None:
    rules = _Store(there).rules
    rules.check_owner(query)
    if makes:
        there.make()  # now, so that a second stream can start reading the folder before the first batch
    return rules.plan_of(query, following)


def _epoch(there: Place) -> Epoch | None:
    """Return the newest epoch of the folder's query; None if no epoch was taken yet."""
    newest = _newest(there, _EPOCHS)
    return None if newest < 0 else Epoch(newest, str(there.read(f"{_EPOCHS}/{newest}/driver")))


def _take(there: Place, _query: str, driver: str) -> None:
    """Give the query its next epoch, and stop an older driver that is still writing.

    Directories that the older driver has not renamed into place yet are removed under another name, so that
    its rename fails.

    Raises:
        InvalidInputError: another driver has taken the same epoch at the same moment.
    """
    hidden, last = f"{_EPOCHS}/.{uuid.uuid4().hex}", max(_newest(there, _EPOCHS), 0)
    there.write(f"{hidden}/driver", driver)
    try:
        there.rename(hidden, f"{_EPOCHS}/{last + 1}")
    except OSError as err:
        raise InvalidInputError(f"folder {there}: another driver has started in the same moment") from err
    there.remove(f"{_EPOCHS}/{last - 1}")  # keep the last one: another driver may be reading it just now
    for name in there.names():
        if name.startswith(".batch="):
            gone = f".batch={uuid.uuid4().hex}"
            with suppress(OSError):  # its driver has just renamed it into place: that batch counts
                there.rename(name, gone)
                there.remove(gone)


def _write(there: Place, how: tuple[str, Any], done: list[int], batch: Batch, frame: DataFrame) -> None:
    """Write a batch into a hidden directory, and rename that into place.

    Args:
        there: the folder.
        how: the format and the writer's options.
        done: the last batch of this process and the epoch, empty before its first batch. The function updates
            it. It saves listing the folder for every batch but the first.
        batch: the batch.
        frame: the batch's rows.

    Raises:
        InvalidInputError: the ledger's rules refuse the batch.
    """
    target, store = _directory(batch.number), _Store(there)
    # The target has a plan already if another driver has written this batch: then look at the whole folder.
    if done[:1] != [batch.number - 1] or there.read(f"{target}/{_PLAN}") is not None:
        there.make()
        store.rules.check_owner(batch.query)
        if store.rules.is_written(batch):
            pass_over(frame, batch, f"folder {there.folder or there}")
            return
        if OWNER not in store.names:
            there.write(OWNER, batch.query + "\n")
        if _epoch(there) is None:
            _take(there, batch.query, batch.driver)
        done[:] = [batch.number - 1, _newest(there, _EPOCHS)]
        store.rules.check_epoch(batch)  # after the epoch was read: that number must not be a newer driver's
    hidden = f".{target}.epoch={done[1]}"
    try:
        frame.write.format(how[0]).options(**how[1]).save(f"{there.uri}/{hidden}")
        if batch.plan is not None:
            there.write(f"{hidden}/{_PLAN}", batch.plan)
        store.rules.check_epoch(batch)
        there.rename(hidden, target)
    except Exception:
        # A newer driver has removed the hidden directory, which can fail in many ways: report that instead.
        store.rules.check_epoch(batch)
        raise
    done[0] = batch.number
