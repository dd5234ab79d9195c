"""What a run did, query by query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.streaming.listener import StreamingQueryProgress

__all__ = ["QuerySummary", "RunSummary", "Tally"]


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
        late_rows: rows dropped because they came after the watermark, or None without a watermark; after a
            partial aggregation Spark counts groups, not rows.
        bad_rows: rows that `quarantine` found bad, or None where the query does not use it. A batch that is
            computed twice counts twice.
        state_rows: rows that the query keeps in state after the last batch, or None without state.
        busy_seconds: how long its batches took, all together.
    """

    name: str
    query_id: str
    batches: int
    input_rows: int
    last_batch: int | None
    output_rows: int | None = None
    late_rows: int | None = None
    bad_rows: int | None = None
    state_rows: int | None = None
    busy_seconds: float = 0.0

    @property
    def rows_per_second(self) -> float | None:
        """Input rows over the time that the batches took; None before the first batch."""
        return self.input_rows / self.busy_seconds if self.busy_seconds else None

    def __str__(self) -> str:
        """Return one readable line."""
        counts = {
            "batches": self.batches,
            "rows in": self.input_rows,
            "rows out": self.output_rows,
            "late rows dropped": self.late_rows,
            "bad rows": self.bad_rows,
            "rows in state": self.state_rows,
            "rows/s": None if self.rows_per_second is None else round(self.rows_per_second),
        }
        done = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count is not None)
        last = "none" if self.last_batch is None else self.last_batch
        return f"{self.name}: {done}, last batch committed: {last}"


@dataclass(frozen=True)
class RunSummary:
    """What a run did, query by query.

    Attributes:
        ended_by: why it ended: "end of input", "run_for is over", "max_batches are through", "N s without a
            row", "stop file PATH", "SIGINT", "SIGTERM", "a signal to the JVM" or "failure".
        seconds: how long it ran.
        queries: one summary a query, in the order given.
        warnings: what its sources lost or hid without an error, one line each (see `sources.watch`).
    """

    ended_by: str
    seconds: float
    queries: tuple[QuerySummary, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line a query and a warning, and one for the run."""
        lines = [str(query) for query in self.queries]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, f"ended after {self.seconds:.1f} s by: {self.ended_by}"])


@dataclass
class Tally:
    """The counts of one query, batch by batch."""

    batches: int = 0
    input_rows: int = 0
    last_batch: int | None = None
    output_rows: int | None = None
    late_rows: int | None = None
    bad_rows: int | None = None
    state_rows: int | None = None
    busy_seconds: float = 0.0

    def add(self, progress: StreamingQueryProgress) -> bool:
        """Count a batch, once; say whether it was new."""
        if self.last_batch is not None and progress.batchId <= self.last_batch:
            return False
        self.last_batch = progress.batchId
        self.batches += 1
        self.input_rows += progress.numInputRows
        self.busy_seconds += progress.durationMs.get("triggerExecution", 0) / 1000
        if progress.sink.numOutputRows >= 0:  # -1: the sink does not say
            self.output_rows = (self.output_rows or 0) + progress.sink.numOutputRows
        if progress.stateOperators:
            self.state_rows = sum(operator.numRowsTotal for operator in progress.stateOperators)
        if "watermark" in progress.eventTime:
            late = sum(operator.numRowsDroppedByWatermark for operator in progress.stateOperators)
            self.late_rows = (self.late_rows or 0) + late
        for name, metrics in progress.observedMetrics.items():
            if name.startswith("sparkstream_quarantine"):
                # On Connect the row is the values under the names of Spark's message.
                bad = metrics["values"][1] if "values" in metrics else metrics["bad_rows"]
                self.bad_rows = (self.bad_rows or 0) + bad
        return True
