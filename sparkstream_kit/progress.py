"""What a run did, query by query, with the rows that came too late.

An operator that takes rows one by one, as a deduplication does, counts the rows that it drops. An aggregation
counts groups, of which each may hold any number of rows. How many rows there are at most follows from their
times: those before the end of the last closed window. `observed` has Spark say how many rows have which
times; without it the earliest, the latest and the mean time of a batch's rows give a bound.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit._columns import OBSERVED, RULES, column
from sparkstream_kit._durations import epoch_microseconds
from sparkstream_kit._spark.batch import rows_set_aside
from sparkstream_kit._spark.plan import analyzed_plan
from sparkstream_kit._spark.queries import files, records_behind, seconds_behind, times_computed
from sparkstream_kit.checkpoints.show import count
from sparkstream_kit.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql.streaming.listener import StateOperatorProgress, StreamingQueryProgress

__all__ = ["QuerySummary", "RunSummary"]


_OBSERVED = "sparkstream_late"
_numbers = itertools.count(1)  # two in one query must not have the same name

# The shares of a batch whose latest times Spark is asked for: each 8% more than the one before.
_SHARES = [min(1e-4 * 1.08**step, 1.0) for step in range(121)]
_ACCURACY = 100_000  # Spark is off by at most one row in so many

_SECOND, _MILLI = 1_000_000, 1_000  # microseconds
# What Spark makes of window() and session_window(); lengths are in microseconds.
_WINDOW = re.compile(
    r"TimestampType, LongType\) - (-?\d+)\) % (\d+)\)(?:(?!precisetimestampconversion).)*?"
    r"\+ (\d+)\), LongType, TimestampType"
)
_GROUPS = re.compile(r"^\W*~Aggregate \[([^\[\]]*)\]", re.MULTILINE)
_WATERMARK = re.compile(r"^\W*~EventTimeWatermark ", re.MULTILINE)
_MULTIPLIES = re.compile(r"^\W*(Generate|Join|\w*Map\w+|Lateral\w*) ", re.MULTILINE)
_BY_KEY = re.compile(r"^\W*~(FlatMapGroups|TransformWithState)", re.MULTILINE)
_SOURCE = re.compile(r"^\W*(StreamingRelation|FileSource\[)", re.MULTILINE)


@dataclass(frozen=True)
class _Drops:
    """What the plan of a query says of the late rows that it drops.

    Attributes:
        watermarks: how many watermarks it has.
        multiplies: whether a step may make several rows of one.
        keeps: whether an aggregation gets rows of another operator with state, and so of earlier batches.
        places: in how many groups of an aggregation a row is at most.
        window: start, slide and length in microseconds, if the only aggregation is over such windows.
    """

    watermarks: int
    multiplies: bool
    keeps: bool
    places: int
    window: tuple[int, int, int] | None

    def bound(self, watermark: int) -> int:
        """Return the time before which a row must be to be dropped, in microseconds."""
        if self.window is None:
            return watermark + 1
        start, slide, length = self.window
        return (watermark - start - length) // slide * slide + start + length


def observed(frame: DataFrame, time: str) -> DataFrame:
    """Let Spark's progress say how many rows of a batch have which times; beside the plan, as all it does."""
    at = F.unix_micros(column(time))
    marks = F.percentile_approx(at, _SHARES, _ACCURACY)
    return frame.observe(f"{_OBSERVED}_{next(_numbers)}", F.count(at).alias("rows"), marks.alias("marks"))


def drops(frame: DataFrame | None) -> _Drops | None:
    """Read in a query's plan what it does with late rows; None for a query that `start` has not started."""
    if frame is None:
        return None
    plan = analyzed_plan(frame)
    groups, found = _GROUPS.findall(plan), set(_WINDOW.findall(plan))
    windows = [(int(start), int(slide), int(length)) for start, slide, length in found]
    plain = (
        len(groups) == 1 and len(windows) == 1 and re.findall(r"(\S+)#\d+-T\d+ms", groups[0]) == ["window"]
    )
    # Of windows in a form that is not known, a row may be in several.
    unknown = not windows and any(re.search(r"(?<!session_)\bwindow#", group) for group in groups)
    multiplies = unknown or _MULTIPLIES.search(plan) is not None
    return _Drops(
        watermarks=len(_WATERMARK.findall(plan)),
        multiplies=multiplies,
        keeps=len(groups) > 1
        or _BY_KEY.search(plan) is not None
        or (multiplies and len(_SOURCE.findall(plan)) > 1),
        places=math.prod(-(-length // slide) for _, slide, length in windows),
        window=windows[0] if plain else None,
    )


def _rows_late(progress: StreamingQueryProgress, by: _Drops | None, mark: int) -> tuple[int, int | None]:
    """Return how many rows a batch has dropped at least, and at most.

    Where nothing tells the most, it is None, and the least counts rows and groups.

    Args:
        progress: of the batch.
        by: what the query's plan says.
        mark: the watermark by which it has dropped them, in microseconds.
    """
    rows = groups = 0
    for operator in progress.stateOperators:
        dropped = operator.numRowsDroppedByWatermark // times_computed(operator)
        if re.match(r"(?i)stateStoreSave|session", operator.operatorName):
            groups += dropped
        else:
            rows += dropped
    if not groups:
        return rows, rows
    most = None if by is None or by.keeps else _at_most(progress, by, by.bound(mark))
    least = 1 if by is None or by.multiplies else -(-groups // by.places)
    if most is None or most < least:
        return rows + groups, None
    return rows + least, rows + most


def _at_most(progress: StreamingQueryProgress, by: _Drops, bound: int) -> int | None:
    """Return how many rows of a batch are before a time, at most; None where nothing tells."""
    told = [metrics for name, metrics in progress.observedMetrics.items() if name.startswith(_OBSERVED)]
    if told and len(told) == by.watermarks:
        values = (metrics["values"] if "values" in metrics else metrics for metrics in told)  # noqa: SIM401 - a Row has no get
        return sum(_before(bound, rows, marks) for rows, marks in values)
    if by.multiplies:
        return None
    rows = progress.numInputRows
    last, mean = (epoch_microseconds(progress.eventTime.get(name)) for name in ("max", "avg"))
    if by.watermarks > 1 or last is None or mean is None or last < bound:
        return rows
    # If k of the rows are before the bound, their mean is at most (k * bound + (rows - k) * last) / rows.
    spread = last - bound
    return min(rows, math.floor(rows * (last - mean + 2 * _MILLI) / spread)) if spread else rows


def _before(bound: int, rows: int, marks: list[int] | None) -> int:
    """Return how many of the rows are before a time, at most, by the times that their shares reach."""
    for share, mark in zip(_SHARES, marks or (), strict=False):
        if mark >= bound:
            return min(rows, math.ceil(share * rows) - 1 + rows // _ACCURACY)
    return rows


# What the quarantine's observation of a batch counts, in its order.
_PARSED = ("parsed_rows", "bad_rows", "header_rows", "like_header_rows")


@dataclass(frozen=True)
class Verdict:
    """What the last batches mean.

    Attributes:
        level: `bad` where the query gets worse by itself or waits for ever; `warn` where it could do better;
            `ok` for what is worth knowing of a query that does well.
        text: what is so, with its numbers, and what to do about it.
    """

    level: str
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


@dataclass(frozen=True)
class QuerySummary:
    """What one query did during a run, as Spark counts it.

    Attributes:
        name: the query's name.
        query_id: Spark's id of the query, which its checkpoint keeps over restarts.
        batches: batches committed in this run.
        input_rows: rows read in these batches; filters that the source applies itself come before.
        last_batch: the id of the last batch committed in this run, or None.
        output_rows: rows written, or None where the sink does not report them (any `foreachBatch`).
        late_rows: how many rows were dropped because they came after the watermark, or None without a
            watermark. An aggregation counts groups of rows: there it is the fewest rows that these can be, or
            their number of rows and groups where `late_rows_at_most` is None.
        late_rows_at_most: how many it were at most: the same number if it is exact, None if nothing tells.
        late_batches: how many batches dropped rows.
        late_seconds: how far the earliest row of these batches was behind the watermark.
        late_before_1970: whether a batch dropped rows before the watermark had moved: Spark's begins at 1970.
        rows_set_aside: how many late rows `sinks.by_watermark` wrote to its second sink; None without it, and
            on Spark Connect, where the server counts for itself.
        parsed_rows: rows that `quarantine` gave, good and bad, or None where the query does not use it. A
            batch that is computed twice counts twice, also in the next three.
        bad_rows: of these, the bad ones.
        header_rows: lines that `quarantine` left out as headers; they are none of the above.
        like_header_rows: of the bad rows, those that look like a header.
        mode: its output mode, or None for a query that `start` has not started.
        state_rows: rows that the query keeps in state after the last batch, or None without state.
        waiting_rows: of these, how many at most wait for the watermark before they are written, such as open
            windows and unmatched rows of a join; None in another mode than append, and without a watermark.
        records_behind: how many records Kafka had when the last batch was planned that no batch had read
            yet, over all partitions; None for a query without Kafka. Without `max_offsets_per_trigger` each
            batch takes all that is there.
        seconds_behind: for how many seconds a record that no batch had read yet may have been in a stream of
            Kinesis when the last batch was planned; None without one, and before Spark 4.2.
        files_waiting: how many files were in its folders that no committed batch had read: counted after
            the last batch, and once more when `run` ends. None for a query that reads no files, and where
            they cannot be counted: this process must reach the checkpoint and the folder, which on Spark
            Connect takes a server on this machine; and not with `fileNameOnly`.
        busy_seconds: how long its batches took, all together.
        rows_looked_at: rows of CSV and JSON files in which `run` has looked for values that Spark could not
            read: all rows where there are few, else a sample (see `sources.csv`); None without such files.
        null_rows: of these, the rows with NULL in every column that the query reads.
        null_columns: columns that the query reads and that are NULL in all of these rows, and in the rows of
            earlier runs; empty for fewer than 100 rows.
        broken: by each rule of `quarantine.expect`, how many rows broke it; empty without rules.
        verdicts: what its last batches mean, where something is wrong (`verdicts.verdicts` has the rules).
    """

    name: str
    query_id: str
    batches: int = 0
    input_rows: int = 0
    last_batch: int | None = None
    mode: str | None = None
    output_rows: int | None = None
    late_rows: int | None = None
    late_rows_at_most: int | None = None
    late_batches: int = 0
    late_seconds: float | None = None
    late_before_1970: bool = False
    rows_set_aside: int | None = None
    parsed_rows: int | None = None
    bad_rows: int | None = None
    header_rows: int | None = None
    like_header_rows: int | None = None
    state_rows: int | None = None
    waiting_rows: int | None = None
    records_behind: int | None = None
    seconds_behind: float | None = None
    files_waiting: int | None = None
    busy_seconds: float = 0.0
    rows_looked_at: int | None = None
    null_rows: int | None = None
    null_columns: tuple[str, ...] = ()
    broken: Mapping[str, int] = field(default_factory=dict, hash=False)
    verdicts: tuple[Verdict, ...] = ()
    drops: _Drops | None = field(default=None, repr=False)  # by what its plan drops late rows
    watermark: int | None = field(default=None, repr=False)  # of the last batch, in microseconds

    @property
    def rows_per_second(self) -> float | None:
        """Input rows over the time that the batches took; None before the first batch."""
        return self.input_rows / self.busy_seconds if self.busy_seconds else None

    def has(self, progress: StreamingQueryProgress) -> bool:
        """Say whether the summary has counted a batch."""
        return self.last_batch is not None and progress.batchId <= self.last_batch

    def with_batch(self, progress: StreamingQueryProgress) -> QuerySummary:
        """Return the summary with one more batch; itself if it has counted that one already."""
        if self.has(progress):
            return self
        counted: dict[str, Any] = {
            "batches": self.batches + 1,
            "input_rows": self.input_rows + progress.numInputRows,
            "last_batch": progress.batchId,
            "busy_seconds": self.busy_seconds + progress.durationMs.get("triggerExecution", 0) / 1000,
        }
        if progress.sink.numOutputRows >= 0:  # -1: the sink does not say
            counted["output_rows"] = (self.output_rows or 0) + progress.sink.numOutputRows
        operators = [(operator, times_computed(operator)) for operator in progress.stateOperators]
        if operators:
            counted["state_rows"] = sum(operator.numRowsTotal // times for operator, times in operators)
        if "watermark" in progress.eventTime:
            counted |= self._late(progress)
            if self.mode == "append":  # other modes have written the open windows
                waits = (each.numRowsTotal // times for each, times in operators if _waits(each))
                counted["waiting_rows"] = sum(waits)
        behind = [found for source in progress.sources if (found := records_behind(source)) is not None]
        if behind:
            counted["records_behind"] = sum(behind)
        ages = [age for source in progress.sources if (age := seconds_behind(source)) is not None]
        if ages:
            counted["seconds_behind"] = max(ages)
        counted |= self._observed(progress)
        return replace(self, **counted).waiting_in(progress)

    def waiting_in(self, progress: StreamingQueryProgress) -> QuerySummary:
        """Return the summary with how many files wait by the progress of its last batch."""
        found = [counted[0] for source in progress.sources if (counted := files(source)) is not None]
        return replace(self, files_waiting=sum(found) if found else None)

    def _late(self, progress: StreamingQueryProgress) -> dict[str, Any]:
        """Return what was dropped, and set aside, because it came too late, with one more batch."""
        first, own = (epoch_microseconds(progress.eventTime.get(name)) for name in ("min", "watermark"))
        follows = self.last_batch is not None and progress.batchId == self.last_batch + 1
        # Spark drops by the watermark of the batch before.
        former = self.watermark if follows and self.drops is not None else None
        mark = (own if former is None else former) or 0
        least, most = _rows_late(progress, self.drops, mark)
        before = 0 if self.late_rows is None else self.late_rows_at_most
        counted: dict[str, Any] = {
            "late_rows": (self.late_rows or 0) + least,
            "late_rows_at_most": None if before is None or most is None else before + most,
            "watermark": own,
        }
        if least:
            counted["late_batches"] = self.late_batches + 1
            counted["late_before_1970"] = self.late_before_1970 or mark == 0
            if first is not None:
                counted["late_seconds"] = max(self.late_seconds or 0, (mark - first) / _SECOND)
        if (aside := rows_set_aside(str(progress.id), progress.batchId)) is not None:
            counted["rows_set_aside"] = (self.rows_set_aside or 0) + aside
        return counted

    @property
    def late_rows_said(self) -> str:
        """How many late rows were dropped, in words: "12 late rows", "between 3 and 40 late rows"."""
        least, most = self.late_rows or 0, self.late_rows_at_most
        if most is None and least:
            return f"at least {count(least, 'late row')} or {'group' if least == 1 else 'groups'}"
        if most is None or most == least:
            return count(least, "late row")
        return f"between {least:,} and {count(most, 'late row')}"

    def _observed(self, progress: StreamingQueryProgress) -> dict[str, Any]:
        """Return what `quarantine` has counted, with one more batch."""
        counted: dict[str, Any] = {}
        for name, metrics in progress.observedMetrics.items():
            # On Connect the row may be the values alone, under the names of Spark's message.
            alone = metrics["values"] if "values" in metrics else None  # noqa: SIM401 - a Row has no get
            if name.startswith(OBSERVED):
                for kind, rows in zip(_PARSED, alone or metrics, strict=True):
                    counted[kind] = counted.get(kind, getattr(self, kind) or 0) + rows
            elif name.startswith(RULES):
                broken = counted.setdefault("broken", dict(self.broken))
                named = metrics.asDict() if alone is None else {f"rule {at}": n for at, n in enumerate(alone)}
                for rule, rows in named.items():
                    broken[rule] = broken.get(rule, 0) + rows
        return counted

    def __str__(self) -> str:
        """Return one readable line."""
        done = [count(self.batches, "batch"), f"{count(self.input_rows, 'row')} in"]
        if self.output_rows is not None:
            done.append(f"{count(self.output_rows, 'row')} out")
        if self.late_rows is not None:
            done.append(f"{self.late_rows_said} dropped")
        if self.rows_set_aside is not None:
            done.append(f"{count(self.rows_set_aside, 'late row')} set aside")
        if self.header_rows:
            done.append(count(self.header_rows, "header line"))
        if self.bad_rows is not None:
            done.append(count(self.bad_rows, "bad row"))
        if self.null_rows and self.rows_looked_at is not None:
            some = " looked at" if self.rows_looked_at < self.input_rows else ""
            done.append(f"{self.null_rows:,} of {count(self.rows_looked_at, 'row')}{some} without a value")
        if self.state_rows is not None:
            done.append(f"{count(self.state_rows, 'row')} in state")
        done += self._behind()
        if self.rows_per_second is not None:
            done.append(f"{count(round(self.rows_per_second), 'row')}/s")
        last = "none" if self.last_batch is None else self.last_batch
        return f"{self.name}: {', '.join(done)}, last batch committed: {last}"

    def _behind(self) -> list[str]:
        """Say how large its backlog is, as each kind of source counts it."""
        said = []
        if self.records_behind is not None:
            said.append(f"{count(self.records_behind, 'record')} behind")
        if self.files_waiting:
            said.append(f"{count(self.files_waiting, 'file')} waiting")
        if self.seconds_behind is not None:
            said.append(f"{self.seconds_behind:,.0f} s behind")
        return said


@dataclass(frozen=True)
class RunSummary:
    """What a run did, query by query.

    Attributes:
        ended_by: why it ended: "end of input", "run_for is over", "max_batches are through", "N s without a
            row", "stop file PATH", "the web page", "SIGINT", "SIGTERM", "a signal to the JVM", "query.stop()"
            (somebody else has stopped them) or "failure".
        seconds: how long it ran.
        queries: one summary a query, in the order given.
        warnings: what its sources lost or hid without an error, one line each (see `checkpoints.losses`).
    """

    ended_by: str
    seconds: float
    queries: tuple[QuerySummary, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line for each query, warning and verdict, and one for the run."""
        lines = [str(query) for query in self.queries]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [
            f"verdict: query {query.name}: {said}"
            for query in self.queries
            for said in query.verdicts
            if said.level != "ok"
        ]
        for query in self.queries:
            if query.waiting_rows and self.ended_by == "end of input":
                kept = count(query.waiting_rows, "row")
                what = "rows that wait for the watermark, as in open windows, are not in the output"
                fix = "to write it at the end of the input: run(…, drain=True) (of a job: --drain)"
                lines.append(f"hint: query {query.name} has {kept} in state; {what}; {fix}")
            if query.like_header_rows:
                found = count(query.like_header_rows, "bad row")
                looks = "looks like a header" if query.like_header_rows == 1 else "look like headers"
                fix = "parse with header=True (of a job: --header)"
                lines.append(f"hint: {found} of query {query.name} {looks}; {fix}")
        lines.append(f"ended after {self.seconds:.1f} s by: {self.ended_by}")
        return "\n".join(map(printable, lines))


def _waits(operator: StateOperatorProgress) -> bool:
    """Say whether rows of a state wait to be written, and are not kept to know others by them."""
    if operator.operatorName.startswith("transformWithState"):
        return bool(operator.customMetrics.get("numListStateVars"))  # as those of `state` that wait have
    return not operator.operatorName.startswith("dedupe")
