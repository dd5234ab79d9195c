"""Start and run: say in words whether a query keeps up, and what is wrong if not.

`record` turns Spark's progress of a batch into a `Record`, and `verdicts` diagnoses a
query from its last records. Both use nothing but Spark's progress, so they give the
same result for a running query and for one whose progress was saved to a file.
`of_late` and `of_rules` turn the counts of a `QuerySummary` into verdicts, too. `run`
puts all of them into its summary, and the live monitoring shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from statistics import median
from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark.late import EPOCH, moment
from sparkstream_kit._internal.spark.queries import records_behind, times_computed
from sparkstream_kit.errors import count
from sparkstream_kit.progress import QuerySummary, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql.streaming.listener import StreamingQueryProgress

__all__ = [
    "KEPT",
    "LEVELS",
    "Record",
    "Verdict",
    "of_late",
    "of_rules",
    "record",
    "verdicts",
]

LEVELS = ("bad", "warn")  # the levels of a verdict, the worst first
KEPT = 40  # the number of last batches that verdicts consider
_FEWEST = 10  # with fewer batches a query is still starting, and gets no verdict
_ROOM = 0.8  # the share of the trigger interval that batches may take before a warning
# Growth counts from this factor on: over all batches, and over the last third of them.
_GROWN = 1.2
_STILL_GROWN = 1.05
# The share of the time that counts as busy all the time; Spark needs some time between
# batches
_BUSY = 0.9
_PARTITIONS = 16  # up to this number, the cost of partitions is negligible
# Tolerated, because the clocks of other machines may differ by that much
_AHEAD = timedelta(minutes=1)


@dataclass(frozen=True)
class Record:
    """The values of one batch, from Spark's progress, that verdicts need.

    Attributes:
        batch: the batch id.
        at: the time when the batch began.
        seconds: the duration of the batch.
        rows: the number of rows that the batch read.
        files_waiting: the number of files that no batch had read when this batch had
            ended; None if it is not known.
        state_rows: the number of rows in the state store after the batch; None without
            state.
        partitions: the number of partitions of that state; None without state.
        watermark: the watermark in force during the batch; None without a watermark,
            and before it has moved.
        has_watermark: whether the query has a watermark.
        files: the number of files that the query has read in all of its batches; None
            if it is not known.
        records_behind: the number of Kafka records that were unread when the batch was
            planned; None for a query without Kafka.
    """

    batch: int
    at: datetime
    seconds: float
    rows: int
    files_waiting: int | None
    state_rows: int | None
    partitions: int | None
    watermark: datetime | None
    has_watermark: bool
    files: int | None = None
    records_behind: int | None = None

    @property
    def backlog(self) -> int | None:
        """The files that wait; if they are not known, the unread Kafka records."""
        return self.records_behind if self.files_waiting is None else self.files_waiting


def record(
    progress: StreamingQueryProgress, files: tuple[int, int] | None = None
) -> Record:
    """Extract the values that verdicts need from Spark's progress of a batch.

    Args:
        progress: from `query.lastProgress`, `query.recentProgress`, a listener or
            `on_batch` of `run`.
        files: how many files wait, and how many the query has read, if that is known:
            Spark counts neither.

    Examples:
        In a session::

            last = query.lastProgress
            if last is not None:
                print(verdicts.record(last).rows)
    """
    check(record, locals())
    watermark = moment(progress.eventTime.get("watermark"))
    has_watermark = watermark is not None
    if watermark is not None and watermark <= EPOCH:
        watermark = None  # it has not moved
    state_rows = None
    partitions = None
    states = progress.stateOperators
    if states:
        state_rows = sum(
            state.numRowsTotal // times_computed(state) for state in states
        )
        partitions = max(state.numShufflePartitions for state in states)
    numbers = [records_behind(source) for source in progress.sources]
    behind = [number for number in numbers if number is not None]
    return Record(
        batch=progress.batchId,
        at=datetime.fromisoformat(progress.timestamp),
        seconds=progress.durationMs.get("triggerExecution", 0) / 1000,
        rows=progress.numInputRows,
        files_waiting=files[0] if files else None,
        state_rows=state_rows,
        partitions=partitions,
        watermark=watermark,
        has_watermark=has_watermark,
        files=files[1] if files else None,
        records_behind=sum(behind) if behind else None,
    )


def verdicts(
    records: Sequence[Record],
    *,
    interval: float | None = None,
    ends: bool = False,
    mode: str | None = None,
) -> list[Verdict]:
    """Diagnose a running query from its last batches, the worst finding first.

    Args:
        records: the query's batches, in order. Of the last 40, the ones with rows
            count. With fewer than ten of these there are no verdicts.
        interval: seconds between batches that the trigger asks for; None if each batch
            begins as soon as the previous one has ended.
        ends: whether the query ends by itself, as with `availableNow`. Such a query is
            meant to be busy.
        mode: the output mode, if known. In mode `complete` no watermark makes the state
            smaller, and no row is late.

    Returns:
        The findings, empty if all is well. The rules, by the kind of their verdict
        (`Verdict.kind`):

        - `backlog`: the query falls behind: the backlog of its files, or that of its
            Kafka records, has grown by more than a fifth; that of files also by at
            least the number of files that a batch reads. (Spark's rates do not show
            this: if a limit restricts each batch, rows are read as fast as they are
            processed.)
        - `backlog`: the query is busy all the time: batches follow one another without
            a pause, and a backlog of two batches or more does not shrink.
        - `trigger`: the query is slower than its trigger: batches take longer than
            `interval`; or it has little room: they take more than 80% of it.
        - `state`: the state grows without a watermark: it never shrinks, and has grown
            by more than a fifth, and by more than a twentieth in the last third of the
            batches.
        - `watermark`: the watermark is ahead of the clock by more than a minute.
        - `watermark`: the watermark has not moved for ten or more batches with rows,
            and the query has state.
        - `partitions`: the state has more than 16 partitions, and at least four times
            as many partitions as rows.

    Examples:
        >>> from datetime import datetime, timedelta
        >>> each = Record(0, datetime(2026, 1, 31), 1.9, 500, None, None, None, None, False)
        >>> from dataclasses import replace
        >>> times = [each.at + timedelta(seconds=2 * n) for n in range(20)]
        >>> batches = [replace(each, batch=n, at=at) for n, at in enumerate(times)]
        >>> verdicts(batches, interval=2.0)[0].text.partition(":")[0]
        'busy for 95% of the time'
    """
    check(verdicts, locals())
    last = [batch for batch in records[-KEPT:] if batch.rows]
    if len(last) < _FEWEST:
        return []
    backlog = _falling_behind(last)
    if backlog is None and not interval and not ends:
        backlog = _busy(records[-KEPT:], last)
    watermark = None
    if mode != "complete":
        watermark = _watermark(last)
    findings = [
        backlog,
        _slow(last, interval),
        _growing_state(last, mode),
        watermark,
        _partitions(last),
    ]
    known = [finding for finding in findings if finding is not None]
    return sorted(known, key=lambda verdict: LEVELS.index(verdict.level))


def of_query(
    done: QuerySummary, records: Sequence[Record], interval: float | None, ends: bool
) -> list[Verdict]:
    """Return all verdicts on a query: on its last batches, late rows, and rules."""
    said = verdicts(records, interval=interval, ends=ends, mode=done.mode)
    return [*said, *of_late(done), *of_rules(done.broken)]


def of_rules(broken: Mapping[str, int]) -> list[Verdict]:
    """List the broken rules of `quarantine.expect`, the one with the most rows first.

    Args:
        broken: for each rule, the number of rows that broke it (`QuerySummary.broken`).

    Returns:
        One verdict of level `warn` for each rule that at least one row broke, of the
        kind `rule RULE`.

    Examples:
        >>> [str(each) for each in of_rules({"amount > 0": 3, "shop IS NOT NULL": 0})]
        ['rule amount > 0: 3 rows break it']
    """
    check(of_rules, locals())
    by_rows = sorted(broken.items(), key=itemgetter(1), reverse=True)
    found = []
    for rule, rows in by_rows:
        if rows:
            verb = "breaks" if rows == 1 else "break"
            text = f"rule {rule}: {count(rows, 'row')} {verb} it"
            found.append(Verdict("warn", text, f"rule {rule}"))
    return found


def of_late(query: QuerySummary) -> list[Verdict]:
    """Describe how many rows a query has dropped as late, and what to do about them.

    Args:
        query: the summary of the query.

    Returns:
        One verdict of level `warn` and the kind `late`; none if no row was dropped.

    Examples:
        >>> from sparkstream_kit.progress import QuerySummary
        >>> done = QuerySummary(
        ...     "q", "id", batches=9, late_rows=3, late_rows_exact=False, late_batches=2
        ... )
        >>> str(of_late(done)[0]).partition(";")[0]
        'at least 3 late rows dropped, in 2 of 9 batches'
    """
    check(of_late, locals())
    if not query.late_rows:
        return []
    text = (
        f"{query.late_rows_said} dropped, in {query.late_batches:,} of"
        f" {count(query.batches, 'batch')}"
    )
    if query.late_before_1970:
        text += (
            "; Spark's watermark begins at 1970, so that rows dated before 1970 are"
            " late from the first batch: count them in a batch query, or, without"
            " session windows, in mode complete"
        )
        return [Verdict("warn", text, "late")]
    if query.late_seconds:
        text += f", the earliest {_time(query.late_seconds)} behind the watermark"
    text += (
        "; to count such rows, give the watermark a longer delay (of a job:"
        " --watermark); to keep them, use sinks.by_watermark; after a backlog of files,"
        " see docs/watermarks.md"
    )
    return [Verdict("warn", text, "late")]


def _time(seconds: float) -> str:
    """Format a duration in the largest unit that is not longer than the duration.

    Examples:
        >>> _time(59), _time(5400), _time(200_000)
        ('59 seconds', '1.5 hours', '2.3 days')
    """
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} seconds"


def _falling_behind(last: list[Record]) -> Verdict | None:
    """Find out whether the backlog grows."""
    for backlog in _backlogs(last):
        before, now = _thirds(backlog.sizes)
        has_grown = now > _GROWN * before and now >= 1
        if has_grown and now - before >= backlog.of_a_batch:
            return Verdict(
                "bad",
                f"falling behind: over {len(backlog.sizes)} batches, its backlog has"
                f" grown from {before:,.0f} to {now:,.0f} {backlog.unit}; give it more"
                " cores, or allow more in a batch",
                "backlog",
            )
    return None


def _slow(last: list[Record], interval: float | None) -> Verdict | None:
    """Find out whether batches take longer than the trigger interval, or nearly as long."""
    work = median(batch.seconds for batch in last)
    if not interval or work <= _ROOM * interval:
        return None
    if work > interval:
        return Verdict(
            "bad",
            f"slower than its trigger: batches take {work:.1f} s, and the trigger asks"
            f" for one every {interval:g} s; give it more cores, or a longer interval",
            "trigger",
        )
    return Verdict(
        "warn",
        f"busy for {work / interval:.0%} of the time: little room is left for a peak",
        "trigger",
    )


def _busy(records: Sequence[Record], last: list[Record]) -> Verdict | None:
    """Find out whether batches run without a pause while a backlog does not shrink.

    Args:
        records: the last batches.
        last: those of them that have rows.
    """
    work = sum(batch.seconds for batch in records)
    time = (records[-1].at - records[0].at).total_seconds() + records[-1].seconds
    if work < _BUSY * time:
        return None
    for backlog in _backlogs(last):
        before, now = _thirds(backlog.sizes)
        waiting = backlog.sizes[-1]
        of_a_batch = backlog.of_a_batch or median(batch.rows for batch in last)
        if now >= before and waiting >= 2 * of_a_batch:
            return Verdict(
                "warn",
                f"busy all the time: over {len(last)} batches, each began when the one"
                f" before had ended, and {waiting:,} {backlog.unit} wait, no fewer than"
                " before; give it more cores, or allow more in a batch",
                "backlog",
            )
    return None


def _thirds(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first third and of the last third of some values."""
    third = len(values) // 3
    return median(values[:third]), median(values[-third:])


@dataclass(frozen=True)
class _Backlog:
    """What waited in the sources of a query after each batch.

    Attributes:
        sizes: how much waited, batch by batch.
        unit: what they count: "files" or "records".
        of_a_batch: how many of them a batch reads on average; 0 if that is not known.
    """

    sizes: list[int]
    unit: str
    of_a_batch: float


def _backlogs(last: list[Record]) -> list[_Backlog]:
    """Return the backlogs in files and in Kafka records that are known of enough batches."""
    files = [each.files_waiting for each in last if each.files_waiting is not None]
    records = [each.records_behind for each in last if each.records_behind is not None]
    backlogs = [
        _Backlog(files, "files", _files_of_a_batch(last)),
        _Backlog(records, "records", of_a_batch=0),
    ]
    return [backlog for backlog in backlogs if len(backlog.sizes) >= _FEWEST]


def _files_of_a_batch(last: list[Record]) -> float:
    """Return how many files a batch reads on average; 0 if that is not known."""
    read = [batch.files for batch in last if batch.files is not None]
    if len(read) < 2:  # noqa: PLR2004 - from one batch to the next
        return 0
    return (read[-1] - read[0]) / (len(read) - 1)


def _growing_state(last: list[Record], mode: str | None) -> Verdict | None:
    """Find out whether the state of a query without a watermark keeps growing."""
    rows = [batch.state_rows for batch in last if batch.state_rows is not None]
    has_shrunk = rows != sorted(rows)
    if last[-1].has_watermark or len(rows) < _FEWEST or has_shrunk:
        return None
    last_third = rows[-len(rows) // 3 :]
    has_grown = rows[-1] > _GROWN * max(rows[0], 1)
    still_grows = last_third[-1] > _STILL_GROWN * last_third[0]
    if not (has_grown and still_grows):
        return None
    fix = "with an event time, give the input a watermark (windows.with_watermark)"
    if mode == "complete":
        fix = f"mode complete keeps all keys; give mode='update' and, {fix}"
    return Verdict(
        "warn",
        f"its state grows without a watermark, over {len(rows)} batches from"
        f" {rows[0]:,} to {rows[-1]:,} rows; new keys will exhaust memory: {fix}",
        "state",
    )


def _watermark(last: list[Record]) -> Verdict | None:
    """Find out whether the watermark is in the future or does not move."""
    if not last[-1].has_watermark:
        return None
    now = last[-1].watermark
    if now is not None and now > last[-1].at + _AHEAD:
        return Verdict(
            "bad",
            f"its watermark is at {now:%Y-%m-%d %H:%M} UTC, ahead of the clock: a row"
            " is dated in the future, and all others count as late until then;"
            " windows.with_watermark sets such rows aside",
            "watermark",
        )
    still = 0  # batches in which it has stood where it stands now
    for batch in reversed(last):
        if batch.watermark != now:
            break
        still += 1
    if still < _FEWEST or last[-1].state_rows is None:
        return None  # without state, no result depends on the watermark
    if now is None:
        since = "has not moved yet"
    else:
        since = f"has stood still at {now:%Y-%m-%d %H:%M:%S} UTC"
    return Verdict(
        "warn",
        f"its watermark {since}, over {still} batches with rows: no window closes, and"
        " no state is dropped; the times of the rows do not advance, or one of several"
        " sources sends none",
        "watermark",
    )


def _partitions(last: list[Record]) -> Verdict | None:
    """Find out whether the state has many more partitions than its rows need."""
    partitions = last[-1].partitions
    rows = max(batch.state_rows or 0 for batch in last)
    if partitions is None or partitions <= _PARTITIONS or partitions < 4 * rows:
        return None
    return Verdict(
        "warn",
        f"{partitions} partitions for {rows:,} rows of state: each batch starts"
        f" {partitions} tasks; set spark.sql.shuffle.partitions to the number of cores,"
        " and start on a new checkpoint",
        "partitions",
    )
