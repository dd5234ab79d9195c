"""Read a query's input again: plan batches in a new checkpoint, and have Spark run them.

Spark runs a batch that is in `offsets` and not in `commits` exactly as it was planned.
So the functions here find what the sources of a checkpoint have read (`end_offsets_of`,
`splits_of`), cut it into batches (`in_batches`), plan each batch in a new checkpoint
(`copy_sources`, `write_plan`), and run it with the trigger `once` (`run_planned`). So
`evolve` builds a changed query's state, and `shadow` compares its rows. `batch` returns
the rows of one batch, run once more on a copy.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
import time
import uuid
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import quoted
from sparkstream_kit._internal.spark.batch import begin, hand_over
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import in_force, other_master
from sparkstream_kit.checkpoints.damage import newer_state
from sparkstream_kit.checkpoints.fingerprint import differences, fingerprint
from sparkstream_kit.checkpoints.guard import StartingQuery
from sparkstream_kit.checkpoints.logs import KIT, Logs, replace
from sparkstream_kit.checkpoints.moved import bases, find_moves, renamed, rewrite
from sparkstream_kit.checkpoints.operate.check import checkpoint
from sparkstream_kit.checkpoints.operate.clone import point_at
from sparkstream_kit.checkpoints.operate.find import every_input
from sparkstream_kit.checkpoints.trim import restore
from sparkstream_kit.connectors.kafka import brokers
from sparkstream_kit.errors import (
    InvalidInputError,
    count,
    innermost_cause,
    said_by_spark,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._internal.spark.logical_plan import Input
    from sparkstream_kit.checkpoints.logs import InputFile
    from sparkstream_kit.checkpoints.moved import Move


_log = logging.getLogger(__name__)

# The most that one batch of a build reads. A batch may be larger if one entry of the
# old query's file log is, or if otherwise the build would have more batches than the
# old query had.
_MOST_BYTES = 256 << 20
_MOST_FILES = 2_000
_MOST_RECORDS = 1_000_000

_LINES = 20  # the most lines that say which batch is run

# By default Delta refuses to read a version that is older than its retention, also if
# all files are there.
_OLD_VERSIONS = {
    "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": (
        "false"
    )
}

# A file that has gone fails a batch, also where the session says to go on without it.
_REPLAY = {"spark.sql.files.ignoreMissingFiles": "false"}

# The folders of rows that were returned, until Python ends
KEPT: list[TemporaryDirectory[str]] = []


# The offset, as Spark's text, up to which each source is read, by the name of its log;
# None: nothing is read.
EndOffsets = dict[str, str | None]

# By topic and partition of Kafka
_Offsets = dict[str, dict[int, int]]


class Unreadable(InvalidInputError):  # noqa: N818 - the name says what is wrong
    """A checkpoint's input cannot be read again; the text is the reason, for a caller's message."""


def scratch(spark: SparkSession, what: str) -> TemporaryDirectory[str]:
    """Return a new temporary folder for a run of `shadow` or `batch` and the rows it keeps.

    Raises:
        InvalidInputError: Spark writes rows on other machines, where the folder would
            be another one.
    """
    others = other_master(spark)
    if (
        not others
        and locate(spark, file_system.for_spark(Path(gettempdir()))).folder is None
    ):
        others = "a Spark Connect server elsewhere"
    if others:
        raise InvalidInputError(
            f"checkpoints.{what}(): it keeps its rows in a temporary folder of this"
            f" machine, which {others} does not have; use a session of this process"
            " with the master local[*]"
        )
    # `ignore_cleanup_errors`, because Spark may still maintain the state store of the
    # run.
    return TemporaryDirectory(prefix=f"sparkstream-{what}-", ignore_cleanup_errors=True)


def end_offsets_of(logs: Logs, batch: int) -> EndOffsets:
    """Return the offsets up to which a batch of the old query reads the sources."""
    plan = logs.plan(batch)
    return dict(zip(logs.names(plan), plan.offsets, strict=True))


def moves_of(query: StartingQuery, logs: Logs, end_offsets: EndOffsets) -> list[Move]:
    """Check that a query's sources are a checkpoint's, and return the moves of their folders.

    Raises:
        Unreadable: a source cannot be read from its beginning, or the checkpoint has
            other sources.
        InvalidInputError: as for `find_moves`.
    """
    inputs = query.inputs
    others = [
        str(source)
        for source in inputs
        if source.path is None and source.kind not in ("kafka", "delta")
    ]
    if others:
        raise Unreadable(
            "only files, topics and Delta tables are read again from their beginning,"
            f" not {others[0]}"
        )
    added = [str(source) for source in inputs if source.log not in end_offsets]
    if added:
        raise Unreadable(f"{added[0]} is a new source")
    dropped = sorted({*end_offsets} - {source.log for source in inputs})
    if dropped:
        raise Unreadable(
            f"the new query does not read source {dropped[0]} of the old one"
        )
    for source in inputs:
        end = end_offsets[source.log]
        if end and _kind(end) != source.kind:
            raise Unreadable(f"its source {source.log} did not read {source}")
    reread_hint = "a new checkpoint, without continues="
    return find_moves(
        query.spark,
        logs,
        bases(query.spark, inputs),
        query.moved,
        reread_hint=reread_hint,
    )


def _kind(offset: str) -> str:
    """Return the kind of source that wrote an offset, as in `Input.kind`; "" for any other.

    Examples:
        >>> _kind('{"logOffset":4}'), _kind('{"orders":{"0":17}}'), _kind("42")
        ('files', 'kafka', '')
    """
    if not offset.startswith("{"):
        return ""
    value = json.loads(offset)
    if "logOffset" in value:
        return "files"
    if "reservoirId" in value:
        return "delta"
    is_by_topic = all(isinstance(part, dict) for part in value.values())
    return "kafka" if is_by_topic else ""


class InputSplit(NamedTuple):
    """A part of a source's input that one batch of the build reads as a whole.

    Attributes:
        log: the name of the source's log.
        end: the offset at the end of the part, as Spark's text.
        size: the part's share of a full batch; 1 is a full batch.
        amount: the number of files, records or tables in it.
        unit: the unit of the amount: "file", "record" or "Delta table".
    """

    log: str
    end: str
    size: float
    amount: int
    unit: str


def splits_of(
    query: StartingQuery,
    logs: Logs,
    source: Input,
    until: str | None,
    moves: Sequence[Move],
    *,
    refuses_loss: bool = False,
) -> Iterator[InputSplit]:
    """Split what the old query has read from a source into splits; refuse input that is lost.

    With `refuses_loss`, lost records of Kafka are refused although the source has
    `failOnDataLoss=False`.
    """
    if until is None:
        return
    if source.path is not None:
        yield from _file_splits(logs, source.log, until, moves)
    elif source.kind == "delta":
        yield from _table_split(query.spark, logs, source, until)
    else:
        yield from _record_splits(
            query.spark, logs, source, until, refuses_loss=refuses_loss
        )


def _present_files(
    files: Sequence[InputFile], log: str, moves: Sequence[Move]
) -> Sequence[InputFile]:
    """Return files that a source has read by their present paths; refuse lost or changed ones."""
    for move in moves:
        if move.log == log:
            files = [file._replace(uri=renamed(file.uri, move)) for file in files]
    if gone_files := [file for file in files if file.is_gone]:
        raise Unreadable(
            f"{_share(gone_files, files)} gone, such as {gone_files[0].path}"
        )
    if changed_files := [file for file in files if file.is_changed]:
        share = _share(changed_files, files)
        raise Unreadable(f"{share} changed since, such as {changed_files[0].path}")
    return files


def _share(lost: Sequence[InputFile], files: Sequence[InputFile]) -> str:
    """Return the beginning of a sentence that says how many of a source's files are lost."""
    total = count(len(files), "file")
    return f"{len(lost):,} of the {total} that it has read have"


def _file_splits(
    logs: Logs, log: str, until: str, moves: Sequence[Move]
) -> Iterator[InputSplit]:
    """Yield a split for each entry of a file source's log.

    Raises:
        InvalidInputError: a file no longer exists or has changed, or Spark would
            misread it because of its name.
    """
    last = json.loads(until)["logOffset"]
    sizes = defaultdict[int, list[float]](list)
    for file in _present_files(every_input(logs, log, last), log, moves):
        if file.path and file_system.is_pattern(file.path):
            raise Unreadable(
                f"Spark reads {file.path} rightly only in a batch of its own"
            )
        size = Path(file.path).stat().st_size / _MOST_BYTES if file.path else 0
        sizes[file.entry].append(max(size, 1 / _MOST_FILES))
    for entry, of_files in sorted(sizes.items()):
        # Without spaces, as Spark writes it: Spark compares offsets as texts, and would
        # see new input.
        end = json.dumps({"logOffset": entry}, separators=(",", ":"))
        yield InputSplit(log, end, sum(of_files), len(of_files), "file")


def _begin_offsets(
    spark: SparkSession,
    logs: Logs,
    source: Input,
    until: str,
    since: str | None = None,
    *,
    refuses_loss: bool,
) -> _Offsets:
    """Return the offsets at which the records of a Kafka source begin that are to be read again.

    Args:
        spark: the session.
        logs: the logs of the checkpoint.
        source: the source.
        until: the offset at their end, as Spark's text.
        since: the offset before them; None for where the query began.
        refuses_loss: refuse lost records also if the source has `failOnDataLoss=False`.

    Raises:
        InvalidInputError: Kafka cannot be asked (Spark Connect), a topic was deleted
            and made again, or records are lost.
    """
    if not brokers.can_ask(spark):
        raise Unreadable(
            "on Spark Connect Kafka cannot be asked what it still has; use a session of"
            " this process (unset SPARK_REMOTE)"
        )
    last = brokers.offsets_in(until)
    first = brokers.offsets_in(since or logs.first_offset(source.log))
    # A partition that was added later was read from its first record.
    begin = {}
    for topic, partitions in last.items():
        first_offsets = first.get(topic, {})
        begin[topic] = {
            partition: first_offsets.get(partition, 0) for partition in partitions
        }
    with brokers.client(spark, source.options) as client:
        topics = brokers.Topics(client, source, logs.done, begin)
        if recreated := topics.recreated(
            logs.noted.get("topics", {}).get(source.log, {})
        ):
            raise Unreadable(f"topic {recreated[0]} was deleted and made again since")
        for lost in topics.losses():
            if refuses_loss or topics.fails_on_loss:
                raise Unreadable(lost if refuses_loss else f"{lost}; {brokers.GO_ON}")
            _log.warning(
                "checkpoint %s is continued without what is lost: %s", logs.root, lost
            )
    return begin


def _record_splits(
    spark: SparkSession, logs: Logs, source: Input, until: str, *, refuses_loss: bool
) -> Iterator[InputSplit]:
    """Yield splits of the topics of a Kafka source, from the offsets at which the old query began.

    Raises:
        InvalidInputError: as for `_begin_offsets`.
    """
    last = brokers.offsets_in(until)
    begin = _begin_offsets(spark, logs, source, until, refuses_loss=refuses_loss)
    total = 0
    for topic, partitions in begin.items():
        for partition, offset in partitions.items():
            total += last[topic][partition] - offset
    steps = max(math.ceil(total / _MOST_RECORDS), 1)
    for step in range(1, steps + 1):
        end = until
        if step < steps:
            offsets = _offsets_at(step, steps, begin, last)
            end = json.dumps(offsets, separators=(",", ":"))
        records = total * step // steps - total * (step - 1) // steps
        yield InputSplit(
            source.log, end, total / steps / _MOST_RECORDS, records, "record"
        )


def _offsets_at(step: int, steps: int, first: _Offsets, last: _Offsets) -> _Offsets:
    """Return the offsets after one of so many equal steps from the first offsets to the last.

    Examples:
        >>> _offsets_at(1, 3, {"orders": {0: 10, 1: 0}}, {"orders": {0: 40, 1: 3}})
        {'orders': {0: 20, 1: 1}}
    """
    offsets = {}
    for topic, partitions in first.items():
        offsets[topic] = {
            partition: offset + (last[topic][partition] - offset) * step // steps
            for partition, offset in partitions.items()
        }
    return offsets


def _table_split(
    spark: SparkSession, logs: Logs, source: Input, until: str
) -> Iterator[InputSplit]:
    """Yield a Delta table as one split: Delta reads one version of it, and the commits that follow.

    Raises:
        InvalidInputError: the plan does not say where the table is (Spark Connect), an
            option leaves out rows, another table is there now, or the version or some
            of its files no longer exist.
    """
    offset = json.loads(until)
    path = source.options.get("path")
    if path is None:
        raise Unreadable(
            "on Spark Connect the path of its Delta table is not known; use a session"
            " of this process (unset SPARK_REMOTE)"
        )
    if others := source.leaves_out or logs.noted.get("left out", {}).get(source.log):
        raise Unreadable(
            f"with option {others[0]} not all rows of its Delta table are read"
        )
    version = offset["reservoirVersion"]
    if not offset["isStartingVersion"]:
        version -= 1
    try:
        gone_files = _gone_of_table(spark, path, offset["reservoirId"], version)
    except (OSError, Py4JJavaError, PySparkException) as err:
        raise Unreadable(
            f"its Delta table cannot be read again ({said_by_spark(err)})"
        ) from None
    if gone_files:
        raise Unreadable(
            f"{count(len(gone_files), 'file')} of version {version} of its Delta table have"
            " gone"
        )
    yield InputSplit(source.log, until, 1, 1, "Delta table")


def _gone_of_table(
    spark: SparkSession, path: str, table_id: str, version: int
) -> set[str]:
    """Return the files of a version of a Delta table that no longer exist.

    Raises:
        Unreadable: the table at the path has another id.
    """
    with in_force(spark, _OLD_VERSIONS):
        details = spark.sql(f"DESCRIBE DETAIL delta.{quoted(path)}")
        [table] = details.select("id").collect()
        if table.id != table_id:
            raise Unreadable(f"another Delta table is at {path} now")
        rows = spark.read.format("delta").option("versionAsOf", version).load(path)
        files = {*rows.inputFiles()}
    existing: set[str] = set()
    for folder in {file.rpartition("/")[0] for file in files}:
        names = locate(spark, folder).names()
        existing.update(f"{folder}/{name}" for name in names)
    return files - existing


def amounts(splits: Sequence[InputSplit]) -> str:
    """Return how much input splits have, as text, such as "12 files and 3,000 records"."""
    totals = Counter[str]()
    for split in splits:
        totals[split.unit] += split.amount
    return (
        " and ".join(count(total, unit) for unit, total in totals.items()) or "no input"
    )


def in_batches(splits: Sequence[InputSplit], full: float) -> list[EndOffsets]:
    """Group splits, in their order, into batches; return the offsets at the end of each batch.

    Args:
        splits: the splits of all sources.
        full: the size of a full batch, in the unit of `InputSplit.size`. A larger split is a
            batch of its own.
    """
    batches: list[EndOffsets] = [{}]
    load = 0.0
    for split in splits:
        if load and load + split.size > full:
            batches.append({**batches[-1]})
            load = 0.0
        batches[-1][split.log] = split.end
        load += split.size
    return batches


def copy_sources(old: Logs, new_root: Path, moves: Sequence[Move]) -> None:
    """Copy the logs of a checkpoint's sources to a new one, whole again if they were trimmed.

    It gets a query id of its own: Spark would stop a running query of the same id.
    """
    (new_root / KIT).mkdir(parents=True, exist_ok=True)
    if (old.root / "sources").exists():  # Delta tables have no log there
        _copy(old.root / "sources", new_root / "sources")
    if (old.root / KIT / "trimmed").exists():
        _copy(old.root / KIT / "trimmed", new_root / KIT / "trimmed")
        for log in Logs(new_root).sources:
            restore(Logs(new_root), log)
    for move in moves:
        rewrite(Logs(new_root), move)
    replace(new_root / "metadata", json.dumps({"id": str(uuid.uuid4())}))


def _copy(folder: Path, target: Path) -> None:
    """Copy a folder in which a running query may remove what it no longer needs."""

    def copy(file: str, destination: str) -> None:
        with suppress(FileNotFoundError):
            shutil.copy2(file, destination)

    shutil.copytree(folder, target, copy_function=copy)


def write_plan(
    query: StartingQuery,
    old: Logs,
    new_logs: Logs,
    number: int,
    end_offsets: EndOffsets,
    watermark: int = 0,
    timestamp: int | None = None,
) -> None:
    """Plan a batch in a new checkpoint, with the settings of a start on the old one.

    Args:
        query: the query that is to run the batch.
        old: the logs of the old checkpoint.
        new_logs: the logs of the new one.
        number: the number of the batch.
        end_offsets: the offsets up to which it reads the sources.
        watermark: its watermark, in milliseconds since 1970.
        timestamp: its time, which `current_timestamp` gives, in milliseconds since 1970; None
            for now.
    """
    old_conf = old.plan(old.done).conf
    with query.in_force():
        conf = {
            key: query.spark.conf.get(key, value) for key, value in old_conf.items()
        }
    texts: dict[int, str] = {}
    for source in query.inputs:
        for place in source.places:
            texts[place] = end_offsets.get(source.log) or "-"
    if timestamp is None:
        timestamp = int(time.time() * 1000)
    planned = {
        "batchWatermarkMs": watermark,
        "batchTimestampMs": timestamp,
        "conf": conf,
    }
    lines = ["v1", json.dumps(planned), *(texts[place] for place in sorted(texts))]
    (new_logs.root / "offsets").mkdir(exist_ok=True)
    new_logs.replace(new_logs.root / "offsets" / str(number), "\n".join(lines))


def say_batch(query: StartingQuery, number: int, total: int) -> None:
    """Say on standard error which batch of many is run next."""
    if number % math.ceil(total / _LINES) == 0:
        sys.stderr.write(
            f"query {query.name}: running batch {number + 1:,} of {total:,} …\n"
        )


def run_planned(
    query: StartingQuery,
    new_logs: Logs,
    writer: DataStreamWriter,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Have Spark run the planned batch of a new checkpoint; other queries can start meanwhile.

    Args:
        query: the query.
        new_logs: the logs of the new checkpoint.
        writer: what Spark does with the batch.
        settings: further settings of the run.

    Raises:
        Unreadable: the batch was not committed; the caller says which checkpoint cannot
            be used.
    """
    reason = "the query was stopped"
    writer = writer.outputMode(query.mode).option(
        "checkpointLocation", file_system.for_spark(new_logs.root)
    )
    with query.in_force({**_REPLAY, **(settings or {})}):
        running = begin(writer.trigger(once=True))
    try:
        running.awaitTermination()
    except PySparkException as err:
        reason = innermost_cause(err)
    finally:
        running.stop()
    if new_logs.refresh().done != new_logs.planned:
        raise Unreadable(f"a batch could not be run again ({reason})")


def _refuse_lost(
    query: StartingQuery, logs: Logs, number: int, moves: Sequence[Move]
) -> None:
    """Refuse a batch whose files or records are lost; for a Delta table Spark says so."""
    end_offsets = end_offsets_of(logs, number)
    before = end_offsets_of(logs, number - 1) if number else {}
    until_before = logs.until(number - 1)
    for log, last in logs.until(number).items():
        files = logs.inputs(log, until_before.get(log, -1), last)
        _present_files(files, log, moves)
    for source in query.inputs:
        end = end_offsets[source.log]
        if source.kind == "kafka" and end:
            since = before.get(source.log)
            _begin_offsets(query.spark, logs, source, end, since, refuses_loss=True)


def batch(
    spark: SparkSession, path: str | Path, number: int, frame: DataFrame
) -> DataFrame:
    """Open one batch of a query: its rows as a static DataFrame; the checkpoint is only read.

    Spark runs the batch once more, as it was planned, on a copy of the checkpoint in a
    temporary folder. With the frame of a source as the job reads it, these are the rows
    that the batch read; with the frame that the job starts, those that it gave the
    sink, by the state that the query had before it.

    Args:
        spark: the session of `frame`.
        path: a checkpoint on a local path; its query may be running.
        number: the batch, which may have failed. The checkpoint keeps about the last
            hundred batches by default.
        frame: a streaming DataFrame that reads the sources of the query, in the same
            order.

    Returns:
        A DataFrame with the columns of `frame`. Its rows are in a temporary folder
        until Python ends.

    Raises:
        InvalidInputError: there is no checkpoint at `path`; the batch is no longer
            kept, or was never planned; the frame reads other sources, or keeps another
            state than the query; some of the batch's input or state is gone; it reads
            Kafka on Spark Connect; or the session's master has nodes on other machines.

    Examples:
        >>> batch(None, "ckpt/totals", 12, None)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: checkpoints.batch(): spark is None; give a ...
    """
    check(batch, locals())
    logs = Logs(checkpoint(path))
    mode = logs.noted.get("mode", "append")
    state = fingerprint(frame, mode)
    query = StartingQuery(
        frame, f"batch {number}", mode if state else "append", False, {}
    )
    _check_plans(path, logs, number)
    if state:
        _check_state(path, logs, state)
    folder = scratch(spark, "batch")
    root = Path(folder.name, "checkpoint")
    rows = file_system.for_spark(Path(folder.name, "rows"))

    def keep(batch_rows: DataFrame, _: int) -> None:
        batch_rows.write.mode("overwrite").parquet(rows)

    try:
        moves = moves_of(query, logs, end_offsets_of(logs, number))
        _refuse_lost(query, logs, number, moves)
        copy_sources(logs, root, moves)
        _copy_entries(logs, root, "offsets", [number - 1, number])
        _copy_entries(logs, root, "commits", [number - 1])
        if state and number:
            _copy(logs.root / "state", root / "state")
            point_at(root, root)
            for file in newer_state(root, number):
                file.unlink()
        run_planned(query, Logs(root), hand_over(frame.writeStream, keep))
    except (OSError, Unreadable) as err:
        raise InvalidInputError(
            f"batch {number} of checkpoint {path} cannot be opened: {err}"
        ) from None
    KEPT.append(folder)
    return spark.read.parquet(rows)


def _check_plans(path: str | Path, logs: Logs, number: int) -> None:
    """Refuse a batch of which the plan, or that of the batch before, is not kept."""
    plans = logs.entries("offsets")
    # Spark needs the plan before it, too
    complete = [batch for batch in plans if batch == 0 or batch - 1 in plans]
    if number in complete:
        return
    if complete:
        fix = f"give one of the batches {min(complete)} to {max(complete)}"
    else:
        fix = "it keeps no batch"
    raise InvalidInputError(
        f"checkpoint {path} does not keep the plans of batch {number} and of the"
        f" one before; {fix}"
    )


def _check_state(path: str | Path, logs: Logs, state: str) -> None:
    """Refuse a frame that keeps another state than the query, told by its fingerprint."""
    if not logs.noted:
        raise InvalidInputError(
            f"checkpoint {path} has no note of its mode; start its query once by"
            " the kit"
        )
    if changed := differences(logs.noted.get("fingerprint", ""), state):
        raise InvalidInputError(
            f"the frame {changed[0]}; give the frame of the job, or that of its source"
        )


def _copy_entries(logs: Logs, root: Path, log: str, numbers: Sequence[int]) -> None:
    """Copy the entries of a log that exist to a new checkpoint."""
    (root / log).mkdir()
    entries = logs.entries(log)
    for number in numbers:
        if number in entries:
            shutil.copy(entries[number], root / log / str(number))
