"""What `start` asks of a checkpoint before Spark may use it: is it whole, of this query, of these inputs?

Of a topic of Kafka, Spark keeps the offset up to which it has read each partition, and compares offsets only.
Where the topic was deleted and made again while the query was stopped, it skips as many records as it had
read of the former one, in silence, also with `failOnDataLoss`. So the kit keeps the id that Kafka gives each
topic, and compares it.
"""

from __future__ import annotations

import json
import logging
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from sparkstream_kit import _dry_run
from sparkstream_kit._files import plain
from sparkstream_kit._spark import plan as kafka
from sparkstream_kit._spark.place import are_elsewhere, locate
from sparkstream_kit._spark.plan import inputs_of
from sparkstream_kit._spark.session import other_master
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.checkpoints.check import damage, unreadable
from sparkstream_kit.checkpoints.drain import drained
from sparkstream_kit.checkpoints.fingerprint import differences, fingerprint, time_zone
from sparkstream_kit.checkpoints.lock import Lock, lock
from sparkstream_kit.checkpoints.logs import (
    CONTINUED,
    Logs,
    at_hand,
    command,
    log_file,
    plan_in,
    write_note,
)
from sparkstream_kit.checkpoints.lost import PASSED_OVER, doubled, findings
from sparkstream_kit.checkpoints.moved import bases, check_order, find_moves, rewrite
from sparkstream_kit.errors import InvalidInputError, innermost_cause
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit._spark.plan import Input


_log = logging.getLogger(__name__)

# What of a failure speaks of Kafka.
_OF_KAFKA = re.compile(r"failOnDataLoss|KAFKA_|org\.apache\.kafka|TopicPartition|OffsetOutOfRange")
_GO_ON = "to go on without: sources.kafka(…, failOnDataLoss=False)"
_Ids = dict[str, dict[str, str]]  # of the topics of each source, by its number


def check_topics(
    frame: DataFrame, checkpoint: Place, logs: Logs, name: str, *, forget: bool
) -> tuple[_Ids, list[Change]]:
    """Refuse a checkpoint whose topics were made again, or whose next records Kafka has deleted.

    Args:
        frame: the query.
        checkpoint: its checkpoint.
        logs: of the checkpoint; what `start` has noted last has the ids of the topics then.
        name: its name.
        forget: take a topic that was made again for a new one, and read it from its beginning.

    Returns:
        The ids of the query's topics, to be noted (where Kafka cannot be asked, those of before), and what
        makes Spark read from their beginning those that are to be forgotten.

    Raises:
        InvalidInputError: a refusal; the message has the way out.
    """
    spark, noted = frame.sparkSession, logs.noted.get("topics", {})
    inputs = _of_kafka(frame)
    if not kafka.can_ask(spark):
        if inputs:
            _log.warning(
                "query %s: on Spark Connect Kafka cannot be asked whether a topic was deleted and made again "
                "while the query was stopped; Spark would skip its first records",
                name,
            )
        return dict(noted), []
    ids: _Ids = {}
    changes: list[Change] = []
    for each in inputs:
        with kafka.client(spark, each.options) as client:
            source = _Source(client, checkpoint, each)
            former = dict(noted.get(each.log, {}))
            if again := source.made_again(former):
                if not forget or checkpoint.folder is None or source.batch is None:
                    raise InvalidInputError(_made_again(checkpoint, source.servers, again, forget=forget))
                changes.append(source.forget(again, logs))
            for said in source.losses():
                if source.fails_on_loss:
                    raise InvalidInputError(f"checkpoint {checkpoint}: {said}; {_GO_ON}")
                _log.warning("query %s: %s; it goes on without", name, said)
            ids[each.log] = former | {topic: found.id for topic, found in source.topics.items()}
    return ids, changes


def what_is_lost(frame: DataFrame | None, checkpoint: str | None, error: str) -> str | None:
    """Say what Kafka no longer has of what a query was to read next, or that it is down.

    Spark says both in words of its own. None if that is not why the query failed.
    """
    if frame is None or checkpoint is None or not _OF_KAFKA.search(error):
        return None
    spark = frame.sparkSession
    if not kafka.can_ask(spark):
        return None
    place = locate(spark, checkpoint)
    noted = {} if place.folder is None else Logs(place.folder).noted.get("topics", {})
    for each in _of_kafka(frame):
        try:
            with kafka.client(spark, each.options) as client:
                source = _Source(client, place, each)
                if again := source.made_again(noted.get(each.log, {})):
                    return _made_again(place, source.servers, again, forget=False)
                for said in source.losses():
                    return f"{said}; {_GO_ON}"
        except InvalidInputError as err:
            return str(err)
    return None


def _of_kafka(frame: DataFrame) -> list[Input]:
    return [each for each in inputs_of(frame) if each.kind == "kafka"]


class _Source:
    """A Kafka source of a query: the topics that it reads now, and up to where it has read."""

    def __init__(self, client: kafka.Client, checkpoint: Place, read: Input) -> None:
        options = read.options
        self.servers = options["kafka.bootstrap.servers"]
        self.fails_on_loss = options.get("failondataloss", "true").lower() != "false"
        self._client = client
        self._checkpoint = checkpoint
        self._lines = read.lines
        self.batch, self.offsets = _read_until(checkpoint, read)
        names = [name.strip() for name in options.get("subscribe", "").split(",") if name.strip()]
        names += json.loads(options.get("assign", "{}"))
        if "subscribepattern" in options:
            names = client.matching(options["subscribepattern"])
        self.topics = client.topics(names)  # those that it reads now

    def made_again(self, noted: Mapping[str, str]) -> list[str]:
        """Return the topics that are there under another id than noted, and that have been read."""
        return [
            name
            for name, topic in self.topics.items()
            if noted.get(name, topic.id) != topic.id and (name in self.offsets or self.batch is None)
        ]

    def losses(self) -> Iterator[str]:
        """Say what the query was to read next and cannot."""
        if gone := sorted(set(self.offsets) - set(self.topics)):
            left = [name for name in gone if name in self._client.topics(gone)]
            yield (
                f"the query no longer reads topic {', '.join(left)}, of which it may not have read all"
                if left
                else f"Kafka at {self.servers} no longer has topic {', '.join(gone)}"
            )
        if lost := self._lost():
            yield _in_words(self.servers, lost)

    def _lost(self) -> dict[str, dict[int, int]]:
        """Return how many records of each partition Kafka has deleted that the query was to read next."""
        read = {
            (name, part): offset
            for name, parts in self.offsets.items()
            for part, offset in parts.items()
            if name in self.topics and part in self.topics[name].partitions
        }
        found: dict[str, dict[int, int]] = {}
        for (name, part), first in self._client.offsets(read, earliest=True).items():
            if first > read[name, part]:
                found.setdefault(name, {})[part] = first - read[name, part]
        return found

    def forget(self, topics: list[str], logs: Logs) -> Change:
        """Return what has Spark read topics from their beginning, as it reads new ones.

        Raises:
            InvalidInputError: a batch was planned on the former topic, and would be replayed.
        """
        done = logs.done
        if logs.planned > done:
            raise InvalidInputError(
                f"checkpoint {logs.root}: batch {logs.planned} was planned on the former topic {topics[0]} "
                f"and is not committed; rewind first: {command('rewind', logs.root)} --to {done}"
            )
        self.offsets = {name: parts for name, parts in self.offsets.items() if name not in topics}
        text = json.dumps(self.offsets, separators=(",", ":"))
        offsets = dict.fromkeys(self._lines, text)
        return Change(
            f"topic {', '.join(topics)} is read from its beginning",
            partial(logs.change_offsets, done, offsets),
        )


def _read_until(checkpoint: Place, read: Input) -> tuple[int | None, dict[str, dict[int, int]]]:
    """Return the last committed batch, and the offsets up to which a source had been read by its end.

    A batch that was planned and not committed begins there, too. Nothing is returned before the first one.
    """
    batch = max(checkpoint.entries("commits"), default=None)
    text = None if batch is None else checkpoint.read(f"offsets/{batch}")
    if text is None:
        return batch, {}
    plan = plan_in(text)
    at = next((plan.names.index(name) for name in read.lines if name in plan.names), None)
    offsets = json.loads(plan.offsets[at] or "{}") if at is not None else {}
    return batch, {name: {int(part): end for part, end in parts.items()} for name, parts in offsets.items()}


def _made_again(checkpoint: Place, servers: str, topics: list[str], *, forget: bool) -> str:
    what = f"topic {topics[0]}" if len(topics) == 1 else f"topics {', '.join(topics)}"
    said = (
        f"checkpoint {checkpoint}: {what} at {servers} was deleted and made again after the query had read "
        "it, and Spark would skip its first records; start the query on a new checkpoint"
    )
    if forget or checkpoint.folder is None:
        return said
    return (
        f"{said}; or, to go on with the state that is here and read the new topic from its beginning: "
        "start(…, allow_changed_query=True)"
    )


def _in_words(servers: str, lost: Mapping[str, Mapping[int, int]]) -> str:
    """Say how many records are gone.

    Examples:
        >>> _in_words("localhost:9092", {"sales": {0: 1200, 1: 30}}).partition(" that")[0]
        'Kafka at localhost:9092 has deleted 1,230 records of topic sales'
    """
    said = []
    for name, parts in lost.items():
        each = ", ".join(f"partition {part}: {number:,}" for part, number in sorted(parts.items()))
        said.append(f"{sum(parts.values()):,} records of topic {name} that the query has not read ({each})")
    return f"Kafka at {servers} has deleted {' and '.join(said)}"


_CHECKPOINTS = "spark.sql.streaming.checkpointLocation"
_FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"

# What a checkpoint keeps over a restart, whatever the session has: Spark's key, and what it is.
KEPT = {
    "spark.sql.shuffle.partitions": "number of state partitions",
    STATE_STORE: "state store",
}


class Change(NamedTuple):
    """What must be changed in a checkpoint before Spark may use it: in words, and what does it."""

    what: str
    make: Callable[[], None]


@dataclass(frozen=True)
class Guarded:
    """A checkpoint that a query may use.

    Attributes:
        lock: for the caller to give to the query; None where none is needed.
        logs: of the checkpoint, or for the time of the block of a copy of it; None without a checkpoint.
        note: keeps in the checkpoint which query uses it; to be called when the query has started.
        changes: what was changed, or in a dry run would be, in words.
    """

    lock: Lock | None
    logs: Logs | None
    note: Callable[[], None]
    changes: tuple[str, ...] = ()


@contextmanager
def guard(
    frame: DataFrame,
    checkpoint: Place | None,
    name: str,
    mode: str,
    *,
    rewind_notes: Sequence[str] = (),
    writes: Mapping[str, Any] | None = None,
    allow_changed_query: bool = False,
    moved: Mapping[str | Path, str | Path] | None = None,
) -> Iterator[Guarded]:
    """Check that a query may continue from a checkpoint, and lock it.

    The query is started and noted in the `with` block: one that could not start has not changed whose
    checkpoint it is. After an error in the block the lock is released; a query that runs by then must have
    been stopped.

    Refused are a local path that other nodes cannot reach, a checkpoint that another live driver uses, a
    damaged one, a drained one (see `run`), one that a different query wrote, one whose file sources have
    read other folders (see `moved`), and one whose topics in Kafka are others by now, or lack records that
    come next (see `check_topics`). A checkpoint from before the kit is adopted, with a warning. Shuffle
    partitions or a state store that differ from the checkpoint's are a warning: Spark goes on with the
    checkpoint's and says nothing. So is what its file sources have lost (see `lost`), such as a planned
    file that has gone: its batch would be replayed without its rows.

    Where a checkpoint is not on a local path, as on HDFS or on a Spark Connect server elsewhere, a copy of
    its logs is looked at, and nothing is locked. Without a checkpoint, a query that keeps state is refused on
    a master whose nodes share no default file system.

    Args:
        frame: the query's streaming DataFrame.
        checkpoint: the folder; without one there is nothing to guard.
        name: the query's name.
        mode: its output mode.
        rewind_notes: what each of its sinks makes of a rewind, to be noted for `checkpoints.rewind`.
        writes: to where it writes which columns, to be noted for `checkpoints.evolve`.
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
        with at_hand(spark, checkpoint) as logs:
            _check_whole(logs)
            inputs, kept = inputs_of(frame), logs.note
            query = described(frame, name, mode, inputs)
            _check_query(spark, checkpoint, query, logs, allow_changed_query=allow_changed_query)
            check_order(logs, (kept or {}).get("sources"), query.get("sources"))
            changes = _leftovers(checkpoint, logs)
            changes += _moves(spark, inputs, checkpoint, logs, moved or {}, forget=allow_changed_query)
            ids, forgotten = check_topics(frame, checkpoint, logs, name, forget=allow_changed_query)
            changes += forgotten
            if ids:
                query["topics"] = ids
            if _dry_run.making():
                for change in changes:
                    change.make()
            for line in findings(logs, said=set(PASSED_OVER)):  # `run` says these
                _log.warning("query %s: %s", name, line)

            def note() -> None:
                noted = {**query, "sinks": list(rewind_notes), **(writes or {})}
                if noted != kept:
                    write_note(spark, checkpoint, noted)

            with in_force(spark, _file_manager(spark, checkpoint)), _explained(logs):
                yield Guarded(held, logs, note, tuple(change.what for change in changes))
    except BaseException:
        if held is not None:
            held.release()
        raise


@contextmanager
def _explained(logs: Logs) -> Iterator[None]:
    """Say which file of the checkpoint is damaged, if that made Spark fail: it has other words for it."""
    try:
        yield
    except (Py4JError, PySparkException) as err:
        cause = innermost_cause(err)
        if found := damage(logs.again(), whole=True) or unreadable(str(logs.root), f"{cause}\n{err}"):
            raise InvalidInputError(f"{found} (Spark: {cause})") from err
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


def _check_whole(logs: Logs) -> None:
    """Refuse a damaged checkpoint in clearer words than Spark has, and one that has come to its end."""
    if found := damage(logs) or doubled(logs) or drained(logs) or continued(logs):
        raise InvalidInputError(found)


def continued(logs: Logs, by: Path | None = None) -> str | None:
    """Say that a changed query continues from a checkpoint on one of its own; None if it does not."""
    file = logs.root / CONTINUED
    if not file.exists() or (new := file.read_text("utf-8")) == str(by):
        return None
    return (
        f"checkpoint {logs.root} was continued by a changed query on {new}; start that one. To go back to "
        f"this one before the other has written a batch: remove {file}"
    )


def described(frame: DataFrame, name: str, mode: str, inputs: Sequence[Input]) -> dict[str, Any]:
    """Return what is to be noted of a query."""
    query = {"name": name, "mode": mode, "fingerprint": fingerprint(frame, mode), **time_zone(frame, mode)}
    return query | ({"sources": [each.log for each in inputs]} if any(each.name for each in inputs) else {})


def _leftovers(checkpoint: Place, logs: Logs) -> list[Change]:
    """Return the removal of what a query has left that was killed, or failed, before it noted a batch.

    Spark takes half-written files for those of another query, and refuses the checkpoint for ever. The files
    that it has found and not read would be read although the query that starts now reads another folder. A
    checkpoint that only a Spark Connect server reaches keeps all this.
    """
    if logs.planned >= 0 or not checkpoint.is_in_reach:
        return []
    left = [
        f"{part}/{name}"
        for part in ("offsets", "commits", "state")
        for name in checkpoint.names(part)
        if name.startswith(".") and name.endswith((".tmp", ".tmp.crc"))
    ]
    if checkpoint.folder is not None and logs.entries("state"):  # in real time it comes before the note
        left.append("state")
    for source in logs.sources:
        for file in logs.entries(f"sources/{source}").values():
            with suppress(InvalidInputError):  # what other sources keep there stays
                log_file(file)
                left += [f"sources/{source}/.{file.name}.crc", f"sources/{source}/{file.name}"]

    def remove() -> None:
        for name in left:
            checkpoint.remove(name)

    return [Change("what a start has left that was killed is removed", remove)] if left else []


def _moves(
    spark: SparkSession,
    inputs: Sequence[Input],
    checkpoint: Place,
    logs: Logs,
    moved: Mapping[str | Path, str | Path],
    *,
    forget: bool,
) -> list[Change]:
    """Refuse other folders than those that were read, unless they have moved or are to be forgotten."""
    try:
        moves = find_moves(spark, logs, bases(spark, inputs), moved, forget=forget)
    except InvalidInputError as err:
        raise InvalidInputError(damage(logs, whole=True) or str(err)) from err
    if moves and checkpoint.folder is None:
        raise InvalidInputError(
            f"checkpoint {checkpoint} is not on a local path, where the names of the files that it has read "
            "could be changed; put the files back where they were, or start anew on another checkpoint"
        )
    return [
        Change(
            f"the files that source {each.log} has read are named under {each.new}",
            partial(rewrite, logs, each),
        )
        for each in moves
    ]


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
    logs: Logs,
    *,
    allow_changed_query: bool,
) -> None:
    """Refuse a checkpoint of a different query."""
    plan, kept, name = logs.last_plan, logs.note, query["name"]
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
    for key, what in KEPT.items():
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
