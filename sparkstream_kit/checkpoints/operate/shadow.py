"""Compare a changed query with what its earlier version has written, before it takes over.

`start(…, dry_run="compare")` and the flag `--shadow` of jobs call `shadow`. It runs the
changed query over what the checkpoint has read, on a new checkpoint in a temporary
folder, and keeps there what the query would give its sinks (`Opening.instead`). Then it
compares these rows with those that the sinks' targets hold, which `Sink.read` reads
back. The checkpoint and the targets are only read. `planned` is for `start(…,
dry_run=True)`: it makes the checks of a start, and says what would run.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import and_, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.window import Window

from sparkstream_kit._internal import file_system, threads
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import column
from sparkstream_kit._internal.spark.batch import hand_over
from sparkstream_kit._internal.spark.logical_plan import analyzed_plan, check_mode, has
from sparkstream_kit._internal.spark.place import Here, locate
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.fingerprint import WATERMARK, top_level
from sparkstream_kit.checkpoints.guard import Query, guard
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.checkpoints.operate.check import checkpoint as existing
from sparkstream_kit.checkpoints.operate.check import damage
from sparkstream_kit.checkpoints.operate.find import kept_plans
from sparkstream_kit.checkpoints.operate.values import side_by_side
from sparkstream_kit.connectors._tables import gone
from sparkstream_kit.errors import DryRun, InvalidInputError, count, reject_unknown
from sparkstream_kit.sinks.base import Opening, begun, inner
from sparkstream_kit.sinks.folders import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.checkpoints.guard import Question
    from sparkstream_kit.checkpoints.moved import Move
    from sparkstream_kit.checkpoints.operate.replay import Ends, Piece
    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.sinks.base import Read


_RANK = "sparkstream_rank"  # columns that are added for a moment
_SIDE = "sparkstream_side"
# Columns of `Compared.differ` and of what is shown of it
_OWN = {"old", "new", "column", "columns"}
_AT_REST = 60  # seconds to wait until a running query is between two batches
# Spark's conditions for a target that was removed, or of which the files were.
_GONE = ("PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND", "UNABLE_TO_INFER_SCHEMA")
# Functions whose results differ from one run to the next, as Spark prints them.
_UNSTEADY = re.compile(
    r"\b(rand(?:n|str)?|uniform|uuid|shuffle|monotonically_increasing_id|spark_partition_id)\("
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
class Compared:
    """The rows of one target beside those that the changed query gives it.

    Attributes:
        target: the target.
        keys: the columns by which rows were matched; empty if whole rows were compared.
        equal: the rows that are the same, with the query's columns.
        differ: the rows that differ: the keys, and `old` and `new` (structs of the
            other columns).
        only_new: the rows that only the changed query has, with the query's columns.
        only_old: the rows that only the target has, with the query's columns.
        columns: a phrase for each column that only one of the two has, or that has two
            types.
        counts: how many rows there are of the four kinds, in the order above.
        notes: a phrase for each column of which the target has another type that holds
            all values.
    """

    target: str
    keys: tuple[str, ...]
    equal: DataFrame
    differ: DataFrame
    only_new: DataFrame
    only_old: DataFrame
    columns: tuple[str, ...]
    counts: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no row, no column and no type of a column differs."""
        return not (any(self.counts[1:]) or self.columns)

    def says(self, rows: int = 10) -> str:
        """Return the comparison as text, with at most so many rows of each kind that differs."""
        from sparkstream_kit.display import render

        equal, differ, new, old = self.counts
        lines = [
            f"{equal:,} equal, {differ:,} differ, {new:,} only new, {old:,} only old",
            *self.columns,
            *self.notes,
        ]
        parts = [("differ", _values(self), differ)] if differ else []
        parts += [("only new", self.only_new, new)] if new else []
        parts += [("only old", self.only_old, old)] if old else []
        for title, frame, number in parts:
            first = frame.sort(*map(column, self.keys or frame.columns)).limit(rows)
            more = [f"… and {number - rows:,} more"] if number > rows else []
            lines += [f"{title}:", *render(first, "table").splitlines(), *more]
        return "\n".join(lines)


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
        return "\n".join(
            [f"query {self.name}", *(f"  {what:<11}{text}" for what, text in self.says)]
        )


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
        return 0 if all(each.same for each in self.tables) else 3

    def __str__(self) -> str:
        lines = [f"query {self.name}, compared at batch {self.batch}"]
        for each in self.tables:
            lines += [each.target, *(f"  {line}" for line in each.says().split("\n"))]
        return "\n".join([*lines, *self.notes])


def planned(
    query: Query,
    sink: Sink,
    location: Place | None,
    trigger: Mapping[str, Any],
    carried: Sequence[tuple[str, str]],
    opening: Opening,
    of_systems: Callable[[Query], Iterable[Question]],
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
    says = [("mode", query.mode), *(("sink", _said(each)) for each in inner(sink))]
    when = next(
        (f"{word}={value}" for word, value in trigger.items()),
        "a batch as soon as the last one has ended",
    )
    if carried:
        return Planned(query.name, (*says, *carried, ("trigger", when)))
    with query.in_force(), guard(query, location, of_systems, dry_run=True) as guarded:
        if "realTime" in trigger and sink.realtime is not None:
            sink.realtime(query.frame)
        else:
            opening.know({} if guarded.logs is None else guarded.logs.noted)
            begun(sink, query.frame, location, opening)
        check_mode(query.frame, query.mode)
        stands = (
            f"{location} (out of reach from here)"
            if location
            else "a temporary one, removed at the end"
        )
        if guarded.logs is not None:
            done = guarded.logs.done
            stands = (
                f"{location} ({'new' if done < 0 else f'resumes after batch {done}'})"
            )
        says += [
            ("checkpoint", stands),
            *(("change", what) for what in guarded.changes),
            *(("input", said) for said in dict.fromkeys(map(str, query.inputs))),
            ("trigger", when),
        ]
        return Planned(query.name, tuple(says))


def _said(sink: Sink) -> str:
    """Return a line about a sink: where it writes, and its delivery promise."""
    to = f" to {', '.join(map(str, sink.writes_to))}" if sink.writes_to else ""
    return f"{sink.kind}{to}: {sink.promise}"


def dry(planned: Sequence[Planned]) -> DryRun:
    """Return the error that ends a dry run of one or more queries."""
    begins = dict.fromkeys(query.begins for query in planned)
    ended = DryRun("\n".join([*begins, *map(str, planned)]))
    ended.exit_code = max(query.exit_code for query in planned)
    return ended


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
    query = Query(frame, name, mode, False, moved or {})
    place = locate(frame.sparkSession, checkpoint)
    found = _UNSTEADY.search(analyzed_plan(query.frame))
    unsteady = found[1] if found else "sample" if has(query.frame, _SAMPLE) else ""
    if unsteady:
        raise InvalidInputError(
            f"query {query.name} cannot be compared: {unsteady}() gives other results"
            " in each run; leave it out of the query, or take its value from a column"
        )
    logs = Logs(existing(checkpoint))
    over = damage(logs) or (
        logs.done < 0 and f"checkpoint {place} has no committed batch to compare with"
    )
    if over:
        raise InvalidInputError(over)
    made = replay.scratch(query.spark, "shadow")
    again = _Replay(query, place, logs, Path(made.name), _takes(sink))
    with query.in_force():
        write = begun(
            sink, frame, again.place_of("checkpoint"), Opening(instead=again.add)
        )
    if not again.leaves:
        raise InvalidInputError(
            f"query {name} cannot be compared: sink {sink.kind} cannot be read back"
            " (files, snapshots, views, and tables of SQL, Delta, Iceberg and the"
            " catalog can); to see what the query gives it, open single batches:"
            " checkpoints.batch"
        )
    try:
        # What cannot be compared is refused before the targets are read
        again.planned(logs.done)
        at = again.keep_targets()
        notes = again.run(at, cast("Write", write))
    except replay.Unreadable as err:
        raise InvalidInputError(
            f"checkpoint {place} cannot be compared: {err}"
        ) from None
    again.say("comparing the rows")
    tables = tuple(leaf.compared(query, keys, tolerance) for leaf in again.leaves)
    replay.KEPT.append(made)
    switch = _SWITCH.format(place.text)
    if query.mode != "complete":
        switch += _STAY
    return Shadow(name, (), at, tables, (*notes, switch))


@dataclass
class _Leaf:
    """The rows of one target, and of what the changed query gives it, in a scratch folder."""

    sink: Sink
    schema: T.StructType
    read: Read
    folder: str

    def write(self, batch: DataFrame, number: int) -> None:
        """Keep a batch of the changed query."""
        batch.write.mode("overwrite").parquet(f"{self.folder}/new/{BATCH}={number}")

    def keep_target(self, spark: SparkSession, place: Place) -> None:
        """Keep the rows that the target holds now."""
        try:
            self.read(spark, self.schema, place).write.mode("overwrite").parquet(
                f"{self.folder}/old"
            )
        except AnalysisException as err:
            raise (gone(self) if err.getCondition() in _GONE else err) from None
        except FileNotFoundError:
            raise gone(self) from None

    def compared(
        self, query: Query, given: Sequence[str], tolerance: float
    ) -> Compared:
        """Compare the rows, once all are kept."""
        read = query.spark.read.parquet
        new = read(f"{self.folder}/new")
        old = read(f"{self.folder}/old")
        names = [name for name in self.schema.names if name in old.columns]
        lacks = [
            f"only the changed query has column {each}"
            for each in {*self.schema.names} - {*names}
        ]
        lacks += [
            f"only the target has column {each}"
            for each in {*old.columns} - {*names, BATCH}
        ]
        keys = self._keys(query, given, names)
        old, new = (_result(rows, query.mode, keys) for rows in (old, new))
        sides = side_by_side(old, new, self.schema, names, self.sink.form, self.folder)
        old = sides.old
        new = sides.new
        match_by_keys = bool(keys) and not {*keys} & {*sides.apart}
        if match_by_keys and all(_identify(rows, keys) for rows in (old, new)):
            fields = [each for each in new.schema if each.name not in keys]
            differs = [
                _differs(each, tolerance, each.name in sides.apart) for each in fields
            ]
            parts = self._by_keys(old, new, keys, differs)
        else:
            keys = []
            parts = _by_rows(old, new, sides.apart)
        counts = tuple(part.count() for part in parts)
        columns = (*sorted(lacks), *sides.types)
        return Compared(str(self), tuple(keys), *parts, columns, counts, sides.notes)

    def _keys(
        self, query: Query, given: Sequence[str], names: Sequence[str]
    ) -> list[str]:
        """Return the columns by which rows are matched; none if they are not known.

        Args:
            query: the changed query.
            given: the keys that the caller gave.
            names: the columns that both sides have.
        """
        if not names:
            raise InvalidInputError(
                f"{self} has no column of this query; give a new target"
            )
        reject_unknown("key", given, names)
        grouped = _group_keys(query)
        keys = [*(given or self.sink.keys)] or [
            each for each in grouped if each in names
        ]
        if absent := {*keys} - {*names}:
            lacks_key = f"{self} has no column {min(absent)}, a key of this query"
            raise InvalidInputError(f"{lacks_key}; give a new target")
        if taken := _OWN & {*map(str.lower, keys)}:
            raise InvalidInputError(
                f"{self}: key {min(taken)} has a name of the comparison; rename it in"
                " both, or give keys= without it"
            )
        is_grouped = "groups by: " in query.described["fingerprint"]
        if (
            query.mode == "update"
            and not (given or self.sink.keys)
            and not (is_grouped and keys == grouped)
        ):
            raise InvalidInputError(
                f"{self}: its rows have no keys that are known; give keys="
            )
        return keys

    def _by_keys(
        self,
        old: DataFrame,
        new: DataFrame,
        keys: Sequence[str],
        differs: Sequence[Column],
    ) -> tuple[DataFrame, DataFrame, DataFrame, DataFrame]:
        """Match rows by their keys, keep the pairs, and return the parts as `Compared` has them."""
        pairs = [
            rows.select(F.struct("*").alias(name))
            for name, rows in (("old", old), ("new", new))
        ]
        one = F.col("old")
        other = F.col("new")
        match = reduce(and_, (one[key].eqNullSafe(other[key]) for key in keys))
        both = pairs[0].join(pairs[1], match, "full")
        both = both.withColumn(
            "columns", F.array_compact(F.array(*differs, F.lit(None).cast("string")))
        )
        both.write.parquet(f"{self.folder}/both")
        kept = old.sparkSession.read.parquet(f"{self.folder}/both")
        found = kept.where("old IS NOT NULL AND new IS NOT NULL")
        names = [other[key].alias(key) for key in keys]
        return (
            found.where(F.size("columns") == 0).select("new.*"),
            found.where(F.size("columns") > 0).select(*names, "columns", "old", "new"),
            kept.where("old IS NULL").select("new.*"),
            kept.where("new IS NULL").select("old.*"),
        )

    def __str__(self) -> str:
        return ", ".join(map(str, self.sink.writes_to)) or self.sink.kind


def _group_keys(query: Query) -> list[str]:
    """Return the columns by which a query groups; of a window, those of `windows.flatten`."""
    facts = query.described["fingerprint"].split("\n")
    by = [fact.partition(": ")[2] for fact in facts if fact.startswith("groups by: ")]
    made = query.frame.columns
    names = list[str]()
    for key in top_level(", ".join(by)):
        plain = re.sub(r"#\d+", "", key)
        names += [plain] if plain in made else re.findall(r"(\w+)#\d", key)
    flat = {"window": ["start", "end"]} if "window" not in made else {}
    return [key for name in dict.fromkeys(names) for key in flat.get(name, [name])]


def _result(rows: DataFrame, mode: str, keys: Sequence[str]) -> DataFrame:
    """Return the rows that stand in the end, of all that the batches of a query wrote."""
    if BATCH in rows.columns and mode == "complete":
        rows = rows.where(F.col(BATCH) == rows.agg(F.max(BATCH)).collect()[0][0])
    elif BATCH in rows.columns and mode == "update":
        latest = Window.partitionBy(*map(column, keys)).orderBy(F.col(BATCH).desc())
        rows = (
            rows.withColumn(_RANK, F.row_number().over(latest))
            .where(f"{_RANK} = 1")
            .drop(_RANK)
        )
    return rows.drop(BATCH)


def _by_rows(
    old: DataFrame, new: DataFrame, apart: Sequence[str]
) -> tuple[DataFrame, DataFrame, DataFrame, DataFrame]:
    """Compare whole rows, and return the parts as `Compared` has them.

    Args:
        old: the rows of the target.
        new: the rows of the changed query.
        apart: the columns of which no two values are equal, but NULL.
    """
    has_some = reduce(or_, (column(name).isNotNull() for name in apart), F.lit(False))
    theirs, ours = (
        rows.withColumn(_SIDE, F.when(has_some, side))
        for side, rows in (("old", old), ("new", new))
    )
    parts = (
        ours.intersectAll(theirs),
        ours.limit(0),
        ours.exceptAll(theirs),
        theirs.exceptAll(ours),
    )
    equal, differ, only_new, only_old = (part.drop(_SIDE) for part in parts)
    return equal, differ, only_new, only_old


def _identify(rows: DataFrame, keys: Sequence[str]) -> bool:
    """Return whether no two rows have the same keys."""
    return (
        rows.groupBy(*map(column, keys))
        .agg(F.count("*").alias(_RANK))
        .where(f"{_RANK} > 1")
        .isEmpty()
    )


def _differs(field: T.StructField, tolerance: float, is_apart: bool) -> Column:
    """Return the name of a field if its values in the structs `old` and `new` differ, else NULL.

    Args:
        field: the field.
        tolerance: how much two floating-point numbers may differ.
        is_apart: whether no two values of it are equal, but NULL.
    """
    one = F.col("old")[field.name]
    other = F.col("new")[field.name]
    equal = one.isNull() & other.isNull() if is_apart else one.eqNullSafe(other)
    if isinstance(field.dataType, (T.DoubleType, T.FloatType)):
        gap = F.abs(one - other)
        most = F.greatest(F.abs(one), F.abs(other))
        # To Spark NaN is larger than infinity, and equal to itself.
        equal |= F.coalesce((gap <= tolerance * most) & (gap < math.inf), F.lit(False))
    return F.when(~equal, field.name)


def _values(compared: Compared) -> DataFrame:
    """Return a row for each value that differs: the keys, `column`, `old` and `new` (strings)."""
    frame = compared.differ

    def value(name: str) -> Column:
        both = (F.col(side)[name].cast("string").alias(side) for side in ("old", "new"))
        return F.struct(F.lit(name).alias("column"), *both)

    values = map(value, frame.select("old.*").columns)
    some = F.filter(
        F.array(*values), lambda each: F.array_contains("columns", each["column"])
    )
    rows = frame.select(*map(column, compared.keys), F.explode(some).alias(_RANK))
    return rows.select(*map(column, compared.keys), f"{_RANK}.*")


@dataclass
class _Replay:
    """The run of the changed query over what the checkpoint has read.

    Attributes:
        query: the changed query.
        place: the checkpoint.
        logs: its logs.
        folder: the temporary folder.
        takes: whether a sink changes each batch.
        leaves: the targets that can be read back.
        left_out: the kinds of the other sinks.
    """

    query: Query
    place: Place
    logs: Logs
    folder: Path
    takes: bool
    leaves: list[_Leaf] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        """Say on standard error which part of the comparison has begun."""
        sys.stderr.write(f"query {self.query.name}: {what} …\n")

    def place_of(self, name: str) -> Here:
        """Return a part of the temporary folder."""
        return Here(file_system.for_spark(self.folder / name), self.folder / name)

    def add(self, sink: Sink, schema: T.StructType) -> Write:
        """Return what takes a sink's batches, and keeps them if they can be read back."""
        if sink.read is None:
            self.left_out.append(sink.kind)
            return lambda batch, _: batch.write.format("noop").mode("append").save()
        folder = self.place_of(f"rows{len(self.leaves)}").text
        self.leaves.append(_Leaf(sink, schema, sink.read, folder))
        return self.leaves[-1].write

    def keep_targets(self) -> int:
        """Keep what the targets hold between two batches of the query; return the last batch."""
        self.say("reading its targets between two batches")

        def kept() -> bool:
            rested = self._rests_at(at := self.logs.again().done)
            for leaf in self.leaves if rested else ():
                leaf.keep_target(self.query.spark, self.place)
            return rested and self._rests_at(at)

        if not threads.until(kept, _AT_REST):
            raise InvalidInputError(
                f"checkpoint {self.place}: batch {self.logs.planned} is being written,"
                " or was cut off; to compare, stop its query, or start it once, so"
                " that it ends this batch"
            )
        return self.logs.done

    def _rests_at(self, batch: int) -> bool:
        logs = self.logs.again()
        return logs.planned == logs.done == batch

    def run(self, at: int, write: Write) -> tuple[str, ...]:
        """Run the query over what was read up to a batch; return what the reader must know."""
        query = self.query
        logs = self.logs
        made = self.folder / "checkpoint"
        kept = logs.noted.get("fingerprint", "")
        changes = query.differences(kept)
        moves, large, single = self.planned(at)
        replay.copy_sources(logs, made, moves)
        known = bool(kept) and not any(WATERMARK in each for each in changes)
        watermark = 0
        first = single.start - 1 if single else at
        # All plans are read now, because the running query removes them.
        batches = [(each, logs.plan(first)) for each in large]
        batches += [(replay.ends_of(logs, of), logs.plan(of)) for of in single]
        for number, (ends, plan) in enumerate(batches):
            replay.say_batch(query, number, len(batches))
            is_large = number < len(large)
            if not is_large and (known or plan.watermark == END):
                watermark = plan.watermark
            replay.write_plan(
                query,
                logs,
                Logs(made),
                number,
                ends,
                0 if is_large else watermark,
                plan.time,
            )
            # Several comparisons of one query can run at once.
            called = f"{query.name} shadow {self.folder.name}"
            writer = hand_over(query.frame.writeStream.queryName(called), write)
            replay.run_planned(query, Logs(made), writer)
            watermark = max(
                watermark, Logs(made).commit(number).get("nextBatchWatermarkMs", 0)
            )
        notes = [f"changed: {each}" for each in changes]
        notes += [
            f"not compared: sink {each}, which cannot be read back"
            for each in self.left_out
        ]
        if single.start > 1:
            batches_read = count(len(large), "large batch")
            notes.append(
                f"the plans of the batches before {single.start - 1} are no longer"
                f" kept: their rows were read in {batches_read}, in which no row is"
                " late; what depends on batches can differ"
            )
        return tuple(notes)

    def planned(self, at: int) -> tuple[list[Move], list[Ends], range]:
        """Return what to run: large batches, by what they read, and then batches of the checkpoint.

        Before that come the moves of the sources' folders. All input is checked before
        any is read.

        Raises:
            Unreadable: the input cannot be read again.
        """
        query = self.query
        logs = self.logs

        def pieces(batch: int) -> list[Piece]:
            ends = replay.ends_of(logs, batch)
            of = partial(replay.pieces_of, query, logs)
            return [
                piece
                for each in query.inputs
                for piece in of(each, ends[each.log], moves, whole=True)
            ]

        moves = replay.moves_of(query, logs, replay.ends_of(logs, at))
        first = min(kept_plans(logs))
        read = pieces(at)
        if not (self.takes or _depends_on_batches(query)):
            return moves, replay.in_batches(read, 1.0), range(0)
        large = (
            replay.in_batches(pieces(first), 1.0)
            if first > 0
            else [replay.ends_of(logs, 0)]
        )
        return moves, large, range(first + 1, at + 1)


def _depends_on_batches(query: Query) -> bool:
    """Return whether the rows of a query can depend on how its input was cut into batches."""
    if has(query.frame, _OTHER_OPERATOR) or _BY_TIME.search(analyzed_plan(query.frame)):
        return True
    # Two streams, and not a stream and a table
    return "\njoins: " in query.described["fingerprint"]


def _takes(sink: Sink) -> bool:
    """Return whether a sink, or one inside it, changes batches before writing, as by `taking`."""
    is_same = [part.kind == sink.kind for part in sink.parts]
    return is_same == [True] or any(map(_takes, sink.parts))
