"""The contract of sinks with a ledger, with one adaptor for each sink.

It is about damage, restored backups and ways out. Each row of the input has a number of
its own. New files land between a damage and the way out, and Spark would plan them into
the batch that it has lost. Whatever happens, the target has each row once, or each
total as a batch computation gives it.
"""

import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkstream_kit import connectors, run, sinks, sources, start
from sparkstream_kit._internal.spark.place import id_in_checkpoint, locate
from sparkstream_kit.checkpoints import clone, rewind
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks import Sink, ledger
from sparkstream_kit.sinks.base import open_batch_sink
from sparkstream_kit.sinks.ledger import Ledger

KEYS = 3  # of the totals
# Of a batch: the last one has room for a file more, so that to plan it anew gives
# another one
FILES = 2


@dataclass(frozen=True)
class Adaptor:
    """One way to write to one system.

    Attributes:
        sink: the sink.
        rows: what the target has: the numbers of all rows, or (key, total) of an
            upsert.
        mode: `append`, or `update` and `complete` for totals by key.
        skips: what a newer driver has written is skipped without a word in the moment
            between look and write.
    """

    sink: Sink
    rows: Callable[[], list[Any]]
    mode: str = "append"
    skips: bool = False


@dataclass
class Stream:
    """A query over files that runs over what is there, and the truth."""

    spark: SparkSession
    folder: Path
    adaptor: Adaptor
    landed: int = field(default=0, init=False)

    def __post_init__(self):
        self.input.mkdir()

    @property
    def input(self):
        return self.folder / "in"

    @property
    def checkpoint(self):
        return self.folder / "ckpt"

    def land(self, files):
        """Let files land, two rows in each, whose times say their order."""
        for number in range(self.landed, self.landed + files):
            file = self.input / f"{number:03}.csv"
            file.write_text(f"{2 * number}\n{2 * number + 1}\n")
            os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
        self.landed += files

    def frame(self):
        rows = sources.csv(
            self.spark, self.input, schema="n INT", max_files_per_trigger=FILES
        )
        if self.adaptor.mode == "append":
            return rows
        timely = rows.withColumn("time", F.timestamp_seconds("n")).withWatermark(
            "time", "1 hour"
        )
        return timely.groupBy((F.col("n") % KEYS).alias("k")).agg(
            F.sum("n").cast("long").alias("total")
        )

    def started(self, *, dry_run=False):
        return start(
            self.frame(),
            self.adaptor.sink,
            name="contract",
            mode=self.adaptor.mode,
            checkpoint=self.checkpoint,
            dry_run=dry_run,
            availableNow=True,
        )

    def go(self):
        run(self.started())

    def refused(self):
        """Return the line with which the query is refused, at its start or at its next batch."""
        try:
            self.go()
        except (InvalidInputError, QueryFailed) as err:
            return str(err)
        raise AssertionError("nothing was refused")

    def finish(self):
        """Run the query to the end of its input, by the ways out that a refusal prints."""
        for _ in range(3):
            try:
                self.go()
            except (InvalidInputError, QueryFailed) as err:
                self.take(str(err))
            else:
                return
        self.go()

    def take(self, line):
        """Take the way out that a line prints."""
        way = re.search(r"sparkstream checkpoint rewind (.*) --to (\d+)", line)
        assert way, line
        assert shlex.split(way[1]) == [str(self.checkpoint)]
        rewind(self.checkpoint, to=int(way[2]), apply=True)

    def check(self):
        """See that the target has the truth."""
        numbers = range(2 * self.landed)
        if self.adaptor.mode == "append":
            assert self.adaptor.rows() == list(numbers)
        else:
            truth = {
                key: sum(n for n in numbers if n % KEYS == key) for key in range(KEYS)
            }
            assert dict(self.adaptor.rows()) == truth

    @property
    def last(self):
        """The last batch that is planned."""
        return max(
            int(file.name) for file in (self.checkpoint / "offsets").glob("[0-9]*")
        )


def manners(name, spark, sink, checkpoint):
    """See that a sink of another system does at its start what each one does.

    No server is asked.
    """
    assert (sink.kind, sink.promise) == (name, connectors.systems()[name].sink)
    twice = spark.readStream.format("rate").load().select("value", "value")
    how: dict[str, Any] = {"name": "q", "mode": sink.modes[0], "checkpoint": checkpoint}
    with pytest.raises(
        InvalidInputError,
        match=r"^[^\n]*column value appears twice[^\n]*; rename[^\n]* one$",
    ):
        start(twice, sink, **how)


def remove(file):
    """Remove a file, with its checksum."""
    file.unlink()
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


def cut(file):
    """Cut a file off, as a power cut does."""
    file.write_bytes(file.read_bytes()[:5])


def before_commit(damage):
    """Return a damage to a checkpoint whose last batch is in the target and not yet committed."""

    def both(stream):
        last = stream.last
        damage(stream)
        remove(stream.checkpoint / "commits" / str(last))

    return both


def fenced(stream):
    """Start a second driver while the first is busy: the target refuses the first's writes.

        first:   [ batch 0 ]  [ batch 1: looked, computed …              … written ]  refused
        second:                                            [ batch 1, 2 ]              goes on

    The first one is refused again at the next batch that it tries, where the second has
    written since.
    """
    stream.land(FILES)
    stream.go()
    frame, place = stream.frame(), locate(stream.spark, stream.checkpoint)
    first = open_batch_sink(stream.adaptor.sink, frame, place)
    columns = [
        F.lit(-1).cast(field.dataType).alias(field.name) for field in frame.schema
    ]
    rows, is_written = stream.spark.range(1).select(*columns), Ledger.is_written

    def after_the_second(rules, batch):
        found = is_written(rules, batch)
        patch.undo()
        stream.land(FILES + 1)
        stream.go()
        return found

    stream.spark.sparkContext.setLocalProperty(
        "sql.streaming.queryId", id_in_checkpoint(place)
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ledger, "is_written", after_the_second)
            # It was planned in the first's own way
            patch.setattr(ledger, "plan_of", lambda *_: None)
            if stream.adaptor.skips:
                first(rows, 1)
            else:
                with pytest.raises(InvalidInputError, match=FENCED):
                    first(rows, 1)
        stream.check()
        with pytest.raises(InvalidInputError, match=FENCED):
            first(rows, stream.last)
    finally:
        stream.spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
    stream.land(1)
    stream.go()
    stream.check()


FENCED = (
    r"another driver has started to write to .* \(epoch \d+, process \d+ on \S+ since"
    r" .*\); this one ends"
)


def newest_log(stream):
    log = stream.checkpoint / "sources" / "0"
    return max(log.glob("[0-9]*"), key=lambda file: (int(file.stem), file.suffix))


DAMAGES: dict[str, Callable[[Stream], None]] = {
    "plan cut": lambda stream: cut(stream.checkpoint / "offsets" / str(stream.last)),
    "plan cut before the commit": before_commit(
        lambda stream: cut(stream.checkpoint / "offsets" / str(stream.last))
    ),
    "plan lost before the commit": before_commit(
        lambda stream: remove(stream.checkpoint / "offsets" / str(stream.last))
    ),
    "files cut": lambda stream: cut(newest_log(stream)),
    "files cut before the commit": before_commit(
        lambda stream: cut(newest_log(stream))
    ),
    "files lost": lambda stream: remove(newest_log(stream)),
    "files lost before the commit": before_commit(
        lambda stream: remove(newest_log(stream))
    ),
}


def lost(stream, how):
    """Lose the last plan by a damage, in a backup or to a second driver: each row is there once."""
    if how == "a second driver":
        fenced(stream)
    elif how == "a backup":
        restored(stream, older=1)
        stream.finish()
        stream.check()
    else:
        damaged(stream, how)


LOSSES = ("plan cut", "plan lost before the commit", "a backup", "a second driver")


def damaged(stream, damage, batches=2):
    """Damage a checkpoint, let new files land, and take the ways out: each row is there once."""
    stream.land(FILES * batches - 1)
    stream.go()
    DAMAGES[damage](stream)
    stream.land(2)
    stream.finish()
    stream.check()


def restored(stream, older, batches=1):
    """Put a checkpoint back from a backup that is some batches older than its target."""
    stream.land(FILES * batches)
    stream.go()
    backup = clone(stream.checkpoint, stream.folder / "backup")
    for _ in range(older):
        stream.land(1)
        stream.go()
    shutil.rmtree(stream.checkpoint)
    clone(backup, stream.checkpoint)
    stream.land(2)


LACKING = (
    r"made again|was deleted|was removed|is gone|is empty|holds none of this query's"
    r" batches"
)


def a_target_made_again_is_refused(stream, change):
    """Remove the target, or make it again: the next start is refused, and writes nothing.

    Made again, it has no rows. A new checkpoint is the way out: it writes all rows.

    Args:
        stream: the stream.
        change: a function that makes the target again, or removes it.
    """
    stream.land(FILES)
    stream.go()
    change()
    stream.land(1)
    line = stream.refused()
    assert re.search(LACKING, line), line
    assert "\n" not in line
    shutil.rmtree(stream.checkpoint)
    stream.go()
    stream.check()


def a_target_made_again_under_a_running_query_is_refused(stream, change):
    """Do the same between two batches of a running query: the next batch is refused.

    It writes nothing.
    """

    def after_the_first(_rows, batch_id):
        if batch_id == 0:
            change()

    sink = stream.adaptor.sink
    both = sinks.fan_out(sink, sinks.foreach_batch(after_the_first))
    stream.adaptor = replace(stream.adaptor, sink=both)
    stream.land(2 * FILES)
    line = stream.refused()
    assert re.search(LACKING, line), line
    stream.adaptor = replace(stream.adaptor, sink=sink)
    shutil.rmtree(stream.checkpoint)
    stream.go()
    stream.check()
