"""Continue a changed query on a new checkpoint, at the offsets of the old one: `start(…, continues=…)`.

`start` calls `evolve`, which checks that the query can be continued and plans a `Build`. The build backfills
the state of the new query: it reads the sources from their beginning up to the offsets of the old
checkpoint's last committed batch, and writes no row to the sink. Spark runs a batch that is in `offsets` and
not in `commits` exactly as it was planned, so the kit plans each batch of the build and runs it with the
trigger `once`. These batches have the watermark 0, so that no row is late. If the old query has a watermark,
one more batch, which reads nothing, sets it in the new checkpoint; that drops from the state what the old
query had closed.

The new checkpoint has the query id of the old one and continues its batch numbers. A sink identifies a query
by its id and a batch by its number, so to the sink the next batch is the next one of the same query. That
also holds for a batch that the old query had planned, and perhaps written, before it was killed.

The version of a state is its batch number plus one, and the build usually has fewer batches than the old
query had. The build therefore begins with a batch that reads nothing and makes an empty state, and renames
the files of this batch so that they have the number before the first batch that reads.

Everything is built in a folder beside the new checkpoint's path, and that folder is renamed to this path at
the end. If a build is interrupted, the next start begins it again.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from sparkstream_kit import _files
from sparkstream_kit._columns import quoted
from sparkstream_kit._spark.batch import begin
from sparkstream_kit._spark.place import Here, refuse_many_disks, statuses
from sparkstream_kit._spark.session import in_force
from sparkstream_kit.checkpoints.drain import END, drained, plan_empty_batch
from sparkstream_kit.checkpoints.fingerprint import differences
from sparkstream_kit.checkpoints.guard import KEPT, Query, continued
from sparkstream_kit.checkpoints.lock import lock
from sparkstream_kit.checkpoints.logs import CONTINUED, KIT, Logs, checkpoint, query_id, versioned, write_note
from sparkstream_kit.checkpoints.moved import Move, bases, find_moves, renamed, rewrite
from sparkstream_kit.checkpoints.trim import every_input, restore
from sparkstream_kit.connectors.kafka import brokers
from sparkstream_kit.errors import InvalidInputError, count, innermost_cause, said_by_spark
from sparkstream_kit.operate.check import damage
from sparkstream_kit.operate.clone import copied_from, point_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyspark.sql import SparkSession

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit._spark.plan import Input


_log = logging.getLogger(__name__)

# The most that one batch of a build reads. A batch may be larger if one entry of the old query's file log
# is, or if otherwise the build would have more batches than the old query had.
_MOST_BYTES = 256 << 20
_MOST_FILES = 2_000
_MOST_RECORDS = 1_000_000

# By default Delta refuses to read a version that is older than its retention, also if all files are there.
_OLD_VERSIONS = {"spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false"}

# The settings of a build. A changelog holds only the changes of one batch, and only a whole state can be
# renumbered. A file that has gone fails a build, also where the session says to go on without it.
_BUILD = {
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
}

# The offset, as Spark's text, up to which each source is read, by the name of its log; None: nothing is read.
_Ends = dict[str, str | None]


def evolve(
    changed: Query,
    targets: Sequence[str],
    check_sink: Callable[[Place, bool], object],
    new: Place,
    old: Place,
    *,
    dry_run: bool,
) -> tuple[tuple[str, str], ...]:
    """Build a new checkpoint on which a changed query continues at the offsets of the old one.

    If the new checkpoint exists already, it is left as it is: the query already continues there.

    Args:
        changed: the changed query.
        targets: the targets of its sink, as in `Sink.writes_to`.
        check_sink: a function that opens the query's sink for a checkpoint, so that the sink can refuse a
            target that does not fit. Its second argument is whether the sink may create what it needs.
        new: the new checkpoint, a local folder that does not exist yet.
        old: the checkpoint to continue, which no query may be using. Afterwards `start` refuses it.
        dry_run: check everything, but lock and create nothing.

    Returns:
        Pairs of a kind (`continues`, `change`, `build`) and a text for the user: what was done, or in a dry
        run would be done. Empty if the new checkpoint exists.

    Raises:
        InvalidInputError: a checkpoint is not on a local path; the old one is in use, damaged, drained, has
            no committed batch, was continued elsewhere, or is a copy of another one whose query writes to the
            same target; the query reads other sources than before, or ones that are neither
            files, Kafka topics nor Delta tables; some of the input has changed or no longer exists; the rows
            in the target would not fit the new ones; or a batch of the build failed.
    """
    if new.folder is None or old.folder is None:
        raise InvalidInputError(
            f"start(): continues={old} and checkpoint={new} must both be on a local path; copy the "
            "checkpoint to this machine first, or start anew on a new checkpoint"
        )
    refuse_many_disks(changed.spark, "checkpoint", new.text)
    if _is_made(new, new.folder, old.folder):
        return ()
    logs = Logs(checkpoint(old.folder))
    held = lock(changed.spark, old, changed.name, dry_run=dry_run)
    try:
        with changed.in_force():
            check_sink(old, False)
            build, differs = _checked(changed, targets, logs, new.folder)
        if not differs:
            _log.warning(
                "query %s keeps the same state as that of checkpoint %s: `continues=` is not needed, unless "
                "a filter or a UDF has changed (they are not compared) and shall count for the old rows, too",
                changed.name,
                old,
            )
        if not dry_run:
            with changed.in_force():
                check_sink(old, True)  # the sink may restore a plan that the old checkpoint has lost
            logs.again()
            build.make(new.folder)
        stands = ("continues", f"{old}, after batch {logs.done}")
        return (stands, *(("change", what) for what in differs), ("build", str(build)))
    finally:
        if held is not None:
            held.release()


def _is_made(new: Place, root: Path, old: Path) -> bool:
    """Return whether the new checkpoint exists.

    Raises:
        InvalidInputError: it is the old checkpoint itself, belongs to another query, or is a folder with
            other files; or the old checkpoint was taken up again since.
    """
    if root.resolve() == old.resolve():
        raise InvalidInputError(f"start(): continues={new} is the checkpoint itself; give a new folder")
    if (root / "metadata").exists():
        if (old / "metadata").exists() and query_id(root / "metadata") != query_id(old / "metadata"):
            raise InvalidInputError(
                f"checkpoint {new} is of another query than {old}, which it is to continue; give a new folder"
            )
        if (old / "metadata").exists() and not (old / CONTINUED).exists():
            stale = f"checkpoint {old} was taken up again after {new} was built from it"
            raise InvalidInputError(f"{stale}; remove {new}, and it is built anew")
        return True
    if any(file.is_file() and file != root / KIT / "lock" for file in root.rglob("*")):
        raise InvalidInputError(f"checkpoint {new} is a folder with other files; give a new folder")
    return False


def _checked(changed: Query, targets: Sequence[str], logs: Logs, new: Path) -> tuple[Build, list[str]]:
    """Return the build, and a phrase for each difference between the queries.

    Raises:
        InvalidInputError: the old checkpoint cannot be continued by the changed query.
    """
    spark, last = changed.spark, logs.done
    if over := damage(logs) or drained(logs) or continued(logs, by=new):
        raise InvalidInputError(over)
    if changed.allow_changed:
        both = "allow_changed_query=True keeps the old state, and continues= builds a new one"
        raise InvalidInputError(f"start(): {both}; leave one of them out")
    if last < 0:
        raise _refusal(logs, "it has no committed batch")
    if logs.planned > last and logs.plan(logs.planned).watermark >= END:
        raise _refusal(logs, "it was cut off while it wrote its last windows")
    inputs, kept, plan = changed.inputs, logs.note or {}, logs.plan(last)
    ends = _ends(logs, last)
    _check_sources(logs, inputs, ends)
    again = "a new checkpoint, without continues="
    moves = find_moves(spark, logs, bases(spark, inputs), changed.moved, again=again)
    _check_kinds(logs, inputs, ends)
    note = changed.described
    differs = differences(kept.get("fingerprint", ""), note["fingerprint"])
    _check_target(changed, targets, kept, differs, logs.root)
    for key, what in KEPT.items():
        if key in plan.conf and (now := spark.conf.get(key)) != plan.conf[key]:
            differs.append(f"{what} {now} in place of {plan.conf[key]}")
    if kept.get("mode", changed.mode) != changed.mode:
        differs.append(f"mode {changed.mode} in place of {kept['mode']}")
    batches: list[_Ends] = []
    pieces: list[_Piece] = []
    if note["fingerprint"]:
        read = (_pieces(spark, logs, each, ends[each.log], moves) for each in inputs)
        pieces, full = [piece for each in read for piece in each], 1.0
        room = last + 1 - (plan.watermark > 0)
        while len(batches := _in_batches(pieces, full)) > room:
            full *= 2
    note |= {"topics": kept["topics"]} if "topics" in kept else {}
    return Build(changed, logs, batches, note, _amounts(pieces), moves), differs


def _refusal(logs: Logs, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint {logs.root} cannot be continued by a changed query: {why}; start anew on a new "
        "checkpoint, without continues="
    )


def _ends(logs: Logs, batch: int) -> _Ends:
    """Return the offsets up to which a batch of the old query reads the sources."""
    plan = logs.plan(batch)
    return dict(zip(logs.names(plan), plan.offsets, strict=True))


def _check_sources(logs: Logs, inputs: Sequence[Input], ends: _Ends) -> None:
    """Refuse sources that cannot be read from their beginning, and other ones than before."""
    if others := [str(each) for each in inputs if each.path is None and each.kind not in ("kafka", "delta")]:
        what = "files, topics and Delta tables"
        raise _refusal(logs, f"only {what} are read again from their beginning, not {others[0]}")
    if added := [str(each) for each in inputs if each.log not in ends]:
        raise _refusal(logs, f"{added[0]} is a new source")
    if dropped := sorted({*ends} - {each.log for each in inputs}):
        raise _refusal(logs, f"the new one does not read source {dropped[0]}")


def _check_kinds(logs: Logs, inputs: Sequence[Input], ends: _Ends) -> None:
    """Refuse a source of another kind than the one that has given the offset."""
    for each in inputs:
        if (end := ends[each.log]) and _kind(end) != each.kind:
            raise _refusal(logs, f"its source {each.log} did not read {each}")


def _kind(offset: str) -> str:
    """Return the kind of source that has written an offset, as in `Input.kind`; "" for any other kind."""
    value = json.loads(offset) if offset.startswith("{") else {"": 0}
    if "logOffset" in value or "reservoirId" in value:
        return "files" if "logOffset" in value else "delta"
    return "kafka" if all(isinstance(part, dict) for part in value.values()) else ""


def _check_target(
    changed: Query, targets: Sequence[str], kept: dict[str, Any], differs: Sequence[str], old: Path
) -> None:
    """Refuse a target whose rows stay there and would not fit the rows to come.

    Mode `complete` replaces all rows, so its targets always fit. Also refuse a copy of a checkpoint whose
    query writes to the same target: the two queries would be one to the sink, and take turns there.
    """
    same = {*kept.get("targets", targets)} & {*targets}
    for first in copied_from(old) if same else ():
        raise InvalidInputError(
            f"checkpoint {old} is a copy of {first}, whose query writes to {min(same)}, too; give "
            f"continues={str(first)!r}, or a new target; or remove {first}, if it is not used any more"
        )
    if changed.mode == "complete" or not same:
        return
    columns = [list(each) for each in changed.frame.dtypes]
    what = next((each for each in differs if each.startswith("groups by") and "query groups" in each), None)
    if kept.get("mode", changed.mode) != changed.mode:
        what = f"has mode {changed.mode}; the checkpoint's query has mode {kept['mode']}"
    elif kept.get("columns", columns) != columns:
        what = f"has other columns than {', '.join(name for name, _ in kept['columns'])}, or of other types"
    if what is not None:
        raise InvalidInputError(
            f"query {changed.name} {what}. The rows in {min(same)} stay, and would not fit those to come; "
            "give it a new target"
        )


class _Piece(NamedTuple):
    """A part of a source's input that one batch of the build reads as a whole.

    Attributes:
        log: the name of the source's log.
        end: the offset at the end of the part, as Spark's text.
        size: the part's share of a full batch; 1 is a full batch.
        amount: the number of files, records or tables, for the summary.
        unit: the unit of the amount: "file", "record" or "Delta table".
    """

    log: str
    end: str
    size: float
    amount: int
    unit: str


def _pieces(
    spark: SparkSession, logs: Logs, source: Input, until: str | None, moves: Sequence[Move]
) -> Iterator[_Piece]:
    """Split the input that the old query has read from a source into pieces; refuse input that is lost."""
    if until is not None:
        split = _table if source.kind == "delta" else _records
        yield from _files_read(logs, source.log, moves) if source.path else split(spark, logs, source, until)


def _files_read(logs: Logs, log: str, moves: Sequence[Move]) -> Iterator[_Piece]:
    """Yield a piece for each entry of a file source's log.

    Raises:
        InvalidInputError: a file no longer exists or has changed, or Spark would misread it because of its
            name.
    """
    found = every_input(logs, log, logs.until(logs.done)[log])
    for move in moves:
        found = [each._replace(uri=renamed(each.uri, move)) if move.log == log else each for each in found]
    gone = [each for each in found if each.gone]
    if lost := gone or [each for each in found if each.changed]:
        some = f"{len(lost):,} of the {count(len(found), 'file')} that it has read have"
        raise _refusal(logs, f"{some} {'gone' if gone else 'changed since'}, such as {lost[0].path}")
    sizes: dict[int, list[float]] = {}
    for each in found:
        if each.path and _files.is_pattern(each.path):
            raise _refusal(logs, f"Spark reads {each.path} rightly only in a batch of its own")
        size = Path(each.path).stat().st_size / _MOST_BYTES if each.path else 0
        sizes.setdefault(each.entry, []).append(max(size, 1 / _MOST_FILES))
    for entry, each_size in sorted(sizes.items()):
        # Without spaces, as Spark writes it: Spark compares offsets as texts, and would see new input.
        end = json.dumps({"logOffset": entry}, separators=(",", ":"))
        yield _Piece(log, end, sum(each_size), len(each_size), "file")


def _records(spark: SparkSession, logs: Logs, source: Input, until: str) -> Iterator[_Piece]:
    """Yield pieces of the topics of a Kafka source, from the offsets at which the old query began.

    Raises:
        InvalidInputError: Kafka cannot be asked (Spark Connect), a topic was deleted and made again, or
            records are lost and the source has `failOnDataLoss`.
    """
    if not brokers.can_ask(spark):
        raise _refusal(logs, "on Spark Connect Kafka cannot be asked what it still has")
    last, first = brokers.offsets_in(until), brokers.offsets_in(logs.begun(source.log))
    # A partition that was added later was read from its first record.
    begin = {name: {part: first.get(name, {}).get(part, 0) for part in last[name]} for name in last}
    with brokers.client(spark, source.options) as client:
        topics = brokers.Topics(client, source, logs.done, begin)
        if again := topics.made_again(logs.noted.get("topics", {}).get(source.log, {})):
            raise _refusal(logs, f"topic {again[0]} was deleted and made again since")
        for lost in topics.losses():
            if topics.fails_on_loss:
                raise _refusal(logs, f"{lost}; {brokers.GO_ON}")
            _log.warning("checkpoint %s is continued without what is lost: %s", logs.root, lost)
    total = sum(last[name][part] - begin[name][part] for name in last for part in last[name])
    steps = max(math.ceil(total / _MOST_RECORDS), 1)
    for step in range(1, steps + 1):
        ends = {
            name: {part: at + (last[name][part] - at) * step // steps for part, at in parts.items()}
            for name, parts in begin.items()
        }
        end = until if step == steps else json.dumps(ends, separators=(",", ":"))
        yield _Piece(source.log, end, total / steps / _MOST_RECORDS, total if step == steps else 0, "record")


def _table(spark: SparkSession, logs: Logs, source: Input, until: str) -> Iterator[_Piece]:
    """Yield a Delta table as one piece: Delta reads one version of it, and the commits that follow.

    Raises:
        InvalidInputError: the plan does not say where the table is (Spark Connect), an option leaves out
            rows, another table is there now, or the version or some of its files no longer exist.
    """
    offset, path = json.loads(until), source.options.get("path")
    if path is None:
        raise _refusal(logs, "the path of its Delta table is not known here")
    if others := source.leaves_out or logs.noted.get("left out", {}).get(source.log):
        raise _refusal(logs, f"with option {others[0]} not all rows of its Delta table are read")
    version = offset["reservoirVersion"] - (not offset["isStartingVersion"])
    try:
        with in_force(spark, _OLD_VERSIONS):
            [table] = spark.sql(f"DESCRIBE DETAIL delta.{quoted(path)}").select("id").collect()
            if table.id != offset["reservoirId"]:
                raise _refusal(logs, f"another Delta table is at {path} now")
            files = spark.read.format("delta").option("versionAsOf", version).load(path).inputFiles()
        folders = {file.rpartition("/")[0] for file in files}
        gone = {*files} - {file for file, *_ in statuses(spark, [*folders])} if files else ()
    except (OSError, Py4JJavaError, PySparkException) as err:
        raise _refusal(logs, f"its Delta table cannot be read again ({said_by_spark(err)})") from None
    if gone:
        raise _refusal(logs, f"{count(len(gone), 'file')} of version {version} of its Delta table have gone")
    yield _Piece(source.log, until, 1, 1, "Delta table")


def _amounts(pieces: Sequence[_Piece]) -> str:
    totals: dict[str, int] = {}
    for piece in pieces:
        totals[piece.unit] = totals.get(piece.unit, 0) + piece.amount
    return " and ".join(count(total, unit) for unit, total in totals.items()) or "no input"


def _in_batches(pieces: Sequence[_Piece], full: float) -> list[_Ends]:
    """Group pieces, in their order, into batches; return the offsets at the end of each batch.

    Args:
        pieces: the pieces of all sources.
        full: the size of a full batch, in the unit of `_Piece.size`. A larger piece is a batch of its own.
    """
    batches: list[_Ends] = [{}]
    load = 0.0
    for piece in pieces:
        if load and load + piece.size > full:
            batches.append({**batches[-1]})
            load = 0.0
        batches[-1][piece.log] = piece.end
        load += piece.size
    return batches


class Build(NamedTuple):
    """The build of a new checkpoint: `make` plans and runs its batches in a temporary folder.

    Attributes:
        changed: the changed query.
        old: the logs of the checkpoint that the query continues.
        batches: for each batch of the build, the offsets up to which it reads the sources; empty for a query
            that keeps no state.
        note: the note about the query for the new checkpoint.
        read: the amount of input that the batches read, as text, such as "12 files".
        moves: the rewrites of the logs of sources whose folders have moved.
    """

    changed: Query
    old: Logs
    batches: Sequence[_Ends]
    note: dict[str, Any]
    read: str
    moves: Sequence[Move]

    def __str__(self) -> str:
        if not self.batches:
            return "nothing: the query keeps no state"
        batches = count(len(self.batches), "batch")
        return f"the state, from {self.read} in {batches}; nothing is written meanwhile"

    def make(self, new: Path) -> None:
        """Build the checkpoint in a hidden folder beside `new`, then rename the complete folder to `new`."""
        old, made = self.old.root, new.with_name(f".{new.name}.evolving")
        shutil.rmtree(made, ignore_errors=True)
        try:
            (made / KIT).mkdir(parents=True)
            if (old / "sources").exists():  # Delta tables have no log there
                shutil.copytree(old / "sources", made / "sources")
            if (old / KIT / "trimmed").exists():
                shutil.copytree(old / KIT / "trimmed", made / KIT / "trimmed")
                for log in Logs(made).sources:
                    restore(Logs(made), log)
            for move in self.moves:
                rewrite(Logs(made), move)
            shutil.copy(old / "metadata", made / "metadata")
            self._build(Logs(made))
            write_note(Here(str(made), made), self.note)
            point_at(made, new)
            # Mark the old checkpoint before the rename: after a crash in between `start` refuses the old one,
            # so that two queries never continue it, and builds the new one again.
            _files.replace(old / CONTINUED, [str(new)])
            shutil.rmtree(new, ignore_errors=True)  # it holds at most the lock file of a refused start
            made.rename(new)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _build(self, made: Logs) -> None:
        """Build the state up to the old query's last committed batch, and plan the batch after it, if any."""
        last, old = self.old.done, self.old
        drops = (watermark := old.plan(last).watermark) > 0
        following = old.commit(last)["nextBatchWatermarkMs"]
        first = last + 1 - len(self.batches) - drops
        if not self.batches:
            for number in range(max(last - 1, 0), last + 1):
                self._write_plan(made, number, _ends(old, last), watermark)
            (made.root / "commits").mkdir()
            made.replace(made.root / "commits" / str(last), "v1\n{}")
        elif first > 0:
            self._write_plan(made, 0, {})
            self._run_planned(made)
            _renumber(made.root, first - 1)
        for number, ends in enumerate(self.batches, first):
            self._write_plan(made.again(), number, ends)
            self._run_planned(made)
        if self.batches and drops:
            plan_empty_batch(made.again(), watermark)
            self._run_planned(made)
        file = made.root / "commits" / str(last)
        version, commit = versioned(file, "v1", "v2", "v3")[:2]
        commit = json.dumps(json.loads(commit) | {"nextBatchWatermarkMs": following})
        made.replace(file, f"{version}\n{commit}")
        if old.planned > last:
            self._write_plan(made, last + 1, _ends(old, last + 1), old.plan(last + 1).watermark)
        elif self.changed.mode == "complete":  # the planned batch writes the new query's whole result
            plan_empty_batch(made.again(), following)

    def _write_plan(self, made: Logs, number: int, ends: _Ends, watermark: int = 0) -> None:
        kept = self.old.plan(self.old.done).conf
        with self.changed.in_force():
            conf = {key: self.changed.spark.conf.get(key, value) for key, value in kept.items()}
        texts = {place: ends.get(each.log) or "-" for each in self.changed.inputs for place in each.places}
        query = {
            "batchWatermarkMs": watermark,
            "batchTimestampMs": int(time.time() * 1000),
            "conf": conf,
        }
        lines = ["v1", json.dumps(query), *(texts[place] for place in sorted(texts))]
        (made.root / "offsets").mkdir(exist_ok=True)
        made.replace(made.root / "offsets" / str(number), "\n".join(lines))

    def _run_planned(self, made: Logs) -> None:
        """Have Spark run the planned batch and discard its rows; other queries can start meanwhile.

        Raises:
            InvalidInputError: the batch was not committed.
        """
        changed, why = self.changed, "the query was stopped"
        writer = changed.frame.writeStream.format("noop").queryName(changed.name).outputMode(changed.mode)
        writer = writer.option("checkpointLocation", _files.for_spark(made.root)).trigger(once=True)
        with changed.in_force(_BUILD):
            query = begin(writer)
        try:
            query.awaitTermination()
        except PySparkException as err:
            why = innermost_cause(err)
        finally:
            query.stop()
        if made.again().done != made.planned:
            raise InvalidInputError(
                f"query {changed.name}: its state was not built from what {self.old.root} has read ({why}); "
                "nothing was changed"
            )


def _renumber(root: Path, number: int) -> None:
    """Give batch 0, which has read nothing, another number: rename its log files and its state's files.

    Args:
        root: the folder of the new checkpoint.
        number: the new number of the batch; 0 changes nothing.
    """
    files = [file for log in ("offsets", "commits") for file in (root / log).iterdir()]
    for file in files if number else ():
        file.rename(file.with_name(file.name.replace("0", str(number))))
    states = [file for file in root.glob("state/**/*") if re.match(r"\.?1[._]", file.name)]
    for file in states if number else ():
        before, after = file.name.split("1", 1)
        after = after.replace(".delta", ".snapshot")  # the changes since the empty state are a whole state
        file.rename(file.with_name(f"{before}{number + 1}{after}"))
