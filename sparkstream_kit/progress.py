"""Start and run: what a run did, query by query, with the rows that came too late.

`run` adds up the progress of each batch in a `QuerySummary` and returns a `RunSummary`
of all its queries. Printing either gives a report.

Spark does not count all late rows. An operator that handles rows one by one, such as a
deduplication, counts the rows that it drops. An aggregation counts groups instead, and
a group may contain any number of rows; for such a query the summary has the least and
the largest number of rows that were dropped (`_internal.spark.late`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.columns import HEADERS, OBSERVED, RULES
from sparkstream_kit._internal.spark.batch import rows_set_aside
from sparkstream_kit._internal.spark.late import (
    EPOCH,
    Dropping,
    dropping,
    moment,
    rows_late,
)
from sparkstream_kit._internal.spark.logical_plan import analyzed_plan
from sparkstream_kit._internal.spark.queries import (
    records_behind,
    seconds_behind,
    times_computed,
)
from sparkstream_kit.errors import count, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from pyspark.sql import Row
    from pyspark.sql.streaming.listener import (
        StateOperatorProgress,
        StreamingQueryProgress,
    )

    from sparkstream_kit._internal.spark.queries import StartFacts

__all__ = ["QuerySummary", "RunSummary"]

# Operators, by the beginning of their names, whose rows wait to be written in some
# plans only, and what such a plan has.
_MAY_WAIT = {
    "dedupe": r"(?!)",  # which keeps rows only to recognise later duplicates
    "symmetricHashJoin": r"Join (Left|Right|Full)Outer",
    "applyInPandasWithState": r"EventTimeTimeout$",
}


def first_summary(name: str, id_: str, facts: StartFacts) -> QuerySummary:
    """Return the summary of a query that has run no batch yet.

    A query that `start` has not begun has no plan.
    """
    plan = ""
    if facts.frame is not None:
        plan = analyzed_plan(facts.frame)
    drops = Dropping()
    if plan:
        drops = dropping(plan)
    keep_only = tuple(
        operator
        for operator, sign in _MAY_WAIT.items()
        if not re.search(sign, plan, re.MULTILINE)
    )
    return QuerySummary(name, id_, mode=facts.mode, drops=drops, keep_only=keep_only)


# The counts in the quarantine's observation of a batch, in their order.
_PARSED = ("parsed_rows", "bad_rows", "header_rows", "like_header_rows")


@dataclass(frozen=True)
class Verdict:
    """A finding about a query, from its last batches; printing it gives the text.

    Attributes:
        level: `bad` if the query gets worse without intervention, or waits for ever;
            `warn` if it could do better.
        text: the finding, with numbers, and what to do about it.
        kind: what the finding is about, such as "backlog". It stays the same while the
            numbers in the text change.
    """

    level: str
    text: str
    kind: str = ""

    def __str__(self) -> str:
        """Return the text."""
        return self.text


@dataclass(frozen=True)
class QuerySummary:
    """What one query did during a run, as Spark counts it; printing it gives one line.

    Attributes:
        name: the query's name.
        query_id: Spark's id of the query, which stays the same across restarts on one
            checkpoint.
        batches: the number of batches committed in this run.
        input_rows: the number of rows read in these batches, after any filters that the
            source itself applies.
        last_batch: the id of the last batch committed in this run; None if there was
            none.
        output_rows: the number of rows written; None if the sink does not report it
            (any `foreachBatch`).
        late_rows: the number of rows that were dropped because the watermark had passed
            their event time; None without a watermark. Spark counts the groups that an
            aggregation drops, not their rows, so for such a query this is the least
            possible number of rows.
        late_rows_exact: whether `late_rows` is exact.
        late_rows_at_most: the largest possible number of these rows; None if there is
            no upper bound, and without a watermark.
        late_batches: the number of batches that dropped rows.
        late_seconds: how many seconds the earliest row of these batches was behind the
            watermark.
        late_before_1970: whether a batch dropped rows before the watermark had moved
            from its initial value, 1970-01-01.
        rows_set_aside: the number of late rows that `sinks.by_watermark` wrote to its
            second sink; None without that sink, and on Spark Connect, where the count
            stays on the server.
        parsed_rows: the number of rows, good and bad, that `quarantine` returned; None
            without `quarantine`. A batch that is computed twice counts twice, here and
            in the next four attributes.
        bad_rows: the bad rows among `parsed_rows`.
        header_rows: the number of lines that `quarantine` skipped as headers; not part
            of `parsed_rows`.
        like_header_rows: the rows among `bad_rows` that look like a header and were
            parsed without `header=True`.
        files_without_header: the number of files that `quarantine.parse_csv` read with
            `header=True` and whose first line is not the header of the schema; None
            without it, and for lines that come from no files.
        mode: the output mode; None for a query that `start` has not started.
        absent_fields: columns of JSON for which the files that the run has read have no
            field, so that they are NULL; empty unless the files have other fields.
        other_fields: these fields, which are no columns; at most five.
        state_rows: the number of rows in the state store after the last batch; None
            without state.
        waiting_rows: how many of `state_rows` at most wait for the watermark before
            they are written, such as open windows and unmatched rows of a join; None in
            other modes than append, and without a watermark.
        records_behind: the number of Kafka records, over all partitions, that no batch
            had read yet when the last batch was planned; None for a query without
            Kafka. Without `max_offsets_per_trigger`, each batch reads all of them.
        seconds_behind: for how many seconds at most an unread record had been in a
            Kinesis stream when the last batch was planned; None without Kinesis, and
            before Spark 4.2.
        files_waiting: the number of files in the input folders that no committed batch
            had read; counted after the last batch, and once more when `run` ends. None
            for a query that reads no files, with the option `fileNameOnly`, and if this
            process cannot reach the checkpoint and the folders (on Spark Connect it can
            only with a server on this machine).
        busy_seconds: the total duration of the batches.
        broken: for each rule of `quarantine.expect`, the number of rows that broke it;
            empty without rules.
        verdicts: findings about the query if something is wrong (`verdicts.verdicts`
            lists the rules).
    """

    name: str
    query_id: str
    batches: int = 0
    input_rows: int = 0
    last_batch: int | None = None
    mode: str | None = None
    output_rows: int | None = None
    late_rows: int | None = None
    late_rows_exact: bool = True
    late_rows_at_most: int | None = None
    late_batches: int = 0
    late_seconds: float | None = None
    late_before_1970: bool = False
    rows_set_aside: int | None = None
    parsed_rows: int | None = None
    bad_rows: int | None = None
    header_rows: int | None = None
    like_header_rows: int | None = None
    files_without_header: int | None = None
    absent_fields: tuple[str, ...] = ()
    other_fields: tuple[str, ...] = ()
    state_rows: int | None = None
    waiting_rows: int | None = None
    records_behind: int | None = None
    seconds_behind: float | None = None
    files_waiting: int | None = None
    busy_seconds: float = 0.0
    broken: Mapping[str, int] = field(default_factory=dict, hash=False)
    verdicts: tuple[Verdict, ...] = ()
    # How its plan drops late rows
    drops: Dropping = field(default_factory=Dropping, repr=False)
    # Operators whose rows never wait
    keep_only: tuple[str, ...] = field(default=("dedupe",), repr=False)
    watermark: datetime | None = field(default=None, repr=False)  # of the last batch

    @property
    def rows_per_second(self) -> float | None:
        """Input rows divided by `busy_seconds`; None before the first batch."""
        return self.input_rows / self.busy_seconds if self.busy_seconds else None

    def has(self, progress: StreamingQueryProgress) -> bool:
        """Return whether the summary has already counted a batch."""
        return self.last_batch is not None and progress.batchId <= self.last_batch

    def with_batch(
        self, progress: StreamingQueryProgress, files: tuple[int, int] | None = None
    ) -> QuerySummary:
        """Return a summary with one more batch, or this one if it has already counted the batch."""
        if self.has(progress):
            return self
        counted: dict[str, Any] = {
            "batches": self.batches + 1,
            "input_rows": self.input_rows + progress.numInputRows,
            "last_batch": progress.batchId,
            "busy_seconds": (
                self.busy_seconds
                + progress.durationMs.get("triggerExecution", 0) / 1000
            ),
        }
        output_rows = progress.sink.numOutputRows
        if output_rows >= 0:  # -1: the sink does not report it
            counted["output_rows"] = (self.output_rows or 0) + output_rows
        operators = list(progress.stateOperators)
        if operators:
            counted["state_rows"] = sum(map(_rows_in_state, operators))
        if "watermark" in progress.eventTime:
            counted |= self._late(progress)
            # In other modes the open windows have been written already
            if self.mode == "append":
                waiting = filter(self._waits, operators)
                counted["waiting_rows"] = sum(map(_rows_in_state, waiting))
        counted |= _behind(progress)
        counted |= self._observed(progress)
        return replace(self, **counted).waiting_in(files)

    def waiting_in(self, files: tuple[int, int] | None) -> QuerySummary:
        """Return a summary with the number of waiting files (see `BatchRecord`)."""
        return replace(self, files_waiting=files[0] if files else None)

    def _waits(self, operator: StateOperatorProgress) -> bool:
        """Return whether an operator's rows in state wait to be written."""
        if operator.operatorName.startswith("transformWithState"):
            # Those of `state` that hold rows back keep them in a list, and the time of
            # a timer beside it.
            metrics = operator.customMetrics
            lists = metrics.get("numListStateVars")
            values = metrics.get("numValueStateVars")
            return bool(lists and values)
        return not operator.operatorName.startswith(self.keep_only)

    def _late(self, progress: StreamingQueryProgress) -> dict[str, Any]:
        """Return the attributes about late rows, with one more batch added."""
        earliest = moment(progress.eventTime.get("min"))
        own = moment(progress.eventTime.get("watermark"))
        # Spark drops late rows by the watermark of the previous batch; use it if that
        # batch was counted.
        former = None
        if self.last_batch is not None and progress.batchId == self.last_batch + 1:
            former = self.watermark
        mark = former or own or EPOCH
        least, most = rows_late(progress, self.drops, mark, is_known=former is not None)
        counted: dict[str, Any] = {
            "late_rows": (self.late_rows or 0) + least,
            "late_rows_exact": self.late_rows_exact and least == most,
            "late_rows_at_most": self._late_at_most(most),
            "watermark": own,
        }
        if least:
            counted["late_batches"] = self.late_batches + 1
            counted["late_before_1970"] = self.late_before_1970 or mark == EPOCH
            if earliest is not None:
                seconds = (mark - earliest).total_seconds()
                counted["late_seconds"] = max(self.late_seconds or 0, seconds)
        aside = rows_set_aside(str(progress.id), progress.batchId)
        if aside is not None:
            counted["rows_set_aside"] = (self.rows_set_aside or 0) + aside
        return counted

    def _late_at_most(self, most: int | None) -> int | None:
        """Return `late_rows_at_most`, with one more batch that dropped at most `most` rows.

        None stands for no upper bound.
        """
        is_first = self.late_rows is None
        before = 0 if is_first else self.late_rows_at_most
        if before is None or most is None:
            return None
        return before + most

    @property
    def late_rows_said(self) -> str:
        """Dropped late rows in words: "12 late rows", "between 3 and 720 late rows"."""
        least = self.late_rows or 0
        if self.late_rows_exact:
            return count(least, "late row")
        if self.late_rows_at_most is None:
            return f"at least {count(least, 'late row')}"
        return f"between {least:,} and {count(self.late_rows_at_most, 'late row')}"

    def _observed(self, progress: StreamingQueryProgress) -> dict[str, Any]:
        """Return the attributes that `quarantine` counts, with one more batch added."""
        counted: dict[str, Any] = {}
        for name, metrics in progress.observedMetrics.items():
            if name.startswith(OBSERVED):
                for kind, rows in zip(_PARSED, _values_of(metrics), strict=True):
                    former = getattr(self, kind) or 0
                    counted[kind] = counted.get(kind, former) + rows
            elif name.startswith(HEADERS):
                [files] = _values_of(metrics)
                former = self.files_without_header or 0
                counted["files_without_header"] = (
                    counted.get("files_without_header", former) + files
                )
            elif name.startswith(RULES):
                broken = counted.setdefault("broken", dict(self.broken))
                for rule, rows in _by_rule(metrics).items():
                    broken[rule] = broken.get(rule, 0) + rows
        return counted

    def __str__(self) -> str:
        """Return one readable line."""
        parts = [count(self.batches, "batch"), f"{count(self.input_rows, 'row')} in"]
        parts += _counted(self.output_rows, "row", " out")
        if self.late_rows is not None:
            parts.append(f"{self.late_rows_said} dropped")
        parts += _counted(self.rows_set_aside, "late row", " set aside")
        parts += _counted(self.header_rows or None, "header line")
        parts += _counted(self.bad_rows, "bad row")
        parts += _counted(self.state_rows, "row", " in state")
        parts += _counted(self.records_behind, "record", " behind")
        parts += _counted(self.files_waiting or None, "file", " waiting")
        if self.seconds_behind is not None:
            parts.append(f"{self.seconds_behind:,.0f} s behind")
        if self.rows_per_second is not None:
            parts += _counted(round(self.rows_per_second), "row", "/s")
        last = "none in this run" if self.last_batch is None else self.last_batch
        return f"{self.name}: {', '.join(parts)}, last batch committed: {last}"


def _rows_in_state(operator: StateOperatorProgress) -> int:
    """Return the number of rows in the state of an operator."""
    return operator.numRowsTotal // times_computed(operator)


def _behind(progress: StreamingQueryProgress) -> dict[str, Any]:
    """Return the attributes that say how far the sources were behind, where they are known."""
    counted: dict[str, Any] = {}
    records = [records_behind(source) for source in progress.sources]
    known_records = [number for number in records if number is not None]
    if known_records:
        counted["records_behind"] = sum(known_records)
    seconds = [seconds_behind(source) for source in progress.sources]
    known_seconds = [number for number in seconds if number is not None]
    if known_seconds:
        counted["seconds_behind"] = max(known_seconds)
    return counted


def _values_of(metrics: Row) -> list[int]:
    """Return the counts of an observation, in their order.

    On Connect the Row may have the fields of the protobuf message, with the counts in
    `values`.
    """
    if "values" in metrics:
        return list(metrics["values"])
    return list(metrics)


def _by_rule(metrics: Row) -> dict[str, int]:
    """Return the counts of an observation of rules, by rule, or by number without names."""
    if "values" in metrics:  # as in `_values_of`
        return {f"rule {number}": rows for number, rows in enumerate(metrics["values"])}
    return metrics.asDict()


@dataclass(frozen=True)
class RunSummary:
    """What a run did, query by query; printing it gives a report with hints.

    Attributes:
        ended_by: the reason why the run ended: "end of input", "run_for is over",
            "max_batches are through", "N s without a row", "stop file PATH", "the web
            page", "SIGINT", "SIGTERM", "a signal to the JVM", "the end of the JVM by
            itself", "query.stop()" (other code has stopped a query before it had read
            all of its input) or "failure".
        seconds: the duration of the run, from the call of `run`; Spark's start is
            before that.
        queries: one summary for each query, in the order in which the queries were
            given.
        warnings: one line for each problem that a source did not report, such as lost
            or ignored files (see `checkpoints.lost`).
    """

    ended_by: str
    seconds: float
    queries: tuple[QuerySummary, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line for each query, warning, verdict and hint, and one for the run."""
        lines = [str(query) for query in self.queries]
        lines += [f"warning: {warning}" for warning in self.warnings]
        for query in self.queries:
            for verdict in query.verdicts:
                lines.append(f"verdict: query {query.name}: {verdict}")
        for query in self.queries:
            hints = _hints(query, at_end_of_input=self.ended_by == "end of input")
            lines += [f"hint: {hint}" for hint in hints]
        lines.append(f"the run ended after {self.seconds:.1f} s by: {self.ended_by}")
        return "\n".join(map(printable, lines))


def _hints(query: QuerySummary, *, at_end_of_input: bool) -> Iterator[str]:
    """Yield what the user of a query may not expect, and what to do about it."""
    if query.waiting_rows and at_end_of_input:
        rows = count(query.waiting_rows, "row")
        yield (
            f"query {query.name} has {rows} in state; rows that wait for the watermark,"
            " as in open windows, are not in the output; to write them, and end this"
            " input for good: run(…, drain=True) (of a job: --drain)"
        )
    if query.files_without_header:
        lacking = query.files_without_header
        files = count((query.header_rows or 0) + lacking, "file")
        yield (
            f"header=True, but {lacking} of {files} of query {query.name} had no header"
            " of the schema; such a file is read if its first line is a row of data,"
            " else its lines are bad"
        )
    if query.like_header_rows:
        rows = count(query.like_header_rows, "bad row")
        is_one = query.like_header_rows == 1
        looks = "looks like a header" if is_one else "look like headers"
        yield (
            f"{rows} of query {query.name} {looks}; parse with header=True (of a job:"
            " --header)"
        )
    if query.absent_fields:
        absent = " or ".join(query.absent_fields)
        others = ", ".join(query.other_fields)
        yield (
            f"the files of query {query.name} have no field {absent}, so that each row"
            f" has NULL there; they have {others}, which the schema lacks: if a field"
            " was renamed, rename it in the schema"
        )
    if not query.like_header_rows and _is_all_bad(query):
        hint = f"each row of query {query.name} is bad: its column _reason says why"
        if query.watermark:
            hint += "; a time of another zone can be too far ahead"
        yield hint


def _is_all_bad(query: QuerySummary) -> bool:
    """Return whether a query had rows, and all of them were bad."""
    if not query.bad_rows:
        return False
    return query.bad_rows >= max(query.input_rows, query.parsed_rows or 0)


def _counted(number: int | None, what: str, then: str = "") -> list[str]:
    """Return a number with its noun and `then`, as a list of one; empty for None."""
    if number is None:
        return []
    return [f"{count(number, what)}{then}"]
