"""Files in one directory for each batch, put in place whole.

In `_spark_metadata` Spark notes each batch that is in the folder. Without a word it skips a batch whose
number stands there, whichever query wrote it, and its readers show no file that is not noted. Where an
earlier batch is missing, the query fails some batches later, for good. So `start` notes beside it which
query writes there.
"""

from __future__ import annotations

import os
import shlex
import uuid
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _dry_run, _files
from sparkstream_kit._arguments import check
from sparkstream_kit._spark.batch import id_in_checkpoint
from sparkstream_kit._spark.place import (
    Here,
    Place,
    locate,
    refuse_elsewhere,
    refuse_many_disks,
    through_spark,
)
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import FILE_FORMATS, MODES, Sink
from sparkstream_kit.sinks.ledger import Epoch, Ledger, open_target, pass_over

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit.sinks.base import Opening
    from sparkstream_kit.sinks.ledger import Batch


_LOG = "_spark_metadata"
OWNER = "_sparkstream_query"  # a file with the query's id; readers skip what begins with _


def check_log(spark: SparkSession, what: str, folder: Place, checkpoint: Place) -> None:
    """Refuse a folder in which Spark would skip batches of the query, or that lacks some, or hides files.

    On a Spark Connect server elsewhere only the first start of a query is checked, for a folder with files.

    Args:
        spark: the session.
        what: the folder, for messages.
        folder: where the files are, on any file system.
        checkpoint: the query's.

    Raises:
        InvalidInputError: a refusal, with the way out.
    """
    if not folder.is_in_reach:
        is_new = through_spark(spark, f"{checkpoint}/offsets") is None
        found = through_spark(spark, folder.text, below=True) if is_new else None
        if found is not None and found.inputFiles():  # of any format, and without a job
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
    """Note in a folder which query writes there, where a file can be put in place whole."""
    query = None if checkpoint is None else id_in_checkpoint(checkpoint)
    if query is not None and folder.renames_in_one_step and folder.read(OWNER) != f"{query}\n":
        folder.write(OWNER, f"{query}\n")


def _of_others(what: str, has: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} {has}, which Spark would take for this query's, or no longer show; start on the checkpoint "
        "of the query that wrote them, use another folder, or remove this one"
    )


def _newest(place: Place, log: str) -> int:
    """Return the highest batch of one of Spark's logs; -1 if it has none."""
    return max(place.entries(log), default=-1)


_EPOCHS = "_sparkstream_epochs"  # a folder with the newest start of the query: a number, and in it who it is
_PLAN = "_sparkstream_plan"  # readers skip what begins with _ or . (but _name=value only with a dot)


def batch_files(path: str | Path, *, format: str = "parquet", **options: Any) -> Sink:  # noqa: A002 - Spark's own word
    """Write each batch to a directory of its own: `batch=000000`, `batch=000001`, ….

    A directory appears whole, by a rename, and never changes. Any reader counts each row once, also a second
    stream, or a program that does not go through Spark; `spark.read` shows the batch's number as the column
    `batch`. In update and complete mode a directory holds what its batch gave.

    The folder is on a local path or on hdfs://: only there is a rename atomic. On a cluster a local path is
    one that all nodes share, and is given as `file:///…`. The folder belongs to one query, whose id is in its
    file `_sparkstream_query`. Each directory keeps in `_sparkstream_plan` what its batch has read. A batch
    that is replayed with the same plan, as after a crash, is skipped. A checkpoint that has lost that plan,
    or is one batch older than the folder, gets it back when the query starts. A batch before the last one
    comes only from a checkpoint that was rewound further: Spark may then split the input differently, and the
    query fails until the later directories have been removed. It also fails when the last directory or all of
    them have gone: the message says how to write them again, or to go on without them. Older directories may
    go.

    Delivery: exactly once from replayable sources, for every reader.

    Args:
        path: the folder; it is made when it is missing.
        format: `csv`, `json`, `orc`, `parquet` or `text`.
        **options: further options of Spark's writer, by Spark's own names.

    Raises:
        InvalidInputError: an unknown format, or a path that is neither local nor hdfs://; when the query
            starts, a folder with rows that this query has not written, on a Spark Connect server
            elsewhere, or of each node of a cluster, or a column `batch`.

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
        write = partial(_write, place, (format, options), [])
        take = partial(_take, place)
        return open_target(partial(_prepare, place), take, write, where, frame, location, opening)

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
    """The ledger: the directories themselves, and whose they are."""

    def __init__(self, there: Place) -> None:
        self._there = there

    @cached_property
    def names(self) -> set[str]:
        """What is in the folder; looked at once: there are as many as batches."""
        return set(self._there.names())

    @cached_property
    def _owner(self) -> str | None:
        return None if OWNER not in self.names else str(self._there.read(OWNER)).strip()

    @cached_property
    def _last(self) -> int:
        numbers = (name.removeprefix("batch=") for name in self.names if name.startswith("batch="))
        return max((int(number) for number in numbers if number.isdecimal()), default=-1)

    @property
    def rules(self) -> Ledger:
        """The rules for this folder."""
        where = f"folder {self._there.folder or self._there}"
        return Ledger(self, where, where, "append", take_over=None, what="folder", removes=True)

    def last_batch(self, query_id: str | None) -> int | None:
        if self._owner is None:  # an empty directory is a user's word that the query goes on after it
            return None if self._last < 0 or self.has_rows() else self._last
        return self._last if query_id == self._owner else None

    def last_plan(self, query_id: str) -> str | None:  # noqa: ARG002 - one folder has one query
        return self._there.read(f"{_directory(self._last)}/{_PLAN}")

    def epoch(self, query_id: str) -> Epoch | None:  # noqa: ARG002 - one folder has one query
        return _epoch(self._there)

    def any_query(self) -> tuple[str, int] | None:
        return None if self._owner is None else (self._owner or "unknown", self._last)

    def has_rows(self) -> bool:
        """Say whether there may be somebody's rows: not the rest of a crash, and not an empty directory."""
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
        there.make()  # a second stream may start on it before the first batch
    else:
        _dry_run.would_make(there.text)
    return rules.plan_of(query, following)


def _epoch(there: Place) -> Epoch | None:
    """Return the newest start of the folder's query."""
    newest = _newest(there, _EPOCHS)
    return None if newest < 0 else Epoch(newest, str(there.read(f"{_EPOCHS}/{newest}/driver")))


def _take(there: Place, _query: str, driver: str) -> None:
    """Give the query its next epoch.

    What an older driver has not put in place by now gets another name, so that it cannot do so any more.

    Raises:
        InvalidInputError: another start has taken the same one.
    """
    hidden, last = f"{_EPOCHS}/.{uuid.uuid4().hex}", max(_newest(there, _EPOCHS), 0)
    there.write(f"{hidden}/driver", driver)
    try:
        there.rename(hidden, f"{_EPOCHS}/{last + 1}")
    except OSError as err:
        raise InvalidInputError(f"folder {there}: another driver has started in the same moment") from err
    there.remove(f"{_EPOCHS}/{last - 1}")  # somebody may be reading the last one
    for name in there.names():
        if name.startswith(".batch="):
            gone = f".batch={uuid.uuid4().hex}"
            with suppress(OSError):  # its driver has just put it in place, and so it counts
                there.rename(name, gone)
                there.remove(gone)


def _write(there: Place, how: tuple[str, Any], done: list[int], batch: Batch, frame: DataFrame) -> None:
    """Write a batch; `done` has the last one since the start, and the epoch: the next needs no list."""
    target, store = _directory(batch.number), _Store(there)
    # The plan is there if another driver has written the batch.
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
        store.rules.check_epoch(batch)  # now, so that this number is no newer driver's
    hidden = f".{target}.epoch={done[1]}"
    try:
        frame.write.format(how[0]).options(**how[1]).save(f"{there.uri}/{hidden}")
        if batch.plan is not None:
            there.write(f"{hidden}/{_PLAN}", batch.plan)
        store.rules.check_epoch(batch)
        there.rename(hidden, target)
    except Exception:
        store.rules.check_epoch(batch)  # a newer driver takes the folder away, which fails in many ways
        raise
    done[0] = batch.number
