"""What `start` asks of a checkpoint before Spark may use it: is it whole, of this query, of these inputs?

`QUESTIONS`, at the end, lists what is asked; `guard` asks it, and does what the answers tell.

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
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from sparkstream_kit._files import plain
from sparkstream_kit._spark import plan as kafka
from sparkstream_kit._spark.place import locate
from sparkstream_kit._spark.plan import inputs_of
from sparkstream_kit._spark.session import other_master
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.checkpoints.check import damage, unreadable
from sparkstream_kit.checkpoints.drain import drained
from sparkstream_kit.checkpoints.fingerprint import differences, fingerprint, time_zone
from sparkstream_kit.checkpoints.lock import Lock, check_free, lock
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
from sparkstream_kit.checkpoints.moved import bases, find_moves, rewrite
from sparkstream_kit.errors import InvalidInputError, innermost_cause
from sparkstream_kit.profiles import STATE_STORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit._spark.plan import Input


_log = logging.getLogger(__name__)

_CHECKPOINTS = "spark.sql.streaming.checkpointLocation"
_FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"

# What a checkpoint keeps over a restart, whatever the session has: Spark's key, and what it is.
KEPT = {
    "spark.sql.shuffle.partitions": "number of state partitions",
    STATE_STORE: "state store",
}


class Remark(NamedTuple):
    """What is to be said to the user; the query can go on."""

    what: str


class Change(NamedTuple):
    """What must be changed in a checkpoint before Spark may use it: in words, and what does it."""

    what: str
    make: Callable[[], None]


class Known(NamedTuple):
    """What is to be noted in the checkpoint beside the query, for its next start."""

    name: str
    value: Any


Answer = Remark | Change | Known


@dataclass(frozen=True)
class Query:
    """A query that asks for a checkpoint.

    Attributes:
        frame: its streaming DataFrame.
        name: its name.
        mode: its output mode.
        allow_changed: go on although a different query wrote the checkpoint.
        moved: folders of input files that have moved since, as {old: new}.
    """

    frame: DataFrame
    name: str
    mode: str
    allow_changed: bool
    moved: Mapping[str | Path, str | Path]

    @property
    def spark(self) -> SparkSession:
        """Its session."""
        return self.frame.sparkSession

    @cached_property
    def inputs(self) -> list[Input]:
        """What it reads."""
        return inputs_of(self.frame)

    @cached_property
    def described(self) -> dict[str, Any]:
        """What is noted of it in its checkpoint."""
        kept = fingerprint(self.frame, self.mode)
        found: dict[str, Any] = {"name": self.name, "mode": self.mode, "fingerprint": kept}
        if any(each.name for each in self.inputs):
            found["sources"] = [each.log for each in self.inputs]
        return found | time_zone(self.frame, self.mode)


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
    writes: Mapping[str, Any] | None = None,
    allow_changed_query: bool = False,
    moved: Mapping[str | Path, str | Path] | None = None,
    dry_run: bool = False,
) -> Iterator[Guarded]:
    """Check that a query may continue from a checkpoint, and lock it.

    The query is started and noted in the `with` block: one that could not start has not changed whose
    checkpoint it is. After an error in the block the lock is released; a query that runs by then must have
    been stopped.

    Refused are a local path that other nodes cannot reach, a checkpoint that another live driver uses, and
    what a question of `QUESTIONS` refuses. When all have been asked, their remarks are logged, their changes
    are made, and what the file sources have lost is logged (see `lost`), such as a planned file that has
    gone: its batch would be replayed without its rows.

    Where a checkpoint is not on a local path, as on HDFS, a copy of its logs is looked at, and nothing is
    locked; one that only a Spark Connect server elsewhere reaches is not looked at. Without a checkpoint, a
    query that keeps state is refused on a master whose nodes share no default file system.

    Args:
        frame: the query's streaming DataFrame.
        checkpoint: the folder; without one there is nothing to guard.
        name: the query's name.
        mode: its output mode.
        writes: what is to be noted of its sinks: for `checkpoints.rewind` what each makes of it, and for
            `start(…, continues=…)` to where which columns are written.
        allow_changed_query: go on although a different query wrote the checkpoint, and note the new one.
        moved: folders of input files that have moved since, as {old: new}.
        dry_run: lock nothing, and change nothing.

    Yields:
        What the query may use, and what notes it.

    Raises:
        InvalidInputError: a refusal; the message has the way out.
    """
    query = Query(frame, name, mode, allow_changed_query, moved or {})
    spark = query.spark
    if checkpoint is None:
        _check_temporary(query)
    if checkpoint is None or not checkpoint.is_in_reach:
        yield Guarded(None, None, lambda: None)
        return
    check_reach(spark, checkpoint)
    if dry_run:
        check_free(checkpoint)
    held = None if dry_run else lock(spark, checkpoint, name)
    try:
        with at_hand(checkpoint) as logs:
            answers = [answer for question in QUESTIONS for answer in question(query, logs)]
            kept = logs.note
            changes = [answer for answer in answers if isinstance(answer, Change)]
            known = {each.name: each.value for each in answers if isinstance(each, Known) and each.value}
            said = [answer.what for answer in answers if isinstance(answer, Remark)]
            for change in () if dry_run else changes:
                change.make()
            lost = findings(logs, said=set(PASSED_OVER))  # `run` says these
            for line in (*said, *(f"query {name}: {each}" for each in lost)):
                _log.warning("%s", line)

            def note() -> None:
                noted = {**query.described, **known, **(writes or {})}
                if noted != kept:
                    write_note(checkpoint, noted)

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


def _check_temporary(query: Query) -> None:
    """Refuse a query that would keep its state in a temporary folder of each node's own.

    Where the default file system is not the local one, Spark puts temporary checkpoints there.
    """
    spark, name = query.spark, query.name
    master = other_master(spark)
    if master is None or spark.conf.get(_CHECKPOINTS, None) or locate(spark, "/").folder is None:
        return
    if query.described["fingerprint"]:
        raise InvalidInputError(
            f"query {name} keeps state and has no checkpoint, and the master is {master}, whose nodes would "
            "each keep a part of it on a disk of their own; give a checkpoint that they share, such as "
            f"hdfs://namenode/checkpoints/{name}, or make such a file system the default one (fs.defaultFS)"
        )


def check_reach(spark: SparkSession, checkpoint: Place) -> None:
    """Refuse a folder of this machine where others write the state; `file:///…` says that they share it."""
    master, is_plain = other_master(spark), plain(checkpoint.text) == checkpoint.text
    if master is not None and is_plain and checkpoint.folder is not None:
        raise InvalidInputError(
            f"checkpoint {checkpoint} is a local path, but the master is {master}, whose nodes all write to "
            "it; give a path that they share, such as hdfs://namenode/checkpoints or s3a://bucket/ckpt, or, "
            f"if they share this folder, file://{checkpoint.folder}"
        )


def _is_whole(_query: Query, logs: Logs) -> Iterable[Answer]:
    """Ask whether the files are whole, and have not come to their end; in clearer words than Spark has."""
    if found := damage(logs) or doubled(logs) or drained(logs) or continued(logs):
        raise InvalidInputError(found)
    return ()


def continued(logs: Logs, by: Path | None = None) -> str | None:
    """Say that a changed query continues from a checkpoint on one of its own; None if it does not."""
    file = logs.root / CONTINUED
    if not file.exists() or (new := file.read_text("utf-8")) == str(by):
        return None
    return (
        f"checkpoint {logs.root} was continued by a changed query on {new}; start that one. To go back to "
        f"this one before the other has written a batch: remove {file}"
    )


def _is_of_this_query(query: Query, logs: Logs) -> Iterator[Answer]:
    """Ask whether this query wrote the checkpoint, and which of its settings Spark keeps in silence."""
    plan, kept = logs.last_plan, logs.note
    if plan is None:  # no batch was ever planned
        return
    if kept is None:
        yield Remark(
            f"checkpoint {logs.place} was not written by sparkstream-kit; assuming it belongs to query "
            f"{query.name}. Other queries will be refused from now on."
        )
    elif not query.allow_changed and (found := _differences(query, kept)):
        raise InvalidInputError(
            f"checkpoint {logs.place} was written by a different query: {query.name} "
            f"{', and '.join(found)}. Give it a checkpoint of its own, and continues={str(logs.place)!r} to "
            "go on where this one stands; or, to go on with the state that is there, allow_changed_query=True"
        )
    for key, what in KEPT.items() if query.described["fingerprint"] else ():
        stays, wanted = plan.conf.get(key), query.spark.conf.get(key)
        if stays is not None and stays != wanted:
            yield Remark(
                f"query {query.name} uses the {what} stored in checkpoint {logs.place} ({stays}); your "
                f"setting {key}={wanted} has no effect. Start from a new checkpoint to change it."
            )


def _differences(query: Query, kept: Mapping[str, Any]) -> list[str]:
    """Say in words what makes a query another than the one that was noted."""
    caseless, now = query.spark.conf.get("spark.sql.caseSensitive") != "true", query.described
    found = differences(kept["fingerprint"], now["fingerprint"], caseless=caseless)
    zone, former = now.get("time zone"), kept.get("time zone")
    if zone and former and zone != former:
        found.append(f"computes dates and hours in the time zone {zone}; the checkpoint's query in {former}")
    if query.mode == "complete" != kept["mode"] and "EventTimeWatermark" in now["fingerprint"]:
        found.append(
            f"has mode complete; mode {kept['mode']} has dropped from the state what the watermark had "
            "passed, and the result would lack it"
        )
    return found


def _has_sources_in_order(query: Query, logs: Logs) -> Iterable[Answer]:
    """Ask whether named sources stand in their order, where the checkpoint has them by their places alone."""
    former, names, plan = (logs.note or {}).get("sources"), query.described.get("sources"), logs.last_plan
    if not former or plan is None or plan.names != tuple(map(str, range(len(former)))):
        return ()
    if former != names:  # Spark would take the offset of one source for that of another
        raise InvalidInputError(
            f"checkpoint {logs.root}: the query that wrote it reads the sources {', '.join(former)}, in "
            f"this order, and this query reads {', '.join(names or ['no named source'])}; put them back in "
            "that order, or start anew on another checkpoint"
        )
    return ()


def _leftovers(_query: Query, logs: Logs) -> Iterator[Answer]:
    """Ask what a query has left that was killed, or failed, before it planned a batch.

    Spark takes half-written files for those of another query, and refuses the checkpoint for ever. The files
    that it has found and not read would be read although the query that starts now reads another folder.
    """
    checkpoint = logs.place
    if logs.planned >= 0:
        return
    left = [
        f"{part}/{name}"
        for part in ("offsets", "commits", "state")
        for name in checkpoint.names(part)
        if name.startswith(".") and name.endswith((".tmp", ".tmp.crc"))
    ]
    if checkpoint.folder is not None and logs.entries("state"):  # in real time it comes before the plan
        left.append("state")
    for source in logs.sources:
        for file in logs.entries(f"sources/{source}").values():
            with suppress(InvalidInputError):  # what other sources keep there stays
                log_file(file)
                left += [f"sources/{source}/.{file.name}.crc", f"sources/{source}/{file.name}"]

    def remove() -> None:
        for name in left:
            checkpoint.remove(name)

    if left:
        yield Change("what a start has left that was killed is removed", remove)


def _has_its_folders(query: Query, logs: Logs) -> Iterator[Answer]:
    """Ask whether the file sources have read the folders that they read now, or these have moved."""
    folders = bases(query.spark, query.inputs)
    try:
        moves = find_moves(query.spark, logs, folders, query.moved, forget=query.allow_changed)
    except InvalidInputError as err:
        raise InvalidInputError(damage(logs, whole=True) or str(err)) from err
    if moves and logs.place.folder is None:
        raise InvalidInputError(
            f"checkpoint {logs.place} is not on a local path, where the names of the files that it has read "
            "could be changed; put the files back where they were, or start anew on another checkpoint"
        )
    for each in moves:
        what = f"the files that source {each.log} has read are named under {each.new}"
        yield Change(what, partial(rewrite, logs, each))


def _file_manager(spark: SparkSession, checkpoint: Place) -> dict[str, None]:
    """Leave a checkpoint on another file system to Spark's own way of writing, whatever the profile has."""
    given = str(spark.conf.get(_FILE_MANAGER, ""))
    only_local = given.endswith(".FileSystemBasedCheckpointFileManager")
    if not only_local or checkpoint.folder is not None:
        return {}
    _log.warning(
        "checkpoint %s is not on a local disk: it is written in Spark's own way, and not by %s",
        checkpoint.text,
        _FILE_MANAGER,
    )
    return {_FILE_MANAGER: None}


# What of a failure speaks of Kafka.
_OF_KAFKA = re.compile(r"failOnDataLoss|KAFKA_|org\.apache\.kafka|TopicPartition|OffsetOutOfRange")
GO_ON = "to go on without: sources.kafka(…, failOnDataLoss=False)"


def _topics(query: Query, logs: Logs) -> Iterator[Answer]:
    """Ask whether the topics were made again, or have lost the records that come next.

    A topic that was made again is read from its beginning if a changed query is allowed. To be noted are the
    ids of the topics; where Kafka cannot be asked, those of before.
    """
    spark, checkpoint, noted = query.spark, logs.place, logs.noted.get("topics", {})
    inputs = [each for each in query.inputs if each.kind == "kafka"]
    if not kafka.can_ask(spark):
        if inputs:
            yield Remark(
                f"query {query.name}: on Spark Connect Kafka cannot be asked whether a topic was deleted and "
                "made again while the query was stopped; Spark would skip its first records"
            )
        yield Known("topics", dict(noted))
        return
    ids: dict[str, dict[str, str]] = {}  # of the topics of each source, by its log
    for each in inputs:
        with kafka.client(spark, each.options) as client:
            source = Topics(client, each, *_read_until(checkpoint, each))
            former = dict(noted.get(each.log, {}))
            if again := source.made_again(former):
                forget = query.allow_changed
                if not forget or checkpoint.folder is None or source.batch is None:
                    raise InvalidInputError(_made_again(checkpoint, source.servers, again, forget=forget))
                yield source.forget(again, logs)
            for said in source.losses():
                if source.fails_on_loss:
                    raise InvalidInputError(f"checkpoint {checkpoint}: {said}; {GO_ON}")
                yield Remark(f"query {query.name}: {said}; it goes on without")
            ids[each.log] = former | {topic: found.id for topic, found in source.topics.items()}
    yield Known("topics", ids)


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
    for each in [each for each in inputs_of(frame) if each.kind == "kafka"]:
        try:
            with kafka.client(spark, each.options) as client:
                source = Topics(client, each, *_read_until(place, each))
                if again := source.made_again(noted.get(each.log, {})):
                    return _made_again(place, source.servers, again, forget=False)
                for said in source.losses():
                    return f"{said}; {GO_ON}"
        except InvalidInputError as err:
            return str(err)
    return None


class Topics:
    """A Kafka source of a query: the topics that it reads now, and from where it is to read them.

    Args:
        client: asks the source's brokers.
        read: the source.
        batch: the last committed batch.
        offsets: from where the source is to read each partition of each topic that it has read.
    """

    def __init__(
        self,
        client: kafka.Client,
        read: Input,
        batch: int | None,
        offsets: Mapping[str, Mapping[int, int]],
    ) -> None:
        options = read.options
        self.servers = options["kafka.bootstrap.servers"]
        self.fails_on_loss = options.get("failondataloss", "true").lower() != "false"
        self._client = client
        self._lines = read.lines
        self.batch, self.offsets = batch, offsets
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

        `losses` no longer speaks of them.

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
    return batch, offsets_in(plan.offsets[at] or "{}" if at is not None else "{}")


def offsets_in(text: str) -> dict[str, dict[int, int]]:
    """Return the offsets of a Kafka source, of each topic's partitions, from Spark's text."""
    found = json.loads(text)
    return {name: {int(part): end for part, end in parts.items()} for name, parts in found.items()}


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
        said.append(f"{sum(parts.values()):,} records of topic {name} that were still to be read ({each})")
    return f"Kafka at {servers} has deleted {' and '.join(said)}"


# What `guard` asks of a checkpoint, in this order. A question is a function of the query and the logs of its
# checkpoint that changes neither: it refuses by an InvalidInputError, and else tells what is to be said,
# changed and noted.
QUESTIONS: tuple[Callable[[Query, Logs], Iterable[Answer]], ...] = (
    _is_whole,
    _is_of_this_query,
    _has_sources_in_order,
    _leftovers,
    _has_its_folders,
    _topics,
)
