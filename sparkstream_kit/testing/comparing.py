"""A stream against what it must give: rows beside the events, or a batch run of the same transform.

`run_script` checks the rows that each step delivers. `assert_stream_equals_batch`
generates splits and orders of the input with hypothesis, runs each as a stream and as a
batch, and shrinks the first difference to the smallest input. Both are part of
`sparkstream_kit.testing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.durations import to_microseconds
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.testing.harness import (
    canonical,
    differing,
    failure_message,
    fault_of_the_test,
    in_order,
    streams,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyspark.sql import DataFrame, Row

    from sparkstream_kit.testing.harness import Batch, Query, Source, Streams


__tracebackhide__ = fault_of_the_test

_KEPT = 9  # of ten rows, nine are kept on average
# Cuts make at most four batches in an example, because the batches take most of the
# time
_CUTS = 3

_Split = tuple[tuple[int, ...], ...]  # for each batch, the numbers of its rows


def run_script(
    query: Query, script: Iterable[tuple[Source, Iterable[Any], Iterable[Any]]]
) -> None:
    """Step a query through a script of events, and check the rows that each step delivers.

    Args:
        query: the query to step, from `stream.query(…)`.
        script: for each step, a tuple of three values: the source, the rows to add to
            the source, and the rows that the step must deliver, over all of its batches
            and in any order. Rows are tuples, dicts or Rows.

    Raises:
        AssertionError: a step delivered other rows than expected; the message shows its
            batches.
        InvalidInputError: a step is no tuple of three values, or its rows do not fit
            the source.

    Examples:
        In a session::

            with testing.streams(spark) as stream:
                sales = stream("product STRING, amount INT")
                totals = stream.query(sales.to_df().groupBy("product").sum("amount"), mode="update")
                script = [(sales, [("tea", 2)], [("tea", 2)]), (sales, [("tea", 3)], [("tea", 5)])]
                testing.run_script(totals, script)
    """
    check(run_script, locals())
    names = query.frame.columns
    steps: Iterable[Any] = script
    for number, step in enumerate(steps, start=1):
        if not isinstance(step, tuple | list) or len(step) != 3:  # noqa: PLR2004
            raise InvalidInputError(
                f"step {number} is no tuple of three; give a source, rows and results"
            )
        source, rows, expected_rows = step
        source.add_data(rows)
        batches = query.step()
        expected = [in_order(row, names) for row in expected_rows]
        parts = differing(expected, _all_rows(batches))
        if parts:
            headline = f"step {number} delivered other rows than expected"
            raise AssertionError(failure_message(headline, parts | _delivered(batches)))


def assert_stream_equals_batch(
    transform: Callable[[DataFrame], DataFrame],
    rows: DataFrame,
    *,
    mode: str = "append",
    keys: Sequence[str] = (),
    watermark: tuple[str, str | timedelta] | None = None,
    examples: int = 10,
) -> None:
    """Check that a transform gives the same result as a stream and as a batch.

    Each example splits the rows into one to four micro-batches in a random order, and
    leaves some rows out. On a difference, the smallest input that still fails is
    searched. Examples are seeded, so every run tries the same ones.

    The result of the stream is all delivered rows in append mode, the last batch in
    complete mode, and the last row of each key in update mode. Rows are compared in any
    order, and doubles to nine digits.

    With a watermark, only orders are tried in which no row is late. In append mode the
    input is then drained at the end, which closes the last windows (see `run`).

    Args:
        transform: the function under test; it takes one DataFrame, streaming or static,
            and returns one.
        rows: a static DataFrame with the rows to feed, some tens of rows at most.
        mode: the output mode of the stream: `append`, `update` or `complete`.
        keys: the columns of the result that identify a row; required in update mode,
            not allowed in others.
        watermark: the event-time column of `rows` and the delay, the same as the
            transform passes to `withWatermark`; without it, all orders of the rows are
            tried.
        examples: the number of random examples to try.

    Raises:
        AssertionError: the results differ; the message shows the smallest failing input
            by batch, and both results.
        InvalidInputError: `rows` is empty, the mode or a column cannot be used, keys
            are missing in update mode, or keys are given in another mode.
        MissingExtraError: hypothesis or pyarrow is not installed.

    Examples:
        In a session::

            def totals(sales):
                return sales.groupBy("product").sum("amount")

            rows = spark.createDataFrame([("tea", 2), ("ink", 1)], "product STRING, amount INT")
            assert_stream_equals_batch(totals, rows, mode="complete")
    """
    check(assert_stream_equals_batch, locals())
    from sparkstream_kit._internal.columns import event_time

    if (mode == "update") != bool(keys):
        raise InvalidInputError(
            f"keys={list(keys)} in {mode} mode; give the result's key columns in update"
            " mode, and leave keys out in the other modes"
        )
    if rows.isStreaming:
        raise InvalidInputError(
            "rows is a streaming DataFrame; give a static one, which can be split"
        )
    fed = rows.collect()
    if not fed:
        raise InvalidInputError(
            "rows is empty; give a static DataFrame with some rows to feed"
        )
    if isinstance(watermark, str):
        raise InvalidInputError(
            "watermark is a text; give a column and a delay: ('time', '1 minute')"
        )
    time_column = None
    delay = timedelta()
    if watermark is not None:
        column, given_delay = watermark
        call = "assert_stream_equals_batch()"
        time_column = event_time(rows, column, call, watermark=False, without_zone=True)
        delay = timedelta(microseconds=to_microseconds("delay", given_delay))
    with streams(rows.sparkSession) as stream:
        trial = _Trial(
            stream, transform, rows, fed, mode, tuple(keys), time_column, delay
        )
        _search(trial, examples)


class _DifferenceError(Exception):
    """The result of the stream differs from that of the batch run."""


def _search(trial: _Trial, examples: int) -> None:
    """Try random splits and orders; raise an AssertionError for the smallest that differs."""
    need("assert_stream_equals_batch", "testing", "hypothesis")
    from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
    from hypothesis import strategies as st

    size = len(trial.fed)
    # 0 leaves out a row or a cut. Hypothesis shrinks integers towards 0: towards fewer
    # rows and batches.
    row = st.tuples(st.integers(0, _KEPT), st.integers(0, 2 * size))
    places = st.lists(row, min_size=size, max_size=size)
    cuts = st.lists(st.integers(0, size), min_size=_CUTS, max_size=_CUTS)
    # Different draws can result in the same split
    differences = cache(trial.differences)

    @seed(0)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),  # an example takes about a second
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(places, cuts)
    def examine(places: list[tuple[int, int]], cuts: list[int]) -> None:
        if text := differences(trial.split(places, cuts)):
            raise _DifferenceError(text)

    try:
        examine()
    except _DifferenceError as err:
        # Drops the notes of hypothesis, which repeat the raw draws
        raise AssertionError(str(err)) from None


@dataclass(frozen=True)
class _Trial:
    """A transform under test, the rows to feed it, and how far their order may change."""

    stream: Streams
    transform: Callable[[DataFrame], DataFrame]
    frame: DataFrame
    fed: list[Row]
    mode: str
    keys: tuple[str, ...]
    event_time: str | None
    delay: timedelta

    @cached_property
    def _times(self) -> list[Any]:
        """The event times of the rows; empty without a watermark, or if no row has a time.

        A row without a time is never late, so it gets the earliest time and may be fed
        first.
        """
        if self.event_time is None:
            return []
        times = [row[self.event_time] for row in self.fed]
        known_times = [time for time in times if time is not None]
        if not known_times:
            return []
        earliest = min(known_times)
        return [earliest if time is None else time for time in times]

    def split(self, places: list[tuple[int, int]], cuts: list[int]) -> _Split:
        """Build an example: order the rows by place, cut them into batches, and leave some out.

        A row whose first draw is 0 is left out only after the cut. It does not move
        other rows into another batch, so the cuts stay right while hypothesis shrinks
        an example.

        Args:
            places: for each row, a draw that leaves the row out if it is 0, and the
                place of the row.
            cuts: the positions in the order at which a batch ends.
        """

        def order(number: int) -> Any:
            place = places[number][1]
            if not self._times:
                return place
            # A row is moved back by less than the delay, so no row before it can make
            # the row late.
            return self._times[number] + self.delay * place / (2 * len(places) + 1)

        ordered = sorted(range(len(places)), key=order)
        ends = sorted({0, *cuts, len(places)})
        batches: list[tuple[int, ...]] = []
        for start, end in pairwise(ends):
            batch = tuple(number for number in ordered[start:end] if places[number][0])
            if batch:
                batches.append(batch)
        return tuple(batches) or ((0,),)

    def differences(self, split: _Split) -> str | None:
        """Run a split as a stream and as a batch; return how they differ as text, or None."""
        fed = [[self.fed[number] for number in batch] for batch in split]
        in_feeding_order = sorted(chain.from_iterable(split))
        rows = [tuple(self.fed[number]) for number in in_feeding_order]
        delivered = self._streamed(fed)
        result = self._result(delivered)
        frame = self.frame.sparkSession.createDataFrame(rows, self.frame.schema)
        parts = differing(self.transform(frame).collect(), result)
        if not parts:
            return None
        inputs = {f"rows of batch {number}": batch for number, batch in enumerate(fed)}
        headline = (
            f"in {self.mode} mode the stream's result is not that of a batch run; the"
            " smallest input found:"
        )
        return failure_message(headline, inputs | parts | _delivered(delivered))

    def _streamed(self, batches: list[list[Row]]) -> list[Batch]:
        """Run the transform as a stream over the batches, and return what it delivered."""
        source = self.stream(self.frame.schema)
        for batch in batches:
            source.add_data(batch)
        query = self.stream.query(self.transform(source.to_df()), mode=self.mode)
        try:
            if self.mode == "append" and self._times:
                return query.drain()
            return query.step()
        finally:
            query.restart()

    def _result(self, delivered: list[Batch]) -> list[Row]:
        """Return what a reader has after the delivered batches, by the output mode."""
        if self.mode == "complete":
            return delivered[-1].rows
        rows = _all_rows(delivered)
        if self.mode != "update" or not rows:
            return rows
        reject_unknown("key column", self.keys, rows[0].asDict())
        latest = {}
        for row in rows:
            latest[canonical([row[key] for key in self.keys])] = row
        return list(latest.values())


def _all_rows(batches: list[Batch]) -> list[Row]:
    """Return the rows of all batches, in order."""
    return [*chain.from_iterable(batch.rows for batch in batches)]


def _delivered(batches: list[Batch]) -> dict[str, list[Any]]:
    """Return the rows of each batch under a title, for the message of a failure."""
    return {f"delivered in batch {batch.batch_id}": batch.rows for batch in batches}
