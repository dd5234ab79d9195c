"""What `start` asks of a checkpoint before Spark may use it."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from sparkstream_kit import _dry_run
from sparkstream_kit._files import plain
from sparkstream_kit._spark.place import are_elsewhere, locate
from sparkstream_kit._spark.plan import inputs_of
from sparkstream_kit._spark.session import other_master
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.checkpoints import _at_hand, _records, endings, layout, losses, origins, topics
from sparkstream_kit.checkpoints._plans import time_zone
from sparkstream_kit.checkpoints.fingerprints import differences, fingerprint
from sparkstream_kit.checkpoints.inputs import log_file
from sparkstream_kit.checkpoints.locks import Lock, lock
from sparkstream_kit.checkpoints.problems import damage
from sparkstream_kit.errors import InvalidInputError, innermost_cause
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit._spark.plan import Input

__all__ = ["Guarded", "guard"]

_log = logging.getLogger(__name__)

_CHECKPOINTS = "spark.sql.streaming.checkpointLocation"
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
        logs: a folder with the checkpoint's logs, for the time of the block: its own, or a copy of them; None
            without a checkpoint.
        note: keeps in the checkpoint which query uses it; to be called when the query has started.
    """

    lock: Lock | None
    logs: Path | None
    note: Callable[[], None]


@contextmanager
def guard(
    frame: DataFrame,
    checkpoint: Place | None,
    name: str,
    mode: str,
    *,
    rewind_notes: Sequence[str] = (),
    allow_changed_query: bool = False,
    moved: Mapping[str | Path, str | Path] | None = None,
) -> Iterator[Guarded]:
    """Check that a query may continue from a checkpoint, and lock it.

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

    Where a checkpoint is not on a local path, as on HDFS or on a Spark Connect server elsewhere, a copy of
    its logs is looked at, and nothing is locked. Without a checkpoint, a query that keeps state is refused on
    a master whose nodes share no default file system.

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
    spark = frame.sparkSession
    if checkpoint is None:
        _check_temporary(frame, name, mode)
        yield Guarded(None, None, lambda: None)
        return
    _check_reach(spark, checkpoint)
    held = lock(spark, checkpoint, name)
    try:
        with _at_hand.logs(spark, checkpoint) as logs:
            _check_whole(logs)
            _clear(checkpoint, logs)
            query: dict[str, Any] = {"name": name, "mode": mode, "fingerprint": fingerprint(frame, mode)}
            query |= time_zone(frame, mode)
            inputs = inputs_of(frame)
            if any(each.name for each in inputs):
                query["sources"] = [each.log for each in inputs]
            kept = _records.read_query(logs)
            _check_query(spark, checkpoint, query, kept, logs, allow_changed_query=allow_changed_query)
            origins.check_order(logs, (kept or {}).get("sources"), query.get("sources"))
            _check_inputs(spark, inputs, checkpoint, logs, name, moved or {}, forget=allow_changed_query)
            known = (kept or {}).get("topics", {})
            if ids := topics.check(frame, checkpoint, name, known, forget=allow_changed_query):
                query["topics"] = ids

            def note() -> None:
                noted = {**query, "sinks": list(rewind_notes)}
                if noted != kept:
                    _records.write_query(spark, checkpoint, noted)

            with in_force(spark, _file_manager(spark, checkpoint)), _explained(logs):
                yield Guarded(held, logs, note)
    except BaseException:
        if held is not None:
            held.release()
        raise


@contextmanager
def _explained(logs: Path) -> Iterator[None]:
    """Say which file of the checkpoint is damaged, if that made Spark fail: it has other words for it."""
    try:
        yield
    except (Py4JError, PySparkException) as err:
        if found := damage(logs, whole=True):
            raise InvalidInputError(f"{found} (Spark: {innermost_cause(err)})") from err
        raise


def _check_temporary(frame: DataFrame, name: str, mode: str) -> None:
    """Refuse a query that would keep its state in a temporary folder of each node's own.

    Where the default file system is not the local one, Spark puts temporary checkpoints there.
    """
    spark = frame.sparkSession
    master = other_master(spark)
    if master is None or spark.conf.get(_CHECKPOINTS, None) or locate(spark, "/").folder is None:
        return
    if fingerprint(frame, mode):
        raise InvalidInputError(
            f"query {name} keeps state and has no checkpoint, and the master is {master}, whose nodes would "
            "each keep a part of it on a disk of their own; give a checkpoint that they share, such as "
            f"hdfs://namenode/checkpoints/{name}, or make such a file system the default one (fs.defaultFS)"
        )


def _check_reach(spark: SparkSession, checkpoint: Place) -> None:
    """Refuse a folder of this machine where others write the state; `file:///…` says that they share it."""
    master = other_master(spark)
    if master is None:
        return
    if plain(checkpoint.text) == checkpoint.text and checkpoint.folder is not None:
        raise InvalidInputError(
            f"checkpoint {checkpoint} is a local path, but the master is {master}, whose nodes all write to "
            "it; give a path that they share, such as hdfs://namenode/checkpoints or s3a://bucket/ckpt, or, "
            f"if they share this folder, file://{checkpoint.folder}"
        )


def _check_whole(logs: Path) -> None:
    """Refuse a damaged checkpoint in clearer words than Spark has, and one that has come to its end."""
    if found := damage(logs) or losses.doubled(str(logs)) or endings.drained(logs):
        raise InvalidInputError(found)


def _clear(checkpoint: Place, logs: Path) -> None:
    """Remove what a query has left that was killed, or failed, before its first batch was planned.

    Spark takes half-written files for those of another query, and refuses the checkpoint for ever. The files
    that it has found and not read would be read although the query that starts now reads another folder. A
    checkpoint that only a Spark Connect server reaches keeps all this.
    """
    if layout.numbered(logs / "offsets") or not checkpoint.is_in_reach or not _dry_run.making():
        return
    for part in ("offsets", "commits", "state"):
        for name in checkpoint.names(part):
            if name.startswith(".") and name.endswith((".tmp", ".tmp.crc")):
                checkpoint.remove(f"{part}/{name}")
    for log in layout.source_logs(logs).values():
        for file in layout.numbered(log).values():
            with suppress(InvalidInputError):  # what other sources keep there stays
                log_file(file)
                for name in (f".{file.name}.crc", file.name):
                    checkpoint.remove(f"sources/{log.name}/{name}")


def _check_inputs(
    spark: SparkSession,
    inputs: Sequence[Input],
    checkpoint: Place,
    logs: Path,
    name: str,
    moved: Mapping[str | Path, str | Path],
    *,
    forget: bool,
) -> None:
    """Refuse other folders than those that were read, or forget these; say which files have gone."""
    try:
        moves = origins.find_moves(spark, logs, origins.bases(spark, inputs), moved, forget=forget)
    except InvalidInputError as err:
        raise InvalidInputError(damage(logs, whole=True) or str(err)) from err
    if moves and checkpoint.folder is None:
        raise InvalidInputError(
            f"checkpoint {checkpoint} is not on a local path, where the names of the files that it has read "
            "could be changed; put the files back where they were, or start anew on another checkpoint"
        )
    for move in moves:
        if _dry_run.making():
            origins.rewrite(move)
    for line in losses.findings(str(logs), said=set(losses.PASSED_OVER)):  # `run` says these
        _log.warning("query %s: %s", name, line)


def _file_manager(spark: SparkSession, checkpoint: Place) -> dict[str, None]:
    """Leave a checkpoint on another file system to Spark's own way of writing, whatever the profile has."""
    given = str(spark.conf.get(_FILE_MANAGER, ""))
    only_local = given.endswith(".FileSystemBasedCheckpointFileManager")
    if not only_local or checkpoint.folder is not None or are_elsewhere(spark):
        return {}
    _log.warning(
        "checkpoint %s is not on a local disk: it is written in Spark's own way, and not by %s",
        checkpoint.text,
        _FILE_MANAGER,
    )
    return {_FILE_MANAGER: None}


def _check_query(
    spark: SparkSession,
    checkpoint: Place,
    query: dict[str, Any],
    kept: dict[str, Any] | None,
    logs: Path,
    *,
    allow_changed_query: bool,
) -> None:
    """Refuse a checkpoint of a different query."""
    plan, name = layout.last_plan(logs), query["name"]
    if plan is None:  # no batch was ever planned
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
        _say_what_stays(spark, checkpoint.text, name, plan.conf)


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
