"""Compare a changed query with what its earlier version has written, before it takes over.

`start(…, dry_run="compare")` and the flag `--shadow` of jobs call `shadow`. It runs the
changed query over what the checkpoint has read, on a new checkpoint in a temporary
folder, and keeps there what the query would give its sinks (`Opening.replacement`). Then it
compares these rows with those that the sinks' targets hold, which `Sink.read` reads
back. The checkpoint and the targets are only read. `planned` is for `start(…,
dry_run=True)`: it makes the checks of a start, and says what would run.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from sparkstream_kit._internal import file_system, threads
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark.batch import hand_over
from sparkstream_kit._internal.spark.logical_plan import analyzed_plan, check_mode, has
from sparkstream_kit._internal.spark.place import LocalPlace, locate
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.fingerprint import WATERMARK
from sparkstream_kit.checkpoints.guard import StartingQuery, guard
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.checkpoints.operate.check import checkpoint as existing
from sparkstream_kit.checkpoints.operate.check import damage
from sparkstream_kit.checkpoints.operate.comparison import Compared, KeptTarget
from sparkstream_kit.checkpoints.operate.find import kept_plans
from sparkstream_kit.errors import DryRun, InvalidInputError, count
from sparkstream_kit.sinks.base import Opening, inner, open_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.checkpoints.guard import Question
    from sparkstream_kit.checkpoints.logs import BatchPlan
    from sparkstream_kit.checkpoints.moved import Move
    from sparkstream_kit.checkpoints.operate.replay import EndOffsets, InputSplit
    from sparkstream_kit.sinks import Sink


_AT_REST = 60  # seconds to wait until a running query is between two batches
# Functions whose results differ from one run to the next, as Spark prints them.
_UNSTEADY = re.compile(
    r"\b(rand(?:n|str)?|uniform|uuid|shuffle|monotonically_increasing_id|SPARK_PARTITION_ID)\("
)
# The operator of DataFrame.sample, which takes other rows in each run
_SAMPLE = "Sample"
# The operators whose rows each come from one row of the input. The result of all others
# can depend on how the input was cut into batches, as a sum of floating-point numbers
# does by the order of the rows.
_ROW_BY_ROW = (
    r"CollectMetrics|Filter|Generate|Join|Project|ResolvedHint"
    r"|\w*Relation\w*|SubqueryAlias|Union|View"
)
_OTHER_OPERATOR = rf"~(?!(?:{_ROW_BY_ROW})\b)"
_BY_TIME = re.compile(r"\b(current_(?:timestamp|date|time)|localtimestamp|now)\(")


@dataclass(frozen=True)
class Planned:
    """A query that `start(…, dry_run=True)` only checked; printing it shows what would run.

    Attributes:
        name: the query's name.
        says: pairs of a label, such as `mode`, `sink`, `checkpoint`, `input` or
            `trigger`, and its text. A label can occur several times.
    """

    name: str
    says: tuple[tuple[str, str], ...]
    begins: ClassVar[str] = "a dry run: all checks have passed, and nothing is started"

    @property
    def exit_code(self) -> int:
        """The exit code of a job that ends with it."""
        return 0

    def __str__(self) -> str:
        """Return a line with the query's name, and one line for each pair in `says`."""
        lines = [f"query {self.name}"]
        for label, text in self.says:
            lines.append(f"  {label:<11}{text}")
        return "\n".join(lines)


# The folder of a job is not always that of its query: it may have several.
_SWITCH = (
    "to switch: start it on a new checkpoint, with continues={!r} (of a job:"
    " --continues with the folder that was its --checkpoint)"
)
_STAY = (
    "; rows that are written stay as they are, and those to come are the new query's"
)


@dataclass(frozen=True)
class Shadow(Planned):
    """A changed query beside its earlier version; printing it shows what differs.

    Attributes:
        batch: the batch of the checkpoint at which they were compared.
        tables: the comparison of each target that can be read back.
        notes: what the reader must know about the comparison.
    """

    begins = "a comparison: nothing is started, and nothing is written"
    batch: int = -1
    tables: tuple[Compared, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if all is equal, else 3."""
        all_equal = all(table.same for table in self.tables)
        return 0 if all_equal else 3

    def __str__(self) -> str:
        lines = [f"query {self.name}, compared at batch {self.batch}"]
        for table in self.tables:
            lines.append(table.target)
            lines += [f"  {line}" for line in table.says().split("\n")]
        return "\n".join([*lines, *self.notes])


def planned(
    query: StartingQuery,
    sink: Sink,
    location: Place | None,
    trigger: Mapping[str, Any],
    carried: Sequence[tuple[str, str]],
    opening: Opening,
    of_systems: Callable[[StartingQuery], Iterable[Question]],
) -> Planned:
    """Check a query as its start does, and return what would run; the checks create nothing.

    On Spark Connect only a real start finds out whether Spark allows the plan in this
    output mode.

    Args:
        query: the query.
        sink: its sink.
        location: its checkpoint; None for a temporary one.
        trigger: its trigger, as Spark takes it.
        carried: what `continues=` would do, as lines of the description. If there are
            any, all checks have been made, and the checkpoint would still have to be
            made.
        opening: what the sinks of the start share.
        of_systems: returns the checks of the systems that the query reads.

    Raises:
        InvalidInputError: as for `start`.
    """
    says = [("mode", query.mode)]
    says += [("sink", _sink_line(part)) for part in inner(sink)]
    when = "a batch as soon as the last one has ended"
    if trigger:
        keyword, value = next(iter(trigger.items()))
        when = f"{keyword}={value}"
    if carried:
        return Planned(query.name, (*says, *carried, ("trigger", when)))
    with query.in_force(), guard(query, location, of_systems, dry_run=True) as guarded:
        if "realTime" in trigger and sink.realtime is not None:
            sink.realtime(query.frame)
        else:
            opening.ledgers.read_note(
                {} if guarded.logs is None else guarded.logs.noted
            )
            open_sink(sink, query.frame, location, opening)
        check_mode(query.frame, query.mode)
        says.append(("checkpoint", _checkpoint_line(location, guarded.logs)))
        says += [("change", change) for change in guarded.changes]
        inputs = dict.fromkeys(map(str, query.inputs))
        says += [("input", text) for text in inputs]
        says.append(("trigger", when))
        return Planned(query.name, tuple(says))


def _sink_line(sink: Sink) -> str:
    """Return a line about a sink: where it writes, and its delivery promise."""
    targets = ""
    if sink.writes_to:
        targets = f" to {', '.join(map(str, sink.writes_to))}"
    return f"{sink.kind}{targets}: {sink.promise}"


def _checkpoint_line(location: Place | None, logs: Logs | None) -> str:
    """Return a line about a checkpoint: where it is, and where its query stands."""
    if location is None:
        return "a temporary one, removed at the end"
    if logs is None:
        return f"{location} (out of reach from here)"
    if logs.done < 0:
        return f"{location} (new)"
    return f"{location} (resumes after batch {logs.done})"


def dry(planned: Sequence[Planned]) -> DryRun:
    """Return the error that ends a dry run of one or more queries."""
    begins = dict.fromkeys(query.begins for query in planned)
    error = DryRun("\n".join([*begins, *map(str, planned)]))
    error.exit_code = max(query.exit_code for query in planned)
    return error


def shadow(
    frame: DataFrame,
    sink: Sink,
    *,
    checkpoint: str | Path,  # noqa: A002, RUF100 - as `start` calls it
    name: str = "query",
    mode: str = "append",
    moved: Mapping[str | Path, str | Path] | None = None,
    keys: Sequence[str] = (),
    tolerance: float = 1e-9,
) -> Shadow:
    """Compare a changed query with what a checkpoint's query has written, changing nothing.

    The changed query runs over exactly the input that the checkpoint has read. What it
    would write is compared with what the targets of its sinks hold, at the last
    committed batch. The query of the checkpoint may go on running: its targets are read
    between two of its batches. Lines on standard error say which part of the comparison
    has begun, and which batch is run.

    Rows are matched by the keys of the sink, or by the columns that the query groups
    by; if these do not identify the rows of a target, whole rows are compared. Their
    order does not count. NULL equals NULL, NaN equals NaN, and -0.0 equals 0.0.

    Values are compared as the target holds them, and no value is cast to the type of
    the other side. For files, snapshots, views and SQL the rows of the changed query
    are first written in the form that the sink gives them, to a temporary folder or a
    temporary table. So the empty text equals NULL in a snapshot of CSV, which has both
    the same. A column with two types is a difference, which is told even if all rows
    are equal: of two types of numbers, the numbers are compared; values of other two
    types are never equal. If a column of an SQL table has a type that merely holds
    more, it is told and is no difference. Text formats have no types: there a column
    has another type if its values are not written as those of the changed query are.
    CSV without a header has no names, so columns are matched by their order.

    A query whose rows each come from one row of the input is read in large batches. Any
    other runs batch by batch, with the times that the batches had, as far as the
    checkpoint keeps their plans (the last hundred by default): one that groups, joins
    two streams, drops duplicates or keeps a state of its own, has a watermark or
    `current_timestamp`, or has a sink with `taking`. The batches before those are read
    in large ones, and a note says so: there a result that depends on the batches, such
    as `first`, can differ.

    Args:
        frame: the changed query, a streaming DataFrame.
        sink: its sink. Targets that cannot be read back, such as the console, are left
            out and noted.
        checkpoint: the checkpoint of the earlier version, on a local path.
        name: the query's name, for messages.
        mode: the output mode.
        moved: folders of input files that have moved, as for `start`.
        keys: the columns that identify a row. Default: those of the sink, or the group
            keys.
        tolerance: how much two floating-point numbers may differ, as a part of the
            larger one, where rows are matched by keys. Whole rows must be equal.

    Returns:
        What differs, for each target: as text, as counts, and as four DataFrames. Their
        rows are in a temporary folder until Python ends.

    Raises:
        InvalidInputError: the checkpoint is damaged or on another file system; its
            input cannot be read again, as with files or records that are gone, or Kafka
            on Spark Connect; a target is gone, or has no column of the query; no target
            can be read back; a target holds updates and its keys are not known; a key
            is named `old`, `new`, `column` or `columns`; the query has a function whose
            results differ from run to run, or takes a sample; the running query is
            never between two batches; or the session's master has nodes on other
            machines.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> shadow(None, sinks.console(), checkpoint="ckpt")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: checkpoints.shadow(): frame is None; give a ...
    """
    check(shadow, locals())
    query = StartingQuery(frame, name, mode, False, moved or {})
    place = locate(frame.sparkSession, checkpoint)
    _refuse_unsteady(query)
    logs = Logs(existing(checkpoint))
    if reason := damage(logs):
        raise InvalidInputError(reason)
    if logs.done < 0:
        raise InvalidInputError(
            f"checkpoint {place} has no committed batch to compare with; let the query"
            " run until it has one"
        )
    scratch = replay.scratch(query.spark, "shadow")
    trial = _Replay(query, place, logs, Path(scratch.name), _changes_batches(sink))
    with query.in_force():
        opening = Opening(replacement=trial.add)
        write = open_sink(sink, frame, trial.place_of("checkpoint"), opening)
    if not trial.targets:
        raise InvalidInputError(
            f"query {name} cannot be compared: sink {sink.kind} cannot be read back"
            " (files, snapshots, views, and tables of SQL, Delta, Iceberg and the"
            " catalog can); to see what the query gives it, open single batches:"
            " checkpoints.batch"
        )
    try:
        # What cannot be compared is refused before the targets are read
        trial.planned(logs.done)
        last = trial.keep_targets()
        notes = trial.run(last, cast("Write", write))
    except replay.Unreadable as err:
        raise InvalidInputError(
            f"checkpoint {place} cannot be compared: {err}"
        ) from None
    trial.say("comparing the rows")
    tables = [target.compared(query, keys, tolerance) for target in trial.targets]
    replay.KEPT.append(scratch)
    switch = _SWITCH.format(place.text)
    if query.mode != "complete":
        switch += _STAY
    return Shadow(name, (), last, tuple(tables), (*notes, switch))


def _refuse_unsteady(query: StartingQuery) -> None:
    """Refuse a query that gives other rows in each run."""
    if match := _UNSTEADY.search(analyzed_plan(query.frame)):
        unsteady = match[1].lower()
    elif has(query.frame, _SAMPLE):
        unsteady = "sample"
    else:
        return
    raise InvalidInputError(
        f"query {query.name} cannot be compared: {unsteady}() gives other results"
        " in each run; leave it out of the query, or take its value from a column"
    )


class _Schedule(NamedTuple):
    """What the changed query reads, in order: large batches, and then single ones.

    Attributes:
        moves: the moves of the sources' folders.
        large: for each large batch, the offsets up to which it reads the sources.
        single: the batches of the checkpoint that are run one by one.
    """

    moves: list[Move]
    large: list[EndOffsets]
    single: range


class _Batch(NamedTuple):
    """One batch of the run.

    Attributes:
        ends: the offsets up to which it reads the sources.
        plan: the plan of the checkpoint from which it has its time and its watermark.
        is_large: whether it reads what several batches of the checkpoint have read;
            then no row is late in it.
    """

    ends: EndOffsets
    plan: BatchPlan
    is_large: bool


@dataclass
class _Replay:
    """The run of the changed query over what the checkpoint has read.

    Attributes:
        query: the changed query.
        place: the checkpoint.
        logs: its logs.
        folder: the temporary folder.
        changes_batches: whether a sink changes each batch.
        targets: the targets that can be read back.
        left_out: the kinds of the other sinks.
    """

    query: StartingQuery
    place: Place
    logs: Logs
    folder: Path
    changes_batches: bool
    targets: list[KeptTarget] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        """Say on standard error which part of the comparison has begun."""
        sys.stderr.write(f"query {self.query.name}: {what} …\n")

    def place_of(self, name: str) -> LocalPlace:
        """Return a part of the temporary folder."""
        return LocalPlace(file_system.for_spark(self.folder / name), self.folder / name)

    def add(self, sink: Sink, schema: StructType) -> Write:
        """Return what takes a sink's batches, and keeps them if they can be read back."""
        if sink.read is None:
            self.left_out.append(sink.kind)
            return _discard
        folder = self.place_of(f"rows{len(self.targets)}").text
        target = KeptTarget(sink, schema, sink.read, folder)
        self.targets.append(target)
        return target.write

    def keep_targets(self) -> int:
        """Keep what the targets hold between two batches of the query; return the last batch."""
        self.say("reading its targets between two batches")

        def kept_between_batches() -> bool:
            last = self.logs.refresh().done
            if not self._rests_at(last):
                return False
            for target in self.targets:
                target.keep_target(self.query.spark, self.place)
            return self._rests_at(last)

        if not threads.until(kept_between_batches, _AT_REST):
            raise InvalidInputError(
                f"checkpoint {self.place}: batch {self.logs.planned} is being written,"
                " or was cut off; to compare, stop its query, or start it once, so"
                " that it ends this batch"
            )
        return self.logs.done

    def _rests_at(self, batch: int) -> bool:
        """Return whether a batch is committed, and no later one is planned."""
        logs = self.logs.refresh()
        return logs.planned == logs.done == batch

    def run(self, last: int, write: Write) -> tuple[str, ...]:
        """Run the query over what was read up to a batch; return what the reader must know."""
        query = self.query
        fingerprint = self.logs.noted.get("fingerprint", "")
        changes = query.differences(fingerprint)
        has_same_watermarks = bool(fingerprint) and not any(
            WATERMARK in change for change in changes
        )
        schedule = self.planned(last)
        folder = self.folder / "checkpoint"
        replay.copy_sources(self.logs, folder, schedule.moves)
        # All plans are read now, because the running query removes them.
        batches = self._batches(schedule, last)
        watermark = 0
        for number, batch in enumerate(batches):
            replay.say_batch(query, number, len(batches))
            if batch.is_large:
                self._run_batch(number, batch, 0, write)
            else:
                if has_same_watermarks or batch.plan.watermark == END:
                    watermark = batch.plan.watermark
                self._run_batch(number, batch, watermark, write)
            commit = Logs(folder).commit(number)
            watermark = max(watermark, commit.get("nextBatchWatermarkMs", 0))
        return self._notes(changes, schedule)

    def _batches(self, schedule: _Schedule, last: int) -> list[_Batch]:
        """Return the batches of a schedule, which ends with the batch `last`."""
        logs = self.logs
        last_of_large = last
        if schedule.single:
            last_of_large = schedule.single.start - 1
        batches = [
            _Batch(end_offsets, logs.plan(last_of_large), is_large=True)
            for end_offsets in schedule.large
        ]
        for number in schedule.single:
            end_offsets = replay.end_offsets_of(logs, number)
            batches.append(_Batch(end_offsets, logs.plan(number), is_large=False))
        return batches

    def _run_batch(
        self, number: int, batch: _Batch, watermark: int, write: Write
    ) -> None:
        """Plan and run one batch in the temporary checkpoint."""
        query = self.query
        new_logs = Logs(self.folder / "checkpoint")
        replay.write_plan(
            query, self.logs, new_logs, number, batch.ends, watermark, batch.plan.time
        )
        # Several comparisons of one query can run at once.
        name = f"{query.name} shadow {self.folder.name}"
        writer = hand_over(query.frame.writeStream.queryName(name), write)
        replay.run_planned(query, new_logs.refresh(), writer)

    def _notes(self, changes: Sequence[str], schedule: _Schedule) -> tuple[str, ...]:
        """Return what the reader must know about a comparison."""
        notes = [f"changed: {change}" for change in changes]
        notes += [
            f"not compared: sink {kind}, which cannot be read back"
            for kind in self.left_out
        ]
        if schedule.single.start > 1:
            batches_read = count(len(schedule.large), "large batch")
            notes.append(
                f"the plans of the batches before {schedule.single.start - 1} are no"
                f" longer kept: their rows were read in {batches_read}, in which no row"
                " is late; what depends on batches can differ"
            )
        return tuple(notes)

    def planned(self, last: int) -> _Schedule:
        """Return what to run to have read what the checkpoint had read at the end of a batch.

        All input is checked before any is read.

        Raises:
            Unreadable: the input cannot be read again.
        """
        query = self.query
        logs = self.logs
        moves = replay.moves_of(query, logs, replay.end_offsets_of(logs, last))
        first = min(kept_plans(logs))
        splits = self._splits(last, moves)
        if not self.changes_batches and not _depends_on_batches(query):
            return _Schedule(moves, replay.in_batches(splits, 1.0), range(0))
        if first > 0:
            large = replay.in_batches(self._splits(first, moves), 1.0)
        else:
            large = [replay.end_offsets_of(logs, 0)]
        return _Schedule(moves, large, range(first + 1, last + 1))

    def _splits(self, batch: int, moves: Sequence[Move]) -> list[InputSplit]:
        """Return what all sources had given at the end of a batch, in splits."""
        end_offsets = replay.end_offsets_of(self.logs, batch)
        splits: list[InputSplit] = []
        for source in self.query.inputs:
            splits += replay.splits_of(
                self.query,
                self.logs,
                source,
                end_offsets[source.log],
                moves,
                refuses_loss=True,
            )
        return splits


def _discard(batch: DataFrame, _: int) -> None:
    """Have Spark compute a batch, and keep nothing of it."""
    batch.write.format("noop").mode("append").save()


def _depends_on_batches(query: StartingQuery) -> bool:
    """Return whether the rows of a query can depend on how its input was cut into batches."""
    if has(query.frame, _OTHER_OPERATOR) or _BY_TIME.search(analyzed_plan(query.frame)):
        return True
    # Two streams, and not a stream and a table
    return "\njoins: " in query.described["fingerprint"]


def _changes_batches(sink: Sink) -> bool:
    """Return whether a sink, or one inside it, changes batches before writing, as by `taking`."""
    # The one part of a sink with `taking` is the sink that it was made from.
    has_taking = len(sink.parts) == 1 and sink.parts[0].kind == sink.kind
    return has_taking or any(map(_changes_batches, sink.parts))
