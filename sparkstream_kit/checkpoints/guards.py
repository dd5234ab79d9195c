"""What `start` asks of a checkpoint before Spark may use it."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkstream_kit import _connect
from sparkstream_kit.checkpoints import _records
from sparkstream_kit.checkpoints.checking import damage
from sparkstream_kit.checkpoints.fingerprints import differences, fingerprint
from sparkstream_kit.checkpoints.locks import Lock, local_path, lock
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import STATE_STORE
from sparkstream_kit.sources import watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

__all__ = ["guard"]

_log = logging.getLogger(__name__)

_FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"

# What a checkpoint keeps over a restart, whatever the session has: Spark's key, and what it is.
_KEPT = {
    "spark.sql.shuffle.partitions": "number of state partitions",
    STATE_STORE: "state store",
}


@contextmanager
def guard(
    frame: DataFrame, checkpoint: str | None, name: str, mode: str, *, allow_changed_query: bool = False
) -> Iterator[Lock | None]:
    """Check that a query may go on from a checkpoint, lock it, and note in it which query uses it.

    The query is started in the `with` block, and noted at its end: one that could not start has not changed
    whose checkpoint it is, and the lock is released.

    Refused are a local path that other nodes cannot reach, a checkpoint that another live driver uses, a
    damaged one, and one that a different query wrote. A checkpoint from before the kit is adopted, with a
    warning. Shuffle partitions or a state store that differ from the checkpoint's are a warning: Spark goes
    on with the checkpoint's and says nothing. So is what its file sources have lost (see `sources.watch`),
    such as a planned file that has gone: its batch would come again without its rows.

    On Spark Connect nothing is locked or looked at where the files are the server's: where not
    `sparkstream serve` has started it.

    Args:
        frame: the query's streaming DataFrame.
        checkpoint: the folder; without one there is nothing to guard.
        name: the query's name.
        mode: its output mode.
        allow_changed_query: go on although a different query wrote the checkpoint, and note the new one.

    Yields:
        The lock, for the caller to release or to give to the query; None where none is needed.

    Raises:
        InvalidInputError: a refusal; the message has the way out.
    """
    if checkpoint is None:
        yield None
        return
    spark = frame.sparkSession
    _check_reach(spark, checkpoint)
    _check_file_manager(spark, checkpoint)
    held = lock(spark, checkpoint, name)
    try:
        _check_whole(spark, checkpoint, name)
        query = {"name": name, "mode": mode, "fingerprint": fingerprint(frame, mode)}
        kept = _records.read_query(spark, checkpoint)
        _check_query(spark, checkpoint, query, kept, allow_changed_query=allow_changed_query)
        yield held
        if query != kept:
            _records.write_query(spark, checkpoint, query)
    except BaseException:
        if held is not None:
            held.release()
        raise


def _check_reach(spark: SparkSession, checkpoint: str) -> None:
    """Refuse a folder of this machine where the state is written by others."""
    master = spark.conf.get("spark.master", None) or "local"
    if master.startswith("local"):  # local-cluster too has all its nodes on this machine
        return
    if checkpoint.startswith("file:") or local_path(spark, checkpoint) is not None:
        raise InvalidInputError(
            f"checkpoint {checkpoint} is a folder of one machine, but the master is {master}, whose nodes "
            "all write to it; give a path that they share, such as hdfs://namenode/checkpoints or s3a://bucket/ckpt"
        )


def _check_file_manager(spark: SparkSession, checkpoint: str) -> None:
    """Leave a checkpoint on another file system to Spark's own way of writing, whatever the profile has."""
    foreign = _connect.is_connect(spark) and _connect.folder(spark) is None
    if foreign or local_path(spark, checkpoint) is not None:
        return
    if str(spark.conf.get(_FILE_MANAGER, "")).endswith(".FileSystemBasedCheckpointFileManager"):
        spark.conf.unset(_FILE_MANAGER)
        _log.warning(
            "checkpoint %s is not on a local disk: it is written in Spark's own way, and not by %s",
            checkpoint,
            _FILE_MANAGER,
        )


def _check_whole(spark: SparkSession, checkpoint: str, name: str) -> None:
    """Refuse a damaged checkpoint in clearer words than Spark has, and say which input files have gone."""
    local = local_path(spark, checkpoint)
    if local is None:
        return
    if found := damage(local) or watch.doubled(str(local)):
        raise InvalidInputError(found)
    for line in watch.findings(str(local), said=set(watch.PASSED_OVER)):  # `run` says these
        _log.warning("query %s: %s", name, line)


def _check_query(
    spark: SparkSession,
    checkpoint: str,
    query: dict[str, str],
    kept: dict[str, str] | None,
    *,
    allow_changed_query: bool,
) -> None:
    """Refuse a checkpoint of a different query."""
    offsets, name = _records.last_offsets(spark, checkpoint), query["name"]
    if offsets is None:
        return
    if kept is None:
        _log.warning(
            "checkpoint %s is from before the kit: query %s is taken for the one that wrote it, and "
            "noted; from now on a different query is refused",
            checkpoint,
            name,
        )
    elif not allow_changed_query and (found := _differences(kept, query)):
        raise InvalidInputError(
            f"checkpoint {checkpoint} was written by a different query: {name} {', and '.join(found)}. "
            "Give it a checkpoint of its own; or, to go on with the state that is there, "
            "start(…, allow_changed_query=True)"
        )
    if query["fingerprint"]:
        _say_what_stays(spark, checkpoint, name, offsets)


def _differences(kept: dict[str, str], query: dict[str, str]) -> list[str]:
    """Say in words what makes a query another than the one that was noted."""
    found = differences(kept["fingerprint"], query["fingerprint"])
    if query["mode"] == "complete" != kept["mode"] and "EventTimeWatermark" in query["fingerprint"]:
        found.append(
            f"has mode complete; mode {kept['mode']} has dropped from the state what the watermark had "
            "passed, and the result would lack it"
        )
    return found


def _say_what_stays(spark: SparkSession, checkpoint: str, name: str, offsets: str) -> None:
    """Warn of settings that the checkpoint overrules, which Spark does without a word."""
    # The second line of an offsets file has the settings that the batch was planned with.
    settings = json.loads(offsets.split("\n")[1]).get("conf", {})
    for key, what in _KEPT.items():
        stays, wanted = settings.get(key), spark.conf.get(key)
        if stays is not None and stays != wanted:
            _log.warning(
                "query %s keeps the %s of checkpoint %s, which is %s: %s=%s is not in force; it takes a new "
                "checkpoint to change it",
                name,
                what,
                checkpoint,
                stays,
                key,
                wanted,
            )
