"""What a run did, query by query."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QuerySummary", "RunSummary"]


@dataclass(frozen=True)
class QuerySummary:
    """What one query did during a run.

    Attributes:
        name: the query's name.
        query_id: Spark's id of the query, which its checkpoint keeps over restarts.
        batches: batches committed in this run.
        input_rows: rows read in these batches, as Spark counts them.
        last_batch: the id of the last batch committed in this run, or None.
    """

    name: str
    query_id: str
    batches: int
    input_rows: int
    last_batch: int | None

    def __str__(self) -> str:
        """Return one readable line."""
        last = "none" if self.last_batch is None else self.last_batch
        done = f"{self.batches:,} batches, {self.input_rows:,} rows in"
        return f"{self.name}: {done}, last batch committed: {last}"


@dataclass(frozen=True)
class RunSummary:
    """What a run did, query by query.

    Attributes:
        ended_by: why it ended: "end of input", "run_for is over", "N s without a row", "stop file PATH",
            "SIGINT", "SIGTERM", "a signal to the JVM" or "failure".
        seconds: how long it ran.
        queries: one summary a query, in the order given.
    """

    ended_by: str
    seconds: float
    queries: tuple[QuerySummary, ...]

    def __str__(self) -> str:
        """Return a line a query and one for the run."""
        lines = [str(query) for query in self.queries]
        return "\n".join([*lines, f"ended after {self.seconds:.1f} s by: {self.ended_by}"])
