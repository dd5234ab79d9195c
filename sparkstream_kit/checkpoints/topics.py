"""The topics that a query reads from Kafka: whether its checkpoint knows these very topics, and what is lost.

Spark keeps the offset up to which it has read each partition, and compares offsets only. Of a topic that was
deleted and made again while the query was stopped it skips as many records as it had read of the former one,
in silence, also with `failOnDataLoss`. So the kit keeps the id that Kafka gives each topic, and compares it.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _dry_run
from sparkstream_kit._spark import kafka
from sparkstream_kit._spark.place import locate
from sparkstream_kit._spark.plan import inputs_of
from sparkstream_kit.checkpoints import _records, layout
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit._spark.plan import Input

__all__ = ["check", "what_is_lost"]

_log = logging.getLogger(__name__)

# What of a failure speaks of Kafka.
_OF_KAFKA = re.compile(r"failOnDataLoss|KAFKA_|org\.apache\.kafka|TopicPartition|OffsetOutOfRange")
_GO_ON = "to go on without: sources.kafka(…, failOnDataLoss=False)"
_Ids = dict[str, dict[str, str]]  # of the topics of each source, by its number


def check(frame: DataFrame, checkpoint: Place, name: str, noted: Mapping[str, Any], *, forget: bool) -> _Ids:
    """Refuse a checkpoint whose topics were made again, or whose next records Kafka has deleted.

    Args:
        frame: the query.
        checkpoint: its checkpoint.
        name: its name.
        noted: what this function returned at the last start; empty before the first.
        forget: take a topic that was made again for a new one, and read it from its beginning.

    Returns:
        The ids of the query's topics, to be noted; where Kafka cannot be asked, those of before.

    Raises:
        InvalidInputError: a refusal; the message has the way out.
    """
    spark = frame.sparkSession
    inputs = _of_kafka(frame)
    if not kafka.can_ask(spark):
        if inputs:
            _log.warning(
                "query %s: on Spark Connect Kafka cannot be asked whether a topic was deleted and made again "
                "while the query was stopped; Spark would skip its first records",
                name,
            )
        return dict(noted)
    ids: _Ids = {}
    for each in inputs:
        with kafka.client(spark, each.options) as client:
            source = _Source(client, checkpoint, each)
            former = dict(noted.get(each.log, {}))
            again = source.made_again(former)
            if again and not (forget and source.forget(again)):
                raise InvalidInputError(_made_again(checkpoint, source.servers, again, forget=forget))
            for said in source.losses():
                if source.fails_on_loss:
                    raise InvalidInputError(f"checkpoint {checkpoint}: {said}; {_GO_ON}")
                _log.warning("query %s: %s; it goes on without", name, said)
            ids[each.log] = former | {topic: found.id for topic, found in source.topics.items()}
    return ids


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
    noted = {} if place.folder is None else _records.noted(place.folder).get("topics", {})
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
        self._batch, self.offsets = _read_until(checkpoint, read)
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
            if noted.get(name, topic.id) != topic.id and (name in self.offsets or self._batch is None)
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

    def forget(self, topics: list[str]) -> bool:
        """Have Spark read topics from their beginning, as it reads new ones; say whether that can be.

        Raises:
            InvalidInputError: a batch was planned on the former topic, and would come again.
        """
        root = self._checkpoint.folder
        if root is None or self._batch is None:
            return False
        done, planned = self._batch, layout.newest(root / "offsets")
        if planned > done:
            raise InvalidInputError(
                f"checkpoint {root}: batch {planned} was planned on the former topic {topics[0]} and is not "
                f"committed; rewind first: {layout.command('rewind', root)} --to {done}"
            )
        if not _dry_run.making():
            return True
        left = {name: parts for name, parts in self.offsets.items() if name not in topics}
        text = json.dumps(left, separators=(",", ":"))
        layout.change_offsets(root / "offsets" / str(done), dict.fromkeys(self._lines, text))
        self.offsets = left
        return True


def _read_until(checkpoint: Place, read: Input) -> tuple[int | None, dict[str, dict[int, int]]]:
    """Return the last committed batch, and the offsets up to which a source had been read by its end.

    A batch that was planned and not committed begins there, too. Nothing is returned before the first one.
    """
    batch = max(checkpoint.entries("commits"), default=None)
    text = None if batch is None else checkpoint.read(f"offsets/{batch}")
    if text is None:
        return batch, {}
    plan = layout.plan_in(text)
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

    Example:
        >>> _in_words("localhost:9092", {"sales": {0: 1200, 1: 30}}).partition(" that")[0]
        'Kafka at localhost:9092 has deleted 1,230 records of topic sales'
    """
    said = []
    for name, parts in lost.items():
        each = ", ".join(f"partition {part}: {number:,}" for part, number in sorted(parts.items()))
        said.append(f"{sum(parts.values()):,} records of topic {name} that the query has not read ({each})")
    return f"Kafka at {servers} has deleted {' and '.join(said)}"
