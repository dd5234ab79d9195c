"""What `start` asks of a checkpoint before Spark may use it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from sparkstream_kit._spark.files import are_elsewhere
from sparkstream_kit.checkpoints import _records, endings, losses, origins, topics
from sparkstream_kit.checkpoints._plans import file_paths, time_zone
from sparkstream_kit.checkpoints.fingerprints import differences, fingerprint
from sparkstream_kit.checkpoints.locks import Lock, lock
from sparkstream_kit.checkpoints.problems import damage
from sparkstream_kit.errors import InvalidInputError, innermost_cause
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.files import Location

__all__ = ["Guarded", "guard"]

_log = logging.getLogger(__name__)

_FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"

# What a checkpoint keeps over a restart, whatever the session has: Spark's key, and what it is.
_KEPT = {
    "spark.sql.shuffle.partitions": "number of state partitions",
    STATE_STORE: "state store",
}


@dataclass(frozen=True)
class Guarded:
    """A checkpoint that a query may use.

    Attributes:
        lock: for the caller to give to the query; None where none is needed.
        note: keeps in the checkpoint which query uses it; to be called when the query has started.
    """

    lock: Lock | None
    note: Callable[[], None]


@contextmanager
def guard(
    frame: DataFrame,
    checkpoint: Location | None,
    name: str,
    mode: str,
    *,
    rewind_notes: Sequence[str] = (),
    allow_changed_query: bool = False,
    moved: Mapping[str | Path, str | Path] | None = None,
) -> Iterator[Guarded]:
    """Check that a query may go on from a checkpoint, and lock it.

    The query is started and noted in the `with` block: one that could not start has not changed whose
    checkpoint it is. After an error in the block the lock is released; a query that runs by then must have
    been stopped.

    Refused are a local path that other nodes cannot reach, a checkpoint that another live driver uses, a
    damaged one, a drained one (see `run`), one that a different query wrote, one whose file sources have
    read other folders (see `origins`), and one whose topics in Kafka are others by now, or lack records that
    come next (see `topics`). A checkpoint from before the kit is adopted, with a warning. Shuffle
    partitions or a state store that differ from the checkpoint's are a warning: Spark goes on with the
    checkpoint's and says nothing. So is what its file sources have lost (see `losses`), such as a planned
    file that has gone: its batch would come again without its rows.

    On Spark Connect nothing is locked or looked at where the files are the server's: where not
    `sparkstream serve` has started it.

    Args:
        frame: the query's streaming DataFrame.
        checkpoint: the folder; without one there is nothing to guard.
        name: the query's name.
        mode: its output mode.
        rewind_notes: what each of its sinks makes of a rewind, to be noted for `checkpoints.rewind`.
        allow_changed_query: go on although a different query wrote the checkpoint, and note the new one.
        moved: folders of input files that have moved since, as {old: new}.

    Yields:
        The lock, and what notes the query.

    Raises:
        InvalidInputError: a refusal; the message has the way out.
    """
    if checkpoint is None:
        yield Guarded(None, lambda: None)
        return
    spark = frame.sparkSession
    _check_reach(spark, checkpoint)
    held = lock(spark, checkpoint, name)
    try:
        _check_whole(checkpoint)
        query: dict[str, Any] = {"name": name, "mode": mode, "fingerprint": fingerprint(frame, mode)}
        query |= time_zone(frame, mode)
        kept = _records.read_query(spark, checkpoint)
        _check_query(spark, checkpoint, query, kept, allow_changed_query=allow_changed_query)
        if checkpoint.folder is not None:
            _check_inputs(frame, checkpoint.folder, name, moved or {}, forget=allow_changed_query)
        known = (kept or {}).get("topics", {})
        if ids := topics.check(frame, checkpoint, name, known, forget=allow_changed_query):
            query["topics"] = ids

        def note() -> None:
            noted = {**query, "sinks": list(rewind_notes)}
            if noted != kept:
                _records.write_query(spark, checkpoint, noted)

        with _fitting_file_manager(spark, checkpoint), _explained(checkpoint):
            yield Guarded(held, note)
    except BaseException:
        if held is not None:
            held.release()
        raise


@contextmanager
def _explained(checkpoint: Location) -> Iterator[None]:
    """Say which file of the checkpoint is damaged, if that made Spark fail: it has other words for it."""
    try:
        yield
    except (Py4JError, PySparkException) as err:
        if checkpoint.folder is not None and (found := damage(checkpoint.folder, whole=True)):
            raise InvalidInputError(f"{found} (Spark: {innermost_cause(err)})") from err
        raise


def _check_reach(spark: SparkSession, checkpoint: Location) -> None:
    """Refuse a folder of this machine where the state is written by others."""
    master = spark.conf.get("spark.master", None) or "local"
    if master.startswith("local"):  # local-cluster too has all its nodes on this machine
        return
    if checkpoint.text.startswith("file:") or checkpoint.folder is not None:
        raise InvalidInputError(
            f"checkpoint {checkpoint} is a folder of one machine, but the master is {master}, whose nodes "
            "all write to it; give a path that they share, such as hdfs://namenode/checkpoints or s3a://bucket/ckpt"
        )


def _check_whole(checkpoint: Location) -> None:
    """Refuse a damaged checkpoint in clearer words than Spark has, and one that has come to its end."""
    folder = checkpoint.folder
    if folder is not None and (
        found := damage(folder) or losses.doubled(str(folder)) or endings.drained(folder)
    ):
        raise InvalidInputError(found)


def _check_inputs(
    frame: DataFrame, local: Path, name: str, moved: Mapping[str | Path, str | Path], *, forget: bool
) -> None:
    """Refuse other folders than those that were read, or forget these; say which files have gone."""
    try:
        moves = origins.find_moves(frame.sparkSession, local, file_paths(frame), moved, forget=forget)
    except InvalidInputError as err:
        raise InvalidInputError(damage(local, whole=True) or str(err)) from err
    for move in moves:
        origins.rewrite(move)
    for line in losses.findings(str(local), said=set(losses.PASSED_OVER)):  # `run` says these
        _log.warning("query %s: %s", name, line)


@contextmanager
def _fitting_file_manager(spark: SparkSession, checkpoint: Location) -> Iterator[None]:
    """Leave a checkpoint on another file system to Spark's own way of writing, whatever the profile has."""
    given = str(spark.conf.get(_FILE_MANAGER, ""))
    only_local = given.endswith(".FileSystemBasedCheckpointFileManager")
    if not only_local or checkpoint.folder is not None or are_elsewhere(spark):
        yield
        return
    _log.warning(
        "checkpoint %s is not on a local disk: it is written in Spark's own way, and not by %s",
        checkpoint.text,
        _FILE_MANAGER,
    )
    spark.conf.unset(_FILE_MANAGER)
    try:
        yield
    finally:
        spark.conf.set(_FILE_MANAGER, given)


def _check_query(
    spark: SparkSession,
    checkpoint: Location,
    query: dict[str, Any],
    kept: dict[str, Any] | None,
    *,
    allow_changed_query: bool,
) -> None:
    """Refuse a checkpoint of a different query."""
    settings, name = _records.last_settings(spark, checkpoint), query["name"]
    if settings is None:
        return
    if kept is None:
        _log.warning(
            "checkpoint %s was not written by sparkstream-kit; assuming it belongs to query %s. Other "
            "queries will be refused from now on.",
            checkpoint.text,
            name,
        )
    elif not allow_changed_query and (found := _differences(spark, kept, query)):
        raise InvalidInputError(
            f"checkpoint {checkpoint} was written by a different query: {name} {', and '.join(found)}. "
            "Give it a checkpoint of its own; or, to go on with the state that is there, "
            "start(…, allow_changed_query=True)"
        )
    if query["fingerprint"]:
        _say_what_stays(spark, checkpoint.text, name, settings)


def _differences(spark: SparkSession, kept: dict[str, Any], query: dict[str, Any]) -> list[str]:
    """Say in words what makes a query another than the one that was noted."""
    caseless = spark.conf.get("spark.sql.caseSensitive") != "true"
    found = differences(kept["fingerprint"], query["fingerprint"], caseless=caseless)
    zone, former = query.get("time zone"), kept.get("time zone")
    if zone and former and zone != former:
        found.append(f"computes dates and hours in the time zone {zone}; the checkpoint's query in {former}")
    if query["mode"] == "complete" != kept["mode"] and "EventTimeWatermark" in query["fingerprint"]:
        found.append(
            f"has mode complete; mode {kept['mode']} has dropped from the state what the watermark had "
            "passed, and the result would lack it"
        )
    return found


def _say_what_stays(spark: SparkSession, checkpoint: str, name: str, settings: dict[str, str]) -> None:
    """Warn of settings that the checkpoint overrules, which Spark does without a word."""
    for key, what in _KEPT.items():
        stays, wanted = settings.get(key), spark.conf.get(key)
        if stays is not None and stays != wanted:
            _log.warning(
                "query %s uses the %s stored in checkpoint %s (%s); your setting %s=%s has no effect. Start "
                "from a new checkpoint to change it.",
                name,
                what,
                checkpoint,
                stays,
                key,
                wanted,
            )
